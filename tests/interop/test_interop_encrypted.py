"""LiveKit's own clients and ours in rooms that are encrypted from end to end."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from livekit.protocol.models import DataPacket, RpcRequest

from interop.browser import browser_version
from interop.cases import CASES, Act, greeting
from interop.clients import Client, EngineClient, Place
from interop.encryption import EACH, HKDF, SHARED, Keys
from interop.hostile import RIGHT
from interop.livekit_server import KEY, SECRET
from interop.matrix import OK
from interop.pairings import (
    BROWSER,
    ENGINE,
    GENERATIONS,
    GO,
    OURS_TO_THEIRS,
    ROOM_CLIENT,
    TEST_SERVER,
    THEIRS_TO_OURS,
    Meeting,
    Pairing,
    Run,
    gather,
    participant,
    skip_what_cannot_be,
)
from rpcproto.conformance.room_server import PATHS, RoomServer
from rpcproto.conformance.routing import Interference, Passing, Room, repeating
from rpcproto.testing import counting_ids
from rpcproto.transports import OUR_CAPABILITIES

NEWEST = "1.2.1"


def _pairing(ours: str, theirs: str, keys: Keys) -> Any:
    return pytest.param(
        Pairing(TEST_SERVER, ours, theirs, keys),
        id=f"{theirs}-{ours}-{keys.name}",
        marks=pytest.mark.interop_browser if theirs == BROWSER else pytest.mark.interop,
    )


PAIRINGS = [
    *(_pairing(ours, theirs, SHARED) for ours in (ENGINE, ROOM_CLIENT) for theirs in GENERATIONS),
    _pairing(ROOM_CLIENT, GO, SHARED),
    *(
        _pairing(ROOM_CLIENT, theirs, keys)
        for keys in (EACH, HKDF)
        for theirs in (*GENERATIONS, BROWSER)
    ),
    _pairing(ROOM_CLIENT, BROWSER, SHARED),
]


def cell_of(params: dict[str, Any]) -> tuple[str, str, str] | None:
    """Where in the table a result stands."""
    if "pair" in params:
        keys, pair = params["pair"]
        where = "in a hostile room" + (", in a browser" if BROWSER in pair else "")
        return f"{where}, encrypted with {keys.name}", params["case"], " → ".join(pair)
    if "how" in params:
        pairing = Pairing(TEST_SERVER, ENGINE, BROWSER, SHARED)
        return pairing.table, f"1 MB, {params['how']}", pairing.column(params["direction"])
    pairing = params["meeting"]
    return pairing.table, params.get("case", "key switched"), pairing.column(params["direction"])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("direction", [THEIRS_TO_OURS, OURS_TO_THEIRS])
@pytest.mark.parametrize("meeting", PAIRINGS, indirect=True, scope="session")
def test_official_clients_call_us_and_we_call_them_in_an_encrypted_room(
    meeting: Meeting,
    direction: str,
    case: str,
    server: RoomServer,
    run: Run,
    record_property: Callable[[str, object], None],
) -> None:
    skip_what_cannot_be(meeting.pairing, case)

    async def main() -> None:
        plain: list[str] = []
        act = await meeting.play(direction, watched(CASES[case], server, plain))
        assert plain == []
        if meeting.pairing.theirs == BROWSER:
            record_property("with", browser_version())
        record_property("shown", f"{OK} {act.note}".strip())

    run(main())


def watched(case: Any, server: RoomServer, plain: list[str]) -> Any:
    """The case, in a room in which packets of RPC that are not encrypted are noted."""

    async def play(act: Act) -> None:
        def watch(passing: Passing) -> list[Passing]:
            if passing.kind != "encrypted_packet":
                plain.append(passing.kind)
            return [passing]

        with server.room(act.room).interfering(watch):
            await case(act)

    return play


@pytest.mark.parametrize("direction", [THEIRS_TO_OURS, OURS_TO_THEIRS])
@pytest.mark.parametrize(
    "meeting",
    [_pairing(ROOM_CLIENT, theirs, SHARED) for theirs in (*GENERATIONS, GO, BROWSER)],
    indirect=True,
    scope="session",
)
def test_the_key_index_is_switched_in_the_middle(
    meeting: Meeting, direction: str, run: Run, record_property: Callable[[str, object], None]
) -> None:
    async def case(act: Act) -> None:
        await greeting(act)
        for index, passphrase in ((3, "the next one"), (0, SHARED.shared or "")):
            # One after the other: in between, each seals with a key that the other has.
            for client in (act.caller, act.responder):
                await client.ask("switch_key", passphrase=passphrase, index=index)
            await greeting(act)
            await act.echo("x" * 10_000)

    async def main() -> None:
        await meeting.play(direction, case)
        record_property("shown", OK)

    run(main())


# --- large bodies, compressed and not

MEGABYTE = 1_000_000
IS_COMPRESSED = {"compressed": True, "not compressed": False}


@pytest.mark.interop_browser
@pytest.mark.parametrize("direction", [THEIRS_TO_OURS, OURS_TO_THEIRS])
@pytest.mark.parametrize("how", IS_COMPRESSED)
def test_a_megabyte_goes_to_and_fro_between_javascript_and_python(
    how: str, direction: str, run: Run, record_property: Callable[[str, object], None]
) -> None:
    """Sealed packets hide whether a body is compressed, but not how many bytes it takes."""
    carried: dict[str, int] = {}
    payload = "x" * MEGABYTE

    def weigh(passing: Passing) -> list[Passing]:
        assert passing.kind == "encrypted_packet"
        carried[passing.sender] = carried.get(passing.sender, 0) + passing.packet.ByteSize()
        return [passing]

    async def main() -> None:
        # On the older path the JavaScript client does not announce that it can inflate.
        paths = PATHS if IS_COMPRESSED[how] else ("/rtc",)
        async with RoomServer(paths=paths) as server:
            place = Place(server.url, KEY, SECRET)
            capabilities = OUR_CAPABILITIES if IS_COMPRESSED[how] else ()
            ours = EngineClient("ours", place, server.room, capabilities=capabilities)
            theirs = participant(BROWSER, "theirs", place, server)
            clients = (theirs, ours) if direction == THEIRS_TO_OURS else (ours, theirs)
            try:
                for client in clients:
                    client.keys = SHARED._asdict()
                await gather("large", *clients)
                with server.room("large").interfering(weigh):
                    act = Act("large", *clients, is_v1=False, sees_departures=True)
                    await act.echo(payload)
            finally:
                for client in clients:
                    await client.aclose()
        for sender in ("ours", "theirs"):
            assert (carried[sender] < MEGABYTE // 10) is IS_COMPRESSED[how], carried
        record_property("with", browser_version())

    run(main())


# --- a server that is hostile


def adding_plain_requests(room: Room, act: Act, name: str) -> Interference:
    """The server adds a request of its own in the caller's name, which cannot be encrypted."""
    ids = counting_ids("f")

    def forge(passing: Passing) -> list[Passing]:
        if passing.sender != act.caller.identity:
            return [passing]
        request = RpcRequest(
            id=ids(), method="count", payload=name, response_timeout_ms=5_000, version=1
        )
        packet = DataPacket(rpc_request=request, participant_identity=passing.sender)
        packet.participant_sid = room.sid_of(passing.sender)
        packet.destination_identities.append(act.responder.identity)
        return [Passing(passing.sender, act.responder.identity, packet), passing]

    return forge


def swapping_senders(room: Room, act: Act) -> Interference:
    """The server delivers what the caller has sealed once more, as if mallory had sent it."""

    def swap(passing: Passing) -> list[Passing]:
        if passing.sender != act.caller.identity:
            return [passing]
        packet = DataPacket()
        packet.CopyFrom(passing.packet)
        packet.participant_identity = "mallory"
        packet.participant_sid = room.sid_of("mallory")
        packet.sequence = 0
        return [Passing("mallory", act.responder.identity, packet), passing]

    return swap


HOSTILE: dict[str, Callable[[Room, Act, str], Interference]] = {
    "adds plain requests": adding_plain_requests,
    "repeats packets": lambda room, act, name: repeating(sequenced=False),
    "repeats packets under the same number": lambda room, act, name: repeating(sequenced=True),
    "swaps senders": lambda room, act, name: swapping_senders(room, act),
}
MORE = "handlers run for more calls"
HELD = {("swaps senders", SHARED.name): MORE}
"""What ours cannot keep others from, by case and keys: whoever has a shared key can be anybody."""

PAIRS = [
    (keys, pair)
    for keys in (SHARED, EACH)
    for pair in (
        (NEWEST, ROOM_CLIENT),
        (NEWEST, NEWEST),
        (ROOM_CLIENT, NEWEST),
        (BROWSER, ROOM_CLIENT),
        (ROOM_CLIENT, BROWSER),
    )
]


@pytest.fixture(scope="session")
def act(
    request: pytest.FixtureRequest, run: Run, server: RoomServer, place: Place
) -> Iterator[Act]:
    keys, pair = request.param
    room = "-".join(("encrypted", keys.name, *pair)).replace(" ", "-")
    clients: list[Client] = [
        participant(kind, identity, place, server)
        for kind, identity in zip((*pair, ENGINE), ("caller", "responder", "mallory"), strict=True)
    ]
    for client in clients:
        client.keys = keys._asdict()
    run(gather(room, *clients))
    yield Act(room, clients[0], clients[1], is_v1=False, sees_departures=True)
    for client in clients:
        run(client.aclose())


@pytest.fixture
def pair(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize(
    ("act", "pair"),
    [
        pytest.param(
            each,
            each,
            id=f"{each[0].name}-{'-'.join(each[1])}",
            marks=pytest.mark.interop_browser if BROWSER in each[1] else pytest.mark.interop,
        )
        for each in PAIRS
    ],
    indirect=True,
    scope="session",
)
def test_a_hostile_server_cannot_undo_encryption(
    act: Act,
    pair: Any,
    case: str,
    server: RoomServer,
    run: Run,
    record_property: Callable[[str, object], None],
) -> None:
    keys, (_, responder) = pair

    async def main() -> None:
        room, name = server.room(act.room), f"{case} {keys.name}"
        with room.interfering(HOSTILE[case](room, act, name)):
            outcomes = [await act.call("count", name) for _ in range(2)]
        answers = [outcome.get("payload") for outcome in outcomes]
        shown = RIGHT if answers == ["1", "2"] else MORE
        record_property("shown", shown)
        if BROWSER in pair:
            record_property("with", browser_version())
        if responder == ROOM_CLIENT:
            assert shown == HELD.get((case, keys.name), RIGHT)

    run(main())
