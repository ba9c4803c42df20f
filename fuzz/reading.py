"""How bodies are read and bytes counted, done the plain way: slow, and easy to see through.

It takes the same steps as the engine (R25, R28, R47), but keeps no tables beside a list of streams:
who holds most, who waits and what is due is looked for each time.
"""

import codecs
import zlib
from collections import Counter

from rpcproto import RpcConfig
from rpcproto.core.inflating import MAX_BARREN, MAX_INFLATED
from rpcproto.core.stream_reader import TURN, Fault

OUTPUT_STEP = 64 * 1024
INPUT_STEP = 2 * 1024
"""Bytes that come of one step of inflating at most, and that go into it."""


class Effort:
    """What one input may still inflate (R47)."""

    def __init__(self) -> None:
        self.inflated_bytes = MAX_INFLATED
        self.barren_bytes = INPUT_STEP

    @property
    def is_spent(self) -> bool:
        return self.inflated_bytes <= 0 or self.barren_bytes <= 0


class Stream:
    """A body that arrives, and what has become of it."""

    def __init__(
        self,
        key: tuple[str, str, str],
        order: int,
        total_length: int | None,
        now: float,
        *,
        is_request: bool,
        is_compressed: bool,
    ) -> None:
        self.identity, self.sid, self.stream_id = key
        self.order = order
        self.total_length = total_length
        self.grown_at = now
        self.is_request = is_request
        self.inflate = zlib.decompressobj(-zlib.MAX_WBITS) if is_compressed else None
        self.next_index = 0
        self.size = 0
        """Bytes of the body before compression."""
        self.text = ""
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.rest = b""
        self.has_more = False
        self.has_trailer = False
        self.barren_bytes = 0
        self.waits = False
        self.counted_rest = 0
        self.end: str | Fault | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        return self.identity, self.sid, self.stream_id

    @property
    def has_rest(self) -> bool:
        return self.has_more or self.rest != b""


class PlainReader:
    """The half-read streams of one engine."""

    def __init__(self, config: RpcConfig) -> None:
        self._config = config
        self.streams: list[Stream] = []
        """Those that have not grown for longest in front."""
        self.held: Counter[str] = Counter()
        """Bytes by identity, those of texts that are not done with as well."""
        self._turns: list[str] = []
        self.turn_at: float | None = None

    def find(self, key: tuple[str, str, str]) -> Stream | None:
        return next((stream for stream in self.streams if stream.key == key), None)

    # inputs

    def open(self, stream: Stream, inline: bytes | None, now: float) -> None:
        if inline is not None and stream.inflate is not None:
            inline = self._inflate_at_once(stream, inline)
        if inline is None or stream.inflate is not None:
            self.streams.append(stream)
        if inline is not None and stream.inflate is not None:
            stream.has_trailer = True
            stream.rest = inline
            self._inflate(stream, Effort(), now)
        elif inline is not None:
            stream.end = self._inline_end(stream, inline)

    def _inflate_at_once(self, stream: Stream, inline: bytes) -> bytes:
        """A body that says that one step is enough for it, and is right, is never half-read."""
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        total = stream.total_length
        if 0 < len(inline) <= INPUT_STEP and total is not None and total <= OUTPUT_STEP:
            try:
                body = inflate.decompress(inline, OUTPUT_STEP)
            except zlib.error:
                return inline
            if inflate.eof and not inflate.unused_data:
                stream.inflate = None
                return body
        return inline

    def _inline_end(self, stream: Stream, body: bytes) -> str | Fault:
        size, total_length = len(body), stream.total_length
        if size > self._config.max_payload_bytes:
            return Fault("", over_cap=True)
        if total_length is not None and size != total_length:
            return _wrong_length(size, total_length)
        try:
            text = body.decode()
        except UnicodeDecodeError:
            return Fault("the body is not valid UTF-8")
        if not self._take(stream.identity, size, not stream.is_request):
            return Fault("too many bytes")
        stream.size = size
        if not stream.is_request:
            self.held[stream.identity] -= size
        return text

    def chunk(self, stream: Stream, index: int, content: bytes, now: float) -> None:
        if stream.has_trailer or index < stream.next_index:
            return
        if index > stream.next_index:
            self._end(stream, Fault(f"chunk {stream.next_index} is missing"))
            return
        stream.next_index += 1
        if stream.inflate is None:
            fault = self._grow(stream, content, now) if content else None
            if fault is not None:
                self._end(stream, fault)
            return
        stream.rest += content
        if stream.waits:
            self._wait(stream, now)
        else:
            self._inflate(stream, Effort(), now)

    def trailer(self, stream: Stream, reason: str) -> None:
        if stream.has_trailer:
            return
        if reason:
            self._end(stream, Fault(f"the stream ended early: {reason}"))
        elif stream.has_rest:
            stream.has_trailer = True
        else:
            self._end(stream, self._whole(stream))

    @property
    def next_deadline(self) -> float | None:
        """When the first silent stream ends, or something is inflated further."""
        return min((at for at in (self._silent_at, self.turn_at) if at is not None), default=None)

    @property
    def _silent_at(self) -> float | None:
        timeout = self._config.stream_idle_timeout
        return self.streams[0].grown_at + timeout if self.streams else None

    def handle_deadline(self, now: float) -> None:
        while (at := self.next_deadline) is not None and at <= now:
            if at == self.turn_at:
                self._take_turns(now)
            else:
                seconds = self._config.stream_idle_timeout
                self._end(self.streams[0], Fault(f"no bytes for {seconds:g} seconds"))

    def _take_turns(self, now: float) -> None:
        effort = Effort()
        while self._turns and not effort.is_spent:
            identity = self._turns.pop(0)
            waiting = [each for each in self.streams if each.waits and each.identity == identity]
            self._inflate(min(waiting, key=lambda each: each.order), effort, now)
            still_waits = any(each.waits and each.identity == identity for each in self.streams)
            if still_waits and identity not in self._turns:
                self._turns.append(identity)
        self.turn_at = now + TURN if self._turns else None

    def drop(self, stream: Stream) -> None:
        self.streams.remove(stream)
        self._do_not_wait(stream)
        self.held[stream.identity] -= stream.size

    # within

    def _inflate(self, stream: Stream, effort: Effort, now: float) -> None:
        while stream.has_rest:
            if effort.is_spent:
                self._wait(stream, now)
                return
            step = self._next_step(stream, effort)
            fault: Fault | None
            if isinstance(step, Fault):
                fault = step
            else:
                fault = self._grow(stream, step, now) if step else None
            if fault is not None:
                self._end(stream, fault)
                return
        self._do_not_wait(stream)
        if stream.has_trailer:
            self._end(stream, self._whole(stream))

    def _next_step(self, stream: Stream, effort: Effort) -> bytes | Fault:
        inflate = stream.inflate
        assert inflate is not None
        if inflate.eof:
            return Fault("bytes after the end of the compressed body")
        content = stream.rest[:INPUT_STEP]
        limit = min(OUTPUT_STEP, effort.inflated_bytes)
        try:
            step = inflate.decompress(content, limit)
        except zlib.error:
            return Fault("the compressed body is not raw DEFLATE")
        unread = inflate.unused_data or inflate.unconsumed_tail
        stream.rest = unread + stream.rest[INPUT_STEP:]
        stream.has_more = len(step) == limit and not inflate.eof
        effort.inflated_bytes -= len(step)
        if 2 * len(step) < len(content):
            effort.barren_bytes -= len(content)
        stream.barren_bytes = 0 if step else stream.barren_bytes + len(content)
        if stream.barren_bytes > MAX_BARREN:
            return Fault("compressed input without content")
        return step

    def _grow(self, stream: Stream, content: bytes, now: float) -> Fault | None:
        size = stream.size + len(content)
        if size > self._config.max_payload_bytes:
            return Fault("", over_cap=True)
        if stream.total_length is not None and size > stream.total_length:
            return _wrong_length(size, stream.total_length)
        if not self._take(stream.identity, len(content), not stream.is_request, stream):
            return Fault("too many bytes")
        stream.size = size
        stream.grown_at = now
        self.streams.remove(stream)
        self.streams.append(stream)
        try:
            stream.text += stream.decoder.decode(content)
        except UnicodeDecodeError:
            return Fault("the body is not valid UTF-8")
        return None

    def _whole(self, stream: Stream) -> str | Fault:
        total, inflate = stream.total_length, stream.inflate
        if inflate is not None and not inflate.eof and total is None:
            return Fault("the compressed body has no end")
        if total is not None and stream.size < total:
            return _wrong_length(stream.size, total)
        try:
            return stream.text + stream.decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return Fault("the body is not valid UTF-8")

    def _wait(self, stream: Stream, now: float) -> None:
        more = len(stream.rest) - stream.counted_rest
        if more < 0:
            self.held[stream.identity] += more
        elif not self._take(stream.identity, more, not stream.is_request, stream):
            self._end(stream, Fault("too many bytes"))
            return
        stream.counted_rest += more
        stream.waits = True
        if stream.identity not in self._turns:
            self._turns.append(stream.identity)
        if self.turn_at is None:
            self.turn_at = now + TURN

    def _do_not_wait(self, stream: Stream) -> None:
        if not stream.waits:
            return
        stream.waits = False
        self.held[stream.identity] -= stream.counted_rest
        stream.counted_rest = 0
        others = any(each.waits and each.identity == stream.identity for each in self.streams)
        if not others and stream.identity in self._turns:
            self._turns.remove(stream.identity)
            if not self._turns:
                self.turn_at = None

    def _end(self, stream: Stream, outcome: str | Fault) -> None:
        if stream not in self.streams:
            return
        self.drop(stream)
        if isinstance(outcome, str) and stream.is_request:
            self.held[stream.identity] += stream.size
        stream.end = outcome

    # bytes

    def _take(
        self, identity: str, count: int, is_answer: bool, stream: Stream | None = None
    ) -> bool:
        """Hold so many bytes more; where they are scarce, others make room (R28)."""
        while not self._fits(identity, count, is_answer):
            victim = self._victim(identity, self.held[identity] + count)
            if victim is None:
                return False
            self._end(victim, Fault("too many bytes"))
            if victim is stream:
                return False
        self.held[identity] += count
        return True

    def _fits(self, identity: str, count: int, is_answer: bool) -> bool:
        bound, wanted = self._config.max_buffered_bytes, self.held[identity] + count
        total = self.held.total() + count
        if wanted > self._config.max_buffered_bytes_per_sender or total > bound:
            return False
        has_reserve = is_answer or wanted * 64 < bound or count == 0
        return total <= bound - bound // 8 or has_reserve

    def _victim(self, identity: str, wanted: int) -> Stream | None:
        requests = sorted(
            (each for each in self.streams if each.is_request), key=lambda each: each.order
        )
        if wanted > self._config.max_buffered_bytes_per_sender or not requests:
            return None
        # Of those that hold most the one whose oldest stream is oldest: it comes first.
        fullest = max(requests, key=lambda each: self.held[each.identity]).identity
        if fullest != identity and self.held[fullest] < wanted:
            return None
        return next(each for each in reversed(requests) if each.identity == fullest)


def _wrong_length(size: int, total_length: int) -> Fault:
    if size > total_length:
        return Fault(f"more than {total_length} bytes arrived")
    return Fault(f"{size} of {total_length} bytes arrived")
