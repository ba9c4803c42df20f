"""What concerns all tests."""

import gc
import os
import signal
from collections.abc import Generator

import profiles  # noqa: F401 (the profile of Hypothesis)
import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in the background of a script; the programs of the tests would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


LONG = ("test_conformance.py", "test_search", "test_simulation", "test_stateful")
"""The modules with the longest tests."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let each worker begin with its share of the longest tests: who gets one last would be waited
    for. pytest-xdist deals out the list in as many pieces as there are workers."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    long = [item for item in items if item.path.name.startswith(LONG)]
    short = [item for item in items if not item.path.name.startswith(LONG)]
    total = len(items)
    items.clear()
    for worker in range(workers):
        items += long[worker::workers]
        room = max(0, total * (worker + 1) // workers - len(items))
        items += short[:room]
        del short[:room]
    items += short


def pytest_collection_finish() -> None:
    forget_garbage()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    if nextitem is None or nextitem.path != item.path:
        forget_garbage()


def forget_garbage() -> None:
    """Let the collector look only at what is made from now on.

    Many tests collect garbage to see what they have left, and thousands of collected tests and
    their modules would make that take a quarter of a second each time. Sockets and tasks that a
    module has left complain now, and not in the middle of another.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let reports travel between processes: what some tests log is no text for UTF-8."""
    report = yield
    report.sections = [
        (name, content.encode(errors="backslashreplace").decode())
        for name, content in report.sections
    ]
    return report
