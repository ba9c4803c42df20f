"""The faults put in by hand, and the list of mutants that survive, fit the core as it is now.

`make mutants` shows who sees the faults, `make mutation` finds the survivors.
"""

import ast
import tomllib
from pathlib import Path

import pytest
from faults import FAULTS, LAYERS, Fault
from host_faults import HOST_FAULTS, HOST_LAYERS
from mutants import faulty_source
from paths import ROOT, module_of_tests

CORE = Path("rpcproto", "core")

DATA_ONLY = {"__init__", "config", "errors", "events", "messages", "packets_pb2", "states"}
"""Modules of the core without behaviour of their own to speak of."""


@pytest.mark.parametrize("fault", [*FAULTS, *HOST_FAULTS], ids=lambda fault: fault.name)
def test_a_fault_changes_one_place_and_can_be_imported(fault: Fault) -> None:
    sound = (ROOT / fault.path).read_text("utf-8")
    assert sound.count(fault.original) == 1
    faulty = faulty_source(fault, sound)
    assert ast.dump(ast.parse(faulty)) != ast.dump(ast.parse(sound))
    compile(faulty, fault.module, "exec")


def test_there_are_faults_for_every_kind_of_test_and_in_every_module() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 80
    for layer, files in LAYERS.items():
        assert sum(fault.layer == layer for fault in FAULTS) >= 4, layer
        assert all(map(module_of_tests, files))
    modules = {path.stem for path in (ROOT / CORE).glob("*.py")}
    assert {fault.module for fault in FAULTS if fault.folder == "core"} == modules - DATA_ONLY


def test_there_are_faults_for_every_kind_of_test_of_hosts_and_in_every_module_of_theirs() -> None:
    assert len({fault.name for fault in HOST_FAULTS}) == len(HOST_FAULTS) >= 80
    for layer, files in HOST_LAYERS.items():
        assert sum(fault.layer == layer for fault in HOST_FAULTS) >= 4, layer
        assert all(map(module_of_tests, files))
    assert {str(fault.path.relative_to("rpcproto").with_suffix("")) for fault in HOST_FAULTS} == {
        *("asyncio", "trio", "participant/base", "participant/handlers", "participant/waiting"),
        *("participant/answering", "participant/calling", "participant/draining"),
        *("participant/async_base", "participant/interceptors", "participant/totals"),
        *("transports/memory", "transports/batches", "transports/links", "transports/framing"),
        *("transports/stream", "transports/turns"),
        *("transports/pipes", "transports/websocket", "transports/presence", "transports/inbox"),
        *("transports/nats/client", "transports/nats/traffic", "livekit/signalling"),
    }


def test_every_survivor_has_a_reason_and_stands_in_place_of_lines_that_are_there() -> None:
    listed = (ROOT / "tests" / "proof" / "mutation_survivors.toml").read_text("utf-8")
    groups = tomllib.loads(listed)["survivors"]
    names = [name for group in groups for name in group["mutants"]]
    assert len(set(names)) == len(names)
    assert all(group["reason"] for group in groups)
    for name in names:
        where, _, change = name.partition(": ")
        code = (ROOT / CORE / f"{where.partition('.')[0]}.py").read_text("utf-8")
        before = " ".join(change.partition(" => ")[0].split())
        assert before in " ".join(code.split())
