"""How long the other tasks of a program wait for their turn, in processor time of its thread."""

import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import anyio
import anyio.lowlevel

MAX_TURN: Final = 0.020
"""Seconds of processor time that a stranger may cost between two turns of a bystander."""
RUNS: Final = 6
"""The best of so many runs counts, and the first that is good enough is the last: others use the
machine as well, which makes the same work take twice as long."""


class Bystander:
    """A task that does nothing but take its turns."""

    def __init__(self) -> None:
        self.longest = 0.0
        """The most processor time between two turns, in seconds."""
        self.turns = 0

    async def run(self) -> None:
        before = time.thread_time()
        while True:
            await anyio.lowlevel.checkpoint()
            now = time.thread_time()
            self.longest = max(self.longest, now - before)
            self.turns += 1
            before = now


@asynccontextmanager
async def bystander() -> AsyncIterator[Bystander]:
    """A bystander, as long as the block runs, on asyncio or trio.

    What the program has allocated before is no burden: collecting the garbage of the many modules
    of a test run would take longer than any turn.
    """
    watch = Bystander()
    gc.collect()
    gc.freeze()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch.run)
        yield watch
        tasks.cancel_scope.cancel()
