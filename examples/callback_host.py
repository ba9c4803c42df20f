"""A host for a channel that calls back, such as a WebRTC data channel, on any event loop.

It is built on `ParticipantBase`, which brings everything that needs no waiting. Run it: it makes
two participants out of the two ends of a channel, and one calls the other.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from rpcproto import InvocationReceived, OutgoingPacket, RpcError
from rpcproto.participant import Cancel, ParticipantBase, RpcInvocationData, Waiter
from rpcproto.transports import (
    Connected,
    Disconnected,
    PacketNotSent,
    PacketReceived,
    ParticipantJoined,
    TransportEvent,
)


class Channel(Protocol):
    """A way to somebody: calls `on_event` with what comes, `on_room` when there is room again."""

    on_event: Callable[[TransportEvent], None]
    on_room: Callable[[], None]

    def has_room(self) -> bool: ...
    def send(self, packet: OutgoingPacket) -> None: ...
    def close(self) -> None: ...


class Loop(Protocol):
    """What is used of an asyncio loop."""

    def time(self) -> float: ...
    def call_soon(self, callback: Callable[[], None], /) -> object: ...
    def call_at(self, when: float, callback: Callable[[], None], /) -> Any: ...


class CallbackParticipant(ParticipantBase[Channel]):
    """A participant whose calls end in callbacks. Handlers are plain functions."""

    def __init__(self, identity: str, channel: Channel, loop: Loop) -> None:
        super().__init__(identity, channel)
        self._loop = loop
        self._timer: Any = None
        self._is_sending = False
        self._open(loop.time)
        channel.on_event = self._receive
        channel.on_room = self._wake_writer

    def call(
        self,
        destination_identity: str,
        method: str,
        payload: str,
        waiter: Waiter,
        response_timeout: float | None = None,
    ) -> Cancel:
        """Call a participant; `waiter` gets the payload or the error. Returns what cancels it."""
        timeouts = response_timeout, None
        return self._call(destination_identity, method, payload, *timeouts, waiter)

    def close(self) -> None:
        """End all calls with 1503, send what there is room for, and close the channel."""
        self._close()
        if self._timer is not None:
            self._timer.cancel()
        self._transport.close()

    # the hooks

    def _wake_writer(self) -> None:
        if self._is_sending:
            return  # what comes up from within `send` is seen by the loop below
        self._is_sending = True
        while self._transport.has_room() and (packet := self._next_packet()) is not None:
            try:
                self._transport.send(packet)
            except PacketNotSent:
                self._packet_not_sent(packet)
            except Exception as error:
                self._sending_broke(error)
        self._is_sending = False

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._timer_fired)

    def _start_handler(self, invocation: InvocationReceived) -> Callable[[], object]:
        self._loop.call_soon(partial(self._handle, invocation))
        return lambda: None  # a plain function cannot be cancelled

    def _handle(self, invocation: InvocationReceived) -> None:
        try:
            result = self._run_handler(invocation)
        except Exception as error:
            self._answer_exception(invocation, error)
        else:
            self._answer(invocation, result)


class LoopChannel:
    """One end of a channel inside an event loop, with 64 KiB on their way at most."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.on_event: Callable[[TransportEvent], None] = lambda event: None
        self.on_room: Callable[[], None] = lambda: None
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
        self.other.on_event(PacketReceived(data))
        self.on_room()

    def close(self) -> None:
        self._loop.call_soon(self.other.on_event, Disconnected())


async def main() -> None:
    """Two participants, two calls."""
    loop = asyncio.get_running_loop()
    ends = LoopChannel(loop), LoopChannel(loop)
    ends[0].other, ends[1].other = ends[1], ends[0]
    alice, bob = (
        CallbackParticipant("alice", ends[0], loop),
        CallbackParticipant("bob", ends[1], loop),
    )
    ends[0].on_event(ParticipantJoined("bob", client_protocol=2))
    ends[1].on_event(ParticipantJoined("alice", client_protocol=2))
    for end in ends:
        end.on_event(Connected(participants_complete=True))

    @bob.register_rpc_method("greet")
    def greet(data: RpcInvocationData) -> str:
        return f"Hello, {data.caller_identity}!"

    for method in ("greet", "dance"):
        outcome: asyncio.Future[str | RpcError] = loop.create_future()
        alice.call("bob", method, "Hi", outcome.set_result)
        print(f"{method}: {await outcome}")
    alice.close()
    bob.close()


if __name__ == "__main__":
    asyncio.run(main())
