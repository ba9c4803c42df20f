"""The rules of bodies that go out as streams: R8, R10, R13, R17, R29, R30, R38, R40 to R42."""

import itertools
import random
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from helpers import START, Participant, error, failures, parsed, request, short
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import (
    BOM,
    CHUNK,
    REQUEST_TOPIC,
    RESPONSE_TOPIC,
    carry,
    contents,
    expect_nothing_left,
    inflated,
    noise,
    pair,
    request_header,
    response_header,
    shape,
    stream,
    take,
)

from rpcproto import (
    CallSucceeded,
    InvocationReceived,
    LocalProtocolError,
    OutgoingPacket,
    PacketKind,
    RpcConfig,
    RpcEngine,
)
from rpcproto.core.packets_pb2 import DataPacket
from rpcproto.testing import counting_ids
from rpcproto.wire import Ack, Response, StreamTrailer

each_side = pytest.mark.parametrize("side", ["request", "answer"])

THREE_CHUNKS = "a" * (2 * CHUNK + 1)
V1 = (0, ())
V2 = (1, ())
INLINE = (2, ())
DEFLATE = (2, (2,))
Peer = tuple[int, tuple[int, ...]]


class Writer(Participant):
    """Alice, who sends bodies to bob: as requests, or as answers to his requests."""

    def __init__(self, side: str, peer: Peer = V2, **more: Any) -> None:
        super().__init__(**more)
        self.side = side
        self.is_request = side == "request"
        self.numbers = 0
        self.joined("bob", "PA_bob", client_protocol=peer[0], capabilities=peer[1])

    def write(self, payload: str) -> str:
        """Queue a body; returns the request id."""
        if self.is_request:
            return self.call(payload=payload)
        invocation = self.asked()
        assert self.respond(invocation.invocation_id, payload)
        return invocation.request_id

    def asked(self, stream_id: str = "s1") -> InvocationReceived:
        """Bob's request, as a stream; its ack is taken."""
        self.numbers += 1
        self.receive(request_header(f"r{self.numbers}", stream_id, inline_content=b""))
        assert self.packets()[-1].kind is PacketKind.ACK
        return self.invocation()


def header_of(packet: OutgoingPacket) -> Any:
    message = parsed(packet)
    assert message.HasField("stream_header")
    return message.stream_header


# --- R8, R17: caps


@pytest.mark.parametrize("peer", [V2, INLINE, DEFLATE, (3, (2,))])
@pytest.mark.parametrize(
    ("payload", "fits"), [("x" * 100, True), ("é" * 50 + "x", False)], ids=["at it", "over it"]
)
def test_r8_toward_a_v2_peer_the_cap_is_max_payload_bytes(
    peer: Peer, payload: str, fits: bool
) -> None:
    alice = Writer("request", peer, config=RpcConfig(max_payload_bytes=100))
    call = alice.write(payload)
    assert failures(alice.events()) == ([] if fits else [(call, 1402)])
    assert bool(alice.packets()) is fits


@pytest.mark.big
@pytest.mark.parametrize("excess", [0, 1])
@each_side
def test_r8_r17_by_default_a_payload_is_at_most_16_mib(side: str, excess: int) -> None:
    alice = Writer(side)
    alice.write("x" * (16 * 2**20 + excess))
    assert alice.statistics.open_streams_out == (not excess)
    code = 1402 if side == "request" else 1504
    refused = [code] if excess else []
    assert [failed for _, failed in failures(alice.events())] == (
        refused if side == "request" else []
    )
    errors = [parsed(packet).rpc_response.error.code for packet in take(alice, 1)]
    assert errors == (refused if side == "answer" and excess else [0] * (not excess))


def test_r8_a_v1_request_over_15360_bytes_goes_as_a_stream_once_the_peer_can_read_one() -> None:
    alice = Writer("request", V1)
    call = alice.write("x" * 15_361)
    assert failures(alice.events()) == [(call, 1402)]
    assert alice.packets() == []
    alice.joined("bob", client_protocol=1)
    alice.write("x" * 15_361)
    assert shape(alice.packets()) == "HCCT"


@pytest.mark.parametrize("came_as", ["packet", "stream"])
@pytest.mark.parametrize("peer", [None, V1, V2, INLINE, DEFLATE])
@pytest.mark.parametrize("size", [0, 5, 512, 15_000, 15_360, 15_361, 40_000])
def test_r17_the_form_of_an_answer(came_as: str, peer: Peer | None, size: int) -> None:
    alice = Participant()
    if peer is not None:
        alice.joined("bob", client_protocol=peer[0], capabilities=peer[1])
    alice.receive(request() if came_as == "packet" else request_header(inline_content=b""))
    alice.packets()
    assert alice.respond(alice.invocation().invocation_id, "x" * size)
    packets = alice.packets()
    if came_as == "packet" and size <= 15_360:
        expected = "e"
    elif came_as == "packet" and (peer is None or peer == V1):
        expected = "!"
    elif peer == DEFLATE or (peer == INLINE and size <= 512):
        expected = "I"
    else:
        expected = "H" + "C" * -(-size // CHUNK) + "T"
    assert shape(packets) == expected
    if expected == "!":
        assert parsed(packets[0]).rpc_response.error.code == 1504
    expect_nothing_left(alice)


def test_r17_what_was_announced_of_one_sid_is_not_taken_for_another() -> None:
    alice = Participant()
    alice.joined("bob", "PA_1", client_protocol=2, capabilities=(2,))
    alice.receive(request_header(inline_content=b""), sid="PA_2")
    alice.receive(request("r2"), sid="PA_2")
    alice.packets()
    for event in alice.events():
        assert isinstance(event, InvocationReceived)
        alice.respond(event.invocation_id, "x" * 15_361)
    assert shape(alice.packets()) == "H!CCT"


@pytest.mark.parametrize("came_as", ["packet", "stream"])
@pytest.mark.parametrize("peer", [V1, V2, INLINE, DEFLATE])
def test_r17_an_answer_over_max_payload_bytes_is_1504(came_as: str, peer: Peer) -> None:
    alice = Participant(config=RpcConfig(max_payload_bytes=100))
    alice.joined("bob", client_protocol=peer[0], capabilities=peer[1])
    alice.receive(request() if came_as == "packet" else request_header(inline_content=b""))
    invocation = alice.invocation().invocation_id
    assert alice.respond(invocation, "é" * 50 + "x") is True
    assert alice.respond(invocation, "x") is False
    assert alice.sent() == [Ack("r1"), error("r1", 1504)]


def test_r17_errors_are_always_packets() -> None:
    alice = Writer("answer", DEFLATE)
    alice.respond_error(alice.asked().invocation_id, 2001, "no", "x" * 15_360)
    assert shape(alice.packets()) == "!"


@pytest.mark.parametrize("room", [0, -1])
@each_side
def test_r30_a_body_beyond_the_waiting_bytes_is_refused_with_the_reason(
    side: str, room: int
) -> None:
    """1505 for a call, 1504 for an answer."""
    other = Writer(side)
    other.write(THREE_CHUNKS)
    waiting = other.statistics.waiting_bytes
    assert waiting > len(THREE_CHUNKS)
    config = RpcConfig(max_waiting_bytes=waiting + len(THREE_CHUNKS) + room)
    alice = Writer(side, config=config)
    asked = [] if side == "request" else [alice.asked(f"s{number}") for number in range(2)]
    for number in range(2):
        if asked:
            assert alice.respond(asked[number].invocation_id, THREE_CHUNKS) is True
        else:
            alice.call(payload=THREE_CHUNKS)
    packets = alice.packets()
    if room == 0:
        assert shape(packets) == "HH" + "CC" * 3 + "TT"
        assert alice.events() == []
        return
    if side == "request":
        [refusal] = alice.events()
        assert failures([refusal]) == [(counting(3), 1505)]
        assert "waiting" in getattr(refusal, "data", "")
        assert shape(packets) == "HCCCT"
    else:
        assert shape(packets) == "H!CCCT"
        failed = parsed(packets[1]).rpc_response.error
        assert failed.code == 1504
        assert "waiting" in failed.data
    assert alice.statistics.waiting_bytes == 0


def test_r30_an_answer_is_never_refused_for_the_number_of_packets_that_wait() -> None:
    alice = Writer("answer", config=RpcConfig(max_waiting_packets=1))
    invocation = alice.asked()
    alice.receive(request("r9", "unknown"))
    assert alice.statistics.waiting_packets == 2
    assert alice.respond(invocation.invocation_id, THREE_CHUNKS)
    call = alice.call()
    assert failures(alice.events()) == [(call, 1505)]
    assert shape(alice.packets()) == "a!HCCCT"


def counting(number: int) -> str:
    new_id = counting_ids("a")
    return [new_id() for _ in range(number)][-1]


# --- R13: stream ids


@each_side
def test_r13_stream_ids_come_from_the_source_after_the_request_id(side: str) -> None:
    alice = Writer(side)
    for number in range(2):
        alice.write("hi")
        ids = 2 * number + 2 if side == "request" else number + 1
        header = header_of(alice.packets()[0])
        assert header.stream_id == counting(ids)
        if side == "request":
            assert header.attributes["lk.rpc_request_id"] == counting(ids - 1)


@each_side
def test_r13_r33_ids_are_asked_for_last(side: str) -> None:
    alice = Writer(side)
    with pytest.raises(LocalProtocolError):
        alice.write("\ud800")
    with pytest.raises(LocalProtocolError):
        alice.call(payload="hi", response_timeout=0)
    alice.packets()
    alice.write("hi")
    header = header_of(alice.packets()[-3])
    assert header.stream_id == counting(2 if side == "request" else 1)


def test_r13_what_goes_as_a_packet_asks_for_no_stream_id() -> None:
    alice = Writer("request", V1)
    assert [alice.write("hi"), alice.write("hi")] == [counting(1), counting(2)]
    alice.receive(request())
    alice.respond(alice.invocation().invocation_id)
    assert alice.write("hi") == counting(3)


@pytest.mark.parametrize("bad", ["", "i" * 129, None])
@each_side
def test_r13_r33_a_bad_stream_id_raises_and_changes_nothing(side: str, bad: Any) -> None:
    good = counting_ids("a")
    ids: list[Any] = [good(), bad] if side == "request" else [bad]

    def new_id() -> str:
        return ids.pop(0) if ids else good()

    alice = Writer(side, new_id=new_id)
    invocation = None if side == "request" else alice.asked()
    before = alice.appearance

    def write() -> object:
        if invocation is None:
            return alice.call(payload="hi")
        return alice.respond(invocation.invocation_id, "hi")

    with pytest.raises(LocalProtocolError):
        write()
    assert alice.appearance == before
    assert ids == []
    assert write()
    assert shape(alice.packets()) == "HCT"


# --- R10: a part of a stream that could not be sent

INLINED, SHORT, LONG = "inline", "short", "long"
FORMS: dict[str, tuple[Peer, str, str]] = {
    INLINED: (INLINE, "hi", "I"),
    SHORT: (V2, "hi", "HCT"),
    LONG: (V2, THREE_CHUNKS, "HCCCT"),
}
PARTS = [(form, part) for form, (_, _, parts) in FORMS.items() for part in range(len(parts))]


def after_failure(side: str, form: str, part: int, *, whole: bool) -> str:
    """What still leaves: the error of an answer, and a trailer if the stream had begun and no
    trailer of its own was taken."""
    kind = FORMS[form][2][part]
    return "!" * (side == "answer") + "X" * (kind == "C" and not whole)


@pytest.mark.parametrize("whole", [False, True], ids=["at once", "all taken"])
@pytest.mark.parametrize(("form", "part"), PARTS)
@each_side
def test_r10_r38_a_part_that_could_not_be_sent_ends_the_stream(
    side: str, form: str, part: int, whole: bool
) -> None:
    peer, payload, parts = FORMS[form]
    alice = Writer(side, peer)
    request_id = alice.write(payload)
    packets = alice.packets() if whole else take(alice, part + 1)
    assert shape(packets) == (parts if whole else parts[: part + 1])
    alice.send_failed(packets[part])
    assert failures(alice.events()) == ([(request_id, 1505)] if side == "request" else [])
    rest = alice.packets()
    assert shape(rest) == after_failure(side, form, part, whole=whole)
    for packet in rest:
        assert (packet.destination_identity, packet.request_id) == ("bob", request_id)
        message = parsed(packet)
        if message.HasField("rpc_response"):
            assert message.rpc_response.request_id == request_id
            assert message.rpc_response.error.code == 1505
        else:
            assert message.stream_trailer.stream_id == header_of(packets[0]).stream_id
    expect_nothing_left(alice)
    for packet in [*packets, *rest]:  # once more, the others, and what followed
        alice.send_failed(packet)
    assert alice.packets() == []
    assert alice.events() == []


OVER: dict[str, Callable[[Writer, str], object]] = {
    "cancelled": lambda alice, call: alice.cancel(call),
    "answered": lambda alice, call: alice.receive(Response(call, "x")),
    "timed out": lambda alice, call: alice.time_is(START + 10),
}
GONE: dict[str, Callable[[Writer, str], object]] = {
    "left": lambda alice, call: alice.left("bob"),
    "back": lambda alice, call: alice.joined("bob", "PA_2"),
    "disconnected": lambda alice, call: alice.disconnected(),
    "closed": lambda alice, call: alice.close(),
}


@pytest.mark.parametrize(("form", "part"), PARTS)
@pytest.mark.parametrize(
    ("side", "end"),
    [("request", end) for end in (*OVER, *GONE)] + [("answer", end) for end in GONE],
)
def test_r10_a_part_of_what_is_over_already_is_a_no_op(
    side: str, end: str, form: str, part: int
) -> None:
    peer, payload, _ = FORMS[form]
    alice = Writer(side, peer)
    request_id = alice.write(payload)
    failed = take(alice, part + 1)[part]
    (OVER | GONE)[end](alice, request_id)
    alice.events()
    alice.packets()
    alice.send_failed(failed)
    assert alice.packets() == []
    assert alice.events() == []


def test_r10_a_long_answer_is_known_after_5000_other_requests() -> None:
    alice = Writer("answer")
    request_id = alice.write(THREE_CHUNKS)
    first = take(alice, 2)
    for number in range(5_000):
        alice.receive(request(f"other{number}", "unknown"))
    others = take(alice, 10_000)
    assert shape(others) == "a!" * 5_000
    alice.send_failed(first[1])
    rest = alice.packets()
    assert shape(rest) == "!X"
    assert {packet.request_id for packet in rest} == {request_id}
    alice.send_failed(first[0])
    assert alice.packets() == []


@pytest.mark.parametrize("form", FORMS)
def test_r10_an_answer_is_known_after_255_other_requests(form: str) -> None:
    peer, payload, _ = FORMS[form]
    alice = Writer("answer", peer)
    request_id = alice.write(payload)
    packets = alice.packets()
    for number in range(255):
        alice.receive(request(f"other{number}", "unknown"))
    alice.packets()
    alice.send_failed(packets[0])
    [failed] = alice.packets()
    assert (failed.kind, failed.request_id) == (PacketKind.ERROR, request_id)


@each_side
def test_r10_a_failure_touches_no_other_stream(side: str) -> None:
    alice = Writer(side)
    alice.call(payload=THREE_CHUNKS)
    alice.receive(request_header("r9", "s9", inline_content=b""))
    alice.respond(alice.invocation().invocation_id, THREE_CHUNKS)
    packets = take(alice, 3)
    assert shape(packets) == "HaH"
    alice.send_failed(packets[0 if side == "request" else 2])
    rest = alice.packets()
    assert shape(rest) == ("CCCT" if side == "request" else "!CCCT")
    streams = {parsed(packet).stream_chunk.stream_id for packet in rest} - {""}
    assert streams == {header_of(packets[2 if side == "request" else 0]).stream_id}


@pytest.mark.parametrize("fails", ["request", "answer"])
def test_r10_a_request_id_that_a_peer_chose_never_decides_what_failed(fails: str) -> None:
    """Bob's request has the id of our call to him."""
    alice = Writer("request")
    call = alice.write(THREE_CHUNKS)
    alice.receive(request_header(call, "s1", inline_content=b""))
    alice.respond(alice.invocation().invocation_id, THREE_CHUNKS)
    header, ack, answer = take(alice, 3)
    assert shape([header, ack, answer]) == "HaH"
    alice.send_failed(ack)
    alice.send_failed(answer if fails == "answer" else header)
    assert failures(alice.events()) == ([(call, 1505)] if fails == "request" else [])
    assert alice.statistics.pending_calls == (fails == "answer")
    rest = alice.packets()
    assert shape(rest) == ("!CCCT" if fails == "answer" else "CCCT")


def test_r10_acks_errors_and_cancelling_trailers_are_ignored() -> None:
    alice = Writer("request")
    call = alice.write(THREE_CHUNKS)
    alice.packets()
    second = alice.write(THREE_CHUNKS)
    alice.cancel(second)
    alice.receive(request("r1", "unknown"))
    packets = alice.packets()
    assert shape(packets) == "HXa!"
    for packet in packets[1:]:
        alice.send_failed(packet)
    assert alice.packets() == []
    assert alice.events() == []
    assert alice.cancel(call)


# --- R29: what is on the wire


@pytest.mark.parametrize("offset", [0.0, 1_795_000_000.0, 1_795_000_000.25, -3600.0])
@pytest.mark.parametrize("peer", [V2, INLINE])
def test_r29_the_header_of_a_request(peer: Peer, offset: float) -> None:
    engine = RpcEngine("alice", new_id=counting_ids("a"), unix_time_offset=offset)
    engine.participant_joined("bob", now=START, client_protocol=peer[0])
    call = engine.call("bob", "größe", "hé", now=START + 0.5)
    packet = engine.next_packet()
    assert packet is not None
    expected = DataPacket(participant_identity="alice", destination_identities=["bob"])
    header = expected.stream_header
    header.stream_id = counting(2)
    header.timestamp = round((offset + START + 0.5) * 1000)
    header.topic = REQUEST_TOPIC
    header.mime_type = "text/plain"
    header.total_length = 3
    header.attributes["lk.rpc_request_id"] = call
    header.attributes["lk.rpc_request_method"] = "größe"
    header.attributes["lk.rpc_request_response_timeout_ms"] = "8000"
    header.attributes["lk.rpc_request_version"] = "2"
    header.text_header.SetInParent()
    if peer == INLINE:
        header.inline_content = "hé".encode()
    assert parsed(packet) == expected
    assert packet.data == expected.SerializeToString(deterministic=True)
    keys = [f"lk.rpc_request_{key}".encode() for key in ("id", "method", "response", "version")]
    assert sorted(keys, key=packet.data.index) == keys
    assert packet[1:4] == ("bob", call, PacketKind.STREAM_HEADER)


@pytest.mark.parametrize("offset", [1e300, -1e300, 1.7e308])
def test_r29_r33_no_finite_offset_of_the_clock_is_too_large_for_the_stamp(offset: float) -> None:
    engine = RpcEngine("alice", new_id=counting_ids("a"), unix_time_offset=offset)
    engine.participant_joined("bob", now=START, client_protocol=2)
    engine.call("bob", "greet", "hi", now=START)
    packet = engine.next_packet()
    assert packet is not None
    assert header_of(packet).timestamp == (2**62 if offset > 0 else -(2**62))


@pytest.mark.parametrize("peer", [V2, INLINE])
def test_r29_the_header_of_an_answer_has_the_request_id_alone(peer: Peer) -> None:
    alice = Writer("answer", peer)
    request_id = alice.write("")
    header = header_of(alice.packets()[0])
    assert dict(header.attributes) == {"lk.rpc_request_id": request_id}
    assert (header.topic, header.mime_type, header.timestamp) == (
        RESPONSE_TOPIC,
        "text/plain",
        100_000,
    )
    assert header.WhichOneof("content_header") == "text_header"
    assert header.HasField("total_length")
    assert header.HasField("inline_content") == (peer == INLINE)


@pytest.mark.parametrize(("timeout", "text"), [(10, "8000"), (0.5, "1000"), (1e9, "4294967295")])
def test_r5_the_budget_of_the_handler_is_an_attribute(timeout: float, text: str) -> None:
    alice = Writer("request")
    alice.call(response_timeout=timeout)
    attributes = header_of(alice.packets()[0]).attributes
    assert attributes["lk.rpc_request_response_timeout_ms"] == text


@pytest.mark.parametrize("payload", ["", "hi", THREE_CHUNKS])
@each_side
def test_r29_every_part_has_our_identity_one_destination_no_sid_and_no_sequence(
    side: str, payload: str
) -> None:
    alice = Writer(side)
    request_id = alice.write(payload)
    packets = alice.packets()
    stream_id = header_of(packets[0]).stream_id
    for packet in packets:
        message = parsed(packet)
        assert message.participant_identity == "alice"
        assert list(message.destination_identities) == ["bob"] == [packet.destination_identity]
        assert message.participant_sid == ""
        assert message.sequence == 0
        assert packet.request_id == request_id
        part = getattr(message, message.WhichOneof("value") or "")
        assert part.stream_id == stream_id
        assert packet.kind.value.replace(" ", "_") == message.WhichOneof("value")
    assert {packet.token for packet in packets} == {packets[0].token}
    assert b"".join(contents(packets)) == payload.encode()
    trailer = parsed(packets[-1]).stream_trailer
    assert (trailer.reason, dict(trailer.attributes)) == ("", {})


@each_side
def test_r29_an_empty_payload_is_present_in_every_form(side: str) -> None:
    for peer, expected in [(V2, "HT"), (INLINE, "I"), (DEFLATE, "I")]:
        alice = Writer(side, peer)
        alice.write("")
        packets = alice.packets()
        assert shape(packets) == expected
        header = header_of(packets[0])
        assert header.HasField("total_length")
        assert header.total_length == header.compression == 0


def chunks_of(text: str, peer: Peer = V2) -> list[str]:
    """A body in chunks, each decoded by itself."""
    alice = Writer("request", peer)
    alice.write(text)
    packets = alice.packets()
    assert header_of(packets[0]).total_length == len(text.encode())
    return [content.decode() for content in contents(packets)]


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("a" * CHUNK, [CHUNK]),
        ("a" * (CHUNK + 1), [CHUNK, 1]),
        ("a" * 3 * CHUNK, [CHUNK] * 3),
        ("a" * 14_999 + "é", [14_999, 2]),
        ("a" * 14_998 + "é", [15_000]),
        ("a" * 14_998 + "€", [14_998, 3]),
        ("a" * 14_999 + "€", [14_999, 3]),
        ("a" * 14_997 + "😀", [14_997, 4]),
        ("a" * 14_998 + "😀", [14_998, 4]),
        ("a" * 14_999 + "😀", [14_999, 4]),
        ("a" * 14_996 + "😀", [15_000]),
        ("😀" * 4_000, [15_000, 1_000]),
        ("a" + "😀" * 4_000, [14_997, 1_004]),
        # not just before U+FEFF
        ("a" * CHUNK + BOM, [14_999, 4]),
        ("a" * (CHUNK - 1) + BOM, [14_998, 4]),
        ("a" * (CHUNK - 3) + BOM + "a", [CHUNK, 1]),
        ("a" * (CHUNK - 3) + BOM * 2, [14_996, 7]),
        ("a" * 14_998 + "é" + BOM, [14_998, 5]),
        ("a" * 14_996 + "😀" + BOM, [14_996, 7]),
        ("a" * 10_000 + BOM * 3_000, [9_999, 9_001]),
        (BOM + "a" * CHUNK, [CHUNK, 3]),
        # a run of them as long as a chunk is cut all the same
        (BOM * 10_000, [CHUNK, CHUNK]),
        ("a" + BOM * 6_000, [14_998, 3_003]),
        (BOM * 4_999 + "aé" + BOM * 5_000, [14_998, 15_001 - 14_998 + 14_999 - 3, 3]),
    ],
    ids=short,
)
def test_r29_chunks_are_cut_on_character_boundaries_and_not_before_a_bom(
    text: str, sizes: list[int]
) -> None:
    chunks = chunks_of(text)
    assert [len(chunk.encode()) for chunk in chunks] == sizes
    assert "".join(chunks) == text


@settings(max_examples=60)
@given(st.text("aé€😀\ufeff", min_size=1, max_size=30), st.integers(0, 20), st.integers(1, 40_000))
def test_r29_chunks_of_any_text(unit: str, shift: int, size: int) -> None:
    text = "a" * shift + (unit * (size // len(unit) + 1))[:size]
    chunks = chunks_of(text)
    assert "".join(chunks) == text
    for chunk, following in itertools.pairwise(chunks):
        assert len(chunk.encode()) <= CHUNK
        if following.startswith(BOM):
            assert not chunk.strip(BOM)[1:]
        rest = len(chunk.encode()) + len(following.encode())
        if not chunk.endswith(BOM) and BOM not in following[:2]:
            assert min(rest, CHUNK + 1) > CHUNK or len(chunk.encode()) > CHUNK - 4


def counted_size(packet: OutgoingPacket) -> int:
    """The size of a packet without identity, sid and sequence."""
    message = parsed(packet)
    message.ClearField("participant_identity")
    return message.ByteSize()


@pytest.mark.parametrize("destination", ["bob", "é" * 128])
@pytest.mark.parametrize("identity", ["alice", "a" * 256])
@pytest.mark.parametrize("side", ["request", "answer"])
def test_r29_a_body_is_inline_while_its_packet_is_at_most_15000_bytes(
    side: str, identity: str, destination: str
) -> None:
    def sent(size: int) -> list[OutgoingPacket]:
        alice = Participant(identity)
        alice.joined(destination, client_protocol=2)
        if side == "request":
            alice.call(destination, "größe", "x" * size)
        else:
            alice.receive(request_header(inline_content=b""), destination)
            alice.packets()
            alice.respond(alice.invocation().invocation_id, "x" * size)
        return alice.packets()

    [packet] = sent(14_000)
    most = 14_000 + CHUNK - counted_size(packet)
    [packet] = sent(most)
    assert counted_size(packet) == CHUNK
    assert shape(sent(most)) == "I"
    assert shape(sent(most + 1)) == "HCT"


@pytest.mark.parametrize(
    ("peer", "size", "compressed"),
    [
        (DEFLATE, 511, False),
        (DEFLATE, 512, True),
        ((3, (2,)), 512, True),
        ((2, (1, 2, 3)), 512, True),
        ((2, (1, 3)), 512, False),
        (INLINE, 512, False),
        (DEFLATE, 1_000_000, True),
    ],
)
@each_side
def test_r29_bodies_of_512_bytes_are_compressed_where_that_is_announced(
    side: str, peer: Peer, size: int, compressed: bool
) -> None:
    alice = Writer(side, peer)
    alice.write("a" * size)
    [packet] = alice.packets()
    header = header_of(packet)
    assert header.total_length == size
    assert header.compression == compressed
    content = header.inline_content
    assert (inflated(content) if compressed else content) == b"a" * size
    assert counted_size(packet) <= CHUNK


@pytest.mark.parametrize("peer", [V1, (1, (2,))])
@each_side
def test_r29_compression_needs_client_protocol_2(side: str, peer: Peer) -> None:
    alice = Writer(side, peer)
    alice.write("a" * 15_000)
    assert shape(alice.packets()) == ("r" if side == "request" and peer == V1 else "HCT")


def incompressible() -> str:
    """Characters of one and two bytes by turns: too many different ones in too short a text."""
    chance = random.Random(1)
    spans = [(1, 127), (128, 1920)] * 175
    return "".join(chr(first + int(chance.random() * count)) for first, count in spans)


def test_r29_a_text_that_does_not_shrink_goes_plain() -> None:
    body = incompressible().encode()
    assert len(body) >= 512
    assert len(zlib.compress(body, 1)) - 6 >= len(body)
    alice = Writer("request", DEFLATE)
    alice.write(body.decode())
    [packet] = alice.packets()
    assert header_of(packet).compression == 0
    assert header_of(packet).inline_content == body


def test_r29_a_compressed_body_is_inline_while_its_packet_is_at_most_15000_bytes() -> None:
    """Found by longer and longer names of the method, each of which makes the packet so longer."""

    def sent(method_bytes: int) -> list[OutgoingPacket]:
        alice = Writer("request", DEFLATE)
        alice.call(method="m" * method_bytes, payload=text)
        return alice.packets()

    text = noise(next(size for size in range(17_700, 19_000, 5) if shape_of_noise(size) != "I") - 9)
    sizes = [counted_size(packets[0]) for n in range(1, 65) if len(packets := sent(n)) == 1]
    assert 1 < len(sizes) < 64
    assert max(sizes) == CHUNK


@each_side
def test_r29_a_long_compressed_body_is_one_deflate_stream_with_a_final_block(side: str) -> None:
    text = noise(60_000) + "é😀\ufeff"
    alice = Writer(side, DEFLATE)
    alice.write(text)
    packets = alice.packets()
    header = header_of(packets[0])
    assert header.compression == 1
    assert header.total_length == len(text.encode())
    pieces = contents(packets)
    assert [len(piece) for piece in pieces[:-1]] == [CHUNK] * (len(pieces) - 1)
    assert 0 < len(pieces[-1]) <= CHUNK
    assert sum(map(len, pieces)) < len(text.encode())
    assert inflated(b"".join(pieces)) == text.encode()


@each_side
def test_r29_a_text_that_starts_with_a_bom_is_compressed_only_inline(side: str) -> None:
    alice = Writer(side, DEFLATE)
    alice.write(BOM + "a" * 60_000)
    [packet] = alice.packets()
    assert header_of(packet).compression == 1
    alice.write(BOM + noise(60_000))
    packets = alice.packets()
    assert header_of(packets[0]).compression == 0
    assert b"".join(contents(packets)).decode() == BOM + noise(60_000)


def shape_of_noise(size: int) -> str:
    alice = Writer("request", DEFLATE)
    alice.write(noise(20_000)[:size])
    return shape(alice.packets())


def test_r30_a_compressed_body_that_fits_one_chunk_but_not_inline_leaves_whole() -> None:
    low, high = 15_000, 20_000
    while high - low > 1:  # the last size that is inline, and the first that is not
        middle = (low + high) // 2
        if shape_of_noise(middle) == "I":
            low = middle
        else:
            high = middle
    alice = Writer("request", DEFLATE)
    alice.write(noise(20_000)[:high])
    alice.receive(request("r1", "unknown"))
    assert shape(alice.packets()) == "HCTa!"


def test_r28_at_most_64_bodies_are_compressed_at_once_and_all_arrive() -> None:
    """Each costs memory that is not its own; what comes after them goes plain."""
    alice, bob = pair(of_bob=DEFLATE)
    text = noise(32_000)
    for _ in range(66):
        alice.call(payload=text)
    headers = take(alice, 66)
    assert [header_of(packet).compression for packet in headers] == [1] * 64 + [0] * 2
    for packet in headers:
        bob.receive(packet.data)
    carry(alice, bob)
    assert {event.payload for event in bob.events() if isinstance(event, InvocationReceived)} == {
        text
    }
    alice.call(payload=text)
    assert header_of(alice.packets()[0]).compression == 1


def test_r28_a_plain_body_that_ends_makes_no_room_for_a_compressed_one() -> None:
    alice, _ = pair(of_bob=DEFLATE)
    text = noise(32_000)
    plain = [alice.call(payload=text) for _ in range(65)][-1]
    alice.cancel(plain)
    take(alice, 66)
    alice.call(payload=text)
    [header] = take(alice, 1)
    assert header_of(header).compression == 0


@pytest.mark.parametrize("peer", [V1, V2, INLINE, DEFLATE])
def test_r29_nothing_over_64000_bytes_is_ever_emitted(peer: Peer) -> None:
    alice = Participant("é" * 128)
    other = "ü" * 128
    alice.joined(other, client_protocol=peer[0], capabilities=peer[1])
    texts = ["😀" * 3_840, "a" * 15_360] + ["€" * 30_000, noise(100_000)] * (peer != V1)
    for text in texts:
        alice.call(other, "m" * 64, text)
    alice.receive(request("é" * 64, payload=""), other)
    alice.respond_error(alice.invocation().invocation_id, 2**32 - 1, "é" * 999, "é" * 99_999)
    packets = alice.packets()
    assert len(packets) >= 4
    assert max(len(packet.data) for packet in packets) <= 16_500


# --- R30: what leaves next


def test_r30_small_packets_leave_in_the_order_in_which_they_were_made() -> None:
    alice = Writer("request")
    alice.joined("carol", client_protocol=2)
    alice.joined("dave")
    alice.call("bob", payload="one chunk")
    alice.call("carol", payload="inline")
    alice.call("bob", payload=THREE_CHUNKS)
    alice.call("dave", payload="packet")
    alice.receive(request("r1", "unknown"), "carol")
    alice.call("bob", payload="")
    alice.call("bob", payload="a" * CHUNK)
    assert shape(alice.packets()) == "HCT" + "I" + "H" + "r" + "a!" + "HT" + "HCT" + "CCCT"


@pytest.mark.parametrize(("size", "whole"), [(CHUNK, True), (CHUNK + 1, False)])
@each_side
def test_r30_a_stream_that_fits_one_chunk_leaves_whole(side: str, size: int, whole: bool) -> None:
    alice = Writer(side)
    alice.write("a" * size)
    assert (alice.statistics.open_streams_out == 0) is whole
    alice.receive(request("r9", "unknown"))
    assert shape(alice.packets()) == ("HCTa!" if whole else "Ha!CCT")


def labels(packets: list[OutgoingPacket]) -> str:
    """The letter of the call that each packet belongs to, then what it is."""
    letters: dict[str, str] = {}
    for packet in packets:
        letters.setdefault(packet.request_id, "ABCDEF"[len(letters)])
    return " ".join(letters[packet.request_id] + shape([packet]) for packet in packets)


def test_r30_chunks_and_trailers_take_turns() -> None:
    alice = Writer("request")
    alice.call(payload="a" * 3 * CHUNK)
    alice.call(payload="b" * 2 * CHUNK)
    assert labels(alice.packets()) == "AH BH AC BC AC BC AC BT AT"


def test_r30_a_stream_that_comes_later_takes_its_turn_after_the_others() -> None:
    alice = Writer("request")
    alice.call(payload="a" * 4 * CHUNK)
    alice.call(payload="b" * 4 * CHUNK)
    packets = take(alice, 5)
    alice.call(payload="c" * 2 * CHUNK)
    alice.call(payload="small")
    packets += alice.packets()
    assert labels(packets) == ("AH BH AC BC AC CH DH DC DT BC AC CC BC AC CC BC AT CT BT")


def test_r30_answers_and_requests_to_different_peers_take_turns() -> None:
    alice = Writer("answer")
    alice.joined("carol", client_protocol=1)
    alice.write("a" * 2 * CHUNK)
    alice.call("carol", payload="b" * 2 * CHUNK)
    packets = alice.packets()
    assert labels(packets) == "AH BH AC BC AC BC AT BT"
    assert [packet.destination_identity for packet in packets] == ["bob", "carol"] * 4


@pytest.mark.parametrize("taken", range(6))
def test_r30_a_small_packet_leaves_before_the_next_chunk_whenever_it_is_made(taken: int) -> None:
    alice = Writer("request")
    alice.write(THREE_CHUNKS)
    packets = take(alice, taken)
    alice.receive(request("r1", "unknown"))
    packets += alice.packets()
    expected = "HCCCT"[:taken] + "a!" + "HCCCT"[taken:]
    assert shape(packets) == ("Ha!CCCT" if taken == 0 else expected)


def test_r30_a_body_counts_as_waiting_until_its_end_was_taken() -> None:
    alice = Writer("request")
    alice.write(THREE_CHUNKS)
    [header] = take(alice, 1)
    assert header_of(header).total_length == len(THREE_CHUNKS)
    assert alice.statistics.waiting_packets == 0
    assert alice.statistics.waiting_bytes == len(THREE_CHUNKS)
    alice.packets()
    assert alice.statistics.waiting_bytes == 0


@pytest.mark.parametrize("taken", range(1, 5))
def test_r30_an_answer_that_is_leaving_has_no_deadline_of_its_own(taken: int) -> None:
    alice = Writer("answer")
    alice.write(THREE_CHUNKS)
    packets = take(alice, taken)
    assert alice.next_deadline is None
    alice.time_is(START + 1e6)
    assert shape([*packets, *alice.packets()]) == "HCCCT"


def test_r16_a_repeat_of_a_request_whose_answer_is_leaving_is_acked_only() -> None:
    alice = Writer("answer")
    alice.write(THREE_CHUNKS)
    take(alice, 2)
    alice.receive(request_header("r1", inline_content=b""))
    assert shape(alice.packets()) == "aCCT"


def test_r32_packets_of_streams_are_counted_as_they_leave() -> None:
    alice = Writer("request")
    alice.write(THREE_CHUNKS)
    for taken in range(1, 6):
        take(alice, 1)
        assert alice.statistics.packets_out == taken


def test_r30_a_compressed_body_of_just_one_chunk_leaves_whole() -> None:
    def deflated_size(text: str) -> int:
        alice = Writer("request", DEFLATE)
        alice.write(text)
        return sum(map(len, contents(alice.packets())))

    text = noise(20_000)
    [exact] = itertools.islice(
        (text[:size] for size in range(17_900, 19_000) if deflated_size(text[:size]) == CHUNK), 1
    )
    alice = Writer("request", DEFLATE)
    alice.write(exact)
    alice.receive(request("r1", "unknown"))
    assert shape(alice.packets()) == "HCTa!"


# --- R38: what ends early


def early_inline(alice: Writer, call: str) -> None:
    alice.receive(response_header(call, inline_content=b"early"))


def early_stream(alice: Writer, call: str) -> None:
    for message in stream(response_header(call), b"early"):
        alice.receive(message)


EARLY: dict[str, Callable[[Writer, str], object]] = {
    **OVER,
    "no ack": lambda alice, call: alice.time_is(START + 7),
    "refused": lambda alice, call: alice.receive(error(call, 1402)),
    "answered inline": early_inline,
    "answered by a stream": early_stream,
    "answered by a broken stream": lambda alice, call: alice.receive(
        response_header(call, is_text=False)
    ),
}


@pytest.mark.parametrize(
    ("form", "taken"), [(form, taken) for form in FORMS for taken in range(len(FORMS[form][2]) + 1)]
)
@pytest.mark.parametrize("end", EARLY)
def test_r38_a_call_that_ends_early_drops_its_chunks_and_closes_its_stream(
    end: str, form: str, taken: int
) -> None:
    peer, payload, parts = FORMS[form]
    alice = Writer("request", peer)
    call = alice.write(payload)
    packets = take(alice, taken)
    EARLY[end](alice, call)
    rest = alice.packets()
    if form == LONG and taken < len(parts):
        assert shape(rest) == ("HX" if taken == 0 else "X")
        trailer = rest[-1]
        assert (trailer.destination_identity, trailer.request_id) == ("bob", call)
        stream_id = header_of([*packets, *rest][0]).stream_id
        assert parsed(trailer).stream_trailer.stream_id == stream_id
        assert parsed(trailer).participant_identity == "alice"
        assert trailer.kind is PacketKind.STREAM_TRAILER
    else:
        assert shape(rest) == parts[taken:]
    expect_nothing_left(alice)


@pytest.mark.parametrize("taken", range(6))
@pytest.mark.parametrize("end", GONE)
@each_side
def test_r38_no_trailer_follows_when_the_peer_left_or_the_engine_closed(
    side: str, end: str, taken: int
) -> None:
    """Small packets still leave, if there is a connection (R19, R41, R42)."""
    alice = Writer(side)
    request_id = alice.write(THREE_CHUNKS)
    take(alice, taken)
    GONE[end](alice, request_id)
    assert alice.statistics.open_streams_out == 0
    left = shape(alice.packets())
    assert left == ("H" if taken == 0 and end != "disconnected" else "")
    expect_nothing_left(alice)


def test_r38_a_trailer_of_an_early_end_is_small_and_leaves_before_other_chunks() -> None:
    alice = Writer("request")
    first, second = alice.write(THREE_CHUNKS), alice.write(THREE_CHUNKS)
    packets = take(alice, 3)
    alice.cancel(first)
    packets += alice.packets()
    assert labels(packets) == "AH BH AC AX BC BC BC BT"
    assert packets[1].request_id == second


def test_r38_a_response_header_does_not_end_the_request_that_is_leaving() -> None:
    alice = Writer("request")
    call = alice.write(THREE_CHUNKS)
    take(alice, 2)
    alice.receive(response_header(call))
    assert shape(take(alice, 1)) == "C"
    alice.receive(StreamTrailer("s1", ""))
    assert shape(alice.packets()) == "X"
    assert alice.events()[-1] == CallSucceeded(call, "")


def test_r38_a_header_or_v1_packet_that_is_queued_always_leaves() -> None:
    for peer, expected in [(V1, "r"), (V2, "HX"), (INLINE, "I")]:
        alice = Writer("request", peer)
        alice.cancel(alice.write("a" * 15_001 if peer == V2 else "hi"))
        assert shape(alice.packets()) == expected


# --- R19, R40 to R42


def test_r19_the_departure_of_an_old_sid_leaves_the_bodies_for_a_new_one() -> None:
    alice = Participant()
    alice.joined("bob", "PA_1")
    for sid in ("PA_1", "PA_2"):
        alice.receive(request_header(f"of {sid}", inline_content=b""), sid=sid)
        alice.respond(alice.invocation().invocation_id, THREE_CHUNKS)
    assert shape(take(alice, 6)) == "aHaHCC"
    alice.left("bob", "PA_1")
    rest = alice.packets()
    assert shape(rest) == "CCT"
    assert {packet.request_id for packet in rest} == {"of PA_2"}


def test_r19_a_body_for_someone_without_a_sid_goes_whatever_sid_left() -> None:
    alice = Participant()
    alice.receive(request_header(inline_content=b""))
    alice.respond(alice.invocation().invocation_id, THREE_CHUNKS)
    assert shape(take(alice, 3)) == "aHC"
    alice.left("bob", "PA_1")
    assert alice.packets() == []
    expect_nothing_left(alice)


def test_r19_small_packets_that_are_queued_still_leave_when_their_caller_left() -> None:
    alice = Writer("answer", INLINE)
    alice.write("inline")
    alice.receive(request("r9", "unknown"))
    alice.left("bob")
    assert shape(alice.packets()) == "Ia!"


def test_r19_who_left_does_not_stop_bodies_for_others() -> None:
    alice = Writer("request")
    alice.joined("carol", client_protocol=1)
    alice.call("bob", payload=THREE_CHUNKS)
    alice.call("carol", payload=THREE_CHUNKS)
    take(alice, 2)
    alice.left("bob")
    rest = alice.packets()
    assert shape(rest) == "CCCT"
    assert {packet.destination_identity for packet in rest} == {"carol"}


@pytest.mark.parametrize("later", [V1, V2, INLINE, DEFLATE])
@pytest.mark.parametrize(("at_first", "expected"), [(V1, "r"), (V2, "HCT"), (INLINE, "I")])
def test_r40_the_form_of_a_call_is_fixed_when_it_is_made(
    at_first: Peer, expected: str, later: Peer
) -> None:
    alice = Writer("request", at_first)
    alice.write("x" * 600)
    alice.joined("bob", client_protocol=later[0], capabilities=later[1])
    assert shape(alice.packets()) == expected


@pytest.mark.parametrize("later", [V1, V2, INLINE, DEFLATE])
def test_r40_a_body_that_is_leaving_goes_on_in_its_form(later: Peer) -> None:
    text = noise(40_000)
    for at_first in (V2, DEFLATE):
        alice = Writer("request", at_first)
        alice.write(text)
        packets = take(alice, 2)
        alice.joined("bob", "PA_bob", client_protocol=later[0], capabilities=later[1])
        body = b"".join(contents([*packets, *alice.packets()]))
        assert (inflated(body) if at_first == DEFLATE else body) == text.encode()


@pytest.mark.parametrize(
    ("at_last", "expected"), [(V1, "HCT"), (V2, "HCT"), (INLINE, "I"), (DEFLATE, "I")]
)
def test_r40_the_form_of_an_answer_is_fixed_when_it_is_given(at_last: Peer, expected: str) -> None:
    alice = Writer("answer", V1)
    invocation = alice.asked()
    alice.joined("bob", client_protocol=at_last[0], capabilities=at_last[1])
    alice.respond(invocation.invocation_id, "x" * 600)
    alice.joined("bob", client_protocol=0)
    packets = alice.packets()
    assert shape(packets) == expected
    assert header_of(packets[0]).compression == (at_last == DEFLATE)


def test_r40_learning_the_first_sid_leaves_bodies_under_way() -> None:
    alice = Participant()
    alice.joined("bob", client_protocol=1)
    call = alice.call(payload=THREE_CHUNKS)
    packets = take(alice, 2)
    alice.call("carol")
    alice.joined("bob", "PA_1", client_protocol=1)
    assert shape([*packets, *alice.packets()]) == "HCrCCT"
    alice.receive(response_header(call, inline_content=b"done"), sid="PA_1")
    assert alice.events() == [CallSucceeded(call, "done")]


@pytest.mark.parametrize("taken", range(3))
def test_r41_a_lost_connection_drops_everything_that_waits(taken: int) -> None:
    alice = Writer("answer", INLINE)
    alice.write(THREE_CHUNKS)
    alice.call(payload="inline")
    alice.call(payload=THREE_CHUNKS)
    take(alice, taken)
    alice.disconnected()
    assert alice.packets() == []
    expect_nothing_left(alice)
    alice.connected()
    assert alice.packets() == []


def test_r42_after_close_whole_packets_that_are_queued_may_be_taken() -> None:
    alice = Writer("answer", V2)
    alice.joined("carol", client_protocol=2)
    alice.write(THREE_CHUNKS)
    alice.call("bob", payload="one chunk")
    alice.call("carol", payload="inline")
    alice.call("bob", payload=THREE_CHUNKS)
    alice.close()
    assert alice.statistics.open_streams_out == 0
    assert shape(alice.packets()) == "HHCTIH"
    expect_nothing_left(alice)
