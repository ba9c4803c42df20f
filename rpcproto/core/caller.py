"""The calling side: our calls, from `call` to the one end that each of them has (R1)."""

from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

from rpcproto.core.deadlines import HURRIED, OVER, PENDING, Line, Timed
from rpcproto.core.errors import (
    ErrorCode,
    LocalProtocolError,
    require_name,
    require_text,
    require_timeout,
    standard_error,
)
from rpcproto.core.events import CallAcknowledged, CallFailed, CallSucceeded, IgnoreReason
from rpcproto.core.messages import (
    MAX_ID_BYTES,
    MAX_IDENTITY_BYTES,
    MAX_METHOD_BYTES,
    MAX_V1_PAYLOAD_BYTES,
    REQUEST_TOPIC,
    Ack,
    ErrorResponse,
    OutgoingPacket,
    PacketKind,
    Response,
    StreamHeader,
    fits,
    new_value,
    request_attributes,
)
from rpcproto.core.outbox import TOO_MANY_WAITING_BYTES, TOO_MANY_WAITING_PACKETS
from rpcproto.core.roster import Participant
from rpcproto.core.shared import Shared, Side, wire_timeout_ms
from rpcproto.core.states import CALL_TABLE, CallInput, CallState
from rpcproto.core.stream_reader import Fault, IncomingStream
from rpcproto.core.wire import envelope, write_request

# Members that every call needs: to look one up in its enum costs as much as a step of the protocol.
_SENT: Final = CallState.SENT
_AFTER_ACK: Final = {
    state: inputs[CallInput.ACK] for state, inputs in CALL_TABLE.items() if CallInput.ACK in inputs
}
_RESPONSE: Final = CallInput.RESPONSE
_REQUEST: Final = PacketKind.REQUEST

MAX_ROUTES: Final = 1_024
NO_PAYLOAD: Final = "the response has no payload"


Address: TypeAlias = tuple[str, str]
"""A participant's identity and sid, the sid empty where it is not known."""


class Call(Timed):
    """One pending call."""

    __slots__ = ("recipient", "request_id", "state")

    def __init__(self, request_id: str, order: int, recipient: Address, now: float) -> None:
        self.request_id: str = request_id
        self.order = order
        self.recipient: Address = recipient
        self.started = now
        self.stage = HURRIED
        self.state: CallState = _SENT

    def accepts(self, identity: str, sid: str) -> bool:
        """Whether this is the participant that was called; a sid counts if both are known (R7)."""
        expected_identity, expected_sid = self.recipient
        return identity == expected_identity and (
            sid == expected_sid or not sid or not expected_sid
        )


@dataclass(frozen=True, slots=True)
class Route:
    """What is known of a call before its payload is there; it holds until the roster changes."""

    recipient: Participant
    address: Address
    envelope: bytes
    as_stream: bool
    max_payload_bytes: int
    refusal: int
    """The code with which every such call fails (R11, R12), or 0."""


class Caller(Side):
    """All pending calls of one engine."""

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        config = shared.config
        self._max_pending = config.max_pending_calls
        self._max_payload = config.max_payload_bytes
        timeout, window = config.response_timeout, config.ack_timeout
        self._usual_wire_ms = wire_timeout_ms(config)
        # Where calls without timeouts of their own wait for their deadlines. What is in the line of
        # ack windows is in the other as well. Without a window it is a line that nobody looks at.
        self._line = self._deadlines.kept_line(timeout)
        self._ack_line = (
            self._deadlines.kept_line(window, HURRIED)
            if window < timeout
            else Line(window, HURRIED)
        )
        self._pending: dict[str, Call] = {}
        self._max_ended = config.remembered_requests
        self._ended: dict[str, None] = {}
        """The last calls that ended: what still comes for one of them is late, not unknown."""
        self._ended_before: dict[str, None] = {}
        """Those that ended before them. Two generations are a bound that costs next to nothing."""
        self._routes: dict[tuple[str, str], Route] = {}
        """By destination and method."""
        self._reading: dict[str, IncomingStream] = {}
        """By request id, the response that a call reads."""

    def __len__(self) -> int:
        return len(self._pending)

    # what the application wants

    def call(
        self,
        destination_identity: str,
        method: str,
        payload: str,
        now: float,
        response_timeout: float | None,
        ack_timeout: float | None,
    ) -> str:
        """See `RpcEngine.call`."""
        try:
            route = self._routes[destination_identity, method]
        except (KeyError, TypeError):  # not there, or no text
            route = self._find_route(destination_identity, method)
        body = require_text(payload, "payload")
        timeouts = None
        if response_timeout is not None or ack_timeout is not None:
            timeouts = self._checked_timeouts(response_timeout, ack_timeout)
        pending, outbox = self._pending, self._outbox
        if len(pending) >= self._max_pending:
            raise LocalProtocolError(f"{len(pending)} calls are pending, which is the limit")
        request_id = self._new_id()
        id_text = require_text(request_id, "a new id")
        if not 0 < len(id_text) <= MAX_ID_BYTES:
            require_name(request_id, "a new id", MAX_ID_BYTES)
        if request_id in pending:
            raise LocalProtocolError(f"the new request id {request_id!r} is pending already")
        # What refuses a call, in the order of R1.
        if route.refusal:
            return self._refuse(request_id, route.refusal)
        if len(body) > route.max_payload_bytes:
            return self._refuse(request_id, ErrorCode.REQUEST_PAYLOAD_TOO_LARGE)
        if len(outbox.small) >= outbox.max_packets:
            return self._refuse(request_id, ErrorCode.SEND_FAILED, TOO_MANY_WAITING_PACKETS)
        if outbox.waiting_bytes + len(body) > outbox.max_bytes:
            return self._refuse(request_id, ErrorCode.SEND_FAILED, TOO_MANY_WAITING_BYTES)
        stream_id = self._new_stream_id() if route.as_stream else ""
        # From here on nothing raises.
        call = Call(request_id, next(self._orders), route.address, now)
        pending[request_id] = call
        if timeouts is None:
            timeout_ms = self._usual_wire_ms
            line = self._line
            line.append(call)
            self._ack_line.append(call)
            if len(line) > line.limit:
                line.sweep()
                self._ack_line.sweep()
        else:
            timeout_ms = self._start(call, *timeouts)
        if stream_id:
            attributes = request_attributes(request_id, method, timeout_ms)
            outbox.send_stream(
                stream_id, REQUEST_TOPIC, attributes, body, route.recipient, call.order, now
            )
        else:
            data = write_request(route.envelope, id_text, method, body, timeout_ms)
            outbox.waiting_bytes += len(data)
            packet = (data, destination_identity, request_id, _REQUEST, call.order)
            outbox.small.append(new_value(OutgoingPacket, packet))
        return request_id

    def cancel(self, request_id: str) -> bool:
        """See `RpcEngine.cancel`."""
        call = self._pending.get(request_id)
        if call is None:
            return False
        self._end(call, CallInput.CANCEL)
        return True

    # what happened outside

    def receive_ack(self, ack: Ack, identity: str, sid: str, now: float) -> IgnoreReason | None:
        """The responder has the request (R4)."""
        request_id = ack[0]
        call = self._pending.get(request_id)
        # Nearly every answer is from whom it should be, by the letter: that is seen in line.
        if call is None or (call.recipient != (identity, sid) and not call.accepts(identity, sid)):
            return self._why_not(call, request_id)
        state = _AFTER_ACK.get(call.state)
        if state is None:
            return IgnoreReason.REPEAT
        call.state = state
        call.stage = PENDING
        self._events.append(new_value(CallAcknowledged, (request_id,)))
        return None

    def receive_response(
        self, response: Response, identity: str, sid: str, now: float
    ) -> IgnoreReason | None:
        """A v1 response; it completes the call, whichever way the request went (R6)."""
        request_id, payload = response
        call = self._pending.get(request_id)
        if call is None or (call.recipient != (identity, sid) and not call.accepts(identity, sid)):
            return self._why_not(call, request_id)
        if payload is None:
            self._fail(call, _RESPONSE, ErrorCode.APPLICATION_ERROR, data=NO_PAYLOAD)
        elif len(payload) * 4 > self._max_payload and not fits(payload, self._max_payload):
            self._fail(call, _RESPONSE, ErrorCode.RESPONSE_PAYLOAD_TOO_LARGE)
        else:
            self._end(call, _RESPONSE)
            self._events.append(new_value(CallSucceeded, (request_id, payload)))
        return None

    def receive_error(
        self, error: ErrorResponse, identity: str, sid: str, now: float
    ) -> IgnoreReason | None:
        """The responder's error (R18)."""
        request_id, code, message, data = error
        call = self._pending.get(request_id)
        if call is None or not call.accepts(identity, sid):
            return self._why_not(call, request_id)
        self._fail(call, CallInput.RESPONSE, code, message, data)
        return None

    def receive_header(
        self, header: StreamHeader, identity: str, sid: str, now: float
    ) -> IgnoreReason | None:
        """A response begins as a stream, or is there at once if it is inline (R4, R6)."""
        call = self._pending.get(header.request_id)
        if call is None or not call.accepts(identity, sid):
            return self._why_not(call, header.request_id)
        if call.state is CallState.READING or (identity, sid, header.stream_id) in self._reader:
            return IgnoreReason.REPEAT
        fault = self._reader.check(header)
        if fault is not None:
            self._body_failed(call, fault)
            return None
        if header.inline_content is None:
            if call.state is CallState.SENT:
                self._events.append(new_value(CallAcknowledged, (call.request_id,)))
            call.state = CALL_TABLE[call.state][CallInput.RESPONSE_HEADER]
            call.stage = PENDING
        stream = self._reader.open(
            header,
            identity,
            sid,
            now,
            partial(self._body_read, call),
            partial(self._body_failed, call),
        )
        if stream is not None:
            self._reading[call.request_id] = stream
        return None

    def expire(self, call: Call, *, early: bool) -> None:
        """A deadline of `call` is over: its ack window if `early`, else the whole call (R3)."""
        code = ErrorCode.CONNECTION_TIMEOUT if early else ErrorCode.RESPONSE_TIMEOUT
        self._fail(call, CallInput.DEADLINE, code)

    def send_failed(self, packet: OutgoingPacket) -> None:
        """The host could not send a part of a request (R10)."""
        call = self._pending.get(packet.request_id)
        if call is not None and call.order == packet.token:
            self._outbox.fail_stream(packet)
            self._fail(call, CallInput.SEND_FAILED, ErrorCode.SEND_FAILED)

    def sid_learned(self, identity: str, sid: str) -> None:
        """The first sid of `identity` is known: its pending calls adopt it (R40)."""
        for call in self._pending.values():
            if call.recipient[0] == identity:
                call.recipient = identity, sid

    def roster_changed(self) -> None:
        """Somebody joined or left, or more is known of them or of the server."""
        self._routes.clear()

    def recipient_left(self, identity: str | None) -> None:
        """The recipient, or everyone if None, is not here any more (R9)."""
        self.roster_changed()
        for call in list(self._pending.values()):
            if identity is None or call.recipient[0] == identity:
                self._fail(call, CallInput.RECIPIENT_LEFT, ErrorCode.RECIPIENT_DISCONNECTED)

    # within

    def _find_route(self, destination_identity: str, method: str) -> Route:
        """Look at everything that a call depends on but its payload."""
        require_name(destination_identity, "destination_identity", MAX_IDENTITY_BYTES)
        require_name(method, "method", MAX_METHOD_BYTES)
        roster, refusal = self._roster, 0
        participant = roster.by_identity.get(destination_identity)
        if roster.server_is_too_old:
            refusal = ErrorCode.UNSUPPORTED_SERVER
        elif destination_identity == self._identity or (participant is None and roster.is_complete):
            refusal = ErrorCode.RECIPIENT_NOT_FOUND
        recipient = participant or Participant(destination_identity)
        as_stream = recipient.abilities.streams
        route = Route(
            recipient,
            (destination_identity, recipient.sid),
            envelope(self._identity, destination_identity),
            as_stream,
            self._max_payload if as_stream else MAX_V1_PAYLOAD_BYTES,
            refusal,
        )
        if len(self._routes) >= MAX_ROUTES:
            self._routes.clear()
        self._routes[destination_identity, method] = route
        return route

    def _checked_timeouts(self, response: float | None, ack: float | None) -> tuple[float, float]:
        """The timeouts of a call that has its own."""
        timeout, window = self._config.response_timeout, self._config.ack_timeout
        if response is not None:
            timeout = require_timeout(response, "response_timeout")
        if ack is not None:
            window = require_timeout(ack, "ack_timeout")
        return timeout, window

    def _start(self, call: Call, timeout: float, window: float) -> int:
        """Start the deadlines of a call (R2, R3); returns its timeout on the wire (R5)."""
        self._deadlines.start(call, timeout)
        if window < timeout:
            self._deadlines.start(call, window, HURRIED)
        return wire_timeout_ms(self._config, timeout)

    def _refuse(self, request_id: str, code: int, data: str = "") -> str:
        """A call that fails before anything is sent (R1)."""
        self._events.append(CallFailed(request_id, *standard_error(code, "", data)))
        return request_id

    def _why_not(self, call: Call | None, request_id: str) -> IgnoreReason:
        """Why an answer has no effect, if there is no such call or it is another's to answer."""
        if call is not None:
            return IgnoreReason.WRONG_SENDER
        has_ended = request_id in self._ended or request_id in self._ended_before
        return IgnoreReason.LATE if has_ended else IgnoreReason.UNKNOWN_CALL

    def _end(self, call: Call, what: CallInput) -> None:
        """Let the table decide, and let go of everything that the call held, but its name."""
        call.state = CALL_TABLE[call.state][what]
        call.stage = OVER
        request_id = call.request_id
        del self._pending[request_id]
        ended = self._ended
        ended[request_id] = None
        if len(ended) >= self._max_ended:
            self._ended_before, self._ended = ended, {}
        if self._outbox.streams:
            self._outbox.end_stream(call.order)
        if self._reading:
            stream = self._reading.pop(request_id, None)
            if stream is not None:
                self._reader.drop(stream)

    def _body_read(self, call: Call, payload: str, payload_bytes: int) -> None:
        budget = self._reader.budget
        budget.give_back(budget.open(call.recipient[0]), payload_bytes)
        self._end(call, CallInput.RESPONSE)
        self._events.append(new_value(CallSucceeded, (call.request_id, payload)))

    def _body_failed(self, call: Call, fault: Fault) -> None:
        code = ErrorCode.APPLICATION_ERROR
        if fault.over_cap:
            code = ErrorCode.RESPONSE_PAYLOAD_TOO_LARGE
        self._fail(call, CallInput.RESPONSE_FAILED, code, data=fault.data)

    def _fail(
        self, call: Call, what: CallInput, code: int, message: str = "", data: str = ""
    ) -> None:
        self._end(call, what)
        self._events.append(CallFailed(call.request_id, *standard_error(code, message, data)))
