"""What happens between participants, as the rows of a sequence diagram.

The arrows are packets, decoded from their bytes; chunks of a stream with nothing in between share
one. The notes are what engines are asked for and what they tell their hosts. `Trace` collects them
as they are seen; `trace` finds them in a journal.
"""

import re
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from functools import partial
from typing import Final, NamedTuple

from rpcproto.core import wire
from rpcproto.core.events import (
    CallFailed,
    CallSucceeded,
    Event,
    InvocationAbandoned,
    InvocationReceived,
    PacketIgnored,
)
from rpcproto.core.messages import (
    DEFLATE_RAW,
    ErrorResponse,
    Message,
    Packet,
    StreamChunk,
    StreamHeader,
    StreamTrailer,
    Unread,
)
from rpcproto.diagram import (
    BOXES,
    MAX_WIDTH,
    WIDTH_EACH,
    Arrow,
    Glyphs,
    Layout,
    Note,
    Row,
    Style,
    as_svg,
    as_text,
    lay_out,
)
from rpcproto.journal import TOO_LARGE, JournalError, Record, event_from, read

MAX_SHOWN_BYTES: Final = 50
"""Longer payloads are shown by their size."""
NOBODY: Final = "?"
"""Who has sent a packet where nobody knows."""

_SVG_WIDTH: Final = 88
"""The least columns of a picture; it grows with its participants."""

_STYLES: Final = {
    "request": Style.REQUEST,
    "ack": Style.ACK,
    "response": Style.RESPONSE,
    "error": Style.ERROR,
}


def shown(payload: str) -> str:
    """A payload, or how large it is."""
    size = len(payload.encode(errors="surrogatepass"))
    return repr(payload) if size <= MAX_SHOWN_BYTES else f"{size:,} bytes"


def kind_of(message: Message) -> str:
    """What a message is called: `request`, `ack`, `stream header` and so on."""
    if isinstance(message, ErrorResponse):
        return "error"
    if isinstance(message, Unread):
        return message.kind.replace("_", " ")
    return re.sub("(?<=[a-z])(?=[A-Z])", " ", type(message).__name__).lower()


def style_of(kind: str) -> Style:
    """How a kind of message is shown."""
    return _STYLES.get(kind, Style.STREAM)


class _Chunks(NamedTuple):
    """Chunks of one stream that came one right after the other, and the row that shows them."""

    sender: str
    receiver: str
    stream_id: str
    arrives: bool
    number: int
    size: int
    row: Row


class Trace:
    """Collects what is seen; times are in seconds."""

    def __init__(self, *participants: str) -> None:
        """These have a part in it whatever happens."""
        self.participants: list[str] = list(participants)
        """Who has a part in it, from left to right."""
        self.rows: list[Row] = []
        self._chunks: _Chunks | None = None

    def note(self, at: float, participant: str, text: str, style: Style = Style.PLAIN) -> None:
        """Something happened at a participant."""
        self._take_part(participant)
        self.rows.append(Note(at, participant, text, style))

    def call(self, at: float, caller: str, recipient: str, method: str, payload: str) -> None:
        """An engine is asked for a call."""
        self.note(at, caller, f"calls {recipient}: {method} {shown(payload)}")
        self._take_part(recipient)

    def packet(
        self, at: float, sender: str, receiver: str, data: bytes, arrives: bool = True
    ) -> None:
        """A packet is on its way. With an empty `sender`, it is from whom it says."""
        packet = wire.decode(data)
        sender = _sender_of(packet, sender)
        self._take_part(sender, receiver)
        message = None if packet is None else packet.message
        kind = "malformed packet" if message is None else kind_of(message) or "unknown packet"
        label, detail = f"{kind}, {len(data):,} bytes", _of_the_body(message)
        arrow = Arrow(at, sender, receiver, label, style_of(kind), arrives, detail)
        if isinstance(message, StreamChunk):
            self._chunk(arrow, message.stream_id, len(data))
        else:
            self.rows.append(arrow)

    def event(self, at: float, identity: str, event: Event) -> None:
        """An engine tells its host something."""
        match event:
            case CallSucceeded():
                self.note(at, identity, f"succeeded: {shown(event.payload)}", Style.GOOD)
            case CallFailed():
                data = f" ({event.data})" if event.data else ""
                self.note(at, identity, f"failed: {event.code} {event.message}{data}", Style.BAD)
            case InvocationReceived():
                self.note(at, identity, f"runs {event.method}")
            case InvocationAbandoned():
                self.note(at, identity, f"abandons it: {event.reason.value}")
            case PacketIgnored():
                self.note(at, identity, f"ignores a packet: {event.reason.value}")

    def text(self, width: int = MAX_WIDTH, glyphs: Glyphs = BOXES) -> str:
        """The diagram in lines of `width` columns; nothing if there is nothing to draw."""
        return "" if not self.rows else as_text(self.layout(width), glyphs)

    def svg(self) -> str:
        """The diagram as an SVG picture that stands alone."""
        title = f"RPC between {' and '.join(self.participants)}" if self.rows else "No RPC"
        width = max(_SVG_WIDTH, WIDTH_EACH * len(self.participants))
        return as_svg(self.layout(width), title, "\n".join(map(_sentence, self.rows)))

    def layout(self, width: int) -> Layout:
        """Where everything is in the diagram, in `width` columns."""
        return lay_out(self.participants, self.rows, width)

    def _chunk(self, arrow: Arrow, stream_id: str, size: int) -> None:
        """A chunk that comes right after one of the same stream is shown together with it."""
        stream = (arrow.sender, arrow.receiver, stream_id, arrow.arrives)
        number = 1
        last = self._chunks
        if last and last[:4] == stream and self.rows and self.rows[-1] is last.row:
            number, size = last.number + 1, last.size + size
            label = f"{number} stream chunks, {size:,} bytes"
            arrow = arrow._replace(at=last.row.at, label=label)
            self.rows.pop()
        self.rows.append(arrow)
        self._chunks = _Chunks(*stream, number, size, arrow)

    def _take_part(self, *participants: str) -> None:
        for participant in participants:
            if participant not in self.participants:
                self.participants.append(participant)


def _sender_of(packet: Packet | None, told: str | None) -> str:
    """Who has sent a packet: whoever the host said, or else the packet says."""
    return told or (packet and packet.sender_identity) or NOBODY


def _of_the_body(message: Message | None) -> str:
    """What a header says of the body."""
    if not isinstance(message, StreamHeader):
        return ""
    size = "" if message.total_length is None else f"{message.total_length:,} bytes"
    if message.inline_content is None:
        return f"{size or 'a body'} to follow"
    compressed = " compressed" if message.compression == DEFLATE_RAW else ""
    return ", ".join(filter(None, ("inline" + compressed, size)))


def _sentence(row: Row) -> str:
    """A row for those who do not see the diagram."""
    if isinstance(row, Note):
        return f"{row.at:.3f} s, {row.participant}: {row.text}"
    what = ", ".join(filter(None, (row.label, row.detail)))
    lost = "" if row.arrives else ", which gets lost"
    return f"{row.at:.3f} s, {row.sender} to {row.receiver}: {what}{lost}"


# from a journal


def trace(lines: Iterable[str], request_ids: Collection[str] = ()) -> Trace:
    """What is in a journal; with `request_ids`, what of it belongs to these calls or happens to
    their participants meanwhile.

    Times count from the first thing that is shown. Raises JournalError for what is not a journal.
    """
    seen = _Reader(list(read(lines))).all()
    inner = [
        at
        for at, it in enumerate(seen)
        if (it.request_id in request_ids if request_ids else not it.is_presence)
    ]
    result = Trace()
    if not inner:
        return result
    parts = {name for at in inner for name in seen[at].participants}
    first, last = (inner[0], inner[-1]) if request_ids else (0, len(seen))
    began: float | None = None
    for at, it in enumerate(seen):
        is_around = not it.request_id or not request_ids
        if it.request_id in request_ids or (
            is_around and first <= at <= last and parts.issuperset(it.participants)
        ):
            began = it.at if began is None else began
            try:
                it.draw(result, max(it.at - began, 0.0))
            except _UNEXPECTED as error:
                raise _cannot_be_drawn(it.line, error) from error
    return result


_UNEXPECTED: Final = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
"""What comes of values that no journal holds."""


def _cannot_be_drawn(line: int, error: Exception) -> JournalError:
    return JournalError(f"line {line}: it cannot be drawn ({type(error).__name__}: {error})")


class _Seen(NamedTuple):
    """Something in a journal that can be drawn: `draw` adds it to a trace, at the time given."""

    at: float
    participants: tuple[str, ...]
    request_id: str
    """The call that it belongs to; empty for what happens around calls."""
    draw: Callable[[Trace, float], None]
    is_presence: bool = False
    line: int = 0


class _Engine:
    """What is known of an engine of the journal, as far as it has been read."""

    def __init__(self, identity: str, unix_time_offset: float) -> None:
        self.identity = identity
        self.unix_time_offset = unix_time_offset
        self.deadline: float | None = None
        self.calls: dict[int, str] = {}
        """Request ids by invocation id."""
        self.is_connected = True


class _Packet(NamedTuple):
    """A packet as it is found in a journal."""

    sender: str
    request_id: str
    data: bytes
    key: Hashable
    """What is equal at both of its ends, whatever was appended on the way."""


class _Reader:
    """Goes through a journal twice: what arrives must be known when it is drawn that it left."""

    def __init__(self, records: list[tuple[int, Record]]) -> None:
        self._records = records
        self._arrivals = Counter[Hashable]()
        """Packets that engines of the journal receive."""
        self._on_the_way = Counter[Hashable]()
        """Those that were drawn when they left."""
        self._identities: set[str] = set()
        self._streams: dict[tuple[str, str], str] = {}
        """Request ids of streams, by sender and stream id."""
        self._here: set[str] = set()
        self._at = 0.0
        """The time of the last input, whose ever: Unix time, if the offsets are right. What is
        taken of an engine has no time of its own."""

    def all(self) -> list[_Seen]:
        """All that can be drawn, in the order of the journal; raises JournalError."""
        self._go_through(self._note_arrivals)
        self._streams.clear()
        return self._go_through(self._seen)

    def _go_through(self, look: Callable[[_Engine, Record], Iterable[_Seen]]) -> list[_Seen]:
        engines: dict[int, _Engine] = {}
        seen: list[_Seen] = []
        for number, record in self._records:
            try:
                if "journal" in record:
                    engines.clear()
                elif "identity" in record:
                    offset = float(record["unix_time_offset"])
                    engines[record["engine"]] = _Engine(str(record["identity"]), offset)
                else:
                    found = look(engines[record["engine"]], record)
                    seen.extend(it._replace(line=number) for it in found)
            except _UNEXPECTED as error:
                raise _cannot_be_drawn(number, error) from error
        return seen

    def _note_arrivals(self, engine: _Engine, record: Record) -> Iterable[_Seen]:
        self._identities.add(engine.identity)
        if record.get("input") == "receive_packet" and "raised" not in record:
            packet = self._received(record["arguments"])
            if packet is not None:
                self._arrivals[engine.identity, packet.key] += 1
        return ()

    def _seen(self, engine: _Engine, record: Record) -> Iterator[_Seen]:
        if "input" in record:
            deadline, engine.deadline = engine.deadline, record["next_deadline"]
            arguments = record["arguments"]
            now = arguments.get("now")
            if isinstance(now, int | float):
                self._at = engine.unix_time_offset + now
            if "raised" in record:
                yield self._note(engine, f"{record['input']} raised {record['raised']}", Style.BAD)
            else:
                yield from self._input(engine, record, arguments, deadline)
        elif "packet" in record:
            yield self._sent(engine, record["packet"])
        else:
            yield from (self._told(engine, event_from(told)) for told in record["events"])

    def _input(
        self, engine: _Engine, record: Record, arguments: Record, deadline: float | None
    ) -> Iterator[_Seen]:
        """What is drawn of an input that was accepted."""
        result = record.get("returned")
        match record["input"]:
            case "call":
                recipient, method = arguments["destination_identity"], arguments["method"]
                draw = partial(
                    Trace.call,
                    caller=engine.identity,
                    recipient=recipient,
                    method=method,
                    payload=arguments["payload"],
                )
                yield self._at_one(engine, draw, str(result), recipient)
            case "cancel" if result:
                yield self._note(engine, "gives up", request_id=arguments["request_id"])
            case "respond" | "respond_error" if not result:
                request_id = engine.calls.get(arguments["invocation_id"], "")
                yield self._note(engine, "answers, and nobody waits for it", request_id=request_id)
            case "receive_packet":
                yield from self._arrived(engine, arguments)
            case "send_failed":
                request_id = arguments["packet"]["request_id"]
                yield self._note(engine, "could not send it", request_id=request_id)
            case "handle_deadline" if deadline is not None and deadline <= arguments["now"]:
                yield self._note(engine, "a deadline passes")
            case "disconnected":
                engine.is_connected = False
                yield self._note(engine, "the connection is lost")
            case "connected" if not engine.is_connected:
                engine.is_connected = True
                yield self._note(engine, "the connection is back")
            case "close":
                yield self._note(engine, "closes")
            case "participant_joined" | "participant_left" as change:
                yield from self._presence(engine, arguments["identity"], change)

    def _presence(self, engine: _Engine, identity: str, change: str) -> Iterator[_Seen]:
        """Whoever is told of first, by whichever engine, is drawn as here or as gone."""
        if not isinstance(identity, str):
            raise TypeError("a participant is named by a text")
        comes = change == "participant_joined"
        if comes is not (identity in self._here):
            (self._here.add if comes else self._here.discard)(identity)
            text = "is here" if comes else "leaves"
            draw = partial(Trace.note, participant=identity, text=text, style=Style.NOTABLE)
            yield _Seen(self._at, (identity,), "", draw, is_presence=True)

    def _told(self, engine: _Engine, event: Event) -> _Seen:
        """An event that a host took."""
        request_id: str = getattr(event, "request_id", "")
        if isinstance(event, InvocationReceived):
            engine.calls[event.invocation_id] = request_id
        elif isinstance(event, InvocationAbandoned):
            request_id = engine.calls.get(event.invocation_id, "")
        draw = partial(Trace.event, identity=engine.identity, event=event)
        return self._at_one(engine, draw, request_id)

    def _sent(self, engine: _Engine, fields: Record) -> _Seen:
        """A packet that left; it arrives if its receiver, should it be in the journal, has it."""
        receiver = str(fields["destination_identity"])
        packet = self._packet(b64decode(fields["data"]), engine.identity)
        arrives = receiver not in self._identities
        if self._arrivals[receiver, packet.key]:
            self._arrivals[receiver, packet.key] -= 1
            self._on_the_way[receiver, packet.key] += 1
            arrives = True
        draw = partial(
            Trace.packet,
            sender=engine.identity,
            receiver=receiver,
            data=packet.data,
            arrives=arrives,
        )
        return self._at_one(engine, draw, packet.request_id, receiver)

    def _arrived(self, engine: _Engine, arguments: Record) -> Iterator[_Seen]:
        """A packet that came is drawn if it was not drawn when it left."""
        packet = self._received(arguments)
        if packet is None:
            return
        if self._on_the_way[engine.identity, packet.key]:
            self._on_the_way[engine.identity, packet.key] -= 1
            return
        self._arrivals[engine.identity, packet.key] -= 1
        draw = partial(
            Trace.packet, sender=packet.sender, receiver=engine.identity, data=packet.data
        )
        yield self._at_one(engine, draw, packet.request_id, packet.sender)

    def _note(
        self, engine: _Engine, text: str, style: Style = Style.NOTABLE, request_id: str = ""
    ) -> _Seen:
        draw = partial(Trace.note, participant=engine.identity, text=text, style=style)
        return self._at_one(engine, draw, request_id)

    def _at_one(
        self,
        engine: _Engine,
        draw: Callable[[Trace, float], None],
        request_id: str,
        other: str = "",
    ) -> _Seen:
        """Something that happened now at one engine, or between it and another participant."""
        participants = (engine.identity, other) if other else (engine.identity,)
        if not isinstance(other, str):
            raise TypeError("a participant is named by a text")
        return _Seen(self._at, participants, request_id, draw)

    def _received(self, arguments: Record) -> "_Packet | None":
        """A packet that came; None for one that was too large, of which nothing is known."""
        data = arguments["data"]
        if data == TOO_LARGE:
            return None
        return self._packet(b64decode(data), arguments.get("sender_identity"))

    def _packet(self, data: bytes, sender: str | None) -> "_Packet":
        packet = wire.decode(data)
        sender = _sender_of(packet, sender)
        if packet is None or isinstance(packet.message, Unread):
            return _Packet(sender, "", data, data)
        message = packet.message
        if isinstance(message, StreamChunk | StreamTrailer):
            request_id = self._streams.get((sender, message.stream_id), "")
        else:
            request_id = message.request_id
        if isinstance(message, StreamHeader):
            self._streams[sender, message.stream_id] = request_id
        fields = (frozenset(it.items()) if isinstance(it, Mapping) else it for it in message)
        return _Packet(sender, request_id, data, (sender, type(message), *fields))
