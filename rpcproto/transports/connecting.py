"""Errors of connecting and listening in words: what failed, where, and why."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import gaierror
from ssl import SSLCertVerificationError, SSLError
from urllib.parse import quote

from rpcproto.core.errors import LocalProtocolError


def tcp_url(host: str | None, port: int) -> str:
    """Return the URL of a TCP address. No host stands for all addresses of this machine."""
    host = "*" if host is None else host
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def unix_url(path: str | os.PathLike[str]) -> str:
    """Return the URL of a Unix socket."""
    return f"unix:{'//' if Path(path).is_absolute() else ''}{quote(os.fsencode(path))}"


def require_port(port: int) -> None:
    """Raise LocalProtocolError unless this is the number of a port."""
    if type(port) is not int or not 0 <= port <= 65_535:
        raise LocalProtocolError(f"port must be an int from 0 to 65535, not {port!r}")


@contextmanager
def explained(what: str, where: str) -> Iterator[None]:
    """Name the action and the address in an OSError, such as `connect to` and a URL.

    The OSError keeps its class, such as ConnectionRefusedError, and its errno. A ValueError, for a
    host or a path that is none, becomes a LocalProtocolError.
    """
    try:
        yield
    except ValueError as error:
        raise LocalProtocolError(f"cannot {what} {where}: {error}") from None
    except OSError as error:
        first = next((one for one in _leaves(error) if isinstance(one, OSError)), error)
        named = type(first)(f"cannot {what} {where}: {reason_of(error)}")
        named.errno = first.errno
        raise named from None


def reason_of(error: BaseException) -> str:
    """Return the reason of an error, without number and address. Several reasons are joined."""
    return ", ".join(dict.fromkeys(map(_words, _leaves(error))))


def _leaves(error: BaseException) -> list[BaseException]:
    """The errors for which anyio raised this one, or just this one."""
    match error:
        case OSError(errno=None, __cause__=BaseExceptionGroup(exceptions=errors)):
            return [leaf for one in errors for leaf in _leaves(one)]
        case OSError(errno=None, __cause__=OSError() as cause):
            return [cause]
    return [error]


def _words(error: BaseException) -> str:
    match error:
        case ConnectionRefusedError():
            return "connection refused"
        case gaierror(strerror=str() as text):
            return text
        case SSLCertVerificationError():
            return f"certificate verify failed: {error.verify_message}"
        case SSLError(reason=str() as reason):  # its numbers are not those of the system
            return f"TLS failed: {reason.replace('_', ' ').lower()}"
        case OSError(errno=int() as number, strerror=str()):
            return os.strerror(number)  # asyncio replaces the text
    return str(error) or type(error).__name__
