"""The one door: everything a host does with the protocol, and everything it learns from it."""

import math
from collections import deque
from collections.abc import Callable, Collection, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from rpcproto.core.caller import Caller
from rpcproto.core.config import RpcConfig
from rpcproto.core.errors import LocalProtocolError, require_finite, require_name
from rpcproto.core.events import (
    ONLY_COUNTED,
    AbandonReason,
    Event,
    IgnoreReason,
    PacketIgnored,
    Statistics,
)
from rpcproto.core.messages import (
    MAX_IDENTITY_BYTES,
    REQUEST_TOPIC,
    RESPONSE_TOPIC,
    Ack,
    ErrorResponse,
    OutgoingPacket,
    Request,
    Response,
    Sealed,
    StreamChunk,
    StreamTrailer,
    Unread,
    new_value,
)
from rpcproto.core.recipients import Call
from rpcproto.core.responder import Invocation, Responder
from rpcproto.core.roster import abilities_from, is_too_old
from rpcproto.core.sealing import Cryptor, Handler, Sealing
from rpcproto.core.shared import Shared
from rpcproto.core.stream_reader import StreamReader
from rpcproto.core.wire import Envelope, Kind, Read, read

_NEVER: Final = math.inf
_GREETING: Final = Envelope("", "", True, 0)
"""What a packet says that begins as a known sender greets us, where the host names the sender."""


class RpcEngine:
    """LiveKit RPC for one local participant, without I/O: bytes and time go in, packets, deadlines
    and events come out.

    Four groups of methods:

    * what the application wants: `call`, `cancel`, `respond`, `respond_error`, `register_method`,
      `unregister_method`, `hand_over_unknown_methods`;
    * what happened outside: `receive_packet`, `participant_joined`, `participant_left`,
      `connected`, `disconnected`, `send_failed`, `handle_deadline`, `close`;
    * what comes of it: `next_packet`, `take_events`, to be taken after any input;
    * what can be read at any time: `next_deadline`, `participants`, `statistics`, `check_call`.

    `now` is the host's monotonic clock in seconds, any finite float; a `now` before the last one
    counts as the last one. Local misuse raises `LocalProtocolError` before anything has changed
    (R33); what comes from outside never raises (R32). An engine starts connected.

    Not thread-safe: one owner at a time, and `now` is taken inside the owner's lock.
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
        """An engine for the participant `identity` (1 to 256 bytes of UTF-8).

        `new_id` gives a new lower-case UUIDv4 text of 36 characters at each call (R13), such as
        `rpcproto.random_ids()`; it must not call the engine back. `unix_time_offset` is what `now`
        lacks to be Unix time, in seconds; stream headers are stamped with it. With a `cryptor`,
        such as `rpcproto.e2ee.AesGcmCryptor`, packets are encrypted from end to end (R43).
        Raises LocalProtocolError, also for a cryptor that has no key to seal with.
        """
        require_name(identity, "identity", MAX_IDENTITY_BYTES)
        require_finite(unix_time_offset, "unix_time_offset")
        if cryptor is not None:
            cryptor.attach(identity)
        self._identity = identity
        self._max_packet_bytes = config.max_packet_bytes
        self._max_readable_bytes = config.max_packet_bytes
        """Below 0 while packets are not read at all."""
        self._max_untaken_events = config.max_untaken_events
        self._now = -math.inf
        self._is_connected = True
        self._is_closed = False
        self._packets_in = 0
        self._ignored: dict[IgnoreReason, int] = {}

        shared = Shared(identity, config, float(unix_time_offset), new_id)
        self._events = shared.events
        self._deadlines = shared.deadlines
        self._roster = shared.roster
        self._senders = shared.roster.senders
        self._outbox = shared.outbox
        self._small = shared.outbox.small
        self._take_other = shared.outbox.take_of_stream
        self._is_new_packet = shared.roster.is_new_packet
        self._read: Callable[[bytes, str, Mapping[str, Any]], Read] = read
        self._reader = shared.reader
        self._half_read = shared.reader.streams
        self._caller = Caller(shared)
        self._responder = Responder(shared)
        self._handlers = _handlers(self._caller, self._responder, shared.reader)
        if cryptor is not None:
            sealing = Sealing(cryptor, shared, self._handlers)
            self._handlers, self._is_new_packet = sealing.handlers, shared.roster.is_unmarked
            self._small, self._take_other = deque(), sealing.next_packet
            self._read = sealing.read

    # what the application wants

    @property
    def hand_over_unknown_methods(self) -> bool:
        """Whether requests for methods that are not registered are handed to the host like any
        others (R15); False unless set.

        The host then answers them, with 1400 unless it knows better. A method of 0 or more than 64
        bytes is refused all the same. Setting this is an input; it raises LocalProtocolError for
        anything but a bool.
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
        """Call `method` of a participant; returns the request id, which names the call in events.

        The call ends exactly once: with `CallSucceeded`, with `CallFailed`, or with a `cancel` that
        returns True (R1). It may fail at once, as an event. `destination_identity` is 1 to 256
        bytes of UTF-8, `method` 1 to 64. `response_timeout` bounds the whole call, `ack_timeout`
        the wait for a sign of life (R2, R3): seconds, above 0; None takes the config's.

        Raises LocalProtocolError for misuse, when the engine is closed or disconnected, and when
        too many calls are pending or too many events untaken.
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
        """Raise the LocalProtocolError that `call` would raise for these arguments; change nothing.

        Whether the engine is connected, and how many calls are pending, is not looked at.
        """
        timeouts = response_timeout, ack_timeout
        self._caller.check_call(destination_identity, method, payload, timeouts)

    def cancel(self, request_id: str, *, now: float) -> bool:
        """End a call without an event; False if it has ended already (or never was).

        The handler at the other end may still run. Raises LocalProtocolError for a bad `now`, and
        when too many events are untaken.
        """
        self._require_events_taken()
        accepted = self._checked(now)
        cancelled = self._caller.cancel(request_id)
        self._now = accepted
        return cancelled

    def respond(self, invocation_id: int, payload: str, *, now: float) -> bool:
        """Answer an invocation; False if nobody waits for it any more.

        A payload that is too large for its way is answered with 1504, and True returned (R17).
        Raises LocalProtocolError for a payload that is not valid text, and when too many events
        are untaken.
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
        """Answer an invocation with an error; False if nobody waits for it any more.

        `code` is 0 to 2^32 - 1; `message` and `data` are cut to 256 and 15,360 bytes of UTF-8, and
        a code of the protocol with an empty message gets its standard one (R18).
        Raises LocalProtocolError for another code or invalid text, and when too many events are
        untaken.
        """
        self._require_events_taken()
        accepted = self._checked(now)
        answered = self._responder.respond_error(invocation_id, code, message, data)
        self._now = accepted
        return answered

    def register_method(self, method: str) -> None:
        """Take requests for `method` (1 to 64 bytes of UTF-8) from now on.

        Raises LocalProtocolError for a method that is registered, when the engine is closed, and
        when too many events are untaken.
        """
        self._require_open()
        self._require_events_taken()
        self._responder.register_method(method)

    def unregister_method(self, method: str) -> None:
        """Answer further requests for `method` with 1400; running invocations go on.

        A method that is not registered is left so.
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
        """A packet arrived. Whatever its bytes are, this does not raise for them (R32).

        A host that knows who sent it says so: `sender_identity` replaces what the packet claims,
        and without `sender_sid` there is no sid (R36). Both are at most 256 bytes of UTF-8.
        """
        if type(data) is not bytes:
            data = _as_bytes(data, self._max_packet_bytes)
        if sender_identity is not None or sender_sid is not None:
            require_name(sender_identity, "sender_identity", MAX_IDENTITY_BYTES, 0)
            require_name(sender_sid or "", "sender_sid", MAX_IDENTITY_BYTES, 0)
        if now is not self._now:
            self._now = now = self._checked(now)
        if (
            len(data) > self._max_readable_bytes
            or (packet := self._read(data, self._identity, self._senders)) is None
        ):
            self._receive_unreadable(data, sender_identity or "")
            return
        self._packets_in += 1
        kind, fields, sender, envelope = packet
        if envelope is not None or sender_identity is not None:
            sender = self._judged(envelope or _GREETING, sender_identity, sender_sid)
            if sender is None:
                return
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
        """A participant is here, or something new is known of one that is (R40).

        A new sid means that it left and came back. A sid that is announced for somebody else is
        not taken, and a newcomer beyond `max_participants` counts as not announced. Raises
        LocalProtocolError for an identity or a sid that is not text or is over 256 bytes of UTF-8,
        for an empty identity, and for a `client_protocol` or `capabilities` that are not numbers.
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
        """A participant is gone, announced or not: calls to it fail, its requests are dropped.

        With a sid that is not the current one it is old news, and ignored (R40).
        Raises LocalProtocolError as `participant_joined` does.
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
        """The connection is there (again), or more is known of it; an engine starts connected.

        A `server_version` below 1.8.0 fails calls with 1403 (R11). `participants_complete` says
        that whoever is not announced is not here, so that calls to them fail with 1401 (R12);
        never true of a LiveKit room.
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
        """The connection is lost, and with it everyone: calls fail with 1503, invocations are
        abandoned, nothing waits to be sent; methods and what is remembered stay (R41)."""
        self._now = self._checked(now)
        if self._is_closed:
            return
        self._is_connected = False
        self._max_readable_bytes = -1
        self._outbox.clear()
        self._everyone_leaves(AbandonReason.DISCONNECTED)

    def send_failed(self, packet: OutgoingPacket, *, now: float) -> None:
        """A packet that `next_packet` gave could not be sent (R10).

        The call fails with 1505, or the caller is told 1505 in place of the answer. For an ack, an
        error, and what is over already, nothing happens.
        """
        if not isinstance(packet, OutgoingPacket):
            raise LocalProtocolError("only a packet that `next_packet` gave can fail to be sent")
        self._now = self._checked(now)
        if self._is_closed:
            return
        if packet.token:
            self._caller.send_failed(packet)
            self._responder.send_failed(packet)

    def handle_deadline(self, *, now: float) -> None:
        """Time has passed: end everything that is due by `now`, in the order of its deadlines.

        Too early, twice or after `close` does no harm.
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
        """End it all: calls fail with 1503, invocations are abandoned; packets that wait may still
        be taken. From now on inputs do nothing, and `call` and `register_method` raise (R42)."""
        self._now = self._checked(now)
        if not self._is_closed:
            self._is_closed, self._is_connected = True, False
            self._max_readable_bytes = -1
            self._everyone_leaves(AbandonReason.CLOSED)

    # what comes of it

    def next_packet(self) -> OutgoingPacket | None:
        """The packet that leaves next, chosen now (R30), or None. Take one when there is room."""
        outbox, small = self._outbox, self._small
        if not small:
            return self._take_other()
        packet = small.popleft()
        outbox.waiting_bytes -= len(packet[0])
        outbox.packets_out += 1
        return new_value(OutgoingPacket, packet)

    def take_events(self) -> tuple[Event, ...]:
        """Everything that has come of the inputs since the last time, in order."""
        events = tuple(self._events)
        self._events.clear()
        return events

    @property
    def next_deadline(self) -> float | None:
        """When to call `handle_deadline`, on the clock of `now`; None when nothing is open."""
        if not self._half_read:
            return self._deadlines.next_deadline()
        deadline = self._deadlines.next_deadline()
        idle, turn_at = self._reader.first(), self._reader.turn_at
        others = (deadline, idle[0] if idle else None, turn_at)
        return min(instant for instant in others if instant is not None)

    @property
    def participants(self) -> tuple[str, ...]:
        """The identities of all others who were announced and have not left, as they came."""
        return tuple(self._roster.by_identity)

    def statistics(self) -> Statistics:
        """The tables as they stand and the packets that passed; changes nothing."""
        return Statistics(
            pending_calls=len(self._caller),
            running_invocations=len(self._responder),
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

    def _receive_unreadable(self, data: bytes, sender_identity: str) -> None:
        """There is no packet to look at, and unless the engine is closed, a reason for it."""
        if self._is_closed:
            return
        self._packets_in += 1
        reason = IgnoreReason.MALFORMED if self._is_connected else IgnoreReason.DISCONNECTED
        if len(data) > self._max_packet_bytes:
            reason = IgnoreReason.TOO_LARGE
        self._ignore(reason, sender_identity)

    def _judged(
        self, envelope: Envelope, sender_identity: str | None, sender_sid: str | None
    ) -> Envelope | None:
        """The envelope as it counts, the host's word before the packet's (R36); None if the packet
        is ignored for it."""
        identity, sid, is_for_us, sequence = envelope
        if sender_identity is not None:
            identity, sid = sender_identity, sender_sid or ""
        reason = None
        if not is_for_us:
            reason = IgnoreReason.NOT_FOR_US
        elif identity == self._identity:
            reason = IgnoreReason.FROM_OURSELVES
        elif sid and sender_identity is None and self._roster.is_of_another(sid, identity):
            reason = IgnoreReason.IMPERSONATION
        elif sequence and not self._is_new_packet(identity, sid, sequence):
            reason = IgnoreReason.REPEAT
        if reason is not None:
            self._ignore(reason, identity)
            return None
        known = self._senders.get(identity)
        if known is None:
            return Envelope(identity, sid, is_for_us, sequence)
        # One string for all that is kept of it.
        return Envelope(known.identity, sid or known.sid, is_for_us, sequence if sid else 0)

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


def _handlers(caller: Caller, responder: Responder, reader: StreamReader) -> dict[Kind, Handler]:
    """Who takes packets of which kind."""
    return {
        Request: responder.receive_request,
        Ack: caller.receive_ack,
        Response: caller.receive_response,
        ErrorResponse: caller.receive_error,
        REQUEST_TOPIC: responder.receive_header,
        RESPONSE_TOPIC: caller.receive_header,
        "": partial(_ignored, IgnoreReason.UNKNOWN_TOPIC),
        StreamChunk: reader.receive_chunk,
        StreamTrailer: reader.receive_trailer,
        Sealed: partial(_ignored, IgnoreReason.ENCRYPTED),
        Unread: partial(_ignored, IgnoreReason.UNKNOWN_KIND),
    }


def _ignored(reason: IgnoreReason, *_: object) -> IgnoreReason:
    return reason


def _as_bytes(data: bytes | bytearray | memoryview, max_bytes: int) -> bytes:
    """The packet as bytes; of one that is too large, no more than shows it."""
    if not isinstance(data, bytes | bytearray | memoryview):
        raise LocalProtocolError(f"a packet is bytes, not {type(data).__name__}")
    return bytes(data) if memoryview(data).nbytes <= max_bytes else bytes(max_bytes + 1)
