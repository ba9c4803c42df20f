"""The rooms of the test server: who is here, and which data packet goes to whom.

What LiveKit's server does with data packets, and what tests want done to them besides. No sockets
here: a member is whatever takes bytes.
"""

import asyncio
import itertools
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from livekit.protocol.models import ClientInfo, DataPacket, DisconnectReason, ParticipantInfo

REPLAYED = 1_000
"""How many routed packets a room keeps to send again."""
KEPT_SECONDS = 2.0
KEPT_BYTES = 100_000
"""For how long, and how much in all, a server keeps packets for those who are not ACTIVE yet."""
PRESENCE_INTERVAL = 3.0
"""How often a server reports the participants that publish no media, in seconds."""


class Member(Protocol):
    """A participant, as the room sees it."""

    info: ParticipantInfo

    def take_packet(self, data: bytes) -> None:
        """A packet for this participant."""

    def take_update(self, info: ParticipantInfo) -> None:
        """Another participant came, changed or left."""

    def put_out(self, reason: DisconnectReason) -> None:
        """The room is over for this participant."""


def info_of(
    identity: str, sid: str, client_protocol: int, capabilities: Iterable[int]
) -> ParticipantInfo:
    """A participant who can be reached, as a server announces it."""
    return ParticipantInfo(
        sid=sid,
        identity=identity,
        state=ParticipantInfo.ACTIVE,
        client_protocol=client_protocol,
        capabilities=[ClientInfo.Capability.Name(number) for number in capabilities],
    )


class Passing(NamedTuple):
    """A packet on its way: the sender is true, the destination is here."""

    sender: str
    destination: str
    packet: DataPacket

    @property
    def kind(self) -> str:
        """The name of the packet's value: `rpc_ack`, `stream_header`, ..."""
        return str(self.packet.WhichOneof("value"))


Interference = Callable[[Passing], list[Passing]]
"""What becomes of a packet: nothing, itself, itself twice, something else."""


class Kept(NamedTuple):
    """A packet that was routed, which its destination may not have been ready for."""

    at: float
    """When, on the room's clock."""
    member: Member
    passing: Passing
    size: int
    is_delivered: bool


class Held:
    """Packets that wait until the test lets them go."""

    def __init__(self, deliver: Callable[[Passing], None]) -> None:
        self._deliver = deliver
        self.passings: list[Passing] = []

    def add(self, passing: Passing) -> None:
        """Keep one more."""
        self.passings.append(passing)

    def release(self) -> None:
        """Let all of them go, in the order they came."""
        passings, self.passings = self.passings, []
        for passing in passings:
            self._deliver(passing)


class Room:
    """Routes by identity: never back to the sender, in silence past those who are not here.

    The sender's identity and sid are overwritten with the true ones, and a reliable packet whose
    sequence is not above the sender's last one is dropped. `record` is given one JSON line for
    every packet that is delivered and every participant that comes or goes.

    Packets for a participant that is not ACTIVE are delivered once it is, if they are among the
    last KEPT_BYTES that the room has carried and not older than KEPT_SECONDS, as servers do from
    1.9.1 on. With `keeps_packets` False they are dropped, as servers before did. `clock` returns
    seconds.
    """

    def __init__(
        self,
        name: str,
        record: Callable[[str], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.members: dict[str, Member] = {}
        self.hidden: dict[str, Member] = {}
        """Members that get packets, and are never announced."""
        self.interference: Interference | None = None
        self.replay_on_join = False
        self.keeps_packets = True
        self.presence_interval: float = 0.0
        """Reports of participants are held back until this many seconds have passed, as a server
        does for PRESENCE_INTERVAL; 0: each is sent at once."""
        self.packet_delay: float = 0.0
        """Packets take this many seconds longer than reports of participants."""
        self._clock = clock
        self._kept: deque[Kept] = deque()
        self._kept_bytes = 0
        self._late_packets: deque[tuple[Member, bytes]] = deque()
        self._late_reports: dict[str, ParticipantInfo] = {}
        self._record = record
        self._sids = itertools.count(1)
        self._sequences: dict[str, int] = {}
        self._routed: deque[tuple[Member, Passing]] = deque(maxlen=REPLAYED)
        self._changed = asyncio.Event()

    # who is here

    def new_sid(self) -> str:
        """The sid of the next session."""
        return f"PA_{self.name}_{next(self._sids)}"

    def others(self, identity: str) -> list[ParticipantInfo]:
        """Who is here besides `identity`."""
        return [member.info for name, member in self.members.items() if name != identity]

    def join(self, member: Member) -> None:
        """Let a participant in; whoever had its identity is put out."""
        identity = member.info.identity
        previous = self.members.get(identity)
        if previous is not None:
            self.leave(previous)
            previous.put_out(DisconnectReason.DUPLICATE_IDENTITY)
        self.members[identity] = member
        self.announce(member.info)

    def leave(self, member: Member) -> None:
        """Take a participant out; one that is not here any more is left so."""
        if self.members.get(member.info.identity) is not member:
            return
        del self.members[member.info.identity]
        self._sequences.pop(member.info.sid, None)
        member.info.state = ParticipantInfo.DISCONNECTED
        self.announce(member.info)

    def announce(self, info: ParticipantInfo) -> None:
        """Tell the others of a participant."""
        self._write(participant=MessageToDict(info, preserving_proto_field_name=True))
        if self.presence_interval:
            if not self._late_reports:
                loop = asyncio.get_running_loop()
                loop.call_later(self.presence_interval, self._report_late)
            self._late_reports[info.sid] = _copy(info)
        else:
            self._report(info)
        self._changed.set()
        self._changed = asyncio.Event()

    def _report_late(self) -> None:
        reports, self._late_reports = self._late_reports, {}
        for info in reports.values():
            self._report(info)

    def _report(self, info: ParticipantInfo) -> None:
        for identity, member in list(self.members.items()):
            if identity != info.identity:
                member.take_update(info)

    def ready(self, member: Member) -> None:
        """The participant's channel is open."""
        member.info.state = ParticipantInfo.ACTIVE
        self.announce(member.info)
        if self.replay_on_join:
            self.replay(member.info.identity)
        self._forget_old()
        for kept in [one for one in self._kept if one.member is member and not one.is_delivered]:
            self._hand_over(member, kept.passing)

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for something about the participants; the caller brings the guard."""
        while not condition():
            await self._changed.wait()

    def sid_of(self, identity: str) -> str:
        """The sid of whoever is here under `identity`; empty if nobody is."""
        member = self.members.get(identity)
        return "" if member is None else member.info.sid

    def is_ready(self, identity: str) -> bool:
        """Whether packets reach `identity`."""
        member = self.members.get(identity)
        return member is not None and member.info.state == ParticipantInfo.ACTIVE

    # packets

    def carry(self, sender: Member, data: bytes) -> None:
        """A participant sent a packet; bytes that are no packet are dropped."""
        identity, sid = sender.info.identity, sender.info.sid
        if self.members.get(identity) is not sender:
            return
        try:
            packet = DataPacket.FromString(data)
        except DecodeError:
            return
        if packet.sequence:
            if packet.sequence <= self._sequences.get(sid, 0):
                return
            self._sequences[sid] = packet.sequence
        packet.participant_identity, packet.participant_sid = identity, sid
        for destination in packet.destination_identities or list(self.members):
            if destination != identity and self._find(destination) is not None:
                self._pass(Passing(identity, destination, packet))

    def deliver(self, passing: Passing) -> None:
        """Hand a packet over as it is, whoever it says it is from; tests forge with this."""
        member = self._find(passing.destination)
        if member is None:
            return
        is_active = member.info.state == ParticipantInfo.ACTIVE
        if self.keeps_packets:
            size = passing.packet.ByteSize()
            self._kept.append(Kept(self._clock(), member, passing, size, is_active))
            self._kept_bytes += size
            self._forget_old()
        if is_active:
            self._hand_over(member, passing)

    def _hand_over(self, member: Member, passing: Passing) -> None:
        self._routed.append((member, passing))
        data = passing.packet.SerializeToString()
        self._write(sender=passing.sender, destination=passing.destination, packet=data.hex())
        if self.packet_delay or self._late_packets:
            self._late_packets.append((member, data))
            asyncio.get_running_loop().call_later(self.packet_delay, self._hand_over_late)
        else:
            member.take_packet(data)

    def _hand_over_late(self) -> None:
        member, data = self._late_packets.popleft()
        if self._find(member.info.identity) is member:
            member.take_packet(data)

    def _find(self, identity: str) -> Member | None:
        return self.members.get(identity) or self.hidden.get(identity)

    def _forget_old(self) -> None:
        oldest = self._clock() - KEPT_SECONDS
        while self._kept and (self._kept[0].at < oldest or self._kept_bytes > KEPT_BYTES):
            self._kept_bytes -= self._kept.popleft().size

    def replay(self, identity: str) -> None:
        """Send again all that is kept of what `identity` was sent, as after a re-join."""
        for passing in [one for _, one in self._routed if one.destination == identity]:
            self.deliver(passing)

    def last_sequence(self, member: Member) -> int:
        """The last number of a participant's reliable packets; 0 before the first."""
        return self._sequences.get(member.info.sid, 0)

    def send_again(self, member: Member, last_sequences: Mapping[str, int]) -> None:
        """Send a participant what it has missed of what is kept: packets after the last number
        that it has from each sender, by sid."""
        for routed, (_, _, packet) in list(self._routed):
            last = last_sequences.get(packet.participant_sid, 0)
            if routed is member and packet.sequence > last:
                member.take_packet(packet.SerializeToString())

    def _pass(self, passing: Passing) -> None:
        passings = [passing] if self.interference is None else self.interference(passing)
        for each in passings:
            self.deliver(each)

    def _write(self, **line: Any) -> None:
        if self._record is not None:
            self._record(json.dumps({"time": time.time(), "room": self.name, **line}))

    # what tests do to packets

    @contextmanager
    def interfering(self, interference: Interference) -> Iterator[None]:
        """Let `interference` decide on every packet inside the `with`."""
        self.interference = interference
        try:
            yield
        finally:
            self.interference = None

    @contextmanager
    def holding(self, chosen: Callable[[Passing], bool]) -> Iterator[Held]:
        """Hold the chosen packets back, until they are released or the `with` ends."""
        held = Held(self.deliver)

        def hold(passing: Passing) -> list[Passing]:
            if not chosen(passing):
                return [passing]
            held.add(passing)
            return []

        with self.interfering(hold):
            yield held
        held.release()

    def delaying(self, seconds: float, chosen: Callable[[Passing], bool]) -> Interference:
        """An interference: the chosen packets come `seconds` later."""

        def delay(passing: Passing) -> list[Passing]:
            if not chosen(passing):
                return [passing]
            asyncio.get_running_loop().call_later(seconds, self.deliver, passing)
            return []

        return delay


def _copy(info: ParticipantInfo) -> ParticipantInfo:
    copy = ParticipantInfo()
    copy.CopyFrom(info)
    return copy


def dropping(chosen: Callable[[Passing], bool]) -> Interference:
    """An interference: the chosen packets are lost."""
    return lambda passing: [] if chosen(passing) else [passing]


def repeating(*, sequenced: bool = True) -> Interference:
    """An interference: every packet comes twice; not `sequenced`, no number tells that it does."""

    def repeat(passing: Passing) -> list[Passing]:
        if not sequenced:
            packet = DataPacket()
            packet.CopyFrom(passing.packet)
            packet.sequence = 0
            passing = passing._replace(packet=packet)
        return [passing, passing]

    return repeat
