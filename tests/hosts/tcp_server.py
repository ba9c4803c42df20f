"""A participant on trio that serves callers over TCP, in a process of its own, for tests.

Prints its port, and at the end of its standard input what is left of all that, as JSON.
"""

import gc
import json
import sys

import trio
import trio.testing
from anyio.abc import SocketAttribute

from rpcproto.transports.stream import StreamTransport, listen_tcp, serve
from rpcproto.trio import RpcInvocationData, RpcParticipant


async def count_tasks() -> int:
    await trio.testing.wait_all_tasks_blocked()
    return trio.lowlevel.current_statistics().tasks_living


async def main() -> None:
    calls = 0
    memory: list[int] = []
    """Blocks of memory that are in use after each thousand calls."""
    left: dict[str, int] = {}

    async def echo(data: RpcInvocationData) -> str:
        nonlocal calls
        calls += 1
        if calls % 1_000 == 0:
            gc.collect()
            memory.append(sys.getallocatedblocks())
        return data.payload[::-1]

    async def handle(transport: StreamTransport) -> None:
        async with RpcParticipant(transport) as bob:
            bob.register_rpc_method("reverse", echo)
            await transport.wait_closed()
            statistics = bob.statistics()
        left["running"] = statistics.running_invocations
        left["waiting"] = statistics.waiting_bytes + statistics.waiting_packets
        left["buffered"] = statistics.buffered_bytes

    async with listen_tcp("127.0.0.1", 0) as listener, trio.open_nursery() as nursery:
        nursery.start_soon(serve, listener, "bob", handle)
        tasks = await count_tasks()
        print(listener.extra(SocketAttribute.local_port), flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        await trio.testing.wait_all_tasks_blocked()
        tasks = await count_tasks() - tasks
        nursery.cancel_scope.cancel()
    print(json.dumps({"calls": calls, "memory": memory, "tasks": tasks, **left}))


if __name__ == "__main__":
    trio.run(main)
