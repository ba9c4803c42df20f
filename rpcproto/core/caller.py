"""The calling side: our calls, from `call` to the one end that each of them has (R1)."""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from rpcproto.core.config import RpcConfig
from rpcproto.core.deadlines import Deadlines, Timed
from rpcproto.core.errors import (
    ErrorCode,
    LocalProtocolError,
    require_text,
    require_timeout,
    standard_error,
)
from rpcproto.core.events import (
    CallAcknowledged,
    CallFailed,
    CallSucceeded,
    EventQueue,
    IgnoreReason,
)
from rpcproto.core.messages import (
    MAX_IDENTITY_BYTES,
    MAX_METHOD_BYTES,
    MAX_UINT32,
    MAX_V1_PAYLOAD_BYTES,
    METHOD,
    REQUEST_ID,
    REQUEST_TOPIC,
    RESPONSE_TIMEOUT_MS,
    STREAM_VERSION,
    VERSION,
    OutgoingPacket,
    Request,
    StreamHeader,
)
from rpcproto.core.outbox import Outbox
from rpcproto.core.roster import Roster
from rpcproto.core.states import CALL_TABLE, CallInput, CallState
from rpcproto.core.stream_reader import Fault, IncomingStream, StreamReader
from rpcproto.core.stream_writer import Recipient

MIN_WIRE_TIMEOUT_MS = 1_000


class Call(Timed):
    """One pending call."""

    __slots__ = ("destination_identity", "destination_sid", "request_id", "state")

    def __init__(
        self, request_id: str, order: int, destination_identity: str, destination_sid: str
    ) -> None:
        self.request_id = request_id
        self.order = order
        self.destination_identity = destination_identity
        self.destination_sid = destination_sid
        self.state = CallState.SENT

    @property
    def hurried(self) -> bool:
        return self.state is CallState.SENT


class Caller:
    """All pending calls of one engine."""

    def __init__(
        self,
        identity: str,
        config: RpcConfig,
        roster: Roster,
        outbox: Outbox,
        reader: StreamReader,
        deadlines: Deadlines,
        events: EventQueue,
        *,
        new_id: Callable[[], str],
        next_order: Callable[[], int],
    ) -> None:
        self._identity = identity
        self._config = config
        self._roster = roster
        self._outbox = outbox
        self._reader = reader
        self._deadlines = deadlines
        self._events = events
        self._new_id = new_id
        self._next_order = next_order
        self._pending: dict[str, Call] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()
        """The last calls that ended: what still comes for one of them is late, not unknown."""
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
        require_text(
            destination_identity, "destination_identity", min_bytes=1, max_bytes=MAX_IDENTITY_BYTES
        )
        require_text(method, "method", min_bytes=1, max_bytes=MAX_METHOD_BYTES)
        payload_bytes = require_text(payload, "payload")
        config = self._config
        timeout = config.response_timeout
        if response_timeout is not None:
            timeout = require_timeout(response_timeout, "response_timeout")
        window = config.ack_timeout
        if ack_timeout is not None:
            window = require_timeout(ack_timeout, "ack_timeout")
        if len(self._pending) >= config.max_pending_calls:
            raise LocalProtocolError(f"{len(self._pending)} calls are pending, which is the limit")
        sid = self._roster.sid_of(destination_identity)
        recipient = Recipient(
            destination_identity, sid, self._roster.abilities_of(destination_identity, sid)
        )
        request_id = self._new_request_id()
        refusal = self._refusal(recipient, payload_bytes)
        if refusal is not None:
            self._events.add(CallFailed(request_id, *standard_error(refusal[0], "", refusal[1])))
            return request_id
        stream_id = self._new_id() if recipient.abilities.streams else ""
        call = Call(request_id, self._next_order(), destination_identity, sid)
        self._pending[request_id] = call
        early = window if window < timeout else None
        self._deadlines.start(call, now, timeout, early)
        timeout_ms = self._wire_timeout_ms(timeout)
        if recipient.abilities.streams:
            attributes = {
                REQUEST_ID: request_id,
                METHOD: method,
                RESPONSE_TIMEOUT_MS: str(timeout_ms),
                VERSION: STREAM_VERSION,
            }
            self._outbox.send_stream(
                stream_id, REQUEST_TOPIC, attributes, payload, recipient, call.order, now
            )
        else:
            request = Request(request_id, method, payload, timeout_ms)
            self._outbox.send(request, destination_identity, request_id, call.order)
        return request_id

    def cancel(self, request_id: str) -> bool:
        """See `RpcEngine.cancel`."""
        call = self._pending.get(request_id)
        if call is None:
            return False
        self._step(call, CallInput.CANCEL)
        return True

    # what happened outside

    def receive_ack(self, request_id: str, identity: str, sid: str) -> IgnoreReason | None:
        """The responder has the request (R4)."""
        call = self._answered_call(request_id, identity, sid)
        if isinstance(call, IgnoreReason):
            return call
        if not self._step(call, CallInput.ACK):
            return IgnoreReason.REPEAT
        self._events.add(CallAcknowledged(request_id))
        return None

    def receive_response(
        self, request_id: str, payload: str | None, identity: str, sid: str
    ) -> IgnoreReason | None:
        """A whole response, in whichever form it travelled (R6)."""
        call = self._answered_call(request_id, identity, sid)
        if isinstance(call, IgnoreReason):
            return call
        if payload is None:
            self._fail(call, CallInput.RESPONSE, ErrorCode.APPLICATION_ERROR, data="no payload")
        else:
            self._step(call, CallInput.RESPONSE)
            self._events.add(CallSucceeded(request_id, payload))
        return None

    def receive_error(
        self, request_id: str, code: int, message: str, data: str, identity: str, sid: str
    ) -> IgnoreReason | None:
        """The responder's error (R18)."""
        call = self._answered_call(request_id, identity, sid)
        if isinstance(call, IgnoreReason):
            return call
        self._fail(call, CallInput.RESPONSE, code, message, data)
        return None

    def receive_header(
        self, header: StreamHeader, identity: str, sid: str, now: float
    ) -> IgnoreReason | None:
        """A response begins as a stream, or is there at once if it is inline (R4, R6)."""
        call = self._answered_call(header.request_id, identity, sid)
        if isinstance(call, IgnoreReason):
            return call
        if call.state is CallState.READING or (identity, sid, header.stream_id) in self._reader:
            return IgnoreReason.REPEAT
        fault = self._reader.check(header)
        if fault is not None:
            self._body_failed(call, fault)
            return None
        if header.inline_content is None:
            if call.state is CallState.SENT:
                self._events.add(CallAcknowledged(call.request_id))
            self._step(call, CallInput.RESPONSE_HEADER)
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

    def _new_request_id(self) -> str:
        request_id = self._new_id()
        if request_id in self._pending:
            raise LocalProtocolError(f"the new request id {request_id!r} is pending already")
        return request_id

    def _refusal(self, recipient: Recipient, payload_bytes: int) -> tuple[int, str] | None:
        """The code and data with which a call fails before anything is sent (R1)."""
        roster = self._roster
        if roster.server_is_too_old:
            return ErrorCode.UNSUPPORTED_SERVER, ""
        if recipient.identity == self._identity or (
            roster.is_complete and roster.get(recipient.identity) is None
        ):
            return ErrorCode.RECIPIENT_NOT_FOUND, ""
        streams = recipient.abilities.streams
        if payload_bytes > (self._config.max_payload_bytes if streams else MAX_V1_PAYLOAD_BYTES):
            return ErrorCode.REQUEST_PAYLOAD_TOO_LARGE, ""
        if self._outbox.is_full:
            return ErrorCode.SEND_FAILED, "too many packets are waiting to be sent"
        if not self._outbox.has_room(payload_bytes):
            return ErrorCode.SEND_FAILED, "too many bytes are waiting to be sent"
        return None

    def _wire_timeout_ms(self, response_timeout: float) -> int:
        """What the handler gets: the call's time without the network's share (R5)."""
        budget_ms = (response_timeout - self._config.latency_allowance) * 1000
        return max(round(min(budget_ms, MAX_UINT32)), MIN_WIRE_TIMEOUT_MS)

    def _answered_call(self, request_id: str, identity: str, sid: str) -> Call | IgnoreReason:
        """The pending call that somebody answers, if it is theirs to answer (R7)."""
        call = self._pending.get(request_id)
        if call is None:
            return IgnoreReason.LATE if request_id in self._ended else IgnoreReason.UNKNOWN_CALL
        if call.destination_identity != identity:
            return IgnoreReason.WRONG_SENDER
        if sid and call.destination_sid and call.destination_sid != sid:
            return IgnoreReason.WRONG_SENDER
        return call

    def _step(self, call: Call, what: CallInput) -> bool:
        """Let the table decide; False if it has nothing for `what` in this state."""
        state = CALL_TABLE[call.state].get(what)
        if state is None:
            return False
        call.state = state
        if state is CallState.ENDED:
            self._deadlines.stop(call)
            del self._pending[call.request_id]
            self._outbox.end_stream(call.order)
            stream = self._reading.pop(call.request_id, None)
            if stream is not None:
                self._reader.drop(stream)
            self._ended[call.request_id] = None
            if len(self._ended) > self._config.remembered_requests:
                self._ended.popitem(last=False)
        else:
            self._deadlines.relax(call)
        return True

    def _body_read(self, call: Call, payload: str, payload_bytes: int) -> None:
        self._reader.budget.give_back(call.destination_identity, payload_bytes)
        self._step(call, CallInput.RESPONSE)
        self._events.add(CallSucceeded(call.request_id, payload))

    def _body_failed(self, call: Call, fault: Fault) -> None:
        code = ErrorCode.APPLICATION_ERROR
        if fault.over_cap:
            code = ErrorCode.RESPONSE_PAYLOAD_TOO_LARGE
        self._fail(call, CallInput.RESPONSE_FAILED, code, data=fault.data)

    def _fail(
        self, call: Call, what: CallInput, code: int, message: str = "", data: str = ""
    ) -> None:
        self._step(call, what)
        self._events.add(CallFailed(call.request_id, *standard_error(code, message, data)))
