"""A WebRTC connection by aiortc, in Python."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, Literal

import aioice
from aiortc import (
    RTCConfiguration,
    RTCDataChannel,
    RTCIceServer,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.rtcicetransport import connection_kwargs
from aiortc.sdp import candidate_from_sdp

from rpcproto.livekit.peer_connection import (
    DATA_TRACK,
    DATA_TRACK_ID,
    LOSSY,
    LOSSY_ID,
    LOW_WATER_BYTES,
    RELIABLE,
    RELIABLE_ID,
    Callbacks,
    Candidate,
    PeerConnection,
    turn_servers,
)
from rpcproto.livekit.signalling import CandidateReceived, IceServer
from rpcproto.logs import logger

FLUSH_INTERVAL: Final = 0.002
"""How often it is looked whether all has arrived, in seconds."""
LOOPBACK: Final = "127.0.0.1"
GATHERING_TIME: Final = 0.2
"""How long closing waits for ICE gathering, in seconds. Without a TURN server it takes no time."""
TURN_TIME: Final = 2.5
"""How long a TURN server may take to answer, in seconds; we join later by as much."""


class AiortcConnection(PeerConnection):
    """See `PeerConnection`. It uses private parts of aiortc and aioice where there is no other
    way: for 127.0.0.1, for a TURN server that is known late, and to know what has arrived."""

    can_restart_ice = False

    def __init__(self, callbacks: Callbacks, *, loopback: bool) -> None:
        super().__init__(callbacks, loopback=loopback)
        self._channel: RTCDataChannel | None = None
        self._offer: RTCSessionDescription | None = None
        self._turn_servers: list[RTCIceServer] = []
        self._gathering: asyncio.Future[list[aioice.Candidate]] | None = None
        # None would mean a public STUN server.
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._connection.on("connectionstatechange", self._state_changed)
        self._connection.on("datachannel", self._watch)

    # coming about

    async def create_offer(self) -> str:
        # A negotiated channel is not announced, and makes the offer one of data channels.
        self._connection.createDataChannel(
            DATA_TRACK, ordered=False, maxRetransmits=0, negotiated=True, id=DATA_TRACK_ID
        )
        self._offer = await self._connection.createOffer()
        return self._offer.sdp

    def configure(self, ice_servers: Iterable[IceServer]) -> None:
        # aioice asks one alone. Where UDP passes, we reach the server without.
        self._turn_servers = [
            RTCIceServer(server.url, server.username, server.credential)
            for server in turn_servers(ice_servers)[:1]
        ]

    async def begin(self, *, negotiated: bool) -> None:
        assert self._offer is not None, "create_offer comes first"
        ids = (RELIABLE_ID, LOSSY_ID) if negotiated else (None, None)
        self._watch(self._connection.createDataChannel(RELIABLE, negotiated=negotiated, id=ids[0]))
        self._connection.createDataChannel(
            LOSSY, ordered=False, maxRetransmits=0, negotiated=negotiated, id=ids[1]
        )
        sdp = await self._describe(self._offer)
        for line in sdp.splitlines():
            if line.startswith("a=candidate:"):
                self._tell_candidate(Candidate(line.removeprefix("a="), None, 0))

    async def _create_answer(self) -> str:
        return await self._describe(await self._connection.createAnswer())

    async def _describe(self, description: RTCSessionDescription) -> str:
        self._prepare_ice()
        await self._connection.setLocalDescription(description)
        return self._connection.localDescription.sdp

    async def _set_remote_description(self, kind: Literal["offer", "answer"], sdp: str) -> None:
        await self._connection.setRemoteDescription(RTCSessionDescription(sdp, kind))

    async def _use_candidate(self, received: CandidateReceived) -> None:
        try:
            candidate = candidate_from_sdp(received.candidate.removeprefix("candidate:"))
        except (ValueError, IndexError, AssertionError):
            logger.warning("ignored an ICE candidate that cannot be read")
            return
        if candidate.protocol.lower() != "udp":
            return  # aioice checks UDP alone
        candidate.sdpMid, candidate.sdpMLineIndex = received.sdp_mid, received.sdp_mline_index
        if candidate.sdpMid is None and candidate.sdpMLineIndex is None:
            candidate.sdpMLineIndex = 0
        await self._connection.addIceCandidate(candidate)

    def _prepare_ice(self) -> None:
        """Tell aioice of the TURN server, which it takes only when it is made; how long that may
        take to answer, for nothing else goes on meanwhile; and of 127.0.0.1, which it leaves out:
        the method that it calls with the addresses gets one more. Once begun it goes on to its end,
        since aioice forgets the sockets of a gathering that is cancelled."""
        ice = _ice_of(self._connection)
        if ice is None:
            return
        for name, value in connection_kwargs(self._turn_servers).items():
            setattr(ice, name, value)
        gather = ice.get_component_candidates
        more = [LOOPBACK] if self._loopback else []

        async def gather_more(component: int, addresses: list[str]) -> list[aioice.Candidate]:
            gathering = gather(component, [*addresses, *more], timeout=TURN_TIME)  # type: ignore[arg-type]
            self._gathering = asyncio.ensure_future(gathering)
            return await asyncio.shield(self._gathering)

        ice.get_component_candidates = gather_more  # type: ignore[method-assign,assignment]

    # being there

    @property
    def is_open(self) -> bool:
        channel = self._channel
        return channel is not None and channel.readyState == "open" and self.is_connected

    @property
    def is_connected(self) -> bool:
        return self._connection.connectionState == "connected"

    @property
    def buffered_bytes(self) -> int:
        return 0 if self._channel is None else self._channel.bufferedAmount

    def send(self, data: bytes) -> None:
        if self._channel is not None:
            self._channel.send(data)

    async def flush(self) -> None:
        """`bufferedAmount` does not count what aiortc has cut up and what is on its way, and
        nothing tells when that has arrived: so its queues are looked at, again and again."""
        channel, sctp = self._channel, self._connection.sctp
        if channel is None or sctp is None:
            return
        while self.is_open and (channel.bufferedAmount or sctp._outbound_queue or sctp._sent_queue):
            await asyncio.sleep(FLUSH_INTERVAL)

    def _watch(self, channel: RTCDataChannel) -> None:
        if channel.label != RELIABLE or self._channel is not None:
            return
        self._channel = channel
        channel.bufferedAmountLowThreshold = LOW_WATER_BYTES
        channel.on("message", self._receive)
        channel.on("bufferedamountlow", self._drained.set)
        channel.on("open", self._callbacks.opened)
        channel.on("close", lambda: self._lose("the data channel was closed"))
        if channel.readyState == "open":
            self._callbacks.opened()

    def _state_changed(self) -> None:
        state = self._connection.connectionState
        if state in ("failed", "closed"):
            self._lose(f"the WebRTC connection has {state}")

    async def close(self) -> None:
        """See `PeerConnection.close`. Once begun it goes on to its end, even if whoever waits is
        cancelled."""
        self._is_closing = True
        self._drained.set()
        closing = asyncio.ensure_future(close_connection(self._connection))
        _closing.add(closing)
        closing.add_done_callback(_closing.discard)
        await asyncio.shield(closing)
        if self._gathering is not None and not self._gathering.done():
            self._gathering.add_done_callback(self._close_sockets)
            await asyncio.wait([self._gathering], timeout=GATHERING_TIME)

    def _close_sockets(self, _: object) -> None:
        """Close what was gathered only after the connection was closed."""
        assert self._connection.sctp is not None, "there is nothing to gather for"
        for (
            protocol
        ) in self._connection.sctp.transport.transport.iceGatherer._connection._protocols:
            protocol.transport.close()


_closing: Final[set[asyncio.Future[None]]] = set()
"""The event loop does not keep its tasks alive."""


async def close_connection(connection: RTCPeerConnection) -> None:
    """Close a connection of aiortc. It must not be cancelled: aiortc would keep the sockets, and
    whoever closes the connection next would wait forever."""
    ice = _ice_of(connection)
    if ice is not None:
        # Where ICE has just found a path, aioice would start to send on closed sockets, for half a
        # minute.
        ice.query_consent = _send_nothing  # type: ignore[method-assign]
    with suppress(ConnectionError):
        await connection.close()


def _ice_of(connection: RTCPeerConnection) -> aioice.Connection | None:
    """The part of aioice; None before there is a channel."""
    sctp = connection.sctp
    return None if sctp is None else sctp.transport.transport.iceGatherer._connection


async def _send_nothing() -> None:
    pass
