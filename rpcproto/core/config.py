"""Every bound and every duration of the engine, in one place."""

from dataclasses import dataclass, fields
from typing import Final, final

from rpcproto.core.errors import LocalProtocolError, require_finite, require_timeout

KIB: Final = 1024
MIB: Final = 1024 * KIB


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RpcConfig:
    """Durations in seconds, sizes in bytes, the rest in items.

    All numbers are above 0, except that `departure_grace` may be 0. Raises LocalProtocolError for
    any other value; durations must be finite as well.
    """

    response_timeout: float = 10.0
    """A whole call, network latency included (R2)."""
    ack_timeout: float = 7.0
    """How long a call waits for a sign of life (R3)."""
    latency_allowance: float = 2.0
    """What of a call's time the network gets; the rest is the handler's (R5)."""
    invocation_grace: float = 7.0
    """How much longer than its caller's figure an invocation may run (R20)."""
    max_invocation_lifetime: float = 3600.0
    """The most that any invocation may run (R20)."""
    stream_idle_timeout: float = 15.0
    """How long the body of a half-read stream may go without growing (R28)."""
    departure_grace: float = 0.0
    """How long calls can be answered after their recipient left (R9); 0 ends them at once."""

    max_payload_bytes: int = 16 * MIB
    """One payload, either way (R8, R17, R28)."""
    max_packet_bytes: int = 128 * KIB
    """A received packet; a larger one is not even parsed (R28)."""
    max_buffered_bytes: int = 64 * MIB
    """Payloads that came in and are not done with, in all (R28)."""
    max_buffered_bytes_per_sender: int = 32 * MIB
    """The same, of one participant (R28)."""
    max_waiting_bytes: int = 64 * MIB
    """What waits to be taken by `next_packet`."""
    max_pending_calls: int = 10_000
    """Calls of ours that have not ended (R1)."""
    max_invocations: int = 10_000
    """Invocations at once, in all (R22)."""
    max_invocations_per_caller: int = 1_000
    """Invocations at once, of one caller (R22)."""
    max_waiting_packets: int = 10_000
    """Small packets that wait to be taken; beyond it requests are ignored (R32)."""
    max_untaken_events: int = 100_000
    """Events that wait to be taken; beyond it requests are ignored, and what the application
    wants (`call`, `cancel`, `respond`, `respond_error`, `register_method`) raises."""
    remembered_requests: int = 4_096
    """Ended requests that are known again, in all (R16)."""
    remembered_requests_per_caller: int = 256
    """The same, of one caller (R16)."""
    sequence_window: int = 1_024
    """Sequence numbers of one sender that are told apart (R37)."""
    max_participants: int = 10_000
    """Announced participants (R40); further ones count as not announced."""

    accept_plain_packets: bool = False
    """Whether an engine with a cryptor also reads packets that are not encrypted (R45)."""

    def __repr__(self) -> str:
        """Name only the fields that differ from the defaults: signatures stay readable."""
        values = ((field.name, getattr(self, field.name), field.default) for field in fields(self))
        return f"RpcConfig({', '.join(f'{n}={v!r}' for n, v, default in values if v != default)})"

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "departure_grace" and value == 0:
                require_finite(value, field.name)
            elif field.type is bool:
                if not isinstance(value, bool):
                    raise LocalProtocolError(f"{field.name} must be a bool")
            elif field.type is float:
                require_timeout(value, field.name)
            elif type(value) is not int or value <= 0:
                raise LocalProtocolError(f"{field.name} must be an int above 0")
