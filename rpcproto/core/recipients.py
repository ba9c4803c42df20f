"""Pending calls and their recipients, before and after these leave (R7, R9, R11, R12, R40)."""

from dataclasses import dataclass
from typing import Final

from rpcproto.core.config import RpcConfig
from rpcproto.core.deadlines import MIN_SWEPT, OPEN, Line, Timed, next_sweep
from rpcproto.core.errors import ErrorCode, require_name
from rpcproto.core.messages import MAX_IDENTITY_BYTES, MAX_METHOD_BYTES, MAX_V1_PAYLOAD_BYTES
from rpcproto.core.roster import Abilities, Origin, Participant, Roster
from rpcproto.core.states import CallState
from rpcproto.core.stream_writer import Address
from rpcproto.core.wire import envelope

MAX_ROUTES: Final = 1_024
_SENT: Final = CallState.SENT


class Recipient:
    """A participant that calls were made to, from its joining to its leaving.

    Its calls share it: what is learned of it counts for all of them.
    """

    __slots__ = ("calls", "calls_in_grace", "has_returned", "identity", "participant", "sid")

    def __init__(self, identity: str, sid: str) -> None:
        self.participant: Participant | None = None
        """The same as it is announced; None where it is not."""
        self.identity: str = identity
        self.sid: str | None = sid
        """Empty where it is not known; None where it no longer can be, so that nothing counts."""
        self.calls: Line = Line()
        """In the order in which they were made; those that have ended are swept out."""
        self.calls_in_grace: int = 0
        """How many calls may still be answered although it has left (R9)."""
        self.has_returned: bool = False
        """Whether its identity was announced again since it left."""

    def can_be(self, origin: Origin) -> bool:
        """Whether this is the participant that was called; a sid counts if both are known (R7)."""
        if origin is self.participant:
            return True
        if origin.identity != self.identity:
            return False
        sid = origin.sid
        return sid == self.sid or not (self.has_returned or (sid and self.sid))

    def pending(self) -> list["Call"]:
        """Its calls that have not ended."""
        return [call for call in self.calls if isinstance(call, Call) and call.state >= OPEN]


class Call(Timed):
    """One pending call."""

    __slots__ = ("recipient", "request_id")

    state: CallState

    def __init__(self, request_id: str, order: int, recipient: Recipient, now: float) -> None:
        self.request_id: str = request_id
        self.order = order
        self.recipient: Recipient = recipient
        self.started = now
        self.state = _SENT


@dataclass(frozen=True, slots=True)
class Route:
    """What is known of a call before its payload is there; it holds until the roster changes."""

    recipient: Recipient
    address: Address
    envelope: bytes
    abilities: Abilities
    max_payload_bytes: int
    """Below 0 where every call is refused, so that one comparison sees to both."""
    refusal: int
    """The code with which every such call fails (R11, R12), or 0."""


class Recipients:
    """All recipients of one engine."""

    def __init__(self, identity: str, config: RpcConfig, roster: Roster) -> None:
        self._identity = identity
        self._max_payload = config.max_payload_bytes
        self._roster = roster
        self.routes: dict[tuple[str, str], Route] = {}
        """By destination and method, those that were found since the roster changed."""
        self._here: dict[str, Recipient] = {}
        """By identity, those who have not left."""
        self._max_here = MIN_SWEPT
        self._departed: dict[str, list[Recipient]] = {}
        """By identity, those who left and have not returned, as long as calls to them are in grace
        (R9); no entry is empty."""

    def find_route(self, destination_identity: str, method: str) -> Route:
        """Look at everything that a call depends on but its payload; raises LocalProtocolError."""
        require_names(destination_identity, method)
        roster, refusal = self._roster, 0
        participant = roster.by_identity.get(destination_identity)
        if roster.server_is_too_old:
            refusal = ErrorCode.UNSUPPORTED_SERVER
        elif destination_identity == self._identity or (participant is None and roster.is_complete):
            refusal = ErrorCode.RECIPIENT_NOT_FOUND
        sid = roster.sid_of(destination_identity)
        abilities = roster.abilities_of(destination_identity, sid)
        if len(self.routes) >= MAX_ROUTES or len(self._here) >= self._max_here:
            self.sweep()
        max_payload = self._max_payload if abilities.streams else MAX_V1_PAYLOAD_BYTES
        recipient = self._here.setdefault(
            destination_identity, Recipient(destination_identity, sid)
        )
        recipient.participant = participant
        start, address = envelope(self._identity, destination_identity), (destination_identity, sid)
        route = Route(recipient, address, start, abilities, -1 if refusal else max_payload, refusal)
        self.routes[destination_identity, method] = route
        return route

    def sweep(self) -> None:
        """Forget all routes, and those who have no calls."""
        self.routes.clear()
        for identity, recipient in list(self._here.items()):
            if not recipient.pending():
                recipient.calls.clear()  # they know it as well
                del self._here[identity]
        self._max_here = next_sweep(len(self._here))

    def joined(self, identity: str, sid: str) -> list[Call]:
        """A participant is announced; `sid` is its first one, unless it is empty.

        Pending calls to it adopt that (R40); calls to who left before are another's (R9). Returns
        those of them that can no longer be answered.
        """
        self.routes.clear()
        recipient = self._here.get(identity)
        if recipient is not None:
            recipient.participant = self._roster.by_identity.get(identity)
            recipient.sid = sid or recipient.sid
        cut_off = []
        for departed in self._departed.pop(identity, ()):
            departed.has_returned = True
            if not departed.sid:
                departed.sid = None
                cut_off += departed.pending()
        self._roster.sids_in_grace.pop(identity, None)
        return cut_off

    def left(self, identity: str, has_grace: bool) -> list[Call]:
        """A recipient is not here any more. Returns its pending calls, which fail or are in grace
        from now on (R9)."""
        self.routes.clear()
        recipient = self._here.pop(identity, None)
        if recipient is None:
            return []
        recipient.participant = None
        calls = recipient.pending()
        if calls and has_grace:
            recipient.calls_in_grace = len(calls)
            self._departed.setdefault(identity, []).append(recipient)
            if recipient.sid:
                self._roster.sids_in_grace[identity] = recipient.sid
        else:
            recipient.calls.clear()
        return calls

    def call_in_grace_ended(self, departed: Recipient) -> None:
        """With the last of its calls, a departed recipient is forgotten."""
        departed.calls_in_grace -= 1
        if departed.calls_in_grace:
            return
        departed.calls.clear()
        if departed.has_returned:
            return
        identity = departed.identity
        self._departed[identity].remove(departed)
        if not self._departed[identity]:
            del self._departed[identity]
        if departed.sid:
            del self._roster.sids_in_grace[identity]


def require_names(destination_identity: str, method: str) -> None:
    """Raise LocalProtocolError for names that no call can have (R12, R33)."""
    require_name(destination_identity, "destination_identity", MAX_IDENTITY_BYTES)
    require_name(method, "method", MAX_METHOD_BYTES)
