"""The steps of a scenario: what happens to a host, and what must be so by then."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias, final

from rpcproto.core.config import RpcConfig
from rpcproto.core.messages import PacketKind
from rpcproto.transports import ParticipantJoined, TransportEvent

HOST: Final = "host"
"""The identity of the participant under test."""
PEER: Final = "peer"
"""The identity of the other participant, which the kit plays."""
PEER_SID: Final = "PA_peer"
PEER_IS_BACK: Final = ParticipantJoined(PEER, PEER_SID, 2, (2,))
CABLE_CUT: Final = ConnectionError("cable cut")
LATENCY: Final = 0.0625
ALL_KINDS: Final = frozenset(PacketKind)
SLOW_METHODS: Final = frozenset({"slow", "slow refusal", "slow crash", "endless", "stubborn"})
"""The methods whose handlers take time."""


@final
class Failure(NamedTuple):
    """An error with exactly these fields."""

    code: int
    message: str
    data: str = ""


Expected: TypeAlias = str | int | Failure | type[Exception]
"""An outcome: a payload, the code of an error, the whole error, or a class of exceptions."""


@final
@dataclass(frozen=True, slots=True)
class Call:
    """The host calls its peer. Later steps refer to the call by `name`."""

    name: str
    method: str = "echo"
    payload: str = "Hi"
    response_timeout: float | None = None
    destination: str = PEER


@final
@dataclass(frozen=True, slots=True)
class Cancel:
    """The host's program cancels a call."""

    name: str
    after_report: bool = False
    """Whether to cancel right after the next events are reported, before anything else runs."""


@final
@dataclass(frozen=True, slots=True)
class Ended:
    """Check that a call has one of these outcomes."""

    name: str
    outcomes: tuple[Expected, ...]


@final
@dataclass(frozen=True, slots=True)
class Pending:
    """Check that a call has no outcome."""

    name: str


@final
@dataclass(frozen=True, slots=True)
class PeerCall:
    """The peer calls the host. Check that it receives this outcome within two seconds."""

    method: str
    outcome: Expected
    payload: str = "Hi"


@final
@dataclass(frozen=True, slots=True)
class PeerStarts:
    """The peer calls the host. Later steps refer to the call by `name`."""

    name: str
    method: str
    payload: str = "Hi"
    response_timeout: float | None = None


@final
@dataclass(frozen=True, slots=True)
class PeerEnded:
    """Check that a call of the peer has this outcome, or none (None)."""

    name: str
    outcome: Expected | None


@final
@dataclass(frozen=True, slots=True)
class Handlers:
    """Check how many slow handlers have not ended, and how many were cancelled."""

    running: int = 0
    cancelled: int = 0


@final
@dataclass(frozen=True, slots=True)
class Heard:
    """Check the payloads of all requests that have reached the peer, in order."""

    payloads: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True)
class Sent:
    """Check how many packets of a kind the host has sent."""

    kind: PacketKind
    packets: int


@final
@dataclass(frozen=True, slots=True)
class SentNothing:
    """Check that the host sent nothing during the last step that was not a check."""


@final
@dataclass(frozen=True, slots=True)
class Advance:
    """Time passes."""

    seconds: float


@final
@dataclass(frozen=True, slots=True)
class Jump:
    """Time passes while no code runs, as when a laptop sleeps. Timers fire late."""

    seconds: float


@final
@dataclass(frozen=True, slots=True)
class Timers:
    """From now on, timers fire `early` seconds too early, even after they were cancelled (`stale`),
    or twice (`repeated`)."""

    early: float = 0.0
    stale: bool = False
    repeated: bool = False


@final
@dataclass(frozen=True, slots=True)
class Network:
    """From now on, the network treats packets like this, in both directions unless stated below."""

    latency: float | None = LATENCY
    """The time that a packet takes, in seconds. None means that it arrives during `send`."""
    lost: frozenset[PacketKind] = frozenset()
    """The kinds of packets that are lost."""
    times: int = 1
    """How many times each packet to the host arrives."""
    is_held: bool = False
    """Whether packets to the host are held back until `Happens`."""
    sid: str = PEER_SID
    """The sid that the channel reports for the sender of packets to the host."""
    claimed_sender: str = ""
    """The sender that packets to the host claim. The channel reports the true one."""


@final
@dataclass(frozen=True, slots=True)
class Room:
    """Set whether the channel is full, and how many seconds it takes to send each packet."""

    is_full: bool = False
    seconds_per_packet: float = 0.0


@final
@dataclass(frozen=True, slots=True)
class NotSent:
    """The next packets of the host, or the next of a kind, are not sent. The connection still
    exists."""

    kind: PacketKind | None = None
    packets: int = 1


@final
@dataclass(frozen=True, slots=True)
class Breaks:
    """From now on, `Channel.send` raises this exception. None ends that."""

    cause: Exception | None


@final
@dataclass(frozen=True, slots=True)
class Happens:
    """The channel reports one batch: packets that were held back, then `events`."""

    events: tuple[TransportEvent, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class Cause:
    """Check the cause of the error of a call."""

    name: str
    cause: Exception


@final
@dataclass(frozen=True, slots=True)
class Close:
    """The host leaves."""


Step: TypeAlias = (
    Call
    | Cancel
    | Ended
    | Pending
    | PeerCall
    | PeerStarts
    | PeerEnded
    | Handlers
    | Heard
    | Sent
    | SentNothing
    | Advance
    | Jump
    | Timers
    | Network
    | Room
    | NotSent
    | Breaks
    | Happens
    | Cause
    | Close
)
"""A step of a scenario."""


@final
@dataclass(frozen=True, slots=True)
class Scenario:
    """Steps that a host must pass. `str` returns the name."""

    name: str
    steps: Sequence[Step] = field(repr=False)
    topic: str = "of your own"
    """The topic, for the summary."""
    is_connected: bool = True
    """Whether the peer has joined and the channel is connected before the first step."""
    config: RpcConfig = RpcConfig()  # noqa: RUF009 (frozen)
    departure_grace: float = 0.0
    """The departure grace of the channel, in seconds."""

    def __str__(self) -> str:
        return self.name

    @property
    def has_slow_handlers(self) -> bool:
        """Whether it has handlers that take time."""
        return any(
            isinstance(step, PeerCall | PeerStarts) and step.method in SLOW_METHODS
            for step in self.steps
        )

    @property
    def has_config(self) -> bool:
        """Whether the host must use another config than the default."""
        return self.config != RpcConfig()
