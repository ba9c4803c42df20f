"""The WebSocket of a session's signalling, which is opened again when it is lost."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from livekit.protocol.models import ReconnectReason
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from rpcproto.livekit.backoff import LONGEST_WAIT, waits
from rpcproto.livekit.dialing import dial
from rpcproto.livekit.errors import (
    ConnectError,
    RefusedError,
    UnreachableError,
    departure,
    is_final,
)
from rpcproto.livekit.signalling import (
    PATH,
    Joined,
    LeaveAction,
    LeaveRequested,
    Resumed,
    Resumption,
    Signalling,
    SignallingEvent,
    TimedOut,
    TokenRefreshed,
)
from rpcproto.logs import logger

RESUME_TIME: Final = 20.0
"""How long it is tried to resume a session, in seconds; after that, a server has forgotten it."""
RESUME_TIME_WITHOUT_ICE: Final = 12.0
"""The same where ICE cannot be restarted, in seconds: if the network was away as long as that, the
server is about to give up the WebRTC connection."""
ATTEMPT_TIME: Final = 7.0
"""How long one attempt to resume may take, in seconds."""
SERVER_ERROR: Final = 500
"""HTTP statuses from here on say nothing about the session."""
_CLOSED: Final = ConnectionError("the signalling connection is closed")


class SignalSocket:
    """The signalling of one session, over one WebSocket after another.

    `handle` is awaited for each event that is not dealt with here: all but `TokenRefreshed`,
    `LeaveRequested` and `TimedOut`.
    """

    def __init__(
        self,
        url: str,
        token: str,
        path: str,
        handle: Callable[[SignallingEvent], Awaitable[None]],
        resuming: Callable[[ConnectionError], None],
    ) -> None:
        """`resuming` is called when the WebSocket was lost and the session is to be resumed, with
        the reason."""
        self.token: str = token
        """The last one that the server gave us, for the next time."""
        self.path: str = path
        """The way in that the server knows."""
        self.signalling: Signalling = Signalling()
        self.has_session: bool = False
        """Whether there is a session that can be resumed."""
        self.can_restart_ice: bool = False
        """Whether the connection for packets survives when the server gives it up, or restarts it.
        """
        self.is_final: bool = False
        """Whether the server does not want us back."""
        self.refusal: RefusedError | None = None
        """That the server does not let us in, before it has said why."""
        self.is_resuming: bool = False
        """Whether there is no WebSocket on which the server has taken up the session."""
        self._url = url
        self._handle_event = handle
        self._tell_resuming = resuming
        self._socket: ClientConnection | None = None
        self._has_said = asyncio.Event()
        self._waits = waits()
        self._sid = ""
        self._reason = ReconnectReason.RR_SIGNAL_DISCONNECTED
        self._lost: ConnectionError | None = None
        """Why the WebSocket is of no use any more."""
        self._has_server_lost_us = False
        """Whether no packet has got through either, as far as the server or we know."""
        self._end: ConnectionError | None = None
        """Why the session is over."""

    async def open(self, offer: str) -> None:
        """Open the first WebSocket; our first offer goes along. Raises ConnectError."""
        self._socket, self.path = await dial(
            self._url, self.path, self.token, offer, refused=self._take_refusal
        )

    def _take_refusal(self, refusal: RefusedError) -> None:
        self.refusal = refusal

    @property
    def is_open(self) -> bool:
        """Whether there was ever a WebSocket."""
        return self._socket is not None

    async def run(self) -> ConnectionError:
        """Take part in the signalling, until the session is over; return why."""
        now = asyncio.get_running_loop().time
        while True:
            began_at = now()
            await self._read()
            reason = self._lost or _CLOSED
            if self._end is not None or not self._can_resume:
                return reason
            if now() >= began_at + LONGEST_WAIT:
                self._waits = waits()  # else it comes and goes
            self.is_resuming = True
            self._tell_resuming(reason)
            failure = await self._resume(reason)
            if self.is_final or failure is reason:
                return failure or reason
            if failure is not None:
                return ConnectionError(f"{reason}; the session is not resumed: {failure}")

    def flush_soon(self) -> None:
        """The signalling has something for the server."""
        self._has_said.set()

    def drop(self, reason: ConnectionError) -> None:
        """Have the session resumed although the WebSocket works: the connection for packets is
        lost, for this reason."""
        if not self.is_resuming and self._lost is None:
            self._lost, self._reason = reason, ReconnectReason.RR_PUBLISHER_FAILED
            self.abort()

    def abort(self) -> None:
        """Cut the WebSocket."""
        if self._socket is not None:
            self._socket.transport.abort()

    async def say_goodbye(self) -> None:
        """Leave the room, and close the WebSocket."""
        self.signalling.leave()
        if self._socket is not None:
            await self._flush(self._socket)
            await self._socket.close()

    @property
    def _can_resume(self) -> bool:
        # On the old path a server restarts ICE whenever it resumes a session.
        needs_ice = self._has_server_lost_us or self.path != PATH
        return self.has_session and (self.can_restart_ice or not needs_ice)

    async def _resume(self, reason: ConnectionError) -> ConnectionError | None:
        """Have the session taken up again; return why it is not."""
        now = asyncio.get_running_loop().time
        give_up_at = now() + (RESUME_TIME if self.can_restart_ice else RESUME_TIME_WITHOUT_ICE)
        for wait in self._waits:
            self.abort()
            self.signalling.lose()
            if now() >= give_up_at:
                break
            await asyncio.sleep(min(wait, give_up_at - now()))
            try:
                async with asyncio.timeout(ATTEMPT_TIME):
                    await self._resume_once()
            except TimeoutError:
                logger.debug("resuming: no answer in %g s", ATTEMPT_TIME)
            except UnreachableError as error:
                logger.debug("resuming: %s", error)
            except ConnectError as error:
                if not isinstance(error, RefusedError) or error.status < SERVER_ERROR:
                    self.is_final = is_final(error)
                    return error
            if self._end is not None or not self.is_resuming:
                return self._end
        return reason

    async def _resume_once(self) -> None:
        resumption = Resumption(self._sid, self._reason)
        self._socket, _ = await dial(self._url, self.path, self.token, resumption=resumption)
        self._lost = None
        await self._read(until_resumed=True)

    async def _read(self, *, until_resumed: bool = False) -> None:
        """Read from the WebSocket until it is lost; `_lost` has the reason then."""
        assert self._socket is not None
        socket, signalling = self._socket, self.signalling
        now = asyncio.get_running_loop().time
        writing = asyncio.create_task(self._write(socket))
        try:
            while self._lost is None:
                try:
                    async with asyncio.timeout_at(signalling.next_deadline):
                        message = await socket.recv(decode=False)
                except TimeoutError:
                    signalling.handle_deadline(now=now())
                else:
                    signalling.receive(message, now=now())
                for event in signalling.take_events():
                    await self._take(event)
                self._has_said.set()
                await asyncio.sleep(0)  # a flood of messages leaves others their turn
                if until_resumed and not self.is_resuming:
                    break
        except (ConnectionClosed, OSError) as error:
            if self._lost is None:
                self._lost = ConnectionError(f"the signalling connection is lost: {error}")
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def _write(self, socket: ClientConnection) -> None:
        with suppress(ConnectionClosed, OSError):  # reading fails, too
            while True:
                await self._flush(socket)
                self._has_said.clear()
                await self._has_said.wait()

    async def _take(self, event: SignallingEvent) -> None:
        match event:
            case TokenRefreshed():
                self.token = event.token
            case LeaveRequested():
                self._lost = departure(event.reason)
                self._has_server_lost_us = True
                if event.action is not LeaveAction.RESUME:
                    self.is_final = event.action is LeaveAction.DISCONNECT
                    self._end = self._lost
            case TimedOut():
                self._has_server_lost_us = True
                self._lost = ConnectionError(f"the server was silent for {event.seconds:g} seconds")
            case _:
                if isinstance(event, Joined):
                    self._sid = event.sid
                elif isinstance(event, Resumed):
                    self.is_resuming = self._has_server_lost_us = False
                    self._reason = ReconnectReason.RR_SIGNAL_DISCONNECTED
                await self._handle_event(event)

    async def _flush(self, socket: ClientConnection) -> None:
        while (message := self.signalling.next_message()) is not None:
            await socket.send(message)
