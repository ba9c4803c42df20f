"""What the interop tests share: the loop, the server, and the table of results."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from interop import matrix
from interop.clients import Place
from interop.livekit_server import KEY, SECRET
from interop.matrix import Cell
from interop.pairings import Meeting, Pairing, Run
from rpcproto.conformance.room_server import RoomServer


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
def place(server: RoomServer) -> Place:
    """Where the room server is."""
    return Place(server.url, KEY, SECRET)


@pytest.fixture(scope="session")
def meeting(
    request: pytest.FixtureRequest, run: Run, server: RoomServer, place: Place
) -> Iterator[Meeting]:
    """The two of the pairing that the test is given."""
    pairing: Pairing = request.param
    meeting = Meeting(pairing, place, server)
    yield meeting
    run(meeting.part())


# The tables: a module says in its function `cell_of` where each result stands, and a test what is
# shown there. Or a test has "cells" of its own.


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--matrix", help="the document in which the tables are written anew")
    parser.addoption("--screenshot", type=Path, help="where the picture of the page goes")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for order, item in enumerate(items):
        item.user_properties.append(("order", order))
        cell_of = getattr(getattr(item, "module", None), "cell_of", None)
        if cell_of is not None and hasattr(item, "callspec"):
            cell = cell_of(item.callspec.params)
            item.user_properties.extend([("cell", cell)] if cell else [])


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    cells: list[Cell] = []
    used: dict[str, set[str]] = {}
    for outcome in ("passed", "skipped", "failed", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            for cell in _cells_of(report, outcome):
                cells.append(cell)
                used.setdefault(cell.table, set()).update(_programs(report))
    for name, table in matrix.tables(cells).items():
        terminalreporter.section(name)
        terminalreporter.write_line(table)
    skipped = terminalreporter.stats.get("skipped", [])
    for reason in sorted({report.longrepr[2].removeprefix("Skipped: ") for report in skipped}):
        terminalreporter.write_line(f"skipped: {reason}")
    document = config.getoption("--matrix")
    if document and not terminalreporter.stats.keys() & {"failed", "error"}:
        matrix.write(Path(document), cells, used)


def _programs(report: pytest.TestReport) -> set[str]:
    """What the test says that it ran with."""
    return {str(value) for name, value in report.user_properties if name == "with" and value}


def _cells_of(report: pytest.TestReport, outcome: str) -> Iterator[Cell]:
    properties: dict[str, Any] = dict(getattr(report, "user_properties", ()))
    if "cell" in properties:
        shown = {"passed": properties.get("shown", matrix.OK), "skipped": matrix.SKIPPED}
        table, row, column = properties["cell"]
        yield Cell(properties["order"], table, row, column, shown.get(outcome, matrix.FAILED))
    for number, (table, row, column, text) in enumerate(properties.get("cells", [])):
        yield Cell(100 * properties["order"] + number, table, row, column, text)
