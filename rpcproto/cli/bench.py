"""What `rpcproto bench` does: many calls, and how long they take."""

import asyncio
import math
import random
import string
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from rpcproto.asyncio import RpcParticipant
from rpcproto.cli.calling import comes
from rpcproto.cli.urls import Address, connect
from rpcproto.core.errors import ErrorCode, RpcError
from rpcproto.transports.stream import StreamTransport

REDRAW_INTERVAL: Final = 0.1
"""How often the progress bar is drawn, in seconds."""


class Load(NamedTuple):
    """`calls` calls of `method`, at most `concurrency` of them at once, each with a payload of
    `size` bytes."""

    method: str
    calls: int
    concurrency: int
    size: int


class Tally:
    """How calls have ended so far."""

    def __init__(self) -> None:
        self.latencies: list[float] = []
        """Of those that succeeded, in seconds."""
        self.errors: Counter[str] = Counter()
        self.seconds: float = 0.0
        """How long all of it has taken, at the end."""

    @property
    def ended(self) -> int:
        """How many calls have ended."""
        return len(self.latencies) + self.errors.total()


async def bench(
    address: Address,
    identity: str,
    destination: str | None,
    load: Load,
    *,
    wait: float,
    progress: Console | None,
) -> tuple[str, Tally]:
    """Make the calls, after one that does not count; returns whom they went to, and their tally.

    Over a stream, a `destination` of None is whoever is there. There is a bar on `progress`. Raises
    RpcError if the first call fails, and as `call` does.
    """
    transport = await connect(address, identity)
    if isinstance(transport, StreamTransport):
        destination = destination or (await transport.greet()).identity
    recipient = destination or ""
    # Random, so that compressing them does not make them small.
    payload = "".join(random.Random(0).choices(string.ascii_letters, k=load.size))
    async with RpcParticipant(identity, transport) as us:

        async def call() -> None:
            await us.perform_rpc(
                destination_identity=recipient, method=load.method, payload=payload
            )

        async def call_again_and_again() -> None:
            for _ in numbers:
                started = time.perf_counter()
                try:
                    await call()
                except RpcError as error:
                    tally.errors[str(error)] += 1
                else:
                    tally.latencies.append(time.perf_counter() - started)

        tally = Tally()
        numbers = iter(range(load.calls))
        if not await comes(us, transport, recipient, wait):
            raise RpcError(ErrorCode.RECIPIENT_NOT_FOUND)
        await call()
        async with _bar(progress, load.calls, tally):
            began = time.perf_counter()
            async with asyncio.TaskGroup() as callers:
                for _ in range(min(load.concurrency, load.calls)):
                    callers.create_task(call_again_and_again())
            tally.seconds = time.perf_counter() - began
    return recipient, tally


@asynccontextmanager
async def _bar(console: Console | None, total: int, tally: Tally) -> AsyncIterator[None]:
    """Show how far it is. Only now and then, since drawing takes its time from the calls."""
    if console is None:
        yield
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task("", total=total)

        async def redraw() -> None:
            while True:
                bar.update(task, completed=tally.ended, refresh=True)
                await asyncio.sleep(REDRAW_INTERVAL)

        redrawing = asyncio.create_task(redraw())
        try:
            yield
        finally:
            redrawing.cancel()


def report(recipient: str, load: Load, tally: Tally) -> Iterator[str]:
    """What is printed of it, line by line."""
    at_once = f"{load.concurrency:,} at a time"
    size = f"{load.size:,} bytes each"
    yield f"{load.calls:,} calls of {load.method} at {recipient}, {at_once}, {size}"
    latencies = sorted(tally.latencies)
    if latencies:
        yield f"calls a second {len(latencies) / tally.seconds:12,.0f}"
        for name, part in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)):
            latency = latencies[math.ceil(part * len(latencies)) - 1]
            yield f"latency {name} {latency * 1000:15,.2f} ms"
    for error, number in tally.errors.most_common():
        yield f"failed {number:20,} with {error}"
