"""The tables of the section `hostile`."""

import gc
from collections.abc import Iterator, Sequence
from typing import Final

from benchmarks import sealed
from benchmarks.hostile import answers, inputs
from benchmarks.hostile.kinds import Kind, kinds, used_up
from benchmarks.hostile.makers import use_up_bytes
from benchmarks.hostile.measuring import HONEST_PACKETS, PARSES, Result, UnexpectedError, measure
from benchmarks.hostile.scene import Scene, full_scene
from benchmarks.table import VERDICTS, Row, Table, aligned

MAX_REST: Final = 3.0
"""What one `handle_deadline` may take for work that packets left, relative to 1 MiB inflated."""
MAX_FULL: Final = 10.0
"""What an input may take at full tables, relative to the same at empty ones."""
MAX_REFUSED: Final = 1.0
"""What a packet that does not open may take, relative to one of its size that does."""
MAX_ANSWER: Final = 10.0
"""What an answer may take, relative to an ASCII answer of the same size."""


def tables() -> Iterator[Table]:
    """Measure everything. What fills the tables is frozen for the garbage collector."""
    full = full_scene()
    gc.collect()
    gc.freeze()
    yield from packet_tables(full)
    shared = full_scene(in_rings=False)
    gc.collect()
    gc.freeze()
    yield sealed_table()
    yield input_table(full, shared)
    yield answer_table()
    gc.unfreeze()


def packet_tables(full: Scene) -> Iterator[Table]:
    """Hostile packets, and the work that they leave."""
    results: list[Result] = []
    lines = [PACKET_COLUMNS]
    places: list[tuple[Kind, Scene]] = [(kind, full) for kind in kinds()]
    places.append((used_up(), scene_without_room()))
    for kind, scene in places:
        try:
            results.append(measure(kind, scene))
            lines.append(packet_line(results[-1]))
        except UnexpectedError as error:
            lines.append((kind.what, *[""] * 6, f"? {error}"))
    yield Table(aligned(lines), [row for result in results for row in packet_rows(result)])
    yield Table(
        "(A bomb may also take what zlib takes for the mebibyte that one input may inflate, R47.)"
    )
    yield rest_table([result for result in results if result.rest])


def scene_without_room() -> Scene:
    """A scene in which all bytes are held that can be."""
    scene = Scene()
    use_up_bytes(scene)
    return scene


PACKET_COLUMNS: Final[tuple[str, ...]] = (
    f"a packet, relative to {PARSES} x its parsing + {HONEST_PACKETS} honest ones of its size",
    "bytes",
    "empty tables",
    "full tables",
    "parser's share",
    "time",
    "x plain",
    "holds",
)
"""`x plain`: at full tables, relative to one plain honest packet of the same size."""


def packet_rows(result: Result) -> Iterator[Row]:
    """The figures of a kind of packets."""
    yield Row(f"{result.what}, empty tables", result.empty, "x", 1.0)
    yield Row(f"{result.what}, full tables", result.full, "x", 1.0)
    yield Row(f"{result.what}, time", result.seconds * 1e6, "µs")


def packet_line(result: Result) -> tuple[str, ...]:
    """The line of a kind of packets."""
    return (
        result.what,
        f"{result.size:,.0f}",
        f"{result.empty:.2f}",
        f"{result.full:.2f}",
        f"{result.parser:.0%}",
        micros(result.seconds),
        f"{result.plain:,.{1 if result.plain < 20 else 0}f}",
        VERDICTS[max(result.empty, result.full) <= 1],
    )


def rest_table(results: Sequence[Result]) -> Table:
    """The work that packets left."""
    if not results:
        return Table("No packet left work for handle_deadline.")
    what = "the slowest handle_deadline after it, relative to 1 MiB inflated and decoded"
    lines: list[tuple[str, ...]] = [(what, "full tables", "at most", "time", "holds")]
    for result in results:
        holds = VERDICTS[result.rest <= MAX_REST]
        rest, seconds = f"{result.rest:.2f}", micros(result.rest_seconds)
        lines.append((result.what, rest, f"{MAX_REST:.2f}", seconds, holds))
    rows = [Row(f"{result.what}, rest", result.rest, "x", MAX_REST) for result in results]
    return Table(aligned(lines), rows)


def sealed_table() -> Table:
    """Packets that do not open."""
    what = "a packet that does not open, relative to one of its size that does"
    lines: list[tuple[str, ...]] = [(what, "bytes", "measured", "at most", "time", "holds")]
    rows = []
    for result in sealed.refused():
        rows.append(Row(f"{result.what}, {result.size} bytes", result.ratio, "x", MAX_REFUSED))
        ratios = (f"{result.ratio:.2f}", f"{MAX_REFUSED:.2f}")
        holds = VERDICTS[result.ratio <= MAX_REFUSED]
        lines.append((result.what, f"{result.size:,}", *ratios, micros(result.seconds), holds))
    return Table(aligned(lines), rows)


def input_table(in_rings: Scene, shared: Scene) -> Table:
    """Other inputs, at full tables of two sorts: the requests that are remembered are of announced
    callers, one of each, or all of callers that nobody announced."""
    what = "an input, relative to the same at empty tables"
    columns = ("full tables", "full, all unannounced", "at most", "at empty tables", "holds")
    lines: list[tuple[str, ...]] = [(what, *columns)]
    rows = []
    for name, make in inputs.MAKERS.items():
        result = inputs.measure(name, make, in_rings, shared)
        ratios = (f"{ratio:.2f}" for ratio in (result.in_rings, result.shared, MAX_FULL))
        holds = VERDICTS[max(result.in_rings, result.shared) <= MAX_FULL]
        lines.append((name, *ratios, micros(result.seconds), holds))
        rows.append(Row(f"{name}, full tables", result.in_rings, "x", MAX_FULL))
        rows.append(Row(f"{name}, full tables, all unannounced", result.shared, "x", MAX_FULL))
        rows.append(Row(f"{name}, at empty tables", result.seconds * 1e6, "µs"))
    return Table(aligned(lines), rows)


def answer_table() -> Table:
    """Answers that are hard to cut."""
    what = "an answer, respond and next_packet, relative to ASCII of the same size"
    lines: list[tuple[str, ...]] = [(what, "measured", "at most", "time", "holds")]
    rows = []
    for result in answers.measure():
        ratios = (f"{result.ratio:.2f}", f"{MAX_ANSWER:.2f}")
        holds = VERDICTS[result.ratio <= MAX_ANSWER]
        lines.append((result.what, *ratios, micros(result.seconds), holds))
        rows.append(Row(result.what, result.ratio, "x", MAX_ANSWER))
    return Table(aligned(lines), rows)


def micros(seconds: float) -> str:
    """A time in microseconds."""
    return f"{seconds * 1e6:,.{1 if seconds < 100e-6 else 0}f} µs"
