"""What a module says that cannot work here: its extra is missing, or asyncio is."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from rpcproto.core.errors import LocalProtocolError


def how_to_install(name: str) -> str:
    """Return what to do about an extra that is missing, whether an index has the package or not."""
    return f"install rpcproto with the extra {name!r} (in a checkout: pip install '.[{name}]')"


@contextmanager
def extra(name: str, module: str) -> Iterator[None]:
    """Around the imports of `module` that belong to the extra `name`.

    If a package is missing, the ImportError says which module needs it and how to install it.
    """
    try:
        yield
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "rpcproto"):
            raise
        raise ImportError(
            f"{module} needs the package {package!r}, which is not installed; "
            + how_to_install(name),
            name=error.name,
        ) from error


def require_asyncio(module: str) -> None:
    """Raise LocalProtocolError outside of asyncio, for example under trio."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise LocalProtocolError(
            f"{module} is asyncio only: no asyncio event loop is running"
        ) from None
