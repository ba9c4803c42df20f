"""Scenarios about sending and about leaving."""

from typing import Final

from rpcproto.core.messages import PacketKind
from rpcproto.testing.hosts.scenarios_calls import LONG
from rpcproto.testing.hosts.steps import (
    ALL_KINDS,
    CABLE_CUT,
    PEER,
    PEER_IS_BACK,
    PEER_SID,
    Advance,
    Breaks,
    Call,
    Cancel,
    Close,
    Ended,
    Failure,
    Happens,
    Heard,
    Network,
    NotSent,
    PeerCall,
    PeerEnded,
    PeerStarts,
    Pending,
    Room,
    Scenario,
    SentNothing,
)
from rpcproto.transports import Connected, Disconnected, PacketReceived, ParticipantLeft

_SENDING: Final = (
    Scenario(
        "packets that arrive from inside send",
        (
            Network(latency=None),
            *(Call(f"{number}", payload=f"{number}") for number in range(20)),
            Advance(0.0),
            *(Ended(f"{number}", (f"{number}",)) for number in range(20)),
            PeerCall("echo", "Hi"),
            PeerCall("crash", 1500),
            Call("long", payload=LONG),
            Advance(0.0),
            Ended("long", (LONG,)),
        ),
        "sending",
    ),
    Scenario(
        "hundreds of packets that arrive from inside send, one after another",
        (
            Network(latency=None),
            Room(is_full=True),
            *(Call(f"{number}", payload=f"{number}") for number in range(500)),
            Room(),
            Advance(0.0),
            *(Ended(f"{number}", (f"{number}",)) for number in range(500)),
        ),
        "sending",
    ),
    Scenario(
        "a packet that is not sent fails its call alone",
        (
            Call("a", "ignore"),
            Advance(1.0),
            NotSent(),
            Call("b"),
            Call("c"),
            Advance(1.0),
            Ended("b", (1505,)),
            Ended("c", ("Hi",)),
            Pending("a"),
        ),
        "sending",
    ),
    Scenario(
        "of packets that leave together, exactly those that are not sent fail their calls",
        (
            Room(is_full=True),
            *(Call(f"{number}", payload=f"{number}") for number in range(6)),
            NotSent(packets=3),
            Room(),
            Advance(1.0),
            *(Ended(f"{number}", (1505,)) for number in range(3)),
            *(Ended(f"{number}", (f"{number}",)) for number in range(3, 6)),
            Heard(("3", "4", "5")),
        ),
        "sending",
    ),
    Scenario(
        "a chunk that is not sent fails the call that it belongs to",
        (
            NotSent(PacketKind.STREAM_CHUNK),
            Call("long", payload=LONG),
            Call("short"),
            Advance(1.0),
            Ended("long", (1505,)),
            Ended("short", ("Hi",)),
        ),
        "sending",
    ),
    Scenario(
        "an answer that is not sent: its caller gets 1505",
        (
            NotSent(PacketKind.STREAM_HEADER),
            PeerCall("echo", Failure(1505, "Failed to send")),
            PeerCall("echo", "Hi"),
        ),
        "sending",
    ),
    Scenario(
        "a channel that is full sends nothing, and loses nothing",
        (
            Room(is_full=True),
            *(Call(f"{number}", payload=f"{number}") for number in range(20)),
            Advance(5.0),
            SentNothing(),
            Room(),
            Advance(1.0),
            *(Ended(f"{number}", (f"{number}",)) for number in range(20)),
        ),
        "sending",
    ),
    Scenario(
        "answers wait for room as well",
        (
            PeerStarts("a", "echo"),
            Room(is_full=True),
            Advance(5.0),
            SentNothing(),
            Room(),
            Advance(1.0),
            PeerEnded("a", "Hi"),
        ),
        "sending",
    ),
    Scenario(
        "calls end in time though the channel stays full",
        (Room(is_full=True), Call("a"), Advance(7.0), Ended("a", (1501,)), SentNothing()),
        "sending",
    ),
    Scenario(
        "a channel that is slow sends everything in its time",
        (
            Room(seconds_per_packet=0.25),
            *(Call(f"{number}", payload=f"{number}") for number in range(20)),
            Advance(6.0),
            *(Ended(f"{number}", (f"{number}",)) for number in range(20)),
        ),
        "sending",
    ),
)

_LEAVING: Final = (
    Scenario(
        "leaving ends all calls",
        (
            Call("a", "ignore"),
            Call("b", "ignore", response_timeout=60.0),
            Advance(1.0),
            Close(),
            Ended("a", (1503,)),
            Ended("b", (1503,)),
        ),
        "leaving",
    ),
    Scenario(
        "leaving is not held up by a channel that stays full",
        (Room(is_full=True), Call("a"), Close(), Ended("a", (1503,))),
        "leaving",
    ),
    Scenario(
        "leaving a channel that is broken",
        (Breaks(CABLE_CUT), Call("a"), Advance(0.0), Ended("a", (1503,)), Close()),
        "leaving",
    ),
    Scenario(
        "leaving a connection that was lost",
        (Happens((Disconnected(CABLE_CUT),)), Advance(1.0), Close()),
        "leaving",
    ),
    Scenario(
        "nothing comes of what arrives after leaving",
        (
            Call("a"),
            PeerStarts("b", "echo"),
            Close(),
            Ended("a", (1503,)),
            PeerStarts("c", "slow"),
            Happens((PacketReceived(b"\xff garbage", PEER, PEER_SID),)),
            Happens((ParticipantLeft(PEER, PEER_SID), Disconnected(CABLE_CUT))),
            Happens((PEER_IS_BACK, Connected())),
        ),
        "leaving",
    ),
    Scenario(
        "no timer is left behind, even where timers are stale",
        (
            Network(lost=ALL_KINDS),
            Call("a", response_timeout=60.0),
            Advance(1.0),
            Cancel("a"),
            Call("b", response_timeout=5.0),
            Advance(1.0),
            Close(),
            Ended("b", (1503,)),
        ),
        "leaving",
    ),
)

SENDING: Final = (*_SENDING, *_LEAVING)
