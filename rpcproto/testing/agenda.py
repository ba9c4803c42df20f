"""Virtual time that jumps from one thing that happens to the next."""

import heapq
import itertools
from collections.abc import Callable


class Entry:
    """Something that will happen, unless it is cancelled."""

    __slots__ = ("action", "is_cancelled")

    def __init__(self, action: Callable[[], object]) -> None:
        self.action: Callable[[], object] = action
        self.is_cancelled: bool = False


class Agenda:
    """What happens when: in order of time, at one instant in the order of planning, but deadlines
    after everything else."""

    def __init__(self) -> None:
        self.now: float = 0.0
        """Seconds since the beginning."""
        self._entries: list[tuple[float, bool, int, Entry]] = []
        self._numbers = itertools.count()

    def plan(
        self, instant: float, action: Callable[[], object], *, is_deadline: bool = False
    ) -> Entry:
        """Let `action` happen at `instant`; at once if that is over."""
        entry = Entry(action)
        heapq.heappush(self._entries, (instant, is_deadline, next(self._numbers), entry))
        return entry

    @property
    def next_instant(self) -> float | None:
        """When something happens next, or None."""
        entries = self._entries
        while entries and entries[0][3].is_cancelled:
            heapq.heappop(entries)
        return entries[0][0] if entries else None

    def run(self, until: float | None) -> None:
        """Let things happen until nothing is left; with `until`, nothing after that instant, which
        is `now` then."""
        while (at := self.next_instant) is not None and (until is None or at <= until):
            self.now = max(self.now, at)
            heapq.heappop(self._entries)[3].action()
        if until is not None:
            self.now = max(self.now, until)
