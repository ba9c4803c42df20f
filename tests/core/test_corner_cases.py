"""Corner cases that a close reading of the core once found wrong, named by their rules."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from helpers import START, Participant, request
from memory import least_memory, traced_memory

from rpcproto import (
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
    stamp,
)
from rpcproto.core.repeats import SequenceWindow
from rpcproto.testing import counting_ids
from rpcproto.wire import StreamChunk, StreamHeader, StreamTrailer


def response_header(request_id: str, stream_id: str = "s") -> StreamHeader:
    return StreamHeader(stream_id, "lk.rpc_response", {"lk.rpc_request_id": request_id}, None, 0)


def growth(first: int, then: int, once: Callable[[], None]) -> int:
    """Bytes that `then` times more take, after the `first` times."""
    with traced_memory() as memory:
        for _ in range(first):
            once()
        before, _ = memory()
        for _ in range(then):
            once()
        return memory()[0] - before


@pytest.mark.big
def test_l14_an_empty_payload_leaves_nothing_behind_of_its_sender() -> None:
    bob = Participant("bob", config=RpcConfig(remembered_requests=16))

    def ask_and_answer() -> None:
        bob.receive(request("r", payload=""), f"caller-{next(numbers)}")
        bob.respond(bob.invocation().invocation_id)
        bob.packets()

    numbers = itertools.count()
    assert least_memory(lambda: growth(1_000, 3_000, ask_and_answer), 20_000) < 20_000


@pytest.mark.big
def test_r28_a_method_name_too_long_to_be_registered_is_not_held() -> None:
    bob = Participant("bob")
    name = "m" * 100_000

    def open_a_stream() -> None:
        number = next(numbers)
        attributes = {
            "lk.rpc_request_id": f"r{number}",
            "lk.rpc_request_method": name,
            "lk.rpc_request_version": "2",
        }
        bob.receive(StreamHeader(f"s{number}", "lk.rpc_request", attributes, None, 0), "alice")

    numbers = itertools.count()
    assert growth(10, 200, open_a_stream) < 200 * 10_000
    assert bob.statistics.open_streams_in == 210


@pytest.mark.parametrize(
    "wrong", [{"client_protocol": "2"}, {"client_protocol": None}, {"capabilities": None}]
)
def test_r33_a_wrong_announcement_changes_nothing(wrong: dict[str, Any]) -> None:
    alice = Participant()
    alice.joined("bob", "PA_1")
    call = alice.call()
    before = alice.appearance
    with pytest.raises(LocalProtocolError):
        alice.joined("bob", "PA_2", **wrong)
    assert alice.appearance == before
    assert alice.events() == []
    assert alice.cancel(call)


def test_r33_a_wrong_server_version_does_not_connect() -> None:
    alice = Participant()
    alice.disconnected()
    with pytest.raises(LocalProtocolError):
        alice.connected(server_version=180)
    with pytest.raises(LocalProtocolError):
        alice.call()


@pytest.mark.parametrize("huge", [10**5000, -(10**5000)], ids=["high", "low"])
def test_r33_numbers_too_long_to_be_printed_are_misuse_like_others(huge: int) -> None:
    bob = Participant("bob")
    bob.receive(request(), "alice")
    invocation = bob.invocation()
    with pytest.raises(LocalProtocolError):
        bob.respond_error(invocation.invocation_id, huge)
    with pytest.raises(LocalProtocolError):
        bob.engine.handle_deadline(now=huge)
    with pytest.raises(LocalProtocolError):
        bob.call("alice", response_timeout=huge)
    with pytest.raises(LocalProtocolError):
        RpcConfig(max_invocations=-(10**5000))
    assert bob.respond(invocation.invocation_id)


@pytest.mark.parametrize("name", [[], {}, None, 5, b"bob"])
def test_r33_names_that_are_no_text_are_misuse(name: Any) -> None:
    alice = Participant()
    with pytest.raises(LocalProtocolError):
        alice.call(name)
    with pytest.raises(LocalProtocolError):
        alice.call(method=name)


def test_r33_only_a_packet_can_fail_to_be_sent() -> None:
    alice = Participant()
    packet: Any = None
    with pytest.raises(LocalProtocolError):
        alice.send_failed(packet)


@pytest.mark.parametrize("sequence", [-1, 2**32])
def test_stamp_writes_no_sequence_that_is_none(sequence: int) -> None:
    with pytest.raises(LocalProtocolError):
        stamp(b"", sequence=sequence)


def test_r10_r19_an_answer_to_a_newer_sid_can_fail_after_the_old_one_left() -> None:
    bob = Participant("bob")
    bob.joined("alice", "PA_1")
    bob.receive(request(), "alice", sid="PA_2")
    bob.respond(bob.invocation().invocation_id)
    [_, response] = bob.packets()
    bob.joined("alice", "PA_2")
    bob.send_failed(response)
    [error] = bob.packets()
    assert error.kind is PacketKind.ERROR


def test_r16_remembering_does_not_cost_more_in_a_larger_room() -> None:
    """Who has asked for nothing has no ring that a full memory would have to look at."""
    bob = Participant("bob", config=RpcConfig(remembered_requests=8))
    for number in range(50):
        bob.joined(f"caller-{number}")
    for number in range(20):
        bob.receive(request(f"r{number}"), "caller-7")
        bob.respond(bob.invocation().invocation_id)
    bob.packets()
    bob.receive(request("r19"), "caller-7")
    bob.receive(request("r12"), "caller-7")
    assert bob.events() == []  # both are repeats: the last eight are known
    bob.receive(request("r11"), "caller-7")
    assert bob.invocation().request_id == "r11"


@pytest.mark.parametrize("start", [0.0, 2.0**31])
def test_l10_the_order_of_expiry_does_not_depend_on_where_the_clock_began(start: float) -> None:
    bob = Participant("bob")
    bob.now = start
    bob.receive(request("r1", response_timeout_ms=8_002), "alice")
    bob.now = start + 1
    bob.receive(request("r2", response_timeout_ms=7_002), "alice")
    bob.events()
    bob.time_is(start + 60)
    assert [
        event.invocation_id for event in bob.events() if isinstance(event, InvocationAbandoned)
    ] == [1, 2]


@pytest.mark.parametrize("start", [0.0, 2.0**31, 1e17])
def test_r3_a_window_shorter_than_the_call_is_1501_however_close_they_are(start: float) -> None:
    alice = Participant()
    alice.now = start
    call = alice.call(response_timeout=7.0000001)
    alice.time_is(start + 1_000)
    [event] = alice.events()
    assert isinstance(event, CallFailed)
    assert (event.request_id, event.code) == (call, 1501)


def test_r40_a_body_goes_on_when_the_first_sid_of_its_sender_is_learned() -> None:
    alice = Participant()
    alice.joined("bob", client_protocol=1)
    call = alice.call()
    alice.receive(response_header(call))
    alice.receive(StreamChunk("s", 0, b"hel"))
    alice.joined("bob", "PA_1", client_protocol=1)
    alice.receive(StreamChunk("s", 1, b"lo"))
    alice.receive(StreamTrailer("s", ""), sid="PA_1")
    assert alice.events()[-1] == CallSucceeded(call, "hello")
    assert alice.statistics.open_streams_in == 0


def test_r5_any_latency_allowance_leaves_the_handler_its_second() -> None:
    config = RpcConfig(latency_allowance=1e306)
    engine = RpcEngine("alice", new_id=counting_ids("a"), config=config)
    engine.call("bob", "greet", "", now=START)
    assert engine.next_packet() is not None


def test_r16_the_last_remembered_request_of_a_caller_can_make_room_too() -> None:
    bob = Participant("bob", config=RpcConfig(remembered_requests=3))
    for caller in ("a", "b", "c", "d"):
        bob.joined(caller)
        bob.receive(request("r"), caller)
        bob.respond(bob.invocation().invocation_id)
    bob.receive(request("r"), "b")
    assert bob.events() == []
    bob.receive(request("r"), "a")
    assert bob.invocation().caller_identity == "a"


def test_no_event_equals_one_of_another_kind_or_a_plain_tuple() -> None:
    event, same = CallSucceeded("r1", "x"), CallSucceeded("r1", "x")
    assert [event] == [same]
    assert not event != same  # noqa: SIM202 (both ways of asking)
    assert len({event, same}) == 1
    for other in (CallSucceeded("r1", "y"), PacketIgnored._make(event), tuple(event)):
        assert event != other
        assert other != event
        assert [event] != [other]


def test_payloads_of_any_length_are_written_right_however_many_lengths_came_before() -> None:
    alice, bob = (
        RpcEngine("alice", new_id=counting_ids("a")),
        RpcEngine("bob", new_id=counting_ids("b")),
    )
    bob.register_method("m")
    for length in (*range(6_000), 0, 1, 200, 15_360):
        alice.call("bob", "m", "x" * length, now=0.0)
        packet = alice.next_packet()
        assert packet is not None
        bob.receive_packet(packet.data, now=0.0)
        [event] = bob.take_events()
        assert isinstance(event, InvocationReceived)
        assert len(event.payload) == length
        bob.respond(event.invocation_id, "", now=0.0)
        while bob.next_packet() is not None:
            pass


def test_r37_a_number_far_below_the_window_costs_no_memory() -> None:
    window = SequenceWindow(1_024)
    assert window.mark(2**32 - 1)

    def mark() -> int:
        with traced_memory() as memory:
            assert not window.mark(1)
            return memory()[1]

    assert least_memory(mark, 10_000) < 10_000


def test_r16_the_newest_request_is_not_the_first_to_be_forgotten() -> None:
    bob = Participant("bob", config=RpcConfig(remembered_requests=8))
    for number in range(8):
        bob.joined(f"p{number}", f"PA_{number}")
        bob.receive(request("r1"), f"p{number}", sid=f"PA_{number}")
        assert bob.respond(bob.invocation().invocation_id)
    bob.receive(request("r2"), "a stranger")
    assert bob.respond(bob.invocation().invocation_id)
    bob.receive(request("r2"), "a stranger")
    assert bob.events() == []
    assert bob.statistics.ignored == {IgnoreReason.REPEAT: 1}


def test_r28_a_sid_that_is_too_long_is_malformed_whatever_else_is_as_usual() -> None:
    bob = Participant("bob")
    bob.joined("alice")
    for length in (256, 257):
        bob.receive(request(f"{length}".rjust(36, "0")), "alice", sid="s" * length)
    assert bob.statistics.ignored == {IgnoreReason.MALFORMED: 1}
