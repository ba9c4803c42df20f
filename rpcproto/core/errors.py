"""The errors of the protocol.

Local misuse raises `LocalProtocolError`. A failed call is an event with an `ErrorCode`, which a
host turns into a `rpcproto.RpcError`. Bytes from a remote never raise (R32).
"""

import math
from enum import IntEnum
from typing import Final

MAX_ERROR_MESSAGE_BYTES: Final = 256
"""The longest message of an error, in bytes of UTF-8 (R18)."""
MAX_ERROR_DATA_BYTES: Final = 15_360
"""The longest data of an error, in bytes of UTF-8 (R18)."""
MAX_CODE: Final = 2**32 - 1


class ErrorCode(IntEnum):
    """The error codes of the protocol, which reserves 1001 to 1999."""

    UNSUPPORTED_METHOD = 1400
    """The method is not registered at the destination (R15)."""
    RECIPIENT_NOT_FOUND = 1401
    """No participant has the identity, or it is the caller's own (R12)."""
    REQUEST_PAYLOAD_TOO_LARGE = 1402
    """The payload is larger than the caller can send or the recipient accepts (R8, R26)."""
    UNSUPPORTED_SERVER = 1403
    """The server is older than 1.8.0 (R11)."""
    UNSUPPORTED_VERSION = 1404
    """The recipient does not support the version of the request (R15)."""
    APPLICATION_ERROR = 1500
    """The handler failed, the request or response could not be read, or too many requests are
    running (R18, R22, R26)."""
    CONNECTION_TIMEOUT = 1501
    """The recipient did not acknowledge the request in time (R3)."""
    RESPONSE_TIMEOUT = 1502
    """The recipient did not answer in time (R3)."""
    RECIPIENT_DISCONNECTED = 1503
    """The recipient or the caller left, or the connection is lost (R9, R41, R42)."""
    RESPONSE_PAYLOAD_TOO_LARGE = 1504
    """The answer is larger than the recipient can send or the caller accepts (R17, R26)."""
    SEND_FAILED = 1505
    """A packet could not be sent, or too many wait to be sent (R1, R10)."""


STANDARD_MESSAGES: Final[dict[int, str]] = {
    ErrorCode.UNSUPPORTED_METHOD: "Method not supported at destination",
    ErrorCode.RECIPIENT_NOT_FOUND: "Recipient not found",
    ErrorCode.REQUEST_PAYLOAD_TOO_LARGE: "Request payload too large",
    ErrorCode.UNSUPPORTED_SERVER: "RPC not supported by server",
    ErrorCode.UNSUPPORTED_VERSION: "Unsupported RPC version",
    ErrorCode.APPLICATION_ERROR: "Application error in method handler",
    ErrorCode.CONNECTION_TIMEOUT: "Connection timeout",
    ErrorCode.RESPONSE_TIMEOUT: "Response timeout",
    ErrorCode.RECIPIENT_DISCONNECTED: "Recipient disconnected",
    ErrorCode.RESPONSE_PAYLOAD_TOO_LARGE: "Response payload too large",
    ErrorCode.SEND_FAILED: "Failed to send",
}


class LocalProtocolError(Exception):
    """The local program used the engine incorrectly. Nothing has changed (R33)."""


def standard_error(code: int, message: str, data: str) -> tuple[int, str, str]:
    """The error as both sides show it: cut to its limits, never without a message (R18)."""
    return (
        int(code),
        cut(message, MAX_ERROR_MESSAGE_BYTES) or STANDARD_MESSAGES.get(code, ""),
        cut(data, MAX_ERROR_DATA_BYTES),
    )


def cut(text: str, max_bytes: int) -> str:
    """The longest beginning of `text` that fits `max_bytes` of UTF-8 in whole characters."""
    if len(text) * 4 <= max_bytes:
        return text
    return text.encode()[:max_bytes].decode(errors="ignore")


def require_text(value: object, name: str) -> bytes:
    """A local text in UTF-8, or LocalProtocolError if it is none (R33)."""
    try:
        return str.encode(value)  # type: ignore[arg-type]
    except TypeError:
        raise LocalProtocolError(f"{name} must be a str, not {type(value).__name__}") from None
    except UnicodeEncodeError:
        raise LocalProtocolError(f"{name} is not valid Unicode text for UTF-8") from None


def require_name(value: object, name: str, max_bytes: int, min_bytes: int = 1) -> None:
    """Raise LocalProtocolError unless this is a text of so many bytes in UTF-8 (R33)."""
    length = len(require_text(value, name))
    if length < min_bytes:
        raise LocalProtocolError(f"{name} must not be empty")
    if length > max_bytes:
        raise LocalProtocolError(f"{name} is {length} bytes of UTF-8, more than {max_bytes}")


def require_bytes(data: bytes | bytearray | memoryview, max_bytes: int) -> bytes:
    """A packet as bytes, or LocalProtocolError (R33); of one that is too large, no more than shows
    it."""
    if not isinstance(data, bytes | bytearray | memoryview):
        raise LocalProtocolError(f"a packet is bytes, not {type(data).__name__}")
    return bytes(data) if memoryview(data).nbytes <= max_bytes else bytes(max_bytes + 1)


def require_finite(value: object, name: str) -> float:
    """A local instant or duration in seconds, or LocalProtocolError (R33)."""
    if not isinstance(value, int | float):
        raise LocalProtocolError(f"{name} must be a number of seconds, not {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise LocalProtocolError(f"{name} must be finite")
    return number


def require_timeout(value: object, name: str) -> float:
    """A local duration in seconds, finite and above 0, or LocalProtocolError (R33)."""
    if (number := require_finite(value, name)) <= 0:
        raise LocalProtocolError(f"{name} must be above 0 seconds, not {number!r}")
    return number
