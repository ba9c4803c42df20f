"""Every Python block of the README runs, each as a program of its own."""

import re
from pathlib import Path

import pytest

from rpcproto.testing import virtual_time_run

README = Path(__file__).resolve().parent.parent / "README.md"
TEXT = README.read_text("utf-8")
BLOCKS = [
    pytest.param(
        "\n" * (TEXT.count("\n", 0, match.start()) + 1) + match[1],
        id=f"line-{TEXT.count(chr(10), 0, match.start()) + 1}",
    )
    for match in re.finditer(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
]


@pytest.mark.parametrize("source", BLOCKS)
def test_a_block_of_the_readme_runs(
    source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Line numbers in a traceback are those of the README. What waits, waits on virtual time."""
    monkeypatch.setattr("asyncio.run", virtual_time_run)
    monkeypatch.chdir(tmp_path)
    exec(compile(source, str(README), "exec"), {"__name__": "__main__"})


def test_the_readme_has_python_in_it() -> None:
    assert BLOCKS
