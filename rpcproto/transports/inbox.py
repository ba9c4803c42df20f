"""What has come for a host and waits to be read, within bounds. For asyncio."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

from rpcproto.logs import logger
from rpcproto.transports import (
    BATCH_BYTES,
    BATCH_EVENTS,
    PacketReceived,
    ParticipantJoined,
    ParticipantLeft,
    TransportEvent,
)

MAX_WAITING_BYTES: Final = 32 << 20
"""Bytes of packets that wait for a host that does not read; packets beyond are dropped."""
MAX_WAITING_EVENTS: Final = 20_000
"""Events that wait for a host that does not read; packets beyond are dropped."""


class Inbox:
    """Events, from a transport to its host. What may be dropped asks `has_room` first; whatever is
    put is kept."""

    def __init__(self, owner: str = "") -> None:
        """`owner` is the identity that is named in the log."""
        self.owner: str = owner
        self._events: deque[TransportEvent] = deque()
        self._waiting_bytes = 0
        self._dropped = 0
        self._is_over = False
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self._events)

    @property
    def is_full(self) -> bool:
        """Whether so much waits that packets are dropped."""
        return len(self._events) >= MAX_WAITING_EVENTS or self._waiting_bytes >= MAX_WAITING_BYTES

    def has_room(self) -> bool:
        """Whether something that may be dropped can be put; if not, that is counted and logged."""
        if not self.is_full:
            return True
        if not self._dropped:
            number = len(self._events)
            logger.warning(
                "%s: nobody reads, and %d events wait: dropping messages", self.owner, number
            )
        self._dropped += 1
        return False

    def put(self, event: TransportEvent) -> None:
        """Let an event wait, however many there are."""
        if isinstance(event, PacketReceived):
            self._waiting_bytes += len(event.data)
        self._events.append(event)
        self._wake.set()

    def pop(self) -> TransportEvent:
        """The event that has waited longest. Raises IndexError if there is none."""
        event = self._events.popleft()
        if isinstance(event, PacketReceived):
            self._waiting_bytes -= len(event.data)
        return event

    def drop_all(self) -> None:
        """Nobody needs what waits any more."""
        self._dropped += len(self._events)
        self._events.clear()
        self._waiting_bytes = 0

    def end(self) -> None:
        """Nothing comes any more; what is here may still be read."""
        self._is_over = True

    def wake(self) -> None:
        """Let who waits look again whether this is the end."""
        self._wake.set()

    async def receive(self) -> Sequence[TransportEvent]:
        """A batch of events, after one turn of the loop; empty once all have been read and none
        can come. See `Transport.receive`."""
        if self._events:
            await asyncio.sleep(0)
        while not self._events:
            if self._dropped:
                logger.warning("%s: %d messages were dropped", self.owner, self._dropped)
                self._dropped = 0
            if self._is_over:
                return ()
            self._wake.clear()
            await self._wake.wait()
        batch: list[TransportEvent] = []
        size = 0
        while self._events and len(batch) < BATCH_EVENTS:
            event = self._events[0]
            if isinstance(event, PacketReceived):
                size += len(event.data)
                if size > BATCH_BYTES and batch:
                    break
            batch.append(self.pop())
        return batch

    def take_welcome(self) -> Sequence[ParticipantJoined | ParticipantLeft]:
        """See `WelcomingTransport`."""
        welcome = []
        rest: list[TransportEvent] = []
        while self._events and not isinstance(self._events[0], PacketReceived):
            event = self._events.popleft()
            if isinstance(event, ParticipantJoined | ParticipantLeft):
                welcome.append(event)
            else:
                rest.append(event)
        self._events.extendleft(reversed(rest))
        return welcome
