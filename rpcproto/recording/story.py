"""What happened according to a journal, to be drawn as a sequence diagram.

A packet that left one engine of the journal and came to another is one arrow. The two are matched
by the SHA-256 of the packet as it left, whatever routers appended to it on its way.
"""

from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from hashlib import sha256
from typing import Final, NamedTuple

from rpcproto import wire
from rpcproto.core.messages import PacketKind
from rpcproto.core.sealing import Cryptor
from rpcproto.recording.diagram import Style
from rpcproto.recording.records import (
    Begun,
    Done,
    EventRecord,
    JournalError,
    Line,
    Made,
    Sent,
    Told,
    read,
)
from rpcproto.recording.rows import SEALED, PacketView, Trace, sender_of, unsealed, view_of
from rpcproto.recording.values import Value
from rpcproto.wire import (
    Message,
    OutgoingMessage,
    Sealed,
    StreamChunk,
    StreamHeader,
    StreamTrailer,
    Unread,
)

_HEADER: Final = PacketKind.STREAM_HEADER.value


def trace(
    lines: Iterable[str], request_ids: Collection[str] = (), cryptor: Cryptor | None = None
) -> Trace:
    """Return the content of a journal as a diagram.

    With `request_ids`, it shows only these calls, and the other events of their participants
    meanwhile. `cryptor` decrypts packets that came from engines outside the journal. Times are
    relative to the first row.

    Raises:
        JournalError: The lines are not a journal of this format.
    """
    seen = _Story(list(read(lines)), cryptor).all()
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
        self.calls: dict[Value, str] = {}
        """Request ids by invocation id."""
        self.streams: dict[int, str] = {}
        """Ids of the streams that left, by token."""
        self.is_connected = True


class _Arrival(NamedTuple):
    """A packet that came to an engine of the journal."""

    sender: str
    request_id: str
    sha256: str
    """Of the packet as it left."""
    view: PacketView


class _Story:
    """Goes through a journal twice: what arrives must be known when it is drawn that it left."""

    def __init__(self, lines: list[Line], cryptor: Cryptor | None) -> None:
        self._lines = lines
        self._cryptor = cryptor
        self._arrivals = Counter[tuple[str, str]]()
        """Packets that engines of the journal receive, by receiver and SHA-256."""
        self._on_the_way = Counter[tuple[str, str]]()
        """Those that were drawn when they left."""
        self._views: dict[str, PacketView] = {}
        """What is known of the packets that came, by SHA-256."""
        self._identities: set[str] = set()
        self._streams: dict[tuple[str, str], str] = {}
        """Request ids of streams, by sender and stream id."""
        self._here: set[str] = set()
        self._at = 0.0
        """The time of the last input of any engine: Unix time, if the offsets are right. What is
        taken of an engine has no time of its own."""

    def all(self) -> list[_Seen]:
        """All that can be drawn, in the order of the journal; raises JournalError."""
        self._go_through(self._note_arrivals)
        self._streams.clear()
        return self._go_through(self._seen)

    def _go_through(
        self, look: Callable[[_Engine, Done | Sent | Told], Iterable[_Seen]]
    ) -> list[_Seen]:
        engines: list[_Engine] = []
        seen: list[_Seen] = []
        for number, _, record in self._lines:
            try:
                if isinstance(record, Begun):
                    engines.clear()
                elif isinstance(record, Made):
                    engines.append(_Engine(record.identity, _number(record.unix_time_offset)))
                else:
                    found = look(engines[record.engine - 1], record)
                    seen.extend(it._replace(line=number) for it in found)
            except _UNEXPECTED as error:
                raise _cannot_be_drawn(number, error) from error
        return seen

    def _note_arrivals(self, engine: _Engine, record: Done | Sent | Told) -> Iterable[_Seen]:
        self._identities.add(engine.identity)
        if isinstance(record, Done) and record.name == "receive_packet" and record.raised is None:
            arrival = self._arrival(engine, record)
            if arrival is not None:
                self._arrivals[engine.identity, arrival.sha256] += 1
                self._views[arrival.sha256] = arrival.view
        return ()

    def _seen(self, engine: _Engine, record: Done | Sent | Told) -> Iterator[_Seen]:
        if isinstance(record, Sent):
            yield self._sent(engine, record)
        elif isinstance(record, Told):
            yield from (self._told(engine, event) for event in record.events)
        else:
            deadline, engine.deadline = engine.deadline, _deadline(record.next_deadline)
            now = record.arguments.get("now")
            if isinstance(now, int | float):
                self._at = engine.unix_time_offset + now
            if record.raised is None:
                yield from self._input(engine, record, deadline)
            else:
                yield self._note(engine, f"{record.name} raised {record.raised}", Style.BAD)

    def _input(self, engine: _Engine, done: Done, deadline: float | None) -> Iterator[_Seen]:
        """What is drawn of an input that was accepted."""
        arguments, result = done.arguments, done.returned
        match done.name:
            case "call":
                yield self._call(engine, done)
            case "cancel" if result:
                yield self._note(engine, "gives up", request_id=_text(arguments["request_id"]))
            case "respond" | "respond_error" if not result:
                request_id = engine.calls.get(arguments["invocation_id"], "")
                yield self._note(engine, "answers, and nobody waits for it", request_id=request_id)
            case "receive_packet":
                yield from self._arrived(engine, done)
            case "send_failed":
                match arguments["packet"]:
                    case (*_, str(request_id)):
                        yield self._note(engine, "could not send it", request_id=request_id)
            case "handle_deadline" if deadline is not None and deadline <= _number(
                arguments["now"]
            ):
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
                yield from self._presence(_text(arguments["identity"]), change)

    def _call(self, engine: _Engine, done: Done) -> _Seen:
        recipient = _text(done.arguments["destination_identity"])
        draw = partial(
            Trace.call,
            caller=engine.identity,
            recipient=recipient,
            method=_text(done.arguments["method"]),
            payload=done.arguments["payload"],
        )
        return self._at_one(engine, draw, str(done.returned), recipient)

    def _presence(self, identity: str, change: str) -> Iterator[_Seen]:
        """A participant is drawn as here or as gone when the first engine learns of it."""
        comes = change == "participant_joined"
        if comes is not (identity in self._here):
            (self._here.add if comes else self._here.discard)(identity)
            text = "is here" if comes else "leaves"
            draw = partial(Trace.note, participant=identity, text=text, style=Style.NOTABLE)
            yield _Seen(self._at, (identity,), "", draw, is_presence=True)

    def _told(self, engine: _Engine, event: EventRecord) -> _Seen:
        """An event that a host took."""
        kind, fields = event
        request_id = str(fields.get("request_id", ""))
        if kind == "InvocationReceived":
            engine.calls[fields["invocation_id"]] = request_id
        elif kind == "InvocationAbandoned":
            request_id = engine.calls.get(fields["invocation_id"], "")
        draw = partial(Trace.event_fields, identity=engine.identity, kind=kind, fields=fields)
        return self._at_one(engine, draw, request_id)

    def _sent(self, engine: _Engine, sent: Sent) -> _Seen:
        """A packet that left; it arrives if its receiver, should it be in the journal, has it."""
        receiver = sent.destination_identity
        key = receiver, sent.sha256
        arrives = receiver not in self._identities
        if self._arrivals[key]:
            self._arrivals[key] -= 1
            self._on_the_way[key] += 1
            arrives = True
        view = None
        if sent.data is not None:
            view = view_of(wire.decode(sent.data), sent.length, engine.identity, self._cryptor)
        if view is None or view.kind == SEALED:
            # A journal says of its own packets what they are, whether it has all of them or not.
            stream_id = engine.streams.get(sent.token, "")
            is_sealed = sent.sealed is not None
            nothing_else = PacketView(
                sent.kind, sent.length, stream_id=stream_id, is_sealed=is_sealed
            )
            # Routers may have made it longer on its way.
            view = self._views.get(sent.sha256, nothing_else)._replace(length=sent.length)
            if view.kind == SEALED:
                view = nothing_else
        if view.kind == _HEADER:
            self._streams[engine.identity, view.stream_id] = sent.request_id
            engine.streams[sent.token] = view.stream_id
        draw = partial(
            Trace.arrow, sender=engine.identity, receiver=receiver, view=view, arrives=arrives
        )
        return self._at_one(engine, draw, sent.request_id, receiver)

    def _arrived(self, engine: _Engine, done: Done) -> Iterator[_Seen]:
        """A packet that came is drawn if it was not drawn when it left."""
        arrival = self._arrival(engine, done)
        if arrival is None:
            return
        key = engine.identity, arrival.sha256
        if self._on_the_way[key]:
            self._on_the_way[key] -= 1
            return
        self._arrivals[key] -= 1
        draw = partial(
            Trace.arrow, sender=arrival.sender, receiver=engine.identity, view=arrival.view
        )
        yield self._at_one(engine, draw, arrival.request_id, arrival.sender)

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
        return _Seen(self._at, participants, request_id, draw)

    def _arrival(self, engine: _Engine, done: Done) -> _Arrival | None:
        """A packet that came; None for one that was too large, of which nothing is known."""
        written, told = done.arguments["data"], done.arguments["sender_identity"]
        if not isinstance(written, str):
            return None
        data = b64decode(written)
        packet = wire.decode(data)
        sender = sender_of(packet, None if told is None else _text(told))
        view = view_of(packet, len(data), sender, self._cryptor)
        request_id = ""
        if packet is not None and not isinstance(packet.message, Unread):
            request_id = self._request_id(unsealed(packet.message, sender, self._cryptor), sender)
            data = _as_it_left(packet.message, sender, engine.identity, data)
        return _Arrival(sender, request_id, sha256(data).hexdigest(), view)

    def _request_id(self, message: Message, sender: str) -> str:
        """The call that a packet belongs to, as far as it is known."""
        if isinstance(message, Sealed | Unread):
            return ""
        if isinstance(message, StreamChunk | StreamTrailer):
            return self._streams.get((sender, message.stream_id), "")
        if isinstance(message, StreamHeader):
            self._streams[sender, message.stream_id] = message.request_id
        return message.request_id


def _as_it_left(message: OutgoingMessage, sender: str, receiver: str, data: bytes) -> bytes:
    """The packet without what was appended on its way; `data` if no engine makes such packets."""
    try:
        return wire.encode(message, sender, receiver)
    except ValueError:
        return data


def _text(value: Value) -> str:
    if not isinstance(value, str):
        raise TypeError("a name is a text")
    return value


def _number(value: Value) -> float:
    if not isinstance(value, int | float):
        raise TypeError("a time is a number")
    return float(value)


def _deadline(value: Value) -> float | None:
    return None if value is None else _number(value)
