"""A LiveKit room, for data alone: the client that users see."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar, final

from rpcproto.asyncio import RpcParticipant
from rpcproto.core.config import RpcConfig
from rpcproto.core.engine import RpcEngine
from rpcproto.core.errors import LocalProtocolError
from rpcproto.core.sealing import Cryptor
from rpcproto.livekit.participants import RemoteParticipant
from rpcproto.livekit.room_events import EventName, RoomEvents
from rpcproto.livekit.stacks import Stack
from rpcproto.livekit.tokens import TokenSource
from rpcproto.livekit.transport import CONNECT_TIMEOUT, LiveKitTransport, join_room

CallbackT = TypeVar("CallbackT", bound=Callable[..., object])


@final
class LocalParticipant(RpcParticipant):
    """The local participant: an `RpcParticipant` with a sid."""

    def __init__(
        self,
        transport: LiveKitTransport,
        *,
        config: RpcConfig = RpcConfig(),  # noqa: B008 (frozen)
        cryptor: Cryptor | None = None,
        new_id: Callable[[], str] | None = None,
        engine_factory: Callable[..., RpcEngine] = RpcEngine,
    ) -> None:
        """Made by `connect`."""
        super().__init__(
            transport, config=config, cryptor=cryptor, new_id=new_id, engine_factory=engine_factory
        )
        self._place = transport

    @property
    def sid(self) -> str:
        """The sid in the room. It changes when the session is lost."""
        return self._place.sid

    async def drain(self, timeout: float | None = None) -> bool:
        """See `RpcParticipant.drain`. Also waits until the buffer of the data channel is
        empty."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        if not await super().drain(timeout):
            return False
        try:
            async with asyncio.timeout_at(None if timeout is None else began + timeout):
                await self._place.flush()
        except TimeoutError:
            return False
        return True


@final
class Room:
    """A room that this program has joined. See `connect`."""

    def __init__(self, local_participant: LocalParticipant, transport: LiveKitTransport) -> None:
        """Made by `connect`."""
        self.local_participant = local_participant
        """The local participant, which makes and answers calls."""
        self._transport = transport
        self._events = RoomEvents(transport.identity)
        transport.on_news = self._events.take
        transport.on_state = self._events.change_state

    @property
    def name(self) -> str:
        """The name of the room."""
        return self._transport.room

    @property
    def server_version(self) -> str:
        """The version that the server reports, or an empty text."""
        return self._transport.server_version

    @property
    def participants(self) -> tuple[str, ...]:
        """The identities of all other participants, in the order in which they joined."""
        return self.local_participant.participants

    def participant(self, identity: str) -> RemoteParticipant | None:
        """Return the current kind, name, attributes and state of a participant, or None if it is
        not in the room."""
        known = self._events.participant(identity)
        return known and (self._transport.participant(identity) or known)

    async def wait_for_participant(
        self, identity: str | None = None, *, kind: str | None = None
    ) -> RemoteParticipant:
        """Wait for a participant with this `identity`, or for the first of this `kind`, such as
        `agent` or `sip`, and return it.

        To limit the wait, use `asyncio.timeout`.

        Raises:
            RpcError: The local participant left first, or the server removed it (1503).
            LocalProtocolError: An argument is invalid.
        """
        if (identity is None) is (kind is None):
            raise LocalProtocolError("give either an identity or a kind to wait for")
        if identity is None:
            return await self._events.wait_for_kind(str(kind))
        while True:
            await self.local_participant.wait_for_participant(identity)
            participant = self._events.participant(identity)
            if participant is not None:
                return participant
            await asyncio.sleep(0)  # it has left at once

    def on(
        self, name: EventName, callback: Callable[..., object] | None = None
    ) -> Callable[[CallbackT], CallbackT]:
        """Call a function, which must not be `async`, whenever an event happens. Also a decorator.

        | event | arguments | when |
        |---|---|---|
        | `participant_connected` | `RemoteParticipant` | the participant can be called |
        | `participant_disconnected` | `RemoteParticipant` | it left, or the session is lost |
        | `participant_attributes_changed` | `Mapping`, `RemoteParticipant` | attributes changed |
        | `reconnecting` | | the connection is lost |
        | `reconnected` | | the connection is established again |
        | `disconnected` | `ConnectionError` or None | the session has ended; None if you left it |

        No `participant_connected` is reported for participants that are in the room when `connect`
        returns. In the changed attributes, a removed attribute has an empty value. If a function
        raises, the exception is logged.

        Raises:
            LocalProtocolError: The event is unknown, or the function is `async`.
        """

        def add(decorated: CallbackT) -> CallbackT:
            self._events.on(name, decorated)
            return decorated

        self._events.require_event(name)
        if callback is not None:
            self._events.on(name, callback)
        return add

    def off(self, name: EventName, callback: Callable[..., object]) -> None:
        """Stop calling a function. If it was not registered, nothing happens."""
        self._events.off(name, callback)

    async def wait_closed(self) -> None:
        """Wait, without a limit, until the local participant has left the room.

        Raises:
            LeaveError: The server has removed the participant.
            ConnectError: The server does not let it join again.
        """
        await self._transport.wait_closed()


@asynccontextmanager
async def connect(
    url: str,
    token: TokenSource,
    *,
    connect_timeout: float = CONNECT_TIMEOUT,
    stack: Stack | None = None,
    config: RpcConfig = RpcConfig(),  # noqa: B008 (frozen)
    cryptor: Cryptor | None = None,
    new_id: Callable[[], str] | None = None,
    engine_factory: Callable[..., RpcEngine] = RpcEngine,
) -> AsyncIterator[Room]:
    """Join the room of `token`, and leave it at the end of the `async with` block.

    `url` is the URL of the server (`wss://...`). `token` is an access token with the grant to join,
    which contains the identity, or a function that returns one, which can be `async`. The function
    is called each time that the client joins, so a token can expire.

    `connect_timeout` limits joining, in seconds (15 by default). Joining is complete when packets
    can be sent. `stack` is the WebRTC stack, `"wrtc"` or `"aiortc"`; None means the one that is
    installed. `config`, `cryptor`, `new_id` and `engine_factory` are those of `RpcParticipant`.

    If the connection is lost, the client resumes the session. If that is impossible, it joins
    again, without a limit of attempts. Pending calls then fail with 1503, and so do new calls until
    it has joined. Methods stay registered. If the server removes the participant, calls fail with
    1503 and a `LeaveError` as the cause; see `Room.wait_closed`.

    Raises:
        ConnectError: The room can't be joined. `TokenError`, `RefusedError` and
            `UnreachableError` are more specific.
        LocalProtocolError: An argument is invalid.
        ModuleNotFoundError: The WebRTC stack is not installed.
        Exception: The function for the token raised it, at the first call. Later, it is logged,
            and the function is called again.
    """
    transport = await join_room(url, token, connect_timeout=connect_timeout, stack=stack)
    try:
        participant = LocalParticipant(
            transport, config=config, cryptor=cryptor, new_id=new_id, engine_factory=engine_factory
        )
        room = Room(participant, transport)  # hears of those who are here on entering
        async with participant:
            yield room
    finally:
        await transport.aclose()
