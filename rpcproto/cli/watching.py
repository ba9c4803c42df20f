"""What is seen of calls while they happen, as the rows of a sequence diagram.

The arrows are packets, decoded from their bytes; chunks of a stream with nothing in between share
one. The notes are what engines are asked for and what they tell their hosts.
"""

import asyncio
from typing import Any, Final, NamedTuple

from rich.console import Console

from rpcproto.cli.decode import kind_of, style_of
from rpcproto.cli.lifelines import ASCII, BOXES, Arrow, Note, Row, draw
from rpcproto.core import wire
from rpcproto.core.engine import RpcEngine
from rpcproto.core.events import (
    CallFailed,
    CallSucceeded,
    Event,
    InvocationAbandoned,
    InvocationReceived,
    PacketIgnored,
)
from rpcproto.core.messages import DEFLATE_RAW, Message, OutgoingPacket, StreamChunk, StreamHeader

MAX_SHOWN_BYTES: Final = 50
"""Longer payloads are shown by their size."""


def shown(payload: str) -> str:
    """A payload, or how large it is."""
    size = len(payload.encode())
    return repr(payload) if size <= MAX_SHOWN_BYTES else f"{size:,} bytes"


class _Chunks(NamedTuple):
    """Chunks of one stream that came one right after the other, and the row that shows them."""

    sender: str
    receiver: str
    stream_id: str
    arrives: bool
    number: int
    size: int
    row: Row


class Watcher:
    """Collects what is seen, then draws it; times are those of the running event loop."""

    def __init__(self) -> None:
        self._began = 0.0
        self._rows: list[Row] = []
        self._chunks: _Chunks | None = None
        self.participants: list[str] = []
        """Who has a part in it, from left to right."""

    def begin(self, *participants: str) -> None:
        """Start anew, with the clock at 0; these have a part in it whatever happens."""
        self._began = asyncio.get_running_loop().time()
        self._rows.clear()
        self.participants = list(participants)

    def draw(self, console: Console) -> None:
        """Draw all that was seen, if anything was."""
        if not self._rows:
            return
        glyphs = BOXES if console.encoding.lower().startswith("utf") else ASCII
        for line in draw(self.participants, self._rows, console.width, glyphs):
            console.print(line)

    def note(self, participant: str, text: str, style: str = "") -> None:
        """Something happened at a participant."""
        self._take_part(participant)
        self._rows.append(Note(self._now(), participant, text, style))

    def call(self, caller: str, recipient: str, method: str, payload: str) -> None:
        """An engine is asked for a call."""
        self.note(caller, f"calls {recipient}: {method} {shown(payload)}")
        self._take_part(recipient)

    def packet(self, sender: str, receiver: str, data: bytes, arrives: bool = True) -> None:
        """A packet is on its way."""
        self._take_part(sender, receiver)
        packet = wire.decode(data)
        message = None if packet is None else packet.message
        kind = "malformed packet" if message is None else kind_of(message)
        arrow = Arrow(
            self._now(),
            sender,
            receiver,
            f"{kind}, {len(data):,} bytes",
            style_of(kind),
            arrives,
            _of_the_body(message),
        )
        if isinstance(message, StreamChunk):
            self._chunk(arrow, message.stream_id, len(data))
        else:
            self._rows.append(arrow)

    def engine_event(self, identity: str, event: Event) -> None:
        """An engine tells its host something."""
        match event:
            case CallSucceeded():
                self.note(identity, f"succeeded: {shown(event.payload)}", "bold green")
            case CallFailed():
                data = f" ({event.data})" if event.data else ""
                self.note(identity, f"failed: {event.code} {event.message}{data}", "bold red")
            case InvocationReceived():
                self.note(identity, f"runs {event.method}")
            case InvocationAbandoned():
                self.note(identity, f"abandons it: {event.reason.value}", "yellow")
            case PacketIgnored():
                self.note(identity, f"ignores a packet: {event.reason.value}", "yellow")

    def _chunk(self, arrow: Arrow, stream_id: str, size: int) -> None:
        """A chunk that comes right after one of the same stream is shown together with it."""
        stream = (arrow.sender, arrow.receiver, stream_id, arrow.arrives)
        number = 1
        last = self._chunks
        if last and last[:4] == stream and self._rows and self._rows[-1] is last.row:
            number, size = last.number + 1, last.size + size
            label = f"{number} stream chunks, {size:,} bytes"
            arrow = arrow._replace(at=last.row.at, label=label)
            self._rows.pop()
        self._rows.append(arrow)
        self._chunks = _Chunks(*stream, number, size, arrow)

    def _take_part(self, *participants: str) -> None:
        for participant in participants:
            if participant not in self.participants:
                self.participants.append(participant)

    def _now(self) -> float:
        return asyncio.get_running_loop().time() - self._began


def _of_the_body(message: Message | None) -> str:
    """What a header says of the body."""
    if not isinstance(message, StreamHeader):
        return ""
    size = "" if message.total_length is None else f"{message.total_length:,} bytes"
    if message.inline_content is None:
        return f"{size or 'a body'} to follow"
    compressed = " compressed" if message.compression == DEFLATE_RAW else ""
    return ", ".join(filter(None, ("inline" + compressed, size)))


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
            self._watcher.note(self._name, "a deadline passes", "yellow")
        super().handle_deadline(now=now)

    def take_events(self) -> tuple[Event, ...]:
        events = super().take_events()
        for event in events:
            self._watcher.engine_event(self._name, event)
        return events


class WatchedEnd(WatchedEngine):
    """One that shows its packets as well, when they leave and when they come.

    For who sees one end alone: a packet that leaves is shown as one that arrives.
    """

    def next_packet(self) -> OutgoingPacket | None:
        packet = super().next_packet()
        if packet is not None:
            self._watcher.packet(self._name, packet.destination_identity, packet.data)
        return packet

    def send_failed(self, packet: OutgoingPacket, *, now: float) -> None:
        self._watcher.note(self._name, "could not send it", "yellow")
        super().send_failed(packet, now=now)

    def receive_packet(
        self,
        data: bytes | bytearray | memoryview,
        *,
        sender_identity: str | None = None,
        **options: Any,
    ) -> None:
        packet = None if sender_identity else wire.decode(bytes(data))
        sender = sender_identity or (packet and packet.sender_identity) or "?"
        self._watcher.packet(sender, self._name, bytes(data))
        super().receive_packet(data, sender_identity=sender_identity, **options)

    def participant_joined(self, identity: str, **options: Any) -> None:
        if identity in self._watcher.participants and identity not in self.participants:
            self._watcher.note(identity, "is here", "yellow")
        super().participant_joined(identity, **options)

    def participant_left(self, identity: str, **options: Any) -> None:
        if identity in self._watcher.participants and identity in self.participants:
            self._watcher.note(identity, "leaves", "yellow")
        super().participant_left(identity, **options)

    def disconnected(self, *, now: float) -> None:
        self._watcher.note(self._name, "the connection is lost", "yellow")
        super().disconnected(now=now)

    def cancel(self, request_id: str, *, now: float) -> bool:
        self._watcher.note(self._name, "gives up", "yellow")
        return super().cancel(request_id, now=now)
