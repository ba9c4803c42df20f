"""What the wire does by shorter ways, against the same done the plain way.

The packets that it puts together by hand are those of protobuf's own constructor, byte for byte;
a stamp says what setting the fields would; and `read`, which mostly looks at the first bytes alone
to see whether a packet is for us, finds what protobuf finds.
"""

from fuzz.choices import Choices
from fuzz.plain import Reading, Readings, as_read, build, is_for, parse, read, read_payload
from rpcproto import wire
from rpcproto.core import wire as core_wire
from rpcproto.core.packets_pb2 import DataPacket
from rpcproto.wire import (
    MAX_IDENTITY_BYTES,
    REQUEST_ID,
    REQUEST_TOPIC,
    RESPONSE_TOPIC,
    Ack,
    ErrorResponse,
    OutgoingMessage,
    Request,
    Response,
    Sealed,
    StreamChunk,
    StreamHeader,
    StreamTrailer,
    request_attributes,
    response_attributes,
)

US = "alice"
NAMES = (US, "bob", "carol", "", "alic", "alice ", "é" * 64, "n" * 256, "n" * 257, "é" * 129)
IDS = ("r1", "x" * 128, "x" * 129, "é" * 64, "é" * 65, "\u4e16" * 42, "x" * 36)
EXACT = 2**53
"""Numbers below it are exact in floating point, in which an engine has the time."""
TIMES = (1, 1, 1, 2, 60, 300, 7_000)
"""How often a text is repeated: lengths get a byte more from 128 and from 16,384 bytes on."""


def test_one_input(data: bytes) -> None:
    choices = Choices(data)
    sender, destination = name(choices), name(choices)
    packets = [b""]
    if choices.flag():
        message = OF_EACH_KIND[choices.byte() % len(OF_EACH_KIND)](choices)
        if isinstance(message, StreamHeader) and choices.flag():
            message = check_opening(message, choices, sender, destination)
        packets.append(check_building(message, sender, destination))
        packets.append(check_stamp(packets[-1], choices))
    check_reading(packets[-1] + choices.rest(), sender, destination)
    check_reading(core_wire.envelope(sender, destination) + packets[0] + data, sender, destination)


# --- what is built


def name(choices: Choices) -> str:
    return choices.of(NAMES) if choices.flag() else choices.text()


def long_text(choices: Choices) -> str:
    return choices.text() * choices.of(TIMES)


def header(choices: Choices) -> StreamHeader:
    attributes = (
        request_attributes(request_id(choices), choices.text() or "m", choices.number(4))
        if choices.flag()
        else response_attributes(request_id(choices))
    )
    if choices.flag():
        attributes = dict(sorted(attributes.items(), reverse=True))
    is_text = choices.byte() % 8 > 0
    return StreamHeader(
        request_id(choices),
        choices.text(),
        attributes,
        choices.number(8) if choices.flag() else None,
        choices.number(8) - 2**63 if choices.flag() else choices.number(7),
        long_text(choices).encode() if choices.flag() else None,
        choices.of((0, 1, 1, 127, 128)),
        is_text,
        is_text and choices.flag(),
    )


def request_id(choices: Choices) -> str:
    return choices.of(IDS) if choices.flag() else choices.text() or "r1"


OF_EACH_KIND = (
    lambda choices: Request(
        request_id(choices),
        choices.text(),
        long_text(choices),
        choices.number(4),
        choices.number(4) if choices.flag() else 1,
    ),
    lambda choices: Ack(request_id(choices)),
    lambda choices: Response(request_id(choices), long_text(choices)),
    lambda choices: Response(request_id(choices), None),
    lambda choices: ErrorResponse(
        request_id(choices), choices.number(4), long_text(choices), long_text(choices)
    ),
    header,
    lambda choices: StreamChunk(
        request_id(choices), choices.number(8), long_text(choices).encode() or b"\xff"
    ),
    lambda choices: StreamTrailer(request_id(choices), choices.text()),
    lambda choices: Sealed(
        choices.number(4), long_text(choices).encode() or b"iv", long_text(choices).encode() or b"x"
    ),
)


def check_building(message: OutgoingMessage, sender: str, destination: str) -> bytes:
    data = wire.encode(message, sender, destination)
    assert data == build(message, sender, destination)
    by_an_engine = written_by_an_engine(message, sender, destination)
    assert by_an_engine is None or by_an_engine == data
    if not isinstance(message, Sealed):
        check_payload(message, data)
    if isinstance(message, StreamTrailer):
        assert core_wire.id_of_trailer(data).decode() == message.stream_id
    return data


def check_payload(message: OutgoingMessage, data: bytes) -> None:
    """What is sealed of a packet says the same as the packet."""
    payload, decoded = wire.encode_payload(message), wire.decode(data)
    reading = read_payload(payload)
    if decoded is not None:
        assert wire.decode_payload(payload) == decoded.message
        assert reading == as_read(decoded.message)
    elif reading is None:
        assert wire.decode_payload(payload) is None


def written_by_an_engine(message: OutgoingMessage, sender: str, destination: str) -> bytes | None:
    """The packet as the core puts it together; None for what no engine sends, and for headers,
    which `check_opening` checks."""
    envelope = core_wire.envelope(sender, destination)
    match message:
        case Request(id_, method, payload, timeout, 1):
            id_text, text = id_.encode(), payload.encode()
            return core_wire.write_request(envelope, id_text, method, text, timeout)
        case Ack(id_):
            return core_wire.write_ack(envelope, id_)
        case Response(id_, str(payload)):
            return core_wire.write_response(envelope, id_, payload.encode())
        case ErrorResponse():
            return core_wire.write_error(envelope, *message)
        case StreamChunk(id_, index, content):
            return core_wire.write_chunk(envelope, id_.encode(), index, content)
        case StreamTrailer(id_, reason):
            return core_wire.write_trailer(envelope, id_.encode(), reason)
    return None


def check_opening(
    header: StreamHeader, choices: Choices, sender: str, destination: str
) -> StreamHeader:
    """The header of a call as an engine writes it: what is the same in many is put together once.
    Returns what it says."""
    id_, total = header.attributes[REQUEST_ID], header.total_length or 0
    method, timeout = choices.text() or "m", choices.number(4)
    topic, attributes = RESPONSE_TOPIC, response_attributes(id_)
    label = core_wire.response_label(id_)
    if choices.flag():
        topic, attributes = REQUEST_TOPIC, request_attributes(id_, method, timeout)
        label = core_wire.request_label(id_.encode(), method, timeout)
    inline, compression = header.inline_content, header.compression
    at = header.timestamp_ms if abs(header.timestamp_ms) < EXACT else 0
    ours = StreamHeader(header.stream_id, topic, attributes, total, at, inline, compression)
    stream_id = header.stream_id.encode()
    opening = (core_wire.envelope(sender, destination), stream_id, core_wire.time_stamp(at), label)
    written = core_wire.write_header(opening, total, inline, compression)
    assert written == build(ours, sender, destination)
    return ours


def check_stamp(data: bytes, choices: Choices) -> bytes:
    sequence = choices.number(4)
    identity, sid = (name(choices), choices.text()) if choices.flag() else ("", "")
    stamped = wire.stamp(data, sequence=sequence, sender_identity=identity, sender_sid=sid)
    packet = DataPacket.FromString(data)
    packet.sequence = sequence or packet.sequence
    packet.participant_identity = identity or packet.participant_identity
    packet.participant_sid = sid or packet.participant_sid
    assert DataPacket.FromString(stamped) == packet
    return stamped


# --- what is read


def check_reading(data: bytes, sender: str, destination: str) -> None:
    """As the engine reads it when both were announced to it, and when nobody was."""
    expected = parse(data)
    for us in (US, destination):
        announced = [
            peer for peer in (sender, destination) if len(peer.encode()) <= MAX_IDENTITY_BYTES
        ]
        for senders in ([], announced):
            assert read(data, us, *senders) == reading_of(expected, us)
    decoded, payload = wire.decode(data), wire.decode_payload(data)
    assert (None if decoded is None else tuple(decoded)) == expected
    assert read_payload(data) == (None if payload is None else as_read(payload))


def reading_of(reading: Reading | None, us: str) -> Readings:
    if reading is None:
        return None
    identity, sid, destinations, sequence, message = reading
    kind, fields = as_read(message)
    return core_wire.Envelope(identity, sid, is_for(us, destinations), sequence), kind, fields
