"""Times that can be compared: everything in one run, by turns, and medians of ratios.

On a busy machine a time is worth little and a ratio a lot, as long as both of its sides were
measured within the same moment.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

Work: TypeAlias = Callable[[], object]


class Times:
    """The seconds of each work in each round."""

    def __init__(self, rounds: Sequence[Sequence[float]]) -> None:
        self._rounds = rounds

    def median(self, work: int) -> float:
        """The seconds of one round of a work."""
        return statistics.median(times[work] for times in self._rounds)

    def ratio(self, work: int, base: int = 0) -> float:
        """How much longer a work takes than the base, round by round."""
        return statistics.median(times[work] / times[base] for times in self._rounds)


def by_turns(works: Sequence[Work], rounds: int) -> Times:
    """Time the works by turns, in the other order every second round; a first round is not kept."""
    kept = []
    forward = list(enumerate(works))
    for number in range(rounds + 1):
        times = [0.0] * len(works)
        for at, work in forward if number % 2 else reversed(forward):
            start = time.perf_counter()
            work()
            times[at] = time.perf_counter() - start
        if number:
            kept.append(times)
    return Times(kept)
