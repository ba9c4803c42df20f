"""What must be the same on asyncio and on trio, as programs that only know anyio."""

import logging
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from fake_transports import ScriptedTransport
from worlds import World, each_world

from rpcproto import ErrorCode, LocalProtocolError, OutgoingPacket, RpcConfig, RpcEngine, RpcError
from rpcproto.asyncio import RpcParticipant
from rpcproto.participant import RpcInvocationData
from rpcproto.transports import Connected, Disconnected, PacketReceived, TransportEvent
from rpcproto.transports.links import Link
from rpcproto.transports.memory import MemoryRoom, MemoryTransport

Scene = Callable[[RpcParticipant, RpcParticipant], Coroutine[Any, Any, None]]


def in_a_room(world: World, scene: Scene, *, latency: float = 0.0) -> None:
    async def main() -> None:
        room = MemoryRoom(link=Link(latency=latency))
        bob_transport = room.join("bob")
        async with (
            world.participant(room.join("alice")) as alice,
            world.participant(bob_transport) as bob,
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
    class Transport(ScriptedTransport):
        def __init__(self) -> None:
            super().__init__()
            self.sent = 0

        async def send_packet(self, packet: object) -> None:
            self.sent += 1

        async def events(self) -> Any:
            yield Connected()
            await anyio.sleep_forever()

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
        alice = world.participant(transport)
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

    class Transport(ScriptedTransport):
        async def send_packet(self, packet: object) -> None:
            await anyio.sleep(1.0)
            raise broken

        async def events(self) -> Any:
            event: TransportEvent = Connected()
            yield event
            yield PacketReceived(b"garbage")
            await anyio.sleep_forever()

    async def main() -> None:
        errors: list[RpcError] = []

        async def call() -> None:
            with pytest.raises(RpcError) as caught:
                await alice.perform_rpc(destination_identity="bob", method="greet", payload="")
            errors.append(caught.value)
            assert anyio.current_time() - began == 1.0

        began = anyio.current_time()
        async with world.participant(Transport()) as alice, anyio.create_task_group() as g:
            for _ in range(10):
                g.start_soon(call)
        assert [error.code for error in errors] == [ErrorCode.RECIPIENT_DISCONNECTED] * 10
        assert {error.__cause__ for error in errors} == {broken}

    world.run(main)


BAD_RESULTS: dict[str, Callable[[], object]] = {
    "SystemExit": lambda: sys.exit(3),
    "another BaseException": lambda: raise_(BaseException()),
    "GeneratorExit": lambda: raise_(GeneratorExit()),
    "an exception without a text": lambda: raise_(UnprintableError()),
    "a group": lambda: raise_(ExceptionGroup("", [ValueError(), RpcError(1, "")])),
    "an RpcError that lies about itself": lambda: raise_(LyingError(1)),
    "a text that is none": lambda: "\ud800",
}
"""What is wrong with a handler that does this."""


def raise_(error: BaseException) -> object:
    raise error


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise SystemExit(4)


class LyingError(RpcError):
    @property
    def code(self) -> int:
        raise SystemExit(5)

    @code.setter
    def code(self, value: int) -> None:
        pass


@pytest.mark.parametrize("wrong", BAD_RESULTS)
@each_world
def test_whatever_a_handler_does_the_caller_gets_1500_and_the_participant_goes_on(
    world: World, wrong: str
) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        @bob.register_rpc_method("wrong")
        async def handle(data: RpcInvocationData) -> Any:
            return BAD_RESULTS[wrong]()

        bob.register_rpc_method("right", lambda data: "right")
        for _ in range(2):
            with pytest.raises(RpcError) as caught:
                await alice.perform_rpc(destination_identity="bob", method="wrong", payload="")
            assert caught.value.code == 1500
            right = await alice.perform_rpc(destination_identity="bob", method="right", payload="")
            assert right == "right"

    in_a_room(world, scene)


class OddText(str):
    """A text whose every method does something else."""

    def encode(self, *_: object, **__: object) -> bytes:
        raise SystemExit(6)

    def __len__(self) -> int:
        return 2**40

    def __eq__(self, other: object) -> bool:
        raise SystemExit(7)

    __hash__ = None  # type: ignore[assignment]


class OddNumber(int):
    def __eq__(self, other: object) -> bool:
        raise SystemExit(8)

    __lt__ = __gt__ = __le__ = __ge__ = __eq__

    __hash__ = None  # type: ignore[assignment]


@each_world
def test_subclasses_of_str_and_int_are_sent_as_the_text_and_the_number_that_they_are(
    world: World,
) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        bob.register_rpc_method("text", lambda data: OddText("right"))

        @bob.register_rpc_method("error")
        async def fail(data: RpcInvocationData) -> str:
            raise RpcError(OddNumber(7), OddText("message"), OddText("data"))

        right = await alice.perform_rpc(destination_identity="bob", method="text", payload="")
        assert (type(right), right) == (str, "right")
        with pytest.raises(RpcError) as caught:
            await alice.perform_rpc(destination_identity="bob", method="error", payload="")
        error = caught.value
        assert (error.code, error.message, error.data) == (7, "message", "data")

    in_a_room(world, scene)


@each_world
def test_an_rpc_error_that_is_alone_in_a_group_reaches_the_caller(world: World) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        async def fail() -> None:
            raise RpcError(7, "deep inside", "data")

        @bob.register_rpc_method("greet")
        async def greet(data: RpcInvocationData) -> str:
            async with anyio.create_task_group() as outer, anyio.create_task_group() as inner:
                outer.start_soon(anyio.sleep_forever)
                inner.start_soon(fail)
            return ""

        with pytest.raises(RpcError) as caught:
            await alice.perform_rpc(destination_identity="bob", method="greet", payload="")
        error = caught.value
        assert (error.code, error.message, error.data) == (7, "deep inside", "data")

    in_a_room(world, scene)


@each_world
def test_a_keyboard_interrupt_in_a_handler_is_answered_and_then_ends_the_program(
    world: World,
) -> None:
    script = f"""
import anyio
from rpcproto.{world.name} import RpcParticipant
from rpcproto.transports.links import SentPacket
from rpcproto.transports.memory import MemoryRoom
from rpcproto.wire import decode

def interrupt(data):
    raise KeyboardInterrupt

def observe(happened):
    if isinstance(happened, SentPacket) and happened.sender_identity == "bob":
        print(decode(happened.data).message, flush=True)

async def main():
    room = MemoryRoom(observe=observe)
    async with (
        RpcParticipant(room.join("alice")) as alice,
        RpcParticipant(room.join("bob")) as bob,
    ):
        bob.register_rpc_method("interrupt", interrupt)
        await alice.perform_rpc(destination_identity="bob", method="interrupt", payload="")

anyio.run(main, backend="{world.name}")
"""
    ended = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert ended.returncode != 0
    assert b"KeyboardInterrupt" in ended.stderr
    assert b"code=1500" in ended.stdout


class BrokenHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise SystemExit(9)


@each_world
def test_logging_that_fails_harms_nobody(world: World) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        @bob.register_rpc_method("greet")
        async def greet(data: RpcInvocationData) -> str:
            raise ValueError

        for _ in range(2):
            with pytest.raises(RpcError) as caught:
                await alice.perform_rpc(destination_identity="bob", method="greet", payload="")
            assert caught.value.code == 1500

    handler = BrokenHandler()
    logging.getLogger("rpcproto").addHandler(handler)
    try:
        in_a_room(world, scene)
    finally:
        logging.getLogger("rpcproto").removeHandler(handler)


@each_world
def test_leaving_twice_waits_for_the_first(world: World) -> None:
    closed: list[str] = []

    class Transport(ScriptedTransport):
        async def send_packet(self, packet: object) -> None:
            pass

        async def events(self) -> Any:
            yield Connected()
            await anyio.sleep_forever()

        async def aclose(self) -> None:
            await anyio.sleep(0.25)
            closed.append("closed")

    async def main() -> None:
        unused = world.participant(Transport())
        with pytest.raises(LocalProtocolError, match="async with"):
            await unused.aclose()
        async with anyio.create_task_group() as group:
            async with world.participant(Transport()) as alice:
                group.start_soon(alice.aclose)
                await anyio.sleep(0.125)
                await alice.aclose()
                assert closed == ["closed"]
            assert anyio.current_time() >= 0.25

    world.run(main)


@each_world
def test_a_handler_may_close_its_participant_and_answers_already_given_arrive(world: World) -> None:
    outcomes: dict[str, object] = {}

    class SlowTransport(ScriptedTransport):
        def __init__(self, transport: MemoryTransport) -> None:
            super().__init__(transport.identity)
            self.receive = transport.receive  # type: ignore[method-assign]
            self.transport = transport

        async def send_packet(self, packet: OutgoingPacket) -> None:
            await anyio.sleep(0.0625)
            await self.transport.send(iter([packet, None]).__next__)

        async def aclose(self) -> None:
            await self.transport.aclose()

    async def main() -> None:
        room = MemoryRoom()
        bob_transport = SlowTransport(room.join("bob"))
        async with (
            world.participant(room.join("alice")) as alice,
            world.participant(bob_transport) as bob,
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

    class Transport(ScriptedTransport):
        async def send_packet(self, packet: object) -> None:
            pass

        async def events(self) -> Any:
            nothing: list[TransportEvent] = []
            await anyio.sleep(1.0)
            for event in nothing:
                yield event

    async def main() -> None:
        async with world.participant(Transport()) as alice, anyio.create_task_group() as group:

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
    class Transport(ScriptedTransport):
        def __init__(self) -> None:
            super().__init__()
            self.sent = 0

        async def send_packet(self, packet: object) -> None:
            self.sent += 1
            if self.sent == 1:
                await anyio.sleep(3.0)
                raise OSError("the old socket")

        async def events(self) -> Any:
            yield Connected()
            await anyio.sleep(1.0)
            yield Disconnected()
            yield Connected()
            await anyio.sleep_forever()

    async def main() -> None:
        codes: list[int] = []
        async with world.participant(Transport()) as alice:
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
        async with world.participant(room.join("alice")) as alice:
            room.join("alice")
            with pytest.raises(RpcError) as caught:
                await alice.wait_for_participant("bob")
            assert caught.value.code == ErrorCode.RECIPIENT_DISCONNECTED
            assert "joined again" in str(caught.value.__cause__)

    world.run(main)


@each_world
def test_handlers_that_take_their_time_to_end_still_count(world: World) -> None:
    """The engine has forgotten their invocations, but their tasks are there."""
    running: list[str] = []
    data: list[str | None] = []

    async def main() -> None:
        room = MemoryRoom()
        config = RpcConfig(max_invocations_per_caller=8)
        async with world.participant(room.join("bob"), config=config) as bob:

            @bob.register_rpc_method("stay")
            async def stay(call: RpcInvocationData) -> str:
                running.append(call.request_id)
                try:
                    await anyio.sleep(30.0)
                finally:
                    with anyio.CancelScope(shield=True):
                        await anyio.sleep(30.0)
                return ""

            async def call(mallory: RpcParticipant) -> None:
                with pytest.raises(RpcError) as caught:
                    await mallory.perform_rpc(
                        destination_identity="bob", method="stay", payload="", response_timeout=5.0
                    )
                data.append(caught.value.data)

            for _ in range(3):  # each time under another sid
                async with (
                    world.participant(room.join("mallory")) as mallory,
                    anyio.create_task_group() as calls,
                ):
                    for _ in range(8):
                        calls.start_soon(call, mallory)
                    await anyio.sleep(1.0)
                    calls.cancel_scope.cancel()
            assert len(running) == 8
            assert data == ["too many requests"] * 16
            await anyio.sleep(30.0)
            async with world.participant(room.join("mallory")) as mallory:
                with anyio.move_on_after(1.0):
                    await call(mallory)
            assert len(running) == 9

    world.run(main)


async def call(alice: RpcParticipant, destination: str = "bob") -> str:
    return await alice.perform_rpc(destination_identity=destination, method="greet", payload="")


async def turns_of_others_while(use: Callable[[], Coroutine[Any, Any, object]]) -> int:
    """How often another task gets its turn while this is tried a hundred times."""
    turns = 0

    async def bystander() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        group.start_soon(bystander)
        await anyio.lowlevel.checkpoint()
        for _ in range(100):
            with suppress(RpcError, LocalProtocolError):
                await use()
        group.cancel_scope.cancel()
    return turns


@each_world
def test_a_call_or_a_wait_that_ends_at_once_gives_others_their_turn(world: World) -> None:
    """A program that tries again and again must not stop its own timeouts and readers."""

    async def main() -> None:
        room = MemoryRoom()
        config = RpcConfig(max_pending_calls=1)
        async with world.participant(room.join("alice"), config=config) as alice:
            assert await turns_of_others_while(lambda: call(alice, "alice")) >= 100  # 1401
            assert await turns_of_others_while(lambda: call(alice, "nobody")) >= 100  # 1401
            room.join("bob")
            await alice.wait_for_participant("bob")
            assert await turns_of_others_while(lambda: alice.wait_for_participant("bob")) >= 100
            async with anyio.create_task_group() as group:
                group.start_soon(call, alice)
                await anyio.sleep(1.0)
                assert await turns_of_others_while(lambda: call(alice)) >= 100  # too many
                group.cancel_scope.cancel()
            room.join("alice")  # puts the first one out
            await anyio.sleep(1.0)
            assert await turns_of_others_while(lambda: call(alice)) >= 100  # 1503
            assert await turns_of_others_while(lambda: alice.wait_for_participant("carol")) >= 100

    world.run(main)


@each_world
def test_another_thread_may_not_use_a_participant(world: World) -> None:
    errors: list[Exception] = []

    async def main() -> None:
        room = MemoryRoom()
        for transport in (room.join("alice"), NeverConnected()):
            async with world.participant(transport) as alice:

                def use(use_it: Callable[[], Coroutine[Any, Any, object]]) -> None:
                    try:
                        anyio.run(use_it, backend=world.name)
                    except LocalProtocolError as error:
                        errors.append(error)

                async def register() -> None:
                    alice.register_rpc_method("greet", lambda data: "")

                for use_it in (
                    lambda: call(alice),
                    lambda: alice.wait_for_participant("bob"),
                    register,
                ):
                    thread = threading.Thread(target=use, args=(use_it,))
                    thread.start()
                    thread.join()

    world.run(main)
    assert len(errors) == 6
    assert all("belongs to another" in str(error) for error in errors)


class NeverConnected(ScriptedTransport):
    """A transport that is still connecting."""

    async def events(self) -> Any:
        await anyio.sleep_forever()
        yield Connected()


@each_world
def test_waiting_for_something_that_is_no_identity_raises(world: World) -> None:
    async def main() -> None:
        async with world.participant(MemoryRoom().join("alice")) as alice:
            for wrong in (None, 5, "", "x" * 257):
                with pytest.raises(LocalProtocolError, match="identity"):
                    await alice.wait_for_participant(wrong)  # type: ignore[arg-type]

    world.run(main)


@each_world
def test_a_decorator_without_its_name_and_names_that_are_none_raise_at_once(world: World) -> None:
    async def main() -> None:
        alice = world.participant(MemoryRoom().join("alice"))
        for _ in range(2):
            with pytest.raises(LocalProtocolError, match="name of the method is missing"):

                @alice.register_rpc_method  # type: ignore[call-overload]
                async def greet(data: RpcInvocationData) -> str:
                    return ""

            names: list[Any] = [123, None, "", "m" * 65, b"greet", "\ud800", ["x"]]
            for wrong in names:
                with pytest.raises(LocalProtocolError, match="method"):
                    alice.register_rpc_method(wrong)
                with pytest.raises(LocalProtocolError, match="method"):
                    alice.unregister_rpc_method(wrong)
            if not alice._is_open:
                await alice.__aenter__()
        await alice.__aexit__(None, None, None)

    world.run(main)


@each_world
def test_a_call_while_the_connection_is_lost_has_the_standard_message(world: World) -> None:
    class Transport(ScriptedTransport):
        async def events(self) -> Any:
            yield Connected()
            yield Disconnected(OSError("no signal"))
            await anyio.sleep_forever()

    async def main() -> None:
        async with world.participant(Transport()) as alice:
            await anyio.sleep(1.0)
            with pytest.raises(RpcError) as caught:
                await call(alice)
            error = caught.value
            assert (error.code, error.message) == (1503, "Recipient disconnected")
            assert str(error.__cause__) == "no signal"

    world.run(main)


@each_world
def test_a_call_that_waits_for_the_connection_ends_with_1503_when_its_participant_leaves(
    world: World,
) -> None:
    codes: list[int] = []

    async def main() -> None:
        async with anyio.create_task_group() as group, world.participant(NeverConnected()) as alice:

            async def wait() -> None:
                with pytest.raises(RpcError) as caught:
                    await call(alice)
                codes.append(caught.value.code)

            group.start_soon(wait)
            await anyio.sleep(1.0)
            with pytest.raises(LocalProtocolError, match="65"):  # before it waits
                await alice.perform_rpc(destination_identity="b", method="m" * 65, payload="")

    world.run(main)
    assert codes == [1503]


@each_world
def test_the_connection_that_comes_in_the_turn_of_leaving_costs_no_call_its_1503(
    world: World,
) -> None:
    codes: list[int] = []

    class Transport(ScriptedTransport):
        async def events(self) -> Any:
            await anyio.sleep(1.0)
            yield Connected()
            await anyio.sleep_forever()

    async def main() -> None:
        async with anyio.create_task_group() as group, world.participant(Transport()) as alice:

            async def wait() -> None:
                with pytest.raises(RpcError) as caught:
                    await call(alice)
                codes.append(caught.value.code)

            for _ in range(3):
                group.start_soon(wait)
            await anyio.sleep(1.0)

    world.run(main)
    assert codes == [1503] * 3


@each_world
def test_everybody_who_is_in_the_room_is_known_on_entering(world: World) -> None:
    async def main() -> None:
        room = MemoryRoom()
        early, transport, late = room.join("early"), room.join("alice"), room.join("late")
        async with world.participant(transport) as alice:
            assert alice.participants == ("early", "late")
            assert early.identity == "early"
            assert late.identity == "late"

    world.run(main)


@each_world
def test_a_participant_takes_identity_and_departure_grace_from_its_transport(world: World) -> None:
    configs: list[RpcConfig] = []

    def engine_factory(identity: str, *, config: RpcConfig, **options: Any) -> RpcEngine:
        configs.append(config)
        return RpcEngine(identity, config=config, **options)

    async def main() -> None:
        for of_transport, of_config in ((0.0, 0.0), (2.0, 0.0), (2.0, 3.0)):
            transport = NeverConnected("carol")
            transport.departure_grace = of_transport
            config = RpcConfig(departure_grace=of_config)
            participant = world.participant(transport, config=config, engine_factory=engine_factory)
            async with participant:
                assert participant.identity == "carol"

    world.run(main)
    assert [config.departure_grace for config in configs] == [0.0, 2.0, 3.0]


@each_world
def test_a_flood_of_events_that_cannot_be_is_one_line_in_the_log(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    class Transport(ScriptedTransport):
        async def events(self) -> Any:
            yield Connected()
            for _ in range(1_000):
                yield PacketReceived(b"", "x" * 257)
            await anyio.sleep_forever()

    async def main() -> None:
        async with world.participant(Transport()):
            await anyio.sleep(1.0)

    world.run(main)
    [record] = caplog.records
    assert "257 bytes" in record.getMessage()
