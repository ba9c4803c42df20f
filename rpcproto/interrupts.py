"""Ctrl-C in the command `rpcproto`: from its start to its end, nothing of it is a traceback.

The package imports this module before everything else, so it imports next to nothing itself.
"""

import os
import signal
import sys

INTERRUPTED = 130
"""The exit code that a shell expects of a command that Ctrl-C has ended."""


def is_the_command() -> bool:
    """Return whether this process was started as `rpcproto` or as `python -m rpcproto`."""
    path = [*getattr(sys, "argv", ()), ""][0]
    if path == "-m":  # as long as Python looks for the module
        options = " ".join(sys.orig_argv)
        return options.endswith("m rpcproto") or "m rpcproto " in options or "mrpcproto" in options
    directory, name = os.path.split(os.path.realpath(path))
    # A script of this name beside the interpreter is the one that was installed.
    scripts = os.path.realpath(os.path.split(sys.executable)[0])
    return name in ("rpcproto", "rpcproto.exe") and directory in (scripts, f"{sys.prefix}/bin")


def end_at_once(number: int, _frame: object = None) -> None:
    """End the process without a word, with the exit code that belongs to a signal."""
    if number == signal.SIGINT:
        new_line()
    os._exit(128 + number)


def new_line() -> None:
    """Begin a new line on standard error: a terminal has shown a ^C."""
    try:  # noqa: SIM105 (contextlib takes its time)
        os.write(2, b"\n")
    except OSError:
        pass


def end_at_ctrl_c() -> None:
    """Let Ctrl-C end the process at once, unless it is ignored or somebody handles it."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end_at_once)
