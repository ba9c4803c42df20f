"""Tests of the tests: faults put into the code by hand, and the kinds of tests that see them.

make mutants          each fault meets the layer that must catch it
make mutants ALL=1    each fault meets all layers

There are two tables: faults of the core, and those of hosts and transports. Nothing in the working
tree changes: the tests run in copies of it. Two controls come first in each table: the code as it
is must pass every layer, and code that cannot be imported must pass none.
"""

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import NamedTuple

from faults import FAULTS, LAYERS, Fault
from host_faults import HOST_FAULTS, HOST_LAYERS
from paths import ROOT, module_of_tests

COPIED = ("rpcproto", "tests", "fuzz", "docs", "examples", "pyproject.toml")

ONE_MORE_BLOCK = (
    "test_simulation_programs.py"
    "::test_programs_on_both_hosts_have_the_same_story_which_the_rules_allow[100]"
)
ONE_BLOCK = [
    *(
        f"--deselect=tests/proof/test_simulation.py::test_all_is_as_the_rules_have_it[{start}]"
        for start in range(250, 500, 250)
    ),
    f"--deselect=tests/proof/{ONE_MORE_BLOCK}",
]
"""The first seeds are enough, as they reach everything, or nearly so."""
MAX_CPU_SECONDS = 120
"""Of one layer: many times what the slowest takes with sound code."""
MAX_SECONDS = 600
"""The same by the clock, for a host that waits for ever."""
MAX_MEMORY_BYTES = 3 << 30


class Table(NamedTuple):
    """Faults, the layers that they meet, and the controls."""

    layers: Mapping[str, Sequence[str]]
    faults: Sequence[Fault]
    sound: Fault
    broken: Fault


TABLES = [
    Table(
        LAYERS,
        FAULTS,
        Fault("(the core as it is)", "states", "", "", ""),
        Fault("(a core that cannot be imported)", "states", "", "from collections", "from nowhere"),
    ),
    Table(
        HOST_LAYERS,
        HOST_FAULTS,
        Fault("(all as it is)", "waking", "", "", "", "transports"),
        Fault(
            "(transports that cannot be imported)",
            "__init__",
            "",
            "from collections",
            "from nowhere",
            "transports",
        ),
    ),
]


def faulty_source(fault: Fault, source: str) -> str:
    """The text of a module with its fault."""
    return source.replace(fault.original, fault.faulty) if fault.original else source


def copied(directory: str) -> Path:
    """A copy of what the tests need."""
    copy = Path(directory)
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy)
    return copy


def catching_test(copy: Path, names: Sequence[str]) -> str:
    """The first test in these modules that fails in a copy, empty if none does."""
    files = [module_of_tests(name) for name in names]
    options = ["-x", "-q", "--tb=no", "-p", "no:cacheprovider", *ONE_BLOCK]
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, *files],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy), "RPCPROTO_PROFILE": "fast"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    resource.prlimit(process.pid, resource.RLIMIT_CPU, (MAX_CPU_SECONDS,) * 2)
    resource.prlimit(process.pid, resource.RLIMIT_AS, (MAX_MEMORY_BYTES,) * 2)
    try:
        output, _ = process.communicate(timeout=MAX_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
    if process.returncode == 0:
        return ""
    if process.returncode < 0:
        return "has no end"
    failed = re.search(r"^(?:FAILED|ERROR) tests/\w+/test_([^\s\[]+)", output, re.MULTILINE)
    if failed is None:
        raise RuntimeError(f"the tests did not run:\n{output}")
    return failed[1]


def outcomes_of(fault: Fault, copy: Path, layers: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """For each layer the test that sees the fault, empty if none does."""
    path = copy / fault.path
    sound = path.read_text("utf-8")
    path.write_text(faulty_source(fault, sound), "utf-8")
    # What is compiled already would be taken for the new text if that has the same size and second.
    shutil.rmtree(path.parent / "__pycache__", ignore_errors=True)
    try:
        return {layer: catching_test(copy, names) for layer, names in layers.items()}
    finally:
        path.write_text(sound, "utf-8")


def tried(
    table: Table, faults: Sequence[Fault], everything: bool
) -> Iterator[tuple[Fault, dict[str, str]]]:
    """What each layer makes of each fault, in their order."""
    jobs = os.cpu_count() or 1
    copies: SimpleQueue[Path] = SimpleQueue()

    def try_out(fault: Fault) -> dict[str, str]:
        copy = copies.get()
        try:
            every = everything or not fault.layer
            layers = table.layers if every else {fault.layer: table.layers[fault.layer]}
            return outcomes_of(fault, copy, layers)
        finally:
            copies.put(copy)

    with ExitStack() as stack:
        for _ in range(jobs):
            copies.put(copied(stack.enter_context(TemporaryDirectory())))
        executor = stack.enter_context(ThreadPoolExecutor(jobs))
        yield from zip(faults, executor.map(try_out, faults), strict=True)


def printed_row(table: Table, fault: Fault, outcomes: Mapping[str, str], width: int) -> str:
    """A row of the matrix, with the test that saw the fault where it had to be seen."""
    cells = ""
    for layer in table.layers:
        mark = "" if layer not in outcomes else "●" if outcomes[layer] else "·"
        cells += f"{f'[{mark}]' if layer == fault.layer else mark:^{len(layer) + 2}}"
    return f"{fault.name:<{width}}{cells}  {outcomes.get(fault.layer, '')}".rstrip()


def print_table(table: Table, words: Sequence[str], everything: bool) -> list[Fault] | None:
    """Print the matrix; returns the faults that escaped, None if a control is not as it should."""
    faults = [fault for fault in table.faults if any(word in fault.name for word in words)]
    if not faults:
        return []
    tried_out = [table.sound, table.broken, *faults]
    width = max(len(fault.name) for fault in tried_out) + 1
    print(" " * width + "".join(f"{layer:^{len(layer) + 2}}" for layer in table.layers))
    matrix = {}
    for fault, outcomes in tried(table, tried_out, everything):
        print(printed_row(table, fault, outcomes, width), flush=True)
        if fault.layer:
            matrix[fault] = outcomes
        elif any(bool(test) != (fault is table.broken) for test in outcomes.values()):
            print(f"This is not as it should be, and says that all else means nothing: {outcomes}")
            return None
    print()
    for layer in table.layers:
        met = [outcomes[layer] for outcomes in matrix.values() if layer in outcomes]
        own = sum(fault.layer == layer for fault in matrix)
        print(f"{layer:<12}met {len(met)}, caught {len(met) - met.count('')}, had to catch {own}")
    escaped = [fault for fault, outcomes in matrix.items() if not outcomes[fault.layer]]
    caught = len(matrix) - len(escaped)
    print(f"\n{caught} of {len(matrix)} caught by the layer that must catch them")
    for fault in escaped:
        print(f"escaped {fault.layer}: {fault.name}")
    print()
    return escaped


def main() -> int:
    """Print both matrices; 1 if a fault escapes the layer that must catch it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="each fault meets all layers")
    parser.add_argument("--hosts", action="store_true", help="only hosts and transports")
    parser.add_argument("words", nargs="*", help="only faults whose names have one of these in it")
    arguments = parser.parse_args()
    words = arguments.words or [""]
    tables = TABLES[1:] if arguments.hosts else TABLES
    escaped = [print_table(table, words, arguments.all) for table in tables]
    return int(any(faults is None or faults for faults in escaped))


if __name__ == "__main__":
    sys.exit(main())
