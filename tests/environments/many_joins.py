"""Join a room and leave it many times, four at a time; print what is left of it, as JSON."""

import asyncio
import ctypes
import gc
import json
import sys
from pathlib import Path

import rpcproto.livekit
from rpcproto.livekit.stacks import Stack

AT_ONCE = 4
ROUNDS = 3
"""A leak grows in each of them, and the allocator's gaps only now and then."""
A_MEGABYTE = 1_024


async def main(url: str, stack: Stack, warm_up: int, count: int) -> list[dict[str, int]]:
    await join_and_leave(url, stack, warm_up)
    left = [await what_is_left()]
    for _ in range(ROUNDS):
        await join_and_leave(url, stack, count)
        left.append(await what_is_left())
        if left[-1]["resident KB"] - left[-2]["resident KB"] < A_MEGABYTE:
            break
    return left


async def join_and_leave(url: str, stack: Stack, count: int) -> None:
    numbers = iter(range(count))

    async def one_after_the_other(identity: str) -> None:
        token = rpcproto.livekit.access_token("devkey", "x" * 32, "lobby", identity)
        for _ in numbers:
            async with rpcproto.livekit.connect(url, token, stack=stack) as room:
                assert room.local_participant.identity == identity

    await asyncio.gather(*(one_after_the_other(f"guest{number}") for number in range(AT_ONCE)))


async def what_is_left() -> dict[str, int]:
    """What this process has, once it does not become less any more."""
    last = counts()
    while True:
        await asyncio.sleep(2)
        now = counts()
        if now == last:
            return {**now, "resident KB": resident_kilobytes()}
        last = now


def counts() -> dict[str, int]:
    gc.collect()
    return {
        "threads": len(list(Path("/proc/self/task").iterdir())),
        "tasks": len(asyncio.all_tasks()),
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
    }


def resident_kilobytes() -> int:
    ctypes.CDLL(None).malloc_trim(0)  # what is free goes back, and does not count
    status = Path("/proc/self/status").read_text()
    [line] = (line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1])


if __name__ == "__main__":
    url, name, *numbers = sys.argv[1:]
    stack: Stack = "wrtc" if name == "wrtc" else "aiortc"
    print(json.dumps(asyncio.run(main(url, stack, *map(int, numbers)))))
