"""A journal of engines: every input and everything that came of it, one JSON line each.

`Journal.engine` makes an engine that is recorded; `replay` gives the same inputs to new engines and
says where what comes of them is not what was recorded. An engine is a function of its config, its
ids and its inputs (L1), so a journal holds all there is to know of a run.

The payloads are in it, with whatever secrets they hold.
"""

import functools
import inspect
import json
import logging
import math
import zlib
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, fields
from enum import Enum
from typing import Any, Final, NamedTuple, TypeAlias, TypeGuard

import rpcproto
from rpcproto.core.config import RpcConfig
from rpcproto.core.engine import RpcEngine
from rpcproto.core.errors import LocalProtocolError
from rpcproto.core.events import (
    AbandonReason,
    CallAcknowledged,
    CallFailed,
    CallSucceeded,
    Event,
    IgnoreReason,
    InvocationAbandoned,
    InvocationReceived,
    PacketIgnored,
)
from rpcproto.core.messages import OutgoingPacket, PacketKind

__all__ = ["FORMAT", "Divergence", "Journal", "JournalError", "RecordedEngine", "replay"]

FORMAT: Final = 1
"""The version of the format; a journal of another one is refused."""

_INPUTS: Final = (
    "call",
    "cancel",
    "respond",
    "respond_error",
    "register_method",
    "unregister_method",
    "receive_packet",
    "participant_joined",
    "participant_left",
    "connected",
    "disconnected",
    "send_failed",
    "handle_deadline",
    "close",
)
_PARAMETERS: Final = {
    name: tuple(inspect.signature(getattr(RpcEngine, name)).parameters)[1:] for name in _INPUTS
}
"""What each input of an engine takes, in order."""
_EVENTS: Final[Mapping[str, type[Event]]] = {
    kind.__name__: kind
    for kind in (
        CallAcknowledged,
        CallSucceeded,
        CallFailed,
        InvocationReceived,
        InvocationAbandoned,
        PacketIgnored,
    )
}
_MAX_INT_BITS: Final = 1_024
"""No number of seconds is longer, and readers of JSON refuse an int at some length."""
TOO_LARGE: Final = {"too_large": True}
"""Stands for the bytes of a packet that is over the limit."""
_FOREIGN: Final = "foreign"

logger: Final[logging.Logger] = logging.getLogger("rpcproto")

Record: TypeAlias = dict[str, Any]
"""One line of a journal."""

_write_json: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class JournalError(ValueError):
    """This is not a journal that can be read; the message says in which line and why."""


class Divergence(NamedTuple):
    """Where the replay of an engine parts from what was recorded of it.

    `line` counts from 1. `expected` is that line, and `got` the one that the replay made of it;
    it is empty where nothing came.
    """

    line: int
    identity: str
    expected: str
    got: str


class Journal:
    """Records engines by `write`, which is given one line of ASCII at a time, with its newline.

    A line is written once its input has been done, and flushed if `write` does so. What `write`
    raises reaches neither the engine nor its host: it is logged and kept as `error`, and the
    journal ends there.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        """Begin a journal; what `write` raises for this first line is raised."""
        self._write = write
        self._engines = 0
        self.error: BaseException | None = None
        """What `write` raised; nothing has been recorded since."""
        head = {"journal": FORMAT, "rpcproto": rpcproto.__version__, "zlib": zlib_version()}
        write(_write_json(head) + "\n")

    def engine(
        self,
        identity: str,
        *,
        new_id: Callable[[], str],
        unix_time_offset: float = 0.0,
        config: RpcConfig = RpcConfig(),  # noqa: B008 (frozen)
    ) -> RpcEngine:
        """An engine that is recorded; arguments and errors are those of `RpcEngine`.

        This can be the `engine_factory` of a host.
        """
        return RecordedEngine(
            identity, journal=self, new_id=new_id, unix_time_offset=unix_time_offset, config=config
        )

    def _add_engine(self, identity: str, unix_time_offset: float, config: RpcConfig) -> int:
        self._engines += 1
        record = {
            "engine": self._engines,
            "identity": identity,
            "unix_time_offset": unix_time_offset,
            "config": asdict(config),
        }
        self._add(lambda: record)
        return self._engines

    def _add(self, make: Callable[[], Record]) -> None:
        """Write what `make` gives. Neither of the two can break the engine."""
        if self.error is not None:
            return
        try:
            self._write(_write_json(make()) + "\n")
        except BaseException as error:
            # There may be half a line, and what has a gap could not be replayed.
            self.error = error
            if not isinstance(error, Exception):
                raise
            logger.error("the journal ends here, since it cannot be written", exc_info=error)


def zlib_version() -> str:
    """The one thing besides its inputs that the bytes of an engine's packets depend on."""
    return getattr(zlib, "ZLIBNG_VERSION", "") or zlib.ZLIB_RUNTIME_VERSION


class RecordedEngine(RpcEngine):
    """An engine whose inputs are written down, and what is taken of it: see `Journal.engine`."""

    def __init__(
        self,
        identity: str,
        *,
        journal: Journal,
        new_id: Callable[[], str],
        unix_time_offset: float = 0.0,
        config: RpcConfig = RpcConfig(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__(
            identity, new_id=self._draw, unix_time_offset=unix_time_offset, config=config
        )
        self._journal = journal
        self._id_source = new_id
        self._ids: list[object] = []
        self._number = journal._add_engine(identity, unix_time_offset, config)

    def next_packet(self) -> OutgoingPacket | None:
        packet = super().next_packet()
        if packet is not None:
            self._journal._add(lambda: {"engine": self._number, "packet": _plain_fields(packet)})
        return packet

    def take_events(self) -> tuple[Event, ...]:
        events = super().take_events()
        if events:
            self._journal._add(
                lambda: {
                    "engine": self._number,
                    "events": [_plain_event(event) for event in events],
                }
            )
        return events

    def _draw(self) -> str:
        """A new id, which is written down with the input that needs it."""
        try:
            new_id = self._id_source()
        except Exception as error:
            self._ids.append(_foreign(error))
            raise
        self._ids.append(_plain(new_id))
        return new_id

    def _input_done(self, name: str, arguments: Record, outcome: Record) -> None:
        ids, self._ids = self._ids, []

        def make() -> Record:
            said = {key: self._said(name, key, value) for key, value in arguments.items()}
            return (
                {"engine": self._number, "input": name, "arguments": said}
                | ({"ids": ids} if ids else {})
                | outcome
                | {"next_deadline": _plain(self.next_deadline)}
            )

        self._journal._add(make)

    def _said(self, name: str, key: str, value: object) -> object:
        """An argument as the journal says it."""
        match name, key:
            case "receive_packet", "data" if isinstance(value, bytes | bytearray | memoryview):
                # Of a packet that is too large, the engine looks at nothing but that.
                is_too_large = memoryview(value).nbytes > self._max_packet_bytes
                return TOO_LARGE if is_too_large else b64encode(bytes(value)).decode()
            case "send_failed", "packet" if isinstance(value, OutgoingPacket):
                return _plain_fields(value)
            case ("receive_packet", "data") | ("send_failed", "packet"):
                return _foreign(value)
            case "participant_joined", "capabilities" if _is_collection(value):
                return [_plain(capability) for capability in value]
        return _plain(value)

    def _meant(self, name: str, key: str, said: object) -> object:
        """The argument that the journal says; raises ValueError for what no journal would say."""
        match name, key, said:
            case "receive_packet", "data", {"too_large": True}:
                return bytes(self._max_packet_bytes + 1)
            case "receive_packet", "data", str():
                return b64decode(said, validate=True)
            case "send_failed", "packet", {"kind": str(kind), "data": str(data), **rest}:
                return _packet(b64decode(data, validate=True), PacketKind(kind), rest)
            case "participant_joined", "capabilities", list():
                return [_exact(capability) for capability in said]
        return _exact(said)


def _recorded(name: str) -> Callable[..., object]:
    """The input `name` of an engine, which is written down with what came of it."""
    method = getattr(RpcEngine, name)
    parameters = _PARAMETERS[name]

    @functools.wraps(method)
    def record(self: RecordedEngine, *args: object, **keywords: object) -> object:
        arguments = dict(zip(parameters, args, strict=False)) | keywords
        try:
            result = method(self, *args, **keywords)
        except Exception as error:
            if not isinstance(error, TypeError) or _fits(method, self, args, keywords):
                self._input_done(name, arguments, {"raised": _plain_error(error)})
            raise
        self._input_done(name, arguments, {} if result is None else {"returned": result})
        return result

    return record


def _fits(method: Callable[..., object], *arguments: Any) -> bool:
    """Whether it is called as it can be called; else Python refused, and not the engine."""
    engine, args, keywords = arguments
    try:
        inspect.signature(method).bind(engine, *args, **keywords)
    except TypeError:
        return False
    return True


for _name in _INPUTS:
    setattr(RecordedEngine, _name, _recorded(_name))


# how a journal says values


class _Foreign:
    """Stands for a value that a journal cannot say: it is of no type that an engine takes."""

    def __init__(self, name: str) -> None:
        self.name = name


def _foreign(value: object) -> object:
    return {_FOREIGN: value.name if isinstance(value, _Foreign) else type(value).__name__}


def _plain(value: object) -> object:
    """The value as JSON says it exactly; misuse that it cannot say is named by its type.

    Such are numbers that are not finite, and texts that are not valid Unicode, of which a reader
    of JSON might make something else.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        is_exact = value.isascii() or _is_unicode(value)
    elif isinstance(value, int):
        is_exact = value.bit_length() <= _MAX_INT_BITS
    else:
        is_exact = isinstance(value, float) and math.isfinite(value)
    return value if is_exact else _foreign(value)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_collection(value: object) -> TypeGuard[Collection[object]]:
    return isinstance(value, Collection) and not isinstance(value, str | bytes | Mapping)


def _plain_error(error: Exception) -> str:
    kind = type(error).__name__
    return f"{kind}: {error}" if isinstance(error, LocalProtocolError) else kind


def _plain_fields(value: Event | OutgoingPacket) -> Record:
    return {name: _plain_field(field) for name, field in value._asdict().items()}


def _plain_event(event: Event) -> Record:
    return {"event": type(event).__name__} | _plain_fields(event)


def _plain_field(value: object) -> object:
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, Enum) and not isinstance(value, int):
        return value.value
    return _plain(value)


def event_from(told: Record) -> Event:
    """An event that a journal holds; raises KeyError, TypeError or ValueError if it is none."""
    values = dict(told)
    kind = _EVENTS[values.pop("event")]
    if kind is InvocationAbandoned:
        values["reason"] = AbandonReason(values["reason"])
    elif kind is PacketIgnored:
        values["reason"] = IgnoreReason(values["reason"])
    return kind(**values)


def _exact(plain: object) -> object:
    """The reverse of `_plain`."""
    match plain:
        case {"foreign": str(name)}:
            return _Foreign(name)
        case None | bool() | int() | float() | str():
            return plain
    raise ValueError("this is no value that a journal holds")


def _packet(data: bytes, kind: PacketKind, rest: Mapping[Any, object]) -> OutgoingPacket:
    if rest.keys() != {"destination_identity", "request_id", "token"}:
        raise ValueError("this is no packet")
    values: Record = {name: _exact(value) for name, value in rest.items()}
    return OutgoingPacket(data=data, kind=kind, **values)


# replay


def read(lines: Iterable[str]) -> Iterator[tuple[int, Record]]:
    """The lines of a journal that are not empty, each with its number, from 1.

    A last line that was cut off, as by a crash, is left out. Raises JournalError for what is not a
    journal, or not one of this format.
    """
    is_journal = False
    cut_off = number = 0
    line = ""
    for number, line in enumerate(lines, 1):
        if cut_off:
            break
        if not line.strip():
            continue
        record = _parse(line)
        if record is None and is_journal:
            cut_off = number
            continue
        if record is None or not (is_journal or "journal" in record):
            raise JournalError(f"line {number}: this is not the beginning of a journal")
        is_journal = True
        if record.get("journal", FORMAT) != FORMAT:
            raise JournalError(
                f"line {number}: this is a journal of format {record['journal']!r}; "
                f"what can be read here is format {FORMAT}"
            )
        yield number, record
    if cut_off and (number > cut_off or line.endswith("\n")):
        raise JournalError(f"line {cut_off}: this is not a line of a journal")
    if not is_journal:
        raise JournalError("this is not a journal: it is empty")


def _parse(line: str) -> Record | None:
    try:
        record = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is not JSON")


def replay(lines: Iterable[str]) -> tuple[Divergence, ...]:
    """Give all inputs to new engines; returns where each of them first parts from the journal.

    That is nothing if all that comes of them is the same, byte for byte. Raises JournalError for
    what is not a journal, or not one of this format. Nothing is imported or run but the engine.
    """
    replay = _Replay()
    for number, record in read(lines):
        replay.play(number, record)
    return tuple(replay.divergences)


class _Replay:
    """New engines are given what is in a journal and are recorded, and the lines are compared."""

    def __init__(self) -> None:
        self.divergences: list[Divergence] = []
        self._lines: list[str] = []
        self._begin()

    def _begin(self) -> None:
        """The first of the journals that a file holds, or the next one."""
        self._journal = Journal(self._lines.append)
        self._engines: list[RecordedEngine | None] = []
        """By number; None for one that has parted."""
        self._ids: deque[Any] = deque()

    def play(self, number: int, record: Record) -> None:
        self._lines.clear()
        try:
            if "journal" in record:
                self._begin()
            elif "identity" in record:
                self._make(record)
            else:
                self._go_on(number, record)
        except (LocalProtocolError, ValueError, MemoryError, RecursionError) as error:
            raise JournalError(f"line {number}: {error or type(error).__name__}") from error

    def _make(self, record: Record) -> None:
        if record.get("engine") != len(self._engines) + 1:
            raise ValueError("the number of this engine is not the next one")
        config = _dict_in(record, "config")
        if not config.keys() <= {field.name for field in fields(RpcConfig)}:
            raise ValueError("this config has fields that are not known")
        engine = RecordedEngine(
            record["identity"],
            journal=self._journal,
            new_id=self._next_id,
            unix_time_offset=record.get("unix_time_offset", 0.0),
            config=RpcConfig(**config),
        )
        self._engines.append(engine)

    def _go_on(self, number: int, record: Record) -> None:
        at = record.get("engine")
        if type(at) is not int or not 0 < at <= len(self._engines):
            raise ValueError("there is no such engine")
        engine = self._engines[at - 1]
        if engine is None:
            return
        if "input" in record:
            self._input(engine, record)
        elif "packet" in record:
            engine.next_packet()
        elif "events" in record:
            engine.take_events()
        else:
            raise ValueError("this is neither an input nor a result")
        expected, got = _write_json(record), "".join(self._lines).strip()
        if got != expected:
            self.divergences.append(Divergence(number, engine._identity, expected, got))
            self._engines[at - 1] = None

    def _input(self, engine: RecordedEngine, record: Record) -> None:
        name, arguments = record["input"], _dict_in(record, "arguments")
        if name not in _INPUTS or not arguments.keys() <= set(_PARAMETERS[name]):
            raise ValueError("this is no input of an engine")
        values = {key: engine._meant(name, key, said) for key, said in arguments.items()}
        ids = record.get("ids", [])
        if not isinstance(ids, list):
            raise ValueError("the ids are no list")
        self._ids = deque(map(_exact, ids))
        given = (*values.values(), *self._ids)
        if "raised" in record and any(isinstance(value, _Foreign) for value in given):
            # It cannot be given again. It was refused, and so it changed nothing (L5).
            self._journal._add(lambda: record)
            return
        with suppress(Exception):  # it is recorded
            getattr(engine, name)(**values)

    def _next_id(self) -> str:
        if not self._ids:
            raise LookupError("there were not so many ids")
        new_id: str = self._ids.popleft()
        return new_id


def _dict_in(record: Record, key: str) -> Record:
    value = record.get(key)
    if not isinstance(value, dict):
        raise ValueError(f"there is no {key}")
    return value
