"""The calling side: our calls, from `call` to the one end that each of them has (R1)."""

from functools import partial
from typing import Final

from rpcproto.core.deadlines import HURRIED, OVER, PENDING, Timed
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
    MAX_IDENTITY_BYTES,
    MAX_METHOD_BYTES,
    MAX_UINT32,
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
from rpcproto.core.roster import Participant
from rpcproto.core.shared import Shared, Side
from rpcproto.core.states import CALL_TABLE, CallInput, CallState
from rpcproto.core.stream_reader import Fault, IncomingStream
from rpcproto.core.wire import envelope, write_request

MIN_WIRE_TIMEOUT_MS: Final = 1_000
# Members that every call needs: to look one up in its enum costs as much as a step of the protocol.
_SENT: Final = CallState.SENT
_ACK: Final = CallInput.ACK
_RESPONSE: Final = CallInput.RESPONSE
_REQUEST: Final = PacketKind.REQUEST

MAX_CHECKED_NAMES: Final = 1_024
NO_PAYLOAD: Final = "the response has no payload"


class Call(Timed):
    """One pending call."""

    __slots__ = ("destination_identity", "destination_sid", "request_id", "state")

    def __init__(
        self,
        request_id: str,
        order: int,
        destination_identity: str,
        destination_sid: str,
        now: float,
    ) -> None:
        self.request_id: str = request_id
        self.order = order
        self.destination_identity: str = destination_identity
        self.destination_sid: str = destination_sid
        self.started = now
        self.stage = HURRIED
        self.state: CallState = _SENT

    def is_answered_by(self, identity: str, sid: str) -> bool:
        """Whether this is the participant that was called; a sid counts if both are known (R7)."""
        if self.destination_identity != identity:
            return False
        expected = self.destination_sid
        return sid == expected or not sid or not expected


class Caller(Side):
    """All pending calls of one engine."""

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        config = shared.config
        self._participants = shared.roster.by_identity
        self._max_pending = config.max_pending_calls
        self._max_payload = config.max_payload_bytes
        timeout, window = config.response_timeout, config.ack_timeout
        self._usual_wire_ms = self._wire_ms(timeout)
        self._line = self._deadlines.kept_line(timeout)
        self._ack_line = self._deadlines.kept_line(window, HURRIED) if window < timeout else None
        self._pending: dict[str, Call] = {}
        self._max_ended = config.remembered_requests
        self._ended: dict[str, None] = {}
        """The last calls that ended: what still comes for one of them is late, not unknown."""
        self._ended_before: dict[str, None] = {}
        """Those that ended before them. Two generations are a bound that costs next to nothing."""
        self._checked_names: set[tuple[str, str]] = set()
        """Destinations and methods of earlier calls, which need no second look."""
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
        if (
            type(destination_identity) is not str
            or type(method) is not str
            or (destination_identity, method) not in self._checked_names
        ):
            self._check_names(destination_identity, method)
        payload_bytes = require_text(payload, "payload")
        others = None
        if response_timeout is not None or ack_timeout is not None:
            others = self._other_timeouts(response_timeout, ack_timeout)
        pending, outbox = self._pending, self._outbox
        if len(pending) >= self._max_pending:
            raise LocalProtocolError(f"{len(pending)} calls are pending, which is the limit")
        request_id = self._new_id()
        if request_id in pending:
            raise LocalProtocolError(f"the new request id {request_id!r} is pending already")
        participant = self._participants.get(destination_identity)
        refusal = self._refusal(destination_identity, participant, payload_bytes)
        if refusal is not None:
            self._events.append(CallFailed(request_id, *refusal))
            self._remember(request_id)
            return request_id
        if participant is None:
            participant = Participant(destination_identity)
        as_stream = participant.abilities.streams
        stream_id = self._new_id() if as_stream else ""
        # From here on nothing raises.
        token = self._next_order()
        call = Call(request_id, token, destination_identity, participant.sid, now)
        pending[request_id] = call
        timeout_ms = self._start(call, others)
        if as_stream:
            attributes = request_attributes(request_id, method, timeout_ms)
            outbox.send_stream(
                stream_id, REQUEST_TOPIC, attributes, payload, participant, token, now
            )
            return request_id
        to_recipient = envelope(self._identity, destination_identity)
        data = write_request(to_recipient, request_id, method, payload, timeout_ms)
        outbox.waiting_bytes += len(data)
        outbox.small.append(
            new_value(OutgoingPacket, (data, destination_identity, request_id, _REQUEST, token))
        )
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
        call = self._pending.get(ack[0])
        if call is None or not call.is_answered_by(identity, sid):
            return self._why_not(call, ack[0])
        state = CALL_TABLE[call.state].get(_ACK)
        if state is None:
            return IgnoreReason.REPEAT
        call.state = state
        call.stage = PENDING
        self._events.append(CallAcknowledged(call.request_id))
        return None

    def receive_response(
        self, response: Response, identity: str, sid: str, now: float
    ) -> IgnoreReason | None:
        """A v1 response; it completes the call, whichever way the request went (R6)."""
        request_id, payload = response
        call = self._pending.get(request_id)
        if call is None or not call.is_answered_by(identity, sid):
            return self._why_not(call, request_id)
        if payload is None:
            self._fail(call, _RESPONSE, ErrorCode.APPLICATION_ERROR, data=NO_PAYLOAD)
        elif not fits(payload, self._max_payload):
            self._fail(call, _RESPONSE, ErrorCode.RESPONSE_PAYLOAD_TOO_LARGE)
        else:
            self._end(call, _RESPONSE)
            self._events.append(CallSucceeded(call.request_id, payload))
        return None

    def receive_error(
        self, error: ErrorResponse, identity: str, sid: str, now: float
    ) -> IgnoreReason | None:
        """The responder's error (R18)."""
        request_id, code, message, data = error
        call = self._pending.get(request_id)
        if call is None or not call.is_answered_by(identity, sid):
            return self._why_not(call, request_id)
        self._fail(call, CallInput.RESPONSE, code, message, data)
        return None

    def receive_header(
        self, header: StreamHeader, identity: str, sid: str, now: float
    ) -> IgnoreReason | None:
        """A response begins as a stream, or is there at once if it is inline (R4, R6)."""
        call = self._pending.get(header.request_id)
        if call is None or not call.is_answered_by(identity, sid):
            return self._why_not(call, header.request_id)
        if call.state is CallState.READING or (identity, sid, header.stream_id) in self._reader:
            return IgnoreReason.REPEAT
        fault = self._reader.check(header)
        if fault is not None:
            self._body_failed(call, fault)
            return None
        if header.inline_content is None:
            if call.state is CallState.SENT:
                self._events.append(CallAcknowledged(call.request_id))
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
            if call.destination_identity == identity:
                call.destination_sid = sid

    def recipient_left(self, identity: str | None) -> None:
        """The recipient, or everyone if None, is not here any more (R9)."""
        for call in list(self._pending.values()):
            if identity is None or call.destination_identity == identity:
                self._fail(call, CallInput.RECIPIENT_LEFT, ErrorCode.RECIPIENT_DISCONNECTED)

    # within

    def _check_names(self, destination_identity: str, method: str) -> None:
        require_name(destination_identity, "destination_identity", MAX_IDENTITY_BYTES)
        require_name(method, "method", MAX_METHOD_BYTES)
        if len(self._checked_names) >= MAX_CHECKED_NAMES:
            self._checked_names.clear()
        self._checked_names.add((destination_identity, method))

    def _other_timeouts(self, response: float | None, ack: float | None) -> tuple[float, float]:
        """The timeouts of a call that has its own."""
        timeout, window = self._config.response_timeout, self._config.ack_timeout
        if response is not None:
            timeout = require_timeout(response, "response_timeout")
        if ack is not None:
            window = require_timeout(ack, "ack_timeout")
        return timeout, window

    def _start(self, call: Call, others: tuple[float, float] | None) -> int:
        """Start the deadlines of a call (R2, R3); returns its timeout on the wire (R5)."""
        if others is None:
            self._line.add(call)
            if self._ack_line is not None:
                self._ack_line.add(call)
            return self._usual_wire_ms
        timeout, window = others
        self._deadlines.start(call, timeout)
        if window < timeout:
            self._deadlines.start(call, window, HURRIED)
        return self._wire_ms(timeout)

    def _wire_ms(self, response_timeout: float) -> int:
        """What the handler gets: the call's time without the network's share (R5)."""
        budget_ms = (response_timeout - self._config.latency_allowance) * 1000
        return round(max(min(budget_ms, MAX_UINT32), MIN_WIRE_TIMEOUT_MS))

    def _refusal(
        self, destination_identity: str, participant: Participant | None, payload_bytes: int
    ) -> tuple[int, str, str] | None:
        """The error with which a call fails before anything is sent, if it does (R1)."""
        roster = self._roster
        code, data = 0, ""
        takes_streams = participant is not None and participant.abilities.streams
        if roster.server_is_too_old:
            code = ErrorCode.UNSUPPORTED_SERVER
        elif destination_identity == self._identity or (participant is None and roster.is_complete):
            code = ErrorCode.RECIPIENT_NOT_FOUND
        elif payload_bytes > (self._max_payload if takes_streams else MAX_V1_PAYLOAD_BYTES):
            code = ErrorCode.REQUEST_PAYLOAD_TOO_LARGE
        elif data := self._outbox.lacks_room(payload_bytes):
            code = ErrorCode.SEND_FAILED
        return standard_error(code, "", data) if code else None

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
        self._remember(request_id)
        if self._outbox.streams:
            self._outbox.end_stream(call.order)
        if self._reading:
            stream = self._reading.pop(request_id, None)
            if stream is not None:
                self._reader.drop(stream)

    def _remember(self, request_id: str) -> None:
        ended = self._ended
        ended[request_id] = None
        if len(ended) >= self._max_ended:
            self._ended_before, self._ended = ended, {}

    def _body_read(self, call: Call, payload: str, payload_bytes: int) -> None:
        self._reader.budget.give_back(call.destination_identity, payload_bytes)
        self._end(call, CallInput.RESPONSE)
        self._events.append(CallSucceeded(call.request_id, payload))

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
