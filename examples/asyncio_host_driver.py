"""The conformance kit for a host on asyncio, whose event loop runs on the kit's clock.

`rpcproto.asyncio.RpcParticipant` is the host here. Copy it and put your own in its place. Run it to
see all failures, or a summary. Under pytest, in a test module beside it, each scenario is a test:

    @pytest.mark.parametrize("scenario", scenarios(), ids=str)
    def test_the_host_passes(scenario: Scenario) -> None:
        play(scenario, Driver())
"""

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Protocol

import rpcproto.asyncio
from rpcproto import LocalProtocolError, OutgoingPacket, RpcError
from rpcproto.testing import counting_ids
from rpcproto.testing.hosts import CallHandle, Handler, HostSetup, VirtualClock, Work, check
from rpcproto.transports import BATCH_EVENTS, PacketsNotSent, TransportEvent


class KitLoop(asyncio.SelectorEventLoop):
    """An event loop on the kit's clock. It never waits, and its timers may fire early."""

    def __init__(self, clock: VirtualClock) -> None:
        self._kit_clock = clock
        self._kit_selector = _Selector(clock)
        self._timers: list[asyncio.TimerHandle] = []
        super().__init__(self._kit_selector)

    def time(self) -> float:
        return self._kit_clock.time()

    def call_at(  # type: ignore[override]
        self, when: float, *args: Any, **kwargs: Any
    ) -> asyncio.TimerHandle:
        early = self._kit_clock.early
        if 0.0 < early < when - self.time():
            when -= early
        timer = super().call_at(when, *args, **kwargs)
        self._timers.append(timer)
        return timer

    async def advance(self, seconds: float) -> None:
        """Let time pass, and return when nothing is ready to run any more."""
        over = self.create_future()
        self._kit_clock.schedule(seconds, partial(over.set_result, None))
        await over
        idle = self.create_future()
        self._kit_selector.idle.append(idle)
        await idle

    def has_timers(self) -> bool:
        """Whether a timer is set."""
        return any(not (t.cancelled() or t.when() <= self.time()) for t in self._timers)


class _Selector(selectors.DefaultSelector):  # type: ignore[misc,valid-type,unused-ignore]
    """Where an event loop would wait for sockets and timers, time jumps to the next timer."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock
        self.idle: list[asyncio.Future[None]] = []

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            return []  # something is ready to run
        if self.idle:
            self.idle.pop().set_result(None)
            return []
        instants = [] if timeout is None else [self._clock.time() + timeout]
        if self._clock.next_timer is not None:
            instants.append(self._clock.next_timer)
        assert instants, "every task waits, and nothing will happen"
        self._clock.move_to(min(instants))
        return []


class Event(Protocol):
    """An event of asyncio or trio."""

    def set(self) -> None: ...
    async def wait(self) -> Any: ...


class ChannelTransport:
    """The kit's channel as a `Transport`, for asyncio and for trio."""

    def __init__(
        self,
        setup: HostSetup,
        new_event: Callable[[], Event],
        checkpoint: Callable[[], Awaitable[object]],
    ) -> None:
        """`checkpoint` gives other tasks their turn."""
        self.identity = setup.identity
        self.departure_grace = setup.channel.departure_grace
        self._channel = setup.channel
        self._events: list[TransportEvent] = []
        self._new_event, self._checkpoint = new_event, checkpoint
        self._news = new_event()
        self._channel.on_events = self._add
        self._channel.on_room = self._wake

    def _add(self, events: Sequence[TransportEvent]) -> None:
        self._events += events
        self._wake()

    def _wake(self) -> None:
        if not self._channel.times_closed:
            self._news.set()
            self._news = self._new_event()

    async def send(self, take: Callable[[], OutgoingPacket | None]) -> None:
        while not self._channel.has_room():
            await self._news.wait()
        unsent: list[OutgoingPacket] = []
        while self._channel.has_room() and (packet := take()) is not None:
            try:
                self._channel.send(packet)
            except PacketsNotSent as error:
                unsent += error.packets
        if unsent:
            raise PacketsNotSent(unsent)

    async def receive(self) -> Sequence[TransportEvent]:
        await self._checkpoint()
        while not self._events:
            await self._news.wait()
        batch = self._events[:BATCH_EVENTS]
        del self._events[:BATCH_EVENTS]
        return batch

    async def aclose(self) -> None:
        self._channel.close()


def in_task(handler: Handler) -> Handler:
    """A handler of the kit for a host that awaits what a handler returns."""

    def handle(data: Any) -> Any:
        result = handler(data)
        return _wait_for(result) if isinstance(result, Work) else result

    return handle


async def _wait_for(work: Work) -> str:
    ended = asyncio.Event()
    work.add_done_callback(lambda _: ended.set())
    try:
        await ended.wait()
    except asyncio.CancelledError:
        work.cancel()
        await ended.wait()  # it may go on for a while
        raise
    return work.result()


class Driver:
    """Drives one `RpcParticipant`; see `rpcproto.testing.hosts.HostDriver`."""

    host_type = rpcproto.asyncio.RpcParticipant

    def start(self, setup: HostSetup) -> None:
        self.loop = KitLoop(setup.clock)
        self._leave = asyncio.Event()
        self._calls: list[asyncio.Task[None]] = []

        async def main() -> None:
            transport = ChannelTransport(setup, asyncio.Event, partial(asyncio.sleep, 0))
            participant = self.host_type(transport, config=setup.config, new_id=counting_ids("a"))
            for method, handler in setup.handlers.items():
                participant.register_rpc_method(method, in_task(handler))
            async with participant as self._participant:
                await self._leave.wait()

        self._main = self.loop.create_task(main())
        self.advance(0.0)

    def perform(
        self, destination_identity: str, method: str, payload: str, response_timeout: float | None
    ) -> CallHandle:
        handle = CallHandle()

        async def call() -> None:
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

        task = self.loop.create_task(call())
        self._calls.append(task)
        handle.cancel = task.cancel
        self.advance(0.0)
        return handle

    def cancel(self, handle: CallHandle) -> None:
        handle.cancel()
        self.advance(0.0)

    def advance(self, seconds: float) -> None:
        self._run(self.loop.advance(seconds))

    def close(self) -> None:
        self._leave.set()
        self._run(self._main)
        self._run(asyncio.wait(self._calls) if self._calls else asyncio.sleep(0))
        assert not asyncio.all_tasks(self.loop), "the host has left, and a task is running"
        assert not self.loop.has_timers(), "the host has left, and a timer is set"
        self.loop.close()

    def _run(self, what: Coroutine[Any, Any, Any] | asyncio.Task[Any]) -> None:
        self.loop.run_until_complete(what)


if __name__ == "__main__":
    print(check(Driver))
