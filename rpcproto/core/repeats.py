"""What was seen before: numbers of packets (R37) and names of requests (R16), both bounded."""

from collections import OrderedDict
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
    """Requests that have ended, however they ended, with the token of the answer.

    Announced callers have a ring each; all others share one, to which a departed caller's moves.
    """

    def __init__(self, in_all: int, per_caller: int) -> None:
        self._in_all = in_all
        self._per_caller = per_caller
        self._count = 0
        self._shared: OrderedDict[RequestKey, int] = OrderedDict()
        self._announced: set[str] = set()
        self._rings: dict[str, OrderedDict[RequestKey, int]] = {}
        """Of announced callers that something is remembered of; none is empty."""

    def __contains__(self, key: RequestKey) -> bool:
        return key in self._rings.get(key[0], self._shared) or key in self._shared

    def add(self, key: RequestKey, token: int) -> None:
        """Remember a request that has ended; the oldest of the fullest ring makes room for it."""
        identity = key[0]
        ring = self._rings.get(identity)
        if ring is None:
            ring = self._shared
            if identity in self._announced:
                ring = self._rings[identity] = OrderedDict()
        ring[key] = token
        if len(ring) > self._per_caller and ring is not self._shared:
            ring.popitem(last=False)
        elif self._count < self._in_all:
            self._count += 1
        else:
            self._forget_one()

    def _forget_one(self) -> None:
        fullest = max(self._rings, key=lambda identity: len(self._rings[identity]), default=None)
        if fullest is None or len(self._shared) >= len(self._rings[fullest]):
            self._shared.popitem(last=False)
            return
        self._rings[fullest].popitem(last=False)
        if not self._rings[fullest]:
            del self._rings[fullest]

    def caller_joined(self, identity: str) -> None:
        """An announced caller has a ring of its own from now on."""
        self._announced.add(identity)

    def caller_left(self, identity: str, sid: str) -> None:
        """Move a departed caller's ring to the shared one. Its answers cannot fail any more, but
        for those to a newer sid; an empty `sid` means all."""
        self._announced.discard(identity)
        self._shared.update(self._rings.pop(identity, {}))
        for key in self._shared:
            if key[0] == identity and (not sid or key[1] in ("", sid)):
                self._shared[key] = 0

    def everyone_left(self) -> None:
        """All rings move to the shared one (R41)."""
        self._announced.clear()
        for ring in self._rings.values():
            self._shared.update(ring)
        self._rings.clear()
        for key in self._shared:
            self._shared[key] = 0

    def take_answer(self, caller_identity: str, token: int) -> RequestKey | None:
        """The request that was answered under `token`, once; None where nobody knows it."""
        own_ring = self._rings.get(caller_identity, self._shared)
        for ring in (own_ring, self._shared):
            for key, answered_by in ring.items():
                if answered_by == token and key[0] == caller_identity:
                    ring[key] = 0
                    return key
        return None
