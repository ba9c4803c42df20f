"""An engine of another make in a `World`: every testee of `rpcproto conform` with virtual time.

python examples/testee_in_a_world.py [COMMAND ...]     such as: node examples/testees/peer.js

The testee is a process. An input is a frame to it, and returns when the testee has set its clock to
the instant of the input, which it does after everything else. It answers `conform.echo` and the
other methods by itself; calls that the world asks it for go to it as requests for `conform.call`.
"""

import json
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final

from rpcproto import (
    CallFailed,
    CallSucceeded,
    Event,
    OutgoingPacket,
    PacketKind,
    RpcEngine,
    Statistics,
    wire,
)
from rpcproto.testing import Link, World, WorldEngine

DRIVER: Final = "driver"
"""Who asks the testee for calls; no participant of the world has this name."""
STEP: Final = 0.25
"""The clock of a testee that may have something to do is set so often, in seconds."""
PATIENCE: Final = 20.0
"""So long after the last input a testee may have something to do, in seconds."""
HELLO: Final = {"rpcproto": 1, "identity": "suite", "client_protocol": 2, "capabilities": [2]}


class TesteeEngine:
    """A `rpcproto.testing.WorldEngine` around a testee."""

    def __init__(self, command: list[str], identity: str, new_id: Callable[[], str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._identity, self._new_id = identity, new_id
        self._now = self._busy_until = 0.0
        self._packets: deque[OutgoingPacket] = deque()
        self._events: list[Event] = []
        self._calls: set[str] = set()
        self._here: dict[str, str] = {}
        self._tell({**HELLO, "conform": 1, "you": identity})
        self.hello: dict[str, Any] = json.loads(self._read())
        assert self.hello.get("virtual_time"), "the testee has no virtual time"

    # what the world wants

    def call(self, destination_identity: str, method: str, payload: str, **more: Any) -> str:
        wanted = {"destination": destination_identity, "method": method, "payload": payload}
        if more.get("response_timeout"):
            wanted["response_timeout_ms"] = round(more["response_timeout"] * 1000)
        call = self._new_id()
        self._calls.add(call)
        request = wire.Request(call, "conform.call", json.dumps(wanted), 120_000)
        data = wire.encode(request, DRIVER, self._identity)
        self.receive_packet(data, now=more["now"])
        return call

    def receive_packet(self, data: bytes, *, now: float, **more: Any) -> None:
        if not data.startswith(b"{") and data:
            self._write(data)
        self._settle(now, is_input=True)

    def participant_joined(
        self, identity: str, *, now: float, participant_sid: str = "", **more: Any
    ) -> None:
        self._here[identity] = participant_sid
        who = {"identity": identity, "sid": participant_sid}
        who |= {name: more.get(name, default) for name, default in DEFAULTS.items()}
        self._tell({"joined": {**who, "capabilities": list(who["capabilities"])}})
        self._settle(now)

    def participant_left(self, identity: str, *, now: float, participant_sid: str = "") -> None:
        sid = participant_sid or self._here.pop(identity, "")
        self._tell({"left": {"identity": identity, "sid": sid}})
        self._settle(now)

    def disconnected(self, *, now: float) -> None:
        for identity in list(self._here):
            self.participant_left(identity, now=now)

    def handle_deadline(self, *, now: float) -> None:
        self._settle(now)

    def close(self, *, now: float) -> None:
        self._process.communicate()

    def cancel(self, request_id: str, *, now: float) -> bool:
        return False  # the contract of testees has no word for it

    # what comes of it

    @property
    def next_deadline(self) -> float | None:
        return self._now + STEP if self._now < self._busy_until else None

    @property
    def participants(self) -> tuple[str, ...]:
        return tuple(self._here)

    def next_packet(self) -> OutgoingPacket | None:
        return self._packets.popleft() if self._packets else None

    def take_events(self) -> Collection[Event]:
        events, self._events = self._events, []
        return events

    def statistics(self) -> Statistics:
        return Statistics(len(self._calls), 0, 0, 0, len(self._packets), 0, 0, 0, 0, {})

    # what a testee does not need

    def register_method(self, method: str) -> None:
        """It has its own methods."""

    def connected(self, *, now: float, **more: Any) -> None:
        """It always is."""

    def send_failed(self, packet: OutgoingPacket, *, now: float) -> None:
        """It never learns."""

    def respond(self, invocation_id: int, payload: str, *, now: float) -> bool:
        return False  # it answers by itself

    def respond_error(self, invocation_id: int, *error: object, now: float) -> bool:
        return False

    # the wire

    def _settle(self, now: float, *, is_input: bool = False) -> None:
        """Set the clock, and take all that the testee sends until it has done so."""
        self._now = now
        if is_input:
            self._busy_until = now + PATIENCE
        self._tell({"now": now})
        while not (data := self._read()).startswith(b"{"):
            self._take(data)

    def _take(self, data: bytes) -> None:
        packet = wire.decode(data)
        if packet is None or list(packet.destination_identities) != [DRIVER]:
            names = [] if packet is None else packet.destination_identities
            for name in names or self._here:
                self._packets.append(OutgoingPacket(data, name, "", PacketKind.RESPONSE, 0))
        elif isinstance(packet.message, wire.Response):
            self._calls.discard(packet.message.request_id)
            self._ended(packet.message.request_id, json.loads(packet.message.payload or "{}"))

    def _ended(self, call: str, outcome: dict[str, Any]) -> None:
        if "payload" in outcome:
            self._events.append(CallSucceeded(call, outcome["payload"]))
        else:
            code, message = outcome.get("code", 1500), outcome.get("message", "")
            self._events.append(CallFailed(call, code, message, outcome.get("data") or ""))

    def _tell(self, fields: dict[str, Any]) -> None:
        self._write(json.dumps(fields).encode())

    def _write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(len(data).to_bytes(4) + data)
        self._process.stdin.flush()

    def _read(self) -> bytes:
        assert self._process.stdout is not None
        length = self._process.stdout.read(4)
        if not length:
            raise ConnectionError("the testee has ended")
        return self._process.stdout.read(int.from_bytes(length))


DEFAULTS: Final[dict[str, Any]] = {"client_protocol": 0, "capabilities": ()}


def play(command: list[str], seed: int = 0) -> World:
    """Let the testee and an engine of ours call each other over a network that repeats packets."""

    def make(identity: str, *, new_id: Callable[[], str], **more: Any) -> WorldEngine:
        if identity == "testee":
            return TesteeEngine(command, identity, new_id)
        return RpcEngine(identity, new_id=new_id, **more)

    link = Link(latency=0.02, jitter=0.05, repetition=0.3)
    world = World(seed=seed, link=link, engine_factory=make)
    ours, testee = world.join("ours"), world.join("testee", client_protocol=0, capabilities=())
    ours.register("greet", lambda invocation: f"Hello, {invocation.caller_identity}!")
    world.run(until=1.0)
    for number in range(5):
        ours.call("testee", "conform.echo", f"number {number}")
        testee.call("ours", "greet", "hi")
    ours.call("testee", "no such method")
    world.run(until=60.0)
    world.leave("testee")
    return world


if __name__ == "__main__":
    peer = [sys.executable, str(Path(__file__).with_name("testees") / "peer.py")]
    print(play(sys.argv[1:] or peer).transcript())
