"""How thorough the tests are: chosen by RPCPROTO_PROFILE=fast|deep|night, fast by default."""

import os
from typing import TypeVar

T = TypeVar("T")

PROFILE = os.environ.get("RPCPROTO_PROFILE", "fast")


def choose(*, fast: T, deep: T, night: T) -> T:
    return {"fast": fast, "deep": deep, "night": night}[PROFILE]
