"""Signalling of the room server: the request to join, read, and some of what the server says."""

import base64
import gzip
import time

from aiohttp import web
from livekit.protocol.models import ClientInfo, DisconnectReason
from livekit.protocol.rtc import (
    JoinRequest,
    LeaveRequest,
    Ping,
    Pong,
    SignalResponse,
    WrappedJoinRequest,
)


def asked(request: web.Request) -> tuple[JoinRequest | None, ClientInfo]:
    """What a client says in its first request; without JoinRequest on the older path."""
    if "join_request" in request.query:
        text = request.query["join_request"]
        wrapped = WrappedJoinRequest.FromString(
            base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        )
        data = wrapped.join_request
        if wrapped.compression == WrappedJoinRequest.GZIP:
            data = gzip.decompress(data)
        join = JoinRequest.FromString(data)
        return join, join.client_info
    names = filter(None, request.query.get("capabilities", "").split(","))
    return None, ClientInfo(
        protocol=int(request.query.get("protocol", "0")),
        client_protocol=int(request.query.get("client_protocol", "0")),
        capabilities=list(names),
    )


def leave(action: LeaveRequest.Action, reason: DisconnectReason) -> SignalResponse:
    """The server wants the client to go, or to come again."""
    can_reconnect = action != LeaveRequest.DISCONNECT
    return SignalResponse(
        leave=LeaveRequest(action=action, reason=reason, can_reconnect=can_reconnect)
    )


def pong(ping: Ping) -> Pong:
    """The answer to a ping."""
    return Pong(last_ping_timestamp=ping.timestamp, timestamp=int(time.time() * 1000))
