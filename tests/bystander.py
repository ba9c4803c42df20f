"""How long the other tasks of a program wait for their turn, in processor time of its thread."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

MAX_TURN: Final = 0.020
"""Seconds of processor time that a stranger may cost between two turns of a bystander."""
RUNS: Final = 3
"""The best of so many runs counts: others use the machine as well."""


class Bystander:
    """A task that does nothing but take its turns."""

    def __init__(self) -> None:
        self.longest = 0.0
        """The most processor time between two turns, in seconds."""
        self.turns = 0

    async def run(self) -> None:
        before = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            self.longest = max(self.longest, now - before)
            self.turns += 1
            before = now


@asynccontextmanager
async def bystander() -> AsyncIterator[Bystander]:
    """A bystander, as long as the block runs. For asyncio."""
    watch = Bystander()
    task = asyncio.create_task(watch.run())
    try:
        yield watch
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
