"""Measure, and print tables: `make bench`, or `python -m benchmarks SECTION`.

Figures can be kept in a file, and compared with those of an earlier file or of another checkout.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import rpcproto
from benchmarks import figures
from benchmarks.figures import Figure
from benchmarks.sections import KEPT_HEAP, SECTIONS

ROOT: Final = Path(__file__).resolve().parent.parent
ALONE: Final = "--alone"
"""The option of a process that measures one section: the file for its figures."""
WITH_KEPT_HEAP: Final = "bodies"
"""The section that is measured once more, with a heap that keeps its memory."""


def main() -> int:
    """Measure what was asked for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("section", nargs="*", help=f"one of {', '.join(SECTIONS)}; none means all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file")
    parser.add_argument(
        "--against",
        type=Path,
        metavar="PATH",
        help="compare with the figures in a file, or with the rpcproto of another checkout, which "
        "is measured by turns with this one",
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="the turns of each checkout (default: 3)"
    )
    parser.add_argument(ALONE, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = set(options.section) - SECTIONS.keys()
    if unknown:
        parser.error(f"unknown section {min(unknown)!r}: choose from {', '.join(SECTIONS)}")
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    sections: list[str] = options.section or list(SECTIONS)
    if options.alone is not None:
        measure_here(sections, options.alone)
        return 0
    try:
        return measure(sections, options.json, options.against, options.rounds)
    except figures.NoFiguresError as error:
        parser.error(str(error))


def measure(sections: list[str], keep: Path | None, against: Path | None, rounds: int) -> int:
    """Measure the sections, each in a process of its own, so that none finds the heap as another
    one left it."""
    is_checkout = against is not None and against.is_dir()
    earlier = None if against is None or is_checkout else figures.read(against)
    here = figures.Origin.here(ROOT)
    print(here, flush=True)
    if against is not None and is_checkout:
        if not (against / "rpcproto" / "__init__.py").exists():
            raise figures.NoFiguresError(f"{against} is not a checkout of rpcproto")
        measured = compare_checkouts(sections, against, rounds)
    else:
        measured = [figure for section in sections for figure in measured_in(ROOT, section)]
    if earlier is not None:
        print(f"\n{figures.comparison(earlier, measured, here)}")
    if keep is not None:
        figures.write(keep, here, measured)
    return 0


def compare_checkouts(sections: list[str], other: Path, rounds: int) -> list[Figure]:
    """Measure this checkout and another one by turns, and print how they compare; returns the
    figures of this one, medians of all rounds."""
    ours: list[list[Figure]] = []
    theirs: list[list[Figure]] = []
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", flush=True)
        ours.append([])
        theirs.append([])
        for section in sections:
            turns = [(ROOT, ours), (other, theirs)]
            for root, kept in turns if number % 2 else turns[::-1]:
                kept[-1].extend(measured_in(root, section, is_quiet=True))
    print(f"\n{figures.compared_by_turns(theirs, ours)}")
    return figures.medians(ours)


def measured_in(root: Path, section: str, *, is_quiet: bool = False) -> list[Figure]:
    """Measure a section of these benchmarks with the rpcproto of a checkout, in a new process."""
    measured = []
    environments = [{}, KEPT_HEAP] if section == WITH_KEPT_HEAP else [{}]
    for environment in environments:
        if environment and not is_quiet:
            print("\nThe same in a process whose heap keeps its memory (glibc):", flush=True)
        for figure in _alone(root, section, environment, is_quiet=is_quiet):
            name = f"{figure.section} (kept heap)" if environment else figure.section
            measured.append(figure._replace(section=name))
    return measured


def _alone(
    root: Path, section: str, environment: dict[str, str], *, is_quiet: bool
) -> list[Figure]:
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        (place / "rpcproto").symlink_to(root.resolve() / "rpcproto")
        (place / "benchmarks").symlink_to(ROOT / "benchmarks")
        command = [sys.executable, "-m", "benchmarks", section, ALONE, "figures.json"]
        done = subprocess.run(
            command,
            check=False,
            cwd=place,
            env={**os.environ, "PYTHONSAFEPATH": "", **environment},
            stdout=subprocess.DEVNULL if is_quiet else None,
            stderr=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no word"])[-1]
            print(f"{section} cannot be measured in {root}: {reason}", flush=True)
            return []
        read = json.loads((place / "figures.json").read_text("utf-8"))
        return [Figure(*each) for each in read]


def measure_here(sections: list[str], keep: Path) -> None:
    """Measure sections in this process, print them, and write their figures."""
    if not (Path("rpcproto").exists() and Path(rpcproto.__file__).samefile("rpcproto/__init__.py")):
        raise RuntimeError(f"measures {rpcproto.__file__}, which is not what was asked for")
    kept: list[Figure] = []
    for section in sections:
        for text, rows in SECTIONS[section]():
            print(f"\n{text}", flush=True)
            kept.extend(figures.named(section, rows))
    keep.write_text(json.dumps(kept), "utf-8")


if __name__ == "__main__":
    sys.exit(main())
