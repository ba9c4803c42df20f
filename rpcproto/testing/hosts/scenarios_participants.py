"""Scenarios about participants: sids, abilities and departures."""

from typing import Final

from rpcproto.core.config import RpcConfig
from rpcproto.core.messages import PacketKind
from rpcproto.testing.hosts.steps import (
    PEER,
    PEER_SID,
    Advance,
    Call,
    Ended,
    Happens,
    Network,
    PeerCall,
    Pending,
    Scenario,
    Sent,
    SentNothing,
)
from rpcproto.transports import Connected, ParticipantJoined, ParticipantLeft

_CABLE_CUT: Final = ConnectionError("cable cut")
_PEER_IS_BACK: Final = ParticipantJoined(PEER, PEER_SID, 2, (2,))

PARTICIPANTS: Final = (
    Scenario(
        "a peer that leaves ends its calls at once",
        (
            Call("a", "ignore"),
            Advance(1.0),
            Happens((ParticipantLeft(PEER, PEER_SID),)),
            Ended("a", (1503,)),
            Call("b"),
            Advance(0.0),
            Ended("b", (1401,)),
        ),
        "participants",
    ),
    Scenario(
        "a peer that comes back under a new sid ends the calls to the old one",
        (
            Call("a", "ignore"),
            Advance(1.0),
            Happens((ParticipantJoined(PEER, "PA_new", 2, (2,)),)),
            Ended("a", (1503,)),
            Network(sid="PA_new"),
            Call("b"),
            Advance(1.0),
            Ended("b", ("Hi",)),
        ),
        "participants",
    ),
    Scenario(
        "the departure of an old sid ends nothing",
        (
            Call("a", "much later"),
            Advance(1.0),
            Happens((ParticipantLeft(PEER, "PA_old"),)),
            Pending("a"),
            Advance(5.0),
            Ended("a", ("Hi",)),
            PeerCall("echo", "Hi"),
        ),
        "participants",
    ),
    Scenario(
        "packets of another sid answer no calls",
        (
            Network(sid="PA_old"),
            Call("a"),
            Advance(6.0),
            Pending("a"),
            Advance(1.0),
            Ended("a", (1501,)),
        ),
        "participants",
    ),
    Scenario(
        "the sender that the channel names counts, and not the one that a packet claims",
        (
            Network(claimed_sender="mallory"),
            Call("a"),
            Advance(1.0),
            Ended("a", ("Hi",)),
            PeerCall("echo", "Hi"),
        ),
        "participants",
    ),
    Scenario(
        "a peer gets the packets that it can read: plain ones",
        (
            Happens((ParticipantJoined(PEER, PEER_SID),)),
            Call("a", payload="a" * 10_000),
            Advance(1.0),
            Ended("a", ("a" * 10_000,)),
            Sent(PacketKind.REQUEST, 1),
            Call("b", payload="b" * 20_000),
            Ended("b", (1402,)),
        ),
        "participants",
    ),
    Scenario(
        "a peer gets the packets that it can read: streams, inline and compressed",
        (
            Call("a", payload="a" * 200_000),
            Advance(1.0),
            Ended("a", ("a" * 200_000,)),
            Sent(PacketKind.STREAM_HEADER, 1),
            Sent(PacketKind.STREAM_CHUNK, 0),
        ),
        "participants",
    ),
    Scenario(
        "where the list of participants is not complete, others can be called",
        (
            Happens((_PEER_IS_BACK, Connected())),
            Call("a", destination="nobody"),
            Advance(6.875),
            Pending("a"),
            Advance(0.125),
            Ended("a", (1501,)),
        ),
        "participants",
        is_connected=False,
    ),
    Scenario(
        "a server that is too old for calls fails them",
        (
            Happens((_PEER_IS_BACK, Connected(server_version="1.7.9"))),
            Call("a"),
            Ended("a", (1403,)),
            SentNothing(),
        ),
        "participants",
        is_connected=False,
    ),
    Scenario(
        "an answer that a departure has overtaken counts, within the channel's grace",
        (
            Call("a", "late"),
            Call("b", "ignore"),
            Advance(1.0),
            Happens((ParticipantLeft(PEER, PEER_SID),)),
            Pending("a"),
            Advance(1.0),
            Ended("a", ("Hi",)),
            Pending("b"),
            Advance(1.0),
            Ended("b", (1503,)),
        ),
        "participants",
        departure_grace=2.0,
    ),
    Scenario(
        "a larger grace of the config counts more than the channel's",
        (
            Call("a", "late"),
            Call("b", "ignore"),
            Advance(1.0),
            Happens((ParticipantLeft(PEER, PEER_SID),)),
            Advance(1.875),
            Ended("a", ("Hi",)),
            Pending("b"),
            Advance(0.125),
            Ended("b", (1503,)),
        ),
        "participants",
        config=RpcConfig(departure_grace=2.0),
        departure_grace=0.5,
    ),
    Scenario(
        "a larger grace of the channel counts more than the config's",
        (
            Call("b", "ignore"),
            Advance(1.0),
            Happens((ParticipantLeft(PEER, PEER_SID),)),
            Advance(1.875),
            Pending("b"),
            Advance(0.125),
            Ended("b", (1503,)),
        ),
        "participants",
        config=RpcConfig(departure_grace=0.5),
        departure_grace=2.0,
    ),
)
