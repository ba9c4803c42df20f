"""What the benchmarks measure is what they say: each packet and each input has its effect."""

import re
import shutil
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from paths import ROOT

from benchmarks import floor
from benchmarks.echo import Pair
from benchmarks.figures import (
    Figure,
    Kept,
    NoFiguresError,
    Origin,
    compared_by_turns,
    comparison,
    named,
    read,
    write,
)
from benchmarks.hostile import inputs, makers
from benchmarks.hostile.kinds import Kind, kinds, used_up
from benchmarks.hostile.packets import MAX_PACKET_BYTES
from benchmarks.hostile.scene import Scene, full_scene
from benchmarks.table import Row
from rpcproto import InvocationReceived, OutgoingPacket, RpcEngine
from rpcproto.core.packets_pb2 import DataPacket

KINDS = [*kinds(), used_up()]


@pytest.fixture(scope="module")
def full() -> Scene:
    return full_scene()


def do(scene: Scene, kind: Kind) -> None:
    """Send the packets of a kind; each has one of the effects, and nothing is left of them."""
    tables = scene.tables()
    for data in kind.make(scene):
        effects = scene.hear(data)
        assert effects.keys() & kind.effects, (kind.what, effects)
    assert scene.tables() == tables, kind.what


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.what.strip())
def test_a_hostile_packet_has_the_effect_that_is_measured(kind: Kind, full: Scene) -> None:
    do(Scene(), kind)
    do(full, kind)


def test_a_request_finds_all_bytes_used_up() -> None:
    scene = Scene()
    makers.use_up_bytes(scene)
    do(scene, used_up())


@pytest.mark.parametrize("size", [100, 4_000, MAX_PACKET_BYTES])
def test_an_honest_packet_has_the_size_that_is_asked_for(size: int) -> None:
    [data] = makers.plain(Scene(), size)
    assert size - 3 <= len(data) <= size


@pytest.mark.parametrize("size", [4_000, 60_000])
@pytest.mark.parametrize("make", [makers.deflated_inline, makers.deflated_chunk])
def test_an_honest_deflated_packet_is_accepted(make: makers.SizedMaker, size: int) -> None:
    scene = Scene()
    for data in make(scene, size):
        assert abs(len(data) - size) < size / 50
        assert {"InvocationReceived", "bytes held"} & scene.hear(data).keys()


@pytest.mark.parametrize("name", inputs.MAKERS)
def test_an_input_leaves_the_tables_as_they_were(name: str, full: Scene) -> None:
    for scene in (Scene(), full):
        tables = scene.tables()
        made = inputs.MAKERS[name](scene)
        work = next(made)
        with suppress(StopIteration):
            while True:
                work = made.send(work())
        assert scene.tables() == tables


def test_the_floor_of_an_inline_call_has_the_fields_of_the_engines_packets() -> None:
    pair = Pair(client_protocol=2)
    pair.caller.call("bob", "echo", floor.PAYLOAD, now=0.0)
    request = taken(pair.caller).data
    pair.responder.receive_packet(request, now=0.0)
    ack = taken(pair.responder).data
    [event] = pair.responder.take_events()
    assert isinstance(event, InvocationReceived)
    pair.responder.respond(event.invocation_id, floor.PAYLOAD, now=0.0)
    response = taken(pair.responder).data
    floors = (floor.request_header(), floor.ack(), floor.response_header())
    for ours, theirs in zip((request, ack, response), floors, strict=True):
        assert shape(ours) == shape(theirs)
        assert len(ours) == len(theirs)


def taken(engine: RpcEngine) -> OutgoingPacket:
    """The packet that leaves next, where there must be one."""
    packet = engine.next_packet()
    assert packet is not None
    return packet


def shape(data: bytes) -> tuple[object, ...]:
    """The names of the fields, and the attributes but for the ids in them."""
    packet = DataPacket.FromString(data)
    header = packet.stream_header
    return (
        [field.name for field, _ in packet.ListFields()],
        [field.name for field, _ in header.ListFields()],
        {key: len(value) for key, value in header.attributes.items()},
    )


# figures that are kept, and compared


def figure(what: str, measured: float, unit: str = "µs") -> Figure:
    return Figure("echo", what, measured, unit)


HERE = Origin("CPython 3.11.7", "protobuf 7 (upb)", "x86_64, 2 processors", "abc1234")


def test_an_indented_row_has_the_name_of_the_row_that_it_belongs_to() -> None:
    rows = [Row("an echo", 1.0, "F", 2.0), Row("  in microseconds", 8.0, "µs"), Row("F", 8.0, "µs")]
    assert list(named("echo", rows)) == [
        Figure("echo", "an echo", 1.0, "F", 2.0),
        Figure("echo", "an echo: in microseconds", 8.0, "µs"),
        Figure("echo", "F", 8.0, "µs"),
    ]


def test_figures_are_read_as_they_were_written(tmp_path: Path) -> None:
    figures = [figure("a", 1.5), Figure("hosts", "b", 2.0, "/s", 3.0)]
    write(tmp_path / "f.json", HERE, figures)
    assert read(tmp_path / "f.json") == (HERE, figures)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 2}', '{"format": 1}'])
def test_a_file_without_figures_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    path.write_text(content, "utf-8")
    with pytest.raises(NoFiguresError, match=re.escape(str(path))):
        read(path)
    with pytest.raises(NoFiguresError, match="No such file"):
        read(tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    ("before", "now", "unit", "told"),
    [
        ([10.0, 12.0, 11.0], [5.0, 6.0, 5.5], "µs", "0.50 (0.50 to 0.50) 2.00 x better"),
        ([10.0, 10.0, 10.0], [20.0, 30.0, 11.0], "µs", "2.00 (1.10 to 3.00) 2.00 x worse"),
        ([10.0, 10.0, 10.0], [20.0, 30.0, 9.0], "µs", "2.00 (0.90 to 3.00) no change"),
        ([10.0, 10.0], [10.2, 9.9], "µs", "1.00 (0.99 to 1.02) no change"),
        ([100.0], [150.0], "/s", "1.50 1.50 x better"),
        ([150.0], [100.0], "/s", "0.67 1.50 x worse"),
        ([0.0], [1.0], "F", ""),
    ],
)
def test_a_change_is_one_that_all_rounds_agree_on(
    before: list[float], now: list[float], unit: str, told: str
) -> None:
    sides = ([[figure("a", each, unit)] for each in side] for side in (before, now))
    *_, line = compared_by_turns(*sides).splitlines()
    assert " ".join(line.split()[5:]) == told


def test_figures_of_another_machine_or_of_one_side_alone_are_no_comparison() -> None:
    there = HERE._replace(python="CPython 3.14.0")
    text = comparison(Kept(there, [figure("a", 1.0), figure("b", 1.0)]), [figure("a", 1.05)], HERE)
    assert "times are not comparable" in text
    assert [" ".join(line.split()) for line in text.splitlines()[3:]] == [
        "echo",
        "a 1.00 µs 1.05 µs 1.05 no change",
    ]
    same = comparison(Kept(HERE, [figure("b", 1.0)]), [figure("a", 1.0)], HERE)
    assert same.splitlines()[1:] == ["no figure was measured on both sides"]


@pytest.mark.environments
def test_another_checkout_is_measured_by_turns_with_this_one(tmp_path: Path) -> None:
    """One whose journal takes its time."""
    shutil.copytree(ROOT / "rpcproto", tmp_path / "rpcproto")
    journal = tmp_path / "rpcproto" / "recording" / "journal.py"
    source = journal.read_text("utf-8")
    slow = source.replace("journal._write(", "sum(range(2_000)), journal._write(")
    assert slow != source
    journal.write_text(slow, "utf-8")
    command = [sys.executable, "-m", "benchmarks", "journal", "--rounds=1", "--json", "f.json"]
    run = partial(subprocess.run, cwd=ROOT, capture_output=True, text=True, check=True)
    kept = tmp_path / "f.json"
    out = run([*command[:-1], str(kept), "--against", str(tmp_path)]).stdout
    added = [line for line in out.splitlines() if line.startswith("    added to a call")]
    assert len(added) == 2
    assert all(line.endswith(" x better") for line in added)
    again = run([*command[:4], "--against", str(kept)]).stdout
    assert f"compared with {read(kept).origin}" in again
    sizes = [line for line in again.splitlines() if line.startswith("    written for a call")]
    assert [line.split()[-3:] for line in sizes] == [["1.00", "no", "change"]] * 2


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("dance",), "unknown section 'dance'"),
        (("journal", "--against", "/no/where"), "/no/where: No such file or directory"),
        (("journal", "--against", "/"), "/ is not a checkout of rpcproto"),
        (("journal", "--rounds", "0"), "--rounds must be at least 1"),
    ],
)
def test_what_cannot_be_measured_or_compared_is_told(
    arguments: tuple[str, ...], complaint: str
) -> None:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert complaint in done.stderr
