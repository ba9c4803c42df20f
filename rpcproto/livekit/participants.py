"""Who is in the room, as the server reports it, and who of them can be reached. No I/O.

A server announces a participant while it still joins (JOINING, JOINED), and drops or briefly keeps
what is sent to it before it is ACTIVE. So a participant is *here* only from ACTIVE on, or from its
first packet: the server may report ACTIVE up to 3 seconds late.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias, final

from google.protobuf.unknown_fields import UnknownFieldSet
from livekit.protocol.models import ParticipantInfo
from livekit.protocol.rtc import ParticipantUpdate

from rpcproto.livekit.errors import NotDeliveredError
from rpcproto.transports import ParticipantJoined, ParticipantLeft
from rpcproto.wire import MAX_IDENTITY_BYTES, decode

MAX_PARTICIPANTS: Final = 10_000
"""Participants that are recorded; further ones count as never announced."""
MAX_NAME_LENGTH: Final = 1_024
"""Characters of a name; a longer one is cut."""
MAX_ATTRIBUTES_BYTES: Final = 65_536
"""The most bytes of one participant's attributes; larger ones are not recorded."""
FULL_SNAPSHOT: Final = 2
"""The number of `ParticipantUpdate.full_snapshot`, which `livekit-protocol` does not have yet."""
REMEMBERED_DEPARTURES: Final = 1_000
"""Identities that are remembered after they left."""

ACTIVE: Final = "active"
KINDS: Final = tuple(name.lower() for name in ParticipantInfo.Kind.keys())  # noqa: SIM118
"""The kinds of participants, such as `agent` and `sip`."""
STATES: Final = {
    ParticipantInfo.JOINING: "joining",
    ParticipantInfo.JOINED: "joined",
    ParticipantInfo.ACTIVE: ACTIVE,
    ParticipantInfo.DISCONNECTED: "disconnected",
}


@final
@dataclass(frozen=True, slots=True)
class RemoteParticipant:
    """Another participant of the room, as it was at one moment."""

    identity: str
    sid: str
    """The server's id of this session. It changes when the participant joins again."""
    kind: str
    """`standard`, `agent`, `sip`, `ingress`, `egress`, `connector`, `bridge`, or the number of a
    kind that is newer."""
    name: str
    """The name to show to people, at most 1,024 characters; empty if there is none."""
    attributes: Mapping[str, str]
    """The participant's attributes; read-only."""
    state: str
    """`joining`, `joined` or `active`, as the server last reported it. A participant that has sent
    a packet can be reached although the server does not report `active` yet."""


@dataclass(frozen=True, slots=True)
class AttributesChanged:
    """The attributes of a participant changed; a removed attribute has an empty value."""

    participant: RemoteParticipant
    changed: Mapping[str, str]
    announcement: ParticipantJoined


@dataclass(frozen=True, slots=True)
class PermissionChanged:
    """The server has granted or revoked our own right to send."""

    may_send: bool


ParticipantsEvent: TypeAlias = (
    ParticipantJoined | ParticipantLeft | AttributesChanged | PermissionChanged
)


@dataclass(slots=True)
class _Known:
    """Somebody whom the server has announced."""

    details: RemoteParticipant
    announcement: ParticipantJoined
    is_here: bool


class Participants:
    """All other participants, by identity.

    The methods return what has changed for those who can be reached, in order. A participant that
    joins again under a new sid leaves first.
    """

    def __init__(self) -> None:
        self.may_send: bool = True
        """Whether the server forwards our packets."""
        self._own_identity = self._own_sid = ""
        self._known: dict[str, _Known] = {}
        self._joining = 0
        """How many of them are not here."""
        self._departed: OrderedDict[str, None] = OrderedDict()

    def join(
        self, us: ParticipantInfo, others: Iterable[ParticipantInfo]
    ) -> tuple[ParticipantJoined, ...]:
        """We have joined, and the server has listed the others; returns those who are here."""
        self._own_identity, self._own_sid = us.identity, us.sid
        self.may_send = may_send(us)
        events: list[ParticipantsEvent] = []
        for info in others:
            self._take(info, events)
        return tuple(event for event in events if isinstance(event, ParticipantJoined))

    def update(self, update: ParticipantUpdate) -> list[ParticipantsEvent]:
        """Take what the server reports after that."""
        events: list[ParticipantsEvent] = []
        for info in update.participants:
            self._take(info, events)
        if _is_full_snapshot(update):
            listed = {info.identity for info in update.participants}
            for identity in [one for one in self._known if one not in listed]:
                self._remove(identity, events)
        return events

    def packet_received(self, data: bytes) -> ParticipantJoined | None:
        """Take note of a packet: its sender can be reached, if the server has announced it."""
        if not self._joining:
            return None
        packet = decode(data)
        known = None if packet is None else self._known.get(packet.sender_identity)
        if known is None or known.is_here or packet is None:
            return None
        if packet.sender_sid and packet.sender_sid != known.details.sid:
            return None  # of a session before
        known.is_here = True
        self._joining -= 1
        return known.announcement

    def get(self, identity: str) -> RemoteParticipant | None:
        """The participant of this identity, if it can be reached."""
        known = self._known.get(identity)
        return known.details if known is not None and known.is_here else None

    def here(self) -> list[ParticipantJoined]:
        """All who can be reached, in the order in which the server announced them."""
        return [known.announcement for known in self._known.values() if known.is_here]

    def state_of(self, identity: str) -> str:
        """The state that the server last reported: one of `STATES`, or empty if it never announced
        this identity."""
        known = self._known.get(identity)
        if known is not None:
            return known.details.state
        return STATES[ParticipantInfo.DISCONNECTED] if identity in self._departed else ""

    def is_here(self, identity: str) -> bool:
        """Whether the participant can be reached."""
        known = self._known.get(identity)
        return known is not None and known.is_here

    def explain(self, identity: str) -> NotDeliveredError | None:
        """Why nothing has come back from this identity; None if it is here."""
        state = self.state_of(identity)
        if not state:
            message = f"the server has never announced {identity!r} in this room"
            return NotDeliveredError(message, "never_announced")
        if identity not in self._known:
            return NotDeliveredError(f"{identity!r} has left the room", "left")
        if not self.is_here(identity):
            message = f"{identity!r} is still joining (its state is {state!r}, not {ACTIVE!r})"
            return NotDeliveredError(message, "not_active")
        return None

    # within

    def _take(self, info: ParticipantInfo, events: list[ParticipantsEvent]) -> None:
        identity, known = info.identity, self._known.get(info.identity)
        if identity == self._own_identity:
            is_known = info.sid == self._own_sid and info.HasField("permission")
            if is_known and may_send(info) != self.may_send:
                self.may_send = may_send(info)
                events.append(PermissionChanged(self.may_send))
            return
        if info.state == ParticipantInfo.DISCONNECTED:
            # That of a session before is old news.
            if known is not None and known.details.sid == info.sid:
                self._remove(identity, events)
            return
        if known is not None and known.details.sid != info.sid:
            self._remove(identity, events)
            known = None
        if known is None:
            if len(self._known) >= MAX_PARTICIPANTS or not _fits(info):
                return
            self._departed.pop(identity, None)
            known = _Known(_details(info), _announcement(info), is_here=False)
            self._known[identity] = known
            self._joining += 1
            is_news = True
        else:
            is_news = self._change(known, info, events)
        if info.state == ParticipantInfo.ACTIVE and not known.is_here:
            known.is_here = True
            self._joining -= 1
            is_news = True
        if is_news and known.is_here:
            events.append(known.announcement)

    def _change(
        self, known: _Known, info: ParticipantInfo, events: list[ParticipantsEvent]
    ) -> bool:
        """Record what is new of somebody; whether it must be announced again."""
        before, known.details = known.details.attributes, _details(info)
        after, announcement = known.details.attributes, _announcement(info)
        is_news, known.announcement = announcement != known.announcement, announcement
        if known.is_here and before != after:
            changed = {name: after.get(name, "") for name in [*before, *after]}
            changed = {name: value for name, value in changed.items() if before.get(name) != value}
            read_only = MappingProxyType(changed)
            events.append(AttributesChanged(known.details, read_only, announcement))
        return is_news

    def _remove(self, identity: str, events: list[ParticipantsEvent]) -> None:
        known = self._known.pop(identity)
        self._departed[identity] = None
        if len(self._departed) > REMEMBERED_DEPARTURES:
            self._departed.popitem(last=False)
        if known.is_here:
            events.append(ParticipantLeft(identity, known.details.sid))
        else:
            self._joining -= 1


def may_send(info: ParticipantInfo) -> bool:
    """Whether the server forwards the packets of this participant."""
    return not info.HasField("permission") or info.permission.can_publish_data


def _is_full_snapshot(update: ParticipantUpdate) -> bool:
    """Whether everybody who is in the room is listed."""
    unknown = UnknownFieldSet(update)
    fields = [unknown[index] for index in range(len(unknown))]
    return bool(getattr(update, "full_snapshot", False)) or any(
        field.field_number == FULL_SNAPSHOT and field.wire_type == 0 and bool(field.data)
        for field in fields
    )


def _fits(info: ParticipantInfo) -> bool:
    """Whether these names can be names; a hidden participant has no identity."""
    identity, sid = info.identity.encode(), info.sid.encode()
    return 0 < len(identity) <= MAX_IDENTITY_BYTES and len(sid) <= MAX_IDENTITY_BYTES


def _announcement(info: ParticipantInfo) -> ParticipantJoined:
    return ParticipantJoined(
        info.identity, info.sid, info.client_protocol, tuple(map(int, info.capabilities))
    )


def _details(info: ParticipantInfo) -> RemoteParticipant:
    attributes = dict(info.attributes)
    size = sum(len(text.encode()) for pair in attributes.items() for text in pair)
    return RemoteParticipant(
        info.identity,
        info.sid,
        _kind_name(info.kind),
        info.name[:MAX_NAME_LENGTH],
        MappingProxyType(attributes if size <= MAX_ATTRIBUTES_BYTES else {}),
        STATES.get(info.state, str(info.state)),
    )


def _kind_name(kind: int) -> str:
    try:
        return ParticipantInfo.Kind.Name(kind).lower()
    except ValueError:  # one from the future
        return str(kind)
