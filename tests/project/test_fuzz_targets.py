"""The fuzz targets without a fuzzer: over their corpora and inputs near them, and what of the core
these corpora reach. `make fuzz` goes on from here."""

import ast
import importlib
import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from paths import ROOT

from fuzz import TARGETS

CORE = ROOT / "rpcproto" / "core"
MUTATIONS = {"wire": 6_000, "program": 400, "streams": 300, "sealing": 400, "differential": 2_000}

each_target = pytest.mark.parametrize("target", TARGETS)


def corpus(target: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((ROOT / "fuzz" / "corpus" / target).iterdir())]


def target_of(name: str) -> Callable[[bytes], None]:
    run: Callable[[bytes], None] = importlib.import_module(f"fuzz.{name}").test_one_input
    return run


def mutation(random: Random, inputs: list[bytes]) -> bytes:
    """One of the inputs with a little changed, or the beginning of one and the end of another."""
    data = bytearray(random.choice(inputs))
    for _ in range(random.choice((1, 1, 2, 4))):
        at = random.randrange(len(data) + 1)
        match random.randrange(5):
            case 0:
                data[at : at + 1] = random.randbytes(1)
            case 1:
                del data[at : at + random.choice((1, 2, 8))]
            case 2:
                data[at:at] = random.randbytes(random.choice((1, 2, 8)))
            case 3:
                data[at:at] = data[:at][-8:]
            case _:
                data[at:] = random.choice(inputs)[at:]
    return bytes(data)


@each_target
def test_a_target_holds_for_its_corpus_and_for_inputs_near_it(target: str) -> None:
    run, inputs, random = target_of(target), corpus(target), Random(20_26)
    mutations = (mutation(random, inputs) for _ in range(MUTATIONS[target]))
    for data in itertools.chain(inputs, mutations):
        try:
            run(data)
        except Exception as error:
            error.add_note(f"{target}, given bytes.fromhex({data.hex()!r})")
            raise


# --- what a corpus reaches

REACH = """
import importlib, json, sys
from pathlib import Path
import coverage
target, directory, *files = sys.argv[1:]
loading, measured = (
    coverage.Coverage(data_file=None, config_file=False, include=files) for _ in range(2)
)
loading.start()
run = importlib.import_module(f"fuzz.{target}").test_one_input
loading.stop()
measured.start()
for path in sorted(Path(directory).iterdir()):
    run(path.read_bytes())
measured.stop()
for path in files:
    _, lines, _, missed, _ = measured.analysis2(path)
    at_import = set(lines) - set(loading.analysis2(path)[3])
    unseen = set(missed) & at_import
    print(json.dumps([sorted(set(lines) - unseen), sorted(set(missed) - unseen)]))
"""
"""Runs a target over its corpus, and prints of each file its lines and those that were not run,
without those that are run when it is imported and never again: no input can reach them.
"""

REACHED = {
    "wire": {"wire": 95},
    "differential": {"wire": 95},
    "streams": {"stream_reader": 95, "inflating": 95, "budget": 95},
    "sealing": {"sealing": 95},
    "program": {"engine": 95, "caller": 95, "recipients": 95, "responder": 95, "outbox": 95},
}
"""Of the lines within functions, the percentage that a target must reach by its corpus alone."""


def lines_within_functions(path: Path) -> set[int]:
    functions = ast.FunctionDef | ast.Lambda
    return {
        line
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, functions)
        for part in (node.body if isinstance(node.body, list) else [node.body])
        for line in range(part.lineno, (part.end_lineno or 0) + 1)
    }


@each_target
def test_a_corpus_reaches_what_its_target_is_for(target: str) -> None:
    paths = [CORE / f"{module}.py" for module in REACHED[target]]
    directory = ROOT / "fuzz" / "corpus" / target
    child = subprocess.run(
        [sys.executable, "-c", REACH, target, str(directory), *map(str, paths)],
        capture_output=True,
        cwd=ROOT,
        env={},
        check=False,
        timeout=60,
    )
    assert child.returncode == 0, child.stderr.decode()
    for path, (lines, missed) in zip(
        paths, map(json.loads, child.stdout.splitlines()), strict=True
    ):
        within = lines_within_functions(path) & set(lines)
        reached = 100 * len(within - set(missed)) / len(within)
        assert reached >= REACHED[target][path.stem], (path.name, sorted(within & set(missed)))
        print(target, path.name, round(reached, 1))
