"""The command `rpcproto conform`: which rules an implementation keeps."""

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import click

from rpcproto.cli.conform_files import FileError, Files, file_options
from rpcproto.cli.conform_report import Terminal
from rpcproto.cli.options import Number
from rpcproto.cli.output import writing
from rpcproto.cli.running import run
from rpcproto.conformance.attachment import NoTestee
from rpcproto.conformance.case import Case, Level
from rpcproto.conformance.cases import CASES
from rpcproto.conformance.judge import Judge, select
from rpcproto.conformance.reports import compare
from rpcproto.conformance.results import Play, Run
from rpcproto.conformance.wire_attachment import ProcessAttachment, TcpAttachment, WireAttachment
from rpcproto.core.errors import LocalProtocolError, require_name
from rpcproto.core.messages import MAX_IDENTITY_BYTES

if TYPE_CHECKING:
    from rpcproto.conformance.room_attachment import RoomAttachment

AnyAttachment: TypeAlias = "WireAttachment | RoomAttachment"
LEVELS: Final[dict[str, tuple[Level, ...]]] = {
    "must": (Level.MUST,),
    "should": (Level.MUST, Level.SHOULD),
    "info": tuple(Level),
}


class _CannotTest(click.ClickException):
    """There is nothing to test, or nothing to test it with."""

    exit_code = 2


@click.command()
@click.option("--exec", "command", metavar="COMMAND", help="Start the testee and use its pipes.")
@click.option("--tcp", metavar="HOST:PORT", help="Connect to a testee that listens.")
@click.option(
    "--room",
    is_flag=True,
    help="Serve a LiveKit room for the testee: LIVEKIT_URL and LIVEKIT_TOKEN are given to the "
    "command, or printed if there is none.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    help="Play only this case (RPC-4.3), section (RPC-4) or rule (R25); repeatable.",
)
@click.option(
    "--level",
    type=click.Choice(list(LEVELS)),
    default="info",
    show_default=True,
    help="Play the cases of this level and of those above it.",
)
@click.option("--strict", is_flag=True, help="Count failures of the level SHOULD too.")
@click.option(
    "--client-protocol",
    type=click.Choice(["0", "1", "2"]),
    help="The client_protocol of the participants of the suite. By default, all three are played.",
)
@click.option("--identity", default="testee", show_default=True, help="The identity of the testee.")
@click.option(
    "--timeout-scale",
    type=Number(0, 100, min_open=True),
    default=1.0,
    show_default=True,
    metavar="FACTOR",
    help="Multiply timeouts and tolerances on real time by this factor.",
)
@click.option(
    "--random",
    "drawn",
    type=click.IntRange(0, 1_000_000),
    default=0,
    metavar="N",
    help="Play N random conversations after the cases (RPC-16).",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    metavar="S",
    help="The seed of the random conversations, whose names begin with it.",
)
@click.option("--list", "lists", is_flag=True, help="List the cases, and play none.")
@click.option("--title", default="the testee", help="The name of the testee in the page.")
@file_options
def conform(
    command: str | None,
    tcp: str | None,
    room: bool,
    only: tuple[str, ...],
    level: str,
    strict: bool,
    client_protocol: str | None,
    identity: str,
    timeout_scale: float,
    drawn: int,
    seed: int | None,
    lists: bool,
    title: str,
    **files: Path | None,
) -> int:
    """Test which rules of the protocol an implementation keeps.

    The suite plays the server and all other participants of a room; the implementation under test
    serves a few methods (see docs/conformance.md) over its standard input and output, or over TCP.

    Exits with 0 if all cases that count have passed, with 1 if one has failed, and with 2 if there
    is nothing to test or no case was played.
    """
    terminal = Terminal(strict=strict)
    protocols = (0, 1, 2) if client_protocol is None else (int(client_protocol),)
    cases = [*CASES, *_drawn(drawn, seed, protocols)]
    plays = select(cases, only=only, levels=LEVELS[level], protocols=protocols)
    if not plays:
        raise _CannotTest("no case is selected; --list shows all of them")
    if lists:
        with writing():
            terminal.list(plays)
        return 0
    attachment = _attachment(command, tcp, room, identity, timeout_scale)
    reports = Files(**files)
    try:
        known = reports.known_failures()
        played = run(_play(attachment, plays, terminal, timeout_scale))
        with writing():
            terminal.end(played)
        reached = command or tcp or "a participant of the room"
        reports.write(played, strict=strict, command=reached, title=title)
    except (NoTestee, FileError) as error:
        raise _CannotTest(str(error)) from None
    code = played.exit_code(strict=strict)
    if known is None or code == 2:
        return code
    differences = compare(played, known, strict=strict)
    with writing():
        terminal.differences(differences)
    return int(bool(differences))


def _drawn(count: int, seed: int | None, protocols: Sequence[int]) -> list[Case]:
    if not count:
        return []
    try:
        from rpcproto.conformance.drawn import drawn_cases  # noqa: PLC0415 (it may be missing)
    except ImportError as error:
        raise _CannotTest(f"--random: {error}") from None
    return drawn_cases(count, secrets.randbelow(10**6) if seed is None else seed, protocols)


def _attachment(
    command: str | None, tcp: str | None, room: bool, identity: str, timeout_scale: float
) -> AnyAttachment:
    if (command is not None or room) == (tcp is not None):
        raise _CannotTest("give either --exec COMMAND, --tcp HOST:PORT or --room")
    try:
        require_name(identity, "--identity", MAX_IDENTITY_BYTES)
    except LocalProtocolError as error:
        raise _CannotTest(str(error)) from None
    if command is not None:
        try:
            if room:
                return _room_attachment(command, identity, timeout_scale)
            return ProcessAttachment(command, identity, timeout_scale)
        except ValueError as error:
            raise _CannotTest(f"--exec {command!r}: {error}") from None
    if tcp is None:
        return _room_attachment(None, identity, timeout_scale)
    host, _, port = tcp.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
        raise _CannotTest(f"--tcp {tcp!r}: it must be HOST:PORT, such as 127.0.0.1:7000")
    return TcpAttachment(host.strip("[]"), int(port), identity, timeout_scale)


def _room_attachment(command: str | None, identity: str, timeout_scale: float) -> AnyAttachment:
    """Raises ValueError for a command that is none."""
    try:
        from rpcproto.conformance.room_attachment import RoomAttachment  # noqa: PLC0415 (it may be missing)
    except ImportError as error:
        raise _CannotTest(str(error)) from None

    def invite(url: str, token: str) -> None:
        with writing():
            click.echo(f"LIVEKIT_URL={url}\nLIVEKIT_TOKEN={token}")

    return RoomAttachment(command, identity, timeout_scale, invite=invite)


async def _play(
    attachment: AnyAttachment, plays: Sequence[Play], terminal: Terminal, timeout_scale: float
) -> Run:
    async with attachment:
        judge = Judge(attachment, terminal.result, terminal.introduce, timeout_scale=timeout_scale)
        with terminal.progress(plays):
            return await judge.run(plays)
