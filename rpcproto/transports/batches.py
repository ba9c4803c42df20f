"""What leaves a queue of events at once: a batch for `receive`, or the welcome before it."""

from collections import deque

from rpcproto.transports import (
    BATCH_BYTES,
    BATCH_EVENTS,
    PacketReceived,
    ParticipantJoined,
    ParticipantLeft,
    TransportEvent,
)


def take_batch(events: deque[TransportEvent]) -> list[TransportEvent]:
    """Remove what `Transport.receive` may return at once from the front, and return it."""
    if len(events) == 1:
        return [events.popleft()]
    batch: list[TransportEvent] = []
    size = 0
    while events and len(batch) < BATCH_EVENTS:
        event = events[0]
        if type(event) is PacketReceived:
            size += len(event.data)
            if size > BATCH_BYTES and batch:
                break
        batch.append(events.popleft())
    return batch


def take_welcome(events: deque[TransportEvent]) -> list[ParticipantJoined | ParticipantLeft]:
    """Remove who joined and left before the first packet, and return that; see
    `WelcomingTransport`."""
    welcome, rest = list[ParticipantJoined | ParticipantLeft](), list[TransportEvent]()
    while events and not isinstance(events[0], PacketReceived):
        event = events.popleft()
        if isinstance(event, ParticipantJoined | ParticipantLeft):
            welcome.append(event)
        else:
            rest.append(event)
    events.extendleft(reversed(rest))
    return welcome
