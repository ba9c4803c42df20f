"""The connection of a host under test, as most transports have it: events come by callback."""

from collections.abc import Callable, Sequence
from typing import final

from rpcproto.core.messages import OutgoingPacket, PacketKind
from rpcproto.testing.hosts.clock import VirtualClock
from rpcproto.transports import PacketsNotSent, TransportEvent


@final
class Channel:
    """The host's end of the connection to its peer.

    The driver sets `on_events`, and `on_room` if the host needs to know when it can send again.
    """

    def __init__(self, clock: VirtualClock, departure_grace: float = 0.0) -> None:
        self.departure_grace: float = departure_grace
        """The number of seconds by which a departure can overtake packets; see `Transport`."""
        self.on_events: Callable[[Sequence[TransportEvent]], object] = lambda events: None
        """Called with events, in order; possibly within `send`."""
        self.on_room: Callable[[], object] = lambda: None
        """Called when the host can send again."""
        self.is_full: bool = False
        self.seconds_per_packet: float = 0.0
        self.broken_by: Exception | None = None
        self.unsent_kinds: frozenset[PacketKind] = frozenset()
        """Packets of these kinds are not sent, `unsent` times."""
        self.unsent: int = 0
        self.sent: list[OutgoingPacket] = []
        self.misuse: list[str] = []
        """Violations by the host: sending after `close`, or while it is full."""
        self.times_closed: int = 0
        self.carry: Callable[[OutgoingPacket], object] = lambda packet: None
        self.reported: Callable[[], object] = lambda: None
        """For the kit: called when events have been reported."""
        self._clock = clock
        self._busy_until = 0.0

    def has_room(self) -> bool:
        """Whether a packet can be sent now."""
        return not self.is_full and self._clock.time() >= self._busy_until

    def send(self, packet: OutgoingPacket) -> None:
        """Send a packet.

        Raises:
            PacketsNotSent: This packet can't be sent.
            Exception: The connection is broken.
        """
        if self.times_closed:
            self.misuse.append("sent a packet after closing the channel")
        if self.broken_by is not None:
            raise self.broken_by.with_traceback(None)
        if not self.has_room():
            self.misuse.append("sent a packet although there was no room")
        if packet.kind in self.unsent_kinds and self.unsent:
            self.unsent -= 1
            raise PacketsNotSent([packet])
        self.sent.append(packet)
        if self.seconds_per_packet:
            self._busy_until = self._clock.time() + self.seconds_per_packet
            self._clock.schedule(self.seconds_per_packet, self.report_room)
        self.carry(packet)

    def report(self, events: Sequence[TransportEvent]) -> None:
        """For the kit: report events to the host, now."""
        with self._clock.reporting():
            self.on_events(events)
        self.reported()

    def report_room(self) -> None:
        """For the kit: call `on_room` if a packet can be sent."""
        if self.has_room():
            with self._clock.reporting():
                self.on_room()

    def close(self) -> None:
        """Close the channel; to be called once."""
        self.times_closed += 1
