"""Interceptors and `RpcInvocationData`: each sentence of their contract, on asyncio and on trio."""

import contextvars
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio
from worlds import World, each_world

from rpcproto import ErrorCode, LocalProtocolError, RpcConfig, RpcError
from rpcproto.asyncio import (
    IncomingRpcNext,
    OutgoingRpcNext,
    RpcCallInfo,
    RpcInterceptor,
    RpcInvocationData,
    RpcParticipant,
)
from rpcproto.transports.memory import MemoryRoom, MemoryTransport
from rpcproto.trio import RpcParticipant as TrioParticipant

Scene = Callable[[RpcParticipant, RpcParticipant], Coroutine[Any, Any, None]]
LIFETIME = 10.0 - 2.0 + 7.0
"""How long an invocation lives whose caller says nothing: its figure and the grace (R5, R20)."""


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


async def call_bob(
    participant: RpcParticipant, method: str = "greet", payload: str = "Hi", **options: Any
) -> str:
    return await participant.perform_rpc(
        destination_identity="bob", method=method, payload=payload, **options
    )


async def failure(call: Awaitable[str]) -> RpcError:
    with pytest.raises(RpcError) as caught:
        await call
    return caught.value


async def greet(data: RpcInvocationData) -> str:
    return f"Hello, {data.caller_identity}!"


class Named(RpcInterceptor):
    """Writes down what passes it."""

    def __init__(self, name: str, story: list[str]) -> None:
        self.name, self.story = name, story

    async def intercept_outgoing(self, call: RpcCallInfo, next: OutgoingRpcNext) -> str:
        self.story.append(f"{self.name} before the call")
        try:
            return await next(call)
        except RpcError as error:
            self.story.append(f"{self.name} sees {error.code}")
            raise
        finally:
            self.story.append(f"{self.name} after the call")

    async def intercept_incoming(
        self, invocation: RpcInvocationData, next: IncomingRpcNext
    ) -> str | None:
        self.story.append(f"{self.name} before the handler")
        try:
            return await next(invocation)
        except Exception as error:
            self.story.append(f"{self.name} sees {type(error).__name__}")
            raise
        finally:
            self.story.append(f"{self.name} after the handler")


Around = Callable[[RpcCallInfo, OutgoingRpcNext], Awaitable[str]]
Handling = Callable[[RpcInvocationData, IncomingRpcNext], Awaitable[str | None]]


class Outgoing(RpcInterceptor):
    def __init__(self, around: Around) -> None:
        self.around = around

    async def intercept_outgoing(self, call: RpcCallInfo, next: OutgoingRpcNext) -> str:
        return await self.around(call, next)


class Incoming(RpcInterceptor):
    def __init__(self, around: Handling) -> None:
        self.around = around

    async def intercept_incoming(
        self, invocation: RpcInvocationData, next: IncomingRpcNext
    ) -> str | None:
        return await self.around(invocation, next)


# which interceptors there are


@each_world
def test_an_interceptor_that_overrides_nothing_passes_everything_through(world: World) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        alice.add_rpc_interceptor(RpcInterceptor())
        bob.add_rpc_interceptor(RpcInterceptor())
        bob.register_rpc_method("greet", greet)
        assert await call_bob(alice) == "Hello, alice!"
        assert (await failure(call_bob(alice, "none"))).code == 1400

    in_a_room(world, scene)


@each_world
def test_the_first_added_interceptor_is_outermost_both_ways(world: World) -> None:
    story: list[str] = []

    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        bob.register_rpc_method("greet", greet)
        for participant in (alice, bob):
            participant.add_rpc_interceptor(Named("first", story))
            participant.add_rpc_interceptor(Named("second", story))
        await call_bob(alice)

    in_a_room(world, scene)
    assert story == [
        "first before the call",
        "second before the call",
        "first before the handler",
        "second before the handler",
        "second after the handler",
        "first after the handler",
        "second after the call",
        "first after the call",
    ]


class Equal(Named):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


@each_world
def test_interceptors_are_told_apart_by_identity_and_adding_one_twice_does_nothing(
    world: World,
) -> None:
    story: list[str] = []
    first, second = Equal("first", story), Equal("second", story)

    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        bob.register_rpc_method("greet", greet)
        for interceptor in (first, second, first):
            alice.add_rpc_interceptor(interceptor)
        await call_bob(alice)
        alice.remove_rpc_interceptor(Equal("another", story))
        alice.remove_rpc_interceptor(first)
        await call_bob(alice)

    in_a_room(world, scene)
    assert [line for line in story if "before" in line] == [
        "first before the call",
        "second before the call",
        "second before the call",
    ]


@each_world
def test_calls_and_handlers_under_way_keep_their_chain(world: World) -> None:
    story: list[str] = []

    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        old, new = Named("old", story), Named("new", story)

        @bob.register_rpc_method("greet")
        async def change(data: RpcInvocationData) -> str:
            for participant in (alice, bob):
                participant.remove_rpc_interceptor(old)
                participant.add_rpc_interceptor(new)
            return ""

        for participant in (alice, bob):
            participant.add_rpc_interceptor(old)
        await call_bob(alice)

    in_a_room(world, scene)
    assert story == [
        "old before the call",
        "old before the handler",
        "old after the handler",
        "old after the call",
    ]


@each_world
def test_a_chain_that_changes_the_list_before_next_goes_on_as_it_began(world: World) -> None:
    story: list[str] = []

    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        inner = Named("inner", story)

        async def remove_the_inner(call: RpcCallInfo, next: OutgoingRpcNext) -> str:
            alice.remove_rpc_interceptor(inner)
            alice.add_rpc_interceptor(Named("newcomer", story))
            return await next(call)

        alice.add_rpc_interceptor(Outgoing(remove_the_inner))
        alice.add_rpc_interceptor(inner)
        bob.register_rpc_method("greet", greet)
        await call_bob(alice)

    in_a_room(world, scene)
    assert story == ["inner before the call", "inner after the call"]


@each_world
@pytest.mark.parametrize("wrong", [None, "log", RpcInterceptor, object()])
def test_what_is_no_interceptor_is_refused_at_once(world: World, wrong: Any) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        with pytest.raises(LocalProtocolError, match="is not an RpcInterceptor"):
            alice.add_rpc_interceptor(wrong)

    in_a_room(world, scene)


@each_world
def test_interceptors_can_be_added_before_entering(world: World) -> None:
    story: list[str] = []

    async def main() -> None:
        room = MemoryRoom()
        bob = world.participant(room.join("bob"))
        bob.add_rpc_interceptor(Named("early", story))
        with pytest.raises(LocalProtocolError, match="async with"):
            await call_bob(bob)
        async with world.participant(room.join("alice")) as alice, bob:
            assert (await failure(call_bob(alice, "none"))).code == 1400

    world.run(main)
    assert story == ["early before the handler", "early sees RpcError", "early after the handler"]


# calls


@each_world
def test_without_next_the_call_is_answered_without_the_wire(world: World) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        async def from_a_cache(call: RpcCallInfo, next: OutgoingRpcNext) -> str:
            assert call.request_id is None
            return f"cached {call.method}"

        alice.add_rpc_interceptor(Outgoing(from_a_cache))
        before = alice.statistics().packets_out
        assert await call_bob(alice) == "cached greet"
        assert alice.statistics().packets_out == before
        assert alice.statistics().calls_begun == 0

    in_a_room(world, scene)


@each_world
def test_next_called_again_makes_another_call(world: World) -> None:
    ids: list[str | None] = []

    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        async def try_twice(call: RpcCallInfo, next: OutgoingRpcNext) -> str:
            try:
                return await next(call)
            except RpcError:
                ids.append(call.request_id)
            return await next(call)

        @bob.register_rpc_method("greet")
        async def fail_once(data: RpcInvocationData) -> str:
            ids.append(data.request_id)
            if len(ids) == 1:
                raise RpcError(2001, "not yet")
            return "now"

        alice.add_rpc_interceptor(Outgoing(try_twice))
        assert await call_bob(alice) == "now"

    in_a_room(world, scene)
    first, again, second = ids
    assert first == again != second


@each_world
def test_an_interceptor_sees_the_arguments_of_the_call_and_may_change_them(world: World) -> None:
    seen: list[RpcCallInfo] = []

    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        async def change(call: RpcCallInfo, next: OutgoingRpcNext) -> str:
            seen.append(replace(call))
            call.payload = call.payload.upper()
            call.method = "greet"
            return await next(call)

        alice.add_rpc_interceptor(Outgoing(change))
        bob.register_rpc_method("greet", lambda data: f"{data.payload} {data.response_timeout}")
        reply = await call_bob(
            alice, "old_greet", "Hi", response_timeout=5.0, max_round_trip_latency=1.0
        )
        assert reply == "HI 3.0"

    in_a_room(world, scene)
    assert seen == [RpcCallInfo("bob", "old_greet", "Hi", 5.0, 1.0)]
    assert seen[0].request_id is None


@each_world
def test_a_copy_may_be_handed_on_and_the_original_learns_the_request_id(world: World) -> None:
    ids: list[str | None] = []

    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        async def outer(call: RpcCallInfo, next: OutgoingRpcNext) -> str:
            reply = await next(call)
            ids.append(call.request_id)
            assert call.payload == "Hi"
            return reply

        async def copy(call: RpcCallInfo, next: OutgoingRpcNext) -> str:
            changed = replace(call, payload="copied")
            reply = await next(changed)
            ids.append(changed.request_id)
            return reply

        @bob.register_rpc_method("greet")
        async def handle(data: RpcInvocationData) -> str:
            ids.append(data.request_id)
            return data.payload

        alice.add_rpc_interceptor(Outgoing(outer))
        alice.add_rpc_interceptor(Outgoing(copy))
        assert await call_bob(alice) == "copied"

    in_a_room(world, scene)
    assert len(set(ids)) == 1
    assert len(ids) == 3


@each_world
def test_the_request_id_is_there_while_the_call_is_pending(world: World) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        calls: list[RpcCallInfo] = []

        async def remember(call: RpcCallInfo, next: OutgoingRpcNext) -> str:
            calls.append(call)
            return await next(call)

        @bob.register_rpc_method("greet")
        async def handle(data: RpcInvocationData) -> str:
            assert calls[0].request_id == data.request_id
            return "same"

        alice.add_rpc_interceptor(Outgoing(remember))
        assert await call_bob(alice) == "same"

    in_a_room(world, scene)


@each_world
def test_errors_pass_a_chain_of_calls_unless_they_are_handled(world: World) -> None:
    story: list[str] = []

    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        async def handle(call: RpcCallInfo, next: OutgoingRpcNext) -> str:
            try:
                return await next(call)
            except RpcError as error:
                return f"instead of {error.code}"

        alice.add_rpc_interceptor(Named("outer", story))
        assert (await failure(call_bob(alice))).code == 1400
        alice.add_rpc_interceptor(Outgoing(handle))
        assert await call_bob(alice) == "instead of 1400"

    in_a_room(world, scene)
    assert story.count("outer sees 1400") == 1


@each_world
def test_whatever_an_interceptor_raises_around_a_call_reaches_the_program(world: World) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        async def fail(call: RpcCallInfo, next: OutgoingRpcNext) -> str:
            raise KeyError("tea")

        alice.add_rpc_interceptor(Outgoing(fail))
        with pytest.raises(KeyError, match="tea"):
            await call_bob(alice)

    in_a_room(world, scene)


@each_world
def test_cancelling_a_call_unwinds_the_chain(world: World) -> None:
    story: list[str] = []

    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        @bob.register_rpc_method("greet")
        async def sleep(data: RpcInvocationData) -> str:
            await anyio.sleep(5.0)
            return "late"

        alice.add_rpc_interceptor(Named("outer", story))
        alice.add_rpc_interceptor(Named("inner", story))
        with anyio.move_on_after(1.0) as scope:
            await call_bob(alice)
        assert scope.cancelled_caught
        assert anyio.current_time() == 1.0
        assert alice.statistics().pending_calls == 0

    in_a_room(world, scene)
    assert story == [
        "outer before the call",
        "inner before the call",
        "inner after the call",
        "outer after the call",
    ]


@each_world
def test_the_arguments_of_each_call_are_checked_as_next_makes_it(world: World) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        async def too_long(call: RpcCallInfo, next: OutgoingRpcNext) -> str:
            return await next(replace(call, method="m" * 65))

        alice.add_rpc_interceptor(Outgoing(too_long))
        with pytest.raises(LocalProtocolError, match="method is 65 bytes"):
            await call_bob(alice)

    in_a_room(world, scene)


# handlers


@each_world
def test_a_method_that_nobody_registered_reaches_the_chain_and_next_raises_1400(
    world: World,
) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        seen: list[int] = []

        async def fallback(invocation: RpcInvocationData, next: IncomingRpcNext) -> str | None:
            try:
                return await next(invocation)
            except RpcError as error:
                seen.append(error.code)
                return f"no {invocation.method} here"

        interceptor = Incoming(fallback)
        bob.add_rpc_interceptor(interceptor)
        assert await call_bob(alice, "dance") == "no dance here"
        assert seen == [1400]
        bob.remove_rpc_interceptor(interceptor)
        error = await failure(call_bob(alice, "dance"))
        assert (error.code, error.message) == (1400, "Method not supported at destination")
        assert seen == [1400]

    in_a_room(world, scene)


@each_world
def test_without_an_interceptor_the_engine_refuses_unknown_methods_itself(world: World) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        hands_over = [bob.engine.hand_over_unknown_methods]
        one, other = RpcInterceptor(), RpcInterceptor()
        for change, interceptor in (
            (bob.add_rpc_interceptor, one),
            (bob.add_rpc_interceptor, other),
            (bob.remove_rpc_interceptor, one),
            (bob.remove_rpc_interceptor, other),
        ):
            change(interceptor)
            hands_over.append(bob.engine.hand_over_unknown_methods)
        assert hands_over == [False, True, True, True, False]

    in_a_room(world, scene)


@each_world
def test_an_interceptor_may_answer_without_the_handler_and_change_what_it_gets(
    world: World,
) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        async def redirect(invocation: RpcInvocationData, next: IncomingRpcNext) -> str | None:
            if invocation.payload == "secret":
                raise RpcError(2003, "no secrets")
            if invocation.payload == "cached":
                return "from the cache"
            changed = replace(invocation, method="new", payload=invocation.payload * 2)
            reply = await next(changed)
            return f"[{reply}]"

        bob.add_rpc_interceptor(Incoming(redirect))
        bob.register_rpc_method("new", lambda data: f"{data.method} {data.payload}")
        assert await call_bob(alice, "old", "Hi") == "[new HiHi]"
        assert await call_bob(alice, "old", "cached") == "from the cache"
        assert (await failure(call_bob(alice, "old", "secret"))).message == "no secrets"

    in_a_room(world, scene)


@each_world
def test_errors_travel_inside_as_they_are_and_become_1500_only_outside(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    story: list[str] = []

    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        bob.add_rpc_interceptor(Named("outer", story))
        bob.add_rpc_interceptor(Named("inner", story))

        @bob.register_rpc_method("greet")
        async def fail(data: RpcInvocationData) -> str:
            raise ValueError("swordfish")

        error = await failure(call_bob(alice))
        assert (error.code, error.message, error.data) == (
            1500,
            "Application error in method handler",
            "",
        )

    in_a_room(world, scene)
    assert [line for line in story if "sees" in line] == [
        "inner sees ValueError",
        "outer sees ValueError",
    ]
    assert "swordfish" in caplog.text


@each_world
def test_an_interceptor_may_make_an_rpc_error_of_an_exception(world: World) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        async def translate(invocation: RpcInvocationData, next: IncomingRpcNext) -> str | None:
            try:
                return await next(invocation)
            except ValueError as error:
                raise RpcError(2004, "bad value", str(error)) from error

        bob.add_rpc_interceptor(Incoming(translate))

        @bob.register_rpc_method("greet")
        async def fail(data: RpcInvocationData) -> str:
            raise ValueError("seven")

        error = await failure(call_bob(alice))
        assert (error.code, error.message, error.data) == (2004, "bad value", "seven")

    in_a_room(world, scene)


@each_world
def test_the_lifetime_of_an_invocation_covers_the_whole_chain(world: World) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        ends: list[tuple[float, ErrorCode | None]] = []

        async def slow(invocation: RpcInvocationData, next: IncomingRpcNext) -> str | None:
            await anyio.sleep(4.0)
            try:
                reply = await next(invocation)
                await anyio.sleep_forever()
                return reply
            finally:
                ends.append((anyio.current_time(), invocation.cancel_reason))

        bob.add_rpc_interceptor(Incoming(slow))

        @bob.register_rpc_method("greet")
        async def handle(data: RpcInvocationData) -> str:
            await anyio.sleep(4.0)
            return "done"

        assert (await failure(call_bob(alice))).code == 1502
        await anyio.sleep(LIFETIME)
        assert ends == [(LIFETIME, ErrorCode.RESPONSE_TIMEOUT)]

    in_a_room(world, scene)


@each_world
def test_context_variables_set_in_an_interceptor_are_seen_by_the_handler(world: World) -> None:
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")

    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        async def sign_in(invocation: RpcInvocationData, next: IncomingRpcNext) -> str | None:
            user.set(invocation.caller_identity)
            return await next(invocation)

        interceptor = Incoming(sign_in)
        bob.add_rpc_interceptor(interceptor)
        bob.register_rpc_method("who", lambda data: user.get())
        assert await call_bob(alice, "who") == "alice"
        bob.remove_rpc_interceptor(interceptor)
        assert await call_bob(alice, "who") == "nobody"

    in_a_room(world, scene)


@each_world
def test_a_handler_may_be_anything_also_under_interceptors(world: World) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        bob.add_rpc_interceptor(RpcInterceptor())
        bob.register_rpc_method("sync", lambda data: "sync")
        bob.register_rpc_method("awaitable", greet_later)
        bob.register_rpc_method("async", greet)
        assert await call_bob(alice, "sync") == "sync"
        assert await call_bob(alice, "awaitable") == "Hello, alice!"
        assert await call_bob(alice, "async") == "Hello, alice!"

    in_a_room(world, scene)


def greet_later(data: RpcInvocationData) -> Awaitable[str]:
    return greet(data)


# what a handler is given


def test_invocation_data_is_in_the_order_of_the_sdk_with_its_defaults() -> None:
    data = RpcInvocationData("id", "alice", "Hi", 5.0)
    assert (data.request_id, data.caller_identity, data.payload) == ("id", "alice", "Hi")
    assert (data.response_timeout, data.method, data.cancel_reason) == (5.0, "", None)
    named = RpcInvocationData(
        request_id="id",
        caller_identity="alice",
        payload="Hi",
        response_timeout=5.0,
        method="greet",
        cancel_reason=RpcError.ErrorCode.RESPONSE_TIMEOUT,
    )
    assert named == RpcInvocationData("id", "alice", "Hi", 5.0, "greet", ErrorCode.RESPONSE_TIMEOUT)
    named.payload = "changed"
    assert named.payload == "changed"


def test_the_standard_messages_are_found_by_code() -> None:
    assert set(RpcError.ErrorMessage) == set(RpcError.ErrorCode)
    assert RpcError.ErrorMessage[RpcError.ErrorCode.RESPONSE_TIMEOUT] == "Response timeout"
    assert RpcError(1501).message == RpcError.ErrorMessage[RpcError.ErrorCode(1501)]


@each_world
@pytest.mark.parametrize("is_intercepted", [False, True], ids=["handler", "chain"])
def test_none_answers_with_an_empty_text(world: World, is_intercepted: bool) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        if is_intercepted:
            bob.add_rpc_interceptor(RpcInterceptor())

        @bob.register_rpc_method("greet")
        async def nothing(data: RpcInvocationData) -> None:
            return None

        assert await call_bob(alice) == ""

    in_a_room(world, scene)


@each_world
@pytest.mark.parametrize("is_intercepted", [False, True], ids=["handler", "chain"])
@pytest.mark.parametrize("error", ["TimeoutError", "cancelled"])
def test_a_timeout_or_a_cancelling_of_the_handlers_own_is_1500_with_no_reason(
    world: World, is_intercepted: bool, error: str
) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        received: list[RpcInvocationData] = []
        if is_intercepted:
            bob.add_rpc_interceptor(RpcInterceptor())

        @bob.register_rpc_method("greet")
        async def fail(data: RpcInvocationData) -> str:
            received.append(data)
            raise TimeoutError("of its own") if error == "TimeoutError" else await cancelled()

        for _ in range(2):  # and the participant goes on
            assert (await failure(call_bob(alice))).code == 1500
        assert [data.cancel_reason for data in received] == [None, None]

    in_a_room(world, scene)


async def cancelled() -> BaseException:
    """The exception of something that was cancelled, caught where nobody may catch it."""
    caught: list[BaseException] = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await anyio.lowlevel.checkpoint()
        except BaseException as error:
            caught.append(error)
    return caught[0]


async def until_cancelled(data: RpcInvocationData, reasons: list[object]) -> str:
    try:
        await anyio.sleep_forever()
    finally:
        reasons.append(data.cancel_reason)
    return "never"


@each_world
@pytest.mark.parametrize("is_intercepted", [False, True], ids=["handler", "chain"])
@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("expires", ErrorCode.RESPONSE_TIMEOUT),
        ("caller leaves", ErrorCode.RECIPIENT_DISCONNECTED),
        ("connection is lost", ErrorCode.RECIPIENT_DISCONNECTED),
        ("participant closes", ErrorCode.RECIPIENT_DISCONNECTED),
        ("body ends", ErrorCode.RECIPIENT_DISCONNECTED),
        ("scope around is cancelled", ErrorCode.RECIPIENT_DISCONNECTED),
    ],
)
def test_the_reason_is_set_just_before_a_chain_is_cancelled(
    world: World, is_intercepted: bool, end: str, reason: ErrorCode
) -> None:
    reasons: list[object] = []

    async def watch(invocation: RpcInvocationData, next: IncomingRpcNext) -> str | None:
        try:
            assert invocation.cancel_reason is None
            return await next(replace(invocation))
        finally:
            reasons.append(invocation.cancel_reason)

    async def serve(transport: MemoryTransport, room: MemoryRoom) -> None:
        with anyio.CancelScope() as scope:
            async with world.participant(transport) as bob:
                if is_intercepted:
                    bob.add_rpc_interceptor(Incoming(watch))
                bob.register_rpc_method("greet", lambda data: until_cancelled(data, reasons))
                await anyio.sleep(1.0)
                assert reasons == []
                if end == "connection is lost":
                    room.cut("bob")
                    await anyio.sleep(1.0)
                elif end == "participant closes":
                    await bob.aclose()
                elif end == "scope around is cancelled":
                    scope.cancel()
                    await anyio.lowlevel.checkpoint()
                elif end != "body ends":
                    await anyio.sleep(2 * LIFETIME)

    async def main() -> None:
        room = MemoryRoom()
        transport = room.join("bob")
        async with anyio.create_task_group() as group:
            group.start_soon(serve, transport, room)
            async with world.participant(room.join("alice")) as alice:
                await alice.wait_for_participant("bob")
                with suppress(RpcError):
                    wait = 1.5 if end == "caller leaves" else 100.0
                    with anyio.move_on_after(wait):
                        await call_bob(alice)
                if end != "caller leaves":
                    await anyio.sleep(2 * LIFETIME)

    world.run(main)
    assert reasons == [reason] * (2 if is_intercepted else 1)


@each_world
def test_the_reason_stays_none_for_a_handler_that_ends_by_itself(world: World) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        received: list[RpcInvocationData] = []

        @bob.register_rpc_method("greet")
        async def handle(data: RpcInvocationData) -> str:
            received.append(data)
            return "Hello"

        await call_bob(alice)
        await bob.aclose()
        assert [data.cancel_reason for data in received] == [None]

    in_a_room(world, scene)


@each_world
def test_too_many_chains_are_refused_as_too_many_handlers_are(world: World) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        async def linger(invocation: RpcInvocationData, next: IncomingRpcNext) -> str | None:
            await anyio.sleep(1.0)
            return await next(invocation)

        bob.add_rpc_interceptor(Incoming(linger))
        errors: list[tuple[int, str | None]] = []

        async def call() -> None:
            error = await failure(call_bob(alice, "none"))
            errors.append((error.code, error.data))

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(call)
        assert errors == [(1500, "too many requests"), (1400, ""), (1400, "")]

    in_a_room(world, scene, config=RpcConfig(max_invocations_per_caller=2))


def test_on_trio_an_error_of_cancelling_that_comes_from_elsewhere_harms_nobody() -> None:
    """It would leave the task of the handler, and end the participant."""

    async def main() -> None:
        room = MemoryRoom()
        async with (
            TrioParticipant(room.join("alice")) as alice,
            TrioParticipant(room.join("bob")) as bob,
        ):
            stored = await cancelled()
            assert isinstance(stored, trio.Cancelled)

            @bob.register_rpc_method("greet")
            async def fail(data: RpcInvocationData) -> str:
                raise BaseExceptionGroup("", [stored, ValueError()])

            with pytest.raises(RpcError) as caught:
                await alice.perform_rpc(destination_identity="bob", method="greet", payload="")
            assert caught.value.code == 1500

    trio.run(main)
