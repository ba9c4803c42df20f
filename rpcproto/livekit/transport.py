"""A LiveKit room as a participant's transport, for asyncio."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from copy import copy
from enum import Enum
from functools import partial
from inspect import isawaitable
from typing import Final, TypeAlias, final
from urllib.parse import urlsplit

from rpcproto.core.errors import LocalProtocolError, require_text, require_timeout
from rpcproto.core.messages import OutgoingPacket
from rpcproto.livekit.backoff import waits
from rpcproto.livekit.errors import (
    ConnectError,
    NotDeliveredError,
    TokenError,
    UnreachableError,
    is_final,
)
from rpcproto.livekit.link import Link
from rpcproto.livekit.participants import AttributesChanged, RemoteParticipant
from rpcproto.livekit.peer_connection import PeerConnection
from rpcproto.livekit.signalling import PATH
from rpcproto.livekit.stacks import Stack, peer_connection
from rpcproto.livekit.tokens import TokenSource
from rpcproto.logs import logger
from rpcproto.transports import (
    Connected,
    Disconnected,
    PacketReceived,
    ParticipantJoined,
    ParticipantLeft,
    TransportEvent,
)
from rpcproto.transports.inbox import Inbox

CONNECT_TIMEOUT: Final = 15.0
"""How long joining may take, in seconds."""
DEPARTURE_GRACE: Final = 2.0
"""See `LiveKitTransport.departure_grace`; LiveKit's own clients wait as long."""

News: TypeAlias = (
    RemoteParticipant
    | AttributesChanged
    | ParticipantJoined
    | ParticipantLeft
    | Connected
    | Disconnected
)
"""What the host has taken in, but for packets; a ParticipantJoined is of one who has left since."""
_SCHEMES: Final = ("ws", "wss", "http", "https")


async def join_room(
    url: str,
    token: TokenSource,
    *,
    connect_timeout: float = CONNECT_TIMEOUT,
    stack: Stack | None = None,
) -> "LiveKitTransport":
    """Join the room of `token`, and return the participant's transport.

    `url`, `token` and `stack` are those of `connect`. `connect_timeout` limits each attempt to
    join, in seconds (15 by default).

    Raises:
        ConnectError: The room can't be joined. `TokenError`, `RefusedError` and
            `UnreachableError` are more specific.
        LocalProtocolError: An argument is invalid.
        ModuleNotFoundError: The WebRTC stack is not installed.
        Exception: The function for the token raised it.
    """
    if not callable(token):
        token = checked_token(token)
    require_timeout(connect_timeout, "connect_timeout")
    connection = peer_connection(stack)
    transport = LiveKitTransport(checked_url(url), token, connect_timeout, connection)
    await transport._join()
    return transport


def checked_url(url: str) -> str:
    """The URL of a server, or LocalProtocolError."""
    require_text(url, "url")
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or parts.query or parts.fragment or "@" in parts.netloc:
        raise LocalProtocolError("the URL of a LiveKit server looks like wss://host")
    return url


def checked_token(token: str) -> str:
    """What can stand in a header, without the space around it; or LocalProtocolError."""
    require_text(token, "token")
    stripped = token.strip()
    if not stripped or not stripped.isascii() or not stripped.isprintable() or " " in stripped:
        raise LocalProtocolError("that is no access token")
    return stripped


async def ask_for_token(source: TokenSource) -> str:
    """The token itself, or the one that the function returns; or LocalProtocolError."""
    if isinstance(source, str):
        return checked_token(source)
    token = source()
    return checked_token(await token if isawaitable(token) else token)


class ConnectionState(Enum):
    """The state of a connection."""

    CONNECTED = "connected"
    RESUMING = "resuming"
    """The signalling connection is lost, and the transport resumes the session. Pending calls
    continue."""
    REJOINING = "rejoining"
    """The session is lost, and the transport joins again."""
    DISCONNECTED = "disconnected"
    """The participant has left, or the server has removed it or does not let it join again."""


@final
class LiveKitTransport:
    """The transport of a participant in a LiveKit room. See `Transport`. For asyncio.

    If the signalling connection is lost, the transport resumes the session. If that fails, or if
    the data channel is lost, it joins again under a new sid, without a limit of attempts. `receive`
    returns an empty sequence when the server removes the participant, or does not let it join
    again. The list of participants is never complete (R12), because some can be hidden. The server
    names the sender of each packet.
    """

    def __init__(
        self, url: str, token: TokenSource, connect_timeout: float, stack: type[PeerConnection]
    ) -> None:
        """Made by `join_room`."""
        self._url = url
        self._connect_timeout = connect_timeout
        self._stack = stack
        self.on_state: Callable[[ConnectionState, ConnectionError | None], None] = lambda *_: None
        """A function that takes each new state, with the error that caused it or None."""
        self.on_news: Callable[[News], None] = lambda _: None
        """A function that takes each event other than a packet, after the host has processed it."""
        self._state = ConnectionState.CONNECTED
        self._token = token
        self._inbox = Inbox()
        self._news: deque[News] = deque()
        """For each event that waits, but for packets."""
        self._end: ConnectionError | None = None
        """Why nothing comes any more."""
        self._is_closing = False
        self._over = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None

    @property
    def identity(self) -> str:
        """The identity in the room, as the server takes it from the token."""
        return self._joined.identity

    @property
    def sid(self) -> str:
        """The sid in the room. It changes when the session is lost."""
        return self._joined.sid

    @property
    def room(self) -> str:
        """The name of the room."""
        return self._joined.room

    @property
    def server_version(self) -> str:
        """The version that the server reports."""
        return self._joined.server_version

    @property
    def state(self) -> ConnectionState:
        """The state of the connection."""
        return self._state

    @property
    def departure_grace(self) -> float:
        """2 seconds: departures and packets use different channels, so the report of a departure
        can arrive this long before earlier packets."""
        return DEPARTURE_GRACE

    async def send(self, take: Callable[[], OutgoingPacket | None]) -> None:
        """See `Transport`.

        Raises:
            PacketsNotSent: Packets are larger than the server accepts.
            ConnectionError: The participant has left the room.
        """
        if self._end is not None:
            raise ConnectionError(str(self._end))
        await self._link.send(take)

    async def receive(self) -> Sequence[TransportEvent]:
        """See `Transport`."""
        events = await self._inbox.receive()
        loop = asyncio.get_running_loop()
        for event in events:
            if not isinstance(event, PacketReceived):
                loop.call_soon(self._tell_news, self._news.popleft())
        return events

    def take_welcome(self) -> Sequence[ParticipantJoined | ParticipantLeft]:
        """See `WelcomingTransport`."""
        welcome = self._inbox.take_welcome()
        for _ in welcome:
            self._tell_news(self._news.popleft())
        return welcome

    def participant(self, identity: str) -> RemoteParticipant | None:
        """Return the last report about a participant, or None if it cannot be called."""
        return self._link.participants.get(identity)

    def explain(self, identity: str, since: float) -> NotDeliveredError | None:
        """See `ExplainingTransport`; the clock is that of the event loop."""
        return self._link.explain(identity, since)

    async def flush(self) -> None:
        """Wait until the buffer of the data channel is empty, or the connection is lost."""
        await self._link.flush()

    async def wait_closed(self) -> None:
        """Wait until the participant has left the room.

        Raises:
            LeaveError: The server has removed the participant.
            ConnectError: The server does not let it join again.
        """
        await self._over.wait()
        if self._end is not None and not self._is_closing:
            raise copy(self._end)

    async def aclose(self) -> None:
        """Leave the room. Events that have arrived can still be received."""
        if self._is_closing:
            return
        self._is_closing = True
        if self._end is None:
            self._end = ConnectionError("the transport is closed")
            self._inbox.end()
            self._set_state(ConnectionState.DISCONNECTED)
        try:
            if self._runner is not None:
                self._runner.cancel()
                await asyncio.wait([self._runner])
        finally:
            try:
                await self._link.close()
            finally:
                self._over.set()
                self._inbox.wake()

    # coming, staying, going

    async def _join(self) -> None:
        """For `join_room`: the first connection, or its error."""
        await self._open(PATH, None)
        self._joined = self._link.joined
        self._inbox.owner = self.identity
        self._runner = asyncio.create_task(self._run())

    def _new_link(self, token: str, path: str) -> Link:
        link = Link(self._url, token, path, self._stack, self._tell)
        link.on_resuming = partial(self._set_state, ConnectionState.RESUMING)
        link.on_resumed = partial(self._set_state, ConnectionState.CONNECTED)
        return link

    def _set_state(self, state: ConnectionState, reason: ConnectionError | None = None) -> None:
        if self._state is not state and self._state is not ConnectionState.DISCONNECTED:
            self._state = state
            self.on_state(state, reason)

    async def _open(self, path: str, token: str | None) -> None:
        """Join by a new link; without a token, with the one that the program has."""
        missing = "no token from the function that was given for it"
        link = None
        try:
            async with asyncio.timeout(self._connect_timeout):
                token = token or await ask_for_token(self._token)
                link = self._link = self._new_link(token, path)
                await link.open()
        except BaseException as error:
            if link is not None:
                await link.close()
            if not isinstance(error, TimeoutError):
                raise
            if link is not None and link.refusal is not None:
                raise link.refusal from None
            what, seconds = link.progress if link else missing, self._connect_timeout
            raise UnreachableError(
                f"cannot join a room at {self._url}: {what} in {seconds:g} s"
            ) from None

    async def _run(self) -> None:
        """Keep a connection, until the server does not want us or `aclose` cancels this."""
        try:
            while True:
                reason = await asyncio.shield(self._link.broken)
                if self._link.is_final and not self._can_renew_token(reason):
                    self._end_with(reason)
                    return
                logger.warning("%s: %s", self.identity, reason)
                self._tell(Disconnected(reason))
                self._set_state(ConnectionState.REJOINING, reason)
                await self._link.close()
                await self._come_back()
                self._set_state(ConnectionState.CONNECTED)
        except ConnectError as error:
            self._end_with(error)
        except Exception as error:
            logger.exception("%s: the transport failed", self.identity)
            self._end_with(ConnectionError(f"the transport failed: {error}"))
        finally:
            await self._link.close()

    async def _come_back(self) -> None:
        """Join again, however long that takes. Raises ConnectError if there is no use in it."""
        path = self._link.path
        for wait in waits():
            await asyncio.sleep(wait)
            before = self._link
            try:
                await self._open(path, None if callable(self._token) else self._link.token)
            except ConnectError as error:
                if is_final(error) or (self._link is not before and self._link.is_final):
                    raise
                logger.info("%s: %s", self.identity, error)
            except Exception:
                if not callable(self._token):
                    raise
                logger.warning("%s: no new token", self.identity, exc_info=True)
            else:
                self._require_same_identity()
                logger.info("%s: joined the room again", self.identity)
                return

    def _can_renew_token(self, reason: ConnectionError) -> bool:
        """Whether a refusal is only of a token that a better one may replace."""
        return callable(self._token) and isinstance(reason, TokenError)

    def _require_same_identity(self) -> None:
        joined = self._link.joined
        if joined.identity != self._joined.identity:
            raise ConnectError(f"the server changed the identity to {joined.identity!r}")
        self._joined = joined

    def _end_with(self, error: ConnectionError) -> None:
        self._end = error
        self._inbox.end()
        self._tell(Disconnected(error))
        self._set_state(ConnectionState.DISCONNECTED, error)
        self._over.set()

    def _tell(self, event: TransportEvent | AttributesChanged) -> None:
        match event:
            case PacketReceived():
                if self._inbox.has_room():
                    self._inbox.put(event)
            case AttributesChanged():
                self._inbox.put(event.announcement)
                self._news.append(event)
            case ParticipantJoined():
                self._inbox.put(event)
                self._news.append(self.participant(event.identity) or event)
            case _:
                self._inbox.put(event)
                self._news.append(event)

    def _tell_news(self, news: News) -> None:
        self.on_news(news)
