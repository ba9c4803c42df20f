"""Leaving gracefully: no new requests, and time for what is under way."""

import math
from functools import partial
from typing import Final

from rpcproto.core.config import RpcConfig
from rpcproto.core.errors import LocalProtocolError, require_finite
from rpcproto.core.events import InvocationReceived
from rpcproto.participant.answering import AnsweringParticipant
from rpcproto.participant.calling import CallingParticipant
from rpcproto.participant.waiting import Cancel, Waiter, noop

DRAINED: Final = "drained"
NOT_DRAINED: Final = ""
"""The two outcomes of draining."""


class DrainingParticipant(CallingParticipant, AnsweringParticipant):
    """Can stop taking requests, and wait until nothing is under way."""

    def __init__(self, identity: str, config: RpcConfig) -> None:
        super().__init__(identity, config)
        self._drains: dict[Waiter, float] = {}
        """Who waits until nothing is under way, and until when."""
        self._chains_of_calls = 0
        """How many calls of ours are in the hands of interceptors."""
        self._is_sending = False
        """Whether `Transport.send` has been called and has not ended."""

    def begin_drain(self, timeout: float | None, waiter: Waiter) -> Cancel:
        """Refuse new requests from now on, and tell `waiter` DRAINED once nothing is under way, or
        NOT_DRAINED after `timeout` seconds (None: never) and on leaving.

        Returns what ends the waiting, but not the refusing. Raises LocalProtocolError for misuse.
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
        self._pump()
        return partial(self._end_drain, waiter)

    def handler_ended(self, invocation: InvocationReceived) -> None:
        """The task of a handler has ended, whether it answered or not."""
        self._handlers.ended(invocation.invocation_id)
        if self._drains:
            self._look_at_drains()

    def _end_drain(self, waiter: Waiter) -> None:
        self._drains.pop(waiter, None)

    def _fail_drains(self) -> None:
        drains, self._drains = self._drains, {}
        for waiter in drains:
            self._waiting.tell(waiter, NOT_DRAINED)

    def _look_at_drains(self, deadline: float | None = None) -> float | None:
        """Something has ended, or time has passed: tell those who need not wait any more. Returns
        the first of a deadline and of the instants until which the others wait."""
        now = math.inf if self._is_idle() else self._clock()
        outcome = DRAINED if now == math.inf else NOT_DRAINED
        for waiter in [waiter for waiter, until in self._drains.items() if until <= now]:
            del self._drains[waiter]
            self._waiting.tell(waiter, outcome)
        first = min([*self._drains.values(), math.inf if deadline is None else deadline])
        return None if first == math.inf else first

    def _is_idle(self) -> bool:
        """Whether nothing runs, nothing is awaited, and everything has left."""
        now = self._engine.statistics()
        if now.pending_calls or now.running_invocations:
            return False
        if self._waiting.delayed or self._chains_of_calls or self._handlers.are_running:
            return False
        waiting = now.waiting_packets or now.waiting_bytes or now.open_streams_out
        return not (waiting or self._is_sending) or not self._waiting.may_send
