"""One HTTP request at a time, for asyncio: within a deadline, within bounds, and to one host alone.

Redirects are not followed, since the request has a token in it that is for nobody else.
"""

import asyncio
import base64
import socket
import threading
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from rpcproto.livekit.errors import UnreachableError
from rpcproto.transports.connecting import reason_of

MAX_ANSWER_BYTES: Final = 1 << 20
"""The largest answer, without its headers."""
_PORTS: Final = {"http": 80, "https": 443}


class HttpRequest(NamedTuple):
    """A request; `url` begins with `http:` or `https:`."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""


class HttpAnswer(NamedTuple):
    """An answer: its status, and its body as text."""

    status: int
    body: str


def proxy_of(url: str) -> str | None:
    """The proxy that the environment (or the system) names for a URL, if any."""
    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.netloc):
        return None
    proxies = urllib.request.getproxies()
    is_secure = parts.scheme in ("wss", "https")
    for scheme in ("wss", "socks", "https") if is_secure else ("ws", "socks", "https", "http"):
        if scheme in proxies:
            proxy = proxies[scheme]
            is_socks = scheme == "socks" and proxy.startswith("http://")
            return proxy.replace("http://", "socks5h://", 1) if is_socks else proxy
    return None


def reached_through(url: str, proxy: str | None) -> str:
    """Where a connection goes, in words for people; a proxy is named without its password."""
    if proxy is None:
        return url
    shown = proxy.replace(proxy.partition("://")[2].rpartition("@")[0] + "@", "", 1)
    return f"{url} through the proxy {shown}"


async def fetch(request: HttpRequest, timeout: float) -> HttpAnswer:
    """Make a request, and wait for its answer, in at most `timeout` seconds.

    Raises UnreachableError.
    """
    loop = asyncio.get_running_loop()
    proxy = proxy_of(request.url)
    where = reached_through(request.url, proxy)
    answered: asyncio.Future[HttpAnswer | Exception] = loop.create_future()
    exchange = _Exchange(request, proxy, timeout)

    def settle(outcome: HttpAnswer | Exception) -> None:
        if not answered.done():
            answered.set_result(outcome)

    def run() -> None:
        outcome = exchange.run()
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, outcome)

    # A thread that nobody waits for: a name server that does not answer cannot be interrupted.
    threading.Thread(target=run, name="rpcproto HTTP", daemon=True).start()
    outcome: HttpAnswer | Exception
    try:
        async with asyncio.timeout(timeout):
            outcome = await answered
    except TimeoutError as error:
        outcome = error
    finally:
        exchange.abort()
    # The socket has the same timeout, and may notice first; a system's own one has a number.
    if isinstance(outcome, TimeoutError) and outcome.errno is None:
        raise UnreachableError(f"no answer from {where} in {timeout:g} s")
    if isinstance(outcome, Exception):
        raise UnreachableError(f"cannot reach {where}: {why(outcome)}") from outcome
    return outcome


class _Exchange:
    """A request and its answer, in a thread that `abort` ends."""

    def __init__(self, request: HttpRequest, proxy: str | None, timeout: float) -> None:
        self._request = request
        self._proxy = proxy
        self._timeout = timeout
        self._is_over = False
        self._connection: HTTPConnection | None = None
        self._socket: socket.socket | None = None

    def run(self) -> HttpAnswer | Exception:
        try:
            return self._run()
        except Exception as error:
            return error

    def _run(self) -> HttpAnswer:
        request, parts = self._request, urlsplit(self._request.url)
        connection = self._connection = self._connect_to(parts.scheme, parts.netloc)
        try:
            connection.connect()
            self._socket = connection.sock
            if self._is_over:
                raise TimeoutError
            target = f"{parts.path}?{parts.query}" if parts.query else parts.path
            headers = {**request.headers, "Connection": "close"}
            connection.request(request.method, target, request.body or None, headers)
            with connection.getresponse() as response:
                body = response.read(MAX_ANSWER_BYTES + 1)
            if len(body) > MAX_ANSWER_BYTES:
                raise HTTPException("the answer is too large")
            return HttpAnswer(response.status, body.decode(errors="replace"))
        finally:
            connection.close()

    def _connect_to(self, scheme: str, netloc: str) -> HTTPConnection:
        kind = HTTPSConnection if scheme == "https" else HTTPConnection
        host = urlsplit(f"//{netloc}")
        name, port = host.hostname or "", host.port or _PORTS[scheme]
        if self._proxy is None:
            return kind(name, port, timeout=self._timeout)
        proxy = urlsplit(self._proxy)
        if proxy.scheme != "http" or proxy.hostname is None:
            raise HTTPException("requests of this kind go through http: proxies alone")
        connection = kind(proxy.hostname, proxy.port or 80, timeout=self._timeout)
        headers = {}
        if proxy.username is not None:
            login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
            headers["Proxy-Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
        connection.set_tunnel(name, port, headers)
        return connection

    def abort(self) -> None:
        """End it; from another thread."""
        self._is_over = True
        connection = self._connection
        for one in (self._socket, None if connection is None else connection.sock):
            if one is not None:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)


def why(error: BaseException) -> str:
    """An error in words for people."""
    if isinstance(error, HTTPException):
        return f"the answer is not HTTP: {error}" if str(error) else "the answer is not HTTP"
    return reason_of(error)
