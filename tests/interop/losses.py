"""Calls while the signalling, the network or both are lost."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from outages import Outage, abort

from interop.clients import Client, Place
from interop.livekit_server import KEY, SECRET, livekit_server
from interop.pairings import GENERATIONS, STACKS, gather, participant
from interop.relay import HOST, Relay
from rpcproto.conformance.room_server import RoomServer

NEWEST: Final = list(GENERATIONS)[-1]
LOSS_PAIRS: Final = [*((kind, kind) for kind in STACKS), (NEWEST, NEWEST)]
KINDS: Final = {"the signalling": (True, False), "the network": (False, True), "both": (True, True)}
"""What is lost: the signalling, the network."""
PATIENCE: Final = 30.0
"""How long a call may take, and its acknowledgement, in seconds."""
SETTLING: Final = 8.0
"""Seconds between two losses: clients wait up to 7 seconds before they try again."""


class Loss(NamedTuple):
    """One loss of some seconds."""

    kind: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.kind}, for {self.seconds:g} s"


def losses(count: int) -> list[Loss]:
    """Losses of 1 to 5 seconds, of every kind; always the same ones."""
    draw = random.Random(count)
    return [Loss(draw.choice(list(KINDS)), draw.uniform(1, 5)) for _ in range(count)]


class Loser(Protocol):
    """Loses what passes."""

    async def lose(self, seconds: float, *, signalling: bool, network: bool) -> None:
        """Lose the signalling, what passes the network, or both, for so long."""


class Scene(NamedTuple):
    """A caller and a responder in a room."""

    caller: Client
    responder: Client
    loser: Loser
    version: str
    """The server's."""

    async def lose(self, loss: Loss) -> None:
        """Lose what is to be lost, and wait until it is back."""
        signalling, network = KINDS[loss.kind]
        await self.loser.lose(loss.seconds, signalling=signalling, network=network)

    async def play(self, count: int, at_once: int, losses: list[Loss]) -> dict[str, str]:
        """Call while all these losses pass; what came of it, by its name."""
        seconds = sum(loss.seconds + SETTLING for loss in losses)
        async with asyncio.TaskGroup() as tasks:
            calling = tasks.create_task(
                self.caller.ask(
                    "paced_calls",
                    to="responder",
                    count=count,
                    at_once=at_once,
                    seconds=seconds,
                    timeout=PATIENCE,
                    within=seconds + 2 * PATIENCE,
                )
            )
            for loss in losses:
                await asyncio.sleep(SETTLING)
                await self.lose(loss)
        answer = calling.result()
        outcomes: dict[str, int] = answer["outcomes"]
        failed = {code: number for code, number in outcomes.items() if code != "right"}
        codes = ", ".join(f"{number} ({code})" for code, number in sorted(failed.items()))
        twice = (await self.responder.ask("ran_twice"))["twice"]
        return {
            "calls that failed": codes or "0",
            "calls that ran twice": str(twice),
            "longest call": f"{answer['longest']:.1f} s",
        }


class InTheServer:
    """Loses what passes in the room server of the tests."""

    def __init__(self, server: RoomServer) -> None:
        self._server = server

    async def lose(self, seconds: float, *, signalling: bool, network: bool) -> None:
        """See `Relay.lose`."""
        with ExitStack() as outages:
            for session in list(self._server.sessions):
                if network:
                    outages.enter_context(Outage(session))
                if signalling:
                    self._server.refusal = 503
                    abort(session)
            await asyncio.sleep(seconds)
            self._server.refusal = None


@asynccontextmanager
async def scene(kinds: tuple[str, str], directory: Path) -> AsyncIterator[Scene]:
    """Two participants of these kinds on LiveKit's server, behind a relay."""
    server = livekit_server(directory, HOST)
    await server.start()
    relay = Relay(*server.ports)
    await relay.start()
    try:
        async with _joined(kinds, server.place, relay, server.version) as played:
            yield played
    finally:
        await relay.aclose()
        await server.kill()


@asynccontextmanager
async def scene_on_test_server(kinds: tuple[str, str]) -> AsyncIterator[Scene]:
    """The same on the room server of the tests."""
    async with RoomServer() as server:
        place = Place(server.url, KEY, SECRET)
        async with _joined(kinds, place, InTheServer(server), "") as played:
            yield played


@asynccontextmanager
async def _joined(
    kinds: tuple[str, str], place: Place, loser: Loser, version: str
) -> AsyncIterator[Scene]:
    caller, responder = clients = [
        participant(kind, identity, place, None)
        for kind, identity in zip(kinds, ("caller", "responder"), strict=True)
    ]
    try:
        await gather("losses-" + "-".join(kinds).replace(" ", "-"), *clients)
        yield Scene(caller, responder, loser, version)
    finally:
        for client in clients:
            await client.aclose()
