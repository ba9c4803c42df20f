"""The host for trio: LiveKit RPC as async functions, over any `Transport`."""

import contextvars
from collections.abc import Callable
from functools import partial
from inspect import isawaitable
from typing import Self

import trio

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
    most one second even where the scope around is cancelled, and then waits for handlers that do
    not end when cancelled.

    Not thread-safe: everything belongs to the trio run in which it was entered.
    """

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
        LocalProtocolError for misuse. How long to wait is the caller's business: `trio.fail_after`.
        """
        await self._outcome(partial(self._expect, identity))

    async def _outcome(self, start: Start) -> str:
        """Start what has an outcome, and wait for it; cancelling ends it."""
        outcomes: list[str | RpcError] = []
        ended = trio.Event()

        def end(outcome: str | RpcError) -> None:
            outcomes.append(outcome)
            ended.set()

        cancel = start(end)
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
        """Leave now, as the end of the `async with` does; the second time, wait for the first.

        Raises LocalProtocolError outside of the `async with`.
        """
        if self._is_closed:
            with trio.CancelScope(shield=True):
                await self._left.wait()
            return
        self._close()
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
                logger.warning("%s: closing the transport failed", self._identity, exc_info=True)
            finally:
                self._left.set()

    async def __aenter__(self) -> Self:
        self._open(trio.current_time)
        self._context = contextvars.copy_context()
        # No checkpoint, as none is in entering a nursery: what the body registers first is in time.
        self._tasks = trio.open_nursery()
        self._nursery = await self._tasks.__aenter__()
        self._writer_is_wanted = trio.lowlevel.ParkingLot()
        self._writer_ended, self._left = trio.Event(), trio.Event()
        self._reading, self._writing = trio.CancelScope(shield=True), trio.CancelScope(shield=True)
        self._timing = trio.CancelScope(shield=True)
        self._timer = trio.CancelScope()
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
                if error is not None and group.split(trio.Cancelled)[1] is None:
                    return  # the scope around is cancelled; what the body raised says more
                if len(group.exceptions) > 1:
                    raise
                raise group.exceptions[0] from None

    # the tasks: they outlive a cancelled scope around, so that leaving can send what waits

    async def _read(self) -> None:
        with self._reading:
            try:
                async for event in self._transport:
                    self._receive(event)
            except Exception as error:
                self._connection_broke(error)
            self._connection_over()

    async def _write(self) -> None:
        with self._writing:
            while True:
                while (packet := self._next_packet()) is not None:
                    try:
                        await self._transport.send(packet)
                    except PacketNotSent:
                        self._packet_not_sent(packet)
                    except Exception as error:
                        self._sending_broke(error)
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
                self._timer_fired()

    async def _handle(self, invocation: InvocationReceived, scope: trio.CancelScope) -> None:
        with scope:
            await trio.lowlevel.checkpoint()  # nobody may want the answer any more
            try:
                result = self._run_handler(invocation)
                if isawaitable(result):
                    result = await result
            except trio.Cancelled:
                raise  # the participant is leaving, or the invocation is over
            except BaseException as error:
                cancelled: BaseException | None = None
                failed: BaseException | None = error
                if isinstance(error, BaseExceptionGroup):
                    cancelled, failed = error.split(trio.Cancelled)
                if failed is not None:
                    self._answer_exception(invocation, failed)
                    if not isinstance(failed, Exception):
                        raise
                if cancelled is not None:
                    raise cancelled from None
            else:
                self._answer(invocation, result)

    # the hooks

    def _wake_writer(self) -> None:
        self._writer_is_wanted.unpark_all()

    def _set_timer(self, at: float) -> None:
        self._timer.deadline = at

    def _start_handler(self, invocation: InvocationReceived) -> Callable[[], object]:
        scope = trio.CancelScope()
        self._context.run(self._nursery.start_soon, self._handle, invocation, scope)
        return scope.cancel
