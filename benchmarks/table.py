"""The results, as one table."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self


class Row(NamedTuple):
    """One result; without a `target` it is for information only."""

    what: str
    measured: float
    unit: str
    target: float | None = None

    @property
    def holds(self) -> bool | None:
        """Whether the target, an upper limit, is kept; None where there is none."""
        return None if self.target is None else self.measured <= self.target


class Table(NamedTuple):
    """A table as it is printed, and its results."""

    text: str
    rows: Sequence[Row] = ()

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Self:
        """The table of these rows, one line each."""
        kept = list(rows)
        return cls(table(kept), kept)


VERDICTS = {True: "yes", False: "NO", None: ""}


def table(rows: Sequence[Row]) -> str:
    """The rows, aligned."""
    cells = [("", "measured", "at most", "holds")]
    for row in rows:
        target = "" if row.target is None else number(row.target, row.unit)
        cells.append((row.what, number(row.measured, row.unit), target, VERDICTS[row.holds]))
    return aligned(cells)


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Lines of as many cells: the first and the last cell to the left, all others to the right."""
    width = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join((first.ljust(width[0]), *map(str.rjust, middle, width[1:-1]), last)).rstrip()
        for first, *middle, last in lines
    )


def number(value: float, unit: str) -> str:
    """Three significant places are all that a benchmark knows."""
    places = 0 if value >= 100 else 1 if value >= 20 else 2
    return f"{value:.{places}f} {unit}"
