"""The exhaustive search finds nothing, has lost nothing on the way, and finds what is put in."""

import random
import re
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import pytest
from paths import DOCS
from profiles import PROFILE, choose
from search import WORDS, FoundError, Scenario, Search, replay, row
from search_account import PROBES, Move, ViolationError
from search_form import freeze, thaw
from search_member import Member

from rpcproto import CallSucceeded, IgnoreReason, PacketKind, RpcEngine
from rpcproto.core.caller import Caller
from rpcproto.core.deadlines import Deadlines
from rpcproto.core.recipients import Call, Recipient, Recipients
from rpcproto.core.repeats import RequestMemory
from rpcproto.core.responder import Responder
from rpcproto.core.roster import Origin
from rpcproto.core.states import CallInput, CallState

DOC = DOCS / "search.md"

FAST = [
    Scenario((1, 1), 1),
    Scenario((1, 0), 1, streams=True),
    Scenario((2, 1), 0),
    Scenario((1, 1), 1, grace=2.0),
    Scenario((1, 1), 1, sealed=True),
]
DEEP = [
    Scenario((2, 1), 1),
    Scenario((2, 1), 1, grace=2.0),
    Scenario((1, 0), 2),
    Scenario((1, 1), 2),
    Scenario((2, 2), 0),
    Scenario((3, 1), 0),
    Scenario((1, 1), 0, streams=True),
]
NIGHT = [Scenario((1, 1), 1, streams=True), Scenario((2, 2), 1), Scenario((3, 1), 1)]


SMALL = [FAST[0], FAST[1], FAST[3]]
"""Searches that are looked at more closely."""


def searched(scenario: Scenario) -> Search:
    """A search that has come to its end."""
    search = Search(scenario)
    search.run()
    return search


once_searched = cache(searched)
each_small = pytest.mark.parametrize("scenario", SMALL, ids=str)


def documented_rows() -> list[str]:
    return [line for line in DOC.read_text("utf-8").splitlines() if re.match(r"\| \d \+", line)]


# --- it finds nothing


@pytest.mark.parametrize(
    "scenario", choose(fast=FAST, deep=FAST + DEEP, night=FAST + DEEP + NIGHT), ids=str
)
def test_every_order_of_events_is_in_order_and_none_has_become_impossible(
    scenario: Scenario,
) -> None:
    """A count that drops means that something cannot happen any more."""
    search = once_searched(scenario) if scenario in SMALL else searched(scenario)
    assert row(search) in documented_rows()


def test_every_scenario_is_documented() -> None:
    assert len(documented_rows()) == len(FAST + DEEP + NIGHT)


def test_every_kind_of_move_is_made() -> None:
    small = once_searched(FAST[0])
    made = {move.what for side in small.sides for _, move in side.outcomes}
    assert made | PROBES.keys() | {"lost"} == WORDS.keys()


# --- its copies and its idea of a state are right


@each_small
def test_a_copy_is_where_the_engine_would_be_without_copying(scenario: Scenario) -> None:
    small = once_searched(scenario)
    for state in random.Random(1).sample(list(small.parents), 40):
        members = replay(small.scenario, small.way_to(state))
        for member, side, number in zip(members, small.sides, state, strict=False):
            assert member.form() == thaw(Member, side.states[number].frozen).form()


def test_copies_go_their_own_ways() -> None:
    member, _ = Scenario((2, 0), 0).members()
    frozen, before = freeze(member), member.form()
    other = thaw(Member, frozen)
    other.play(Move("call", other.payloads[0]))
    assert member.form() == before != other.form()
    assert thaw(Member, frozen).form() == before
    member.play(Move("call", member.payloads[0]))
    assert member.form() == other.form()


@pytest.mark.skipif(PROFILE == "fast", reason="takes its time; run by `make check`")
@each_small
def test_states_of_one_form_have_one_future(scenario: Scenario) -> None:
    """Whichever way it came into a state: the same moves lead to the same forms and letters."""
    small = once_searched(scenario)
    compared = 0
    for side in small.sides:
        for (before, way), (number, _) in random.Random(1).sample([*side.outcomes.items()], 150):
            known = side.states[number]
            came = thaw(Member, side.states[before].frozen)
            came.play(way)
            frozen = freeze(came)
            for move in (each for state, each in side.outcomes if state == number):
                one, two = thaw(Member, known.frozen), thaw(Member, frozen)
                assert one.play(move) == two.play(move)
                assert one.form() == two.form()
                compared += 1
    assert compared > 500


# --- it finds what is put in


class Fault(NamedTuple):
    """A way to make the engine wrong."""

    where: type
    name: str
    wrong: Callable[..., Any]
    says: str
    scenario: Scenario = Scenario((1, 1), 1)


cancel, receive_ack = Caller.cancel, Caller.receive_ack
receive_response, receive_request = Caller.receive_response, Responder.receive_request
recipient_joined, joined, left = Caller.recipient_joined, Recipients.joined, Recipients.left
add, respond, can_be = RequestMemory.add, Responder.respond, Recipient.can_be


def completes_again(self: Caller, response: Any, origin: Origin, now: float) -> IgnoreReason | None:
    reason = receive_response(self, response, origin, now)
    if reason is IgnoreReason.LATE and origin.sid == "PA_bob_1":
        self._events.append(CallSucceeded(*response))
    return reason


def forgets(self: RequestMemory, key: Any) -> None:
    add(self, key)
    self._shared.clear()
    self._callers.clear()
    self._by_size.clear()
    self._largest = 0
    del self.known[key]


def leaves_its_deadline(self: Caller, request_id: str) -> bool:
    call = self.pending.get(request_id)
    cancelled = cancel(self, request_id)
    if call is not None:
        call.state = CallState.ACKNOWLEDGED
        self._line.appendleft(call)
    return cancelled


def keeps_the_ack_window(self: Caller, ack: Any, *sender: Any) -> IgnoreReason | None:
    reason = receive_ack(self, ack, *sender)
    if reason is None:
        self.pending[ack[0]].state = CallState.SENT
    return reason


def counts_from_anyone(self: Recipient, origin: Origin) -> bool:
    return True


def counts_from_any_session(self: Recipient, origin: Origin) -> bool:
    return origin.identity == self.identity


def does_not_ack(self: Responder, *args: Any) -> IgnoreReason | None:
    reason = receive_request(self, *args)
    kept = [packet for packet in self._outbox.small if PacketKind.ACK not in packet]
    self._outbox.small.clear()
    self._outbox.small.extend(kept)
    return reason


def leaves_one_call(self: Recipients, identity: str, has_grace: bool) -> list[Call]:
    return left(self, identity, has_grace)[:-1]


def answers_the_wrong_one(self: Responder, invocation_id: int, *args: Any) -> bool:
    """What is answered is the newest invocation, under its own id."""
    return respond(self, max(self.invocations, default=invocation_id), *args)


def remembers_a_forgery(self: Caller, response: Any, *sender: Any) -> IgnoreReason | None:
    reason = receive_response(self, response, *sender)
    if reason is IgnoreReason.WRONG_SENDER:
        self._ended[response[0]] = None
    return reason


def handles_one(self: RpcEngine, *, now: float) -> None:
    due = self._deadlines.first()
    if due is not None and due.deadline <= now:
        assert isinstance(due.item, Call)
        self._caller.expire(due.item, early=not due.is_last)


def ends_with_the_deadline_s_own_code(self: Caller, call: Call, *, early: bool) -> None:
    self._fail(call, CallInput.DEADLINE, 1501 if early else 1502)


def ignores_answers_in_grace(self: Caller, response: Any, *sender: Any) -> IgnoreReason | None:
    call = self.pending.get(response[0])
    if call is not None and call.recipient.calls_in_grace:
        return IgnoreReason.LATE
    return receive_response(self, response, *sender)


def counts_from_who_came_back(self: Recipient, origin: Origin) -> bool:
    return origin.identity == self.identity and (self.has_returned or can_be(self, origin))


def never_ends(self: Deadlines, item: Any, deadline: float) -> None:
    pass


def lifts_the_grace(self: Caller, identity: str, sid: str) -> None:
    self._deadlines._others.clear()
    recipient_joined(self, identity, sid)


def adopts_in_grace(self: Recipients, identity: str, sid: str) -> list[Call]:
    for departed in self._departed.get(identity, ()):
        departed.sid = sid
    return joined(self, identity, sid)


GRACE = Scenario((1, 1), 1, grace=2.0)

FAULTS = {
    "a late response completes a call again": Fault(
        Caller, "receive_response", completes_again, "L4"
    ),
    "the memory of requests forgets": Fault(RequestMemory, "add", forgets, "R16"),
    "a cancelled call leaves its deadline": Fault(Caller, "cancel", leaves_its_deadline, "L8"),
    "an ack does not end the ack window": Fault(Caller, "receive_ack", keeps_the_ack_window, "L8"),
    "an answer counts from anyone": Fault(Recipient, "can_be", counts_from_anyone, "L13"),
    "an answer counts from any session": Fault(Recipient, "can_be", counts_from_any_session, "L13"),
    "a forged response leaves a trace": Fault(
        Caller, "receive_response", remembers_a_forgery, "trace .L13"
    ),
    "a request is not acked": Fault(Responder, "receive_request", does_not_ack, "L15"),
    "a departure ends one call of two": Fault(
        Recipients, "left", leaves_one_call, "R9", Scenario((2, 0), 1)
    ),
    "of two deadlines at once one is handled": Fault(
        RpcEngine, "handle_deadline", handles_one, "L7", Scenario((2, 0), 1)
    ),
    "an answer goes to another call": Fault(
        Responder, "respond", answers_the_wrong_one, "invocation", Scenario((2, 0), 0)
    ),
    "a call in grace ends with 1501 or 1502": Fault(
        Caller, "expire", ends_with_the_deadline_s_own_code, "fails with 150[12]", GRACE
    ),
    "an answer in grace is ignored": Fault(
        Caller, "receive_response", ignores_answers_in_grace, "R6", GRACE
    ),
    "an answer of the new session counts in grace": Fault(
        Recipient, "can_be", counts_from_who_came_back, "R7|L13", GRACE
    ),
    "the grace never ends": Fault(Deadlines, "start_at", never_ends, "L8", GRACE),
    "a join lifts the grace": Fault(Caller, "recipient_joined", lifts_the_grace, "L8", GRACE),
    "a call in grace adopts the sid of who joins": Fault(
        Recipients, "joined", adopts_in_grace, "R7|L13", GRACE
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_found_with_a_shortest_trace_that_repeats_it(
    fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault.wrong.__name__ = fault.name  # methods are copied by name
    monkeypatch.setattr(fault.where, fault.name, fault.wrong)
    with pytest.raises(FoundError, match=fault.says) as found:
        Search(fault.scenario).run()
    told = str(found.value).splitlines()
    print("", *told, sep="\n")
    assert 1 <= len(found.value.steps) <= 10
    assert len(told) == len(found.value.steps) + 1
    with pytest.raises(ViolationError, match=re.escape(found.value.text)):
        replay(fault.scenario, found.value.steps)
    monkeypatch.undo()
    replay(fault.scenario, found.value.steps)
