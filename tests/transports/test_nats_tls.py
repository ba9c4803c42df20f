"""TLS to a NATS server: what must not be sent in the clear is not sent in the clear."""

import asyncio
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
from certificates import self_signed
from nats_server import running

from rpcproto.asyncio import RpcParticipant
from rpcproto.transports import Connected, Disconnected
from rpcproto.transports.nats import NatsTransport, join_room

GUARD = 60.0
QUICK: dict[str, Any] = {"heartbeat_interval": 0.5, "reconnect_wait": 0.1}


class Tls(NamedTuple):
    """A certificate for 127.0.0.1, and a context that trusts it."""

    arguments: tuple[str, ...]
    """For the server."""
    context: ssl.SSLContext


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = self_signed(folder)
    context = ssl.create_default_context(cafile=str(certificate))
    files = ("--tlscert", str(certificate), "--tlskey", str(key))
    return Tls(("--tls", *files), context)


class PlainServer:
    """Something that takes itself for a NATS server without TLS, and keeps what it is sent."""

    def __init__(self) -> None:
        self.port = 0
        self.received: list[bytes] = []
        self.visited = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.10.0","max_payload":1048576}\r\n')
        while line := await reader.readline():
            self.received.append(line)
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
        self.visited.set()
        writer.close()


@asynccontextmanager
async def plain_server(port: int = 0) -> AsyncIterator[PlainServer]:
    plain = PlainServer()
    async with await asyncio.start_server(plain.serve, "127.0.0.1", port) as server:
        plain.port = server.sockets[0].getsockname()[1]
        yield plain


async def until(transport: NatsTransport, wanted: type[object]) -> None:
    while events := await transport.receive():
        if any(isinstance(event, wanted) for event in events):
            return
    raise AssertionError("the end")


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("tls://alice:hunter2@127.0.0.1:{}", {}),
        ("TLS://hunter2@127.0.0.1:{}", {}),
        ("tls://127.0.0.1:{}", {"user": "alice", "password": "hunter2"}),
        ("nats://alice:hunter2@127.0.0.1:{}", {"tls": ssl.create_default_context()}),
        ("nats://alice:hunter2@127.0.0.1:{0},tls://127.0.0.1:{0}", {}),
    ],
    ids=["password", "token", "options", "context", "mixed"],
)
def test_nothing_is_sent_to_a_server_without_tls_where_tls_is_wanted(
    url: str, options: dict[str, Any]
) -> None:
    async def main() -> None:
        async with asyncio.timeout(GUARD), plain_server() as plain:
            servers = url.format(plain.port).split(",")
            with pytest.raises(ConnectionError, match="does not offer TLS") as caught:
                await join_room(servers, "lobby", "alice", **options)
            assert "hunter2" not in str(caught.value)
            await plain.visited.wait()
            assert plain.received == []

    asyncio.run(main())


def test_with_a_plain_url_the_credentials_are_sent_as_it_says() -> None:
    async def main() -> None:
        async with asyncio.timeout(GUARD), plain_server() as plain:
            url = f"nats://alice:hunter2@127.0.0.1:{plain.port}"
            transport = await join_room(url, "lobby", "alice", connect_timeout=5.0)
            await transport.aclose()
            assert any(b"hunter2" in line for line in plain.received)

    asyncio.run(main())


@pytest.mark.parametrize("scheme", ["tls", "nats"])
def test_calls_go_over_tls(tls: Tls, scheme: str) -> None:
    async def main(port: int) -> None:
        async with asyncio.timeout(GUARD):
            url = f"{scheme}://127.0.0.1:{port}"
            alice = RpcParticipant(await join_room(url, "lobby", "alice", tls=tls.context))
            bob = RpcParticipant(await join_room(url, "lobby", "bob", tls=tls.context))
            async with alice, bob:
                bob.register_rpc_method("echo", lambda data: data.payload)
                await alice.wait_for_participant("bob")
                for text in ("", "x" * 3_000_000):
                    answer = await alice.perform_rpc(
                        destination_identity="bob", method="echo", payload=text
                    )
                    assert answer == text

    with running(*tls.arguments) as server:
        asyncio.run(main(server.port))


def test_the_command_line_joins_a_room_over_tls(tls: Tls) -> None:
    rpcproto = [sys.executable, "-m", "rpcproto"]
    with running(*tls.arguments) as server:
        url = f"tls://127.0.0.1:{server.port}/lobby"
        environment = {**os.environ, "SSL_CERT_FILE": tls.arguments[2]}
        served = subprocess.Popen(
            [*rpcproto, "serve", "--transport", url, "--identity", "bob"],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        call = [*rpcproto, "call", "--transport", url, "--identity", "alice", "bob", "echo", "Hi"]
        with served:
            assert served.stderr is not None
            assert served.stderr.readline().endswith(f" over {url}\n")
            done = subprocess.run(call, env=environment, capture_output=True, check=False)
            served.terminate()
    assert (done.returncode, done.stdout, done.stderr) == (0, b"Hi\n", b"")


def test_a_certificate_that_nobody_trusts_is_refused(tls: Tls) -> None:
    with (
        running(*tls.arguments) as server,
        pytest.raises(ConnectionError, match="certificate verify failed"),
    ):
        asyncio.run(join_room(f"tls://127.0.0.1:{server.port}", "lobby", "alice"))


def test_nothing_is_sent_either_when_it_connects_again_and_tls_is_gone(tls: Tls) -> None:
    async def main() -> None:
        async with asyncio.timeout(GUARD):
            with running(*tls.arguments) as server:
                url = f"tls://alice:hunter2@127.0.0.1:{server.port}"
                alice = await join_room(url, "lobby", "alice", tls=tls.context, **QUICK)
                await until(alice, Connected)
            async with plain_server(server.port) as plain:
                await until(alice, Disconnected)
                await plain.visited.wait()
                assert plain.received == []
            with running(*tls.arguments, port=server.port):
                await until(alice, Connected)
                await alice.aclose()

    asyncio.run(main())


async def until_named(port: int, named: int) -> None:
    """Wait until the server on `port` tells its clients of another port."""
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        line = await reader.readline()
        writer.close()
        if b"127.0.0.1:%d" % named in line:
            return


def test_nothing_is_sent_to_a_server_without_tls_that_a_cluster_has_named(tls: Tls) -> None:
    cluster = ("--cluster_name", "two", "--cluster", "nats://127.0.0.1:-1", *tls.arguments)

    async def main() -> None:
        async with asyncio.timeout(GUARD), plain_server() as plain:
            advertised = ("--client_advertise", f"127.0.0.1:{plain.port}")
            with running(*cluster) as one, running(*cluster, "--routes", one.route, *advertised):
                await until_named(one.port, plain.port)
                url = f"tls://alice:hunter2@127.0.0.1:{one.port}"
                alice = await join_room(url, "lobby", "alice", tls=tls.context, **QUICK)
                await until(alice, Connected)
                one.kill()
                await plain.visited.wait()
                assert plain.received == []
                await alice.aclose()

    asyncio.run(main())
