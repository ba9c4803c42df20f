"""The journal: recording changes nothing, and a replay is the run again or says where it is not."""

import functools
import json
import logging
import math
import operator
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import trio
from engine_scripts import US, Recording, play
from helpers import raw_packet
from hypothesis import given, settings
from hypothesis import strategies as st
from script_strategies import LAW, recordings

import rpcproto.asyncio
import rpcproto.trio
from rpcproto import LocalProtocolError, RpcConfig, RpcEngine
from rpcproto.journal import FORMAT, Divergence, Journal, JournalError, replay
from rpcproto.participant import RpcInvocationData
from rpcproto.testing import counting_ids, virtual_time_run
from rpcproto.tracing import trace
from rpcproto.transports.memory import MemoryRoom

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")


def recorded(recording: Recording) -> list[str]:
    """The journal of a run that has been before, and is the same again while it is recorded."""
    lines: list[str] = []
    ids = iter(recording.ids)
    engine = Journal(lines.append).engine(US, new_id=ids.__next__, config=recording.config)
    assert tuple(play(engine, input_) for input_ in recording.inputs) == recording.outcomes
    return lines


def parsed(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


def written(record: object) -> str:
    return json.dumps(record, separators=(",", ":")) + "\n"


class Recorded:
    """A recorded engine and its journal."""

    def __init__(self, **options: Any) -> None:
        self.lines: list[str] = []
        self.journal = Journal(self.lines.append)
        self.engine = self.add("alice", **options)

    def add(self, identity: str, **options: Any) -> RpcEngine:
        return self.journal.engine(identity, **{"new_id": counting_ids("a"), **options})

    def last(self) -> dict[str, Any]:
        record: dict[str, Any] = json.loads(self.lines[-1])
        return record


def a_call() -> Recorded:
    """A journal of a call between two engines, with all kinds of lines."""
    it = Recorded()
    alice, bob = it.engine, it.add("bob", new_id=counting_ids("b"))
    bob.register_method("greet")
    alice.call("bob", "greet", "hi", now=1.0)
    request = alice.next_packet()
    assert request is not None
    bob.receive_packet(request.data, now=1.05)
    bob.take_events()
    bob.respond(1, "hello", now=1.06)
    while (packet := bob.next_packet()) is not None:
        alice.receive_packet(packet.data, now=1.1)
    alice.take_events()
    alice.participant_joined("carol", now=1.2)
    return it


# recording


def test_recording_changes_nothing_and_a_replay_is_the_same_in_other_processes_too(
    tmp_path: Path,
) -> None:
    runs: list[str] = []

    @LAW
    @given(recordings())
    def collect(recording: Recording) -> None:
        lines = recorded(recording)
        assert replay(lines) == ()
        runs.extend(lines)

    collect()
    assert len(runs) > 500
    path = tmp_path / "journal.jsonl"  # one journal after another, as `cat` would make it
    path.write_text("".join(runs), "ascii")
    script = "import sys; from rpcproto.journal import replay; print(replay(open(sys.argv[1])))"
    for seed in ("1", "2"):
        child = subprocess.run(
            [sys.executable, "-c", script, str(path)],
            capture_output=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
        )
        assert child.stdout == b"()\n"


def test_a_line_is_ascii_and_holds_an_input_and_what_came_of_it() -> None:
    it = Recorded()
    it.engine.call("bob", "greet", "h\u00e9", now=0.1 + 0.2, response_timeout=5)
    head, made, called = it.lines
    assert json.loads(head).keys() == {"journal", "rpcproto", "zlib"}
    assert json.loads(made)["identity"] == "alice"
    assert called == (
        '{"engine":1,"input":"call","arguments":{"destination_identity":"bob","method":"greet",'
        '"payload":"h\\u00e9","now":0.30000000000000004,"response_timeout":5},'
        '"ids":["a0000000-0000-4000-8000-000000000001"],'
        '"returned":"a0000000-0000-4000-8000-000000000001","next_deadline":5.3}\n'
    )


def test_a_line_is_written_when_its_input_has_been_done() -> None:
    pending: list[int] = []
    engines: list[RpcEngine] = []

    def write(line: str) -> None:
        pending.extend(engine.statistics().pending_calls for engine in engines)

    engines.append(Journal(write).engine("alice", new_id=counting_ids()))
    engines[0].call("bob", "greet", "", now=0.0)
    assert pending == [1]


def test_what_is_taken_is_written_where_something_came() -> None:
    it = Recorded()
    assert it.engine.next_packet() is None
    assert it.engine.take_events() == ()
    assert len(it.lines) == 2
    it.engine.call("bob", "greet", "", now=0.0)
    it.engine.next_packet()
    assert it.last()["packet"]["kind"] == "request"
    it.engine.close(now=1.0)
    it.engine.take_events()
    assert [event["event"] for event in it.last()["events"]] == ["CallFailed"]
    assert replay(it.lines) == ()


@LAW
@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(min_value=5e-324, max_value=1e9))
def test_numbers_survive_to_the_last_bit(now: float, timeout: float) -> None:
    it = Recorded(unix_time_offset=now)
    it.engine.call("bob", "greet", "", now=now, response_timeout=timeout)
    assert float(it.last()["arguments"]["now"]).hex() == now.hex()
    it.engine.handle_deadline(now=int(now))
    assert replay(it.lines) == ()


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes_are_recorded(kind: Callable[[bytes], Any]) -> None:
    it = Recorded()
    it.engine.receive_packet(kind(raw_packet(rpc_ack={"request_id": "r"})), now=0.0)
    it.engine.receive_packet(memoryview(bytes(40))[::2], now=0.0, sender_identity="bob")
    assert replay(it.lines) == ()


def test_of_a_packet_that_is_too_large_nothing_is_kept() -> None:
    it = Recorded(config=RpcConfig(max_packet_bytes=100))
    it.engine.receive_packet(bytes(10_000), now=0.0)
    it.engine.take_events()
    assert len(it.lines[2]) < 150
    assert it.last()["events"][0]["reason"] == "too large"
    assert replay(it.lines) == ()


def test_any_collection_of_capabilities_is_recorded() -> None:
    it = Recorded()
    for capabilities in ((2,), [2], {2}, frozenset({1, 2}), {2: ""}.keys(), range(3)):
        it.engine.participant_joined("bob", now=0.0, client_protocol=2, capabilities=capabilities)
        assert 2 in it.last()["arguments"]["capabilities"]
    assert replay(it.lines) == ()


def test_a_packet_that_could_not_be_sent_is_recorded_as_a_whole() -> None:
    it = Recorded()
    it.engine.call("bob", "greet", "", now=0.0)
    packet = it.engine.next_packet()
    assert packet is not None
    it.engine.send_failed(packet, now=1.0)
    it.engine.take_events()
    assert it.last()["events"][0]["code"] == 1505
    assert replay(it.lines) == ()


MISUSE: dict[str, Callable[[RpcEngine], object]] = {
    "a payload that is no text": lambda e: e.call("bob", "m", 3, now=0.0),  # type: ignore[arg-type]
    "a payload that is nothing": lambda e: e.call("bob", "m", None, now=0.0),  # type: ignore[arg-type]
    "a lone surrogate": lambda e: e.call("bob", "m", "\udc80", now=0.0),
    "two of them, which are a character in JSON": lambda e: e.register_method("\ud83d\ude00"),
    "not a number": lambda e: e.handle_deadline(now=math.nan),
    "for ever": lambda e: e.call("bob", "m", "", now=0.0, response_timeout=math.inf),
    "an endless number": lambda e: e.respond_error(1, 10**5_000, now=0.0),
    "an object": lambda e: e.respond(1, object(), now=0.0),  # type: ignore[arg-type]
    "what cannot be hashed": lambda e: e.cancel([], now=0.0),  # type: ignore[arg-type]
    "an id that nothing is": lambda e: e.cancel(object(), now=0.0),  # type: ignore[arg-type]
    "a text as a packet": lambda e: e.receive_packet("text", now=0.0),  # type: ignore[arg-type]
    "no packet that failed": lambda e: e.send_failed("text", now=0.0),  # type: ignore[arg-type]
    "capabilities that are none": lambda e: e.participant_joined("b", now=0.0, capabilities=2),  # type: ignore[arg-type]
    "capabilities that are a text": lambda e: e.participant_joined(
        "b", now=0.0, client_protocol=2, capabilities="2"  # type: ignore[arg-type]
    ),
    "a method that is registered": lambda e: e.register_method("greet"),
    "a name that is too long": lambda e: e.participant_left("x" * 257, now=0.0),
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
            outcomes.append(repr(error))
        engine.call("bob", "greet", "", now=1.0)
        outcomes.append(repr((engine.next_packet(), engine.next_deadline)))
    assert outcomes[:2] == outcomes[2:]
    assert replay(it.lines) == ()


def test_a_new_id_that_is_none_is_recorded_too() -> None:
    ids = iter(["", 3, "a", "a", "b"])
    it = Recorded(new_id=lambda: next(ids))
    for _ in range(6):
        with suppress(LocalProtocolError, StopIteration):
            it.engine.call("bob", "greet", "", now=0.0)
    assert [("raised" in record, record.get("ids")) for record in parsed(it.lines[2:])] == [
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
    assert it.last()["engine"] == 2
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
        each.call("bob", "greet", "", now=0.0)
        assert each.call("bob", "greet", "", now=0.0).endswith("2")
        assert (each.next_packet(), each.next_packet(), each.next_packet())[2] is None
        each.handle_deadline(now=7.0)
    assert engine.take_events() == plain.take_events()
    assert journal.error is full
    assert [record.getMessage() for record in caplog.records] == [
        "the journal ends here, since it cannot be written"
    ]
    assert caplog.records[0].levelno == logging.ERROR
    lines.append("")  # there would be room again, but not for a journal with a gap
    engine.close(now=8.0)
    assert len(lines) == 4
    assert replay(lines[:3]) == ()


def test_an_engine_goes_on_when_what_it_was_given_cannot_be_written_down() -> None:
    class Odd(list[int]):
        def __iter__(self) -> Iterator[int]:
            raise RuntimeError("not today")

    it = Recorded()
    it.engine.participant_joined("bob", now=0.0, capabilities=Odd())
    assert it.engine.participants == ("bob",)
    assert isinstance(it.journal.error, RuntimeError)
    assert len(it.lines) == 2


def test_ctrl_c_is_not_kept_from_anybody() -> None:
    lines: list[str] = []

    def write(line: str) -> None:
        if lines:
            raise KeyboardInterrupt
        lines.append(line)

    journal = Journal(write)
    with pytest.raises(KeyboardInterrupt):
        journal.engine("alice", new_id=counting_ids())
    assert isinstance(journal.error, KeyboardInterrupt)


def test_a_journal_that_cannot_even_begin_is_told_at_once() -> None:
    def write(line: str) -> None:
        raise OSError("read-only file system")

    with pytest.raises(OSError, match="read-only"):
        Journal(write)


# replay


def test_every_result_that_is_not_the_recorded_one_is_found_at_its_line() -> None:
    it = a_call()
    assert replay(it.lines) == ()
    tampered = 0
    for at, record in enumerate(parsed(it.lines)):
        for change in changes(record):
            lines = [*it.lines[:at], written(change), *it.lines[at + 1 :]]
            [divergence] = replay(lines)
            identity = "bob" if record["engine"] == 2 else "alice"
            expected, got = written(change).strip(), it.lines[at].strip()
            assert divergence == Divergence(at + 1, identity, expected, got)
            tampered += 1
    assert tampered > 30


def changes(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The line with one of its results changed, each in turn."""
    changed = [record | {key: 1.25} for key in ("returned", "next_deadline") if key in record]
    if "input" in record:
        changed.append(record | {"raised": "LocalProtocolError: no"})
        changed.append(record | {"ids": [*record.get("ids", []), "x"]})
    packet = record.get("packet", {})
    changed += [record | {"packet": packet | {key: "AAAA"}} for key in packet]
    for at, event in enumerate(record.get("events", ())):
        rest = [record["events"][:at], record["events"][at + 1 :]]
        changed.append(record | {"events": rest[0] + rest[1]})
        changed += [record | {"events": [*rest[0], event | {key: "x"}, *rest[1]]} for key in event]
    return changed


@settings(LAW, max_examples=25)
@given(recordings(), st.data())
def test_a_run_that_went_another_way_is_found(recording: Recording, data: st.DataObject) -> None:
    """A packet that was lost from the journal of any run, or an event."""
    lines = recorded(recording)
    results = [at for at, line in enumerate(parsed(lines)) if "packet" in line or "events" in line]
    if results:
        at = data.draw(st.sampled_from(results))
        divergences = replay([*lines[:at], *lines[at + 1 :]])
        # What nobody took after that could not be missed.
        later = [other for other in results if other > at]
        same_kind = [o for o in later if ("packet" in lines[o]) == ("packet" in lines[at])]
        assert not same_kind or len(divergences) == 1
        assert all(divergence.line > at for divergence in divergences)


def test_where_nothing_comes_that_is_what_is_told() -> None:
    it = a_call()
    line = written({"engine": 1, "packet": {}})
    assert replay([*it.lines, line]) == (Divergence(len(it.lines) + 1, "alice", line.strip(), ""),)


def test_an_engine_that_draws_more_ids_than_were_recorded_has_parted() -> None:
    it = a_call()
    at, record = next((at, r) for at, r in enumerate(parsed(it.lines)) if "ids" in r)
    [divergence] = replay([*it.lines[:at], written(record | {"ids": []}), *it.lines[at + 1 :]])
    assert (divergence.line, json.loads(divergence.got)["raised"]) == (at + 1, "LookupError")


def test_each_engine_parts_by_itself_and_only_once() -> None:
    it = a_call()
    lines = [line.replace('"hi"', '"ho"').replace("1.06", "2.06") for line in it.lines]
    first, second = replay([lines[0], *lines[1:]])
    assert (first.identity, second.identity) == ("alice", "bob")
    assert first.line < second.line


# reading


def test_a_last_line_that_was_cut_off_is_left_out() -> None:
    it = a_call()
    whole = "".join(it.lines)
    beginning = len(it.lines[0])
    for end in range(beginning, len(whole), 7):
        assert replay(whole[:end].splitlines(keepends=True)) == ()


def test_lines_may_come_without_their_ends_and_with_empty_ones_between() -> None:
    it = a_call()
    assert replay([line.strip() for line in it.lines]) == ()
    assert replay(line for whole in it.lines for line in (whole, "\n")) == ()


HEAD = written({"journal": FORMAT})
ENGINE = written({"engine": 1, "identity": "a", "unix_time_offset": 0.0, "config": {}})

DAMAGED = {
    "this is not a journal: it is empty": [],
    "line 1: this is not the beginning of a journal": ["PK\x03\x04\ufffd\n"],
    "line 2: this is not the beginning of a journal": ["\n", ENGINE],
    f"line 1: this is a journal of format 99; what can be read here is format {FORMAT}": [
        written({"journal": 99})
    ],
    "line 2: this is not a line of a journal": [HEAD, '{"engine":1,\n'],
    "line 3: this is not a line of a journal": [HEAD, ENGINE, "[]", HEAD],
    "line 4: this is not a line of a journal": [HEAD, ENGINE, "\n", '{"engine":NaN}\n'],
    "line 2: the number of this engine is not the next one": [HEAD, ENGINE.replace("1", "2")],
    "line 2: this config has fields that are not known": [HEAD, ENGINE.replace("{}", '{"a":1}')],
    "line 2: response_timeout must be above 0 seconds, not 0.0": [
        HEAD, ENGINE.replace("{}", '{"response_timeout":0}')
    ],
    "line 2: identity must be a str, not int": [HEAD, ENGINE.replace('"a"', "3")],
    "line 2: there is no config": [HEAD, written({"engine": 1, "identity": "a"})],
    "line 3: there is no such engine": [HEAD, ENGINE, written({"engine": True, "input": "close"})],
    "line 3: this is neither an input nor a result": [HEAD, ENGINE, written({"engine": 1})],
    "line 3: this is no input of an engine": [
        HEAD, ENGINE, written({"engine": 1, "input": "__reduce__", "arguments": {}})
    ],
    "line 3: there is no arguments": [HEAD, ENGINE, written({"engine": 1, "input": "close"})],
    "line 3: this is no value that a journal holds": [
        HEAD, ENGINE, written({"engine": 1, "input": "close", "arguments": {"now": []}})
    ],
    "line 3: this is no packet": [
        HEAD, ENGINE,
        written({
            "engine": 1, "input": "send_failed",
            "arguments": {"packet": {"kind": "ack", "data": ""}, "now": 0.0},
        }),
    ],
    "line 3: the ids are no list": [
        HEAD, ENGINE, written({"engine": 1, "input": "close", "arguments": {}, "ids": 3})
    ],
}  # fmt: skip


@pytest.mark.parametrize(("message", "lines"), DAMAGED.items(), ids=DAMAGED)
def test_what_is_not_a_journal_is_refused_with_a_reason(message: str, lines: list[str]) -> None:
    with pytest.raises(JournalError) as caught:
        replay(lines)
    assert str(caught.value) == message


anything: st.SearchStrategy[object] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 3)
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from(["ack", "AAAA", "bob", "\ud800", "x" * 60 + "\udc00", 10**400, math.inf]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)


A_CALL = a_call().lines


def places(value: object, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to each value within a value, and to one that is not there."""
    found = []
    if isinstance(value, dict):
        found.append((*before, "x"))
        for key, inner in value.items():
            found += [(*before, key), *places(inner, (*before, key))]
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            found += [(*before, at), *places(inner, (*before, at))]
    return found


@LAW
@given(
    st.lists(st.tuples(st.sampled_from(places(parsed(A_CALL))), anything), min_size=1, max_size=3)
)
def test_no_journal_however_hostile_does_more_than_part_or_be_refused(
    changes: list[tuple[tuple[Any, ...], object]],
) -> None:
    records: Any = parsed(A_CALL)
    for (*way, last), value in changes:
        with suppress(KeyError, TypeError, IndexError):  # an earlier change took it away
            functools.reduce(operator.getitem, way, records)[last] = value
    lines = list(map(written, records))
    with suppress(JournalError):
        replay(lines)
    with suppress(JournalError):
        ET.fromstring(trace(lines).svg())
    with suppress(JournalError):
        assert trace(lines, ["a0000000-0000-4000-8000-000000000001"]).text() is not None


def test_a_number_that_python_would_not_read_and_endless_nesting_are_damaged_lines() -> None:
    for value in ("9" * 5_000, "[" * 100_000, "1e999"):
        line = f'{{"engine":1,"input":"close","arguments":{{"now":{value}'
        closed = line + "]" * value.count("[") + "}}\n"
        with pytest.raises(JournalError, match=r"^line 3: "):
            replay([HEAD, ENGINE, closed, "\n"])


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
            module.RpcParticipant(
                "alice", room.join("alice"), engine_factory=journal.engine
            ) as alice,
            module.RpcParticipant("bob", room.join("bob"), engine_factory=journal.engine) as bob,
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
    records = parsed(lines)
    assert [record["identity"] for record in records if "identity" in record] == ["alice", "bob"]
    assert {record["input"] for record in records if "input" in record} >= {
        "call", "respond", "receive_packet", "participant_joined", "connected", "close",
    }  # fmt: skip
    assert replay(lines) == ()
