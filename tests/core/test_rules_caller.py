"""The rules of the calling side: R1 to R13."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from helpers import (
    MESSAGES,
    START,
    V1_LIMIT,
    Participant,
    error,
    failures,
    just_before,
    parsed,
    raw_packet,
    request,
    sent_message,
    short,
)

from rpcproto import (
    CallAcknowledged,
    CallFailed,
    CallSucceeded,
    Event,
    IgnoreReason,
    LocalProtocolError,
    OutgoingPacket,
    PacketIgnored,
    PacketKind,
    RpcConfig,
    random_ids,
)
from rpcproto.testing import counting_ids
from rpcproto.wire import Ack, ErrorResponse, OutgoingMessage, Request, Response


def counting_id(number: int) -> str:
    """The id of the first, second ... call."""
    new_id = counting_ids("a")
    return [new_id() for _ in range(number)][-1]


# --- R1: a call is registered before its first packet leaves, and ends exactly once


def test_r1_a_call_is_registered_before_its_first_packet_leaves() -> None:
    alice = Participant()
    call = alice.call()
    assert alice.statistics.pending_calls == 1
    alice.receive(Response(call, "early"))
    assert alice.events() == [CallSucceeded(call, "early")]
    assert alice.statistics.pending_calls == 0


def test_r1_a_call_sends_one_request_packet() -> None:
    alice = Participant()
    call = alice.call("bob", "greet", "hi")
    [packet] = alice.packets()
    assert (packet.destination_identity, packet.request_id, packet.kind) == (
        "bob",
        call,
        PacketKind.REQUEST,
    )
    assert sent_message(packet) == Request(call, "greet", "hi", 8_000, 1)
    assert alice.events() == []


ENDS: dict[str, Callable[[Participant, OutgoingPacket], object]] = {
    "response": lambda alice, request: alice.receive(Response(request.request_id, "x")),
    "error": lambda alice, request: alice.receive(error(request.request_id, 2001, "no")),
    "cancel": lambda alice, request: alice.cancel(request.request_id),
    "deadline": lambda alice, request: alice.time_is(alice.now + 50),
    "send failed": lambda alice, request: alice.send_failed(request),
    "recipient left": lambda alice, request: alice.left("bob"),
    "disconnected": lambda alice, request: alice.disconnected(),
    "closed": lambda alice, request: alice.close(),
}


@pytest.mark.parametrize("later", ENDS)
@pytest.mark.parametrize("first", ENDS)
def test_r1_a_call_ends_exactly_once(first: str, later: str) -> None:
    alice = Participant()
    alice.call()
    [request_packet] = alice.packets()
    for name, ends in ((first, 1), (later, 0)):
        cancelled = ENDS[name](alice, request_packet)
        ended = [e for e in alice.events() if isinstance(e, CallSucceeded | CallFailed)]
        assert len(ended) + (cancelled is True) == ends
        assert alice.statistics.pending_calls == 0
        assert alice.next_deadline is None


def test_r1_cancel_is_true_once_and_makes_no_event() -> None:
    alice = Participant()
    call = alice.call()
    assert alice.cancel(call) is True
    assert alice.cancel(call) is False
    assert alice.cancel("unknown") is False
    assert alice.events() == []
    assert alice.statistics.pending_calls == 0


def fill_outbox(alice: Participant) -> None:
    """An ack and an error wait: more than an outbox for one packet takes. Nothing else is left."""
    alice.receive(request("old", "unknown"), "carol")


CAUSES: dict[int, Callable[[Participant], None]] = {
    1403: lambda alice: alice.connected(server_version="1.7.9"),
    1401: lambda alice: alice.connected(participants_complete=True),
    1402: lambda alice: None,
    1505: fill_outbox,
}


@pytest.mark.parametrize("code", CAUSES)
def test_r1_a_call_that_fails_at_once_returns_an_id_and_fails_as_an_event(code: int) -> None:
    alice = Participant(config=RpcConfig(max_waiting_packets=1))
    CAUSES[code](alice)
    waiting = alice.statistics.waiting_packets
    call = alice.call("bob", "greet", "x" * (V1_LIMIT + 1) if code == 1402 else "hi")
    assert call == counting_id(1)
    assert failures(alice.events()) == [(call, code)]
    assert alice.statistics.pending_calls == 0
    assert alice.statistics.waiting_packets == waiting
    assert alice.next_deadline is None


@pytest.mark.parametrize("code", sorted(set(CAUSES) - {1402}))
def test_r1_what_refuses_a_call_does_so_whatever_its_payload(code: int) -> None:
    alice = Participant(config=RpcConfig(max_waiting_packets=1))
    CAUSES[code](alice)
    calls = [alice.call("bob", "greet", payload) for payload in ("", "x", "x" * V1_LIMIT)]
    assert failures(alice.events()) == [(call, code) for call in calls]


@pytest.mark.parametrize("first", range(len(CAUSES)))
def test_r1_the_checks_come_in_order(first: int) -> None:
    codes = list(CAUSES)[first:]
    alice = Participant(config=RpcConfig(max_waiting_packets=1))
    fill_outbox(alice)
    if 1403 in codes and 1401 in codes:
        alice.connected(server_version="1.7.9", participants_complete=True)
    elif 1401 in codes:
        alice.connected(participants_complete=True)
    payload = "x" * (V1_LIMIT + 1 if 1402 in codes else 1)
    with pytest.raises(LocalProtocolError):
        alice.call("bob", "", payload)
    assert alice.events() == []
    call = alice.call("bob", "greet", payload)
    assert failures(alice.events()) == [(call, codes[0])]


def test_r1_misuse_a_lost_connection_and_a_closed_engine_raise() -> None:
    alice = Participant()
    with pytest.raises(LocalProtocolError):
        alice.call("", "greet", "hi")
    alice.disconnected()
    with pytest.raises(LocalProtocolError, match="disconnected"):
        alice.call()
    alice.connected()
    alice.call()
    alice.close()
    with pytest.raises(LocalProtocolError, match="closed"):
        alice.call()


def test_r1_more_pending_calls_than_allowed_raise() -> None:
    alice = Participant(config=RpcConfig(max_pending_calls=2))
    first = alice.call()
    alice.call()
    with pytest.raises(LocalProtocolError):
        alice.call()
    assert alice.statistics.pending_calls == 2
    assert alice.statistics.waiting_packets == 2
    alice.cancel(first)
    assert alice.call() == counting_id(3)


def test_r1_a_call_that_fails_at_once_takes_no_place_among_the_pending_ones() -> None:
    alice = Participant(config=RpcConfig(max_pending_calls=1))
    for _ in range(3):
        alice.call("alice")
    alice.call("bob")
    with pytest.raises(LocalProtocolError):
        alice.call("alice")


@pytest.mark.parametrize(
    ("bound", "data"),
    [
        ("max_waiting_packets", "too many packets are waiting to be sent"),
        ("max_waiting_bytes", "too many bytes are waiting to be sent"),
    ],
)
def test_r1_a_call_beyond_the_bound_of_the_outbox_is_1505(bound: str, data: str) -> None:
    other = Participant()
    other.call()
    size = 1 if bound == "max_waiting_packets" else other.statistics.waiting_bytes
    limits: dict[str, Any] = {bound: 3 * size}
    alice = Participant(config=RpcConfig(**limits))
    calls = [alice.call() for _ in range(3)]
    assert alice.events() == []
    refused = alice.call()
    assert alice.events() == [CallFailed(refused, 1505, MESSAGES[1505], data)]
    assert [packet.request_id for packet in alice.packets()] == calls
    alice.call()
    assert alice.events() == []


# --- R2: one clock per call


@pytest.mark.parametrize("acked_after", [0, 1, 6.5, 9])
def test_r2_the_response_timeout_counts_from_the_call_whenever_the_ack_comes(
    acked_after: float,
) -> None:
    alice = Participant()
    call = alice.call(ack_timeout=9.5)
    alice.now += acked_after
    alice.receive(Ack(call))
    assert alice.next_deadline == START + 10
    alice.time_is(just_before(START + 10))
    assert alice.events() == [CallAcknowledged(call)]
    alice.time_is(START + 10)
    assert failures(alice.events()) == [(call, 1502)]


def test_r2_calls_have_their_own_clocks() -> None:
    alice = Participant()
    slow = alice.call(response_timeout=30, ack_timeout=30)
    alice.now += 1
    quick = alice.call(response_timeout=2, ack_timeout=2)
    assert alice.next_deadline == START + 3
    alice.time_is(START + 3)
    assert failures(alice.events()) == [(quick, 1502)]
    assert alice.next_deadline == START + 30
    alice.time_is(START + 30)
    assert failures(alice.events()) == [(slow, 1502)]


def test_r2_the_default_timeouts_come_from_the_config() -> None:
    alice = Participant(config=RpcConfig(response_timeout=20, ack_timeout=3))
    call = alice.call()
    assert alice.next_deadline == START + 3
    alice.receive(Ack(call))
    assert alice.next_deadline == START + 20


# --- R3: the ack window


@pytest.mark.parametrize(
    ("timeouts", "window", "code"),
    [
        ({}, 7, 1501),
        ({"response_timeout": 7.5}, 7, 1501),
        ({"response_timeout": 7}, 7, 1502),
        ({"response_timeout": 6.5}, 6.5, 1502),
        ({"response_timeout": 60}, 7, 1501),
        ({"ack_timeout": 2}, 2, 1501),
        ({"ack_timeout": 10}, 10, 1502),
        ({"ack_timeout": 11}, 10, 1502),
        ({"response_timeout": 3, "ack_timeout": 2.5}, 2.5, 1501),
    ],
)
def test_r3_no_ack_within_the_window(timeouts: dict[str, Any], window: float, code: int) -> None:
    alice = Participant()
    call = alice.call(**timeouts)
    assert alice.next_deadline == START + window
    alice.time_is(just_before(START + window))
    assert alice.events() == []
    alice.time_is(START + window)
    assert failures(alice.events()) == [(call, code)]
    assert alice.next_deadline is None


def test_r3_acked_but_no_response_by_the_response_timeout_is_1502() -> None:
    alice = Participant()
    call = alice.call(response_timeout=8)
    alice.receive(Ack(call))
    alice.events()
    alice.time_is(just_before(START + 8))
    assert alice.events() == []
    alice.time_is(START + 8)
    assert failures(alice.events()) == [(call, 1502)]


@pytest.mark.parametrize("late", [START + 7, START + 9.9, START + 10, START + 1e6])
def test_r3_a_late_deadline_judges_by_the_earlier_one(late: float) -> None:
    alice = Participant()
    unheard, acked = alice.call(), alice.call()
    alice.receive(Ack(acked))
    alice.events()
    alice.time_is(late)
    expected = [(unheard, 1501)] + ([(acked, 1502)] if late >= START + 10 else [])
    assert failures(alice.events()) == expected


@pytest.mark.parametrize("window_first", [False, True])
def test_r3_ties_go_in_the_order_of_the_calls(window_first: bool) -> None:
    """One call ends by its ack window at the very instant at which another ends by its timeout."""
    alice = Participant()
    by_window: dict[str, Any] = {"response_timeout": 20.0, "ack_timeout": 4.0}
    by_timeout: dict[str, Any] = {"response_timeout": 4.0}
    one = alice.call(**(by_window if window_first else by_timeout))
    two = alice.call(**(by_timeout if window_first else by_window))
    three = alice.call(response_timeout=4.0, ack_timeout=1.5)
    alice.receive(Ack(three))
    alice.events()
    alice.time_is(START + 4)
    assert [id_ for id_, _ in failures(alice.events())] == [one, two, three]


@pytest.mark.parametrize("answer", [Ack, lambda call: Response(call, "x")])
def test_r3_a_packet_that_is_handed_over_before_the_deadline_wins(
    answer: Callable[[str], Ack | Response],
) -> None:
    alice = Participant()
    call = alice.call()
    alice.now = START + 7.5
    alice.receive(answer(call))
    alice.time_is(START + 7.5)
    assert not any(isinstance(event, CallFailed) for event in alice.events())


@pytest.mark.parametrize("window", [10, 11])
@pytest.mark.parametrize("count", [1, 200])
def test_r3_a_configured_window_that_is_no_shorter_than_the_call_ends_it_with_1502(
    window: float, count: int
) -> None:
    alice = Participant(config=RpcConfig(response_timeout=10, ack_timeout=window))
    calls = [alice.call() for _ in range(count)]
    assert alice.next_deadline == START + 10
    alice.time_is(START + 10)
    assert failures(alice.events()) == [(call, 1502) for call in calls]


@pytest.mark.parametrize("timeouts", [{}, {"response_timeout": 9.0, "ack_timeout": 6.0}])
def test_r3_each_of_many_calls_ends_at_its_own_deadline(timeouts: dict[str, Any]) -> None:
    alice = Participant()
    calls = []
    for number in range(300):
        calls.append(alice.call(**timeouts))
        if number % 2:
            alice.receive(Ack(calls[-1]))
    alice.events()
    response, window = timeouts.get("response_timeout", 10), timeouts.get("ack_timeout", 7)
    alice.time_is(START + window)
    assert failures(alice.events()) == [(call, 1501) for call in calls[::2]]
    alice.time_is(START + response)
    assert failures(alice.events()) == [(call, 1502) for call in calls[1::2]]


def test_r2_the_usual_timeout_counts_among_many_others() -> None:
    """Timeouts of one length wait in one line; there are fewer lines than lengths here."""
    alice = Participant()
    others = {timeout / 4: alice.call(response_timeout=timeout / 4) for timeout in range(60, 90)}
    alice.now = START + 1
    usual = alice.call()
    for call in (*others.values(), usual):
        alice.receive(Ack(call))
    alice.events()
    assert alice.next_deadline == START + 11
    alice.time_is(START + 11)
    assert failures(alice.events()) == [(usual, 1502)]
    for timeout, call in others.items():
        assert alice.next_deadline == START + timeout
        alice.time_is(START + timeout)
        assert failures(alice.events()) == [(call, 1502)]


# --- R4: a response implies the ack


def test_r4_an_ack_is_told_once() -> None:
    alice = Participant()
    call = alice.call()
    alice.receive(Ack(call))
    assert alice.events() == [CallAcknowledged(call)]
    alice.receive(Ack(call))
    assert alice.events() == []
    assert alice.ignored == {IgnoreReason.REPEAT: 1}
    assert alice.statistics.pending_calls == 1


@pytest.mark.parametrize("is_error", [False, True])
def test_r4_a_response_that_comes_first_completes_the_call_and_a_later_ack_is_ignored(
    is_error: bool,
) -> None:
    alice = Participant()
    call = alice.call()
    alice.receive(error(call, 7, "m", "d") if is_error else Response(call, "x"))
    expected = CallFailed(call, 7, "m", "d") if is_error else CallSucceeded(call, "x")
    assert alice.events() == [expected]
    alice.receive(Ack(call))
    assert alice.events() == []
    assert alice.ignored == {IgnoreReason.LATE: 1}


# --- R5: the timeout on the wire is the handler's budget


@pytest.mark.parametrize(
    ("response_timeout", "on_the_wire"),
    [
        (10, 8_000),
        (15, 13_000),
        (10.0004, 8_000),
        (10.0006, 8_001),
        (3.0006, 1_001),
        (3.0004, 1_000),
        (3, 1_000),
        (2.9996, 1_000),
        (2.5, 1_000),
        (2, 1_000),
        (1, 1_000),
        (0.001, 1_000),
        (4_294_969.295, 4_294_967_295),
        (4_294_969.294, 4_294_967_294),
        (4_294_970, 4_294_967_295),
        (1e300, 4_294_967_295),
    ],
)
def test_r5_the_network_s_share_is_taken_off(response_timeout: float, on_the_wire: int) -> None:
    alice = Participant()
    alice.call(response_timeout=response_timeout)
    [sent] = alice.sent()
    assert isinstance(sent, Request)
    assert sent.response_timeout_ms == on_the_wire


def test_r5_the_network_s_share_is_configurable() -> None:
    alice = Participant(config=RpcConfig(response_timeout=6, latency_allowance=0.5))
    alice.call()
    [sent] = alice.sent()
    assert isinstance(sent, Request)
    assert sent.response_timeout_ms == 5_500


# --- R6: the first response in any form completes the call


@pytest.mark.parametrize("acked", [False, True])
@pytest.mark.parametrize("first_is_error", [False, True])
def test_r6_the_first_response_wins(first_is_error: bool, acked: bool) -> None:
    alice = Participant()
    call = alice.call()
    if acked:
        alice.receive(Ack(call))
        alice.events()
    answers: list[OutgoingMessage] = [Response(call, "x"), error(call, 2001, "no", "data")]
    outcomes = [CallSucceeded(call, "x"), CallFailed(call, 2001, "no", "data")]
    alice.receive(answers[first_is_error])
    alice.receive(answers[not first_is_error])
    assert alice.events() == [outcomes[first_is_error]]
    assert alice.ignored == {IgnoreReason.LATE: 1}


@pytest.mark.parametrize("payload", ["", "é", "x" * V1_LIMIT], ids=short)
def test_r6_the_payload_arrives_as_it_was_sent(payload: str) -> None:
    alice = Participant()
    call = alice.call()
    alice.receive(Response(call, payload))
    assert alice.events() == [CallSucceeded(call, payload)]


# --- R7: only the participant that was called can answer


@pytest.mark.parametrize(
    ("announced_sid", "sender", "sid", "counts"),
    [
        ("", "bob", "", True),
        ("", "bob", "PA_1", True),
        ("PA_1", "bob", "", True),
        ("PA_1", "bob", "PA_1", True),
        ("PA_1", "bob", "PA_2", False),
        ("PA_1", "bob", "pa_1", False),
        ("", "carol", "", False),
        ("PA_1", "carol", "", False),
        ("", "", "", False),
        ("PA_1", "", "", False),
        ("", "Bob", "", False),
    ],
)
@pytest.mark.parametrize("kind", ["ack", "response", "error"])
def test_r7_only_the_participant_that_was_called_can_answer(
    kind: str, announced_sid: str, sender: str, sid: str, counts: bool
) -> None:
    alice = Participant()
    if announced_sid:
        alice.joined("bob", announced_sid)
    call = alice.call("bob")
    answers: dict[str, tuple[OutgoingMessage, Event]] = {
        "ack": (Ack(call), CallAcknowledged(call)),
        "response": (Response(call, "x"), CallSucceeded(call, "x")),
        "error": (error(call, 9, "m", "d"), CallFailed(call, 9, "m", "d")),
    }
    answer, outcome = answers[kind]
    alice.receive(answer, sender, sid=sid)
    if counts:
        assert alice.events() == [outcome]
        return
    assert alice.events() == [PacketIgnored(IgnoreReason.WRONG_SENDER, sender)]
    assert alice.ignored == {IgnoreReason.WRONG_SENDER: 1}
    assert alice.statistics.pending_calls == 1
    assert alice.next_deadline == START + 7
    alice.receive(answer, "bob", sid=announced_sid)
    assert alice.events() == [outcome]


def test_r7_an_answer_to_no_call_is_ignored() -> None:
    alice = Participant()
    alice.call()
    alice.receive(Response("unknown", "x"))
    assert alice.events() == [PacketIgnored(IgnoreReason.UNKNOWN_CALL, "bob")]
    assert alice.statistics.pending_calls == 1


def test_r7_a_late_answer_is_only_counted_whoever_sends_it() -> None:
    alice = Participant()
    call = alice.call()
    alice.cancel(call)
    alice.receive(Response(call, "x"))
    alice.receive(Ack(call))
    assert alice.events() == []
    assert alice.ignored == {IgnoreReason.LATE: 2}


# --- R8: the size of a request


@pytest.mark.parametrize("payload", ["", "x" * V1_LIMIT, "é" * (V1_LIMIT // 2)], ids=short)
def test_r8_a_payload_of_15360_bytes_is_sent(payload: str) -> None:
    alice = Participant()
    call = alice.call(payload=payload)
    assert alice.sent() == [Request(call, "greet", payload, 8_000, 1)]


@pytest.mark.parametrize(
    "payload", ["x" * (V1_LIMIT + 1), "é" * (V1_LIMIT // 2) + "x", "😀" * 4_000], ids=short
)
def test_r8_a_payload_over_15360_bytes_is_1402_and_sends_nothing(payload: str) -> None:
    alice = Participant()
    call = alice.call(payload=payload)
    assert alice.events() == [CallFailed(call, 1402, MESSAGES[1402], "")]
    assert alice.packets() == []
    assert alice.statistics.pending_calls == 0


# --- R9: the recipient goes away


@pytest.mark.parametrize(
    ("announced", "what", "fails"),
    [
        ("PA_1", lambda alice: alice.left("bob"), True),
        ("PA_1", lambda alice: alice.left("bob", "PA_1"), True),
        ("PA_1", lambda alice: alice.left("bob", "PA_0"), False),
        ("PA_1", lambda alice: alice.joined("bob", "PA_2"), True),
        ("PA_1", lambda alice: alice.joined("bob", "PA_1"), False),
        ("PA_1", lambda alice: alice.joined("bob"), False),
        ("", lambda alice: alice.joined("bob", "PA_1"), False),
        ("", lambda alice: alice.left("bob", "PA_1"), True),
        (None, lambda alice: alice.left("bob"), True),
        (None, lambda alice: alice.left("bob", "PA_1"), True),
        (None, lambda alice: alice.joined("bob", "PA_1"), False),
    ],
)
@pytest.mark.parametrize("acked", [False, True])
def test_r9_r40_a_recipient_that_leaves_or_comes_back_fails_its_calls_at_once(
    announced: str | None, what: Callable[[Participant], None], fails: bool, acked: bool
) -> None:
    alice = Participant()
    if announced is not None:
        alice.joined("bob", announced)
    alice.joined("carol", "PA_9")
    first, to_carol, second = alice.call("bob"), alice.call("carol"), alice.call("bob")
    if acked:
        alice.receive(Ack(first))
        alice.events()
    what(alice)
    assert failures(alice.events()) == ([(first, 1503), (second, 1503)] if fails else [])
    alice.receive(Response(to_carol, "x"), "carol")
    assert alice.events() == [CallSucceeded(to_carol, "x")]


@pytest.mark.parametrize("how", ["cancelled", "answered", "refused"])
def test_r9_a_call_is_found_when_its_recipient_leaves_after_1000_calls_to_others(how: str) -> None:
    """Recipients without calls are forgotten now and then; those with calls are not."""
    alice = Participant()
    first = alice.call("bob")
    for number in range(1_000):
        call = alice.call(f"peer-{number}", payload="x" * (15_361 if how == "refused" else 1))
        if how == "cancelled":
            alice.cancel(call)
        else:
            alice.receive(Response(call, "x"), f"peer-{number}")
        alice.packets()
    second = alice.call("bob")
    alice.events()
    alice.left("bob")
    assert failures(alice.events()) == [(first, 1503), (second, 1503)]


@pytest.mark.parametrize("end", [Participant.disconnected, Participant.close])
def test_r9_without_a_connection_all_calls_fail_at_once(end: Callable[[Participant], None]) -> None:
    alice = Participant()
    calls = [alice.call("bob"), alice.call("carol"), alice.call("bob")]
    end(alice)
    assert failures(alice.events()) == [(call, 1503) for call in calls]
    assert alice.next_deadline is None


# --- R10: a packet that could not be sent


def test_r10_a_request_that_could_not_be_sent_is_1505_at_once() -> None:
    alice = Participant()
    one, two = alice.call(), alice.call()
    packets = alice.packets()
    alice.send_failed(packets[1])
    assert failures(alice.events()) == [(two, 1505)]
    alice.send_failed(packets[1])
    assert alice.events() == []
    alice.send_failed(packets[0])
    assert failures(alice.events()) == [(one, 1505)]


def test_r10_an_acked_request_that_is_reported_as_not_sent_is_1505_too() -> None:
    alice = Participant()
    call = alice.call()
    [packet] = alice.packets()
    alice.receive(Ack(call))
    alice.send_failed(packet)
    assert alice.events() == [CallAcknowledged(call), CallFailed(call, 1505, MESSAGES[1505], "")]


def test_r10_a_request_of_a_call_that_is_over_is_a_no_op() -> None:
    alice = Participant(new_id=lambda: "same")
    alice.call()
    [old] = alice.packets()
    alice.cancel("same")
    alice.send_failed(old)
    alice.call()
    alice.send_failed(old)
    assert alice.events() == []
    assert alice.statistics.pending_calls == 1


def test_r10_a_packet_of_another_engine_is_a_no_op() -> None:
    alice, other = Participant(), Participant(new_id=counting_ids("f"))
    alice.call()
    other.call()
    [foreign] = other.packets()
    before = alice.appearance
    alice.send_failed(foreign)
    assert (alice.events(), alice.appearance) == ([], before)


def test_r10_an_answer_that_could_not_be_sent_becomes_one_error_packet() -> None:
    alice = Participant()
    alice.receive(request("r1"))
    alice.receive(request("r2"))
    alice.respond(1)
    alice.respond(2)
    _ack1, _ack2, _answer1, answer2 = alice.packets()
    alice.send_failed(answer2)
    [failed] = alice.packets()
    assert failed.destination_identity == "bob"
    assert failed.kind is PacketKind.ERROR
    alice.send_failed(answer2)
    alice.send_failed(failed)
    assert alice.packets() == []


def test_r10_what_stands_in_for_an_answer_is_1505() -> None:
    alice = Participant()
    alice.receive(request("r1"))
    alice.respond(alice.invocation().invocation_id)
    alice.send_failed(alice.packets()[1])
    assert alice.sent() == [error("r1", 1505)]


@pytest.mark.parametrize("at", [0, 1])
def test_r10_an_ack_or_an_error_that_could_not_be_sent_is_ignored(at: int) -> None:
    alice = Participant()
    alice.receive(request("r1", "unknown"))
    packet = alice.packets()[at]
    assert packet.kind is (PacketKind.ACK, PacketKind.ERROR)[at]
    alice.send_failed(packet)
    assert (alice.events(), alice.packets()) == ([], [])


def test_r10_an_answer_whose_caller_has_left_gets_no_error_packet() -> None:
    alice = Participant()
    alice.receive(request("r1"))
    alice.respond(alice.invocation().invocation_id)
    answer = alice.packets()[1]
    alice.left("bob")
    alice.send_failed(answer)
    assert alice.packets() == []


def test_r10_ids_that_a_peer_chooses_do_not_name_what_failed() -> None:
    """Bob asks under the id of our own call to him; his ack and answer fail, our call goes on."""
    alice = Participant()
    call = alice.call()
    alice.packets()
    alice.receive(request(call))
    alice.respond(alice.invocation().invocation_id)
    ack, answer = alice.packets()
    alice.send_failed(ack)
    alice.send_failed(answer)
    assert alice.sent() == [error(call, 1505)]
    assert alice.events() == []
    assert alice.statistics.pending_calls == 1


def test_r10_an_id_that_is_used_again_does_not_name_what_failed() -> None:
    alice = Participant(config=RpcConfig(remembered_requests=1))
    answers = []
    for request_id in ("r1", "r2", "r1"):
        alice.receive(request(request_id))
        alice.respond(alice.invocation().invocation_id)
        answers.append(alice.packets()[1])
    alice.send_failed(answers[0])
    assert alice.packets() == []
    alice.send_failed(answers[2])
    assert alice.sent() == [error("r1", 1505)]


def test_r10_two_callers_may_use_the_same_id() -> None:
    alice = Participant()
    answers = []
    for caller in ("bob", "carol"):
        alice.receive(request("r1"), caller)
        alice.respond(alice.invocation().invocation_id)
        answers.append(alice.packets()[1])
    alice.send_failed(answers[1])
    assert [packet.destination_identity for packet in alice.packets()] == ["carol"]
    alice.send_failed(answers[0])
    assert [packet.destination_identity for packet in alice.packets()] == ["bob"]


# --- R11: the version of the server


@pytest.mark.parametrize(
    "version",
    [
        "1.7.9",
        "1.7.99999999999999999999",
        "0.99.99",
        "0.0.0",
        "1.7.9-rc1",
        "1.7.9+build",
        "1.7.9-",
        "1.7.9-rc\n1",
        "01.007.09",
    ],
)
def test_r11_a_server_below_1_8_0_is_1403(version: str) -> None:
    alice = Participant()
    alice.connected(server_version=version)
    call = alice.call()
    assert failures(alice.events()) == [(call, 1403)]
    assert alice.packets() == []


@pytest.mark.parametrize(
    "version",
    [
        None,
        "",
        "1.8.0",
        "1.8.0-rc1",
        "1.8.0+build",
        "1.10.0",
        "2.0.0",
        "01.8.0",
        "10000000000000000000000.0.0",
        "1.7",
        "1.7.",
        "1..9",
        "1.7.9.1",
        "1.7.9rc1",
        "v1.7.9",
        " 1.7.9",
        "1.7.9 ",
        "1.7.9\n",
        "+1.7.9",
        "-1.7.9",
        "1_0.7.9",
        "\uff11.7.9",
        "\u0661.7.9",
        "unknown",
    ],
)
def test_r11_every_other_server_goes_through(version: str | None) -> None:
    alice = Participant()
    alice.connected(server_version=version)
    alice.call()
    assert alice.events() == []
    assert len(alice.packets()) == 1


def test_r11_the_version_can_be_learned_again() -> None:
    alice = Participant()
    alice.connected(server_version="1.7.9")
    alice.connected(server_version="1.8.0")
    alice.call()
    assert alice.events() == []


# --- R12: who can be called


def test_r12_a_call_to_oneself_is_1401() -> None:
    alice = Participant()
    call = alice.call("alice")
    assert failures(alice.events()) == [(call, 1401)]


def test_r12_with_a_complete_list_an_absent_destination_is_1401() -> None:
    alice = Participant()
    alice.connected(participants_complete=True)
    alice.joined("bob")
    alice.call("bob")
    assert alice.events() == []
    call = alice.call("carol")
    assert failures(alice.events()) == [(call, 1401)]
    alice.cancel(counting_id(1))
    alice.left("bob")
    call = alice.call("bob")
    assert failures(alice.events()) == [(call, 1401)]
    alice.connected(participants_complete=False)
    alice.call("bob")
    assert alice.events() == []


@pytest.mark.parametrize(
    ("destination", "method"),
    [("", "greet"), ("bob", ""), ("bob", "m" * 65), ("bob", "é" * 32 + "m"), ("b" * 257, "greet")],
    ids=short,
)
def test_r12_an_impossible_destination_or_method_raises(destination: str, method: str) -> None:
    alice = Participant()
    with pytest.raises(LocalProtocolError):
        alice.call(destination, method)


@pytest.mark.parametrize("method", ["m", "m" * 64, "é" * 32, "😀" * 16], ids=short)
def test_r12_a_method_of_64_bytes_is_sent(method: str) -> None:
    alice = Participant()
    call = alice.call("b" * 256, method)
    assert alice.sent() == [Request(call, method, "hi", 8_000, 1)]


# --- R13: ids


def test_r13_ids_come_from_the_injected_source() -> None:
    ids = iter(["one", "two"])
    alice = Participant(new_id=lambda: next(ids))
    assert [alice.call(), alice.call()] == ["one", "two"]
    assert [packet.request_id for packet in alice.packets()] == ["one", "two"]


def test_r13_an_id_that_is_pending_raises_and_changes_nothing() -> None:
    alice = Participant(new_id=lambda: "same")
    alice.call()
    before = alice.appearance
    with pytest.raises(LocalProtocolError):
        alice.engine.call("carol", "other", "payload", now=START + 5)
    assert alice.appearance == before
    assert alice.events() == []
    alice.receive(Response("same", "x"))
    assert alice.events() == [CallSucceeded("same", "x")]
    alice.call()
    assert alice.next_deadline == START + 7


@pytest.mark.parametrize("bad_id", ["", "x" * 129, "\ud800", 7, None], ids=short)
def test_r13_an_id_that_cannot_travel_raises_and_changes_nothing(bad_id: Any) -> None:
    alice = Participant(new_id=lambda: bad_id)
    before = alice.appearance
    with pytest.raises(LocalProtocolError):
        alice.call()
    assert (alice.events(), alice.appearance) == ([], before)


def test_r13_random_ids_are_lower_case_uuid4_texts() -> None:
    new_id = random_ids()
    ids = [new_id() for _ in range(600)]
    uuid4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
    assert all(uuid4.fullmatch(request_id) for request_id in ids)
    assert len(set(ids)) == 600


# --- what a responder's error becomes at the caller: R18, R34


@pytest.mark.parametrize("code", MESSAGES)
def test_r18_a_known_code_with_an_empty_message_arrives_with_its_standard_message(
    code: int,
) -> None:
    alice = Participant()
    call = alice.call()
    alice.receive(ErrorResponse(call, code, "", ""))
    assert alice.events() == [CallFailed(call, code, MESSAGES[code], "")]


@pytest.mark.parametrize(
    ("message", "data", "shown_message", "shown_data"),
    [
        ("m" * 256, "d" * V1_LIMIT, "m" * 256, "d" * V1_LIMIT),
        ("m" * 257, "d" * (V1_LIMIT + 1), "m" * 256, "d" * V1_LIMIT),
        ("m" * 255 + "é", "d" * (V1_LIMIT - 1) + "é", "m" * 255, "d" * (V1_LIMIT - 1)),
        ("😀" * 65, "😀" * 3_841, "😀" * 64, "😀" * 3_840),
        ("", "", "", ""),
    ],
    ids=short,
)
@pytest.mark.parametrize("code", [0, 42, 2**32 - 1])
def test_r18_an_error_that_arrives_is_cut_on_character_boundaries(
    code: int, message: str, data: str, shown_message: str, shown_data: str
) -> None:
    alice = Participant()
    call = alice.call()
    alice.receive(ErrorResponse(call, code, message, data))
    assert alice.events() == [CallFailed(call, code, shown_message, shown_data)]


@pytest.mark.parametrize("fields", [{}, {"compressed_payload": b"x"}, {"compressed_payload": b""}])
def test_r34_a_response_without_a_value_we_can_read_is_1500(fields: dict[str, bytes]) -> None:
    alice = Participant()
    call = alice.call()
    alice.receive(raw_packet(rpc_response={"request_id": call, **fields}))
    assert failures(alice.events()) == [(call, 1500)]


# --- R33: whether a call would be misuse, without making it


WRONG_CALLS: list[dict[str, Any]] = [
    *({"destination_identity": bad} for bad in ("", "b" * 257, "\ud800", b"bob", None)),
    *({"method": bad} for bad in ("", "m" * 65, "\ud800", b"greet", 7)),
    *({"payload": bad} for bad in ("\ud800", b"hi", None)),
    *({"response_timeout": bad} for bad in (0, -1, float("nan"), float("inf"), "1")),
    *({"ack_timeout": bad} for bad in (0, -1, float("nan"), float("inf"), "1")),
]
RIGHT_CALLS: list[dict[str, Any]] = [
    {},
    {"destination_identity": "alice"},
    {"destination_identity": "b" * 256, "method": "m" * 64, "payload": "x" * 100_000},
    {"response_timeout": 5e-324, "ack_timeout": 1e308},
    {"response_timeout": 3, "ack_timeout": None},
]


@pytest.mark.parametrize("wrong", WRONG_CALLS, ids=short)
def test_r33_check_call_raises_what_call_would_raise_and_changes_nothing(
    wrong: dict[str, Any],
) -> None:
    alice = Participant()
    arguments = {"destination_identity": "bob", "method": "greet", "payload": "hi", **wrong}
    before = alice.appearance
    with pytest.raises(LocalProtocolError) as checked:
        alice.engine.check_call(**arguments)
    with pytest.raises(LocalProtocolError) as called:
        alice.engine.call(**arguments, now=START)
    assert str(checked.value) == str(called.value)
    assert alice.appearance == before


@pytest.mark.parametrize("right", RIGHT_CALLS, ids=short)
def test_r33_check_call_raises_for_nothing_that_comes_as_an_event(right: dict[str, Any]) -> None:
    """Nor does it ask for ids, or look at the engine's state."""
    alice = Participant(new_id=lambda: "", config=RpcConfig(max_untaken_events=1))
    alice.receive(b"\xff")
    arguments = {"destination_identity": "bob", "method": "greet", "payload": "hi", **right}
    before = alice.appearance
    alice.engine.check_call(**arguments)
    alice.close()
    alice.engine.check_call(**arguments)
    assert alice.appearance == before


# --- R10: what the host hands back is recognized by its token


@pytest.mark.parametrize("data", [b"", b"\xff", b"another packet"])
def test_r10_of_the_packet_that_is_handed_back_the_data_is_not_read(data: bytes) -> None:
    """A transport may have changed it, or let go of it."""
    alice = Participant()
    alice.joined("bob", "PA_1", client_protocol=1)
    for payload in ("x" * 45_000, "short"):
        call = alice.call(payload=payload)
        header, chunk = (alice.engine.next_packet() for _ in range(2))
        assert header is not None
        assert chunk is not None
        stream_id = parsed(header).stream_header.stream_id
        assert len(stream_id) == 36
        alice.send_failed(chunk._replace(data=data))
        [trailer] = alice.packets()
        assert parsed(trailer).stream_trailer.stream_id == stream_id
        assert parsed(trailer).stream_trailer.reason == "cancelled"
        assert failures(alice.events()) == [(call, 1505)]


def test_r10_the_trailer_of_a_failed_answer_has_the_engine_s_stream_id_too() -> None:
    alice = Participant()
    alice.joined("bob", "PA_1", client_protocol=1)
    for payload in ("x" * 45_000, "x" * 15_361):
        alice.receive(request(f"r{len(payload)}"))
        alice.respond(alice.invocation().invocation_id, payload)
        _ack, header, chunk = (alice.engine.next_packet() for _ in range(3))
        assert header is not None
        assert chunk is not None
        alice.send_failed(chunk._replace(data=b""))
        refusal, trailer = alice.packets()
        assert refusal.kind is PacketKind.ERROR
        stream_id = parsed(header).stream_header.stream_id
        assert parsed(trailer).stream_trailer.stream_id == stream_id


def test_r10_another_kind_or_token_on_the_packet_is_another_s() -> None:
    alice = Participant()
    call = alice.call()
    [packet] = alice.packets()
    for token in (0, packet.token + 1, -1):
        alice.send_failed(packet._replace(token=token))
    assert alice.events() == []
    alice.send_failed(packet._replace(data=b"", destination_identity="x"))
    assert failures(alice.events()) == [(call, 1505)]
