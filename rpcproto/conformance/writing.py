"""What participants of the suite send: requests and answers in all their forms, part by part."""

import json
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from rpcproto import wire
from rpcproto.conformance.reading import Form
from rpcproto.ids import random_ids
from rpcproto.wire import (
    CHUNK_BYTES,
    DEFLATE_RAW,
    UNCOMPRESSED,
    OutgoingMessage,
    Request,
    Response,
    StreamChunk,
    StreamHeader,
    StreamTrailer,
)

new_id: Callable[[], str] = random_ids()
TIMEOUT_MS = 8_000
"""The timeout on the wire of requests of the suite, unless a case wants another."""


def waiting(seconds: float, answer: str = "done") -> str:
    """The payload of `conform.wait`."""
    return json.dumps({"seconds": seconds, "answer": answer})


def request_parts(
    request_id: str,
    method: str,
    payload: str,
    form: Form = Form.PACKET,
    *,
    timeout_ms: int = TIMEOUT_MS,
) -> list[OutgoingMessage]:
    """The messages of a request, in order."""
    if form is Form.PACKET:
        return [Request(request_id, method, payload, timeout_ms)]
    attributes = wire.request_attributes(request_id, method, timeout_ms)
    return stream_parts(wire.REQUEST_TOPIC, attributes, payload.encode(), form)


def answer_parts(request_id: str, payload: str, form: Form = Form.PACKET) -> list[OutgoingMessage]:
    """The messages of an answer, in order."""
    if form is Form.PACKET:
        return [Response(request_id, payload)]
    attributes = wire.response_attributes(request_id)
    return stream_parts(wire.RESPONSE_TOPIC, attributes, payload.encode(), form)


def stream_parts(
    topic: str, attributes: Mapping[str, str], body: bytes, form: Form, *, stream_id: str = ""
) -> list[OutgoingMessage]:
    """The messages of a stream: its header, and its chunks and its trailer if it has them.

    A body that is not compressed is cut between characters, as text is.
    """
    stream_id = stream_id or new_id()
    content = deflate(body) if form.is_compressed else body
    header = StreamHeader(
        stream_id,
        topic,
        attributes,
        len(body),
        int(time.time() * 1000),
        content if form.is_inline else None,
        DEFLATE_RAW if form.is_compressed else UNCOMPRESSED,
    )
    if form.is_inline:
        return [header]
    pieces = _cut(content) if form.is_compressed else cut_text(content)
    chunks = [StreamChunk(stream_id, index, piece) for index, piece in enumerate(pieces)]
    return [header, *chunks, StreamTrailer(stream_id, "")]


class Stream(NamedTuple):
    """The parts of a stream in chunks, for cases that send them otherwise than they should."""

    header: StreamHeader
    chunks: list[StreamChunk]
    trailer: StreamTrailer

    @property
    def parts(self) -> list[OutgoingMessage]:
        """All of them, in order."""
        return [self.header, *self.chunks, self.trailer]

    @property
    def request_id(self) -> str:
        return self.header.request_id


def request_stream(
    pieces: Sequence[bytes], method: str = "conform.echo", timeout_ms: int = TIMEOUT_MS
) -> Stream:
    """A request with a new id whose body comes in these pieces."""
    attributes = wire.request_attributes(new_id(), method, timeout_ms)
    return stream_of(wire.REQUEST_TOPIC, attributes, pieces)


def answer_stream(request_id: str, pieces: Sequence[bytes]) -> Stream:
    """An answer whose body comes in these pieces."""
    return stream_of(wire.RESPONSE_TOPIC, wire.response_attributes(request_id), pieces)


def stream_of(topic: str, attributes: Mapping[str, str], pieces: Sequence[bytes]) -> Stream:
    """A stream whose body comes in these pieces, cut wherever they are."""
    stream_id = new_id()
    header = StreamHeader(
        stream_id, topic, attributes, sum(map(len, pieces)), int(time.time() * 1000)
    )
    chunks = [StreamChunk(stream_id, index, piece) for index, piece in enumerate(pieces)]
    return Stream(header, chunks, StreamTrailer(stream_id, ""))


def deflate(body: bytes) -> bytes:
    """Raw DEFLATE with a final block."""
    compressing = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressing.compress(body) + compressing.flush()


def cut_text(body: bytes, size: int = CHUNK_BYTES) -> Iterator[bytes]:
    """Pieces of at most `size` bytes, cut between the characters of UTF-8."""
    begin = 0
    while begin < len(body):
        end = min(begin + size, len(body))
        while end < len(body) and body[end] & 0xC0 == 0x80:
            end -= 1
        yield body[begin:end]
        begin = end


def _cut(body: bytes) -> Iterator[bytes]:
    for begin in range(0, len(body), CHUNK_BYTES):
        yield body[begin : begin + CHUNK_BYTES]
