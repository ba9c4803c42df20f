"""What must be the same on asyncio and on trio, as programs that only know anyio."""

import logging
import random
import subprocess
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest
from worlds import World, each_world

from rpcproto import ErrorCode, LocalProtocolError, OutgoingPacket, RpcError
from rpcproto.asyncio import RpcParticipant
from rpcproto.participant import RpcInvocationData
from rpcproto.transports import Connected, Disconnected, PacketReceived, TransportEvent
from rpcproto.transports.memory import MemoryRoom, MemoryTransport

Scene = Callable[[RpcParticipant, RpcParticipant], Coroutine[Any, Any, None]]


def in_a_room(world: World, scene: Scene, *, latency: float = 0.0) -> None:
    async def main() -> None:
        room = MemoryRoom(latency=latency)
        bob_transport = room.join("bob")
        async with (
            world.participant("alice", room.join("alice")) as alice,
            world.participant("bob", bob_transport) as bob,
        ):
            await scene(alice, bob)

    world.run(main)


@each_world
def test_programs_for_livekits_own_sdk_run_as_they_are(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    codes: list[ErrorCode] = []

    async def scene(alice: RpcParticipant, local_participant: RpcParticipant) -> None:
        # Registering, with the decorator.
        @local_participant.register_rpc_method("greet")
        async def handle_greet(data: RpcInvocationData) -> str:
            print(f"Received greeting from {data.caller_identity}: {data.payload}")
            return f"Hello, {data.caller_identity}!"

        # Registering, by a call.
        async def handle_refuse(data: RpcInvocationData) -> str:
            raise RpcError(code=1500, message="No greeting today", data=data.payload)

        local_participant.register_rpc_method("refuse", handle_refuse)

        local_participant = alice
        for method in ("greet", "refuse"):
            # Calling.
            try:
                response = await local_participant.perform_rpc(
                    destination_identity="bob", method=method, payload="Hello from RPC!"
                )
                print(f"RPC response: {response}")
            except RpcError as e:
                print(f"RPC call failed: {e.code} {e.message} ({e.data})")
                codes.append(RpcError.ErrorCode(e.code))
        try:
            await local_participant.perform_rpc(
                destination_identity="bob",
                method="none",
                payload="",
                response_timeout=5.0,
                max_round_trip_latency=2.0,
            )
        except Exception as e:
            print(f"RPC call failed: {e}")

    in_a_room(world, scene)
    assert codes == [RpcError.ErrorCode.APPLICATION_ERROR]
    assert capsys.readouterr().out.splitlines() == [
        "Received greeting from alice: Hello from RPC!",
        "RPC response: Hello, alice!",
        "RPC call failed: 1500 No greeting today (Hello from RPC!)",
        "RPC call failed: 1400 Method not supported at destination",
    ]


@each_world
def test_a_handler_may_call_back_to_its_caller(world: World) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        alice.register_rpc_method("name", lambda data: "Alice")

        @bob.register_rpc_method("greet")
        async def greet(data: RpcInvocationData) -> str:
            caller = data.caller_identity
            name = await bob.perform_rpc(destination_identity=caller, method="name", payload="")
            return f"Hello, {name}!"

        reply = await alice.perform_rpc(destination_identity="bob", method="greet", payload="Hi")
        assert reply == "Hello, Alice!"

    in_a_room(world, scene)


@each_world
def test_handlers_run_side_by_side(world: World) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        replies: list[str] = []

        @bob.register_rpc_method("greet")
        async def greet(data: RpcInvocationData) -> str:
            await anyio.sleep(1.0)
            return "done"

        async def call() -> None:
            replies.append(
                await alice.perform_rpc(destination_identity="bob", method="greet", payload="Hi")
            )

        began = anyio.current_time()
        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(call)
        assert replies == ["done"] * 100
        assert anyio.current_time() - began == 1.0

    in_a_room(world, scene)


@each_world
def test_a_bug_in_a_handler_is_logged_and_none_of_it_is_sent(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        @bob.register_rpc_method("greet")
        async def greet(data: RpcInvocationData) -> str:
            raise ValueError("swordfish")

        with pytest.raises(RpcError) as caught:
            await alice.perform_rpc(destination_identity="bob", method="greet", payload="Hi")
        error = caught.value
        assert (error.code, error.message) == (1500, "Application error in method handler")
        assert not error.data

    in_a_room(world, scene)
    [record] = caplog.records
    assert (record.name, record.levelno) == ("rpcproto", logging.ERROR)
    assert "bob" in record.getMessage()
    assert "greet" in record.getMessage()
    assert "ValueError: swordfish" in caplog.text


@each_world
def test_a_thousand_calls_cancelled_at_random_moments_cost_nobody_else_an_answer(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    dice = random.Random(2026)
    answered: dict[int, str] = {}
    cancelled: list[int] = []

    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        @bob.register_rpc_method("echo")
        async def echo(data: RpcInvocationData) -> str:
            await anyio.sleep(int(data.payload) % 7 * 0.125)
            return data.payload * 100

        async def call(number: int, patience: float | None) -> None:
            with anyio.move_on_after(patience):
                answered[number] = await alice.perform_rpc(
                    destination_identity="bob", method="echo", payload=f"{number}"
                )
                return
            cancelled.append(number)

        async with anyio.create_task_group() as group:
            for number in range(2_000):
                patience = dice.choice((0.0, 0.0625, dice.random())) if number % 2 else None
                group.start_soon(call, number, patience)
                if number % 100 == 0:
                    await anyio.sleep(0.125)
        assert alice.statistics().pending_calls == 0
        assert alice.statistics().waiting_bytes == 0
        await anyio.sleep(20.0)
        assert bob.statistics().running_invocations == 0
        assert bob.statistics().open_streams_in == 0

    in_a_room(world, scene, latency=0.0625)
    assert len(cancelled) > 500
    assert sorted([*answered, *cancelled]) == list(range(2_000))
    assert set(range(0, 2_000, 2)) <= set(answered)
    assert all(answered[number] == f"{number}" * 100 for number in answered)
    assert not caplog.records


@each_world
def test_misuse_raises_before_anything_is_sent(world: World) -> None:
    class Transport:
        def __init__(self) -> None:
            self.sent = 0

        async def send(self, packet: object) -> None:
            self.sent += 1

        async def __aiter__(self) -> Any:
            yield Connected()
            await anyio.sleep_forever()

        async def aclose(self) -> None:
            pass

    right: dict[str, Any] = {"destination_identity": "bob", "method": "greet", "payload": "Hi"}
    wrong: list[dict[str, Any]] = [
        {"method": "m" * 65},
        {"method": ""},
        {"method": b"greet"},
        {"payload": None},
        {"payload": b"Hi"},
        {"payload": "\ud800"},
        {"destination_identity": ""},
        {"destination_identity": None},
        {"response_timeout": 0.0},
        {"response_timeout": "10"},
        {"max_round_trip_latency": float("nan")},
    ]

    async def main() -> None:
        transport = Transport()
        alice = world.participant("alice", transport)
        with pytest.raises(LocalProtocolError, match="async with"):
            await alice.perform_rpc(**right)
        with pytest.raises(LocalProtocolError, match="async with"):
            await alice.wait_for_participant("bob")
        with pytest.raises(LocalProtocolError, match="async with"):
            alice.statistics()
        with pytest.raises(LocalProtocolError, match="async with"):
            print(alice.participants)
        async with alice:
            for options in wrong:
                with pytest.raises(LocalProtocolError):
                    await alice.perform_rpc(**{**right, **options})
            with pytest.raises(TypeError):
                await alice.perform_rpc("bob", "greet", "Hi")  # type: ignore[call-arg]
            await anyio.sleep(1.0)
            assert transport.sent == 0
            assert alice.statistics().pending_calls == 0

    world.run(main)


@each_world
def test_a_broken_transport_fails_all_calls_at_once_and_lets_the_context_end(world: World) -> None:
    broken = OSError("cable cut")

    class Transport:
        async def send(self, packet: object) -> None:
            await anyio.sleep(1.0)
            raise broken

        async def __aiter__(self) -> Any:
            event: TransportEvent = Connected()
            yield event
            yield PacketReceived(b"garbage")
            await anyio.sleep_forever()

        async def aclose(self) -> None:
            pass

    async def main() -> None:
        errors: list[RpcError] = []

        async def call() -> None:
            with pytest.raises(RpcError) as caught:
                await alice.perform_rpc(destination_identity="bob", method="greet", payload="")
            errors.append(caught.value)
            assert anyio.current_time() - began == 1.0

        began = anyio.current_time()
        async with world.participant("alice", Transport()) as alice, anyio.create_task_group() as g:
            for _ in range(10):
                g.start_soon(call)
        assert [error.code for error in errors] == [ErrorCode.RECIPIENT_DISCONNECTED] * 10
        assert {error.__cause__ for error in errors} == {broken}

    world.run(main)


@each_world
def test_what_must_end_the_program_comes_out_of_a_handler_as_itself(world: World) -> None:
    script = f"""
import sys
import anyio
from rpcproto.{world.name} import RpcParticipant
from rpcproto.transports.memory import MemoryRoom

async def main():
    room = MemoryRoom()
    async with (
        RpcParticipant("bob", room.join("bob")) as bob,
        RpcParticipant("alice", room.join("alice")) as alice,
    ):
        bob.register_rpc_method("leave", lambda data: sys.exit(3))
        await alice.perform_rpc(destination_identity="bob", method="leave", payload="")

anyio.run(main, backend="{world.name}")
"""
    ended = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert ended.returncode == 3
    assert b"Group" not in ended.stderr


@each_world
def test_leaving_twice_waits_for_the_first(world: World) -> None:
    closed: list[str] = []

    class Transport:
        async def send(self, packet: object) -> None:
            pass

        async def __aiter__(self) -> Any:
            yield Connected()
            await anyio.sleep_forever()

        async def aclose(self) -> None:
            await anyio.sleep(0.25)
            closed.append("closed")

    async def main() -> None:
        unused = world.participant("bob", Transport())
        with pytest.raises(LocalProtocolError, match="async with"):
            await unused.aclose()
        async with anyio.create_task_group() as group:
            async with world.participant("alice", Transport()) as alice:
                group.start_soon(alice.aclose)
                await anyio.sleep(0.125)
                await alice.aclose()
                assert closed == ["closed"]
            assert anyio.current_time() >= 0.25

    world.run(main)


@each_world
def test_a_handler_may_close_its_participant_and_answers_already_given_arrive(world: World) -> None:
    outcomes: dict[str, object] = {}

    class SlowTransport:
        def __init__(self, transport: MemoryTransport) -> None:
            self.transport = transport

        async def send(self, packet: OutgoingPacket) -> None:
            await anyio.sleep(0.0625)
            await self.transport.send(packet)

        def __aiter__(self) -> Any:
            return self.transport

        async def aclose(self) -> None:
            await self.transport.aclose()

    async def main() -> None:
        room = MemoryRoom()
        bob_transport = SlowTransport(room.join("bob"))
        async with (
            world.participant("alice", room.join("alice")) as alice,
            world.participant("bob", bob_transport) as bob,
            anyio.create_task_group() as group,
        ):

            async def call(method: str) -> None:
                try:
                    outcomes[method] = await alice.perform_rpc(
                        destination_identity="bob", method=method, payload=""
                    )
                except RpcError as error:
                    outcomes[method] = error.code

            @bob.register_rpc_method("stop")
            async def stop(data: RpcInvocationData) -> str:
                await anyio.sleep(0.5)
                await bob.aclose()
                return "too late"

            bob.register_rpc_method("echo", lambda data: "echo")
            group.start_soon(call, "stop")
            await anyio.sleep(0.46875)
            group.start_soon(call, "echo")

    world.run(main)
    assert outcomes == {"stop": 1503, "echo": "echo"}


@each_world
def test_every_waiting_call_gets_an_error_of_its_own(world: World) -> None:
    errors: list[RpcError] = []

    class Transport:
        async def send(self, packet: object) -> None:
            pass

        async def __aiter__(self) -> Any:
            nothing: list[TransportEvent] = []
            await anyio.sleep(1.0)
            for event in nothing:
                yield event

        async def aclose(self) -> None:
            pass

    async def main() -> None:
        async with (
            world.participant("alice", Transport()) as alice,
            anyio.create_task_group() as group,
        ):

            async def call() -> None:
                with pytest.raises(RpcError) as caught:
                    await alice.perform_rpc(destination_identity="bob", method="greet", payload="")
                errors.append(caught.value)

            for _ in range(3):
                group.start_soon(call)
            with pytest.raises(LocalProtocolError, match="64"):  # before it waits
                await alice.perform_rpc(destination_identity="bob", method="m" * 65, payload="")

    world.run(main)
    assert {error.code for error in errors} == {1503}
    assert len({id(error) for error in errors}) == 3


@each_world
def test_a_late_failure_of_an_old_send_does_not_harm_the_new_connection(world: World) -> None:
    class Transport:
        def __init__(self) -> None:
            self.sent = 0

        async def send(self, packet: object) -> None:
            self.sent += 1
            if self.sent == 1:
                await anyio.sleep(3.0)
                raise OSError("the old socket")

        async def __aiter__(self) -> Any:
            yield Connected()
            await anyio.sleep(1.0)
            yield Disconnected()
            yield Connected()
            await anyio.sleep_forever()

        async def aclose(self) -> None:
            pass

    async def main() -> None:
        codes: list[int] = []
        async with world.participant("alice", Transport()) as alice:
            for _ in range(2):
                with pytest.raises(RpcError) as caught:
                    await alice.perform_rpc(destination_identity="bob", method="greet", payload="")
                codes.append(caught.value.code)
        assert codes == [1503, 1501]

    world.run(main)


@each_world
def test_whoever_is_put_out_of_a_room_waits_for_nobody(world: World) -> None:
    async def main() -> None:
        room = MemoryRoom()
        async with world.participant("alice", room.join("alice")) as alice:
            room.join("alice")
            with pytest.raises(RpcError) as caught:
                await alice.wait_for_participant("bob")
            assert caught.value.code == ErrorCode.RECIPIENT_DISCONNECTED
            assert "joined again" in str(caught.value.__cause__)

    world.run(main)
