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


class Side:
    """The caller or the responder: what both begin with."""

    def __init__(self, shared: Shared) -> None:
        self._identity = shared.identity
        self._config = shared.config
        self._roster = shared.roster
        self._outbox = shared.outbox
        self._reader = shared.reader
        self._deadlines = shared.deadlines
        self._events = shared.events
        self._new_id = shared.new_id
        self._next_order = shared.next_order
