"""Whatever a stranger sends over a stream, and however fast, other tasks get their turns."""

import os
import socket
import threading
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Final, TypeAlias, TypeVar

import anyio
import pytest
import websockets.asyncio.server
from bystander import MAX_TURN, RUNS, bystander
from odd_packets import HAS_AN_EFFECT

import rpcproto.asyncio
import rpcproto.trio
from rpcproto import wire
from rpcproto.participant import RpcInvocationData
from rpcproto.transports import BATCH_EVENTS
from rpcproto.transports.framing import Hello, frame
from rpcproto.transports.pipes import PipeStream
from rpcproto.transports.stream import StreamTransport, listen_tcp, listen_unix, serve
from rpcproto.transports.websocket import BoundedServerConnection, WebSocketStream

HOSTS: Final = {"asyncio": rpcproto.asyncio, "trio": rpcproto.trio}
PATIENCE: Final = 60.0
HELLO: Final = frame(Hello("mallory").write())
MIB: Final = 1_048_576

T = TypeVar("T")
Dial: TypeAlias = Callable[[], socket.socket]
"""Connects a stranger, who has done whatever goes before the first frame."""
Way: TypeAlias = Callable[["Bob", Path], AsyncIterator[Dial]]
"""Serves, until the block ends; gives how a stranger connects."""


# --- a participant that a stranger can reach


class Bob:
    """A participant that answers, until the connection ends."""

    def __init__(self, host: ModuleType) -> None:
        self._host = host
        self.ended = anyio.Event()
        self.packets_in = 0
        """How many packets its engine was given, at the end."""

    async def serve(self, transport: StreamTransport) -> None:
        async with self._host.RpcParticipant(transport) as bob:
            bob.register_rpc_method("echo", echo)
            await transport.wait_closed()
            self.packets_in = bob.statistics().packets_in
        self.ended.set()


async def echo(data: RpcInvocationData) -> str:
    return data.payload


async def over_tcp(bob: Bob, _: Path) -> AsyncIterator[Dial]:
    async with listen_tcp("127.0.0.1", 0) as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(serve, listener, "bob", bob.serve)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        yield lambda: socket.create_connection(("127.0.0.1", port))
        tasks.cancel_scope.cancel()


async def over_a_unix_socket(bob: Bob, directory: Path) -> AsyncIterator[Dial]:
    path = directory / "socket"

    def dial() -> socket.socket:
        stranger = socket.socket(socket.AF_UNIX)
        stranger.connect(str(path))
        return stranger

    async with listen_unix(path) as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(serve, listener, "bob", bob.serve)
        yield dial
        tasks.cancel_scope.cancel()


async def over_pipes(bob: Bob, _: Path) -> AsyncIterator[Dial]:
    """A participant that takes what it reads and writes for pipes; the stranger has one socket."""
    ours, theirs = socket.socketpair()
    async with anyio.create_task_group() as tasks:
        stream = PipeStream(os.dup(ours.fileno()), ours.detach())
        tasks.start_soon(bob.serve, StreamTransport(stream, "bob"))
        yield lambda: theirs
        tasks.cancel_scope.cancel()


async def over_a_websocket(bob: Bob, _: Path) -> AsyncIterator[Dial]:
    """As the documentation shows it, but for those who want compression."""

    async def serve_websocket(connection: websockets.asyncio.server.ServerConnection) -> None:
        with suppress(ConnectionError):
            await bob.serve(StreamTransport(WebSocketStream(connection), "bob"))

    async with websockets.asyncio.server.serve(
        serve_websocket,
        "127.0.0.1",
        0,
        compression="deflate",
        max_size=8 * MIB,
        close_timeout=1,
        create_connection=BoundedServerConnection,
    ) as server:
        [listening] = server.sockets
        port = listening.getsockname()[1]
        yield lambda: websocket_to(port)


def websocket_to(port: int) -> socket.socket:
    stranger = socket.create_connection(("127.0.0.1", port))
    stranger.sendall(
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    )
    response = b""
    while b"\r\n\r\n" not in response:
        response += stranger.recv(1)
    assert b" 101 " in response
    return stranger


# --- a stranger


def flood(stranger: socket.socket, data: bytes) -> None:
    """Send all of it as fast as it goes, read what comes back, and leave."""

    def read() -> None:
        with suppress(OSError):
            while stranger.recv(MIB):
                pass

    reading = threading.Thread(target=read)
    reading.start()
    with suppress(OSError):  # whom it is for need not want all of it
        stranger.sendall(data)
        stranger.shutdown(socket.SHUT_WR)
    reading.join()
    stranger.close()


def requests(number: int, payload: str) -> list[bytes]:
    return [
        wire.encode(wire.Request(f"r{n}", "echo", payload, 8_000, 1), "mallory", "bob")
        for n in range(number)
    ]


def compressed_requests(number: int) -> list[bytes]:
    """Each is a packet of 16 KB, whose body is of 16 MB."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = compressor.compress(bytes(16 * MIB)) + compressor.flush()
    return [
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
        for n in range(number)
    ]


FLOODS: Final[dict[str, Callable[[], list[bytes]]]] = {
    "the smallest packets": lambda: [b"\x08\x00"] * 50_000,
    "packets of one byte": lambda: [b"\x08"] * 50_000,
    "calls": lambda: requests(3_000, "Hi"),
    "calls with the largest payload": lambda: requests(300, "x" * 15_360),
    "packets of the largest size": lambda: [b"\xa2\x06\x01x" * 32_000] * 100,
    "many destinations": lambda: [b"\x2a\x01x" * 43_000] * 100,
    "attributes": lambda: [HAS_AN_EFFECT["many empty attributes"]] * 100,
    "bodies that inflate": lambda: compressed_requests(4),
}
"""Packets that the engine is given."""


def assert_others_get_their_turns(
    name: str, way: Way, directory: Path, data: bytes, packets: int
) -> None:
    """The best of a few runs: a bystander waits for at most MAX_TURN of processor time.

    So many `packets` are in the `data`.
    """

    async def run() -> float:
        bob = Bob(HOSTS[name])
        async with asynccontextmanager(way)(bob, directory) as dial:
            with anyio.fail_after(PATIENCE):
                stranger = await anyio.to_thread.run_sync(dial)
                async with bystander() as watch:
                    await anyio.to_thread.run_sync(flood, stranger, data)
                    await bob.ended.wait()
        assert bob.packets_in == packets
        assert watch.turns > packets / BATCH_EVENTS
        return watch.longest

    longest = []
    for _ in range(RUNS):
        longest.append(anyio.run(run, backend=name))
        if longest[-1] <= MAX_TURN:
            return
    pytest.fail(f"a bystander waits for {longest} seconds of processor time")


def each(kinds: Iterable[str], ways: Sequence[T], usual: str) -> list[object]:
    """Every kind on the first way, and the `usual` kind on every way; the rest takes its time."""
    return [
        pytest.param(
            kind,
            way,
            marks=() if way == ways[0] or kind == usual else pytest.mark.environments,
            id=f"{kind} {getattr(way, '__name__', way)}",
        )
        for way in ways
        for kind in kinds
    ]


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize(
    ("kind", "way"), each(FLOODS, [over_tcp, over_a_unix_socket, over_pipes], "calls")
)
def test_a_flood_over_a_stream_stops_nobody(name: str, way: Way, kind: str, tmp_path: Path) -> None:
    packets = FLOODS[kind]()
    data = HELLO + frame(*packets)
    assert_others_get_their_turns(name, way, tmp_path, data, len(packets))


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize(
    "way", [over_tcp, over_a_unix_socket, over_pipes], ids=lambda way: way.__name__
)
def test_frames_without_content_end_the_connection(name: str, way: Way, tmp_path: Path) -> None:
    assert_others_get_their_turns(name, way, tmp_path, HELLO + bytes(4 * MIB), 0)


# --- over a WebSocket


def message(data: bytes, opcode: int = 2, *, compressed: bool = False) -> bytes:
    """A message in one frame; the mask is 0, so that it changes nothing."""
    first = 0x80 | opcode | (0x40 if compressed else 0)
    if len(data) < 126:
        head = bytes([first, 0x80 | len(data)])
    elif len(data) < 65_536:
        head = bytes([first, 0xFE]) + len(data).to_bytes(2)
    else:
        head = bytes([first, 0xFF]) + len(data).to_bytes(8)
    return head + bytes(4) + data


def deflated(data: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


@pytest.mark.parametrize(("kind", "size"), each(FLOODS, [MIB, 1_000], "calls"))
def test_a_flood_over_a_websocket_stops_nobody(kind: str, size: int, tmp_path: Path) -> None:
    packets = FLOODS[kind]()
    frames = HELLO + frame(*packets)
    data = b"".join(message(frames[at : at + size]) for at in range(0, len(frames), size))
    assert_others_get_their_turns("asyncio", over_a_websocket, tmp_path, data, len(packets))


SMALLEST: Final = frame(*[b"\x08\x00"] * 100_000)


@pytest.mark.parametrize(
    ("packets", "data"),
    [
        (0, message(b"") * 100_000),
        (0, message(b"", 9) * 100_000),
        (0, message(b"", 10) * 100_000),
        (0, b"\x02\x80\0\0\0\0" + b"\x00\x80\0\0\0\0" * 100_000),
        (0, message(bytes(8 * MIB))),
        (0, message(deflated(bytes(4_000_000)), compressed=True)),
        (200_000, message(deflated(SMALLEST), compressed=True) * 2),
    ],
    ids=[
        "messages without content",
        "pings",
        "pongs",
        "fragments without content",
        "a message of frames without content",
        "a compressed message of a million frames without content",
        "compressed messages of a hundred thousand packets",
    ],
)
def test_what_only_a_websocket_has_stops_nobody_either(
    packets: int, data: bytes, tmp_path: Path
) -> None:
    stream = message(HELLO) + data
    assert_others_get_their_turns("asyncio", over_a_websocket, tmp_path, stream, packets)
