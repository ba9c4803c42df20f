"""The documents, held against the code: they are complete and up to date."""

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from rpcproto import ErrorCode, RpcConfig
from rpcproto.core.errors import STANDARD_MESSAGES

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
RULES = (ROOT / "docs" / "rules.md").read_text("utf-8")
WIRE = (ROOT / "docs" / "wire.md").read_text("utf-8")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def prose(page: Path) -> str:
    """A page without its code."""
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What a link to a heading of the page may name."""
    headings = re.findall(r"^#+ +(.*)$", prose(page), re.MULTILINE)
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


@each_page
def test_local_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@each_page
def test_fences_are_closed(page: Path) -> None:
    assert page.read_text("utf-8").count("\n```") % 2 == 0


@each_page
def test_a_test_that_is_named_exists(page: Path) -> None:
    written = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py"))
    there = set(re.findall(r"def (test_\w+)\(", written))
    assert set(re.findall(r"`(test_\w+)`", page.read_text("utf-8"))) <= there
