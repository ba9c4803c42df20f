"""Packets over real TCP connections, Unix sockets and pipes, on asyncio and on trio."""

import asyncio
import errno
import logging
import os
import re
import resource
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import anyio
import pytest
import trio
import trio.testing
from anyio.abc import ByteStream, Listener, SocketAttribute, SocketStream
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from anyio.streams.stapled import StapledByteStream
from fake_transports import of
from memory import traced_memory
from paths import DOCS

from rpcproto import LocalProtocolError, OutgoingPacket, PacketKind, RpcError
from rpcproto.asyncio import RpcParticipant
from rpcproto.participant import RpcInvocationData
from rpcproto.testing import virtual_time_run
from rpcproto.transports import (
    Connected,
    PacketReceived,
    PacketsNotSent,
    ParticipantJoined,
    TransportEvent,
)
from rpcproto.transports.connecting import explained, tcp_url
from rpcproto.transports.framing import BadPeer, Hello, frame
from rpcproto.transports.pipes import PipeStream
from rpcproto.transports.stream import (
    MAX_CONNECTIONS,
    MAX_FRAME_BYTES,
    StreamTransport,
    connect_tcp,
    connect_unix,
    listen_tcp,
    listen_unix,
    serve,
)

pytestmark = pytest.mark.anyio

each_kind = pytest.mark.parametrize("kind", ["tcp", "unix", "pipes"])
each_socket = pytest.mark.parametrize("kind", ["tcp", "unix"])
asyncio_alone = pytest.mark.parametrize("anyio_backend", ["asyncio"])
PATIENCE = 60.0
"""Nothing here takes so many seconds; what hangs fails."""
HERE = Connected(participants_complete=True)
BOB = frame(Hello("bob").write())
"""The hello of bob, for tests that play bob byte by byte."""

_unheard: WeakKeyDictionary[StreamTransport, list[TransportEvent]] = WeakKeyDictionary()
"""What transports have handed over in a batch, and `event` has not returned yet."""

Handler: TypeAlias = Callable[[StreamTransport], Awaitable[None]]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def packet(destination: str, data: bytes = b"data") -> OutgoingPacket:
    return OutgoingPacket(data, destination, "id", PacketKind.REQUEST, 0)


def port_of(listener: Listener[SocketStream]) -> int:
    return listener.extra(SocketAttribute.local_port)


@asynccontextmanager
async def two_pipes() -> AsyncIterator[tuple[ByteStream, ByteStream]]:
    (read_1, write_2), (read_2, write_1) = os.pipe(), os.pipe()
    async with PipeStream(read_1, write_1) as one, PipeStream(read_2, write_2) as two:
        with anyio.fail_after(PATIENCE):
            yield one, two


@asynccontextmanager
async def two_streams(kind: str, path: Path) -> AsyncIterator[tuple[ByteStream, ByteStream]]:
    """The two ends of a connection."""
    if kind == "pipes":
        async with two_pipes() as ends:
            yield ends
        return
    accepted, accept = anyio.create_memory_object_stream[ByteStream](1)
    listening = listen_tcp("127.0.0.1", 0) if kind == "tcp" else listen_unix(path / "socket")
    async with listening as listener, accepted, accept:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, accepted.send)
            if kind == "tcp":
                one: ByteStream = await anyio.connect_tcp("127.0.0.1", port_of(listener))
            else:
                one = await anyio.connect_unix(path / "socket")
            two = await accept.receive()
            tasks.cancel_scope.cancel()
        async with one, two:
            with anyio.fail_after(PATIENCE):
                yield one, two


@asynccontextmanager
async def alice_and_bob(
    kind: str, path: Path
) -> AsyncIterator[tuple[StreamTransport, StreamTransport]]:
    """Two transports that have greeted each other, with that news taken."""
    async with (
        two_streams(kind, path) as (one, two),
        StreamTransport(one, "alice") as alice,
        StreamTransport(two, "bob") as bob,
    ):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(alice.greet)
            tasks.start_soon(bob.greet)
        for transport in (alice, bob):
            for _ in range(2):
                await event(transport)
        yield alice, bob


@asynccontextmanager
async def alice_and_bytes(
    kind: str, path: Path
) -> AsyncIterator[tuple[StreamTransport, ByteStream]]:
    """Alice's transport, and the bare other end of its stream."""
    async with two_streams(kind, path) as (one, two), StreamTransport(one, "alice") as alice:
        yield alice, two


async def heard(transport: StreamTransport) -> list[TransportEvent]:
    """Everything until the end."""
    events = _unheard.pop(transport, [])
    while batch := await transport.receive():
        events += batch
    return events


async def event(transport: StreamTransport) -> TransportEvent:
    """The next event; there must be one."""
    waiting = _unheard.setdefault(transport, [])
    if not waiting:
        waiting += await transport.receive()
    return waiting.pop(0)


async def told(stream: ByteStream) -> bytes:
    """All bytes until the end."""
    return b"".join([data async for data in stream])


async def everything_waits() -> None:
    """Nothing will happen by itself any more. Also before cancelling anyio's Unix sockets: on
    asyncio a callback of theirs complains where bytes come at the same moment."""
    await anyio.wait_all_tasks_blocked()


# --- the greeting


@each_kind
async def test_two_participants_greet_each_other(kind: str, tmp_path: Path) -> None:
    async with two_streams(kind, tmp_path) as (one, two):
        alice = StreamTransport(one, "alice", client_protocol=1, capabilities=[2, 7])
        bob = StreamTransport(two, "bob")
        assert (alice.peer, bob.peer) == (None, None)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(alice.greet)
            assert await bob.greet() == Hello("alice", 1, (2, 7))
        assert alice.peer == await alice.greet() == Hello("bob", 2, (2,))
        await alice.aclose()
        assert await heard(bob) == [ParticipantJoined("alice", "", 1, (2, 7)), HERE]
        await bob.aclose()


@each_kind
async def test_the_iteration_greets_by_itself(kind: str, tmp_path: Path) -> None:
    async with alice_and_bytes(kind, tmp_path) as (alice, bob):
        await bob.send(BOB[:10])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bob.send, BOB[10:] + frame(b"data"))
            assert [await event(alice) for _ in range(3)] == [
                ParticipantJoined("bob", "", 2, (2,)),
                HERE,
                PacketReceived(b"data", "bob"),
            ]
        assert await bob.receive() == frame(Hello("alice").write())


async def test_a_participant_knows_its_peer_before_it_first_waits() -> None:
    async with two_pipes() as (one, two), StreamTransport(one, "alice") as alice:
        await two.send(BOB)
        assert alice.take_welcome() == ()
        await alice.greet()
        assert alice.take_welcome() == (ParticipantJoined("bob", "", 2, (2,)),)
        assert await event(alice) == HERE


@each_kind
@pytest.mark.parametrize(
    ("garbage", "complaint"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "1195725856 bytes, more than 4096"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "369295618 bytes, more than 4096"),
        (Random(1).randbytes(1_000), "more than 4096"),
        (frame(b"a packet"), "the hello is not JSON"),
        (frame(b'{"rpcproto":2,"identity":"bob"}'), "the hello is not of version 1"),
        (frame(Hello("alice").write()), "the peer has the same identity, 'alice'"),
    ],
    ids=["http", "tls", "random", "no hello", "version", "our identity"],
)
async def test_a_bad_peer_is_refused_with_a_reason(
    kind: str, garbage: bytes, complaint: str, tmp_path: Path
) -> None:
    async with alice_and_bytes(kind, tmp_path) as (alice, peer):
        await peer.send(garbage)
        with pytest.raises(BadPeer, match=complaint):
            await event(alice)
        with pytest.raises(ConnectionError, match="the stream has ended") as caught:
            await alice.send(of(packet("bob")))
        assert isinstance(caught.value.__cause__, BadPeer)
        # It was our end that closed, and closing it again changes nothing.
        assert await told(peer) == frame(Hello("alice").write())
        await alice.aclose()
        with pytest.raises(ConnectionError) as caught:
            await alice.send(of(packet("bob")))
        assert isinstance(caught.value.__cause__, BadPeer)


@each_kind
async def test_a_peer_that_leaves_before_its_hello_is_a_bad_one(kind: str, tmp_path: Path) -> None:
    async with alice_and_bytes(kind, tmp_path) as (alice, peer):
        await peer.send(BOB[:-1])
        await peer.send_eof()
        with pytest.raises(BadPeer, match="the stream ended before the hello"):
            await alice.greet()
        await alice.wait_closed()


class MemoryStream(ByteStream):
    """One end of a byte stream in memory, for virtual time."""

    def __init__(
        self, incoming: MemoryObjectReceiveStream[bytes], outgoing: MemoryObjectSendStream[bytes]
    ) -> None:
        self.incoming = incoming
        self.outgoing = outgoing

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        return await self.incoming.receive()

    async def send(self, item: bytes) -> None:
        await self.outgoing.send(item)

    async def send_eof(self) -> None:
        await self.outgoing.aclose()

    async def aclose(self) -> None:
        self.incoming.close()
        self.outgoing.close()
        await anyio.lowlevel.checkpoint()


def memory_streams(room: float) -> tuple[MemoryStream, MemoryStream]:
    """Two ends with room for so many pieces each way."""
    to_one, one = anyio.create_memory_object_stream[bytes](room)
    to_two, two = anyio.create_memory_object_stream[bytes](room)
    return MemoryStream(one, to_two), MemoryStream(two, to_one)


on_virtual_time = pytest.mark.parametrize(
    "run",
    [
        lambda main: virtual_time_run(main()),
        lambda main: trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0)),
    ],
    ids=["asyncio", "trio"],
)
Run: TypeAlias = Callable[[Callable[[], Awaitable[None]]], None]


@on_virtual_time
@pytest.mark.parametrize("room", [1, 0], ids=["silent", "deaf"])
def test_a_peer_that_says_nothing_is_given_up_in_time(run: Run, room: int) -> None:
    async def main() -> None:
        one, two = memory_streams(room)
        async with two, StreamTransport(one, "alice", hello_timeout=2.5) as alice:
            started = anyio.current_time()
            with pytest.raises(BadPeer, match=r"no hello within 2\.5 seconds"):
                await event(alice)
            assert anyio.current_time() == started + 2.5
            with pytest.raises(ConnectionError):
                await alice.send(of(packet("bob")))

    run(main)


@on_virtual_time
def test_a_hello_that_dribbles_in_is_given_up_as_well(run: Run) -> None:
    async def main() -> None:
        one, two = memory_streams(10)

        async def dribble() -> None:
            for letter in BOB:
                await two.send(bytes([letter]))
                await anyio.sleep(1.0)

        alice = StreamTransport(one, "alice", hello_timeout=9.5)
        async with two, alice, anyio.create_task_group() as tasks:
            tasks.start_soon(dribble)
            started = anyio.current_time()
            with pytest.raises(BadPeer, match=r"no hello within 9\.5 seconds"):
                await alice.greet()
            assert anyio.current_time() == started + 9.5
            tasks.cancel_scope.cancel()

    run(main)


@on_virtual_time
def test_after_the_hello_silence_is_no_fault(run: Run) -> None:
    async def main() -> None:
        one, two = memory_streams(10)
        async with two, StreamTransport(one, "alice") as alice:
            await two.send(BOB)
            await alice.greet()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(heard, alice)
                await anyio.sleep(1_000_000.0)
                await two.send_eof()

    run(main)


@on_virtual_time
def test_sending_waits_for_the_hello(run: Run) -> None:
    """Before it nobody knows who is there, so nothing is dropped either."""

    async def main() -> None:
        one, two = memory_streams(10)
        async with two, StreamTransport(one, "alice") as alice, anyio.create_task_group() as tasks:
            tasks.start_soon(alice.send, of(packet("bob", b"early")))
            tasks.start_soon(alice.greet)
            await anyio.sleep(5.0)
            assert two.incoming.statistics().current_buffer_used == 1  # the hello
            await two.send(BOB)
            assert await two.receive() == frame(Hello("alice").write())
            assert await two.receive() == frame(b"early")

    run(main)


@on_virtual_time
def test_a_greeting_that_was_cancelled_can_go_on(run: Run) -> None:
    async def main() -> None:
        one, two = memory_streams(10)
        async with two, StreamTransport(one, "alice") as alice:
            with anyio.move_on_after(1.0):
                await alice.greet()
            await two.send(BOB)
            assert await alice.greet() == Hello("bob")
            await alice.aclose()
            assert [await two.receive()] == [frame(Hello("alice").write())]
            with pytest.raises(anyio.EndOfStream):
                await two.receive()

    run(main)


# --- packets


@each_kind
async def test_a_megabyte_each_way_at_the_same_time(kind: str, tmp_path: Path) -> None:
    random = Random(2)
    bodies = [random.randbytes(size) for size in [1, 64_000, MAX_FRAME_BYTES, *[62_500] * 16]]

    async def send_all(transport: StreamTransport, destination: str) -> None:
        for body in bodies:
            await transport.send(of(packet(destination, body)))

    async with alice_and_bob(kind, tmp_path) as (alice, bob), anyio.create_task_group() as tasks:
        tasks.start_soon(send_all, alice, "bob")
        tasks.start_soon(send_all, bob, "alice")
        for transport, sender in ((alice, "bob"), (bob, "alice")):
            got = [await event(transport) for _ in bodies]
            assert got == [PacketReceived(body, sender) for body in bodies]


@each_kind
async def test_packets_for_anybody_else_are_dropped_in_silence(kind: str, tmp_path: Path) -> None:
    async with alice_and_bob(kind, tmp_path) as (alice, bob):
        for destination in ("", "alice", "carol", "bob"):
            await alice.send(of(packet(destination, f"for {destination}".encode())))
        await alice.aclose()
        assert await heard(bob) == [PacketReceived(b"for bob", "alice")]


@each_kind
async def test_r10_a_packet_over_the_limit_is_not_sent_and_the_connection_stands(
    kind: str, tmp_path: Path
) -> None:
    async with alice_and_bob(kind, tmp_path) as (alice, bob):
        large, small = packet("bob", bytes(MAX_FRAME_BYTES + 1)), packet("bob", b"small")
        empty = packet("bob", b"")
        with pytest.raises(PacketsNotSent, match="more than 131072 bytes") as caught:
            await alice.send(of(empty, small, large))
        assert caught.value.packets == (empty, large)
        assert await event(bob) == PacketReceived(b"small", "alice")
        await alice.send(of(packet("bob")))
        assert await event(bob) == PacketReceived(b"data", "alice")


@each_kind
async def test_a_frame_over_the_limit_ends_the_stream_after_what_came_before(
    kind: str, tmp_path: Path
) -> None:
    async with alice_and_bytes(kind, tmp_path) as (alice, bob):
        await bob.send(BOB + frame(b"good") + (MAX_FRAME_BYTES + 1).to_bytes(4))
        assert [await event(alice) for _ in range(3)][-1] == PacketReceived(b"good", "bob")
        with pytest.raises(BadPeer, match="a frame of 131073 bytes, more than 131072"):
            await event(alice)
        await alice.wait_closed()
        assert await told(bob) == frame(Hello("alice").write())


@each_kind
async def test_a_slow_reader_makes_the_sender_wait_and_memory_stays_flat(
    kind: str, tmp_path: Path
) -> None:
    sent = 0
    count = 1_000

    async def send_all(transport: StreamTransport) -> None:
        nonlocal sent
        for _ in range(count):
            await transport.send(of(packet("bob", bytes(64_000))))
            sent += 1

    async with alice_and_bob(kind, tmp_path) as (alice, bob), anyio.create_task_group() as tasks:
        with traced_memory() as memory:
            tasks.start_soon(send_all, alice)
            await everything_waits()
            # What is under way is in the system's buffers, which hold far less than 64 MB.
            assert sent < count
            got = 0
            while got < count:
                assert await event(bob) == PacketReceived(bytes(64_000), "alice")
                got += 1
            assert memory()[1] < 3_000_000


# --- the end


@each_kind
async def test_the_peer_that_leaves_ends_the_iteration(kind: str, tmp_path: Path) -> None:
    async with alice_and_bob(kind, tmp_path) as (alice, bob):
        await alice.send(of(packet("bob", b"last")))
        await alice.aclose()
        assert await heard(bob) == [PacketReceived(b"last", "alice")]
        assert await heard(bob) == []
        await bob.wait_closed()
        with pytest.raises(ConnectionError, match="the stream has ended"):
            await bob.send(of(packet("alice")))


@each_kind
async def test_a_half_close_is_the_end(kind: str, tmp_path: Path) -> None:
    async with alice_and_bytes(kind, tmp_path) as (alice, bob):
        await bob.send(BOB + frame(b"last"))
        await bob.send_eof()
        assert (await heard(alice))[-1] == PacketReceived(b"last", "bob")
        assert await told(bob) == frame(Hello("alice").write())


async def test_a_peer_that_leaves_without_reading_everything_is_no_reset(tmp_path: Path) -> None:
    async with alice_and_bob("tcp", tmp_path) as (alice, bob):
        await alice.send(of(packet("bob", b"unread")))
        await bob.send(of(packet("alice", b"last")))
        await bob.aclose()
        assert await heard(alice) == [PacketReceived(b"last", "bob")]


@each_kind
async def test_an_end_within_a_frame_is_an_error(kind: str, tmp_path: Path) -> None:
    async with alice_and_bytes(kind, tmp_path) as (alice, bob):
        await bob.send(BOB + frame(b"whole") + frame(b"data")[:-1])
        await bob.aclose()
        assert [await event(alice) for _ in range(3)][-1] == PacketReceived(b"whole", "bob")
        with pytest.raises(BadPeer, match="the stream ended after 7 bytes of a frame"):
            await event(alice)


async def test_a_reset_is_an_error_with_its_cause(tmp_path: Path) -> None:
    async with alice_and_bytes("tcp", tmp_path) as (alice, bob):
        await bob.send(BOB)
        await alice.greet()
        # Closing without lingering resets the connection.
        raw = bob.extra(SocketAttribute.raw_socket)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await bob.aclose()
        with pytest.raises(ConnectionError, match=r"the stream failed: .*[Rr]eset") as caught:
            await heard(alice)
        assert not isinstance(caught.value, BadPeer)
        assert isinstance(caught.value.__cause__, anyio.BrokenResourceError)


@each_kind
async def test_sending_to_one_who_is_gone_is_an_error(kind: str, tmp_path: Path) -> None:
    async with alice_and_bob(kind, tmp_path) as (alice, bob):
        await bob.aclose()
        with pytest.raises(ConnectionError, match="the stream failed"):  # noqa: PT012
            for _ in range(1_000):
                await alice.send(of(packet("bob", bytes(64_000))))


@each_kind
async def test_closing_ends_an_iteration_that_waits_and_may_be_done_twice(
    kind: str, tmp_path: Path
) -> None:
    async with alice_and_bob(kind, tmp_path) as (alice, bob):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(heard, alice)
            tasks.start_soon(alice.wait_closed)
            await everything_waits()
            await alice.aclose()
        await alice.aclose()
        assert await heard(alice) == []
        with pytest.raises(ConnectionError, match="the stream has ended"):
            await alice.send(of(packet("bob")))
        assert await heard(bob) == []


@each_kind
async def test_closing_within_a_frame_is_no_fault_of_the_peer(kind: str, tmp_path: Path) -> None:
    async with alice_and_bytes(kind, tmp_path) as (alice, bob):
        await bob.send(BOB + frame(b"data")[:-1])
        await alice.greet()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(heard, alice)
            await everything_waits()
            await alice.aclose()


@each_kind
async def test_closing_ends_a_send_that_waits(kind: str, tmp_path: Path) -> None:
    async def send_for_ever(transport: StreamTransport) -> None:
        with pytest.raises(ConnectionError, match="the stream has ended"):  # noqa: PT012
            while True:
                await transport.send(of(packet("bob", bytes(64_000))))

    async with alice_and_bob(kind, tmp_path) as (alice, _), anyio.create_task_group() as tasks:
        tasks.start_soon(send_for_ever, alice)
        await everything_waits()
        await alice.aclose()


async def test_closing_before_the_hello_wakes_everybody(tmp_path: Path) -> None:
    async with alice_and_bytes("tcp", tmp_path) as (alice, _):

        async def send() -> None:
            with pytest.raises(ConnectionError, match="the stream has ended"):
                await alice.send(of(packet("bob")))

        async def greet() -> None:
            with pytest.raises(ConnectionError, match="the stream has ended"):
                await alice.greet()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            tasks.start_soon(greet)
            await everything_waits()
            await alice.aclose()
        assert await heard(alice) == []


@each_kind
async def test_a_packet_cut_off_by_cancelling_ends_the_stream(kind: str, tmp_path: Path) -> None:
    async with alice_and_bob(kind, tmp_path) as (alice, bob):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:

                async def send_for_ever() -> None:
                    while True:
                        await alice.send(of(packet("bob", bytes(100_000))))

                tasks.start_soon(send_for_ever)
                await everything_waits()
                scope.cancel()
        with pytest.raises(ConnectionError, match="the stream has ended") as caught:
            await alice.send(of(packet("bob")))
        assert "within a packet" in str(caught.value.__cause__)
        with pytest.raises(ConnectionError, match="the stream has ended") as caught:
            await heard(alice)
        assert "within a packet" in str(caught.value.__cause__)
        # Whole packets arrive, a part of one never does.
        with pytest.raises(ConnectionError):  # noqa: PT012
            while True:
                assert await event(bob) == PacketReceived(bytes(100_000), "alice")


@each_kind
async def test_cancelling_before_anything_is_written_does_no_harm(
    kind: str, tmp_path: Path
) -> None:
    async with alice_and_bob(kind, tmp_path) as (alice, bob):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await alice.send(of(packet("bob", b"cancelled")))
        await alice.send(of(packet("bob", b"sent")))
        assert await event(bob) == PacketReceived(b"sent", "alice")


@each_kind
async def test_cancelling_the_iteration_loses_nothing(kind: str, tmp_path: Path) -> None:
    async with alice_and_bob(kind, tmp_path) as (alice, bob):
        data = bytes(range(256)) * 250
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(heard, bob)
            await everything_waits()
            tasks.cancel_scope.cancel()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(alice.send, of(packet("bob", data)))
            assert await event(bob) == PacketReceived(data, "alice")


async def test_two_tasks_that_send_are_one_too_many(tmp_path: Path) -> None:
    async with alice_and_bob("tcp", tmp_path) as (alice, bob), anyio.create_task_group() as tasks:

        async def send_for_ever() -> None:
            while True:
                await alice.send(of(packet("bob", bytes(64_000))))

        tasks.start_soon(send_for_ever)
        await everything_waits()
        with pytest.raises(anyio.BusyResourceError):
            await alice.send(of(packet("bob")))
        # The one that was first goes on.
        for _ in range(300):
            assert await event(bob) == PacketReceived(bytes(64_000), "alice")
        tasks.cancel_scope.cancel()


async def test_a_tcp_connection_is_watched_over(tmp_path: Path) -> None:
    async with two_streams("tcp", tmp_path) as ends:
        for stream in ends:
            StreamTransport(stream, "alice")
            raw = stream.extra(SocketAttribute.raw_socket)
            assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3
            assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 5


@pytest.mark.parametrize(
    "options",
    [
        {"identity": ""},
        {"identity": "é" * 129},
        {"client_protocol": -1},
        {"capabilities": ["2"]},
        {"max_frame_bytes": 0},
        {"max_frame_bytes": 1e6},
        {"hello_timeout": 0.0},
        {"hello_timeout": float("inf")},
    ],
    ids=str,
)
async def test_what_cannot_be_is_misuse(options: dict[str, object]) -> None:
    async with two_pipes() as (one, _):
        with pytest.raises(LocalProtocolError):
            StreamTransport(one, **({"identity": "alice"} | options))  # type: ignore[arg-type]


# --- connecting and serving


class Messages(logging.Handler):
    """What is logged, to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.came = anyio.Event()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())
        self.came.set()
        self.came = anyio.Event()

    async def count(self, number: int) -> list[str]:
        """The texts, once there are so many."""
        while len(self.texts) < number:
            await self.came.wait()
        return self.texts


@pytest.fixture
async def messages() -> AsyncIterator[Messages]:
    handler = Messages()
    logger = logging.getLogger("rpcproto")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@asynccontextmanager
async def served(
    kind: str, path: Path, handle: Handler, max_connections: int = MAX_CONNECTIONS
) -> AsyncIterator[Callable[[str], Awaitable[StreamTransport]]]:
    """Bob, who serves with `handle`; gives what connects to him under an identity."""
    listening = listen_tcp("127.0.0.1", 0) if kind == "tcp" else listen_unix(path / "socket")
    async with listening as listener, anyio.create_task_group() as tasks:
        serving = partial(serve, listener, "bob", handle, max_connections=max_connections)
        tasks.start_soon(serving)
        with anyio.fail_after(PATIENCE):
            if kind == "tcp":
                yield partial(connect_tcp, "127.0.0.1", port_of(listener))
            else:
                yield partial(connect_unix, path / "socket")
            await everything_waits()
        tasks.cancel_scope.cancel()


async def echo(transport: StreamTransport) -> None:
    """Send back what comes, until the end."""
    while batch := await transport.receive():
        for happened in batch:
            if isinstance(happened, PacketReceived):
                assert happened.sender_identity is not None
                await transport.send(of(packet(happened.sender_identity, happened.data)))


async def assert_echoes(transport: StreamTransport) -> None:
    await transport.send(of(packet("bob", b"anybody there?")))
    while await event(transport) != PacketReceived(b"anybody there?", "bob"):
        pass


@each_socket
async def test_a_server_serves_many_side_by_side(kind: str, tmp_path: Path) -> None:
    async with served(kind, tmp_path, echo) as connect:
        async with await connect("alice") as alice, await connect("carol") as carol:
            assert alice.peer == carol.peer == Hello("bob")
            for transport in (carol, alice, carol):
                await assert_echoes(transport)
        async with await connect("alice") as again:
            await assert_echoes(again)


@each_socket
async def test_a_bad_peer_is_refused_and_logged_and_the_others_go_on(
    kind: str, tmp_path: Path, messages: Messages
) -> None:
    async with served(kind, tmp_path, echo) as connect, await connect("alice") as alice:
        with pytest.raises(ConnectionError):
            await connect("bob")
        [text] = await messages.count(1)
        assert text.startswith("bob: refused ")
        assert text.endswith(": the peer has the same identity, 'bob'")
        await assert_echoes(alice)
        async with await connect("carol") as carol:
            await assert_echoes(carol)


@each_socket
async def test_no_more_than_so_many_connections_are_served_and_one_line_says_so(
    kind: str, tmp_path: Path, messages: Messages
) -> None:
    async with served(kind, tmp_path, echo, max_connections=2) as connect:
        async with await connect("alice") as alice, await connect("carol") as carol:
            for _ in range(3):
                with pytest.raises(ConnectionError):
                    await connect("dave")
            for transport in (alice, carol):
                await assert_echoes(transport)
            [text] = await messages.count(1)
            assert text.startswith("bob: refused ")
            assert text.endswith(": 2 connections are open (max_connections)")
        await everything_waits()
        async with await connect("dave") as dave:
            await assert_echoes(dave)
    assert len(messages.texts) == 1


@each_socket
async def test_a_connection_that_says_nothing_has_its_place_too(kind: str, tmp_path: Path) -> None:
    async with served(kind, tmp_path, echo, max_connections=1) as connect:
        if kind == "tcp":
            silent: ByteStream = await anyio.connect_tcp(*connect.args)  # type: ignore[attr-defined]
        else:
            silent = await anyio.connect_unix(tmp_path / "socket")
        assert await silent.receive() == frame(Hello("bob").write())
        with pytest.raises(ConnectionError):
            await connect("alice")
        await silent.aclose()
        await everything_waits()
        async with await connect("alice") as alice:
            await assert_echoes(alice)


@each_socket
async def test_a_handler_that_fails_is_logged_and_the_others_go_on(
    kind: str, tmp_path: Path, messages: Messages
) -> None:
    async def handle(transport: StreamTransport) -> None:
        if (await transport.greet()).identity == "carol":
            raise RuntimeError("not carol")
        await echo(transport)

    async with served(kind, tmp_path, handle) as connect, await connect("alice") as alice:
        async with await connect("carol") as carol:
            assert await heard(carol) == [ParticipantJoined("bob", "", 2, (2,)), HERE]
        [text] = await messages.count(1)
        assert text.startswith("bob: serving ")
        assert text.endswith(" failed")
        await assert_echoes(alice)


@contextmanager
def no_more_files() -> Iterator[None]:
    """Opening a file or a socket fails meanwhile."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def test_a_server_without_room_goes_on_when_there_is_some_again(
    tmp_path: Path, messages: Messages
) -> None:
    async with served("unix", tmp_path, echo) as connect, await connect("alice") as alice:
        with socket.socket(socket.AF_UNIX) as waiting:
            waiting.setblocking(False)
            with no_more_files():
                waiting.connect(str(tmp_path / "socket"))
                assert await messages.count(1) == ["bob: cannot accept connections"]
            await assert_echoes(alice)
        async with await connect("carol") as carol:
            await assert_echoes(carol)


@each_socket
async def test_with_the_listener_closed_serving_ends_with_the_last_connection(
    kind: str, tmp_path: Path
) -> None:
    async with anyio.create_task_group() as tasks:
        listening = (
            listen_tcp("127.0.0.1", 0) if kind == "tcp" else listen_unix(tmp_path / "socket")
        )
        async with listening as listener:
            tasks.start_soon(serve, listener, "bob", echo)
            if kind == "tcp":
                alice = await connect_tcp("127.0.0.1", port_of(listener), "alice")
            else:
                alice = await connect_unix(tmp_path / "socket", "alice")
        async with alice:
            await assert_echoes(alice)


async def test_whoever_serves_is_told_of_misuse_at_once() -> None:
    async with listen_tcp("127.0.0.1", 0) as listener:
        with anyio.fail_after(PATIENCE), pytest.raises(LocalProtocolError):
            await serve(listener, "", echo)
        with anyio.fail_after(PATIENCE), pytest.raises(LocalProtocolError):
            await serve(listener, "bob", echo, hello_timeout=-1.0)
        with anyio.fail_after(PATIENCE), pytest.raises(LocalProtocolError):
            await serve(listener, "bob", echo, send_timeout=0.0)
        for number in (0, -1, 1.5, True, None):
            with anyio.fail_after(PATIENCE), pytest.raises(LocalProtocolError):
                await serve(listener, "bob", echo, max_connections=number)  # type: ignore[arg-type]
    with pytest.raises(LocalProtocolError):
        await connect_tcp("nowhere", 1, "")
    with pytest.raises(LocalProtocolError):
        await connect_unix("nowhere", "alice", max_frame_bytes=0)


async def test_connecting_can_be_given_up(tmp_path: Path) -> None:
    hellos, hello = anyio.create_memory_object_stream[bytes](2)

    async def listen_to(stream: ByteStream) -> None:
        async with stream:
            await hellos.send(await stream.receive())
            await hellos.send(await told(stream))

    async with (
        hellos,
        hello,
        listen_unix(tmp_path / "socket") as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, listen_to)
        async with anyio.create_task_group() as connecting:
            connecting.start_soon(connect_unix, tmp_path / "socket", "alice")
            assert await hello.receive() == frame(Hello("alice").write())
            connecting.cancel_scope.cancel()
        with anyio.fail_after(PATIENCE):
            assert await hello.receive() == b""
        tasks.cancel_scope.cancel()


async def test_connecting_to_a_bad_peer_fails_with_the_reason(tmp_path: Path) -> None:
    async def speak_http(stream: ByteStream) -> None:
        async with stream:
            await stream.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with listen_unix(tmp_path / "socket") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, speak_http)
        with pytest.raises(BadPeer, match="begins with b'HTTP'"):
            await connect_unix(tmp_path / "socket", "alice")
        tasks.cancel_scope.cancel()
    with pytest.raises(OSError, match=r"."):
        await connect_unix(tmp_path / "socket", "alice")


async def test_errors_of_connecting_and_listening_name_the_address(tmp_path: Path) -> None:
    path, url = tmp_path / "a socket", f"unix://{tmp_path}/a%20socket"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=r".") as in_use:
            await enter(listen_tcp("127.0.0.1", port))
        with pytest.raises(BadPeer, match=r".") as silent:
            await connect_tcp("127.0.0.1", port, "alice", hello_timeout=0.01)
    with pytest.raises(ConnectionRefusedError) as refused:
        await connect_tcp("127.0.0.1", port, "alice")
    with pytest.raises(socket.gaierror) as unknown:
        await connect_tcp("::g", 7000, "alice")
    with pytest.raises(FileNotFoundError) as missing:
        await connect_unix(path, "alice")
    with pytest.raises(FileNotFoundError) as no_folder:
        await enter(listen_unix(path / "there"))
    assert str(in_use.value) == (f"cannot listen on tcp://127.0.0.1:{port}: Address already in use")
    assert str(silent.value) == (
        f"cannot connect to tcp://127.0.0.1:{port}: no hello within 0.01 seconds (hello_timeout)"
    )
    assert str(refused.value) == f"cannot connect to tcp://127.0.0.1:{port}: connection refused"
    assert str(unknown.value).startswith("cannot connect to tcp://[::g]:7000: ")
    assert str(missing.value) == f"cannot connect to {url}: No such file or directory"
    assert str(no_folder.value) == f"cannot listen on {url}/there: No such file or directory"
    assert (in_use.value.errno, refused.value.errno) == (errno.EADDRINUSE, errno.ECONNREFUSED)


async def enter(listening: AbstractAsyncContextManager[object]) -> None:
    async with listening:
        raise AssertionError("it listens")


def test_all_reasons_are_given_if_a_host_has_several_addresses() -> None:
    error = OSError("All connection attempts failed")
    refused = ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 7)")
    unreachable = OSError(errno.ENETUNREACH, "Connect call failed ('::1', 7, 0, 0)")
    error.__cause__ = ExceptionGroup("several", [refused, unreachable, refused])
    with pytest.raises(ConnectionRefusedError) as caught, explained("connect to", "here"):
        raise error
    assert str(caught.value) == "cannot connect to here: connection refused, Network is unreachable"


@pytest.mark.parametrize("port", [-1, 65_536, "7000", True])
async def test_a_port_that_is_none_is_an_error(port: Any) -> None:
    with pytest.raises(LocalProtocolError, match="port must be an int from 0 to 65535, not "):
        await connect_tcp("127.0.0.1", port, "alice")
    with pytest.raises(LocalProtocolError, match="port must be an int from 0 to 65535, not "):
        await enter(listen_tcp("127.0.0.1", port))


@pytest.mark.parametrize(
    ("host", "url"),
    [("::1", "tcp://[::1]:7"), ("10.0.0.1", "tcp://10.0.0.1:7"), (None, "tcp://*:7")],
)
def test_an_address_is_named_by_its_url(host: str | None, url: str) -> None:
    assert tcp_url(host, 7) == url


async def test_a_host_or_a_path_that_is_none_is_an_error() -> None:
    with pytest.raises(LocalProtocolError, match=r"cannot connect to tcp://\S+:7000: "):
        await connect_tcp("é" * 70, 7000, "alice")
    with pytest.raises(LocalProtocolError, match=r"cannot listen on unix:a%00b: .*null"):
        await enter(listen_unix("a\0b"))


async def test_a_unix_socket_is_there_while_somebody_listens(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    async with listen_unix(path, mode=0o600):
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


async def test_a_unix_socket_that_was_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with listen_unix(path) as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(serve, listener, "bob", echo)
        async with await connect_unix(path, "alice") as alice:
            await assert_echoes(alice)
        await everything_waits()
        tasks.cancel_scope.cancel()


async def test_a_unix_socket_that_is_in_use_is_left_alone(tmp_path: Path) -> None:
    async with served("unix", tmp_path, echo) as connect:
        with pytest.raises(OSError, match="Address already in use") as caught:
            async with listen_unix(tmp_path / "socket"):
                pass
        assert caught.value.errno == errno.EADDRINUSE
        async with await connect("alice") as alice:
            await assert_echoes(alice)


async def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(OSError, match=r"."):
        async with listen_unix(path):
            pass
    assert path.read_text() == "precious"


async def test_a_socket_of_somebody_else_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as other:
        async with listen_unix(path):
            path.unlink()
            other.bind(str(path))
    assert path.exists()


# --- pipes


def test_only_pipes_and_sockets_can_be_waited_for(tmp_path: Path) -> None:
    read_fd, write_fd = os.pipe()
    with (tmp_path / "file").open("wb") as file, Path(os.devnull).open("rb") as null:
        for fd in (file.fileno(), null.fileno()):
            with pytest.raises(ValueError, match=f"file descriptor {fd} is neither"):
                PipeStream(fd, write_fd)
            with pytest.raises(ValueError, match=f"file descriptor {fd} is neither"):
                PipeStream(read_fd, fd)
    with pytest.raises(ValueError, match="two different"):
        PipeStream(read_fd, read_fd)
    assert os.get_blocking(read_fd)
    assert os.get_blocking(write_fd)
    os.close(read_fd)
    os.close(write_fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        PipeStream(read_fd, write_fd)


async def test_pipes_block_again_for_whoever_shares_them() -> None:
    read_fd, write_fd = os.pipe()
    shared = [os.dup(read_fd), os.dup(write_fd)]
    async with PipeStream(read_fd, write_fd):
        assert [os.get_blocking(fd) for fd in shared] == [False, False]
    assert [os.get_blocking(fd) for fd in shared] == [True, True]
    for fd in shared:
        os.close(fd)


async def test_a_socket_can_stand_for_both_pipes() -> None:
    """As a program has it that inetd starts."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        shared = os.dup(ours.fileno())
        async with PipeStream(os.dup(ours.fileno()), ours.detach()) as stream:
            await stream.send_eof()
            assert not os.get_blocking(shared)
            theirs.send(b"data")
            assert await stream.receive() == b"data"
        assert os.get_blocking(shared)
        os.close(shared)


async def test_a_pipe_stream_is_a_byte_stream() -> None:
    async with two_pipes() as (one, two):
        await one.send(b"")
        await one.send(b"abc")
        assert await two.receive(2) == b"ab"
        assert await two.receive(2) == b"c"
        await one.send_eof()
        await one.send_eof()
        with pytest.raises(anyio.EndOfStream):
            await two.receive()
        with pytest.raises(anyio.ClosedResourceError):
            await one.send(b"abc")
        await two.send(b"still open")
        assert await one.receive() == b"still open"
        await one.aclose()
        with pytest.raises(anyio.BrokenResourceError):
            await two.send(b"abc")
        with pytest.raises(anyio.ClosedResourceError):
            await one.receive()


CHILD = """
import os
import sys

import anyio

from rpcproto.transports import PacketReceived
from rpcproto.transports.pipes import stdio
from rpcproto.transports.stream import StreamTransport
from rpcproto.core.messages import (OutgoingPacket, PacketKind)

async def main():
    print("buffered before")
    before = len(os.listdir("/dev/fd"))
    stream = stdio()
    assert len(os.listdir("/dev/fd")) == before + 2
    async with StreamTransport(stream, "bob") as transport:
        print("printed within", repr(sys.stdin.read()), flush=True)
        while events := await transport.receive():
            for event in events:
                if isinstance(event, PacketReceived):
                    reply = OutgoingPacket(event.data.upper(), "alice", "", PacketKind.REQUEST, 0)
                    await transport.send(iter([reply, None]).__next__)
    print("printed after", repr(sys.stdin.read()))

anyio.run(main, backend=sys.argv[1])
"""


async def test_a_child_process_speaks_over_its_standard_input_and_output(
    anyio_backend_name: str,
) -> None:
    command = [sys.executable, "-I", "-W", "error", "-c", CHILD, anyio_backend_name]
    async with await anyio.open_process(command) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        async with StreamTransport(StapledByteStream(child.stdin, child.stdout), "alice") as alice:
            await alice.greet()
            for data in (b"hello", b"x" * 100_000):
                await alice.send(of(packet("bob", data)))
            events = [await event(alice) for _ in range(4)]
            assert events[2:] == [
                PacketReceived(b"HELLO", "bob"),
                PacketReceived(b"X" * 100_000, "bob"),
            ]
        printed = b"".join([data async for data in child.stderr]).decode()
        assert await child.wait() == 0
        assert sorted(printed.splitlines()) == [
            "buffered before",
            "printed after ''",
            "printed within ''",
        ]


def test_standard_input_and_output_that_are_no_pipes_are_refused() -> None:
    script = (
        "import os\n"
        "from rpcproto.transports.pipes import stdio\n"
        "before = os.listdir('/dev/fd')\n"
        "try:\n    stdio()\nexcept ValueError as error:\n    print(error)\n"
        "assert os.listdir('/dev/fd') == before\n"
    )
    command = [sys.executable, "-W", "error", "-c", script]
    run = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert "is neither a pipe nor a socket" in run.stdout


# --- participants


async def shout(data: RpcInvocationData) -> str:
    return data.payload.upper()


async def answer_shouts(transport: StreamTransport) -> None:
    async with RpcParticipant(transport) as bob:
        bob.register_rpc_method("shout", shout)
        await transport.wait_closed()


@asyncio_alone
@each_socket
async def test_participants_call_each_other_across_a_socket(kind: str, tmp_path: Path) -> None:
    async with (
        served(kind, tmp_path, answer_shouts) as connect,
        RpcParticipant(await connect("alice")) as alice,
    ):
        call = partial(alice.perform_rpc, destination_identity="bob", method="shout")
        # The very first call can be a large one: what the peer reads is known already.
        letters = "".join(Random(3).choices("abcdefghijklmnopqrstuvwxyz ", k=1_000_000))
        assert await call(payload=letters) == letters.upper()
        replies = await asyncio.gather(*(call(payload=f"call {n}") for n in range(100)))
        assert replies == [f"CALL {n}" for n in range(100)]
        with pytest.raises(RpcError) as caught:
            await alice.perform_rpc(destination_identity="dave", method="shout", payload="")
        assert caught.value.code == RpcError.ErrorCode.RECIPIENT_NOT_FOUND


@asyncio_alone
async def test_participants_call_each_other_across_pipes() -> None:
    async with (
        two_pipes() as (one, two),
        RpcParticipant(StreamTransport(one, "alice")) as alice,
        RpcParticipant(StreamTransport(two, "bob")) as bob,
    ):
        bob.register_rpc_method("shout", shout)
        reply = await alice.perform_rpc(destination_identity="bob", method="shout", payload="hello")
        assert reply == "HELLO"


@asyncio_alone
@each_kind
async def test_a_call_fails_with_the_reason_for_which_the_connection_broke(
    kind: str, tmp_path: Path
) -> None:
    async with (
        alice_and_bytes(kind, tmp_path) as (transport, bob),
        RpcParticipant(transport) as alice,
    ):
        call = asyncio.create_task(
            alice.perform_rpc(destination_identity="bob", method="shout", payload="")
        )
        await bob.send(BOB)
        await bob.receive()
        await bob.send(frame(b"data")[:3])
        await bob.send_eof()
        with pytest.raises(RpcError) as caught:
            await call
        assert caught.value.code == RpcError.ErrorCode.RECIPIENT_DISCONNECTED
        assert isinstance(caught.value.__cause__, BadPeer)


@asyncio_alone
@each_kind
async def test_a_call_fails_at_once_when_the_peer_leaves(kind: str, tmp_path: Path) -> None:
    async with (
        two_streams(kind, tmp_path) as (one, two),
        StreamTransport(two, "bob") as bob,
        RpcParticipant(StreamTransport(one, "alice")) as alice,
    ):
        call = asyncio.create_task(
            alice.perform_rpc(destination_identity="bob", method="shout", payload="")
        )
        while not isinstance(await event(bob), PacketReceived):
            pass
        await bob.aclose()
        with pytest.raises(RpcError) as caught:
            await call
        assert caught.value.code == RpcError.ErrorCode.RECIPIENT_DISCONNECTED
        assert caught.value.__cause__ is None


# --- the documentation

PAGE = (DOCS / "transports.md").read_text("utf-8")
PROGRAMS = [
    pytest.param(block, id=f"program {number}")
    for number, block in enumerate(
        re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL), 1
    )
    if "rpcproto.transports.stream" in block
]


def test_the_documentation_has_programs() -> None:
    assert len(PROGRAMS) == 3


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_of_the_documentation_runs(program: str) -> None:
    command = [sys.executable, "-W", "error", "-c", program]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert run.returncode == 0, run.stderr
    assert run.stderr in ("", "this goes to standard error\n")
