"""One WebRTC connection for data alone: the only place that knows aiortc."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Final

from aiortc import (
    RTCConfiguration,
    RTCDataChannel,
    RTCIceServer,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.sdp import candidate_from_sdp

from rpcproto.livekit.signalling import CandidateReceived, IceServer
from rpcproto.logs import logger
from rpcproto.transports import HIGH_WATER_MARK

RELIABLE: Final = "_reliable"
"""The channel of RPC."""
LOSSY: Final = "_lossy"
MAX_MESSAGE_BYTES: Final = 64_000
"""The largest message, if the other side takes as much."""
HIGH_WATER_BYTES: Final = HIGH_WATER_MARK
"""With more waiting in the channel, sending waits."""
LOW_WATER_BYTES: Final = HIGH_WATER_MARK // 2
"""Until there is less than this."""
FLUSH_INTERVAL: Final = 0.002
"""How often it is looked whether all has arrived, in seconds."""
LOOPBACK: Final = "127.0.0.1"


class PeerConnection:
    """A connection with the two data channels of a LiveKit room.

    Either we offer it (`offer`, then `accept`), and make the channels; or the server does, and we
    `answer`. `on_packet` gets what arrives on the reliable channel, `on_open` is called when
    that is open, `on_lost` when the connection is lost after all, with the reason.
    """

    def __init__(
        self,
        ice_servers: Iterable[IceServer],
        *,
        loopback: bool,
        on_packet: Callable[[bytes], None],
        on_open: Callable[[], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self.max_message_bytes: int = MAX_MESSAGE_BYTES
        self._loopback = loopback
        self._on_packet = on_packet
        self._on_open = on_open
        self._on_lost = on_lost
        self._early_candidates: list[CandidateReceived] = []
        self._is_described = False
        self._is_closing = False
        self._channel: RTCDataChannel | None = None
        self._drained = asyncio.Event()
        # None would mean a public STUN server.
        configuration = RTCConfiguration(iceServers=usable_ice_servers(ice_servers))
        self._connection = RTCPeerConnection(configuration)
        self._connection.on("connectionstatechange", self._state_changed)
        self._connection.on("datachannel", self._watch)

    # coming about

    async def offer(self) -> str:
        """Our offer, with all our candidates in it."""
        self._watch(self._connection.createDataChannel(RELIABLE))
        self._connection.createDataChannel(LOSSY, ordered=False, maxRetransmits=0)
        offer = await self._connection.createOffer()
        return await self._describe(offer)

    async def accept(self, sdp: str) -> None:
        """The answer to our offer."""
        self.max_message_bytes = max_message_bytes(sdp)
        await self._describe_remote(RTCSessionDescription(sdp, "answer"))

    async def answer(self, sdp: str) -> str:
        """Our answer to the server's offer."""
        await self._describe_remote(RTCSessionDescription(sdp, "offer"))
        return await self._describe(await self._connection.createAnswer())

    async def add_candidate(self, received: CandidateReceived) -> None:
        """Somewhere else to reach the server; one that cannot be read is ignored."""
        if not self._is_described:
            self._early_candidates.append(received)
            return
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

    async def _describe(self, description: RTCSessionDescription) -> str:
        if self._loopback:
            self._use_loopback()
        await self._connection.setLocalDescription(description)
        return self._connection.localDescription.sdp

    async def _describe_remote(self, description: RTCSessionDescription) -> None:
        await self._connection.setRemoteDescription(description)
        self._is_described = True
        early, self._early_candidates = self._early_candidates, []
        for candidate in early:
            await self.add_candidate(candidate)

    def _use_loopback(self) -> None:
        """Have 127.0.0.1 among our addresses. aioice leaves it out, and has no option for it: so
        the method that it calls with the addresses gets one more."""
        sctp = self._connection.sctp
        if sctp is None:
            return
        ice = sctp.transport.transport.iceGatherer._connection
        gather = ice.get_component_candidates

        async def gather_with_loopback(component: int, addresses: list[str]) -> list[object]:
            return list(await gather(component, [*addresses, LOOPBACK]))

        ice.get_component_candidates = gather_with_loopback  # type: ignore[assignment,method-assign]

    # being there

    @property
    def is_open(self) -> bool:
        """Whether the reliable channel is open, so that `send` can be called."""
        channel = self._channel
        return (
            channel is not None
            and channel.readyState == "open"
            and self._connection.connectionState == "connected"
        )

    def send(self, data: bytes) -> None:
        """Put a packet into the reliable channel, which must be open."""
        if self._channel is not None:
            self._channel.send(data)

    async def drain(self) -> None:
        """Wait while too much waits in the channel; a lost connection ends it."""
        channel = self._channel
        if channel is None or channel.bufferedAmount <= HIGH_WATER_BYTES:
            return
        while self.is_open and channel.bufferedAmount > LOW_WATER_BYTES:
            self._drained.clear()
            await self._drained.wait()

    async def flush(self) -> None:
        """Wait until the other side has all that was sent; a lost connection ends it.

        `bufferedAmount` does not count what aiortc has cut up and what is on its way, and nothing
        tells when that has arrived: so its queues are looked at, again and again.
        """
        channel, sctp = self._channel, self._connection.sctp
        if channel is None or sctp is None:
            return
        while self.is_open and (channel.bufferedAmount or sctp._outbound_queue or sctp._sent_queue):
            await asyncio.sleep(FLUSH_INTERVAL)

    def _watch(self, channel: RTCDataChannel) -> None:
        if channel.label != RELIABLE:
            return
        self._channel = channel
        channel.bufferedAmountLowThreshold = LOW_WATER_BYTES
        channel.on("message", self._receive)
        channel.on("bufferedamountlow", self._drained.set)
        channel.on("open", self._on_open)
        channel.on("close", lambda: self._lose("the data channel was closed"))
        if channel.readyState == "open":
            self._on_open()

    def _receive(self, message: object) -> None:
        if isinstance(message, bytes) and not self._is_closing:
            self._on_packet(message)

    def _state_changed(self) -> None:
        state = self._connection.connectionState
        if state in ("failed", "closed"):
            self._lose(f"the WebRTC connection has {state}")

    def _lose(self, reason: str) -> None:
        self._drained.set()
        if not self._is_closing:
            self._on_lost(reason)

    async def close(self) -> None:
        """Let go of everything."""
        self._is_closing = True
        self._drained.set()
        closing: Awaitable[None] = self._connection.close()
        if self._connection.signalingState == "closed":
            # aiortc has begun to close by itself, and this waits for that. Who is cancelled while
            # waiting must not cancel what is waited for.
            closing = asyncio.shield(closing)
        with suppress(ConnectionError):
            await closing


def max_message_bytes(sdp: str) -> int:
    """The largest message that the other side takes, and never more than 64,000 bytes."""
    match = re.search(r"^a=max-message-size:([0-9]{1,10})\s*$", sdp, re.MULTILINE)
    size = int(match[1]) if match else 0
    return min(size, MAX_MESSAGE_BYTES) if size else MAX_MESSAGE_BYTES


_TURN: Final = re.compile(r"(turns?):[^?:]+(?::[0-9]+)?(?:\?transport=(udp|tcp))?")


def usable_ice_servers(servers: Iterable[IceServer]) -> list[RTCIceServer]:
    """The one TURN server that is worth asking.

    aioice asks one alone. Where UDP passes, we reach the server without; where it does not, only
    TCP helps, and TLS gets furthest. STUN tells others where to reach us, and a LiveKit server is
    not the one to call first.
    """
    ranked = []
    for server in servers:
        for url in server.urls:
            match = _TURN.fullmatch(url)
            if match is not None:
                rank = (match[1] == "turn", match[2] != "tcp")
                if match[1] == "turns" and match[2] != "tcp":
                    continue  # TLS over UDP is not to be had
                ranked.append((rank, RTCIceServer(url, server.username, server.credential)))
    return [min(ranked, key=lambda pair: pair[0])[1]] if ranked else []
