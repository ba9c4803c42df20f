"""Tests of the tests: faults put into the core by hand, and the kinds of tests that see them.

make mutants          each fault meets the layer that must catch it
make mutants ALL=1    each fault meets all layers

Nothing in the working tree changes: the tests run in copies of it. Two cores that are no mutants
come first: as it is the core must pass every layer, and one that cannot be imported must pass none.
"""

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory

from faults import FAULTS, LAYERS, Fault

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("rpcproto", "tests", "fuzz", "docs", "examples", "pyproject.toml")
CORE = Path("rpcproto", "core")

ONE_BLOCK = [
    f"--deselect=tests/test_simulation.py::test_all_is_as_the_rules_have_it[{start}]"
    for start in range(250, 1_000, 250)
]
"""The first 250 seeds are enough, as they reach everything."""
MAX_CPU_SECONDS = 120
"""Of one layer: many times what the slowest takes with a sound core."""
MAX_MEMORY_BYTES = 3 << 30

SOUND = Fault("(the core as it is)", "states", "", "", "")
BROKEN = Fault("(a core that cannot be imported)", "states", "", "from collections", "from nowhere")


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


def catching_test(copy: Path, layer: str) -> str:
    """The first test of a layer that fails in a copy, empty if none does."""
    files = [f"tests/test_{name}.py" for name in LAYERS[layer]]
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
    output, _ = process.communicate()
    if process.returncode == 0:
        return ""
    if process.returncode < 0:
        return "has no end"
    failed = re.search(r"^(?:FAILED|ERROR) tests/test_([^\s\[]+)", output, re.MULTILINE)
    if failed is None:
        raise RuntimeError(f"the tests did not run:\n{output}")
    return failed[1]


def outcomes_of(fault: Fault, copy: Path, layers: Sequence[str]) -> dict[str, str]:
    """For each layer the test that sees the fault, empty if none does."""
    path = copy / CORE / f"{fault.module}.py"
    sound = path.read_text("utf-8")
    path.write_text(faulty_source(fault, sound), "utf-8")
    # What is compiled already would be taken for the new text if that has the same size and second.
    shutil.rmtree(path.parent / "__pycache__", ignore_errors=True)
    try:
        return {layer: catching_test(copy, layer) for layer in layers}
    finally:
        path.write_text(sound, "utf-8")


def tried(faults: Sequence[Fault], everything: bool) -> Iterator[tuple[Fault, dict[str, str]]]:
    """What each layer makes of each fault, in their order."""
    jobs = os.cpu_count() or 1
    copies: SimpleQueue[Path] = SimpleQueue()

    def try_out(fault: Fault) -> dict[str, str]:
        copy = copies.get()
        try:
            layers = list(LAYERS) if everything or not fault.layer else [fault.layer]
            return outcomes_of(fault, copy, layers)
        finally:
            copies.put(copy)

    with ExitStack() as stack:
        for _ in range(jobs):
            copies.put(copied(stack.enter_context(TemporaryDirectory())))
        executor = stack.enter_context(ThreadPoolExecutor(jobs))
        yield from zip(faults, executor.map(try_out, faults), strict=True)


def printed_row(fault: Fault, outcomes: dict[str, str]) -> str:
    """A row of the matrix, with the test that saw the fault where it had to be seen."""
    cells = ""
    for layer in LAYERS:
        mark = "" if layer not in outcomes else "●" if outcomes[layer] else "·"
        cells += f"{f'[{mark}]' if layer == fault.layer else mark:^{len(layer) + 2}}"
    return f"{fault.name:<{WIDTH}}{cells}  {outcomes.get(fault.layer, '')}".rstrip()


WIDTH = max(len(fault.name) for fault in [SOUND, BROKEN, *FAULTS]) + 1


def main() -> int:
    """Print the matrix; 1 if a fault escapes the layer that must catch it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="each fault meets all layers")
    parser.add_argument("words", nargs="*", help="only faults whose names have one of these in it")
    arguments = parser.parse_args()
    words = arguments.words or [""]
    faults = [fault for fault in FAULTS if any(word in fault.name for word in words)]
    print(" " * WIDTH + "".join(f"{layer:^{len(layer) + 2}}" for layer in LAYERS))
    matrix = {}
    for fault, outcomes in tried([SOUND, BROKEN, *faults], arguments.all):
        print(printed_row(fault, outcomes), flush=True)
        if fault.layer:
            matrix[fault] = outcomes
        elif any(bool(test) != (fault is BROKEN) for test in outcomes.values()):
            print("This is not as it should be, and says that all else means nothing.")
            return 1
    escaped = [fault for fault, outcomes in matrix.items() if not outcomes[fault.layer]]
    print()
    for layer in LAYERS:
        met = [outcomes[layer] for outcomes in matrix.values() if layer in outcomes]
        own = sum(fault.layer == layer for fault in matrix)
        print(f"{layer:<12}met {len(met)}, caught {len(met) - met.count('')}, had to catch {own}")
    caught = len(matrix) - len(escaped)
    print(f"\n{caught} of {len(matrix)} caught by the layer that must catch them")
    for fault in escaped:
        print(f"escaped {fault.layer}: {fault.name}")
    return int(bool(escaped))


if __name__ == "__main__":
    sys.exit(main())
