"""Who is here and what they can do, as the host has announced it."""

import re
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from rpcproto.core.config import RpcConfig
from rpcproto.core.errors import LocalProtocolError
from rpcproto.core.events import Ignored, IgnoreReason
from rpcproto.core.repeats import REMEMBERED_WINDOWS, SequenceWindow
from rpcproto.core.wire import Envelope, Kind, Read, envelope

STREAMS_PROTOCOL: Final = 1
"""The client_protocol from which on a participant takes requests as streams (RPC v2)."""
INLINE_PROTOCOL: Final = 2
"""The client_protocol from which on it takes bodies inline (data streams v2)."""
DEFLATE_CAPABILITY: Final = 2
"""CAP_COMPRESSION_DEFLATE_RAW."""
TOO_OLD_SERVER: Final = re.compile(r"(?:0+\.[0-9]+|0*1\.0*[0-7])\.[0-9]+(?:[-+].*)?", re.DOTALL)
"""A version below 1.8.0, the first LiveKit server that carries RPC (R11)."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a participant can take; nobody is taken to be able to do what was not announced."""

    streams: bool = False
    inline: bool = False
    deflate: bool = False


NO_ABILITIES: Final = Abilities()


class Participant:
    """Somebody else in the room, as announced."""

    __slots__ = ("abilities", "identity", "sid", "window")

    def __init__(self, identity: str, window: SequenceWindow) -> None:
        self.identity: str = identity
        self.sid: str = ""
        """Empty until it is known."""
        self.abilities: Abilities = NO_ABILITIES
        self.window: SequenceWindow = window

    def is_named(self, identity: str, sid: str | None) -> bool:
        """Whether this is whom a host names as the sender of a packet."""
        return identity == self.identity and (not sid or sid == self.sid)


Origin: TypeAlias = Participant | Envelope
"""Where a packet comes from: an identity and a sid."""
Handler: TypeAlias = Callable[[Any, Origin, float], Ignored]
"""Takes the fields of a message, where it comes from, and the time."""
Handlers: TypeAlias = dict[Kind, Handler]
"""Who takes packets of which kind."""
ReadSole: TypeAlias = Callable[[bytes, int, Participant], Read | None]
"""Reads a packet of a known sender, whose message begins there: see `wire.read_sole`."""


class Roster:
    """The participants, by identity and by sid, and the server between them."""

    def __init__(self, our_identity: str, config: RpcConfig) -> None:
        self._our_identity = our_identity
        self._sequence_window = config.sequence_window
        self._max_participants = config.max_participants
        self.by_identity: dict[str, Participant] = {}
        self.senders: dict[str, Participant] = {}
        """The same without ourselves, should a host have announced that too."""
        self.greetings: dict[bytes, Participant] = {}
        """Those by what their packets to us begin with."""
        self._by_sid: dict[str, Participant] = {}
        self._departed_windows: OrderedDict[tuple[str, str], SequenceWindow] = OrderedDict()
        """By identity and sid, the last ones that left."""
        self.sids_in_grace: dict[str, str] = {}
        """The sids under which those left who may still answer calls (R9), by identity, until they
        are announced again."""
        self.is_complete = False
        """Whether somebody who is not listed is not here (R12)."""
        self.server_is_too_old = False

    def abilities_of(self, identity: str, sid: str) -> Abilities:
        """What the participant of this identity and sid has announced to be able to take."""
        participant = self.by_identity.get(identity)
        if participant is None or (sid and participant.sid and sid != participant.sid):
            return NO_ABILITIES
        return participant.abilities

    def sid_of(self, identity: str) -> str:
        """The announced sid of `identity`, empty where there is none."""
        participant = self.by_identity.get(identity)
        return "" if participant is None else participant.sid

    def is_of_another(self, sid: str, identity: str) -> bool:
        """Whether `sid` is announced, but for another identity (R24, R40)."""
        owner = self._by_sid.get(sid)
        return owner is not None and owner.identity != identity

    def is_full_for(self, identity: str) -> bool:
        """Whether there is no room to record this newcomer (R40)."""
        return len(self.by_identity) >= self._max_participants and identity not in self.by_identity

    def join(self, identity: str, sid: str, abilities: Abilities) -> None:
        """Record a participant, or what has become known of one that is here."""
        participant = self.by_identity.get(identity)
        if participant is None:
            greeting = envelope(identity, self._our_identity)
            participant = Participant(identity, SequenceWindow(self._sequence_window))
            self.by_identity[identity] = participant
            if identity != self._our_identity:
                self.senders[identity] = self.greetings[greeting] = participant
        if sid and not participant.sid:
            participant.sid = sid
            participant.window = self._departed_windows.pop((identity, sid), participant.window)
            self._by_sid[sid] = participant
        participant.abilities = abilities

    def leave(self, identity: str) -> None:
        """Forget a participant, but not the packets that were seen of it (R37)."""
        participant = self.by_identity.pop(identity, None)
        if self.senders.pop(identity, None) is not None:
            del self.greetings[envelope(identity, self._our_identity)]
        if participant is not None and participant.sid:
            del self._by_sid[participant.sid]
            self._departed_windows[identity, participant.sid] = participant.window
            if len(self._departed_windows) > REMEMBERED_WINDOWS:
                self._departed_windows.popitem(last=False)

    def everyone_leaves(self) -> None:
        """Forget all participants (R41)."""
        for identity in list(self.by_identity):
            self.leave(identity)

    def why_not(self, origin: Envelope, is_named: bool, marks: bool) -> IgnoreReason | None:
        """Why a packet is ignored for where it comes from, as the packet says, or the host if
        `is_named`. `marks` says that its number is marked here."""
        identity, sid, is_for_us, sequence = origin
        if not is_for_us:
            return IgnoreReason.NOT_FOR_US
        if identity == self._our_identity:
            return IgnoreReason.FROM_OURSELVES
        if sid and not is_named and self.is_of_another(sid, identity):
            return IgnoreReason.IMPERSONATION
        if sequence and not self.is_new_packet(identity, sid, sequence, marks):
            return IgnoreReason.REPEAT
        return None

    def as_known(self, origin: Envelope) -> Envelope:
        """The same with what is known of the sender: its sid, and one string for all that is kept
        of it."""
        identity, sid, is_for_us, sequence = origin
        known = self.senders.get(identity)
        if known is None:
            return origin
        return Envelope(known.identity, sid or known.sid, is_for_us, sequence if sid else 0)

    def is_new_packet(self, identity: str, sid: str, sequence: int, marked: bool = True) -> bool:
        """Whether this number is new, or cannot be known; marks it on demand (R37)."""
        participant = self.by_identity.get(identity)
        if participant is None or not sid or participant.sid != sid:
            return True
        window = participant.window
        return window.mark(sequence) if marked else window.is_new(sequence)


def abilities_from(client_protocol: int, capabilities: Collection[int]) -> Abilities:
    """What an announcement means; LocalProtocolError if it means nothing (R33)."""
    if not isinstance(client_protocol, int):
        raise LocalProtocolError("client_protocol must be an int")
    if not isinstance(capabilities, Collection):
        raise LocalProtocolError("capabilities must be a collection of ints")
    inline = client_protocol >= INLINE_PROTOCOL
    return Abilities(
        streams=client_protocol >= STREAMS_PROTOCOL,
        inline=inline,
        deflate=inline and DEFLATE_CAPABILITY in capabilities,
    )


def is_too_old(server_version: str | None) -> bool:
    """Whether a server is too old for RPC; one whose version does not parse is not (R11)."""
    if not isinstance(server_version, str | None):
        raise LocalProtocolError("server_version must be a str or None")
    return TOO_OLD_SERVER.fullmatch(server_version or "") is not None
