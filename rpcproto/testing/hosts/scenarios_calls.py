"""Scenarios about calls of the host: their outcomes, their timeouts, and cancelling them."""

import random
import string
from typing import Final

from rpcproto.core.config import RpcConfig
from rpcproto.core.errors import LocalProtocolError
from rpcproto.core.messages import PacketKind
from rpcproto.testing.hosts.steps import (
    ALL_KINDS,
    Advance,
    Call,
    Cancel,
    Ended,
    Failure,
    Happens,
    Heard,
    Jump,
    Network,
    PeerCall,
    Pending,
    Room,
    Scenario,
    Sent,
    SentNothing,
    Timers,
)

LONG: Final = "".join(random.Random(1).choices(string.ascii_letters, k=300_000))
"""A payload that travels in some fifteen chunks, even compressed."""
MEGABYTES: Final = "x" * 3_000_000

_OUTCOMES: Final = (
    Scenario("a call is answered", (Call("a"), Advance(1.0), Ended("a", ("Hi",))), "calls"),
    Scenario(
        "many calls are answered, each with its own answer, and leave in the order they were made",
        (
            *(Call(f"{number}", payload=f"{number}") for number in range(100)),
            Advance(1.0),
            *(Ended(f"{number}", (f"{number}",)) for number in range(100)),
            Heard(tuple(f"{number}" for number in range(100))),
        ),
        "calls",
    ),
    Scenario(
        "a long payload travels both ways, and a short call does not wait for it",
        (
            Room(seconds_per_packet=0.125),
            Call("long", payload=LONG),
            Call("short"),
            Advance(1.0),
            Ended("short", ("Hi",)),
            Advance(9.0),
            Ended("long", (LONG,)),
            Room(),
            PeerCall("echo", LONG, payload=LONG),
        ),
        "calls",
    ),
    Scenario(
        "a short call leaves at the next chance, though a long payload is on its way",
        (
            Room(seconds_per_packet=0.125),
            Call("long", payload=LONG),
            Advance(0.5),
            Call("short"),
            Advance(0.3125),
            Ended("short", ("Hi",)),
            Pending("long"),
            Advance(9.0),
            Ended("long", (LONG,)),
        ),
        "calls",
    ),
    Scenario(
        "payloads of megabytes, which are unpacked in turns of the timer",
        (
            PeerCall("echo", MEGABYTES, payload=MEGABYTES),
            Call("a", payload=MEGABYTES),
            Advance(1.0),
            Ended("a", (MEGABYTES,)),
        ),
        "calls",
    ),
    Scenario(
        "a payload that is too large fails its call alone, either way",
        (
            Call("a", payload="a" * 1_001),
            Ended("a", (Failure(1402, "Request payload too large"),)),
            SentNothing(),
            Call("b", payload="b" * 1_000),
            Advance(1.0),
            Ended("b", ("b" * 1_000,)),
            PeerCall("double", Failure(1504, "Response payload too large"), payload="c" * 501),
            PeerCall("double", "d" * 1_000, payload="d" * 500),
        ),
        "calls",
        config=RpcConfig(max_payload_bytes=1_000),
    ),
    Scenario(
        "an unknown method fails",
        (
            Call("a", "nothing"),
            Advance(1.0),
            Ended("a", (Failure(1400, "Method not supported at destination"),)),
        ),
        "calls",
    ),
    Scenario(
        "an error of the peer is the outcome, with its message and its data",
        (Call("a", "refuse"), Advance(1.0), Ended("a", (Failure(2001, "Out of tea", "Hi"),))),
        "calls",
    ),
    Scenario(
        "a call that fails at once, or is misuse, sends nothing and harms no other",
        (
            Call("a", "ignore"),
            Advance(1.0),
            Call("b", destination="nobody"),
            SentNothing(),
            Ended("b", (1401,)),
            Call("c", "m" * 65),
            SentNothing(),
            Ended("c", (LocalProtocolError,)),
            Call("d", payload="\ud800"),
            Ended("d", (LocalProtocolError,)),
            Pending("a"),
            Call("e"),
            Advance(1.0),
            Ended("e", ("Hi",)),
        ),
        "calls",
    ),
    Scenario(
        "one call too many is refused, and there is room again when one has ended",
        (
            Call("a", "ignore", response_timeout=3.0),
            Call("b", "ignore"),
            Call("c"),
            Ended("c", (LocalProtocolError,)),
            Advance(3.0),
            Ended("a", (1502,)),
            Call("d"),
            Advance(1.0),
            Ended("d", ("Hi",)),
        ),
        "calls",
        config=RpcConfig(max_pending_calls=2),
    ),
)

_TIMERS: Final = (
    Scenario(
        "no sign of life ends a call with 1501, when the window is over and no sooner",
        (
            Network(lost=ALL_KINDS),
            Call("a"),
            Advance(6.875),
            Pending("a"),
            Advance(0.125),
            Ended("a", (1501,)),
        ),
        "timers",
    ),
    Scenario(
        "an answer that never comes ends a call with 1502",
        (
            Call("a", "ignore"),
            Call("b", "ignore", response_timeout=3.0),
            Call("c", "ignore", response_timeout=20.0),
            Advance(2.875),
            Pending("b"),
            Advance(0.125),
            Ended("b", (1502,)),
            Pending("a"),
            Advance(7.0),
            Ended("a", (1502,)),
            Pending("c"),
            Advance(10.0),
            Ended("c", (1502,)),
        ),
        "timers",
    ),
    Scenario(
        "a host goes by the timeouts of its config",
        (Call("a", "ignore"), Advance(3.875), Pending("a"), Advance(0.125), Ended("a", (1502,))),
        "timers",
        config=RpcConfig(response_timeout=4.0),
    ),
    Scenario(
        "timers that fire early end nothing early, and nothing hangs",
        (
            Timers(early=0.25),
            Network(lost=ALL_KINDS),
            Call("a"),
            Advance(6.875),
            Pending("a"),
            Advance(0.125),
            Ended("a", (1501,)),
        ),
        "timers",
    ),
    Scenario(
        "stale and repeated timers do no harm",
        (
            Timers(stale=True, repeated=True),
            Call("a"),
            Call("b", "ignore"),
            Advance(1.0),
            Ended("a", ("Hi",)),
            Call("c", "ignore", response_timeout=4.0),
            Advance(9.0),
            Ended("b", (1502,)),
            Ended("c", (1502,)),
            Advance(30.0),
            Call("d"),
            Advance(1.0),
            Ended("d", ("Hi",)),
        ),
        "timers",
    ),
    Scenario(
        "a timer that fires late ends what is due",
        (
            Network(lost=ALL_KINDS),
            Call("a"),
            Call("b", response_timeout=3.0),
            Jump(60.0),
            Ended("a", (1501,)),
            Ended("b", (1502,)),
        ),
        "timers",
    ),
    Scenario(
        "a packet and a timer at one instant: one of the two outcomes, and only one",
        (
            Call("a", "late", response_timeout=2.0),
            Advance(2.0),
            Ended("a", ("Hi", 1502)),
            Advance(60.0),
            Call("b"),
            Advance(1.0),
            Ended("b", ("Hi",)),
        ),
        "timers",
    ),
)

_CANCELLING: Final = (
    Scenario(
        "a call that is cancelled has no outcome, and the others have theirs",
        (
            Call("a"),
            Call("b"),
            Call("c", "ignore"),
            Cancel("b"),
            Advance(1.0),
            Ended("a", ("Hi",)),
            Pending("b"),
            Cancel("c"),
            Advance(60.0),
            Pending("c"),
        ),
        "cancelling",
    ),
    Scenario(
        "cancelling what has ended changes nothing",
        (Call("a"), Advance(1.0), Cancel("a"), Advance(1.0), Ended("a", ("Hi",))),
        "cancelling",
    ),
    Scenario(
        "an answer that comes after its call was cancelled is ignored",
        (
            Call("a", "much later"),
            Advance(1.0),
            Cancel("a"),
            Advance(9.0),
            Pending("a"),
            Call("b"),
            Advance(1.0),
            Ended("b", ("Hi",)),
        ),
        "cancelling",
    ),
    Scenario(
        "a call that is cancelled when its answer has just come has no outcome",
        (
            Network(is_held=True),
            Call("a"),
            Call("b"),
            Advance(1.0),
            Cancel("b", after_report=True),
            Happens(),
            Advance(1.0),
            Ended("a", ("Hi",)),
        ),
        "cancelling",
    ),
    Scenario(
        "a call that is cancelled before it could leave does no harm",
        (
            Room(is_full=True),
            Call("a", payload="a"),
            Call("b", payload="b"),
            Cancel("a"),
            Room(),
            Advance(1.0),
            Pending("a"),
            Ended("b", ("b",)),
        ),
        "cancelling",
    ),
    Scenario(
        "a long payload stops on its way when its call is cancelled",
        (
            Room(seconds_per_packet=0.125),
            Call("long", payload=LONG),
            Advance(0.5),
            Cancel("long"),
            Advance(20.0),
            Sent(PacketKind.STREAM_TRAILER, 1),
            Heard(()),
            Call("short"),
            Advance(1.0),
            Ended("short", ("Hi",)),
        ),
        "cancelling",
    ),
    Scenario(
        "cancelling a call makes room for another",
        (
            Call("a", "ignore"),
            Advance(1.0),
            Cancel("a"),
            Call("b"),
            Advance(1.0),
            Ended("b", ("Hi",)),
        ),
        "cancelling",
        config=RpcConfig(max_pending_calls=1),
    ),
)

CALLS: Final = (*_OUTCOMES, *_TIMERS, *_CANCELLING)
