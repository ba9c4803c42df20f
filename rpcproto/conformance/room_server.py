"""A room server for tests, and for nothing else: LiveKit's signalling and data channels.

Official clients join it, on both paths (`/rtc/v1` with one peer connection, `/rtc` with two), and
their data packets are routed as LiveKit's server routes them (`routing.py`). It listens on
127.0.0.1 alone, believes every token, carries no media and encrypts nothing.
`__main__.py` starts it by hand.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine
from typing import Self

import aioice.ice
import jwt
from aiohttp import WSMsgType, web
from aiortc import RTCConfiguration, RTCDataChannel, RTCPeerConnection, RTCSessionDescription
from livekit.protocol.models import ClientInfo, DisconnectReason, ParticipantInfo, ServerInfo
from livekit.protocol.models import Room as RoomInfo
from livekit.protocol.rtc import (
    JoinRequest,
    JoinResponse,
    LeaveRequest,
    ParticipantUpdate,
    ReconnectResponse,
    SessionDescription,
    SignalRequest,
    SignalResponse,
)

from rpcproto.conformance import server_calls
from rpcproto.conformance.room_signals import asked, leave, pong
from rpcproto.conformance.routing import Room
from rpcproto.livekit.aiortc_connection import close_connection

LOOPBACK = "127.0.0.1"
PATHS = ("/rtc/v1", "/rtc")
RELIABLE, LOSSY = "_reliable", "_lossy"
RELIABLE_ID, LOSSY_ID = 100, 101
SERVER_VERSION = "1.13.5"
NEGOTIATED_CHANNELS = 18
"""From this version of the signalling on, the channels of `/rtc/v1` are negotiated ones."""
RESUME_TIME = 20.0
"""LiveKit's server forgets a session about as long after its network was lost."""
logger: logging.Logger = logging.getLogger("rpcproto.room_server")


def only_loopback(use_ipv4: bool, use_ipv6: bool) -> list[str]:
    """The addresses that peer connections of this process are reached at."""
    return [LOOPBACK]


class RoomServer:
    """Serves rooms on 127.0.0.1 while inside `async with`.

    `paths` are those that are answered; the others are not found. `refusal` is the HTTP status for
    whoever wants in, if not None. `record` is given a JSON line for all that passes in the rooms.
    `protocol` is the version of the signalling. Rooms are made by `new_room`.
    A session whose socket is lost can be resumed for `resume_time` seconds; 0 ends it at once.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        paths: Collection[str] = PATHS,
        record: Callable[[str], object] | None = None,
        ping_interval: int = 5,
        ping_timeout: int = 15,
        protocol: int = NEGOTIATED_CHANNELS,
        resume_time: float = RESUME_TIME,
        new_room: type[Room] = Room,
    ) -> None:
        self.port: int = port
        self.paths = paths
        self.refusal: int | None = None
        self.refused: int = 0
        """How many have been refused."""
        self.answers_pings = True
        self.activation_delay: float = 0.0
        """Seconds from a participant's open channel to its being ACTIVE."""
        self.ping_interval: int = ping_interval
        self.ping_timeout: int = ping_timeout
        self.protocol: int = protocol
        self.resume_time: float = resume_time
        self.sessions: set[Session] = set()
        self._record = record
        self._new_room = new_room
        self._rooms: dict[str, Room] = {}
        self._ending: set[asyncio.Future[None]] = set()
        app = web.Application()
        app.on_response_prepare.append(_let_pages_read)
        for path in PATHS:
            app.router.add_get(path, self._signal)
            app.router.add_get(f"{path}/validate", self._validate)
        app.router.add_post(server_calls.PATH, self._perform_rpc)
        self.app = app
        self._runner = web.AppRunner(app, shutdown_timeout=1)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Listen, on a free port if it was 0."""
        # aioice leaves 127.0.0.1 out, and has no option for it.
        aioice.ice.get_host_addresses = only_loopback
        await self._runner.setup()
        site = web.TCPSite(self._runner, LOOPBACK, self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def aclose(self) -> None:
        """Let go of all clients."""
        self.resume_time = 0
        for session in list(self.sessions):
            await self._end(session)
        await self._runner.cleanup()
        if self._ending:
            await asyncio.wait(self._ending)

    @property
    def url(self) -> str:
        """Where clients connect to."""
        return f"ws://{LOOPBACK}:{self.port}"

    def room(self, name: str) -> Room:
        """The room of that name, which is made when it is first asked for."""
        if name not in self._rooms:
            self._rooms[name] = self._new_room(name, self._record)
        return self._rooms[name]

    def send_away(
        self, room: Room, identity: str, action: LeaveRequest.Action = LeaveRequest.RECONNECT
    ) -> None:
        """Tell a client to join anew (or to leave for good), and hang up."""
        for session in list(self.sessions):
            if session.room is room and session.info.identity == identity:
                session.say_leave(action)
                session.hang_up()

    async def _validate(self, request: web.Request) -> web.Response:
        if request.path.removesuffix("/validate") not in self.paths:
            raise web.HTTPNotFound
        if self.refusal is not None:
            return web.Response(status=self.refusal, text="refused on command")
        return web.Response(text="success")

    async def _perform_rpc(self, request: web.Request) -> web.Response:
        return await server_calls.answer(request, self._rooms)

    async def _signal(self, request: web.Request) -> web.StreamResponse:
        if request.path not in self.paths:
            raise web.HTTPNotFound
        if self.refusal is not None:
            self.refused += 1
            return web.Response(status=self.refusal, text="refused on command")
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            claims = jwt.decode(
                token or request.query.get("access_token", ""), options={"verify_signature": False}
            )
            identity, room = str(claims["sub"]), str(claims["video"]["room"])
        except (jwt.InvalidTokenError, KeyError, TypeError):
            return web.Response(status=401, text="no token that names an identity and a room")
        join, client_info = asked(request)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        session: Session | None
        if request.query.get("reconnect") == "1" or (join is not None and join.reconnect):
            session = self._session_of(self.room(room), identity)
            if session is None:
                await _refuse_to_resume(socket)
                return socket
            playing = session.resume(socket)
        else:
            session = Session(self, self.room(room), socket, identity, client_info)
            self.sessions.add(session)
            playing = session.run(join)
        try:
            await playing
        except ConnectionError:
            logger.info("%s: the socket broke", identity)
        finally:
            if session.socket is socket and session.lose_socket(self.resume_time):
                await self._end(session)
        return socket

    def _session_of(self, room: Room, identity: str) -> "Session | None":
        for session in self.sessions:
            if session.room is room and session.info.identity == identity and not session.is_over:
                return session
        return None

    async def _end(self, session: "Session") -> None:
        """Let go of a session; its sockets are closed even if whoever waits is cancelled."""
        await asyncio.shield(self.expire(session))

    def expire(self, session: "Session") -> asyncio.Future[None]:
        """Nobody can resume the session any more."""
        self.sessions.discard(session)
        ending = asyncio.ensure_future(session.aclose())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        return ending


async def _refuse_to_resume(socket: web.WebSocketResponse) -> None:
    """The server does not know this session; the client has to join anew."""
    response = leave(LeaveRequest.RECONNECT, DisconnectReason.STATE_MISMATCH)
    await socket.send_bytes(response.SerializeToString())
    await socket.close()


async def _let_pages_read(_: web.Request, response: web.StreamResponse) -> None:
    """Pages of any origin may read what is answered, refusals too, as with LiveKit's server."""
    response.headers["Access-Control-Allow-Origin"] = "*"


class Session:
    """One client's time in a room: its sockets, its peer connections, its data channels."""

    def __init__(
        self,
        server: RoomServer,
        room: Room,
        socket: web.WebSocketResponse,
        identity: str,
        client_info: ClientInfo,
    ) -> None:
        self.info: ParticipantInfo = ParticipantInfo(
            sid=room.new_sid(),
            identity=identity,
            name=identity,
            state=ParticipantInfo.JOINED,
            joined_at=int(time.time()),
            client_protocol=client_info.client_protocol,
            capabilities=client_info.capabilities,
        )
        self.room = room
        self.socket: web.WebSocketResponse = socket
        self.protocol: int = min(client_info.protocol, server.protocol)
        self._server = server
        self._connections: list[RTCPeerConnection] = []
        self._publisher: RTCPeerConnection | None = None
        self._negotiating: asyncio.Future[None] | None = None
        self._down: RTCDataChannel | None = None
        self._outgoing: asyncio.Queue[SignalResponse | None] = asyncio.Queue()
        self._is_single = False
        """Whether there is one peer connection for both ways."""
        self.is_over: bool = False
        self.loses_packets: bool = False
        """Whether packets are lost, both ways, until the session is resumed."""
        self._has_socket = True
        self._missed: list[ParticipantInfo] = []
        """Those that left while there was no socket."""
        self._expiry: asyncio.TimerHandle | None = None

    # what the room does

    def take_packet(self, data: bytes) -> None:
        if self.loses_packets:
            return
        if self._down is not None and self._down.readyState == "open":
            self._down.send(data)

    def take_update(self, info: ParticipantInfo) -> None:
        if not self._has_socket and info.state == ParticipantInfo.DISCONNECTED:
            self._missed.append(info)
        self.send(SignalResponse(update=ParticipantUpdate(participants=[info])))

    def put_out(self, reason: DisconnectReason) -> None:
        self.say_leave(LeaveRequest.DISCONNECT, reason)
        self.hang_up()
        if not self._has_socket:
            self._server.expire(self)

    def hang_up(self) -> None:
        """Close the socket, when all is said."""
        self._outgoing.put_nowait(None)

    def say_leave(
        self,
        action: LeaveRequest.Action,
        reason: DisconnectReason = DisconnectReason.SERVER_SHUTDOWN,
    ) -> None:
        """Tell the client to go, or to come again."""
        self.send(leave(action, reason))
        self.is_over = action != LeaveRequest.RESUME

    def send(self, response: SignalResponse) -> None:
        """Say something over the socket, if there is one."""
        if self._has_socket:
            self._outgoing.put_nowait(response)

    # the session

    async def run(self, join: JoinRequest | None) -> None:
        """From the join to the end of the socket."""
        self._is_single = join is not None
        self.send(
            SignalResponse(
                join=JoinResponse(
                    room=RoomInfo(sid=f"RM_{self.room.name}", name=self.room.name),
                    participant=self.info,
                    other_participants=self.room.others(self.info.identity),
                    server_version=SERVER_VERSION,
                    server_info=ServerInfo(version=SERVER_VERSION, protocol=self._server.protocol),
                    subscriber_primary=join is None,
                    ping_interval=self._server.ping_interval,
                    ping_timeout=self._server.ping_timeout,
                )
            )
        )
        self.room.join(self)
        if join is None:
            await self._negotiate(self._offer_subscriber())
        elif join.HasField("publisher_offer"):
            await self._negotiate(self._answer(join.publisher_offer))
        await self._converse(self.socket)

    async def resume(self, socket: web.WebSocketResponse) -> None:
        """From a new socket to its end."""
        if self._expiry is not None:
            self._expiry.cancel()
        previous, self.socket = self.socket, socket
        self._outgoing = asyncio.Queue()
        self._has_socket, self.loses_packets = True, False
        reconnect = ReconnectResponse(
            server_info=ServerInfo(version=SERVER_VERSION),
            last_message_seq=self.room.last_sequence(self),
        )
        self.send(SignalResponse(reconnect=reconnect))
        here = [*self.room.others(self.info.identity), self.info]
        for participants in (self._missed, here):
            self.send(SignalResponse(update=ParticipantUpdate(participants=participants)))
        self._missed = []
        await previous.close()
        await self._converse(socket)

    def lose_socket(self, resume_time: float) -> bool:
        """The socket is closed. Whether that is the end, and nobody can resume the session."""
        self._has_socket = False
        if self.is_over or not resume_time or self.info.state != ParticipantInfo.ACTIVE:
            return True
        loop = asyncio.get_running_loop()
        self._expiry = loop.call_later(resume_time, self._server.expire, self)
        return False

    async def _converse(self, socket: web.WebSocketResponse) -> None:
        writer = asyncio.create_task(self._write(socket))
        try:
            async for message in socket:
                if message.type is WSMsgType.BINARY:
                    request = SignalRequest.FromString(message.data)
                    if request.HasField("leave"):
                        self.is_over = True
                        return
                    await self._receive(request)
        finally:
            writer.cancel()
            await asyncio.wait([writer])

    async def aclose(self) -> None:
        """Out of the room, and let go of everything."""
        self.is_over = True
        if self._expiry is not None:
            self._expiry.cancel()
        self.room.leave(self)
        await self.socket.close()
        if self._negotiating is not None:
            await asyncio.wait([self._negotiating])
        for connection in self._connections:
            await close_connection(connection)

    async def _write(self, socket: web.WebSocketResponse) -> None:
        outgoing = self._outgoing
        while (response := await outgoing.get()) is not None:
            await socket.send_bytes(response.SerializeToString())
        await socket.close()

    async def _receive(self, request: SignalRequest) -> None:
        match request.WhichOneof("message"):
            case "offer":
                await self._negotiate(self._answer(request.offer))
            case "answer":
                await self._connections[0].setRemoteDescription(
                    RTCSessionDescription(request.answer.sdp, "answer")
                )
            case "sync_state":
                states = request.sync_state.datachannel_receive_states
                self.room.send_again(self, {one.publisher_sid: one.last_seq for one in states})
            case "ping_req" if self._server.answers_pings:
                self.send(SignalResponse(pong_resp=pong(request.ping_req)))
            case "ping" if self._server.answers_pings:
                self.send(SignalResponse(pong=int(time.time() * 1000)))
            # No other request matters here. Candidates (`trickle`) are not needed either: our own
            # is known to the client, and it is known to us as soon as its first check arrives.

    # peer connections

    def _connection(self) -> RTCPeerConnection:
        # Without the empty list, a public STUN server.
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        connection.on("datachannel", self._channel_opened)
        self._connections.append(connection)
        return connection

    async def _negotiate(self, step: Coroutine[None, None, None]) -> None:
        """Take a step to its end even if whoever waits for it is cancelled: aioice forgets the
        sockets of a gathering that is cancelled."""
        self._negotiating = asyncio.ensure_future(step)
        await asyncio.shield(self._negotiating)

    async def _answer(self, offer: SessionDescription) -> None:
        """The client's own connection, new or negotiated again."""
        is_first = self._publisher is None
        connection = self._publisher or self._connection()
        self._publisher = connection
        await connection.setRemoteDescription(RTCSessionDescription(offer.sdp, "offer"))
        if not is_first:
            _follow_ice_restart(connection, offer.sdp)
        if is_first and self._is_single and self.protocol >= NEGOTIATED_CHANNELS:
            self._create_negotiated_channels(connection)
        answer = await connection.createAnswer()
        assert answer is not None
        await connection.setLocalDescription(answer)
        self.send(
            SignalResponse(
                answer=SessionDescription(
                    type="answer", sdp=connection.localDescription.sdp, id=offer.id
                )
            )
        )

    async def _offer_subscriber(self) -> None:
        """The second connection of the older path, whose channels are the server's."""
        connection = self._connection()
        down = connection.createDataChannel(RELIABLE)
        connection.createDataChannel(LOSSY, ordered=False, maxRetransmits=0)
        down.on("open", lambda: self._can_send(down))
        await connection.setLocalDescription(await connection.createOffer())
        self.send(
            SignalResponse(
                offer=SessionDescription(type="offer", sdp=connection.localDescription.sdp, id=1)
            )
        )

    def _create_negotiated_channels(self, connection: RTCPeerConnection) -> None:
        reliable = connection.createDataChannel(RELIABLE, negotiated=True, id=RELIABLE_ID)
        reliable.on("message", self._message)
        reliable.on("open", lambda: self._can_send(reliable))
        connection.createDataChannel(
            LOSSY, ordered=False, maxRetransmits=0, negotiated=True, id=LOSSY_ID
        )

    def _channel_opened(self, channel: RTCDataChannel) -> None:
        if channel.label != RELIABLE:
            return
        channel.on("message", self._message)
        if self._down is None and len(self._connections) == 1:
            self._can_send(channel)

    def _can_send(self, channel: RTCDataChannel) -> None:
        self._down = channel
        if self._server.activation_delay:
            loop = asyncio.get_running_loop()
            loop.call_later(self._server.activation_delay, self._become_active)
        else:
            self._become_active()

    def _become_active(self) -> None:
        if not self.is_over:
            self.room.ready(self)

    def _message(self, data: bytes | str) -> None:
        if isinstance(data, bytes) and not self.loses_packets:
            self.room.carry(self, data)


def _follow_ice_restart(connection: RTCPeerConnection, offer: str) -> None:
    """aiortc cannot restart ICE. But it answers checks, and follows a client that nominates another
    path, once it knows the client's new credentials."""
    lines = dict(line.split(":", 1) for line in offer.splitlines() if line.startswith("a=ice-"))
    assert connection.sctp is not None
    ice = connection.sctp.transport.transport._connection
    ice.remote_username, ice.remote_password = lines["a=ice-ufrag"], lines["a=ice-pwd"]
