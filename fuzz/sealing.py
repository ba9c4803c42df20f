"""Bytes as sealed packets and as what is sealed in them: an engine with a cryptor never raises, and
ignores each for the reason that a plain look at it gives (R44). What opens has the effect that it
has at an engine without a cryptor, to which it comes plain."""

from google.protobuf.message import DecodeError

from fuzz.choices import Choices, with_new
from rpcproto import IgnoreReason, PacketIgnored, RpcConfig, RpcEngine
from rpcproto.core.packets_pb2 import DataPacket, EncryptedPacketPayload, Encryption
from rpcproto.e2ee import OpenFailure
from rpcproto.testing import ToyCryptor, counting_ids
from rpcproto.wire import (
    REQUEST_TOPIC,
    Ack,
    Request,
    Response,
    StreamChunk,
    StreamHeader,
    StreamTrailer,
    encode_payload,
    request_attributes,
)

US, PEER = "alice", "bob"
INDICES = (0, 0, 0, 0, 1, 3, 16, 255, 256, 2**32 - 1)
USUAL_ID = "x" * 36
_PLAINTEXTS = (
    encode_payload(Request("r1", "greet", "hi", 8_000)),
    encode_payload(Ack("c")),
    encode_payload(Response("c", "hello")),
    encode_payload(StreamChunk("s1", 0, b"hi")),
    encode_payload(StreamTrailer("s1", "")),
    encode_payload(StreamHeader("s1", REQUEST_TOPIC, request_attributes("r2", "m", 1), None, 0)),
    b"",
    b"\x0a\x00",
    b"\x92\x01\x00",
    b"\xff",
)
PLAINTEXTS = with_new(
    _PLAINTEXTS,
    encode_payload(Request(USUAL_ID, "greet", "hi", 8_000)),
    encode_payload(Ack(USUAL_ID)),
    encode_payload(Response(USUAL_ID, "hello")),
    encode_payload(StreamChunk(USUAL_ID, 0, b"hi")),
    encode_payload(StreamTrailer(USUAL_ID, "")),
)
OURS = {
    *("rpc_request", "rpc_ack", "rpc_response", "stream_header", "stream_chunk", "stream_trailer")
}


def test_one_input(data: bytes) -> None:
    choices = Choices(data)
    accepts_plain, form = choices.flag(), choices.byte()
    is_announced = form % 2 == 0
    destinations = [US] if form % 4 >= 2 else []
    sealed, plain = engine(ring(), accepts_plain), engine(None, False)
    if is_announced:
        sealed.participant_joined(PEER, now=0.0)
        plain.participant_joined(PEER, now=0.0)
    for _ in range(20):
        if choices.are_over:
            return
        packet = DataPacket(participant_identity=PEER, destination_identities=destinations)
        if not check(sealed, plain, packet, choices, accepts_plain):
            return


def ring() -> ToyCryptor:
    made = ToyCryptor(US)
    made.set_shared_key(bytes(16))
    made.set_shared_key(bytes(range(16)), 3)
    return made


def engine(cryptor: ToyCryptor | None, accepts_plain: bool) -> RpcEngine:
    made = RpcEngine(
        US,
        new_id=counting_ids(),
        config=RpcConfig(accept_plain_packets=accepts_plain),
        cryptor=cryptor,
    )
    made.register_method("greet")
    return made


def check(
    sealed: RpcEngine, plain: RpcEngine, packet: DataPacket, choices: Choices, accepts_plain: bool
) -> bool:
    """One packet with this envelope; False if the two engines need not agree any more."""
    plaintext = choices.of(PLAINTEXTS) if choices.flag() else choices.short_bytes()
    key_index, iv, ciphertext = ring().seal(plaintext)
    if choices.flag():
        key_index = choices.of(INDICES)
    if choices.flag():
        iv = choices.short_bytes()
    if choices.flag():
        ciphertext = choices.short_bytes() + ciphertext[choices.byte() :]
    encrypted = packet.encrypted_packet
    encrypted.encryption_type = Encryption.GCM if packet.destination_identities else Encryption.NONE
    encrypted.iv, encrypted.key_index, encrypted.encrypted_value = iv, key_index, ciphertext
    expected, payload = plain_look(key_index, iv, ciphertext)
    before = sealed.statistics().ignored
    sealed.receive_packet(packet.SerializeToString(), now=1.0)
    events = sealed.take_events()
    while (answer := sealed.next_packet()) is not None:
        left = DataPacket.FromString(answer.data)
        assert left.WhichOneof("value") == "encrypted_packet"
    if expected is not None:
        assert sealed.statistics().ignored == {**before, expected: before.get(expected, 0) + 1}
        told = () if expected is IgnoreReason.UNKNOWN_KIND else (PacketIgnored(expected, PEER),)
        assert events == told
        return True
    assert payload is not None
    which = payload.WhichOneof("value")
    assert which in OURS
    packet.ClearField("encrypted_packet")
    getattr(packet, which).CopyFrom(getattr(payload, which))
    plain.receive_packet(packet.SerializeToString(), now=1.0)
    while plain.next_packet() is not None:
        pass
    assert names_sender(plain.take_events()) == events
    if not accepts_plain:
        sealed.receive_packet(packet.SerializeToString(), now=1.0)
        [ignored] = sealed.take_events()
        assert isinstance(ignored, PacketIgnored)
        assert ignored.reason in (IgnoreReason.PLAIN, IgnoreReason.MALFORMED)
        assert sealed.next_packet() is None
    elif choices.flag():
        sealed.receive_packet(packet.SerializeToString(), now=1.0)
        while sealed.next_packet() is not None:
            pass
        return False
    return True


def names_sender(events: tuple[object, ...]) -> tuple[object, ...]:
    """A malformed packet has no sender, but what was sealed in one has."""
    return tuple(
        PacketIgnored(IgnoreReason.MALFORMED, PEER)
        if event == PacketIgnored(IgnoreReason.MALFORMED, "")
        else event
        for event in events
    )


def plain_look(
    key_index: int, iv: bytes, ciphertext: bytes
) -> tuple[IgnoreReason | None, EncryptedPacketPayload | None]:
    """Why a sealed packet is ignored, or what is in it, step by step."""
    if len(iv) != 12 or len(ciphertext) < 16:
        return IgnoreReason.MALFORMED, None
    if key_index not in (0, 3):
        return IgnoreReason.NO_KEY, None
    opened = ring().open(PEER, key_index, iv, ciphertext)
    if isinstance(opened, OpenFailure):
        return IgnoreReason.UNDECRYPTABLE, None
    try:
        payload = EncryptedPacketPayload.FromString(opened)
    except (DecodeError, ValueError):
        return IgnoreReason.MALFORMED, None
    if payload.WhichOneof("value") not in OURS:
        return IgnoreReason.UNKNOWN_KIND, None
    return None, payload
