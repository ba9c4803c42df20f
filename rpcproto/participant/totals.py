"""How the calls and invocations of a participant have ended: counted, and logged at DEBUG.

They are counted here and not by the engine: only the host knows of calls that never reached the
engine because there was no connection, and of invocations that it refused by itself.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Final, final

from rpcproto.core.errors import ErrorCode
from rpcproto.core.events import InvocationReceived, Statistics
from rpcproto.logs import logger
from rpcproto.participant.waiting import PendingCall

SUCCESS: Final = "success"
OTHER: Final = "other"
OUTCOMES: Final = (SUCCESS, *(str(int(code)) for code in ErrorCode), OTHER)
"""All outcomes there are: success, the codes of the protocol, and everything else."""

_NAMES: Final = {int(code): str(int(code)) for code in ErrorCode}
_is_enabled_for = logger.logger.isEnabledFor


@final
@dataclass(frozen=True, slots=True)
class ParticipantStatistics(Statistics):
    """The statistics of the engine, and how calls and invocations have ended.

    The keys of `calls_ended` and `invocations_ended` are the outcomes: "success", each code of the
    protocol ("1400" to "1505"), and "other" for every other code and for cancelled calls. All keys
    are always present. A call or invocation that has begun and not ended is pending or running.
    """

    calls_begun: int
    """The number of calls, including those that wait for a connection. A `perform_rpc` is not
    counted if it raises LocalProtocolError, or if an interceptor answers it without calling `next`.
    """
    calls_ended: Mapping[str, int]
    invocations_begun: int
    """The number of requests that the engine reported to the host. The engine itself refuses
    requests of another version, and requests whose payload is too large or malformed. Unless there
    is an interceptor, it also refuses requests for methods that are not registered."""
    invocations_ended: Mapping[str, int]
    """The number of invocations by answer. "success" means that the handler returned a text, even
    if it was too large (1504) or could not be sent (1505). An abandoned invocation counts as "1502"
    if it expired, and as "1503" if the caller left, the connection was lost, or this participant
    left."""


class Totals:
    """Counts ends by their outcomes, of which there are only so many."""

    def __init__(self, identity: str) -> None:
        self._identity = identity
        self.clock: Callable[[], float] = time.monotonic
        self.calls_begun = 0
        self.invocations_begun = 0
        self.calls: dict[str, int] = dict.fromkeys(OUTCOMES, 0)
        self.invocations: dict[str, int] = dict.fromkeys(OUTCOMES, 0)

    def call_ended(self, call: PendingCall, outcome: str, request_id: str = "") -> None:
        """A call has ended; one that never reached the engine has no request id."""
        self.calls[outcome] += 1
        if _is_enabled_for(logging.DEBUG):
            _, arguments, began = call
            logger.debug(
                "%s: call %s of %r at %r ended after %.3f s: %s",
                self._identity,
                request_id or "without id",
                arguments.method,
                arguments.destination_identity,
                self.clock() - began,
                outcome,
            )

    def invocation_ended(self, invocation: InvocationReceived | None, outcome: str) -> None:
        """An invocation has its answer, or nobody waits for one any more; None is one of which the
        task has ended before."""
        self.invocations[outcome] += 1
        if _is_enabled_for(logging.DEBUG) and invocation is not None:
            logger.debug(
                "%s: invocation %s of %r by %r ended: %s",
                self._identity,
                invocation.request_id,
                invocation.method,
                invocation.caller_identity,
                outcome,
            )

    def with_totals(self, statistics: Statistics) -> ParticipantStatistics:
        """The engine's statistics, with ours."""
        own = {field.name: getattr(statistics, field.name) for field in fields(Statistics)}
        return ParticipantStatistics(
            **own,
            calls_begun=self.calls_begun,
            calls_ended=MappingProxyType(dict(self.calls)),
            invocations_begun=self.invocations_begun,
            invocations_ended=MappingProxyType(dict(self.invocations)),
        )


def outcome_of(code: int) -> str:
    """The outcome that an error code counts as, whatever a peer invents."""
    return _NAMES.get(code, OTHER)
