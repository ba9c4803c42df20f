"""Replay: the inputs in a journal go to new engines, and what comes of them is compared."""

from base64 import b64decode
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import fields
from typing import Any, Final, NamedTuple, Protocol, final

from rpcproto.core.config import RpcConfig
from rpcproto.core.errors import LocalProtocolError
from rpcproto.core.messages import OutgoingPacket, PacketKind, Sealed
from rpcproto.core.sealing import Cryptor, OpenFailure
from rpcproto.recording.journal import Journal, RecordedEngine
from rpcproto.recording.lines import SETTINGS
from rpcproto.recording.records import Begun, Done, JournalError, Line, Made, Sent, Told, read
from rpcproto.recording.values import Foreign, LongText, TooLarge, Value, write_json

_CONFIG_FIELDS: Final = {field.name for field in fields(RpcConfig)}


@final
class Divergence(NamedTuple):
    """The place where the replay of an engine first differs from the journal.

    `line` counts from 1. `expected` is that line, and `got` the line of the replay, which is empty
    if there was none.
    """

    line: int
    identity: str
    expected: str
    got: str


class ReplayedCryptor(Cryptor, Protocol):
    """A cryptor that can encrypt with given IVs, such as `rpcproto.e2ee.AesGcmCryptor`."""

    def seal_again(self, plaintext: bytes, key_index: int, iv: bytes) -> Sealed:
        """Encrypt with the key at this index and this IV.

        Raises:
            LocalProtocolError: There is no such key.
        """
        ...


def replay(
    lines: Iterable[str], cryptors: Mapping[str, ReplayedCryptor] = {}
) -> tuple[Divergence, ...]:
    """Pass all inputs to new engines, and return where each of them first differs from the journal.

    The result is empty if all outputs are the same, byte for byte. Nothing in a journal is imported
    or run. Engines with encryption need the keys that they had, in `cryptors` by identity. Packets
    are encrypted with the recorded key indices and IVs, and packets that could not be decrypted
    then are not decrypted now.

    Raises:
        JournalError: The lines are not a journal of this format, or keys are missing.
    """
    replay = _Replay(cryptors)
    for line in read(lines):
        replay.play(line)
    return tuple(replay.divergences)


class _Rerun(Journal):
    """The journal of a replay, whose engines can be given the texts that their events had."""

    _keeps_texts = True


class _Replay:
    """New engines are given what is in a journal and are recorded, and the lines are compared."""

    def __init__(self, cryptors: Mapping[str, ReplayedCryptor]) -> None:
        self._cryptors = cryptors
        self.divergences: list[Divergence] = []
        self._lines: list[str] = []
        self._begin()

    def _begin(self) -> None:
        """The first of the journals that a file holds, or the next one."""
        self._journal = _Rerun(self._lines.append)
        self._engines: list[RecordedEngine | None] = []
        """By number; None for one that has differed."""
        self._sealings: list[_AsBefore | None] = []
        """By number, what those have that seal."""
        self._ids: deque[Any] = deque()

    def play(self, line: Line) -> None:
        """Do what a line records, and compare."""
        self._lines.clear()
        try:
            if isinstance(line.record, Begun):
                self._begin()
            elif isinstance(line.record, Made):
                self._make(line.record)
            else:
                self._go_on(line)
        except (LocalProtocolError, ValueError, OverflowError, MemoryError) as error:
            raise JournalError(f"line {line.number}: {error or type(error).__name__}") from error

    def _make(self, made: Made) -> None:
        if not made.config.keys() <= _CONFIG_FIELDS:
            raise ValueError("this config has fields that are not known")
        config: Any = made.config
        offset: Any = made.unix_time_offset
        sealing = None
        if made.is_encrypted:
            if made.identity not in self._cryptors:
                raise ValueError(
                    f"the packets of {made.identity!r} are encrypted: "
                    "to replay them takes a cryptor with the same keys"
                )
            sealing = _AsBefore(self._cryptors[made.identity])
        self._sealings.append(sealing)
        engine = RecordedEngine(
            made.identity,
            journal=self._journal,
            new_id=self._next_id,
            unix_time_offset=offset,
            config=RpcConfig(**config),
            cryptor=sealing,
        )
        self._engines.append(engine)

    def _go_on(self, line: Line) -> None:
        record = line.record
        assert not isinstance(record, Begun | Made)
        engine = self._engines[record.engine - 1]
        if engine is None:
            return
        sealing = self._sealings[record.engine - 1]
        if sealing is not None:
            sealing.record = record
        if isinstance(record, Done):
            if _cannot_be_given(record):
                return
            self._give(engine, record)
        elif isinstance(record, Sent):
            engine.next_packet()
        else:
            engine.take_events()
        expected, got = write_json(line.source), "".join(self._lines).strip()
        if got != expected:
            self.divergences.append(Divergence(line.number, engine._identity, expected, got))
            self._engines[record.engine - 1] = None

    def _give(self, engine: RecordedEngine, done: Done) -> None:
        values = {
            key: _argument(engine, done.name, key, value) for key, value in done.arguments.items()
        }
        self._ids = deque(done.ids)
        with suppress(Exception):  # it is recorded
            if done.name in SETTINGS:
                setattr(engine, done.name, values["value"])
            else:
                getattr(engine, done.name)(**values)

    def _next_id(self) -> str:
        if not self._ids:
            raise LookupError("there were not so many ids")
        new_id: str = self._ids.popleft()
        return new_id


class _AsBefore:
    """A cryptor that does again what the journal says that it did."""

    def __init__(self, cryptor: ReplayedCryptor) -> None:
        self._cryptor = cryptor
        self.record: Done | Sent | Told
        """What is being replayed."""

    def attach(self, identity: str) -> None:
        self._cryptor.attach(identity)

    def seal(self, plaintext: bytes) -> Sealed:
        record = self.record
        if isinstance(record, Sent) and record.sealed is not None:
            return self._cryptor.seal_again(plaintext, *record.sealed)
        return Sealed(0, b"", plaintext)  # the journal has another packet, or a plain one

    def open(
        self, sender_identity: str, key_index: int, iv: bytes, ciphertext: bytes
    ) -> bytes | OpenFailure:
        opened = self.record.opened if isinstance(self.record, Done) else None
        if opened in _FAILURES:
            return OpenFailure(opened)
        return self._cryptor.open(sender_identity, key_index, iv, ciphertext)


_FAILURES: Final = {failure.value for failure in OpenFailure}


def _cannot_be_given(done: Done) -> bool:
    """Whether the engine refused a value that a journal cannot hold. That changed nothing (L5)."""
    given = (*done.arguments.values(), *done.ids)
    return done.raised is not None and any(isinstance(value, Foreign) for value in given)


def _argument(engine: RecordedEngine, name: str, key: str, value: Value) -> object:
    """The argument that a journal holds; raises ValueError for what no journal would hold."""
    match value:
        case TooLarge():
            return bytes(engine._max_packet_bytes + 1)
        case LongText():
            if value not in engine._lines.texts:
                raise ValueError(
                    f"no event of this engine had a text of {value.length} bytes "
                    f"with the SHA-256 {value.sha256}"
                )
            return engine._lines.texts[value]
        case str() if name == "receive_packet" and key == "data":
            return b64decode(value, validate=True)
        case tuple() if key == "packet":
            return _failed_packet(value)
        case tuple():
            return list(value)
    return value


def _failed_packet(value: tuple[Value, ...]) -> OutgoingPacket:
    """A packet that could not be sent, without its data, at which the engine does not look."""
    match value:
        case (str(kind), int(token), str(destination), str(request_id)):
            return OutgoingPacket(b"", destination, request_id, PacketKind(kind), token)
    raise ValueError("this is not a packet that failed")
