"""R24, R36, R37 and R40: who is here, under which sid, on whose word, and how many there may be."""

from collections.abc import Callable

import pytest
from helpers import START, Participant, failures, request

from rpcproto import (
    AbandonReason,
    CallAcknowledged,
    CallSucceeded,
    IgnoreReason,
    InvocationAbandoned,
    InvocationReceived,
    PacketIgnored,
    RpcConfig,
)
from rpcproto.testing import counting_ids
from rpcproto.wire import Ack, Response

PAIRS = 256
"""Departed pairs of identity and sid whose windows are kept."""


def is_seen(alice: Participant, sequence: int, sid: str = "PA_1", sender: str = "bob") -> bool:
    """Whether a packet of this number is ignored as one that was here before."""
    repeats = alice.ignored.get(IgnoreReason.REPEAT, 0)
    alice.receive(Ack("none"), sender, sid=sid, sequence=sequence)
    alice.events()
    return alice.ignored.get(IgnoreReason.REPEAT, 0) > repeats


# --- R40: a sid that another has is not taken


def test_r40_an_announcement_does_not_take_the_sid_of_another() -> None:
    """Mallory announces herself under carol's sid; carol is heard as before."""
    alice = Participant()
    alice.joined("carol", "PA_carol")
    to_carol = alice.call("carol")
    alice.joined("mallory", "PA_carol")
    alice.receive(request("r1"), "carol", sid="PA_carol", sequence=1)
    assert alice.invocation().request_id == "r1"
    alice.receive(Ack(to_carol), "carol", sid="PA_carol", sequence=2)
    alice.receive(Response(to_carol, "hello"), "carol", sid="PA_carol", sequence=3)
    assert alice.events() == [CallAcknowledged(to_carol), CallSucceeded(to_carol, "hello")]
    assert alice.ignored == {}


def test_r24_r40_who_tried_to_take_a_sid_does_not_speak_under_it() -> None:
    alice = Participant()
    alice.joined("carol", "PA_carol")
    alice.joined("mallory", "PA_carol")
    alice.receive(request("r1"), "mallory", sid="PA_carol")
    assert alice.events() == [PacketIgnored(IgnoreReason.IMPERSONATION, "mallory")]
    assert alice.packets() == []
    alice.receive(request("r1"), "mallory")
    assert alice.invocation().caller_identity == "mallory"


@pytest.mark.parametrize("gone", ["left", "another sid", "never came"])
def test_r40_such_a_join_counts_as_one_without_a_sid(gone: str) -> None:
    """Also once the sid is free: the participant has none until it is announced under one."""
    alice = Participant()
    if gone != "never came":
        alice.joined("carol", "PA_1")
        alice.joined("mallory", "PA_1", client_protocol=1)
        if gone == "left":
            alice.left("carol")
        else:
            alice.joined("carol", "PA_2")
    else:
        alice.joined("mallory", client_protocol=1)
    call = alice.call("mallory")
    assert len(alice.packets()) == 3  # what it announced of its abilities counts
    alice.joined("mallory", "PA_9")  # a first sid is an update
    assert alice.events() == []
    alice.receive(Ack(call), "mallory", sid="PA_8")
    assert alice.events() == [PacketIgnored(IgnoreReason.WRONG_SENDER, "mallory")]
    alice.receive(Ack(call), "mallory", sid="PA_9")
    assert alice.events() == [CallAcknowledged(call)]


def test_r40_who_has_a_sid_keeps_it_when_announced_under_another_s() -> None:
    """As an announcement without a sid, that is an update; nothing ends."""
    alice = Participant()
    alice.joined("carol", "PA_carol")
    alice.joined("bob", "PA_bob")
    call = alice.call("bob")
    alice.receive(request("r1"), "bob")
    invocation = alice.invocation()
    alice.packets()
    alice.joined("bob", "PA_carol", client_protocol=1)
    assert alice.events() == []
    alice.receive(Ack(call), "bob", sid="PA_bob")
    assert alice.events() == [CallAcknowledged(call)]
    assert alice.respond(invocation.invocation_id)
    alice.packets()
    alice.call("bob")
    assert len(alice.packets()) == 3  # as a stream
    alice.left("bob", "PA_carol")  # old news: it is not the sid that bob has
    assert alice.engine.participants == ("carol", "bob")


def test_r40_a_sid_that_is_free_again_can_be_taken() -> None:
    alice = Participant()
    alice.joined("carol", "PA_1")
    alice.joined("bob", "PA_1")
    alice.left("carol")
    alice.joined("bob", "PA_1")
    alice.receive(request("r1"), "carol", sid="PA_1")
    assert alice.ignored == {IgnoreReason.IMPERSONATION: 1}
    alice.receive(request("r1"), "bob", sid="PA_1")
    assert [type(event) for event in alice.events()] == [PacketIgnored, InvocationReceived]


# --- R24, R36: the host's word


def test_r24_r36_where_the_host_names_the_sender_its_sid_cannot_be_false() -> None:
    """Whatever the roster says of the sid: the host knows whose connection it was."""
    alice = Participant()
    alice.joined("bob", "PA_1")
    alice.receive(request("r1"), "x", sid="x", sender_identity="carol", sender_sid="PA_1")
    assert alice.invocation().caller_identity == "carol"
    assert alice.ignored == {}


def test_r36_r37_the_host_s_word_marks_no_number_of_another() -> None:
    alice = Participant()
    alice.joined("bob", "PA_1")
    for number in (7, 7, 2**32 - 1):
        alice.receive(
            Ack("none"), "bob", sid="PA_1", sequence=number, sender_identity="carol",
            sender_sid="PA_1",
        )  # fmt: skip
    assert alice.ignored == {IgnoreReason.UNKNOWN_CALL: 3}
    assert not is_seen(alice, 7)
    assert is_seen(alice, 7)


def test_r36_r37_the_numbers_of_who_the_host_names_are_that_participant_s() -> None:
    alice = Participant()
    alice.joined("bob", "PA_1")
    for _ in range(2):
        alice.receive(
            request("r1"), "x", sid="x", sequence=7, sender_identity="bob", sender_sid="PA_1"
        )
    assert alice.ignored == {IgnoreReason.REPEAT: 1}
    alice.receive(request("r2"), "x", sequence=7, sender_identity="bob")  # without a sid: no number
    assert [event.request_id for event in received(alice)] == ["r1", "r2"]
    assert is_seen(alice, 7)


def test_r36_r37_the_number_of_a_usual_packet_counts_under_the_sid_that_the_host_names() -> None:
    alice, new_id = Participant(), counting_ids("b")
    alice.joined("bob", "PA_1")
    for _ in range(2):
        alice.receive(
            request(new_id()), "bob", sequence=7, sender_identity="bob", sender_sid="PA_1"
        )
    assert alice.ignored == {IgnoreReason.REPEAT: 1}


def received(alice: Participant) -> list[InvocationReceived]:
    return [event for event in alice.events() if isinstance(event, InvocationReceived)]


def test_r36_an_announced_sid_still_stands_for_one_that_the_host_does_not_give() -> None:
    alice = Participant()
    alice.joined("bob", "PA_1")
    call = alice.call()
    alice.receive(Ack(call), "mallory", sid="PA_9", sender_identity="bob")
    assert alice.events() == [CallAcknowledged(call)]


# --- R37: windows of pairs of identity and sid


def test_r37_the_numbers_of_a_sid_are_another_s_under_another_identity() -> None:
    alice = Participant()
    alice.joined("bob", "PA_1")
    assert not is_seen(alice, 7)
    alice.left("bob")
    alice.joined("carol", "PA_1")
    assert not is_seen(alice, 7, sender="carol")
    alice.left("carol")
    alice.joined("bob", "PA_1")
    assert is_seen(alice, 7)
    assert not is_seen(alice, 8)
    alice.left("bob")
    alice.joined("carol", "PA_1")
    assert is_seen(alice, 7, sender="carol")
    assert not is_seen(alice, 8, sender="carol")


def test_r37_the_last_256_pairs_that_departed_are_known_again() -> None:
    alice = Participant()

    def comes_and_goes(identity: str, sid: str) -> bool:
        alice.joined(identity, sid)
        seen = is_seen(alice, 7, sid, identity)
        alice.left(identity)
        return seen

    assert not comes_and_goes("first", "PA_1")
    for number in range(PAIRS - 1):
        assert not comes_and_goes(f"peer-{number}", "PA_1")
    assert comes_and_goes("first", "PA_1")  # by which it is the last again
    assert not comes_and_goes("one-more", "PA_1")
    assert comes_and_goes("peer-1", "PA_1")
    assert not comes_and_goes("peer-0", "PA_1")


def test_r37_who_has_no_sid_departs_without_a_window() -> None:
    alice = Participant()
    alice.joined("bob", "PA_1")
    assert not is_seen(alice, 7)
    alice.left("bob")
    for number in range(2 * PAIRS):
        alice.joined(f"peer-{number}")
        alice.left(f"peer-{number}")
    alice.joined("bob", "PA_1")
    assert is_seen(alice, 7)


def test_r37_the_window_of_who_is_here_is_not_among_those_that_departed() -> None:
    alice = Participant()
    alice.joined("bob", "PA_1")
    assert not is_seen(alice, 7)
    for number in range(2 * PAIRS):
        alice.joined(f"peer-{number}", "PA_2")
        alice.left(f"peer-{number}")
    assert is_seen(alice, 7)


@pytest.mark.parametrize("sid", ["PA_1", ""])
def test_r37_r40_a_first_sid_takes_up_the_window_that_it_had(sid: str) -> None:
    alice = Participant()
    alice.joined("bob", "PA_1")
    assert not is_seen(alice, 7)
    alice.left("bob")
    alice.joined("bob", sid)
    alice.joined("bob", "PA_1")
    assert is_seen(alice, 7)


# --- R40: how many there may be


def alice_with(count: int, bound: int) -> Participant:
    alice = Participant(config=RpcConfig(max_participants=bound))
    for number in range(count):
        alice.joined(f"peer-{number}", f"PA_{number}")
    return alice


def test_r40_a_newcomer_beyond_the_bound_is_not_recorded() -> None:
    alice = alice_with(3, bound=3)
    alice.joined("bob", "PA_bob", client_protocol=1)
    assert alice.engine.participants == ("peer-0", "peer-1", "peer-2")
    call = alice.call("bob")
    assert len(alice.packets()) == 1  # v1, for nothing is known of it
    alice.receive(Ack(call), "bob", sid="PA_any")
    assert alice.events() == [CallAcknowledged(call)]
    for _ in range(2):
        assert not is_seen(alice, 7, "PA_bob")
    alice.left("bob")
    assert failures(alice.events()) == [(call, 1503)]


def test_r40_as_many_as_the_bound_are_recorded() -> None:
    alice = alice_with(3, bound=4)
    alice.connected(participants_complete=True)
    alice.joined("bob", "PA_bob", client_protocol=1)
    alice.call("bob")
    assert len(alice.packets()) == 3
    call = alice.call("carol")
    assert failures(alice.events()) == [(call, 1401)]


def test_r12_r40_once_somebody_is_not_recorded_the_list_is_not_complete() -> None:
    alice = Participant(config=RpcConfig(max_participants=3))
    alice.connected(participants_complete=True)
    for number in range(3):
        alice.joined(f"peer-{number}")
    refused = alice.call("bob")
    assert failures(alice.events()) == [(refused, 1401)]
    alice.joined("carol")
    to_bob, to_carol = alice.call("bob"), alice.call("carol")
    assert alice.events() == []
    alice.left("peer-0")
    assert alice.cancel(alice.call("bob"))
    alice.joined("carol")  # there is room by now, and still somebody else may be here
    assert alice.cancel(alice.call("bob"))
    assert alice.cancel(to_bob)
    assert alice.cancel(to_carol)
    alice.connected(participants_complete=True)
    refused = alice.call("bob")
    assert failures(alice.events()) == [(refused, 1401)]
    assert alice.cancel(alice.call("carol"))


def test_r40_who_is_known_can_be_updated_and_come_back_at_the_bound() -> None:
    alice = alice_with(3, bound=3)
    alice.connected(participants_complete=True)
    alice.receive(request("r1"), "peer-0", sid="PA_0")
    invocation = alice.invocation()
    alice.packets()
    alice.joined("peer-1", "PA_1", client_protocol=1)
    alice.call("peer-1")
    assert len(alice.packets()) == 3
    alice.joined("peer-0", "PA_9")
    assert alice.events() == [
        InvocationAbandoned(invocation.invocation_id, AbandonReason.CALLER_LEFT)
    ]
    assert sorted(alice.engine.participants) == ["peer-0", "peer-1", "peer-2"]
    refused = alice.call("bob")  # nobody was turned away
    assert failures(alice.events()) == [(refused, 1401)]


@pytest.mark.parametrize(
    "departure", [lambda alice: alice.left("peer-0"), lambda alice: alice.disconnected()]
)
def test_r40_who_leaves_makes_room(departure: Callable[[Participant], None]) -> None:
    alice = alice_with(3, bound=3)
    departure(alice)
    alice.joined("bob")
    assert "bob" in alice.engine.participants


def test_r33_r40_a_newcomer_beyond_the_bound_has_moved_the_clock() -> None:
    alice = alice_with(1, bound=1)
    alice.now = START + 5
    alice.joined("bob")
    alice.now = START
    alice.call("peer-0", response_timeout=1)
    assert alice.next_deadline == START + 6


def test_r40_the_requests_of_who_is_not_recorded_are_those_of_one_never_announced() -> None:
    """R16: they are remembered in the ring that all such share."""
    alice = alice_with(1, bound=1)
    alice.joined("bob", "PA_1")
    alice.receive(request("r1"), "bob", sid="PA_1")
    alice.receive(request("r1"), "bob")  # a sid that is absent is not the announced one
    assert [event.request_id for event in received(alice)] == ["r1", "r1"]
    alice.receive(request("r1"), "bob", sid="PA_1")
    assert alice.ignored == {IgnoreReason.REPEAT: 1}
