"""Running a command on asyncio: what is logged becomes lines, and signals stop it."""

import asyncio
import logging
import signal
import traceback
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias, TypeVar

import click

from rpcproto import interrupts
from rpcproto.cli.output import echo, printable, say
from rpcproto.core.errors import LocalProtocolError

T = TypeVar("T")
Stop: TypeAlias = Callable[[int], None]
"""Called with the number of a signal, in the main thread, between any two of its steps."""


def run(main: Coroutine[Any, Any, T], *, in_detail: bool = False) -> T:
    """Run it on asyncio, with what is logged as lines on standard error.

    Ctrl-C cancels it, and a second Ctrl-C ends the process at once. Raises click.exceptions.Exit
    where it was cancelled.
    """
    logger, handler = logging.getLogger("rpcproto"), _Lines(in_detail)
    level = logger.level
    logger.setLevel(logging.INFO if in_detail else logging.WARNING)
    logger.addHandler(handler)
    interruptible = _until_interrupted(main)
    try:
        return asyncio.run(interruptible)
    except LocalProtocolError as error:
        raise click.UsageError(str(error)) from None
    except asyncio.CancelledError:
        raise click.exceptions.Exit(interrupts.INTERRUPTED) from None
    finally:
        for coroutine in (interruptible, main):
            coroutine.close()  # if there could be no event loop, they have never begun
        logger.removeHandler(handler)
        logger.setLevel(level)


async def _until_interrupted(main: Coroutine[Any, Any, T]) -> T:
    us, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert us is not None

    def stop(number: int) -> None:
        interrupts.new_line()
        loop.call_soon_threadsafe(us.cancel)

    with stopped_by(stop, signal.SIGINT):
        return await main


@contextmanager
def stopped_by(stop: Stop, *signals: signal.Signals) -> Iterator[None]:
    """Let the first one of these signals call `stop`; a second one ends the process at once.

    Nothing changes for signals that are ignored, and in another thread than the main one.
    """
    stops = [stop]

    def handle(number: int, frame: object) -> None:
        if stops:
            stops.pop()(number)
        else:
            interrupts.end_at_once(number)

    before = {}
    with suppress(ValueError):
        for number in signals:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Lines(logging.Handler):
    """Prints what is logged, a line each; in detail, with the tracebacks."""

    def __init__(self, in_detail: bool) -> None:
        super().__init__()
        self._in_detail = in_detail

    def emit(self, record: logging.LogRecord) -> None:
        message = _text_of(record.getMessage)
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            say(message)
            return
        say(f"{message}: {type(error).__name__}: {_text_of(error.__str__)}")
        if self._in_detail:
            for line in "".join(traceback.format_exception(error)).splitlines():
                echo(printable(line))


def _text_of(describe: Callable[[], str]) -> str:
    """A text by which something that others have made describes itself, if it does."""
    try:
        return describe()
    except Exception:
        return "an exception without a text"
