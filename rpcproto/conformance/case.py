"""What a case is: what happens, what must be seen, and why; and how a case says that it was not."""

import re
from collections.abc import Awaitable, Callable, Collection
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from rpcproto.conformance.scene import Scene

SECTIONS: Final = {
    1: "The request as sent",
    2: "Acks",
    3: "The forms of an answer",
    4: "Timers",
    5: "Errors, codes and limits",
    6: "Departures and returns",
    7: "Who may answer",
    8: "Duplicates and replays",
    9: "Bodies coming in",
    10: "Bodies going out",
    11: "Inline and compressed bodies",
    12: "Bounds against a hostile peer",
    13: "Encryption",
    14: "The server's own calls",
    15: "Unknown and malformed packets",
    16: "Drawn conversations",
}
"""The sections by number."""

ALL_PROTOCOLS: Final = (0, 1, 2)


class Level(Enum):
    """How much a case counts."""

    MUST = "must"
    """A peer that is otherwise right breaks or is deceived without it."""
    SHOULD = "should"
    """Robustness; some released SDKs do without. It counts with `--strict`."""
    INFO = "info"
    """No judgement: the report says what the testee does."""


class Unmet(Exception):  # noqa: N818 (a finding, not an error of the program)
    """What a case expected was not seen."""

    def __init__(self, expected: str, seen: str) -> None:
        super().__init__(f"expected {expected}; seen: {seen}")
        self.expected: str = expected
        self.seen: str = seen


class NotPossible(Exception):  # noqa: N818
    """The testee cannot play this case, and need not; the text says why."""


Play: TypeAlias = "Callable[[Scene], Awaitable[str | None]]"
"""Plays a case. A case of level INFO returns what it saw; others return None."""


class Case(NamedTuple):
    """One case of the suite."""

    section: int
    number: int
    """Within its section; never given to another case."""
    title: str
    """What happens."""
    sees: str
    """What must be seen."""
    rule: str
    """The rules that it comes from, such as `R14` or `R14 R16`; see docs/rules.md."""
    why: str
    """One sentence: what happens to whom if it is not so."""
    level: Level
    play: Play
    methods: Collection[str]
    """The methods of the testee that it needs."""
    protocols: Collection[int]
    """The client_protocols of the suite's participants that it is played with."""
    reads: int
    """The least client_protocol that the testee must announce."""
    seconds: float
    """How long it takes on real time; cases of 1 s and more are played side by side."""

    name: str = ""
    """The name of a case that is drawn, and has no number of its own."""

    @property
    def case_id(self) -> str:
        """The name of the case, such as `RPC-4.3`."""
        return self.name or f"RPC-{self.section}.{self.number}"

    @property
    def is_slow(self) -> bool:
        """Whether it is mostly waiting."""
        return self.seconds >= 1

    @property
    def is_encrypted(self) -> bool:
        """Whether it needs a testee that encrypts, with a fresh connection of its own."""
        return self.section == ENCRYPTION


DRAWN: Final = 16
"""The section of the cases that are drawn."""
ENCRYPTION: Final = 13
"""The section whose testee is given a passphrase."""

_registered: dict[str, Case] = {}


def case(
    name: str,
    title: str,
    *,
    sees: str,
    rule: str,
    why: str,
    level: Level = Level.MUST,
    methods: Collection[str] = ("conform.echo",),
    protocols: Collection[int] = ALL_PROTOCOLS,
    reads: int = 0,
    seconds: float = 0,
) -> Callable[[Play], Play]:
    """Make a case of the function that plays it, under a number such as `"4.3"`."""
    section, number = map(int, name.split("."))
    assert section in SECTIONS
    assert all(re.fullmatch(r"R\d+|L\d+|A\d+|C", one) for one in rule.split()), rule

    def register(play: Play) -> Play:
        made = Case(
            section, number, title, sees, rule, why, level, play, methods, protocols, reads, seconds
        )
        assert made.case_id not in _registered, f"there are two cases {made.case_id}"
        _registered[made.case_id] = made
        return play

    return register


def registered() -> list[Case]:
    """All cases that were made so far, by their numbers."""
    return sorted(_registered.values(), key=lambda one: (one.section, one.number))
