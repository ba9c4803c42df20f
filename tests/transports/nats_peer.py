"""A participant in a process of its own: answers until its standard input ends."""

import asyncio
import sys

from rpcproto.asyncio import RpcParticipant
from rpcproto.participant import RpcInvocationData
from rpcproto.transports.nats import join_room


async def main(server: str, room: str, identity: str) -> None:
    transport = await join_room(server, room, identity, heartbeat_interval=0.3)
    async with RpcParticipant(transport) as participant:

        @participant.register_rpc_method("greet")
        def greet(data: RpcInvocationData) -> str:
            return f"Hello, {data.caller_identity}!"

        @participant.register_rpc_method("sleep")
        async def sleep(data: RpcInvocationData) -> str:
            print("sleeping", flush=True)
            await asyncio.get_running_loop().create_future()
            return "never"

        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)


asyncio.run(main(*sys.argv[1:]))
