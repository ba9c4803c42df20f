"""What is public: the names in `__all__`, their types, and what may be subclassed."""

import ast
import asyncio
import importlib
import inspect
import itertools
import pickle
import pkgutil
import re
import traceback
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from pathlib import Path
from types import FunctionType, ModuleType
from typing import assert_type, get_args, get_type_hints

import generated
import pytest
import trio

import rpcproto.asyncio
import rpcproto.livekit
import rpcproto.trio
from rpcproto import (
    AbandonReason,
    CallAcknowledged,
    CallFailed,
    CallSucceeded,
    ErrorCode,
    Event,
    IgnoreReason,
    InvocationAbandoned,
    InvocationReceived,
    LocalProtocolError,
    OutgoingPacket,
    PacketIgnored,
    PacketKind,
    RpcConfig,
    RpcEngine,
    RpcError,
    Statistics,
    random_ids,
    wire,
)
from rpcproto.participant import ParticipantStatistics
from rpcproto.recording import Divergence, Journal, JournalError, Trace, replay, trace
from rpcproto.testing import World, WorldCall, WorldParticipant, virtual_time_run
from rpcproto.transports import PacketsNotSent, ParticipantJoined, Transport, TransportEvent
from rpcproto.transports.memory import MemoryRoom, MemoryTransport

NAMES = [
    "rpcproto",
    *(found.name for found in pkgutil.walk_packages(rpcproto.__path__, "rpcproto.")),
]
MODULES = [
    module
    for name in NAMES
    if not name.endswith("__main__") and hasattr(module := importlib.import_module(name), "__all__")
]
"""The public modules."""

each_module = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)

OPEN = {
    "AsyncParticipantBase": "a base class for hosts",
    "Journal": "tools replace the engine that it makes",
    "Keyring": "a base class for cryptors",
    "MemoryTransport": "tests replace some of its methods",
    "ParticipantBase": "a base class for hosts",
    "RecordedEngine": "tools record more",
    "Retry": "programs choose what to retry",
    "RpcEngine": "journals wrap it",
    "RpcInterceptor": "a base class for interceptors",
    "RpcInvocationData": "as in LiveKit's SDK",
    "RpcParticipant": "a room client adds to it",
    "Statistics": "participants add totals",
    "ToyCryptor": "tests replace some of its methods",
    "Work": "a future",
}
"""The classes that may be subclassed, and why."""


def classes() -> list[type]:
    """All public classes for which there is a choice."""
    found = {
        named: None
        for module in MODULES
        for name in module.__all__
        if inspect.isclass(named := getattr(module, name))
        if not issubclass(named, (Enum, BaseException, dict))
        if not getattr(named, "_is_protocol", False)
    }
    return list(found)


def test_the_modules_that_users_import_are_public() -> None:
    names = {module.__name__ for module in MODULES}
    assert names >= {
        "rpcproto",
        "rpcproto.asyncio",
        "rpcproto.livekit",
        "rpcproto.recording",
        "rpcproto.testing",
        "rpcproto.transports.stream",
        "rpcproto.trio",
        "rpcproto.wire",
    }
    assert not any(name.startswith(("rpcproto.core", "rpcproto.cli")) for name in names)


@each_module
def test_a_star_import_brings_what_the_module_has(module: ModuleType) -> None:
    names: dict[str, object] = {}
    exec(f"from {module.__name__} import *", names)
    assert set(module.__all__) == set(names) - {"__builtins__"}
    assert len(module.__all__) == len(set(module.__all__))


def test_no_name_is_exported_by_an_import_alone() -> None:
    """`import X as X` exports a name to type checkers, and not to `__all__`."""
    for path in Path(rpcproto.__path__[0]).rglob("*.py"):
        assert not re.search(r"import (\w+) as \1$", path.read_text("utf-8"), re.MULTILINE), path


def definitions(module: ModuleType) -> list[type | FunctionType]:
    """The public classes and functions of a module."""
    values = [getattr(module, name) for name in module.__all__]
    return [value for value in values if isinstance(value, type | FunctionType)]


@each_module
def test_a_name_shows_a_module_from_which_it_can_be_imported(module: ModuleType) -> None:
    public = {module.__name__ for module in MODULES}
    for named in definitions(module):
        assert named.__module__ in public, named
        assert getattr(importlib.import_module(named.__module__), named.__name__) is named


def test_a_name_in_several_modules_belongs_to_the_one_that_all_hosts_share() -> None:
    for host in (rpcproto.asyncio, rpcproto.trio, rpcproto.livekit):
        assert host.RpcError.__module__ == "rpcproto"
        assert host.RpcInvocationData.__module__ == "rpcproto.participant"


def test_a_traceback_names_the_exception_as_users_import_it() -> None:
    with pytest.raises(LocalProtocolError) as raised:
        RpcConfig(ack_timeout=-1.0)
    last = traceback.format_exception(raised.value)[-1]
    assert last.startswith("rpcproto.LocalProtocolError: ack_timeout")


@each_module
def test_classes_and_functions_can_be_pickled(module: ModuleType) -> None:
    for named in definitions(module):
        if "<locals>" not in named.__qualname__:  # made by a decorator of Hypothesis
            assert pickle.loads(pickle.dumps(named)) is named


@pytest.mark.parametrize(
    "value",
    [
        CallFailed("r1", 1501, "", ""),
        InvocationAbandoned(1, AbandonReason.CALLER_LEFT),
        OutgoingPacket(b"x", "bob", "r1", PacketKind.REQUEST, 0),
        ErrorCode.CONNECTION_TIMEOUT,
        RpcConfig(ack_timeout=2.0),
        rpcproto.asyncio.RpcCallInfo("bob", "greet", "Hi"),
        ParticipantJoined("bob"),
        wire.Request("r1", "greet", "Hi", 1000, 1),
        Divergence(1, "alice", "then", "now"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_survive_pickling(value: object) -> None:
    assert pickle.loads(pickle.dumps(value)) == value


@pytest.mark.parametrize(
    "error",
    [
        RpcError(1500, "failed", "data"),
        LocalProtocolError("wrong"),
        PacketsNotSent([OutgoingPacket(b"x", "bob", "r1", PacketKind.REQUEST, 0)], "too large"),
        JournalError("line 3"),
        rpcproto.livekit.TokenError("no token"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_exceptions_survive_pickling(error: Exception) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_the_source_of_a_method_is_found_and_never_that_of_something_else() -> None:
    assert "def call(" in inspect.getsource(RpcEngine.call)
    assert "def random_ids(" in inspect.getsource(random_ids)
    with pytest.raises(OSError, match=r"class definition|not available"):
        inspect.getsource(RpcEngine)


@pytest.mark.parametrize("named", classes(), ids=lambda named: named.__qualname__)
def test_a_class_is_final_unless_it_is_meant_to_be_subclassed(named: type) -> None:
    assert getattr(named, "__final__", False) is (named.__name__ not in OPEN)


def test_every_class_that_is_open_is_there() -> None:
    assert set(OPEN) <= {named.__name__ for named in classes()}


# Each of the following also runs, but it is a type checker that looks at `assert_type`.


def test_types_of_an_engine() -> None:
    assert_type(random_ids(), Callable[[], str])
    engine = RpcEngine("alice", new_id=random_ids(), config=RpcConfig(ack_timeout=2.0))
    assert_type(engine.call("bob", "greet", "Hi", now=0.0), str)
    assert_type(engine.next_packet(), OutgoingPacket | None)
    assert_type(engine.next_deadline, float | None)
    assert_type(engine.has_packets, bool)
    assert_type(engine.respond(1, "Hello", now=0.0), bool)
    assert_type(engine.cancel("nobody's", now=0.0), bool)
    assert_type(engine.participants, tuple[str, ...])
    assert_type(engine.statistics(), Statistics)
    assert_type(engine.take_events(), tuple[Event, ...])


def test_types_of_events() -> None:
    for event in (CallFailed("r1", 1501, "", ""), CallAcknowledged("r1")):
        narrowed(event)


def narrowed(event: Event) -> None:
    """A `match` over all events is complete."""
    match event:
        case CallAcknowledged(request_id):
            assert_type(request_id, str)
        case CallSucceeded(request_id, payload):
            assert_type((request_id, payload), tuple[str, str])
        case CallFailed(_, code, message, data):
            assert_type((code, message, data), tuple[int, str, str])
        case InvocationReceived():
            assert_type((event.invocation_id, event.response_timeout), tuple[int, float])
        case InvocationAbandoned():
            assert_type(event.reason, AbandonReason)
        case PacketIgnored():
            assert_type(event.reason, IgnoreReason)
        case _ as never:
            raise AssertionError(never)


def test_types_of_messages() -> None:
    packet = wire.decode(wire.encode(wire.Ack("r1"), "alice", "bob"))
    assert_type(packet, wire.Packet | None)
    assert packet is not None
    assert_type(packet.destination_identities, Sequence[str])
    assert_type(packet.message, wire.Message)
    assert_type(wire.stamp(b"", sequence=1), bytes)


async def ask(participant: rpcproto.asyncio.RpcParticipant | rpcproto.trio.RpcParticipant) -> None:
    """The surface is the same on both."""
    assert_type(participant.identity, str)
    assert_type(participant.participants, tuple[str, ...])
    assert_type(participant.statistics(), ParticipantStatistics)
    with pytest.raises(RpcError) as raised:
        assert_type(
            await participant.perform_rpc(destination_identity="bob", method="m", payload=""), str
        )
    assert_type(raised.value.code, int)
    assert raised.value.code == ErrorCode.RECIPIENT_NOT_FOUND
    assert_type(await participant.drain(timeout=1.0), bool)


def register(participant: rpcproto.asyncio.RpcParticipant | rpcproto.trio.RpcParticipant) -> None:
    """A decorator returns the function that it was given."""

    @participant.register_rpc_method("later")
    async def later(data: rpcproto.asyncio.RpcInvocationData) -> str:
        return data.payload

    @participant.register_rpc_method("at once")
    def at_once(data: rpcproto.asyncio.RpcInvocationData) -> None:
        assert_type(data.cancel_reason, ErrorCode | None)

    function: Callable[[rpcproto.asyncio.RpcInvocationData], Awaitable[str]] = later
    assert function is later
    assert at_once.__name__ == "at_once"


def test_types_of_a_participant_on_asyncio() -> None:
    async def main() -> None:
        transport = assert_type(MemoryRoom().join("alice"), MemoryTransport)
        any_transport: Transport = transport
        async with rpcproto.asyncio.RpcParticipant(any_transport) as alice:
            assert_type(alice, rpcproto.asyncio.RpcParticipant)
            register(alice)
            await ask(alice)
        assert_type(await transport.receive(), Sequence[TransportEvent])

    virtual_time_run(main())


def test_types_of_a_participant_on_trio() -> None:
    async def main() -> None:
        async with rpcproto.trio.RpcParticipant(MemoryRoom().join("alice")) as alice:
            assert_type(alice, rpcproto.trio.RpcParticipant)
            register(alice)
            await ask(alice)

    trio.run(main)


def test_types_of_an_interceptor() -> None:
    class Both(rpcproto.asyncio.RpcInterceptor):
        async def intercept_outgoing(
            self, call: rpcproto.asyncio.RpcCallInfo, next: rpcproto.asyncio.OutgoingRpcNext
        ) -> str:
            return assert_type(await next(call), str)

        async def intercept_incoming(
            self,
            invocation: rpcproto.asyncio.RpcInvocationData,
            next: rpcproto.asyncio.IncomingRpcNext,
        ) -> str | None:
            return assert_type(await next(invocation), str | None)

    call = rpcproto.asyncio.RpcCallInfo("bob", "greet", "Hi")

    async def answer(call: rpcproto.asyncio.RpcCallInfo) -> str:
        return call.payload

    assert asyncio.run(Both().intercept_outgoing(call, answer)) == "Hi"


def test_types_of_a_world_and_a_journal() -> None:
    lines: list[str] = []
    journal = Journal(lines.append)
    world = World(engine_factory=journal.engine)
    alice = assert_type(world.join("alice"), WorldParticipant)
    call = assert_type(alice.call("bob", "greet", "Hi"), WorldCall)
    world.run()
    assert_type(call.outcome, str | RpcError | None)
    assert_type(journal.error, BaseException | None)
    assert_type(journal.engine("bob", new_id=random_ids()), RpcEngine)
    assert_type(replay(lines), tuple[Divergence, ...])
    assert_type(trace(lines), Trace)


def test_no_public_name_needs_a_type_that_cannot_be_resolved() -> None:
    for named in classes():
        get_type_hints(named)
        for name, method in vars(named).items():
            if isinstance(method, FunctionType) and not name.startswith("_"):
                get_type_hints(method)
    for module in MODULES:
        for function in definitions(module):
            get_type_hints(function)


def test_all_that_somebody_needs_who_writes_packets_is_in_one_module() -> None:
    assert set(wire.__all__) <= set(vars(wire))
    kinds = {kind.__name__: kind for kind in (wire.Packet, *get_args(wire.Message))}
    assert set(kinds) <= set(wire.__all__)
    for kind in kinds.values():
        assert fields_described(kind) == list(kind._fields), kind


def fields_described(kind: type) -> list[str]:
    """The fields of a message that have a description in the source."""
    definition = generated.find("rpcproto.wire", kind.__name__)[1]
    assert isinstance(definition, ast.ClassDef)
    return [
        field.target.id
        for field, text in itertools.pairwise(definition.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
    ]
