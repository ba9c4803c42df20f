"""What all hosts share, without any async: engine, pump, waiters, handlers, and the timer.

A host for another kind of event loop subclasses `ParticipantBase`.
"""

from rpcproto.participant.async_base import AsyncParticipantBase as AsyncParticipantBase
from rpcproto.participant.base import LEAVING_TIME as LEAVING_TIME
from rpcproto.participant.base import ParticipantBase as ParticipantBase
from rpcproto.participant.draining import DRAINED as DRAINED
from rpcproto.participant.draining import NOT_DRAINED as NOT_DRAINED
from rpcproto.participant.handlers import RpcHandler as RpcHandler
from rpcproto.participant.handlers import RpcInvocationData as RpcInvocationData
from rpcproto.participant.interceptors import IncomingRpcNext as IncomingRpcNext
from rpcproto.participant.interceptors import OutgoingRpcNext as OutgoingRpcNext
from rpcproto.participant.interceptors import RpcCallInfo as RpcCallInfo
from rpcproto.participant.interceptors import RpcInterceptor as RpcInterceptor
from rpcproto.participant.totals import ParticipantStatistics as ParticipantStatistics
from rpcproto.participant.waiting import CallArguments as CallArguments
from rpcproto.participant.waiting import Cancel as Cancel
from rpcproto.participant.waiting import Outcome as Outcome
from rpcproto.participant.waiting import Start as Start
from rpcproto.participant.waiting import Waiter as Waiter
