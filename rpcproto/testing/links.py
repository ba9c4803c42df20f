"""What a network does to packets: a link, and what became of each packet that was sent."""

import math
from dataclasses import dataclass, field, replace
from enum import Enum

from rpcproto.core.messages import PacketKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """The way from one participant to another: durations in seconds, shares from 0 to 1.

    Packets arrive in the order in which they were sent, but for those that are held back.
    Raises ValueError for a duration below 0 or without end, and for a share that is none.
    """

    latency: float = 0.0
    """How long a packet takes at least."""
    jitter: float = 0.0
    """How much longer it may take; what comes behind it waits for it."""
    loss: float = 0.0
    """The share of packets that never arrive."""
    repetition: float = 0.0
    """The share of packets that arrive twice; the second is a straggler."""
    reordering: float = 0.0
    """The share of packets that are held back, and overtaken by what comes behind them."""
    send_failure: float = 0.0
    """The share of packets that the sender's host cannot send: it says so to its engine (R10)."""
    straggling: float = 1.0
    """How much later than in its turn a straggler may come: a packet that is held back, or the
    second of a repeated one."""

    def __post_init__(self) -> None:
        for name in ("latency", "jitter", "straggling"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be finite and not below 0")
        for name in ("loss", "repetition", "reordering", "send_failure"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1")

    def healed(self) -> "Link":
        """The same link as fast as before, but reliable and in order."""
        return replace(self, loss=0.0, repetition=0.0, reordering=0.0, send_failure=0.0)


class Fate(Enum):
    """What became of a packet."""

    CARRIED = "carried"
    """It arrived, or it is under way."""
    LOST = "lost"
    """The network lost it, or its destination was not there when it would have arrived. It may
    have been replayed all the same."""
    NOT_SENT = "not sent"
    """Its sender could not send it."""


@dataclass(slots=True, eq=False)
class SentPacket:
    """A packet that left a participant, and what became of it; instants are in seconds."""

    sent_at: float
    sender_identity: str
    sender_sid: str
    destination_identity: str
    data: bytes
    """As the engine gave it, without what the network adds."""
    request_id: str = ""
    kind: PacketKind | None = None
    """None for one that no engine made; it has no request id either."""
    fate: Fate = Fate.CARRIED
    is_repeated: bool = False
    is_held_back: bool = False
    arrived_at: list[float] = field(default_factory=list)
    """When it was handed to its destination: more than once if it was repeated or replayed."""
