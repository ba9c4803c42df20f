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
    """The arguments of a call, for interceptors.

    The timeouts are in seconds, as for `perform_rpc`. An interceptor can change this object, or
    pass a copy to `next`. When the call is made, `request_id` is set in this object and in all
    copies that interceptors passed on for the same call.
    """

    destination_identity: str
    method: str
    payload: str
    response_timeout: float | None = None
    max_round_trip_latency: float | None = None
    request_id: str | None = None


OutgoingRpcNext: TypeAlias = Callable[[RpcCallInfo], Awaitable[str]]
"""Calls the next interceptor or makes the call, returns the answer and raises its error."""
IncomingRpcNext: TypeAlias = Callable[[RpcInvocationData], Awaitable[str | None]]
"""Calls the next interceptor or the handler, returns its result and raises its exception."""


class RpcInterceptor:
    """Code around the calls and handlers of a participant. See `add_rpc_interceptor`.

    By default, both methods just call `next`.
    """

    async def intercept_outgoing(self, call: RpcCallInfo, next: OutgoingRpcNext) -> str:
        """Handle a call of this participant: return the answer for the program, or raise.

        Each time you call `next`, it makes a new RPC. If `next` is not called, nothing is sent.
        """
        return await next(call)

    async def intercept_incoming(
        self, invocation: RpcInvocationData, next: IncomingRpcNext
    ) -> str | None:
        """Handle a request to this participant: return the answer for the caller, or raise.

        For a method that is not registered, `next` raises `RpcError` (1400). Exceptions of the
        handler arrive here unchanged. An exception that is not an `RpcError` becomes 1500 only
        after it has left the outermost interceptor. If the invocation is abandoned, the
        interceptors are cancelled together with the handler.
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
                raise LocalProtocolError(f"{interceptor!r} is not an RpcInterceptor")
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
