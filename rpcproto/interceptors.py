"""Interceptors that most programs write sooner or later. Needs the extra `anyio`.

participant.add_rpc_interceptor(Log())
participant.add_rpc_interceptor(Allow({"reboot": {"admin"}, "status": ANYONE}))
"""

import logging
import random
from collections.abc import Callable, Collection, Mapping
from typing import Final, TypeAlias, final

from rpcproto.core.errors import ErrorCode, LocalProtocolError, RpcError
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
"""The codes after which no handler has run, unless it raises one of them itself."""


def ANYONE(caller_identity: str) -> bool:  # noqa: N802 (stands where a collection may stand)
    """Every caller, in the rules of `Allow`."""
    return True


@final
class Allow(RpcInterceptor):
    """Lets only some callers call a method; all others receive 1400, as if it did not exist.

    A method without a rule is nobody's. Add it before interceptors that change invocations: it
    judges what it is given. An identity is as true as the transport that names it.
    """

    def __init__(self, rules: Mapping[str, Callers]) -> None:
        """`rules` says for each method who may call it. It is looked at for each request, so that
        changing it changes who may call from then on.

        Raises LocalProtocolError for a rule that is a text, which is a collection of letters.
        """
        for method, callers in rules.items():
            if isinstance(callers, str | bytes):
                raise LocalProtocolError(f"the callers of {method!r} are a text: write {{...}}")
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
    """Makes a call again that has failed in certain ways, after a delay that grows.

    By default it does so after errors that are raised instead of running a handler (`RETRIED`). A
    handler that raises one of them itself may run several times. Each attempt has the timeouts of
    the call for itself.
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
        """Make at most `attempts` calls, with 1 or more being allowed.

        The first delay is `delay` seconds, each further one `factor` times the one before, up to
        `max_delay`. Of each delay, a part between a half and all is waited, as `jitter` says, which
        returns 0 to 1: programs that failed together shall not come again together. `codes` are
        those of the errors after which a call is made again.

        Raises LocalProtocolError for less than one attempt.
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
    """Logs one line for each call and for each request that is handled, with sizes and duration,
    and no payload."""

    def __init__(self, level: int = logging.INFO, logger: logging.Logger | None = None) -> None:
        """At `level`, to `logger`; None is the logger "rpcproto", whose failures harm nobody."""
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
