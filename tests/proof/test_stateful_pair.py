"""Two engines over links that lose, repeat and reorder: a ledger of what was asked and answered
says what may come of it."""

import math
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from helpers import START, Participant
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from stateful import MOMENTS, SETTINGS, moved, recent
from streams import expect_nothing_left, noise

from rpcproto import (
    CallAcknowledged,
    CallFailed,
    CallSucceeded,
    Event,
    IgnoreReason,
    InvocationAbandoned,
    InvocationReceived,
    OutgoingPacket,
    PacketIgnored,
    PacketKind,
    RpcConfig,
    stamp,
)
from rpcproto.core.packets_pb2 import DataPacket
from rpcproto.testing import counting_ids

PAYLOADS = {
    "short": "hi",
    "empty": "",
    "some chunks": "é" * 5_000,
    "long": noise(40_000),
    "just too long for a packet": "x" * 15_361,
}
"""By names, so that a failing example can be read."""

identities = st.sampled_from(["alice", "bob"])
numbers = st.integers(0, 3)
payloads = st.sampled_from([*PAYLOADS, "long"])
answers = st.one_of(
    payloads, st.sampled_from([(code, "no", "why") for code in (0, 2001, 2**32 - 1)])
)
arrivals = st.sampled_from([False, False, True])
timeouts = st.sampled_from([None, None, None, 1.0, 7.0, 30.0])


class Asked(NamedTuple):
    """A call, as whoever made it knows it."""

    payload: str
    started: float
    timeout: float


class Carried(NamedTuple):
    """A packet on its way. What the server adds is on it already."""

    receiver: str
    request_id: str
    data: bytes


class End(Participant):
    """One of the two, with its own ledger."""

    def __init__(self, identity: str, other: str, config: RpcConfig) -> None:
        super().__init__(identity, new_id=counting_ids(identity[0]), config=config)
        self.other = other
        self.sid_number = 1
        self.sequence = 0
        self.room = math.inf
        self.fails_next = False
        self.unfinished: dict[str, str] = {}
        """Streams that began to leave, by request id, whose trailer has not left."""
        self.excused: set[str] = set()
        """Requests whose streams need not end: the peer left, or sending failed."""
        self.protocol: tuple[int, tuple[int, ...]] = (0, ())
        # as a caller
        self.asked: dict[str, Asked] = {}
        self.open: list[str] = []
        self.acked: set[str] = set()
        self.bereft: set[str] = set()
        """Calls to a participant that has left since (R9)."""
        # as a responder
        self.ran: dict[str, int] = {}
        """The invocation of each request that ran here."""
        self.unanswered: list[int] = []
        self.answers: dict[str, str | tuple[int, str, str]] = {}
        self.acks: Counter[str] = Counter()
        self.first_kinds: dict[str, PacketKind] = {}
        self.answer_kinds: dict[str, PacketKind] = {}
        self.errors: dict[str, set[int]] = {}

    @property
    def sid(self) -> str:
        return f"PA_{self.identity}_{self.sid_number}"


class Pair(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.ends: dict[str, End] = {}
        self.under_way: list[Carried] = []
        self.disturbed: set[str] = set()
        """Calls that something happened to which may keep them from their answer."""
        self.requests_in: Counter[str] = Counter()
        self.is_lossless = True
        """Whether all that an engine promised must come, and come in."""

    @initialize(
        protocols=st.tuples(*[st.sampled_from([(0, ()), (1, ()), (2, ()), (2, (2,))])] * 2),
        sequenced=st.booleans(),
        grace=st.sampled_from([0.0, 2.0]),
    )
    def begin(
        self, protocols: tuple[tuple[int, tuple[int, ...]], ...], sequenced: bool, grace: float
    ) -> None:
        self.sequenced = sequenced
        config = RpcConfig(departure_grace=grace)
        for one, other in (("alice", "bob"), ("bob", "alice")):
            self.ends[one] = End(one, other, config)
        for end, protocol in zip(self.ends.values(), protocols, strict=True):
            end.protocol = protocol
        for end in self.ends.values():
            self.announce(end)

    def announce(self, end: End) -> None:
        """Tell the other that this one is here."""
        protocol, capabilities = end.protocol
        self.ends[end.other].joined(
            end.identity, end.sid, client_protocol=protocol, capabilities=capabilities
        )

    # what both want

    @rule(who=identities, payload=payloads, timeout=timeouts, arrives=arrivals)
    def call(self, who: str, payload: str, timeout: float | None, arrives: bool) -> None:
        end, payload = self.ends[who], PAYLOADS[payload]
        id_ = end.call(end.other, payload=payload, response_timeout=timeout)
        assert id_ not in end.asked
        end.asked[id_] = Asked(payload, self.now, timeout or 10.0)
        end.open.append(id_)
        if len(payload.encode()) > 15_360 and not self.knows_streams(end):
            assert end.events() == [CallFailed(id_, 1402, "Request payload too large", "")]
            end.open.remove(id_)
        self.collect(end)
        self.carry("all" if arrives else "none", 0)

    def knows_streams(self, end: End) -> bool:
        """Whether the other has announced to this one that it takes streams."""
        return self.ends[end.other].protocol[0] >= 1 and end.other in end.engine.participants

    @rule(who=identities, at=numbers, answer=answers, arrives=arrivals)
    def respond(self, who: str, at: int, answer: str | tuple[int, str, str], arrives: bool) -> None:
        self.answer(self.ends[who], at, answer)
        self.carry("all" if arrives else "none", 0)

    def answer(self, end: End, at: int, answer: str | tuple[int, str, str]) -> None:
        """Also twice, and after its time."""
        if not end.ran:
            return
        id_ = recent(list(end.ran), at, "")
        number = end.ran[id_]
        if isinstance(answer, str):
            answer = PAYLOADS[answer]
            answered = end.respond(number, answer)
        else:
            answered = end.respond_error(number, *answer)
        assert answered == (number in end.unanswered)
        if answered:
            end.unanswered.remove(number)
            end.answers[id_] = answer
        self.collect(end)

    # the links

    def send(self, end: End) -> None:
        while end.room > 0 and (packet := self.take(end)) is not None:
            end.room -= 1
            if packet.request_id not in end.asked:
                self.note(end, packet)
            if end.fails_next:
                end.fails_next = False
                self.disturbed.add(packet.request_id)
                end.excused.add(packet.request_id)
                end.send_failed(packet)
                self.collect(end, may_fail_with=1505)
                continue
            end.sequence += self.sequenced
            data = stamp(packet.data, sequence=end.sequence, sender_sid=end.sid)
            self.under_way.append(Carried(end.other, packet.request_id, data))

    def take(self, end: End) -> OutgoingPacket | None:
        """The next packet: a small one as long as there is one (R30)."""
        waiting = end.statistics.waiting_packets
        had_packets, packet = end.engine.has_packets, end.engine.next_packet()
        assert had_packets == (packet is not None)
        assert end.statistics.waiting_packets == max(0, waiting - 1)
        if packet is None:
            return None
        assert packet.destination_identity == end.other
        header = DataPacket.FromString(packet.data).stream_header
        if packet.kind is PacketKind.STREAM_HEADER and not header.HasField("inline_content"):
            end.unfinished[packet.request_id] = header.stream_id
        elif packet.kind is PacketKind.STREAM_TRAILER:
            end.unfinished.pop(packet.request_id, None)
        return packet

    def note(self, end: End, packet: OutgoingPacket) -> None:
        """A packet of a responder: the ack is first (L15), then at most one answer begins."""
        id_, kind = packet.request_id, packet.kind
        end.first_kinds.setdefault(id_, kind)
        assert end.first_kinds[id_] is PacketKind.ACK
        if kind is PacketKind.ACK:
            end.acks[id_] += 1
        elif kind is PacketKind.ERROR:
            code = DataPacket.FromString(packet.data).rpc_response.error.code
            end.errors.setdefault(id_, set()).add(code)
        elif kind in (PacketKind.RESPONSE, PacketKind.STREAM_HEADER):
            assert id_ not in end.answer_kinds
            assert isinstance(end.answers[id_], str)
            end.answer_kinds[id_] = kind

    @rule(what=st.sampled_from(["all", "one", "one twice", "lose one"]), at=numbers)
    def carry(self, what: str, at: int) -> None:
        while what == "all" and self.under_way:
            self.deliver(0)
        if what == "none" or not self.under_way:
            return
        at %= len(self.under_way)
        if what == "one twice":  # again later, and nobody is harmed by that
            self.under_way.append(self.under_way[at])
        elif what == "lose one":
            self.disturbed.add(self.under_way.pop(at).request_id)
            return
        self.disturbed |= {each.request_id for each in self.under_way[:at]}
        self.deliver(at)

    def deliver(self, at: int) -> None:
        receiver, id_, data = self.under_way.pop(at)
        end = self.ends[receiver]
        before = end.statistics.ignored
        end.receive(data)
        if end.statistics.ignored == before and DataPacket.FromString(data).WhichOneof("value") in (
            "rpc_request",
            "stream_header",
        ):
            self.requests_in[id_] += id_ not in end.asked
        self.collect(end)

    # what happens

    @rule(
        who=identities,
        what=st.sampled_from(
            ["cancels", "stalls", "fails to send", "leaves", "returns", "is cut off"]
        ),
        at=numbers,
    )
    def trouble(self, who: str, what: str, at: int) -> None:
        end = self.ends[who]
        if what == "cancels":
            self.cancel(end, recent(list(end.asked), at, "none"))
        elif what == "stalls":  # its host takes a few packets more, until it stalls no more
            end.room = at if end.room == math.inf else math.inf
            self.send(end)
        elif what == "fails to send":
            end.fails_next = True
        elif what == "is cut off":
            self.is_lossless = False
            end.disconnected()
            end.excused |= {*end.asked, *end.answers}
            self.collect(end, may_fail_with=1503)
            end.connected()
            self.announce(self.ends[end.other])
            self.replace(end)
        else:
            self.replace(end, is_seen_leaving=what == "leaves")

    def cancel(self, end: End, id_: str) -> None:
        assert end.cancel(id_) == (id_ in end.open)
        if id_ in end.open:
            end.open.remove(id_)
        self.collect(end)

    def replace(self, end: End, is_seen_leaving: bool = False) -> None:
        """It comes back under a new sid, which is how the other learns that it was away."""
        other = self.ends[end.other]
        self.disturb_all()
        if is_seen_leaving:
            other.left(end.identity, end.sid)
        end.sid_number += 1
        end.sequence = 0
        self.announce(end)
        other.excused |= {*other.asked, *other.answers}
        other.bereft |= {*other.asked}
        self.collect(other)

    @rule(moment=MOMENTS)
    def time_passes(self, moment: str) -> None:
        self.disturb_all()
        self.now = moved(self.now, self.next_deadline(), moment)
        for end in self.ends.values():
            end.time_is(self.now)
            assert end.next_deadline is None or end.next_deadline > self.now  # L7
            self.collect(end)

    def next_deadline(self) -> float | None:
        deadlines = [end.next_deadline for end in self.ends.values()]
        return min((each for each in deadlines if each is not None), default=None)

    def disturb_all(self) -> None:
        for end in self.ends.values():
            self.disturbed |= {*end.asked}

    # what came of it

    def collect(self, end: End, may_fail_with: int = 0) -> None:
        """Every event must have its reason in the ledger."""
        for event in end.events():
            self.judge(end, self.ends[end.other], event, may_fail_with)
        counts = end.statistics
        assert counts.pending_calls == len(end.open)
        is_idle = not (counts.pending_calls or counts.running_invocations or counts.open_streams_in)
        assert (end.next_deadline is None) == is_idle  # L8
        self.send(end)

    def judge(self, end: End, other: End, event: Event, may_fail_with: int) -> None:
        match event:
            case CallAcknowledged(id_):
                assert id_ in end.open
                assert id_ not in end.acked
                assert other.acks[id_]
                end.acked.add(id_)
            case CallSucceeded(id_, payload):
                end.open.remove(id_)
                assert other.answers[id_] == payload
            case CallFailed(id_, code, message, data):
                end.open.remove(id_)
                if other.answers.get(id_) != (code, message, data):
                    assert code == may_fail_with or code in self.reasons(end, other, id_)
            case InvocationReceived(number, id_, identity, method, payload, timeout):
                asked = other.asked[id_]
                assert id_ not in end.ran
                assert (identity, method, payload) == (other.identity, "greet", asked.payload)
                assert timeout == max(asked.timeout - 2, 1)
                end.ran[id_] = number
                end.unanswered.append(number)
            case InvocationAbandoned(number):
                end.unanswered.remove(number)
            case PacketIgnored(reason):  # an answer under a new sid to a call in grace
                assert reason is IgnoreReason.WRONG_SENDER
                assert end.bereft & {*end.open}
            case _:
                raise AssertionError(event)

    def reasons(self, end: End, other: End, id_: str) -> Iterable[int]:
        """The codes that this call of `end` may now fail with."""
        asked = end.asked[id_]
        yield from other.errors.get(id_, ())
        if id_ in end.bereft:
            yield 1503
        if self.now >= asked.started + asked.timeout:
            yield 1502
        if self.now >= asked.started + min(7, asked.timeout) and id_ not in end.acked:
            yield 1501 if asked.timeout > 7 else 1502
        if other.answer_kinds.get(id_) is PacketKind.STREAM_HEADER and id_ in self.disturbed:
            yield 1500  # chunks were lost, or did not come in order

    def teardown(self) -> None:
        """All links are whole again: what was not disturbed comes to its end, then everything."""
        for end in self.ends.values():
            end.room, end.fails_next = math.inf, False
            self.send(end)
        for who in self.ends:
            self.call(who, "short", None, arrives=False)
        self.settle()
        for end in self.ends.values():
            assert set(end.open) <= self.disturbed
            self.check_promises(end)
        while (deadline := self.next_deadline()) is not None:
            self.now = deadline
            self.time_passes("at")
            self.settle()
        expect_nothing_left(*self.ends.values())

    def settle(self) -> None:
        """Everything arrives, and all that is asked is answered, until nothing happens."""
        while self.under_way or any(end.unanswered for end in self.ends.values()):
            self.carry("all", 0)
            for end in self.ends.values():
                for at, number in enumerate(reversed(end.ran.values())):
                    if number in end.unanswered:
                        self.answer(end, at, "short")

    def check_promises(self, end: End) -> None:
        """Where nothing was dropped with a connection, each request was acked, and each answer
        that was accepted has left. Streams that began have ended (R38)."""
        assert set(end.unfinished) <= end.excused
        if self.is_lossless:
            for id_ in end.answers:
                assert id_ in end.answer_kinds or id_ in end.errors
            for id_, count in self.requests_in.items():
                if id_ not in end.asked:
                    assert end.acks[id_] >= count


TestPair = Pair.TestCase
TestPair.settings = SETTINGS
