"""What a reader waits on: on asyncio or trio, whichever it runs in. Needs the extra `anyio`."""

import asyncio

import anyio


class Waker:
    """Wakes the one task that waits. `anyio.Event` does the same at several times the cost, since
    it looks for the running library each time."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._future: asyncio.Future[None] | None = None
        self._event: anyio.Event | None = None
        self._is_asyncio: bool | None = None

    async def wait(self) -> None:
        """Wait for the next `wake`. Check before whether there is something to wait for."""
        if self._is_asyncio is None:
            self._is_asyncio = runs_on_asyncio()
        if self._is_asyncio:
            self._future = asyncio.get_running_loop().create_future()
            await self._future
        else:
            self._event = anyio.Event()
            await self._event.wait()

    def wake(self) -> None:
        """Let the task that waits look again; nothing if none does."""
        future, self._future = self._future, None
        if future is not None:
            if not future.done():
                future.set_result(None)
        elif self._event is not None:
            self._event.set()
            self._event = None


def runs_on_asyncio() -> bool:
    """Whether the running event loop is asyncio's."""
    # sniffio would say it, but anyio does not bring it any more.
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False
