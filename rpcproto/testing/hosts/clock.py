"""Time for a host under test, which the kit moves, and timers that are early, late or stale."""

import heapq
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, final

MOST_AT_ONCE: Final = 100_000
"""So many timers may fire at one instant; a host that sets more does so for ever."""


@final
class Timer:
    """A timer of a `VirtualClock`."""

    def __init__(self, callback: Callable[[], object], *, is_hosts: bool) -> None:
        self.callback: Callable[[], object] = callback
        self.is_hosts: bool = is_hosts
        self.is_cancelled: bool = False

    def cancel(self) -> None:
        """Cancel the timer. A clock with stale timers fires it nevertheless."""
        self.is_cancelled = True


@final
class VirtualClock:
    """A clock that the kit moves.

    A host either uses its time and timers, as from an asyncio loop (`time`, `call_at`,
    `call_soon`), or runs in an event loop that is built on this clock (`time`, `next_timer`,
    `move_to`).
    """

    def __init__(self) -> None:
        self._now = 0.0
        self.early: float = 0.0
        """The number of seconds by which timers fire early. An event loop on this clock reads
        it."""
        self.stale: bool = False
        """Whether timers fire that were cancelled."""
        self.repeated: bool = False
        """Whether timers fire twice."""
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._fired = 0
        self._reporting: list[int] = []

    def time(self) -> float:
        """Return the seconds since the scenario began."""
        return self._now

    def call_at(self, at: float, callback: Callable[[], object]) -> Timer:
        """For hosts: call `callback` at about the instant `at`."""
        is_early = 0.0 < self.early < at - self._now
        return self._add(at - self.early if is_early else at, Timer(callback, is_hosts=True))

    def call_soon(self, callback: Callable[[], object]) -> None:
        """For hosts: call `callback` at this instant, after the code that is running now."""
        self.schedule(0.0, callback)

    def schedule(self, seconds: float, callback: Callable[[], object]) -> None:
        """For the kit: call `callback` exactly `seconds` from now."""
        self._add(self._now + seconds, Timer(callback, is_hosts=False))

    @property
    def next_timer(self) -> float | None:
        """The instant of the next timer in seconds, or None."""
        return self._timers[0][0] if self._timers else None

    @property
    def pending_timers(self) -> int:
        """The number of timers of the host, set by `call_at`, that will fire."""
        return sum(timer.is_hosts and not timer.is_cancelled for _, _, timer in self._timers)

    def move_to(self, at: float) -> None:
        """Set the time to `at`, unless it is later already, and fire all timers that are due.

        Raises:
            RuntimeError: Timers set new timers without end.
        """
        if at > self._now:
            self._now, self._fired = at, 0
        while self._timers and self._timers[0][0] <= self._now:
            self._fired += 1
            if self._fired > MOST_AT_ONCE:
                raise RuntimeError("timers set new timers for the same instant without end")
            timer = heapq.heappop(self._timers)[2]
            if timer.is_cancelled and not self.stale:
                continue
            if not timer.is_hosts:
                timer.callback()
                continue
            with self.reporting():
                for _ in range(1 + self.repeated):
                    timer.callback()

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass, from timer to timer. For a host that uses this clock, it implements
        `HostDriver.advance`."""
        end = self._now + seconds
        while (at := self.next_timer) is not None and at <= end:
            self.move_to(at)
        self.move_to(end)

    def jump(self, seconds: float) -> None:
        """Let `seconds` pass without firing timers."""
        self._now += seconds

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """For the kit: mark code of this thread that reports to the host."""
        self._reporting.append(threading.get_ident())
        try:
            yield
        finally:
            self._reporting.pop()

    @property
    def is_reporting(self) -> bool:
        """Whether this thread is reporting to the host, so that this code runs within a
        callback."""
        return threading.get_ident() in self._reporting

    def _add(self, at: float, timer: Timer) -> Timer:
        heapq.heappush(self._timers, (at, next(self._numbers), timer))
        return timer
