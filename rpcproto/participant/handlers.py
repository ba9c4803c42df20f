"""The handlers of a participant: which there are, which run, and what becomes of their results."""

from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

from rpcproto.core.config import RpcConfig
from rpcproto.core.engine import RpcEngine
from rpcproto.core.errors import ErrorCode, LocalProtocolError, require_name
from rpcproto.core.events import AbandonReason, InvocationReceived
from rpcproto.errors import RpcError
from rpcproto.logs import logger
from rpcproto.participant.totals import SUCCESS, Totals, outcome_of
from rpcproto.wire import MAX_METHOD_BYTES

TOO_MANY_REQUESTS: Final = "too many requests"
"""The data of the error for a request that finds too many handlers running (R22)."""


@dataclass
class RpcInvocationData:
    """The mutable argument of a handler.

    `response_timeout` is the caller's value, in seconds. `cancel_reason` is set just before the
    handler is cancelled: RESPONSE_TIMEOUT if the invocation has expired, RECIPIENT_DISCONNECTED if
    the caller has left, the connection is lost, or this participant leaves. It stays None if the
    handler raises a cancellation error itself.
    """

    request_id: str
    caller_identity: str
    payload: str
    response_timeout: float
    method: str = ""
    cancel_reason: ErrorCode | None = None


RpcHandler: TypeAlias = Callable[[RpcInvocationData], Awaitable[str | None] | str | None]
"""A handler: it returns the answer, or an awaitable of it, or raises `RpcError`. None means an
empty payload."""
HandlerT = TypeVar("HandlerT", bound=RpcHandler)
Refusal: TypeAlias = tuple[ErrorCode, str]
"""The code and the data of the error for a request for which no handler is started."""

_CANCEL_REASONS: Final = {
    AbandonReason.EXPIRED: ErrorCode.RESPONSE_TIMEOUT,
    AbandonReason.CALLER_LEFT: ErrorCode.RECIPIENT_DISCONNECTED,
    AbandonReason.DISCONNECTED: ErrorCode.RECIPIENT_DISCONNECTED,
    AbandonReason.CLOSED: ErrorCode.RECIPIENT_DISCONNECTED,
}


class Running:
    """A task that runs a handler and the interceptors around it."""

    __slots__ = ("cancel", "handed_on", "invocation")

    def __init__(self, invocation: InvocationReceived, cancel: Callable[[], object]) -> None:
        self.invocation: InvocationReceived = invocation
        self.cancel: Callable[[], object] | None = cancel
        """None when it was called."""
        self.handed_on: Sequence[RpcInvocationData] = ()
        """The argument, and what interceptors have handed on in its place."""


class Handlers:
    """The registered handlers, and the tasks of those that run.

    A task counts until it has ended, also when its invocation is over before: handlers that take
    their time to end when cancelled cannot pile up beyond the config's bounds.
    """

    def __init__(self, identity: str, config: RpcConfig, totals: Totals) -> None:
        self._identity = identity
        self._totals = totals
        self._most = config.max_invocations
        self._most_of_one = config.max_invocations_per_caller
        self.is_draining = False
        """Whether new requests are refused."""
        self.intercept: Callable[[list[RpcInvocationData]], object] | None = None
        """Takes the place of `call` while there are interceptors: calls them with the one argument
        in the list, and adds what they hand on, so that all of it gets the reason for cancelling.
        """
        self._registered: dict[str, RpcHandler] = {}
        self._running: dict[int, Running] = {}
        """All tasks that have not ended, by invocation id."""
        self._running_of: dict[str, int] = {}
        """Their number, by caller."""

    @property
    def methods(self) -> AbstractSet[str]:
        """The registered methods, a view."""
        return self._registered.keys()

    @property
    def are_running(self) -> bool:
        """Whether the task of any handler has not ended."""
        return bool(self._running)

    def register(self, engine: RpcEngine | None, method: str, handler: RpcHandler) -> None:
        """Register a handler, with the engine too if there is one yet."""
        if not callable(handler):
            raise LocalProtocolError(f"a handler must be callable, not {type(handler).__name__}")
        if engine is not None:
            engine.register_method(method)
        elif method in self._registered:
            raise LocalProtocolError(f"the method {method!r} is registered already")
        self._registered[method] = handler

    def unregister(self, engine: RpcEngine | None, method: str) -> None:
        """Forget a handler."""
        self._registered.pop(method, None)
        if engine is not None:
            engine.unregister_method(method)

    def refusal_of(self, caller_identity: str) -> Refusal | None:
        """Why no handler is started for this caller now; None if one may be."""
        if self.is_draining:
            return ErrorCode.UNSUPPORTED_METHOD, ""
        if (
            len(self._running) >= self._most
            or self._running_of.get(caller_identity, 0) >= self._most_of_one
        ):
            return ErrorCode.APPLICATION_ERROR, TOO_MANY_REQUESTS
        return None

    def refuse(
        self, engine: RpcEngine, invocation: InvocationReceived, refusal: Refusal, now: float
    ) -> None:
        """Answer without a handler."""
        code, data = refusal
        engine.respond_error(invocation.invocation_id, code, data=data, now=now)
        self._totals.invocations_begun += 1
        self._totals.invocation_ended(invocation, outcome_of(code))

    def started(self, invocation: InvocationReceived, cancel: Callable[[], object]) -> None:
        """The task of a handler exists from now on."""
        caller = invocation.caller_identity
        self._running[invocation.invocation_id] = Running(invocation, cancel)
        self._running_of[caller] = self._running_of.get(caller, 0) + 1
        self._totals.invocations_begun += 1

    def abandon(self, invocation_id: int, reason: AbandonReason) -> None:
        """Nobody waits for the answer any more: cancel the handler if it runs."""
        code = _CANCEL_REASONS[reason]
        running = self._running.get(invocation_id)
        self._totals.invocation_ended(running.invocation if running else None, outcome_of(code))
        if running is None or running.cancel is None:
            return
        cancel, running.cancel = running.cancel, None
        _set_cancel_reason(running.handed_on, code)
        if cancel() is False:
            _set_cancel_reason(running.handed_on, None)

    def ended(self, invocation_id: int) -> None:
        """The task of a handler has ended, in whatever way; the second time changes nothing."""
        running = self._running.pop(invocation_id, None)
        if running is not None:
            caller = running.invocation.caller_identity
            self._running_of[caller] -= 1
            if not self._running_of[caller]:
                del self._running_of[caller]

    def run(self, invocation: InvocationReceived) -> object:
        """Call the handler, or the first interceptor around it; returns and raises what it does."""
        invocation_id, request_id, caller, method, payload, response_timeout = invocation
        data = RpcInvocationData(request_id, caller, payload, response_timeout, method)
        handed_on = [data]
        running = self._running.get(invocation_id)
        if running is not None:  # where threads run handlers, one may be ahead of `started`
            running.handed_on = handed_on
        if self.intercept is not None:
            return self.intercept(handed_on)
        handler = self._registered.get(method)
        return self.call(data) if handler is None else handler(data)

    def call(self, data: RpcInvocationData) -> object:
        """Call the handler of a method; RpcError (1400) if there is none."""
        handler = self._registered.get(data.method)
        if handler is None:
            raise RpcError(ErrorCode.UNSUPPORTED_METHOD)
        return handler(data)

    def answer(
        self, engine: RpcEngine, invocation: InvocationReceived, result: object, now: float
    ) -> None:
        """Answer with the result of a handler; 1500 for one that is not a valid text (R33)."""
        try:
            if type(result) is not str:
                result = _text_of(result)
            if engine.respond(invocation.invocation_id, result, now=now):
                self._totals.invocation_ended(invocation, SUCCESS)
        except Exception as error:
            self.answer_exception(engine, invocation, error, now)

    def answer_exception(
        self, engine: RpcEngine, invocation: InvocationReceived, error: BaseException, now: float
    ) -> None:
        """Answer with the exception of a handler.

        An RpcError is sent as it is, also as the only exception in a group. Of any other nothing
        leaves the process (R18): it is logged, and the caller gets 1500.
        """
        invocation_id = invocation.invocation_id
        code = _respond_rpc_error(engine, invocation_id, error, now)
        if code is not None:
            if code >= 0:
                self._totals.invocation_ended(invocation, outcome_of(code))
            return
        answered = engine.respond_error(invocation_id, ErrorCode.APPLICATION_ERROR, now=now)
        if answered:
            outcome = outcome_of(ErrorCode.APPLICATION_ERROR)
            self._totals.invocation_ended(invocation, outcome)
        # What is no Exception and has no answer is the cancelling of a handler by its host.
        if answered or isinstance(error, Exception):
            method = invocation.method
            logger.error("%s: the handler of %r failed", self._identity, method, exc_info=error)


def require_method(method: object) -> None:
    """Raise LocalProtocolError unless this can be the name of a method."""
    if callable(method):
        raise LocalProtocolError(
            "the name of the method is missing: use @participant.register_rpc_method('name')"
        )
    require_name(method, "method", MAX_METHOD_BYTES)


def only_leaf(error: BaseException) -> BaseException:
    """The only exception in a group, however deep; the exception itself if it is no such group."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _set_cancel_reason(handed_on: Sequence[RpcInvocationData], reason: ErrorCode | None) -> None:
    for data in handed_on:
        with suppress(Exception):  # an interceptor may hand on an object of its own making
            data.cancel_reason = reason


def _text_of(result: object) -> str:
    """The text that a result stands for: none for None, and that of a subclass of str, whatever
    that overrides."""
    if result is None:
        return ""
    if not isinstance(result, str):
        raise TypeError(f"a handler must return a str or None, not {type(result).__name__}")
    return str.__str__(result)


def _respond_rpc_error(
    engine: RpcEngine, invocation_id: int, error: BaseException, now: float
) -> int | None:
    """The code that was sent, -1 if nobody waits for it; None if this is no RpcError, or one that
    cannot be sent."""
    try:
        error = only_leaf(error)
        if not isinstance(error, RpcError):
            return None
        code = int.__int__(error.code)
        answered = engine.respond_error(
            invocation_id,
            code,
            str.__str__(error.message),
            "" if error.data is None else str.__str__(error.data),
            now=now,
        )
    except KeyboardInterrupt:
        raise
    except BaseException:  # whatever the handler has made of its exception
        return None
    return code if answered else -1
