"""Servers and proxies that are hostile, broken or dead: what is raised, and who sees the token."""

import asyncio
import base64
import itertools
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from livekit.protocol.models import ParticipantInfo, ServerInfo
from livekit.protocol.rtc import (
    JoinResponse,
    LeaveRequest,
    ParticipantUpdate,
    SignalResponse,
    TrickleRequest,
)
from livekit_scenes import GUARD, run, session_of, tcp_server, token, until
from websockets.asyncio.server import ServerConnection, serve

from rpcproto.conformance.room_server import RoomServer
from rpcproto.livekit import (
    ConnectError,
    RefusedError,
    TokenError,
    UnreachableError,
    connect,
    dialing,
    http_requests,
    join_room,
)
from rpcproto.livekit.http_requests import HttpAnswer, HttpRequest, fetch, proxy_of, reached_through

SECRET = "aaa.bbb.a-secret-token"

Answer = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Answers each request by a function, and keeps the heads of the requests."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.heads: list[bytes] = []
        self.port = 0

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        await self._answer(head, writer)


@asynccontextmanager
async def listening(answer: Answer) -> AsyncIterator[Server]:
    ours = Server(answer)
    async with tcp_server(ours.take) as ours.port:
        yield ours


def reply(status: str, body: bytes = b"", **headers: object) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def saying(*, websocket: bytes, validate: bytes = b"") -> Answer:
    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(validate if b"/validate" in head else websocket)

    return answer


def play(main: Callable[[], Awaitable[None]]) -> None:
    async def guarded() -> None:
        async with asyncio.timeout(GUARD):
            await main()

    asyncio.run(guarded())


async def failure(port: int, connect_timeout: float = GUARD) -> ConnectError:
    with pytest.raises(ConnectError) as caught:
        await join_room(f"ws://127.0.0.1:{port}", SECRET, connect_timeout=connect_timeout)
    return caught.value


# redirects


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
def test_a_redirect_of_the_websocket_is_refused_and_the_token_stays_here(status: str) -> None:
    async def main() -> None:
        async with listening(saying(websocket=reply("404 No"))) as other:
            location = f"ws://user:{SECRET}@localhost:{other.port}/there?token={SECRET}"
            away = reply(status, Location=location)
            async with listening(saying(websocket=away)) as server:
                error = await failure(server.port)
            assert type(error) is RefusedError
            assert error.status == int(status[:3])
            assert f"the server redirects to ws://localhost:{other.port} (" in str(error)
            assert SECRET not in str(error)
            assert other.heads == []

    play(main)


@pytest.mark.parametrize("location", ["", "/there", "http://[::1"])
def test_a_redirect_that_names_no_host_is_a_refusal_like_others(location: str) -> None:
    async def main() -> None:
        answer = saying(websocket=reply("302 Found", Location=location))
        async with listening(answer) as server:
            error = await failure(server.port)
            assert str(error) == "the server refuses (302): no reason"
            assert len(server.heads) == 1

    play(main)


def test_a_redirect_of_the_reason_is_not_followed() -> None:
    async def main() -> None:
        async with listening(saying(websocket=reply("200 OK", b"nothing"))) as other:
            away = reply("302 Found", Location=f"http://localhost:{other.port}/steal")
            answer = saying(websocket=reply("401 No"), validate=away)
            async with listening(answer) as server:
                error = await failure(server.port)
            assert isinstance(error, TokenError)
            assert other.heads == []

    play(main)


# answers that are none


def test_a_reason_is_shown_without_the_token() -> None:
    async def main() -> None:
        validate = reply("401 No", b"expired: " + SECRET.encode())
        async with listening(saying(websocket=reply("401 No"), validate=validate)) as server:
            error = await failure(server.port)
        assert str(error) == "the server does not accept the token: expired: ..."

    play(main)


@pytest.mark.parametrize(
    "validate",
    [
        pytest.param(b"this is not HTTP\r\n\r\n", id="garbage"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"HTTP/1.1 401 No\r\n" + b"A: b\r\n" * 200 + b"\r\n", id="200 headers"),
        pytest.param(b"HTTP/1.1 401 No\r\nA: " + b"b" * 70_000 + b"\r\n\r\n", id="long header"),
        pytest.param(reply("401 No", b"x" * 2_000_000), id="large"),
        pytest.param(b"HTTP/1.1 401 No\r\nContent-Length: x\r\n\r\n", id="no length"),
        pytest.param(b"HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n", id="chunks"),
    ],
)
def test_a_reason_that_cannot_be_read_is_none(validate: bytes) -> None:
    async def main() -> None:
        async with listening(saying(websocket=reply("401 No"), validate=validate)) as server:
            error = await failure(server.port)
        assert str(error) == "the server does not accept the token: no reason"

    play(main)


def test_a_reason_that_drips_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialing, "_VALIDATE_TIME", 0.05)
    gone = asyncio.Event()

    async def drip(head: bytes, writer: asyncio.StreamWriter) -> None:
        if b"/validate" not in head:
            writer.write(reply("401 No"))
            return
        writer.write(b"HTTP/1.1 401 No\r\nA: ")
        try:
            while True:
                writer.write(b"b")
                await writer.drain()
                await asyncio.sleep(0.005)
        finally:
            gone.set()

    async def main() -> None:
        async with listening(drip) as server:
            error = await failure(server.port)
            assert isinstance(error, TokenError)
            await gone.wait()  # the thread that has read it has hung up

    play(main)


def test_a_reason_that_takes_too_long_hides_no_refusal() -> None:
    async def say_nothing(head: bytes, writer: asyncio.StreamWriter) -> None:
        if b"/validate" not in head:
            writer.write(reply("403 No"))
            return
        asked.set()
        await closed.wait()

    asked, closed = asyncio.Event(), asyncio.Event()

    async def main() -> None:
        async with listening(say_nothing) as server:
            url = f"ws://127.0.0.1:{server.port}"
            error: ConnectError | None = None
            for seconds in (1.0, 5.0, 25.0):  # a busy machine may need more to ask for it
                with pytest.raises(ConnectError) as caught:
                    await join_room(url, SECRET, connect_timeout=seconds)
                error = caught.value
                if asked.is_set():
                    break
            assert isinstance(error, RefusedError)
            assert str(error).startswith("the server refuses (403): no reason")
            closed.set()

    play(main)


def test_a_server_that_is_not_http_is_not_reached() -> None:
    async def main() -> None:
        async with listening(saying(websocket=b"SSH-2.0-OpenSSH\r\n\r\n")) as server:
            error = await failure(server.port)
        assert isinstance(error, UnreachableError)

    play(main)


# signalling


@asynccontextmanager
async def websocket_server(
    handle: Callable[[ServerConnection], Awaitable[None]], *, compression: str | None = None
) -> AsyncIterator[int]:
    async with serve(handle, "127.0.0.1", 0, compression=compression) as server:
        [socket] = server.sockets
        yield socket.getsockname()[1]


def test_messages_are_never_compressed() -> None:
    """4 MB of zeros would be 4 kB on the wire."""
    offered: list[str | None] = []

    async def main() -> None:
        async def handle(connection: ServerConnection) -> None:
            assert connection.request is not None
            offered.append(connection.request.headers.get("Sec-WebSocket-Extensions"))
            connection.transport.write(b"\xc2\x03\x00\x00\x00")  # says that it is compressed
            await connection.wait_closed()

        async with websocket_server(handle, compression="deflate") as port:
            error = await failure(port)
            assert "the signalling connection is lost" in str(error)
        assert offered == [None]

    play(main)


def test_a_message_beyond_the_limit_ends_the_joining(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async def handle(connection: ServerConnection) -> None:
            await connection.send(bytes(dialing.MAX_SIGNAL_BYTES + 1))
            await connection.wait_closed()

        async with websocket_server(handle) as port:
            error = await failure(port)
            assert "the signalling connection is lost" in str(error)

    play(main)


def test_a_flood_of_candidates_and_reports_is_bounded_and_joining_ends_in_time() -> None:
    async def main() -> None:
        async def handle(connection: ServerConnection) -> None:
            us = ParticipantInfo(identity="bob", sid="PA_B")
            join = JoinResponse(participant=us, server_info=ServerInfo(version="1.13.5"))
            await connection.send(SignalResponse(join=join).SerializeToString())
            for number in itertools.count():
                init = json.dumps({"candidate": f"candidate:{number} 1 udp 1 192.0.2.1 9 typ host"})
                trickle = TrickleRequest(candidateInit=init)
                come = ParticipantInfo(
                    identity=f"p{number}", sid=f"PA_{number}", state=ParticipantInfo.ACTIVE
                )
                gone = ParticipantInfo(
                    identity=f"p{number}", sid=f"PA_{number}", state=ParticipantInfo.DISCONNECTED
                )
                update = ParticipantUpdate(participants=[come, gone])
                await connection.send(SignalResponse(trickle=trickle).SerializeToString())
                await connection.send(SignalResponse(update=update).SerializeToString())
                if number % 100 == 0:
                    await asyncio.sleep(0)

        async with websocket_server(handle) as port:
            turns = 0
            for seconds in (1.0, 5.0, 25.0):  # a busy machine may give us little of it
                joining = asyncio.create_task(failure(port, connect_timeout=seconds))
                turns = 0
                while not joining.done():
                    await asyncio.sleep(0)
                    turns += 1
                assert isinstance(await joining, UnreachableError)
                if turns > 100:  # others had theirs
                    break
            assert turns > 100

    play(main)


# logs


def test_the_token_is_in_no_log_at_any_level(caplog: pytest.LogCaptureFixture) -> None:
    ours, fresh = token("bob"), token("bob") + "fresh"

    async def scene(server: RoomServer) -> None:
        async with connect(server.url, ours) as bob:
            session = session_of(server, "bob")
            session.send(SignalResponse(refresh_token=fresh))
            await until(lambda: bob._transport._link.token == fresh)
            sid = bob.local_participant.sid
            session.say_leave(LeaveRequest.RECONNECT)
            await until(lambda: bob.local_participant.sid != sid)
            server.refusal = 401
            with pytest.raises(TokenError):
                await join_room(server.url, ours)

    loggers = [logging.getLogger(name) for name in logging.root.manager.loggerDict]
    levels = [(logger, logger.level) for logger in loggers]
    try:
        with caplog.at_level(logging.DEBUG):
            for logger in loggers:
                logger.setLevel(logging.DEBUG)
            run(scene)
    finally:
        for logger, level in levels:
            logger.setLevel(level)
    assert "joined the room again" in caplog.text
    for piece in (ours, fresh, ours.encode().hex(), fresh.encode().hex(" ")):
        assert piece not in caplog.text
    assert "Bearer" not in caplog.text


# proxies


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("http_proxy", "https_proxy", "ws_proxy", "wss_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


def test_a_proxy_that_is_dead_is_named_without_its_password(
    environment: pytest.MonkeyPatch,
) -> None:
    environment.setenv("http_proxy", "http://user:password@127.0.0.1:1")

    async def main() -> None:
        with pytest.raises(UnreachableError) as caught:
            await join_room("ws://livekit.example:7880", SECRET)
        assert str(caught.value) == (
            "cannot reach ws://livekit.example:7880 through the proxy http://127.0.0.1:1: "
            "connection refused"
        )
        with pytest.raises(UnreachableError) as caught:
            await fetch(HttpRequest("GET", "http://livekit.example/", {}), GUARD)
        assert str(caught.value) == (
            "cannot reach http://livekit.example/ through the proxy http://127.0.0.1:1: "
            "connection refused"
        )

    play(main)


def test_a_request_goes_through_the_proxy_with_its_password(
    environment: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async with listening(saying(websocket=reply("200 OK", b"hello"))) as server:
            heads: list[bytes] = []

            async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                heads.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(b"HTTP/1.1 200 Go on\r\n\r\n")
                heads.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(reply("200 OK", b"through"))

            async with tcp_server(relay) as port:
                environment.setenv("http_proxy", f"http://us%65r:pass@127.0.0.1:{port}")
                request = HttpRequest("GET", "http://livekit.example:81/a?b=c", {})
                assert await fetch(request, GUARD) == HttpAnswer(200, "through")
                tunnel, inner = heads
                assert tunnel.startswith(b"CONNECT livekit.example:81 ")
                login = base64.b64encode(b"user:pass")
                assert b"Proxy-Authorization: Basic " + login in tunnel
                assert inner.startswith(b"GET /a?b=c HTTP/1.1\r\nHost: livekit.example:81\r\n")
                assert b"Authorization" not in inner
                environment.setenv("no_proxy", "127.0.0.1")
                direct = HttpRequest("GET", f"http://127.0.0.1:{server.port}/a?b=c", {"X": "y"})
                assert await fetch(direct, GUARD) == HttpAnswer(200, "hello")
                [head] = server.heads
                assert head.startswith(b"GET /a?b=c HTTP/1.1\r\n")
                assert b"X: y\r\n" in head

    play(main)


@pytest.mark.parametrize(
    ("variable", "value", "url", "expected"),
    [
        ("https_proxy", "http://p:1", "wss://host", "http://p:1"),
        ("https_proxy", "http://p:1", "ws://host", "http://p:1"),
        ("http_proxy", "http://p:1", "wss://host", None),
        ("wss_proxy", "http://p:1", "wss://host", "http://p:1"),
        ("ws_proxy", "http://p:1", "http://host", "http://p:1"),
        ("socks_proxy", "http://p:1", "wss://host", "socks5h://p:1"),
        ("socks_proxy", "socks5://p:1", "wss://host", "socks5://p:1"),
    ],
)
def test_proxies_are_those_of_the_environment(
    environment: pytest.MonkeyPatch, variable: str, value: str, url: str, expected: str | None
) -> None:
    assert proxy_of(url) is None
    environment.setenv(variable, value)
    assert proxy_of(url) == expected
    environment.setenv("no_proxy", "host")
    assert proxy_of(url) is None


def test_a_proxy_of_another_kind_is_named() -> None:
    assert reached_through("http://a", "socks5h://u:p@host:1") == (
        "http://a through the proxy socks5h://host:1"
    )


def test_requests_go_through_no_proxy_of_another_kind(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("http_proxy", "socks5h://127.0.0.1:1")

    async def main() -> None:
        with pytest.raises(UnreachableError, match="http: proxies alone"):
            await fetch(HttpRequest("GET", "http://livekit.example/", {}), GUARD)

    play(main)


# requests


def test_a_request_has_its_method_and_its_body() -> None:
    async def main() -> None:
        bodies: list[bytes] = []

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"POST /there HTTP/1.1\r\n")
            bodies.append(await reader.readexactly(5))
            writer.write(reply("201 Created", "fertig ä".encode()))

        async with tcp_server(take) as port:
            request = HttpRequest("POST", f"http://127.0.0.1:{port}/there", {}, b"12345")
            assert await fetch(request, GUARD) == HttpAnswer(201, "fertig ä")
        assert bodies == [b"12345"]

    play(main)


def test_a_request_over_tls_shows_nothing_to_a_server_without_it() -> None:
    seen: list[bytes] = []

    async def main() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.append(await reader.read(65_536))
            writer.write(reply("400 No"))

        async with tcp_server(answer) as port:
            request = HttpRequest("GET", f"https://127.0.0.1:{port}/", {"X": SECRET})
            with pytest.raises(UnreachableError, match="cannot reach https://127"):
                await fetch(request, GUARD)

    play(main)
    [hello] = seen
    assert SECRET.encode() not in hello


def test_a_request_that_is_cancelled_hangs_up() -> None:
    async def main() -> None:
        asked, gone = asyncio.Event(), asyncio.Event()

        async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            asked.set()
            assert await reader.read() == b""
            gone.set()

        async with tcp_server(wait) as port:
            request = HttpRequest("GET", f"http://127.0.0.1:{port}/", {})
            fetching = asyncio.create_task(fetch(request, GUARD))
            await asked.wait()
            fetching.cancel()
            await gone.wait()
            with pytest.raises(asyncio.CancelledError):
                await fetching

    play(main)


def test_a_request_that_is_given_up_before_it_is_connected_ends() -> None:
    exchange = http_requests._Exchange(HttpRequest("GET", "http://127.0.0.1:1/", {}), None, 1.0)
    exchange.abort()
    assert isinstance(exchange.run(), OSError)
