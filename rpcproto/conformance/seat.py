"""A place in a room of the test server for an engine in the server's own process."""

import asyncio
from collections.abc import Callable, Collection, Sequence

from livekit.protocol.models import DisconnectReason, ParticipantInfo

from rpcproto import OutgoingPacket, stamp
from rpcproto.conformance.routing import Room, info_of
from rpcproto.transports import (
    OUR_CAPABILITIES,
    OUR_CLIENT_PROTOCOL,
    Connected,
    Disconnected,
    PacketReceived,
    ParticipantJoined,
    ParticipantLeft,
    TransportEvent,
)


class Seat:
    """A `Transport` without any network, for `RpcParticipant`; the rest of the room is real."""

    departure_grace: float = 2.0

    def __init__(
        self,
        room: Room,
        identity: str,
        *,
        client_protocol: int = OUR_CLIENT_PROTOCOL,
        capabilities: Collection[int] = OUR_CAPABILITIES,
    ) -> None:
        self.info: ParticipantInfo = info_of(
            identity, room.new_sid(), client_protocol, capabilities
        )
        self.identity = identity
        self._room = room
        self._sequence = 0
        self._events: asyncio.Queue[TransportEvent | None] = asyncio.Queue()
        for info in room.others(identity):
            self.take_update(info)
        self._events.put_nowait(Connected())
        room.join(self)

    # for the room

    def take_packet(self, data: bytes) -> None:
        self._events.put_nowait(PacketReceived(data))

    def take_update(self, info: ParticipantInfo) -> None:
        if info.state == ParticipantInfo.DISCONNECTED:
            self._events.put_nowait(ParticipantLeft(info.identity, info.sid))
        elif info.state == ParticipantInfo.ACTIVE:
            capabilities = tuple(info.capabilities)
            self._events.put_nowait(
                ParticipantJoined(info.identity, info.sid, info.client_protocol, capabilities)
            )

    def put_out(self, reason: DisconnectReason) -> None:
        self._events.put_nowait(Disconnected(ConnectionError(DisconnectReason.Name(reason))))
        self._events.put_nowait(None)

    # for the host

    async def send(self, take: Callable[[], OutgoingPacket | None]) -> None:
        while (packet := take()) is not None:
            self._sequence += 1
            self._room.carry(self, stamp(packet.data, sequence=self._sequence))
            await asyncio.sleep(0)  # a long body lets others have their turn

    async def receive(self) -> Sequence[TransportEvent]:
        event = await self._events.get()
        return [] if event is None else [event]

    async def aclose(self) -> None:
        self._room.leave(self)
        self._events.put_nowait(None)
