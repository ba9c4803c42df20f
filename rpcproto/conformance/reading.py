"""What the testee sent, put together: requests and answers in all their forms."""

import zlib
from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple

from rpcproto import wire
from rpcproto.conformance.case import Unmet
from rpcproto.recording.rows import kind_of
from rpcproto.wire import (
    DEFLATE_RAW,
    Ack,
    ErrorResponse,
    Message,
    Packet,
    Request,
    Response,
    StreamChunk,
    StreamHeader,
    StreamTrailer,
)

MAX_SHOWN: Final = 60
"""Characters of a text that a report shows."""
MAX_BODY_BYTES: Final = 64 << 20
MAX_DIGITS: Final = 20
"""Of a timeout on the wire; what has more is no number of milliseconds."""


class Form(Enum):
    """How a request or an answer travels."""

    PACKET = "a packet"
    CHUNKS = "a stream in chunks"
    INLINE = "an inline stream"
    COMPRESSED_CHUNKS = "a compressed stream in chunks"
    COMPRESSED_INLINE = "a compressed inline stream"

    @property
    def client_protocol(self) -> int:
        """The least client_protocol that reads it."""
        return {"PACKET": 0, "CHUNKS": 1}.get(self.name, 2)

    @property
    def is_compressed(self) -> bool:
        return self.name.startswith("COMPRESSED")

    @property
    def is_inline(self) -> bool:
        return self.name.endswith("INLINE")


class Seen(NamedTuple):
    """A packet of the testee, as one participant of the suite got it."""

    at: float
    """When it came, in seconds."""
    data: bytes
    packet: Packet
    message: Message
    """What is in it, opened if it was sealed."""
    about: str
    """The request id that it is about; empty if it cannot be told."""


class Body(NamedTuple):
    """A payload that has come, and how."""

    payload: str
    form: Form
    parts: Sequence[Seen]
    """The packets that carried it."""

    @property
    def header(self) -> StreamHeader | None:
        """The header, if it came as a stream."""
        message = self.parts[0].message
        return message if isinstance(message, StreamHeader) else None


class IncomingRequest(NamedTuple):
    """A request of the testee."""

    request_id: str
    method: str
    payload: str
    timeout_ms: int | None
    """The timeout on the wire; None if it is absent or not a number."""
    version: str
    body: Body

    @property
    def form(self) -> Form:
        return self.body.form


def read_request(parts: Sequence[Seen]) -> IncomingRequest | None:
    """The request that begins with the first of these packets; None if it is not complete yet.

    Raises Unmet for a body that is not as it should be.
    """
    first = parts[0].message
    if isinstance(first, Request):
        body = Body(first.payload, Form.PACKET, parts[:1])
        timeout = first.response_timeout_ms or None
        return IncomingRequest(
            first.request_id, first.method, first.payload, timeout, str(first.version), body
        )
    if not isinstance(first, StreamHeader) or first.topic != wire.REQUEST_TOPIC:
        raise Unmet("a request", describe(first))
    whole = read_stream(first, parts)
    if whole is None:
        return None
    text = first.attributes.get(wire.RESPONSE_TIMEOUT_MS, "")
    return IncomingRequest(
        first.request_id,
        first.method,
        whole.payload,
        int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS else None,
        first.attributes.get(wire.VERSION, ""),
        whole,
    )


def read_answer(parts: Sequence[Seen]) -> Body | None:
    """The payload that begins with the first of these packets; None if it is not complete yet.

    Raises Unmet for an error, and for a body that is not as it should be.
    """
    first = parts[0].message
    if isinstance(first, Response):
        if first.payload is None:
            raise Unmet("an answer with a payload", "a response that has none on the wire")
        return Body(first.payload, Form.PACKET, parts[:1])
    if not isinstance(first, StreamHeader) or first.topic != wire.RESPONSE_TOPIC:
        raise Unmet("an answer", describe(first))
    return read_stream(first, parts)


def read_stream(header: StreamHeader, parts: Sequence[Seen]) -> Body | None:
    """The body of a stream, by the rules for receivers; None if it is not complete yet."""
    mine = [seen for seen in parts if getattr(seen.message, "stream_id", "") == header.stream_id]
    compressed = header.compression == DEFLATE_RAW
    if header.inline_content is not None:
        form = Form.COMPRESSED_INLINE if compressed else Form.INLINE
        return _body(header, header.inline_content, form, mine[:1])
    content, index = bytearray(), 0
    for at, seen in enumerate(mine[1:], 2):
        match seen.message:
            case StreamChunk(_, chunk_index, part):
                if chunk_index != index:
                    raise Unmet(f"chunk {index} of the stream", f"chunk {chunk_index}")
                content += part
                index += 1
            case StreamTrailer(_, reason):
                if reason:
                    raise Unmet("a whole stream", f"a trailer with the reason {reason!r}")
                form = Form.COMPRESSED_CHUNKS if compressed else Form.CHUNKS
                return _body(header, bytes(content), form, mine[:at])
            case other:
                raise Unmet(f"chunk {index} of the stream, or its trailer", describe(other))
    return None


def _body(header: StreamHeader, content: bytes, form: Form, parts: Sequence[Seen]) -> Body:
    if form.is_compressed:
        inflating = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            content = inflating.decompress(content, MAX_BODY_BYTES)
        except zlib.error as error:
            raise Unmet("a body of raw DEFLATE", str(error)) from None
    total = header.total_length
    if total is not None and total != len(content):
        raise Unmet(f"a body of {total:,} bytes, its total_length", f"{len(content):,} bytes")
    try:
        return Body(content.decode(), form, parts)
    except UnicodeDecodeError:
        raise Unmet("a body of valid UTF-8", f"{quoted(content)}") from None


def quoted(value: object) -> str:
    """A text, or another value, as a report shows it: of a long one the beginning and its size."""
    shown = repr(value)
    if len(shown) <= MAX_SHOWN:
        return shown
    content = value if isinstance(value, bytes) else str(value).encode(errors="replace")
    return f"{shown[:MAX_SHOWN]}… ({len(content):,} bytes)"


def counted(count: int, what: str) -> str:
    """So many of something: "1 run", "2 runs"."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def describe(message: Message) -> str:
    """A message in a few words."""
    match message:
        case Request(_, method, payload):
            return f"a request for {quoted(method)} with the payload {quoted(payload)}"
        case Ack():
            return "an ack"
        case Response(_, None):
            return "a response without a payload"
        case Response(_, payload):
            return f"a response with the payload {quoted(payload)}"
        case ErrorResponse(_, code, text, data):
            more = f" and the data {quoted(data)}" if data else ""
            return f"error {code} {quoted(text)}{more}"
        case StreamHeader(topic=wire.REQUEST_TOPIC, method=method):
            return f"the header of a request stream for {quoted(method)}"
        case StreamHeader(topic=topic):
            what = "a response stream" if topic == wire.RESPONSE_TOPIC else f"a stream on {topic!r}"
            return f"the header of {what}"
        case StreamChunk(_, index, content):
            return f"chunk {index} of a stream, {len(content):,} bytes"
        case StreamTrailer(_, reason):
            return "the trailer of a stream" + (f" with the reason {reason!r}" if reason else "")
    return f"a packet of another kind ({kind_of(message) or 'unknown'})"
