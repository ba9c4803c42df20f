"""Read and write packets without an engine.

`decode` reads the bytes of a packet, `encode` writes a message as a packet, and `stamp` adds the
fields that routers add. The message types are here too, with the limits of their fields.

`encode` also writes packets that an engine never sends: version 0, empty ids, names of any length.
Use it to test an implementation. It raises `LocalProtocolError` only for values that no packet can
contain.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, final

from rpcproto.core.errors import (
    MAX_ERROR_DATA_BYTES,
    MAX_ERROR_MESSAGE_BYTES,
    LocalProtocolError,
    require_text,
)
from rpcproto.core.messages import (
    DEFLATE_RAW,
    MAX_ID_BYTES,
    MAX_IDENTITY_BYTES,
    MAX_METHOD_BYTES,
    MAX_UINT32,
    MAX_V1_PAYLOAD_BYTES,
    PACKET_VERSION,
    REQUEST_TOPIC,
    RESPONSE_TOPIC,
    UNCOMPRESSED,
    Ack,
    Attributes,
    ErrorResponse,
    Request,
    Response,
    Sealed,
    StreamChunk,
    StreamTrailer,
    Unread,
    fits,
    is_id,
)
from rpcproto.core.packets_pb2 import DataPacket
from rpcproto.core.stream_writer import CANCELLED, CHUNK_BYTES
from rpcproto.core.wire import (
    MALFORMED,
    MAX_DESTINATIONS,
    MAX_UINT64,
    METHOD,
    REQUEST_ID,
    RESPONSE_TIMEOUT_MS,
    STREAM_VERSION,
    UNSTATED_TIMEOUT_MS,
    VERSION,
    Value,
    around_iv,
    parse_payload,
    payload_of,
    read_response,
    request_attributes,
    sized_field,
    text_field,
    uint_field,
)
from rpcproto.publishing import publish

__all__ = [
    "CANCELLED",
    "CHUNK_BYTES",
    "DEFLATE_RAW",
    "MAX_DESTINATIONS",
    "MAX_ERROR_DATA_BYTES",
    "MAX_ERROR_MESSAGE_BYTES",
    "MAX_IDENTITY_BYTES",
    "MAX_ID_BYTES",
    "MAX_METHOD_BYTES",
    "MAX_UINT32",
    "MAX_UINT64",
    "MAX_V1_PAYLOAD_BYTES",
    "METHOD",
    "PACKET_VERSION",
    "REQUEST_ID",
    "REQUEST_TOPIC",
    "RESPONSE_TIMEOUT_MS",
    "RESPONSE_TOPIC",
    "STREAM_VERSION",
    "UNCOMPRESSED",
    "UNSTATED_TIMEOUT_MS",
    "VERSION",
    "Ack",
    "Attributes",
    "ErrorResponse",
    "Message",
    "OutgoingMessage",
    "Packet",
    "Request",
    "Response",
    "Sealed",
    "StreamChunk",
    "StreamHeader",
    "StreamTrailer",
    "Unread",
    "decode",
    "decode_payload",
    "encode",
    "encode_payload",
    "request_attributes",
    "response_attributes",
    "stamp",
]

_MIME_TYPE: Final = "text/plain"


@final
class StreamHeader(NamedTuple):
    """The beginning of a stream (RPC v2), or the whole stream if it has `inline_content`."""

    stream_id: str
    """The sender's id for the stream: 1 to 128 bytes (R23)."""
    topic: str
    """`REQUEST_TOPIC`, `RESPONSE_TOPIC`, or one that does not belong to RPC."""
    attributes: Attributes
    """The attributes of the call: see `request_attributes` and `response_attributes`."""
    total_length: int | None
    """The length of the body in bytes before compression, 0 to 2^64 - 1; None if it is not given
    (R25)."""
    timestamp_ms: int
    """When the stream began: Unix time in milliseconds, -2^63 to 2^63 - 1. Engines do not read it.
    """
    inline_content: bytes | None = None
    """The whole body, compressed if `compression` says so; None if chunks follow."""
    compression: int = UNCOMPRESSED
    """`UNCOMPRESSED`, `DEFLATE_RAW`, or another number from -2^31 to 2^31 - 1, which engines refuse
    (R27)."""
    is_text: bool = True
    """Whether the header declares the body as text, as RPC requires (R27)."""
    generated: bool = False
    """Whether an agent made the stream in another participant's name. Engines ignore such streams
    (R24). Written only if `is_text`."""

    @property
    def request_id(self) -> str:
        """The request id of the call, or an empty text if the header has none."""
        return self.attributes.get(REQUEST_ID, "")

    @property
    def method(self) -> str:
        """The method of a request, or an empty text if the header has none."""
        return self.attributes.get(METHOD, "")


OutgoingMessage: TypeAlias = (
    Request | Ack | Response | ErrorResponse | StreamHeader | StreamChunk | StreamTrailer | Sealed
)
"""A message that `encode` takes."""
Message: TypeAlias = OutgoingMessage | Unread
"""A message that `decode` returns."""


@final
class Packet(NamedTuple):
    """A packet that was read. Its sender fields are not verified (R36)."""

    sender_identity: str
    """Up to 256 bytes; empty if it is not given, or if the sender is hidden."""
    sender_sid: str
    """The sid of the sender's session, up to 256 bytes; empty unless a server wrote it."""
    destination_identities: Sequence[str]
    """The recipients, of any number and length. Empty means all participants. Engines look at the
    first 1,024 names (R39)."""
    sequence: int
    """The number of the packet among those of its sender, 1 to 2^32 - 1; 0 if it has none (R37)."""
    message: Message
    """The message in the packet."""


def response_attributes(request_id: str) -> Attributes:
    """Return the attributes for the header of a response stream."""
    return {REQUEST_ID: request_id}


# reading


def decode(data: bytes) -> Packet | None:
    """Return the packet in `data`, or None if it is malformed.

    It is malformed if it is not protobuf, if a text that is read is not valid UTF-8, if the request
    id or stream id of its message is empty or has more than 128 bytes, or if the identity or sid of
    its sender has more than 256 bytes (R28, R34). An engine ignores it as `MALFORMED`.
    The size of a packet is not limited here; an engine has `max_packet_bytes`.

    Raises:
        LocalProtocolError: `data` is not bytes.
    """
    _require_bytes(data, "data")
    packet = _parse(data)
    if packet is None:
        return None
    message = _message(packet)
    if not _is_named(message):
        return None
    identity, sid = packet.participant_identity, packet.participant_sid
    if not fits(identity, MAX_IDENTITY_BYTES) or not fits(sid, MAX_IDENTITY_BYTES):
        return None
    return Packet(identity, sid, tuple(packet.destination_identities), packet.sequence, message)


def decode_payload(plaintext: bytes) -> Message | None:
    """Return the message that was encrypted in a packet, or None if it is malformed, as in
    `decode`.

    `plaintext` is what `Cryptor.open` returned for the fields of a `Sealed` message.

    Raises:
        LocalProtocolError: `plaintext` is not bytes.
    """
    _require_bytes(plaintext, "plaintext")
    payload = _parse(plaintext, parse_payload)
    if payload is None:
        return None
    message = _message(payload)
    return message if _is_named(message) else None


def _is_named(message: Message) -> bool:
    return isinstance(message, Sealed | Unread) or is_id(message[0])


def _parse(data: bytes, from_string: Callable[[bytes], Any] = DataPacket.FromString) -> Any:
    """What is in `data` as protobuf has it; None if there is nothing."""
    try:
        return from_string(data)
    except MALFORMED:
        return None


def _message(packet: Value) -> Message:
    which = packet.WhichOneof("value")
    if isinstance(packet, DataPacket) and which == "encrypted_packet":
        sealed = packet.encrypted_packet
        return Sealed(sealed.key_index, sealed.iv, sealed.encrypted_value)
    if which == "rpc_ack":
        return Ack(packet.rpc_ack.request_id)
    if which == "rpc_request":
        return _request(packet)
    if which == "stream_header":
        return _header(packet)
    if which == "rpc_response":
        return read_response(packet.rpc_response)
    if which == "stream_chunk":
        chunk = packet.stream_chunk
        return StreamChunk(chunk.stream_id, chunk.chunk_index, chunk.content)
    if which == "stream_trailer":
        return StreamTrailer(packet.stream_trailer.stream_id, packet.stream_trailer.reason)
    return Unread(which or "")


def _request(packet: Value) -> Request:
    request = packet.rpc_request
    return Request(
        request.id,
        request.method,
        request.payload,
        request.response_timeout_ms,
        request.version,
        request.compressed_payload != b"",
    )


def _header(packet: Value) -> StreamHeader:
    header = packet.stream_header
    is_text = header.HasField("text_header")
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


# writing


def encode(message: OutgoingMessage, sender_identity: str, destination_identity: str) -> bytes:
    """Return the packet that carries `message` from one participant to another.

    The bytes are those of protobuf's deterministic serialization, as an engine writes them (R35).
    An empty `sender_identity` is left out.

    Raises:
        LocalProtocolError: A text is not valid Unicode, a number is out of the range of its
            field, or a value has the wrong type.
    """
    writer = _WRITERS.get(type(message))
    if writer is None:
        raise LocalProtocolError(f"{type(message).__name__} is not a message that can be written")
    sender = _text(4, sender_identity, "sender_identity")
    destination = sized_field(5, require_text(destination_identity, "destination_identity"))
    return sender + destination + writer(message)


def encode_payload(message: OutgoingMessage) -> bytes:
    """Return the plaintext that an engine with a cryptor encrypts to send `message`. Pass it to
    `Cryptor.seal`, and the result to `encode`.

    Raises:
        LocalProtocolError: As for `encode`, and if the message is encrypted already.
    """
    if isinstance(message, Sealed):
        raise LocalProtocolError("an encrypted message can't be encrypted again")
    return payload_of(encode(message, "", ""), len(sized_field(5, b"")))


def stamp(
    data: bytes, *, sequence: int = 0, sender_identity: str = "", sender_sid: str = ""
) -> bytes:
    """Return a packet with the fields that adapters and routers add.

    The fields are appended: in protobuf, a later field replaces an earlier one. `sequence` is the
    number of the packet among the packets of its sender, from 1 to 2^32 - 1, in the order of
    sending. A server or hub writes the sender fields. A field that is 0 or empty is not changed.

    Appending is correct only for a complete packet. If `data` ended within a field of unknown
    number, the appended bytes would become part of that field, and the packet would keep the sender
    that it claims. Therefore `data` is parsed first if `sender_identity` or `sender_sid` is given.
    With `sequence` alone, `data` is not parsed, so use that only for your own packets. A hub must
    still drop packets for which `decode` returns None.

    Raises:
        LocalProtocolError: Sender fields were given and `data` is not a complete packet, the
            sequence is out of range, a text is not valid Unicode, or a value has the wrong
            type.
    """
    _require_bytes(data, "data")
    stamped = (
        data
        + _text(4, sender_identity, "sender_identity")
        + _uint32(16, sequence, "sequence")
        + _text(17, sender_sid, "sender_sid")
    )
    if (sender_identity or sender_sid) and _parse(data) is None:
        raise LocalProtocolError("data is not a complete packet, so no sender can be added to it")
    return stamped


def _request_fields(request: Request) -> bytes:
    return sized_field(
        10,
        _text(1, request.request_id, "request_id")
        + _text(2, request.method, "method")
        + _text(3, request.payload, "payload")
        + _uint32(4, request.response_timeout_ms, "response_timeout_ms")
        + _uint32(5, request.version, "version"),
    )


def _ack_fields(ack: Ack) -> bytes:
    return sized_field(11, _text(1, ack.request_id, "request_id"))


def _response_fields(response: Response) -> bytes:
    request_id, payload = _text(1, response.request_id, "request_id"), response.payload
    value = b"" if payload is None else sized_field(2, require_text(payload, "payload"))
    return sized_field(12, request_id + value)


def _error_fields(error: ErrorResponse) -> bytes:
    fields = (
        _uint32(1, error.code, "code")
        + _text(2, error.message, "message")
        + _text(3, error.data, "data")
    )
    return sized_field(12, _text(1, error.request_id, "request_id") + sized_field(3, fields))


def _header_fields(header: StreamHeader) -> bytes:
    total, inline = header.total_length, header.inline_content
    timestamp = _require_int(header.timestamp_ms, "timestamp_ms", -(2**63), 2**63 - 1)
    compression = _require_int(header.compression, "compression", -(2**31), 2**31 - 1)
    return sized_field(
        13,
        _text(1, header.stream_id, "stream_id")
        + uint_field(2, timestamp & MAX_UINT64)
        + _text(3, header.topic, "topic")
        + text_field(4, _MIME_TYPE)
        + (b"" if total is None else _total_length(total))
        + _attribute_fields(header.attributes)
        + _text_header(header)
        + (b"" if inline is None else sized_field(11, _require_bytes(inline, "inline_content")))
        + uint_field(12, compression & MAX_UINT64),
    )


def _total_length(number: int) -> bytes:
    """A number that has presence: 0 is written too."""
    return _uint64(5, number, "total_length") or b"\x28\x00"


def _attribute_fields(attributes: Attributes) -> bytes:
    if not isinstance(attributes, Mapping):
        raise _wrong_type(attributes, "attributes", "a mapping")
    encoded = sorted(
        (require_text(key, "a key of attributes"), require_text(value, "a value of attributes"))
        for key, value in attributes.items()
    )
    return b"".join(sized_field(8, sized_field(1, k) + sized_field(2, v)) for k, v in encoded)


def _text_header(header: StreamHeader) -> bytes:
    is_text = _require_bool(header.is_text, "is_text")
    generated = _require_bool(header.generated, "generated")
    return sized_field(9, uint_field(5, generated)) if is_text else b""


def _chunk_fields(chunk: StreamChunk) -> bytes:
    content = _require_bytes(chunk.content, "content")
    return sized_field(
        14,
        _text(1, chunk.stream_id, "stream_id")
        + _uint64(2, chunk.chunk_index, "chunk_index")
        + (sized_field(3, content) if content else b""),
    )


def _trailer_fields(trailer: StreamTrailer) -> bytes:
    return sized_field(
        15, _text(1, trailer.stream_id, "stream_id") + _text(2, trailer.reason, "reason")
    )


def _sealed_fields(sealed: Sealed) -> bytes:
    key_index = _require_int(sealed.key_index, "key_index", 0, MAX_UINT32)
    iv = _require_bytes(sealed.iv, "iv")
    ciphertext = _require_bytes(sealed.ciphertext, "ciphertext")
    before, after = around_iv(len(ciphertext), key_index, len(iv))
    return before + iv + after + ciphertext


_WRITERS: Final[Mapping[type, Callable[[Any], bytes]]] = {
    Request: _request_fields,
    Ack: _ack_fields,
    Response: _response_fields,
    ErrorResponse: _error_fields,
    StreamHeader: _header_fields,
    StreamChunk: _chunk_fields,
    StreamTrailer: _trailer_fields,
    Sealed: _sealed_fields,
}


def _text(number: int, text: str, name: str) -> bytes:
    """A text without presence: absent when empty."""
    encoded = require_text(text, name)
    return sized_field(number, encoded) if encoded else b""


def _uint32(number: int, value: int, name: str) -> bytes:
    return uint_field(number, _require_int(value, name, 0, MAX_UINT32))


def _uint64(number: int, value: int, name: str) -> bytes:
    return uint_field(number, _require_int(value, name, 0, MAX_UINT64))


def _require_int(value: int, name: str, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong_type(value, name, "an int")
    if not least <= value <= most:
        lowest = f"-2^{least.bit_length() - 1}" if least else "0"
        raise LocalProtocolError(f"{name} must be from {lowest} to 2^{most.bit_length()} - 1")
    return value


def _require_bytes(value: bytes, name: str) -> bytes:
    if not isinstance(value, bytes):
        raise _wrong_type(value, name, "bytes")
    return value


def _require_bool(value: bool, name: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong_type(value, name, "a bool")
    return value


def _wrong_type(value: object, name: str, expected: str) -> LocalProtocolError:
    return LocalProtocolError(f"{name} must be {expected}, not {type(value).__name__}")


publish(globals())
