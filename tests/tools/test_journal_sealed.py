"""Journals of engines whose packets are encrypted."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from sealed_packets import KEY, OTHER_KEY, toy

from rpcproto import InvocationReceived, RpcConfig, RpcEngine, wire
from rpcproto.e2ee import AesGcmCryptor, Keyring
from rpcproto.recording import Journal, JournalError, replay, trace
from rpcproto.testing import Link, ToyCryptor, World, counting_ids, counting_ivs
from rpcproto.wire import Ack, Request

Ring = Keyring[Any]


def aes(identity: str | None = None) -> AesGcmCryptor:
    made = AesGcmCryptor(identity, new_iv=counting_ivs())
    made.set_shared_key(KEY)
    made.set_shared_key(OTHER_KEY, 3)
    return made


def toy_with_two(identity: str | None = None) -> ToyCryptor:
    made = toy(identity)
    made.set_shared_key(OTHER_KEY, 3)
    return made


each_ring = pytest.mark.parametrize("ring", [aes, toy_with_two], ids=["AES-GCM", "toy"])


def both(ring: Callable[[str], Ring]) -> dict[str, Ring]:
    return {name: ring(name) for name in ("alice", "bob")}


def life(ring: Callable[[str], Ring]) -> list[str]:
    """Small calls and large ones, while keys are switched, and packets that nobody can read."""
    lines: list[str] = []
    rings = both(ring)
    world = World(
        link=Link(latency=0.01),
        cryptors=rings.__getitem__,
        engine_factory=Journal(lines.append).engine,
    )
    for name in rings:
        joined = world.join(name, client_protocol=2)
        joined.register("echo", lambda invocation: invocation.payload)
    world.participants["alice"].call("bob", "echo", "small and secret")
    world.participants["bob"].call("alice", "echo", "large " * 10_000)
    world.at(1.0, lambda: rings["bob"].use(3))
    world.at(2.0, lambda: world.participants["bob"].call("alice", "echo", "switched"))
    stranger = toy("alice", bytes(16))
    foreign = wire.encode(stranger.seal(wire.encode_payload(Ack("x"))), "alice", "bob")
    world.at(3.0, lambda: world.send("alice", "bob", foreign))
    no_key = stranger.seal(wire.encode_payload(Ack("x")))._replace(key_index=200)
    world.at(4.0, lambda: world.send("alice", "bob", wire.encode(no_key, "alice", "bob")))
    world.at(5.0, lambda: world.send("alice", "bob", wire.encode(Ack("x"), "alice", "bob")))
    world.run()
    assert [call.outcome for call in world.calls] == [
        "small and secret",
        "large " * 10_000,
        "switched",
    ]
    return lines


@each_ring
def test_a_sealed_life_is_replayed_to_the_same_bytes(ring: Callable[[str], Ring]) -> None:
    lines = life(ring)
    assert replay(lines, both(ring)) == ()


@each_ring
def test_a_journal_has_payloads_and_no_keys(ring: Callable[[str], Ring]) -> None:
    text = "".join(life(ring))
    assert "small and secret" in text
    for key in (KEY, OTHER_KEY):
        for shown in (key.hex(), base64.b64encode(key).decode()[:20], repr(key)[2:-1]):
            assert shown not in text


def test_a_journal_notes_what_opened_and_what_was_sealed_with_what() -> None:
    _, *lines = life(toy_with_two)
    records = list(map(json.loads, lines))
    engines = [record for record in records if record[1:2] == ["engine"]]
    assert [record[-1] for record in engines] == [{"encrypted": True}] * 2
    received = [record for record in records if record[1:2] == ["receive_packet"]]
    opened = [record[4]["opened"] if len(record) > 4 else None for record in received]
    assert set(opened) == {True, "undecryptable", "no key", None}
    assert [each for each in opened if each is not True] == ["undecryptable", "no key", None]
    sent = [record for record in records if record[1:2] == ["packet"]]
    assert {record[-1]["key_index"] for record in sent} == {0, 3}
    ivs = [(record[0], record[-1]["iv"]) for record in sent]
    assert len(ivs) == len(set(ivs))


def test_without_keys_or_with_others_there_is_no_replay() -> None:
    lines = life(toy_with_two)
    with pytest.raises(JournalError, match="packets of 'alice' are encrypted: to replay them"):
        replay(lines)
    with pytest.raises(JournalError, match="packets of 'bob' are encrypted"):
        replay(lines, {"alice": toy_with_two("alice")})
    with pytest.raises(JournalError, match="no key to encrypt with at index 3"):
        replay(lines, both(toy))
    with pytest.raises(JournalError, match="belongs to 'bob', not to 'alice'"):
        replay(lines, {"alice": toy("bob"), "bob": toy("bob")})
    divergences = replay(lines, both(lambda name: toy(name, OTHER_KEY)))
    assert {divergence.identity for divergence in divergences} == {"alice", "bob"}


def test_what_could_not_be_opened_then_is_not_opened_in_a_replay() -> None:
    lines: list[str] = []
    ring = toy("bob")
    bob = Journal(lines.append).engine("bob", new_id=counting_ids("b"), cryptor=ring)
    bob.register_method("greet")
    late = toy("alice", OTHER_KEY)
    packet = wire.encode(
        late.seal(wire.encode_payload(Request("r1", "greet", "hi", 8_000))), "alice", "bob"
    )
    for _ in range(2):
        bob.receive_packet(packet, now=1.0)
        ring.set_shared_key(OTHER_KEY)
    assert [type(event).__name__ for event in bob.take_events()] == [
        "PacketIgnored",
        "InvocationReceived",
    ]
    assert replay(lines, {"bob": toy("bob", OTHER_KEY)}) == ()


def test_keys_that_are_given_for_plain_engines_are_not_used() -> None:
    lines: list[str] = []
    engine = Journal(lines.append).engine("alice", new_id=counting_ids("a"))
    engine.call("bob", "greet", "hi", now=1.0)
    engine.next_packet()
    assert replay(lines, {"alice": toy("alice")}) == ()


def test_answers_that_left_plain_are_replayed_plain() -> None:
    lines: list[str] = []
    config = RpcConfig(accept_plain_packets=True)
    bob = Journal(lines.append).engine(
        "bob", new_id=counting_ids("b"), config=config, cryptor=toy("bob")
    )
    bob.receive_packet(wire.encode(Request("r1", "no", "", 1), "server", "bob"), now=1.0)
    while bob.next_packet() is not None:
        pass
    assert replay(lines, {"bob": toy("bob")}) == ()
    # A packet that was sealed according to the journal, and is plain now, is seen.
    tampered = [line.replace('"error"]', '"error"]') for line in lines]
    at = next(at for at, line in enumerate(tampered) if '"packet"' in line)
    tampered[at] = tampered[at].rstrip()[:-1] + ',{"key_index":0,"iv":"AAAAAAAAAAAAAAAA"}]\n'
    assert len(replay(tampered, {"bob": toy("bob")})) == 1


def test_a_sealed_packet_where_the_journal_has_a_plain_one_is_seen() -> None:
    lines: list[str] = []
    engine = Journal(lines.append).engine("alice", new_id=counting_ids("a"), cryptor=toy("alice"))
    engine.call("bob", "greet", "hi", now=1.0)
    engine.next_packet()
    record = json.loads(lines[-1])
    assert record[-1].keys() == {"key_index", "iv"}
    lines[-1] = json.dumps(record[:-1], separators=(",", ":")) + "\n"
    assert len(replay(lines, {"alice": toy("alice")})) == 1


@pytest.mark.parametrize(
    "line",
    [
        '[1,"engine","alice",0.0,{},{"encrypted":false}]',
        '[1,"engine","alice",0.0,{},{"encrypted":true},1]',
        '[1,"engine","alice",0.0,{},{"keys":"x"}]',
    ],
)
def test_what_is_not_an_engine_is_refused(line: str) -> None:
    [head, *_] = life(toy_with_two)
    with pytest.raises(JournalError, match="line 2: this is not an engine"):
        replay([head, line + "\n"])


@each_ring
def test_a_journal_of_both_ends_is_drawn_without_keys(ring: Callable[[str], Ring]) -> None:
    text = trace(life(ring)).text(width=140)
    for shown in (
        "sealed stream header",
        "sealed ack",
        "4 sealed stream chunks",
        "sealed stream trailer",
        "sealed packet",
        "succeeded: 'small and secret'",
        "ignores a packet: undecryptable",
        "ignores a packet: no key",
        "ignores a packet: plain",
    ):
        assert shown in text, text


def one_end(ring: Callable[[str], Ring]) -> list[str]:
    """What bob's engine recorded of a call that alice made."""
    lines: list[str] = []
    alice = RpcEngine("alice", new_id=counting_ids("a"), cryptor=ring("alice"))
    bob = Journal(lines.append).engine("bob", new_id=counting_ids("b"), cryptor=ring("bob"))
    bob.register_method("echo")
    alice.call("bob", "echo", "x" * 600, now=1.0)
    request = alice.next_packet()
    assert request is not None
    bob.receive_packet(request.data, now=1.0)
    [invocation] = bob.take_events()
    assert isinstance(invocation, InvocationReceived)
    bob.respond(invocation.invocation_id, "y" * 600, now=1.0)
    while bob.next_packet() is not None:
        pass
    return lines


def test_keys_show_what_came_from_elsewhere() -> None:
    lines = one_end(toy)
    without, with_keys = trace(lines).text(width=100), trace(lines, (), toy()).text(width=100)
    assert "sealed packet" in without
    assert "sealed request" not in without
    assert "sealed request" in with_keys
    for text in (without, with_keys):
        assert "sealed ack" in text
        assert "sealed response" in text
    other = trace(lines, (), toy(key=OTHER_KEY)).text(width=100)
    assert other == without


def test_with_keys_a_call_is_found_by_its_id() -> None:
    lines = one_end(toy)
    call = "a0000000-0000-4000-8000-000000000001"
    assert "sealed request" in trace(lines, [call], toy()).text(width=100)
    assert "sealed packet" not in trace(lines, [call]).text(width=100)
