"""Request ids for engines that run in the real world."""

import os
import re
from collections.abc import Callable
from typing import Final

_POOL_IDS: Final = 256
_ID_BYTES: Final = 16


def _in_every_id(digits: str) -> int:
    """What these hexadecimal digits of one id are, side by side for all ids of a pool."""
    return int(digits * _POOL_IDS, 16)


_RANDOM: Final = _in_every_id("ffffffffffff0fff3fffffffffffffff")
_FIXED: Final = _in_every_id("00000000000040008000000000000000")
"""The version, 4, and the variant of RFC 9562."""
_split: Final = re.compile("(.{8})(.{4})(.{4})(.{4})(.{12})").findall


def random_ids() -> Callable[[], str]:
    """A source of random lower-case UUIDv4 texts for `RpcEngine(new_id=...)` (R13).

    It draws on the system's random source for many ids at once, which costs a call a fraction of
    what `uuid.uuid4` does. Not thread-safe; after a fork, make a new one.
    """
    pool: list[str] = []

    def new_id() -> str:
        if not pool:
            size = _POOL_IDS * _ID_BYTES
            drawn = int.from_bytes(os.urandom(size)) & _RANDOM | _FIXED
            pool.extend(map("-".join, _split(drawn.to_bytes(size).hex())))
        return pool.pop()

    return new_id
