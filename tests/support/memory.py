"""How much memory something takes, whatever else the process does."""

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

RUNS: Final = 3


@contextmanager
def traced_memory() -> Iterator[Callable[[], tuple[int, int]]]:
    """Trace what the block allocates; gives a function that returns the bytes that are in use now,
    and their peak.

    The collector does not run meanwhile: when it does depends on what ran before, and it empties
    the interpreter's caches.
    """
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        yield tracemalloc.get_traced_memory
    finally:
        tracemalloc.stop()
        gc.enable()


def least_memory(measure: Callable[[], float], limit: float) -> float:
    """The least of a few measures, or the first below the limit: other threads of the process
    allocate too, which only adds."""
    least = measure()
    for _ in range(RUNS - 1):
        if least < limit:
            break
        least = min(least, measure())
    return least
