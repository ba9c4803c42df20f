"""Sequence numbers for a reliable channel whose connection can be lost and resumed. No I/O.

A sender numbers its packets from 1. When the connection is resumed, the other side names the last
number that it has received. The sender sends all later packets again, and the receiver drops
duplicates.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final, final

from rpcproto.core.repeats import SequenceWindow

__all__ = [
    "MAX_KEPT_BYTES",
    "MAX_KEPT_PACKETS",
    "MAX_SENDERS",
    "WINDOW",
    "ReliableReceiver",
    "ReliableSender",
]

MAX_KEPT_PACKETS: Final = 4_096
"""The maximum number of packets that a sender keeps. Beyond it, the oldest is dropped."""
MAX_KEPT_BYTES: Final = 2 << 20
"""The maximum size of the packets that a sender keeps, in bytes. Beyond it, the oldest is dropped.
The newest packet is always kept."""
MAX_SENDERS: Final = 1_024
"""The maximum number of senders that a receiver remembers. Beyond it, the one that has been silent
for the longest time is forgotten."""
WINDOW: Final = 1_024
"""The size of the window, up to a sender's highest number, in which numbers are tracked. Lower ones
count as received (R37)."""


@final
class ReliableSender:
    """Numbers packets, and keeps them in case the connection is resumed."""

    def __init__(
        self, *, max_packets: int = MAX_KEPT_PACKETS, max_bytes: int = MAX_KEPT_BYTES
    ) -> None:
        """Keep at most `max_packets` packets with `max_bytes` bytes."""
        self._max_packets = max_packets
        self._max_bytes = max_bytes
        self._kept: deque[tuple[int, bytes]] = deque()
        self._size = 0
        self._last = 0

    @property
    def last_sequence(self) -> int:
        """The number of the newest packet; 0 before the first."""
        return self._last

    @property
    def kept_packets(self) -> int:
        """The number of kept packets."""
        return len(self._kept)

    @property
    def kept_bytes(self) -> int:
        """The size of the kept packets, in bytes."""
        return self._size

    def number(self, write: Callable[[int], bytes], max_bytes: int) -> bytes | None:
        """Return the packet that `write` returns for the next number.

        If the packet has more than `max_bytes` bytes, return None, and use the number for the next
        packet.
        """
        packet = write(self._last + 1)
        if len(packet) > max_bytes:
            return None
        self._last += 1
        self._kept.append((self._last, packet))
        self._size += len(packet)
        while len(self._kept) > self._max_packets or (
            self._size > self._max_bytes and len(self._kept) > 1
        ):
            self._forget()
        return packet

    def seen(self, sequence: int) -> tuple[bytes, ...]:
        """Return the kept packets after `sequence`, in order, and forget the others.

        `sequence` is the last number that the other side has received, or 0 if it has received
        none. A number above the newest one counts as the newest one.
        """
        while self._kept and self._kept[0][0] <= sequence:
            self._forget()
        return tuple(packet for _, packet in self._kept)

    def has_forgotten(self, sequence: int) -> bool:
        """Return whether a packet after `sequence` is no longer kept."""
        first = self._kept[0][0] if self._kept else self._last + 1
        return sequence + 1 < first

    def restart(self) -> None:
        """Restart at 1 and drop all kept packets, for a new session."""
        self._kept.clear()
        self._size = self._last = 0

    def _forget(self) -> None:
        _, packet = self._kept.popleft()
        self._size -= len(packet)


@final
class ReliableReceiver:
    """Records which sequence numbers of each sender have arrived."""

    def __init__(self, *, max_senders: int = MAX_SENDERS) -> None:
        """Remember at most `max_senders` senders."""
        self._max_senders = max_senders
        self._senders: OrderedDict[str, _Seen] = OrderedDict()
        """The one that was heard last is at the end."""

    def is_new(self, sender: str, sequence: int) -> bool:
        """Return whether this number of this sender arrives for the first time, and remember it.

        A packet without a number (0), or without a sender, is always new.
        """
        if not sender or not sequence:
            return True
        seen = self._senders.get(sender)
        if seen is None:
            seen = self._senders[sender] = _Seen()
            if len(self._senders) > self._max_senders:
                self._senders.popitem(last=False)
        else:
            self._senders.move_to_end(sender)
        return seen.mark(sequence)

    def last_sequences(self) -> dict[str, int]:
        """Return the highest number that has arrived from each sender."""
        return {sender: seen.highest for sender, seen in self._senders.items()}


class _Seen:
    """The numbers of one sender."""

    __slots__ = ("_window", "highest")

    def __init__(self) -> None:
        self._window = SequenceWindow(WINDOW)
        self.highest = 0

    def mark(self, sequence: int) -> bool:
        self.highest = max(self.highest, sequence)
        return self._window.mark(sequence)
