"""Reports of a run for other programs: JSON, JUnit, journals; and the list of known failures."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from rpcproto.conformance.case import SECTIONS
from rpcproto.conformance.results import Result, Run, Verdict
from rpcproto.ids import random_ids
from rpcproto.recording import Journal

SCHEMA: Final = 1
"""The version of the JSON report; docs/conformance.schema.json describes it."""


class BaselineError(ValueError):
    """A list of known failures that cannot be read."""


def as_json(run: Run, *, strict: bool, version: str, command: str) -> str:
    """The report that docs/conformance.schema.json describes. `version` is that of the suite, and
    `command` says how the testee was reached."""
    facts = run.facts
    report = {
        "schema": SCHEMA,
        "suite": f"rpcproto {version}",
        "command": command,
        "testee": {
            "identity": facts.identity,
            "client_protocol": facts.client_protocol,
            "capabilities": list(facts.capabilities),
            "virtual_time": facts.has_virtual_time,
        },
        "strict": strict,
        "stopped": run.stopped,
        "exit_code": run.exit_code(strict=strict),
        "results": [_fields(result, strict) for result in run.results],
    }
    return json.dumps(report, indent=1, ensure_ascii=False) + "\n"


def _fields(result: Result, strict: bool) -> dict[str, object]:
    case = result.case
    return {
        "id": case.case_id,
        "client_protocol": result.client_protocol,
        "section": SECTIONS[case.section],
        "level": case.level.value,
        "rules": case.rule.split(),
        "title": case.title,
        "sees": case.sees,
        "why": case.why,
        "verdict": result.verdict.value,
        "counts": result.counts(strict),
        "expected": result.expected,
        "seen": result.seen,
        "seconds": round(result.seconds, 3),
        "errors": result.errors,
    }


def as_junit(run: Run, *, strict: bool) -> str:
    """The report as most CI systems read it: a suite for each section."""
    root = ET.Element("testsuites", name="rpcproto conform")
    for section, title in SECTIONS.items():
        results = [result for result in run.results if result.case.section == section]
        if not results:
            continue
        counted = [result for result in results if result.counts(strict)]
        skipped = [r for r in results if r.verdict is Verdict.UNSUPPORTED]
        suite = ET.SubElement(
            root,
            "testsuite",
            name=f"{section} {title}",
            tests=str(len(results)),
            failures=str(len(counted)),
            skipped=str(len(skipped)),
        )
        for result in results:
            _add_junit(suite, result, strict)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _add_junit(suite: ET.Element, result: Result, strict: bool) -> None:
    case = result.case
    element = ET.SubElement(
        suite,
        "testcase",
        classname=case.case_id,
        name=f"{case.title} (client_protocol {result.client_protocol})",
        time=f"{result.seconds:.3f}",
    )
    if result.counts(strict):
        text = f"expected: {result.expected or case.sees}\nseen: {result.seen}\nwhy: {case.why}"
        message = xml_text(f"{case.level.name}, {case.rule}: {case.sees}")
        failure = ET.SubElement(element, "failure", message=message)
        failure.text = xml_text(f"{text}\n{result.trace().text()}")
    elif result.verdict is Verdict.UNSUPPORTED:
        ET.SubElement(element, "skipped", message=xml_text(result.seen))
    if result.errors:
        ET.SubElement(element, "system-err").text = xml_text(result.errors)


def xml_text(text: str) -> str:
    """The text without characters that XML cannot have."""
    return "".join(
        one if one in "\t\n" or (one >= " " and one not in "\ufffe\uffff") else "\ufffd"
        for one in text.encode(errors="replace").decode()
    )


def write_journals(directory: Path, results: Sequence[Result]) -> list[Path]:
    """Write what passed in each of these plays, for `rpcproto trace`; returns the files.

    Each participant is an engine in the journal that receives what was sent to it. Raises OSError.
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for result in results:
        path = directory / f"{result.case.case_id}-client-protocol-{result.client_protocol}.jsonl"
        with path.open("w", encoding="utf-8") as file:
            journal = Journal(file.write)
            engines = {}
            for at, sender, receiver, what in result.passed:
                if isinstance(what, str):
                    continue
                if receiver not in engines:
                    engines[receiver] = journal.engine(receiver, new_id=random_ids())
                engines[receiver].receive_packet(what, now=at, sender_identity=sender)
        paths.append(path)
    return paths


def read_baseline(text: str) -> Mapping[str, str]:
    """The reasons by case id of a list of known failures: a line each, `RPC-4.3 the reason`.

    Empty lines and those that begin with # are skipped. Raises BaselineError.
    """
    known: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        case_id, _, reason = line.strip().partition(" ")
        if not case_id or case_id.startswith("#"):
            continue
        if not reason.strip():
            raise BaselineError(f"line {number}: {case_id} has no reason after it")
        if case_id in known:
            raise BaselineError(f"line {number}: {case_id} stands there twice")
        known[case_id] = reason.strip()
    return known


def compare(run: Run, known: Mapping[str, str], *, strict: bool) -> list[str]:
    """What a run has against a list of known failures, a sentence each; nothing if they agree.

    A known failure that was not played says nothing. One that passes is told, so that the list
    stays true.
    """
    failed: dict[str, bool] = {}
    for result in run.results:
        if result.verdict is not Verdict.UNSUPPORTED:
            case_id = result.case.case_id
            failed[case_id] = failed.get(case_id, False) or result.counts(strict)
    told = [f"{one} fails and is not listed" for one in failed if failed[one] and one not in known]
    told += [f"{one} is listed and passes; remove it" for one in known if failed.get(one) is False]
    return told if not run.stopped else [run.stopped, *told]
