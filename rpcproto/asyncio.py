"""The host for asyncio: LiveKit RPC as coroutines, over any `Transport`."""

import asyncio
import contextvars
from collections.abc import Callable
from functools import partial
from inspect import isawaitable
from typing import Self

from rpcproto.core.errors import RpcError
from rpcproto.core.events import InvocationReceived
from rpcproto.participant import LEAVING_TIME, ParticipantBase, RpcInvocationData, Start, logger
from rpcproto.transports import PacketNotSent, Transport

__all__ = ["RpcError", "RpcInvocationData", "RpcParticipant"]


class RpcParticipant(ParticipantBase[Transport]):
    """A participant in a room: an async context manager, good for one use.

    Inside the `async with` it answers requests and makes calls; the transport is the participant's
    from then on, and is closed on leaving. Methods may be registered before or inside; those that
    are registered before the body first waits miss nothing. Leaving fails all calls with 1503,
    cancels all handlers, hands out what small packets still wait and closes the transport, in at
    most one second, and then waits for handlers that do not end when cancelled.

    Not thread-safe: everything belongs to the event loop in which it was entered.
    """

    _timer: asyncio.TimerHandle | None = None

    async def perform_rpc(
        self,
        *,
        destination_identity: str,
        method: str,
        payload: str,
        response_timeout: float | None = None,
        max_round_trip_latency: float | None = None,
    ) -> str:
        """Call `method` of a participant and wait for its answer.

        `response_timeout` bounds the whole call, `max_round_trip_latency` the wait for a sign of
        life; both in seconds, None takes the config's. They begin when the transport is connected:
        until then the call waits. Cancelling ends the call here and now; the handler at the other
        end may still run.

        Raises RpcError: what the handler raised, or one of `ErrorCode`; 1503 has the exception that
        broke the connection as its cause. Raises LocalProtocolError for misuse (R33).
        """
        call = destination_identity, method, payload, response_timeout, max_round_trip_latency
        if self._must_wait(*call):
            await self._outcome(partial(self._expect, None))
        return await self._outcome(partial(self._call, *call))

    async def wait_for_participant(self, identity: str) -> None:
        """Wait until somebody (1 to 256 bytes of UTF-8) is here; at once if they are already.

        Raises RpcError (1503) when the transport ends before, or we leave ourselves, and
        LocalProtocolError for misuse. How long to wait is the caller's business: `asyncio.timeout`.
        """
        await self._outcome(partial(self._expect, identity))

    async def _outcome(self, start: Start) -> str:
        """Start what has an outcome, and wait for it; cancelling ends it."""
        ended: asyncio.Future[str | RpcError] = asyncio.get_running_loop().create_future()
        cancel = start(partial(_end, ended))
        try:
            outcome = await ended
        finally:
            cancel()
        if isinstance(outcome, str):
            return outcome
        try:
            raise outcome
        finally:
            del outcome, ended  # else its traceback and this frame would keep each other alive

    async def aclose(self) -> None:
        """Leave now, as the end of the `async with` does; the second time, wait for the first.

        Raises LocalProtocolError outside of the `async with`.
        """
        if self._is_closed:
            await self._left.wait()
            return
        self._close()
        latest = asyncio.get_running_loop().time() + LEAVING_TIME
        self._reader.cancel()
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
                logger.warning("%s: closing the transport failed", self._identity, exc_info=True)
            finally:
                self._left.set()

    async def __aenter__(self) -> Self:
        self._open(asyncio.get_running_loop().time)
        self._context = contextvars.copy_context()
        self._wake, self._left = asyncio.Event(), asyncio.Event()
        self._group = await asyncio.TaskGroup().__aenter__()
        self._reader = self._group.create_task(self._read())
        self._writer = self._group.create_task(self._write())
        return self

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        try:
            await self.aclose()
        finally:
            # The group need not know what the body raised, or it would wrap it in a group.
            if not isinstance(error, asyncio.CancelledError):
                error = None
            try:
                await self._group.__aexit__(type(error) if error else None, error, None)
            except BaseExceptionGroup as group:
                if len(group.exceptions) > 1:
                    raise
                raise group.exceptions[0] from None

    # the tasks

    async def _read(self) -> None:
        # The body of the `async with` goes first, even where tasks start eagerly.
        await asyncio.sleep(0)
        try:
            async for event in self._transport:
                self._receive(event)
        except Exception as error:
            self._connection_broke(error)
        finally:
            self._connection_over()

    async def _write(self) -> None:
        try:
            while True:
                while (packet := self._next_packet()) is not None:
                    try:
                        await self._transport.send(packet)
                    except PacketNotSent:
                        self._packet_not_sent(packet)
                    except Exception as error:
                        self._sending_broke(error)
                if self._is_closed:
                    return
                self._wake.clear()
                await self._wake.wait()
        finally:
            self._connection_over()  # also where a cancelling comes out of `send`

    async def _handle(self, invocation: InvocationReceived) -> None:
        # The pump runs no application code, even where tasks start eagerly.
        await asyncio.sleep(0)
        try:
            result = self._run_handler(invocation)
            if isawaitable(result):
                result = await result
        except BaseException as error:
            self._answer_exception(invocation, error)
            if not isinstance(error, Exception):
                raise
        else:
            self._answer(invocation, result)

    # the hooks

    def _wake_writer(self) -> None:
        self._wake.set()

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(at, self._timer_fired)

    def _start_handler(self, invocation: InvocationReceived) -> Callable[[], object]:
        coroutine = self._handle(invocation)
        task = self._group.create_task(coroutine, context=self._context.copy())
        # A handler that closes its participant is not cancelled by that.
        return lambda: task is asyncio.current_task() or task.cancel()


def _end(ended: asyncio.Future[str | RpcError], outcome: str | RpcError) -> None:
    if not ended.done():
        ended.set_result(outcome)
