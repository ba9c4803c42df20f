"""Build the distributions and try them out, as `make dist` does.

It builds the sdist, and the wheel from the sdist; checks what is in both; installs each in a fresh
environment and plays the demo; and runs `make test` in the unpacked sdist.
"""

import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DIST = ROOT / "dist"


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """Run a command and return what it prints; if it fails, show that and exit."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def files_of_the_project() -> set[str]:
    """Every file of the checkout that git does not ignore."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    return {name for name in listed if (ROOT / name).exists()}


def sdist_in(directory: Path) -> Path:
    [path] = directory.glob("*.tar.gz")
    return path


def wheel_in(directory: Path) -> Path:
    [path] = directory.glob("*.whl")
    return path


def check_contents(sdist: Path, wheel: Path) -> str:
    """Compare both files with the project; return the name of the release, such as
    rpcproto-0.1.0."""
    release = sdist.name.removesuffix(".tar.gz")
    wanted = files_of_the_project()
    with tarfile.open(sdist) as archive:
        packed = {name.removeprefix(f"{release}/") for name in archive.getnames()}
    complain("the sdist", packed, wanted | {"PKG-INFO"})
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
        metadata = archive.read(f"{release}.dist-info/METADATA").decode()
    modules = {name for name in wanted if name.startswith("rpcproto/")}
    if "rpcproto/py.typed" not in modules:
        sys.exit("rpcproto/py.typed is missing")
    info = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
    complain("the wheel", packed, modules | {f"{release}.dist-info/{name}" for name in info})
    readme = (ROOT / "README.md").read_text("utf-8")
    if not metadata.endswith(readme):
        sys.exit("the metadata do not end with README.md")
    return release


def complain(archive: str, packed: set[str], wanted: set[str]) -> None:
    """Exit if the archive lacks a file or has one too many."""
    if packed != wanted:
        sys.exit(f"{archive} lacks {wanted - packed}, and has {packed - wanted} in addition")


def play_demo(path: Path, directory: Path) -> None:
    """Install a distribution in an environment of its own and run what it brings."""
    environment = directory / f"environment-{path.suffix[1:]}"
    venv.create(environment, with_pip=True)
    binaries = environment / "bin"
    run(binaries / "pip", "install", "-q", "--disable-pip-version-check", f"{path}[cli]")
    ask = "import importlib.metadata; print(importlib.metadata.version('rpcproto'))"
    version = run(binaries / "python", "-c", ask, cwd=directory).strip()
    if f"rpcproto-{version}" not in path.name:
        sys.exit(f"{path.name} installs version {version}")
    demo = run(binaries / "rpcproto", "demo", cwd=directory)
    print(f"{path.name}: {demo.splitlines()[-1]}")


def main() -> None:
    """Do everything. PYTEST_ARGS, where make is given them, reach the tests in the sdist too."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", DIST)
    sdist, wheel = sdist_in(DIST), wheel_in(DIST)
    print(run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel).strip())
    release = check_contents(sdist, wheel)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for path in (wheel, sdist):
            play_demo(path, directory)
        with tarfile.open(sdist) as archive:
            archive.extractall(directory, filter="data")
        print(f"make test in {release}", flush=True)
        tests = subprocess.run(("make", "test"), cwd=directory / release, check=False)
    if tests.returncode:
        sys.exit(tests.returncode)
    print(f"{release}: built, checked, installed and tested")


if __name__ == "__main__":
    main()
