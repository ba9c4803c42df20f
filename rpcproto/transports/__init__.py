"""Ways to carry packets: what a host asks of a transport, and what a transport tells it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from rpcproto.core.messages import OutgoingPacket
from rpcproto.core.roster import DEFLATE_CAPABILITY, INLINE_PROTOCOL

OUR_CLIENT_PROTOCOL: Final = INLINE_PROTOCOL
OUR_CAPABILITIES: Final = (DEFLATE_CAPABILITY,)
"""What a participant is announced with unless it says otherwise: all that our engine reads."""


@dataclass(frozen=True, slots=True)
class PacketReceived:
    """A packet arrived.

    A transport that knows who sent it says so, with the sender's sid if there is one (R36);
    with None the packet's own claims count.
    """

    data: bytes
    sender_identity: str | None = None
    sender_sid: str | None = None


@dataclass(frozen=True, slots=True)
class ParticipantJoined:
    """Somebody else is here, or something new is known of somebody who is (R40)."""

    identity: str
    sid: str = ""
    client_protocol: int = 0
    capabilities: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ParticipantLeft:
    """Somebody else is gone; an empty sid means whoever has that identity."""

    identity: str
    sid: str = ""


@dataclass(frozen=True, slots=True)
class Connected:
    """The connection is there, or there again.

    Every transport says so once it carries packets, and tells who is here already before that:
    calls wait for it. `participants_complete` says that whoever was not announced is not here
    (R12).
    """

    server_version: str | None = None
    participants_complete: bool = False


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is lost, and with it everyone (R41); `Connected` may follow."""

    cause: BaseException | None = None


TransportEvent: TypeAlias = (
    PacketReceived | ParticipantJoined | ParticipantLeft | Connected | Disconnected
)


class PacketNotSent(Exception):  # noqa: N818 (what happened, not an error of the program)
    """This one packet could not be sent, but the connection stands (R10)."""


class Transport(Protocol):
    """Carries packets for one participant.

    A host has one task that sends and one that iterates, once, from beginning to end. The end of
    the iteration and any exception but `PacketNotSent` mean that the connection is lost; while the
    iteration goes on, `Connected` may bring it back.
    """

    async def send(self, packet: OutgoingPacket) -> None:
        """Send `packet.data` to `packet.destination_identity`, in order; wait while there is no
        room. Raises PacketNotSent where only this packet is concerned."""

    def __aiter__(self) -> AsyncIterator[TransportEvent]:
        """What happens, in order."""

    async def aclose(self) -> None:
        """Let go of everything. A host calls it once, and waits at most a second in all."""
