"""LiveKit's real server: one that is told in the environment, or a process on 127.0.0.1."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from interop.clients import GUARD, ROOT, Place

KEY, SECRET = "devkey", "a-secret-of-at-least-thirty-two-characters"
INSTALLED = ROOT / ".venv" / "livekit-server" / "server"
LOOPBACK = "127.0.0.1"


class LiveKitServer:
    """Where the server is; `start` and `kill` where it is ours to start and kill."""

    def __init__(
        self,
        place: Place,
        version: str,
        command: tuple[str, ...] = (),
        ports: tuple[int, int] = (0, 0),
    ) -> None:
        self.place = place
        self.ports = ports
        """For TCP and for UDP."""
        self.version = version
        self.is_ours = bool(command)
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self._log: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start it, and wait until it says that it listens."""
        if not self.is_ours:
            return
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        listens = asyncio.Event()
        self._log = asyncio.create_task(self._read(self._process, listens))
        async with asyncio.timeout(GUARD):
            await listens.wait()
        assert self._process.returncode is None, "the server did not start"

    async def kill(self) -> None:
        """End it without a word to anybody."""
        if self._process is not None and self._log is not None:
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()
            await self._log

    async def _read(self, process: asyncio.subprocess.Process, listens: asyncio.Event) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            if b"starting LiveKit server" in line:
                listens.set()
        listens.set()  # it will not any more


def livekit_server(directory: Path, node_ip: str = LOOPBACK) -> LiveKitServer:
    """The server to test against; skips where there is none. At `node_ip` clients reach it."""
    url = os.environ.get("LIVEKIT_URL")
    if url and node_ip != LOOPBACK:
        pytest.skip("the server that LIVEKIT_URL names is not ours to put behind a relay")
    if url:
        key, secret = os.environ["LIVEKIT_API_KEY"], os.environ["LIVEKIT_API_SECRET"]
        return LiveKitServer(Place(url, key, secret), "a server that was given")
    return our_server(directory, node_ip)


def our_server(
    directory: Path,
    node_ip: str = LOOPBACK,
    rtc: Mapping[str, object] | None = None,
    **sections: object,
) -> LiveKitServer:
    """A server that is ours, with more in its configuration; skips where there is none."""
    binary = shutil.which("livekit-server") or (INSTALLED.exists() and str(INSTALLED))
    if not binary:
        pytest.skip("no livekit-server on the PATH, and no LIVEKIT_URL")
    port, udp_port, stun_port = free_ports()
    configuration = directory / "livekit.yaml"
    # YAML is a superset of JSON.
    values = _configuration(port, udp_port, stun_port, node_ip, rtc or {}) | sections
    configuration.write_text(json.dumps(values))
    place = Place(f"ws://{node_ip}:{port}", KEY, SECRET)
    told = subprocess.run((binary, "--version"), capture_output=True, text=True, check=True)
    version = told.stdout.strip()
    command = (binary, "--config", str(configuration))
    return LiveKitServer(place, version, command, (port, udp_port))


def _configuration(
    port: int, udp_port: int, stun_port: int, node_ip: str, rtc: Mapping[str, object]
) -> dict[str, object]:
    """All of it on the loopback interface, and nothing of it known elsewhere."""
    return {
        "port": port,
        "bind_addresses": [LOOPBACK],
        "keys": {KEY: SECRET},
        "rtc": {
            "use_external_ip": False,
            "node_ip": node_ip,
            # Or else it finds a way to the clients that does not lead through a relay.
            "use_ice_lite": node_ip != LOOPBACK,
            "enable_loopback_candidate": True,
            "interfaces": {"includes": ["lo"]},
            "ips": {"includes": [f"{LOOPBACK}/32"]},
            "udp_port": udp_port,
            "tcp_port": 0,
            # Without one, clients are given public ones.
            "stun_servers": [f"{LOOPBACK}:{stun_port}"],
            **rtc,
        },
    }


def free_ports() -> list[int]:
    """Three ports that nobody uses just now, neither for TCP nor for UDP."""
    ports: list[int] = []
    while len(ports) < 3:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind((LOOPBACK, 0))
            port = tcp.getsockname()[1]
            try:
                udp.bind((LOOPBACK, port))
            except OSError:
                continue
            if port not in ports:
                ports.append(port)
    return ports
