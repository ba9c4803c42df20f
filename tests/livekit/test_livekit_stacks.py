"""The WebRTC stacks behind their seam: which is taken, and that each does the same."""

import asyncio
import itertools
import json
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import pytest
from livekit.protocol.rtc import ICEServer, SessionDescription, SignalRequest, SignalResponse
from livekit_scenes import bob_and_alice, call, run, saying, session_of, token
from packaging.markers import Marker
from packaging.requirements import Requirement
from paths import ROOT, TESTS

from rpcproto import LocalProtocolError
from rpcproto.conformance.room_server import RoomServer, Session
from rpcproto.livekit import UnreachableError, join_room
from rpcproto.livekit.backlog import Backlog
from rpcproto.livekit.peer_connection import (
    LOSSY,
    LOW_WATER_BYTES,
    MAX_CANDIDATE_CHARS,
    MAX_CANDIDATES,
    RELIABLE,
    Callbacks,
    Candidate,
    PeerConnection,
)
from rpcproto.livekit.signalling import CandidateReceived
from rpcproto.livekit.stacks import STACKS, Stack, installed_stacks, peer_connection, stack_version

GUARD = 60.0
"""Seconds after which something has failed."""


def require(*stacks: Stack) -> None:
    """Skip where one of them is not installed."""
    for stack in stacks:
        if stack not in installed_stacks():
            pytest.skip(f"{stack} is not installed")


@pytest.fixture(params=STACKS)
def stack(request: pytest.FixtureRequest) -> Stack:
    """Each of the stacks."""
    name: Stack = request.param
    require(name)
    return name


# which one


def test_the_first_that_is_installed_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    require("aiortc")
    monkeypatch.setattr("rpcproto.livekit.stacks.find_spec", lambda name: name == "aiortc" or None)
    assert installed_stacks() == ("aiortc",)
    assert peer_connection(None).__name__ == "AiortcConnection"


def test_each_can_be_asked_for(stack: Stack) -> None:
    assert peer_connection(stack).__name__ == f"{stack.title()}Connection"
    assert stack_version(stack)[0].isdigit()


def test_without_any_it_is_said_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rpcproto.livekit.stacks.find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match="with the extra 'livekit'"):
        peer_connection(None)


@pytest.mark.parametrize(("name", "extra"), [("wrtc", "livekit"), ("aiortc", "livekit-aiortc")])
def test_of_one_that_is_not_installed_it_is_said_how_to_get_it(
    name: Stack, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rpcproto.livekit.stacks.find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match=f"{name} is not installed.*'{extra}'") as caught:
        peer_connection(name)
    assert caught.value.name == name


def test_one_that_does_not_exist_is_misuse() -> None:
    name: Any = "webkit"

    async def main() -> None:
        with pytest.raises(LocalProtocolError, match="there are: wrtc, aiortc"):
            await join_room("ws://127.0.0.1:1", token("bob"), stack=name)

    asyncio.run(main())


def test_the_extra_brings_exactly_one_stack_wherever_it_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extra = [Requirement(text) for text in project["optional-dependencies"]["livekit"]]
    [light] = [each.marker for each in extra if each.name == "wrtc"]
    [other] = [each.marker for each in extra if each.name == "aiortc"]
    places = itertools.product(
        ["linux", "darwin", "win32", "freebsd14"],
        ["x86_64", "aarch64", "arm64", "AMD64", "ARM64", "armv7l", "riscv64"],
        ["CPython", "PyPy"],
        ["3.11", "3.15", "3.16"],
    )
    found = {place: (_holds(light, *place), _holds(other, *place)) for place in places}
    assert {place for place, (a, b) in found.items() if a == b} == set()
    for system, machine in (
        ("linux", "x86_64"),
        ("linux", "aarch64"),
        ("darwin", "arm64"),
        ("win32", "AMD64"),
    ):
        assert found[system, machine, "CPython", "3.11"] == (True, False)


def _holds(marker: Marker | None, system: str, machine: str, kind: str, python: str) -> bool:
    assert marker is not None
    return marker.evaluate(
        {
            "sys_platform": system,
            "platform_machine": machine,
            "platform_python_implementation": kind,
            "python_version": python,
        }
    )


# what each does


class Ours:
    """One end of a connection in this process, and what it has told."""

    def __init__(self, stack: Stack) -> None:
        self.packets: asyncio.Queue[bytes] = asyncio.Queue()
        self.opened = asyncio.Event()
        self.lost: list[str] = []
        self.candidates: list[Candidate] = []
        self.other: Ours | None = None
        callbacks = Callbacks(
            packet=self.packets.put_nowait,
            opened=self.opened.set,
            lost=self.lost.append,
            candidate=self._found,
        )
        self.connection: PeerConnection = peer_connection(stack)(callbacks, loopback=True)
        self._telling: list[asyncio.Task[None]] = []

    def _found(self, candidate: Candidate) -> None:
        self.candidates.append(candidate)
        if self.other is not None:
            told = self.other.connection.add_candidate(as_received(candidate))
            self._telling.append(asyncio.create_task(told))

    async def is_open(self) -> None:
        await self.opened.wait()
        while not self.connection.is_open:  # told from within its own event
            await asyncio.sleep(0.005)

    async def close(self) -> None:
        await self.connection.close()
        await asyncio.gather(*self._telling, return_exceptions=True)


def as_received(candidate: Candidate) -> CandidateReceived:
    return CandidateReceived(
        True, candidate.candidate, candidate.sdp_mid, candidate.sdp_mline_index
    )


@asynccontextmanager
async def pair(caller: Stack, answerer: Stack) -> AsyncIterator[tuple[Ours, Ours]]:
    """Two ends that are connected, in-band."""
    a, b = Ours(caller), Ours(answerer)
    a.other, b.other = b, a
    try:
        async with asyncio.timeout(GUARD):
            offer = await a.connection.create_offer()
            await a.connection.begin(negotiated=False)
            await a.connection.accept(await b.connection.answer(offer))
            await a.is_open()
            await b.is_open()
            yield a, b
    finally:
        await a.close()
        await b.close()


pairs = pytest.mark.parametrize(("caller", "answerer"), list(itertools.product(STACKS, repeat=2)))


@pairs
def test_any_two_of_them_talk(caller: Stack, answerer: Stack) -> None:
    require(caller, answerer)
    large = bytes(60_000)

    async def main() -> None:
        async with pair(caller, answerer) as (a, b):
            a.connection.send(b"there")
            b.connection.send(b"and back")
            assert await b.packets.get() == b"there"
            assert await a.packets.get() == b"and back"
            for _ in range(20):
                a.connection.send(large)
                await a.connection.drain()
            assert [await b.packets.get() for _ in range(20)] == [large] * 20
            assert (a.lost, b.lost) == ([], [])

    asyncio.run(main())


def test_sending_waits_while_too_much_is_waiting(stack: Stack) -> None:
    async def main() -> None:
        async with pair(stack, stack) as (a, _):
            for _ in range(20):
                a.connection.send(bytes(60_000))
            assert a.connection.buffered_bytes > LOW_WATER_BYTES
            await a.connection.drain()
            assert a.connection.buffered_bytes <= LOW_WATER_BYTES

    asyncio.run(main())


def test_what_is_flushed_has_arrived(stack: Stack) -> None:
    async def main() -> None:
        async with pair(stack, stack) as (a, b):
            for _ in range(10):
                a.connection.send(bytes(60_000))
            await a.connection.flush()
            await a.connection.close()
            assert [len(await b.packets.get()) for _ in range(10)] == [60_000] * 10

    asyncio.run(main())


def test_closing_ends_all_waiting(stack: Stack) -> None:
    async def main() -> None:
        async with pair(stack, stack) as (a, _):
            for _ in range(20):
                a.connection.send(bytes(60_000))
            draining = asyncio.create_task(a.connection.drain())
            await asyncio.sleep(0)
            assert not draining.done()
            flushing = asyncio.create_task(a.connection.flush())
            await asyncio.sleep(0)
            await a.connection.close()
            await draining
            await flushing
            assert (a.connection.is_open, a.lost) == (False, [])

    asyncio.run(main())


@pytest.mark.parametrize("label", ["ours", RELIABLE, LOSSY])
def test_who_is_sent_more_than_it_can_read_hangs_up(
    label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiortc reads no more from its socket meanwhile."""
    require("wrtc")
    monkeypatch.setattr("rpcproto.livekit.backlog.ASK_MESSAGES", 10)
    monkeypatch.setattr("rpcproto.livekit.backlog.MAX_MESSAGES", 100)
    take = Backlog.take

    def take_slowly(backlog: Backlog, size: int) -> bool:
        threading.Event().wait(0.002)
        return take(backlog, size)

    async def main() -> None:
        async with pair("wrtc", "wrtc") as (a, b):
            send = b.connection.send
            if label != "ours":
                further: Any = b.connection._connection.createDataChannel(label)  # type: ignore[attr-defined]
                opened = asyncio.Event()
                further.on("open", lambda _: opened.set())
                await opened.wait()
                send = further.send
            monkeypatch.setattr(Backlog, "take", take_slowly)
            for _ in range(2_000):
                send(b"more")
            while not a.lost:
                await asyncio.sleep(0.005)
            assert a.lost == ["packets arrive faster than they can be read"]
            assert not a.connection.is_open

    asyncio.run(main())


def test_a_further_channel_of_the_same_name_changes_nothing(stack: Stack) -> None:
    async def main() -> None:
        async with pair(stack, stack) as (a, b):
            further: Any = b.connection._connection.createDataChannel(RELIABLE)  # type: ignore[attr-defined]
            opened = asyncio.Event()
            further.on("open", lambda *_: opened.set())
            await opened.wait()
            a.connection.send(b"as before")
            assert await b.packets.get() == b"as before"

    asyncio.run(main())


def test_a_connection_whose_other_end_is_gone_is_lost(stack: Stack) -> None:
    async def main() -> None:
        async with pair(stack, stack) as (a, b):
            await b.connection.close()
            while not a.lost:
                await asyncio.sleep(0.005)
            assert not a.connection.is_open
            await a.connection.drain()
            await a.connection.flush()
            await a.connection.close()
        assert (a.lost[0], b.lost) == ("the data channel was closed", [])

    asyncio.run(main())


def test_ice_is_restarted_while_packets_pass(stack: Stack) -> None:
    async def main() -> None:
        async with pair(stack, stack) as (a, b):
            if not a.connection.can_restart_ice:
                with pytest.raises(NotImplementedError):
                    await a.connection.restart()
                return
            before = len(a.candidates)
            a.connection.send(b"before")
            offer = await a.connection.restart()
            a.connection.send(b"meanwhile")
            await a.connection.accept(await b.connection.answer(offer))
            a.connection.send(b"after")
            assert [await b.packets.get() for _ in range(3)] == [b"before", b"meanwhile", b"after"]
            while len(a.candidates) == before:
                await asyncio.sleep(0.005)
            b.connection.send(b"back")
            assert await a.packets.get() == b"back"
            assert (a.lost, b.lost) == ([], [])

    asyncio.run(main())


def test_candidates_without_end_and_without_sense_cost_nothing(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    used: list[str] = []

    async def use(_: PeerConnection, received: CandidateReceived) -> None:
        used.append(received.candidate)

    monkeypatch.setattr(peer_connection(stack), "_use_candidate", use)

    async def main() -> None:
        a, b = Ours(stack), Ours(stack)
        for connection, times in ((a.connection, 3), (b.connection, 2 * MAX_CANDIDATES)):
            await connection.add_candidate(candidate_of("x" * (MAX_CANDIDATE_CHARS + 1)))
            for number in range(times):
                await connection.add_candidate(candidate_of(f"early {number}"))
        assert used == []
        offer = await a.connection.create_offer()
        await b.connection.answer(offer)
        assert used == [f"early {number}" for number in range(MAX_CANDIDATES)]
        used.clear()
        for number in range(2 * MAX_CANDIDATES):
            await b.connection.add_candidate(candidate_of(f"late {number}"))
        assert used == [f"late {number}" for number in range(MAX_CANDIDATES)]
        await a.close()
        await b.close()

    asyncio.run(main())
    assert caplog.text.count("ignoring all further ICE candidates") == 2


def candidate_of(text: str) -> CandidateReceived:
    return CandidateReceived(True, text, None, None)


def test_candidates_that_are_none_are_ignored(
    stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        a, b = Ours(stack), Ours(stack)
        await b.connection.answer(await a.connection.create_offer())
        for text in ("nonsense", "candidate:1 1 udp x 127.0.0.1 9 typ host", "\x00"):
            await b.connection.add_candidate(candidate_of(text))
        await b.connection.add_candidate(CandidateReceived(True, "candidate:1", "no mid", 70_000))
        await a.close()
        await b.close()

    asyncio.run(main())
    assert "ignored an ICE candidate that cannot be read" in caplog.text


# in a room


@pytest.mark.parametrize(
    ("path", "protocol", "negotiated"),
    [("/rtc/v1", 18, True), ("/rtc/v1", 17, False), ("/rtc", 18, False)],
)
def test_channels_are_negotiated_where_both_sides_can(
    stack: Stack, path: str, protocol: int, negotiated: bool
) -> None:
    async def scene(server: RoomServer) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("rpcproto.livekit.stacks.STACKS", (stack,))
            async with bob_and_alice(server) as (_, alice):
                channel = session_of(server, "alice")._down
                assert channel is not None
                assert (channel.negotiated, channel.id == 100) == (negotiated, negotiated)
                assert await call(alice) == "Hello, alice!"

    run(scene, paths=[path], protocol=protocol)


def test_our_offer_goes_along_with_the_join(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    offers: list[str] = []
    requests: list[str] = []
    answer, receive = Session._answer, Session._receive

    async def look(session: Session, offer: SessionDescription) -> None:
        offers.append(offer.sdp)
        await answer(session, offer)

    async def listen(session: Session, request: SignalRequest) -> None:
        requests.append(request.WhichOneof("message") or "")
        await receive(session, request)

    monkeypatch.setattr(Session, "_answer", look)
    monkeypatch.setattr(Session, "_receive", listen)

    async def scene(server: RoomServer) -> None:
        await (await join_room(server.url, token("bob"), stack=stack)).aclose()

    run(scene)
    [offer] = offers
    assert "a=candidate:" not in offer
    # Nothing but where we can be reached.
    assert set(requests) == {"trickle"}


def test_a_turn_server_that_does_not_answer_is_not_waited_for(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    if stack == "aiortc":  # it can do no better than wait less
        monkeypatch.setattr("rpcproto.livekit.aiortc_connection.TURN_TIME", 0.1)
    with silent_turn_server() as (turn, port):
        urls = [f"turn:127.0.0.1:{port}", f"turn:127.0.0.1:{port}?transport=tcp", "turn:[nonsense"]

        def with_turn(response: SignalResponse) -> list[SignalResponse]:
            if response.HasField("join"):
                response.join.ice_servers.append(
                    ICEServer(urls=urls, username="user", credential="secret")
                )
            return [response]

        monkeypatch.setattr(Session, "send", saying(with_turn))

        async def scene(server: RoomServer) -> None:
            for attempt in range(3):
                try:
                    # aioice would wait for 5 s, each time; a busy machine takes long sometimes.
                    bob = await join_room(
                        server.url, token("bob"), stack=stack, connect_timeout=4.5
                    )
                    break
                except UnreachableError:
                    if attempt == 2:
                        raise
            if stack == "wrtc":
                # It is being asked: that is a STUN message, for it has the magic cookie.
                message = await asyncio.get_running_loop().sock_recv(turn, 2_000)
                assert message[4:8] == b"\x21\x12\xa4\x42"
            await bob.aclose()

        run(scene)


@contextmanager
def silent_turn_server() -> Iterator[tuple[socket.socket, int]]:
    """A port that takes packets and connections, and says nothing."""
    with socket.socket(type=socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
        udp.bind(("127.0.0.1", 0))
        udp.setblocking(False)
        port = udp.getsockname()[1]
        with suppress(OSError):  # somebody else may have it for TCP
            tcp.bind(("127.0.0.1", port))
            tcp.listen()
        yield udp, port


# many times


@pytest.mark.environments
def test_of_300_joins_and_leaves_nothing_is_left(stack: Stack) -> None:
    """A process of its own, so that the room server's sockets and tasks do not count."""

    async def scene(server: RoomServer) -> None:
        program = TESTS / "environments" / "many_joins.py"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, program, server.url, stack, "300", "300"), stdout=subprocess.PIPE
        )
        output, _ = await process.communicate()
        assert process.returncode == 0
        left = json.loads(output)
        resident = [each.pop("resident KB") for each in left]
        assert all(each == left[0] for each in left)
        assert resident[-1] - resident[-2] < 1_024, resident

    asyncio.run(in_a_room(scene))


async def in_a_room(scene: Callable[[RoomServer], Awaitable[None]]) -> None:
    async with asyncio.timeout(300), RoomServer() as server:
        await scene(server)
