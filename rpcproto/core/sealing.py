"""End-to-end encryption: what a cryptor is, and what an engine does with it (R43 to R46).

An engine without a cryptor has next to nothing of this on its way: with one, it reads packets with
another function, and gives what it reads to other handlers.
"""

from enum import Enum
from functools import partial
from typing import Any, Final, Protocol

from rpcproto.core import messages
from rpcproto.core.events import Ignored, IgnoreReason
from rpcproto.core.messages import PacketFields, Sealed
from rpcproto.core.roster import Handlers, Origin, Participant
from rpcproto.core.shared import Shared
from rpcproto.core.wire import (
    AROUND_IV,
    PAYLOAD_READERS,
    PAYLOAD_TAGS,
    SEALED_LAYOUTS,
    Envelope,
    Kind,
    Made,
    Read,
    around_iv,
    envelope,
    read_payload,
    read_sole,
)


class OpenFailure(Enum):
    """Why an encrypted packet could not be decrypted."""

    NO_KEY = "no key"
    """There is no key of the sender at the index."""
    UNDECRYPTABLE = "undecryptable"
    """The packet was encrypted with another key, or modified."""


class Cryptor(Protocol):
    """Encrypts and decrypts the packets of one participant. It does no I/O and never blocks."""

    def attach(self, identity: str) -> None:
        """Bind the cryptor to the participant `identity`. A new engine calls this once.

        Raises:
            LocalProtocolError: The cryptor belongs to another participant, or has no key to
                encrypt with.
        """
        ...

    def seal(self, plaintext: bytes) -> Sealed:
        """Encrypt a message with the current key and a new IV of 12 bytes. Never fails after
        `attach`."""
        ...

    def open(
        self, sender_identity: str, key_index: int, iv: bytes, ciphertext: bytes
    ) -> bytes | OpenFailure:
        """Decrypt with the sender's key at `key_index` (0 to 2^32 - 1). Never raises.

        `iv` has 12 bytes. `ciphertext` has 16 bytes or more, of which the last 16 are the tag. The
        result has no more bytes than it.
        """
        ...


_UNOPENED: Final = "unopened"
"""The kind of a message that may yet be a sealed one."""
_MIXED: Final = "it is encrypted in part only"


class PlainId(str):
    """The id of a request that came plain from a participant that nobody announced: what is sent
    about it is plain as well, for the server's own API can read nothing else (R45)."""

    __slots__ = ()


class Sealing:
    """What an engine that has a cryptor does with each packet."""

    def __init__(self, cryptor: Cryptor, shared: Shared, handlers: Handlers) -> None:
        self._seal = cryptor.seal
        self._open = cryptor.open
        self._accepts_plain = shared.config.accept_plain_packets
        self._starts = Made(partial(_start, shared.identity))
        self._reader, self._roster = shared.reader, shared.roster
        self._handlers = handlers
        self.handlers: Handlers = {kind: partial(self._receive_plain, kind) for kind in handlers}
        self.handlers[Sealed] = self._receive_sealed
        self.handlers_of_sole: Handlers = {**handlers, _UNOPENED: self._receive_unopened}
        """Of what `read_sole` reads."""

    def sealed(self, packet: PacketFields) -> PacketFields:
        """A packet that leaves now, as it leaves (R43)."""
        data, destination, request_id, kind, token = packet
        if self._accepts_plain and type(request_id) is PlainId:
            return packet
        start, size = self._starts[destination]
        key_index, iv, ciphertext = self._seal(PAYLOAD_TAGS[data[size]] + data[size + 1 :])
        size = len(ciphertext)
        before, after = around_iv(size, key_index) if key_index else AROUND_IV[size]
        data = b"".join((start, before, iv, after, ciphertext))
        return data, destination, request_id, kind, token

    def _receive_plain(self, kind: Kind, fields: Any, origin: Origin, now: float) -> Ignored:
        """A packet that nobody has sealed (R45)."""
        if kind is not IgnoreReason.UNKNOWN_KIND and not self._accepts_plain:
            return IgnoreReason.PLAIN
        if origin.identity not in self._roster.senders:
            if kind is messages.Request:
                fields = PlainId(fields[0]), *fields[1:]
            elif kind == messages.REQUEST_TOPIC:
                fields = fields[0], PlainId(fields[1]), *fields[2:]
        return self._receive(kind, fields, origin, now, is_sealed=False)

    def read_sole(self, data: bytes, start: int, sender: Participant) -> Read | None:
        """See `wire.read_sole`. What is sealed in a packet of the usual layout is read at once, for
        nothing of its way is left to be judged; unless it must be known later how it came."""
        take_apart, before_iv, after_iv = SEALED_LAYOUTS[len(data) - start]
        before, iv, after, ciphertext = take_apart(data, start)
        if before != before_iv or after != after_iv or self._accepts_plain:
            message = read_sole(data, start)
            return None if message is None else (_UNOPENED, message)
        plaintext = self._open(sender.identity, 0, iv, ciphertext)
        # `_message_in`, in line.
        if not isinstance(plaintext, bytes):
            return IgnoreReason(plaintext.value), ()
        message = read_sole(plaintext, 0, None, PAYLOAD_READERS)
        return read_payload(plaintext) if message is None else message

    def _receive_unopened(self, message: Read, origin: Origin, now: float) -> Ignored:
        kind, fields = message
        return self.handlers[kind](fields, origin, now)

    def _receive_sealed(self, fields: Any, origin: Origin, now: float) -> Ignored:
        """A packet that is sealed (R44)."""
        key_index, iv, ciphertext = fields
        if len(iv) != messages.IV_BYTES or len(ciphertext) < messages.TAG_BYTES:
            return IgnoreReason.MALFORMED
        kind, message = _message_in(self._open(origin.identity, key_index, iv, ciphertext))
        if isinstance(kind, IgnoreReason):
            return kind
        return self._receive(kind, message, origin, now, is_sealed=True)

    def _receive(
        self, kind: Kind, fields: Any, origin: Origin, now: float, *, is_sealed: bool
    ) -> Ignored:
        """A packet that counts: only now is its number marked (R37)."""
        if isinstance(origin, Envelope) and origin.sequence:
            self._roster.is_new_packet(*origin[:2], origin.sequence)
        if not self._accepts_plain:
            return self._handlers[kind](fields, origin, now)
        stream = self._reader.find(origin, fields[0])
        if (
            stream is not None
            and stream.is_sealed is not is_sealed
            and (kind is messages.StreamChunk or kind is messages.StreamTrailer)
        ):
            kind, fields = messages.StreamTrailer, (fields[0], _MIXED)  # the stream fails (R25)
        reason = self._handlers[kind](fields, origin, now)
        opened = self._reader.find(origin, fields[0])
        if opened is not None and opened.is_sealed is None:
            opened.is_sealed = is_sealed
        return reason


def _start(sender_identity: str, destination_identity: str) -> tuple[bytes, int]:
    """What a packet begins with before its message, and how many bytes that are."""
    start = envelope(sender_identity, destination_identity)
    return start, len(start)


def _message_in(plaintext: bytes | OpenFailure) -> Read:
    """What was sealed in a packet, or why it cannot be had."""
    if not isinstance(plaintext, bytes):
        return IgnoreReason(plaintext.value), ()
    message = read_sole(plaintext, 0, None, PAYLOAD_READERS)
    return read_payload(plaintext) if message is None else message
