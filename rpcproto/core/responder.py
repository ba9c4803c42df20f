"""The responding side: requests of others, from their first packet to our one answer."""

import math
from functools import partial
from typing import Final

from rpcproto.core.deadlines import OVER, PENDING, Timed
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
    IgnoreReason,
    InvocationAbandoned,
    InvocationReceived,
)
from rpcproto.core.messages import (
    MAX_METHOD_BYTES,
    MAX_V1_PAYLOAD_BYTES,
    PACKET_VERSION,
    RESPONSE_TOPIC,
    UNSTATED_TIMEOUT_MS,
    ErrorResponse,
    OutgoingPacket,
    PacketKind,
    Request,
    RequestFields,
    StreamHeader,
    new_value,
    response_attributes,
)
from rpcproto.core.outbox import TOO_MANY_WAITING_BYTES
from rpcproto.core.repeats import RequestKey, RequestMemory
from rpcproto.core.roster import Participant
from rpcproto.core.shared import Shared, Side, wire_timeout_ms
from rpcproto.core.states import INVOCATION_TABLE, InvocationInput, InvocationState
from rpcproto.core.stream_reader import (
    MALFORMED,
    OVER_CAP,
    TOO_MANY_BYTES,
    Fault,
    IncomingStream,
    Sender,
)
from rpcproto.core.wire import encode, write_ack, write_response

# Members that every request needs: to look one up in its enum costs as much as a protocol step.
_READING: Final = InvocationState.READING
_RUNNING: Final = InvocationState.RUNNING
_BODY: Final = InvocationInput.BODY
_ANSWER: Final = InvocationInput.ANSWER
_ACK: Final = PacketKind.ACK
_RESPONSE: Final = PacketKind.RESPONSE


class Invocation(Timed):
    """One request that has taken a slot (R22). `order` is the id that the host knows it by."""

    __slots__ = ("came_as_stream", "held_bytes", "key", "sender", "state", "stream")

    def __init__(
        self, order: int, key: RequestKey, sender: Sender, came_as_stream: bool, now: float
    ) -> None:
        self.order = order
        self.started = now
        self.stage = PENDING
        self.key: RequestKey = key
        self.sender: Sender = sender
        self.came_as_stream: bool = came_as_stream
        self.state: InvocationState = _READING
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
        self._budget = shared.reader.budget
        self._senders = self._budget.senders
        self._max_untaken_events = config.max_untaken_events
        self._max_in_all = config.max_invocations
        self._max_of_caller = config.max_invocations_per_caller
        self._usual_timeout_ms = wire_timeout_ms(config)
        """What callers ask for that are configured as we are."""
        self._usual_line = self._deadlines.kept_line(self._lifetime(self._usual_timeout_ms))
        self._methods: set[str] = set()
        self._invocations: dict[int, Invocation] = {}
        self._memory = RequestMemory(
            config.remembered_requests, config.remembered_requests_per_caller
        )
        self._known = self._memory.answers

    def __len__(self) -> int:
        return len(self._invocations)

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
        invocation = self._invocations.get(invocation_id)
        if invocation is None or invocation.state is not _RUNNING:
            return False
        identity, _, request_id = invocation.key
        outbox = self._outbox
        if outbox.waiting_bytes + len(body) > outbox.max_bytes:
            self._end(invocation, InvocationInput.ANSWER)
            code = ErrorCode.RESPONSE_PAYLOAD_TOO_LARGE
            self._send_error(invocation.key, code, data=TOO_MANY_WAITING_BYTES)
        elif invocation.came_as_stream or len(body) > self._max_packet_payload:
            self._respond_at_length(invocation, body, now)
        else:
            self._end(invocation, _ANSWER)
            data = write_response(invocation.sender.envelope, request_id, body)
            outbox.waiting_bytes += len(data)
            outbox.small.append(
                new_value(OutgoingPacket, (data, identity, request_id, _RESPONSE, invocation_id))
            )
        return True

    def respond_error(self, invocation_id: int, code: int, message: str, data: str) -> bool:
        """See `RpcEngine.respond_error`."""
        if not isinstance(code, int) or not 0 <= code <= MAX_CODE:
            raise LocalProtocolError("an error code is an int from 0 to 2^32 - 1")
        require_text(message, "message")
        require_text(data, "data")
        invocation = self._invocations.get(invocation_id)
        if invocation is None or invocation.state is not _RUNNING:
            return False
        self._end(invocation, InvocationInput.ANSWER)
        self._send_error(invocation.key, code, message, data)
        return True

    # what happened outside

    def receive_request(
        self,
        request: RequestFields,
        identity: str,
        sid: str,
        now: float,
        header: StreamHeader | None = None,
    ) -> IgnoreReason | None:
        """A request, as a packet or as a stream: ack it, give it a slot, look at its body (R15)."""
        request_id, method, payload, timeout_ms, version, compressed = request
        if not identity:
            return IgnoreReason.NO_SENDER
        outbox = self._outbox
        if len(outbox.small) >= outbox.max_packets or len(self._events) >= self._max_untaken_events:
            return IgnoreReason.OVERLOADED
        sender = self._senders.get(identity) or self._budget.open(identity)
        data = write_ack(sender.envelope, request_id)
        outbox.waiting_bytes += len(data)
        outbox.small.append(new_value(OutgoingPacket, (data, identity, request_id, _ACK, 0)))
        key = (identity, sid, request_id)
        if key in self._known:
            return IgnoreReason.REPEAT
        if len(self._invocations) >= self._max_in_all or sender.invocations >= self._max_of_caller:
            self._known[key] = 0
            self._memory.add(key)
            self._send_error(key, ErrorCode.APPLICATION_ERROR, data="too many requests")
            return None
        order = next(self._orders)
        invocation = Invocation(order, key, sender, header is not None, now)
        self._invocations[order] = invocation
        sender.invocations += 1
        self._known[key] = order
        if timeout_ms == self._usual_timeout_ms:
            line = self._usual_line
            line.append(invocation)
            if len(line) > line.limit:
                line.sweep()
        else:
            self._deadlines.start(invocation, self._lifetime(timeout_ms))
        if version != PACKET_VERSION:
            self._refuse(invocation, ErrorCode.UNSUPPORTED_VERSION)
        elif header is not None:
            self._read_body(invocation, header, now)
        elif compressed:
            self._refuse(invocation, ErrorCode.APPLICATION_ERROR, "compressed_payload is not read")
        else:
            payload_bytes = len(payload) if payload.isascii() else len(payload.encode())
            if payload_bytes > self._max_payload:
                self._body_failed(invocation, OVER_CAP)
            elif not self._budget.take(sender, payload_bytes):
                self._body_failed(invocation, Fault(TOO_MANY_BYTES))
            else:
                self._body_read(invocation, method, timeout_ms, payload, payload_bytes)
        return None

    def receive_header(
        self, header: StreamHeader, identity: str, sid: str, now: float
    ) -> IgnoreReason | None:
        """The header of a request stream says what a request packet does, but for the payload."""
        timeout_ms = header.response_timeout_ms
        if timeout_ms is None:
            timeout_ms = UNSTATED_TIMEOUT_MS
        version = PACKET_VERSION if header.has_our_version else 0
        request = Request(header.request_id, header.method, "", timeout_ms, version)
        return self.receive_request(request, identity, sid, now, header)

    def expire(self, invocation: Invocation) -> None:
        """Nobody waits for this answer any more (R20)."""
        self._abandon(invocation, AbandonReason.EXPIRED)

    def send_failed(self, packet: OutgoingPacket) -> None:
        """The host could not send a part of an answer: the caller is told so, once (R10)."""
        key = self._memory.take_answer(packet.destination_identity, packet.token)
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
        for invocation in list(self._invocations.values()):
            if invocation.key[0] == identity and (not sid or invocation.key[1] in ("", sid)):
                self._abandon(invocation, AbandonReason.CALLER_LEFT)
        self._memory.caller_left(identity, sid)

    def caller_joined(self, identity: str) -> None:
        """A caller was announced: its requests are remembered by themselves (R16)."""
        self._memory.caller_joined(identity)

    def everyone_left(self, reason: AbandonReason) -> None:
        """The connection is lost, or the engine closes (R41, R42)."""
        for invocation in list(self._invocations.values()):
            self._abandon(invocation, reason)
        self._memory.everyone_left()

    # a request comes in

    def _read_body(self, invocation: Invocation, header: StreamHeader, now: float) -> None:
        """The body begins as a stream, or is there at once if it is inline (R27)."""
        identity, sid, _ = invocation.key
        method, timeout_ms = header.method, header.response_timeout_ms
        if len(method) > MAX_METHOD_BYTES:
            method = ""  # nobody can have registered it, and nobody should have to hold it
        fault = self._reader.check(header)
        if fault is not None:
            self._body_failed(invocation, fault)
        elif timeout_ms is None or (identity, sid, header.stream_id) in self._reader:
            self._body_failed(invocation, Fault(MALFORMED))
        else:
            invocation.stream = self._reader.open(
                header,
                identity,
                sid,
                now,
                partial(self._body_read, invocation, method, timeout_ms),
                partial(self._body_failed, invocation),
            )

    def _body_read(
        self, invocation: Invocation, method: str, timeout_ms: int, payload: str, payload_bytes: int
    ) -> None:
        """The whole body is here: hold it, look up the method, tell the host (R15)."""
        invocation.stream = None
        invocation.held_bytes = payload_bytes
        if method not in self._methods:
            self._refuse(invocation, ErrorCode.UNSUPPORTED_METHOD)
            return
        invocation.state = INVOCATION_TABLE[invocation.state][_BODY]
        identity, _, request_id = invocation.key
        self._events.append(
            new_value(
                InvocationReceived,
                (invocation.order, request_id, identity, method, payload, timeout_ms / 1000),
            )
        )

    def _body_failed(self, invocation: Invocation, fault: Fault) -> None:
        """The body is not to be had, for a reason that the caller is told (R26)."""
        code = ErrorCode.APPLICATION_ERROR
        if fault.over_cap:
            code = ErrorCode.REQUEST_PAYLOAD_TOO_LARGE
        self._refuse(invocation, code, fault.data)

    # an invocation ends

    def _respond_at_length(self, invocation: Invocation, body: bytes, now: float) -> None:
        """Answer with a stream, if the caller can read one and the payload is no larger (R17)."""
        identity, sid, request_id = invocation.key
        abilities = self._roster.abilities_of(identity, sid)
        as_stream = invocation.came_as_stream or abilities.streams
        if not as_stream or len(body) > self._max_payload:
            self._end(invocation, InvocationInput.ANSWER)
            self._send_error(invocation.key, ErrorCode.RESPONSE_PAYLOAD_TOO_LARGE)
            return
        stream_id = self._new_stream_id()
        self._end(invocation, InvocationInput.ANSWER)
        self._outbox.send_stream(
            stream_id,
            RESPONSE_TOPIC,
            response_attributes(request_id),
            body,
            Participant(identity, sid, abilities),
            invocation.order,
            now,
        )

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
        error = ErrorResponse(request_id, *standard_error(code, message, data))
        packet = encode(error, self._identity, identity)
        self._outbox.send(PacketKind.ERROR, packet, identity, request_id)

    def _end(self, invocation: Invocation, what: InvocationInput) -> None:
        """Let the table decide, free what the invocation held, and remember its name."""
        invocation.state = INVOCATION_TABLE[invocation.state][what]
        invocation.stage = OVER
        del self._invocations[invocation.order]
        sender = invocation.sender
        sender.invocations -= 1
        self._memory.add(invocation.key)
        if invocation.held_bytes:
            self._budget.give_back(sender, invocation.held_bytes)
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
