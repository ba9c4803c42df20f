"""Many calls at once, and what they cost."""

from typing import Final

from interop.clients import Client, Place
from interop.pairings import GENERATIONS, ROOM_CLIENT, gather, participant
from rpcproto.conformance.room_server import RoomServer

CALLS: Final = 1_000
AT_ONCE: Final = 64
WARM_UP: Final = 200
NEWEST: Final = list(GENERATIONS)[-1]
LOAD_PAIRS: Final = [(NEWEST, ROOM_CLIENT), (ROOM_CLIENT, NEWEST), (NEWEST, NEWEST)]


def load_table(server: str) -> str:
    """The name of the table of results."""
    return f"{CALLS:,} calls, {AT_ONCE} at once, {server}"


async def load(kinds: tuple[str, str], place: Place, server: RoomServer | None) -> dict[str, str]:
    """Let one call `echo` of the other; what is measured, by its name. Fails if a call is lost."""
    caller, responder = clients = [
        participant(kind, identity, place, server)
        for kind, identity in zip(kinds, ("caller", "responder"), strict=True)
    ]
    try:
        await gather("load-" + "-".join(kinds).replace(" ", "-"), *clients)
        await _calls(caller, WARM_UP)
        before = [await _cpu_seconds(client) for client in clients]
        seconds = await _calls(caller, CALLS)
        used = [await _cpu_seconds(client) for client in clients]
    finally:
        await caller.aclose()
        await responder.aclose()
    of_caller, of_responder = (
        f"{1000 * (end - begin) / CALLS:.2f} ms" for begin, end in zip(before, used, strict=True)
    )
    return {
        "lost": "0",
        "calls a second": f"{CALLS / seconds:.0f}",
        "CPU a call, caller": of_caller,
        "CPU a call, responder": of_responder,
    }


async def _calls(caller: Client, count: int) -> float:
    answer = await caller.ask("calls", to="responder", count=count, at_once=AT_ONCE, timeout=30)
    assert answer["outcomes"] == {"right": count}
    return float(answer["seconds"])


async def _cpu_seconds(client: Client) -> float:
    return float((await client.ask("cpu"))["cpu_seconds"])
