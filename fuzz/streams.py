"""Bytes into the stream reader: bodies of several senders, plain and compressed, piece by piece.

What is expected comes of the pieces joined, by plain zlib and plain UTF-8: after each piece a body
goes on exactly when it can still become a good one, and at its end it is the text, or a fault.
Nothing is inflated in large steps, or after a bound was passed (R28).
"""

import itertools
import zlib
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from types import SimpleNamespace
from unittest.mock import patch

from fuzz.choices import Choices
from rpcproto import IgnoreReason, RpcConfig
from rpcproto.core import stream_reader
from rpcproto.core.messages import StreamChunk, StreamHeader, StreamTrailer
from rpcproto.core.stream_reader import Fault, IncomingStream, StreamReader

CONFIGS = tuple(
    RpcConfig(
        max_payload_bytes=cap, max_buffered_bytes=in_all, max_buffered_bytes_per_sender=of_one
    )
    for cap, in_all, of_one in (
        (100, 150, 130),
        (20_000, 70_000, 50_000),
        (200_000, 200_000, 200_000),
        (500_000, 900_000, 600_000),
    )
)
STEP = 64 * 1024
MAX_STEPS = 60
UNITS = ("hello ", "é", "\u4e16\ufeff", "\U0001f600x", "0", "")
TIMES = (1, 3, 30, 4_000, 20_000)
SENDERS = (("bob", ""), ("bob", "PA_1"), ("carol", ""), ("carol", "PA_2"))
STREAM_IDS = ("s1", "s2")


# --- bodies


@lru_cache(256)
def raw_deflate(data: bytes, level: int = 6, flush: int = zlib.Z_FINISH) -> bytes:
    deflate = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflate.compress(data) + deflate.flush(flush)


@lru_cache(256)
def sync_flushed(data: bytes) -> bytes:
    """As a sender compresses that flushes after each piece, and ends without a final block."""
    deflate = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    pieces = data[: len(data) // 2], data[len(data) // 2 :]
    return b"".join(deflate.compress(each) + deflate.flush(zlib.Z_SYNC_FLUSH) for each in pieces)


BOMB = raw_deflate(bytes(2**20), 9)
"""A kilobyte that comes to a megabyte."""
COMPRESSED: tuple[Callable[[bytes], bytes], ...] = (
    raw_deflate,
    lambda data: raw_deflate(data, 0),
    sync_flushed,
    lambda data: sync_flushed(data) + raw_deflate(b""),
    lambda data: raw_deflate(data) + b"x",
    lambda data: raw_deflate(data) + raw_deflate(data),
    lambda data: raw_deflate(data)[:-1],
    zlib.compress,
    lambda data: BOMB,
    lambda data: data,
)


def text_of(choices: Choices, config: RpcConfig) -> bytes:
    """A body, or the beginning of one, of any size or of one about a bound."""
    if choices.byte() % 4 == 3:
        return b"x" * (config.max_payload_bytes // choices.of((1, 2)) + choices.of((0, 1)))
    body = (choices.of(UNITS) * choices.of(TIMES)).encode()
    return body + choices.short_bytes() if choices.flag() else body


# --- what is expected


class Body:
    """A body that is being sent, and what has become of it."""

    def __init__(self, key: tuple[str, str, str], header: StreamHeader, sent: bytes) -> None:
        self.key, self.header, self.sent = key, header, sent
        self.started = 0.0
        self.index = 0
        self.arrived = b""
        self.held_bytes = 0
        self.end: str | Fault | None = None
        self.stream: IncomingStream | None = None

    def on_body(self, text: str, count: int) -> None:
        assert self.end is None
        assert count == len(text.encode())
        self.end = text

    def on_fault(self, fault: Fault) -> None:
        assert self.end is None
        self.end = fault

    def plain(self) -> tuple[bytes, bool] | None:
        """What has arrived before compression, and whether it may end here; None for a fault."""
        total = self.header.total_length
        text, is_whole = self.arrived, True
        if self.header.compression:
            inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            try:
                text = inflate.decompress(self.arrived)
            except zlib.error:
                return None
            if inflate.unused_data:
                return None
            is_whole = inflate.eof or len(text) == total
        return text, is_whole and total in (None, len(text))


def is_beginning_of_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return True


# --- observing


class Metered:
    """A decompressor that is watched."""

    def __init__(self, max_bytes: int) -> None:
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._left = max_bytes

    def decompress(self, data: bytes, max_length: int) -> bytes:
        assert 0 < max_length <= STEP
        assert self._left >= 0, "inflated on after the bound"
        text = self._inflate.decompress(data, max_length)
        self._left -= len(text)
        return text

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    @property
    def unconsumed_tail(self) -> bytes:
        return self._inflate.unconsumed_tail


def test_one_input(data: bytes) -> None:
    choices = Choices(data)
    senders = Senders(choices, choices.of(CONFIGS))
    watched = SimpleNamespace(
        MAX_WBITS=zlib.MAX_WBITS,
        error=zlib.error,
        decompressobj=lambda _: Metered(senders.config.max_payload_bytes),
    )
    with patch.object(stream_reader, "zlib", watched):
        for _ in range(MAX_STEPS):
            if choices.are_over:
                break
            choices.of(STEPS)(senders)
            senders.check()


class Senders:
    """All bodies of one run, and the reader that they go to."""

    def __init__(self, choices: Choices, config: RpcConfig) -> None:
        self.choices = choices
        self.config = config
        self.now = 0.0
        self.reader = StreamReader("alice", config, orders=itertools.count())
        self.open: dict[tuple[str, str, str], Body] = {}
        self.sent: dict[tuple[str, str, str], Body] = {}
        """The last body sent under each key, open or not."""
        self.held: Counter[str] = Counter()
        """Bytes of each sender, of open bodies and of texts that are not done with."""
        self.texts: list[Body] = []

    # steps

    def begin(self) -> None:
        """A header, and with it perhaps the whole body."""
        choices = self.choices
        key = (*choices.of(SENDERS), choices.of(STREAM_IDS))
        body, compression = text_of(choices, self.config), choices.of((0, 1, 1, 1, 2))
        sent = choices.of(COMPRESSED)(body) if compression else body
        total = choices.of((len(body), None, None, len(body) + 1, max(len(body) - 1, 0), 2**40))
        inline = sent if choices.byte() % 4 == 3 else None
        is_text = choices.byte() % 8 != 7
        header = StreamHeader(key[2], "", {}, total, 0, inline, compression, is_text)
        over_cap = total is not None and total > self.config.max_payload_bytes
        fault = self.reader.check(header)
        assert (fault is not None) == (over_cap or not is_text or compression == 2)
        if fault is not None:
            assert fault.over_cap == over_cap
            return
        if key in self.open:
            assert key in self.reader
            return
        self.send_header(Body(key, header, sent))

    def send_header(self, body: Body) -> None:
        identity, sid, _ = body.key
        body.started = self.now
        body.stream = self.reader.open(
            body.header, identity, sid, self.now, body.on_body, body.on_fault
        )
        inline = body.header.inline_content
        self.sent[body.key] = self.open[body.key] = body
        assert (body.stream is None) == (inline is not None)
        if inline is not None:
            self.arrive(body, inline, is_end=True)

    def chunk(self) -> None:
        """The next piece of a body, mostly."""
        choices = self.choices
        key = (*choices.of(SENDERS), choices.of(STREAM_IDS))
        body = self.sent.get(key)
        size = choices.of((1, 2, 7, 100, 15_000, 15_000, 2**30, 0))
        wrong = choices.of((0, 0, 0, 0, 0, 0, 0, 1, -1))
        content = b"" if body is None else body.sent[:size]
        index = max((0 if body is None else body.index) + wrong, 0)
        told = self.reader.receive_chunk(StreamChunk(key[2], index, content), *key[:2], self.now)
        if body is None or self.open.get(key) is not body:
            assert told is IgnoreReason.UNKNOWN_STREAM
            return
        if index < body.index:
            assert told is IgnoreReason.REPEAT
            assert body.end is None
            return
        assert told is None
        if index > body.index:
            self.expect_fault(body, over_cap=False)
            return
        body.index += 1
        body.sent = body.sent[size:]
        if content:
            body.started = self.now
        self.arrive(body, content, is_end=False)

    def trailer(self) -> None:
        key = (*self.choices.of(SENDERS), self.choices.of(STREAM_IDS))
        reason = self.choices.of(("", "", "", "cancelled"))
        told = self.reader.receive_trailer(StreamTrailer(key[2], reason), *key[:2], self.now)
        body = self.open.get(key)
        if body is None:
            assert told is IgnoreReason.UNKNOWN_STREAM
        elif reason:
            self.expect_fault(body, over_cap=False)
        else:
            self.arrive(body, b"", is_end=True)

    def whole(self) -> None:
        """All that is left of each body, in pieces of one size, and then the trailers."""
        size = self.choices.of((1, 1_000, 15_000, 2**30))
        for body in list(self.open.values()):
            identity, sid, stream_id = body.key
            while body.sent and body.end is None and body.index < (140 if size == 1 else 20):
                piece, body.sent = body.sent[:size], body.sent[size:]
                chunk = StreamChunk(stream_id, body.index, piece)
                assert self.reader.receive_chunk(chunk, identity, sid, self.now) is None
                body.index += 1
                body.started = self.now
                self.arrive(body, piece, is_end=False)
            if body.end is None:
                trailer = StreamTrailer(stream_id, "")
                assert self.reader.receive_trailer(trailer, identity, sid, self.now) is None
                self.arrive(body, b"", is_end=True)

    def silence(self) -> None:
        """Time passes, and nothing comes for the body that has been silent for longest."""
        self.now += self.choices.of((0.0, 0.125, 1.0))
        first = self.reader.first()
        if first is not None and self.choices.flag():
            oldest = [b for b in self.open.values() if b.started == first[0] - 15]
            self.reader.expire_first()
            [body] = [body for body in oldest if body.end is not None]
            self.expect_fault(body, over_cap=False)

    def learn_sid(self) -> None:
        identity, sid = self.choices.of((("bob", "PA_1"), ("carol", "PA_2"), ("bob", "PA_3")))
        self.reader.sid_learned(identity, sid)
        for body in list(self.open.values()):
            key = (identity, sid, body.key[2])
            if body.key[:2] == (identity, "") and key not in self.open:
                del self.open[body.key]
                body.key = key
                self.open[key] = self.sent[key] = body

    def done_with(self) -> None:
        """The first text that was handed over is done with."""
        if self.texts:
            body = self.texts.pop(0)
            budget = self.reader.budget
            budget.give_back(budget.open(body.key[0]), body.held_bytes)
            self.held[body.key[0]] -= body.held_bytes

    def drop(self) -> None:
        """Nobody wants a body any more, open or not."""
        body = self.sent.get((*self.choices.of(SENDERS), self.choices.of(STREAM_IDS)))
        if body is not None and body.stream is not None:
            end = body.end
            self.reader.drop(body.stream)
            assert body.end == end
            if self.open.get(body.key) is body:
                self.forget(body)

    def crowd(self) -> None:
        """Many others come and go."""
        for number in range(80):
            self.reader.budget.open(f"peer-{number}")

    # what comes of it

    def arrive(self, body: Body, piece: bytes, *, is_end: bool) -> None:
        """`piece` has just been received for `body`, in order."""
        body.arrived += piece
        plain = body.plain()
        if plain is None:
            self.expect_fault(body)
            return
        text, may_end = plain
        total, cap = body.header.total_length, self.config.max_payload_bytes
        more = len(text) - body.held_bytes
        fits = (
            self.held[body.key[0]] + more <= self.config.max_buffered_bytes_per_sender
            and self.held.total() + more <= self.config.max_buffered_bytes
        )
        good = is_beginning_of_text(text) and (total is None or len(text) <= total)
        if len(text) > cap or not fits or not good:
            self.expect_fault(body, over_cap=None if len(text) > cap else False)
            return
        self.held[body.key[0]] += more
        body.held_bytes = len(text)
        if not is_end:
            assert body.end is None
        elif may_end and is_text(text):
            assert body.end == text.decode()
            del self.open[body.key]
            self.texts.append(body)
        else:
            self.expect_fault(body, over_cap=False)

    def expect_fault(self, body: Body, over_cap: bool | None = None) -> None:
        assert isinstance(body.end, Fault)
        assert over_cap in (None, body.end.over_cap)
        self.forget(body)

    def forget(self, body: Body) -> None:
        del self.open[body.key]
        self.held[body.key[0]] -= body.held_bytes

    def check(self) -> None:
        reader = self.reader
        assert len(reader) == len(self.open)
        assert all(key in reader for key in self.open)
        assert reader.budget.total == self.held.total() <= self.config.max_buffered_bytes
        for identity in ("bob", "carol"):
            assert reader.budget.open(identity).held_bytes == self.held[identity]
        first = reader.first()
        starts = [body.started for body in self.open.values()]
        assert (None if first is None else first[0]) == (min(starts) + 15 if starts else None)


def is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


STEPS: tuple[Callable[[Senders], None], ...] = (
    Senders.begin,
    Senders.begin,
    Senders.begin,
    Senders.chunk,
    Senders.chunk,
    Senders.chunk,
    Senders.whole,
    Senders.trailer,
    Senders.silence,
    Senders.learn_sid,
    Senders.done_with,
    Senders.crowd,
    Senders.drop,
)
