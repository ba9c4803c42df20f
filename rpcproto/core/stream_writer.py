"""Bodies going out: the form that a body takes, and its chunks, made as they are taken (R29)."""

import zlib
from typing import Final, TypeAlias

from rpcproto.core import wire
from rpcproto.core.messages import OutgoingPacket, PacketKind, new_value

CHUNK_BYTES: Final = 15_000
"""The most that one chunk carries, and an inline header packet is (A2)."""
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
    """All of a small body. To set up the state takes longer than to compress it, and it needs less
    of that."""
    deflate = zlib.compressobj(_DEFLATE_LEVEL, zlib.DEFLATED, *_SMALL_STATE)
    return deflate.compress(body) + deflate.flush()


class DeflatedSource:
    """One raw DEFLATE stream over all chunks, with a final block at its end."""

    __slots__ = ("_body", "_deflate", "bytes_in", "is_whole", "ready")

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._deflate = zlib.compressobj(_DEFLATE_LEVEL, zlib.DEFLATED, *_USUAL_STATE)
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


Source: TypeAlias = PlainSource | DeflatedSource
"""Gives the contents of chunks by `next_content`; empty when there is none left."""


class StreamWriter:
    """A stream whose header is made and whose body leaves piece by piece."""

    __slots__ = (
        "_envelope", "_index", "_source", "body_bytes", "destination_identity", "destination_sid",
        "is_deflating", "request_id", "stream_id", "token",
    )  # fmt: skip

    def __init__(
        self,
        opening: wire.Opening,
        request_id: str,
        source: Source,
        recipient: Address,
        token: int,
        body_bytes: int,
    ) -> None:
        self._envelope = opening[0]
        self.stream_id: bytes = opening[1]
        self.request_id: str = request_id
        self.destination_identity: str = recipient[0]
        self.destination_sid: str = recipient[1]
        self.token: int = token
        self.body_bytes: int = body_bytes
        self.is_deflating: bool = isinstance(source, DeflatedSource)
        self._source = source
        self._index = 0

    def next_packet(self) -> OutgoingPacket:
        """The next chunk, or the trailer after the last one."""
        content = self._source.next_content()
        kind = PacketKind.STREAM_CHUNK
        if content:
            data = wire.write_chunk(self._envelope, self.stream_id, self._index, content)
            self._index += 1
        else:
            kind = PacketKind.STREAM_TRAILER
            data = wire.write_trailer(self._envelope, self.stream_id)
        packet = (data, self.destination_identity, self.request_id, kind, self.token)
        return new_value(OutgoingPacket, packet)
