"""The rules for both sides: R28 and R30 as far as packets go, R32 to R42, and peers as they are."""

import math
import pickle
from collections.abc import Callable
from dataclasses import fields
from enum import Enum
from typing import Any

import pytest
from helpers import (
    MESSAGES,
    START,
    V1_LIMIT,
    Participant,
    error,
    failures,
    raw_packet,
    request,
    short,
)
from memory import least_memory, traced_memory

from rpcproto import (
    AbandonReason,
    CallAcknowledged,
    CallFailed,
    CallSucceeded,
    IgnoreReason,
    InvocationAbandoned,
    InvocationReceived,
    LocalProtocolError,
    PacketIgnored,
    PacketKind,
    RpcConfig,
    RpcEngine,
    RpcError,
    stamp,
    wire,
)
from rpcproto.core.repeats import SequenceWindow
from rpcproto.testing import counting_ids
from rpcproto.wire import Ack, ErrorResponse, OutgoingMessage, Request, Response


def alice_invocations(alice: Participant) -> list[InvocationReceived]:
    return [event for event in alice.events() if isinstance(event, InvocationReceived)]


# --- R28: bounds on what comes in, as far as packets go


@pytest.mark.parametrize("excess", [0, 1])
@pytest.mark.parametrize("config", [RpcConfig(), RpcConfig(max_packet_bytes=1_000)], ids=short)
def test_r28_a_packet_over_the_limit_is_ignored_unparsed(config: RpcConfig, excess: int) -> None:
    alice = Participant(config=config)
    size = config.max_packet_bytes + excess
    packet = wire.encode(request(payload="x" * (size - 100)), "bob", "alice")
    unknown_field = bytes.fromhex("fa07") + bytes([size - len(packet) - 3])
    packet += unknown_field.ljust(size - len(packet), b"x")
    assert len(packet) == size
    alice.receive(packet)
    if excess:
        assert alice.events() == [PacketIgnored(IgnoreReason.TOO_LARGE, "")]
        assert alice.packets() == []
    else:
        assert alice.sent() == [Ack("r1")]


def test_r28_the_default_limits() -> None:
    kib, mib = 1024, 1024 * 1024
    assert RpcConfig() == RpcConfig(
        response_timeout=10,
        ack_timeout=7,
        latency_allowance=2,
        invocation_grace=7,
        max_invocation_lifetime=3_600,
        stream_idle_timeout=15,
        departure_grace=0,
        max_payload_bytes=16 * mib,
        max_packet_bytes=128 * kib,
        max_buffered_bytes=64 * mib,
        max_buffered_bytes_per_sender=32 * mib,
        max_waiting_bytes=64 * mib,
        max_pending_calls=10_000,
        max_invocations=10_000,
        max_invocations_per_caller=1_000,
        max_waiting_packets=10_000,
        max_untaken_events=100_000,
        remembered_requests=4_096,
        remembered_requests_per_caller=256,
        sequence_window=1_024,
        max_participants=10_000,
    )


@pytest.mark.parametrize("field", [field.name for field in fields(RpcConfig)])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, -math.inf, "1", "0", None])
def test_r33_a_limit_that_is_none_raises(field: str, value: Any) -> None:
    """The only limit that may be 0 is `departure_grace` (R9)."""
    limits: dict[str, Any] = {field: value}
    if (field, value) == ("departure_grace", 0):
        assert RpcConfig(**limits) == RpcConfig()
        return
    with pytest.raises(LocalProtocolError, match=field):
        RpcConfig(**limits)


def test_r33_a_departure_grace_that_equals_0_and_is_no_number_raises() -> None:
    value: Any = 0j
    with pytest.raises(LocalProtocolError, match="departure_grace must be a number of seconds"):
        RpcConfig(departure_grace=value)


@pytest.mark.parametrize("value", [0, 0.0, 5e-324, 2, 2.5, 1e308])
def test_r9_r33_a_departure_grace_of_0_or_more_is_one(value: float) -> None:
    assert RpcConfig(departure_grace=value).departure_grace == value


@pytest.mark.parametrize("request_id", ["i", "i" * 128, "é" * 64], ids=short)
@pytest.mark.parametrize("identity", ["b", "b" * 256, "é" * 128], ids=short)
@pytest.mark.parametrize("sid", ["", "s" * 256, "é" * 128], ids=short)
def test_r28_ids_of_128_bytes_and_names_of_256_are_read(
    request_id: str, identity: str, sid: str
) -> None:
    alice = Participant()
    alice.receive(request(request_id), identity, sid=sid)
    assert alice.sent() == [Ack(request_id)]


@pytest.mark.parametrize("too_long", ["i" * 129, "é" * 64 + "i", ""], ids=short)
@pytest.mark.parametrize(
    "message",
    [request, Ack, lambda id_: Response(id_, "x"), lambda id_: ErrorResponse(id_, 1, "m", "d")],
)
@pytest.mark.parametrize("announced", [False, True])
def test_r28_an_id_that_is_empty_or_over_128_bytes_is_malformed(
    message: Callable[[str], OutgoingMessage], too_long: str, announced: bool
) -> None:
    alice = Participant()
    if announced:
        alice.joined("bob")
    alice.receive(message(too_long))
    assert alice.events() == [PacketIgnored(IgnoreReason.MALFORMED, "")]
    assert alice.packets() == []


@pytest.mark.parametrize("too_long", ["n" * 257, "é" * 128 + "n"], ids=short)
@pytest.mark.parametrize("which", ["identity", "sid"])
def test_r28_a_name_over_256_bytes_is_malformed(which: str, too_long: str) -> None:
    alice = Participant()
    if which == "identity":
        alice.receive(request(), too_long)
    else:
        alice.receive(request(), "bob", sid=too_long)
    assert alice.events() == [PacketIgnored(IgnoreReason.MALFORMED, "")]


@pytest.mark.parametrize(
    "config",
    [RpcConfig(max_buffered_bytes_per_sender=100), RpcConfig(max_buffered_bytes=114)],
    ids=["of one sender", "in all"],
)
def test_r28_payloads_count_until_their_invocation_ends(config: RpcConfig) -> None:
    """The last eighth of 114 bytes, 14 of them, is reserved."""
    alice = Participant(config=config)
    alice.receive(request("r1", payload="é" * 30))
    alice.receive(request("r2", payload="x" * 40))
    alice.packets()
    first, second = alice.events()
    assert isinstance(first, InvocationReceived)
    assert isinstance(second, InvocationReceived)
    assert alice.statistics.buffered_bytes == 100
    alice.receive(request("r3", payload=""))
    assert alice.sent() == [Ack("r3")]
    alice.receive(request("r4", payload="x"))
    assert alice.sent() == [Ack("r4"), error("r4", 1500, data="too many bytes")]
    alice.receive(request("r1", payload="xx"), "carol")
    assert len(alice.sent()) == (1 if config.max_buffered_bytes > 114 else 2)
    alice.respond(first.invocation_id)
    alice.packets()
    alice.receive(request("r5", payload="x" * 59))
    assert alice.sent() == [Ack("r5")]


@pytest.mark.parametrize(
    "end",
    [
        lambda alice, number: alice.respond(number),
        lambda alice, number: alice.respond_error(number, 7),
        lambda alice, number: alice.time_is(START + 100),
        lambda alice, number: alice.left("bob"),
        lambda alice, number: alice.disconnected(),
        lambda alice, number: alice.close(),
    ],
)
def test_r28_an_invocation_that_ends_gives_its_bytes_back(
    end: Callable[[Participant, int], object],
) -> None:
    alice = Participant()
    alice.receive(request("r1", payload="é" * 30))
    end(alice, alice.invocation().invocation_id)
    assert alice.statistics.buffered_bytes == 0
    assert alice.statistics.running_invocations == 0


@pytest.mark.parametrize(("size", "fits"), [(100, True), (101, False)])
def test_r28_a_v1_request_over_max_payload_bytes_is_1402(size: int, fits: bool) -> None:
    alice = Participant(config=RpcConfig(max_payload_bytes=100))
    alice.receive(request(payload="x" * size))
    assert alice.sent() == ([Ack("r1")] if fits else [Ack("r1"), error("r1", 1402)])


@pytest.mark.parametrize(("size", "fits"), [(100, True), (101, False)])
def test_r28_a_v1_response_over_max_payload_bytes_is_1504(size: int, fits: bool) -> None:
    alice = Participant(config=RpcConfig(max_payload_bytes=100))
    call = alice.call()
    alice.receive(Response(call, "x" * size))
    if fits:
        assert alice.events() == [CallSucceeded(call, "x" * size)]
    else:
        assert failures(alice.events()) == [(call, 1504)]


def test_r28_an_answer_that_finds_no_room_to_wait_fails_alone() -> None:
    alice = Participant(config=RpcConfig(max_waiting_bytes=1_000))
    alice.receive(request("r1"))
    alice.receive(request("r2"))
    first, second = alice_invocations(alice)
    assert alice.respond(first.invocation_id, "x" * 900) is True
    assert alice.respond(second.invocation_id, "x" * 900) is True
    *acks_and_answer, refusal = alice.sent()
    assert acks_and_answer == [Ack("r1"), Ack("r2"), Response("r1", "x" * 900)]
    assert isinstance(refusal, ErrorResponse)
    assert (refusal.request_id, refusal.code) == ("r2", 1504)


# --- R29: what every packet of ours has


def test_r29_every_packet_has_our_identity_and_one_destination_and_no_sid_or_sequence() -> None:
    alice = Participant()
    alice.call("carol")
    alice.receive(request("r1"), "bob", sid="PA_1", sequence=9)
    alice.receive(request("r2", "unknown"), "dave")
    alice.respond(alice.invocation().invocation_id)
    packets = alice.packets()
    assert len(packets) == 5
    for packet in packets:
        decoded = wire.decode(packet.data)
        assert decoded is not None
        assert decoded[:4] == ("alice", "", (packet.destination_identity,), 0)


# --- R30: small packets


def test_r30_small_packets_leave_in_the_order_in_which_they_were_made() -> None:
    alice = Participant()
    alice.receive(request("r1"), "bob")
    first = alice.invocation().invocation_id
    call = alice.call("carol")
    alice.receive(request("r2", "unknown"), "bob")
    alice.receive(request("r3"), "dave")
    alice.respond(alice.invocation().invocation_id, "x")
    second_call = alice.call("bob")
    alice.respond_error(first, 7, "m")
    assert alice.sent() == [
        Ack("r1"),
        Request(call, "greet", "hi", 8_000),
        Ack("r2"),
        error("r2", 1400),
        Ack("r3"),
        Response("r3", "x"),
        Request(second_call, "greet", "hi", 8_000),
        ErrorResponse("r1", 7, "m", ""),
    ]


# --- R32: what is ignored


CALL = counting_ids("a")()
"""The id of the one call that is pending when a packet is ignored."""


IGNORED: dict[str, tuple[bytes, IgnoreReason, str | None]] = {
    "no protobuf": (b"\xff", IgnoreReason.MALFORMED, ""),
    "cut off": (b"\x52\x05\x0a", IgnoreReason.MALFORMED, ""),
    "no UTF-8": (
        wire.encode(error(CALL, 7, "m", "d"), "bob", "alice")[:-1] + b"\xff",
        IgnoreReason.MALFORMED,
        "",
    ),
    "too large": (bytes(131_073), IgnoreReason.TOO_LARGE, ""),
    "for others": (
        raw_packet("bob", ["carol"], rpc_ack={"request_id": CALL}),
        IgnoreReason.NOT_FOR_US,
        "bob",
    ),
    "from ourselves": (
        raw_packet("alice", rpc_ack={"request_id": CALL}),
        IgnoreReason.FROM_OURSELVES,
        "alice",
    ),
    "request of nobody": (raw_packet("", rpc_request={"id": "r1"}), IgnoreReason.NO_SENDER, ""),
    "answer of another": (
        raw_packet("carol", rpc_ack={"request_id": CALL}),
        IgnoreReason.WRONG_SENDER,
        "carol",
    ),
    "borrowed sid": (
        raw_packet("carol", participant_sid="PA_bob", rpc_request={"id": "r1", "version": 1}),
        IgnoreReason.IMPERSONATION,
        "carol",
    ),
    "encrypted": (
        raw_packet(encrypted_packet={"encrypted_value": b"x"}),
        IgnoreReason.ENCRYPTED,
        "bob",
    ),
    "empty": (b"", IgnoreReason.UNKNOWN_KIND, None),
    "no kind": (raw_packet(), IgnoreReason.UNKNOWN_KIND, None),
    "chat message": (raw_packet(chat_message={}), IgnoreReason.UNKNOWN_KIND, None),
    "metrics": (raw_packet(metrics={}), IgnoreReason.UNKNOWN_KIND, None),
    "new kind": (raw_packet() + b"\xfa\x07\x00", IgnoreReason.UNKNOWN_KIND, None),
    "stream on another topic": (
        raw_packet(stream_header={"stream_id": "s", "topic": "lk.chat", "text_header": {}}),
        IgnoreReason.UNKNOWN_TOPIC,
        "bob",
    ),
    "chunk of no stream": (
        raw_packet(stream_chunk={"stream_id": "s"}),
        IgnoreReason.UNKNOWN_STREAM,
        None,
    ),
    "trailer of no stream": (
        raw_packet(stream_trailer={"stream_id": "s"}),
        IgnoreReason.UNKNOWN_STREAM,
        None,
    ),
    "answer to no call": (
        raw_packet(rpc_ack={"request_id": "c0"}),
        IgnoreReason.UNKNOWN_CALL,
        "bob",
    ),
    "answer to an old call": (raw_packet(rpc_ack={"request_id": "old"}), IgnoreReason.LATE, None),
    "second ack": (raw_packet(rpc_ack={"request_id": "acked"}), IgnoreReason.REPEAT, None),
    "second packet of this number": (
        raw_packet(participant_sid="PA_bob", sequence=5, rpc_ack={"request_id": CALL}),
        IgnoreReason.REPEAT,
        None,
    ),
}


def alice_with_a_past() -> Participant:
    """Alice, with one call that is over, one that is acked and one, CALL, of which nothing came."""
    ids = iter(["old", "acked", CALL])
    alice = Participant(new_id=lambda: next(ids))
    alice.joined("bob", "PA_bob")
    alice.cancel(alice.call())
    alice.call()
    alice.receive(Ack("acked"), sid="PA_bob", sequence=5)
    alice.call()
    alice.events()
    alice.packets()
    return alice


@pytest.mark.parametrize(("packet", "reason", "told"), IGNORED.values(), ids=IGNORED)
def test_r32_what_has_no_effect_is_counted_and_mostly_told(
    packet: bytes, reason: IgnoreReason, told: str | None
) -> None:
    alice = alice_with_a_past()
    before = alice.statistics
    alice.receive(packet)
    assert alice.ignored == {reason: 1}
    assert alice.events() == ([] if told is None else [PacketIgnored(reason, told)])
    assert alice.packets() == []
    after = alice.statistics
    assert after.packets_in == before.packets_in + 1
    assert (after.pending_calls, after.running_invocations) == (2, 0)


def test_r32_every_reason_is_shown_here_or_below() -> None:
    below = {IgnoreReason.OVERLOADED, IgnoreReason.DISCONNECTED}
    # In test_rules_sealed.py, with a cryptor.
    below |= {IgnoreReason.PLAIN, IgnoreReason.NO_KEY, IgnoreReason.UNDECRYPTABLE}
    assert {reason for _, reason, _ in IGNORED.values()} | below == set(IgnoreReason)


@pytest.mark.parametrize("names", [IgnoreReason, AbandonReason, PacketKind])
def test_r32_reasons_and_kinds_are_shown_by_their_names(names: type[Enum]) -> None:
    assert all(name.value == name.name.lower().replace("_", " ") for name in names)


def test_r32_an_answer_is_late_while_its_call_is_remembered_and_unknown_some_time_after() -> None:
    alice = Participant(config=RpcConfig(remembered_requests=4))
    first = alice.call()
    alice.cancel(first)
    late = unknown = 0
    for _ in range(12):
        alice.receive(Ack(first))
        late, unknown = late + (not alice.events()), unknown + 1
        alice.cancel(alice.call())
        alice.packets()
    assert 4 <= late < 12
    assert alice.ignored == {IgnoreReason.LATE: late, IgnoreReason.UNKNOWN_CALL: unknown - late}


def test_r32_requests_are_ignored_while_the_outbox_is_full() -> None:
    alice = Participant(config=RpcConfig(max_waiting_packets=2))
    alice.receive(request("r1"))
    alice.receive(request("r2"))
    alice.receive(request("r3"))
    alice.receive(request("r1"))
    *received, overloaded, again = alice.events()
    assert [e.request_id for e in received if isinstance(e, InvocationReceived)] == ["r1", "r2"]
    assert overloaded == again == PacketIgnored(IgnoreReason.OVERLOADED, "bob")
    assert alice.ignored == {IgnoreReason.OVERLOADED: 2}
    assert alice.sent() == [Ack("r1"), Ack("r2")]
    alice.receive(request("r3"))
    assert alice.sent() == [Ack("r3")]


def test_r32_a_full_outbox_does_not_keep_answers_from_coming_in() -> None:
    alice = Participant(config=RpcConfig(max_waiting_packets=1))
    call = alice.call()
    alice.receive(Ack(call))
    alice.receive(Response(call, "x"))
    assert alice.events() == [CallAcknowledged(call), CallSucceeded(call, "x")]


def test_r32_requests_are_ignored_while_too_many_events_are_untaken() -> None:
    alice = Participant(config=RpcConfig(max_untaken_events=2))
    for number in range(4):
        alice.receive(request(f"r{number}"))
    assert alice.sent() == [Ack("r0"), Ack("r1")]
    assert alice.ignored == {IgnoreReason.OVERLOADED: 2}
    assert len(alice.events()) == 2
    alice.receive(request("r2"))
    assert alice.sent() == [Ack("r2")]


def test_r32_no_more_than_so_many_events_of_ignored_packets_wait() -> None:
    alice = Participant(config=RpcConfig(max_untaken_events=3))
    for _ in range(10):
        alice.receive(b"\xff")
    assert alice.ignored == {IgnoreReason.MALFORMED: 10}
    assert len(alice.events()) == 3


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_r32_a_packet_may_be_any_bytes(kind: Callable[[bytes], Any]) -> None:
    alice = Participant()
    alice.engine.receive_packet(kind(wire.encode(request(), "bob", "alice")), now=START)
    assert alice.sent() == [Ack("r1")]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_r28_a_packet_of_just_the_limit_is_read_and_a_byte_more_is_not(
    kind: Callable[[bytes], Any],
) -> None:
    packet = wire.encode(request(), "bob", "alice")
    alice = Participant(config=RpcConfig(max_packet_bytes=len(packet)))
    alice.engine.receive_packet(kind(packet), now=START)
    assert alice.sent() == [Ack("r1")]
    alice.engine.receive_packet(kind(b"\xff" * len(packet)), now=START)
    alice.engine.receive_packet(kind(b"\xff" * (len(packet) + 1)), now=START)
    alice.engine.receive_packet(kind(b"\xff" * (len(packet) + 2)), now=START)
    assert alice.ignored == {IgnoreReason.MALFORMED: 1, IgnoreReason.TOO_LARGE: 2}


def test_r32_a_packet_is_read_before_the_buffer_is_used_again() -> None:
    alice = Participant()
    buffer = bytearray(wire.encode(request(payload="hello"), "bob", "alice"))
    alice.engine.receive_packet(memoryview(buffer), now=START)
    buffer[:] = bytes(len(buffer))
    assert alice.invocation().payload == "hello"


def test_r32_the_statistics_count_what_is_open_and_what_has_passed() -> None:
    alice = Participant()
    call = alice.call()
    alice.receive(request("r1", payload="é"))
    alice.receive(b"\xff")
    counts = alice.statistics
    assert (counts.pending_calls, counts.running_invocations) == (1, 1)
    assert (counts.packets_in, counts.packets_out, counts.waiting_packets) == (2, 0, 2)
    assert counts.buffered_bytes == 2
    assert counts.ignored == {IgnoreReason.MALFORMED: 1}
    assert alice.engine.has_packets
    packets = alice.packets()
    assert counts.waiting_bytes == sum(len(packet.data) for packet in packets)
    alice.cancel(call)
    alice.respond(alice_invocations(alice)[0].invocation_id)
    alice.packets()
    counts = alice.statistics
    assert (counts.pending_calls, counts.running_invocations) == (0, 0)
    assert (counts.packets_in, counts.packets_out, counts.waiting_packets) == (2, 3, 0)
    assert (counts.waiting_bytes, counts.buffered_bytes) == (0, 0)
    assert (counts.open_streams_in, counts.open_streams_out) == (0, 0)


# --- R33: local misuse


LONE = "\ud800"
BAD_TEXTS: list[Any] = [LONE, b"bytes", None, 7]
BAD_NUMBERS: list[Any] = [math.nan, math.inf, -math.inf, "1", None, 10**400]
BAD_TIMEOUTS: list[Any] = [0, -1, 0.0, math.nan, math.inf, "1", 10**400]
BAD_CODES: list[Any] = [-1, 2**32, 1.5, "1", None]

MISUSE: list[Callable[[RpcEngine], object]] = [
    *(lambda e, bad=bad: e.call(bad, "m", "p", now=150) for bad in ["", "x" * 257, *BAD_TEXTS]),
    *(lambda e, bad=bad: e.call("bob", bad, "p", now=150) for bad in ["", "x" * 65, *BAD_TEXTS]),
    *(lambda e, bad=bad: e.call("bob", "m", bad, now=150) for bad in BAD_TEXTS),
    *(lambda e, bad=bad: e.call("bob", "m", "p", now=bad) for bad in BAD_NUMBERS),
    *(
        lambda e, bad=bad: e.call("bob", "m", "p", now=150, response_timeout=bad)
        for bad in BAD_TIMEOUTS
    ),
    *(
        lambda e, bad=bad: e.call("bob", "m", "p", now=150, ack_timeout=bad)
        for bad in BAD_TIMEOUTS
    ),
    *(lambda e, bad=bad: e.cancel("c", now=bad) for bad in BAD_NUMBERS),
    *(lambda e, bad=bad: e.respond(1, bad, now=150) for bad in BAD_TEXTS),
    *(lambda e, bad=bad: e.respond(99, bad, now=150) for bad in BAD_TEXTS),
    *(lambda e, bad=bad: e.respond(1, "p", now=bad) for bad in BAD_NUMBERS),
    *(lambda e, bad=bad: e.respond_error(1, bad, now=150) for bad in BAD_CODES),
    *(lambda e, bad=bad: e.respond_error(99, bad, now=150) for bad in BAD_CODES),
    *(lambda e, bad=bad: e.respond_error(1, 7, bad, now=150) for bad in BAD_TEXTS),
    *(lambda e, bad=bad: e.respond_error(1, 7, "m", bad, now=150) for bad in BAD_TEXTS),
    *(lambda e, bad=bad: e.respond_error(1, 7, now=bad) for bad in BAD_NUMBERS),
    *(lambda e, bad=bad: e.register_method(bad) for bad in ["", "x" * 65, "greet", *BAD_TEXTS]),
    *(lambda e, bad=bad: e.receive_packet(bad, now=150) for bad in ["text", None, 7, [1]]),
    *(lambda e, bad=bad: e.receive_packet(b"", now=bad) for bad in BAD_NUMBERS),
    *(
        lambda e, bad=bad: e.receive_packet(b"", now=150, sender_identity=bad)
        for bad in ["x" * 257, LONE, b"bytes", 7]
    ),
    *(
        lambda e, bad=bad: e.receive_packet(b"", now=150, sender_identity="bob", sender_sid=bad)
        for bad in ["x" * 257, LONE, b"bytes", 7]
    ),
    lambda e: e.receive_packet(b"", now=150, sender_sid="PA_1"),
    *(lambda e, bad=bad: e.participant_joined(bad, now=150) for bad in ["", "x" * 257, *BAD_TEXTS]),
    *(
        lambda e, bad=bad: e.participant_joined("bob", participant_sid=bad, now=150)
        for bad in ["x" * 257, *BAD_TEXTS]
    ),
    *(lambda e, bad=bad: e.participant_joined("bob", now=bad) for bad in BAD_NUMBERS),
    *(lambda e, bad=bad: e.participant_left(bad, now=150) for bad in ["", "x" * 257, *BAD_TEXTS]),
    *(
        lambda e, bad=bad: e.participant_left("bob", participant_sid=bad, now=150)
        for bad in ["x" * 257, *BAD_TEXTS]
    ),
    *(lambda e, bad=bad: e.participant_left("bob", now=bad) for bad in BAD_NUMBERS),
    *(lambda e, bad=bad: e.connected(now=bad) for bad in BAD_NUMBERS),
    *(lambda e, bad=bad: e.disconnected(now=bad) for bad in BAD_NUMBERS),
    *(lambda e, bad=bad: e.handle_deadline(now=bad) for bad in BAD_NUMBERS),
    *(lambda e, bad=bad: e.close(now=bad) for bad in BAD_NUMBERS),
]  # fmt: skip


def test_r33_local_misuse_raises_and_changes_nothing() -> None:
    asked_for_ids = []

    def new_id() -> str:
        asked_for_ids.append(True)
        return ids()

    ids = counting_ids("a")
    alice = Participant(new_id=new_id)
    call = alice.call()
    alice.receive(request("r1"))
    before = alice.appearance
    for misuse in MISUSE:
        with pytest.raises(LocalProtocolError):
            misuse(alice.engine)
        assert alice.appearance == before
    assert len(asked_for_ids) == 1
    # And time has not moved either: a new call counts from before the misuse.
    other = alice.call(response_timeout=1)
    assert alice.next_deadline == START + 1
    alice.cancel(other)
    alice.receive(Response(call, "x"))
    received, succeeded = alice.events()
    assert isinstance(received, InvocationReceived)
    assert succeeded == CallSucceeded(call, "x")
    assert alice.respond(received.invocation_id) is True


@pytest.mark.parametrize("identity", ["", "x" * 257, *BAD_TEXTS], ids=short)
def test_r33_an_impossible_identity_of_our_own_raises(identity: Any) -> None:
    with pytest.raises(LocalProtocolError):
        RpcEngine(identity, new_id=counting_ids())


@pytest.mark.parametrize("offset", BAD_NUMBERS, ids=short)
def test_r33_an_impossible_unix_time_offset_raises(offset: Any) -> None:
    with pytest.raises(LocalProtocolError):
        RpcEngine("alice", new_id=counting_ids(), unix_time_offset=offset)


def test_r33_what_is_left_out_is_empty() -> None:
    alice = Participant()
    alice.engine.participant_joined("bob", now=START)
    call = alice.call()
    alice.receive(request("r1"), sid="PA_1")
    invocation_id = alice.invocation().invocation_id
    assert alice.engine.respond_error(invocation_id, 7, now=START)
    assert alice.sent()[-1] == ErrorResponse("r1", 7, "", "")
    alice.receive(Ack(call), sid="PA_1")
    assert alice.events() == [CallAcknowledged(call)]
    alice.joined("bob", "PA_1")
    alice.engine.participant_left("bob", now=START)
    assert failures(alice.events()) == [(call, 1503)]


def test_r33_the_ids_are_asked_for_last() -> None:
    """Also after the check of the bound on pending calls."""
    ids = iter(["only"])
    alice = Participant(config=RpcConfig(max_pending_calls=1), new_id=lambda: next(ids))
    alice.call()
    with pytest.raises(LocalProtocolError):
        alice.call()


@pytest.mark.parametrize(
    "input_",
    [
        lambda e: e.cancel("unknown", now=200),
        lambda e: e.respond(99, "x", now=200),
        lambda e: e.respond_error(99, 7, now=200),
        lambda e: e.receive_packet(b"\xff", now=200),
        lambda e: e.receive_packet(bytes(200_000), now=200),
        lambda e: e.participant_joined("bob", now=200),
        lambda e: e.participant_left("bob", now=200),
        lambda e: e.connected(now=200),
        lambda e: e.handle_deadline(now=200),
        lambda e: e.cancel(e.call("alice", "m", "p", now=200), now=0),
    ],
)
def test_r33_every_now_that_was_accepted_counts(input_: Callable[[RpcEngine], object]) -> None:
    alice = Participant()
    input_(alice.engine)
    alice.call()
    assert alice.next_deadline == 207


def test_r33_time_that_goes_back_stands_still() -> None:
    alice = Participant()
    alice.call(response_timeout=3)
    alice.now = START - 50
    alice.call(response_timeout=2)
    assert alice.next_deadline == START + 2
    alice.time_is(START - 50)
    assert alice.events() == []


@pytest.mark.parametrize("now", [-1e9, 0, 1e9, 7])
def test_r33_time_may_begin_anywhere(now: float) -> None:
    alice = Participant()
    alice.now = now
    alice.call(response_timeout=1)
    assert alice.next_deadline == now + 1


@pytest.mark.parametrize(
    "local_input",
    [
        lambda e: e.call("bob", "m", "p", now=START),
        lambda e: e.cancel("c", now=START),
        lambda e: e.respond(1, "x", now=START),
        lambda e: e.respond_error(1, 7, now=START),
        lambda e: e.register_method("other"),
    ],
)
def test_r33_with_too_many_untaken_events_a_local_input_raises(
    local_input: Callable[[RpcEngine], object],
) -> None:
    alice = Participant(config=RpcConfig(max_untaken_events=2))
    alice.receive(request("r1"))
    local_input(Participant().engine)
    alice.receive(b"\xff")
    before = alice.appearance
    with pytest.raises(LocalProtocolError):
        local_input(alice.engine)
    assert alice.appearance == before
    assert len(alice.events()) == 2
    local_input(alice.engine)


# --- R34: what is newer than we are


def test_r34_unknown_fields_are_ignored() -> None:
    unknown = bytes.fromhex("fa0703") + b"new" + bytes.fromhex("f80701")
    fields_of_request = {"id": "r1", "method": "greet", "payload": "hi", "version": 1}
    body = raw_packet("", [], rpc_request=fields_of_request)
    nested = body[2:] + unknown
    alice = Participant()
    alice.receive(unknown + raw_packet("bob") + b"\x52" + bytes([len(nested)]) + nested + unknown)
    invocation = alice.invocation()
    assert (invocation.method, invocation.payload) == ("greet", "hi")


def test_r34_an_encrypted_packet_has_a_reason_of_its_own_and_no_answer() -> None:
    alice = Participant()
    alice.receive(raw_packet(encrypted_packet={"encryption_type": 1, "encrypted_value": b"x" * 50}))
    assert alice.events() == [PacketIgnored(IgnoreReason.ENCRYPTED, "bob")]
    assert alice.packets() == []


# --- R35: the same inputs give the same outputs


def conversation(alice: Participant) -> tuple[object, ...]:
    """A bit of everything, and all that came of it."""
    alice.connected(server_version="1.9.0")
    alice.joined("bob", "PA_1")
    call = alice.call("bob", "m", "é" * 50)
    alice.receive(request("r1", payload="x" * 50))
    alice.receive(request("r2", "unknown"), "carol")
    alice.receive(b"\xff")
    alice.receive(Ack(call), sid="PA_1", sequence=1)
    alice.time_is(START + 10)
    received = [event for event in alice.events() if isinstance(event, InvocationReceived)]
    alice.respond(received[0].invocation_id, "y" * 50)
    alice.close()
    return received, alice.events(), alice.packets(), alice.appearance


def test_r35_the_same_inputs_give_the_same_outputs() -> None:
    assert conversation(Participant()) == conversation(Participant())


# --- R36: the host's word about the sender


@pytest.mark.parametrize(
    ("claimed", "claimed_sid", "identity", "sid", "counts"),
    [
        ("mallory", "PA_9", "bob", "PA_1", True),
        ("mallory", "PA_9", "bob", None, True),
        ("mallory", "PA_9", "bob", "", True),
        ("bob", "PA_1", "mallory", "PA_1", False),
        ("bob", "PA_1", "mallory", None, False),
        ("bob", "PA_1", "bob", "PA_2", False),
        ("bob", "PA_2", "bob", None, True),
        ("bob", "PA_1", "", None, False),
        ("alice", "", "bob", None, True),
        ("bob", "PA_1", "alice", None, False),
        # What the packet claims is not all that the host says.
        ("bob", "", "bob", None, True),
        ("bob", "", "bob", "PA_1", True),
        ("bob", "", "bob", "PA_9", False),
        ("bob", "", "carol", None, False),
    ],
)
def test_r36_the_host_s_word_replaces_what_the_packet_claims(
    claimed: str, claimed_sid: str, identity: str, sid: str | None, counts: bool
) -> None:
    alice = Participant()
    alice.joined("bob", "PA_1")
    call = alice.call()
    alice.receive(Ack(call), claimed, sid=claimed_sid, sender_identity=identity, sender_sid=sid)
    if counts:
        assert alice.events() == [CallAcknowledged(call)]
    else:
        [ignored] = alice.events()
        assert isinstance(ignored, PacketIgnored)
        assert ignored.sender_identity == identity


def test_r36_a_request_is_answered_to_whom_the_host_says() -> None:
    alice = Participant()
    alice.receive(request("r1"), "mallory", sid="PA_9", sender_identity="bob")
    assert alice.invocation().caller_identity == "bob"
    assert [packet.destination_identity for packet in alice.packets()] == ["bob"]
    alice.receive(request("r1"), "bob")
    assert alice.ignored == {IgnoreReason.REPEAT: 1}


def test_r16_r36_a_request_is_a_repeat_in_whatever_form_it_comes_again() -> None:
    alice, request_id = Participant(), counting_ids("b")()
    alice.joined("bob", "PA_1")
    alice.receive(request(request_id), "bob")
    assert alice.invocation().request_id == request_id
    alice.receive(request(request_id), "bob", sequence=7)
    alice.receive(request(request_id), "bob", sid="PA_1", sequence=8)
    alice.receive(request(request_id), "mallory", sender_identity="bob")
    assert alice.ignored == {IgnoreReason.REPEAT: 3}


def test_r36_the_host_s_word_replaces_that_of_an_announced_participant() -> None:
    """Its packets have neither a sid nor a number, so that nothing about them is unusual."""
    alice, new_id = Participant(), counting_ids("b")
    alice.joined("bob", "PA_1")
    alice.joined("carol", "PA_2")
    for _ in range(2):
        alice.receive(request(new_id()), "bob", sender_identity="carol", sender_sid="PA_2")
        assert alice.invocation().caller_identity == "carol"
    alice.receive(request(new_id()), "bob", sender_identity="alice")
    assert alice.events() == [PacketIgnored(IgnoreReason.FROM_OURSELVES, "alice")]
    alice.receive(request(new_id()), "bob", sender_identity="")
    assert alice.events() == [PacketIgnored(IgnoreReason.NO_SENDER, "")]


@pytest.mark.parametrize("data", [b"\xff", bytes(200_000)], ids=["malformed", "too large"])
def test_r36_what_cannot_be_read_is_told_with_the_host_s_word(data: bytes) -> None:
    alice = Participant()
    alice.receive(data, sender_identity="bob")
    [ignored] = alice.events()
    assert isinstance(ignored, PacketIgnored)
    assert ignored.sender_identity == "bob"


# --- R37: packets that were seen before


def is_seen(alice: Participant, sequence: int, sid: str = "PA_1", sender: str = "bob") -> bool:
    """Whether a packet with this number is ignored as one that was here before.

    It is an ack for no call, so it leaves nothing behind but its number.
    """
    repeats = alice.ignored.get(IgnoreReason.REPEAT, 0)
    unknown = alice.ignored.get(IgnoreReason.UNKNOWN_CALL, 0)
    alice.receive(Ack("none"), sender, sid=sid, sequence=sequence)
    seen = alice.ignored.get(IgnoreReason.REPEAT, 0) > repeats
    assert seen or alice.ignored[IgnoreReason.UNKNOWN_CALL] == unknown + 1
    alice.events()
    return seen


def test_r37_a_packet_that_was_seen_has_no_effect() -> None:
    alice = Participant()
    alice.joined("bob", "PA_1")
    alice.receive(request("r1"), sid="PA_1", sequence=7)
    assert alice.sent() == [Ack("r1")]
    alice.events()
    alice.receive(request("r2"), sid="PA_1", sequence=7)
    assert (alice.sent(), alice.events()) == ([], [])
    assert alice.ignored == {IgnoreReason.REPEAT: 1}


def test_r37_numbers_count_only_with_a_number_and_a_sid_of_an_announced_participant() -> None:
    alice = Participant()
    for _ in range(2):
        assert not is_seen(alice, 7)
    alice.joined("bob", "PA_1")
    for _ in range(2):
        assert not is_seen(alice, 0)
        assert not is_seen(alice, 7, sid="")
        assert not is_seen(alice, 7, sid="PA_2")
    assert not is_seen(alice, 7)
    assert is_seen(alice, 7)


def test_r37_each_sid_has_numbers_of_its_own() -> None:
    alice = Participant()
    alice.joined("bob", "PA_1")
    alice.joined("carol", "PA_2")
    assert not is_seen(alice, 7)
    assert not is_seen(alice, 7, "PA_2", "carol")
    assert is_seen(alice, 7, "PA_2", "carol")


@pytest.mark.parametrize("config", [RpcConfig(), RpcConfig(sequence_window=8)], ids=short)
def test_r37_a_reordering_transport_loses_nothing_within_the_window(config: RpcConfig) -> None:
    size = config.sequence_window
    alice = Participant(config=config)
    alice.joined("bob", "PA_1")
    newest = 10 * size
    assert not is_seen(alice, newest)
    assert not is_seen(alice, newest - size + 1)
    assert is_seen(alice, newest - size)
    assert is_seen(alice, 1)
    assert not is_seen(alice, newest - 2)
    assert not is_seen(alice, newest - 1)
    for number in (newest, newest - 1, newest - 2, newest - size + 1):
        assert is_seen(alice, number)
    # The window slides: one number further, its last one falls out.
    assert not is_seen(alice, newest + 1)
    assert is_seen(alice, newest - size + 1)
    assert not is_seen(alice, newest - size + 2)
    assert is_seen(alice, newest)


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 2**31])
def test_r37_a_jump_keeps_what_is_still_in_the_window(step: int) -> None:
    alice = Participant(config=RpcConfig(sequence_window=4))
    alice.joined("bob", "PA_1")
    for number in (1, 3, 4):
        assert not is_seen(alice, number)
    newest = 4 + step
    assert not is_seen(alice, newest)
    for number in (newest - 1, newest - 2, newest - 3):
        assert is_seen(alice, number) is (number in (1, 3, 4))


@pytest.mark.big
def test_r37_a_window_takes_no_more_memory_than_its_size() -> None:
    """However far the numbers go, and in whatever steps."""

    def peak() -> int:
        window = SequenceWindow(64)
        with traced_memory() as memory:
            for number in range(1, 400_000, 50):
                assert window.mark(number)
            assert window.mark(2**32 - 1)
            return memory()[1]

    assert least_memory(peak, 10_000) < 10_000


@pytest.mark.parametrize("sid", ["", "PA_1"])
def test_r37_r40_joining_again_keeps_the_numbers_and_the_sid(sid: str) -> None:
    alice = Participant()
    alice.joined("bob", "PA_1")
    assert not is_seen(alice, 7)
    alice.joined("bob", sid)
    assert is_seen(alice, 7)
    assert not is_seen(alice, 8)


def test_r37_numbers_without_a_sid_do_not_count_of_someone_announced_without_one() -> None:
    alice = Participant()
    alice.joined("bob")
    for _ in range(2):
        assert not is_seen(alice, 7, sid="")


def test_r37_nobody_burns_another_s_numbers() -> None:
    alice = Participant()
    alice.joined("bob", "PA_1")
    alice.joined("carol", "PA_2")
    for number in (7, 2**32 - 1):
        alice.receive(Ack("none"), "carol", sid="PA_1", sequence=number)
        alice.receive(Ack("none"), "mallory", sid="PA_1", sequence=number)
        alice.receive(Ack("none"), "alice", sid="PA_1", sequence=number)
        alice.receive(Ack("none"), "", sid="PA_1", sequence=number)
    assert alice.ignored.keys() == {IgnoreReason.IMPERSONATION, IgnoreReason.FROM_OURSELVES}
    assert not is_seen(alice, 7)


def test_r37_the_numbers_of_the_last_256_departed_sids_are_known_when_they_come_back() -> None:
    alice = Participant()

    def comes_and_goes(sid: str) -> bool:
        alice.joined("bob", sid)
        seen = is_seen(alice, 7, sid)
        alice.left("bob")
        return seen

    for number in range(256):
        assert not comes_and_goes(f"PA_{number}")
    assert comes_and_goes("PA_0")
    assert not comes_and_goes("PA_256")
    assert comes_and_goes("PA_0")
    assert not comes_and_goes("PA_1")


@pytest.mark.parametrize("departure", ["left", "other sid", "disconnected"])
def test_r37_r41_numbers_are_known_again_however_the_sid_departed(departure: str) -> None:
    alice = Participant()
    alice.joined("bob", "PA_1")
    assert not is_seen(alice, 7)
    if departure == "left":
        alice.left("bob")
    elif departure == "other sid":
        alice.joined("bob", "PA_2")
    else:
        alice.disconnected()
        alice.connected()
    alice.joined("bob", "PA_1")
    assert is_seen(alice, 7)


# --- R39: whom a packet is for, and from


@pytest.mark.parametrize(
    ("destinations", "counts"),
    [
        (["alice"], True),
        ([], True),
        (["bob", "alice", "carol"], True),
        (["carol"], False),
        (["Alice"], False),
        ([""], False),
        (["bob", "carol"], False),
    ],
)
def test_r39_a_packet_for_others_is_ignored(destinations: list[str], counts: bool) -> None:
    alice = Participant()
    alice.receive(raw_packet("bob", destinations, rpc_request={"id": "r1", "version": 1}))
    if counts:
        assert alice.sent() == [Ack("r1"), error("r1", 1400)]
    else:
        assert alice.events() == [PacketIgnored(IgnoreReason.NOT_FOR_US, "bob")]
        assert alice.packets() == []


def test_r39_a_packet_from_ourselves_is_ignored() -> None:
    alice = Participant()
    alice.receive(request(), "alice")
    alice.receive(request(), "bob", sender_identity="alice")
    assert alice.events() == [PacketIgnored(IgnoreReason.FROM_OURSELVES, "alice")] * 2
    assert alice.packets() == []


def test_r24_a_sid_that_is_announced_for_another_is_ignored_without_a_packet() -> None:
    alice = Participant()
    alice.joined("bob", "PA_1")
    alice.receive(request(), "mallory", sid="PA_1")
    assert alice.events() == [PacketIgnored(IgnoreReason.IMPERSONATION, "mallory")]
    assert alice.packets() == []
    alice.left("bob")
    alice.receive(request(), "mallory", sid="PA_1")
    assert alice.sent() == [Ack("r1")]


def test_r24_a_sid_that_is_not_announced_yet_is_accepted_on_a_request() -> None:
    alice = Participant()
    alice.joined("bob", "PA_1")
    alice.receive(request(), "bob", sid="PA_2")
    assert alice.sent() == [Ack("r1")]


# --- R40: joining, again and anew


@pytest.mark.parametrize("sid", ["", "PA_1"])
def test_r40_joining_again_is_an_update(sid: str) -> None:
    alice = Participant()
    alice.joined("bob", "PA_1")
    call = alice.call()
    alice.receive(request("r1"))
    invocation_id = alice.invocation().invocation_id
    alice.joined("bob", sid)
    assert alice.events() == []
    alice.receive(Ack(call), sid="PA_2")
    assert alice.events() == [PacketIgnored(IgnoreReason.WRONG_SENDER, "bob")]
    alice.receive(Ack(call), sid="PA_1")
    assert alice.events() == [CallAcknowledged(call)]
    assert alice.respond(invocation_id) is True


@pytest.mark.parametrize("announced_without", [False, True])
def test_r40_pending_calls_adopt_the_first_sid_that_is_learned(announced_without: bool) -> None:
    alice = Participant()
    if announced_without:
        alice.joined("bob")
    call = alice.call("bob")
    to_carol = alice.call("carol")
    alice.joined("bob", "PA_1")
    alice.receive(Ack(call), sid="PA_2")
    assert alice.events() == [PacketIgnored(IgnoreReason.WRONG_SENDER, "bob")]
    alice.receive(Ack(call), sid="PA_1")
    alice.receive(Ack(to_carol), "carol", sid="PA_7")
    assert alice.events() == [CallAcknowledged(call), CallAcknowledged(to_carol)]


def test_r40_a_new_sid_is_left_then_joined() -> None:
    alice = Participant()
    alice.joined("bob", "PA_1")
    call = alice.call()
    alice.receive(request("r1"))
    invocation_id = alice.invocation().invocation_id
    alice.joined("bob", "PA_2")
    assert alice.events() == [
        CallFailed(call, 1503, MESSAGES[1503], ""),
        InvocationAbandoned(invocation_id, AbandonReason.CALLER_LEFT),
    ]
    call = alice.call()
    alice.receive(Ack(call), sid="PA_2")
    assert alice.events() == [CallAcknowledged(call)]
    alice.receive(request("r2"), sid="PA_1")
    assert alice.invocation().request_id == "r2"


def test_r40_leaving_under_another_sid_than_the_current_one_is_ignored() -> None:
    alice = Participant()
    alice.connected(participants_complete=True)
    alice.joined("bob", "PA_2")
    alice.call()
    alice.receive(request("r1"))
    alice.events()
    alice.left("bob", "PA_1")
    assert alice.events() == []
    alice.call()
    assert alice.events() == []
    alice.left("bob", "PA_2")
    assert len(alice.events()) == 3
    call = alice.call()
    assert failures(alice.events()) == [(call, 1401)]


def test_r40_the_participants_are_those_that_joined_and_have_not_left() -> None:
    alice = Participant()
    for identity in ("carol", "bob", "dave"):
        alice.joined(identity)
    alice.left("bob")
    alice.receive(request(), "erin")
    assert alice.engine.participants == ("carol", "dave")


@pytest.mark.big
def test_r40_l14_nothing_is_kept_of_the_names_of_those_who_left() -> None:
    alice = Participant()

    def come_and_go(first: int) -> None:
        for number in range(first, first + 400):
            alice.joined(f"{number:0200}")
            alice.left(f"{number:0200}")

    come_and_go(0)  # what is cached is full
    with traced_memory() as memory:
        come_and_go(400)
        kept, _ = memory()
    assert kept < 200_000


# --- R41: the connection is lost


def test_r41_losing_the_connection_ends_everything_that_is_under_way() -> None:
    alice = Participant()
    alice.joined("bob", "PA_1")
    call = alice.call()
    alice.receive(request("r1"))
    invocation_id = alice.invocation().invocation_id
    alice.disconnected()
    assert alice.events() == [
        CallFailed(call, 1503, MESSAGES[1503], ""),
        InvocationAbandoned(invocation_id, AbandonReason.DISCONNECTED),
    ]
    assert alice.packets() == []
    assert alice.next_deadline is None
    assert (alice.statistics.waiting_packets, alice.statistics.waiting_bytes) == (0, 0)
    assert alice.respond(invocation_id) is False
    alice.disconnected()
    assert (alice.events(), alice.packets()) == ([], [])


def test_r41_everyone_has_left_when_the_connection_is_back() -> None:
    alice = Participant()
    alice.connected(participants_complete=True)
    alice.joined("bob")
    alice.disconnected()
    alice.connected(participants_complete=True)
    call = alice.call()
    assert failures(alice.events()) == [(call, 1401)]


def test_r41_methods_and_memories_stay() -> None:
    alice = Participant()
    alice.joined("bob", "PA_1")
    alice.receive(request("r1"), sid="PA_1", sequence=1)
    alice.receive(request("r2"), sid="PA_1", sequence=2)
    alice.respond(alice_invocations(alice)[0].invocation_id)
    alice.disconnected()
    alice.connected()
    alice.joined("bob", "PA_1")
    alice.events()
    # The server replays: by number, and without one.
    alice.receive(request("r1"), sid="PA_1", sequence=1)
    assert alice.sent() == []
    for request_id in ("r1", "r2"):
        alice.receive(request(request_id), sid="PA_1")
        assert alice.sent() == [Ack(request_id)]
    assert alice.events() == []
    assert alice.ignored == {IgnoreReason.REPEAT: 3}
    alice.receive(request("r3"), sid="PA_1", sequence=3)
    assert alice.invocation().method == "greet"


def test_r41_until_connected_packets_are_ignored_and_joins_recorded() -> None:
    alice = Participant()
    alice.disconnected()
    alice.receive(request("r1"), sid="PA_1", sequence=1)
    alice.receive(b"")
    assert alice.events() == [PacketIgnored(IgnoreReason.DISCONNECTED, "")] * 2
    assert alice.packets() == []
    alice.joined("bob", "PA_1")
    alice.joined("carol", "PA_2")
    alice.left("carol")
    alice.connected(participants_complete=True)
    call = alice.call("bob")
    to_carol = alice.call("carol")
    assert failures(alice.events()) == [(to_carol, 1401)]
    alice.receive(Ack(call), sid="PA_9")
    assert alice.events() == [PacketIgnored(IgnoreReason.WRONG_SENDER, "bob")]
    # What was ignored meanwhile was not marked as seen.
    alice.receive(request("r1"), sid="PA_1", sequence=1)
    assert alice.invocation().request_id == "r1"


def test_r41_connected_again_is_an_update() -> None:
    alice = Participant()
    call = alice.call()
    alice.receive(request("r1"))
    invocation_id = alice.invocation().invocation_id
    waiting = alice.statistics
    alice.connected(server_version="1.9.0", participants_complete=True)
    assert (alice.events(), alice.statistics) == ([], waiting)
    alice.receive(Ack(call))
    assert alice.events() == [CallAcknowledged(call)]
    assert alice.respond(invocation_id) is True


def test_r41_the_answer_to_a_request_from_before_is_not_sent_again() -> None:
    alice = Participant()
    alice.receive(request("r1"))
    alice.respond(alice.invocation().invocation_id)
    _ack, answer = alice.packets()
    alice.disconnected()
    alice.connected()
    alice.send_failed(answer)
    assert alice.packets() == []


# --- R42: the end


def test_r42_close_ends_everything_and_lets_waiting_packets_go() -> None:
    alice = Participant()
    call = alice.call()
    alice.receive(request("r1"))
    alice.receive(request("r2"))
    first, second = alice_invocations(alice)
    alice.respond(first.invocation_id)
    alice.close()
    assert alice.events() == [
        CallFailed(call, 1503, MESSAGES[1503], ""),
        InvocationAbandoned(second.invocation_id, AbandonReason.CLOSED),
    ]
    assert alice.next_deadline is None
    alice.disconnected()
    assert alice.sent() == [
        Request(call, "greet", "hi", 8_000),
        Ack("r1"),
        Ack("r2"),
        Response("r1", "hello"),
    ]


def test_r42_after_close_nothing_can_be_begun_and_nothing_has_an_effect() -> None:
    alice = Participant()
    call = alice.call()
    alice.receive(request("r1"))
    invocation_id = alice.invocation().invocation_id
    [request_packet, _ack] = alice.packets()
    alice.close()
    alice.events()
    before = alice.appearance
    with pytest.raises(LocalProtocolError, match="closed"):
        alice.call()
    with pytest.raises(LocalProtocolError, match="closed"):
        alice.engine.register_method("other")
    assert alice.respond(invocation_id) is False
    assert alice.respond_error(invocation_id, 7) is False
    assert alice.cancel(call) is False
    alice.receive(request("r2"))
    alice.receive(b"\xff")
    alice.receive(b"")
    alice.joined("bob", "PA_1")
    alice.left("bob")
    alice.disconnected()
    alice.connected()
    alice.send_failed(request_packet)
    alice.time_is(START + 100)
    alice.engine.unregister_method("greet")
    alice.close()
    assert (alice.events(), alice.packets(), alice.appearance) == ([], [], before)
    with pytest.raises(LocalProtocolError, match="closed"):
        alice.call()


def test_r42_closing_while_disconnected_works_too() -> None:
    alice = Participant()
    alice.disconnected()
    alice.close()
    assert (alice.events(), alice.packets()) == ([], [])


# --- the error that hosts raise


def test_an_rpc_error_survives_pickling_and_says_what_it_is() -> None:
    failure = RpcError(1500, data="details")
    copy = pickle.loads(pickle.dumps(failure))
    assert (copy.code, copy.message, copy.data) == (1500, MESSAGES[1500], "details")
    assert str(copy) == "1500 Application error in method handler (details)"
    assert str(RpcError(42, "my message")) == "42 my message"
    assert RpcError(42, "my message", "more").args == (42, "my message", "more")
    assert RpcError(42).message == ""
    assert RpcError(RpcError.ErrorCode.SEND_FAILED).message == MESSAGES[1505]


# --- peers as they are


@pytest.mark.parametrize("code", MESSAGES)
def test_firmware_that_answers_everybody_with_empty_messages_is_understood(code: int) -> None:
    alice = Participant()
    call = alice.call("esp32")
    alice.receive(raw_packet("esp32", [], rpc_ack={"request_id": call}))
    assert alice.events() == [CallAcknowledged(call)]
    alice.receive(
        raw_packet("esp32", [], rpc_response={"request_id": call, "error": {"code": code}})
    )
    assert failures(alice.events()) == [(call, code)]


def test_a_v1_response_of_46080_bytes_is_accepted() -> None:
    alice = Participant()
    call = alice.call()
    payload = "\u4e16" * V1_LIMIT
    alice.receive(Response(call, payload))
    assert alice.events() == [CallSucceeded(call, payload)]


def test_an_error_text_that_is_cut_inside_a_character_is_malformed_and_leaves_the_call() -> None:
    alice = Participant()
    call = alice.call()
    broken = wire.encode(error(call, 7, "café"), "bob", "alice").replace("é".encode(), b"e\xc3")
    alice.receive(broken)
    assert alice.events() == [PacketIgnored(IgnoreReason.MALFORMED, "")]
    alice.time_is(START + 7)
    assert failures(alice.events()) == [(call, 1501)]


def test_ids_are_compared_exactly() -> None:
    alice = Participant(new_id=lambda: "5b0b478f-dcaf-49bf-9bed-1ffd3cacdbb1")
    call = alice.call()
    alice.receive(Ack(call.upper()))
    assert alice.events() == [PacketIgnored(IgnoreReason.UNKNOWN_CALL, "bob")]


def test_a_hidden_participant_cannot_be_called() -> None:
    """The server blanks its identity, so nobody knows whose answers these are (R7)."""
    alice = Participant()
    call = alice.call("hidden")
    alice.receive(Ack(call), "", sid="PA_hidden")
    alice.receive(Response(call, "x"), "", sid="PA_hidden")
    assert alice.events() == [PacketIgnored(IgnoreReason.WRONG_SENDER, "")] * 2


def test_a_duplicate_packet_after_a_resume_is_delivered_once() -> None:
    alice = Participant()
    alice.joined("bob", "PA_1")
    data = stamp(wire.encode(request(), "bob", "alice"), sender_sid="PA_1", sequence=3)
    for _ in range(2):
        alice.receive(data)
    assert len(alice.events()) == 1
    assert alice.sent() == [Ack("r1")]
