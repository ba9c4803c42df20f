"""Participants as the interop tests see them: each takes commands and tells what happens to it."""

import asyncio
import itertools
import json
import os
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import jwt

from interop.client import Driver, cryptor_of, switch_key
from rpcproto.asyncio import RpcError, RpcInterceptor, RpcParticipant
from rpcproto.conformance.routing import Room
from rpcproto.conformance.seat import Seat
from rpcproto.transports import OUR_CAPABILITIES

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CLIENT = str(HERE / "client.py")
LOGS = ROOT / ".venv" / "interop-logs"
LINE_LIMIT = 16 * 1024 * 1024
GUARD = 60.0
"""Seconds after which a command that nobody answers fails the test."""


class Place:
    """Where a server is, and how to be let in."""

    def __init__(self, url: str, key: str, secret: str) -> None:
        self.url, self.key, self.secret = url, key, secret

    def token(self, identity: str, room: str) -> str:
        """A token for one hour."""
        now = int(time.time())
        claims = {
            "iss": self.key,
            "sub": identity,
            "nbf": now - 60,
            "exp": now + 3600,
            "video": {"roomJoin": True, "room": room},
        }
        return jwt.encode(claims, self.secret, algorithm="HS256")


class Client:
    """A participant that takes the commands of `client.py`."""

    def __init__(self, identity: str, place: Place) -> None:
        self.identity = identity
        self.room = ""
        self.keys: dict[str, Any] | None = None
        """What its packets are encrypted with: the fields of `Keys`."""
        self._place = place
        self._events: set[tuple[str, str]] = set()
        self._told = asyncio.Event()

    async def ask(self, do: str, *, within: float = GUARD, **fields: Any) -> dict[str, Any]:
        """Give a command, and wait for its answer."""
        async with asyncio.timeout(within):
            answer = await self._ask({"do": do, **fields})
        assert "failure" not in answer, f"{self.identity}: {do}: {answer['failure']}"
        return answer

    async def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    async def join(self, room: str) -> None:
        """Join the room; the methods are registered when this returns."""
        self.room = room
        token = self._place.token(self.identity, room)
        await self.ask("connect", url=self._place.url, token=token, keys=self.keys)

    async def told(self, event: str, payload: str) -> None:
        """Wait until a handler has told of `event`."""
        async with asyncio.timeout(GUARD):
            while (event, payload) not in self._events:
                self._told.clear()
                await self._told.wait()

    def tell(self, event: str, payload: str) -> None:
        """A handler tells of something."""
        self._events.add((event, payload))
        self._told.set()

    async def aclose(self) -> None:
        """Let go of it, in whatever state it is."""


class EngineClient(Client):
    """An engine in the room server's own process, with no network of its own."""

    def __init__(
        self,
        identity: str,
        place: Place,
        find_room: Callable[[str], Room],
        *,
        capabilities: Collection[int] = OUR_CAPABILITIES,
    ) -> None:
        super().__init__(identity, place)
        self._driver = Driver(_SeatSdk(identity, find_room, capabilities), self.tell)

    async def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        return await self._driver.do(command)

    async def aclose(self) -> None:
        await self.ask("leave")


class _SeatSdk:
    RpcError = RpcError
    RpcInterceptor = RpcInterceptor

    def __init__(
        self, identity: str, find_room: Callable[[str], Room], capabilities: Collection[int]
    ) -> None:
        self._identity = identity
        self._find_room = find_room
        self._capabilities = capabilities
        self._participant: RpcParticipant | None = None
        self._leaving = asyncio.Event()
        self._stay: asyncio.Task[None] | None = None

    async def connect(self, _: str, token: str, keys: dict[str, Any] | None) -> RpcParticipant:
        claims = jwt.decode(token, options={"verify_signature": False})
        room = self._find_room(claims["video"]["room"])
        seat = Seat(room, self._identity, capabilities=self._capabilities)
        here: asyncio.Future[RpcParticipant] = asyncio.get_running_loop().create_future()
        self._cryptor = cryptor_of(keys)

        async def stay() -> None:
            async with RpcParticipant(seat, cryptor=self._cryptor) as participant:
                here.set_result(participant)
                await self._leaving.wait()

        self._leaving.clear()
        self._stay = asyncio.create_task(stay())
        self._participant = await here
        return self._participant

    def set_shared_key(self, passphrase: str, index: int) -> None:
        switch_key(self._cryptor, passphrase, index)

    async def wait_for(self, identity: str) -> None:
        assert self._participant is not None
        await self._participant.wait_for_participant(identity)

    async def leave(self) -> None:
        self._leaving.set()
        if self._stay is not None:
            await self._stay


class ProcessClient(Client):
    """A program of its own that takes the commands of `client.py`."""

    def __init__(self, identity: str, place: Place, program: Path, *arguments: str) -> None:
        super().__init__(identity, place)
        self._command = (str(program), *arguments)
        self._process: asyncio.subprocess.Process | None = None
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def start(self) -> None:
        """Start the process."""
        # Its log goes to a file, for a pipe that nobody reads would fill up.
        LOGS.mkdir(parents=True, exist_ok=True)
        log = (LOGS / f"{self.room}-{self.identity}.log").open("wb")
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            limit=LINE_LIMIT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        log.close()
        self._reader = asyncio.create_task(self._read())

    async def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        if self._process is None:
            await self.start()
        assert self._process is not None
        assert self._process.stdin is not None
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        self._process.stdin.write(json.dumps({"id": number, **command}).encode() + b"\n")
        await self._process.stdin.drain()
        return await answer

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            message = json.loads(line)
            if "event" in message:
                self.tell(message["event"], message["payload"])
            elif message["id"] in self._answers:
                future = self._answers.pop(message["id"])
                if not future.done():
                    future.set_result(message)
        for future in self._answers.values():
            if not future.done():
                future.set_result({"failure": "the process has ended"})

    async def aclose(self) -> None:
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(3):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reader
