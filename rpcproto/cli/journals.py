"""The commands `rpcproto replay` and `rpcproto trace`."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from itertools import zip_longest
from typing import IO, Final

import click

import rpcproto
from rpcproto.cli.decode import NotAPacket, describe, shown_value
from rpcproto.cli.drawing import MAX_PARTICIPANTS, draw
from rpcproto.cli.output import console, put, standard_input, writing
from rpcproto.cli.sealing import Keys, keyed
from rpcproto.e2ee import AesGcmCryptor
from rpcproto.recording import Divergence, JournalError
from rpcproto.recording import replay as replay_journal
from rpcproto.recording import trace as trace_journal
from rpcproto.recording.journal import zlib_version
from rpcproto.recording.records import Begun, Done, Line, Made, Record, Sent, Told, read
from rpcproto.recording.values import Foreign, LongText, TooLarge, Value

MAX_LINE_CHARACTERS: Final = 2**27
"""The maximum length of a line of a journal. The longest line holds a payload that the program has
passed to the engine, with each byte as up to six characters."""
_path: Final = click.Path(dir_okay=False, allow_dash=True)
_journal: Final = click.argument("journal", type=_path)


class _NoJournal(click.ClickException):
    """A file that is no journal, or cannot be opened."""

    exit_code = 2


@click.command()
@keyed
@_journal
@click.argument("other", type=_path, required=False)
def replay(journal: str, other: str | None, keys: Keys | None) -> int:
    """Run the engines of a journal again, or compare two journals.

    JOURNAL is a file, or - for standard input. New engines receive all inputs in it, and their
    outputs are compared with those in the journal, byte for byte. With OTHER, nothing runs, and the
    lines of the two journals are compared. Engines with encryption need their passphrase.

    Exits with 0 if everything is the same, with 1 if not, and with 2 if a file is not a journal.
    """
    lines: list[str] = []
    with opened(journal) as file:
        records = list(read(_kept(_lines(file), lines)))
    if other is not None:
        with opened(other) as file:
            return _compare(records, list(read(_lines(file))))
    with _explained(journal):
        divergences = replay_journal(lines, _cryptors(records, keys))
    engines = sum(isinstance(line.record, Made) for line in records)
    inputs = sum(isinstance(line.record, Done) for line in records)
    what = f"{engines} engine{'' if engines == 1 else 's'}, {inputs:,} inputs"
    if not divergences:
        put(f"{what}: the same, byte for byte")
        return 0
    differ = "engine differs" if len(divergences) == 1 else "engines differ"
    put(f"{what}: {len(divergences)} {differ} from the journal")
    for divergence in divergences:
        _print_divergence(divergence, lines, records)
    _print_versions(records)
    return 1


@click.command()
@keyed
@_journal
@click.option(
    "--call", "request_ids", multiple=True, metavar="ID", help="Draw this call alone (repeatable)."
)
@click.option(
    "--svg", type=_path, metavar="OUT", help="Write an SVG picture instead; - is standard output."
)
def trace(journal: str, request_ids: tuple[str, ...], svg: str | None, keys: Keys | None) -> int:
    """Draw a journal as a sequence diagram.

    JOURNAL is a file, or - for standard input. With a passphrase, encrypted packets of engines that
    are not in the journal are decrypted. Exits with 2 if the file is not a journal or if there is
    nothing to draw.
    """
    with opened(journal) as file:
        seen = trace_journal(_lines(file), request_ids, None if keys is None else keys.cryptor())
    if not seen.rows:
        raise _NoJournal(f"{journal}: there is nothing to draw")
    if svg is None and len(seen.participants) > MAX_PARTICIPANTS:
        raise _NoJournal(
            f"{journal}: there are {len(seen.participants):,} participants, and text shows at most "
            f"{MAX_PARTICIPANTS}; select calls with --call, or draw a picture with --svg"
        )
    if svg is None:
        with writing():
            draw(seen, console())
        return 0
    with opened(svg, "w") as file:
        file.write(seen.svg())
    return 0


def _cryptors(records: Sequence[Line], keys: Keys | None) -> Mapping[str, AesGcmCryptor]:
    """A cryptor for each engine that had one."""
    made = (line.record for line in records if isinstance(line.record, Made))
    if keys is None:
        return {}
    return {engine.identity: keys.cryptor() for engine in made if engine.is_encrypted}


def _lines(file: IO[str]) -> Iterator[str]:
    """The lines of a file, which may be a device that never ends one."""
    while line := file.readline(MAX_LINE_CHARACTERS):
        if len(line) == MAX_LINE_CHARACTERS:
            raise JournalError(f"a line is longer than {MAX_LINE_CHARACTERS:,} characters")
        yield line


def _kept(lines: Iterable[str], kept: list[str]) -> Iterator[str]:
    """The same lines, each of them kept as soon as it was read."""
    for line in lines:
        kept.append(line)
        yield line


@contextmanager
def opened(path: str, mode: str = "r") -> Iterator[IO[str]]:
    """A file of text, or standard input or output for -; ends the program if there is none, if what
    is read is no journal, or if it cannot be written."""
    explained = writing(path) if mode == "w" else _explained(path)
    if path == "-":
        with explained:
            yield sys.stdout if mode == "w" else TextIOWrapper(standard_input(), "utf-8", "replace")
        return
    try:
        file = open(path, mode, encoding="utf-8", errors="replace")  # noqa: PTH123, SIM115
    except OSError as error:
        raise _NoJournal(f"{path}: {error.strerror or error}") from None
    with explained, file:
        yield file


@contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except JournalError as error:
        raise _NoJournal(f"{path}: {error}") from None
    except OSError as error:
        raise _NoJournal(f"cannot read {path}: {error.strerror or error}") from None


def _compare(one: Sequence[Line], two: Sequence[Line]) -> int:
    """Print where two journals first differ, apart from the versions that recorded them."""
    for mine, other in zip_longest(one, two):
        if mine and other and _is_same(mine, other):
            continue
        numbers = list(dict.fromkeys(line.number for line in (mine, other) if line))
        place = f"line {numbers[0]}"
        if len(numbers) > 1:
            place = f"lines {numbers[0]} and {numbers[1]}"
        put(f"they differ at {place}:")
        _print_two("the one", mine, "the other", other)
        return 1
    put(f"the same {len(one):,} lines")
    return 0


def _is_same(one: Line, two: Line) -> bool:
    both_begin = isinstance(one.record, Begun) and isinstance(two.record, Begun)
    return both_begin or one.source == two.source


def _print_divergence(
    divergence: Divergence, lines: Sequence[str], records: Sequence[Line]
) -> None:
    """Print what was recorded, what came in its place, and which input led to it."""
    before = [line for line in records if line.number <= divergence.line]
    expected = before.pop()
    put()
    put(f"line {divergence.line}, {shown_value(divergence.identity)}:")
    assert not isinstance(expected.record, Begun)
    if not isinstance(expected.record, Done):
        cause = next(
            line
            for line in reversed(before)
            if isinstance(line.record, Done | Made) and line.record.engine == expected.record.engine
        )
        put(f"  after     line {cause.number}: {_said(cause)}")
    got = None
    if divergence.got:
        # Names are those that the lines before it define.
        *_, got = read([*lines[: divergence.line - 1], divergence.got])
    _print_two("expected", expected, "got", got)


def _print_two(name: str, one: Line | None, other_name: str, two: Line | None) -> None:
    """Print two lines, and if they read the same, where they differ."""
    texts = [_said(line) for line in (one, two)]
    for text, label in zip(texts, (name, other_name), strict=True):
        put(f"  {label:<9} {text}")
    if texts[0] == texts[1] and one and two:
        sources = [json.dumps(line.source) for line in (one, two)]
        at = next(at for at, pair in enumerate(zip_longest(*sources)) if pair[0] != pair[1])
        for source, label in zip(sources, (name, other_name), strict=True):
            put(f"  {label:<9} ...{source[max(at - 20, 0) : at + 20]}... (character {at})")


def _print_versions(records: Sequence[Line]) -> None:
    """Other code may go other ways, and another zlib compresses otherwise."""
    begun = records[0].record
    assert isinstance(begun, Begun)
    then = f"rpcproto {begun.rpcproto} with zlib {begun.zlib}"
    now = f"rpcproto {rpcproto.__version__} with zlib {zlib_version()}"
    if then != now:
        put()
        put(f"recorded by {then}; this is {now}")


def _said(line: Line | None) -> str:
    """A line of a journal as people can read it."""
    if line is None:
        return "nothing"
    try:
        return _said_well(line.record)
    except ValueError:
        return json.dumps(line.source)  # it has texts that are not valid Unicode


def _said_well(record: Record) -> str:
    match record:
        case Begun():
            return f"journal(rpcproto={record.rpcproto!r}, zlib={record.zlib!r})"
        case Made() as made:
            return f"engine(identity={shown_value(made.identity)})"
        case Done() as done:
            return _said_input(done)
        case Sent() as sent:
            return f"packet {_packet(sent)}"
        case Told() as told:
            return "; ".join(_call(event.kind, event.fields) for event in told.events)


def _said_input(done: Done) -> str:
    text = _call(done.name, done.arguments)
    if done.returned is not None:
        text += f" -> {_value(done.returned)}"
    if done.raised is not None:
        text += f" raises {done.raised}"
    ids = "".join(f", new id {_value(drawn)}" for drawn in done.ids)
    return f"{text}{ids}, next deadline {_value(done.next_deadline)}"


def _call(name: str, arguments: Mapping[str, Value]) -> str:
    """Something with its fields, as Python would write it; packets are decoded."""
    fields = []
    for key, value in arguments.items():
        if key == "data" and name == "receive_packet":
            fields.append(_described(value))
        elif isinstance(value, tuple) and key == "packet":
            fields.append(_failed_packet(value))
        else:
            fields.append(f"{key}={_value(value)}")
    return f"{name}({', '.join(fields)})"


def _value(value: Value) -> str:
    match value:
        case LongText():
            return f"<{value.length} bytes, SHA-256 {value.sha256}>"
        case Foreign():
            return f"<{value.type_name}>"
        case TooLarge():
            return "<a packet over the limit>"
    return shown_value(value)


def _packet(sent: Sent) -> str:
    if sent.data is not None:
        return _described(sent.data)
    return _hashed(sent.kind, sent.destination_identity, sent.request_id, sent.length, sent.sha256)


def _failed_packet(packet: tuple[Value, ...]) -> str:
    match packet:
        case (str(kind), _, str(destination), str(request_id)):
            return f"[{_headline(kind, destination, request_id)}]"
    return "[not a packet]"


def _hashed(kind: str, destination: str, request_id: str, length: int, digest: str) -> str:
    """A packet of which the journal has no more than this."""
    return f"[{_headline(kind, destination, request_id)} ({length} bytes, SHA-256 {digest})]"


def _headline(kind: str, destination: str, request_id: str) -> str:
    return f"{kind} -> {shown_value(destination)} request_id={shown_value(request_id)}"


def _described(data: Value | bytes) -> str:
    if not isinstance(data, str | bytes):
        return _value(data)
    try:
        return "[" + " ".join(describe(data).plain.split()) + "]"
    except NotAPacket:
        return f"[not a packet: {shown_value(data)}]"
