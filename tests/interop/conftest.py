"""What the interop tests share: the loop, the server, and the table of results."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from interop import matrix
from interop.clients import Place
from interop.matrix import Cell
from interop.pairings import Meeting, Pairing, Run
from interop.room_server import RoomServer

KEY, SECRET = "devkey", "a-secret-of-at-least-thirty-two-characters"


@pytest.fixture(scope="session")
def run() -> Iterator[Run]:
    """The loop stands still between tests."""
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture(scope="session")
def server(run: Run) -> Iterator[RoomServer]:
    """The room server for tests."""
    server = RoomServer()
    run(server.start())
    yield server
    run(server.aclose())


@pytest.fixture(scope="session")
def meeting(request: pytest.FixtureRequest, run: Run, server: RoomServer) -> Iterator[Meeting]:
    """The two of the pairing that the test is given."""
    pairing: Pairing = request.param
    meeting = Meeting(pairing, Place(server.url, KEY, SECRET), server)
    yield meeting
    run(meeting.part())


# The table: a module says in its function `cell_of` where its results stand; a test may add a note.


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--matrix", help="the document in which the tables are written anew")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for order, item in enumerate(items):
        cell_of = getattr(getattr(item, "module", None), "cell_of", None)
        if cell_of is not None:
            item.user_properties.append(("cell", [order, *cell_of(item.callspec.params)]))  # type: ignore[attr-defined]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    cells, reasons = _cells(terminalreporter.stats)
    if not cells:
        return
    for name, table in matrix.tables(cells).items():
        terminalreporter.section(name)
        terminalreporter.write_line(table)
    for reason in sorted(reasons):
        terminalreporter.write_line(f"skipped: {reason}")
    if config.getoption("--matrix") and not terminalreporter.stats.get("failed"):
        matrix.write(Path(config.getoption("--matrix")), cells)


def _cells(stats: dict[str, list[Any]]) -> tuple[list[Cell], set[str]]:
    cells: list[Cell] = []
    reasons: set[str] = set()
    for outcome, text in (
        ("passed", matrix.OK),
        ("skipped", "-"),
        ("failed", matrix.FAILED),
        ("error", matrix.FAILED),
    ):
        for report in stats.get(outcome, []):
            properties = dict(report.user_properties)
            if "cell" not in properties:
                continue
            if outcome == "skipped":
                reasons.add(report.longrepr[2].removeprefix("Skipped: "))
            note = properties.get("note", "")
            order, table, row, column = properties["cell"]
            cells.append(Cell(order, table, row, column, f"{text} {note}".strip()))
    return cells, reasons
