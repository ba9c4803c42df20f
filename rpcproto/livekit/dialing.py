"""The way to the WebSocket of the signalling: which path the server knows, and why it refuses."""

import asyncio
import urllib.error
import urllib.request
from typing import Final

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import InvalidStatus, WebSocketException

from rpcproto.livekit.errors import FORBIDDEN, UNAUTHORIZED, UnreachableError, refusal
from rpcproto.livekit.signalling import Resumption, join_url, path_after, validate_url

MAX_SIGNAL_BYTES: Final = 16 << 20
"""The largest message of signalling; the list of a room's participants is one."""
_CLOSE_TIME: Final = 0.5
_VALIDATE_TIME: Final = 3.0


async def dial(
    url: str, path: str, token: str, offer: str = "", resumption: Resumption | None = None
) -> tuple[ClientConnection, str]:
    """Open the WebSocket, on `path` or an older one; return it, and the path that the server knows.

    `offer` is our first one, which may go along; `resumption` is for a further WebSocket of the
    same session.

    Raises RefusedError and UnreachableError.
    """
    while True:
        try:
            socket = await connect_websocket(
                join_url(url, path, offer, resumption),
                additional_headers={"Authorization": f"Bearer {token}"},
                max_size=MAX_SIGNAL_BYTES,
                open_timeout=None,
                close_timeout=_CLOSE_TIME,
                # The signalling has pings of its own.
                ping_interval=None,
            )
        except InvalidStatus as error:
            status = error.response.status_code
            # A session stays on its path.
            older = path_after(path, status) if resumption is None else None
            if older is None:
                body = bytes(error.response.body).decode(errors="replace")
                body = body or await _reason(url, path, token, status)
                # Some servers show the whole token, which is for no log.
                raise refusal(status, body.replace(token, "...")) from error
            path = older
        # ImportError: a proxy that needs a package more; ValueError: a host that cannot be.
        except (OSError, WebSocketException, ImportError, ValueError) as error:
            raise UnreachableError(f"cannot reach {url}: {why(error)}") from error
        else:
            return socket, path


async def _reason(url: str, path: str, token: str, status: int) -> str:
    """What the server has to say to a refusal of which it has given no reason."""
    if status not in (UNAUTHORIZED, FORBIDDEN):
        return ""
    request = urllib.request.Request(
        validate_url(url, path), headers={"Authorization": f"Bearer {token}"}
    )
    return await asyncio.to_thread(_body_of, request)


def _body_of(request: urllib.request.Request) -> str:
    try:
        with urllib.request.urlopen(request, timeout=_VALIDATE_TIME):
            return ""
    except urllib.error.HTTPError as error:
        with error:
            return error.read(1_000).decode(errors="replace")
    except OSError:
        return ""


def why(error: BaseException) -> str:
    """An error in words for people."""
    match error:
        case ConnectionRefusedError():
            return "nobody listens there"
        case OSError(strerror=str() as text):
            return text
    return str(error) or type(error).__name__
