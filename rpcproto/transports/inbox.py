"""A bounded queue of events between a transport and its host. For asyncio."""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, final

from rpcproto.logs import SeldomLogged
from rpcproto.transports import (
    Connected,
    Disconnected,
    PacketReceived,
    ParticipantJoined,
    ParticipantLeft,
    TransportEvent,
)
from rpcproto.transports.batches import take_batch, take_welcome

__all__ = ["MAX_WAITING_BYTES", "MAX_WAITING_EVENTS", "Inbox"]


MAX_WAITING_BYTES: Final = 32 << 20
"""The maximum size of the packets that wait for a host that does not read, in bytes. Further
packets are dropped."""
MAX_WAITING_EVENTS: Final = 20_000
"""The maximum number of events that wait for a host that does not read. Further packets are
dropped."""
SHARE: Final = 1 / 2
"""The part of both that one sender may hold."""
RESERVE: Final = 1 / 8
"""The last part of both, which is for senders that hold less than SMALL_SHARE."""
SMALL_SHARE: Final = 1 / 64


class _Held:
    """What waits in all, or of one sender."""

    __slots__ = ("events", "size")

    def __init__(self) -> None:
        self.events = 0
        self.size = 0
        """Bytes of packets."""

    def add(self, event: TransportEvent, sign: int = 1) -> None:
        self.events += sign
        if isinstance(event, PacketReceived):
            self.size += sign * len(event.data)

    @property
    def part(self) -> float:
        """Of what may wait; 1 and above means that it is used up."""
        return max(self.events / MAX_WAITING_EVENTS, self.size / MAX_WAITING_BYTES)


_NOTHING: Final = _Held()


@final
class Inbox:
    """A queue of events from a transport to its host.

    Before a transport puts an event that can be dropped, it calls `has_room`. `put` itself never
    drops. If the transport names senders, one sender can use at most half of the queue.
    """

    def __init__(self, owner: str = "") -> None:
        """Make an empty queue. `owner` is the identity that log messages name."""
        self.owner: str = owner
        self._events: deque[TransportEvent] = deque()
        self._all = _Held()
        self._of_sender: dict[str, _Held] = {}
        """No entry is empty."""
        self._dropped = 0
        self._is_over = False
        self._wake = asyncio.Event()
        self._dropping, self._were_dropped = SeldomLogged(), SeldomLogged()

    def __len__(self) -> int:
        return len(self._events)

    @property
    def is_full(self) -> bool:
        """Whether the queue has no room for events that can be dropped."""
        return self._all.part >= 1

    def has_room(self, sender: str | None = None) -> bool:
        """Return whether a droppable event from `sender` can be added. None means an unknown
        sender.

        If not, the event counts as dropped, and a warning is logged.
        """
        part = self._all.part
        if part < 1 and sender is not None:
            share = self._of_sender.get(sender, _NOTHING).part
            has_room = share < SHARE and (part < 1 - RESERVE or share < SMALL_SHARE)
        else:
            has_room = part < 1
        if not has_room:
            self._dropped += 1
            if self._dropped == 1:
                number = self._all.events
                self._dropping.warning(
                    "%s: %d events wait to be read: dropping messages", self.owner, number
                )
        return has_room

    def put(self, event: TransportEvent) -> None:
        """Add an event, even if the queue is full."""
        self._all.add(event)
        sender = _sender(event)
        if sender is not None:
            self._of_sender.setdefault(sender, _Held()).add(event)
        self._events.append(event)
        self._wake.set()

    def _release(self, events: Iterable[TransportEvent]) -> None:
        """These do not wait any more."""
        for event in events:
            self._all.add(event, -1)
            sender = _sender(event)
            if sender is not None:
                held = self._of_sender[sender]
                held.add(event, -1)
                if not held.events:
                    del self._of_sender[sender]

    def drop_all(self) -> None:
        """Drop all waiting events."""
        self._dropped += len(self._events)
        self._events.clear()
        self._all = _Held()
        self._of_sender.clear()

    def end(self) -> None:
        """Let `receive` return an empty sequence after the waiting events. A `receive` that already
        waits needs `wake`."""
        self._is_over = True

    def wake(self) -> None:
        """Wake a waiting `receive`, which then checks for the end."""
        self._wake.set()

    async def receive(self) -> Sequence[TransportEvent]:
        """Return waiting events, as `Transport.receive` does. Empty if no event can follow."""
        if self._events:
            await asyncio.sleep(0)
        while not self._events:
            if self._dropped:
                number, self._dropped = self._dropped, 0
                self._were_dropped.warning("%s: %d messages were dropped", self.owner, number)
            if self._is_over:
                return ()
            self._wake.clear()
            await self._wake.wait()
        batch = take_batch(self._events)
        self._release(batch)
        return batch

    def take_welcome(self) -> Sequence[ParticipantJoined | ParticipantLeft]:
        """See `WelcomingTransport`."""
        welcome = take_welcome(self._events)
        self._release(welcome)
        return welcome


def _sender(event: TransportEvent) -> str | None:
    if isinstance(event, PacketReceived):
        return event.sender_identity
    return None if isinstance(event, Connected | Disconnected) else event.identity
