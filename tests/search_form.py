"""The state of an engine as a value, and a copy of it that goes its own way.

Both know nothing of the protocol: they walk whatever the objects hold, so that what is added to the
engine tomorrow is part of its state without a word here.
"""

import io
import itertools
import pickle
from collections import deque
from enum import Enum
from functools import partial
from hashlib import blake2b
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, TypeVar

from rpcproto import RpcConfig
from rpcproto.core.deadlines import Due, Line

T = TypeVar("T")

WITHOUT_EFFECT = {"_packets_in", "packets_out", "_ignored", "_now", "now", "orders", "_orders"}
"""What decides nothing: packets are counted for `statistics()` alone; no instant is told that is
before the last one; the next number is above all others, whatever it is."""
INSTANTS = {"started"}
"""Instants of which only the distance from now matters (L10)."""
ORDERS = {"order", "token", "invocation_id"}
"""Numbers that name calls, invocations and streams: any others would do. Of those that are alive
it matters which is lower."""
TABLES = {
    "_invocations": (True, False, False),
    "streams": (True, False, False),
    "answers": (False, True, True),
    "_known": (False, True, True),
    "_ended": (False, False, True),
    "_ended_before": (False, False, True),
    "_shared": (False, False, True),
    "calls": (False, False, True),
    "asked": (False, False, True),
}
"""Tables by such numbers, tables of such numbers, and tables of which only the bounds depend on the
order of their entries: it decides which is forgotten first, and the search stays far below."""

_CONSTANTS = {str, bytes, int, float, bool, type(None)}
_NAMED = {type, FunctionType, BuiltinFunctionType}


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
        kind = type(value)
        if kind in _CONSTANTS:
            return value
        assert not issubclass(kind, Due), "the search has no uncommon timeouts"
        if issubclass(kind, tuple):
            return tuple([self.value(item) for item in value])
        if issubclass(kind, Enum):
            return kind.__name__, value.value
        if kind in _NAMED:
            return value.__qualname__
        if kind is RpcConfig:
            return "config"
        if kind is MethodType:
            return value.__func__.__qualname__, self.value(value.__self__)
        number = self._objects.get(id(value))
        if number is not None:
            return "again", number
        self._objects[id(value)] = len(self._objects)
        return kind.__name__, self._contents(kind, value)

    def _contents(self, kind: type, value: Any) -> object:
        if issubclass(kind, dict):
            return [(self.value(key), self.value(item)) for key, item in value.items()]
        if issubclass(kind, set):
            return sorted(value)
        if kind is Line:
            # What is over is passed by when it comes to the front.
            alive = [self.value(item) for item in value if item.stage >= value.stage]
            return value.timeout, value.stage, value.is_kept, alive
        if issubclass(kind, list | deque):
            return [self.value(item) for item in value]
        if kind is partial:
            return self.value(value.func), self.value(value.args)
        return [(name, self._field(name, item)) for name, item in fields(value)]

    def _field(self, name: str, value: Any) -> object:
        if name in WITHOUT_EFFECT:
            return None
        if name in INSTANTS:
            return value if value is None else value - self._now
        if name in ORDERS:
            if name == "order":
                self._alive.add(value)
            return self._order(value)
        if name in TABLES and isinstance(value, dict | deque):
            return self._table(value, *TABLES[name])
        return self.value(value)

    def _table(self, value: Any, by_order: bool, to_order: bool, is_sorted: bool) -> object:
        number = self._objects.get(id(value))
        if number is not None:
            return number
        self._objects[id(value)] = len(self._objects)
        if isinstance(value, deque):
            return sorted(value)
        items = sorted(value.items()) if is_sorted else value.items()
        return [
            (self._order(k) if by_order else k, self._order(v) if to_order else self.value(v))
            for k, v in items
        ]

    def _order(self, number: int) -> object:
        return self._orders.setdefault(number, _Order()) if number else 0


def fields(value: object) -> list[tuple[str, object]]:
    """The attributes of an object, in its slots or not; raises TypeError if it has neither."""
    names = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    if not names:
        return list(vars(value).items())
    return [(name, getattr(value, name)) for name in names if hasattr(value, name)]


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
