"""The command line, whatever the shell has done to its standard streams, disk and directory."""

import itertools
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from paths import TESTS
from test_cli_calls import GUARD, RPCPROTO, Process, Serving, environment

PACKET = "2203626f622a05616c6963655a040a027231"
CLOSED = "closed"
COUNT = itertools.count()


class Told(NamedTuple):
    code: int
    out: str
    err: str


class Forks:
    """Runs commands in forks of one process."""

    def __init__(self, directory: Path) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-W", "error", str(TESTS / "cli" / "forked_commands.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            cwd=directory,
            env=environment(),
        )

    def run(self, streams: tuple[str, ...], *arguments: str, **more: Any) -> Told:
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        case = {"streams": streams, "arguments": arguments, **more}
        self._popen.stdin.write(json.dumps(case) + "\n")
        self._popen.stdin.flush()
        return Told(**json.loads(self._popen.stdout.readline()))

    def close(self) -> None:
        self._popen.communicate(timeout=GUARD)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("descriptors")


@pytest.fixture(scope="module")
def forks(directory: Path) -> Iterator[Forks]:
    forks = Forks(directory)
    yield forks
    forks.close()


@pytest.fixture(scope="module")
def bob(directory: Path) -> Iterator[str]:
    url = f"unix:{directory}/bob"
    with Serving("--transport", url):
        yield url


COMMANDS = {
    "call": ("call", "--transport", "URL", "--identity", "alice", "bob", "echo", "x"),
    "call --json": ("call", "--transport", "URL", "--identity", "alice", "--json", "bob", "echo"),
    "call --trace": ("call", "--transport", "URL", "--identity", "alice", "--trace", "bob", "echo"),
    "call -": ("call", "--transport", "URL", "--identity", "alice", "bob", "echo", "-"),
    "call, an error": ("call", "--transport", "URL", "--identity", "alice", "bob", "dance"),
    "call, no connection": ("call", "--transport", "unix:/no", "--identity", "alice", "bob", "m"),
    "call over stdio": ("call", "--transport", "stdio:", "--identity", "alice", "bob", "echo"),
    "bench": ("bench", "--transport", "URL", "--calls", "2"),
    "serve": ("serve", "--transport", "SOCKET", "--identity", "carol"),
    "serve over stdio": ("serve", "--transport", "stdio:", "--identity", "carol"),
    "decode": ("decode", PACKET),
    "decode --json": ("decode", "--json", PACKET),
    "decode -": ("decode", "-"),
    "decode, no packet": ("decode", "zz"),
    "demo": ("demo", "--journal", "written.jsonl"),
    "replay": ("replay", "demo.jsonl"),
    "replay -": ("replay", "-"),
    "trace": ("trace", "demo.jsonl"),
    "trace --svg": ("trace", "demo.jsonl", "--svg", "-"),
    "conform --list": ("conform", "--list", "--only", "RPC-1"),
    "conform, no testee": ("conform", "--exec", "/no/such/testee"),
    "completion": ("completion", "fish"),
    "no command": (),
    "help": ("call", "--help"),
    "version": ("--version",),
    "wrong usage": ("call", "--dance"),
}
WITHOUT_OUTPUT = {"serve", "serve over stdio", "call, an error", "call, no connection"}
WITHOUT_OUTPUT |= {
    "conform, no testee",
    "call over stdio",
    "decode, no packet",
    "wrong usage",
    "no command",
}
FROM_INPUT = {"call -", "decode -", "replay -"}
EXPECTED = {
    "call, an error": 1,
    "call, no connection": 3,
    "call over stdio": 2,
    "serve over stdio": 2,
    "decode -": 2,  # nothing is no packet
    "decode, no packet": 2,
    "replay -": 2,  # nor a journal
    "conform, no testee": 2,
    "wrong usage": 2,
    "no command": 2,
}
"""The exit codes with nothing on standard input, where all is in order."""


def run(forks: Forks, name: str, streams: tuple[str, ...], url: str, directory: Path) -> Told:
    # A service that is stopped while it begins to listen may leave its socket.
    socket = directory / f"carol{next(COUNT)}"
    words = {"URL": url, "SOCKET": f"unix:{socket}"}
    arguments = [words.get(each, each) for each in COMMANDS[name]]
    return forks.run(streams, *arguments, stop_at=str(socket) if name == "serve" else "")


@pytest.fixture(scope="module")
def journal(forks: Forks, directory: Path) -> Path:
    open_streams = ("open", "open", "open")
    assert forks.run(open_streams, "demo", "--journal", "demo.jsonl").code == 0
    return directory / "demo.jsonl"


def expected_code(name: str, streams: tuple[str, ...]) -> int:
    stdin, stdout, stderr = streams
    usual = EXPECTED.get(name, 0)
    if name in FROM_INPUT and stdin in (CLOSED, "the wrong way round"):
        return 2
    if name not in WITHOUT_OUTPUT and stdout != "open" and usual == 0:
        return 4
    if name == "call --trace" and stderr != "open":
        return 4
    return usual


def one_of_them(state: str, *numbers: int) -> list[tuple[str, ...]]:
    """Standard streams of which one is in this state."""
    return [tuple(state if at == number else "open" for at in range(3)) for number in numbers]


ALL_CLOSED = (CLOSED, CLOSED, CLOSED)
USUAL = [
    *one_of_them(CLOSED, 0, 1, 2),
    ALL_CLOSED,
    *one_of_them("full", 1, 2),
    *one_of_them("without a reader", 1),
]
RARE = [
    *(set(itertools.product(("open", CLOSED), repeat=3)) - set(USUAL)),
    *one_of_them("without a reader", 2),
    *one_of_them("the wrong way round", 0, 1, 2),
]


@pytest.mark.parametrize(
    "states",
    [
        pytest.param(USUAL, id="usual"),
        pytest.param(RARE, id="rare", marks=pytest.mark.environments),
    ],
)
@pytest.mark.parametrize("name", COMMANDS)
def test_no_standard_stream_that_is_closed_or_broken_leads_to_a_traceback(
    name: str, states: list[tuple[str, ...]], forks: Forks, bob: str, directory: Path, journal: Path
) -> None:
    for streams in states:
        told = run(forks, name, streams, bob, directory)
        assert told.code == expected_code(name, streams), (streams, told)
        assert "Traceback" not in told.err, streams
        if told.code == 4 and streams[1] != "without a reader" and streams[2] == "open":
            assert told.err.count("rpcproto: ") == 1, (streams, told)
            assert "cannot write standard output: " in told.err or name in ("help", "version")
        if told.code == 4 and streams[1] == "without a reader" and name != "call --trace":
            assert told.err == ""  # whoever wanted the output wants no more of it


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("call - <&-", 2),
        ("call x >&-", 4),
        ("call x >/dev/full", 4),
        ("decode - <&-", 2),
        ("decode " + PACKET + " >/dev/full", 4),
        ("demo >/dev/full", 4),
        ("demo --journal /dev/full", 4),
        ("bench --calls 2 >/dev/full 2>&-", 4),
        ("--help >/dev/full", 4),
        ("--version >&- 2>&- <&-", 4),
    ],
)
@pytest.mark.environments
def test_a_process_of_its_own_does_the_same(command: str, code: int, bob: str) -> None:
    name, _, rest = command.partition(" ")
    words = [*RPCPROTO, name]
    if name == "call":
        words += ["--identity", "alice", "bob", "echo"]
    with Process(["sh", "-c", f"{shlex.join(words)} {rest}"], RPCPROTO_TRANSPORT=bob) as process:
        got, _, err = process.end()
    assert (got, "Traceback" in err) == (code, False)
    assert err.count("\n") <= 1 or code == 2


def test_a_journal_that_does_not_fit_on_the_disk_is_told(directory: Path) -> None:
    command = f"ulimit -f 8; exec {shlex.join(RPCPROTO)} demo --journal small.jsonl"
    with Process(["bash", "-c", command], directory) as process:
        code, out, err = process.end()
    assert (code, err) == (4, "rpcproto: cannot write small.jsonl: File too large\n")
    assert "11 of 11 calls ended as they should" in out
    assert (directory / "small.jsonl").stat().st_size <= 8 * 1024


def test_too_few_file_descriptors_are_told(bob: str) -> None:
    rpcproto = [sys.executable, "-m", "rpcproto"]
    call = shlex.join([*rpcproto, "call", "--transport", bob, "--identity", "alice", "bob", "echo"])
    with Process(["bash", "-c", f"ulimit -n 5; exec {call}"]) as process:
        assert process.end() == (4, "", "rpcproto: Too many open files\n")


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("serve", "--transport", "stdio:", "--identity", "b"), 2, "must be pipes or sockets"),
        (("serve", "--transport", "unix:b", "--identity", "b", "no_such:f"), 2, "cannot import"),
        (("serve", "--transport", "unix:b", "--identity", "b"), 3, "No such file or directory"),
        (("demo", "--journal", "j.jsonl"), 2, "No such file or directory"),
        (("decode", "--file", "packet"), 2, "does not exist"),
    ],
)
def test_a_directory_that_is_gone_is_told(
    arguments: tuple[str, ...], code: int, complaint: str, tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    command = f"rmdir {gone}; exec {shlex.join([*RPCPROTO, *arguments])}"
    with Process(["sh", "-c", command], gone) as process:
        got, _, err = process.end()
    assert got == code
    assert complaint in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("import sys\nsys.exit(5)", "SystemExit: 5"),
        ("raise SystemExit", "SystemExit: "),
        ("import asyncio\nraise asyncio.CancelledError", "CancelledError: "),
        ("raise BaseException('\\x1b[2J')", r"BaseException: \x1b[2J"),
    ],
)
def test_a_module_that_exits_is_wrong_usage(
    module: str, reason: str, forks: Forks, directory: Path
) -> None:
    (directory / "exiting.py").write_text(module, "utf-8")
    serve = ("serve", "--transport", "unix:x", "--identity", "b", "exiting:f")
    told = forks.run(("open", "open", "open"), *serve)
    assert told.code == 2
    assert f"cannot import 'exiting': {reason}\n" in told.err


def test_what_no_command_expects_is_a_line_that_says_how_to_see_more(
    forks: Forks, directory: Path
) -> None:
    deep = directory / "deep.jsonl"
    deep.write_text('{"journal":2}\n' + "[" * 100_000 + "\n", "ascii")
    told = forks.run(("open", "open", "open"), "replay", "deep.jsonl")
    assert (told.code, told.err.count("\n")) in {(2, 1), (70, 1)}


# Ctrl-C

INTERRUPTING = """
import atexit, os, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

def at_exit():
    os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
if {module!r} == "at exit":
    atexit.register(at_exit)
"""


@pytest.mark.parametrize("program", [RPCPROTO, ["rpcproto"]], ids=["python -m", "script"])
@pytest.mark.parametrize(
    "module",
    [
        "rpcproto.core",
        "google.protobuf",
        "rpcproto.wire",
        "rpcproto.cli",
        "rpcproto.cli.commands",
        "click",
        "rich.console",
        "rpcproto.cli.urls",
        "at exit",
    ],
)
def test_ctrl_c_while_python_imports_or_ends_is_quiet(
    program: list[str], module: str, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTING.format(module=module), "utf-8")
    command = [*program, "decode", PACKET]
    with Process(command, PYTHONPATH=str(tmp_path), PYTHONSAFEPATH="") as process:
        code, out, err = process.end()
    assert (code, err) == (130, "\n")
    assert bool(out) == (module == "at exit")
