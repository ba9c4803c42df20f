"""Drivers of the conformance kit for the hosts of the package and of the examples.

Those for asyncio and for callbacks are in `examples/`, to be copied.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import asyncio_host_driver
import blocking_host
import host_driver
import trio
import trio.testing
from asyncio_host_driver import ChannelTransport

import rpcproto.trio
from rpcproto import LocalProtocolError, RpcError
from rpcproto.testing import counting_ids
from rpcproto.testing.hosts import CallHandle, Handler, HostDriver, HostSetup, VirtualClock, Work

# trio


class TrioClock(trio.abc.Clock):
    """The kit's time, as trio asks for it; it never waits."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        return self._clock.time()

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return 0.0 if deadline <= self._clock.time() else 1e6


def in_trio_task(handler: Handler) -> Handler:
    """A handler of the kit for a host that awaits what a handler returns."""

    def handle(data: Any) -> Any:
        result = handler(data)
        return _wait_in_trio(result) if isinstance(result, Work) else result

    return handle


async def _wait_in_trio(work: Work) -> str:
    ended = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def end(_: object) -> None:
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(ended.set)

    work.add_done_callback(end)
    try:
        await ended.wait()
    except trio.Cancelled:
        work.cancel()
        with trio.CancelScope(shield=True):
            await ended.wait()
        raise
    return work.result()


class TrioDriver:
    """Drives `rpcproto.trio.RpcParticipant`, whose trio runs in a thread of its own. Only one of
    the two threads runs at a time."""

    host_type = rpcproto.trio.RpcParticipant
    _everything: trio.CancelScope

    def start(self, setup: HostSetup) -> None:
        self._clock = setup.clock
        self._error: BaseException | None = None
        started = threading.Event()

        async def main() -> None:
            self._token = trio.lowlevel.current_trio_token()
            self._leave = trio.Event()
            transport = ChannelTransport(setup, trio.Event, trio.lowlevel.checkpoint)
            participant = self.host_type(transport, config=setup.config, new_id=counting_ids("a"))
            for method, handler in setup.handlers.items():
                participant.register_rpc_method(method, in_trio_task(handler))
            with trio.CancelScope() as self._everything:
                async with trio.open_nursery() as self._nursery, participant as self._participant:
                    started.set()
                    await self._leave.wait()

        def run() -> None:
            try:
                trio.run(main, clock=TrioClock(setup.clock))
            except BaseException as error:
                self._error = error
            finally:
                started.set()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        started.wait()
        self.advance(0.0)

    def perform(
        self, destination_identity: str, method: str, payload: str, response_timeout: float | None
    ) -> CallHandle:
        handle = CallHandle()
        scope = trio.CancelScope()
        handle.cancel = scope.cancel

        async def call() -> None:
            with scope:
                try:
                    reply = await self._participant.perform_rpc(
                        destination_identity=destination_identity,
                        method=method,
                        payload=payload,
                        response_timeout=response_timeout,
                    )
                except (RpcError, LocalProtocolError) as error:
                    handle.end(error)
                else:
                    handle.end(reply)

        self._sync(partial(self._nursery.start_soon, call))
        self.advance(0.0)
        return handle

    def cancel(self, handle: CallHandle) -> None:
        self._sync(handle.cancel)
        self.advance(0.0)

    def advance(self, seconds: float) -> None:
        trio.from_thread.run(self._advance, self._clock.time() + seconds, trio_token=self._token)

    async def _advance(self, end: float) -> None:
        while True:
            await trio.testing.wait_all_tasks_blocked()
            seconds = trio.lowlevel.current_statistics().seconds_to_next_deadline
            instants = [end, self._clock.time() + max(seconds, 0.0)]
            if self._clock.next_timer is not None:
                instants.append(self._clock.next_timer)
            at = min(instants)
            is_last = at >= end and min(instants[1:]) > end
            self._clock.move_to(at)
            if is_last:
                return

    def close(self) -> None:
        self._sync(self._leave.set)
        for _ in range(200):
            try:
                self.advance(0.0625)
            except (trio.RunFinishedError, trio.Cancelled):
                break
        else:
            raise AssertionError("the host does not leave")
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _sync(self, what: Callable[[], object]) -> None:
        trio.from_thread.run_sync(what, trio_token=self._token)


# threads


class Threads(ThreadPoolExecutor):
    """Threads that can be waited for, until each has ended or waits for the kit's clock."""

    def __init__(self) -> None:
        super().__init__(64)
        self._busy = 0
        self._changed = threading.Condition()
        self.failures: list[BaseException] = []

    def submit(self, *args: Any, **options: Any) -> "Future[Any]":
        self._count(1)
        future: Future[Any] = super().submit(*args, **options)
        future.add_done_callback(self._ended)
        return future

    def _ended(self, future: "Future[Any]") -> None:
        if not future.cancelled() and (error := future.exception()) is not None:
            self.failures.append(error)
        self._count(-1)

    def wait_for(self, work: Work) -> str:
        """In a thread: wait for the end of this work."""
        self._count(-1)
        work.add_done_callback(lambda _: self._count(1))  # in the thread that ends it, at once
        return work.result()

    def settle(self) -> None:
        """Wait until no thread runs; raises what one of them has raised."""
        with self._changed:
            assert self._changed.wait_for(lambda: not self._busy, timeout=60)
        if self.failures:
            raise self.failures.pop()

    def _count(self, change: int) -> None:
        with self._changed:
            self._busy += change
            self._changed.notify_all()


class BlockingDriver:
    """Drives `examples/blocking_host.py`: while it settles, the kit's own thread does nothing."""

    module: Any = blocking_host

    def start(self, setup: HostSetup) -> None:
        self._clock = setup.clock
        self.threads = Threads()
        self._futures: list[tuple[Future[str], CallHandle]] = []
        self._participant = self.module.BlockingParticipant(
            setup.identity, setup.channel, setup.clock, self.threads, self.threads, setup.config
        )
        for method, handler in setup.handlers.items():
            self._participant.register_rpc_method(method, self._in_thread(handler))

    def _in_thread(self, handler: Handler) -> Handler:
        def handle(data: Any) -> Any:
            result = handler(data)
            if not isinstance(result, Work):
                return result
            self.module.when_abandoned(result.cancel)
            return self.threads.wait_for(result)

        return handle

    def perform(
        self, destination_identity: str, method: str, payload: str, response_timeout: float | None
    ) -> CallHandle:
        handle = CallHandle()
        future = self._participant.submit_rpc(
            destination_identity, method, payload, response_timeout
        )
        handle.cancel = future.cancel
        self._futures.append((future, handle))
        self._settle()
        return handle

    def cancel(self, handle: CallHandle) -> None:
        handle.cancel()
        self._settle()

    def advance(self, seconds: float) -> None:
        end = self._clock.time() + seconds
        self._settle()
        while (at := self._clock.next_timer) is not None and at <= end:
            self._clock.move_to(at)
            self._settle()
        self._clock.move_to(end)

    def close(self) -> None:
        self._participant.close()
        self._settle()
        self.threads.shutdown(wait=False)  # a handler may go on for a while

    def _settle(self) -> None:
        """Here the program's threads would have their outcomes."""
        self.threads.settle()
        waiting, self._futures = self._futures, []
        for future, handle in waiting:
            if not future.done():
                self._futures.append((future, handle))
            elif not future.cancelled():
                error = future.exception()
                assert error is None or isinstance(error, Exception)
                handle.end(error or future.result())


DRIVERS: dict[str, Callable[[], HostDriver]] = {
    "asyncio": asyncio_host_driver.Driver,
    "trio": TrioDriver,
    "callback": host_driver.Driver,
    "blocking": BlockingDriver,
}
