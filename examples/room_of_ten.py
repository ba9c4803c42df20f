"""Ten participants in a room on a NATS server; each greets every other.

    python examples/room_of_ten.py nats://127.0.0.1:4222

Needs the extra `nats` and a NATS server. Here all ten live in one process, but each has a
connection of its own: they could as well be ten programs on ten machines.
"""

import asyncio
import sys
from contextlib import AsyncExitStack

from rpcproto.asyncio import RpcParticipant
from rpcproto.participant import RpcInvocationData
from rpcproto.transports.nats import join_room

NAMES = ["Ada", "Bo", "Cleo", "Dan", "Eve", "Finn", "Gül", "Hugo", "Inés", "Jo"]


async def come_in(url: str, name: str, stack: AsyncExitStack) -> RpcParticipant:
    """A participant that answers greetings until the stack is closed."""
    transport = await join_room(url, "room of ten", name)
    participant = await stack.enter_async_context(RpcParticipant(transport))

    @participant.register_rpc_method("greet")
    async def greet(data: RpcInvocationData) -> str:
        print(f"{data.caller_identity:>4} to {name}: {data.payload}")
        return f"Hello {data.caller_identity}, I am {name}."

    return participant


async def greet_everyone(participant: RpcParticipant) -> int:
    """Greet all others, one after the other; returns how many answered."""
    others = [name for name in NAMES if name != participant.identity]
    for other in others:
        await participant.wait_for_participant(other)
        answer = await participant.perform_rpc(
            destination_identity=other, method="greet", payload="Good morning!"
        )
        print(f"{other:>4} to {participant.identity}: {answer}")
    return len(others)


async def main(url: str) -> None:
    async with AsyncExitStack() as stack:
        participants = [await come_in(url, name, stack) for name in NAMES]
        counts = await asyncio.gather(*map(greet_everyone, participants))
        print(f"{sum(counts)} greetings were answered.")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} nats://host:port")
    asyncio.run(main(sys.argv[1]))
