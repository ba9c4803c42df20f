"""A transport whose `send` ends without having taken a packet stops nobody, on both hosts."""

from collections.abc import AsyncIterator, Callable
from typing import Final, TypeAlias

import anyio
import anyio.lowlevel
import pytest
from fake_transports import ScriptedTransport
from worlds import World, each_world

from rpcproto import ErrorCode, OutgoingPacket, RpcError
from rpcproto.participant.base import MAX_EMPTY_SENDS
from rpcproto.transports import Connected, PacketReceived, PacketsNotSent, TransportEvent

Take: TypeAlias = Callable[[], OutgoingPacket | None]

MAX_SENDS: Final = 10_000
"""Far more than any test needs: it ends a host that would go on for ever."""


class Transport(ScriptedTransport):
    """Sends as a test says, and counts."""

    def __init__(self, sending: Callable[[Take], None]) -> None:
        super().__init__()
        self.sends = 0
        self._sending = sending

    async def events(self) -> AsyncIterator[TransportEvent]:
        yield Connected()
        await anyio.sleep_forever()

    async def send(self, take: Take) -> None:
        self.sends += 1
        if self.sends > MAX_SENDS:
            raise SystemExit("the host does not stop")
        self._sending(take)


def nothing(take: Take) -> None:
    pass


def nothing_and_says_so(take: Take) -> None:
    raise PacketsNotSent([])


async def failure(world: World, transport: ScriptedTransport) -> RpcError:
    """The error of a call, which is all that somebody does."""
    async with world.participant(transport) as alice:
        with pytest.raises(RpcError) as caught:
            await alice.perform_rpc(destination_identity="bob", method="greet", payload="Hi")
        await anyio.sleep(1.0)
    return caught.value


@each_world
@pytest.mark.parametrize("sending", [nothing, nothing_and_says_so])
def test_the_connection_is_lost_after_64_sends_that_took_nothing(
    world: World, sending: Callable[[Take], None]
) -> None:
    async def main() -> None:
        transport = Transport(sending)
        error = await failure(world, transport)
        assert error.code == ErrorCode.RECIPIENT_DISCONNECTED
        assert str(error.__cause__) == "Transport.send took no packet 64 times in a row"
        assert transport.sends == MAX_EMPTY_SENDS == 64

    world.run(main)


@each_world
def test_a_packet_that_failed_before_is_no_progress(world: World) -> None:
    failed: list[OutgoingPacket] = []

    def sending(take: Take) -> None:
        if not failed and (packet := take()) is not None:
            failed.append(packet)
        raise PacketsNotSent(failed)

    async def main() -> None:
        transport = Transport(sending)
        async with world.participant(transport) as alice:
            for code in (ErrorCode.SEND_FAILED, ErrorCode.RECIPIENT_DISCONNECTED):
                with pytest.raises(RpcError) as caught:
                    await alice.perform_rpc(
                        destination_identity="bob", method="greet", payload="Hi"
                    )
                assert caught.value.code == code
        assert transport.sends <= 2 * MAX_EMPTY_SENDS

    world.run(main)


@each_world
def test_failing_when_there_is_nothing_to_send_is_not_asked_for_again(world: World) -> None:
    def sending(take: Take) -> None:
        while take() is not None:
            pass
        raise PacketsNotSent([])

    async def main() -> None:
        transport = Transport(sending)
        error = await failure(world, transport)
        assert error.code == ErrorCode.CONNECTION_TIMEOUT
        assert transport.sends < 10

    world.run(main)


@each_world
def test_others_get_their_turns_and_a_few_sends_without_packets_do_no_harm(world: World) -> None:
    class Busy(Transport):
        """Packets come while it cannot send."""

        async def events(self) -> AsyncIterator[TransportEvent]:
            yield Connected()
            while True:
                await anyio.sleep(1 / 16)
                yield PacketReceived(b"garbage")

    def sending(take: Take) -> None:
        if transport.sends % MAX_EMPTY_SENDS == 0:
            while take() is not None:
                pass

    turns = 0

    async def look_on() -> None:
        nonlocal turns
        while transport.sends < MAX_EMPTY_SENDS:
            turns += transport.sends > 0
            await anyio.lowlevel.checkpoint()

    async def main() -> None:
        async with world.participant(transport) as alice, anyio.create_task_group() as tasks:
            tasks.start_soon(look_on)
            with pytest.raises(RpcError) as caught:
                await alice.perform_rpc(destination_identity="bob", method="greet", payload="Hi")
            assert caught.value.code == ErrorCode.CONNECTION_TIMEOUT

    transport = Busy(sending)
    world.run(main)
    assert turns >= MAX_EMPTY_SENDS // 2
