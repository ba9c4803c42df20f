"""The greeting of LiveKit's documentation, between two participants of a room in memory."""

import asyncio

from rpcproto.asyncio import RpcError, RpcInvocationData, RpcParticipant
from rpcproto.transports.memory import MemoryRoom


async def main() -> None:
    """Alice calls, and bob answers."""
    room = MemoryRoom()
    async with RpcParticipant(room.join("alice")) as alice, RpcParticipant(room.join("bob")) as bob:

        @bob.register_rpc_method("greet")
        async def greet(data: RpcInvocationData) -> str:
            print(f"{data.caller_identity} says: {data.payload}")
            return f"Hello, {data.caller_identity}!"

        try:
            response = await alice.perform_rpc(
                destination_identity="bob", method="greet", payload="Hello from RPC!"
            )
            print(f"bob answers: {response}")
        except RpcError as error:
            print(f"the call failed: {error}")


if __name__ == "__main__":
    asyncio.run(main())
