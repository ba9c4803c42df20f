"""The deadlines of calls and invocations, and which of them is next.

Nearly all of them share a few timeouts, and what shares a timeout ends in the order in which it
began. So each common timeout has a line, entered at the back. Nothing is taken out of a line when
it is over, unless it happens to be in front: it is passed by when it comes to the front, and a line
that has doubled is swept, so that what is over is neither searched for nor kept for long. Uncommon
timeouts share a heap.
"""

import heapq
from collections import deque
from typing import Final, NamedTuple

MAX_LINES: Final = 16
"""Timeouts with a line of their own; remotes choose theirs freely, so there must be a limit."""
MIN_SWEPT: Final = 64
"""Lines shorter than this are not worth a sweep."""

OPEN: Final = 1
"""The lowest state of what has not ended."""
EARLY: Final = 3
"""The lowest state in which an early deadline counts: that of a call which nobody has acked."""


class Timed:
    """Something with a deadline. `order` is unique in an engine and says who was first.

    `state` only ever goes down, to 0 when all is over; a deadline counts from some state on, and
    that is all there is to stopping it.
    """

    __slots__ = ("order", "started", "state")

    order: int
    started: float
    state: int


class Due(NamedTuple):
    """The next deadline: an instant in seconds, whose it is, and whether it is its last one.

    Of two deadlines of one item at the same instant the early one comes first, by this order.
    """

    deadline: float
    order: int
    is_last: bool
    item: Timed


class Line(deque[Timed]):
    """Items of one timeout, those that began first in front.

    Whoever appends an item also sweeps when the line is longer than its limit.
    """

    __slots__ = ("is_kept", "least", "limit", "timeout")

    def __init__(self, timeout: float = 0.0, least: int = OPEN) -> None:
        super().__init__()
        self.timeout: float = timeout
        self.least: int = least
        """The lowest state in which this deadline counts."""
        self.limit: int = MIN_SWEPT
        self.is_kept: bool = False
        """Whether somebody holds on to this line, so that it must stay when it is empty."""

    def sweep(self) -> None:
        """Let go of what is over."""
        items = [item for item in self if item.state >= self.least]
        self.clear()
        self.extend(items)
        self.limit = 2 * len(items) + MIN_SWEPT

    def front(self) -> Timed | None:
        """The item that is due next; what is over is passed by."""
        while self:
            item = self[0]
            if item.state >= self.least:
                return item
            self.popleft()
        return None

    def first(self) -> Due | None:
        """The deadline of this line that is due next."""
        item = self.front()
        if item is None:
            return None
        return Due(item.started + self.timeout, item.order, self.least == OPEN, item)


class Deadlines:
    """All deadlines of one engine. Instants never go back: the engine sees to it."""

    def __init__(self) -> None:
        self._lines: dict[tuple[float, int], Line] = {}
        self._rest: list[Due] = []
        self._rest_limit = MIN_SWEPT

    def kept_line(self, timeout: float, least: int = OPEN) -> Line:
        """A line to hold on to, for a timeout that most items have."""
        line = self._lines.setdefault((timeout, least), Line(timeout, least))
        line.is_kept = True
        return line

    def start(self, item: Timed, timeout: float, least: int = OPEN) -> None:
        """Give `item` a deadline `timeout` after its start, an early one if `least` is EARLY."""
        line = self._lines.get((timeout, least))
        if line is None:
            line = self._new_line(timeout, least)
            if line is None:
                self.start_at(item, item.started + timeout, least)
                return
        line.append(item)
        if len(line) > line.limit:
            line.sweep()

    def start_at(self, item: Timed, deadline: float, least: int = OPEN) -> None:
        """Give `item` a deadline at an instant of its own."""
        heapq.heappush(self._rest, Due(deadline, item.order, least == OPEN, item))
        if len(self._rest) > self._rest_limit:
            self._rest = [due for due in self._rest if _counts(due)]
            heapq.heapify(self._rest)
            self._rest_limit = 2 * len(self._rest) + MIN_SWEPT

    def _new_line(self, timeout: float, least: int) -> Line | None:
        """A line for a timeout that has none, or None while all lines are taken."""
        if len(self._lines) >= MAX_LINES:
            empty = (k for k, line in self._lines.items() if not line.is_kept and not line.front())
            unused = next(empty, None)
            if unused is None:
                return None
            del self._lines[unused]
        line = self._lines[timeout, least] = Line(timeout, least)
        return line

    def next_deadline(self) -> float | None:
        """When something is due next: what hosts ask after every input, so it makes nothing."""
        soonest = None
        if self._rest and (first := self._rest_first()) is not None:
            soonest = first.deadline
        for line in filter(None, self._lines.values()):
            while line:
                item = line[0]
                if item.state >= line.least:
                    deadline = item.started + line.timeout
                    if soonest is None or deadline < soonest:
                        soonest = deadline
                    break
                line.popleft()
        return soonest

    def first(self) -> Due | None:
        """What is due next, however late it is; items with the same deadline in their order."""
        first = self._rest_first()
        for line in self._lines.values():
            due = line.first()
            if due is not None and (first is None or due < first):
                first = due
        return first

    def _rest_first(self) -> Due | None:
        while self._rest and not _counts(self._rest[0]):
            heapq.heappop(self._rest)
        return self._rest[0] if self._rest else None


def _counts(due: Due) -> bool:
    return due.item.state >= (OPEN if due.is_last else EARLY)
