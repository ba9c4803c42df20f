"""The deadlines of calls and invocations, and which of them is next.

Most of them have one of two timeouts: that of calls without timeouts of their own, and that of
requests from peers with the same configuration. Items with the same timeout end in the order in
which they began, so each of these timeouts has a line, entered at the back. An item that ends when
it is not in front stays in its line until it is. A line that has doubled is swept, so that ended
items are neither searched nor kept for long. All other deadlines share a heap.

A call has two deadlines, the early one while nobody has acked it. It waits in the line of its early
deadline first. An acked call moves on to the line of its last deadline when it comes to the front;
until then, the item in front is due before it.
"""

import heapq
import math
from collections import deque
from typing import Final, NamedTuple

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

    Whoever ends an item takes it out in front, and anywhere else sweeps when the line is longer
    than its limit.
    """

    __slots__ = ("last_timeout", "later", "least", "limit", "timeout")

    def __init__(self, timeout: float = 0.0, later: "Line | None" = None) -> None:
        super().__init__()
        self.timeout: float = timeout
        self.later: Line | None = later
        """Where items wait for their last deadline, if that of this line is an early one."""
        self.last_timeout: float = timeout if later is None else later.timeout
        self.least: int = OPEN if later is None else EARLY
        """The lowest state in which this deadline counts."""
        self.limit: int = MIN_SWEPT

    def sweep(self) -> None:
        """Let go of what is over."""
        items = [item for item in self if item.state >= OPEN]
        self.clear()
        self.extend(items)
        self.limit = next_sweep(len(items))

    def front(self) -> Timed | None:
        """The item that is due next; what is over is passed by, what is acked moves on."""
        while self:
            item = self[0]
            if item.state >= self.least:
                return item
            self.popleft()
            if (later := self.later) is not None and item.state >= OPEN:
                later.append(item)
                if len(later) > later.limit:
                    later.sweep()
        return None


class Deadlines:
    """All deadlines of one engine. Instants never go back: the engine sees to it."""

    def __init__(self) -> None:
        self._lines: list[Line] = []
        """Those that items enter, and those that they move on to."""
        self._others: list[Due] = []
        """A heap of the deadlines that are in no line."""
        self._others_limit = MIN_SWEPT

    def line(self, timeout: float, early: float = math.inf) -> Line:
        """A line for items with a deadline `timeout` after their start, and one at `early` if that
        is less."""
        line = last = Line(timeout)
        if early < timeout:
            line = Line(early, last)
            self._lines.append(line)
        self._lines.append(last)
        return line

    def start(self, item: Timed, timeout: float, early: float = math.inf) -> None:
        """The same for an item that is in no line."""
        self.start_at(item, item.started + timeout)
        if early < timeout:
            self.start_at(item, item.started + early, EARLY)

    def start_at(self, item: Timed, deadline: float, least: int = OPEN) -> None:
        """Give `item` a deadline at an instant."""
        heapq.heappush(self._others, Due(deadline, item.order, least == OPEN, item))
        if len(self._others) > self._others_limit:
            self._others = [due for due in self._others if _counts(due)]
            heapq.heapify(self._others)
            self._others_limit = next_sweep(len(self._others))

    def next_deadline(self) -> float | None:
        """When something is due next: what hosts ask after every input, so it makes nothing."""
        soonest = None
        if self._others and (first := self._first_other()) is not None:
            soonest = first.deadline
        for line in self._lines:
            if line:
                item, timeout = line[0], line.timeout
                if item.state < line.least:
                    if item.state >= OPEN and len(line) == 1:  # nobody behind it is due earlier
                        timeout = line.last_timeout
                    elif (front := line.front()) is not None:
                        item = front
                    else:
                        continue
                deadline = item.started + timeout
                if soonest is None or deadline < soonest:
                    soonest = deadline
        return soonest

    def first(self) -> Due | None:
        """What is due next, however late it is; items with the same deadline in their order."""
        self._first_other()
        dues = self._others[:1]
        for line in self._lines:
            if (item := line.front()) is not None:
                is_last, deadline = line.later is None, item.started + line.timeout
                dues.append(Due(deadline, item.order, is_last, item))
        return min(dues, default=None)

    def _first_other(self) -> Due | None:
        while self._others and not _counts(self._others[0]):
            heapq.heappop(self._others)
        return self._others[0] if self._others else None


def _counts(due: Due) -> bool:
    return due.item.state >= (OPEN if due.is_last else EARLY)
