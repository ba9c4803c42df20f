"""The asyncio host: every promise of `RpcParticipant`, on virtual time."""

import asyncio
import contextvars
import gc
import random
import sys
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any

import pytest
from fake_transports import ScriptedTransport

from rpcproto import (
    CallSucceeded,
    Event,
    InvocationReceived,
    LocalProtocolError,
    OutgoingPacket,
    PacketKind,
    RpcConfig,
    RpcEngine,
    RpcError,
)
from rpcproto.asyncio import RpcParticipant
from rpcproto.participant import CallArguments, Outcome, ParticipantBase, RpcInvocationData, Waiter
from rpcproto.testing import counting_ids, virtual_time_run
from rpcproto.transports import (
    Connected,
    Disconnected,
    PacketReceived,
    PacketsNotSent,
    ParticipantJoined,
    ParticipantLeft,
    TransportEvent,
)
from rpcproto.transports.links import Link
from rpcproto.transports.memory import MemoryRoom


class FakeTransport(ScriptedTransport):
    """A transport that does what a test tells it to."""

    def __init__(self, identity: str = "alice", *, connected: bool = True) -> None:
        super().__init__(identity)
        self.queue: asyncio.Queue[TransportEvent | Exception | None] = asyncio.Queue()
        if connected:
            self.queue.put_nowait(Connected())
        self.sent: list[OutgoingPacket] = []
        self.closed_at: float | None = None
        self.on_send: Callable[[OutgoingPacket], Awaitable[None]] | None = None
        self.on_close: Callable[[], Awaitable[None]] | None = None

    async def send_packet(self, packet: OutgoingPacket) -> None:
        if self.on_send is not None:
            await self.on_send(packet)
        self.sent.append(packet)

    async def events(self) -> AsyncIterator[TransportEvent]:
        while (event := await self.queue.get()) is not None:
            if isinstance(event, Exception):
                raise event
            yield event

    async def aclose(self) -> None:
        self.closed_at = now()
        if self.on_close is not None:
            await self.on_close()


def now() -> float:
    return asyncio.get_running_loop().time()


async def for_ever(*_: object) -> None:
    await asyncio.get_running_loop().create_future()


async def sleep_for_ever(data: RpcInvocationData) -> str:
    await for_ever()
    return "never"


async def failure(call: Awaitable[str | None]) -> RpcError:
    with pytest.raises(RpcError) as caught:
        await call
    return caught.value


def call_bob(
    alice: RpcParticipant, method: str = "greet", **options: Any
) -> Coroutine[Any, Any, str]:
    return alice.perform_rpc(destination_identity="bob", method=method, payload="Hi", **options)


def in_a_room(
    scene: Callable[[RpcParticipant, RpcParticipant], Coroutine[Any, Any, None]],
    *,
    latency: float = 0.0,
) -> None:
    """Play a scene with alice and bob; afterwards no task must be left."""

    async def main() -> None:
        room = MemoryRoom(link=Link(latency=latency))
        transport = room.join("bob")
        async with (
            RpcParticipant(room.join("alice"), new_id=counting_ids("a")) as alice,
            RpcParticipant(transport, new_id=counting_ids("b")) as bob,
        ):
            await scene(alice, bob)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    virtual_time_run(main())


# calls and handlers


def test_a_greeting_comes_back() -> None:
    async def main() -> None:
        room = MemoryRoom()
        async with RpcParticipant(room.join("alice")) as alice:

            @alice.register_rpc_method("greet")
            async def greet(data: RpcInvocationData) -> str:
                return f"Hello, {data.caller_identity}!"

            async with RpcParticipant(room.join("bob")) as bob:
                reply = await bob.perform_rpc(
                    destination_identity="alice", method="greet", payload="Hi", response_timeout=5.0
                )
        assert reply == "Hello, bob!"

    virtual_time_run(main())


def test_a_handler_gets_all_there_is_to_know() -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        received: list[RpcInvocationData] = []

        def handler(data: RpcInvocationData) -> str:
            received.append(data)
            return ""

        bob.register_rpc_method("greet", handler)
        await call_bob(alice, response_timeout=12.5)
        assert received == [
            RpcInvocationData("a0000000-0000-4000-8000-000000000001", "alice", "Hi", 10.5, "greet")
        ]

    in_a_room(scene)


def test_handlers_may_be_sync_async_or_anything_that_gives_an_awaitable() -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        def sync(data: RpcInvocationData) -> str:
            return "sync"

        def gives_a_future(data: RpcInvocationData) -> Awaitable[str]:
            future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(1.0, future.set_result, "future")
            return future

        class Handler:
            async def __call__(self, data: RpcInvocationData) -> str:
                return "object"

            async def method(self, data: RpcInvocationData) -> str:
                return "method"

        for handler in (sync, gives_a_future, Handler(), Handler().method):
            bob.register_rpc_method("greet", handler)
            assert await call_bob(alice) in ("sync", "future", "object", "method")
            bob.unregister_rpc_method("greet")

    in_a_room(scene)


def test_a_handler_runs_in_a_copy_of_the_context_of_entering() -> None:
    variable = contextvars.ContextVar("variable", default="nobody's")

    async def main() -> None:
        room = MemoryRoom()
        variable.set("the owner's")
        async with (
            RpcParticipant(room.join("bob")) as bob,
            RpcParticipant(room.join("alice")) as alice,
        ):
            variable.set("the body's")

            @bob.register_rpc_method("greet")
            async def greet(data: RpcInvocationData) -> str:
                seen = variable.get()
                variable.set("a handler's")
                return seen

            assert [await call_bob(alice) for _ in range(2)] == ["the owner's"] * 2

    virtual_time_run(main())


def test_what_a_transport_does_to_its_context_is_not_seen_by_handlers() -> None:
    variable = contextvars.ContextVar("variable", default="nobody's")

    class Transport(FakeTransport):
        async def receive(self) -> Sequence[TransportEvent]:
            variable.set("the transport's")
            return await super().receive()

    async def main() -> None:
        transport = Transport("bob")
        async with RpcParticipant(transport) as bob:
            bob.register_rpc_method("greet", lambda data: variable.get())
            alice = RpcEngine("alice", new_id=counting_ids("a"))
            alice.call("bob", "greet", "", now=0.0)
            request = alice.next_packet()
            assert request is not None
            transport.queue.put_nowait(PacketReceived(request.data))
            await asyncio.sleep(1.0)
            for packet in transport.sent:
                alice.receive_packet(packet.data, now=1.0)
            assert alice.take_events()[-1] == CallSucceeded(request.request_id, "nobody's")

    virtual_time_run(main())


def test_methods_may_be_registered_before_entering() -> None:
    async def main() -> None:
        room = MemoryRoom()
        bob = RpcParticipant(room.join("bob"))
        bob.register_rpc_method("greet", lambda data: "Hello")
        with pytest.raises(LocalProtocolError, match="registered already"):
            bob.register_rpc_method("greet", lambda data: "Hello again")
        with pytest.raises(LocalProtocolError, match="64"):
            bob.register_rpc_method("m" * 65, lambda data: "")
        bob.register_rpc_method("dropped", lambda data: "")
        bob.unregister_rpc_method("dropped")
        async with bob, RpcParticipant(room.join("alice")) as alice:
            assert await call_bob(alice) == "Hello"
            assert (await failure(call_bob(alice, "dropped"))).code == 1400

    virtual_time_run(main())


def test_a_request_that_waits_already_finds_a_method_registered_in_the_body() -> None:
    async def main() -> None:
        room = MemoryRoom()
        transport = room.join("bob")
        async with RpcParticipant(room.join("alice")) as alice:
            call = asyncio.create_task(call_bob(alice))
            await asyncio.sleep(1.0)
            async with RpcParticipant(transport) as bob:
                bob.register_rpc_method("greet", lambda data: "in time")
                assert await call == "in time"

    virtual_time_run(main())


def test_registering_a_method_twice_raises_and_keeps_the_first() -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        bob.register_rpc_method("greet", lambda data: "first")
        with pytest.raises(LocalProtocolError, match="registered already"):
            bob.register_rpc_method("greet", lambda data: "second")
        with pytest.raises(LocalProtocolError, match="64"):
            bob.register_rpc_method("m" * 65, lambda data: "")
        with pytest.raises(LocalProtocolError, match="callable"):
            bob.register_rpc_method("other", "a text")  # type: ignore[call-overload]
        assert await call_bob(alice) == "first"

    in_a_room(scene)


def test_an_unregistered_method_answers_1400() -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        bob.register_rpc_method("greet", lambda data: "Hello")
        bob.unregister_rpc_method("greet")
        bob.unregister_rpc_method("greet")
        error = await failure(call_bob(alice))
        assert (error.code, error.message) == (1400, "Method not supported at destination")

    in_a_room(scene)


def test_a_method_unregistered_between_request_and_handler_answers_1400() -> None:
    async def main() -> None:
        class Engine(RpcEngine):
            def take_events(self) -> tuple[Event, ...]:
                events = super().take_events()
                if any(isinstance(event, InvocationReceived) for event in events):
                    bob.unregister_rpc_method("greet")
                return events

        room = MemoryRoom()
        bob = RpcParticipant(room.join("bob"), engine_factory=Engine)
        bob.register_rpc_method("greet", lambda data: "Hello")
        async with bob, RpcParticipant(room.join("alice")) as alice:
            assert (await failure(call_bob(alice))).code == 1400

    virtual_time_run(main())


# what handlers raise


def test_an_rpc_error_of_a_handler_reaches_the_caller_as_it_is() -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        raised = RpcError(2001, "Out of tea", '{"left": 0}')

        @bob.register_rpc_method("greet")
        async def greet(data: RpcInvocationData) -> str:
            raise raised

        errors = [await failure(call_bob(alice)) for _ in range(2)]
        for error in errors:
            assert (error.code, error.message, error.data) == (2001, "Out of tea", '{"left": 0}')
        assert len({id(error) for error in (raised, *errors)}) == 3

    in_a_room(scene)


@pytest.mark.parametrize("result", [False, 7, b"bytes", "\ud800"])
def test_a_result_that_is_no_text_becomes_1500(
    result: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        bob.register_rpc_method("greet", lambda data: result)
        assert (await failure(call_bob(alice))).code == 1500

    in_a_room(scene)
    expected = LocalProtocolError if isinstance(result, str) else TypeError
    assert [record.exc_info and record.exc_info[0] for record in caplog.records] == [expected]


@pytest.mark.parametrize(
    ("code", "message", "data"),
    [
        (-1, "below", None),
        (2**32, "above", None),
        ("2001", "a text", None),
        (2001, "\ud800", None),
        (2001, "fine", "\udfff"),
        (2001, "fine", {"a": 1}),
    ],
)
def test_an_rpc_error_that_cannot_be_sent_becomes_1500(
    code: Any, message: Any, data: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        @bob.register_rpc_method("greet")
        async def greet(_: RpcInvocationData) -> str:
            raise RpcError(code, message, data)

        assert (await failure(call_bob(alice))).code == 1500

    in_a_room(scene)
    assert len(caplog.records) == 1


def test_a_handler_that_is_cancelled_from_within_answers_1500(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        @bob.register_rpc_method("greet")
        async def greet(data: RpcInvocationData) -> str:
            task = asyncio.create_task(for_ever())
            task.cancel()
            await task
            return "never"

        assert (await failure(call_bob(alice))).code == 1500

    in_a_room(scene)
    assert "CancelledError" in caplog.text


def test_nothing_of_a_handler_is_left_when_it_has_answered() -> None:
    tasks: list[weakref.ref[Any]] = []

    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        @bob.register_rpc_method("greet")
        async def greet(data: RpcInvocationData) -> str:
            tasks.append(weakref.ref(asyncio.current_task()))
            return "Hello"

        await call_bob(alice)
        await asyncio.sleep(1.0)
        assert [task() for task in tasks] == [None]

    in_a_room(scene)


# calls that end early


def test_cancelling_a_call_ends_it_in_the_same_turn_and_a_late_answer_does_no_harm() -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        answered = asyncio.Event()

        @bob.register_rpc_method("greet")
        async def greet(data: RpcInvocationData) -> str:
            await asyncio.sleep(2.0)
            answered.set()
            return "late"

        call = asyncio.create_task(call_bob(alice))
        await asyncio.sleep(1.0)
        assert alice.statistics().pending_calls == 1
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert alice.statistics().pending_calls == 0
        await answered.wait()
        assert await call_bob(alice) == "late"

    in_a_room(scene)


def test_cancelling_in_the_turn_in_which_the_answer_came_is_safe() -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        bob.register_rpc_method("greet", lambda data: "Hello")
        for turns in range(20):
            call = asyncio.create_task(call_bob(alice))
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            [outcome] = await asyncio.gather(call, return_exceptions=True)
            assert outcome == "Hello" or isinstance(outcome, asyncio.CancelledError)
            assert alice.statistics().pending_calls == 0

    in_a_room(scene)


def test_a_timeout_around_a_call_works_as_anywhere() -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        bob.register_rpc_method("greet", sleep_for_ever)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await call_bob(alice)
        assert alice.statistics().pending_calls == 0

    in_a_room(scene)


def test_timeouts_fire_at_their_time_in_whatever_order_they_were_set() -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        bob.register_rpc_method("greet", sleep_for_ever)

        async def timed(timeout: float) -> tuple[int, float]:
            error = await failure(call_bob(alice, response_timeout=timeout))
            return error.code, now()

        ended = await asyncio.gather(*(timed(timeout) for timeout in (20.0, 3.0, 100.0, 7.5)))
        assert ended == [(1502, 20.0), (1502, 3.0), (1502, 100.0), (1502, 7.5)]

    in_a_room(scene)


def test_the_timer_fires_when_something_is_due_and_never_after_leaving() -> None:
    fired: list[float] = []

    class Engine(RpcEngine):
        def handle_deadline(self, *, now: float) -> None:
            fired.append(now)
            super().handle_deadline(now=now)

    async def main() -> None:
        room = MemoryRoom()
        async with RpcParticipant(room.join("bob")) as bob:
            bob.register_rpc_method("greet", sleep_for_ever)
            transport = room.join("alice")
            async with RpcParticipant(transport, engine_factory=Engine) as alice:
                calls = [
                    asyncio.create_task(failure(call_bob(alice, response_timeout=timeout)))
                    for timeout in (20.0, 3.0, 100.0)
                ]
                await asyncio.sleep(50.0)
            assert [(await call).code for call in calls] == [1502, 1502, 1503]
        await asyncio.sleep(1000.0)
        assert fired == [3.0, 20.0]

    virtual_time_run(main())


def test_a_recipient_that_gives_no_sign_of_life_ends_a_call_with_1501() -> None:
    async def main() -> None:
        room = MemoryRoom()
        room.join("bob")
        async with RpcParticipant(room.join("alice")) as alice:
            assert (await failure(call_bob(alice))).code == 1501
            assert now() == 7.0
            assert (await failure(call_bob(alice, max_round_trip_latency=2.0))).code == 1501
            assert now() == 9.0

    virtual_time_run(main())


def test_a_recipient_that_leaves_ends_its_calls_with_1503() -> None:
    async def main() -> None:
        room = MemoryRoom()
        transport = room.join("bob")
        async with RpcParticipant(room.join("alice")) as alice:
            call = asyncio.create_task(failure(call_bob(alice)))
            await asyncio.sleep(1.0)
            await transport.aclose()
            error = await call
            assert (error.code, error.__cause__, now()) == (1503, None, 1.0)

    virtual_time_run(main())


def test_the_first_call_knows_already_who_is_in_the_room() -> None:
    async def main() -> None:
        async with RpcParticipant(MemoryRoom().join("alice")) as alice:
            assert (await failure(call_bob(alice))).code == 1401
            assert now() == 0.0

    virtual_time_run(main())


def test_an_error_is_freed_without_the_garbage_collector() -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        try:
            await call_bob(alice)
        except RpcError as error:
            reference = weakref.ref(error)
        await asyncio.sleep(0)  # the loop lets go of what woke the task
        assert reference() is None

    gc.disable()
    try:
        in_a_room(scene)
    finally:
        gc.enable()


# invocations that end early


def test_a_handler_is_cancelled_when_its_caller_leaves(caplog: pytest.LogCaptureFixture) -> None:
    cancelled_at: list[float] = []

    async def main() -> None:
        room = MemoryRoom()
        async with RpcParticipant(room.join("bob")) as bob:

            @bob.register_rpc_method("greet")
            async def greet(data: RpcInvocationData) -> str:
                try:
                    await for_ever()
                finally:
                    cancelled_at.append(now())
                return "never"

            async with RpcParticipant(room.join("alice")) as alice:
                call = asyncio.create_task(failure(call_bob(alice)))
                await asyncio.sleep(1.0)
            assert (await call).code == 1503
            await asyncio.sleep(1.0)
            assert cancelled_at == [1.0]
            assert bob.statistics().running_invocations == 0

    virtual_time_run(main())
    assert not caplog.records


def test_a_handler_is_cancelled_when_nobody_can_wait_for_it_any_more() -> None:
    cancelled_at: list[float] = []

    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        @bob.register_rpc_method("greet")
        async def greet(data: RpcInvocationData) -> str:
            try:
                await for_ever()
            finally:
                cancelled_at.append(now())
            return "never"

        assert (await failure(call_bob(alice, response_timeout=5.0))).code == 1502
        await asyncio.sleep(100.0)
        assert cancelled_at == [3.0 + 7.0]

    in_a_room(scene)


# the transport


def test_a_packet_that_was_not_sent_fails_its_call_alone() -> None:
    async def main() -> None:
        transport = FakeTransport()

        async def on_send(packet: OutgoingPacket) -> None:
            if packet.destination_identity == "far":
                raise PacketsNotSent([packet])

        transport.on_send = on_send
        async with RpcParticipant(transport) as alice:
            near = asyncio.create_task(failure(call_bob(alice)))
            far = alice.perform_rpc(destination_identity="far", method="greet", payload="")
            assert (await failure(far)).code == 1505
            assert now() == 0.0
            assert (await near).code == 1501

    virtual_time_run(main())


def test_a_transport_that_breaks_while_sending_ends_all_calls_with_its_cause() -> None:
    async def main() -> None:
        transport = FakeTransport()
        broken = OSError("cable cut")
        async with RpcParticipant(transport) as alice:
            first = asyncio.create_task(failure(call_bob(alice)))
            await asyncio.sleep(1.0)

            async def on_send(packet: OutgoingPacket) -> None:
                raise broken

            transport.on_send = on_send
            second = asyncio.create_task(failure(call_bob(alice)))
            for error in (await first, await second, await failure(call_bob(alice))):
                assert (error.code, error.__cause__, now()) == (1503, broken, 1.0)

    virtual_time_run(main())


def test_a_transport_that_breaks_while_reading_ends_calls_and_handlers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        transport = FakeTransport()
        broken = OSError("cable cut")
        async with RpcParticipant(transport) as alice:
            call = asyncio.create_task(failure(call_bob(alice)))
            await asyncio.sleep(1.0)
            transport.queue.put_nowait(broken)
            error = await call
            assert (error.code, error.__cause__, now()) == (1503, broken, 1.0)
            again = await failure(call_bob(alice))
            assert (again.code, again.__cause__) == (1503, broken)

    virtual_time_run(main())
    assert "OSError: cable cut" in caplog.text


def test_a_transport_at_its_end_is_a_lost_connection() -> None:
    async def main() -> None:
        transport = FakeTransport()
        async with RpcParticipant(transport) as alice:
            call = asyncio.create_task(failure(call_bob(alice)))
            await asyncio.sleep(1.0)
            transport.queue.put_nowait(None)
            error = await call
            assert (error.code, error.__cause__, now()) == (1503, None, 1.0)

    virtual_time_run(main())


@pytest.mark.parametrize("where", ["send", "iteration"])
def test_a_cancelling_that_comes_out_of_a_transport_is_a_lost_connection(where: str) -> None:
    async def cancelled(*_: object) -> None:
        task = asyncio.create_task(for_ever())
        await asyncio.sleep(0)
        task.cancel()
        await task

    class Transport(FakeTransport):
        async def events(self) -> AsyncIterator[TransportEvent]:
            yield Connected()
            if where == "iteration":
                await cancelled()
            await for_ever()

    async def main() -> None:
        transport = Transport()
        transport.on_send = cancelled
        async with RpcParticipant(transport) as alice:
            for lost in (call_bob(alice), alice.wait_for_participant("bob")):
                assert (await failure(lost)).code == 1503
            assert now() == 0.0

    virtual_time_run(main())


def test_a_connection_that_comes_back_carries_calls_again() -> None:
    async def main() -> None:
        transport = FakeTransport()
        cause = OSError("no signal")
        async with RpcParticipant(transport) as alice:
            transport.queue.put_nowait(Disconnected(cause))
            assert (await failure(call_bob(alice))).__cause__ is cause
            transport.queue.put_nowait(Connected(server_version="1.7.9"))
            await asyncio.sleep(1.0)
            assert (await failure(call_bob(alice))).code == 1403
            transport.queue.put_nowait(Connected(server_version="1.8.0"))
            await asyncio.sleep(1.0)
            error = await failure(call_bob(alice))
            assert (error.code, error.__cause__) == (1501, None)
            transport.queue.put_nowait(ParticipantLeft("bob"))
            error = await failure(call_bob(alice))
            assert (error.code, error.__cause__) == (1503, None)

    virtual_time_run(main())


def test_an_impossible_participant_is_logged_and_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        transport = FakeTransport()
        async with RpcParticipant(transport) as alice:
            transport.queue.put_nowait(ParticipantJoined("x" * 257))
            await asyncio.sleep(1.0)
            assert (await failure(call_bob(alice))).code == 1501

    virtual_time_run(main())
    assert "257 bytes" in caplog.text


# entering and leaving


def test_what_the_body_raises_comes_out_as_itself() -> None:
    async def main() -> None:
        room = MemoryRoom()
        raised = ValueError("mine")
        with pytest.raises(ValueError, match="mine") as caught:
            async with RpcParticipant(room.join("alice")):
                raise raised
        assert caught.value is raised
        assert asyncio.all_tasks() == {asyncio.current_task()}

    virtual_time_run(main())


def test_cancelling_the_body_leaves_no_task_and_closes_the_transport() -> None:
    async def main() -> None:
        transport = FakeTransport()

        async def body() -> None:
            async with RpcParticipant(transport):
                await for_ever()

        task = asyncio.create_task(body())
        await asyncio.sleep(1.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert transport.closed_at == 1.0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    virtual_time_run(main())


def test_leaving_ends_the_calls_of_others_and_cancels_handlers() -> None:
    ended: list[str] = []

    async def main() -> None:
        room = MemoryRoom()
        bob_transport = room.join("bob")
        async with RpcParticipant(room.join("alice")) as alice:
            async with RpcParticipant(bob_transport) as bob:

                @bob.register_rpc_method("greet")
                async def greet(data: RpcInvocationData) -> str:
                    try:
                        await for_ever()
                    finally:
                        ended.append("handler")
                    return "never"

                calls = [
                    asyncio.create_task(failure(call_bob(alice))),
                    asyncio.create_task(
                        failure(
                            bob.perform_rpc(destination_identity="alice", method="wait", payload="")
                        )
                    ),
                ]
                alice.register_rpc_method("wait", sleep_for_ever)
                await asyncio.sleep(1.0)
            assert ended == ["handler"]
            assert [(await call).code for call in calls] == [1503, 1503]
            assert now() == 1.0

    virtual_time_run(main())


def test_leaving_hands_out_what_still_waits_and_then_closes() -> None:
    async def main() -> None:
        transport = FakeTransport()

        async def on_send(packet: OutgoingPacket) -> None:
            await asyncio.sleep(0.125)

        transport.on_send = on_send
        async with RpcParticipant(transport) as alice:
            calls = [asyncio.create_task(failure(call_bob(alice))) for _ in range(3)]
            await asyncio.sleep(0.0625)
        assert len(transport.sent) == 3
        assert transport.closed_at == now() == 3 * 0.125
        assert {(await call).code for call in calls} == {1503}

    virtual_time_run(main())


@pytest.mark.parametrize("hanging", ["on_send", "on_close"])
def test_leaving_a_transport_that_hangs_takes_at_most_a_second(hanging: str) -> None:
    async def main() -> None:
        transport = FakeTransport()
        setattr(transport, hanging, for_ever)
        async with RpcParticipant(transport) as alice:
            call = asyncio.create_task(failure(call_bob(alice)))
            await asyncio.sleep(1.0)
        assert 1.0 < now() <= 2.0
        assert transport.closed_at is not None
        assert (await call).code == 1503
        assert asyncio.all_tasks() == {asyncio.current_task()}

    virtual_time_run(main())


def test_leaving_may_be_cancelled_and_still_leaves_nothing_behind() -> None:
    async def main() -> None:
        transport = FakeTransport()
        transport.on_send = transport.on_close = for_ever

        async def body() -> None:
            async with RpcParticipant(transport) as alice:
                async with asyncio.timeout(1.0):
                    await call_bob(alice)

        task = asyncio.create_task(body())
        await asyncio.sleep(1.25)
        task.cancel()  # interrupts the wait for the packets
        await asyncio.sleep(0.25)
        assert transport.closed_at == 1.25
        task.cancel()  # interrupts the closing
        with pytest.raises(asyncio.CancelledError):
            await task
        assert now() == 1.5
        assert asyncio.all_tasks() == {asyncio.current_task()}

    virtual_time_run(main())


def test_a_transport_that_cannot_be_closed_is_logged_only(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        transport = FakeTransport()

        async def on_close() -> None:
            raise OSError("stuck")

        transport.on_close = on_close
        async with RpcParticipant(transport):
            pass

    virtual_time_run(main())
    assert "OSError: stuck" in caplog.text


def test_a_participant_is_of_use_only_inside_its_context() -> None:
    async def main() -> None:
        alice = RpcParticipant(MemoryRoom().join("alice"))
        with pytest.raises(LocalProtocolError, match="async with"):
            await call_bob(alice)
        async with alice:
            with pytest.raises(LocalProtocolError, match="once"):
                await alice.__aenter__()
        with pytest.raises(LocalProtocolError, match="closed"):
            await call_bob(alice)
        with pytest.raises(LocalProtocolError, match="once"):
            async with alice:
                pass

    virtual_time_run(main())


def test_misuse_raises_at_once_and_harms_nothing() -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        bob.register_rpc_method("greet", lambda data: "Hello")
        with pytest.raises(LocalProtocolError, match="method"):
            await call_bob(alice, "")
        with pytest.raises(LocalProtocolError, match="response_timeout"):
            await call_bob(alice, response_timeout=0.0)
        assert await call_bob(alice) == "Hello"
        assert alice.statistics().pending_calls == 0

    in_a_room(scene)


def test_the_config_and_the_ids_are_the_ones_that_were_given() -> None:
    async def main() -> None:
        transport = FakeTransport()
        config = RpcConfig(response_timeout=3.0, ack_timeout=1.0)
        alice = RpcParticipant(transport, config=config, new_id=counting_ids("abc"))
        assert alice.identity == "alice"
        async with alice:
            assert (await failure(call_bob(alice))).code == 1501
            assert now() == 1.0
            assert transport.sent[0].request_id == "abc00000-0000-4000-8000-000000000001"

    virtual_time_run(main())


def test_the_engine_learns_what_its_clock_lacks_to_unix_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offsets: list[float] = []

    def engine_factory(identity: str, **options: Any) -> RpcEngine:
        offsets.append(options["unix_time_offset"])
        return RpcEngine(identity, **options)

    async def main() -> None:
        alice = RpcParticipant(FakeTransport(), engine_factory=engine_factory)
        await asyncio.sleep(1.0)
        async with alice:
            pass

    monkeypatch.setattr("time.time", lambda: 1_700_000_001.0)
    virtual_time_run(main())
    assert offsets == [1_700_000_000.0]


def test_long_payloads_travel_between_hosts() -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        bob.register_rpc_method("shout", lambda data: data.payload.upper())
        payload = "a long text " * 100_000
        reply = await alice.perform_rpc(destination_identity="bob", method="shout", payload=payload)
        assert reply == payload.upper()

    in_a_room(scene, latency=0.0625)


def test_a_short_call_overtakes_a_long_payload_that_is_leaving() -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        ended: list[str] = []
        bob.register_rpc_method("length", lambda data: str(len(data.payload)))

        async def call(payload: str) -> None:
            ended.append(
                await alice.perform_rpc(
                    destination_identity="bob", method="length", payload=payload
                )
            )

        # Random, or it would shrink to one packet.
        long_payload = "".join(random.Random(1).choices("0123456789abcdef", k=1_000_000))
        long_call = asyncio.create_task(call(long_payload))
        while alice.statistics().packets_out < 10:
            await asyncio.sleep(0)
        await call("short")
        await long_call
        assert ended == ["5", str(len(long_payload))]

    in_a_room(scene)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks start eagerly from Python 3.12 on")
def test_tasks_that_start_eagerly_change_nothing() -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(
            asyncio.eager_task_factory  # type: ignore[attr-defined,unused-ignore]
        )
        room = MemoryRoom()
        transport = room.join("bob")
        async with RpcParticipant(room.join("alice")) as alice:
            call = asyncio.create_task(call_bob(alice))
            await asyncio.sleep(1.0)
            async with RpcParticipant(transport) as bob:
                bob.register_rpc_method("greet", lambda data: "Hello")
                assert await call == "Hello"
                assert await call_bob(alice) == "Hello"

    virtual_time_run(main())


def test_calls_and_handlers_work_on_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        room = MemoryRoom()
        async with (
            RpcParticipant(room.join("alice")) as alice,
            RpcParticipant(room.join("bob")) as bob,
        ):
            bob.register_rpc_method("greet", lambda data: "Hello")
            assert await asyncio.gather(*(call_bob(alice) for _ in range(100))) == ["Hello"] * 100
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


# who is here, and since when


def test_a_call_waits_for_the_connection() -> None:
    async def main() -> None:
        transport = FakeTransport(connected=False)
        async with RpcParticipant(transport) as alice:
            call = asyncio.create_task(failure(call_bob(alice, response_timeout=3.0)))
            await asyncio.sleep(100.0)
            assert not transport.sent
            transport.queue.put_nowait(ParticipantJoined("bob", client_protocol=1))
            transport.queue.put_nowait(Connected())
            assert (await call).code == 1502
            assert now() == 103.0
            assert transport.sent[0].kind is PacketKind.STREAM_HEADER  # bob was known in time

    virtual_time_run(main())


def test_a_call_that_waits_for_a_connection_that_never_comes_fails_with_the_cause() -> None:
    async def main() -> None:
        transport = FakeTransport(connected=False)
        refused = ConnectionError("wrong token")
        async with RpcParticipant(transport) as alice:
            call = asyncio.create_task(failure(call_bob(alice)))
            somebody = asyncio.create_task(failure(alice.wait_for_participant("bob")))
            await asyncio.sleep(1.0)
            transport.queue.put_nowait(refused)
            for error in (await call, await somebody, await failure(call_bob(alice))):
                assert (error.code, error.__cause__, now()) == (1503, refused, 1.0)

    virtual_time_run(main())


def test_waiting_for_somebody_ends_when_they_come() -> None:
    async def main() -> None:
        room = MemoryRoom()
        async with RpcParticipant(room.join("alice")) as alice:
            waiting = asyncio.create_task(alice.wait_for_participant("bob"))
            given_up = asyncio.create_task(alice.wait_for_participant("bob"))
            await asyncio.sleep(1.0)
            assert (waiting.done(), alice.participants) == (False, ())
            given_up.cancel()
            bob = room.join("bob")
            room.join("carol")
            await waiting
            await alice.wait_for_participant("carol")
            assert (now(), alice.participants) == (1.0, ("bob", "carol"))
            await bob.aclose()
            await asyncio.sleep(1.0)
            assert alice.participants == ("carol",)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.0):
                    await alice.wait_for_participant("bob")
            for wrong in ("", "x" * 257, 7):
                with pytest.raises(LocalProtocolError, match="identity"):
                    await alice.wait_for_participant(wrong)  # type: ignore[arg-type]

    virtual_time_run(main())


def test_waiting_for_somebody_goes_on_while_the_connection_may_come_back() -> None:
    async def main() -> None:
        transport = FakeTransport()
        async with RpcParticipant(transport) as alice:
            waiting = asyncio.create_task(alice.wait_for_participant("bob"))
            transport.queue.put_nowait(Disconnected())
            await asyncio.sleep(1.0)
            transport.queue.put_nowait(Connected())
            transport.queue.put_nowait(ParticipantJoined("bob"))
            await waiting

    virtual_time_run(main())


def test_leaving_by_hand_is_like_leaving_the_context() -> None:
    async def main() -> None:
        transport = FakeTransport()
        async with RpcParticipant(transport) as alice:
            call = asyncio.create_task(failure(call_bob(alice)))
            waiting = asyncio.create_task(failure(alice.wait_for_participant("bob")))
            await asyncio.sleep(1.0)
            await alice.aclose()
            await alice.aclose()
            assert transport.closed_at == 1.0
            assert [(await ended).code for ended in (call, waiting)] == [1503, 1503]
            for use in (call_bob(alice), alice.wait_for_participant("bob")):
                with pytest.raises(LocalProtocolError, match="closed"):
                    await use

    virtual_time_run(main())


def test_an_identity_that_is_none_is_refused_at_once() -> None:
    for wrong in ("", "x" * 257, 7):
        with pytest.raises(LocalProtocolError, match="identity"):
            RpcParticipant(ScriptedTransport(wrong))  # type: ignore[arg-type]


# what all hosts share


class HostWithoutATask(ParticipantBase[None]):
    """The three hooks, and nothing that waits."""

    def __init__(self) -> None:
        super().__init__("alice", None, new_id=counting_ids("a"))
        self.open_engine(lambda: 0.0)
        self.receive_events([Connected()])

    def call(self, destination: str, waiter: Waiter) -> None:
        self.begin_call(CallArguments(destination, "greet", "", None, None), waiter)

    def wake_writer(self) -> None:
        pass

    def set_timer(self, at: float) -> None:
        pass

    def start_handler(self, invocation: InvocationReceived) -> Callable[[], None]:
        raise AssertionError("nobody calls")


def test_an_outcome_that_cannot_be_told_costs_nobody_else_theirs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    host = HostWithoutATask()
    told: list[Outcome] = []

    def fail(_: Outcome) -> None:
        raise ValueError("mine")

    host.call("bob", fail)
    host.call("bob", told.append)
    host.receive_events([ParticipantLeft("bob")])
    assert len(told) == 1
    assert "ValueError: mine" in caplog.text


def test_outcomes_are_told_in_order_even_if_one_of_them_leads_to_the_next() -> None:
    host = HostWithoutATask()
    told: list[str] = []

    def first(_: Outcome) -> None:
        told.append("first")
        host.call("alice", lambda _: told.append("third"))  # oneself: fails at once

    host.call("bob", first)
    host.call("bob", lambda _: told.append("second"))
    host.receive_events([ParticipantLeft("bob")])
    assert told == ["first", "second", "third"]
