"""Two processes over TCP, both on asyncio. Run it: it starts the other one itself.

`two_processes.py serve` is bob, who prints the port that he listens on;
`two_processes.py call PORT` is alice, who calls him there.
"""

import asyncio
import sys

from anyio.abc import SocketAttribute

from rpcproto.asyncio import RpcInvocationData, RpcParticipant
from rpcproto.transports.stream import StreamTransport, connect_tcp, listen_tcp, serve


async def be_bob(transport: StreamTransport) -> None:
    """One connection, until the other side has enough."""
    async with RpcParticipant(transport) as bob:

        @bob.register_rpc_method("greet")
        async def greet(data: RpcInvocationData) -> str:
            return f"Hello, {data.caller_identity}! You said {len(data.payload)} characters."

        await transport.wait_closed()


async def listen() -> None:
    """Serve whoever connects, for ever."""
    async with listen_tcp("127.0.0.1", 0) as listener:
        print(listener.extra(SocketAttribute.local_port), flush=True)
        await serve(listener, "bob", be_bob)


async def call(port: int) -> None:
    """A short call and a long one, at once."""
    transport = await connect_tcp("127.0.0.1", port, "alice")
    async with RpcParticipant(transport) as alice:
        greetings = ("Hi", "Good morning! " * 100_000)
        for reply in await asyncio.gather(
            *(
                alice.perform_rpc(destination_identity="bob", method="greet", payload=greeting)
                for greeting in greetings
            )
        ):
            print(reply)


async def both() -> None:
    """Start bob, and be alice."""
    bob = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "serve", stdout=asyncio.subprocess.PIPE
    )
    assert bob.stdout is not None
    try:
        await call(int(await bob.stdout.readline()))
    finally:
        bob.terminate()
        await bob.communicate()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve"]:
            asyncio.run(listen())
        case ["call", port]:
            asyncio.run(call(int(port)))
        case []:
            asyncio.run(both())
        case _:
            sys.exit(f"usage: python {sys.argv[0]} [serve | call PORT]")
