"""What `rpcproto conform` writes: JSON, JUnit, a page, journals; and its list of known failures."""

import json
import re
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import TypeAlias
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from paths import DOCS, EXAMPLES, TESTS

from rpcproto import cli
from rpcproto.conformance.reports import BaselineError, read_baseline, xml_text

PEER = f"{sys.executable} {EXAMPLES / 'testees/peer.py'}"
ALL_WRONG = f"{sys.executable} {TESTS / 'support/testee.py'} wrong"
SCHEMA = json.loads((DOCS / "conformance.schema.json").read_text("utf-8"))

Conform: TypeAlias = Callable[..., int]


@pytest.fixture
def conform(monkeypatch: pytest.MonkeyPatch) -> Conform:
    """The command with some cases, in this process; returns the exit code."""

    def run(*arguments: str) -> int:
        chosen = ("--only", "RPC-2.1", "--only", "RPC-1.1", "--client-protocol", "0")
        monkeypatch.setattr(sys, "argv", ["rpcproto", "conform", *chosen, *arguments])
        return int(cli.main() or 0)

    return run


@pytest.mark.parametrize(("testee", "code"), [(PEER, 0), (ALL_WRONG, 1)])
def test_the_json_report_is_as_its_published_schema_says(
    testee: str, code: int, conform: Conform, tmp_path: Path
) -> None:
    path = tmp_path / "report.json"
    assert conform("--exec", testee, "--json", str(path)) == code
    report = json.loads(path.read_text("utf-8"))
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    assert report["exit_code"] == code
    assert [result["id"] for result in report["results"]] == ["RPC-1.1", "RPC-2.1"]
    assert any(result["counts"] for result in report["results"]) is bool(code)


def test_junit_has_a_suite_for_each_section_and_counts_its_failures(
    conform: Conform, tmp_path: Path
) -> None:
    path = tmp_path / "report.xml"
    assert conform("--exec", ALL_WRONG, "--junit", str(path)) == 1
    suites = ET.parse(path).getroot()
    assert [suite.get("name", "")[:1] for suite in suites] == ["1", "2"]
    for suite in suites:
        assert len(suite.findall("testcase")) == int(suite.get("tests", "0"))
        failures = suite.findall("testcase/failure")
        assert len(failures) == int(suite.get("failures", "0"))
        assert all("expected: " in (failure.text or "") for failure in failures)
    assert sum(int(suite.get("failures", "0")) for suite in suites) > 0


def test_xml_has_no_characters_that_it_cannot_have() -> None:
    assert xml_text("a\x00\x1b\ud800\ufffe\n") == "a\ufffd\ufffd?\ufffd\n"


class Balanced(HTMLParser):
    """Tags that are open."""

    def __init__(self) -> None:
        super().__init__()
        self.details: list[dict[str, str | None]] = []
        self.loads: list[str] = []
        self.svgs = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.svgs += tag == "svg"
        if tag == "details":
            self.details.append(dict(attrs))
        self.loads += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_stands_alone_and_has_a_picture_of_each_case(
    conform: Conform, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    assert conform("--exec", ALL_WRONG, "--html", str(path), "--title", "<b>mine</b>") == 1
    page = path.read_text("utf-8")
    assert "&lt;b&gt;mine&lt;/b&gt;" in page
    assert "<b>mine" not in page
    assert "prefers-color-scheme: dark" in page
    read = Balanced()
    read.feed(page)
    assert read.loads == []
    assert [case["id"] for case in read.details] == ["RPC-1.1", "RPC-2.1"]
    assert any(case["data-verdicts"] == "fail" and "open" in case for case in read.details)
    assert read.svgs == 2


def test_what_passed_in_a_failed_case_can_be_traced(
    conform: Conform,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert conform("--exec", ALL_WRONG, "--journal", str(tmp_path)) == 1
    journals = sorted(path.name for path in tmp_path.iterdir())
    assert journals
    assert all(re.fullmatch(r"RPC-\d+\.\d+-client-protocol-0\.jsonl", name) for name in journals)
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["rpcproto", "trace", str(tmp_path / journals[0])])
    assert cli.main() == 0
    assert "testee" in capsys.readouterr().out


def test_known_failures_do_not_count_and_one_that_passes_does(
    conform: Conform, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline = tmp_path / "known.txt"
    baseline.write_text("# known\n\nRPC-1.1 not yet\nRPC-2.1 not yet\n")
    failing = conform("--exec", ALL_WRONG)
    assert failing == 1
    capsys.readouterr()
    assert conform("--exec", PEER, "--baseline", str(baseline)) == 1
    assert "RPC-1.1 is listed and passes; remove it" in capsys.readouterr().out
    baseline.write_text("")
    assert conform("--exec", ALL_WRONG, "--baseline", str(baseline)) == 1
    out = capsys.readouterr().out
    new = re.findall(r"^(RPC-\S+) fails and is not listed$", out, re.MULTILINE)
    assert new
    baseline.write_text("".join(f"{case} it is wrong\n" for case in new))
    assert conform("--exec", ALL_WRONG, "--baseline", str(baseline)) == 0
    assert "all is as the list of known failures has it" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("RPC-1.1", "line 1: RPC-1.1 has no reason after it"),
        ("RPC-1.1 a\nRPC-1.1 b", "line 2: RPC-1.1 stands there twice"),
    ],
)
def test_a_list_of_known_failures_has_a_reason_for_each(text: str, told: str) -> None:
    with pytest.raises(BaselineError, match=told):
        read_baseline(text)


@pytest.mark.parametrize("option", ["--json", "--junit", "--html", "--baseline"])
def test_a_file_that_cannot_be_used_is_a_line_and_exit_code_2(
    option: str, conform: Conform, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "nowhere" / "file"
    assert conform("--exec", PEER, option, str(path)) == 2
    err = capsys.readouterr().err
    assert re.fullmatch(rf"rpcproto: cannot \w+ {re.escape(str(path))}: .*\n", err)
