"""The deadlines of calls and invocations, and which of them is next.

Nearly all of them share a few timeouts, and what shares a timeout ends in the order in which it
began. So each common timeout has a line, entered at the back. Nothing is taken out of a line when
it is over, unless it happens to be in front: it is passed by when it comes to the front, and a line
that has doubled is swept, so that what is over is neither searched for nor kept for long. Uncommon
timeouts share a heap.

A call has two deadlines, the early one while nobody has acked it. It waits in the line of its early
deadline first; a call that is acked moves on to the line of its last deadline when it comes to the
front, which until then is due before it.
"""

import heapq
import math
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


def next_sweep(kept: int) -> int:
    """How much must be there before it is swept again, if so much was kept: then a sweep costs
    each entry a fixed share."""
    return 2 * kept + MIN_SWEPT


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

    __slots__ = ("is_kept", "later", "least", "limit", "timeout")

    def __init__(self, timeout: float = 0.0, later: "Line | None" = None) -> None:
        super().__init__()
        self.timeout: float = timeout
        self.later: Line | None = later
        """Where items wait for their last deadline, if that of this line is an early one."""
        self.least: int = OPEN if later is None else EARLY
        """The lowest state in which this deadline counts."""
        self.limit: int = MIN_SWEPT
        self.is_kept: bool = False
        """Whether somebody holds on to this line, so that it must stay when it is empty."""

    def sweep(self) -> None:
        """Let go of what is over."""
        items = [item for item in self if item.state >= OPEN]
        self.clear()
        self.extend(items)
        self.limit = next_sweep(len(items))

    def add(self, item: Timed) -> None:
        """Append `item`, and sweep. The sides do the same in line."""
        self.append(item)
        if len(self) > self.limit:
            self.sweep()

    def front(self) -> Timed | None:
        """The item that is due next; what is over is passed by, what is acked moves on."""
        while self:
            item = self[0]
            if item.state >= self.least:
                return item
            self.popleft()
            if self.later is not None and item.state >= OPEN:
                self.later.add(item)
        return None


class Deadlines:
    """All deadlines of one engine. Instants never go back: the engine sees to it."""

    def __init__(self) -> None:
        self._lines: dict[tuple[float, float], Line] = {}
        """By timeout and early timeout, the lines that items enter."""
        self._all: list[Line] = []
        """The same and those that items move on to, which come behind them."""
        self._rest: list[Due] = []
        self._rest_limit = MIN_SWEPT

    def kept_line(self, timeout: float, early: float = math.inf) -> Line:
        """A line to hold on to, for timeouts that most items have; see `start`."""
        line = self._line(timeout, early)
        assert line is not None
        line.is_kept = True
        return line

    def start(self, item: Timed, timeout: float, early: float = math.inf) -> None:
        """Give `item` a deadline `timeout` after its start, and one at `early` if that is less."""
        line = self._line(timeout, early)
        if line is not None:
            line.add(item)
            return
        self.start_at(item, item.started + timeout)
        if early < timeout:
            self.start_at(item, item.started + early, EARLY)

    def start_at(self, item: Timed, deadline: float, least: int = OPEN) -> None:
        """Give `item` a deadline at an instant of its own."""
        heapq.heappush(self._rest, Due(deadline, item.order, least == OPEN, item))
        if len(self._rest) > self._rest_limit:
            self._rest = [due for due in self._rest if _counts(due)]
            heapq.heapify(self._rest)
            self._rest_limit = next_sweep(len(self._rest))

    def _line(self, timeout: float, early: float) -> Line | None:
        """The line of these timeouts, or None while all lines are taken."""
        early = early if early < timeout else math.inf
        line = self._lines.get((timeout, early))
        if line is not None:
            return line
        if len(self._lines) >= MAX_LINES:
            self._lines = {key: line for key, line in self._lines.items() if _is_used(line)}
            if len(self._lines) >= MAX_LINES:
                return None
        line = Line(early, Line(timeout)) if early < timeout else Line(timeout)
        self._lines[timeout, early] = line
        self._all = [
            part for line in self._lines.values() for part in (line, line.later) if part is not None
        ]
        return line

    def next_deadline(self) -> float | None:
        """When something is due next: what hosts ask after every input, so it makes nothing."""
        soonest = None
        if self._rest and (first := self._rest_first()) is not None:
            soonest = first.deadline
        for line in self._all:
            if line:
                item = line[0]
                if item.state < line.least:
                    moved_up = line.front()
                    if moved_up is None:
                        continue
                    item = moved_up
                deadline = item.started + line.timeout
                if soonest is None or deadline < soonest:
                    soonest = deadline
        return soonest

    def first(self) -> Due | None:
        """What is due next, however late it is; items with the same deadline in their order."""
        self._rest_first()
        dues = self._rest[:1]
        for line in self._all:
            if (item := line.front()) is not None:
                is_last, deadline = line.later is None, item.started + line.timeout
                dues.append(Due(deadline, item.order, is_last, item))
        return min(dues, default=None)

    def _rest_first(self) -> Due | None:
        while self._rest and not _counts(self._rest[0]):
            heapq.heappop(self._rest)
        return self._rest[0] if self._rest else None


def _is_used(line: Line) -> bool:
    return line.is_kept or line.front() is not None or bool(line.later and line.later.front())


def _counts(due: Due) -> bool:
    return due.item.state >= (OPEN if due.is_last else EARLY)
