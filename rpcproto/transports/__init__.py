"""Ways to carry packets: what a host asks of a transport, and what a transport reports to it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, final, runtime_checkable

from rpcproto.core.messages import OutgoingPacket
from rpcproto.core.roster import DEFLATE_CAPABILITY, INLINE_PROTOCOL

__all__ = [
    "BATCH_BYTES",
    "BATCH_EVENTS",
    "HIGH_WATER_MARK",
    "OUR_CAPABILITIES",
    "OUR_CLIENT_PROTOCOL",
    "Connected",
    "Disconnected",
    "ExplainingTransport",
    "PacketReceived",
    "PacketsNotSent",
    "ParticipantJoined",
    "ParticipantLeft",
    "Transport",
    "TransportEvent",
    "WelcomingTransport",
]


OUR_CLIENT_PROTOCOL: Final = INLINE_PROTOCOL
"""The `client_protocol` that a participant announces unless told otherwise."""
OUR_CAPABILITIES: Final = (DEFLATE_CAPABILITY,)
"""The capabilities that a participant announces unless told otherwise: all that the engine has."""

BATCH_EVENTS: Final = 64
"""The maximum number of events that one `Transport.receive` returns."""
BATCH_BYTES: Final = 262_144
"""The maximum size of all packets that one `Transport.receive` returns, in bytes."""
HIGH_WATER_MARK: Final = 65_536
"""A transport takes no more packets while it holds this many bytes."""


@final
@dataclass(frozen=True, slots=True)
class PacketReceived:
    """A packet arrived.

    A transport that knows the sender names it, with the sender's sid if there is one (R36); with
    None the packet's own claims count.
    """

    data: bytes
    sender_identity: str | None = None
    sender_sid: str | None = None


@final
@dataclass(frozen=True, slots=True)
class ParticipantJoined:
    """Another participant is here, or something new is known of one that is (R40)."""

    identity: str
    participant_sid: str = ""
    client_protocol: int = 0
    capabilities: tuple[int, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class ParticipantLeft:
    """Another participant left; an empty `participant_sid` means whoever has that identity."""

    identity: str
    participant_sid: str = ""


@final
@dataclass(frozen=True, slots=True)
class Connected:
    """The connection is established, for the first time or again.

    Every transport reports this once it carries packets, after it has reported who is here: calls
    wait for it. `participants_complete` says that whoever was not announced is not here (R12).
    """

    server_version: str | None = None
    participants_complete: bool = False


@final
@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is lost, and all participants count as departed (R41); `Connected` may
    follow."""

    cause: BaseException | None = None


TransportEvent: TypeAlias = (
    PacketReceived | ParticipantJoined | ParticipantLeft | Connected | Disconnected
)
"""What a transport reports."""


class PacketsNotSent(Exception):  # noqa: N818 (what happened, not an error of the program)
    """Some packets could not be sent, but the connection stands (R10)."""

    def __init__(self, packets: Sequence[OutgoingPacket], reason: str = "") -> None:
        """`packets` are those that failed, as they were taken; `reason` is for the log."""
        super().__init__(packets, reason)
        self.packets: tuple[OutgoingPacket, ...] = tuple(packets)
        self.reason: str = reason

    def __str__(self) -> str:
        return self.reason or f"{len(self.packets)} packets could not be sent"


class Transport(Protocol):
    """Carries packets for one participant.

    A host has one task that sends and one that receives. An exception from either, except
    `PacketsNotSent`, means that the connection is lost. While `receive` can still be called,
    `Connected` may restore the connection.
    """

    @property
    def identity(self) -> str:
        """The identity of the participant that this transport carries packets for."""

    @property
    def departure_grace(self) -> float:
        """For how long a `ParticipantLeft` can overtake packets that the participant sent before,
        in seconds (R9); 0 where it cannot."""

    async def send(self, take: Callable[[], OutgoingPacket | None]) -> None:
        """Send packets, each to its `destination_identity`, in the order of `take`.

        Wait until there is room; then take packets until `take` returns None, or until
        HIGH_WATER_MARK bytes wait here. The host calls `send` again while there are more packets.
        A packet that fails by itself does not stop those after it: raise PacketsNotSent at the end.
        """

    async def receive(self) -> Sequence[TransportEvent]:
        """Return what has happened, in order: at least one event, at most BATCH_EVENTS events or
        BATCH_BYTES of packets (one larger packet comes by itself). An empty sequence is the end.

        Each call gives the other tasks of the program their turn, also if events wait already, and
        so does any work on received bytes that yields no event.
        """

    async def aclose(self) -> None:
        """Release everything. A host calls it once, and waits at most a second in all."""


@runtime_checkable
class WelcomingTransport(Protocol):
    """A `Transport` that knows already, before its first `receive`, who is here."""

    def take_welcome(self) -> Sequence[ParticipantJoined | ParticipantLeft]:
        """Return who has joined and left so far, up to the first packet; a host calls it once, on
        entering. `receive` goes on with all the rest, `Connected` included."""


@runtime_checkable
class ExplainingTransport(Protocol):
    """A `Transport` that may know why a call got no acknowledgement."""

    def explain(self, identity: str, since: float) -> Exception | None:
        """Return why a call to `identity`, made at `since` on the host's clock, may have got no
        acknowledgement (1501), if that is known: the cause of its error."""
