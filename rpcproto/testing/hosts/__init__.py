"""A conformance kit for hosts: scenarios as data, played to any host through a small driver.

To put a host through it, write a `HostDriver` for it, then call `play(scenario, driver)` with a
fresh driver for each of `scenarios()`, or `check(make_driver)` for all of them. A host that does
something else than it must raises `HostFailed`, whose text says what was expected and tells all
that happened until then. Time is virtual, and everything happens inside the methods of the driver.
"""

from rpcproto.testing.hosts.channel import Channel
from rpcproto.testing.hosts.clock import Timer, VirtualClock
from rpcproto.testing.hosts.driver import (
    CallHandle,
    Handler,
    HostDriver,
    HostSetup,
    Invocation,
    Work,
)
from rpcproto.testing.hosts.playing import HostFailed, Summary, check, play
from rpcproto.testing.hosts.scenarios import scenarios
from rpcproto.testing.hosts.stage import CLOSING_TIME
from rpcproto.testing.hosts.steps import (
    HOST,
    PEER,
    Advance,
    Breaks,
    Call,
    Cancel,
    Cause,
    Close,
    Ended,
    Expected,
    Failure,
    Handlers,
    Happens,
    Heard,
    Jump,
    Network,
    NotSent,
    PeerCall,
    PeerEnded,
    PeerStarts,
    Pending,
    Room,
    Scenario,
    Sent,
    SentNothing,
    Step,
    Timers,
)

__all__ = [
    "CLOSING_TIME",
    "HOST",
    "PEER",
    "Advance",
    "Breaks",
    "Call",
    "CallHandle",
    "Cancel",
    "Cause",
    "Channel",
    "Close",
    "Ended",
    "Expected",
    "Failure",
    "Handler",
    "Handlers",
    "Happens",
    "Heard",
    "HostDriver",
    "HostFailed",
    "HostSetup",
    "Invocation",
    "Jump",
    "Network",
    "NotSent",
    "PeerCall",
    "PeerEnded",
    "PeerStarts",
    "Pending",
    "Room",
    "Scenario",
    "Sent",
    "SentNothing",
    "Step",
    "Summary",
    "Timer",
    "Timers",
    "VirtualClock",
    "Work",
    "check",
    "play",
    "scenarios",
]
