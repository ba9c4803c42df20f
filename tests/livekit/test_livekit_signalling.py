"""The signalling with a LiveKit server, message by message, without a socket."""

import gzip
import json
import logging
from base64 import urlsafe_b64decode
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from livekit.protocol.models import (
    ClientInfo,
    DisconnectReason,
    ParticipantInfo,
    ParticipantPermission,
    ReconnectReason,
    Room,
    ServerInfo,
)
from livekit.protocol.rtc import (
    ICEServer,
    JoinRequest,
    JoinResponse,
    LeaveRequest,
    ParticipantUpdate,
    Pong,
    ReconnectResponse,
    RoomMovedResponse,
    SessionDescription,
    SignalRequest,
    SignalResponse,
    SignalTarget,
    TrickleRequest,
    WrappedJoinRequest,
)

from rpcproto.livekit.errors import RefusedError, TokenError, departure, refusal
from rpcproto.livekit.signalling import (
    OLD_PATH,
    PATH,
    AnswerReceived,
    CandidateReceived,
    IceServer,
    Joined,
    LeaveAction,
    LeaveRequested,
    OfferReceived,
    Resumed,
    Resumption,
    Signalling,
    SignallingEvent,
    TimedOut,
    TokenRefreshed,
    join_url,
    path_after,
    validate_url,
)
from rpcproto.transports import ParticipantJoined, ParticipantLeft

START = 100.0


def participant(identity: str, sid: str = "PA_1", **fields: Any) -> ParticipantInfo:
    return ParticipantInfo(
        **{"state": ParticipantInfo.ACTIVE, **fields}, identity=identity, sid=sid
    )


ALICE = participant("alice", "PA_A")
BOB = participant("bob", "PA_B", client_protocol=2, capabilities=["CAP_COMPRESSION_DEFLATE_RAW"])
BOB_JOINED = ParticipantJoined("bob", "PA_B", 2, (2,))


class Client:
    """A signalling, the time it is told, and a server that says things to it."""

    def __init__(self, *, joined: bool = True, **fields: Any) -> None:
        self.signalling = Signalling()
        self.now = START
        if joined:
            self.joined(**fields)
            self.events()

    def joined(self, **fields: Any) -> None:
        defaults = {"participant": ALICE, "ping_interval": 5, "ping_timeout": 15}
        self.hears(join=JoinResponse(**{**defaults, **fields}))

    def hears(self, **message: Any) -> None:
        self.signalling.receive(SignalResponse(**message).SerializeToString(), now=self.now)

    def update(self, *participants: ParticipantInfo) -> list[SignallingEvent]:
        self.hears(update=ParticipantUpdate(participants=participants))
        return self.events()

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.signalling.handle_deadline(now=self.now)

    def events(self) -> list[SignallingEvent]:
        return list(self.signalling.take_events())

    def said(self) -> list[SignalRequest]:
        messages = iter(self.signalling.next_message, None)
        return [SignalRequest.FromString(message) for message in messages]


# the way in


def query_of(url: str) -> dict[str, str]:
    return {name: value for name, [value] in parse_qs(urlsplit(url).query).items()}


def join_request_of(text: str) -> JoinRequest:
    wrapped = WrappedJoinRequest.FromString(urlsafe_b64decode(text))
    assert wrapped.compression == WrappedJoinRequest.GZIP
    return JoinRequest.FromString(gzip.decompress(wrapped.join_request))


def test_the_new_path_has_all_in_one_message() -> None:
    url = join_url("wss://example.org", PATH, "our sdp")
    assert url.startswith("wss://example.org/rtc/v1?join_request=")
    request = join_request_of(query_of(url)["join_request"])
    assert request.client_info.client_protocol == 2
    assert list(request.client_info.capabilities) == [ClientInfo.CAP_COMPRESSION_DEFLATE_RAW]
    assert request.client_info.protocol == 18
    assert request.publisher_offer == SessionDescription(type="offer", sdp="our sdp", id=1)
    assert not request.connection_settings.auto_subscribe
    assert not request.reconnect


def test_the_old_path_has_the_same_in_its_query() -> None:
    url = join_url("ws://example.org:7880", OLD_PATH, "our sdp")
    assert url.startswith("ws://example.org:7880/rtc?")
    query = query_of(url)
    assert query["client_protocol"] == "2"
    assert query["capabilities"] == "CAP_COMPRESSION_DEFLATE_RAW"
    assert query["auto_subscribe"] == "0"
    assert query["protocol"] == "18"
    assert "our sdp" not in query.values()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://example.org", "ws://example.org/rtc"),
        ("https://example.org/", "wss://example.org/rtc"),
        ("wss://example.org/prefix/", "wss://example.org/prefix/rtc"),
    ],
)
def test_a_url_of_http_is_as_good_and_a_path_before_ours_stays(url: str, expected: str) -> None:
    assert join_url(url, OLD_PATH).partition("?")[0] == expected


@pytest.mark.parametrize(("scheme", "http"), [("ws", "http"), ("wss", "https"), ("http", "http")])
@pytest.mark.parametrize("path", [PATH, OLD_PATH])
def test_what_is_wrong_can_be_asked_over_http(scheme: str, http: str, path: str) -> None:
    asked = urlsplit(validate_url(f"{scheme}://example.org", path))
    assert (asked.scheme, asked.path) == (http, f"{path}/validate")
    assert asked.query == urlsplit(join_url("ws://example.org", path)).query


def test_a_resumption_names_the_session_on_both_paths() -> None:
    resumption = Resumption("PA_1", ReconnectReason.RR_PUBLISHER_FAILED)
    query = query_of(join_url("wss://example.org", PATH, resumption=resumption))
    request = join_request_of(query["join_request"])
    assert (request.reconnect, request.participant_sid) == (True, "PA_1")
    assert request.reconnect_reason == ReconnectReason.RR_PUBLISHER_FAILED
    assert request.client_info.client_protocol == 2
    query = query_of(join_url("wss://example.org", OLD_PATH, resumption=resumption))
    assert (query["reconnect"], query["sid"], query["reconnect_reason"]) == ("1", "PA_1", "2")
    assert query["auto_subscribe"] == "0"
    assert "reconnect" not in query_of(join_url("wss://example.org", OLD_PATH))


def test_only_a_404_leads_from_the_new_path_to_the_old_one() -> None:
    assert path_after(PATH, 404) == OLD_PATH
    assert path_after(OLD_PATH, 404) is None
    assert {path_after(PATH, status) for status in (400, 401, 403, 429, 500, 503)} == {None}


def test_a_refusal_says_what_the_server_said() -> None:
    error = refusal(401, "invalid token:\n expired")
    assert isinstance(error, TokenError)
    assert (str(error), error.status) == (
        "the server does not accept the token: invalid token: expired",
        401,
    )
    assert str(refusal(403, "")) == "the server refuses (403): no reason"
    assert str(refusal(404, "")) == "there is no LiveKit room to join: not found"
    assert type(refusal(503, "x" * 1000)) is RefusedError
    assert len(str(refusal(503, "x" * 1000))) < 300


# joining


def test_joining_tells_who_we_are_who_is_here_and_of_the_server() -> None:
    client = Client(joined=False)
    client.joined(
        room=Room(name="lobby"),
        server_info=ServerInfo(version="1.13.5", protocol=17),
        server_version="old",
        ice_servers=[ICEServer(urls=["turn:t", "stun:s"], username="u", credential="c")],
        other_participants=[
            BOB,
            participant("gone", state=ParticipantInfo.DISCONNECTED),
            participant(""),
            participant("carol", state=ParticipantInfo.JOINED),
        ],
    )
    assert client.events() == [
        Joined(
            "alice",
            "PA_A",
            "lobby",
            "1.13.5",
            17,
            (IceServer(("turn:t", "stun:s"), "u", "c"),),
            (BOB_JOINED,),
            True,
        )
    ]
    assert client.said() == []


def test_an_older_server_has_its_version_elsewhere() -> None:
    client = Client(joined=False)
    client.joined(server_version="1.7.2")
    [joined] = client.events()
    assert isinstance(joined, Joined)
    assert joined.server_version == "1.7.2"


@pytest.mark.parametrize("allowed", [True, False])
def test_it_is_told_whether_the_server_forwards_our_packets(allowed: bool) -> None:
    client = Client(joined=False)
    permission = ParticipantPermission(can_publish_data=allowed)
    client.joined(participant=participant("alice", permission=permission))
    [joined] = client.events()
    assert isinstance(joined, Joined)
    assert joined.may_send == allowed


def test_before_the_join_nothing_else_counts_and_a_second_join_neither() -> None:
    client = Client(joined=False)
    client.hears(answer=SessionDescription(type="answer", sdp="v=0"))
    client.hears(update=ParticipantUpdate(participants=[BOB]))
    assert client.events() == []
    assert client.signalling.next_deadline is None
    client.joined()
    client.events()
    client.joined(participant=BOB)
    assert client.events() == []


def test_a_server_that_does_not_let_us_join_may_say_so() -> None:
    client = Client(joined=False)
    client.hears(leave=LeaveRequest(reason=DisconnectReason.JOIN_FAILURE))
    assert client.events() == [LeaveRequested(LeaveAction.DISCONNECT, "JOIN_FAILURE")]


# offers, answers, candidates


def test_our_offer_is_answered() -> None:
    client = Client()
    client.signalling.offer("our sdp")
    [request] = client.said()
    # 1 is the offer of the join.
    assert request.offer == SessionDescription(type="offer", sdp="our sdp", id=2)
    client.signalling.offer("another sdp")
    [again] = client.said()
    assert again.offer.id == 3
    client.hears(answer=SessionDescription(type="answer", sdp="their sdp", id=1))
    assert client.events() == [AnswerReceived("their sdp")]


def test_an_offer_of_the_server_is_answered_under_its_id() -> None:
    client = Client()
    client.hears(offer=SessionDescription(type="offer", sdp="their sdp", id=7))
    assert client.events() == [OfferReceived("their sdp", 7)]
    client.signalling.answer("our sdp", 7)
    [request] = client.said()
    assert (request.answer.type, request.answer.sdp, request.answer.id) == ("answer", "our sdp", 7)


@pytest.mark.parametrize("is_ours", [True, False])
def test_a_candidate_of_ours_is_told_for_its_connection(is_ours: bool) -> None:
    client = Client()
    client.signalling.tell_candidate("candidate:1", "0", None, is_ours=is_ours)
    [request] = client.said()
    target = SignalTarget.PUBLISHER if is_ours else SignalTarget.SUBSCRIBER
    assert request.trickle.target == target
    assert json.loads(request.trickle.candidateInit) == {
        "candidate": "candidate:1",
        "sdpMid": "0",
        "sdpMLineIndex": None,
    }


def trickle(candidate: object, target: SignalTarget = SignalTarget.PUBLISHER) -> TrickleRequest:
    init = candidate if isinstance(candidate, str) else json.dumps(candidate)
    return TrickleRequest(candidateInit=init, target=target)


def test_a_candidate_belongs_to_one_of_the_connections() -> None:
    client = Client()
    client.hears(trickle=trickle({"candidate": "candidate:1", "sdpMid": "0", "sdpMLineIndex": 0}))
    client.hears(trickle=trickle({"candidate": "candidate:2"}, SignalTarget.SUBSCRIBER))
    client.hears(trickle=trickle({"candidate": "candidate:3", "sdpMid": 1, "sdpMLineIndex": "1"}))
    assert client.events() == [
        CandidateReceived(True, "candidate:1", "0", 0),
        CandidateReceived(False, "candidate:2", None, None),
        CandidateReceived(True, "candidate:3", None, None),
    ]


@pytest.mark.parametrize(
    "init", ["", "{", "[]", "null", "{}", '{"candidate": 1}', '{"candidate": ""}', "[" * 10_000]
)
def test_a_candidate_that_is_none_is_ignored(init: str) -> None:
    client = Client()
    client.hears(trickle=trickle(init))
    assert client.events() == []


# who is here


def test_participants_come_change_and_go() -> None:
    client = Client()
    assert client.update(BOB) == [BOB_JOINED]
    changed = participant("bob", "PA_B", client_protocol=1)
    assert client.update(changed) == [ParticipantJoined("bob", "PA_B", 1)]
    gone = participant("bob", "PA_B", state=ParticipantInfo.DISCONNECTED)
    assert client.update(gone) == [ParticipantLeft("bob", "PA_B")]


def test_what_says_nothing_new_is_not_told() -> None:
    client = Client(other_participants=[BOB])
    renamed = participant(
        "bob", "PA_B", name="Bob", client_protocol=2, capabilities=BOB.capabilities
    )
    hidden = participant("", "PA_H")
    never_here = participant("carol", state=ParticipantInfo.DISCONNECTED)
    ourselves = participant("alice", "PA_A", name="Alice")
    ourselves_before = participant("alice", "PA_0", state=ParticipantInfo.DISCONNECTED)
    news = client.update(renamed, hidden, never_here, ourselves, ourselves_before)
    assert news == []


def test_who_came_back_has_not_left_when_the_old_one_goes() -> None:
    client = Client(other_participants=[BOB])
    back = participant("bob", "PA_B2")
    gone = participant("bob", "PA_B", state=ParticipantInfo.DISCONNECTED)
    assert client.update(back, gone) == [
        ParticipantLeft("bob", "PA_B"),
        ParticipantJoined("bob", "PA_B2"),
    ]


# keep-alive


def test_pings_leave_every_interval_and_tell_the_round_trip() -> None:
    client = Client(ping_interval=5, ping_timeout=15)
    assert client.signalling.next_deadline == START + 5
    client.wait(5)
    [first] = client.said()
    assert first.ping_req.timestamp == int((START + 5) * 1000)
    assert first.ping_req.rtt == 0
    client.now += 0.25
    client.hears(pong_resp=Pong(last_ping_timestamp=first.ping_req.timestamp))
    client.wait(4.75)
    [second] = client.said()
    assert second.ping_req.rtt == 250
    assert client.signalling.next_deadline == START + 15
    assert client.events() == []


@pytest.mark.parametrize("timestamp", [-(2**63), 2**63 - 1])
def test_a_pong_that_cannot_be_is_no_round_trip(timestamp: int) -> None:
    client = Client()
    client.hears(pong_resp=Pong(last_ping_timestamp=timestamp))
    client.wait(5)
    [ping] = client.said()
    assert 0 <= ping.ping_req.rtt <= 60_000


def test_a_silent_server_is_lost() -> None:
    client = Client(ping_interval=5, ping_timeout=15)
    for _ in range(2):
        client.wait(5)
    assert client.events() == []
    client.wait(5)
    assert client.events() == [TimedOut(15.0)]
    assert client.signalling.next_deadline is None


def test_any_message_is_a_sign_of_life() -> None:
    client = Client(ping_interval=5, ping_timeout=15)
    client.wait(14)
    client.hears(speakers_changed={})
    client.wait(14)
    assert client.events() == []
    client.wait(1)
    assert client.events() == [TimedOut(15.0)]


def test_too_early_or_twice_does_no_harm() -> None:
    client = Client(ping_interval=5, ping_timeout=15)
    client.wait(4)
    assert client.said() == []
    client.wait(1)
    client.wait(0)
    assert len(client.said()) == 1
    assert client.signalling.next_deadline == START + 10


def test_a_server_that_wants_no_pings_gets_none() -> None:
    client = Client(ping_interval=0, ping_timeout=0)
    assert client.signalling.next_deadline is None
    client.wait(1000)
    assert (client.said(), client.events()) == ([], [])


def test_a_server_may_want_pings_without_a_timeout_or_the_reverse() -> None:
    pings = Client(ping_interval=5, ping_timeout=0)
    pings.wait(100)
    assert (len(pings.said()), pings.events()) == (1, [])
    silence = Client(ping_interval=0, ping_timeout=15)
    silence.wait(15)
    assert (silence.said(), silence.events()) == ([], [TimedOut(15.0)])


# the token, and the end


def test_a_new_token_is_told() -> None:
    client = Client()
    client.hears(refresh_token="next time")
    assert client.events() == [TokenRefreshed("next time")]


@pytest.mark.parametrize("token", ["for the other room", ""])
def test_who_is_moved_to_another_room_joins_that(token: str) -> None:
    client = Client()
    client.hears(room_moved=RoomMovedResponse(room=Room(name="elsewhere"), token=token))
    *before, last = client.events()
    assert before == ([TokenRefreshed(token)] if token else [])
    assert last == LeaveRequested(LeaveAction.RECONNECT, "ROOM_MOVED")


@pytest.mark.parametrize(
    ("leave", "action"),
    [
        (LeaveRequest(action=LeaveRequest.DISCONNECT), LeaveAction.DISCONNECT),
        (LeaveRequest(action=LeaveRequest.RECONNECT), LeaveAction.RECONNECT),
        # Servers before actions were invented.
        (LeaveRequest(can_reconnect=True), LeaveAction.RECONNECT),
        (LeaveRequest(can_reconnect=False), LeaveAction.DISCONNECT),
    ],
)
def test_the_server_ends_it_with_an_action_and_nothing_follows(
    leave: LeaveRequest, action: LeaveAction
) -> None:
    leave.reason = DisconnectReason.PARTICIPANT_REMOVED
    client = Client()
    client.hears(leave=leave)
    assert client.events() == [LeaveRequested(action, "PARTICIPANT_REMOVED")]
    assert client.signalling.next_deadline is None
    client.hears(leave=leave)
    client.signalling.offer("too late")
    client.wait(1000)
    assert (client.update(BOB), client.said()) == ([], [])


# the WebSocket is lost, and the session resumed on another


def lost() -> Client:
    """A client whose WebSocket was lost, in a session with an offer and its answer."""
    client = Client(ping_interval=5, ping_timeout=15)
    client.signalling.offer("our sdp")
    client.hears(answer=SessionDescription(type="answer", sdp="their sdp", id=1))
    client.events()
    client.said()
    client.signalling.lose()
    return client


def test_a_server_that_resumes_names_the_last_packet_that_it_has_seen() -> None:
    client = lost()
    server = ICEServer(urls=["turn:example.org"], username="u", credential="c")
    client.hears(reconnect=ReconnectResponse(last_message_seq=7, ice_servers=[server]))
    assert client.events() == [Resumed(7, (IceServer(("turn:example.org",), "u", "c"),))]
    # Only the first message of the new WebSocket is the answer.
    client.hears(reconnect=ReconnectResponse(last_message_seq=8))
    assert client.update(BOB) == [BOB_JOINED]


def test_a_server_without_a_reconnect_response_resumes_with_any_other_message() -> None:
    assert lost().update(BOB) == [Resumed(0, ()), BOB_JOINED]


@pytest.mark.parametrize("action", [LeaveRequest.RECONNECT, LeaveRequest.DISCONNECT])
def test_a_server_that_does_not_resume_ends_the_session(action: LeaveRequest.Action) -> None:
    client = lost()
    client.hears(leave=LeaveRequest(action=action, reason=DisconnectReason.STATE_MISMATCH))
    expected = LeaveAction(LeaveRequest.Action.Name(action).lower())
    assert client.events() == [LeaveRequested(expected, "STATE_MISMATCH")]
    client.hears(reconnect=ReconnectResponse(last_message_seq=7))
    assert client.events() == []


def test_a_server_that_asks_us_to_resume_has_given_up_the_websocket() -> None:
    client = Client()
    client.hears(leave=LeaveRequest(action=LeaveRequest.RESUME))
    assert client.events() == [LeaveRequested(LeaveAction.RESUME, "UNKNOWN_REASON")]
    assert client.signalling.next_deadline is None
    client.hears(reconnect=ReconnectResponse(last_message_seq=7))
    assert client.events() == [Resumed(7, ())]


def test_nothing_is_said_and_no_deadline_runs_between_two_websockets() -> None:
    client = Client(ping_interval=5, ping_timeout=15)
    client.signalling.offer("too late")
    client.signalling.lose()
    client.signalling.offer("too late, too")
    client.wait(1_000)
    assert (client.said(), client.events(), client.signalling.next_deadline) == ([], [], None)


def test_a_resumed_session_is_pinged_and_may_be_lost_again() -> None:
    client = lost()
    client.now += 1_000
    client.hears(reconnect=ReconnectResponse())
    assert client.signalling.next_deadline == client.now + 5
    client.wait(5)
    assert [request.WhichOneof("message") for request in client.said()] == ["ping_req"]
    client.events()
    client.wait(10)
    assert client.events() == [TimedOut(15.0)]
    client.hears(reconnect=ReconnectResponse(last_message_seq=9))
    assert client.events() == [Resumed(9, ())]


def test_after_resuming_the_server_is_told_what_has_arrived_and_what_was_negotiated() -> None:
    client = lost()
    client.hears(reconnect=ReconnectResponse())
    client.signalling.sync({"PA_B": 12, "PA_C": 3})
    [request] = client.said()
    state = request.sync_state
    assert [(one.publisher_sid, one.last_seq) for one in state.datachannel_receive_states] == [
        ("PA_B", 12),
        ("PA_C", 3),
    ]
    assert (state.offer.sdp, state.answer.sdp) == ("our sdp", "their sdp")
    assert (state.offer.type, state.answer.type) == ("offer", "answer")


def test_on_the_old_path_the_connection_of_the_server_was_negotiated() -> None:
    client = Client(subscriber_primary=True)
    client.hears(offer=SessionDescription(type="offer", sdp="their offer", id=7))
    client.signalling.answer("our answer", 7)
    client.signalling.offer("our offer")
    client.hears(answer=SessionDescription(type="answer", sdp="their answer", id=1))
    client.said()
    client.signalling.lose()
    client.hears(reconnect=ReconnectResponse())
    client.signalling.sync({})
    [request] = client.said()
    assert request.sync_state.offer.sdp == "their offer"
    assert request.sync_state.answer.sdp == "our answer"


def test_a_reason_from_the_future_is_a_number() -> None:
    client = Client()
    # Field 2 of the leave, which is field 8 of the response: reason 99.
    client.signalling.receive(b"\x42\x02\x10\x63", now=START)
    assert client.events() == [LeaveRequested(LeaveAction.DISCONNECT, "99")]


def test_a_departure_is_told_in_words() -> None:
    assert str(departure("DUPLICATE_IDENTITY")) == "somebody else has joined under our identity"
    assert str(departure("USER_REJECTED")) == "the server has ended it: USER_REJECTED"
    assert departure("ROOM_DELETED").reason == "ROOM_DELETED"


def test_we_say_goodbye_once() -> None:
    client = Client()
    client.signalling.leave()
    client.signalling.leave()
    [request] = client.said()
    assert request.leave.action == LeaveRequest.DISCONNECT
    assert request.leave.reason == DisconnectReason.CLIENT_INITIATED
    assert client.signalling.next_deadline is None
    assert client.update(BOB) == []


# what is not for us


OF_NO_INTEREST = [
    b"",
    SignalResponse(pong=1).SerializeToString(),
    SignalResponse(room_update={}).SerializeToString(),
    SignalResponse(reconnect={}).SerializeToString(),
    b"\xfa\x7f\x03abc",  # field 2047, not invented yet
]


@pytest.mark.parametrize("data", OF_NO_INTEREST)
def test_unknown_messages_are_ignored(data: bytes) -> None:
    client = Client()
    client.signalling.receive(data, now=START)
    assert (client.events(), client.said()) == ([], [])


def test_what_cannot_be_read_is_ignored_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    client = Client()
    with caplog.at_level(logging.WARNING, "rpcproto"):
        client.signalling.receive(b"\xff\xff", now=START)
    assert client.events() == []
    assert "cannot be read" in caplog.text
