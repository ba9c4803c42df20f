"""What the search speaks of: moves, letters, and what a host knows of its calls and invocations."""

from typing import Final, NamedTuple

from rpcproto import OutgoingPacket, stamp, wire
from rpcproto.e2ee import OpenFailure
from rpcproto.wire import (
    RESPONSE_TOPIC,
    Ack,
    ErrorResponse,
    Message,
    OutgoingMessage,
    Response,
    Sealed,
    StreamHeader,
    response_attributes,
)

ACK_TIMEOUT: Final = 7.0
RESPONSE_TIMEOUT: Final = 10.0
LIFETIME: Final = 15.0
"""Seconds from a call to the end of its ack window and to its own (R2, R3), and from a request to
the end of its invocation (R5, R20: 10 - 2 + 7)."""
HANDLER_ERROR: Final = 2001
PROBES: Final = {"early_deadline": "L6", "late_cancel": "L4", "forged": "L13", "late_answer": "L4"}
"""Moves that change nothing, in no state, and why."""


TAG: Final = bytes(16)


class SameIv:
    """A cryptor whose key and IV are always the same, and which hides nothing."""

    def attach(self, identity: str) -> None:
        pass

    def seal(self, plaintext: bytes) -> Sealed:
        return Sealed(0, bytes(12), plaintext + TAG)

    def open(
        self, sender_identity: str, key_index: int, iv: bytes, ciphertext: bytes
    ) -> bytes | OpenFailure:
        if key_index or not ciphertext.endswith(TAG):
            return OpenFailure.UNDECRYPTABLE
        return ciphertext.removesuffix(TAG)


class ViolationError(Exception):
    """The engine did, or came to, something that it must not; with the moves that led to it from
    the last state that was in order."""

    def __init__(self, text: str, *moves: "Move") -> None:
        super().__init__(text)
        self.text = text
        self.moves = moves


class Letter(NamedTuple):
    """A packet under way, with the sender's sid of that moment."""

    sender: str
    sid: str
    packet: OutgoingPacket

    def __hash__(self) -> int:
        return hash(self.packet.data)

    @property
    def data(self) -> bytes:
        return stamp(self.packet.data, sender_identity=self.sender, sender_sid=self.sid)

    @property
    def message(self) -> Message:
        packet = wire.decode(self.packet.data)
        assert packet is not None
        if not isinstance(packet.message, Sealed):
            return packet.message
        message = wire.decode_payload(packet.message.ciphertext.removesuffix(TAG))
        assert message is not None
        return message


class Move(NamedTuple):
    """Something that happens to one participant, and how much trouble that is."""

    what: str
    about: str | int | float | Letter = ""
    trouble: int = 0


class Call:
    """A call as its host knows it."""

    def __init__(self, payload: str, peer_sid: str, now: float, grace: float) -> None:
        self.payload = payload
        self.peer_sid = peer_sid
        """Under which session the recipient was called; empty while that is not known."""
        self.grace = grace
        """Seconds for which it can be answered after its recipient left (R9)."""
        self.started: float | None = now
        """When it was made; None from its end on."""
        self.left_at: float | None = None
        """When its recipient left, or was back under a new sid; None before that."""
        self.is_acknowledged = False

    @property
    def deadline(self) -> float | None:
        if self.started is None:
            return None
        own = self.started + (RESPONSE_TIMEOUT if self.is_acknowledged else ACK_TIMEOUT)
        return own if self.left_at is None else min(own, self.left_at + self.grace)

    def end(self) -> None:
        self.started = self.left_at = None

    def counts_from(self, sid: str) -> bool:
        """Whether an answer from this session of the recipient's identity counts (R7, R9)."""
        return self.peer_sid in ("", sid)


class Asked:
    """A request as the responder's host knows it."""

    def __init__(self, sid: str, now: float) -> None:
        self.sid = sid
        self.started: float | None = now
        """When its first packet came; None from its end on."""
        self.is_acknowledged = False
        self.invocation_id = 0
        """0 as long as the host was not told."""
        self.payload = ""

    @property
    def deadline(self) -> float | None:
        return None if self.started is None else self.started + LIFETIME


class Ids:
    """Ids that count; unlike a generator they can be copied."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.count = 0

    def __call__(self) -> str:
        self.count += 1
        return f"{self.prefix:0<8}-0000-4000-8000-{self.count:012d}"


def sid_of(identity: str, session: int) -> str:
    return f"PA_{identity}_{session}" if session else ""


def answer_to(payload: str) -> str:
    return f"re: {payload}"


def forged_answers(request_id: str) -> tuple[OutgoingMessage, ...]:
    """Everything that could pass for an answer to a call."""
    return (
        Ack(request_id),
        Response(request_id, "forged"),
        ErrorResponse(request_id, HANDLER_ERROR, "forged", ""),
        StreamHeader("s", RESPONSE_TOPIC, response_attributes(request_id), 6, 0, b"forged"),
    )
