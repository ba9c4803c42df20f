"""The tutorial, typed as it stands: its files, and its commands in two terminals."""

import os
import re
import signal
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from paths import DOCS

PAGE = (DOCS / "tutorial.md").read_text("utf-8")
GUARD = 60.0
"""Seconds after which something has failed."""


def blocks() -> Iterator[tuple[str, str]]:
    """The blocks of the page: the name of a file or the language, and the content."""
    block = re.compile(r'^```(\w+)(?: title="([^"]*)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
    for match in block.finditer(PAGE):
        yield match[2] or match[1], match[3]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Terminals:
    """The first one, which runs what serves, and the second one, for all the rest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.serving: subprocess.Popen[bytes] | None = None
        path = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"
        self.environ = os.environ | {"PATH": path, "PYTHONWARNINGS": "error"}
        self.environ.pop("PYTEST_ADDOPTS", None)

    def write(self, name: str, content: str) -> None:
        (self.folder / name).write_text(content.replace("7000", str(self.port)), "utf-8")

    def serve(self, command: str) -> None:
        """Stop what ran before, and wait until the other listens."""
        self.stop()
        command = command.replace("7000", str(self.port))
        self.serving = subprocess.Popen(
            ["bash", "-c", command], cwd=self.folder, env=self.environ, start_new_session=True
        )
        latest = time.monotonic() + GUARD
        while time.monotonic() < latest:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0):
                return
        raise AssertionError(f"{command} does not listen")

    def run(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-ec", command.replace("7000", str(self.port))],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=GUARD,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def stop(self) -> None:
        if self.serving is not None:
            os.killpg(self.serving.pid, signal.SIGTERM)
            self.serving.wait(GUARD)


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[Terminals]:
    made = Terminals(tmp_path)
    yield made
    made.stop()


def test_every_step_of_the_tutorial_works_as_it_is_typed(terminals: Terminals) -> None:
    shown = ""
    commands = []
    for name, content in blocks():
        if name.endswith(".py"):
            terminals.write(name, content)
        elif name == "text":
            assert content == shown
        elif name == "sh":
            lines = [line for line in content.splitlines() if not is_setting_up(line)]
            for line in lines:
                if re.search(r"^(\w+=\w+ )?(rpcproto serve|python frontend_app)", line):
                    terminals.serve(line)
                else:
                    shown = terminals.run(line)
                commands.append(line)
    assert len(commands) >= 8
    assert "pytest -q" in commands


def is_setting_up(line: str) -> bool:
    """Whether a line makes or enters the environment, which is there already."""
    return bool(re.match(r"python3 -m venv|\. |pip install|cd ", line))
