"""Asyncio and trio, as far as a test for both needs them, on virtual time."""

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
import trio
import trio.testing

import rpcproto.asyncio
import rpcproto.trio
from rpcproto.testing import virtual_time_run


@dataclass(frozen=True)
class World:
    """The host of a world, and how a program is run in it; inside, tests use anyio."""

    name: str
    host: ModuleType
    run: Callable[[Callable[[], Coroutine[Any, Any, None]]], None]

    def participant(self, *args: Any, **options: Any) -> rpcproto.asyncio.RpcParticipant:
        """Typed as one of the two: they have the same surface."""
        participant: rpcproto.asyncio.RpcParticipant = self.host.RpcParticipant(*args, **options)
        return participant


def _run_asyncio(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    virtual_time_run(main())


def _run_trio(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


WORLDS = (World("asyncio", rpcproto.asyncio, _run_asyncio), World("trio", rpcproto.trio, _run_trio))

each_world = pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
