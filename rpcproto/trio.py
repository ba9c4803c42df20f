"""The host for trio: calls and handlers as async functions, over any `Transport`. Needs the extra
`trio`."""

import contextvars
import math
from collections.abc import Callable
from inspect import isawaitable
from typing import Self

from rpcproto.core.errors import LocalProtocolError
from rpcproto.core.events import InvocationReceived
from rpcproto.errors import RpcError
from rpcproto.extras import extra
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

with extra("trio", __name__):
    import trio

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
    queued, and closes the transport. That takes at most one second, even if the surrounding scope
    is cancelled. Then it waits, without a limit, for handlers that do not end when they are
    cancelled.

    Not thread-safe: a participant belongs to the trio run in which it was entered. From another
    thread, use `trio.from_thread.run`.
    """

    async def outcome(self, start: Start) -> str:
        ended, outcomes = trio.Event(), list[Outcome]()

        def end(outcome: Outcome) -> None:
            outcomes.append(outcome)
            ended.set()

        try:
            cancel = start(end)
        except (RpcError, LocalProtocolError):
            await trio.lowlevel.checkpoint()  # a program that tries again and again stops nobody
            raise
        try:
            await ended.wait()
        finally:
            cancel()
        outcome = outcomes.pop()
        if isinstance(outcome, str):
            return outcome
        try:
            raise outcome
        finally:
            del outcome  # else its traceback and this frame would keep each other alive

    async def aclose(self) -> None:
        """Leave now, like the end of the `async with` block. A second call waits for the first.

        Raises:
            LocalProtocolError: The participant was not entered.
        """
        if self._is_closed:
            with trio.CancelScope(shield=True):
                await self._left.wait()
            return
        self.close_engine()
        latest = trio.current_time() + LEAVING_TIME
        self._reading.cancel()
        try:
            with trio.CancelScope(deadline=latest - LEAVING_TIME / 2, shield=True):
                await self._writer_ended.wait()
        finally:
            self._writing.cancel()
            self._timing.cancel()
            try:
                with trio.CancelScope(deadline=latest, shield=True):
                    await self._transport.aclose()
            except Exception:
                logger.warning("%s: closing the transport failed", self.identity, exc_info=True)
            finally:
                self._left.set()

    async def __aenter__(self) -> Self:
        self._token = trio.lowlevel.current_trio_token()
        self.open_engine(trio.current_time)
        self._context = contextvars.copy_context()
        # No checkpoint, as none is in entering a nursery: what the body registers first is in time.
        self._tasks = trio.open_nursery()
        self._nursery = await self._tasks.__aenter__()
        self._writer_is_wanted = trio.lowlevel.ParkingLot()
        self._writer_ended, self._left = trio.Event(), trio.Event()
        self._reading, self._writing = trio.CancelScope(shield=True), trio.CancelScope(shield=True)
        self._timing, self._timer = trio.CancelScope(shield=True), trio.CancelScope()
        if isinstance(self._transport, WelcomingTransport):
            self.receive_events(self._transport.take_welcome())
        for task in (self._read, self._write, self._keep_time):
            self._nursery.start_soon(task)
        return self

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        try:
            await self.aclose()
        finally:
            # The nursery need not know what the body raised, or it would wrap it in a group.
            try:
                await self._tasks.__aexit__(None, None, None)
            except BaseExceptionGroup as group:
                # If the scope around is cancelled, what the body raised says more.
                if error is None or group.split(trio.Cancelled)[1] is not None:
                    if len(group.exceptions) > 1:
                        raise
                    raise group.exceptions[0] from None

    # the tasks: they outlive a cancelled scope around, so that leaving can send what waits

    async def _read(self) -> None:
        with self._reading:
            try:
                while events := await self._transport.receive():
                    self.receive_events(events)
            except Exception as error:
                self.connection_failed(error)
            self.connection_ended()

    async def _write(self) -> None:
        with self._writing:
            while True:
                while self.has_packets:
                    try:
                        await self._transport.send(self.next_packet)
                    except PacketsNotSent as error:
                        self.packets_not_sent(error.packets)
                    except Exception as error:
                        self.sending_failed(error)
                    if self.send_was_empty():
                        await trio.lowlevel.checkpoint()
                if self._is_closed:
                    break
                await self._writer_is_wanted.park()
        self._writer_ended.set()

    async def _keep_time(self) -> None:
        with self._timing:
            while True:
                with self._timer:
                    await trio.sleep_forever()
                self._timer = trio.CancelScope()
                self.timer_fired()

    async def _handle(self, invocation: InvocationReceived, scope: trio.CancelScope) -> None:
        try:
            with scope:
                await self._run(invocation)
        finally:
            self.handler_ended(invocation)

    async def _run(self, invocation: InvocationReceived) -> None:
        await trio.lowlevel.checkpoint()  # nobody may want the answer any more
        try:
            result = self.run_handler(invocation)
            if isawaitable(result):
                result = await result
        except BaseException as error:
            cancelled: BaseException | None = None
            failed: BaseException | None = error
            # What looks like cancelling counts only if the host has cancelled the handler.
            if trio.current_effective_deadline() == -math.inf:
                if isinstance(error, BaseExceptionGroup):
                    cancelled, failed = error.split(trio.Cancelled)
                elif isinstance(error, trio.Cancelled):
                    cancelled, failed = error, None
            if failed is not None:
                self.answer_exception(invocation, failed)
                if isinstance(failed, KeyboardInterrupt):
                    raise
            if cancelled is not None:  # the participant is leaving, or the invocation is over
                raise cancelled from None
        else:
            self.answer(invocation, result)

    # the hooks

    def require_owner(self) -> None:
        if self._is_open and not (
            trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is self._token
        ):
            raise LocalProtocolError("the participant belongs to another trio run")

    def wake_writer(self) -> None:
        self._writer_is_wanted.unpark_all()

    def set_timer(self, at: float) -> None:
        self._timer.deadline = at

    def start_handler(self, invocation: InvocationReceived) -> Callable[[], object]:
        # A cancelled scope around cancels handlers by leaving, which tells them why.
        scope = trio.CancelScope(shield=True)
        self._context.run(self._nursery.start_soon, self._handle, invocation, scope)
        return scope.cancel
