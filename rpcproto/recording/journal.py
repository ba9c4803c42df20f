"""Recording: a journal of engines, with every input and everything that came of it.

`Journal.engine` makes an engine that is recorded. An engine is a function of its config, its ids
and its inputs (L1), so a journal holds all there is to know of a run. Payloads are in it, with
whatever secrets they hold, also where packets are encrypted; keys are not.
"""

import functools
import inspect
import logging
import zlib
from collections.abc import Callable
from typing import ClassVar, Final

import rpcproto
from rpcproto.core.config import RpcConfig
from rpcproto.core.engine import RpcEngine
from rpcproto.core.errors import LocalProtocolError
from rpcproto.core.events import Event
from rpcproto.core.messages import OutgoingPacket
from rpcproto.core.sealing import Cryptor
from rpcproto.recording.lines import PARAMETERS, Lines
from rpcproto.recording.notes import Notes
from rpcproto.recording.records import FORMAT
from rpcproto.recording.values import Foreign, write_json

logger: Final[logging.Logger] = logging.getLogger("rpcproto")


class Journal:
    """Records engines. It calls `write` with one line of ASCII at a time, including the newline.

    A line is written after each input. Flushing is up to `write`. If `write` raises, the exception
    reaches neither the engine nor its host: it is logged and kept as `error`, and the journal ends.
    """

    _keeps_texts: ClassVar[bool] = False
    """Whether long texts stay in memory, as a replay needs."""

    def __init__(self, write: Callable[[str], object]) -> None:
        """Write the first line of a journal. An exception of `write` is raised here."""
        self._write = write
        self._engines = 0
        self.error: BaseException | None = None
        """The exception that `write` raised, or None. Nothing is recorded after it."""
        head = {"journal": FORMAT, "rpcproto": rpcproto.__version__, "zlib": zlib_version()}
        write(write_json(head) + "\n")

    def engine(
        self,
        identity: str,
        *,
        new_id: Callable[[], str],
        unix_time_offset: float = 0.0,
        config: RpcConfig = RpcConfig(),  # noqa: B008 (frozen)
        cryptor: Cryptor | None = None,
    ) -> RpcEngine:
        """Return a recorded engine. Arguments and exceptions are those of `RpcEngine`.

        This method can be the `engine_factory` of a host.
        """
        return RecordedEngine(
            identity,
            journal=self,
            new_id=new_id,
            unix_time_offset=unix_time_offset,
            config=config,
            cryptor=cryptor,
        )

    def _add_engine(
        self, identity: str, unix_time_offset: float, config: RpcConfig, notes: Notes | None
    ) -> Lines:
        self._engines += 1
        lines = Lines(self._engines, identity, config, notes, keeps_texts=self._keeps_texts)
        self._add(lines.made, unix_time_offset)
        return lines

    def _add(self, compose: Callable[..., str], *arguments: object) -> None:
        """Write the line that `compose` makes. Neither of the two can break the engine."""
        try:
            if self.error is None:
                self._write(compose(*arguments))
        except BaseException as error:
            self._end(error)

    def _end(self, error: BaseException) -> None:
        """Record nothing more: there may be half a line, and a journal with a gap is of no use."""
        self.error = error
        if not isinstance(error, Exception):
            raise error
        logger.error("cannot write the journal, so recording has stopped", exc_info=error)


def zlib_version() -> str:
    """Return the version of zlib, on which the bytes of compressed packets depend."""
    return getattr(zlib, "ZLIBNG_VERSION", "") or zlib.ZLIB_RUNTIME_VERSION


# Looked up once: `super()` is a large part of what recording an input costs.
_call = RpcEngine.call
_respond = RpcEngine.respond
_receive_packet = RpcEngine.receive_packet
_handle_deadline = RpcEngine.handle_deadline
_next_packet = RpcEngine.next_packet
_take_events = RpcEngine.take_events
_hand_over: Final[property] = vars(RpcEngine)["hand_over_unknown_methods"]


class RecordedEngine(RpcEngine):
    """An engine that writes its inputs and results to a journal. See `Journal.engine`."""

    def __init__(
        self,
        identity: str,
        *,
        journal: Journal,
        new_id: Callable[[], str],
        unix_time_offset: float = 0.0,
        config: RpcConfig = RpcConfig(),  # noqa: B008 (frozen)
        cryptor: Cryptor | None = None,
    ) -> None:
        notes = None if cryptor is None else Notes(cryptor)
        super().__init__(
            identity,
            new_id=self._draw,
            unix_time_offset=unix_time_offset,
            config=config,
            cryptor=notes,
        )
        self._journal = journal
        self._id_source = new_id
        self._lines = journal._add_engine(identity, unix_time_offset, config, notes)

    @property
    def hand_over_unknown_methods(self) -> bool:
        """See `RpcEngine.hand_over_unknown_methods`. Setting it is recorded."""
        return super().hand_over_unknown_methods

    @hand_over_unknown_methods.setter
    def hand_over_unknown_methods(self, value: bool) -> None:
        name = "hand_over_unknown_methods"
        try:
            _hand_over.__set__(self, value)
        except Exception as error:
            self._refused(name, (value,), error)
            raise
        self._journal._add(self._lines.input, name, (value,), self.next_deadline, {})

    # The usual inputs have code of their own, which is quicker; the others are below.

    def call(
        self,
        destination_identity: str,
        method: str,
        payload: str,
        *,
        now: float,
        response_timeout: float | None = None,
        ack_timeout: float | None = None,
    ) -> str:
        arguments = (destination_identity, method, payload, now, response_timeout, ack_timeout)
        try:
            request_id = _call(
                self,
                destination_identity,
                method,
                payload,
                now=now,
                response_timeout=response_timeout,
                ack_timeout=ack_timeout,
            )
        except Exception as error:
            self._refused("call", arguments, error)
            raise
        journal = self._journal
        try:
            if journal.error is None:
                journal._write(self._lines.call(arguments, self.next_deadline, request_id))
        except BaseException as error:
            journal._end(error)
        return request_id

    def respond(self, invocation_id: int, payload: str, *, now: float) -> bool:
        try:
            answered = _respond(self, invocation_id, payload, now=now)
        except Exception as error:
            self._refused("respond", (invocation_id, payload, now), error)
            raise
        journal = self._journal
        try:
            if journal.error is None:
                journal._write(
                    self._lines.respond(invocation_id, payload, now, self.next_deadline, answered)
                )
        except BaseException as error:
            journal._end(error)
        return answered

    def receive_packet(
        self,
        data: bytes | bytearray | memoryview,
        *,
        now: float,
        sender_identity: str | None = None,
        sender_sid: str | None = None,
    ) -> None:
        try:
            _receive_packet(
                self, data, now=now, sender_identity=sender_identity, sender_sid=sender_sid
            )
        except Exception as error:
            self._refused("receive_packet", (data, now, sender_identity, sender_sid), error)
            raise
        journal = self._journal
        try:
            if journal.error is None:
                journal._write(
                    self._lines.receive_packet(
                        data, now, sender_identity, sender_sid, self.next_deadline
                    )
                )
        except BaseException as error:
            journal._end(error)

    def handle_deadline(self, *, now: float) -> None:
        try:
            _handle_deadline(self, now=now)
        except Exception as error:
            self._refused("handle_deadline", (now,), error)
            raise
        journal = self._journal
        try:
            if journal.error is None:
                journal._write(self._lines.handle_deadline(now, self.next_deadline))
        except BaseException as error:
            journal._end(error)

    def next_packet(self) -> OutgoingPacket | None:
        packet = _next_packet(self)
        if packet is not None:
            journal = self._journal
            try:
                if journal.error is None:
                    journal._write(self._lines.packet(packet))
            except BaseException as error:
                journal._end(error)
        return packet

    def take_events(self) -> tuple[Event, ...]:
        events = _take_events(self)
        if events:
            journal = self._journal
            try:
                if journal.error is None:
                    journal._write(self._lines.events(events))
            except BaseException as error:
                journal._end(error)
        return events

    def _draw(self) -> str:
        """Return a new id, which is written with the input that needs it."""
        try:
            new_id = self._id_source()
        except Exception as error:
            if self._journal.error is None:
                self._lines.ids.append(Foreign(type(error).__name__))
            raise
        if self._journal.error is None:
            self._lines.ids.append(new_id)
        return new_id

    def _refused(self, name: str, arguments: tuple[object, ...], error: Exception) -> None:
        """Record an input that raised."""
        kind = type(error).__name__
        raised = f"{kind}: {error}" if isinstance(error, LocalProtocolError) else kind
        self._journal._add(
            self._lines.input, name, arguments, self.next_deadline, {"raised": raised}
        )


def _recorded(name: str) -> Callable[..., object]:
    """Return the input `name` of an engine, which is recorded with what came of it."""
    method = getattr(RpcEngine, name)
    signature = inspect.signature(method)

    @functools.wraps(method)
    def record(self: RecordedEngine, *args: object, **keywords: object) -> object:
        try:
            bound = signature.bind(self, *args, **keywords)
        except TypeError:
            # Python refuses this call, the engine never sees it, and there is nothing to record.
            return method(self, *args, **keywords)
        bound.apply_defaults()
        arguments = tuple(bound.arguments[key] for key in PARAMETERS[name])
        try:
            result = method(self, *args, **keywords)
        except Exception as error:
            self._refused(name, arguments, error)
            raise
        outcome = {} if result is None else {"returned": result}
        self._journal._add(self._lines.input, name, arguments, self.next_deadline, outcome)
        return result

    return record


for _name in PARAMETERS:
    if _name not in vars(RecordedEngine):
        setattr(RecordedEngine, _name, _recorded(_name))
