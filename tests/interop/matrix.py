"""The table of results, for the terminal and for the documentation."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

OK: Final = "✓"
SKIPPED: Final = "-"
FAILED: Final = "**FAILED**"


class Cell(NamedTuple):
    """One result; rows and columns are shown in the order of the smallest `order` in them."""

    order: int
    table: str
    row: str
    column: str
    text: str


def tables(cells: list[Cell]) -> dict[str, str]:
    """Each table as Markdown, by its name."""
    names = dict.fromkeys(cell.table for cell in sorted(cells))
    return {name: _table([cell for cell in cells if cell.table == name]) for name in names}


def _table(cells: list[Cell]) -> str:
    ordered = sorted(cells)
    rows = dict.fromkeys(cell.row for cell in ordered)
    columns = dict.fromkeys(cell.column for cell in ordered)
    texts = {(cell.row, cell.column): cell.text for cell in cells}
    lines = [("", *columns), *((row, *(texts.get((row, c), "") for c in columns)) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns) + 1)]
    shown = [
        "| " + " | ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
    return "\n".join([shown[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *shown[1:]])


def write(path: Path, cells: list[Cell], used: dict[str, set[str]]) -> None:
    """Put the tables where they stand in the document; a table that is new comes at the end.

    A table of which nothing could be run stays as it was. `used` says, by table, what programs
    were used.
    """
    ran = {cell.table for cell in cells if cell.text != SKIPPED}
    cells = [cell for cell in cells if cell.table in ran]
    text = path.read_text(encoding="utf-8")
    for name, table in tables(cells).items():
        today = datetime.now(UTC).date().isoformat()
        begin, end = f"<!-- table: {name} -->", "<!-- end -->"
        programs = "".join(f", {program}" for program in sorted(used.get(name, ())))
        heading = name[0].upper() + name[1:]
        block = f"{begin}\n\n### {heading}\n\n{table}\n\nRun on {today}{programs}.\n\n{end}"
        old = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        found = old.search(text)
        if found:
            text = text[: found.start()] + block + text[found.end() :]
        else:
            text = f"{text.rstrip()}\n\n{block}\n"
    path.write_text(text, encoding="utf-8")
