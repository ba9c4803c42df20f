"""An engine with others around it, with empty or with full tables."""

import time
from collections import Counter
from typing import Final, NamedTuple

from benchmarks.hostile import packets
from benchmarks.hostile.packets import HONEST, HOSTILE, METHOD, OURS
from rpcproto import (
    InvocationReceived,
    OutgoingPacket,
    PacketIgnored,
    RpcConfig,
    RpcEngine,
    Statistics,
    random_ids,
)
from rpcproto.core.packets_pb2 import DataPacket

CALLEE: Final = "carol"
"""Somebody whom we call; her SEEN sequence numbers were seen."""
SEQUENCES: Final = 1_024
"""Numbers in a window."""
SEEN: Final = (1, SEQUENCES // 2, SEQUENCES)
LONG: Final = 1_000_000.0
"""Seconds: nothing expires while it is measured."""
TICK: Final = 1 / 4096
"""Seconds from one input to the next."""
SOON: Final = 0.0015
"""A deadline within so many seconds is that of work which an input left (R47)."""
MAX_STEPS: Final = 100_000
APPLICATION_ERROR: Final = 1
NOTHING: Final = "nothing"
"""The effect of inputs that have no other."""

CONFIG: Final = RpcConfig(
    response_timeout=LONG,
    ack_timeout=LONG,
    max_invocation_lifetime=LONG,
    stream_idle_timeout=LONG,
    max_pending_calls=12_000,
    max_invocations=16_000,
)
"""Room for what is measured, beside what fills the tables; else the usual bounds."""


class Tables(NamedTuple):
    """How much is in the tables; it must be the same before and after a measurement."""

    pending_calls: int
    running_invocations: int
    open_streams_in: int
    open_streams_out: int
    buffered_bytes: int


class Scene:
    """The engine of `bob`, to whom everybody sends packets.

    It is cheap to make, so that tables can be as good as empty: what was measured is remembered.
    """

    def __init__(self) -> None:
        self.new_id = random_ids()
        self.engine = RpcEngine(OURS, new_id=random_ids(), config=CONFIG)
        self.engine.register_method(METHOD)
        self.now = 0.0
        self.slowest_rest = 0.0
        """The longest `handle_deadline` for work that an input left, since this was last set."""
        self._before: Statistics = self.engine.statistics()
        for identity in (HONEST, HOSTILE, CALLEE):
            self.join(identity)
        for sequence in SEEN:
            self.hear(packets.ack(self.new_id(), CALLEE, sid=sid_of(CALLEE), sequence=sequence))

    # inputs that are not measured

    def tick(self) -> float:
        """The instant of the next input."""
        self.now += TICK
        return self.now

    def join(
        self, identity: str, sid: str | None = None, *, protocol: int = 2, deflates: bool = True
    ) -> None:
        """Announce a participant, under its usual sid unless there is another one."""
        self.engine.participant_joined(
            identity,
            now=self.tick(),
            participant_sid=sid_of(identity) if sid is None else sid,
            client_protocol=protocol,
            capabilities=(2,) if deflates else (),
        )

    def leave(self, identity: str) -> None:
        """Let a participant go, with what it had."""
        self.engine.participant_left(identity, now=self.tick())
        self.settle()

    def receive(self, data: bytes) -> None:
        """Receive a packet; what comes of it is left to the caller."""
        self.engine.receive_packet(data, now=self.tick())

    def hear(self, data: bytes) -> Counter[str]:
        """Receive a packet, and end what came of it."""
        self.receive(data)
        return self.settle()

    def open_stream(self, sender: str = HOSTILE, *, compression: int = 0) -> str:
        """Begin a request stream; returns its id."""
        stream_id, request_id = self.new_id(), self.new_id()
        attributes = packets.attributes(request_id)
        effects = self.hear(packets.header(stream_id, attributes, sender, compression=compression))
        assert effects == {"ack": 1}, effects
        return stream_id

    def end_stream(self, stream_id: str, sender: str = HOSTILE) -> None:
        """End a request stream if it is open still."""
        self.hear(packets.trailer(stream_id, "cancelled", sender))

    def call(self, identity: str, payload: str = "") -> str:
        """Call somebody; the request leaves, unless it is a body, which stays where it is."""
        request_id = self.engine.call(identity, METHOD, payload, now=self.tick())
        self.settle()
        return request_id

    def cancel(self, request_id: str) -> None:
        """End a call."""
        assert self.engine.cancel(request_id, now=self.tick())
        self.settle()

    def run(self, data: bytes) -> int:
        """Receive a request that goes on running; returns its invocation id."""
        self.receive(data)
        [event] = self.engine.take_events()
        assert isinstance(event, InvocationReceived)
        self.taken_small()
        self._before = self.engine.statistics()
        return event.invocation_id

    # what comes of them

    def settle(self) -> Counter[str]:
        """Name and count what the last inputs did, and end it: work that they left is finished,
        packets are taken, invocations are answered."""
        self._finish_rest()
        effects: Counter[str] = Counter()
        now = self.engine.statistics()
        for reason, count in now.ignored.items():
            effects[f"ignored: {reason.value}"] += count - self._before.ignored.get(reason, 0)
        effects["bytes held"] = max(0, now.buffered_bytes - self._before.buffered_bytes)
        received = self._take_events(effects)
        effects.update(_what(packet) for packet in self.taken_small())
        for invocation_id in received:
            self.engine.respond_error(invocation_id, APPLICATION_ERROR, now=self.tick())
        self.taken_small()
        self._before = self.engine.statistics()
        return +effects or Counter([NOTHING])

    def taken_small(self) -> list[OutgoingPacket]:
        """The small packets that wait; bodies stay where they are."""
        packets = [
            self.engine.next_packet() for _ in range(self.engine.statistics().waiting_packets)
        ]
        return [packet for packet in packets if packet is not None]

    def tables(self) -> Tables:
        """How full the engine is."""
        now = self.engine.statistics()
        return Tables(
            now.pending_calls,
            now.running_invocations,
            now.open_streams_in,
            now.open_streams_out,
            now.buffered_bytes,
        )

    def _take_events(self, effects: Counter[str]) -> list[int]:
        """Count the events; returns the invocations that wait for an answer."""
        received = []
        for event in self.engine.take_events():
            if isinstance(event, InvocationReceived):
                received.append(event.invocation_id)
            if not isinstance(event, PacketIgnored):
                effects[type(event).__name__] += 1
        return received

    def _finish_rest(self) -> None:
        """Do what inputs left for `handle_deadline`, each time when it is due."""
        for _ in range(MAX_STEPS):
            deadline = self.engine.next_deadline
            if deadline is None or deadline > self.now + SOON:
                return
            self.now = deadline
            start = time.perf_counter()
            self.engine.handle_deadline(now=deadline)
            self.slowest_rest = max(self.slowest_rest, time.perf_counter() - start)
        raise AssertionError("the work that an input left does not end")


def sid_of(identity: str) -> str:
    """The sid under which a participant is announced."""
    return f"PA_{identity}"


def _what(packet: OutgoingPacket) -> str:
    """An outgoing packet: its kind, and of an error the code."""
    error = DataPacket.FromString(packet.data).rpc_response.error
    return f"error {error.code}" if packet.kind.value == "error" else packet.kind.value


# --- full tables

CROWD: Final = 4_096
"""Participants that are announced, and requests that are remembered."""
DEPARTED: Final = 256
PENDING: Final = 10_000
RUNNING: Final = 10_000
HALF_READ: Final = 1_000
LEAVING: Final = 500
"""Calls whose body has not left yet."""
BODY: Final = "x" * 20_000


def full_scene(*, in_rings: bool = True) -> Scene:
    """A scene with full tables.

    The requests that are remembered are one of each announced caller, or, unless `in_rings`, all of
    callers that nobody announced.
    """
    scene = Scene()
    _depart(scene)
    for sequence in range(1, SEQUENCES):
        scene.hear(packets.ack(scene.new_id(), CALLEE, sid=sid_of(CALLEE), sequence=sequence))
    crowd = [f"p{number}" for number in range(CROWD)]
    for number, identity in enumerate(crowd):
        scene.join(identity, protocol=number % 3, deflates=number % 2 == 0)
    for number, identity in enumerate(crowd):
        _send_requests(scene, identity, f"u{number}" if not in_rings else "")
    _open_streams(scene, crowd)
    running = scene.tables().running_invocations
    for number in range(RUNNING - running):
        # Timeouts that nobody else has.
        scene.run(
            packets.request(
                scene.new_id(), sender=crowd[-number % CROWD], timeout_ms=10**8 + number
            )
        )
    for number in range(LEAVING):
        scene.call(crowd[3 * number + 1], BODY)  # those who take streams, but not inline
    for number in range(PENDING - LEAVING):
        scene.call(crowd[number % CROWD])
    assert scene.tables()[:4] == (PENDING, RUNNING, HALF_READ, LEAVING)
    return scene


def _depart(scene: Scene) -> None:
    """Let participants come, send a packet, and go."""
    for number in range(DEPARTED):
        identity = f"d{number}"
        scene.join(identity)
        scene.hear(packets.ack(scene.new_id(), identity, sid=sid_of(identity), sequence=SEQUENCES))
        scene.leave(identity)


def _send_requests(scene: Scene, identity: str, stranger: str) -> None:
    """Send a request that is answered, and one that is not; between them their numbers are as far
    apart as a window is wide. `stranger`, if any, sends the first one."""
    answered = packets.request(
        scene.new_id(),
        sender=stranger or identity,
        sid="" if stranger else sid_of(identity),
        sequence=1,
    )
    assert scene.hear(answered)["InvocationReceived"]
    scene.run(
        packets.request(scene.new_id(), sender=identity, sid=sid_of(identity), sequence=SEQUENCES)
    )


def _open_streams(scene: Scene, crowd: list[str]) -> None:
    """Begin requests of which half is compressed."""
    for number in range(HALF_READ):
        stream_id = scene.open_stream(crowd[number], compression=number % 2)
        content = b"\x00\x01\x00\xfe\xffa" if number % 2 else b"a"
        effects = scene.hear(packets.chunk(stream_id, 0, content, crowd[number]))
        assert effects == {"bytes held": 1}
