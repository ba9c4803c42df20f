"""What came of the cases: verdicts, results, and the exit code."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from rpcproto.conformance.attachment import Facts
from rpcproto.conformance.case import Case, Level
from rpcproto.conformance.scene import Passed
from rpcproto.recording import Trace


class Verdict(Enum):
    """What is said of one play of a case."""

    PASS = "pass"
    FAIL = "fail"
    NOT_STRICT = "not strict"
    """A SHOULD that is not kept."""
    INFO = "info"
    UNSUPPORTED = "unsupported"
    """The testee lacks a method or an ability that the case needs."""
    HARNESS_ERROR = "harness error"
    """A fault of the suite, never of the testee."""


@dataclass(frozen=True, slots=True)
class Result:
    """One case, played with participants of one client_protocol."""

    case: Case
    client_protocol: int
    verdict: Verdict
    seen: str = ""
    """What was seen instead; of a case of level INFO, what was seen; otherwise why there is no
    verdict."""
    expected: str = ""
    """What was not seen."""
    passed: Sequence[Passed] = ()
    """All that passed."""
    seconds: float = 0.0
    """How long it took, by the clock of the testee."""
    errors: str = ""
    """What the testee wrote to its standard error meanwhile."""

    def counts(self, strict: bool) -> bool:
        """Whether it makes the run fail."""
        if self.verdict is Verdict.NOT_STRICT:
            return strict
        return self.verdict in (Verdict.FAIL, Verdict.HARNESS_ERROR)

    def trace(self) -> Trace:
        """What passed, to be drawn."""
        trace = Trace()
        for at, sender, receiver, what in self.passed:
            if isinstance(what, str):
                trace.note(at, sender, what)
            else:
                trace.packet(at, sender, receiver, what)
        return trace


Play: TypeAlias = tuple[Case, int]
"""A case and the client_protocol of the participants."""


@dataclass(frozen=True, slots=True)
class Run:
    """A whole run."""

    facts: Facts
    results: Sequence[Result]
    """In the order of the cases."""
    stopped: str = ""
    """Why the run ended early, if it did."""

    def exit_code(self, *, strict: bool = False) -> int:
        """0: all that counts passed; 1: something failed; 2: no case was played."""
        if self.stopped or any(result.counts(strict) for result in self.results):
            return 1
        return 0 if any(r.verdict is not Verdict.UNSUPPORTED for r in self.results) else 2


def failure(level: Level) -> Verdict:
    """The verdict on a case that is not kept."""
    return {Level.MUST: Verdict.FAIL, Level.SHOULD: Verdict.NOT_STRICT, Level.INFO: Verdict.INFO}[
        level
    ]
