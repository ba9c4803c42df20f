"""The calling side of a participant: its calls, and the participants that it waits for."""

from functools import partial

from rpcproto.core.config import RpcConfig
from rpcproto.core.errors import ErrorCode, LocalProtocolError, require_name
from rpcproto.participant.root import ParticipantRoot
from rpcproto.participant.totals import OTHER, outcome_of
from rpcproto.participant.waiting import (
    CallArguments,
    Cancel,
    Connection,
    DelayedCall,
    Outcome,
    Waiter,
    Waiting,
    noop,
)
from rpcproto.wire import MAX_IDENTITY_BYTES


class CallingParticipant(ParticipantRoot):
    """Makes calls, and reports their outcomes."""

    def __init__(self, identity: str, config: RpcConfig) -> None:
        super().__init__(identity, config)
        self._waiting = Waiting(identity)

    def begin_call(self, call: CallArguments, waiter: Waiter) -> Cancel:
        """Begin a call, and return a function that cancels it.

        `waiter` takes the outcome: the payload, or the exception to raise. It can be called before
        this method returns. Until the transport is connected for the first time, the call waits,
        and its timeouts begin then.

        Raises:
            LocalProtocolError: An argument is invalid, too many calls are pending, or this
                participant was not entered or has left.
            RpcError: The connection is lost (1503).
        """
        if not self._is_open:
            self.engine  # noqa: B018 (raises)
        self.require_owner()
        waiting, now = self._waiting, self._clock()
        if waiting.connection is not Connection.CONNECTED and not self._is_closed:
            self._engine.check_call(*call[:3], response_timeout=call[3], ack_timeout=call[4])
            if waiting.connection is not Connection.CONNECTING:
                code = ErrorCode.RECIPIENT_DISCONNECTED
                self._totals.calls_begun += 1
                self._totals.call_ended((waiter, call, now), outcome_of(code))
                raise waiting.error_of(code)
            delayed = waiting.delayed[waiter] = DelayedCall(call, now)
            self._totals.calls_begun += 1
            return partial(self._cancel_delayed, waiter, delayed)
        request_id = self._make_call(call, waiter, now)
        self._totals.calls_begun += 1
        self._pump()
        return partial(self._cancel_call, request_id)

    def _make_call(self, call: CallArguments, waiter: Waiter, now: float) -> str:
        destination_identity, method, payload, response_timeout, ack_timeout, begun = call
        request_id = self._engine.call(
            destination_identity,
            method,
            payload,
            now=now,
            response_timeout=response_timeout,
            ack_timeout=ack_timeout,
        )
        self._waiting.calls[request_id] = waiter, call, now
        if begun is not None:
            begun(request_id)
        return request_id

    def _cancel_call(self, request_id: str) -> None:
        pending = self._waiting.calls.pop(request_id, None)
        if pending is not None:
            self._totals.call_ended(pending, OTHER, request_id)
            self._engine.cancel(request_id, now=self._clock())
            self._pump()

    def _cancel_delayed(self, waiter: Waiter, call: DelayedCall) -> None:
        if self._waiting.delayed.pop(waiter, None) is not None:
            self._delayed_call_ended(waiter, call, OTHER)
            self._pump()
        self._cancel_call(call.request_id)

    def _begin_delayed_calls(self) -> None:
        """There is a connection: make the calls that have waited for it."""
        waiting, now = self._waiting, self._clock()
        delayed, waiting.delayed = waiting.delayed, {}
        for waiter, call in delayed.items():
            try:
                call.request_id = self._make_call(call.arguments, waiter, now)
            except LocalProtocolError as error:  # too many calls are pending
                self._delayed_call_ended(waiter, call, OTHER)
                waiting.tell(waiter, error)

    def _fail_delayed_calls(self) -> None:
        """No connection comes for the calls that wait for it."""
        waiting, code = self._waiting, ErrorCode.RECIPIENT_DISCONNECTED
        delayed, waiting.delayed = waiting.delayed, {}
        for waiter, call in delayed.items():
            self._delayed_call_ended(waiter, call, outcome_of(code))
            waiting.tell(waiter, waiting.error_of(code))

    def _delayed_call_ended(self, waiter: Waiter, call: DelayedCall, outcome: str) -> None:
        self._totals.call_ended((waiter, call.arguments, call.made), outcome)

    def _call_ended(self, request_id: str, outcome: str, told: Outcome) -> None:
        """The engine has reported the end of a call."""
        pending = self._waiting.calls.pop(request_id, None)
        if pending is not None:
            self._totals.call_ended(pending, outcome, request_id)
            self._waiting.tell(pending[0], told)

    def expect_participant(self, identity: str, waiter: Waiter) -> Cancel:
        """Wait for a participant, and return a function that ends the wait.

        `waiter` takes an empty text when the participant is in the room, which can be at once. When
        the transport has ended or this participant leaves, it takes an `RpcError` (1503) to raise.

        Raises:
            LocalProtocolError: The identity is invalid, or this participant was not entered or has
                left.
        """
        engine, waiting = self.engine, self._waiting
        self.require_owner()
        require_name(identity, "identity", MAX_IDENTITY_BYTES)
        if self._is_closed:
            raise LocalProtocolError("the participant is closed")
        if identity in engine.participants:
            waiting.tell(waiter, "")
        elif waiting.connection is Connection.ENDED:
            waiting.tell(waiter, waiting.error_of(ErrorCode.RECIPIENT_DISCONNECTED))
        else:
            waiting.expect(identity, waiter)
            return partial(waiting.expect_no_more, identity, waiter)
        return noop
