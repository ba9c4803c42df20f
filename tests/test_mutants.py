"""The faults put in by hand are what they are said to be. `make mutants` shows who sees them."""

import ast

import pytest
from faults import FAULTS, LAYERS, Fault
from mutants import CORE, ROOT, faulty_source

DATA_ONLY = {"__init__", "config", "errors", "events", "messages", "packets_pb2", "states"}
"""Modules of the core without behaviour of their own to speak of."""


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_changes_one_place_and_can_be_imported(fault: Fault) -> None:
    sound = (ROOT / CORE / f"{fault.module}.py").read_text("utf-8")
    assert sound.count(fault.original) == 1
    faulty = faulty_source(fault, sound)
    assert ast.dump(ast.parse(faulty)) != ast.dump(ast.parse(sound))
    compile(faulty, fault.module, "exec")


def test_there_are_faults_for_every_kind_of_test_and_in_every_module() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 40
    for layer, files in LAYERS.items():
        assert sum(fault.layer == layer for fault in FAULTS) >= 4, layer
        assert all((ROOT / "tests" / f"test_{name}.py").exists() for name in files)
    modules = {path.stem for path in (ROOT / CORE).glob("*.py")}
    assert {fault.module for fault in FAULTS} == modules - DATA_ONLY
