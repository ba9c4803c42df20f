"""What the program waits for: the ends of calls, other participants, and the connection."""

from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple, TypeAlias, final

from rpcproto.core.errors import ErrorCode
from rpcproto.errors import RpcError
from rpcproto.logs import logger

Outcome: TypeAlias = str | Exception
"""The outcome of an operation: a text, or a new exception to raise."""
Waiter: TypeAlias = Callable[[Outcome], None]
"""A function that is called once, with an outcome."""
Cancel: TypeAlias = Callable[[], None]
"""A function that cancels an operation. The waiter is then never called. If the operation has ended
already, nothing happens."""
Start: TypeAlias = Callable[[Waiter], Cancel]
"""A function that starts an operation, and returns the function that cancels it. The waiter is
called with the outcome."""


class Connection(Enum):
    """The state of the transport."""

    CONNECTING = auto()
    """It has not been connected yet; calls wait for it."""
    CONNECTED = auto()
    LOST = auto()
    """Calls fail; it may be connected again."""
    ENDED = auto()
    """It will not be connected again."""


@final
class CallArguments(NamedTuple):
    """The arguments of a call, as for `RpcEngine.call`. Timeouts are in seconds."""

    destination_identity: str
    method: str
    payload: str
    response_timeout: float | None
    ack_timeout: float | None
    begun: Callable[[str], None] | None = None
    """A function that takes the request id when the engine has made the call. It must not raise."""


PendingCall: TypeAlias = tuple[Waiter, CallArguments, float]
"""Who waits for the end of a call, its arguments, and the instant when it was made."""


class DelayedCall:
    """A call that begins once there is a connection."""

    __slots__ = ("arguments", "made", "request_id")

    def __init__(self, arguments: CallArguments, made: float) -> None:
        self.arguments: CallArguments = arguments
        self.made: float = made
        """When, on the clock of the host."""
        self.request_id: str = ""
        """Empty until it has begun."""


class Waiting:
    """Everybody who waits, and the state of the connection that decides about them."""

    def __init__(self, identity: str) -> None:
        self._identity = identity
        self.connection: Connection = Connection.CONNECTING
        self.may_send: bool = True
        """Whether packets go to the transport: a connection is there, or may be coming."""
        self.error: BaseException | None = None
        """Why the connection is lost or has ended, where that is known."""
        self.calls: dict[str, PendingCall] = {}
        """Pending calls by request id."""
        self.delayed: dict[Waiter, DelayedCall] = {}
        """Calls that begin once there is a connection."""
        self._expected: dict[str, dict[Waiter, None]] = {}
        """Those who wait for a participant, by its identity; no entry is empty."""

    def connection_is(self, connection: Connection, error: BaseException | None = None) -> None:
        """The connection has changed; `error` is why, where that is known."""
        self.connection, self.error = connection, error
        self.may_send = connection in (Connection.CONNECTED, Connection.CONNECTING)

    def expect(self, identity: str, waiter: Waiter) -> None:
        """Somebody waits for a participant."""
        self._expected.setdefault(identity, {})[waiter] = None

    def expect_no_more(self, identity: str, waiter: Waiter) -> None:
        """Undo `expect`, if its outcome has not come."""
        waiters = self._expected.get(identity, {})
        if waiters.pop(waiter, waiter) is None and not waiters:
            del self._expected[identity]

    def participant_came(self, identity: str) -> None:
        """Whoever waits for this participant has waited enough."""
        for waiter in self._expected.pop(identity, ()):
            self.tell(waiter, "")

    def fail_expected(self) -> None:
        """No participant comes any more."""
        expected, self._expected = self._expected, {}
        for waiters in expected.values():
            for waiter in waiters:
                self.tell(waiter, self.error_of(ErrorCode.RECIPIENT_DISCONNECTED))

    def tell(self, waiter: Waiter, outcome: Outcome) -> None:
        """Hand over an outcome; a waiter that raises is none of the others' business."""
        try:
            waiter(outcome)
        except Exception:
            logger.exception("%s: reporting an outcome failed", self._identity)

    def error_of(self, code: int, message: str = "", data: str = "") -> RpcError:
        """A fresh error to be raised, with the reason for a lost connection as its cause."""
        error = RpcError(int(code), message, data)
        if code == ErrorCode.RECIPIENT_DISCONNECTED:
            error.__cause__ = self.error
        return error


def noop() -> None:
    """Cancel what has its outcome already."""
