"""How long to wait between attempts to reach a server again."""

import random
from collections.abc import Callable, Iterator
from typing import Final

FIRST_WAIT: Final = 0.3
"""The longest first wait, in seconds."""
FACTOR: Final = 2
LONGEST_WAIT: Final = 7.0
"""Each further wait can be FACTOR times as long, up to this."""


def waits(draw: Callable[[float, float], float] = random.uniform) -> Iterator[float]:
    """Yield the wait before each attempt, in seconds, for ever: exponential backoff with full
    jitter, as LiveKit's clients have it. `draw` returns a number between two others."""
    longest = FIRST_WAIT
    while True:
        yield draw(0, longest)
        longest = min(longest * FACTOR, LONGEST_WAIT)
