"""What a member of a room may publish, by the permissions of docs/transports.md, on a real server:
it silences nobody, and speaks in nobody's name."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import nats
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nats.errors import Error as NatsError
from nats_permissions import credentials, guarded_server
from nats_server import NatsServer, round_trip
from profiles import choose

from rpcproto.asyncio import RpcParticipant
from rpcproto.participant import RpcInvocationData
from rpcproto.testing import counting_ids
from rpcproto.transports.nats import join_room
from rpcproto.transports.presence import MAX_ANSWERS_EACH
from rpcproto.wire import Ack, ErrorResponse, Request, Response, encode

if TYPE_CHECKING:
    from nats.aio.client import Client

GUARD = 60.0
NAMES = ("alice", "bob", "carol")
"""Those who get along with each other. Carol comes and goes."""


# what mallory does


class Publish(NamedTuple):
    """Publish this some times; `<alice>` in the subject stands for the sid that alice has now, and
    `<next alice>` for the one that she will have when she comes again: those who come later may
    hear mallory first."""

    subject: str
    data: bytes
    times: int


class Come(NamedTuple):
    """Somebody comes, or comes again under a new sid."""

    name: str


sids = st.sampled_from([f"<{name}>" for name in (*NAMES, *map("next {}".format, NAMES))])
sids |= st.sampled_from(
    ["PA_m", "PA_n", "%", "%2e", "a%2Eb", "here", "x" * 256, "x" * 257, "a.b", "*", ">", "é"]
)
subjects = st.one_of(
    st.builds("rpcproto.lobby.here.mallory.{}".format, sids),
    st.builds(
        "rpcproto.lobby.to.{}.mallory.{}{}".format,
        st.sampled_from([*NAMES, "mallory", "nobody"]),
        sids,
        st.sampled_from(["", ".here", ".there", ".here.here"]),
    ),
    # What her user may not publish; a server without permissions would let it through.
    st.builds("rpcproto.lobby.here.{}.{}".format, st.sampled_from(NAMES), sids),
    st.builds("rpcproto.lobby.to.bob.{}.{}".format, st.sampled_from(NAMES), sids),
)


def announcements(
    kinds: Sequence[str | None], numbers: Sequence[float]
) -> st.SearchStrategy[bytes]:
    number = st.sampled_from(numbers)
    fields: dict[str, st.SearchStrategy[object]] = {
        "asks": st.booleans(),
        "generation": number,
        "heartbeat_interval": number,
    }
    fields |= {"client_protocol": number, "capabilities": st.lists(number, max_size=65)}
    fields |= {"identity": st.sampled_from(NAMES), "sid": sids}
    return st.fixed_dictionaries({"kind": st.sampled_from(kinds)}, optional=fields).map(
        lambda announcement: json.dumps(announcement).encode()
    )


valid_announcements = announcements(["join", "here", "leave"], [1, 2, 5, 3600])
odd_announcements = announcements(
    ["join", "here", "leave", "JOIN", None], [-1, 0, 0.05, 0.1, 3601, 2**32, 2**53, 1e308, True]
)
request_ids = st.builds(
    lambda prefix, number: f"{prefix}0000000-0000-4000-8000-{number:012x}",
    st.sampled_from("abc"),
    st.integers(1, 30),
)
packets = st.builds(
    encode,
    st.one_of(
        request_ids.map(lambda request_id: Request(request_id, "who am I", "mallory", 8000)),
        request_ids.map(Ack),
        request_ids.map(lambda request_id: Response(request_id, "mallory says so")),
        request_ids.map(lambda request_id: ErrorResponse(request_id, 1500, "", "")),
    ),
    st.sampled_from([*NAMES, "mallory", ""]),
    st.sampled_from([*NAMES, "mallory"]),
)

publishing = st.builds(
    Publish,
    subjects,
    valid_announcements
    | odd_announcements
    | packets
    | st.sampled_from([b"", b"[]", b"[" * 1000, b"\xff"]),
    st.sampled_from([1, 1, 1, 50, 500]),
)
coming = st.builds(Come, st.sampled_from(NAMES))


def claim_and_come(name: str, data: bytes) -> list[Publish | Come]:
    return [Publish(f"rpcproto.lobby.here.mallory.<next {name}>", data, 1), Come(name)]


scripts = st.lists(
    st.lists(publishing | coming, min_size=1, max_size=5)
    | st.builds(claim_and_come, st.sampled_from(NAMES), valid_announcements),
    min_size=1,
    max_size=5,
).map(lambda scenes: [step for scene in scenes for step in scene])


# what the others do


class Everybody(AsyncExitStack):
    """Alice, bob and carol, who call each other, and mallory's connection."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.participants: dict[str, RpcParticipant] = {}
        self.numbers = dict.fromkeys(NAMES, 0)
        self.lies: list[str] = []
        self.mallory: Client

    async def begin(self) -> None:
        async def ignore(_: Exception) -> None:
            """She is told what she may not publish."""

        self.mallory = await nats.connect(self.url, error_cb=ignore, **credentials("mallory"))
        self.push_async_callback(self.mallory.close)
        await self.come("alice")
        await self.come("bob")
        await self.call_each_other()

    async def come(self, name: str) -> None:
        """Enter the room, after leaving it if need be."""
        earlier = self.participants.pop(name, None)
        if earlier is not None:
            await earlier.aclose()
            # Else a call to whoever was here before would be one too late.
            while any(name in other.participants for other in self.participants.values()):
                await asyncio.sleep(0.001)
        options: dict[str, Any] = {**credentials(name)}
        self.numbers[name] += 1
        sid = f"PA_{name}_{self.numbers[name]}"
        transport = await join_room(self.url, "lobby", name, new_sid=lambda: sid, **options)
        participant = RpcParticipant(transport, new_id=counting_ids(name[0]))
        await self.enter_async_context(participant)

        @participant.register_rpc_method("who am I")
        def who_am_i(data: RpcInvocationData) -> str:
            if data.payload != data.caller_identity:
                self.lies.append(f"{data.payload} speaks as {data.caller_identity}")
            return f"{name}: you are {data.caller_identity}"

        self.participants[name] = participant

    async def publish(self, subject: str, data: bytes, times: int = 1) -> None:
        for name, number in self.numbers.items():
            subject = subject.replace(f"<{name}>", f"PA_{name}_{number}")
            subject = subject.replace(f"<next {name}>", f"PA_{name}_{number + 1}")
        for _ in range(times):
            await self.mallory.publish(subject, data)

    async def call_each_other(self) -> None:
        """Everybody knows everybody, and calls them."""
        await round_trip(self.mallory)
        for caller in self.participants.values():
            for name in self.participants:
                if name != caller.identity:
                    await caller.wait_for_participant(name)
                    answer = await caller.perform_rpc(
                        destination_identity=name,
                        method="who am I",
                        payload=caller.identity,
                        response_timeout=GUARD,
                        max_round_trip_latency=GUARD,
                    )
                    assert answer == f"{name}: you are {caller.identity}"
        assert self.lies == []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with guarded_server(tmp_path_factory.mktemp("nats"), "carol", "mallory") as server:
        yield server


def play(server: NatsServer, script: Callable[[Everybody], Any]) -> None:
    async def main() -> None:
        async with asyncio.timeout(GUARD), Everybody(server.url) as everybody:
            await everybody.begin()
            await script(everybody)

    asyncio.run(main())


@settings(max_examples=choose(fast=100, deep=1_000, night=5_000))
@given(script=scripts)
def test_whatever_a_member_publishes_others_call_each_other_under_their_names(
    server: NatsServer, script: list[Publish | Come]
) -> None:
    async def follow(everybody: Everybody) -> None:
        for step in script:
            if isinstance(step, Come):
                await everybody.come(step.name)
            else:
                try:
                    await everybody.publish(*step)
                except NatsError:
                    continue  # no subject at all
            await everybody.call_each_other()

    play(server, follow)


@pytest.mark.parametrize("kind", ["join", "here", "leave"])
def test_a_sid_that_was_heard_cannot_be_taken(server: NatsServer, kind: str) -> None:
    async def script(everybody: Everybody) -> None:
        for name in ("alice", "bob"):
            subject = f"rpcproto.lobby.here.mallory.<{name}>"
            await everybody.publish(subject, b'{"kind":"%b"}' % kind.encode())
            await everybody.call_each_other()

    play(server, script)


@pytest.mark.parametrize("name", ["alice", "bob", "carol"])
def test_a_sid_that_was_claimed_before_it_was_heard_silences_nobody(
    server: NatsServer, name: str
) -> None:
    """Whoever comes later may hear mallory first; here she even knows a sid that is to come."""

    async def script(everybody: Everybody) -> None:
        claim = b'{"kind":"join","generation":9007199254740992,"heartbeat_interval":3600}'
        for _ in range(3):
            await everybody.publish(f"rpcproto.lobby.here.mallory.<next {name}>", claim)
            await round_trip(everybody.mallory)
            await everybody.come(name)
            await everybody.call_each_other()

    play(server, script)


def test_whoever_asks_without_end_is_answered_a_few_times(server: NatsServer) -> None:
    async def script(everybody: Everybody) -> None:
        answers: list[str] = []

        async def hear(message: Any) -> None:
            answers.append(message.subject)

        await everybody.mallory.subscribe("rpcproto.lobby.to.mallory.*.*.here", cb=hear)
        await everybody.publish(
            "rpcproto.lobby.here.mallory.PA_m", b'{"kind":"here","asks":true}', 500
        )
        await round_trip(everybody.mallory)
        await everybody.come("carol")
        await everybody.call_each_other()
        await round_trip(everybody.mallory)
        assert {answer.split(".")[4] for answer in answers} >= {"alice", "bob"}
        assert len(answers) <= 2 * 3 * MAX_ANSWERS_EACH  # of three, and the second may turn

    play(server, script)


def test_whoever_comes_again_and_again_is_answered_within_the_second(server: NatsServer) -> None:
    async def script(everybody: Everybody) -> None:
        for _ in range(2 * MAX_ANSWERS_EACH):
            await everybody.come("carol")
        async with asyncio.timeout(4.0):  # the next heartbeat comes later
            await everybody.call_each_other()

    play(server, script)


def test_when_many_ask_at_once_a_heartbeat_answers_them(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rpcproto.transports.presence.MAX_ANSWERS", 1)

    async def script(everybody: Everybody) -> None:
        # Only one of those who are here is answered by itself.
        for name in ("carol", "bob"):
            await everybody.come(name)
        await everybody.call_each_other()

    play(server, script)
