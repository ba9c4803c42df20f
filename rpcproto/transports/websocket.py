"""A WebSocket as a byte stream, for `StreamTransport`. On asyncio; needs the extra `websockets`.

Frames go into binary messages as they go onto any stream; where a message ends means nothing.
"""

import anyio
from anyio.abc import ByteStream
from websockets.asyncio.connection import Connection
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK


class WebSocketStream(ByteStream):
    """What `websockets.asyncio` connects or serves, as anyio has byte streams.

    The library sees to what is its own: TLS, headers, pings, the size of a message.
    """

    def __init__(self, connection: Connection) -> None:
        """The connection is the stream's from then on."""
        self._connection = connection
        self._rest = b""

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        """At least one byte; see anyio's `ByteReceiveStream.receive`."""
        while not self._rest:
            try:
                self._rest = await self._connection.recv(decode=False)
            except ConnectionClosedOK:
                raise anyio.EndOfStream from None
            except ConnectionClosed as error:
                raise anyio.BrokenResourceError from error
        data, self._rest = self._rest[:max_bytes], self._rest[max_bytes:]
        return data

    async def send(self, item: bytes) -> None:
        """All of `item`, in a message."""
        try:
            await self._connection.send(item)
        except ConnectionClosed as error:
            raise anyio.BrokenResourceError from error

    async def send_eof(self) -> None:
        """A WebSocket closes as a whole: raises NotImplementedError."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Close the connection, and wait for the peer to do so too unless that is cancelled."""
        try:
            await self._connection.close()
        except BaseException:
            self._connection.transport.abort()
            raise
