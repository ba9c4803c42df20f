"""A world for tests in which ids count and time is virtual: no sleeping, the same every time."""

from rpcproto.testing.engine_pair import EnginePair as EnginePair
from rpcproto.testing.engine_pair import SentPacket as SentPacket
from rpcproto.testing.ids import counting_ids as counting_ids
from rpcproto.testing.virtual_time import Deadlock as Deadlock
from rpcproto.testing.virtual_time import virtual_time_run as virtual_time_run
