"""A testee that the suite starts as a process, whichever way it is reached."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from rpcproto.conformance.attachment import NoTestee
from rpcproto.extras import extra

with extra("cli", __name__):
    import anyio
    from anyio.abc import Process

MAX_ERROR_BYTES: Final = 4_096


def split(command: str) -> list[str]:
    """Split a command as a POSIX shell does; no shell runs it.

    Raises ValueError for quotes that do not end, and for an empty command.
    """
    words = shlex.split(command)
    if not words:
        raise ValueError("the command is empty")
    return words


async def start(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    stdin: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
) -> Process:
    """Start a process in a group of its own. Raises NoTestee."""
    try:
        return await anyio.open_process(
            command, env=environment, start_new_session=True, stdin=stdin, stderr=stderr
        )
    except OSError as error:
        reason = "no such command" if isinstance(error, FileNotFoundError) else error.strerror
        raise NoTestee(f"cannot start {command[0]!r}: {reason}") from None


def kill(process: Process) -> None:
    """Kill a process and what it has started: a shell may be the one that is known."""
    with suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)


async def end(process: Process, seconds: float) -> None:
    """Give a process so many seconds to end, and kill it then."""
    was_running = process.returncode is None
    with anyio.move_on_after(seconds):
        await process.wait()
    if was_running:  # later, its number may be that of another process
        kill(process)
    await process.wait()


class Tail:
    """The end of what a process prints."""

    def __init__(self) -> None:
        self._data = b""

    def add(self, data: bytes) -> None:
        """Take what came."""
        self._data = (self._data + data)[-MAX_ERROR_BYTES:]

    def take(self) -> str:
        """Return what came since this was last asked, at most MAX_ERROR_BYTES of it."""
        data, self._data = self._data, b""
        return data.decode(errors="replace")
