"""Draw the state machines of `rpcproto/core/states.py` into `docs/states.md`.

Run it after a change to the tables. With `--check` nothing is written, and the exit status says
whether the page is up to date.
"""

import argparse
import ast
import inspect
import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Final, TypeAlias

from rpcproto.core import states

Table: TypeAlias = Mapping[Enum, Mapping[Enum, Enum]]

PAGE: Final = Path(__file__).resolve().parent / "states.md"
BEGIN: Final = "<!-- drawn by docs/draw_states.py: begin -->\n"
END: Final = "<!-- drawn by docs/draw_states.py: end -->\n"


def tables() -> Iterator[Table]:
    """The tables of the module, in the order in which it defines them."""
    for name, value in vars(states).items():
        if name.endswith("_TABLE"):
            yield value


def texts_below(definition: ast.stmt) -> dict[str, str]:
    """The docstring below each member of an enum, which Python itself does not keep."""
    assert isinstance(definition, ast.ClassDef)
    texts = {}
    for before, after in zip(definition.body, definition.body[1:], strict=False):
        match before, after:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=text)):
                texts[name] = " ".join(str(text).split())
    return texts


def drawing(table: Table) -> str:
    """One machine: what it is, its diagram, its table, and what the names mean."""
    state_type: Any = type(next(iter(table)))
    input_type: Any = type(next(what for row in table.values() for what in row))
    title = state_type.__name__.removesuffix("State")
    lines = [f"## {title}", "", inspect.getdoc(state_type) or "", "", "```mermaid"]
    lines += [*diagram(table), "```", "", *grid(table, list(input_type)), ""]
    lines += meanings("state", state_type)
    lines += meanings("input", input_type)
    return "\n".join(lines)


def diagram(table: Table) -> Iterator[str]:
    """The machine for mermaid: one arrow for all inputs that lead the same way."""
    yield "stateDiagram-v2"
    yield f"    [*] --> {next(iter(table)).name}"
    for state, row in table.items():
        arrows: dict[Enum, list[str]] = {}
        for what, target in row.items():
            arrows.setdefault(target, []).append(what.name)
        for target, names in arrows.items():
            yield f"    {state.name} --> {target.name}: {', '.join(names)}"
        if not row:
            yield f"    {state.name} --> [*]"


def grid(table: Table, inputs: list[Enum]) -> Iterator[str]:
    """The table itself; a dot stands for no entry."""
    yield f"| | {' | '.join(what.name for what in inputs)} |"
    yield "|---" * (len(inputs) + 1) + "|"
    for state, row in table.items():
        cells = (row[what].name if what in row else "·" for what in inputs)
        yield f"| **{state.name}** | {' | '.join(cells)} |"


def meanings(kind: str, enum: type[Enum]) -> list[str]:
    """What the members of `enum` mean, as far as the source says more than their names."""
    [definition] = ast.parse(inspect.getsource(enum)).body
    texts = texts_below(definition)
    rows = [f"| {member.name} | {texts[member.name]} |" for member in enum if member.name in texts]
    return [f"| {kind} | |", "|---|---|", *rows, ""] if rows else []


def drawn(page: str) -> str:
    """The page with its marked block renewed."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{PAGE} has lost its markers")
    return before + begin + "\n" + "\n".join(map(drawing, tables())) + "\n" + end + after


def main() -> int:
    """Rewrite the page, or compare it."""
    parser = argparse.ArgumentParser(description="Draw the state machines into docs/states.md.")
    parser.add_argument("--check", action="store_true", help="write nothing, only compare")
    check: bool = parser.parse_args().check
    page = PAGE.read_text(encoding="utf-8")
    if not check:
        PAGE.write_text(drawn(page), encoding="utf-8")
    elif page != drawn(page):
        print(f"{PAGE} is not what docs/draw_states.py draws", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
