"""What the command line says of itself: help, completion, and what was mistyped."""

import io
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from profiles import choose
from test_cli import Run, run  # noqa: F401 (a fixture)
from test_cli_calls import environment
from test_cli_descriptors import PACKET
from test_cli_hostile import assert_printable, on_a_terminal

from rpcproto import cli
from rpcproto.cli.commands import commands

# ruff: noqa: F811


@pytest.mark.parametrize("name", ["", *commands.commands])
def test_the_help_fits_into_80_columns(run: Run, name: str) -> None:
    code, out, _ = run(*filter(None, [name]), "--help")
    assert code == 0
    assert [line for line in out.splitlines() if len(line) > 80] == []


OPTIONS = [
    (name, option.opts[0])
    for name, command in commands.commands.items()
    for option in command.params
    if isinstance(option.type, click.FloatRange)
]


@pytest.mark.parametrize(("command", "option"), OPTIONS)
@pytest.mark.parametrize("value", ["nan", "-nan", "NaN", "0", "-1", "inf", "soon"])
def test_a_time_that_is_none_is_told_by_the_name_of_its_option(
    run: Run, command: str, option: str, value: str
) -> None:
    code, out, err = run(command, f"{option}={value}")
    assert (code, out) == (2, "")
    assert f"Invalid value for '{option}'" in err


@pytest.mark.parametrize("payload", ["-42", "--dance", "-x"])
def test_a_payload_that_begins_with_a_dash_is_told_where_it_goes(run: Run, payload: str) -> None:
    arguments = ("--transport", "unix:/no", "--identity", "alice")
    code, _, err = run("call", *arguments, "bob", "echo", payload)
    assert code == 2
    assert err.endswith(
        f"If a payload begins with a dash, put -- first, as in: -- DESTINATION METHOD {payload}\n"
    )
    code, _, err = run("call", *arguments, "--", "bob", "echo", payload)
    assert code == 3


WORDS = st.sampled_from(
    [
        *(
            "",
            "\udcff",
            "\x1b[2J",
            "\n",
            "-",
            "--",
            "-1",
            "1",
            "nan",
            "1e999",
            "a" * 300,
            "/no/such",
        ),
        *("x:y", ":", "=:", "..:a", "a.b:c", "this:s", "{}", "RPC-1.1", "bash", PACKET),
    ]
)
URLS = st.sampled_from(  # none of them leads anywhere
    [
        *(
            "",
            "unix:/no/such",
            "unix:/no/\udcff",
            "unix:" + "a" * 300,
            "tcp://\udcff:1",
            "tcp://h:99999",
        ),
        *("nats://\udcff/x", "nats://[::1/x", "tls://h/", "livekit://h/%ff", "ws://", "wss://\x1b"),
    ]
)
IN_PLACE = {"demo", "conform"}
"""Commands that do something whatever is typed, and take their time."""


@st.composite
def mistyped(draw: st.DrawFn) -> list[str]:
    """Any command with any options and arguments."""
    name = draw(st.sampled_from(sorted(commands.commands.keys() - IN_PLACE)))
    typed = [name]
    for option in commands.commands[name].params:
        needed = option.name in ("address", "identity")
        if not isinstance(option, click.Option) or option.name == "install":
            continue
        if needed or draw(st.integers(0, 3)) == 0:
            typed.append(option.opts[0])
            if not option.is_flag:
                typed.append(draw(URLS if option.name == "address" else WORDS))
    return typed + draw(st.lists(WORDS, max_size=4))


@given(mistyped())
@example(["call", "--transport", "unix:/no/\udcff", "--identity", "alice", "bob", "echo"])
@settings(max_examples=choose(fast=200, deep=2_000, night=20_000))
def test_whatever_is_typed_ends_with_a_line_and_an_exit_code(arguments: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as directory:
        patch.chdir(directory)
        patch.setattr(sys, "path", sys.path[:])
        for name in ("NO_COLOR", "RPCPROTO_TRANSPORT", "LIVEKIT_URL"):
            patch.delenv(name, raising=False)
        patch.setattr(sys, "argv", ["rpcproto", *arguments])
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff")))
        patch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
        file = io.StringIO()
        patch.setattr(sys, "stderr", file)
        code = cli.main()
        err = file.getvalue()
    assert code in range(4), err
    assert (code == 0) == (err == "")
    assert_printable(err, "\t")


@pytest.fixture
def silent_port() -> Iterator[int]:
    """The port of a server that says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.environments
def test_a_port_that_is_not_a_nats_server_is_told(run: Run, silent_port: int) -> None:
    url = f"nats://127.0.0.1:{silent_port}"
    code, _, err = run("call", "--transport", f"{url}/lobby", "--identity", "alice", "bob", "echo")
    assert (code, err) == (
        3,
        f"rpcproto: cannot join a room at {url}: no NATS server answered in time\n",
    )


def test_without_colours_there_are_no_other_styles_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    code, shown = on_a_terminal("demo")
    assert (code, "\x1b" in shown) == (0, False)
    monkeypatch.delenv("NO_COLOR")
    code, shown = on_a_terminal("demo")
    assert (code, "\x1b[1" in shown) == (0, True)


# completion

COMPLETE = """
{script}
COMP_WORDS=({words})
COMP_CWORD={last}
_rpcproto_completion rpcproto
echo "${{COMPREPLY[*]}}"
"""


@pytest.mark.parametrize(
    ("words", "found"), [(["rpcproto", "se"], "serve"), (["rpcproto", "call", "--js"], "--json")]
)
def test_bash_completes_commands_and_options(words: list[str], found: str, run: Run) -> None:
    code, script, err = run("completion", "bash")
    assert (code, err) == (0, "")
    program = COMPLETE.format(script=script, words=shlex.join(words), last=len(words) - 1)
    done = subprocess.run(
        ["bash", "-c", program], capture_output=True, text=True, check=True, env=environment()
    )
    assert done.stdout.split() == [found]


@pytest.mark.parametrize(
    ("shell", "place", "beginning"),
    [
        ("bash", ".local/share/bash-completion/completions/rpcproto", "_rpcproto_completion() {"),
        ("fish", ".config/fish/completions/rpcproto.fish", "function _rpcproto_completion"),
        ("zsh", ".zfunc/_rpcproto", "#compdef rpcproto"),
    ],
)
def test_completion_is_installed_where_the_shell_looks_for_it(
    shell: str,
    place: str,
    beginning: str,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "BASH_COMPLETION_USER_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", f"/usr/bin/{shell}")
    code, out, err = run("completion", "--install")
    assert (code, out) == (0, "")
    assert err.startswith(f"rpcproto: installed {tmp_path / place}; it takes effect in new shells")
    assert (tmp_path / place).read_text("utf-8").strip().startswith(beginning)
    assert ("fpath+=" in err) == (shell == "zsh")


def test_a_completion_that_cannot_be_installed_is_told(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").write_text("a file", "utf-8")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    code, _, err = run("completion", "--install", "zsh")
    assert (code, err) == (
        4,
        f"rpcproto: cannot write {tmp_path}/home/.zfunc/_rpcproto: Not a directory\n",
    )
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    code, _, err = run("completion")
    assert (code, "name a shell: bash, zsh, fish" in err) == (2, True)
