"""What leaves next: small packets in the order in which they were made (R30)."""

from collections import deque
from typing import Final

from rpcproto.core import wire
from rpcproto.core.messages import (
    Ack,
    ErrorResponse,
    OutgoingMessage,
    OutgoingPacket,
    PacketKind,
    Request,
    Response,
)

_KINDS: Final[dict[type[OutgoingMessage], PacketKind]] = {
    Request: PacketKind.REQUEST,
    Ack: PacketKind.ACK,
    Response: PacketKind.RESPONSE,
    ErrorResponse: PacketKind.ERROR,
}


class Outbox:
    """Packets that wait until the host takes them."""

    def __init__(self, identity: str, max_packets: int) -> None:
        self._identity = identity
        self._max_packets = max_packets
        self._small: deque[OutgoingPacket] = deque()
        self.waiting_bytes = 0
        self.packets_out = 0

    def __len__(self) -> int:
        return len(self._small)

    @property
    def is_full(self) -> bool:
        """Whether requests are turned away until the host has taken something."""
        return len(self._small) >= self._max_packets

    def send(self, message: OutgoingMessage, destination_identity: str, token: int = 0) -> None:
        """Queue a small packet; `token` names what fails if it cannot be sent (R10)."""
        data = wire.encode(message, self._identity, destination_identity)
        self.waiting_bytes += len(data)
        self._small.append(
            OutgoingPacket(
                data, destination_identity, message.request_id, _KINDS[type(message)], token
            )
        )

    def take(self) -> OutgoingPacket | None:
        """The packet that leaves next."""
        if not self._small:
            return None
        packet = self._small.popleft()
        self.waiting_bytes -= len(packet.data)
        self.packets_out += 1
        return packet

    def clear(self) -> None:
        """Drop everything: the connection is lost (R41)."""
        self._small.clear()
        self.waiting_bytes = 0
