"""The room of the test server routes as LiveKit's server does; what tests are built on it holds."""

import asyncio
import json

from livekit.protocol.models import DataPacket, DisconnectReason, ParticipantInfo, RpcAck

from rpcproto.conformance.routing import Passing, Room, dropping, repeating
from rpcproto.testing import virtual_time_run


class Listener:
    """A member that keeps what it is given."""

    def __init__(
        self, room: Room, identity: str, state: ParticipantInfo.State = ParticipantInfo.ACTIVE
    ) -> None:
        self.info = ParticipantInfo(sid=room.new_sid(), identity=identity, state=state)
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
    assert bob.updates == [("alice", "ACTIVE"), ("alice", "DISCONNECTED"), ("alice", "ACTIVE")]


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


# as the real server does


def test_a_participant_that_is_not_active_gets_its_packets_once_it_is() -> None:
    room = Room("r")
    alice, bob = Listener(room, "alice"), Listener(room, "bob", ParticipantInfo.JOINED)
    room.carry(alice, ack("1", "bob"))
    assert bob.acks() == []
    room.ready(bob)
    room.carry(alice, ack("2", "bob"))
    assert bob.acks() == ["1", "2"]


def test_an_older_server_drops_what_is_sent_to_a_participant_that_is_not_active() -> None:
    room = Room("r")
    room.keeps_packets = False
    alice, bob = Listener(room, "alice"), Listener(room, "bob", ParticipantInfo.JOINED)
    room.carry(alice, ack("1", "bob"))
    room.ready(bob)
    assert bob.acks() == []


def test_packets_are_kept_for_two_seconds() -> None:
    now = 0.0
    room = Room("r", clock=lambda: now)
    alice, bob = Listener(room, "alice"), Listener(room, "bob", ParticipantInfo.JOINED)
    room.carry(alice, ack("1", "bob"))
    now = 0.5
    room.carry(alice, ack("2", "bob"))
    now = 2.25
    room.ready(bob)
    assert bob.acks() == ["2"]


def test_packets_are_kept_within_a_number_of_bytes_for_the_whole_room() -> None:
    room = Room("r")
    alice, bob = Listener(room, "alice"), Listener(room, "bob", ParticipantInfo.JOINED)
    Listener(room, "carol")
    room.carry(alice, ack("1" * 1_000, "bob"))
    room.carry(alice, ack("2" * 60_000, "bob"))
    room.carry(alice, ack("3" * 38_500, "carol"))
    room.carry(alice, ack("4" * 1_000, "bob"))
    room.ready(bob)
    assert [number[0] for number in bob.acks()] == ["2", "4"]


def test_what_was_kept_is_not_for_who_joins_again() -> None:
    room = Room("r")
    alice, bob = Listener(room, "alice"), Listener(room, "bob", ParticipantInfo.JOINED)
    room.carry(alice, ack("1", "bob"))
    room.leave(bob)
    bob = Listener(room, "bob", ParticipantInfo.JOINED)
    room.ready(bob)
    assert bob.acks() == []


def test_reports_of_participants_are_held_back_and_come_together() -> None:
    async def main() -> None:
        room = Room("r")
        room.presence_interval = 3.0
        alice = Listener(room, "alice")
        bob = Listener(room, "bob", ParticipantInfo.JOINED)
        await asyncio.sleep(2.0)
        room.ready(bob)
        first, second = Listener(room, "carol"), Listener(room, "carol")
        assert alice.updates == []
        await asyncio.sleep(1.5)
        assert first.is_out
        assert alice.updates == [("bob", "ACTIVE"), ("carol", "DISCONNECTED"), ("carol", "ACTIVE")]
        room.leave(second)
        await asyncio.sleep(2.9)
        assert len(alice.updates) == 3
        await asyncio.sleep(0.2)
        assert alice.updates[3:] == [("carol", "DISCONNECTED")]

    virtual_time_run(main())


def test_packets_can_be_slower_than_reports_and_stay_in_order() -> None:
    async def main() -> None:
        room = Room("r")
        room.packet_delay = 0.5
        alice, bob = Listener(room, "alice"), Listener(room, "bob")
        for number in ("1", "2", "3"):
            room.carry(bob, ack(number, "alice"))
        room.leave(bob)
        room.packet_delay = 0.0
        bob = Listener(room, "bob")
        room.carry(bob, ack("4", "alice"))
        assert (alice.acks(), alice.updates[-2:]) == (
            [],
            [("bob", "DISCONNECTED"), ("bob", "ACTIVE")],
        )
        await asyncio.sleep(0.6)
        assert alice.acks() == ["1", "2", "3", "4"]
        room.packet_delay = 0.5
        room.carry(bob, ack("5", "alice"))
        room.leave(alice)
        await asyncio.sleep(0.6)
        assert alice.acks() == ["1", "2", "3", "4"]

    virtual_time_run(main())
