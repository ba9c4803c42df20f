"""Many calls between official clients and ours: none is lost, and what each costs."""

from collections.abc import Callable
from typing import Any

import pytest

from interop.clients import Client, Place
from interop.pairings import GENERATIONS, ROOM_CLIENT, Run, gather, participant
from interop.room_server import RoomServer

pytestmark = pytest.mark.interop_load

CALLS, AT_ONCE, WARM_UP = 1_000, 64, 200
NEWEST = list(GENERATIONS)[-1]
TABLE = f"{CALLS:,} calls, {AT_ONCE} at once, on the test server"


@pytest.mark.parametrize(
    "kinds", [(NEWEST, ROOM_CLIENT), (ROOM_CLIENT, NEWEST), (NEWEST, NEWEST)], ids="-".join
)
def test_no_call_of_a_thousand_is_lost(
    kinds: tuple[str, str],
    run: Run,
    server: RoomServer,
    place: Place,
    record_property: Callable[[str, object], None],
) -> None:
    caller, responder = (
        participant(kind, identity, place, server)
        for kind, identity in zip(kinds, ("caller", "responder"), strict=True)
    )
    shown: dict[str, str] = {}

    async def calls(count: int) -> dict[str, Any]:
        answer = await caller.ask("calls", to="responder", count=count, at_once=AT_ONCE, timeout=30)
        assert answer["outcomes"] == {"right": count}
        return answer

    async def cpu(client: Client) -> float:
        return float((await client.ask("cpu"))["cpu_seconds"])

    async def main() -> None:
        try:
            await gather("load-" + "-".join(kinds).replace(" ", "-"), caller, responder)
            await calls(WARM_UP)
            before = [await cpu(caller), await cpu(responder)]
            seconds = (await calls(CALLS))["seconds"]
            used = [await cpu(caller) - before[0], await cpu(responder) - before[1]]
        finally:
            await caller.aclose()
            await responder.aclose()
        shown["lost"] = "0"
        shown["calls a second"] = f"{CALLS / seconds:.0f}"
        for role, spent in zip(("caller", "responder"), used, strict=True):
            shown[f"CPU a call, {role}"] = f"{1000 * spent / CALLS:.2f} ms"

    run(main())
    record_property("cells", [(TABLE, row, " → ".join(kinds), text) for row, text in shown.items()])
