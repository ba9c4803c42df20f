"""Running a command on asyncio: what is logged becomes lines, and signals stop it."""

import asyncio
import logging
import signal
import sys
import threading
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
    interruptible = _until_interrupted(main)
    try:
        with _logged(logging.INFO if in_detail else logging.WARNING, in_detail):
            return asyncio.run(interruptible)
    except LocalProtocolError as error:
        raise click.UsageError(str(error)) from None
    except asyncio.CancelledError:
        raise click.exceptions.Exit(interrupts.INTERRUPTED) from None
    finally:
        for coroutine in (interruptible, main):
            coroutine.close()  # if there could be no event loop, they have never begun


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


@contextmanager
def _logged(level: int, in_detail: bool) -> Iterator[None]:
    """Print what is logged, and what threads raise, as lines."""
    logger, handler = logging.getLogger("rpcproto"), _Lines(in_detail)
    before = logger.level, logging.lastResort, threading.excepthook

    def raised_in_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            logger.error("a thread failed", exc_info=args.exc_value)

    logger.setLevel(level)
    logger.addHandler(handler)
    others = logging.WARNING if in_detail else logging.ERROR
    logging.lastResort = _Lines(in_detail, others)  # for all other loggers
    threading.excepthook = raised_in_thread
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logging.lastResort, threading.excepthook = before[1:]
        logger.setLevel(before[0])


@contextmanager
def quiet_finalizers() -> Iterator[None]:
    """Print nothing of exceptions that nobody can handle, such as those of half-made event loops
    where file descriptors have run out."""
    before = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    try:
        yield
    finally:
        sys.unraisablehook = before


class _Lines(logging.Handler):
    """Prints what is logged, a line each; in detail, with the tracebacks."""

    def __init__(self, in_detail: bool, level: int = logging.NOTSET) -> None:
        super().__init__(level)
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
