"""Join a LiveKit room for RPC: a client for data alone, on asyncio. Needs the extra `livekit`.

async with rpcproto.livekit.connect(url, token) as room:
    reply = await room.local_participant.perform_rpc(
        destination_identity="bob", method="greet", payload="Hi"
    )
"""

from rpcproto.asyncio import IncomingRpcNext as IncomingRpcNext
from rpcproto.asyncio import OutgoingRpcNext as OutgoingRpcNext
from rpcproto.asyncio import RpcCallInfo as RpcCallInfo
from rpcproto.asyncio import RpcError as RpcError
from rpcproto.asyncio import RpcInterceptor as RpcInterceptor
from rpcproto.asyncio import RpcInvocationData as RpcInvocationData
from rpcproto.livekit.errors import ConnectError as ConnectError
from rpcproto.livekit.errors import LeaveError as LeaveError
from rpcproto.livekit.errors import RefusedError as RefusedError
from rpcproto.livekit.errors import TokenError as TokenError
from rpcproto.livekit.errors import UnreachableError as UnreachableError
from rpcproto.livekit.room import LocalParticipant as LocalParticipant
from rpcproto.livekit.room import Room as Room
from rpcproto.livekit.room import connect as connect
from rpcproto.livekit.tokens import access_token as access_token
from rpcproto.livekit.transport import LiveKitTransport as LiveKitTransport
from rpcproto.livekit.transport import join_room as join_room
