"""A transport that knows why a call got no acknowledgement gives its error the cause."""

from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
import trio
import trio.testing

import rpcproto.asyncio
import rpcproto.trio
from rpcproto import RpcError
from rpcproto.testing import virtual_time_run
from rpcproto.transports import ExplainingTransport, Transport
from rpcproto.transports.memory import MemoryRoom


def run_on_trio(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def run_on_asyncio(main: Callable[[], Awaitable[None]]) -> None:
    virtual_time_run(cast("Any", main()))


each_host = pytest.mark.parametrize(
    ("participant", "run"),
    [
        pytest.param(rpcproto.asyncio.RpcParticipant, run_on_asyncio, id="asyncio"),
        pytest.param(rpcproto.trio.RpcParticipant, run_on_trio, id="trio"),
    ],
)


class Explaining:
    """Another transport, with a reason."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.asked: list[tuple[str, float]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def explain(self, identity: str, since: float) -> Exception | None:
        self.asked.append((identity, since))
        return ConnectionError("it is asleep")


async def outcome_of_a_call_that_nobody_hears(participant: Any, transport: Any) -> RpcError:
    async with participant(transport) as alice:
        with pytest.raises(RpcError) as caught:
            await alice.perform_rpc(destination_identity="bob", method="greet", payload="")
    assert caught.value.code == RpcError.ErrorCode.CONNECTION_TIMEOUT
    return caught.value


@each_host
def test_the_transport_is_asked_for_the_cause(participant: Any, run: Any) -> None:
    async def main() -> None:
        room = MemoryRoom()
        room.join("bob")  # and reads nothing
        transport = Explaining(room.join("alice"))
        assert isinstance(transport, ExplainingTransport)
        error = await outcome_of_a_call_that_nobody_hears(participant, transport)
        assert str(error.__cause__) == "it is asleep"
        [(identity, _)] = transport.asked
        assert identity == "bob"

    run(main)


@each_host
def test_without_such_a_transport_there_is_no_cause(participant: Any, run: Any) -> None:
    async def main() -> None:
        room = MemoryRoom()
        room.join("bob")
        error = await outcome_of_a_call_that_nobody_hears(participant, room.join("alice"))
        assert error.__cause__ is None

    run(main)
