"""The responding side: requests of others, from their first packet to our one answer."""

import math
from functools import partial
from typing import Final

from rpcproto.core.budget import Sender, has_room, without_reserve
from rpcproto.core.deadlines import Timed
from rpcproto.core.errors import (
    MAX_CODE,
    ErrorCode,
    LocalProtocolError,
    require_name,
    require_text,
    standard_error,
)
from rpcproto.core.events import (
    AbandonReason,
    Ignored,
    IgnoreReason,
    InvocationAbandoned,
    InvocationReceived,
)
from rpcproto.core.messages import (
    MAX_METHOD_BYTES,
    MAX_V1_PAYLOAD_BYTES,
    PACKET_VERSION,
    REQUEST_TOPIC,
    HeaderFields,
    OutgoingPacket,
    PacketKind,
    Request,
    RequestFields,
    fits,
    new_value,
)
from rpcproto.core.outbox import TOO_MANY_WAITING_BYTES
from rpcproto.core.repeats import RequestKey, RequestMemory
from rpcproto.core.roster import Handlers, Origin
from rpcproto.core.shared import Shared, Side, require_id, why_not_header, wire_timeout_ms
from rpcproto.core.states import INVOCATION_TABLE, InvocationInput, InvocationState
from rpcproto.core.stream_reader import OUT_OF_BYTES, OVER_CAP, Body, Fault, IncomingStream
from rpcproto.core.wire import (
    envelope,
    response_label,
    time_stamp,
    write_ack,
    write_error,
    write_response,
)

# Members that every request needs: to look one up in its enum costs as much as a protocol step.
_READING: Final = InvocationState.READING
_RUNNING: Final = InvocationState.RUNNING
_AFTER_BODY: Final = INVOCATION_TABLE[_READING][InvocationInput.BODY]
_ANSWER: Final = InvocationInput.ANSWER
_ACK: Final = PacketKind.ACK
_RESPONSE: Final = PacketKind.RESPONSE


class Invocation(Timed):
    """One request that has taken a slot (R22). `order` is the id that the host knows it by."""

    __slots__ = ("came_as_stream", "held_bytes", "key", "sender", "stream")

    state: InvocationState

    def __init__(
        self, order: int, key: RequestKey, sender: Sender, came_as_stream: bool, now: float
    ) -> None:
        self.order = order
        self.started = now
        self.state = _READING
        self.key: RequestKey = key
        self.sender: Sender = sender
        self.came_as_stream: bool = came_as_stream
        self.stream: IncomingStream | None = None
        """The body, while it is arriving."""
        self.held_bytes: int = 0
        """Bytes of the payload that the host was handed, until the invocation ends (R28)."""


class Responder(Side):
    """The registered methods and all invocations of one engine."""

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        config = shared.config
        self._max_packet_payload = min(MAX_V1_PAYLOAD_BYTES, config.max_payload_bytes)
        self._max_payload = config.max_payload_bytes
        self._senders = shared.reader.senders
        self._sender_of = self._senders.by_identity
        self._max_untaken_events = config.max_untaken_events
        self._max_in_all = config.max_invocations
        self._open_to_all = without_reserve(config.max_invocations)
        self._max_of_caller = config.max_invocations_per_caller
        self._usual_timeout_ms = wire_timeout_ms(config)
        """What callers ask for that are configured as we are."""
        self._usual_line = self._deadlines.line(self._lifetime(self._usual_timeout_ms))
        self._methods: set[str] = set()
        self.invocations: dict[int, Invocation] = {}
        self._memory = RequestMemory(
            config.remembered_requests,
            config.remembered_requests_per_caller,
            shared.roster.by_identity,
        )
        self._known = self._memory.known
        self._answers = self._memory.answers
        self.hands_over_unknown_methods: bool = False
        """See `RpcEngine.hand_over_unknown_methods`."""
        self.handlers: Handlers = {
            Request: self.receive_request,
            REQUEST_TOPIC: self.receive_header,
        }

    # what the application wants

    def register_method(self, method: str) -> None:
        """See `RpcEngine.register_method`."""
        require_name(method, "method", MAX_METHOD_BYTES)
        if method in self._methods:
            raise LocalProtocolError(f"the method {method!r} is registered already")
        self._methods.add(method)

    def unregister_method(self, method: str) -> None:
        """See `RpcEngine.unregister_method`."""
        self._methods.discard(method)

    def respond(self, invocation_id: int, payload: str, now: float) -> bool:
        """See `RpcEngine.respond`."""
        body = require_text(payload, "payload")
        invocation = self.invocations.get(invocation_id)
        if invocation is None or invocation.state is not _RUNNING:
            return False
        key, outbox, size = invocation.key, self._outbox, len(body)
        if outbox.waiting_bytes + size > outbox.max_bytes:
            self._end(invocation, _ANSWER)
            code = ErrorCode.RESPONSE_PAYLOAD_TOO_LARGE
            self._send_error(key, code, data=TOO_MANY_WAITING_BYTES)
        elif invocation.came_as_stream or size > self._max_packet_payload:
            self._respond_with_stream(invocation, body, now)
        else:
            self._end(invocation, _ANSWER)
            self._answers[invocation_id] = key
            identity, _, request_id = key
            data = write_response(invocation.sender.envelope, request_id, body)
            outbox.waiting_bytes += len(data)
            outbox.small.append((data, identity, request_id, _RESPONSE, invocation_id))
        return True

    def respond_error(self, invocation_id: int, code: int, message: str, data: str) -> bool:
        """See `RpcEngine.respond_error`."""
        # Subclasses of int and str may answer for themselves: what is sent is looked at alone.
        exact_code = int.__add__(code, 0) if isinstance(code, int) else -1
        if not 0 <= exact_code <= MAX_CODE:
            raise LocalProtocolError("an error code is an int from 0 to 2^32 - 1")
        message = require_text(message, "message").decode()
        data = require_text(data, "data").decode()
        invocation = self.invocations.get(invocation_id)
        if invocation is None or invocation.state is not _RUNNING:
            return False
        self._end(invocation, InvocationInput.ANSWER)
        self._send_error(invocation.key, exact_code, message, data)
        return True

    # what happened outside

    def receive_request(self, request: RequestFields, origin: Origin, now: float) -> Ignored:
        """A request that is a packet (R15)."""
        request_id, method, payload, timeout_ms, version, compressed = request
        invocation = self._admit(request_id, origin, timeout_ms, False, now)
        if not isinstance(invocation, Invocation):
            return invocation
        if version != PACKET_VERSION:
            self._refuse(invocation, ErrorCode.UNSUPPORTED_VERSION)
            return None
        if compressed:
            self._refuse(invocation, ErrorCode.APPLICATION_ERROR, "compressed_payload is not read")
            return None
        size = len(payload) if payload.isascii() else len(payload.encode())
        outcome: Body | Fault = OVER_CAP
        if size <= self._max_payload:
            is_there = self._senders.take(invocation.sender, size)
            outcome = (payload, size) if is_there else OUT_OF_BYTES
        self._body_ended(invocation, method, timeout_ms, outcome)
        return None

    def receive_header(self, header: HeaderFields, origin: Origin, now: float) -> Ignored:
        """A request that is a stream: its header says what a packet does, except for the payload
        (R27)."""
        stream_id, request_id, generated, body, (method, timeout_ms, is_ours) = header
        if generated or not request_id:
            return why_not_header(generated)
        invocation = self._admit(request_id, origin, timeout_ms, True, now)
        if not isinstance(invocation, Invocation):
            return invocation
        if not is_ours:
            self._refuse(invocation, ErrorCode.UNSUPPORTED_VERSION)
            return None
        if len(method) > MAX_METHOD_BYTES:
            method = ""  # nobody can have registered it, and nobody should have to hold it
        sid, reader, sender = origin.sid, self._reader, invocation.sender
        if sender.streams and (sid, stream_id) in sender.streams:
            body = (False, *body[1:])
        outcome = reader.read_header(body, sender, False)
        if outcome is None:
            on_end = partial(self._body_ended, invocation, method, timeout_ms)
            invocation.stream = reader.open((True, stream_id, body), sender, sid, now, on_end)
        else:
            self._body_ended(invocation, method, timeout_ms, outcome)
        return None

    def _admit(
        self, request_id: str, origin: Origin, timeout_ms: int, is_stream: bool, now: float
    ) -> Invocation | Ignored:
        """Ack a request and give it a slot, if it is new and there is one (R14, R16, R22)."""
        identity = origin.identity
        if not identity:
            return IgnoreReason.NO_SENDER
        outbox = self._outbox
        if len(outbox.small) >= outbox.max_packets or len(self._events) >= self._max_untaken_events:
            return IgnoreReason.OVERLOADED
        sender = self._sender_of.get(identity) or self._senders.open(identity)
        data = write_ack(sender.envelope, request_id)
        outbox.waiting_bytes += len(data)
        outbox.small.append((data, identity, request_id, _ACK, 0))
        key = (identity, origin.sid, request_id)
        if key in self._known:
            return IgnoreReason.REPEAT
        of_caller = sender.invocations
        if len(of_caller) >= self._max_of_caller or (
            len(self.invocations) >= self._open_to_all
            and not has_room(len(self.invocations) + 1, len(of_caller) + 1, self._max_in_all)
        ):
            self._known[key] = 0
            self._memory.add(key)
            self._send_error(key, ErrorCode.APPLICATION_ERROR, data="too many requests")
            return None
        order = next(self._orders)
        invocation = Invocation(order, key, sender, is_stream, now)
        self.invocations[order] = of_caller[order] = invocation
        self._known[key] = order
        if timeout_ms == self._usual_timeout_ms:
            self._usual_line.append(invocation)
        else:
            self._deadlines.start(invocation, self._lifetime(timeout_ms))
        return invocation

    def expire(self, invocation: Invocation) -> None:
        """Nobody waits for this answer any more (R20)."""
        self._abandon(invocation, AbandonReason.EXPIRED)

    def send_failed(self, packet: OutgoingPacket) -> None:
        """The host could not send a part of an answer: the caller is told so, once (R10)."""
        key = self._answers.pop(packet.token, None)
        leaving = self._outbox.streams.get(packet.token)
        if key is None and leaving is not None:
            # So many requests have ended since that this one is forgotten, but its body is here.
            key = (leaving.destination_identity, leaving.destination_sid, leaving.request_id)
        if key is not None:
            # The error goes first: the trailer alone would end the call with a lesser error.
            self._send_error(key, ErrorCode.SEND_FAILED)
            self._outbox.fail_stream(packet)

    def caller_left(self, identity: str, sid: str) -> None:
        """A caller left; what it asked under another sid, a newer one, goes on (R19)."""
        sender = self._sender_of.get(identity)
        if sender is not None:
            for invocation in list(sender.invocations.values()):
                if isinstance(invocation, Invocation) and (
                    not sid or invocation.key[1] in ("", sid)
                ):
                    self._abandon(invocation, AbandonReason.CALLER_LEFT)
        self._memory.caller_left(identity, sid)

    def everyone_left(self, reason: AbandonReason) -> None:
        """The connection is lost, or the engine closes (R41, R42)."""
        for invocation in list(self.invocations.values()):
            self._abandon(invocation, reason)
        self._memory.everyone_left()

    # a request comes in

    def _body_ended(
        self, invocation: Invocation, method: str, timeout_ms: int, outcome: Body | Fault
    ) -> None:
        """The whole body is here: hold it, look up the method, tell the host (R15). Or it is not to
        be had, for a reason that the caller is told (R26)."""
        invocation.stream = None
        if isinstance(outcome, Fault):
            code = outcome.code(ErrorCode.REQUEST_PAYLOAD_TOO_LARGE)
            self._refuse(invocation, code, outcome.data)
            return
        payload, invocation.held_bytes = outcome
        if method not in self._methods and not self._hands_over(method):
            self._refuse(invocation, ErrorCode.UNSUPPORTED_METHOD)
            return
        invocation.state = _AFTER_BODY
        identity, _, request_id = invocation.key
        event = (invocation.order, request_id, identity, method, payload, timeout_ms / 1000)
        self._events.append(new_value(InvocationReceived, event))

    def _hands_over(self, method: str) -> bool:
        """Whether the host wants a request although nobody has registered its method (R15)."""
        return self.hands_over_unknown_methods and method != "" and fits(method, MAX_METHOD_BYTES)

    # an invocation ends

    def _respond_with_stream(self, invocation: Invocation, body: bytes, now: float) -> None:
        """Answer with a stream, if the caller can read one and the payload is no larger (R17)."""
        identity, sid, request_id = key = invocation.key
        abilities = self._roster.abilities_of(identity, sid)
        if len(body) > self._max_payload or not (invocation.came_as_stream or abilities.streams):
            self._end(invocation, _ANSWER)
            self._send_error(key, ErrorCode.RESPONSE_PAYLOAD_TOO_LARGE)
            return
        stream_id, token = require_id(self._new_id()), invocation.order
        self._end(invocation, _ANSWER)
        self._answers[token] = key
        stamp = time_stamp((self._unix_time_offset + now) * 1000.0)
        opening = (invocation.sender.envelope, stream_id, stamp, response_label(request_id))
        self._outbox.send_stream(opening, request_id, body, (identity, sid), abilities, token)

    def _refuse(self, invocation: Invocation, code: ErrorCode, data: str = "") -> None:
        self._end(invocation, InvocationInput.REFUSAL)
        self._send_error(invocation.key, code, data=data)

    def _abandon(self, invocation: Invocation, reason: AbandonReason) -> None:
        if invocation.state is InvocationState.RUNNING:
            self._events.append(InvocationAbandoned(invocation.order, reason))
        expired = reason is AbandonReason.EXPIRED
        self._end(invocation, InvocationInput.DEADLINE if expired else InvocationInput.CALLER_LEFT)

    def _send_error(self, key: RequestKey, code: int, message: str = "", data: str = "") -> None:
        identity, _, request_id = key
        start, error = envelope(self._identity, identity), standard_error(code, message, data)
        packet = write_error(start, request_id, *error)
        self._outbox.send(PacketKind.ERROR, packet, identity, request_id)

    def _end(self, invocation: Invocation, what: InvocationInput) -> None:
        """Let the table decide, free what the invocation held, and remember its name."""
        invocation.state = INVOCATION_TABLE[invocation.state][what]
        order, sender = invocation.order, invocation.sender
        del self.invocations[order], sender.invocations[order]
        line = self._usual_line
        if line and line[0] is invocation:
            line.popleft()
        elif len(line) > line.limit:
            line.sweep()
        self._memory.add(invocation.key)
        if invocation.held_bytes:
            self._senders.give_back(sender, invocation.held_bytes)
        if invocation.stream is not None:
            self._reader.drop(invocation.stream)
            invocation.stream = None

    def _lifetime(self, timeout_ms: int) -> float:
        """How long an invocation may run (R20): rounded up to 2^-20 seconds, so that the sum with
        an instant is exact, and the order of deadlines does not depend on where the clock began
        (L10)."""
        config = self._config
        lifetime = math.ceil((timeout_ms / 1000 + config.invocation_grace) * 2**20) / 2**20
        return min(lifetime, config.max_invocation_lifetime)
