"""A participant without any async: its engine, and everything around it that needs no waiting."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, Generic, TypeVar, assert_never, overload

from rpcproto.core.config import RpcConfig
from rpcproto.core.engine import RpcEngine
from rpcproto.core.errors import ErrorCode, LocalProtocolError, require_finite, require_name
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
from rpcproto.core.sealing import Cryptor
from rpcproto.ids import random_ids
from rpcproto.logs import SeldomLogged, logger
from rpcproto.participant.handlers import TOO_MANY_REQUESTS, Handlers, HandlerT, require_method
from rpcproto.participant.waiting import (
    CallArguments,
    Cancel,
    Connection,
    DelayedCall,
    Waiter,
    Waiting,
    noop,
)
from rpcproto.transports import (
    Connected,
    Disconnected,
    PacketReceived,
    ParticipantJoined,
    ParticipantLeft,
    TransportEvent,
)
from rpcproto.wire import MAX_IDENTITY_BYTES

LEAVING_TIME: Final = 1.0
"""How long leaving may take, in seconds; what waits to be sent has half of it."""

TransportT = TypeVar("TransportT")


class ParticipantBase(ABC, Generic[TransportT]):
    """A participant's engine, and everything around it that needs no waiting. Synchronous.

    A host implements three methods: `wake_writer`, `set_timer` and `start_handler`. It calls
    `open_engine` once, then the others as things happen; docs/hosting.md shows which, and when.
    No method of this class runs the code of the program except `run_handler`.
    """

    _engine: RpcEngine
    """From `open_engine` on; the methods that a program can call before use `engine`."""

    def __init__(
        self,
        identity: str,
        transport: TransportT,
        *,
        config: RpcConfig = RpcConfig(),  # noqa: B008 (frozen)
        cryptor: Cryptor | None = None,
        new_id: Callable[[], str] | None = None,
        engine_factory: Callable[..., RpcEngine] = RpcEngine,
        departure_grace: float = 0.0,
    ) -> None:
        """A participant for one use, `identity` being 1 to 256 bytes of UTF-8.

        `departure_grace` is the transport's, in seconds; the engine gets the larger of this and
        the config's (R9). With a `cryptor`, packets are encrypted from end to end (R43); without
        a key to seal with, `open_engine` raises. `new_id` and `engine_factory` are for tests and
        tools: the source of ids (None: random ones), and what makes the engine. Raises
        LocalProtocolError.
        """
        require_name(identity, "identity", MAX_IDENTITY_BYTES)
        if require_finite(departure_grace, "departure_grace") > config.departure_grace:
            config = replace(config, departure_grace=float(departure_grace))
        self._identity = identity
        self._transport = transport
        self._config = config
        self._cryptor = cryptor
        self._new_id = new_id or random_ids()
        self._engine_factory = engine_factory
        self._is_open = False
        self._clock: Callable[[], float] = time.monotonic
        self._handlers = Handlers(identity, config)
        self._waiting = Waiting(identity)
        self._bad_events = SeldomLogged()
        self._timer_at: float | None = None
        self._connections = 0
        """How many connections there have been, one after another."""
        self._sending_over = 0
        """The number of the connection that the last sending began on."""
        self._is_drained = True
        """Whether the engine had no more packets when it was last asked."""
        self._is_closed = False
        self._is_pumping = False

    # for the program

    @property
    def identity(self) -> str:
        """The identity of this participant."""
        return self._identity

    @property
    def participants(self) -> tuple[str, ...]:
        """The identities of all other participants, in the order in which they joined; raises
        LocalProtocolError before entering."""
        return self.engine.participants

    def statistics(self) -> Statistics:
        """The engine's tables and counters; raises LocalProtocolError before entering."""
        return self.engine.statistics()

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
        entered, and is cancelled when nobody waits for its answer any more. If it raises `RpcError`
        (or a group with nothing else in it), the caller receives that error. Any other exception,
        and a result that is not a text, is logged, and the caller receives 1500 without details.

        Raises LocalProtocolError for a method that is registered already, which LiveKit's SDK would
        replace in silence, and at once for a name that is no text or too long.
        """
        require_method(method_name)
        self.require_owner()
        if handler is None:
            return lambda function: self.register_rpc_method(method_name, function)
        self._handlers.register(self._engine if self._is_open else None, method_name, handler)
        return handler

    def unregister_rpc_method(self, method: str) -> None:
        """Answer requests for `method` with 1400 from now on; handlers that run continue.

        Raises LocalProtocolError for a name that is no text or too long.
        """
        require_method(method)
        self.require_owner()
        self._handlers.unregister(self._engine if self._is_open else None, method)

    # what a host implements

    @abstractmethod
    def wake_writer(self) -> None:
        """There may be packets: have the writer send while `has_packets`.

        Called after every input, from within the other methods of this class; it must not send
        by itself unless `next_packet` may be called from there, and it must not block.
        """

    @abstractmethod
    def set_timer(self, at: float) -> None:
        """Call `timer_fired` at `at` on the clock, in seconds, and not at the instant given before.

        A timer may fire early or late."""

    @abstractmethod
    def start_handler(self, invocation: InvocationReceived) -> Callable[[], object]:
        """Start a task for an invocation, and return a function that cancels it.

        The task calls `run_handler`, awaits the result if it is awaitable, and hands it to
        `answer`, or what was raised to `answer_exception`. It must not run before this returns.
        When it has ended, in whatever way, the host calls `handler_ended`.
        """

    def require_owner(self) -> None:
        """Raise LocalProtocolError when called from a thread or an event loop that must not use
        the participant. Unless overridden, anybody may."""

    # for the host: what it brings about

    @property
    def engine(self) -> RpcEngine:
        """The engine, for reading; raises LocalProtocolError before `open_engine`."""
        if not self._is_open:
            raise LocalProtocolError("use the participant inside its `async with`")
        return self._engine

    @property
    def is_closed(self) -> bool:
        """Whether `close_engine` was called."""
        return self._is_closed

    def open_engine(self, clock: Callable[[], float]) -> None:
        """Make the engine, which counts time by `clock`, in seconds.

        Raises LocalProtocolError the second time.
        """
        if self._is_open:
            raise LocalProtocolError("a participant can be entered only once")
        engine = self._engine_factory(
            self._identity,
            new_id=self._new_id,
            unix_time_offset=time.time() - clock(),
            config=self._config,
            cryptor=self._cryptor,
        )
        for method in self._handlers.methods:
            engine.register_method(method)
        self._clock = clock
        self._engine, self._is_open = engine, True

    def begin_call(self, call: CallArguments, waiter: Waiter) -> Cancel:
        """Begin a call; `waiter` takes its outcome, the payload or the exception to be raised.

        While the transport is not connected for the first time, the call waits for that, and its
        timeouts begin then. Returns what cancels the call. `waiter` may be called before this
        returns. Raises LocalProtocolError for misuse, and RpcError (1503) when the connection is
        lost.
        """
        engine, waiting = self.engine, self._waiting
        self.require_owner()
        if waiting.connection is not Connection.CONNECTED and not self._is_closed:
            if waiting.connection is not Connection.CONNECTING:
                raise waiting.error_of(ErrorCode.RECIPIENT_DISCONNECTED)
            engine.check_call(*call[:3], response_timeout=call[3], ack_timeout=call[4])
            delayed = waiting.delayed[waiter] = DelayedCall(call)
            return partial(self._cancel_delayed, waiter, delayed)
        request_id = self._make_call(call, waiter)
        self._pump()
        return partial(self._cancel_call, request_id)

    def _make_call(self, call: CallArguments, waiter: Waiter) -> str:
        destination_identity, method, payload, response_timeout, ack_timeout = call
        request_id = self._engine.call(
            destination_identity,
            method,
            payload,
            now=self._clock(),
            response_timeout=response_timeout,
            ack_timeout=ack_timeout,
        )
        self._waiting.calls[request_id] = waiter
        return request_id

    def _cancel_call(self, request_id: str) -> None:
        if self._waiting.calls.pop(request_id, None) is not None:
            self._engine.cancel(request_id, now=self._clock())
            self._pump()

    def _cancel_delayed(self, waiter: Waiter, call: DelayedCall) -> None:
        self._waiting.delayed.pop(waiter, None)
        self._cancel_call(call.request_id)

    def expect_participant(self, identity: str, waiter: Waiter) -> Cancel:
        """Call `waiter` with an empty text once this participant is here, at once if it is already,
        or with the RpcError (1503) to be raised when nobody can come any more.

        Returns what cancels this. Raises LocalProtocolError for misuse.
        """
        engine, waiting = self.engine, self._waiting
        self.require_owner()
        require_name(identity, "identity", MAX_IDENTITY_BYTES)
        if self._is_closed:
            raise LocalProtocolError("the participant is closed")
        if identity in engine.participants:
            waiting.tell(waiter, "")
        elif waiting.connection is Connection.ENDED:
            waiting.tell(waiter, waiting.error_of(ErrorCode.RECIPIENT_DISCONNECTED))
        else:
            waiting.expect(identity, waiter)
            return partial(waiting.expect_no_more, identity, waiter)
        return noop

    def run_handler(self, invocation: InvocationReceived) -> object:
        """In the task of a handler: call it. Returns its result, or an awaitable of that; raises
        what it raises."""
        return self._handlers.run(invocation)

    def answer(self, invocation: InvocationReceived, result: object) -> None:
        """The handler returned: answer with its result, 1500 if that is not a valid text."""
        self._handlers.answer(self._engine, invocation, result, self._clock())
        self._pump()

    def answer_exception(self, invocation: InvocationReceived, error: BaseException) -> None:
        """The handler raised: answer with an RpcError as it is, with 1500 otherwise (R18)."""
        self._handlers.answer_exception(self._engine, invocation, error, self._clock())
        self._pump()

    def handler_ended(self, invocation: InvocationReceived) -> None:
        """The task of a handler has ended, whether it answered or not."""
        self._handlers.ended(invocation.invocation_id)

    def close_engine(self) -> None:
        """End all calls with 1503 and cancel all handlers; what waits may still be sent (R42)."""
        self.engine.close(now=self._clock())
        self._is_closed = True
        self._waiting.fail_delayed()
        self._waiting.fail_expected()
        self._pump()

    # for the host: what happened to it

    @property
    def has_packets(self) -> bool:
        """Whether the writer should call `Transport.send`, now, with `next_packet`."""
        self._sending_over = self._connections
        return not self._is_drained and self._waiting.may_send

    def next_packet(self) -> OutgoingPacket | None:
        """The packet to be sent next, chosen at this moment (R30); None if there is none."""
        self._sending_over = self._connections
        packet = self._engine.next_packet()
        self._is_drained = packet is None
        return packet

    def packets_not_sent(self, packets: Sequence[OutgoingPacket]) -> None:
        """These packets could not be sent, but the connection stands (R10)."""
        for packet in packets:
            self._engine.send_failed(packet, now=self._clock())
        self._pump()

    def receive_events(self, events: Sequence[TransportEvent]) -> None:
        """The transport returned these events."""
        engine, now = self._engine, self._clock()
        for event in events:
            try:
                if type(event) is PacketReceived:
                    engine.receive_packet(
                        event.data,
                        now=now,
                        sender_identity=event.sender_identity,
                        sender_sid=event.sender_sid,
                    )
                else:
                    self._tell_engine(engine, event, now)
            except LocalProtocolError as error:
                kind = type(event).__name__
                self._bad_events.warning("%s: ignored a %s: %s", self._identity, kind, error)
        # Only now: who is here may come after `Connected`.
        if self._waiting.delayed and self._waiting.connection is Connection.CONNECTED:
            self._begin_delayed_calls()
        self._pump()

    def sending_failed(self, error: Exception) -> None:
        """`Transport.send` raised something else: the connection is lost, unless it is another one
        by now."""
        if self._sending_over == self._connections:
            self.connection_failed(error)

    def connection_failed(self, error: Exception) -> None:
        """The transport raised `error`: the connection is lost."""
        if self._is_closed:
            self._waiting.connection = Connection.ENDED
        elif self._waiting.may_send:
            logger.warning("%s: the connection broke", self._identity, exc_info=error)
            self._connection_lost(error)

    def connection_ended(self) -> None:
        """The transport has ended: the connection cannot come back."""
        if not self._is_closed:
            self._connection_lost(None)
            self._waiting.connection = Connection.ENDED
            self._waiting.fail_expected()

    def timer_fired(self) -> None:
        """The timer fired, at whatever time."""
        self._timer_at = None
        self._engine.handle_deadline(now=self._clock())
        # Timers fire early: the pump looks at the next deadline again.
        self._pump()

    # within

    def _tell_engine(self, engine: RpcEngine, event: TransportEvent, now: float) -> None:
        match event:
            case ParticipantJoined():
                engine.participant_joined(
                    event.identity,
                    now=now,
                    participant_sid=event.participant_sid,
                    client_protocol=event.client_protocol,
                    capabilities=event.capabilities,
                )
                self._waiting.participant_came(event.identity)
            case ParticipantLeft():
                engine.participant_left(
                    event.identity, now=now, participant_sid=event.participant_sid
                )
            case Connected():
                engine.connected(
                    now=now,
                    server_version=event.server_version,
                    participants_complete=event.participants_complete,
                )
                self._connection_came()
            case Disconnected():
                self._connection_lost(event.cause)
            case PacketReceived():
                raise AssertionError("packets go another way")
            case _:
                assert_never(event)

    def _connection_came(self) -> None:
        waiting = self._waiting
        if waiting.connection is not Connection.CONNECTED:
            self._connections += 1
        waiting.connection, waiting.error = Connection.CONNECTED, None

    def _begin_delayed_calls(self) -> None:
        waiting = self._waiting
        delayed, waiting.delayed = waiting.delayed, {}
        for waiter, call in delayed.items():
            try:
                call.request_id = self._make_call(call.arguments, waiter)
            except LocalProtocolError as error:  # too many calls are pending
                waiting.tell(waiter, error)

    def _connection_lost(self, cause: BaseException | None) -> None:
        waiting = self._waiting
        if waiting.may_send:
            waiting.connection, waiting.error = Connection.LOST, cause
            self._engine.disconnected(now=self._clock())
            waiting.fail_delayed()
            self._pump()

    def _pump(self) -> None:
        """After any input: hand out the events, arm the timer, wake the writer."""
        if self._is_pumping:
            return  # the loop below takes what has come of this
        engine = self._engine
        self._is_pumping = True
        try:
            while events := engine.take_events():
                for event in events:
                    self._dispatch(event)
        finally:
            self._is_pumping = False
        deadline = engine.next_deadline
        # A timer that is set for earlier stays: it will fire, and look again.
        if deadline is not None and (self._timer_at is None or deadline < self._timer_at):
            self._timer_at = deadline
            self.set_timer(deadline)
        self._is_drained = False
        self.wake_writer()

    def _dispatch(self, event: Event) -> None:
        match event:
            case CallAcknowledged() | PacketIgnored():
                pass
            case CallSucceeded():
                self._waiting.call_ended(event.request_id, event.payload)
            case InvocationReceived():
                self._start_handler(event)
            case CallFailed():
                error = self._waiting.error_of(event.code, event.message, event.data)
                self._waiting.call_ended(event.request_id, error)
            case InvocationAbandoned():
                self._handlers.abandon(event.invocation_id)
            case _:
                assert_never(event)

    def _start_handler(self, invocation: InvocationReceived) -> None:
        if self._handlers.has_room_for(invocation.caller_identity):
            self._handlers.started(invocation, self.start_handler(invocation))
            return
        code, now = ErrorCode.APPLICATION_ERROR, self._clock()
        self._engine.respond_error(invocation.invocation_id, code, data=TOO_MANY_REQUESTS, now=now)
