"""The documents, held against the code: they are complete and up to date."""

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import generated
import host_driver
import pytest
from paths import ROOT

import rpcproto
from rpcproto import ErrorCode, Event, RpcConfig
from rpcproto.core.errors import STANDARD_MESSAGES
from rpcproto.participant import CallArguments, ParticipantBase
from rpcproto.testing.hosts import check
from rpcproto.transports import TransportEvent

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
RULES = (ROOT / "docs" / "rules.md").read_text("utf-8")
HOSTING = (ROOT / "docs" / "hosting.md").read_text("utf-8")
WIRE = (ROOT / "docs" / "wire.md").read_text("utf-8")

REFERENCE = {ROOT / "docs" / path: text for path, text in generated.pages().items()}
"""The pages that only the site has. Making them raises for a public name without a docstring."""

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def prose(page: Path) -> str:
    """A page without its code."""
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What a link to a heading of the page may name."""
    if page.suffix == ".html":
        return set(re.findall(r' id="([^"]+)"', page.read_text("utf-8")))
    text = prose(page) if page.exists() else REFERENCE[page]
    headings = re.findall(r"^#+ +(.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def rows(page: str) -> list[list[str]]:
    """The cells of all table rows of a page."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page.splitlines()
        if line.startswith("|")
    ]


def test_the_states_are_drawn_as_they_are() -> None:
    command = (sys.executable, str(ROOT / "docs" / "draw_states.py"), "--check")
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


def rules_that_are_there() -> list[int]:
    """The numbers of all headings, also of such as stand for several rules."""
    headings = re.findall(r"^### R(\d+)(?: to R(\d+))?$", RULES, re.MULTILINE)
    return [
        number for first, last in headings for number in range(int(first), int(last or first) + 1)
    ]


def test_every_rule_is_there_once() -> None:
    assert sorted(rules_that_are_there()) == list(range(1, 48))


def test_every_law_is_there_once() -> None:
    numbers = [int(cells[0][1:]) for cells in rows(RULES) if re.fullmatch(r"L\d+", cells[0])]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 17


@pytest.mark.parametrize("directory", ["rpcproto", "tests", "docs", "proto"])
def test_no_rule_or_law_is_named_that_is_not_there(directory: str) -> None:
    known = {f"R{number}" for number in rules_that_are_there()} | {
        cells[0] for cells in rows(RULES) if re.fullmatch(r"L\d+", cells[0])
    }
    for path in (ROOT / directory).rglob("*"):
        if path.suffix in (".py", ".md", ".proto"):
            named = set(re.findall(r"\b[RL]\d+\b", path.read_text("utf-8")))
            assert named <= known, path


def test_every_field_of_the_config_is_in_the_table_of_limits() -> None:
    defaults = RpcConfig()
    documented = {
        cells[0].strip("`"): cells[1] for cells in rows(RULES) if re.match(r"`\w+`$", cells[0])
    }
    assert documented == {
        field.name: str(getattr(defaults, field.name)) for field in fields(RpcConfig)
    }


def test_every_code_is_in_the_table_of_codes() -> None:
    documented = [cells[:3] for cells in rows(WIRE) if re.fullmatch(r"\d{4}", cells[0])]
    assert documented == [
        [str(int(code)), f"`{code.name}`", STANDARD_MESSAGES[code]] for code in ErrorCode
    ]


def annotation(of: Any) -> str:
    """A type as the docs write it."""
    name = of.__name__ if isinstance(of, type) and not get_args(of) else str(of)
    return re.sub(r"\b(?:[a-z_]+\.)+", "", name)


def documented_fields(event: type) -> dict[str, str]:
    """The fields of an event in the tables of hosting.md, with their types."""
    [line] = re.findall(rf"^\| `{event.__name__}` \|.*$", HOSTING, re.MULTILINE)
    return dict(re.findall(r"`(\w+): ([^`]+)`", line.replace("\\|", "|")))


@pytest.mark.parametrize("event", [*get_args(Event), *get_args(TransportEvent)])
def test_every_field_of_every_event_is_in_the_page_on_hosting(event: type) -> None:
    types = {name: annotation(of) for name, of in inspect.get_annotations(event).items()}
    assert documented_fields(event) == types


def test_every_method_of_a_host_is_in_the_page_on_hosting_with_its_signature() -> None:
    members = {
        name: member
        for base in reversed(ParticipantBase.mro())
        for name, member in vars(base).items()
    }
    for name, member in members.items():
        if name.startswith("_"):
            continue
        if not inspect.isfunction(member) or name in FOR_PROGRAMS:
            assert f"`{name}`" in HOSTING, name
            continue
        *parameters, returned = inspect.get_annotations(member).items()
        taken = ", ".join(f"{parameter}: {named(of)}" for parameter, of in parameters)
        signature = f"{name}({taken}) -> {named(returned[1])}"
        assert f"`{signature}`" in HOSTING.replace("\\|", "|"), signature


FOR_PROGRAMS = {"register_rpc_method", "unregister_rpc_method", "statistics"}


def named(of: Any) -> str:
    """A type as the docs write it, with the names of unions and of callables."""
    names = {TransportEvent: "TransportEvent"}
    for arguments in ("call", "waiter", "return"):
        alias = inspect.get_annotations(ParticipantBase.begin_call)[arguments]
        names[alias] = {"call": "CallArguments", "waiter": "Waiter", "return": "Cancel"}[arguments]
    if of is None:
        return "None"
    text = names.get(of) or annotation(of)
    return text.replace(annotation(TransportEvent), "TransportEvent")


def test_the_arguments_of_a_call_are_in_the_page_on_hosting() -> None:
    for name, of in inspect.get_annotations(CallArguments).items():
        assert f"`{name}: {annotation(of)}`" in HOSTING, name


def test_the_event_loop_on_the_kits_clock_is_that_of_the_example() -> None:
    example = (ROOT / "examples" / "asyncio_host_driver.py").read_text("utf-8")
    [loop] = re.findall(r"^class KitLoop.*?(?=\n\n\nclock = )", HOSTING, re.MULTILINE | re.DOTALL)
    assert "class _Selector" in loop
    assert loop in example


def test_the_summary_of_the_host_kit_is_what_it_prints() -> None:
    """How many packets it takes depends on how well zlib compresses."""
    printed, page = (
        re.sub(r"\d+ packets", "N packets", text)
        for text in (str(check(host_driver.Driver)), HOSTING)
    )
    assert f"```text\n{printed}\n```" in page


def test_a_signature_does_not_print_the_whole_config() -> None:
    assert len(str(inspect.signature(ParticipantBase))) < 500
    assert repr(RpcConfig()) == "RpcConfig()"
    config = RpcConfig(ack_timeout=3.0, max_participants=2)
    assert repr(config) == "RpcConfig(ack_timeout=3.0, max_participants=2)"


@each_page
def test_local_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.is_relative_to(ROOT), link
        assert target.exists() or target in REFERENCE, link
        assert not anchor or anchor in anchors(target), link


@each_page
def test_fences_are_closed(page: Path) -> None:
    assert page.read_text("utf-8").count("\n```") % 2 == 0


@each_page
def test_a_test_that_is_named_exists(page: Path) -> None:
    written = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py"))
    there = set(re.findall(r"def (test_\w+)\(", written))
    assert set(re.findall(r"`(test_\w+)`", page.read_text("utf-8"))) <= there


def test_every_public_module_is_in_the_reference_with_all_its_names() -> None:
    names = ["rpcproto", *(m.name for m in pkgutil.walk_packages(rpcproto.__path__, "rpcproto."))]
    public = {
        name: module.__all__
        for name in names
        if "__main__" not in name and hasattr(module := importlib.import_module(name), "__all__")
    }
    assert set(public) == set(generated.MODULES)
    for name, exported in public.items():
        page = REFERENCE[ROOT / "docs" / "reference" / f"{name}.md"]
        shown = {*re.findall(r"^::: [\w.]+\.(\w+)$", page, re.MULTILINE)}
        shown |= {*re.findall(r"^\* \[`(\w+)`\]", page, re.MULTILINE)}
        assert shown == set(exported) - {"__version__"}, name


def test_a_public_name_without_a_docstring_is_not_documented(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tree = ast.parse('"""A module."""\n__all__ = ["f"]\ndef f(): ...')
    monkeypatch.setattr(generated, "MODULES", ("rpcproto.new",))
    monkeypatch.setattr(generated, "tree_of", {"rpcproto.new": tree}.__getitem__)
    generated.public_names.cache_clear()
    generated.find.cache_clear()
    with pytest.raises(generated.UndocumentedError, match=r"rpcproto\.new\.f"):
        generated.pages()
    generated.public_names.cache_clear()
    generated.find.cache_clear()


@pytest.mark.parametrize("module", generated.MODULES)
def test_an_example_in_a_docstring_is_indented_as_code(module: str) -> None:
    homes = {module, *(name.home for name in generated.names_of(module))}
    for node in (node for home in homes for node in ast.walk(generated.tree_of(home))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for paragraph in (ast.get_docstring(node) or "").split("\n\n"):
                assert not is_code(paragraph), paragraph


def is_code(text: str) -> bool:
    """Whether a text that is not indented consists of Python statements."""
    try:
        statements = ast.parse(text).body
    except SyntaxError:
        return False
    return any(
        isinstance(node, ast.Import | ast.ImportFrom | ast.Assign | ast.With | ast.AsyncWith)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call | ast.Await))
        for node in statements
    )


@pytest.mark.parametrize("module", generated.MODULES)
def test_a_module_names_the_extra_without_which_it_cannot_be_imported(module: str) -> None:
    needed = {
        ast.literal_eval(item.context_expr.args[0])
        for node in generated.tree_of(module).body
        if isinstance(node, ast.With)
        for item in node.items
        if isinstance(item.context_expr, ast.Call)
        and ast.unparse(item.context_expr.func) == "extra"
    }
    text = " ".join((ast.get_docstring(generated.tree_of(module)) or "").split())
    assert all(f"Needs the extra `{name}`" in text for name in needed), needed


def test_every_page_is_on_the_site_and_every_page_of_the_site_is_there() -> None:
    listed = set(
        re.findall(r"([\w./-]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    )
    there = {page.name for page in (ROOT / "docs").glob("*.md")}
    there |= {path.relative_to(ROOT / "docs").as_posix() for path in REFERENCE}
    assert listed == there | {"changelog.md", "contributing.md", "security.md"}
