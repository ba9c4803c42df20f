"""Bytes to messages and back: the only room that knows protobuf.

Reading leaves everything to protobuf. Writing puts the few fields together by hand, in field order,
because building protobuf objects in Python is what a call would spend most of its time on; the
bytes are those that protobuf's deterministic serialization gives (R35).
"""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeAlias

from google.protobuf.message import DecodeError

from rpcproto.core.messages import (
    DEFLATE_RAW,
    IV_BYTES,
    MAX_IDENTITY_BYTES,
    MAX_UINT32,
    PACKET_VERSION,
    REQUEST_TOPIC,
    RESPONSE_TOPIC,
    UNCOMPRESSED,
    USUAL_ID_BYTES,
    Ack,
    Attributes,
    ErrorResponse,
    HeaderFields,
    Message,
    Request,
    Response,
    Sealed,
    StreamChunk,
    StreamTrailer,
    Unread,
    fits,
    is_id,
)
from rpcproto.core.packets_pb2 import (
    DataPacket,
    DataStream,
    EncryptedPacket,
    EncryptedPacketPayload,
    RpcAck,
    RpcRequest,
    RpcResponse,
)

# The attributes of a stream's header; a response has the id alone.
REQUEST_ID: Final = "lk.rpc_request_id"
"""The attribute that holds the request id."""
METHOD: Final = "lk.rpc_request_method"
"""The attribute that holds the name of the method."""
RESPONSE_TIMEOUT_MS: Final = "lk.rpc_request_response_timeout_ms"
"""The attribute that holds the time for the handler, in milliseconds (R5)."""
VERSION: Final = "lk.rpc_request_version"
"""The attribute that holds the version of RPC."""
STREAM_VERSION: Final = "2"
"""The value of the attribute `VERSION` (RPC v2)."""
UNSTATED_TIMEOUT_MS: Final = 15_000
"""The timeout of a request stream without `RESPONSE_TIMEOUT_MS`, in milliseconds, as in native
clients (R27)."""
MAX_TIMEOUT_DIGITS: Final = 20
MAX_DESTINATIONS: Final = 1_024
"""The maximum number of destinations of a packet that are read (R39, R47)."""


def request_attributes(request_id: str, method: str, response_timeout_ms: int) -> Attributes:
    """Return the attributes of the header of a request stream (R27)."""
    return {
        REQUEST_ID: request_id,
        METHOD: method,
        RESPONSE_TIMEOUT_MS: str(response_timeout_ms),
        VERSION: STREAM_VERSION,
    }


@lru_cache(256)
def _milliseconds(text: str) -> int | None:
    """What a header's attribute of at most MAX_TIMEOUT_DIGITS characters gives; None if it is not a
    number (R27)."""
    return min(int(text), MAX_UINT32) if text.isdigit() and text.isascii() else None


# --- reading

_parse: Final = DataPacket.FromString
parse_payload: Final = EncryptedPacketPayload.FromString
# Protobuf's pure-Python backend recurses into nested groups, before 5.29.5 and 6.31.1 without a
# limit (CVE-2025-4565).
MALFORMED: Final = (DecodeError, ValueError, RecursionError)


Value: TypeAlias = DataPacket | EncryptedPacketPayload
"""What has a message in it: a packet, or what was sealed in one."""
Kind: TypeAlias = type[Message] | str
"""What a packet is: the class of its message, or the topic of its header."""


class Envelope(NamedTuple):
    """What a packet itself says about its way: the identity and sid that it claims to come from,
    whether it is for us (R39), and its sequence number."""

    identity: str
    sid: str
    is_for_us: bool
    sequence: int


Greetings: TypeAlias = Mapping[bytes, Any]
"""Known senders, each by what its packets to us begin with: its `envelope`."""
Read: TypeAlias = tuple[Kind, Any, Any, Envelope | None]


def read(data: bytes, our_identity: str, known: tuple[Greetings, int]) -> Read | None:
    """A packet for the engine, which takes it apart at once: the class of its message, the fields
    of that, and its sender. Nearly every packet is the greeting of a known sender and one message;
    for any other there is an envelope in place of the sender. None if it is malformed: no protobuf,
    or a name that is too long (R28).

    `known` are the known senders, and how many bytes a greeting has without the sender's name.
    """
    senders, size = known
    try:
        start = data[1] + size
        sender = senders.get(data[:start])
        if sender is not None:
            heads, parse, kind, take_apart = _BY_TAG[data[start]]
            head = heads[len(data) - start]
            if data.startswith(head, start):  # what follows is this message alone
                fields = take_apart(parse(data[start + len(head) :]))
                if kind is None:
                    kind, fields = fields
                name = fields[0]
                is_usual = len(name) == USUAL_ID_BYTES and name.isascii()
                if is_usual or is_id(name) or kind is Sealed:
                    return kind, fields, sender, None
                return None
    except LookupError:  # it is too short, or has another kind of message
        sender = None
    except MALFORMED:
        return None
    return _read_any(data, our_identity, sender is not None)


def _read_any(data: bytes, our_identity: str, is_for_us: bool) -> Read | None:
    """Any other packet; whether it is for us is maybe known."""
    try:
        packet = _parse(data)
    except MALFORMED:
        return None
    kind, fields = _read_value(packet)
    identity, sid = packet.participant_identity, packet.participant_sid
    if not fits(identity, MAX_IDENTITY_BYTES) or not fits(sid, MAX_IDENTITY_BYTES):
        return None
    if not (kind is Unread or kind is Sealed or is_id(fields[0])):
        return None
    if not is_for_us:
        destinations = packet.destination_identities
        is_for_us = our_identity in destinations[:MAX_DESTINATIONS] or not destinations
    return kind, fields, None, Envelope(identity, sid, is_for_us, packet.sequence)


def read_payload(plaintext: bytes) -> tuple[Kind, Any] | None:
    """What was sealed in a packet; None if it is malformed."""
    try:
        kind, fields = _read_value(parse_payload(plaintext))
    except MALFORMED:
        return None
    return (kind, fields) if kind is Unread or is_id(fields[0]) else None


def _read_value(value: Value) -> tuple[Kind, Any]:
    """The message in a packet or payload, whatever else is there."""
    which = value.WhichOneof("value")
    if which not in _BY_NAME:
        return Unread, (which or "",)
    kind, take_apart = _BY_NAME[which]
    fields = take_apart(getattr(value, which))
    return fields if kind is None else (kind, fields)


_NO_REQUEST: Final = "", 0, False
"""What the header of a response says of a request."""


def _read_rpc_header(header: DataStream.Header) -> tuple[str, HeaderFields | tuple[str]]:
    """The topic of a header, empty if it is not about RPC, and what an engine wants of it. What is
    only there for show is not read (R27)."""
    topic, stream_id = header.topic, header.stream_id
    if topic != REQUEST_TOPIC and topic != RESPONSE_TOPIC:
        return "", (stream_id,)
    # A number that is not 0 and content that is not empty are there for sure.
    total_length: int | None = header.total_length
    if not total_length and not header.HasField("total_length"):
        total_length = None
    inline: bytes | None = header.inline_content
    if not inline and not header.HasField("inline_content"):
        inline = None
    attributes, compression = header.attributes, header.compression
    request_id, request = attributes[REQUEST_ID], _NO_REQUEST  # an id that is missing is empty
    if len(request_id) != USUAL_ID_BYTES or not request_id.isascii():
        request_id = request_id if is_id(request_id) else ""
    is_text = header.HasField("text_header")
    generated = is_text and header.text_header.generated
    makes_sense = is_text and (not compression or compression == DEFLATE_RAW)
    if topic == REQUEST_TOPIC:
        timeout_ms, stated = UNSTATED_TIMEOUT_MS, attributes.get(RESPONSE_TIMEOUT_MS)
        if stated is not None:
            number = _milliseconds(stated) if len(stated) <= MAX_TIMEOUT_DIGITS else None
            if number is None:
                makes_sense = False
            else:
                timeout_ms = number
        request = attributes[METHOD], timeout_ms, attributes[VERSION] == STREAM_VERSION
    body = makes_sense, total_length, inline, compression != UNCOMPRESSED
    return topic, (stream_id, request_id, generated, body, request)


def _read_ack(ack: RpcAck) -> tuple[Kind, tuple[str]]:
    return Ack, (ack.request_id,)


def _read_response(response: RpcResponse) -> tuple[Kind, tuple[Any, ...]]:
    payload = response.payload
    if payload:  # one that is not empty is there for sure
        return Response, (response.request_id, payload)
    message = read_response(response)
    return type(message), message


def read_response(response: RpcResponse) -> Response | ErrorResponse:
    """A v1 response, whatever it carries."""
    value = response.WhichOneof("value")
    if value != "error":
        return Response(response.request_id, response.payload if value == "payload" else None)
    error = response.error
    return ErrorResponse(response.request_id, error.code, error.message, error.data)


def _read_sealed(sealed: EncryptedPacket) -> tuple[Kind, tuple[str, int, bytes, bytes]]:
    return Sealed, ("", sealed.key_index, sealed.iv, sealed.encrypted_value)


# --- writing

MAX_UINT64: Final = 2**64 - 1
"""The largest number in a field of 64 bits."""
_MIME_TYPE: Final = "text/plain"


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)


# What is the same in many packets is put together once. The caches are bounded, and what they
# give depends on nothing but their arguments.


class _Made(dict[int, bytes]):
    """What is written for a number. To look it up takes half the time that a function takes."""

    def __init__(self, make: Callable[[int], bytes]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, number: int) -> bytes:
        if len(self) >= _MAX_MADE:
            self.clear()
        made = self[number] = self._make(number)
        return made


_MAX_MADE: Final = 4_096
_VARINTS: Final = _Made(_varint)


def _head(number: int, length: int) -> bytes:
    """What begins a field that has a length: a text, bytes or a message."""
    return _varint(number << 3 | 2) + _VARINTS[length]


def _sole_head(number: int, size: int) -> bytes:
    """What begins a field that has a length and is `size` bytes in all; where there is no such
    field, what no field begins with."""
    tag = _varint(number << 3 | 2)
    for width in range(1, 6):
        length = size - len(tag) - width
        if length >= 0 and len(_varint(length)) == width:
            return tag + _varint(length)
    return b"\0"


_BEFORE_ID, _BEFORE_RESULT, _BEFORE_INLINE, _BEFORE_REQUEST = (
    _Made(partial(_head, number)) for number in (1, 2, 11, 10)
)
_BEFORE_RESPONSE, _BEFORE_HEADER, _BEFORE_CHUNK, _BEFORE_TRAILER = (
    _Made(partial(_head, number)) for number in (12, 13, 14, 15)
)
_BEFORE_CONTENT: Final = _Made(lambda length: _head(3, length) if length else b"")
_BEFORE_ACK: Final = _Made(
    lambda length: _head(11, len(_BEFORE_ID[length]) + length) + _BEFORE_ID[length]
)
"""What stands before the id of an ack, by the length of the id."""


def sized_field(number: int, content: bytes) -> bytes:
    """A field that has a length, present also when empty."""
    return _head(number, len(content)) + content


def text_field(number: int, text: str) -> bytes:
    """A text field without presence: absent when empty."""
    return sized_field(number, text.encode()) if text else b""


def uint_field(number: int, value: int) -> bytes:
    """A number field without presence: absent when 0."""
    return _varint(number << 3) + _varint(value) if value else b""


@lru_cache(256)
def envelope(sender_identity: str, destination_identity: str) -> bytes:
    """What every packet from one participant to another begins with."""
    return text_field(4, sender_identity) + sized_field(5, destination_identity.encode())


# A packet of a v1 call is what differs in each, its id and payload, and what stands around them.


@lru_cache(256)
def _around_payload(method: str, response_timeout_ms: int) -> tuple[bytes, bytes]:
    """What stands between the id of a request and its payload, and after that."""
    return text_field(2, method), uint_field(4, response_timeout_ms) + uint_field(5, PACKET_VERSION)


def write_request(
    envelope: bytes, request_id: bytes, method: str, payload: bytes, response_timeout_ms: int
) -> bytes:
    """The packet of a v1 request; id and payload are in UTF-8 already."""
    between, after = _around_payload(method, response_timeout_ms)
    before_id, before_payload = _BEFORE_ID[len(request_id)], _BEFORE_CONTENT[len(payload)]
    content = b"".join((before_id, request_id, between, before_payload, payload, after))
    return b"".join((envelope, _BEFORE_REQUEST[len(content)], content))


def write_ack(envelope: bytes, request_id: str) -> bytes:
    """The packet of an ack."""
    id_text = request_id.encode()
    return envelope + _BEFORE_ACK[len(id_text)] + id_text


def write_response(envelope: bytes, request_id: str, payload: bytes) -> bytes:
    """The packet of a v1 response, its payload in UTF-8 already; an empty one is there all the same
    (R29)."""
    id_text = request_id.encode()
    before_id, before_payload = _BEFORE_ID[len(id_text)], _BEFORE_RESULT[len(payload)]
    content = b"".join((before_id, id_text, before_payload, payload))
    return b"".join((envelope, _BEFORE_RESPONSE[len(content)], content))


def write_error(envelope: bytes, request_id: str, code: int, message: str, data: str) -> bytes:
    """The packet of a response that is an error."""
    body = uint_field(1, code) + text_field(2, message) + text_field(3, data)
    return envelope + sized_field(12, text_field(1, request_id) + sized_field(3, body))


# A stream's header is put together from what never changes, what is the same in all of a kind, and
# what differs in each: its ids, the time, the length and the content.

Label: TypeAlias = tuple[bytes, bytes]
"""What a header says of its call: what stands before the length of the body, and after that."""


@lru_cache(256)
def _after_request_id(method: str, response_timeout_ms: int) -> bytes:
    """The attributes of a request after its id, which comes first of them (R35)."""
    attributes = dict(request_attributes("", method, response_timeout_ms))
    del attributes[REQUEST_ID]
    return _attributes(attributes) + _TEXT_HEADER


def _before_request_id(length: int) -> bytes:
    before = text_field(1, REQUEST_ID) + _BEFORE_RESULT[length]
    return _head(8, len(before) + length) + before


_BEFORE_REQUEST_ID: Final = _Made(_before_request_id)
"""What stands before the id in the attributes, by the length of the id."""


def _attributes(attributes: Mapping[str, str]) -> bytes:
    return b"".join(
        sized_field(8, text_field(1, key) + text_field(2, value))
        for key, value in sorted(attributes.items())
    )


_TEXT_HEADER: Final = sized_field(9, b"")
_TOTAL_LENGTH: Final = _varint(5 << 3)
_TIMESTAMP: Final = _varint(2 << 3)
_REQUEST_HEAD: Final = text_field(3, REQUEST_TOPIC) + text_field(4, _MIME_TYPE) + _TOTAL_LENGTH
_RESPONSE_HEAD: Final = text_field(3, RESPONSE_TOPIC) + text_field(4, _MIME_TYPE) + _TOTAL_LENGTH


def request_label(request_id: bytes, method: str, response_timeout_ms: int) -> Label:
    """The label of a request stream; the id is in UTF-8 already."""
    before = _BEFORE_REQUEST_ID[len(request_id)]
    return _REQUEST_HEAD, before + request_id + _after_request_id(method, response_timeout_ms)


def response_label(request_id: str) -> Label:
    """The label of a response stream."""
    id_text = request_id.encode()
    return _RESPONSE_HEAD, _BEFORE_REQUEST_ID[len(id_text)] + id_text + _TEXT_HEADER


_FIRST_OF_TIMESTAMP: Final = tuple(_TIMESTAMP + bytes((digit | 0x80,)) for digit in range(0x80))


def time_stamp(unix_ms: float) -> bytes:
    """The field of a header that says when its stream began."""
    if _EARLIEST_QUICK_MS <= unix_ms < MAX_UNIX_MS:
        number = round(unix_ms)
        # What follows the first byte stays the same for an eighth of a second.
        return _FIRST_OF_TIMESTAMP[number & 0x7F] + _VARINTS[number >> 7]
    number = round(max(-MAX_UNIX_MS, min(unix_ms, MAX_UNIX_MS)))
    return uint_field(2, number & MAX_UINT64)


MAX_UNIX_MS: Final = 2.0**62
"""Nobody reads the stamp of a stream; one beyond a million years must only not be too large."""
_EARLIEST_QUICK_MS: Final = 2.0**7

Opening: TypeAlias = tuple[bytes, bytes, bytes, Label]
"""What all forms of a stream have in common: the envelope, the stream id, the time stamp and the
label."""


def write_header(
    opening: Opening,
    total_length: int,
    inline_content: bytes | bytearray | None = None,
    compression: int = UNCOMPRESSED,
) -> bytes:
    """The packet of a stream header, with all of its body if there is `inline_content`."""
    envelope, stream_id, stamp, (before, after) = opening
    before_id, length = _BEFORE_ID[len(stream_id)], _VARINTS[total_length]
    before_inline = b"" if inline_content is None else _BEFORE_INLINE[len(inline_content)]
    content, ending = inline_content or b"", uint_field(12, compression) if compression else b""
    parts = (before_id, stream_id, stamp, before, length, after, before_inline, content, ending)
    header = b"".join(parts)
    return b"".join((envelope, _BEFORE_HEADER[len(header)], header))


def write_chunk(
    envelope: bytes, stream_id: bytes, index: int, content: bytes | bytearray | memoryview
) -> bytes:
    """The packet of a chunk; the content is copied once."""
    size = len(content)
    number = _INDEX + _VARINTS[index] if index else b""
    before_id, before_content = _BEFORE_ID[len(stream_id)], _BEFORE_CONTENT[size]
    before = b"".join((before_id, stream_id, number, before_content))
    return b"".join((envelope, _BEFORE_CHUNK[len(before) + size], before, content))


_INDEX: Final = _varint(2 << 3)


def write_trailer(envelope: bytes, stream_id: bytes, reason: str = "") -> bytes:
    """The packet of a trailer."""
    ending = text_field(2, reason) if reason else b""
    trailer = b"".join((_BEFORE_ID[len(stream_id)], stream_id, ending))
    return b"".join((envelope, _BEFORE_TRAILER[len(trailer)], trailer))


# A packet is an envelope, and a field from 10 to 15 with the message. In a payload the fields have
# the numbers 4 to 9, in the same order.
_PAYLOAD_TAGS: Final = {number << 3 | 2: _varint(number - 6 << 3 | 2) for number in range(10, 16)}


def payload_of(data: bytes, start: int) -> bytes:
    """What is sealed of a packet whose envelope has so many bytes: a payload with its message."""
    return _PAYLOAD_TAGS[data[start]] + data[start + 1 :]


@lru_cache(4_096)
def around_iv(size: int, key_index: int = 0, iv_bytes: int = IV_BYTES) -> tuple[bytes, bytes]:
    """What stands before and after the IV of a sealed packet, without envelope and ciphertext; of
    the latter the size is given (R43)."""
    before = uint_field(1, _GCM) + _head(2, iv_bytes)
    after = uint_field(3, key_index) + _head(4, size)
    return _head(18, len(before) + iv_bytes + len(after) + size) + before, after


_GCM: Final = 1


def id_of_trailer(data: bytes) -> bytes:
    """The stream id in a trailer that `write_trailer` made."""
    return _parse(data).stream_trailer.stream_id.encode()


# How the messages are read, by the numbers of their fields in a packet: their classes, kinds, and
# how they are taken apart, which tells the kind as well where that is None.

_MESSAGES: Final[Mapping[int, tuple[Any, Kind | None, Callable[[Any], Any]]]] = {
    10: (
        RpcRequest,
        Request,
        attrgetter(
            "id", "method", "payload", "response_timeout_ms", "version", "compressed_payload"
        ),
    ),
    11: (RpcAck, None, _read_ack),
    12: (RpcResponse, None, _read_response),
    13: (DataStream.Header, None, _read_rpc_header),
    14: (DataStream.Chunk, StreamChunk, attrgetter("stream_id", "chunk_index", "content")),
    15: (DataStream.Trailer, StreamTrailer, attrgetter("stream_id", "reason")),
    18: (EncryptedPacket, None, _read_sealed),
}
_BY_NAME: Final = {
    DataPacket.DESCRIPTOR.fields_by_number[number].name: (kind, take_apart)
    for number, (_, kind, take_apart) in _MESSAGES.items()
}
"""By the names of the fields, which are the same in a payload."""
_BY_TAG: Final = {
    _varint(number << 3 | 2)[0]: (
        _Made(partial(_sole_head, number)), message.FromString, kind, take_apart
    )
    for number, (message, kind, take_apart) in _MESSAGES.items()
}  # fmt: skip
"""By the first bytes of the fields, with what else the field begins with, by its size, and what
parses the rest of it."""
