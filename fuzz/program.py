"""Bytes as a program of inputs to an engine, which must keep its laws.

After each input: what is open, waiting or buffered is within the bounds (L14); there is a deadline
exactly when something is open (L8), before which `handle_deadline` does nothing (L6), and after
which the next one is later (L7); packets never raise, and what raises has changed nothing (L5). In
the end every call has ended exactly once (L4).
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fuzz.choices import Choices, with_new
from fuzz.inputs import (
    CONFIG,
    CONTENTS,
    GRACES,
    HEADERS,
    MAX_EVENTS,
    MAX_PACKETS,
    MAX_WAITING_BYTES,
    METHODS,
    MISUSES,
    PAYLOADS,
    PEERS,
    REQUEST_IDS,
    SECONDS,
    SIDS,
    STREAM_IDS,
    TIMEOUTS,
    US,
)
from rpcproto import (
    CallAcknowledged,
    CallFailed,
    CallSucceeded,
    InvocationAbandoned,
    InvocationReceived,
    LocalProtocolError,
    OutgoingPacket,
    RpcEngine,
    Statistics,
    wire,
)
from rpcproto.core.packets_pb2 import DataPacket, EncryptedPacketPayload
from rpcproto.testing import ToyCryptor, counting_ids
from rpcproto.wire import Sealed, Unread

MAX_OPS = 60


def test_one_input(data: bytes) -> None:
    choices, size = Choices(data), len(data)
    run = Run(choices, GRACES[size % len(GRACES)], size % 4 == 3, size % 8 == 7)
    for _ in range(MAX_OPS):
        if choices.are_over:
            break
        choices.of(OPS)(run)
        run.check()
    run.finish()


def ring_of(identity: str) -> ToyCryptor:
    made = ToyCryptor(identity)
    made.set_shared_key(bytes(16))
    return made


def seal(packet: DataPacket) -> None:
    """Seal what is in the packet, if that can be sealed."""
    which, payload = packet.WhichOneof("value"), EncryptedPacketPayload()
    if which is None or which not in payload.DESCRIPTOR.fields_by_name:
        return
    getattr(payload, which).CopyFrom(getattr(packet, which))
    sealed = ring_of("bob").seal(payload.SerializeToString())
    packet.ClearField(which)
    packet.encrypted_packet.iv = sealed.iv
    packet.encrypted_packet.encrypted_value = sealed.ciphertext


class Run:
    """One engine, and what has been asked of it and heard from it."""

    def __init__(
        self, choices: Choices, departure_grace: float, is_sealed: bool, accepts_plain: bool
    ) -> None:
        self.choices = choices
        self.now = 100.0
        config = replace(
            CONFIG, departure_grace=departure_grace, accept_plain_packets=accepts_plain
        )
        self.ring = ring_of(US) if is_sealed else None
        self.engine = RpcEngine(US, new_id=counting_ids(), config=config, cryptor=self.ring)
        self.engine_accepts_plain = accepts_plain
        self.engine.register_method("greet")
        self.calls: list[str] = []
        self.ends: Counter[str] = Counter()
        self.heard_of: set[str] = set()
        """Calls that were acknowledged, or have ended: no acknowledgement comes now."""
        self.invocations: list[int] = []
        self.running: dict[int, str] = {}
        """Invocations by their callers."""
        self.taken: list[OutgoingPacket] = []
        self.chunks: Counter[str] = Counter()
        """Of each stream id, how many chunks have come since the last header."""
        self.has_called_many = self.has_been_crowded = False
        self.last: tuple[bytes | memoryview, str | None] = b"", None
        self.before = self.appearance()
        """How it looked after the last input."""

    def appearance(self) -> tuple[float | None, Statistics]:
        return self.engine.next_deadline, self.engine.statistics()

    def local(self, method: str, *args: object, **more: object) -> object:
        """What the application wants; None if it cannot be, and then nothing has changed (L5)."""
        return self.attempt(lambda: getattr(self.engine, method)(*args, **more, now=self.now))

    def attempt(self, act: Callable[[], object]) -> object:
        try:
            return act()
        except LocalProtocolError:
            assert self.appearance() == self.before
            return None

    def peer(self) -> str:
        peer = self.choices.of(PEERS)
        return f"peer-{self.choices.byte() % 100}" if peer == "one of many" else peer

    def recent(self, items: list[Any]) -> Any:
        """One of those that were last, or None if there is none."""
        return items[-1 - self.choices.byte() % min(len(items), 8)] if items else None

    # what the application wants

    def call(self) -> None:
        of = self.choices.of
        destination, method, payload = self.peer(), of(METHODS), of(PAYLOADS)
        more: dict[str, object] = {}
        if self.choices.flag():
            more = {"response_timeout": of(TIMEOUTS), "ack_timeout": of(TIMEOUTS)}
        request_id = self.local("call", destination, method, payload, **more)
        if isinstance(request_id, str):
            self.calls.append(request_id)

    def check_call(self) -> None:
        """It changes nothing, and raises for what `call` raises for."""
        of = self.choices.of
        destination, payload = self.peer(), of(("hi", "", "\ud800"))
        method, timeouts = of((*METHODS, "\ud800")), of(((None, None), (1.0, 7.0), (0.0, 1.0)))
        more = dict(zip(("response_timeout", "ack_timeout"), timeouts, strict=True))
        is_good = True
        try:
            self.engine.check_call(destination, method, payload, **more)
        except LocalProtocolError:
            is_good = False
        assert self.appearance() == self.before
        if not is_good:
            assert self.local("call", destination, method, payload, **more) is None

    def cancel(self) -> None:
        request_id = self.recent(self.calls) or "no call"
        if self.local("cancel", request_id):
            self.ends[request_id] += 1

    def call_many(self) -> None:
        """Calls that are given up at once: what is kept of them is swept out now and then. Once
        only, for it takes long."""
        timeouts = self.choices.of(((None,), (1.0,), (None, *map(float, range(1, 40)))))
        for number in range(0 if self.has_called_many else 100):
            timeout = timeouts[number % len(timeouts)]
            request_id = self.local("call", "bob", "greet", "", response_timeout=timeout)
            if not isinstance(request_id, str):
                break
            self.calls.append(request_id)
            self.before = self.appearance()
            self.ends[request_id] += bool(self.local("cancel", request_id))
            self.engine.next_packet()
            self.before = self.appearance()
        self.has_called_many = True

    def respond(self) -> None:
        invocation_id = self.recent(self.invocations) or 0
        if self.local("respond", invocation_id, self.choices.of(PAYLOADS)):
            del self.running[invocation_id]

    def respond_error(self) -> None:
        of, invocation_id = self.choices.of, self.recent(self.invocations) or 0
        code, message, data = of((2001, 1500, 0, 2**32 - 1)), of(PAYLOADS), of(PAYLOADS)
        if self.local("respond_error", invocation_id, code, message, data):
            del self.running[invocation_id]

    def misuse(self) -> None:
        try:
            self.choices.of(MISUSES)(self.engine)
        except LocalProtocolError:
            assert self.appearance() == self.before
        else:
            raise AssertionError("misuse did not raise")

    def change_methods(self) -> None:
        if self.choices.flag():
            self.engine.unregister_method("greet")
        else:
            self.attempt(lambda: self.engine.register_method("greet"))

    def hand_over(self) -> None:
        """Whether the host gets requests for methods that nobody registered."""
        value = self.engine.hand_over_unknown_methods = self.choices.flag()
        assert self.engine.hand_over_unknown_methods is value
        assert self.appearance() == self.before

    # packets

    def receive(self, **fields: Any) -> None:
        """A packet in which all may be well; the first choices of it mean that it is."""
        choices = self.choices
        peer, way = self.peer(), choices.byte()
        more: dict[str, Any] = {}
        if way & 1:
            more["participant_sid"] = choices.of(SIDS)
        if way & 2:
            more["sequence"] = choices.byte()
        destinations = ((US,), (US,), (US,), (), ("carol",), ("carol", US))[way // 4 % 6]
        packet = DataPacket(
            participant_identity=peer, destination_identities=destinations, **more, **fields
        )
        if self.ring is not None and not way & 64:
            seal(packet)
        self.receive_bytes(packet.SerializeToString(), peer if way & 128 else None)

    def receive_bytes(self, data: bytes | memoryview, host_says: str | None = None) -> None:
        self.last = data, host_says
        self.engine.receive_packet(data, now=self.now, sender_identity=host_says)

    def receive_request(self) -> None:
        of = self.choices.of
        request = {
            "id": of(REQUEST_IDS),
            "method": of(METHODS),
            "payload": of(PAYLOADS),
            "response_timeout_ms": of((8_000, 0, 1_000, 2**32 - 1)),
            "version": of((1, 1, 1, 1, 0, 2)),
            "compressed_payload": of((b"", b"", b"", b"x")),
        }
        self.receive(rpc_request=request)

    def receive_answer(self) -> None:
        request_id = self.recent(self.calls) or "no call"
        answers: tuple[dict[str, Any], ...] = (
            {"rpc_ack": {"request_id": request_id}},
            {"rpc_response": {"request_id": request_id, "payload": "hello"}},
            {"rpc_response": {"request_id": request_id, "payload": self.choices.of(PAYLOADS)}},
            {"rpc_response": {"request_id": request_id, "error": {"code": 1400}}},
            {"rpc_response": {"request_id": request_id, "error": {"message": "x" * 300}}},
            {"rpc_response": {"request_id": request_id, "compressed_payload": b"x"}},
            {"encrypted_packet": {}},
            {"chat_message": {}},
        )
        self.receive(**self.choices.of(answers))

    def receive_header(self) -> None:
        of = self.choices.of
        if self.choices.flag():
            topic, attributes = (
                "lk.rpc_response",
                {"lk.rpc_request_id": self.recent(self.calls) or "x"},
            )
        else:
            topic = of(("lk.rpc_request",) * 7 + ("lk.chat",))
            attributes = {
                "lk.rpc_request_id": of(REQUEST_IDS),
                "lk.rpc_request_method": of(METHODS),
                "lk.rpc_request_version": of(("2", "2", "2", "1")),
                "lk.rpc_request_response_timeout_ms": of(("8000", "1000", "soon", "9" * 20)),
            }
        header: dict[str, Any] = {"stream_id": of(STREAM_IDS), "topic": topic}
        if self.choices.flag():
            header["inline_content"] = of(CONTENTS)
        self.chunks.clear()
        self.receive(stream_header={**header, "attributes": attributes, **of(HEADERS)})

    def receive_chunk(self) -> None:
        of = self.choices.of
        stream_id = of(STREAM_IDS)
        content = self.choices.short_bytes() if self.choices.flag() else of(CONTENTS)
        index = self.chunks[stream_id]
        self.chunks[stream_id] += 1
        index += of((0, 0, 0, 0, 0, 0, 1, 2**63))
        chunk = {"stream_id": stream_id, "chunk_index": index, "content": content}
        self.receive(stream_chunk=chunk)

    def receive_trailer(self) -> None:
        of = self.choices.of
        self.receive(stream_trailer={"stream_id": of(STREAM_IDS), "reason": of(("", "", "no"))})

    def receive_anything(self) -> None:
        data = self.choices.short_bytes()
        if self.choices.byte() % 8 == 7:
            data = b"x" * (CONFIG.max_packet_bytes + 1)
        self.receive_bytes(memoryview(data) if self.choices.flag() else data)

    def receive_again(self) -> None:
        """The last packet again, perhaps many times."""
        for _ in range(self.choices.of((1, 2, 60))):
            self.receive_bytes(*self.last)

    def crowd(self) -> None:
        """Many others ask for what is not there, and what is kept of them is swept out. Once
        only, for it takes long."""
        request = {"id": "r1", "method": "no method", "version": 1}
        for number in range(0 if self.has_been_crowded else 80):
            sender = f"peer of {number}"
            self.receive_bytes(
                DataPacket(participant_identity=sender, rpc_request=request).SerializeToString()
            )
            self.take_events()
            self.engine.next_packet()
            self.engine.next_packet()
        self.has_been_crowded = True

    # what else happens

    def joined(self) -> None:
        of = self.choices.of
        self.local(
            "participant_joined",
            self.peer(),
            participant_sid=of(SIDS),
            client_protocol=of((0, 1, 2, 2)),
            capabilities=of(((), (2,))),
        )

    def left(self) -> None:
        identity, sid = self.peer(), self.choices.of(SIDS)
        self.local("participant_left", identity, participant_sid=sid)

    def connection(self) -> None:
        of = self.choices.of
        match self.choices.byte() % 4:
            case 0:
                self.engine.disconnected(now=self.now)
            case 1 if self.choices.byte() % 8 == 7:
                self.engine.close(now=self.now)
            case _:
                version = of((None, "1.8.0", "1.7.9", "?"))
                complete = self.choices.flag()
                self.engine.connected(
                    now=self.now, server_version=version, participants_complete=complete
                )

    def send_failed(self) -> None:
        if self.choices.flag():
            self.take_packets()
        packet = self.recent(self.taken)
        if packet is not None:
            self.engine.send_failed(packet, now=self.now)

    def time_passes(self) -> None:
        self.now += self.choices.of(SECONDS)
        if self.choices.flag() and self.engine.next_deadline is not None:
            self.now = max(self.now, self.engine.next_deadline)
        due = self.engine.next_deadline
        self.engine.handle_deadline(now=self.now)
        if due is None or due > self.now:
            assert self.appearance() == self.before
        deadline = self.engine.next_deadline
        assert deadline is None or deadline > self.now

    # what comes of it

    def take_packets(self) -> None:
        for _ in range(self.choices.of((1, 2, 4, 100))):
            packet = self.engine.next_packet()
            if packet is None:
                break
            self.check_packet(packet)
            self.taken.append(packet)

    def check_packet(self, packet: OutgoingPacket) -> None:
        """It is not too large, and written anew it is the same (R29)."""
        assert len(packet.data) <= 64_000
        read = wire.decode(packet.data)
        assert read is not None
        assert not isinstance(read.message, Unread)
        assert packet.data == wire.encode(read.message, US, packet.destination_identity)
        if isinstance(read.message, Sealed):
            assert self.ring is not None
            inside = self.ring.open(US, *read.message)
            assert isinstance(inside, bytes)
            message = wire.decode_payload(inside)
            assert message is not None
            assert not isinstance(message, Sealed | Unread)
            assert wire.encode_payload(message) == inside
        else:
            assert self.ring is None or self.engine_accepts_plain

    def take_events(self) -> None:
        events = self.engine.take_events()
        assert len(events) <= MAX_EVENTS
        for event in events:
            match event:
                case CallAcknowledged(request_id):
                    assert request_id not in self.heard_of
                    self.heard_of.add(request_id)
                case CallSucceeded(request_id) | CallFailed(request_id):
                    self.ends[request_id] += 1
                    self.heard_of.add(request_id)
                case InvocationReceived(invocation_id, _, caller):
                    assert 0 <= event.response_timeout < 2**32 / 1000
                    assert 0 < len(event.method.encode()) <= 64
                    self.invocations.append(invocation_id)
                    self.running[invocation_id] = caller
                case InvocationAbandoned(invocation_id):
                    del self.running[invocation_id]
        callers = Counter(self.running.values())
        assert all(many <= CONFIG.max_invocations_per_caller for many in callers.values())

    def check(self) -> None:
        self.before = deadline, counts = self.appearance()
        calls, invocations = counts.pending_calls, counts.running_invocations
        assert calls <= CONFIG.max_pending_calls
        assert invocations <= CONFIG.max_invocations
        assert counts.open_streams_in <= calls + invocations
        assert (deadline is not None) == (calls + invocations > 0)
        assert counts.waiting_packets <= MAX_PACKETS
        assert counts.waiting_bytes <= MAX_WAITING_BYTES
        assert (counts.waiting_bytes > 0) == (counts.waiting_packets + counts.open_streams_out > 0)
        assert counts.buffered_bytes <= CONFIG.max_buffered_bytes
        assert counts.buffered_bytes == 0 or invocations + counts.open_streams_in > 0
        assert sum(counts.ignored.values()) <= counts.packets_in

    def finish(self) -> None:
        """By time or by closing, whatever is open ends."""
        self.take_events()
        if len(self.calls) % 2:
            self.engine.close(now=self.now)
        else:
            self.engine.handle_deadline(now=self.now + 1e8)
        self.check()
        self.take_events()
        counts = self.engine.statistics()
        assert counts.pending_calls == counts.running_invocations == counts.open_streams_in == 0
        assert counts.buffered_bytes == 0
        assert self.ends == Counter(self.calls)
        assert not self.running


OLD_OPS: tuple[Callable[[Run], None], ...] = (
    Run.call,
    Run.call,
    Run.cancel,
    Run.call_many,
    Run.respond,
    Run.respond_error,
    Run.misuse,
    Run.change_methods,
    Run.receive_request,
    Run.receive_request,
    Run.receive_answer,
    Run.receive_answer,
    Run.receive_header,
    Run.receive_header,
    Run.receive_chunk,
    Run.receive_chunk,
    Run.receive_trailer,
    Run.receive_anything,
    Run.receive_again,
    Run.joined,
    Run.joined,
    Run.left,
    Run.connection,
    Run.send_failed,
    Run.time_passes,
    Run.time_passes,
    Run.take_packets,
    Run.take_events,
    Run.take_events,
)
OPS: tuple[Callable[[Run], None], ...] = with_new(OLD_OPS, Run.hand_over, Run.check_call, Run.crowd)
