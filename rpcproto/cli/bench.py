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
from rpcproto.cli.sealing import Keys
from rpcproto.cli.urls import Address, NoConnection, connect
from rpcproto.core.errors import ErrorCode
from rpcproto.errors import RpcError
from rpcproto.transports.stream import StreamTransport

_FAILS_AT_ONCE: Final = {ErrorCode.RECIPIENT_DISCONNECTED, ErrorCode.RECIPIENT_NOT_FOUND}
"""After one of these errors, so would all calls that are left."""
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
        self.recipient: str = ""
        """Whom the calls go to."""
        self.latencies: list[float] = []
        """Of those that succeeded, in seconds."""
        self.errors: Counter[str] = Counter()
        self.seconds: float = 0.0
        """How long all of it has taken, at the end; 0 if no call has been made."""

    @property
    def ended(self) -> int:
        """How many calls have ended."""
        return len(self.latencies) + self.errors.total()


async def bench(
    address: Address,
    identity: str,
    destination: str | None,
    load: Load,
    tally: Tally,
    *,
    wait: float,
    keys: Keys | None = None,
    progress: Console | None,
) -> None:
    """Make the calls, after one that does not count, and count them in `tally`.

    Over a stream, a `destination` of None is whoever is there. With `keys`, packets are encrypted.
    There is a bar on `progress`. Raises
    RpcError if the first call fails, NoConnection if the recipient cannot be reached any more
    within `wait` seconds, and as `call` does.
    """
    cryptor = None if keys is None else keys.cryptor()
    transport = await connect(address, identity)
    if isinstance(transport, StreamTransport):
        destination = destination or (await transport.greet()).identity
    recipient = destination or ""
    # Random, so that compressing them does not make them small.
    payload = "".join(random.Random(0).choices(string.ascii_letters, k=load.size))
    tally.recipient = recipient
    async with RpcParticipant(transport, cryptor=cryptor) as us:

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
                    if error.code in _FAILS_AT_ONCE:
                        await require_recipient()
                else:
                    tally.latencies.append(time.perf_counter() - started)

        async def require_recipient() -> None:
            try:
                async with asyncio.timeout(wait):
                    await us.wait_for_participant(recipient)
            except (RpcError, TimeoutError):
                raise NoConnection(f"the connection to {recipient} is lost") from None

        numbers = iter(range(load.calls))
        if not await comes(us, transport, recipient, wait):
            raise RpcError(ErrorCode.RECIPIENT_NOT_FOUND)
        await call()
        async with _bar(progress, load.calls, tally):
            began = time.perf_counter()
            try:
                async with asyncio.TaskGroup() as callers:
                    for _ in range(min(load.concurrency, load.calls)):
                        callers.create_task(call_again_and_again())
            except ExceptionGroup as group:
                raise group.exceptions[0] from None
            finally:
                tally.seconds = time.perf_counter() - began


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


def report(load: Load, tally: Tally) -> Iterator[str]:
    """What is printed of it, line by line; nothing if no call has been made."""
    if not tally.seconds:
        return
    of_all = "" if tally.ended == load.calls else f"{tally.ended:,} of "
    calls = f"{of_all}{load.calls:,} calls of {load.method} at {tally.recipient}"
    yield f"{calls}, {load.concurrency:,} at a time, {load.size:,} bytes each"
    latencies = sorted(tally.latencies)
    if latencies:
        yield f"calls a second {len(latencies) / tally.seconds:12,.0f}"
        for name, part in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)):
            latency = latencies[math.ceil(part * len(latencies)) - 1]
            yield f"latency {name} {latency * 1000:15,.2f} ms"
    for error, number in tally.errors.most_common():
        yield f"failed {number:20,} with {error}"
