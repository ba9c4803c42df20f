"""Bytes to messages and back: the only room that knows protobuf.

Reading leaves everything to protobuf, except for messages that lie in a packet as their size
implies: these are compared with that layout, and cut out. Writing puts the few fields together by
hand, in field order, because building protobuf objects in Python is what a call would spend most of
its time on; the bytes are those that protobuf's deterministic serialization gives (R35).
"""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from operator import attrgetter
from struct import Struct
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from google.protobuf.message import DecodeError

from rpcproto.core.events import IgnoreReason
from rpcproto.core.messages import (
    DEFLATE_RAW,
    IV_BYTES,
    MAX_IDENTITY_BYTES,
    MAX_UINT32,
    PACKET_VERSION,
    REQUEST_TOPIC,
    RESPONSE_TOPIC,
    TAG_BYTES,
    UNCOMPRESSED,
    USUAL_ID_BYTES,
    Ack,
    Attributes,
    ErrorResponse,
    Message,
    Request,
    Response,
    Sealed,
    StreamChunk,
    StreamTrailer,
    fits,
    is_id,
)
from rpcproto.core.packets_pb2 import (
    DataPacket,
    DataStream,
    EncryptedPacketPayload,
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
_parse_header: Final = DataStream.Header.FromString
# Protobuf's pure-Python backend recurses into nested groups, before 5.29.5 and 6.31.1 without a
# limit (CVE-2025-4565).
MALFORMED: Final = (DecodeError, ValueError, RecursionError)
NOT_SOLE: Final = (LookupError, *MALFORMED)
"""What is raised where there is no message alone, or none at all."""


Value: TypeAlias = DataPacket | EncryptedPacketPayload
"""What has a message in it: a packet, or what was sealed in one."""
Kind: TypeAlias = type[Message] | str | IgnoreReason
"""What a packet is: the class of its message, the topic of its header, or why nothing of it is
read."""


class Envelope(NamedTuple):
    """What a packet itself says about its way: the identity and sid that it claims to come from,
    whether it is for us (R39), and its sequence number."""

    identity: str
    sid: str
    is_for_us: bool
    sequence: int


Read: TypeAlias = tuple[Kind, Any]
"""What a packet is, and the fields of its message, for an engine that takes them apart at once."""
ReadMessage: TypeAlias = Callable[[Any], Read | None]
"""Takes apart what protobuf has parsed."""
Layout: TypeAlias = tuple[Callable[[bytes, int], tuple[bytes, ...]], bytes, bytes, int]
"""How a message lies in a packet, if the lengths of all of its fields follow from its size: what
takes its beginning apart in three, of which the second is an id and the others are the next two;
and how many bytes that are."""
Finish: TypeAlias = Callable[[bytes, bytes], Read | None]
"""Makes a message of what comes last, and the id; None if that cannot be one (R28)."""
Reader: TypeAlias = tuple[Mapping[int, Layout], Finish, Callable[[bytes, int], Read | None]]
"""For one kind of message its layouts by the size of its field, and what reads one of another
layout, from a place in something to its end."""
Readers: TypeAlias = Mapping[int, Reader]
"""By the first byte of the field."""


def read_any(data: bytes, our_identity: str) -> tuple[Kind, Any, Envelope] | None:
    """Any packet, and what it says of its way; None if it is malformed: no protobuf, or a name that
    is too long (R28)."""
    try:
        packet = _parse(data)
    except MALFORMED:
        return None
    message = _read_value(packet)
    identity, sid = packet.participant_identity, packet.participant_sid
    names_fit = fits(identity, MAX_IDENTITY_BYTES) and fits(sid, MAX_IDENTITY_BYTES)
    if message is None or not names_fit:
        return None
    destinations = packet.destination_identities
    is_for_us = our_identity in destinations[:MAX_DESTINATIONS] or not destinations
    return *message, Envelope(identity, sid, is_for_us, packet.sequence)


def read_payload(plaintext: bytes) -> Read:
    """What was sealed in a packet, or why it cannot be read."""
    try:
        message = _read_value(parse_payload(plaintext))
    except MALFORMED:
        message = None
    return (IgnoreReason.MALFORMED, ()) if message is None else message


def _read_value(value: Value) -> Read | None:
    """The message in a packet or payload, whatever else is there; None if its id cannot be one."""
    which = value.WhichOneof("value")
    read = _READ_BY_NAME.get(which)
    return (IgnoreReason.UNKNOWN_KIND, ("",)) if read is None else read(getattr(value, which))


def _named(kind: Kind, fields: Any) -> Read | None:
    """A message, if its id can be one (R28)."""
    return (kind, fields) if is_id(fields[0]) else None


_request_fields: Final = attrgetter(
    "id", "method", "payload", "response_timeout_ms", "version", "compressed_payload"
)


def _read_request(request: RpcRequest) -> Read | None:
    return _named(Request, _request_fields(request))


_chunk_fields: Final = attrgetter("stream_id", "chunk_index", "content")
_sealed_fields: Final = attrgetter("key_index", "iv", "encrypted_value")


_NO_REQUEST: Final = "", 0, False
"""What the header of a response says of a request."""


def _read_header(header: DataStream.Header | bytes, _: bytes = b"") -> Read | None:
    """The topic of a header, empty if it is not about RPC, and what an engine wants of it. What is
    only there for show is not read (R27)."""
    if isinstance(header, bytes):
        header = _parse_header(header)
    topic, stream_id = header.topic, header.stream_id
    if (len(stream_id) != USUAL_ID_BYTES or not stream_id.isascii()) and not is_id(stream_id):
        return None
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


def _read_response(response: RpcResponse) -> Read | None:
    message = read_response(response)
    return _named(type(message), message)


def read_response(response: RpcResponse) -> Response | ErrorResponse:
    """A v1 response, whatever it carries."""
    value = response.WhichOneof("value")
    if value != "error":
        return Response(response.request_id, response.payload if value == "payload" else None)
    error = response.error
    return ErrorResponse(response.request_id, error.code, error.message, error.data)


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


_Key = TypeVar("_Key")
_Part = TypeVar("_Part")


class Made(dict[_Key, _Part]):
    """What is written, or read by, for a number or a name. To look it up takes half the time that a
    function takes."""

    def __init__(self, make: Callable[[_Key], _Part]) -> None:
        super().__init__()
        self._make: Callable[[_Key], _Part] = make

    def __missing__(self, key: _Key) -> _Part:
        if len(self) >= _MAX_MADE:
            self.clear()
        made = self[key] = self._make(key)
        return made


_MAX_MADE: Final = 4_096
_VARINTS: Final = Made(_varint)


def _head(number: int, length: int) -> bytes:
    """What begins a field that has a length: a text, bytes or a message."""
    return _varint(number << 3 | 2) + _VARINTS[length]


def _sole_head(number: int, size: int) -> bytes:
    """What begins a field that has a length and is `size` bytes in all; where there is no such
    field, what no field begins with."""
    tag = _varint(number << 3 | 2)
    for width in range(1, 6):
        length = size - len(tag) - width
        if 0x80 ** (width - 1) <= length < 0x80**width or length == 0 == width - 1:
            return tag + _varint(length)
    return _NO_HEAD


_NO_HEAD: Final = b"\0"
_BEFORE_ID, _BEFORE_RESULT, _BEFORE_INLINE, _BEFORE_REQUEST = (
    Made(partial(_head, number)) for number in (1, 2, 11, 10)
)
_BEFORE_RESPONSE, _BEFORE_HEADER, _BEFORE_CHUNK = (
    Made(partial(_head, number)) for number in (12, 13, 14)
)
_BEFORE_CONTENT: Final[Mapping[int, bytes]] = Made(
    lambda length: _head(3, length) if length else b""
)


def _before_sole_id(number: int, length: int) -> bytes:
    before_id = _BEFORE_ID[length]
    return _head(number, len(before_id) + length) + before_id


_BEFORE_ACK, _BEFORE_SHORT_TRAILER = (Made(partial(_before_sole_id, number)) for number in (11, 15))
"""What stands before the id in a message that has nothing else, by the length of the id."""


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


_BEFORE_REQUEST_ID: Final = Made(_before_request_id)
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
    if not reason:
        return envelope + _BEFORE_SHORT_TRAILER[len(stream_id)] + stream_id
    return envelope + sized_field(15, sized_field(1, stream_id) + text_field(2, reason))


# A packet is an envelope, and a field from 10 to 15 with the message. In a payload the fields have
# the numbers 4 to 9, in the same order.
PAYLOAD_TAGS: Final = {number << 3 | 2: _varint(number - 6 << 3 | 2) for number in range(10, 16)}


def payload_of(data: bytes, start: int) -> bytes:
    """What is sealed of a packet whose envelope has so many bytes: a payload with its message."""
    return PAYLOAD_TAGS[data[start]] + data[start + 1 :]


@lru_cache(4_096)
def around_iv(size: int, key_index: int = 0, iv_bytes: int = IV_BYTES) -> tuple[bytes, bytes]:
    """What stands before and after the IV of a sealed packet, without envelope and ciphertext; of
    the latter the size is given (R43)."""
    before = uint_field(1, _GCM) + _head(2, iv_bytes)
    after = uint_field(3, key_index) + _head(4, size)
    return _head(18, len(before) + iv_bytes + len(after) + size) + before, after


AROUND_IV: Final = Made(around_iv)
"""The same by the size, with the key at index 0."""
_GCM: Final = 1
_BEFORE_IV: Final = uint_field(1, _GCM) + _head(2, IV_BYTES)


def id_of_trailer(data: bytes) -> bytes:
    """The stream id in a trailer that `write_trailer` made."""
    return _parse(data).stream_trailer.stream_id.encode()


# How messages are read.

_READ_BY_NAME: Final[Mapping[str, ReadMessage]] = {
    "rpc_request": _read_request,
    "rpc_ack": lambda message: _named(Ack, (message.request_id,)),
    "rpc_response": _read_response,
    "stream_header": _read_header,
    "stream_chunk": lambda message: _named(StreamChunk, _chunk_fields(message)),
    "stream_trailer": lambda message: _named(StreamTrailer, (message.stream_id, message.reason)),
    "encrypted_packet": lambda message: (Sealed, _sealed_fields(message)),
}
"""By the names of their fields, which are the same in a packet and in a payload."""

_NOTHING: Final = 0
_ANYTHING: Final = -1


def _layout(number: int, before: bytes, id_bytes: int, last: int, size: int) -> Layout:
    """How a message lies in field `number` if that has `size` bytes in all: after `before` come an
    id of `id_bytes`, and the field `last`, or nothing, or anything."""
    head = _sole_head(number, size)
    rest = size - len(head) - len(before) - id_bytes
    after_id = _sole_head(last, rest) if last > 0 else b""
    if _NO_HEAD in (head, after_id) or (last == _NOTHING and rest):
        return _NO_LAYOUT
    before_id = head + before
    sizes = len(before_id), id_bytes, len(after_id)
    return _parts(*sizes), before_id, after_id, sum(sizes)


@lru_cache(64)
def _parts(*sizes: int) -> Callable[[bytes, int], tuple[bytes, ...]]:
    """What takes parts of these sizes, one after another, from a place in something."""
    return Struct("".join(f"{size}s" for size in sizes)).unpack_from


_NO_LAYOUT: Final[Layout] = _parts(0, 0, 0), _NO_HEAD, b"", 0
"""That of nothing."""


def _sealed_layout(size: int) -> tuple[Callable[[bytes, int], tuple[bytes, ...]], bytes, bytes]:
    """The layout of a sealed packet, if its key is that at index 0; the IV is in place of an id,
    and the ciphertext is taken as well."""
    _, before_iv, after_iv, start = _layout(18, _BEFORE_IV, IV_BYTES, 4, size)
    if size - start < TAG_BYTES or before_iv == _NO_HEAD:
        return _parts(0, 0, 0, 0), _NO_HEAD, b""
    layout = f"{len(before_iv)}s{IV_BYTES}s{len(after_iv)}s{size - start}s"
    return Struct(layout).unpack_from, before_iv, after_iv


SEALED_LAYOUTS: Final = Made(_sealed_layout)
_USUAL_ID: Final = _BEFORE_ID[USUAL_ID_BYTES], USUAL_ID_BYTES
_USUAL: Final[Mapping[int, tuple[bytes, int, int, Finish]]] = {
    10: (b"", 0, _ANYTHING, lambda rest, _: _read_request(RpcRequest.FromString(rest))),
    11: (*_USUAL_ID, _NOTHING, lambda _, name: (Ack, (name.decode(),))),
    12: (*_USUAL_ID, 2, lambda rest, name: (Response, (name.decode(), rest.decode()))),
    13: (b"", 0, _ANYTHING, _read_header),
    14: (*_USUAL_ID, 3, lambda rest, name: (StreamChunk, (name.decode(), 0, rest))),
    15: (*_USUAL_ID, _NOTHING, lambda _, name: (StreamTrailer, (name.decode(), ""))),
    18: (_BEFORE_IV, IV_BYTES, 4, lambda rest, iv: (Sealed, (0, iv, rest))),
}
"""The messages of an engine by the numbers of their fields in a packet: how they usually lie there,
as `_layout` has it, and what makes them of that."""


def _read_alone(
    heads: Mapping[int, bytes], parse: ReadMessage, read: ReadMessage, data: bytes, start: int
) -> Read | None:
    """A message of another layout, if nothing else is there."""
    head = heads[len(data) - start]
    return read(parse(data[start + len(head) :])) if data.startswith(head, start) else None


def _reader(number: int, here: int) -> Reader:
    """That of a message whose field has another number here."""
    before, id_bytes, last, finish = _USUAL[number]
    name = DataPacket.DESCRIPTOR.fields_by_number[number].name
    parse = type(getattr(DataPacket(), name)).FromString
    alone = partial(_read_alone, Made(partial(_sole_head, here)), parse, _READ_BY_NAME[name])
    return Made(partial(_layout, here, before, id_bytes, last)), finish, alone


_NO_READER: Final[Reader] = Made(lambda _: _NO_LAYOUT), lambda *_: None, lambda *_: None
_NO_READERS: Final = dict.fromkeys(range(256), _NO_READER)
PAYLOAD_READERS: Final[Readers] = _NO_READERS | {
    number - 6 << 3 | 2: _reader(number, number - 6) for number in range(10, 16)
}
PACKET_READERS: Final[Readers] = _NO_READERS | {
    _varint(number << 3 | 2)[0]: _reader(number, number) for number in _USUAL
}


def read_sole(
    data: bytes, start: int, _: object = None, readers: Readers = PACKET_READERS
) -> Read | None:
    """What is in a packet or payload from `start` on, if that is one message and nothing else, as
    it nearly always is. None if it is anything else, or malformed."""
    try:
        layouts, finish, read_alone = readers[data[start]]
        take_apart, before_id, after_id, size = layouts[len(data) - start]
        before, id_text, after = take_apart(data, start)
        if before == before_id and after == after_id:
            return finish(data[start + size :], id_text)
        return read_alone(data, start)
    except NOT_SOLE:
        return None
