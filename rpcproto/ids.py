"""Request ids for engines that run in the real world."""

import os
from collections.abc import Callable
from typing import Final

_POOL_IDS: Final = 256


def random_ids() -> Callable[[], str]:
    """A source of random lower-case UUIDv4 texts for `RpcEngine(new_id=...)` (R13).

    It draws on the system's random source for many ids at once, which costs a call a fraction of
    what `uuid.uuid4` does. Not thread-safe; after a fork, make a new one.
    """
    pool: list[str] = []

    def new_id() -> str:
        if not pool:
            pool.extend(_uuid4_texts(os.urandom(16 * _POOL_IDS).hex()))
        return pool.pop()

    return new_id


def _uuid4_texts(digits: str) -> list[str]:
    """One id for every 32 hexadecimal digits, with version 4 and the RFC 9562 variant set."""
    return [
        f"{d[:8]}-{d[8:12]}-4{d[13:16]}-{'89ab'[int(d[16], 16) & 3]}{d[17:20]}-{d[20:]}"
        for d in (digits[i : i + 32] for i in range(0, len(digits), 32))
    ]
