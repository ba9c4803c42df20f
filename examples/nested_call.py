"""A handler that calls back: before bob sells a book, he asks his caller's age."""

import asyncio

from rpcproto.asyncio import RpcError, RpcInvocationData, RpcParticipant
from rpcproto.transports.memory import MemoryRoom


class Shop:
    """What bob does. Its methods are handlers like any others."""

    def __init__(self, participant: RpcParticipant) -> None:
        self._participant = participant
        participant.register_rpc_method("buy", self.buy)

    async def buy(self, data: RpcInvocationData) -> str:
        """Sell a book, perhaps. The call back has a timeout of its own, within the caller's."""
        age = await self._participant.perform_rpc(
            destination_identity=data.caller_identity,
            method="age",
            payload="",
            response_timeout=data.response_timeout / 2,
        )
        if int(age) < 12:
            raise RpcError(2001, "Not for children", data.payload)
        return f"Here is {data.payload}"


async def main() -> None:
    """Two customers."""
    room = MemoryRoom()
    async with RpcParticipant(room.join("bob")) as bob:
        Shop(bob)
        for name, age in (("alice", 42), ("charlie", 8)):
            async with RpcParticipant(room.join(name)) as customer:
                customer.register_rpc_method("age", lambda data, age=age: str(age))
                try:
                    answer = await customer.perform_rpc(
                        destination_identity="bob", method="buy", payload="Dracula"
                    )
                except RpcError as error:
                    answer = error.message
                print(f"{name}, {age}: {answer}")


if __name__ == "__main__":
    asyncio.run(main())
