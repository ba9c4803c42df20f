"""Common interceptors. Needs the extra `anyio`.

The first interceptor that you add is the outermost:

    participant.add_rpc_interceptor(Log())
    participant.add_rpc_interceptor(Allow({"reboot": {"admin"}, "status": ANYONE}))
"""

import logging
import random
from collections.abc import Callable, Collection, Mapping
from typing import Final, TypeAlias, final

from rpcproto.core.errors import ErrorCode, LocalProtocolError
from rpcproto.errors import RpcError
from rpcproto.extras import extra
from rpcproto.logs import logger as guarded_logger
from rpcproto.participant.handlers import RpcInvocationData, only_leaf
from rpcproto.participant.interceptors import (
    IncomingRpcNext,
    OutgoingRpcNext,
    RpcCallInfo,
    RpcInterceptor,
)

with extra("anyio", __name__):
    import anyio

__all__ = ["ANYONE", "RETRIED", "Allow", "Log", "Retry"]

Callers: TypeAlias = Collection[str] | Callable[[str], bool]
"""The identities of callers, or a function that says of an identity whether it is one of them."""

RETRIED: Final = frozenset(
    {
        ErrorCode.UNSUPPORTED_METHOD,
        ErrorCode.RECIPIENT_NOT_FOUND,
        ErrorCode.UNSUPPORTED_SERVER,
        ErrorCode.UNSUPPORTED_VERSION,
    }
)
"""The codes that mean that no handler has run, unless a handler raised one of them itself."""


def ANYONE(caller_identity: str) -> bool:  # noqa: N802 (stands where a collection may stand)
    """Allow every caller, in the rules of `Allow`."""
    return True


@final
class Allow(RpcInterceptor):
    """Decides which callers can call which methods. All others receive 1400, as if the method did
    not exist.

    A method without a rule can't be called. Add this interceptor before others that change
    invocations. Whether an identity can be trusted depends on the transport.
    """

    def __init__(self, rules: Mapping[str, Callers]) -> None:
        """Take `rules`: for each method, the identities of its callers, or a function that returns
        whether an identity can call it. Changes of `rules` apply to later requests.

        Raises:
            LocalProtocolError: The callers of a method are a `str` or `bytes`.
        """
        for method, callers in rules.items():
            if isinstance(callers, str | bytes):
                raise LocalProtocolError(f"the callers of {method!r} are a text: use {{...}}")
        self._rules = rules

    async def intercept_incoming(
        self, invocation: RpcInvocationData, next: IncomingRpcNext
    ) -> str | None:
        """See `RpcInterceptor.intercept_incoming`."""
        callers = self._rules.get(invocation.method, ())
        caller = invocation.caller_identity
        if not (callers(caller) if callable(callers) else caller in callers):
            raise RpcError(ErrorCode.UNSUPPORTED_METHOD)
        return await next(invocation)


class Retry(RpcInterceptor):
    """Retries calls that fail with certain codes, after a growing delay.

    The default codes mean that no handler has run (`RETRIED`), unless a handler raised one of them
    itself: it can then run several times. The timeouts of the call apply to each attempt.
    """

    def __init__(
        self,
        *,
        attempts: int = 3,
        delay: float = 0.1,
        factor: float = 2.0,
        max_delay: float = 5.0,
        codes: Collection[int] = RETRIED,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Make at most `attempts` calls (1 or more).

        The first delay is `delay` seconds. Each further one is `factor` times as long, up to
        `max_delay` seconds. Each is multiplied by `(1 + jitter()) / 2`, so that programs that
        failed together do not retry together; `jitter` returns a number from 0 to 1. Calls that
        fail with one of `codes` are retried.

        Raises:
            LocalProtocolError: `attempts` is below 1.
        """
        if attempts < 1:
            raise LocalProtocolError("attempts must be 1 or more")
        self._attempts = attempts
        self._delay, self._factor, self._max_delay = delay, factor, max_delay
        self._codes = codes
        self._jitter = jitter

    async def intercept_outgoing(self, call: RpcCallInfo, next: OutgoingRpcNext) -> str:
        """See `RpcInterceptor.intercept_outgoing`."""
        delay = self._delay
        for _ in range(1, self._attempts):
            try:
                return await next(call)
            except RpcError as error:
                if error.code not in self._codes:
                    raise
            await anyio.sleep(min(delay, self._max_delay) * (1 + self._jitter()) / 2)
            delay *= self._factor
        return await next(call)


@final
class Log(RpcInterceptor):
    """Logs one line for each call and each request, with sizes and duration, without payloads."""

    def __init__(self, level: int = logging.INFO, logger: logging.Logger | None = None) -> None:
        """Log at `level` to `logger`. None means the logger "rpcproto". Exceptions of its logging
        handlers do not affect calls."""
        self._level = level
        self._logger = guarded_logger if logger is None else logger

    async def intercept_outgoing(self, call: RpcCallInfo, next: OutgoingRpcNext) -> str:
        """See `RpcInterceptor.intercept_outgoing`."""
        what = f"calls {call.method!r} of {call.destination_identity!r}"
        began, outcome = anyio.current_time(), "cancelled"
        try:
            answer = await next(call)
            outcome = _size(answer)
        except Exception as error:
            outcome = _failure(error)
            raise
        finally:
            self._log(what, call.request_id, call.payload, outcome, began)
        return answer

    async def intercept_incoming(
        self, invocation: RpcInvocationData, next: IncomingRpcNext
    ) -> str | None:
        """See `RpcInterceptor.intercept_incoming`."""
        what = f"handles {invocation.method!r} for {invocation.caller_identity!r}"
        began, outcome = anyio.current_time(), "cancelled"
        try:
            answer = await next(invocation)
            outcome = _size(answer)
        except Exception as error:
            outcome = _failure(error)
            raise
        finally:
            reason = invocation.cancel_reason
            if reason is not None:
                outcome = f"cancelled ({reason.name})"
            self._log(what, invocation.request_id, invocation.payload, outcome, began)
        return answer

    def _log(
        self, what: str, request_id: str | None, payload: str, outcome: str, began: float
    ) -> None:
        seconds = anyio.current_time() - began
        self._logger.log(
            self._level,
            "%s (%s), %s: %s after %.3f s",
            what,
            request_id or "nothing sent",
            _size(payload),
            outcome,
            seconds,
        )


def _size(text: object) -> str:
    if not isinstance(text, str):
        return "nothing" if text is None else type(text).__name__
    return f"{len(text.encode(errors='replace'))} bytes"


def _failure(raised: Exception) -> str:
    """An error for the log; of one that is no RpcError, its kind alone."""
    error = only_leaf(raised)
    return (
        f"{error.code} {error.message!r}" if isinstance(error, RpcError) else type(error).__name__
    )
