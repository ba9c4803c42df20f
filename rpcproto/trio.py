"""The host for trio: LiveKit RPC as async functions, over any `Transport`."""

import contextvars
from collections.abc import Callable
from functools import partial
from inspect import isawaitable
from types import TracebackType
from typing import Final, Self

import trio

from rpcproto.core.errors import RpcError
from rpcproto.core.events import InvocationReceived
from rpcproto.participant import Cancel, ParticipantBase, RpcInvocationData, Waiter, logger
from rpcproto.transports import PacketNotSent, Transport

__all__ = ["RpcError", "RpcInvocationData", "RpcParticipant"]

LEAVING_TIME: Final = 1.0
"""How long leaving may take, in seconds; what waits to be sent has half of it."""


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
        if self._is_connecting:
            await self._outcome(partial(self._expect, None))
        timeouts = response_timeout, max_round_trip_latency
        start = partial(self._call, destination_identity, method, payload, *timeouts)
        return await self._outcome(start)

    async def wait_for_participant(self, identity: str) -> None:
        """Wait until somebody (1 to 256 bytes of UTF-8) is here; at once if they are already.

        Raises RpcError (1503) when the transport ends or the participant leaves before, and
        LocalProtocolError for misuse. How long to wait is the caller's business: `trio.fail_after`.
        """
        await self._outcome(partial(self._expect, identity))

    async def _outcome(self, start: Callable[[Waiter], Cancel]) -> str:
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
        """Leave now, as the end of the `async with` does; no more than once."""
        if self._is_closed:
            await trio.lowlevel.checkpoint()
            return
        latest = trio.current_time() + LEAVING_TIME
        self._reading.cancel()
        self._close()
        with trio.CancelScope(deadline=latest - LEAVING_TIME / 2, shield=True):
            await self._writer_ended.wait()
        self._writing.cancel()
        self._timing.cancel()
        try:
            with trio.CancelScope(deadline=latest, shield=True):
                await self._transport.aclose()
        except Exception:
            logger.warning("%s: closing the transport failed", self._identity, exc_info=True)

    async def __aenter__(self) -> Self:
        self._open(trio.current_time)
        self._context = contextvars.copy_context()
        await trio.lowlevel.checkpoint()
        self._tasks = trio.open_nursery()
        self._nursery = await self._tasks.__aenter__()
        self._writer_is_wanted = trio.lowlevel.ParkingLot()
        self._writer_ended = trio.Event()
        self._reading = trio.CancelScope()
        self._writing = trio.CancelScope(shield=True)
        self._timing = trio.CancelScope()
        self._timer = trio.CancelScope()
        for task in (self._read, self._write, self._keep_time):
            self._nursery.start_soon(task)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self.aclose()
        finally:
            # The nursery need not know what the body raised, or it would wrap it in a group.
            try:
                await self._tasks.__aexit__(None, None, None)
            except BaseExceptionGroup as group:
                if len(group.exceptions) > 1:
                    raise
                raise group.exceptions[0] from None

    # the tasks

    async def _read(self) -> None:
        with self._reading:
            try:
                async for event in self._transport:
                    self._receive(event)
            except Exception as error:
                self._connection_broke(error)
            self._connection_over()

    async def _write(self) -> None:
        # Shielded: what waits still leaves when the scope around is cancelled.
        with self._writing:
            while True:
                while (packet := self._next_packet()) is not None:
                    try:
                        await self._transport.send(packet)
                    except PacketNotSent:
                        self._packet_not_sent(packet)
                    except Exception as error:
                        self._connection_broke(error)
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
                self._answer_exception(invocation, error)
                if not isinstance(error, Exception):
                    raise
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
