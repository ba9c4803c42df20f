"""Who is here, by what participants announce of themselves: on time that is handed over."""

import itertools
import json
import math
import sys
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcproto import LocalProtocolError
from rpcproto.transports import ParticipantJoined, ParticipantLeft
from rpcproto.transports.presence import (
    MAX_ANSWERS,
    MAX_ANSWERS_EACH,
    MAX_DEPARTURES,
    MAX_PARTICIPANTS,
    NOTHING,
    Announcement,
    Heard,
    Kind,
    Presence,
    decode_announcement,
)

BOB = Announcement(Kind.JOIN, client_protocol=2, capabilities=(2,), heartbeat_interval=2.0)
BOB_IS_HERE = BOB._replace(kind=Kind.HERE)
BOB_LEAVES = BOB._replace(kind=Kind.LEAVE)


def alice(sid: str = "PA_a") -> Presence:
    return Presence("alice", sid, heartbeat_interval=1.0)


def joined(sid: str = "PA_b", client_protocol: int = 2) -> ParticipantJoined:
    return ParticipantJoined("bob", sid, client_protocol, (2,))


# announcements


announcements = st.builds(
    Announcement,
    st.sampled_from(Kind),
    st.integers(0, 2**53),
    st.booleans(),
    st.floats(0.05, 3600),
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 2**32 - 1), max_size=64).map(tuple),
)


@given(announcements)
def test_an_announcement_is_read_as_it_was_written(announcement: Announcement) -> None:
    assert decode_announcement(announcement.encode()) == announcement


def test_what_an_announcement_leaves_out_is_the_least() -> None:
    assert decode_announcement(b'{"kind": "here"}') == Announcement(Kind.HERE)


def test_fields_that_are_not_known_are_not_read() -> None:
    data = json.dumps({**BOB._asdict(), "mood": {"good": [1, 2]}}).encode()
    assert decode_announcement(data) == BOB


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "HERE"},
        {"kind": None},
        {"kind": ["here"]},
        {"kind": 1},
        {"generation": -1},
        {"generation": 2**53 + 1},
        {"generation": "1"},
        {"generation": True},
        {"generation": 1.5},
        {"heartbeat_interval": 0},
        {"heartbeat_interval": 3601},
        {"heartbeat_interval": math.nan},
        {"heartbeat_interval": math.inf},
        {"heartbeat_interval": "5"},
        {"client_protocol": -1},
        {"client_protocol": 2**32},
        {"client_protocol": None},
        {"capabilities": None},
        {"capabilities": {}},
        {"capabilities": ["2"]},
        {"capabilities": [-1]},
        {"capabilities": [2**32]},
        {"capabilities": [0] * 65},
        {"more": "x" * 1024},
    ],
    ids=str,
)
def test_a_field_that_means_nothing_makes_an_announcement_malformed(change: dict[str, Any]) -> None:
    assert decode_announcement(json.dumps({**BOB._asdict(), **change}).encode()) is None


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff", b"null", b"[]", b"{}", b'"here"', b"here", b"[" * 1024, b'{"kind":"here"}\x00'],
)
def test_bytes_that_are_none_are_no_announcement(data: bytes) -> None:
    assert decode_announcement(data) is None


@given(st.binary(max_size=1100) | st.text(max_size=1100).map(str.encode))
def test_no_bytes_raise(data: bytes) -> None:
    decode_announcement(data)


@pytest.mark.parametrize(
    "own",
    [
        {"heartbeat_interval": 0.01},
        {"heartbeat_interval": math.nan},
        {"generation": 2**53 + 1},
        {"client_protocol": -1},
        {"capabilities": range(65)},
        {"capabilities": [2**32]},
    ],
    ids=str,
)
def test_what_others_would_not_read_is_misuse(own: dict[str, Any]) -> None:
    with pytest.raises(LocalProtocolError):
        Presence("alice", "PA_a", **own)


# who is here


def test_somebody_is_announced_once_and_again_when_something_is_new() -> None:
    us = alice()
    assert us.hear("bob", "PA_b", BOB, 0.0) == Heard((joined(),))
    assert us.hear("bob", "PA_b", BOB_IS_HERE, 1.0) == NOTHING
    changed = BOB_IS_HERE._replace(client_protocol=1)
    assert us.hear("bob", "PA_b", changed, 2.0) == Heard((joined(client_protocol=1),))


def test_whoever_asks_is_answered() -> None:
    us = alice()
    asking = BOB._replace(asks=True)
    assert us.hear("bob", "PA_b", asking, 0.0) == Heard((joined(),), Kind.HERE)
    assert us.hear("bob", "PA_b", asking, 0.0) == Heard((), Kind.HERE)


def test_a_goodbye_counts_for_its_own_sid() -> None:
    us = alice()
    us.hear("bob", "PA_b1", BOB, 0.0)
    assert us.hear("bob", "PA_b2", BOB, 1.0) == Heard((joined("PA_b2"),))
    assert us.hear("bob", "PA_b1", BOB_LEAVES, 2.0) == NOTHING
    assert us.hear("bob", "PA_b2", BOB_LEAVES, 2.0) == Heard((ParticipantLeft("bob", "PA_b2"),))
    assert us.hear("bob", "PA_b2", BOB_LEAVES, 2.0) == NOTHING
    assert us.hear("bob", "PA_b2", BOB_IS_HERE, 3.0) == Heard((joined("PA_b2"),))


def test_three_missed_heartbeats_mean_that_somebody_is_gone() -> None:
    us = alice()
    us.hear("bob", "PA_b", BOB, 10.0)  # who says: every 2 seconds
    assert us.next_overdue == 17.0
    assert us.remove_overdue(16.9) == []
    us.hear("bob", "PA_b", BOB_IS_HERE, 16.9)
    assert us.remove_overdue(17.0) == []
    assert us.next_overdue == 23.9
    assert us.remove_overdue(23.9) == [ParticipantLeft("bob", "PA_b")]
    assert us.remove_overdue(99.0) == []
    assert us.next_overdue is None


def test_a_sid_that_was_left_behind_is_not_missed() -> None:
    us = alice()
    us.hear("bob", "PA_b1", BOB, 0.0)
    us.hear("bob", "PA_b2", BOB, 6.0)
    assert us.remove_overdue(7.0) == []
    assert us.next_overdue == 13.0


def test_a_heartbeat_of_an_older_sid_does_not_bring_it_back() -> None:
    us = alice()
    us.hear("bob", "PA_1", BOB, 0.0)
    us.hear("bob", "PA_2", BOB, 0.0)
    assert us.hear("bob", "PA_1", BOB_IS_HERE, 1.0) == NOTHING


def test_a_join_counts_even_after_one_of_a_higher_generation() -> None:
    """Who crashed and comes back knows nothing of generations."""
    us = alice()
    us.hear("bob", "PA_2", BOB._replace(generation=7), 0.0)
    assert us.hear("bob", "PA_1", BOB, 1.0) == Heard((joined("PA_1"),))


def test_who_comes_back_after_a_lost_connection_is_seen_under_the_new_sid() -> None:
    us, bob = alice(), Presence("bob", "PA_2", client_protocol=2, capabilities=[2])

    def hear(kind: Kind) -> Heard:
        announcement = decode_announcement(bob.announcement(kind))
        assert announcement is not None
        return us.hear("bob", bob.sid, announcement, 0.0)

    assert hear(Kind.JOIN) == Heard((joined("PA_2"),))
    bob.rejoin("PA_1")
    assert hear(Kind.HERE) == Heard((joined("PA_1"),))


def test_after_a_lost_connection_nobody_is_here() -> None:
    us = alice()
    us.hear("bob", "PA_b", BOB, 0.0)
    us.rejoin("PA_a2")
    assert us.remove_overdue(1000.0) == []
    assert us.hear("bob", "PA_b", BOB_IS_HERE, 0.0) == Heard((joined(),))


def test_no_more_participants_are_known_than_there_may_be() -> None:
    us = alice()
    for number in range(MAX_PARTICIPANTS):
        us.hear(f"bob {number}", f"PA_{number}", BOB, float(number))
    asking = BOB._replace(asks=True)
    assert us.hear("carol", "PA_c", asking, 0.0) == Heard(answer=Kind.HERE, is_one_too_many=True)
    assert us.hear("bob 5", "PA_new", BOB, 0.0).events != ()
    us.hear("bob 0", "PA_0", BOB_LEAVES, 0.0)
    assert us.hear("carol", "PA_c", BOB, 0.0).events == (
        ParticipantJoined("carol", "PA_c", 2, (2,)),
    )


def test_those_who_are_overdue_go_a_few_at_a_time_and_in_order() -> None:
    us = alice()
    names = [f"bob {number}" for number in range(MAX_DEPARTURES + 10)]
    for number, name in enumerate(names):
        us.hear(name, name, BOB, float(-number))
    gone = us.remove_overdue(100.0)
    assert [each.identity for each in gone] == names[:9:-1]
    assert us.next_overdue is not None
    assert us.next_overdue < 100.0
    gone = us.remove_overdue(100.0)
    assert [each.identity for each in gone] == names[9::-1]
    assert us.next_overdue is None


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["bob", "carol", "dan"]),
            st.sampled_from(["PA_1", "PA_2"]),
            st.sampled_from(Kind),
            st.sampled_from([0.05, 1.0, 3600.0]),
            st.floats(0.0, 5.0),
        ),
        max_size=60,
    )
)
def test_who_is_overdue_is_what_a_plain_table_says(
    script: list[tuple[str, str, Kind, float, float]],
) -> None:
    us, table, now = alice(), dict[str, float](), 0.0
    for identity, sid, kind, interval, pause in script:
        now += pause
        gone = {each.identity for each in us.remove_overdue(now)}
        assert gone == {name for name, overdue_at in table.items() if overdue_at <= now}
        table = {name: overdue_at for name, overdue_at in table.items() if name not in gone}
        heard = us.hear(identity, sid, Announcement(kind, heartbeat_interval=interval), now)
        if kind is not Kind.LEAVE and (heard.events or us.knows(identity, sid)):
            table[identity] = now + 3.5 * interval
        elif kind is Kind.LEAVE and heard.events:
            del table[identity]
        assert us.next_overdue == min(table.values(), default=None)


def test_a_member_that_changes_its_interval_all_the_time_costs_no_memory() -> None:
    us = alice()
    for number in range(10_000):
        for interval in (3600.0, 0.05):
            us.hear("mallory", "PA_m", BOB._replace(heartbeat_interval=interval), float(number))
            assert us.next_overdue is not None
    assert len(us._due) < 1_000


# sids


def test_a_sid_that_another_identity_has_is_not_taken_from_it() -> None:
    us = alice()
    us.hear("bob", "PA_b", BOB, 0.0)
    without_sid = ParticipantJoined("mallory", "", 2, (2,))
    assert us.hear("mallory", "PA_b", BOB, 0.0) == Heard((without_sid,), is_sid_taken=True)
    assert us.hear("mallory", "PA_b", BOB, 0.0) == Heard(is_sid_taken=True)
    assert us.hear("bob", "PA_b", BOB_IS_HERE, 0.0) == NOTHING
    assert us.hear("mallory", "PA_b", BOB_LEAVES, 0.0).events == (ParticipantLeft("mallory", ""),)
    assert us.hear("bob", "PA_b", BOB_LEAVES, 0.0).events == (ParticipantLeft("bob", "PA_b"),)


def test_our_own_sid_is_nobody_elses() -> None:
    us = alice("PA_a")
    without_sid = ParticipantJoined("mallory", "", 2, (2,))
    assert us.hear("mallory", "PA_a", BOB, 0.0) == Heard((without_sid,), is_sid_taken=True)


def test_who_is_heard_after_somebody_who_claims_its_sid_is_here_all_the_same() -> None:
    """Whoever has just come may hear the thief first."""
    us = alice()
    us.hear("mallory", "PA_b", BOB, 0.0)
    assert us.hear("bob", "PA_b", BOB, 0.0) == Heard((joined(""),), is_sid_taken=True)
    # Under another sid bob has left and come back, which nobody could see by an empty sid.
    assert us.hear("bob", "PA_b2", BOB, 0.0).events == (ParticipantLeft("bob"), joined("PA_b2"))
    assert us.hear("bob", "PA_b2", BOB_LEAVES, 0.0).events == (ParticipantLeft("bob", "PA_b2"),)


def test_a_sid_is_free_again_when_its_participant_is_gone() -> None:
    us = alice()
    us.hear("mallory", "PA_b", BOB, 0.0)
    us.hear("bob", "PA_b", BOB, 0.0)
    us.hear("mallory", "PA_b", BOB_LEAVES, 0.0)
    assert us.hear("bob", "PA_b", BOB_IS_HERE, 1.0) == Heard((joined("PA_b"),))


def test_a_sid_that_turns_into_a_stolen_one_is_a_departure() -> None:
    us = alice()
    us.hear("carol", "PA_c", BOB, 0.0)
    us.hear("bob", "PA_b", BOB, 0.0)
    assert us.hear("bob", "PA_c", BOB, 0.0).events == (ParticipantLeft("bob", "PA_b"), joined(""))


# whoever asks and asks


def test_one_who_asks_and_asks_is_answered_a_few_times_a_second() -> None:
    us = alice()
    asking = BOB._replace(asks=True)
    answers = [us.hear("mallory", f"PA_{number}", asking, 5.0).answer for number in range(3_000)]
    assert answers == [Kind.HERE] * MAX_ANSWERS_EACH + [None] * (3_000 - MAX_ANSWERS_EACH)
    assert us.heartbeat_by == math.inf  # nobody else hears more of us for that
    assert us.next_due == 6.0
    assert us.hear("bob", "PA_b", asking, 5.0).answer is Kind.HERE
    us.hear("mallory", "PA_2999", BOB_LEAVES, 5.0)
    assert us.hear("mallory", "PA_m", asking, 5.9).answer is None
    assert us.take_late_answers(5.9) == ()
    assert us.take_late_answers(6.0) == {"mallory"}
    assert us.next_due == us.next_overdue
    assert not us.take_late_answers(6.0)
    assert us.hear("mallory", "PA_m", asking, 6.0).answer is Kind.HERE


def test_when_many_ask_at_once_one_heartbeat_is_for_all() -> None:
    us = alice()
    asking = BOB._replace(asks=True)
    names = [f"bob {number}" for number in range(3 * MAX_ANSWERS)]
    answers = [us.hear(name, name, asking, 5.0).answer for name in names]
    assert answers == [Kind.HERE] * MAX_ANSWERS + [None] * (2 * MAX_ANSWERS)
    assert us.next_due == us.heartbeat_by == 6.0
    us.heartbeat_sent()
    assert us.next_due == us.next_overdue
    assert us.hear("bob", "PA_b", asking, 5.9).answer is None  # the next heartbeat is at 6.0
    assert us.heartbeat_by == 6.0
    assert us.hear("bob", "PA_b", asking, 6.0).answer is Kind.HERE


def calls_made_for(us: Presence, now: float) -> int:
    """How many functions are called for an announcement and what follows from it."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        us.hear("mallory", "PA_m", BOB._replace(heartbeat_interval=0.05), now)
        us.next_due  # noqa: B018 (as the transport looks at it)
        us.remove_overdue(now)
    finally:
        sys.setprofile(None)
    return calls


def test_an_announcement_costs_the_same_however_many_are_here() -> None:
    us = alice()
    costs = []
    for number in range(MAX_PARTICIPANTS - 1):
        us.hear(f"bob {number}", f"PA_{number}", BOB, 0.0)
        if number in (10, MAX_PARTICIPANTS - 2):
            us.hear("mallory", "PA_m", BOB, 0.0)
            costs.append(calls_made_for(us, 0.1))
            us.hear("mallory", "PA_m", BOB_LEAVES, 0.1)
    assert costs[0] == costs[1]


# one identity, one participant


@dataclass
class Namesakes:
    """Participants under one identity, who hear each other as a script wants: what each sends
    comes in order, but nothing more is promised, as in a cluster."""

    members: dict[str, Presence] = field(default_factory=dict)
    put_out: list[str] = field(default_factory=list)
    on_the_way: dict[tuple[str, str], deque[tuple[str, bytes]]] = field(default_factory=dict)

    def join(self, name: str, sid: str, generation: int = 1) -> None:
        self.members[name] = Presence("alice", sid, generation=generation)
        self.announce(name, Kind.JOIN)

    def announce(self, name: str, kind: Kind) -> None:
        presence = self.members[name]
        for other in self.members:
            if other != name:
                queue = self.on_the_way.setdefault((name, other), deque())
                queue.append((presence.sid, presence.announcement(kind)))

    def come_back(self, name: str, sid: str) -> None:
        """After a lost connection, in which nothing was heard."""
        for (_, receiver), queue in self.on_the_way.items():
            if receiver == name:
                queue.clear()
        self.members[name].rejoin(sid)
        self.announce(name, Kind.HERE)

    def deliver(self, choice: int) -> bool:
        waiting = [way for way, queue in self.on_the_way.items() if queue]
        if not waiting:
            return False
        way = waiting[choice % len(waiting)]
        sid, data = self.on_the_way[way].popleft()
        receiver = way[1]
        if receiver in self.put_out:
            return True
        announcement = decode_announcement(data)
        assert announcement is not None
        heard = self.members[receiver].hear("alice", sid, announcement, 0.0)
        if heard.is_put_out:
            self.put_out.append(receiver)
        elif heard.answer is not None:
            self.announce(receiver, heard.answer)
        return True

    def settle(self) -> list[str]:
        """Everything is heard, with heartbeats in between; who is left then."""
        for _ in range(3):
            for name in self.members:
                if name not in self.put_out:
                    self.announce(name, Kind.HERE)
            rounds = itertools.takewhile(bool, (self.deliver(0) for _ in itertools.count()))
            assert sum(1 for _ in rounds) < 1000, "they put each other out for ever"
        return [name for name in self.members if name not in self.put_out]


@pytest.mark.parametrize("sids", [("PA_1", "PA_2"), ("PA_2", "PA_1")])
@pytest.mark.parametrize("generations", [(1, 2), (1, 1), (2, 1)], ids=str)
def test_who_joins_later_puts_out_who_was_here(
    sids: tuple[str, str], generations: tuple[int, int]
) -> None:
    """Also where clocks, which generations come from, do not agree."""
    room = Namesakes()
    room.join("early", sids[0], generations[0])
    assert room.settle() == ["early"]
    room.join("late", sids[1], generations[1])
    assert room.settle() == ["late"]


def test_a_higher_generation_puts_the_earlier_one_out_without_a_word() -> None:
    early = Presence("alice", "PA_2", generation=1)
    late = Announcement(Kind.JOIN, generation=2)
    assert early.hear("alice", "PA_1", late, 0.0) == Heard(is_put_out=True)


@pytest.mark.parametrize("sids", [("PA_1", "PA_2"), ("PA_2", "PA_1")])
def test_a_heartbeat_of_who_was_here_does_not_put_out_who_joined_later(
    sids: tuple[str, str],
) -> None:
    """It was sent before the join was heard, and comes after it."""
    room = Namesakes()
    room.join("early", sids[0])
    room.join("late", sids[1])
    room.announce("early", Kind.HERE)
    assert room.settle() == ["late"]


@pytest.mark.parametrize("sids", [("PA_1", "PA_2"), ("PA_2", "PA_1")])
@pytest.mark.parametrize("generations", [(1, 5), (1, 1), (5, 1)], ids=str)
def test_who_was_cut_off_while_another_joined_does_not_put_that_one_out(
    sids: tuple[str, str], generations: tuple[int, int]
) -> None:
    room = Namesakes()
    room.join("early", "PA_0", generations[0])
    room.join("late", sids[0], generations[1])
    room.come_back("early", sids[1])
    assert room.settle() == ["late"]


def test_a_generation_is_left_behind_each_time() -> None:
    room = Namesakes()
    for number in range(9, 0, -1):
        room.join(str(number), f"PA_{number}")
        assert room.settle() == [str(number)]


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), st.sampled_from(["join", "beat", "cut"]), st.integers(1, 3)
        )
        | st.integers(0, 5),
        max_size=30,
    ),
    st.permutations(["PA_1", "PA_2", "PA_3", "PA_4", "PA_5", "PA_6"] * 6),
)
def test_exactly_one_of_those_who_are_called_the_same_stays(
    script: list[tuple[str, str, int] | int], sids: list[str]
) -> None:
    room = Namesakes()
    unique = (f"{sid}_{number}" for number, sid in enumerate(sids))
    for step in script:
        match step:
            case int():
                room.deliver(step)
            case (name, "join", generation) if name not in room.members:
                room.join(name, next(unique), generation)
            case (name, "beat", _) if name in room.members and name not in room.put_out:
                room.announce(name, Kind.HERE)
            case (name, "cut", _) if name in room.members and name not in room.put_out:
                room.come_back(name, next(unique))
    assert len(room.settle()) == (1 if room.members else 0)
