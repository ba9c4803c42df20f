"""LiveKit's participant-to-participant RPC as a pure state machine.

`RpcEngine` takes bytes and time, and returns packets, deadlines and events. This module contains
everything that a host of your own needs. Ready-made hosts are in separate modules, such as
`rpcproto.asyncio`.
"""

from rpcproto import interrupts
from rpcproto.publishing import publish

if interrupts.is_the_command():  # what follows takes a tenth of a second
    interrupts.end_at_ctrl_c()

from rpcproto.core.config import RpcConfig
from rpcproto.core.engine import RpcEngine
from rpcproto.core.errors import ErrorCode, LocalProtocolError
from rpcproto.core.events import (
    AbandonReason,
    CallAcknowledged,
    CallFailed,
    CallSucceeded,
    Event,
    IgnoreReason,
    InvocationAbandoned,
    InvocationReceived,
    PacketIgnored,
    Statistics,
)
from rpcproto.core.messages import OutgoingPacket, PacketKind
from rpcproto.errors import RpcError
from rpcproto.ids import random_ids
from rpcproto.wire import stamp

__all__ = [
    "AbandonReason",
    "CallAcknowledged",
    "CallFailed",
    "CallSucceeded",
    "ErrorCode",
    "Event",
    "IgnoreReason",
    "InvocationAbandoned",
    "InvocationReceived",
    "LocalProtocolError",
    "OutgoingPacket",
    "PacketIgnored",
    "PacketKind",
    "RpcConfig",
    "RpcEngine",
    "RpcError",
    "Statistics",
    "__version__",
    "random_ids",
    "stamp",
]

__version__ = "0.1.0"

publish(globals())
