"""Figures that are kept in files, and compared."""

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Self

import google.protobuf
from google.protobuf.internal import api_implementation

from benchmarks.table import Row, aligned, number

FORMAT: Final = 1
"""The version of the file format."""
NOISE: Final = 0.03
"""A smaller change in any of several rounds is none."""
NOISE_OF_ONE: Final = 0.10
"""The same if there is one round only."""
MORE_IS_BETTER: Final = {"/s"}
"""The units of which more is better; of all others, less is."""


class NoFiguresError(Exception):
    """There are no figures to compare with; the message says why."""


class Figure(NamedTuple):
    """A result by its name, which is unique within the section."""

    section: str
    what: str
    measured: float
    unit: str
    target: float | None = None


class Origin(NamedTuple):
    """Where figures are from."""

    python: str
    protobuf: str
    machine: str
    commit: str = ""

    @classmethod
    def here(cls, root: Path) -> Self:
        """This process, with the checkout at `root`."""
        return cls(
            f"{platform.python_implementation()} {platform.python_version()}",
            f"protobuf {google.protobuf.__version__} ({api_implementation.Type()})",
            f"{platform.machine()}, {os.cpu_count()} processors",
            _commit(root),
        )

    def __str__(self) -> str:
        return ", ".join(filter(None, self))


def _commit(root: Path) -> str:
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


class Kept(NamedTuple):
    """The content of a file."""

    origin: Origin
    figures: list[Figure]


def named(section: str, rows: Iterable[Row]) -> Iterator[Figure]:
    """The figures of a section. A row that is indented belongs to the one before it."""
    head = ""
    for row in rows:
        what = row.what.strip()
        if not row.what.startswith(" "):
            head = what
        elif head:
            what = f"{head}: {what}"
        yield Figure(section, what, row.measured, row.unit, row.target)


def write(path: Path, origin: Origin, figures: Iterable[Figure]) -> None:
    """Write figures to a file."""
    content = {
        "format": FORMAT,
        **origin._asdict(),
        "figures": [figure._asdict() for figure in figures],
    }
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def read(path: Path) -> Kept:
    """Read figures from a file; raises NoFiguresError."""
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["format"] != FORMAT:
            raise NoFiguresError(f"{path} has the format {content['format']}, not {FORMAT}")
        origin = Origin(*(str(content[name]) for name in Origin._fields))
        return Kept(origin, [Figure(**each) for each in content["figures"]])
    except OSError as error:
        raise NoFiguresError(f"{path}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError):
        raise NoFiguresError(f"{path} has no figures of these benchmarks") from None


def medians(rounds: Sequence[Sequence[Figure]]) -> list[Figure]:
    """The figures of several rounds as one."""
    return [
        figures[0]._replace(measured=statistics.median(each.measured for each in figures))
        for figures in _by_name(rounds).values()
    ]


def comparison(earlier: Kept, now: Sequence[Figure], here: Origin) -> str:
    """How figures compare with earlier ones, as a table."""
    lines = [f"compared with {earlier.origin}"]
    if earlier.origin[:3] != here[:3]:
        lines.append("(another interpreter, protobuf or machine: times are not comparable)")
    return "\n".join([*lines, _table(_by_name([earlier.figures]), _by_name([now]))])


def compared_by_turns(before: Sequence[Sequence[Figure]], now: Sequence[Sequence[Figure]]) -> str:
    """How the figures of rounds compare with those of the same rounds elsewhere, as a table."""
    return _table(_by_name(before), _by_name(now))


Named = Mapping[tuple[str, str], list[Figure]]


def _by_name(rounds: Sequence[Sequence[Figure]]) -> Named:
    named: dict[tuple[str, str], list[Figure]] = {}
    for figures in rounds:
        for figure in figures:
            named.setdefault((figure.section, figure.what), []).append(figure)
    return named


def _table(before: Named, now: Named) -> str:
    lines: list[tuple[str, ...]] = [("", "before", "now", "now / before", "")]
    last = head = ""
    for name, figures in now.items():
        if name not in before:
            continue
        if name[0] != last:
            last = name[0]
            lines.append((last, "", "", "", ""))
        belongs = name[1].startswith(f"{head}: ")
        head = head if belongs else name[1]
        shown = f"    {name[1].removeprefix(f'{head}: ')}" if belongs else f"  {head}"
        lines.append((shown, *_cells(before[name], figures)))
    if len(lines) == 1:
        return "no figure was measured on both sides"
    return aligned(lines)


def _cells(before: Sequence[Figure], now: Sequence[Figure]) -> tuple[str, ...]:
    """Of one figure: medians, the median of the ratios of the rounds, and what that means."""
    unit = now[0].unit
    shown = (
        number(statistics.median(each.measured for each in side), unit) for side in (before, now)
    )
    ratios = sorted(
        one.measured / other.measured
        for one, other in zip(now, before, strict=False)
        if other.measured > 0 and one.measured > 0
    )
    if not ratios:
        return (*shown, "", "")
    ratio = f"{statistics.median(ratios):.2f}"
    if len(ratios) > 1:
        ratio += f" ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    return (*shown, ratio, _verdict(ratios, unit))


def _verdict(ratios: Sequence[float], unit: str) -> str:
    """How many times better or worse all rounds say it is, if they say so."""
    noise = NOISE_OF_ONE if len(ratios) == 1 else NOISE
    if unit in MORE_IS_BETTER:
        ratios = [1 / ratio for ratio in ratios]
    ratio = statistics.median(ratios)
    if max(ratios) < 1 - noise:
        return f"{1 / ratio:.2f} x better"
    if min(ratios) > 1 + noise:
        return f"{ratio:.2f} x worse"
    return "no change"
