"""What the stateful tests share: how often they run, and how time moves in them."""

import math
from collections.abc import Sequence
from typing import TypeVar

from hypothesis import Phase, settings
from hypothesis import strategies as st
from profiles import choose

_T = TypeVar("_T")
_D = TypeVar("_D")

SETTINGS = settings(
    max_examples=choose(fast=100, deep=2_000, night=20_000),
    stateful_step_count=50,
    phases=(Phase.generate, Phase.shrink),
)
"""The same runs each time in the fast profile, others each time in the others. What fails is
printed with a line that repeats it."""

MOMENTS = st.sampled_from(["just after", "at", "just before"])
"""Where time goes: never anywhere but to the next deadline."""


def moved(now: float, deadline: float | None, moment: str) -> float:
    """The instant just before, at, or just after a deadline; `now` if there is none."""
    if deadline is None:
        return now
    if moment == "at":
        return deadline
    return max(now, math.nextafter(deadline, math.inf if moment == "just after" else -math.inf))


def recent(items: Sequence[_T], at: int, otherwise: _D) -> _T | _D:
    """The item that is `at` before the last, as far as there are so many."""
    return items[-1 - at % len(items)] if items else otherwise
