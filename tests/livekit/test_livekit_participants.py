"""Who counts as here: from ACTIVE on, or from the first packet."""

from collections.abc import Mapping
from typing import Any

import pytest
from livekit.protocol.models import ParticipantInfo, ParticipantPermission
from livekit.protocol.rtc import ParticipantUpdate

from rpcproto.livekit import participants as module
from rpcproto.livekit.participants import (
    AttributesChanged,
    Participants,
    ParticipantsEvent,
    PermissionChanged,
    RemoteParticipant,
)
from rpcproto.transports import ParticipantJoined, ParticipantLeft
from rpcproto.wire import Ack, encode, stamp

JOINING, JOINED, ACTIVE, DISCONNECTED = (
    ParticipantInfo.JOINING,
    ParticipantInfo.JOINED,
    ParticipantInfo.ACTIVE,
    ParticipantInfo.DISCONNECTED,
)
US = ParticipantInfo(identity="alice", sid="PA_A", state=JOINED)


def bob(state: ParticipantInfo.State, sid: str = "PA_B", **fields: Any) -> ParticipantInfo:
    return ParticipantInfo(identity="bob", sid=sid, state=state, **{"client_protocol": 2, **fields})


HERE = ParticipantJoined("bob", "PA_B", 2)
LEFT = ParticipantLeft("bob", "PA_B")


class Room:
    """The participants of a room that we have joined."""

    def __init__(self, *others: ParticipantInfo) -> None:
        self.participants = Participants()
        self.welcome = self.participants.join(US, others)

    def hears(self, *infos: ParticipantInfo) -> list[ParticipantsEvent]:
        return self.participants.update(ParticipantUpdate(participants=infos))

    def gets_packet(self, identity: str, sid: str) -> ParticipantJoined | None:
        packet = encode(Ack("1"), identity, "alice")
        return self.participants.packet_received(stamp(packet, sender_sid=sid))


@pytest.mark.parametrize("state", [JOINING, JOINED])
def test_a_participant_is_here_from_active_on(state: ParticipantInfo.State) -> None:
    room = Room(bob(state))
    assert room.welcome == ()
    assert not room.participants.is_here("bob")
    assert room.hears(bob(state)) == []
    assert room.hears(bob(ACTIVE)) == [HERE]
    assert room.participants.is_here("bob")
    assert room.hears(bob(ACTIVE)) == []


def test_who_is_active_when_we_join_is_here() -> None:
    room = Room(bob(ACTIVE))
    assert room.welcome == (HERE,)


def test_a_packet_shows_that_its_sender_can_be_reached() -> None:
    room = Room(bob(JOINED))
    assert room.gets_packet("bob", "PA_B") == HERE
    assert room.gets_packet("bob", "PA_B") is None
    assert room.hears(bob(ACTIVE)) == []


def test_a_packet_without_a_sid_shows_it_too() -> None:
    assert Room(bob(JOINED)).gets_packet("bob", "") == HERE


@pytest.mark.parametrize(("identity", "sid"), [("bob", "PA_0"), ("carol", "PA_B"), ("", "PA_B")])
def test_a_packet_of_another_session_or_of_nobody_who_was_named_shows_nothing(
    identity: str, sid: str
) -> None:
    room = Room(bob(JOINED))
    assert room.gets_packet(identity, sid) is None
    assert not room.participants.is_here("bob")


def test_bytes_that_are_no_packet_show_nothing() -> None:
    assert Room(bob(JOINED)).participants.packet_received(b"\xff") is None


def test_who_goes_before_it_could_be_reached_was_never_here() -> None:
    room = Room()
    assert room.hears(bob(JOINED)) == []
    assert room.hears(bob(DISCONNECTED)) == []
    assert room.gets_packet("bob", "PA_B") is None


def test_a_new_session_is_here_when_it_is_active_itself() -> None:
    room = Room(bob(ACTIVE))
    assert room.hears(bob(JOINED, "PA_B2")) == [LEFT]
    assert room.hears(bob(DISCONNECTED)) == []  # the old one
    assert room.hears(bob(ACTIVE, "PA_B2")) == [ParticipantJoined("bob", "PA_B2", 2)]


def test_what_becomes_known_of_one_who_joins_is_told_when_it_is_here() -> None:
    room = Room(bob(JOINED, client_protocol=0))
    assert room.hears(bob(JOINED, client_protocol=2)) == []
    assert room.gets_packet("bob", "PA_B") == HERE


def full_snapshot(*infos: ParticipantInfo, value: int = 1) -> ParticipantUpdate:
    """With field 2, which the installed `livekit-protocol` may not know."""
    data = ParticipantUpdate(participants=infos).SerializeToString() + bytes([0x10, value])
    return ParticipantUpdate.FromString(data)


def test_who_is_not_in_a_full_snapshot_has_left() -> None:
    carol = ParticipantInfo(identity="carol", sid="PA_C", state=ACTIVE)
    dave = ParticipantInfo(identity="dave", sid="PA_D", state=JOINED)
    room = Room(bob(ACTIVE), carol, dave)
    update = room.participants.update
    assert update(full_snapshot(US, carol, value=0)) == []
    assert update(full_snapshot(US, carol)) == [LEFT]
    assert room.participants.state_of("dave") == "disconnected"
    assert update(full_snapshot()) == [ParticipantLeft("carol", "PA_C")]


def test_other_fields_from_the_future_make_no_snapshot() -> None:
    data = ParticipantUpdate().SerializeToString()
    for unknown in (b"\x18\x01", b"\x12\x01x"):  # field 3; field 2 as bytes
        room = Room(bob(ACTIVE))
        assert room.participants.update(ParticipantUpdate.FromString(data + unknown)) == []


# details


def test_the_details_of_a_participant_are_those_of_the_last_report() -> None:
    room = Room(bob(JOINED, kind=ParticipantInfo.AGENT, name="Bob", attributes={"role": "host"}))
    get = room.participants.get
    assert get("bob") is None
    room.gets_packet("bob", "PA_B")
    here = RemoteParticipant("bob", "PA_B", "agent", "Bob", {"role": "host"}, "joined")
    assert get("bob") == here
    assert room.participants.here() == [HERE]
    room.hears(bob(ACTIVE, kind=ParticipantInfo.SIP))
    assert get("bob") == RemoteParticipant("bob", "PA_B", "sip", "", {}, "active")
    room.hears(bob(DISCONNECTED))
    assert get("bob") is None


def test_a_kind_from_the_future_has_its_number_for_a_name() -> None:
    info = bob(ACTIVE)
    info.MergeFromString(b"\x70\x63")  # kind: 99
    details = Room(info).participants.get("bob")
    assert details is not None
    assert details.kind == "99"


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[Mapping[str, str]]:
    events = Room(bob(ACTIVE, attributes=before)).hears(bob(ACTIVE, attributes=after))
    return [event.changed for event in events if isinstance(event, AttributesChanged)]


def test_changed_attributes_are_told_and_removed_ones_are_empty() -> None:
    assert changed({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "4", "d": "5"}) == [
        {"b": "4", "c": "", "d": "5"}
    ]
    assert changed({"a": "1"}, {"a": "1"}) == []


def test_attributes_of_one_who_joins_are_not_told() -> None:
    assert Room(bob(JOINED)).hears(bob(JOINED, attributes={"a": "1"})) == []


def test_attributes_cannot_be_changed_by_the_program() -> None:
    details = Room(bob(ACTIVE, attributes={"a": "1"})).participants.get("bob")
    assert details is not None
    with pytest.raises(TypeError):
        details.attributes["a"] = "2"  # type: ignore[index]


def test_it_is_known_how_far_a_participant_has_come() -> None:
    room = Room(bob(JOINING))
    state_of = room.participants.state_of
    assert (state_of("bob"), state_of("carol")) == ("joining", "")
    room.hears(bob(ACTIVE))
    assert state_of("bob") == "active"
    room.hears(bob(DISCONNECTED))
    assert state_of("bob") == "disconnected"
    room.hears(bob(JOINED, "PA_B2"))
    assert state_of("bob") == "joined"


# ourselves


def test_a_change_of_our_right_to_send_is_told() -> None:
    def us(*, allowed: bool, sid: str = "PA_A") -> ParticipantInfo:
        permission = ParticipantPermission(can_publish_data=allowed)
        return ParticipantInfo(identity="alice", sid=sid, permission=permission)

    room = Room()
    assert room.hears(us(allowed=False, sid="PA_0")) == []  # of a session before
    assert room.hears(us(allowed=False)) == [PermissionChanged(False)]
    assert room.hears(us(allowed=False)) == []
    assert room.hears(US) == []  # says nothing of it
    assert not room.participants.may_send
    assert room.hears(us(allowed=True)) == [PermissionChanged(True)]


# bounds


def test_names_that_cannot_be_names_are_ignored() -> None:
    for identity, sid in (("", "PA_1"), ("é" * 129, "PA_1"), ("bob", "é" * 129)):
        info = ParticipantInfo(identity=identity, sid=sid, state=ACTIVE)
        assert Room().hears(info) == []


def test_what_a_server_reports_is_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PARTICIPANTS", 2)
    monkeypatch.setattr(module, "REMEMBERED_DEPARTURES", 1)

    def numbered(number: int, state: ParticipantInfo.State = ACTIVE) -> ParticipantInfo:
        return ParticipantInfo(identity=f"p{number}", sid=f"PA_{number}", state=state)

    room = Room(*map(numbered, range(3)))
    assert [one.identity for one in room.welcome] == ["p0", "p1"]
    room.hears(numbered(0, DISCONNECTED), numbered(1, DISCONNECTED))
    states = [room.participants.state_of(name) for name in ("p0", "p1")]
    assert states == ["", "disconnected"]


def test_large_details_are_cut_or_left_out() -> None:
    attributes = {"a": "é" * 32_768}
    details = Room(bob(ACTIVE, name="é" * 2_000, attributes=attributes)).participants.get("bob")
    assert details is not None
    assert details.name == "é" * 1_024
    assert details.attributes == {}
