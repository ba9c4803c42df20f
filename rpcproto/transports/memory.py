"""A room inside one process: what LiveKit's server does for RPC, and nothing else."""

import itertools
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, TypeAlias

import anyio
import anyio.lowlevel

from rpcproto.core.errors import require_finite
from rpcproto.core.messages import OutgoingPacket
from rpcproto.transports import (
    BATCH_BYTES,
    BATCH_EVENTS,
    HIGH_WATER_MARK,
    OUR_CAPABILITIES,
    OUR_CLIENT_PROTOCOL,
    Connected,
    Disconnected,
    PacketReceived,
    ParticipantJoined,
    ParticipantLeft,
    TransportEvent,
)
from rpcproto.transports.waking import Waker


class Carried(NamedTuple):
    """A packet that came to the room; `delivered` is False where nobody was there for it."""

    sender_identity: str
    packet: OutgoingPacket
    delivered: bool


RoomObserver: TypeAlias = Callable[[Carried | ParticipantJoined | ParticipantLeft], None]


class MemoryRoom:
    """Routes packets by destination identity and announces who comes and goes.

    Like the server it never echoes, drops in silence what is for nobody, tells everyone the true
    sender with a sid of its own making (`PA_1`, `PA_2`, ...), and puts out whoever was here under
    an identity that joins again. The list of participants is complete (R12). A plain object of one
    event loop, asyncio's or trio's, with no limit to what waits for a participant that does not
    read.

    `latency` is the way from one participant to another, in seconds on the event loop's clock;
    `observe` is called with all that happens, as it happens. Raises LocalProtocolError for a
    latency that is not finite.
    """

    def __init__(self, *, latency: float = 0.0, observe: RoomObserver | None = None) -> None:
        self._latency = require_finite(latency, "latency")
        self._observe = observe
        self._members: dict[str, MemoryTransport] = {}
        self._numbers = itertools.count(1)

    def join(
        self,
        identity: str,
        *,
        client_protocol: int = OUR_CLIENT_PROTOCOL,
        capabilities: Collection[int] = OUR_CAPABILITIES,
    ) -> "MemoryTransport":
        """Come in under `identity`; what is returned is the participant's transport."""
        previous = self._members.get(identity)
        if previous is not None:
            previous.put_out()
        arrival = ParticipantJoined(
            identity, f"PA_{next(self._numbers)}", client_protocol, tuple(capabilities)
        )
        transport = MemoryTransport(self, arrival)
        for member in self._members.values():
            transport.deliver(member.arrival)
        transport.deliver(Connected(participants_complete=True))
        self._announce(arrival)
        self._members[identity] = transport
        return transport

    def leave(self, transport: "MemoryTransport") -> None:
        """Take a participant out; one that is not here any more is left so."""
        identity, sid = transport.arrival.identity, transport.arrival.participant_sid
        if self._members.get(identity) is transport:
            del self._members[identity]
            self._announce(ParticipantLeft(identity, sid))

    def carry(self, sender: "MemoryTransport", packet: OutgoingPacket) -> None:
        """Bring a packet to its destination, if that is somebody else who is here."""
        identity, sid = sender.arrival.identity, sender.arrival.participant_sid
        if self._members.get(identity) is not sender:
            raise ConnectionError(f"{identity!r} is not in the room any more")
        receiver = self._members.get(packet.destination_identity)
        delivered = receiver is not None and receiver is not sender
        if self._observe is not None:
            self._observe(Carried(identity, packet, delivered))
        if receiver is not None and delivered:
            receiver.deliver(PacketReceived(packet.data, identity, sid), self._latency)

    def _announce(self, event: ParticipantJoined | ParticipantLeft) -> None:
        if self._observe is not None:
            self._observe(event)
        for member in self._members.values():
            member.deliver(event, self._latency)


class MemoryTransport:
    """One participant's place in a `MemoryRoom`; see `Transport`."""

    departure_grace = 0.0

    def __init__(self, room: MemoryRoom, arrival: ParticipantJoined) -> None:
        """Made by `MemoryRoom.join`; `arrival` is how the participant was announced."""
        self.arrival = arrival
        self._room = room
        self._events: deque[tuple[float, TransportEvent]] = deque()
        self._waker = Waker()
        self._is_closed = False

    @property
    def identity(self) -> str:
        """The identity that the participant joined with."""
        return self.arrival.identity

    def deliver(self, event: TransportEvent, latency: float = 0.0) -> None:
        """For the room: report `event` to the participant, `latency` seconds from now."""
        due = anyio.current_time() + latency if latency > 0 else 0.0
        self._events.append((due, event))
        self._waker.wake()

    def put_out(self) -> None:
        """For the room: another participant has this identity now, and this is the end."""
        self._room.leave(self)
        self.deliver(Disconnected(ConnectionError(f"{self.identity!r} joined again")))
        self._is_closed = True

    async def send(self, take: Callable[[], OutgoingPacket | None]) -> None:
        """Hand packets to the room; raises ConnectionError when not in it any more."""
        unseen = 0
        while (packet := take()) is not None:
            self._room.carry(self, packet)
            unseen += len(packet.data)
            if unseen >= HIGH_WATER_MARK:
                await anyio.lowlevel.checkpoint()
                return

    async def receive(self) -> Sequence[TransportEvent]:
        """See `Transport`."""
        if self._events and self._events[0][0] <= 0.0:
            await anyio.lowlevel.checkpoint()
        while not self._events:
            if self._is_closed:
                return ()
            await self._waker.wait()
        if self._events[0][0] > 0.0:
            await anyio.sleep_until(self._events[0][0])
        return self._take_batch()

    def _take_batch(self) -> Sequence[TransportEvent]:
        """What is due, within the bounds of a batch."""
        batch: list[TransportEvent] = []
        events, size = self._events, 0
        now = anyio.current_time() if events[0][0] > 0.0 else 0.0
        while events and events[0][0] <= now and len(batch) < BATCH_EVENTS:
            event = events[0][1]
            if isinstance(event, PacketReceived):
                size += len(event.data)
                if size > BATCH_BYTES and batch:
                    break
            batch.append(event)
            del events[0]
        return batch

    def take_welcome(self) -> Sequence[ParticipantJoined | ParticipantLeft]:
        """See `WelcomingTransport`."""
        welcome, rest = [], deque[tuple[float, TransportEvent]]()
        while self._events and not isinstance(self._events[0][1], PacketReceived):
            due, event = self._events.popleft()
            if due == 0.0 and isinstance(event, ParticipantJoined | ParticipantLeft):
                welcome.append(event)
            else:
                rest.append((due, event))
        self._events = rest + self._events
        return welcome

    async def aclose(self) -> None:
        """Leave the room; what has come in may still be read."""
        self._room.leave(self)
        self._is_closed = True
        self._waker.wake()
        await anyio.lowlevel.checkpoint()
