"""The logger of the package, which never raises, whatever logging is set up to do."""

import logging
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    _LoggerAdapter = logging.LoggerAdapter[logging.Logger]
else:
    _LoggerAdapter = logging.LoggerAdapter

SELDOM: Final = 60.0
"""The least time between two lines of a `SeldomLogged`, in seconds."""


class _GuardedLogger(_LoggerAdapter):
    """A logger whose handlers cannot harm the code that logs: a full disk, a closed standard error
    or an exception without a text cost the line, and nothing else."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """See `logging.Logger.log`."""
        if not self.logger.isEnabledFor(level):
            return
        try:
            self.logger.log(level, msg, *args, stacklevel=2, **kwargs)
        except KeyboardInterrupt:
            raise
        except BaseException:
            pass


logger: Final = _GuardedLogger(logging.getLogger("rpcproto"))


class SeldomLogged:
    """Something that a peer can cause as often as it likes: one warning a minute, with a count."""

    def __init__(self) -> None:
        self._next_at = 0.0
        self._unlogged = 0

    def warning(self, msg: str, *args: object) -> None:
        """Log a warning, unless one was logged less than SELDOM ago."""
        now = time.monotonic()
        if now < self._next_at:
            self._unlogged += 1
            return
        self._next_at = now + SELDOM
        if self._unlogged:
            msg += " (and %d like it before)"
            args += (self._unlogged,)
        self._unlogged = 0
        logger.warning(msg, *args)
