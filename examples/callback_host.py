"""A host for a channel that calls back, such as a WebRTC data channel, on any event loop.

It is built on `ParticipantBase`, which brings everything that needs no waiting. Run it: it makes
two participants out of the two ends of a channel, and one calls the other.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from rpcproto import InvocationReceived, OutgoingPacket, RpcConfig
from rpcproto.participant import (
    CallArguments,
    Cancel,
    Outcome,
    ParticipantBase,
    RpcInvocationData,
    Waiter,
)
from rpcproto.transports import (
    Connected,
    Disconnected,
    PacketReceived,
    PacketsNotSent,
    ParticipantJoined,
    TransportEvent,
)


class Channel(Protocol):
    """A connection: calls `on_events` with what happened, `on_room` when there is room again."""

    on_events: Callable[[Sequence[TransportEvent]], object]
    on_room: Callable[[], object]

    @property
    def departure_grace(self) -> float: ...
    def has_room(self) -> bool: ...
    def send(self, packet: OutgoingPacket) -> None: ...
    def close(self) -> None: ...


class Loop(Protocol):
    """The part of an asyncio loop that is used here."""

    def time(self) -> float: ...
    def call_soon(self, callback: Callable[[], object], /) -> object: ...
    def call_at(self, when: float, callback: Callable[[], object], /) -> Any: ...


class CallbackParticipant(ParticipantBase[Channel]):
    """A participant whose calls end in callbacks.

    A handler is a plain function. It returns its answer, or a future of it: anything with
    `add_done_callback`, `cancel` and `result`, as asyncio and `concurrent.futures` have them.
    """

    def __init__(
        self,
        identity: str,
        channel: Channel,
        loop: Loop,
        config: RpcConfig = RpcConfig(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__(identity, channel, config=config, departure_grace=channel.departure_grace)
        self._loop = loop
        self._timer: Any = None
        self._is_sending = False
        self._has_left = False
        self.open_engine(loop.time)
        channel.on_events = self.receive_events
        channel.on_room = self.wake_writer

    def call(
        self,
        destination_identity: str,
        method: str,
        payload: str,
        waiter: Waiter,
        response_timeout: float | None = None,
    ) -> Cancel:
        """Call a participant; `waiter` takes the payload or the error. Returns what cancels it.

        Raises LocalProtocolError for misuse, and RpcError (1503) when the connection is lost.
        """
        waiters = [waiter]

        def deliver(outcome: Outcome) -> None:
            if waiters:  # the program may have cancelled the call since
                waiters.pop()(outcome)

        def end(outcome: Outcome) -> None:
            # The waiter is code of the program: it runs later, outside of the host's callbacks.
            self._loop.call_soon(partial(deliver, outcome))

        call = CallArguments(destination_identity, method, payload, response_timeout, None)
        cancel_call = self.begin_call(call, end)

        def cancel() -> None:
            waiters.clear()
            cancel_call()

        return cancel

    def close(self) -> None:
        """End all calls with 1503, cancel all handlers, send the packets that there is room for,
        and close the channel."""
        self.close_engine()
        self._has_left = True
        if self._timer is not None:
            self._timer.cancel()
        self._transport.close()

    # the hooks

    def wake_writer(self) -> None:
        if self._is_sending or self._has_left:
            return  # the loop below sees what comes up from within `send`
        self._is_sending = True
        while self.has_packets and self._transport.has_room():
            packet = self.next_packet()
            if packet is None:
                break
            try:
                self._transport.send(packet)
            except PacketsNotSent as error:
                self.packets_not_sent(error.packets)
            except Exception as error:
                self.sending_failed(error)
        self._is_sending = False

    def set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self.timer_fired)

    def start_handler(self, invocation: InvocationReceived) -> Callable[[], object]:
        handling = _Handling()
        self._loop.call_soon(partial(self._handle, invocation, handling))
        return handling.cancel

    def _handle(self, invocation: InvocationReceived, handling: "_Handling") -> None:
        if handling.is_cancelled:
            self.handler_ended(invocation)
            return
        try:
            result: Any = self.run_handler(invocation)
        except BaseException as error:
            self._failed(invocation, error)
            return
        if not hasattr(result, "add_done_callback"):
            self._answered(invocation, result)
            return
        handling.future = result
        end = partial(self._end, invocation, result)
        result.add_done_callback(lambda _: self._loop.call_soon(end))

    def _end(self, invocation: InvocationReceived, future: Any) -> None:
        try:
            result = future.result()
        except BaseException as error:
            self._failed(invocation, error)
        else:
            self._answered(invocation, result)

    def _answered(self, invocation: InvocationReceived, result: object) -> None:
        self.answer(invocation, result)
        self.handler_ended(invocation)

    def _failed(self, invocation: InvocationReceived, error: BaseException) -> None:
        self.answer_exception(invocation, error)
        self.handler_ended(invocation)
        if isinstance(error, KeyboardInterrupt):
            raise error


class _Handling:
    """A handler that was started, perhaps with a future that its answer will come from."""

    def __init__(self) -> None:
        self.future: Any = None
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True
        if self.future is not None:
            self.future.cancel()


class LoopChannel:
    """One end of a channel inside an event loop, with at most 64 KiB on their way."""

    departure_grace = 0.0

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.on_events: Callable[[Sequence[TransportEvent]], object] = lambda events: None
        self.on_room: Callable[[], object] = lambda: None
        self.buffered_amount = 0
        self.other: LoopChannel
        self._loop = loop

    def has_room(self) -> bool:
        return self.buffered_amount < 64 * 1024

    def send(self, packet: OutgoingPacket) -> None:
        self.buffered_amount += len(packet.data)
        self._loop.call_soon(self._arrive, packet.data)

    def _arrive(self, data: bytes) -> None:
        self.buffered_amount -= len(data)
        self.other.on_events([PacketReceived(data)])
        self.on_room()

    def close(self) -> None:
        self._loop.call_soon(self.other.on_events, [Disconnected()])


async def main() -> None:
    """Two participants, two calls."""
    loop = asyncio.get_running_loop()
    ends = LoopChannel(loop), LoopChannel(loop)
    ends[0].other, ends[1].other = ends[1], ends[0]
    alice, bob = (
        CallbackParticipant("alice", ends[0], loop),
        CallbackParticipant("bob", ends[1], loop),
    )
    for end, other in zip(ends, ("bob", "alice"), strict=True):
        joined = ParticipantJoined(other, client_protocol=2)
        end.on_events([joined, Connected(participants_complete=True)])

    @bob.register_rpc_method("greet")
    def greet(data: RpcInvocationData) -> str:
        return f"Hello, {data.caller_identity}!"

    for method in ("greet", "dance"):
        outcome: asyncio.Future[Outcome] = loop.create_future()
        alice.call("bob", method, "Hi", outcome.set_result)
        print(f"{method}: {await outcome}")
    alice.close()
    bob.close()


if __name__ == "__main__":
    asyncio.run(main())
