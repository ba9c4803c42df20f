"""A participant without any async: its engine, and everything around it that needs no waiting."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, Generic, TypeVar, assert_never

from rpcproto.core.config import RpcConfig
from rpcproto.core.engine import RpcEngine
from rpcproto.core.errors import ErrorCode, LocalProtocolError, require_finite
from rpcproto.core.events import (
    CallAcknowledged,
    CallFailed,
    CallSucceeded,
    Event,
    InvocationAbandoned,
    InvocationReceived,
    PacketIgnored,
)
from rpcproto.core.messages import OutgoingPacket
from rpcproto.core.sealing import Cryptor
from rpcproto.errors import RpcError
from rpcproto.ids import random_ids
from rpcproto.logs import SeldomLogged, logger
from rpcproto.participant.draining import NOT_SENDING, DrainingParticipant
from rpcproto.participant.totals import SUCCESS, ParticipantStatistics, outcome_of
from rpcproto.participant.waiting import Connection
from rpcproto.transports import (
    Connected,
    Disconnected,
    ExplainingTransport,
    PacketReceived,
    ParticipantJoined,
    ParticipantLeft,
    TransportEvent,
)

LEAVING_TIME: Final = 1.0
"""The maximum duration of leaving, in seconds. Half of it is for packets that wait."""

MAX_EMPTY_SENDS: Final = 64
"""The number of sends in a row without a packet at which the connection counts as lost."""

TransportT = TypeVar("TransportT")


class ParticipantBase(DrainingParticipant, ABC, Generic[TransportT]):
    """The synchronous part of a host: the engine, the handlers, the pending calls and the timer.

    A host implements three methods: `wake_writer`, `set_timer` and `start_handler`. It calls
    `open_engine` once, and then reports events with the other methods; docs/hosting.md describes
    when. Only `run_handler` runs code of the application.
    """

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
        """Make a participant, for one use. `identity` has 1 to 256 bytes of UTF-8.

        `departure_grace` is the transport's, in seconds. The engine uses the larger of this value
        and the config's (R9). With a `cryptor`, packets are encrypted end to end (R43); if it has
        no key to encrypt with, `open_engine` raises. Tests and tools can replace `new_id`, the
        source of ids (None: random ids), and `engine_factory`, which makes the engine.

        Raises:
            LocalProtocolError: The identity or the grace is invalid.
        """
        if require_finite(departure_grace, "departure_grace") > config.departure_grace:
            config = replace(config, departure_grace=float(departure_grace))
        super().__init__(identity, config)
        self._transport = transport
        self._make_engine = partial(
            engine_factory, identity, new_id=new_id or random_ids(), config=config, cryptor=cryptor
        )
        self._bad_events = SeldomLogged()
        self._empty_sends = 0
        """How many sends in a row have taken no packet."""
        self._connections = 0
        """How many connections there have been, one after another."""
        self._is_drained = True
        """Whether the engine had no more packets when it was last asked."""
        self._is_pumping = False

    # for the program

    @property
    def participants(self) -> tuple[str, ...]:
        """The identities of all other participants, in the order in which they joined.

        Raises:
            LocalProtocolError: The participant was not entered.
        """
        return self.engine.participants

    def statistics(self) -> ParticipantStatistics:
        """Return the sizes of the engine's tables, its counters, and how calls and invocations
        ended.

        Raises:
            LocalProtocolError: The participant was not entered.
        """
        return self._totals.with_totals(self.engine.statistics())

    # what a host implements

    @abstractmethod
    def wake_writer(self) -> None:
        """Make the writer send packets as long as `has_packets` is True.

        Other methods of this class call this after every input that leaves packets waiting, on
        leaving and during a drain, so it must not block. It can send packets itself if sending does
        not block, but not in a nested call of this method.
        """

    # for the host: what it brings about

    def open_engine(self, clock: Callable[[], float]) -> None:
        """Make the engine. `clock` returns the time of a monotonic clock, in seconds.

        Raises:
            LocalProtocolError: This is the second call, or the cryptor has no key to encrypt
                with.
        """
        if self._is_open:
            raise LocalProtocolError("a participant can be entered only once")
        engine = self._make_engine(unix_time_offset=time.time() - clock())
        for method in self._handlers.methods:
            engine.register_method(method)
        self._clock = self._totals.clock = clock
        self._engine, self._is_open = engine, True

    def close_engine(self) -> None:
        """Fail all calls with 1503, and cancel all handlers. Waiting packets can still be sent
        (R42)."""
        self.engine.close(now=self._clock())
        self._is_closed = True
        self._fail_delayed_calls()
        self._waiting.fail_expected()
        self._waiting.error = None  # with its traceback it would keep all of this alive
        self._pump()
        self._fail_drains()

    # for the host: what happened to it

    @property
    def has_packets(self) -> bool:
        """Whether the writer should call `Transport.send` with `next_packet` now."""
        if not self._is_drained and self._waiting.may_send:
            self._sending_over = self._connections
            return True
        self._sending_over = NOT_SENDING
        if self._drains:
            self._look_at_drains()
        return False

    def next_packet(self) -> OutgoingPacket | None:
        """Return the packet to send next, or None. It is chosen at this moment (R30)."""
        self._sending_over = self._connections
        self._empty_sends = -1
        packet = self._engine.next_packet()
        self._is_drained = packet is None
        return packet

    def packets_not_sent(self, packets: Sequence[OutgoingPacket]) -> None:
        """Report that these packets could not be sent, but the connection still exists (R10)."""
        was_drained = self._is_drained
        for packet in packets:
            self._engine.send_failed(packet, now=self._clock())
        self._pump()
        # A transport that fails again and again, with nothing to send, would be asked for ever.
        if was_drained and not self._engine.has_packets:
            self._is_drained = True

    def send_was_empty(self) -> bool:
        """Report that `Transport.send` has returned or raised, and return whether it did not call
        `next_packet`.

        If so, let other tasks run before the next `send`, because it may end at once again. After
        64 such sends in a row, the connection counts as lost.
        """
        self._empty_sends += 1
        if self._empty_sends < MAX_EMPTY_SENDS:
            return self._empty_sends > 0
        self._empty_sends = 0
        self.sending_failed(
            RuntimeError(f"Transport.send took no packet {MAX_EMPTY_SENDS} times in a row")
        )
        return True

    def receive_events(self, events: Sequence[TransportEvent]) -> None:
        """Process events that the transport returned, in this order."""
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
        """Report that `Transport.send` raised `error`: the connection is lost, unless the transport
        has reconnected meanwhile."""
        if self._sending_over == self._connections:
            self.connection_failed(error)

    def connection_failed(self, error: Exception) -> None:
        """Report that `Transport.receive` raised `error`: the connection is lost."""
        if self._is_closed:
            self._waiting.connection_is(Connection.ENDED, self._waiting.error)
        elif self._waiting.may_send:
            logger.warning("%s: the connection is lost", self._identity, exc_info=error)
            self._connection_lost(error)

    def connection_ended(self) -> None:
        """Report that the transport has ended and can't be connected again."""
        if not self._is_closed:
            self._connection_lost(None)
            self._waiting.connection_is(Connection.ENDED, self._waiting.error)
            self._waiting.fail_expected()

    def timer_fired(self) -> None:
        """Report that the timer fired. It may be early or late."""
        self._timer_at = None
        self._engine.handle_deadline(now=self._clock())
        # Timers fire early: the pump looks at the next deadline again.
        self._pump()
        if self._drains:
            self._look_at_drains()

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
        waiting.connection_is(Connection.CONNECTED)

    def _connection_lost(self, cause: BaseException | None) -> None:
        waiting = self._waiting
        if waiting.may_send:
            waiting.connection_is(Connection.LOST, cause)
            self._engine.disconnected(now=self._clock())
            self._fail_delayed_calls()
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
        # The writer also ends drains, and ends itself.
        if engine.has_packets or self._drains or self._is_closed:
            self._is_drained = False
            self.wake_writer()

    def _dispatch(self, event: Event) -> None:
        match event:
            case InvocationReceived():
                self._start_handler(event)
            case CallSucceeded():
                self._call_ended(event.request_id, SUCCESS, event.payload)
            case CallAcknowledged() | PacketIgnored():
                pass
            case CallFailed():
                error = self._waiting.error_of(event.code, event.message, event.data)
                if event.code == ErrorCode.CONNECTION_TIMEOUT:
                    self._explain(error, event.request_id)
                self._call_ended(event.request_id, outcome_of(event.code), error)
            case InvocationAbandoned():
                self._handlers.abandon(event.invocation_id, event.reason)
            case _:
                assert_never(event)

    def _explain(self, error: RpcError, request_id: str) -> None:
        """Give the error of a call without an acknowledgement its cause, if that is known."""
        pending = self._waiting.calls.get(request_id)
        if pending is not None and isinstance(self._transport, ExplainingTransport):
            _, call, since = pending
            error.__cause__ = self._transport.explain(call.destination_identity, since)
