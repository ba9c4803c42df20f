"""Bodies going out: the form that a body takes, and its chunks, made as they are taken (R29)."""

import zlib
from dataclasses import dataclass
from typing import Final, TypeAlias

from rpcproto.core import wire
from rpcproto.core.messages import PacketFields, PacketKind

CHUNK_BYTES: Final = 15_000
"""The maximum size of a chunk, and of an inline header packet without its sender field, in bytes
(R29)."""
MIN_COMPRESSED_BYTES: Final = 512
"""Smaller bodies are not worth compressing (R29)."""
CANCELLED: Final = "cancelled"
"""The reason in the trailer of a stream that ended early (R38)."""

BOM: Final = "\ufeff".encode()
_BOM_RUNS: Final = tuple(BOM * 2**power for power in range(12, -1, -1))
"""Of these, each taken once at most, any run within a chunk can be put together."""
_DEFLATE_LEVEL: Final = 1
_DEFLATE_STEP: Final = 16 * 1024
_USUAL_STATE: Final = -zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL
"""Window and memory level; the window is negative for raw DEFLATE."""
_SMALL_STATE: Final = -12, 5
SMALL_BODY_BYTES: Final = 4 * 1024
"""No larger than the window of the small state, so that nothing is lost by it."""


Address: TypeAlias = tuple[str, str]
"""A participant's identity and sid, the sid empty where it is not known."""


class PlainSource:
    """UTF-8 text, cut where no receiver can be hurt: between characters, for several decode each
    chunk by itself, and not before U+FEFF, which one of them swallows at a chunk's beginning."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._view = memoryview(body)
        self._start = 0

    def next_content(self) -> memoryview:
        start = self._start
        self._start = end = self._cut(start)
        return self._view[start:end]

    def _cut(self, start: int) -> int:
        body = self._body
        end = start + CHUNK_BYTES
        if end >= len(body):
            return len(body)
        while body[end] & 0xC0 == 0x80:
            end -= 1
        if not body.startswith(BOM, end):
            return end
        # The run may be as long as the chunk, so its length is found in a few comparisons (R47).
        before_run = end
        for run in _BOM_RUNS:
            if before_run - len(run) >= start and body.startswith(run, before_run - len(run)):
                before_run -= len(run)
        last = before_run - 1
        while last > start and body[last] & 0xC0 == 0x80:
            last -= 1
        return last if last > start else end


def deflated_at_once(body: bytes) -> bytes:
    """Compress a small body, with a small state: setting it up takes longer than the rest."""
    deflate = zlib.compressobj(_DEFLATE_LEVEL, zlib.DEFLATED, *_SMALL_STATE)
    return deflate.compress(body) + deflate.flush()


class DeflatedSource:
    """One raw DEFLATE stream over all chunks, with a final block at its end."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._deflate = zlib.compressobj(_DEFLATE_LEVEL, zlib.DEFLATED, *_USUAL_STATE)
        self.bytes_in: int = 0
        self.ready: bytearray = bytearray()
        self.is_whole: bool = False
        """Whether `ready` holds all there is."""

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


Source: TypeAlias = PlainSource | DeflatedSource
"""Gives the contents of chunks by `next_content`; empty when there is none left."""


@dataclass(eq=False, slots=True)
class StreamWriter:
    """A stream whose header is made and whose body leaves piece by piece."""

    envelope: bytes
    stream_id: bytes
    request_id: str
    source: Source
    destination_identity: str
    destination_sid: str
    token: int
    body_bytes: int
    chunks: int = 0
    """So many of them were made."""

    @property
    def is_deflating(self) -> bool:
        """Whether the state of a compression is kept."""
        return isinstance(self.source, DeflatedSource)

    def next_packet(self) -> PacketFields:
        """The next chunk, or the trailer after the last one."""
        content = self.source.next_content()
        kind = PacketKind.STREAM_CHUNK
        if content:
            data = wire.write_chunk(self.envelope, self.stream_id, self.chunks, content)
            self.chunks += 1
        else:
            kind = PacketKind.STREAM_TRAILER
            data = wire.write_trailer(self.envelope, self.stream_id)
        return data, self.destination_identity, self.request_id, kind, self.token
