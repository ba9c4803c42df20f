"""What the two sides of an engine share: they never talk to each other, only to these."""

from collections.abc import Callable
from dataclasses import dataclass

from rpcproto.core.config import RpcConfig
from rpcproto.core.deadlines import Deadlines
from rpcproto.core.events import Event
from rpcproto.core.outbox import Outbox
from rpcproto.core.roster import Roster
from rpcproto.core.stream_reader import StreamReader


@dataclass(frozen=True, slots=True)
class Shared:
    """The rooms that the caller and the responder both use, and where their names come from."""

    identity: str
    config: RpcConfig
    roster: Roster
    outbox: Outbox
    reader: StreamReader
    deadlines: Deadlines
    events: list[Event]
    new_id: Callable[[], str]
    """Request and stream ids (R13)."""
    next_order: Callable[[], int]
    """Counts calls, invocations and streams; the number is also the token of their packets."""
