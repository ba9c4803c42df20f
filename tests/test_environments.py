"""The built wheel in environments of its own: old and new protobuf, and LiveKit's packages beside.

The environments stay in `.venv/environments`, brought up to date at each run.
"""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.environments

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
ENVIRONMENTS = ROOT / ".venv" / "environments"

# Ends with an error that names them when importing rpcproto brings in modules of anybody else.
ONLY_OURS = """
import sys
before = set(sys.modules)
import rpcproto
known = {*sys.stdlib_module_names, "rpcproto", "google", "google.protobuf", "google._upb"}
foreign = [
    name
    for name in sorted(set(sys.modules) - before)
    if ".".join(name.split(".")[: 2 if name.startswith("google.") else 1]) not in known
]
sys.exit(", ".join(foreign) or None)
"""


def run(*command: str | Path, **environ: str) -> str:
    """What the command prints; a failure shows all of its output."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | environ
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user would install."""
    directory = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", directory, ROOT)
    [path] = directory.glob("*.whl")
    return path


def python_with(wheel: Path, name: str, *requirements: str) -> Path:
    """The Python of the named environment, with the requirements and the wheel in it."""
    directory = ENVIRONMENTS / name
    python = directory / "bin" / "python"
    if not python.exists():
        venv.create(directory, with_pip=True)
    pip = (python, "-m", "pip", "install", "-q", "--disable-pip-version-check")
    # Requirements first: the wheel must be content with what they bring.
    run(*pip, "--upgrade", "--upgrade-strategy", "eager", *requirements)
    run(*pip, "--force-reinstall", "--no-deps", wheel)
    run(python, "-m", "pip", "check")
    return python


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    package = {name for name in names if name.startswith("rpcproto/")}
    [metadata] = {name.partition("/")[0] for name in set(names) - package}
    assert metadata.endswith(".dist-info")
    assert {"rpcproto/py.typed", "rpcproto/core/packets_pb2.pyi"} <= package
    assert f"{metadata}/licenses/LICENSE" in names


@pytest.mark.parametrize("major", [5, 6, 7])
def test_the_wire_is_the_same_with_every_protobuf(wheel: Path, major: int) -> None:
    # The oldest that pyproject.toml admits, and the newest of each later one.
    version = "5.26.0" if major == 5 else f"{major}.*"
    python = python_with(wheel, f"protobuf-{major}", f"protobuf=={version}")
    for implementation in ("upb", "python"):
        output = run(
            python,
            "-I",
            TESTS / "environments" / "check_wire.py",
            f"--protobuf-major={major}",
            PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=implementation,
        )
        assert f"({implementation}): 32 packets" in output


def test_importing_the_package_brings_in_protobuf_alone(wheel: Path) -> None:
    python = python_with(wheel, "protobuf-7", "protobuf==7.*")
    run(python, "-I", "-c", ONLY_OURS)


@pytest.mark.parametrize("order", ["first", "last"])
def test_the_official_packages_live_in_the_same_process(wheel: Path, order: str) -> None:
    python = python_with(wheel, "livekit", "livekit", "livekit-api", "livekit-protocol")
    output = run(python, "-I", TESTS / "environments" / "check_wire.py", f"--livekit={order}")
    assert "32 packets" in output
