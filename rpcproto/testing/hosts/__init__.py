"""A conformance kit for hosts: scenarios as data, played to any host through a small driver.

To put a host through it, write a `HostDriver` for it, then call `play(scenario, driver)` with a
fresh driver for each of `scenarios()`, or `check(make_driver)` for all of them. A host that does
something else than it must raises `HostFailed`, whose text says what was expected and tells all
that happened until then. Time is virtual, and everything happens inside the methods of the driver.
"""

from rpcproto.testing.hosts.channel import Channel as Channel
from rpcproto.testing.hosts.clock import Timer as Timer
from rpcproto.testing.hosts.clock import VirtualClock as VirtualClock
from rpcproto.testing.hosts.driver import CallHandle as CallHandle
from rpcproto.testing.hosts.driver import Handler as Handler
from rpcproto.testing.hosts.driver import HostDriver as HostDriver
from rpcproto.testing.hosts.driver import HostSetup as HostSetup
from rpcproto.testing.hosts.driver import Invocation as Invocation
from rpcproto.testing.hosts.driver import Work as Work
from rpcproto.testing.hosts.playing import HostFailed as HostFailed
from rpcproto.testing.hosts.playing import Summary as Summary
from rpcproto.testing.hosts.playing import check as check
from rpcproto.testing.hosts.playing import play as play
from rpcproto.testing.hosts.scenarios import scenarios as scenarios
from rpcproto.testing.hosts.stage import CLOSING_TIME as CLOSING_TIME
from rpcproto.testing.hosts.steps import HOST as HOST
from rpcproto.testing.hosts.steps import PEER as PEER
from rpcproto.testing.hosts.steps import Advance as Advance
from rpcproto.testing.hosts.steps import Breaks as Breaks
from rpcproto.testing.hosts.steps import Call as Call
from rpcproto.testing.hosts.steps import Cancel as Cancel
from rpcproto.testing.hosts.steps import Cause as Cause
from rpcproto.testing.hosts.steps import Close as Close
from rpcproto.testing.hosts.steps import Ended as Ended
from rpcproto.testing.hosts.steps import Expected as Expected
from rpcproto.testing.hosts.steps import Failure as Failure
from rpcproto.testing.hosts.steps import Handlers as Handlers
from rpcproto.testing.hosts.steps import Happens as Happens
from rpcproto.testing.hosts.steps import Heard as Heard
from rpcproto.testing.hosts.steps import Jump as Jump
from rpcproto.testing.hosts.steps import Network as Network
from rpcproto.testing.hosts.steps import NotSent as NotSent
from rpcproto.testing.hosts.steps import PeerCall as PeerCall
from rpcproto.testing.hosts.steps import PeerEnded as PeerEnded
from rpcproto.testing.hosts.steps import PeerStarts as PeerStarts
from rpcproto.testing.hosts.steps import Pending as Pending
from rpcproto.testing.hosts.steps import Room as Room
from rpcproto.testing.hosts.steps import Scenario as Scenario
from rpcproto.testing.hosts.steps import Sent as Sent
from rpcproto.testing.hosts.steps import SentNothing as SentNothing
from rpcproto.testing.hosts.steps import Step as Step
from rpcproto.testing.hosts.steps import Timers as Timers
