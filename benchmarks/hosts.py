"""Calls through the hosts: both participants in one process and one event loop, calls at once."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from types import ModuleType
from typing import NamedTuple, TypeAlias

import anyio
from anyio.abc import SocketAttribute

import rpcproto.asyncio
import rpcproto.trio
from rpcproto.participant import RpcInterceptor, RpcInvocationData
from rpcproto.transports import Transport
from rpcproto.transports.memory import MemoryRoom
from rpcproto.transports.stream import StreamTransport, connect_tcp, listen_tcp, serve

HOSTS: dict[str, ModuleType] = {"asyncio": rpcproto.asyncio, "trio": rpcproto.trio}
AT_ONCE = 100

Ends: TypeAlias = tuple[Transport, Transport]
Way: TypeAlias = Callable[[], "AsyncIterator[Ends]"]


async def in_memory() -> AsyncIterator[Ends]:
    """Two places in a room."""
    room = MemoryRoom()
    yield room.join("alice"), room.join("bob")


async def over_tcp() -> AsyncIterator[Ends]:
    """Two ends of a connection on the loopback interface."""
    served, serving = anyio.create_memory_object_stream[StreamTransport](1)

    async def keep(transport: StreamTransport) -> None:
        await served.send(transport)
        await transport.wait_closed()

    async with listen_tcp("127.0.0.1", 0) as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(serve, listener, "bob", keep)
        port = listener.extra(SocketAttribute.local_port)
        async with await connect_tcp("127.0.0.1", port, "alice") as alice, served, serving:
            yield alice, await serving.receive()
        tasks.cancel_scope.cancel()


WAYS: dict[str, Way] = {"memory": in_memory, "TCP": over_tcp}


class Cost(NamedTuple):
    """What an echo takes, in seconds: by the clock, and of the processor's time."""

    elapsed: float
    processor: float


def cost_of_call(
    host: str, way: str, calls: int, payload: str, at_once: int = AT_ONCE, interceptors: int = 0
) -> Cost:
    """The cost of an echo, `at_once` of them being under way all the time; on either side there are
    so many interceptors that pass everything on."""
    measure = partial(_measure, HOSTS[host], WAYS[way], calls, payload, at_once, interceptors)
    return anyio.run(measure, backend=host)


async def _measure(
    host: ModuleType, way: Way, calls: int, payload: str, at_once: int, interceptors: int
) -> Cost:
    async with AsyncExitStack() as stack:
        ends = await stack.enter_async_context(asynccontextmanager(way)())
        alice = await stack.enter_async_context(host.RpcParticipant(ends[0]))
        bob = await stack.enter_async_context(host.RpcParticipant(ends[1]))
        bob.register_rpc_method("echo", echo)
        for participant in (alice, bob):
            for _ in range(interceptors):
                participant.add_rpc_interceptor(RpcInterceptor())
        await alice.wait_for_participant("bob")
        await _call(alice, calls // 10, payload, at_once)
        began = time.perf_counter(), time.process_time()
        await _call(alice, calls, payload, at_once)
        elapsed, processor = time.perf_counter() - began[0], time.process_time() - began[1]
        return Cost(elapsed / calls, processor / calls)


async def echo(data: RpcInvocationData) -> str:
    """The handler."""
    return data.payload


async def _call(
    alice: rpcproto.asyncio.RpcParticipant, calls: int, payload: str, at_once: int
) -> None:
    async def call_in_turn() -> None:
        for _ in range(calls // at_once):
            answer = await alice.perform_rpc(
                destination_identity="bob", method="echo", payload=payload
            )
            assert answer == payload

    async with anyio.create_task_group() as tasks:
        for _ in range(at_once):
            tasks.start_soon(call_in_turn)
