"""The synchronous parts that all hosts share: engine, loop, waiters, handlers, and timer.

A host for another kind of event loop subclasses `ParticipantBase`.
"""

from rpcproto.participant.async_base import AsyncParticipantBase
from rpcproto.participant.base import LEAVING_TIME, ParticipantBase
from rpcproto.participant.draining import DRAINED, NOT_DRAINED
from rpcproto.participant.handlers import RpcHandler, RpcInvocationData
from rpcproto.participant.interceptors import (
    IncomingRpcNext,
    OutgoingRpcNext,
    RpcCallInfo,
    RpcInterceptor,
)
from rpcproto.participant.totals import ParticipantStatistics
from rpcproto.participant.waiting import CallArguments, Cancel, Outcome, Start, Waiter
from rpcproto.publishing import publish

__all__ = [
    "DRAINED",
    "LEAVING_TIME",
    "NOT_DRAINED",
    "AsyncParticipantBase",
    "CallArguments",
    "Cancel",
    "IncomingRpcNext",
    "Outcome",
    "OutgoingRpcNext",
    "ParticipantBase",
    "ParticipantStatistics",
    "RpcCallInfo",
    "RpcHandler",
    "RpcInterceptor",
    "RpcInvocationData",
    "Start",
    "Waiter",
]

publish(globals())
