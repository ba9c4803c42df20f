"""A world for tests in which ids count and time is virtual: no sleeping, the same every time."""

from rpcproto.testing.cryptor import ToyCryptor as ToyCryptor
from rpcproto.testing.cryptor import counting_ivs as counting_ivs
from rpcproto.testing.ids import counting_ids as counting_ids
from rpcproto.testing.participants import Later as Later
from rpcproto.testing.participants import WorldCall as WorldCall
from rpcproto.testing.participants import WorldParticipant as WorldParticipant
from rpcproto.testing.virtual_time import Deadlock as Deadlock
from rpcproto.testing.virtual_time import virtual_time_run as virtual_time_run
from rpcproto.testing.world import World as World
from rpcproto.transports.links import Fate as Fate
from rpcproto.transports.links import Link as Link
from rpcproto.transports.links import SentPacket as SentPacket
