"""Tools for tests on virtual time: worlds, and a clock for asyncio. They never sleep."""

from rpcproto.publishing import publish
from rpcproto.testing.cryptor import ToyCryptor, counting_ivs
from rpcproto.testing.engines import EngineFactory, WorldEngine
from rpcproto.testing.ids import counting_ids
from rpcproto.testing.participants import Later, WorldCall, WorldParticipant
from rpcproto.testing.virtual_time import Deadlock, virtual_time_run
from rpcproto.testing.world import World
from rpcproto.transports.links import Fate, Link, SentPacket

__all__ = [
    "Deadlock",
    "EngineFactory",
    "Fate",
    "Later",
    "Link",
    "SentPacket",
    "ToyCryptor",
    "World",
    "WorldCall",
    "WorldEngine",
    "WorldParticipant",
    "counting_ids",
    "counting_ivs",
    "virtual_time_run",
]

publish(globals())
