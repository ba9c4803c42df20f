"""What all parts of a participant have in common: its engine, its clock and its owner."""

import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from rpcproto.core.config import RpcConfig
from rpcproto.core.engine import RpcEngine
from rpcproto.core.errors import LocalProtocolError, require_name
from rpcproto.participant.totals import Totals
from rpcproto.wire import MAX_IDENTITY_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable


class ParticipantRoot(ABC):
    """The engine of a participant, and its clock."""

    _engine: RpcEngine
    """From `open_engine` on; the methods that a program can call before use `engine`."""

    def __init__(self, identity: str, config: RpcConfig) -> None:
        require_name(identity, "identity", MAX_IDENTITY_BYTES)
        self._identity = identity
        self._is_open = False
        self._clock: Callable[[], float] = time.monotonic
        self._totals = Totals(identity)
        self._is_closed = False

    @property
    def identity(self) -> str:
        """The identity of this participant."""
        return self._identity

    @property
    def engine(self) -> RpcEngine:
        """The engine, for reading.

        Raises:
            LocalProtocolError: There is no engine before `open_engine`.
        """
        if not self._is_open:
            raise LocalProtocolError("use the participant inside its `async with` block")
        return self._engine

    @property
    def is_closed(self) -> bool:
        """Whether `close_engine` was called."""
        return self._is_closed

    def require_owner(self) -> None:  # noqa: B027 (most hosts need none)
        """Raise `LocalProtocolError` if this thread or event loop must not use the participant.

        By default, every thread can use it.
        """

    @abstractmethod
    def _pump(self) -> None:
        """After any input to the engine: bring about what has come of it."""
