"""Participants that join slowly, whose presence is late, or who leave, on the test server."""

import asyncio
import random
import string

import pytest
from livekit.protocol.models import ParticipantInfo
from livekit_scenes import GUARD, call, greet, run, token

from rpcproto.conformance.room_server import RoomServer
from rpcproto.livekit import Room, RpcInvocationData, connect, transport
from rpcproto.livekit.stacks import STACKS, Stack, installed_stacks


async def size(data: RpcInvocationData) -> str:
    return str(len(data.payload))


def text(length: int) -> str:
    return "".join(random.Random(0).choices(string.ascii_letters, k=length))


@pytest.mark.parametrize("keeps_packets", [False, True])
def test_waiting_for_a_participant_takes_until_it_can_be_reached(*, keeps_packets: bool) -> None:
    async def scene(server: RoomServer) -> None:
        room = server.room("lobby")
        room.keeps_packets = keeps_packets
        async with connect(server.url, token("alice")) as alice:
            server.activation_delay = 0.1
            waiting = asyncio.create_task(alice.wait_for_participant("bob"))
            async with connect(server.url, token("bob")) as bob:
                bob.local_participant.register_rpc_method("size", size)
                assert room.members["bob"].info.state == ParticipantInfo.JOINED
                assert alice.participants == ()
                await waiting
                assert room.members["bob"].info.state == ParticipantInfo.ACTIVE
                # More than the server keeps for those who are not ready.
                assert await call(alice, text(300_000), "size") == "300000"

    run(scene)


async def call_as_soon_as_bob_is_here(alice: Room) -> str:
    await alice.wait_for_participant("bob")
    return await call(alice)


def test_a_participant_that_calls_us_is_here_though_its_presence_is_late() -> None:
    async def scene(server: RoomServer) -> None:
        server.room("lobby").keeps_packets = False
        async with connect(server.url, token("alice")) as alice:
            alice.local_participant.register_rpc_method("greet", greet)
            server.activation_delay = 3600
            async with connect(server.url, token("bob")) as bob:
                calling_back = asyncio.create_task(alice.wait_for_participant("bob"))
                us = bob.local_participant
                # The answer cannot reach bob, but the request has shown that he is here.
                asking = asyncio.create_task(
                    us.perform_rpc(destination_identity="alice", method="greet", payload="")
                )
                await calling_back
                assert alice.participants == ("bob",)
                asking.cancel()

    run(scene)


def test_presence_may_be_three_seconds_late() -> None:
    async def scene(server: RoomServer) -> None:
        server.room("lobby").presence_interval = 0.2
        async with connect(server.url, token("alice")) as alice:
            calling = asyncio.create_task(call_as_soon_as_bob_is_here(alice))
            async with connect(server.url, token("bob")) as bob:
                bob.local_participant.register_rpc_method("greet", greet)
                assert alice.participants == ()
                assert await calling == "Hello, alice!"

    run(scene)


@pytest.mark.parametrize(
    ("stack", "delay"), [(STACKS[0], 0.0), (STACKS[0], 0.5), *((one, 0.01) for one in STACKS)]
)
@pytest.mark.parametrize("length", [10, 12_000, 200_000])
def test_an_answer_given_just_before_leaving_arrives(
    stack: Stack, delay: float, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R9: the report of a departure by signalling overtakes packets of the data channel."""
    if stack not in installed_stacks():
        pytest.skip(f"{stack} is not installed")
    assert transport.DEPARTURE_GRACE == 2.0
    # A busy machine delays packets for longer than any server would.
    monkeypatch.setattr(transport, "DEPARTURE_GRACE", 50.0)

    async def scene(server: RoomServer) -> None:
        server.room("lobby").packet_delay = delay
        async with connect(server.url, token("alice"), stack=stack) as alice:
            async with connect(server.url, token("bob"), stack=stack) as bob:
                asked = asyncio.Event()

                @bob.local_participant.register_rpc_method("bye")
                def bye(_: RpcInvocationData) -> str:
                    asked.set()
                    return text(length)

                await alice.wait_for_participant("bob")
                calling = asyncio.create_task(call(alice, method="bye"))
                await asked.wait()
                assert await bob.local_participant.drain(GUARD)
            assert await calling == text(length)

    run(scene)
