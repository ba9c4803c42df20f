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
        """Our sid in the room; another after each time that the connection was lost."""
        return self._place.sid

    async def drain(self, timeout: float | None = None) -> bool:
        """See `RpcParticipant.drain`; also wait until nothing waits in the data channel."""
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
    """A room that we have joined. See `connect`."""

    def __init__(self, local_participant: LocalParticipant, transport: LiveKitTransport) -> None:
        """Made by `connect`."""
        self.local_participant = local_participant
        """Ourselves: makes calls, and answers them."""
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
        """The version of the server, as it says itself; empty if it does not."""
        return self._transport.server_version

    @property
    def participants(self) -> tuple[str, ...]:
        """The identities of all others who are here, as they came."""
        return self.local_participant.participants

    def participant(self, identity: str) -> RemoteParticipant | None:
        """Kind, name, attributes and state of a participant, as they are now; None if it is not
        here."""
        known = self._events.participant(identity)
        return known and (self._transport.participant(identity) or known)

    async def wait_for_participant(
        self, identity: str | None = None, *, kind: str | None = None
    ) -> RemoteParticipant:
        """Wait until a participant is here, and return it: the one of this `identity`, or the first
        of this `kind`, such as `agent` or `sip`.

        Raises RpcError (1503) when we leave, or are put out, before; LocalProtocolError for misuse.
        Limit the wait with `asyncio.timeout`.
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
        """Call a plain function whenever something happens; returns what decorates another.

        | event | arguments | when |
        |---|---|---|
        | `participant_connected` | `RemoteParticipant` | it can be reached now |
        | `participant_disconnected` | `RemoteParticipant` | it has left, or our session is lost |
        | `participant_attributes_changed` | changed attributes, `RemoteParticipant` | a removed one
          is empty |
        | `reconnecting` | | the connection is lost |
        | `reconnected` | | it is back |
        | `disconnected` | ConnectionError or None | we are out for good; None if we left |

        Participants that are here already when `connect` returns are not reported. What a function
        raises is logged. Raises LocalProtocolError for an unknown event or an `async` function.
        """

        def add(decorated: CallbackT) -> CallbackT:
            self._events.on(name, decorated)
            return decorated

        self._events.require_event(name)
        if callback is not None:
            self._events.on(name, callback)
        return add

    def off(self, name: EventName, callback: Callable[..., object]) -> None:
        """Do not call a function any more; one that was not there is ignored."""
        self._events.off(name, callback)

    async def wait_closed(self) -> None:
        """Wait until we are not in the room any more, for as long as that takes.

        Raises LeaveError when the server has put us out, ConnectError when it does not let us in
        again; just returns when we have left ourselves.
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
    """Be in the room that `token` is for, as long as the `async with` lasts.

    `url` is the server's (`wss://...`), `token` an access token with the grant to join, which has
    our identity in it, or a function that returns one, async or not. The function is called each
    time that we join, so that a token that has expired is no obstacle.

    Joining may take `connect_timeout` seconds; it is done when packets can be sent. `stack` is the
    WebRTC stack, `"wrtc"` or `"aiortc"`; None for the one that is installed. `config`, `cryptor`,
    `new_id` and `engine_factory` are those of `RpcParticipant`.

    A connection that is lost is made anew, for ever: calls that were under way fail with 1503, as
    do new ones until it is back; methods stay registered. When the server puts us out, calls fail
    with 1503 and a `LeaveError` as the cause; see `Room.wait_closed`.

    Raises `ConnectError`, of which `TokenError`, `RefusedError` and `UnreachableError` say more,
    LocalProtocolError for misuse, ModuleNotFoundError if the stack is not installed, and what the
    function for the token raises the first time; later on, that is logged and tried again.
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
