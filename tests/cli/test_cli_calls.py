"""`rpcproto serve`, `call` and `bench`, as they are typed: real processes, in real time."""

import asyncio
import io
import json
import os
import pty
import re
import shlex
import signal
import socket
import stat
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Self, TypeAlias

import click
import pytest
from nats_server import NatsServer, running
from paths import ROOT
from rich.console import Console

from rpcproto import OutgoingPacket, RpcError, cli, wire
from rpcproto.asyncio import RpcParticipant
from rpcproto.cli.bench import Load, Tally, report
from rpcproto.cli.commands import commands
from rpcproto.cli.sealing import Unreadable
from rpcproto.cli.watching import WatchedEnd, Watcher
from rpcproto.testing import virtual_time_run
from rpcproto.transports import PacketsNotSent, Transport, TransportEvent
from rpcproto.transports.framing import Hello, frame
from rpcproto.transports.memory import MemoryRoom

DOCS = (ROOT / "docs" / "cli.md").read_text("utf-8")
SCRIPTS = sysconfig.get_path("scripts")
RPCPROTO = [sys.executable, "-W", "error", "-m", "rpcproto"]
GUARD = 60.0
"""Seconds after which something has failed. Nothing takes as long unless something is wrong."""

GREETINGS = re.search(r"This is `greetings.py`:\n\n```python\n(.*?)```", DOCS, re.DOTALL)

METHODS = """
import asyncio
import os
import sys

from rpcproto import RpcError


def brew(data):
    raise RpcError(2001, "This pot brews no " + data.payload, "tea\\n\\x1b[31monly")


def crash(data):
    raise ValueError("the password is swordfish")


async def number(data):
    return 1


async def sleep(data):
    print("asleep", file=sys.stderr, flush=True)
    await asyncio.sleep(3600)
    return "Good morning"


def parse(data):
    sys.exit(2)  # as argparse does


class Silent(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def silent(data):
    raise Silent(data.payload)


def shout(data):
    raise ValueError(data.payload)


async def stay(data):
    print("here to stay", file=sys.stderr, flush=True)
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass


async def wait(data):
    print("waits", file=sys.stderr, flush=True)
    while not os.path.exists(data.payload):
        await asyncio.sleep(0.01)
    return "done waiting"


def die(data):
    os._exit(9)


nothing = None
"""

Outcome: TypeAlias = tuple[int, str, str]
"""Exit code, standard output and standard error."""


def environment(**variables: str) -> dict[str, str]:
    """What a command sees, whoever runs the tests, with `rpcproto` on its path."""
    unwanted = ("COLUMNS", "PYTHONUNBUFFERED", "RPCPROTO_TRANSPORT", "FORCE_COLOR")
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    path = f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "NO_COLOR": "1", "PYTHONUTF8": "1", "PATH": path, **variables}


class Process(AbstractContextManager["Process"]):
    """A running command. Nothing of it is left afterwards, whatever happens."""

    def __init__(self, command: list[str], cwd: Path | None = None, **variables: str) -> None:
        self.popen = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            cwd=cwd,
            env=environment(**variables),
            start_new_session=True,
        )

    def told(self) -> str:
        """The next line on standard error."""
        guard = threading.Timer(GUARD, self.popen.kill)
        guard.start()
        try:
            assert self.popen.stderr is not None
            return self.popen.stderr.readline().removesuffix("\n")
        finally:
            guard.cancel()

    def stop(self, number: signal.Signals = signal.SIGINT) -> Outcome:
        self.popen.send_signal(number)
        return self.end()

    def end(self) -> Outcome:
        """Wait for it to end; the rest of what it has said."""
        out, err = self.popen.communicate(timeout=GUARD)
        return self.popen.returncode, out, err

    def __exit__(self, *_: object) -> None:
        if self.popen.returncode is None:
            os.killpg(self.popen.pid, signal.SIGKILL)
            self.popen.communicate()


class Serving(Process):
    """`rpcproto serve`, which is up."""

    def __init__(self, *arguments: str, cwd: Path | None = None) -> None:
        super().__init__([*RPCPROTO, "serve", "--identity", "bob", *arguments], cwd)
        self.announcement = self.told()
        self.url = self.announcement.rpartition(" ")[2]

    def __enter__(self) -> Self:
        return self


def run(*arguments: str, stdin: bytes = b"", **variables: str) -> Outcome:
    """Any command, until it ends."""
    done = subprocess.run(
        [*RPCPROTO, *arguments],
        input=stdin,
        capture_output=True,
        check=False,
        timeout=GUARD,
        env=environment(**variables),
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def call(url: str, *arguments: str, stdin: bytes = b"", **variables: str) -> Outcome:
    command = ("call", "--transport", url, "--identity", "alice", *arguments)
    return run(*command, stdin=stdin, **variables)


@pytest.fixture(scope="module", autouse=True)
def _ctrl_c_works() -> Iterator[None]:
    """In the processes, even if the tests run in the background of a shell."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the modules of handlers."""
    directory = tmp_path_factory.mktemp("modules")
    assert GREETINGS is not None
    (directory / "greetings.py").write_text(GREETINGS[1], "utf-8")
    (directory / "methods.py").write_text(METHODS, "utf-8")
    (directory / "broken.py").write_text("1 / 0", "utf-8")
    return directory


@pytest.fixture(scope="module")
def bob(modules: Path) -> Iterator[str]:
    """The URL of a bob who is there for all tests that only call him."""
    functions = ("greetings:greet", "methods:brew", "methods:crash", "methods:sleep")
    with Serving("--transport", "tcp://127.0.0.1:0", *functions, cwd=modules) as service:
        yield service.url
        # Without --verbose and a terminal, there is nothing of invocations in it.
        code, out, err = service.stop()
        assert (code, out) == (0, "")
        assert "calls" not in err
        assert "Traceback" not in err


@pytest.fixture(scope="module")
def nats() -> Iterator[NatsServer]:
    with running() as server:
        yield server


Here: TypeAlias = Callable[..., Outcome]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    """Runs a command in this process, where it needs none of its own."""
    monkeypatch.delenv("RPCPROTO_TRANSPORT", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)

    def here(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["rpcproto", *arguments])
        code = cli.main()
        return code, *capsys.readouterr()

    return here


@pytest.fixture
def call_here(here: Here) -> Here:
    """The same of `call`, from its URL on."""

    def call_here(url: str, *arguments: str) -> Outcome:
        return here("call", "--transport", url, "--identity", "alice", *arguments)

    return call_here


# serve in one terminal, call in another, as the documents have it


def blocks(heading: str, page: str = DOCS) -> list[str]:
    """The shell blocks below a heading of the page, up to the next."""
    match = re.search(rf"^##+ {heading}\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL)
    assert match is not None, heading
    return re.findall(r"```(?:ba)?sh\n(.*?)```", match[1], re.DOTALL)


def typed(block: str, cwd: Path) -> Process:
    """What a shell runs last it becomes itself, so a signal reaches it."""
    return Process(["bash", "-c", block.rstrip()], cwd)


@pytest.mark.parametrize("heading", ["TCP", "Unix sockets", "NATS"])
def test_serve_in_one_terminal_and_call_in_another(
    heading: str, tmp_path: Path, nats: NatsServer
) -> None:
    serve, call = (
        block.replace("/tmp/", f"{tmp_path}/").replace("nats://127.0.0.1:4222", nats.url)
        for block in blocks(heading)
    )
    with typed(serve.replace(":7000", ":0"), tmp_path) as one:
        url = one.told().removeprefix("rpcproto: bob serves echo, time over ")
        assert "://" in url
        with typed(re.sub("tcp://[^ ]*", url, call), tmp_path) as other:
            assert other.end() == (0, "Hi, Bob!\n", "")
        assert one.stop() == (0, "", "\n")


def test_a_coprocess_talks_over_standard_input_and_output(tmp_path: Path) -> None:
    block, *_ = blocks("Standard input and output")
    with typed(block + "wait", tmp_path) as terminal:
        code, out, err = terminal.end()
    assert (code, out) == (0, "")
    # The two write there when they like.
    assert sorted(err.splitlines()) == [
        "Hi, Bob!",
        "rpcproto: bob serves echo, time over standard input and output",
    ]


def test_two_named_pipes_are_as_good(tmp_path: Path) -> None:
    _, serve, call = (
        block.replace("/tmp/", f"{tmp_path}/") for block in blocks("Standard input and output")
    )
    announcement = "rpcproto: bob serves echo, time over standard input and output\n"
    with typed(serve, tmp_path) as one:
        latest = time.monotonic() + GUARD
        while not all((tmp_path / name).is_fifo() for name in ("to-bob", "from-bob")):
            assert time.monotonic() < latest
        with typed(call, tmp_path) as other:
            assert other.end() == (0, "", "Hi, Bob!\n")
        assert one.end() == (0, "", announcement)


def test_what_the_documents_say_of_serve_and_call_is_so(modules: Path) -> None:
    [serve] = blocks("serve")
    [calls] = blocks("call")
    with typed(serve.replace(":7000", ":0").replace("serve", "serve -v"), modules) as one:
        announcement = one.told()
        url = announcement.rpartition(" ")[2]
        with typed(calls.replace("tcp://127.0.0.1:7000", url), modules) as other:
            code, out, err = other.end()
        served = one.stop()
    assert announcement == f"rpcproto: bob serves echo, time, greet, half over {url}"
    *lines, date = out.splitlines()
    assert (code, lines[:2], err) == (0, ["Hello, alice!", "21.0"], "")
    assert lines[2] == '{"error": {"code": 2001, "message": "That is no number", "data": "two"}}'
    assert lines[2] in DOCS
    assert date == ""  # the newline of `date`, and our own
    code, _, err = served
    assert code == 0
    shown = [re.sub(r", \d+\.\d ms$", "", line) for line in err.splitlines()]
    assert shown[:3] == [
        "rpcproto: alice calls greet (0 bytes): 13 bytes",
        "rpcproto: alice calls half (2 bytes): 4 bytes",
        "rpcproto: alice calls half (3 bytes): 2001 That is no number (two)",
    ]
    assert all(line in DOCS for line in shown[1:3])


PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_the_documents_show_is_one(page: Path) -> None:
    shown = re.findall(r"```(?:ba)?sh\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    lines = re.findall(
        r"\brpcproto ((?:serve|call|bench|demo|decode|replay|trace)\b[^|<>#\n]*)", "".join(shown)
    )
    assert lines or page.name != "cli.md"
    for line in lines:
        name, *arguments = shlex.split(line)
        command = commands.commands[name]
        assert isinstance(command, click.Command)
        command.make_context(name, arguments)


# what is called, and what comes of it


@pytest.mark.parametrize("payload", ["", "Grüße, 世界 ✓", "two\nlines\n"])
def test_the_answer_is_printed_with_a_newline_after_it(
    bob: str, payload: str, call_here: Here
) -> None:
    assert call_here(bob, "bob", "echo", payload) == (0, f"{payload}\n", "")


def test_a_payload_that_is_not_given_is_empty(bob: str, call_here: Here) -> None:
    assert call_here(bob, "bob", "echo") == (0, "\n", "")


def test_time_is_the_time_in_utc(bob: str, call_here: Here) -> None:
    code, out, _ = call_here(bob, "bob", "time")
    assert code == 0
    told = datetime.fromisoformat(out.strip())
    assert told.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - told) < timedelta(seconds=GUARD)


def test_a_megabyte_goes_through_pipes_unchanged(bob: str) -> None:
    payload = "".join(f"{number:06} déjà vu ✓\n" for number in range(50_000))
    code, out, err = call(bob, "bob", "echo", "-", stdin=payload.encode())
    assert (code, err) == (0, "")
    assert out == payload + "\n"


def test_a_payload_that_is_not_utf8_is_refused(
    bob: str, call_here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9")))
    code, out, err = call_here(bob, "bob", "echo", "-")
    assert (code, out) == (2, "")
    assert "standard input is not UTF-8" in err


def test_the_output_for_others_is_utf8_whatever_the_terminal_reads(bob: str) -> None:
    legacy = {"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    assert call(bob, "bob", "echo", "-", stdin="世界".encode(), **legacy) == (0, "世界\n", "")


def test_the_url_may_come_from_the_environment(
    bob: str, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RPCPROTO_TRANSPORT", bob)
    assert here("call", "--identity", "alice", "bob", "greet") == (0, "Hello, alice!\n", "")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("bob", "brew", "coffee"), r"2001 This pot brews no coffee (tea\n\x1b[31monly)"),
        (("bob", "crash"), "1500 Application error in method handler"),
        (("bob", "dance"), "1400 Method not supported at destination"),
        (("--timeout", "0.1", "bob", "sleep"), "1502 Response timeout"),
        (("bob", "echo", "x" * 100, "--timeout", "1e-9"), "1502 Response timeout"),
    ],
)
def test_an_error_goes_to_standard_error(
    bob: str, arguments: tuple[str, ...], line: str, call_here: Here
) -> None:
    assert call_here(bob, *arguments) == (1, "", f"rpcproto: {line}\n")


def test_who_is_not_there_is_told_with_who_is(bob: str, call_here: Here) -> None:
    for name in ("carol", "alice"):
        assert call_here(bob, name, "echo") == (
            1,
            "",
            "rpcproto: 1401 Recipient not found\nrpcproto: other participants: bob\n",
        )


def test_an_outcome_is_one_json_object(bob: str, call_here: Here) -> None:
    code, out, err = call_here(bob, "--json", "bob", "echo", "Grüße\n")
    assert (code, json.loads(out), err) == (0, {"payload": "Grüße\n"}, "")
    assert out.isascii()
    code, out, err = call_here(bob, "--json", "bob", "brew", "coffee")
    error = {"code": 2001, "message": "This pot brews no coffee", "data": "tea\n\x1b[31monly"}
    assert (code, json.loads(out), err) == (1, {"error": error}, "")


# the trace


def drawn(err: str) -> list[str]:
    """A diagram without its times and widths, and without the lines between."""
    lines = [re.sub(r"^ *\d+\.\d{3} s", "", line).strip() for line in err.splitlines()]
    return [re.sub(r"[ │]+", " ", re.sub("─+", "-", line)).strip() for line in lines]


def test_the_trace_shows_the_packets_and_the_outcome(bob: str, call_here: Here) -> None:
    code, out, err = call_here(bob, "--trace", "bob", "echo", "Hi")
    assert (code, out) == (0, "Hi\n")
    assert [re.sub(r"\d{3} bytes", "n bytes", line) for line in drawn(err)] == [
        "alice bob",
        "● is here",
        "● calls bob: echo 'Hi'",
        "├- stream header, n bytes -▶",
        "inline, 2 bytes",
        "◀- ack, 52 bytes -┤",
        "◀- stream header, n bytes -┤",
        "inline, 2 bytes",
        "● succeeded: 'Hi'",
    ]
    assert "\x1b" not in err


def test_the_trace_shows_deadlines_and_errors(bob: str, call_here: Here) -> None:
    code, out, err = call_here(bob, "--trace", "--timeout", "0.1", "bob", "sleep")
    assert (code, out) == (1, "")
    *_, deadline, failed, line = drawn(err)
    assert (deadline, failed) == ("● a deadline passes", "● failed: 1502 Response timeout")
    assert line == "rpcproto: 1502 Response timeout"
    passed = re.search(r"^ +(\d+\.\d{3}) s  ● failed", err, re.MULTILINE)
    assert passed is not None
    assert float(passed[1]) >= 0.1
    _, _, err = call_here(bob, "--trace", "bob", "brew", "coffee")
    assert "(tea ?[31monly)" in err  # no order reaches the terminal


def test_the_trace_shows_that_the_connection_is_lost(
    modules: Path, tmp_path: Path, call_here: Here
) -> None:
    url = f"unix://{tmp_path}/socket"
    with Serving("--transport", url, "methods:die", cwd=modules) as service:
        code, out, err = call_here(url, "--trace", "bob", "die")
        assert service.end() == (9, "", "")
    assert (code, out) == (1, "")
    *_, lost, failed, line = drawn(err)
    assert lost == "● the connection is lost"
    assert failed == "● failed: 1503 Recipient disconnected"
    assert line == "rpcproto: 1503 Recipient disconnected"
    # What was left behind is nobody's.
    code, out, err = call_here(url, "--trace", "bob", "die")
    assert (code, out) == (3, "")
    assert err == f"rpcproto: cannot connect to {url}: connection refused\n"
    with Serving("--transport", url):
        assert call_here(url, "bob", "echo", "Hi") == (0, "Hi\n", "")


class Narrow:
    """A transport that sends no packet at all."""

    departure_grace = 0.0

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @property
    def identity(self) -> str:
        return self._transport.identity

    async def send(self, take: Callable[[], OutgoingPacket | None]) -> None:
        packet = take()
        if packet is not None:
            raise PacketsNotSent([packet], "too large")

    async def receive(self) -> Sequence[TransportEvent]:
        return await self._transport.receive()

    async def aclose(self) -> None:
        await self._transport.aclose()


@pytest.mark.parametrize("scene", ["they leave", "it cannot be sent"])
def test_the_trace_shows_why_nothing_comes(scene: str) -> None:
    watcher = Watcher()

    async def main() -> None:
        room = MemoryRoom()
        transport: Transport = room.join("alice", client_protocol=0)
        if scene == "it cannot be sent":
            transport = Narrow(transport)
        bob, _ = room.join("bob", client_protocol=0), room.join("carol")
        asyncio.get_running_loop().call_later(2.5, room.leave, bob)
        watcher.begin("alice", "bob")
        factory = partial(WatchedEnd, watcher, Unreadable(print))
        async with RpcParticipant(transport, engine_factory=factory) as alice:
            with pytest.raises(RpcError):
                await alice.perform_rpc(destination_identity="bob", method="m", payload="")

    virtual_time_run(main())
    console = Console(file=io.StringIO(), width=80)
    watcher.draw(console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    heads, here, called, request, *rest = drawn(text)
    assert (heads, here) == ("alice bob", "● is here")  # and carol has no part in it
    assert called == "● calls bob: m ''"
    assert request.startswith("├- request")
    assert (
        rest
        == {
            "they leave": ["● leaves", "● failed: 1503 Recipient disconnected"],
            "it cannot be sent": ["● could not send it", "● failed: 1505 Failed to send"],
        }[scene]
    )
    assert ("   2.500 s" in text) == (scene == "they leave")


# serving


def test_a_bug_in_a_function_is_told_and_the_next_call_is_answered(
    modules: Path, call_here: Here
) -> None:
    functions = ("methods:crash", "echo=methods:number")
    with Serving("--transport", "tcp://localhost:0", *functions, cwd=modules) as service:
        assert service.announcement.startswith(
            "rpcproto: bob serves echo, time, crash over tcp://localhost:"
        )
        for method in ("crash", "echo"):
            code, out, err = call_here(service.url, "bob", method)
            assert (code, out) == (1, "")
            assert err == "rpcproto: 1500 Application error in method handler\n"
        code, _, err = service.stop()
    failed = "rpcproto: bob: the handler of %r failed"
    assert (code, err.splitlines()) == (
        0,
        [
            f"{failed % 'crash'}: ValueError: the password is swordfish",
            f"{failed % 'echo'}: TypeError: a handler must return a str or None, not int",
            "",
        ],
    )


def test_in_detail_serve_tells_of_each_invocation_and_where_a_bug_is(
    modules: Path, call_here: Here
) -> None:
    functions = ("methods:crash", "methods:sleep")
    arguments = ("--transport", "tcp://127.0.0.1:0", "--verbose", *functions)
    with Serving(*arguments, cwd=modules) as service:
        call_here(service.url, "bob", "crash")
        call_here(service.url, "bob", "sleep", "--timeout", "0.1")
        code, _, err = service.stop(signal.SIGTERM)
        assert code == 0
    assert re.search(
        r"^rpcproto: alice calls crash \(0 bytes\): 1500 .*, \d+\.\d ms$", err, re.MULTILINE
    )
    assert re.search(r'^  File ".*methods.py", line 14, in crash$', err, re.MULTILINE)
    assert re.search(
        r"^rpcproto: alice calls sleep \(0 bytes\): abandoned, \d+\.\d ms$", err, re.MULTILINE
    )


@pytest.mark.parametrize("method", ["parse", "silent", "crash"])
def test_whatever_a_function_raises_the_service_goes_on(
    method: str, modules: Path, call_here: Here
) -> None:
    arguments = ("--transport", "tcp://127.0.0.1:0", f"methods:{method}")
    with Serving(*arguments, cwd=modules) as service:
        code, _, err = call_here(service.url, "bob", method)
        assert (code, err) == (1, "rpcproto: 1500 Application error in method handler\n")
        assert call_here(service.url, "bob", "echo", "Hi") == (0, "Hi\n", "")
        code, _, err = service.stop(signal.SIGTERM)
    assert code == 0
    assert err.startswith(f"rpcproto: bob: the handler of '{method}' failed: ")


def assert_it_answers(url: str, call_here: Here) -> None:
    """A service with the methods `crash` and `silent` answers, however often they fail."""
    for _ in range(2):
        assert call_here(url, "bob", "echo", "Hi") == (0, "Hi\n", "")
        for method in ("crash", "silent"):
            code, _, err = call_here(url, "bob", method)
            assert (code, err) == (1, "rpcproto: 1500 Application error in method handler\n")


@pytest.mark.parametrize("told", ["--quiet", "--verbose"])
def test_a_service_lives_on_when_nobody_reads_its_standard_error_any_more(
    told: str, modules: Path, call_here: Here
) -> None:
    methods = ("methods:crash", "methods:silent")
    with Serving("--transport", "tcp://127.0.0.1:0", told, *methods, cwd=modules) as service:
        assert service.popen.stderr is not None
        service.popen.stderr.close()
        service.popen.stderr = None
        assert_it_answers(service.url, call_here)
        assert service.popen.poll() is None


def listens(path: Path) -> bool:
    """Whether a connection to a Unix socket is taken; it is there before it listens."""
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(path)) == 0


@pytest.mark.parametrize("told", ["--quiet", "--verbose"])
@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_a_service_does_without_a_standard_error_from_the_start(
    told: str, redirection: str, modules: Path, tmp_path: Path, call_here: Here
) -> None:
    url = f"unix://{tmp_path}/socket"
    serve = ["serve", told, "--transport", url, "--identity", "bob"]
    command = shlex.join([*RPCPROTO, *serve, "methods:crash", "methods:silent"])
    with Process(["sh", "-c", f"exec {command} {redirection}"], modules) as service:
        while not listens(tmp_path / "socket"):
            assert service.popen.poll() is None
        assert_it_answers(url, call_here)
        assert service.popen.poll() is None


def test_requests_for_unknown_methods_are_shown_too(call_here: Here) -> None:
    with Serving("--transport", "tcp://127.0.0.1:0", "--verbose") as service:
        code, _, err = call_here(service.url, "bob", "dance", "slowly")
        assert (code, err) == (1, "rpcproto: 1400 Method not supported at destination\n")
        assert service.told().startswith(
            "rpcproto: alice calls dance (6 bytes): 1400 Method not supported at destination, "
        )


def test_orders_to_a_terminal_in_a_traceback_are_printed_as_text(
    modules: Path, call_here: Here
) -> None:
    arguments = ("--transport", "tcp://127.0.0.1:0", "--verbose", "methods:shout")
    with Serving(*arguments, cwd=modules) as service:
        assert call_here(service.url, "bob", "shout", "\x1b]0;mine\x07\r")[0] == 1
        code, _, err = service.stop(signal.SIGTERM)
    assert code == 0
    assert "ValueError: \\x1b]0;mine\\x07\\r" in err
    assert not re.search("[\x1b\x07\r]", err)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_service_whose_handler_does_not_end(
    number: signal.Signals, modules: Path
) -> None:
    arguments = ("--transport", "tcp://127.0.0.1:0", "methods:stay")
    with Serving(*arguments, cwd=modules) as service:
        command = ["call", "--transport", service.url, "--identity", "alice", "bob", "stay"]
        with Process([*RPCPROTO, *command]) as calling:
            assert service.told() == "here to stay"
            service.popen.send_signal(number)
            if number == signal.SIGINT:
                assert service.told() == ""
            assert service.told() == (
                "rpcproto: waiting for the handlers of stay; interrupt again to stop at once"
            )
            code, _, err = service.stop(number)
            assert calling.end()[0] == 1
    assert (code, err.strip()) == (128 + number, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_after_a_signal_what_runs_is_answered_and_new_requests_are_not(
    number: signal.Signals, modules: Path, call_here: Here, tmp_path: Path
) -> None:
    arguments = ("--transport", "tcp://127.0.0.1:0", "methods:wait")
    answer = tmp_path / "answer"
    with Serving(*arguments, cwd=modules) as service:
        command = ["call", "--transport", service.url, "--identity", "alice", "bob", "wait"]
        with Process([*RPCPROTO, *command, str(answer)]) as calling:
            assert service.told() == "waits"
            service.popen.send_signal(number)
            if number == signal.SIGINT:
                assert service.told() == ""
            assert service.told() == (
                "rpcproto: waiting for the handlers of wait; interrupt again to stop at once"
            )
            code, _, err = call_here(service.url, "bob", "echo")
            assert (code, err) == (1, "rpcproto: 1400 Method not supported at destination\n")
            answer.touch()
            assert calling.end() == (0, "done waiting\n", "")
        assert service.end() == (0, "", "")


def test_a_signal_ends_a_service_without_work_at_once_and_without_a_word(call_here: Here) -> None:
    with Serving("--transport", "tcp://127.0.0.1:0") as service:
        assert call_here(service.url, "bob", "echo", "Hi") == (0, "Hi\n", "")
        assert service.stop(signal.SIGTERM) == (0, "", "")


def test_no_more_than_so_many_are_served_at_the_same_time(call_here: Here) -> None:
    arguments = ("--transport", "tcp://127.0.0.1:0", "--max-connections", "1")
    with Serving(*arguments) as service:
        host, _, port = service.url.removeprefix("tcp://").partition(":")
        with socket.create_connection((host, int(port)), timeout=GUARD) as first:
            assert first.recv(1)  # its hello: the one place is taken
            code, _, err = call_here(service.url, "bob", "echo")
            assert code == 3
            assert err.startswith(f"rpcproto: cannot connect to {service.url}: ")
        # "refused" is all that is said, and once.
        assert "1 connections are open (max_connections)" in service.told()


def test_a_peer_that_does_not_read_is_disconnected_and_others_are_served(call_here: Here) -> None:
    arguments = ("--transport", "tcp://127.0.0.1:0", "--quiet", "--send-timeout", "0.2")
    with Serving(*arguments) as service, socket.socket() as stranger:
        host, _, port = service.url.removeprefix("tcp://").partition(":")
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        stranger.connect((host, int(port)))
        stranger.sendall(frame(Hello("mallory").write()))
        for number in range(600):  # 9 MB of answers, more than any system buffers
            asking = wire.Request(f"r{number}", "echo", "x" * 15_000, 8_000, 1)
            with suppress(ConnectionError):
                stranger.sendall(frame(wire.encode(asking, "mallory", "bob")))
        # As many bytes as one write had.
        told = r"the peer did not read [\d,]+ bytes within 0\.2 seconds \(send_timeout\)$"
        assert re.search(told, service.told())
        assert call_here(service.url, "bob", "echo", "Hi") == (0, "Hi\n", "")


def test_a_peer_that_is_none_is_refused_and_the_others_are_served(call_here: Here) -> None:
    with Serving("--transport", "tcp://127.0.0.1:0") as service:
        host, _, port = service.url.removeprefix("tcp://").partition(":")
        with socket.create_connection((host, int(port)), timeout=GUARD) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert re.match("rpcproto: bob: refused .*127.0.0.1.*: a frame of", service.told())
        code, out, err = call_here(service.url, "--identity", "bob", "bob", "echo")
        assert (code, out) == (3, "")
        assert "the peer has the same identity, 'bob'" in err
        assert call_here(service.url, "bob", "echo", "Hi") == (0, "Hi\n", "")


def test_an_address_that_is_taken_is_told(bob: str, here: Here, tmp_path: Path) -> None:
    assert here("serve", "--transport", bob, "--identity", "bob") == (
        3,
        "",
        f"rpcproto: cannot listen on {bob}: Address already in use\n",
    )
    code, _, err = here("serve", "--transport", f"unix://{tmp_path}/no/socket", "--identity", "bob")
    assert (code, err.rpartition(": ")[2]) == (3, "No such file or directory\n")


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        ("greet", "'greet' should look like module:function"),
        (":greet", "should look like module:function"),
        ("greetings:", "should look like module:function"),
        ("hi=greetings", "should look like module:function"),
        ("=greetings:greet", "must not be empty"),
        (f"{'x' * 65}=greetings:greet", "65 bytes of UTF-8, more than 64"),
        ("no_such_module:wave", "cannot import 'no_such_module': ModuleNotFoundError"),
        ("broken:wave", "cannot import 'broken': ZeroDivisionError: division by zero"),
        ("greetings:wave", "'wave' is no function of 'greetings'"),
        ("methods:nothing", "'nothing' is no function of 'methods'"),
        ("methods:__doc__", "no function of 'methods'"),
        ("methods:__name__", "'__name__' is not a function of 'methods'"),
        ("greet=methods:brew", "there is a method 'greet' already"),
    ],
)
def test_a_function_that_cannot_be_is_wrong_usage(
    function: str, complaint: str, modules: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(modules)
    monkeypatch.setattr(sys, "path", sys.path[:])
    # Nothing is opened: there could be no such socket.
    transport = ("--transport", "unix:no/such/directory", "--identity", "bob")
    code, out, err = here("serve", *transport, "greetings:greet", function)
    assert (code, out) == (2, "")
    assert complaint in err
    assert "Traceback" not in err


# no connection, and wrong usage


def test_nobody_there_is_told(call_here: Here, tmp_path: Path, nats: NatsServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    for url, reason in [
        (f"tcp://127.0.0.1:{port}", "connection refused"),
        (f"tcp://localhost:{port}", "connection refused"),
        (f"unix://{tmp_path}/socket", "No such file or directory"),
        (f"unix://{tmp_path}/{'x' * 200}", "AF_UNIX path too long"),
        ("tcp://a..b:1", ""),
    ]:
        code, out, err = call_here(url, "bob", "echo")
        assert (code, out) == (3, "")
        assert err.startswith(f"rpcproto: cannot connect to {url}: {reason}")
        assert err.count("\n") == 1
    url = f"nats://secret@127.0.0.1:{port}/lobby"
    code, out, err = call_here(url, "bob", "echo")
    assert (code, out) == (3, "")
    assert err.startswith(f"rpcproto: cannot join a room at nats://127.0.0.1:{port}: ")


def test_what_answers_but_is_no_participant_is_told(call_here: Here) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        code, out, err = call_here(url, "bob", "echo")
        thread.join()
    assert (code, out) == (3, "")
    assert err.startswith(f"rpcproto: cannot connect to {url}: a frame of 1213486160 bytes")


def test_without_its_extra_a_room_says_how_to_get_it(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(sys.modules):
        if re.match(r"(rpcproto\.transports\.)?nats\b", name):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "nats", None)
    code, out, err = here("serve", "--transport", "nats://127.0.0.1/lobby", "--identity", "bob")
    assert (code, out) == (3, "")
    assert err == (
        "rpcproto: rpcproto.transports.nats needs the package 'nats', which is not installed; "
        "install rpcproto with the extra 'nats' (in a checkout: pip install '.[nats]')\n"
    )


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("", "should begin with one of tcp:, unix:, nats:, tls:, wss:, ws:, livekit:, stdio:"),
        ("127.0.0.1:7000", "should begin with one of"),
        ("http://127.0.0.1:7000", "should begin with one of"),
        ("tcp://127.0.0.1", "should look like tcp://host:port"),
        ("tcp://:7000", "should look like tcp://host:port"),
        ("tcp:7000", "should look like tcp://host:port"),
        ("tcp://alice@127.0.0.1:7000", "should look like tcp://host:port"),
        ("tcp://127.0.0.1:7000/lobby", "should look like tcp://host:port"),
        ("tcp://127.0.0.1:70000", "Port out of range 0-65535"),
        ("tcp://[::1:7000", "Invalid IPv6 URL"),
        ("unix://", "should look like unix:///path"),
        ("unix://tmp/socket", "should look like unix:///path"),
        ("unix:///tmp/socket?mode=7", "should look like unix:///path"),
        ("stdio://", ""),
        ("stdio:cat", "should be stdio: and nothing more"),
        ("nats://127.0.0.1:4222", "looks like nats://host:port/room"),
        ("nats:///lobby", "looks like nats://host:port"),
        ("nats://secret@[::1/lobby", "Invalid IPv6 URL"),
    ],
)
def test_a_url_that_cannot_be_is_wrong_usage(url: str, complaint: str, call_here: Here) -> None:
    code, out, err = call_here(url, "bob", "echo")
    assert (code, out) == (2, "")
    assert complaint in err
    assert "secret" not in err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("call", "bob", "echo"), "Missing option"),
        (("call", "--identity", "", "bob", "echo"), "must not be empty"),
        (("call", "--identity", "alice", "x" * 257, "echo"), "257 bytes of UTF-8, more than 256"),
        (("call", "--identity", "alice", "bob"), "Missing argument 'METHOD'"),
        (("call", "--identity", "alice", "bob", "echo", "Hi", "Ho"), "unexpected extra argument"),
        (("call", "--identity", "alice", "--timeout", "0", "bob", "echo"), "0.0 is not in the"),
        (("call", "--identity", "alice", "--timeout", "nan", "bob", "echo"), "timeout"),
        (("call", "--identity", "alice", "bob", "x" * 65), "65 bytes of UTF-8, more than 64"),
        (("call", "--identity", "alice", "bob", "echo", "\udcff"), "not valid Unicode"),
        (("bench", "--calls", "0"), "0 is not in the range"),
        (("bench", "--concurrency", "10001"), "10001 is not in the range"),
        (("bench", "--method", ""), "must not be empty"),
        (("serve",), "Missing option '--identity'"),
    ],
)
def test_arguments_that_cannot_be_are_wrong_usage(
    arguments: tuple[str, ...], complaint: str, bob: str, here: Here
) -> None:
    command, *rest = arguments
    code, out, err = here(command, "--transport", bob, *rest)
    assert (code, out) == (2, "")
    assert complaint in err


def test_standard_input_and_output_must_be_pipes_and_cannot_be_the_payload(tmp_path: Path) -> None:
    for command, complaint in [
        (("serve", "--identity", "bob"), "must be pipes or sockets"),
        (("call", "--identity", "alice", "bob", "echo", "-"), "cannot be the payload"),
    ]:
        with Process([*RPCPROTO, *command, "--transport", "stdio:"], tmp_path) as process:
            code, out, err = process.end()
        assert (code, out) == (2, "")
        assert complaint in err


def test_a_peer_that_never_came_over_standard_input_is_told() -> None:
    code, out, err = run("serve", "--transport", "stdio:", "--identity", "bob")
    assert code == 3
    assert '"identity":"bob"' in out
    assert err == (
        "rpcproto: cannot connect over standard input and output: "
        "the stream ended before the hello\n"
    )


# a room on NATS


def test_in_a_room_a_call_waits_for_whom_it_is_for(
    nats: NatsServer, here: Here, call_here: Here
) -> None:
    url = f"{nats.url}/a%20room"
    command = ["call", "--transport", url, "--identity", "alice", "bob", "echo"]
    with Process([*RPCPROTO, *command]) as waiting, Serving("--transport", url) as service:
        assert service.url == url
        assert waiting.end() == (0, "\n", "")
        err = ""
        for seconds in ("0.3", "3", "30"):  # bob has to answer in time, on a busy machine too
            code, out, err = call_here(url, "--wait", seconds, "--trace", "carol", "echo")
            assert (code, out) == (1, "")
            if "other participants: bob" in err:
                break
        assert drawn(err) == [
            "alice carol",
            "● carol did not join in time",
            "rpcproto: 1401 Recipient not found",
            "rpcproto: other participants: bob",
        ]
        code, _, err = here("bench", "--transport", url, "--wait", "0.1", "--destination", "carol")
        assert (code, err) == (1, "rpcproto: 1401 Recipient not found\n")


@pytest.mark.environments
def test_who_is_put_out_of_a_room_says_so(nats: NatsServer) -> None:
    url = f"{nats.url}/narrow"
    with Serving("--transport", url) as first, Serving("--transport", url) as second:
        assert first.end() == (
            3,
            "",
            f"rpcproto: lost the connection to {url}: 'bob' joined again\n",
        )
        assert second.stop() == (0, "", "\n")


# many calls


def test_bench_tells_how_many_a_second_and_how_long(bob: str) -> None:
    options = ("--calls", "200", "--concurrency", "20", "--size", "2000")
    code, out, err = run("bench", "--transport", bob, *options)
    assert (code, err) == (0, "")
    title, *lines = out.splitlines()
    assert title == "200 calls of echo at bob, 20 at a time, 2,000 bytes each"
    figures = [re.fullmatch(r"(.*?) +([\d,.]+)(?: ms)?", line) for line in lines]
    assert [match and match[1] for match in figures] == [
        "calls a second",
        "latency p50",
        "latency p90",
        "latency p99",
        "latency max",
    ]
    _, *latencies = (float(match[2].replace(",", "")) for match in figures if match)
    assert latencies[0] > 0
    assert latencies == sorted(latencies)


def test_a_method_that_cannot_be_called_ends_the_bench(bob: str, here: Here) -> None:
    outcome = here("bench", "--transport", bob, "--method", "dance")
    assert outcome == (1, "", "rpcproto: 1400 Method not supported at destination\n")


def test_in_a_room_bench_must_be_told_whom_to_call(here: Here) -> None:
    code, out, err = here("bench", "--transport", "nats://127.0.0.1:4222/lobby")
    assert (code, out) == (2, "")
    assert "--destination NAME" in err


def test_the_percentiles_are_those_of_the_calls_that_succeeded() -> None:
    tally = Tally()
    assert list(report(Load("echo", 1003, 7, 0), tally)) == []
    tally.recipient = "bob"
    tally.latencies = [number / 1000 for number in range(1000, 0, -1)]
    tally.errors["1502 Response timeout"] = 3
    tally.seconds = 2.0
    assert tally.ended == 1003
    assert list(report(Load("echo", 1003, 7, 0), tally)) == [
        "1,003 calls of echo at bob, 7 at a time, 0 bytes each",
        "calls a second          500",
        "latency p50          500.00 ms",
        "latency p90          900.00 ms",
        "latency p99          990.00 ms",
        "latency max        1,000.00 ms",
        "failed                    3 with 1502 Response timeout",
    ]
    tally.latencies = []
    assert len(list(report(Load("echo", 3, 1, 0), tally))) == 2


def test_bench_ends_when_the_connection_does_and_says_how_far_it_came() -> None:
    """And not after a million calls that fail at once."""
    with Serving("--transport", "tcp://127.0.0.1:0", "--verbose") as service:
        command = ["bench", "--transport", service.url, "--calls", "1000000", "--concurrency", "3"]
        with Process([*RPCPROTO, *command]) as bench:
            assert "bench calls echo" in service.told()
            assert "bench calls echo" in service.told()
            service.popen.kill()
            code, out, err = bench.end()
    assert code == 3
    assert "rpcproto: the connection to bob is lost" in err.splitlines()
    title, *_, failed = out.splitlines()
    ended = re.fullmatch(
        r"([\d,]+) of 1,000,000 calls of echo at bob, 3 at a time, 100 bytes each", title
    )
    assert ended is not None
    assert 0 < int(ended[1].replace(",", "")) < 1_000_000
    assert re.fullmatch(r"failed +[123] with 1503 Recipient disconnected", failed)


def test_bench_that_is_interrupted_says_how_far_it_came() -> None:
    with Serving("--transport", "tcp://127.0.0.1:0", "--verbose") as service:
        command = ["bench", "--transport", service.url, "--calls", "1000000"]
        with Process([*RPCPROTO, *command]) as bench:
            assert "bench calls echo" in service.told()
            assert "bench calls echo" in service.told()
            code, out, err = bench.stop()
        service.popen.kill()
    assert (code, err) == (130, "\n")
    assert re.match(r"[\d,]+ of 1,000,000 calls of echo at bob", out)


def read_terminal(terminal: int, until: str | None = None) -> str:
    """What comes to a terminal, to the end or to a text."""
    shown = b""
    with suppress(OSError):  # how a terminal ends
        while until is None or until not in shown.decode(errors="ignore"):
            shown += os.read(terminal, 65_536)
    return shown.decode()


@contextmanager
def on_a_terminal(*command: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A command whose standard error is a terminal, and that terminal."""
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [*RPCPROTO, *command],
        stdout=subprocess.PIPE,
        stderr=end,
        encoding="utf-8",
        env=environment(TERM="xterm"),
    )
    os.close(end)
    guard = threading.Timer(GUARD, process.kill)
    guard.start()
    try:
        yield process, terminal
    finally:
        guard.cancel()
        process.kill()
        process.communicate()
        os.close(terminal)


def test_on_a_terminal_there_is_a_progress_bar_and_a_line_for_each_invocation() -> None:
    serve = ("serve", "--transport", "tcp://127.0.0.1:0", "--identity", "bob")
    with on_a_terminal(*serve) as (serving, terminal):
        url = read_terminal(terminal, "\n").split()[-1]
        with on_a_terminal("bench", "--transport", url, "--calls", "100") as (bench, other):
            shown = read_terminal(other)
            out, _ = bench.communicate(timeout=GUARD)
        assert bench.returncode == 0
        assert re.search(r" \d+/100 ", shown)
        assert out.startswith("100 calls of echo at bob")
        assert "\x1b" not in out
        serving.send_signal(signal.SIGINT)
        told = read_terminal(terminal).splitlines()
    assert (
        len([line for line in told if "bench calls echo (100 bytes): 100 bytes, " in line]) == 101
    )


# leaving


def test_ctrl_c_ends_a_call_quietly_and_its_handler(modules: Path) -> None:
    arguments = ("--transport", "tcp://127.0.0.1:0", "--verbose", "methods:sleep")
    with Serving(*arguments, cwd=modules) as service:
        command = ["call", "--transport", service.url, "--identity", "alice", "--trace"]
        with Process([*RPCPROTO, *command, "bob", "sleep"]) as calling:
            assert service.told() == "asleep"
            code, out, err = calling.stop()
        assert (code, out) == (130, "")
        assert err.startswith("\n")  # after the ^C
        assert drawn(err)[-1] == "● gives up"
        assert "calls sleep (0 bytes): abandoned" in service.told()


def test_a_service_that_is_stopped_leaves_no_socket(modules: Path, tmp_path: Path) -> None:
    url = f"unix:{tmp_path.name}/socket"
    arguments = ("--transport", url, "methods:wait")
    answer = tmp_path / "answer"
    (modules / tmp_path.name).symlink_to(tmp_path)
    with Serving(*arguments, cwd=modules) as service:
        assert service.url == url
        assert stat.S_ISSOCK((tmp_path / "socket").stat().st_mode)
        command = ["call", "--transport", url, "--identity", "alice", "bob", "wait", str(answer)]
        with Process([*RPCPROTO, *command], modules) as calling:
            assert service.told() == "waits"
            service.popen.send_signal(signal.SIGTERM)
            assert "waiting for the handlers of wait" in service.told()
            answer.touch()
            assert service.end() == (0, "", "")
            assert calling.end() == (0, "done waiting\n", "")
    assert not (tmp_path / "socket").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("call", "--identity", "alice", "bob", "echo", "x" * 100_000),
        *(
            pytest.param(arguments, marks=pytest.mark.environments)
            for arguments in (
                ("call", "--identity", "alice", "--json", "bob", "brew"),
                ("bench", "--calls", "1"),
                ("demo",),
                ("decode", "5a040a027231"),
            )
        ),
    ],
    ids=["call", "error", "bench", "demo", "decode"],
)
def test_an_output_that_nobody_reads_is_no_reason_for_a_traceback(
    arguments: tuple[str, ...], bob: str
) -> None:
    with Process([*RPCPROTO, *arguments], RPCPROTO_TRANSPORT=bob) as process:
        assert process.popen.stdout is not None
        process.popen.stdout.close()
        process.popen.stdout = None
        code, _, err = process.end()
    assert (code, err) == (4, "")
