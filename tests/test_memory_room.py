"""The room in memory: who hears what, and from whom."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from rpcproto import LocalProtocolError, OutgoingPacket, PacketKind
from rpcproto.testing import virtual_time_run
from rpcproto.transports import (
    Connected,
    Disconnected,
    PacketReceived,
    ParticipantJoined,
    ParticipantLeft,
    TransportEvent,
)
from rpcproto.transports.memory import Carried, MemoryRoom, MemoryTransport

HERE = Connected(participants_complete=True)


def packet(destination: str, data: bytes = b"data") -> OutgoingPacket:
    return OutgoingPacket(data, destination, "id", PacketKind.REQUEST, 0)


async def heard(transport: MemoryTransport, seconds: float = 0.5) -> list[TransportEvent]:
    """What comes in the next `seconds`."""
    events: list[TransportEvent] = []
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            async for event in transport:
                events.append(event)  # noqa: PERF401 (those before the end count)
    return events


def on_virtual_time(main: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def test() -> None:
        virtual_time_run(main())

    return test


@on_virtual_time
async def test_a_newcomer_is_told_who_is_here_and_then_that_this_is_everyone() -> None:
    room = MemoryRoom()
    room.join("alice", client_protocol=0, capabilities=())
    room.join("bob", client_protocol=1, capabilities=(2, 3))
    assert await heard(room.join("carol")) == [
        ParticipantJoined("alice", "PA_1", 0, ()),
        ParticipantJoined("bob", "PA_2", 1, (2, 3)),
        HERE,
    ]


@on_virtual_time
async def test_the_others_are_told_of_a_newcomer_and_of_its_leaving() -> None:
    room = MemoryRoom()
    alice = room.join("alice")
    assert await heard(alice) == [HERE]
    bob = room.join("bob", client_protocol=2, capabilities=[2])
    await bob.aclose()
    await bob.aclose()
    assert await heard(alice) == [
        ParticipantJoined("bob", "PA_2", 2, (2,)),
        ParticipantLeft("bob", "PA_2"),
    ]


@on_virtual_time
async def test_a_packet_comes_to_its_destination_alone_with_its_true_sender() -> None:
    room = MemoryRoom()
    alice, bob, carol = room.join("alice"), room.join("bob"), room.join("carol")
    for transport in (alice, bob, carol):
        await heard(transport)
    await alice.send(packet("bob", b"one"))
    await alice.send(packet("bob", b"two"))
    assert await heard(bob) == [
        PacketReceived(b"one", "alice", "PA_1"),
        PacketReceived(b"two", "alice", "PA_1"),
    ]
    assert await heard(alice) == await heard(carol) == []


@on_virtual_time
async def test_packets_for_nobody_and_for_oneself_are_dropped_in_silence() -> None:
    room = MemoryRoom()
    alice, bob = room.join("alice"), room.join("bob")
    await bob.aclose()
    await heard(alice)
    for destination in ("", "alice", "bob", "nobody"):
        await alice.send(packet(destination))
    assert await heard(alice) == []


@on_virtual_time
async def test_what_came_before_leaving_can_be_read_and_then_it_ends() -> None:
    room = MemoryRoom()
    alice, bob = room.join("alice"), room.join("bob")
    await heard(bob)
    await alice.send(packet("bob"))
    await bob.aclose()
    assert [event async for event in bob] == [PacketReceived(b"data", "alice", "PA_1")]
    with pytest.raises(ConnectionError, match="bob"):
        await bob.send(packet("alice"))


@on_virtual_time
async def test_leaving_ends_an_iteration_that_waits() -> None:
    transport = MemoryRoom().join("alice")
    reading = asyncio.create_task(heard(transport, 100.0))
    await asyncio.sleep(1.0)
    await transport.aclose()
    assert await reading == [HERE]
    assert asyncio.get_running_loop().time() == 1.0


@on_virtual_time
async def test_who_joins_again_puts_out_the_one_before() -> None:
    room = MemoryRoom()
    alice, first = room.join("alice"), room.join("bob")
    for transport in (alice, first):
        await heard(transport)
    second = room.join("bob")
    [event] = await heard(first)
    assert isinstance(event, Disconnected)
    assert isinstance(event.cause, ConnectionError)
    with pytest.raises(ConnectionError):
        await first.send(packet("alice"))
    await first.aclose()
    await alice.send(packet("bob"))
    left, joined = await heard(alice)
    assert left == ParticipantLeft("bob", "PA_2")
    assert isinstance(joined, ParticipantJoined)
    assert (joined.identity, joined.participant_sid) == ("bob", "PA_3")
    assert (await heard(second))[-1] == PacketReceived(b"data", "alice", "PA_1")


@on_virtual_time
async def test_latency_delays_packets_and_announcements_without_holding_up_the_sender() -> None:
    loop = asyncio.get_running_loop()
    room = MemoryRoom(latency=0.25)
    alice, bob = room.join("alice"), room.join("bob")
    seen: list[tuple[float, type[TransportEvent]]] = []

    async def watch() -> None:
        async for event in bob:
            seen.append((loop.time(), type(event)))  # noqa: PERF401 (it never ends)

    reader = asyncio.create_task(watch())
    await asyncio.sleep(1.0)
    await alice.send(packet("bob"))
    await alice.send(packet("bob"))
    assert loop.time() == 1.0
    await asyncio.sleep(0.125)
    await alice.send(packet("bob"))
    await alice.aclose()
    await asyncio.sleep(0.875)
    room.join("carol")
    await asyncio.sleep(1.0)
    reader.cancel()
    assert seen == [
        (0.0, ParticipantJoined),
        (0.0, Connected),
        (1.25, PacketReceived),
        (1.25, PacketReceived),
        (1.375, PacketReceived),
        (1.375, ParticipantLeft),
        (2.25, ParticipantJoined),
    ]


@on_virtual_time
async def test_an_observer_sees_everything_and_what_became_of_it() -> None:
    seen: list[object] = []
    room = MemoryRoom(observe=seen.append)
    alice, bob = room.join("alice", client_protocol=0, capabilities=()), room.join("bob")
    seen.pop()
    await alice.send(packet("bob"))
    await bob.aclose()
    await alice.send(packet("bob"))
    await alice.send(packet("alice"))
    assert seen == [
        ParticipantJoined("alice", "PA_1", 0, ()),
        Carried("alice", packet("bob"), True),
        ParticipantLeft("bob", "PA_2"),
        Carried("alice", packet("bob"), False),
        Carried("alice", packet("alice"), False),
    ]


def test_a_latency_is_a_number() -> None:
    with pytest.raises(LocalProtocolError, match="latency"):
        MemoryRoom(latency=float("nan"))
