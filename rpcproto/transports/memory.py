"""A room inside one process, which routes packets as LiveKit's server does. Needs the extra
`anyio`."""

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from random import Random
from typing import TypeAlias, final

from rpcproto.core.errors import LocalProtocolError
from rpcproto.core.messages import OutgoingPacket
from rpcproto.extras import extra
from rpcproto.transports import (
    HIGH_WATER_MARK,
    OUR_CAPABILITIES,
    OUR_CLIENT_PROTOCOL,
    Connected,
    Disconnected,
    PacketReceived,
    PacketsNotSent,
    ParticipantJoined,
    ParticipantLeft,
    TransportEvent,
)
from rpcproto.transports.batches import take_batch, take_welcome
from rpcproto.transports.links import Fate, Link, Links, SentPacket

with extra("anyio", __name__):
    import anyio
    import anyio.lowlevel

    from rpcproto.transports.waking import Waker

__all__ = ["MemoryRoom", "MemoryTransport", "RoomObserver"]


RoomObserver: TypeAlias = Callable[[SentPacket | ParticipantJoined | ParticipantLeft], None]
"""A function that `MemoryRoom` calls with each packet and each announcement."""


@final
class MemoryRoom:
    """Routes packets by destination identity, and announces joins and departures.

    Like LiveKit's server, it never sends a packet back to its sender, silently drops packets to
    unknown identities, names the true sender of each packet with a sid (`PA_1`, `PA_2`, ...), and
    disconnects a participant when another one joins under its identity. The list of participants is
    complete (R12).

    The room belongs to one event loop, of asyncio or trio. Durations and instants are in seconds on
    the loop's clock, which can be virtual. The queue of events for a participant that does not read
    is not limited.
    """

    def __init__(
        self,
        *,
        link: Link = Link(),  # noqa: B008 (frozen)
        seed: int = 0,
        observe: RoomObserver | None = None,
    ) -> None:
        """Use `link` in every direction, until `set_link` changes a direction.

        Random decisions come from `seed`, separately for each direction: the same packets at the
        same instants have the same fate. Announcements take the latency and jitter of the
        direction, and are neither lost nor held back. The announcement that a participant left
        arrives after all its packets, except those that the link holds back or duplicates.

        `observe` is called with every packet when it is sent, and with every announcement. The fate
        and the arrivals of a packet are added to the same object later.
        """
        self._links = Links(link, lambda *ends: Random(f"{seed} {ends}"))
        self._is_direct = link == Link() and observe is None
        """Whether packets need no link, and nobody looks at them."""
        self._observe = observe
        self._members: dict[str, MemoryTransport] = {}
        """All that joined and did not leave, connected or not, by identity."""
        self._numbers = itertools.count(1)

    # participants

    def join(
        self,
        identity: str,
        *,
        client_protocol: int = OUR_CLIENT_PROTOCOL,
        capabilities: Collection[int] = OUR_CAPABILITIES,
    ) -> "MemoryTransport":
        """Join under `identity`, and return the participant's transport."""
        previous = self._members.get(identity)
        if previous is not None:
            previous.put_out(f"{identity!r} joined again")
        arrival = ParticipantJoined(identity, self._new_sid(), client_protocol, tuple(capabilities))
        transport = self._members[identity] = MemoryTransport(self, arrival)
        self._welcome(transport)
        self._announce(transport, arrival)
        return transport

    def cut(self, identity: str, *, noticed: bool = True) -> None:
        """Break the connection of a participant, and lose all packets in flight to it.

        Its transport reports `Disconnected`. If `noticed` is true, in this call or in a later one,
        the room announces to the others that the participant left.

        Raises:
            LocalProtocolError: The participant is not in the room.
        """
        transport = self._member(identity)
        if transport.is_connected:
            transport.lose_connection(ConnectionError("the connection was cut"))
        if noticed and transport.is_announced:
            transport.is_announced = False
            self._announce(transport, ParticipantLeft(identity, transport.arrival.participant_sid))

    def come_back(self, identity: str) -> None:
        """Reconnect a participant that was cut.

        It has a new sid, unless the cut was not noticed. If it is connected, nothing happens.

        Raises:
            LocalProtocolError: The participant is not in the room.
        """
        transport = self._member(identity)
        if transport.is_connected:
            return
        self._welcome(transport)
        if not transport.is_announced:
            transport.is_announced = True
            transport.arrival = replace(transport.arrival, participant_sid=self._new_sid())
            self._announce(transport, transport.arrival)

    def leave(self, transport: "MemoryTransport") -> None:
        """For the transport: remove a participant from the room, unless it has left already."""
        identity, sid = transport.arrival.identity, transport.arrival.participant_sid
        if self._members.get(identity) is transport:
            del self._members[identity]
            if transport.is_announced:
                self._announce(transport, ParticipantLeft(identity, sid))

    # the network

    def set_link(
        self, link: Link, *, sender: str | None = None, receiver: str | None = None
    ) -> None:
        """Use `link` from now on for packets from `sender` to `receiver`. None stands for every
        participant. Packets in flight are not affected."""
        self._links.set_link(link, sender, receiver)
        self._is_direct = False

    def heal(self) -> None:
        """Stop losing, duplicating and holding back packets, and reconnect all participants that
        were cut."""
        self._links.heal()
        for identity in tuple(self._members):
            self.come_back(identity)

    def longest_straggling(self, receiver: str) -> float:
        """Return the number of seconds by which a packet to `receiver` can be held back, as the
        links are now."""
        return self._links.longest_straggling(receiver)

    def carry(self, sender: "MemoryTransport", packet: OutgoingPacket) -> bool:
        """For the transport: deliver a packet to its destination, if that is another participant
        in the room. Return whether it could be sent. Raise ConnectionError if the sender has left.
        """
        receiver = self._members.get(packet.destination_identity)
        if self._is_direct and sender.is_connected:
            if receiver is not None and receiver is not sender and receiver.is_connected:
                identity, sid = sender.arrival.identity, sender.arrival.participant_sid
                receiver.deliver(PacketReceived(packet.data, identity, sid))
            return True
        return self._carry_by_link(sender, receiver, packet)

    # within

    def _carry_by_link(
        self, sender: "MemoryTransport", receiver: "MemoryTransport | None", packet: OutgoingPacket
    ) -> bool:
        identity, sid = sender.arrival.identity, sender.arrival.participant_sid
        if self._members.get(identity) is not sender:
            raise ConnectionError(f"{identity!r} is no longer in the room")
        sent = SentPacket(
            anyio.current_time(),
            identity,
            sid,
            packet.destination_identity,
            packet.data,
            packet.request_id,
            packet.kind,
        )
        way = self._links.way(identity, packet.destination_identity)
        if not sender.is_connected:
            sent.fate = Fate.LOST
        elif way.fails():
            sent.fate = Fate.NOT_SENT
        elif receiver is None or receiver is sender or not receiver.is_connected:
            sent.fate = Fate.LOST
        else:
            for at in way.arrivals(sent):
                receiver.deliver_at(at, PacketReceived(packet.data, identity, sid), sent)
        if self._observe is not None:
            self._observe(sent)
        return sent.fate is not Fate.NOT_SENT

    def _member(self, identity: str) -> "MemoryTransport":
        try:
            return self._members[identity]
        except KeyError:
            raise LocalProtocolError(f"no participant {identity!r} is in the room") from None

    def _new_sid(self) -> str:
        return f"PA_{next(self._numbers)}"

    def _welcome(self, transport: "MemoryTransport") -> None:
        """Tell a participant that it is connected, and who is here."""
        transport.is_connected = True
        for member in self._members.values():
            if member is not transport and member.is_announced:
                transport.deliver(member.arrival)
        transport.deliver(Connected(participants_complete=True))

    def _announce(
        self, about: "MemoryTransport", event: ParticipantJoined | ParticipantLeft
    ) -> None:
        if self._observe is not None:
            self._observe(event)
        for identity, member in self._members.items():
            if member is about or not member.is_connected:
                continue
            if self._is_direct:
                member.deliver(event)
            else:
                way = self._links.way(event.identity, identity)
                member.deliver_at(way.take_turn(anyio.current_time()), event)


class MemoryTransport:
    """The transport of a participant in a `MemoryRoom`. See `Transport`."""

    def __init__(self, room: MemoryRoom, arrival: ParticipantJoined) -> None:
        """Made by `MemoryRoom.join`. `arrival` is the announcement of the participant."""
        self.arrival: ParticipantJoined = arrival
        self.is_connected: bool = False
        self.is_announced: bool = True
        """Whether its join was announced to the others, and its departure was not."""
        self._room = room
        self._events: deque[TransportEvent] = deque()
        """What has arrived."""
        self._under_way: list[tuple[float, int, TransportEvent, SentPacket | None]] = []
        """What arrives later: when, and in which order."""
        self._numbers = itertools.count()
        self._waker = Waker()
        self._is_closed = False

    @property
    def identity(self) -> str:
        """The identity with which the participant joined."""
        return self.arrival.identity

    @property
    def departure_grace(self) -> float:
        """The number of seconds by which a link to this participant can hold packets back. 0 if no
        link reorders packets."""
        return self._room.longest_straggling(self.identity)

    # for the room

    def deliver(self, event: TransportEvent) -> None:
        """For the room: report `event` to the participant."""
        self._events.append(event)
        self._waker.wake()

    def deliver_at(self, at: float, event: TransportEvent, sent: SentPacket | None = None) -> None:
        """For the room: report `event` at the instant `at`, and record that in `sent`."""
        heapq.heappush(self._under_way, (at, next(self._numbers), event, sent))
        self._waker.wake()

    def lose_connection(self, cause: ConnectionError) -> None:
        """For the room: report that the connection is lost."""
        self._lose_all_under_way()
        self.deliver(Disconnected(cause))

    def put_out(self, why: str) -> None:
        """For the room: remove the participant, which cannot come back."""
        self._room.leave(self)
        self.lose_connection(ConnectionError(why))
        self._is_closed = True

    # see `Transport`

    async def send(self, take: Callable[[], OutgoingPacket | None]) -> None:
        """See `Transport`.

        Raises:
            ConnectionError: The participant is no longer in the room.
        """
        carry, unseen = self._room.carry, 0
        failed: list[OutgoingPacket] = []
        while unseen < HIGH_WATER_MARK and (packet := take()) is not None:
            if not carry(self, packet):
                failed.append(packet)
            unseen += len(packet.data)
        if unseen >= HIGH_WATER_MARK:
            await anyio.lowlevel.checkpoint()
        if failed:
            raise PacketsNotSent(failed, "the link failed")

    async def receive(self) -> Sequence[TransportEvent]:
        """See `Transport`."""
        gives_turn = False
        while not self._has_arrived():
            if self._is_closed:
                return ()
            if self._under_way:
                with anyio.CancelScope(deadline=self._under_way[0][0]):
                    await self._waker.wait()
            else:
                await self._waker.wait()
            gives_turn = True
        if not gives_turn:
            await anyio.lowlevel.checkpoint()
        return take_batch(self._events)

    def take_welcome(self) -> Sequence[ParticipantJoined | ParticipantLeft]:
        """See `WelcomingTransport`."""
        return take_welcome(self._events)

    async def aclose(self) -> None:
        """Leave the room. Events that have arrived can still be received."""
        self._room.leave(self)
        self._lose_all_under_way()
        self._is_closed = True
        self._waker.wake()
        await anyio.lowlevel.checkpoint()

    # within

    def _has_arrived(self) -> bool:
        """Whether there is anything to report, now."""
        if self._under_way:
            self._note_arrivals(anyio.current_time())
        return bool(self._events)

    def _note_arrivals(self, now: float) -> None:
        under_way = self._under_way
        while under_way and under_way[0][0] <= now:
            _, _, event, sent = heapq.heappop(under_way)
            self._events.append(event)
            if sent is not None:
                sent.arrived_at.append(now)

    def _lose_all_under_way(self) -> None:
        self.is_connected = False
        for _, _, _, sent in self._under_way:
            if sent is not None and not sent.arrived_at:
                sent.fate = Fate.LOST
        self._under_way.clear()
