"""Times that can be compared: everything in one run, by turns, and medians of ratios.

On a busy machine a time is worth little and a ratio a lot, as long as both of its sides were
measured within the same moment.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias, TypeVar

Work: TypeAlias = Callable[[], object]
Reading = TypeVar("Reading")


class Times:
    """The seconds of each work in each round."""

    def __init__(self, rounds: Sequence[Sequence[float]]) -> None:
        self._rounds = rounds

    def typical(self, formula: Callable[[Sequence[float]], float]) -> float:
        """The median of what `formula` makes of the seconds of one round."""
        return statistics.median(formula(times) for times in self._rounds)

    def median(self, work: int) -> float:
        """The seconds of one round of a work."""
        return self.typical(lambda times: times[work])

    def ratio(self, work: int, base: int = 0) -> float:
        """How much longer a work takes than the base, round by round."""
        return self.typical(lambda times: times[work] / times[base])

    def difference(self, work: int, other: int, base: int = 0) -> float:
        """What a work takes more than another one, relative to the base, round by round."""
        return self.typical(lambda times: (times[work] - times[other]) / times[base])


def by_turns(works: Sequence[Work], rounds: int) -> Times:
    """Time the works by turns, in the other order every second round; a first round is not kept."""
    return Times(in_turns([partial(seconds, work) for work in works], rounds))


def in_turns(works: Sequence[Callable[[], Reading]], rounds: int) -> list[list[Reading]]:
    """The same for works that measure themselves: what each returned, round by round."""
    kept: list[list[Reading]] = []
    for number in range(rounds + 1):
        order = works if number % 2 else works[::-1]
        readings = [work() for work in order]
        if number:
            kept.append(readings if number % 2 else readings[::-1])
    return kept


def seconds(work: Work) -> float:
    """How much of the processor's time a work takes, which others on the machine do not change."""
    start = time.process_time()
    work()
    return time.process_time() - start
