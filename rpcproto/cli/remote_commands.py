"""What can be typed to reach others: `serve`, `call` and `bench`."""

import asyncio
import json
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final

import click

from rpcproto import interrupts
from rpcproto.cli.bench import Load, Tally, report
from rpcproto.cli.bench import bench as make_calls
from rpcproto.cli.calling import call as make_call
from rpcproto.cli.calling import call_by_server
from rpcproto.cli.options import SECONDS, PayloadCommand
from rpcproto.cli.options import identity as identity_type
from rpcproto.cli.output import (
    OUTPUT_FAILED,
    OutputError,
    console,
    give_up_standard_output,
    is_terminal,
    put,
    put_as_it_is,
    read_standard_input,
    say,
)
from rpcproto.cli.reaching import reaching
from rpcproto.cli.running import run, stopped_by
from rpcproto.cli.sealing import Keys, keyed
from rpcproto.cli.serving import Service, load_methods
from rpcproto.cli.urls import Address, LiveKit, LiveKitApi, Nats, Stdio
from rpcproto.cli.watching import Watcher
from rpcproto.errors import RpcError
from rpcproto.participant import LEAVING_TIME
from rpcproto.transports.stream import MAX_CONNECTIONS, SEND_TIMEOUT

_PATIENCE: Final = LEAVING_TIME + 0.5
"""How long after a signal a service says which handlers it waits for, in seconds."""

_wait = click.option(
    "--wait",
    type=SECONDS,
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the other participant to join the room.",
)


@click.command()
@reaching("The identity to serve as.")
@keyed
@click.option(
    "--verbose/--quiet",
    "-v/-q",
    default=None,
    help="Print a line for each request, or none; the default is to print them on a terminal. "
    "--verbose also prints tracebacks and the log.",
)
@click.option(
    "--max-connections",
    type=click.IntRange(1),
    default=MAX_CONNECTIONS,
    show_default=True,
    metavar="N",
    help="Over tcp: and unix:, the number of peers that can be connected at the same time.",
)
@click.option(
    "--send-timeout",
    type=SECONDS,
    default=SEND_TIMEOUT,
    show_default=True,
    metavar="SECONDS",
    help="Over a stream, disconnect a peer that takes longer than this to read 64 KiB.",
)
@click.argument("functions", nargs=-1, metavar="[MODULE:FUNCTION]...")
def serve(
    address: Address,
    identity: str,
    verbose: bool | None,
    max_connections: int,
    send_timeout: float,
    keys: Keys | None,
    functions: tuple[str, ...],
) -> None:
    """Answer calls until Ctrl-C.

    Two methods are built in: echo returns the payload, and time returns the time in UTC. Each
    MODULE:FUNCTION adds a method with the name of the function, or with another name
    (name=module:function). A function takes an RpcInvocationData and returns a str or raises
    RpcError; it can be async. Modules in the current directory are found.

    \b
      rpcproto serve --transport tcp://127.0.0.1:7000 --identity bob
      rpcproto serve --transport unix:bob.sock --identity bob greetings:greet
      rpcproto serve --transport nats://127.0.0.1:4222/lobby --identity bob
      rpcproto serve --transport wss://example.livekit.cloud --token TOKEN

    With tcp: and unix:, the command listens and serves everyone who connects; with port 0 it
    chooses a free port. With nats:, wss: and livekit:, it joins the room. With stdio:, it serves
    the peer at the other end of its standard input and output until that peer leaves.

    With a passphrase, packets are encrypted from end to end, and unencrypted packets are ignored.
    Packets that cannot be decrypted are reported with their senders.

    All messages go to standard error. On Ctrl-C or SIGTERM the command rejects new requests with
    code 1400, waits for running functions, and exits with code 0. A second signal stops it at once.
    """
    methods = load_methods(functions)
    tells = is_terminal(sys.stderr) if verbose is None else verbose
    give_up_standard_output()
    if keys is not None:
        keys.cryptor()  # the extra may be missing
    service = Service(identity, methods, say, say if tells else None, keys)
    serving = service.serve(address, max_connections=max_connections, send_timeout=send_timeout)
    with suppress(click.exceptions.Exit):
        run(_until_stopped(service, serving), in_detail=bool(verbose))


@click.command(cls=PayloadCommand)
@reaching("The identity to call as.")
@keyed
@click.option(
    "--timeout",
    type=SECONDS,
    metavar="SECONDS",
    help="How long to wait for the answer.  [default: 10]",
)
@_wait
@click.option("--json", "in_json", is_flag=True, help="Print the outcome as one JSON object.")
@click.option(
    "--trace", is_flag=True, help="Draw packets, deadlines and outcome on standard error."
)
@click.option(
    "--agent", is_flag=True, help="Call the first agent of a LiveKit room; give no DESTINATION."
)
@click.option(
    "--server",
    is_flag=True,
    help="Let the LiveKit server make the call, without joining the room; needs its key.",
)
@click.argument("destination", type=identity_type, required=False, metavar="[DESTINATION]")
@click.argument("method", required=False, metavar="METHOD")
@click.argument("payload", required=False, metavar="[PAYLOAD|-]")
def call(
    address: Address | LiveKitApi,
    identity: str,
    timeout: float | None,
    wait: float,
    in_json: bool,
    trace: bool,
    keys: Keys | None,
    agent: bool,
    server: bool,
    destination: str | None,
    method: str | None,
    payload: str | None,
) -> int:
    """Call METHOD of the participant DESTINATION and print the answer.

    Without PAYLOAD, the payload is empty; - reads it from standard input as UTF-8. If a payload
    begins with a dash, put -- before DESTINATION. The answer is printed with a newline after it.
    Errors go to standard error.

    \b
      rpcproto call --transport tcp://127.0.0.1:7000 --identity alice bob echo Hi
      rpcproto call --transport unix:bob.sock --identity alice bob greet --trace
      rpcproto call --transport tcp://[::1]:7000 --identity alice -- bob half -42
      date | rpcproto call --transport nats://127.0.0.1:4222/lobby \\
          --identity alice bob echo -
      rpcproto call --transport wss://example.livekit.cloud --token TOKEN \\
          agent my_method '{}'
      rpcproto call --transport wss://example.livekit.cloud --token TOKEN \\
          --agent my_method '{}'
      rpcproto call --transport livekit://example.livekit.cloud/lobby \\
          --api-key KEY --api-secret SECRET --server bob my_method '{}'

    --json prints {"payload": ...} or {"error": {"code": ..., "message": ..., "data": ...}}. With
    stdio:, standard output carries packets, so the answer goes to standard error.

    Exit codes: 0 for an answer, 1 if the call fails, 2 for wrong usage, 3 if there is no
    connection, 4 if the answer cannot be written.
    """
    who, method, payload = _whom_and_what(agent, destination, method, payload)
    if payload == "-":
        if isinstance(address, Stdio):
            raise click.UsageError(
                "with stdio:, standard input carries packets and cannot be the payload"
            )
        payload = _read_payload()
    watcher = Watcher(None if keys is None else keys.cryptor()) if trace else None
    if isinstance(address, LiveKitApi):
        if who is None or trace or keys is not None:
            raise click.UsageError(
                "--server can't be combined with --agent, --trace or a passphrase"
            )
        answering = call_by_server(address, who, method, payload, timeout)
    elif who is None and not isinstance(address, LiveKit):
        raise click.UsageError("--agent is for LiveKit rooms")
    else:
        answering = make_call(
            address,
            identity,
            who,
            method,
            payload,
            timeout=timeout,
            wait=wait,
            keys=keys,
            watcher=watcher,
        )
    is_drawn = True
    try:
        outcome: str | RpcError = run(answering)
    except RpcError as error:
        outcome = error
    finally:
        if watcher is not None:
            is_drawn = _draw_on_standard_error(watcher)
    if isinstance(outcome, RpcError):
        _print_error(outcome, in_json)
        return 1
    put_as_it_is(json.dumps({"payload": outcome}) if in_json else outcome)
    return 0 if is_drawn else OUTPUT_FAILED


def _whom_and_what(
    agent: bool, destination: str | None, method: str | None, payload: str | None
) -> tuple[str | None, str, str]:
    """Destination, method and payload; with --agent the first word that was typed is the method."""
    if agent:
        if payload is not None:
            raise click.UsageError("--agent: give no DESTINATION, only METHOD and PAYLOAD")
        destination, method, payload = None, destination, method
    elif destination is None:
        raise click.UsageError("Missing argument 'DESTINATION'.")
    if method is None:
        raise click.UsageError("Missing argument 'METHOD'.")
    return destination, method, payload or ""


@click.command()
@reaching("The identity to call as.", "bench")
@keyed
@click.option(
    "--destination",
    type=identity_type,
    metavar="NAME",
    help="The participant to call. Required in a room; over a stream the default is the peer.",
)
@click.option("--method", default="echo", show_default=True, help="The method to call.")
@click.option(
    "--calls",
    type=click.IntRange(1),
    default=1_000,
    show_default=True,
    metavar="N",
    help="The number of calls.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 10_000),
    default=1,
    show_default=True,
    metavar="N",
    help="The number of calls at the same time.",
)
@click.option(
    "--size",
    type=click.IntRange(0),
    default=100,
    show_default=True,
    metavar="BYTES",
    help="The size of each payload.",
)
@_wait
def bench(
    address: Address,
    identity: str,
    destination: str | None,
    method: str,
    calls: int,
    concurrency: int,
    size: int,
    wait: float,
    keys: Keys | None,
) -> int:
    """Measure the rate and the latency of calls.

    The other participant can be any one with the method, such as rpcproto serve --quiet.

    \b
      rpcproto bench --transport tcp://127.0.0.1:7000
      rpcproto bench --transport nats://127.0.0.1:4222/lobby --destination bob
      rpcproto bench --transport unix:bob.sock --calls 10000 --concurrency 100

    The payloads are random letters. The first call is not counted. On a terminal, a progress bar
    is shown.

    Exit codes: 1 if a call fails, 2 for wrong usage, 3 if there is no connection or it is lost,
    4 if the figures cannot be written.
    """
    if isinstance(address, Nats | LiveKit) and destination is None:
        raise click.UsageError("in a room, --destination NAME is required")
    load, tally = Load(method, calls, concurrency, size), Tally()
    progress = console(stderr=True) if is_terminal(sys.stderr) else None
    try:
        run(
            make_calls(
                address, identity, destination, load, tally, wait=wait, keys=keys, progress=progress
            )
        )
    except RpcError as error:
        _print_error(error)
        return 1
    finally:  # also where the connection is lost, or Ctrl-C ends it
        for line in report(load, tally):
            put(line)
    return 1 if tally.errors else 0


async def _until_stopped(service: Service, serving: Coroutine[Any, Any, None]) -> None:
    """Serve until a signal, and then until nothing is under way; a second signal ends the process
    at once."""
    us, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert us is not None
    stopping: list[asyncio.Task[None]] = []

    def stop(number: int) -> None:
        if number == signal.SIGINT:
            interrupts.new_line()
        loop.call_soon_threadsafe(lambda: stopping.append(loop.create_task(drain())))

    async def drain() -> None:
        await service.drain(lambda: say_what_we_wait_for("answers that have not been sent"))
        us.cancel()
        loop.call_later(_PATIENCE, say_what_we_wait_for, "the connections to close")

    def say_what_we_wait_for(otherwise: str) -> None:
        methods = ", ".join(method for method, count in service.running.items() if count)
        what = f"the handlers of {methods}" if methods else otherwise
        say(f"waiting for {what}; interrupt again to stop at once")

    with stopped_by(stop, signal.SIGTERM, signal.SIGINT):
        await serving


def _draw_on_standard_error(watcher: Watcher) -> bool:
    """Whether that could be done; if not, nobody can be told."""
    try:
        watcher.draw(console(stderr=True))
    except (OSError, OutputError):
        return False
    return sys.stderr is not None


def _read_payload() -> str:
    try:
        return read_standard_input().decode()
    except UnicodeDecodeError as error:
        raise click.UsageError(f"standard input is not UTF-8: {error}") from None


def _print_error(error: RpcError, in_json: bool = False) -> None:
    if in_json:
        outcome = {"code": error.code, "message": error.message, "data": error.data}
        put_as_it_is(json.dumps({"error": outcome}))
    else:
        say(str(error))
        for note in getattr(error, "__notes__", ()):
            say(note)
