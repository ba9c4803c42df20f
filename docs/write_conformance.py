"""Run the testees in `examples/testees` that this machine can run, and write what came of it.

    python docs/write_conformance.py [--check] [NAME...]

writes the pages in `docs/conformance` and the results in `docs/conformance.md`; with names, the
others keep what they have. With `--check` each testee runs twice, and verdicts that differ are
told.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

ROOT: Final = Path(__file__).resolve().parent.parent
VENV: Final = ROOT / ".venv"
PAGE: Final = ROOT / "docs" / "conformance.md"
PAGES: Final = ROOT / "docs" / "conformance"
BEGIN, END = "<!-- results: begin -->\n", "<!-- results: end -->\n"
PYTHON: Final = sys.executable
CLIENT: Final = VENV / "livekit-client/node_modules/livekit-client/dist"
NODE_MODULES: Final = VENV / "livekit-rtc-node/node_modules"

Report: TypeAlias = dict[str, Any]


class Testee(NamedTuple):
    """An implementation, how it is reached, and what the machine must have for it."""

    name: str
    command: Sequence[str]
    """Of the testee."""
    needs: Sequence[Path | str]
    """Files that must be there, and commands that must be on the PATH."""
    in_room: bool = True
    environment: Mapping[str, str] = {}

    @property
    def file(self) -> str:
        """The name of its files."""
        return self.name.lower().replace(" ", "-").replace("@", "").replace("/", "-")

    def missing(self) -> str:
        """What the machine lacks for it; empty if it has all."""
        for need in self.needs:
            there = need.exists() if isinstance(need, Path) else shutil.which(need)
            if not there:
                return str(need.relative_to(ROOT)) if isinstance(need, Path) else need
        return ""


def sdk(version: str) -> Testee:
    """LiveKit's SDK for Python."""
    python = VENV / f"livekit-{version}" / "bin" / "python"
    return Testee(f"livekit {version}", (str(python), "examples/testees/livekit_sdk.py"), [python])


TESTEES: Final = [
    Testee("rpcproto engine", (PYTHON, "examples/testees/peer.py"), [], in_room=False),
    Testee("rpcproto room client", (PYTHON, "examples/testees/room_client.py"), []),
    sdk("1.1.8"),
    sdk("1.1.13"),
    sdk("1.2.1"),
    Testee(
        "@livekit/rtc-node 1.1.0",
        ("node", "examples/testees/rtc_node.mjs"),
        ["node", NODE_MODULES],
        environment={"NODE_MODULES": str(NODE_MODULES)},
    ),
    Testee(
        "livekit-client 2.23.0",
        (PYTHON, "examples/testees/browser.py"),
        ["chromium", CLIENT],
        environment={"LIVEKIT_CLIENT": str(CLIENT)},
    ),
    Testee(
        "server-sdk-go 2.19.0", (str(VENV / "livekit-go/testee"),), [VENV / "livekit-go/testee"]
    ),
    Testee(
        "livekit-rpc 0.2.0",
        (str(VENV / "livekit-rust/release/testee"),),
        [VENV / "livekit-rust/release/testee"],
        in_room=False,
    ),
    Testee("peer.js", ("node", "examples/testees/peer.js"), ["node"], in_room=False),
]


def run(testee: Testee, directory: Path) -> Report:
    """The JSON report of a run; its page is written as well."""
    path = directory / f"{testee.file}.json"
    command = [PYTHON, "-m", "rpcproto", "conform", *(["--room"] if testee.in_room else [])]
    command += ["--exec", " ".join(testee.command), "--title", testee.name, "--json", str(path)]
    page = PAGES / f"{testee.file}.html"
    command += ["--html", str(page)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | testee.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode > 1 or not path.exists():
        raise SystemExit(f"{testee.name}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    text = page.read_text("utf-8")
    elsewhere = {one.resolve().parent.parent for one in VENV.iterdir()}  # it may be a link
    for place in {
        ROOT,
        Path(sys.base_prefix),
        *elsewhere,
    }:  # tracebacks name places of this machine
        text = text.replace(f"{place}/", "")
    page.write_text(text, "utf-8")
    report: Report = json.loads(path.read_text("utf-8"))
    return report


def differences(one: Report, two: Report) -> Iterator[str]:
    """The plays whose verdicts differ."""
    for first, second in zip(one["results"], two["results"], strict=True):
        if first["verdict"] != second["verdict"]:
            said = (f"{run['verdict']} ({run['seen'] or 'as expected'})" for run in (first, second))
            play = f"{first['id']} with client_protocol {first['client_protocol']}"
            yield f"{play}: {', then '.join(said)}"


class Cases:
    """What came of the cases of a testee, over all client_protocols."""

    def __init__(self, report: Report) -> None:
        self.plays: dict[str, list[dict[str, Any]]] = {}
        for result in report["results"]:
            if result["verdict"] not in ("unsupported", "info") and result["level"] != "info":
                self.plays.setdefault(result["id"], []).append(result)

    def failed(self) -> Iterator[dict[str, Any]]:
        """A play of each case that did not pass."""
        for plays in self.plays.values():
            yield from [play for play in plays if play["verdict"] != "pass"][:1]

    def cell(self, section: str) -> str:
        """What the table says of a section."""
        ids = {one for one, plays in self.plays.items() if plays[0]["section"] == section}
        if not ids:
            return "-"
        failed = [play for play in self.failed() if play["id"] in ids]
        must = sum(play["level"] == "must" for play in failed)
        counts = f"{len(ids) - len(failed)} / {len(ids)}"
        return f"{counts} **{must}**" if must else counts


def results(reports: Mapping[str, Report]) -> Iterator[str]:
    """The lines of the part that is written."""
    names = [testee for testee in TESTEES if testee.name in reports]
    cases = {testee.name: Cases(reports[testee.name]) for testee in names}
    sections = dict.fromkeys(
        result["section"] for report in reports.values() for result in report["results"]
    )
    links = (f"[{testee.name}](conformance/{testee.file}.html)" for testee in names)
    yield f"| | {' | '.join(links)} |"
    yield f"|---|{'---|' * len(names)}"
    for section in sections:
        cells = (cases[testee.name].cell(section) for testee in names)
        yield f"| {section} | {' | '.join(cells)} |"
    for testee in names:
        failed = sorted(
            cases[testee.name].failed(),
            key=lambda play: [int(n) for n in play["id"][4:].split(".")],
        )
        if failed:
            yield f"\n### {testee.name}\n"
            yield "| case | level | what happens | must be seen | why |"
            yield "|---|---|---|---|---|"
        for play in failed:
            link = f"[{play['id']}](conformance/{testee.file}.html#{play['id']})"
            level = play["level"].upper()
            yield f"| {link} | {level} | {play['title']} | {play['sees']} | {play['why']} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="run each twice and compare")
    parser.add_argument("names", nargs="*", help="of testees; all unless given")
    given = parser.parse_args()
    PAGES.mkdir(exist_ok=True)
    kept = ROOT / "build" / "conformance"
    kept.mkdir(parents=True, exist_ok=True)
    differs = False
    reports: dict[str, Report] = {}
    for testee in TESTEES:
        path = kept / f"{testee.file}.json"
        if given.names and testee.name not in given.names:
            if path.exists():
                reports[testee.name] = json.loads(path.read_text("utf-8"))
            continue
        if missing := testee.missing():
            print(f"{testee.name}: not run, there is no {missing}", flush=True)
            continue
        reports[testee.name] = run(testee, kept)
        print(f"{testee.name}: {len(reports[testee.name]['results'])} plays", flush=True)
        if given.check:
            for difference in differences(reports[testee.name], run(testee, kept)):
                differs = True
                print(f"{testee.name}: {difference}", flush=True)
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    text = "\n".join(results(reports))
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n\n{END}{after}", "utf-8")
    return int(differs)


if __name__ == "__main__":
    sys.exit(main())
