"""A relay between clients and a LiveKit server on this machine, which can lose what passes.

It listens at an address of its own, `HOST`, on the ports of the server, whose configuration names
that address to its clients. TCP is the signalling, UDP everything else.
"""

import asyncio
from contextlib import suppress

HOST = "127.0.0.3"
SERVER = "127.0.0.1"
CHUNK = 65_536


class Relay:
    """Passes everything on, while inside `async with`, but for what it is told to lose."""

    def __init__(self, tcp_port: int, udp_port: int) -> None:
        self._tcp_port, self._udp_port = tcp_port, udp_port
        self.has_signalling = True
        """If not, connections for the signalling are cut, also new ones."""
        self._network = asyncio.Event()
        self._network.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._udp: _Clients | None = None

    async def start(self) -> None:
        """Listen."""
        self._listener = await asyncio.start_server(self._connected, HOST, self._tcp_port)
        loop = asyncio.get_running_loop()
        transport, self._udp = await loop.create_datagram_endpoint(
            lambda: _Clients(self._udp_port, self._network), local_addr=(HOST, self._udp_port)
        )
        self._udp.transport = transport

    async def aclose(self) -> None:
        """Let go of everything."""
        self._listener.close()
        self._cut()
        if self._udp is not None:
            self._udp.close()

    async def lose(self, seconds: float, *, signalling: bool, network: bool) -> None:
        """For so long, cut the signalling, let no packet of the network pass, or both."""
        if signalling:
            self.has_signalling = False
            self._cut()
        if network:
            self._network.clear()
        await asyncio.sleep(seconds)
        self.has_signalling = True
        self._network.set()

    def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.has_signalling:
            writer.transport.abort()
            return
        self._writers.add(writer)
        with suppress(OSError):
            await self._network.wait()
            server_reader, server_writer = await asyncio.open_connection(SERVER, self._tcp_port)
            self._writers.add(server_writer)
            await asyncio.gather(
                self._pass(reader, server_writer), self._pass(server_reader, writer)
            )
            self._writers.discard(server_writer)
        self._writers.discard(writer)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(CHUNK):
                await self._network.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


class _Clients(asyncio.DatagramProtocol):
    """The clients' side of UDP; each client has a socket of its own on the server's side."""

    transport: asyncio.DatagramTransport

    def __init__(self, port: int, network: asyncio.Event) -> None:
        self._port = port
        self._network = network
        self._servers: dict[tuple[str, int], _Server] = {}
        self._opening: set[asyncio.Task[None]] = set()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if not self._network.is_set():
            return
        server = self._servers.get(addr)
        if server is None:
            server = self._servers[addr] = _Server(self, addr)
            loop = asyncio.get_running_loop()
            task = loop.create_task(server.open(self._port))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        server.send(data)

    def back(self, data: bytes, client: tuple[str, int]) -> None:
        """The server has an answer."""
        if self._network.is_set():
            self.transport.sendto(data, client)

    def close(self) -> None:
        """Let go of all sockets."""
        self.transport.close()
        for server in self._servers.values():
            server.close()


class _Server(asyncio.DatagramProtocol):
    """One client's socket on the server's side."""

    def __init__(self, clients: _Clients, client: tuple[str, int]) -> None:
        self._clients = clients
        self._client = client
        self._transport: asyncio.DatagramTransport | None = None
        self._waiting: list[bytes] = []

    async def open(self, port: int) -> None:
        """Open the socket."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: self, remote_addr=(SERVER, port)
        )
        for data in self._waiting:
            self._transport.sendto(data)

    def send(self, data: bytes) -> None:
        """Pass on what the client has sent."""
        if self._transport is None:
            self._waiting.append(data)
        else:
            self._transport.sendto(data)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._clients.back(data, self._client)

    def close(self) -> None:
        """Close the socket."""
        if self._transport is not None:
            self._transport.close()
