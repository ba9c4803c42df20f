"""All limits and durations of the engine."""

from dataclasses import dataclass, fields
from typing import Final, final

from rpcproto.core.errors import LocalProtocolError, require_finite, require_timeout

KIB: Final = 1024
MIB: Final = 1024 * KIB


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RpcConfig:
    """The timeouts and limits of an engine. Durations are in seconds, and sizes in bytes.

    Raises:
        LocalProtocolError: A number is not above 0 (`departure_grace` can be 0), or a duration
            is not finite.
    """

    response_timeout: float = 10.0
    """The maximum duration of a whole call, including the network (R2)."""
    ack_timeout: float = 7.0
    """How long a call waits for an ack or a response (R3, R4)."""
    latency_allowance: float = 2.0
    """The part of a call's `response_timeout` that is reserved for the network (R5)."""
    invocation_grace: float = 7.0
    """How much longer an invocation can run than the timeout in its request (R20)."""
    max_invocation_lifetime: float = 3600.0
    """The maximum duration of an invocation (R20)."""
    stream_idle_timeout: float = 15.0
    """The maximum time in which the body of an incomplete stream does not grow (R28)."""
    departure_grace: float = 0.0
    """How long a call can still be answered after its recipient left (R9). With 0, it ends at
    once."""

    max_payload_bytes: int = 16 * MIB
    """The maximum size of a payload, sent or received (R8, R17, R28)."""
    max_packet_bytes: int = 128 * KIB
    """The maximum size of a received packet. A larger one is ignored without being parsed (R28)."""
    max_buffered_bytes: int = 64 * MIB
    """The maximum total size of received payloads whose invocation or call has not ended (R28)."""
    max_buffered_bytes_per_sender: int = 32 * MIB
    """The maximum total size of these payloads from one participant (R28)."""
    max_waiting_bytes: int = 64 * MIB
    """The maximum total size of packets and bodies that wait for `next_packet`."""
    max_pending_calls: int = 10_000
    """The maximum number of this participant's calls that have not ended (R1)."""
    max_invocations: int = 10_000
    """The maximum number of simultaneous invocations (R22)."""
    max_invocations_per_caller: int = 1_000
    """The maximum number of simultaneous invocations by one caller (R22)."""
    max_waiting_packets: int = 10_000
    """The maximum number of small packets that wait for `next_packet`. Beyond it, requests are
    ignored (R32)."""
    max_untaken_events: int = 100_000
    """The maximum number of events that wait for `take_events`. Beyond it, requests are ignored,
    and `call`, `cancel`, `respond`, `respond_error` and `register_method` raise."""
    remembered_requests: int = 4_096
    """The total number of ended requests that are remembered to recognize duplicates (R16)."""
    remembered_requests_per_caller: int = 256
    """The number of these requests from one caller (R16)."""
    sequence_window: int = 1_024
    """The size of the window, up to a sender's highest sequence number, in which duplicates are
    recognized (R37). Lower numbers count as duplicates."""
    max_participants: int = 10_000
    """The maximum number of announced participants. Further ones count as not announced (R40)."""

    accept_plain_packets: bool = False
    """Whether an engine with a cryptor also accepts packets that are not encrypted (R45)."""

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
