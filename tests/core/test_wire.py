"""The wire by itself: what we write, what we read, and what we do not."""

from typing import Any, get_args

import pytest
from helpers import raw_packet, request, short
from hypothesis import given
from hypothesis import strategies as st
from odd_packets import sized, tag, varint
from script_strategies import LAW

from fuzz.differential import written_by_an_engine
from fuzz.plain import as_protobuf, build
from rpcproto import stamp, wire
from rpcproto.core import wire as core_wire
from rpcproto.core.messages import PacketKind
from rpcproto.core.packets_pb2 import DataPacket
from rpcproto.wire import (
    REQUEST_TOPIC,
    RESPONSE_TOPIC,
    Ack,
    ErrorResponse,
    OutgoingMessage,
    Packet,
    Request,
    Response,
    Sealed,
    StreamChunk,
    StreamHeader,
    StreamTrailer,
    Unread,
    request_attributes,
    response_attributes,
)

characters = st.sampled_from(
    "\x00\naz~\x7f\u00e9\u07ff\u0800\u4e16\ufeff\uffff\U0001f600\U0010ffff"
)
"""Of every length in UTF-8, with the first and last of some."""
texts = st.text(characters, max_size=40)
long_texts = st.one_of(texts, texts.map(lambda text: text * 300))
contents = st.one_of(st.binary(max_size=40), st.binary(max_size=40).map(lambda some: some * 300))
ID = "0d0c3b5e-6a5d-4a53-9a5e-1c1f6f3f8f0a"
ids = st.one_of(
    st.text(characters, min_size=1, max_size=32), st.sampled_from([ID, ID[:-2] + "\u00e9"])
)
"""Half of them as long as nearly all are."""
identities = st.text(characters, min_size=1, max_size=64)
names = st.text(characters, min_size=1, max_size=40)
attributes = st.dictionaries(
    st.sampled_from(
        [
            "lk.rpc_request_id",
            "lk.rpc_request_method",
            "lk.rpc_request_response_timeout_ms",
            "lk.rpc_request_version",
        ]
    ),
    names,
)
"""Those that we write, of which none is empty and none begins another: elsewhere implementations of
protobuf do not agree on the order."""
uint32 = st.one_of(st.integers(0, 300), st.integers(0, 2**32 - 1))
uint64 = st.one_of(st.integers(0, 300), st.integers(0, 2**64 - 1))

MESSAGES: dict[type[OutgoingMessage], st.SearchStrategy[OutgoingMessage]] = {
    Request: st.builds(Request, ids, long_texts, long_texts, uint32, uint32, st.just(False)),
    Ack: st.builds(Ack, ids),
    Response: st.builds(Response, ids, st.one_of(st.none(), long_texts)),
    ErrorResponse: st.builds(ErrorResponse, ids, uint32, long_texts, long_texts),
    StreamHeader: st.builds(
        StreamHeader,
        ids,
        texts,
        attributes,
        st.one_of(st.none(), uint64),
        st.integers(-(2**63), 2**63 - 1),
        st.one_of(st.none(), contents),
        st.one_of(st.sampled_from([0, 1]), st.integers(-(2**31), 2**31 - 1)),
        st.just(True),
        st.booleans(),
    ),
    StreamChunk: st.builds(StreamChunk, ids, uint64, contents),
    StreamTrailer: st.builds(StreamTrailer, ids, texts),
    Sealed: st.builds(Sealed, uint32, contents.filter(bool), contents.filter(bool)),
}
messages = st.one_of(*MESSAGES.values())
each_kind = pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)


@each_kind
@LAW
@given(data=st.data(), sender=identities, destination=identities)
def test_what_we_write_is_protobuf_s_deterministic_serialization(
    kind: type[OutgoingMessage], data: st.DataObject, sender: str, destination: str
) -> None:
    message = data.draw(MESSAGES[kind])
    assert wire.encode(message, sender, destination) == build(message, sender, destination)


@each_kind
@LAW
@given(data=st.data(), sender=identities, destination=identities)
def test_what_an_engine_writes_is_the_same(
    kind: type[OutgoingMessage], data: st.DataObject, sender: str, destination: str
) -> None:
    message = data.draw(MESSAGES[kind])
    if isinstance(message, StreamChunk):
        message = message._replace(content=message.content or b"x")  # no engine sends an empty one
    if isinstance(message, Request):
        message = message._replace(version=1)  # nor another version
    by_an_engine = written_by_an_engine(message, sender, destination)
    assert by_an_engine in (None, wire.encode(message, sender, destination))
    assert by_an_engine is not None or kind in (Response, StreamHeader, Sealed)


@each_kind
@LAW
@given(data=st.data(), sender=identities, destination=identities)
def test_what_we_write_reads_as_it_was(
    kind: type[OutgoingMessage], data: st.DataObject, sender: str, destination: str
) -> None:
    message = data.draw(MESSAGES[kind])
    packet = wire.decode(wire.encode(message, sender, destination))
    assert packet == Packet(sender, "", (destination,), 0, message)


def test_every_kind_of_message_is_tried() -> None:
    assert set(MESSAGES) == set(get_args(OutgoingMessage))
    assert len(PacketKind) == len(MESSAGES) - 1  # what is sealed is one of the others


@pytest.mark.parametrize(
    "length",
    [*(0, 1, 127, 128, 255, 256, 16_383, 16_384), pytest.param(2_097_152, marks=pytest.mark.big)],
    ids=str,
)
def test_lengths_of_every_size_are_written(length: int) -> None:
    message = Response("r1", "x" * length)
    packet = DataPacket(
        participant_identity="bob", destination_identities=["alice"], **as_protobuf(message)
    )
    assert wire.encode(message, "bob", "alice") == packet.SerializeToString()


# --- stamp


@LAW
@given(messages, uint32, texts, texts)
def test_a_stamp_is_what_the_server_would_write(
    message: OutgoingMessage, sequence: int, identity: str, sid: str
) -> None:
    data = wire.encode(message, "bob", "alice")
    stamped = DataPacket.FromString(
        stamp(data, sequence=sequence, sender_identity=identity, sender_sid=sid)
    )
    expected = DataPacket.FromString(data)
    expected.participant_identity = identity or "bob"
    expected.sequence = sequence
    expected.participant_sid = sid
    assert stamped == expected


def test_a_later_stamp_wins() -> None:
    data = stamp(wire.encode(Ack("r1"), "", "alice"), sequence=1, sender_identity="mallory")
    packet = wire.decode(stamp(data, sequence=2, sender_identity="bob", sender_sid="PA_1"))
    assert packet == Packet("bob", "PA_1", ("alice",), 2, Ack("r1"))


def test_an_empty_stamp_changes_nothing() -> None:
    data = wire.encode(Ack("r1"), "bob", "alice")
    assert stamp(data) == data


# --- reading


@LAW
@given(st.binary(max_size=300))
def test_reading_never_raises(data: bytes) -> None:
    packet = wire.decode(data)
    assert packet is None or isinstance(packet, Packet)


@LAW
@given(messages, st.data())
def test_reading_what_was_damaged_never_raises(
    message: OutgoingMessage, data: st.DataObject
) -> None:
    packet = bytearray(wire.encode(message, "bob", "alice"))
    for _ in range(data.draw(st.integers(1, 4))):
        packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
    wire.decode(bytes(packet[: data.draw(st.integers(0, len(packet)))]))


GREETING = core_wire.envelope("bob", "alice")
"""How each of bob's packets to alice begins."""


def assert_that_known_senders_are_read_as_all_others(data: bytes) -> None:
    """The short way, for packets that are a greeting and one message of the usual layout, leads
    where the long one does."""
    if data.startswith(GREETING) and (sole := core_wire.read_sole(data, len(GREETING))):
        origin = core_wire.Envelope("bob", "", True, 0)
        assert core_wire.read_any(data, "alice") == (*sole, origin)
    payload = data[len(GREETING) :]
    if sole := core_wire.read_sole(payload, 0, None, core_wire.PAYLOAD_READERS):
        assert core_wire.read_payload(payload) == sole


@LAW
@given(messages, st.data())
def test_a_known_sender_s_packet_is_read_as_any_other(
    message: OutgoingMessage, data: st.DataObject
) -> None:
    packet = bytearray(wire.encode(message, "bob", "alice"))
    assert_that_known_senders_are_read_as_all_others(bytes(packet))
    for _ in range(data.draw(st.integers(0, 2))):
        packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
    packet += data.draw(st.sampled_from([b"", b"\x80\x01\x07", wire.encode(Ack("r2"), "bob", "")]))
    assert_that_known_senders_are_read_as_all_others(
        bytes(packet[: data.draw(st.integers(0, len(packet)))])
    )


@pytest.mark.parametrize("number", [11, 12, 13, 18, 19])
@pytest.mark.parametrize("size", [*range(4), *range(120, 140), *range(16_370, 16_395)])
def test_a_known_sender_s_packet_of_any_size_is_read_as_any_other(size: int, number: int) -> None:
    """Its length also off by one, and in more bytes than it needs."""
    content = sized(1, b"x" * max(size - 2, 0))
    for length in (len(content) - 1, len(content), len(content) + 1):
        for digits in (varint(length), varint(length)[:-1] + bytes([varint(length)[-1] | 0x80, 0])):
            data = GREETING + tag(number, 2) + digits + content
            assert_that_known_senders_are_read_as_all_others(data)


USUAL: list[OutgoingMessage] = [
    Request(ID, "greet", "Hi", 8_000),
    Ack(ID),
    Response(ID, "Hello"),
    Response(ID, ""),
    StreamHeader(ID, REQUEST_TOPIC, request_attributes(ID, "greet", 8_000), 2, 0, b"Hi"),
    StreamHeader(ID, RESPONSE_TOPIC, response_attributes(ID), 2, 0),
    StreamChunk(ID, 0, b"Hi"),
    StreamTrailer(ID, ""),
]
"""What a call between engines consists of."""


def has_usual_layout(data: bytes, start: int, readers: core_wire.Readers) -> bool:
    """Whether this message is cut out of a packet or payload, and not parsed."""
    layouts, _, _ = readers[data[start]]
    take_apart, before_id, after_id, _ = layouts[len(data) - start]
    before, _, after = take_apart(data, start)
    return (before, after) == (before_id, after_id)


@pytest.mark.parametrize("message", [*USUAL, Sealed(0, bytes(12), bytes(16))], ids=repr)
def test_what_a_known_sender_usually_sends_is_read_by_its_layout(message: OutgoingMessage) -> None:
    """Unless there is more in the packet."""
    data = wire.encode(message, "bob", "alice")
    assert has_usual_layout(data, len(GREETING), core_wire.PACKET_READERS)
    sole = core_wire.read_sole(data, len(GREETING))
    assert sole is not None
    assert_that_known_senders_are_read_as_all_others(data)
    stamped = stamp(data, sequence=1)
    assert core_wire.read_sole(stamped, len(GREETING)) is None
    origin = core_wire.Envelope("bob", "", True, 1)
    assert core_wire.read_any(stamped, "alice") == (*sole, origin)


@pytest.mark.parametrize("message", USUAL, ids=repr)
def test_what_is_usually_sealed_is_read_by_its_layout(message: OutgoingMessage) -> None:
    payload = wire.encode_payload(message)
    assert has_usual_layout(payload, 0, core_wire.PAYLOAD_READERS)
    sole = core_wire.read_sole(payload, 0, None, core_wire.PAYLOAD_READERS)
    assert sole is not None
    assert core_wire.read_payload(payload) == sole


@pytest.mark.parametrize("size", [*range(130), *range(16_300, 16_400)])
def test_a_layout_is_known_for_every_size(size: int) -> None:
    """Also where the length of a field takes another byte."""
    text = "x" * size
    messages = Response(ID, text), StreamChunk(ID, 0, text.encode() + b"x")
    sealed = Sealed(0, bytes(12), bytes(16 + size))
    layout = core_wire.SEALED_LAYOUTS[len(wire.encode(sealed, "bob", "alice")) - len(GREETING)]
    assert layout[1:] != core_wire._NO_LAYOUT[1:3]
    for message in (*messages, sealed):
        data = wire.encode(message, "bob", "alice")
        assert has_usual_layout(data, len(GREETING), core_wire.PACKET_READERS)
        assert_that_known_senders_are_read_as_all_others(data)


IDS = {"rpc_request": "id", "rpc_ack": "request_id", "rpc_response": "request_id"}
IDS |= dict.fromkeys(["stream_header", "stream_chunk", "stream_trailer"], "stream_id")


@pytest.mark.parametrize("kind", IDS)
@pytest.mark.parametrize(
    ("id_", "is_read"),
    [
        ("", False),
        ("i", True),
        ("i" * 128, True),
        ("i" * 129, False),
        ("é" * 64, True),
        ("é" * 64 + "i", False),
        ("😀" * 32, True),
        ("😀" * 33, False),
    ],
    ids=short,
)
def test_an_id_is_1_to_128_bytes(kind: str, id_: str, is_read: bool) -> None:
    fields: dict[str, Any] = {kind: {IDS[kind]: id_}}
    packet = wire.decode(raw_packet(**fields))
    assert (packet is not None) is is_read


@pytest.mark.parametrize(
    ("name", "is_read"),
    [("n" * 256, True), ("n" * 257, False), ("é" * 128, True), ("é" * 128 + "n", False)],
    ids=short,
)
def test_a_name_is_at_most_256_bytes(name: str, is_read: bool) -> None:
    assert (wire.decode(raw_packet(name, rpc_ack={"request_id": "r1"})) is not None) is is_read
    by_sid = raw_packet("bob", participant_sid=name, rpc_ack={"request_id": "r1"})
    assert (wire.decode(by_sid) is not None) is is_read


@pytest.mark.parametrize(
    "kind", ["user", "speaker", "sip_dtmf", "transcription", "metrics", "chat_message"]
)
def test_of_other_kinds_only_the_kind_is_read(kind: str) -> None:
    fields: dict[str, Any] = {kind: {}}
    packet = wire.decode(raw_packet(**fields))
    assert packet is not None
    assert packet.message == Unread(kind)


@pytest.mark.parametrize("data", [b"", raw_packet(), raw_packet() + b"\x9a\x01\x03new"], ids=short)
def test_a_packet_of_no_kind_that_we_know_is_unread(data: bytes) -> None:
    packet = wire.decode(data)
    assert packet is not None
    assert packet.message == Unread("")


@pytest.mark.parametrize(
    "texts_of",
    [
        b"\x22\x02\xc3\x28",  # participant_identity
        b"\x2a\x01\xff",  # destination_identities
        b"\x52\x06\x0a\x01r\x12\x01\xff",  # method
        b"\x62\x06\x0a\x01r\x12\x01\xff",  # payload
        b"\x8a\x01\x01\xff",  # participant_sid
    ],
    ids=["identity", "destination", "method", "payload", "sid"],
)
def test_text_that_is_no_utf_8_is_malformed(texts_of: bytes) -> None:
    assert wire.decode(texts_of) is None


def test_of_two_messages_the_later_counts() -> None:
    both = raw_packet(rpc_ack={"request_id": "a"}) + raw_packet("", [], rpc_request={"id": "r"})
    packet = wire.decode(both)
    assert packet is not None
    assert packet.message == Request("r", "", "", 0, 0)


def test_a_compressed_payload_is_told_and_nothing_of_it_kept() -> None:
    packet = wire.decode(raw_packet(rpc_request={"id": "r", "compressed_payload": b"x"}))
    assert packet is not None
    assert packet.message == Request("r", "", "", 0, 0, True)


def test_a_stream_that_is_no_text_is_written_without_a_text_header() -> None:
    header = StreamHeader("s1", "topic", {}, None, 0, is_text=False)
    packet = DataPacket(
        participant_identity="a", destination_identities=["b"], **as_protobuf(header)
    )
    assert wire.encode(header, "a", "b") == packet.SerializeToString(deterministic=True)


def test_no_packet_of_ours_has_a_kind_or_a_sequence() -> None:
    packet = DataPacket.FromString(wire.encode(request(), "bob", "alice"))
    assert (packet.kind, packet.sequence, packet.participant_sid) == (0, 0, "")
