"""The way to the WebSocket of the signalling: which path the server knows, and why it refuses."""

import logging
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import InvalidStatus, WebSocketException

from rpcproto.livekit.errors import FORBIDDEN, UNAUTHORIZED, RefusedError, UnreachableError, refusal
from rpcproto.livekit.http_requests import HttpRequest, fetch, proxy_of, reached_through, why
from rpcproto.livekit.signalling import Resumption, join_url, path_after, validate_url

MAX_SIGNAL_BYTES: Final = 4 << 20
"""The largest message of signalling; the list of a room's participants is one."""
_CLOSE_TIME: Final = 0.5
_VALIDATE_TIME: Final = 3.0


def _quiet_logger() -> logging.Logger:
    """What websockets logs, without its DEBUG level: there it writes every header, the token among
    them. It is no logger that can be found by name, so nobody can switch that on."""
    quiet = logging.Logger("websockets.client", logging.INFO)
    quiet.parent = logging.getLogger("websockets.client")
    return quiet


_WEBSOCKET_LOGGER: Final = _quiet_logger()


class _Dial(connect_websocket):
    """Follows no redirect: the token is for one host alone."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def dial(
    url: str,
    path: str,
    token: str,
    offer: str = "",
    resumption: Resumption | None = None,
    refused: Callable[[RefusedError], None] = lambda _: None,
) -> tuple[ClientConnection, str]:
    """Open the WebSocket, on `path` or an older one; return it, and the path that the server knows.

    `offer` is our first one, which may go along; `resumption` is for a further WebSocket of the
    same session. `refused` takes a refusal for which the server is still asked for a reason.

    A redirect is not followed. Raises RefusedError and UnreachableError.
    """
    headers = {"Authorization": f"Bearer {token}"}
    while True:
        address = join_url(url, path, offer, resumption)
        proxy = proxy_of(address)
        try:
            socket = await _Dial(
                address,
                additional_headers=headers,
                compression=None,  # a few bytes could become many
                logger=_WEBSOCKET_LOGGER,
                max_size=MAX_SIGNAL_BYTES,
                open_timeout=None,
                close_timeout=_CLOSE_TIME,
                # The signalling has pings of its own.
                ping_interval=None,
                proxy=proxy,
            )
        except InvalidStatus as error:
            status = error.response.status_code
            # A session stays on its path.
            older = path_after(path, status) if resumption is None else None
            if older is None:
                body = bytes(error.response.body or b"").decode(errors="replace")
                if not body and status in (UNAUTHORIZED, FORBIDDEN):
                    refused(refusal(status, ""))
                    body = await _reason(validate_url(url, path), headers)
                location = error.response.headers.get_all("Location")
                # Some servers show the whole token, which is for no log.
                words = body.replace(token, "...")
                raise refusal(status, words, _origin(location)) from error
            path = older
        # ImportError: a proxy that needs a package more; ValueError: a host that cannot be.
        except (OSError, WebSocketException, ImportError, ValueError) as error:
            where = reached_through(url, proxy)
            raise UnreachableError(f"cannot reach {where}: {why(error)}") from error
        else:
            return socket, path


async def _reason(url: str, headers: dict[str, str]) -> str:
    """What the server has to say to a refusal of which it has given no reason."""
    try:
        return (await fetch(HttpRequest("GET", url, headers), _VALIDATE_TIME)).body
    except UnreachableError:
        return ""


def _origin(locations: list[str]) -> str:
    """Where a redirect leads, without anything that could be the token."""
    if not locations:
        return ""
    try:
        parts = urlsplit(locations[0])
    except ValueError:
        return ""
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}"[:200] if host else ""
