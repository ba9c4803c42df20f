"""Bodies coming in: streams of many senders, read side by side within bounds (R23 to R28, R47)."""

from codecs import utf_8_decode
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple, TypeAlias

from rpcproto.core.budget import Sender, Senders
from rpcproto.core.config import RpcConfig
from rpcproto.core.errors import ErrorCode
from rpcproto.core.events import Ignored, IgnoreReason
from rpcproto.core.inflating import Effort, InflateError, Inflater, inflated_at_once
from rpcproto.core.messages import BodyFields, StreamChunk, StreamTrailer
from rpcproto.core.roster import Handlers, Origin

TURN: Final = 1_048 / 2**20
"""Seconds after which what waits is inflated further (R47): a millisecond, rounded down to a
multiple of 2^-20 s so that its sum with an instant is exact (L10)."""

_PIECES_PER_BLOCK: Final = 128
"""Small pieces are joined now and then: a piece of one character costs fifty bytes by itself."""


class Fault(NamedTuple):
    """Why a stream failed; one over the cap has a code of its own (R26)."""

    data: str
    over_cap: bool = False

    def code(self, code_over_cap: ErrorCode) -> ErrorCode:
        """The code of the error that comes of it."""
        return code_over_cap if self.over_cap else ErrorCode.APPLICATION_ERROR


OVER_CAP: Final = Fault("", over_cap=True)
MALFORMED: Final = Fault("RPC data stream malformed")
OUT_OF_BYTES: Final = Fault("too many bytes")
_NOT_UTF8: Final = Fault("the body is not valid UTF-8")

Body: TypeAlias = tuple[str, int]
"""A whole body, and its bytes in UTF-8, which count as held by the sender of a request until
somebody gives them back."""
Opened: TypeAlias = tuple[bool, str, BodyFields]
"""Whether it is a request; and of its header the stream id, and what is said of the body."""
OnEnd: TypeAlias = Callable[[Body | Fault], None]


class IncomingStream:
    """A half-read stream. Whoever opened it learns of its end once, by `on_end`."""

    def __init__(
        self, opened: Opened, sender: Sender, sid: str, now: float, on_end: OnEnd, order: int
    ) -> None:
        is_request, stream_id, (_, total_length, _, is_deflated) = opened
        self.is_request: bool = is_request
        self.total_length: int | None = total_length
        self.is_sealed: bool | None = None
        """Whether its header came sealed; None where nobody has asked."""
        self.key: tuple[str, str] = sid, stream_id
        self.sender: Sender = sender
        self.order: int = order
        self.on_end: OnEnd = on_end
        self.grown_at: float = now
        """When the body last grew, in seconds (R28)."""
        self.next_index: int = 0
        self.received_bytes: int = 0
        """Bytes of the body before compression; the sender holds them."""
        self.inflater: Inflater | None = Inflater() if is_deflated else None
        self._cut_off = b""
        """The beginning of a character whose end is still to come."""
        self._pieces: list[str] = []
        self._blocks = 0
        """So many of them, in front, are blocks."""

    def add_text(self, content: bytes) -> Fault | None:
        """Decode the next piece of the body."""
        content = self._cut_off + content if self._cut_off else content
        try:
            piece, decoded_bytes = utf_8_decode(content)
        except UnicodeDecodeError:
            return _NOT_UTF8
        self._cut_off = content[decoded_bytes:]
        pieces = self._pieces
        pieces.append(piece)
        if len(pieces) - self._blocks == _PIECES_PER_BLOCK:
            pieces[self._blocks :] = ["".join(pieces[self._blocks :])]
            self._blocks += 1
        return None

    def end(self) -> Body | Fault:
        """The whole text, if that was all of it."""
        if self.total_length is None:
            if self.inflater and not self.inflater.has_ended:
                return Fault("the compressed body has no end")
        elif self.received_bytes < self.total_length:
            return _wrong_length(self.received_bytes, self.total_length)
        if self._cut_off:
            return _NOT_UTF8
        return "".join(self._pieces), self.received_bytes


def _wrong_length(received: int, total_length: int) -> Fault:
    if received > total_length:
        return Fault(f"more than {total_length} bytes arrived")
    return Fault(f"{received} of {total_length} bytes arrived")


class StreamReader:
    """All half-read streams of one engine."""

    def __init__(
        self, identity: str, config: RpcConfig, orders: Iterator[int], in_grace: Mapping[str, str]
    ) -> None:
        self._sids_in_grace = in_grace
        self._max_payload_bytes = config.max_payload_bytes
        self._idle_timeout = config.stream_idle_timeout
        self._orders = orders
        self.senders: Senders = Senders(identity, config, self._make_room)
        self._sender_of = self.senders.by_identity
        self.streams: OrderedDict[int, IncomingStream] = OrderedDict()
        """By order, those that have not grown for longest in front: they are the next to end."""
        self._turns: OrderedDict[str, Sender] = OrderedDict()
        """Senders with something left to inflate, in turn, by identity (R47)."""
        self.turn_at: float | None = None
        """When the next of them is due, in seconds."""
        chunk, trailer = self.receive_chunk, self.receive_trailer
        self.handlers: Handlers = {StreamChunk: chunk, StreamTrailer: trailer}

    def find(self, origin: Origin, stream_id: str) -> IncomingStream | None:
        """The half-read stream that a chunk or trailer belongs to (R23). One without a sid may be
        of an answer that a departed participant was giving (R31)."""
        identity, sid = origin.identity, origin.sid
        sender = self._sender_of.get(identity)
        if sender is None:
            return None
        stream = sender.streams.get((sid, stream_id))
        if stream is not None or sid or identity not in self._sids_in_grace:
            return stream
        stream = sender.streams.get((self._sids_in_grace[identity], stream_id))
        return None if stream is None or stream.is_request else stream

    def read_header(self, body: BodyFields, sender: Sender, is_answer: bool) -> Body | Fault | None:
        """What is known of a body from its header alone (R27): all of it, if it is inline and takes
        one step to be read, or what is wrong with it. None where a stream must be opened."""
        makes_sense, total_length, inline, is_deflated = body
        if total_length is not None and total_length > self._max_payload_bytes:
            return OVER_CAP
        if not makes_sense:
            return MALFORMED
        content = inline
        if is_deflated:
            content = inflated_at_once(inline, total_length) if inline else None
        if content is None:
            return None
        size = len(content)
        if size != total_length:
            if size > self._max_payload_bytes:
                return OVER_CAP
            if total_length is not None:
                return _wrong_length(size, total_length)
        try:
            text = content.decode()
        except UnicodeDecodeError:
            return _NOT_UTF8
        if not self.senders.take(sender, size, is_answer, not is_answer):
            return OUT_OF_BYTES
        return text, size

    def open(
        self, opened: Opened, sender: Sender, sid: str, now: float, on_end: OnEnd
    ) -> IncomingStream | None:
        """Read a body of which `read_header` knew nothing; None if it has ended already.

        `on_end` is called once, maybe at once, unless the stream is dropped before.
        """
        order, (_, _, inline, _) = next(self._orders), opened[2]
        stream = IncomingStream(opened, sender, sid, now, on_end, order)
        sender.streams[stream.key] = self.streams[order] = stream
        if stream.is_request:
            self.senders.rank(sender)
        if inline is not None and stream.inflater:
            stream.inflater.is_complete = True
            stream.inflater.rest += inline
            self._inflate(stream, stream.inflater, Effort(), now)
            if order not in self.streams:
                return None
        return stream

    def receive_chunk(self, chunk: StreamChunk, origin: Origin, now: float) -> Ignored:
        """The next piece of a body (R25)."""
        stream_id, index, content = chunk
        stream = self.find(origin, stream_id)
        if stream is None:
            return IgnoreReason.UNKNOWN_STREAM
        inflater = stream.inflater
        if inflater and inflater.is_complete:
            return IgnoreReason.REPEAT
        if index != stream.next_index:
            if index < stream.next_index:
                return IgnoreReason.REPEAT
            self._end(stream, Fault(f"chunk {stream.next_index} is missing"))
            return None
        stream.next_index = index + 1
        if inflater:
            inflater.rest += content
            if stream.order in stream.sender.waiting:
                self._wait(stream, inflater, now)
            else:
                self._inflate(stream, inflater, Effort(), now)
        elif content and (fault := self._grow(stream, content, now)) is not None:
            self._end(stream, fault)
        return None

    def receive_trailer(self, trailer: StreamTrailer, origin: Origin, now: float) -> Ignored:
        """The end of a body."""
        stream_id, reason = trailer
        stream = self.find(origin, stream_id)
        if stream is None:
            return IgnoreReason.UNKNOWN_STREAM
        inflater = stream.inflater
        if inflater and inflater.is_complete:
            return IgnoreReason.REPEAT
        if reason:
            self._end(stream, Fault(f"the stream ended early: {reason}"))
        elif inflater and inflater.is_waiting:
            inflater.is_complete = True
        else:
            self._end(stream, stream.end())
        return None

    def sid_learned(self, identity: str, sid: str) -> None:
        """The first sid of `identity` is known: what it is sending goes on under it (R40)."""
        sender = self.senders.by_identity.get(identity)
        if sender is not None:
            streams = sender.streams.values()
            for stream in streams:
                key = sid, stream.key[1]
                if not stream.key[0] and key not in sender.streams:
                    stream.key = key
            sender.streams = {stream.key: stream for stream in streams}

    # what time brings

    def first(self) -> tuple[float, int] | None:
        """The deadline and the order of the stream that ends next unless its body grows (R28)."""
        for stream in self.streams.values():
            return stream.grown_at + self._idle_timeout, stream.order
        return None

    def next_deadline(self, of_others: float | None) -> float:
        """When something is due next, there being a stream."""
        stream = next(iter(self.streams.values()))
        instants = (of_others, stream.grown_at + self._idle_timeout, self.turn_at)
        return min(instant for instant in instants if instant is not None)

    def expire_first(self) -> None:
        """The body of the first stream has not grown for too long (R28)."""
        stream = next(iter(self.streams.values()))
        self._end(stream, Fault(f"no bytes for {self._idle_timeout:g} seconds"))

    def take_turns(self, now: float) -> None:
        """Inflate a mebibyte of what waits, senders in turn (R47)."""
        effort = Effort()
        while self._turns and not effort.is_spent:
            identity, sender = self._turns.popitem(last=False)
            stream = next(iter(sender.waiting.values()))
            assert stream.inflater
            self._inflate(stream, stream.inflater, effort, now)
            if sender.waiting:
                self._turns[identity] = sender
        self.turn_at = now + TURN if self._turns else None

    def drop(self, stream: IncomingStream) -> bool:
        """Nobody wants this body any more; False if it has ended already."""
        if self.streams.pop(stream.order, None) is None:
            return False
        sender = stream.sender
        del sender.streams[stream.key]
        if stream.inflater:
            self._do_not_wait(stream, stream.inflater)
        if stream.received_bytes:
            self.senders.give_back(sender, stream.received_bytes)
        return True

    # within

    def _grow(self, stream: IncomingStream, content: bytes, now: float) -> Fault | None:
        """The next piece of the body itself."""
        size, is_answer = len(content), not stream.is_request
        received, total_length = stream.received_bytes + size, stream.total_length
        if received > (self._max_payload_bytes if total_length is None else total_length):
            if total_length is None or received > self._max_payload_bytes:
                return OVER_CAP
            return _wrong_length(received, total_length)
        if not self.senders.take(stream.sender, size, is_answer, stream=stream):
            return OUT_OF_BYTES
        stream.received_bytes = received
        stream.grown_at = now
        self.streams.move_to_end(stream.order)
        return stream.add_text(content)

    def _inflate(
        self, stream: IncomingStream, inflater: Inflater, effort: Effort, now: float
    ) -> None:
        """Inflate what waits, in steps, so that no bound is passed before it is seen (R28, R47)."""
        while inflater.is_waiting:
            if effort.is_spent:
                self._wait(stream, inflater, now)
                return
            try:
                step = inflater.next_step(effort)
                fault = self._grow(stream, step, now) if step else None
            except InflateError as error:
                fault = Fault(str(error))
            if fault is not None:
                self._end(stream, fault)
                return
        self._do_not_wait(stream, inflater)
        if inflater.is_complete:
            self._end(stream, stream.end())

    def _wait(self, stream: IncomingStream, inflater: Inflater, now: float) -> None:
        """What is left of a stream's input waits for its turn, and counts as held (R47)."""
        sender, more = stream.sender, len(inflater.rest) - inflater.counted_bytes
        if more < 0:
            self.senders.give_back(sender, -more)
        elif not self.senders.take(sender, more, not stream.is_request, stream=stream):
            self._end(stream, OUT_OF_BYTES)
            return
        inflater.counted_bytes += more
        sender.waiting[stream.order] = stream
        self._turns.setdefault(sender.identity, sender)
        if self.turn_at is None:
            self.turn_at = now + TURN

    def _do_not_wait(self, stream: IncomingStream, inflater: Inflater) -> None:
        """Nothing of a stream's input is left to be read."""
        sender = stream.sender
        if sender.waiting.pop(stream.order, None) is None:
            return
        self.senders.give_back(sender, inflater.counted_bytes)
        inflater.counted_bytes = 0
        if not sender.waiting and sender.identity in self._turns:
            del self._turns[sender.identity]
            if not self._turns:
                self.turn_at = None

    def _make_room(self, stream: IncomingStream) -> None:
        self._end(stream, OUT_OF_BYTES)

    def _end(self, stream: IncomingStream, outcome: Body | Fault) -> None:
        """A stream ends, if it has not ended before by making room."""
        if stream.is_request and not isinstance(outcome, Fault):
            stream.received_bytes = 0  # the bytes are the body's from now on
        if self.drop(stream):
            stream.on_end(outcome)
