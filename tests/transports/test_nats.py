"""Rooms on a real NATS server, in real time: nothing here sleeps, it waits for what is to come."""

import asyncio
import functools
import gc
import logging
import random
import re
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import nats
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats_permissions import credentials, guarded_server
from nats_server import NatsServer, round_trip, running
from paths import ROOT, TESTS

import rpcproto.transports.inbox as inbox
from rpcproto import ErrorCode, LocalProtocolError, OutgoingPacket, PacketKind, RpcConfig, RpcError
from rpcproto.asyncio import RpcParticipant
from rpcproto.participant import RpcInvocationData
from rpcproto.transports import (
    HIGH_WATER_MARK,
    Connected,
    Disconnected,
    PacketReceived,
    PacketsNotSent,
    ParticipantJoined,
    ParticipantLeft,
    TransportEvent,
)
from rpcproto.transports.nats import (
    NatsTransport,
    decode_name,
    encode_name,
    join_room,
    split_room_url,
)
from rpcproto.transports.nats.link import CLOSING_TIME

GUARD = 60.0
"""Seconds after which a scene has failed. None takes as long unless something is wrong."""

QUICK: dict[str, Any] = {"heartbeat_interval": 0.5, "reconnect_wait": 0.1}


def scene(play: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test in real time, after which neither a task nor an open socket must be left."""

    @functools.wraps(play)
    def test(**fixtures: Any) -> None:
        async def main() -> None:
            async with asyncio.timeout(GUARD):
                await play(**fixtures)
            assert asyncio.all_tasks() == {asyncio.current_task()}

        asyncio.run(main())
        gc.collect()  # what was not closed is complained of here, and not somewhere else

    return test


class Room(AsyncExitStack):
    """A room on a server, whose participants leave at the end."""

    def __init__(self, server: str, name: str) -> None:
        super().__init__()
        self.server = server
        self.name = name

    async def join(self, identity: str, **options: Any) -> NatsTransport:
        transport = await join_room(self.server, self.name, identity, **options)
        self.push_async_callback(transport.aclose)
        return transport

    async def enter(self, identity: str, **options: Any) -> RpcParticipant:
        """A participant that greets, and can be asked to sleep until it is cancelled."""
        transport = await self.join(identity, **options)
        participant = await self.enter_async_context(RpcParticipant(transport))

        @participant.register_rpc_method("greet")
        def greet(data: RpcInvocationData) -> str:
            return f"Hello, {data.caller_identity}!"

        @participant.register_rpc_method("echo")
        def echo(data: RpcInvocationData) -> str:
            return data.payload

        @participant.register_rpc_method("sleep")
        async def sleep(_: RpcInvocationData) -> str:
            await asyncio.get_running_loop().create_future()
            return "never"

        return participant


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    with running() as server:
        yield server


@pytest.fixture
def room(server: NatsServer, request: pytest.FixtureRequest) -> Room:
    """Each test has its own."""
    return Room(server.url, request.node.name)


def packet(destination: str, data: bytes = b"data") -> OutgoingPacket:
    return OutgoingPacket(data, destination, "id", PacketKind.REQUEST, 0)


async def send(transport: NatsTransport, *packets: OutgoingPacket) -> None:
    """Send all these, as a host does."""
    waiting = deque(packets)
    while waiting:
        await transport.send(lambda: waiting.popleft() if waiting else None)


_met: WeakSet[NatsTransport] = WeakSet()
_unread: WeakKeyDictionary[NatsTransport, deque[TransportEvent]] = WeakKeyDictionary()


async def until(
    transport: NatsTransport, wanted: TransportEvent | type[object]
) -> list[TransportEvent]:
    """All that is reported up to the first event that is wanted, or of the wanted kind."""
    unread = _unread.setdefault(transport, deque())
    events: list[TransportEvent] = []
    while True:
        if not unread:
            unread += await transport.receive()
        if not unread:
            raise AssertionError(f"{wanted} did not come, but {events}")
        event = unread.popleft()
        events.append(event)
        if event == wanted or (isinstance(wanted, type) and isinstance(event, wanted)):
            return events


async def meets(transport: NatsTransport, *arrivals: ParticipantJoined) -> list[TransportEvent]:
    """All that is reported until it is connected, as it once must be, and all of these are here."""
    events: list[TransportEvent] = []
    awaited: set[TransportEvent] = set(arrivals)
    if transport not in _met:
        _met.add(transport)
        awaited.add(Connected())
    while awaited:
        [event] = await until(transport, object)
        events.append(event)
        awaited.discard(event)
    return events


async def rest(transport: NatsTransport) -> list[TransportEvent]:
    """All that is reported until the end."""
    events = [*_unread.pop(transport, ())]
    while batch := await transport.receive():
        events += batch
    return events


async def turns(number: int) -> None:
    """Let the others have so many turns."""
    for _ in range(number):
        await asyncio.sleep(0)


async def eventually(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.002)


async def greet(caller: RpcParticipant, name: str) -> str:
    return await caller.perform_rpc(destination_identity=name, method="greet", payload="Hi")


async def failure(call: Coroutine[Any, Any, object]) -> RpcError:
    with pytest.raises(RpcError) as caught:
        await call
    return caught.value


def joined(transport: NatsTransport, identity: str) -> ParticipantJoined:
    return ParticipantJoined(identity, transport.sid, 2, (2,))


# names


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64))
def test_a_name_stands_in_a_subject_as_one_plain_word(name: str) -> None:
    token = encode_name(name)
    assert re.fullmatch(r"[A-Za-z0-9_~%-]+", token)
    assert decode_name(token) == name  # so no two names share a token


@given(st.text("%2ERabé.*> ~", max_size=12))
def test_a_token_that_no_name_has_is_none(token: str) -> None:
    name = decode_name(token)
    assert name is None or encode_name(name) == token


@pytest.mark.parametrize("token", ["", "%61", "%2e", "a.b", "*", ">", "%FF", "%ED%A0%80", "é", "%"])
def test_these_are_no_names(token: str) -> None:
    assert decode_name(token) is None


def test_a_name_has_at_most_256_bytes() -> None:
    assert decode_name(encode_name("é" * 128)) == "é" * 128
    assert decode_name(encode_name("é" * 128 + "x")) is None


def test_a_plain_name_is_read_as_it_is() -> None:
    assert encode_name("Alice_in-Wonderland~2") == "Alice_in-Wonderland~2"
    assert encode_name("a.b") == "a%2Eb"


@pytest.mark.parametrize(
    ("url", "servers", "room"),
    [
        ("nats://127.0.0.1:4222/lobby", ["nats://127.0.0.1:4222"], "lobby"),
        ("tls://u:p%2F@host/a%2Fb%20c", ["tls://u:p%2F@host"], "a/b c"),
        ("nats://t@one:1,two:2/r", ["nats://t@one:1", "nats://t@two:2"], "r"),
        ("nats://[::1]:4222/é", ["nats://[::1]:4222"], "é"),
    ],
)
def test_the_url_of_a_room_names_servers_and_room(url: str, servers: list[str], room: str) -> None:
    assert split_room_url(url) == (servers, room)


@pytest.mark.parametrize(
    "url", ["nats://host", "nats://host/", "nats://host/a/b", "nats://host/a?b"]
)
def test_a_url_without_a_room_is_misuse(url: str) -> None:
    with pytest.raises(LocalProtocolError, match="nats://host:port/room"):
        split_room_url(url)


@pytest.mark.parametrize(
    "wrong",
    [
        {"servers": "http://127.0.0.1"},
        {"servers": "127.0.0.1:4222"},
        {"servers": "nats://127.0.0.1:port"},
        {"servers": "nats://127.0.0.1/room"},
        {"servers": []},
        {"room": ""},
        {"identity": ""},
        {"identity": "x" * 257},
        {"identity": "\ud800"},
        {"heartbeat_interval": 0.0},
        {"connect_timeout": 0.0},
        {"reconnect_wait": float("nan")},
        {"capabilities": [-1]},
    ],
    ids=str,
)
def test_misuse_raises_before_anything_is_done(wrong: dict[str, Any]) -> None:
    arguments = {"servers": "nats://secret@127.0.0.1:1", "room": "lobby", "identity": "alice"}
    with pytest.raises(LocalProtocolError) as caught:
        asyncio.run(join_room(**{**arguments, **wrong}))
    assert "secret" not in str(caught.value)


# coming and going


@scene
async def test_participants_are_announced_to_each_other(room: Room) -> None:
    async with room:
        alice = await room.join("alice", client_protocol=1, capabilities=[])
        bob = await room.join("bob")
        arrival = ParticipantJoined("alice", alice.sid, 1, ())
        assert len(await meets(bob, arrival)) == 2
        assert len(await meets(alice, joined(bob, "bob"))) == 2
        carol = await room.join("carol")
        assert len(await meets(carol, arrival, joined(bob, "bob"))) == 3


@scene
async def test_who_answered_while_we_joined_is_known_from_the_beginning(room: Room) -> None:
    async with room:
        alice = await room.join("alice")
        bob = await room.join("bob")
        welcome = list(bob.take_welcome())
        assert set(welcome) <= {joined(alice, "alice")}
        assert not bob.take_welcome()
        if not welcome:
            assert (await until(bob, ParticipantJoined))[-1] == joined(alice, "alice")


@scene
async def test_who_leaves_is_gone_at_once(room: Room) -> None:
    async with room:
        alice, bob = await room.join("alice"), await room.join("bob")
        await meets(alice, joined(bob, "bob"))
        await bob.aclose()
        assert await until(alice, ParticipantLeft) == [ParticipantLeft("bob", bob.sid)]
        with pytest.raises(ConnectionError, match="closed"):
            await send(bob, packet("alice"))
        await bob.aclose()
        assert await rest(bob) != []  # what had come in
        assert await rest(bob) == []


@scene
async def test_all_that_was_sent_is_read_before_the_goodbye(room: Room) -> None:
    async with room:
        alice = await room.join("alice")
        for _ in range(10):
            bob = await room.join("bob")
            await meets(alice, joined(bob, "bob"))
            for number in range(50):
                await send(bob, packet("alice", b"%d" % number))
            await bob.aclose()
            *packets, goodbye = await until(alice, ParticipantLeft)
            assert goodbye == ParticipantLeft("bob", bob.sid)
            assert packets == [
                PacketReceived(b"%d" % number, "bob", bob.sid) for number in range(50)
            ]


@scene
async def test_each_sid_is_another(room: Room) -> None:
    async with room:
        sids = {(await room.join(name)).sid for name in ("alice", "bob")}
        assert len(sids) == 2
        assert all(re.fullmatch(r"PA_[\w-]{16}", sid) for sid in sids)
        carol = await room.join("carol", new_sid=lambda: "PA_carol")
        assert carol.sid == "PA_carol"


@scene
async def test_what_is_for_others_or_for_another_room_is_not_heard(room: Room) -> None:
    async with room:
        alice, bob = await room.join("alice"), await room.join("bob")
        elsewhere = await join_room(room.server, f"{room.name}.to", "bob")
        room.push_async_callback(elsewhere.aclose)
        await meets(bob, joined(alice, "alice"))
        await send(alice, packet("carol"))
        await send(alice, packet("alice"))
        await send(alice, packet("bob", b"for bob"))
        assert await until(bob, PacketReceived) == [PacketReceived(b"for bob", "alice", alice.sid)]
        await elsewhere.aclose()
        assert await rest(elsewhere) == [Connected()]
        await alice.aclose()
        assert await rest(alice) == [Connected(), joined(bob, "bob")]


@scene
async def test_any_names_will_do(server: NatsServer) -> None:
    identities = ["a.b", "a*", ">", "é" * 128, " \r\n", "a%2Eb", "A.B", "here", "\0"]
    async with Room(server.url, "> * .\r\nPUB x 1\r\n€" * 8) as room:
        participants = [await room.enter(identity) for identity in identities]
        caller = participants[0]
        for identity in identities[1:]:
            await caller.wait_for_participant(identity)
            assert await greet(caller, identity) == "Hello, a.b!"
        assert sorted(caller.participants) == sorted(identities[1:])


@scene
async def test_it_closes_whatever_it_is_doing(room: Room) -> None:
    async with room:
        alice = await room.join("alice")
        await alice.aclose()  # without a turn in between
        bob = await room.join("bob")
        reading = asyncio.create_task(rest(bob))
        await asyncio.gather(bob.aclose(), bob.aclose())
        assert await reading == [Connected()]


# calls


@scene
async def test_calls_go_both_ways_in_every_form(room: Room) -> None:
    async with room:
        alice, bob = await room.enter("alice"), await room.enter("bob")
        await asyncio.gather(alice.wait_for_participant("bob"), bob.wait_for_participant("alice"))
        assert await greet(alice, "bob") == "Hello, alice!"
        assert await greet(bob, "alice") == "Hello, bob!"
        for text in ("", "x" * 20_000, "€" * 700_000):
            answer = await alice.perform_rpc(
                destination_identity="bob", method="echo", payload=text
            )
            assert answer == text


@scene
async def test_two_old_participants_understand_each_other(room: Room) -> None:
    async with room:
        alice = await room.enter("alice", client_protocol=0, capabilities=[])
        await room.enter("bob", client_protocol=0, capabilities=[])
        await alice.wait_for_participant("bob")
        assert await greet(alice, "bob") == "Hello, alice!"


@asynccontextmanager
async def peer_process(room: Room, identity: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Somebody in a process of their own."""
    pipe = asyncio.subprocess.PIPE
    arguments = (
        sys.executable,
        TESTS / "transports" / "nats_peer.py",
        room.server,
        room.name,
        identity,
    )
    process = await asyncio.create_subprocess_exec(*arguments, stdin=pipe, stdout=pipe)
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        yield process
        process.stdin.close()
        await process.wait()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@scene
async def test_calls_go_from_process_to_process(room: Room) -> None:
    async with room:
        alice = await room.enter("alice")
        async with peer_process(room, "bob") as process:
            await alice.wait_for_participant("bob")
            assert await greet(alice, "bob") == "Hello, alice!"
        assert process.returncode == 0
        await eventually(lambda: alice.participants == ())


@scene
async def test_who_is_killed_is_missed_after_three_heartbeats(room: Room) -> None:
    async with room:
        alice = await room.enter("alice", heartbeat_interval=3600.0)
        async with peer_process(room, "bob") as process:
            await alice.wait_for_participant("bob")
            call = asyncio.create_task(
                alice.perform_rpc(destination_identity="bob", method="sleep", payload="")
            )
            assert process.stdout is not None
            assert await process.stdout.readline() == b"sleeping\n"
            process.kill()
            # He has told how often he would be heard; by our own interval it would take an hour.
            with pytest.raises(RpcError) as caught:
                await call
            assert caught.value.code == ErrorCode.RECIPIENT_DISCONNECTED


@scene
async def test_ten_in_a_room_greet_each_other(server: NatsServer) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, ROOT / "examples" / "room_of_ten.py", server.url),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    lines = output.decode().splitlines()
    assert process.returncode == 0
    assert len(lines) == 181
    assert " Gül to Ada: Hello Ada, I am Gül." in lines
    assert lines[-1] == "90 greetings were answered."


# the same identity twice


@scene
async def test_who_joins_again_puts_out_the_earlier_one(room: Room) -> None:
    async with room:
        bob = await room.join("bob")
        for _ in range(5):
            early = await room.join("alice", **QUICK)
            await meets(bob, joined(early, "alice"))
            late = await room.join("alice", **QUICK)
            # The earlier one may still send a heartbeat; that changes nothing.
            assert await until(bob, ParticipantJoined) == [joined(late, "alice")]
            *_, told = await rest(early)
            assert isinstance(told, Disconnected)
            assert str(told.cause) == "'alice' joined again"
            with pytest.raises(ConnectionError, match="joined again"):
                await send(early, packet("bob"))
            await send(late, packet("bob"))
            assert await until(bob, PacketReceived) == [PacketReceived(b"data", "alice", late.sid)]
            await late.aclose()
            assert await until(bob, ParticipantLeft) == [ParticipantLeft("alice", late.sid)]


@pytest.mark.parametrize("clocks_agree", [True, False])
@scene
async def test_of_many_who_join_at_once_one_stays(
    room: Room, clocks_agree: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not clocks_agree:
        monkeypatch.setattr("time.time_ns", lambda: random.randrange(3_000))
    async with room:
        transports = await asyncio.gather(*(room.join("alice", **QUICK) for _ in range(5)))
        told: dict[NatsTransport, list[TransportEvent]] = {each: [] for each in transports}

        async def read(transport: NatsTransport) -> NatsTransport:
            while events := await transport.receive():
                told[transport] += events
            return transport

        pending = {asyncio.create_task(read(transport)) for transport in transports}
        while len(pending) > 1:
            ended, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            assert all(isinstance(told[task.result()][-1], Disconnected) for task in ended)
        bob = await room.join("bob")
        [*_, arrival] = await until(bob, ParticipantJoined)
        [last] = (transport for transport in transports if arrival == joined(transport, "alice"))
        await send(bob, packet("alice", b"still here?"))
        await eventually(lambda: PacketReceived(b"still here?", "bob", bob.sid) in told[last])
        await last.aclose()
        assert await asyncio.gather(*pending) == [last]


# what others may send


async def raw(server: NatsServer, *lines: bytes) -> None:
    """Send lines to the server as they are."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    await reader.readline()
    writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n' + b"".join(lines) + b"PING\r\n")
    assert await reader.readline() == b"PONG\r\n"
    writer.close()
    await writer.wait_closed()


def pub(subject: bytes, data: bytes) -> bytes:
    return b"PUB %b %d\r\n%b\r\n" % (subject, len(data), data)


@scene
async def test_a_packet_is_read_before_the_goodbye_that_comes_with_it(
    server: NatsServer, room: Room
) -> None:
    """Whatever else comes with them."""
    async with room:
        alice = await room.join("alice")
        prefix = f"rpcproto.{encode_name(room.name)}".encode()
        for sid in (b"PA_1", b"PA_2", b"PA_3"):
            await raw(
                server,
                pub(prefix + b".here.bob." + sid, b'{"kind":"join"}'),
                pub(prefix + b".to.alice.bob." + sid, b"data"),
                pub(prefix + b".here.bob." + sid, b'{"kind":"leave"}'),
            )
            events = await until(alice, ParticipantLeft)
            assert PacketReceived(b"data", "bob", sid.decode()) in events


@scene
async def test_what_is_malformed_is_logged_and_ignored(
    server: NatsServer,
    room: Room,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rpcproto.logs.SELDOM", 0.0)
    async with room:
        alice, bob = await room.join("alice"), await room.join("bob")
        await meets(bob, joined(alice, "alice"))
        prefix = f"rpcproto.{encode_name(room.name)}"
        mallory = await nats.connect(server.url)
        room.push_async_callback(mallory.close)
        malformed = [
            *((f"{prefix}.here.mallory.PA_m", data) for data in (b"", b"[]", b"[" * 9999, b"{}")),
            *((f"{prefix}.here.{name}", b'{"kind":"here"}') for name in ("%.a", "a.%FF", "%61.a")),
            (f"{prefix}.to.bob.mallory.PA_m.here", b"null"),
            (f"{prefix}.to.bob.mallory.PA_m.there", b"data"),
            (f"{prefix}.to.bob.mallory", b"data"),
            (f"{prefix}.to.bob.%2e.PA_m", b"data"),
            (f"{prefix}.to.bob.{'x' * 257}.PA_m", b"data"),
        ]
        for subject, data in malformed:
            await mallory.publish(subject, data)
        await round_trip(mallory)
        to_bob = f"{prefix}.to.bob.mallory.".encode()
        await raw(
            server,
            pub(to_bob + b"\xff", b"data"),
            pub(f"{prefix}.here.mallory.".encode() + b"\xff", b'{"kind":"here"}'),
            # nats-py alone would stop to read at these.
            b"HPUB %bPA_1 8 12\r\nNATS/1.0data\r\n" % to_bob,
            b"HPUB %bPA_2 16 20\r\nNATS/1.0 \xff\xff\xff\r\n\r\ndata\r\n" % to_bob,
        )
        await send(alice, packet("bob", b"and on it goes"))
        assert await until(bob, PacketReceived) == [PacketReceived(b"data", "mallory", "PA_1")]
        assert await until(bob, PacketReceived) == [PacketReceived(b"data", "mallory", "PA_2")]
        last = PacketReceived(b"and on it goes", "alice", alice.sid)
        assert await until(bob, PacketReceived) == [last]
        # Alice hears what goes to everybody.
        count = (len(malformed) + 2) + (7 + 1)
        await eventually(lambda: caplog.text.count("ignored a") >= count)
        assert caplog.text.count("ignored a") == count


@scene
async def test_however_much_is_malformed_it_is_one_line_in_the_log(
    server: NatsServer, room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    async with room:
        bob = await room.join("bob")
        prefix = f"rpcproto.{encode_name(room.name)}".encode()
        here, to_bob = prefix + b".here.mallory.", prefix + b".to.bob.mallory."
        for lines in (
            [pub(here + b"PA_m", b"[]"), pub(here + b"%", b""), pub(to_bob + b"x.y", b"")],
            [
                pub(to_bob + b"PA_m.here", b"{}"),
                pub(to_bob + b"\xff", b""),
                pub(to_bob + b"a", b""),
            ],
        ):
            await raw(server, *lines * 500)
        await until(bob, PacketReceived)
        assert caplog.text.count("ignored a") == 1


@scene
async def test_without_permissions_anybody_can_speak_as_another(
    server: NatsServer, room: Room
) -> None:
    """As the documents say."""
    async with room:
        bob = await room.join("bob")
        await until(bob, Connected)
        mallory = await nats.connect(server.url)
        room.push_async_callback(mallory.close)
        subject = f"rpcproto.{encode_name(room.name)}.to.bob.alice.PA_1"
        await mallory.publish(subject, b"forged")
        assert await until(bob, PacketReceived) == [PacketReceived(b"forged", "alice", "PA_1")]


@pytest.fixture
def documented_server(tmp_path: Path) -> Iterator[NatsServer]:
    with guarded_server(tmp_path) as server:
        yield server


@scene
async def test_with_permissions_nobody_can_speak_as_another(
    documented_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    url = documented_server.url
    secrets: dict[str, dict[str, Any]] = {name: {**credentials(name)} for name in ("alice", "bob")}
    async with Room(url, "lobby") as room:
        alice = await room.enter("alice", **secrets["alice"])
        bob = await room.enter("bob", **secrets["bob"])
        await asyncio.gather(alice.wait_for_participant("bob"), bob.wait_for_participant("alice"))
        assert await greet(alice, "bob") == "Hello, alice!"
        assert await greet(bob, "alice") == "Hello, bob!"

        # Bob's user tries to be alice, to be somebody else, to be elsewhere.
        for identity, name in (("alice", "lobby"), ("carol", "lobby"), ("bob", "cellar")):
            with pytest.raises(PermissionError, match=f"{identity}.*{name}"):
                await join_room(url, name, identity, **secrets["bob"])

        # And by hand.
        errors: list[str] = []

        async def on_error(error: Exception) -> None:
            errors.append(str(error))

        mallory = await nats.connect(url, error_cb=on_error, **secrets["bob"])
        room.push_async_callback(mallory.close)
        forged = ["to.bob.alice.PA_1", "to.bob.alice.PA_1.here", "here.alice.PA_1"]
        for subject in forged:
            await mallory.publish(f"rpcproto.lobby.{subject}", b'{"kind":"leave"}')
        for subject in ("to.alice.>", ">"):
            await mallory.subscribe(f"rpcproto.lobby.{subject}")
        await round_trip(mallory)
        assert len(errors) == 5
        assert all("permissions violation" in error for error in errors)
        assert await greet(alice, "bob") == "Hello, alice!"
        assert alice.participants == ("bob",)
        assert bob.participants == ("alice",)
        ignored = bob.statistics().ignored
        assert not any(ignored.values())


# what a host does not read, and what a server does not take


@scene
async def test_what_nobody_reads_is_dropped_and_logged_but_nothing_of_others(
    room: Room, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with room:
        alice, bob = await room.join("alice"), await room.join("bob")
        await meets(bob, joined(alice, "alice"))
        monkeypatch.setattr(inbox, "MAX_WAITING_EVENTS", 20)  # ten of one sender
        for number in range(15):
            await send(alice, packet("bob", b"%d" % number))
        carol = await room.join("carol")
        await send(carol, packet("bob", b"and I?"))
        events = await until(bob, PacketReceived(b"and I?", "carol", carol.sid))
        numbers = [PacketReceived(b"%d" % number, "alice", alice.sid) for number in range(10)]
        assert events[:10] == numbers
        assert joined(carol, "carol") in events
        assert len(events) == 12
        await carol.aclose()
        await until(bob, ParticipantLeft)
        assert "bob: 10 events wait to be read: dropping messages" in caplog.text
        assert "bob: 5 messages were dropped" in caplog.text


@scene
async def test_more_participants_than_may_be_are_logged_once(
    room: Room, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rpcproto.transports.presence.MAX_PARTICIPANTS", 1)
    async with room:
        alice, bob = await room.join("alice"), await room.join("bob")
        await meets(alice, joined(bob, "bob"))
        carol, dan = await room.join("carol"), await room.join("dan")
        for transport in (carol, dan):
            await send(transport, packet("alice"))
            await until(alice, PacketReceived)
        assert len(re.findall("alice: more participants", caplog.text)) == 1


@scene
async def test_a_packet_that_is_too_large_for_the_server_is_not_sent(tmp_path: Path) -> None:
    (tmp_path / "nats.conf").write_text("max_payload: 2048")
    with running("-c", str(tmp_path / "nats.conf")) as server:
        async with Room(server.url, "lobby") as room:
            alice, bob = await room.enter("alice"), await room.join("bob")
            await alice.wait_for_participant("bob")
            with pytest.raises(PacketsNotSent, match="at most 2048 bytes"):
                await send(bob, packet("alice", bytes(2049)))
            call = alice.perform_rpc(
                destination_identity="bob",
                method="greet",
                payload=random.Random(1).randbytes(5_000).hex(),
            )
            assert (await failure(call)).code == ErrorCode.SEND_FAILED


@pytest.mark.parametrize("limit", [100, 64])
@scene
async def test_a_server_that_carries_no_announcements_is_an_error_that_says_so(
    tmp_path: Path, limit: int
) -> None:
    (tmp_path / "nats.conf").write_text(f"max_payload: {limit}")
    with running("-c", str(tmp_path / "nats.conf")) as server:
        with pytest.raises(ConnectionError) as caught:
            await join_room(server.url, "lobby", "alice")
        told = (
            rf"at most {limit} bytes \(its max_payload\), and an announcement of 'alice' has up to"
        )
        assert re.search(told, str(caught.value))


@scene
async def test_packets_that_are_too_large_do_not_stop_those_after_them(tmp_path: Path) -> None:
    (tmp_path / "nats.conf").write_text("max_payload: 2048")
    with running("-c", str(tmp_path / "nats.conf")) as server:
        async with Room(server.url, "lobby") as room:
            alice, bob = await room.join("alice"), await room.join("bob")
            await meets(bob, joined(alice, "alice"))
            large, small = packet("bob", bytes(2049)), packet("bob", b"small")
            with pytest.raises(PacketsNotSent) as caught:
                await send(alice, large, small, large)
            assert caught.value.packets == (large, large)
            event = PacketReceived(b"small", "alice", alice.sid)
            assert await until(bob, PacketReceived) == [event]


# a server that does not do its part


@scene
async def test_where_there_is_no_server_joining_says_so(server: NatsServer) -> None:
    with running() as gone:
        pass
    url = f"nats://alice:secret@127.0.0.1:{gone.port}"
    with pytest.raises(ConnectionError) as caught:
        await join_room([url, url], "lobby", "alice", password="more secret", user="alice")
    text = str(caught.value)
    assert text.startswith(f"cannot join a room at nats://127.0.0.1:{gone.port}, nats://")
    assert "connection refused" in text
    assert "secret" not in text


@scene
async def test_a_wrong_password_is_refused(documented_server: NatsServer) -> None:
    url = documented_server.url.replace("//", "//alice:wrong@")
    with pytest.raises(ConnectionError, match="Authorization Violation") as caught:
        await join_room(url, "lobby", "alice")
    assert "wrong" not in str(caught.value)


@scene
async def test_credentials_may_be_in_the_url(documented_server: NatsServer) -> None:
    url = documented_server.url.replace("//", "//alice:the%20secret%20of%20alice@")
    await (await join_room(url, "lobby", "alice")).aclose()


@scene
async def test_a_token_may_be_in_the_url() -> None:
    with running("--auth", "s3cr@t") as server:
        url = server.url.replace("//", "//s3cr%40t@")
        await (await join_room(url, "lobby", "alice")).aclose()


@scene
async def test_a_server_that_says_nothing_is_not_waited_for_longer_than_told() -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        with pytest.raises(ConnectionError, match=r"no answer in 0\.1 s"):
            await join_room(f"nats://127.0.0.1:{port}", "lobby", "alice", connect_timeout=0.1)
        joining = asyncio.create_task(join_room(f"nats://127.0.0.1:{port}", "lobby", "alice"))
        await asyncio.sleep(0)
        joining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await joining


@scene
async def test_a_server_that_stands_still_is_lost_after_three_heartbeats() -> None:
    with running() as server:
        async with Room(server.url, "lobby") as room:
            alice = await room.enter("alice", **QUICK)
            await room.enter("bob")
            await alice.wait_for_participant("bob")
            call = alice.perform_rpc(destination_identity="bob", method="sleep", payload="")
            server.freeze()
            error = await failure(call)
            assert error.code == ErrorCode.RECIPIENT_DISCONNECTED
            assert isinstance(error.__cause__, ConnectionError)
            assert (await failure(greet(alice, "bob"))).code == error.code
            server.thaw()
            await alice.wait_for_participant("bob")
            assert await greet(alice, "bob") == "Hello, alice!"


async def stuck(server: NatsServer, alice: NatsTransport) -> asyncio.Task[int]:
    """A task that has sent as much as it can through a server that stands still."""
    sent = 0

    def take() -> OutgoingPacket | None:
        nonlocal sent
        if sent == 500:
            return None
        sent += 1
        return packet("bob", (sent - 1).to_bytes(60_000))

    async def send_all() -> int:
        while sent < 500:
            await alice.send(take)
        return sent

    server.freeze()
    sending = asyncio.create_task(send_all())
    before = -1
    while sent > before:
        before = sent
        await turns(100)
    assert 0 < sent < 500, "the sockets take it all"
    return sending


@scene
async def test_who_sends_waits_for_the_server() -> None:
    with running() as server:
        async with Room(server.url, "lobby") as room:
            alice, bob = await room.join("alice"), await room.join("bob")
            await meets(bob, joined(alice, "alice"))
            sending = await stuck(server, alice)
            server.thaw()
            for number in range(500):
                [event] = await until(bob, PacketReceived)
                assert isinstance(event, PacketReceived)
                assert int.from_bytes(event.data) == number
            assert await sending == 500


@scene
async def test_a_small_call_overtakes_a_large_one_and_little_waits_in_between() -> None:
    """R30 holds as far as the sockets, and what waits before them is one high-water mark."""
    large = "x" * 16_000_000
    with running() as server:
        async with Room(server.url, "lobby") as room:
            alice = RpcParticipant(transport := await room.join("alice"))
            await room.enter_async_context(alice)
            await room.enter("bob", capabilities=[])  # to whom nothing goes compressed
            await alice.wait_for_participant("bob")
            server.freeze()
            echo = alice.perform_rpc(
                destination_identity="bob", method="echo", payload=large, response_timeout=GUARD
            )
            first = asyncio.create_task(echo)
            packets_out = -1
            while packets_out < alice.statistics().packets_out:
                packets_out = alice.statistics().packets_out
                await turns(100)
            link = transport._traffic.link
            assert link is not None
            assert alice.statistics().open_streams_out == 1, "the sockets take it all"
            assert HIGH_WATER_MARK // 2 <= link.client.unsent_bytes <= HIGH_WATER_MARK + 64_000
            second = asyncio.create_task(greet(alice, "bob"))
            await turns(100)
            assert alice.statistics().packets_out == packets_out
            server.thaw()
            assert await second == "Hello, alice!"
            assert not first.done()
            assert await first == large


@scene
async def test_calls_that_wait_to_be_sent_end_with_the_connection() -> None:
    with running() as server:
        async with Room(server.url, "lobby") as room:
            alice = await room.enter("alice")
            await room.enter("bob", capabilities=[])
            await alice.wait_for_participant("bob")
            server.freeze()
            failures = []
            for text in ("x" * 16_000_000, "small", "also small"):
                call = alice.perform_rpc(
                    destination_identity="bob", method="echo", payload=text, response_timeout=GUARD
                )
                failures.append(asyncio.create_task(failure(call)))
                await turns(1000)
            assert alice.statistics().waiting_packets, "the sockets take it all"
            server.kill()
            for error in await asyncio.gather(*failures):
                assert error.code == ErrorCode.RECIPIENT_DISCONNECTED
                assert "lost" in str(error.__cause__)


@scene
async def test_small_packets_share_a_write(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    async with room:
        alice, bob = await room.join("alice"), await room.join("bob")
        await meets(bob, joined(alice, "alice"))
        link = alice._traffic.link
        assert link is not None
        writes: list[bytes] = []
        write = link.client.socket.write

        def watched_write(data: bytes) -> None:
            writes.append(data)
            write(data)

        monkeypatch.setattr(link.client.socket, "write", watched_write)
        await send(alice, *(packet("bob", b"%d" % number) for number in range(100)))
        for number in range(100):
            event = PacketReceived(b"%d" % number, "alice", alice.sid)
            assert await until(bob, PacketReceived) == [event]
        assert len([data for data in writes if b"PUB" in data]) == 1


@pytest.fixture
def greedy_server(tmp_path: Path) -> Iterator[NatsServer]:
    """It takes packets that are larger than what the sockets hold."""
    (tmp_path / "nats.conf").write_text("max_payload: 64MB")
    with running("-c", str(tmp_path / "nats.conf")) as server:
        yield server


@scene
async def test_it_leaves_in_half_a_second_whatever_the_server_takes(
    greedy_server: NatsServer,
) -> None:
    assert CLOSING_TIME == 0.5
    alice = await join_room(greedy_server.url, "lobby", "alice")
    greedy_server.freeze()
    sending = asyncio.create_task(send(alice, packet("bob", bytes(50_000_000))))
    await asyncio.sleep(0)
    await alice.aclose()  # would else take for ever
    await sending


@scene
async def test_a_connection_that_takes_nothing_any_more_is_given_up(
    greedy_server: NatsServer,
) -> None:
    alice = await join_room(greedy_server.url, "lobby", "alice", **QUICK)
    greedy_server.freeze()
    await send(alice, packet("bob", bytes(50_000_000)))
    await until(alice, Disconnected)
    greedy_server.thaw()
    await until(alice, Connected)
    await alice.aclose()


@scene
async def test_it_can_leave_while_there_is_no_connection() -> None:
    with running() as server:
        alice = await join_room(server.url, "lobby", "alice", **QUICK)
        server.kill()
        await until(alice, Disconnected)
        with pytest.raises(PacketsNotSent):
            await send(alice, packet("bob"))
        await alice.aclose()
        assert await rest(alice) == []


@scene
async def test_who_is_thrown_out_by_the_server_tries_to_come_back(tmp_path: Path) -> None:
    config = tmp_path / "nats.conf"
    users = "authorization { users: [{ user: %s, password: secret }] }"
    config.write_text(users % "alice")
    with running("-c", str(config)) as server:
        alice = await join_room(
            server.url, "lobby", "alice", user="alice", password="secret", **QUICK
        )
        config.write_text(users % "bob")
        server.reload()
        *_, told = await until(alice, Disconnected)
        assert isinstance(told, Disconnected)
        assert isinstance(told.cause, ConnectionError)
        config.write_text(users % "alice")
        server.reload()
        assert await until(alice, Connected) == [Connected()]
        await alice.aclose()


@pytest.mark.environments
@scene
async def test_after_a_restart_of_the_server_the_room_comes_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    with running() as first:
        async with Room(first.url, "lobby") as room:
            # Nobody learns of the loss by missing heartbeats.
            alice = await room.enter("alice", heartbeat_interval=3600.0)
            bob = await room.enter("bob", heartbeat_interval=3600.0)
            watcher = await room.join("watcher")
            await until(watcher, Connected)
            sid = watcher.sid
            await alice.wait_for_participant("bob")
            call = asyncio.create_task(
                alice.perform_rpc(
                    destination_identity="bob", method="sleep", payload="", response_timeout=3600.0
                )
            )
            await eventually(lambda: bob.statistics().running_invocations)
            first.kill()
            with pytest.raises(RpcError) as caught:
                await call
            assert caught.value.code == ErrorCode.RECIPIENT_DISCONNECTED
            assert "lost" in str(caught.value.__cause__)
            with running(port=first.port):
                await asyncio.gather(
                    alice.wait_for_participant("bob"), bob.wait_for_participant("alice")
                )
                assert await greet(alice, "bob") == "Hello, alice!"
                assert await greet(bob, "alice") == "Hello, bob!"
                events = await until(watcher, Connected)
                assert [type(event) for event in events[-2:]] == [Disconnected, Connected]
                assert watcher.sid != sid
                await room.aclose()
    assert "alice: connected to NATS again" in caplog.text


@scene
async def test_a_program_that_tries_again_at_once_is_connected_again() -> None:
    with running() as first:
        async with Room(first.url, "lobby") as room:
            await room.enter("bob", **QUICK)
            transport = await room.join("alice", **QUICK)
            impatient = RpcConfig(ack_timeout=0.5)
            alice = await room.enter_async_context(RpcParticipant(transport, config=impatient))
            await alice.wait_for_participant("bob")
            first.kill()
            await eventually(lambda: alice.participants == ())
            with running(port=first.port):
                while True:
                    with suppress(RpcError):
                        assert await greet(alice, "bob") == "Hello, alice!"
                        break
                await room.aclose()


@scene
async def test_after_a_restart_a_call_waits_for_those_who_come_back_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rpcproto.transports.nats.transport.MISSING_TIME", 100)
    with running() as first:
        async with Room(first.url, "lobby") as room:
            alice, bob = await room.enter("alice", **QUICK), await room.enter("bob", **QUICK)
            await alice.wait_for_participant("bob")
            first.kill()
            await eventually(lambda: alice.participants == ())
            await bob.aclose()
            with running(port=first.port):
                carol = await room.enter("carol")
                await carol.wait_for_participant("alice")
                await alice.wait_for_participant("carol")
                call = asyncio.create_task(greet(alice, "bob"))
                assert await greet(alice, "carol") == "Hello, alice!"
                await room.enter("bob")
                assert await call == "Hello, alice!"
                await room.aclose()


@pytest.mark.parametrize("is_too_much", [False, True])
@scene
async def test_what_waits_for_those_who_do_not_come_back_is_sent_in_time_and_in_order(
    is_too_much: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_too_much:  # then it is not time that lets it go
        monkeypatch.setattr("rpcproto.transports.nats.transport.MISSING_TIME", 1000)
    with running() as first:
        async with Room(first.url, "lobby") as room:
            alice, bob = await room.join("alice", **QUICK), await room.join("bob")
            await meets(alice, joined(bob, "bob"))
            first.kill()
            await until(alice, Disconnected)
            await bob.aclose()
            with running(port=first.port) as second:
                await until(alice, Connected)
                watcher = await nats.connect(second.url)
                room.push_async_callback(watcher.close)
                heard: list[bytes] = []

                async def hear(message: Any) -> None:
                    heard.append(message.data)

                await watcher.subscribe("rpcproto.lobby.to.bob.>", cb=hear)
                await round_trip(watcher)
                small = [packet("bob", b"%d" % number) for number in range(3)]
                if is_too_much:
                    small.append(packet("bob", bytes(HIGH_WATER_MARK)))
                await send(alice, *small)
                await eventually(lambda: len(heard) == len(small))
                assert heard == [each.data for each in small]
                await room.aclose()


@pytest.mark.environments
@scene
async def test_nothing_is_sent_later_that_was_waiting_when_the_connection_was_lost() -> None:
    with running() as first:
        async with Room(first.url, "lobby") as room:
            alice, bob = await room.join("alice"), await room.join("bob")
            await meets(bob, joined(alice, "alice"))
            sending = await stuck(first, alice)
            first.kill()
            with suppress(PacketsNotSent):
                await sending
            with running(port=first.port):
                await until(bob, Disconnected)
                await until(bob, ParticipantJoined)
                await send(alice, packet("bob", b"new"))
                [event] = await until(bob, PacketReceived)
                assert event == PacketReceived(b"new", "alice", alice.sid)
                await room.aclose()


@pytest.mark.environments
@scene
async def test_in_a_cluster_a_server_may_die() -> None:
    cluster = ("--cluster_name", "three", "--cluster", "nats://127.0.0.1:-1")
    with (
        running(*cluster) as one,
        running(*cluster, "--routes", one.route) as two,
        running(*cluster, "--routes", one.route) as three,
    ):
        rooms = [Room(server.url, "lobby") for server in (one, two, three)]
        async with rooms[0] as first, rooms[1] as second, rooms[2] as third:
            # Heartbeats help those who came before the servers knew each other.
            alice = await first.enter("alice", **QUICK)
            bob = await second.enter("bob", **QUICK)
            carol = await third.enter("carol", **QUICK)
            everyone = [alice, bob, carol]

            async def everyone_greets_everyone() -> None:
                for caller in everyone:
                    for other in everyone:
                        if other is not caller:
                            await caller.wait_for_participant(other.identity)
                            answer = await greet(caller, other.identity)
                            assert answer == f"Hello, {caller.identity}!"

            await everyone_greets_everyone()
            between = asyncio.create_task(
                bob.perform_rpc(destination_identity="alice", method="sleep", payload="")
            )
            await eventually(lambda: alice.statistics().running_invocations)
            one.kill()
            # Alice is back under a new sid, by another server that she was told of.
            with pytest.raises(RpcError) as caught:
                await between
            assert caught.value.code == ErrorCode.RECIPIENT_DISCONNECTED
            await eventually(lambda: alice.participants)
            await everyone_greets_everyone()
