"""The responding side: requests of others, from their first packet to our one answer."""

from collections.abc import Callable
from functools import partial
from typing import Final

from rpcproto.core.config import RpcConfig
from rpcproto.core.deadlines import Deadlines, Timed
from rpcproto.core.errors import (
    MAX_CODE,
    ErrorCode,
    LocalProtocolError,
    byte_length,
    require_text,
    standard_error,
)
from rpcproto.core.events import (
    AbandonReason,
    EventQueue,
    IgnoreReason,
    InvocationAbandoned,
    InvocationReceived,
)
from rpcproto.core.messages import (
    MAX_METHOD_BYTES,
    MAX_UINT32,
    MAX_V1_PAYLOAD_BYTES,
    METHOD,
    PACKET_VERSION,
    REQUEST_ID,
    RESPONSE_TIMEOUT_MS,
    RESPONSE_TOPIC,
    STREAM_VERSION,
    VERSION,
    Ack,
    ErrorResponse,
    OutgoingPacket,
    Request,
    Response,
    StreamHeader,
)
from rpcproto.core.outbox import Outbox
from rpcproto.core.repeats import RequestKey, RequestMemory
from rpcproto.core.roster import Roster
from rpcproto.core.states import INVOCATION_TABLE, InvocationInput, InvocationState
from rpcproto.core.stream_reader import (
    MALFORMED,
    OVER_CAP,
    TOO_MANY_BYTES,
    Fault,
    IncomingStream,
    StreamReader,
)
from rpcproto.core.stream_writer import Recipient

UNSTATED_TIMEOUT_MS: Final = 15_000
"""What a request stream without a timeout is taken to mean, as the native clients do (R27)."""


class Invocation(Timed):
    """One request that has taken a slot (R22). `order` is the id that the host knows it by."""

    __slots__ = (
        "came_as_stream",
        "held_bytes",
        "key",
        "method",
        "response_timeout",
        "state",
        "stream",
    )

    method: str
    response_timeout: float

    def __init__(self, order: int, key: RequestKey, *, came_as_stream: bool) -> None:
        self.order = order
        self.key = key
        self.came_as_stream = came_as_stream
        self.state = InvocationState.READING
        self.stream: IncomingStream | None = None
        """The body, while it is arriving."""
        self.held_bytes = 0
        """Bytes of the payload that the host was handed, until the invocation ends (R28)."""

    @property
    def caller_identity(self) -> str:
        return self.key[0]

    @property
    def request_id(self) -> str:
        return self.key[2]


class Responder:
    """The registered methods and all invocations of one engine."""

    def __init__(
        self,
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
        self._config = config
        self._roster = roster
        self._outbox = outbox
        self._reader = reader
        self._deadlines = deadlines
        self._events = events
        self._new_id = new_id
        self._next_order = next_order
        self._methods: set[str] = set()
        self._invocations: dict[int, Invocation] = {}
        self._by_caller: dict[str, dict[RequestKey, Invocation]] = {}
        self._memory = RequestMemory(
            config.remembered_requests, config.remembered_requests_per_caller
        )

    def __len__(self) -> int:
        return len(self._invocations)

    # what the application wants

    def register_method(self, method: str) -> None:
        """See `RpcEngine.register_method`."""
        require_text(method, "method", min_bytes=1, max_bytes=MAX_METHOD_BYTES)
        if method in self._methods:
            raise LocalProtocolError(f"the method {method!r} is registered already")
        self._methods.add(method)

    def unregister_method(self, method: str) -> None:
        """See `RpcEngine.unregister_method`."""
        self._methods.discard(method)

    def respond(self, invocation_id: int, payload: str, now: float) -> bool:
        """See `RpcEngine.respond`."""
        payload_bytes = require_text(payload, "payload")
        invocation = self._running(invocation_id)
        if invocation is None:
            return False
        identity, sid, request_id = invocation.key
        abilities = self._roster.abilities_of(identity, sid)
        as_stream = invocation.came_as_stream or (
            abilities.streams and payload_bytes > MAX_V1_PAYLOAD_BYTES
        )
        if payload_bytes > (self._config.max_payload_bytes if as_stream else MAX_V1_PAYLOAD_BYTES):
            self._answer_error(invocation, ErrorCode.RESPONSE_PAYLOAD_TOO_LARGE)
        elif not self._outbox.has_room(payload_bytes):
            data = "too many bytes are waiting to be sent"
            self._answer_error(invocation, ErrorCode.RESPONSE_PAYLOAD_TOO_LARGE, data=data)
        elif as_stream:
            stream_id = self._new_id()
            self._answer(invocation)
            self._outbox.send_stream(
                stream_id,
                RESPONSE_TOPIC,
                {REQUEST_ID: request_id},
                payload,
                Recipient(identity, sid, abilities),
                invocation.order,
                now,
            )
        else:
            self._answer(invocation)
            self._outbox.send(Response(request_id, payload), identity, request_id, invocation.order)
        return True

    def respond_error(self, invocation_id: int, code: int, message: str, data: str) -> bool:
        """See `RpcEngine.respond_error`."""
        if not isinstance(code, int) or not 0 <= code <= MAX_CODE:
            raise LocalProtocolError(f"an error code is an int from 0 to 2^32 - 1, not {code!r}")
        require_text(message, "message")
        require_text(data, "data")
        invocation = self._running(invocation_id)
        if invocation is None:
            return False
        self._answer_error(invocation, code, message, data)
        return True

    # what happened outside

    def receive_request(
        self, request: Request, identity: str, sid: str, now: float
    ) -> IgnoreReason | None:
        """A v1 request: ack, then everything that may be wrong with it, then the host (R15)."""
        invocation = self._admit(request.request_id, identity, sid, came_as_stream=False)
        if not isinstance(invocation, Invocation):
            return invocation
        self._start(invocation, request.method, request.response_timeout_ms, now)
        if request.version != PACKET_VERSION:
            self._refuse(invocation, ErrorCode.UNSUPPORTED_VERSION)
        elif request.compressed:
            self._refuse(invocation, ErrorCode.APPLICATION_ERROR, "compressed_payload is not read")
        else:
            payload_bytes = byte_length(request.payload)
            if payload_bytes > self._config.max_payload_bytes:
                self._body_failed(invocation, OVER_CAP)
            elif not self._reader.budget.take(identity, payload_bytes):
                self._body_failed(invocation, Fault(TOO_MANY_BYTES))
            else:
                self._body_read(invocation, request.payload, payload_bytes)
        return None

    def receive_header(
        self, header: StreamHeader, identity: str, sid: str, now: float
    ) -> IgnoreReason | None:
        """A request begins as a stream, or is there at once if it is inline (R27)."""
        invocation = self._admit(header.request_id, identity, sid, came_as_stream=True)
        if not isinstance(invocation, Invocation):
            return invocation
        attributes = header.attributes
        timeout_ms = _timeout_ms(attributes.get(RESPONSE_TIMEOUT_MS))
        self._start(
            invocation,
            attributes.get(METHOD, ""),
            UNSTATED_TIMEOUT_MS if timeout_ms is None else timeout_ms,
            now,
        )
        fault = self._reader.check(header)
        if attributes.get(VERSION) != STREAM_VERSION:
            self._refuse(invocation, ErrorCode.UNSUPPORTED_VERSION)
        elif fault is not None:
            self._body_failed(invocation, fault)
        elif timeout_ms is None or (identity, sid, header.stream_id) in self._reader:
            self._body_failed(invocation, Fault(MALFORMED))
        else:
            invocation.stream = self._reader.open(
                header,
                identity,
                sid,
                now,
                partial(self._body_read, invocation),
                partial(self._body_failed, invocation),
            )
        return None

    def expire(self, invocation: Invocation) -> None:
        """Nobody waits for this answer any more (R20)."""
        self._abandon(invocation, InvocationInput.DEADLINE, AbandonReason.EXPIRED)

    def send_failed(self, packet: OutgoingPacket) -> None:
        """The host could not send a part of an answer: the caller is told so, once (R10)."""
        key = self._memory.take_answer(packet.destination_identity, packet.token)
        if key is not None:
            # The error goes first: the trailer alone would end the call with a lesser error.
            self._send_error(key, ErrorCode.SEND_FAILED)
            self._outbox.fail_stream(packet)

    def caller_left(self, identity: str, sid: str) -> None:
        """A caller left; what it asked under another sid, a newer one, goes on (R19)."""
        for invocation in list(self._by_caller.get(identity, {}).values()):
            if not sid or invocation.key[1] in ("", sid):
                self._abandon(invocation, InvocationInput.CALLER_LEFT, AbandonReason.CALLER_LEFT)
        self._memory.caller_left(identity)

    def everyone_left(self, reason: AbandonReason) -> None:
        """The connection is lost, or the engine closes (R41, R42)."""
        for invocation in list(self._invocations.values()):
            self._abandon(invocation, InvocationInput.CALLER_LEFT, reason)
        self._memory.everyone_left()

    # a request comes in

    def _admit(
        self, request_id: str, identity: str, sid: str, *, came_as_stream: bool
    ) -> Invocation | IgnoreReason | None:
        """Ack a request and give it a slot; None if it was refused one (R14, R16, R22)."""
        if not identity:
            return IgnoreReason.NO_SENDER
        if self._outbox.is_full or self._events.is_full:
            return IgnoreReason.OVERLOADED
        self._outbox.send(Ack(request_id), identity, request_id)
        key = (identity, sid, request_id)
        running = self._by_caller.get(identity)
        if (running is not None and key in running) or key in self._memory:
            return IgnoreReason.REPEAT
        if len(self._invocations) >= self._config.max_invocations or (
            running is not None and len(running) >= self._config.max_invocations_per_caller
        ):
            self._remember(key, 0)
            self._send_error(key, ErrorCode.APPLICATION_ERROR, "too many requests")
            return None
        invocation = Invocation(self._next_order(), key, came_as_stream=came_as_stream)
        self._invocations[invocation.order] = invocation
        if running is None:
            self._by_caller[identity] = {key: invocation}
        else:
            running[key] = invocation
        return invocation

    def _start(self, invocation: Invocation, method: str, timeout_ms: int, now: float) -> None:
        config = self._config
        invocation.method = method
        invocation.response_timeout = timeout_ms / 1000
        lifetime = invocation.response_timeout + config.invocation_grace
        self._deadlines.start(invocation, now, min(lifetime, config.max_invocation_lifetime))

    def _body_read(self, invocation: Invocation, payload: str, payload_bytes: int) -> None:
        """The whole body is here: hold it, look up the method, tell the host (R15)."""
        invocation.stream = None
        invocation.held_bytes = payload_bytes
        if invocation.method not in self._methods:
            self._refuse(invocation, ErrorCode.UNSUPPORTED_METHOD)
            return
        self._step(invocation, InvocationInput.BODY)
        self._events.add(
            InvocationReceived(
                invocation.order,
                invocation.request_id,
                invocation.caller_identity,
                invocation.method,
                payload,
                invocation.response_timeout,
            )
        )

    def _body_failed(self, invocation: Invocation, fault: Fault) -> None:
        """The body is not to be had, for a reason that the caller is told (R26)."""
        code = ErrorCode.APPLICATION_ERROR
        if fault.over_cap:
            code = ErrorCode.REQUEST_PAYLOAD_TOO_LARGE
        self._refuse(invocation, code, fault.data)

    # an invocation ends

    def _running(self, invocation_id: int) -> Invocation | None:
        invocation = self._invocations.get(invocation_id)
        if invocation is None or invocation.state is not InvocationState.RUNNING:
            return None
        return invocation

    def _answer(self, invocation: Invocation) -> None:
        self._step(invocation, InvocationInput.ANSWER)
        self._remember(invocation.key, invocation.order)

    def _answer_error(
        self, invocation: Invocation, code: int, message: str = "", data: str = ""
    ) -> None:
        self._step(invocation, InvocationInput.ANSWER)
        self._remember(invocation.key, 0)
        self._send_error(invocation.key, code, data, message)

    def _refuse(self, invocation: Invocation, code: ErrorCode, data: str = "") -> None:
        self._step(invocation, InvocationInput.REFUSAL)
        self._remember(invocation.key, 0)
        self._send_error(invocation.key, code, data)

    def _abandon(
        self, invocation: Invocation, what: InvocationInput, reason: AbandonReason
    ) -> None:
        told = invocation.state is InvocationState.RUNNING
        self._step(invocation, what)
        self._remember(invocation.key, 0)
        if told:
            self._events.add(InvocationAbandoned(invocation.order, reason))

    def _send_error(self, key: RequestKey, code: int, data: str = "", message: str = "") -> None:
        identity, _, request_id = key
        error = ErrorResponse(request_id, *standard_error(code, message, data))
        self._outbox.send(error, identity, request_id)

    def _remember(self, key: RequestKey, token: int) -> None:
        self._memory.add(key, token, announced=self._roster.get(key[0]) is not None)

    def _step(self, invocation: Invocation, what: InvocationInput) -> None:
        """Let the table decide, and free what an ended invocation held."""
        invocation.state = INVOCATION_TABLE[invocation.state][what]
        if invocation.state is not InvocationState.ENDED:
            return
        self._deadlines.stop(invocation)
        del self._invocations[invocation.order]
        identity = invocation.caller_identity
        running = self._by_caller[identity]
        del running[invocation.key]
        if not running:
            del self._by_caller[identity]
        self._reader.budget.give_back(identity, invocation.held_bytes)
        if invocation.stream is not None:
            self._reader.drop(invocation.stream)


def _timeout_ms(text: str | None) -> int | None:
    """The caller's figure in a stream header; None if it is no number (R27)."""
    if text is None:
        return UNSTATED_TIMEOUT_MS
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        return None
    return min(int(text), MAX_UINT32)
