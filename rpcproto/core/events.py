"""What comes of it: the events a host takes from the engine. Flat, frozen and complete."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, TypeAlias, TypeVar, final

_E = TypeVar("_E", bound=tuple[object, ...])


def _event(kind: type[_E]) -> type[_E]:
    """Events are named tuples, which are made in a fraction of the time that frozen dataclasses
    take; but no event equals one of another kind, or a plain tuple."""

    def equals(self: _E, other: object) -> bool:
        return type(other) is kind and tuple.__eq__(self, other)

    def differs(self: _E, other: object) -> bool:
        return not equals(self, other)

    setattr(kind, "__eq__", equals)  # noqa: B010 (mypy takes no assignment to a method)
    setattr(kind, "__ne__", differs)  # noqa: B010
    return kind


@final
@_event
class CallAcknowledged(NamedTuple):
    """The responder has the request; its handler may be running now. At most once a call (R4)."""

    request_id: str


@final
@_event
class CallSucceeded(NamedTuple):
    """The call ended with a response."""

    request_id: str
    payload: str


@final
@_event
class CallFailed(NamedTuple):
    """The call ended with an error, the responder's or our own; see `ErrorCode`."""

    request_id: str
    code: int
    message: str
    data: str


@final
@_event
class InvocationReceived(NamedTuple):
    """Run the handler of `method`, then answer with `respond` or `respond_error`.

    `response_timeout` is the caller's own figure, in seconds (R20).
    """

    invocation_id: int
    request_id: str
    caller_identity: str
    method: str
    payload: str
    response_timeout: float


class AbandonReason(Enum):
    """Why an answer is no longer wanted."""

    CALLER_LEFT = "caller left"
    EXPIRED = "expired"
    DISCONNECTED = "disconnected"
    CLOSED = "closed"


@final
@_event
class InvocationAbandoned(NamedTuple):
    """Nobody waits for this invocation any more: its handler may be cancelled (R19, R20)."""

    invocation_id: int
    reason: AbandonReason


class IgnoreReason(Enum):
    """Why a received packet had no effect (R32)."""

    MALFORMED = "malformed"
    TOO_LARGE = "too large"
    NOT_FOR_US = "not for us"
    FROM_OURSELVES = "from ourselves"
    NO_SENDER = "no sender"
    WRONG_SENDER = "wrong sender"
    IMPERSONATION = "impersonation"
    ENCRYPTED = "encrypted"
    UNKNOWN_KIND = "unknown kind"
    UNKNOWN_TOPIC = "unknown topic"
    UNKNOWN_STREAM = "unknown stream"
    UNKNOWN_CALL = "unknown call"
    LATE = "late"
    REPEAT = "repeat"
    OVERLOADED = "overloaded"
    DISCONNECTED = "disconnected"
    PLAIN = "plain"
    NO_KEY = "no key"
    UNDECRYPTABLE = "undecryptable"


ONLY_COUNTED = frozenset(
    {IgnoreReason.UNKNOWN_KIND, IgnoreReason.UNKNOWN_STREAM, IgnoreReason.LATE, IgnoreReason.REPEAT}
)
"""What a healthy room is full of: counted in the statistics, never told as an event (R32)."""


@final
@_event
class PacketIgnored(NamedTuple):
    """A received packet had no effect. `sender_identity` is empty where nobody knows it."""

    reason: IgnoreReason
    sender_identity: str


Event: TypeAlias = (
    CallAcknowledged
    | CallSucceeded
    | CallFailed
    | InvocationReceived
    | InvocationAbandoned
    | PacketIgnored
)


@dataclass(frozen=True, slots=True)
class Statistics:
    """The engine's tables as they stand, and what passed through it since it was made."""

    pending_calls: int
    running_invocations: int
    open_streams_in: int
    open_streams_out: int
    waiting_packets: int
    waiting_bytes: int
    buffered_bytes: int
    packets_in: int
    packets_out: int
    ignored: Mapping[IgnoreReason, int]
