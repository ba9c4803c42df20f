"""Serves the page that holds LiveKit's JavaScript client, and carries commands to it."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from aiohttp import WSMsgType, web

ROOT: Final = Path(__file__).resolve().parent.parent.parent
PAGE: Final = Path(__file__).resolve().parent / "page"
DIST: Final = ROOT / ".venv/livekit-client/node_modules/livekit-client/dist"
SCRIPT: Final = DIST / "livekit-client.umd.js"
WORKER: Final = DIST / "livekit-client.e2ee.worker.js"
LOOPBACK: Final = "127.0.0.1"
LARGEST: Final = 16 * 1024 * 1024


class PageServer:
    """Serves on 127.0.0.1. A page that was opened with a `name` connects back, and takes commands;
    `heard` is given what it says. Any other page is given the invitation, to join a room by it.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        heard: Callable[[dict[str, Any]], None] | None = None,
        invite: Callable[[], dict[str, str]] | None = None,
    ) -> None:
        self.port = port
        self.is_there = asyncio.Event()
        self._heard = heard
        self._invite = invite
        self._socket: web.WebSocketResponse | None = None
        app = web.Application()
        app.router.add_get("/", _file(PAGE / "index.html"))
        app.router.add_get("/page.js", _file(PAGE / "page.js"))
        app.router.add_get("/livekit-client.umd.js", _file(SCRIPT))
        app.router.add_get(f"/{WORKER.name}", _file(WORKER))
        app.router.add_get("/invitation", self._invitation)
        app.router.add_get("/control", self._control)
        self._runner = web.AppRunner(app, shutdown_timeout=1)

    async def start(self) -> None:
        """Listen, on a free port if it was 0."""
        await self._runner.setup()
        await web.TCPSite(self._runner, LOOPBACK, self.port).start()
        self.port = self._runner.addresses[0][1]

    async def aclose(self) -> None:
        """Stop."""
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{LOOPBACK}:{self.port}/"

    async def send(self, command: dict[str, Any]) -> None:
        """A command for the page, once it is there."""
        await self.is_there.wait()
        assert self._socket is not None
        await self._socket.send_str(json.dumps(command))

    async def _invitation(self, _: web.Request) -> web.Response:
        if self._invite is None:
            raise web.HTTPNotFound
        return web.json_response(self._invite())

    async def _control(self, request: web.Request) -> web.WebSocketResponse:
        self._socket = web.WebSocketResponse(max_msg_size=LARGEST)
        await self._socket.prepare(request)
        self.is_there.set()
        async for message in self._socket:
            if message.type is WSMsgType.TEXT and self._heard is not None:
                self._heard(json.loads(message.data))
        return self._socket


def _file(path: Path) -> Callable[[web.Request], Any]:
    async def serve(_: web.Request) -> web.FileResponse:
        return web.FileResponse(path)

    return serve
