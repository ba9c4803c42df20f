"""Interceptors: code of the program around its calls and its handlers, as in LiveKit's SDK."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from inspect import isawaitable
from typing import TypeAlias, final

from rpcproto.core.errors import LocalProtocolError
from rpcproto.participant.handlers import RpcInvocationData


@final
@dataclass
class RpcCallInfo:
    """A call of ours, as interceptors see it: the arguments of `perform_rpc`.

    An interceptor may change it, or hand on a copy. `request_id` is set when `next` makes the call,
    here and wherever an interceptor further out has handed on another object for this call.
    """

    destination_identity: str
    method: str
    payload: str
    response_timeout: float | None = None
    max_round_trip_latency: float | None = None
    request_id: str | None = None


OutgoingRpcNext: TypeAlias = Callable[[RpcCallInfo], Awaitable[str]]
"""The rest of the chain of a call: makes the call, and returns its answer or raises."""
IncomingRpcNext: TypeAlias = Callable[[RpcInvocationData], Awaitable[str | None]]
"""The rest of the chain of an invocation: runs the handler, returns and raises what it does."""


class RpcInterceptor:
    """Code around the calls and the handlers of a participant; see `add_rpc_interceptor`.

    Both methods pass everything through unless they are overridden.
    """

    async def intercept_outgoing(self, call: RpcCallInfo, next: OutgoingRpcNext) -> str:
        """Around a call of ours: return the answer that the program gets, or raise.

        Without `next`, nothing is sent; each time that it is called, it makes a call of its own.
        """
        return await next(call)

    async def intercept_incoming(
        self, invocation: RpcInvocationData, next: IncomingRpcNext
    ) -> str | None:
        """Around a handler of ours: return the answer that the caller gets, or raise.

        `next` raises RpcError (1400) for a method that is not registered. What the handler raises
        is seen here as it is; only outside of all interceptors it becomes 1500, unless it is an
        RpcError. When the invocation is over, the chain is cancelled.
        """
        return await next(invocation)


class Interceptors:
    """The interceptors of one participant; the one that was added first is the outermost."""

    def __init__(self) -> None:
        self.all: tuple[RpcInterceptor, ...] = ()
        """Never changed, but replaced: a chain that has begun keeps what it began with."""

    def add(self, interceptor: RpcInterceptor) -> None:
        """See `RpcParticipant.add_rpc_interceptor`."""
        for name in ("intercept_outgoing", "intercept_incoming"):
            if isinstance(interceptor, type) or not callable(getattr(interceptor, name, None)):
                raise LocalProtocolError(f"{interceptor!r} is no instance of RpcInterceptor")
        if not any(other is interceptor for other in self.all):
            self.all = (*self.all, interceptor)

    def remove(self, interceptor: RpcInterceptor) -> None:
        """See `RpcParticipant.remove_rpc_interceptor`."""
        self.all = tuple(other for other in self.all if other is not interceptor)

    async def around_call(
        self, call: RpcCallInfo, perform: Callable[[Sequence[RpcCallInfo]], Awaitable[str]]
    ) -> str:
        """Call the chain. `perform` makes the call of the last object that it is given; the others
        are what the interceptors were given for it, from the outermost on."""
        return await _next_outgoing(self.all, (), perform)(call)

    async def around_handler(
        self, handed_on: list[RpcInvocationData], handle: Callable[[RpcInvocationData], object]
    ) -> object:
        """Call the chain with the one object in `handed_on`, and add to it what else is handed on.
        `handle` calls the handler."""
        return await _next_incoming(self.all, handed_on, handle)(handed_on[0])


def _next_outgoing(
    rest: Sequence[RpcInterceptor],
    given: tuple[RpcCallInfo, ...],
    perform: Callable[[Sequence[RpcCallInfo]], Awaitable[str]],
) -> OutgoingRpcNext:
    async def call_next(call: RpcCallInfo) -> str:
        so_far = (*given, call)
        if not rest:
            return await perform(so_far)
        return await rest[0].intercept_outgoing(call, _next_outgoing(rest[1:], so_far, perform))

    return call_next


def _next_incoming(
    rest: Sequence[RpcInterceptor],
    handed_on: list[RpcInvocationData],
    handle: Callable[[RpcInvocationData], object],
) -> IncomingRpcNext:
    async def call_next(invocation: RpcInvocationData) -> str | None:
        if not any(other is invocation for other in handed_on):
            handed_on.append(invocation)
        if rest:
            after = _next_incoming(rest[1:], handed_on, handle)
            return await rest[0].intercept_incoming(invocation, after)
        result = handle(invocation)
        if isawaitable(result):
            result = await result
        return result  # type: ignore[return-value]  # judged when the chain has ended

    return call_next
