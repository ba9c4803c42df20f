"""Large and many bodies at once: what they cost, and that nobody has to wait for them."""

import zlib
from typing import Any

import pytest
from helpers import START, Participant, error, sent_message
from memory import least_memory, traced_memory
from streams import take_turns

from rpcproto import (
    CallFailed,
    CallSucceeded,
    IgnoreReason,
    InvocationReceived,
    PacketKind,
    RpcConfig,
)
from rpcproto.testing import counting_ids
from rpcproto.wire import DEFLATE_RAW, Ack, ErrorResponse, StreamChunk, StreamHeader, StreamTrailer

pytestmark = pytest.mark.environments

MB = 1_000_000
REQUEST = "lk.rpc_request"
RESPONSE = "lk.rpc_response"


def request_header(number: int, **more: Any) -> StreamHeader:
    attributes = {
        "lk.rpc_request_id": f"request-{number}",
        "lk.rpc_request_method": "greet",
        "lk.rpc_request_response_timeout_ms": "15000",
        "lk.rpc_request_version": "2",
    }
    return StreamHeader(f"stream-{number}", REQUEST, attributes, None, 0)._replace(**more)


def response_header(request_id: str, stream_id: str) -> StreamHeader:
    return StreamHeader(stream_id, RESPONSE, {"lk.rpc_request_id": request_id}, None, 0)


def pair(protocol: int, *capabilities: int) -> tuple[Participant, Participant]:
    alice = Participant("alice")
    bob = Participant("bob", new_id=counting_ids("b"))
    alice.joined("bob", client_protocol=protocol, capabilities=capabilities)
    bob.joined("alice", client_protocol=protocol, capabilities=capabilities)
    return alice, bob


def carry(sender: Participant, receiver: Participant) -> int:
    """Take and deliver packets one by one, as a transport with a short buffer would."""
    count = 0
    while (packet := sender.engine.next_packet()) is not None:
        receiver.receive(packet.data, sender.identity)
        count += 1
    return count


@pytest.mark.parametrize("text", ["a" * 5 * MB, ("aé€😀\ufeff" * MB)[: 5 * MB // 2]])
@pytest.mark.parametrize(("protocol", "capabilities"), [(1, ()), (2, ()), (2, (2,))])
def test_five_megabytes_arrive_both_ways(
    text: str, protocol: int, capabilities: tuple[int, ...]
) -> None:
    alice, bob = pair(protocol, *capabilities)
    call = alice.call(payload=text)
    carry(alice, bob)
    take_turns(bob)
    received = bob.invocation()
    assert received.payload == text
    assert bob.respond(received.invocation_id, text)
    carry(bob, alice)
    take_turns(alice)
    assert alice.events()[-1] == CallSucceeded(call, text)
    assert alice.statistics.buffered_bytes == bob.statistics.buffered_bytes == 0
    assert alice.statistics.waiting_bytes == bob.statistics.waiting_bytes == 0


@pytest.mark.parametrize("capabilities", [(), (2,)])
@pytest.mark.parametrize("protocol", [1, 2])
def test_r29_the_sender_holds_a_body_once(protocol: int, capabilities: tuple[int, ...]) -> None:
    text = "".join(chr(33 + i * i % 90) for i in range(5 * MB))

    def peak() -> int:
        alice, _ = pair(protocol, *capabilities)
        with traced_memory() as memory:
            alice.call(payload=text)
            while alice.engine.next_packet() is not None:
                pass
            return memory()[1]

    limit = 1.2 * len(text)
    assert least_memory(peak, limit) < limit


def test_r28_a_body_that_would_inflate_to_gigabytes_is_refused_at_the_cap() -> None:
    bob = Participant("bob")
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = deflate.compress(bytes(8 * 1024 * 1024)) + deflate.flush(zlib.Z_FULL_FLUSH)
    bomb = block * (4 * 1024 * 1024 // len(block))
    assert len(bomb) // len(block) * 8 * 1024 * 1024 > 3.9 * 2**30
    bob.receive(request_header(1, compression=DEFLATE_RAW), "alice")
    assert bob.sent() == [Ack("request-1")]
    refused_after = None
    with traced_memory() as memory:
        for index, start in enumerate(range(0, len(bomb), 15_000)):
            bob.receive(StreamChunk("stream-1", index, bomb[start : start + 15_000]), "alice")
            take_turns(bob)
            for message in bob.sent():
                assert isinstance(message, ErrorResponse)
                assert message.code == 1402
                refused_after = index + 1
        _, peak = memory()
    assert peak < 40 * MB
    # 16 MiB come out of the first two chunks.
    assert refused_after == 2
    assert bob.statistics.ignored[IgnoreReason.UNKNOWN_STREAM] == index + 1 - 2
    assert bob.statistics.open_streams_in == bob.statistics.buffered_bytes == 0
    assert bob.next_deadline is None


def test_r22_headers_without_trailers_take_one_callers_slots_and_no_one_elses() -> None:
    bob = Participant("bob")
    for number in range(500):  # a first round fills what is filled once, caches and memories
        bob.receive(request_header(number), "alice")
    bob.packets()
    bob.time_is(START + 30)
    bob.packets()
    with traced_memory() as memory:
        refused = 0
        for number in range(5_000):
            bob.receive(request_header(10_000 + number), "alice")
            refused += sum(isinstance(message, ErrorResponse) for message in bob.sent())
        assert bob.statistics.running_invocations == bob.statistics.open_streams_in == 1_000
        assert refused == 4_000
        bob.receive(request_header(1, inline_content=b"hi"), "carol")
        carols = bob.invocation()
        assert bob.respond(carols.invocation_id)
        assert len(bob.packets()) == 4  # ack, and a response in chunks, for carol announced nothing
        bob.time_is(START + 30 + 15)
        errors = [message for message in bob.sent() if isinstance(message, ErrorResponse)]
        assert len(errors) == 1_000
        assert {error.code for error in errors} == {1500}
        assert bob.statistics.running_invocations == bob.statistics.open_streams_in == 0
        del errors, carols
        bob.events()
        kept, _ = memory()
    # The memory of R16 holds the last requests of alice, who was not announced: 4,096 in all.
    assert kept < 4_096 * 500


def test_two_thousand_answers_in_chunks_interleaved_complete_two_thousand_calls() -> None:
    alice = Participant("alice")
    alice.joined("bob", client_protocol=1)
    calls = [alice.call() for _ in range(2_000)]
    alice.packets()
    for number, call in enumerate(calls):
        alice.receive(response_header(call, f"s{number}"))
    for index in range(4):
        for number in range(2_000):
            chunk = StreamChunk(f"s{number}", index, b"%d:%d " % (number, index))
            alice.receive(chunk)
    for number in range(2_000):
        alice.receive(StreamTrailer(f"s{number}", ""))
    done = [event for event in alice.events() if isinstance(event, CallSucceeded)]
    assert done == [
        CallSucceeded(call, "".join(f"{number}:{index} " for index in range(4)))
        for number, call in enumerate(calls)
    ]


def test_r30_a_small_call_behind_ten_large_ones_is_the_next_packet() -> None:
    alice, bob = pair(1)
    for _ in range(10):
        alice.call(payload="a" * 2 * MB)
    for _ in range(25):  # the headers, and a few chunks
        packet = alice.engine.next_packet()
        assert packet is not None
        bob.receive(packet.data, "alice")
    small = alice.call(payload="small")
    packet = alice.engine.next_packet()
    assert packet is not None
    assert (packet.kind, packet.request_id) == (PacketKind.STREAM_HEADER, small)
    bob.receive(packet.data, "alice")
    carry(alice, bob)
    received = [event for event in bob.events() if isinstance(event, InvocationReceived)]
    assert [event.payload[:5] for event in received] == ["small"] + ["aaaaa"] * 10


def test_r38_a_call_cancelled_in_mid_body_leaves_nothing_at_the_other_side() -> None:
    alice, bob = pair(1)
    call = alice.call(payload="a" * MB)
    for _ in range(10):
        packet = alice.engine.next_packet()
        assert packet is not None
        bob.receive(packet.data, "alice")
    assert bob.statistics.open_streams_in == 1
    assert bob.statistics.buffered_bytes == 9 * 15_000
    assert alice.cancel(call)
    [trailer] = alice.packets()
    message = sent_message(trailer)
    assert isinstance(message, StreamTrailer)
    assert message.reason == "cancelled"
    bob.receive(trailer.data, "alice")
    counts = bob.statistics
    assert counts.open_streams_in == counts.buffered_bytes == counts.running_invocations == 0
    assert bob.next_deadline is None
    assert alice.statistics.open_streams_out == alice.statistics.waiting_bytes == 0


def test_r28_bytes_of_all_senders_together_are_bounded() -> None:
    config = RpcConfig(max_buffered_bytes=100, max_buffered_bytes_per_sender=60)
    bob = Participant("bob", config=config)
    bob.receive(request_header(1), "alice")
    bob.receive(request_header(2), "carol")
    bob.packets()
    bob.receive(StreamChunk("stream-1", 0, b"a" * 60), "alice")
    bob.receive(StreamChunk("stream-2", 0, b"c" * 28), "carol")
    assert bob.sent() == []
    assert bob.statistics.buffered_bytes == 88  # all but the last eighth
    bob.receive(StreamChunk("stream-2", 1, b"c"), "carol")
    assert bob.sent() == [error("request-1", 1500, data="too many bytes")]  # who holds most
    assert bob.statistics.buffered_bytes == 29
    assert not any(isinstance(event, CallFailed) for event in bob.events())
