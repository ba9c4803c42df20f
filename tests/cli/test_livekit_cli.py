"""`rpcproto serve`, `call` and `bench` in LiveKit rooms; and the tokens that they make."""

import asyncio
import json
import os
import re
import subprocess
import sys
import sysconfig
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import partial
from importlib.metadata import version
from typing import Any, Self, TypeAlias, TypeVar

import click
import jwt
import pytest
from livekit.protocol.models import DisconnectReason, ParticipantInfo
from paths import DOCS

import rpcproto
from rpcproto import LocalProtocolError, cli
from rpcproto.cli.urls import LiveKit, parse_url
from rpcproto.conformance.room_server import RoomServer, Session
from rpcproto.livekit import access_token, connect
from rpcproto.livekit.stacks import installed_stacks
from rpcproto.livekit.tokens import identity_of

T = TypeVar("T")
KEY, SECRET = "devkey", "a-secret-of-at-least-thirty-two-characters"
PAGE = (DOCS / "cli.md").read_text("utf-8")
GUARD = 60.0

KEYED = ("--api-key", KEY, "--api-secret", SECRET, "--room", "lobby")

Outcome: TypeAlias = tuple[int, str, str]
Typed: TypeAlias = Callable[..., Outcome]


def token(identity: str, room: str = "lobby") -> str:
    return access_token(KEY, SECRET, room, identity)


class Background:
    """An event loop in a thread, with a room server and a bob who echoes."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(GUARD)

    def __enter__(self) -> Self:
        self._thread.start()
        self._inside = self._serve()
        self.server = self.run(self._started())
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._finish())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    async def _serve(self) -> AsyncIterator[RoomServer]:
        async with RoomServer() as server, connect(server.url, token("bob")) as bob:
            bob.local_participant.register_rpc_method("echo", lambda data: data.payload)
            yield server

    async def _started(self) -> RoomServer:
        return await anext(self._inside)

    async def _finish(self) -> None:
        await anext(self._inside, None)


@pytest.fixture(scope="module")
def background() -> Iterator[Background]:
    with Background() as background:
        yield background


@pytest.fixture
def url(background: Background) -> str:
    return str(background.server.url)


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Runs a command in this process."""
    names = ("URL", "TOKEN", "API_KEY", "API_SECRET")
    for name in ("RPCPROTO_TRANSPORT", *(f"LIVEKIT_{name}" for name in names)):
        monkeypatch.delenv(name, raising=False)

    def typed(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["rpcproto", *arguments])
        code = cli.main()
        return code, *capsys.readouterr()

    return typed


WITH_KEY = ("--api-key", KEY, "--api-secret", SECRET)


# into a room


def test_with_a_token_nothing_more_is_needed(url: str, typed: Typed) -> None:
    arguments = ("--transport", url, "--token", token("alice"), "bob", "echo", '{"x": 1}')
    assert typed("call", *arguments) == (0, '{"x": 1}\n', "")


def test_with_the_servers_key_a_token_is_made(url: str, typed: Typed) -> None:
    arguments = ("--transport", url, *WITH_KEY, "--room", "lobby", "--identity", "alice")
    assert typed("call", *arguments, "bob", "echo", "Hi") == (0, "Hi\n", "")


def test_the_room_may_be_in_the_url_and_the_secret_in_the_environment(
    url: str, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIVEKIT_API_KEY", KEY)
    monkeypatch.setenv("LIVEKIT_API_SECRET", SECRET)
    place = f"{url.replace('ws:', 'livekit:')}/lobby"
    arguments = ("--transport", place, "--identity", "alice", "--json", "bob", "echo", "Hi")
    assert typed("call", *arguments) == (0, '{"payload": "Hi"}\n', "")


@pytest.mark.parametrize("scheme", ["ws", "http"])
def test_the_server_may_be_in_the_environment_as_livekits_tools_have_it(
    scheme: str, url: str, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIVEKIT_URL", url.replace("ws:", f"{scheme}:"))
    arguments = (*WITH_KEY, "--room", "lobby", "--identity", "alice", "bob", "echo", "Hi")
    assert typed("call", *arguments) == (0, "Hi\n", "")
    monkeypatch.setenv("RPCPROTO_TRANSPORT", "unix:/no/such/socket")
    assert typed("call", *arguments)[0] == 3
    assert typed("call", "--transport", url, *arguments)[0] == 0


def test_a_server_in_the_environment_that_cannot_be_is_told_by_its_name(
    typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIVEKIT_URL", "lobby")
    code, _, err = typed("call", "--identity", "alice", "bob", "echo")
    assert code == 2
    assert "Error: LIVEKIT_URL: it should begin with one of" in err
    monkeypatch.delenv("LIVEKIT_URL")
    code, _, err = typed("call", "--identity", "alice", "bob", "echo")
    assert (code, "Missing option '--transport'" in err) == (2, True)


@pytest.mark.parametrize(
    "typed_words",
    [
        (*WITH_KEY, "--room", "lobby", "--identity", "alice"),
        (*WITH_KEY[:2], "--room", "lobby", "--identity", "alice"),
        ("--room", "lobby", "--identity", "alice"),
        ("--token", token("alice")),
    ],
    ids=["the key", "half of the key", "what the key is for", "a token"],
)
def test_what_is_typed_wins_over_a_token_in_the_environment(
    typed_words: tuple[str, ...], url: str, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIVEKIT_TOKEN", token("bob"))  # there can be only one bob
    monkeypatch.setenv("LIVEKIT_API_KEY", KEY)
    monkeypatch.setenv("LIVEKIT_API_SECRET", SECRET)
    arguments = ("--transport", url, *typed_words, "bob", "echo", "Hi")
    assert typed("call", *arguments) == (0, "Hi\n", "")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--identity", "alice"), "the token (LIVEKIT_TOKEN) belongs to 'bob', not to 'alice'"),
        (("--room", "lobby"), "the token (LIVEKIT_TOKEN) names the room: remove 'lobby'"),
    ],
)
def test_an_error_about_a_token_names_the_variable_that_it_is_from(
    words: tuple[str, ...], complaint: str, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIVEKIT_TOKEN", token("bob"))
    code, _, err = typed("call", "--transport", "ws://127.0.0.1:1", *words, "bob", "echo")
    assert code == 2
    assert complaint in err


def test_the_trace_names_who_has_sent_what(url: str, typed: Typed) -> None:
    arguments = ("--transport", url, "--token", token("alice"), "--trace", "bob", "echo", "Hi")
    code, out, err = typed("call", *arguments)
    assert (code, out) == (0, "Hi\n")
    assert err.splitlines()[0].split() == ["alice", "bob"]
    assert "ack" in err


def test_who_does_not_come_is_not_found(url: str, typed: Typed) -> None:
    arguments = ("--transport", url, "--token", token("alice"), "--wait", "0.1", "carol", "echo")
    assert typed("call", *arguments) == (
        1,
        "",
        "rpcproto: 1401 Recipient not found\nrpcproto: other participants: bob\n",
    )


def test_bench_measures_calls_in_a_room(url: str, typed: Typed) -> None:
    place = ("--transport", url, *WITH_KEY, "--room", "lobby")
    code, out, err = typed("bench", *place, "--destination", "bob", "--calls", "20")
    assert (code, err) == (0, "")
    assert out.startswith("20 calls of echo at bob, 1 at a time")
    code, _, err = typed("bench", *place)
    assert code == 2
    assert "--destination NAME" in err


def test_serve_answers_until_it_is_put_out_and_says_why(
    background: Background, url: str, typed: Typed
) -> None:
    async def call_and_put_out() -> str:
        room = background.server.room("lobby")
        await room.wait_until(lambda: "service" in room.members)
        async with connect(url, token("alice")) as alice:
            await alice.wait_for_participant("service")
            answer = await alice.local_participant.perform_rpc(
                destination_identity="service", method="echo", payload="Hi"
            )
        room.members["service"].put_out(DisconnectReason.PARTICIPANT_REMOVED)
        return answer

    answering = asyncio.run_coroutine_threadsafe(call_and_put_out(), background.loop)
    code, out, err = typed("serve", "--transport", url, "--token", token("service"))
    assert (code, out) == (3, "")
    assert err.splitlines() == [
        f"rpcproto: service serves echo, time over {url}",
        f"rpcproto: lost the connection to {url}: we were removed from the room",
    ]
    assert answering.result(GUARD) == "Hi"


def test_what_the_documents_say_of_a_room_is_so(url: str) -> None:
    serve, call = (
        block.replace("livekit://127.0.0.1:7880", url.replace("ws:", "livekit:")).replace(
            "identity bob", "identity rob"
        )
        for block in re.findall(r"```sh\n(export LIVEKIT.*?)```", PAGE, re.DOTALL)
    )
    path = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"
    started = partial(
        subprocess.Popen,
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # What a shell runs last it becomes itself.
    with started(["bash", "-c", serve.rstrip()]) as one:
        try:
            assert one.stderr is not None
            assert one.stderr.readline() == f"rpcproto: rob serves echo, time over {url}\n"
            with started(["bash", "-c", call.replace(" bob ", " rob ")]) as other:
                assert other.communicate(timeout=GUARD) == ("Hi, Bob!\n", "")
        finally:
            one.kill()


# not into a room


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "a LiveKit room needs --token, or --api-key, --api-secret and --room"),
        (WITH_KEY, "a LiveKit room needs --room"),
        (WITH_KEY[:2], "a LiveKit room needs --api-secret and --room"),
        (("--room", "lobby"), "a LiveKit room needs --token, or --api-key and --api-secret"),
        ((*WITH_KEY, "--room", "lobby"), "Missing option '--identity'"),
        ((*WITH_KEY, "--room", "x" * 257, "--identity", "alice"), "257 bytes of UTF-8"),
        (("--token", "nonsense"), "--token: that is no access token"),
        (
            ("--token", token("bob"), "--identity", "alice"),
            "the token (--token) belongs to 'bob', not to 'alice'",
        ),
        (
            ("--token", token("bob"), "--room", "lobby"),
            "the token (--token) names the room: remove 'lobby'",
        ),
    ],
)
def test_what_does_not_go_together_is_wrong_usage(
    arguments: tuple[str, ...], complaint: str, typed: Typed
) -> None:
    code, out, err = typed("call", "--transport", "ws://127.0.0.1:1", *arguments, "bob", "echo")
    assert (code, out) == (2, "")
    assert complaint in err
    assert SECRET not in err


def test_a_refusal_is_told(background: Background, url: str, typed: Typed) -> None:
    background.server.refusal = 401
    try:
        outcome = typed("call", "--transport", url, "--token", token("alice"), "bob", "echo")
    finally:
        background.server.refusal = None
    assert outcome == (
        3,
        "",
        "rpcproto: the server does not accept the token: refused on command\n",
    )


def test_where_nobody_listens_that_is_told(typed: Typed) -> None:
    place = ("--transport", "ws://127.0.0.1:1", "--token", token("alice"))
    assert typed("call", *place, "bob", "echo") == (
        3,
        "",
        "rpcproto: cannot reach ws://127.0.0.1:1: connection refused\n",
    )


@pytest.mark.parametrize("missing", [("wrtc", "aiortc"), ("jwt",)])
def test_without_its_extra_a_room_says_how_to_get_it(
    missing: tuple[str, ...], typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpcproto, "livekit", sys.modules["rpcproto.livekit"])  # to come back
    for name in [name for name in sys.modules if name.startswith("rpcproto.livekit")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("rpcproto.livekit")
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    code, out, err = typed("serve", "--transport", "wss://example.org", "--identity", "bob")
    assert (code, out) == (3, "")
    assert err == (
        f"rpcproto: a LiveKit room needs the package {missing[0]!r}, which is not installed; "
        "install rpcproto with the extra 'livekit' (in a checkout: pip install '.[livekit]')\n"
    )


def test_the_version_tells_which_webrtc_stacks_there_are(typed: Typed) -> None:
    told = ", or ".join(f"{stack} {version(stack)}" for stack in installed_stacks())
    assert typed("--version") == (
        0,
        f"rpcproto, version {rpcproto.__version__}\nLiveKit rooms: {told}\n",
        "",
    )


@pytest.mark.parametrize("missing", [("wrtc", "aiortc"), ("jwt",), ("rpcproto.livekit.stacks",)])
def test_the_version_tells_that_there_is_no_webrtc_stack(
    missing: tuple[str, ...], typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpcproto, "livekit", sys.modules["rpcproto.livekit"])  # to come back
    for name in [name for name in sys.modules if name.startswith("rpcproto.livekit")]:
        monkeypatch.delitem(sys.modules, name)
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    code, out, _ = typed("--version")
    assert (code, out.splitlines()[1]) == (0, "LiveKit rooms: no WebRTC stack is installed")


# URLs


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("wss://example.org", LiveKit("wss://example.org")),
        ("ws://127.0.0.1:7880/prefix", LiveKit("ws://127.0.0.1:7880/prefix")),
        ("livekit://example.org/a%20room", LiveKit("wss://example.org", "a room")),
        ("livekit://localhost:7880/lobby", LiveKit("ws://localhost:7880", "lobby")),
        ("livekit://[::1]:7880/lobby", LiveKit("ws://[::1]:7880", "lobby")),
    ],
)
def test_a_url_says_where_and_how(url: str, address: LiveKit) -> None:
    assert parse_url(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "wss://",
        "wss://user:secret@example.org",
        "wss://example.org?access_token=secret",
        "livekit://example.org",
        "livekit://example.org/a/b",
        "livekit://example.org/lobby?a=b",
        "livekit://secret@example.org/lobby",
        "livekit:///lobby",
        "livekit://example.org/%ff",
    ],
)
def test_a_url_that_cannot_be_is_wrong_usage(url: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        parse_url(url)
    assert "secret" not in str(caught.value)


def test_a_token_is_never_shown() -> None:
    assert str(LiveKit("wss://example.org", "lobby", "secret")) == "wss://example.org"


# tokens


def test_a_token_lets_one_identity_into_one_room_for_a_time() -> None:
    claims = jwt.decode(token("alice"), SECRET, algorithms=["HS256"], issuer=KEY)
    assert claims["sub"] == "alice"
    assert claims["video"] == {"room": "lobby", "roomJoin": True, "canPublishData": True}
    assert claims["exp"] - claims["nbf"] == pytest.approx(6 * 3600, abs=60)
    brief = access_token(KEY, SECRET, "lobby", "alice", lifetime=0.1)
    assert jwt.decode(brief, SECRET, algorithms=["HS256"])["sub"] == "alice"


def test_the_short_secret_of_a_development_server_is_no_reason_to_warn() -> None:
    assert identity_of(access_token("devkey", "secret", "lobby", "Grüße")) == "Grüße"


@pytest.mark.parametrize(
    "arguments",
    [("", SECRET, "r", "i"), (KEY, "", "r", "i"), (KEY, SECRET, "", "i"), (KEY, SECRET, "r", "")],
)
def test_a_token_for_nobody_or_nothing_is_misuse(arguments: tuple[str, str, str, str]) -> None:
    with pytest.raises(LocalProtocolError):
        access_token(*arguments)
    with pytest.raises(LocalProtocolError):
        access_token(KEY, SECRET, "r", "i", lifetime=0)


@pytest.mark.parametrize("claims", [[], {}, {"sub": ""}, {"sub": 1}, {"sub": "x" * 257}])
def test_what_says_nothing_of_an_identity_is_no_token(claims: object) -> None:
    part = jwt.utils.base64url_encode(json.dumps(claims).encode()).decode()
    for text in (f"x.{part}.y", part, "", "a.b.c", "x.\xff.y"):
        with pytest.raises(LocalProtocolError):
            identity_of(text)


# agents, and calls by the server


def test_an_agent_is_called_without_knowing_its_name(
    background: Background, url: str, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    init = Session.__init__

    def as_agent(session: Session, *arguments: Any, **others: Any) -> None:
        init(session, *arguments, **others)
        if session.info.identity.startswith("agent"):
            session.info.kind = ParticipantInfo.AGENT

    monkeypatch.setattr(Session, "__init__", as_agent)

    async def be_agent() -> AsyncIterator[None]:
        async with connect(url, token("agent-7f3a", "office")) as agent:
            agent.local_participant.register_rpc_method("echo", lambda data: data.payload)
            yield None

    arguments = ["call", "--transport", url, "--token", token("alice", "office"), "--agent"]
    code, out, err = typed(*arguments, "--wait", "0.05", "echo", "Hi")
    assert (code, out) == (1, "")
    assert err == "rpcproto: 1401 Recipient not found\nrpcproto: other participants: none\n"
    inside = be_agent()
    background.run(_begin(inside))
    try:
        assert typed(*arguments, "echo", "Hi") == (0, "Hi\n", "")
        assert typed(*arguments, "echo") == (0, "\n", "")
        code, out, err = typed(*arguments, "--trace", "echo", "Hi")
        assert (code, out) == (0, "Hi\n")
        assert "agent-7f3a" in err
    finally:
        background.run(_end(inside))


async def _begin(inside: AsyncIterator[None]) -> None:
    await anext(inside)


async def _end(inside: AsyncIterator[None]) -> None:
    await anext(inside, None)


def by_server(url: str, *more: str) -> list[str]:
    key = ["--api-key", KEY, "--api-secret", SECRET, "--room", "lobby"]
    return ["call", "--transport", url, *key, "--server", *more]


def test_the_server_makes_a_call(url: str, typed: Typed) -> None:
    assert typed(*by_server(url, "bob", "echo", "Hi")) == (0, "Hi\n", "")
    assert typed(*by_server(url, "--json", "bob", "echo", "Hi")) == (0, '{"payload": "Hi"}\n', "")
    code, out, err = typed(*by_server(url, "--timeout", "5", "bob", "none"))
    assert (code, out, err) == (1, "", "rpcproto: 1400 Method not supported at destination\n")
    code, out, err = typed(*by_server(url, "carol", "echo"))
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        "rpcproto: 1401 Recipient not found",
        "rpcproto: twirp error unknown: no response from servers",
    ]


def test_a_server_that_cannot_be_asked_is_no_connection(typed: Typed) -> None:
    code, out, err = typed(*by_server("ws://127.0.0.1:1", "bob", "echo"))
    assert (code, out) == (3, "")
    assert err.startswith("rpcproto: cannot reach http://127.0.0.1:1/twirp/")
    assert err.endswith(": connection refused\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*KEYED, "--server"], "Missing argument 'DESTINATION'"),
        ([*KEYED, "--server", "bob"], "Missing argument 'METHOD'"),
        (["--server", "bob", "echo"], "--server needs --api-key, --api-secret and --room"),
        (["--server", "--identity", "al", "bob", "echo"], "the server itself makes the call"),
        ([*KEYED, "--server", "--agent", "echo"], "--server can't be combined with --agent"),
        ([*KEYED, "--server", "--trace", "bob", "echo"], "--server can't be combined with --agent"),
        (["--token", "TOKEN", "--agent"], "Missing argument 'METHOD'"),
        (["--token", "TOKEN", "--agent", "bob", "echo", "Hi"], "--agent: give no DESTINATION"),
    ],
)
def test_agents_and_servers_are_called_rightly(
    typed: Typed, arguments: list[str], words: str
) -> None:
    shown = [token("alice") if argument == "TOKEN" else argument for argument in arguments]
    code, out, err = typed("call", "--transport", "ws://127.0.0.1:1", *shown)
    assert (code, out) == (2, "")
    assert words in err


@pytest.mark.parametrize(
    ("option", "words"), [("--server", "is for LiveKit servers"), ("--agent", "is for LiveKit")]
)
def test_other_transports_know_neither_agents_nor_servers(
    typed: Typed, option: str, words: str
) -> None:
    url = "tcp://127.0.0.1:1"
    code, out, err = typed("call", "--transport", url, "--identity", "a", option, "bob", "echo")
    assert (code, out) == (2, "")
    assert words in err
