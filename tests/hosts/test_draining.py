"""`drain` and the totals of `statistics()`, on asyncio and on trio."""

import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import anyio
import pytest
from worlds import World, each_world

from rpcproto import (
    InvocationReceived,
    LocalProtocolError,
    OutgoingPacket,
    RpcConfig,
    RpcEngine,
    RpcError,
)
from rpcproto.asyncio import RpcInterceptor, RpcInvocationData, RpcParticipant
from rpcproto.participant import CallArguments, ParticipantBase
from rpcproto.participant.totals import OUTCOMES
from rpcproto.testing import counting_ids
from rpcproto.transports import Connected, PacketReceived, ParticipantJoined, TransportEvent
from rpcproto.transports.memory import MemoryRoom, MemoryTransport

Scene = Callable[[RpcParticipant, RpcParticipant], Coroutine[Any, Any, None]]
BIG = "x" * 1_000_000


class HeldTransport(MemoryTransport):
    """Sends nothing while it is held."""

    released: anyio.Event | None = None

    async def send(self, take: Callable[[], OutgoingPacket | None]) -> None:
        if self.released is not None:
            await self.released.wait()
        await super().send(take)


class LateTransport(MemoryTransport):
    """Tells nothing for a second, not even that it is connected."""

    async def receive(self) -> Sequence[TransportEvent]:
        if anyio.current_time() < 1.0:
            await anyio.sleep(1.0 - anyio.current_time())
        return await super().receive()


def in_a_room(world: World, scene: Scene, **options: Any) -> None:
    async def main() -> None:
        room = MemoryRoom()
        async with (
            world.participant(room.join("alice"), **options) as alice,
            world.participant(room.join("bob"), **options) as bob,
        ):
            await alice.wait_for_participant("bob")
            await scene(alice, bob)

    world.run(main)


async def call(
    participant: RpcParticipant, to: str = "bob", method: str = "greet", payload: str = ""
) -> str:
    return await participant.perform_rpc(destination_identity=to, method=method, payload=payload)


async def code_of(call: Awaitable[str]) -> int:
    with pytest.raises(RpcError) as caught:
        await call
    return caught.value.code


@each_world
def test_a_participant_without_work_is_drained_at_once(world: World) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        for timeout in (0, 1.0, None):
            assert await bob.drain(timeout=timeout) is True
        assert anyio.current_time() == 0.0

    in_a_room(world, scene)


@each_world
def test_new_requests_are_answered_1400_and_interceptors_do_not_see_them(world: World) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        seen: list[str] = []

        class See(RpcInterceptor):
            async def intercept_incoming(self, invocation: RpcInvocationData, next: Any) -> Any:
                seen.append(invocation.method)
                return await next(invocation)

        bob.add_rpc_interceptor(See())
        bob.register_rpc_method("greet", lambda data: "Hello")
        assert await call(alice) == "Hello"
        assert await bob.drain(timeout=1.0)
        assert await code_of(call(alice)) == 1400
        assert await code_of(call(alice, method="none")) == 1400
        bob.register_rpc_method("newer", lambda data: "Hello")
        assert await code_of(call(alice, method="newer")) == 1400
        assert seen == ["greet"]

    in_a_room(world, scene)


@each_world
def test_what_runs_may_answer_and_may_still_call_and_its_end_ends_the_draining(
    world: World,
) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        alice.register_rpc_method("name", lambda data: "Alice")
        replies: list[str] = []

        @bob.register_rpc_method("greet")
        async def slow(data: RpcInvocationData) -> str:
            await anyio.sleep(2.0)
            return f"Hello, {await call(bob, data.caller_identity, 'name')}!"

        async def ask() -> None:
            replies.append(await call(alice))

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await anyio.sleep(1.0)
            assert await bob.drain(timeout=5.0) is True
            assert anyio.current_time() == 2.0
            await bob.aclose()
        assert replies == ["Hello, Alice!"]

    in_a_room(world, scene)


@each_world
def test_draining_ends_at_its_timeout_and_may_be_called_again(world: World) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        @bob.register_rpc_method("greet")
        async def slow(data: RpcInvocationData) -> str:
            await anyio.sleep(4.0)
            return ""

        async with anyio.create_task_group() as group:
            group.start_soon(call, alice)
            await anyio.sleep(1.0)
            assert await bob.drain(timeout=0) is False
            assert anyio.current_time() == 1.0
            assert await bob.drain(timeout=2.0) is False
            assert anyio.current_time() == 3.0
            assert await bob.drain(timeout=2.0) is True
            assert anyio.current_time() == 4.0

    in_a_room(world, scene)


@each_world
def test_several_may_wait_for_the_draining_each_with_its_own_timeout(world: World) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        ends: list[tuple[float, bool]] = []

        @bob.register_rpc_method("greet")
        async def slow(data: RpcInvocationData) -> str:
            await anyio.sleep(3.0)
            return ""

        async def drain(timeout: float | None) -> None:
            drained = await bob.drain(timeout=timeout)
            ends.append((anyio.current_time(), drained))

        async with anyio.create_task_group() as group:
            group.start_soon(call, alice)
            await anyio.sleep(0.5)
            for timeout in (2.0, None, 1.0, 30.0):
                group.start_soon(drain, timeout)
            with anyio.move_on_after(0.25):
                await drain(None)
        assert sorted(ends) == [(1.5, False), (2.5, False), (3.0, True), (3.0, True)]

    in_a_room(world, scene)


@each_world
@pytest.mark.parametrize("is_intercepted", [False, True], ids=["call", "call in a chain"])
def test_calls_of_our_own_are_waited_for(world: World, is_intercepted: bool) -> None:
    class Again(RpcInterceptor):
        """Waits between two calls, when none is pending in the engine."""

        async def intercept_outgoing(self, call: Any, next: Any) -> Any:
            await next(call)
            await anyio.sleep(1.0)
            return await next(call)

    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        if is_intercepted:
            alice.add_rpc_interceptor(Again())

        @bob.register_rpc_method("greet")
        async def slow(data: RpcInvocationData) -> str:
            await anyio.sleep(1.0)
            return ""

        async with anyio.create_task_group() as group:
            group.start_soon(call, alice)
            await anyio.sleep(0.5)
            assert await alice.drain(timeout=10.0) is True
            assert anyio.current_time() == (3.0 if is_intercepted else 1.0)

    in_a_room(world, scene)


@each_world
def test_a_call_that_waits_for_the_connection_is_waited_for(world: World) -> None:
    async def main() -> None:
        room = MemoryRoom()
        transport = room.join("alice")
        transport.__class__ = LateTransport
        async with world.participant(transport) as alice, anyio.create_task_group() as group:
            group.start_soon(code_of, call(alice))
            await anyio.sleep(0.5)
            assert alice.statistics().pending_calls == 0
            assert await alice.drain(timeout=20.0) is True
            assert anyio.current_time() == 1.0
            assert alice.statistics().calls_ended["1401"] == 1

    world.run(main)


@each_world
@pytest.mark.parametrize("payload", ["small", BIG], ids=["small", "a body"])
def test_what_has_not_left_is_waited_for(world: World, payload: str) -> None:
    async def main() -> None:
        room = MemoryRoom()
        transport = room.join("bob")
        transport.__class__ = HeldTransport
        assert isinstance(transport, HeldTransport)
        async with (
            world.participant(room.join("alice")) as alice,
            world.participant(transport) as bob,
        ):
            await alice.wait_for_participant("bob")
            await bob.wait_for_participant("alice")
            bob.register_rpc_method("greet", lambda data: payload)
            replies: list[str] = []

            async def ask() -> None:
                replies.append(await call(alice))

            transport.released = anyio.Event()
            async with anyio.create_task_group() as group:
                group.start_soon(ask)
                await anyio.sleep(1.0)
                assert bob.statistics().running_invocations == 0
                assert await bob.drain(timeout=1.0) is False
                transport.released.set()
                assert await bob.drain(timeout=1.0) is True
                assert bob.statistics().waiting_bytes == 0
                await bob.aclose()
            assert replies == [payload]

    world.run(main)


@each_world
def test_a_handler_that_takes_time_to_end_when_cancelled_is_waited_for(world: World) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        @bob.register_rpc_method("greet")
        async def slow(data: RpcInvocationData) -> str:
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(2.0)
            return ""

        async with anyio.create_task_group() as group:
            group.start_soon(code_of, call(alice))
            await anyio.sleep(14.5)  # it is cancelled after 15 s, and ends after 17
            assert await bob.drain(timeout=2.0) is False
            assert await bob.drain(timeout=2.0) is True
            assert anyio.current_time() == 17.0

    in_a_room(world, scene)


@each_world
def test_draining_ends_when_the_participant_leaves(world: World) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        ends: list[tuple[float, bool]] = []

        @bob.register_rpc_method("greet")
        async def slow(data: RpcInvocationData) -> str:
            await anyio.sleep_forever()
            return ""

        async def drain() -> None:
            drained = await bob.drain()
            ends.append((anyio.current_time(), drained))

        async with anyio.create_task_group() as group:
            group.start_soon(code_of, call(alice))
            await anyio.sleep(1.0)
            group.start_soon(drain)
            await anyio.sleep(1.0)
            await bob.aclose()
        assert ends == [(2.0, False)]
        assert await bob.drain() is True

    in_a_room(world, scene)


@each_world
def test_draining_needs_a_timeout_that_is_one_and_a_participant_that_was_entered(
    world: World,
) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        for timeout in (-1.0, float("nan"), float("inf"), "1"):
            with pytest.raises(LocalProtocolError, match="timeout"):
                await bob.drain(timeout=timeout)  # type: ignore[arg-type]
        bob.register_rpc_method("greet", lambda data: "still here")
        assert await call(alice) == "still here"
        with pytest.raises(LocalProtocolError, match="async with"):
            await world.participant(MemoryRoom().join("carol")).drain()

    in_a_room(world, scene)


# the totals


def ended(totals: Any) -> dict[str, int]:
    assert tuple(totals) == OUTCOMES
    return {outcome: count for outcome, count in totals.items() if count}


@each_world
def test_calls_and_invocations_are_counted_by_their_outcomes(world: World) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        @bob.register_rpc_method("greet")
        async def greet(data: RpcInvocationData) -> str:
            if data.payload.isdigit():
                raise RpcError(int(data.payload))
            if data.payload == "bug":
                raise ValueError
            if data.payload == "sleep":
                await anyio.sleep_forever()
            return "Hello"

        assert await call(alice) == "Hello"
        for payload, code in {
            "2001": 2001,
            "1404": 1404,
            "bug": 1500,
            "4294967295": 2**32 - 1,
        }.items():
            assert await code_of(call(alice, payload=payload)) == code
        assert await code_of(call(alice, method="none")) == 1400
        assert await code_of(call(alice, to="nobody")) == 1401
        with pytest.raises(LocalProtocolError):
            await call(alice, method="")
        with anyio.move_on_after(1.0):
            await call(alice, payload="sleep")
        async with anyio.create_task_group() as group:
            group.start_soon(code_of, call(alice, payload="sleep"))
            await anyio.sleep(1.0)
            now = alice.statistics()
            assert (now.calls_begun, sum(now.calls_ended.values())) == (9, 8)
            now = bob.statistics()
            assert (now.invocations_begun, sum(now.invocations_ended.values())) == (7, 5)
        await anyio.sleep(20.0)
        assert ended(alice.statistics().calls_ended) == {
            "success": 1, "1400": 1, "1401": 1, "1404": 1, "1500": 1, "1502": 1, "other": 3
        }  # fmt: skip
        assert alice.statistics().calls_begun == 9
        assert ended(bob.statistics().invocations_ended) == {
            "success": 1, "1404": 1, "1500": 1, "1502": 2, "other": 2
        }  # fmt: skip
        assert bob.statistics().invocations_begun == 7

    in_a_room(world, scene)


@each_world
def test_refused_and_abandoned_invocations_are_counted(world: World) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        @bob.register_rpc_method("greet")
        async def sleep(data: RpcInvocationData) -> str:
            await anyio.sleep_forever()
            return ""

        async with anyio.create_task_group() as group:
            group.start_soon(code_of, call(alice))
            await anyio.sleep(1.0)
            await bob.drain(timeout=0)
            assert await code_of(call(alice)) == 1400
            await alice.aclose()
        await anyio.sleep(1.0)
        assert ended(bob.statistics().invocations_ended) == {"1400": 1, "1503": 1}
        assert bob.statistics().invocations_begun == 2
        assert ended(alice.statistics().calls_ended) == {"1400": 1, "1503": 1}

    in_a_room(world, scene)


@each_world
def test_calls_that_never_reach_the_engine_are_counted(world: World) -> None:
    async def main() -> None:
        room = MemoryRoom()
        async with world.participant(room.join("alice")) as alice:
            async with anyio.create_task_group() as group:
                group.start_soon(code_of, call(alice))
                group.start_soon(code_of, call(alice))
            room.cut("alice")
            await anyio.sleep(1.0)
            assert await code_of(call(alice)) == 1503
            assert ended(alice.statistics().calls_ended) == {"1401": 2, "1503": 1}
            assert alice.statistics().calls_begun == 3

    world.run(main)


@each_world
def test_too_many_requests_are_counted_as_1500(world: World) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        """A handler whose invocation is over still counts (R22), but not for the engine."""

        @bob.register_rpc_method("greet")
        async def slow(data: RpcInvocationData) -> str:
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(5.0)
            return ""

        assert await code_of(call(alice)) == 1502
        await anyio.sleep(5.0)
        assert await code_of(call(alice)) == 1500
        assert ended(bob.statistics().invocations_ended) == {"1500": 1, "1502": 1}

    in_a_room(world, scene, config=RpcConfig(max_invocations_per_caller=1))


@each_world
def test_calls_that_waited_for_the_connection_in_vain_are_counted(world: World) -> None:
    async def main() -> None:
        transport = MemoryRoom().join("alice")
        transport.__class__ = LateTransport
        config = RpcConfig(max_pending_calls=1, departure_grace=1.0)
        ends: list[str] = []

        async def call_nobody() -> None:
            try:
                await call(alice)
            except (RpcError, LocalProtocolError) as error:
                ends.append(type(error).__name__)

        async with world.participant(transport, config=config) as alice:
            with anyio.move_on_after(0.5):
                await call(alice)
            alice.engine.call("bob", "greet", "", now=anyio.current_time())
            async with anyio.create_task_group() as group:
                group.start_soon(call_nobody)
                group.start_soon(call_nobody)
            assert ends == ["LocalProtocolError"] * 2
            assert ended(alice.statistics().calls_ended) == {"other": 3}

    world.run(main)


class ByHand(ParticipantBase[None]):
    """A host whose handlers run when a test says so."""

    def __init__(self, identity: str) -> None:
        super().__init__(identity, None)
        self.started: list[InvocationReceived] = []
        self.runs_at_once = False
        self.ran: list[object] = []

    def wake_writer(self) -> None:
        pass

    def set_timer(self, at: float) -> None:
        pass

    def start_handler(self, invocation: InvocationReceived) -> Callable[[], object]:
        self.started.append(invocation)
        if self.runs_at_once:
            self.ran.append(self.run_handler(invocation))
        return lambda: None


def asked(bob: ByHand) -> None:
    """Alice, an engine, asks bob."""
    alice = RpcEngine("alice", new_id=counting_ids("a"))
    alice.call("bob", "greet", "Hi", now=0.0)
    packet = alice.next_packet()
    assert packet is not None
    bob.open_engine(lambda: 0.0)
    bob.register_rpc_method("greet", lambda data: data.payload)
    bob.receive_events([ParticipantJoined("alice"), Connected(), PacketReceived(packet.data)])


def test_an_invocation_whose_task_ended_without_an_answer_is_counted_when_it_is_over() -> None:
    bob = ByHand("bob")
    asked(bob)
    [invocation] = bob.started
    bob.handler_ended(invocation)
    assert bob.statistics().invocations_begun == 1
    assert ended(bob.statistics().invocations_ended) == {}
    bob.close_engine()
    assert ended(bob.statistics().invocations_ended) == {"1503": 1}


def test_a_handler_may_run_before_its_task_is_known() -> None:
    """As a thread may that is faster than the one that has started it."""
    bob = ByHand("bob")
    bob.runs_at_once = True
    asked(bob)
    assert bob.ran == ["Hi"]


def test_a_call_that_is_cancelled_while_its_end_is_on_the_way_ends_once() -> None:
    alice = ByHand("alice")
    alice.open_engine(lambda: 0.0)
    alice.receive_events([ParticipantJoined("bob"), Connected()])
    outcomes: list[object] = []
    cancels: list[Callable[[], None]] = []

    def first_ends(outcome: object) -> None:
        outcomes.append(outcome)
        cancels[1]()

    arguments = CallArguments("bob", "greet", "", None, None)
    cancels.append(alice.begin_call(arguments, first_ends))
    cancels.append(alice.begin_call(arguments, outcomes.append))
    alice.connection_ended()
    assert len(outcomes) == 1
    assert ended(alice.statistics().calls_ended) == {"1503": 1, "other": 1}


@each_world
def test_each_call_is_one_line_at_debug_on_either_side_and_shows_no_payload(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        @bob.register_rpc_method("greet")
        async def greet(data: RpcInvocationData) -> str:
            await anyio.sleep(0.25)
            return "secret answer"

        caplog.set_level(logging.DEBUG, "rpcproto")
        await call(alice, payload="secret question")
        await code_of(call(alice, to="nobody"))

    in_a_room(world, scene)
    lines = [record.getMessage() for record in caplog.records if record.name == "rpcproto"]
    assert len(lines) == 3
    invoked, called, failed = lines
    assert invoked.startswith("bob: invocation ")
    assert invoked.endswith(" of 'greet' by 'alice' ended: success")
    assert called.startswith("alice: call ")
    assert called.endswith(" of 'greet' at 'bob' ended after 0.250 s: success")
    assert invoked.split()[2] == called.split()[2]
    assert failed.endswith(" of 'greet' at 'nobody' ended after 0.000 s: 1401")
    assert "secret" not in caplog.text
