"""Eleven calls in a room, on virtual time, drawn as they are seen; nothing of it is written down.

The arrows are the packets that the room carries, decoded from their bytes; chunks of a stream with
nothing in between share one. The notes are what the engines were asked for, what they told their
hosts, and what a host logged.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import Any, Final, NamedTuple

from rich.console import Console
from rich.text import Text

from rpcproto.asyncio import RpcParticipant
from rpcproto.cli.watching import WatchedEngine, Watcher
from rpcproto.core.engine import RpcEngine
from rpcproto.core.errors import ErrorCode
from rpcproto.core.messages import OutgoingPacket
from rpcproto.core.roster import INLINE_PROTOCOL, STREAMS_PROTOCOL
from rpcproto.errors import RpcError
from rpcproto.participant import RpcInvocationData
from rpcproto.recording import Journal, RecordedEngine, Style
from rpcproto.recording.rows import shown
from rpcproto.testing import counting_ids, virtual_time_run
from rpcproto.transports import ParticipantJoined, ParticipantLeft, Transport, TransportEvent
from rpcproto.transports.links import Fate, Link, SentPacket
from rpcproto.transports.memory import MemoryRoom

LATENCY: Final = 0.05
"""The way from one participant to another, in seconds."""
UPLINK: Final = 1_250_000.0
"""What erin can send, in bytes a second: 10 Mbit/s. The others have no such limit."""
AFTERWARDS: Final = 5.0
"""How long a scene goes on when its calls have ended, in seconds."""
DAY: Final = 86_400.0
BEGINNING: Final = 1_767_225_600.0
"""When the demo begins, in seconds of Unix time: 2026 does."""


class Call(NamedTuple):
    """A call, and how it should end: the payload, or the code of the error."""

    recipient: str
    method: str
    payload: str
    expected: str | int
    response_timeout: float | None = None
    caller: str = "alice"
    at: float = 0.0
    """When it is made, in seconds from the beginning of the scene."""


class Scene(NamedTuple):
    """Calls, and what is to be seen of them besides their outcomes."""

    title: str
    calls: tuple[Call, ...]
    order: tuple[int, ...] = (1,)
    """The order in which they should end, counted from 1."""
    packets: int | None = None
    """How many packets there should be, if that matters."""


def digest(text: str) -> str:
    """What tells whether a long text has arrived as it was."""
    data = text.encode()
    return f"{len(data):,} bytes, SHA-256 {hashlib.sha256(data).hexdigest()[:16]}..."


CHORUS: Final = "Row, row, row your boat, gently down the stream. " * 2_000
MEGABYTE: Final = "".join(f"{number:06} déjà vu ✓" for number in range(50_000))
"""1,000,000 bytes, no two lines of which are the same, with characters of one to three bytes."""

SCENES: Final = (
    Scene("A greeting", (Call("bob", "greet", "Hello from RPC!", "Hello, alice!"),)),
    Scene(
        "A method that nobody registered", (Call("bob", "meet", "", ErrorCode.UNSUPPORTED_METHOD),)
    ),
    Scene("A handler that raises an RpcError", (Call("bob", "brew", "coffee", 2001),)),
    Scene("A handler with a bug", (Call("bob", "crash", "", ErrorCode.APPLICATION_ERROR),)),
    Scene(
        "A payload that is one byte too large for a v1 peer",
        (Call("bob", "greet", "x" * 15_361, ErrorCode.REQUEST_PAYLOAD_TOO_LARGE),),
    ),
    Scene(
        "A recipient that leaves in the middle",
        (Call("carol", "leave", "", ErrorCode.RECIPIENT_DISCONNECTED),),
    ),
    Scene(
        "A recipient that never answers", (Call("dave", "greet", "", ErrorCode.CONNECTION_TIMEOUT),)
    ),
    Scene(
        "A handler that is too slow",
        (Call("bob", "sleep", "", ErrorCode.RESPONSE_TIMEOUT, response_timeout=3_600.0),),
    ),
    Scene(
        "Two peers that are up to date: three packets, whatever fits",
        (Call("frank", "shout", CHORUS, CHORUS.upper(), caller="erin"),),
        packets=3,
    ),
    Scene(
        "A small call overtakes a megabyte on its way to a peer without compression",
        (
            Call("grace", "digest", MEGABYTE, digest(MEGABYTE), caller="erin"),
            Call("grace", "greet", "Hello!", "Hello, erin!", caller="erin", at=0.03),
        ),
        order=(2, 1),
    ),
)


def play(
    console: Console, scenes: Sequence[Scene] = SCENES, *, journal: Journal | None = None
) -> bool:
    """Play all scenes and print them; False if anything in them is not as it should be.

    What is written to `journal` are the same bytes each time.
    """
    stage = _Stage(console, journal)
    with _logged_by_hosts(stage):
        good_calls, flaws, seconds = virtual_time_run(_play(stage, scenes))
    calls = sum(len(scene.calls) for scene in scenes)
    verdict = f"{good_calls} of {calls} calls ended as they should"
    if flaws:
        verdict += f", but {flaws} of the other checks failed"
    is_good = good_calls == calls and not flaws
    console.print(
        Text(f"{verdict}; {seconds:,.0f} s of virtual time", "green" if is_good else "red")
    )
    return is_good


async def _play(stage: "_Stage", scenes: Sequence[Scene]) -> tuple[int, int, float]:
    """How many calls ended as they should, what else was not so, and the time it took."""
    room = MemoryRoom(link=Link(latency=LATENCY), observe=stage.room_event)
    callers: dict[str, RpcParticipant] = {}
    async with AsyncExitStack() as stack:

        async def enter(identity: str, prefix: str, protocol: int = 0) -> RpcParticipant:
            transport: Transport = room.join(identity, client_protocol=protocol)
            if identity == "erin":
                transport = _Uplink(transport, UPLINK)
            participant = stage.participant(transport, prefix)
            return await stack.enter_async_context(participant)

        callers["alice"] = await enter("alice", "a")
        _register_methods_of_bob(await enter("bob", "b"))
        room.join("dave", client_protocol=0)  # he has no engine, and never listens
        guest_transport = room.join("carol", client_protocol=0)
        guest = asyncio.create_task(_visit(stage.participant(guest_transport, "c")))
        callers["erin"] = await enter("erin", "e", INLINE_PROTOCOL)
        _register_methods_of_those_with_streams(await enter("frank", "f", INLINE_PROTOCOL))
        _register_methods_of_those_with_streams(await enter("grace", "9", STREAMS_PROTOCOL))
        good_calls = flaws = 0
        await asyncio.sleep(AFTERWARDS)  # everyone gets to know of everyone
        for number, scene in enumerate(scenes, 1):
            stage.begin()
            outcomes, order = await _perform(callers, scene)
            await asyncio.sleep(AFTERWARDS)
            stage.show(f"{number}. {scene.title}")
            for call, outcome in zip(scene.calls, outcomes, strict=True):
                if outcome == call.expected:
                    good_calls += 1
                else:
                    expected, ended = _outcome(call.expected), _outcome(outcome)
                    stage.complain(f"expected {expected}, but it ended with {ended}")
            if order != scene.order:
                stage.complain(f"the calls should end in the order {scene.order}, not {order}")
                flaws += 1
            if scene.packets not in (None, stage.packets):
                stage.complain(f"expected {scene.packets} packets, but there were {stage.packets}")
                flaws += 1
        guest.cancel()
        await asyncio.wait([guest])
    return good_calls, flaws, asyncio.get_running_loop().time()


async def _perform(
    callers: Mapping[str, RpcParticipant], scene: Scene
) -> tuple[list[str | int], tuple[int, ...]]:
    """Make the calls of a scene; returns how they ended, and in which order."""
    order: list[int] = []

    async def perform(number: int, call: Call) -> str | int:
        outcome: str | int
        if call.at:
            await asyncio.sleep(call.at)
        try:
            outcome = await callers[call.caller].perform_rpc(
                destination_identity=call.recipient,
                method=call.method,
                payload=call.payload,
                response_timeout=call.response_timeout,
            )
        except RpcError as error:
            outcome = error.code
        order.append(number)
        return outcome

    outcomes = await asyncio.gather(
        *(perform(number, call) for number, call in enumerate(scene.calls, 1))
    )
    return outcomes, tuple(order)


def _outcome(outcome: str | int) -> str:
    return shown(outcome) if isinstance(outcome, str) else str(int(outcome))


def _register_methods_of_bob(bob: RpcParticipant) -> None:
    @bob.register_rpc_method("greet")
    async def greet(data: RpcInvocationData) -> str:
        return f"Hello, {data.caller_identity}!"

    @bob.register_rpc_method("brew")
    def brew(data: RpcInvocationData) -> str:
        raise RpcError(2001, f"This pot brews no {data.payload}", "tea only")

    @bob.register_rpc_method("crash")
    async def crash(data: RpcInvocationData) -> str:
        raise ValueError("the password is swordfish")

    @bob.register_rpc_method("sleep")
    async def sleep(data: RpcInvocationData) -> str:
        await asyncio.sleep(DAY)
        return "Good morning"


def _register_methods_of_those_with_streams(participant: RpcParticipant) -> None:
    @participant.register_rpc_method("greet")
    async def greet(data: RpcInvocationData) -> str:
        return f"Hello, {data.caller_identity}!"

    @participant.register_rpc_method("shout")
    async def shout(data: RpcInvocationData) -> str:
        return data.payload.upper()

    @participant.register_rpc_method("digest")
    async def digest_(data: RpcInvocationData) -> str:
        return digest(data.payload)


async def _visit(carol: RpcParticipant) -> None:
    """Stay until somebody calls, then leave with the answer still owing."""
    called = asyncio.Event()
    async with carol:

        @carol.register_rpc_method("leave")
        async def leave(data: RpcInvocationData) -> str:
            called.set()
            await asyncio.sleep(DAY)
            return "still here"

        await called.wait()
        await asyncio.sleep(2.0)


class _Uplink:
    """A transport that needs its time for each packet that it sends."""

    departure_grace = 0.0

    def __init__(self, transport: Transport, bytes_per_second: float) -> None:
        self._transport = transport
        self._bytes_per_second = bytes_per_second

    @property
    def identity(self) -> str:
        return self._transport.identity

    async def send(self, take: Callable[[], OutgoingPacket | None]) -> None:
        packet = take()
        if packet is not None:
            await asyncio.sleep(len(packet.data) / self._bytes_per_second)
            await self._transport.send(iter([packet, None]).__next__)

    async def receive(self) -> Sequence[TransportEvent]:
        return await self._transport.receive()

    async def aclose(self) -> None:
        await self._transport.aclose()


class _RecordedAndWatched(WatchedEngine, RecordedEngine):
    """An engine of which everything is seen and written down."""


class _Stage(Watcher):
    """Collects what is seen of a scene, then draws it."""

    def __init__(self, console: Console, journal: Journal | None) -> None:
        super().__init__()
        self._console = console
        self._journal = journal
        self.packets = 0

    def participant(self, transport: Transport, prefix: str) -> RpcParticipant:
        """A participant whose engine is watched, and recorded if there is a journal."""
        return RpcParticipant(transport, new_id=counting_ids(prefix), engine_factory=self._engine)

    def _engine(self, identity: str, **options: Any) -> RpcEngine:
        # Time is virtual, and so is the date.
        options["unix_time_offset"] = BEGINNING
        if self._journal is None:
            return WatchedEngine(self, identity, **options)
        return _RecordedAndWatched(self, identity, journal=self._journal, **options)

    def begin(self, *participants: str) -> None:
        """A new scene; its clock starts at 0."""
        super().begin(*participants)
        self.packets = 0

    def show(self, title: str) -> None:
        """Draw the scene with the participants that have a part in it."""
        self._console.print(Text(title, "bold underline"))
        self._console.print()
        self.draw(self._console)
        self._console.print()

    def complain(self, text: str) -> None:
        self._console.print(Text(text, "bold red"))
        self._console.print()

    def room_event(self, event: SentPacket | ParticipantJoined | ParticipantLeft) -> None:
        """The room carries a packet, or announces somebody."""
        match event:
            case SentPacket():
                self.packets += 1
                is_carried = event.fate is Fate.CARRIED
                self.packet(
                    event.sender_identity, event.destination_identity, event.data, is_carried
                )
            case ParticipantJoined():
                self.note(event.identity, "joins the room", Style.NOTABLE)
            case ParticipantLeft():
                self.note(event.identity, "leaves the room", Style.NOTABLE)


class _LogHandler(logging.Handler):
    def __init__(self, stage: _Stage) -> None:
        super().__init__()
        self._stage = stage

    def emit(self, record: logging.LogRecord) -> None:
        raised = record.exc_info[1] if record.exc_info else None
        if isinstance(record.args, tuple) and record.args:
            self._stage.note(str(record.args[0]), f"logs {raised!r}", Style.NOTABLE)


@contextmanager
def _logged_by_hosts(stage: _Stage) -> Iterator[None]:
    """What hosts log becomes a note on the lifeline of the host, instead of a traceback."""
    logger = logging.getLogger("rpcproto")
    handler, propagate = _LogHandler(stage), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
