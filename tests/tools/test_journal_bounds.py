"""What a remote can make a journal write: 20 times the bytes that came, and 300 bytes a packet.

The handlers here echo everything. Long names are told by the host with each packet and count as no
bytes that came, and neither does the announcement of a participant: it is not a packet.
"""

import re
import zlib
from collections.abc import Iterator
from contextlib import nullcontext
from hashlib import sha256
from typing import Any

import pytest
from helpers import raw_packet
from hypothesis import given, settings
from hypothesis import strategies as st
from memory import traced_memory
from recorded import Recorded, parsed
from script_strategies import LAW

from rpcproto import Event, InvocationReceived, OutgoingPacket, RpcConfig, stamp
from rpcproto.core.stream_reader import TURN
from rpcproto.recording import Arrow, JournalError, Note, replay, trace
from rpcproto.testing import counting_ids

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

PER_BYTE = 20
PER_PACKET = 300
BOM = "\ufeff"
FULL = ("x", "\x01", "é", "😀", '"', BOM)
"""Characters that cost JSON or a stream of chunks more than others."""
LONG = ("x" * 256, "\x01" * 256, "é" * 128, "😀" * 64)
"""Identities of 256 bytes."""


def deflated(text: str) -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflate.compress(text.encode()) + deflate.flush()


class Victim(Recorded):
    """A recorded engine whose handlers echo, and what a remote has made its journal write."""

    def __init__(
        self,
        us: str,
        remote: str,
        *,
        is_told: bool,
        config: RpcConfig = RpcConfig(),  # noqa: B008 (frozen)
        **abilities: Any,
    ) -> None:
        super().__init__()
        self.remote, self.is_told = remote, is_told
        self.now = 1_234_567.123456
        self.engine = self.add(us, config=config)
        self.engine.register_method("m")
        self.engine.participant_joined(remote, now=self.now, **abilities)
        self.answers: list[OutgoingPacket] = []
        self.begin = len(self.lines)
        self._bytes = self._packets = 0

    def receive(self, echo: str = "respond", **fields: Any) -> None:
        """A packet comes, and its handler, if one runs, echoes its payload."""
        data = raw_packet("" if self.is_told else self.remote, (), **fields)
        self._bytes += len(data)
        self._packets += 1
        self.now += 0.001
        told = self.remote if self.is_told else None
        self.engine.receive_packet(data, now=self.now, sender_identity=told)
        while (due := self.engine.next_deadline) is not None and due <= self.now + TURN:
            self.now = due  # a body of more than 1 MiB inflates in turns (R47)
            self.engine.handle_deadline(now=due)
        self.take(echo)

    def take(self, echo: str) -> None:
        """Take everything, and echo the payloads of requests."""
        for event in self.engine.take_events():
            if isinstance(event, InvocationReceived):
                self.echo(event, echo)
        self.answers += iter(self.engine.next_packet, None)

    def echo(self, event: InvocationReceived, how: str) -> None:
        """Answer with the payload, as one of several kinds of handlers would."""
        engine, payload = self.engine, event.payload
        match how:
            case "respond":
                engine.respond(event.invocation_id, payload, now=self.now)
            case "raise":
                engine.respond_error(event.invocation_id, 1, payload, payload, now=self.now)
            case "never":
                self.now += 3_600.0
                engine.handle_deadline(now=self.now)
                engine.take_events()
                engine.respond(event.invocation_id, payload, now=self.now)
            case "late":
                pass

    def event(self, kind: str) -> list[Any]:
        """The newest event of this kind, as it is written."""
        *_, event = (
            event
            for source in parsed(self.lines)
            if "events" in source
            for event in source[2:]
            if event[0] == kind
        )
        found: list[Any] = event
        return found

    @property
    def size(self) -> int:
        """The characters of all lines that packets have caused."""
        return sum(map(len, self.lines[self.begin :]))

    @property
    def bound(self) -> int:
        return PER_BYTE * self._bytes + PER_PACKET * self._packets

    def check(self) -> None:
        assert self.journal.error is None
        assert self.size <= self.bound, (self.size / self.bound, self._bytes, self._packets)


def v1(request_id: str, payload: str) -> dict[str, Any]:
    return {"rpc_request": {"id": request_id, "method": "m", "payload": payload, "version": 1}}


def header(request_id: str, stream_id: str, **more: Any) -> dict[str, Any]:
    attributes = {
        "lk.rpc_request_id": request_id,
        "lk.rpc_request_method": "m",
        "lk.rpc_request_version": "2",
    }
    fields = {"stream_id": stream_id, "topic": "lk.rpc_request", "attributes": attributes}
    return {"stream_header": {**fields, "text_header": {}, **more}}


def bomb(request_id: str, text: str) -> dict[str, Any]:
    """A request whose body is inline and compressed."""
    return header(request_id, "s", compression=1, inline_content=deflated(text))


def in_chunks(request_id: str, content: bytes, size: int, **more: Any) -> Iterator[dict[str, Any]]:
    yield header(request_id, request_id, **more)
    for index, at in enumerate(range(0, len(content), size)):
        chunk = {"stream_id": request_id, "chunk_index": index, "content": content[at : at + size]}
        yield {"stream_chunk": chunk}
    yield {"stream_trailer": {"stream_id": request_id}}


# what a remote does, again and again

payloads = st.builds(
    lambda unit, size: (unit * size)[:size],
    st.sampled_from([*FULL, "x" + BOM * 4_999]),
    st.sampled_from([0, 1, 40, 43, 85, 250, 257, 500, 5_000, 29_000]),
)
bodies = st.builds(
    lambda unit, size: (unit * (size // len(unit) + 1))[:size],
    st.sampled_from([*FULL, "x" + BOM * 4_999]),
    st.sampled_from([0, 40, 256, 257, 600, 5_000, 100_000, 300_000]),
)
ids = st.builds(
    lambda unit, size, number: f"{number}{unit * size}",
    st.sampled_from(FULL),
    st.sampled_from([0, 0, 36, 36, 40, 124]),
    st.integers(0, 3),
).filter(lambda text: len(text.encode()) <= 128)
acts: st.SearchStrategy[list[dict[str, Any]]] = st.one_of(
    st.sampled_from([[{}], [{"rpc_ack": {"request_id": "r"}}], [{"rpc_request": {"id": "r"}}]]),
    st.sampled_from([[{"rpc_response": {"request_id": "r"}}], [{"chat_message": {}}]]),
    st.builds(lambda request_id: [{"rpc_request": {"id": request_id}}], ids),
    st.builds(lambda request_id, payload: [v1(request_id, payload)], ids, payloads),
    st.builds(lambda request_id, body: [bomb(request_id, body)], ids, bodies),
    st.builds(
        lambda request_id, body, size: list(in_chunks(request_id, body.encode(), size)),
        ids,
        bodies.filter(lambda body: len(body) <= 5_000),
        st.sampled_from([400, 15_000]),
    ),
    st.builds(
        lambda request_id, body: list(in_chunks(request_id, deflated(body), 15_000, compression=1)),
        ids,
        bodies,
    ),
)
echoes = st.sampled_from(["respond", "respond", "raise", "never", "late"])
abilities = st.sampled_from([(0, ()), (1, ()), (2, ()), (2, (2,))])


@settings(LAW, max_examples=300)
@given(
    st.sampled_from(["a", "a" * 256]),
    st.sampled_from(["bob", *LONG]),
    st.booleans(),
    abilities,
    st.lists(st.tuples(acts, echoes), min_size=1, max_size=6),
)
def test_a_journal_grows_by_20_times_the_bytes_that_come_and_300_bytes_a_packet_at_most(
    us: str,
    remote: str,
    is_told: bool,
    can: tuple[int, tuple[int, ...]],
    script: list[tuple[list[dict[str, Any]], str]],
) -> None:
    victim = Victim(us, remote, is_told=is_told, client_protocol=can[0], capabilities=can[1])
    for packets, echo in script:
        for fields in packets:
            victim.receive(echo, **fields)
    victim.check()
    assert replay(victim.lines) == ()


@pytest.mark.parametrize("echo", ["respond", "raise", "never"])
@pytest.mark.parametrize("remote", ["bob", *LONG])
def test_the_bound_holds_for_many_tiny_requests_of_somebody_with_a_long_name(
    remote: str, echo: str
) -> None:
    victim = Victim("a" * 256, remote, is_told=True)
    for number in range(200):
        victim.receive(echo, **v1(str(number), ""))
    assert len(victim.answers) >= 200
    victim.check()
    assert replay(victim.lines) == ()


def test_the_bound_holds_for_packets_that_are_nothing() -> None:
    victim = Victim("alice", LONG[1], is_told=True)
    for _ in range(200):
        victim.receive()
        victim.receive(rpc_ack={"request_id": "r"})
    victim.check()


def test_the_bound_holds_for_16_mib_that_came_in_19_kb_and_are_echoed_in_2239_packets() -> None:
    """A byte order mark moves the end of a chunk: every second one has a single character."""
    unit = "x" + BOM * 5_000
    victim = Victim("alice", LONG[1], is_told=True, client_protocol=1)
    victim.receive(**bomb("r" * 36, unit * (2**24 // len(unit.encode()))))
    assert len(victim.answers) == 2_239
    victim.check()
    assert replay(victim.lines) == ()


@pytest.mark.parametrize("unit", FULL)
def test_the_bound_holds_for_a_packet_of_120_kb_that_is_echoed(unit: str) -> None:
    victim = Victim("alice", "bob", is_told=False, client_protocol=1)
    victim.receive(**v1("r", unit * (120_000 // len(unit.encode()))))
    assert len(victim.answers) > 5
    victim.check()
    assert replay(victim.lines) == ()


def test_the_bound_holds_while_many_handlers_have_not_echoed_yet() -> None:
    victim = Victim("alice", "bob", is_told=False)
    waiting: list[Event] = []
    for number in range(600):
        data = raw_packet("bob", (), **bomb(str(number), f"{number}" * 3_000))
        victim.engine.receive_packet(data, now=victim.now)
        waiting += victim.engine.take_events()
    before = len(victim.lines)
    for event in waiting:
        assert isinstance(event, InvocationReceived)
        victim.echo(event, "respond")
    assert max(map(len, victim.lines[before:])) < 250
    assert replay(victim.lines) == ()


# texts


LONG_TEXT = "0123456789" * 30
HASHED = {"length": 300, "sha256": sha256(LONG_TEXT.encode()).hexdigest()}


def test_a_long_text_in_an_event_is_hashed_and_a_host_that_echoes_it_refers_to_the_event() -> None:
    victim = Victim("alice", "bob", is_told=False)
    victim.receive(**v1("r", LONG_TEXT))
    _, events, respond, *_ = parsed(victim.lines[victim.begin :])
    assert events[2][5] == respond[2][1] == HASHED
    assert replay(victim.lines) == ()


def test_a_text_is_long_by_what_it_takes_in_json() -> None:
    victim = Victim("alice", "bob", is_told=False)
    for number, (payload, is_long) in enumerate(
        [("x" * 256, False), ("x" * 257, True), ("\x01" * 42, False), ("\x01" * 43, True)]
    ):
        victim.receive("late", **v1(str(number), payload))
        written_payload = victim.event("InvocationReceived")[5]
        assert isinstance(written_payload, dict) is is_long


def test_a_text_that_no_event_had_is_written_in_full() -> None:
    it = Recorded()
    it.engine.call("bob", "m", LONG_TEXT, now=0.0)
    it.engine.call("bob", "m", LONG_TEXT, now=0.0)
    assert [source[2][2] for source in parsed(it.lines[2:])] == [LONG_TEXT] * 2
    assert replay(it.lines) == ()


def test_every_argument_that_is_a_text_can_refer_to_an_event() -> None:
    victim = Victim("alice", "bob", is_told=False)
    victim.receive("late", **v1("r", LONG_TEXT))
    victim.engine.call("carol", "m", LONG_TEXT, now=victim.now)
    victim.engine.respond_error(1, 7, LONG_TEXT, LONG_TEXT, now=victim.now)
    victim.engine.disconnected(now=victim.now)
    with pytest.raises(Exception, match="disconnected"):
        victim.engine.call("carol", "m", LONG_TEXT, now=victim.now)
    call, error, _, refused = parsed(victim.lines[-4:])
    assert call[2][2] == refused[2][2] == HASHED
    assert error[2] == [1, 7, HASHED, HASHED, victim.now]
    assert replay(victim.lines) == ()


def test_the_texts_of_a_call_that_ended_are_known_as_well() -> None:
    victim = Victim("alice", "bob", is_told=False)
    call = victim.engine.call("bob", "m", "", now=victim.now)
    victim.receive(rpc_response={"request_id": call, "payload": LONG_TEXT})
    assert victim.event("CallSucceeded")[2] == HASHED
    call = victim.engine.call("bob", "m", LONG_TEXT, now=victim.now)
    error = {"code": 1, "message": "x", "data": LONG_TEXT * 2}
    victim.receive(rpc_response={"request_id": call, "error": error})
    assert victim.event("CallFailed")[4]["length"] == 600
    victim.engine.call("bob", "m", LONG_TEXT * 2, now=victim.now)
    calls = [source[2][2] for source in parsed(victim.lines[1:]) if source[1] == "call"]
    assert [payload["length"] for payload in calls[1:]] == [300, 600]
    assert replay(victim.lines) == ()


def test_texts_are_forgotten_but_not_while_their_invocation_runs() -> None:
    victim = Victim("alice", "bob", is_told=False)
    victim.receive("late", **v1("runs", "runs" * 100))
    for number in range(300):
        victim.receive(**v1(f"r{number}", f"{number:03}" * 100))
    calls = {"runs" * 100: True, "000" * 100: False, "043" * 100: False, "044" * 100: True}
    for payload, is_known in calls.items():
        victim.engine.call("carol", "m", payload, now=victim.now)
        assert isinstance(victim.last()[2][2], dict) is is_known
    assert replay(victim.lines) == ()


def test_a_text_of_two_invocations_is_known_until_both_have_ended() -> None:
    victim = Victim("alice", "bob", is_told=False)
    for number in range(2):
        victim.receive("late", **v1(f"both{number}", "both" * 100))
    for invocation_id in (1, 2):
        victim.engine.respond(invocation_id, "", now=victim.now)
        for number in range(257):
            victim.receive(**v1(f"{invocation_id}.{number}", f"{number:03}" * 100))
        victim.engine.call("carol", "m", "both" * 100, now=victim.now)
        assert isinstance(victim.last()[2][2], dict) is (invocation_id == 1)
    assert replay(victim.lines) == ()


def test_texts_are_forgotten_by_their_size_too() -> None:
    victim = Victim("alice", "bob", is_told=False, config=RpcConfig(max_buffered_bytes=1_000))
    for number in range(3):
        victim.receive(**v1(f"r{number}", f"{number}" * 400))
    for number, is_known in enumerate([False, True, True]):
        victim.engine.call("carol", "m", f"{number}" * 400, now=victim.now)
        assert isinstance(victim.last()[2][2], dict) is is_known
    assert replay(victim.lines) == ()


def test_what_ends_unanswered_is_forgotten_in_time() -> None:
    victim = Victim("alice", "bob", is_told=False)
    victim.receive("never", **v1("gone", "gone" * 100))
    for number in range(256):
        victim.receive(**v1(f"r{number}", f"{number:03}" * 100))
    victim.engine.call("carol", "m", "gone" * 100, now=victim.now)
    assert isinstance(victim.last()[2][2], str)
    assert replay(victim.lines) == ()


def test_a_journal_keeps_no_text_in_memory() -> None:
    victim = Victim("alice", "bob", is_told=False)
    packets = [raw_packet("bob", (), **bomb(f"r{at}", f"{at}" * 1_000_000)) for at in range(5)]
    with traced_memory() as memory:
        for data in packets:
            victim.engine.receive_packet(data, now=victim.now)
            victim.take("late")
        kept, _ = memory()
    assert kept < 500_000


# names


def test_a_long_name_is_written_once() -> None:
    victim = Victim("alice", "x" * 40, is_told=True)
    request_id = "r" * 50
    victim.receive(**v1(request_id, ""))
    joined, received, events, _, packet, _ = parsed(victim.lines[victim.begin - 1 :])
    assert joined[2][0] == {"name": 1, "is": "x" * 40}
    assert received[2][2] == events[2][3] == packet[5] == {"name": 1}
    assert events[2][2] == {"name": 2, "is": request_id}
    assert packet[6] == {"name": 2}
    assert replay(victim.lines) == ()


def test_a_replay_knows_names_after_very_many_of_them() -> None:
    victim = Victim("alice", LONG[0], is_told=True)
    for number in range(4_200):
        victim.receive(**v1(f"{number:040}", ""))
    text = "".join(victim.lines)
    assert text.count(LONG[0]) == 2
    assert text.count('"is":') == 4_202
    assert replay(victim.lines) == ()


def test_a_name_that_was_refused_is_not_referred_to() -> None:
    it = Recorded()
    for payload in ("\udc80", 3, ""):
        with pytest.raises(Exception, match="payload") if payload else nullcontext():
            it.engine.call("x" * 50, "m", payload, now=0.0)  # type: ignore[arg-type]
    assert [source[2][0] for source in parsed(it.lines[2:])] == [
        "x" * 50, "x" * 50, {"name": 1, "is": "x" * 50},
    ]  # fmt: skip
    assert replay(it.lines) == ()


# packets that left


def test_a_large_packet_that_left_is_hashed() -> None:
    it = Recorded()
    it.engine.call("bob", "m", "x" * 400, now=0.0)
    it.engine.call("bob", "m", "x" * 500, now=0.0)
    packets = list(iter(it.engine.next_packet, None))
    small, large = parsed(it.lines[-2:])
    assert isinstance(small[4], str)
    assert large[4] == [len(packets[1].data), sha256(packets[1].data).hexdigest()]
    assert replay(it.lines) == ()


def test_the_chunks_of_a_stream_do_not_repeat_to_whom_they_go() -> None:
    it = Recorded()
    for peer in ("bob", "carol"):
        it.engine.participant_joined(peer, now=0.0, client_protocol=1)
        it.engine.call(peer, "m", "x" * 40_000, now=0.0)
    while it.engine.next_packet() is not None:
        pass
    packets = [source for source in parsed(it.lines) if "packet" in source]
    assert [(source[2], len(source)) for source in packets] == [
        ("stream header", 7),
        ("stream header", 7),
        ("stream chunk", 7),
        ("stream chunk", 7),
        *[("stream chunk", 5)] * 4,
        *[("stream trailer", 5)] * 2,
    ]
    assert replay(it.lines) == ()


def test_after_very_many_streams_a_replay_is_the_same() -> None:
    it = Recorded()
    it.engine.participant_joined("bob", now=0.0, client_protocol=1)
    for _ in range(1_100):
        it.engine.call("bob", "m", "x" * 15_400, now=0.0)
    while it.engine.next_packet() is not None:
        pass
    assert replay(it.lines) == ()


@pytest.mark.parametrize("number", range(4))
def test_a_packet_that_could_not_be_sent_is_recorded_without_its_data_and_fails_again_in_a_replay(
    number: int,
) -> None:
    """The header, the chunks or the trailer of a stream, or what is not a stream."""
    it = Recorded()
    it.engine.participant_joined("bob", now=0.0, client_protocol=1)
    it.engine.call("bob", "m", "x" * 40_000, now=0.0)
    it.engine.call("carol", "m", "x" * 15_000, now=0.0)
    packets = list(iter(it.engine.next_packet, None))
    kinds = [packet.kind.value for packet in packets]
    assert kinds[:4] == ["stream header", "request", "stream chunk", "stream chunk"]
    before = len(it.lines)
    it.engine.send_failed(packets[number], now=1.0)
    it.engine.take_events()
    assert sum(map(len, it.lines[before:])) < 400
    assert "1505" in it.lines[-1]
    assert replay(it.lines) == ()


def test_a_chunk_that_could_not_be_sent_cancels_its_stream_in_a_replay_too() -> None:
    it = Recorded()
    it.engine.participant_joined("bob", now=0.0, client_protocol=1)
    it.engine.call("bob", "m", "x" * 40_000, now=0.0)
    _, chunk = it.engine.next_packet(), it.engine.next_packet()
    assert chunk is not None
    it.engine.send_failed(chunk, now=1.0)
    cancelled = it.engine.next_packet()
    assert cancelled is not None
    assert cancelled.kind.value == "stream trailer"
    assert replay(it.lines) == ()


def test_a_packet_that_the_host_made_up_is_recorded_as_far_as_it_can_be() -> None:
    it = Recorded()
    it.engine.call("bob", "m", "", now=0.0)
    packet = it.engine.next_packet()
    assert packet is not None
    for change in ({"data": "text"}, {"destination_identity": 3}, {"kind": "ack"}):
        it.engine.send_failed(packet._replace(token=0, **change), now=1.0)
    assert it.journal.error is None
    no_packet = {"foreign": "OutgoingPacket"}
    assert [source[2][0] for source in parsed(it.lines[-3:])] == [
        ["request", 0, "bob", packet.request_id], no_packet, no_packet,
    ]  # fmt: skip


# comparing


def test_a_replay_finds_a_sha_256_that_is_another_one() -> None:
    victim = Victim("alice", "bob", is_told=False, client_protocol=1)
    victim.receive(**v1("r", "x" * 20_000))
    found = 0
    for at, line in enumerate(victim.lines):
        for digest in re.findall('"([0-9a-f]{64})"', line):
            other = line.replace(digest, "0" * 64)
            lines = [*victim.lines[:at], other, *victim.lines[at + 1 :]]
            if '"respond"' in line:
                with pytest.raises(JournalError, match="no event of this engine had a text"):
                    replay(lines)
            else:
                assert [divergence.line for divergence in replay(lines)] == [at + 1]
            found += 1
    assert found == 4


# drawing


def test_a_packet_that_was_hashed_is_matched_with_the_one_that_came() -> None:
    """Whatever routers appended to it on its way."""
    victim = Victim("alice", "bob", is_told=False, client_protocol=1)
    bob = victim.add("bob", new_id=counting_ids("b"))
    bob.participant_joined("alice", now=victim.now, client_protocol=1)
    bob.call("alice", "m", "x" * 40_000, now=victim.now)
    packets = list(iter(bob.next_packet, None))
    for packet in packets:
        stamped = stamp(packet.data, sequence=7, sender_identity="bob", sender_sid="PA_1")
        victim.engine.receive_packet(stamped, now=victim.now, sender_identity="bob")
    arrows = [row for row in trace(victim.lines).rows if isinstance(row, Arrow)]
    assert [(arrow.label.partition(",")[0], arrow.detail) for arrow in arrows] == [
        ("stream header", "40,000 bytes to follow"),
        ("3 stream chunks", ""),
        ("stream trailer", ""),
    ]
    assert all(arrow.arrives for arrow in arrows)
    size = sum(len(packet.data) for packet in packets[1:-1])
    assert arrows[1].label == f"3 stream chunks, {size:,} bytes"


def test_a_packet_that_was_hashed_and_never_came_is_drawn_from_its_line() -> None:
    victim = Victim("alice", "bob", is_told=False, client_protocol=1)
    victim.receive(**v1("r", "x" * 30_100))  # the last chunk is small, and written in full
    rows = trace(victim.lines).rows
    arrows = [row.label.partition(",")[0] for row in rows if isinstance(row, Arrow)]
    assert arrows == ["request", "ack", "stream header", "3 stream chunks", "stream trailer"]
    assert [row.text for row in rows if isinstance(row, Note)][1:] == ["runs m"]


def test_long_texts_are_drawn_as_their_sizes() -> None:
    victim = Victim("alice", "bob", is_told=False)
    for error in ({"code": 1, "message": "no", "data": "x" * 300}, None):
        call = victim.engine.call("bob", "m", "", now=victim.now)
        response = {"error": error} if error else {"payload": LONG_TEXT}
        victim.receive(rpc_response={"request_id": call, **response})
    victim.receive("late", **v1("r", LONG_TEXT))
    victim.engine.call("carol", "m", LONG_TEXT, now=victim.now)
    texts = [row.text for row in trace(victim.lines).rows if isinstance(row, Note)]
    assert texts[2] == "failed: 1 no (300 bytes)"
    assert texts[4] == "succeeded: 300 bytes"
    assert texts[6] == "calls carol: m 300 bytes"
