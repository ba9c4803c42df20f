"""The matrix of faults by case: its tables fit, and the suite sees a fault that is put in."""

import anyio
import pytest
from conform_faults import TESTEES, UNSEEN, run_with, said, try_out
from faults import FAULTS
from paths import ROOT


def test_what_no_peer_can_see_is_in_the_table_of_faults() -> None:
    names = {fault.name for fault in FAULTS}
    assert set(UNSEEN) <= names
    assert all(UNSEEN.values())


@pytest.mark.parametrize(
    ("name", "case_id"), [("a departure with a grace ends its calls at once", "RPC-6.4*")]
)
def test_a_fault_that_a_peer_can_see_is_seen(
    monkeypatch: pytest.MonkeyPatch, name: str, case_id: str
) -> None:
    """In the section in which it is; the command plays all of them."""
    [fault] = [fault for fault in FAULTS if fault.name == name]
    graceful = [testee for testee in TESTEES if testee.endswith("graceful")]
    for testee in list(TESTEES):
        if testee not in graceful:
            monkeypatch.delitem(TESTEES, testee)

    async def matrix() -> list[str]:
        sound = [said(await run_with(testee, ROOT)) for testee in graceful]
        return list((await try_out(fault, sound)).seen_by)

    assert case_id in anyio.run(matrix)
