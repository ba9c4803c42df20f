"""Run every target for so many seconds, as many side by side as there are cores.

`python -m fuzz 60` prints what each came to; if one crashed, it names the file and the command that
repeats it, and exits with 1. What a run finds on its way is kept under `build/fuzz`, and the next
run goes on from there.
"""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from fuzz import TARGETS

HERE = Path(__file__).resolve().parent
FOUND = HERE.parent / "build" / "fuzz"
ROW = "{:<13}{:>12}{:>11}{:>9}{:>8}{:>8}  {}"


class Result(NamedTuple):
    """What the run of one target came to."""

    target: str
    executions: int
    a_second: int
    seeds: int
    found: int
    edges: int
    crash: Path | None
    failed: bool

    def row(self) -> str:
        result = "CRASH" if self.failed else "no crash"
        numbers = self.executions, self.a_second, self.seeds, self.found, self.edges
        return ROW.format(self.target, *map("{:,}".format, numbers), result)


def run(target: str, seconds: int) -> Result:
    found, seeds = FOUND / target, HERE / "corpus" / target
    found.mkdir(parents=True, exist_ok=True)
    log = FOUND / f"{target}.log"
    before = set(FOUND.glob(f"{target}-*"))
    command = [
        *(sys.executable, "-m", "fuzz.one", target),
        *(f"-max_total_time={seconds}", f"-max_len={TARGETS[target]}", "-timeout=20"),
        *(f"-dict={HERE / 'dictionary'}", f"-artifact_prefix={FOUND / target}-"),
        *("-print_final_stats=1", str(found), str(seeds)),
    ]
    with log.open("wb") as output:
        ended = subprocess.run(command, stdout=output, stderr=output, cwd=HERE.parent, check=False)
    text = log.read_text("utf-8", errors="replace")
    crashes = sorted(set(FOUND.glob(f"{target}-*")) - before)
    return Result(
        target,
        last_number(r"stat::number_of_executed_units: +(\d+)", text),
        last_number(r"stat::average_exec_per_sec: +(\d+)", text),
        len(list(seeds.iterdir())),
        len(list(found.iterdir())),
        last_number(r"cov: (\d+)", text),
        crashes[0] if crashes else None,
        ended.returncode != 0,
    )


def last_number(pattern: str, text: str) -> int:
    return int((re.findall(pattern, text) or ["0"])[-1])


def main(seconds: int) -> int:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda target: run(target, seconds), TARGETS))
    print(ROW.format("target", "executions", "a second", "corpus", "found", "edges", "result"))
    for result in results:
        print(result.row())
    for result in results:
        if result.failed:
            python, log, crash = map(
                os.path.relpath,
                (sys.executable, FOUND / f"{result.target}.log", result.crash or ""),
            )
            print(f"\n{result.target} failed: see {log}. It is repeated by")
            print(f"{python} -m fuzz.one {result.target} {crash}")
    return int(any(result.failed for result in results))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
