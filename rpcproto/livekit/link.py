"""One connection to a room: WebSocket, signalling and data channel; done with when it breaks."""

import asyncio
import ipaddress
from collections.abc import Callable
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from rpcproto import OutgoingPacket, stamp
from rpcproto.livekit.dialing import dial
from rpcproto.livekit.errors import ConnectError, LeaveError, UnreachableError, departure
from rpcproto.livekit.http_requests import why
from rpcproto.livekit.negotiation import PeerConnections
from rpcproto.livekit.peer_connection import PeerConnection
from rpcproto.livekit.signalling import (
    PATH,
    AnswerReceived,
    CandidateReceived,
    Joined,
    LeaveAction,
    LeaveRequested,
    OfferReceived,
    Signalling,
    SignallingEvent,
    TimedOut,
    TokenRefreshed,
)
from rpcproto.logs import logger
from rpcproto.transports import (
    HIGH_WATER_MARK,
    Connected,
    PacketReceived,
    PacketsNotSent,
    ParticipantJoined,
    ParticipantLeft,
    TransportEvent,
)

CLOSING_TIME: Final = 0.5
"""How long a connection may take to close, in seconds; then it is cut."""
FLUSHING_TIME: Final = 0.25
"""How much of that what was sent before has to arrive."""
MAX_EARLY_PACKETS: Final = 500
"""Packets that wait until it is known that we can send, too; those beyond are dropped. The server
sends none of more than 64,000 bytes, so that is 32 MB."""
LEAVE_TIME: Final = 1.0
"""How long the signalling has to say why the data channel was closed, in seconds."""


class Link:
    """One connection. `tell` gets its events: who is here, then that it is connected, then packets.

    Nothing is told before it is connected, so that an attempt that fails leaves no trace.
    """

    joined: Joined
    """Once `open` has returned."""

    def __init__(
        self,
        url: str,
        token: str,
        path: str,
        stack: type[PeerConnection],
        tell: Callable[[TransportEvent], None],
    ) -> None:
        self.token: str = token
        """The last one that the server gave us, for the next time."""
        self.path: str = path
        """The way in that the server knows."""
        loop = asyncio.get_running_loop()
        self.broken: asyncio.Future[ConnectionError] = loop.create_future()
        """Why the connection is no more."""
        self.is_final: bool = False
        """Whether the server does not want us back."""
        self._url = url
        self._tell = tell
        self._now = loop.time
        self._signalling = Signalling()
        self._has_said = asyncio.Event()
        """Set when there may be messages to write."""
        self._connections = PeerConnections(
            stack,
            self._signalling,
            loopback=is_loopback(url),
            said=self._has_said.set,
            packet=self._receive,
            opened=self._channel_opened,
            lost=self._lose,
        )
        self._socket: ClientConnection | None = None
        self._reading: asyncio.Task[None] | None = None
        self._writing: asyncio.Task[None] | None = None
        self._is_in = False
        self._opened: asyncio.Future[ConnectionError | None] = loop.create_future()
        """None, or why nothing has come of it."""
        self._is_open = False
        self._early_packets: list[PacketReceived] = []
        self._presence: list[TransportEvent] = []
        self._losing: asyncio.TimerHandle | None = None
        """Set while it is lost, and it is not known yet why."""
        self._sequence = 0

    async def open(self) -> None:
        """Join the room, until packets can be sent. Raises ConnectError."""
        await self._connections.create_offer()
        offer = self._connections.offer
        self._socket, self.path = await dial(self._url, self.path, self.token, offer)
        self._reading = asyncio.create_task(self._read(self._socket))
        self._writing = asyncio.create_task(self._write(self._socket))
        error = await self._opened
        if error is not None:
            kind = ConnectError if isinstance(error, LeaveError) else UnreachableError
            raise kind(f"cannot join the room: {error}") from error

    @property
    def progress(self) -> str:
        """How far joining has come, for those who have no time for more."""
        if self._socket is None:
            return "no answer from the server"
        if not self._is_in:
            return "the server does not let us in"
        return "no packet gets through to the server (UDP blocked, and no TURN server)"

    async def send(self, take: Callable[[], OutgoingPacket | None]) -> None:
        """Send packets, each under the next number; wait while the channel is full.

        Raises PacketsNotSent for those that are larger than the server takes. On a connection that
        breaks they are lost, as they would be on their way; an event reports that it broke.
        """
        if self._losing is not None:
            await asyncio.wait([self.broken])
        failed: list[OutgoingPacket] = []
        size = 0
        while size < HIGH_WATER_MARK and (packet := take()) is not None:
            size += len(packet.data)
            if not self._send(packet.data):
                failed.append(packet)
        if not self.broken.done():
            await self._connections.sender.drain()
        if size >= HIGH_WATER_MARK:
            await asyncio.sleep(0)  # a long body gives others their turn
        if failed:
            raise PacketsNotSent(failed, "the server takes no packets of this size")

    def _send(self, data: bytes) -> bool:
        """False for a packet that is too large."""
        sender = self._connections.sender
        if self.broken.done() or not sender.is_open:
            return True
        numbered = stamp(data, sequence=self._sequence + 1)
        if len(numbered) > sender.max_message_bytes:
            return False
        self._sequence += 1
        sender.send(numbered)
        return True

    async def close(self) -> None:
        """Say goodbye, and let go of everything, in at most CLOSING_TIME."""
        is_lost = self.broken.done() or self._losing is not None
        self._break(ConnectionError("the connection is closed"))
        if self._losing is not None:
            self._losing.cancel()
        tasks = [asyncio.create_task(self._close(is_lost))]
        try:
            await asyncio.wait(tasks, timeout=CLOSING_TIME)
        finally:
            if self._socket is not None:
                self._socket.transport.abort()
            tasks += [task for task in (self._reading, self._writing) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _close(self, is_lost: bool) -> None:
        if self._reading is not None and self._writing is not None:
            self._reading.cancel()
            self._writing.cancel()
            await asyncio.wait([self._reading, self._writing])
        if not is_lost:
            # After the goodbye the server reads no more of us.
            with suppress(TimeoutError):
                async with asyncio.timeout(FLUSHING_TIME):
                    await self._connections.sender.flush()
        self._signalling.leave()
        closing = (self._say_goodbye(), self._connections.close())
        for outcome in await asyncio.gather(*closing, return_exceptions=True):
            if isinstance(outcome, Exception):
                logger.debug("closing a connection: %r", outcome)

    async def _say_goodbye(self) -> None:
        if self._socket is not None:
            await self._flush(self._socket)
            await self._socket.close()

    # the WebSocket

    async def _read(self, socket: ClientConnection) -> None:
        try:
            while not self.broken.done():
                try:
                    async with asyncio.timeout_at(self._signalling.next_deadline):
                        message = await socket.recv(decode=False)
                except TimeoutError:
                    self._signalling.handle_deadline(now=self._now())
                else:
                    self._signalling.receive(message, now=self._now())
                for event in self._signalling.take_events():
                    await self._handle(event)
                self._has_said.set()
        except (ConnectionClosed, OSError) as error:
            self._break(ConnectionError(f"the signalling connection is lost: {error}"))
        except Exception as error:  # whatever the stack makes of a description
            logger.warning("signalling failed", exc_info=True)
            self._break(ConnectionError(f"signalling failed: {why(error)}"))

    async def _write(self, socket: ClientConnection) -> None:
        with suppress(ConnectionClosed, OSError):  # the reading task hears of it, too
            while True:
                await self._has_said.wait()
                self._has_said.clear()
                await self._flush(socket)

    async def _flush(self, socket: ClientConnection) -> None:
        while (message := self._signalling.next_message()) is not None:
            await socket.send(message)

    # what comes of it

    async def _handle(self, event: SignallingEvent) -> None:
        match event:
            case Joined():
                await self._enter(event)
            case ParticipantJoined() | ParticipantLeft():
                self._tell_presence(event)
            case OfferReceived() | AnswerReceived() | CandidateReceived():
                await self._connections.handle(event)
            case TokenRefreshed():
                self.token = event.token
            case LeaveRequested():
                self.is_final = event.action is LeaveAction.DISCONNECT
                self._break(departure(event.reason))
            case TimedOut():
                seconds = event.seconds
                self._break(ConnectionError(f"the server was silent for {seconds:g} seconds"))

    async def _enter(self, joined: Joined) -> None:
        self.joined = joined
        self._is_in = True
        if not joined.may_send:
            logger.warning(
                "%s: the token does not allow sending data: no call will be heard", joined.identity
            )
        self._presence += joined.participants
        await self._connections.enter(joined, is_single=self.path == PATH)

    def _tell_presence(self, event: ParticipantJoined | ParticipantLeft) -> None:
        if self._is_open:
            self._tell(event)
        else:
            self._presence.append(event)

    def _receive(self, data: bytes) -> None:
        packet = PacketReceived(data)
        newcomer = self._signalling.participants.packet_received(data)
        if newcomer is not None:
            self._tell_presence(newcomer)
        if self._is_open:
            self._tell(packet)
        elif len(self._early_packets) < MAX_EARLY_PACKETS:
            self._early_packets.append(packet)

    def _channel_opened(self) -> None:
        """A channel is open; told from within its own event, in which its state is not set yet."""
        asyncio.get_running_loop().call_soon(self._look_whether_open)

    def _look_whether_open(self) -> None:
        if not self._is_open and not self.broken.done() and self._connections.is_open:
            self._is_open = True
            self._opened.set_result(None)
            self._sequence = 0
            connected = Connected(server_version=self.joined.server_version or None)
            for event in [*self._presence, connected, *self._early_packets]:
                self._tell(event)
            self._presence.clear()
            self._early_packets.clear()

    def _lose(self, reason: str) -> None:
        """A data channel is no more. The server closes it when it puts us out, and says so: to
        join again before hearing it would be to come back uninvited."""
        if self._losing is None and not self.broken.done():
            loop = asyncio.get_running_loop()
            self._losing = loop.call_later(LEAVE_TIME, self._break, ConnectionError(reason))

    def _break(self, reason: ConnectionError) -> None:
        if not self.broken.done():
            self.broken.set_result(reason)
        if not self._opened.done():
            self._opened.set_result(reason)


def is_loopback(url: str) -> bool:
    """Whether the server is on this machine: then it may be reachable by 127.0.0.1 alone."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
