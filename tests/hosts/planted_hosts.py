"""Hosts with one fault each: their sources with a small change, and drivers for them."""

import asyncio
import importlib.util
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple

import asyncio_host_driver
import host_driver
import trio
from host_drivers import BlockingDriver, TrioDriver

from rpcproto.testing.hosts import HostDriver, HostFailed, Scenario, play


class Fault(NamedTuple):
    """A fault to be planted: `old`, which stands once in the source of `module`, becomes `new`."""

    name: str
    host: str
    module: str
    old: str
    new: str
    found_by: str
    """How the name of a scenario begins that finds it; empty where none can."""
    why_not: str = ""
    """Why no scenario can find it."""


logger = logging.getLogger("rpcproto")

HOSTS = {
    "asyncio": "rpcproto.asyncio",
    "trio": "rpcproto.trio",
    "callback": "callback_host",
    "blocking": "blocking_host",
}
"""The module of each host."""
_LAYERS = (
    "rpcproto.participant.waiting",
    "rpcproto.participant.totals",
    "rpcproto.participant.root",
    "rpcproto.participant.handlers",
    "rpcproto.participant.interceptors",
    "rpcproto.participant.calling",
    "rpcproto.participant.answering",
    "rpcproto.participant.draining",
    "rpcproto.participant.base",
    "rpcproto.participant.async_base",
    "rpcproto.participant",
)
"""What all hosts are built on, in the order in which it is imported."""


def source_of(module: str) -> str:
    """The source of a module, without a fault."""
    return _path_of(module).read_text("utf-8")


def attempt(fault: Fault, scenario: Scenario) -> HostFailed | None:
    """Play a scenario to a host with this fault; returns what the kit has found."""
    driver = _driver(fault)
    try:
        play(scenario, driver)
    except HostFailed as failed:
        return failed
    finally:
        logger.disabled = True
        driver.drop()
        logger.disabled = False
    return None


@cache
def _path_of(module: str) -> Path:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin)


@cache
def _code_of(module: str) -> CodeType:
    return compile(source_of(module), str(_path_of(module)), "exec")


def _host_with(fault: Fault) -> ModuleType:
    """The module of a host, made anew with the fault in it or in what it is built on."""
    name = HOSTS[fault.host]
    names = (*_LAYERS, name) if fault.module in _LAYERS else (name,)
    with _made_anew(names) as modules:
        for module in modules:
            if module.__name__ == fault.module:
                source = source_of(fault.module)
                assert source.count(fault.old) == 1, f"{fault.name}: the source has changed"
                changed = source.replace(fault.old, fault.new)
                code = compile(changed, f"<{fault.name}>", "exec")
            else:
                code = _code_of(module.__name__)
            exec(code, module.__dict__)
        return modules[-1]


@contextmanager
def _made_anew(names: tuple[str, ...]) -> Iterator[list[ModuleType]]:
    """Empty modules of these names, which stand in for the true ones as long as this lasts."""
    before = {name: sys.modules[name] for name in names if name in sys.modules}
    modules = []
    for name in names:
        modules.append(module := ModuleType(name))
        module.__file__ = str(_path_of(name))
        sys.modules[name] = module
    try:
        yield modules
    finally:
        for name in names:
            del sys.modules[name]
        sys.modules.update(before)


# drivers that can be dropped in the middle of a scenario


class _Driver(HostDriver):
    def drop(self) -> None:
        """Leave nothing of the host behind, whatever state it is in."""


class _Asyncio(asyncio_host_driver.Driver, _Driver):
    def drop(self) -> None:
        if self.loop.is_closed():
            return
        self.loop.set_exception_handler(lambda loop, context: None)
        for _ in range(5):
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            with suppress(BaseException):
                self.advance(2.0)
        self.loop.close()


class _Trio(TrioDriver, _Driver):
    def drop(self) -> None:
        for _ in range(100):
            if not self._thread.is_alive():
                break
            with suppress(trio.RunFinishedError, trio.Cancelled):
                self._sync(self._everything.cancel)
                self.advance(0.125)
        self._thread.join(10)
        assert not self._thread.is_alive()


class _Callback(host_driver.Driver, _Driver):
    pass


class _Blocking(BlockingDriver, _Driver):
    def drop(self) -> None:
        self.threads.shutdown(wait=False)


def _driver(fault: Fault) -> _Driver:
    module: Any = _host_with(fault)
    match fault.host:
        case "asyncio":
            return _set(_Asyncio(), host_type=module.RpcParticipant)
        case "trio":
            return _set(_Trio(), host_type=module.RpcParticipant)
        case "callback":
            return _set(_Callback(), host_type=module.CallbackParticipant)
        case _:
            return _set(_Blocking(), module=module)


def _set(driver: _Driver, **attributes: Any) -> _Driver:
    for name, value in attributes.items():
        setattr(driver, name, value)
    return driver
