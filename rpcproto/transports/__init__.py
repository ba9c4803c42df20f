"""The interface between hosts and transports."""

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
"""The `client_protocol` that a participant announces by default (2: inline streams)."""
OUR_CAPABILITIES: Final = (DEFLATE_CAPABILITY,)
"""The capabilities that a participant announces by default: all that the engine has."""

BATCH_EVENTS: Final = 64
"""The maximum number of events that one `Transport.receive` returns."""
BATCH_BYTES: Final = 262_144
"""The maximum size of all packets that one `Transport.receive` returns, in bytes."""
HIGH_WATER_MARK: Final = 65_536
"""The number of bytes in its send buffer at which a transport stops taking packets."""


@final
@dataclass(frozen=True, slots=True)
class PacketReceived:
    """A packet arrived.

    If the transport knows the sender, it names it, with the sender's sid if there is one (R36).
    If `sender_identity` is None, the engine uses the sender fields of the packet.
    """

    data: bytes
    sender_identity: str | None = None
    sender_sid: str | None = None


@final
@dataclass(frozen=True, slots=True)
class ParticipantJoined:
    """Another participant joined, or its announcement changed (R40). The fields are the arguments
    of `RpcEngine.participant_joined`."""

    identity: str
    participant_sid: str = ""
    client_protocol: int = 0
    capabilities: tuple[int, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class ParticipantLeft:
    """Another participant left. An empty `participant_sid` means the current participant with that
    identity."""

    identity: str
    participant_sid: str = ""


@final
@dataclass(frozen=True, slots=True)
class Connected:
    """The connection is established, for the first time or again.

    Every transport reports this when it can carry packets, after it has reported the present
    participants. Calls wait for the first one. `participants_complete` means that all
    participants of the room were reported (R12).
    """

    server_version: str | None = None
    participants_complete: bool = False


@final
@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is lost, and all participants count as departed (R41). `Connected` can
    follow."""

    cause: BaseException | None = None


TransportEvent: TypeAlias = (
    PacketReceived | ParticipantJoined | ParticipantLeft | Connected | Disconnected
)
"""An event that a transport reports."""


class PacketsNotSent(Exception):  # noqa: N818 (what happened, not an error of the program)
    """Some packets could not be sent, but the connection still exists (R10)."""

    def __init__(self, packets: Sequence[OutgoingPacket], reason: str = "") -> None:
        """Take the packets that failed, and a reason for the log."""
        super().__init__(packets, reason)
        self.packets: tuple[OutgoingPacket, ...] = tuple(packets)
        self.reason: str = reason

    def __str__(self) -> str:
        return self.reason or f"{len(self.packets)} packets could not be sent"


class Transport(Protocol):
    """Carries packets for one participant.

    A host has one task that sends and one that receives. If `send` raises, except `PacketsNotSent`,
    the connection is lost. The host keeps calling `receive`, which can return `Connected` when the
    connection is restored. If `receive` raises, the transport has ended, and the host does not call
    it again. To report a connection that can be restored, return `Disconnected` instead.
    """

    @property
    def identity(self) -> str:
        """The identity of the participant for which this transport carries packets."""

    @property
    def departure_grace(self) -> float:
        """The number of seconds by which a `ParticipantLeft` can overtake packets that the
        participant sent before (R9). 0 if it can't."""

    async def send(self, take: Callable[[], OutgoingPacket | None]) -> None:
        """Send packets, each to its `destination_identity`, in the order of `take`.

        Wait until the send buffer has room. Then take packets until `take` returns None, or until
        the buffer holds HIGH_WATER_MARK bytes. The host calls `send` again while there are more
        packets; after 64 calls in a row that took none, it treats the connection as lost. If a
        packet can't be sent, continue with the others, and raise `PacketsNotSent` at the end.
        """

    async def receive(self) -> Sequence[TransportEvent]:
        """Return events in order: at least one, at most BATCH_EVENTS events or BATCH_BYTES of
        packets (a larger packet comes alone). An empty sequence is the end.

        Each call yields to other tasks, even if events wait already. It also yields while it
        processes received bytes that result in no event.
        """

    async def aclose(self) -> None:
        """Release all resources. A host calls this once, and cancels the call at most one second
        after leaving began."""


@runtime_checkable
class WelcomingTransport(Protocol):
    """A `Transport` that knows the present participants before its first `receive`."""

    def take_welcome(self) -> Sequence[ParticipantJoined | ParticipantLeft]:
        """Return the joins and departures that the transport has seen before the first packet.

        A host calls this once, on entering. `receive` returns all later events, including
        `Connected`.
        """


@runtime_checkable
class ExplainingTransport(Protocol):
    """A `Transport` that may know why a call was not acknowledged."""

    def explain(self, identity: str, since: float) -> Exception | None:
        """Return the probable reason why a call to `identity` was not acknowledged (1501), or None.

        `since` is the instant of the call on the host's clock. The reason becomes the `__cause__`
        of the error.
        """
