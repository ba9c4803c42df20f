"""The same cases on LiveKit's real server, which gets killed as well: `make interop-server`."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from interop.cases import CASES, Act
from interop.encryption import SHARED
from interop.livekit_server import LiveKitServer, livekit_server
from interop.load import LOAD_PAIRS, load, load_table
from interop.matrix import OK
from interop.pairings import (
    GO,
    OURS_TO_THEIRS,
    PROTOCOLS,
    ROOM_CLIENT,
    THEIRS_TO_OURS,
    Meeting,
    Pairing,
    Run,
    skip_what_cannot_be,
)

pytestmark = pytest.mark.interop_server

SERVER = "livekit-server"
PAIRINGS = [
    Pairing(SERVER, ROOM_CLIENT, generation, keys)
    for keys in (None, SHARED)
    for generation in PROTOCOLS
] + [Pairing(SERVER, ROOM_CLIENT, GO, SHARED)]
KILLED = "the server is killed in mid-call, and comes back"


def cell_of(params: dict[str, Any]) -> tuple[str, str, str] | None:
    """Where in the table a result stands."""
    if "kinds" in params:
        return None
    pairing: Pairing = params["meeting_on_livekit"]
    return pairing.table, params.get("case", KILLED), pairing.column(params["direction"])


@pytest.fixture(scope="session")
def livekit(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveKitServer]:
    """The real server."""
    server = livekit_server(tmp_path_factory.mktemp("livekit"))
    run(server.start())
    yield server
    run(server.kill())


@pytest.fixture(scope="session", params=PAIRINGS, ids=Pairing.label)
def meeting_on_livekit(
    request: pytest.FixtureRequest, run: Run, livekit: LiveKitServer
) -> Iterator[Meeting]:
    """Two participants in one of its rooms."""
    meeting = Meeting(request.param, livekit.place, None)
    yield meeting
    run(meeting.part())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("direction", [THEIRS_TO_OURS, OURS_TO_THEIRS])
def test_official_clients_and_ours_meet_on_the_real_server(
    meeting_on_livekit: Meeting,
    direction: str,
    case: str,
    livekit: LiveKitServer,
    run: Run,
    record_property: Callable[[str, object], None],
) -> None:
    skip_what_cannot_be(meeting_on_livekit.pairing, case)

    async def main() -> None:
        act = await meeting_on_livekit.play(direction, CASES[case])
        record_property("with", livekit.version)
        record_property("shown", f"{OK} {act.note}".strip())

    run(main())


@pytest.mark.interop_load
@pytest.mark.parametrize("kinds", LOAD_PAIRS, ids="-".join)
def test_no_call_of_a_thousand_is_lost_on_the_real_server(
    kinds: tuple[str, str],
    livekit: LiveKitServer,
    run: Run,
    record_property: Callable[[str, object], None],
) -> None:
    async def main() -> None:
        cells = [
            (load_table(SERVER), row, " → ".join(kinds), text)
            for row, text in (await load(kinds, livekit.place, None)).items()
        ]
        record_property("with", livekit.version)
        record_property("cells", cells)

    run(main())


@pytest.mark.parametrize("direction", [THEIRS_TO_OURS, OURS_TO_THEIRS])
def test_calls_end_when_the_server_is_killed_and_work_when_it_is_back(
    meeting_on_livekit: Meeting,
    direction: str,
    livekit: LiveKitServer,
    run: Run,
    record_property: Callable[[str, object], None],
) -> None:
    if not livekit.is_ours:
        pytest.skip("the server that LIVEKIT_URL names is not ours to kill")
    skip_what_cannot_be(meeting_on_livekit.pairing, KILLED)

    async def kill(act: Act) -> None:
        call = await act.hang("killed", 15)
        await livekit.kill()
        if direction == OURS_TO_THEIRS:
            outcome = await call
            assert outcome.get("code") == 1503, outcome
        await livekit.start()
        await act.caller.ask("wait", identity=act.responder.identity)
        await act.reach()
        outcome = await call
        act.note = f"{outcome['code']} after {outcome['seconds']:.0f} s"

    async def main() -> None:
        async with asyncio.timeout(90):
            act = await meeting_on_livekit.play(direction, kill)
        record_property("with", livekit.version)
        record_property("shown", f"{OK} {act.note}")

    run(main())
