"""What a room tells the program: who comes, changes and goes, of what kind they are, and losses."""

import asyncio
import logging
from typing import Any

import pytest
from livekit.protocol.models import DisconnectReason, ParticipantInfo
from livekit.protocol.rtc import LeaveRequest
from livekit_scenes import bob_and_alice, call, greet, run, session_of, token, until
from outages import abort

from rpcproto import LocalProtocolError
from rpcproto.conformance.room_server import RoomServer, Session
from rpcproto.livekit import LeaveError, RemoteParticipant, Room, RpcError, connect


def told_of(room: Room) -> list[tuple[Any, ...]]:
    """What callbacks have been called with, by event."""
    told: list[tuple[Any, ...]] = []
    room.on("participant_connected", lambda who: told.append(("connected", who.identity)))
    room.on("participant_disconnected", lambda who: told.append(("disconnected", who.identity)))
    room.on(
        "participant_attributes_changed",
        lambda changed, who: told.append(("changed", who.identity, dict(changed))),
    )
    room.on("reconnecting", lambda: told.append(("reconnecting",)))
    room.on("reconnected", lambda: told.append(("reconnected",)))
    room.on("disconnected", lambda reason: told.append(("over", reason)))
    return told


def change(server: RoomServer, identity: str, **fields: Any) -> None:
    """Change what the server says of a participant, and let it be known."""
    session = session_of(server, identity)
    for name, value in fields.items():
        if name == "attributes":
            session.info.attributes.clear()
            session.info.attributes.update(value)
        else:
            setattr(session.info, name, value)
    session.room.announce(session.info)


def test_who_comes_changes_and_goes_is_told() -> None:
    async def scene(server: RoomServer) -> None:
        async with connect(server.url, token("carol")), connect(server.url, token("alice")) as us:
            told = told_of(us)
            async with connect(server.url, token("bob")):
                await us.wait_for_participant("bob")
                change(server, "bob", attributes={"mood": "good", "role": "host"})
                await until(lambda: len(told) == 2)
                change(server, "bob", attributes={"mood": "better"})
                await until(lambda: len(told) == 3)
                change(server, "bob", name="Robert")
            await until(lambda: len(told) == 4)
            # Carol was there before.
            assert told == [
                ("connected", "bob"),
                ("changed", "bob", {"mood": "good", "role": "host"}),
                ("changed", "bob", {"mood": "better", "role": ""}),
                ("disconnected", "bob"),
            ]
            server.room("lobby").members["carol"].put_out(DisconnectReason.PARTICIPANT_REMOVED)

    run(scene)


def test_a_participant_has_kind_name_attributes_and_state() -> None:
    async def scene(server: RoomServer) -> None:
        async with bob_and_alice(server) as (_, alice):
            assert alice.participant("bob") == RemoteParticipant(
                "bob", session_of(server, "bob").info.sid, "standard", "bob", {}, "active"
            )
            assert alice.participant("carol") is None
            assert alice.participant("alice") is None
            change(server, "bob", name="Robert", kind=ParticipantInfo.SIP, attributes={"a": "b"})
            await until(lambda: alice.participant("bob").name == "Robert")  # type: ignore[union-attr]
            bob = alice.participant("bob")
            assert bob is not None
            assert (bob.kind, bob.attributes, bob.state) == ("sip", {"a": "b"}, "active")
            change(server, "bob", name="Bert")
            await until(lambda: alice.participant("bob").name == "Bert")  # type: ignore[union-attr]
        assert alice.participant("bob") is None

    run(scene)


def test_a_callback_can_call_who_it_is_told_of() -> None:
    async def scene(server: RoomServer) -> None:
        async with connect(server.url, token("alice")) as alice:
            calls: list[asyncio.Task[str]] = []

            @alice.on("participant_connected")
            def welcome(bob: RemoteParticipant) -> None:
                assert alice.participants == (bob.identity,)
                assert alice.participant(bob.identity) == bob
                # More than somebody who is not known yet can be sent.
                calls.append(asyncio.create_task(call(alice, "x" * 20_000, "size")))

            async with connect(server.url, token("bob")) as bob:
                bob.local_participant.register_rpc_method(
                    "size", lambda data: str(len(data.payload))
                )
                await until(lambda: calls != [])
                assert await calls[0] == "20000"
            alice.off("participant_connected", welcome)
            alice.off("participant_connected", welcome)
            async with connect(server.url, token("bob")):
                await alice.wait_for_participant("bob")
            assert len(calls) == 1

    run(scene)


def test_a_callback_that_raises_is_logged_and_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scene(server: RoomServer) -> None:
        async with connect(server.url, token("alice")) as alice:
            seen: list[str] = []

            def fail(_: RemoteParticipant) -> None:
                raise ZeroDivisionError

            alice.on("participant_connected", fail)
            alice.on("participant_connected", lambda who: seen.append(who.identity))
            async with connect(server.url, token("bob")):
                await alice.wait_for_participant("bob")
            assert seen == ["bob"]

    run(scene)
    assert "alice: a callback for participant_connected failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text


async def coroutine(*_: object) -> None:
    """No callback."""


def test_callbacks_that_cannot_be_called_are_misuse() -> None:
    async def scene(server: RoomServer) -> None:
        async with connect(server.url, token("alice")) as alice:
            wrong: Any = "participant_conected"
            with pytest.raises(LocalProtocolError, match="there is no event 'participant_con"):
                alice.on(wrong, print)
            with pytest.raises(LocalProtocolError, match="there is no event"):
                alice.off(wrong, print)
            for callback in (coroutine, 7):
                bad: Any = callback
                with pytest.raises(LocalProtocolError, match="plain function"):
                    alice.on("reconnected", bad)

    run(scene)


# losses


def test_a_lost_connection_is_told_and_its_return() -> None:
    async def scene(server: RoomServer) -> None:
        async with bob_and_alice(server) as (_, alice):
            told = told_of(alice)
            calls: list[asyncio.Task[str]] = []
            alice.on("reconnected", lambda: calls.append(asyncio.create_task(call(alice))))
            session_of(server, "alice").say_leave(LeaveRequest.RECONNECT)
            await until(lambda: calls != [])
            # At that moment calls are possible.
            assert await calls[0] == "Hello, alice!"
            assert told == [
                ("reconnecting",),
                ("disconnected", "bob"),
                ("connected", "bob"),
                ("reconnected",),
            ]
        [(_, reason)] = [each for each in told if each[0] == "over"]
        assert reason is None

    run(scene)


def test_a_resumed_session_is_told_once_and_keeps_everybody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rpcproto.livekit.link.BELIEF_TIME", 0.01)

    async def scene(server: RoomServer) -> None:
        async with bob_and_alice(server) as (_, alice):
            told = told_of(alice)
            abort(session_of(server, "alice"))
            await until(lambda: ("reconnected",) in told)
            assert told == [("reconnecting",), ("reconnected",)]
            assert alice.participant("bob") is not None

    run(scene)


def test_who_is_put_out_is_told_why() -> None:
    async def scene(server: RoomServer) -> None:
        async with bob_and_alice(server) as (_, alice):
            told = told_of(alice)
            session_of(server, "alice").put_out(DisconnectReason.PARTICIPANT_REMOVED)
            await until(lambda: ("disconnected", "bob") in told)
            [(_, reason)] = [each for each in told if each[0] == "over"]
            assert isinstance(reason, LeaveError)
            assert reason.reason == "PARTICIPANT_REMOVED"

    run(scene)


# waiting for a kind


@pytest.fixture
def agents(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has "agent" in its name is one."""
    init = Session.__init__

    def as_agent(session: Session, *arguments: Any, **others: Any) -> None:
        init(session, *arguments, **others)
        if "agent" in session.info.identity:
            session.info.kind = ParticipantInfo.AGENT

    monkeypatch.setattr(Session, "__init__", as_agent)


@pytest.mark.usefixtures("agents")
def test_the_first_of_a_kind_can_be_waited_for() -> None:
    async def scene(server: RoomServer) -> None:
        async with connect(server.url, token("bob")), connect(server.url, token("alice")) as alice:
            waiting = asyncio.create_task(alice.wait_for_participant(kind="agent"))
            await alice.wait_for_participant("bob")
            async with connect(server.url, token("agent-7f3a")) as agent:
                agent.local_participant.register_rpc_method("greet", greet)
                found = await waiting
                assert (found.identity, found.kind) == ("agent-7f3a", "agent")
                assert await alice.wait_for_participant(kind="agent") == found
                reply = await alice.local_participant.perform_rpc(
                    destination_identity=found.identity, method="greet", payload=""
                )
                assert reply == "Hello, alice!"

    run(scene)


def test_waiting_returns_the_participant() -> None:
    async def scene(server: RoomServer) -> None:
        async with connect(server.url, token("alice")) as alice:
            waiting = asyncio.create_task(alice.wait_for_participant("bob"))
            async with connect(server.url, token("bob")):
                assert (await waiting).identity == "bob"

    run(scene)


@pytest.mark.parametrize(
    "arguments", [{}, {"identity": "bob", "kind": "agent"}, {"kind": "agnt"}, {"identity": ""}]
)
def test_waiting_for_no_identity_and_no_kind_is_misuse(arguments: dict[str, str]) -> None:
    async def scene(server: RoomServer) -> None:
        async with connect(server.url, token("alice")) as alice:
            with pytest.raises(LocalProtocolError):
                await alice.wait_for_participant(**arguments)

    run(scene)


def test_waiting_for_a_kind_ends_when_we_are_out() -> None:
    async def scene(server: RoomServer) -> None:
        async with connect(server.url, token("alice")) as alice:
            waiting = asyncio.create_task(alice.wait_for_participant(kind="sip"))
            cancelled = asyncio.create_task(alice.wait_for_participant(kind="sip"))
            await asyncio.sleep(0)
            cancelled.cancel()
            session_of(server, "alice").put_out(DisconnectReason.ROOM_DELETED)
            for waits in (waiting, alice.wait_for_participant(kind="sip")):
                with pytest.raises(RpcError) as caught:
                    await waits
                assert caught.value.code == RpcError.ErrorCode.RECIPIENT_DISCONNECTED
                assert isinstance(caught.value.__cause__, LeaveError)

    run(scene)


# why a call was not acknowledged


async def unheard(room: Room, identity: str = "bob") -> BaseException | None:
    """The cause of the error of a call that nobody acknowledges."""
    with pytest.raises(RpcError) as caught:
        await room.local_participant.perform_rpc(
            destination_identity=identity, method="greet", payload="", max_round_trip_latency=0.05
        )
    assert caught.value.code == RpcError.ErrorCode.CONNECTION_TIMEOUT
    return caught.value.__cause__


def reason_of(cause: BaseException | None) -> tuple[str, str]:
    return getattr(cause, "reason", ""), str(cause)


def test_a_call_to_somebody_who_was_never_announced_says_so() -> None:
    async def scene(server: RoomServer) -> None:
        async with connect(server.url, token("alice")) as alice:
            assert reason_of(await unheard(alice)) == (
                "never_announced",
                "the server has never announced 'bob' in this room",
            )

    run(scene)


def test_a_call_to_somebody_who_has_left_says_so() -> None:
    async def scene(server: RoomServer) -> None:
        async with bob_and_alice(server) as (_, alice):
            session_of(server, "bob").put_out(DisconnectReason.PARTICIPANT_REMOVED)
            await until(lambda: alice.participants == ())
            assert reason_of(await unheard(alice)) == ("left", "'bob' has left the room")

    run(scene)


def test_a_call_to_somebody_who_still_joins_says_so() -> None:
    async def scene(server: RoomServer) -> None:
        async with connect(server.url, token("alice")) as alice:
            server.activation_delay = 3600
            async with connect(server.url, token("bob")):
                await until(lambda: alice._transport._link.participants.state_of("bob") == "joined")
                assert reason_of(await unheard(alice)) == (
                    "not_active",
                    "'bob' is still joining (its state is 'joined', not 'active')",
                )

    run(scene)


def test_the_right_to_send_that_is_taken_away_is_logged_and_calls_say_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "rpcproto")

    async def scene(server: RoomServer) -> None:
        async with bob_and_alice(server) as (_, alice):
            participants = alice._transport._link.participants
            session = session_of(server, "alice")

            async def permit(*, allowed: bool) -> None:
                session.info.permission.can_publish_data = allowed
                session.take_update(session.info)
                await until(lambda: participants.may_send == allowed)

            await permit(allowed=False)
            room = server.room("lobby")
            room.interference = lambda _: []  # as the real server does
            assert reason_of(await unheard(alice)) == (
                "no_permission",
                "the server drops what we send: we have no permission to publish data",
            )
            room.interference = None
            await permit(allowed=True)
            assert await call(alice) == "Hello, alice!"

    run(scene)
    levels = {record.message: record.levelname for record in caplog.records}
    granted = "alice: the server has granted the permission to publish data"
    [revoked] = [message for message in levels if "revoked" in message]
    assert (levels[revoked], levels[granted]) == ("WARNING", "INFO")


def test_a_call_that_is_heard_of_by_nobody_though_all_seems_well_has_no_cause() -> None:
    async def scene(server: RoomServer) -> None:
        async with bob_and_alice(server) as (_, alice):
            server.room("lobby").interference = lambda _: []
            assert await unheard(alice) is None

    run(scene)


def test_a_call_whose_channel_is_closed_or_behind_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(server: RoomServer) -> None:
        async with bob_and_alice(server) as (_, alice):
            room, link = server.room("lobby"), alice._transport._link
            kind = type(link._connections.sender)
            room.interference = lambda _: []
            assert await unheard(alice) is None  # has been sent
            monkeypatch.setattr(kind, "buffered_bytes", 10_000)
            assert reason_of(await unheard(alice)) == (
                "not_sent",
                "our data channel is 10000 bytes behind: the call has not left",
            )
            monkeypatch.undo()
            now = asyncio.get_running_loop().time()
            monkeypatch.setattr(kind, "is_open", False)
            assert reason_of(alice._transport.explain("bob", now)) == (
                "channel_closed",
                "our data channel is closed",
            )
            monkeypatch.undo()

    run(scene)
