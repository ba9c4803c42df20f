"""A conformance kit for hosts: scenarios that every host must pass.

Write a `HostDriver` for your host, then call `check(make_driver)` for all scenarios, or
`play(scenario, driver)` with a new driver for each of `scenarios()`. If a host fails, `HostFailed`
names what was expected, and everything that happened until then. Time is virtual, and everything
happens inside the methods of the driver.
"""

from rpcproto.publishing import publish
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

publish(globals())
