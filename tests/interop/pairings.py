"""Who meets whom, on which server; and what the machine must have for it."""

import asyncio
import itertools
import sys
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import ifaddr
import pytest

from interop.browser import VERSION as JS_VERSION
from interop.browser import BrowserClient
from interop.cases import Act
from interop.clients import CLIENT, ROOT, Client, EngineClient, Place, ProcessClient
from interop.encryption import EACH, Keys
from rpcproto.conformance.room_server import RoomServer
from rpcproto.livekit.stacks import Stack, installed_stacks

GENERATIONS: Final = {"1.1.8": 0, "1.1.13": 1, "1.2.1": 2}
"""The versions of LiveKit's Python package, and the client_protocol that each announces."""

BROWSER: Final = f"JS {JS_VERSION}"
PROTOCOLS: Final = GENERATIONS | {BROWSER: 2}
GO: Final = "Go 2.19.0"
"""LiveKit's SDK for Go, in encrypted rooms alone; it speaks RPC v1."""
TEST_SERVER: Final = "test server"
ENGINE, ROOM_CLIENT, ON_AIORTC = "engine", "room client", "room client on aiortc"
STACKS: Final[dict[str, Stack]] = {ROOM_CLIENT: "wrtc", ON_AIORTC: "aiortc"}
"""The WebRTC stacks of our room clients."""
THEIRS_TO_OURS: Final = "→ ours"
OURS_TO_THEIRS: Final = "ours →"

Run: TypeAlias = Callable[[Coroutine[Any, Any, None]], object]
"""Runs a coroutine on the loop that the server and the clients live on."""


class Pairing(NamedTuple):
    """One of ours and one of theirs, on a server."""

    server: str
    ours: str
    theirs: str
    keys: Keys | None = None
    """What the room is encrypted with."""

    def label(self) -> str:
        """Its name in the ids of tests and as a room."""
        names = (*self[:3], self.keys.name if self.keys else "")
        return "-".join(filter(None, names)).replace(" ", "-").replace(",", "")

    @property
    def table(self) -> str:
        """The table that it belongs to."""
        where = ", in a browser" if self.theirs == BROWSER else ""
        how = "" if self.keys is None else f", encrypted with {self.keys.name}"
        return f"{self.ours}, {self.server}{where}{how}"

    def column(self, direction: str) -> str:
        """Its column for one direction."""
        arrow = direction == THEIRS_TO_OURS
        return f"{self.theirs} → ours" if arrow else f"ours → {self.theirs}"


def official_python(generation: str) -> Path:
    """The Python that has this generation of LiveKit's package; skips where it cannot work."""
    addresses = (ip.ip for adapter in ifaddr.get_adapters() for ip in adapter.ips if ip.is_IPv4)
    if all(str(address).startswith("127.") for address in addresses):
        pytest.skip("LiveKit's native client needs an address that is not a loopback one")
    python = ROOT / ".venv" / f"livekit-{generation}" / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no environment with livekit {generation}; `make interop` makes it")
    return python


def go_program() -> Path:
    """The participant in `go/main.go`; skips where it has not been built."""
    program = ROOT / ".venv" / "livekit-go" / "client"
    if not program.exists():
        pytest.skip("no program with LiveKit's SDK for Go; `make interop` builds it with Go")
    return program


def participant(kind: str, identity: str, place: Place, server: RoomServer | None) -> Client:
    """One of any kind: LiveKit's package or page, our room client, or an engine of ours.

    Each is a process of its own, but for the engine, which lives in the server's.
    """
    if kind == ENGINE:
        assert server is not None
        return EngineClient(identity, place, server.room)
    if kind in STACKS:
        if STACKS[kind] not in installed_stacks():
            pytest.skip(f"{STACKS[kind]} is not installed")
        return ProcessClient(identity, place, Path(sys.executable), CLIENT, STACKS[kind])
    if kind == BROWSER:
        return BrowserClient(identity, place)
    if kind == GO:
        return ProcessClient(identity, place, go_program())
    return ProcessClient(identity, place, official_python(kind), CLIENT, "official")


async def gather(room: str, *clients: Client) -> None:
    """Let all of them join, and wait until each knows of the others."""
    await asyncio.gather(*(client.join(room) for client in clients))
    for client, other in itertools.permutations(clients, 2):
        await client.ask("wait", identity=other.identity)


NOT_IN_GO: Final = {
    "responder leaves in mid-call",
    "re-join",
    "nested calls",
    "the server is killed in mid-call, and comes back",
}
"""Our program with LiveKit's SDK for Go does not join again, and the SDK runs one handler at a
time, so that nested calls wait for each other."""


def skip_what_cannot_be(pairing: Pairing, case: str) -> None:
    """Skip a case that the program of a pairing cannot play, with the reason."""
    if pairing.theirs == GO and case in NOT_IN_GO:
        pytest.skip("the program with LiveKit's SDK for Go neither joins again nor nests calls")
    if pairing.keys is EACH and pairing.theirs == "1.1.8":
        pytest.skip("livekit 1.1.8 cannot be connected without a shared key")


class Meeting:
    """The two of a pairing in a room, joined when first asked for.

    After a case that failed nobody knows what state they are in, and they are made anew.
    """

    def __init__(self, pairing: Pairing, place: Place, server: RoomServer | None) -> None:
        self.pairing = pairing
        self._place = place
        self._server = server
        self._room = pairing.label()
        self._clients: tuple[Client, ...] = ()

    async def play(self, direction: str, case: Callable[[Act], Awaitable[None]]) -> Act:
        """Let one of them call the other as the case says."""
        try:
            act = await self._act(direction)
            await case(act)
        except BaseException:
            await self.part()
            raise
        return act

    async def _act(self, direction: str) -> Act:
        protocol = (PROTOCOLS | {GO: 0})[self.pairing.theirs]
        if not self._clients:
            await self._gather()
        ours, theirs = self._clients
        is_called = direction == THEIRS_TO_OURS
        return Act(
            self._room,
            *((theirs, ours) if is_called else (ours, theirs)),
            is_v1=protocol == 0,
            sees_departures=not is_called or protocol >= 2,
        )

    async def part(self) -> None:
        """Both leave."""
        clients, self._clients = self._clients, ()
        for client in clients:
            await client.aclose()

    async def _gather(self) -> None:
        self._clients = (
            participant(self.pairing.ours, "ours", self._place, self._server),
            participant(self.pairing.theirs, "theirs", self._place, self._server),
        )
        if self.pairing.keys is not None:
            for client in self._clients:
                client.keys = self.pairing.keys._asdict()
        await gather(self._room, *self._clients)
