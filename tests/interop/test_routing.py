"""The room of the test server routes as LiveKit's server does; what tests are built on it holds."""

import asyncio
import json

from livekit.protocol.models import DataPacket, DisconnectReason, ParticipantInfo, RpcAck

from rpcproto.conformance.routing import Passing, Room, dropping, repeating
from rpcproto.testing import virtual_time_run


class Listener:
    """A member that keeps what it is given."""

    def __init__(self, room: Room, identity: str) -> None:
        self.info = ParticipantInfo(sid=room.new_sid(), identity=identity)
        self.packets: list[DataPacket] = []
        self.updates: list[tuple[str, str]] = []
        self.is_out = False
        room.join(self)

    def take_packet(self, data: bytes) -> None:
        self.packets.append(DataPacket.FromString(data))

    def take_update(self, info: ParticipantInfo) -> None:
        self.updates.append((info.identity, ParticipantInfo.State.Name(info.state)))

    def put_out(self, reason: DisconnectReason) -> None:
        self.is_out = True

    def acks(self) -> list[str]:
        """The ids of the acks that came."""
        return [packet.rpc_ack.request_id for packet in self.packets]


def ack(number: str, *destinations: str, sequence: int = 0, sender: str = "") -> bytes:
    packet = DataPacket(
        destination_identities=destinations,
        sequence=sequence,
        participant_identity=sender,
        rpc_ack=RpcAck(request_id=number),
    )
    return packet.SerializeToString()


def test_a_packet_goes_to_its_destinations_and_never_back() -> None:
    room = Room("r")
    alice, bob, carol = (Listener(room, name) for name in ("alice", "bob", "carol"))
    room.carry(alice, ack("1", "bob", "alice", "nobody"))
    room.carry(alice, ack("2"))
    assert (alice.acks(), bob.acks(), carol.acks()) == ([], ["1", "2"], ["2"])


def test_the_sender_is_who_sent_it_whatever_the_packet_says() -> None:
    room = Room("r")
    alice, bob = Listener(room, "alice"), Listener(room, "bob")
    room.carry(alice, ack("1", "bob", sequence=7, sender="carol"))
    [packet] = bob.packets
    assert packet.participant_identity == "alice"
    assert packet.participant_sid == alice.info.sid
    assert packet.sequence == 7


def test_a_sequence_that_is_not_higher_is_dropped_and_zero_is_exempt() -> None:
    room = Room("r")
    alice, bob = Listener(room, "alice"), Listener(room, "bob")
    for number, sequence in (("1", 5), ("2", 5), ("3", 4), ("4", 0), ("5", 0), ("6", 6)):
        room.carry(alice, ack(number, "bob", sequence=sequence))
    assert bob.acks() == ["1", "4", "5", "6"]


def test_bytes_that_are_no_packet_are_dropped() -> None:
    room = Room("r")
    alice, bob = Listener(room, "alice"), Listener(room, "bob")
    room.carry(alice, b"\xff\xff")
    assert bob.packets == []


def test_who_joins_again_puts_out_who_was_here() -> None:
    room = Room("r")
    bob, first, second = Listener(room, "bob"), Listener(room, "alice"), Listener(room, "alice")
    room.carry(first, ack("1", "bob"))
    room.carry(second, ack("2", "bob"))
    assert first.is_out
    assert bob.acks() == ["2"]
    assert bob.updates == [("alice", "JOINING"), ("alice", "DISCONNECTED"), ("alice", "JOINING")]


def test_what_was_sent_before_is_sent_again_on_command() -> None:
    room = Room("r")
    alice, bob = Listener(room, "alice"), Listener(room, "bob")
    room.carry(alice, ack("1", "bob", sequence=1))
    room.leave(bob)
    room.replay_on_join = True
    bob = Listener(room, "bob")
    room.ready(bob)
    assert bob.acks() == ["1"]


def test_packets_are_dropped_repeated_and_held_on_command() -> None:
    room = Room("r")
    alice, bob = Listener(room, "alice"), Listener(room, "bob")

    def is_odd(passing: Passing) -> bool:
        return int(passing.packet.rpc_ack.request_id) % 2 == 1

    with room.interfering(dropping(is_odd)):
        room.carry(alice, ack("1", "bob"))
        room.carry(alice, ack("2", "bob"))
    with room.interfering(repeating(sequenced=False)):
        room.carry(alice, ack("3", "bob", sequence=9))
    with room.holding(is_odd) as held:
        room.carry(alice, ack("5", "bob"))
        room.carry(alice, ack("6", "bob"))
        held.release()
    assert bob.acks() == ["2", "3", "3", "6", "5"]
    assert [packet.sequence for packet in bob.packets] == [0, 0, 0, 0, 0]


def test_packets_come_later_on_command() -> None:
    async def main() -> None:
        room = Room("r")
        alice, bob = Listener(room, "alice"), Listener(room, "bob")
        with room.interfering(room.delaying(5.0, lambda passing: passing.kind == "rpc_ack")):
            room.carry(alice, ack("1", "bob"))
        room.carry(alice, ack("2", "bob"))
        await asyncio.sleep(4.9)
        assert bob.acks() == ["2"]
        await asyncio.sleep(0.2)
        assert bob.acks() == ["2", "1"]

    virtual_time_run(main())


def test_all_that_passes_is_recorded_as_json_lines() -> None:
    lines: list[str] = []
    room = Room("r", lines.append)
    alice, bob = Listener(room, "alice"), Listener(room, "bob")
    room.carry(alice, ack("1", "bob"))
    joined, _, passed = map(json.loads, lines)
    assert joined["participant"]["identity"] == "alice"
    assert (passed["sender"], passed["destination"]) == ("alice", "bob")
    assert DataPacket.FromString(bytes.fromhex(passed["packet"])) == bob.packets[0]
