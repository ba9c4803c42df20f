"""R9 and R31: for a while after their recipient has left, calls can still be answered."""

from collections.abc import Callable
from typing import Any

import pytest
from helpers import MESSAGES, START, Participant, error, failures, just_before
from streams import (
    PACKED,
    expect_nothing_left,
    raw_deflate,
    request_header,
    response_header,
    shape,
    stream,
    take,
    take_turns,
)

from rpcproto import (
    CallAcknowledged,
    CallFailed,
    CallSucceeded,
    IgnoreReason,
    InvocationReceived,
    LocalProtocolError,
    PacketIgnored,
    RpcConfig,
)
from rpcproto.wire import Ack, ErrorResponse, OutgoingMessage, Response, StreamChunk, StreamTrailer

GRACE = 2.0
CONFIG = RpcConfig(departure_grace=GRACE)

ANSWERS: dict[str, Callable[[str], list[OutgoingMessage]]] = {
    "packet": lambda call: [Response(call, "done")],
    "error": lambda call: [ErrorResponse(call, 2001, "no", "")],
    "chunked": lambda call: stream(response_header(call), b"do", b"ne"),
    "inline": lambda call: [response_header(call, inline_content=b"done")],
    "compressed": lambda call: stream(response_header(call, **PACKED), raw_deflate(b"done")),
    "inline compressed": lambda call: [
        response_header(call, **PACKED, inline_content=raw_deflate(b"done"))
    ],
}

each_answer = pytest.mark.parametrize("form", ANSWERS)
each_departure = pytest.mark.parametrize("departure", ["left", "old news", "another sid"])
each_sid = pytest.mark.parametrize("sid", ["PA_1", ""], ids=["with its sid", "without a sid"])


def alice_of(config: RpcConfig = CONFIG, sid: str = "PA_1", protocol: int = 0) -> Participant:
    """Alice, and bob in the same room."""
    alice = Participant(config=config)
    alice.joined("bob", sid, client_protocol=protocol)
    return alice


def goes(alice: Participant, departure: str) -> None:
    """Bob leaves, or is there again under another sid."""
    if departure == "another sid":
        alice.joined("bob", "PA_2")
    else:
        alice.left("bob", "PA_1" if departure == "old news" else "")


def end_of(call: str, form: str) -> list[CallSucceeded | CallFailed]:
    if form == "error":
        return [CallFailed(call, 2001, "no", "")]
    return [CallSucceeded(call, "done")]


# --- R9: when it ends


@each_departure
@pytest.mark.parametrize("grace", [0.125, GRACE, 5.0])
def test_r9_calls_fail_when_the_grace_has_passed(grace: float, departure: str) -> None:
    alice = alice_of(RpcConfig(departure_grace=grace))
    first, second = alice.call(), alice.call()
    to_carol = alice.call("carol")
    alice.now += 1
    goes(alice, departure)
    assert alice.events() == []
    assert alice.next_deadline == START + 1 + grace
    alice.time_is(just_before(START + 1 + grace))
    assert alice.events() == []
    alice.time_is(START + 1 + grace)
    assert failures(alice.events()) == [(first, 1503), (second, 1503)]
    alice.receive(Response(to_carol, "x"), "carol")
    assert alice.events() == [CallSucceeded(to_carol, "x")]
    assert alice.next_deadline is None


def test_r9_a_host_that_comes_late_hears_of_them_in_the_order_of_their_deadlines() -> None:
    alice = alice_of()
    first = alice.call(response_timeout=1.5, ack_timeout=1)
    to_carol = alice.call("carol", response_timeout=1.75)
    second = alice.call()
    alice.left("bob")
    alice.time_is(START + 1_000)
    assert failures(alice.events()) == [(first, 1503), (to_carol, 1502), (second, 1503)]


@pytest.mark.parametrize(
    ("timeouts", "ends_after"),
    [
        ({"ack_timeout": 1.5, "response_timeout": 10}, 1.5),
        ({"ack_timeout": 10, "response_timeout": 1.5}, 1.5),
        ({"ack_timeout": 2, "response_timeout": 10}, 2),
        ({"ack_timeout": 10, "response_timeout": 2}, 2),
        ({"ack_timeout": 10, "response_timeout": 10}, 2),
    ],
)
def test_r9_at_a_deadline_of_its_own_that_comes_before_a_call_fails_with_1503_as_well(
    timeouts: dict[str, Any], ends_after: float
) -> None:
    alice = alice_of()
    call = alice.call(**timeouts)
    alice.left("bob")
    assert alice.next_deadline == START + ends_after
    alice.time_is(just_before(START + ends_after))
    assert alice.events() == []
    alice.time_is(START + ends_after)
    assert failures(alice.events()) == [(call, 1503)]
    assert alice.next_deadline is None


@pytest.mark.parametrize(
    ("departure", "sid"),
    [("left", ""), ("left", "PA_1"), ("old news", ""), ("another sid", "PA_1")],
)
def test_r9_an_ack_in_grace_ends_the_ack_window(departure: str, sid: str) -> None:
    alice = alice_of()
    call = alice.call(ack_timeout=1)
    goes(alice, departure)
    alice.receive(Ack(call), sid=sid)
    assert alice.events() == [CallAcknowledged(call)]
    assert alice.next_deadline == START + GRACE
    alice.receive(Ack(call), sid=sid)
    assert alice.ignored == {IgnoreReason.REPEAT: 1}
    alice.time_is(START + GRACE)
    assert failures(alice.events()) == [(call, 1503)]


@pytest.mark.parametrize("acked", [False, True])
def test_r9_with_a_grace_of_0_a_call_fails_within_the_departure_itself(acked: bool) -> None:
    alice = alice_of(RpcConfig(departure_grace=0))
    call = alice.call()
    if acked:
        alice.receive(Ack(call))
        alice.events()
    alice.left("bob")
    assert failures(alice.events()) == [(call, 1503)]
    assert alice.next_deadline is None
    alice.receive(Response(call, "late"))
    assert alice.ignored == {IgnoreReason.LATE: 1}


@pytest.mark.parametrize("end", [Participant.disconnected, Participant.close])
def test_r9_without_a_connection_there_is_no_grace(end: Callable[[Participant], None]) -> None:
    alice = alice_of()
    in_grace = alice.call()
    alice.left("bob")
    other = alice.call("carol")
    alice.now += 1
    end(alice)
    assert failures(alice.events()) == [(in_grace, 1503), (other, 1503)]
    assert alice.next_deadline is None
    alice.engine.connected(now=alice.now)
    alice.time_is(START + 1_000)
    assert alice.events() == []


# --- R9, R31: what counts until then


@each_sid
@pytest.mark.parametrize("departure", ["left", "old news"])
@each_answer
def test_r9_r31_any_answer_in_grace_completes_its_call(form: str, departure: str, sid: str) -> None:
    alice = alice_of()
    call = alice.call()
    alice.packets()
    alice.receive(Ack(call), sid="PA_1")
    alice.events()
    goes(alice, departure)
    alice.now += just_before(GRACE)
    for message in ANSWERS[form](call):
        alice.receive(message, sid=sid)
    assert alice.events() == end_of(call, form)
    assert alice.ignored == {}
    expect_nothing_left(alice)


@each_answer
def test_r9_under_the_sid_that_was_called_an_answer_counts_when_its_sender_is_back(
    form: str,
) -> None:
    alice = alice_of()
    call = alice.call()
    alice.packets()
    alice.joined("bob", "PA_2")
    for message in ANSWERS[form](call):
        alice.receive(message, sid="PA_1")
    assert [event for event in alice.events() if not isinstance(event, CallAcknowledged)] == end_of(
        call, form
    )
    expect_nothing_left(alice)


@pytest.mark.parametrize("form", ["chunked", "compressed"])
def test_r9_r31_a_response_stream_that_began_before_the_departure_is_read_on(form: str) -> None:
    alice = alice_of()
    call = alice.call()
    alice.packets()
    header, *rest = ANSWERS[form](call)
    alice.receive(header, sid="PA_1")
    alice.left("bob")
    assert alice.statistics.open_streams_in == 1
    for at, message in enumerate(rest):
        alice.receive(message, sid="" if at else "PA_1")
    assert alice.events() == [CallAcknowledged(call), CallSucceeded(call, "done")]
    expect_nothing_left(alice)


@each_departure
def test_r9_nothing_counts_once_the_grace_is_over(departure: str) -> None:
    alice = alice_of()
    call = alice.call()
    alice.receive(response_header(call), sid="PA_1")
    goes(alice, departure)
    alice.time_is(START + GRACE)
    assert alice.events()[1:] == [CallFailed(call, 1503, MESSAGES[1503], "")]
    assert alice.statistics.open_streams_in == 0
    for message in (StreamChunk("s1", 0, b"x"), StreamTrailer("s1", ""), Response(call, "x")):
        alice.receive(message, sid="PA_1")
    assert alice.ignored == {IgnoreReason.UNKNOWN_STREAM: 2, IgnoreReason.LATE: 1}
    assert alice.events() == []


@pytest.mark.parametrize(
    ("sender", "sid"), [("carol", ""), ("carol", "PA_1"), ("bob", "PA_2"), ("", "PA_1")]
)
def test_r7_r9_in_grace_too_only_the_participant_that_was_called_can_answer(
    sender: str, sid: str
) -> None:
    alice = alice_of()
    call = alice.call()
    alice.left("bob")
    for message in (Ack(call), Response(call, "x"), response_header(call, inline_content=b"x")):
        alice.receive(message, sender, sid=sid)
    assert alice.events() == [PacketIgnored(IgnoreReason.WRONG_SENDER, sender)] * 3
    alice.receive(Response(call, "done"), sid="PA_1")
    assert alice.events() == [CallSucceeded(call, "done")]


def test_r24_a_sid_that_another_has_by_now_does_not_answer_calls_in_grace() -> None:
    alice = alice_of()
    call = alice.call()
    alice.left("bob")
    alice.joined("carol", "PA_1")
    alice.receive(Response(call, "x"), sid="PA_1")
    assert alice.events() == [PacketIgnored(IgnoreReason.IMPERSONATION, "bob")]


# --- R9, R31: without a sid, and the identity announced again


@each_answer
@pytest.mark.parametrize("again", ["PA_2", ""])
def test_r9_r31_without_a_sid_nothing_counts_when_the_identity_is_announced_again(
    form: str, again: str
) -> None:
    alice = alice_of()
    call = alice.call()
    alice.left("bob")
    alice.joined("bob", again)
    for message in ANSWERS[form](call):
        alice.receive(message)
    assert alice.statistics.pending_calls == 1
    assert alice.ignored[IgnoreReason.WRONG_SENDER] == 1
    alice.events()
    for message in ANSWERS[form](call):
        alice.receive(message, sid="PA_1")
    assert alice.events()[-1:] == end_of(call, form)


@pytest.mark.parametrize("again", ["PA_2", ""])
def test_r31_the_rest_of_a_response_stream_needs_its_sid_when_the_identity_is_back(
    again: str,
) -> None:
    alice = alice_of()
    call = alice.call()
    alice.receive(response_header(call), sid="PA_1")
    alice.left("bob")
    alice.receive(StreamChunk("s1", 0, b"do"))
    alice.joined("bob", again)
    alice.receive(StreamChunk("s1", 1, b"xx"))
    alice.receive(StreamTrailer("s1", ""))
    assert alice.ignored == {IgnoreReason.UNKNOWN_STREAM: 2}
    alice.receive(StreamChunk("s1", 1, b"ne"), sid="PA_1")
    alice.receive(StreamTrailer("s1", ""), sid="PA_1")
    assert alice.events() == [CallAcknowledged(call), CallSucceeded(call, "done")]


@pytest.mark.parametrize("announced", [False, True])
@pytest.mark.parametrize("sid", ["PA_1", ""])
@pytest.mark.parametrize("again", ["PA_1", ""])
def test_r9_where_no_sid_was_known_answers_count_until_the_identity_is_announced(
    announced: bool, sid: str, again: str
) -> None:
    alice = Participant(config=CONFIG)
    if announced:
        alice.joined("bob")
    first, second = alice.call(), alice.call()
    alice.left("bob")
    alice.receive(Response(first, "done"), sid=sid)
    assert alice.events() == [CallSucceeded(first, "done")]
    alice.joined("bob", again)
    alice.receive(Ack(second), sid=sid)
    alice.receive(Response(second, "done"), sid=sid)
    assert alice.events() == [PacketIgnored(IgnoreReason.WRONG_SENDER, "bob")] * 2
    alice.time_is(START + GRACE)
    assert failures(alice.events()) == [(second, 1503)]


@pytest.mark.parametrize("again", ["PA_2", ""])
@pytest.mark.parametrize("announced", [False, True])
@pytest.mark.parametrize("sid", ["PA_2", ""])
def test_r9_where_no_sid_was_known_a_newcomer_does_not_continue_a_response(
    announced: bool, again: str, sid: str
) -> None:
    alice = Participant(config=CONFIG)
    if announced:
        alice.joined("bob")
    call = alice.call()
    alice.receive(response_header(call))
    alice.receive(StreamChunk("s1", 0, b"x"))
    alice.left("bob")
    alice.receive(StreamChunk("s1", 1, b"x"))
    alice.joined("bob", again)
    alice.receive(StreamChunk("s1", 2, b"x"), sid=sid)
    alice.receive(StreamTrailer("s1", ""), sid=sid)
    assert alice.ignored == {IgnoreReason.UNKNOWN_STREAM: 2}
    assert alice.statistics.buffered_bytes == 0
    alice.time_is(START + GRACE)
    assert alice.events() == [CallAcknowledged(call), CallFailed(call, 1503, MESSAGES[1503], "")]


def test_r9_a_call_in_grace_adopts_no_sid() -> None:
    """Compare R40: a call to who is still here does."""
    alice = Participant(config=CONFIG)
    alice.joined("bob")
    gone = alice.call()
    alice.left("bob")
    alice.joined("bob")
    here = alice.call()
    alice.joined("bob", "PA_2")
    for call in (gone, here):
        alice.receive(Ack(call), sid="PA_2")
    assert alice.events() == [
        PacketIgnored(IgnoreReason.WRONG_SENDER, "bob"),
        CallAcknowledged(here),
    ]


@pytest.mark.parametrize("again", ["PA_1", "PA_2", ""])
def test_r9_nothing_that_joins_later_lifts_the_grace(again: str) -> None:
    alice = alice_of()
    call = alice.call()
    alice.left("bob")
    alice.now += 1
    alice.joined("bob", again)
    alice.joined("bob", "PA_1" if again != "PA_2" else "")
    new = alice.call()
    assert alice.next_deadline == START + GRACE
    alice.time_is(START + GRACE)
    assert failures(alice.events()) == [(call, 1503)]
    alice.receive(Response(new, "done"))
    assert alice.events() == [CallSucceeded(new, "done")]


def test_r9_back_under_its_sid_it_can_still_answer_what_it_was_asked_before() -> None:
    alice = alice_of()
    call = alice.call()
    alice.left("bob")
    alice.joined("bob", "PA_1")
    alice.receive(Response(call, "done"))  # without a sid it has the announced one (R23)
    assert alice.events() == [CallSucceeded(call, "done")]


def test_r9_a_newcomer_that_is_not_recorded_is_not_announced() -> None:
    """R40: beyond `max_participants` it is as if it had not come."""
    alice = alice_of(RpcConfig(departure_grace=GRACE, max_participants=1))
    call = alice.call()
    alice.left("bob")
    alice.joined("carol")
    alice.joined("bob", "PA_2")
    alice.receive(Response(call, "done"))
    assert alice.events() == [CallSucceeded(call, "done")]


# --- R9: an identity that leaves twice


def test_r9_calls_to_an_identity_that_leaves_twice_have_a_grace_each() -> None:
    alice = alice_of()
    first = alice.call()
    alice.left("bob")
    alice.now += 1
    alice.joined("bob", "PA_2")
    second = alice.call()
    alice.left("bob")
    third = alice.call()
    for call, sid in ((first, "PA_2"), (second, "PA_1")):
        alice.receive(Ack(call), sid=sid)
    assert alice.events() == [PacketIgnored(IgnoreReason.WRONG_SENDER, "bob")] * 2
    for call, sid in ((first, "PA_1"), (second, ""), (third, "PA_3")):
        alice.receive(Ack(call), sid=sid)
    assert alice.events() == [CallAcknowledged(call) for call in (first, second, third)]
    alice.time_is(START + GRACE)
    assert failures(alice.events()) == [(first, 1503)]
    alice.time_is(START + 1 + GRACE)
    assert failures(alice.events()) == [(second, 1503)]
    assert alice.next_deadline == START + 11


@pytest.mark.parametrize("sid", ["PA_1", ""])
def test_r9_an_identity_may_leave_again_without_having_come_back(sid: str) -> None:
    alice = alice_of(sid=sid)
    first = alice.call()
    alice.left("bob")
    second = alice.call()
    alice.now += 1
    alice.left("bob")
    for call in (first, second):
        alice.receive(Ack(call))
    assert alice.events() == [CallAcknowledged(first), CallAcknowledged(second)]
    alice.time_is(START + GRACE)
    assert failures(alice.events()) == [(first, 1503)]
    alice.receive(Response(second, "done"))
    assert alice.events() == [CallSucceeded(second, "done")]
    assert alice.next_deadline is None


def test_r9_of_several_calls_in_grace_each_ends_by_itself() -> None:
    alice = alice_of()
    calls = [alice.call() for _ in range(4)]
    alice.left("bob")
    alice.receive(Response(calls[1], "done"))
    assert alice.cancel(calls[0])
    alice.receive(response_header(calls[2], inline_content=b"done"))
    assert alice.events() == [CallSucceeded(calls[1], "done"), CallSucceeded(calls[2], "done")]
    alice.time_is(START + GRACE)
    assert failures(alice.events()) == [(calls[3], 1503)]


# --- R9: cancel, a failed send, an answer that fails


def test_r9_a_call_in_grace_can_be_cancelled() -> None:
    alice = alice_of()
    call = alice.call()
    alice.left("bob")
    assert alice.cancel(call)
    assert alice.cancel(call) is False
    assert alice.next_deadline is None
    alice.time_is(START + GRACE)
    assert alice.events() == []


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_r9_r10_a_failed_send_ends_a_call_in_grace_with_1505(protocol: int) -> None:
    alice = alice_of(protocol=protocol)
    call = alice.call()
    [packet, *_] = take(alice, 1)
    alice.left("bob")
    alice.send_failed(packet)
    assert failures(alice.events()) == [(call, 1505)]
    expect_nothing_left(alice)


@pytest.mark.parametrize(
    ("messages", "code", "data"),
    [
        ([StreamChunk("s1", 1, b"x")], 1500, "chunk 0 is missing"),
        ([StreamTrailer("s1", "why")], 1500, "the stream ended early: why"),
        ([StreamChunk("s1", 0, b"\xff")], 1500, "the body is not valid UTF-8"),
        ([StreamChunk("s1", 0, b"x" * 101)], 1504, ""),
    ],
)
@each_sid
def test_r9_r26_an_answer_that_fails_ends_a_call_in_grace_with_its_own_code(
    messages: list[OutgoingMessage], code: int, data: str, sid: str
) -> None:
    alice = alice_of(RpcConfig(departure_grace=GRACE, max_payload_bytes=100))
    call = alice.call()
    alice.left("bob")
    for message in (response_header(call), *messages):
        alice.receive(message, sid=sid)
    assert alice.events() == [CallAcknowledged(call), CallFailed(call, code, MESSAGES[code], data)]
    alice.packets()
    expect_nothing_left(alice)


def test_r9_r28_a_response_that_does_not_grow_fails_a_call_in_grace_with_1500() -> None:
    alice = alice_of(RpcConfig(departure_grace=20, stream_idle_timeout=5))
    call = alice.call(response_timeout=60)
    alice.receive(response_header(call), sid="PA_1")
    alice.left("bob")
    alice.time_is(START + 5)
    assert [event.code for event in alice.events() if isinstance(event, CallFailed)] == [1500]


def test_r9_r47_what_is_left_of_a_response_is_inflated_in_grace() -> None:
    alice = alice_of()
    call = alice.call()
    text = "x" * 3_000_000
    content = raw_deflate(text.encode())
    alice.receive(response_header(call, **PACKED, inline_content=content), sid="PA_1")
    alice.left("bob")
    assert take_turns(alice) == 2
    assert alice.events() == [CallAcknowledged(call), CallSucceeded(call, text)]


# --- R9, R31, R38: what leaves, and what others were about


def test_r9_r38_of_the_request_what_is_not_made_yet_is_dropped_and_no_trailer_follows() -> None:
    alice = alice_of(protocol=1)
    call = alice.call(payload="x" * 45_000)
    assert shape(take(alice, 2)) == "HC"
    alice.left("bob")
    assert alice.packets() == []
    assert alice.statistics.waiting_bytes == 0
    assert alice.cancel(call)
    assert alice.packets() == []


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_r9_r38_small_packets_that_are_queued_leave_all_the_same(protocol: int) -> None:
    alice = alice_of(protocol=protocol)
    call = alice.call()
    alice.left("bob")
    assert shape(alice.packets()) == ("r", "HCT", "I")[protocol]
    alice.receive(Response(call, "done"))
    assert alice.events() == [CallSucceeded(call, "done")]


@each_departure
@each_sid
def test_r31_requests_of_who_leaves_are_dropped_at_once(departure: str, sid: str) -> None:
    """Also while calls to it are in grace."""
    alice = alice_of()
    call = alice.call()
    alice.receive(request_header("r1", "s1"), sid="PA_1")
    alice.receive(StreamChunk("s1", 0, b"x"), sid="PA_1")
    alice.receive(response_header(call, "s2"), sid="PA_1")
    goes(alice, departure)
    assert alice.statistics.open_streams_in == 1
    assert alice.statistics.buffered_bytes == 0
    alice.receive(StreamChunk("s1", 1, b"x"), sid=sid)
    assert alice.ignored == {IgnoreReason.UNKNOWN_STREAM: 1}


def test_r31_a_request_without_a_sid_has_none_while_calls_are_in_grace() -> None:
    """Its parts are not taken for parts of an answer under the sid that was called."""
    alice = alice_of()
    call = alice.call()
    alice.left("bob")
    for part in stream(request_header("r1", "s1"), b"first"):
        alice.receive(part)
    assert alice.invocation().payload == "first"
    alice.receive(request_header("r1", "s2"), sid="PA_1")  # under another sid another request
    alice.receive(StreamChunk("s2", 0, b"forged"))
    alice.receive(StreamTrailer("s2", ""))
    assert alice.ignored == {IgnoreReason.UNKNOWN_STREAM: 2}
    alice.receive(StreamChunk("s2", 0, b"second"), sid="PA_1")
    alice.receive(StreamTrailer("s2", ""), sid="PA_1")
    assert alice.invocation().payload == "second"
    alice.receive(Response(call, "done"))
    assert alice.events() == [CallSucceeded(call, "done")]


def test_r31_a_response_without_a_sid_takes_the_place_under_the_sid_that_was_called() -> None:
    """Two streams of one name are one stream, whether their parts say the sid or not."""
    alice = alice_of()
    first, second = alice.call(), alice.call()
    alice.receive(response_header(first, "s1"), sid="PA_1")
    alice.left("bob")
    alice.receive(response_header(second, "s1"))
    assert alice.ignored == {IgnoreReason.REPEAT: 1}
    alice.receive(response_header(second, "s2"))
    alice.receive(StreamChunk("s2", 0, b"done"), sid="PA_1")
    alice.receive(StreamTrailer("s2", ""))
    assert alice.events()[-1] == CallSucceeded(second, "done")


def test_r12_r9_a_new_call_to_who_has_left_is_no_call_in_grace() -> None:
    alice = alice_of()
    alice.connected(participants_complete=True)
    in_grace = alice.call()
    alice.left("bob")
    refused = alice.call()
    assert failures(alice.events()) == [(refused, 1401)]
    alice.connected()
    new = alice.call()
    alice.time_is(START + GRACE)
    assert failures(alice.events()) == [(in_grace, 1503)]
    assert alice.cancel(new)


def test_r1_calls_in_grace_are_pending() -> None:
    alice = alice_of(RpcConfig(departure_grace=GRACE, max_pending_calls=1))
    alice.call()
    alice.left("bob")
    with pytest.raises(LocalProtocolError):
        alice.call("carol")
    alice.time_is(START + GRACE)
    alice.events()
    assert alice.call("carol")


def test_r9_r18_an_error_in_grace_counts_without_its_text_too() -> None:
    alice = alice_of()
    call = alice.call()
    alice.left("bob")
    alice.receive(error(call, 1400, ""))
    assert failures(alice.events()) == [(call, 1400)]


def test_r9_each_participant_that_leaves_has_a_grace_of_its_own() -> None:
    alice = alice_of()
    alice.joined("carol", "PA_9")
    to_bob, to_carol = alice.call(), alice.call("carol")
    alice.left("bob")
    alice.now += 1
    alice.left("carol")
    alice.receive(response_header(to_carol, "s1"), "carol")
    alice.receive(StreamChunk("s1", 0, b"x"), "bob")
    assert alice.ignored == {IgnoreReason.UNKNOWN_STREAM: 1}
    alice.time_is(START + GRACE)
    assert alice.events() == [
        CallAcknowledged(to_carol),
        CallFailed(to_bob, 1503, MESSAGES[1503], ""),
    ]
    alice.receive(StreamTrailer("s1", ""), "carol")
    assert alice.events() == [CallSucceeded(to_carol, "")]


def test_r23_r31_after_the_grace_an_absent_sid_is_not_the_one_that_was_called() -> None:
    """A new call to who is not announced has no sid; its answer comes under the old one."""
    alice = alice_of()
    alice.call()
    alice.left("bob")
    alice.time_is(START + GRACE)
    alice.events()
    new = alice.call()
    alice.receive(response_header(new, "s1"), sid="PA_1")
    alice.receive(StreamTrailer("s1", ""))
    assert alice.ignored == {IgnoreReason.UNKNOWN_STREAM: 1}
    alice.receive(StreamTrailer("s1", ""), sid="PA_1")
    assert alice.events() == [CallAcknowledged(new), CallSucceeded(new, "")]


def test_r31_after_the_grace_what_lacks_a_sid_goes_by_its_own_name_again() -> None:
    alice = alice_of()
    call = alice.call()
    alice.receive(response_header(call, "s1"), sid="PA_1")
    alice.left("bob")
    alice.time_is(START + GRACE)
    alice.events()
    alice.receive(StreamTrailer("s1", ""))
    assert alice.ignored == {IgnoreReason.UNKNOWN_STREAM: 1}
    for part in stream(request_header("r1", "s1"), b"x"):
        alice.receive(part)
    [received] = alice.events()
    assert isinstance(received, InvocationReceived)


def test_r31_an_answer_of_whom_no_sid_was_known_is_read_on_in_grace() -> None:
    alice = alice_of(sid="")
    call = alice.call()
    alice.left("bob")
    for part in stream(response_header(call), b"done"):
        alice.receive(part)
    assert alice.events() == [CallAcknowledged(call), CallSucceeded(call, "done")]


def test_r9_of_all_who_left_without_a_sid_no_answer_is_read_on_once_it_is_announced_again() -> None:
    alice = Participant(config=CONFIG)
    for number in range(2):
        alice.receive(response_header(alice.call(), f"s{number}"))
        alice.left("bob")
    assert alice.statistics.open_streams_in == 2
    alice.joined("bob", "PA_1")
    assert alice.statistics.open_streams_in == 0
