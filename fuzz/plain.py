"""The wire built and read the plain way, by protobuf's own means: slow, and easy to see through."""

import re
from typing import Any, NamedTuple, TypeAlias

from google.protobuf.message import DecodeError

from rpcproto import IgnoreReason
from rpcproto.core import wire as core_wire
from rpcproto.core.packets_pb2 import DataPacket
from rpcproto.core.wire import PAYLOAD_READERS, Envelope, Kind, envelope, read_any, read_sole
from rpcproto.wire import (
    MAX_DESTINATIONS,
    MAX_ID_BYTES,
    MAX_UINT32,
    METHOD,
    REQUEST_ID,
    REQUEST_TOPIC,
    RESPONSE_TIMEOUT_MS,
    RESPONSE_TOPIC,
    UNSTATED_TIMEOUT_MS,
    VERSION,
    Ack,
    Attributes,
    ErrorResponse,
    Message,
    OutgoingMessage,
    Request,
    Response,
    Sealed,
    StreamChunk,
    StreamHeader,
    StreamTrailer,
    Unread,
)


def as_protobuf(message: OutgoingMessage) -> dict[str, Any]:
    """The value of the packet's oneof, built from what protobuf knows of it."""
    match message:
        case Request(request_id, method, payload, timeout, version):
            fields = {"id": request_id, "method": method, "payload": payload}
            more = {"response_timeout_ms": timeout, "version": version}
            return {"rpc_request": {**fields, **more}}
        case Ack(request_id):
            return {"rpc_ack": {"request_id": request_id}}
        case Response(request_id, payload):
            value = {} if payload is None else {"payload": payload}
            return {"rpc_response": {"request_id": request_id, **value}}
        case ErrorResponse(request_id, code, text, data):
            error = {"code": code, "message": text, "data": data}
            return {"rpc_response": {"request_id": request_id, "error": error}}
        case StreamHeader():
            header = {
                "stream_id": message.stream_id,
                "timestamp": message.timestamp_ms,
                "topic": message.topic,
                "mime_type": "text/plain",
                "attributes": dict(message.attributes),
                "compression": message.compression,
            }
            if message.is_text:
                header["text_header"] = {"generated": message.generated}
            if message.total_length is not None:
                header["total_length"] = message.total_length
            if message.inline_content is not None:
                header["inline_content"] = message.inline_content
            return {"stream_header": header}
        case StreamChunk(stream_id, index, content):
            chunk = {"stream_id": stream_id, "chunk_index": index, "content": content}
            return {"stream_chunk": chunk}
        case StreamTrailer(stream_id, reason):
            return {"stream_trailer": {"stream_id": stream_id, "reason": reason}}
        case Sealed(key_index, iv, ciphertext):
            sealed = {"encryption_type": 1, "iv": iv, "key_index": key_index}
            return {"encrypted_packet": {**sealed, "encrypted_value": ciphertext}}


def build(message: OutgoingMessage, sender_identity: str, destination_identity: str) -> bytes:
    """The packet that carries `message`, as protobuf serializes it."""
    packet = DataPacket(
        participant_identity=sender_identity,
        destination_identities=[destination_identity],
        **as_protobuf(message),
    )
    return packet.SerializeToString(deterministic=True)


class Reading(NamedTuple):
    """All that a packet says to us."""

    identity: str
    sid: str
    destinations: tuple[str, ...]
    sequence: int
    message: Message


def parse(data: bytes) -> Reading | None:
    """What protobuf finds in a packet; None if that is nothing, or a name is too long (R28)."""
    try:
        packet = DataPacket.FromString(data)
    except (DecodeError, ValueError):
        return None
    message = _message(packet)
    has_id = isinstance(message, Sealed | Unread) or 1 <= len(message[0].encode()) <= 128
    names = packet.participant_identity, packet.participant_sid
    if not has_id or any(len(name.encode()) > 256 for name in names):
        return None
    return Reading(*names, tuple(packet.destination_identities), packet.sequence, message)


def _message(packet: DataPacket) -> Message:
    if packet.HasField("rpc_request"):
        request = packet.rpc_request
        return Request(
            request.id,
            request.method,
            request.payload,
            request.response_timeout_ms,
            request.version,
            len(request.compressed_payload) > 0,
        )
    if packet.HasField("rpc_ack"):
        return Ack(packet.rpc_ack.request_id)
    if packet.HasField("rpc_response"):
        response = packet.rpc_response
        if response.HasField("error"):
            error = response.error
            return ErrorResponse(response.request_id, error.code, error.message, error.data)
        has_payload = response.HasField("payload")
        return Response(response.request_id, response.payload if has_payload else None)
    return _stream_message(packet)


def _stream_message(packet: DataPacket) -> Message:
    if packet.HasField("stream_header"):
        header = packet.stream_header
        return StreamHeader(
            header.stream_id,
            header.topic,
            {key: header.attributes[key] for key in header.attributes},
            header.total_length if header.HasField("total_length") else None,
            header.timestamp,
            header.inline_content if header.HasField("inline_content") else None,
            header.compression,
            header.HasField("text_header"),
            header.text_header.generated,
        )
    if packet.HasField("stream_chunk"):
        chunk = packet.stream_chunk
        return StreamChunk(chunk.stream_id, chunk.chunk_index, chunk.content)
    if packet.HasField("stream_trailer"):
        trailer = packet.stream_trailer
        return StreamTrailer(trailer.stream_id, trailer.reason)
    if packet.HasField("encrypted_packet"):
        sealed = packet.encrypted_packet
        return Sealed(sealed.key_index, sealed.iv, sealed.encrypted_value)
    return Unread(packet.WhichOneof("value") or "")


# --- what an engine looks at


Readings: TypeAlias = tuple[Envelope, Kind, tuple[Any, ...]] | None


def read(data: bytes, us: str, *announced: str) -> Readings:
    """What an engine reads of a packet to whom these were announced: a packet that begins as one of
    them greets us, and is one message of the usual layout, is read by that."""
    for identity in announced:
        greeting = envelope(identity, us)
        sole = read_sole(data, len(greeting)) if data.startswith(greeting) else None
        if sole is not None and not _may_be_deep(data):
            return Envelope(identity, "", True, 0), *in_words(*sole)
    reading = read_any(data, us)
    if reading is None:
        return None
    kind, fields, origin = reading
    return origin, *in_words(kind, fields)


def read_payload(plaintext: bytes) -> tuple[Kind, tuple[Any, ...]] | None:
    """What an engine reads of what was sealed in a packet; by the layout it is the same."""
    kind, fields = in_words(*core_wire.read_payload(plaintext))
    sole = read_sole(plaintext, 0, None, PAYLOAD_READERS)
    assert sole is None or in_words(*sole) == (kind, fields) or _may_be_deep(plaintext)
    return None if kind is IgnoreReason.MALFORMED else (kind, fields)


def _may_be_deep(data: bytes) -> bool:
    """Whether groups may be nested so deep that it depends on the backend, and on where it begins
    to parse, whether they are too many."""
    return sum(byte & 7 == 3 for byte in data) > 90


def in_words(kind: Any, fields: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    """What an engine has read of a message, as `as_read` gives it: of a compressed payload only
    whether it is there."""
    if kind is Request:
        fields = (*fields[:-1], fields[-1] != b"")
    return kind, tuple(fields)


def is_for(us: str, destinations: tuple[str, ...]) -> bool:
    """Whether a packet with these destinations is for us (R39)."""
    return not destinations or us in destinations[:MAX_DESTINATIONS]


def as_read(message: Message) -> tuple[Kind, tuple[Any, ...]]:
    """The kind of a message and what an engine reads of it: of the header of a stream only some."""
    if isinstance(message, Unread):
        return IgnoreReason.UNKNOWN_KIND, ("",)
    if not isinstance(message, StreamHeader):
        return type(message), tuple(message)
    attributes, topic = message.attributes, message.topic
    if topic not in (REQUEST_TOPIC, RESPONSE_TOPIC):
        return "", (message.stream_id,)
    request_id = attributes.get(REQUEST_ID, "")
    timeout = _timeout(attributes)
    makes_sense = message.is_text and message.compression in (0, 1)
    request = "", 0, False
    if topic == REQUEST_TOPIC:
        makes_sense = makes_sense and timeout is not None
        timeout_ms = UNSTATED_TIMEOUT_MS if timeout is None else timeout
        request = attributes.get(METHOD, ""), timeout_ms, attributes.get(VERSION) == "2"
    body = makes_sense, message.total_length, message.inline_content, message.compression != 0
    request_id = request_id if len(request_id.encode()) <= MAX_ID_BYTES else ""
    return topic, (message.stream_id, request_id, message.generated, body, request)


def _timeout(attributes: Attributes) -> int | None:
    """The caller's figure (R27)."""
    text = attributes.get(RESPONSE_TIMEOUT_MS)
    if text is None:
        return UNSTATED_TIMEOUT_MS
    return min(int(text), MAX_UINT32) if re.fullmatch("[0-9]{1,20}", text) else None
