"""How thorough the tests are: chosen by RPCPROTO_PROFILE=fast|deep|night, fast by default.

And what Hypothesis does in all of them: nothing depends on how fast the machine is, the fast
profile has the same runs each time, and a failure prints what repeats it.
"""

import os
from typing import TypeVar

from hypothesis import HealthCheck, settings

T = TypeVar("T")

PROFILE = os.environ.get("RPCPROTO_PROFILE", "fast")


def choose(*, fast: T, deep: T, night: T) -> T:
    return {"fast": fast, "deep": deep, "night": night}[PROFILE]


settings.register_profile(
    "rpcproto",
    deadline=None,
    derandomize=PROFILE == "fast",
    database=None,
    print_blob=True,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("rpcproto")
