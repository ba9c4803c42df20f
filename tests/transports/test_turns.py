"""Many peers together occupy the event loop no longer than one: their streams take turns."""

import socket
from collections.abc import Callable
from contextlib import ExitStack
from types import ModuleType
from typing import Final, TypeAlias

import anyio
import anyio.abc
import pytest
from bystander import MAX_TURN, bystander

import rpcproto.asyncio
import rpcproto.trio
from rpcproto import wire
from rpcproto.transports import BATCH_EVENTS
from rpcproto.transports.framing import Hello, frame
from rpcproto.transports.stream import StreamTransport, listen_tcp, serve
from rpcproto.transports.turns import PACKET_WORK, ROUND_WORK, Turns

HOSTS: Final[dict[str, ModuleType]] = {"asyncio": rpcproto.asyncio, "trio": rpcproto.trio}
EVENT_LOOPS: Final = pytest.mark.parametrize("name", HOSTS)
PEERS: Final = 60
CALLS_OF_A_PEER: Final = 64
Step: TypeAlias = Callable[[], object]


class Rounds:
    """An event loop whose rounds the test begins, and readers that take their turns in it."""

    def __init__(self) -> None:
        self._scheduled: list[Step] = []
        self.turns = Turns(self._scheduled.append)
        self.served: list[str] = []

    @property
    def is_idle(self) -> bool:
        return self._scheduled == []

    def begin(self) -> None:
        scheduled = self._scheduled[:]
        self._scheduled.clear()
        for function in scheduled:
            function()

    async def read(self, name: str, *packets: bytes) -> None:
        await self.turns.take(packets)
        self.served.append(name)


async def settle() -> None:
    for _ in range(3):
        await anyio.lowlevel.checkpoint()


@EVENT_LOOPS
def test_a_round_has_room_for_one_batch_and_who_comes_later_waits_in_order(name: str) -> None:
    async def main() -> None:
        rounds = Rounds()
        small = [b"x"] * (BATCH_EVENTS // 2)
        async with anyio.create_task_group() as tasks:
            for reader in "abcdef":
                tasks.start_soon(rounds.read, reader, *small)
                await settle()
            for so_far in ("ab", "abcd", "abcdef"):
                assert sorted(rounds.served) == list(so_far)
                rounds.begin()
                await settle()
            assert rounds.is_idle

    anyio.run(main, backend=name)


@EVENT_LOOPS
def test_large_packets_count_by_their_size(name: str) -> None:
    async def main() -> None:
        rounds = Rounds()
        async with anyio.create_task_group() as tasks:
            for reader in "abc":
                tasks.start_soon(rounds.read, reader, bytes(ROUND_WORK - PACKET_WORK))
                await settle()
            assert rounds.served == ["a"]
            rounds.begin()
            await settle()
            assert rounds.served == ["a", "b"]
            rounds.begin()
            await settle()

    anyio.run(main, backend=name)


@EVENT_LOOPS
def test_who_is_cancelled_while_it_waits_stops_nobody(name: str) -> None:
    async def main() -> None:
        rounds = Rounds()
        await rounds.read("a", bytes(ROUND_WORK))
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as scope:
                tasks.start_soon(settle)
                scope.cancel()
                await rounds.read("cancelled", bytes(ROUND_WORK))
            tasks.start_soon(rounds.read, "b", b"x")
            for _ in range(3):
                await settle()
                rounds.begin()
        assert rounds.served == ["a", "b"]

    anyio.run(main, backend=name)


@EVENT_LOOPS
def test_many_peers_who_call_at_full_speed_stop_nobody_together(name: str) -> None:
    async def echo(data: object) -> str:
        return ""

    host = HOSTS[name]
    answered: list[int] = []

    async def answer(transport: StreamTransport) -> None:
        async with host.RpcParticipant(transport) as bob:
            bob.register_rpc_method("echo", echo)
            await transport.wait_closed()
            answered.append(bob.statistics().packets_in)

    requests = [
        wire.encode(wire.Request(f"r{n}", "echo", "", 8_000, 1), "mallory", "bob")
        for n in range(CALLS_OF_A_PEER)
    ]

    async def main() -> float:
        async with listen_tcp("127.0.0.1", 0) as listener, anyio.create_task_group() as tasks:
            tasks.start_soon(serve, listener, "bob", answer)
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            with ExitStack() as strangers:
                peers = [
                    strangers.enter_context(socket.create_connection(("127.0.0.1", port)))
                    for _ in range(PEERS)
                ]
                for peer in peers:
                    peer.sendall(frame(Hello("mallory").write()))
                async with bystander() as watch:
                    for peer in peers:
                        peer.sendall(frame(*requests))
                        peer.shutdown(socket.SHUT_WR)
                    with anyio.fail_after(60):
                        while len(answered) < PEERS:
                            await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        return watch.longest

    longest = []
    for _ in range(3):
        answered.clear()
        longest.append(anyio.run(main, backend=name))
        assert answered == [CALLS_OF_A_PEER] * PEERS
        if longest[-1] <= MAX_TURN:
            return
    pytest.fail(f"a bystander waits for {longest} seconds of processor time")
