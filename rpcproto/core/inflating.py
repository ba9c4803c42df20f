"""Compressed input, inflated in steps: no bound is passed before it is seen, and no input keeps an
engine busy (R25, R28, R47)."""

import zlib
from typing import Final

MAX_INFLATED: Final = 1024 * 1024
"""Bytes that one input inflates at most, all streams together (R47)."""
MAX_BARREN: Final = 4 * 1024
"""Bytes of compressed input in a row that may yield nothing (R47)."""

_OUTPUT_STEP: Final = 64 * 1024
_INPUT_STEP: Final = 2 * 1024
"""So much compressed input is read at a time; only then is it known what it yields. One input reads
no more that yields nothing, or next to nothing: to prepare a block without content takes a while.
"""


class InflateError(Exception):
    """The input is not what it should be; the text says why."""


class Effort:
    """What one input may still inflate, all streams together (R47)."""

    __slots__ = ("barren_bytes", "inflated_bytes")

    def __init__(self) -> None:
        self.inflated_bytes: int = MAX_INFLATED
        self.barren_bytes: int = _INPUT_STEP

    @property
    def is_spent(self) -> bool:
        """Whether the rest has to wait."""
        return self.inflated_bytes <= 0 or self.barren_bytes <= 0


class Inflater:
    """The compressed input of one body: what has come of it and has not been read yet."""

    __slots__ = ("_barren_bytes", "_has_more", "_inflate", "counted_bytes", "is_complete", "rest")

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self.rest: bytearray = bytearray()
        self.counted_bytes: int = 0
        """Bytes of the rest that the sender holds (R47)."""
        self.is_complete: bool = False
        """Whether all has come, and only the rest is to be read."""
        self._barren_bytes = 0
        """Input that was read since there was output."""
        self._has_more = False
        """Whether there is more output although there may be no more input."""

    @property
    def is_waiting(self) -> bool:
        """Whether something is left to be inflated."""
        return self._has_more or bool(self.rest)

    @property
    def has_ended(self) -> bool:
        """Whether the final block has come (R25)."""
        return self._inflate.eof

    def next_step(self, effort: Effort) -> bytes:
        """Inflate the next step of the rest; raises InflateError."""
        inflate = self._inflate
        if inflate.eof:
            raise InflateError("bytes after the end of the compressed body")
        content = bytes(self.rest[:_INPUT_STEP])
        limit = min(_OUTPUT_STEP, effort.inflated_bytes)
        try:
            step = inflate.decompress(content, limit)
        except zlib.error:
            raise InflateError("the compressed body is not raw DEFLATE") from None
        unread = len(inflate.unused_data) or len(inflate.unconsumed_tail)
        del self.rest[: len(content) - unread]
        self._has_more = len(step) == limit and not inflate.eof
        effort.inflated_bytes -= len(step)
        if 2 * len(step) < len(content):
            effort.barren_bytes -= len(content)
        self._barren_bytes = 0 if step else self._barren_bytes + len(content)
        if self._barren_bytes > MAX_BARREN:
            raise InflateError("compressed input without content")
        return step


def inflated_at_once(content: bytes, total_length: int | None) -> bytes | None:
    """A body that is whole and takes one step; None where only an `Inflater` can tell.

    One that does not say that a step is enough is not tried: an `Inflater` would then inflate it
    anew, with the whole effort of an input (R47).
    """
    if len(content) > _INPUT_STEP or total_length is None or total_length > _OUTPUT_STEP:
        return None
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        body = inflate.decompress(content, _OUTPUT_STEP)
    except zlib.error:
        return None
    return body if inflate.eof and not inflate.unused_data else None
