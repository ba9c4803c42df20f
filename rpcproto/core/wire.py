"""Bytes to messages and back: the only room that knows protobuf.

Reading leaves everything to protobuf. Writing puts the few fields together by hand, in field order,
because building protobuf objects in Python is what a call would spend most of its time on; the
bytes are those that protobuf's deterministic serialization gives (R35).
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from google.protobuf.message import DecodeError

from rpcproto.core.messages import (
    MAX_ID_BYTES,
    MAX_IDENTITY_BYTES,
    Ack,
    ErrorResponse,
    Message,
    OutgoingMessage,
    Packet,
    Request,
    Response,
    Unread,
)
from rpcproto.core.packets_pb2 import DataPacket

# --- reading


def decode(data: bytes) -> Packet | None:
    """The packet in `data`, or None if it is malformed: no protobuf, or names out of bounds (R28)."""
    try:
        packet = DataPacket.FromString(data)
    except (DecodeError, ValueError):
        return None
    identity = packet.participant_identity
    sid = packet.participant_sid
    if not (_fits(identity, MAX_IDENTITY_BYTES) and _fits(sid, MAX_IDENTITY_BYTES)):
        return None
    kind = packet.WhichOneof("value")
    read = _READERS.get(kind)
    message = Unread(kind or "") if read is None else read(packet)
    if message is None:
        return None
    return Packet(identity, sid, _texts(packet.destination_identities), packet.sequence, message)


def _fits(text: str, max_bytes: int) -> bool:
    return len(text) * 4 <= max_bytes or len(text.encode()) <= max_bytes


def _is_id(text: str) -> bool:
    return text != "" and _fits(text, MAX_ID_BYTES)


def _texts(repeated: Sequence[str]) -> tuple[str, ...]:
    return (repeated[0],) if len(repeated) == 1 else tuple(repeated)


def _read_request(packet: DataPacket) -> Request | None:
    request = packet.rpc_request
    request_id = request.id
    if not _is_id(request_id):
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
    return Ack(request_id) if _is_id(request_id) else None


def _read_response(packet: DataPacket) -> Response | ErrorResponse | None:
    response = packet.rpc_response
    request_id = response.request_id
    if not _is_id(request_id):
        return None
    kind = response.WhichOneof("value")
    if kind == "payload":
        return Response(request_id, response.payload)
    if kind == "error":
        error = response.error
        return ErrorResponse(request_id, error.code, error.message, error.data)
    return Response(request_id, None)


_READERS: Final[dict[str | None, Callable[[DataPacket], Message | None]]] = {
    "rpc_request": _read_request,
    "rpc_ack": _read_ack,
    "rpc_response": _read_response,
}

# --- writing

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


_WRITERS: Final[dict[type[OutgoingMessage], Callable[[Any], bytes]]] = {
    Request: _write_request,
    Ack: _write_ack,
    Response: _write_response,
    ErrorResponse: _write_error,
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
