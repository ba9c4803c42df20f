"""`rpcproto.interceptors`: Allow, Retry and Log, on asyncio and on trio."""

import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio
import pytest
from worlds import World, each_world

from rpcproto import ErrorCode, LocalProtocolError, RpcError
from rpcproto.asyncio import RpcInvocationData, RpcParticipant
from rpcproto.interceptors import ANYONE, Allow, Log, Retry
from rpcproto.transports.memory import MemoryRoom

Scene = Callable[[RpcParticipant, RpcParticipant], Coroutine[Any, Any, None]]


def in_a_room(world: World, scene: Scene) -> None:
    async def main() -> None:
        room = MemoryRoom()
        async with (
            world.participant(room.join("alice")) as alice,
            world.participant(room.join("bob")) as bob,
        ):
            await alice.wait_for_participant("bob")
            await scene(alice, bob)

    world.run(main)


async def call(participant: RpcParticipant, method: str = "greet", payload: str = "Hi") -> str:
    return await participant.perform_rpc(destination_identity="bob", method=method, payload=payload)


async def code_of(call: Awaitable[str]) -> int:
    with pytest.raises(RpcError) as caught:
        await call
    return caught.value.code


# Allow


@each_world
def test_allow_lets_only_some_callers_call_a_method_and_others_get_1400(world: World) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        for method in ("ours", "theirs", "everybodys", "nobodys", "chosen"):
            bob.register_rpc_method(method, lambda data: "done")
        rules: dict[str, Any] = {
            "ours": {"alice"},
            "theirs": ["carol", "malice"],
            "everybodys": ANYONE,
            "chosen": lambda identity: identity.startswith("a"),
            "unregistered": ANYONE,
        }
        bob.add_rpc_interceptor(Allow(rules))
        for method in ("ours", "everybodys", "chosen"):
            assert await call(alice, method) == "done"
        for method in ("theirs", "nobodys", "unregistered", "none"):
            assert await code_of(call(alice, method)) == 1400
        rules["theirs"] = {"alice"}
        assert await call(alice, "theirs") == "done"

    in_a_room(world, scene)


def test_a_text_is_no_collection_of_callers() -> None:
    """The letters of "malice" are no identities, but "alice" is in it."""
    with pytest.raises(LocalProtocolError, match="are a text"):
        Allow({"reboot": "malice"})


# Retry


@each_world
@pytest.mark.parametrize("code", ErrorCode)
def test_retry_calls_again_after_errors_that_no_handler_has_seen(
    world: World, code: ErrorCode
) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        times: list[float] = []

        @bob.register_rpc_method("greet")
        async def fail(data: RpcInvocationData) -> str:
            times.append(anyio.current_time())
            raise RpcError(code)

        alice.add_rpc_interceptor(Retry(attempts=4, delay=1.0, max_delay=3.0, jitter=lambda: 1.0))
        assert await code_of(call(alice)) == code
        retried = code in (1400, 1401, 1403, 1404)
        assert times == ([0.0, 1.0, 3.0, 6.0] if retried else [0.0])

    in_a_room(world, scene)


@each_world
def test_retry_ends_with_the_first_answer_and_jitter_shortens_its_delays(world: World) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        alice.add_rpc_interceptor(Retry(attempts=10, delay=1.0, jitter=lambda: 0.0))

        async def register_later() -> None:
            await anyio.sleep(1.0)
            bob.register_rpc_method("greet", lambda data: "at last")

        async with anyio.create_task_group() as group:
            group.start_soon(register_later)
            assert await call(alice) == "at last"
        assert anyio.current_time() == 1.5

    in_a_room(world, scene)


@each_world
def test_retry_takes_other_codes(world: World) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        attempts: list[str] = []

        @bob.register_rpc_method("greet")
        async def fail_once(data: RpcInvocationData) -> str:
            attempts.append(data.request_id)
            if len(attempts) == 1:
                raise RpcError(2001, "busy")
            return "now"

        alice.add_rpc_interceptor(Retry(codes=[2001]))
        assert await call(alice) == "now"
        assert len(set(attempts)) == 2

    in_a_room(world, scene)


def test_retry_makes_one_attempt_at_least() -> None:
    with pytest.raises(LocalProtocolError, match="attempts"):
        Retry(attempts=0)


# Log


@each_world
def test_log_writes_a_line_for_each_call_and_each_handler_without_payloads(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        alice.add_rpc_interceptor(Log())
        bob.add_rpc_interceptor(Log(logging.WARNING, logging.getLogger("program")))

        @bob.register_rpc_method("greet")
        async def greet(data: RpcInvocationData) -> Any:
            await anyio.sleep(0.5)
            if data.payload == "secret bug":
                raise ValueError("secret reason")
            if data.payload == "secret refusal":
                raise RpcError(2001, "too\nlate", "secret data")
            if data.payload == "secret sleep":
                await anyio.sleep_forever()
            return None if data.payload == "secret nothing" else "secret answer"

        caplog.set_level(logging.INFO, "rpcproto")
        await call(alice, payload="secret")
        await call(alice, payload="secret nothing")
        for payload in ("secret bug", "secret refusal", "secret sleep"):
            await code_of(call(alice, payload=payload))
        with anyio.move_on_after(0.25):
            await call(alice, payload="secret")
        await anyio.sleep(20.0)

    in_a_room(world, scene)
    lines = [
        (record.name, record.levelno, " ".join(drop_id(record.getMessage())))
        for record in caplog.records
        if record.exc_info is None
    ]
    calls = [line for name, level, line in lines if (name, level) == ("rpcproto", logging.INFO)]
    handled = [line for name, level, line in lines if (name, level) == ("program", logging.WARNING)]
    assert calls == [
        "calls 'greet' of 'bob' 6 bytes: 13 bytes after 0.500 s",
        "calls 'greet' of 'bob' 14 bytes: 0 bytes after 0.500 s",
        "calls 'greet' of 'bob' 10 bytes: 1500 'Application error in method handler' after 0.500 s",
        "calls 'greet' of 'bob' 14 bytes: 2001 'too\\nlate' after 0.500 s",
        "calls 'greet' of 'bob' 12 bytes: 1502 'Response timeout' after 10.000 s",
        "calls 'greet' of 'bob' 6 bytes: cancelled after 0.250 s",
    ]
    assert handled == [
        "handles 'greet' for 'alice' 6 bytes: 13 bytes after 0.500 s",
        "handles 'greet' for 'alice' 14 bytes: nothing after 0.500 s",
        "handles 'greet' for 'alice' 10 bytes: ValueError after 0.500 s",
        "handles 'greet' for 'alice' 14 bytes: 2001 'too\\nlate' after 0.500 s",
        "handles 'greet' for 'alice' 6 bytes: 13 bytes after 0.500 s",
        "handles 'greet' for 'alice' 12 bytes: cancelled (RESPONSE_TIMEOUT) after 15.000 s",
    ]
    assert not any("secret" in line for _, _, line in lines)


def drop_id(line: str) -> list[str]:
    return [word for word in line.split(" ") if not word.startswith("(") or "_" in word]


@each_world
def test_log_tells_a_call_that_another_interceptor_answered(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        class Cache(Retry):
            async def intercept_outgoing(self, call: Any, next: Any) -> str:
                return "cached"

        alice.add_rpc_interceptor(Log())
        alice.add_rpc_interceptor(Cache())
        caplog.set_level(logging.INFO, "rpcproto")
        assert await call(alice) == "cached"

    in_a_room(world, scene)
    [line] = [record.getMessage() for record in caplog.records]
    assert line == "calls 'greet' of 'bob' (nothing sent), 2 bytes: 6 bytes after 0.000 s"
