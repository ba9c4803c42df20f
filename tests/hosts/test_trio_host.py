"""The trio host: what is its own, on a clock that jumps. What all hosts do is in test_host_kit."""

import contextvars
import math
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any

import pytest
import trio
import trio.testing
from fake_transports import ScriptedTransport

from rpcproto import LocalProtocolError, OutgoingPacket, RpcEngine, RpcError
from rpcproto.testing import counting_ids
from rpcproto.transports import (
    Connected,
    PacketReceived,
    ParticipantJoined,
    ParticipantLeft,
    TransportEvent,
)
from rpcproto.transports.memory import MemoryRoom
from rpcproto.trio import RpcInvocationData, RpcParticipant


class FakeTransport(ScriptedTransport):
    """A transport that does what a test tells it to; `tell` brings events."""

    def __init__(self, *events: TransportEvent, identity: str = "alice") -> None:
        super().__init__(identity)
        self.tell, self._events = trio.open_memory_channel[TransportEvent | Exception](100)
        self.sent: list[OutgoingPacket] = []
        self.closed_at: float | None = None
        self.on_send: Callable[[OutgoingPacket], Awaitable[None]] | None = None
        self.on_close: Callable[[], Awaitable[None]] | None = None
        for event in events or (Connected(),):
            self.tell.send_nowait(event)

    async def send_packet(self, packet: OutgoingPacket) -> None:
        if self.on_send is not None:
            await self.on_send(packet)
        self.sent.append(packet)

    async def events(self) -> AsyncIterator[TransportEvent]:
        async for event in self._events:
            if isinstance(event, Exception):
                raise event
            yield event

    async def aclose(self) -> None:
        self.closed_at = trio.current_time()
        if self.on_close is not None:
            await self.on_close()


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run on virtual time; afterwards no task of the program is left (trio sees to it)."""
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


Scene = Callable[[RpcParticipant, RpcParticipant], Coroutine[Any, Any, None]]


def in_a_room(scene: Scene) -> None:
    async def main() -> None:
        room = MemoryRoom()
        transport = room.join("bob")
        async with (
            RpcParticipant(room.join("alice"), new_id=counting_ids("a")) as alice,
            RpcParticipant(transport, new_id=counting_ids("b")) as bob,
        ):
            await scene(alice, bob)

    run(main)


def call_bob(
    alice: RpcParticipant, method: str = "greet", **options: Any
) -> Coroutine[Any, Any, str]:
    return alice.perform_rpc(destination_identity="bob", method=method, payload="Hi", **options)


async def failure(call: Awaitable[str]) -> RpcError:
    with pytest.raises(RpcError) as caught:
        await call
    return caught.value


async def sleep_for_ever(data: RpcInvocationData) -> str:
    await trio.sleep(math.inf)
    return "never"


# calls and handlers


def test_a_greeting_comes_back() -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        @bob.register_rpc_method("greet")
        async def greet(data: RpcInvocationData) -> str:
            await trio.sleep(1.0)
            return f"Hello, {data.caller_identity}!"

        assert await call_bob(alice, response_timeout=5.0) == "Hello, alice!"
        assert trio.current_time() == 1.0

    in_a_room(scene)


def test_handlers_may_be_sync_async_methods_or_anything_that_gives_an_awaitable() -> None:
    class Handlers:
        async def __call__(self, data: RpcInvocationData) -> str:
            return "object"

        async def method(self, data: RpcInvocationData) -> str:
            return "method"

    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        bob.register_rpc_method("sync", lambda data: "sync")
        bob.register_rpc_method("object", Handlers())
        bob.register_rpc_method("method", Handlers().method)
        bob.register_rpc_method("awaitable", lambda data: Handlers().method(data))
        for method in ("sync", "object", "method"):
            assert await call_bob(alice, method) == method
        assert await call_bob(alice, "awaitable") == "method"

    in_a_room(scene)


def test_a_handler_runs_in_a_copy_of_the_context_of_entering() -> None:
    variable = contextvars.ContextVar("variable", default="nobody's")

    class Transport(FakeTransport):
        async def receive(self) -> Sequence[TransportEvent]:
            variable.set("the transport's")
            return await super().receive()

    async def main() -> None:
        transport = Transport(identity="bob")
        seen: list[str] = []

        def greet(data: RpcInvocationData) -> str:
            seen.append(variable.get())
            variable.set("a handler's")
            return ""

        variable.set("the owner's")
        async with RpcParticipant(transport) as bob:
            variable.set("the body's")
            bob.register_rpc_method("greet", greet)
            alice = RpcEngine("alice", new_id=counting_ids("a"))
            for _ in range(2):
                alice.call("bob", "greet", "", now=0.0)
                request = alice.next_packet()
                assert request is not None
                await transport.tell.send(PacketReceived(request.data))
                await trio.testing.wait_all_tasks_blocked()
        assert seen == ["the owner's"] * 2

    run(main)


# ends


def test_a_scope_around_a_call_ends_it_and_the_others_go_on() -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        bob.register_rpc_method("greet", sleep_for_ever)
        bob.register_rpc_method("echo", lambda data: data.payload)
        with trio.move_on_after(1.0) as scope:
            await call_bob(alice)
        assert scope.cancelled_caught
        assert alice.statistics().pending_calls == 0
        assert await call_bob(alice, "echo") == "Hi"

    in_a_room(scene)


def test_a_handler_is_cancelled_when_its_caller_leaves(caplog: pytest.LogCaptureFixture) -> None:
    cancelled_at: list[float] = []

    async def main() -> None:
        room = MemoryRoom()
        async with RpcParticipant(room.join("bob")) as bob:

            @bob.register_rpc_method("greet")
            async def greet(data: RpcInvocationData) -> str:
                try:
                    return await sleep_for_ever(data)
                finally:
                    cancelled_at.append(trio.current_time())

            async with trio.open_nursery() as nursery, RpcParticipant(room.join("alice")) as alice:
                nursery.start_soon(failure, call_bob(alice))
                await trio.sleep(1.0)
            await trio.sleep(1.0)
            assert cancelled_at == [1.0]
            assert bob.statistics().running_invocations == 0

    run(main)
    assert not caplog.records


def test_a_handler_whose_caller_leaves_before_it_has_begun_never_begins() -> None:
    alice = RpcEngine("alice", new_id=counting_ids("a"))
    alice.call("bob", "greet", "", now=0.0)
    request = alice.next_packet()
    assert request is not None
    received = PacketReceived(request.data)

    class Transport(FakeTransport):
        async def events(self) -> AsyncIterator[TransportEvent]:
            yield Connected()
            yield received
            yield ParticipantLeft("alice")
            await trio.sleep_forever()

    async def main() -> None:
        begun: list[RpcInvocationData] = []

        def greet(data: RpcInvocationData) -> str:
            begun.append(data)
            return ""

        bob = RpcParticipant(Transport(identity="bob"))
        bob.register_rpc_method("greet", greet)
        async with bob:
            await trio.testing.wait_all_tasks_blocked()
            assert bob.statistics().packets_in == 1
        assert begun == []

    run(main)


def test_what_the_body_raises_comes_out_as_itself() -> None:
    raised = ValueError("mine")

    async def main() -> None:
        transport = FakeTransport()
        with pytest.raises(ValueError, match="mine") as caught:
            async with RpcParticipant(transport):
                raise raised
        assert caught.value is raised
        assert transport.closed_at == 0.0

    run(main)


def test_cancelling_the_body_sends_what_waits_closes_the_transport_and_logs_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        transport = FakeTransport(Connected(), ParticipantJoined("bob"))

        async def on_send(packet: OutgoingPacket) -> None:
            await trio.sleep(0.125)

        async with trio.open_nursery() as nursery:
            transport.on_send = on_send
            with trio.move_on_after(1.0) as scope:
                async with RpcParticipant(transport) as alice:
                    alice.register_rpc_method("sleep", sleep_for_ever)
                    bob = RpcEngine("bob", new_id=counting_ids("b"))
                    bob.call("alice", "sleep", "", now=0.0)
                    request = bob.next_packet()
                    assert request is not None
                    await transport.tell.send(PacketReceived(request.data))
                    await trio.sleep(0.9375)
                    nursery.start_soon(failure, call_bob(alice))
                    nursery.start_soon(failure, call_bob(alice))
                    await trio.sleep_forever()
            assert scope.cancelled_caught
            assert len(transport.sent) == 3
            assert transport.closed_at == 0.9375 + 2 * 0.125

    run(main)
    assert not caplog.records


def test_a_handler_that_ends_with_the_scope_around_has_not_failed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        room = MemoryRoom()
        async with RpcParticipant(room.join("alice")) as alice, trio.open_nursery() as nursery:
            with trio.move_on_after(1.0):
                async with RpcParticipant(room.join("bob")) as bob:
                    bob.register_rpc_method("greet", sleep_for_ever)

                    @nursery.start_soon
                    async def call() -> None:
                        assert (await failure(call_bob(alice))).code == 1503
                        assert trio.current_time() == 2.0

                    try:
                        await trio.sleep(math.inf)
                    finally:
                        # bob stays for a moment, with his handler gone.
                        with trio.CancelScope(shield=True):
                            await trio.sleep(1.0)

    run(main)
    assert not caplog.records


@pytest.mark.parametrize("hanging", ["on_send", "on_close"])
def test_leaving_a_transport_that_hangs_takes_at_most_a_second(hanging: str) -> None:
    async def main() -> None:
        transport = FakeTransport()

        async def hang(*_: object) -> None:
            await trio.sleep_forever()

        setattr(transport, hanging, hang)
        async with trio.open_nursery() as nursery:
            async with RpcParticipant(transport) as alice:
                nursery.start_soon(failure, call_bob(alice))
                await trio.sleep(1.0)
            assert 1.0 < trio.current_time() <= 2.0
            assert transport.closed_at is not None

    run(main)


def test_a_transport_that_cannot_be_closed_is_logged_only(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        transport = FakeTransport()

        async def on_close() -> None:
            raise OSError("stuck")

        transport.on_close = on_close
        async with RpcParticipant(transport):
            pass

    run(main)
    assert "OSError: stuck" in caplog.text


def test_a_transport_that_breaks_while_reading_ends_calls_with_its_cause() -> None:
    async def main() -> None:
        transport = FakeTransport()
        broken = OSError("cable cut")
        async with RpcParticipant(transport) as alice, trio.open_nursery() as nursery:

            @nursery.start_soon
            async def call() -> None:
                error = await failure(call_bob(alice))
                assert (error.code, error.__cause__, trio.current_time()) == (1503, broken, 1.0)

            await trio.sleep(1.0)
            await transport.tell.send(broken)

    run(main)


def test_a_lost_call_of_the_nursery_comes_out_alone() -> None:
    """One exception out of perform_rpc, never a group."""

    async def main() -> None:
        transport = FakeTransport()
        async with RpcParticipant(transport) as alice:
            transport.tell.send_nowait(OSError("cable cut"))
            with pytest.raises(RpcError):
                await call_bob(alice)

    run(main)


def test_every_async_function_is_a_checkpoint() -> None:
    async def main() -> None:
        room = MemoryRoom()
        bob = RpcParticipant(room.join("bob"))
        bob.register_rpc_method("greet", lambda data: "Hello")
        alice = RpcParticipant(room.join("alice"))
        with trio.testing.assert_no_checkpoints():  # like a nursery
            await bob.__aenter__()
            await alice.__aenter__()
        with trio.testing.assert_checkpoints():
            await call_bob(alice)
        with trio.testing.assert_checkpoints():
            await failure(
                alice.perform_rpc(destination_identity="alice", method="self", payload="")
            )
        with trio.testing.assert_checkpoints():
            await alice.wait_for_participant("bob")
        with trio.testing.assert_checkpoints():
            await alice.aclose()
        with trio.testing.assert_checkpoints():
            await alice.aclose()
        await alice.__aexit__(None, None, None)
        with trio.testing.assert_checkpoints():
            await bob.__aexit__(None, None, None)

    run(main)


def test_a_handler_whose_clean_up_fails_harms_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    """Its nursery raises a group: that it was cancelled, and what went wrong then."""

    async def main() -> None:
        room = MemoryRoom()
        async with RpcParticipant(room.join("bob")) as bob:

            @bob.register_rpc_method("greet")
            async def greet(data: RpcInvocationData) -> str:
                async def clean_up() -> None:
                    try:
                        await trio.sleep(math.inf)
                    finally:
                        raise ValueError("clean-up failed")

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(clean_up)
                    nursery.start_soon(trio.sleep, math.inf)
                return "never"

            async with trio.open_nursery() as nursery, RpcParticipant(room.join("alice")) as alice:
                nursery.start_soon(failure, call_bob(alice))
                await trio.sleep(1.0)
            await trio.sleep(1.0)
            assert bob.statistics().running_invocations == 0

    run(main)
    assert "clean-up failed" in caplog.text


@pytest.mark.parametrize("when", ["at once", "cleaning up"])
def test_what_the_body_raises_comes_out_also_of_a_cancelled_scope(when: str) -> None:
    async def main() -> None:
        with trio.CancelScope() as scope:
            async with RpcParticipant(FakeTransport()):
                scope.cancel()
                if when == "cleaning up":
                    with pytest.raises(trio.Cancelled):
                        await trio.sleep(1.0)
                raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        run(main)


def test_a_shielded_call_after_a_cancelled_scope_is_answered_or_ends_in_time() -> None:
    async def main() -> None:
        room = MemoryRoom()
        ends: list[object] = []
        async with RpcParticipant(room.join("bob")) as bob:
            bob.register_rpc_method("greet", lambda data: "Goodbye")
            bob.register_rpc_method("sleep", sleep_for_ever)
            with trio.move_on_after(1.0):
                async with RpcParticipant(room.join("alice")) as alice:
                    try:
                        await trio.sleep(math.inf)
                    finally:
                        with trio.CancelScope(shield=True):
                            ends.append(await call_bob(alice))
                            error = await failure(call_bob(alice, "sleep", response_timeout=3.0))
                            ends.append((error.code, trio.current_time()))
        assert ends == ["Goodbye", (1502, 4.0)]

    run(main)


def test_ctrl_c_while_leaving_ends_the_program() -> None:
    script = """
import signal
import trio
from rpcproto import RpcError
from rpcproto.transports import Connected
from rpcproto.trio import RpcParticipant

class Transport:
    identity, departure_grace, connected = "bob", 0.0, True

    async def send(self, take):
        take()
        print("leaving", flush=True)
        await trio.sleep_forever()

    async def receive(self):
        if self.connected:
            self.connected = False
            return [Connected()]
        await trio.sleep_forever()

    async def aclose(self):
        print("closed", flush=True)

async def main():
    async with RpcParticipant(Transport()) as bob:
        with trio.move_on_after(0.05):
            await bob.perform_rpc(destination_identity="alice", method="greet", payload="")

# A shell's job in the background is begun with Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
trio.run(main)
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "leaving\n"
        program.send_signal(signal.SIGINT)
        output, _ = program.communicate(timeout=60)
    assert output == "closed\n"
    assert program.returncode != 0


def test_entering_another_participant_misses_no_request() -> None:
    """What is registered before the body first waits is in time, also for the first of two."""

    async def main() -> None:
        room = MemoryRoom()
        alice_transport = room.join("alice")
        async with RpcParticipant(room.join("carol")) as carol, trio.open_nursery() as n:

            @n.start_soon
            async def call() -> None:
                reply = await carol.perform_rpc(
                    destination_identity="alice", method="greet", payload=""
                )
                assert reply == "in time"

            await trio.sleep(1.0)
            async with RpcParticipant(alice_transport) as alice, RpcParticipant(room.join("bob")):
                alice.register_rpc_method("greet", lambda data: "in time")
                await trio.sleep(1.0)

    for _ in range(20):
        run(main)


# who is here


def test_waiting_for_somebody_ends_when_they_come() -> None:
    async def main() -> None:
        room = MemoryRoom()
        async with RpcParticipant(room.join("alice")) as alice:
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def wait() -> None:
                    await alice.wait_for_participant("bob")
                    assert trio.current_time() == 1.0
                    assert alice.participants == ("bob",)

                await trio.sleep(1.0)
                assert alice.participants == ()
                room.join("bob")
            with trio.move_on_after(1.0) as scope:
                await alice.wait_for_participant("carol")
            assert scope.cancelled_caught
            with pytest.raises(LocalProtocolError, match="identity"):
                await alice.wait_for_participant("")
            await alice.wait_for_participant("bob")

    run(main)


def test_leaving_by_hand_is_like_leaving_the_context() -> None:
    async def main() -> None:
        transport = FakeTransport()
        async with RpcParticipant(transport) as alice, trio.open_nursery() as nursery:

            @nursery.start_soon
            async def call() -> None:
                assert (await failure(call_bob(alice))).code == 1503
                assert trio.current_time() == 1.0

            @nursery.start_soon
            async def wait() -> None:
                with pytest.raises(RpcError, match="1503"):
                    await alice.wait_for_participant("bob")

            await trio.sleep(1.0)
            await alice.aclose()
            await alice.aclose()
            assert transport.closed_at == 1.0
            with pytest.raises(LocalProtocolError, match="closed"):
                await call_bob(alice)

    run(main)
