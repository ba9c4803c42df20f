"""Random, damaged and odd packets: no exception, and each of them is accounted for (R32)."""

import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

import pytest
from helpers import Participant, raw_packet
from odd_packets import (
    ACK,
    BACKENDS_DIFFER,
    HAS_AN_EFFECT,
    IN_THE_ACK,
    IS_MALFORMED,
    LIMIT,
    MARGIN,
    groups,
    sized,
)
from official_packets import VECTORS

from rpcproto import CallAcknowledged, IgnoreReason, InvocationReceived, stamp
from rpcproto.core import wire as core_wire
from rpcproto.wire import RESPONSE_TOPIC, StreamHeader, encode, response_attributes

COUNT = 10_000


def receive(participant: Participant, data: bytes) -> tuple[bool, bool]:
    """Whether the packet has an effect, and whether it is counted as ignored."""
    before, next_deadline = participant.statistics, participant.next_deadline
    participant.receive(data)
    after = participant.statistics
    assert after.packets_in == before.packets_in + 1
    has_effect = (
        bool(participant.events() or participant.packets())
        or participant.next_deadline != next_deadline
        or replace(after, packets_in=0, ignored={}) != replace(before, packets_in=0, ignored={})
    )
    ignored = sum(after.ignored.values()) - sum(before.ignored.values())
    assert ignored in (0, 1)
    return has_effect, ignored == 1


# --- random bytes, and mutations of real packets


def random_bytes(random: Random, packets: Sequence[bytes]) -> bytes:
    return random.randbytes(random.choice([0, 1, 2, 5, 20, 100, 400]))


def mutation(random: Random, packets: Sequence[bytes]) -> bytes:
    """A real packet with something wrong with it, mostly little, or with nothing."""
    data = bytearray(random.choice(packets))
    for _ in range(random.choice([0, 1, 1, 1, 2, 4])):
        start = random.randrange(len(data)) if data else 0
        end = min(len(data), start + random.choice([1, 1, 2, 8, 50]))
        match random.randrange(7):
            case 0:
                data[start:end] = random.randbytes(end - start)
            case 1:
                del data[start:end]
            case 2:
                data[start:start] = random.randbytes(random.randint(1, 8))
            case 3:
                data += random.choice(packets)[: random.randint(1, 400)]
            case _:
                # A byte that may well be text: lengths and tags mostly stay good.
                data[start:end] = random.choice(b"0129afkr.").to_bytes() * (end - start)
    return bytes(data)


class Victim(Participant):
    """Somebody to whom official clients have sent packets, with the calls that these answer."""

    def __init__(self, identity: str) -> None:
        super().__init__(identity, methods=["m"], new_id=lambda: self._id)
        self._id = ""
        self.packets_to_it = [vector.forwarded for vector in VECTORS if identity in vector.to]
        self._vectors = [vector for vector in VECTORS if identity in vector.to]
        for vector in self._vectors:
            self.joined(vector.sender, vector.sid)

    def call_again(self) -> None:
        """A call for each answer among the packets, unless it is still pending."""
        for vector in self._vectors:
            if vector.answered_id:
                self._id = vector.answered_id
                self.cancel(self._id)
                self.call(vector.sender)
        self.events()
        self.packets()


@pytest.mark.parametrize("make", [random_bytes, mutation])
def test_hostile_bytes_have_an_effect_or_are_counted(
    make: Callable[[Random, Sequence[bytes]], bytes],
) -> None:
    victims = [Victim(to) for to in sorted({to for vector in VECTORS for to in vector.to})]
    random = Random(20_26)
    effects = 0
    for number in range(COUNT):
        victim = victims[number % len(victims)]
        if number % 50 < len(victims):
            victim.call_again()
        victim.now += 1 / 1024
        # With a number of its own, or the one that it came with, which may have been seen.
        data = make(random, victim.packets_to_it)
        has_effect, was_counted = receive(
            victim, stamp(data, sequence=number % 2 * (number + 1_000))
        )
        assert has_effect or was_counted
        effects += has_effect and not was_counted
    # Mutations are close enough to real packets that many of them still do something.
    assert effects > (500 if make is mutation else -1)


# --- packets that are odd on purpose


ALLOWED_LEVELS = (1, 10, 98)
TOO_MANY_LEVELS = (102, 300, 1_000, 10_000, (LIMIT - MARGIN) // 4)
each_place = pytest.mark.parametrize("place", ["in the packet", "in its message"])


def with_groups(nested: bytes, place: str) -> bytes:
    """The ack of our call with groups in it."""
    return ACK + (nested if place == "in the packet" else sized(IN_THE_ACK, nested))


def caller() -> Participant:
    """Alice, whose call `r1` to bob can be acknowledged."""
    alice = Participant(new_id=lambda: "r1")
    alice.joined("bob", client_protocol=2, capabilities=[2])
    alice.call()
    alice.packets()
    return alice


def expect_that_it_lives(alice: Participant) -> None:
    """What came before leaves the engine in order."""
    alice.receive(ACK)
    alice.receive(raw_packet(rpc_request={"id": "r2", "method": "greet", "version": 1}))
    [acknowledged, invocation] = alice.events()
    assert acknowledged == CallAcknowledged("r1")
    assert isinstance(invocation, InvocationReceived)
    assert alice.respond(invocation.invocation_id)


@each_place
@pytest.mark.parametrize("levels", ALLOWED_LEVELS)
def test_nested_unknown_groups_are_skipped(levels: int, place: str) -> None:
    alice = caller()
    alice.receive(with_groups(groups(levels), place))
    assert alice.events() == [CallAcknowledged("r1")]
    assert alice.ignored == {}


@each_place
@pytest.mark.parametrize("closed", [True, False], ids=["closed", "not closed"])
@pytest.mark.parametrize("field", [11, 100])
@pytest.mark.parametrize("levels", TOO_MANY_LEVELS)
def test_too_many_nested_groups_are_malformed(
    levels: int, field: int, closed: bool, place: str
) -> None:
    alice = caller()
    data = with_groups(groups(levels, field, closed=closed), place)
    assert len(data) <= LIMIT
    alice.receive(data)
    assert alice.ignored == {IgnoreReason.MALFORMED: 1}
    alice.events()
    expect_that_it_lives(alice)


@pytest.mark.parametrize("odd", HAS_AN_EFFECT)
def test_an_odd_packet_still_means_its_last_message(odd: str) -> None:
    alice = caller()
    data = HAS_AN_EFFECT[odd] + ACK
    assert len(data) <= LIMIT
    alice.receive(data)
    assert alice.events() == [CallAcknowledged("r1")]
    assert alice.ignored == {}


@pytest.mark.parametrize("odd", IS_MALFORMED)
def test_an_odd_packet_that_is_no_protobuf_is_malformed(odd: str) -> None:
    alice = caller()
    data = ACK + IS_MALFORMED[odd]
    assert len(data) <= LIMIT
    alice.receive(data)
    assert alice.ignored == {IgnoreReason.MALFORMED: 1}
    alice.events()
    expect_that_it_lives(alice)


@pytest.mark.parametrize("odd", BACKENDS_DIFFER)
def test_an_odd_packet_that_not_every_backend_reads_is_read_or_malformed(odd: str) -> None:
    alice = caller()
    alice.receive(ACK + BACKENDS_DIFFER[odd])
    assert alice.ignored in ({}, {IgnoreReason.MALFORMED: 1})
    acknowledged = CallAcknowledged("r1") in alice.events()
    assert acknowledged is not bool(alice.ignored)


# --- a host that is deep in calls itself


def with_frames_left(frames: int, act: Callable[[], None]) -> None:
    """Call `act` from so deep a stack that only so many frames remain until RecursionError."""
    depth = sum(1 for _ in traceback.walk_stack(None))

    def deeper(levels: int) -> None:
        if levels > 0:
            deeper(levels - 1)
        else:
            act()

    deeper(sys.getrecursionlimit() - depth - frames)


HEADER = encode(StreamHeader("s1", RESPONSE_TOPIC, response_attributes("r1"), 0, 0), "bob", "alice")


@pytest.mark.parametrize("data", [HEADER, stamp(HEADER, sequence=1)], ids=["usual", "with more"])
def test_a_protobuf_that_runs_out_of_stack_makes_the_packet_malformed(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the pure-Python backend does, seen with every backend."""
    alice = caller()

    def parse(data: bytes) -> None:
        parse(data)

    with monkeypatch.context() as patched:
        patched.setattr(core_wire, "_parse_header", parse)
        patched.setattr(core_wire, "_parse", parse)
        alice.receive(data)
    assert alice.ignored == {IgnoreReason.MALFORMED: 1}
    alice.events()
    expect_that_it_lives(alice)


@each_place
@pytest.mark.parametrize("levels", [*ALLOWED_LEVELS, *TOO_MANY_LEVELS])
def test_nested_groups_do_not_raise_in_a_host_whose_stack_is_deep(levels: int, place: str) -> None:
    data = with_groups(groups(levels), place)
    for frames in range(60, 400, 20):
        alice = caller()
        with_frames_left(frames, lambda alice=alice: alice.receive(data))  # type: ignore[misc]
        if alice.ignored:
            assert alice.ignored == {IgnoreReason.MALFORMED: 1}
            alice.events()
            expect_that_it_lives(alice)
        else:
            assert levels in ALLOWED_LEVELS
            assert alice.events() == [CallAcknowledged("r1")]


@pytest.mark.parametrize("odd", [*HAS_AN_EFFECT, *IS_MALFORMED])
def test_odd_packets_mean_the_same_in_a_host_whose_stack_is_deep(odd: str) -> None:
    alice = caller()
    data = ACK + IS_MALFORMED[odd] if odd in IS_MALFORMED else HAS_AN_EFFECT[odd] + ACK
    with_frames_left(60, lambda: alice.receive(data))
    assert (IgnoreReason.MALFORMED in alice.ignored) is (odd in IS_MALFORMED)
