"""What of a journal is drawn, and how."""

import math
from typing import Any

import pytest

from rpcproto import InvocationReceived, RpcEngine, stamp, wire
from rpcproto.recording import Arrow, Journal, Note, Row, trace
from rpcproto.testing import counting_ids
from rpcproto.wire import Request


class World:
    """Recorded engines, and their packets carried by hand."""

    def __init__(self, *identities: str, **options: Any) -> None:
        self.lines: list[str] = []
        journal = Journal(self.lines.append)
        self.now = 0.0
        self.engines: dict[str, RpcEngine] = {
            identity: journal.engine(identity, new_id=counting_ids(f"{number:x}"), **options)
            for number, identity in enumerate(identities, 10)
        }
        for engine in self.engines.values():
            engine.register_method("greet")

    def call(self, caller: str, recipient: str, payload: str = "hi", **more: Any) -> str:
        return self.engines[caller].call(recipient, "greet", payload, now=self.now, **more)

    def carry(self, *, stamped: bool = False, lost: int = 0) -> None:
        """Everything that waits leaves, and all but the first `lost` packets arrive; answers wait
        for the next time."""
        self.now += 0.5
        packets = [
            (identity, packet)
            for identity, engine in self.engines.items()
            for packet in iter(engine.next_packet, None)
        ]
        for identity, packet in packets[lost:]:
            data = packet.data
            if stamped:
                data = stamp(data, sequence=7, sender_identity=identity, sender_sid="PA_1")
            receiver = self.engines.get(packet.destination_identity)
            if receiver is not None:
                receiver.receive_packet(data, now=self.now, sender_identity=identity)
        for engine in self.engines.values():
            for event in engine.take_events():
                if isinstance(event, InvocationReceived):
                    engine.respond(event.invocation_id, event.payload.upper(), now=self.now)


def told(row: Row) -> str:
    if isinstance(row, Note):
        return f"{row.at:g} {row.participant}: {row.text}"
    way = "->" if row.arrives else "-x"
    return f"{row.at:g} {row.sender} {way} {row.receiver}: {row.label.partition(',')[0]}"


def seen(world: World, *request_ids: str) -> list[str]:
    return list(map(told, trace(world.lines, request_ids).rows))


GREETING = [
    "0 alice: calls bob: greet 'hi'",
    "0 alice -> bob: request",
    "0.5 bob: runs greet",
    "0.5 bob -> alice: ack",
    "0.5 bob -> alice: response",
    "1 alice: succeeded: 'HI'",
]


@pytest.mark.parametrize("stamped", [False, True])
def test_a_call_between_recorded_engines_is_each_packet_once(stamped: bool) -> None:
    world = World("alice", "bob")
    world.call("alice", "bob")
    for _ in range(2):
        world.carry(stamped=stamped)
    assert seen(world) == GREETING


def test_a_packet_that_does_not_arrive_is_lost() -> None:
    world = World("alice", "bob")
    world.call("alice", "bob")
    world.carry(lost=1)
    world.engines["alice"].handle_deadline(now=6.0)
    world.engines["alice"].handle_deadline(now=7.0)
    world.engines["alice"].take_events()
    assert seen(world)[1:] == [
        "0 alice -x bob: request",
        "7 alice: a deadline passes",
        "7 alice: failed: 1501 Connection timeout",
    ]


@pytest.mark.parametrize("alone", ["alice", "bob"])
def test_a_participant_without_an_engine_in_the_journal_has_its_packets_drawn(alone: str) -> None:
    """They are taken to arrive, for nothing is known of it."""
    world = World("alice", "bob")
    world.call("alice", "bob")
    for _ in range(2):
        world.carry()
    head, *lines = world.lines
    start = "[1," if alone == "alice" else "[2,"
    its_lines = [line.replace(start, "[1,", 1) for line in lines if line.startswith(start)]
    world.lines = [head, *its_lines]
    arrows = [
        ["0 alice -> bob: request", "1 bob -> alice: ack", "1 bob -> alice: response"],
        ["0 alice -> bob: request", "0 bob -> alice: ack", "0 bob -> alice: response"],
    ][alone == "bob"]
    assert [row for row in seen(world) if "->" in row] == arrows


def test_a_packet_that_comes_twice_is_drawn_twice() -> None:
    world = World("alice", "bob")
    world.call("alice", "bob")
    packet = world.engines["alice"].next_packet()
    assert packet is not None
    for _ in range(2):
        world.engines["bob"].receive_packet(packet.data, now=1.0)
    assert seen(world)[1:] == ["0 alice -> bob: request", "1 alice -> bob: request"]


def test_a_stream_is_drawn_with_its_chunks_in_one() -> None:
    world = World("alice", "bob")
    world.engines["alice"].participant_joined("bob", now=0.0, client_protocol=1)
    request_id = world.call("alice", "bob", "x" * 50_000)
    world.carry()
    assert seen(world, request_id) == [
        "0 alice: calls bob: greet 50,000 bytes",
        "0 alice -> bob: stream header",
        "0 alice -> bob: 4 stream chunks",
        "0 alice -> bob: stream trailer",
        "0.5 bob: runs greet",
    ]
    header = trace(world.lines).rows[2]
    assert isinstance(header, Arrow)
    assert header.detail == "50,000 bytes to follow"


def test_of_one_call_all_is_drawn_and_what_happens_to_its_participants_meanwhile() -> None:
    world = World("alice", "bob", "carol")
    world.engines["alice"].participant_joined("bob", now=0.0)
    world.call("carol", "bob", "before")
    first = world.call("alice", "bob")
    second = world.call("alice", "bob", "another")
    world.carry()
    world.engines["alice"].participant_joined("carol", now=0.5)
    world.engines["bob"].disconnected(now=0.5)
    world.engines["alice"].participant_left("bob", now=0.5)
    world.engines["alice"].take_events()
    world.engines["alice"].close(now=2.0)
    assert seen(world, first) == [
        "0 alice: calls bob: greet 'hi'",
        "0 alice -> bob: request",
        "0.5 bob: runs greet",
        "0.5 bob: the connection is lost",
        "0.5 bob: leaves",
        "0.5 alice: failed: 1503 Recipient disconnected",
    ]
    assert len(seen(world, first, second)) == 10
    assert seen(world, "another") == []


def test_who_comes_and_goes_is_drawn_once_and_only_of_those_with_a_part() -> None:
    world = World("alice", "bob")
    for engine in world.engines.values():
        engine.participant_joined("carol", now=0.0)
        engine.participant_joined("dave", now=0.0)
    world.call("alice", "carol")
    for engine in world.engines.values():
        engine.participant_left("carol", now=1.0)
        engine.close(now=2.0)
    assert seen(world) == [
        "0 carol: is here",
        "0 alice: calls carol: greet 'hi'",
        "1 carol: leaves",
        "2 alice: closes",
        "2 bob: closes",
    ]


def test_what_an_engine_is_told_and_does_is_noted() -> None:
    world = World("alice")
    alice = world.engines["alice"]
    request_id = world.call("alice", "bob")
    packet = alice.next_packet()
    assert packet is not None
    alice.cancel(request_id, now=0.0)
    alice.cancel(request_id, now=0.0)
    alice.send_failed(packet, now=0.0)
    alice.receive_packet(b"\xff", now=0.0)
    alice.receive_packet(b"", now=0.0)
    alice.receive_packet(bytes(200_000), now=0.0, sender_identity="bob")
    alice.receive_packet(wire.encode(Request("r", "greet", "", 8_000), "bob", "alice"), now=0.0)
    *_, invocation = alice.take_events()
    assert isinstance(invocation, InvocationReceived)
    alice.connected(now=0.0)
    alice.disconnected(now=0.0)
    alice.take_events()
    alice.respond(invocation.invocation_id, "", now=0.0)
    alice.connected(now=0.0)
    with pytest.raises(Exception, match="finite"):
        alice.handle_deadline(now=math.nan)
    assert seen(world) == [
        "0 alice: calls bob: greet 'hi'",
        "0 alice -> bob: request",
        "0 alice: gives up",
        "0 alice: could not send it",
        "0 ? -> alice: malformed packet",
        "0 ? -> alice: unknown packet",
        "0 bob -> alice: request",
        "0 alice: ignores a packet: malformed",
        "0 alice: ignores a packet: too large",
        "0 alice: runs greet",
        "0 alice: the connection is lost",
        "0 alice: abandons it: disconnected",
        "0 alice: answers, and nobody waits for it",
        "0 alice: the connection is back",
        "0 alice: handle_deadline raised LocalProtocolError: now must be finite",
    ]
