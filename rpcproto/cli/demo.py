"""Eight calls in a room, on virtual time, drawn as they are seen; nothing of it is written down.

The arrows are the packets that the room carries, decoded from their bytes. The notes are what the
engines were asked for, what they told their hosts, and what a host logged.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import Any, Final, NamedTuple

from rich.console import Console
from rich.text import Text

from rpcproto.asyncio import RpcParticipant
from rpcproto.cli.decode import kind_of, style_of
from rpcproto.cli.lifelines import ASCII, BOXES, Arrow, Note, Row, draw
from rpcproto.core import wire
from rpcproto.core.engine import RpcEngine
from rpcproto.core.errors import ErrorCode, RpcError, byte_length
from rpcproto.core.events import (
    CallFailed,
    CallSucceeded,
    Event,
    InvocationAbandoned,
    InvocationReceived,
    PacketIgnored,
)
from rpcproto.participant import RpcInvocationData
from rpcproto.testing import counting_ids, virtual_time_run
from rpcproto.transports import ParticipantJoined, ParticipantLeft
from rpcproto.transports.memory import Carried, MemoryRoom

LATENCY: Final = 0.05
"""The way from one participant to another, in seconds."""
AFTERWARDS: Final = 5.0
"""How long a scene goes on when its call has ended, in seconds."""
DAY: Final = 86_400.0
MAX_SHOWN_BYTES: Final = 20
"""Longer payloads are shown by their size."""


class Scene(NamedTuple):
    """A call by alice, and how it should end: the payload, or the code of the error."""

    title: str
    recipient: str
    method: str
    payload: str
    expected: str | int
    response_timeout: float | None = None


SCENES: Final = (
    Scene("A greeting", "bob", "greet", "Hello from RPC!", "Hello, alice!"),
    Scene("A method that nobody registered", "bob", "meet", "", ErrorCode.UNSUPPORTED_METHOD),
    Scene("A handler that raises an RpcError", "bob", "brew", "coffee", 2001),
    Scene("A handler with a bug", "bob", "crash", "", ErrorCode.APPLICATION_ERROR),
    Scene(
        "A payload that is one byte too large for a v1 peer",
        "bob",
        "greet",
        "x" * 15_361,
        ErrorCode.REQUEST_PAYLOAD_TOO_LARGE,
    ),
    Scene("A recipient that leaves in the middle", "carol", "leave", "", 1503),
    Scene("A recipient that never answers", "dave", "greet", "", ErrorCode.CONNECTION_TIMEOUT),
    Scene("A handler that is too slow", "bob", "sleep", "", ErrorCode.RESPONSE_TIMEOUT, 3_600.0),
)


def play(console: Console, scenes: Sequence[Scene] = SCENES) -> bool:
    """Play all scenes and print them; False if one of them did not end as it should."""
    stage = _Stage(console)
    with _logged_by_hosts(stage):
        failed, seconds = virtual_time_run(_play(stage, scenes))
    verdict = f"{len(scenes) - failed} of {len(scenes)} calls ended as they should"
    console.print(
        Text(f"{verdict}; {seconds:,.0f} s of virtual time", "red" if failed else "green")
    )
    return not failed


async def _play(stage: "_Stage", scenes: Sequence[Scene]) -> tuple[int, float]:
    """The number of calls that ended otherwise than they should, and the time it took."""
    room = MemoryRoom(latency=LATENCY, observe=stage.room_event)
    async with AsyncExitStack() as stack:
        alice = await stack.enter_async_context(stage.participant("alice", room, "a"))
        bob = await stack.enter_async_context(stage.participant("bob", room, "b"))
        _register_methods_of_bob(bob)
        room.join("dave", client_protocol=0)  # he has no engine, and never listens
        guest = asyncio.create_task(_visit(stage.participant("carol", room, "c")))
        failed = 0
        await asyncio.sleep(AFTERWARDS)  # everyone gets to know of everyone
        for number, scene in enumerate(scenes, 1):
            stage.begin()
            outcome = await _perform(alice, scene)
            await asyncio.sleep(AFTERWARDS)
            stage.show(f"{number}. {scene.title}")
            if outcome != scene.expected:
                stage.complain(f"expected {scene.expected}, but it ended with {outcome}")
                failed += 1
        guest.cancel()
        await asyncio.wait([guest])
    return failed, asyncio.get_running_loop().time()


async def _perform(alice: RpcParticipant, scene: Scene) -> str | int:
    try:
        return await alice.perform_rpc(
            destination_identity=scene.recipient,
            method=scene.method,
            payload=scene.payload,
            response_timeout=scene.response_timeout,
        )
    except RpcError as error:
        return error.code


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


class _Stage:
    """Collects what is seen of a scene, then draws it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = 0.0
        self._rows: list[Row] = []
        self._participants: list[str] = []

    def participant(self, identity: str, room: MemoryRoom, prefix: str) -> RpcParticipant:
        """A participant whose engine is watched."""

        def engine_factory(identity: str, **options: Any) -> RpcEngine:
            return _WatchedEngine(self, identity, **options)

        return RpcParticipant(
            identity,
            room.join(identity, client_protocol=0),
            new_id=counting_ids(prefix),
            engine_factory=engine_factory,
        )

    def begin(self) -> None:
        """A new scene; its clock starts at 0."""
        self._began = asyncio.get_running_loop().time()
        self._rows.clear()
        self._participants.clear()

    def show(self, title: str) -> None:
        """Draw the scene with the participants that have a part in it."""
        glyphs = BOXES if self._console.encoding.lower().startswith("utf") else ASCII
        self._console.print(Text(title, "bold underline"))
        self._console.print()
        for line in draw(self._participants, self._rows, self._console.width, glyphs):
            self._console.print(line)
        self._console.print()

    def complain(self, text: str) -> None:
        self._console.print(Text(text, "bold red"))
        self._console.print()

    # what is seen

    def note(self, participant: str, text: str, style: str = "") -> None:
        """Something happened at a participant."""
        self._take_part(participant)
        self._rows.append(Note(self._now(), participant, text, style))

    def call(self, caller: str, recipient: str, method: str, payload: str) -> None:
        """An engine is asked for a call."""
        size = byte_length(payload)
        shown = repr(payload) if size <= MAX_SHOWN_BYTES else f"with {size:,} bytes"
        self.note(caller, f"calls {recipient}: {method} {shown}")
        self._take_part(recipient)

    def room_event(self, event: Carried | ParticipantJoined | ParticipantLeft) -> None:
        """The room carries a packet, or announces somebody."""
        match event:
            case Carried(sender_identity=sender, packet=sent):
                packet = wire.decode(sent.data)
                kind = "malformed packet" if packet is None else kind_of(packet.message)
                label = f"{kind}, {len(sent.data):,} bytes"
                receiver = sent.destination_identity
                self._take_part(sender, receiver)
                self._rows.append(
                    Arrow(self._now(), sender, receiver, label, style_of(kind), event.delivered)
                )
            case ParticipantJoined():
                self.note(event.identity, "joins the room", "yellow")
            case ParticipantLeft():
                self.note(event.identity, "leaves the room", "yellow")

    def engine_event(self, identity: str, event: Event) -> None:
        """An engine tells its host something."""
        match event:
            case CallSucceeded():
                self.note(identity, f"succeeded: {event.payload!r}", "bold green")
            case CallFailed():
                data = f" ({event.data})" if event.data else ""
                self.note(identity, f"failed: {event.code} {event.message}{data}", "bold red")
            case InvocationReceived():
                self.note(identity, f"runs {event.method}")
            case InvocationAbandoned():
                self.note(identity, f"abandons it: {event.reason.value}", "yellow")
            case PacketIgnored():
                self.note(identity, f"ignores a packet: {event.reason.value}", "yellow")

    def _take_part(self, *participants: str) -> None:
        for participant in participants:
            if participant not in self._participants:
                self._participants.append(participant)

    def _now(self) -> float:
        return asyncio.get_running_loop().time() - self._began


class _WatchedEngine(RpcEngine):
    """An engine that shows what it is asked for and what it tells."""

    def __init__(self, stage: _Stage, identity: str, **options: Any) -> None:
        super().__init__(identity, **options)
        self._stage = stage
        self._name = identity

    def call(self, destination_identity: str, method: str, payload: str, **options: Any) -> str:
        self._stage.call(self._name, destination_identity, method, payload)
        return super().call(destination_identity, method, payload, **options)

    def handle_deadline(self, *, now: float) -> None:
        deadline = self.next_deadline
        if deadline is not None and deadline <= now:
            self._stage.note(self._name, "a deadline passes", "yellow")
        super().handle_deadline(now=now)

    def take_events(self) -> tuple[Event, ...]:
        events = super().take_events()
        for event in events:
            self._stage.engine_event(self._name, event)
        return events


class _LogHandler(logging.Handler):
    def __init__(self, stage: _Stage) -> None:
        super().__init__()
        self._stage = stage

    def emit(self, record: logging.LogRecord) -> None:
        raised = record.exc_info[1] if record.exc_info else None
        if isinstance(record.args, tuple) and record.args:
            self._stage.note(str(record.args[0]), f"logs {raised!r}", "yellow")


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
