"""Runs `rpcproto` many times in forks of one process, each with standard streams of its own.

A program: it reads cases, one JSON object a line, and prints their outcomes in the same way. What
Python makes of its standard streams when it begins, it makes of them in each fork again.
"""

import gc
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

from rpcproto import cli
from rpcproto.cli import commands


def descriptor(state: str, number: int, capture: int) -> None:
    """Give a standard stream the state that a case wants."""
    if state == "closed":
        os.close(number)
        return
    if state == "open":
        source = os.open(os.devnull, os.O_RDONLY) if number == 0 else os.dup(capture)
    elif state == "the wrong way round":
        source = os.open(os.devnull, os.O_WRONLY if number == 0 else os.O_RDONLY)
    elif state == "full":
        source = os.open("/dev/full", os.O_RDWR)
    elif state == "without a reader":
        reader, source = os.pipe()
        os.close(reader)
    else:
        raise AssertionError(state)
    os.dup2(source, number)
    os.close(source)


def stream(number: int, mode: str, errors: str) -> Any:
    """A standard stream as Python opens it, None if it is closed."""
    try:
        os.fstat(number)
        return open(number, mode, encoding="utf-8", errors=errors, closefd=False)
    except OSError:
        return None


def become(case: dict[str, Any], captures: tuple[int, int]) -> None:
    for number, capture in ((2, captures[1]), (1, captures[0]), (0, -1)):
        descriptor(case["streams"][number], number, capture)
    sys.stdin = sys.__stdin__ = stream(0, "r", "strict")  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = stream(1, "w", "strict")  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = stream(2, "w", "backslashreplace")  # type: ignore[misc]
    sys.argv = ["rpcproto", *case["arguments"]]


def outcome(case: dict[str, Any]) -> dict[str, Any] | None:
    """The outcome of a case; in the fork, None once it has become the command."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            become(case, (out.fileno(), err.fileno()))
            return None
        if case.get("stop_at"):
            while not Path(case["stop_at"]).exists() and not os.waitpid(child, os.WNOHANG)[0]:
                time.sleep(0.001)
            os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
        texts = [file.seek(0) or file.read().decode() for file in (out, err)]
        return {"code": os.waitstatus_to_exitcode(status), "out": texts[0], "err": texts[1]}


def end(code: int) -> NoReturn:
    """End the fork as Python ends a process, without the time that it takes to tidy up."""
    for file in (sys.stdout, sys.stderr):
        try:
            if file is not None and not file.closed:
                file.flush()
        except OSError as error:
            os.write(2, f"Exception ignored: {error}\n".encode())
            code = 120
    os._exit(code)


def main() -> int:
    assert commands  # all imports are done before the first fork
    gc.freeze()
    for line in sys.stdin:
        told = outcome(json.loads(line))
        if told is None:
            end(cli.main())
        print(json.dumps(told), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
