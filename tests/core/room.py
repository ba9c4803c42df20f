"""Three engines in one room, with a network that a random script can break and that heals."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from hypothesis import strategies as st

from rpcproto import Event, InvocationReceived, LocalProtocolError, OutgoingPacket, RpcEngine, stamp
from rpcproto.testing import counting_ids

NAMES = ("alice", "bob", "carol")


@dataclass
class Member:
    """An engine, and everything that has come of it."""

    engine: RpcEngine
    calls: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    invocations: list[int] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    sent: list[OutgoingPacket] = field(default_factory=list)
    session: int = 1
    sequence: int = 0

    def sid(self, name: str) -> str:
        return f"PA_{name}_{self.session}"


class InFlight(NamedTuple):
    """A packet between its sender and its destination, as the server passes it on."""

    sender: str
    packet: OutgoingPacket
    data: bytes


class Move(NamedTuple):
    """One thing that happens: who does what, with numbers and a text to choose by."""

    what: str
    who: str
    other: str
    number: int
    text: str
    seconds: float


Moves: TypeAlias = Sequence[Move]

payloads = st.sampled_from([("", 0), ("hi", 1), ("x", 15_361), ("é", 20_000)]).map(
    lambda piece_and_count: operator.mul(*piece_and_count)
)
one_move = st.builds(
    Move,
    st.sampled_from(
        ["call"] * 4
        + ["deliver"] * 6
        + ["answer"] * 3
        + ["cancel", "fail", "lose", "repeat", "send_failed", "pass", "leave", "come_back"]
        + ["disconnect", "connect", "garbage", "forge", "announce"]
    ),
    st.sampled_from(NAMES),
    st.sampled_from(NAMES),
    st.integers(0, 7),
    payloads,
    st.sampled_from([0.0, 0.125, 1.0, 4.0, 8.0, 20.0]),
)


@st.composite
def moves(draw: st.DrawFn) -> Moves:
    size = draw(st.integers(0, 60))
    return draw(st.lists(one_move, min_size=size, max_size=size))


class Room:
    """The members, the packets between them, and the time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.in_flight: list[InFlight] = []
        self.members = {}
        for digit, name in zip("abc", NAMES, strict=True):
            self.members[name] = Member(RpcEngine(name, new_id=counting_ids(digit)))
            self.members[name].engine.register_method("greet")

    def play(self, script: Moves) -> None:
        for move in script:
            getattr(self, f"_{move.what}")(move)
            self._take()

    def heal(self) -> None:
        """Everyone is connected and hears everything, until nothing is left to happen."""
        for name in NAMES:
            self.members[name].engine.connected(now=self.now)
        self._take()
        while True:
            while self.in_flight:
                self._hand_over(self.in_flight.pop(0))
                self._take()
            deadlines = [m.engine.next_deadline for m in self.members.values()]
            open_deadlines = [deadline for deadline in deadlines if deadline is not None]
            if not open_deadlines:
                return
            self.now = max(self.now, min(open_deadlines))
            for member in self.members.values():
                member.engine.handle_deadline(now=self.now)
            self._take()

    def _take(self) -> None:
        for name, member in self.members.items():
            for packet in iter(member.engine.next_packet, None):
                member.sequence += 1
                member.sent.append(packet)
                data = stamp(
                    packet.data,
                    sequence=member.sequence,
                    sender_identity=name,
                    sender_sid=member.sid(name),
                )
                self.in_flight.append(InFlight(name, packet, data))
            for event in member.engine.take_events():
                member.events.append(event)
                if isinstance(event, InvocationReceived):
                    member.invocations.append(event.invocation_id)

    def _hand_over(self, flying: InFlight) -> None:
        receiver = self.members.get(flying.packet.destination_identity)
        if receiver is not None:
            receiver.engine.receive_packet(flying.data, now=self.now)

    # moves

    def _call(self, move: Move) -> None:
        member = self.members[move.who]
        timeout = move.seconds or None
        try:
            call = member.engine.call(
                move.other,
                "unknown" if move.number == 0 else "greet",
                move.text,
                now=self.now,
                response_timeout=timeout,
            )
        except LocalProtocolError:
            return
        member.calls.append(call)

    def _cancel(self, move: Move) -> None:
        member = self.members[move.who]
        for call in member.calls[move.number :: 8]:
            if member.engine.cancel(call, now=self.now):
                member.cancelled.append(call)

    def _answer(self, move: Move) -> None:
        member = self.members[move.who]
        for invocation_id in member.invocations[move.number :: 4]:
            member.engine.respond(invocation_id, move.text, now=self.now)

    def _fail(self, move: Move) -> None:
        member = self.members[move.who]
        for invocation_id in member.invocations[move.number :: 4]:
            member.engine.respond_error(invocation_id, 2001, move.text, now=self.now)

    def _chosen(self, move: Move) -> int | None:
        return move.number % len(self.in_flight) if self.in_flight else None

    def _deliver(self, move: Move) -> None:
        if (at := self._chosen(move)) is not None:
            self._hand_over(self.in_flight.pop(at))

    def _lose(self, move: Move) -> None:
        if (at := self._chosen(move)) is not None:
            del self.in_flight[at]

    def _repeat(self, move: Move) -> None:
        if (at := self._chosen(move)) is not None:
            self._hand_over(self.in_flight[at])

    def _send_failed(self, move: Move) -> None:
        if (at := self._chosen(move)) is not None:
            flying = self.in_flight.pop(at)
            self.members[flying.sender].engine.send_failed(flying.packet, now=self.now)

    def _forge(self, move: Move) -> None:
        """Somebody sends another's packet as their own."""
        if (at := self._chosen(move)) is not None:
            data = stamp(self.in_flight[at].data, sender_identity=move.who, sequence=2**32 - 1)
            self.members[move.other].engine.receive_packet(data, now=self.now)

    def _garbage(self, move: Move) -> None:
        self.members[move.who].engine.receive_packet(move.text.encode()[1:200], now=self.now)

    def _pass(self, move: Move) -> None:
        self.now += move.seconds
        self.members[move.who].engine.handle_deadline(now=self.now)

    def _announce(self, move: Move) -> None:
        self.members[move.who].engine.participant_joined(
            move.other,
            now=self.now,
            participant_sid=self.members[move.other].sid(move.other) if move.number % 2 else "",
            client_protocol=move.number // 2 % 3,
            capabilities=[2] if move.number > 5 else [],
        )

    def _leave(self, move: Move) -> None:
        self.members[move.who].engine.participant_left(move.other, now=self.now)

    def _come_back(self, move: Move) -> None:
        """A new session: the others hear of the new sid."""
        self.members[move.who].session += 1
        self.members[move.who].sequence = 0
        self._announce(move._replace(who=move.other, other=move.who, number=move.number | 1))

    def _disconnect(self, move: Move) -> None:
        self.members[move.who].engine.disconnected(now=self.now)

    def _connect(self, move: Move) -> None:
        self.members[move.who].engine.connected(
            now=self.now, participants_complete=move.number == 0
        )
