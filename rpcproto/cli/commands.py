"""What can be typed: the commands, their arguments and their exit codes."""

import os
from collections.abc import Iterator

import click

import rpcproto
from rpcproto import interrupts
from rpcproto.cli import BUG, DEBUG
from rpcproto.cli.completion import VARIABLE, completion
from rpcproto.cli.conform import conform
from rpcproto.cli.decode import NotAPacket, as_json, describe, packets_in
from rpcproto.cli.demo import play
from rpcproto.cli.journals import opened, replay, trace
from rpcproto.cli.output import (
    OUTPUT_FAILED,
    OutputError,
    console,
    drop_pending,
    put_as_it_is,
    read_file,
    read_standard_input,
    say,
    show_error,
    standard_output,
    writing,
)
from rpcproto.cli.remote_commands import bench, call, serve
from rpcproto.cli.running import quiet_finalizers
from rpcproto.cli.sealing import Keys, keyed
from rpcproto.recording import Journal


def run() -> int:
    """Run the command line; returns the exit code."""
    try:
        with quiet_finalizers(), standard_output():
            return _run()
    except OutputError as error:
        show_error(error)
        return error.exit_code


def _run() -> int:
    try:
        code = commands.main(prog_name="rpcproto", standalone_mode=False)
    except click.ClickException as error:
        show_error(error)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return interrupts.INTERRUPTED
    except SystemExit as end:
        if VARIABLE in os.environ and isinstance(end.code, int):
            return end.code  # a shell has asked for completions
        return OUTPUT_FAILED  # whoever reads the output of click has stopped reading
    except OSError as error:
        drop_pending()
        what = f"{error.filename}: " if error.filename else ""
        say(f"{what}{error.strerror or error}")
        return OUTPUT_FAILED
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        say(f"a bug: {type(error).__name__}: {error}; set {DEBUG}=1 to see the traceback")
        return BUG
    return code if isinstance(code, int) else 0


def _print_versions(context: click.Context) -> None:
    click.echo(f"rpcproto, version {rpcproto.__version__}")
    click.echo(f"LiveKit rooms: {', or '.join(_stacks()) or 'no WebRTC stack is installed'}")
    context.exit()


def _stacks() -> list[str]:
    """The WebRTC stacks that are installed, with their versions, the one that is taken first."""
    try:
        from rpcproto.livekit.stacks import installed_stacks, stack_version  # noqa: PLC0415
    except ImportError:
        return []
    return [f"{stack} {stack_version(stack)}" for stack in installed_stacks()]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda context, _, wanted: _print_versions(context) if wanted else None,
    help="Show the version, and the WebRTC stack of LiveKit rooms, and exit.",
)
def commands() -> None:
    """LiveKit's participant-to-participant RPC."""


@commands.command()
@click.option(
    "--journal",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Record the engines in a file, for `rpcproto replay` and `rpcproto trace`.",
)
def demo(journal: str | None) -> int:
    """Make eleven calls, some of which fail, and draw them.

    The participants share a room inside this process, and time is virtual: an hour of waiting
    takes no time. The diagrams show the packets on the wire and the events of the engines. Exits
    with 1 if a call does not end as expected, and with 4 if the journal cannot be written.
    """
    if journal is None:
        with writing():
            return 0 if play(console()) else 1
    with opened(journal, "w") as file:
        recorded = Journal(file.write)
        with writing():
            is_good = play(console(), journal=recorded)
        if recorded.error is not None:
            raise recorded.error
    return 0 if is_good else 1


@commands.command()
@keyed
@click.argument("packets", nargs=-1)
@click.option(
    "--file",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    help="Read packets from a file: hex or base64, one a line, or one binary packet.",
)
@click.option(
    "--json", "in_json", is_flag=True, help="Print one JSON object a packet, bytes as base64."
)
def decode(
    packets: tuple[str, ...], files: tuple[str, ...], in_json: bool, keys: Keys | None
) -> int:
    """Print the fields of packets, one packet a line.

    PACKETS are hex or base64; - reads them from standard input, one a line, or one binary packet.
    With a passphrase, encrypted packets are decrypted. Exits with 2 if an input is not a packet;
    the others are printed nevertheless.
    """
    if not packets and not files:
        raise click.UsageError("give packets, --file, or - for standard input")
    code, out = 0, console()
    cryptor = None if keys is None else keys.cryptor()
    for name, source in _sources(packets, files):
        try:
            if in_json:
                put_as_it_is(as_json(source, cryptor))
            else:
                line = describe(source, cryptor)
                with writing():
                    out.print(line, soft_wrap=True)
        except NotAPacket as error:
            say(f"{name}: {error}")
            code = 2
    return code


commands.add_command(completion)
commands.add_command(serve)
commands.add_command(call)
commands.add_command(bench)
commands.add_command(conform)
commands.add_command(replay)
commands.add_command(trace)


def _sources(packets: tuple[str, ...], files: tuple[str, ...]) -> Iterator[tuple[str, str | bytes]]:
    """All packets that were asked for, each with the name that an error message gives it."""
    for number, packet in enumerate(packets, 1):
        if packet == "-":
            yield from _packets_of("standard input", "-")
        else:
            yield f"packet {number}", packet
    for path in files:
        yield from _packets_of(path, path)


def _packets_of(name: str, path: str) -> Iterator[tuple[str, str | bytes]]:
    data = read_standard_input() if path == "-" else read_file(path)
    sources = packets_in(data)
    if not sources:
        yield name, b""
    for number, source in enumerate(sources, 1):
        yield (name if isinstance(source, bytes) else f"{name}, packet {number}"), source
