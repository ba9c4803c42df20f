"""The names of public classes and functions: each shows the module from which users import it.

Tracebacks, `repr` and `help` then say `rpcproto.RpcEngine`, and a pickle can still be read after
the definition has moved to another file. The price is `inspect.getsource` of such a class: it reads
the file of the module that `__module__` names, and raises OSError. For functions and methods, it
works.
"""

import sys
from collections.abc import Mapping
from types import FunctionType
from typing import Final

_LINE: Final = "__firstlineno__"


def publish(namespace: Mapping[str, object]) -> None:
    """Set `__module__` of what a public module exports from private ones.

    `namespace` are the globals of the module. A module with `__all__` is public. Only the name of
    the module changes: type hints, which need the globals of the definition, are resolved already.
    """
    module, exported = namespace["__name__"], namespace["__all__"]
    assert isinstance(module, str)
    assert isinstance(exported, list)
    for name in exported:
        value = namespace[name]
        if not isinstance(value, type | FunctionType) or _is_public(value.__module__):
            continue
        value.__module__ = module
        if _LINE in vars(
            value
        ):  # Python 3.13: with the file of the module, it would be a wrong one
            delattr(value, _LINE)


def _is_public(module: str) -> bool:
    ours = module.partition(".")[0] == __name__.partition(".")[0]
    return not ours or hasattr(sys.modules[module], "__all__")
