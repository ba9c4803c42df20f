"""The host for asyncio: calls and handlers as coroutines, over any `Transport`."""

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from inspect import isawaitable
from typing import Self

from rpcproto.core.errors import LocalProtocolError
from rpcproto.core.events import InvocationReceived
from rpcproto.errors import RpcError
from rpcproto.logs import logger
from rpcproto.participant import (
    LEAVING_TIME,
    AsyncParticipantBase,
    IncomingRpcNext,
    Outcome,
    OutgoingRpcNext,
    RpcCallInfo,
    RpcInterceptor,
    RpcInvocationData,
    Start,
)
from rpcproto.transports import PacketsNotSent, WelcomingTransport

__all__ = [
    "IncomingRpcNext",
    "OutgoingRpcNext",
    "RpcCallInfo",
    "RpcError",
    "RpcInterceptor",
    "RpcInvocationData",
    "RpcParticipant",
]


class RpcParticipant(AsyncParticipantBase):
    """A participant in a room. Use it once, as an async context manager.

    Inside the `async with` block it answers requests and makes calls. The transport belongs to the
    participant, which closes it on leaving. Methods can be registered before or inside the block.
    No request arrives before the first `await` in the block.

    Leaving fails all calls with 1503, cancels all handlers, sends the small packets that are still
    queued, and closes the transport. That takes at most one second. Then it waits, without a limit,
    for handlers that do not end when they are cancelled.

    Not thread-safe: a participant belongs to the event loop in which it was entered. From another
    thread, use `asyncio.run_coroutine_threadsafe`.
    """

    _reader: asyncio.Task[None]
    _writer: asyncio.Task[None]
    _timer: asyncio.TimerHandle | None = None
    _writer_waits: asyncio.Future[None] | None = None

    async def outcome(self, start: Start) -> str:
        ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        try:
            cancel = start(partial(_end, ended))
        except (RpcError, LocalProtocolError):
            await asyncio.sleep(0)  # a program that tries again and again stops nobody
            raise
        try:
            if ended.done():
                await asyncio.sleep(0)
            outcome = await ended
        finally:
            cancel()
        if isinstance(outcome, str):
            return outcome
        try:
            raise outcome
        finally:
            # Else its traceback and this frame would keep each other alive.
            del outcome, ended, cancel

    async def aclose(self) -> None:
        """Leave now, like the end of the `async with` block. A second call waits for the first.

        Raises:
            LocalProtocolError: The participant was not entered.
        """
        if self._is_closed:
            await self._left.wait()
            return
        self.close_engine()
        latest = self._loop.time() + LEAVING_TIME
        self._reader.cancel()
        if self._writer.cancelling():  # with all other tasks, as at the end of `asyncio.run`
            self._writer = self._start(self._write())
        try:
            await asyncio.wait([self._writer], timeout=LEAVING_TIME / 2)
        finally:
            self._writer.cancel()
            if self._timer is not None:
                self._timer.cancel()
            try:
                async with asyncio.timeout_at(latest):
                    await self._transport.aclose()
            except Exception:
                logger.warning("%s: closing the transport failed", self.identity, exc_info=True)
            finally:
                self._left.set()

    async def __aenter__(self) -> Self:
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        self.open_engine(self._loop.time)
        self._context = contextvars.copy_context()
        self._left = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        if isinstance(self._transport, WelcomingTransport):
            self.receive_events(self._transport.take_welcome())
        self._reader = self._start(self._read())
        self._writer = self._start(self._write())
        return self

    async def __aexit__(self, *_: object) -> None:
        cancelled = None
        try:
            await self.aclose()
        finally:
            while self._tasks:
                try:
                    await asyncio.wait(self._tasks)
                except asyncio.CancelledError as error:
                    cancelled = error
            # A cancelled task, its exception and its frame would keep all of this alive.
            del self._reader, self._writer
        if cancelled is not None:
            raise cancelled

    # the tasks

    async def _read(self) -> None:
        # The body of the `async with` goes first, even where tasks start eagerly.
        await asyncio.sleep(0)
        try:
            while events := await self._transport.receive():
                self.receive_events(events)
        except Exception as error:
            self.connection_failed(error)
        except asyncio.CancelledError:
            if self._reader.cancelling():
                raise  # we are leaving, and what waits is still sent
        self.connection_ended()

    async def _write(self) -> None:
        while True:
            while self.has_packets:
                try:
                    await self._transport.send(self.next_packet)
                except PacketsNotSent as error:
                    self.packets_not_sent(error.packets)
                except Exception as error:
                    self.sending_failed(error)
                except BaseException:  # a packet may have been cut in two
                    self.connection_ended()
                    raise
                if self.send_was_empty():
                    await asyncio.sleep(0)
            if self._is_closed:
                return
            self._writer_waits = self._loop.create_future()
            await self._writer_waits

    async def _handle(self, invocation: InvocationReceived) -> None:
        if self._loop.get_task_factory() is not None:
            await asyncio.sleep(0)  # the pump runs no code of the program where tasks start eagerly
        try:
            result = self.run_handler(invocation)
            if isawaitable(result):
                result = await result
        except BaseException as error:
            self.answer_exception(invocation, error)
            if isinstance(error, KeyboardInterrupt):
                raise
        else:
            self.answer(invocation, result)

    def _start(self, coroutine: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # the hooks

    def require_owner(self) -> None:
        if self._is_open and threading.get_ident() != self._thread:
            raise LocalProtocolError("the participant belongs to another thread")

    def wake_writer(self) -> None:
        if self._writer_waits is not None and not self._writer_waits.done():
            self._writer_waits.set_result(None)

    def set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self.timer_fired)

    def start_handler(self, invocation: InvocationReceived) -> Callable[[], object]:
        task = self._loop.create_task(self._handle(invocation), context=self._context.copy())
        self._tasks.add(task)
        task.add_done_callback(partial(self._handler_task_ended, invocation))
        # A handler that closes its participant is not cancelled by that.
        return lambda: task is not asyncio.current_task() and task.cancel()

    def _handler_task_ended(self, invocation: InvocationReceived, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.handler_ended(invocation)
        if not task.cancelled():
            task.exception()  # a KeyboardInterrupt, which has ended the loop by itself


def _end(ended: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not ended.done():
        ended.set_result(outcome)
