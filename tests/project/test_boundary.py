"""The walls of the house: who imports whom, and how large a room may be."""

import ast
import functools
import io
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest
from paths import ROOT

PACKAGE = ROOT / "rpcproto"
CORE = PACKAGE / "core"

FLOORS = [
    {"engine"},
    {"caller", "responder", "sealing"},
    {"shared"},
    {"outbox", "recipients"},
    {"stream_reader", "stream_writer"},
    {"budget", "roster"},
    {"wire"},
    {"config", "deadlines", "errors", "events", "inflating", "messages", "repeats", "states"},
]
"""The rooms of the core, from the top. A room uses only rooms below it; on the last floor there
is nothing below, so what is there may use its neighbours."""

UPPER_FLOORS = [
    {"cli", "__main__"},
    {"conformance"},
    {"livekit"},
    {"asyncio", "interceptors", "telemetry", "trio"},
    {"participant"},
    {"testing"},
    {"recording"},
    {"transports", "e2ee", "wire"},
    {"errors", "extras", "ids", "interrupts", "logs"},
    {"core"},
]
"""The same of the whole house; a floor of several modules may use itself."""

FORBIDDEN = {
    "_thread", "asyncio", "builtins", "concurrent", "contextvars", "datetime", "importlib", "io",
    "locale", "logging", "multiprocessing", "os", "pathlib", "platform", "queue", "random",
    "sched", "secrets", "select", "selectors", "shutil", "signal", "socket", "ssl", "subprocess",
    "sys", "tempfile", "threading", "time", "uuid", "warnings", "weakref",
}  # fmt: skip
"""What reads or changes something outside, or waits."""

GENERATED = CORE / "packets_pb2.py"
MODULES = sorted(set(CORE.glob("*.py")) - {GENERATED, CORE / "__init__.py"})
HOSTS = [path for name in ("asyncio", "trio") if (path := PACKAGE / f"{name}.py").exists()]

each_house_module = pytest.mark.parametrize(
    "path",
    sorted(set(PACKAGE.rglob("*.py")) - {GENERATED}),
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
each_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@functools.cache
def imports(path: Path) -> list[str]:
    """Full names of all that a module imports when it runs, wherever in it."""
    for_types: set[ast.AST] = {
        node
        for block in ast.walk(parsed(path))
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for statement in block.body
        for node in ast.walk(statement)
    }
    names: list[str] = []
    for node in ast.walk(parsed(path)):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            names += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            names += (f"{node.module}.{alias.name}" for alias in node.names)
    return names


@functools.cache
def code_lines(path: Path) -> set[int]:
    """The lines that are neither blank nor comment nor docstring, nor say only what is public."""
    source = path.read_text("utf-8")
    lines: set[int] = set()
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER}
    skipped |= {tokenize.INDENT, tokenize.DEDENT}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in skipped:
            lines.update(range(token.start[0], token.end[0] + 1))
    tree = parsed(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines -= set(range(node.lineno, (node.end_lineno or 0) + 1))
    return lines - lines_that_say_what_is_public(tree)


def lines_that_say_what_is_public(tree: ast.AST) -> set[int]:
    """The list `__all__`, imports for it alone, and `@final`."""
    lines: set[int] = set()
    public: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            public = set(ast.literal_eval(node.value))
            lines.update(range(node.lineno, (node.end_lineno or 0) + 1))
        elif isinstance(node, ast.Name) and node.id == "final":
            lines.add(node.lineno)
    for node in ast.walk(tree):
        if isinstance(node, ast.alias) and node.name in public:
            lines.add(node.lineno)
    return lines


def floor_of(room: str) -> int:
    [floor] = (number for number, rooms in enumerate(FLOORS) if room in rooms)
    return floor


def test_every_room_is_in_the_drawing() -> None:
    assert {path.stem for path in MODULES} == set.union(*FLOORS)


@each_module
def test_a_room_uses_only_rooms_below_it(path: Path) -> None:
    for name in imports(path):
        package, *rest = name.split(".")
        if package != "rpcproto":
            continue
        assert rest[0] == "core", f"{name} is above the core"
        room = rest[1]
        if room == "packets_pb2":
            assert path.stem == "wire", "only wire knows protobuf"
            continue
        if (CORE / f"{room}.py").exists():
            used, user = floor_of(room), floor_of(path.stem)
            assert used > user or used == user == len(FLOORS) - 1, f"{path.stem} uses {room}"
        else:
            # from rpcproto.core import wire
            raise AssertionError(f"{name} is no room")


@pytest.mark.parametrize(
    "path",
    [path for path in PACKAGE.rglob("*.py") if path.parent != CORE and path.parent != PACKAGE]
    + [path for path in PACKAGE.glob("*.py") if path.stem != "__init__"],
    ids=lambda path: path.relative_to(PACKAGE).as_posix(),
)
def test_above_the_core_too_a_room_uses_only_rooms_below_it(path: Path) -> None:
    user = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imports(path):
        package, *rest = name.split(".")
        if package == "rpcproto" and rest and any(rest[0] in floor for floor in UPPER_FLOORS):
            used = next(n for n, floor in enumerate(UPPER_FLOORS) if rest[0] in floor)
            floor = next(n for n, rooms in enumerate(UPPER_FLOORS) if user in rooms)
            assert used > floor or rest[0] == user or user == "__main__", f"{user} uses {name}"


@each_module
def test_the_core_does_no_io_and_reads_no_clock(path: Path) -> None:
    assert {name.split(".")[0] for name in imports(path)} & FORBIDDEN == set()
    called = {
        node.func.id
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert called & {"open", "print", "input", "exec", "eval", "__import__", "breakpoint"} == set()
    assert not any(
        isinstance(node, ast.AsyncFunctionDef | ast.Await) for node in ast.walk(parsed(path))
    )


@each_module
def test_only_wire_knows_protobuf(path: Path) -> None:
    knows = any(name.startswith("google") for name in imports(path))
    assert not knows or path.stem == "wire"


def test_outside_the_core_packets_are_read_and_written_by_the_public_wire_alone() -> None:
    """A journal needs what all packets of one participant to another begin with, and no more."""
    users = {
        path.relative_to(PACKAGE).as_posix(): names
        for path in PACKAGE.rglob("*.py")
        if path.parent != CORE
        and (names := {name for name in imports(path) if name.startswith("rpcproto.core.wire")})
    }
    assert set(users) == {"wire.py", "recording/lines.py", "recording/records.py"}
    del users["wire.py"]
    assert set.union(*users.values()) == {"rpcproto.core.wire.envelope"}


def test_outside_the_core_only_rooms_that_show_packets_know_protobuf() -> None:
    """Neither the package nor its hosts do."""
    for path in [PACKAGE / "__init__.py", *HOSTS, *(PACKAGE / "participant").glob("*.py")]:
        assert not any(name.startswith("google") for name in imports(path)), path


def test_the_core_is_read_in_an_hour() -> None:
    sizes = {path.stem: len(code_lines(path)) for path in MODULES}
    assert sum(sizes.values()) <= 2_920, sizes
    assert max(sizes.values()) <= 400, sizes


def sizes_of(path: Path, *kinds: type[ast.AST]) -> dict[str, int]:
    """The lines of code of all classes, or all functions, of a module."""
    lines = code_lines(path)
    return {
        node.name: len(lines & set(range(node.lineno, (node.end_lineno or 0) + 1)))
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and isinstance(node, kinds)
    }


@each_house_module
def test_nothing_in_the_house_is_too_large_to_read(path: Path) -> None:
    assert len(code_lines(path)) <= 400
    most = 320 if path.is_relative_to(CORE) else 250
    classes = sizes_of(path, ast.ClassDef)
    assert {name: size for name, size in classes.items() if size > most} == {}
    functions = sizes_of(path, ast.FunctionDef, ast.AsyncFunctionDef)
    assert {name: size for name, size in functions.items() if size > 60} == {}


@pytest.mark.parametrize("path", HOSTS, ids=lambda path: path.stem)
def test_a_host_is_at_most_160_lines(path: Path) -> None:
    assert len(code_lines(path)) <= 160


def test_importing_the_package_brings_in_the_standard_library_and_protobuf_alone() -> None:
    script = (
        "import sys; before = set(sys.modules); import rpcproto; "
        "print(*sorted({n.split('.')[0] for n in set(sys.modules) - before}))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    foreign = set(run.stdout.split()) - sys.stdlib_module_names - {"rpcproto", "google"}
    assert foreign == set()


def test_importing_the_package_brings_in_no_event_loop() -> None:
    script = "import sys; import rpcproto; print('asyncio' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
