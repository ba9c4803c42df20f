"""Bytes into the wire: nothing raises, and what was read is written and read again the same."""

import zlib

from fuzz.differential import written_by_an_engine
from fuzz.plain import as_read, is_for, read, read_payload
from rpcproto import wire
from rpcproto.core import wire as core_wire
from rpcproto.wire import (
    METHOD,
    REQUEST_ID,
    REQUEST_TOPIC,
    RESPONSE_TOPIC,
    Packet,
    Request,
    StreamHeader,
    StreamTrailer,
    Unread,
    request_attributes,
    response_attributes,
)

US = "alice"
SENDERS = "bob", "python", "js"
"""Those who were announced."""

EXACT = 2**53
"""Numbers below it are exact in floating point, in which an engine has the time."""


def test_one_input(data: bytes) -> None:
    packet = wire.decode(data)
    reading = read(data, US, *SENDERS)
    check_payload(data)
    if packet is None:
        assert reading is None
        return
    assert reading is not None
    (identity, sid, is_for_us, sequence), kind, fields = reading
    assert (identity, sid, sequence) == (packet.sender_identity, packet.sender_sid, packet.sequence)
    assert is_for_us == is_for(US, tuple(packet.destination_identities))
    assert as_read(packet.message) == (kind, fields)
    check_stamps(data, packet)
    check_round_trip(packet)


def check_payload(data: bytes) -> None:
    """The bytes as what is sealed in a packet: the engine reads what the public wire does."""
    message = wire.decode_payload(data)
    assert read_payload(data) == (None if message is None else as_read(message))


def check_stamps(data: bytes, packet: Packet) -> None:
    """What an adapter or a router adds wins over what was there, and changes nothing else."""
    number = zlib.crc32(data)
    sequence = wire.decode(wire.stamp(data, sequence=number))
    assert sequence == packet._replace(sequence=number or packet.sequence)
    sender = wire.decode(wire.stamp(data, sender_identity="bob", sender_sid="PA_bob"))
    assert sender == packet._replace(sender_identity="bob", sender_sid="PA_bob")
    assert wire.decode(wire.stamp(data)) == packet


def check_round_trip(packet: Packet) -> None:
    """What we could have written ourselves is the same when it was written and read again."""
    message = packet.message
    if isinstance(message, Unread):
        return
    if isinstance(message, Request):
        message = message._replace(compressed=False)
    destination = (*packet.destination_identities, "")[0]
    data = wire.encode(message, packet.sender_identity, destination)
    by_an_engine = written_by_an_engine(message, packet.sender_identity, destination)
    assert by_an_engine is None or wire.decode(by_an_engine) == wire.decode(data)
    assert wire.decode(data) == Packet(packet.sender_identity, "", (destination,), 0, message)
    if isinstance(message, StreamHeader):
        check_opening(message, packet.sender_identity, destination)
    elif isinstance(message, StreamTrailer):
        assert core_wire.id_of_trailer(data).decode() == message.stream_id


def check_opening(header: StreamHeader, sender: str, destination: str) -> None:
    """A header with what this one says is the same when it is written as an engine writes it."""
    request_id, method = header.attributes.get(REQUEST_ID), header.attributes.get(METHOD)
    if not request_id:
        return
    topic, attributes = RESPONSE_TOPIC, response_attributes(request_id)
    label = core_wire.response_label(request_id)
    if method:
        topic, attributes = REQUEST_TOPIC, request_attributes(request_id, method, 8_000)
        label = core_wire.request_label(request_id.encode(), method, 8_000)
    total, inline = header.total_length or 0, header.inline_content
    compression = max(header.compression, 0)
    at = header.timestamp_ms if abs(header.timestamp_ms) < EXACT else 0
    ours = StreamHeader(header.stream_id, topic, attributes, total, at, inline, compression)
    stream_id = header.stream_id.encode()
    opening = (core_wire.envelope(sender, destination), stream_id, core_wire.time_stamp(at), label)
    written = core_wire.write_header(opening, total, inline, compression)
    assert written == wire.encode(ours, sender, destination)
