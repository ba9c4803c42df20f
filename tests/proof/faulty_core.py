"""Tests that meet a core with a fault in it, each time in a process of their own.

A fault in the body of a function is put into a core that is loaded, with the tests that reach this
function: nearly all faults are such, and are seen in a blink. Where a module must be loaded anew,
the faulty text takes its place when it is imported. No file changes, either way.
"""

import gc
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import os
import resource
import signal
import sys
import types
from collections.abc import Callable, Generator, Iterator, Sequence
from enum import Enum
from functools import wraps
from typing import Any, NamedTuple, TypeAlias

import pytest
from _pytest.runner import runtestprotocol
from google.protobuf.internal import builder  # noqa: F401 (loaded once for all processes)
from hypothesis import settings, strategies  # noqa: F401
from hypothesis.errors import UnsatisfiedAssumption
from paths import ROOT

CORE = ROOT / "rpcproto" / "core"
MAX_TEST_SECONDS = 20
"""CPU time of one test; many times what the slowest takes on a sound core."""
MAX_MEMORY_BYTES = 3 << 30

_OPTIONS = (
    "-x",
    "-q",
    "--tb=no",
    "-pno:cacheprovider",
    # It starts other processes, which would meet a core without the fault.
    "--deselect=tests/core/test_laws.py::test_l1_in_other_processes_too",
)


class Outcome(Enum):
    """What came of the tests. All but SURVIVED mean that the fault was seen."""

    SURVIVED = "survived"
    KILLED = "killed"
    TIMEOUT = "timeout"


class Trial(NamedTuple):
    """A core module with a fault, and the test files that it meets, in this order.

    `function` names the one whose body has the fault, empty where it is elsewhere.
    """

    module: str
    source: str
    files: Sequence[str]
    function: str = ""


Trials: TypeAlias = Iterator[tuple[int, Outcome]]
"""The number and the outcome of each trial, as they come in."""


def _each_in_a_process(run: Callable[[Trial], int], trials: Sequence[Trial]) -> Trials:
    """`run` gives what pytest gives: 0 if all tests passed."""
    running: dict[int, int] = {}
    for number, trial in enumerate(trials):
        if len(running) >= (os.cpu_count() or 1):
            yield _wait(running)
        pid = os.fork()
        if not pid:
            try:
                os._exit(_quietly(run, trial))
            finally:
                os._exit(-1)
        running[pid] = number
    while running:
        yield _wait(running)


def _quietly(run: Callable[[Trial], int], trial: Trial) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    return run(trial)


def _wait(running: dict[int, int]) -> tuple[int, Outcome]:
    pid, status = os.wait()
    number, code = running.pop(pid), os.waitstatus_to_exitcode(status)
    if code == 0:
        return number, Outcome.SURVIVED
    if code in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED):
        return number, Outcome.KILLED
    if code == -signal.SIGPROF:
        return number, Outcome.TIMEOUT
    raise RuntimeError(f"the tests of trial {number} ended with {code}")


# --- a module loaded anew


class _FaultyLoader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self._source = source

    def get_code(self, fullname: str) -> types.CodeType:
        return compile(self._source, self.path, "exec")


class _FaultyFinder(importlib.abc.MetaPathFinder):
    def __init__(self, module: str, source: str) -> None:
        self._name = f"rpcproto.core.{module}"
        path = str(CORE / f"{module}.py")
        loader = _FaultyLoader(self._name, path, source)
        self._spec = importlib.util.spec_from_file_location(self._name, path, loader=loader)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return self._spec if fullname == self._name else None


class _InAHurry:
    """Ends the process when one test has had all its time, or when an example fails."""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            _end_at_first_failure(item)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Generator[None, bool | None, bool | None]:
        signal.setitimer(signal.ITIMER_PROF, MAX_TEST_SECONDS)
        done = yield
        signal.setitimer(signal.ITIMER_PROF, 0)
        return done


def _end_at_first_failure(item: pytest.Item) -> None:
    """Hypothesis would look for a smaller example, for longer than all other tests take."""
    handle = getattr(getattr(item, "obj", None), "hypothesis", None)
    if handle is not None:
        inner_test = handle.inner_test

        @wraps(inner_test)
        def ending(*args: Any, **keywords: Any) -> None:
            try:
                inner_test(*args, **keywords)
            except UnsatisfiedAssumption:
                raise
            except Exception:
                os._exit(pytest.ExitCode.TESTS_FAILED)

        handle.inner_test = ending


def _run_anew(trial: Trial) -> int:
    sys.meta_path.insert(0, _FaultyFinder(trial.module, trial.source))
    code = 0
    for files in (trial.files[:1], trial.files[1:]):  # most are seen by the first file
        if files and not code:
            code = pytest.main([*_OPTIONS, *files], plugins=[_InAHurry()])
    return code


def run_anew(trials: Sequence[Trial]) -> Trials:
    """Run trials, each in a core that is loaded anew; before any of it is loaded here."""
    assert not any(name.startswith("rpcproto") for name in sys.modules)
    _prepare()
    return _each_in_a_process(_run_anew, trials)


def _prepare() -> None:
    os.chdir(ROOT)
    sys.dont_write_bytecode = False  # or each process compiles all tests
    # Plugins take longer to load than most faults to be seen.
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    settings.register_profile("faulty core", database=None, derandomize=True, deadline=None)
    settings.load_profile("faulty core")


# --- a function's body, in a core that is loaded


class _Session:
    """Collects the tests once, sees which functions each of them reaches, then runs the trials."""

    def __init__(self, trials: Sequence[Trial], report: Callable[[int, Outcome], None]) -> None:
        self._trials = trials
        self._report = report
        self._reached: dict[pytest.Item, set[types.CodeType]] = {}

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        for item, following in zip(session.items, [*session.items[1:], None], strict=True):
            _clear_caches()
            codes: set[types.CodeType] = set()
            sys.setprofile(lambda frame, *_: codes.add(frame.f_code))  # noqa: B023
            passes = _passes(item, following)
            sys.setprofile(None)
            assert passes, f"{item.nodeid} fails on a sound core"
            self._reached[item] = codes
        gc.freeze()
        for number, outcome in _each_in_a_process(self._run, self._trials):
            self._report(number, outcome)
        return True

    def _run(self, trial: Trial) -> int:
        sound = _put_in(trial)
        _clear_caches()
        items = [item for item, codes in self._reached.items() if sound in codes]
        for item in items:
            _end_at_first_failure(item)
        items.sort(key=lambda item: trial.files.index(item.path.relative_to(ROOT).as_posix()))
        following = [*items[1:], None]
        return int(not all(map(_passes, items, following)))


def _passes(item: pytest.Item, following: pytest.Item | None) -> bool:
    signal.setitimer(signal.ITIMER_PROF, MAX_TEST_SECONDS)
    reports = runtestprotocol(item, log=False, nextitem=following)
    signal.setitimer(signal.ITIMER_PROF, 0)
    return not any(report.failed for report in reports)


def _put_in(trial: Trial) -> types.CodeType:
    """Give a function its faulty code; returns its sound one."""
    faulty: Any = compile(trial.source, str(CORE / f"{trial.module}.py"), "exec")
    function: Any = sys.modules[f"rpcproto.core.{trial.module}"]
    for name in trial.function.split("."):
        faulty = next(c for c in faulty.co_consts if getattr(c, "co_name", None) == name)
        function = inspect.getattr_static(function, name)
    function = getattr(function, "fget", function)
    function = getattr(function, "__wrapped__", function)
    sound: types.CodeType = function.__code__
    function.__code__ = faulty
    return sound


def _clear_caches() -> None:
    for name, module in list(sys.modules.items()):
        if name.startswith("rpcproto.core."):
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()
                elif isinstance(value, dict) and hasattr(value, "__missing__"):
                    value.clear()


def run_in_place(trials: Sequence[Trial], report: Callable[[int, Outcome], None]) -> None:
    """Run trials whose fault is in the body of a function, and tell of each; all have the same
    files, in some order."""
    if trials:
        _prepare()
        options = (*_OPTIONS, "-s", *trials[0].files)
        assert not pytest.main([*options], plugins=[_Session(trials, report)])
