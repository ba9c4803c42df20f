"""Scenes with the room client and a room server of the tests, in one process: real sockets, real
WebRTC."""

import asyncio
import gc
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

from livekit.protocol.rtc import SignalResponse

import rpcproto
from rpcproto.conformance.room_server import RoomServer, Session
from rpcproto.livekit import Room, RpcInvocationData, access_token, connect

GUARD = 60.0
"""Seconds after which something has failed."""


def token(identity: str, room: str = "lobby") -> str:
    return access_token("devkey", "a-secret-of-at-least-thirty-two-characters", room, identity)


def run(scene: Callable[[RoomServer], Awaitable[None]], **options: Any) -> None:
    """Play a scene with a server; afterwards no task is left, and none was lost sight of."""
    complaints: list[dict[str, Any]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        async with asyncio.timeout(GUARD), RoomServer(**options) as server:
            await scene(server)
            await asyncio.sleep(0)  # what aioice began last may end in its first turn
            assert tasks_of_clients() == [], tasks_of_clients()
        await asyncio.sleep(0)
        gc.collect()

    asyncio.run(main())
    gc.collect()  # what goes now cannot complain in the middle of another test
    assert complaints == []


PACKAGE = str(Path(rpcproto.__file__).parent) + os.sep
ROOM_SERVER = PACKAGE + "conformance" + os.sep


def tasks_of_clients() -> "list[asyncio.Task[Any]]":
    """What a client has begun, wherever the checkout lies, and has not ended."""
    return [task for task in asyncio.all_tasks() if _is_of_a_client(task)]


def _is_of_a_client(task: "asyncio.Task[Any]") -> bool:
    code = getattr(task.get_coro(), "cr_code", None)
    file = getattr(code, "co_filename", "")
    return file.startswith(PACKAGE) and not file.startswith(ROOM_SERVER)


async def nothing_goes_on() -> None:
    """Wait until nothing that a client or aiortc has begun goes on."""
    await until(lambda: not any(re.search("/aio(rtc|ice)/", repr(t)) for t in asyncio.all_tasks()))
    await until(lambda: tasks_of_clients() == [])


@asynccontextmanager
async def bob_and_alice(server: RoomServer) -> AsyncIterator[tuple[Room, Room]]:
    async with connect(server.url, token("bob")) as bob:
        bob.local_participant.register_rpc_method("greet", greet)
        async with connect(server.url, token("alice")) as alice:
            await alice.wait_for_participant("bob")
            await bob.wait_for_participant("alice")
            yield bob, alice


async def greet(data: RpcInvocationData) -> str:
    return f"Hello, {data.caller_identity}!"


async def call(room: Room, payload: str = "Hi", method: str = "greet") -> str:
    return await room.local_participant.perform_rpc(
        destination_identity="bob", method=method, payload=payload
    )


def session_of(server: RoomServer, identity: str) -> Session:
    [session] = (one for one in server.sessions if one.info.identity == identity)
    return session


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what nobody tells; `run` has the guard."""
    while not condition():
        await asyncio.sleep(0.005)


def saying(change: Callable[[SignalResponse], list[SignalResponse]]) -> Callable[..., None]:
    """A `Session.send` that says something else."""
    send = Session.send

    def changed(session: Session, response: SignalResponse) -> None:
        for each in change(response):
            send(session, each)

    return changed


Handler: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def tcp_server(handle: Handler) -> AsyncIterator[int]:
    """A server at a free port, which is given; every connection has ended when this has."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handle(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client has hung up
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
    await asyncio.gather(*tasks)
