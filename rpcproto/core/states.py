"""The two small machines of the protocol, as tables: `(state, input) -> state`.

The sides run on these tables and the diagrams in the docs are drawn from them. An input for which
a state has no entry changes nothing there: either it is looked up and not found, or nothing in
that state can bring it about.
"""

from collections.abc import Mapping
from enum import IntEnum, auto
from typing import Final, TypeAlias


class CallState(IntEnum):
    """A call that we make, from `RpcEngine.call` on."""

    # The numbers only ever go down: `deadlines` relies on it.

    SENT = 3
    """Not acknowledged yet; the ack window is running (R3)."""
    ACKNOWLEDGED = 2
    """Acknowledged; only the response timeout is running."""
    READING = 1
    """The response is a stream, and its body is arriving (R6)."""
    ENDED = 0
    """Succeeded, failed or cancelled; the engine has forgotten the call."""


class CallInput(IntEnum):
    """What can happen to a call."""

    ACK = auto()
    RESPONSE = auto()
    """A complete response or error."""
    RESPONSE_HEADER = auto()
    """The header of a response stream whose body has not arrived."""
    RESPONSE_FAILED = auto()
    """A response without a readable payload (R26, R34)."""
    DEADLINE = auto()
    """The ack window or the response timeout has ended."""
    CANCEL = auto()
    SEND_FAILED = auto()
    RECIPIENT_LEFT = auto()
    """The recipient left or came back under a new sid, and its grace has passed, or the connection
    is lost (R9)."""


class InvocationState(IntEnum):
    """A received request, from its first packet on."""

    # The numbers only ever go down, as those of calls do.

    READING = 2
    """Acknowledged; its body has not arrived completely. The host does not know of it."""
    RUNNING = 1
    """Reported to the host, which must answer."""
    ENDED = 0
    """Answered, refused or abandoned; only its id is remembered (R16)."""


class InvocationInput(IntEnum):
    """What can happen to an invocation."""

    BODY = auto()
    """The body has arrived completely, and the method is registered."""
    REFUSAL = auto()
    """The engine answers with an error itself."""
    ANSWER = auto()
    DEADLINE = auto()
    CALLER_LEFT = auto()
    """The caller left or came back under a new sid, or the connection is lost (R19)."""


CallTable: TypeAlias = Mapping[CallState, Mapping[CallInput, CallState]]
InvocationTable: TypeAlias = Mapping[InvocationState, Mapping[InvocationInput, InvocationState]]

_GOES_ON: Final = CallInput.ACK, CallInput.RESPONSE_HEADER
_CALL_ENDS: Final[Mapping[CallInput, CallState]] = {
    what: CallState.ENDED for what in CallInput if what not in _GOES_ON
}

CALL_TABLE: Final[CallTable] = {
    CallState.SENT: {
        CallInput.ACK: CallState.ACKNOWLEDGED,
        CallInput.RESPONSE_HEADER: CallState.READING,
        **_CALL_ENDS,
    },
    CallState.ACKNOWLEDGED: {CallInput.RESPONSE_HEADER: CallState.READING, **_CALL_ENDS},
    CallState.READING: _CALL_ENDS,
    CallState.ENDED: {},
}

INVOCATION_TABLE: Final[InvocationTable] = {
    InvocationState.READING: {
        InvocationInput.BODY: InvocationState.RUNNING,
        InvocationInput.REFUSAL: InvocationState.ENDED,
        InvocationInput.DEADLINE: InvocationState.ENDED,
        InvocationInput.CALLER_LEFT: InvocationState.ENDED,
    },
    InvocationState.RUNNING: {
        InvocationInput.ANSWER: InvocationState.ENDED,
        InvocationInput.DEADLINE: InvocationState.ENDED,
        InvocationInput.CALLER_LEFT: InvocationState.ENDED,
    },
    InvocationState.ENDED: {},
}
