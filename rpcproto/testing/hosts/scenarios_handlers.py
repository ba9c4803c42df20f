"""Scenarios about requests of the peer: what becomes of handlers, and of their answers."""

from typing import Final

from rpcproto.core.config import RpcConfig
from rpcproto.testing.hosts.handlers import STUBBORN_FOR
from rpcproto.testing.hosts.steps import (
    CABLE_CUT,
    PEER,
    PEER_IS_BACK,
    PEER_SID,
    Advance,
    Breaks,
    Call,
    Close,
    Ended,
    Failure,
    Handlers,
    Happens,
    Network,
    PeerCall,
    PeerEnded,
    PeerStarts,
    Room,
    Scenario,
)
from rpcproto.transports import Connected, Disconnected, ParticipantJoined, ParticipantLeft

_CRASHED: Final = Failure(1500, "Application error in method handler")
_REFUSED: Final = Failure(1500, "Application error in method handler", "too many requests")

_ANSWERS: Final = (
    Scenario(
        "a handler answers, refuses or crashes, and its caller gets no more than it should",
        (
            PeerCall("echo", "Hi"),
            PeerCall("refuse", Failure(2001, "Out of tea", "Hi")),
            PeerCall("crash", _CRASHED),
            PeerCall("nothing", Failure(1400, "Method not supported at destination")),
            PeerCall("echo", "Hi"),
        ),
        "handlers",
    ),
    Scenario(
        "whatever a handler raises or returns, its caller gets an answer and the host goes on",
        (
            PeerCall("number", _CRASHED),
            PeerCall("no text", _CRASHED),
            PeerCall("odd text", "Hi"),
            PeerCall("refuse wrongly", _CRASHED),
            PeerCall("crash without a text", _CRASHED),
            PeerCall("exit", _CRASHED),
            PeerCall("stop", _CRASHED),
            PeerCall("echo", "Hi"),
        ),
        "handlers",
    ),
    Scenario(
        "many requests at once, each with its own answer",
        (
            *(PeerStarts(f"{number}", "echo", f"{number}") for number in range(100)),
            Advance(1.0),
            *(PeerEnded(f"{number}", f"{number}") for number in range(100)),
        ),
        "handlers",
    ),
    Scenario(
        "a request that arrives twice runs its handler once",
        (Network(times=2), PeerCall("echo", "Hi"), PeerCall("crash", 1500)),
        "handlers",
    ),
    Scenario(
        "handlers that take time answer in the end, and hold up nobody",
        (
            PeerStarts("a", "slow", "a"),
            PeerStarts("b", "slow refusal", "b"),
            PeerStarts("c", "slow crash"),
            Advance(1.0),
            Handlers(running=3),
            PeerCall("echo", "Hi"),
            Call("d"),
            Advance(1.0),
            Ended("d", ("Hi",)),
            PeerEnded("a", "a"),
            PeerEnded("b", Failure(2002, "No", "b")),
            PeerEnded("c", _CRASHED),
            Handlers(),
        ),
        "handlers",
    ),
    Scenario(
        "a handler that calls its caller meanwhile",
        (
            PeerStarts("a", "slow"),
            Advance(1.0),
            *(Call(f"{number}", payload=f"{number}") for number in range(5)),
            Advance(0.5),
            *(Ended(f"{number}", (f"{number}",)) for number in range(5)),
            PeerEnded("a", None),
            Advance(3.0),
            PeerEnded("a", "Hi"),
        ),
        "handlers",
    ),
)

_ABANDONED: Final = (
    Scenario(
        "a handler is cancelled when its invocation expires, and the others go on",
        (
            PeerStarts("a", "endless", response_timeout=3.0),
            PeerStarts("b", "endless", response_timeout=60.0),
            Advance(5.0),
            PeerEnded("a", 1502),
            Handlers(running=2),
            Advance(10.0),
            Handlers(running=1, cancelled=1),
            PeerEnded("b", None),
            PeerCall("echo", "Hi"),
        ),
        "abandoned handlers",
    ),
    Scenario(
        "a handler is cancelled when its caller leaves",
        (
            PeerStarts("a", "endless"),
            Advance(1.0),
            Handlers(running=1),
            Happens((ParticipantLeft(PEER, PEER_SID),)),
            Handlers(cancelled=1),
            Happens((PEER_IS_BACK,)),
            PeerCall("echo", "Hi"),
        ),
        "abandoned handlers",
    ),
    Scenario(
        "a handler is cancelled when its caller comes back under a new sid",
        (
            PeerStarts("a", "endless"),
            Advance(1.0),
            Happens((ParticipantJoined(PEER, "PA_new", 2, (2,)),)),
            Handlers(cancelled=1),
            Network(sid="PA_new"),
            PeerCall("echo", "Hi"),
        ),
        "abandoned handlers",
    ),
    Scenario(
        "handlers are cancelled when the connection is lost",
        (
            PeerStarts("a", "endless"),
            PeerStarts("b", "slow"),
            Advance(1.0),
            Happens((Disconnected(CABLE_CUT),)),
            Handlers(cancelled=2),
            Happens((PEER_IS_BACK, Connected())),
            PeerCall("echo", "Hi"),
            Handlers(cancelled=2),
        ),
        "abandoned handlers",
    ),
    Scenario(
        "handlers are cancelled when sending breaks",
        (
            PeerStarts("a", "endless"),
            Advance(1.0),
            Breaks(CABLE_CUT),
            Call("b"),
            Advance(0.0),
            Ended("b", (1503,)),
            Handlers(cancelled=1),
        ),
        "abandoned handlers",
    ),
    Scenario(
        "handlers are cancelled when the host leaves",
        (
            PeerStarts("a", "endless"),
            PeerStarts("b", "slow"),
            Advance(1.0),
            Handlers(running=2),
            Close(),
            Handlers(cancelled=2),
        ),
        "abandoned handlers",
    ),
    Scenario(
        "a handler that goes on for a while when it is cancelled answers nobody",
        (
            PeerStarts("a", "stubborn", response_timeout=1.0),
            Advance(9.0),
            Handlers(running=1, cancelled=1),
            Advance(STUBBORN_FOR),
            Handlers(cancelled=1),
            PeerEnded("a", 1502),
            PeerCall("echo", "Hi"),
        ),
        "abandoned handlers",
    ),
    Scenario(
        "a handler that outlives the connection answers nobody",
        (
            PeerStarts("a", "stubborn"),
            Advance(1.0),
            Happens((Disconnected(CABLE_CUT), PEER_IS_BACK, Connected())),
            Handlers(running=1, cancelled=1),
            Advance(STUBBORN_FOR),
            Handlers(cancelled=1),
            PeerEnded("a", None),
            PeerCall("echo", "Hi"),
        ),
        "abandoned handlers",
    ),
)

_BOUNDED: Final = (
    Scenario(
        "handlers that do not end when cancelled count against the bound of their caller",
        (
            PeerStarts("a", "stubborn", response_timeout=1.0),
            PeerStarts("b", "stubborn", response_timeout=1.0),
            Advance(9.0),
            Handlers(running=2, cancelled=2),
            PeerCall("echo", _REFUSED),
            Advance(STUBBORN_FOR),
            Handlers(cancelled=2),
            PeerCall("echo", "Hi"),
        ),
        "bounds",
        config=RpcConfig(max_invocations_per_caller=2),
    ),
    Scenario(
        "handlers that do not end when cancelled count against the bound in all",
        (
            PeerStarts("a", "stubborn", response_timeout=1.0),
            PeerStarts("b", "stubborn", response_timeout=1.0),
            Advance(9.0),
            PeerCall("echo", _REFUSED),
            Advance(STUBBORN_FOR),
            PeerCall("echo", "Hi"),
        ),
        "bounds",
        config=RpcConfig(max_invocations=2),
    ),
    Scenario(
        "a caller who comes back again and again has no more handlers than before",
        (
            PeerStarts("a", "stubborn"),
            PeerStarts("b", "stubborn"),
            Advance(1.0),
            Happens((ParticipantJoined(PEER, "PA_new", 2, (2,)),)),
            Network(sid="PA_new"),
            Handlers(running=2, cancelled=2),
            PeerCall("echo", _REFUSED),
            PeerCall("stubborn", _REFUSED),
            Handlers(running=2, cancelled=2),
        ),
        "bounds",
        config=RpcConfig(max_invocations_per_caller=2),
    ),
    Scenario(
        "a handler that has ended counts no more, however it ended",
        (
            *(PeerCall("echo", "Hi"),) * 3,
            *(PeerCall("refuse", 2001),) * 3,
            *(PeerCall("crash", 1500),) * 3,
            *(PeerCall("exit", 1500),) * 3,
            *(PeerCall("number", 1500),) * 3,
            PeerCall("echo", "Hi"),
        ),
        "bounds",
        config=RpcConfig(max_invocations_per_caller=2),
    ),
    Scenario(
        "a handler that took its time, or was cancelled, counts no more",
        (
            PeerStarts("a", "slow"),
            PeerStarts("b", "slow crash"),
            Advance(4.0),
            PeerStarts("c", "endless", response_timeout=1.0),
            PeerStarts("d", "endless", response_timeout=1.0),
            Advance(9.0),
            Handlers(cancelled=2),
            *(PeerCall("echo", "Hi"),) * 3,
        ),
        "bounds",
        config=RpcConfig(max_invocations=2),
    ),
    Scenario(
        "a handler that is abandoned before it could run counts no more",
        (
            Network(is_held=True),
            PeerStarts("a", "endless"),
            PeerStarts("b", "endless"),
            Happens((ParticipantLeft(PEER, PEER_SID), PEER_IS_BACK)),
            Network(),
            *(PeerCall("echo", "Hi"),) * 3,
        ),
        "bounds",
        config=RpcConfig(max_invocations_per_caller=2),
    ),
    Scenario(
        "requests beyond the bound are not answered while no answer has left, and the host goes on",
        (
            Room(is_full=True),
            *(PeerStarts(f"{number}", "echo") for number in range(20)),
            Advance(2.0),
            Room(),
            Advance(2.0),
            PeerCall("echo", "Hi"),
        ),
        "bounds",
        config=RpcConfig(max_waiting_packets=8),
    ),
)

HANDLERS: Final = (*_ANSWERS, *_ABANDONED, *_BOUNDED)
