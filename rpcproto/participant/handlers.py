"""The handlers of a participant: which there are, which run, and what becomes of their results."""

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, TypeAlias, TypeVar

from rpcproto.core.config import RpcConfig
from rpcproto.core.engine import RpcEngine
from rpcproto.core.errors import ErrorCode, LocalProtocolError, RpcError, require_name
from rpcproto.core.events import InvocationReceived
from rpcproto.logs import logger
from rpcproto.wire import MAX_METHOD_BYTES

TOO_MANY_REQUESTS: Final = "too many requests"
"""The data of the error for a request that finds too many handlers running (R22)."""


class RpcInvocationData(NamedTuple):
    """The argument of a handler. `response_timeout` is the caller's figure, in seconds."""

    request_id: str
    caller_identity: str
    method: str
    payload: str
    response_timeout: float


RpcHandler: TypeAlias = Callable[[RpcInvocationData], Awaitable[str] | str]
"""Returns the answer, at once or awaited, or raises `RpcError`."""
HandlerT = TypeVar("HandlerT", bound=RpcHandler)


class Handlers:
    """The registered handlers, and the tasks of those that run.

    A task counts until it has ended, also when its invocation is over before: handlers that take
    their time to end when cancelled cannot pile up beyond the config's bounds.
    """

    def __init__(self, identity: str, config: RpcConfig) -> None:
        self._identity = identity
        self._most = config.max_invocations
        self._most_of_one = config.max_invocations_per_caller
        self._registered: dict[str, RpcHandler] = {}
        self._cancels: dict[int, Callable[[], object]] = {}
        """How to cancel the handlers whose answers somebody waits for, by invocation id."""
        self._callers: dict[int, str] = {}
        """The callers of all handlers whose tasks have not ended, by invocation id."""
        self._running_of: dict[str, int] = {}

    @property
    def methods(self) -> tuple[str, ...]:
        """The registered methods."""
        return tuple(self._registered)

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

    def has_room_for(self, caller_identity: str) -> bool:
        """Whether one more handler may run for this caller."""
        return (
            len(self._callers) < self._most
            and self._running_of.get(caller_identity, 0) < self._most_of_one
        )

    def started(self, invocation: InvocationReceived, cancel: Callable[[], object]) -> None:
        """The task of a handler exists from now on."""
        invocation_id, caller = invocation.invocation_id, invocation.caller_identity
        self._cancels[invocation_id] = cancel
        self._callers[invocation_id] = caller
        self._running_of[caller] = self._running_of.get(caller, 0) + 1

    def abandon(self, invocation_id: int) -> None:
        """Nobody waits for the answer any more: cancel the handler if it runs."""
        cancel = self._cancels.pop(invocation_id, None)
        if cancel is not None:
            cancel()

    def ended(self, invocation_id: int) -> None:
        """The task of a handler has ended, in whatever way; the second time changes nothing."""
        self._cancels.pop(invocation_id, None)
        caller = self._callers.pop(invocation_id, None)
        if caller is not None:
            self._running_of[caller] -= 1
            if not self._running_of[caller]:
                del self._running_of[caller]

    def run(self, invocation: InvocationReceived) -> object:
        """Call the handler; returns and raises what it does."""
        handler = self._registered.get(invocation.method)
        if handler is None:
            raise RpcError(ErrorCode.UNSUPPORTED_METHOD)
        return handler(
            RpcInvocationData(
                invocation.request_id,
                invocation.caller_identity,
                invocation.method,
                invocation.payload,
                invocation.response_timeout,
            )
        )

    def answer(
        self, engine: RpcEngine, invocation: InvocationReceived, result: object, now: float
    ) -> None:
        """Answer with the result of a handler; 1500 for one that is not a valid text (R33)."""
        try:
            if type(result) is not str:
                result = _text_of(result)
            engine.respond(invocation.invocation_id, result, now=now)
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
        if _respond_rpc_error(engine, invocation_id, error, now):
            return
        answered = engine.respond_error(invocation_id, ErrorCode.APPLICATION_ERROR, now=now)
        # What is no Exception and has no answer is the cancelling of a handler by its host.
        if answered or isinstance(error, Exception):
            method = invocation.method
            logger.error("%s: the handler of %r failed", self._identity, method, exc_info=error)


def require_method(method: object) -> None:
    """Raise LocalProtocolError unless this can be the name of a method."""
    if callable(method):
        raise LocalProtocolError(
            "the name of the method is missing: write @participant.register_rpc_method('name')"
        )
    require_name(method, "method", MAX_METHOD_BYTES)


def _text_of(result: object) -> str:
    """The text of a subclass of str, whatever that overrides."""
    if not isinstance(result, str):
        raise TypeError(f"a handler must return a str, not {type(result).__name__}")
    return str.__str__(result)


def _respond_rpc_error(
    engine: RpcEngine, invocation_id: int, error: BaseException, now: float
) -> bool:
    """False if this is no RpcError, or one that cannot be sent."""
    try:
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if not isinstance(error, RpcError):
            return False
        engine.respond_error(
            invocation_id,
            int.__int__(error.code),
            str.__str__(error.message),
            "" if error.data is None else str.__str__(error.data),
            now=now,
        )
    except KeyboardInterrupt:
        raise
    except BaseException:  # whatever the handler has made of its exception
        return False
    return True
