"""Bytes to messages and back: the only room that knows protobuf.

Reading leaves everything to protobuf. Writing puts the few fields together by hand, in field order,
because building protobuf objects in Python is what a call would spend most of its time on; the
bytes are those that protobuf's deterministic serialization gives (R35).
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from google.protobuf.message import DecodeError

from rpcproto.core.messages import (
    MAX_IDENTITY_BYTES,
    Ack,
    ErrorResponse,
    Message,
    OutgoingMessage,
    Packet,
    Request,
    Response,
    StreamChunk,
    StreamHeader,
    StreamTrailer,
    Unread,
    fits,
    is_id,
)
from rpcproto.core.packets_pb2 import DataPacket

_new: Final = tuple.__new__
"""Makes a NamedTuple in half the time that calling its class takes."""

# --- reading

_parse: Final = DataPacket.FromString


def decode(data: bytes) -> Packet | None:
    """The packet in `data`, or None if it is malformed: no protobuf, or a name too long (R28)."""
    try:
        packet = _parse(data)
    except (DecodeError, ValueError):
        return None
    identity = packet.participant_identity
    sid = packet.participant_sid
    if (sid or len(identity) > _SURELY_SHORT) and not (
        fits(identity, MAX_IDENTITY_BYTES) and fits(sid, MAX_IDENTITY_BYTES)
    ):
        return None
    message = _READERS.get(packet.WhichOneof("value"), _read_other)(packet)
    if not is_id(message[0]) and type(message) is not Unread:
        return None
    repeated = packet.destination_identities
    destinations = (repeated[0],) if len(repeated) == 1 else tuple(repeated)
    return _new(Packet, (identity, sid, destinations, packet.sequence, message))


_SURELY_SHORT: Final = MAX_IDENTITY_BYTES // 4
"""So many characters cannot be too many bytes."""


def _read_request(packet: DataPacket) -> Request:
    request = packet.rpc_request
    request_id, method, payload = request.id, request.method, request.payload
    timeout_ms, version = request.response_timeout_ms, request.version
    compressed = bool(request.compressed_payload)
    return _new(Request, (request_id, method, payload, timeout_ms, version, compressed))


def _read_ack(packet: DataPacket) -> Ack:
    return _new(Ack, (packet.rpc_ack.request_id,))


def _read_response(packet: DataPacket) -> Response | ErrorResponse:
    response = packet.rpc_response
    kind = response.WhichOneof("value")
    if kind == "payload":
        return _new(Response, (response.request_id, response.payload))
    if kind == "error":
        error = response.error
        return ErrorResponse(response.request_id, error.code, error.message, error.data)
    return Response(response.request_id, None)


def _read_header(packet: DataPacket) -> StreamHeader:
    header = packet.stream_header
    is_text = header.WhichOneof("content_header") == "text_header"
    return StreamHeader(
        header.stream_id,
        header.topic,
        dict(header.attributes),
        header.total_length if header.HasField("total_length") else None,
        header.timestamp,
        header.inline_content if header.HasField("inline_content") else None,
        header.compression,
        is_text,
        is_text and header.text_header.generated,
    )


def _read_chunk(packet: DataPacket) -> StreamChunk:
    chunk = packet.stream_chunk
    return StreamChunk(chunk.stream_id, chunk.chunk_index, chunk.content)


def _read_trailer(packet: DataPacket) -> StreamTrailer:
    trailer = packet.stream_trailer
    return StreamTrailer(trailer.stream_id, trailer.reason)


def _read_other(packet: DataPacket) -> Unread:
    return Unread(packet.WhichOneof("value") or "")


_READERS: Final[dict[str | None, Callable[[DataPacket], Message]]] = {
    "rpc_request": _read_request,
    "rpc_ack": _read_ack,
    "rpc_response": _read_response,
    "stream_header": _read_header,
    "stream_chunk": _read_chunk,
    "stream_trailer": _read_trailer,
}

# --- writing

MAX_UINT64: Final = 2**64 - 1
_MIME_TYPE: Final = "text/plain"


@lru_cache(256)
def _varint(number: int) -> bytes:
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)


_SIZED: Final = tuple(_varint(number << 3 | 2) for number in range(19))
"""By field number, what begins a field with a length: a text, bytes or a message."""
_SHORT: Final = tuple(tuple(tag + _varint(n) for n in range(256)) for tag in _SIZED)
"""By field number and length, the same with the length of a short one."""
_ID: Final = _SHORT[1]
"""What begins a request id, the first field of whatever carries one, by its length."""
_NUMBER: Final = tuple(_varint(number << 3) for number in range(19))
"""By field number, what begins a number."""


def _sized(number: int, content: bytes) -> bytes:
    length = len(content)
    if length < 256:
        return _SHORT[number][length] + content
    return b"%b%b%b" % (_SIZED[number], _varint(length), content)


def _text(number: int, text: str) -> bytes:
    """A text field without presence: absent when empty."""
    return _sized(number, text.encode()) if text else b""


def _uint(number: int, value: int) -> bytes:
    """A number field without presence: absent when 0."""
    return _NUMBER[number] + _varint(value) if value else b""


# What is the same in many packets is put together once. The caches are bounded, and what they
# give depends on nothing but their arguments.


@lru_cache(256)
def _envelope(sender_identity: str, destination_identity: str) -> bytes:
    return _text(4, sender_identity) + _sized(5, destination_identity.encode())


@lru_cache(256)
def _method(method: str) -> bytes:
    return _text(2, method)


@lru_cache(256)
def _timeout_and_version(response_timeout_ms: int, version: int) -> bytes:
    return _uint(4, response_timeout_ms) + _uint(5, version)


def _write_request(request: Request) -> bytes:
    request_id, method, payload, response_timeout_ms, version, _ = request
    id_text = request_id.encode()
    return _sized(
        10,
        _ID[len(id_text)]
        + id_text
        + _method(method)
        + _text(3, payload)
        + _timeout_and_version(response_timeout_ms, version),
    )


def _write_ack(ack: Ack) -> bytes:
    id_text = ack[0].encode()
    return _sized(11, _ID[len(id_text)] + id_text)


def _write_response(response: Response) -> bytes:
    # The payload is in a oneof: an empty one is there all the same (R29).
    request_id, payload = response
    id_text = request_id.encode()
    value = b"" if payload is None else _sized(2, payload.encode())
    return _sized(12, _ID[len(id_text)] + id_text + value)


def _write_error(error: ErrorResponse) -> bytes:
    body = _uint(1, error.code) + _text(2, error.message) + _text(3, error.data)
    return _sized(12, _text(1, error.request_id) + _sized(3, body))


def _write_header(header: StreamHeader) -> bytes:
    attributes = b"".join(
        _sized(8, _text(1, key) + _text(2, value))
        for key, value in sorted(header.attributes.items())
    )
    total, inline = header.total_length, header.inline_content
    return _sized(
        13,
        _text(1, header.stream_id)
        + _uint(2, header.timestamp_ms & MAX_UINT64)
        + _text(3, header.topic)
        + _text(4, _MIME_TYPE)
        + (b"" if total is None else _NUMBER[5] + _varint(total))
        + attributes
        + (_sized(9, _uint(5, header.generated)) if header.is_text else b"")
        + (b"" if inline is None else _sized(11, inline))
        + _uint(12, header.compression),
    )


def _write_chunk(chunk: StreamChunk) -> bytes:
    return _sized(
        14, _text(1, chunk.stream_id) + _uint(2, chunk.chunk_index) + _sized(3, chunk.content)
    )


def _write_trailer(trailer: StreamTrailer) -> bytes:
    return _sized(15, _text(1, trailer.stream_id) + _text(2, trailer.reason))


_WRITERS: Final[dict[type[OutgoingMessage], Callable[[Any], bytes]]] = {
    Request: _write_request,
    Ack: _write_ack,
    Response: _write_response,
    ErrorResponse: _write_error,
    StreamHeader: _write_header,
    StreamChunk: _write_chunk,
    StreamTrailer: _write_trailer,
}


def encode(message: OutgoingMessage, sender_identity: str, destination_identity: str) -> bytes:
    """The packet that carries `message`. All texts must be valid for UTF-8."""
    return _envelope(sender_identity, destination_identity) + _WRITERS[type(message)](message)


def stamp(
    data: bytes, *, sequence: int = 0, sender_identity: str = "", sender_sid: str = ""
) -> bytes:
    """A packet with what adapters and routers add: a field written later wins over an earlier one.

    `sequence` is 0 (not sequenced) to 2^32 - 1, given at the moment of sending (A7); the sender
    fields are what a server or hub writes. What is left empty stays as it is.
    """
    return data + _text(4, sender_identity) + _uint(16, sequence) + _text(17, sender_sid)
