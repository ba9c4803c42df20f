"""What concerns all tests."""

import gc
import signal
from collections.abc import Generator

import profiles  # noqa: F401 (the profile of Hypothesis)
import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in the background of a script; the programs of the tests would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


LONG = ("test_conformance", "test_search", "test_simulation", "test_stateful")
"""The modules with the longest tests."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest tests: a worker that gets one last would be waited for."""
    items.sort(key=lambda item: not item.path.name.startswith(LONG))


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
