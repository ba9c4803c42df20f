"""The journal: recording changes nothing, and everything is in it."""

import inspect
import json
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, get_args

import pytest
import trio
from helpers import raw_packet
from hypothesis import given
from hypothesis import strategies as st
from recorded import Recorded, parsed
from script_strategies import LAW

import rpcproto.asyncio
import rpcproto.trio
from rpcproto import Event, InvocationReceived, LocalProtocolError, RpcConfig, RpcEngine
from rpcproto.participant import RpcInvocationData
from rpcproto.recording import FORMAT, Journal, replay
from rpcproto.recording.lines import PARAMETERS, SETTINGS
from rpcproto.recording.records import EVENTS
from rpcproto.testing import counting_ids, virtual_time_run
from rpcproto.transports.memory import MemoryRoom


def test_every_input_of_an_engine_is_recorded_with_all_its_arguments() -> None:
    reads = {"next_packet", "take_events", "statistics", "check_call"}
    members = {name: member for name, member in vars(RpcEngine).items() if not name.startswith("_")}
    methods = {name for name, member in members.items() if inspect.isfunction(member)} - reads
    settings = {
        name
        for name, member in members.items()
        if isinstance(member, property) and member.fset is not None
    }
    assert settings == SETTINGS
    assert methods | settings == set(PARAMETERS)
    for name in methods:
        assert PARAMETERS[name] == tuple(inspect.signature(members[name]).parameters)[1:]


def test_every_event_of_an_engine_is_recorded() -> None:
    assert {event.__name__ for event in get_args(Event)} == set(EVENTS)


def test_a_line_is_ascii_and_holds_an_input_and_what_came_of_it() -> None:
    it = Recorded()
    it.engine.call("bob", "greet", "h\u00e9", now=0.1 + 0.2, response_timeout=5)
    head, made, called = it.lines
    assert json.loads(head).keys() == {"journal", "rpcproto", "zlib"}
    assert json.loads(head)["journal"] == FORMAT == 2
    number, what, identity, offset, config = json.loads(made)
    assert (number, what, identity, offset) == (1, "engine", "alice", 0.0)
    assert RpcConfig(**config) == RpcConfig()
    assert called == (
        '[1,"call",["bob","greet","h\\u00e9",0.30000000000000004,5,null],5.3,'
        '{"returned":"a0000000-0000-4000-8000-000000000001",'
        '"ids":["a0000000-0000-4000-8000-000000000001"]}]\n'
    )


def test_a_call_is_ten_lines() -> None:
    it = Recorded()
    alice, bob = it.engine, it.add("bob", new_id=counting_ids("b"))
    bob.register_method("greet")
    before = len(it.lines)
    alice.call("bob", "greet", "hi", now=1.0)
    request = alice.next_packet()
    assert request is not None
    bob.receive_packet(request.data, now=1.5, sender_identity="alice", sender_sid="PA_1")
    bob.take_events()
    ack = bob.next_packet()
    assert ack is not None
    alice.receive_packet(ack.data, now=2.0)
    bob.respond(1, "hello", now=2.5)
    response = bob.next_packet()
    assert response is not None
    alice.receive_packet(response.data, now=3.0)
    alice.take_events()
    uuid = "a0000000-0000-4000-8000-000000000001"
    outcome = {"returned": uuid, "ids": [uuid]}
    assert parsed(it.lines[before:]) == [
        [1, "call", ["bob", "greet", "hi", 1.0, None, None], 8.0, outcome],
        [1, "packet", "request", 1, WITHOUT_NAMES[0], "bob", uuid],
        [2, "receive_packet", [WHOLE[0], 1.5, "alice", "PA_1"], 16.5],
        [2, "events", ["InvocationReceived", 1, uuid, "alice", "greet", "hi", 8.0]],
        [2, "packet", "ack", 0, WITHOUT_NAMES[1], "alice", uuid],
        [1, "receive_packet", [WHOLE[1], 2.0, None, None], 11.0],
        [2, "respond", [1, "hello", 2.5], None, {"returned": True}],
        [2, "packet", "response", 1, WITHOUT_NAMES[2], "alice", uuid],
        [1, "receive_packet", [WHOLE[2], 3.0, None, None], None],
        [1, "events", ["CallAcknowledged", uuid], ["CallSucceeded", uuid, "hello"]],
    ]  # fmt: skip


WHOLE = (
    "IgVhbGljZSoDYm9iUjYKJGEwMDAwMDAwLTAwMDAtNDAwMC04MDAwLTAwMDAwMDAwMDAwMRIFZ3JlZXQaAmhpIMA+KAE=",
    "IgNib2IqBWFsaWNlWiYKJGEwMDAwMDAwLTAwMDAtNDAwMC04MDAwLTAwMDAwMDAwMDAwMQ==",
    "IgNib2IqBWFsaWNlYi0KJGEwMDAwMDAwLTAwMDAtNDAwMC04MDAwLTAwMDAwMDAwMDAwMRIFaGVsbG8=",
)
"""The request, the ack and the response in base64."""
WITHOUT_NAMES = tuple(data[16:] for data in WHOLE)
"""The same without sender and destination, which are their first 12 bytes."""


def test_a_line_is_written_when_its_input_has_been_done() -> None:
    pending: list[int] = []
    engines: list[RpcEngine] = []

    def write(line: str) -> None:
        pending.extend(engine.statistics().pending_calls for engine in engines)

    engines.append(Journal(write).engine("alice", new_id=counting_ids()))
    engines[0].call("bob", "greet", "", now=0.0)
    assert pending == [1]


def test_results_are_written_if_there_are_any() -> None:
    it = Recorded()
    assert it.engine.next_packet() is None
    assert it.engine.take_events() == ()
    assert len(it.lines) == 2
    it.engine.call("bob", "greet", "", now=0.0)
    it.engine.next_packet()
    assert it.last()[:4] == [1, "packet", "request", 1]
    it.engine.close(now=1.0)
    it.engine.take_events()
    assert [event[0] for event in it.last()[2:]] == ["CallFailed"]
    assert replay(it.lines) == ()


@LAW
@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(min_value=5e-324, max_value=1e9))
def test_numbers_survive_to_the_last_bit(now: float, timeout: float) -> None:
    it = Recorded(unix_time_offset=now)
    it.engine.call("bob", "greet", "", now=now, response_timeout=timeout)
    assert float(it.last()[2][3]).hex() == now.hex()
    it.engine.handle_deadline(now=int(now))
    assert replay(it.lines) == ()


def test_a_deadline_that_is_not_finite_is_recorded_by_its_type() -> None:
    it = Recorded()
    it.engine.call("bob", "greet", "", now=1.7e308, response_timeout=1e308, ack_timeout=1e308)
    assert it.last()[3] == {"foreign": "float"}
    assert replay(it.lines) == ()


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes_are_recorded(kind: Callable[[bytes], Any]) -> None:
    it = Recorded()
    it.engine.receive_packet(kind(raw_packet(rpc_ack={"request_id": "r"})), now=0.0)
    it.engine.receive_packet(memoryview(bytes(40))[::2], now=0.0, sender_identity="bob")
    assert replay(it.lines) == ()


def test_a_packet_that_is_too_large_is_not_kept() -> None:
    it = Recorded(config=RpcConfig(max_packet_bytes=100))
    it.engine.receive_packet(bytes(10_000), now=0.0)
    it.engine.take_events()
    assert parsed(it.lines[2:]) == [
        [1, "receive_packet", [{"too_large": True}, 0.0, None, None], None],
        [1, "events", ["PacketIgnored", "too large", ""]],
    ]
    assert replay(it.lines) == ()


def test_a_sid_that_is_nothing_is_recorded_as_what_it_is() -> None:
    """The engine takes everything that is false for no sid."""
    it = Recorded()
    it.engine.receive_packet(b"", now=0.0, sender_identity="bob", sender_sid=0)  # type: ignore[arg-type]
    assert it.last()[2] == ["", 0.0, "bob", 0]
    assert replay(it.lines) == ()


def test_any_collection_of_capabilities_is_recorded() -> None:
    it = Recorded()
    for capabilities in ((2,), [2], {2}, frozenset({1, 2}), {2: ""}.keys(), range(3)):
        it.engine.participant_joined("bob", now=0.0, client_protocol=2, capabilities=capabilities)
        assert 2 in it.last()[2][4]
    assert replay(it.lines) == ()


def test_a_setting_is_recorded_and_replayed_like_any_input() -> None:
    """R15: with it the host is handed a request for a method that nobody has registered."""
    it = Recorded()
    assert it.engine.hand_over_unknown_methods is False
    it.engine.receive_packet(raw_packet(rpc_request={**REQUEST, "id": "before"}), now=0.0)
    assert it.engine.take_events() == ()
    it.engine.hand_over_unknown_methods = True
    assert it.engine.hand_over_unknown_methods is True
    assert it.last() == [1, "hand_over_unknown_methods", [True], None]
    it.engine.receive_packet(raw_packet(rpc_request=REQUEST), now=0.0)
    [invocation] = it.engine.take_events()
    assert isinstance(invocation, InvocationReceived)
    it.engine.hand_over_unknown_methods = False
    assert it.last()[:3] == [1, "hand_over_unknown_methods", [False]]
    assert it.last()[3] == it.engine.next_deadline is not None
    assert replay(it.lines) == ()
    without = [line for line in it.lines if "hand_over" not in line]
    assert [divergence.got for divergence in replay(without)] != []


def test_a_packet_that_could_not_be_sent_is_recorded() -> None:
    it = Recorded()
    it.engine.call("bob", "greet", "", now=0.0)
    packet = it.engine.next_packet()
    assert packet is not None
    it.engine.send_failed(packet, now=1.0)
    assert it.last()[2] == [["request", packet.token, "bob", packet.request_id], 1.0]
    it.engine.take_events()
    assert it.last()[2][:3] == ["CallFailed", packet.request_id, 1505]
    assert replay(it.lines) == ()


MISUSE: dict[str, Callable[[RpcEngine], object]] = {
    "a payload that is no text": lambda e: e.call("bob", "m", 3, now=0.0),  # type: ignore[arg-type]
    "a payload that is None": lambda e: e.call("bob", "m", None, now=0.0),  # type: ignore[arg-type]
    "a lone surrogate": lambda e: e.call("bob", "m", "\udc80", now=0.0),
    "two of them, which are a character in JSON": lambda e: e.register_method("\ud83d\ude00"),
    "not a number": lambda e: e.handle_deadline(now=math.nan),
    "infinity": lambda e: e.call("bob", "m", "", now=0.0, response_timeout=math.inf),
    "an endless number": lambda e: e.respond_error(1, 10**5_000, now=0.0),
    "an object": lambda e: e.respond(1, object(), now=0.0),  # type: ignore[arg-type]
    "an id of an invocation that is a text": lambda e: e.respond_error("1", 1, now=0.0),  # type: ignore[arg-type]
    "an unhashable id": lambda e: e.cancel([], now=0.0),  # type: ignore[arg-type]
    "an id that is an object": lambda e: e.cancel(object(), now=0.0),  # type: ignore[arg-type]
    "a text as a packet": lambda e: e.receive_packet("text", now=0.0),  # type: ignore[arg-type]
    "a text as a packet that failed": lambda e: e.send_failed("text", now=0.0),  # type: ignore[arg-type]
    "capabilities that are a number": lambda e: e.participant_joined("b", now=0.0, capabilities=2),  # type: ignore[arg-type]
    "capabilities that are a text": lambda e: e.participant_joined(
        "b", now=0.0, client_protocol=2, capabilities="2"  # type: ignore[arg-type]
    ),
    "a setting that is no bool": lambda e: setattr(e, "hand_over_unknown_methods", 1),
    "a setting that is None": lambda e: setattr(e, "hand_over_unknown_methods", None),
    "a setting that is an object": lambda e: setattr(e, "hand_over_unknown_methods", object()),
    "a method that is registered": lambda e: e.register_method("greet"),
    "a name that is too long": lambda e: e.participant_left("x" * 257, now=0.0),
    "a long name that is new": lambda e: e.call("x" * 200, "m", "\udc80", now=0.0),
    "an argument that is missing": lambda e: e.call("bob"),  # type: ignore[call-arg]
    "an argument too many": lambda e: e.cancel("bob", 1.0, now=0.0),  # type: ignore[misc]
    "an argument that is not known": lambda e: e.close(when=0.0),  # type: ignore[call-arg]
}  # fmt: skip


@pytest.mark.parametrize("misuse", MISUSE.values(), ids=MISUSE)
def test_misuse_is_as_it_is_without_a_journal_and_can_be_replayed(
    misuse: Callable[[RpcEngine], object],
) -> None:
    outcomes = []
    it = Recorded()
    for engine in (RpcEngine("alice", new_id=counting_ids("a")), it.engine):
        engine.register_method("greet")
        try:
            outcomes.append(repr(misuse(engine)))
        except Exception as error:
            outcomes.append(repr(error).replace("RecordedEngine", "RpcEngine"))
        engine.call("x" * 200, "greet", "", now=1.0)
        outcomes.append(repr((engine.next_packet(), engine.next_deadline)))
    assert outcomes[:2] == outcomes[2:]
    assert it.journal.error is None
    assert replay(it.lines) == ()


def test_a_call_that_python_refuses_is_not_recorded() -> None:
    it = Recorded()
    for refused in ("an argument that is missing", "an argument too many"):
        with pytest.raises(TypeError):
            MISUSE[refused](it.engine)
    assert len(it.lines) == 2


def test_a_new_id_that_is_not_an_id_is_recorded_too() -> None:
    ids = iter(["", 3, "a", "a", "b"])
    it = Recorded(new_id=lambda: next(ids))
    for _ in range(6):
        with suppress(LocalProtocolError, StopIteration):
            it.engine.call("bob", "greet", "", now=0.0)
    outcomes = [source[4] for source in parsed(it.lines[2:])]
    assert [("raised" in outcome, outcome.get("ids")) for outcome in outcomes] == [
        (True, [""]),
        (True, [3]),
        (False, ["a"]),
        (True, ["a"]),
        (False, ["b"]),
        (True, [{"foreign": "StopIteration"}]),
    ]
    assert replay(it.lines) == ()


def test_an_engine_that_cannot_be_made_is_not_in_the_journal() -> None:
    it = Recorded()
    with pytest.raises(LocalProtocolError):
        it.add("")
    it.add("bob").close(now=0.0)
    assert it.last()[:2] == [2, "close"]
    assert replay(it.lines) == ()


# a journal that cannot be written


def test_an_engine_goes_on_when_its_journal_cannot_be_written(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lines: list[str] = []

    def write(line: str) -> None:
        if len(lines) == 3:
            raise full
        lines.append(line)

    full = OSError("no space left on the device")
    journal = Journal(write)
    engine = journal.engine("alice", new_id=counting_ids("a"))
    plain = RpcEngine("alice", new_id=counting_ids("a"))
    for each in (engine, plain):
        each.register_method("greet")
        each.call("bob", "greet", "", now=0.0)
        assert each.call("bob", "greet", "", now=0.0).endswith("2")
        assert (each.next_packet(), each.next_packet(), each.next_packet())[2] is None
        each.receive_packet(raw_packet(rpc_request=REQUEST), now=1.0)
        each.respond(3, "hello", now=2.0)
        each.handle_deadline(now=7.0)
    assert engine.take_events() == plain.take_events()
    assert journal.error is full
    assert [record.getMessage() for record in caplog.records] == [
        "cannot write the journal, so recording has stopped"
    ]
    assert caplog.records[0].levelno == logging.ERROR
    lines.append("")  # there would be room again, but not for a journal with a gap
    engine.close(now=8.0)
    assert len(lines) == 4
    assert replay(lines[:3]) == ()


REQUEST = {"id": "r", "method": "greet", "version": 1}

EACH_LINE: dict[str, Callable[[RpcEngine], object]] = {
    "call": lambda e: e.call("bob", "greet", "", now=1.0),
    "respond": lambda e: e.respond(1, "", now=1.0),
    "receive_packet": lambda e: e.receive_packet(b"", now=1.0),
    "handle_deadline": lambda e: e.handle_deadline(now=1.0),
    "hand_over_unknown_methods": lambda e: setattr(e, "hand_over_unknown_methods", True),
    "close": lambda e: e.close(now=1.0),
    "packet": lambda e: e.next_packet(),
    "events": lambda e: e.take_events(),
}


@pytest.mark.parametrize("do", EACH_LINE.values(), ids=EACH_LINE)
def test_no_input_and_no_result_is_lost_when_its_line_cannot_be_written(
    do: Callable[[RpcEngine], object],
) -> None:
    lines: list[str] = []

    def write(line: str) -> None:
        if is_full:
            raise OSError("no space left on the device")
        lines.append(line)

    is_full = False
    journal = Journal(write)
    recorded = journal.engine("alice", new_id=counting_ids("a"))
    plain = RpcEngine("alice", new_id=counting_ids("a"))
    outcomes = []
    for engine in (recorded, plain):
        engine.register_method("greet")
        engine.receive_packet(raw_packet(rpc_request=REQUEST), now=0.0)
        is_full = True
        outcomes.append(do(engine))
    assert outcomes[0] == outcomes[1]
    assert recorded.statistics() == plain.statistics()
    assert isinstance(journal.error, OSError)


def test_an_engine_goes_on_when_an_argument_cannot_be_written_down() -> None:
    class Odd(list[int]):
        def __iter__(self) -> Iterator[int]:
            raise RuntimeError("not today")

    it = Recorded()
    it.engine.participant_joined("bob", now=0.0, capabilities=Odd())
    assert it.engine.participants == ("bob",)
    assert isinstance(it.journal.error, RuntimeError)
    assert len(it.lines) == 2


def test_ctrl_c_is_raised_to_the_host() -> None:
    lines: list[str] = []

    def write(line: str) -> None:
        if lines:
            raise KeyboardInterrupt
        lines.append(line)

    journal = Journal(write)
    with pytest.raises(KeyboardInterrupt):
        journal.engine("alice", new_id=counting_ids())
    assert isinstance(journal.error, KeyboardInterrupt)


def test_a_journal_that_cannot_even_begin_raises_at_once() -> None:
    def write(line: str) -> None:
        raise OSError("read-only file system")

    with pytest.raises(OSError, match="read-only"):
        Journal(write)


# hosts


@pytest.mark.parametrize("world", ["asyncio", "trio"])
def test_a_host_records_its_engine(world: str) -> None:
    lines: list[str] = []
    journal = Journal(lines.append)
    module = rpcproto.asyncio if world == "asyncio" else rpcproto.trio

    async def shout(data: RpcInvocationData) -> str:
        return data.payload.upper()

    async def main() -> None:
        room = MemoryRoom()
        async with (
            module.RpcParticipant(room.join("alice"), engine_factory=journal.engine) as alice,
            module.RpcParticipant(room.join("bob"), engine_factory=journal.engine) as bob,
        ):
            bob.register_rpc_method("shout", shout)
            answer = await alice.perform_rpc(
                destination_identity="bob", method="shout", payload="hi" * 50_000
            )
            assert answer == "HI" * 50_000

    if world == "asyncio":
        virtual_time_run(main())
    else:
        trio.run(main)
    sources = parsed(lines)
    assert [source[2] for source in sources if "engine" in source] == ["alice", "bob"]
    assert {source[1] for source in sources[1:]} >= {
        "call", "respond", "receive_packet", "participant_joined", "connected", "close",
    }  # fmt: skip
    assert replay(lines) == ()
