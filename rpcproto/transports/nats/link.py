"""One connection to a NATS server."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from nats.errors import Error as NatsError

from rpcproto.logs import SeldomLogged, logger
from rpcproto.transports import HIGH_WATER_MARK
from rpcproto.transports.connecting import reason_of
from rpcproto.transports.nats.client import OnMessage, RoomClient

CLOSING_TIME: Final = 0.5
"""How long a connection may take to close, in seconds; then it is cut."""

_A_DAY: Final = 86_400


class Link:
    """One connection to a server. It is not used again after it broke.

    nats-py could reconnect the same client, but would then send what was waiting when the
    connection broke, and all that has been given up by then (R41).
    """

    def __init__(
        self,
        identity: str,
        prefix: str,
        *,
        requires_tls: bool,
        on_message: Callable[["Link"], OnMessage],
    ) -> None:
        self.client: RoomClient = RoomClient(on_message(self), requires_tls=requires_tls)
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.last_error: Exception | None = None
        self.refusal: Exception | None = None
        """The server's error if it does not allow us to subscribe or to announce ourselves."""
        self._identity = identity
        # nats-py passes on the server's words in lower case.
        self._vital = ("violation for subscription", f"{prefix}.here.".lower())
        self._refusals = SeldomLogged()
        self._flushing: asyncio.Task[None] | None = None
        self._is_closed = asyncio.Event()

    async def connect(self, settings: Mapping[str, Any]) -> None:
        """Raises what nats-py raises."""
        await self.client.connect(
            error_cb=self._on_error, disconnected_cb=self._on_disconnected, **settings
        )
        self.last_error = None

    @property
    def is_usable(self) -> bool:
        """Whether something can be sent."""
        return not self.broken.done() and self.client.is_connected

    @property
    def has_room(self) -> bool:
        """Whether less than HIGH_WATER_MARK bytes wait in the client and in its socket."""
        return self.client.unsent_bytes < HIGH_WATER_MARK

    async def make_room(self) -> None:
        """Wait until there is room, or until the connection breaks."""
        while not self.has_room and self.is_usable:
            flushed = asyncio.ensure_future(self.client.flushed())
            try:
                await asyncio.wait([flushed, self.broken], return_when=asyncio.FIRST_COMPLETED)
            finally:
                flushed.cancel()

    async def round_trip(self) -> None:
        """Wait until the server answers a ping; raises ConnectionError if the connection breaks."""
        # In a task of its own: after a ping that was cancelled, nats-py stumbles over the answer.
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self.client.flush(_A_DAY))
        flushing = self._flushing
        await asyncio.wait([flushing, self.broken], return_when=asyncio.FIRST_COMPLETED)
        if self.broken.done() or flushing.exception() is not None:
            raise self.loss()

    def break_off(self) -> None:
        """Count the connection as broken."""
        if not self.broken.done():
            self.broken.set_result(None)

    def loss(self) -> ConnectionError:
        """Return an error that says why the connection is lost, as far as nats-py reports it."""
        reason = f": {text_of(self.last_error)}" if self.last_error is not None else ""
        error = ConnectionError(f"the connection to the NATS server is lost{reason}")
        error.__cause__ = self.last_error
        return error

    async def close(self) -> None:
        """Send what is waiting, in at most CLOSING_TIME, and release everything."""
        self.break_off()
        self._is_closed.set()
        # In a task of its own: nats-py may cancel what it waits for itself.
        tasks = [asyncio.create_task(self._close_client())]
        try:
            await asyncio.wait(tasks, timeout=CLOSING_TIME)
        finally:
            # nats-py has no way to drop a connection that does not take what is waiting.
            self.client.socket.abort()
            if self._flushing is not None:
                tasks.append(self._flushing)
            for task in tasks:
                task.cancel()
            # A turn more is for those tasks that nats-py has cancelled.
            await asyncio.gather(*tasks, asyncio.sleep(0), return_exceptions=True)

    async def _close_client(self) -> None:
        try:
            await self.client.close()
        except Exception as error:
            logger.debug("%s: closing the connection: %s", self._identity, text_of(error))

    async def _on_error(self, error: Exception) -> None:
        # What the server has said tells more than that it has hung up.
        if isinstance(error, NatsError) or not isinstance(self.last_error, NatsError):
            self.last_error = error
        text = text_of(error)
        if "permissions violation" not in text:
            logger.log(logging.INFO, "%s: %s", self._identity, text)
            return
        if any(words in text for words in self._vital):
            self.refusal = error
        # Whoever asks for an answer that we are not allowed to give causes one.
        self._refusals.warning("%s: %s", self._identity, text)

    async def _on_disconnected(self) -> None:
        self.break_off()
        # Returning is what lets nats-py reconnect.
        await self._is_closed.wait()


def text_of(error: BaseException) -> str:
    """An error in a line."""
    if isinstance(error, TimeoutError) and not str(error):
        return "no NATS server answered in time"
    return reason_of(error)
