"""Journals on the command line: record the demo, replay it, draw it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT
from test_cli import Run, run  # noqa: F401 (a fixture)

from rpcproto import wire
from rpcproto.recording import Journal
from rpcproto.testing import counting_ids

PICTURE = ROOT / "docs" / "overtaking.svg"
OVERTAKING = tuple(f"--call=e0000000-0000-4000-8000-{number:012}" for number in (3, 5))
"""The two calls of the scene that the page on journals shows."""

# ruff: noqa: F811


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The journal of the demo, made in another process."""
    path = tmp_path_factory.mktemp("demo") / "demo.jsonl"
    elsewhere("1", "demo", "--journal", str(path))
    return path


def elsewhere(seed: str, *arguments: str) -> str:
    """What `rpcproto` prints in a process of its own, with its own PYTHONHASHSEED."""
    child = subprocess.run(
        [sys.executable, "-m", "rpcproto", *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": seed},
    )
    return child.stdout


def changed(path: Path, into: Path, input_: str, field: int, value: object) -> int:
    """A journal with a field changed in the first line of an input; returns its number."""
    lines = path.read_text("ascii").splitlines(keepends=True)
    at = next(at for at, line in enumerate(lines) if f',"{input_}",' in line)
    source = json.loads(lines[at])
    source[field] = value
    lines[at] = json.dumps(source) + "\n"
    into.write_text("".join(lines), "ascii")
    return at + 1


# record and replay


def test_the_journal_of_the_demo_replays_to_the_same_bytes_in_another_process(demo: Path) -> None:
    assert elsewhere("2", "replay", str(demo)) == "6 engines, 188 inputs: the same, byte for byte\n"


def test_the_journal_of_the_demo_is_the_same_bytes_each_time(
    demo: Path, run: Run, tmp_path: Path
) -> None:
    again = tmp_path / "again.jsonl"
    code, drawn, err = run("demo", "--journal", str(again))
    assert (code, err) == (0, "")
    assert "11 of 11 calls ended as they should" in drawn
    assert again.read_bytes() == demo.read_bytes()


def test_a_replay_that_parts_says_where_and_how(demo: Path, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "changed.jsonl"
    number = changed(demo, path, "call", 3, 99.5)
    code, out, err = run("replay", str(path))
    assert (code, err) == (1, "")
    called = (
        "call(destination_identity='bob', method='greet', payload='Hello from RPC!', now=5.0, "
        "response_timeout=None, ack_timeout=None) -> 'a0000000-0000-4000-8000-000000000001', "
        "new id 'a0000000-0000-4000-8000-000000000001', next deadline"
    )
    assert out.splitlines() == [
        "6 engines, 188 inputs: 1 engine differs from the journal",
        "",
        f"line {number}, 'alice':",
        f"  expected  {called} 99.5",
        f"  got       {called} 12.0",
    ]


def test_a_packet_that_is_not_the_recorded_one_is_shown_decoded_with_what_came_before(
    demo: Path, run: Run, tmp_path: Path
) -> None:
    lines = demo.read_text("ascii").splitlines(keepends=True)
    at = next(at for at, line in enumerate(lines) if '"packet","request"' in line)
    other = next(line for line in lines if '"packet","ack"' in line)
    lines[at] = other.replace("[2,", "[1,").replace('"alice"', '"bob"')
    path = tmp_path / "changed.jsonl"
    path.write_text("".join(lines), "ascii")
    code, out, _ = run("replay", str(path))
    assert code == 1
    after, expected, got = out.splitlines()[3:6]
    assert after.startswith(f"  after     line {at}: call(destination_identity='bob'")
    assert expected.startswith("  expected  packet [ack alice -> bob request_id='a000")
    assert got.startswith("  got       packet [request alice -> bob request_id='a000")


def test_where_two_lines_read_the_same_the_place_of_the_difference_is_shown(
    demo: Path, run: Run, tmp_path: Path
) -> None:
    lines = demo.read_text("ascii").splitlines(keepends=True)
    at = next(at for at, line in enumerate(lines) if '"packet","request"' in line)
    lines[at] = lines[at].replace('"request",1', '"request",7')
    path = tmp_path / "changed.jsonl"
    path.write_text("".join(lines), "ascii")
    code, out, _ = run("replay", str(path))
    assert code == 1
    *_, expected, got = out.splitlines()
    assert '"request", 7' in expected
    assert '"request", 1' in got
    assert expected.rpartition("(")[2] == got.rpartition("(")[2]


def test_who_recorded_it_is_told_where_that_may_be_the_reason(
    demo: Path, run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "changed.jsonl"
    changed(demo, path, "call", 3, 99.5)
    path.write_text(path.read_text("ascii").replace('"zlib":"', '"zlib":"0.', 1), "ascii")
    _, out, _ = run("replay", str(path))
    assert "\nrecorded by rpcproto 0.1.0 with zlib 0." in out


def test_two_journals_are_compared_line_by_line(demo: Path, run: Run, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    text = demo.read_text("ascii")
    other.write_text("\n" + text.replace("0.1.0", "0.0.9", 1), "ascii")
    lines = text.count("\n")
    assert run("replay", str(demo), str(other)) == (0, f"the same {lines} lines\n", "")
    number = changed(demo, other, "respond", 4, {"returned": False})
    code, out, _ = run("replay", str(demo), str(other))
    assert (code, out.splitlines()[0]) == (1, f"they differ at line {number}:")
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [["the", "one"], ["the", "other"]]
    other.write_text("".join(demo.read_text("ascii").splitlines(keepends=True)[:-1]), "ascii")
    code, out, _ = run("replay", str(other), str(demo))
    assert code == 1
    assert f"they differ at line {lines}:\n  the one   nothing\n  the other close(now=" in out


@pytest.mark.parametrize("command", ["replay", "trace"])
def test_what_is_not_a_journal_is_told_and_ends_with_2(
    run: Run, tmp_path: Path, command: str
) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n\x00\xff")
    reason = "line 1: this is not the beginning of a journal"
    assert run(command, str(path)) == (2, "", f"rpcproto: {path}: {reason}\n")
    code, _, err = run(command, str(tmp_path / "nowhere"))
    assert code == 2
    assert "No such file" in err


def test_a_journal_comes_from_standard_input_too(run: Run, demo: Path) -> None:
    code, out, _ = run("replay", "-", stdin=demo.read_bytes())
    assert (code, out) == (0, "6 engines, 188 inputs: the same, byte for byte\n")


def test_a_journal_that_cannot_be_written_is_wrong_usage(run: Run, tmp_path: Path) -> None:
    code, out, err = run("demo", "--journal", str(tmp_path / "nowhere" / "demo.jsonl"))
    assert (code, out) == (2, "")
    assert "No such file" in err


# draw


def test_the_demo_is_drawn_from_its_journal_as_it_was_drawn_when_it_happened(
    demo: Path, run: Run
) -> None:
    """But for how its chunks are grouped: they were taken a little before they left."""
    code, out, _ = run("trace", str(demo), *OVERTAKING)
    _, live, _ = run("demo")
    assert code == 0
    scene = live.partition("10. ")[2]
    for line in out.splitlines():
        assert line[11:] in scene or "stream chunk" in line
    assert "● calls grace: digest 1,000,000 bytes" in out
    assert "● succeeded: 'Hello, erin!'" in out


def test_all_of_the_demo_is_drawn_in_the_order_of_time(demo: Path, run: Run) -> None:
    code, out, _ = run("trace", str(demo))
    times = [float(line[:8]) for line in out.splitlines()[1:] if line[:8].strip()]
    assert code == 0
    assert len(times) > 80
    assert times == sorted(times)
    assert out.splitlines()[0].split() == [
        "alice",
        "bob",
        "dave",
        "carol",
        "erin",
        "frank",
        "grace",
    ]


def test_at_80_columns_nothing_of_seven_participants_is_cut(demo: Path, run: Run) -> None:
    _, narrow, _ = run("trace", str(demo))
    assert max(map(len, narrow.splitlines())) <= 80
    assert "…" not in narrow
    for text in ("succeeded: 'Hello, alice!'", "stream header, 1,060 bytes", "request, 66 bytes"):
        assert text in narrow


def test_the_picture_in_the_page_on_journals_is_the_one_that_the_demo_makes(
    demo: Path, run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "out.svg"
    assert run("trace", str(demo), *OVERTAKING, "--svg", str(path)) == (0, "", "")
    assert path.read_bytes() == PICTURE.read_bytes()
    assert "](overtaking.svg)" in (ROOT / "docs" / "journal.md").read_text("utf-8")


def crowd(path: Path, size: int) -> Path:
    """A journal of a participant that hears from so many others."""
    lines: list[str] = []
    bob = Journal(lines.append).engine("bob", new_id=counting_ids("b"))
    for number in range(size):
        data = wire.encode(wire.Ack("r"), f"p{number}", "bob")
        bob.receive_packet(data, now=1.0, sender_identity=f"p{number}")
    path.write_text("".join(lines), "ascii")
    return path


def test_more_participants_than_can_be_read_as_text_are_a_picture(run: Run, tmp_path: Path) -> None:
    readable, unreadable = (crowd(tmp_path / f"{size}.jsonl", size) for size in (99, 100))
    code, out, _ = run("trace", str(readable))
    assert code == 0
    assert all(f" p{number} " in out.splitlines()[0] for number in range(98))
    code, out, err = run("trace", str(unreadable))
    assert (code, out) == (2, "")
    assert err == (
        f"rpcproto: {unreadable}: there are 101 participants, and text shows at most 100; "
        "select calls with --call, or draw a picture with --svg\n"
    )
    code, out, _ = run("trace", str(unreadable), "--svg", "-")
    assert (code, out.count('class="head"')) == (0, 101)


def test_a_picture_goes_to_standard_output_too(demo: Path) -> None:
    svg = elsewhere("3", "trace", str(demo), *OVERTAKING, "--svg", "-")
    assert svg == PICTURE.read_text("utf-8")


def test_a_call_that_is_not_there_leaves_nothing_to_draw(demo: Path, run: Run) -> None:
    code, out, err = run("trace", str(demo), "--call", "r1")
    assert (code, out, err) == (2, "", f"rpcproto: {demo}: there is nothing to draw\n")


EXAMPLES = {
    "engine": ([1, "engine", "bob", 0.0, {}], "engine(identity='bob')"),
    "misuse": (
        [1, "close", [1.5], None, {"raised": "LocalProtocolError: no"}],
        "close(now=1.5) raises LocalProtocolError: no, next deadline None",
    ),
    "too large": (
        [1, "receive_packet", [{"too_large": True}, 0, None, None], 2.5],
        (
            "receive_packet(<a packet over the limit>, now=0, sender_identity=None, "
            "sender_sid=None), next deadline 2.5"
        ),
    ),
    "not a packet": (
        [1, "receive_packet", ["AAAA", 0, None, None], None],
        (
            "receive_packet([not a packet: 'AAAA'], now=0, sender_identity=None, sender_sid=None), "
            "next deadline None"
        ),
    ),
    "failed": (
        [1, "send_failed", [["ack", 0, "bob", "r"], 0.0], None],
        "send_failed([ack -> 'bob' request_id='r'], now=0.0), next deadline None",
    ),
    "a setting": (
        [1, "hand_over_unknown_methods", [True], 2.5],
        "hand_over_unknown_methods(value=True), next deadline 2.5",
    ),
    "failed and not a packet": (
        [1, "send_failed", [[], {"foreign": "object"}], None],
        "send_failed([not a packet], now=<object>), next deadline None",
    ),
    "large": (
        [1, "packet", "ack", 0, [900, "ab"], "bob", "r"],
        "packet [ack -> 'bob' request_id='r' (900 bytes, SHA-256 ab)]",
    ),
    "events": (
        [1, "events", ["CallAcknowledged", "r"], ["PacketIgnored", "late", "x"]],
        "CallAcknowledged(request_id='r'); PacketIgnored(reason='late', sender_identity='x')",
    ),
    "text": (
        [1, "respond", [1, {"length": 9000, "sha256": "ab"}, 0.0], None, {"returned": True}],
        (
            "respond(invocation_id=1, payload=<9000 bytes, SHA-256 ab>, now=0.0) -> True, "
            "next deadline None"
        ),
    ),
    "no Unicode": ([1, "cancel", ["\ud800" * 60, 0.0], None], None),
    "journal": ({"journal": 2, "zlib": "9"}, "journal(rpcproto=None, zlib='9')"),
}


@pytest.mark.parametrize(("source", "read"), EXAMPLES.values(), ids=EXAMPLES)
def test_every_kind_of_line_can_be_read(
    run: Run, tmp_path: Path, source: object, read: str | None
) -> None:
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    head = '{"journal":2}\n[1,"engine","alice",0.0,{}]\n[1,"close",[7.5],null]\n'
    if "engine" in str(source)[:12]:
        head = head[:14]
    one.write_text(head + json.dumps(source) + "\n", "ascii")
    two.write_text(head + "\n", "ascii")
    code, out, _ = run("replay", str(one), str(two))
    number = head.count("\n") + 1
    first, mine, other = out.splitlines()
    assert (code, first) == (1, f"they differ at line {number}:")
    assert mine.isascii()
    assert read is None or mine == f"  the one   {read}"
    assert other == "  the other nothing"


def test_lines_that_differ_may_have_other_numbers(run: Run, tmp_path: Path) -> None:
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    one.write_text('{"journal":2}\n[1,"engine","alice",0.0,{}]\n', "ascii")
    two.write_text('{"journal":2}\n\n[1,"engine","bob",0.0,{}]\n', "ascii")
    assert run("replay", str(one), str(two))[1] == (
        "they differ at lines 2 and 3:\n"
        "  the one   engine(identity='alice')\n"
        "  the other engine(identity='bob')\n"
    )
