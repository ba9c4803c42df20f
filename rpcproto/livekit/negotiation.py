"""The peer connections of a room, one or two, and how they come about by signalling."""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from rpcproto.livekit.peer_connection import Callbacks, Candidate, PeerConnection, turn_servers
from rpcproto.livekit.signalling import (
    NEGOTIATED_CHANNELS,
    AnswerReceived,
    CandidateReceived,
    IceServer,
    Joined,
    OfferReceived,
    Signalling,
)

SHOWN_TURN_SERVERS: Final = 3


class PeerConnections:
    """What carries the packets of a room, both ways.

    On the new path the connection that we offer is all; on the old one the server offers another,
    for what it sends. `said` is called when `signalling` has something for the server.
    """

    def __init__(
        self,
        stack: type[PeerConnection],
        signalling: Signalling,
        *,
        loopback: bool,
        said: Callable[[], None],
        packet: Callable[[bytes], None],
        opened: Callable[[], None],
        lost: Callable[[str], None],
    ) -> None:
        self.offer: str = ""
        """Our first offer, which can go along with the join."""
        self._stack = stack
        self._signalling = signalling
        self._loopback = loopback
        self._said = said
        self._callbacks = partial(Callbacks, packet=packet, opened=opened, lost=lost)
        self.sender: PeerConnection = self._connection(is_ours=True)
        """The connection that we offer."""
        self._receiver: PeerConnection | None = None
        """The connection that the server offers; on the new path the sender is both."""
        self._has_entered = False
        self._is_gathering = False
        self._is_answered = self._is_offered = False
        self._turn_urls: list[str] = []

    @property
    def progress(self) -> str:
        """What is missing, before `is_open`."""
        turn = ", ".join(self._turn_urls[:SHOWN_TURN_SERVERS])
        if self._is_gathering:
            silent = f"; the TURN server may not answer: {turn}" if turn else ""
            return f"our own network addresses were still being looked for{silent}"
        if not self._is_answered:
            return "the server did not answer our offer"
        if self._receiver is not None and not self._is_offered:
            return "the server did not offer its connection"
        if turn:
            return f"no packet got through to the server, neither directly nor by {turn}"
        return "no packet got through to the server (UDP blocked, and it names no TURN server)"

    @property
    def _all(self) -> list[PeerConnection]:
        return [one for one in (self.sender, self._receiver) if one is not None]

    @property
    def is_open(self) -> bool:
        """Whether packets can pass, both ways."""
        return self._has_entered and all(connection.is_open for connection in self._all)

    @property
    def is_connected(self) -> bool:
        """Whether packets get through, as far as the stack knows."""
        return all(connection.is_connected for connection in self._all)

    @property
    def can_restart_ice(self) -> bool:
        """Whether `restart` can be called."""
        return self._stack.can_restart_ice

    async def create_offer(self) -> None:
        """Set `offer`, for the join."""
        self.offer = await self.sender.create_offer()

    async def enter(self, joined: Joined, *, is_single: bool) -> None:
        """We are in the room; with `is_single`, the join had our offer in it."""
        self._has_entered = True
        if not is_single:
            self._receiver = self._connection(is_ours=False)
            self._receiver.configure(joined.ice_servers)
        self._signalling.offer(self.offer, in_join=is_single)
        self.sender.configure(joined.ice_servers)
        self._turn_urls = [server.url for server in turn_servers(joined.ice_servers)]
        self._is_gathering = True
        await self.sender.begin(
            negotiated=is_single and joined.server_protocol >= NEGOTIATED_CHANNELS
        )
        self._is_gathering = False

    async def handle(self, event: OfferReceived | AnswerReceived | CandidateReceived) -> None:
        """What the server says of the connections."""
        match event:
            case OfferReceived(sdp, offer_id):
                self._is_offered = True
                if self._receiver is not None:
                    self._signalling.answer(await self._receiver.answer(sdp), offer_id)
                    self._said()
            case AnswerReceived(sdp):
                self._is_answered = True
                await self.sender.accept(sdp)
            case CandidateReceived():
                connection = self.sender if event.is_ours else self._receiver
                if connection is not None:
                    await connection.add_candidate(event)

    def configure(self, ice_servers: Iterable[IceServer]) -> None:
        """Use these servers when a way is looked for anew."""
        for connection in self._all:
            connection.configure(ice_servers)

    async def restart(self) -> None:
        """Look for a way to the server anew, while the channels stay; what the server offers, it
        offers again by itself. Only where `can_restart_ice`."""
        self._signalling.offer(await self.sender.restart())
        self._said()

    async def close(self) -> None:
        """Let go of everything. Raises what a stack raises."""
        outcomes = await asyncio.gather(
            *(connection.close() for connection in self._all), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    def _connection(self, *, is_ours: bool) -> PeerConnection:
        tell = partial(self._tell_candidate, is_ours=is_ours)
        return self._stack(self._callbacks(candidate=tell), loopback=self._loopback)

    def _tell_candidate(self, found: Candidate, *, is_ours: bool) -> None:
        self._signalling.tell_candidate(
            found.candidate, found.sdp_mid, found.sdp_mline_index, is_ours=is_ours
        )
        self._said()
