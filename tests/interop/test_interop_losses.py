"""Calls through losses of the signalling and of the network, on both servers."""

from collections.abc import Callable
from pathlib import Path

import pytest

from interop.losses import KINDS, LOSS_PAIRS, NEWEST, Loss, losses, scene, scene_on_test_server
from interop.matrix import OK
from interop.pairings import STACKS, TEST_SERVER, Run
from interop.test_interop_server import SERVER

pytestmark = pytest.mark.interop_load

CALLS, AT_ONCE, LOSSES = 1_000, 64, 20
FEW_CALLS = 60
LONG = 17.0
"""Seconds after which the server has given up the WebRTC connection, but not the session."""
SHORT = [Loss(kind, 3.0) for kind in KINDS]
CASES = [
    *((TEST_SERVER, loss) for loss in SHORT),
    *(
        pytest.param(SERVER, loss, marks=pytest.mark.interop_server)
        for loss in (*SHORT, Loss("the network", LONG))
    ),
]

each_pair = pytest.mark.parametrize("kinds", LOSS_PAIRS, ids="-".join)


@each_pair
@pytest.mark.parametrize(("server", "loss"), CASES, ids=str)
def test_calls_live_through_a_loss(
    kinds: tuple[str, str],
    server: str,
    loss: Loss,
    run: Run,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    async def main() -> None:
        where = scene(kinds, tmp_path) if server == SERVER else scene_on_test_server(kinds)
        async with where as played:
            result = await played.play(FEW_CALLS, AT_ONCE, [loss])
            table = f"{FEW_CALLS} calls through one loss, {server}"
            record_property("cells", [(table, str(loss), " → ".join(kinds), shown(result))])
            record_property("with", played.version)
        if loss.seconds < LONG or can_restart_ice(kinds):
            require_none_lost(kinds, result)

    run(main())


def can_restart_ice(kinds: tuple[str, str]) -> bool:
    """Whether the clients survive that the server has given up the WebRTC connection."""
    return all(kind not in STACKS or STACKS[kind] == "wrtc" for kind in kinds)


def shown(result: dict[str, str]) -> str:
    """One cell for all."""
    failed, twice, longest = result.values()
    if (failed, twice) == ("0", "0"):
        return f"{OK} {longest}"
    return f"failed: {failed}; ran twice: {twice}"


@pytest.mark.interop_server
@each_pair
def test_no_call_of_a_thousand_fails_or_runs_twice_through_twenty_losses(
    kinds: tuple[str, str], run: Run, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    async def main() -> None:
        async with scene(kinds, tmp_path) as played:
            result = await played.play(CALLS, AT_ONCE, losses(LOSSES))
            table = f"{CALLS:,} calls through {LOSSES} losses of 1 to 5 s, {SERVER}"
            record_property(
                "cells", [(table, row, " → ".join(kinds), result[row]) for row in result]
            )
            record_property("with", played.version)
        require_none_lost(kinds, result)

    run(main())


def require_none_lost(kinds: tuple[str, str], result: dict[str, str]) -> None:
    """LiveKit's own clients are measured, not judged."""
    if NEWEST not in kinds:
        assert (result["calls that failed"], result["calls that ran twice"]) == ("0", "0"), result
