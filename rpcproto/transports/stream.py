"""Packets over a byte stream between two participants: TCP, Unix sockets, pipes.

Written with anyio, for asyncio and trio. Needs the extra `anyio`. `rpcproto.transports.framing`
defines the format. Without a cryptor, nothing is encrypted. The identity in a peer's hello is not
verified, so restrict who can connect, or use a stream that authenticates its peer.
"""

import errno
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, NoReturn, NotRequired, TypedDict, Unpack, final

from rpcproto.core.config import RpcConfig
from rpcproto.core.errors import LocalProtocolError, require_timeout
from rpcproto.core.messages import OutgoingPacket
from rpcproto.extras import extra
from rpcproto.logs import SeldomLogged, logger
from rpcproto.transports import (
    HIGH_WATER_MARK,
    OUR_CAPABILITIES,
    OUR_CLIENT_PROTOCOL,
    Connected,
    PacketReceived,
    PacketsNotSent,
    ParticipantJoined,
    TransportEvent,
)
from rpcproto.transports.connecting import explained, require_port, tcp_url, unix_url
from rpcproto.transports.framing import BadPeer, Hello, Link, frame

with extra("anyio", __name__):
    import anyio
    import anyio.lowlevel
    from anyio.abc import AsyncResource, ByteStream, Listener, SocketAttribute, SocketStream

    from rpcproto.transports.turns import turns

__all__ = [
    "HELLO_TIMEOUT",
    "MAX_CONNECTIONS",
    "MAX_FRAME_BYTES",
    "SEND_TIMEOUT",
    "StreamOptions",
    "StreamTransport",
    "connect_tcp",
    "connect_unix",
    "listen_tcp",
    "listen_unix",
    "serve",
]


MAX_FRAME_BYTES: Final = RpcConfig().max_packet_bytes
"""The maximum size of a packet: the default of `RpcConfig.max_packet_bytes` (R28)."""
HELLO_TIMEOUT: Final = 10.0
"""How long a peer may take to send its hello, in seconds."""
SEND_TIMEOUT: Final = 30.0
"""How long a peer may take to read HIGH_WATER_MARK bytes, in seconds."""
MAX_CONNECTIONS: Final = 100
"""The maximum number of simultaneous connections of `serve`."""

_KEEP_ALIVE: Final = (
    ("TCP_KEEPIDLE", 15),
    ("TCP_KEEPALIVE", 15),  # what macOS calls TCP_KEEPIDLE
    ("TCP_KEEPINTVL", 5),
    ("TCP_KEEPCNT", 3),
)
"""A TCP peer that is silent is asked after so many seconds, then every so many, so many times."""
_NO_ROOM: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED}
"""Why accepting a connection may fail although the next one may not."""
_NO_ROOM_WAIT: Final = 0.1
"""How long to wait then, in seconds."""

_STREAM_ERRORS: Final = (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)
"""What a byte stream raises when it is closed or broken."""


class StreamOptions(TypedDict):
    """Keyword arguments of `StreamTransport`, for functions that make one."""

    client_protocol: NotRequired[int]
    capabilities: NotRequired[Collection[int]]
    max_frame_bytes: NotRequired[int]
    hello_timeout: NotRequired[float]
    send_timeout: NotRequired[float]


@final
class StreamTransport(AsyncResource):
    """One end of a byte stream as the transport of a participant. See `Transport`.

    Each side first sends a hello with its identity and capabilities. When the peer's hello arrives,
    the peer has joined, and the list of participants is complete (R12). Every packet counts as sent
    by the peer. Its sender fields are ignored (R36). A packet to another participant is silently
    dropped.

    `receive` returns an empty sequence after `aclose`, or if the peer ends the stream between two
    packets. Any other end raises ConnectionError and closes the stream: `BadPeer` if the peer sent
    invalid bytes. If the peer does not read, the exception of `send` names `send_timeout`, and that
    of `receive` has it as its `__cause__`.

    One task at a time can send, and one can receive. As an async context manager, the transport
    closes on leaving.
    """

    departure_grace: float = 0.0

    def __init__(
        self,
        stream: ByteStream,
        identity: str,
        *,
        client_protocol: int = OUR_CLIENT_PROTOCOL,
        capabilities: Collection[int] = OUR_CAPABILITIES,
        max_frame_bytes: int = MAX_FRAME_BYTES,
        hello_timeout: float = HELLO_TIMEOUT,
        send_timeout: float = SEND_TIMEOUT,
    ) -> None:
        """Announce `identity`, `client_protocol` and `capabilities` to the peer.

        `max_frame_bytes` limits a packet, sent or received. `hello_timeout` limits the exchange of
        hellos, and `send_timeout` each write of up to 64 KiB, both in seconds. The stream belongs
        to the transport. It must be able to buffer a hello, at most 4 KiB, as sockets and pipes do.

        Raises:
            LocalProtocolError: An argument is invalid.
        """
        ours = _checked(
            identity, client_protocol, capabilities, max_frame_bytes, hello_timeout, send_timeout
        )
        self._identity = identity
        self._link = Link(ours, max_frame_bytes)
        self._max_frame_bytes = max_frame_bytes
        self._hello_timeout = hello_timeout
        self._send_timeout = send_timeout
        self._stream = stream
        self._sending = anyio.ResourceGuard("sending on")
        self._has_said_hello = False
        self._greeted = anyio.Event()
        self._over = anyio.Event()
        self._reported = anyio.Event()
        """Set when the end has been closed and, if the reader found it, is being returned."""
        self._failure: ConnectionError | None = None
        self._packets: list[bytes] = []
        """Those that have come, while the reader waits for its turn."""
        self._welcome: tuple[ParticipantJoined, ...] = ()
        self._is_connected = False
        """Whether that was reported."""
        _watch_over(stream)

    @property
    def identity(self) -> str:
        """The identity that is announced to the peer."""
        return self._identity

    @property
    def peer(self) -> Hello | None:
        """The hello of the peer, or None before it has arrived."""
        return self._link.peer

    async def greet(self) -> Hello:
        """Exchange hellos, and return that of the peer. Later calls just return it.

        `receive` does this too. If you call `greet` before you enter a participant, the participant
        knows its peer from the beginning.

        Raises:
            BadPeer: The hello of the peer is invalid or too late, or contains this side's identity.
            ConnectionError: The stream ended or failed.
        """
        if self._link.peer is not None:
            return self._link.peer
        try:
            return await self._exchange_hellos()
        except ConnectionError as failure:
            await self._end(failure)
            raise

    async def send(self, take: Callable[[], OutgoingPacket | None]) -> None:
        """See `Transport`. Waits for the peer's hello, and while the stream is full.

        Cancelling can leave an incomplete packet on the stream. The stream is closed then.

        Raises:
            PacketsNotSent: Packets are empty or have more than `max_frame_bytes`.
            ConnectionError: The stream has ended.
        """
        with self._sending:
            if not self._greeted.is_set():
                await self._greeted.wait()
            if self._over.is_set():
                await self._raise_that_it_is_over()
            # Up to here cancelling does no harm.
            await anyio.lowlevel.checkpoint_if_cancelled()
            packets, failed = self._take(take)
            if packets:
                try:
                    await self._write(frame(*packets))
                except anyio.EndOfStream:
                    # The peer has closed the stream as a whole: the reader finds the end, after
                    # what came before it.
                    await self._raise_that_it_is_over()
            else:
                await anyio.lowlevel.checkpoint()
        if failed:
            reason = f"a packet is empty or has more than {self._max_frame_bytes} bytes"
            raise PacketsNotSent(failed, reason)

    def _take(
        self, take: Callable[[], OutgoingPacket | None]
    ) -> tuple[list[bytes], list[OutgoingPacket]]:
        """The packets to be written at once, and those that cannot be sent."""
        peer, packets, failed, size = self._link.peer, [], [], 0
        while size < HIGH_WATER_MARK and (packet := take()) is not None:
            data, destination = packet.data, packet.destination_identity
            size += len(data)
            if not 0 < len(data) <= self._max_frame_bytes:
                failed.append(packet)
            elif peer is not None and destination == peer.identity:
                packets.append(data)
        return packets, failed

    async def receive(self) -> Sequence[TransportEvent]:
        """See `Transport`."""
        if self._link.peer is None and not self._over.is_set():
            await self.greet()
        peer = self._link.peer
        if peer is not None and not self._is_connected:
            await anyio.lowlevel.checkpoint()
            self._is_connected = True
            return [*self.take_welcome(), Connected(participants_complete=True)]
        try:
            packets = self._packets or self._link.next_packets()
            while not packets and await self._read():
                packets = self._link.next_packets()
        except ConnectionError as failure:
            await self._end(failure)
            raise
        if packets and peer is not None:
            self._packets = packets
            await turns().take(packets)
            self._packets = []
            return [PacketReceived(data, peer.identity) for data in packets]
        await self._end(None)
        if self._failure is not None:
            await self._raise_that_it_is_over()
        return ()

    def take_welcome(self) -> Sequence[ParticipantJoined]:
        """See `WelcomingTransport`. Returns the peer, if its hello has arrived."""
        welcome, self._welcome = self._welcome, ()
        return welcome

    async def wait_closed(self) -> None:
        """Wait until `receive` has reached the end of the stream, or `aclose` was called."""
        await self._over.wait()

    async def aclose(self) -> None:
        """End and close the stream. Events that have arrived can still be received.

        The peer receives everything that was sent, unless it does not read.
        """
        if self._over.is_set():
            return
        self._say_it_is_over(None)
        self._reported.set()
        try:
            # Closing with something unread is a reset; the peer is to find the end before it.
            with suppress(NotImplementedError, anyio.BusyResourceError, *_STREAM_ERRORS):
                await self._stream.send_eof()
        finally:
            await self._stream.aclose()

    async def _exchange_hellos(self) -> Hello:
        with anyio.move_on_after(self._hello_timeout) as patience:
            if not self._has_said_hello:
                self._has_said_hello = True
                # A peer that has left already may have said something before.
                with suppress(ConnectionError, anyio.EndOfStream):
                    await self._write(self._link.hello)
            while self._link.peer is None and await self._read():
                pass
        if patience.cancelled_caught:
            raise BadPeer(f"no hello within {self._hello_timeout:g} seconds (hello_timeout)")
        peer = self._link.peer
        if peer is None:
            await self._raise_that_it_is_over()
        joined = ParticipantJoined(peer.identity, "", peer.client_protocol, peer.capabilities)
        self._welcome = (joined,)
        self._greeted.set()
        return peer

    async def _read(self) -> bool:
        """Take in what comes next; False when nothing will come, since one of us has left."""
        if self._over.is_set():
            return False
        try:
            data = await self._stream.receive()
        except anyio.EndOfStream:
            if not self._over.is_set():
                self._link.receive_end()
            return False
        except _STREAM_ERRORS as error:
            if self._over.is_set():
                return False
            raise _broken(error) from error
        self._link.receive_bytes(data)
        return True

    async def _write(self, data: bytes) -> None:
        for begin in range(0, len(data), HIGH_WATER_MARK):
            await self._write_piece(data[begin : begin + HIGH_WATER_MARK])

    async def _write_piece(self, piece: bytes) -> None:
        try:
            with anyio.move_on_after(self._send_timeout):
                await self._stream.send(piece)
                return
        except anyio.EndOfStream:
            raise
        except _STREAM_ERRORS as error:
            if self._over.is_set():
                await self._raise_that_it_is_over()
            # What has come may still be read: it is the reader that finds the end.
            raise _broken(error) from error
        except BaseException:
            await self._end(ConnectionError("sending was cancelled within a packet"))
            raise
        late = ConnectionError(
            f"the peer did not read {len(piece):,} bytes within {self._send_timeout:g} seconds"
            " (send_timeout)"
        )
        await self._end(late)
        try:
            raise late
        finally:
            del late  # else its traceback and this frame would keep each other alive

    async def _end(self, failure: ConnectionError | None) -> None:
        """Nothing can follow: whoever waits hears of it, and the stream is closed at once."""
        if not self._over.is_set():
            self._say_it_is_over(failure)
            try:
                await anyio.aclose_forcefully(self._stream)
            finally:
                self._reported.set()

    async def _raise_that_it_is_over(self) -> NoReturn:
        # The reader reports the end, and why, before the writer stumbles over it.
        await self._reported.wait()
        cause = self._failure
        raise ConnectionError("the stream has ended") from cause and type(cause)(*cause.args)

    def _say_it_is_over(self, failure: ConnectionError | None) -> None:
        if failure is not None:
            # A copy: with its traceback it would keep the transport, and all that uses it, alive.
            self._failure = type(failure)(*failure.args)
        self._over.set()
        self._greeted.set()


def _checked(
    identity: str,
    client_protocol: int = OUR_CLIENT_PROTOCOL,
    capabilities: Collection[int] = OUR_CAPABILITIES,
    max_frame_bytes: int = MAX_FRAME_BYTES,
    hello_timeout: float = HELLO_TIMEOUT,
    send_timeout: float = SEND_TIMEOUT,
) -> Hello:
    """Our hello; raises LocalProtocolError for any of it that is invalid."""
    if type(max_frame_bytes) is not int or max_frame_bytes <= 0:
        raise LocalProtocolError("max_frame_bytes must be an int above 0")
    require_timeout(hello_timeout, "hello_timeout")
    require_timeout(send_timeout, "send_timeout")
    return Hello(identity, client_protocol, tuple(capabilities))


def _broken(error: BaseException) -> ConnectionError:
    reason = error.__cause__ or error
    return ConnectionError(f"the stream failed: {str(reason) or type(reason).__name__}")


def _watch_over(stream: ByteStream) -> None:
    """Have a TCP connection that is silent asked now and then whether it is still there."""
    tcp = stream.extra(SocketAttribute.raw_socket, None)
    if tcp is None or tcp.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with suppress(OSError):  # it may be gone already: the first to use it will hear
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEP_ALIVE:
            if hasattr(socket, name):
                tcp.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


# --- connecting and serving


async def connect_tcp(
    host: str, port: int, identity: str, **options: Unpack[StreamOptions]
) -> StreamTransport:
    """Connect to a listener at `host` and `port`. Both sides have exchanged hellos when this
    returns.

    Raises:
        OSError: No connection can be made. It has the class and errno of the system's error, such
            as ConnectionRefusedError, and its text names the address.
        ConnectionError: The peer violates the framing, or the stream fails (see
            `StreamTransport.greet`).
        LocalProtocolError: An argument is invalid.
    """
    _checked(identity, **options)
    require_port(port)
    with explained("connect to", tcp_url(host, port)):
        return await _greeted(await anyio.connect_tcp(host, port), identity, options)


async def connect_unix(
    path: str | os.PathLike[str], identity: str, **options: Unpack[StreamOptions]
) -> StreamTransport:
    """Connect to a listener on the Unix socket at `path`. See `connect_tcp`."""
    _checked(identity, **options)
    with explained("connect to", unix_url(path)):
        return await _greeted(await anyio.connect_unix(path), identity, options)


async def _greeted(stream: ByteStream, identity: str, options: StreamOptions) -> StreamTransport:
    transport = StreamTransport(stream, identity, **options)
    try:
        await transport.greet()
    except BaseException:
        await anyio.aclose_forcefully(transport)
        raise
    return transport


@asynccontextmanager
async def listen_tcp(host: str | None, port: int) -> AsyncIterator[Listener[SocketStream]]:
    """Listen on a host name or an address, or on all addresses (None). Port 0 chooses a free port.

    `listener.extra(anyio.abc.SocketAttribute.local_port)` is the port.

    Raises:
        OSError: The address can't be used.
        LocalProtocolError: An argument is invalid.
    """
    require_port(port)
    with explained("listen on", tcp_url(host, port)):
        listener = await anyio.create_tcp_listener(local_host=host, local_port=port)
    async with listener:
        yield listener


@asynccontextmanager
async def listen_unix(
    path: str | os.PathLike[str], mode: int | None = None
) -> AsyncIterator[Listener[SocketStream]]:
    """Listen on a Unix socket with the permissions `mode`. The socket file is removed at the end.

    A socket file on which no process listens is replaced.

    Raises:
        OSError: A process listens on the socket, or `path` is something else.
    """
    with explained("listen on", unix_url(path)):
        await _require_nobody_listens(path)
        listener = await anyio.create_unix_listener(path, mode=mode)
    async with listener:
        ours = os.lstat(path)
        try:
            yield listener
        finally:
            with suppress(FileNotFoundError):
                if os.path.samestat(ours, os.lstat(path)):
                    Path(path).unlink()


async def _require_nobody_listens(path: str | os.PathLike[str]) -> None:
    try:
        stream = await anyio.connect_unix(path)
    except (ConnectionRefusedError, FileNotFoundError):
        return
    await stream.aclose()
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


async def serve(
    listener: Listener[ByteStream],
    identity: str,
    handle: Callable[[StreamTransport], Awaitable[None]],
    *,
    max_connections: int = MAX_CONNECTIONS,
    **options: Unpack[StreamOptions],
) -> None:
    """Accept connections as the participant `identity`. Each one is a room of two participants.

    `handle` is called in a task of its own with each connection, after both sides have exchanged
    hellos. When it returns, the connection is closed. A connection beyond `max_connections` is
    closed at once. Connections that wait for a hello count too. Refused peers are logged, at most
    one a minute. If `handle` raises, the exception is logged. Other connections are not affected.

    Runs until it is cancelled. If the listener is closed, it returns when all connections end.

    Raises:
        LocalProtocolError: An argument is invalid.
        OSError: The listener failed.
    """
    _checked(identity, **options)  # now, and not when somebody connects
    if type(max_connections) is not int or max_connections <= 0:
        raise LocalProtocolError("max_connections must be an int above 0")
    refused = SeldomLogged()
    open_connections = 0

    async def welcome(stream: ByteStream) -> None:
        nonlocal open_connections
        address = stream.extra(SocketAttribute.remote_address, None) or "a local peer"
        if open_connections >= max_connections:
            reason = f"{open_connections} connections are open (max_connections)"
            refused.warning("%s: refused %s: %s", identity, address, reason)
            await anyio.aclose_forcefully(stream)
            return
        open_connections += 1
        try:
            async with StreamTransport(stream, identity, **options) as transport:
                try:
                    await transport.greet()
                except ConnectionError as error:
                    refused.warning("%s: refused %s: %s", identity, address, error)
                    return
                try:
                    await handle(transport)
                except Exception:
                    logger.exception("%s: serving %s failed", identity, address)
        finally:
            open_connections -= 1

    async with anyio.create_task_group() as connections:
        while True:
            try:
                await listener.serve(welcome, connections)
            except Exception as error:
                reasons = _leaves(error)
                if all(isinstance(reason, anyio.ClosedResourceError) for reason in reasons):
                    return
                if not all(map(_is_for_want_of_room, reasons)):
                    raise
                logger.warning("%s: cannot accept connections", identity, exc_info=True)
                await anyio.sleep(_NO_ROOM_WAIT)


def _leaves(error: BaseException) -> list[BaseException]:
    """What several listeners, or one, have raised."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in _leaves(part)]
    return [error]


def _is_for_want_of_room(error: BaseException) -> bool:
    reason = error.__cause__ or error
    return isinstance(reason, OSError) and reason.errno in _NO_ROOM
