"""The rules of the responding side: R14 to R22."""

from collections.abc import Callable
from typing import Any

import pytest
from helpers import (
    MESSAGES,
    START,
    V1_LIMIT,
    Participant,
    error,
    just_before,
    parsed,
    raw_packet,
    request,
    sent_message,
    short,
)
from streams import request_header, stream

from rpcproto import (
    AbandonReason,
    IgnoreReason,
    InvocationAbandoned,
    InvocationReceived,
    LocalProtocolError,
    PacketIgnored,
    PacketKind,
    RpcConfig,
)
from rpcproto.wire import Ack, ErrorResponse, OutgoingMessage, Request, Response

GREETING = request("r1", "greet", "hi")


def answer(bob: Participant, payload: str = "hello") -> None:
    """Answer the invocation that the host has just been told about, and take what is sent."""
    assert bob.respond(bob.invocation().invocation_id, payload)
    bob.packets()


def bob_with(config: RpcConfig = RpcConfig()) -> Participant:  # noqa: B008 (frozen)
    return Participant("bob", config=config)


def refused_with_too_many_requests(bob: Participant, request_id: str) -> bool:
    return bob.sent() == [Ack(request_id), error(request_id, 1500, data="too many requests")]


# --- R14: the ack comes first


def test_r14_a_request_is_acked_and_told_to_the_host() -> None:
    bob = bob_with()
    bob.receive(GREETING, "alice")
    [ack] = bob.packets()
    assert (ack.destination_identity, ack.request_id, ack.kind) == ("alice", "r1", PacketKind.ACK)
    assert sent_message(ack) == Ack("r1")
    [event] = bob.events()
    assert isinstance(event, InvocationReceived)
    invocation_id = event.invocation_id
    assert event == InvocationReceived(invocation_id, "r1", "alice", "greet", "hi", 8.0)
    assert bob.respond(invocation_id, "hello") is True
    [response] = bob.packets()
    assert (response.destination_identity, response.kind) == ("alice", PacketKind.RESPONSE)
    assert sent_message(response) == Response("r1", "hello")
    assert bob.statistics.running_invocations == 0
    assert bob.next_deadline is None


@pytest.mark.parametrize(
    ("bad_request", "refusal"),
    [
        (request(version=0), error("r1", 1404)),
        (request(method="unknown"), error("r1", 1400)),
        (request(payload="x" * 100), error("r1", 1402)),
    ],
    ids=short,
)
def test_r14_a_request_that_is_refused_is_acked_first(
    bad_request: Request, refusal: ErrorResponse
) -> None:
    bob = bob_with(RpcConfig(max_payload_bytes=99))
    bob.receive(bad_request, "alice")
    assert bob.sent() == [Ack("r1"), refusal]
    assert bob.events() == []
    assert bob.statistics.running_invocations == 0


# --- R15: what a request must be, and in which order that is looked at


@pytest.mark.parametrize("version", [0, 2, 3, 2**32 - 1])
def test_r15_a_version_other_than_1_is_1404(version: int) -> None:
    bob = bob_with()
    bob.receive(request(version=version), "alice")
    assert bob.sent() == [Ack("r1"), error("r1", 1404)]


@pytest.mark.parametrize("method", ["", "unknown", "Greet", "m" * 65, "é" * 10_000], ids=short)
def test_r15_an_unknown_empty_or_over_long_method_is_1400(method: str) -> None:
    bob = bob_with()
    bob.receive(request(method=method), "alice")
    assert bob.sent() == [Ack("r1"), error("r1", 1400)]


def test_r15_a_missing_id_is_ignored_without_an_ack() -> None:
    bob = bob_with()
    bob.receive(request("", version=0), "alice")
    assert bob.sent() == []
    assert bob.ignored == {IgnoreReason.MALFORMED: 1}


def test_r15_a_repeat_comes_before_the_slot_and_the_slot_before_the_version() -> None:
    bob = bob_with(RpcConfig(max_invocations_per_caller=1))
    bob.receive(GREETING, "alice")
    bob.packets()
    bob.receive(request("r1", version=0), "alice")
    assert bob.sent() == [Ack("r1")]
    bob.receive(request("r2", version=0), "alice")
    assert refused_with_too_many_requests(bob, "r2")


@pytest.mark.parametrize(
    ("version", "method", "code"), [(0, "greet", 1404), (1, "greet", 1500), (1, "unknown", 1500)]
)
def test_r15_r34_a_compressed_payload_is_1500_after_the_version(
    version: int, method: str, code: int
) -> None:
    bob = bob_with()
    fields = {"id": "r1", "method": method, "version": version, "compressed_payload": b"x"}
    bob.receive(raw_packet("alice", ["bob"], rpc_request=fields))
    ack, refusal = bob.sent()
    assert ack == Ack("r1")
    assert isinstance(refusal, ErrorResponse)
    assert (refusal.code, refusal.message) == (code, MESSAGES[code])
    assert refusal.data == ("" if code == 1404 else "compressed_payload is not read")
    assert bob.events() == []


def test_r15_the_version_comes_before_the_method_and_the_body() -> None:
    bob = bob_with(RpcConfig(max_payload_bytes=1))
    bob.receive(request(version=2, method="unknown", payload="xx"), "alice")
    assert bob.sent() == [Ack("r1"), error("r1", 1404)]


def test_r15_a_method_can_be_registered_once_and_unregistered() -> None:
    bob = bob_with()
    with pytest.raises(LocalProtocolError):
        bob.engine.register_method("greet")
    bob.receive(request("r1"), "alice")
    bob.engine.unregister_method("greet")
    bob.engine.unregister_method("greet")
    answer(bob)
    bob.receive(request("r2"), "alice")
    assert bob.sent() == [Ack("r2"), error("r2", 1400)]
    bob.engine.register_method("greet")
    bob.receive(request("r3"), "alice")
    assert bob.sent() == [Ack("r3")]


@pytest.mark.parametrize("method", ["m", "m" * 64, "é" * 32], ids=short)
def test_r15_a_method_of_64_bytes_can_be_registered(method: str) -> None:
    bob = bob_with()
    bob.engine.register_method(method)
    bob.receive(request(method=method), "alice")
    assert bob.invocation().method == method


@pytest.mark.parametrize("method", ["", "m" * 65, "é" * 32 + "m", "\ud800", 7], ids=short)
def test_r15_r33_an_impossible_method_cannot_be_registered(method: str) -> None:
    with pytest.raises(LocalProtocolError):
        bob_with().engine.register_method(method)


# --- R16: repeats


def fails_to_send(bob: Participant, invocation_id: int) -> None:
    bob.packets()
    bob.respond(invocation_id, "x")
    bob.send_failed(bob.packets()[0])


def leaves_and_comes_back(bob: Participant, invocation_id: int) -> None:
    bob.left("alice")
    bob.joined("alice", "PA_1")


def loses_the_connection_for_a_while(bob: Participant, invocation_id: int) -> None:
    bob.disconnected()
    bob.joined("alice", "PA_1")
    bob.connected()


ENDINGS: dict[str, Callable[[Participant, int], object]] = {
    "still running": lambda bob, invocation_id: None,
    "answered": lambda bob, invocation_id: bob.respond(invocation_id, "x"),
    "answered too large": lambda bob, invocation_id: bob.respond(invocation_id, "x" * 20_000),
    "failed": lambda bob, invocation_id: bob.respond_error(invocation_id, 2001, "no"),
    "not sent": fails_to_send,
    "expired": lambda bob, invocation_id: bob.time_is(bob.now + 100),
    "abandoned": leaves_and_comes_back,
    "disconnected": loses_the_connection_for_a_while,
}

REFUSED: dict[str, Request] = {
    "wrong version": request(version=0),
    "unknown method": request(method="unknown"),
    "too large": request(payload="x" * 5_001),
}


def expect_repeat(bob: Participant, again: Request, sid: str = "") -> None:
    """Hand over `again`, which is acked, and nothing else comes of it."""
    bob.packets()
    bob.events()
    before = bob.statistics.running_invocations
    repeats = bob.ignored.get(IgnoreReason.REPEAT, 0)
    bob.receive(again, "alice", sid=sid)
    assert bob.sent() == [Ack(again.request_id)]
    assert bob.events() == []
    assert bob.statistics.running_invocations == before
    assert bob.ignored[IgnoreReason.REPEAT] == repeats + 1


@pytest.mark.parametrize("sid", ["", "PA_1"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_r16_a_repeat_is_acked_and_nothing_runs_however_it_ended(ending: str, sid: str) -> None:
    """A packet that lacks the sid means the announced one."""
    bob = bob_with()
    bob.joined("alice", "PA_1")
    bob.receive(GREETING, "alice", sid="PA_1")
    ENDINGS[ending](bob, bob.invocation().invocation_id)
    expect_repeat(bob, GREETING, sid)
    expect_repeat(bob, request("r1", "other", "anything", version=7), sid)


@pytest.mark.parametrize("why", REFUSED)
def test_r16_a_refused_request_is_remembered_too(why: str) -> None:
    bob = bob_with(RpcConfig(max_payload_bytes=5_000))
    bob.receive(REFUSED[why], "alice")
    expect_repeat(bob, GREETING)


def test_r16_a_request_that_got_no_slot_is_remembered_too() -> None:
    bob = bob_with(RpcConfig(max_invocations=1))
    bob.receive(request("r0"), "carol")
    invocation = bob.invocation().invocation_id
    bob.receive(GREETING, "alice")
    bob.respond(invocation)
    expect_repeat(bob, GREETING)


@pytest.mark.parametrize(
    ("sender", "sid", "request_id"),
    [
        ("carol", "", "r1"),
        ("carol", "PA_9", "r1"),
        ("alice", "PA_2", "r1"),
        ("alice", "PA_1", "r2"),
        ("alice", "PA_1", "R1"),
    ],
)
@pytest.mark.parametrize("ended", [False, True])
def test_r16_another_caller_sid_or_id_is_another_request(
    sender: str, sid: str, request_id: str, ended: bool
) -> None:
    bob = bob_with()
    bob.joined("alice", "PA_1")
    bob.receive(GREETING, "alice", sid="PA_1")
    first = bob.invocation().invocation_id
    if ended:
        bob.respond(first)
    bob.receive(request(request_id), sender, sid=sid)
    second = bob.invocation()
    assert (second.caller_identity, second.request_id) == (sender, request_id)
    assert second.invocation_id != first
    assert bob.ignored == {}


@pytest.mark.parametrize("ended", [False, True])
def test_r16_announcing_a_caller_does_not_change_what_its_request_is_known_by(ended: bool) -> None:
    bob = bob_with()
    bob.receive(request("r1"), "alice", sid="PA_1")
    first = bob.invocation().invocation_id
    if ended:
        bob.respond(first)
    bob.joined("alice", "PA_1")
    expect_repeat(bob, request("r1"), "PA_1")
    expect_repeat(bob, request("r1"), "")


@pytest.mark.parametrize("ended", [False, True])
def test_r16_what_came_without_a_sid_is_not_what_comes_under_the_announced_one(ended: bool) -> None:
    bob = bob_with()
    bob.receive(request("r1"), "alice")
    first = bob.invocation().invocation_id
    if ended:
        bob.respond(first)
    bob.joined("alice", "PA_1")
    bob.receive(request("r1"), "alice")
    assert bob.invocation().invocation_id != first


def served(bob: Participant, caller: str, request_id: str) -> bool:
    """Whether a request runs (and is then answered), rather than being known already."""
    bob.receive(request(request_id), caller)
    events = bob.events()
    bob.packets()
    for event in events:
        assert isinstance(event, InvocationReceived)
        bob.respond(event.invocation_id)
        bob.packets()
    return bool(events)


@pytest.mark.parametrize(
    "config", [RpcConfig(), RpcConfig(remembered_requests_per_caller=3)], ids=short
)
def test_r16_the_last_requests_of_each_caller_are_remembered(config: RpcConfig) -> None:
    kept = config.remembered_requests_per_caller
    bob = bob_with(config)
    bob.joined("alice")
    bob.joined("carol")
    assert served(bob, "carol", "r0")
    for number in range(kept):
        assert served(bob, "alice", f"r{number}")
    assert not served(bob, "alice", "r0")
    assert served(bob, "alice", "one more")
    assert not served(bob, "alice", "r1")
    assert served(bob, "alice", "r0")
    assert not served(bob, "carol", "r0")


def test_r16_by_default_256_of_each_caller_and_4096_in_all_are_remembered() -> None:
    config = RpcConfig()
    assert (config.remembered_requests_per_caller, config.remembered_requests) == (256, 4_096)


def test_r16_callers_that_nobody_announced_share_one_ring_bounded_by_the_total() -> None:
    bob = bob_with(RpcConfig(remembered_requests=5, remembered_requests_per_caller=3))
    bob.joined("alice")
    for number in range(2):
        assert served(bob, "alice", f"a{number}")
    for number in range(20):
        assert served(bob, f"stranger-{number}", "s")
    # The strangers hold most, so they have displaced only one another.
    assert not served(bob, "alice", "a0")
    assert not served(bob, "alice", "a1")
    for number in range(17, 20):
        assert not served(bob, f"stranger-{number}", "s")
    assert served(bob, "stranger-16", "s")


def test_r16_over_the_total_the_caller_that_holds_most_loses_its_oldest() -> None:
    bob = bob_with(RpcConfig(remembered_requests=6, remembered_requests_per_caller=4))
    for caller in ("alice", "carol", "dave"):
        bob.joined(caller)
    for number in range(2):
        assert served(bob, "carol", f"c{number}")
    for number in range(4):
        assert served(bob, "alice", f"a{number}")
    assert served(bob, "dave", "d0")
    assert not served(bob, "carol", "c0")
    assert not served(bob, "carol", "c1")
    for number in (1, 2, 3):
        assert not served(bob, "alice", f"a{number}")
    assert served(bob, "alice", "a0")


@pytest.mark.parametrize("known", ["a0", "c0", "a1", "c1", "d0", "e0", "f0"])
def test_r16_among_callers_that_hold_as_much_each_loses_one_in_turn(known: str) -> None:
    bob = bob_with(RpcConfig(remembered_requests=4))
    callers = {name[0]: name for name in ("alice", "carol", "dave", "erin", "frank")}
    for caller in callers.values():
        bob.joined(caller)
    for request_id in ("a0", "a1", "c0", "c1", "d0", "e0", "f0"):
        assert served(bob, callers[request_id[0]], request_id)
    # One request of alice, then one of carol, and then the oldest of those who have but one.
    assert served(bob, callers[known[0]], known) is (known in ("a0", "c0", "d0"))


def test_r16_what_a_departed_caller_left_moves_to_the_shared_ring() -> None:
    bob = bob_with(RpcConfig(remembered_requests=4, remembered_requests_per_caller=3))
    bob.joined("alice", "PA_1")
    bob.joined("carol")
    assert served(bob, "carol", "c0")
    for number in range(3):
        assert served(bob, "alice", f"a{number}")
    bob.left("alice")
    bob.joined("alice", "PA_1")
    for number in range(3):
        assert not served(bob, "alice", f"a{number}")
    # The shared ring holds most now: a stranger pushes out the oldest of what alice left there.
    assert served(bob, "stranger", "s")
    assert not served(bob, "alice", "a1")
    assert not served(bob, "carol", "c0")
    assert served(bob, "alice", "a0")


def test_r16_a_caller_that_departed_has_no_ring_to_take_from() -> None:
    bob = bob_with(RpcConfig(remembered_requests=4))
    bob.joined("alice", "PA_1")
    bob.joined("carol")
    assert served(bob, "carol", "c0")
    for number in range(3):
        assert served(bob, "alice", f"a{number}")
    bob.left("alice")
    for number in range(1, 4):
        assert served(bob, "carol", f"c{number}")
    # The shared ring lost one, and then carol's own was the fullest.
    assert not served(bob, "carol", "c2")
    assert not served(bob, "carol", "c3")
    assert served(bob, "carol", "c1")


def test_r16_a_caller_that_departed_is_not_among_those_that_hold_little() -> None:
    bob = bob_with(RpcConfig(remembered_requests=2))
    for caller in ("alice", "carol", "dave", "erin"):
        bob.joined(caller)
    assert served(bob, "alice", "r")
    bob.left("alice")
    for caller in ("carol", "dave", "erin"):
        assert served(bob, caller, "r")
    assert not served(bob, "dave", "r")
    assert not served(bob, "erin", "r")
    assert served(bob, "carol", "r")


def test_r16_a_repeat_of_a_running_request_is_never_forgotten() -> None:
    bob = bob_with(RpcConfig(remembered_requests=1, remembered_requests_per_caller=1))
    bob.joined("alice")
    bob.receive(request("long"), "alice")
    bob.events()
    for number in range(5):
        assert served(bob, "alice", f"r{number}")
    expect_repeat(bob, request("long"))


def test_r16_a_departed_caller_shares_the_ring_of_those_that_nobody_announced() -> None:
    bob = bob_with(RpcConfig(remembered_requests_per_caller=2, remembered_requests=10))
    bob.joined("alice")
    bob.left("alice")
    for number in range(4):
        bob.receive(request(f"r{number}"), "alice")
        answer(bob)
    for number in range(4):
        bob.receive(request(f"r{number}"), "alice")
        assert bob.events() == []


# --- R17: how the answer travels


@pytest.mark.parametrize("payload", ["", "x" * V1_LIMIT, "é" * (V1_LIMIT // 2)], ids=short)
@pytest.mark.parametrize("client_protocol", [None, 0])
def test_r17_the_answer_to_a_packet_is_a_packet(payload: str, client_protocol: int | None) -> None:
    bob = bob_with()
    if client_protocol is not None:
        bob.joined("alice", client_protocol=client_protocol)
    bob.receive(GREETING, "alice")
    assert bob.respond(bob.invocation().invocation_id, payload) is True
    assert bob.sent() == [Ack("r1"), Response("r1", payload)]


@pytest.mark.parametrize("payload", ["x" * (V1_LIMIT + 1), "é" * (V1_LIMIT // 2) + "x"], ids=short)
@pytest.mark.parametrize("client_protocol", [None, 0])
def test_r17_an_answer_over_15360_bytes_to_a_v1_peer_is_1504(
    payload: str, client_protocol: int | None
) -> None:
    bob = bob_with()
    if client_protocol is not None:
        bob.joined("alice", client_protocol=client_protocol)
    bob.receive(GREETING, "alice")
    invocation_id = bob.invocation().invocation_id
    assert bob.respond(invocation_id, payload) is True
    assert bob.sent() == [Ack("r1"), error("r1", 1504)]
    assert bob.respond(invocation_id, "again") is False


def test_r17_an_answer_over_max_payload_bytes_is_1504() -> None:
    bob = bob_with(RpcConfig(max_payload_bytes=100))
    for request_id, payload in (("r1", "é" * 50), ("r2", "é" * 50 + "x")):
        bob.receive(request(request_id), "alice")
        bob.packets()
        assert bob.respond(bob.invocation().invocation_id, payload) is True
        expected = Response("r1", payload) if request_id == "r1" else error("r2", 1504)
        assert bob.sent() == [expected]


def test_r17_an_invocation_is_answered_once() -> None:
    bob = bob_with()
    bob.receive(GREETING, "alice")
    invocation_id = bob.invocation().invocation_id
    assert bob.respond(invocation_id) is True
    bob.packets()
    assert bob.respond(invocation_id) is False
    assert bob.respond_error(invocation_id, 1) is False
    assert bob.respond(invocation_id + 1) is False
    assert bob.respond(0) is False
    assert bob.respond(-1) is False
    assert bob.packets() == []


def test_r17_the_id_of_a_call_of_our_own_is_no_invocation() -> None:
    bob = bob_with()
    bob.call("alice")
    bob.packets()
    assert not any(bob.respond(number) for number in range(-2, 10))
    assert bob.packets() == []
    assert bob.statistics.pending_calls == 1


# --- R18: errors from handlers


@pytest.mark.parametrize(
    ("message", "data", "sent_message", "sent_data"),
    [
        ("my message é", '{"a":1}', "my message é", '{"a":1}'),
        ("m" * 256, "d" * V1_LIMIT, "m" * 256, "d" * V1_LIMIT),
        ("m" * 257, "d" * (V1_LIMIT + 1), "m" * 256, "d" * V1_LIMIT),
        ("m" * 255 + "é", "d" * (V1_LIMIT - 1) + "é", "m" * 255, "d" * (V1_LIMIT - 1)),
        ("m" * 253 + "😀", "😀" * 3_841, "m" * 253, "😀" * 3_840),
        ("m" * 252 + "😀", "", "m" * 252 + "😀", ""),
        ("", "", "", ""),
    ],
    ids=short,
)
@pytest.mark.parametrize("code", [0, 42, 1001, 1999, 2001, 2**32 - 1])
def test_r18_an_error_goes_out_as_it_is_cut_on_character_boundaries(
    code: int, message: str, data: str, sent_message: str, sent_data: str
) -> None:
    bob = bob_with()
    bob.receive(GREETING, "alice")
    assert bob.respond_error(bob.invocation().invocation_id, code, message, data) is True
    assert bob.sent() == [Ack("r1"), error("r1", code, sent_message, sent_data)]


@pytest.mark.parametrize("code", MESSAGES)
def test_r18_a_known_code_with_an_empty_message_goes_out_with_its_standard_message(
    code: int,
) -> None:
    bob = bob_with()
    bob.receive(GREETING, "alice")
    bob.respond_error(bob.invocation().invocation_id, code)
    assert bob.sent() == [Ack("r1"), ErrorResponse("r1", code, MESSAGES[code], "")]


# --- R19: the caller leaves


def test_r19_a_caller_that_leaves_has_its_invocations_abandoned() -> None:
    bob = bob_with()
    bob.joined("alice", "PA_1")
    bob.receive(request("r1"), "alice")
    bob.receive(request("r2"), "carol")
    bob.receive(request("r3"), "alice")
    one, two, three = bob.events()
    assert isinstance(one, InvocationReceived)
    assert isinstance(two, InvocationReceived)
    assert isinstance(three, InvocationReceived)
    bob.left("alice")
    assert bob.events() == [
        InvocationAbandoned(one.invocation_id, AbandonReason.CALLER_LEFT),
        InvocationAbandoned(three.invocation_id, AbandonReason.CALLER_LEFT),
    ]
    # What was queued before still leaves; nothing new does.
    assert bob.respond(one.invocation_id) is False
    assert bob.respond_error(three.invocation_id, 7) is False
    assert bob.sent() == [Ack("r1"), Ack("r2"), Ack("r3")]
    assert bob.respond(two.invocation_id) is True


def test_r19_an_answer_that_is_queued_still_leaves() -> None:
    bob = bob_with()
    bob.receive(GREETING, "alice")
    bob.respond(bob.invocation().invocation_id)
    bob.left("alice")
    assert bob.sent() == [Ack("r1"), Response("r1", "hello")]


@pytest.mark.parametrize("departure", ["announced new sid", "left with the old sid"])
def test_r19_the_departure_of_an_old_sid_touches_nothing_that_came_under_a_new_one(
    departure: str,
) -> None:
    """A sid that is not announced yet is accepted on a request (R24)."""
    bob = bob_with()
    bob.joined("alice", "PA_1")
    bob.receive(request("old"), "alice", sid="PA_1")
    bob.receive(request("old too"), "alice")
    old = [event.invocation_id for event in bob.events() if isinstance(event, InvocationReceived)]
    bob.receive(request("new"), "alice", sid="PA_2")
    new = bob.invocation().invocation_id
    if departure == "announced new sid":
        bob.joined("alice", "PA_2")
    else:
        bob.left("alice", "PA_1")
    assert bob.events() == [
        InvocationAbandoned(number, AbandonReason.CALLER_LEFT) for number in old
    ]
    assert bob.respond(new) is True


@pytest.mark.parametrize("sid", ["", "PA_1"])
@pytest.mark.parametrize("departing_sid", ["", "PA_1"])
def test_r19_r40_a_caller_that_was_never_announced_can_leave(sid: str, departing_sid: str) -> None:
    bob = bob_with()
    bob.receive(GREETING, "alice", sid=sid)
    invocation_id = bob.invocation().invocation_id
    bob.left("alice", departing_sid)
    assert bob.events() == [InvocationAbandoned(invocation_id, AbandonReason.CALLER_LEFT)]


def test_r19_a_departure_under_an_old_sid_leaves_the_requests_of_a_newer_one() -> None:
    """Also of a caller that nobody announced."""
    bob = bob_with()
    bob.receive(request("r1"), "alice", sid="PA_2")
    invocation_id = bob.invocation().invocation_id
    bob.left("alice", "PA_1")
    assert bob.events() == []
    assert bob.respond(invocation_id)


def test_r10_r19_an_answer_to_a_caller_without_a_sid_cannot_fail_after_it_left() -> None:
    bob = bob_with()
    bob.receive(request("r1"), "alice")
    bob.respond(bob.invocation().invocation_id, "hello")
    _, response = bob.packets()
    bob.left("alice", "PA_1")
    bob.send_failed(response)
    assert bob.packets() == []


# --- R20: an invocation expires


@pytest.mark.parametrize(
    ("config", "response_timeout_ms", "lifetime", "figure"),
    [
        (RpcConfig(), 8_000, 15, 8.0),
        (RpcConfig(), 0, 7, 0.0),
        (RpcConfig(), 1, 7.001, 0.001),
        (RpcConfig(), 3_593_000, 3_600, 3_593.0),
        (RpcConfig(), 3_593_001, 3_600, 3_593.001),
        (RpcConfig(), 2**32 - 1, 3_600, 4_294_967.295),
        (RpcConfig(invocation_grace=1, max_invocation_lifetime=5), 3_000, 4, 3.0),
        (RpcConfig(invocation_grace=1, max_invocation_lifetime=5), 9_000, 5, 9.0),
    ],
    ids=short,
)
def test_r20_an_invocation_expires_after_the_caller_s_figure_and_the_grace(
    config: RpcConfig, response_timeout_ms: int, lifetime: float, figure: float
) -> None:
    bob = bob_with(config)
    bob.receive(request(response_timeout_ms=response_timeout_ms), "alice")
    invocation = bob.invocation()
    assert invocation.response_timeout == figure
    assert bob.next_deadline == pytest.approx(START + lifetime, abs=2**-20)
    deadline = bob.next_deadline
    assert deadline is not None
    bob.time_is(just_before(deadline))
    assert bob.events() == []
    assert bob.statistics.running_invocations == 1
    bob.time_is(deadline)
    assert bob.events() == [InvocationAbandoned(invocation.invocation_id, AbandonReason.EXPIRED)]
    assert bob.statistics.running_invocations == 0
    assert bob.next_deadline is None
    bob.packets()
    assert bob.respond(invocation.invocation_id) is False
    assert bob.packets() == []


def test_r20_an_answer_that_is_handed_over_before_the_deadline_wins() -> None:
    bob = bob_with()
    bob.receive(GREETING, "alice")
    invocation_id = bob.invocation().invocation_id
    bob.now = START + 1_000
    assert bob.respond(invocation_id) is True
    bob.time_is(START + 1_000)
    assert bob.events() == []


def test_r20_a_repeat_does_not_give_more_time() -> None:
    bob = bob_with()
    bob.receive(GREETING, "alice")
    bob.now += 5
    bob.receive(GREETING, "alice")
    assert bob.next_deadline == START + 15


# --- R21: callers that no one announced


def test_r21_the_server_s_own_request_is_answered_with_plain_packets() -> None:
    """Its identity is the request id; it has no sid and no sequence."""
    bob = bob_with()
    bob.joined("alice", "PA_1")
    bob.receive(request("RPC_7"), "RPC_7")
    bob.respond(bob.invocation().invocation_id)
    bob.receive(request("RPC_8", "unknown"), "RPC_8")
    packets = bob.packets()
    assert [packet.destination_identity for packet in packets] == ["RPC_7"] * 2 + ["RPC_8"] * 2
    assert [sent_message(packet) for packet in packets] == [
        Ack("RPC_7"),
        Response("RPC_7", "hello"),
        Ack("RPC_8"),
        error("RPC_8", 1400),
    ]


def test_r21_a_request_without_an_identity_is_ignored() -> None:
    bob = bob_with()
    bob.receive(GREETING, "")
    bob.receive(GREETING, "", sid="PA_1")
    assert bob.packets() == []
    assert bob.events() == [PacketIgnored(IgnoreReason.NO_SENDER, "")] * 2
    assert bob.ignored == {IgnoreReason.NO_SENDER: 2}
    assert bob.statistics.running_invocations == 0


# --- R22: slots


def test_r22_one_caller_gets_so_many_slots_all_its_sids_together() -> None:
    bob = bob_with(RpcConfig(max_invocations_per_caller=3))
    bob.joined("alice", "PA_1")
    bob.receive(request("r1"), "alice", sid="PA_1")
    bob.receive(request("r2"), "alice", sid="PA_2")
    bob.receive(request("r3"), "alice")
    invocations = [event for event in bob.events() if isinstance(event, InvocationReceived)]
    assert len(invocations) == 3
    bob.packets()
    for request_id, sid in (("r4", "PA_1"), ("r5", "PA_2"), ("r6", "PA_3")):
        bob.receive(request(request_id, method="unknown"), "alice", sid=sid)
        assert refused_with_too_many_requests(bob, request_id)
    assert bob.events() == []
    assert bob.statistics.running_invocations == 3
    bob.receive(request("r1"), "carol")
    assert bob.sent() == [Ack("r1")]
    bob.events()
    bob.respond(invocations[1].invocation_id)
    bob.packets()
    bob.receive(request("r7"), "alice")
    assert bob.sent() == [Ack("r7")]


def test_r22_there_are_so_many_slots_in_all() -> None:
    bob = bob_with(RpcConfig(max_invocations=3))
    for caller in ("alice", "carol", "dave"):
        bob.receive(request("r1"), caller)
    first = next(event for event in bob.events() if isinstance(event, InvocationReceived))
    bob.packets()
    bob.receive(request("r2"), "eve")
    assert refused_with_too_many_requests(bob, "r2")
    bob.respond_error(first.invocation_id, 7)
    bob.packets()
    bob.receive(request("r3"), "eve")
    assert bob.sent() == [Ack("r3")]


def test_r22_the_slots_of_a_caller_are_counted_however_many_others_come_and_go() -> None:
    bob = bob_with(RpcConfig(max_invocations_per_caller=1))
    bob.receive(GREETING, "alice")
    bob.events()
    for number in range(300):
        bob.receive(GREETING, f"caller-{number}")
        assert bob.respond(bob.invocation().invocation_id)
    bob.packets()
    bob.receive(request("r2"), "alice")
    assert refused_with_too_many_requests(bob, "r2")


def test_r22_by_default_1000_for_one_caller_and_10000_in_all() -> None:
    bob = bob_with()
    for number in range(1_000):
        bob.receive(request(f"r{number}"), "alice")
    bob.packets()
    assert bob.statistics.running_invocations == 1_000
    bob.receive(request("one more"), "alice")
    assert refused_with_too_many_requests(bob, "one more")
    assert RpcConfig().max_invocations == 10_000


def test_r22_a_refused_request_gives_its_slot_back() -> None:
    bob = bob_with(RpcConfig(max_invocations=1, max_invocations_per_caller=1))
    for number in range(5):
        bob.receive(request(f"r{number}", method="unknown"), "alice")
    bob.packets()
    bob.receive(request("last"), "alice")
    assert bob.sent() == [Ack("last")]


def test_r10_r22_a_refused_request_is_not_taken_for_the_answer_that_failed() -> None:
    bob = bob_with(RpcConfig(max_invocations_per_caller=1))
    bob.receive(request("r1"), "alice")
    invocation_id = bob.invocation().invocation_id
    bob.receive(request("r2"), "alice")
    bob.packets()
    assert bob.respond(invocation_id)
    [response] = bob.packets()
    bob.send_failed(response)
    assert bob.sent() == [error("r1", 1505)]


def test_r22_a_slot_stays_taken_however_many_others_come_and_go() -> None:
    bob = bob_with(RpcConfig(max_invocations_per_caller=1))
    bob.receive(request("r1", payload=""), "alice")
    bob.events()
    for number in range(300):
        bob.receive(request("r1", "unknown"), f"p{number}")
    bob.packets()
    bob.receive(request("r2"), "alice")
    assert refused_with_too_many_requests(bob, "r2")


# --- the rows of peers as they are that concern requests


def test_an_empty_answer_is_present_on_the_wire() -> None:
    """A native client fails a response whose empty payload is absent (R29)."""
    bob = bob_with()
    bob.receive(GREETING, "alice")
    bob.respond(bob.invocation().invocation_id, "")
    answer_packet = parsed(bob.packets()[1])
    assert answer_packet.rpc_response.WhichOneof("value") == "payload"


def test_an_upper_case_id_is_kept_as_it_came() -> None:
    bob = bob_with()
    request_id = "5B0B478F-DCAF-49BF-9BED-1FFD3CACDBB1"
    bob.receive(request(request_id), "alice")
    invocation = bob.invocation()
    assert invocation.request_id == request_id
    bob.respond(invocation.invocation_id)
    assert bob.sent() == [Ack(request_id), Response(request_id, "hello")]


def test_a_v1_payload_of_46080_bytes_is_accepted() -> None:
    """One SDK counts its payload cap in UTF-16 units."""
    bob = bob_with()
    payload = "\u4e16" * V1_LIMIT
    bob.receive(request(payload=payload), "alice")
    assert bob.invocation().payload == payload


# --- R15: requests for methods that are not registered, handed over


def bob_who_takes_all() -> Participant:
    bob = bob_with()
    bob.engine.hand_over_unknown_methods = True
    return bob


def as_packet(method: str) -> list[OutgoingMessage]:
    return [request("r1", method, "hi")]


def as_stream(method: str) -> list[OutgoingMessage]:
    return stream(request_header("r1", method=method), b"hi")


def as_inline_stream(method: str) -> list[OutgoingMessage]:
    return [request_header("r1", method=method, inline_content=b"hi")]


each_form = pytest.mark.parametrize("form", [as_packet, as_stream, as_inline_stream])


@each_form
@pytest.mark.parametrize("method", ["u", "u" * 64, "é" * 32, "unknown"], ids=short)
def test_r15_an_unknown_method_of_1_to_64_bytes_is_handed_over_if_the_host_wants_it(
    form: Callable[[str], list[OutgoingMessage]], method: str
) -> None:
    bob = bob_who_takes_all()
    for message in form(method):
        bob.receive(message, "alice")
    invocation = bob.invocation()
    assert invocation == InvocationReceived(
        invocation.invocation_id, "r1", "alice", method, "hi", 8.0
    )
    assert bob.sent() == [Ack("r1")]
    assert bob.respond_error(invocation.invocation_id, 1400)
    assert bob.sent() == [error("r1", 1400)]


@each_form
@pytest.mark.parametrize("method", ["", "u" * 65, "é" * 32 + "u"], ids=short)
@pytest.mark.parametrize("hands_over", [False, True])
def test_r15_a_method_of_another_length_is_1400_whatever_the_host_wants(
    form: Callable[[str], list[OutgoingMessage]], method: str, hands_over: bool
) -> None:
    bob = bob_with()
    bob.engine.hand_over_unknown_methods = hands_over
    for message in form(method):
        bob.receive(message, "alice")
    assert bob.sent() == [Ack("r1"), error("r1", 1400)]
    assert bob.events() == []


@each_form
def test_r15_unless_it_is_set_an_unknown_method_is_1400(
    form: Callable[[str], list[OutgoingMessage]],
) -> None:
    bob = bob_who_takes_all()
    bob.engine.hand_over_unknown_methods = False
    for message in form("unknown"):
        bob.receive(message, "alice")
    assert bob.sent() == [Ack("r1"), error("r1", 1400)]


@pytest.mark.parametrize("sets", [False, True])
def test_r15_it_counts_when_the_whole_body_is_there(sets: bool) -> None:
    bob = bob_with()
    bob.engine.hand_over_unknown_methods = not sets
    header, *rest = as_stream("unknown")
    bob.receive(header, "alice")
    bob.engine.hand_over_unknown_methods = sets
    for message in rest:
        bob.receive(message, "alice")
    assert len(bob.events()) == sets


def test_r15_what_was_handed_over_stays_so_and_holds_what_others_hold() -> None:
    bob = bob_who_takes_all()
    bob.receive(request("r1", "unknown", "é" * 30), "alice")
    invocation = bob.invocation()
    bob.engine.hand_over_unknown_methods = False
    assert bob.statistics.buffered_bytes == 60
    assert bob.respond(invocation.invocation_id)
    assert bob.sent() == [Ack("r1"), Response("r1", "hello")]
    assert bob.statistics.buffered_bytes == 0


def test_r15_the_version_comes_before_it() -> None:
    bob = bob_who_takes_all()
    bob.receive(request("r1", "unknown", version=2), "alice")
    assert bob.sent() == [Ack("r1"), error("r1", 1404)]


@pytest.mark.parametrize("value", [None, 0, 1, "yes", []])
def test_r15_r33_anything_but_a_bool_raises(value: Any) -> None:
    bob = bob_with()
    assert bob.engine.hand_over_unknown_methods is False
    bob.engine.hand_over_unknown_methods = True
    with pytest.raises(LocalProtocolError, match=r"^hand_over_unknown_methods must be a bool$"):
        bob.engine.hand_over_unknown_methods = value
    assert bob.engine.hand_over_unknown_methods is True


def test_r15_r42_it_can_be_set_after_close_and_changes_nothing_then() -> None:
    bob = bob_with()
    bob.close()
    bob.engine.hand_over_unknown_methods = True
    bob.receive(request("r1", "unknown"), "alice")
    assert (bob.events(), bob.packets()) == ([], [])


class Odd(str):
    """A text that answers for itself."""

    def encode(self, *args: object, **keywords: object) -> bytes:
        raise RuntimeError("encode")

    def __len__(self) -> int:
        return 10**9


class OddCode(int):
    """A number that is smaller and larger than any other."""

    def __le__(self, other: object) -> bool:
        return True

    __ge__ = __le__


def test_r33_an_error_of_subclasses_goes_out_as_what_it_is() -> None:
    alice = Participant()
    alice.receive(request())
    invocation_id = alice.invocation().invocation_id
    for code in (OddCode(-5), OddCode(2**32)):
        with pytest.raises(LocalProtocolError):
            alice.respond_error(invocation_id, code)
    assert alice.respond_error(invocation_id, OddCode(7), Odd("no"), Odd("x"))
    assert alice.sent()[-1] == ErrorResponse("r1", 7, "no", "x")
