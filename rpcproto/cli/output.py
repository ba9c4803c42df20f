"""What the commands print, and what becomes of it when it cannot be written."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, NoReturn, TextIO

import click
from rich.console import Console

OUTPUT_FAILED: Final = 4
"""The exit code where standard output or a file could not be written."""
MAX_INPUT_BYTES: Final = 67_108_864
"""The maximum size of what is read whole: standard input, and files of packets (64 MiB)."""


class OutputError(click.ClickException):
    """Standard output or a file cannot be written; the message says why, and is empty if whoever
    reads the output has stopped reading."""

    exit_code = OUTPUT_FAILED


def printable(text: str, keep: str = "") -> str:
    """Return a text that others have made without anything that is an order to a terminal.

    The characters in `keep` stay as they are.
    """
    return "".join(
        letter
        if letter.isprintable() or letter in keep
        else letter.encode("unicode_escape").decode()
        for letter in text
    )


# standard error


def say(line: str) -> None:
    """Print a line on standard error, which says whose it is."""
    echo(f"rpcproto: {printable(line)}")


def echo(line: str) -> None:
    """Print a line on standard error, unless that is closed or its disk is full: nobody could be
    told, and what the line is about goes on."""
    with suppress(OSError, ValueError, AttributeError):
        click.echo(line, err=True)


def show_error(error: click.ClickException) -> None:
    """Print what has gone wrong on standard error."""
    message = printable(error.format_message(), "\n\t")
    if not isinstance(error, click.UsageError):
        if message:
            echo(f"rpcproto: {message}")
        return
    if error.ctx is not None:
        echo(error.ctx.get_usage())
        if error.ctx.command.get_help_option(error.ctx) is not None:
            echo(f"Try '{error.ctx.command_path} --help' for help.\n")
    echo(f"Error: {message}")


def is_terminal(file: TextIO | None) -> bool:
    """Return whether this is a terminal; False also for a standard stream that was closed when the
    process began, which is None."""
    return file is not None and not file.closed and file.isatty()


# standard output


def put(line: str = "") -> None:
    """Print a line, with texts of others in it, on standard output; raises OutputError."""
    with writing():
        click.echo(printable(line))


def put_as_it_is(text: str) -> None:
    """Print a line on standard output: for a program in UTF-8, and without any change; on a
    terminal without orders to it. Raises OutputError."""
    with writing():
        if is_terminal(sys.stdout):
            click.echo(printable(text, "\n\t"))
        else:
            click.echo(text.encode())


@contextmanager
def writing(path: str = "-") -> Iterator[None]:
    """Turn the error of a write, to a file or with - to standard output, into an OutputError."""
    try:
        yield
        if path == "-" and sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        raise OutputError("") from None
    except OSError as error:
        name = "standard output" if path == "-" else path
        drop_pending()  # once is enough
        raise OutputError(f"cannot write {name}: {error.strerror or error}") from None


def console(*, stderr: bool = False, soft_wrap: bool = False) -> Console:
    """Return a console that prints what it is given and nothing more; with NO_COLOR set, without
    any styles."""
    colours: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
    return _Console(
        stderr=stderr,
        soft_wrap=soft_wrap,
        color_system=colours,
        highlight=False,
        markup=False,
        emoji=False,
    )


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        raise OutputError("")


class _Closed(io.TextIOBase):
    """Takes the place of a standard output that was closed when the process began."""

    encoding: Any = "utf-8"

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        raise OutputError("cannot write standard output: it is closed")


@contextmanager
def standard_output() -> Iterator[None]:
    """Let a closed standard output fail when it is written, and write all that is pending at the
    end; raises OutputError."""
    was_closed = sys.stdout is None
    if was_closed:
        sys.stdout = _Closed()
    elif isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what a terminal cannot show
    try:
        yield
        with writing():
            pass  # but what is pending
    finally:
        if was_closed:
            give_up_standard_output()
        drop_pending()


def give_up_standard_output() -> None:
    """Let others print to a standard output that is closed, without effect."""
    if isinstance(sys.stdout, _Closed):
        setattr(sys, "stdout", None)  # noqa: B010 (as Python itself has it, unlike its types)


def drop_pending() -> None:
    """If standard output or error cannot be written, see to it that nobody tries that again, and
    complains: at the end of the process, Python would."""
    for file in (sys.stdout, sys.stderr):
        try:
            if file is not None and not file.closed:
                file.flush()
        except OSError:
            with suppress(OSError, ValueError):
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, file.fileno())
                os.close(nothing)


# standard input


def standard_input() -> BinaryIO:
    """Return standard input; raises click.UsageError if it is closed."""
    if sys.stdin is None:
        raise click.UsageError("standard input is closed")
    return sys.stdin.buffer


def read_standard_input() -> bytes:
    """Read standard input to its end; raises click.UsageError if that cannot be done."""
    try:
        return read_all(standard_input(), "standard input")
    except OSError as error:
        raise click.UsageError(f"cannot read standard input: {error.strerror or error}") from None


def read_file(path: str | Path, most: int = MAX_INPUT_BYTES) -> bytes:
    """Read a file; raises click.UsageError if that cannot be done."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return read_all(file, str(path), most)
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror or error}") from None


def read_all(file: BinaryIO, name: str, most: int = MAX_INPUT_BYTES) -> bytes:
    """Read to the end, which a device may not have; raises click.UsageError beyond `most` bytes."""
    data = file.read(most + 1)
    if len(data) > most:
        raise click.UsageError(f"{name}: more than {most:,} bytes")
    return data
