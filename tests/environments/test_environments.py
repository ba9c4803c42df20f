"""The built wheel in environments of its own: old and new protobuf, and LiveKit's packages beside.

The environments stay in `.venv/environments`, brought up to date at each run.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from paths import ROOT, TESTS

pytestmark = pytest.mark.environments

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


# What has to hold on every backend: hostile bytes, rules, laws, packets of official clients.
ON_EVERY_BACKEND = [
    "test_hostile_bytes.py",
    "test_laws.py",
    "test_rules_*.py",
    "test_official_*.py",
    "test_wire.py",
    "test_public_wire.py",
    "test_corner_cases.py",
]


def the_dependency() -> Requirement:
    """The one dependency in pyproject.toml: protobuf, with the versions that are admitted."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    [dependency] = project["dependencies"]
    return Requirement(dependency)


def oldest_protobuf() -> str:
    """The oldest version that is admitted."""
    [oldest] = [s.version for s in the_dependency().specifier if s.operator == ">="]
    return oldest


def run(*command: str | Path, cwd: Path | None = None, **environ: str) -> str:
    """What the command prints; a failure shows all of its output."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=cwd, env=os.environ | environ
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


@pytest.mark.parametrize(
    ("version", "is_admitted"),
    [
        *((version, False) for version in ("5.26.0", "5.29.4", "6.30.0", "6.30.2", "6.31.0")),
        *((version, True) for version in ("5.29.5", "6.31.1", "6.33.6", "7.34.0", "8.0.0")),
    ],
)
def test_versions_that_read_groups_without_a_limit_are_not_admitted(
    version: str, is_admitted: bool
) -> None:
    """CVE-2025-4565, of the pure-Python backend."""
    dependency = the_dependency()
    assert dependency.name == "protobuf"
    assert dependency.specifier.contains(version) is is_admitted


@pytest.mark.parametrize("major", [5, 6, 7])
def test_the_wire_is_the_same_with_every_protobuf(wheel: Path, major: int) -> None:
    # The oldest that pyproject.toml admits, and the newest of each later one.
    version = oldest_protobuf() if major == 5 else f"{major}.*"
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


@pytest.mark.parametrize("age", ["oldest", "newest"])
def test_rules_laws_and_vectors_hold_on_protobuf_in_pure_python(
    wheel: Path, tmp_path: Path, age: str
) -> None:
    """With the installed package, at the oldest protobuf that is admitted, where nothing but the
    package is installed, and at the newest."""
    requirement = f"protobuf=={oldest_protobuf()}" if age == "oldest" else "protobuf"
    tools = ["hypothesis", "pytest", "pytest-xdist"]
    if age == "newest":
        tools.append("cryptography")
    python = python_with(wheel, f"pure-python-{age}", requirement, *tools)
    # Apart from the checkout, so that its rpcproto is not what is imported.
    left_out = shutil.ignore_patterns("__pycache__", "interop", "corpus")
    for directory in ("tests", "fuzz"):
        shutil.copytree(ROOT / directory, tmp_path / directory, ignore=left_out)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    version = run(
        python, "-c", "import importlib.metadata; print(importlib.metadata.version('protobuf'))"
    ).strip()
    assert (version == oldest_protobuf()) is (age == "oldest")
    files = [path for name in ON_EVERY_BACKEND for path in (tmp_path / "tests" / "core").glob(name)]
    output = run(
        *(python, "-m", "pytest", "-q", "-n", "2", "-m", "not big"),
        *("-p", "on_protobuf", f"--protobuf={version} python"),
        *files,
        cwd=tmp_path,
        PYTHONPATH=str(tmp_path / "tests" / "environments"),
        PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION="python",
    )
    [(passed, skipped)] = re.findall(r"^(\d+) passed(, \d+ skipped)? in ", output, re.MULTILINE)
    assert int(passed) > 2_000
    assert bool(skipped) is (age == "oldest")  # real packets that are sealed


def test_importing_the_package_brings_in_protobuf_alone(wheel: Path) -> None:
    python = python_with(wheel, "protobuf-7", "protobuf==7.*")
    run(python, "-I", "-c", ONLY_OURS)


@pytest.mark.parametrize("order", ["first", "last"])
def test_the_official_packages_live_in_the_same_process(wheel: Path, order: str) -> None:
    python = python_with(wheel, "livekit", "livekit", "livekit-api", "livekit-protocol")
    output = run(python, "-I", TESTS / "environments" / "check_wire.py", f"--livekit={order}")
    assert "32 packets" in output


MAX_INSTALLED_BYTES = 40_000_000


def test_a_room_client_is_light_to_install(wheel: Path) -> None:
    """All that the extra `livekit` brings, without what a new environment has of itself."""
    directory = ENVIRONMENTS / "livekit-light"
    venv.create(directory, with_pip=True, clear=True)
    python = directory / "bin" / "python"
    own = site_packages(python)
    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", f"{wheel}[livekit]")
    brought = site_packages(python) - own
    if not any(path.name.startswith("wrtc.") for path in brought):
        pytest.skip("wrtc has no wheel for this machine")
    assert {"aiortc", "av"}.isdisjoint(path.name for path in brought)
    total = sum(bytes_of(path) for path in brought)
    assert 20_000_000 < total <= MAX_INSTALLED_BYTES
    told = run(
        python, "-I", "-c", "import rpcproto.livekit.stacks as s; print(s.peer_connection(None))"
    )
    assert "WrtcConnection" in told


def site_packages(python: Path) -> set[Path]:
    """What lies there."""
    [directory] = (python.parent.parent / "lib").glob("*/site-packages")
    return set(directory.iterdir())


def bytes_of(path: Path) -> int:
    """What a file takes, or a directory with all below."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(file.stat().st_size for file in files)
