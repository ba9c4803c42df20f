"""Bytes into the wire: nothing raises, and what was read is written and read again the same."""

import zlib

from rpcproto.core import wire
from rpcproto.core.messages import Packet, Request, StreamHeader, Unread

US = "alice"
ENVELOPES = {peer: wire.envelope(peer, US) for peer in ("bob", "python", "js")}
"""What packets to us begin with, as the engine has it for those who were announced."""


def test_one_input(data: bytes) -> None:
    packet = wire.decode(data)
    reading = wire.read(data, US, ENVELOPES)
    if packet is None:
        assert reading is None
        return
    assert reading is not None
    identity, sid, is_for_us, sequence, kind, fields = reading
    assert (identity, sid, sequence) == (packet.sender_identity, packet.sender_sid, packet.sequence)
    destinations = packet.destination_identities
    assert is_for_us == (US in destinations or not destinations)
    assert type(packet.message) is kind
    assert tuple(packet.message) == tuple(fields)
    check_stamps(data, packet)
    check_round_trip(packet)


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
    if isinstance(message, Unread) or (
        isinstance(message, StreamHeader) and message.compression < 0
    ):
        return
    if isinstance(message, Request):
        message = message._replace(compressed=False)
    destination = (*packet.destination_identities, "")[0]
    data = wire.encode(message, packet.sender_identity, destination)
    assert wire.decode(data) == Packet(packet.sender_identity, "", (destination,), 0, message)
