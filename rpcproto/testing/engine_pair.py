"""Two engines wired together on virtual time, without any async."""

import heapq
from collections.abc import Callable, Collection
from typing import NamedTuple

from rpcproto.core.config import RpcConfig
from rpcproto.core.engine import RpcEngine
from rpcproto.core.errors import RpcError
from rpcproto.core.events import Event, InvocationReceived
from rpcproto.core.messages import OutgoingPacket
from rpcproto.testing.ids import counting_ids


class SentPacket(NamedTuple):
    """A packet that an engine gave, when (seconds) and by whom; dropped ones are among them."""

    sent_at: float
    sender_identity: str
    packet: OutgoingPacket


class EnginePair:
    """Two engines, `caller` and `responder` by name and identity, and the way between them.

    Use the engines as they are, with `now=pair.now`, and let things happen with `run`. What can be
    set at any time: `latency`, the way of a packet, in seconds; `drop`, which says of each packet
    whether it gets lost; `answer`, which is called with each invocation and gives the payload or
    the RpcError to answer with at once, or None to leave that to the test. What can be read:
    `now`, `events` by identity, and `sent`, in order.

    Each engine is told of the other (sids PA_caller and PA_responder, `client_protocol`,
    `capabilities`) unless `announced` is False. Ids count from a0000000-... and b0000000-...
    """

    def __init__(
        self,
        *,
        config: RpcConfig = RpcConfig(),  # noqa: B008 (frozen)
        latency: float = 0.0,
        client_protocol: int = 0,
        capabilities: Collection[int] = (),
        announced: bool = True,
    ) -> None:
        self.now: float = 0.0
        self.latency = latency
        self.drop: Callable[[OutgoingPacket], bool] = lambda packet: False
        self.answer: Callable[[InvocationReceived], str | RpcError | None] = lambda invocation: None
        self.caller: RpcEngine = RpcEngine("caller", new_id=counting_ids("a"), config=config)
        self.responder: RpcEngine = RpcEngine("responder", new_id=counting_ids("b"), config=config)
        self.events: dict[str, list[Event]] = {"caller": [], "responder": []}
        self.sent: list[SentPacket] = []
        self._engines = {"caller": self.caller, "responder": self.responder}
        self._arrivals: list[tuple[float, int, SentPacket]] = []
        if announced:
            for engine, other in ((self.caller, "responder"), (self.responder, "caller")):
                engine.participant_joined(
                    other,
                    now=self.now,
                    participant_sid=f"PA_{other}",
                    client_protocol=client_protocol,
                    capabilities=capabilities,
                )

    def run(self, until: float | None = None) -> None:
        """Let packets arrive and deadlines pass, in order of time, until nothing is left to happen;
        with `until`, nothing after that instant, which is `now` then. What arrives at the instant
        of a deadline comes before it."""
        self._settle()
        while (at := self._next_instant()) is not None and (until is None or at <= until):
            self.now = max(self.now, at)
            if self._arrivals and self._arrivals[0][0] <= self.now:
                self._deliver(heapq.heappop(self._arrivals)[2])
            else:
                for engine in self._engines.values():
                    engine.handle_deadline(now=self.now)
            self._settle()
        if until is not None:
            self.now = max(self.now, until)

    def _next_instant(self) -> float | None:
        instants = [engine.next_deadline for engine in self._engines.values()]
        if self._arrivals:
            instants.append(self._arrivals[0][0])
        return min((at for at in instants if at is not None), default=None)

    def _settle(self) -> None:
        """Take what has come of the last input: events, then packets (answers among them)."""
        for identity, engine in self._engines.items():
            for event in engine.take_events():
                self.events[identity].append(event)
                if isinstance(event, InvocationReceived):
                    self._answer(engine, event)
            while (packet := engine.next_packet()) is not None:
                sent = SentPacket(self.now, identity, packet)
                self.sent.append(sent)
                if not self.drop(packet):
                    arrival = (self.now + self.latency, len(self.sent), sent)
                    heapq.heappush(self._arrivals, arrival)

    def _answer(self, engine: RpcEngine, invocation: InvocationReceived) -> None:
        answer = self.answer(invocation)
        if isinstance(answer, RpcError):
            code, message, data = answer.code, answer.message, answer.data or ""
            engine.respond_error(invocation.invocation_id, code, message, data, now=self.now)
        elif answer is not None:
            engine.respond(invocation.invocation_id, answer, now=self.now)

    def _deliver(self, sent: SentPacket) -> None:
        receiver = self._engines.get(sent.packet.destination_identity)
        if receiver is not None:
            receiver.receive_packet(
                sent.packet.data,
                now=self.now,
                sender_identity=sent.sender_identity,
                sender_sid=f"PA_{sent.sender_identity}",
            )
