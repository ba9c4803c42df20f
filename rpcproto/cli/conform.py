"""The command `rpcproto conform`: which rules an implementation keeps."""

from collections.abc import Sequence
from typing import Final

import click

from rpcproto.cli.conform_report import Terminal
from rpcproto.cli.options import Number
from rpcproto.cli.output import writing
from rpcproto.cli.running import run
from rpcproto.conformance.attachment import NoTestee
from rpcproto.conformance.case import Level
from rpcproto.conformance.cases import CASES
from rpcproto.conformance.judge import Judge, select
from rpcproto.conformance.results import Play, Run
from rpcproto.conformance.wire_attachment import ProcessAttachment, TcpAttachment, WireAttachment
from rpcproto.core.errors import LocalProtocolError, require_name
from rpcproto.core.messages import MAX_IDENTITY_BYTES

LEVELS: Final = {"must": (Level.MUST,), "should": (Level.MUST, Level.SHOULD), "info": tuple(Level)}


class _CannotTest(click.ClickException):
    """There is nothing to test, or nothing to test it with."""

    exit_code = 2


@click.command()
@click.option(
    "--exec", "command", metavar="COMMAND", help="Start the testee; speak over its pipes."
)
@click.option("--tcp", metavar="HOST:PORT", help="Connect to a testee that listens.")
@click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    help="Play one case (RPC-4.3), section (RPC-4) or rule (R25) alone; repeatable.",
)
@click.option(
    "--level",
    type=click.Choice(list(LEVELS)),
    default="info",
    show_default=True,
    help="Play the cases of this level and of those above it.",
)
@click.option("--strict", is_flag=True, help="Let cases of the level SHOULD count as well.")
@click.option(
    "--client-protocol",
    type=click.Choice(["0", "1", "2"]),
    help="How the participants of the suite are announced; each of them unless given.",
)
@click.option("--identity", default="testee", show_default=True, help="The identity of the testee.")
@click.option(
    "--timeout-scale",
    type=Number(0, 100, min_open=True),
    default=1.0,
    show_default=True,
    metavar="FACTOR",
    help="Multiply patience and tolerances on real time.",
)
@click.option("--list", "lists", is_flag=True, help="List the cases, and play none.")
def conform(
    command: str | None,
    tcp: str | None,
    only: tuple[str, ...],
    level: str,
    strict: bool,
    client_protocol: str | None,
    identity: str,
    timeout_scale: float,
    lists: bool,
) -> int:
    """Test which rules of the protocol an implementation keeps.

    The suite plays the server and all other participants of a room; the implementation under test
    serves a few methods (see docs/conformance.md) over its standard input and output, or over TCP.

    Exits with 0 if all that counts passed, with 1 if something failed, and with 2 if there is
    nothing to test or no case was played.
    """
    terminal = Terminal(strict=strict)
    protocols = (0, 1, 2) if client_protocol is None else (int(client_protocol),)
    plays = select(CASES, only=only, levels=LEVELS[level], protocols=protocols)
    if not plays:
        raise _CannotTest("no case is selected; --list shows all of them")
    if lists:
        with writing():
            terminal.list(plays)
        return 0
    attachment = _attachment(command, tcp, identity, timeout_scale)
    try:
        played = run(_play(attachment, plays, terminal, timeout_scale))
    except NoTestee as error:
        raise _CannotTest(str(error)) from None
    with writing():
        terminal.end(played)
    return played.exit_code(strict=strict)


def _attachment(
    command: str | None, tcp: str | None, identity: str, timeout_scale: float
) -> WireAttachment:
    if (command is None) == (tcp is None):
        raise _CannotTest("give either --exec COMMAND or --tcp HOST:PORT")
    try:
        require_name(identity, "--identity", MAX_IDENTITY_BYTES)
    except LocalProtocolError as error:
        raise _CannotTest(str(error)) from None
    if command is not None:
        try:
            return ProcessAttachment(command, identity, timeout_scale)
        except ValueError as error:
            raise _CannotTest(f"--exec {command!r}: {error}") from None
    assert tcp is not None
    host, _, port = tcp.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
        raise _CannotTest(f"--tcp {tcp!r}: it must be HOST:PORT, such as 127.0.0.1:7000")
    return TcpAttachment(host.strip("[]"), int(port), identity, timeout_scale)


async def _play(
    attachment: WireAttachment, plays: Sequence[Play], terminal: Terminal, timeout_scale: float
) -> Run:
    async with attachment:
        judge = Judge(attachment, terminal.result, timeout_scale=timeout_scale)
        with terminal.progress(plays):
            return await judge.run(plays)
