"""Transports that do what a test says, packet by packet and event by event."""

from collections.abc import AsyncIterator, Callable, Sequence

from rpcproto import OutgoingPacket
from rpcproto.transports import PacketsNotSent, Transport, TransportEvent


def of(*packets: OutgoingPacket) -> Callable[[], OutgoingPacket | None]:
    """These packets, as `Transport.send` takes them."""
    waiting = list(packets)
    return lambda: waiting.pop(0) if waiting else None


async def all_events(transport: Transport) -> list[TransportEvent]:
    """What a transport has to report, until its end."""
    events: list[TransportEvent] = []
    while batch := await transport.receive():
        events += batch
    return events


class ScriptedTransport:
    """A transport of which a test writes `send_packet` and `events`."""

    departure_grace = 0.0

    def __init__(self, identity: str = "alice") -> None:
        self.identity = identity
        self._iterator: AsyncIterator[TransportEvent] | None = None

    async def send_packet(self, packet: OutgoingPacket) -> None:
        """Send one packet; may raise PacketsNotSent for it."""

    def events(self) -> AsyncIterator[TransportEvent]:
        """What happens, one by one."""
        raise NotImplementedError

    async def send(self, take: Callable[[], OutgoingPacket | None]) -> None:
        failed: list[OutgoingPacket] = []
        while (packet := take()) is not None:
            try:
                await self.send_packet(packet)
            except PacketsNotSent as error:
                failed += error.packets
        if failed:
            raise PacketsNotSent(failed)

    async def receive(self) -> Sequence[TransportEvent]:
        if self._iterator is None:
            self._iterator = self.events()
        try:
            return [await anext(self._iterator)]
        except StopAsyncIteration:
            return ()

    async def aclose(self) -> None:
        pass
