"""A room client whose signalling is lost, and a room server that resumes its session."""

import asyncio
import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp import web
from fake_transports import all_events, of
from livekit.protocol.rtc import LeaveRequest
from livekit_scenes import bob_and_alice, call, run, session_of, token, until
from outages import Outage, abort

from rpcproto import OutgoingPacket, PacketKind
from rpcproto.conformance.room_server import RoomServer, Session
from rpcproto.livekit import Room, RpcError, RpcInvocationData, TokenError, connect, join_room
from rpcproto.livekit.backoff import waits
from rpcproto.livekit.stacks import STACKS, Stack, installed_stacks, peer_connection
from rpcproto.livekit.transport import ConnectionState, LiveKitTransport
from rpcproto.transports import PacketReceived


@pytest.fixture(params=STACKS)
def stack(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """A test that asks for it plays with every WebRTC stack."""
    name: Stack = request.param
    if name not in installed_stacks():
        pytest.skip(f"{name} is not installed")
    monkeypatch.setattr("rpcproto.livekit.stacks.STACKS", (name,))
    return name


class Slow:
    """A method that answers when the test says so, and counts how often it runs."""

    def __init__(self, room: Room) -> None:
        self.runs = 0
        self.started = asyncio.Event()
        self.may_answer = asyncio.Event()
        room.local_participant.register_rpc_method("slow", self._answer)

    async def _answer(self, data: RpcInvocationData) -> str:
        self.runs += 1
        self.started.set()
        await self.may_answer.wait()
        return data.payload


def transport_of(room: Room) -> LiveKitTransport:
    return room.local_participant._place


def states_of(room: Room) -> list[ConnectionState]:
    """What the states of the connection will have been."""
    states: list[ConnectionState] = []
    transport_of(room).on_state = lambda state, _: states.append(state)
    return states


async def resumed(server: RoomServer, identity: str) -> None:
    """Cut the signalling of a participant, and wait until it is there again."""
    session = session_of(server, identity)
    socket = session.socket
    abort(session)
    await until(lambda: session.socket is not socket)


@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize("who", ["alice", "bob"])
def test_a_call_lives_through_a_loss_of_the_signalling(who: str) -> None:
    async def scene(server: RoomServer) -> None:
        async with bob_and_alice(server) as (bob, alice):
            slow = Slow(bob)
            sids = [room.local_participant.sid for room in (bob, alice)]
            calling = asyncio.create_task(call(alice, method="slow"))
            await slow.started.wait()
            await resumed(server, who)
            # New calls are made, too.
            assert await call(alice) == "Hello, alice!"
            slow.may_answer.set()
            assert await calling == "Hi"
            assert slow.runs == 1
            assert [room.local_participant.sid for room in (bob, alice)] == sids
            assert (bob.participants, alice.participants) == (("alice",), ("bob",))

    run(scene)


@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize(
    ("who", "signalling"), [("bob", False), ("alice", True)], ids=["network", "both"]
)
def test_a_call_lives_through_a_loss_of_the_network(who: str, signalling: bool) -> None:
    async def scene(server: RoomServer) -> None:
        async with bob_and_alice(server) as (bob, alice):
            slow = Slow(bob)
            sids = [room.local_participant.sid for room in (bob, alice)]
            calling = asyncio.create_task(call(alice, method="slow"))
            await slow.started.wait()
            session = session_of(server, who)
            socket = session.socket
            with Outage(session) as outage:
                if signalling:
                    server.refusal = 503
                    abort(session)
                slow.may_answer.set()
                later = asyncio.create_task(call(alice))
                await until(lambda: outage.lost > 0 and (not signalling or server.refused >= 1))
                server.refusal = None
            assert await calling == "Hi"
            assert await later == "Hello, alice!"
            assert slow.runs == 1
            assert [room.local_participant.sid for room in (bob, alice)] == sids
            await until(lambda: (session.socket is not socket) == signalling)

    run(scene)


@pytest.mark.usefixtures("stack")
def test_what_the_server_has_not_seen_is_sent_again() -> None:
    async def scene(server: RoomServer) -> None:
        async with bob_and_alice(server) as (bob, alice):
            slow = Slow(bob)
            assert await call(alice) == "Hello, alice!"
            session_of(server, "alice").loses_packets = True
            sent = transport_of(alice)._link._sent
            before = sent.last_sequence
            calling = asyncio.create_task(call(alice, method="slow"))
            await until(lambda: sent.last_sequence > before)
            await resumed(server, "alice")
            await slow.started.wait()
            slow.may_answer.set()
            assert await calling == "Hi"
            assert slow.runs == 1

    run(scene)


def test_what_we_have_not_seen_the_server_sends_again() -> None:
    async def scene(server: RoomServer) -> None:
        async with bob_and_alice(server) as (bob, alice):
            slow = Slow(bob)
            calling = asyncio.create_task(call(alice, method="slow"))
            await slow.started.wait()
            session = session_of(server, "alice")
            session.loses_packets = True
            its_session, last = session_of(server, "bob"), server.room("lobby").last_sequence
            before = last(its_session)
            slow.may_answer.set()
            await until(lambda: last(its_session) > before)
            await resumed(server, "alice")
            assert await calling == "Hi"
            assert slow.runs == 1

    run(scene)


def test_what_comes_twice_is_delivered_once() -> None:
    async def scene(server: RoomServer) -> None:
        alice = await join_room(server.url, token("alice"))
        bob = await join_room(server.url, token("bob"))
        for number in range(3):
            data = b"*\x03bob\xa0\x06%c" % number  # a field that nobody knows
            await alice.send(of(OutgoingPacket(data, "bob", "", PacketKind.ACK, 0)))
        received = bob._link._received
        await until(lambda: received.last_sequences() == {alice.sid: 3})
        session = session_of(server, "bob")
        session.room.send_again(session, {alice.sid: 1})
        data = b"*\x03bob"
        await alice.send(of(OutgoingPacket(data, "bob", "", PacketKind.ACK, 0)))
        await until(lambda: received.last_sequences() == {alice.sid: 4})
        await alice.aclose()
        await bob.aclose()
        events = await all_events(bob)
        assert sum(isinstance(event, PacketReceived) for event in events) == 4

    run(scene)


def test_a_server_that_cannot_be_reached_for_a_while_is_tried_again() -> None:
    async def scene(server: RoomServer) -> None:
        async with bob_and_alice(server) as (bob, alice):
            slow = Slow(bob)
            calling = asyncio.create_task(call(alice, method="slow"))
            await slow.started.wait()
            server.refusal = 503
            session = session_of(server, "alice")
            socket = session.socket
            abort(session)
            await until(lambda: server.refused >= 2)
            # The data channel carries on.
            assert await call(alice) == "Hello, alice!"
            server.refusal = None
            await until(lambda: session.socket is not socket)
            slow.may_answer.set()
            assert await calling == "Hi"

    run(scene)


def leave_to_resume(server: RoomServer) -> None:
    session_of(server, "bob").say_leave(LeaveRequest.RESUME)


def fall_silent(server: RoomServer) -> None:
    server.answers_pings = False


def cut(server: RoomServer) -> None:
    abort(session_of(server, "bob"))


@pytest.mark.parametrize(
    ("lose", "options"),
    [
        pytest.param(leave_to_resume, {}, id="the server asks for it"),
        pytest.param(fall_silent, {"ping_interval": 1, "ping_timeout": 1}, id="silence"),
        pytest.param(cut, {"paths": ["/rtc"]}, id="older path"),
    ],
)
def test_where_the_server_gives_up_the_connection_too_the_session_survives_if_ice_can_be_restarted(
    lose: Callable[[RoomServer], None], options: dict[str, Any], stack: Stack
) -> None:
    async def scene(server: RoomServer) -> None:
        async with bob_and_alice(server) as (bob, alice):
            states, sid = states_of(bob), bob.local_participant.sid
            session = session_of(server, "bob")
            socket = session.socket
            lose(server)
            if peer_connection(stack).can_restart_ice:
                await until(lambda: session.socket is not socket)
                assert bob.local_participant.sid == sid
            else:
                await until(lambda: bob.local_participant.sid != sid)
                assert states[0] is ConnectionState.REJOINING
                await alice.wait_for_participant("bob")
            server.answers_pings = True
            assert await call(alice) == "Hello, alice!"

    run(scene, **options)


def test_who_left_in_the_meantime_has_left() -> None:
    async def scene(server: RoomServer) -> None:
        async with bob_and_alice(server) as (_, alice):
            async with connect(server.url, token("carol")):
                await alice.wait_for_participant("carol")
                server.refusal = 503
                abort(session_of(server, "alice"))
                await until(lambda: server.refused >= 1)
            server.refusal = None
            async with connect(server.url, token("dave")):
                await until(lambda: alice.participants == ("bob", "dave"))

    run(scene)


def test_a_session_that_the_server_has_forgotten_is_joined_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rpcproto.livekit.transport.DEPARTURE_GRACE", 0.1)

    async def scene(server: RoomServer) -> None:
        async with bob_and_alice(server) as (bob, alice):
            states = states_of(bob)
            sid = bob.local_participant.sid
            slow = Slow(bob)
            calling = asyncio.create_task(call(alice, method="slow"))
            await slow.started.wait()
            await server._end(session_of(server, "bob"))
            with pytest.raises(RpcError) as caught:
                await calling
            assert caught.value.code == RpcError.ErrorCode.RECIPIENT_DISCONNECTED
            await until(lambda: bob.local_participant.sid != sid)
            await until(lambda: states[-1:] == [ConnectionState.CONNECTED])
            assert ConnectionState.REJOINING in states

    run(scene)


def test_a_server_that_refuses_to_resume_has_the_last_word() -> None:
    async def scene(server: RoomServer) -> None:
        async with connect(server.url, token("bob")) as bob:
            server.refusal = 401
            abort(session_of(server, "bob"))
            with pytest.raises(TokenError):
                await bob.wait_closed()

    run(scene)


def test_calls_fail_when_the_session_cannot_be_resumed_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rpcproto.livekit.signal_socket.RESUME_TIME", 0.2)
    monkeypatch.setattr("rpcproto.livekit.signal_socket.RESUME_TIME_WITHOUT_ICE", 0.2)

    async def scene(server: RoomServer) -> None:
        async with bob_and_alice(server) as (bob, alice):
            slow = Slow(bob)
            calling = asyncio.create_task(call(alice, method="slow"))
            await slow.started.wait()
            server.refusal = 503
            abort(session_of(server, "alice"))
            with pytest.raises(RpcError) as caught:
                await calling
            assert caught.value.code == RpcError.ErrorCode.RECIPIENT_DISCONNECTED
            server.refusal = None
            await alice.wait_for_participant("bob")
            assert await call(alice) == "Hello, alice!"

    run(scene)


def test_a_server_that_says_nothing_on_a_new_socket_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rpcproto.livekit.signal_socket.ATTEMPT_TIME", 0.1)
    resume, silent = Session.resume, asyncio.Event()

    async def say_nothing(session: Session, socket: web.WebSocketResponse) -> None:
        monkeypatch.setattr(Session, "resume", resume)
        session.socket = socket
        await socket.receive()
        silent.set()

    async def scene(server: RoomServer) -> None:
        async with bob_and_alice(server) as (bob, alice):
            sid = alice.local_participant.sid
            monkeypatch.setattr(Session, "resume", say_nothing)
            abort(session_of(server, "alice"))
            await silent.wait()
            session = session_of(server, "alice")
            socket = session.socket
            await until(lambda: session.socket is not socket)
            assert await call(alice) == "Hello, alice!"
            assert (alice.local_participant.sid, bob.participants) == (sid, ("alice",))

    run(scene)


def test_a_server_that_drops_every_new_socket_is_not_dialled_in_a_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[float] = []

    def draw() -> Iterator[float]:
        for wait in waits():
            drawn.append(wait)
            yield 0.0

    monkeypatch.setattr("rpcproto.livekit.signal_socket.waits", draw)
    resume, resumes = Session.resume, 0

    async def resume_and_abort(session: Session, socket: web.WebSocketResponse) -> None:
        nonlocal resumes
        resumes += 1
        if resumes < 5:
            asyncio.get_running_loop().call_later(0.05, abort, session)
        await resume(session, socket)

    async def scene(server: RoomServer) -> None:
        async with bob_and_alice(server) as (_, alice):
            monkeypatch.setattr(Session, "resume", resume_and_abort)
            abort(session_of(server, "alice"))
            await until(lambda: resumes == 5)
            assert await call(alice) == "Hello, alice!"

    run(scene)
    # The waits go on where they were: the fifth is up to 4.8 seconds.
    assert len(drawn) == 5


def test_a_connection_that_has_failed_is_resumed_with_ice_restarted(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rpcproto.livekit.link.BELIEF_TIME", 0.0)

    async def scene(server: RoomServer) -> None:
        async with bob_and_alice(server) as (bob, alice):
            states, sid = states_of(bob), bob.local_participant.sid
            slow = Slow(bob)
            calling = asyncio.create_task(call(alice, method="slow"))
            await slow.started.wait()
            transport_of(bob)._link._lose("the WebRTC connection has failed")  # as a stack does
            await until(lambda: states[-1:] == [ConnectionState.CONNECTED])
            slow.may_answer.set()
            if peer_connection(stack).can_restart_ice:
                assert await calling == "Hi"
                assert (states[0], bob.local_participant.sid) == (ConnectionState.RESUMING, sid)
            else:
                with pytest.raises(RpcError):
                    await calling
                assert states[0] is ConnectionState.REJOINING
                await alice.wait_for_participant("bob")
            assert await call(alice) == "Hello, alice!"

    run(scene)


def test_a_connection_through_which_nothing_gets_after_resuming_is_given_up(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not peer_connection(stack).can_restart_ice:
        pytest.skip("its connection ends by itself")
    monkeypatch.setattr("rpcproto.livekit.link.BELIEF_TIME", 0.0)
    monkeypatch.setattr("rpcproto.livekit.link.ICE_TIME", 0.0)
    never = property(lambda _: False)

    async def scene(server: RoomServer) -> None:
        async with bob_and_alice(server) as (bob, alice):
            sid = bob.local_participant.sid
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("rpcproto.livekit.negotiation.PeerConnections.is_connected", never)
                abort(session_of(server, "bob"))
                await until(lambda: bob.local_participant.sid != sid)
            await alice.wait_for_participant("bob")
            assert await call(alice) == "Hello, alice!"

    run(scene)


def test_the_state_of_the_connection_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rpcproto.livekit.link.BELIEF_TIME", 0.0)

    async def scene(server: RoomServer) -> None:
        async with connect(server.url, token("bob")) as bob:
            states = states_of(bob)
            assert transport_of(bob).state is ConnectionState.CONNECTED
            await resumed(server, "bob")
            await until(lambda: len(states) == 2)
        assert states == [
            ConnectionState.RESUMING,
            ConnectionState.CONNECTED,
            ConnectionState.DISCONNECTED,
        ]
        assert transport_of(bob).state is ConnectionState.DISCONNECTED

    run(scene)


@pytest.mark.usefixtures("stack")
def test_leaving_while_resuming_leaves_nothing_behind() -> None:
    async def scene(server: RoomServer) -> None:
        async with connect(server.url, token("bob")):
            server.refusal = 503
            abort(session_of(server, "bob"))
            await until(lambda: server.refused >= 1)
        gc.collect()

    run(scene)


def test_attempts_wait_at_most_twice_as_long_each_time_up_to_7_seconds() -> None:
    longest = waits(lambda _, most: most)
    assert [next(longest) for _ in range(7)] == [0.3, 0.6, 1.2, 2.4, 4.8, 7.0, 7.0]
    assert all(0 <= next(each) <= 0.3 for each in (waits() for _ in range(100)))
