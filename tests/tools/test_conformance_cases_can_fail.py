"""Each case of the conformance suite can fail: a testee that is wrong in one way fails it."""

import anyio
import pytest
from more_wrong_ways import MORE_WRONG_WAYS
from wrong_ways import WRONG_WAYS, Right

from rpcproto.conformance.case import Level
from rpcproto.conformance.cases import CASES
from rpcproto.conformance.judge import Judge, select
from rpcproto.conformance.results import Verdict

ALL = (*MORE_WRONG_WAYS, *WRONG_WAYS)
RED = {Verdict.FAIL, Verdict.NOT_STRICT}


def names(numbers: str) -> list[str]:
    return [f"RPC-{number}" for number in numbers.split()]


def is_red(testee: type[Right], case_id: str) -> bool:
    """Whether a case that is played by itself fails, with one of the client_protocols at least."""
    for play in select(CASES, only=[case_id]):
        (result,) = anyio.run(Judge(testee()).run, [play]).results
        assert result.verdict is not Verdict.HARNESS_ERROR, result.seen
        if result.verdict in RED:
            return True
    return False


@pytest.mark.parametrize(("numbers", "testee"), ALL, ids=[numbers for numbers, _ in ALL])
def test_a_wrong_testee_fails_the_cases_about_it(numbers: str, testee: type[Right]) -> None:
    assert [name for name in names(numbers) if not is_red(testee, name)] == []


def test_for_each_case_that_judges_there_is_a_testee_that_fails_it() -> None:
    seen = {name for numbers, _ in ALL for name in names(numbers)}
    judging = {case.case_id for case in CASES if case.level is not Level.INFO}
    assert judging == seen
