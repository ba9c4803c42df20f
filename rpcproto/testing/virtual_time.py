"""Virtual time for asyncio: a clock that jumps to the next timer when no task is ready."""

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
    """No task is ready and no timer is set, so the program would wait forever."""


def virtual_time_run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine like `asyncio.run`, on virtual time, and return its result.

    The loop's clock starts at 0, and does not move while a task is ready. Threads, sockets, pipes
    and subprocesses take real time, which a virtual clock can't wait for.

    Raises:
        Deadlock: All tasks wait, and no timer is set.
        RuntimeError: The program uses real time through the loop, as `asyncio.to_thread` does.
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
                "all tasks wait, and no timer is set; a thread or a real "
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
