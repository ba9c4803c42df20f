"""Packets over WebSockets, on real connections."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial, wraps
from random import Random
from typing import Any

import anyio
import pytest
from fake_transports import all_events, of
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve

from rpcproto import OutgoingPacket, PacketKind, RpcError
from rpcproto.asyncio import RpcParticipant
from rpcproto.participant import RpcInvocationData
from rpcproto.transports import PacketReceived, TransportEvent
from rpcproto.transports.framing import BadPeer, Hello, frame
from rpcproto.transports.stream import StreamTransport
from rpcproto.transports.websocket import WebSocketStream

PATIENCE = 20.0
BOB = frame(Hello("bob").write())
"""The hello of bob, for tests that play bob byte by byte."""


def on_asyncio(main: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    @wraps(main)
    def test() -> None:
        asyncio.run(asyncio.wait_for(main(), PATIENCE))

    return test


def packet(destination: str, data: bytes) -> OutgoingPacket:
    return OutgoingPacket(data, destination, "id", PacketKind.REQUEST, 0)


@asynccontextmanager
async def connected(
    handle: Callable[[ServerConnection], Coroutine[Any, Any, None]],
) -> AsyncIterator[ClientConnection]:
    """A connection to a server that handles it so."""
    async with serve(handle, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}") as connection:
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
        assert "the stream broke" in str(caught.value.__cause__)
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
        with pytest.raises(ConnectionError, match="the stream is over"):
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
