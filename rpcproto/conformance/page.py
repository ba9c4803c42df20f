"""The report of a run as one self-contained HTML page, with a picture of each case."""

from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from rpcproto.conformance.case import SECTIONS, Case
from rpcproto.conformance.results import Result, Run, Verdict
from rpcproto.recording import svg_style
from rpcproto.recording.diagram import printable

MAX_ROWS: Final = 40
"""A picture shows no more rows than these."""
MAX_TEXT: Final = 2_000
"""Of a longer text, such as a standard error, the beginning is shown."""
_TROUBLE: Final = (Verdict.FAIL, Verdict.NOT_STRICT, Verdict.HARNESS_ERROR)

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1f2328; --paper: #ffffff; --soft: #59636e;
  --line: #d1d9e0; --pass: #1a7f37; --fail: #cf222e; --not-strict: #9a6700; --info: #0550ae;
  --unsupported: #6e7781; --harness-error: #8250df }
@media (prefers-color-scheme: dark) {
  :root { --ink: #f0f6fc; --paper: #0d1117; --soft: #9198a1; --line: #3d444d; --pass: #56d364;
    --fail: #ff7b72; --not-strict: #e3b341; --info: #79c0ff; --unsupported: #9198a1;
    --harness-error: #d2a8ff }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin-bottom: 0 } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem }
code { font-size: .9em } .soft { color: var(--soft) }
table { border-collapse: collapse } th, td { text-align: right; padding: .2rem .7rem;
  border-bottom: 1px solid var(--line) } th:first-child, td:first-child { text-align: left }
.filters { position: sticky; top: 0; background: var(--paper); padding: .6rem 0; z-index: 1;
  border-bottom: 1px solid var(--line); display: flex; gap: 1rem; flex-wrap: wrap }
details.case { border-bottom: 1px solid var(--line); padding: .35rem 0 }
details.case > summary { cursor: pointer; display: flex; gap: .8rem; align-items: baseline }
summary .id { min-width: 5.5rem; font-variant-numeric: tabular-nums } summary .title { flex: 1 }
.verdict { font-weight: 600 } dl { display: grid; grid-template-columns: 8rem 1fr; gap: .2rem 1rem;
  margin: .6rem 0 } dt { color: var(--soft) } dd { margin: 0; overflow-wrap: anywhere;
  white-space: pre-wrap } .picture { overflow-x: auto; margin-bottom: 1rem }
.pass { color: var(--pass) } .fail { color: var(--fail) } .not-strict { color: var(--not-strict) }
.info { color: var(--info) } .unsupported { color: var(--unsupported) }
.harness-error { color: var(--harness-error) } [hidden] { display: none !important }
"""
_SCRIPT: Final = """
const section = document.getElementById("section");
const boxes = [...document.querySelectorAll(".filters input")];
function filter() {
  const wanted = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
  for (const part of document.querySelectorAll("section")) {
    let shown = 0;
    for (const one of part.querySelectorAll("details.case")) {
      const fits = one.dataset.verdicts.split(",").some((verdict) => wanted.has(verdict));
      one.hidden = !fits;
      shown += fits;
    }
    part.hidden = !shown || (section.value !== "" && section.value !== part.dataset.section);
  }
}
section.addEventListener("change", filter);
boxes.forEach((box) => box.addEventListener("change", filter));
function open() {
  const found = document.getElementById(location.hash.slice(1));
  if (found instanceof HTMLDetailsElement) found.open = true;
}
addEventListener("hashchange", open);
open();
"""


def as_html(run: Run, *, title: str, version: str, command: str) -> str:
    """The page. `title` names the testee, `version` is that of the suite, and `command` says how
    the testee was reached."""
    by_case: dict[Case, list[Result]] = {}
    for result in run.results:
        by_case.setdefault(result.case, []).append(result)
    return "\n".join(_page(run, by_case, _text(title), _text(version), _text(command))) + "\n"


def _page(
    run: Run, by_case: dict[Case, list[Result]], title: str, version: str, command: str
) -> Iterator[str]:
    yield '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>Conformance of {title}</title>\n<style>{_STYLE}{svg_style()}</style>"
    yield f"<h1>Conformance of {title}</h1>"
    yield f'<p class="soft">{len(by_case)} cases, played {len(run.results)} times, by rpcproto'
    yield f"{version}: <code>{command}</code></p>"
    if run.stopped:
        yield f'<p class="fail">The run ended early: {_text(run.stopped)}</p>'
    yield from _summary(run.results)
    yield from _filters(run.results)
    for section, name in SECTIONS.items():
        cases = [case for case in by_case if case.section == section]
        if cases:
            yield f'<section data-section="{section}"><h2>{section}. {_text(name)}</h2>'
            for case in cases:
                yield from _case(case, by_case[case])
            yield "</section>"
    yield f"<script>{_SCRIPT}</script>\n</html>"


def _summary(results: Sequence[Result]) -> Iterator[str]:
    verdicts = _present(results)
    yield "<table><tr><th>section" + "".join(f"<th>{one.value}" for one in verdicts) + "</tr>"
    for section, name in SECTIONS.items():
        counts = Counter(r.verdict for r in results if r.case.section == section)
        if counts:
            cells = (f'<td class="{_class(one)}">{counts[one] or ""}' for one in verdicts)
            yield f"<tr><td>{section}. {_text(name)}{''.join(cells)}</tr>"
    yield "</table>"


def _filters(results: Sequence[Result]) -> Iterator[str]:
    yield '<p class="filters"><label>section <select id="section"><option value="">all'
    for section in dict.fromkeys(result.case.section for result in results):
        yield f'<option value="{section}">{section}. {_text(SECTIONS[section])}'
    yield "</select></label>"
    for one in _present(results):
        box = f'<input type="checkbox" value="{_class(one)}" checked>'
        yield f'<label class="{_class(one)}">{box} {one.value}</label>'
    yield "</p>"


def _case(case: Case, results: Sequence[Result]) -> Iterator[str]:
    verdicts = _present(results)
    names = ",".join(map(_class, verdicts))
    told = ", ".join(f'<span class="verdict {_class(one)}">{one.value}</span>' for one in verdicts)
    is_open = " open" if verdicts[0] in _TROUBLE else ""
    yield f'<details class="case" id="{case.case_id}" data-verdicts="{names}"{is_open}>'
    yield f'<summary><span class="id">{case.case_id}</span>'
    yield f'<span class="title">{_text(case.title)}: {_text(case.sees)}</span>'
    yield f'<span class="soft">{case.level.name} {case.rule}</span> {told}</summary>'
    yield f"<dl><dt>why<dd>{_text(case.why)}</dl>"
    groups: dict[tuple[Verdict, str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.verdict, result.expected, result.seen), []).append(result)
    drawn: set[Verdict] = set()
    for (verdict, expected, seen), group in groups.items():
        yield from _group(verdict, expected, seen, group)
        trace = group[0].trace()
        if trace.rows and verdict not in drawn:
            drawn.add(verdict)
            del trace.rows[MAX_ROWS:]
            yield f'<div class="picture">{trace.svg(inline=True)}</div>'
    yield "</details>"


def _group(verdict: Verdict, expected: str, seen: str, group: Sequence[Result]) -> Iterator[str]:
    protocols = ", ".join(str(result.client_protocol) for result in group)
    name = f'<span class="verdict {_class(verdict)}">{verdict.value}</span>'
    yield f"<dl><dt>client_protocol {protocols}<dd>{name}"
    for term, text in (("expected", expected), ("seen", seen), ("its stderr", group[0].errors)):
        if text:
            yield f"<dt>{term}<dd>{_text(text)}"
    yield "</dl>"


def _present(results: Sequence[Result]) -> list[Verdict]:
    """The verdicts that were given, the worst first."""
    order = [Verdict.HARNESS_ERROR, Verdict.FAIL, Verdict.NOT_STRICT, Verdict.INFO]
    order += [Verdict.PASS, Verdict.UNSUPPORTED]
    given = {result.verdict for result in results}
    return [verdict for verdict in order if verdict in given]


def _class(verdict: Verdict) -> str:
    return verdict.value.replace(" ", "-")


def _text(text: str) -> str:
    shown = text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} …"
    return escape("\n".join(map(printable, shown.splitlines())))
