"""Request ids that are the same in every run."""

import itertools
import re
from collections.abc import Callable


def counting_ids(prefix: str = "a") -> Callable[[], str]:
    """Return a source of ids for `RpcEngine(new_id=...)`: valid lower-case UUIDv4s with a counter.

    `prefix` distinguishes sources: 1 to 8 lower-case hexadecimal digits, padded with zeros on the
    right. The first id of `counting_ids("a")` is a0000000-0000-4000-8000-000000000001.

    Raises:
        ValueError: The prefix is invalid.
    """
    if not re.fullmatch("[0-9a-f]{1,8}", prefix):
        raise ValueError(f"a prefix is 1 to 8 lower-case hexadecimal digits, not {prefix!r}")
    numbers = itertools.count(1)
    return lambda: f"{prefix:0<8}-0000-4000-8000-{next(numbers):012d}"
