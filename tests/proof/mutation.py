"""Every small fault that mutmut can think of, in all of the core: do the tests see it?

`make mutation` tries all of them, and goes on where it was interrupted. `make mutation SAMPLE=200`
takes so many at random and tells its seed, for `SEED=...` to do it again; `MODULES="caller wire"`
takes those of some modules.
"""

import argparse
import ast
import hashlib
import json
import random
import re
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from faulty_core import CORE, Outcome, Trial, run_anew, run_in_place
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.file_mutation import create_mutations
from paths import ROOT, TESTS, module_of_tests

LEAST_SCORE = 95.0
GENERATED = "packets_pb2"
RESULTS = ROOT / "build" / "mutation.jsonl"
SURVIVORS = Path(__file__).with_name("mutation_survivors.toml")

OWN_TESTS = {
    "budget": "rules_budget",
    "caller": "rules_caller",
    "deadlines": "deadlines",
    "inflating": "rules_inflating",
    "messages": "wire",
    "outbox": "rules_streams_out",
    "recipients": "rules_grace",
    "responder": "rules_responder",
    "sealing": "rules_sealed",
    "states": "state_table",
    "stream_reader": "rules_streams_in",
    "stream_writer": "rules_streams_out",
    "wire": "wire",
}
"""What a mutant of a module meets first; those of the other modules meet `rules_everything`."""
FURTHER_TESTS = (
    "rules_everything",
    "rules_grace",
    "rules_budget",
    "rules_inflating",
    "rules_roster",
    "rules_caller",
    "rules_responder",
    "local_misuse",
    "corner_cases",
    "deadlines",
    "state_table",
    "wire",
    "peers",
    "rules_streams_in",
    "rules_sealed",
    "rules_streams_out",
    "official_packets",
    "official_streams",
    "hostile_bytes",
)
"""What it meets then, as long as it survives. The laws stay out: with their many random lives they
would take most of the time, and whatever only they see deserves a test of its rule."""

LOADED_ANEW = {
    *("events._event", "wire.Made.__init__", "wire._reader"),
    *("wire._layout", "wire._sealed_layout", "wire._sole_head"),
    "engine.RpcEngine.hand_over_unknown_methods",
}
"""Functions into which no fault can be put once they are loaded: what most of them make is there
before, and the last is two of one name."""


FOR_TYPE_CHECKERS = ": TypeAlias = "
"""What such a line names, nothing runs on."""


class Mutant(NamedTuple):
    """A module with one fault. `name` says where and what, and stays when other lines change.

    `function` is the one whose body has the fault, empty where it is in none.
    """

    name: str
    module: str
    source: str
    function: str


def mutants_of(path: Path) -> Iterator[Mutant]:
    """All mutants of one module."""
    code = path.read_text()
    # mutmut leaves out what is decorated, for a reason that is not ours: hide it.
    hidden = re.sub(r"(?m)^( *)@", r"\1#", code)
    module, mutations, _, _ = create_mutations(path.name, hidden)
    positions = MetadataWrapper(module, unsafe_skip_copy=True).resolve(PositionProvider)
    lines, scopes = code.splitlines(keepends=True), _scopes(code)
    bodies = _bodies(code)
    seen: Counter[str] = Counter()
    for mutation in mutations:
        where = positions[mutation.original_node]
        if FOR_TYPE_CHECKERS in lines[where.start.line - 1]:
            continue
        start, end = where.start, where.end
        before = "".join(lines[start.line - 1 : end.line])
        rest = lines[end.line - 1][end.column :]
        fault = module.code_for_node(mutation.mutated_node)
        after = lines[start.line - 1][: start.column] + fault + rest
        source = "".join([*lines[: start.line - 1], after, *lines[end.line :]])
        name = f"{path.stem}{scopes[start.line]}: {_difference(before, after)}"
        seen[name] += 1
        if seen[name] > 1:
            name += f" #{seen[name]}"
        function = bodies[start.line]
        if f"{path.stem}.{function}" in LOADED_ANEW:
            function = ""
        yield Mutant(name, path.stem, source, function)


def _scopes(code: str) -> list[str]:
    """For each line, from 1 on, the class and function that it is in."""
    scopes = [""] * (code.count("\n") + 2)

    def fill(node: ast.AST, name: str) -> None:
        for child in ast.iter_child_nodes(node):
            inner = name
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                inner = f"{name}.{child.name}"
                last = child.end_lineno or child.lineno
                scopes[child.lineno : last + 1] = [inner] * (last + 1 - child.lineno)
            fill(child, inner)

    fill(ast.parse(code), "")
    return scopes


def _bodies(code: str) -> list[str]:
    """For each line, from 1 on, the outermost function in whose body it is."""
    bodies = [""] * (code.count("\n") + 2)

    def fill(nodes: list[ast.stmt], prefix: str) -> None:
        for node in nodes:
            if isinstance(node, ast.ClassDef):
                fill(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.FunctionDef):
                first, last = node.body[0].lineno, node.end_lineno or node.lineno
                bodies[first : last + 1] = [f"{prefix}{node.name}"] * (last + 1 - first)

    fill(ast.parse(code).body, "")
    return bodies


def _difference(before: str, after: str) -> str:
    """The lines that differ, without what they have in common at both ends."""
    old, new = ([line.strip() for line in text.splitlines()] for text in (before, after))
    while old and new and old[0] == new[0]:
        del old[0], new[0]
    while old and new and old[-1] == new[-1]:
        del old[-1], new[-1]
    return f"{' '.join(old)} => {' '.join(new)}"


def trial_of(mutant: Mutant) -> Trial:
    """A mutant with the tests that it meets, those of its own module first."""
    own = OWN_TESTS.get(mutant.module, "rules_everything")
    names = [own, *(name for name in FURTHER_TESTS if name != own)]
    files = [module_of_tests(name) for name in names]
    return Trial(mutant.module, mutant.source, files, mutant.function)


def digest() -> str:
    """Changes with the core and with the tests: what was found out of others is void."""
    paths = sorted([*CORE.glob("*.py"), *TESTS.rglob("*.py")])
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:16]


def known_outcomes(current: str, keep_killed: bool) -> dict[str, Outcome]:
    """What an interrupted run has found out already."""
    known = {}
    if RESULTS.exists():
        for line in RESULTS.read_text().splitlines():
            name, outcome, state = json.loads(line)
            if state == current or (keep_killed and outcome == Outcome.KILLED.value):
                known[name] = Outcome(outcome)
            else:
                known.pop(name, None)
    return known


def listed_survivors() -> dict[str, bool]:
    """The survivors that are known and stay, and whether they are the same program as the core."""
    groups = tomllib.loads(SURVIVORS.read_text())["survivors"]
    return {name: group["equivalent"] for group in groups for name in group["mutants"]}


def try_out(mutants: list[Mutant], known: dict[str, Outcome], state: str) -> dict[str, Outcome]:
    """The outcome of each mutant; those that are not known yet are found out and written down."""
    outcomes = {mutant.name: known[mutant.name] for mutant in mutants if mutant.name in known}
    untried = [mutant for mutant in mutants if mutant.name not in known]
    RESULTS.parent.mkdir(exist_ok=True)
    began = time.monotonic()

    def note(mutant: Mutant, outcome: Outcome) -> None:
        outcomes[mutant.name] = outcome
        with RESULTS.open("a") as results:
            print(json.dumps([mutant.name, outcome.value, state]), file=results)
        if len(outcomes) % 100 == 0:
            minutes = (time.monotonic() - began) / 60
            print(f"{len(outcomes)} of {len(mutants)}, {minutes:.1f} minutes", flush=True)

    anew = [mutant for mutant in untried if not mutant.function]
    for number, outcome in run_anew([trial_of(mutant) for mutant in anew]):
        note(anew[number], outcome)
    in_place = [mutant for mutant in untried if mutant.function]
    run_in_place(
        [trial_of(mutant) for mutant in in_place],
        lambda number, outcome: note(in_place[number], outcome),
    )
    return outcomes


def report(mutants: list[Mutant], outcomes: dict[str, Outcome]) -> float:
    """Print what came of each module's mutants; returns the score in percent.

    Survivors that are the same program are no faults: they are counted, and left out of the score.
    """
    same = {name for name, is_equivalent in listed_survivors().items() if is_equivalent}
    print(f"\n{'module':<16}{'mutants':>8}{'killed':>8}{'timeout':>8}{'survived':>9}{'score':>8}")
    counts: dict[str, Counter[Outcome]] = {}
    equivalent = 0
    for mutant in mutants:
        outcome = outcomes[mutant.name]
        if outcome is Outcome.SURVIVED and mutant.name in same:
            equivalent += 1
        else:
            counts.setdefault(mutant.module, Counter())[outcome] += 1
    score = 100.0
    for module, count in [*sorted(counts.items()), ("all", sum(counts.values(), Counter()))]:
        total, survived = count.total(), count[Outcome.SURVIVED]
        score = 100 * (total - survived) / total
        killed, timeout = count[Outcome.KILLED], count[Outcome.TIMEOUT]
        print(f"{module:<16}{total:>8}{killed:>8}{timeout:>8}{survived:>9}{score:>7.1f}%")
    seen = 100 * (len(mutants) - survived - equivalent) / len(mutants)
    print(f"{equivalent} more are the same program as the core; with them it were {seen:.1f}%")
    return score


def complaints(outcomes: dict[str, Outcome], score: float, all_tried: bool) -> list[str]:
    """Why this is not good enough: too low a score, or another list of survivors than ours."""
    listed = listed_survivors()
    survivors = {name for name, outcome in outcomes.items() if outcome is Outcome.SURVIVED}
    found = [f"survived without a reason: {name}" for name in sorted(survivors - listed.keys())]
    if all_tried:
        gone = sorted(listed.keys() - survivors)
        found += [f"listed among the survivors, and is none: {name}" for name in gone]
    if score < LEAST_SCORE:
        found.append(f"{score:.1f}% is less than {LEAST_SCORE}%")
    return found


def main() -> int:
    """Run what was asked for; 1 if that is not good enough."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sample", type=int, help="so many at random; else all")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--modules", nargs="*", default=[], help="of these alone")
    parser.add_argument("--keep-killed", action="store_true", help="even if core or tests changed")
    arguments = parser.parse_args()
    modules = sorted(path.stem for path in CORE.glob("*.py") if path.stem != GENERATED)
    mutants = [
        mutant
        for module in arguments.modules or modules
        for mutant in mutants_of(CORE / f"{module}.py")
    ]
    if arguments.sample:
        print(f"{arguments.sample} of {len(mutants)} mutants, seed {arguments.seed}", flush=True)
        mutants = random.Random(arguments.seed).sample(mutants, arguments.sample)
    sound = Mutant("", "states", (CORE / "states.py").read_text(), "")
    assert [outcome for _, outcome in run_anew([trial_of(sound)])] == [Outcome.SURVIVED]
    state = digest()
    outcomes = try_out(mutants, known_outcomes(state, arguments.keep_killed), state)
    score = report(mutants, outcomes)
    found = complaints(outcomes, score, not (arguments.sample or arguments.modules))
    print("\n" + "\n".join(found or ["every survivor has its reason"]))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
