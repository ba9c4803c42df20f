"""Who is here, where nobody keeps a list: participants announce themselves, again and again.

For transports over a broker that carries messages and knows nothing of rooms. Plain objects: a
transport hands over what it hears, and when, and carries out what comes of it.
"""

import json
from collections.abc import Collection
from enum import StrEnum
from typing import Final, NamedTuple

from rpcproto.core.errors import LocalProtocolError, require_finite
from rpcproto.core.messages import MAX_UINT32
from rpcproto.transports import ParticipantJoined, ParticipantLeft

HEARTBEAT_INTERVAL: Final = 5.0
"""Seconds between two announcements of a participant, unless it says otherwise."""
MIN_HEARTBEAT_INTERVAL: Final = 0.05
MAX_HEARTBEAT_INTERVAL: Final = 3600.0
MISSED_HEARTBEATS: Final = 3
"""So many heartbeats in a row that do not come mean that a participant is gone."""

MAX_PARTICIPANTS: Final = 10_000
"""Participants that are known at once; those beyond are as if they had announced nothing."""
MAX_ANNOUNCEMENT_BYTES: Final = 1_024
MAX_CAPABILITIES: Final = 64
MAX_GENERATION: Final = 2**53


class Kind(StrEnum):
    """What an announcement says."""

    JOIN = "join"
    """I have just come, and whoever was here under my identity goes."""
    HERE = "here"
    """I am here: a heartbeat, or an answer."""
    LEAVE = "leave"


class Announcement(NamedTuple):
    """What a participant tells of itself. Its identity and sid are in no announcement: they come
    from where a broker can vouch for them (R36)."""

    kind: Kind
    generation: int = 1
    """Who has the higher one, and with equal ones the greater sid, has the identity."""
    asks: bool = False
    """Whether everybody is to answer."""
    heartbeat_interval: float = HEARTBEAT_INTERVAL
    client_protocol: int = 0
    capabilities: tuple[int, ...] = ()

    def encode(self) -> bytes:
        """JSON, at most MAX_ANNOUNCEMENT_BYTES long for what `decode_announcement` reads."""
        return json.dumps(self._asdict(), separators=(",", ":")).encode()


def decode_announcement(data: bytes) -> Announcement | None:
    """The announcement in any bytes, or None. Fields that are not known are not read (R34)."""
    if len(data) > MAX_ANNOUNCEMENT_BYTES:
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


class Heard(NamedTuple):
    """What comes of an announcement."""

    event: ParticipantJoined | ParticipantLeft | None = None
    answer: Kind | None = None
    """To be announced: HERE to whoever was heard, but to everybody if they have our identity, for
    what they hear must be in order; JOIN always to everybody."""
    is_put_out: bool = False
    """Somebody else has our identity now."""
    is_one_too_many: bool = False


class _Present(NamedTuple):
    arrival: ParticipantJoined
    generation: int
    overdue_at: float


class Presence:
    """The participants of a room, as one of them knows them from what it hears."""

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
        """What is announced of ourselves; `heartbeat_interval` is in seconds, 0.05 to 3600.

        `generation`, 0 to 2^53, should be higher than that of whoever was here under our identity:
        then all see at once who it belongs to, else after some words. A clock gives such numbers.
        Raises LocalProtocolError for what others would not read.
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
                "nobody would read an announcement with "
                f"generation={generation!r}, client_protocol={client_protocol!r}, "
                f"capabilities={capabilities!r}, heartbeat_interval={heartbeat_interval!r}"
            )
        self.identity: Final = identity
        self.sid: str = sid
        self._generation = generation
        self._is_fresh = True
        self._present: dict[str, _Present] = {}

    def announcement(self, kind: Kind, *, asks: bool = False) -> bytes:
        """What to tell the others now."""
        return self._announcement._replace(
            kind=kind, generation=self._generation, asks=asks
        ).encode()

    def rejoin(self, sid: str) -> None:
        """The connection was lost: nobody is here any more, and we come back as `sid`.

        The others then know that nothing comes of what they had asked before (R41). Whoever joined
        under our identity meanwhile keeps it.
        """
        self.sid = sid
        self._generation = min(self._generation + 1, MAX_GENERATION)
        self._is_fresh = False
        self._present.clear()

    def hear(self, identity: str, sid: str, announcement: Announcement, now: float) -> Heard:
        """An announcement came in, at `now` in seconds on the transport's clock."""
        if identity == self.identity:
            return self._hear_namesake(sid, announcement)
        known = self._present.get(identity)
        if announcement.kind is Kind.LEAVE:
            if known is None or known.arrival.participant_sid != sid:
                return Heard()
            del self._present[identity]
            return Heard(ParticipantLeft(identity, sid))
        answer = Kind.HERE if announcement.asks else None
        if known is None and len(self._present) >= MAX_PARTICIPANTS:
            return Heard(answer=answer, is_one_too_many=True)
        if (
            known is not None
            and announcement.kind is Kind.HERE
            and known.arrival.participant_sid != sid
        ):
            # Both think that they have the identity, until the one hears of the other.
            rank, known_rank = (
                (announcement.generation, sid),
                (known.generation, known.arrival.participant_sid),
            )
            if rank < known_rank:
                return Heard(answer=answer)
        arrival = ParticipantJoined(
            identity, sid, announcement.client_protocol, announcement.capabilities
        )
        # Half an interval is for the way of the last one.
        patience = (MISSED_HEARTBEATS + 0.5) * announcement.heartbeat_interval
        self._present[identity] = _Present(arrival, announcement.generation, now + patience)
        is_news = known is None or known.arrival != arrival
        return Heard(arrival if is_news else None, answer)

    def _hear_namesake(self, sid: str, announcement: Announcement) -> Heard:
        """Of two under one identity exactly one stays, in whatever order they hear each other:
        who came later, or if neither knows, who ranks higher."""
        if sid == self.sid or announcement.kind is Kind.LEAVE:
            return Heard()
        if (announcement.generation, sid) < (self._generation, self.sid):
            return Heard(answer=Kind.HERE)  # for the other to see what follows
        if announcement.kind is Kind.JOIN or not self._is_fresh:
            return Heard(is_put_out=True)
        # The other was here before us, or it would have announced a join: it goes.
        self._generation = min(announcement.generation + 1, MAX_GENERATION)
        return Heard(answer=Kind.JOIN)

    def remove_overdue(self, now: float) -> list[ParticipantLeft]:
        """Take out those whose heartbeats did not come."""
        overdue = [present for present in self._present.values() if present.overdue_at <= now]
        for present in overdue:
            del self._present[present.arrival.identity]
        return [
            ParticipantLeft(present.arrival.identity, present.arrival.participant_sid)
            for present in overdue
        ]

    @property
    def next_overdue(self) -> float | None:
        """When the next one is overdue if nothing more is heard."""
        return min((present.overdue_at for present in self._present.values()), default=None)
