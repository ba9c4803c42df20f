"""The commands of this folder: `python tests/proof search 2 1`.

They share modules with the tests. Pytest finds these by the `pythonpath` in pyproject.toml; here
the same paths are added by hand.
"""

import runpy
import sys
from pathlib import Path

COMMANDS = ("search", "simulation", "simulation_programs", "mutants", "mutation", "conform_faults")
ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Run one of the commands with the arguments that are left."""
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        sys.exit(f"usage: python tests/proof {{{','.join(COMMANDS)}}} ...")
    name = sys.argv.pop(1)
    sys.argv[0] = f"tests/proof {name}"
    sys.path[1:1] = [str(ROOT), str(ROOT / "tests" / "support")]
    runpy.run_module(name, run_name="__main__")


if __name__ == "__main__":
    main()
