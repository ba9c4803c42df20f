"""Calls by the test server itself: what LiveKit's server does for its PerformRpc."""

import asyncio
import uuid

import jwt
from aiohttp import web
from livekit.protocol.models import DataPacket, DisconnectReason, ParticipantInfo, RpcRequest

from rpcproto.conformance.routing import Passing, Room
from rpcproto.core.errors import STANDARD_MESSAGES, ErrorCode
from rpcproto.wire import MAX_V1_PAYLOAD_BYTES

PATH = "/twirp/livekit.RoomService/PerformRpc"
ACK_SECONDS = 2.0
RESPONSE_SECONDS = 10.0

_STATUSES = {
    ErrorCode.CONNECTION_TIMEOUT: (408, "canceled"),
    ErrorCode.RESPONSE_TIMEOUT: (408, "canceled"),
    ErrorCode.UNSUPPORTED_METHOD: (400, "invalid_argument"),
    ErrorCode.REQUEST_PAYLOAD_TOO_LARGE: (400, "invalid_argument"),
}


class CallFailedError(Exception):
    """A call by the server failed; as LiveKit's server writes it."""

    def __init__(self, code: int, message: str = "", data: str = "") -> None:
        text = f"RpcError {code}: {message or STANDARD_MESSAGES.get(code, '')}"
        super().__init__(f"twirp error unknown: {text}{': ' if data else ''}{data}")
        self.status: int
        self.kind: str
        self.status, self.kind = _STATUSES.get(code, (500, "internal"))  # type: ignore[call-overload]


class ServerCall:
    """One call, and the hidden member of the room that makes it."""

    def __init__(self, room: Room) -> None:
        self.info: ParticipantInfo = ParticipantInfo(
            sid=str(uuid.uuid4()), state=ParticipantInfo.ACTIVE
        )
        self.info.identity = self.info.sid
        self._room = room
        loop = asyncio.get_running_loop()
        self._acked: asyncio.Future[None] = loop.create_future()
        self._response: asyncio.Future[DataPacket] = loop.create_future()

    def take_packet(self, data: bytes) -> None:
        packet = DataPacket.FromString(data)
        kind = packet.WhichOneof("value")
        if kind == "rpc_ack" and not self._acked.done():
            self._acked.set_result(None)
        elif kind == "rpc_response" and not self._response.done():
            self._response.set_result(packet)

    def take_update(self, info: ParticipantInfo) -> None:
        pass

    def put_out(self, reason: DisconnectReason) -> None:
        pass

    async def perform(self, destination: str, method: str, payload: str, timeout_ms: int) -> str:
        """The payload of the response. Raises CallFailedError."""
        if len(payload.encode()) > MAX_V1_PAYLOAD_BYTES:
            raise CallFailedError(ErrorCode.REQUEST_PAYLOAD_TOO_LARGE)
        identity = self.info.identity
        request = RpcRequest(
            id=identity, method=method, payload=payload, response_timeout_ms=timeout_ms, version=1
        )
        # Without a destination and without a sid, as the real server writes it.
        packet = DataPacket(participant_identity=identity, rpc_request=request)
        self._room.hidden[identity] = self
        try:
            self._room.deliver(Passing(identity, destination, packet))
            async with asyncio.timeout(timeout_ms / 1000) as response_timeout:
                async with asyncio.timeout(ACK_SECONDS):
                    await self._acked
                response = (await self._response).rpc_response
        except TimeoutError:
            is_answer = response_timeout.expired()
            code = ErrorCode.RESPONSE_TIMEOUT if is_answer else ErrorCode.CONNECTION_TIMEOUT
            raise CallFailedError(code) from None
        finally:
            del self._room.hidden[identity]
        if response.HasField("error"):
            error = response.error
            raise CallFailedError(error.code, error.message, error.data)
        return response.payload


async def answer(request: web.Request, rooms: dict[str, Room]) -> web.Response:
    """The answer to a request for PerformRpc."""
    body = await request.json()
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    try:
        grants = jwt.decode(token, options={"verify_signature": False})["video"]
    except (jwt.InvalidTokenError, KeyError):
        grants = {}
    if not grants.get("roomAdmin") or grants.get("room") != body["room"]:
        return _refusal(401, "unauthenticated", "permissions denied")
    room = rooms.get(body["room"])
    destination = body["destination_identity"]
    if room is None or destination not in room.members:
        # The real one waits for three seconds.
        message = "twirp error unknown: no response from servers"
        return _refusal(503, "unavailable", message)
    if room.members[destination].info.state != ParticipantInfo.ACTIVE:
        message = "twirp error unknown: data channel is not available"
        return _refusal(500, "internal", message)
    timeout_ms = int(body.get("response_timeout_ms") or RESPONSE_SECONDS * 1000)
    try:
        payload = await ServerCall(room).perform(
            destination, body.get("method", ""), body.get("payload", ""), timeout_ms
        )
    except CallFailedError as error:
        return _refusal(error.status, error.kind, str(error))
    return web.json_response({"payload": payload})


def _refusal(status: int, kind: str, message: str) -> web.Response:
    return web.json_response({"code": kind, "msg": message}, status=status)
