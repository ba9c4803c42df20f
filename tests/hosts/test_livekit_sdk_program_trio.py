"""The twin of `test_livekit_sdk_program.py` on trio: the same program, with trio for asyncio."""

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing

import rpcproto.trio as rtc
from rpcproto.transports.memory import MemoryRoom


class Room:
    """What `rtc.Room` is to a program that uses its RPC."""

    def __init__(self, local_participant: rtc.RpcParticipant) -> None:
        self.local_participant = local_participant


@asynccontextmanager
async def connected(*identities: str) -> AsyncIterator[list[Room]]:
    room = MemoryRoom()
    participants = [rtc.RpcParticipant(room.join(identity)) for identity in identities]
    async with participants[0], participants[1]:
        yield [Room(participant) for participant in participants]


def run(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


# the snippets of the documentation


def test_the_greeting_of_the_documentation(capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        async with connected("alice", "bob") as (caller_room, room):

            @room.local_participant.register_rpc_method("greet")
            async def handle_greet(data: rtc.RpcInvocationData) -> str:
                print(f"Received greeting from {data.caller_identity}: {data.payload}")
                return f"Hello, {data.caller_identity}!"

            try:
                response = await caller_room.local_participant.perform_rpc(
                    destination_identity="bob", method="greet", payload="Hello from RPC!"
                )
                print(f"RPC response: {response}")
            except Exception as e:
                print(f"RPC call failed: {e}")

    run(main)
    assert capsys.readouterr().out == (
        "Received greeting from alice: Hello from RPC!\nRPC response: Hello, alice!\n"
    )


def test_methods_are_registered_by_a_call_and_unregistered() -> None:
    async def main() -> None:
        async with connected("alice", "bob") as (caller_room, room):

            async def greet_handler(data: rtc.RpcInvocationData) -> str:
                return f"{data.method} {data.request_id} {data.response_timeout}"

            room.local_participant.register_rpc_method("greet", greet_handler)
            response = await caller_room.local_participant.perform_rpc(
                destination_identity="bob", method="greet", payload="", response_timeout=10.0
            )
            assert response.startswith("greet ")
            room.local_participant.unregister_rpc_method("greet")
            with pytest.raises(rtc.RpcError) as caught:
                await caller_room.local_participant.perform_rpc(
                    destination_identity="bob", method="greet", payload=""
                )
            assert caught.value.code == rtc.RpcError.ErrorCode.UNSUPPORTED_METHOD
            assert (
                caught.value.message
                == rtc.RpcError.ErrorMessage[rtc.RpcError.ErrorCode.UNSUPPORTED_METHOD]
            )

    run(main)


def test_errors_of_handlers_reach_the_caller() -> None:
    async def main() -> None:
        async with connected("alice", "bob") as (caller_room, room):

            @room.local_participant.register_rpc_method("divide")
            async def divide(data: rtc.RpcInvocationData) -> str:
                args = json.loads(data.payload)
                if args["divisor"] == 0:
                    raise rtc.RpcError(101, "division by zero", json.dumps(args))
                return json.dumps({"result": args["dividend"] / args["divisor"]})

            async def call(payload: str) -> str:
                return await caller_room.local_participant.perform_rpc(
                    destination_identity="bob", method="divide", payload=payload
                )

            assert await call('{"dividend": 1, "divisor": 4}') == '{"result": 0.25}'
            with pytest.raises(rtc.RpcError) as caught:
                await call('{"dividend": 1, "divisor": 0}')
            assert (caught.value.code, caught.value.message) == (101, "division by zero")
            assert caught.value.data == '{"dividend": 1, "divisor": 0}'
            with pytest.raises(rtc.RpcError) as caught:
                await call("no JSON")
            assert caught.value.code == rtc.RpcError.ErrorCode.APPLICATION_ERROR

    run(main)


def test_a_handler_that_returns_nothing_answers_with_an_empty_text() -> None:
    async def main() -> None:
        async with connected("alice", "bob") as (caller_room, room):
            notes: list[str] = []

            @room.local_participant.register_rpc_method("note")
            async def note(data: rtc.RpcInvocationData) -> None:
                notes.append(data.payload)

            response = await caller_room.local_participant.perform_rpc(
                destination_identity="bob", method="note", payload="buy tea"
            )
            assert response == ""
            assert notes == ["buy tea"]

    run(main)


# interceptors


class TimingInterceptor(rtc.RpcInterceptor):
    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    async def intercept_outgoing(self, call, next):  # type: ignore[no-untyped-def]
        start = time.perf_counter()
        try:
            return await next(call)
        finally:
            assert time.perf_counter() >= start
            self.lines.append(("rpc call", call.method))

    async def intercept_incoming(self, invocation, next):  # type: ignore[no-untyped-def]
        start = time.perf_counter()
        try:
            return await next(invocation)
        finally:
            assert time.perf_counter() >= start
            self.lines.append(("rpc handled", invocation.method))


class TracingInterceptor(rtc.RpcInterceptor):
    """Puts a trace id into JSON payloads, and takes it out again."""

    def __init__(self, trace_id: str) -> None:
        self.trace_id = trace_id
        self.spans: list[dict[str, Any]] = []

    async def intercept_outgoing(self, call: rtc.RpcCallInfo, next: rtc.OutgoingRpcNext) -> str:
        span: dict[str, Any] = {"name": "rpc_call", "method": call.method}
        try:
            payload = json.dumps({"trace": self.trace_id, "payload": call.payload})
            return await next(replace(call, payload=payload))
        except rtc.RpcError as e:
            span["code"] = int(e.code)
            raise
        finally:
            self.spans.append(span)

    async def intercept_incoming(
        self, invocation: rtc.RpcInvocationData, next: rtc.IncomingRpcNext
    ) -> str | None:
        envelope = json.loads(invocation.payload)
        span: dict[str, Any] = {"name": "rpc_handler", "trace": envelope["trace"]}
        invocation.payload = envelope["payload"]
        try:
            return await next(invocation)
        except rtc.RpcError as e:
            span["code"] = int(e.code)
            span["handler_registered"] = e.code != rtc.RpcError.ErrorCode.UNSUPPORTED_METHOD
            raise
        except trio.Cancelled:
            span["code"] = int(invocation.cancel_reason or rtc.RpcError.ErrorCode.APPLICATION_ERROR)
            raise
        finally:
            self.spans.append(span)


class RetryInterceptor(rtc.RpcInterceptor):
    async def intercept_outgoing(self, call: rtc.RpcCallInfo, next: rtc.OutgoingRpcNext) -> str:
        for _ in range(2):
            try:
                return await next(call)
            except rtc.RpcError as e:
                if e.code != rtc.RpcError.ErrorCode.UNSUPPORTED_METHOD:
                    raise
                await trio.sleep(1.0)
        return await next(call)


def test_an_interceptor_times_both_directions() -> None:
    async def main() -> None:
        async with connected("alice", "bob") as (caller_room, room):
            timing = TimingInterceptor()
            room.local_participant.add_rpc_interceptor(timing)
            caller_room.local_participant.add_rpc_interceptor(timing)
            room.local_participant.register_rpc_method("greet", lambda data: "Hi")
            await caller_room.local_participant.perform_rpc(
                destination_identity="bob", method="greet", payload=""
            )
            assert timing.lines == [("rpc handled", "greet"), ("rpc call", "greet")]

    run(main)


def test_an_interceptor_traces() -> None:
    async def main() -> None:
        async with connected("alice", "bob") as (caller_room, room):
            client, server = TracingInterceptor("t1"), TracingInterceptor("t2")
            caller_room.local_participant.add_rpc_interceptor(client)
            room.local_participant.add_rpc_interceptor(server)
            room.local_participant.register_rpc_method("echo", lambda data: data.payload)

            @room.local_participant.register_rpc_method("hang")
            async def hang(data: rtc.RpcInvocationData) -> str:
                await trio.sleep(3600)
                return ""

            async def call(method: str) -> str:
                return await caller_room.local_participant.perform_rpc(
                    destination_identity="bob", method=method, payload="Hi"
                )

            assert await call("echo") == "Hi"
            with pytest.raises(rtc.RpcError):
                await call("none")
            with pytest.raises(rtc.RpcError):
                await call("hang")
            await trio.sleep(10.0)
            assert client.spans == [
                {"name": "rpc_call", "method": "echo"},
                {"name": "rpc_call", "method": "none", "code": 1400},
                {"name": "rpc_call", "method": "hang", "code": 1502},
            ]
            assert server.spans == [
                {"name": "rpc_handler", "trace": "t1"},
                {"name": "rpc_handler", "trace": "t1", "code": 1400, "handler_registered": False},
                {"name": "rpc_handler", "trace": "t1", "code": 1502},
            ]

    run(main)


def test_an_interceptor_retries() -> None:
    async def main() -> None:
        async with connected("alice", "bob") as (caller_room, room):
            caller_room.local_participant.add_rpc_interceptor(RetryInterceptor())

            async def register_later() -> None:
                await trio.sleep(1.5)
                room.local_participant.register_rpc_method("greet", lambda data: "at last")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(register_later)
                response = await caller_room.local_participant.perform_rpc(
                    destination_identity="bob", method="greet", payload=""
                )
                assert response == "at last"

    run(main)


def test_interceptors_are_removed_by_identity() -> None:
    async def main() -> None:
        async with connected("alice", "bob") as (caller_room, room):
            first, second = TimingInterceptor(), TimingInterceptor()
            participant = caller_room.local_participant
            for interceptor in (first, second, first):
                participant.add_rpc_interceptor(interceptor)
            participant.remove_rpc_interceptor(second)
            room.local_participant.register_rpc_method("greet", lambda data: "Hi")
            await participant.perform_rpc(destination_identity="bob", method="greet", payload="")
            assert (first.lines, second.lines) == ([("rpc call", "greet")], [])

    run(main)


# unit tests of handlers: no room at all


async def count_letters(data: rtc.RpcInvocationData) -> str:
    if not data.payload:
        raise rtc.RpcError(code=2001, message="nothing to count", data=data.caller_identity)
    return str(len(data.payload))


def test_a_handler_is_tested_with_data_in_order() -> None:
    data = rtc.RpcInvocationData("request-1", "alice", "letters", 10.0)
    assert trio.run(count_letters, data) == "7"


def test_a_handler_is_tested_with_data_by_name() -> None:
    data = rtc.RpcInvocationData(
        request_id="request-1",
        caller_identity="alice",
        payload="",
        response_timeout=10.0,
        method="count_letters",
    )
    with pytest.raises(rtc.RpcError) as caught:
        trio.run(count_letters, data)
    assert (caught.value.code, caught.value.message, caught.value.data) == (
        2001,
        "nothing to count",
        "alice",
    )


def test_an_interceptor_is_tested_with_a_next_of_ones_own() -> None:
    tracing = TracingInterceptor("t1")

    async def handler(invocation: rtc.RpcInvocationData) -> str | None:
        return invocation.payload

    payload = json.dumps({"trace": "t9", "payload": "Hi"})
    data = rtc.RpcInvocationData("request-1", "alice", payload, 10.0, method="echo")
    assert trio.run(tracing.intercept_incoming, data, handler) == "Hi"

    async def call(info: rtc.RpcCallInfo) -> str:
        return info.payload

    info = rtc.RpcCallInfo(destination_identity="bob", method="echo", payload="Hi")
    assert trio.run(tracing.intercept_outgoing, info, call) == ('{"trace": "t1", "payload": "Hi"}')
    assert tracing.spans == [
        {"name": "rpc_handler", "trace": "t9"},
        {"name": "rpc_call", "method": "echo"},
    ]
