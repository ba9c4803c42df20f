"""What an engine must do, once more: written from the rules R1 to R42 and nothing else.

Made to be checked by eye. Nothing is fast here, nothing is forgotten, a body is inflated anew for
each chunk, and deadlines are searched for. The model says of each input what it returns, which
events and packets come of it, in order, and what is pending and due afterwards. It leaves out how
a body is cut into packets, and bounds on memory that a short life does not reach.
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
        self.complete = self.too_old = False
        self.peers: dict[str, Peer] = {}
        self.seen: dict[str, set[int]] = {}
        self.calls: dict[str, Call] = {}
        self.over: set[str] = set()
        self.invocations: list[Invocation] = []
        self.answered: list[Invocation] = []
        self.known: set[tuple[str, str, str]] = set()
        self.streams: list[Stream] = []
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
            due.append((call.started + window, call.order, call))
        if self.streams:  # of two that are due at once, the one that has been silent longer
            first = min(self.streams, key=lambda stream: (stream.last, stream.touched))
            due.append((first.last + self.config.stream_idle_timeout, first.order, first))
        return sorted(due, key=lambda each: each[:2])

    @property
    def next_deadline(self) -> float | None:
        return min((each[0] for each in self.due()), default=None)

    def held(self, identity: str | None = None) -> int:
        """Bytes that came in and are not done with (R28)."""
        bodies = [(stream.key[0], len(stream.body)) for stream in self.streams]
        bodies += [(one.key[0], one.held) for one in self.invocations]
        return sum(size for sender, size in bodies if identity in (None, sender))

    def has_room(self, sender: str, size: int) -> bool:
        config = self.config
        return (
            self.held() + size <= config.max_buffered_bytes
            and self.held(sender) + size <= config.max_buffered_bytes_per_sender
        )

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
        known = self.peers.get(identity, Peer("")).sid
        if known and sid and sid != known:
            self.leave(identity, known)
            known = ""
        elif sid and not known:  # R40: what is under way is adopted
            for call in self.calls.values():
                call.sid = sid if call.to == identity else call.sid
            keys = {stream.key for stream in self.streams}
            for stream in self.streams:
                key = (identity, sid, stream.key[2])
                if stream.key[:2] == (identity, "") and key not in keys:
                    stream.key = key
        self.peers[identity] = Peer(sid or known, protocol, deflate and protocol >= 2)

    def left(self, identity: str, sid: str) -> None:
        known = self.peers.get(identity, Peer("")).sid
        if not self.closed and (not (known and sid) or sid == known):
            self.leave(identity, known or sid)

    def leave(self, identity: str, sid: str) -> None:
        self.peers.pop(identity, None)
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
        while (due := self.due()) and due[0][0] <= self.now:
            what = due[0][2]
            if isinstance(what, Stream):
                self.body_failed(what, False)
            elif isinstance(what, Invocation):
                self.abandon(what, AbandonReason.EXPIRED)
            else:
                hurried = not what.acked and what.window < what.timeout
                self.fail_calls(lambda call, due=what: call is due, 1501 if hurried else 1502)

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
            ignored = self.take(packet, sender, sid)
            if ignored is None:
                return
            reason = ignored
        self.ignored[reason] += 1
        if reason not in QUIET:
            self.events.append(PacketIgnored(reason, sender))

    def take(self, packet: DataPacket, sender: str, sid: str) -> IgnoreReason | None:
        destinations = packet.destination_identities
        if destinations and self.identity not in destinations:
            return IgnoreReason.NOT_FOR_US
        if sender == self.identity:
            return IgnoreReason.FROM_OURSELVES
        owners = {peer.sid: identity for identity, peer in self.peers.items() if peer.sid}
        if owners.get(sid, sender) != sender:
            return IgnoreReason.IMPERSONATION
        if packet.sequence and sid in owners:
            seen = self.seen.setdefault(sid, set())
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
        elif not self.has_room(sender, size):
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
        key = (sender, sid, header.stream_id)
        is_open = key in [stream.key for stream in self.streams]
        if header.topic == "lk.rpc_request":
            return self.take_request_header(header, key, id_, is_open)
        call = self.answered_call(id_, sender, sid)
        if not isinstance(call, Call):
            return call
        if call.stream is not None or is_open:
            return IgnoreReason.REPEAT
        if not self.fails_by_header(call, header, key):
            if not header.HasField("inline_content") and not call.acked:
                call.acked = True
                self.events.append(CallAcknowledged(call.id))
            self.open(call, header, key)
        return None

    def take_request_header(
        self, header: Any, key: tuple[str, str, str], id_: str, is_open: bool
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
            if is_open or not is_number:
                self.refuse(one, 1500, "RPC data stream malformed")
            else:
                self.open(one, header, key)
        return None

    def take_chunk(self, chunk: Any, sender: str, sid: str) -> IgnoreReason | None:
        stream = self.stream((sender, sid, chunk.stream_id))
        if stream is None:
            return IgnoreReason.UNKNOWN_STREAM
        if chunk.chunk_index < stream.index:
            return IgnoreReason.REPEAT
        if chunk.chunk_index > stream.index:
            self.body_failed(stream, False)
            return None
        stream.index += 1
        if chunk.content:
            stream.last, stream.touched = self.now, self.number()
            self.grow(stream, chunk.content)
        return None

    def take_trailer(self, trailer: Any, sender: str, sid: str) -> IgnoreReason | None:
        stream = self.stream((sender, sid, trailer.stream_id))
        if stream is None:
            return IgnoreReason.UNKNOWN_STREAM
        if trailer.reason:
            self.body_failed(stream, False)
        else:
            self.finish(stream)
        return None

    def stream(self, key: tuple[str, str, str]) -> Stream | None:
        return next((stream for stream in self.streams if stream.key == key), None)

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
        owner.stream = stream
        self.streams.append(stream)
        if header.HasField("inline_content") and self.grow(stream, header.inline_content):
            self.finish(stream)

    def grow(self, stream: Stream, content: bytes) -> bool:
        """Add to a body (R25, R28); False if it failed."""
        cap = self.config.max_payload_bytes
        stream.raw += content
        body, has_more, is_broken = stream.raw, False, False
        if stream.deflated:
            inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            try:
                body = inflate.decompress(stream.raw, cap + 1)
            except zlib.error:
                body, is_broken = b"", True
            stream.is_ended, has_more = inflate.eof, bool(inflate.unused_data)
        try:
            codecs.getincrementaldecoder("utf-8")().decode(body)
        except UnicodeDecodeError:
            is_broken = True
        if len(body) > cap:
            self.body_failed(stream, True)
        elif has_more or is_broken or len(body) > (cap if stream.total is None else stream.total):
            self.body_failed(stream, False)
        elif not self.has_room(stream.key[0], len(body) - len(stream.body)):
            self.body_failed(stream, False, "too many bytes")
        else:
            stream.body = body
            return True
        return False

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
        self.drop(owner)
        if isinstance(owner, Call):
            self.end_call(owner)
            self.events.append(CallSucceeded(owner.id, text))
        else:
            self.run(owner, text)

    def body_failed(self, stream: Stream, over_cap: bool, data: Any = ANY) -> None:
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
            owner.stream = None

    # calls and invocations

    def answered_call(self, id_: str, sender: str, sid: str) -> Call | IgnoreReason:
        """The call that this participant may answer (R7), or why there is none."""
        call = self.calls.get(id_)
        if call is None:
            return IgnoreReason.LATE if id_ in self.over else IgnoreReason.UNKNOWN_CALL
        same_sid = not (sid and call.sid) or sid == call.sid
        return call if call.to == sender and same_sid else IgnoreReason.WRONG_SENDER

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
        of_caller = running.count(sender)
        if len(running) >= config.max_invocations or of_caller >= config.max_invocations_per_caller:
            self.send_error(one, 1500, data="too many requests")
            return None
        self.invocations.append(one)
        return one

    def run(self, one: Invocation, payload: str) -> None:
        identity, _, id_ = one.key
        if one.method not in self.methods:
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
