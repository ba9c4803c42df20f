"""End-to-end encryption: what a cryptor is, and what an engine does with it (R43 to R46).

An engine without a cryptor has nothing of this on its way: with one, other methods are bound.
"""

from collections.abc import Callable, Mapping
from enum import Enum
from functools import partial
from typing import Any, Final, Protocol, TypeAlias

from rpcproto.core import messages, wire
from rpcproto.core.events import Ignored, IgnoreReason
from rpcproto.core.messages import OutgoingPacket, Sealed, Unread, new_value
from rpcproto.core.roster import Origin
from rpcproto.core.shared import Shared


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

        `iv` has 12 bytes. `ciphertext` has 16 bytes or more, of which the last 16 are the tag.
        """
        ...


_MIXED: Final = "it is encrypted in part only"

Handler: TypeAlias = Callable[[Any, Origin, float], Ignored]
"""Takes the fields of a message, where it comes from, and the time."""


class PlainId(str):
    """The id of a request that came plain from a participant that nobody announced: what is sent
    about it is plain as well, for the server's own API can read nothing else (R45)."""

    __slots__ = ()


class Sealing:
    """What an engine that has a cryptor does with each packet."""

    def __init__(
        self, cryptor: Cryptor, shared: Shared, handlers: Mapping[wire.Kind, Handler]
    ) -> None:
        self._seal = cryptor.seal
        self._open = cryptor.open
        self._identity = shared.identity
        self._accepts_plain = shared.config.accept_plain_packets
        self._outbox = shared.outbox
        self._reader = shared.reader
        self._roster = shared.roster
        self._handlers = handlers
        self.handlers: dict[wire.Kind, Handler] = {
            kind: partial(self._receive_plain, kind) for kind in handlers
        }
        self.handlers[Sealed] = self._receive_sealed

    def take(self) -> OutgoingPacket | None:
        """See `Outbox.take`: what leaves is sealed now."""
        packet = self._outbox.take()
        if packet is None or type(packet[2]) is PlainId:
            return packet
        data, destination, request_id, kind, token = packet
        start = len(wire.envelope(self._identity, destination))
        key_index, iv, ciphertext = self._seal(wire.payload_of(data, start))
        before, after = wire.around_iv(len(ciphertext), key_index)
        data = b"".join((data[:start], before, iv, after, ciphertext))
        return new_value(OutgoingPacket, (data, destination, request_id, kind, token))

    def _receive_plain(self, kind: wire.Kind, fields: Any, origin: Origin, now: float) -> Ignored:
        """A packet that nobody has sealed (R45)."""
        if kind is not Unread and not self._accepts_plain:
            return IgnoreReason.PLAIN
        if origin.identity not in self._roster.senders:
            if kind is messages.Request:
                fields = PlainId(fields[0]), *fields[1:]
            elif kind == messages.REQUEST_TOPIC:
                fields = fields[0], PlainId(fields[1]), *fields[2:]
        return self._receive(kind, fields, origin, now, is_sealed=False)

    def _receive_sealed(
        self, fields: tuple[str, int, bytes, bytes], origin: Origin, now: float
    ) -> Ignored:
        """A packet that is sealed (R44)."""
        _, key_index, iv, ciphertext = fields
        if len(iv) != messages.IV_BYTES or len(ciphertext) < messages.TAG_BYTES:
            return IgnoreReason.MALFORMED
        plaintext = self._open(origin.identity, key_index, iv, ciphertext)
        if not isinstance(plaintext, bytes):
            return IgnoreReason(plaintext.value)
        message = wire.read_payload(plaintext)
        if message is None:
            return IgnoreReason.MALFORMED
        kind, fields = message
        if kind is Unread:
            return IgnoreReason.UNKNOWN_KIND
        if self._accepts_plain or type(origin) is wire.Envelope:
            return self._receive(kind, fields, origin, now, is_sealed=True)
        return self._handlers[kind](fields, origin, now)

    def _receive(
        self, kind: wire.Kind, fields: Any, origin: Origin, now: float, *, is_sealed: bool
    ) -> Ignored:
        """A packet that counts: only now is its number marked (R37)."""
        if isinstance(origin, wire.Envelope) and origin.sequence:
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
