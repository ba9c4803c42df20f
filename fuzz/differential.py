"""What the wire does by shorter ways, against the same done the plain way.

The packets that it puts together by hand are those of protobuf's own constructor, byte for byte;
a stamp says what setting the fields would; and `read`, which mostly looks at the first bytes alone
to see whether a packet is for us, finds what protobuf finds.
"""

from fuzz.choices import Choices
from fuzz.plain import Reading, build, parse
from rpcproto.core import wire
from rpcproto.core.messages import (
    Ack,
    ErrorResponse,
    Message,
    OutgoingMessage,
    Request,
    Response,
    StreamChunk,
    StreamHeader,
    StreamTrailer,
    request_attributes,
    response_attributes,
)
from rpcproto.core.packets_pb2 import DataPacket

US = "alice"
NAMES = (US, "bob", "carol", "", "alic", "alice ", "é" * 64, "n" * 256, "n" * 257, "é" * 129)
IDS = ("r1", "x" * 128, "x" * 129, "é" * 64, "é" * 65, "\u4e16" * 42)
TIMES = (1, 1, 1, 2, 60, 300, 7_000)
"""How often a text is repeated: lengths get a byte more from 128 and from 16,384 bytes on."""


def test_one_input(data: bytes) -> None:
    choices = Choices(data)
    sender, destination = name(choices), name(choices)
    packets = [b""]
    if choices.flag():
        message = OF_EACH_KIND[choices.byte() % len(OF_EACH_KIND)](choices)
        packets.append(check_building(message, sender, destination))
        packets.append(check_stamp(packets[-1], choices))
    check_reading(packets[-1] + choices.rest(), sender, destination)
    check_reading(wire.envelope(sender, destination) + packets[0] + data, sender, destination)


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
)


def check_building(message: OutgoingMessage, sender: str, destination: str) -> bytes:
    data = wire.encode(message, sender, destination)
    assert data == build(message, sender, destination)
    return data


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
        announced = {peer: wire.envelope(peer, us) for peer in (sender, destination)}
        for envelopes in ({}, announced):
            assert wire.read(data, us, envelopes) == as_read(expected, us)
    decoded = wire.decode(data)
    assert (None if decoded is None else tuple(decoded)) == expected


def as_read(
    reading: Reading | None, us: str
) -> tuple[str, str, bool, int, type[Message], Message] | None:
    if reading is None:
        return None
    is_for_us = us in reading.destinations or not reading.destinations
    message = reading.message
    return reading.identity, reading.sid, is_for_us, reading.sequence, type(message), message
