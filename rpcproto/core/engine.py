"""The one door: everything a host does with the protocol, and everything it learns from it."""

import math
from collections.abc import Callable, Collection
from functools import partial
from types import MappingProxyType
from typing import Final

from rpcproto.core.caller import Caller
from rpcproto.core.config import RpcConfig
from rpcproto.core.errors import LocalProtocolError, require_bytes, require_finite, require_name
from rpcproto.core.events import (
    ONLY_COUNTED,
    AbandonReason,
    Event,
    IgnoreReason,
    PacketIgnored,
    Statistics,
)
from rpcproto.core.messages import MAX_IDENTITY_BYTES, OutgoingPacket, Sealed, new_value
from rpcproto.core.recipients import Call
from rpcproto.core.responder import Invocation, Responder
from rpcproto.core.roster import Handlers, ReadSole, abilities_from, is_too_old
from rpcproto.core.sealing import Cryptor, Sealing
from rpcproto.core.shared import Shared
from rpcproto.core.wire import envelope, read_any, read_sole

_NEVER: Final = math.inf


class RpcEngine:
    """The protocol for one local participant, without I/O.

    The methods form four groups:

    * commands of the application: `call`, `cancel`, `respond`, `respond_error`, `register_method`,
      `unregister_method`, `hand_over_unknown_methods`;
    * reports from outside: `receive_packet`, `participant_joined`, `participant_left`, `connected`,
      `disconnected`, `send_failed`, `handle_deadline`, `close`;
    * results, to be taken after each input: `next_packet`, `take_events`;
    * state, which can be read at any time: `next_deadline`, `has_packets`, `participants`,
      `statistics`, `check_call`.

    `now` is the time of the host's monotonic clock in seconds, any finite number. A `now` that is
    lower than an earlier one counts as equal to it. Local misuse raises `LocalProtocolError` before
    anything has changed (R33). Bytes from outside never raise (R32). A new engine counts as
    connected.

    Not thread-safe. If threads share an engine, use a lock, and read the clock inside it.
    """

    def __init__(
        self,
        identity: str,
        *,
        new_id: Callable[[], str],
        unix_time_offset: float = 0.0,
        config: RpcConfig = RpcConfig(),  # noqa: B008 (frozen)
        cryptor: Cryptor | None = None,
    ) -> None:
        """Make an engine for the participant `identity` (1 to 256 bytes of UTF-8).

        `new_id` returns a new lower-case UUIDv4 of 36 characters at each call (R13), such as
        `rpcproto.random_ids()`. It must not call the engine. `unix_time_offset` is Unix time minus
        `now`, in seconds, for the time stamps in stream headers. With a `cryptor`, such as
        `rpcproto.e2ee.AesGcmCryptor`, packets are encrypted end to end (R43).

        Raises:
            LocalProtocolError: An argument is invalid, or the cryptor has no key to encrypt
                with.
        """
        require_name(identity, "identity", MAX_IDENTITY_BYTES)
        require_finite(unix_time_offset, "unix_time_offset")
        if cryptor is not None:
            cryptor.attach(identity)
        self._identity = identity
        self._max_packet_bytes = self._max_readable_bytes = config.max_packet_bytes
        """Below 0 while packets are not read at all."""
        self._max_untaken_events = config.max_untaken_events
        self._now = -math.inf
        self._is_connected = True
        self._is_closed = False
        self._packets_in = 0
        self._ignored: dict[IgnoreReason, int] = {}

        shared = Shared(identity, config, float(unix_time_offset), new_id)
        self._events, self._deadlines = shared.events, shared.deadlines
        self._senders_by_greeting = shared.roster.greetings
        self._greeting_bytes = len(envelope("", identity)) + 2
        """Without the sender's name."""
        self._roster, self._outbox = shared.roster, shared.outbox
        self._reader, self._half_read = shared.reader, shared.reader.streams
        self._caller = Caller(shared)
        self._responder = Responder(shared)
        self._pending, self._invocations = self._caller.pending, self._responder.invocations
        sides = self._caller.handlers | self._responder.handlers | shared.reader.handlers
        self._handlers = self._handlers_of_all = {**_IGNORED, **sides}
        """Of what `_read` reads, and of what `read_any` does."""
        self._read: ReadSole = read_sole
        self._sealing: Sealing | None = None
        if cryptor is not None:
            self._sealing = sealing = Sealing(cryptor, shared, self._handlers)
            self._read, self._handlers = sealing.read_sole, sealing.handlers_of_sole
            self._handlers_of_all = sealing.handlers

    # what the application wants

    @property
    def hand_over_unknown_methods(self) -> bool:
        """Whether the engine reports requests for unregistered methods to the host (R15). False by
        default.

        If it is True, the host must answer these requests, usually with 1400. The engine itself
        still refuses a method of 0 or more than 64 bytes.

        Raises:
            LocalProtocolError: The value is not a bool.
        """
        return self._responder.hands_over_unknown_methods

    @hand_over_unknown_methods.setter
    def hand_over_unknown_methods(self, value: bool) -> None:
        if not isinstance(value, bool):
            raise LocalProtocolError("hand_over_unknown_methods must be a bool")
        self._responder.hands_over_unknown_methods = value

    def call(
        self,
        destination_identity: str,
        method: str,
        payload: str,
        *,
        now: float,
        response_timeout: float | None = None,
        ack_timeout: float | None = None,
    ) -> str:
        """Call a method of a participant, and return the request id, which names the call in
        events.

        The call ends exactly once: with `CallSucceeded`, with `CallFailed`, or with a `cancel` that
        returns True (R1). An immediate failure is also reported as an event.

        `destination_identity` has 1 to 256 bytes of UTF-8, `method` 1 to 64. `response_timeout`
        limits the whole call, and `ack_timeout` the wait for an ack or a response (R2, R3). Both
        are in seconds and above 0. None means the value of the config.

        Raises:
            LocalProtocolError: An argument is invalid, the engine is closed or disconnected,
                too many calls are pending, or too many events are untaken.
        """
        if not self._is_connected or len(self._events) >= self._max_untaken_events:
            self._require_open()
            self._require_events_taken()
            raise LocalProtocolError("the engine is disconnected")
        if now is not self._now:
            now = self._checked(now)
        timeouts = response_timeout, ack_timeout
        request_id = self._caller.call(destination_identity, method, payload, now, timeouts)
        self._now = now
        return request_id

    def check_call(
        self,
        destination_identity: str,
        method: str,
        payload: str,
        *,
        response_timeout: float | None = None,
        ack_timeout: float | None = None,
    ) -> None:
        """Check the arguments of a call without changing anything.

        This does not check whether the engine is connected, or how many calls are pending.

        Raises:
            LocalProtocolError: `call` would raise it for these arguments.
        """
        timeouts = response_timeout, ack_timeout
        self._caller.check_call(destination_identity, method, payload, timeouts)

    def cancel(self, request_id: str, *, now: float) -> bool:
        """End a call without an event. Return False if it has ended already, or never existed.

        The handler of the other participant is not cancelled.

        Raises:
            LocalProtocolError: `now` is invalid, or too many events are untaken.
        """
        self._require_events_taken()
        accepted = self._checked(now)
        cancelled = self._caller.cancel(request_id)
        self._now = accepted
        return cancelled

    def respond(self, invocation_id: int, payload: str, *, now: float) -> bool:
        """Answer an invocation. Return False if it has ended already.

        If the payload has more than 15,360 bytes of UTF-8 (as a packet) or `max_payload_bytes` (as
        a stream), the caller receives 1504, and the result is True (R17).

        Raises:
            LocalProtocolError: The payload is not valid text, or too many events are untaken.
        """
        if len(self._events) >= self._max_untaken_events:
            self._require_events_taken()
        if now is not self._now:
            now = self._checked(now)
        answered = self._responder.respond(invocation_id, payload, now)
        self._now = now
        return answered

    def respond_error(
        self, invocation_id: int, code: int, message: str = "", data: str = "", *, now: float
    ) -> bool:
        """Answer an invocation with an error. Return False if it has ended already.

        `code` is 0 to 2^32 - 1. `message` and `data` are cut to 256 and 15,360 bytes of UTF-8. A
        code of the protocol with an empty message gets its standard message (R18).

        Raises:
            LocalProtocolError: The code is out of range, a text is invalid, or too many events
                are untaken.
        """
        self._require_events_taken()
        accepted = self._checked(now)
        answered = self._responder.respond_error(invocation_id, code, message, data)
        self._now = accepted
        return answered

    def register_method(self, method: str) -> None:
        """Accept requests for `method` (1 to 64 bytes of UTF-8) from now on.

        Raises:
            LocalProtocolError: The name is invalid, the method is registered already, the
                engine is closed, or too many events are untaken.
        """
        self._require_open()
        self._require_events_taken()
        self._responder.register_method(method)

    def unregister_method(self, method: str) -> None:
        """Refuse further requests for `method` with 1400. Running invocations continue.

        If the method is not registered, nothing happens.
        """
        self._responder.unregister_method(method)

    # what happened outside

    def receive_packet(
        self,
        data: bytes | bytearray | memoryview,
        *,
        now: float,
        sender_identity: str | None = None,
        sender_sid: str | None = None,
    ) -> None:
        """Process a packet that has arrived. Invalid packets never raise an exception (R32).

        If the host knows the sender, it passes `sender_identity`, which replaces the sender in the
        packet; without `sender_sid`, the sender then has no sid (R36). Both have at most 256 bytes
        of UTF-8.

        Raises:
            LocalProtocolError: `sender_identity`, `sender_sid` or `now` is invalid, or `data`
                is not bytes.
        """
        if type(data) is not bytes:
            data = require_bytes(data, self._max_packet_bytes)
        if sender_identity is not None or sender_sid is not None:
            require_name(sender_identity, "sender_identity", MAX_IDENTITY_BYTES, 0)
            require_name(sender_sid or "", "sender_sid", MAX_IDENTITY_BYTES, 0)
        if now is not self._now:
            self._now = now = self._checked(now)
        if len(data) > self._max_readable_bytes:
            self._receive_unreadable(data, sender_identity or "")
            return
        try:
            start = data[1] + self._greeting_bytes  # the length of its name is in the second byte
            sender = self._senders_by_greeting[data[:start]]
        except LookupError:
            self._receive_any(data, sender_identity, sender_sid)
            return
        message = None
        if sender_identity is None or sender.is_named(sender_identity, sender_sid):
            read = self._read
            message = read(data, start, sender)
        if message is None:
            self._receive_any(data, sender_identity, sender_sid)
            return
        self._packets_in += 1
        kind, fields = message
        reason = self._handlers[kind](fields, sender, now)
        if reason is not None:
            self._ignore(reason, sender.identity)

    def participant_joined(
        self,
        identity: str,
        *,
        now: float,
        participant_sid: str = "",
        client_protocol: int = 0,
        capabilities: Collection[int] = (),
    ) -> None:
        """Announce a participant, or update an announced one (R40).

        `client_protocol` is what the participant can read: 0 means packets only (RPC v1), 1 also
        streams (RPC v2), and 2 also inline streams. Compressed streams also need the capability 2.

        A new sid means that the participant left and came back. A sid that is announced for another
        participant counts as no sid. A newcomer beyond `max_participants` counts as not announced.

        Raises:
            LocalProtocolError: The identity is empty, the identity or sid is not text or has more
                than 256 bytes of UTF-8, `client_protocol` is not an int, or `capabilities` is not a
                collection.
        """
        require_name(identity, "identity", MAX_IDENTITY_BYTES)
        require_name(participant_sid, "participant_sid", MAX_IDENTITY_BYTES, 0)
        abilities = abilities_from(client_protocol, capabilities)
        self._now = self._checked(now)
        if self._is_closed:
            return
        roster = self._roster
        if roster.is_full_for(identity):
            roster.is_complete = False
            self._caller.roster_changed()
            return
        if roster.is_of_another(participant_sid, identity):
            participant_sid = ""
        known_sid = roster.sid_of(identity)
        if known_sid and participant_sid and participant_sid != known_sid:
            self._leave(identity, known_sid)
        elif participant_sid and not known_sid:
            self._reader.sid_learned(identity, participant_sid)
        roster.join(identity, participant_sid, abilities)
        self._caller.recipient_joined(identity, participant_sid)

    def participant_left(self, identity: str, *, now: float, participant_sid: str = "") -> None:
        """Report that a participant left, whether it was announced or not. Calls to it fail after
        `departure_grace`, and its invocations are abandoned.

        With a sid that is not the current one, the report is outdated and ignored (R40).

        Raises:
            LocalProtocolError: The identity or sid is invalid, as in `participant_joined`.
        """
        require_name(identity, "identity", MAX_IDENTITY_BYTES)
        require_name(participant_sid, "participant_sid", MAX_IDENTITY_BYTES, 0)
        self._now = self._checked(now)
        if self._is_closed:
            return
        known_sid = self._roster.sid_of(identity)
        if not (known_sid and participant_sid) or participant_sid == known_sid:
            self._leave(identity, known_sid or participant_sid)

    def connected(
        self, *, now: float, server_version: str | None = None, participants_complete: bool = False
    ) -> None:
        """Report that the connection is established, or update `server_version` and
        `participants_complete`.

        If `server_version` is below 1.8.0, calls fail with 1403 (R11). `participants_complete`
        means that all participants of the room are announced. Calls to others then fail with 1401
        at once (R12). Never set it in a LiveKit room, where participants can be hidden.

        Raises:
            LocalProtocolError: `server_version` is neither text nor None.
        """
        too_old = is_too_old(server_version)
        self._now = self._checked(now)
        if self._is_closed:
            return
        self._is_connected = True
        self._max_readable_bytes = self._max_packet_bytes
        self._roster.server_is_too_old = too_old
        self._roster.is_complete = participants_complete
        self._caller.roster_changed()

    def disconnected(self, *, now: float) -> None:
        """Report that the connection is lost (R41).

        All participants count as departed, calls fail with 1503, invocations are abandoned, and
        waiting packets are dropped. Registered methods and remembered requests stay.
        """
        self._now = self._checked(now)
        if self._is_closed:
            return
        self._is_connected = False
        self._max_readable_bytes = -1
        self._outbox.clear()
        self._everyone_leaves(AbandonReason.DISCONNECTED)

    def send_failed(self, packet: OutgoingPacket, *, now: float) -> None:
        """Report that a packet from `next_packet` could not be sent (R10).

        The call fails with 1505, or the caller receives 1505 in place of the answer. For an ack, an
        error, and a call or answer that has ended, nothing happens.

        Raises:
            LocalProtocolError: `packet` is not an `OutgoingPacket`.
        """
        if not isinstance(packet, OutgoingPacket):
            raise LocalProtocolError("send_failed takes a packet that next_packet returned")
        self._now = self._checked(now)
        if self._is_closed:
            return
        if packet.token:
            self._caller.send_failed(packet)
            self._responder.send_failed(packet)

    def handle_deadline(self, *, now: float) -> None:
        """End everything that is due by `now`, in the order of the deadlines.

        Calling it too early, twice or after `close` has no effect.
        """
        self._now = self._checked(now)
        reader = self._reader
        while True:
            due, idle, turn_at = self._deadlines.first(), reader.first(), reader.turn_at
            ends_at = min(due.deadline if due else _NEVER, idle[0] if idle else _NEVER)
            if turn_at is not None and turn_at <= min(self._now, ends_at):
                reader.take_turns(self._now)
            elif idle is not None and idle[0] <= self._now and (due is None or idle < due[:2]):
                reader.expire_first()
            elif due is None or due.deadline > self._now:
                return
            elif isinstance(due.item, Call):
                self._caller.expire(due.item, early=not due.is_last)
            else:
                assert isinstance(due.item, Invocation)
                self._responder.expire(due.item)

    def close(self, *, now: float) -> None:
        """Fail all calls with 1503 and abandon all invocations (R42).

        Waiting packets can still be taken. After this, inputs do nothing, and `call` and
        `register_method` raise `LocalProtocolError`.
        """
        self._now = self._checked(now)
        if not self._is_closed:
            self._is_closed, self._is_connected = True, False
            self._max_readable_bytes = -1
            self._everyone_leaves(AbandonReason.CLOSED)

    # what comes of it

    @property
    def has_packets(self) -> bool:
        """Whether packets are waiting, or bodies that are not yet cut into packets."""
        return bool(self._outbox.small or self._outbox.streams)

    def next_packet(self) -> OutgoingPacket | None:
        """Return the packet to send next, or None.

        The engine chooses the packet at this moment (R30). So call this only when you can send.
        """
        outbox = self._outbox
        small = outbox.small
        packet = small.popleft() if small else outbox.take_part()
        if packet is None:
            return None
        outbox.waiting_bytes -= len(packet[0])
        outbox.packets_out += 1
        if self._sealing is not None:
            packet = self._sealing.sealed(packet)
        return new_value(OutgoingPacket, packet)

    def take_events(self) -> tuple[Event, ...]:
        """Return all events since the last call of this method, in order."""
        events = tuple(self._events)
        self._events.clear()
        return events

    @property
    def next_deadline(self) -> float | None:
        """The instant at which to call `handle_deadline`, on the clock of `now`, or None."""
        if not (self._pending or self._invocations):
            return None
        deadline = self._deadlines.next_deadline()
        if not self._half_read:
            return deadline
        return self._reader.next_deadline(deadline)

    @property
    def participants(self) -> tuple[str, ...]:
        """The identities of the announced participants, in the order in which they joined."""
        return tuple(self._roster.by_identity)

    def statistics(self) -> Statistics:
        """Return the sizes of the tables and the numbers of packets. This changes nothing."""
        return Statistics(
            pending_calls=len(self._pending),
            running_invocations=len(self._invocations),
            open_streams_in=len(self._half_read),
            open_streams_out=len(self._outbox.streams),
            waiting_packets=len(self._outbox.small),
            waiting_bytes=self._outbox.waiting_bytes,
            buffered_bytes=self._reader.senders.held_bytes,
            packets_in=self._packets_in,
            packets_out=self._outbox.packets_out,
            ignored=MappingProxyType(dict(self._ignored)),
        )

    # within

    def _receive_any(self, data: bytes, named: str | None, named_sid: str | None) -> None:
        """A packet of any form. The sender whom the host names counts before the one in the packet
        (R36)."""
        packet = read_any(data, self._identity)
        if packet is None:
            self._receive_unreadable(data, named or "")
            return
        self._packets_in += 1
        kind, fields, origin = packet
        if named is not None:
            origin = origin._replace(identity=named, sid=named_sid or "")
        reason = self._roster.why_not(origin, named is not None, self._sealing is None)
        if reason is None:
            reason = self._handlers_of_all[kind](fields, self._roster.as_known(origin), self._now)
        if reason is not None:
            self._ignore(reason, origin.identity)

    def _receive_unreadable(self, data: bytes, sender_identity: str) -> None:
        """There is no packet to look at, and unless the engine is closed, a reason for it."""
        if self._is_closed:
            return
        self._packets_in += 1
        reason = IgnoreReason.MALFORMED if self._is_connected else IgnoreReason.DISCONNECTED
        if len(data) > self._max_packet_bytes:
            reason = IgnoreReason.TOO_LARGE
        self._ignore(reason, sender_identity)

    def _ignore(self, reason: IgnoreReason, sender_identity: str) -> None:
        self._ignored[reason] = self._ignored.get(reason, 0) + 1
        if reason not in ONLY_COUNTED and len(self._events) < self._max_untaken_events:
            self._events.append(PacketIgnored(reason, sender_identity))

    def _leave(self, identity: str, sid: str) -> None:
        self._roster.leave(identity)
        self._outbox.drop_streams(identity, sid)
        self._caller.recipient_left(identity, self._now)
        self._responder.caller_left(identity, sid)

    def _everyone_leaves(self, reason: AbandonReason) -> None:
        self._roster.everyone_leaves()
        self._outbox.drop_all_streams()
        self._caller.everyone_left()
        self._responder.everyone_left(reason)

    def _require_open(self) -> None:
        if self._is_closed:
            raise LocalProtocolError("the engine is closed")

    def _require_events_taken(self) -> None:
        if len(self._events) >= self._max_untaken_events and not self._is_closed:
            raise LocalProtocolError("too many events are untaken: call take_events")

    def _checked(self, now: float) -> float:
        """`now` as the engine counts it: finite, and never going back."""
        if type(now) is float and self._now <= now < _NEVER:
            return now
        return max(require_finite(now, "now"), self._now)


def _ignored(reason: IgnoreReason, *_: object) -> IgnoreReason:
    return reason


_IGNORED: Final[Handlers] = {
    **{reason: partial(_ignored, reason) for reason in IgnoreReason},
    "": partial(_ignored, IgnoreReason.UNKNOWN_TOPIC),
    Sealed: partial(_ignored, IgnoreReason.ENCRYPTED),
}
"""Who takes packets of the kinds that nobody wants."""
