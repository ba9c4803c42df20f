"""Bodies going out: the form that a body takes, and its chunks, made as they are taken (R29)."""

import zlib
from typing import Final, NamedTuple, Protocol

from rpcproto.core import wire
from rpcproto.core.messages import (
    DEFLATE_RAW,
    UNCOMPRESSED,
    PacketKind,
    StreamChunk,
    StreamHeader,
    StreamTrailer,
)
from rpcproto.core.roster import Participant

CHUNK_BYTES: Final = 15_000
"""The most that one chunk carries, and an inline header packet is (A2)."""
MIN_COMPRESSED_BYTES: Final = 512
"""Smaller bodies are not worth compressing (R29)."""
CANCELLED: Final = "cancelled"
"""The reason in the trailer of a stream that ended early (R38)."""

_BOM: Final = "\ufeff".encode()
_NO_SENDER_BYTES: Final = len(wire.envelope("", ""))
_DEFLATE_LEVEL: Final = 1
_DEFLATE_STEP: Final = 16 * 1024


class Source(Protocol):
    """The contents of a body's chunks, one by one."""

    def next_content(self) -> bytes:
        """The next chunk's content, empty when there is none left."""


class PlainSource:
    """UTF-8 text, cut where no receiver can be hurt: between characters, for several decode each
    chunk by itself, and not before U+FEFF, which one of them swallows at a chunk's beginning."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._start = 0

    def next_content(self) -> bytes:
        start = self._start
        self._start = end = self._cut(start)
        return self._body[start:end]

    def _cut(self, start: int) -> int:
        body = self._body
        end = start + CHUNK_BYTES
        if end >= len(body):
            return len(body)
        end = _character_start(body, end)
        before_boms = end
        while before_boms > start and body.startswith(_BOM, before_boms):
            before_boms = _character_start(body, before_boms - 1)
        return before_boms if before_boms > start else end


def _character_start(body: bytes, position: int) -> int:
    while body[position] & 0xC0 == 0x80:
        position -= 1
    return position


class DeflatedSource:
    """One raw DEFLATE stream over all chunks, with a final block at its end."""

    def __init__(self, body: bytes) -> None:
        self._body = memoryview(body)
        self._deflate = zlib.compressobj(_DEFLATE_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        self.bytes_in: int = 0
        self.ready: bytearray = bytearray()
        self.is_whole: bool = False
        """Whether `ready` holds all there is."""

    @property
    def is_shrunk(self) -> bool:
        """Whether less has come out than went in, so far."""
        return len(self.ready) < self.bytes_in

    def fill(self, wanted: int) -> None:
        """Compress until `wanted` bytes are ready, or all."""
        while len(self.ready) < wanted and not self.is_whole:
            step = self._body[self.bytes_in : self.bytes_in + _DEFLATE_STEP]
            self.bytes_in += len(step)
            self.ready += self._deflate.compress(step)
            if self.bytes_in == len(self._body):
                self.ready += self._deflate.flush()
                self.is_whole = True

    def next_content(self) -> bytes:
        self.fill(CHUNK_BYTES)
        content = bytes(self.ready[:CHUNK_BYTES])
        del self.ready[:CHUNK_BYTES]
        return content


class StreamWriter:
    """A stream whose header is made and whose body leaves piece by piece."""

    def __init__(
        self,
        header: StreamHeader,
        source: Source,
        recipient: Participant,
        token: int,
        body_bytes: int,
    ) -> None:
        self.request_id: str = header.request_id
        self.stream_id: str = header.stream_id
        self.destination_identity: str = recipient.identity
        self.destination_sid: str = recipient.sid
        self.token = token
        self.body_bytes = body_bytes
        self.is_deflating: bool = isinstance(source, DeflatedSource)
        self._source = source
        self._index = 0

    def next_message(self) -> tuple[PacketKind, StreamChunk | StreamTrailer]:
        """The next chunk, or the trailer after the last one."""
        content = self._source.next_content()
        if not content:
            return PacketKind.STREAM_TRAILER, StreamTrailer(self.stream_id, "")
        chunk = StreamChunk(self.stream_id, self._index, content)
        self._index += 1
        return PacketKind.STREAM_CHUNK, chunk


class Form(NamedTuple):
    """How a body leaves: with this header packet, and in chunks from `source` unless that has it
    inline."""

    packet: bytes
    source: Source | None = None
    is_short: bool = True
    """Whether one chunk holds all of it, so that it leaves whole (R30)."""


def choose_form(
    header: StreamHeader, body: bytes, sender_identity: str, recipient: Participant, deflates: bool
) -> Form:
    """The best form that `recipient` can take, having compressed as much as it takes to know.

    `deflates` is False while too many streams are being compressed already.
    """

    def packet(compression: int, inline_content: bytes | None) -> bytes:
        form = header._replace(compression=compression, inline_content=inline_content)
        return wire.encode(form, sender_identity, recipient.identity)

    # The sender's field does not count (R29).
    max_inline_bytes = CHUNK_BYTES + len(wire.envelope(sender_identity, "")) - _NO_SENDER_BYTES
    abilities, deflated = recipient.abilities, None
    if abilities.deflate and deflates and len(body) >= MIN_COMPRESSED_BYTES:
        deflated = DeflatedSource(body)
        deflated.fill(max_inline_bytes + 1 - len(packet(DEFLATE_RAW, b"")))
        if deflated.is_shrunk and deflated.is_whole:
            inline = packet(DEFLATE_RAW, bytes(deflated.ready))
            if len(inline) <= max_inline_bytes:
                return Form(inline)
    is_short = len(body) <= CHUNK_BYTES
    if abilities.inline and is_short:
        inline = packet(UNCOMPRESSED, body)
        if len(inline) <= max_inline_bytes:
            return Form(inline)
    if deflated is not None and deflated.is_shrunk and not body.startswith(_BOM):
        is_short = deflated.is_whole and len(deflated.ready) <= CHUNK_BYTES
        return Form(packet(DEFLATE_RAW, None), deflated, is_short)
    return Form(packet(UNCOMPRESSED, None), PlainSource(body), is_short)
