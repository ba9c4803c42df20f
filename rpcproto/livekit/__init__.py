"""Join a LiveKit room for RPC, without media. For asyncio. Needs the extra `livekit`.

`connect` joins the room of an access token:

    async with rpcproto.livekit.connect(url, token) as room:
        reply = await room.local_participant.perform_rpc(
            destination_identity="bob", method="greet", payload="Hi"
        )
"""

from rpcproto.asyncio import (
    IncomingRpcNext,
    OutgoingRpcNext,
    RpcCallInfo,
    RpcError,
    RpcInterceptor,
    RpcInvocationData,
)
from rpcproto.extras import extra
from rpcproto.publishing import publish

with extra("livekit", __name__):
    from rpcproto.livekit.errors import (
        ConnectError,
        LeaveError,
        NotDeliveredError,
        RefusedError,
        TokenError,
        UnreachableError,
    )
    from rpcproto.livekit.participants import RemoteParticipant
    from rpcproto.livekit.room import LocalParticipant, Room, connect
    from rpcproto.livekit.server_api import perform_rpc_by_server
    from rpcproto.livekit.stacks import Stack
    from rpcproto.livekit.tokens import access_token
    from rpcproto.livekit.transport import ConnectionState, LiveKitTransport, join_room

__all__ = [
    "ConnectError",
    "ConnectionState",
    "IncomingRpcNext",
    "LeaveError",
    "LiveKitTransport",
    "LocalParticipant",
    "NotDeliveredError",
    "OutgoingRpcNext",
    "RefusedError",
    "RemoteParticipant",
    "Room",
    "RpcCallInfo",
    "RpcError",
    "RpcInterceptor",
    "RpcInvocationData",
    "Stack",
    "TokenError",
    "UnreachableError",
    "access_token",
    "connect",
    "join_room",
    "perform_rpc_by_server",
]

publish(globals())
