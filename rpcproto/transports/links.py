"""Links that lose, delay, duplicate and reorder packets, for rooms in memory and worlds."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from random import Random
from typing import Final, final

from rpcproto.core.messages import PacketKind

__all__ = ["Fate", "Link", "SentPacket"]


STEPS: Final = 4096
"""A drawn duration is a multiple of this part of `jitter` or `straggling`. The sums of instants are
then exact in binary, and do not depend on what else a clock has counted."""
TICK: Final = 2.0**-28
"""By how much a packet arrives after one that it had to wait for, in seconds (4 ns)."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """The link from one participant to another. Durations are in seconds, shares are from 0 to 1.

    Packets arrive in the order in which they were sent, except those that are held back.

    Raises:
        ValueError: A duration is below 0 or infinite, or a share is not from 0 to 1.
    """

    latency: float = 0.0
    """The minimum time that a packet takes."""
    jitter: float = 0.0
    """The maximum additional time. Later packets wait for a delayed one."""
    loss: float = 0.0
    """The share of packets that never arrive."""
    repetition: float = 0.0
    """The share of packets that arrive twice. The duplicate is a straggler."""
    reordering: float = 0.0
    """The share of packets that are held back, so that later packets overtake them."""
    send_failure: float = 0.0
    """The share of packets that the sender's host cannot send and reports to its engine (R10)."""
    straggling: float = 1.0
    """The maximum additional delay of a straggler: a packet that is held back, or a duplicate."""

    def __post_init__(self) -> None:
        for name in ("latency", "jitter", "straggling"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be finite and not below 0")
        for name in ("loss", "repetition", "reordering", "send_failure"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1")

    def healed(self) -> "Link":
        """Return a link with the same latency and jitter that is reliable and in order."""
        return replace(self, loss=0.0, repetition=0.0, reordering=0.0, send_failure=0.0)


class Fate(Enum):
    """What happened to a packet."""

    CARRIED = "carried"
    """It arrived, or it is under way."""
    LOST = "lost"
    """The network lost it, or its destination was not connected when it would have arrived. A later
    replay can still deliver it."""
    NOT_SENT = "not sent"
    """Its sender could not send it."""


@final
@dataclass(slots=True, eq=False)
class SentPacket:
    """A packet that was sent, and what happened to it. Instants are in seconds."""

    sent_at: float
    sender_identity: str
    sender_sid: str
    destination_identity: str
    data: bytes
    """The packet as the engine returned it, without the fields that the network adds."""
    request_id: str = ""
    kind: PacketKind | None = None
    """None if no engine made the packet; `request_id` is empty then."""
    fate: Fate = Fate.CARRIED
    is_repeated: bool = False
    is_held_back: bool = False
    arrived_at: list[float] = field(default_factory=list)
    """When it was handed to its destination: more than once if it was duplicated or replayed."""


class Way:
    """One direction between two participants, and when its last packet in order arrives."""

    __slots__ = ("_latest_turn", "_random", "_sent_at", "arrives_until", "link")

    def __init__(self, link: Link, random: Random) -> None:
        self.link: Link = link
        self.arrives_until: float = 0.0
        self._sent_at = 0.0
        self._latest_turn = 0.0
        """When the last packet arrives or would have arrived, had it not been held back."""
        self._random = random

    def fails(self) -> bool:
        """Whether the sender's host cannot send the next packet (R10)."""
        share = self.link.send_failure
        return share > 0 and self._random.random() < share

    def arrivals(self, sent: SentPacket) -> tuple[float, ...]:
        """Return when a packet arrives, in seconds: never, once or twice; `sent` takes note."""
        link, chance = self.link, self._random.random
        if link.loss and chance() < link.loss:
            sent.fate = Fate.LOST
            return ()
        in_turn = self._in_turn(sent.sent_at)
        self._latest_turn = max(self._latest_turn, in_turn)
        sent.is_held_back = link.reordering > 0 and chance() < link.reordering
        sent.is_repeated = link.repetition > 0 and chance() < link.repetition
        if sent.is_held_back:
            first = in_turn + self._part_of(link.straggling)
        else:
            first = in_turn
            self.arrives_until, self._sent_at = in_turn, sent.sent_at
        if not sent.is_repeated:
            return (first,)
        return first, in_turn + self._part_of(link.straggling)

    def take_turn(self, now: float) -> float:
        """Return when something that is never lost nor held back arrives, in seconds.

        A packet that was sent before arrives at most its `straggling` later than this.
        """
        at = max(self._in_turn(now), self._latest_turn)
        self.arrives_until, self._sent_at, self._latest_turn = at, now, at
        return at

    def _in_turn(self, now: float) -> float:
        at = now + self.link.latency + self._part_of(self.link.jitter)
        if at >= self.arrives_until:
            return at
        # Packets that left together may arrive together; others arrive one after another.
        return self.arrives_until + (TICK if now > self._sent_at else 0.0)

    def _part_of(self, duration: float) -> float:
        return duration * (int(self._random.random() * STEPS) / STEPS)


class Links:
    """The links between all participants, and what is under way on them."""

    def __init__(self, link: Link, random_of: Callable[[str, str], Random]) -> None:
        """All directions have `link`; `random_of` is given a sender and a receiver."""
        self._links: list[tuple[str | None, str | None, Link]] = [(None, None, link)]
        self._random_of = random_of
        self._ways: dict[tuple[str, str], Way] = {}

    def set_link(self, link: Link, sender: str | None, receiver: str | None) -> None:
        """Let packets take this link from now on; None stands for everybody."""
        self._links.append((sender, receiver, link))
        for (from_, to), way in self._ways.items():
            if sender in (None, from_) and receiver in (None, to):
                way.link = link

    def heal(self) -> None:
        """From now on nothing is lost, repeated, held back or not sent."""
        self._links = [(from_, to, link.healed()) for from_, to, link in self._links]
        for way in self._ways.values():
            way.link = way.link.healed()

    def way(self, sender: str, receiver: str) -> Way:
        """The direction of packets; of all links that fit, the last that was set counts."""
        ends = sender, receiver
        way = self._ways.get(ends)
        if way is None:
            link = next(
                link
                for from_, to, link in reversed(self._links)
                if from_ in (None, sender) and to in (None, receiver)
            )
            way = self._ways[ends] = Way(link, self._random_of(sender, receiver))
        return way

    def longest_straggling(self, receiver: str) -> float:
        """For how long, in seconds, packets to a participant can be held back at most."""
        links = [link for _, to, link in self._links if to in (None, receiver)]
        return max((link.straggling for link in links if link.reordering), default=0.0)
