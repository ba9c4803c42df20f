"""Bytes taken as a row of choices."""

from collections.abc import Sequence
from typing import TypeVar

_T = TypeVar("_T")


def with_new(options: Sequence[_T], *new: _T) -> tuple[_T, ...]:
    """Options for every byte, the new ones for the largest: all others mean what they meant without
    the new ones, so that corpora stay good."""
    times = (256 - len(new)) // len(options)
    old = [*options] * times
    return (*old, *(new[at % len(new)] for at in range(256 - len(old))))


class Choices:
    """Each choice takes a byte or a few from the front; when there are none left it is 0.

    So that a fuzzer which changes one byte changes one choice, and every input means something.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def are_over(self) -> bool:
        return self._at >= len(self._data)

    def byte(self) -> int:
        [number] = self.take(1) or b"\0"
        return number

    def number(self, max_bytes: int) -> int:
        """Of 0 to `max_bytes` bytes, as the first byte says: small ones are as likely as large."""
        return int.from_bytes(self.take(self.byte() % (max_bytes + 1)))

    def flag(self) -> bool:
        return self.byte() % 2 == 1

    def of(self, options: Sequence[_T]) -> _T:
        return options[self.byte() % len(options)]

    def take(self, count: int) -> bytes:
        """The next `count` bytes, or as many as there are."""
        start, self._at = self._at, self._at + count
        return self._data[start : self._at]

    def short_bytes(self) -> bytes:
        """As many bytes as the next one says."""
        return self.take(self.byte())

    def text(self) -> str:
        """A text of at most 255 bytes of UTF-8, with anything in it that is a text."""
        return self.short_bytes().decode(errors="ignore")

    def rest(self) -> bytes:
        return self.take(len(self._data))
