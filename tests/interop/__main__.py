"""A room to try things in, with a page to open: `make interop-page`. For tests only."""

import argparse
import asyncio
import contextlib
from pathlib import Path

from interop.clients import EngineClient, Place
from interop.page_server import PageServer
from rpcproto.conformance.room_server import RoomServer

ROOM = "demo"


async def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="A room server for tests, on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=7880, help="of the rooms")
    parser.add_argument("--page", type=int, default=8080, help="port of the page")
    parser.add_argument("--record", type=Path, help="where what passes is added, as JSON lines")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        record = None
        if arguments.record is not None:
            file = stack.enter_context(arguments.record.open("a", encoding="utf-8", buffering=1))
            record = lambda line: file.write(f"{line}\n")  # noqa: E731
        async with RoomServer(port=arguments.port, record=record) as server:
            await serve(server, arguments.page)


async def serve(server: RoomServer, page_port: int) -> None:
    """Our participant waits in the room, and calls everybody who comes."""
    place = Place(server.url, "nobody", "a secret that nobody looks at, for this is a test")
    room = server.room(ROOM)
    numbers = iter(range(1, 1_000_000))

    def invite() -> dict[str, str]:
        return {"url": server.url, "token": place.token(f"browser-{next(numbers)}", ROOM)}

    page = PageServer(port=page_port, invite=invite)
    await page.start()
    print(f"rooms at {server.url}, the page at {page.url}", flush=True)
    python = EngineClient("python", place, server.room)
    await python.join(ROOM)
    greeted = {"python"}

    def newcomers() -> set[str]:
        return set(filter(room.is_ready, room.members.keys() - greeted))

    while True:
        await room.wait_until(lambda: bool(newcomers()))
        for identity in newcomers():
            greeted.add(identity)
            answer = await python.ask("call", to=identity, method="greet", payload="Hi!")
            print(f"{identity} answers: {answer}", flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
