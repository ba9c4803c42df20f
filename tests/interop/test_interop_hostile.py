"""Calls in a room that forges, repeats and holds back: ours end right, others are shown beside."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from interop.cases import Act
from interop.clients import Client, Place
from interop.hostile import HOSTILE_CASES, RIGHT
from interop.pairings import BROWSER, ENGINE, GENERATIONS, ROOM_CLIENT, Run, gather, participant
from rpcproto.conformance.room_server import RoomServer

NEWEST = "1.2.1"
PAIRS = [
    (ROOM_CLIENT, NEWEST),
    (NEWEST, ROOM_CLIENT),
    (ENGINE, NEWEST),
    (NEWEST, ENGINE),
    *((generation, generation) for generation in reversed(GENERATIONS)),
    (ROOM_CLIENT, BROWSER),
    (BROWSER, ROOM_CLIENT),
]


def cell_of(params: dict[str, Any]) -> tuple[str, str, str]:
    """Where in the table a result stands."""
    pair: tuple[str, str] = params["act"]
    table = "in a hostile room" + (", in a browser" if BROWSER in pair else "")
    return table, params["case"], " → ".join(pair)


@pytest.fixture(scope="session")
def act(
    request: pytest.FixtureRequest, run: Run, server: RoomServer, place: Place
) -> Iterator[Act]:
    """A caller, a responder, and a third one."""
    room = "hostile-" + "-".join(request.param).replace(" ", "-")
    clients: list[Client] = [
        participant(kind, identity, place, server)
        for kind, identity in zip(
            (*request.param, ENGINE), ("caller", "responder", "mallory"), strict=True
        )
    ]
    run(gather(room, *clients))
    yield Act(room, clients[0], clients[1], is_v1="1.1.8" in request.param, sees_departures=True)
    for client in clients:
        run(client.aclose())


@pytest.mark.parametrize("case", HOSTILE_CASES)
@pytest.mark.parametrize(
    "act",
    [
        pytest.param(
            pair,
            marks=pytest.mark.interop_browser if BROWSER in pair else pytest.mark.interop,
            id="-".join(pair),
        )
        for pair in PAIRS
    ],
    indirect=True,
    scope="session",
)
def test_our_calls_end_right_in_a_hostile_room(
    act: Act,
    case: str,
    server: RoomServer,
    run: Run,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    play, decided_by = HOSTILE_CASES[case]
    kinds = dict(zip(("caller", "responder"), request.node.callspec.params["act"], strict=True))
    if ENGINE in kinds.values() and "re-join" in case:
        pytest.skip("an engine in the server's process has no connection that could break")

    async def main() -> None:
        outcome = await play(act, server.room(act.room), server)
        record_property("shown", outcome)
        if any(kinds[role] in (ENGINE, ROOM_CLIENT) for role in decided_by):
            assert outcome == RIGHT

    run(main())
