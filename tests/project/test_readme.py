"""Every Python block of the README and of the docs runs, each as a program of its own."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from paths import ROOT

from rpcproto.testing import virtual_time_run

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ON_REAL_TIME = {"transports.md"}
"""Pages whose programs open sockets."""


def blocks(page: Path) -> Iterator[Any]:
    """The blocks of a page, each moved down so that line numbers in a traceback are the page's."""
    text = page.read_text("utf-8")
    for match in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, match.start()) + 1
        yield pytest.param(page, "\n" * line + match[1], id=f"{page.name}-{line}")


BLOCKS = [block for page in PAGES for block in blocks(page)]


@pytest.mark.parametrize(("page", "source"), BLOCKS)
def test_a_block_runs(
    page: Path, source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What waits, waits on virtual time where it can."""
    if page.name not in ON_REAL_TIME:
        trio_run = trio.run
        clock = trio.testing.MockClock(autojump_threshold=0)
        monkeypatch.setattr("asyncio.run", virtual_time_run)
        monkeypatch.setattr(
            "trio.run", lambda main, *args, clock=clock: trio_run(main, *args, clock=clock)
        )
    monkeypatch.chdir(tmp_path)
    exec(compile(source, str(page), "exec"), {"__name__": "__main__"})


def test_the_readme_has_python_in_it() -> None:
    assert any(block.values[0].name == "README.md" for block in BLOCKS)
