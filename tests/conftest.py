"""What concerns all tests."""

import signal
from collections.abc import Generator

import profiles  # noqa: F401 (the profile of Hypothesis)
import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in the background of a script; the programs of the tests would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let reports travel between processes: what some tests log is no text for UTF-8."""
    report = yield
    report.sections = [
        (name, content.encode(errors="backslashreplace").decode())
        for name, content in report.sections
    ]
    return report
