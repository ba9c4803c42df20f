"""One WebRTC connection for data alone: what the WebRTC stacks share, and what each must do."""

import asyncio
import ipaddress
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from rpcproto.livekit.signalling import CandidateReceived, IceServer
from rpcproto.logs import logger
from rpcproto.transports import HIGH_WATER_MARK

RELIABLE: Final = "_reliable"
"""The channel of RPC."""
LOSSY: Final = "_lossy"
DATA_TRACK: Final = "_data_track"
RELIABLE_ID: Final = 100
"""The ids of negotiated channels."""
LOSSY_ID: Final = 101
DATA_TRACK_ID: Final = 102
MAX_MESSAGE_BYTES: Final = 64_000
"""The largest message, if the other side takes as much."""
HIGH_WATER_BYTES: Final = HIGH_WATER_MARK
"""With more waiting in the channel, sending waits."""
LOW_WATER_BYTES: Final = HIGH_WATER_MARK // 2
"""Until there is less than this."""
MAX_CANDIDATES: Final = 100
"""How many of the server's candidates are used until it describes itself anew."""
MAX_CANDIDATE_CHARS: Final = 1_000
MAX_TURN_SERVERS: Final = 8
"""How many URLs of TURN servers are used."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Where we can be reached, to tell the server."""

    candidate: str
    sdp_mid: str | None
    sdp_mline_index: int | None


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What a connection has to tell; called in the event loop, and never after `close`."""

    packet: Callable[[bytes], None]
    """A packet arrived on the reliable channel."""
    opened: Callable[[], None]
    """The reliable channel is open."""
    lost: Callable[[str], None]
    """The connection is lost after all, with the reason."""
    candidate: Callable[[Candidate], None]
    """We have found a candidate of ours."""


class PeerConnection(ABC):
    """A connection with the data channels of a LiveKit room.

    Either we offer it (`create_offer`, `configure`, `begin`, then `accept`), and make the channels;
    or the server does, and we `configure` and `answer`. What the other side says raises
    ConnectionError or ValueError where the stack cannot make anything of it.
    """

    can_restart_ice: ClassVar[bool]
    """Whether `restart` can be called."""

    def __init__(self, callbacks: Callbacks, *, loopback: bool) -> None:
        """With `loopback`, 127.0.0.1 is among our addresses."""
        self.max_message_bytes: int = MAX_MESSAGE_BYTES
        self._callbacks = callbacks
        self._loopback = loopback
        self._early_candidates: list[CandidateReceived] = []
        self._candidates_left = MAX_CANDIDATES
        self._is_described = False
        self._is_closing = False
        self._drained = asyncio.Event()

    # coming about

    @abstractmethod
    async def create_offer(self) -> str:
        """Our offer, without candidates and before anything is known of the server."""

    @abstractmethod
    def configure(self, ice_servers: Iterable[IceServer]) -> None:
        """Use these servers; call it before candidates are looked for."""

    @abstractmethod
    async def begin(self, *, negotiated: bool) -> None:
        """Make the channels, negotiated or in-band, and look for candidates."""

    async def accept(self, sdp: str) -> None:
        """The answer to our offer."""
        self.max_message_bytes = max_message_bytes(sdp)
        await self._describe_remote("answer", sdp)

    async def answer(self, sdp: str) -> str:
        """Our answer to the server's offer."""
        await self._describe_remote("offer", sdp)
        return await self._create_answer()

    async def restart(self) -> str:
        """A new offer, with which ICE starts anew while the channels stay; `accept` takes the
        answer. Call it only where `can_restart_ice`."""
        raise NotImplementedError

    async def add_candidate(self, received: CandidateReceived) -> None:
        """Somewhere else to reach the server; one that cannot be read is ignored, as are those
        beyond MAX_CANDIDATES."""
        if self._candidates_left == 0 or len(received.candidate) > MAX_CANDIDATE_CHARS:
            return
        self._candidates_left -= 1
        if self._candidates_left == 0:
            logger.warning("ignoring all further ICE candidates")
        if self._is_described:
            await self._use_candidate(received)
        else:
            self._early_candidates.append(received)

    async def _describe_remote(self, kind: Literal["offer", "answer"], sdp: str) -> None:
        await self._set_remote_description(kind, sdp)
        self._is_described = True
        self._candidates_left = MAX_CANDIDATES
        early, self._early_candidates = self._early_candidates, []
        for candidate in early:
            await self._use_candidate(candidate)

    @abstractmethod
    async def _set_remote_description(self, kind: Literal["offer", "answer"], sdp: str) -> None: ...

    @abstractmethod
    async def _create_answer(self) -> str: ...

    @abstractmethod
    async def _use_candidate(self, received: CandidateReceived) -> None: ...

    # being there

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """Whether the reliable channel is open, so that `send` can be called."""

    @property
    @abstractmethod
    def is_connected(self) -> bool:
        """Whether packets get through, as far as the stack knows."""

    @property
    @abstractmethod
    def buffered_bytes(self) -> int:
        """What waits in the reliable channel."""

    @abstractmethod
    def send(self, data: bytes) -> None:
        """Put a packet into the reliable channel, which must be open."""

    async def drain(self) -> None:
        """Wait while too much waits in the channel; a lost connection ends it."""
        if self.buffered_bytes <= HIGH_WATER_BYTES:
            return
        while self.is_open and self.buffered_bytes > LOW_WATER_BYTES:
            self._drained.clear()
            await self._drained.wait()

    @abstractmethod
    async def flush(self) -> None:
        """Wait until the other side has all that was sent; a lost connection ends it. Nothing can
        be sent afterwards."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of everything."""

    def _receive(self, message: object) -> None:
        if isinstance(message, bytes) and not self._is_closing:
            self._callbacks.packet(message)

    def _tell_candidate(self, candidate: Candidate) -> None:
        if not self._is_closing:
            self._callbacks.candidate(candidate)

    def _lose(self, reason: str) -> None:
        self._drained.set()
        if not self._is_closing:
            self._callbacks.lost(reason)


def max_message_bytes(sdp: str) -> int:
    """The largest message that the other side takes, and never more than 64,000 bytes."""
    match = re.search(r"^a=max-message-size:([0-9]{1,10})\s*$", sdp, re.MULTILINE)
    size = int(match[1]) if match else 0
    return min(size, MAX_MESSAGE_BYTES) if size else MAX_MESSAGE_BYTES


@dataclass(frozen=True, slots=True)
class TurnServer:
    """One way to a TURN server."""

    url: str
    username: str
    credential: str


_TURN: Final = re.compile(
    r"(?P<scheme>turns?):(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|[A-Za-z0-9._~-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?:\?transport=(?P<transport>udp|tcp))?"
)
_MAX_PORT: Final = 65_535
_MAX_USERNAME_CHARS: Final = 509
"""As browsers have it, from RFC 8489."""


def turn_servers(servers: Iterable[IceServer]) -> list[TurnServer]:
    """The TURN servers among these, the one that gets furthest first: TLS, then TCP, then UDP.

    STUN tells others where to reach us, and a LiveKit server is not the one to call first.
    """
    ranked = []
    for server in servers:
        if not server.credential or len(server.username) > _MAX_USERNAME_CHARS:
            continue
        for url in server.urls:
            rank = _rank(url)
            if rank is not None:
                ranked.append((rank, TurnServer(url, server.username, server.credential)))
    ranked.sort(key=lambda pair: pair[0])
    return [server for _, server in ranked[:MAX_TURN_SERVERS]]


def _rank(url: str) -> tuple[bool, bool] | None:
    """How far it gets, lower is further; None for what is no URL of a TURN server."""
    match = _TURN.fullmatch(url)
    if match is None or int(match["port"] or 0) > _MAX_PORT:
        return None
    if match["ipv6"] is not None:
        try:
            ipaddress.IPv6Address(match["ipv6"])
        except ValueError:
            return None
    is_tls, is_tcp = match["scheme"] == "turns", match["transport"] == "tcp"
    if is_tls and match["transport"] == "udp":
        return None  # TLS over UDP is not to be had
    return (not is_tls, not is_tcp)
