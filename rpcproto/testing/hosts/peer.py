"""The other participant of a scenario: an engine, and what it answers."""

import math
from collections.abc import Callable, Sequence

from rpcproto.core.config import RpcConfig
from rpcproto.core.engine import RpcEngine
from rpcproto.core.events import CallFailed, CallSucceeded, InvocationReceived
from rpcproto.core.messages import OutgoingPacket
from rpcproto.errors import RpcError
from rpcproto.testing.hosts.clock import VirtualClock
from rpcproto.testing.hosts.steps import HOST, LATENCY, PEER, PeerCall, PeerStarts
from rpcproto.testing.ids import counting_ids

_CONFIG = RpcConfig()
_HOST_SID = "PA_host"
_LATE = 2.0 - 2 * LATENCY
"""So that the answer arrives exactly two seconds after the request was sent."""
_MUCH_LATER = 5.0


class Peer:
    """An engine for the kit's own participant, and a host for it that makes no mistakes."""

    def __init__(
        self, clock: VirtualClock, carry: Callable[[Sequence[OutgoingPacket]], object]
    ) -> None:
        self.heard: list[str] = []
        """The payloads of all requests that have come."""
        self._clock = clock
        self._carry = carry
        self._timer_at = math.inf
        self._outcomes: dict[str, str | RpcError] = {}
        self._engine = RpcEngine(PEER, new_id=counting_ids("f"))
        self._engine.participant_joined(
            HOST, now=0.0, participant_sid=_HOST_SID, client_protocol=2, capabilities=(2,)
        )
        for method in ("echo", "refuse", "ignore", "late", "much later"):
            self._engine.register_method(method)

    def call(self, step: PeerCall | PeerStarts) -> tuple[str, float]:
        """Call the host; returns the request id, and how long the handler may take, in seconds."""
        timeout = step.response_timeout if isinstance(step, PeerStarts) else None
        request_id = self._engine.call(
            HOST, step.method, step.payload, now=self._clock.time(), response_timeout=timeout
        )
        self._clock.schedule(0.0, self.pump)
        figure = (timeout or _CONFIG.response_timeout) - _CONFIG.latency_allowance
        return request_id, max(figure, 1.0)  # (R5)

    def outcome(self, request_id: str) -> str | RpcError | None:
        """What came of a call, so far."""
        return self._outcomes.get(request_id)

    def receive(self, data: bytes) -> None:
        """A packet of the host has arrived."""
        self._engine.receive_packet(
            data, now=self._clock.time(), sender_identity=HOST, sender_sid=_HOST_SID
        )
        self.pump()

    def pump(self) -> None:
        """Let the engine's results have their effect."""
        for event in self._engine.take_events():
            match event:
                case InvocationReceived():
                    self.heard.append(event.payload)
                    self._answer(event)
                case CallSucceeded():
                    self._outcomes[event.request_id] = event.payload
                case CallFailed():
                    error = RpcError(event.code, event.message, event.data)
                    self._outcomes[event.request_id] = error
        packets = []
        while (packet := self._engine.next_packet()) is not None:
            packets.append(packet)
        deadline = self._engine.next_deadline
        if deadline is not None and deadline < self._timer_at:
            self._timer_at = deadline
            self._clock.schedule(max(deadline - self._clock.time(), 0.0), self._expire)
        if packets:
            self._carry(packets)

    def _answer(self, invocation: InvocationReceived) -> None:
        number, now = invocation.invocation_id, self._clock.time()
        match invocation.method:
            case "echo":
                self._engine.respond(number, invocation.payload, now=now)
            case "refuse":
                self._engine.respond_error(number, 2001, "Out of tea", invocation.payload, now=now)
            case "late" | "much later" as method:
                seconds = _LATE if method == "late" else _MUCH_LATER
                self._clock.schedule(seconds, lambda: self._answer_late(invocation))

    def _answer_late(self, invocation: InvocationReceived) -> None:
        self._engine.respond(invocation.invocation_id, invocation.payload, now=self._clock.time())
        self.pump()

    def _expire(self) -> None:
        self._timer_at = math.inf
        self._engine.handle_deadline(now=self._clock.time())
        self.pump()
