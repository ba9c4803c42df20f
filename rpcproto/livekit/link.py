"""One session in a room: signalling and data channel.

When the signalling is lost, the session is resumed. When that fails, or when the data channel is
lost, the link is broken, and it takes another one to join again.
"""

import asyncio
import ipaddress
from collections.abc import Callable
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from google.protobuf.message import DecodeError
from livekit.protocol.models import DataPacket

from rpcproto import OutgoingPacket, stamp
from rpcproto.livekit.delivery import Delivery
from rpcproto.livekit.errors import (
    ConnectError,
    LeaveError,
    NotDeliveredError,
    RefusedError,
    UnreachableError,
)
from rpcproto.livekit.http_requests import why
from rpcproto.livekit.negotiation import PeerConnections
from rpcproto.livekit.participants import AttributesChanged, Participants, PermissionChanged
from rpcproto.livekit.peer_connection import PeerConnection
from rpcproto.livekit.signal_socket import SignalSocket
from rpcproto.livekit.signalling import (
    PATH,
    AnswerReceived,
    CandidateReceived,
    Joined,
    OfferReceived,
    Resumed,
    SignallingEvent,
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
from rpcproto.transports.reliable import ReliableReceiver, ReliableSender

CLOSING_TIME: Final = 0.5
"""How long a connection may take to close, in seconds; then it is cut."""
FLUSHING_TIME: Final = 0.25
"""How much of that what was sent before has to arrive."""
MAX_EARLY_PACKETS: Final = 500
"""Packets that wait until it is known that we can send, too; those beyond are dropped. The server
sends none of more than 64,000 bytes, so that is 32 MB."""
FLUSH_INTERVAL: Final = 0.005
"""How often it is looked whether something waits in the data channel, in seconds."""
LEAVE_TIME: Final = 1.0
"""How long the signalling has to say why the data channel was closed, in seconds."""
BELIEF_TIME: Final = 3.0
"""How long after resuming, in seconds, the connection for packets must be there until the session
counts as resumed: it notices late that its network is gone."""
ICE_TIME: Final = 15.0
"""How long after resuming it may take until packets get through, in seconds."""


class Link:
    """One session. `tell` gets its events: who is here, then that it is connected, then packets.

    Nothing is told before it is connected, so that an attempt that fails leaves no trace. While the
    session is resumed, packets go on over the data channel.
    """

    joined: Joined
    """Once `open` has returned."""

    def __init__(
        self,
        url: str,
        token: str,
        path: str,
        stack: type[PeerConnection],
        tell: Callable[[TransportEvent | AttributesChanged], None],
    ) -> None:
        self.on_resuming: Callable[[ConnectionError], None] = lambda _: None
        """Called when the session is to be resumed, with the reason."""
        self.on_resumed: Callable[[], None] = lambda: None
        """Called when it is."""
        loop = asyncio.get_running_loop()
        self.broken: asyncio.Future[ConnectionError] = loop.create_future()
        """Why the connection is no more."""
        self._url = url
        self._tell = tell
        self._now = loop.time
        self._socket = SignalSocket(url, token, path, self._handle, self._begin_to_resume)
        self._signalling = self._socket.signalling
        self._connections = PeerConnections(
            stack,
            self._signalling,
            loopback=is_loopback(url),
            said=self._socket.flush_soon,
            packet=self._receive,
            opened=self._channel_opened,
            lost=self._lose,
        )
        self._taking_part: asyncio.Task[None] | None = None
        self._confirming: asyncio.Task[None] | None = None
        self._is_in = False
        self._opened: asyncio.Future[ConnectionError | None] = loop.create_future()
        """None, or why nothing has come of it."""
        self._is_open = False
        self._early_packets: list[PacketReceived] = []
        self._losing: asyncio.TimerHandle | None = None
        """Set while it is lost, and it is not known yet why."""
        self._has_failed = False
        """Whether no packet gets through until ICE is restarted."""
        self._sent = ReliableSender()
        self._received = ReliableReceiver()
        self._delivery = Delivery(self._signalling.participants, loop.time)

    async def open(self) -> None:
        """Join the room, until packets can be sent. Raises ConnectError."""
        await self._connections.create_offer()
        await self._socket.open(self._connections.offer)
        self._taking_part = asyncio.create_task(self._take_part())
        error = await self._opened
        if error is not None:
            kind = ConnectError if isinstance(error, LeaveError) else UnreachableError
            raise kind(f"cannot join the room: {error}") from error

    @property
    def token(self) -> str:
        """The last token that the server gave us, for the next time."""
        return self._socket.token

    @property
    def path(self) -> str:
        """The way in that the server knows."""
        return self._socket.path

    @property
    def is_final(self) -> bool:
        """Whether the server does not want us back."""
        return self._socket.is_final

    @property
    def refusal(self) -> RefusedError | None:
        """That the server does not let us in, before it has said why."""
        return self._socket.refusal

    @property
    def progress(self) -> str:
        """How far joining has come, for those who have no time for more."""
        if not self._socket.is_open:
            return "no answer from the server"
        if not self._is_in:
            return "the server does not let us in"
        return self._connections.progress

    @property
    def participants(self) -> Participants:
        """The others, as the server has reported them."""
        return self._signalling.participants

    def explain(self, identity: str, since: float) -> NotDeliveredError | None:
        """Why nobody has acknowledged a call to `identity` that was made at `since`, if known."""
        sender = self._connections.sender
        is_open = sender.is_open and self._losing is None and not self.broken.done()
        return self._delivery.explain(identity, since, sender.buffered_bytes if is_open else None)

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
        numbered = self._sent.number(
            lambda sequence: stamp(data, sequence=sequence), sender.max_message_bytes
        )
        if numbered is None:
            return False
        self._delivery.sent(len(numbered))
        sender.send(numbered)
        return True

    async def flush(self) -> None:
        """Wait until nothing waits in the data channel."""
        while not self.broken.done() and self._connections.sender.buffered_bytes:
            await asyncio.sleep(FLUSH_INTERVAL)

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
            self._socket.abort()
            tasks += self._tasks
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _close(self, is_lost: bool) -> None:
        if self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
        if not is_lost:
            # After the goodbye the server reads no more of us.
            with suppress(TimeoutError):
                async with asyncio.timeout(FLUSHING_TIME):
                    await self._connections.sender.flush()
        closing = (self._socket.say_goodbye(), self._connections.close())
        for outcome in await asyncio.gather(*closing, return_exceptions=True):
            if isinstance(outcome, Exception):
                logger.debug("closing a connection: %r", outcome)

    @property
    def _tasks(self) -> list[asyncio.Task[None]]:
        return [task for task in (self._taking_part, self._confirming) if task is not None]

    # the signalling

    async def _take_part(self) -> None:
        try:
            reason = await self._socket.run()
        except Exception as error:  # whatever the stack makes of a description
            logger.warning("signalling failed", exc_info=True)
            reason = ConnectionError(f"signalling failed: {why(error)}")
        self._break(reason)

    def _begin_to_resume(self, reason: ConnectionError) -> None:
        logger.info("%s: %s: resuming the session", self.joined.identity, reason)
        if self._confirming is not None:
            self._confirming.cancel()
        self.on_resuming(reason)

    def _resume(self, resumed: Resumed) -> None:
        """The server has taken the session up again: each side says what it has, and sends again
        what the other has not."""
        self._signalling.sync(self._received.last_sequences())
        sender = self._connections.sender
        if resumed.last_sequence and sender.is_open:
            if self._sent.has_forgotten(resumed.last_sequence):
                logger.warning("%s: some packets may be lost", self.joined.identity)
            for packet in self._sent.seen(resumed.last_sequence):
                sender.send(packet)
        if self._connections.can_restart_ice and resumed.ice_servers:
            self._connections.configure(resumed.ice_servers)
        self._confirming = asyncio.create_task(self._confirm())

    async def _confirm(self) -> None:
        """Restart ICE if need be, and see whether the session is really resumed."""
        connections = self._connections
        give_up_at = self._now() + ICE_TIME
        may_restart = connections.can_restart_ice
        while True:
            if may_restart and (self._has_failed or not connections.is_connected):
                may_restart = self._has_failed = False
                await self._restart_ice()
            await asyncio.sleep(BELIEF_TIME)
            if connections.is_connected:
                break
            if self._now() >= give_up_at:
                self._break(ConnectionError("no packet gets through to the server any more"))
                return
        logger.info("%s: the session is resumed", self.joined.identity)
        self.on_resumed()

    async def _restart_ice(self) -> None:
        try:
            await self._connections.restart()
        except Exception as error:  # whatever the stack makes of it
            logger.warning("%s: cannot restart ICE", self.joined.identity, exc_info=True)
            self._break(ConnectionError(f"cannot restart ICE: {why(error)}"))

    # what comes of it

    async def _handle(self, event: SignallingEvent) -> None:
        match event:
            case Joined():
                await self._enter(event)
            case ParticipantJoined() | ParticipantLeft() | AttributesChanged():
                self._tell_presence(event)
            case PermissionChanged():
                self._delivery.permission_changed(self.joined.identity, event.may_send)
            case OfferReceived() | AnswerReceived() | CandidateReceived():
                await self._connections.handle(event)
            case Resumed():
                self._resume(event)

    async def _enter(self, joined: Joined) -> None:
        self.joined = joined
        self._is_in = True
        if not joined.may_send:
            logger.warning(
                "%s: the token does not allow sending data: the server will drop all calls",
                joined.identity,
            )
        await self._connections.enter(joined, is_single=self.path == PATH)

    def _tell_presence(
        self, event: ParticipantJoined | ParticipantLeft | AttributesChanged
    ) -> None:
        if self._is_open:  # before, whoever is here then is told of
            self._tell(event)

    def _receive(self, data: bytes) -> None:
        if not self._is_new(data):
            return
        packet = PacketReceived(data)
        newcomer = self._signalling.participants.packet_received(data)
        if newcomer is not None:
            self._tell_presence(newcomer)
        if self._is_open:
            self._tell(packet)
        elif len(self._early_packets) < MAX_EARLY_PACKETS:
            self._early_packets.append(packet)

    def _is_new(self, data: bytes) -> bool:
        """Whether a packet has not arrived before. One that cannot be read is for the engine."""
        try:
            packet = DataPacket.FromString(data)
        except (DecodeError, ValueError, RecursionError):
            return True
        return self._received.is_new(packet.participant_sid, packet.sequence)

    def _channel_opened(self) -> None:
        """A channel is open; told from within its own event, in which its state is not set yet."""
        asyncio.get_running_loop().call_soon(self._look_whether_open)

    def _look_whether_open(self) -> None:
        if not self._is_open and not self.broken.done() and self._connections.is_open:
            self._is_open = True
            self._socket.has_session = True
            self._socket.can_restart_ice = self._connections.can_restart_ice
            self._opened.set_result(None)
            connected = Connected(server_version=self.joined.server_version or None)
            for newcomer in self.participants.here():
                self._tell(newcomer)
            self._tell(connected)
            for packet in self._early_packets:
                self._tell(packet)
            self._early_packets.clear()

    def _lose(self, reason: str) -> None:
        """A connection, or a channel, is no more. The server closes a channel when it puts us out,
        and says so: to join again before hearing it would be to come back uninvited."""
        if self._is_open and self._connections.can_restart_ice and self._connections.is_open:
            self._has_failed = True
            self._socket.drop(ConnectionError(reason))
        elif self._losing is None and not self.broken.done():
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
