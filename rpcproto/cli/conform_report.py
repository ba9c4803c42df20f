"""What `rpcproto conform` prints."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from rpcproto.cli.drawing import draw
from rpcproto.cli.output import console
from rpcproto.conformance.attachment import Facts
from rpcproto.conformance.case import SECTIONS
from rpcproto.conformance.results import Play, Result, Run, Verdict
from rpcproto.recording.diagram import printable

STYLES: Final = {
    Verdict.PASS: "green",
    Verdict.FAIL: "bold red",
    Verdict.NOT_STRICT: "yellow",
    Verdict.INFO: "cyan",
    Verdict.UNSUPPORTED: "bright_black",
    Verdict.HARNESS_ERROR: "bold magenta",
}
_TROUBLE: Final = (Verdict.FAIL, Verdict.NOT_STRICT, Verdict.HARNESS_ERROR)


class Terminal:
    """Prints a line for each section while cases are played, and then what there is to say."""

    def __init__(self, *, strict: bool) -> None:
        """With `strict`, cases of the level SHOULD count."""
        self._console = console(soft_wrap=True)
        self._strict = strict
        self._waiting: dict[int, int] = {}
        self._results: dict[int, list[Result]] = {}
        self._progress: Progress | None = None

    def list(self, plays: Sequence[Play]) -> None:
        """Print the cases."""
        for case in dict.fromkeys(case for case, _ in plays):
            line = Text(f"{case.case_id:9} {case.level.name:7}")
            line.append(f"{case.title}: {case.sees}  [{case.rule}]")
            self._console.print(line)

    @contextmanager
    def progress(self, plays: Sequence[Play]) -> Iterator[None]:
        """While these are played."""
        self._waiting = dict(Counter(case.section for case, _ in plays))
        self._results = {section: [] for section in self._waiting}
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        is_shown = self._console.is_terminal
        progress = Progress(*columns, console=self._console, transient=True, disable=not is_shown)
        with progress:
            self._progress = progress
            progress.add_task("playing", total=len(plays))
            yield

    def introduce(self, facts: Facts, missing: Sequence[str]) -> None:
        """Print what the testee says of itself, and the methods that it does not serve."""
        able = ", ".join(str(number) for number in facts.capabilities) or "none"
        line = f"{facts.identity}: client_protocol {facts.client_protocol}, capabilities {able}"
        line += ", virtual time" if facts.has_virtual_time else ""
        line += f"; it does not serve {', '.join(missing)}" if missing else ""
        self._console.print(Text(printable(line)))

    def result(self, result: Result) -> None:
        """Take a result; the line of its section is printed when all of those before it are."""
        self._results[result.case.section].append(result)
        if self._progress is not None:
            self._progress.advance(self._progress.task_ids[0])
        for section in sorted(self._waiting):
            if len(self._results[section]) < self._waiting[section]:
                return
            del self._waiting[section]
            self._print_section(section)

    def end(self, run: Run) -> None:
        """Print what failed, what was seen, and the sum."""
        groups: dict[tuple[str, str, str], list[Result]] = {}
        for result in run.results:
            if result.verdict in _TROUBLE:
                key = (result.case.case_id, result.expected, result.seen)
                groups.setdefault(key, []).append(result)
        for results in groups.values():
            self._print_trouble(results)
        self._print_infos(run)
        if run.stopped:
            self._console.print(Text(f"\nThe run ended early: {printable(run.stopped)}"))
        counts = Counter(result.verdict for result in run.results)
        parts = [f"{counts[verdict]} {verdict.value}" for verdict in Verdict if counts[verdict]]
        cases = len({result.case.case_id for result in run.results})
        self._console.print(
            Text(f"\n{cases} cases, played {len(run.results)} times: {', '.join(parts)}")
        )

    def differences(self, told: Sequence[str]) -> None:
        """Print what the run has against the list of known failures."""
        for line in told or ["all is as the list of known failures has it"]:
            self._console.print(Text(printable(line)))

    def _print_section(self, section: int) -> None:
        results = self._results[section]
        counts = Counter(result.verdict for result in results)
        line = Text(f"{section:2}  {SECTIONS[section]:34}")
        for verdict in Verdict:
            if counts[verdict]:
                line.append(f"  {counts[verdict]} {verdict.value}", STYLES[verdict])
        self._console.print(line)

    def _print_trouble(self, results: Sequence[Result]) -> None:
        result = results[0]
        case = result.case
        protocols = ", ".join(str(one.client_protocol) for one in results)
        head = Text("\n")
        head.append(f"{case.case_id} {result.verdict.value}", STYLES[result.verdict])
        head.append(f" ({case.level.name}, {case.rule}, client_protocol {protocols})")
        self._console.print(head)
        rows = [
            ("what happens", case.title),
            ("expected", result.expected or case.sees),
            ("seen", result.seen),
            ("why", case.why),
        ]
        if result.errors:
            rows.append(("its stderr", result.errors))
        for name, text in rows:
            for number, line in enumerate(text.splitlines() or [""]):
                self._console.print(Text(f"  {'' if number else name:13} {printable(line)}"))
        draw(result.trace(), self._console)

    def _print_infos(self, run: Run) -> None:
        infos = [result for result in run.results if result.verdict is Verdict.INFO]
        if infos:
            self._console.print(Text("\nWhat it does where there is a choice:"))
        said: dict[tuple[str, str], list[str]] = {}
        for result in infos:
            key = (result.case.case_id, result.seen)
            said.setdefault(key, []).append(str(result.client_protocol))
        for (case_id, seen), protocols in said.items():
            which = f"client_protocol {', '.join(protocols)}"
            self._console.print(Text(f"  {case_id:9} {printable(seen)} ({which})"))
