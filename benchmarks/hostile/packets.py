"""Packets to `bob`, honest and hostile, as bytes.

Those without a named sender are `mallory`'s.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from rpcproto.core.packets_pb2 import (
    DataPacket,
    DataStream,
    EncryptedPacket,
    RpcAck,
    RpcError,
    RpcRequest,
    RpcResponse,
)

HOSTILE: Final = "mallory"
HONEST: Final = "alice"
OURS: Final = "bob"
METHOD: Final = "echo"
MAX_PACKET_BYTES: Final = 128 * 1024
TIMEOUT_MS: Final = 999_998_000
"""What the engine of a scene asks for itself: the usual timeout."""
REQUEST_TOPIC: Final = "lk.rpc_request"
RESPONSE_TOPIC: Final = "lk.rpc_response"
DEFLATE_RAW: Final = 1

# --- by hand


def varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)


def tag(number: int, wire_type: int) -> bytes:
    """What begins a field."""
    return varint(number << 3 | wire_type)


def field(number: int, content: bytes) -> bytes:
    """A field with a length."""
    return tag(number, 2) + varint(len(content)) + content


# --- by protobuf


def sent(value: DataPacket, sender: str = HOSTILE, sid: str = "", sequence: int = 0) -> bytes:
    """The packet with this value, to us."""
    value.participant_identity = sender
    value.participant_sid = sid
    value.sequence = sequence
    if not value.destination_identities:
        value.destination_identities.append(OURS)
    return value.SerializeToString()


def envelope(sender: str = HOSTILE) -> bytes:
    """A packet without a value, to be continued by hand."""
    return sent(DataPacket(), sender)


def request(
    request_id: str,
    payload: str = "",
    sender: str = HOSTILE,
    *,
    method: str = METHOD,
    version: int = 1,
    timeout_ms: int = TIMEOUT_MS,
    sid: str = "",
    sequence: int = 0,
) -> bytes:
    """A v1 request."""
    message = RpcRequest(
        id=request_id,
        method=method,
        payload=payload,
        response_timeout_ms=timeout_ms,
        version=version,
    )
    return sent(DataPacket(rpc_request=message), sender, sid, sequence)


def ack(request_id: str, sender: str = HOSTILE, *, sid: str = "", sequence: int = 0) -> bytes:
    """An ack."""
    return sent(DataPacket(rpc_ack=RpcAck(request_id=request_id)), sender, sid, sequence)


def response(request_id: str, payload: str) -> bytes:
    """A v1 response."""
    return sent(DataPacket(rpc_response=RpcResponse(request_id=request_id, payload=payload)))


def error(request_id: str, message: str, data: str) -> bytes:
    """An error of the application."""
    value = RpcResponse(request_id=request_id, error=RpcError(code=1, message=message, data=data))
    return sent(DataPacket(rpc_response=value))


def attributes(request_id: str) -> dict[str, str]:
    """What the header of a request stream says of its call."""
    return {
        "lk.rpc_request_id": request_id,
        "lk.rpc_request_method": METHOD,
        "lk.rpc_request_response_timeout_ms": str(TIMEOUT_MS),
        "lk.rpc_request_version": "2",
    }


def header(
    stream_id: str,
    attributes: Mapping[str, str],
    sender: str = HOSTILE,
    *,
    topic: str = REQUEST_TOPIC,
    inline: bytes | None = None,
    compression: int = 0,
    attached: int = 0,
    is_text: bool = True,
) -> bytes:
    """The header of a stream, of a request unless the topic is another."""
    message = DataStream.Header(
        stream_id=stream_id,
        timestamp=1_764_000_000_000,
        topic=topic,
        mime_type="text/plain",
        attributes=attributes,
        inline_content=inline,
        compression=DataStream.CompressionType.Name(compression),
    )
    if is_text:
        message.text_header.SetInParent()
        message.text_header.attached_stream_ids.extend([""] * attached)
    else:
        message.byte_header.name = "file"
    return sent(DataPacket(stream_header=message), sender)


def chunk(stream_id: str, index: int, content: bytes, sender: str = HOSTILE) -> bytes:
    """A chunk of a stream."""
    message = DataStream.Chunk(stream_id=stream_id, chunk_index=index, content=content)
    return sent(DataPacket(stream_chunk=message), sender)


def trailer(stream_id: str, reason: str = "", sender: str = HOSTILE) -> bytes:
    """The end of a stream."""
    message = DataStream.Trailer(stream_id=stream_id, reason=reason)
    return sent(DataPacket(stream_trailer=message), sender)


def encrypted(size: int) -> bytes:
    """An encrypted packet that nobody can read."""
    message = EncryptedPacket(iv=bytes(12), encrypted_value=bytes(size))
    return sent(DataPacket(encrypted_packet=message))


def honest_request(request_id: str, size: int) -> bytes:
    """A v1 request of `size` bytes, or of as few as there can be; its id has 36 characters."""
    return request(request_id, "x" * _padding(min(size, MAX_PACKET_BYTES)), HONEST)


@lru_cache
def _padding(size: int) -> int:
    """The bytes of payload in a v1 request of `size` bytes."""
    payload_bytes = max(0, size - len(request("x" * 36, "", HONEST)))
    while payload_bytes and len(request("x" * 36, "x" * payload_bytes, HONEST)) > size:
        payload_bytes -= 1
    return payload_bytes
