"""A request and its answer through two engines: any text, any size, any two abilities."""

import itertools
import random

import pytest
from helpers import Participant, failures, parsed
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import BOM, CHUNK, carry, expect_nothing_left, pair

from rpcproto import CallAcknowledged, CallFailed, CallSucceeded, InvocationReceived, OutgoingPacket

Peer = tuple[int, tuple[int, ...]]

PEERS: list[Peer] = [
    (protocol, capabilities) for protocol in range(4) for capabilities in ((), (2,))
]
PAIRS = list(itertools.product(PEERS, PEERS))
V1_LIMIT = 15_360


def expected_code(of_alice: Peer, of_bob: Peer, asked: int, answered: int) -> int | None:
    """The code with which a call of so many bytes, answered with so many, fails; or None."""
    if of_bob[0] == 0 and asked > V1_LIMIT:
        return 1402
    if of_bob[0] == 0 and of_alice[0] == 0 and answered > V1_LIMIT:
        return 1504
    return None


def expect_form(packets: list[OutgoingPacket], receiver: Peer, size: int, as_stream: bool) -> None:
    """How many packets a body takes, as far as its size and its receiver decide."""
    protocol, capabilities = receiver
    in_chunks = 2 + -(-size // CHUNK)  # some texts need more
    if not as_stream or (protocol >= 2 and size <= 14_500):
        assert len(packets) == 1
    elif protocol < 2 or (size > CHUNK and not capabilities):
        assert len(packets) >= in_chunks


def round_trip(of_alice: Peer, of_bob: Peer, asked: str, answered: str) -> None:
    alice, bob = pair(of_alice, of_bob)
    asked_bytes, answered_bytes = len(asked.encode()), len(answered.encode())
    code = expected_code(of_alice, of_bob, asked_bytes, answered_bytes)
    call = alice.call(payload=asked)
    requests = carry(alice, bob)
    if code == 1402:
        assert requests == []
        assert failures(alice.events()) == [(call, 1402)]
        expect_nothing_left(alice, bob)
        return
    came_as_stream = of_bob[0] >= 1
    expect_form(requests, of_bob, asked_bytes, came_as_stream)
    [received] = bob.events()
    assert isinstance(received, InvocationReceived)
    assert (received.request_id, received.payload) == (call, asked)
    assert bob.statistics.buffered_bytes == asked_bytes
    assert bob.respond(received.invocation_id, answered)
    ack, *answers = carry(bob, alice)
    as_stream = came_as_stream or (answered_bytes > V1_LIMIT and of_alice[0] >= 1)
    expect_form(answers, of_alice, answered_bytes, as_stream)
    events = alice.events()
    assert events[0] == CallAcknowledged(call)
    if code is None:
        assert events[1:] == [CallSucceeded(call, answered)]
    else:
        assert failures(events[1:]) == [(call, code)]
    assert bob.events() == []
    expect_sound([*requests, ack, *answers], of_alice, of_bob)
    expect_nothing_left(alice, bob)
    assert alice.ignored == bob.ignored == {}


def expect_sound(packets: list[OutgoingPacket], of_alice: Peer, of_bob: Peer) -> None:
    """Nobody gets what they cannot take, and nothing is too large."""
    for packet in packets:
        assert len(packet.data) <= 64_000
        protocol, capabilities = of_bob if packet.destination_identity == "bob" else of_alice
        message = parsed(packet)
        header = message.stream_header
        if header.HasField("inline_content"):
            assert protocol >= 2
            message.ClearField("participant_identity")
            assert message.ByteSize() <= CHUNK
        if header.compression:
            assert protocol >= 2
            assert 2 in capabilities
        if protocol < 2 or not capabilities:
            message.stream_chunk.content.decode()


LIMITS = [0, 1, 511, 512, 513, 14_999, 15_000, 15_001, 15_359, 15_360, 15_361, 30_001]


@pytest.mark.parametrize(("of_alice", "of_bob"), PAIRS)
def test_sizes_around_every_limit_between_any_two_participants(
    of_alice: Peer, of_bob: Peer
) -> None:
    for size, other in zip(LIMITS, [*LIMITS[5:], *LIMITS[:5]], strict=True):
        round_trip(of_alice, of_bob, "a" * size, "b" * other)
        round_trip(of_alice, of_bob, "é" * (size // 2) + "x" * (size % 2), BOM * (other // 3))


def inline_limit(of_alice: Peer, of_bob: Peer, *, of_answer: bool) -> int:
    """The size of the largest plain body that goes inline."""
    alice, bob = pair(of_alice, of_bob)
    alice.call(payload="")
    [packet] = carry(alice, bob)
    if of_answer:
        bob.respond(bob.invocation().invocation_id, "")
        packet = carry(bob, alice)[1]
    message = parsed(packet)
    message.ClearField("participant_identity")
    size = CHUNK - message.ByteSize()
    while True:
        message.stream_header.inline_content = b"x" * size
        message.stream_header.total_length = size
        if message.ByteSize() <= CHUNK:
            return size
        size -= 1


@pytest.mark.parametrize("of_answer", [False, True])
@pytest.mark.parametrize("excess", [-1, 0, 1])
def test_bodies_around_the_exact_inline_limit(excess: int, of_answer: bool) -> None:
    for of_alice, of_bob in itertools.product([(2, ()), (2, (2,)), (3, ())], repeat=2):
        size = inline_limit(of_alice, of_bob, of_answer=of_answer) + excess
        for text in ("x" * size, "é" * (size // 2) + "x" * (size % 2), "x" * (size - 4) + "😀"):
            asked, answered = ("", text) if of_answer else (text, "")
            round_trip(of_alice, of_bob, asked, answered)
            if not (of_alice if of_answer else of_bob)[1]:  # without compression it is exact
                alice, bob = pair(of_alice, of_bob)
                alice.call(payload=asked)
                packets = carry(alice, bob)
                if of_answer:
                    bob.respond(bob.invocation().invocation_id, answered)
                    _, *packets = carry(bob, alice)
                assert len(packets) == (1 if excess <= 0 else 3)


@pytest.mark.parametrize("character", ["é", "€", "😀", BOM, "e\u0301", "\0", "a" + BOM, BOM + "😀"])
@pytest.mark.parametrize("of_both", [(1, ()), (2, ()), (2, (2,))])
def test_chunk_edges_inside_characters_and_before_a_bom(of_both: Peer, character: str) -> None:
    size = len(character.encode())
    for shift in range(size + 4):
        for edge in (CHUNK, 2 * CHUNK):
            text = "a" * (edge - shift) + character * 3 + "z" * 9
            round_trip(of_both, of_both, text, character * (edge // size) + "a" * shift + character)


planes = st.characters(exclude_categories=["Cs"])
special = st.sampled_from([BOM, "\0", "\u0301", "\ufffe", "\uffff", "\U0010ffff", "😀", "é", "€"])
units = st.text(planes | special, min_size=1, max_size=12)
sizes = st.sampled_from(LIMITS) | st.integers(0, 50_000)


@st.composite
def texts(draw: st.DrawFn) -> str:
    """A text of all planes, of about as many bytes as one of the limits, or of exactly so many."""
    if draw(st.booleans()):
        return draw(st.text(planes | special, max_size=80))
    unit, size, shift = draw(units), draw(sizes), draw(st.integers(0, 8))
    if draw(st.booleans()):  # hard to compress
        chance = random.Random(size)
        unit = "".join(chance.choice(unit + "0123456789abcdef") for _ in range(size // 4 + 1))
    body = (unit * (size // len(unit.encode()) + 1)).encode()[: max(size - shift, 0)]
    text = "x" * min(shift, size) + body.decode(errors="ignore")
    return text + "z" * (size - len(text.encode()))


@settings(max_examples=150)
@given(st.sampled_from(PAIRS), texts(), texts())
def test_any_text_between_any_two_participants(
    peers: tuple[Peer, Peer], asked: str, answered: str
) -> None:
    round_trip(*peers, asked, answered)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.booleans(), texts()), max_size=6), st.sampled_from(PEERS[2:]))
def test_many_at_once_in_both_directions(calls: list[tuple[bool, str]], of_both: Peer) -> None:
    """Chunks of all of them take turns on the way."""
    alice, bob = pair(of_both, of_both)
    texts_of: dict[str, str] = {}
    for by_alice, text in calls:
        caller, callee = (alice, "bob") if by_alice else (bob, "alice")
        texts_of[caller.call(callee, payload=text)] = text
    done: dict[str, str] = {}
    while any([step(alice, bob, done), step(bob, alice, done)]):
        pass
    assert done == texts_of
    expect_nothing_left(alice, bob)


def step(sender: Participant, receiver: Participant, done: dict[str, str]) -> bool:
    """One packet, and what comes of it; every request is answered with its own payload."""
    packet = sender.engine.next_packet()
    if packet is None:
        return False
    receiver.receive(packet.data)
    for event in receiver.events():
        assert not isinstance(event, CallFailed)
        if isinstance(event, InvocationReceived):
            assert receiver.respond(event.invocation_id, event.payload)
        elif isinstance(event, CallSucceeded):
            done[event.request_id] = event.payload
    return True
