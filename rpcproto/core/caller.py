"""The calling side: our calls, from `call` to the one end that each of them has (R1)."""

from functools import partial
from typing import Final, TypeAlias

from rpcproto.core.errors import (
    ErrorCode,
    LocalProtocolError,
    require_text,
    require_timeout,
    standard_error,
)
from rpcproto.core.events import CallAcknowledged, CallFailed, CallSucceeded, Ignored, IgnoreReason
from rpcproto.core.messages import (
    RESPONSE_TOPIC,
    Ack,
    ErrorResponse,
    HeaderFields,
    OutgoingPacket,
    PacketKind,
    Response,
    fits,
    new_value,
)
from rpcproto.core.outbox import TOO_MANY_WAITING_BYTES, TOO_MANY_WAITING_PACKETS
from rpcproto.core.recipients import Call, Recipients, Route, require_names
from rpcproto.core.roster import Handlers, Origin
from rpcproto.core.shared import Shared, Side, require_id, why_not_header, wire_timeout_ms
from rpcproto.core.states import CALL_TABLE, CallInput, CallState
from rpcproto.core.stream_reader import OVER_CAP, Body, Fault, IncomingStream
from rpcproto.core.wire import request_label, time_stamp, write_request

# Members that every call needs: to look one up in its enum costs as much as a step of the protocol.
_SENT: Final = CallState.SENT
_READING: Final = CallState.READING
_AFTER_ACK: Final = {
    state: inputs[CallInput.ACK] for state, inputs in CALL_TABLE.items() if CallInput.ACK in inputs
}
_RESPONSE: Final = CallInput.RESPONSE
_RESPONSE_HEADER: Final = CallInput.RESPONSE_HEADER
_REQUEST: Final = PacketKind.REQUEST

Timeouts: TypeAlias = tuple[float | None, float | None]
"""The response timeout and the ack timeout that a call is given; None means the config's."""
_UNSTATED: Final[Timeouts] = None, None
NO_PAYLOAD: Final = Fault("the response has no payload")


class Caller(Side):
    """All pending calls of one engine."""

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        config = shared.config
        self._max_pending = config.max_pending_calls
        self._max_payload = config.max_payload_bytes
        self._any_packet_fits = config.max_packet_bytes <= config.max_payload_bytes
        """So that what comes in one packet need not be measured."""
        self._sender_of = shared.reader.senders.by_identity
        timeout, window = config.response_timeout, config.ack_timeout
        self._usual_wire_ms = wire_timeout_ms(config)
        self._line = self._deadlines.line(timeout, window)
        """Where calls without timeouts of their own wait for their deadlines."""
        self.pending: dict[str, Call] = {}
        self._max_ended = config.remembered_requests
        self._ended: dict[str, None] = {}
        """The last calls that ended: what still comes for one of them is late, not unknown."""
        self._ended_before: dict[str, None] = {}
        """Those that ended before them. Two generations are a bound that costs next to nothing."""
        self._recipients = Recipients(shared.identity, config, shared.roster)
        self._routes = self._recipients.routes
        self._reading: dict[str, IncomingStream] = {}
        """By request id, the response that a call reads."""
        self.handlers: Handlers = {
            Ack: self.receive_ack,
            Response: self.receive_response,
            ErrorResponse: self.receive_error,
            RESPONSE_TOPIC: self.receive_header,
        }

    # what the application wants

    def call(
        self, destination_identity: str, method: str, payload: str, now: float, timeouts: Timeouts
    ) -> str:
        """See `RpcEngine.call`."""
        try:
            route = self._routes[destination_identity, method]
        except (KeyError, TypeError):  # not there, or no text
            route = self._recipients.find_route(destination_identity, method)
        body = require_text(payload, "payload")
        own = None if timeouts == _UNSTATED else self._checked_timeouts(*timeouts)
        pending, outbox, size = self.pending, self._outbox, len(body)
        if len(pending) >= self._max_pending:
            raise LocalProtocolError(f"{len(pending)} calls are pending, which is the limit")
        new_id = self._new_id
        request_id = new_id()
        id_text = require_id(request_id)
        if request_id in pending:
            raise LocalProtocolError(f"the new request id {request_id!r} is pending already")
        if (
            size > route.max_payload_bytes
            or len(outbox.small) >= outbox.max_packets
            or outbox.waiting_bytes + size > outbox.max_bytes
        ):
            return self._refuse(request_id, route, size)
        stream_id = require_id(new_id()) if route.abilities.streams else b""
        # From here on nothing raises.
        recipient, token, timeout_ms = route.recipient, next(self._orders), self._usual_wire_ms
        pending[request_id] = call = Call(request_id, token, recipient, now)
        recipient.calls.append(call)
        if own is None:
            self._line.append(call)
        else:
            self._deadlines.start(call, *own)
            timeout_ms = wire_timeout_ms(self._config, own[0])
        if not stream_id:
            data = write_request(route.envelope, id_text, method, body, timeout_ms)
            outbox.waiting_bytes += len(data)
            outbox.small.append((data, destination_identity, request_id, _REQUEST, token))
        else:
            label = request_label(id_text, method, timeout_ms)
            stamp = time_stamp((self._unix_time_offset + now) * 1000.0)
            opening = (route.envelope, stream_id, stamp, label)
            outbox.send_stream(opening, request_id, body, route.address, route.abilities, token)
        return request_id

    def check_call(
        self, destination_identity: str, method: str, payload: str, timeouts: Timeouts
    ) -> None:
        """See `RpcEngine.check_call`."""
        require_names(destination_identity, method)
        require_text(payload, "payload")
        self._checked_timeouts(*timeouts)

    def cancel(self, request_id: str) -> bool:
        """See `RpcEngine.cancel`."""
        call = self.pending.get(request_id)
        if call is None:
            return False
        self._end(call, CallInput.CANCEL)
        return True

    # what happened outside

    def receive_ack(self, ack: Ack, origin: Origin, now: float) -> Ignored:
        """The responder has the request (R4)."""
        request_id = ack[0]
        call = self.pending.get(request_id)
        if call is None or not call.recipient.can_be(origin):
            return self._why_not(call, request_id)
        state = _AFTER_ACK.get(call.state)
        if state is None:
            return IgnoreReason.REPEAT
        call.state = state
        self._events.append(new_value(CallAcknowledged, (request_id,)))
        return None

    def receive_response(self, response: Response, origin: Origin, now: float) -> Ignored:
        """A v1 response; it completes the call, whichever way the request went (R6)."""
        request_id, payload = response
        call = self.pending.get(request_id)
        if call is None or not call.recipient.can_be(origin):
            return self._why_not(call, request_id)
        outcome: Body | Fault = NO_PAYLOAD
        if payload is not None:
            is_small = self._any_packet_fits or fits(payload, self._max_payload)
            outcome = (payload, 0) if is_small else OVER_CAP
        self._body_ended(call, outcome)
        return None

    def receive_error(self, error: ErrorResponse, origin: Origin, now: float) -> Ignored:
        """The responder's error (R18)."""
        request_id, code, message, data = error
        call = self.pending.get(request_id)
        if call is None or not call.recipient.can_be(origin):
            return self._why_not(call, request_id)
        self._fail(call, CallInput.RESPONSE, code, message, data)
        return None

    def receive_header(self, header: HeaderFields, origin: Origin, now: float) -> Ignored:
        """A response begins as a stream, or is there at once if it is inline (R4, R6)."""
        stream_id, request_id, generated, body, _ = header
        if generated or not request_id:
            return why_not_header(generated)
        call = self.pending.get(request_id)
        if call is None or not call.recipient.can_be(origin):
            return self._why_not(call, request_id)
        recipient, identity, sid = call.recipient, origin.identity, origin.sid
        if recipient.calls_in_grace:
            sid = sid or recipient.sid or ""  # (R31)
        reader = self._reader
        sender = self._sender_of.get(identity) or reader.senders.open(identity)
        if call.state is _READING or (sender.streams and (sid, stream_id) in sender.streams):
            return IgnoreReason.REPEAT
        outcome = reader.read_header(body, sender, True)
        if outcome is not None:
            self._body_ended(call, outcome)
            return None
        on_end = partial(self._body_ended, call)
        stream = reader.open((False, stream_id, body), sender, sid, now, on_end)
        if stream is not None:  # some of the body is still to come, or to be inflated
            if call.state is _SENT:
                self._events.append(new_value(CallAcknowledged, (request_id,)))
            call.state = CALL_TABLE[call.state][_RESPONSE_HEADER]
            self._reading[request_id] = stream
        return None

    def expire(self, call: Call, *, early: bool) -> None:
        """A deadline of `call` is over: its ack window if `early`, else the whole call (R3), or
        before either the grace that its departed recipient has (R9)."""
        if call.recipient.calls_in_grace:
            self._fail(call, CallInput.RECIPIENT_LEFT, ErrorCode.RECIPIENT_DISCONNECTED)
            return
        code = ErrorCode.CONNECTION_TIMEOUT if early else ErrorCode.RESPONSE_TIMEOUT
        self._fail(call, CallInput.DEADLINE, code)

    def send_failed(self, packet: OutgoingPacket) -> None:
        """The host could not send a part of a request (R10)."""
        call = self.pending.get(packet.request_id)
        if call is not None and call.order == packet.token:
            self._outbox.fail_stream(packet)
            self._fail(call, CallInput.SEND_FAILED, ErrorCode.SEND_FAILED)

    def roster_changed(self) -> None:
        """Somebody joined or left, or more is known of them or of the server."""
        self._routes.clear()

    def recipient_joined(self, identity: str, sid: str) -> None:
        """A participant is announced; `sid` is its first one, unless it is empty (R9, R40)."""
        for call in self._recipients.joined(identity, sid):
            self._drop_answer(call)

    def recipient_left(self, identity: str, now: float) -> None:
        """The recipient is not here any more: its calls fail, after their grace (R9)."""
        grace = self._config.departure_grace
        for call in self._recipients.left(identity, has_grace=bool(grace)):
            if grace:
                self._deadlines.start_at(call, now + grace)
            else:
                self._fail(call, CallInput.RECIPIENT_LEFT, ErrorCode.RECIPIENT_DISCONNECTED)

    def everyone_left(self) -> None:
        """The connection is lost, or the engine closes: there is no grace for that (R9)."""
        for call in list(self.pending.values()):
            self._fail(call, CallInput.RECIPIENT_LEFT, ErrorCode.RECIPIENT_DISCONNECTED)
        self._recipients.sweep()

    # within

    def _checked_timeouts(self, response: float | None, ack: float | None) -> tuple[float, float]:
        """The timeouts of a call that has its own."""
        timeout, window = self._config.response_timeout, self._config.ack_timeout
        if response is not None:
            timeout = require_timeout(response, "response_timeout")
        if ack is not None:
            window = require_timeout(ack, "ack_timeout")
        return timeout, window

    def _refuse(self, request_id: str, route: Route, size: int) -> str:
        """A call that fails before anything is sent, by the first reason in the order of R1."""
        code, data = route.refusal, ""
        if not code and size > route.max_payload_bytes:
            code = ErrorCode.REQUEST_PAYLOAD_TOO_LARGE
        elif not code:
            is_full = len(self._outbox.small) >= self._outbox.max_packets
            data = TOO_MANY_WAITING_PACKETS if is_full else TOO_MANY_WAITING_BYTES
            code = ErrorCode.SEND_FAILED
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
        recipient, request_id = call.recipient, call.request_id
        if recipient.calls_in_grace:
            self._recipients.call_in_grace_ended(recipient)
        del self.pending[request_id]
        line, calls = self._line, recipient.calls
        if line and line[0] is call:
            line.popleft()
        elif len(line) > line.limit:
            line.sweep()
        if calls and calls[0] is call:
            calls.popleft()
        elif len(calls) > calls.limit:
            calls.sweep()
        ended = self._ended
        ended[request_id] = None
        if len(ended) >= self._max_ended:
            self._ended_before, self._ended = ended, {}
        if self._outbox.streams:
            self._outbox.end_stream(call.order)
        if self._reading:
            self._drop_answer(call)

    def _drop_answer(self, call: Call) -> None:
        """The response that a call reads is not wanted any more."""
        stream = self._reading.pop(call.request_id, None)
        if stream is not None:
            self._reader.drop(stream)

    def _body_ended(self, call: Call, outcome: Body | Fault) -> None:
        """The body of the response is here, or is not to be had (R26)."""
        if isinstance(outcome, Fault):
            code = outcome.code(ErrorCode.RESPONSE_PAYLOAD_TOO_LARGE)
            self._fail(call, CallInput.RESPONSE_FAILED, code, data=outcome.data)
            return
        self._end(call, _RESPONSE)
        self._events.append(new_value(CallSucceeded, (call.request_id, outcome[0])))

    def _fail(
        self, call: Call, what: CallInput, code: int, message: str = "", data: str = ""
    ) -> None:
        self._end(call, what)
        self._events.append(CallFailed(call.request_id, *standard_error(code, message, data)))
