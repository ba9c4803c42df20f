"""Ten thousand calls between two processes, one on asyncio and one on trio."""

import asyncio
import gc
import json
import subprocess
import sys
from pathlib import Path

import pytest

from rpcproto.asyncio import RpcParticipant
from rpcproto.transports.stream import connect_tcp

SERVER = Path(__file__).with_name("tcp_server.py")
CALLS = 10_000
AT_ONCE = 500


@pytest.mark.environments
def test_ten_thousand_calls_over_tcp_leave_nothing_behind() -> None:
    memory: list[int] = []

    async def call_all(port: int) -> None:
        transport = await connect_tcp("127.0.0.1", port, "alice")
        numbers = iter(range(CALLS))

        async def call_in_turn() -> None:
            for number in numbers:
                payload = f"call number {number}"
                reply = await alice.perform_rpc(
                    destination_identity="bob", method="reverse", payload=payload
                )
                assert reply == payload[::-1]
                if number % 1_000 == 999:
                    gc.collect()
                    memory.append(sys.getallocatedblocks())

        async with RpcParticipant(transport) as alice:
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(call_in_turn())
            statistics = alice.statistics()
            assert statistics.pending_calls == 0
            assert statistics.waiting_packets == statistics.waiting_bytes == 0
            assert statistics.buffered_bytes == 0
            assert alice.statistics().packets_out == CALLS
        assert asyncio.all_tasks() == {asyncio.current_task()}

    command = [sys.executable, "-W", "error", str(SERVER)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        asyncio.run(call_all(port))
        output, errors = server.communicate(timeout=60)

    assert (server.returncode, errors) == (0, "")
    left = json.loads(output)
    assert left["calls"] == CALLS
    assert (left["running"], left["waiting"], left["buffered"]) == (0, 0, 0)
    for grown in (memory, left["memory"]):
        # Once the memories of ended calls and requests are full, nothing grows any more.
        assert grown[-1] - grown[5] < 3_000, grown
    assert left["tasks"] == 0
