"""What is seen of calls while they happen, as the rows of a sequence diagram."""

import asyncio
from typing import Any

from rich.console import Console

from rpcproto.cli.drawing import draw
from rpcproto.cli.sealing import Unreadable
from rpcproto.core.engine import RpcEngine
from rpcproto.core.events import Event, PacketIgnored
from rpcproto.core.messages import OutgoingPacket
from rpcproto.core.sealing import Cryptor
from rpcproto.recording import Style, Trace


class Watcher:
    """Collects what is seen, then draws it; times are those of the running event loop."""

    def __init__(self, cryptor: Cryptor | None = None) -> None:
        """`cryptor` opens packets that are encrypted, so that their content is shown."""
        self._began = 0.0
        self._cryptor = cryptor
        self._trace = Trace()

    @property
    def participants(self) -> list[str]:
        """Who has a part in it, from left to right."""
        return self._trace.participants

    def begin(self, *participants: str) -> None:
        """Start anew, with the clock at 0; these have a part in it whatever happens."""
        self._began = asyncio.get_running_loop().time()
        self._trace = Trace(*participants, cryptor=self._cryptor)

    def draw(self, console: Console) -> None:
        """Draw all that was seen, if anything was."""
        draw(self._trace, console)

    def note(self, participant: str, text: str, style: Style = Style.PLAIN) -> None:
        """Something happened at a participant."""
        self._trace.note(self._now(), participant, text, style)

    def call(self, caller: str, recipient: str, method: str, payload: str) -> None:
        """An engine is asked for a call."""
        self._trace.call(self._now(), caller, recipient, method, payload)

    def packet(self, sender: str, receiver: str, data: bytes, arrives: bool = True) -> None:
        """A packet is on its way. With an empty `sender`, it is from whom it says."""
        self._trace.packet(self._now(), sender, receiver, data, arrives)

    def engine_event(self, identity: str, event: Event) -> None:
        """An engine tells its host something."""
        self._trace.event(self._now(), identity, event)

    def _now(self) -> float:
        return asyncio.get_running_loop().time() - self._began


class WatchedEngine(RpcEngine):
    """An engine that shows what it is asked for and what it tells."""

    def __init__(self, watcher: Watcher, identity: str, **options: Any) -> None:
        super().__init__(identity, **options)
        self._watcher = watcher
        self._name = identity

    def call(self, destination_identity: str, method: str, payload: str, **options: Any) -> str:
        self._watcher.call(self._name, destination_identity, method, payload)
        return super().call(destination_identity, method, payload, **options)

    def handle_deadline(self, *, now: float) -> None:
        deadline = self.next_deadline
        if deadline is not None and deadline <= now:
            self._watcher.note(self._name, "a deadline passes", Style.NOTABLE)
        super().handle_deadline(now=now)

    def take_events(self) -> tuple[Event, ...]:
        events = super().take_events()
        for event in events:
            self._watcher.engine_event(self._name, event)
        return events


class WatchedEnd(WatchedEngine):
    """One that shows its packets as well, when they leave and when they come, and reports those
    that it cannot read.

    For who sees one end alone: a packet that leaves is shown as one that arrives.
    """

    def __init__(
        self, watcher: Watcher, unreadable: Unreadable, identity: str, **options: Any
    ) -> None:
        super().__init__(watcher, identity, **options)
        self._unreadable = unreadable

    def take_events(self) -> tuple[Event, ...]:
        events = super().take_events()
        for event in events:
            if isinstance(event, PacketIgnored):
                self._unreadable.count(event)
        return events

    def next_packet(self) -> OutgoingPacket | None:
        packet = super().next_packet()
        if packet is not None:
            self._watcher.packet(self._name, packet.destination_identity, packet.data)
        return packet

    def send_failed(self, packet: OutgoingPacket, *, now: float) -> None:
        self._watcher.note(self._name, "could not send it", Style.NOTABLE)
        super().send_failed(packet, now=now)

    def receive_packet(
        self,
        data: bytes | bytearray | memoryview,
        *,
        sender_identity: str | None = None,
        **options: Any,
    ) -> None:
        self._watcher.packet(sender_identity or "", self._name, bytes(data))
        super().receive_packet(data, sender_identity=sender_identity, **options)

    def participant_joined(self, identity: str, **options: Any) -> None:
        if identity in self._watcher.participants and identity not in self.participants:
            self._watcher.note(identity, "is here", Style.NOTABLE)
        super().participant_joined(identity, **options)

    def participant_left(self, identity: str, **options: Any) -> None:
        if identity in self._watcher.participants and identity in self.participants:
            self._watcher.note(identity, "leaves", Style.NOTABLE)
        super().participant_left(identity, **options)

    def disconnected(self, *, now: float) -> None:
        self._watcher.note(self._name, "the connection is lost", Style.NOTABLE)
        super().disconnected(now=now)

    def cancel(self, request_id: str, *, now: float) -> bool:
        self._watcher.note(self._name, "gives up", Style.NOTABLE)
        return super().cancel(request_id, now=now)
