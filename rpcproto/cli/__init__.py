"""The command `rpcproto`; needs the extra `cli`."""

import os
import signal
import sys
from contextlib import suppress
from typing import Final

from rpcproto import interrupts
from rpcproto.extras import how_to_install

BUG: Final = 70
"""The exit code after an error that no command expects."""
DEBUG: Final = "RPCPROTO_DEBUG"
"""The environment variable that lets such an error through, with its traceback."""


def main() -> int:
    """Run the command line; returns the exit code."""
    _occupy_standard_streams()
    before = signal.getsignal(signal.SIGINT)
    is_handled = _handle_ctrl_c()
    try:
        return _run()
    except KeyboardInterrupt:
        return interrupts.INTERRUPTED
    finally:
        if is_handled:
            signal.signal(signal.SIGINT, before)


def _run() -> int:
    try:
        from rpcproto.cli.commands import run  # noqa: PLC0415 (it may be missing)
    except ImportError as error:
        if os.environ.get(DEBUG):
            raise
        missing = str(error.name).partition(".")[0]
        if missing in ("anyio", "click", "rich"):
            what = f"the command line needs the package {missing!r}, which is not installed"
            return _fail(f"{what}; {how_to_install('cli')}", 1)
        return _fail(f"this installation is broken: {error}", BUG)
    return run()


def _fail(reason: str, code: int) -> int:
    with suppress(OSError):
        print(f"rpcproto: {reason}", file=sys.stderr)
    return code


def _occupy_standard_streams() -> None:
    """Open the null device where standard input, output or error is closed, so that no socket and
    no file gets a number that other code takes for one of these."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _handle_ctrl_c() -> bool:
    try:
        interrupts.end_at_ctrl_c()
    except ValueError:
        return False  # in another thread than the main one
    return True
