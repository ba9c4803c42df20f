"""What an engine must do, once more: written from the rules R1 to R47 and nothing else.

Made to be checked by eye. Nothing is fast here, nothing is forgotten, a body is inflated anew for
each chunk, and deadlines are searched for. The model says of each input what it returns, which
events and packets come of it, in order, and what is pending and due afterwards. It leaves out how
a body is cut into packets, how much compressed input has been read by when, and bounds on memory
that a short life does not reach.
"""

import codecs
import math
import zlib
from collections import Counter
from dataclasses import dataclass
from typing import Any
from unittest.mock import ANY

from google.protobuf.message import DecodeError
from helpers import MESSAGES

from rpcproto import (
    AbandonReason,
    CallAcknowledged,
    CallFailed,
    CallSucceeded,
    IgnoreReason,
    InvocationAbandoned,
    InvocationReceived,
    LocalProtocolError,
    PacketIgnored,
    RpcConfig,
)
from rpcproto.core.packets_pb2 import DataPacket

V1_BYTES = 15_360
MIB = 2**20
TURN = 1_048 / 2**20
"""A millisecond, as R47 has it."""
FORMS = ["chunked", "inline", "deflated"]
QUIET = {
    IgnoreReason.UNKNOWN_STREAM, IgnoreReason.REPEAT, IgnoreReason.LATE, IgnoreReason.UNKNOWN_KIND,
}  # fmt: skip
ID_FIELDS = {
    "rpc_request": "id", "rpc_ack": "request_id", "rpc_response": "request_id",
    "stream_header": "stream_id", "stream_chunk": "stream_id", "stream_trailer": "stream_id",
}  # fmt: skip


class OneOf(frozenset[Any]):
    """Equal to each of its members."""

    def __eq__(self, other: object) -> bool:
        return other in self

    __hash__ = frozenset.__hash__


@dataclass(eq=False)
class Peer:
    sid: str
    protocol: int = 0
    deflate: bool = False

    @property
    def forms(self) -> OneOf:
        """The forms in which a body may be sent to it (R17, R29)."""
        return OneOf(FORMS[: 3 if self.deflate else 2] if self.protocol >= 2 else FORMS[:1])


@dataclass(eq=False)
class Stream:
    owner: "Call | Invocation"
    key: tuple[str, str, str]
    order: int
    last: float
    touched: int
    total: int | None
    deflated: bool
    index: int = 0
    raw: bytes = b""
    body: bytes = b""
    is_ended: bool = False
    """Whether the final block of a compressed body has come."""
    looked_at: int = 0
    barren: int = 0
    """Compressed input in a row that has yielded nothing (R47)."""
    waits_since: int = 0
    """When it began to wait for its turn, counted; 0 while nothing of it waits (R47)."""
    has_trailer: bool = False
    """Whether all of it has come."""
    is_over: bool = False


@dataclass(eq=False)
class Call:
    id: str
    order: int
    to: str
    sid: str
    started: float
    window: float
    timeout: float
    acked: bool = False
    stream: Stream | None = None
    left_at: float | None = None
    """When its recipient left; it is in grace then (R9)."""
    returned: bool = False
    """Whether that identity was announced again."""

    def may_be_answered_by(self, sender: str, sid: str) -> bool:
        """R7, and R9 after a departure."""
        if self.returned:
            return (sender, sid) == (self.to, self.sid) and sid != ""
        return sender == self.to and (not (sid and self.sid) or sid == self.sid)


@dataclass(eq=False)
class Invocation:
    key: tuple[str, str, str]
    order: int
    started: float
    lifetime: float
    method: str
    timeout_ms: int
    streamed: bool
    stream: Stream | None = None
    number: int = 0
    """What the host knows it by; 0 until it was told."""
    held: int = 0
    can_fail: bool = False
    """Whether it was answered, and the answer can still turn out not to have been sent (R10)."""


class Model:
    def __init__(self, identity: str, config: RpcConfig, methods: set[str]) -> None:
        self.identity, self.config, self.methods = identity, config, methods
        self.now = -1e300
        self.connected, self.closed = True, False
        self.complete = self.too_old = self.hands_over = False
        self.peers: dict[str, Peer] = {}
        self.seen: dict[tuple[str, str], set[int]] = {}
        self.calls: dict[str, Call] = {}
        self.over: set[str] = set()
        self.invocations: list[Invocation] = []
        self.answered: list[Invocation] = []
        self.known: set[tuple[str, str, str]] = set()
        self.streams: list[Stream] = []
        self.turns: list[str] = []
        """The senders of whom something waits to be inflated, in turn (R47)."""
        self.turn_at = math.inf
        self.ignored: Counter[IgnoreReason] = Counter()
        self.count = 0
        self.events: list[Any] = []
        self.packets: list[tuple[tuple[Any, ...], object]] = []
        """What must leave, each with the call or the invocation that it fails if it cannot."""

    def tick(self, now: float) -> None:
        self.now = max(self.now, now)

    def number(self) -> int:
        self.count += 1
        return self.count

    # what is due, and what is held

    def due(self) -> list[tuple[float, int, Any]]:
        due: list[tuple[float, int, Any]] = [
            (one.started + one.lifetime, one.order, one) for one in self.invocations
        ]
        for call in self.calls.values():
            window = call.timeout if call.acked else min(call.window, call.timeout)
            ends = call.started + window
            if call.left_at is not None:
                ends = min(ends, call.left_at + self.config.departure_grace)
            due.append((ends, call.order, call))
        if self.streams:  # of two that are due at once, the one that has not grown for longer
            first = min(self.streams, key=lambda stream: (stream.last, stream.touched))
            due.append((first.last + self.config.stream_idle_timeout, first.order, first))
        return sorted(due, key=lambda each: each[:2])

    @property
    def next_deadline(self) -> float | None:
        deadline = min([self.turn_at, *(each[0] for each in self.due())])
        return None if deadline == math.inf else deadline

    def held(self, identity: str | None = None) -> int:
        """Bytes of bodies that came in and are not done with (R28)."""
        bodies = [(stream.key[0], len(stream.body)) for stream in self.streams]
        bodies += [(one.key[0], one.held) for one in self.invocations]
        return sum(size for sender, size in bodies if identity in (None, sender))

    @property
    def waiting(self) -> int:
        """The most that compressed input which waits can count in addition (R47)."""
        return sum(len(stream.raw) for stream in self.streams if stream.waits_since)

    def has_room(self, sender: str, size: int, is_answer: bool) -> bool:
        """Whether so many bytes more fit, seven eighths of them being for all (R28)."""
        bound = self.config.max_buffered_bytes
        total, held = self.held() + size, self.held(sender) + size
        if size == 0 or total <= without_reserve(bound):
            return True
        return total <= bound and (is_answer or held * 64 < bound)

    def make_room(
        self, sender: str, size: int, is_answer: bool = False, stream: Stream | None = None
    ) -> bool:
        """Let half-read requests fail until so many bytes more fit, if they can (R28). They may be
        for `stream`, which may be the one that fails."""
        if self.held(sender) + size > self.config.max_buffered_bytes_per_sender:
            return False
        while not self.has_room(sender, size, is_answer):
            requests = [each for each in self.streams if isinstance(each.owner, Invocation)]
            oldest = {each.key[0]: each.order for each in reversed(requests)}
            fullest = max(oldest, key=lambda one: (self.held(one), -oldest[one]), default=None)
            if fullest is None:
                return False
            if fullest != sender and self.held(fullest) < self.held(sender) + size:
                return False
            failing = [each for each in requests if each.key[0] == fullest][-1]
            self.body_failed(failing, False, "too many bytes")
            if failing is stream:
                return False
        return True

    # what the application wants

    def call(
        self, id_: str, to: str, method: str, payload: str, timeout: float, window: float
    ) -> type[LocalProtocolError] | None:
        if not self.connected or len(self.calls) >= self.config.max_pending_calls:
            return LocalProtocolError
        peer = self.peers.get(to, Peer(""))
        size, streams = len(payload.encode()), peer.protocol >= 1
        if self.too_old:
            self.events.append(failed(id_, 1403))
        elif to == self.identity or (self.complete and to not in self.peers):
            self.events.append(failed(id_, 1401))
        elif size > (self.config.max_payload_bytes if streams else V1_BYTES):
            self.events.append(failed(id_, 1402))
        else:
            call = Call(id_, self.number(), to, peer.sid, self.now, window, timeout)
            self.calls[id_] = call
            ms = max(round(min((timeout - self.config.latency_allowance) * 1000, 2**32 - 1)), 1000)
            request: tuple[Any, ...] = ("request", to, id_, payload, method, ms, 1)
            if streams:
                request = (peer.forms, to, id_, payload, method, str(ms), "2")
            self.packets.append((request, call))
        return None

    def cancel(self, id_: str) -> bool:
        if id_ not in self.calls:
            return False
        self.end_call(self.calls[id_])
        return True

    def respond(self, number: int, payload: str) -> bool:
        one = self.running(number)
        if one is None:
            return False
        identity, sid, id_ = one.key
        size, peer = len(payload.encode()), self.peers.get(identity, Peer(""))
        if sid and peer.sid and sid != peer.sid:
            peer = Peer(sid)
        self.end_invocation(one)
        small = size <= V1_BYTES and not one.streamed
        if size > self.config.max_payload_bytes or not (small or one.streamed or peer.protocol):
            self.send_error(one, 1504)
            return True
        form = "response" if small else peer.forms
        one.can_fail = True
        self.answered.append(one)
        self.packets.append(((form, identity, id_, payload), one))
        return True

    def respond_error(self, number: int, code: int, message: str, data: str) -> bool:
        one = self.running(number)
        if one is None:
            return False
        self.end_invocation(one)
        self.send_error(one, code, message, data)
        return True

    # what happened outside

    def joined(self, identity: str, sid: str, protocol: int, deflate: bool) -> None:
        if self.closed:
            return
        if identity not in self.peers and len(self.peers) >= self.config.max_participants:
            self.complete = False
            return
        if any(peer.sid == sid != "" and who != identity for who, peer in self.peers.items()):
            sid = ""
        known = self.peers.get(identity, Peer("")).sid
        if known and sid and sid != known:
            self.leave(identity, known)
            known = ""
        elif sid and not known:  # R40: what is under way is adopted
            for call in self.calls.values():
                if call.to == identity and call.left_at is None:
                    call.sid = sid
            keys = {stream.key for stream in self.streams}
            for stream in self.streams:
                key = (identity, sid, stream.key[2])
                if stream.key[:2] == (identity, "") and key not in keys:
                    stream.key = key
        for call in self.calls.values():  # R9: calls to who left before are another's
            if call.to == identity and call.left_at is not None:
                call.returned = True
                if not call.sid:
                    self.drop(call)
        self.peers[identity] = Peer(sid or known, protocol, deflate and protocol >= 2)

    def left(self, identity: str, sid: str) -> None:
        known = self.peers.get(identity, Peer("")).sid
        if not self.closed and (not (known and sid) or sid == known):
            self.leave(identity, known or sid)

    def leave(self, identity: str, sid: str) -> None:
        self.peers.pop(identity, None)
        if self.config.departure_grace:
            for call in self.calls.values():
                if call.to == identity and call.left_at is None:
                    call.left_at = self.now
        else:
            self.fail_calls(lambda call: call.to == identity, 1503)
        for one in [*self.invocations, *self.answered]:
            if one.key[0] == identity and (not sid or one.key[1] in ("", sid)):
                self.abandon(one, AbandonReason.CALLER_LEFT)

    def everyone_leaves(self, reason: AbandonReason) -> None:
        self.peers.clear()
        self.fail_calls(lambda call: True, 1503)
        for one in [*self.invocations, *self.answered]:
            self.abandon(one, reason)

    def connect(self, too_old: bool, complete: bool) -> None:
        if not self.closed:
            self.connected, self.too_old, self.complete = True, too_old, complete

    def disconnect(self) -> None:
        if not self.closed:
            self.connected = False
            self.everyone_leaves(AbandonReason.DISCONNECTED)

    def close(self) -> None:
        if not self.closed:
            self.connected, self.closed = False, True
            self.everyone_leaves(AbandonReason.CLOSED)

    def send_failed(self, owner: object) -> None:
        if self.closed:
            return
        if isinstance(owner, Call):
            self.fail_calls(lambda call: call is owner, 1505)
        elif isinstance(owner, Invocation) and owner.can_fail:
            owner.can_fail = False
            self.send_error(owner, 1505)

    def handle_deadline(self) -> None:
        while (next_deadline := self.next_deadline) is not None and next_deadline <= self.now:
            if next_deadline == self.turn_at:
                self.take_turns()
                continue
            what = self.due()[0][2]
            if isinstance(what, Stream):
                self.body_failed(what, False)
            elif isinstance(what, Invocation):
                self.abandon(what, AbandonReason.EXPIRED)
            else:
                hurried = not what.acked and what.window < what.timeout
                code = 1501 if hurried else 1502
                code = code if what.left_at is None else 1503
                self.fail_calls(lambda call, due=what: call is due, code)

    # packets

    def receive(self, data: bytes, host_says: str | None, sid_said: str | None) -> None:
        if self.closed:
            return
        reason, sender = IgnoreReason.MALFORMED, host_says or ""
        if len(data) > self.config.max_packet_bytes:
            reason = IgnoreReason.TOO_LARGE
        elif not self.connected:
            reason = IgnoreReason.DISCONNECTED
        elif (packet := parsed(data)) is not None:
            sender, sid = packet.participant_identity, packet.participant_sid
            if host_says is not None:
                sender, sid = host_says, sid_said or ""
            ignored = self.take(packet, sender, sid, host_says is None)
            if ignored is None:
                return
            reason = ignored
        self.ignored[reason] += 1
        if reason not in QUIET:
            self.events.append(PacketIgnored(reason, sender))

    def take(
        self, packet: DataPacket, sender: str, sid: str, may_be_false: bool
    ) -> IgnoreReason | None:
        destinations = packet.destination_identities[:1_024]
        if destinations and self.identity not in destinations:
            return IgnoreReason.NOT_FOR_US
        if sender == self.identity:
            return IgnoreReason.FROM_OURSELVES
        owners = {peer.sid: identity for identity, peer in self.peers.items() if peer.sid}
        if may_be_false and owners.get(sid, sender) != sender:
            return IgnoreReason.IMPERSONATION
        if packet.sequence and owners.get(sid) == sender:
            seen = self.seen.setdefault((sender, sid), set())
            lowest = max(seen, default=0) - self.config.sequence_window
            if packet.sequence in seen or packet.sequence <= lowest:
                return IgnoreReason.REPEAT
            seen.add(packet.sequence)
        kind = packet.WhichOneof("value")
        if kind not in ID_FIELDS:
            encrypted = kind == "encrypted_packet"
            return IgnoreReason.ENCRYPTED if encrypted else IgnoreReason.UNKNOWN_KIND
        if sender in self.peers:
            sid = sid or self.peers[sender].sid
        take = getattr(self, f"take_{kind.removeprefix('rpc_').removeprefix('stream_')}")
        return take(getattr(packet, kind), sender, sid)  # type: ignore[no-any-return]

    def take_request(self, request: Any, sender: str, sid: str) -> IgnoreReason | None:
        ms = request.response_timeout_ms
        one = self.admit(sender, sid, request.id, request.method, ms, streamed=False)
        if not isinstance(one, Invocation):
            return one
        size = len(request.payload.encode())
        if request.version != 1:
            self.refuse(one, 1404)
        elif request.compressed_payload:
            self.refuse(one, 1500, ANY)
        elif size > self.config.max_payload_bytes:
            self.refuse(one, 1402)
        elif not self.make_room(sender, size):
            self.refuse(one, 1500, "too many bytes")
        else:
            self.run(one, request.payload)
        return None

    def take_ack(self, ack: Any, sender: str, sid: str) -> IgnoreReason | None:
        call = self.answered_call(ack.request_id, sender, sid)
        if not isinstance(call, Call):
            return call
        if call.acked:
            return IgnoreReason.REPEAT
        call.acked = True
        self.events.append(CallAcknowledged(call.id))
        return None

    def take_response(self, response: Any, sender: str, sid: str) -> IgnoreReason | None:
        call = self.answered_call(response.request_id, sender, sid)
        if not isinstance(call, Call):
            return call
        value, error = response.WhichOneof("value"), response.error
        self.end_call(call)
        if value == "error":
            self.events.append(failed(call.id, error.code, error.message, error.data))
        elif value != "payload":
            self.events.append(failed(call.id, 1500, data=ANY))
        elif len(response.payload.encode()) > self.config.max_payload_bytes:
            self.events.append(failed(call.id, 1504))
        else:
            self.events.append(CallSucceeded(call.id, response.payload))
        return None

    def take_header(self, header: Any, sender: str, sid: str) -> IgnoreReason | None:
        id_ = header.attributes.get("lk.rpc_request_id", "")
        if header.topic not in ("lk.rpc_request", "lk.rpc_response"):
            return IgnoreReason.UNKNOWN_TOPIC
        if header.text_header.generated:
            return IgnoreReason.IMPERSONATION
        if not 1 <= len(id_.encode()) <= 128:
            return IgnoreReason.MALFORMED
        if header.topic == "lk.rpc_request":
            return self.take_request_header(header, (sender, sid, header.stream_id), id_)
        call = self.answered_call(id_, sender, sid)
        if not isinstance(call, Call):
            return call
        if call.left_at is not None:
            sid = sid or call.sid  # R31
        key = (sender, sid, header.stream_id)
        if call.stream is not None or self.stream(key):
            return IgnoreReason.REPEAT
        if not self.fails_by_header(call, header, key):
            self.open(call, header, key)
            if self.stream(key) is not None and not call.acked:  # R4
                call.acked = True
                self.events.append(CallAcknowledged(call.id))
        return None

    def take_request_header(
        self, header: Any, key: tuple[str, str, str], id_: str
    ) -> IgnoreReason | None:
        text = header.attributes.get("lk.rpc_request_response_timeout_ms", "15000")
        is_number = text.isascii() and text.isdigit() and len(text) <= 20
        ms = min(int(text), 2**32 - 1) if is_number else 0
        method = header.attributes.get("lk.rpc_request_method", "")
        one = self.admit(key[0], key[1], id_, method, ms, streamed=True)
        if not isinstance(one, Invocation):
            return one
        if header.attributes.get("lk.rpc_request_version") != "2":
            self.refuse(one, 1404)
        elif not self.fails_by_header(one, header, key):
            if self.stream(key) or not is_number:
                self.refuse(one, 1500, "RPC data stream malformed")
            else:
                self.open(one, header, key)
        return None

    def take_chunk(self, chunk: Any, sender: str, sid: str) -> IgnoreReason | None:
        stream = self.stream_of_part(sender, sid, chunk.stream_id)
        if stream is None:
            return IgnoreReason.UNKNOWN_STREAM
        if chunk.chunk_index < stream.index or stream.has_trailer:
            return IgnoreReason.REPEAT
        if chunk.chunk_index > stream.index:
            self.body_failed(stream, False)
            return None
        stream.index += 1
        stream.raw += chunk.content
        if chunk.content and not stream.waits_since:
            self.grow(stream, MIB)
        return None

    def take_trailer(self, trailer: Any, sender: str, sid: str) -> IgnoreReason | None:
        stream = self.stream_of_part(sender, sid, trailer.stream_id)
        if stream is None:
            return IgnoreReason.UNKNOWN_STREAM
        if stream.has_trailer:
            return IgnoreReason.REPEAT
        if trailer.reason:
            self.body_failed(stream, False)
        elif stream.waits_since:
            stream.has_trailer = True
        else:
            self.finish(stream)
        return None

    def stream(self, key: tuple[str, str, str]) -> Stream | None:
        return next((stream for stream in self.streams if stream.key == key), None)

    def stream_of_part(self, sender: str, sid: str, stream_id: str) -> Stream | None:
        """The stream that a chunk or trailer belongs to; without a sid it may be an answer under
        the sid that was called (R31)."""
        stream = self.stream((sender, sid, stream_id))
        for call in self.calls.values() if stream is None and not sid else ():
            if (call.to, call.returned) == (sender, False) and call.left_at is not None:
                answer = self.stream((sender, call.sid, stream_id))
                if answer is not None and isinstance(answer.owner, Call):
                    return answer
        return stream

    # bodies that come in

    def fails_by_header(self, owner: Call | Invocation, header: Any, key: Any) -> bool:
        """R27, what is common to both topics."""
        over_cap = header.total_length > self.config.max_payload_bytes
        malformed = header.WhichOneof("content_header") != "text_header" or (
            header.compression not in (0, 1)
        )
        if over_cap or malformed:
            stream = Stream(owner, key, 0, 0, 0, None, False)
            self.body_failed(stream, over_cap, "" if over_cap else "RPC data stream malformed")
        return over_cap or malformed

    def open(self, owner: Call | Invocation, header: Any, key: tuple[str, str, str]) -> None:
        total = header.total_length if header.HasField("total_length") else None
        order, deflated = self.number(), header.compression == 1
        stream = Stream(owner, key, order, self.now, order, total, deflated)
        if header.HasField("inline_content"):
            stream.raw, stream.has_trailer = header.inline_content, True
            self.grow(stream, MIB)
        if not stream.is_over:
            owner.stream = stream
            self.streams.append(stream)

    def grow(self, stream: Stream, most: int) -> int:
        """Add to a body what has come of it (R25, R28), but inflate no more than `most` bytes;
        returns how many were inflated (R47)."""
        cap, total = self.config.max_payload_bytes, stream.total
        body, has_more, is_broken, is_spent = stream.raw, False, False, False
        if stream.deflated:
            allowed = len(stream.body) + most
            inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            try:
                body = inflate.decompress(stream.raw, allowed)
            except zlib.error:
                body, is_broken = b"", True
            stream.is_ended, has_more = inflate.eof, bool(inflate.unused_data)
            is_spent = len(body) == allowed and (has_more or not inflate.eof)
        is_whole, is_text = stream.has_trailer and not is_spent, True
        try:
            codecs.getincrementaldecoder("utf-8")().decode(body, final=is_whole)
        except UnicodeDecodeError:
            is_text = False
        grown = len(body) - len(stream.body)
        stream.barren = 0 if grown else stream.barren + len(stream.raw) - stream.looked_at
        stream.looked_at = len(stream.raw)
        is_broken |= is_whole and (not is_text or len(body) < (total or 0))
        is_broken |= stream.deflated and stream.barren > 4 * 1_024
        if len(body) > cap:
            self.body_failed(stream, True)
        elif is_broken or len(body) > (cap if total is None else total):
            self.body_failed(stream, False)
        elif not self.make_room(stream.key[0], grown, isinstance(stream.owner, Call), stream):
            self.body_failed(stream, False, "too many bytes")
        elif not is_text or (has_more and not is_spent):
            self.body_failed(stream, False)
        else:
            stream.body = body
            if grown:
                stream.last, stream.touched = self.now, self.number()
            self.wait(stream, is_spent)
            if stream.has_trailer and not is_spent:
                self.finish(stream)
        return grown

    def wait(self, stream: Stream, waits: bool) -> None:
        """What is left of a stream waits for its turn, or nothing does (R47)."""
        sender = stream.key[0]
        stream.waits_since = (stream.waits_since or self.number()) if waits else 0
        if waits and sender not in self.turns:
            self.turns.append(sender)
            self.turn_at = min(self.turn_at, self.now + TURN)
        elif not waits and sender in self.turns and not self.waiting_of(sender):
            self.turns.remove(sender)
        if not self.turns:
            self.turn_at = math.inf

    def waiting_of(self, sender: str) -> list[Stream]:
        """The streams of a sender of which something waits, by when they began to."""
        waiting = [each for each in self.streams if each.key[0] == sender and each.waits_since]
        return sorted(waiting, key=lambda each: each.waits_since)

    def take_turns(self) -> None:
        """Inflate a mebibyte, senders in turn (R47)."""
        left = MIB
        while self.turns and left:
            sender = self.turns.pop(0)
            left -= self.grow(self.waiting_of(sender)[0], left)
            if self.waiting_of(sender) and sender not in self.turns:
                self.turns.append(sender)
        self.turn_at = self.now + TURN if self.turns else math.inf

    def finish(self, stream: Stream) -> None:
        has_end = not stream.deflated or stream.is_ended or stream.total is not None
        try:
            text = stream.body.decode()
        except UnicodeDecodeError:
            has_end = False
        if not has_end or len(stream.body) < (stream.total or 0):
            self.body_failed(stream, False)
            return
        owner = stream.owner
        stream.is_over = True
        self.drop(owner)
        if isinstance(owner, Call):
            self.end_call(owner)
            self.events.append(CallSucceeded(owner.id, text))
        else:
            self.run(owner, text)

    def body_failed(self, stream: Stream, over_cap: bool, data: Any = ANY) -> None:
        if stream.is_over:
            return
        stream.is_over = True
        owner = stream.owner
        data = "" if over_cap else data
        if isinstance(owner, Call):
            self.end_call(owner)
            self.events.append(failed(owner.id, 1504 if over_cap else 1500, data=data))
        else:
            self.refuse(owner, 1402 if over_cap else 1500, data)

    def drop(self, owner: Call | Invocation) -> None:
        if owner.stream is not None:
            self.streams.remove(owner.stream)
            self.wait(owner.stream, False)
            owner.stream = None

    # calls and invocations

    def answered_call(self, id_: str, sender: str, sid: str) -> Call | IgnoreReason:
        """The call that this participant may answer (R7), or why there is none."""
        call = self.calls.get(id_)
        if call is None:
            return IgnoreReason.LATE if id_ in self.over else IgnoreReason.UNKNOWN_CALL
        return call if call.may_be_answered_by(sender, sid) else IgnoreReason.WRONG_SENDER

    def end_call(self, call: Call) -> None:
        self.drop(call)
        del self.calls[call.id]
        self.over.add(call.id)

    def fail_calls(self, which: Any, code: int) -> None:
        for call in [call for call in self.calls.values() if which(call)]:
            self.end_call(call)
            self.events.append(failed(call.id, code))

    def admit(
        self, sender: str, sid: str, id_: str, method: str, ms: int, *, streamed: bool
    ) -> Invocation | IgnoreReason | None:
        """Ack a request and give it a slot (R15, R16, R22)."""
        if not sender:
            return IgnoreReason.NO_SENDER
        self.packets.append((("ack", sender, id_), None))
        key, config = (sender, sid, id_), self.config
        if key in self.known:
            return IgnoreReason.REPEAT
        self.known.add(key)
        patience = math.ceil((ms / 1000 + config.invocation_grace) * 2**20) / 2**20  # for L10
        lifetime = min(patience, config.max_invocation_lifetime)
        one = Invocation(key, self.number(), self.now, lifetime, method, ms, streamed)
        running = [other.key[0] for other in self.invocations]
        in_all, of_caller, bound = len(running), running.count(sender), config.max_invocations
        is_reserved = in_all >= without_reserve(bound) and (of_caller + 1) * 64 >= bound
        if is_reserved or in_all >= bound or of_caller >= config.max_invocations_per_caller:
            self.send_error(one, 1500, data="too many requests")
            return None
        self.invocations.append(one)
        return one

    def run(self, one: Invocation, payload: str) -> None:
        identity, _, id_ = one.key
        hands_over = self.hands_over and 1 <= len(one.method.encode()) <= 64
        if one.method not in self.methods and not hands_over:  # R15
            self.refuse(one, 1400)
            return
        one.held = len(payload.encode())
        one.number = -1  # the real one is known when the host is told
        timeout = one.timeout_ms / 1000
        self.events.append(InvocationReceived(ANY, id_, identity, one.method, payload, timeout))

    def running(self, number: int) -> Invocation | None:
        return next((one for one in self.invocations if one.number == number > 0), None)

    def refuse(self, one: Invocation, code: int, data: Any = "") -> None:
        self.end_invocation(one)
        self.send_error(one, code, data=data)

    def abandon(self, one: Invocation, reason: AbandonReason) -> None:
        one.can_fail = False
        if one in self.invocations:
            self.end_invocation(one)
            if one.number:
                self.events.append(InvocationAbandoned(one.number, reason))

    def end_invocation(self, one: Invocation) -> None:
        self.drop(one)
        self.invocations.remove(one)

    def send_error(self, one: Invocation, code: int, message: str = "", data: Any = "") -> None:
        identity, _, id_ = one.key
        error = failed(id_, code, message, data)
        self.packets.append((("error", identity, *error), None))


def failed(id_: str, code: int, message: str = "", data: Any = "") -> CallFailed:
    """An error as both sides show it (R18)."""
    message, data = cut(message, 256) or MESSAGES.get(code, ""), cut(data, V1_BYTES)
    return CallFailed(id_, code, message, data)


def without_reserve(bound: int) -> int:
    """What of a bound in all is for everybody (R28)."""
    return bound - bound // 8


def cut(text: Any, size: int) -> Any:
    while text is not ANY and len(text.encode()) > size:
        text = text[:-1] if len(text) <= size else text[:size]
    return text


def parsed(data: bytes) -> DataPacket | None:
    """The packet, if it is one, with ids and names of a length that can be (R28)."""
    try:
        packet = DataPacket.FromString(data)
    except (DecodeError, ValueError):
        return None
    kind = packet.WhichOneof("value")
    id_ = getattr(getattr(packet, kind), ID_FIELDS[kind]) if kind in ID_FIELDS else "any"
    names = (packet.participant_identity, packet.participant_sid)
    is_fine = 1 <= len(id_.encode()) <= 128 and all(len(name.encode()) <= 256 for name in names)
    return packet if is_fine else None
