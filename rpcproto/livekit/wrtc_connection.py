"""A WebRTC connection by wrtc, which is libwebrtc for Python."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Literal

import webrtc

from rpcproto.livekit.backlog import Backlog
from rpcproto.livekit.peer_connection import (
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


class WrtcConnection(PeerConnection):
    """See `PeerConnection`."""

    can_restart_ice = True

    def __init__(self, callbacks: Callbacks, *, loopback: bool) -> None:
        super().__init__(callbacks, loopback=loopback)
        if loopback:
            # For the whole process, and only before its first connection. Later on it reaches
            # 127.0.0.1 as well, but from an address of the network.
            with suppress(webrtc.InvalidStateError):
                webrtc.allow_loopback()
        self._channel: webrtc.RTCDataChannel | None = None
        self._offer: webrtc.RTCSessionDescriptionInit | None = None
        self._closed = asyncio.Event()
        """Set when the reliable channel is closed."""
        self._connection = webrtc.RTCPeerConnection(
            # Our offer is one of data channels, before there are any.
            webrtc.RTCConfiguration(always_negotiate_data_channels=True)
        )
        self._connection.on("connectionstatechange", self._state_changed)
        self._connection.on("datachannel", lambda event: self._watch(event.channel))
        self._backlog = Backlog(self._connection.get_stats)
        self._connection.on("icecandidate", self._candidate_found)

    # coming about

    async def create_offer(self) -> str:
        self._offer = await self._connection.create_offer()
        return self._offer.sdp

    def configure(self, ice_servers: Iterable[IceServer]) -> None:
        configuration = self._connection.get_configuration()
        configuration.ice_servers = [
            webrtc.RTCIceServer(server.url, server.username, server.credential)
            for server in turn_servers(ice_servers)
        ]
        self._connection.set_configuration(configuration)

    async def begin(self, *, negotiated: bool) -> None:
        reliable = webrtc.RTCDataChannelInit(negotiated=negotiated)
        lossy = webrtc.RTCDataChannelInit(ordered=False, max_retransmits=0, negotiated=negotiated)
        if negotiated:
            reliable.id, lossy.id = RELIABLE_ID, LOSSY_ID
        self._watch(self._connection.create_data_channel(RELIABLE, reliable))
        self._watch(self._connection.create_data_channel(LOSSY, lossy))
        await self._connection.set_local_description(self._offer)

    async def restart(self) -> str:
        self._is_described = False  # the next candidates are for the next description
        self._connection.restart_ice()
        self._offer = await self._connection.create_offer()
        await self._connection.set_local_description(self._offer)
        return self._offer.sdp

    async def _create_answer(self) -> str:
        answer = await self._connection.create_answer()
        await self._connection.set_local_description(answer)
        return answer.sdp

    async def _set_remote_description(self, kind: Literal["offer", "answer"], sdp: str) -> None:
        description = webrtc.RTCSessionDescriptionInit(kind, sdp)
        try:
            await self._connection.set_remote_description(description)
        except webrtc.PythonWebRTCExceptionBase as error:
            raise ValueError(f"the server's {kind} cannot be used: {error}") from error

    async def _use_candidate(self, received: CandidateReceived) -> None:
        mid, index = received.sdp_mid, received.sdp_mline_index
        try:
            await self._connection.add_ice_candidate(
                webrtc.RTCIceCandidateInit(
                    received.candidate, mid, 0 if mid is None and index is None else index
                )
            )
        except (webrtc.PythonWebRTCExceptionBase, TypeError, ValueError):
            logger.warning("ignored an ICE candidate that cannot be read")

    def _candidate_found(self, event: webrtc.RTCPeerConnectionIceEvent) -> None:
        found = event.candidate
        if found is not None and found.candidate:  # or else there are no more
            self._tell_candidate(Candidate(found.candidate, found.sdp_mid, found.sdp_m_line_index))

    # being there

    @property
    def is_open(self) -> bool:
        return self._channel is not None and self._channel.ready_state == "open"

    @property
    def is_connected(self) -> bool:
        return self._connection.connection_state == "connected"

    @property
    def buffered_bytes(self) -> int:
        return 0 if self._channel is None else self._channel.buffered_amount

    def send(self, data: bytes) -> None:
        if self._channel is not None:
            self._channel.send(data)

    async def flush(self) -> None:
        """A channel is closed when the other side has all that was put into it."""
        if self._channel is None or not self.is_open:
            return
        self._is_closing = True
        self._channel.close()
        await self._closed.wait()

    def _watch(self, channel: webrtc.RTCDataChannel) -> None:
        is_ours = channel.label == RELIABLE and self._channel is None
        channel.on("message", lambda event: self._take(event.data, is_ours=is_ours))
        if not is_ours:
            return
        self._channel = channel
        channel.buffered_amount_low_threshold = LOW_WATER_BYTES
        channel.on("bufferedamountlow", lambda _: self._drained.set())
        channel.on("open", lambda _: self._callbacks.opened())
        channel.on("close", lambda _: self._channel_closed())
        if channel.ready_state == "open":
            self._callbacks.opened()

    def _take(self, message: str | bytes | webrtc.Blob, *, is_ours: bool) -> None:
        size = len(message) if isinstance(message, (str, bytes)) else message.size
        if self._backlog.take(size):
            self._connection.close()
            self._lose("packets arrive faster than they can be read")
            self._is_closing = True
        elif is_ours:
            self._receive(message)

    def _channel_closed(self) -> None:
        self._closed.set()
        self._lose("the data channel was closed")

    def _state_changed(self, _: webrtc.Event) -> None:
        state = self._connection.connection_state
        if state in ("failed", "closed"):
            self._closed.set()
            self._lose(f"the WebRTC connection has {state.value}")

    async def close(self) -> None:
        self._is_closing = True
        self._drained.set()
        self._closed.set()
        self._connection.close()
        await self._backlog.close()
