"""Replay: a journal is the run again, or the replay reports where it is not."""

import functools
import json
import math
import operator
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from engine_scripts import Recording
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import Recorded, a_call, parsed, recorded, written
from script_strategies import LAW, recordings

from rpcproto import InvocationReceived, RpcConfig
from rpcproto.recording import FORMAT, Divergence, JournalError, replay, trace
from rpcproto.testing import counting_ids

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")


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
    script = "import sys; from rpcproto.recording import replay; print(replay(open(sys.argv[1])))"
    for seed in ("1", "2"):
        child = subprocess.run(
            [sys.executable, "-c", script, str(path)],
            capture_output=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
        )
        assert child.stdout == b"()\n"


def test_every_result_that_is_not_the_recorded_one_is_found_at_its_line() -> None:
    it = a_call()
    assert replay(it.lines) == ()
    tampered = 0
    for at, source in enumerate(parsed(it.lines)):
        for change in changes(source):
            lines = [*it.lines[:at], written(change), *it.lines[at + 1 :]]
            [divergence] = replay(lines)
            identity = "bob" if source[0] == 2 else "alice"
            expected, got = written(change).strip(), it.lines[at].strip()
            assert divergence == Divergence(at + 1, identity, expected, got)
            tampered += 1
    assert tampered > 30


def changes(source: Any) -> list[Any]:
    """The line with one of its results changed, each in turn."""
    match source:
        case [number, "packet", *fields]:
            others = ["error", 99, "AAAA", "carol", "r"]
            return [
                [number, "packet", *fields[:at], other, *fields[at + 1 :]]
                for at, other in zip(range(len(fields)), others, strict=False)
            ]
        case [number, "events", *events]:
            changed = [
                [number, "events", *(events[:at] + more + events[at + 1 :])]
                for at, event in enumerate(events)
                for more in ([], *([field_changed(event, field)] for field in range(1, len(event))))
            ]
            return [*changed, [*source, events[0]]]
        case [number, str(name), list(arguments), _, *outcome]:
            told = outcome[0] if outcome else {}
            more = [
                told | {"returned": 1.25},
                told | {"raised": "LocalProtocolError: no"},
                told | {"ids": [*told.get("ids", []), "x"]},
            ]
            return [
                [number, name, arguments, 1.25, *outcome],
                *([number, name, arguments, source[3], each] for each in more),
            ]
    return []


def field_changed(event: list[object], field: int) -> list[object]:
    return [*event[:field], "x", *event[field + 1 :]]


@settings(LAW, max_examples=25)
@given(recordings(), st.data())
def test_a_run_that_went_another_way_is_found(recording: Recording, data: st.DataObject) -> None:
    """A packet that was lost from the journal of any run, or an event."""
    lines = recorded(recording)
    sources = parsed(lines)
    results = [at for at, it in enumerate(sources) if "packet" in it or "events" in it]
    if results:
        at = data.draw(st.sampled_from(results))
        try:
            divergences = replay([*lines[:at], *lines[at + 1 :]])
        except JournalError:  # a later line refers to the one that is missing
            return
        # What nobody took after that could not be missed.
        later = [other for other in results if other > at]
        same_kind = [o for o in later if sources[o][1] == sources[at][1]]
        assert not same_kind or len(divergences) == 1
        assert all(divergence.line > at for divergence in divergences)


def test_a_line_for_which_nothing_comes_is_reported_with_nothing() -> None:
    it = a_call()
    line = written([1, "packet", "ack", 0, "", "bob", "r"])
    assert replay([*it.lines, line]) == (Divergence(len(it.lines) + 1, "alice", line.strip(), ""),)


def test_an_engine_that_draws_more_ids_than_were_recorded_diverges() -> None:
    it = a_call()
    at, source = next(
        (at, it) for at, it in enumerate(parsed(it.lines)) if len(it) == 5 and "ids" in it[4]
    )
    line = written([*source[:4], source[4] | {"ids": []}])
    [divergence] = replay([*it.lines[:at], line, *it.lines[at + 1 :]])
    assert (divergence.line, json.loads(divergence.got)[4]["raised"]) == (at + 1, "LookupError")


def test_each_engine_diverges_by_itself_and_only_once() -> None:
    it = a_call()
    lines = [line.replace('"hi"', '"ho"').replace("1.06", "2.06") for line in it.lines]
    first, second = replay([lines[0], *lines[1:]])
    assert (first.identity, second.identity) == ("alice", "bob")
    assert first.line < second.line


def test_a_line_is_compared_by_what_is_in_it() -> None:
    it = a_call()
    assert replay([json.dumps(json.loads(line), indent=None) for line in it.lines]) == ()


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
ENGINE = written([1, "engine", "a", 0.0, {}])
NOT_A_LINE = "this is not a line of a journal"


def line_3(*source: object) -> list[str]:
    return [HEAD, ENGINE, written([1, *source])]


DAMAGED = {
    "this is not a journal: it is empty": [],
    "line 1: this is not the beginning of a journal": ["PK\x03\x04\ufffd\n"],
    "line 2: this is not the beginning of a journal": ["\n", ENGINE],
    f"line 1: this is a journal of format 1; this version of rpcproto reads format {FORMAT}": [
        written({"journal": 1})
    ],
    f"line 2: {NOT_A_LINE}": [HEAD, "[1,\n"],
    f"line 3: {NOT_A_LINE}": [HEAD, ENGINE, "{}", HEAD],
    f"line 4: {NOT_A_LINE}": [HEAD, ENGINE, "\n", "[NaN]\n"],
    "line 2: this is not an engine": [HEAD, written([1, "engine", 3, 0.0, {}])],
    "line 2: the number of this engine is not the next one": [HEAD, ENGINE.replace("1", "2")],
    "line 2: this config has fields that are not known": [HEAD, ENGINE.replace("{}", '{"a":1}')],
    "line 2: response_timeout must be above 0 seconds, not 0.0": [
        HEAD, ENGINE.replace("{}", '{"response_timeout":0}')
    ],
    "line 2: identity must not be empty": [HEAD, ENGINE.replace('"a"', '""')],
    "line 2: unix_time_offset must be a number of seconds, not str": [
        HEAD, ENGINE.replace("0.0", '"0"')
    ],
    "line 3: there is no engine 2": [HEAD, ENGINE, written([2, "close", [1.0], None])],
    "line 3: an engine has no input '__reduce__'": line_3("__reduce__", [], None),
    "line 3: these are not the arguments of close": line_3("close", [], None),
    "line 3: this is not the outcome of an input": line_3("close", [1.0], None, {"ids": 3}),
    "line 3: this is not a value that a journal holds": line_3("close", [{}], None),
    "line 3: there is no name 7 before this line": line_3("cancel", [{"name": 7}, 1.0], None),
    "line 3: no event of this engine had a text of 5000 bytes with the SHA-256 ab": line_3(
        "respond", [1, {"length": 5000, "sha256": "ab"}, 1.0], None
    ),
    "line 3: this is not an event": line_3("events", ["CallAcknowledged"]),
    "line 3: this is not a packet": line_3("packet", "ack", 0, "", None, "r"),
    "line 3: this is not the content of a packet": line_3("packet", "ack", 0, [1], "b", "r"),
    "line 3: no packet before this line has the token 5": line_3("packet", "stream chunk", 5, ""),
    "line 3: this is not a packet that failed": line_3("send_failed", [["ack", 0], 0.0], None),
}  # fmt: skip


@pytest.mark.parametrize(("message", "lines"), DAMAGED.items(), ids=DAMAGED)
def test_anything_but_a_journal_is_refused_with_a_reason(message: str, lines: list[str]) -> None:
    with pytest.raises(JournalError) as caught:
        replay(lines)
    assert str(caught.value) == message


anything: st.SearchStrategy[object] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 3)
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from(["ack", "AAAA", "bob", "\ud800", "x" * 60 + "\udc00", 10**400, math.inf])
    | st.sampled_from([{"name": 1}, {"name": 1, "is": "x"}, {"length": 1, "sha256": "x"}])
    | st.sampled_from([{"too_large": True}, {"foreign": "x"}]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)


def a_long_call() -> list[str]:
    """A journal with all that stands for something: long names and texts, and large packets."""
    it = Recorded(config=RpcConfig(max_packet_bytes=50_000))
    alice, bob = it.engine, it.add("b" * 50, new_id=counting_ids("b"))
    bob.register_method("greet")
    bob.participant_joined("alice", now=0.5, client_protocol=1)
    alice.participant_joined("b" * 50, now=0.5, client_protocol=1)
    alice.call("b" * 50, "greet", "x" * 40_000, now=1.0)
    for packet in iter(alice.next_packet, None):
        bob.receive_packet(packet.data, now=1.5)
    [event] = bob.take_events()
    assert isinstance(event, InvocationReceived)
    bob.respond(event.invocation_id, event.payload, now=2.0)
    answers = list(iter(bob.next_packet, None))
    for packet in answers[:-2]:
        alice.receive_packet(packet.data, now=2.5, sender_identity="b" * 50)
    alice.receive_packet(bytes(60_000), now=2.5)
    bob.send_failed(answers[-2], now=3.0)
    alice.handle_deadline(now=17.5)
    alice.take_events()
    assert replay(it.lines) == ()
    return it.lines


A_CALL = a_call().lines
A_LONG_CALL = a_long_call()


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


@pytest.mark.parametrize("journal", [A_CALL, A_LONG_CALL], ids=["short", "long"])
def test_a_hostile_journal_diverges_or_is_refused_and_nothing_else(journal: list[str]) -> None:
    ways = st.sampled_from(places(parsed(journal)))

    @settings(LAW, max_examples=2 * LAW.max_examples)
    @given(st.lists(st.tuples(ways, anything), min_size=1, max_size=3))
    def tamper(changes: list[tuple[tuple[Any, ...], object]]) -> None:
        sources: Any = parsed(journal)
        for (*way, last), value in changes:
            with suppress(KeyError, TypeError, IndexError):  # an earlier change took it away
                functools.reduce(operator.getitem, way, sources)[last] = value
        lines = list(map(written, sources))
        with suppress(JournalError):
            replay(lines)
        with suppress(JournalError):
            ET.fromstring(trace(lines).svg())
        with suppress(JournalError):
            assert trace(lines, ["a0000000-0000-4000-8000-000000000001"]).text() is not None

    tamper()


def test_a_packet_limit_that_no_memory_has_room_for_is_refused() -> None:
    engine = ENGINE.replace("{}", json.dumps({"max_packet_bytes": 10**400}))
    too_large = written([1, "receive_packet", [{"too_large": True}, 0.0, None, None], None])
    with pytest.raises(JournalError, match=r"^line 3: "):
        replay([HEAD, engine, too_large])
    assert RpcConfig(max_packet_bytes=10**400)


def test_a_number_that_python_would_not_read_and_endless_nesting_are_damaged_lines() -> None:
    for value in ("9" * 5_000, "[" * 100_000, "1e999"):
        closed = f'[1,"close",[{value}{"]" * value.count("[")}],null]\n'
        with pytest.raises(JournalError, match=r"^line 3: "):
            replay([HEAD, ENGINE, closed, "\n"])


def test_nesting_that_is_read_but_too_deep_to_be_checked_is_refused() -> None:
    nested = "[" * 900 + "]" * 900
    with pytest.raises(JournalError, match=r"^line 3: "):
        replay([HEAD, ENGINE, f'[1,"close",[{nested}],null]\n'])
