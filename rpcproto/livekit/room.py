"""A LiveKit room, for data alone: the client that users see."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import final

from rpcproto.asyncio import RpcParticipant
from rpcproto.core.config import RpcConfig
from rpcproto.core.engine import RpcEngine
from rpcproto.core.sealing import Cryptor
from rpcproto.livekit.stacks import Stack
from rpcproto.livekit.transport import CONNECT_TIMEOUT, LiveKitTransport, join_room


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


@final
class Room:
    """A room that we have joined. See `connect`."""

    def __init__(self, local_participant: LocalParticipant, transport: LiveKitTransport) -> None:
        """Made by `connect`."""
        self.local_participant = local_participant
        """Ourselves: makes calls, and answers them."""
        self._transport = transport

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

    async def wait_for_participant(self, identity: str) -> None:
        """Wait until somebody is here; see `RpcParticipant.wait_for_participant`."""
        await self.local_participant.wait_for_participant(identity)

    async def wait_closed(self) -> None:
        """Wait until we are not in the room any more, for as long as that takes.

        Raises LeaveError when the server has put us out, ConnectError when it does not let us in
        again; just returns when we have left ourselves.
        """
        await self._transport.wait_closed()


@asynccontextmanager
async def connect(
    url: str,
    token: str,
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
    our identity in it. Joining may take `connect_timeout` seconds; it is done when packets can be
    sent. `stack` is the WebRTC stack, `"wrtc"` or `"aiortc"`; None for the one that is installed.
    `config`, `cryptor`, `new_id` and `engine_factory` are those of `RpcParticipant`.

    A connection that is lost is made anew, for ever: calls that were under way fail with 1503, as
    do new ones until it is back; methods stay registered. When the server puts us out, calls fail
    with 1503 and a `LeaveError` as the cause; see `Room.wait_closed`.

    Raises `ConnectError`, of which `TokenError`, `RefusedError` and `UnreachableError` say more,
    LocalProtocolError for misuse, and ModuleNotFoundError if the stack is not installed.
    """
    transport = await join_room(url, token, connect_timeout=connect_timeout, stack=stack)
    try:
        participant = LocalParticipant(
            transport, config=config, cryptor=cryptor, new_id=new_id, engine_factory=engine_factory
        )
        async with participant:
            yield Room(participant, transport)
    finally:
        await transport.aclose()
