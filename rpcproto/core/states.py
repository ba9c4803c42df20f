"""The two small machines of the protocol, as tables: `(state, input) -> state`.

The sides run on these tables and the diagrams in the docs are drawn from them. An input for which
a state has no entry changes nothing there: either it is looked up and not found, or nothing in
that state can bring it about.
"""

from collections.abc import Mapping
from enum import IntEnum, auto
from typing import Final, TypeAlias


class CallState(IntEnum):
    """A call of ours, from `RpcEngine.call` on."""

    # The numbers only ever go down: `deadlines` relies on it.

    SENT = 3
    """No sign of the responder yet: the ack window is running (R3)."""
    ACKNOWLEDGED = 2
    """The responder has it: only the response timeout is running."""
    READING = 1
    """The response is a stream, and its body is arriving (R6)."""
    ENDED = 0
    """Succeeded, failed or cancelled; the engine no longer knows it."""


class CallInput(IntEnum):
    """What can happen to a call."""

    ACK = auto()
    RESPONSE = auto()
    """A response or an error, whole."""
    RESPONSE_HEADER = auto()
    """The header of a response stream whose body is still to come."""
    RESPONSE_FAILED = auto()
    """A response that has no payload that can be read (R26, R34)."""
    DEADLINE = auto()
    """The ack window or the response timeout is over."""
    CANCEL = auto()
    SEND_FAILED = auto()
    RECIPIENT_LEFT = auto()
    """It left or came back under a new sid, and the grace for that has passed, or the connection to
    everyone is lost (R9)."""


class InvocationState(IntEnum):
    """Somebody's request, from its first packet on."""

    # The numbers only ever go down, as those of calls do.

    READING = 2
    """Acknowledged; its body is not here yet, or not looked at. The host knows nothing of it."""
    RUNNING = 1
    """The host was told and owes an answer."""
    ENDED = 0
    """Answered, refused or abandoned; only its name is remembered (R16)."""


class InvocationInput(IntEnum):
    """What can happen to an invocation."""

    BODY = auto()
    """The whole body is here, and somebody has registered the method."""
    REFUSAL = auto()
    """We answer with an error in the host's place."""
    ANSWER = auto()
    DEADLINE = auto()
    CALLER_LEFT = auto()
    """It left, came back under a new sid, or the connection to everyone is lost (R19)."""


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
