"""Many calls at once, large ones, and what they cost."""

import subprocess
import sys
from pathlib import Path
from typing import Final

from interop.cases import noise
from interop.clients import ROOT, Client, Place
from interop.pairings import (
    GENERATIONS,
    ON_AIORTC,
    ROOM_CLIENT,
    gather,
    official_python,
    participant,
)
from rpcproto.conformance.room_server import RoomServer

CALLS: Final = 1_000
AT_ONCE: Final = 64
WARM_UP: Final = 200
LARGE: Final = 1_000_000
LARGE_CALLS: Final = 20
NEWEST: Final = list(GENERATIONS)[-1]
LOAD_PAIRS: Final = [
    (NEWEST, NEWEST),
    (ROOM_CLIENT, ROOM_CLIENT),
    (ON_AIORTC, ON_AIORTC),
    (NEWEST, ROOM_CLIENT),
    (ROOM_CLIENT, NEWEST),
    (NEWEST, ON_AIORTC),
    (ON_AIORTC, NEWEST),
]
EXTRAS: Final = {ROOM_CLIENT: "livekit", ON_AIORTC: "livekit-aiortc"}

# The bytes of a distribution and of all that it requires, as the Python says it has installed them.
INSTALLED_BYTES: Final = """
import sys
from importlib.metadata import distribution
from pip._vendor.packaging.requirements import Requirement

sizes, waiting = {}, [Requirement(sys.argv[1])]
while waiting:
    wanted = waiting.pop()
    if wanted.name in sizes and not wanted.extras:
        continue
    found = distribution(wanted.name)
    sizes[wanted.name] = sum(path.size or 0 for path in found.files or ())
    for text in found.requires or ():
        needed = Requirement(text)
        environments = [{"extra": extra} for extra in (wanted.extras or {""})]
        if not needed.marker or any(map(needed.marker.evaluate, environments)):
            waiting.append(needed)
print(sum(sizes.values()))
"""


def load_table(server: str) -> str:
    """The name of the table of results."""
    return f"{CALLS:,} calls, {AT_ONCE} at once, {server}"


async def load(kinds: tuple[str, str], place: Place, server: RoomServer | None) -> dict[str, str]:
    """Let one call the other; what is measured, by its name. Fails if a call is lost."""
    caller, responder = clients = [
        participant(kind, identity, place, server)
        for kind, identity in zip(kinds, ("caller", "responder"), strict=True)
    ]
    try:
        await gather("load-" + "-".join(kinds).replace(" ", "-"), *clients)
        idle = [await _resident_megabytes(client) for client in clients]
        await _calls(caller, WARM_UP)
        before = [await _cpu_seconds(client) for client in clients]
        seconds, p50, p99 = await _calls(caller, CALLS)
        used = [await _cpu_seconds(client) for client in clients]
        large = await caller.ask("upload", to="responder", payload=noise(LARGE), count=LARGE_CALLS)
        full = [await _resident_megabytes(client) for client in clients]
    finally:
        await caller.aclose()
        await responder.aclose()
    of_caller, of_responder = (
        f"{1000 * (end - begin) / CALLS:.2f} ms" for begin, end in zip(before, used, strict=True)
    )
    return {
        "lost": "0",
        "calls a second": f"{CALLS / seconds:.0f}",
        "median time of a call": f"{1000 * p50:.0f} ms",
        "99 of 100 calls within": f"{1000 * p99:.0f} ms",
        "CPU a call, caller": of_caller,
        "CPU a call, responder": of_responder,
        "1 MB, one call at a time": f"{LARGE * LARGE_CALLS / 1e6 / large['seconds']:.1f} MB/s",
        "resident, caller, idle": f"{idle[0]:.0f} MB",
        "resident, caller, at the end": f"{full[0]:.0f} MB",
        "installed, caller": f"{_installed_megabytes(kinds[0]):.0f} MB",
    }


async def _calls(caller: Client, count: int) -> tuple[float, float, float]:
    answer = await caller.ask("calls", to="responder", count=count, at_once=AT_ONCE, timeout=30)
    assert answer["outcomes"] == {"right": count}
    return answer["seconds"], answer["p50"], answer["p99"]


async def _cpu_seconds(client: Client) -> float:
    return float((await client.ask("cpu"))["cpu_seconds"])


async def _resident_megabytes(client: Client) -> float:
    return int((await client.ask("memory"))["resident_bytes"]) / 1e6


def _installed_megabytes(kind: str) -> float:
    """A package with all that it needs, without Python and pip."""
    ours = kind in EXTRAS
    python = Path(sys.executable) if ours else official_python(kind)
    package = f"rpcproto[{EXTRAS[kind]}]" if ours else "livekit"
    told = subprocess.run(
        (python, "-c", INSTALLED_BYTES, package), capture_output=True, text=True, check=True
    )
    size = int(told.stdout)
    if ours:  # installed for development: the code lies elsewhere
        size += sum(path.stat().st_size for path in (ROOT / "rpcproto").rglob("*.py*"))
    return size / 1e6
