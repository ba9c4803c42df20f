"""The state of an engine as a value, and a copy of it that goes its own way.

Both know nothing of the protocol: they walk whatever the objects hold, so that what is added to the
engine tomorrow is part of its state without a word here.
"""

import io
import itertools
import pickle
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from functools import partial
from hashlib import blake2b
from operator import itemgetter
from types import BuiltinFunctionType, FunctionType, MethodType, NoneType
from typing import Any, TypeVar

from rpcproto import RpcConfig
from rpcproto.core.deadlines import EARLY, OPEN, Due, Line

T = TypeVar("T")

WITHOUT_EFFECT = {
    *("_packets_in", "packets_out", "_ignored", "_now", "now", "orders", "_orders"),
    "_lines",
    "_starts",
}
"""What decides nothing: packets are counted for `statistics()` alone; no instant is told that is
before the last one; the next number is above all others, whatever it is. And the list of all lines,
which are walked by the lines that items enter; and what the wire has put together before."""
INSTANTS = {"started", "left_at", "grown_at", "turn_at"}
"""Instants of which only the distance from now matters (L10)."""
ORDERS = {"order", "token", "invocation_id"}
"""Numbers that name calls, invocations and streams: any others would do. Of those that are alive
it matters which is lower."""
MEANT_OTHERWISE = WITHOUT_EFFECT | INSTANTS | ORDERS
PLAIN = {str, bytes, int, float, bool, NoneType}
BY_ORDER = {"_invocations", "invocations", "streams", "waiting", "answers", "_answers"}
"""Tables whose keys are such numbers, where they are numbers at all."""
TO_ORDER = {"known", "_known"}
"""Tables whose values are such numbers, or 0."""
UNORDERED = {
    *("known", "_known", "answers", "_answers", "_ended", "_ended_before"),
    *("shared", "calls", "asked"),
}
"""What is only looked up by name: the order of its entries decides no more than which is forgotten
first at a bound, and the search stays far below every bound."""


def form(root: object, now: float) -> bytes:
    """A digest of everything that `root` holds, 128 bits long: what has the same form at two
    moments behaves alike from then on.

    Each object that can change is numbered, so that two equal lists are told from one that is
    shared.
    """
    walk = _Walk(now)
    tree = walk.value(root)
    walk.name_the_orders()
    return blake2b(repr(tree).encode(), digest_size=16).digest()


class _Order:
    """Stands for the number of a call, an invocation or a stream, until all are known."""

    name = ""

    def __repr__(self) -> str:
        return self.name


class _Walk:
    def __init__(self, now: float) -> None:
        self._now = now
        self._objects: dict[int, int] = {}
        self._orders: dict[int, _Order] = {}
        self._alive: set[int] = set()

    def name_the_orders(self) -> None:
        """By rank those that are alive, which are compared, and by where they occur the others."""
        for rank, number in enumerate(sorted(self._alive)):
            self._orders[number].name = f"alive {rank}"
        others = (order for order in self._orders.values() if not order.name)
        for index, order in enumerate(others):
            order.name = f"over {index}"

    def value(self, value: Any) -> object:
        read = _READERS[type(value)]
        return value if read is None else read(self, value)

    def values(self, values: Iterable[Any]) -> list[object]:
        return [self.value(value) for value in values]

    def once(self, value: Any, contents: Callable[["_Walk", Any], object]) -> object:
        """What an object holds, or where it was seen before."""
        number = self._objects.get(id(value))
        if number is not None:
            return "again", number
        self._objects[id(value)] = len(self._objects)
        return contents(self, value)

    def attributes(self, value: Any) -> list[object]:
        contents: list[object] = []
        for name in _SLOTS[type(value)] or vars(value):
            item = getattr(value, name, None)
            is_plain = type(item) in PLAIN and name not in MEANT_OTHERWISE
            contents.append(item if is_plain else self._attribute(name, item))
        return contents

    def _attribute(self, name: str, value: Any) -> object:
        if name in WITHOUT_EFFECT:
            return None
        if name in INSTANTS:
            return value if value is None else value - self._now
        if name in ORDERS:
            if name == "order":
                self._alive.add(value)
            return self.order(value)
        if name == "_others":  # a heap: what is over is passed by, as in a line
            return [self.value(due) for due in sorted(value) if _counts(due)]
        if isinstance(value, dict):
            return self.once(value, partial(_Walk._table, name=name))
        if name in UNORDERED and type(value) is deque:
            return self.once(value, lambda _, keys: sorted(keys))
        return self.value(value)

    def _table(self, table: dict[Any, Any], name: str = "") -> object:
        items = list(table.items())
        if name in UNORDERED:
            items.sort(key=itemgetter(name in BY_ORDER))
        value_of = self.order if name in TO_ORDER else self.value
        return [(self._key(key, name), value_of(value)) for key, value in items]

    def _key(self, key: Any, name: str) -> object:
        is_order = name in BY_ORDER and type(key) is int
        return self.order(key) if is_order else self.value(key)

    def order(self, number: int) -> object:
        return self._orders.setdefault(number, _Order()) if number else 0

    def line(self, line: Line) -> object:
        """What is over is passed by when it comes to the front, and what is acked moves on to the
        line of its last deadline: whether it has done so already makes no difference."""
        items = itertools.chain(line.later or (), line)
        alive = [self.value(item) for item in items if item.state >= OPEN]
        return line.timeout, line.last_timeout, alive

    def due(self, due: Due) -> object:
        deadline, order, is_last, item = due
        return deadline - self._now, self.order(order), is_last, self.value(item)


def _counts(due: Due) -> bool:
    return due.item.state >= (OPEN if due.is_last else EARLY)


def _slots_of(kind: type) -> tuple[str, ...]:
    return tuple(name for each in kind.__mro__ for name in getattr(each, "__slots__", ()))


def _reader_of(kind: type) -> Callable[[_Walk, Any], object] | None:
    """How the values of a type are read; None for what stands for itself."""
    if kind in PLAIN:
        return None
    if kind is RpcConfig:
        return lambda walk, config: "config"
    if kind in (type, FunctionType, BuiltinFunctionType):
        return lambda walk, named: named.__qualname__
    if kind is MethodType:
        return lambda walk, method: (method.__func__.__qualname__, walk.value(method.__self__))
    if issubclass(kind, Enum):
        return lambda walk, member: (kind.__name__, member.value)
    if kind is Due:
        return _Walk.due
    if issubclass(kind, tuple):
        return lambda walk, items: tuple(walk.values(items))
    contents: Callable[[_Walk, Any], object] = _Walk.attributes
    if issubclass(kind, dict):
        contents = _Walk._table
    elif issubclass(kind, set):
        contents = lambda walk, items: sorted(items)  # noqa: E731
    elif kind is Line:
        contents = _Walk.line
    elif issubclass(kind, list | deque):
        contents = _Walk.values
    elif kind is partial:
        contents = lambda walk, made: walk.values((made.func, *made.args))  # noqa: E731
    return lambda walk, value: (kind.__name__, walk.once(value, contents))


class _OnceMade(dict[type, T]):
    """What is made of a type, made once."""

    def __init__(self, make: Callable[[type], T]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, kind: type) -> T:
        made = self[kind] = self._make(kind)
        return made


_SLOTS = _OnceMade(_slots_of)
_READERS = _OnceMade(_reader_of)


# --- copies


class _Pickler(pickle.Pickler):
    """Pickle copies all but these by itself."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is Line:
            slots = {name: getattr(value, name) for name in Line.__slots__}
            return Line.__new__, (Line,), (None, slots), iter(list(value))
        if type(value) is itertools.count:
            return itertools.count, (int(repr(value)[len("count(") : -1]),)
        return NotImplemented


def freeze(root: object) -> bytes:
    """Everything that `root` holds, to be brought back to life any number of times."""
    buffer = io.BytesIO()
    _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(root)
    return buffer.getvalue()


def thaw(kind: type[T], frozen: bytes) -> T:
    """A copy of what was frozen, which shares nothing that can change with any other."""
    root = pickle.loads(frozen)
    assert isinstance(root, kind)
    return root
