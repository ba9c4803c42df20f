"""Calls while the signalling, the network or both are lost, on a server behind a relay."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

from interop.clients import Client
from interop.livekit_server import LiveKitServer, livekit_server
from interop.pairings import GENERATIONS, STACKS, gather, participant
from interop.relay import HOST, Relay

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


def losses(count: int) -> list[Loss]:
    """Losses of 1 to 5 seconds, of every kind; always the same ones."""
    draw = random.Random(count)
    return [Loss(draw.choice(list(KINDS)), draw.uniform(1, 5)) for _ in range(count)]


class Scene(NamedTuple):
    """A caller and a responder on a server behind a relay."""

    caller: Client
    responder: Client
    relay: Relay
    server: LiveKitServer

    async def lose(self, loss: Loss) -> None:
        """Lose what is to be lost, and wait until it is back."""
        signalling, network = KINDS[loss.kind]
        await self.relay.lose(loss.seconds, signalling=signalling, network=network)

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


@asynccontextmanager
async def scene(kinds: tuple[str, str], directory: Path) -> AsyncIterator[Scene]:
    """Two participants of these kinds that have joined."""
    server = livekit_server(directory, HOST)
    await server.start()
    relay = Relay(*server.ports)
    await relay.start()
    caller, responder = clients = [
        participant(kind, identity, server.place, None)
        for kind, identity in zip(kinds, ("caller", "responder"), strict=True)
    ]
    try:
        await gather("losses-" + "-".join(kinds).replace(" ", "-"), *clients)
        yield Scene(caller, responder, relay, server)
    finally:
        for client in clients:
            await client.aclose()
        await relay.aclose()
        await server.kill()
