"""Packets that are odd on purpose, byte by byte."""

from helpers import raw_packet


def varint(number: int) -> bytes:
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*digits, number])


def tag(field: int, wire_type: int) -> bytes:
    return varint(field << 3 | wire_type)


def sized(field: int, content: bytes) -> bytes:
    return tag(field, 2) + varint(len(content)) + content


def groups(levels: int, field: int = 100, *, closed: bool = True) -> bytes:
    """Groups in groups, which none of our messages has."""
    return tag(field, 3) * levels + tag(field, 4) * (levels * closed)


LIMIT = 128 * 1024
"""So long a packet is read; a longer one is not."""
MARGIN = 100
"""Enough bytes for what else is in the packet."""
ACK = raw_packet(rpc_ack={"request_id": "r1"})
IN_THE_ACK = 11
HEADER = 13


def filled(unit: bytes) -> bytes:
    """The unit as often as a packet has room for it."""
    return unit * ((LIMIT - MARGIN) // len(unit))


HAS_AN_EFFECT = {
    "a oneof that changes many times": filled(sized(10, b"") + sized(11, b"")),
    "a oneof of the message that changes many times": filled(
        sized(12, sized(2, b"a")) + sized(12, sized(3, b""))
    ),
    "one field many times": filled(sized(4, b"x")),
    "many unknown fields": filled(tag(100, 0) + b"\x00"),
    "many destinations": sized(5, b"x") * 1_000,
    "many empty attributes": sized(HEADER, filled(sized(8, b""))),
    "attributes whose key and value are no text": sized(
        HEADER, filled(sized(8, tag(1, 0) + b"\x01" + tag(2, 5) + b"1234"))
    ),
    "an attribute with fields beside key and value": sized(
        HEADER, sized(8, sized(1, b"k") + sized(3, b"x") + groups(10))
    ),
    "attributes that are numbers": sized(HEADER, filled(tag(8, 0) + b"\x01")),
    "known fields of another type": b"".join(
        tag(field, 0) + b"\x01" + tag(field, 1) + b"12345678" + tag(field, 5) + b"1234"
        for field in range(2, 19)
        if field != 16
    ),
    "known fields as groups": b"".join(groups(1, field) for field in range(1, 19)),
    "enums without a name": tag(1, 0)
    + varint(2**64 - 1)
    + sized(HEADER, tag(7, 0) + varint(99) + tag(12, 0) + varint(2**31)),
    "numbers over 32 bits": tag(16, 0) + varint(2**64 - 2**32),
}
IS_MALFORMED = {
    "a length over the end": tag(4, 2) + varint(5) + b"bob",
    "a length of 2^63": tag(4, 2) + varint(2**63) + b"bob",
    "an unknown length of 2^64 - 1": tag(100, 2) + varint(2**64 - 1) + b"bob",
    "an attribute that ends after its header": sized(HEADER, tag(8, 2) + b"\x09" + sized(1, b"k")),
    "a number that does not end": tag(16, 0) + b"\xff" * 11,
    "a number that ends with the packet": tag(16, 0) + b"\xff",
    "a tag that does not end": filled(b"\xff"),
    "a tag of eleven bytes": b"\xa0" + b"\x80" * 10 + b"\x00",
    "half a fixed number": tag(100, 1) + b"1234",
    "field 0": b"\x00\x00",
    "a group that ends and never began": tag(100, 4),
    "a group across the end of its message": sized(IN_THE_ACK, tag(100, 3)) + tag(100, 4),
    "wire type 6": tag(100, 6),
    "wire type 7": tag(100, 7),
    "an attribute that is no UTF-8": sized(HEADER, sized(8, sized(1, b"\xed\xa0\x80"))),
}


BACKENDS_DIFFER = {
    "a group that ends as another": tag(100, 3) + tag(101, 4),
    "groups of which one does not end": tag(100, 3) * 5 + tag(100, 4) * 4,
    "an unknown field of a number that is too large": varint(2**32 << 3) + b"\x00",
    "a known field whose tag is longer than need be": b"\xa2\x80\x00" + b"\x03bob",
    "a length that is longer than need be": tag(4, 2) + b"\x83\x80\x00" + b"bob",
}
"""No canonical protobuf; some backends read it all the same."""
