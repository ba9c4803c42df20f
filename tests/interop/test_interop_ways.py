"""The ways to LiveKit's real server where UDP does not pass: `make interop-server`."""

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aioice.ice
import pytest
from certificates import self_signed

from interop.livekit_server import KEY, LOOPBACK, SECRET, LiveKitServer, free_ports, our_server
from interop.matrix import OK
from interop.pairings import Run
from rpcproto.livekit import UnreachableError, access_token, connect
from rpcproto.livekit.signalling import Signalling
from rpcproto.livekit.stacks import STACKS, Stack, installed_stacks

pytestmark = pytest.mark.interop_server

PLAIN, ICE_TCP = "UDP", "ICE over TCP"
TURN_UDP, TURN_TCP, TURN_TLS = "TURN by UDP", "TURN by TCP", "TURN by TLS, private CA"
URLS = {
    TURN_UDP: "turn:127.0.0.1:{}?transport=udp",
    TURN_TCP: "turn:127.0.0.1:{}?transport=tcp",
    TURN_TLS: "turns:localhost:{}?transport=tcp",
}
WAYS = [PLAIN, ICE_TCP, *URLS]
IMPOSSIBLE = {("aiortc", ICE_TCP), ("wrtc", TURN_TLS)}


def cell_of(params: dict[str, Any]) -> tuple[str, str, str]:
    """Where in the table a result stands."""
    return "ways to livekit-server", params["way"], params["stack"]


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("way", WAYS)
def test_a_room_is_reached_by_every_way_that_a_stack_knows(
    way: str,
    stack: Stack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Run,
    record_property: Callable[[str, object], None],
) -> None:
    if stack not in installed_stacks():
        pytest.skip(f"{stack} is not installed")
    port, *_ = free_ports()
    server = _server(way, tmp_path, port)
    if way in URLS:
        _relay_alone(monkeypatch, URLS[way].format(port))
    if way == TURN_TLS:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    is_possible = (stack, way) not in IMPOSSIBLE

    async def main() -> None:
        await server.start()
        try:
            if is_possible:
                await _call(server, stack)
            else:
                with pytest.raises(UnreachableError):
                    await _call(server, stack, connect_timeout=3)
        finally:
            await server.kill()
        record_property("with", server.version)
        record_property("shown", OK if is_possible else "no")

    run(main())


def _server(way: str, directory: Path, port: int) -> LiveKitServer:
    if way == PLAIN:
        return our_server(directory)
    if way == ICE_TCP:
        return our_server(directory, rtc={"force_tcp": True, "udp_port": 0, "tcp_port": port})
    turn: dict[str, object] = {
        "enabled": True,
        "bind_addresses": [LOOPBACK],
        "allow_restricted_peer_cidrs": [f"{LOOPBACK}/8"],
    }
    if way == TURN_UDP:
        return our_server(directory, turn=turn | {"udp_port": port})
    turn |= {"tls_port": port, "domain": "turn.example.org"}
    if way == TURN_TCP:
        return our_server(directory, turn=turn | {"external_tls": True})
    certificate, key = self_signed(directory)
    files = {"cert_file": str(certificate), "key_file": str(key)}
    return our_server(directory, turn=turn | files)


def _relay_alone(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Let both stacks find nothing but a relay, and have the TURN server at this URL."""
    join = Signalling._join

    def with_url(signalling: Signalling, *arguments: Any) -> None:
        join(signalling, *arguments)
        event: Any = signalling._events[-1]
        [server] = [one for one in event.ice_servers if one.credential]
        signalling._events[-1] = replace(event, ice_servers=(replace(server, urls=(url,)),))

    monkeypatch.setattr(Signalling, "_join", with_url)
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda **_: [])
    monkeypatch.setattr("rpcproto.livekit.link.is_loopback", lambda _: False)
    if "wrtc" in installed_stacks():
        webrtc = importlib.import_module("webrtc")
        configure = webrtc.RTCPeerConnection.set_configuration

        def relay(connection: Any, configuration: Any) -> None:
            configuration.ice_transport_policy = "relay"
            configure(connection, configuration)

        monkeypatch.setattr(webrtc.RTCPeerConnection, "set_configuration", relay)


async def _call(server: LiveKitServer, stack: Stack, connect_timeout: float = 15) -> None:
    def join(identity: str) -> Any:
        token = access_token(KEY, SECRET, "lobby", identity)
        return connect(server.place.url, token, stack=stack, connect_timeout=connect_timeout)

    large = "x" * 200_000
    async with join("bob") as bob:
        bob.local_participant.register_rpc_method("echo", lambda data: data.payload)
        async with join("alice") as alice:
            await alice.wait_for_participant("bob")
            answer = await alice.local_participant.perform_rpc(
                destination_identity="bob", method="echo", payload=large
            )
            assert answer == large
