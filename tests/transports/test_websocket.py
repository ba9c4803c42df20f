"""Packets over WebSockets, on real connections."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial, wraps
from itertools import count
from random import Random
from typing import Any

import anyio
import pytest
import trio
from fake_transports import all_events, of
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from rpcproto import LocalProtocolError, OutgoingPacket, PacketKind, RpcError, wire
from rpcproto.asyncio import RpcParticipant
from rpcproto.participant import RpcInvocationData
from rpcproto.transports import HIGH_WATER_MARK, PacketReceived, TransportEvent
from rpcproto.transports.framing import BadPeer, Hello, frame
from rpcproto.transports.stream import StreamTransport
from rpcproto.transports.websocket import (
    BoundedClientConnection,
    BoundedServerConnection,
    WebSocketStream,
)

PATIENCE = 60.0
MIB = 1_048_576
BOB = frame(Hello("bob").write())
"""The hello of bob, for tests that play bob byte by byte."""


def on_asyncio(main: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    @wraps(main)
    def test() -> None:
        asyncio.run(asyncio.wait_for(main(), PATIENCE))

    return test


def packet(destination: str, data: bytes) -> OutgoingPacket:
    return OutgoingPacket(data, destination, "id", PacketKind.REQUEST, 0)


class Logged(logging.Handler):
    """What is logged by rpcproto until the end of the test."""

    def __init__(self) -> None:
        super().__init__()
        self._records: list[logging.LogRecord] = []
        logging.getLogger("rpcproto").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)

    def texts(self) -> list[str]:
        logging.getLogger("rpcproto").removeHandler(self)
        return [record.getMessage() for record in self._records]


@asynccontextmanager
async def connected(
    handle: Callable[[ServerConnection], Coroutine[Any, Any, None]],
    create_connection: type[ServerConnection] | None = None,
) -> AsyncIterator[ClientConnection]:
    """A connection to a server that handles it so."""
    async with serve(
        handle,
        "127.0.0.1",
        0,
        compression=None,
        close_timeout=0.5,
        create_connection=create_connection,
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect(
            f"ws://127.0.0.1:{port}", compression=None, create_connection=BoundedClientConnection
        ) as connection:
            yield connection


async def shout(data: RpcInvocationData) -> str:
    return data.payload.upper()


@on_asyncio
async def test_participants_call_each_other_across_a_websocket() -> None:
    async def handle(connection: ServerConnection) -> None:
        transport = StreamTransport(WebSocketStream(connection), "bob")
        async with RpcParticipant(transport) as bob:
            bob.register_rpc_method("shout", shout)
            await transport.wait_closed()

    async with connected(handle) as connection:
        transport = StreamTransport(WebSocketStream(connection), "alice")
        assert await transport.greet() == Hello("bob")
        async with RpcParticipant(transport) as alice:
            call = partial(alice.perform_rpc, destination_identity="bob", method="shout")
            letters = "".join(Random(4).choices("abcdefghijklmnopqrstuvwxyz ", k=1_000_000))
            assert await call(payload=letters) == letters.upper()
            assert await asyncio.gather(*(call(payload=f"call {n}") for n in range(20))) == [
                f"CALL {n}" for n in range(20)
            ]
        assert connection.close_code == 1000


@on_asyncio
async def test_where_a_message_ends_means_nothing() -> None:
    async def handle(connection: ServerConnection) -> None:
        everything = BOB + frame(b"one") + frame(bytes(100_000))
        for piece in (everything[:3], everything[3:20], b"", everything[20:]):
            await connection.send(piece)

    async with connected(handle) as connection:
        events = await all_events(StreamTransport(WebSocketStream(connection), "alice"))
        assert events[2:] == [PacketReceived(b"one", "bob"), PacketReceived(bytes(100_000), "bob")]


@on_asyncio
async def test_what_comes_is_given_in_pieces_that_are_not_too_long() -> None:
    async with connected(lambda connection: connection.send(b"abcde")) as connection:
        stream = WebSocketStream(connection)
        assert [await stream.receive(2) for _ in range(3)] == [b"ab", b"cd", b"e"]
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()


@on_asyncio
async def test_a_text_that_is_no_hello_is_a_bad_peer() -> None:
    async with connected(lambda connection: connection.send("hello")) as connection:
        transport = StreamTransport(WebSocketStream(connection), "alice")
        with pytest.raises(BadPeer, match="begins with b'hell'"):
            await all_events(transport)


@on_asyncio
async def test_a_connection_that_breaks_is_an_error_and_calls_are_told() -> None:
    async def handle(connection: ServerConnection) -> None:
        await connection.send(BOB)
        await connection.recv()
        await connection.recv()
        connection.transport.abort()

    async with connected(handle) as connection:
        transport = StreamTransport(WebSocketStream(connection), "alice")
        async with RpcParticipant(transport) as alice:
            with pytest.raises(RpcError) as caught:
                await alice.perform_rpc(destination_identity="bob", method="shout", payload="")
        assert caught.value.code == RpcError.ErrorCode.RECIPIENT_DISCONNECTED
        assert isinstance(caught.value.__cause__, ConnectionError)
        assert "the stream failed" in str(caught.value.__cause__)
        with pytest.raises(anyio.BrokenResourceError):
            await WebSocketStream(connection).send(b"data")


@on_asyncio
async def test_closing_ends_what_waits_on_both_sides() -> None:
    ends: asyncio.Queue[list[TransportEvent]] = asyncio.Queue()

    async def handle(connection: ServerConnection) -> None:
        ends.put_nowait(await all_events(StreamTransport(WebSocketStream(connection), "bob")))

    async with connected(handle) as connection:
        transport = StreamTransport(WebSocketStream(connection), "alice")
        await transport.greet()
        reading = asyncio.create_task(all_events(transport))
        await transport.send(of(packet("bob", b"last")))
        await transport.aclose()
        await transport.aclose()
        assert len(await reading) == 2
        assert (await ends.get())[2:] == [PacketReceived(b"last", "alice")]
        with pytest.raises(ConnectionError, match="the stream has ended"):
            await transport.send(of(packet("bob", b"")))


@on_asyncio
async def test_closing_within_a_frame_is_no_fault_of_the_peer() -> None:
    async def handle(connection: ServerConnection) -> None:
        await connection.send(BOB + frame(b"data")[:-1])
        await connection.wait_closed()

    async with connected(handle) as connection:
        transport = StreamTransport(WebSocketStream(connection), "alice")
        await transport.greet()
        reading = asyncio.create_task(all_events(transport))
        await anyio.wait_all_tasks_blocked()
        await transport.aclose()
        assert len(await reading) == 2


@on_asyncio
async def test_closing_does_not_wait_for_a_peer_that_is_stuck_when_it_is_cancelled() -> None:
    let_go = asyncio.Event()

    async def handle(connection: ServerConnection) -> None:
        # Nobody reads, so nobody sees that the other one closes.
        connection.transport.pause_reading()
        await let_go.wait()
        connection.transport.resume_reading()

    async with connected(handle) as connection:
        transport = StreamTransport(WebSocketStream(connection), "alice")
        closing = asyncio.create_task(transport.aclose())
        await anyio.wait_all_tasks_blocked()
        assert not closing.done()
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await connection.wait_closed()
        let_go.set()


# --- leaving while much arrives


async def flood(connection: ServerConnection) -> None:
    """Send calls for ever, as fast as it goes, and read whatever comes."""

    async def read() -> None:
        with suppress(ConnectionClosed):
            while True:
                await connection.recv()

    with suppress(ConnectionClosed):
        await connection.send(BOB)
        reading = asyncio.create_task(read())
        for number in count():
            request = wire.Request(f"r{number}", "shout", "x" * 10_000, 8_000, 1)
            await connection.send(frame(wire.encode(request, "bob", "alice")))
    await reading


@on_asyncio
async def test_leaving_a_busy_connection_closes_it_in_order_and_logs_nothing() -> None:
    logged = Logged()

    async def be_bob(connection: ServerConnection) -> None:
        transport = StreamTransport(WebSocketStream(connection), "bob")
        async with RpcParticipant(transport) as bob:
            bob.register_rpc_method("large", lambda data: Random(5).randbytes(3 * MIB).hex())
            await transport.wait_closed()

    for handle in (flood, be_bob):
        async with connected(handle) as connection:
            transport = StreamTransport(WebSocketStream(connection), "alice")
            async with RpcParticipant(transport) as alice:
                call = asyncio.create_task(
                    alice.perform_rpc(destination_identity="bob", method="large", payload="")
                )
                while alice.statistics().packets_in < 100:
                    await asyncio.sleep(0)
            with pytest.raises(RpcError):
                await call
            assert connection.close_code == 1000
    assert logged.texts() == []


@on_asyncio
async def test_leaving_a_peer_that_is_stuck_logs_nothing() -> None:
    let_go = asyncio.Event()
    logged = Logged()

    async def handle(connection: ServerConnection) -> None:
        await connection.send(BOB)
        connection.transport.pause_reading()
        await let_go.wait()

    async with connected(handle) as connection:
        transport = StreamTransport(WebSocketStream(connection), "alice")
        async with RpcParticipant(transport) as alice:
            await alice.wait_for_participant("bob")
        let_go.set()
        await connection.wait_closed()
        assert connection.close_code == 1006
        assert logged.texts() == []


@on_asyncio
async def test_both_may_close_at_the_same_time() -> None:
    bobs: asyncio.Queue[StreamTransport] = asyncio.Queue()
    codes: asyncio.Queue[int | None] = asyncio.Queue()

    async def handle(connection: ServerConnection) -> None:
        transport = StreamTransport(WebSocketStream(connection), "bob")
        await transport.greet()
        bobs.put_nowait(transport)
        await connection.wait_closed()
        codes.put_nowait(connection.close_code)

    async with connected(handle) as connection:
        alice = StreamTransport(WebSocketStream(connection), "alice")
        await alice.greet()
        bob = await bobs.get()
        reading = [asyncio.create_task(all_events(transport)) for transport in (alice, bob)]
        await anyio.wait_all_tasks_blocked()
        await asyncio.gather(alice.aclose(), bob.aclose())
        assert [len(events) for events in await asyncio.gather(*reading)] == [2, 2]
        assert (connection.close_code, await codes.get()) == (1000, 1000)


@on_asyncio
async def test_a_send_that_is_cancelled_in_the_middle_ends_the_stream() -> None:
    ended: asyncio.Queue[BaseException] = asyncio.Queue()

    async def handle(connection: ServerConnection) -> None:
        transport = StreamTransport(WebSocketStream(connection), "bob")
        await transport.greet()
        connection.transport.pause_reading()
        await let_go.wait()
        connection.transport.resume_reading()
        with pytest.raises(ConnectionError) as caught:
            await all_events(transport)
        ended.put_nowait(caught.value)

    let_go = asyncio.Event()
    async with connected(handle) as connection:
        alice = StreamTransport(WebSocketStream(connection), "alice")
        await alice.greet()

        async def send_for_ever() -> None:
            while True:
                await alice.send(of(packet("bob", bytes(100_000))))

        sending = asyncio.create_task(send_for_ever())
        await anyio.wait_all_tasks_blocked()
        assert connection.transport.get_write_buffer_size() <= HIGH_WATER_MARK + 100
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        with pytest.raises(ConnectionError, match="the stream has ended"):
            await alice.send(of(packet("bob", b"more")))
        let_go.set()
        assert "the stream" in str(await ended.get())


# --- hostile peers


@on_asyncio
async def test_a_peer_that_sends_pings_and_reads_no_pongs_is_dropped() -> None:
    """The library answers them whether or not anybody reads, and keeps the answers."""
    servers: asyncio.Queue[ServerConnection] = asyncio.Queue()

    async def handle(connection: ServerConnection) -> None:
        WebSocketStream(connection)
        servers.put_nowait(connection)
        await connection.wait_closed()

    async with connected(handle, create_connection=BoundedServerConnection) as connection:
        served = await servers.get()
        connection.transport.pause_reading()
        with suppress(ConnectionClosed, OSError):
            for _ in range(1_000_000):
                connection.transport.write(b"\x89\xfd" + bytes(4 + 125))
                if connection.transport.get_write_buffer_size() > MIB:
                    await asyncio.sleep(0)
                if served.state is State.CLOSED:
                    break
            else:
                pytest.fail("the answers to a million pings are kept")
        await served.wait_closed()
        connection.transport.abort()


def test_outside_of_asyncio_it_says_that_it_is_for_asyncio_only() -> None:
    async def main() -> None:
        with pytest.raises(LocalProtocolError, match="asyncio only"):
            WebSocketStream(None)  # type: ignore[arg-type]

    trio.run(main)


@on_asyncio
async def test_a_connection_of_another_kind_is_misuse() -> None:
    with pytest.raises(LocalProtocolError, match=r"a connection of websockets\.asyncio"):
        WebSocketStream(None)  # type: ignore[arg-type]
