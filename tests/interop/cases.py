"""The rows of the table: what one participant does with the methods of another."""

import asyncio
import base64
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

from interop.client import CANCELLED, STARTED
from interop.clients import Client

V1_LIMIT: Final = 15_360


class Act:
    """A caller and a responder in one room, and what is known of the one that is not ours.

    `note` is what the table says of a case beside that it went well.
    """

    def __init__(
        self, room: str, caller: Client, responder: Client, *, is_v1: bool, sees_departures: bool
    ) -> None:
        self.room, self.caller, self.responder = room, caller, responder
        self.is_v1 = is_v1
        self.sees_departures = sees_departures
        self.note = ""

    async def call(self, method: str, payload: str, timeout: float | None = None) -> dict[str, Any]:
        """What became of a call: `payload`, or `code`, `message` and `data`."""
        return await self.caller.ask(
            "call", to=self.responder.identity, method=method, payload=payload, timeout=timeout
        )

    async def echo(self, payload: str) -> None:
        """A payload there and back, whole."""
        outcome = await self.call("echo", payload, 30)
        assert "payload" in outcome, outcome
        assert outcome["payload"] == payload

    async def hang(self, name: str, timeout: float) -> asyncio.Task[dict[str, Any]]:
        """A call whose handler has started, and does not answer."""
        call = asyncio.create_task(self.call("hang", name, timeout))
        await self.responder.told(STARTED, name)
        return call

    async def leave(self, name: str) -> None:
        """The responder leaves in mid-call, which the caller sees, if it looks."""
        call = await self.hang(name, 4)
        await self.responder.ask("leave")
        outcome = await call
        if self.sees_departures:
            assert outcome.get("code") == 1503, outcome
        else:
            assert outcome.get("code") == 1502, outcome
            self.note = "1502: it does not look who leaves"

    async def reach(self) -> None:
        """Call until the responder answers: some take their time to come back, and do not say
        when they are."""
        while "payload" not in await self.call("greet", "", 5):
            await asyncio.sleep(0.1)

    async def meet(self) -> None:
        """Each knows that the other is here."""
        await self.caller.ask("wait", identity=self.responder.identity)
        await self.responder.ask("wait", identity=self.caller.identity)


def noise(size: int) -> str:
    """A text of `size` bytes that does not compress well, the same at each run."""
    return base64.b64encode(random.Random(size).randbytes(size)).decode()[:size]


async def greeting(act: Act) -> None:
    outcome = await act.call("greet", "Hi!")
    assert outcome["payload"] == f"Hello, {act.caller.identity}!"


async def empty(act: Act) -> None:
    await act.echo("")


async def unicode(act: Act) -> None:
    await act.echo("ä€😀\u0000\ufeff\u202e" * 100)


async def at_the_limit(act: Act) -> None:
    await act.echo(noise(V1_LIMIT))


async def over(act: Act, size: int) -> None:
    """Goes where streams are read, and is refused by the caller itself where they are not."""
    if not act.is_v1:
        await act.echo(noise(size))
        return
    outcome = await act.call("echo", noise(size))
    assert outcome.get("code") == 1402, outcome
    act.note = "1402"


async def over_the_limit(act: Act) -> None:
    await over(act, V1_LIMIT + 1)


async def hundred_kilobytes(act: Act) -> None:
    await over(act, 100_000)


async def megabyte(act: Act) -> None:
    await over(act, 1_000_000)


async def large_response(act: Act) -> None:
    outcome = await act.call("fill", str(V1_LIMIT + 1))
    if act.is_v1:
        assert outcome.get("code") == 1504, outcome
        act.note = "1504"
    else:
        assert outcome.get("payload") == "y" * (V1_LIMIT + 1), outcome


async def unknown_method(act: Act) -> None:
    outcome = await act.call("nobody knows it", "")
    assert outcome.get("code") == 1400, outcome
    assert outcome["message"] == "Method not supported at destination"


async def refusal(act: Act) -> None:
    outcome = await act.call("refuse", "")
    assert outcome.get("code") == 7001, outcome
    assert outcome["message"] == "not today"
    assert outcome["data"] == '{"ask": "tomorrow ☀"}'


async def broken_handler(act: Act) -> None:
    outcome = await act.call("break", "")
    assert outcome.get("code") == 1500, outcome
    assert "secret" not in str(outcome)


async def too_slow(act: Act) -> None:
    outcome = await act.call("hang", "too slow", 2)
    assert outcome.get("code") == 1502, outcome


async def responder_leaves(act: Act) -> None:
    await act.leave("left alone")
    await act.responder.join(act.room)
    await act.meet()


async def caller_leaves(act: Act) -> None:
    call = await act.hang("deserted", 8)
    await act.caller.ask("leave")
    if act.responder.identity == "ours":
        await act.responder.told(CANCELLED, "deserted")
    call.cancel()
    await act.caller.join(act.room)
    await act.meet()


async def rejoin(act: Act) -> None:
    await act.leave("before it comes again")
    await act.responder.join(act.room)
    await act.meet()
    await greeting(act)
    await act.echo("again")
    act.note = ""


async def fifty_at_once(act: Act) -> None:
    answer = await act.caller.ask(
        "calls", to=act.responder.identity, count=50, at_once=50, timeout=20
    )
    assert answer["outcomes"] == {"right": 50}, answer["outcomes"]


async def nested(act: Act) -> None:
    outcome = await act.call("relay", "6")
    assert outcome.get("payload") == "654321.", outcome


CASES: Final[dict[str, Callable[[Act], Awaitable[None]]]] = {
    "greeting": greeting,
    "empty": empty,
    "unicode": unicode,
    "15360 bytes": at_the_limit,
    "15361 bytes": over_the_limit,
    "100 KB": hundred_kilobytes,
    "1 MB": megabyte,
    "15361 bytes in the response alone": large_response,
    "unknown method": unknown_method,
    "RpcError with data": refusal,
    "handler raises": broken_handler,
    "handler too slow": too_slow,
    "responder leaves in mid-call": responder_leaves,
    "caller leaves in mid-call": caller_leaves,
    "re-join": rejoin,
    "50 calls at once": fifty_at_once,
    "nested calls": nested,
}
