"""Where the tests find things."""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
TESTS: Final = ROOT / "tests"
DOCS: Final = ROOT / "docs"
EXAMPLES: Final = ROOT / "examples"
VECTOR_FILES: Final = TESTS / "vectors"


def module_of_tests(name: str) -> str:
    """The path of `test_<name>.py` from the root, in whichever folder of `tests` it is."""
    [path] = TESTS.glob(f"*/test_{name}.py")
    return path.relative_to(ROOT).as_posix()
