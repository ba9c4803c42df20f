"""The long texts that an engine knows: a journal writes what the host echoes as a reference."""

from collections import Counter
from typing import Final

from rpcproto.recording.values import LongText

_MAX_RECENT_TEXTS: Final = 256


class LongTexts:
    """The long texts of events, which the host may hand back to the engine, by their SHA-256.

    The payload of an invocation is known while it runs. Of the other texts the most recent are
    known: at most 256, of at most `max_bytes` in all. A replay keeps the texts, a journal does not.
    """

    def __init__(self, max_bytes: int, *, keeps: bool) -> None:
        self._max_bytes = max_bytes
        self._keeps = keeps
        self._texts: dict[str, str] = {}
        self._running: dict[object, LongText] = {}
        self._uses = Counter[str]()
        """How many of the running invocations have each text."""
        self._recent: dict[str, int] = {}
        """Lengths of the texts that no running invocation needs, the oldest first."""
        self._recent_bytes = 0

    def __contains__(self, text: LongText) -> bool:
        return text.sha256 in self._texts

    def __getitem__(self, text: LongText) -> str:
        """The text, in a replay; raises KeyError if it is not known."""
        return self._texts[text.sha256]

    def add(self, long: LongText, text: str, invocation_id: int = 0) -> None:
        """An event has this text; `invocation_id` if it is the payload of an invocation."""
        self._texts[long.sha256] = text if self._keeps else ""
        if invocation_id:
            self._running[invocation_id] = long
            self._uses[long.sha256] += 1
        else:
            self._add_recent(long)

    def invocation_ended(self, invocation_id: object) -> None:
        """The invocation is answered or abandoned, if there was one of this id."""
        long = self._running.pop(invocation_id, None)
        if long is None:
            return
        self._uses[long.sha256] -= 1
        if not self._uses[long.sha256]:
            del self._uses[long.sha256]
        self._add_recent(long)

    def _add_recent(self, long: LongText) -> None:
        self._recent_bytes += long.length - self._recent.pop(long.sha256, 0)
        self._recent[long.sha256] = long.length
        while len(self._recent) > _MAX_RECENT_TEXTS or self._recent_bytes > self._max_bytes:
            oldest = next(iter(self._recent))
            self._recent_bytes -= self._recent.pop(oldest)
            if oldest not in self._uses:
                del self._texts[oldest]
