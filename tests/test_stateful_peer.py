"""One engine and hostile peers, each step judged by the model."""

import operator

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from stateful import MOMENTS, SETTINGS, moved, recent
from watched import Watched

from rpcproto import RpcConfig, stamp
from rpcproto.testing.strategies import (
    DrawnPacket,
    Setting,
    acks,
    forged_answers,
    packets,
    response_headers,
    responses,
    valid_packets,
)

CONFIG = RpcConfig(
    max_payload_bytes=20_000,
    max_buffered_bytes=45_000,
    max_buffered_bytes_per_sender=30_000,
    max_pending_calls=6,
    max_invocations=6,
    max_invocations_per_caller=4,
    sequence_window=4,
)

# Packets are drawn with these ids, and get the ids of calls that there are, and of requests that
# are new or were here before, when they are sent: all ids have 36 characters.
RECENT_CALLS = tuple(f"ca110000-0000-4000-8000-{at:012}" for at in range(3))
NEW, *RECENT_REQUESTS = (f"0000e570-0000-4000-8000-{at:012}" for at in range(4))
PEERS = ("bob", "carol")
SETTING = Setting(
    senders=PEERS,
    sids={"bob": "PA_bob_1", "carol": "PA_carol_1"},
    call_ids=RECENT_CALLS,
    request_ids=(NEW, *RECENT_REQUESTS),
)

ANSWERS = st.one_of(
    acks(SETTING), forged_answers(SETTING), responses(SETTING), response_headers(SETTING)
)

peers = st.sampled_from(PEERS)
numbers = st.integers(0, 4)
sids = st.sampled_from(["_1", "_1", "_2", ""])
timeouts = st.sampled_from([None, None, 1.0, 7.0, 3.25, 30.0])
payloads = st.sampled_from(
    [("hi", 1), ("", 1), ("é", 300), ("x", 15_360), ("x", 15_361), ("é", 10_001)]
).map(lambda piece_and_count: operator.mul(*piece_and_count))


class HostilePeers(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.ids = 0
        self.requests: list[str] = []
        self.received: list[bytes] = []
        self.alice = Watched("alice", self.new_id, CONFIG, "greet")

    def new_id(self) -> str:
        self.ids += 1
        return f"aa000000-0000-4000-8000-{self.ids:012}"

    # what we want

    @rule(
        to=st.sampled_from(["bob", "bob", "bob", "carol", "dave", "alice"]),
        payload=payloads,
        timeout=timeouts,
        window=timeouts,
    )
    def call(self, to: str, payload: str, timeout: float | None, window: float | None) -> None:
        self.alice.call(to, payload, timeout, window)

    @rule(at=numbers)
    def cancel(self, at: int) -> None:
        self.alice.cancel(recent(self.alice.calls, at, "none"))

    @rule(at=numbers, payload=payloads)
    def respond(self, at: int, payload: str) -> None:
        self.alice.respond(recent(self.alice.invocations, at, 1), payload)

    @rule(at=numbers, code=st.sampled_from([2001, 1500, 0]), message=payloads, data=payloads)
    def respond_error(self, at: int, code: int, message: str, data: str) -> None:
        self.alice.respond_error(recent(self.alice.invocations, at, 1), code, message, data)

    # what they send

    @rule(packet=valid_packets(SETTING))
    def receive_valid(self, packet: DrawnPacket) -> None:
        self.receive_bytes(packet.data)

    @rule(packet=ANSWERS)
    def receive_answer(self, packet: DrawnPacket) -> None:
        self.receive_bytes(packet.data)

    @rule(packet=packets(SETTING))
    def receive(self, packet: DrawnPacket) -> None:
        self.receive_bytes(packet.data)

    @rule(packet=packets(SETTING), sid=sids, sequence=st.integers(0, 9))
    def receive_stamped(self, packet: DrawnPacket, sid: str, sequence: int) -> None:
        sid = f"PA_{packet.sender_identity}{sid}" if sid else ""
        self.receive_bytes(stamp(packet.data, sequence=sequence, sender_sid=sid))

    @rule(packet=packets(SETTING), sender=peers, sid=sids)
    def receive_from(self, packet: DrawnPacket, sender: str, sid: str) -> None:
        """The host knows who sent it (R36)."""
        self.receive_bytes(packet.data, sender, f"PA_{sender}{sid}" if sid else None)

    @rule(at=numbers)
    def receive_again(self, at: int) -> None:
        self.alice.receive(recent(self.received, at, b""))

    def receive_bytes(self, data: bytes, *host_says: str | None) -> None:
        for at, name in enumerate(RECENT_CALLS):
            data = data.replace(name.encode(), recent(self.alice.calls, at, name).encode())
        for at, name in enumerate(RECENT_REQUESTS):
            data = data.replace(name.encode(), recent(self.requests, at, name).encode())
        if NEW.encode() in data:
            self.requests.append(f"bb000000-0000-4000-8000-{len(self.requests):012}")
            data = data.replace(NEW.encode(), self.requests[-1].encode())
        self.received.append(data)
        self.alice.receive(data, *host_says)

    # what happens

    @rule(
        peer=peers,
        sid=sids,
        protocol=st.sampled_from([0, 1, 2]),
        capabilities=st.sampled_from([(), (2,)]),
    )
    def joined(self, peer: str, sid: str, protocol: int, capabilities: tuple[int, ...]) -> None:
        self.alice.joined(peer, f"PA_{peer}{sid}" if sid else "", protocol, *capabilities)

    @rule(peer=peers, sid=sids)
    def left(self, peer: str, sid: str) -> None:
        self.alice.left(peer, f"PA_{peer}{sid}" if sid else "")

    @rule(too_old=st.sampled_from([False, False, True]), complete=st.booleans())
    def connected(self, too_old: bool, complete: bool) -> None:
        self.alice.connected(too_old=too_old, complete=complete)

    @rule(complete=st.booleans())
    def connection_lost(self, complete: bool) -> None:
        self.alice.disconnected()
        self.alice.receive(recent(self.received, 0, b""))
        self.alice.connected(complete=complete)

    @rule(at=numbers)
    def send_failed(self, at: int) -> None:
        self.alice.send_failed(at)

    @rule(moment=MOMENTS)
    def time_passes(self, moment: str) -> None:
        self.alice.now = moved(self.alice.now, self.alice.engine.next_deadline, moment)

    @rule(moment=MOMENTS)
    def time_passes_and_is_told(self, moment: str) -> None:
        self.time_passes(moment)
        self.alice.handle_deadline()

    def teardown(self) -> None:
        self.alice.close()
        self.alice.handle_deadline()


TestHostilePeers = HostilePeers.TestCase
TestHostilePeers.settings = SETTINGS
