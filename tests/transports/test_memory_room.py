"""The room in memory: who hears what, and from whom."""

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from worlds import WORLDS, World, each_world

from rpcproto import LocalProtocolError, OutgoingPacket, PacketKind, RpcError
from rpcproto.testing import virtual_time_run
from rpcproto.transports import (
    BATCH_BYTES,
    BATCH_EVENTS,
    HIGH_WATER_MARK,
    Connected,
    Disconnected,
    PacketReceived,
    PacketsNotSent,
    ParticipantJoined,
    ParticipantLeft,
    TransportEvent,
)
from rpcproto.transports.links import TICK, Fate, Link, SentPacket
from rpcproto.transports.memory import MemoryRoom, MemoryTransport

HERE = Connected(participants_complete=True)


def packet(destination: str, data: bytes = b"data") -> OutgoingPacket:
    return OutgoingPacket(data, destination, "id", PacketKind.REQUEST, 0)


async def heard(transport: MemoryTransport, seconds: float = 0.5) -> list[TransportEvent]:
    """What comes in the next `seconds`."""
    events: list[TransportEvent] = []
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while batch := await transport.receive():
                events += batch
    return events


async def send(transport: MemoryTransport, *packets: OutgoingPacket) -> None:
    waiting = list(packets)
    while waiting:
        await transport.send(lambda: waiting.pop(0) if waiting else None)


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
    await send(alice, packet("bob", b"one"))
    await send(alice, packet("bob", b"two"))
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
        await send(alice, packet(destination))
    assert await heard(alice) == []


@on_virtual_time
async def test_what_came_before_leaving_can_be_read_and_then_it_ends() -> None:
    room = MemoryRoom()
    alice, bob = room.join("alice"), room.join("bob")
    await heard(bob)
    await send(alice, packet("bob"))
    await bob.aclose()
    assert await bob.receive() == [PacketReceived(b"data", "alice", "PA_1")]
    assert await bob.receive() == ()
    with pytest.raises(ConnectionError, match="bob"):
        await send(bob, packet("alice"))


@on_virtual_time
async def test_leaving_ends_a_receive_that_waits() -> None:
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
        await send(first, packet("alice"))
    await first.aclose()
    await send(alice, packet("bob"))
    left, joined = await heard(alice)
    assert left == ParticipantLeft("bob", "PA_2")
    assert isinstance(joined, ParticipantJoined)
    assert (joined.identity, joined.participant_sid) == ("bob", "PA_3")
    assert (await heard(second))[-1] == PacketReceived(b"data", "alice", "PA_1")


@on_virtual_time
async def test_latency_delays_packets_and_announcements_without_holding_up_the_sender() -> None:
    loop = asyncio.get_running_loop()
    room = MemoryRoom(link=Link(latency=0.25))
    alice, bob = room.join("alice"), room.join("bob")
    seen: list[tuple[float, type[TransportEvent]]] = []

    async def watch() -> None:
        while batch := await bob.receive():
            seen.extend((loop.time(), type(event)) for event in batch)

    reader = asyncio.create_task(watch())
    await asyncio.sleep(1.0)
    await send(alice, packet("bob"))
    await send(alice, packet("bob"))
    assert loop.time() == 1.0
    await asyncio.sleep(0.125)
    await send(alice, packet("bob"))
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
    seen: list[Any] = []
    room = MemoryRoom(observe=seen.append)
    alice, bob = room.join("alice", client_protocol=0, capabilities=()), room.join("bob")
    seen.pop()
    await send(alice, packet("bob"))
    await heard(bob)
    await bob.aclose()
    await send(alice, packet("bob"), packet("alice"))
    first, left, second, third = seen[1:]
    assert seen[0] == ParticipantJoined("alice", "PA_1", 0, ())
    assert left == ParticipantLeft("bob", "PA_2")
    assert [(sent.destination_identity, sent.fate) for sent in (first, second, third)] == [
        ("bob", Fate.CARRIED),
        ("bob", Fate.LOST),
        ("alice", Fate.LOST),
    ]
    assert (first.sender_identity, first.sender_sid, first.data) == ("alice", "PA_1", b"data")
    assert (first.sent_at, first.arrived_at) == (0.0, [0.0])


# batches


@on_virtual_time
async def test_what_has_come_is_handed_over_at_once_within_the_bounds_of_a_batch() -> None:
    room = MemoryRoom()
    alice, bob = room.join("alice"), room.join("bob")
    await heard(bob)
    await send(alice, *(packet("bob", b"%d" % number) for number in range(BATCH_EVENTS + 1)))
    await send(alice, *(packet("bob", bytes(BATCH_BYTES // 2)) for _ in range(3)))
    await send(alice, packet("bob", bytes(BATCH_BYTES + 1)))
    first, second, third, fourth = [await bob.receive() for _ in range(4)]
    assert len(first) == BATCH_EVENTS
    assert [len(event.data) for event in second if isinstance(event, PacketReceived)] == [
        2,
        BATCH_BYTES // 2,
    ]
    assert [len(batch) for batch in (third, fourth)] == [2, 1]


@on_virtual_time
async def test_a_sender_takes_as_much_as_the_high_water_mark_and_gives_others_a_turn() -> None:
    room = MemoryRoom()
    alice, bob = room.join("alice"), room.join("bob")
    await heard(bob)
    half = packet("bob", bytes(HIGH_WATER_MARK // 2))
    waiting = [half] * 3
    turns: list[int] = []
    asyncio.get_running_loop().call_soon(lambda: turns.append(len(waiting)))
    await alice.send(lambda: waiting.pop() if waiting else None)
    assert turns == [len(waiting)] == [1]


@each_world
def test_reading_much_that_waits_gives_others_a_turn_for_each_batch(world: World) -> None:
    async def main() -> None:
        room = MemoryRoom()
        alice, bob = room.join("alice"), room.join("bob")
        await send(alice, *(packet("bob") for _ in range(20 * BATCH_EVENTS)))
        turns = 0

        async def bystander() -> None:
            nonlocal turns
            while True:
                turns += 1
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as group:
            group.start_soon(bystander)
            await bob.receive()
            before = turns
            for _ in range(20):
                await bob.receive()
            assert turns - before >= 15
            group.cancel_scope.cancel()

    world.run(main)


# who is here


@each_world
def test_the_list_of_participants_is_complete_when_a_room_is_entered(world: World) -> None:
    async def main() -> None:
        room = MemoryRoom(link=Link(latency=0.5))
        async with (
            world.participant(room.join("alice")),
            world.participant(room.join("bob")),
            world.participant(room.join("carol")) as carol,
        ):
            assert carol.participants == ("alice", "bob")
            with pytest.raises(RpcError) as failed:
                await carol.perform_rpc(destination_identity="dave", method="m", payload="")
            assert failed.value.code == RpcError.ErrorCode.RECIPIENT_NOT_FOUND

    world.run(main)


# links


def arrivals_of(room_link: Link, *, seed: int = 0, count: int = 400) -> list[SentPacket]:
    """Alice sends bob many packets, a sixteenth of a second apart."""
    sent: list[SentPacket] = []

    def observe(event: object) -> None:
        if isinstance(event, SentPacket):
            sent.append(event)

    async def main() -> None:
        room = MemoryRoom(link=room_link, seed=seed, observe=observe)
        alice, bob = room.join("alice"), room.join("bob")
        reading = asyncio.create_task(heard(bob, count))
        for number in range(count):
            with suppress(PacketsNotSent):
                await send(alice, packet("bob", b"%d" % number))
            await asyncio.sleep(1 / 16)
        received = [e.data for e in await reading if isinstance(e, PacketReceived)]
        arrived = sorted((at, each.data) for each in sent for at in each.arrived_at)
        assert received == [data for _, data in arrived]

    virtual_time_run(main())
    return sent


def test_a_link_loses_repeats_holds_back_and_fails_to_send_its_share_of_packets() -> None:
    link = Link(loss=0.25, repetition=0.25, reordering=0.25, send_failure=0.25, straggling=0.5)
    sent = arrivals_of(link)
    unsent = [each for each in sent if each.fate is Fate.NOT_SENT]
    lost = [each for each in sent if each.fate is Fate.LOST]
    carried = [each for each in sent if each.fate is Fate.CARRIED]
    assert not any(each.arrived_at for each in unsent + lost)
    assert 70 < len(unsent) < 130
    assert 50 < len(lost) < 110
    assert 30 < sum(each.is_repeated for each in carried) < 90
    assert 30 < sum(each.is_held_back for each in carried) < 90
    for each in carried:
        assert len(each.arrived_at) == 1 + each.is_repeated
        assert all(0 <= at - each.sent_at < 0.5 for at in each.arrived_at)


def test_jitter_keeps_the_order_and_packets_that_wait_arrive_one_after_another() -> None:
    sent = arrivals_of(Link(latency=0.5, jitter=1.0))
    arrived = [at for each in sent for at in each.arrived_at]
    assert len(arrived) == len(sent)
    assert arrived == sorted(arrived)
    assert TICK in {later - at for at, later in itertools.pairwise(arrived)}
    assert all(0.5 <= each.arrived_at[0] - each.sent_at < 1.5 + TICK * 400 for each in sent)


def test_a_direction_s_fates_depend_on_the_seed_and_on_its_own_packets_alone() -> None:
    link = Link(latency=0.25, jitter=0.5, loss=0.25, repetition=0.25, reordering=0.25)

    def story(seed: int) -> list[list[float]]:
        return [each.arrived_at for each in arrivals_of(link, seed=seed, count=100)]

    alone = story(1)
    assert alone == story(1) != story(2)

    async def with_others() -> None:
        sent: list[SentPacket] = []
        room = MemoryRoom(
            link=link, seed=1, observe=lambda e: sent.append(e) if type(e) is SentPacket else None
        )
        alice, bob, carol = room.join("alice"), room.join("bob"), room.join("carol")
        reading = asyncio.create_task(heard(bob, 100.0))
        for number in range(100):
            await send(carol, packet("bob"), packet("alice"))
            await send(alice, packet("carol"), packet("bob", b"%d" % number))
            await asyncio.sleep(1 / 16)
        await reading
        mine = [e for e in sent if (e.sender_identity, e.destination_identity) == ("alice", "bob")]
        assert [each.arrived_at for each in mine] == alone

    virtual_time_run(with_others())


@on_virtual_time
async def test_a_packet_that_a_link_cannot_send_is_told_and_the_others_arrive() -> None:
    room = MemoryRoom()
    alice, bob, carol = room.join("alice"), room.join("bob"), room.join("carol")
    for transport in (alice, bob, carol):
        await heard(transport)
    room.set_link(Link(send_failure=1.0), sender="alice", receiver="bob")
    with pytest.raises(PacketsNotSent) as failed:
        await send(alice, packet("bob", b"1"), packet("carol"), packet("bob", b"2"))
    assert [each.data for each in failed.value.packets] == [b"1", b"2"]
    assert await heard(bob) == []
    assert await heard(carol) == [PacketReceived(b"data", "alice", "PA_1")]


@on_virtual_time
async def test_a_link_can_be_set_for_a_sender_a_receiver_or_both_and_healed() -> None:
    room = MemoryRoom()
    members = [room.join(name) for name in ("alice", "bob", "carol")]

    async def reached() -> set[str]:
        for transport in members:
            await heard(transport)
        for transport in members:
            others = [other.identity for other in members if other is not transport]
            await send(transport, *map(packet, others))
        return {
            f"{event.sender_identity}-{transport.identity}"
            for transport in members
            for event in await heard(transport)
            if isinstance(event, PacketReceived)
        }

    everyone = await reached()
    assert len(everyone) == 6
    room.set_link(Link(loss=1.0), sender="alice")
    assert await reached() == everyone - {"alice-bob", "alice-carol"}
    room.set_link(Link(loss=1.0), receiver="alice")
    room.set_link(Link(), sender="alice", receiver="bob")
    assert await reached() == {"alice-bob", "bob-carol", "carol-bob"}
    room.heal()
    assert await reached() == everyone


# departures


@on_virtual_time
async def test_news_of_a_departure_arrives_after_all_packets_but_those_held_back() -> None:
    loop = asyncio.get_running_loop()
    for number in range(50):
        sent: list[SentPacket] = []
        room = MemoryRoom(
            link=Link(latency=0.25, jitter=1.0, reordering=0.25, straggling=2.0),
            seed=number,
            observe=lambda e: sent.append(e) if type(e) is SentPacket else None,  # noqa: B023
        )
        alice, bob = room.join("alice"), room.join("bob")
        assert alice.departure_grace == 2.0
        await heard(alice)
        await send(bob, *(packet("alice", b"%d" % n) for n in range(8)))
        await bob.aclose()
        left_at = 0.0
        while len([e for e in sent if e.arrived_at]) < 8 or not left_at:
            if any(isinstance(event, ParticipantLeft) for event in await alice.receive()):
                left_at = loop.time()
        for each in sent:
            late = each.arrived_at[0] - left_at
            assert late <= (alice.departure_grace if each.is_held_back else 0.0)


def test_a_room_in_which_nothing_is_held_back_needs_no_grace() -> None:
    room = MemoryRoom(link=Link(latency=1.0, jitter=1.0, loss=0.5, repetition=0.5))
    alice = room.join("alice")
    assert alice.departure_grace == 0.0
    room.set_link(Link(reordering=0.5, straggling=3.0), receiver="bob")
    assert alice.departure_grace == 0.0
    room.set_link(Link(reordering=0.5, straggling=4.0), sender="bob", receiver="alice")
    assert alice.departure_grace == 4.0
    room.heal()
    assert alice.departure_grace == 0.0


# cuts


@on_virtual_time
async def test_a_cut_takes_what_is_under_way_and_the_participant_comes_back_with_a_new_sid() -> (
    None
):
    sent: list[Any] = []
    room = MemoryRoom(link=Link(latency=0.25), observe=sent.append)
    alice, bob = room.join("alice"), room.join("bob")
    for transport in (alice, bob):
        await heard(transport)
    await send(alice, packet("bob"))
    room.cut("bob")
    room.cut("bob")
    await send(alice, packet("bob"))
    await send(bob, packet("alice"))
    [event] = await heard(bob)
    assert isinstance(event, Disconnected)
    assert isinstance(event.cause, ConnectionError)
    assert await heard(alice) == [ParticipantLeft("bob", "PA_2")]
    assert [each.fate for each in sent if isinstance(each, SentPacket)] == [Fate.LOST] * 3
    carol = room.join("carol")
    assert [type(e) for e in await heard(carol)] == [ParticipantJoined, Connected]
    room.come_back("bob")
    room.come_back("bob")
    assert [getattr(event, "participant_sid", "") for event in await heard(bob)] == [
        "PA_1",
        "PA_3",
        "",
    ]
    assert [getattr(event, "participant_sid", "") for event in await heard(alice)] == [
        "PA_3",
        "PA_4",
    ]
    await send(bob, packet("alice"))
    assert await heard(alice) == [PacketReceived(b"data", "bob", "PA_4")]


@on_virtual_time
async def test_a_cut_that_nobody_noticed_changes_no_sid_and_is_not_announced() -> None:
    room = MemoryRoom()
    alice, bob = room.join("alice"), room.join("bob")
    for transport in (alice, bob):
        await heard(transport)
    room.cut("bob", noticed=False)
    assert await heard(alice) == []
    carol = room.join("carol")
    assert [getattr(e, "identity", "") for e in await heard(carol)] == ["alice", "bob", ""]
    await send(alice, packet("bob"))
    room.come_back("bob")
    assert [type(event) for event in await heard(bob)] == [
        Disconnected,
        ParticipantJoined,
        ParticipantJoined,
        Connected,
    ]
    await heard(alice)
    await send(bob, packet("alice"))
    assert await heard(alice) == [PacketReceived(b"data", "bob", "PA_2")]


@on_virtual_time
async def test_a_cut_can_be_noticed_late() -> None:
    room = MemoryRoom()
    alice, _ = room.join("alice"), room.join("bob")
    await heard(alice)
    room.cut("bob", noticed=False)
    room.cut("bob")
    assert await heard(alice) == [ParticipantLeft("bob", "PA_2")]


@on_virtual_time
async def test_who_is_cut_can_leave_for_good() -> None:
    room = MemoryRoom()
    alice, bob, carol = room.join("alice"), room.join("bob"), room.join("carol")
    await heard(alice)
    room.cut("bob")
    room.cut("carol", noticed=False)
    await bob.aclose()
    await carol.aclose()
    assert await heard(alice) == [ParticipantLeft("bob", "PA_2"), ParticipantLeft("carol", "PA_3")]
    with pytest.raises(ConnectionError):
        await send(bob, packet("alice"))
    for act in (room.cut, room.come_back):
        with pytest.raises(LocalProtocolError, match="no participant 'bob' is in the room"):
            act("bob")


# programs


@each_world
def test_a_retry_is_tested_over_a_lossy_room(world: World) -> None:
    async def main() -> None:
        room = MemoryRoom(link=Link(latency=0.125, loss=0.5), seed=2)
        asked: list[str] = []
        came: list[str | int] = []
        async with (
            world.participant(room.join("bob")) as bob,
            world.participant(room.join("alice")) as alice,
        ):

            @bob.register_rpc_method("greet")
            def greet(data: Any) -> str:
                asked.append(data.payload)
                return "Hello!"

            while "Hello!" not in came:
                try:
                    came += [
                        await alice.perform_rpc(
                            destination_identity="bob", method="greet", payload="Hi"
                        )
                    ]
                except RpcError as error:
                    came.append(error.code)
            assert came == [1502, 1501, 1501, 1501, "Hello!"]
            assert asked == ["Hi", "Hi"]  # the first answer was lost

    world.run(main)


@each_world
def test_calls_fail_while_a_connection_is_cut_and_succeed_when_it_is_back(world: World) -> None:
    async def main() -> None:
        room = MemoryRoom(link=Link(latency=0.125))
        async with (
            world.participant(room.join("bob")) as bob,
            world.participant(room.join("alice")) as alice,
        ):
            bob.register_rpc_method("greet", lambda data: "Hello!")

            async def attempt() -> str:
                return await alice.perform_rpc(
                    destination_identity="bob", method="greet", payload="Hi"
                )

            room.cut("alice")
            for _ in range(2):
                with pytest.raises(RpcError) as failed:
                    await attempt()
                assert failed.value.code == RpcError.ErrorCode.RECIPIENT_DISCONNECTED
            room.come_back("alice")
            await alice.wait_for_participant("bob")
            assert await attempt() == "Hello!"

    world.run(main)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_link_delays_on_real_time_too(backend: str) -> None:
    async def main() -> None:
        room = MemoryRoom(link=Link(latency=0.01, repetition=1.0, straggling=0.01))
        host = {world.name: world for world in WORLDS}[backend]
        async with (
            host.participant(room.join("bob")) as bob,
            host.participant(room.join("alice")) as alice,
        ):
            bob.register_rpc_method("greet", lambda data: "Hello!")
            began_at = anyio.current_time()
            reply = await alice.perform_rpc(destination_identity="bob", method="greet", payload="")
            assert reply == "Hello!"
            assert anyio.current_time() - began_at >= 0.02

    anyio.run(main, backend=backend)
