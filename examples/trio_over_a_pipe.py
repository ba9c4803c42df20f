"""Trio over a pipe: a program starts another, and calls it over its standard input and output."""

import sys

import anyio
import trio
from anyio.streams.stapled import StapledByteStream

from rpcproto.transports.pipes import stdio
from rpcproto.transports.stream import StreamTransport
from rpcproto.trio import RpcError, RpcInvocationData, RpcParticipant


async def child() -> None:
    """Bob, who counts, and takes his time for it."""
    transport = StreamTransport(stdio(), "bob")
    async with RpcParticipant(transport) as bob:

        @bob.register_rpc_method("count")
        async def count(data: RpcInvocationData) -> str:
            number = 0
            while number < int(data.payload):
                number += 1
                await trio.sleep(0.001)
            return str(number)

        await transport.wait_closed()


async def parent() -> None:
    """Alice, who asks him, and has no patience."""
    command = [sys.executable, __file__, "child"]
    async with await anyio.open_process(command, stderr=None) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        transport = StreamTransport(StapledByteStream(process.stdin, process.stdout), "alice")
        async with RpcParticipant(transport) as alice:
            for number, timeout in (("10", 5.0), ("1000000", 0.25)):
                try:
                    reply = await alice.perform_rpc(
                        destination_identity="bob",
                        method="count",
                        payload=number,
                        response_timeout=timeout,
                    )
                    print(f"bob counted to {reply}")
                except RpcError as error:
                    print(error)


if __name__ == "__main__":
    trio.run(child if sys.argv[1:] == ["child"] else parent)
