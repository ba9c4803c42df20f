"""How much has arrived that nobody has looked at yet, where a WebRTC stack does not say it."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from rpcproto.logs import logger

MAX_MESSAGES: Final = 20_000
"""More messages than this do not wait."""
MAX_BYTES: Final = 32 << 20
"""Nor more bytes."""
ASK_MESSAGES: Final = 500
"""After so many messages the stack is asked again."""
ASK_BYTES: Final = 1 << 20
"""Or after so many bytes."""


class Backlog:
    """Messages that wait in the queue of a stack's own threads, which has no limit.

    The answers of `ask` wait in the same queue. So what is taken between a question and its
    answer had arrived when it was asked.
    """

    def __init__(self, ask: Callable[[], Awaitable[object]]) -> None:
        self._ask = ask
        self._messages = self._bytes = 0
        self._asked_at = (0, 0)
        self._open: deque[tuple[int, int]] = deque()
        """What had been taken at each question that has no answer yet."""
        self._asking: set[asyncio.Task[None]] = set()

    def take(self, size: int) -> bool:
        """A message was taken from the queue; return whether too many wait behind it."""
        self._messages += 1
        self._bytes += size
        messages, total = self._asked_at
        if self._messages - messages >= ASK_MESSAGES or self._bytes - total >= ASK_BYTES:
            self._asked_at = (self._messages, self._bytes)
            self._open.append(self._asked_at)
            task = asyncio.create_task(self._wait_for_answer())
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        if not self._open:
            return False
        messages, total = self._open[0]
        return self._messages - messages > MAX_MESSAGES or self._bytes - total > MAX_BYTES

    async def _wait_for_answer(self) -> None:
        try:
            await self._ask()
        except Exception as error:  # whatever the stack raises
            logger.debug("how much is waiting is not known: %r", error)
        finally:
            self._open.popleft()  # answers come in the order of their questions

    async def close(self) -> None:
        """Wait for no answer any more."""
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)
