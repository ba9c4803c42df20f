"""The room client and a room server of the tests, in one process: real sockets, real WebRTC."""

import asyncio
import json
import pickle
import random
import string
from contextlib import suppress
from pathlib import Path

import pytest
from fake_transports import all_events, of
from livekit.protocol.models import DisconnectReason
from livekit.protocol.rtc import LeaveRequest, SignalResponse, SignalTarget, TrickleRequest
from livekit_scenes import (
    GUARD,
    bob_and_alice,
    call,
    greet,
    nothing_goes_on,
    run,
    saying,
    session_of,
    token,
    until,
)
from outages import abort

from rpcproto import LocalProtocolError, OutgoingPacket, PacketKind
from rpcproto.conformance.room_server import RoomServer, Session
from rpcproto.conformance.routing import Passing
from rpcproto.livekit import (
    ConnectError,
    LeaveError,
    RefusedError,
    Room,
    RpcError,
    RpcInvocationData,
    TokenError,
    UnreachableError,
    connect,
    join_room,
)
from rpcproto.livekit.link import MAX_EARLY_PACKETS, Link, is_loopback
from rpcproto.livekit.peer_connection import (
    MAX_TURN_SERVERS,
    Callbacks,
    TurnServer,
    max_message_bytes,
    turn_servers,
)
from rpcproto.livekit.signalling import IceServer
from rpcproto.livekit.stacks import STACKS, Stack, installed_stacks, peer_connection
from rpcproto.transports import PacketReceived, PacketsNotSent


@pytest.fixture(params=STACKS, autouse=True)
def stack(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """Every test plays with every WebRTC stack."""
    name: Stack = request.param
    if name not in installed_stacks():
        pytest.skip(f"{name} is not installed")
    monkeypatch.setattr("rpcproto.livekit.stacks.STACKS", (name,))
    return name


each_path = pytest.mark.parametrize("path", ["/rtc/v1", "/rtc"])


# in the room


def test_the_snippets_of_livekits_documentation_run_as_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def scene(server: RoomServer) -> None:
        async with connect(server.url, token("bob")) as room:

            @room.local_participant.register_rpc_method("greet")
            async def handle_greet(data: RpcInvocationData) -> str:
                print(f"Received greeting from {data.caller_identity}: {data.payload}")
                return f"Hello, {data.caller_identity}!"

            async with connect(server.url, token("alice")) as room:  # noqa: PLW2901
                try:
                    response = await room.local_participant.perform_rpc(
                        destination_identity="bob", method="greet", payload="Hello from RPC!"
                    )
                    print(f"RPC response: {response}")
                except Exception as e:
                    print(f"RPC call failed: {e}")
                try:
                    await room.local_participant.perform_rpc(
                        destination_identity="bob",
                        method="none",
                        payload="",
                        response_timeout=5.0,
                        max_round_trip_latency=2.0,
                    )
                except RpcError as e:
                    print(f"RPC call failed: {e.code} {e.message}")

    run(scene)
    assert capsys.readouterr().out.splitlines() == [
        "Received greeting from alice: Hello from RPC!",
        "RPC response: Hello, alice!",
        "RPC call failed: 1400 Method not supported at destination",
    ]


@each_path
def test_both_ways_in_carry_calls_large_and_small(path: str) -> None:
    large = "".join(random.Random(0).choices(string.ascii_letters, k=500_000))

    async def scene(server: RoomServer) -> None:
        kinds: list[tuple[str, str]] = []

        def look(passing: Passing) -> list[Passing]:
            kinds.append((passing.sender, passing.kind))
            return [passing]

        server.room("lobby").interference = look
        async with bob_and_alice(server) as (bob, alice):
            bob.local_participant.register_rpc_method("echo", lambda data: data.payload)
            assert await call(alice) == "Hello, alice!"
            # As v2, for both were told what the other can do.
            assert ("alice", "stream_header") in kinds
            assert ("bob", "stream_header") in kinds
            assert await call(alice, large, "echo") == large

    run(scene, paths=[path])


def test_who_is_here_is_known_from_the_start() -> None:
    async def scene(server: RoomServer) -> None:
        async with bob_and_alice(server) as (bob, alice):
            assert alice.participants == ("bob",)
            assert alice.name == "lobby"
            assert alice.server_version == "1.13.5"
            assert alice.local_participant.identity == "alice"
            assert alice.local_participant.sid == session_of(server, "alice").info.sid
            async with connect(server.url, token("carol")) as carol:
                assert carol.participants == ("bob", "alice")
                await bob.wait_for_participant("carol")
            await until(lambda: "carol" not in bob.participants)

    run(scene)


def test_a_request_that_comes_at_once_finds_the_methods_of_the_body() -> None:
    async def scene(server: RoomServer) -> None:
        async with connect(server.url, token("alice")) as alice:
            calling = asyncio.create_task(_call_as_soon_as_bob_is_here(alice))
            async with connect(server.url, token("bob")) as bob:
                bob.local_participant.register_rpc_method("greet", greet)
                assert await calling == "Hello, alice!"

    run(scene)


async def _call_as_soon_as_bob_is_here(alice: Room) -> str:
    await alice.wait_for_participant("bob")
    return await call(alice)


def test_an_old_server_is_known_as_such() -> None:
    """R11"""

    async def scene(server: RoomServer) -> None:
        async with bob_and_alice(server) as (_, alice):
            with pytest.raises(RpcError) as caught:
                await call(alice)
            assert caught.value.code == RpcError.ErrorCode.UNSUPPORTED_SERVER

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rpcproto.conformance.room_server.SERVER_VERSION", "1.7.2")
        run(scene)


def test_what_nobody_reads_is_dropped_and_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rpcproto.transports.inbox.MAX_WAITING_EVENTS", 10)

    async def scene(server: RoomServer) -> None:
        alice = await join_room(server.url, token("alice"))
        bob = await join_room(server.url, token("bob"))
        for _ in range(30):
            await alice.send(of(OutgoingPacket(b"*\x03bob", "bob", "", PacketKind.ACK, 0)))
        await until(lambda: "events wait to be read" in caplog.text)
        await alice.aclose()
        await bob.aclose()
        events = await all_events(bob)
        assert 1 <= sum(isinstance(event, PacketReceived) for event in events) <= 10
        assert "messages were dropped" in caplog.text

    run(scene)


def test_of_what_comes_before_we_can_send_so_much_is_kept() -> None:
    async def main() -> None:
        told: list[object] = []
        link = Link("ws://127.0.0.1:1", "token", "/rtc", peer_connection(None), told.append)
        for _ in range(MAX_EARLY_PACKETS + 1):
            link._receive(b"")  # as its peer connection does
        assert (told, len(link._early_packets)) == ([], MAX_EARLY_PACKETS)

    asyncio.run(main())


def test_packets_are_numbered_as_they_leave_and_no_number_is_burned() -> None:
    async def scene(server: RoomServer) -> None:
        sequences: list[int] = []

        def look(passing: Passing) -> list[Passing]:
            if passing.sender == "alice":
                sequences.append(passing.packet.sequence)
            return [passing]

        server.room("lobby").interference = look
        async with connect(server.url, token("bob")) as bob:
            transport = await join_room(server.url, token("alice"))
            for size in (10, 64_000, 10):
                data = b"\x22\x03bob" + b"\xfa\x7f" + _varint(size) + bytes(size)
                packet = OutgoingPacket(data, "bob", "id", PacketKind.REQUEST, 0)
                with suppress(PacketsNotSent):
                    await transport.send(of(packet))
            await until(lambda: len(sequences) == 2)
            await transport.aclose()
            await transport.aclose()
            assert bob.participants is not None
        assert sequences == [1, 2]

    run(scene)


def _varint(number: int) -> bytes:
    low = [number >> shift & 0x7F for shift in range(0, max(1, number.bit_length()), 7)]
    return bytes([byte | 0x80 for byte in low[:-1]] + low[-1:])


def test_a_slow_channel_holds_the_engine_back() -> None:
    large = "".join(random.Random(0).choices(string.ascii_letters, k=1_000_000))

    async def scene(server: RoomServer) -> None:
        async with bob_and_alice(server) as (bob, alice):
            bob.local_participant.register_rpc_method("size", lambda data: str(len(data.payload)))
            calling = asyncio.create_task(call(alice, large, "size"))
            us = alice.local_participant
            await until(lambda: us.statistics().open_streams_out == 1)
            # A small call passes the large one, which waits in the engine and not in the channel.
            assert await call(alice) == "Hello, alice!"
            assert not calling.done()
            assert await calling == "1000000"

    run(scene)


@pytest.mark.parametrize("size", [10, 12_000])
def test_an_answer_that_is_given_arrives_though_we_leave_at_once(size: int) -> None:
    async def scene(server: RoomServer) -> None:
        async with connect(server.url, token("alice")) as alice:
            async with connect(server.url, token("bob")) as bob:
                asked = asyncio.Event()

                @bob.local_participant.register_rpc_method("bye")
                def bye(_: RpcInvocationData) -> str:
                    asked.set()
                    return "".join(random.Random(0).choices(string.ascii_letters, k=size))

                await alice.wait_for_participant("bob")
                calling = asyncio.create_task(call(alice, method="bye"))
                await asked.wait()
            assert len(await calling) == size

    run(scene)


# the connection is lost


@each_path
def test_a_session_that_the_server_does_not_resume_is_joined_anew(
    path: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rpcproto.livekit.transport.DEPARTURE_GRACE", 0.1)

    async def scene(server: RoomServer) -> None:
        async with bob_and_alice(server) as (bob, alice):
            started = asyncio.Event()

            @bob.local_participant.register_rpc_method("sleep")
            async def sleep(_: RpcInvocationData) -> str:
                started.set()
                await asyncio.sleep(3600)
                return "Good morning"

            sid = bob.local_participant.sid
            calling = asyncio.create_task(call(alice, method="sleep"))
            await started.wait()
            abort(session_of(server, "bob"))
            # The caller learns that the old bob has left.
            with pytest.raises(RpcError) as caught:
                await calling
            assert caught.value.code == RpcError.ErrorCode.RECIPIENT_DISCONNECTED
            await alice.wait_for_participant("bob")
            await until(lambda: bob.local_participant.sid != sid)
            # The methods are those from before.
            assert await call(alice) == "Hello, alice!"

    run(scene, paths=[path], resume_time=0)
    assert "connection is lost" in caplog.text


def test_calls_fail_while_there_is_no_connection_with_the_reason() -> None:
    async def scene(server: RoomServer) -> None:
        async with bob_and_alice(server) as (_, alice):
            server.refusal = 404
            abort(session_of(server, "alice"))
            await until(lambda: alice.participants == ())
            with pytest.raises(RpcError) as caught:
                await call(alice)
            assert caught.value.code == RpcError.ErrorCode.RECIPIENT_DISCONNECTED
            assert "lost" in str(caught.value.__cause__)
            server.refusal = None
            await alice.wait_for_participant("bob")
            assert await call(alice) == "Hello, alice!"

    run(scene, resume_time=0)


def test_the_same_engine_remembers_what_it_has_answered() -> None:
    """R16, R41: the server sends again what it does not know to have arrived."""
    runs = 0

    async def scene(server: RoomServer) -> None:
        async with bob_and_alice(server) as (bob, alice):
            sid = bob.local_participant.sid

            @bob.local_participant.register_rpc_method("count")
            def count(_: RpcInvocationData) -> str:
                nonlocal runs
                runs += 1
                return str(runs)

            assert await call(alice, method="count") == "1"
            server.room("lobby").replay_on_join = True
            abort(session_of(server, "bob"))
            await until(lambda: bob.local_participant.sid != sid)
            await bob.wait_for_participant("alice")
            await alice.wait_for_participant("bob")
            assert await call(alice, method="count") == "2"

    run(scene, resume_time=0)
    assert runs == 2


def test_a_server_that_wants_us_to_join_again_sees_us_again() -> None:
    async def scene(server: RoomServer) -> None:
        async with bob_and_alice(server) as (bob, alice):
            sid = bob.local_participant.sid
            session_of(server, "bob").say_leave(LeaveRequest.RECONNECT)
            await until(lambda: bob.local_participant.sid != sid)
            await until(lambda: "bob" in alice.participants)
            assert await call(alice) == "Hello, alice!"

    run(scene)


def test_the_next_join_takes_the_token_that_the_server_gave() -> None:
    async def scene(server: RoomServer) -> None:
        async with bob_and_alice(server) as (bob, _):
            transport = bob.local_participant._place
            session = session_of(server, "bob")
            session.send(SignalResponse(refresh_token=token("bob") + "x"))
            await until(lambda: transport._link.token.endswith("x"))
            sid = bob.local_participant.sid
            session.say_leave(LeaveRequest.RECONNECT)
            await until(lambda: bob.local_participant.sid != sid)
            assert transport._link.token.endswith("x")

    run(scene)


def test_a_closed_data_channel_is_a_lost_connection() -> None:
    async def scene(server: RoomServer) -> None:
        async with bob_and_alice(server) as (_, alice):
            sid = alice.local_participant.sid
            for connection in session_of(server, "alice")._connections:
                await connection.close()
            # What is sent now is lost with it.
            with pytest.raises(RpcError) as caught:
                await call(alice)
            assert caught.value.code == RpcError.ErrorCode.RECIPIENT_DISCONNECTED
            assert str(caught.value.__cause__) == "the data channel was closed"
            await alice.wait_for_participant("bob")
            assert await call(alice) == "Hello, alice!"
            assert alice.local_participant.sid != sid

    run(scene)


def test_a_silent_server_is_a_lost_connection() -> None:
    async def scene(server: RoomServer) -> None:
        async with connect(server.url, token("bob")) as bob:
            sid = bob.local_participant.sid
            server.answers_pings = False
            await until(lambda: bob.local_participant.sid != sid)

    run(scene, ping_interval=1, ping_timeout=1, resume_time=0)


# put out, and not let in


def test_who_is_put_out_is_told_why_and_stays_away() -> None:
    async def scene(server: RoomServer) -> None:
        async with bob_and_alice(server) as (bob, alice):
            leaving = asyncio.create_task(bob.wait_closed())
            async with connect(server.url, token("bob")) as other_bob:
                with pytest.raises(LeaveError) as caught:
                    await leaving
                assert caught.value.reason == "DUPLICATE_IDENTITY"
                with pytest.raises(RpcError) as failed:
                    await bob.local_participant.perform_rpc(
                        destination_identity="alice", method="greet", payload=""
                    )
                assert isinstance(failed.value.__cause__, LeaveError)
                with pytest.raises(RpcError):
                    await bob.wait_for_participant("nobody")
                await alice.wait_for_participant("bob")
                assert other_bob.participants == ("alice",)

    run(scene)


def test_a_server_that_refuses_us_later_has_the_last_word() -> None:
    async def scene(server: RoomServer) -> None:
        async with connect(server.url, token("bob")) as bob:
            server.refusal = 401
            session_of(server, "bob").say_leave(LeaveRequest.RECONNECT)
            with pytest.raises(TokenError):
                await bob.wait_closed()

    run(scene)


def test_leaving_by_oneself_is_no_error() -> None:
    async def scene(server: RoomServer) -> None:
        async with connect(server.url, token("bob")) as bob:
            waiting = asyncio.create_task(bob.wait_closed())
            await asyncio.sleep(0)
        await waiting
        assert server.room("lobby").members == {}

    run(scene)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, TokenError), (403, RefusedError), (404, RefusedError), (503, RefusedError)],
)
def test_a_refusal_says_why(status: int, kind: type[ConnectError]) -> None:
    async def scene(server: RoomServer) -> None:
        server.refusal = status
        with pytest.raises(ConnectError, match="refused on command") as caught:
            async with connect(server.url, token("bob")):
                raise AssertionError("we are in")
        assert type(caught.value) is kind

    run(scene)


def test_a_refusal_without_a_word_is_asked_about() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        reason = b"the token has expired" if b"/rtc/v1/validate?" in request else b""
        length = str(len(reason)).encode()
        writer.write(b"HTTP/1.1 401 No\r\nConnection: close\r\nContent-Length: " + length)
        writer.write(b"\r\n\r\n" + reason)
        writer.close()

    async def scene(_: RoomServer) -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(TokenError, match="the token has expired"):
                await join_room(f"ws://127.0.0.1:{port}", token("bob"))

    run(scene)


def test_where_nobody_listens_nobody_is_reached() -> None:
    async def scene(server: RoomServer) -> None:
        with pytest.raises(UnreachableError, match="connection refused"):
            await join_room("ws://127.0.0.1:1", token("bob"))

    run(scene)


def test_a_server_that_says_nothing_is_waited_for_only_so_long() -> None:
    async def hear_them_out(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def scene(_: RoomServer) -> None:
        silent = await asyncio.start_server(hear_them_out, "127.0.0.1", 0)
        async with silent:
            port = silent.sockets[0].getsockname()[1]
            with pytest.raises(UnreachableError, match="no answer from the server in"):
                await join_room(f"ws://127.0.0.1:{port}", token("bob"), connect_timeout=0.1)

    run(scene)


async def nothing(*_: object) -> None:
    """What a server does that hangs."""


async def never(*_: object, **__: object) -> None:
    """What takes too long."""
    await asyncio.Event().wait()


async def assert_joining_fails(server: RoomServer, expected: str) -> None:
    """Why, in words; a busy machine has more time to come as far as that."""
    words = ""
    for seconds in (0.3, 3.0, 15.0):
        with pytest.raises(UnreachableError) as caught:
            await join_room(server.url, token("bob"), connect_timeout=seconds)
        words = str(caught.value)
        assert words.startswith(f"cannot join a room at {server.url}: ")
        assert words.endswith(f" in {seconds:g} s")
        words = words.removeprefix(f"cannot join a room at {server.url}: ")
        words = words.removesuffix(f" in {seconds:g} s")
        if words == expected:
            return
    assert words == expected


TURN = "turn:127.0.0.1:9?transport=tcp"


def with_turn(response: SignalResponse) -> list[SignalResponse]:
    if response.HasField("join"):
        response.join.ice_servers.add(urls=[TURN], username="user", credential="secret")
    return [response]


def test_a_server_that_does_not_answer_our_offer_is_told_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Session, "send", saying(with_turn))
    monkeypatch.setattr(Session, "_answer", nothing)

    async def scene(server: RoomServer) -> None:
        await assert_joining_fails(server, "the server did not answer our offer")

    run(scene)


def test_a_server_that_does_not_offer_its_connection_is_told_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Session, "_offer_subscriber", nothing)

    async def scene(server: RoomServer) -> None:
        await assert_joining_fails(server, "the server did not offer its connection")

    run(scene, paths=["/rtc"])


def test_gathering_that_takes_its_time_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from rpcproto.livekit.stacks import peer_connection  # noqa: PLC0415

    monkeypatch.setattr(peer_connection(None), "begin", never)

    async def scene(server: RoomServer) -> None:
        words = "our own network addresses were still being looked for"
        await assert_joining_fails(server, words)
        monkeypatch.setattr(Session, "send", saying(with_turn))
        await assert_joining_fails(server, f"{words}; the TURN server may not answer: {TURN}")

    run(scene)


def test_packets_that_do_not_get_through_are_told_of_with_the_turn_servers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unreachable(response: SignalResponse) -> list[SignalResponse]:
        if response.HasField("answer"):
            # As behind a firewall: the server's addresses do not lead to it.
            lines = response.answer.sdp.splitlines()
            kept = [line for line in lines if "candidate" not in line]
            response.answer.sdp = "".join(f"{line}\r\n" for line in kept)
        return [response] if response.WhichOneof("message") != "trickle" else []

    monkeypatch.setattr(Session, "send", saying(unreachable))

    async def scene(server: RoomServer) -> None:
        await assert_joining_fails(
            server, "no packet got through to the server (UDP blocked, and it names no TURN server)"
        )
        monkeypatch.undo()
        monkeypatch.setattr(Session, "send", saying(lambda one: unreachable(with_turn(one)[0])))
        await assert_joining_fails(
            server, f"no packet got through to the server, neither directly nor by {TURN}"
        )

    run(scene)


@pytest.mark.parametrize(
    "url", ["", "tcp://a", "ws://", "ws://a:x", "ws://u@a", "ws://a?b", "\udcff"]
)
def test_what_is_no_url_of_a_server_is_misuse(url: str) -> None:
    async def main() -> None:
        with pytest.raises(LocalProtocolError):
            await join_room(url, "token")

    asyncio.run(main())


@pytest.mark.parametrize("bad", ["", " ", "a b", "a\r\nX: y", "\xe9", "\udcff"])
def test_what_cannot_stand_in_a_header_is_no_token(bad: str) -> None:
    async def main() -> None:
        with pytest.raises(LocalProtocolError):
            await join_room("ws://127.0.0.1:1", bad)

    asyncio.run(main())


def test_a_host_that_cannot_be_one_is_not_reached() -> None:
    async def main() -> None:
        with pytest.raises(UnreachableError, match="cannot reach"):
            await join_room(f"ws://{'a' * 64}.example", "token")

    asyncio.run(main())


def test_errors_survive_being_pickled() -> None:
    error = pickle.loads(pickle.dumps(LeaveError("we were removed", "PARTICIPANT_REMOVED")))
    assert (str(error), error.reason) == ("we were removed", "PARTICIPANT_REMOVED")


# signalling that is out of the ordinary


@each_path
def test_a_server_may_tell_its_candidates_one_by_one(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tell_apart(response: SignalResponse) -> list[SignalResponse]:
        kind = response.WhichOneof("message")
        if kind not in ("answer", "offer"):
            return [response]
        description = getattr(response, kind)
        lines = description.sdp.splitlines()
        apart = [line[2:] for line in lines if line.startswith("a=candidate:")]
        assert apart != []
        description.sdp = "".join(f"{line}\r\n" for line in lines if "candidate" not in line)
        tcp = "candidate:1 1 tcp 1 127.0.0.1 9 typ host tcptype passive"
        target = SignalTarget.PUBLISHER if kind == "answer" else SignalTarget.SUBSCRIBER
        first, second, *others = (
            SignalResponse(
                trickle=TrickleRequest(target=target, candidateInit=json.dumps({"candidate": text}))
            )
            for text in ("candidate:nonsense", tcp, *apart)
        )
        # The server need not wait with them for its description.
        return [first, second, response, *others]

    monkeypatch.setattr(Session, "send", saying(tell_apart))

    async def scene(server: RoomServer) -> None:
        async with bob_and_alice(server) as (_, alice):
            assert await call(alice) == "Hello, alice!"

    run(scene, paths=[path])


def test_an_answer_that_is_none_ends_the_joining(monkeypatch: pytest.MonkeyPatch) -> None:
    def garble(response: SignalResponse) -> list[SignalResponse]:
        if response.HasField("answer"):
            response.answer.sdp = "v=0\r\nm=application\r\n"
        return [response]

    monkeypatch.setattr(Session, "send", saying(garble))

    async def scene(server: RoomServer) -> None:
        with pytest.raises(UnreachableError, match="signalling failed"):
            await join_room(server.url, token("bob"))

    run(scene)


def test_a_token_that_does_not_let_us_send_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def forbid(response: SignalResponse) -> list[SignalResponse]:
        if response.HasField("join"):
            response.join.participant.permission.can_subscribe = True
        return [response]

    monkeypatch.setattr(Session, "send", saying(forbid))

    async def scene(server: RoomServer) -> None:
        await (await join_room(server.url, token("bob"))).aclose()

    run(scene)
    assert "bob: the token does not allow sending data" in caplog.text


def test_who_is_called_something_else_the_next_time_does_not_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = iter(["bob", "robert"])

    def rename(response: SignalResponse) -> list[SignalResponse]:
        if response.HasField("join"):
            response.join.participant.identity = next(names)
        return [response]

    monkeypatch.setattr(Session, "send", saying(rename))

    async def scene(server: RoomServer) -> None:
        async with connect(server.url, token("bob")) as bob:
            session_of(server, "bob").say_leave(LeaveRequest.RECONNECT)
            with pytest.raises(ConnectError, match="the server changed the identity to 'robert'"):
                await bob.wait_closed()

    run(scene)


def test_who_is_let_in_and_put_out_at_once_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def put_out(response: SignalResponse) -> list[SignalResponse]:
        return [SignalResponse(leave=LeaveRequest(reason=DisconnectReason.ROOM_CLOSED))]

    monkeypatch.setattr(Session, "send", saying(put_out))

    async def scene(server: RoomServer) -> None:
        with pytest.raises(ConnectError, match="cannot join the room: the room was closed"):
            await join_room(server.url, token("bob"))

    run(scene)


# cancelling


@pytest.mark.parametrize("turns", [0, 1, 3, 10, 30, 50, 80, 120, 250])
def test_joining_can_be_cancelled_at_any_moment(turns: int) -> None:
    async def scene(server: RoomServer) -> None:
        joining = asyncio.create_task(join_room(server.url, token("bob")))
        for _ in range(turns):
            await asyncio.sleep(0)
        joining.cancel()
        with suppress(asyncio.CancelledError):
            await (await joining).aclose()
        await until(lambda: server.room("lobby").members == {} and server.sessions == set())
        await nothing_goes_on()

    run(scene)


def test_leaving_while_joining_again_leaves_nothing_behind() -> None:
    async def scene(server: RoomServer) -> None:
        async with connect(server.url, token("bob")) as bob:
            server.refusal = 404
            abort(session_of(server, "bob"))
            await until(bob.local_participant._place._link.broken.done)

    run(scene)


def test_what_the_body_raises_comes_out_as_itself() -> None:
    async def scene(server: RoomServer) -> None:
        with pytest.raises(ZeroDivisionError):
            async with connect(server.url, token("bob")):
                raise ZeroDivisionError
        await until(lambda: server.sessions == set())

    run(scene)


@pytest.mark.parametrize("turns", [0, 12, 18, 24, 60, 150])
def test_leaving_in_the_middle_of_resuming_leaves_nothing(
    turns: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(server: RoomServer) -> None:
        async with connect(server.url, token("bob")):
            server.send_away(server.room("lobby"), "bob", LeaveRequest.RESUME)
            for _ in range(turns):
                await asyncio.sleep(0)
        await until(lambda: server.sessions == set())
        await nothing_goes_on()

    run(scene, resume_time=0.2)
    assert "closing the transport failed" not in caplog.text


# the edge


def test_giving_up_to_wait_for_a_connection_that_closes_itself_breaks_nothing() -> None:
    aiortc_connection = pytest.importorskip("rpcproto.livekit.aiortc_connection")

    async def main() -> None:
        told: list[str] = []
        connection = aiortc_connection.AiortcConnection(
            Callbacks(packet=print, opened=print, lost=told.append, candidate=print), loopback=True
        )
        await connection.create_offer()
        await connection.begin(negotiated=False)
        closing_itself = asyncio.create_task(connection._connection.close())  # as aiortc does
        await asyncio.sleep(0)
        closing = asyncio.create_task(connection.close())
        await asyncio.sleep(0)
        assert not closing_itself.done()
        closing.cancel()
        await closing_itself
        assert told == ["the WebRTC connection has closed"]

    asyncio.run(main())


@pytest.mark.parametrize("turns", range(3, 10))
def test_a_connection_that_is_given_up_while_it_gathers_leaves_no_socket(turns: int) -> None:
    aiortc_connection = pytest.importorskip("rpcproto.livekit.aiortc_connection")

    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async def main() -> None:
        before = open_files()
        connection = aiortc_connection.AiortcConnection(
            Callbacks(packet=print, opened=print, lost=print, candidate=print), loopback=True
        )
        await connection.create_offer()
        beginning = asyncio.create_task(connection.begin(negotiated=False))
        for _ in range(turns):
            await asyncio.sleep(0)
        beginning.cancel()
        with suppress(asyncio.CancelledError):
            await beginning
        await connection.close()
        await until(lambda: open_files() == before)

    asyncio.run(asyncio.wait_for(main(), GUARD))


def test_a_connection_whose_closing_was_given_up_closes_all_the_same() -> None:
    aiortc_connection = pytest.importorskip("rpcproto.livekit.aiortc_connection")

    async def main() -> None:
        connection = aiortc_connection.AiortcConnection(
            Callbacks(packet=print, opened=print, lost=print, candidate=print), loopback=True
        )
        await connection.create_offer()
        await connection.begin(negotiated=False)
        closing = asyncio.create_task(connection.close())
        for _ in range(2):
            await asyncio.sleep(0)
        closing.cancel()
        with suppress(asyncio.CancelledError):
            await closing
        await connection.close()
        assert connection._connection.connectionState == "closed"

    asyncio.run(asyncio.wait_for(main(), GUARD))


def test_the_largest_message_is_the_smaller_of_two() -> None:
    assert max_message_bytes("v=0\r\na=max-message-size:1000\r\na=x\r\n") == 1000
    assert max_message_bytes("v=0\r\na=max-message-size:262144\r\n") == 64_000
    assert max_message_bytes("v=0\r\na=max-message-size:0\r\n") == 64_000  # 0: any size
    assert max_message_bytes("v=0\r\n") == 64_000


def test_of_all_ice_servers_the_turn_server_that_gets_furthest_comes_first() -> None:
    def chosen(*urls: str) -> list[str]:
        servers = [IceServer((url,), "user", "secret") for url in urls]
        return [server.url for server in turn_servers(servers)]

    udp, tcp, tls = "turn:a:3478", "turn:a:443?transport=tcp", "turns:a:443?transport=tcp"
    assert chosen("stun:s:3478", "nonsense", "turns:a:443?transport=udp") == []
    assert chosen("turn:a:65536", "turn:[1:2]", "turn:a b", "turn:a?transport=sctp", "turn:") == []
    assert chosen("turn:[::1]:3478") == ["turn:[::1]:3478"]
    assert chosen(udp, "stun:s:3478") == [udp]
    assert chosen(udp, tcp) == [tcp, udp]
    assert chosen(udp, tls, tcp) == [tls, tcp, udp]
    assert chosen(*[udp] * 100, tls) == [tls, *[udp] * (MAX_TURN_SERVERS - 1)]
    assert turn_servers([IceServer((udp,), "user", "secret")]) == [
        TurnServer(udp, "user", "secret")
    ]
    assert turn_servers([IceServer((udp,), "user", "")]) == []
    assert turn_servers([IceServer((udp,), "u" * 510, "secret")]) == []


def test_a_server_on_this_machine_is_reached_by_its_loopback_address() -> None:
    here = ["ws://127.0.0.1:7880", "ws://[::1]:7880", "http://localhost", "ws://a.localhost"]
    elsewhere = ["wss://example.org", "ws://192.0.2.1:7880", "ws://localhost.example.org"]
    assert [url for url in [*here, *elsewhere] if is_loopback(url)] == here
