"""Asyncio on a clock of its own, which jumps to the next timer whenever nothing is ready."""

import asyncio
import math
import selectors
import time
from collections.abc import Coroutine, Mapping
from typing import Any, Final, NoReturn, TypeVar

T = TypeVar("T")
_RESOLUTION: Final = time.get_clock_info("monotonic").resolution
"""By how much asyncio lets timers fire early, in seconds."""


class Deadlock(RuntimeError):  # noqa: N818 (a name everybody knows)
    """Nothing is ready and no timer is set: the program would wait for ever."""


def virtual_time_run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine as `asyncio.run` does, on virtual time; returns its result.

    The loop's clock starts at 0 and stands still while anything is ready. Raises Deadlock when
    nothing ever will be. Threads, sockets, pipes and subprocesses take real time, which a virtual
    clock does not wait for: those that are started through the loop, as `asyncio.to_thread` does,
    are refused with a RuntimeError.
    """
    with asyncio.Runner(loop_factory=_VirtualTimeLoop) as runner:
        return runner.run(main)


class _VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _Clock()
        super().__init__(self._clock)
        self._clock.accepts_files = False  # the loop's own wake-up pipe was the last one

    def time(self) -> float:
        return self._clock.now

    def run_in_executor(self, *_: Any) -> NoReturn:  # type: ignore[override]
        raise RuntimeError(
            "a thread cannot advance virtual time: run this on a real loop, or replace what the "
            "thread does by a coroutine"
        )


class _Clock(selectors.BaseSelector):
    """A selector that selects nothing: instead of waiting, it lets the time pass."""

    def __init__(self) -> None:
        self.now = 0.0
        self.accepts_files = True
        self._files: dict[int, selectors.SelectorKey] = {}

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock(
                "every task waits, and no timer is set that could end it; a thread or a real "
                "socket cannot advance virtual time"
            )
        self.now += timeout
        if timeout and self.now + _RESOLUTION == self.now:
            # After some months of virtual time asyncio would find that the timer is not quite due.
            self.now = math.nextafter(self.now, math.inf)
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        if not self.accepts_files:
            raise RuntimeError(
                "a real socket or pipe cannot advance virtual time: use a MemoryRoom instead"
            )
        descriptor = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        key = selectors.SelectorKey(fileobj, descriptor, events, data)
        self._files[descriptor] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._files.pop(fileobj if isinstance(fileobj, int) else fileobj.fileno())

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._files
