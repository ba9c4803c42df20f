"""The same cases on LiveKit's real server, which gets killed as well: `make interop-server`."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, TypeAlias

import pytest

from interop.cases import CASES, V1_LIMIT, Act, noise
from interop.clients import Client
from interop.encryption import SHARED
from interop.livekit_server import LiveKitServer, livekit_server
from interop.load import LOAD_PAIRS, load, load_table
from interop.matrix import OK
from interop.pairings import (
    GO,
    ON_AIORTC,
    OURS_TO_THEIRS,
    PROTOCOLS,
    ROOM_CLIENT,
    THEIRS_TO_OURS,
    Meeting,
    Pairing,
    Run,
    participant,
    skip_what_cannot_be,
)
from rpcproto.livekit import RpcError, TokenError, perform_rpc_by_server

pytestmark = pytest.mark.interop_server

SERVER = "livekit-server"
PAIRINGS = [
    *(
        Pairing(SERVER, ours, theirs, keys)
        for ours, keys in ((ROOM_CLIENT, None), (ON_AIORTC, None), (ROOM_CLIENT, SHARED))
        for theirs in PROTOCOLS
    ),
    Pairing(SERVER, ROOM_CLIENT, GO, SHARED),
]
KILLED = "the server is killed in mid-call, and comes back"


ServerCall: TypeAlias = Callable[[str, str], Awaitable[str]]
RESPONDERS = [ROOM_CLIENT, *PROTOCOLS]
BY_SERVER = "called by the server's API"
"""Table and cases of calls that the server makes itself."""


def cell_of(params: dict[str, Any]) -> tuple[str, str, str] | None:
    """Where in the table a result stands."""
    if "kinds" in params:
        return None
    if "responder" in params:
        return BY_SERVER, params["case"], f"→ {params['responder']}"
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


async def _greet(call: ServerCall) -> None:
    answer = await call("greet", "Hi!")
    assert answer.startswith("Hello, ")


async def _echo(call: ServerCall, payload: str) -> None:
    assert await call("echo", payload) == payload


async def _fail(call: ServerCall, method: str, code: int, payload: str = "") -> RpcError:
    with pytest.raises(RpcError) as caught:
        await call(method, payload)
    assert caught.value.code == code
    return caught.value


async def _refuse(call: ServerCall) -> None:
    error = await _fail(call, "refuse", 7001)
    assert (error.message, error.data) == ("not today", '{"ask": "tomorrow ☀"}')


BY_SERVER_CASES: dict[str, Callable[[ServerCall], Awaitable[object]]] = {
    "greeting": _greet,
    "empty": partial(_echo, payload=""),
    "unicode": partial(_echo, payload="ä€😀\u0000\ufeff\u202e" * 100),
    "15360 bytes": partial(_echo, payload=noise(V1_LIMIT)),
    "15361 bytes": partial(_fail, method="echo", code=1402, payload=noise(V1_LIMIT + 1)),
    "15361 bytes in the response alone": partial(
        _fail, method="fill", code=1504, payload=str(V1_LIMIT + 1)
    ),
    "unknown method": partial(_fail, method="nobody knows it", code=1400),
    "RpcError with data": _refuse,
    "handler raises": partial(_fail, method="break", code=1500),
    "handler too slow": partial(_fail, method="hang", code=1502),
}


@pytest.fixture(scope="session", params=RESPONDERS)
def responder(request: pytest.FixtureRequest, run: Run, livekit: LiveKitServer) -> Iterator[Client]:
    """Somebody in a room of the real server."""
    client = participant(request.param, "responder", livekit.place, None)
    run(client.join(f"by-server-{request.param}".replace(" ", "-")))
    yield client
    run(client.aclose())


@pytest.mark.parametrize("case", BY_SERVER_CASES)
def test_the_real_server_calls_a_participant_for_us(
    responder: Client,
    case: str,
    livekit: LiveKitServer,
    run: Run,
    record_property: Callable[[str, object], None],
) -> None:
    async def call(method: str, payload: str) -> str:
        while True:
            try:
                return await perform_rpc_by_server(
                    livekit.place.url,
                    livekit.place.key,
                    livekit.place.secret,
                    responder.room,
                    destination_identity=responder.identity,
                    method=method,
                    payload=payload,
                    response_timeout=2.0,
                )
            except RpcError as error:
                if error.code != RpcError.ErrorCode.SEND_FAILED:
                    raise  # else it has not quite joined

    async def main() -> None:
        async with asyncio.timeout(60):
            await BY_SERVER_CASES[case](call)
        record_property("with", livekit.version)

    run(main())


def test_the_real_server_says_who_is_not_there_and_who_may_not(
    livekit: LiveKitServer, run: Run
) -> None:
    async def call(secret: str) -> None:
        await perform_rpc_by_server(
            livekit.place.url,
            livekit.place.key,
            secret,
            "a room that does not exist",
            destination_identity="nobody",
            method="greet",
            payload="",
        )

    async def main() -> None:
        with pytest.raises(RpcError) as caught:
            await call(livekit.place.secret)
        assert caught.value.code == RpcError.ErrorCode.RECIPIENT_NOT_FOUND
        with pytest.raises(TokenError) as refused:
            await call("another-secret-of-at-least-thirty-two-characters")
        assert "eyJ" not in str(refused.value)

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
        await livekit.start()
        await act.reach()
        outcome = await call
        if direction == OURS_TO_THEIRS:
            assert outcome.get("code") == 1503, outcome
        act.note = f"{outcome['code']} after {outcome['seconds']:.0f} s"

    async def main() -> None:
        async with asyncio.timeout(90):
            act = await meeting_on_livekit.play(direction, kill)
        record_property("with", livekit.version)
        record_property("shown", f"{OK} {act.note}")

    run(main())
