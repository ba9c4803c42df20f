"""What the hosts share, without any async: pump, waiters, handlers, and when the timer is due.

A host for a world of its own subclasses `ParticipantBase`, gives it three small hooks (wake the
writer, set the timer, start a handler), and runs a reader and a writer over a `Transport`.
"""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from functools import partial
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar, assert_never, overload

from rpcproto.core.config import RpcConfig
from rpcproto.core.engine import RpcEngine
from rpcproto.core.errors import (
    ErrorCode,
    LocalProtocolError,
    RpcError,
    require_name,
    require_text,
    require_timeout,
)
from rpcproto.core.events import (
    CallAcknowledged,
    CallFailed,
    CallSucceeded,
    Event,
    InvocationAbandoned,
    InvocationReceived,
    PacketIgnored,
    Statistics,
)
from rpcproto.core.messages import OutgoingPacket
from rpcproto.ids import random_ids
from rpcproto.transports import (
    Connected,
    Disconnected,
    PacketReceived,
    ParticipantJoined,
    ParticipantLeft,
    TransportEvent,
)
from rpcproto.wire import MAX_IDENTITY_BYTES, MAX_METHOD_BYTES

LEAVING_TIME: Final = 1.0
"""How long leaving may take, in seconds; what waits to be sent has half of it."""

logger: Final[logging.Logger] = logging.getLogger("rpcproto")


class RpcInvocationData(NamedTuple):
    """What a handler is called with. `response_timeout` is the caller's figure, in seconds."""

    request_id: str
    caller_identity: str
    method: str
    payload: str
    response_timeout: float


RpcHandler: TypeAlias = Callable[[RpcInvocationData], Awaitable[str] | str]
"""Answers with a text, at once or awaited, or raises `RpcError`."""
HandlerT = TypeVar("HandlerT", bound=RpcHandler)
TransportT = TypeVar("TransportT")
Waiter: TypeAlias = Callable[[str | RpcError], None]
"""Takes the one outcome of what somebody waits for: a text, or a fresh error to be raised."""
Cancel: TypeAlias = Callable[[], None]
"""Ends the waiting for an outcome, which then never comes; afterwards it does nothing."""
Start: TypeAlias = Callable[[Waiter], Cancel]
"""Begins something that has an outcome."""


class Connection(Enum):
    """How the transport stands."""

    COMING = auto()
    """Calls wait for it."""
    THERE = auto()
    LOST = auto()
    """Calls fail; it may come back."""
    OVER = auto()
    """The transport is at its end."""


class ParticipantBase(ABC, Generic[TransportT]):
    """A participant's engine, and everything around it that needs no waiting.

    Synchronous; the pump never runs the application's code.
    """

    def __init__(
        self,
        identity: str,
        transport: TransportT,
        *,
        config: RpcConfig = RpcConfig(),  # noqa: B008 (frozen)
        new_id: Callable[[], str] | None = None,
        engine_factory: Callable[..., RpcEngine] = RpcEngine,
    ) -> None:
        """A participant for one use, `identity` being 1 to 256 bytes of UTF-8.

        `new_id` and `engine_factory` are for tests and tools: the source of ids (None: random
        ones), and what makes the engine. Raises LocalProtocolError for an identity that is none.
        """
        require_name(identity, "identity", MAX_IDENTITY_BYTES)
        self._identity = identity
        self._transport = transport
        self._config = config
        self._new_id = new_id or random_ids()
        self._engine_factory = engine_factory
        self._entered_engine: RpcEngine | None = None
        self._clock: Callable[[], float] = time.monotonic
        self._handlers: dict[str, RpcHandler] = {}
        self._waiters: dict[str, Waiter] = {}
        self._expected: dict[Waiter, str | None] = {}
        """Who waits for whom: for a participant by its identity, for the connection by None."""
        self._handler_cancels: dict[int, Callable[[], object]] = {}
        self._timer_at: float | None = None
        self._connection = Connection.COMING
        self._connection_error: BaseException | None = None
        """Why it is lost or over, where anybody knows."""
        self._connections = 0
        """How many there have been, one after another."""
        self._sending_over = 0
        self._is_closed = False
        self._is_pumping = False
        self._is_dirty = False

    # for the application

    @property
    def identity(self) -> str:
        """The identity of this participant."""
        return self._identity

    @property
    def participants(self) -> tuple[str, ...]:
        """The identities of all others who are here, as they came; raises LocalProtocolError before
        entering."""
        return self._engine.participants

    def statistics(self) -> Statistics:
        """The engine's tables and counters; raises LocalProtocolError before entering."""
        return self._engine.statistics()

    @overload
    def register_rpc_method(self, method_name: str, handler: HandlerT) -> HandlerT: ...
    @overload
    def register_rpc_method(
        self, method_name: str, handler: None = None
    ) -> Callable[[HandlerT], HandlerT]: ...
    def register_rpc_method(
        self, method_name: str, handler: HandlerT | None = None
    ) -> HandlerT | Callable[[HandlerT], HandlerT]:
        """Answer requests for a method (1 to 64 bytes of UTF-8) with `handler`; also a decorator.

        The handler runs in a task of its own, in a copy of the context in which the participant was
        entered, and is cancelled when nobody waits for its answer any more. An `RpcError` that it
        raises is what the caller gets. Any other exception, and a result that is not a text, is
        logged, and the caller gets 1500 without a word of it.

        Raises LocalProtocolError for a method that is registered already, which LiveKit's SDK would
        replace in silence, and for a name that is no text or too long.
        """
        if handler is None:
            return lambda function: self.register_rpc_method(method_name, function)
        if not callable(handler):
            raise LocalProtocolError(f"a handler is callable, not {type(handler).__name__}")
        if self._entered_engine is not None:
            self._entered_engine.register_method(method_name)
        else:
            require_name(method_name, "method", MAX_METHOD_BYTES)
            if method_name in self._handlers:
                raise LocalProtocolError(f"the method {method_name!r} is registered already")
        self._handlers[method_name] = handler
        return handler

    def unregister_rpc_method(self, method: str) -> None:
        """Answer requests for `method` with 1400 from now on; handlers that run go on."""
        self._handlers.pop(method, None)
        if self._entered_engine is not None:
            self._entered_engine.unregister_method(method)

    # the three hooks

    @abstractmethod
    def _wake_writer(self) -> None:
        """There may be packets: the writer takes `_next_packet` until that is None."""

    @abstractmethod
    def _set_timer(self, at: float) -> None:
        """Call `_timer_fired` at `at` on the clock, and not at the instant given before."""

    @abstractmethod
    def _start_handler(self, invocation: InvocationReceived) -> Callable[[], object]:
        """Start a task that answers the invocation, later; returns what cancels it."""

    # for the host: what it brings about

    @property
    def _engine(self) -> RpcEngine:
        if self._entered_engine is None:
            raise LocalProtocolError("use the participant inside its `async with`")
        return self._entered_engine

    def _open(self, clock: Callable[[], float]) -> None:
        """Make the engine, which counts time by `clock`, in seconds."""
        if self._entered_engine is not None:
            raise LocalProtocolError("a participant can be entered only once")
        engine = self._engine_factory(
            self._identity,
            new_id=self._new_id,
            unix_time_offset=time.time() - clock(),
            config=self._config,
        )
        for method in self._handlers:
            engine.register_method(method)
        self._clock = clock
        self._entered_engine = engine

    def _must_wait(
        self,
        destination_identity: str,
        method: str,
        payload: str,
        response_timeout: float | None,
        ack_timeout: float | None,
    ) -> bool:
        """Whether a call should wait for the connection, by `_expect`; misuse raises before it."""
        if self._connection is not Connection.COMING or self._is_closed:
            return False
        require_name(destination_identity, "destination_identity", MAX_IDENTITY_BYTES)
        require_name(method, "method", MAX_METHOD_BYTES)
        require_text(payload, "payload")
        if response_timeout is not None:
            require_timeout(response_timeout, "response_timeout")
        if ack_timeout is not None:
            require_timeout(ack_timeout, "ack_timeout")
        return True

    def _call(
        self,
        destination_identity: str,
        method: str,
        payload: str,
        response_timeout: float | None,
        ack_timeout: float | None,
        waiter: Waiter,
    ) -> Cancel:
        """Start a call whose outcome, the payload or an error, `waiter` takes."""
        engine = self._engine
        if not self._is_closed and self._connection in (Connection.LOST, Connection.OVER):
            raise self._error_of(ErrorCode.RECIPIENT_DISCONNECTED)
        request_id = engine.call(
            destination_identity,
            method,
            payload,
            now=self._clock(),
            response_timeout=response_timeout,
            ack_timeout=ack_timeout,
        )
        self._waiters[request_id] = waiter
        self._pump()
        return partial(self._cancel_call, request_id)

    def _cancel_call(self, request_id: str) -> None:
        if self._waiters.pop(request_id, None) is not None:
            self._engine.cancel(request_id, now=self._clock())
            self._pump()

    def _expect(self, identity: str | None, waiter: Waiter) -> Cancel:
        """Tell `waiter` once this participant is here, or, if None, once it is known how the
        connection stands; an error when nobody can come any more."""
        engine = self._engine
        if self._is_closed:
            raise LocalProtocolError("the participant is closed")
        if identity is None:
            is_known = self._connection is not Connection.COMING
        else:
            require_name(identity, "identity", MAX_IDENTITY_BYTES)
            is_known = identity in engine.participants
        if is_known:
            self._tell(waiter, "")
        elif self._connection is Connection.OVER:
            self._tell(waiter, self._error_of(ErrorCode.RECIPIENT_DISCONNECTED))
        else:
            self._expected[waiter] = identity
        return partial(self._expect_no_more, waiter)

    def _expect_no_more(self, waiter: Waiter) -> None:
        self._expected.pop(waiter, None)

    def _tell_expected(self, identity: str | None) -> None:
        for waiter in [waiter for waiter, other in self._expected.items() if other == identity]:
            del self._expected[waiter]
            self._tell(waiter, "")

    def _run_handler(self, invocation: InvocationReceived) -> object:
        """For the task of a handler: its result, or an awaitable of it; raises what it raises."""
        handler = self._handlers.get(invocation.method)
        if handler is None:
            raise RpcError(ErrorCode.UNSUPPORTED_METHOD)
        return handler(
            RpcInvocationData(
                invocation.request_id,
                invocation.caller_identity,
                invocation.method,
                invocation.payload,
                invocation.response_timeout,
            )
        )

    def _answer(self, invocation: InvocationReceived, result: object) -> None:
        """The handler returned."""
        if not isinstance(result, str):
            kind = type(result).__name__
            self._answer_exception(invocation, TypeError(f"a handler returns a str, not {kind}"))
            return
        try:
            self._engine.respond(invocation.invocation_id, result, now=self._clock())
        except LocalProtocolError as error:
            self._answer_exception(invocation, error)
        else:
            self._handler_ended(invocation)

    def _answer_exception(self, invocation: InvocationReceived, error: BaseException) -> None:
        """The handler raised; nothing of what is no RpcError leaves the house (R18)."""
        if not (isinstance(error, RpcError) and self._answer_rpc_error(invocation, error)):
            answered = self._engine.respond_error(
                invocation.invocation_id, ErrorCode.APPLICATION_ERROR, now=self._clock()
            )
            # What is not an Exception and has no answer is our own cancelling.
            if answered or isinstance(error, Exception):
                args = (self._identity, invocation.method)
                logger.error("%s: the handler of %r failed", *args, exc_info=error)
        self._handler_ended(invocation)

    def _answer_rpc_error(self, invocation: InvocationReceived, error: RpcError) -> bool:
        """False if the error is not one that can be sent: then it is like any other exception."""
        try:
            self._engine.respond_error(
                invocation.invocation_id,
                error.code,
                error.message,
                error.data or "",
                now=self._clock(),
            )
        except Exception:  # whatever the handler has made of its error
            return False
        return True

    def _handler_ended(self, invocation: InvocationReceived) -> None:
        self._handler_cancels.pop(invocation.invocation_id, None)
        self._pump()

    def _close(self) -> None:
        """End all calls and handlers; what waits may still be taken (R42)."""
        self._engine.close(now=self._clock())
        self._is_closed = True
        self._nobody_comes()
        self._pump()

    def _nobody_comes(self) -> None:
        """Whoever waits for somebody waits in vain."""
        waiters = list(self._expected)
        self._expected.clear()
        for waiter in waiters:
            self._tell(waiter, self._error_of(ErrorCode.RECIPIENT_DISCONNECTED))

    # for the host: what happened to it

    def _next_packet(self) -> OutgoingPacket | None:
        self._sending_over = self._connections
        return self._engine.next_packet()

    def _packet_not_sent(self, packet: OutgoingPacket) -> None:
        self._engine.send_failed(packet, now=self._clock())
        self._pump()

    def _receive(self, event: TransportEvent) -> None:
        """The transport tells something. What it tells cannot raise, whoever is behind it."""
        try:
            self._tell_engine(event)
        except LocalProtocolError as error:
            kind = type(event).__name__
            logger.warning("%s: ignored a %s: %s", self._identity, kind, error)
        self._pump()

    def _sending_broke(self, error: Exception) -> None:
        """Sending the last packet raised, and not for this one alone. If the connection was lost
        and is back meanwhile, it was the old one that broke."""
        if self._sending_over == self._connections:
            self._connection_broke(error)

    def _connection_broke(self, error: Exception) -> None:
        """The transport raised."""
        logger.warning("%s: the connection broke", self._identity, exc_info=error)
        self._connection_lost(error)

    def _connection_lost(self, cause: BaseException | None) -> None:
        """There is no connection any more: whoever waits for a call is told why."""
        if not self._is_closed and self._connection in (Connection.COMING, Connection.THERE):
            self._connection = Connection.LOST
            self._connection_error = cause
            self._engine.disconnected(now=self._clock())
            self._tell_expected(None)
            self._pump()

    def _connection_over(self) -> None:
        """The transport is at its end, and will not bring the connection back."""
        self._connection_lost(None)
        self._connection = Connection.OVER
        self._nobody_comes()

    def _timer_fired(self) -> None:
        self._timer_at = None
        self._engine.handle_deadline(now=self._clock())
        # Timers fire early: the pump looks at the next deadline again.
        self._pump()

    # within

    def _tell_engine(self, event: TransportEvent) -> None:
        engine, now = self._engine, self._clock()
        match event:
            case PacketReceived():
                engine.receive_packet(
                    event.data,
                    now=now,
                    sender_identity=event.sender_identity,
                    sender_sid=event.sender_sid,
                )
            case ParticipantJoined():
                engine.participant_joined(
                    event.identity,
                    now=now,
                    participant_sid=event.sid,
                    client_protocol=event.client_protocol,
                    capabilities=event.capabilities,
                )
                self._tell_expected(event.identity)
            case ParticipantLeft():
                engine.participant_left(event.identity, now=now, participant_sid=event.sid)
            case Connected():
                engine.connected(
                    now=now,
                    server_version=event.server_version,
                    participants_complete=event.participants_complete,
                )
                if self._connection is not Connection.THERE:
                    self._connections += 1
                self._connection = Connection.THERE
                self._connection_error = None
                self._tell_expected(None)
            case Disconnected():
                self._connection_lost(event.cause)
            case _:
                assert_never(event)

    def _pump(self) -> None:
        """After any input: hand out the events, arm the timer, wake the writer."""
        self._is_dirty = True
        if self._is_pumping:
            return
        self._is_pumping = True
        try:
            while self._is_dirty:
                self._is_dirty = False
                for event in self._engine.take_events():
                    self._dispatch(event)
        finally:
            self._is_pumping = False
        deadline = self._engine.next_deadline
        # A timer that is set for earlier stays: it will fire, and look again.
        if deadline is not None and (self._timer_at is None or deadline < self._timer_at):
            self._timer_at = deadline
            self._set_timer(deadline)
        self._wake_writer()

    def _dispatch(self, event: Event) -> None:
        match event:
            case CallSucceeded():
                self._call_ended(event.request_id, event.payload)
            case CallFailed():
                error = self._error_of(event.code, event.message, event.data)
                self._call_ended(event.request_id, error)
            case InvocationReceived():
                self._handler_cancels[event.invocation_id] = self._start_handler(event)
            case InvocationAbandoned():
                cancel = self._handler_cancels.pop(event.invocation_id, None)
                if cancel is not None:
                    cancel()
            case CallAcknowledged() | PacketIgnored():
                pass
            case _:
                assert_never(event)

    def _call_ended(self, request_id: str, outcome: str | RpcError) -> None:
        waiter = self._waiters.pop(request_id, None)
        if waiter is not None:
            self._tell(waiter, outcome)

    def _tell(self, waiter: Waiter, outcome: str | RpcError) -> None:
        try:
            waiter(outcome)
        except Exception:  # no business of those who wait for something else
            logger.exception("%s: telling an outcome failed", self._identity)

    def _error_of(self, code: int, message: str = "", data: str = "") -> RpcError:
        """A fresh error to be raised, with what broke the connection as its cause."""
        error = RpcError(int(code), message, data)
        if code == ErrorCode.RECIPIENT_DISCONNECTED:
            error.__cause__ = self._connection_error
        return error
