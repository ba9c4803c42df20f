"""Participants that join slowly, whose presence is late, or who leave: official clients and ours.

The test server behaves as LiveKit's servers of several versions do. What ours do is asserted; what
the official clients do as callers is shown.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, NamedTuple

import pytest

from interop.client import LEAVING
from interop.clients import GUARD, Client, Place
from interop.matrix import OK
from interop.pairings import ENGINE, GENERATIONS, ON_AIORTC, ROOM_CLIENT, Run, participant
from rpcproto.conformance.room_server import RoomServer
from rpcproto.conformance.routing import PRESENCE_INTERVAL, Passing, Room
from rpcproto.livekit import access_token, connect

TABLE: Final = "presence, test server"
ANSWERS_TABLE: Final = "answers just before leaving, test server"
NEWEST: Final = "1.2.1"
PAIRS: Final = [
    *itertools.product((ROOM_CLIENT, ENGINE), GENERATIONS),
    *itertools.product(GENERATIONS, (ROOM_CLIENT, ENGINE)),
]
"""Who calls, and who is called."""


class Setting(NamedTuple):
    """How the server behaves."""

    keeps_packets: bool = True
    activation_delay: float = 0.0
    presence_interval: float = 0.0
    packet_delay: float = 0.0

    def apply(self, server: RoomServer, room: Room) -> None:
        """Behave like that from now on."""
        server.activation_delay = self.activation_delay
        room.keeps_packets = self.keeps_packets
        room.presence_interval = self.presence_interval
        room.packet_delay = self.packet_delay


class Act(NamedTuple):
    """A caller that is in the room, and a responder that is not yet."""

    server: RoomServer
    room: str
    caller: Client
    responder: Client
    can_drain: bool
    """Whether the responder sends what it has answered before it leaves."""

    async def call(self, method: str, payload: str) -> dict[str, Any]:
        """What becomes of a call."""
        return await self.caller.ask(
            "call", to=self.responder.identity, method=method, payload=payload, timeout=15
        )


async def call_at_once(act: Act) -> str:
    """Wait for the responder, as a program does, and call it."""
    joining = asyncio.create_task(act.responder.join(act.room))
    await act.caller.ask("wait", identity=act.responder.identity)
    outcome = await act.call("greet", "")
    await joining
    return OK if "payload" in outcome else str(outcome["code"])


def answers_of(identity: str, room: Room) -> asyncio.Event:
    """Set whenever the server has all of an answer of a participant."""
    has_answered = asyncio.Event()

    def look(passing: Passing) -> list[Passing]:
        header = passing.packet.stream_header
        is_whole = passing.kind == "stream_header" and header.HasField("inline_content")
        if passing.sender == identity and (is_whole or passing.kind in ENDS):
            has_answered.set()
        return [passing]

    room.interference = look
    return has_answered


async def answer_and_leave(act: Act) -> str:
    """The responder leaves as soon as it has answered.

    LiveKit's SDK cuts off what it has not sent: it leaves when the server has all of its answer.
    """
    has_answered = answers_of(act.responder.identity, act.server.room(act.room))
    await act.responder.join(act.room)
    await act.caller.ask("wait", identity=act.responder.identity)
    calling = asyncio.create_task(act.call("bye", "10 bytes"))
    await act.responder.told(LEAVING, "10 bytes")
    await (act.responder.ask("drain") if act.can_drain else has_answered.wait())
    await act.responder.ask("leave")
    outcome = await calling
    return OK if "payload" in outcome else str(outcome["code"])


CASES: Final[dict[str, tuple[Setting, Callable[[Act], Awaitable[str]]]]] = {
    "a server before 1.9.1 drops packets until a participant is active, 0.5 s": (
        Setting(keeps_packets=False, activation_delay=0.5),
        call_at_once,
    ),
    "a newer server keeps them for 2 s, joining takes 3 s": (
        Setting(activation_delay=3.0),
        call_at_once,
    ),
    "presence is reported every 3 s": (Setting(presence_interval=PRESENCE_INTERVAL), call_at_once),
    "an answer just before leaving, the channel 0.5 s slower": (
        Setting(packet_delay=0.5),
        answer_and_leave,
    ),
}


def cell_of(params: dict[str, Any]) -> tuple[str, str, str] | None:
    """Where in the table a result stands."""
    if "case" not in params:
        return None
    caller, responder = params["pair"]
    return TABLE, params["case"], f"{caller} → {responder}"


@pytest.fixture
def settled(server: RoomServer) -> Iterator[RoomServer]:
    """The server, which behaves as ever afterwards."""
    yield server
    server.activation_delay = 0.0


@pytest.mark.interop
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: "-".join(pair).replace(" ", "-"))
def test_calls_while_a_participant_comes_or_goes(
    pair: tuple[str, str],
    case: str,
    settled: RoomServer,
    place: Place,
    run: Run,
    record_property: Callable[[str, object], None],
) -> None:
    setting, play = CASES[case]
    name = f"presence-{'-'.join(pair)}-{list(CASES).index(case)}".replace(" ", "-")

    async def main() -> None:
        caller, responder = (
            participant(kind, identity, place, settled)
            for kind, identity in zip(pair, ("caller", "responder"), strict=True)
        )
        try:
            await caller.join(name)
            room = settled.room(name)
            await room.wait_until(lambda: room.is_ready("caller"))
            setting.apply(settled, room)
            async with asyncio.timeout(GUARD):
                can_drain = pair[1] not in GENERATIONS
                shown = await play(Act(settled, name, caller, responder, can_drain))
        finally:
            await caller.aclose()
            await responder.aclose()
        record_property("shown", shown)
        if pair[0] in (ROOM_CLIENT, ENGINE):
            assert shown == OK

    run(main())


# 200 answers

ENDS: Final = ("rpc_response", "stream_trailer")
"""The last packets of an answer."""
ANSWERS: Final = 200
AT_ONCE: Final = 4
SIZES: Final = (10, 1_000, 15_000, 200_000)
DELAYS: Final = (0.0, 0.01, 0.1, 0.5)


@pytest.mark.interop_load
@pytest.mark.parametrize("kind", [ROOM_CLIENT, ON_AIORTC, NEWEST])
def test_no_answer_that_is_given_just_before_leaving_is_lost(
    kind: str,
    server: RoomServer,
    place: Place,
    run: Run,
    record_property: Callable[[str, object], None],
) -> None:
    """200 answers of four sizes, while the data channel is up to 0.5 s slower than presence.

    Ours leaves after `drain`. LiveKit's SDK has nothing like it, and cuts off what it has not sent:
    it leaves when the server has all of its answer.
    """
    numbers = iter(range(ANSWERS))
    lost: list[str] = []

    async def answer_again_and_again(index: int) -> None:
        room = f"leaving-{kind}-{index}".replace(" ", "-")
        token = access_token(place.key, place.secret, room, "caller")
        responder = participant(kind, "responder", place, server)
        has_answered = answers_of("responder", server.room(room))
        try:
            async with connect(place.url, token) as caller:
                for number in numbers:
                    has_answered.clear()
                    size = SIZES[number % len(SIZES)]
                    server.room(room).packet_delay = DELAYS[number // len(SIZES) % len(DELAYS)]
                    await responder.join(room)
                    await caller.wait_for_participant("responder")
                    payload = f"{size} {number}"
                    calling = asyncio.create_task(
                        caller.local_participant.perform_rpc(
                            destination_identity="responder", method="bye", payload=payload
                        )
                    )
                    await responder.told(LEAVING, payload)
                    await (has_answered.wait() if kind == NEWEST else responder.ask("drain"))
                    await responder.ask("leave")
                    try:
                        assert await calling == "y" * size
                    except Exception as error:
                        lost.append(f"{payload}: {error!r}")
        finally:
            await responder.aclose()

    async def main() -> None:
        await asyncio.gather(*(answer_again_and_again(index) for index in range(AT_ONCE)))
        assert lost == []
        row = f"lost, of {ANSWERS}"
        record_property("cells", [(ANSWERS_TABLE, row, f"{kind} leaves", str(len(lost)))])

    run(main())
