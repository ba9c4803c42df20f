"""Bytes to messages and back: the only room that knows protobuf.

Reading leaves everything to protobuf. Writing puts the few fields together by hand, in field order,
because building protobuf objects in Python is what a call would spend most of its time on; the
bytes are those that protobuf's deterministic serialization gives (R35).
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, TypeAlias

from google.protobuf.message import DecodeError

from rpcproto.core.messages import (
    MAX_DESTINATIONS,
    MAX_ID_BYTES,
    MAX_IDENTITY_BYTES,
    METHOD,
    PACKET_VERSION,
    REQUEST_ID,
    REQUEST_TOPIC,
    RESPONSE_TIMEOUT_MS,
    RESPONSE_TOPIC,
    STREAM_VERSION,
    UNCOMPRESSED,
    USUAL_ID_BYTES,
    VERSION,
    Ack,
    ErrorResponse,
    Message,
    Request,
    RequestHeaderFields,
    Response,
    ResponseHeaderFields,
    Sealed,
    StreamChunk,
    StreamTrailer,
    Unread,
    fits,
    is_id,
    new_value,
    request_attributes,
    timeout_from,
)
from rpcproto.core.packets_pb2 import DataPacket, EncryptedPacketPayload

# --- reading

_parse: Final = DataPacket.FromString
_parse_payload: Final = EncryptedPacketPayload.FromString
# Protobuf's pure-Python backend recurses into nested groups, before 5.29.5 and 6.31.1 without a
# limit (CVE-2025-4565).
_MALFORMED: Final = (DecodeError, ValueError, RecursionError)


def parse(data: bytes) -> DataPacket | None:
    """The packet in `data` as protobuf has it; None if there is none."""
    try:
        return _parse(data)
    except _MALFORMED:
        return None


def parse_payload(plaintext: bytes) -> EncryptedPacketPayload | None:
    """What was sealed in a packet as protobuf has it; None if it is none."""
    try:
        return _parse_payload(plaintext)
    except _MALFORMED:
        return None


Value: TypeAlias = DataPacket | EncryptedPacketPayload
"""What has a message in it: a packet, or what was sealed in one."""
Kind: TypeAlias = type[Message] | str
"""What a packet is: the class of its message, or the topic of its header."""


def read(
    data: bytes, our_identity: str, senders: Mapping[str, Any]
) -> tuple[Any, str, str, bool, int, Kind, Any] | None:
    """A packet for the engine, which takes it apart at once: which of the known senders claims to
    have sent it, the identity and sid claimed, whether it is for us (R39), its sequence number, the
    class of its message and the fields of that.

    None if it is malformed: no protobuf, or a name that is too long (R28). Where a packet begins
    as its sender's greeting, the list of destinations need not be made.
    """
    try:
        packet = _parse(data)
    except _MALFORMED:
        return None
    which = packet.WhichOneof("value")
    kind: Kind
    fields: Any
    # The packets of a call that fits one packet are read in line: they are most of all packets.
    if which == "rpc_ack":
        kind, fields = Ack, (packet.rpc_ack.request_id,)
    elif which == "stream_header":
        kind, fields = _read_rpc_header(packet)
    elif which == "rpc_request":
        request = packet.rpc_request
        kind = Request
        fields = (
            request.id,
            request.method,
            request.payload,
            request.response_timeout_ms,
            request.version,
            request.compressed_payload != b"",
        )
    elif which == "rpc_response" and (response := packet.rpc_response).payload:
        # A payload that is not empty is there for sure.
        kind, fields = Response, (response.request_id, response.payload)
    elif which == "encrypted_packet":
        kind, fields = Sealed, ("", read_sealed(packet))
    else:
        fields = MESSAGE_READERS.get(which, read_unread)(packet)
        kind = type(fields)
    name, identity, sid = fields[0], packet.participant_identity, packet.participant_sid
    sender = senders.get(identity)
    # Names of the usual length, as nearly all are, need no closer look.
    if (
        sender is None or sid or len(name) != USUAL_ID_BYTES or not name.isascii()
    ) and not _names_fit(kind, name, identity, sid):
        return None
    is_for_us = sender is not None and data.startswith(sender.greeting)
    if not is_for_us:
        destinations = packet.destination_identities
        is_for_us = our_identity in destinations[:MAX_DESTINATIONS] or not destinations
    return sender, identity, sid, is_for_us, packet.sequence, kind, fields


def _names_fit(kind: Kind, name: str, identity: str, sid: str) -> bool:
    return (
        (kind is Unread or kind is Sealed or is_id(name))
        and fits(identity, MAX_IDENTITY_BYTES)
        and fits(sid, MAX_IDENTITY_BYTES)
    )


def read_payload(plaintext: bytes) -> tuple[Kind, Any] | None:
    """What was sealed in a packet, as `read` gives it: the class of the message and its fields.
    None if it is malformed."""
    payload = parse_payload(plaintext)
    if payload is None:
        return None
    which = payload.WhichOneof("value")
    kind: Kind
    fields: Any
    if which == "stream_header":
        kind, fields = _read_rpc_header(payload)
    else:
        fields = MESSAGE_READERS.get(which, read_unread)(payload)
        kind = type(fields)
    return (kind, fields) if kind is Unread or is_id(fields[0]) else None


_HeaderFields: TypeAlias = RequestHeaderFields | ResponseHeaderFields | tuple[str]


def _read_rpc_header(packet: Value) -> tuple[str, _HeaderFields]:
    """The topic of a header, empty if it is not about RPC, and what an engine wants of it. What is
    only there for show is not read (R27)."""
    header = packet.stream_header
    topic, stream_id = header.topic, header.stream_id
    if topic != REQUEST_TOPIC and topic != RESPONSE_TOPIC:
        return "", (stream_id,)
    attributes = header.attributes  # in which a key that is missing is empty
    # A number that is not 0 and content that is not empty are there for sure.
    total_length: int | None = header.total_length
    if not total_length and not header.HasField("total_length"):
        total_length = None
    inline: bytes | None = header.inline_content
    if not inline and not header.HasField("inline_content"):
        inline = None
    request_id, compression = attributes[REQUEST_ID], header.compression
    if not request_id.isascii() or len(request_id) > MAX_ID_BYTES:
        request_id = request_id if is_id(request_id) else ""
    is_text = header.HasField("text_header")
    generated = is_text and header.text_header.generated
    fields = (stream_id, request_id, total_length, inline, compression, is_text, generated)
    if topic == RESPONSE_TOPIC:
        return topic, fields
    timeout_ms = timeout_from(attributes.get(RESPONSE_TIMEOUT_MS))
    return topic, (*fields, attributes[METHOD], timeout_ms, attributes[VERSION] == STREAM_VERSION)


def _read_request(packet: Value) -> Request:
    request = packet.rpc_request
    return Request(
        request.id,
        request.method,
        request.payload,
        request.response_timeout_ms,
        request.version,
        request.compressed_payload != b"",
    )


def _read_ack(packet: Value) -> Ack:
    return Ack(packet.rpc_ack.request_id)


def _read_response(packet: Value) -> Response | ErrorResponse:
    response = packet.rpc_response
    value = response.WhichOneof("value")
    if value != "error":
        return Response(response.request_id, response.payload if value == "payload" else None)
    error = response.error
    return ErrorResponse(response.request_id, error.code, error.message, error.data)


def _read_chunk(packet: Value) -> StreamChunk:
    chunk = packet.stream_chunk
    return new_value(StreamChunk, (chunk.stream_id, chunk.chunk_index, chunk.content))


def _read_trailer(packet: Value) -> StreamTrailer:
    trailer = packet.stream_trailer
    return new_value(StreamTrailer, (trailer.stream_id, trailer.reason))


def read_sealed(packet: DataPacket) -> Sealed:
    """What is to be opened in a packet that is sealed; its type is not read (R44)."""
    sealed = packet.encrypted_packet
    return Sealed(sealed.key_index, sealed.iv, sealed.encrypted_value)


def read_unread(packet: Value) -> Unread:
    """A packet of a kind that is none of our business."""
    return Unread(packet.WhichOneof("value") or "")


_Read: TypeAlias = Request | Ack | Response | ErrorResponse | StreamChunk | StreamTrailer
MESSAGE_READERS: Final[dict[str | None, Callable[[Value], _Read]]] = {
    "rpc_request": _read_request,
    "rpc_ack": _read_ack,
    "rpc_response": _read_response,
    "stream_chunk": _read_chunk,
    "stream_trailer": _read_trailer,
}
"""How messages are read, by the name of their field, except for headers, and except for those that
`read` reads in line."""

# --- writing

MAX_UINT64: Final = 2**64 - 1
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


def _tag(number: int) -> bytes:
    """What begins a field that has a length: a text, bytes or a message."""
    return _varint(number << 3 | 2)


_ID_TAG, _RESULT_TAG, _CONTENT_TAG, _INLINE_TAG = map(_tag, (1, 2, 3, 11))
_REQUEST_TAG, _RESPONSE_TAG, _HEADER_TAG, _CHUNK_TAG = map(_tag, (10, 12, 13, 14))


def _head(number: int, length: int) -> bytes:
    return _tag(number) + _VARINTS[length]


_BEFORE_ACK: Final = _Made(lambda size: _head(11, len(_head(1, size)) + size) + _head(1, size))
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
    varints, (between, after) = _VARINTS, _around_payload(method, response_timeout_ms)
    tag, size = (_CONTENT_TAG, varints[len(payload)]) if payload else (b"", b"")
    parts = (_ID_TAG, varints[len(request_id)], request_id, between, tag, size, payload, after)
    content = b"".join(parts)
    return b"".join((envelope, _REQUEST_TAG, varints[len(content)], content))


def write_ack(envelope: bytes, request_id: str) -> bytes:
    """The packet of an ack."""
    id_text = request_id.encode()
    return envelope + _BEFORE_ACK[len(id_text)] + id_text


def write_response(envelope: bytes, request_id: str, payload: bytes) -> bytes:
    """The packet of a v1 response, its payload in UTF-8 already; an empty one is there all the same
    (R29)."""
    varints, id_text = _VARINTS, request_id.encode()
    parts = (_ID_TAG, varints[len(id_text)], id_text, _RESULT_TAG, varints[len(payload)], payload)
    content = b"".join(parts)
    return b"".join((envelope, _RESPONSE_TAG, varints[len(content)], content))


def write_error(envelope: bytes, request_id: str, code: int, message: str, data: str) -> bytes:
    """The packet of a response that is an error."""
    body = uint_field(1, code) + text_field(2, message) + text_field(3, data)
    return envelope + sized_field(12, text_field(1, request_id) + sized_field(3, body))


# A stream's header is put together from what never changes, what is the same in all of a kind, and
# what differs in each: its ids, the time, the length and the content.

Label: TypeAlias = tuple[bytes, bytes, bytes, bytes]
"""What a header says of its call: what stands before the length of the body; and after that what
stands before the request id, the id, and what stands after it."""


@lru_cache(256)
def _around_request_id(id_bytes: int, method: str, response_timeout_ms: int) -> tuple[bytes, bytes]:
    """The attributes of a request before and after its id, which comes first of them (R35)."""
    attributes = dict(request_attributes("", method, response_timeout_ms))
    del attributes[REQUEST_ID]
    return _before_id(id_bytes), _attributes(attributes) + _TEXT_HEADER


@lru_cache(128)
def _before_id(id_bytes: int) -> bytes:
    key, before = text_field(1, REQUEST_ID), _head(2, id_bytes)
    return _head(8, len(key) + len(before) + id_bytes) + key + before


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
    before, after = _around_request_id(len(request_id), method, response_timeout_ms)
    return _REQUEST_HEAD, before, request_id, after


def response_label(request_id: str) -> Label:
    """The label of a response stream."""
    id_text = request_id.encode()
    return _RESPONSE_HEAD, _before_id(len(id_text)), id_text, _TEXT_HEADER


_FIRST_OF_VARINT: Final = tuple(bytes((digit | 0x80,)) for digit in range(0x80))
_FIRST_OF_TIMESTAMP: Final = tuple(_TIMESTAMP + first for first in _FIRST_OF_VARINT)


def time_stamp(unix_ms: float) -> bytes:
    """The field of a header that says when its stream began."""
    if _EARLIEST_QUICK_MS <= unix_ms < MAX_UNIX_MS:
        number = round(unix_ms)
        # What follows the first two bytes stays the same for sixteen seconds.
        first = number & 0x3FFF
        return (
            _FIRST_OF_TIMESTAMP[first & 0x7F]
            + _FIRST_OF_VARINT[first >> 7]
            + _VARINTS[number >> 14]
        )
    number = round(max(-MAX_UNIX_MS, min(unix_ms, MAX_UNIX_MS)))
    return uint_field(2, number & MAX_UINT64)


MAX_UNIX_MS: Final = 2.0**62
"""Nobody reads the stamp of a stream; one beyond a million years must only not be too large."""
_EARLIEST_QUICK_MS: Final = 2.0**14

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
    envelope, stream_id, stamp, (before, before_id, request_id, after_id) = opening
    varints, ending = _VARINTS, uint_field(12, compression) if compression else b""
    tag = size = b""
    content: bytes | bytearray = b""
    if inline_content is not None:
        tag, size, content = _INLINE_TAG, varints[len(inline_content)], inline_content
    header = b"".join(
        (
            _ID_TAG,
            varints[len(stream_id)],
            stream_id,
            stamp,
            before,
            varints[total_length],
            before_id,
            request_id,
            after_id,
            tag,
            size,
            content,
            ending,
        )
    )
    return b"".join((envelope, _HEADER_TAG, varints[len(header)], header))


def write_chunk(
    envelope: bytes, stream_id: bytes, index: int, content: bytes | memoryview
) -> bytes:
    """The packet of a chunk; the content is copied once."""
    size = len(content)
    varints = _VARINTS
    number = _INDEX + varints[index] if index else b""
    parts = (_ID_TAG, varints[len(stream_id)], stream_id, number, _CONTENT_TAG, varints[size])
    before = b"".join(parts)
    return b"".join((envelope, _CHUNK_TAG, varints[len(before) + size], before, content))


_INDEX: Final = _varint(2 << 3)


def write_trailer(envelope: bytes, stream_id: bytes, reason: str = "") -> bytes:
    """The packet of a trailer."""
    return envelope + sized_field(15, sized_field(1, stream_id) + text_field(2, reason))


# A packet is an envelope, and a field from 10 to 15 with the message. In a payload the fields have
# the numbers 4 to 9, in the same order.
_PAYLOAD_TAGS: Final = {number << 3 | 2: _tag(number - 6) for number in range(10, 16)}


def payload_of(data: bytes, envelope: bytes) -> bytes:
    """What is sealed of a packet that begins with this envelope: a payload with its message."""
    start = len(envelope)
    return _PAYLOAD_TAGS[data[start]] + data[start + 1 :]


def write_sealed(envelope: bytes, sealed: Sealed) -> bytes:
    """A packet that is sealed (R43)."""
    key_index, iv, ciphertext = sealed
    before = _head(2, len(iv)) + iv + uint_field(3, key_index) + _head(4, len(ciphertext))
    size = len(_GCM) + len(before) + len(ciphertext)
    return b"".join((envelope, _head(18, size), _GCM, before, ciphertext))


_GCM: Final = uint_field(1, 1)


def id_of_trailer(data: bytes) -> bytes:
    """The stream id in a trailer that `write_trailer` made."""
    return _parse(data).stream_trailer.stream_id.encode()
