"""The kit for tests: ids that count, virtual time, and a pair of engines."""

import asyncio
import socket
import threading
import uuid

import pytest

from rpcproto import (
    CallAcknowledged,
    CallFailed,
    CallSucceeded,
    InvocationReceived,
    OutgoingPacket,
    PacketKind,
    RpcConfig,
    RpcError,
)
from rpcproto.testing import Deadlock, EnginePair, counting_ids, virtual_time_run

DAY = 86_400.0

# ids


def test_counting_ids_are_uuids_of_version_4_that_count() -> None:
    new_id = counting_ids("a")
    ids = [new_id() for _ in range(11)]
    assert ids[0] == "a0000000-0000-4000-8000-000000000001"
    assert ids[10] == "a0000000-0000-4000-8000-000000000011"
    for text in ids:
        parsed = uuid.UUID(text)
        assert (str(parsed), parsed.version, parsed.variant) == (text, 4, uuid.RFC_4122)


def test_sources_of_ids_do_not_disturb_each_other() -> None:
    first, second, other = counting_ids("a"), counting_ids("a"), counting_ids("0bad")
    assert first() == second()
    assert other() == "0bad0000-0000-4000-8000-000000000001"
    assert first() != other()


@pytest.mark.parametrize("prefix", ["", "A", "g", "123456789", "a-"])
def test_a_prefix_is_hexadecimal(prefix: str) -> None:
    with pytest.raises(ValueError, match="hexadecimal"):
        counting_ids(prefix)


# virtual time


def now() -> float:
    return asyncio.get_running_loop().time()


def test_virtual_time_starts_at_0_and_jumps_to_the_next_timer() -> None:
    async def main() -> list[float]:
        seen = [now()]
        await asyncio.sleep(30 * DAY)
        seen.append(now())
        await asyncio.gather(asyncio.sleep(3.0), asyncio.sleep(1.0))
        return [*seen, now()]

    assert virtual_time_run(main()) == [0.0, 30 * DAY, 30 * DAY + 3.0]


def test_virtual_time_goes_on_for_centuries() -> None:
    async def main() -> float:
        for _ in range(100):
            await asyncio.sleep(1000 * DAY)
            await asyncio.sleep(1.0)
        return now()

    assert virtual_time_run(main()) == pytest.approx(100_000 * DAY + 100.0, abs=0.001)


def test_virtual_time_stands_still_while_anything_is_ready() -> None:
    async def main() -> None:
        timer = asyncio.create_task(asyncio.sleep(1e-9))
        for _ in range(1000):
            await asyncio.sleep(0)
        assert not timer.done()
        assert now() == 0.0
        await timer

    virtual_time_run(main())


def test_what_the_program_raises_comes_out() -> None:
    async def main() -> None:
        await asyncio.sleep(1.0)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        virtual_time_run(main())


def test_waiting_for_nothing_is_told_and_not_waited_for() -> None:
    cleaned_up: list[float] = []

    async def main() -> None:
        await asyncio.sleep(1.0)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(1.0)
            cleaned_up.append(now())

    with pytest.raises(Deadlock, match="every task waits"):
        virtual_time_run(main())
    assert cleaned_up == [2.0]


def test_sockets_are_refused() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            with pytest.raises(RuntimeError, match="no sockets"):
                await asyncio.get_running_loop().sock_recv(ours, 1)

    virtual_time_run(main())


def test_another_thread_may_wake_the_loop() -> None:
    async def main() -> str:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        thread = threading.Thread(
            target=asyncio.get_running_loop().call_soon_threadsafe, args=(future.set_result, "hi")
        )
        thread.start()
        thread.join()
        return await future

    assert virtual_time_run(main()) == "hi"


# a pair of engines


def kinds(pair: EnginePair) -> list[tuple[float, str, PacketKind]]:
    return [(sent.sent_at, sent.sender_identity, sent.packet.kind) for sent in pair.sent]


def call(pair: EnginePair, payload: str = "Hi") -> str:
    return pair.caller.call("responder", "greet", payload, now=pair.now)


def test_a_pair_carries_a_call_and_its_answer_in_their_time() -> None:
    pair = EnginePair(latency=0.0625)
    pair.responder.register_method("greet")
    pair.answer = lambda invocation: f"Hello, {invocation.caller_identity}!"
    request_id = call(pair)
    pair.run()
    assert request_id == "a0000000-0000-4000-8000-000000000001"
    assert pair.events["caller"] == [
        CallAcknowledged(request_id),
        CallSucceeded(request_id, "Hello, caller!"),
    ]
    assert kinds(pair) == [
        (0.0, "caller", PacketKind.REQUEST),
        (0.0625, "responder", PacketKind.ACK),
        (0.0625, "responder", PacketKind.RESPONSE),
    ]
    assert pair.now == 0.125


def test_an_answer_may_be_an_error() -> None:
    pair = EnginePair()
    pair.responder.register_method("greet")
    pair.answer = lambda invocation: RpcError(2001, "Out of tea", invocation.payload)
    request_id = call(pair, "coffee")
    pair.run()
    assert pair.events["caller"][-1] == CallFailed(request_id, 2001, "Out of tea", "coffee")


def test_a_pair_runs_until_nothing_is_left_to_happen() -> None:
    pair = EnginePair()
    pair.responder.register_method("greet")
    request_id = call(pair)
    pair.run()
    assert pair.events["caller"][-1] == CallFailed(request_id, 1502, "Response timeout", "")
    assert pair.now == 8.0 + 7.0  # the end of the invocation
    assert pair.caller.next_deadline is pair.responder.next_deadline is None


def test_a_pair_can_be_stopped_at_an_instant_and_go_on() -> None:
    pair = EnginePair(latency=1.0)
    pair.responder.register_method("greet")
    request_id = call(pair)
    pair.run(until=0.5)
    assert (pair.now, pair.events["responder"]) == (0.5, [])
    pair.run(until=1.0)
    [event] = pair.events["responder"]
    assert isinstance(event, InvocationReceived)
    pair.responder.respond(event.invocation_id, "later", now=pair.now)
    pair.run(until=0.0)
    assert pair.now == 1.0
    pair.run(until=5.0)
    assert pair.events["caller"][-1] == CallSucceeded(request_id, "later")
    assert pair.now == 5.0


def test_a_packet_that_arrives_at_the_deadline_comes_first() -> None:
    pair = EnginePair(latency=3.5)
    pair.responder.register_method("greet")
    pair.answer = lambda invocation: "just in time"
    request_id = call(pair)
    pair.run()
    assert pair.now == 7.0
    assert pair.events["caller"][-1] == CallSucceeded(request_id, "just in time")


def test_dropped_packets_are_sent_but_never_arrive() -> None:
    def is_ack(packet: OutgoingPacket) -> bool:
        return packet.kind is PacketKind.ACK

    pair = EnginePair()
    pair.drop = is_ack
    pair.responder.register_method("greet")
    request_id = call(pair)
    pair.run()
    assert is_ack(pair.sent[1].packet)
    assert pair.events["caller"] == [CallFailed(request_id, 1501, "Connection timeout", "")]


def test_a_pair_takes_a_config_and_what_both_can_read() -> None:
    config = RpcConfig(ack_timeout=1.0)
    pair = EnginePair(config=config, client_protocol=2, capabilities=[2])
    call(pair)
    pair.run(until=0.0)
    assert pair.sent[0].packet.kind is PacketKind.STREAM_HEADER
    stranger = EnginePair(config=config, client_protocol=2, announced=False)
    stranger.drop = lambda packet: True
    call(stranger)
    stranger.run()
    assert stranger.sent[0].packet.kind is PacketKind.REQUEST
    assert stranger.now == 1.0


def test_packets_for_somebody_else_arrive_nowhere() -> None:
    pair = EnginePair()
    pair.caller.call("nobody", "greet", "Hi", now=pair.now)
    pair.run(until=1.0)
    assert len(pair.sent) == 1
    assert pair.events == {"caller": [], "responder": []}
