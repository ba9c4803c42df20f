"""What `rpcproto replay` and `rpcproto trace` do with journals."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import zip_longest
from typing import IO, Any, Final

import click
from rich.console import Console

import rpcproto
from rpcproto import journal as journals
from rpcproto.cli.decode import NotAPacket, describe, shown_value
from rpcproto.cli.drawing import draw
from rpcproto.journal import Divergence, JournalError, Record
from rpcproto.tracing import trace as trace_journal

_path: Final = click.Path(dir_okay=False, allow_dash=True)
_journal: Final = click.argument("journal", type=_path)


class _NoJournal(click.ClickException):
    """A file that is no journal, or cannot be opened."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        click.echo(f"rpcproto: {self.message}", file=file, err=file is None)


@click.command()
@_journal
@click.argument("other", type=_path, required=False)
def replay(journal: str, other: str | None) -> int:
    """Run the engines of a journal again, or say where two journals part.

    JOURNAL is a file, or - for standard input. All inputs in it are given to new engines, and what
    comes of them is compared with what was recorded, byte for byte. With OTHER, nothing is run, and
    the lines of the two are compared.

    Exits with 0 if all is the same, with 1 if not, and with 2 for what is not a journal.
    """
    with opened(journal) as file:
        lines = list(file)
        records = dict(journals.read(lines))
    if other is not None:
        with opened(other) as file:
            return _compare(records, dict(journals.read(file)))
    with _explained(journal):
        divergences = journals.replay(lines)
    engines = sum("identity" in record for record in records.values())
    inputs = sum("input" in record for record in records.values())
    what = f"{engines} engine{'' if engines == 1 else 's'}, {inputs:,} inputs"
    if not divergences:
        click.echo(f"{what}: the same, byte for byte")
        return 0
    click.echo(f"{what}: {len(divergences)} of the engines went another way")
    for divergence in divergences:
        _print_divergence(divergence, records)
    _print_versions(records)
    return 1


@click.command()
@_journal
@click.option(
    "--call", "request_ids", multiple=True, metavar="ID", help="Draw this call alone (repeatable)."
)
@click.option(
    "--svg", type=_path, metavar="OUT", help="Write an SVG picture instead; - is standard output."
)
def trace(journal: str, request_ids: tuple[str, ...], svg: str | None) -> int:
    """Draw what a journal holds as a sequence diagram.

    JOURNAL is a file, or - for standard input. Exits with 2 for what is not a journal, and where
    nothing of it can be drawn.
    """
    with opened(journal) as file:
        seen = trace_journal(file, request_ids)
    if not seen.rows:
        raise _NoJournal(f"{journal}: there is nothing to draw")
    if svg is None:
        draw(seen, Console(highlight=False))
        return 0
    with opened(svg, "w") as file:
        file.write(seen.svg())
    return 0


@contextmanager
def opened(path: str, mode: str = "r") -> Iterator[IO[str]]:
    """A file of text, or standard input or output for -; ends the program if there is none, or if
    what is read is no journal."""
    try:
        file = click.open_file(path, mode, "utf-8", errors="replace")
    except OSError as error:
        raise _NoJournal(f"{path}: {error.strerror or error}") from None
    with file, _explained(path):
        yield file


@contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except JournalError as error:
        raise _NoJournal(f"{path}: {error}") from None


def _compare(one: Mapping[int, Record], two: Mapping[int, Record]) -> int:
    """Say where two journals part; who made them does not count."""
    for here, there in zip_longest(one.items(), two.items()):
        number, mine = here or (None, None)
        other_number, other = there or (None, None)
        if mine == other or (mine and other and "journal" in mine and "journal" in other):
            continue
        place = f"line {number or other_number}"
        if number and other_number and number != other_number:
            place = f"lines {number} and {other_number}"
        click.echo(f"they part at {place}:")
        _print_two("the one", mine, "the other", other)
        return 1
    click.echo(f"the same {len(one):,} lines")
    return 0


def _print_divergence(divergence: Divergence, records: Mapping[int, Record]) -> None:
    record = records[divergence.line]
    click.echo(f"\nline {divergence.line}, {shown_value(divergence.identity)}:")
    if "input" not in record:
        cause = next(
            number
            for number in range(divergence.line, 0, -1)
            if records.get(number, {}).get("engine") == record["engine"]
            and ("input" in records[number] or "identity" in records[number])
        )
        click.echo(f"  after     line {cause}: {_said(records[cause])}")
    got = json.loads(divergence.got) if divergence.got else None
    _print_two("expected", json.loads(divergence.expected), "got", got)


def _print_two(name: str, one: Record | None, other_name: str, two: Record | None) -> None:
    """Two records, and if they read the same, where they are not."""
    texts = [_said(record) for record in (one, two)]
    for text, label in zip(texts, (name, other_name), strict=True):
        click.echo(f"  {label:<9} {text}")
    if texts[0] == texts[1]:
        lines = [json.dumps(record) for record in (one, two)]
        at = next(at for at, pair in enumerate(zip_longest(*lines)) if pair[0] != pair[1])
        for line, label in zip(lines, (name, other_name), strict=True):
            click.echo(f"  {label:<9} ...{line[max(at - 20, 0) : at + 20]}... (character {at})")


def _print_versions(records: Mapping[int, Record]) -> None:
    """Other code may go other ways, and another zlib compresses otherwise."""
    made_by = next(iter(records.values()))
    then = f"rpcproto {made_by.get('rpcproto')} with zlib {made_by.get('zlib')}"
    now = f"rpcproto {rpcproto.__version__} with zlib {journals.zlib_version()}"
    if then != now:
        click.echo(f"\nrecorded by {then}; this is {now}")


def _said(record: Record | None) -> str:
    """A line of a journal as people can read it."""
    if record is None:
        return "nothing"
    try:
        return _said_well(record)
    except (KeyError, TypeError, ValueError, AttributeError):
        return json.dumps(record)  # whatever it is


def _said_well(record: Record) -> str:
    if "input" in record:
        return _said_input(record)
    if "packet" in record:
        return f"packet {_packet(record['packet'].get('data'))}"
    if "events" in record:
        return "; ".join(_call(event["event"], event, ("event",)) for event in record["events"])
    return _call("engine", record, ("engine",))


def _said_input(record: Record) -> str:
    text = _call(record["input"], record["arguments"])
    if "returned" in record:
        text += f" -> {shown_value(record['returned'])}"
    if "raised" in record:
        text += f" raises {record['raised']}"
    ids = "".join(f", new id {shown_value(drawn)}" for drawn in record.get("ids", ()))
    return f"{text}{ids}, next deadline {record.get('next_deadline')}"


def _call(name: str, arguments: Record, without: Iterable[str] = ()) -> str:
    """Something with its fields, as Python would write it; packets are decoded."""
    fields = []
    for key, value in arguments.items():
        if key == "data" and name == "receive_packet":
            fields.append(_packet(value))
        elif key == "packet" and isinstance(value, dict):
            fields.append(_packet(value.get("data")))
        elif key not in without:
            fields.append(f"{key}={shown_value(value)}")
    return f"{name}({', '.join(fields)})"


def _packet(data: object) -> str:
    try:
        return "[" + " ".join(describe(str(data)).plain.split()) + "]"
    except NotAPacket:
        return f"[no packet: {shown_value(data)}]"
