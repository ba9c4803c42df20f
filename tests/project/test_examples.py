"""Every example runs as it is, in a process of its own, and prints what it should."""

import subprocess
import sys

import pytest
from paths import EXAMPLES

PRINTED = {
    "asyncio_host_driver.py": [" scenarios passed: calls "],
    "blocking_host.py": ["Hello, alice!", "1400 Method not supported at destination"],
    "callback_host.py": ["greet: Hello, alice!", "dance: 1400 Method not supported"],
    "host_driver.py": [" scenarios passed: calls "],
    "greeting.py": ["alice says: Hello from RPC!", "bob answers: Hello, alice!"],
    "nested_call.py": ["alice, 42: Here is Dracula", "charlie, 8: Not for children"],
    "two_processes.py": ["Hello, alice! You said 1400000 characters."],
    "trio_over_a_pipe.py": ["bob counted to 10", "1502 Response timeout"],
    "testee_in_a_world.py": [
        "ours: call 11 fails, 1400 Method not supported at destination",
        "testee: call 10 succeeds, 'Hello, testee!'",
    ],
    "engine_by_hand.py": [
        "request        -> bob (68 bytes)",
        "payload='Hello, alice!",
        "code=1400",
    ],
}
"""What each prints, among other things; those that need a server are run by its tests."""


def output_of(example: str, *arguments: str) -> str:
    # Not `-X dev`: asyncio then reports slow steps, which a busy machine has.
    command = [sys.executable, "-W", "error", str(EXAMPLES / example), *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout


@pytest.mark.parametrize("example", PRINTED)
def test_an_example_prints_what_it_should(example: str) -> None:
    output = output_of(example)
    for text in PRINTED[example]:
        assert text in output


@pytest.mark.parametrize(
    ("example", "arguments", "usage"),
    [
        ("room_of_ten.py", (), "nats://host:port"),
        ("two_processes.py", ("call",), "[serve | call PORT]"),
    ],
)
def test_an_example_says_which_argument_is_missing(
    example: str, arguments: tuple[str, ...], usage: str
) -> None:
    path = str(EXAMPLES / example)
    run = subprocess.run(
        [sys.executable, path, *arguments], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stderr) == (1, f"usage: python {path} {usage}\n")


def test_every_example_is_run_by_a_test() -> None:
    others = {"room_of_ten.py"}
    assert {path.name for path in EXAMPLES.glob("*.py")} - others == set(PRINTED)
