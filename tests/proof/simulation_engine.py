"""An engine at whose door somebody writes down everything that matters for the oracle."""

import math
from collections.abc import Collection
from typing import Any, NamedTuple

from rpcproto import Event, InvocationReceived, OutgoingPacket, RpcConfig, RpcEngine
from rpcproto.testing import SentPacket


class Known(NamedTuple):
    """What an engine was told of another participant."""

    sid: str = ""
    client_protocol: int = 0
    capabilities: Collection[int] = ()


NOBODY = Known()


class MadeCall(NamedTuple):
    """A call as it was made, and what the engine knew then."""

    request_id: str
    destination: str
    method: str
    payload: str
    at: float
    timeout: float
    window: float
    known: Known | None
    """The recipient, None if nobody had announced it."""
    list_is_complete: bool


class Answer(NamedTuple):
    """An answer that was given to an engine, whether it took it, and what it knew of the caller."""

    at: float
    accepted: bool
    known: Known


class WatchedEngine(RpcEngine):
    """An engine at whose door somebody writes down what matters for the oracle."""

    def __init__(self, identity: str, *, config: RpcConfig, **more: Any) -> None:
        super().__init__(identity, config=config, **more)
        self.identity = identity
        self.config = config
        self.is_complete = False
        self.began_at = math.nan
        self.ended_at = math.inf
        self.known: dict[str, Known] = {}
        self.departures: list[tuple[float, str, str]] = []
        """Who left when, under which sid; all that left with a lost connection are there."""
        self.introduced: dict[str, float] = {}
        """When it first heard of each participant."""
        self.announced: list[tuple[float, str, str]] = []
        """Who was announced when, under which sid, again and again."""
        self.lost_at: list[float] = []
        """When the connection was lost, or the engine closed."""
        self.made: list[MadeCall] = []
        self.cancelled: list[tuple[float, str]] = []
        self.answers: dict[int, list[Answer]] = {}
        self.events: list[tuple[float, Event]] = []
        self.at = 0.0
        self.invocations: dict[int, InvocationReceived] = {}

    # what the application wants

    def call(self, destination: str, method: str, payload: str, **more: Any) -> str:  # type: ignore[override]
        request_id = super().call(destination, method, payload, **more)
        timeout = more["response_timeout"] or self.config.response_timeout
        window = min(more["ack_timeout"] or self.config.ack_timeout, timeout)
        known = self.known.get(destination)
        self.at = more["now"]
        self.made.append(
            MadeCall(
                request_id,
                destination,
                method,
                payload,
                self.at,
                timeout,
                window,
                known,
                self.is_complete,
            )
        )
        return request_id

    def cancel(self, request_id: str, *, now: float) -> bool:
        self.at = now
        cancelled = super().cancel(request_id, now=now)
        if cancelled:
            self.cancelled.append((now, request_id))
        return cancelled

    def respond(self, invocation_id: int, payload: str, *, now: float) -> bool:
        return self._answered(invocation_id, super().respond(invocation_id, payload, now=now), now)

    def respond_error(self, invocation_id: int, *error: Any, now: float) -> bool:
        accepted = super().respond_error(invocation_id, *error, now=now)
        return self._answered(invocation_id, accepted, now)

    def _answered(self, invocation_id: int, accepted: bool, now: float) -> bool:
        self.at = now
        caller = self.invocations[invocation_id].caller_identity
        answer = Answer(now, accepted, self.known.get(caller, NOBODY))
        self.answers.setdefault(invocation_id, []).append(answer)
        return accepted

    # what happened outside

    def receive_packet(self, data: Any, *, now: float, **more: Any) -> None:
        self.at = now
        super().receive_packet(data, now=now, **more)

    def participant_joined(self, identity: str, *, now: float, **more: Any) -> None:
        self.at = now
        told = Known(more["participant_sid"], more["client_protocol"], more["capabilities"])
        before = self.known.get(identity, told)
        if before.sid != told.sid:
            self.departures.append((now, identity, before.sid))
        self.known[identity] = told
        self.introduced.setdefault(identity, now)
        self.announced.append((now, identity, told.sid))
        super().participant_joined(identity, now=now, **more)

    def participant_left(self, identity: str, *, now: float, participant_sid: str = "") -> None:
        self.at = now
        known = self.known.get(identity)
        if known is None or known.sid == participant_sid:
            self.known.pop(identity, None)
            self.departures.append((now, identity, participant_sid))
        super().participant_left(identity, now=now, participant_sid=participant_sid)

    def connected(self, *, now: float, **more: Any) -> None:
        self.at = now
        self.began_at = now if math.isnan(self.began_at) else self.began_at
        self.is_complete = more["participants_complete"]
        super().connected(now=now, **more)

    def disconnected(self, *, now: float) -> None:
        self._lost(now)
        super().disconnected(now=now)
        assert self.next_packet() is None, "something waits to be sent on a lost connection (R41)"

    def close(self, *, now: float) -> None:
        self._lost(now)
        self.ended_at = now
        super().close(now=now)

    def _lost(self, now: float) -> None:
        self.at = now
        self.lost_at.append(now)
        self.departures += [(now, identity, known.sid) for identity, known in self.known.items()]
        self.known.clear()

    def send_failed(self, packet: OutgoingPacket, *, now: float) -> None:
        self.at = now
        super().send_failed(packet, now=now)

    def handle_deadline(self, *, now: float) -> None:
        self.at = now
        super().handle_deadline(now=now)

    def arrivals(self, sent: SentPacket) -> list[float]:
        """When a packet to this identity was handed to this engine."""
        return [at for at in sent.arrived_at if self.began_at <= at < self.ended_at]

    # what comes of it

    def take_events(self) -> tuple[Event, ...]:
        events = super().take_events()
        for event in events:
            self.events.append((self.at, event))
            if isinstance(event, InvocationReceived):
                self.invocations[event.invocation_id] = event
        return events
