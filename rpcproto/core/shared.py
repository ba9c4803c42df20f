"""What the two sides of an engine share: they never talk to each other, only to these."""

import itertools
from collections.abc import Callable, Iterator
from typing import Final

from rpcproto.core.config import RpcConfig
from rpcproto.core.deadlines import Deadlines
from rpcproto.core.errors import require_name
from rpcproto.core.events import Event, IgnoreReason
from rpcproto.core.messages import MAX_ID_BYTES, MAX_UINT32, USUAL_ID_BYTES
from rpcproto.core.outbox import Outbox
from rpcproto.core.roster import Roster
from rpcproto.core.stream_reader import StreamReader


class Shared:
    """The rooms that the caller and the responder both use, and where their names come from."""

    def __init__(
        self, identity: str, config: RpcConfig, unix_time_offset: float, new_id: Callable[[], str]
    ) -> None:
        self.identity: str = identity
        self.config: RpcConfig = config
        self.unix_time_offset: float = unix_time_offset
        self.new_id: Callable[[], str] = new_id
        """Request and stream ids (R13)."""
        self.orders: Iterator[int] = itertools.count(1)
        """Counts calls, invocations and streams; the number is also the token of their packets."""
        self.events: list[Event] = []
        """What has come of the inputs since the host took the last of it."""
        self.deadlines: Deadlines = Deadlines()
        self.roster: Roster = Roster(identity, config)
        self.outbox: Outbox = Outbox(identity, config)
        self.reader: StreamReader = StreamReader(
            identity, config, self.orders, self.roster.sids_in_grace
        )


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
        self._unix_time_offset = shared.unix_time_offset
        self._orders = shared.orders


def require_id(new_id: str) -> bytes:
    """A new id in UTF-8, or LocalProtocolError if it cannot be one (R13, R33)."""
    try:
        id_text = str.encode(new_id)
    except (TypeError, UnicodeEncodeError):
        id_text = b""
    if len(id_text) != USUAL_ID_BYTES:
        require_name(new_id, "a new id", MAX_ID_BYTES)
    return id_text


def why_not_header(generated: bool) -> IgnoreReason:
    """Why a header on an RPC topic is ignored that is generated or has no request id."""
    # An agent writes generated texts in another's name (R24).
    return IgnoreReason.IMPERSONATION if generated else IgnoreReason.MALFORMED


MIN_WIRE_TIMEOUT_MS: Final = 1_000


def wire_timeout_ms(config: RpcConfig, response_timeout: float | None = None) -> int:
    """What the handler gets: the call's time without the network's share (R5). A `response_timeout`
    of None is the usual one."""
    timeout = config.response_timeout if response_timeout is None else response_timeout
    budget_ms = (timeout - config.latency_allowance) * 1000
    return round(max(min(budget_ms, MAX_UINT32), MIN_WIRE_TIMEOUT_MS))
