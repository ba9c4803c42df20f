"""What was seen before: numbers of packets (R37) and names of requests (R16), both bounded."""

from collections import deque
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

    def mark(self, sequence: int) -> bool:
        """Whether `sequence` is new; one that is below the window counts as seen."""
        ahead = sequence - self._highest
        if ahead > 0:
            self._highest = sequence
            kept = self._seen << ahead if ahead < self._size else 0
            self._seen = (kept | 1) & ((1 << self._size) - 1)
            return True
        bit = 1 << -ahead
        if -ahead >= self._size or self._seen & bit:
            return False
        self._seen |= bit
        return True


class RequestMemory:
    """Requests that run, and the last of those that have ended, however they ended (R16).

    Announced callers have a ring each; all others share one, to which a departed caller's moves.
    """

    def __init__(self, in_all: int, per_caller: int) -> None:
        self._in_all = in_all
        self._per_caller = per_caller
        self.answers: dict[RequestKey, int] = {}
        """All requests that are known, with the token of the packets that answer them, which may
        yet fail to be sent (R10); 0 where none can any more."""
        self._ended = 0
        """How many of them have ended: those in the rings."""
        self._shared: deque[RequestKey] = deque()
        self._announced: set[str] = set()
        self._rings: dict[str, deque[RequestKey]] = {}
        """Of announced callers that something is remembered of; none is empty."""

    def add(self, key: RequestKey) -> None:
        """One of `answers` has ended; the oldest of the fullest ring makes room for it."""
        identity = key[0]
        ring = self._rings.get(identity)
        if ring is None:
            ring = self._shared
            if identity in self._announced:
                ring = self._rings[identity] = deque()
        ring.append(key)
        if len(ring) > self._per_caller and ring is not self._shared:
            del self.answers[ring.popleft()]
        elif self._ended < self._in_all:
            self._ended += 1
        else:
            self._forget_one()

    def _forget_one(self) -> None:
        fullest = max(self._rings, key=lambda identity: len(self._rings[identity]), default=None)
        if fullest is None or len(self._shared) >= len(self._rings[fullest]):
            del self.answers[self._shared.popleft()]
            return
        del self.answers[self._rings[fullest].popleft()]
        if not self._rings[fullest]:
            del self._rings[fullest]

    def caller_joined(self, identity: str) -> None:
        """An announced caller has a ring of its own from now on."""
        self._announced.add(identity)

    def caller_left(self, identity: str, sid: str) -> None:
        """Move a departed caller's ring to the shared one. Its answers cannot fail any more, but
        for those to a newer sid; an empty `sid` means all."""
        self._announced.discard(identity)
        self._shared.extend(self._rings.pop(identity, ()))
        for key in self._shared:
            if key[0] == identity and (not sid or key[1] in ("", sid)):
                self.answers[key] = 0

    def everyone_left(self) -> None:
        """All rings move to the shared one (R41)."""
        self._announced.clear()
        for ring in self._rings.values():
            self._shared.extend(ring)
        self._rings.clear()
        for key in self._shared:
            self.answers[key] = 0

    def take_answer(self, caller_identity: str, token: int) -> RequestKey | None:
        """The request that was answered under `token`, once; None where nobody knows it."""
        own_ring = self._rings.get(caller_identity, self._shared)
        for ring in (own_ring, self._shared):
            for key in ring:
                if self.answers[key] == token and key[0] == caller_identity:
                    self.answers[key] = 0
                    return key
        return None
