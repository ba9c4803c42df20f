"""The lines of a journal, read: what is in a journal is data, checked before anybody uses it."""

import json
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Final, NamedTuple, TypeAlias

from rpcproto.core.events import (
    CallAcknowledged,
    CallFailed,
    CallSucceeded,
    InvocationAbandoned,
    InvocationReceived,
    PacketIgnored,
)
from rpcproto.core.messages import PacketKind
from rpcproto.core.wire import envelope
from rpcproto.recording.lines import MAX_STREAMS, PARAMETERS
from rpcproto.recording.values import Value, meant

FORMAT: Final = 2
"""The version of the format. Journals of other versions are rejected."""

EVENTS: Final[Mapping[object, tuple[str, ...]]] = {
    kind.__name__: kind._fields
    for kind in (
        CallAcknowledged,
        CallSucceeded,
        CallFailed,
        InvocationReceived,
        InvocationAbandoned,
        PacketIgnored,
    )
}
"""The events of an engine by name, and their fields in the order in which a journal has them."""
_STREAM_PARTS: Final = (PacketKind.STREAM_CHUNK.value, PacketKind.STREAM_TRAILER.value)


class JournalError(ValueError):
    """A journal can't be read. The message names the line and the reason."""


class Begun(NamedTuple):
    """The beginning of a journal: the versions that it was recorded with."""

    rpcproto: object
    zlib: object


class Made(NamedTuple):
    """A new engine."""

    engine: int
    identity: str
    unix_time_offset: Value
    config: Mapping[str, object]
    is_encrypted: bool = False
    """Whether the engine has a cryptor."""


class Done(NamedTuple):
    """An input of an engine, and what came of it."""

    engine: int
    name: str
    arguments: Mapping[str, Value]
    next_deadline: Value
    returned: Value
    """None if it returned nothing or raised."""
    raised: str | None
    ids: tuple[Value, ...]
    """The ids that the input needed."""
    opened: Value = None
    """True if the packet that came was sealed and could be opened, and else why not; None if it was
    not to be opened."""


class Sent(NamedTuple):
    """A packet that `next_packet` gave."""

    engine: int
    kind: str
    destination_identity: str
    request_id: str
    token: int
    length: int
    sha256: str
    data: bytes | None
    """The packet, unless it was too large to be written."""
    sealed: tuple[int, bytes] | None = None
    """The key index and the IV; None if it is not sealed."""


class EventRecord(NamedTuple):
    """An event by the name of its class."""

    kind: str
    fields: Mapping[str, Value]


class Told(NamedTuple):
    """What `take_events` gave."""

    engine: int
    events: tuple[EventRecord, ...]


Record: TypeAlias = Begun | Made | Done | Sent | Told


class Line(NamedTuple):
    """A line of a journal; `number` counts from 1, and `source` is the JSON in it."""

    number: int
    source: object
    record: Record


def read(lines: Iterable[str]) -> Iterator[Line]:
    """Read the lines of a journal that are not empty.

    A last line that was cut off, as by a crash, is left out. Raises JournalError for anything but a
    journal of this format.
    """
    reader = _Reader()
    has_begun = False
    cut_off = number = 0
    line = ""
    for number, line in enumerate(lines, 1):
        if cut_off:
            break
        if not line.strip():
            continue
        source = _parse(line)
        if source is None and has_begun:
            cut_off = number
            continue
        if not (has_begun or (isinstance(source, dict) and "journal" in source)):
            raise JournalError(f"line {number}: this is not the beginning of a journal")
        has_begun = True
        try:
            record = reader.record(source)
        except (ValueError, RecursionError) as error:
            raise JournalError(f"line {number}: {error or type(error).__name__}") from error
        yield Line(number, source, record)
    if cut_off and (number > cut_off or line.endswith("\n")):
        raise JournalError(f"line {cut_off}: this is not a line of a journal")
    if not has_begun:
        raise JournalError("this is not a journal: it is empty")


def _parse(line: str) -> object:
    """The JSON in a line; None if there is none, or if it is null."""
    try:
        parsed: object = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return parsed


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is not JSON")


class _Engine:
    """What the lines of an engine refer to."""

    def __init__(self, identity: str) -> None:
        self.identity = identity
        self.names: dict[int, str] = {}
        self.streams: dict[int, tuple[str, str]] = {}
        """Destinations and request ids, by token."""


class _Reader:
    """Makes records of parsed lines; raises ValueError for what is not one."""

    def __init__(self) -> None:
        self._engines: list[_Engine] = []

    def record(self, source: object) -> Record:
        """The record in a line."""
        match source:
            case {"journal": version, **more}:
                if version != FORMAT:
                    raise ValueError(
                        f"this is a journal of format {version!r}; "
                        f"this version of rpcproto reads format {FORMAT}"
                    )
                self._engines.clear()
                return Begun(more.get("rpcproto"), more.get("zlib"))
            case [int(number), "engine", *fields]:
                return self._made(number, fields)
            case [int(number), "packet", *fields]:
                return self._sent(number, fields)
            case [int(number), "events", *events]:
                engine = self._engine(number)
                return Told(number, tuple(_event(engine, event) for event in events))
            case [int(number), str(name), list(arguments), next_deadline]:
                return self._done(number, name, arguments, next_deadline, {})
            case [int(number), str(name), list(arguments), next_deadline, dict(outcome)]:
                return self._done(number, name, arguments, next_deadline, outcome)
        raise ValueError("this is not a line of a journal")

    def _engine(self, number: int) -> _Engine:
        if not 0 < number <= len(self._engines):
            raise ValueError(f"there is no engine {number}")
        return self._engines[number - 1]

    def _made(self, number: int, fields: list[object]) -> Made:
        match fields:
            case [str(identity), unix_time_offset, dict(config), *more]:
                if more not in ([], [{"encrypted": True}]):
                    raise ValueError("this is not an engine")
                if number != len(self._engines) + 1:
                    raise ValueError("the number of this engine is not the next one")
                self._engines.append(_Engine(identity))
                return Made(number, identity, meant(unix_time_offset, {}), config, bool(more))
        raise ValueError("this is not an engine")

    def _done(
        self,
        number: int,
        name: str,
        arguments: list[object],
        next_deadline: object,
        outcome: Mapping[object, object],
    ) -> Done:
        engine = self._engine(number)
        parameters = PARAMETERS.get(name)
        if parameters is None:
            raise ValueError(f"an engine has no input {name!r}")
        if len(arguments) != len(parameters):
            raise ValueError(f"these are not the arguments of {name}")
        if not outcome.keys() <= {"returned", "raised", "ids", "opened"}:
            raise ValueError("this is not the outcome of an input")
        raised, ids = outcome.get("raised"), outcome.get("ids", [])
        if not isinstance(raised, str | None) or not isinstance(ids, list):
            raise ValueError("this is not the outcome of an input")
        return Done(
            number,
            name,
            {
                key: meant(value, engine.names)
                for key, value in zip(parameters, arguments, strict=True)
            },
            meant(next_deadline, engine.names),
            meant(outcome.get("returned"), engine.names),
            raised,
            tuple(meant(drawn, engine.names) for drawn in ids),
            meant(outcome.get("opened"), engine.names),
        )

    def _sent(self, number: int, fields: list[object]) -> Sent:
        engine = self._engine(number)
        match fields:
            case [*plain, {"key_index": int(key_index), "iv": str(iv)}]:
                sealed = key_index, b64decode(iv, validate=True)
                return self._sent(number, plain)._replace(sealed=sealed)
            case [str(kind), int(token), content, destination, request_id]:
                names = meant(destination, engine.names), meant(request_id, engine.names)
                match names:
                    case str(to), str(about):
                        if kind in _STREAM_PARTS:
                            if len(engine.streams) >= MAX_STREAMS:
                                engine.streams.clear()
                            engine.streams[token] = to, about
                        return _sent(number, engine, kind, token, content, to, about)
            case [str(kind), int(token), content]:
                if token not in engine.streams:
                    raise ValueError(f"no packet before this line has the token {token}")
                return _sent(number, engine, kind, token, content, *engine.streams[token])
        raise ValueError("this is not a packet")


def _sent(
    number: int,
    engine: _Engine,
    kind: str,
    token: int,
    content: object,
    destination: str,
    request_id: str,
) -> Sent:
    """A packet of which the whole is known, or its length and SHA-256."""
    match content:
        case str():
            data = envelope(engine.identity, destination) + b64decode(content, validate=True)
            length, digest = len(data), sha256(data).hexdigest()
            return Sent(number, kind, destination, request_id, token, length, digest, data)
        case [int(length), str(digest)]:
            return Sent(number, kind, destination, request_id, token, length, digest, None)
    raise ValueError("this is not the content of a packet")


def _event(engine: _Engine, source: object) -> EventRecord:
    match source:
        case [str(kind), *values] if len(values) == len(EVENTS.get(kind, ())):
            fields = (meant(value, engine.names) for value in values)
            return EventRecord(kind, dict(zip(EVENTS[kind], fields, strict=True)))
    raise ValueError("this is not an event")
