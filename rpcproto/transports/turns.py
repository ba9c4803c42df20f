"""Turns of the streams of an event loop: many peers occupy it together no longer than one does.

Needs the extra `anyio`.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from anyio.lowlevel import RunVar

from rpcproto.transports import BATCH_EVENTS
from rpcproto.transports.waking import Waker, runs_on_asyncio

PACKET_WORK: Final = 1_024
"""What a packet costs beside its size, in bytes of packets that cost the same."""
ROUND_WORK: Final = BATCH_EVENTS * PACKET_WORK
"""What all streams together may hand over in one round of the event loop. A batch that begins
within it is handed over whole."""

Schedule: TypeAlias = Callable[[Callable[[], object]], object]
"""Calls a function in the next round of the event loop."""


class Turns:
    """Lets the readers of streams go on as long as the round has room, and in order after that."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._left = ROUND_WORK
        self._is_scheduled = False
        self._waiting: deque[tuple[int, Waker]] = deque()

    async def take(self, packets: Sequence[bytes]) -> None:
        """Wait until the reader may hand over these packets."""
        work = len(packets) * PACKET_WORK + sum(map(len, packets))
        if not self._is_scheduled:
            self._is_scheduled = True
            self._schedule(self._begin_round)
        if self._left > 0 and not self._waiting:
            self._left -= work
            return
        waker = Waker()
        self._waiting.append((work, waker))
        await waker.wait()  # whoever is cancelled keeps its turn, which nobody uses then

    def _begin_round(self) -> None:
        self._left = ROUND_WORK
        while self._waiting and self._left > 0:
            work, waker = self._waiting.popleft()
            self._left -= work
            waker.wake()
        self._is_scheduled = self._left < ROUND_WORK
        if self._is_scheduled:
            self._schedule(self._begin_round)


_turns: Final[RunVar[Turns]] = RunVar("rpcproto.transports.turns")


def turns() -> Turns:
    """The turns of the event loop that runs."""
    found = _turns.get(None)
    if found is None:
        found = Turns(_scheduler())
        _turns.set(found)
    return found


def _scheduler() -> Schedule:
    if runs_on_asyncio():
        return asyncio.get_running_loop().call_soon
    import trio  # noqa: PLC0415 - it may be missing where asyncio runs

    return trio.lowlevel.current_trio_token().run_sync_soon
