"""The deadlines of calls, invocations and half-read streams, and which of them is next.

Nearly all of them share a few timeouts. What shares a timeout ends in the order in which it began,
so each common timeout has a line: linked through its items, entered at the back, left anywhere,
all in constant time and without an allocation. Timeouts beyond the first few share a heap.
"""

import heapq
from typing import Final, NamedTuple

MAX_LINES: Final = 16
"""Timeouts with a line of their own; remotes choose theirs freely, so there must be a limit."""


class Timed:
    """Something with a deadline. `order` is unique in an engine and says who was first."""

    __slots__ = ("line", "next", "order", "previous", "started")

    line: "_Line | _Rest"
    next: "Timed"
    order: int
    previous: "Timed"
    started: float

    @property
    def hurried(self) -> bool:
        """Whether the early deadline still counts; when it ceases to, call `Deadlines.relax`."""
        return False


class Due(NamedTuple):
    """The next deadline: an instant in seconds, whose it is, and whether it is its early one."""

    deadline: float
    order: int
    early: bool
    item: Timed


class Deadlines:
    """All deadlines of one engine. Instants never go back: the engine sees to it."""

    def __init__(self) -> None:
        self._lines: dict[tuple[float, float | None], _Line] = {}
        self._rest = _Rest()

    def start(self, item: Timed, now: float, timeout: float, early: float | None = None) -> None:
        """Give `item` its deadline `now + timeout`, and an early one before it if wanted."""
        item.started = now
        line = self._lines.get((timeout, early))
        if line is None:
            line = self._new_line(timeout, early)
        if line is None:
            self._rest.enter(item, timeout, early)
        else:
            line.enter(item)

    def restart(self, item: Timed, now: float) -> None:
        """Give `item` the same time again, counted from `now`."""
        item.started = now
        item.line.restart(item)

    def relax(self, item: Timed) -> None:
        """The early deadline of `item` no longer counts."""
        item.line.relax(item)

    def stop(self, item: Timed) -> None:
        """`item` has no deadline any more."""
        item.line.leave(item)

    def first(self) -> Due | None:
        """What is due next, however late it is; items with the same deadline in their order."""
        first = self._rest.first()
        for line in self._lines.values():
            due = line.first()
            if due is not None and (first is None or due < first):
                first = due
        return first

    def _new_line(self, timeout: float, early: float | None) -> "_Line | None":
        if len(self._lines) >= MAX_LINES:
            unused = next((key for key, line in self._lines.items() if line.is_empty), None)
            if unused is None:
                return None
            del self._lines[unused]
        line = self._lines[timeout, early] = _Line(timeout, early)
        return line


class _Line(Timed):
    """A ring of items, with the line itself between the last and the first."""

    __slots__ = ("early", "hurried_first", "timeout")

    def __init__(self, timeout: float, early: float | None) -> None:
        self.timeout = timeout
        self.early = early
        self.next = self.previous = self
        self.hurried_first: Timed = self
        """The first item whose early deadline counts, or the line. It only ever moves back, for
        an early deadline that has ceased to count stays so."""

    @property
    def is_empty(self) -> bool:
        return self.next is self

    def enter(self, item: Timed) -> None:
        last = self.previous
        item.line = self
        item.previous = last
        item.next = self
        last.next = self.previous = item
        if self.early is not None and self.hurried_first is self:
            self.hurried_first = item

    def restart(self, item: Timed) -> None:
        self.leave(item)
        self.enter(item)

    def leave(self, item: Timed) -> None:
        if self.hurried_first is item:
            self.relax(item)
        item.previous.next = item.next
        item.next.previous = item.previous

    def relax(self, item: Timed) -> None:
        if self.hurried_first is item:
            following = item.next
            while following is not self and not following.hurried:
                following = following.next
            self.hurried_first = following

    def first(self) -> Due | None:
        item = self.next
        if item is self:
            return None
        deadline = item.started + self.timeout
        hurried = self.hurried_first
        if hurried is not self and self.early is not None:
            early = hurried.started + self.early
            if (early, hurried.order) <= (deadline, item.order):
                return Due(early, hurried.order, True, hurried)
        return Due(deadline, item.order, False, item)


class _Entry:
    """An item's place in the heap; emptied when the item leaves, so that it is not kept alive."""

    __slots__ = ("deadline", "early", "item", "order", "timeout")

    def __init__(self, item: Timed, timeout: float, early: float | None) -> None:
        self.item: Timed | None = item
        self.timeout = timeout
        self.early = early
        self.order = item.order
        self.deadline = item.started + (timeout if early is None else early)

    def __lt__(self, other: "_Entry") -> bool:
        return (self.deadline, self.order) < (other.deadline, other.order)


class _Rest:
    """A heap for items of uncommon timeouts. The entry at its top is never an empty one."""

    def __init__(self) -> None:
        self._heap: list[_Entry] = []
        self._entries: dict[int, _Entry] = {}

    def enter(self, item: Timed, timeout: float, early: float | None = None) -> None:
        item.line = self
        entry = self._entries[item.order] = _Entry(item, timeout, early)
        heapq.heappush(self._heap, entry)

    def restart(self, item: Timed) -> None:
        entry = self._entries[item.order]
        self.leave(item)
        self.enter(item, entry.timeout, entry.early)

    def leave(self, item: Timed) -> None:
        self._entries.pop(item.order).item = None
        if len(self._heap) > 2 * len(self._entries) + 64:
            self._heap = list(self._entries.values())
            heapq.heapify(self._heap)
        while self._heap and self._heap[0].item is None:
            heapq.heappop(self._heap)

    def relax(self, item: Timed) -> None:
        entry = self._entries[item.order]
        if entry.early is not None:
            self.leave(item)
            self.enter(item, entry.timeout)

    def first(self) -> Due | None:
        if not self._heap:
            return None
        entry = self._heap[0]
        assert entry.item is not None
        return Due(entry.deadline, entry.order, entry.early is not None, entry.item)
