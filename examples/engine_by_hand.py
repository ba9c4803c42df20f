"""No host at all: a channel that calls back, the engine, and the loop of the README.

Two ends of a channel inside an asyncio loop; the clock and the timers are the loop's. What a real
host needs besides is in `callback_host.py`.
"""

import asyncio
from collections.abc import Callable

from rpcproto import (
    CallFailed,
    CallSucceeded,
    Event,
    InvocationReceived,
    OutgoingPacket,
    RpcEngine,
    random_ids,
)


class Channel:
    """A channel with a callback for what comes, and a measure of what has not left yet."""

    on_message: Callable[[bytes], None]
    on_buffered_amount_low: Callable[[], None]
    other: "Channel"

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.buffered_amount = 0
        self._loop = loop

    def has_room(self) -> bool:
        return self.buffered_amount < 64 * 1024

    def send(self, data: bytes) -> None:
        self.buffered_amount += len(data)
        self._loop.call_soon(self._deliver, data)

    def _deliver(self, data: bytes) -> None:
        self.buffered_amount -= len(data)
        self.other.on_message(data)
        self.on_buffered_amount_low()


class Participant:
    """An engine, its channel, and the loop's timer."""

    def __init__(self, identity: str, channel: Channel, loop: asyncio.AbstractEventLoop) -> None:
        self.engine = RpcEngine(identity, new_id=random_ids())
        self.outcomes: dict[str, asyncio.Future[CallSucceeded | CallFailed]] = {}
        self._channel, self._loop = channel, loop
        self._timer: asyncio.TimerHandle | None = None
        channel.on_message = self.on_message
        channel.on_buffered_amount_low = self.pump

    async def call(self, destination: str, method: str, payload: str) -> CallSucceeded | CallFailed:
        call = self.engine.call(destination, method, payload, now=self._loop.time())
        outcome: asyncio.Future[CallSucceeded | CallFailed] = self._loop.create_future()
        self.outcomes[call] = outcome
        self.pump()
        return await outcome

    def on_message(self, data: bytes) -> None:
        self.engine.receive_packet(data, now=self._loop.time())
        self.pump()

    def on_timer(self) -> None:
        self.engine.handle_deadline(now=self._loop.time())
        self.pump()

    def pump(self) -> None:
        """After any input: packets out, events in, and the timer set anew."""
        for event in self.engine.take_events():
            self.dispatch(event)
        while self._channel.has_room() and (packet := self.engine.next_packet()) is not None:
            self.send(packet)
        if self._timer is not None:
            self._timer.cancel()
        deadline = self.engine.next_deadline
        self._timer = None if deadline is None else self._loop.call_at(deadline, self.on_timer)

    def send(self, packet: OutgoingPacket) -> None:
        print(f"{packet.kind.value:14} -> {packet.destination_identity} ({len(packet.data)} bytes)")
        self._channel.send(packet.data)

    def dispatch(self, event: Event) -> None:
        match event:
            case CallSucceeded() | CallFailed():
                self.outcomes.pop(event.request_id).set_result(event)
            case InvocationReceived(invocation_id, caller_identity=caller, payload=payload):
                answer = f"Hello, {caller}! You said: {payload}"
                self.engine.respond(invocation_id, answer, now=self._loop.time())


async def main() -> None:
    """alice greets bob, then asks for what he does not know."""
    loop = asyncio.get_running_loop()
    ends = Channel(loop), Channel(loop)
    ends[0].other, ends[1].other = ends[1], ends[0]
    alice, bob = Participant("alice", ends[0], loop), Participant("bob", ends[1], loop)
    bob.engine.register_method("greet")
    print(await alice.call("bob", "greet", "Hi"))
    print(await alice.call("bob", "dance", "Tango"))


if __name__ == "__main__":
    asyncio.run(main())
