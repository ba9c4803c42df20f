"""What can go wrong with a room, in words for people."""

from typing import Final

NOT_FOUND: Final = 404
UNAUTHORIZED: Final = 401
FORBIDDEN: Final = 403


class ConnectError(ConnectionError):
    """The room could not be joined. The message names the reason."""


class UnreachableError(ConnectError):
    """No LiveKit server answers at the URL, or no packet reaches it."""


class RefusedError(ConnectError):
    """The server refuses to let the participant join. `status` is its HTTP status."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status: int = status


class TokenError(RefusedError):
    """The token is invalid for this server: wrongly signed, expired, or not a token."""


class LeaveError(ConnectionError):
    """The server has removed the participant from the room. `reason` is its reason, such as
    `PARTICIPANT_REMOVED`."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason: str = reason


class NotDeliveredError(ConnectionError):
    """The probable reason why a call was not acknowledged: the `__cause__` of an `RpcError`
    (1501)."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason: str = reason
        """`never_announced`, `left`, `not_active`, `no_permission`, `channel_closed` or
        `not_sent`."""


def refusal(status: int, body: str, redirect: str = "") -> RefusedError:
    """The error for an HTTP status that is no welcome, with what the server had to say; `redirect`
    is the other host that it names."""
    words = " ".join(body.split())[:200]
    if status == UNAUTHORIZED:
        return TokenError(f"the server does not accept the token: {words or 'no reason'}", status)
    if status == NOT_FOUND:
        return RefusedError(f"there is no LiveKit room to join: {words or 'not found'}", status)
    if redirect:
        return RefusedError(
            f"the server redirects to {redirect} ({status}), which is not followed, since the "
            "token is for one host alone; use that URL if you trust it",
            status,
        )
    return RefusedError(f"the server refuses ({status}): {words or 'no reason'}", status)


def is_final(error: ConnectionError) -> bool:
    """Whether trying again cannot help: the server has understood, and refuses."""
    return isinstance(error, RefusedError) and error.status in (UNAUTHORIZED, FORBIDDEN)


_LEAVE_REASONS: Final = {
    "DUPLICATE_IDENTITY": "somebody else has joined under our identity",
    "SERVER_SHUTDOWN": "the server shuts down",
    "PARTICIPANT_REMOVED": "we were removed from the room",
    "ROOM_DELETED": "the room was deleted",
    "ROOM_CLOSED": "the room was closed",
    "JOIN_FAILURE": "the server could not let us join",
    "STATE_MISMATCH": "the server does not know this connection any more",
    "ROOM_MOVED": "the server has moved us to another room",
    "CONNECTION_TIMEOUT": "the server has not heard of us in time",
}


def departure(reason: str) -> LeaveError:
    """The error for a server's `leave`, of which `reason` is the name of its DisconnectReason."""
    words = _LEAVE_REASONS.get(reason) or f"the server has ended it: {reason}"
    return LeaveError(words, reason)
