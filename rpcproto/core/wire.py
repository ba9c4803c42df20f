"""Bytes to messages and back: the only room that knows protobuf.

Reading leaves everything to protobuf. Writing puts the few fields together by hand, in field order,
because building protobuf objects in Python is what a call would spend most of its time on; the
bytes are those that protobuf's deterministic serialization gives (R35).
"""

from collections.abc import Callable, Sequence
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

# --- reading


def decode(data: bytes) -> Packet | None:
    """The packet in `data`, or None if it is malformed: no protobuf, or a name too long (R28)."""
    try:
        packet = DataPacket.FromString(data)
    except (DecodeError, ValueError):
        return None
    identity = packet.participant_identity
    sid = packet.participant_sid
    if not (fits(identity, MAX_IDENTITY_BYTES) and fits(sid, MAX_IDENTITY_BYTES)):
        return None
    kind = packet.WhichOneof("value")
    read = _READERS.get(kind)
    message = Unread(kind or "") if read is None else read(packet)
    if message is None:
        return None
    return Packet(identity, sid, _texts(packet.destination_identities), packet.sequence, message)


def _texts(repeated: Sequence[str]) -> tuple[str, ...]:
    return (repeated[0],) if len(repeated) == 1 else tuple(repeated)


def _read_request(packet: DataPacket) -> Request | None:
    request = packet.rpc_request
    request_id = request.id
    if not is_id(request_id):
        return None
    return Request(
        request_id,
        request.method,
        request.payload,
        request.response_timeout_ms,
        request.version,
        bool(request.compressed_payload),
    )


def _read_ack(packet: DataPacket) -> Ack | None:
    request_id = packet.rpc_ack.request_id
    return Ack(request_id) if is_id(request_id) else None


def _read_response(packet: DataPacket) -> Response | ErrorResponse | None:
    response = packet.rpc_response
    request_id = response.request_id
    if not is_id(request_id):
        return None
    kind = response.WhichOneof("value")
    if kind == "payload":
        return Response(request_id, response.payload)
    if kind == "error":
        error = response.error
        return ErrorResponse(request_id, error.code, error.message, error.data)
    return Response(request_id, None)


def _read_header(packet: DataPacket) -> StreamHeader | None:
    header = packet.stream_header
    stream_id = header.stream_id
    if not is_id(stream_id):
        return None
    is_text = header.WhichOneof("content_header") == "text_header"
    return StreamHeader(
        stream_id,
        header.topic,
        dict(header.attributes),
        header.total_length if header.HasField("total_length") else None,
        header.timestamp,
        header.inline_content if header.HasField("inline_content") else None,
        header.compression,
        is_text,
        is_text and header.text_header.generated,
    )


def _read_chunk(packet: DataPacket) -> StreamChunk | None:
    chunk = packet.stream_chunk
    stream_id = chunk.stream_id
    return StreamChunk(stream_id, chunk.chunk_index, chunk.content) if is_id(stream_id) else None


def _read_trailer(packet: DataPacket) -> StreamTrailer | None:
    trailer = packet.stream_trailer
    stream_id = trailer.stream_id
    return StreamTrailer(stream_id, trailer.reason) if is_id(stream_id) else None


_READERS: Final[dict[str | None, Callable[[DataPacket], Message | None]]] = {
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
_SHORT_LENGTH: Final = tuple(bytes((n,)) for n in range(128))


def _varint(number: int) -> bytes:
    if number < 128:
        return _SHORT_LENGTH[number]
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)


_SIZED: Final = tuple(_varint(number << 3 | 2) for number in range(19))
"""By field number, what begins a field with a length: a text, bytes or a message."""
_NUMBER: Final = tuple(_varint(number << 3) for number in range(19))
"""By field number, what begins a number."""


def _sized(number: int, content: bytes) -> bytes:
    return _SIZED[number] + _varint(len(content)) + content


def _text(number: int, text: str) -> bytes:
    """A text field without presence: absent when empty."""
    return _sized(number, text.encode()) if text else b""


def _uint(number: int, value: int) -> bytes:
    """A number field without presence: absent when 0."""
    return _NUMBER[number] + _varint(value) if value else b""


def _write_request(request: Request) -> bytes:
    return _sized(
        10,
        _text(1, request.request_id)
        + _text(2, request.method)
        + _text(3, request.payload)
        + _uint(4, request.response_timeout_ms)
        + _uint(5, request.version),
    )


def _write_ack(ack: Ack) -> bytes:
    return _sized(11, _text(1, ack.request_id))


def _write_response(response: Response) -> bytes:
    # The payload is in a oneof: an empty one is there all the same (R29).
    value = b"" if response.payload is None else _sized(2, response.payload.encode())
    return _sized(12, _text(1, response.request_id) + value)


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
    return (
        _text(4, sender_identity)
        + _sized(5, destination_identity.encode())
        + _WRITERS[type(message)](message)
    )


def stamp(
    data: bytes, *, sequence: int = 0, sender_identity: str = "", sender_sid: str = ""
) -> bytes:
    """A packet with what adapters and routers add: a field written later wins over an earlier one.

    `sequence` is 0 (not sequenced) to 2^32 - 1, given at the moment of sending (A7); the sender
    fields are what a server or hub writes. What is left empty stays as it is.
    """
    return data + _text(4, sender_identity) + _uint(16, sequence) + _text(17, sender_sid)
