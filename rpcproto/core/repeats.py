"""What was seen before: numbers of packets (R37) and names of requests (R16), both bounded."""

from collections import OrderedDict, deque
from collections.abc import Container
from typing import Final, TypeAlias

RequestKey: TypeAlias = tuple[str, str, str]
"""Caller identity, caller sid, request id: what a request is known by (R16)."""

REMEMBERED_WINDOWS: Final = 256
"""Sids that left and whose numbers are still known when they come back (R37)."""


class SequenceWindow:
    """The newest numbers of one sender, each marked once it was seen (R37)."""

    __slots__ = ("_highest", "_seen", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._highest = 0
        self._seen = 0
        """One bit a number, the highest in bit 0."""

    def is_new(self, sequence: int) -> bool:
        """Whether `sequence` was not marked; one below the window counts as marked."""
        behind = self._highest - sequence
        return behind < 0 or (behind < self._size and not self._seen >> behind & 1)

    def mark(self, sequence: int) -> bool:
        """The same, and marks it."""
        if not self.is_new(sequence):
            return False
        ahead = sequence - self._highest
        if ahead > 0:
            self._highest = sequence
            kept = self._seen << ahead if ahead < self._size else 0
            self._seen = (kept | 1) & ((1 << self._size) - 1)
        else:
            self._seen |= 1 << -ahead
        return True


class Remembered:
    """The requests of one caller that have ended, the oldest in front."""

    __slots__ = ("ring", "shared")

    def __init__(self) -> None:
        self.ring: deque[RequestKey] = deque()
        """Those that ended while it was announced."""
        self.shared: deque[RequestKey] = deque()
        """Those in the ring that all others share."""


class RequestMemory:
    """Requests that run, and the last of those that have ended, however they ended (R16).

    Announced callers have a ring each; all others share one, to which a departed caller's moves.
    """

    def __init__(self, in_all: int, per_caller: int, announced: Container[str]) -> None:
        self._in_all = in_all
        self._per_caller = per_caller
        self._announced = announced
        self.known: dict[RequestKey, int] = {}
        """All requests that are known, with the order of the invocation; 0 where there is none."""
        self.answers: dict[int, RequestKey] = {}
        """Known requests whose answer may yet fail to be sent (R10), by the token of its packets,
        which is the order of the invocation."""
        self._ended = 0
        """How many of them have ended: those in the rings."""
        self._callers: dict[str, Remembered] = {}
        """Those of whom something is remembered."""
        self._shared: deque[str] = deque()
        """The shared ring: whose oldest request there is forgotten next. What one caller has in it
        is in order with the caller."""
        self._by_size: dict[int, OrderedDict[str, None]] = {}
        """Callers by the size of their rings, in the order in which they came to it; no entry is
        empty."""
        self._largest = 0
        """The size of the fullest ring."""

    def add(self, key: RequestKey) -> None:
        """One of `known` has ended; the oldest of the fullest ring makes room for it."""
        identity = key[0]
        try:
            caller = self._callers[identity]
        except KeyError:
            caller = self._callers[identity] = Remembered()
        if identity in self._announced:
            ring = caller.ring
            ring.append(key)
            if len(ring) > self._per_caller:
                self.answers.pop(self.known.pop(ring.popleft()), None)
                return
            self._resized(identity, len(ring) - 1, len(ring))
        else:
            caller.shared.append(key)
            self._shared.append(identity)
        if self._ended < self._in_all:
            self._ended += 1
        else:
            self._forget_one(identity not in self._announced)

    def caller_left(self, identity: str, sid: str) -> None:
        """Move a departed caller's ring to the shared one. Its answers can no longer fail, except
        for those to a newer sid; an empty `sid` means all."""
        caller = self._callers.get(identity)
        if caller is None:
            return
        if caller.ring:
            self._resized(identity, len(caller.ring), 0)
            self._shared.extend([identity] * len(caller.ring))
            caller.shared.extend(caller.ring)
            caller.ring.clear()
        for key in caller.shared:
            if not sid or key[1] in ("", sid):
                self.answers.pop(self.known[key], None)

    def everyone_left(self) -> None:
        """All rings move to the shared one (R41)."""
        for identity in list(self._callers):
            self.caller_left(identity, "")

    def _forget_one(self, shared_has_grown: bool) -> None:
        """Forget the oldest of the fullest ring; of two that are as full, not of the one that has
        grown, which may hold nothing but the newest request."""
        if len(self._shared) >= self._largest + shared_has_grown:
            identity = self._shared.popleft()
            caller = self._callers[identity]
            self._forget(caller.shared.popleft())
        else:
            identity = next(iter(self._by_size[self._largest]))
            caller = self._callers[identity]
            self._forget(caller.ring.popleft())
            self._resized(identity, self._largest, self._largest - 1)
        if not caller.ring and not caller.shared:
            del self._callers[identity]

    def _forget(self, key: RequestKey) -> None:
        self.answers.pop(self.known.pop(key), None)

    def _resized(self, identity: str, old: int, new: int) -> None:
        """A caller's ring has another size."""
        by_size = self._by_size
        if old:
            del by_size[old][identity]
            if not by_size[old]:
                del by_size[old]
        if new:
            by_size.setdefault(new, OrderedDict())[identity] = None
        if new > self._largest:
            self._largest = new
        while self._largest and self._largest not in by_size:
            self._largest -= 1
