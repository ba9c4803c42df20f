"""Bytes to messages and back: the only room that knows protobuf.

Reading leaves everything to protobuf. Writing puts the few fields together by hand, in field order,
because building protobuf objects in Python is what a call would spend most of its time on; the
bytes are those that protobuf's deterministic serialization gives (R35).
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from google.protobuf.message import DecodeError

from rpcproto.core.errors import LocalProtocolError
from rpcproto.core.messages import (
    MAX_ID_BYTES,
    MAX_IDENTITY_BYTES,
    MAX_UINT32,
    PACKET_VERSION,
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
    new_value,
)
from rpcproto.core.packets_pb2 import DataPacket

# --- reading

_parse: Final = DataPacket.FromString


def decode(data: bytes) -> Packet | None:
    """The packet in `data`, or None if it is malformed: no protobuf, or a name too long (R28)."""
    parts = read(data, "", {})
    if parts is None:
        return None
    identity, sid, _, sequence, kind, fields = parts
    destinations = tuple(_parse(data).destination_identities)
    return Packet(identity, sid, destinations, sequence, new_value(kind, fields))


def read(
    data: bytes, our_identity: str, envelopes: Mapping[str, bytes]
) -> tuple[str, str, bool, int, type[Message], Any] | None:
    """A packet for the engine, which takes it apart at once: who claims to have sent it, whether it
    is for us (R39), its sequence number, the class of its message and the fields of that.

    None as of `decode`. `envelopes` has what packets to us begin with, by who sends them: for the
    usual packet the list of destinations is then not made.
    """
    try:
        packet = _parse(data)
    except (DecodeError, ValueError):
        return None
    which = packet.WhichOneof("value")
    kind: type[Message]
    fields: Any
    # The packets of a v1 call are read in line: they are most of all packets.
    if which == "rpc_ack":
        kind, fields = Ack, (packet.rpc_ack.request_id,)
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
    else:
        fields = _READERS.get(which, _read_other)(packet)
        kind = type(fields)
    name, identity, sid = fields[0], packet.participant_identity, packet.participant_sid
    # Short plain names, as nearly all are, need no closer look.
    if (
        sid
        or len(identity) > _SURELY_SHORT
        or not (0 < len(name) <= MAX_ID_BYTES and name.isascii())
    ) and not _names_fit(kind, name, identity, sid):
        return None
    expected = envelopes.get(identity)
    is_for_us = expected is not None and data.startswith(expected)
    if not is_for_us:
        destinations = packet.destination_identities
        is_for_us = our_identity in destinations or not destinations
    return identity, sid, is_for_us, packet.sequence, kind, fields


_SURELY_SHORT: Final = MAX_IDENTITY_BYTES // 4
"""So many characters cannot be too many bytes."""


def _names_fit(kind: type[Message], name: str, identity: str, sid: str) -> bool:
    return (
        (kind is Unread or is_id(name))
        and fits(identity, MAX_IDENTITY_BYTES)
        and fits(sid, MAX_IDENTITY_BYTES)
    )


def _read_response(packet: DataPacket) -> Response | ErrorResponse:
    response = packet.rpc_response
    value = response.WhichOneof("value")
    if value != "error":
        return Response(response.request_id, "" if value == "payload" else None)
    error = response.error
    return ErrorResponse(response.request_id, error.code, error.message, error.data)


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
    "rpc_response": _read_response,
    "stream_header": _read_header,
    "stream_chunk": _read_chunk,
    "stream_trailer": _read_trailer,
}

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


@lru_cache(1024)
def _head(number: int, length: int) -> bytes:
    """What begins a field with a length: a text, bytes or a message."""
    return _varint(number << 3 | 2) + _varint(length)


def _sized(number: int, content: bytes) -> bytes:
    return _head(number, len(content)) + content


def _text(number: int, text: str) -> bytes:
    """A text field without presence: absent when empty."""
    return _sized(number, text.encode()) if text else b""


def _uint(number: int, value: int) -> bytes:
    """A number field without presence: absent when 0."""
    return _varint(number << 3) + _varint(value) if value else b""


@lru_cache(256)
def envelope(sender_identity: str, destination_identity: str) -> bytes:
    """What every packet from one participant to another begins with."""
    return _text(4, sender_identity) + _sized(5, destination_identity.encode())


# A packet of a v1 call is what differs in each, its id and payload, and what stands around them.


@lru_cache(1024)
def _around_request(
    id_bytes: int, method: str, payload_bytes: int, response_timeout_ms: int, version: int
) -> tuple[bytes, bytes, bytes]:
    """What stands before the id of a request, between it and the payload, and after that."""
    before = _head(1, id_bytes)
    between = _text(2, method) + (_head(3, payload_bytes) if payload_bytes else b"")
    after = _uint(4, response_timeout_ms) + _uint(5, version)
    length = len(before) + id_bytes + len(between) + payload_bytes + len(after)
    return _head(10, length) + before, between, after


@lru_cache(128)
def _before_ack(id_bytes: int) -> bytes:
    """What stands before the id of an ack."""
    before = _head(1, id_bytes)
    return _head(11, len(before) + id_bytes) + before


@lru_cache(1024)
def _around_response(id_bytes: int, payload_bytes: int) -> tuple[bytes, bytes]:
    """What stands before the id of a response, and between it and the payload."""
    before, between = _head(1, id_bytes), _head(2, payload_bytes)
    length = len(before) + id_bytes + len(between) + payload_bytes
    return _head(12, length) + before, between


def write_request(
    envelope: bytes,
    request_id: bytes,
    method: str,
    payload: bytes,
    response_timeout_ms: int,
    version: int = PACKET_VERSION,
) -> bytes:
    """The packet of a v1 request; id and payload are in UTF-8 already."""
    before, between, after = _around_request(
        len(request_id), method, len(payload), response_timeout_ms, version
    )
    return b"".join((envelope, before, request_id, between, payload, after))


def write_ack(envelope: bytes, request_id: str) -> bytes:
    """The packet of an ack."""
    id_text = request_id.encode()
    return envelope + _before_ack(len(id_text)) + id_text


def write_response(envelope: bytes, request_id: str, payload: bytes) -> bytes:
    """The packet of a v1 response, its payload in UTF-8 already; an empty one is there all the same
    (R29)."""
    id_text = request_id.encode()
    before, between = _around_response(len(id_text), len(payload))
    return b"".join((envelope, before, id_text, between, payload))


def _write_request(envelope: bytes, request: Request) -> bytes:
    request_id, method, payload, timeout_ms, version, _ = request
    return write_request(
        envelope, request_id.encode(), method, payload.encode(), timeout_ms, version
    )


def _write_response(envelope: bytes, response: Response) -> bytes:
    if response.payload is None:
        return envelope + _sized(12, _text(1, response.request_id))
    return write_response(envelope, response.request_id, response.payload.encode())


def _write_error(envelope: bytes, error: ErrorResponse) -> bytes:
    body = _uint(1, error.code) + _text(2, error.message) + _text(3, error.data)
    return envelope + _sized(12, _text(1, error.request_id) + _sized(3, body))


def _write_header(envelope: bytes, header: StreamHeader) -> bytes:
    attributes = b"".join(
        _sized(8, _text(1, key) + _text(2, value))
        for key, value in sorted(header.attributes.items())
    )
    total, inline = header.total_length, header.inline_content
    return envelope + _sized(
        13,
        _text(1, header.stream_id)
        + _uint(2, header.timestamp_ms & MAX_UINT64)
        + _text(3, header.topic)
        + _text(4, _MIME_TYPE)
        + (b"" if total is None else _varint(5 << 3) + _varint(total))
        + attributes
        + (_sized(9, _uint(5, header.generated)) if header.is_text else b"")
        + (b"" if inline is None else _sized(11, inline))
        + _uint(12, header.compression),
    )


def _write_chunk(envelope: bytes, chunk: StreamChunk) -> bytes:
    content = chunk.content
    before = _text(1, chunk.stream_id) + _uint(2, chunk.chunk_index) + _head(3, len(content))
    # One join copies the content once.
    return b"".join((envelope, _head(14, len(before) + len(content)), before, content))


def _write_trailer(envelope: bytes, trailer: StreamTrailer) -> bytes:
    return envelope + _sized(15, _text(1, trailer.stream_id) + _text(2, trailer.reason))


_WRITERS: Final[dict[type[OutgoingMessage], Callable[[bytes, Any], bytes]]] = {
    Request: _write_request,
    Ack: lambda envelope, ack: write_ack(envelope, ack.request_id),
    Response: _write_response,
    ErrorResponse: _write_error,
    StreamHeader: _write_header,
    StreamChunk: _write_chunk,
    StreamTrailer: _write_trailer,
}


def encode(message: OutgoingMessage, sender_identity: str, destination_identity: str) -> bytes:
    """The packet that carries `message`. All texts must be valid for UTF-8."""
    return _WRITERS[type(message)](envelope(sender_identity, destination_identity), message)


def stamp(
    data: bytes, *, sequence: int = 0, sender_identity: str = "", sender_sid: str = ""
) -> bytes:
    """A packet with what adapters and routers add: a field written later wins over an earlier one.

    `sequence` is 0 (not sequenced) to 2^32 - 1, given at the moment of sending (A7); the sender
    fields are what a server or hub writes. What is left empty stays as it is. Raises
    LocalProtocolError for another sequence.
    """
    if not 0 <= sequence <= MAX_UINT32:
        raise LocalProtocolError("sequence must be from 0 to 2^32 - 1")
    return data + _text(4, sender_identity) + _uint(16, sequence) + _text(17, sender_sid)
