"""Bytes as bodies of several senders, requests and answers, plain and compressed, piece by piece.

After each input the engine is where a plain reader is that takes the same steps (`reading`): the
same bodies are open, the others have ended the same way, as many bytes are held, the same is due. A
body that has ended well is what plain zlib makes of its pieces joined. No input inflates more than
a mebibyte, reads more than 4 KiB that yield nothing, or goes on after a bound was passed (R28,
R47).
"""

import itertools
import zlib
from collections.abc import Callable
from functools import lru_cache
from types import SimpleNamespace
from typing import TypeAlias
from unittest.mock import patch

from fuzz.choices import Choices, with_new
from fuzz.inputs import EMPTY_BLOCK
from fuzz.reading import OUTPUT_STEP, PlainReader, Stream
from rpcproto import (
    CallFailed,
    CallSucceeded,
    InvocationReceived,
    PacketKind,
    RpcConfig,
    RpcEngine,
    wire,
)
from rpcproto.core import inflating
from rpcproto.core.inflating import MAX_BARREN, MAX_INFLATED
from rpcproto.core.stream_reader import Fault
from rpcproto.testing import counting_ids
from rpcproto.wire import (
    MAX_UINT32,
    REQUEST_TOPIC,
    RESPONSE_TOPIC,
    ErrorResponse,
    OutgoingMessage,
    Request,
    StreamChunk,
    StreamHeader,
    StreamTrailer,
    request_attributes,
    response_attributes,
)

US = "alice"
FAR = 1e6
"""Seconds after which calls and invocations end: none does."""
Key: TypeAlias = tuple[str, str, str]
"""Identity, sid and stream id."""


def config(max_payload_bytes: int, in_all: int, of_one: int) -> RpcConfig:
    return RpcConfig(
        max_payload_bytes=max_payload_bytes,
        max_buffered_bytes=in_all,
        max_buffered_bytes_per_sender=of_one,
        max_packet_bytes=2**26,
        max_invocation_lifetime=FAR,
    )


CONFIGS = with_new(
    (
        config(100, 150, 130),
        config(20_000, 70_000, 50_000),
        config(200_000, 200_000, 200_000),
        config(500_000, 900_000, 600_000),
    ),
    config(3_000_000, 5_000_000, 4_000_000),
)
MAX_STEPS = 60
UNITS = ("hello ", "é", "\u4e16\ufeff", "\U0001f600x", "0", "")
TIMES = (1, 3, 30, 4_000, 20_000)
SENDERS = with_new(
    (("bob", ""), ("bob", "PA_1"), ("carol", ""), ("carol", "PA_2")), ("dave", "PA_4"), ("erin", "")
)
STREAM_IDS = with_new(("s1", "s2"), "s3")
ANSWERS = "s2"
"""Streams of this id answer calls, all others are requests."""


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
OLD_COMPRESSED: tuple[Callable[[bytes], bytes], ...] = (
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
COMPRESSED: tuple[Callable[[bytes], bytes], ...] = with_new(
    OLD_COMPRESSED,
    lambda data: EMPTY_BLOCK * 400 + raw_deflate(data),
    lambda data: EMPTY_BLOCK * 1_400 + raw_deflate(data),
    lambda data: sync_flushed(data) + EMPTY_BLOCK * 600 + raw_deflate(b"x"),
)


def text_of(choices: Choices, config: RpcConfig) -> bytes:
    """A body, or the beginning of one, of any size or of one about a bound."""
    if choices.byte() % 4 == 3:
        return b"x" * (config.max_payload_bytes // choices.of((1, 2)) + choices.of((0, 1)))
    body = (choices.of(UNITS) * choices.of(TIMES)).encode()
    return body + choices.short_bytes() if choices.flag() else body


# --- observing


class Meter:
    """What one input has inflated."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.inflated_bytes = 0
        self.barren_bytes = 0


class Metered:
    """A decompressor that is watched."""

    def __init__(self, meter: Meter, max_bytes: int) -> None:
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._meter = meter
        self._left = max_bytes

    def decompress(self, data: bytes, max_length: int) -> bytes:
        assert 0 < max_length <= OUTPUT_STEP
        assert self._left >= 0, "inflated on after the bound"
        text = self._inflate.decompress(data, max_length)
        self._left -= len(text)
        meter = self._meter
        meter.inflated_bytes += len(text)
        meter.barren_bytes += 0 if text else len(data)
        assert meter.inflated_bytes <= MAX_INFLATED
        assert meter.barren_bytes <= MAX_BARREN
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
    max_bytes = senders.config.max_payload_bytes
    watched = SimpleNamespace(
        MAX_WBITS=zlib.MAX_WBITS,
        error=zlib.error,
        decompressobj=lambda _: Metered(senders.meter, max_bytes),
    )
    with patch.object(inflating, "zlib", watched):
        for _ in range(MAX_STEPS):
            if choices.are_over:
                break
            choices.of(STEPS)(senders)
            senders.check()


class Body:
    """A body that is being sent, to the engine and to the plain reader."""

    def __init__(self, request_id: str, plain: Stream, sent: bytes) -> None:
        self.request_id = request_id
        self.plain = plain
        self.key_sid = plain.sid
        """Of the request; it stays when the sid of its sender becomes known (R16)."""
        self.sent = sent
        """What is still to be sent."""
        self.arrived = b""
        self.end: str | Fault | None = None
        self.invocation_id = 0

    @property
    def is_open(self) -> bool:
        return self.end is None and self.plain.end is None

    def check_text(self) -> None:
        """What has arrived is the text, by no steps at all."""
        text = self.arrived
        if self.is_compressed:
            text = zlib.decompressobj(-zlib.MAX_WBITS).decompress(text)
        assert self.end == text.decode()

    is_compressed = False


class Senders:
    """All bodies of one run, and the readers that they go to."""

    def __init__(self, choices: Choices, config: RpcConfig) -> None:
        self.choices = choices
        self.config = config
        self.now = 0.0
        self.engine = RpcEngine(US, new_id=counting_ids(), config=config)
        self.engine.register_method("m")
        self.plain = PlainReader(config)
        self.meter = Meter()
        self.orders = itertools.count(1)
        self.announced: dict[str, str] = {}
        """Sids by identity."""
        self.bodies: dict[str, Body] = {}
        """Those that have not ended, by request id."""
        self.sent: dict[Key, Body] = {}
        """The last body sent under each key, open or not."""
        self.has_been_crowded = False
        self.texts: list[Body] = []
        """Requests that were handed over and not answered."""

    def key(self) -> Key:
        return (*self.choices.of(SENDERS), self.choices.of(STREAM_IDS))

    def found(self, key: Key) -> Key:
        """The key of a packet: an absent sid is the announced one (R23)."""
        identity, sid, stream_id = key
        return identity, sid or self.announced.get(identity, ""), stream_id

    def receive(self, key: Key, message: OutgoingMessage) -> None:
        identity, sid, _ = key
        data = wire.stamp(wire.encode(message, identity, US), sender_sid=sid)
        self.engine.receive_packet(data, now=self.now)

    # steps

    def begin(self) -> None:
        """A header, and with it perhaps the whole body."""
        choices, key = self.choices, self.key()
        identity, _, stream_id = key
        body, compression = text_of(choices, self.config), choices.of((0, 1, 1, 1, 2))
        sent = choices.of(COMPRESSED)(body) if compression else body
        total = choices.of((len(body), None, None, len(body) + 1, max(len(body) - 1, 0), 2**40))
        inline = sent if choices.byte() % 4 == 3 else None
        is_text = choices.byte() % 8 != 7
        number = next(self.orders)
        if stream_id == ANSWERS:
            request_id = self.engine.call(
                identity, "m", "", now=self.now, response_timeout=FAR, ack_timeout=FAR
            )
            topic, attributes = RESPONSE_TOPIC, response_attributes(request_id)
        else:
            request_id = f"r{number}"
            topic, attributes = REQUEST_TOPIC, request_attributes(request_id, "m", MAX_UINT32)
        found = self.found(key)
        plain = Stream(
            found,
            number,
            total,
            self.now,
            is_request=stream_id != ANSWERS,
            is_compressed=compression == 1,
        )
        body_ = self.bodies[request_id] = Body(request_id, plain, b"" if inline else sent)
        body_.is_compressed = compression == 1
        body_.arrived = inline or b""
        header = StreamHeader(stream_id, topic, attributes, total, 0, inline, compression, is_text)
        self.receive(key, header)
        self.open(body_, found, inline, total, is_readable=is_text and compression != 2)

    def open(
        self, body: Body, key: Key, inline: bytes | None, total: int | None, *, is_readable: bool
    ) -> None:
        plain, is_request = body.plain, key[2] != ANSWERS
        sid = self.announced.get(key[0], "")
        if not is_request and (self.plain.find(key) or sid not in ("", key[1])):
            return  # it is ignored, and the call stays (R6, R7)
        if total is not None and total > self.config.max_payload_bytes:
            plain.end = Fault("", over_cap=True)
        elif not is_readable or self.plain.find(key) is not None:
            plain.end = Fault("RPC data stream malformed")
        else:
            self.sent[key] = body
            self.plain.open(plain, inline, self.now)

    def chunk(self) -> None:
        """The next piece of a body, mostly."""
        choices, key = self.choices, self.key()
        body = self.sent.get(self.found(key))
        size = choices.of((1, 2, 7, 100, 15_000, 15_000, 2**30, 0))
        wrong = choices.of((0, 0, 0, 0, 0, 0, 0, 1, -1))
        content = b"" if body is None else body.sent[:size]
        index = max((0 if body is None else body.plain.next_index) + wrong, 0)
        self.send_chunk(key, index, content)

    def send_chunk(self, key: Key, index: int, content: bytes) -> None:
        self.receive(key, StreamChunk(key[2], index, content))
        plain = self.plain.find(self.found(key))
        if plain is not None:
            if index == plain.next_index and not plain.has_trailer:
                body = self.sent[plain.key]
                body.arrived += content
                body.sent = body.sent[len(content) :]
            self.plain.chunk(plain, index, content, self.now)

    def trailer(self) -> None:
        key = self.key()
        self.send_trailer(key, self.choices.of(("", "", "", "cancelled")))

    def send_trailer(self, key: Key, reason: str = "") -> None:
        self.receive(key, StreamTrailer(key[2], reason))
        plain = self.plain.find(self.found(key))
        if plain is not None:
            self.plain.trailer(plain, reason)

    def whole(self) -> None:
        """All that is left of each body, in pieces of one size, and then the trailers."""
        size = self.choices.of((1, 1_000, 15_000, 2**30))
        for plain in list(self.plain.streams):
            if self.found(plain.key) != plain.key:
                continue  # no packet can be meant for it any more
            body = self.sent[plain.key]
            while body.sent and body.is_open and plain.next_index < (140 if size == 1 else 20):
                if plain.has_trailer:
                    break
                self.send_chunk(plain.key, plain.next_index, body.sent[:size])
                self.check()
            if body.is_open:
                self.send_trailer(plain.key)
                self.check()

    def silence(self) -> None:
        """Time passes, perhaps until the body that has been silent for longest has ended."""
        self.now += self.choices.of((0.0, 0.125, 1.0))
        if self.choices.flag():
            deadline = self.plain.next_deadline
            if self.plain.turn_at is None and deadline is not None:
                self.now = max(self.now, deadline)
            self.handle_deadline()

    def turns(self) -> None:
        """What waits is inflated further, perhaps until nothing waits."""
        for _ in range(self.choices.of((1, 2, 8))):
            if self.plain.turn_at is not None:
                self.now = max(self.now, self.plain.turn_at)
                self.handle_deadline()
                self.check()

    def handle_deadline(self) -> None:
        self.engine.handle_deadline(now=self.now)
        self.plain.handle_deadline(self.now)

    def learn_sid(self) -> None:
        """A participant is announced: what came without a sid goes on under the first one (R40)."""
        identity, sid = self.choices.of((("bob", "PA_1"), ("carol", "PA_2"), ("bob", "PA_3")))
        if self.announced.setdefault(identity, sid) != sid:
            return
        self.engine.participant_joined(identity, now=self.now, participant_sid=sid)
        for plain in self.plain.streams:
            key = (identity, sid, plain.stream_id)
            if (plain.identity, plain.sid) == (identity, "") and self.plain.find(key) is None:
                self.sent[key] = self.sent.pop(plain.key)
                plain.sid = sid

    def done_with(self) -> None:
        """The first request that was handed over is answered."""
        if self.texts:
            body = self.texts.pop(0)
            assert self.engine.respond(body.invocation_id, "", now=self.now)
            self.plain.held[body.plain.identity] -= body.plain.size

    def drop(self) -> None:
        """Nobody wants a body any more: the call is cancelled, or the caller leaves."""
        key = self.found(self.key())
        body = self.sent.get(key)
        if body is not None and not body.plain.is_request:
            pending = self.bodies.pop(body.request_id, None)
            assert self.engine.cancel(body.request_id, now=self.now) == (pending is not None)
            if body.plain in self.plain.streams:
                self.plain.drop(body.plain)
        elif body is not None:
            self.leave(key[0])

    def leave(self, identity: str) -> None:
        """A participant leaves, and with it what it sent under its sid, or without one (R19)."""
        self.engine.participant_left(identity, now=self.now)
        sid = self.announced.pop(identity, "")
        for body in list(self.bodies.values()):
            plain = body.plain
            leaves = not plain.is_request or not sid or body.key_sid in ("", sid)
            if plain.identity == identity and leaves:
                del self.bodies[body.request_id]
                if plain in self.plain.streams:
                    self.plain.drop(plain)
        for body in list(self.texts):
            if body.plain.identity == identity and (not sid or body.key_sid in ("", sid)):
                self.texts.remove(body)
                self.plain.held[identity] -= body.plain.size

    def crowd(self) -> None:
        """Many others ask for what is not there. Once only, for it takes long."""
        for _ in range(0 if self.has_been_crowded else 80):
            number = next(self.orders)
            request = Request(f"r{number}", "no method", "", MAX_UINT32)
            self.receive((f"peer-{number}", "", ""), request)
        self.has_been_crowded = True

    # what comes of it

    def check(self) -> None:
        self.meter.reset()
        self.learn()
        engine, plain = self.engine, self.plain
        for request_id, body in list(self.bodies.items()):
            assert body.end == body.plain.end
            if body.end is None:
                continue
            del self.bodies[request_id]
            if isinstance(body.end, str):
                body.check_text()
                if body.plain.is_request:
                    self.texts.append(body)
        counts = engine.statistics()
        assert counts.open_streams_in == len(plain.streams)
        assert counts.buffered_bytes == plain.held.total() <= self.config.max_buffered_bytes
        assert max(plain.held.values(), default=0) <= self.config.max_buffered_bytes_per_sender
        if plain.streams:
            assert engine.next_deadline == plain.next_deadline
        else:
            assert engine.next_deadline is None or engine.next_deadline > self.now + FAR / 2

    def learn(self) -> None:
        """What the engine tells its host and its callers of the bodies."""
        for event in self.engine.take_events():
            match event:
                case InvocationReceived(invocation_id, request_id, _, _, payload):
                    self.bodies[request_id].invocation_id = invocation_id
                    self.end(request_id, payload)
                case CallSucceeded(request_id, payload):
                    self.end(request_id, payload)
                case CallFailed(request_id, code, _, data) if code != 1503:
                    assert code in (1500, 1504)
                    self.end(request_id, Fault(data, code == 1504))
        for packet in iter(self.engine.next_packet, None):
            if packet.kind is PacketKind.ERROR and packet.request_id in self.bodies:
                decoded = wire.decode(packet.data)
                assert decoded is not None
                assert isinstance(decoded.message, ErrorResponse)
                code, data = decoded.message.code, decoded.message.data
                assert code in (1500, 1402)
                self.end(packet.request_id, Fault(data, code == 1402))

    def end(self, request_id: str, outcome: str | Fault) -> None:
        body = self.bodies[request_id]
        assert body.end is None
        body.end = outcome


OLD_STEPS: tuple[Callable[[Senders], None], ...] = (
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
STEPS: tuple[Callable[[Senders], None], ...] = with_new(OLD_STEPS, Senders.turns)
