"""The list of participants of a room, from their own announcements.

For transports over a broker that carries messages and does not know about rooms. The objects do no
I/O: the transport passes announcements with the time, and acts on the result.
"""

import heapq
import json
from collections import Counter
from collections.abc import Collection
from enum import StrEnum
from typing import Final, NamedTuple, final

from rpcproto.core.errors import LocalProtocolError, require_finite
from rpcproto.core.messages import MAX_UINT32
from rpcproto.transports import ParticipantJoined, ParticipantLeft

__all__ = [
    "HEARTBEAT_INTERVAL",
    "MAX_PARTICIPANTS",
    "MISSED_HEARTBEATS",
    "Announcement",
    "Heard",
    "Kind",
    "Presence",
    "decode_announcement",
]


HEARTBEAT_INTERVAL: Final = 5.0
"""The default time between two heartbeats of a participant, in seconds."""
MIN_HEARTBEAT_INTERVAL: Final = 0.05
MAX_HEARTBEAT_INTERVAL: Final = 3600.0
MISSED_HEARTBEATS: Final = 3
"""The number of missing heartbeats in a row after which a participant counts as departed."""

MAX_PARTICIPANTS: Final = 10_000
"""The maximum number of participants that are recorded at a time."""
MAX_ANSWERS: Final = 100
"""Answers within ANSWERS_TIME; beyond that a heartbeat at its end answers everybody who asks."""
MAX_ANSWERS_EACH: Final = 10
"""Answers to one identity within ANSWERS_TIME; further questions get one answer at its end."""
ANSWERS_TIME: Final = 1.0
"""In seconds."""
MAX_DEPARTURES: Final = 256
"""How many `remove_overdue` takes out at once."""
MAX_ANNOUNCEMENT_BYTES: Final = 1_024
MAX_BRACKETS: Final = 32
"""The most brackets, of both kinds, that an announcement opens."""
MAX_CAPABILITIES: Final = 64
MAX_GENERATION: Final = 2**53


class Kind(StrEnum):
    """The kind of an announcement."""

    JOIN = "join"
    """The sender has just joined. A participant that had its identity must leave."""
    HERE = "here"
    """The sender is in the room: a heartbeat, or an answer."""
    LEAVE = "leave"


@final
class Announcement(NamedTuple):
    """The announcement of a participant. It does not contain identity and sid: the broker names
    them, and can verify them (R36)."""

    kind: Kind
    generation: int = 1
    """If two participants announce one identity, the higher generation keeps it; if the generations
    are equal, the greater sid does."""
    asks: bool = False
    """Whether all participants should answer."""
    heartbeat_interval: float = HEARTBEAT_INTERVAL
    """Seconds between two heartbeats, 0.05 to 3600."""
    client_protocol: int = 0
    capabilities: tuple[int, ...] = ()

    def encode(self) -> bytes:
        """Return it as JSON."""
        return json.dumps(self._asdict(), separators=(",", ":")).encode()


def decode_announcement(data: bytes) -> Announcement | None:
    """Return the announcement in `data`, or None if there is none. Unknown fields are ignored
    (R34)."""
    # Deep nesting takes json longer than all the rest.
    if len(data) > MAX_ANNOUNCEMENT_BYTES or data.count(b"[") + data.count(b"{") > MAX_BRACKETS:
        return None
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    kind = fields.get("kind")
    generation = fields.get("generation", 1)
    interval = fields.get("heartbeat_interval", HEARTBEAT_INTERVAL)
    client_protocol = fields.get("client_protocol", 0)
    capabilities = fields.get("capabilities", [])
    if (
        kind in list(Kind)
        and _is_count(generation, MAX_GENERATION)
        and type(interval) in (int, float)
        and MIN_HEARTBEAT_INTERVAL <= interval <= MAX_HEARTBEAT_INTERVAL
        and _is_count(client_protocol, MAX_UINT32)
        and isinstance(capabilities, list)
        and len(capabilities) <= MAX_CAPABILITIES
        and all(_is_count(capability, MAX_UINT32) for capability in capabilities)
    ):
        return Announcement(
            Kind(kind),
            generation,
            fields.get("asks") is True,
            float(interval),
            client_protocol,
            tuple(capabilities),
        )
    return None


def _is_count(value: object, maximum: int) -> bool:
    return type(value) is int and 0 <= value <= maximum


@final
class Heard(NamedTuple):
    """The results of an announcement."""

    events: tuple[ParticipantJoined | ParticipantLeft, ...] = ()
    answer: Kind | None = None
    """The announcement to send as an answer, if any. Send HERE only to the participant that
    announced itself, and JOIN to all. If that participant has the same identity as this one, send
    HERE to all too, so that it receives the announcements in order."""
    is_put_out: bool = False
    """Another participant has this identity now, and this participant must leave."""
    is_one_too_many: bool = False
    """The participant was not recorded, because MAX_PARTICIPANTS are known already."""
    is_sid_taken: bool = False
    """The sid belongs to another identity; the participant counts as one without a sid."""


NOTHING: Final = Heard()


class _Present:
    """Another participant."""

    __slots__ = ("arrival", "generation", "is_due_at", "overdue_at", "sid")

    def __init__(self, arrival: ParticipantJoined, sid: str, generation: int) -> None:
        self.arrival = arrival
        """As it was reported, with an empty sid if another identity has it."""
        self.sid = sid
        self.generation = generation
        self.overdue_at = _NEVER
        self.is_due_at = _NEVER
        """The earliest entry in the heap, which may be earlier than `overdue_at`."""


_NEVER: Final = float("inf")


@final
class Presence:
    """The participants of a room, as far as one participant knows them from announcements.

    A participant that announces the sid of another one counts as one without a sid. So both
    participants are recorded and can be called, in whatever order they announce themselves.
    """

    def __init__(
        self,
        identity: str,
        sid: str,
        *,
        generation: int = 1,
        client_protocol: int = 0,
        capabilities: Collection[int] = (),
        heartbeat_interval: float = HEARTBEAT_INTERVAL,
    ) -> None:
        """Set the content of this participant's announcements.

        `heartbeat_interval` is in seconds, 0.05 to 3600.

        `generation`, 0 to 2^53, should be higher than that of an earlier participant under this
        identity. Otherwise, the others need more messages to find out which participant keeps the
        identity. Use the Unix time in microseconds, for example.

        Raises:
            LocalProtocolError: An argument is out of range.
        """
        require_finite(heartbeat_interval, "heartbeat_interval")
        self._announcement = Announcement(
            Kind.JOIN,
            generation,
            heartbeat_interval=heartbeat_interval,
            client_protocol=client_protocol,
            capabilities=tuple(capabilities),
        )
        if decode_announcement(self._announcement.encode()) != self._announcement:
            raise LocalProtocolError(
                "other participants could not read an announcement with "
                f"generation={generation!r}, client_protocol={client_protocol!r}, "
                f"capabilities={capabilities!r}, heartbeat_interval={heartbeat_interval!r}"
            )
        self.identity: Final = identity
        self.sid: str = sid
        self.heartbeat_by: float = _NEVER
        """The instant by which to send a heartbeat to all, in place of answers that were left out.
        Infinite if no answer was left out."""
        self._generation = generation
        self._is_fresh = True
        self._present: dict[str, _Present] = {}
        self._owners: dict[str, str] = {}
        """Who has a sid: the identity that was heard with it first."""
        self._due: list[tuple[float, str]] = []
        """A heap: when to look at a participant, which may have been heard again by then."""
        self._answers: Counter[str] = Counter()
        """Answers by identity, since ANSWERS_TIME before `_answers_until`."""
        self._late: set[str] = set()
        """Who is to be answered then."""
        self._answers_until = -_NEVER

    def announcement(self, kind: Kind, *, asks: bool = False) -> bytes:
        """Return the announcement to send now."""
        return self._announcement._replace(
            kind=kind, generation=self._generation, asks=asks
        ).encode()

    @property
    def longest_announcement(self) -> int:
        """The maximum size of an announcement of this participant, in bytes."""
        longest = self._announcement._replace(kind=Kind.LEAVE, generation=MAX_GENERATION)
        return len(longest.encode())

    def rejoin(self, sid: str) -> None:
        """Report that the connection was lost, and that this participant returns as `sid`. All
        others count as departed.

        The others then know that their earlier requests will not be answered (R41). If another
        participant has joined under this identity meanwhile, it keeps the identity.
        """
        self.sid = sid
        self._generation = min(self._generation + 1, MAX_GENERATION)
        self._is_fresh = False
        self._present.clear()
        self._owners.clear()
        self._due.clear()
        self.heartbeat_by = _NEVER
        self._late.clear()

    def hear(self, identity: str, sid: str, announcement: Announcement, now: float) -> Heard:
        """Process an announcement at `now`, in seconds on the transport's clock."""
        if identity == self.identity:
            return self._hear_namesake(sid, announcement)
        known = self._present.get(identity)
        if announcement.kind is Kind.LEAVE:
            if known is None or known.sid != sid:
                return NOTHING
            return Heard((self._remove(known),))
        answer = self._answer(identity, now) if announcement.asks else None
        if known is None and len(self._present) >= MAX_PARTICIPANTS:
            return Heard((), answer, is_one_too_many=True)
        if (
            known is not None
            and announcement.kind is Kind.HERE
            and known.sid != sid
            and (announcement.generation, sid) < (known.generation, known.sid)
        ):
            # Both think that they have the identity, until the one hears of the other.
            return Heard((), answer)
        # Half an interval is for the way of the last one.
        overdue_at = now + (MISSED_HEARTBEATS + 0.5) * announcement.heartbeat_interval
        events, present = self._record(identity, sid, announcement)
        self._expect(present, overdue_at)
        return Heard(events, answer, is_sid_taken=not present.arrival.participant_sid)

    def _record(
        self, identity: str, sid: str, announcement: Announcement
    ) -> tuple[tuple[ParticipantJoined | ParticipantLeft, ...], _Present]:
        """What is known of a participant now, and what of that is new."""
        is_free = sid != self.sid and self._owners.get(sid, identity) == identity
        arrival = ParticipantJoined(
            identity,
            sid if is_free else "",
            announcement.client_protocol,
            announcement.capabilities,
        )
        present = self._present.get(identity)
        events: tuple[ParticipantJoined | ParticipantLeft, ...] = (arrival,)
        if present is not None and present.sid == sid and present.arrival == arrival:
            events = ()
        elif present is not None and present.sid != sid:
            goodbye = self._remove(present)
            if not (goodbye.participant_sid and arrival.participant_sid):
                events = (goodbye, arrival)  # an engine that knows both sids sees it by itself
            present = None
        if present is None:
            present = self._present[identity] = _Present(arrival, sid, announcement.generation)
        present.arrival, present.generation = arrival, announcement.generation
        if is_free:
            self._owners[sid] = identity
        return events, present

    def _remove(self, present: _Present) -> ParticipantLeft:
        identity = present.arrival.identity
        del self._present[identity]
        if self._owners.get(present.sid) == identity:
            del self._owners[present.sid]
        return ParticipantLeft(identity, present.arrival.participant_sid)

    def _answer(self, identity: str, now: float) -> Kind | None:
        """The answer to somebody who asks, if it is to have one of its own."""
        if now >= self._answers_until:
            self._answers.clear()
            self._answers_until = now + ANSWERS_TIME
        if self._answers[identity] >= MAX_ANSWERS_EACH:
            self._late.add(identity)
            return None
        if self._answers.total() >= MAX_ANSWERS:
            self.heartbeat_by = self._answers_until
            return None
        self._answers[identity] += 1
        return Kind.HERE

    def _hear_namesake(self, sid: str, announcement: Announcement) -> Heard:
        """Of two under one identity exactly one stays, in whatever order they hear each other:
        who came later, or if neither knows, who ranks higher."""
        if sid == self.sid or announcement.kind is Kind.LEAVE:
            return NOTHING
        if (announcement.generation, sid) < (self._generation, self.sid):
            return Heard(answer=Kind.HERE)  # for the other to see what follows
        if announcement.kind is Kind.JOIN or not self._is_fresh:
            return Heard(is_put_out=True)
        # The other was here before us, or it would have announced a join: it goes.
        self._generation = min(announcement.generation + 1, MAX_GENERATION)
        return Heard(answer=Kind.JOIN)

    def _expect(self, present: _Present, overdue_at: float) -> None:
        """Count a participant as here until `overdue_at`."""
        present.overdue_at = overdue_at
        if overdue_at >= present.is_due_at:
            return  # the heap's entry comes earlier, and is looked at again then
        present.is_due_at = overdue_at
        heapq.heappush(self._due, (overdue_at, present.arrival.identity))
        if len(self._due) > 2 * len(self._present) + MAX_DEPARTURES:
            self._due = [(each.overdue_at, name) for name, each in self._present.items()]
            heapq.heapify(self._due)
            for each in self._present.values():
                each.is_due_at = each.overdue_at

    @property
    def identities(self) -> Collection[str]:
        """The identities of all other participants."""
        return self._present.keys()

    def knows(self, identity: str, sid: str) -> bool:
        """Return whether this participant is known under this sid."""
        present = self._present.get(identity)
        return present is not None and present.sid == sid

    def remove_overdue(self, now: float) -> list[ParticipantLeft]:
        """Remove participants whose heartbeats are missing, at most 256 at once."""
        departures: list[ParticipantLeft] = []
        while len(departures) < MAX_DEPARTURES:
            present = self._first_due()
            if present is None or present.overdue_at > now:
                break
            heapq.heappop(self._due)
            departures.append(self._remove(present))
        return departures

    @property
    def next_overdue(self) -> float | None:
        """The instant at which the next participant is overdue if no announcement arrives."""
        present = self._first_due()
        return None if present is None else present.overdue_at

    @property
    def next_due(self) -> float:
        """The instant at which to call `remove_overdue` and `take_late_answers`, and to check
        `heartbeat_by`. Infinite if there is none."""
        present = self._first_due()
        overdue_at = _NEVER if present is None else present.overdue_at
        return min(self.heartbeat_by, overdue_at, self._answers_until if self._late else _NEVER)

    def take_late_answers(self, now: float) -> Collection[str]:
        """Return the identities that must be answered now, each once."""
        if now < self._answers_until:
            return ()
        late, self._late = self._late, set()
        return late

    def heartbeat_sent(self) -> None:
        """Report that the heartbeat of this participant was sent to all others."""
        self.heartbeat_by = _NEVER

    def _first_due(self) -> _Present | None:
        """Who is overdue first; then its entry is the first of the heap."""
        while self._due:
            due_at, identity = self._due[0]
            present = self._present.get(identity)
            if present is None or present.is_due_at != due_at:
                heapq.heappop(self._due)
            elif present.overdue_at > due_at:
                present.is_due_at = present.overdue_at
                heapq.heapreplace(self._due, (present.overdue_at, identity))
            else:
                return present
        return None
