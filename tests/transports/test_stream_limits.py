"""Peers that read slowly or not at all, and what a transport takes and writes at once."""

import gc
import logging
import tracemalloc
import weakref
import zlib
from collections.abc import Awaitable, Callable, Coroutine
from types import ModuleType
from typing import Any, Final, TypeAlias

import anyio
import anyio.lowlevel
import pytest
import trio
import trio.testing
from anyio.abc import ByteStream
from fake_transports import of
from test_stream import BOB, HERE, MemoryStream, event, memory_streams, packet

import rpcproto.asyncio
import rpcproto.trio
from rpcproto import LocalProtocolError, wire
from rpcproto.participant import RpcInvocationData
from rpcproto.testing import virtual_time_run
from rpcproto.transports import HIGH_WATER_MARK, ParticipantJoined
from rpcproto.transports.framing import FrameReader, Hello, frame
from rpcproto.transports.stream import MAX_FRAME_BYTES, StreamTransport

Run: TypeAlias = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]
HOSTS: Final[list[tuple[Run, ModuleType]]] = [
    (lambda main: virtual_time_run(main()), rpcproto.asyncio),
    (
        lambda main: trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0)),
        rpcproto.trio,
    ),
]
on_both_hosts = pytest.mark.parametrize(("run", "host"), HOSTS, ids=["asyncio", "trio"])


class SlowStream(MemoryStream):
    """A stream whose other end reads so many bytes a second."""

    bytes_per_second = 1.0

    async def send(self, item: bytes) -> None:
        await anyio.sleep(len(item) / self.bytes_per_second)
        await super().send(item)


# --- send_timeout


@on_both_hosts
def test_a_peer_that_does_not_read_is_given_up_in_time(run: Run, host: ModuleType) -> None:
    async def main() -> None:
        one, two = memory_streams(1)
        async with two, StreamTransport(one, "alice", send_timeout=12.5) as alice:
            await two.send(BOB)
            await alice.greet()  # which fills all the room that there is
            began = anyio.current_time()
            with pytest.raises(
                ConnectionError, match=r"did not read 8 bytes within 12\.5 seconds \(send_timeout\)"
            ):
                await alice.send(of(packet("bob")))
            assert anyio.current_time() == began + 12.5
            await alice.wait_closed()
            assert [await event(alice) for _ in range(2)] == [
                ParticipantJoined("bob", "", 2, (2,)),
                HERE,
            ]
            with pytest.raises(ConnectionError) as caught:
                await alice.receive()
            assert "send_timeout" in str(caught.value.__cause__)
            assert await two.receive() == frame(Hello("alice").write())
            with pytest.raises(anyio.EndOfStream):
                await two.receive()

    run(main)


@on_both_hosts
@pytest.mark.parametrize("seconds", [29.0, 31.0], ids=["just fast enough", "too slow"])
def test_64_kib_in_30_seconds_is_the_least_that_a_peer_may_read(
    run: Run, host: ModuleType, seconds: float
) -> None:
    size = MAX_FRAME_BYTES - 4  # two such pieces

    async def main() -> None:
        streams = memory_streams(100)
        one = SlowStream(streams[0].incoming, streams[0].outgoing)
        one.bytes_per_second = HIGH_WATER_MARK / seconds
        two = streams[1]
        async with two, StreamTransport(one, "alice") as alice:
            await two.send(BOB)
            await alice.greet()
            began = anyio.current_time()
            for number in range(1, 4):
                if seconds > 30.0:
                    with pytest.raises(ConnectionError):
                        await alice.send(of(packet("bob", bytes(size))))
                    assert anyio.current_time() == began + 30.0
                    break
                await alice.send(of(packet("bob", bytes(size))))
                assert anyio.current_time() == pytest.approx(began + number * 2 * seconds)

    run(main)


@on_both_hosts
def test_what_a_peer_held_that_does_not_read_is_given_back(run: Run, host: ModuleType) -> None:
    """It asks for 64 MiB, with a few packets, and reads nothing of it."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = compressor.compress(b"a" * (16 << 20)) + compressor.flush()
    asking = [
        wire.encode(
            wire.StreamHeader(
                f"s{n}",
                wire.REQUEST_TOPIC,
                wire.request_attributes(f"r{n}", "echo", 8_000),
                None,
                0,
                body,
                1,
            ),
            "mallory",
            "bob",
        )
        for n in range(3)
    ]
    ended: list[float] = []
    held: list[int] = []

    async def main() -> None:
        one, two = memory_streams(1)

        def echo(data: RpcInvocationData) -> str:
            held.append(tracemalloc.get_traced_memory()[0] - before)
            return data.payload

        async def be_bob() -> None:
            transport = StreamTransport(one, "bob")
            async with host.RpcParticipant(transport) as bob:
                bob.register_rpc_method("echo", echo)
                await transport.wait_closed()
            ended.append(anyio.current_time() - began)

        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        async with two, anyio.create_task_group() as tasks:
            tasks.start_soon(be_bob)
            await two.send(frame(Hello("mallory", 1, ()).write()))
            for data in asking:
                await two.send(frame(data))
            began = anyio.current_time()
        gc.collect()
        held.append(tracemalloc.get_traced_memory()[0] - before)

    tracemalloc.start()
    try:
        run(main)
    finally:
        tracemalloc.stop()
    assert 30.0 <= ended[0] < 32.0
    assert max(held) > 32 << 20
    assert held[-1] < 1 << 20


@on_both_hosts
@pytest.mark.parametrize("how", ["does not read", "sends garbage", "leaves"])
def test_nothing_keeps_a_participant_alive_whose_connection_has_ended(
    run: Run, host: ModuleType, how: str
) -> None:
    """Not even until garbage is collected, which an idle program may never do."""
    left: list[weakref.ref[object]] = []

    async def be_bob(stream: ByteStream) -> None:
        transport = StreamTransport(stream, "bob")
        async with host.RpcParticipant(transport) as bob:
            left.append(weakref.ref(bob))
            bob.register_rpc_method("echo", lambda data: data.payload)
            await transport.wait_closed()

    async def main() -> None:
        one, two = memory_streams(1)
        async with two, anyio.create_task_group() as tasks:
            tasks.start_soon(be_bob, one)
            await two.send(frame(Hello("mallory", 1, ()).write()))
            request = wire.Request("r1", "echo", "x" * 15_000, 8_000, 1)
            await two.send(frame(wire.encode(request, "mallory", "bob")))
            if how == "sends garbage":
                await two.send(bytes(4))
            elif how == "leaves":
                await two.receive()
                await two.send_eof()

    gc.collect()
    gc.disable()
    logging.disable()  # pytest keeps what is logged, with its tracebacks
    try:
        run(main)
        assert [reference() for reference in left] == [None]
    finally:
        logging.disable(logging.NOTSET)
        gc.enable()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), "30", None])
async def test_a_send_timeout_that_is_none_is_misuse(value: object) -> None:
    one, two = memory_streams(1)
    async with one, two:
        with pytest.raises(LocalProtocolError, match="send_timeout"):
            StreamTransport(one, "alice", send_timeout=value)  # type: ignore[arg-type]


# --- what is taken and written at once


class GatedStream(ByteStream):
    """A stream whose writes wait until a test lets them go; bob is at its other end."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self._heard = [BOB]
        self._gate = anyio.Event()
        self._over = anyio.Event()
        self._is_open = True

    def close_gate(self) -> None:
        self._is_open = False

    def let_go(self) -> None:
        """Let the write that waits go, and no other one."""
        self._gate.set()
        self._gate = anyio.Event()

    async def send(self, item: bytes) -> None:
        self.writes.append(item)
        if not self._is_open:
            await self._gate.wait()

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        await anyio.lowlevel.checkpoint()
        if self._heard:
            return self._heard.pop()
        await self._over.wait()
        raise anyio.EndOfStream

    async def send_eof(self) -> None:
        pass

    async def aclose(self) -> None:
        self._over.set()

    def messages(self) -> list[object]:
        """What was written after the hello, and the beginning of what waits."""
        reader = FrameReader()
        for data in self.writes[1:]:
            reader.feed(data)
        packets = map(wire.decode, reader.next_frames(MAX_FRAME_BYTES, 1_000_000, 1 << 40))
        return [packet and packet.message for packet in packets]


Program: TypeAlias = Callable[
    [GatedStream, Callable[[str, str], object], Callable[[], int]], Awaitable[None]
]


def with_alice(run: Run, host: ModuleType, program: Program) -> None:
    """Alice calls bob, who never answers, over a stream that has a gate. The program is given what
    makes a call, with a method and a payload, and what counts the packets that alice has sent."""

    async def main() -> None:
        stream = GatedStream()
        transport = StreamTransport(stream, "alice", send_timeout=1e6)
        await transport.greet()
        async with host.RpcParticipant(transport) as alice, anyio.create_task_group() as tasks:

            async def call(method: str, payload: str) -> None:
                await alice.perform_rpc(
                    destination_identity="bob",
                    method=method,
                    payload=payload,
                    response_timeout=1e6,
                    max_round_trip_latency=1e6,
                )

            await program(
                stream,
                lambda method, payload: tasks.start_soon(call, method, payload),
                lambda: alice.statistics().packets_out,
            )
            stream.let_go()
            tasks.cancel_scope.cancel()

    run(main)


def kinds(messages: list[object]) -> list[str]:
    """Of each packet what it is: `chunk`, or the method of a request."""
    return [
        "chunk"
        if isinstance(message, wire.StreamChunk)
        else message.attributes["lk.rpc_request_method"]
        if isinstance(message, wire.StreamHeader)
        else type(message).__name__
        for message in messages
    ]


@on_both_hosts
def test_small_packets_share_a_write(run: Run, host: ModuleType) -> None:
    async def main(
        stream: GatedStream, call: Callable[[str, str], object], packets_out: Callable[[], int]
    ) -> None:
        for number in range(100):
            call(f"m{number}", "a small payload")
        await anyio.wait_all_tasks_blocked()
        assert packets_out() == len(stream.messages()) == 100
        # The first one may go by itself; all others are there by the time that it has gone.
        assert len(stream.writes) <= 1 + 2

    with_alice(run, host, main)


@on_both_hosts
def test_a_small_packet_leaves_before_all_of_a_body_that_is_not_written_yet(
    run: Run, host: ModuleType
) -> None:
    async def main(
        stream: GatedStream, call: Callable[[str, str], object], packets_out: Callable[[], int]
    ) -> None:
        stream.close_gate()
        call("large", "".join(map(chr, range(256, 40_000))) * 10)
        await anyio.wait_all_tasks_blocked()
        for _ in range(3):  # somewhere in the middle of the body
            stream.let_go()
            await anyio.wait_all_tasks_blocked()
        before = len(stream.messages())
        assert kinds(stream.messages())[1:] == ["chunk"] * (before - 1)
        call("small", "")
        await anyio.wait_all_tasks_blocked()
        assert len(stream.messages()) == before
        stream.let_go()
        await anyio.wait_all_tasks_blocked()
        assert kinds(stream.messages())[before : before + 2] == ["small", "chunk"]

    with_alice(run, host, main)


@on_both_hosts
def test_no_more_than_a_high_water_mark_waits_in_the_transport(run: Run, host: ModuleType) -> None:
    largest = 15_200  # a chunk as a packet

    async def main(
        stream: GatedStream, call: Callable[[str, str], object], packets_out: Callable[[], int]
    ) -> None:
        stream.close_gate()
        for number in range(5):
            call(f"m{number}", "".join(map(chr, range(256, 40_000))) * 10)
        await anyio.wait_all_tasks_blocked()
        for _ in range(20):
            # What was taken has been written, but for one write that waits and what is behind it.
            assert len(stream.writes[-1]) <= HIGH_WATER_MARK
            unwritten = packets_out() - len(stream.messages())
            assert len(stream.writes[-1]) + unwritten * largest < HIGH_WATER_MARK + 2 * largest
            stream.let_go()
            await anyio.wait_all_tasks_blocked()
        assert len(stream.writes) > 20

    with_alice(run, host, main)
