"""The exception that hosts raise. The engine never raises it."""

from typing import Final, TypeAlias

from rpcproto.core.errors import STANDARD_MESSAGES, ErrorCode


class RpcError(Exception):
    """A failed call. A handler raises it to fail a call, as in LiveKit's Python SDK.

    `code` is 0 to 2^32 - 1; if a handler uses another code, the caller receives 1500. `message` and
    `data` are cut to 256 and 15,360 bytes of UTF-8 when they are sent (R18). A code of the protocol
    with an empty message gets its standard message.
    """

    ErrorCode: TypeAlias = ErrorCode
    ErrorMessage: Final[dict[int, str]] = STANDARD_MESSAGES
    """The standard messages by code."""

    def __init__(self, code: int, message: str = "", data: str | None = None) -> None:
        super().__init__(code, message, data)
        self.code = code
        self.message: str = message or STANDARD_MESSAGES.get(code, "")
        self.data = data

    def __str__(self) -> str:
        return f"{self.code} {self.message}" + (f" ({self.data})" if self.data else "")
