"""One engine and hostile peers, each step judged by the model."""

import operator
from dataclasses import replace

from helpers import raw_packet
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from model import Invocation
from stateful import MOMENTS, SETTINGS, recent
from watched import Watched

from rpcproto import RpcConfig, stamp, wire
from rpcproto.testing.strategies import (
    DrawnPacket,
    Setting,
    answers,
    forged_answers,
    packets,
    valid_packets,
)

SMALL = RpcConfig(
    max_payload_bytes=20_000,
    max_buffered_bytes=45_000,
    max_buffered_bytes_per_sender=30_000,
    max_pending_calls=6,
    max_invocations=6,
    max_invocations_per_caller=4,
    sequence_window=4,
)
CONFIGS = {
    "small": SMALL,
    "small, with grace": replace(SMALL, departure_grace=2.0),
    "few participants": replace(SMALL, max_participants=2, departure_grace=2.0),
    "scarce bytes": replace(SMALL, max_buffered_bytes=1_200, max_invocations=9),
}

# Packets are drawn with these ids, and get the ids of calls that there are, and of requests that
# are new or were here before, when they are sent: all ids have 36 characters.
RECENT_CALLS = tuple(f"ca110000-0000-4000-8000-{at:012}" for at in range(3))
NEW, *RECENT_REQUESTS = (f"0000e570-0000-4000-8000-{at:012}" for at in range(4))
PEERS = ("bob", "carol")
COMERS = ("bob", "bob", "carol", "dave")
SETTING = Setting(
    senders=PEERS,
    sids={"bob": "PA_bob_1", "carol": "PA_carol_1"},
    call_ids=RECENT_CALLS,
    request_ids=(NEW, NEW, *RECENT_REQUESTS, RECENT_CALLS[0], RECENT_CALLS[0]),
)

TROUBLES = (
    *("cancel", "cancel", "send_failed", "send_failed", "left", "leaves in mid-call"),
    *("comes back", "connected", "disconnected", "hands over"),
)
WITHOUT_SIDS = replace(SETTING, sids={})
ANSWERS = answers(SETTING) | forged_answers(SETTING)

peers = st.sampled_from(PEERS)
numbers = st.integers(0, 4)
sids = st.sampled_from(["_1", "_1", "_2", ""])
owners = st.sampled_from([None, None, None, None, "bob", "carol"])
"""Whose sid somebody is announced under; None for one's own."""
first_sids = st.sampled_from(["_1", ""])
protocols = st.sampled_from([(0,), (1,), (2,), (2, 2)])
"""client_protocol, then capabilities."""
timeouts = st.sampled_from([None, None, 1.0, 7.0, 3.25, 30.0])
payloads = st.sampled_from(
    [("hi", 1), ("", 1), ("é", 300), ("x", 15_360), ("x", 15_361), ("é", 10_001)]
).map(lambda piece_and_count: operator.mul(*piece_and_count))


def sid_of(peer: str, ending: str) -> str:
    return f"PA_{peer}{ending}" if ending else ""


class HostilePeers(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.ids = 0
        self.requests: list[str] = []
        self.received: list[bytes] = []

    def new_id(self) -> str:
        self.ids += 1
        return f"aa000000-0000-4000-8000-{self.ids:012}"

    @initialize(
        config=st.sampled_from(list(CONFIGS)),
        protocols=st.tuples(protocols, protocols),
        sids=st.tuples(first_sids, first_sids),
        is_sealed=st.sampled_from([False, False, True]),
    )
    def begin(
        self,
        config: str,
        protocols: tuple[tuple[int, ...], ...],
        sids: tuple[str, ...],
        is_sealed: bool,
    ) -> None:
        self.alice = Watched("alice", self.new_id, CONFIGS[config], "greet", is_sealed=is_sealed)
        for peer, sid, protocol in zip(PEERS, sids, protocols, strict=True):
            self.alice.joined(peer, sid_of(peer, sid), *protocol)

    # what we want

    @rule(
        to=st.sampled_from(["bob", "bob", "bob", "carol", "dave", "alice"]),
        payload=payloads,
        timeout=timeouts,
        window=timeouts,
    )
    def call(self, to: str, payload: str, timeout: float | None, window: float | None) -> None:
        self.alice.call(to, payload, timeout, window)

    @rule(at=numbers, code=st.sampled_from([None, None, 2001, 1500, 0]), payload=payloads)
    def respond(self, at: int, code: int | None, payload: str) -> None:
        """Mostly what runs; if nothing does, a request comes first, perhaps named as a call is."""
        running = [one.number for one in self.alice.model.invocations if one.number]
        if not running:
            request = {"id": RECENT_CALLS[0] if at == 0 else NEW, "method": "greet", "version": 1}
            self.receive_bytes(raw_packet("bob", rpc_request=request))
            running = self.alice.invocations
        number = recent(running if at < 4 else self.alice.invocations, at, 1)
        if code is None:
            self.alice.respond(number, payload)
        else:
            self.alice.respond_error(number, code, payload, payload)

    # what they send

    @rule(packet=valid_packets(SETTING) | valid_packets(WITHOUT_SIDS))
    def receive_valid(self, packet: DrawnPacket) -> None:
        self.receive_bytes(packet.data)

    @rule(packet=ANSWERS, sid=st.sampled_from(["", "", "_1", "_2"]))
    def receive_answer(self, packet: DrawnPacket, sid: str) -> None:
        """From whom it should be, or from a third, or under another sid."""
        sender_sid = sid_of(packet.sender_identity, sid)
        self.receive_bytes(stamp(packet.data, sender_sid=sender_sid))

    @rule(packet=packets(SETTING))
    def receive_anything(self, packet: DrawnPacket) -> None:
        self.receive_bytes(packet.data)

    @rule(packet=packets(SETTING), sid=sids, sequence=st.integers(-1, 9), sender=peers)
    def receive_stamped(self, packet: DrawnPacket, sid: str, sequence: int, sender: str) -> None:
        """With a number and a sid, now and then another's; or the host knows who sent it (R24, R36,
        R37)."""
        if sequence > 0:
            owner = sender if sequence > 6 else packet.sender_identity
            sid = sid_of(owner, sid)
            is_packet = wire.decode(packet.data) is not None  # or else a server would drop it
            self.receive_bytes(
                stamp(packet.data, sequence=sequence, sender_sid=sid if is_packet else "")
            )
        else:
            owner = packet.sender_identity if sequence else sender
            self.receive_bytes(packet.data, sender, sid_of(owner, sid) or None)

    @rule(at=numbers)
    def receive_again(self, at: int) -> None:
        self.alice.receive(recent(self.received, at, b""))

    def receive_bytes(self, data: bytes, *host_says: str | None) -> None:
        if RECENT_CALLS[0].encode() in data and not self.alice.model.calls:
            self.alice.call("bob", "hi")
        for at, name in enumerate(RECENT_CALLS):
            calls = self.alice.calls if at else list(self.alice.model.calls)
            data = data.replace(name.encode(), recent(calls, at, name).encode())
        for at, name in enumerate(RECENT_REQUESTS):
            data = data.replace(name.encode(), recent(self.requests, at, name).encode())
        if NEW.encode() in data:
            self.requests.append(f"bb000000-0000-4000-8000-{len(self.requests):012}")
            data = data.replace(NEW.encode(), self.requests[-1].encode())
        self.received.append(data)
        self.alice.receive(data, *host_says)

    # what happens

    @rule(peer=st.sampled_from(COMERS), sid=sids, protocol=protocols, owner=owners)
    def joined(self, peer: str, sid: str, protocol: tuple[int, ...], owner: str | None) -> None:
        self.alice.joined(peer, sid_of(owner or peer, sid), *protocol)

    @rule(what=st.sampled_from(TROUBLES), at=numbers, peer=peers, sid=sids)
    def trouble(self, what: str, at: int, peer: str, sid: str) -> None:
        if what == "cancel":
            self.alice.cancel(recent(self.alice.calls, at, "none"))
        elif what == "send_failed":
            failing = [given for given in self.alice.given if isinstance(given[1], Invocation)]
            given = recent(failing if at < 3 and failing else self.alice.given, at, None)
            if given is not None:
                self.alice.send_failed(*given)
                self.alice.send_failed(*given)  # it is over by now
        elif what == "left":
            self.alice.left(peer, sid_of(peer, sid))
        elif what == "leaves in mid-call":
            if at % 2:
                self.alice.left(peer)  # so that no sid is known
            self.alice.call(peer, "hi", timeout=30.0)
            self.alice.left(peer)
            if at < 3:
                self.alice.joined(peer, sid_of(peer, sid))
            ack = raw_packet(peer, rpc_ack={"request_id": RECENT_CALLS[0]})
            self.receive_bytes(stamp(ack, sender_sid=sid_of(peer, sid) if at else ""))
        elif what == "hands over":
            self.alice.hands_over(at < 3)
            names = {"id": NEW, "method": "m" * 16 * at, "version": 1}
            self.receive_bytes(raw_packet(peer, rpc_request=names))
        elif what == "comes back":
            self.alice.joined(peer, sid_of(peer, "_1"))
            request = raw_packet(peer, rpc_request={"id": NEW, "method": "greet", "version": 1})
            sender_sid = sid_of(peer, "_1")
            self.receive_bytes(stamp(request, sequence=at + 1, sender_sid=sender_sid))
            self.alice.left(peer)
            self.alice.joined(peer, sid_of(peer, sid if at else "_1"))
            self.receive_again(at)
            if not sid:
                self.alice.call(peer, "hi")
                self.alice.joined(peer, sid_of(peer, "_1"))
        elif what in ("connected", "disconnected"):
            if what == "disconnected":
                self.alice.disconnected()
                self.alice.receive(recent(self.received, at, b""))
                self.alice.call(peer, "hi")
            self.alice.connected(too_old=at == 1, complete=at == 2)
            self.alice.call(peer, "hi")
            if at == 2:  # this may be one too many
                for comer in ("bob", "carol", "dave"):
                    self.alice.joined(comer, sid_of(comer, sid))
                self.alice.call("erin", "hi")
            self.alice.connected()

    @rule(moment=MOMENTS, told=st.sampled_from([True, True, False]))
    def time_passes(self, moment: str, told: bool) -> None:
        self.alice.time_passes(moment, told)

    def teardown(self) -> None:
        self.alice.close()
        self.alice.handle_deadline()


TestHostilePeers = HostilePeers.TestCase
TestHostilePeers.settings = SETTINGS
