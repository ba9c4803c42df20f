"""Where a host's work begins and ends: calls that have not begun, packets that did not leave, and
handlers that have not ended. On asyncio and on trio."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
import trio
import trio.testing
from fake_transports import ScriptedTransport
from worlds import World, each_world

import rpcproto.trio
from rpcproto import OutgoingPacket, RpcConfig, RpcError
from rpcproto.asyncio import RpcParticipant
from rpcproto.participant import RpcInvocationData
from rpcproto.testing import Link
from rpcproto.transports import Connected, TransportEvent
from rpcproto.transports.memory import MemoryRoom


async def code_of_call(caller: RpcParticipant, destination: str, method: str = "wait") -> int:
    with pytest.raises(RpcError) as failed:
        await caller.perform_rpc(destination_identity=destination, method=method, payload="")
    return failed.value.code


@asynccontextmanager
async def calling(caller: RpcParticipant, *methods: str) -> AsyncIterator[None]:
    """Calls to bob that are cancelled at the end."""
    async with anyio.create_task_group() as group:
        for method in methods:
            group.start_soon(code_of_call, caller, "bob", method)
        await anyio.sleep(1.0)
        yield
        group.cancel_scope.cancel()


class _LateTransport(ScriptedTransport):
    def __init__(self) -> None:
        super().__init__()
        self.sent: list[OutgoingPacket] = []

    async def send_packet(self, packet: OutgoingPacket) -> None:
        self.sent.append(packet)

    async def events(self) -> AsyncIterator[TransportEvent]:
        await anyio.sleep(5.0)
        yield Connected()
        await anyio.sleep(10.0)


@each_world
def test_a_call_that_is_cancelled_before_the_connection_is_there_is_never_sent(
    world: World,
) -> None:
    async def main() -> None:
        transport = _LateTransport()
        async with world.participant(transport) as alice:
            async with calling(alice, "wait", "wait"):
                pass
            async with calling(alice, "greet"):
                await anyio.sleep(5.0)
                assert [packet.destination_identity for packet in transport.sent] == ["bob"]
            assert alice.statistics().pending_calls == 0

    world.run(main)


@each_world
def test_each_packet_that_could_not_be_sent_fails_its_call(world: World) -> None:
    async def main() -> None:
        room = MemoryRoom()
        async with (
            world.participant(room.join("bob")),
            world.participant(room.join("carol")),
            world.participant(room.join("alice")) as alice,
        ):
            room.set_link(Link(send_failure=1.0), sender="alice")
            codes: list[int] = []

            async def call(destination: str) -> None:
                codes.append(await code_of_call(alice, destination))

            with anyio.fail_after(0.5):
                async with anyio.create_task_group() as group:
                    for destination in ("bob", "carol", "bob"):
                        group.start_soon(call, destination)
            assert codes == [RpcError.ErrorCode.SEND_FAILED] * 3

    world.run(main)


@each_world
def test_handlers_that_have_not_ended_count_against_max_invocations(world: World) -> None:
    async def main() -> None:
        room = MemoryRoom()
        config = RpcConfig(max_invocations=3, max_invocations_per_caller=2)
        ended = anyio.Event()

        async def wait(data: RpcInvocationData) -> str:
            try:
                await ended.wait()
            finally:
                with anyio.CancelScope(shield=True):
                    await ended.wait()
            return "waited"

        async with (
            world.participant(room.join("bob"), config=config) as bob,
            world.participant(room.join("alice")) as alice,
        ):
            bob.register_rpc_method("wait", wait)
            bob.register_rpc_method("greet", lambda data: "Hello!")
            # A caller that leaves abandons its invocations; its handlers take their time to end.
            for name in ("carol", "dave"):
                async with (
                    world.participant(room.join(name)) as other,
                    calling(other, *["wait"] * (2 if name == "carol" else 1)),
                ):
                    pass
            try:
                with pytest.raises(RpcError, match="1500") as failed:
                    await alice.perform_rpc(destination_identity="bob", method="greet", payload="")
                assert failed.value.data == "too many requests"
            finally:
                ended.set()
            await anyio.sleep(1.0)
            reply = await alice.perform_rpc(destination_identity="bob", method="greet", payload="")
            assert reply == "Hello!"

    world.run(main)


class _SlowToClose(ScriptedTransport):
    is_closed = False

    async def events(self) -> AsyncIterator[TransportEvent]:
        yield Connected()
        await anyio.sleep(100.0)

    async def aclose(self) -> None:
        await anyio.sleep(0.25)
        self.is_closed = True


def test_a_scope_that_is_cancelled_leaves_a_transport_the_time_to_close() -> None:
    async def main() -> None:
        transport = _SlowToClose()
        with trio.move_on_after(1.0):
            async with rpcproto.trio.RpcParticipant(transport):
                await trio.sleep(100.0)
        assert transport.is_closed

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
