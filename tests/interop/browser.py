"""LiveKit's JavaScript client in a headless chromium, driven through the page that holds it."""

import asyncio
import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import ClientSession

from interop.clients import LINE_LIMIT, Client, Place
from interop.page_server import SCRIPT, PageServer

VERSION: Final = "2.23.0"
OPTIONS: Final = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--allow-loopback-in-peer-connection",
    "--remote-debugging-port=0",
    "--window-size=900,560",
)
DEVTOOLS: Final = b"DevTools listening on ws://"


def browser_version() -> str:
    """The browser's own name and version; empty where there is none."""
    found = shutil.which("chromium")
    if found is None:
        return ""
    told = subprocess.run((found, "--version"), capture_output=True, text=True, check=False)
    return " ".join(told.stdout.split()[:2])


def chromium() -> str:
    """The browser; skips where it, or what it is to run, is missing."""
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("no chromium on the PATH")
    if not SCRIPT.exists():
        pytest.skip("no livekit-client; `make interop-browser` installs it, with npm")
    return found


class BrowserClient(Client):
    """A participant in a browser of its own."""

    def __init__(self, identity: str, place: Place) -> None:
        super().__init__(identity, place)
        self._chromium = chromium()
        self._page = PageServer(heard=self._heard)
        self._process: asyncio.subprocess.Process | None = None
        self._devtools: asyncio.Future[str] | None = None
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def screenshot(self, path: Path) -> None:
        """Write what the page looks like, as a PNG."""
        assert self._devtools is not None
        address = await self._devtools
        async with ClientSession() as session:
            async with session.get(f"http://{address}/json") as response:
                [page] = [each for each in await response.json() if each["type"] == "page"]
            async with session.ws_connect(
                page["webSocketDebuggerUrl"], max_msg_size=LINE_LIMIT
            ) as socket:
                await socket.send_str(json.dumps({"id": 1, "method": "Page.captureScreenshot"}))
                answer = json.loads(await socket.receive_str())
        path.write_bytes(base64.b64decode(answer["result"]["data"]))

    async def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        if self._process is None:
            await self._start()
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        await self._page.send({"id": number, **command})
        return await answer

    def _heard(self, message: dict[str, Any]) -> None:
        if "event" in message:
            self.tell(message["event"], message["payload"])
        else:
            answer = self._answers.pop(message["id"])
            if not answer.done():
                answer.set_result(message)

    async def _start(self) -> None:
        await self._page.start()
        self._process = await asyncio.create_subprocess_exec(
            self._chromium,
            *OPTIONS,
            f"--user-data-dir={self._profile.name}",
            f"{self._page.url}?name={self.identity}",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"HOME": self._profile.name},
        )
        self._devtools = asyncio.get_running_loop().create_future()
        self._log = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        assert self._devtools is not None
        async for line in self._process.stderr:
            if line.startswith(DEVTOOLS) and not self._devtools.done():
                address = line.removeprefix(DEVTOOLS).split(b"/")[0]
                self._devtools.set_result(address.decode())

    async def aclose(self) -> None:
        if self._process is not None:
            if self._process.returncode is None:
                self._process.terminate()
            await self._process.wait()
            await self._log
        await self._page.aclose()
        self._profile.cleanup()
