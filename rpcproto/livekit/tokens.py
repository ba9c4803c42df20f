"""Access tokens: who may join which room, as JWTs signed with an API secret."""

import base64
import json
import time
import warnings
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

import jwt

from rpcproto.core.errors import LocalProtocolError, require_name, require_timeout
from rpcproto.wire import MAX_IDENTITY_BYTES

TokenSource: TypeAlias = str | Callable[[], str | Awaitable[str]]
"""A token, or a function that returns one whenever we join, async or not."""

LIFETIME: Final = 6 * 3600.0
"""How long a token can be used to join, in seconds, unless it is said otherwise."""
_ADMIN_LIFETIME: Final = 60.0
_NOT_BEFORE: Final = 10
"""Seconds by which the clock of the server may be behind ours."""


def access_token(
    api_key: str, api_secret: str, room: str, identity: str, *, lifetime: float = LIFETIME
) -> str:
    """Return a token with which `identity` can join `room` and send data, for `lifetime` seconds (6
    hours by default).

    The key and its secret are the server's; with them, every operation is possible. `room` and
    `identity` have 1 to 256 bytes of UTF-8.

    Raises:
        LocalProtocolError: An argument is invalid.
    """
    require_name(identity, "identity", MAX_IDENTITY_BYTES)
    grants = {"roomJoin": True, "canPublishData": True}
    return _signed(api_key, api_secret, {"sub": identity}, room, grants, lifetime)


def admin_token(api_key: str, api_secret: str, room: str) -> str:
    """A token for one request to the server's own API about `room`. Raises LocalProtocolError."""
    return _signed(api_key, api_secret, {}, room, {"roomAdmin": True}, _ADMIN_LIFETIME)


def _signed(
    api_key: str,
    api_secret: str,
    names: Mapping[str, str],
    room: str,
    grants: Mapping[str, bool],
    lifetime: float,
) -> str:
    for name, value in (("api_key", api_key), ("api_secret", api_secret)):
        require_name(value, name, 1_000)
    require_name(room, "room", MAX_IDENTITY_BYTES)
    require_timeout(lifetime, "lifetime")
    now = int(time.time())
    claims = {
        "iss": api_key,
        **names,
        "nbf": now - _NOT_BEFORE,
        "exp": now + max(1, int(lifetime)),
        "video": {"room": room, **grants},
    }
    with warnings.catch_warnings():
        # How long the secret is, is the server's choice: that of a development server is "secret".
        warnings.simplefilter("ignore")
        return jwt.encode(claims, api_secret, algorithm="HS256")


def identity_of(token: str) -> str:
    """Whose token this is, as it says itself: only the server can tell whether that is true.

    Raises LocalProtocolError for what is no token.
    """
    try:
        part = token.strip().split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        identity = claims["sub"]
        require_name(identity, "the identity", MAX_IDENTITY_BYTES)
    except (ValueError, LookupError, TypeError, LocalProtocolError):
        raise LocalProtocolError("that is no access token: it does not say whose it is") from None
    return str(identity)
