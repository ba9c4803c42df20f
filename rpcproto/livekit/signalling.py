"""Signalling with a LiveKit server, without I/O: messages in, messages and events out.

A client opens a WebSocket, and each message on it is one protobuf: `SignalRequest` to the server,
`SignalResponse` from it. There are two ways in. On `/rtc/v1` one peer connection, which we offer,
carries packets both ways. Servers that do not know it answer 404; there, on `/rtc`, we offer one
connection for what we send, and the server another for what it sends.
"""

import gzip
import json
import math
import sys
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias
from urllib.parse import urlencode, urlsplit, urlunsplit

from google.protobuf.message import DecodeError
from livekit.protocol.models import ClientInfo, DisconnectReason, ReconnectReason
from livekit.protocol.rtc import (
    ConnectionSettings,
    DataChannelReceiveState,
    ICEServer,
    JoinRequest,
    JoinResponse,
    LeaveRequest,
    Ping,
    ReconnectResponse,
    SessionDescription,
    SignalRequest,
    SignalResponse,
    SignalTarget,
    SyncState,
    TrickleRequest,
    UpdateSubscription,
    WrappedJoinRequest,
)

import rpcproto
from rpcproto.livekit.errors import NOT_FOUND
from rpcproto.livekit.participants import Participants, ParticipantsEvent, may_send
from rpcproto.logs import logger
from rpcproto.transports import OUR_CAPABILITIES, OUR_CLIENT_PROTOCOL, ParticipantJoined

PATH: Final = "/rtc/v1"
OLD_PATH: Final = "/rtc"
SIGNALLING_PROTOCOL: Final = 18
"""The version of the signalling that we announce."""
NEGOTIATED_CHANNELS: Final = 18
"""From this version on the data channels of the one peer connection are negotiated ones."""

FIRST_OFFER: Final = 1
"""The id of the offer that comes along with the join."""
MAX_ROUND_TRIP: Final = 60_000
"""Milliseconds; what seems to be longer is a pong that makes no sense."""


@dataclass(frozen=True, slots=True)
class IceServer:
    """A STUN or TURN server, with its URLs."""

    urls: tuple[str, ...]
    username: str
    credential: str


@dataclass(frozen=True, slots=True)
class Joined:
    """We are in the room, and these can be reached; there is no peer connection yet."""

    identity: str
    sid: str
    room: str
    server_version: str
    server_protocol: int
    """The version of the signalling that the server has."""
    ice_servers: tuple[IceServer, ...]
    participants: tuple[ParticipantJoined, ...]
    may_send: bool
    """Whether the server forwards our packets."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """The server has taken the session up again, on a new WebSocket."""

    last_sequence: int
    """The last number of our reliable packets that it has seen; 0 if it does not know one."""
    ice_servers: tuple[IceServer, ...]


@dataclass(frozen=True, slots=True)
class OfferReceived:
    """The server offers a connection; answer it under the same `offer_id`."""

    sdp: str
    offer_id: int


@dataclass(frozen=True, slots=True)
class AnswerReceived:
    """The server's answer to our offer."""

    sdp: str


@dataclass(frozen=True, slots=True)
class CandidateReceived:
    """Where the server can be reached, for one of the connections."""

    is_ours: bool
    """Whether it is for the connection that we have offered."""
    candidate: str
    sdp_mid: str | None
    sdp_mline_index: int | None


@dataclass(frozen=True, slots=True)
class TokenRefreshed:
    """The token for the next time that we join."""

    token: str


class LeaveAction(Enum):
    """What the server wants us to do."""

    DISCONNECT = "disconnect"
    RESUME = "resume"
    RECONNECT = "reconnect"


@dataclass(frozen=True, slots=True)
class LeaveRequested:
    """The server ends the connection; `reason` is the name of its DisconnectReason."""

    action: LeaveAction
    reason: str


@dataclass(frozen=True, slots=True)
class TimedOut:
    """Nothing was heard of the server for this long, in seconds: the WebSocket is lost."""

    seconds: float


SignallingEvent: TypeAlias = (
    Joined
    | Resumed
    | ParticipantsEvent
    | OfferReceived
    | AnswerReceived
    | CandidateReceived
    | TokenRefreshed
    | LeaveRequested
    | TimedOut
)


@dataclass(frozen=True, slots=True)
class Resumption:
    """The session that a new WebSocket goes on with."""

    sid: str
    """Our sid in the room."""
    reason: ReconnectReason = ReconnectReason.RR_SIGNAL_DISCONNECTED
    """Why we come back."""


def path_after(path: str, status: int) -> str | None:
    """Which path to try when the server has answered `path` with this HTTP status; None if that
    was its last word."""
    return OLD_PATH if path == PATH and status == NOT_FOUND else None


def join_url(url: str, path: str, offer: str = "", resumption: Resumption | None = None) -> str:
    """Where the WebSocket is, for a server's URL (`ws:`, `wss:`, `http:`, `https:`).

    `offer` is our first one, which on PATH goes along with the join. With `resumption`, the new
    WebSocket is one more of the same session.
    """
    if path == PATH:
        query: dict[str, str | int] = {"join_request": _wrapped_join_request(offer, resumption)}
    else:
        query = _old_query(resumption)
    return _url_of(url, path, urlencode(query))


def validate_url(url: str, path: str) -> str:
    """Where the same is asked over HTTP, to be told why not."""
    parts = urlsplit(join_url(url, path))
    scheme = {"ws": "http", "wss": "https"}[parts.scheme]
    return urlunsplit((scheme, parts.netloc, f"{parts.path}/validate", parts.query, ""))


def _url_of(url: str, path: str, query: str) -> str:
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + path, query, ""))


def _wrapped_join_request(offer: str, resumption: Resumption | None) -> str:
    # The sdk stays unknown: we are none of LiveKit's, and need no workaround for any of them.
    request = JoinRequest(
        client_info=ClientInfo(
            version=rpcproto.__version__,
            protocol=SIGNALLING_PROTOCOL,
            os=sys.platform,
            other_sdks=f"rpcproto:{rpcproto.__version__}",
            client_protocol=OUR_CLIENT_PROTOCOL,
            capabilities=[ClientInfo.Capability.Name(number) for number in OUR_CAPABILITIES],
        ),
        connection_settings=ConnectionSettings(auto_subscribe=False),
        publisher_offer=_offer(offer, FIRST_OFFER) if offer else None,
    )
    if resumption is not None:
        request.reconnect = True
        request.participant_sid = resumption.sid
        request.reconnect_reason = resumption.reason
    wrapped = WrappedJoinRequest(
        compression=WrappedJoinRequest.GZIP,
        join_request=gzip.compress(request.SerializeToString(), mtime=0),
    )
    return urlsafe_b64encode(wrapped.SerializeToString()).decode()


def _offer(sdp: str, offer_id: int) -> SessionDescription:
    return SessionDescription(type="offer", sdp=sdp, id=offer_id)


def _old_query(resumption: Resumption | None) -> dict[str, str | int]:
    query: dict[str, str | int] = {
        "sdk": "unknown",
        "version": rpcproto.__version__,
        "protocol": SIGNALLING_PROTOCOL,
        "os": sys.platform,
        "auto_subscribe": 0,
        "client_protocol": OUR_CLIENT_PROTOCOL,
        "capabilities": ",".join(map(ClientInfo.Capability.Name, OUR_CAPABILITIES)),
    }
    if resumption is not None:
        query |= {"reconnect": 1, "sid": resumption.sid, "reconnect_reason": resumption.reason}
    return query


class Signalling:
    """The signalling of one session, from the opened WebSocket on.

    * what happened: `receive`, `handle_deadline`, `lose`;
    * what we want: `offer`, `answer`, `tell_candidate`, `sync`, `leave`;
    * what comes of it, to be taken after any of these: `next_message`, `take_events`;
    * what can be read at any time: `next_deadline`.

    `now` is a monotonic clock in seconds. What the server sends never raises: what cannot be read,
    or is not known, is ignored. After `leave`, and after a `LeaveRequested` that does not ask us to
    resume, nothing follows. When the WebSocket is lost, call `lose`. The next one begins with the
    server's word on whether it takes the session up again: `Resumed` or `LeaveRequested`.
    """

    def __init__(self) -> None:
        self.next_deadline: float | None = None
        """When to call `handle_deadline`, if nothing comes before."""
        self._events: list[SignallingEvent] = []
        self._messages: list[bytes] = []
        self.participants: Participants = Participants()
        """The others, as the server has reported them."""
        self._joined: Joined | None = None
        self._is_over = False
        self._is_lost = False
        """Whether there is no WebSocket, or none that the server has said anything on."""
        self._are_offers_ours = True
        """Whether the connection that carries packets to us is the one that we offer."""
        self._offer = self._answer = ""
        """The last descriptions of that connection."""
        self._ping_interval = 0
        self._ping_timeout = 0
        self._ping_at = math.inf
        self._heard_at = 0.0
        self._round_trip = 0
        """What the last ping took, in milliseconds."""
        self._offer_id = FIRST_OFFER + 1

    # what happened

    def receive(self, data: bytes, *, now: float) -> None:
        """A message came from the server."""
        if self._is_over:
            return
        self._heard_at = now
        try:
            response = SignalResponse.FromString(data)
        except (DecodeError, ValueError, RecursionError):
            logger.warning("ignored %d bytes of signalling that cannot be read", len(data))
            return
        self._take(response, now)
        self._set_deadline()

    def handle_deadline(self, *, now: float) -> None:
        """Time has passed: a ping is due, or the server has been silent for too long."""
        if self._is_over or self.next_deadline is None or now < self.next_deadline:
            return
        if self._ping_timeout > 0 and now >= self._heard_at + self._ping_timeout:
            self._events.append(TimedOut(float(self._ping_timeout)))
            self.lose()
            return
        self._ping_at = now + self._ping_interval
        ping = Ping(timestamp=int(now * 1000), rtt=self._round_trip)
        self._say(SignalRequest(ping_req=ping))
        self._set_deadline()

    def lose(self) -> None:
        """The WebSocket is lost. What we had to say on it is forgotten; what the next one brings
        goes into `receive`."""
        self._messages.clear()
        self._is_lost = True
        self.next_deadline = None

    # what we want

    def offer(self, sdp: str, *, in_join: bool = False) -> None:
        """Offer the connection on which we send, for the first time or again.

        With `in_join` it has gone along with the join, so that there is nothing to say.
        """
        if self._are_offers_ours:
            self._offer = sdp
        if not in_join:
            self._say(SignalRequest(offer=_offer(sdp, self._offer_id)))
            self._offer_id += 1

    def answer(self, sdp: str, offer_id: int) -> None:
        """Answer what the server has offered."""
        if not self._are_offers_ours:
            self._answer = sdp
        answer = SessionDescription(type="answer", sdp=sdp, id=offer_id)
        self._say(SignalRequest(answer=answer))

    def sync(self, last_sequences: Mapping[str, int]) -> None:
        """Tell the server, after `Resumed`, what we have: the last number of the reliable packets
        of each sender, by sid."""
        state = SyncState(
            offer=SessionDescription(type="offer", sdp=self._offer),
            answer=SessionDescription(type="answer", sdp=self._answer),
            subscription=UpdateSubscription(subscribe=True),
            datachannel_receive_states=[
                DataChannelReceiveState(publisher_sid=sid, last_seq=sequence)
                for sid, sequence in last_sequences.items()
            ],
        )
        self._say(SignalRequest(sync_state=state))

    def tell_candidate(
        self, candidate: str, sdp_mid: str | None, sdp_mline_index: int | None, *, is_ours: bool
    ) -> None:
        """Where we can be reached, for the connection that we have offered, or for the server's."""
        init = {"candidate": candidate, "sdpMid": sdp_mid, "sdpMLineIndex": sdp_mline_index}
        target = SignalTarget.PUBLISHER if is_ours else SignalTarget.SUBSCRIBER
        self._say(
            SignalRequest(trickle=TrickleRequest(candidateInit=json.dumps(init), target=target))
        )

    def leave(self) -> None:
        """Say goodbye."""
        goodbye = LeaveRequest(
            action=LeaveRequest.DISCONNECT, reason=DisconnectReason.CLIENT_INITIATED
        )
        self._say(SignalRequest(leave=goodbye))
        self._end()

    # what comes of it

    def next_message(self) -> bytes | None:
        """The next message for the server."""
        return self._messages.pop(0) if self._messages else None

    def take_events(self) -> tuple[SignallingEvent, ...]:
        """What has happened since the last time."""
        events = tuple(self._events)
        self._events.clear()
        return events

    # within

    def _take(self, response: SignalResponse, now: float) -> None:
        kind = response.WhichOneof("message")
        if kind == "leave":
            self._leave(_leave_requested(response.leave))
            return
        if self._joined is None:
            if kind == "join":
                self._join(response.join, now)
            return
        if kind == "room_moved":
            # The new token is for the other room, and joining with it leads there.
            if response.room_moved.token:
                self._events.append(TokenRefreshed(response.room_moved.token))
            self._leave(LeaveRequested(LeaveAction.RECONNECT, "ROOM_MOVED"))
            return
        if self._is_lost:
            self._resume(response.reconnect, now)
        if kind == "update":
            self._events += self.participants.update(response.update)
        elif kind == "offer":
            if not self._are_offers_ours:
                self._offer = response.offer.sdp
            self._events.append(OfferReceived(response.offer.sdp, response.offer.id))
        elif kind == "answer":
            if self._are_offers_ours:
                self._answer = response.answer.sdp
            self._events.append(AnswerReceived(response.answer.sdp))
        elif kind == "trickle":
            self._trickle(response.trickle)
        elif kind == "refresh_token":
            self._events.append(TokenRefreshed(response.refresh_token))
        elif kind == "pong_resp":
            elapsed = int(now * 1000) - response.pong_resp.last_ping_timestamp
            self._round_trip = min(max(elapsed, 0), MAX_ROUND_TRIP)

    def _join(self, join: JoinResponse, now: float) -> None:
        us = join.participant
        self._joined = Joined(
            us.identity,
            us.sid,
            join.room.name,
            join.server_info.version or join.server_version,
            join.server_info.protocol,
            _ice_servers(join.ice_servers),
            self.participants.join(us, join.other_participants),
            may_send(us),
        )
        self._events.append(self._joined)
        self._are_offers_ours = not join.subscriber_primary
        self._ping_interval, self._ping_timeout = join.ping_interval, join.ping_timeout
        self._ping_from(now)

    def _resume(self, reconnect: ReconnectResponse, now: float) -> None:
        """The first message on a new WebSocket; of a server that does not know ReconnectResponse,
        any will do."""
        self._is_lost = False
        self._events.append(
            Resumed(reconnect.last_message_seq, _ice_servers(reconnect.ice_servers))
        )
        self._ping_from(now)

    def _ping_from(self, now: float) -> None:
        if self._ping_interval > 0:
            self._ping_at = now + self._ping_interval

    def _trickle(self, trickle: TrickleRequest) -> None:
        try:
            init = json.loads(trickle.candidateInit)
            candidate, mid, index = init["candidate"], init.get("sdpMid"), init.get("sdpMLineIndex")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            logger.warning("ignored an ICE candidate that cannot be read")
            return
        if not isinstance(candidate, str) or not candidate:
            return  # the end of the candidates
        is_ours = trickle.target == SignalTarget.PUBLISHER
        self._events.append(
            CandidateReceived(
                is_ours,
                candidate,
                mid if isinstance(mid, str) else None,
                index if isinstance(index, int) else None,
            )
        )

    def _say(self, request: SignalRequest) -> None:
        if not self._is_over and not self._is_lost:
            self._messages.append(request.SerializeToString())

    def _leave(self, requested: LeaveRequested) -> None:
        self._events.append(requested)
        if requested.action is LeaveAction.RESUME:
            self.lose()
        else:
            self._end()

    def _end(self) -> None:
        self._is_over = True
        self.next_deadline = None

    def _set_deadline(self) -> None:
        if self._is_over or self._is_lost or self._joined is None:
            return
        silent_at = self._heard_at + self._ping_timeout if self._ping_timeout > 0 else math.inf
        deadline = min(self._ping_at, silent_at)
        self.next_deadline = None if deadline == math.inf else deadline


def _ice_servers(servers: Iterable[ICEServer]) -> tuple[IceServer, ...]:
    return tuple(
        IceServer(tuple(server.urls), server.username, server.credential) for server in servers
    )


def _leave_requested(leave: LeaveRequest) -> LeaveRequested:
    action = LeaveAction.DISCONNECT
    if leave.action == LeaveRequest.RESUME:
        action = LeaveAction.RESUME
    elif leave.action == LeaveRequest.RECONNECT or leave.can_reconnect:
        action = LeaveAction.RECONNECT  # servers before 1.5.2 know no actions
    return LeaveRequested(action, _reason_name(leave.reason))


def _reason_name(reason: int) -> str:
    try:
        return DisconnectReason.Name(reason)
    except ValueError:  # one from the future
        return str(reason)
