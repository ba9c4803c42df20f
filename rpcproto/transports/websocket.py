"""A WebSocket as a byte stream for `StreamTransport`. For asyncio. Needs the extra `websockets`.

Frames are sent in binary messages, whose boundaries have no meaning.
"""

import asyncio
from contextlib import suppress
from typing import Final, final

from rpcproto.core.errors import LocalProtocolError
from rpcproto.extras import extra, require_asyncio

with extra("websockets", __name__):
    import anyio
    from anyio.abc import ByteStream
    from websockets.asyncio.client import ClientConnection
    from websockets.asyncio.connection import Connection
    from websockets.asyncio.server import ServerConnection
    from websockets.exceptions import ConnectionClosed, ConnectionClosedOK

__all__ = [
    "CLOSING_TIME",
    "MAX_UNREAD_PONGS",
    "READ_BYTES",
    "BoundedClientConnection",
    "BoundedServerConnection",
    "WebSocketStream",
]


READ_BYTES: Final = 2_048
"""The maximum number of bytes that are read and parsed at once. The library parses them without
yielding to other tasks, and they can be hundreds of messages."""
MAX_UNREAD_PONGS: Final = 262_144
"""The maximum size of the send buffer, in bytes. The library answers pings even if the peer does
not read the pongs. A peer beyond this limit is disconnected."""
CLOSING_TIME: Final = 0.4
"""How long the closing handshake may take, in seconds: less than a participant has for leaving."""


class _Bounded(Connection):
    """A connection whose peer can neither occupy the event loop nor fill memory."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        _bound(self)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        super().data_received(data)
        if self.transport.get_write_buffer_size() > MAX_UNREAD_PONGS:
            self.transport.abort()


@final
class BoundedServerConnection(_Bounded, ServerConnection):
    """A connection for `websockets.asyncio.server.serve(...,
    create_connection=BoundedServerConnection)`.

    It reads at most 2 KiB at a time from the handshake on, except with TLS or on uvloop. It
    disconnects a peer that sends pings and does not read the pongs.
    """


@final
class BoundedClientConnection(_Bounded, ClientConnection):
    """Like `BoundedServerConnection`, for `websockets.asyncio.client.connect(...,
    create_connection=BoundedClientConnection)`."""


def _bound(connection: Connection) -> None:
    transport = connection.transport
    with suppress(AttributeError):  # the transports of other event loops have their own ways
        transport.max_size = READ_BYTES  # type: ignore[attr-defined]
    # What waits to be sent waits in the engine, where small packets can overtake it.
    transport.set_write_buffer_limits(0)


@final
class WebSocketStream(ByteStream):
    """A connection of `websockets.asyncio` as a byte stream of anyio.

    The library handles TLS, headers, pings and the size of messages. The connection should be a
    `BoundedServerConnection` or `BoundedClientConnection`.
    """

    def __init__(self, connection: Connection) -> None:
        """Take a connection, which belongs to the stream from then on.

        Raises:
            LocalProtocolError: No asyncio loop is running, or the connection is of another
                kind.
        """
        require_asyncio(__name__)
        if not isinstance(connection, Connection):
            raise LocalProtocolError("a WebSocketStream takes a connection of websockets.asyncio")
        self._connection = connection
        self._rest = memoryview(b"")
        self._reading = asyncio.Lock()
        _bound(connection)

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        """Return at least one byte. Errors are those of anyio's `ByteReceiveStream.receive`."""
        await asyncio.sleep(0)  # neither a rest nor a message that is there already makes one wait
        while not self._rest:
            self._rest = memoryview(await self._next_message())
        data, self._rest = self._rest[:max_bytes], self._rest[max_bytes:]
        return bytes(data)

    async def _next_message(self) -> bytes:
        try:
            async with self._reading:
                await asyncio.sleep(0)
                return await self._connection.recv(decode=False)
        except ConnectionClosedOK:
            raise anyio.EndOfStream from None
        except ConnectionClosed as error:
            raise anyio.BrokenResourceError from error

    async def send(self, item: bytes) -> None:
        """Send all of `item` in one message.

        Raises:
            EndOfStream: The peer has closed the connection.
            BrokenResourceError: The connection is lost.
        """
        try:
            await self._connection.send(item)
        except ConnectionClosedOK:
            raise anyio.EndOfStream from None
        except ConnectionClosed as error:
            raise anyio.BrokenResourceError from error

    async def send_eof(self) -> None:
        """Raise NotImplementedError: a WebSocket can't be half-closed.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError

    async def aclose(self) -> None:
        """Close the connection with a closing handshake, within CLOSING_TIME, and drop data that
        still arrives."""
        dropping = asyncio.create_task(self._drop_what_comes())
        try:
            async with asyncio.timeout(CLOSING_TIME):
                await self._connection.close()
        except TimeoutError:
            pass
        finally:
            self._connection.transport.abort()
            dropping.cancel()

    async def _drop_what_comes(self) -> None:
        """Read, since the library finds the peer's answer behind all that came before it."""
        self._rest = memoryview(b"")
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            while True:
                await self._next_message()
