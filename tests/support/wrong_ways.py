"""Testees that are wrong in one way: our peer, in this process, with what it gets or sends altered.

`WRONG_WAYS` says of each which cases of the conformance suite must see it.
"""

import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeAlias

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from paths import EXAMPLES

from rpcproto import RpcConfig, RpcEngine, wire
from rpcproto.conformance.attachment import Attachment, Encryption, Facts, Member
from rpcproto.core.packets_pb2 import DataPacket, EncryptedPacketPayload
from rpcproto.core.wire import MALFORMED
from rpcproto.e2ee import AesGcmCryptor, Cryptor, OpenFailure, derive_key, random_iv
from rpcproto.ids import random_ids
from rpcproto.wire import Sealed, Unread

sys.path.insert(0, str(EXAMPLES / "testees"))

import peer

Test: TypeAlias = "Callable[[DataPacket], object]"
Change: TypeAlias = "Callable[[DataPacket], object]"
FOREIGN_KEY: Final = b"k" * 16
"""The key of somebody who has not got the passphrase."""


def parsed(data: bytes) -> DataPacket:
    """A packet, empty if it cannot be read."""
    try:
        return DataPacket.FromString(data)
    except MALFORMED:
        return DataPacket()


def cryptor_with(key: bytes, new_iv: Callable[[], bytes] = random_iv) -> AesGcmCryptor:
    cryptor = AesGcmCryptor(new_iv=new_iv)
    cryptor.set_shared_key(key)
    return cryptor


class Right(Attachment):
    """Our peer as it is. Subclasses make it wrong."""

    CONFIG = RpcConfig()

    def __init__(self) -> None:
        super().__init__()
        self.testee = peer.Testee("testee")
        self.is_stuck = False
        self.key = b""

    async def start(self, encryption: Encryption | None = None) -> Facts:
        peer.write = self._write  # in place of standard output
        cryptor = None
        if encryption is not None:
            self.key = derive_key(encryption.passphrase)
            cryptor = self.cryptor()
        self.testee = peer.Testee("testee", cryptor)
        if RpcConfig() != self.CONFIG:
            engine = self.testee.engine = RpcEngine(
                "testee", new_id=random_ids(), config=self.CONFIG, cryptor=cryptor
            )
            for method in self.testee.METHODS:
                engine.register_method(f"conform.{method}")
        return Facts("testee", 2, (2,), has_virtual_time=True, can_encrypt=True)

    def cryptor(self) -> Cryptor:
        return cryptor_with(self.key)

    # what subclasses alter

    def incoming(self, data: bytes) -> Iterable[bytes]:
        """What the testee gets in place of a packet."""
        return [data]

    def outgoing(self, data: bytes) -> Iterable[bytes]:
        """What the testee sends in place of a packet."""
        return [data]

    # the seam

    def send(self, data: bytes) -> None:
        for altered in self.incoming(data):
            if not self.is_stuck:
                self.testee.engine.receive_packet(altered, now=self.testee.now)
                self.testee.pump()

    async def announce(self, member: Member) -> None:
        self.tell({"joined": member._asdict()})

    async def dismiss(self, member: Member) -> None:
        self.tell({"left": {"identity": member.identity, "sid": member.sid}})

    async def set_now(self, now: float) -> None:
        self.tell({"now": now})

    def tell(self, fields: dict[str, Any]) -> None:
        self.testee.control(fields)
        self.testee.pump()

    async def stop(self) -> None: ...

    def take_errors(self) -> str:
        return ""

    def give_up(self, reason: str) -> None:
        self.on_end(reason)

    def _write(self, data: bytes) -> None:
        if not data.startswith(b"{"):
            for altered in self.outgoing(data):
                self.on_packet(altered)


# ways to be wrong, in general


def ignoring(test: Test) -> type[Right]:
    """Ignores the packets for which `test` is true."""

    class Ignoring(Right):
        def incoming(self, data: bytes) -> list[bytes]:
            return [] if test(parsed(data)) else [data]

    return Ignoring


def stuck_by(test: Test, times: int = 1) -> type[Right]:
    """Serves nobody any more after so many packets for which `test` is true."""

    class StuckBy(Right):
        seen = 0

        def incoming(self, data: bytes) -> list[bytes]:
            self.seen += bool(test(parsed(data)))
            self.is_stuck = self.is_stuck or self.seen >= times
            return [data]

    return StuckBy


def reading(change: Change) -> type[Right]:
    """Takes packets for what `change` makes of them."""

    class Reading(Right):
        def incoming(self, data: bytes) -> list[bytes]:
            packet = parsed(data)
            change(packet)
            return [packet.SerializeToString()]

    return Reading


def sending(change: Change) -> type[Right]:
    """Sends what `change` makes of packets."""

    class Sending(Right):
        def outgoing(self, data: bytes) -> list[bytes]:
            packet = parsed(data)
            change(packet)
            return [packet.SerializeToString()]

    return Sending


def not_sending(test: Test) -> type[Right]:
    """Does not send the packets for which `test` is true."""

    class NotSending(Right):
        def outgoing(self, data: bytes) -> list[bytes]:
            return [] if test(parsed(data)) else [data]

    return NotSending


def clearing(message: str, *fields: str) -> Change:
    """Takes fields out of one kind of packets."""

    def change(packet: DataPacket) -> None:
        if packet.HasField(message):
            for field in fields:
                getattr(packet, message).ClearField(field)

    return change


def is_inline(packet: DataPacket) -> bool:
    return packet.stream_header.HasField("inline_content")


# bodies coming in


class BelievingOrder(Right):
    """Takes chunks in the order in which they come, whatever their numbers are."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}

    def incoming(self, data: bytes) -> Iterator[bytes]:
        packet = parsed(data)
        if packet.HasField("stream_chunk"):
            chunk = packet.stream_chunk
            chunk.chunk_index = self.counts.get(chunk.stream_id, 0)
            self.counts[chunk.stream_id] = chunk.chunk_index + 1
            data = packet.SerializeToString()
        yield data


class TakingTurns(Right):
    """Reads one stream at a time: nothing else gets through until it has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.waiting = "", list[bytes]()

    def incoming(self, data: bytes) -> Iterator[bytes]:
        packet = parsed(data)
        header, trailer = packet.stream_header, packet.stream_trailer
        stream_id = header.stream_id or packet.stream_chunk.stream_id or trailer.stream_id
        if header.stream_id and not self.open and not is_inline(packet):
            self.open = stream_id
        if self.open and stream_id != self.open:
            self.waiting.append(data)
            return
        yield data
        if packet.HasField("stream_trailer") and self.open:
            self.open, waiting, self.waiting = "", self.waiting, []
            for later in waiting:
                yield from self.incoming(later)


class OneStreamEach(Right):
    """Forgets the stream of a sender when another one of it begins."""

    def __init__(self) -> None:
        super().__init__()
        self.latest: dict[str, str] = {}

    def incoming(self, data: bytes) -> Iterator[bytes]:
        packet = parsed(data)
        if packet.HasField("stream_header"):
            self.latest[packet.participant_identity] = packet.stream_header.stream_id
        stream_id = packet.stream_chunk.stream_id or packet.stream_trailer.stream_id
        if stream_id in ("", self.latest.get(packet.participant_identity)):
            yield data


class AnsweringAnswers(Right):
    """Refuses answers to what it never asked."""

    def incoming(self, data: bytes) -> Iterator[bytes]:
        packet = parsed(data)
        if packet.HasField("rpc_response"):
            error = wire.ErrorResponse(packet.rpc_response.request_id, 1500, "", "")
            self.on_packet(wire.encode(error, "", packet.participant_identity))
        yield data


class AnsweringTwice(Right):
    """Answers each trailer of a stream, even if there is no such stream or it has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = set[str]()

    def incoming(self, data: bytes) -> Iterator[bytes]:
        packet = parsed(data)
        yield data
        if packet.HasField("stream_trailer"):
            error = wire.ErrorResponse(packet.stream_trailer.stream_id, 1500, "", "")
            if packet.stream_trailer.stream_id in self.ended or not packet.destination_identities:
                self.on_packet(wire.encode(error, "", packet.participant_identity))
            self.ended.add(packet.stream_trailer.stream_id)


class GivingUpOnSenders(Right):
    """Reads nothing more of somebody who has sent a broken stream."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = set[str]()

    def incoming(self, data: bytes) -> Iterator[bytes]:
        if parsed(data).participant_identity not in self.refused:
            yield data

    def outgoing(self, data: bytes) -> Iterator[bytes]:
        packet = parsed(data)
        if packet.rpc_response.error.code == 1500:
            self.refused.update(packet.destination_identities)
        yield data


class WithoutPresence(Right):
    """Does not look who comes and leaves, nor at sids."""

    def tell(self, fields: dict[str, Any]) -> None:
        if "now" in fields:
            super().tell(fields)

    def incoming(self, data: bytes) -> Iterator[bytes]:
        packet = parsed(data)
        packet.ClearField("participant_sid")
        yield packet.SerializeToString()


class FailingDuplicates(Right):
    """Takes a chunk that comes again for one out of order."""

    before = ("", 0)

    def incoming(self, data: bytes) -> Iterator[bytes]:
        packet = parsed(data)
        chunk = packet.stream_chunk
        if chunk.stream_id:
            if (now := (chunk.stream_id, chunk.chunk_index)) == self.before:
                chunk.chunk_index += 7
            self.before = now
        yield packet.SerializeToString()


def decode_each(packet: DataPacket) -> None:
    """Decodes each chunk by itself, and replaces what is not UTF-8."""
    if packet.HasField("stream_chunk"):
        packet.stream_chunk.content = packet.stream_chunk.content.decode(errors="replace").encode()
    clearing("stream_header", "total_length")(packet)


# bodies going out


def cutting(cut: Callable[[bytes], Iterable[bytes]]) -> type[Right]:
    """Cuts bodies that go out in chunks by `cut`."""

    class Cutting(Right):
        def __init__(self) -> None:
            super().__init__()
            self.parts: dict[str, list[DataPacket]] = {}

        def outgoing(self, data: bytes) -> Iterator[bytes]:
            packet = parsed(data)
            if packet.HasField("stream_chunk"):
                self.parts.setdefault(packet.stream_chunk.stream_id, []).append(packet)
                return
            if packet.HasField("stream_trailer"):
                parts = self.parts.pop(packet.stream_trailer.stream_id, [])
                content = b"".join(part.stream_chunk.content for part in parts)
                for index, piece in enumerate(cut(content)):
                    parts[0].stream_chunk.chunk_index = index
                    parts[0].stream_chunk.content = piece
                    yield parts[0].SerializeToString()
            yield data

    return Cutting


def pieces(size: int) -> Callable[[bytes], list[bytes]]:
    return lambda body: [body[at : at + size] for at in range(0, len(body), size)]


def characters(body: bytes) -> Iterator[bytes]:
    """Cut between characters, and nothing more."""
    while body:
        end = min(15_000, len(body))
        while end < len(body) and body[end] & 0xC0 == 0x80:
            end -= 1
        yield body[:end]
        body = body[end:]


def renumber(packet: DataPacket) -> None:
    if packet.HasField("stream_chunk"):
        packet.stream_chunk.chunk_index += 1


def one_stream_id(packet: DataPacket) -> None:
    for kind in (packet.stream_header, packet.stream_chunk, packet.stream_trailer):
        if kind.stream_id:
            kind.stream_id = "the stream"


class ForEverybody(Right):
    """Takes everybody for somebody who reads inline and compressed bodies."""

    async def announce(self, member: Member) -> None:
        await super().announce(member._replace(client_protocol=2, capabilities=(2,)))


class DeadAfterDepartures(Right):
    """Serves nobody when somebody has left who asked for something large."""

    async def dismiss(self, member: Member) -> None:
        self.is_stuck = True


class LateInline(Right):
    """Sends bodies inline that no longer fit."""

    def __init__(self) -> None:
        super().__init__()
        self.header, self.content = DataPacket(), b""

    def outgoing(self, data: bytes) -> Iterator[bytes]:
        packet = parsed(data)
        if packet.HasField("stream_header") and not is_inline(packet):
            self.header, self.content = packet, b""
        elif packet.HasField("stream_chunk"):
            self.content += packet.stream_chunk.content
        elif packet.HasField("stream_trailer"):
            self.header.stream_header.inline_content = self.content
            yield self.header.SerializeToString()
        else:
            yield data


def compress_always(packet: DataPacket) -> None:
    header = packet.stream_header
    if is_inline(packet) and not header.compression:
        compressing = zlib.compressobj(0, wbits=-15)
        header.inline_content = compressing.compress(header.inline_content) + compressing.flush()
        header.compression = wire.DEFLATE_RAW  # type: ignore[assignment]


# inline and compressed bodies coming in


def empty_means_none(packet: DataPacket) -> None:
    if not packet.stream_header.inline_content:
        packet.stream_header.ClearField("inline_content")


class ReadingOnAfterInline(Right):
    """Takes what is inline for the first chunk of a stream."""

    def incoming(self, data: bytes) -> Iterator[bytes]:
        packet = parsed(data)
        if is_inline(packet):
            first = DataPacket()
            first.CopyFrom(packet)
            first.stream_chunk.stream_id = packet.stream_header.stream_id
            first.stream_chunk.content = packet.stream_header.inline_content
            packet.stream_header.ClearField("inline_content")
            packet.stream_header.ClearField("total_length")
            yield packet.SerializeToString()
            yield first.SerializeToString()
            return
        if packet.HasField("stream_chunk"):
            packet.stream_chunk.chunk_index += 1
            data = packet.SerializeToString()
        yield data


class MakingDo(Right):
    """Takes whatever can be inflated, replaces what is not UTF-8, and looks at no length."""

    def __init__(self) -> None:
        super().__init__()
        self.inflating: dict[str, Any] = {}

    def incoming(self, data: bytes) -> Iterator[bytes]:
        packet = parsed(data)
        header, chunk = packet.stream_header, packet.stream_chunk
        if header.compression:
            inflating = self.inflating[header.stream_id] = zlib.decompressobj(-15)
            if is_inline(packet):
                header.inline_content = self.inflate(inflating, header.inline_content)
            header.ClearField("compression")
            header.ClearField("total_length")
        elif chunk.stream_id in self.inflating:
            chunk.content = self.inflate(self.inflating[chunk.stream_id], chunk.content)
        else:
            yield data
            return
        yield packet.SerializeToString()

    def inflate(self, inflating: Any, content: bytes) -> bytes:
        try:
            inflated: bytes = inflating.decompress(content)
        except zlib.error:
            inflated = b""
        return inflated.decode(errors="replace").encode()


class WithoutBounds(Right):
    CONFIG = RpcConfig(
        max_payload_bytes=1 << 30, max_buffered_bytes=1 << 31, max_buffered_bytes_per_sender=1 << 30
    )

    def incoming(self, data: bytes) -> Iterator[bytes]:
        packet = parsed(data)
        clearing("stream_header", "total_length")(packet)
        yield packet.SerializeToString()


def no_compression(packet: DataPacket) -> None:
    if packet.stream_header.compression > 1:
        packet.stream_header.ClearField("compression")


# encryption


class SendingPlain(Right):
    """Encrypts nothing, and yet reads what is encrypted."""

    def outgoing(self, data: bytes) -> Iterator[bytes]:
        packet = wire.decode(data)
        assert packet is not None
        if not isinstance(message := packet.message, Sealed):
            yield data
            return
        opened = cryptor_with(self.key).open("", *message)
        assert isinstance(opened, bytes)
        yield parsed(data[: data.index(b"\x92\x01")]).SerializeToString() + _as_plain(opened)


def _as_plain(inner: bytes) -> bytes:
    return bytes([inner[0] + 0x30]) + inner[1:]


class OneVector(Right):
    """Encrypts each packet with the same initialization vector."""

    def cryptor(self) -> Cryptor:
        return cryptor_with(self.key, new_iv=lambda: bytes(12))


class Opening:
    """A cryptor that opens packets as `open` of a subclass does."""

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.right = cryptor_with(key)
        self.attach = self.right.attach
        self.seal = self.right.seal

    def open(
        self, sender_identity: str, key_index: int, iv: bytes, ciphertext: bytes
    ) -> bytes | OpenFailure:
        opened = self.right.open(sender_identity, key_index, iv, ciphertext)
        return self.opened(opened, iv, ciphertext)

    def opened(self, opened: bytes | OpenFailure, iv: bytes, text: bytes) -> bytes | OpenFailure:
        raise NotImplementedError


class OpeningAnything(Opening):
    """Opens whatever there is, with any key, and looks at no tag."""

    def opened(self, opened: bytes | OpenFailure, iv: bytes, text: bytes) -> bytes | OpenFailure:
        for key in (self.key, FOREIGN_KEY):
            if isinstance(opened, bytes):
                return opened
            counter = Cipher(algorithms.AES(key), modes.CTR(iv + b"\x00\x00\x00\x02"))
            plain = counter.decryptor().update(text[:-16])
            try:
                if EncryptedPacketPayload.FromString(plain).WhichOneof("value"):
                    return plain
            except MALFORMED:
                continue
        return opened


class Credulous(Right):
    def cryptor(self) -> Cryptor:
        return OpeningAnything(self.key)

    def incoming(self, data: bytes) -> Iterator[bytes]:
        """Makes up for a tag that was cut off."""
        yield data
        packet = parsed(data)
        if packet.HasField("encrypted_packet"):
            packet.encrypted_packet.encrypted_value += bytes(16)
            yield packet.SerializeToString()


class OpeningNoAnswers(Opening):
    def opened(self, opened: bytes | OpenFailure, iv: bytes, text: bytes) -> bytes | OpenFailure:
        if isinstance(opened, bytes):
            payload = EncryptedPacketPayload.FromString(opened)
            if (
                payload.HasField("rpc_response")
                or payload.stream_header.topic == wire.RESPONSE_TOPIC
            ):
                return OpenFailure.UNDECRYPTABLE
        return opened


class DeafToAnswers(Right):
    def cryptor(self) -> Cryptor:
        return OpeningNoAnswers(self.key)


class TakingPlain(Right):
    """Takes what is not encrypted for what is."""

    def incoming(self, data: bytes) -> Iterator[bytes]:
        packet = wire.decode(data)
        if packet is None or isinstance(packet.message, Sealed | Unread) or not self.key:
            yield data
            return
        sealed = cryptor_with(self.key).seal(wire.encode_payload(packet.message))
        yield wire.stamp(
            wire.encode(sealed, "", "testee"),
            sender_identity=packet.sender_identity,
            sender_sid=packet.sender_sid,
        )


class KnowingNoDuplicates(Right):
    """Runs a request as often as it comes."""

    def __init__(self) -> None:
        super().__init__()
        self.copies = 0

    def incoming(self, data: bytes) -> Iterator[bytes]:
        packet = wire.decode(data)
        if packet is None or self.copies:
            yield data
            return
        message = packet.message
        if isinstance(message, Sealed):
            opened = cryptor_with(self.key).open("", *message)
            message = (isinstance(opened, bytes) and wire.decode_payload(opened)) or message
        yield data
        if isinstance(message, wire.Request) and "once" in message.payload:
            self.copies += 1
            copy: wire.OutgoingMessage = message._replace(request_id="a copy")
            if self.key:
                copy = cryptor_with(self.key).seal(wire.encode_payload(copy))
            sender, sid = packet.sender_identity, packet.sender_sid
            yield wire.stamp(
                wire.encode(copy, "", "testee"), sender_identity=sender, sender_sid=sid
            )


def undecryptable(packet: DataPacket) -> bool:
    """Whether a packet is encrypted with the key of nobody here."""
    if not packet.HasField("encrypted_packet"):
        return False
    sealed = packet.encrypted_packet
    return isinstance(
        cryptor_with(FOREIGN_KEY).open("", 0, sealed.iv, sealed.encrypted_value), bytes
    )


class StuckByNothing(Right):
    """Serves nobody any more after an encrypted packet in which is nothing known."""

    def incoming(self, data: bytes) -> Iterator[bytes]:
        packet = wire.decode(data)
        if packet is not None and isinstance(packet.message, Sealed):
            opened = cryptor_with(self.key).open("", *packet.message)
            inner = wire.decode_payload(opened) if isinstance(opened, bytes) else None
            self.is_stuck = self.is_stuck or inner is None or isinstance(inner, Unread)
        yield data


# the server and the hidden


class ServerReadsStreams(Right):
    """Takes the server for somebody who reads streams."""

    def incoming(self, data: bytes) -> Iterator[bytes]:
        packet = parsed(data)
        if not packet.participant_sid and packet.participant_identity:
            self.testee.engine.participant_joined(
                packet.participant_identity,
                client_protocol=2,
                capabilities=(2,),
                now=self.testee.now,
            )
        yield data


class ServerLeavesWithOthers(Right):
    """When somebody leaves, forgets whom nobody announced."""

    def __init__(self) -> None:
        super().__init__()
        self.unannounced = set[str]()

    def incoming(self, data: bytes) -> Iterator[bytes]:
        packet = parsed(data)
        if not packet.participant_sid:
            self.unannounced.add(packet.participant_identity)
        yield data

    async def dismiss(self, member: Member) -> None:
        await super().dismiss(member)
        for identity in self.unannounced:
            self.testee.engine.participant_left(identity, now=self.testee.now)


class AnsweringTheHidden(Right):
    """Answers somebody without an identity, to the whole room."""

    def incoming(self, data: bytes) -> Iterator[bytes]:
        packet = parsed(data)
        packet.participant_identity = packet.participant_identity or "ghost"
        yield packet.SerializeToString()

    def outgoing(self, data: bytes) -> Iterator[bytes]:
        packet = parsed(data)
        if "ghost" in packet.destination_identities:
            packet.ClearField("destination_identities")
        yield packet.SerializeToString()


class TakingAnybody(Right):
    """Takes answers of somebody without an identity for those of the callee."""

    callee = ""

    def outgoing(self, data: bytes) -> Iterator[bytes]:
        packet = parsed(data)
        if packet.HasField("rpc_request") or packet.stream_header.topic == wire.REQUEST_TOPIC:
            self.callee = packet.destination_identities[0]
        yield data

    def incoming(self, data: bytes) -> Iterator[bytes]:
        packet = parsed(data)
        if not packet.participant_identity and self.callee:
            packet.participant_identity = self.callee
            packet.ClearField("participant_sid")
        yield packet.SerializeToString()


# what is unknown or malformed


class StuckByTheUnknown(Right):
    """Serves nobody any more after a packet that it does not understand."""

    def incoming(self, data: bytes) -> Iterator[bytes]:
        packet = wire.decode(data)
        self.is_stuck = (
            self.is_stuck
            or packet is None
            or isinstance(packet.message, Unread)
            or (isinstance(packet.message, Sealed) and not self.key)
        )
        yield data


def has_unknown_fields(packet: DataPacket) -> bool:
    before = packet.ByteSize()
    packet.DiscardUnknownFields()
    return packet.ByteSize() < before


def lower_ids(packet: DataPacket) -> None:
    if packet.HasField("rpc_ack"):
        packet.rpc_ack.request_id = packet.rpc_ack.request_id.lower()


def with_any_timeout(packet: DataPacket) -> None:
    attributes = packet.stream_header.attributes
    if not attributes.get(wire.RESPONSE_TIMEOUT_MS, "").isascii() or attributes.get(
        wire.RESPONSE_TIMEOUT_MS, ""
    ) in ("soon", "-1", "1e3"):
        attributes[wire.RESPONSE_TIMEOUT_MS] = "8000"


def bytes_are_text(packet: DataPacket) -> None:
    if packet.HasField("stream_header"):
        packet.stream_header.text_header.SetInParent()


def any_topic(packet: DataPacket) -> None:
    if wire.METHOD in packet.stream_header.attributes:
        packet.stream_header.topic = wire.REQUEST_TOPIC


def made_up_id(packet: DataPacket) -> None:
    if packet.HasField("stream_header") and wire.REQUEST_ID not in packet.stream_header.attributes:
        packet.stream_header.attributes[wire.REQUEST_ID] = "made up"
    if packet.HasField("rpc_request") and not packet.rpc_request.id:
        packet.rpc_request.id = "made up"


def no_compressed_answer(packet: DataPacket) -> None:
    if packet.rpc_response.compressed_payload:
        packet.rpc_response.payload = ""


def from_somebody(packet: DataPacket) -> None:
    if packet.participant_identity == "testee":
        packet.participant_identity = "somebody"


def is_error_1500(packet: DataPacket) -> bool:
    return packet.rpc_response.error.code == 1500


def has_unusual_type(packet: DataPacket) -> bool:
    return packet.HasField("encrypted_packet") and packet.encrypted_packet.encryption_type != 1


def is_long(packet: DataPacket) -> bool:
    return packet.ByteSize() > 15_500


def key_index(change: Callable[[int], int]) -> Change:
    def changed(packet: DataPacket) -> None:
        if packet.HasField("encrypted_packet"):
            packet.encrypted_packet.key_index = change(packet.encrypted_packet.key_index)

    return changed


WRONG_WAYS: Final[tuple[tuple[str, type[Right]], ...]] = (
    # bodies coming in
    ("9.1 9.2", ignoring(lambda one: one.stream_chunk.chunk_index > 4)),
    ("9.3", ignoring(lambda one: one.stream_header.HasField("total_length")
                     and not one.stream_header.total_length and not is_inline(one))),
    ("9.4", ignoring(lambda one: one.HasField("stream_chunk") and not one.stream_chunk.content)),
    ("9.5 9.6", ignoring(lambda one: one.HasField("stream_header")
                         and not one.stream_header.HasField("total_length"))),
    ("9.7", ignoring(lambda one: one.HasField("stream_header")
                     and not one.stream_header.mime_type)),
    ("9.8", ignoring(lambda one: one.stream_trailer.attributes)),
    ("9.9 9.10", ignoring(lambda one: len(one.stream_chunk.content) > 15_000)),
    ("9.11", OneStreamEach),
    ("9.12", TakingTurns),
    ("9.13 9.14", AnsweringTwice),
    ("9.15", FailingDuplicates),
    ("9.17 9.20 9.21 9.22 9.27 9.30 9.31 9.32", BelievingOrder),
    ("9.18 9.23 9.28 9.33 11.32", reading(clearing("stream_header", "total_length"))),
    ("9.19 9.29", reading(clearing("stream_trailer", "reason"))),
    ("9.24 9.25 9.34 9.35", reading(decode_each)),
    ("9.26 11.30", not_sending(is_error_1500)),
    ("9.36", ignoring(lambda one: one.stream_header.topic == wire.RESPONSE_TOPIC)),
    ("9.37", GivingUpOnSenders),
    ("9.38", WithoutPresence),
    # bodies going out
    ("10.1 10.11", sending(renumber)),
    ("10.2 10.12", cutting(pieces(15_000))),
    ("10.3 10.13", cutting(characters)),
    ("10.4 10.14", sending(lambda one: one.ClearField("destination_identities"))),
    ("10.5 10.6 10.15 10.16", cutting(lambda body: [body * 2])),
    ("10.7 10.17", sending(clearing("stream_header", "total_length"))),
    ("10.8 10.18", sending(clearing("stream_header", "text_header"))),
    ("10.9 10.21", not_sending(lambda one: one.stream_chunk.chunk_index > 4)),
    ("10.10 10.19", sending(one_stream_id)),
    ("10.20", not_sending(lambda one: 0 < len(one.stream_chunk.content) < 10)),
    ("10.22", DeadAfterDepartures),
    # inline and compressed
    ("11.1", ignoring(is_inline)),
    ("11.2", reading(empty_means_none)),
    ("11.3", ReadingOnAfterInline),
    (" ".join(f"11.{number}" for number in (*range(4, 18), 39)),
     ignoring(lambda one: one.stream_header.compression)),
    (" ".join(f"11.{number}" for number in range(18, 30)), MakingDo),
    ("11.31", reading(no_compression)),
    ("11.33 11.34", ForEverybody),
    ("11.35", not_sending(lambda one: one.stream_header.compression)),
    ("11.36", LateInline),
    ("11.37", sending(compress_always)),
    # bounds
    ("12.1 12.2 12.3", WithoutBounds),
    ("12.4", stuck_by(lambda one: one.HasField("stream_header"), 1_100)),
    ("12.5", stuck_by(lambda one: one.rpc_request.method == "no such method", 1_100)),
    ("12.6", stuck_by(lambda one: one.HasField("rpc_ack"), 1_100)),
    ("12.7", stuck_by(lambda one: len(one.rpc_request.method) > 10_000)),
    ("12.8", stuck_by(lambda one: len(one.stream_header.attributes) > 1_000)),
    ("12.9", stuck_by(lambda one: one.stream_header.total_length > 1 << 40)),
    ("12.10", stuck_by(lambda one: one.stream_chunk.chunk_index > 1 << 31)),
    ("12.11", stuck_by(lambda one: one.stream_chunk.content.startswith(bytes(3)))),
    ("12.12 15.7", stuck_by(has_unknown_fields)),
    ("12.13", stuck_by(lambda one: len(one.destination_identities) > 1_000)),
    ("12.14", stuck_by(lambda one: one.stream_chunk.chunk_index > 4_000)),
    ("12.15", stuck_by(lambda one: one.rpc_request.method == "conform.wait", 1_100)),
    ("12.17", ignoring(lambda one: len(one.participant_identity.encode()) > 100)),
    ("12.18", ignoring(is_long)),
    # encryption
    ("13.1 13.2 13.3 13.4", SendingPlain),
    ("13.5", OneVector),
    ("13.6", sending(clearing("encrypted_packet", "encryption_type"))),
    ("13.7", ignoring(has_unusual_type)),
    ("13.8", DeafToAnswers),
    ("13.9 13.10 13.11 13.15 13.18 13.21", Credulous),
    ("13.12", reading(key_index(lambda index: 0))),
    ("13.13", reading(key_index(lambda index: index % 256))),
    ("13.14 13.17 13.19 13.20", TakingPlain),
    ("13.16", stuck_by(undecryptable, 10)),
    ("13.22 14.9", KnowingNoDuplicates),
    ("13.23", StuckByNothing),
    # the server and the hidden
    (" ".join(f"14.{number}" for number in range(1, 9)),
     ignoring(lambda one: not one.participant_sid)),
    ("14.6", ServerReadsStreams),
    ("14.10", ServerLeavesWithOthers),
    ("14.11", AnsweringTheHidden),
    ("14.13", TakingAnybody),
    # what is unknown or malformed
    ("15.1 15.2 15.3 15.4 15.5 15.6 15.26 15.27", StuckByTheUnknown),
    ("15.8", ignoring(has_unknown_fields)),
    ("15.9", ignoring(lambda one: one.stream_header.text_header.reply_to_stream_id)),
    ("15.10", sending(lower_ids)),
    ("15.11", ignoring(lambda one: not one.destination_identities)),
    ("15.12", ignoring(lambda one: len(one.destination_identities) > 1)),
    ("15.13", ignoring(lambda one: one.kind)),
    ("15.14", ignoring(lambda one: one.HasField("rpc_request")
                       and not one.rpc_request.response_timeout_ms)),
    ("15.15", ignoring(lambda one: one.HasField("stream_header")
                       and wire.RESPONSE_TIMEOUT_MS not in one.stream_header.attributes)),
    ("15.16", reading(with_any_timeout)),
    ("15.17", reading(bytes_are_text)),
    ("15.18", reading(any_topic)),
    ("15.19 15.20", reading(made_up_id)),
    ("15.21", reading(clearing("rpc_request", "compressed_payload"))),
    ("15.22", reading(no_compressed_answer)),
    ("15.23", AnsweringAnswers),
    ("15.24", ignoring(lambda one: one.rpc_response.HasField("error")
                       and not 1_000 < one.rpc_response.error.code < 9_999)),
    ("15.25", reading(from_somebody)),
)  # fmt: skip
"""The cases that must see it, and the testee."""
