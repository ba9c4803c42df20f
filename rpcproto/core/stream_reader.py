"""Bodies coming in: streams of many senders, read side by side within bounds (R23 to R28)."""

import codecs
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, TypeAlias

from rpcproto.core.config import RpcConfig
from rpcproto.core.deadlines import MIN_SWEPT
from rpcproto.core.events import IgnoreReason
from rpcproto.core.messages import (
    DEFLATE_RAW,
    UNCOMPRESSED,
    StreamChunk,
    StreamHeader,
    StreamTrailer,
)
from rpcproto.core.wire import envelope

StreamKey: TypeAlias = tuple[str, str, str]
"""Sender identity, sender sid, stream id: what a stream is known by (R23)."""

MALFORMED: Final = "RPC data stream malformed"
TOO_MANY_BYTES: Final = "too many bytes"

_INFLATE_STEP: Final = 64 * 1024
_PIECES_PER_BLOCK: Final = 128
"""Small pieces are joined now and then: a piece of one character costs fifty bytes by itself."""


class Fault(NamedTuple):
    """Why a stream failed; one over the cap has a code of its own (R26)."""

    data: str
    over_cap: bool = False


OVER_CAP: Final = Fault("", over_cap=True)


class Sender:
    """What one participant takes up here: invocations (R22), and bytes that came in (R28)."""

    __slots__ = ("envelope", "held_bytes", "invocations")

    def __init__(self, envelope: bytes) -> None:
        self.envelope: bytes = envelope
        """What our packets to it begin with."""
        self.held_bytes: int = 0
        self.invocations: int = 0


class ByteBudget:
    """Bytes that came in and are not done with, in all and of each sender (R28)."""

    def __init__(self, identity: str, in_all: int, per_sender: int) -> None:
        self._identity = identity
        self._in_all = in_all
        self._per_sender = per_sender
        self.senders: dict[str, Sender] = {}
        """All that take up something; those that do not any more are swept out now and then."""
        self._max_senders = MIN_SWEPT
        self.total: int = 0

    def open(self, identity: str) -> Sender:
        """The sender of this identity, a new one if there is none."""
        sender = self.senders.get(identity)
        if sender is None:
            if len(self.senders) >= self._max_senders:
                for other, idle in list(self.senders.items()):
                    if not idle.held_bytes and not idle.invocations:
                        del self.senders[other]
                self._max_senders = 2 * len(self.senders) + MIN_SWEPT
            sender = self.senders[identity] = Sender(envelope(self._identity, identity))
        return sender

    def take(self, sender: Sender, count: int) -> bool:
        """Count `count` more bytes, or none if they are too many."""
        total, held = self.total + count, sender.held_bytes + count
        if total > self._in_all or held > self._per_sender:
            return False
        self.total, sender.held_bytes = total, held
        return True

    def give_back(self, sender: Sender, count: int) -> None:
        """`count` bytes that were taken are done with."""
        self.total -= count
        sender.held_bytes -= count


class IncomingStream:
    """A half-read stream. Whoever opened it hears of its end, once: the text or a fault."""

    __slots__ = (
        "_blocks",
        "_cut_off",
        "_inflate",
        "_pieces",
        "_total_length",
        "key",
        "next_index",
        "on_body",
        "on_fault",
        "order",
        "received_bytes",
        "started",
    )

    def __init__(
        self,
        key: StreamKey,
        order: int,
        header: StreamHeader,
        now: float,
        on_body: Callable[[str, int], None],
        on_fault: Callable[[Fault], None],
    ) -> None:
        self.key: StreamKey = key
        self.order: int = order
        self.on_body: Callable[[str, int], None] = on_body
        self.on_fault: Callable[[Fault], None] = on_fault
        self.started: float = now
        """When the last bytes came, in seconds."""
        self.next_index: int = 0
        self.received_bytes: int = 0
        """Bytes of the body before compression; they are taken from the budget."""
        self._total_length = header.total_length
        self._inflate = None
        if header.compression == DEFLATE_RAW:
            self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._cut_off = b""
        """The beginning of a character whose end is still to come."""
        self._pieces: list[str] = []
        self._blocks: list[str] = []

    def add(self, content: bytes, budget: ByteBudget, max_bytes: int) -> Fault | None:
        """Take a chunk's content, in steps, so that no bound is passed before it is seen (R28)."""
        inflate = self._inflate
        if inflate is None:
            return self._add_step(content, budget, max_bytes)
        while True:
            if inflate.eof:
                return Fault("bytes after the end of the compressed body") if content else None
            try:
                step = inflate.decompress(content, _INFLATE_STEP)
            except zlib.error:
                return Fault("the compressed body is not raw DEFLATE")
            fault = self._add_step(step, budget, max_bytes)
            if fault is not None:
                return fault
            content = inflate.unused_data or inflate.unconsumed_tail
            if not content and len(step) < _INFLATE_STEP:
                return None

    def end(self) -> str | Fault:
        """The whole text, if that was all of it."""
        if self._total_length is not None and self.received_bytes < self._total_length:
            return Fault(f"{self.received_bytes} of {self._total_length} bytes arrived")
        if self._inflate is not None and not self._inflate.eof and self._total_length is None:
            return Fault("the compressed body has no end")
        if self._cut_off:
            return Fault("the body is not valid UTF-8")
        return "".join((*self._blocks, *self._pieces))

    def _add_step(self, content: bytes, budget: ByteBudget, max_bytes: int) -> Fault | None:
        received = self.received_bytes + len(content)
        if received > max_bytes:
            return OVER_CAP
        if self._total_length is not None and received > self._total_length:
            return Fault(f"more than {self._total_length} bytes arrived")
        if not budget.take(budget.open(self.key[0]), len(content)):
            return Fault(TOO_MANY_BYTES)
        self.received_bytes = received
        content = self._cut_off + content if self._cut_off else content
        try:
            piece, decoded_bytes = codecs.utf_8_decode(content)
        except UnicodeDecodeError:
            return Fault("the body is not valid UTF-8")
        self._pieces.append(piece)
        self._cut_off = content[decoded_bytes:]
        if len(self._pieces) == _PIECES_PER_BLOCK:
            self._blocks.append("".join(self._pieces))
            self._pieces.clear()
        return None


class StreamReader:
    """All half-read streams of one engine."""

    def __init__(self, identity: str, config: RpcConfig, *, orders: Iterator[int]) -> None:
        self._config = config
        self._orders = orders
        self._streams: OrderedDict[StreamKey, IncomingStream] = OrderedDict()
        """Those that have been silent for longest in front: they are the next to end."""
        self.budget: ByteBudget = ByteBudget(
            identity, config.max_buffered_bytes, config.max_buffered_bytes_per_sender
        )

    def __len__(self) -> int:
        return len(self._streams)

    def __contains__(self, key: StreamKey) -> bool:
        return key in self._streams

    def check(self, header: StreamHeader) -> Fault | None:
        """What is wrong with a header, before anything of the body is looked at (R27)."""
        if header.total_length is not None and header.total_length > self._config.max_payload_bytes:
            return OVER_CAP
        if not header.is_text or header.compression not in (UNCOMPRESSED, DEFLATE_RAW):
            return Fault(MALFORMED)
        return None

    def open(
        self,
        header: StreamHeader,
        sender_identity: str,
        sender_sid: str,
        now: float,
        on_body: Callable[[str, int], None],
        on_fault: Callable[[Fault], None],
    ) -> IncomingStream | None:
        """Read a body whose header was checked; None if it was inline and is read already.

        `on_body` gets the text and its bytes, which stay taken from the budget until somebody
        gives them back.
        """
        key = (sender_identity, sender_sid, header.stream_id)
        stream = IncomingStream(key, next(self._orders), header, now, on_body, on_fault)
        self._streams[key] = stream
        if header.inline_content is None:
            return stream
        fault = stream.add(header.inline_content, self.budget, self._config.max_payload_bytes)
        self._end(stream, fault)
        return None

    def receive_chunk(
        self, chunk: StreamChunk, sender_identity: str, sender_sid: str, now: float
    ) -> IgnoreReason | None:
        """The next piece of a body (R25)."""
        stream = self._streams.get((sender_identity, sender_sid, chunk.stream_id))
        if stream is None:
            return IgnoreReason.UNKNOWN_STREAM
        if chunk.chunk_index < stream.next_index:
            return IgnoreReason.REPEAT
        if chunk.chunk_index > stream.next_index:
            self._fail(stream, Fault(f"chunk {stream.next_index} is missing"))
            return None
        stream.next_index += 1
        if chunk.content:
            stream.started = now
            self._streams.move_to_end(stream.key)
            fault = stream.add(chunk.content, self.budget, self._config.max_payload_bytes)
            if fault is not None:
                self._fail(stream, fault)
        return None

    def receive_trailer(
        self, trailer: StreamTrailer, sender_identity: str, sender_sid: str, now: float
    ) -> IgnoreReason | None:
        """The end of a body."""
        stream = self._streams.get((sender_identity, sender_sid, trailer.stream_id))
        if stream is None:
            return IgnoreReason.UNKNOWN_STREAM
        reason = trailer.reason
        self._end(stream, Fault(f"the stream ended early: {reason}") if reason else None)
        return None

    def sid_learned(self, identity: str, sid: str) -> None:
        """The first sid of `identity` is known: what it is sending goes on under it (R40)."""
        for stream in list(self._streams.values()):
            key = (identity, sid, stream.key[2])
            if stream.key[:2] == (identity, "") and key not in self._streams:
                stream.key = key
        self._streams = OrderedDict((stream.key, stream) for stream in self._streams.values())

    def first(self) -> tuple[float, int] | None:
        """The deadline and the order of the stream that ends next unless bytes come (R28)."""
        for stream in self._streams.values():
            return stream.started + self._config.stream_idle_timeout, stream.order
        return None

    def expire_first(self) -> None:
        """Nothing has come for the first stream for too long (R28)."""
        stream = next(iter(self._streams.values()))
        self._fail(stream, Fault(f"no bytes for {self._config.stream_idle_timeout:g} seconds"))

    def drop(self, stream: IncomingStream) -> None:
        """Nobody wants this body any more."""
        if self._streams.get(stream.key) is stream:
            del self._streams[stream.key]
            self.budget.give_back(self.budget.open(stream.key[0]), stream.received_bytes)

    def _fail(self, stream: IncomingStream, fault: Fault) -> None:
        self.drop(stream)
        stream.on_fault(fault)

    def _end(self, stream: IncomingStream, fault: Fault | None) -> None:
        end = fault or stream.end()
        if isinstance(end, Fault):
            self._fail(stream, end)
        else:
            del self._streams[stream.key]
            stream.on_body(end, stream.received_bytes)
