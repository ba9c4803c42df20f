"""The rules of bodies that come in as streams: R4, R6, R7, R15, R16, R20 to R28, R31 to R39."""

import itertools
import random
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from helpers import START, Participant, error, failures, just_before, raw_packet, request, short
from hypothesis import given, settings
from hypothesis import strategies as st
from memory import traced_memory
from streams import (
    BOM,
    MALFORMED,
    PACKED,
    Reader,
    expect_nothing_left,
    raw_deflate,
    request_header,
    response_header,
    stream,
    take_turns,
)

from rpcproto import (
    CallAcknowledged,
    CallFailed,
    CallSucceeded,
    IgnoreReason,
    InvocationAbandoned,
    InvocationReceived,
    PacketIgnored,
    RpcConfig,
)
from rpcproto.wire import (
    Ack,
    ErrorResponse,
    OutgoingMessage,
    Response,
    StreamChunk,
    StreamHeader,
    StreamTrailer,
)

each_side = pytest.mark.parametrize("side", ["request", "response"])
each_form = pytest.mark.parametrize("form", ["chunks", "inline"])


def bodies_of(
    form: str, header: StreamHeader, contents: tuple[bytes, ...]
) -> list[OutgoingMessage]:
    """A body in chunks, or all of it inline."""
    if form == "chunks":
        return stream(header, *contents)
    return [header._replace(inline_content=b"".join(contents))]


def counted(participant: Participant, reason: IgnoreReason) -> int:
    return participant.ignored.get(reason, 0)


# --- R25: bodies that are whole

TEXT = "aé€😀\ufeff\0" + "\U0010ffff"
BYTES = TEXT.encode()
SYNC = zlib.Z_SYNC_FLUSH


def fed(*steps: bytes, flush: int) -> tuple[bytes, ...]:
    """One DEFLATE stream, flushed after each step."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return tuple(deflate.compress(step) + deflate.flush(flush) for step in steps)


def bytewise(data: bytes) -> tuple[bytes, ...]:
    return tuple(bytes([byte]) for byte in data)


Fields = dict[str, Any]


WHOLE: dict[str, tuple[Fields, tuple[bytes, ...], str]] = {
    "nothing": ({}, (), ""),
    "nothing, and it says so": ({"total_length": 0}, (), ""),
    "empty chunks": ({}, (b"", b""), ""),
    "one chunk": ({}, (BYTES,), TEXT),
    "one chunk of the length that was told": ({"total_length": len(BYTES)}, (BYTES,), TEXT),
    "empty chunks between": ({"total_length": 2}, (b"", b"a", b"", b"b", b""), "ab"),
    "every character cut": ({"total_length": len(BYTES)}, bytewise(BYTES), TEXT),
    "a character cut in the middle": ({}, (b"\xf0\x9f", b"\x9a\x80"), "🚀"),
    "a BOM at the beginning": ({}, (BOM.encode() + b"a",), BOM + "a"),
    "a BOM at the beginning of a chunk": ({}, (b"a", BOM.encode()), "a" + BOM),
    "nothing but BOMs": ({}, (BOM.encode() * 3,), BOM * 3),
    "at the cap": ({}, (b"x" * 100,), "x" * 100),
    "a header at the cap": ({"total_length": 100}, (b"x" * 100,), "x" * 100),
    "compressed": (PACKED, (raw_deflate(BYTES),), TEXT),
    "compressed, every byte a chunk": (PACKED, bytewise(raw_deflate(BYTES)), TEXT),
    "compressed, with its length": (
        {**PACKED, "total_length": len(BYTES)},
        bytewise(raw_deflate(BYTES)),
        TEXT,
    ),
    "compressed to the cap": (PACKED, (raw_deflate(b"x" * 100),), "x" * 100),
    "stored": (PACKED, (raw_deflate(BYTES, level=0),), TEXT),
    "compressed nothing": (PACKED, (raw_deflate(b""),), ""),
    "compressed nothing, with its length": ({**PACKED, "total_length": 0}, (raw_deflate(b""),), ""),
    "compressed nothing without a block": ({**PACKED, "total_length": 0}, (), ""),
    "sync-flushed at its length": (
        {**PACKED, "total_length": len(BYTES)},
        (raw_deflate(BYTES, SYNC),),
        TEXT,
    ),
    "sync-flushed after each byte": (
        {**PACKED, "total_length": len(BYTES)},
        fed(*bytewise(BYTES), flush=SYNC),
        TEXT,
    ),
    "sync-flushed, then an empty final block": (
        PACKED,
        (raw_deflate(BYTES, SYNC), raw_deflate(b"")),
        TEXT,
    ),
    "fully flushed, then a block that ends it": (
        {**PACKED, "total_length": 6},
        (raw_deflate(b"abc", zlib.Z_FULL_FLUSH), raw_deflate(b"def")),
        "abcdef",
    ),
}


@each_form
@each_side
@pytest.mark.parametrize("case", WHOLE)
def test_r25_a_whole_body_is_read(side: str, form: str, case: str) -> None:
    fields, contents, text = WHOLE[case]
    alice = Reader(side, RpcConfig(max_payload_bytes=100))
    alice.receive_all(bodies_of(form, alice.header(**fields), contents))
    assert alice.outcome() == text
    assert alice.ignored == {}


@each_side
def test_r25_a_body_of_hundreds_of_chunks_is_read(side: str) -> None:
    alice = Reader(side)
    text = "".join(chr(0x3B1 + number % 24) for number in range(300))
    alice.receive_all(stream(alice.header(), *bytewise(text.encode())))
    assert alice.outcome() == text


def test_r25_a_compressed_body_is_read_whatever_its_size_around_64_kib() -> None:
    """Inflating goes in steps of this size; no byte is forgotten or looked for between them."""
    for size in (*range(2**16 - 3, 2**16 + 300), 2**17 - 1, 2**17, 2**17 + 1):
        text = "x" * size
        for flush in (zlib.Z_FINISH, SYNC):
            alice = Reader("request")
            header = alice.header(**PACKED, total_length=size)
            alice.receive_all(stream(header, raw_deflate(text.encode(), flush)))
            assert alice.outcome() == text


# --- R25, R26: bodies that are not

OVER_CAP = "over the cap"
OVER: tuple[bytes, ...] = (b"x" * 101,)
EMOJI = "🚀".encode()

NO_END = "the compressed body has no end"
AFTER_THE_END = "bytes after the end of the compressed body"
NOT_DEFLATE = "the compressed body is not raw DEFLATE"
NOT_UTF_8 = "the body is not valid UTF-8"

BROKEN: dict[str, tuple[Fields, tuple[bytes, ...], str]] = {
    "more than its length": ({"total_length": 2}, (b"abc",), "more than 2 bytes arrived"),
    "more than its length, a byte later": (
        {"total_length": 2},
        (b"ab", b"c"),
        "more than 2 bytes arrived",
    ),
    "something where nothing was told": ({"total_length": 0}, (b"a",), "more than 0 bytes arrived"),
    "less than its length": ({"total_length": 3}, (b"ab",), "2 of 3 bytes arrived"),
    "nothing of its length": ({"total_length": 3}, (), "0 of 3 bytes arrived"),
    "over the cap": ({}, OVER, OVER_CAP),
    "over the cap, and over its length": ({"total_length": 50}, OVER, OVER_CAP),
    "as much as the cap, and over its length": (
        {"total_length": 50},
        (b"x" * 100,),
        "more than 50 bytes arrived",
    ),
    "over the cap, in many chunks": ({}, (b"x" * 60, b"x" * 41), OVER_CAP),
    "over the cap by its header": ({"total_length": 101}, (b"x",), OVER_CAP),
    "over every cap by its header": ({"total_length": 2**64 - 1}, (), OVER_CAP),
    "compressed, over the cap": (PACKED, (raw_deflate(b"x" * 101),), OVER_CAP),
    "compressed, over the cap and over its length": (
        {**PACKED, "total_length": 50},
        (raw_deflate(b"x" * 101),),
        OVER_CAP,
    ),
    "a bomb": (PACKED, (raw_deflate(bytes(2**22)),), OVER_CAP),
    "a bomb, over its length as well": (
        {**PACKED, "total_length": 5},
        (raw_deflate(bytes(2**22)),),
        OVER_CAP,
    ),
    "compressed, more than its length": (
        {**PACKED, "total_length": 2},
        (raw_deflate(b"abc"),),
        "more than 2 bytes arrived",
    ),
    "compressed, less than its length": (
        {**PACKED, "total_length": 4},
        (raw_deflate(b"abc"),),
        "3 of 4 bytes arrived",
    ),
    "sync-flushed without a length": (PACKED, (raw_deflate(BYTES, SYNC),), NO_END),
    "sync-flushed before its length": (
        {**PACKED, "total_length": 4},
        (raw_deflate(b"abc", SYNC),),
        "3 of 4 bytes arrived",
    ),
    "compressed, without anything": (PACKED, (), NO_END),
    "compressed, cut off": (PACKED, (raw_deflate(BYTES)[:-1],), NO_END),
    "bytes after the final block": (PACKED, (raw_deflate(BYTES) + b"x",), AFTER_THE_END),
    "a chunk after the final block": (PACKED, (raw_deflate(BYTES), b"\0"), AFTER_THE_END),
    "another stream after the final block": (PACKED, (raw_deflate(b"a"),) * 2, AFTER_THE_END),
    "not compressed at all": (PACKED, (b"\xff\xff hello",), NOT_DEFLATE),
    "zlib's own format": (PACKED, (zlib.compress(BYTES),), NOT_DEFLATE),
    "broken in the middle": (
        {**PACKED, "total_length": 6},
        (raw_deflate(b"abc", SYNC), b"\xff\xff\xff"),
        NOT_DEFLATE,
    ),
    "compressed, but not text": (PACKED, (raw_deflate(b"a\xff"),), NOT_UTF_8),
    "compressed, cut in a character": (PACKED, (raw_deflate(EMOJI[:3]),), NOT_UTF_8),
    "sync-flushed, cut in a character": (
        {**PACKED, "total_length": 3},
        (raw_deflate(EMOJI[:3], SYNC),),
        NOT_UTF_8,
    ),
}


def expect_failure(alice: Reader, fault: str) -> None:
    """The body has failed, with a code of its own where it was over the cap."""
    outcome = alice.outcome()
    assert isinstance(outcome, tuple)
    code, data = outcome
    if fault == OVER_CAP:
        assert code == alice.over_cap
    else:
        assert code == 1500
        assert data == fault


@each_form
@each_side
@pytest.mark.parametrize("case", BROKEN)
def test_r25_r26_a_broken_body_fails(side: str, form: str, case: str) -> None:
    fields, contents, fault = BROKEN[case]
    alice = Reader(side, RpcConfig(max_payload_bytes=100))
    alice.receive_all(bodies_of(form, alice.header(**fields), contents))
    expect_failure(alice, fault)


INVALID = [
    b"\x80",
    b"\xff",
    b"\xc3",
    b"\xe2\x82",
    b"\xf0\x9f\x9a",
    b"\xc0\xaf",
    b"\xe0\x80\xaf",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xf8\x88\x80\x80\x80",
]


@each_form
@each_side
@pytest.mark.parametrize("cut", ["whole", "bytewise", "compressed"])
@pytest.mark.parametrize(("before", "after"), [("", ""), ("aé", ""), ("", "aé"), ("é", "é")])
def test_r25_invalid_utf8_fails_in_every_position(
    side: str, form: str, cut: str, before: str, after: str
) -> None:
    for invalid in INVALID:
        body = before.encode() + invalid + after.encode()
        alice = Reader(side)
        if cut == "compressed":
            messages = bodies_of(form, alice.header(**PACKED), (raw_deflate(body),))
        else:
            contents = bytewise(body) if cut == "bytewise" else (body,)
            messages = bodies_of(form, alice.header(total_length=len(body)), contents)
        alice.receive_all(messages)
        expect_failure(alice, NOT_UTF_8)


@each_side
@pytest.mark.parametrize("indices", [(1,), (0, 2), (0, 1, 3), (0, 2**64 - 1)])
def test_r25_a_gap_fails_the_stream_at_once(side: str, indices: tuple[int, ...]) -> None:
    alice = Reader(side)
    alice.receive(alice.header())
    for index in indices:
        assert alice.outcome() is None
        alice.receive(StreamChunk("s1", index, b"a"))
    expect_failure(alice, f"chunk {len(indices) - 1} is missing")
    alice.receive(StreamChunk("s1", 1, b"a"))
    alice.receive(StreamTrailer("s1", ""))
    assert alice.outcome() is None
    assert alice.ignored == {IgnoreReason.UNKNOWN_STREAM: 2}


@each_side
def test_r25_a_duplicate_chunk_is_dropped_whatever_it_carries(side: str) -> None:
    alice = Reader(side)
    alice.receive(alice.header(total_length=3))
    for index, content in [
        (0, b"a"),
        (0, b"a"),
        (1, b"b"),
        (0, b"x" * 99),
        (1, b"\xff"),
        (2, b"c"),
    ]:
        alice.receive(StreamChunk("s1", index, content))
    assert counted(alice, IgnoreReason.REPEAT) == 3
    assert alice.statistics.buffered_bytes == 3
    alice.receive(StreamTrailer("s1", ""))
    assert alice.outcome() == "abc"


@each_side
@pytest.mark.parametrize("reason", ["cancelled", "anything"])
def test_r25_r38_a_trailer_with_a_reason_fails_the_stream(side: str, reason: str) -> None:
    """Also if all of it is there: the sender says that it is not."""
    alice = Reader(side)
    alice.receive_all(stream(alice.header(total_length=2), b"ab", reason=reason))
    expect_failure(alice, f"the stream ended early: {reason}")


@each_side
def test_r25_a_repeated_header_leaves_an_open_stream_as_it_is(side: str) -> None:
    alice = Reader(side)
    header = alice.header(total_length=2)
    alice.receive(header)
    alice.receive(StreamChunk("s1", 0, b"a"))
    deadline = alice.next_deadline
    alice.receive(header)
    alice.receive(header._replace(total_length=99, compression=7))
    alice.receive(header._replace(inline_content=b"other"))
    assert alice.next_deadline == deadline
    assert counted(alice, IgnoreReason.REPEAT) == 3
    alice.receive(StreamChunk("s1", 1, b"b"))
    alice.receive(StreamTrailer("s1", ""))
    assert alice.outcome() == "ab"


@each_side
def test_r26_after_a_failure_the_rest_of_the_stream_is_unknown(side: str) -> None:
    alice = Reader(side)
    messages = stream(alice.header(), b"\xff", b"a", b"b")
    alice.receive_all(messages[:2])
    expect_failure(alice, NOT_UTF_8)
    alice.receive_all(messages[2:])
    assert alice.ignored == {IgnoreReason.UNKNOWN_STREAM: 3}
    assert alice.outcome() is None


def test_r26_the_error_of_a_failed_request_is_a_packet_to_its_caller() -> None:
    alice = Participant()
    for message in stream(request_header(), b"a", reason="cancelled"):
        alice.receive(message, "bob", sid="PA_bob")
    ack, refusal = alice.packets()
    assert (ack.destination_identity, refusal.destination_identity) == ("bob", "bob")
    assert alice.events() == []


# --- R4: the header of a response is a sign of life


def test_r4_the_header_of_a_response_stream_is_the_ack() -> None:
    alice = Participant()
    call = alice.call()
    alice.receive(response_header(call))
    assert alice.events() == [CallAcknowledged(call)]
    alice.time_is(START + 9)  # the ack window is over
    assert alice.events() == []
    alice.receive(Ack(call))
    assert counted(alice, IgnoreReason.REPEAT) == 1
    alice.receive(StreamTrailer("s1", ""))
    assert alice.events() == [CallSucceeded(call, "")]


def test_r4_a_header_after_the_ack_tells_the_host_nothing_new() -> None:
    alice = Participant()
    call = alice.call()
    alice.receive(Ack(call))
    alice.receive(response_header(call))
    assert alice.events() == [CallAcknowledged(call)]


@pytest.mark.parametrize("acked", [False, True])
@pytest.mark.parametrize("content", [b"", b"done", b"\xff"])
def test_r4_an_inline_response_completes_the_call_and_is_no_ack(
    content: bytes, acked: bool
) -> None:
    alice = Participant()
    call = alice.call()
    if acked:
        alice.receive(Ack(call))
        alice.events()
    alice.receive(response_header(call, inline_content=content))
    [end] = alice.events()
    assert isinstance(end, CallFailed if content == b"\xff" else CallSucceeded)
    alice.receive(Ack(call))
    assert alice.events() == []
    assert alice.ignored == {IgnoreReason.LATE: 1}
    expect_nothing_left_but_packets(alice)


def expect_nothing_left_but_packets(participant: Participant) -> None:
    participant.packets()
    expect_nothing_left(participant)


# --- R6: any form of response, the first one wins

each_protocol = pytest.mark.parametrize("protocol", [0, 1, 2])


def responses(call: str) -> dict[str, list[OutgoingMessage]]:
    packed = raw_deflate(b"done")
    return {
        "packet": [Response(call, "done")],
        "error": [error(call, 1400)],
        "chunked": stream(response_header(call), b"do", b"ne"),
        "inline": [response_header(call, inline_content=b"done")],
        "compressed": stream(response_header(call, **PACKED), packed[:2], packed[2:]),
        "inline compressed": [response_header(call, **PACKED, inline_content=packed)],
    }


@each_protocol
@pytest.mark.parametrize("form", responses(""))
def test_r6_a_response_in_any_form_completes_a_call(form: str, protocol: int) -> None:
    alice = Participant()
    alice.joined("bob", client_protocol=protocol)
    call = alice.call()
    alice.packets()
    for message in responses(call)[form]:
        alice.receive(message)
    end = alice.events()[-1]
    assert end == CallSucceeded(call, "done") or failures([end]) == [(call, 1400)]
    for late in itertools.chain.from_iterable(responses(call).values()):
        alice.receive(late)
    assert alice.events() == []
    expect_nothing_left(alice)


@pytest.mark.parametrize("more", [{}, {"inline_content": b"other"}, {"total_length": 2**40}])
def test_r6_a_second_response_header_is_ignored(more: Fields) -> None:
    alice = Reader("response")
    alice.receive(alice.header("s1"))
    alice.receive(StreamChunk("s1", 0, b"first"))
    alice.receive(alice.header("s2", **more))
    alice.receive(StreamChunk("s2", 0, b"second"))
    alice.receive(StreamTrailer("s2", ""))
    assert alice.outcome() is None
    assert alice.ignored == {IgnoreReason.REPEAT: 1, IgnoreReason.UNKNOWN_STREAM: 2}
    alice.receive(StreamTrailer("s1", ""))
    assert alice.outcome() == "first"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (lambda call: Response(call, "packet"), "packet"),
        (lambda call: error(call, 1505), (1505, "")),
        (lambda call: Response(call, None), (1500, "the response has no payload")),
    ],
)
def test_r6_a_packet_in_the_middle_of_a_response_stream_wins(
    answer: Callable[[str], OutgoingMessage], expected: object
) -> None:
    alice = Reader("response")
    alice.receive(alice.header())
    alice.receive(StreamChunk("s1", 0, b"first"))
    alice.receive(answer(alice.request_id))
    assert alice.outcome() == expected
    alice.receive(StreamChunk("s1", 1, b"more"))
    alice.receive(StreamTrailer("s1", ""))
    assert alice.ignored == {IgnoreReason.UNKNOWN_STREAM: 2}


def test_r6_the_response_timeout_is_not_extended_by_a_stream() -> None:
    alice = Participant()
    call = alice.call()
    alice.packets()
    alice.receive(response_header(call))
    for index in range(9):
        alice.now += 1
        alice.receive(StreamChunk("s1", index, b"a"))
    alice.events()
    assert alice.next_deadline == START + 10
    alice.time_is(just_before(START + 10))
    assert alice.events() == []
    alice.time_is(START + 10)
    assert failures(alice.events()) == [(call, 1502)]
    alice.receive(StreamChunk("s1", 9, b"a"))
    assert alice.ignored == {IgnoreReason.UNKNOWN_STREAM: 1}
    expect_nothing_left(alice)


def test_r6_a_cancelled_call_drops_the_response_that_it_reads() -> None:
    alice = Reader("response")
    alice.receive(alice.header())
    alice.receive(StreamChunk("s1", 0, b"first"))
    other = alice.call()
    alice.packets()
    assert alice.cancel(other)
    assert alice.statistics.open_streams_in == 1
    assert alice.cancel(alice.request_id)
    expect_nothing_left(alice)


@pytest.mark.parametrize("call_is_over", [False, True])
def test_r6_the_header_of_a_response_to_no_call_is_ignored(call_is_over: bool) -> None:
    alice = Participant()
    call = alice.call()
    if call_is_over:
        alice.cancel(call)
    for message in stream(response_header(call if call_is_over else "r9"), b"a"):
        alice.receive(message)
    reason = IgnoreReason.LATE if call_is_over else IgnoreReason.UNKNOWN_CALL
    assert alice.ignored == {reason: 1, IgnoreReason.UNKNOWN_STREAM: 2}


# --- R7, R23: only from the participant that was called, and only from one sender


@pytest.mark.parametrize(
    ("sender", "sid", "reason"),
    [
        ("carol", "", IgnoreReason.WRONG_SENDER),
        ("carol", "PA_9", IgnoreReason.WRONG_SENDER),
        ("bob", "PA_2", IgnoreReason.WRONG_SENDER),
        ("carol", "PA_1", IgnoreReason.IMPERSONATION),
        ("", "", IgnoreReason.WRONG_SENDER),
        ("bob", "PA_1", None),
        ("bob", "", None),
    ],
)
@pytest.mark.parametrize("inline", [None, b"done"])
def test_r7_r24_a_response_stream_counts_only_from_the_participant_that_was_called(
    sender: str, sid: str, reason: IgnoreReason | None, inline: bytes | None
) -> None:
    alice = Participant()
    alice.joined("bob", "PA_1")
    call = alice.call()
    alice.receive(response_header(call, inline_content=inline), sender, sid=sid)
    if reason is None:
        assert alice.ignored == {}
        assert len(alice.events()) == 1
    else:
        assert alice.events() == [PacketIgnored(reason, sender)]
        assert alice.statistics.pending_calls == 1
        assert alice.statistics.open_streams_in == 0


def test_r7_a_response_under_a_first_sid_counts_while_none_is_known() -> None:
    alice = Participant()
    call = alice.call()
    for message in stream(response_header(call), b"done"):
        alice.receive(message, sid="PA_1")
    assert alice.events()[-1] == CallSucceeded(call, "done")


@each_side
@pytest.mark.parametrize(("sender", "sid"), [("carol", ""), ("carol", "PA_9"), ("bob", "PA_2")])
def test_r23_chunks_and_trailers_of_another_sender_are_only_counted(
    side: str, sender: str, sid: str
) -> None:
    alice = Reader(side)
    alice.joined("bob", "PA_1")
    alice.receive(alice.header(), sid="PA_1")
    alice.events()
    alice.receive(StreamChunk("s1", 0, b"forged"), sender, sid=sid)
    alice.receive(StreamTrailer("s1", ""), sender, sid=sid)
    assert alice.events() == []
    assert alice.ignored == {IgnoreReason.UNKNOWN_STREAM: 2}
    alice.receive(StreamChunk("s1", 0, b"real"), sid="PA_1")
    alice.receive(StreamTrailer("s1", ""), sid="PA_1")
    assert alice.outcome() == "real"


@each_side
@pytest.mark.parametrize("sids", [("PA_1", "", "PA_1"), ("", "PA_1", ""), ("", "", "PA_1")])
def test_r23_an_absent_sid_is_the_announced_one(side: str, sids: tuple[str, ...]) -> None:
    alice = Reader(side)
    alice.joined("bob", "PA_1")
    for message, sid in zip(stream(alice.header(), b"real"), sids, strict=True):
        alice.receive(message, sid=sid)
    assert alice.outcome() == "real"


def test_r23_parts_of_unknown_streams_are_only_counted() -> None:
    alice = Participant()
    for index in range(5):
        alice.receive(StreamChunk("s1", index, b"a"))
    alice.receive(StreamTrailer("s1", ""))
    alice.receive(StreamTrailer("s1", "cancelled"))
    assert alice.events() == []
    assert alice.ignored == {IgnoreReason.UNKNOWN_STREAM: 7}
    expect_nothing_left(alice)


def test_r23_the_same_stream_id_of_several_senders_is_several_streams() -> None:
    alice = Participant()
    senders = [("bob", "PA_1"), ("bob", "PA_2"), ("carol", "PA_3"), ("dave", "")]
    texts = {sender: f"of {sender}" for sender in senders}
    streams = {sender: stream(request_header(), text.encode()) for sender, text in texts.items()}
    for step in range(3):
        for sender, sid in senders:
            alice.receive(streams[sender, sid][step], sender, sid=sid)
    events = [event for event in alice.events() if isinstance(event, InvocationReceived)]
    assert [(event.caller_identity, event.payload) for event in events] == [
        (sender, texts[sender, sid]) for sender, sid in senders
    ]


def test_r23_a_request_and_a_response_with_one_stream_id_of_one_sender_do_not_mix() -> None:
    alice = Reader("response")
    alice.receive(request_header("r1", "s1"))
    alice.receive(alice.header("s1"))
    assert alice.ignored == {IgnoreReason.REPEAT: 1}
    alice.receive(StreamChunk("s1", 0, b"request"))
    alice.receive(StreamTrailer("s1", ""))
    assert alice.invocation().payload == "request"
    assert alice.statistics.pending_calls == 1


def test_r23_r25_a_request_on_a_stream_id_that_is_open_is_malformed_and_leaves_it_open() -> None:
    alice = Participant()
    alice.receive(request_header("r1", "s1"))
    alice.receive(StreamChunk("s1", 0, b"first"))
    alice.receive(request_header("r2", "s1"))
    assert alice.sent() == [Ack("r1"), Ack("r2"), error("r2", 1500, data=MALFORMED)]
    alice.receive(StreamTrailer("s1", ""))
    received = alice.invocation()
    assert (received.request_id, received.payload) == ("r1", "first")


@pytest.mark.parametrize("side", ["request", "response"])
def test_r25_bytes_after_the_final_block_fail_an_inline_body_of_the_right_length(side: str) -> None:
    reader = Reader(side)
    content = raw_deflate(BYTES) + b"x"
    reader.receive(reader.header(total_length=len(BYTES), inline_content=content, **PACKED))
    assert reader.outcome() == (1500, AFTER_THE_END)


@pytest.mark.parametrize("side", ["request", "response"])
def test_r28_an_inline_body_is_not_inflated_far_beyond_its_length(side: str) -> None:
    reader = Reader(side, RpcConfig(max_payload_bytes=100_000))
    content = raw_deflate(bytes(200_000))
    reader.receive(reader.header(total_length=10, inline_content=content, **PACKED))
    assert reader.outcome() == (1500, "more than 10 bytes arrived")


def test_r23_a_stream_id_can_be_used_again_once_its_stream_is_over() -> None:
    alice = Participant()
    for number in range(3):
        for message in stream(request_header(f"r{number}"), b"%d" % number):
            alice.receive(message)
    assert [event.payload for event in received_by(alice)] == ["0", "1", "2"]


def received_by(participant: Participant) -> list[InvocationReceived]:
    return [event for event in participant.events() if isinstance(event, InvocationReceived)]


# --- R24: topics, generated texts, impersonation


@pytest.mark.parametrize("topic", ["", "lk.chat", "lk.rpc_request ", "LK.RPC_REQUEST", "lk.rpc"])
@pytest.mark.parametrize("generated", [False, True])
@pytest.mark.parametrize("inline", [None, b"hi"])
def test_r24_other_topics_are_not_read(topic: str, generated: bool, inline: bytes | None) -> None:
    alice = Participant()
    alice.receive(request_header(topic=topic, generated=generated, inline_content=inline))
    assert alice.events() == [PacketIgnored(IgnoreReason.UNKNOWN_TOPIC, "bob")]
    assert alice.sent() == []
    expect_nothing_left(alice)


@each_side
@pytest.mark.parametrize("inline", [None, b"hi"])
def test_r24_a_generated_text_on_an_rpc_topic_is_ignored_without_a_packet(
    side: str, inline: bytes | None
) -> None:
    alice = Reader(side)
    alice.receive(alice.header(generated=True, inline_content=inline))
    assert alice.events() == [PacketIgnored(IgnoreReason.IMPERSONATION, "bob")]
    assert alice.sent() == []
    assert alice.statistics.open_streams_in == alice.statistics.running_invocations == 0
    alice.receive_all(stream(alice.header(), b"real"))
    assert alice.outcome() == "real"


@pytest.mark.parametrize(
    "message", [request_header(), StreamChunk("s1", 1, b"forged"), StreamTrailer("s1", "x")]
)
def test_r24_a_sid_that_is_announced_for_another_is_ignored_without_a_packet(
    message: OutgoingMessage,
) -> None:
    alice = Participant()
    alice.joined("bob", "PA_1")
    alice.receive(request_header("r9"), sid="PA_1")
    alice.receive(StreamChunk("s1", 0, b"a"), sid="PA_1")
    alice.packets()
    alice.receive(message, "carol", sid="PA_1")
    assert alice.events() == [PacketIgnored(IgnoreReason.IMPERSONATION, "carol")]
    assert alice.sent() == []
    assert alice.statistics.buffered_bytes == 1


def test_r24_a_request_stream_under_a_sid_that_is_not_announced_yet_is_read() -> None:
    alice = Participant()
    alice.joined("bob", "PA_1")
    for message in stream(request_header(), b"hi"):
        alice.receive(message, sid="PA_2")
    assert alice.invocation().payload == "hi"


# --- R15, R27: a request header, in this order

WRONGS: dict[str, Fields] = {
    "version": {"version": "1"},
    "over the cap": {"total_length": 101},
    "timeout": {"timeout": "soon"},
    "no text header": {"is_text": False},
    "compression": {"compression": 2},
    "inline over the cap": {"inline_content": b"x" * 101},
    "method": {"method": "unknown"},
}
CODES = {"version": 1404, "over the cap": 1402, "inline over the cap": 1402, "method": 1400}


@pytest.mark.parametrize("second", WRONGS)
@pytest.mark.parametrize("first", WRONGS)
@pytest.mark.parametrize("before", ["", "id", "repeat", "slot"])
def test_r15_r27_the_checks_of_a_header_come_in_order(before: str, first: str, second: str) -> None:
    """Whatever two things are wrong with it, it is the first one in the order of `WRONGS`."""
    alice = Participant(config=RpcConfig(max_payload_bytes=100, max_invocations_per_caller=1))
    request_id = None if before == "id" else "r1"
    if before in ("repeat", "slot"):
        alice.receive(request_header("r1" if before == "repeat" else "r0", "s0"))
        alice.packets()
    fields = {"inline_content": b"hi", **WRONGS[first], **WRONGS[second]}
    alice.receive(request_header(request_id, **fields))
    if before == "id":
        assert alice.sent() == []
        assert alice.events() == [PacketIgnored(IgnoreReason.MALFORMED, "bob")]
        return
    sent = alice.sent()
    if before == "repeat":
        assert sent == [Ack("r1")]
        return
    if before == "slot":
        assert sent == [Ack("r1"), error("r1", 1500, data="too many requests")]
        return
    wrong = next(name for name in WRONGS if name in (first, second))
    code = CODES.get(wrong, 1500)
    assert sent == [Ack("r1"), error("r1", code, data=MALFORMED if code == 1500 else "")]
    expect_nothing_left(alice)


@pytest.mark.parametrize(
    ("version", "accepted"),
    [("2", True)]
    + [(text, False) for text in ("", "1", "3", "02", "2.0", "+2", " 2", "2 ", "٢", "two")]
    + [(None, False)],
)
def test_r15_the_version_is_exactly_2(version: str | None, accepted: bool) -> None:
    alice = Participant()
    alice.receive(request_header(version=version))
    assert alice.sent() == [Ack("r1")] if accepted else [Ack("r1"), error("r1", 1404)]
    assert alice.statistics.open_streams_in == accepted


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [
        (None, 15.0),
        ("8000", 8.0),
        ("0", 0.0),
        ("1", 0.001),
        ("007", 0.007),
        ("4294967295", 4294967.295),
        ("4294967296", 4294967.295),
        ("9" * 20, 4294967.295),
        ("0" * 19 + "5", 0.005),
    ],
)
def test_r27_a_timeout_is_1_to_20_ascii_digits(timeout: str | None, seconds: float) -> None:
    alice = Participant()
    alice.receive(request_header(timeout=timeout, inline_content=b"hi"))
    assert alice.invocation().response_timeout == seconds
    assert alice.next_deadline == pytest.approx(START + min(seconds + 7, 3600), abs=2**-20)


@pytest.mark.parametrize(
    "timeout",
    ["", "9" * 21, "0" * 21, "+5", "-5", " 5", "5 ", "5\n", "5.0", "0x5", "1_000", "٣", "²"],
    ids=short,
)
@pytest.mark.parametrize("inline", [None, b"hi"])
def test_r27_another_text_as_a_timeout_is_malformed(timeout: str, inline: bytes | None) -> None:
    alice = Participant()
    alice.receive(request_header(timeout=timeout, inline_content=inline))
    assert alice.sent() == [Ack("r1"), error("r1", 1500, data=MALFORMED)]
    expect_nothing_left(alice)


@pytest.mark.parametrize("method", [None, "", "Greet", "m" * 65, "é" * 10_000], ids=short)
def test_r15_an_unknown_method_is_1400_once_the_body_is_there(method: str | None) -> None:
    alice = Participant()
    *parts, trailer = stream(request_header(method=method), b"a", b"b")
    for part in parts:
        alice.receive(part)
    assert alice.sent() == [Ack("r1")]
    alice.receive(trailer)
    assert alice.sent() == [error("r1", 1400)]
    expect_nothing_left(alice)


@pytest.mark.parametrize("registered", [False, True])
def test_r15_the_method_is_looked_up_when_the_whole_body_is_there(registered: bool) -> None:
    alice = Participant(methods=() if registered else ("greet",))
    alice.receive(request_header())
    if registered:
        alice.engine.register_method("greet")
    else:
        alice.engine.unregister_method("greet")
    alice.receive(StreamTrailer("s1", ""))
    assert len(received_by(alice)) == registered
    assert alice.sent() == ([Ack("r1")] if registered else [Ack("r1"), error("r1", 1400)])


def test_r15_a_method_of_64_bytes_is_found() -> None:
    alice = Participant(methods=["m" * 64])
    alice.receive(request_header(method="m" * 64, inline_content=b"hi"))
    assert alice.invocation().method == "m" * 64


def test_r14_the_ack_leaves_when_the_header_is_there() -> None:
    alice = Participant()
    for message in stream(request_header(), b"a"):
        alice.receive(message)
        if isinstance(message, StreamHeader):
            assert alice.sent() == [Ack("r1")]
            assert alice.events() == []
    assert alice.sent() == []
    received = alice.invocation()
    assert received == InvocationReceived(received.invocation_id, "r1", "bob", "greet", "a", 8.0)


@pytest.mark.parametrize("inline", [None, b"hi"])
@pytest.mark.parametrize("field", ["byte_header", "neither"])
@each_side
def test_r27_a_stream_that_is_not_text_is_malformed(
    side: str, field: str, inline: bytes | None
) -> None:
    alice = Reader(side)
    header = alice.header()
    fields: Fields = {
        "stream_id": "s1",
        "topic": header.topic,
        "attributes": dict(header.attributes),
        "inline_content": inline,
    }
    if field == "byte_header":
        fields["byte_header"] = {"name": "x"}
    alice.receive(raw_packet(stream_header=fields))
    expect_failure(alice, MALFORMED)


@each_side
@pytest.mark.parametrize("compression", [2, 3, 2**31 - 1, -1])
def test_r27_an_unknown_compression_is_malformed(side: str, compression: int) -> None:
    alice = Reader(side)
    header = alice.header()
    fields: Fields = {
        "stream_id": "s1",
        "topic": header.topic,
        "attributes": dict(header.attributes),
        "text_header": {},
        "compression": compression,
    }
    alice.receive(raw_packet(stream_header=fields))
    expect_failure(alice, MALFORMED)


@each_side
def test_r27_what_nobody_needs_of_a_stream_is_not_read(side: str) -> None:
    """Also R34: what is unknown there is ignored."""
    alice = Reader(side)
    header = alice.header()
    text_header = {
        "operation_type": 3,
        "version": -7,
        "reply_to_stream_id": "x",
        "attached_stream_ids": ["y"],
    }
    fields: Fields = {
        "stream_id": "s1",
        "topic": header.topic,
        "mime_type": "application/x",
        "timestamp": -(2**63),
        "encryption_type": 1,
        "attributes": {**header.attributes, "lk.unknown": "x"},
        "text_header": text_header,
    }
    unknown = b"\xfa\x7f\x01x"  # field 2047
    alice.receive(raw_packet(stream_header=fields) + unknown)
    chunk = {"stream_id": "s1", "content": b"hi", "version": 5, "iv": b"x"}
    alice.receive(raw_packet(stream_chunk=chunk) + unknown)
    trailer = {"stream_id": "s1", "attributes": {"lk.unknown": "x"}}
    alice.receive(raw_packet(stream_trailer=trailer) + unknown)
    assert alice.outcome() == "hi"


@pytest.mark.parametrize("total_length", [None, 2])
def test_r27_a_total_length_that_is_absent_is_not_missed(total_length: int | None) -> None:
    alice = Participant()
    for message in stream(request_header(total_length=total_length), b"hi"):
        alice.receive(message)
    assert alice.invocation().payload == "hi"


# --- R28: names


@pytest.mark.parametrize("name", ["i", "i" * 128, "é" * 64], ids=short)
def test_r28_request_and_stream_ids_of_1_to_128_bytes_are_read(name: str) -> None:
    alice = Participant()
    for message in stream(request_header(name, name), b"hi"):
        alice.receive(message)
    assert alice.invocation().request_id == name


@pytest.mark.parametrize("name", ["", "i" * 129, "é" * 64 + "i"], ids=short)
@pytest.mark.parametrize(
    "message",
    [
        request_header,
        lambda name: request_header("r1", name),
        response_header,
        lambda name: StreamChunk(name, 0, b"a"),
        lambda name: StreamTrailer(name, ""),
    ],
)
def test_r28_other_request_and_stream_ids_are_malformed(
    name: str, message: Callable[[str], OutgoingMessage]
) -> None:
    alice = Participant()
    alice.receive(message(name))
    assert alice.ignored == {IgnoreReason.MALFORMED: 1}
    assert len(alice.events()) == 1
    assert alice.sent() == []


@pytest.mark.parametrize(
    "part",
    [
        b"\x0a\x01\xff",  # stream_id
        b"\x1a\x01\xff",  # topic
        b"\x22\x01\xff",  # mime_type
        b"\x42\x05\x0a\x01\xff\x12\x00",  # the key of an attribute
        b"\x42\x05\x0a\x00\x12\x01\xff",  # its value
    ],
)
def test_r32_a_header_with_a_name_that_is_no_text_is_malformed(part: bytes) -> None:
    alice = Participant()
    header = b"\x0a\x01s" + part
    alice.receive(b"\x2a\x05alice\x6a" + bytes([len(header)]) + header)
    assert alice.ignored == {IgnoreReason.MALFORMED: 1}


# --- R16: repeats, packet and stream alike


def answered(alice: Participant) -> None:
    for message in stream(request_header(), b"hi")[1:]:
        alice.receive(message)
    alice.respond(alice.invocation().invocation_id)


def failed(alice: Participant) -> None:
    alice.receive(StreamTrailer("s1", "cancelled"))


def of_unknown_method(alice: Participant) -> None:
    alice.engine.unregister_method("greet")
    alice.receive(StreamTrailer("s1", ""))
    alice.engine.register_method("greet")


def expired(alice: Participant) -> None:
    alice.time_is(alice.now + 100)


def abandoned(alice: Participant) -> None:
    alice.left("bob")


def still_read(alice: Participant) -> None:
    alice.receive(StreamChunk("s1", 0, b"hi"))


def still_running(alice: Participant) -> None:
    alice.receive(StreamTrailer("s1", ""))


@pytest.mark.parametrize(
    "ending", [answered, failed, of_unknown_method, expired, abandoned, still_read, still_running]
)
@pytest.mark.parametrize(
    "again",
    [
        request_header(),
        request_header("r1", "s2"),
        request_header("r1", "s2", inline_content=b"hi"),
        request_header("r1", "s2", version="9", total_length=2**40),
        request("r1"),
    ],
    ids=["header", "other stream", "inline", "bad", "packet"],
)
def test_r16_a_repeat_of_a_request_stream_is_acked_and_not_read(
    ending: Callable[[Participant], None], again: OutgoingMessage
) -> None:
    alice = Participant()
    alice.receive(request_header())
    ending(alice)
    alice.packets()
    alice.events()
    before = alice.appearance[0], alice.statistics.open_streams_in
    alice.receive(again)
    assert alice.sent() == [Ack("r1")]
    assert (alice.next_deadline, alice.statistics.open_streams_in) == before
    assert counted(alice, IgnoreReason.REPEAT) == 1
    alice.receive(StreamChunk("s2", 0, b"again"))
    alice.receive(StreamTrailer("s2", ""))
    assert counted(alice, IgnoreReason.UNKNOWN_STREAM) == 2
    assert alice.events() == []


@pytest.mark.parametrize("is_answered", [False, True])
def test_r16_a_stream_that_repeats_a_packet_is_not_read(is_answered: bool) -> None:
    alice = Participant()
    alice.receive(request("r1"))
    invocation = alice.invocation().invocation_id
    if is_answered:
        alice.respond(invocation)
    alice.packets()
    for message in stream(request_header("r1"), b"again"):
        alice.receive(message)
    assert alice.sent() == [Ack("r1")]
    assert alice.events() == []
    assert alice.ignored == {IgnoreReason.REPEAT: 1, IgnoreReason.UNKNOWN_STREAM: 2}


@pytest.mark.parametrize(("sender", "sid"), [("bob", "PA_2"), ("carol", "")])
def test_r16_the_same_id_of_another_caller_or_sid_is_another_request(sender: str, sid: str) -> None:
    alice = Participant()
    alice.receive(request_header(), sid="PA_1")
    for message in stream(request_header(), b"other"):
        alice.receive(message, sender, sid=sid)
    assert alice.invocation().payload == "other"
    assert alice.statistics.open_streams_in == 1


# --- R20, R22, R28: time, slots, bytes


@pytest.mark.parametrize("config", [RpcConfig(), RpcConfig(stream_idle_timeout=3)], ids=short)
@each_side
def test_r28_a_stream_without_bytes_for_so_long_fails(side: str, config: RpcConfig) -> None:
    idle = config.stream_idle_timeout
    alice = Reader(side, config)
    alice.receive(alice.header())
    alice.receive(Ack(alice.request_id))
    assert alice.next_deadline == START + idle
    alice.time_is(just_before(START + idle))
    assert alice.outcome() is None
    alice.receive(StreamChunk("s1", 0, b"\xc3"))  # the first half of a character
    last = alice.now
    alice.time_is(last + idle / 2)
    alice.receive(StreamChunk("s1", 1, b""))
    alice.receive(StreamChunk("s1", 0, b"\xc3"))
    alice.receive(StreamChunk("s2", 0, b"a"))
    alice.receive(alice.header())
    assert alice.next_deadline == last + idle
    alice.time_is(just_before(last + idle))
    assert alice.outcome() is None
    alice.time_is(last + idle)
    expect_failure(alice, f"no bytes for {idle:g} seconds")


def test_r28_many_half_read_streams_fail_each_at_its_own_time() -> None:
    alice = Participant()
    for number in range(10):
        alice.now = START + number
        alice.receive(request_header(f"r{number}", f"s{number}", timeout="1000000"))
    for number in range(0, 10, 2):
        alice.receive(StreamChunk(f"s{number}", 0, b"a"))
    alice.packets()
    alice.time_is(START + 23)
    assert [
        message.request_id for message in alice.sent() if isinstance(message, ErrorResponse)
    ] == ["r1", "r3", "r5", "r7"]
    alice.time_is(START + 24)
    assert len(alice.sent()) == 6
    expect_nothing_left(alice)


@pytest.mark.parametrize(("timeout", "after"), [("2000", 9), ("0", 7)])
def test_r20_an_invocation_expires_while_its_body_arrives_and_nobody_is_told(
    timeout: str, after: float
) -> None:
    alice = Participant()
    alice.receive(request_header(timeout=timeout))
    alice.packets()
    alice.now += after - 1
    alice.receive(StreamChunk("s1", 0, b"a"))
    assert alice.next_deadline == START + after
    alice.time_is(just_before(START + after))
    assert alice.statistics.open_streams_in == 1
    alice.time_is(START + after)
    assert alice.sent() == []
    assert alice.events() == []
    expect_nothing_left(alice)
    alice.receive(StreamTrailer("s1", ""))
    assert alice.ignored == {IgnoreReason.UNKNOWN_STREAM: 1}


def test_r20_the_lifetime_counts_from_the_header_and_not_from_the_end_of_the_body() -> None:
    alice = Participant()
    alice.receive(request_header())
    alice.now += 10
    alice.receive(StreamTrailer("s1", ""))
    invocation = alice.invocation()
    assert invocation.response_timeout == 8
    assert alice.next_deadline == START + 15


@pytest.mark.parametrize("timeout", ["4294967295", "9" * 20])
def test_r20_no_invocation_lives_longer_than_an_hour(timeout: str) -> None:
    alice = Participant()
    alice.receive(request_header(timeout=timeout, inline_content=b"hi"))
    assert alice.next_deadline == START + 3600


@pytest.mark.parametrize("inline", [None, b"hi"])
@pytest.mark.parametrize(
    "config",
    [RpcConfig(max_invocations_per_caller=2), RpcConfig(max_invocations=2)],
    ids=["of one caller", "in all"],
)
def test_r22_a_header_takes_a_slot_and_beyond_them_a_body_is_not_read(
    config: RpcConfig, inline: bytes | None
) -> None:
    alice = Participant(config=config)
    alice.receive(request_header("r1", "s1"), sid="PA_1")
    alice.receive(request_header("r2", "s2"), sid="PA_2")
    alice.packets()
    alice.receive(request_header("r3", "s3", inline_content=inline))
    assert alice.sent() == [Ack("r3"), error("r3", 1500, data="too many requests")]
    alice.receive(StreamChunk("s3", 0, b"a"))
    assert alice.ignored == {IgnoreReason.UNKNOWN_STREAM: 1}
    assert alice.statistics.open_streams_in == 2
    alice.receive(request_header("r4", "s4"), "carol")
    assert len(alice.sent()) == (1 if config.max_invocations > 2 else 2)
    alice.receive(StreamTrailer("s1", "cancelled"), sid="PA_1")
    alice.receive(request_header("r5", "s5"))
    assert Ack("r5") in alice.sent()
    assert alice.statistics.open_streams_in >= 2


TOO_MANY = "too many bytes"


@each_form
@each_side
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("bound", ["of one sender", "in all"])
def test_r28_a_body_beyond_the_buffered_bytes_fails(
    side: str, form: str, packed: bool, bound: str
) -> None:
    """Of 114 bytes in all 14 are reserved, which a request cannot use."""
    config = RpcConfig(max_buffered_bytes_per_sender=100)
    if bound == "in all":
        config = RpcConfig(max_buffered_bytes=100 if side == "response" else 114)
    alice = Reader(side, config)
    for size in (100, 101):
        body = b"x" * size
        contents = (raw_deflate(body),) if packed else (body[:50], body[50:])
        header = alice.header(f"s{size}", **(PACKED if packed else {}))
        if side == "request":
            header = request_header(f"r{size}", f"s{size}", **(PACKED if packed else {}))
        elif size == 101:
            alice.request_id = alice.call(response_timeout=1_000)
            alice.packets()
            header = alice.header(f"s{size}", **(PACKED if packed else {}))
        alice.receive_all(bodies_of(form, header, contents))
        outcome = alice.outcome()
        assert outcome == ("x" * 100 if size == 100 else (1500, TOO_MANY))


@pytest.mark.parametrize("of_one_sender", [False, True])
def test_r28_half_read_bodies_and_payloads_that_the_host_has_count_together(
    of_one_sender: bool,
) -> None:
    config = RpcConfig(max_buffered_bytes=114)
    if of_one_sender:
        config = RpcConfig(max_buffered_bytes_per_sender=100)
    alice = Participant(config=config)
    call = alice.call()
    alice.receive(request("v1", payload="x" * 30))
    alice.receive(request_header("inline", "s0", inline_content=b"x" * 30))
    first, second = received_by(alice)
    alice.receive(response_header(call, "s1"))
    alice.receive(StreamChunk("s1", 0, b"x" * 39))
    alice.packets()
    assert alice.statistics.buffered_bytes == 99
    alice.receive(request_header("r2", "s2", inline_content=b"xx"))
    assert alice.sent() == [Ack("r2"), error("r2", 1500, data=TOO_MANY)]
    alice.receive(request_header("r3", "s3", inline_content=b"xx"), "carol")
    assert len(alice.sent()) == (1 if of_one_sender else 2)
    for event in alice.events():
        if isinstance(event, InvocationReceived):
            alice.respond(event.invocation_id)
    alice.respond(first.invocation_id)
    alice.respond_error(second.invocation_id, 1500)
    assert alice.statistics.buffered_bytes == 39
    alice.receive(StreamChunk("s1", 1, b"x" * 61))
    alice.receive(StreamTrailer("s1", ""))
    assert alice.events() == [CallSucceeded(call, "x" * 100)]


def test_r28_a_response_and_a_request_of_one_sender_share_its_budget() -> None:
    alice = Reader("response", RpcConfig(max_buffered_bytes_per_sender=100))
    alice.receive(request("v1", payload="x" * 60))
    invocation = alice.invocation()
    alice.packets()
    alice.receive_all(stream(alice.header(), b"x" * 40, b"x")[:-1])
    events = alice.events()
    assert isinstance(events[-1], CallFailed)
    assert (events[-1].code, events[-1].data) == (1500, TOO_MANY)
    alice.respond(invocation.invocation_id)
    expect_nothing_left_but_packets(alice)


ENDS: dict[str, Callable[[Reader], object]] = {
    "its text": lambda alice: alice.receive(StreamTrailer("s1", "")),
    "a reason": lambda alice: alice.receive(StreamTrailer("s1", "no")),
    "a gap": lambda alice: alice.receive(StreamChunk("s1", 5, b"")),
    "bad text": lambda alice: alice.receive(StreamChunk("s1", 1, b"a\xff")),
    "the cap": lambda alice: alice.receive(StreamChunk("s1", 1, b"x" * 101)),
    "idle time": lambda alice: alice.time_is(START + 15),
    "its time": lambda alice: alice.time_is(START + 2000),
    "departure": lambda alice: alice.left("bob"),
    "a new sid": lambda alice: alice.joined("bob", "PA_2"),
    "a lost connection": lambda alice: alice.disconnected(),
    "close": lambda alice: alice.close(),
}


@each_side
@pytest.mark.parametrize("how", ENDS)
def test_r28_after_every_end_the_bytes_are_given_back(side: str, how: str) -> None:
    config = RpcConfig(
        max_payload_bytes=100, max_buffered_bytes=114, max_buffered_bytes_per_sender=100
    )
    alice = Reader(side, config)
    alice.joined("bob", "PA_1")
    alice.receive(alice.header(), sid="PA_1")
    alice.receive(StreamChunk("s1", 0, b"x" * 60))
    assert alice.statistics.buffered_bytes == 60
    ENDS[how](alice)
    for event in received_by(alice):
        assert alice.statistics.buffered_bytes == 60
        assert alice.respond(event.invocation_id)
    expect_nothing_left_but_packets(alice)
    if how not in ("close", "a lost connection"):
        alice.receive(request_header("r2", "s2", inline_content=b"x" * 100))
        assert len(alice.invocation().payload) == 100


@pytest.mark.big
def test_r28_a_bomb_in_an_inline_header_costs_no_more_than_the_cap() -> None:
    bomb = raw_deflate(bytes(64 * 2**20))
    assert len(bomb) < 2**17
    alice = Participant()
    alice.receive(request_header(**PACKED, inline_content=bomb))
    assert alice.sent() == [Ack("r1")]
    assert take_turns(alice) == 16  # a mebibyte each, and then the first byte over the cap
    assert alice.sent() == [error("r1", 1402)]
    expect_nothing_left(alice)


@pytest.mark.big
@each_form
def test_r28_a_bomb_costs_no_more_memory_than_the_cap(form: str) -> None:
    """What is over the cap is seen before it is there."""
    alice = Reader("request", RpcConfig(max_payload_bytes=2**18))
    messages = bodies_of(form, alice.header(**PACKED), (raw_deflate(bytes(2**23)),))
    with traced_memory() as memory:
        alice.receive_all(messages)
        _, peak = memory()
    assert alice.outcome() == (1402, "")
    assert peak < 2**20


def test_r28_l6_late_a_silent_stream_and_the_deadlines_of_calls_end_in_their_order() -> None:
    alice = Participant()
    silent = alice.call(response_timeout=60)
    early, late = alice.call(response_timeout=14.5), alice.call(response_timeout=15.5)
    alice.receive(Ack(early))
    alice.receive(Ack(late))
    alice.receive(response_header(silent))
    alice.events()
    alice.time_is(START + 1_000)
    assert failures(alice.events()) == [(early, 1502), (silent, 1500), (late, 1502)]


# --- R9, R19, R31: who leaves takes the bodies along


@pytest.mark.parametrize(
    ("departure", "gone"),
    [
        (lambda alice: alice.left("bob"), True),
        (lambda alice: alice.left("bob", "PA_1"), True),
        (lambda alice: alice.joined("bob", "PA_2"), True),
        (lambda alice: alice.left("bob", "PA_0"), False),
        (lambda alice: alice.left("carol"), False),
        (lambda alice: alice.joined("bob", "PA_1", client_protocol=1), False),
    ],
)
@each_side
def test_r31_who_leaves_takes_half_read_streams_along(
    side: str, departure: Callable[[Participant], None], gone: bool
) -> None:
    alice = Reader(side)
    alice.joined("bob", "PA_1")
    alice.receive(alice.header(), sid="PA_1")
    alice.receive(StreamChunk("s1", 0, b"a"), sid="PA_1")
    alice.packets()
    alice.events()
    departure(alice)
    assert alice.sent() == []
    events = alice.events()
    if gone:
        assert failures(events) == ([(alice.request_id, 1503)] if side == "response" else [])
        expect_nothing_left(alice)
    else:
        assert events == []
        alice.receive(StreamTrailer("s1", ""), sid="PA_1")
        assert alice.outcome() == "a"


@each_side
@pytest.mark.parametrize("sid", ["", "PA_1"])
def test_r31_who_was_never_announced_can_leave(side: str, sid: str) -> None:
    alice = Reader(side)
    alice.receive(alice.header(), sid=sid)
    alice.receive(StreamChunk("s1", 0, b"a"), sid=sid)
    alice.left("bob")
    expect_nothing_left_but_packets(alice)


def test_r19_a_body_under_a_newer_sid_survives_the_departure_of_the_old_one() -> None:
    alice = Participant()
    alice.joined("bob", "PA_1")
    alice.receive(request_header("r1", "s1"), sid="PA_1")
    alice.receive(request_header("r2", "s2"), sid="PA_2")
    alice.left("bob", "PA_1")
    assert alice.statistics.open_streams_in == 1
    alice.receive(StreamTrailer("s2", ""), sid="PA_2")
    assert alice.invocation().request_id == "r2"


def test_r41_only_what_the_host_was_told_of_is_told_as_abandoned() -> None:
    alice = Participant()
    alice.receive(request_header("r1", "s1"))
    alice.receive(request_header("r2", "s2", inline_content=b"hi"))
    told = alice.invocation().invocation_id
    alice.disconnected()
    [event] = alice.events()
    assert isinstance(event, InvocationAbandoned)
    assert event.invocation_id == told
    expect_nothing_left(alice)
    alice.connected()
    alice.receive(StreamTrailer("s1", ""))
    assert alice.ignored == {IgnoreReason.UNKNOWN_STREAM: 1}
    alice.receive(request_header("r1", "s1"))
    assert alice.sent() == [Ack("r1")]
    assert counted(alice, IgnoreReason.REPEAT) == 1


def test_r42_after_close_no_part_of_a_stream_has_an_effect() -> None:
    alice = Reader("request")
    alice.receive(alice.header())
    alice.packets()
    alice.close()
    before = alice.appearance
    alice.receive_all(stream(alice.header("s2"), b"a"))
    alice.receive(StreamTrailer("s1", ""))
    assert alice.appearance == before
    assert alice.events() == []


@each_side
def test_r40_learning_a_sid_leaves_the_streams_of_others_as_they_are(side: str) -> None:
    alice = Reader(side)
    alice.receive(request_header("r7", "s7"), "carol")
    alice.receive(alice.header())
    alice.joined("bob", "PA_1")
    alice.receive(StreamChunk("s7", 0, b"of carol"), "carol")
    alice.receive(StreamTrailer("s7", ""), "carol")
    assert [event.payload for event in received_by(alice)] == ["of carol"]


# --- R21, R32, R36, R37, R39: envelopes


@pytest.mark.parametrize("inline", [None, b"hi"])
def test_r21_a_request_stream_without_an_identity_is_ignored(inline: bytes | None) -> None:
    alice = Participant()
    alice.receive(request_header(inline_content=inline), "")
    alice.receive(StreamChunk("s1", 0, b"a"), "")
    assert alice.events() == [PacketIgnored(IgnoreReason.NO_SENDER, "")]
    assert alice.sent() == []
    assert counted(alice, IgnoreReason.UNKNOWN_STREAM) == 1


def test_r32_a_request_header_is_ignored_while_the_outbox_is_full() -> None:
    alice = Participant(config=RpcConfig(max_waiting_packets=1))
    alice.receive(request_header("r1", "s1"))
    alice.receive(request_header("r2", "s2", inline_content=b"hi"))
    assert alice.events() == [PacketIgnored(IgnoreReason.OVERLOADED, "bob")]
    assert alice.sent() == [Ack("r1")]
    alice.receive(request_header("r2", "s2", inline_content=b"hi"))
    assert alice.invocation().request_id == "r2"


def test_r34_an_encrypted_packet_inside_a_stream_leaves_it_as_it_is() -> None:
    alice = Reader("request")
    alice.receive(alice.header())
    alice.receive(raw_packet(encrypted_packet={"encryption_type": 1, "encrypted_value": b"x"}))
    assert alice.ignored == {IgnoreReason.ENCRYPTED: 1}
    alice.receive(StreamTrailer("s1", ""))
    assert alice.outcome() == ""


@each_side
def test_r36_the_host_s_word_replaces_what_the_parts_of_a_stream_claim(side: str) -> None:
    alice = Reader(side)
    alice.joined("bob", "PA_1")
    parts = stream(alice.header(), b"real")
    for part, claimed in zip(parts, ["carol", "", "alice"], strict=True):
        alice.receive(part, claimed, sid="PA_7", sender_identity="bob", sender_sid="PA_1")
    assert alice.outcome() == "real"


def test_r36_an_identity_without_a_sid_means_that_there_is_none() -> None:
    alice = Participant()
    parts = stream(request_header(), b"real")
    alice.receive(parts[0], sid="PA_1", sender_identity="bob")
    alice.receive(parts[1], sid="PA_2", sender_identity="bob")
    alice.receive(parts[2], sid="PA_1")  # on its own word, the packet is of another sid
    assert received_by(alice) == []
    alice.receive(parts[2])
    assert alice.invocation().payload == "real"


@each_side
def test_r37_a_packet_that_was_seen_is_ignored_before_its_stream_is_looked_at(side: str) -> None:
    alice = Reader(side)
    alice.joined("bob", "PA_1")
    parts = stream(alice.header(), b"a", b"b")
    for sequence, part in enumerate(parts, 1):
        alice.receive(part, sid="PA_1", sequence=sequence)
        if sequence < len(parts):
            alice.receive(part, sid="PA_1", sequence=sequence)
            # The number is known, whatever comes under it.
            alice.receive(StreamTrailer("s1", "no"), sid="PA_1", sequence=sequence)
    assert counted(alice, IgnoreReason.REPEAT) == 6
    assert alice.outcome() == "ab"


@pytest.mark.parametrize("position", range(3))
@pytest.mark.parametrize(
    ("to", "counts"),
    [(["carol"], False), (["carol", "alice"], True), ([], True), (["Alice"], False)],
)
def test_r39_parts_of_a_stream_for_others_are_ignored(
    position: int, to: list[str], counts: bool
) -> None:
    alice = Participant()
    header = request_header()
    fields: list[Fields] = [
        {
            "stream_header": {
                "stream_id": "s1",
                "topic": header.topic,
                "attributes": dict(header.attributes),
                "text_header": {},
            }
        },
        {"stream_chunk": {"stream_id": "s1", "content": b"hi"}},
        {"stream_trailer": {"stream_id": "s1"}},
    ]
    for number, part in enumerate(fields):
        alice.receive(raw_packet("bob", to if number == position else ["alice"], **part))
    assert counted(alice, IgnoreReason.NOT_FOR_US) == (not counts)
    assert [event.payload for event in received_by(alice)] == (
        ["hi"] if counts else [""] if position == 1 else []
    )


@pytest.mark.parametrize("message", stream(request_header(), b"a"))
def test_r39_a_part_of_a_stream_from_ourselves_is_ignored(message: OutgoingMessage) -> None:
    alice = Participant()
    alice.receive(message, "alice")
    assert alice.ignored == {IgnoreReason.FROM_OURSELVES: 1}
    assert alice.sent() == []


# --- streams of many senders, side by side

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
senders = st.tuples(
    st.sampled_from(["bob", "carol", "dave"]), st.sampled_from(["", "PA_1", "PA_2"])
)


def cut_at_random(body: bytes, chance: random.Random) -> list[bytes]:
    cuts = sorted(chance.randrange(len(body) + 1) for _ in range(chance.randrange(6)))
    return [body[start:end] for start, end in itertools.pairwise([0, *cuts, len(body)])]


@settings(max_examples=60)
@given(
    st.lists(st.tuples(senders, texts, st.sampled_from(["plain", "deflate", "sync"])), max_size=12),
    st.randoms(use_true_random=False),
    st.booleans(),
)
def test_r23_streams_of_many_senders_in_any_interleaving_arrive_intact(
    bodies: list[tuple[tuple[str, str], str, str]], chance: random.Random, as_requests: bool
) -> None:
    alice = Participant()
    for identity in ("bob", "carol", "dave"):
        alice.joined(identity)
    waiting: list[tuple[str, str, list[OutgoingMessage]]] = []
    expected = []
    for number, ((sender, sid), text, form) in enumerate(bodies):
        body = text.encode()
        stream_id = f"s{sum(key == (sender, sid) for key, _, _ in bodies[:number])}"
        fields: Fields = {"total_length": len(body)}
        if form != "plain":
            fields |= PACKED
            body = raw_deflate(body, zlib.Z_FINISH if form == "deflate" else SYNC)
        if as_requests:
            request_id = f"r{number}"
            header = request_header(request_id, stream_id, **fields)
        else:
            request_id = alice.call(sender)
            header = response_header(request_id, stream_id, **fields)
        expected.append((request_id, text))
        waiting.append((sender, sid, stream(header, *cut_at_random(body, chance))))
    while waiting:
        sender, sid, parts = chance.choice(waiting)
        alice.receive(parts.pop(0), sender, sid=sid)
        waiting = [entry for entry in waiting if entry[2]]
    kind = InvocationReceived if as_requests else CallSucceeded
    arrived = [
        (event.request_id, event.payload)
        for event in alice.events()
        if isinstance(event, InvocationReceived | CallSucceeded) and isinstance(event, kind)
    ]
    assert sorted(arrived) == sorted(expected)
    assert alice.ignored == {}
    assert alice.statistics.open_streams_in == 0
