"""The testees in `examples/testees`, put through the suite."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from paths import EXAMPLES, ROOT

TESTEES = EXAMPLES / "testees"
NODE = shutil.which("node")
VENV = ROOT / ".venv"
GENERATIONS = ("1.1.8", "1.1.13", "1.2.1")
FEW = ("--only", "RPC-1", "--only", "RPC-2", "--client-protocol", "0")

needs_node = pytest.mark.skipif(NODE is None, reason="no node on the PATH")


def conform(tmp_path: Path, *arguments: str) -> Counter[str]:
    """How often there was each verdict, in a process of its own."""
    report = tmp_path / "report.json"
    done = subprocess.run(
        [sys.executable, "-m", "rpcproto", "conform", *arguments, "--json", str(report)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert report.exists(), done.stdout + done.stderr
    results = json.loads(report.read_text("utf-8"))["results"]
    assert {result["id"].split(".")[0] for result in results} >= {"RPC-1", "RPC-2"}
    verdicts = Counter(result["verdict"] for result in results)
    assert verdicts["harness error"] == 0
    if verdicts["fail"]:
        print(done.stdout)
    return verdicts


def python(name: str, interpreter: str = sys.executable) -> str:
    return f"{interpreter} {TESTEES / name}"


@needs_node
def test_the_small_engine_in_javascript_keeps_all_that_counts(tmp_path: Path) -> None:
    verdicts = conform(tmp_path, "--exec", f"{NODE} {TESTEES / 'peer.js'}", *FEW)
    assert verdicts["pass"] > 10
    assert verdicts["fail"] == 0


def test_our_room_client_passes_in_a_room(tmp_path: Path) -> None:
    late_news = ("--only", "RPC-6.9")
    testee = python("room_client.py")
    verdicts = conform(tmp_path, "--room", "--exec", testee, *FEW, *late_news, "--strict")
    assert verdicts["pass"] > 10
    assert verdicts.keys() <= {"pass", "info"}


@pytest.mark.environments
def test_our_room_client_passes_every_case_at_every_client_protocol(tmp_path: Path) -> None:
    verdicts = conform(tmp_path, "--room", "--exec", python("room_client.py"), "--strict")
    assert verdicts["pass"] > 500
    assert verdicts.keys() <= {"pass", "info"}


@needs_node
@pytest.mark.environments
def test_the_small_engine_in_javascript_fails_no_must(tmp_path: Path) -> None:
    verdicts = conform(tmp_path, "--exec", f"{NODE} {TESTEES / 'peer.js'}")
    assert verdicts["pass"] > 200
    assert verdicts["fail"] == 0


@pytest.mark.interop
@pytest.mark.parametrize("generation", GENERATIONS)
def test_livekits_sdk_for_python_attaches_to_the_room(generation: str, tmp_path: Path) -> None:
    interpreter = VENV / f"livekit-{generation}" / "bin" / "python"
    if not interpreter.exists():
        pytest.skip(f"no environment with livekit {generation}; `make interop` makes it")
    testee = python("livekit_sdk.py", str(interpreter))
    verdicts = conform(tmp_path, "--room", "--exec", testee, *FEW)
    assert verdicts["pass"] > 10


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--exec", "no-such-command"], "cannot start 'no-such-command': no such command"),
        (["--exec", "true"], "the testee ended with exit code 0"),
        (["--exec", "'"], '--exec "\'": No closing quotation'),
        (["--exec", " "], "--exec ' ': the command is empty"),
    ],
)
def test_without_a_testee_in_the_room_there_is_one_sentence(
    arguments: list[str], told: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rpcproto", "conform", "--room", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"rpcproto: {told}\n"


def test_without_a_command_the_url_and_the_token_are_printed(tmp_path: Path) -> None:
    suite = subprocess.Popen(
        [sys.executable, "-m", "rpcproto", "conform", "--room", *FEW, "--only", "RPC-1.1"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert suite.stdout is not None
    given = dict(suite.stdout.readline().strip().split("=", 1) for _ in range(2))
    assert re.fullmatch(r"ws://127\.0\.0\.1:\d+", given["LIVEKIT_URL"])
    command = [sys.executable, str(TESTEES / "room_client.py")]
    with subprocess.Popen(command, env=given) as testee:
        assert suite.wait(timeout=60) == 0, suite.stdout.read()
        testee.terminate()
    suite.stdout.close()


@pytest.mark.interop_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_a_run_looks_as_it_should_in_a_browser(scheme: str, tmp_path: Path) -> None:
    """`make conformance` keeps the pictures, in the folder that SCREENSHOTS names."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on the PATH")
    page, picture = tmp_path / "page.html", tmp_path / "page.png"
    conform(tmp_path, "--exec", python("peer.py"), *FEW, "--html", str(page), "--title", "rpcproto")
    text = page.read_text("utf-8")
    page.write_text(text.replace('id="RPC-1.1"', 'open id="RPC-1.1"'), "utf-8")
    blink = f"--blink-settings=preferredColorScheme={'0' if scheme == 'dark' else '1'}"
    options = ["--headless=new", "--no-sandbox", "--hide-scrollbars", "--window-size=900,1000"]
    subprocess.run(
        [chromium, *options, blink, f"--screenshot={picture}", page.as_uri()],
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    if folder := os.environ.get("SCREENSHOTS"):
        shutil.copy(picture, Path(folder) / f"conformance-page-{scheme}.png")
