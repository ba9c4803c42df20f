"""LiveKit's participant-to-participant RPC as a pure state machine.

`RpcEngine` takes bytes and time and gives packets, deadlines and events. Everything that a host
of one's own needs is in this module; ready-made hosts are in modules of their own, such as
`rpcproto.asyncio`.
"""

from rpcproto.core.config import RpcConfig as RpcConfig
from rpcproto.core.engine import RpcEngine as RpcEngine
from rpcproto.core.errors import ErrorCode as ErrorCode
from rpcproto.core.errors import LocalProtocolError as LocalProtocolError
from rpcproto.core.errors import RpcError as RpcError
from rpcproto.core.events import AbandonReason as AbandonReason
from rpcproto.core.events import CallAcknowledged as CallAcknowledged
from rpcproto.core.events import CallFailed as CallFailed
from rpcproto.core.events import CallSucceeded as CallSucceeded
from rpcproto.core.events import Event as Event
from rpcproto.core.events import IgnoreReason as IgnoreReason
from rpcproto.core.events import InvocationAbandoned as InvocationAbandoned
from rpcproto.core.events import InvocationReceived as InvocationReceived
from rpcproto.core.events import PacketIgnored as PacketIgnored
from rpcproto.core.events import Statistics as Statistics
from rpcproto.core.messages import OutgoingPacket as OutgoingPacket
from rpcproto.core.messages import PacketKind as PacketKind
from rpcproto.ids import random_ids as random_ids
from rpcproto.wire import stamp as stamp

__version__ = "0.1.0"
