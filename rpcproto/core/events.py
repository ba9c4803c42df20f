"""The events that a host takes from an engine."""

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
    """The recipient has received the request, and its handler may be running. Emitted at most once
    for each call (R4)."""

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
    """The call ended with an error, from the recipient or from the engine. See `ErrorCode`."""

    request_id: str
    code: int
    message: str
    data: str


@final
@_event
class InvocationReceived(NamedTuple):
    """A request arrived. Run the handler of `method`, then call `respond` or `respond_error`.

    `response_timeout` is the caller's value, in seconds (R20).
    """

    invocation_id: int
    request_id: str
    caller_identity: str
    method: str
    payload: str
    response_timeout: float


class AbandonReason(Enum):
    """Why the answer to an invocation is no longer needed."""

    CALLER_LEFT = "caller left"
    """The caller left, or came back under a new sid (R19)."""
    EXPIRED = "expired"
    """The time for the answer has passed (R20)."""
    DISCONNECTED = "disconnected"
    """The connection was lost (R41)."""
    CLOSED = "closed"
    """The engine was closed (R42)."""


@final
@_event
class InvocationAbandoned(NamedTuple):
    """The answer to an invocation is no longer needed. The host can cancel its handler (R19,
    R20)."""

    invocation_id: int
    reason: AbandonReason


class IgnoreReason(Enum):
    """Why a received packet had no effect (R32).

    *Only counted* means that no `PacketIgnored` is emitted.
    """

    MALFORMED = "malformed"
    """The packet is not valid protobuf, or a name or id in it has an invalid length (R28)."""
    TOO_LARGE = "too large"
    """The packet is larger than `max_packet_bytes` (R28)."""
    NOT_FOR_US = "not for us"
    """The packet has destinations, and this participant is not one of them (R39)."""
    FROM_OURSELVES = "from ourselves"
    """The sender is this participant itself (R39)."""
    NO_SENDER = "no sender"
    """The request has no sender, so it cannot be answered (R21)."""
    WRONG_SENDER = "wrong sender"
    """The answer does not come from the participant that was called (R7)."""
    IMPERSONATION = "impersonation"
    """The sid is announced for another identity, or the stream is marked as generated (R24)."""
    ENCRYPTED = "encrypted"
    """The packet is encrypted, and the engine has no cryptor (R43)."""
    UNKNOWN_KIND = "unknown kind"
    """The packet does not belong to RPC (R34). Only counted."""
    UNKNOWN_TOPIC = "unknown topic"
    """The topic of the stream does not belong to RPC (R24)."""
    UNKNOWN_STREAM = "unknown stream"
    """The chunk or trailer belongs to no open stream (R23). Only counted."""
    UNKNOWN_CALL = "unknown call"
    """The answer belongs to no call of this participant."""
    LATE = "late"
    """The answer belongs to a call that has ended. Only counted."""
    REPEAT = "repeat"
    """The packet, header, chunk or request is a duplicate (R16, R25, R37). Only counted."""
    OVERLOADED = "overloaded"
    """Too many packets or events wait for the host, so the request was not accepted."""
    DISCONNECTED = "disconnected"
    """The connection is lost (R41)."""
    PLAIN = "plain"
    """The packet is not encrypted, and the engine has a cryptor (R45)."""
    NO_KEY = "no key"
    """The engine has no key of the sender at the index that the packet names (R44)."""
    UNDECRYPTABLE = "undecryptable"
    """The packet was encrypted with another key, or modified (R44)."""


Ignored: TypeAlias = IgnoreReason | None
"""What becomes of a packet: why it has no effect, or None if it has one."""

ONLY_COUNTED = frozenset(
    {IgnoreReason.UNKNOWN_KIND, IgnoreReason.UNKNOWN_STREAM, IgnoreReason.LATE, IgnoreReason.REPEAT}
)
"""What a healthy room is full of: counted in the statistics, never told as an event (R32)."""


@final
@_event
class PacketIgnored(NamedTuple):
    """A received packet had no effect. `sender_identity` is empty if the sender is unknown."""

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
"""Every event of an engine."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """The sizes of an engine's tables, and the numbers of packets since it was made.

    `waiting_packets` counts the small packets that wait for `next_packet`, and `waiting_bytes` is
    the size of these packets and of the bodies of outgoing streams. `buffered_bytes` is the size of
    received payloads, which `max_buffered_bytes` limits. `ignored` counts packets by reason.
    """

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
