"""Request ids for engines that run in the real world."""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Final

_POOL_IDS: Final = 256
_ID_BYTES: Final = 16


def _in_every_id(digits: str) -> int:
    """What these hexadecimal digits of one id are, side by side for all ids of a pool."""
    return int(digits * _POOL_IDS, 16)


_RANDOM: Final = _in_every_id("ffffffffffff0fff3fffffffffffffff")
_FIXED: Final = _in_every_id("00000000000040008000000000000000")
"""The version, 4, and the variant of RFC 9562."""
_ID_CHARACTERS: Final = 36
_DIGIT_COLUMNS: Final = [at for at in range(_ID_CHARACTERS) if at not in (8, 13, 18, 23)]
"""Where an id has digits; between them it has dashes."""
_split: Final = re.compile(f".{{{_ID_CHARACTERS}}}").findall


def random_ids() -> Callable[[], str]:
    """Return a source of random lower-case UUIDv4s for `RpcEngine(new_id=...)` (R13).

    It draws many ids at once from the system's random source, which is several times faster than
    `uuid.uuid4`. It is not thread-safe. After a fork, make a new one.
    """
    return chain.from_iterable(_pools()).__next__


def _pools() -> Iterator[Iterable[str]]:
    size = _POOL_IDS * _ID_BYTES
    text = bytearray(b"-" * (_POOL_IDS * _ID_CHARACTERS))
    while True:
        drawn = int.from_bytes(os.urandom(size)) & _RANDOM | _FIXED
        digits = drawn.to_bytes(size).hex().encode()
        # Column by column, all ids at once.
        for column, digit in enumerate(_DIGIT_COLUMNS):
            text[digit::_ID_CHARACTERS] = digits[column :: 2 * _ID_BYTES]
        yield _split(text.decode())
