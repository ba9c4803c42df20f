"""A participant of a world: an engine, and a host for it that needs neither I/O nor async."""

import math
from collections.abc import Callable, Collection
from functools import partial
from typing import NamedTuple, TypeAlias, final

from rpcproto.core.config import RpcConfig
from rpcproto.core.events import (
    CallAcknowledged,
    CallFailed,
    CallSucceeded,
    Event,
    InvocationReceived,
)
from rpcproto.core.messages import OutgoingPacket
from rpcproto.core.sealing import Cryptor
from rpcproto.errors import RpcError
from rpcproto.testing.agenda import Agenda, Entry
from rpcproto.testing.engines import EngineFactory, WorldEngine


@final
class Later(NamedTuple):
    """The answer of a handler, `seconds` after the handler was called."""

    seconds: float
    answer: str | RpcError


Handler: TypeAlias = Callable[[InvocationReceived], str | RpcError | Later | None]
"""Answers an invocation with a payload or an error, at once or later. None answers nothing yet."""


@final
class WorldCall:
    """A call in a world. Instants are in seconds."""

    def __init__(
        self, request_id: str, number: int, now: float, cancel: Callable[[], bool]
    ) -> None:
        """Made by `WorldParticipant.call`."""
        self.request_id: str = request_id
        self.number: int = number
        """The number of the call in the transcript."""
        self.started_at: float = now
        self.acknowledged_at: float | None = None
        self.ended_at: float | None = None
        self.outcome: str | RpcError | None = None
        """The payload or the error; None while the call is pending, or if it was cancelled."""
        self.cancel: Callable[[], bool] = cancel
        """Cancels the call; False if it has ended already."""


@final
class WorldParticipant:
    """A participant in a world: an engine and a host for it. Made by `World.join`.

    `engine` can be used directly, with `now=world.now`; `World.run` processes the results.
    """

    def __init__(
        self,
        identity: str,
        agenda: Agenda,
        calls: list[WorldCall],
        carry: Callable[["WorldParticipant", OutgoingPacket], bool],
        note: Callable[[str, Event | str], None],
        *,
        client_protocol: int,
        capabilities: Collection[int],
        uplink: float,
        config: RpcConfig,
        cryptor: Cryptor | None,
    ) -> None:
        """Made by `World.join`. `carry` returns whether a packet could be sent."""
        self.identity: str = identity
        self.client_protocol: int = client_protocol
        self.capabilities: Collection[int] = capabilities
        self.uplink: float = uplink
        """The number of bytes that its host can send per second, one packet at a time."""
        self.config: RpcConfig = config
        """The config of its engines."""
        self.cryptor: Cryptor | None = cryptor
        """The cryptor of its engines."""
        self.engine: WorldEngine
        self.sid: str = ""
        self.is_connected: bool = False
        self.is_present: bool = False
        """Whether the others see it in the room. It stays True after a cut that was not noticed."""
        self.has_left: bool = False
        """Whether it has left. `World.come_back` then makes a new engine."""
        self.events: list[tuple[float, Event]] = []
        """All events of its engines, each with its instant in seconds."""
        self._agenda = agenda
        self._all_calls = calls
        self._calls: dict[str, WorldCall] = {}
        self._carry = carry
        self._note = note
        self._handlers: dict[str, Handler] = {}
        self._is_settling = False
        self._timer: Entry | None = None
        self._timer_at: float | None = None
        self._uplink_free_at = 0.0
        self._uplink_wake: Entry | None = None

    # what the program wants

    def register(self, method: str, handler: Handler) -> None:
        """Answer requests for `method` with a handler. It takes the `InvocationReceived`, and
        returns a payload, an `RpcError`, a `Later`, or None to answer later with `answer`.

        The handler can raise RpcError instead of returning it. Other exceptions are raised by
        `World.run`.

        Raises:
            LocalProtocolError: As for `RpcEngine.register_method`.
        """
        self.engine.register_method(method)
        self._handlers[method] = handler

    def call(
        self,
        destination_identity: str,
        method: str,
        payload: str = "",
        *,
        response_timeout: float | None = None,
        ack_timeout: float | None = None,
    ) -> WorldCall:
        """Make a call. Arguments and exceptions are those of `RpcEngine.call`."""
        engine, now = self.engine, self._agenda.now
        request_id = engine.call(
            destination_identity,
            method,
            payload,
            now=now,
            response_timeout=response_timeout,
            ack_timeout=ack_timeout,
        )
        number = len(self._all_calls) + 1
        call = WorldCall(request_id, number, now, lambda: self._cancel(call, engine))
        self._calls[request_id] = call
        self._all_calls.append(call)
        self._note(self.identity, f"calls {destination_identity}: call {number}, {method}")
        self.settle()
        return call

    def answer(self, invocation_id: int, answer: str | RpcError) -> bool:
        """Answer an invocation whose handler returned None. Return False if it has ended
        already."""
        return self._answer(self.engine, invocation_id, answer)

    # what the world wants

    def begin(self, engine_factory: EngineFactory, new_id: Callable[[], str]) -> None:
        """Continue with a new engine, and with the same handlers."""
        self.engine = engine_factory(
            self.identity, new_id=new_id, config=self.config, cryptor=self.cryptor
        )
        self.has_left = False
        for method in self._handlers:
            self.engine.register_method(method)

    def settle(self) -> None:
        """Process the results of the last input, and everything that follows from them."""
        if self._is_settling:
            return
        self._is_settling = True
        try:
            happened = True
            while happened:
                events = self.engine.take_events()
                for event in events:
                    self._take(event)
                happened = self._send_packets() or bool(events)
        finally:
            self._is_settling = False
        self._set_timer()

    def finish_sending(self) -> None:
        """Send all waiting packets at once, because the participant leaves."""
        self._uplink_free_at = -math.inf
        uplink, self.uplink = self.uplink, math.inf
        self.settle()
        self.uplink = uplink

    # within

    def _take(self, event: Event) -> None:
        now = self._agenda.now
        self.events.append((now, event))
        self._note(self.identity, event)
        if isinstance(event, InvocationReceived):
            self._handle(event)
        elif isinstance(event, CallAcknowledged | CallSucceeded | CallFailed):
            call = self._calls.get(event.request_id)
            if call is None:
                return  # one that was made with the engine alone
            if isinstance(event, CallAcknowledged):
                call.acknowledged_at = now
                return
            call.ended_at = now
            if isinstance(event, CallSucceeded):
                call.outcome = event.payload
            else:
                call.outcome = RpcError(event.code, event.message, event.data)

    def _handle(self, invocation: InvocationReceived) -> None:
        handler = self._handlers.get(invocation.method)
        if handler is None:
            return  # registered with the engine alone
        try:
            answer = handler(invocation)
        except RpcError as error:
            answer = error
        engine, invocation_id = self.engine, invocation.invocation_id
        if isinstance(answer, Later):
            later = partial(self._answer, engine, invocation_id, answer.answer)
            self._agenda.plan(self._agenda.now + answer.seconds, later)
        elif answer is not None:
            self._answer(engine, invocation_id, answer)

    def _answer(self, engine: WorldEngine, invocation_id: int, answer: str | RpcError) -> bool:
        now = self._agenda.now
        if isinstance(answer, RpcError):
            code, message, data = answer.code, answer.message, answer.data or ""
            accepted = engine.respond_error(invocation_id, code, message, data, now=now)
        else:
            accepted = engine.respond(invocation_id, answer, now=now)
        if not accepted:
            self._note(self.identity, "answers what nobody waits for any more")
        self.settle()
        return accepted

    def _cancel(self, call: WorldCall, engine: WorldEngine) -> bool:
        cancelled = engine.cancel(call.request_id, now=self._agenda.now)
        if cancelled:
            call.ended_at = self._agenda.now
            self._note(self.identity, f"cancels call {call.number}")
            self.settle()
        return cancelled

    def _send_packets(self) -> bool:
        """Send while there is room; whether there was anything to send."""
        engine, now = self.engine, self._agenda.now
        happened = False
        while now >= self._uplink_free_at and (packet := engine.next_packet()) is not None:
            happened = True
            if self.uplink != math.inf:
                self._uplink_free_at = now + len(packet.data) / self.uplink
            if not self._carry(self, packet):
                engine.send_failed(packet, now=now)
        if now < self._uplink_free_at and self._uplink_wake is None:
            counts = engine.statistics()
            if counts.waiting_packets or counts.open_streams_out:
                self._uplink_wake = self._agenda.plan(self._uplink_free_at, self._uplink_is_free)
        return happened

    def _uplink_is_free(self) -> None:
        self._uplink_wake = None
        self.settle()

    def _set_timer(self) -> None:
        deadline = self.engine.next_deadline
        if deadline == self._timer_at:
            return
        if self._timer is not None:
            self._timer.is_cancelled = True
        self._timer, self._timer_at = None, deadline
        if deadline is not None:
            self._timer = self._agenda.plan(deadline, self._time_is_up, is_deadline=True)

    def _time_is_up(self) -> None:
        self._timer = self._timer_at = None
        self.engine.handle_deadline(now=self._agenda.now)
        self.settle()
