"""A function in place of a token: asked each time that we join."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from livekit.protocol.rtc import LeaveRequest, SignalResponse
from livekit_scenes import bob_and_alice, call, greet, run, session_of, token, until
from outages import abort

from rpcproto import LocalProtocolError
from rpcproto.conformance.room_server import RoomServer
from rpcproto.livekit import RpcError, TokenError, UnreachableError, connect, join_room


class Source:
    """Gives tokens, and counts them."""

    def __init__(self) -> None:
        self.given = 0
        self.error: Exception | None = None
        self.before: Callable[[], None] = lambda: None

    def ask(self) -> str:
        self.before()
        self.given += 1
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return token("bob")

    async def ask_slowly(self) -> str:
        await asyncio.sleep(0)
        return self.ask()


async def come_again(server: RoomServer, source: Callable[[], str | Awaitable[str]]) -> None:
    async with connect(server.url, source) as bob:
        bob.local_participant.register_rpc_method("greet", greet)
        sid = bob.local_participant.sid
        session = session_of(server, "bob")
        # The server's own is not needed.
        session.send(SignalResponse(refresh_token="expired"))
        session.say_leave(LeaveRequest.RECONNECT)
        await until(lambda: bob.local_participant.sid != sid)
        async with connect(server.url, token("alice")) as alice:
            await alice.wait_for_participant("bob")
            assert await call(alice) == "Hello, alice!"


@pytest.mark.parametrize("is_slow", [False, True])
def test_a_function_is_asked_for_a_token_each_time_that_we_join(*, is_slow: bool) -> None:
    source = Source()
    run(lambda server: come_again(server, source.ask_slowly if is_slow else source.ask))
    assert source.given == 2


def test_what_the_function_raises_is_raised_the_first_time() -> None:
    source = Source()
    source.error = ZeroDivisionError()

    async def scene(server: RoomServer) -> None:
        with pytest.raises(ZeroDivisionError):
            await join_room(server.url, source.ask)

    run(scene)


def test_what_the_function_raises_later_is_logged_and_it_is_asked_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = Source()
    source.before = lambda: setattr(source, "error", OSError("down")) if source.given == 1 else None
    run(lambda server: come_again(server, source.ask))
    assert source.given == 3
    assert "bob: no new token" in caplog.text


@pytest.mark.parametrize("bad", ["", "a b", None])
def test_what_the_function_returns_must_be_a_token(bad: str) -> None:
    async def scene(server: RoomServer) -> None:
        with pytest.raises(LocalProtocolError):
            await join_room(server.url, lambda: bad)

    run(scene)


def test_a_function_that_takes_too_long_is_told_so() -> None:
    async def never() -> str:
        await asyncio.Event().wait()
        return ""

    async def scene(server: RoomServer) -> None:
        with pytest.raises(UnreachableError, match=r"no token from the function .* in 0\.05 s"):
            await join_room(server.url, never, connect_timeout=0.05)

    run(scene)


def test_a_session_that_is_refused_since_its_token_has_expired_is_joined_anew() -> None:
    source = Source()

    async def scene(server: RoomServer) -> None:
        async with connect(server.url, source.ask) as bob:
            sid = bob.local_participant.sid
            server.refusal = 401
            source.before = lambda: setattr(server, "refusal", None)
            abort(session_of(server, "bob"))
            await until(lambda: bob.local_participant.sid != sid)

    run(scene)
    assert source.given == 2


def test_a_fresh_token_that_is_refused_is_the_end() -> None:
    source = Source()

    async def scene(server: RoomServer) -> None:
        async with connect(server.url, source.ask) as bob:
            server.refusal = 401
            abort(session_of(server, "bob"))
            with pytest.raises(TokenError):
                await bob.wait_closed()

    run(scene)
    assert source.given == 2


def test_draining_waits_for_the_data_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(server: RoomServer) -> None:
        async with bob_and_alice(server) as (bob, alice):
            kind = type(bob._transport._link._connections.sender)
            monkeypatch.setattr(kind, "buffered_bytes", 1)
            us = bob.local_participant
            assert not await us.drain(0.02)
            draining = asyncio.create_task(us.drain())
            with pytest.raises(RpcError):
                await call(alice)
            assert not draining.done()
            monkeypatch.undo()
            assert await draining
            assert await us.drain(0)

    run(scene)
