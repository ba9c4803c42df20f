"""R47: an input inflates a mebibyte and no more; the rest waits for `handle_deadline`."""

from collections.abc import Callable

import pytest
from helpers import START, Participant, error, failures, just_before, raw_packet, request
from streams import (
    PACKED,
    TURN,
    Reader,
    expect_nothing_left,
    raw_deflate,
    request_header,
    response_header,
    stream,
    take_turns,
)

from rpcproto import CallAcknowledged, CallSucceeded, IgnoreReason, InvocationReceived, RpcConfig
from rpcproto.wire import Ack, ErrorResponse, OutgoingMessage, Response, StreamChunk, StreamTrailer

MIB = 2**20
KIB = 2**10
SYNC = 2  # zlib.Z_SYNC_FLUSH
EMPTY_BLOCK = b"\x00\x00\x00\xff\xff"
"""Five bytes of DEFLATE that yield nothing."""
BARREN = "compressed input without content"
TOO_MANY = "too many bytes"

each_side = pytest.mark.parametrize("side", ["request", "response"])
each_form = pytest.mark.parametrize("form", ["inline", "chunked"])


def packed(size: int) -> bytes:
    """So much text, compressed to a thousandth of it."""
    return raw_deflate(b"x" * size)


def sends(alice: Participant, sender: str, size: int, request_id: str = "r1") -> None:
    """A request, whole at once in its header."""
    content = packed(size)
    fields = {**PACKED, "total_length": size, "inline_content": content}
    alice.receive(request_header(request_id, f"of {request_id}", timeout="60000", **fields), sender)


def arrived(alice: Participant) -> list[tuple[str, int]]:
    """Request ids and sizes of what was handed over since the last time."""
    events = [event for event in alice.events() if isinstance(event, InvocationReceived)]
    return [(event.request_id, len(event.payload)) for event in events]


def refusals(alice: Participant) -> list[ErrorResponse]:
    return [message for message in alice.sent() if isinstance(message, ErrorResponse)]


def deliver(alice: Reader, form: str, content: bytes) -> None:
    """A whole compressed body in its header, or in chunks of 15,000 bytes."""
    if form == "inline":
        alice.receive(alice.header(**PACKED, inline_content=content))
    else:
        parts = [content[at : at + 15_000] for at in range(0, len(content), 15_000)]
        alice.receive_all(stream(alice.header(**PACKED), *parts))


# --- a mebibyte, and the rest a millisecond later


@each_form
@each_side
@pytest.mark.parametrize(
    ("size", "turns"),
    [(MIB - 1, 0), (MIB, 0), (MIB + 1, 1), (2 * MIB, 1), (2 * MIB + 1, 2), (5 * MIB + 9, 5)],
)
def test_r47_an_input_inflates_a_mebibyte_and_the_rest_comes_in_turns(
    side: str, form: str, size: int, turns: int
) -> None:
    alice = Reader(side)
    deliver(alice, form, packed(size))
    assert take_turns(alice) == turns
    assert alice.now == START + turns * TURN
    assert alice.outcome() == "x" * size


@each_side
def test_r47_after_an_input_a_mebibyte_and_what_waits_are_held(side: str) -> None:
    alice = Reader(side)
    content = packed(3 * MIB)
    alice.receive(alice.header(**PACKED))
    alice.receive(StreamChunk("s1", 0, content))
    waiting = alice.statistics.buffered_bytes - MIB
    assert 0 < waiting < len(content)
    alice.time_is(START + TURN)
    assert 0 < alice.statistics.buffered_bytes - 2 * MIB < waiting
    alice.time_is(START + 2 * TURN)
    assert take_turns(alice) <= 1
    assert alice.statistics.buffered_bytes == 3 * MIB
    alice.receive(StreamTrailer("s1", ""))
    assert alice.outcome() == "x" * 3 * MIB


def test_r47_what_is_left_is_due_a_millisecond_later_and_not_before() -> None:
    alice = Reader("request")
    deliver(alice, "inline", packed(3 * MIB))
    assert alice.next_deadline == START + TURN
    before = alice.appearance
    for early in (START, just_before(START + TURN)):
        alice.time_is(early)
        assert alice.appearance == before
    alice.time_is(START + TURN)
    assert alice.next_deadline == START + 2 * TURN
    before = alice.appearance
    alice.time_is(START + TURN)
    assert alice.appearance == before


def test_r47_a_host_that_comes_late_inflates_no_more_than_one_that_does_not() -> None:
    alice = Reader("request")
    deliver(alice, "inline", packed(3 * MIB))
    alice.time_is(START + 5)
    assert MIB < alice.statistics.buffered_bytes < 3 * MIB
    assert alice.next_deadline == START + 5 + TURN
    assert take_turns(alice) == 1
    assert alice.outcome() == "x" * 3 * MIB


def test_r47_the_turn_counts_from_the_first_input_that_left_something() -> None:
    alice = Participant()
    sends(alice, "bob", 3 * MIB)
    alice.now = START + TURN / 2
    sends(alice, "carol", 3 * MIB)
    assert alice.next_deadline == START + TURN
    alice.time_is(START + TURN)
    assert alice.next_deadline == START + 2 * TURN


@each_side
def test_r47_what_comes_for_a_stream_that_waits_waits_too_and_counts(side: str) -> None:
    alice = Reader(side)
    content = packed(3 * MIB)
    alice.receive(alice.header(**PACKED))
    alice.receive(StreamChunk("s1", 0, content[:-100]))
    before = alice.statistics.buffered_bytes
    alice.receive(StreamChunk("s1", 1, content[-100:]))
    assert alice.statistics.buffered_bytes == before + 100
    assert alice.next_deadline == START + TURN
    alice.receive(StreamTrailer("s1", ""))
    assert alice.outcome() is None
    assert take_turns(alice) == 2
    assert alice.outcome() == "x" * 3 * MIB


def test_r47_each_input_has_a_mebibyte_of_its_own() -> None:
    alice = Participant()
    for number in range(3):
        alice.receive(request_header(f"r{number}", f"s{number}", **PACKED), "bob")
        content = raw_deflate(b"x" * (MIB - 1), SYNC)
        alice.receive(StreamChunk(f"s{number}", 0, content), "bob")
    assert alice.statistics.buffered_bytes == 3 * (MIB - 1)
    assert alice.next_deadline == START + 15


# --- senders in turn


def test_r47_senders_take_turns_however_much_each_has() -> None:
    alice = Participant()
    sends(alice, "mallory", 16 * MIB, "m1")
    sends(alice, "mallory", 16 * MIB - 1, "m2")
    sends(alice, "bob", MIB + 1, "b")
    sends(alice, "carol", MIB + 1, "c")
    alice.time_is(START + TURN)
    assert arrived(alice) == []
    alice.time_is(START + 2 * TURN)
    assert arrived(alice) == [("b", MIB + 1), ("c", MIB + 1)]


def test_r47_what_is_left_of_a_mebibyte_goes_to_the_next_sender() -> None:
    alice = Participant()
    for sender in ("a", "b", "c", "d"):
        sends(alice, sender, MIB + MIB * 2 // 5, sender)
    alice.time_is(START + TURN)
    assert [name for name, _ in arrived(alice)] == ["a", "b"]
    alice.time_is(START + 2 * TURN)
    assert [name for name, _ in arrived(alice)] == ["d", "c"]  # c had a part of a turn before
    assert alice.next_deadline is not None
    assert alice.next_deadline > START + 1


def test_r47_of_one_sender_the_stream_that_waited_first_is_inflated_first() -> None:
    alice = Participant()
    for request_id in ("r1", "r2", "r3"):
        sends(alice, "bob", 2 * MIB, request_id)
    ends = []
    while take_turns(alice, most=1):
        ends += [request_id for request_id, _ in arrived(alice)]
    assert ends == ["r1", "r2", "r3"]


def test_r47_many_senders_are_all_served() -> None:
    alice = Participant()
    for number in range(30):
        sends(alice, f"peer-{number}", MIB + 100 * KIB, f"r{number}")
    assert take_turns(alice) == 3
    assert len(arrived(alice)) == 30


# --- the end of a body that waits


@each_side
def test_r47_l8_a_body_whose_trailer_has_come_is_half_read_while_something_waits(side: str) -> None:
    alice = Reader(side)
    deliver(alice, "chunked", packed(2 * MIB))
    assert alice.statistics.open_streams_in == 1
    assert alice.outcome() is None
    assert take_turns(alice) == 1
    assert alice.outcome() == "x" * 2 * MIB


AFTER_THE_TRAILER: dict[str, OutgoingMessage] = {
    "the trailer again": StreamTrailer("s1", ""),
    "a trailer with a reason": StreamTrailer("s1", "cancelled"),
    "the next chunk": StreamChunk("s1", 1, b"x"),
    "a chunk again": StreamChunk("s1", 0, b"x"),
    "a chunk too early": StreamChunk("s1", 7, b"x"),
}


@each_form
@each_side
@pytest.mark.parametrize("what", AFTER_THE_TRAILER)
def test_r47_what_comes_after_the_end_of_a_body_that_waits_is_a_repeat(
    side: str, form: str, what: str
) -> None:
    """It would belong to an unknown stream if nothing waited: it never harms the body."""
    alice = Reader(side)
    deliver(alice, form, packed(2 * MIB))
    before = alice.statistics.buffered_bytes
    for _ in range(2):
        alice.receive(AFTER_THE_TRAILER[what])
    assert alice.ignored == {IgnoreReason.REPEAT: 2}
    assert alice.statistics.buffered_bytes == before
    take_turns(alice)
    assert alice.outcome() == "x" * 2 * MIB


@each_side
@pytest.mark.parametrize(
    ("message", "fault"),
    [
        (StreamTrailer("s1", "cancelled"), "the stream ended early: cancelled"),
        (StreamChunk("s1", 2, b""), "chunk 1 is missing"),
    ],
)
def test_r25_r47_a_stream_that_fails_while_it_waits_fails_at_once(
    side: str, message: OutgoingMessage, fault: str
) -> None:
    alice = Reader(side)
    alice.receive(alice.header(**PACKED))
    alice.receive(StreamChunk("s1", 0, packed(3 * MIB)))
    alice.receive(message)
    assert alice.outcome() == (1500, fault)


@each_form
@each_side
@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (packed(2 * MIB) + b"x", "bytes after the end of the compressed body"),
        (raw_deflate(b"x" * 2 * MIB, SYNC), "the compressed body has no end"),
        (raw_deflate(b"x" * 2 * MIB, SYNC) + b"\xff", "the compressed body is not raw DEFLATE"),
        (raw_deflate(b"x" * 2 * MIB + b"\xff"), "the body is not valid UTF-8"),
    ],
)
def test_r26_r47_what_is_wrong_with_the_rest_is_seen_when_it_is_inflated(
    side: str, form: str, content: bytes, fault: str
) -> None:
    alice = Reader(side)
    deliver(alice, form, content)
    assert alice.outcome() is None
    take_turns(alice)
    assert alice.outcome() == (1500, fault)


@each_form
@each_side
def test_r28_r47_the_cap_holds_in_turns_as_well(side: str, form: str) -> None:
    alice = Reader(side, RpcConfig(max_payload_bytes=2 * MIB))
    deliver(alice, form, packed(64 * MIB))
    assert take_turns(alice) == 2
    assert alice.outcome() == (alice.over_cap, "")


@each_form
@each_side
@pytest.mark.parametrize("excess", [-1, 1])
def test_r25_r47_the_length_is_held_against_all_of_it(side: str, form: str, excess: int) -> None:
    alice = Reader(side)
    size = 2 * MIB
    header, content = alice.header(**PACKED, total_length=size + excess), packed(size)
    if form == "inline":
        alice.receive(header._replace(inline_content=content))
    else:
        alice.receive_all(stream(header, content))
    take_turns(alice)
    outcome = alice.outcome()
    assert outcome == (
        1500,
        f"{size} of {size + 1} bytes arrived"
        if excess > 0
        else f"more than {size - 1} bytes arrived",
    )


@pytest.mark.parametrize("acked", [False, True])
def test_r4_r6_r47_while_an_inline_response_waits_its_call_is_being_answered(acked: bool) -> None:
    """The header is a sign of life, and no other response stream is read."""
    alice = Participant()
    call = alice.call(ack_timeout=TURN / 2)
    if acked:
        alice.receive(Ack(call))
    alice.receive(response_header(call, "s1", **PACKED, inline_content=packed(MIB + 1)))
    assert alice.events() == [CallAcknowledged(call)]
    alice.receive(response_header(call, "s2", inline_content=b"another"))
    alice.receive(response_header(call, "s2"))
    alice.receive(Ack(call))
    assert alice.ignored == {IgnoreReason.REPEAT: 3}
    take_turns(alice)
    assert alice.events() == [CallSucceeded(call, "x" * (MIB + 1))]


# --- who is gone leaves nothing that waits


def waiting_response() -> Reader:
    alice = Reader("response")
    alice.joined("bob", "PA_1")
    alice.receive(alice.header(**PACKED), sid="PA_1")
    alice.receive(StreamChunk("s1", 0, packed(3 * MIB)), sid="PA_1")
    assert alice.next_deadline == START + TURN
    return alice


ENDS: dict[str, Callable[[Reader], object]] = {
    "cancelled": lambda alice: alice.cancel(alice.request_id),
    "answered by a packet": lambda alice: alice.receive(Response(alice.request_id, "x")),
    "its sender leaves": lambda alice: alice.left("bob"),
    "its sender is back": lambda alice: alice.joined("bob", "PA_2"),
    "the connection is lost": lambda alice: alice.disconnected(),
    "closed": lambda alice: alice.close(),
}


@pytest.mark.parametrize("end", ENDS)
def test_r47_a_response_whose_call_ends_waits_no_more(end: str) -> None:
    alice = waiting_response()
    ENDS[end](alice)
    assert len([event for event in alice.events() if not isinstance(event, CallAcknowledged)]) == (
        end != "cancelled"
    )
    expect_nothing_left(alice)


@pytest.mark.parametrize("end", ["its sender leaves", "its sender is back", "closed"])
def test_r31_r47_a_request_whose_sender_leaves_waits_no_more(end: str) -> None:
    alice = Reader("request")
    alice.joined("bob", "PA_1")
    alice.receive(alice.header(**PACKED), sid="PA_1")
    alice.receive(StreamChunk("s1", 0, packed(3 * MIB)), sid="PA_1")
    alice.packets()
    ENDS[end](alice)
    assert alice.events() == []
    expect_nothing_left(alice)


def test_r47_who_is_gone_loses_the_turn_and_nobody_else() -> None:
    alice = Participant()
    sends(alice, "bob", 2 * MIB)
    sends(alice, "carol", MIB + 9)
    alice.left("bob")
    assert alice.next_deadline == START + TURN
    alice.time_is(START + TURN)
    assert arrived(alice) == [("r1", MIB + 9)]


def test_r20_r47_an_invocation_expires_whether_or_not_something_waits() -> None:
    alice = Participant()
    header = request_header(timeout="0", **PACKED, inline_content=packed(16 * MIB))
    alice.receive(header)
    alice.packets()
    for _ in range(5):
        alice.now += 1
        alice.time_is(alice.now)
    assert alice.statistics.open_streams_in == 1
    alice.time_is(START + 7)
    assert alice.sent() == []
    expect_nothing_left(alice)


# --- timeouts are not extended, and are not in the way


@pytest.mark.parametrize(
    ("timeout", "succeeds"), [(TURN / 2, False), (TURN * 0.875, False), (TURN, True)]
)
def test_r47_at_the_same_instant_inflating_goes_before_a_deadline(
    timeout: float, succeeds: bool
) -> None:
    alice = Participant()
    call = alice.call(response_timeout=timeout)
    alice.receive(response_header(call, **PACKED, inline_content=packed(MIB + 1)))
    alice.time_is(START + timeout)
    acknowledged, end = alice.events()
    assert acknowledged == CallAcknowledged(call)
    if succeeds:
        assert end == CallSucceeded(call, "x" * (MIB + 1))
    else:
        assert failures([end]) == [(call, 1502)]
        assert alice.statistics.open_streams_in == 0


def test_r47_no_response_timeout_is_extended_by_what_waits() -> None:
    alice = Participant()
    call = alice.call(response_timeout=1)
    alice.receive(response_header(call, **PACKED, inline_content=packed(16 * MIB)))
    while alice.now < START + 0.9:
        alice.time_is(alice.now + 0.25)
    assert alice.statistics.pending_calls == 0
    assert failures(alice.events()[1:]) == [(call, 1502)]


def test_l6_r47_late_what_waits_is_inflated_once_and_then_the_deadlines_are_due() -> None:
    alice = Participant()
    short = alice.call("bob", response_timeout=5)
    long = alice.call("carol", response_timeout=5)
    alice.receive(response_header(short, **PACKED, inline_content=packed(MIB + 9)), "bob")
    alice.receive(response_header(long, **PACKED, inline_content=packed(3 * MIB)), "carol")
    alice.events()
    alice.time_is(START + 1_000)
    first, second = alice.events()
    assert first == CallSucceeded(short, "x" * (MIB + 9))
    assert failures([second]) == [(long, 1502)]
    expect_nothing_left_but_packets(alice)


def expect_nothing_left_but_packets(alice: Participant) -> None:
    alice.packets()
    expect_nothing_left(alice)


def test_r28_r47_what_was_inflated_counts_as_growth_when_it_is_inflated() -> None:
    alice = Reader("request")
    deliver(alice, "inline", packed(3 * MIB))
    alice.time_is(START + 14)
    alice.time_is(START + 28)
    assert alice.outcome() == "x" * 3 * MIB


def test_r28_r47_late_a_stream_that_has_something_to_inflate_is_not_idle() -> None:
    alice = Reader("request")
    alice.receive(alice.header(**PACKED))
    alice.receive(StreamChunk("s1", 0, raw_deflate(b"x" * 3 * MIB, SYNC)))
    alice.time_is(START + 100)
    assert alice.statistics.open_streams_in == 1
    take_turns(alice)
    grown = START + 100 + TURN
    assert alice.next_deadline == grown + 15
    alice.time_is(grown + 15)
    assert alice.outcome() == (1500, "no bytes for 15 seconds")


# --- what waits is held


@pytest.mark.parametrize("excess", [0, 1])
def test_r28_r47_what_waits_counts_toward_the_bound_of_its_sender(excess: int) -> None:
    content = packed(3 * MIB)
    alice = Participant()
    alice.receive(request_header("r1", "s1", **PACKED))
    alice.receive(StreamChunk("s1", 0, content[:-50]))
    held = alice.statistics.buffered_bytes
    bounded = Participant(config=RpcConfig(max_buffered_bytes_per_sender=held + 50 - excess))
    bounded.receive(request_header("r1", "s1", **PACKED))
    bounded.receive(StreamChunk("s1", 0, content[:-50]))
    assert bounded.sent() == [Ack("r1")]
    bounded.receive(StreamChunk("s1", 1, content[-50:]))
    assert bounded.sent() == ([error("r1", 1500, data=TOO_MANY)] if excess else [])
    assert bounded.statistics.buffered_bytes == (0 if excess else held + 50)


def test_r28_r47_what_an_input_leaves_may_be_too_much_for_its_sender() -> None:
    """The mebibyte fits, what waits with it does not."""
    alice = Participant(config=RpcConfig(max_buffered_bytes_per_sender=MIB + 10))
    alice.receive(request_header(**PACKED, inline_content=packed(3 * MIB)))
    assert alice.sent() == [Ack("r1"), error("r1", 1500, data=TOO_MANY)]
    expect_nothing_left(alice)


def test_r28_r47_what_was_read_is_given_back() -> None:
    alice = Reader("request")
    content = packed(2 * MIB + 9)
    deliver(alice, "inline", content)
    assert take_turns(alice) == 2
    assert alice.statistics.buffered_bytes == 2 * MIB + 9
    assert alice.outcome() == "x" * (2 * MIB + 9)


def test_r28_r47_what_waits_of_an_answer_may_use_the_reserve() -> None:
    alice = Participant(config=RpcConfig(max_buffered_bytes=16 * MIB, max_packet_bytes=16 * MIB))
    call = alice.call("dave")
    alice.receive(request("b", payload="x" * 14 * MIB), "bob")
    alice.receive(request("c", payload="x" * MIB), "carol")
    assert refusals(alice) == [error("c", 1500, data=TOO_MANY)]
    alice.events()
    size = 2 * MIB - 10 * KIB
    alice.receive(response_header(call, **PACKED, inline_content=packed(size)), "dave")
    assert alice.next_deadline == START + TURN
    take_turns(alice)
    assert alice.events() == [CallAcknowledged(call), CallSucceeded(call, "x" * size)]


# --- input that yields nothing


@each_side
@pytest.mark.parametrize("pieces", [1, 5, 819])
def test_r47_4_kib_in_a_row_without_output_are_read_and_a_byte_more_fails(
    side: str, pieces: int
) -> None:
    """819 empty blocks are 4,095 bytes. How much of them one input reads is another matter."""
    alice = Reader(side)
    alice.receive(alice.header(**PACKED))
    barren = EMPTY_BLOCK * 819
    step = len(barren) // pieces
    for index in range(pieces):
        alice.receive(StreamChunk("s1", index, barren[index * step : (index + 1) * step]))
        take_turns(alice)
    assert alice.outcome() is None
    assert alice.statistics.buffered_bytes == 0
    assert alice.next_deadline == START + 15
    alice.receive(StreamChunk("s1", pieces, EMPTY_BLOCK[:1]))
    assert alice.outcome() is None
    alice.receive(StreamChunk("s1", pieces + 1, EMPTY_BLOCK[1:2]))
    assert alice.outcome() == (1500, BARREN)


@each_side
def test_r47_a_byte_of_output_begins_a_new_row(side: str) -> None:
    alice = Reader(side)
    alice.receive(alice.header(**PACKED))
    for index in range(0, 20, 2):
        alice.receive(StreamChunk("s1", index, EMPTY_BLOCK * 800))
        alice.receive(StreamChunk("s1", index + 1, raw_deflate(b"x", SYNC)))
        take_turns(alice)
    assert alice.outcome() is None
    alice.receive(StreamChunk("s1", 20, raw_deflate(b"y")))
    alice.receive(StreamTrailer("s1", ""))
    assert alice.outcome() == "x" * 10 + "y"


@each_form
@each_side
@pytest.mark.parametrize("size", [4_100, 8_000, 100_000])
def test_r47_an_input_reads_at_most_4_kib_that_yield_nothing(
    side: str, form: str, size: int
) -> None:
    alice = Reader(side)
    content = (EMPTY_BLOCK * (size // 5))[:size]
    if form == "inline":
        alice.receive(alice.header(**PACKED, inline_content=content))
    else:
        alice.receive(alice.header(**PACKED))
        alice.receive(StreamChunk("s1", 0, content))
    assert alice.outcome() is None
    assert alice.next_deadline == START + TURN
    assert size - 4 * KIB <= alice.statistics.buffered_bytes < size
    assert take_turns(alice) in (1, 2)
    assert alice.outcome() == (1500, BARREN)


def test_r47_handle_deadline_reads_at_most_4_kib_that_yield_nothing_in_all() -> None:
    """Not 4 KiB of each stream."""
    alice = Participant()
    for sender in ("a", "b", "c", "d", "e"):
        content = raw_deflate(b"x" * MIB, SYNC) + EMPTY_BLOCK * 1_200 + raw_deflate(b"y")
        alice.receive(request_header(sender, "s1", **PACKED, inline_content=content), sender)
    held, names, turns = alice.statistics.buffered_bytes, [], 0
    while take_turns(alice, most=1):
        turns += 1
        assert held - alice.statistics.buffered_bytes <= 4 * KIB
        held = alice.statistics.buffered_bytes
        names += [name for name, _ in arrived(alice)]
    assert sorted(names) == ["a", "b", "c", "d", "e"]
    assert turns > 2


# --- what is honest arrives, and nobody waits for it


HONEST = "a text that repeats itself, as texts do. " * (16 * MIB // 41)


@each_form
@each_side
def test_r47_a_body_of_16_mib_that_compresses_a_thousandfold_arrives(side: str, form: str) -> None:
    alice = Reader(side)
    content = raw_deflate(HONEST.encode())
    assert len(content) < 64 * KIB
    deliver(alice, form, content)
    assert alice.statistics.open_streams_in == 1
    assert take_turns(alice) == 15
    assert alice.outcome() == HONEST


def test_r47_others_are_served_while_a_body_is_inflated() -> None:
    alice = Participant()
    content = raw_deflate(HONEST.encode())
    alice.receive(request_header("long", "s1", timeout="60000", **PACKED, inline_content=content))
    alice.packets()
    served = 0
    while take_turns(alice, most=1):
        alice.receive(request(f"r{served}"), "carol")
        last = alice.events()
        assert isinstance(last[-1], InvocationReceived)
        alice.respond(last[-1].invocation_id)
        assert alice.sent() == [Ack(f"r{served}"), Response(f"r{served}", "hello")]
        served += 1
    assert served == 15
    assert isinstance(last[0], InvocationReceived)
    assert last[0].payload == HONEST


def test_r40_r47_what_waits_goes_on_under_the_first_sid_that_is_learned() -> None:
    alice = Participant()
    alice.receive(request_header("r1", "s1", **PACKED))
    content = packed(3 * MIB)
    alice.receive(StreamChunk("s1", 0, content[:-9]))
    alice.joined("bob", "PA_1")
    alice.receive(StreamChunk("s1", 1, content[-9:]), sid="PA_1")
    alice.receive(StreamTrailer("s1", ""))
    take_turns(alice)
    assert arrived(alice) == [("r1", 3 * MIB)]


# --- packets with much in them


@pytest.mark.parametrize(("count", "is_for_us"), [(1_023, True), (1_024, False)])
def test_r39_r47_of_the_destinations_the_first_1024_are_looked_at(
    count: int, is_for_us: bool
) -> None:
    alice = Participant()
    destinations = [f"other-{number}" for number in range(count)] + ["alice"]
    alice.receive(raw_packet("bob", destinations, rpc_request={"id": "r1", "version": 1}))
    if is_for_us:
        assert alice.sent() == [Ack("r1"), error("r1", 1400)]
    else:
        assert alice.ignored == {IgnoreReason.NOT_FOR_US: 1}


@pytest.mark.parametrize("topic", ["lk.rpc_request", "lk.rpc_response", "lk.chat"])
def test_r32_r47_a_header_with_thousands_of_attributes_is_read_as_any_other(topic: str) -> None:
    alice = Participant()
    call = alice.call()
    alice.packets()
    attributes = {f"{number}": "" for number in range(8_000)}
    attributes |= request_header(call).attributes
    header = {"stream_id": "s1", "topic": topic, "attributes": attributes, "text_header": {}}
    packet = raw_packet(stream_header={**header, "inline_content": b"hi"})
    assert len(packet) < 128 * KIB
    alice.receive(packet)
    if topic == "lk.rpc_request":
        assert alice.invocation().payload == "hi"
    elif topic == "lk.rpc_response":
        assert alice.events() == [CallSucceeded(call, "hi")]
    else:
        assert alice.ignored == {IgnoreReason.UNKNOWN_TOPIC: 1}
