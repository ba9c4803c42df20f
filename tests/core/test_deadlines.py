"""Which deadline is next and in what order things end, held against a sorted list."""

from dataclasses import dataclass

import pytest
from helpers import START, Participant, just_before, request
from hypothesis import given
from hypothesis import strategies as st
from script_strategies import LAW

from rpcproto import CallFailed, InvocationAbandoned, InvocationReceived
from rpcproto.wire import Ack

eighths = st.integers(1, 400).map(lambda number: number / 8)


@dataclass
class Open:
    """A call or an invocation as the model knows it. It ends at the first of its deadlines."""

    order: int
    name: object
    deadline: float
    early: float | None = None

    @property
    def due(self) -> tuple[float, int]:
        return self.deadline if self.early is None else min(self.early, self.deadline), self.order


class Model:
    """A participant, and beside it a plain list of what is open."""

    def __init__(self) -> None:
        self.alice = Participant()
        self.open: list[Open] = []
        self.started = 0

    def call(self, timeout: float, window: float) -> None:
        name = self.alice.call(response_timeout=timeout, ack_timeout=window)
        self._add(name, timeout, window if window < timeout else None)

    def usual_call(self) -> None:
        self._add(self.alice.call(), 10.0, 7.0)

    def asked(self, milliseconds: int) -> None:
        self.alice.receive(request(f"r{self.started}", response_timeout_ms=milliseconds))
        self._add(self.alice.invocation().invocation_id, milliseconds / 1000 + 7)

    def _add(self, name: object, timeout: float, early: float | None = None) -> None:
        now = self.alice.now
        self.started += 1
        early_at = None if early is None else now + early
        self.open.append(Open(self.started, name, now + timeout, early_at))

    def acked(self, which: int) -> None:
        calls = [each for each in self.open if isinstance(each.name, str)]
        if calls:
            call = calls[which % len(calls)]
            self.alice.receive(Ack(str(call.name)))
            call.early = None

    def ends(self, which: int) -> None:
        """A cancelled call, or an answered invocation."""
        if self.open:
            ended = self.open.pop(which % len(self.open))
            if isinstance(ended.name, str):
                assert self.alice.cancel(ended.name)
            else:
                assert self.alice.respond(int(str(ended.name)))

    def passes(self, seconds: float) -> None:
        now = self.alice.now + seconds
        due = sorted((each for each in self.open if each.due[0] <= now), key=lambda each: each.due)
        self.alice.events()
        self.alice.time_is(now)
        expired: list[tuple[object, int]] = []
        for event in self.alice.events():
            if isinstance(event, CallFailed):
                expired.append((event.request_id, event.code))
            elif isinstance(event, InvocationAbandoned):
                expired.append((event.invocation_id, 0))
        assert expired == [(each.name, code_of(each)) for each in due]
        self.open = [each for each in self.open if each not in due]

    def check(self) -> None:
        assert self.alice.next_deadline == min((each.due[0] for each in self.open), default=None)
        self.alice.packets()


def code_of(expired: Open) -> int:
    if not isinstance(expired.name, str):
        return 0
    return 1502 if expired.early is None else 1501


inputs = st.one_of(
    st.builds(lambda timeout, window: ("call", timeout, window), eighths, eighths),
    st.just(("usual_call",)),
    st.just(("asked", 8_000)),
    st.builds(lambda eighth: ("asked", int(eighth * 1000)), eighths),
    st.builds(lambda which: ("acked", which), st.integers(0, 50)),
    st.builds(lambda which: ("ends", which), st.integers(0, 50)),
    st.builds(lambda seconds: ("passes", seconds / 4), st.sampled_from([0.0, 0.5, 1.0, 5.0, 40.0])),
)


@LAW
@given(st.integers(0, 120).flatmap(lambda size: st.lists(inputs, min_size=size, max_size=size)))
def test_deadlines_come_in_the_order_of_a_sorted_list(script: list[tuple[str, float]]) -> None:
    model = Model()
    for name, *arguments in script:
        getattr(model, name)(*arguments)
        model.check()
    model.passes(1_000)
    assert model.open == []
    model.check()


@pytest.mark.parametrize("distinct", [1, 15, 16, 17, 40])
def test_many_timeouts_that_differ(distinct: int) -> None:
    """More of them than have a place of their own, used again and again."""
    model = Model()
    for turn in range(4):
        for number in range(3 * distinct):
            model.call(10 + (number * 7) % distinct, 5 + (number * 3) % distinct)
        for number in range(distinct):
            model.acked(number * 5 + turn)
        for number in range(distinct):
            model.ends(number * 3)
            model.check()
        model.passes(4 + turn)
        model.check()
    model.passes(1_000)
    assert model.alice.statistics.pending_calls == 0


def test_many_with_the_same_timeout() -> None:
    """So many that what has ended among them is swept out, again and again."""
    model = Model()
    for _ in range(3):
        for _ in range(100):
            model.usual_call()
            model.asked(8_000)
        for number in range(50):
            model.acked(number * 5)
            model.ends(number * 3)
        model.check()
        model.passes(2)
        model.check()
    model.passes(1_000)
    assert model.open == []
    model.check()


def test_timeouts_that_are_used_once_make_room_for_others() -> None:
    model = Model()
    for number in range(100):
        model.call(1 + number, 1 + number)
        model.check()
        model.ends(0)
        model.check()


@pytest.mark.parametrize("acked_alone", [True, False])
def test_r3_an_acked_call_does_not_hide_the_ack_window_of_the_next_one(acked_alone: bool) -> None:
    model = Model()
    model.usual_call()
    if acked_alone:
        model.acked(0)
        model.check()
    model.alice.now += 1
    model.usual_call()
    model.acked(0)
    model.check()
    model.acked(1)
    model.check()
    model.ends(0)
    model.check()


def test_a_line_of_calls_that_have_ended_hides_no_invocation() -> None:
    model = Model()
    model.usual_call()
    model.usual_call()
    model.asked(8_000)
    model.ends(1)
    model.ends(0)
    model.check()
    assert model.alice.next_deadline is not None


def test_what_ends_out_of_turn_takes_nobody_else_s_deadline() -> None:
    model = Model()
    for _ in range(3):
        model.usual_call()
        model.asked(8_000)
    for which in (5, 4, 2):
        model.ends(which)
        model.check()
    model.passes(1_000)


def test_an_ack_window_as_long_as_the_timeout_is_none() -> None:
    model = Model()
    for number in range(40):
        model.call(1 + number, 1 + number)
    model.passes(1_000)


def test_hundreds_of_deadlines_that_are_given_up() -> None:
    model = Model()
    for number in range(400):
        model.call(1 + number / 8, 0.5 + number / 16)
    for number in range(390):
        model.ends(number * 7)
        if number % 10 == 0:
            model.check()
    model.check()
    model.passes(1_000)


def test_hundreds_of_deadlines_of_one_timeout() -> None:
    model = Model()
    for number in range(300):
        model.call(10, 7)
        model.asked(10_000)
        if number % 3 == 0:
            model.acked(number)
        if number % 7 == 0:
            model.ends(number)
            model.check()
    model.passes(7)
    model.check()
    model.passes(100)
    assert model.open == []


@pytest.mark.parametrize("acked", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)])
def test_acks_may_come_in_any_order(acked: tuple[int, ...]) -> None:
    model = Model()
    for _ in range(3):
        model.call(10, 7)
        model.alice.now += 1
    names = [each.name for each in model.open]
    for which in acked:
        at = [each.name for each in model.open].index(names[which])
        model.acked(at)
        model.check()
    model.passes(100)


def test_calls_and_invocations_at_the_same_instant_end_in_the_order_of_their_beginning() -> None:
    alice = Participant()
    first = alice.call(response_timeout=15)
    alice.receive(Ack(first))
    alice.receive(request("r1", response_timeout_ms=8_000))
    alice.receive(request("r2", response_timeout_ms=8_000))
    last = alice.call(response_timeout=20, ack_timeout=15)
    _acked, *received = alice.events()
    one, two = (e.invocation_id for e in received if isinstance(e, InvocationReceived))
    alice.time_is(just_before(START + 15))
    assert alice.events() == []
    alice.time_is(START + 15)
    ended = [
        event.request_id if isinstance(event, CallFailed) else event.invocation_id
        for event in alice.events()
        if isinstance(event, CallFailed | InvocationAbandoned)
    ]
    assert ended == [first, one, two, last]
