"""The hosts of the package, driven by the conformance kit."""

import asyncio
import selectors
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import trio
import trio.testing
from blocking_host import BlockingParticipant
from callback_host import CallbackParticipant

import rpcproto.asyncio
import rpcproto.trio
from rpcproto import OutgoingPacket, RpcError
from rpcproto.participant import RpcInvocationData
from rpcproto.testing import counting_ids
from rpcproto.testing.hosts import CallHandle, Channel, Handler, VirtualClock
from rpcproto.transports import TransportEvent

T = TypeVar("T")


class ChannelTransport:
    """A channel of the kit as a `Transport`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._events: deque[TransportEvent] = deque()
        self._wake = anyio.Event()
        channel.on_event = self._on_event
        channel.on_room = self._on_room

    def _on_event(self, event: TransportEvent) -> None:
        self._events.append(event)
        self._on_room()

    def _on_room(self) -> None:
        self._wake.set()
        self._wake = anyio.Event()

    async def send(self, packet: OutgoingPacket) -> None:
        while not self._channel.has_room():
            await self._wake.wait()
        self._channel.send(packet)
        await anyio.lowlevel.checkpoint()

    async def __aiter__(self) -> AsyncIterator[TransportEvent]:
        while True:
            while self._events:
                yield self._events.popleft()
            await self._wake.wait()

    async def aclose(self) -> None:
        self._channel.close()


def takes_data(handler: Handler) -> Callable[[RpcInvocationData], Any]:
    return lambda data: handler(data.payload)


async def fill(
    handle: CallHandle,
    participant: rpcproto.asyncio.RpcParticipant | rpcproto.trio.RpcParticipant,
    destination_identity: str,
    method: str,
    payload: str,
    response_timeout: float | None,
) -> None:
    """Make a call and tell the kit how it ended; nothing if it is cancelled."""
    try:
        reply = await participant.perform_rpc(
            destination_identity=destination_identity,
            method=method,
            payload=payload,
            response_timeout=response_timeout,
        )
    except RpcError as error:
        handle.end(error)
    else:
        handle.end(reply)


# asyncio


class KitLoop(asyncio.SelectorEventLoop):
    """An event loop on the kit's time; its timers may fire early."""

    def __init__(self, clock: VirtualClock) -> None:
        self._kit_clock = clock
        self._selector_of_kit = _Selector(clock)
        super().__init__(self._selector_of_kit)

    def time(self) -> float:
        return self._kit_clock.time()

    def call_at(  # type: ignore[override]
        self, when: float, *args: Any, **kwargs: Any
    ) -> asyncio.TimerHandle:
        early = self._kit_clock.early
        if 0.0 < early < when - self.time():
            when -= early
        return super().call_at(when, *args, **kwargs)

    async def settle(self) -> None:
        """Until nothing is ready."""
        idle = self.create_future()
        self._selector_of_kit.idle.append(idle)
        await idle


class _Selector(selectors.DefaultSelector):  # type: ignore[misc,valid-type,unused-ignore]
    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock
        self.idle: list[asyncio.Future[None]] = []

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout > 0:
            if self.idle:
                self.idle.pop().set_result(None)
                return []
            instants = [] if timeout is None else [self._clock.time() + timeout]
            if self._clock.next_timer is not None:
                instants.append(self._clock.next_timer)
            assert instants, "everything waits, and nothing will happen"
            self._clock.move_to(min(instants))
        return []


class AsyncioDriver:
    """Drives `rpcproto.asyncio.RpcParticipant`."""

    def start(
        self, identity: str, channel: Channel, clock: VirtualClock, handlers: Mapping[str, Handler]
    ) -> None:
        self._clock = clock
        self._loop = KitLoop(clock)
        self._leave = asyncio.Event()
        self._calls: list[asyncio.Task[None]] = []

        async def main() -> None:
            participant = rpcproto.asyncio.RpcParticipant(
                identity, ChannelTransport(channel), new_id=counting_ids("a")
            )
            for method, handler in handlers.items():
                participant.register_rpc_method(method, takes_data(handler))
            async with participant as self._participant:
                await self._leave.wait()

        self._main = self._loop.create_task(main())
        self.advance(0.0)

    def perform(
        self, destination_identity: str, method: str, payload: str, response_timeout: float | None
    ) -> CallHandle:
        handle = CallHandle()

        call = fill(
            handle, self._participant, destination_identity, method, payload, response_timeout
        )

        task = self._loop.create_task(call)
        self._calls.append(task)
        handle.cancel = task.cancel
        self.advance(0.0)
        return handle

    def cancel(self, handle: CallHandle) -> None:
        handle.cancel()
        self.advance(0.0)

    def advance(self, seconds: float) -> None:
        self._run(self._advance(seconds))

    async def _advance(self, seconds: float) -> None:
        over = self._loop.create_future()
        self._clock.schedule(seconds, partial(over.set_result, None))
        await over
        await self._loop.settle()

    def close(self) -> None:
        self._leave.set()
        self._run(self._main)
        self._run(asyncio.wait(self._calls) if self._calls else asyncio.sleep(0))
        assert not asyncio.all_tasks(self._loop)
        self._loop.close()

    def _run(self, what: Coroutine[Any, Any, Any] | asyncio.Task[Any]) -> None:
        self._loop.run_until_complete(what)


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


class TrioDriver:
    """Drives `rpcproto.trio.RpcParticipant`, whose trio runs in a thread of its own. Only one of
    the two threads runs at a time."""

    def start(
        self, identity: str, channel: Channel, clock: VirtualClock, handlers: Mapping[str, Handler]
    ) -> None:
        self._clock = clock
        self._error: BaseException | None = None
        started = threading.Event()

        async def main() -> None:
            self._token = trio.lowlevel.current_trio_token()
            self._leave = trio.Event()
            participant = rpcproto.trio.RpcParticipant(
                identity, ChannelTransport(channel), new_id=counting_ids("a")
            )
            for method, handler in handlers.items():
                participant.register_rpc_method(method, takes_data(handler))
            async with trio.open_nursery() as self._nursery, participant as self._participant:
                started.set()
                await self._leave.wait()

        def run() -> None:
            try:
                trio.run(main, clock=TrioClock(clock))
            except BaseException as error:
                self._error = error
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
                await fill(
                    handle,
                    self._participant,
                    destination_identity,
                    method,
                    payload,
                    response_timeout,
                )

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
        while self._thread.is_alive():
            try:
                self.advance(0.0625)
            except (trio.RunFinishedError, trio.Cancelled):
                break
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _sync(self, what: Callable[[], object]) -> None:
        trio.from_thread.run_sync(what, trio_token=self._token)


# callbacks


class CallbackDriver:
    """Drives `examples/callback_host.py`."""

    participant_type = CallbackParticipant

    def start(
        self, identity: str, channel: Channel, clock: VirtualClock, handlers: Mapping[str, Handler]
    ) -> None:
        self._clock = clock
        self._participant = self.participant_type(identity, channel, clock)
        for method, handler in handlers.items():
            self._participant.register_rpc_method(method, takes_data(handler))

    def perform(
        self, destination_identity: str, method: str, payload: str, response_timeout: float | None
    ) -> CallHandle:
        handle = CallHandle()
        try:
            handle.cancel = self._participant.call(
                destination_identity, method, payload, handle.end, response_timeout
            )
        except RpcError as error:
            handle.end(error)
        return handle

    def cancel(self, handle: CallHandle) -> None:
        handle.cancel()

    def advance(self, seconds: float) -> None:
        self._clock.advance(seconds)

    def close(self) -> None:
        self._participant.close()


# threads


class Threads(ThreadPoolExecutor):
    """Threads that can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._futures: list[Future[Any]] = []

    def submit(self, *args: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = super().submit(*args, **options)
        self._futures.append(future)
        return future

    def settle(self) -> None:
        """Until nothing runs any more, and nothing has failed."""
        while self._futures:
            future = self._futures.pop()
            if not future.cancelled():
                future.result()


class BlockingDriver:
    """Drives `examples/blocking_host.py`: while it settles, the kit's own thread does nothing."""

    def start(
        self, identity: str, channel: Channel, clock: VirtualClock, handlers: Mapping[str, Handler]
    ) -> None:
        self._clock = clock
        self._threads = Threads()
        self._participant = BlockingParticipant(
            identity, channel, clock, self._threads, self._threads
        )
        for method, handler in handlers.items():
            self._participant.register_rpc_method(method, takes_data(handler))

    def perform(
        self, destination_identity: str, method: str, payload: str, response_timeout: float | None
    ) -> CallHandle:
        handle = CallHandle()
        future = self._participant.submit_rpc(
            destination_identity, method, payload, response_timeout
        )
        handle.cancel = future.cancel

        def ended(_: "Future[str]") -> None:
            if not future.cancelled():
                error = future.exception()
                assert error is None or isinstance(error, RpcError)
                handle.end(error or future.result())

        future.add_done_callback(ended)
        self._threads.settle()
        return handle

    def cancel(self, handle: CallHandle) -> None:
        handle.cancel()
        self._threads.settle()

    def advance(self, seconds: float) -> None:
        end = self._clock.time() + seconds
        self._threads.settle()
        while (at := self._clock.next_timer) is not None and at <= end:
            self._clock.move_to(at)
            self._threads.settle()
        self._clock.move_to(end)

    def close(self) -> None:
        self._participant.close()
        self._threads.settle()
        self._threads.shutdown()
