"""LiveKit's own clients and ours in one room, case by case."""

from collections.abc import Callable
from typing import Any

import pytest

from interop.browser import browser_version
from interop.cases import CASES
from interop.matrix import OK
from interop.pairings import (
    BROWSER,
    ENGINE,
    ON_AIORTC,
    OURS_TO_THEIRS,
    PROTOCOLS,
    ROOM_CLIENT,
    TEST_SERVER,
    THEIRS_TO_OURS,
    Meeting,
    Pairing,
    Run,
)

PAIRINGS = [
    pytest.param(
        Pairing(TEST_SERVER, ours, theirs),
        marks=pytest.mark.interop_browser if theirs == BROWSER else pytest.mark.interop,
        id=f"{theirs}-{ours}",
    )
    for ours in (ENGINE, ROOM_CLIENT, ON_AIORTC)
    for theirs in PROTOCOLS
]


def cell_of(params: dict[str, Any]) -> tuple[str, str, str]:
    """Where in the table a result stands."""
    pairing: Pairing = params["meeting"]
    return pairing.table, params["case"], pairing.column(params["direction"])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("direction", [THEIRS_TO_OURS, OURS_TO_THEIRS])
@pytest.mark.parametrize("meeting", PAIRINGS, indirect=True, scope="session")
def test_official_clients_call_us_and_we_call_them(
    meeting: Meeting,
    direction: str,
    case: str,
    run: Run,
    record_property: Callable[[str, object], None],
) -> None:
    async def main() -> None:
        act = await meeting.play(direction, CASES[case])
        if meeting.pairing.theirs == BROWSER:
            record_property("with", browser_version())
        record_property("shown", f"{OK} {act.note}".strip())

    run(main())
