"""nats-py's client, changed where a stranger's messages could do harm.

nats-py puts the messages of each subscription into a queue, for a task of the subscription. Here a
message goes to one function as soon as it is read. So order is kept between subscriptions, and one
turn of the event loop reads a bounded number of messages.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from ssl import SSLContext
from typing import Final, TypeAlias
from urllib.parse import ParseResult

from nats.aio.client import Client
from nats.aio.transport import TcpTransport
from nats.errors import Error as NatsError
from nats.protocol.parser import AWAITING_MSG_PAYLOAD, Parser

from rpcproto.core.config import RpcConfig
from rpcproto.logs import SeldomLogged
from rpcproto.transports import BATCH_BYTES, HIGH_WATER_MARK

MAX_MESSAGE_BYTES: Final = RpcConfig().max_packet_bytes
"""Larger messages are dropped while they are read. It is what an engine reads of one packet,
unless configured otherwise (R28)."""
MESSAGES_PER_TURN: Final = 128
"""After so many messages, or BATCH_BYTES, other tasks get their turn."""
MESSAGE_OVERHEAD: Final = BATCH_BYTES // MESSAGES_PER_TURN

_NO_SUBSCRIPTION: Final = 0

OnMessage: TypeAlias = Callable[[bytes, bytes], Awaitable[None]]
"""Takes the subject and the data of a message; does not raise."""


class TlsRequiredError(NatsError):
    """A server that must offer TLS does not."""

    def __str__(self) -> str:
        return "the server does not offer TLS, and nothing was sent to it in the clear"


class RoomClient(Client):
    """nats-py's client for one connection to a server, which hands every message to `on_message`.

    With `requires_tls`, nothing is sent to a server that does not offer TLS.
    """

    def __init__(self, on_message: OnMessage, *, requires_tls: bool) -> None:
        super().__init__()
        self.socket: Final = _Socket(requires_tls=requires_tls)
        self._transport = self.socket
        self._ps = _Parser(self)
        self._on_message = on_message
        self._turn = 0
        """How much was read since others had their turn, in bytes; each message counts at least
        MESSAGE_OVERHEAD."""

    @property
    def unsent_bytes(self) -> int:
        """Bytes that wait in the client and in the buffer of its socket."""
        return self.pending_data_size + self.socket.waiting_bytes

    async def flushed(self) -> None:
        """Wait until most of what waits has gone to the operating system; without an end if the
        connection breaks."""
        flushed = asyncio.get_running_loop().create_future()
        assert self._flush_queue is not None
        await self._flush_queue.put(flushed)
        await flushed

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        # Headers, which we have no use for, make nats-py raise where they are malformed.
        if sid in self._subs:
            await self._on_message(subject, data)
        self._turn += max(len(data), MESSAGE_OVERHEAD)
        if self._turn >= BATCH_BYTES:
            self._turn = 0
            await asyncio.sleep(0)


class _Parser(Parser):
    """nats-py's parser, except that it keeps nothing of a message that is too large."""

    def __init__(self, client: RoomClient) -> None:
        super().__init__(client)
        self._too_large = SeldomLogged()

    async def parse(self, data: bytes = b"") -> None:
        await super().parse(data)
        # nats-py reads 32 KiB at a time, so such a message never comes as a whole.
        if self.state != AWAITING_MSG_PAYLOAD or self.needed <= MAX_MESSAGE_BYTES:
            return
        if self.msg_arg["sid"] != _NO_SUBSCRIPTION:
            self._too_large.warning("dropped a message of %d bytes from NATS", self.needed)
            self.msg_arg["sid"] = _NO_SUBSCRIPTION
            self.header_needed = 0
        dropped = min(len(self.buf), self.needed)
        del self.buf[:dropped]
        self.needed -= dropped


class _Socket(TcpTransport):
    """The connection that nats-py writes to and reads from."""

    def __init__(self, *, requires_tls: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._requires_tls = requires_tls
        self._is_encrypted = False

    def __bool__(self) -> bool:
        return True  # else nats-py makes one of its own

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait for the operating system."""
        writer = self._io_writer
        return writer.transport.get_write_buffer_size() if writer is not None else 0

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        self._is_encrypted = False
        await super().connect(uri, buffer_size, connect_timeout)
        self._limit_buffer()

    async def connect_tls(
        self,
        uri: str | ParseResult,
        ssl_context: SSLContext,
        buffer_size: int,
        connect_timeout: int,
    ) -> None:
        try:
            await super().connect_tls(uri, ssl_context, buffer_size, connect_timeout)
        except BaseException:
            # asyncio never says that such a connection has closed, and nats-py would wait for it.
            self.abort()
            self._io_writer = None
            raise
        self._is_encrypted = True
        self._limit_buffer()

    def _limit_buffer(self) -> None:
        assert self._io_writer is not None
        self._io_writer.transport.set_write_buffer_limits(high=HIGH_WATER_MARK // 2)

    def write(self, payload: bytes) -> None:
        # The one place where bytes leave, the credentials among them.
        if self._requires_tls and not self._is_encrypted:
            raise TlsRequiredError
        if self._io_writer is not None:
            self._io_writer.write(payload)

    def writelines(self, payload: list[bytes]) -> None:
        # One write. And several versions of Python let the buffer grow without any backpressure
        # when lines are written.
        self.write(b"".join(payload))

    def abort(self) -> None:
        """Drop the connection, and what waits for it."""
        if self._io_writer is not None:
            with suppress(AttributeError):  # one that has closed by itself, in Python 3.11
                self._io_writer.transport.abort()
