"""What `rpcproto serve` does: answer requests with functions."""

import asyncio
import importlib
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from inspect import isawaitable
from pathlib import Path

import click

from rpcproto.asyncio import RpcParticipant
from rpcproto.cli import urls
from rpcproto.cli.sealing import Keys, ReportingEngine, Unreadable
from rpcproto.core.errors import ErrorCode, LocalProtocolError, require_name
from rpcproto.errors import RpcError
from rpcproto.participant import IncomingRpcNext, RpcHandler, RpcInterceptor, RpcInvocationData
from rpcproto.transports import Transport
from rpcproto.wire import MAX_METHOD_BYTES


def echo(data: RpcInvocationData) -> str:
    """The payload back."""
    return data.payload


def time(data: RpcInvocationData) -> str:
    """What time it is, in UTC."""
    return datetime.now(UTC).isoformat()


def load_methods(specs: Sequence[str]) -> dict[str, RpcHandler]:
    """The methods that there always are, and those of `module:function` or `name=module:function`.

    Raises click.BadParameter for what cannot be found, or not be called.
    """
    given: dict[str, RpcHandler] = {}
    if specs:
        _look_in_the_current_directory()
    for spec in specs:
        target, is_named, rest = spec.partition("=")
        module, _, function = (rest if is_named else target).partition(":")
        method = target if is_named else function
        if not module or not function:
            raise click.BadParameter(f"{spec!r} should look like module:function")
        try:
            require_name(method, "the name of the method", MAX_METHOD_BYTES)
        except LocalProtocolError as error:
            raise click.BadParameter(f"{spec!r}: {error}") from None
        if method in given:
            raise click.BadParameter(f"{spec!r}: there is a method {method!r} already")
        given[method] = _load(module, function)
    return {"echo": echo, "time": time} | given


def _look_in_the_current_directory() -> None:
    with suppress(OSError):  # it was deleted
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.insert(0, here)


def _load(module: str, function: str) -> RpcHandler:
    try:
        found = getattr(importlib.import_module(module), function, None)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever the module does, sys.exit() too
        reason = f"{type(error).__name__}: {error}"
        raise click.BadParameter(f"cannot import {module!r}: {reason}") from error
    if not callable(found):
        what = "no function" if found is None else "not a function"
        raise click.BadParameter(f"{function!r} is {what} of {module!r}")
    handler: RpcHandler = found
    return handler


class Service:
    """The participant `identity`, which answers requests for some methods.

    `say` takes a line about where that is, and about packets that could not be read; `tell` one
    about each invocation; neither may raise. With `keys`, packets are encrypted.
    """

    def __init__(
        self,
        identity: str,
        methods: Mapping[str, RpcHandler],
        say: Callable[[str], None],
        tell: Callable[[str], None] | None,
        keys: Keys | None = None,
    ) -> None:
        self._keys = keys
        self._unreadable = Unreadable(say)
        self._identity = identity
        self._methods = methods
        self._say = say
        self._tell = tell
        self.running: Counter[str] = Counter()
        """How many handlers of each method have not ended."""
        self._participants: set[RpcParticipant] = set()
        self._is_draining = False

    async def serve(
        self, address: urls.Address, *, max_connections: int, send_timeout: float
    ) -> None:
        """Serve until cancelled, or as long as there is a connection. Raises NoConnection."""
        await urls.serve(
            address,
            self._identity,
            self._handle,
            self._announce,
            max_connections=max_connections,
            send_timeout=send_timeout,
        )

    async def drain(self, say_what_is_waited_for: Callable[[], None]) -> None:
        """Take no new requests, and return when nothing is under way any more.

        If that is not at once, `say_what_is_waited_for` is called first.
        """
        self._is_draining = True
        is_said = False
        while waiting := [p for p in tuple(self._participants) if not await p.drain(timeout=0)]:
            if not is_said:
                say_what_is_waited_for()
                is_said = True
            await asyncio.gather(*(participant.drain() for participant in waiting))

    def _announce(self, where: urls.Address) -> None:
        self._say(f"{self._identity} serves {', '.join(self._methods)} over {where}")

    async def _handle(self, transport: Transport) -> BaseException | None:
        participant = RpcParticipant(
            transport,
            cryptor=None if self._keys is None else self._keys.cryptor(),
            engine_factory=partial(ReportingEngine, self._unreadable),
        )
        for method, handler in self._methods.items():
            participant.register_rpc_method(method, self._counted(handler))
        if self._tell is not None:
            participant.add_rpc_interceptor(_Telling(self._tell))
        async with participant:
            self._participants.add(participant)
            try:
                if self._is_draining:
                    await participant.drain(timeout=0)
                # Nobody else has our name: this waits until the connection is over.
                await participant.wait_for_participant(transport.identity)
            except RpcError as over:
                return over.__cause__
            finally:
                self._participants.remove(participant)
        return None

    def _counted(self, handler: RpcHandler) -> RpcHandler:
        """A handler whose invocations are counted while they run."""

        async def handle(data: RpcInvocationData) -> str | None:
            self.running[data.method] += 1
            try:
                result = handler(data)
                return await result if isawaitable(result) else result
            finally:
                self.running[data.method] -= 1

        return handle


class _Telling(RpcInterceptor):
    """Reports each request at its end, those for unknown methods too."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    async def intercept_incoming(
        self, invocation: RpcInvocationData, next: IncomingRpcNext
    ) -> str | None:
        clock = asyncio.get_running_loop().time
        began = clock()
        outcome = str(RpcError(ErrorCode.APPLICATION_ERROR))
        try:
            result = await next(invocation)
            if result is None or isinstance(result, str):
                outcome = _size(result or "")
        except RpcError as error:
            outcome = str(error)
            raise
        except asyncio.CancelledError:
            outcome = "abandoned"
            raise
        finally:
            caller, method = invocation.caller_identity, invocation.method
            what = f"{caller} calls {method} ({_size(invocation.payload)})"
            self._tell(f"{what}: {outcome}, {(clock() - began) * 1000:.1f} ms")
        return result


def _size(payload: str) -> str:
    return f"{len(payload.encode()):,} bytes"
