"""The pages of the site that are generated from the code: the API reference and its tables.

The source is read without importing it, except for the core, so that the site can be built without
the extras. A public name without a docstring raises `UndocumentedError`.
"""

import ast
import inspect
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Final, get_args

from draw_states import texts_below

from rpcproto import AbandonReason, ErrorCode, Event, IgnoreReason, RpcConfig
from rpcproto.core.errors import STANDARD_MESSAGES

ROOT: Final = Path(__file__).resolve().parent.parent

MODULES: Final = (
    "rpcproto",
    "rpcproto.asyncio",
    "rpcproto.trio",
    "rpcproto.participant",
    "rpcproto.interceptors",
    "rpcproto.telemetry",
    "rpcproto.e2ee",
    "rpcproto.livekit",
    "rpcproto.transports",
    "rpcproto.transports.memory",
    "rpcproto.transports.stream",
    "rpcproto.transports.pipes",
    "rpcproto.transports.websocket",
    "rpcproto.transports.nats",
    "rpcproto.transports.framing",
    "rpcproto.transports.inbox",
    "rpcproto.transports.presence",
    "rpcproto.transports.reliable",
    "rpcproto.transports.links",
    "rpcproto.recording",
    "rpcproto.testing",
    "rpcproto.testing.hosts",
    "rpcproto.testing.strategies",
    "rpcproto.wire",
)
"""The public modules, in the order of the reference."""

FIRST: Final = (
    "RpcEngine",
    "RpcParticipant",
    "ParticipantBase",
    "connect",
    "Room",
    "Transport",
    "World",
    "MemoryRoom",
    "connect_tcp",
    "listen_tcp",
    "serve",
    "join_room",
    "Journal",
    "replay",
    "trace",
    "AesGcmCryptor",
    "derive_key",
    "check",
    "play",
    "scenarios",
    "HostDriver",
    "RpcConfig",
    "RpcError",
    "ErrorCode",
    "decode",
    "encode",
    "stamp",
)
"""The names that come first on the page of their module."""

EXTRAS: Final = {
    "anyio": "rooms in memory, byte streams (TCP, Unix sockets, pipes), `rpcproto.interceptors`",
    "trio": "the host for trio",
    "nats": "rooms on a NATS server",
    "websockets": "WebSockets",
    "livekit": "LiveKit rooms, with `wrtc` where it has a wheel, and elsewhere with `aiortc`",
    "livekit-aiortc": "LiveKit rooms with `aiortc` on every platform",
    "e2ee": "end-to-end encryption; `derive_key` alone needs no extra",
    "conformance": "the room server of the conformance suite",
    "cli": "the command `rpcproto`",
    "opentelemetry": "traces and metrics",
    "testing": "Hypothesis strategies; the rest of `rpcproto.testing` needs no extra",
}
"""What each extra for users is for."""

INDEX_INTRODUCTION: Final = """
Every public name, under the module from which you import it.
[Versions and compatibility](../versions.md#the-public-api) says what *public* means.

Tables: [events](events.md), [configuration](config.md), [error codes](errors.md),
[reasons for ignored packets](ignored.md), [extras](extras.md).
"""

IGNORED_INTRODUCTION: Final = """
The engine ignores a packet that it cannot use, and counts it by its reason (`IgnoreReason`) in
`RpcEngine.statistics().ignored`. It also emits `PacketIgnored`, except for reasons that occur in
a healthy room ([R32](../rules.md#r32)).

"""

ERRORS_INTRODUCTION: Final = """
The codes with which a call can fail. The protocol reserves 1001 to 1999; use other codes for the
errors of your application. The code also indicates
[whether the handler may have run](../asyncio-and-trio.md#calling).

"""

CONFIG_INTRODUCTION: Final = """
The fields of `RpcConfig`. A value outside its bounds raises `LocalProtocolError` when the config is
made. [The limits in the rules](../rules.md#limits) say what happens when a limit is reached.

"""

EXTRAS_INTRODUCTION: Final = """
Install the extras that you need between brackets: `pip install '.[trio,cli]'` in a checkout.

"""

FOR_DEVELOPERS: Final = {"dev", "dist", "docs", "fuzz"}

_Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Assign | ast.AnnAssign


class UndocumentedError(Exception):
    """Public names have no docstring."""


@dataclass(frozen=True)
class Name:
    """A public name: where users import it, and its definition."""

    module: str
    name: str
    home: str
    """The module that defines it."""
    definition: _Definition
    doc: str

    @property
    def summary(self) -> str:
        """The first sentence of the docstring."""
        paragraph = " ".join(self.doc.split("\n\n")[0].split())
        return re.split(r"(?<=[.:]) (?=[A-Z])", paragraph)[0]


@cache
def tree_of(module: str) -> ast.Module:
    """The syntax tree of a module."""
    path = ROOT.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(path.read_text("utf-8"))


@cache
def public_names(module: str) -> tuple[str, ...]:
    """The `__all__` of a module, without its dunder names."""
    for node in tree_of(module).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return tuple(n for n in ast.literal_eval(node.value) if not n.startswith("__"))
    return ()


def statements(body: list[ast.stmt]) -> Iterator[tuple[ast.stmt, str]]:
    """All statements at the level of a module or class, each with the docstring below it."""
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.With | ast.If | ast.Try):
            yield from statements(node.body)
        match after:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield node, inspect.cleandoc(text)
            case _:
                yield node, ""


@cache
def find(module: str, name: str) -> tuple[str, _Definition, str]:
    """The home of a name, its definition and its docstring, through all imports."""
    for node, below in statements(tree_of(module).body):
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef() if node.name == name:
                return module, node, ast.get_docstring(node) or ""
            case ast.AnnAssign(target=ast.Name(id=target)) if target == name:
                return module, node, below
            case ast.Assign(targets=[ast.Name(id=target)]) if target == name:
                return module, node, below
            case ast.ImportFrom(module=str(origin), names=aliases):
                for alias in aliases:
                    if (alias.asname or alias.name) == name and origin.startswith("rpcproto"):
                        return find(origin, alias.name)
    raise LookupError(f"{module}.{name}")


def names_of(module: str) -> list[Name]:
    """The public names of a module: the most important ones, classes, functions, the rest."""

    def place(name: Name) -> int:
        match name.definition:
            case _ if name.name in FIRST:
                return FIRST.index(name.name) - len(FIRST)
            case ast.ClassDef():
                return 0
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                return 1
            case _:
                return 2

    found = [Name(module, name, *find(module, name)) for name in public_names(module)]
    return sorted(found, key=place)


def own_names(module: str) -> list[Name]:
    """The names that are documented with this module: those that no earlier module has."""
    earlier = MODULES[: MODULES.index(module)]
    taken = {(n.home, n.name) for other in earlier for n in names_of(other)}
    return [name for name in names_of(module) if (name.home, name.name) not in taken]


def other_names(module: str) -> list[Name]:
    """The names that an earlier module has too, each as the earliest one has it."""
    own = {name.name for name in own_names(module)}
    earlier = MODULES[: MODULES.index(module)]
    first: dict[tuple[str, str], Name] = {}
    for other in earlier:
        for name in names_of(other):
            first.setdefault((name.home, name.name), name)
    return [first[n.home, n.name] for n in names_of(module) if n.name not in own]


def undocumented() -> Iterator[str]:
    """Public names, and methods of public classes, that have no docstring."""
    for module in MODULES:
        if not ast.get_docstring(tree_of(module)):
            yield module
        for name in own_names(module):
            if not name.doc:
                yield f"{module}.{name.name}"
            if isinstance(name.definition, ast.ClassDef):
                for method in undocumented_methods(name.home, name.definition):
                    yield f"{module}.{name.name}.{method}"


def undocumented_methods(module: str, cls: ast.ClassDef) -> Iterator[str]:
    """Public methods and properties without a docstring, here and in base classes of ours."""
    for node in cls.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            is_setter = any(ast.unparse(d).endswith(".setter") for d in node.decorator_list)
            if node.name.startswith("_") or is_setter or ast.get_docstring(node):
                continue
            if not is_documented_in_a_base(module, cls, node.name):
                yield node.name


def is_documented_in_a_base(module: str, cls: ast.ClassDef, method: str) -> bool:
    """Whether a base class documents the method, or is not ours and so does it elsewhere."""
    for base in cls.bases:
        written = ast.unparse(base.value if isinstance(base, ast.Subscript) else base)
        try:
            home, definition, _ = find(module, written)
        except LookupError:
            if written not in ("ABC", "Generic", "NamedTuple", "Protocol", "TypedDict"):
                return True
            continue
        assert isinstance(definition, ast.ClassDef)
        for node in definition.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == method:
                return bool(ast.get_docstring(node))
        if is_documented_in_a_base(home, definition, method):
            return True
    return False


# the pages


def table(heads: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in lines)


def page_of(module: str) -> str:
    """The file name of a module's page."""
    return f"{module}.md"


def module_page(module: str) -> str:
    """Every public name of one module."""
    lines = [f"# {module}", "", ast.get_docstring(tree_of(module)) or "", ""]
    for name in own_names(module):
        lines += [f"::: {module}.{name.name}", *options_of(name), ""]
        if has_fields(name.definition):
            lines += [fields_of(name.definition), ""]
    if others := other_names(module):
        lines += ["## Also in this module", ""]
        for name in others:
            link = f"{page_of(name.module)}#{name.module}.{name.name}"
            lines.append(f"* [`{name.name}`]({link}): {name.summary}")
    return "\n".join(lines) + "\n"


def options_of(name: Name) -> list[str]:
    """Which members are shown: methods, also inherited ones, but no fields that a table shows."""
    if not isinstance(name.definition, ast.ClassDef):
        return []
    lines = ["    options:"]
    if has_fields(name.definition):
        lines.append(f"      members: {[node.name for node in methods_of(name.definition)]}")
    if any(is_ours(name.home, base) for base in name.definition.bases):
        lines.append("      inherited_members: true")
    return lines if len(lines) > 1 else []


def is_ours(module: str, base: ast.expr) -> bool:
    """Whether a base class belongs to the package."""
    try:
        return bool(find(module, ast.unparse(base).split("[")[0]))
    except LookupError:
        return False


def methods_of(cls: ast.ClassDef) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The public methods and properties."""
    return [
        node
        for node in cls.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.name.startswith("_")
    ]


def has_fields(definition: _Definition) -> bool:
    """Whether it is an enum, a named tuple, a typed dict or a dataclass."""
    if not isinstance(definition, ast.ClassDef):
        return False
    kinds = [ast.unparse(node) for node in (*definition.bases, *definition.decorator_list)]
    return any(re.match(r"(\w*Enum|NamedTuple|TypedDict|dataclass)\b", kind) for kind in kinds)


def fields_of(definition: _Definition) -> str:
    """The fields of a class, or the members of an enum, in a table."""
    assert isinstance(definition, ast.ClassDef)
    rows = []
    for node, below in statements(definition.body):
        doc = " ".join(below.split())
        match node:
            case ast.AnnAssign(target=ast.Name(id=name)) if not name.startswith("_"):
                default = f"`{ast.unparse(node.value)}`" if node.value else ""
                if default.startswith("`field("):
                    default = "empty"
                rows.append((f"`{name}`", f"`{ast.unparse(node.annotation)}`", default, doc))
            case ast.Assign(targets=[ast.Name(id=name)]) if not name.startswith("_"):
                rows.append((f"`{name}`", f"`{ast.unparse(node.value)}`", "", doc))
    is_enum = any(ast.unparse(base).endswith("Enum") for base in definition.bases)
    if is_enum:
        short = [(name, value, doc) for name, value, _, doc in rows]
        return table(("member", "value", ""), iter(short))
    return table(("field", "type", "default", ""), iter(rows))


def index_page() -> str:
    """All modules and all names."""
    lines = ["# API reference", "", INDEX_INTRODUCTION]
    for module in MODULES:
        summary = " ".join((ast.get_docstring(tree_of(module)) or "").split("\n\n")[0].split())
        lines += [f"## [{module}]({page_of(module)})", "", summary, ""]
        rows = (
            (f"[`{n.name}`]({page_of(module)}#{module}.{n.name})", n.summary)
            for n in own_names(module)
        )
        lines += [table(("name", ""), rows), ""]
        if others := other_names(module):
            links = (f"[`{n.name}`]({page_of(n.module)}#{n.module}.{n.name})" for n in others)
            lines += ["Also here: " + ", ".join(links) + ".", ""]
    return "\n".join(lines)


def annotation(of: object) -> str:
    """A type as the docs write it."""
    return re.sub(r"\b(?:[a-z_]+\.)+", "", of.__name__ if isinstance(of, type) else str(of))


def events_page() -> str:
    """The events of an engine and their fields."""
    lines = [
        "# Events",
        "",
        "The events that `RpcEngine.take_events` returns, in the order in which they happened.",
        "",
    ]
    for event in get_args(Event):
        lines += [f"## {event.__name__}", "", inspect.getdoc(event) or "", ""]
        types = inspect.get_annotations(event).items()
        lines += [
            table(("field", "type"), ((f"`{n}`", f"`{annotation(t)}`") for n, t in types)),
            "",
        ]
    lines += ["## Reasons", "", "`InvocationAbandoned.reason` is an `AbandonReason`:", ""]
    lines += [members(AbandonReason), ""]
    lines += ["`PacketIgnored.reason` is an [`IgnoreReason`](ignored.md).", ""]
    return "\n".join(lines)


def members(enum: type[Enum]) -> str:
    """The members of a public enum with the texts below them."""
    texts = texts_below(find("rpcproto", enum.__name__)[1])
    missing = [member.name for member in enum if member.name not in texts]
    if missing:
        raise UndocumentedError(", ".join(f"{enum.__name__}.{name}" for name in missing))
    return table(("reason", ""), ((f"`{name}`", texts[name]) for name in enum.__members__))


def ignored_page() -> str:
    """The reasons for which a packet is ignored."""
    return "# Reasons for ignored packets\n" + IGNORED_INTRODUCTION + members(IgnoreReason) + "\n"


def errors_page() -> str:
    """The codes of the protocol."""
    texts = texts_below(find("rpcproto", "ErrorCode")[1])
    rows = (
        (str(int(code)), f"`{code.name}`", STANDARD_MESSAGES[code], texts[code.name])
        for code in ErrorCode
    )
    return (
        "# Error codes\n"
        + ERRORS_INTRODUCTION
        + table(("code", "`ErrorCode`", "standard message", "when"), rows)
        + "\n"
    )


def config_page() -> str:
    """The fields of the config."""
    _, definition, _ = find("rpcproto", "RpcConfig")
    assert isinstance(definition, ast.ClassDef)
    docs = {
        node.target.id: " ".join(below.split())
        for node, below in statements(definition.body)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    defaults = RpcConfig()
    rows = (
        (
            f"`{f.name}`",
            f"`{getattr(defaults, f.name)}`",
            bound(f.name, getattr(defaults, f.name)),
            docs[f.name],
        )
        for f in fields(RpcConfig)
    )
    return (
        "# Configuration\n"
        + CONFIG_INTRODUCTION
        + table(("field", "default", "bounds", ""), rows)
        + "\n"
    )


def bound(field: str, default: object) -> str:
    """What the field may be."""
    if isinstance(default, bool):
        return "True or False"
    if isinstance(default, int):
        return "an integer above 0"
    return (
        "seconds, finite, 0 or more" if field == "departure_grace" else "seconds, finite, above 0"
    )


def extras_page() -> str:
    """The extras and what they require."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    required = {"(none)": project["dependencies"], **project["optional-dependencies"]}
    purposes = {
        "(none)": "the engine, the host for asyncio, journals, tests on virtual time",
        **EXTRAS,
    }
    missing = set(required) - set(purposes) - FOR_DEVELOPERS
    if missing:
        raise UndocumentedError(f"extras: {missing}")
    rows = (
        (f"`{name}`", purposes[name], ", ".join(f"`{r.split(';')[0]}`" for r in required[name]))
        for name in purposes
    )
    return "# Extras\n" + EXTRAS_INTRODUCTION + table(("extra", "for", "requires"), rows) + "\n"


def pages() -> dict[str, str]:
    """All generated pages, by their path below `docs`."""
    if missing := list(undocumented()):
        raise UndocumentedError(", ".join(missing))
    made: dict[str, Callable[[], str]] = {
        "index.md": index_page,
        "events.md": events_page,
        "config.md": config_page,
        "errors.md": errors_page,
        "ignored.md": ignored_page,
        "extras.md": extras_page,
    }
    texts = {name: make() for name, make in made.items()}
    texts |= {page_of(module): module_page(module) for module in MODULES}
    return {f"reference/{name}": text for name, text in texts.items()}


if __name__ == "__main__":
    for path, text in pages().items():
        print(f"{path}: {len(text.splitlines())} lines")
