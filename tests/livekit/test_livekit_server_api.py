"""Calls by the server's own API: on the test server, and on servers that answer anything."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import jwt
import pytest
from aiohttp import web
from livekit_scenes import GUARD, run, tcp_server, token

from rpcproto import LocalProtocolError
from rpcproto.conformance import server_calls
from rpcproto.conformance.room_server import RoomServer
from rpcproto.conformance.routing import dropping
from rpcproto.livekit import (
    ConnectError,
    RefusedError,
    RpcError,
    RpcInvocationData,
    TokenError,
    UnreachableError,
    connect,
    perform_rpc_by_server,
)
from rpcproto.livekit.http_requests import _Exchange

KEY, SECRET = "devkey", "a-secret-of-at-least-thirty-two-characters"


async def call(url: str, method: str = "echo", payload: str = "Hi", **others: Any) -> str:
    arguments = {"destination_identity": "bob", "method": method, "payload": payload, **others}
    return await perform_rpc_by_server(url, KEY, SECRET, "lobby", **arguments)


async def failure(url: str, method: str = "echo", payload: str = "Hi", **others: Any) -> RpcError:
    with pytest.raises(RpcError) as caught:
        await call(url, method, payload, **others)
    return caught.value


def in_the_room(scene: Callable[[RoomServer, list[RpcInvocationData]], Awaitable[None]]) -> None:
    """Play a scene while bob is in the room, with these methods; his invocations are listed."""

    async def with_bob(server: RoomServer) -> None:
        seen: list[RpcInvocationData] = []
        async with connect(server.url, token("bob")) as bob:
            serve = bob.local_participant.register_rpc_method

            @serve("echo")
            def echo(data: RpcInvocationData) -> str:
                seen.append(data)
                return data.payload

            @serve("refuse")
            def refuse(data: RpcInvocationData) -> str:
                raise RpcError(7001, "not today: sorry", data.payload)

            @serve("hang")
            async def hang(_: RpcInvocationData) -> str:
                return await asyncio.Event().wait() and ""

            await scene(server, seen)

    run(with_bob)


@pytest.mark.parametrize("payload", ["Hi", "", "ä\0😀", "x" * 15_360])
def test_the_server_calls_a_participant_for_us(payload: str) -> None:
    async def scene(server: RoomServer, seen: list[RpcInvocationData]) -> None:
        assert await call(server.url, payload=payload, response_timeout=3.5) == payload
        http = server.url.replace("ws:", "http:") + "/"
        assert await call(http, payload=payload) == payload
        first, second = seen
        assert (first.response_timeout, second.response_timeout) == (3.5, 10.0)
        assert first.caller_identity != second.caller_identity

    in_the_room(scene)


def test_the_token_is_for_one_room_and_one_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = server_calls.answer
    claims: list[dict[str, Any]] = []

    async def look(request: Any, rooms: Any) -> Any:
        given = request.headers["Authorization"].removeprefix("Bearer ")
        claims.append(jwt.decode(given, SECRET, algorithms=["HS256"]))
        return await answer(request, rooms)

    monkeypatch.setattr(server_calls, "answer", look)

    async def scene(server: RoomServer, _: object) -> None:
        await call(server.url)
        [one] = claims
        assert one["video"] == {"room": "lobby", "roomAdmin": True}
        assert one["exp"] - one["nbf"] <= 70
        assert one["iss"] == KEY

    in_the_room(scene)


def test_errors_of_the_call_are_those_of_a_call_in_the_room() -> None:
    async def scene(server: RoomServer, _: object) -> None:
        error = await failure(server.url, "none")
        assert (error.code, error.message, error.data) == (
            1400,
            "Method not supported at destination",
            "",
        )
        error = await failure(server.url, "refuse", '{"ask": "tomorrow: ☀"}')
        assert (error.code, error.message, error.data) == (
            7001,
            "not today: sorry",
            '{"ask": "tomorrow: ☀"}',
        )
        error = await failure(server.url, "refuse", "")
        assert (error.message, error.data) == ("not today: sorry", "")
        # What cannot be told apart stays together.
        error = await failure(server.url, "refuse", "tomorrow")
        assert (error.message, error.data) == ("not today: sorry: tomorrow", "")
        error = await failure(server.url, "refuse", "{tomorrow")
        assert (error.message, error.data) == ("not today: sorry: {tomorrow", "")
        assert (await failure(server.url, "hang", response_timeout=0.05)).code == 1502
        assert (await failure(server.url, destination_identity="carol")).code == 1401
        assert (await failure(server.url, payload="x" * 15_361)).code == 1402

    in_the_room(scene)


def test_a_participant_that_does_not_answer_is_1501(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_calls, "ACK_SECONDS", 0.05)

    async def scene(server: RoomServer, _: object) -> None:
        lost = dropping(lambda passing: passing.kind == "rpc_ack")
        with server.room("lobby").interfering(lost):
            assert (await failure(server.url)).code == 1501

    in_the_room(scene)


def test_a_participant_that_still_joins_is_1505() -> None:
    async def scene(server: RoomServer) -> None:
        server.activation_delay = 3600
        async with connect(server.url, token("bob")):
            error = await failure(server.url)
            assert error.code == 1505
            assert "data channel is not available" in str(error.__cause__)

    run(scene)


def test_a_room_that_does_not_exist_has_nobody_in_it() -> None:
    async def scene(server: RoomServer) -> None:
        error = await failure(server.url)
        assert error.code == 1401
        assert str(error.__cause__) == "twirp error unknown: no response from servers"

    run(scene)


def test_an_empty_payload_may_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def leave_out(*_: object) -> web.Response:
        return web.json_response({})

    monkeypatch.setattr(server_calls, "answer", leave_out)

    async def scene(server: RoomServer) -> None:
        assert await call(server.url) == ""

    run(scene)


def answered(status: str, body: bytes) -> Exception:
    """What is raised when a server answers so."""
    caught: list[Exception] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        given = head.partition(b"Bearer ")[2].partition(b"\r\n")[0]
        shown = body.replace(b"TOKEN", given)
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(shown)}\r\n\r\n".encode() + shown)
        await reader.read()

    async def main() -> None:
        async with asyncio.timeout(GUARD), tcp_server(take) as port:
            try:
                await call(f"ws://127.0.0.1:{port}")
            except (RpcError, ConnectError) as error:
                caught.append(error)

    asyncio.run(main())
    [error] = caught
    return error


def twirp(code: str, message: str) -> bytes:
    return json.dumps({"code": code, "msg": message}).encode()


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        ("404 Not Found", "bad_route", 1403),
        ("501 Not Implemented", "unimplemented", 1403),
        ("404 Not Found", "not_found", 1401),
        ("503 Service Unavailable", "unavailable", 1401),
        ("408 Request Timeout", "deadline_exceeded", 1502),
    ],
)
def test_errors_of_the_server_that_say_something_of_the_call(
    status: str, code: str, expected: int
) -> None:
    error = answered(status, twirp(code, "why: TOKEN"))
    assert isinstance(error, RpcError)
    assert error.code == expected
    assert isinstance(error.__cause__, RefusedError)
    assert str(error.__cause__) == "why: ..."


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        ("401 No", b"invalid token: TOKEN", TokenError, "the server does not accept the token"),
        (
            "401 No",
            twirp("unauthenticated", "permissions denied"),
            TokenError,
            "permissions denied",
        ),
        ("403 No", twirp("permission_denied", "no"), RefusedError, "the server refuses (403): no"),
        ("404 No", b"<html>", RefusedError, "there is no API of a LiveKit server at this URL"),
        ("302 No", b"", RefusedError, "the server refuses (302): no reason"),
        ("500 No", twirp("internal", "x" * 1_000), RefusedError, "the server refuses (500): xxx"),
        ("500 No", b"[" * 100_000, RefusedError, "the server refuses (500): [[["),
        ("200 OK", b"[]", ConnectError, "the server's answer makes no sense"),
        ("200 OK", b"", ConnectError, "the server's answer makes no sense"),
        ("200 OK", b'{"payload": 1}', ConnectError, "the server's answer makes no sense"),
        ("200 OK", b"x" * 2_000_000, UnreachableError, "the answer is too large"),
    ],
)
def test_other_answers_are_connect_errors(
    status: str, body: bytes, kind: type[ConnectError], words: str
) -> None:
    error = answered(status, body)
    assert type(error) is kind
    assert words in str(error)
    assert len(str(error)) < 300
    assert "eyJ" not in str(error)


def test_a_server_that_says_nothing_is_waited_for_only_so_long() -> None:
    async def hear_them_out(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async def main() -> None:
        async with tcp_server(hear_them_out) as port:
            with pytest.raises(UnreachableError, match=r"no answer from .* in 0\.1 s"):
                await call(f"ws://127.0.0.1:{port}", response_timeout=0.05, connect_timeout=0.05)

    asyncio.run(main())


def test_whichever_timer_notices_first_the_error_says_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def say_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async def main() -> None:
        async with tcp_server(say_nothing) as port:
            with pytest.raises(UnreachableError, match=r"no answer from .* in 60 s"):
                await call(f"ws://127.0.0.1:{port}", response_timeout=30, connect_timeout=30)

    monkeypatch.setattr(_Exchange, "run", lambda _: TimeoutError("timed out"))
    asyncio.run(main())


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "tcp://a"},
        {"api_key": ""},
        {"room": ""},
        {"destination_identity": ""},
        {"destination_identity": "x" * 257},
        {"method": ""},
        {"method": "x" * 65},
        {"payload": "\udcff"},
        {"payload": None},
        {"response_timeout": 0},
        {"response_timeout": 5e6},
        {"response_timeout": float("nan")},
        {"connect_timeout": 0},
    ],
)
def test_misuse_is_reported_before_anything_is_sent(wrong: dict[str, Any]) -> None:
    arguments = {
        "url": "ws://127.0.0.1:1",
        "api_key": KEY,
        "api_secret": SECRET,
        "room": "lobby",
        "destination_identity": "bob",
        "method": "echo",
        "payload": "",
        **wrong,
    }

    async def main() -> None:
        with pytest.raises(LocalProtocolError):
            await perform_rpc_by_server(**arguments)

    asyncio.run(main())
