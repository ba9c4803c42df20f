"""The responding side: requests of others, from their first packet to our one answer."""

from collections.abc import Callable

from rpcproto.core.config import RpcConfig
from rpcproto.core.deadlines import Deadlines, Timed
from rpcproto.core.errors import (
    MAX_CODE,
    ErrorCode,
    LocalProtocolError,
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
    MAX_V1_PAYLOAD_BYTES,
    PACKET_VERSION,
    Ack,
    ErrorResponse,
    OutgoingMessage,
    Request,
    Response,
)
from rpcproto.core.outbox import Outbox
from rpcproto.core.repeats import RequestKey, RequestMemory
from rpcproto.core.roster import Roster
from rpcproto.core.states import INVOCATION_TABLE, InvocationInput, InvocationState


class Invocation(Timed):
    """One request that has taken a slot (R22). `order` is the id that the host knows it by."""

    __slots__ = ("held_bytes", "key", "state")

    def __init__(self, order: int, key: RequestKey) -> None:
        self.order = order
        self.key = key
        self.state = InvocationState.READING
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
        deadlines: Deadlines,
        events: EventQueue,
        *,
        next_order: Callable[[], int],
    ) -> None:
        self._config = config
        self._roster = roster
        self._outbox = outbox
        self._deadlines = deadlines
        self._events = events
        self._next_order = next_order
        self._methods: set[str] = set()
        self._invocations: dict[int, Invocation] = {}
        self._by_caller: dict[str, dict[RequestKey, Invocation]] = {}
        self._memory = RequestMemory(
            config.remembered_requests, config.remembered_requests_per_caller
        )
        self._held_bytes_of: dict[str, int] = {}
        self.held_bytes = 0

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

    def respond(self, invocation_id: int, payload: str) -> bool:
        """See `RpcEngine.respond`."""
        payload_bytes = require_text(payload, "payload")
        invocation = self._running(invocation_id)
        if invocation is None:
            return False
        if payload_bytes > MAX_V1_PAYLOAD_BYTES:
            self._answer_error(invocation, ErrorCode.RESPONSE_PAYLOAD_TOO_LARGE)
        else:
            self._answer(invocation, Response(invocation.request_id, payload))
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
        invocation = self._admit(request.request_id, identity, sid)
        if not isinstance(invocation, Invocation):
            return invocation
        response_timeout = request.response_timeout_ms / 1000
        self._start(invocation, response_timeout, now)
        if request.version != PACKET_VERSION:
            self._refuse(invocation, ErrorCode.UNSUPPORTED_VERSION)
        elif request.compressed:
            self._refuse(invocation, ErrorCode.APPLICATION_ERROR, "compressed_payload is not read")
        else:
            self._receive_body(invocation, request.method, request.payload, response_timeout)
        return None

    def expire(self, invocation: Invocation) -> None:
        """Nobody waits for this answer any more (R20)."""
        self._abandon(invocation, InvocationInput.DEADLINE, AbandonReason.EXPIRED)

    def send_failed(self, caller_identity: str, token: int) -> None:
        """The host could not send a part of an answer: the caller is told so, once (R10)."""
        key = self._memory.take_answer(caller_identity, token)
        if key is not None:
            self._send_error(key, ErrorCode.SEND_FAILED)

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

    def _admit(self, request_id: str, identity: str, sid: str) -> Invocation | IgnoreReason | None:
        """Ack a request and give it a slot; None if it was refused one (R14, R16, R22)."""
        if not identity:
            return IgnoreReason.NO_SENDER
        if self._outbox.is_full or self._events.is_full:
            return IgnoreReason.OVERLOADED
        self._outbox.send(Ack(request_id), identity)
        key = (identity, sid, request_id)
        running = self._by_caller.get(identity)
        if (running is not None and key in running) or key in self._memory:
            return IgnoreReason.REPEAT
        if (
            len(self._invocations) >= self._config.max_invocations
            or running is not None
            and len(running) >= self._config.max_invocations_per_caller
        ):
            self._remember(key, 0)
            self._send_error(key, ErrorCode.APPLICATION_ERROR, "too many requests")
            return None
        invocation = Invocation(self._next_order(), key)
        self._invocations[invocation.order] = invocation
        if running is None:
            self._by_caller[identity] = {key: invocation}
        else:
            running[key] = invocation
        return invocation

    def _start(self, invocation: Invocation, response_timeout: float, now: float) -> None:
        config = self._config
        lifetime = min(response_timeout + config.invocation_grace, config.max_invocation_lifetime)
        self._deadlines.start(invocation, now=now, timeout=lifetime)

    def _receive_body(
        self, invocation: Invocation, method: str, payload: str, response_timeout: float
    ) -> None:
        """The whole body is here: hold it, look up the method, tell the host (R15, R28)."""
        caller_identity = invocation.caller_identity
        fault = self._hold(invocation, len(payload.encode()))
        if fault is not None:
            self._refuse(invocation, *fault)
        elif method not in self._methods:
            self._refuse(invocation, ErrorCode.UNSUPPORTED_METHOD)
        else:
            self._step(invocation, InvocationInput.BODY)
            self._events.add(
                InvocationReceived(
                    invocation.order,
                    invocation.request_id,
                    caller_identity,
                    method,
                    payload,
                    response_timeout,
                )
            )

    def _hold(self, invocation: Invocation, payload_bytes: int) -> tuple[ErrorCode, str] | None:
        """Count the payload against what may be held, or say what is wrong with it (R28)."""
        config = self._config
        if payload_bytes > config.max_payload_bytes:
            return ErrorCode.REQUEST_PAYLOAD_TOO_LARGE, ""
        of_caller = self._held_bytes_of.get(invocation.caller_identity, 0) + payload_bytes
        if (
            of_caller > config.max_buffered_bytes_per_sender
            or self.held_bytes + payload_bytes > config.max_buffered_bytes
        ):
            return ErrorCode.APPLICATION_ERROR, "too many bytes"
        self._held_bytes_of[invocation.caller_identity] = of_caller
        self.held_bytes += payload_bytes
        invocation.held_bytes = payload_bytes
        return None

    # an invocation ends

    def _running(self, invocation_id: int) -> Invocation | None:
        invocation = self._invocations.get(invocation_id)
        if invocation is None or invocation.state is not InvocationState.RUNNING:
            return None
        return invocation

    def _answer(self, invocation: Invocation, message: OutgoingMessage) -> None:
        self._step(invocation, InvocationInput.ANSWER)
        self._remember(invocation.key, invocation.order)
        self._outbox.send(message, invocation.caller_identity, invocation.order)

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
        self._outbox.send(error, identity)

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
        if invocation.held_bytes:
            self.held_bytes -= invocation.held_bytes
            left = self._held_bytes_of[identity] - invocation.held_bytes
            if left:
                self._held_bytes_of[identity] = left
            else:
                del self._held_bytes_of[identity]
