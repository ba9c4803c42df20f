"""Leaving gracefully: no new requests, and time for what is under way."""

import math
from abc import abstractmethod
from functools import partial
from typing import Final

from rpcproto.core.config import RpcConfig
from rpcproto.core.errors import LocalProtocolError, require_finite
from rpcproto.core.events import InvocationReceived
from rpcproto.participant.answering import AnsweringParticipant
from rpcproto.participant.calling import CallingParticipant
from rpcproto.participant.waiting import Cancel, Waiter, noop

DRAINED: Final = "drained"
"""The outcome of draining when no handler, call or packet is left."""
NOT_DRAINED: Final = ""
"""The outcome of draining when the timeout has passed, or the participant has left."""

NOT_SENDING: Final = -1
"""Instead of the number of a connection."""


class DrainingParticipant(CallingParticipant, AnsweringParticipant):
    """Can refuse new requests, and wait until no handler, call or packet is left."""

    def __init__(self, identity: str, config: RpcConfig) -> None:
        super().__init__(identity, config)
        self._drains: dict[Waiter, float] = {}
        """Who waits until nothing is under way, and until when."""
        self._chains_of_calls = 0
        """How many calls of ours are in the hands of interceptors."""
        self._sending_over = NOT_SENDING
        """The number of the connection that a sending began on which has not ended."""
        self._timer_at: float | None = None

    def begin_drain(self, timeout: float | None, waiter: Waiter) -> Cancel:
        """Refuse new requests from now on, and return a function that ends the wait, but not
        the refusal.

        `waiter` takes `DRAINED` when no handler, call or packet is left. It takes `NOT_DRAINED`
        after `timeout` seconds (None means no limit) and on leaving.

        Raises:
            LocalProtocolError: The timeout is invalid, or there is no engine.
        """
        self.engine  # noqa: B018 (raises before `open_engine`)
        self.require_owner()
        until = math.inf
        if timeout is not None:
            if require_finite(timeout, "timeout") < 0:
                raise LocalProtocolError("timeout must not be below 0 seconds")
            until = self._clock() + float(timeout)
        self._handlers.is_draining = True
        if self._is_closed or self._is_idle():
            self._waiting.tell(waiter, DRAINED if self._is_idle() else NOT_DRAINED)
            return noop
        self._drains[waiter] = until
        self._look_at_drains()
        return partial(self._end_drain, waiter)

    def handler_ended(self, invocation: InvocationReceived) -> None:
        """Report that the task of a handler has ended, whether it answered or not."""
        self._handlers.ended(invocation.invocation_id)
        if self._drains:
            self._look_at_drains()

    @abstractmethod
    def set_timer(self, at: float) -> None:
        """Call `timer_fired` at the instant `at` (seconds on the clock), which replaces the instant
        of an earlier call.

        A timer can fire early or late.
        """

    def _end_drain(self, waiter: Waiter) -> None:
        self._drains.pop(waiter, None)

    def _fail_drains(self) -> None:
        drains, self._drains = self._drains, {}
        for waiter in drains:
            self._waiting.tell(waiter, NOT_DRAINED)

    def _look_at_drains(self) -> None:
        """Something has ended, or time has passed: tell those who need not wait any more.

        All that ends calls or invocations wakes the writer, which comes here when it has no more
        packets. So the pump does not have to, which is on the way of every call.
        """
        now = math.inf if self._is_idle() else self._clock()
        outcome = DRAINED if now == math.inf else NOT_DRAINED
        for waiter in [waiter for waiter, until in self._drains.items() if until <= now]:
            del self._drains[waiter]
            self._waiting.tell(waiter, outcome)
        first = min(self._drains.values(), default=math.inf)
        if first < (math.inf if self._timer_at is None else self._timer_at):
            self._timer_at = first
            self.set_timer(first)

    def _is_idle(self) -> bool:
        """Whether nothing runs, nothing is awaited, and everything has left."""
        now = self._engine.statistics()
        if now.pending_calls or now.running_invocations:
            return False
        if self._waiting.delayed or self._chains_of_calls or self._handlers.are_running:
            return False
        waiting = now.waiting_packets or now.waiting_bytes or now.open_streams_out
        return not (waiting or self._sending_over != NOT_SENDING) or not self._waiting.may_send
