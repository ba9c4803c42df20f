"""Rules R43 to R46: packets that are encrypted from end to end."""

from importlib.util import find_spec
from typing import Any

import pytest
from helpers import (
    START,
    V1_LIMIT,
    Participant,
    error,
    failures,
    parsed,
    raw_packet,
    request,
    sent_message,
)
from sealed_packets import BY_HAND, KEY, OTHER_KEY, WHOLE, Vector, cryptor, toy
from streams import PACKED, request_header, response_header, stream

from rpcproto import (
    CallAcknowledged,
    CallFailed,
    CallSucceeded,
    IgnoreReason,
    InvocationReceived,
    LocalProtocolError,
    OutgoingPacket,
    PacketIgnored,
    PacketKind,
    RpcConfig,
    RpcEngine,
    wire,
)
from rpcproto.core.packets_pb2 import DataPacket, EncryptedPacketPayload
from rpcproto.e2ee import Keyring, OpenFailure
from rpcproto.testing import ToyCryptor, counting_ids
from rpcproto.wire import (
    Ack,
    Message,
    OutgoingMessage,
    Request,
    Response,
    Sealed,
    StreamChunk,
    StreamHeader,
    StreamTrailer,
)

BOTH = RpcConfig(accept_plain_packets=True)


needs_aes_gcm = pytest.mark.skipif(
    find_spec("cryptography") is None, reason="needs the package cryptography"
)


def alice_with(ring: ToyCryptor | None = None, **options: Any) -> Participant:
    return Participant(cryptor=ring or toy("alice"), **options)


def inside(packet: OutgoingPacket, ring: Keyring[Any] | None = None) -> Message:
    """What is sealed in a packet of alice's."""
    sealed = sent_message(packet)
    assert isinstance(sealed, Sealed)
    opened = (ring or toy()).open("alice", *sealed)
    assert isinstance(opened, bytes)
    message = wire.decode_payload(opened)
    assert message is not None
    return message


def opened(packets: list[OutgoingPacket]) -> list[Message]:
    return [inside(packet) for packet in packets]


def named(vector: Vector) -> str:
    return f"{vector.line}-{vector.case}"


class Spy(ToyCryptor):
    """Notes what it is asked to open."""

    def __init__(self) -> None:
        super().__init__("alice")
        self.set_shared_key(KEY)
        self.asked: list[tuple[str, int, bytes, bytes]] = []

    def open(
        self, sender_identity: str, key_index: int, iv: bytes, ciphertext: bytes
    ) -> bytes | OpenFailure:
        self.asked.append((sender_identity, key_index, iv, ciphertext))
        return super().open(sender_identity, key_index, iv, ciphertext)


# --- R43: sealing


def test_r43_every_packet_of_a_call_is_sealed() -> None:
    alice, bob = toy("alice"), toy("bob")
    us = alice_with(alice)
    us.joined("bob", client_protocol=2)
    call = us.call()
    us.receive(request(), sealed_by=bob)
    us.respond(us.invocation().invocation_id)
    us.receive(request("r2", "unknown"), sealed_by=bob)
    packets = us.packets()
    assert [packet.kind for packet in packets] == [
        PacketKind.STREAM_HEADER,
        PacketKind.ACK,
        PacketKind.RESPONSE,
        PacketKind.ACK,
        PacketKind.ERROR,
    ]
    header, *rest = opened(packets)
    assert isinstance(header, StreamHeader)
    assert (header.request_id, header.inline_content) == (call, b"hi")
    assert rest == [Ack("r1"), Response("r1", "hello"), Ack("r2"), error("r2", 1400)]


def test_r43_a_sealed_packet_says_who_and_to_whom_and_the_type_and_nothing_else() -> None:
    us = alice_with()
    us.call()
    [packet] = us.packets()
    assert packet.destination_identity == "bob"
    fields = {field.name for field, _ in parsed(packet).ListFields()}
    assert fields == {"participant_identity", "destination_identities", "encrypted_packet"}
    sealed = parsed(packet).encrypted_packet
    assert {field.name for field, _ in sealed.ListFields()} == {
        "encryption_type",
        "iv",
        "encrypted_value",
    }
    assert (sealed.encryption_type, len(sealed.iv)) == (1, 12)
    for hidden in (b"greet", b"hi", packet.request_id.encode()):
        assert hidden not in packet.data


@pytest.mark.parametrize("index", [0, 1, 127, 128, 255])
def test_r43_the_bytes_are_those_of_protobuf_whatever_the_index(index: int) -> None:
    ring = toy("alice")
    ring.set_shared_key(KEY, index)
    ring.use(index)
    us = alice_with(ring)
    us.call()
    [packet] = us.packets()
    assert packet.data == parsed(packet).SerializeToString(deterministic=True)
    assert parsed(packet).encrypted_packet.key_index == index


def test_r43_a_payload_is_what_a_plain_engine_sends() -> None:
    plain, sealed = Participant(), alice_with()
    for us in (plain, sealed):
        us.joined("bob", client_protocol=1)
        us.call()
        us.call("carol", payload="é" * 100)
    for bare, packet in zip(plain.packets(), sealed.packets(), strict=True):
        ours = parsed(packet).encrypted_packet
        opened = toy().open("alice", ours.key_index, ours.iv, ours.encrypted_value)
        assert isinstance(opened, bytes)
        payload = EncryptedPacketPayload.FromString(opened)
        which = payload.WhichOneof("value")
        assert which is not None
        assert opened == payload.SerializeToString(deterministic=True)
        assert getattr(payload, which) == getattr(parsed(bare), which)


def test_r43_key_and_iv_are_those_of_the_moment_of_sending() -> None:
    ring = toy("alice")
    ring.set_shared_key(OTHER_KEY, 4)
    us = alice_with(ring)
    us.joined("bob", client_protocol=1)
    us.call(payload="x" * 40_000)
    header = us.engine.next_packet()
    ring.use(4)
    assert header is not None
    rest = us.packets()
    sealed = [parsed(packet).encrypted_packet for packet in (header, *rest)]
    assert [each.key_index for each in sealed] == [0, 4, 4, 4, 4]
    assert len({each.iv for each in sealed}) == 5
    bob = Participant("bob", cryptor=ring_of("bob", {0: KEY, 4: OTHER_KEY}))
    for packet in (header, *rest):
        bob.receive(packet.data)
    assert bob.invocation().payload == "x" * 40_000


def ring_of(identity: str, keys: dict[int, bytes]) -> ToyCryptor:
    ring = ToyCryptor(identity)
    for index, key in keys.items():
        ring.set_shared_key(key, index)
    return ring


def test_r43_a_request_that_waits_is_sealed_when_it_is_taken() -> None:
    ring = toy("alice")
    us = alice_with(ring)
    us.call()
    ring.set_shared_key(OTHER_KEY, 9)
    ring.use(9)
    [packet] = us.packets()
    assert parsed(packet).encrypted_packet.key_index == 9


def test_r43_without_a_key_to_seal_with_there_is_no_engine() -> None:
    ids = counting_ids("a")
    with pytest.raises(LocalProtocolError, match="no key to encrypt with"):
        RpcEngine("alice", new_id=ids, cryptor=ToyCryptor())
    others = ToyCryptor()
    others.set_key("bob", KEY)
    with pytest.raises(LocalProtocolError, match="no key to encrypt with"):
        RpcEngine("alice", new_id=ids, cryptor=others)
    with pytest.raises(LocalProtocolError, match="belongs to 'bob'"):
        RpcEngine("alice", new_id=ids, cryptor=toy("bob"))


def test_r43_what_cannot_be_sent_fails_as_ever() -> None:
    us = alice_with()
    us.joined("bob", client_protocol=1)
    first, second = us.call(), us.call(payload="x" * 40_000)
    packet = us.engine.next_packet()
    assert packet is not None
    us.send_failed(packet)
    assert failures(us.events()) == [(first, 1505)]
    header = us.packets()
    chunk = next(each for each in header if each.kind is PacketKind.STREAM_CHUNK)
    us.send_failed(chunk)
    assert failures(us.events()) == [(second, 1505)]


def test_r43_a_stream_that_ends_early_has_a_sealed_trailer() -> None:
    us = alice_with()
    us.joined("bob", client_protocol=1)
    call = us.call(payload="x" * 40_000)
    us.engine.next_packet()
    us.cancel(call)
    [trailer] = opened(us.packets())
    assert isinstance(trailer, StreamTrailer)
    assert trailer.reason == "cancelled"


def test_r43_an_engine_counts_and_drops_what_waits_as_without_encryption() -> None:
    us, plain = alice_with(), Participant()
    for each in (us, plain):
        each.joined("bob", client_protocol=1)
        each.call("carol")
        each.call(payload="x" * 40_000)
        each.engine.next_packet()
    assert us.statistics == plain.statistics
    for each in (us, plain):
        each.packets()
    assert us.statistics == plain.statistics
    assert us.statistics.waiting_bytes == 0
    us.call()
    us.disconnected()
    assert us.packets() == []


# --- R43 and R44: the packets of official clients


@needs_aes_gcm
@pytest.mark.parametrize("way", ["as sent", "as forwarded"])
@pytest.mark.parametrize("vector", WHOLE, ids=named)
def test_r44_a_recorded_packet_is_read_as_if_it_had_come_plain(vector: Vector, way: str) -> None:
    sender, [to] = vector.row["from"], vector.row["to"]
    data = vector.data if way == "as sent" else vector.forwarded
    payload = EncryptedPacketPayload.FromString(vector.inner)
    which = payload.WhichOneof("value")
    assert which is not None
    packet = DataPacket.FromString(data)
    packet.ClearField("encrypted_packet")
    getattr(packet, which).CopyFrom(getattr(payload, which))
    name = payload.rpc_ack.request_id or payload.rpc_response.request_id
    name = name or payload.stream_header.attributes["lk.rpc_request_id"]
    outcomes = []
    for ring, bytes_in in ((cryptor(vector), data), (None, packet.SerializeToString())):
        us = Participant(to, methods=["echo"], cryptor=ring, new_id=lambda: name or "no id")
        us.joined(sender, vector.packet.participant_sid)
        us.call(sender)
        us.receive(bytes_in, sender_identity=sender)
        outcomes.append((us.events(), us.statistics, [each[1:] for each in us.packets()]))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][1].packets_in == 1
    ignored = set(outcomes[0][1].ignored)
    assert ignored <= {IgnoreReason.UNKNOWN_STREAM}
    assert bool(ignored) == (which in ("stream_chunk", "stream_trailer"))


@needs_aes_gcm
@pytest.mark.parametrize("vector", BY_HAND, ids=named)
def test_r44_a_packet_made_by_hand_is_accepted_or_ignored_for_its_reason(vector: Vector) -> None:
    bob = Participant("bob", methods=["echo"], cryptor=cryptor(vector))
    bob.receive(vector.data)
    recommended = vector.row["recommended"]
    if recommended.startswith("accept"):
        assert bob.invocation().caller_identity == "raw"
        assert not bob.ignored
        return
    reason = IgnoreReason(recommended.removeprefix("ignore: "))
    assert bob.ignored == {reason: 1}
    told = [] if reason is IgnoreReason.UNKNOWN_KIND else [PacketIgnored(reason, "raw")]
    assert bob.events() == told
    assert bob.packets() == []


def test_r44_the_rows_made_by_hand_cover_every_reason() -> None:
    said = {vector.row["recommended"].split(" (")[0] for vector in BY_HAND}
    assert said == {
        "accept",
        "ignore: no key",
        "ignore: undecryptable",
        "ignore: malformed",
        "ignore: unknown kind",
    }


# --- R44: opening


def sealed_packet(sender: str = "bob", to: str = "alice", **fields: Any) -> bytes:
    """A sealed request of bob's; fields of the encrypted packet can be others."""
    sealed = toy("bob").seal_again(wire.encode_payload(request()), 0, bytes(12))
    inner = {"iv": sealed.iv, "encrypted_value": sealed.ciphertext, **fields}
    return raw_packet(sender, [to], encrypted_packet=inner)


each_layout = pytest.mark.parametrize(
    "usual", [{}, {"encryption_type": 1}], ids=["any layout", "the usual layout"]
)
"""How engines seal packets, and how others do."""


@each_layout
@pytest.mark.parametrize("size", [0, 1, 11, 13, 16])
def test_r44_an_iv_has_12_bytes(size: int, usual: dict[str, Any]) -> None:
    spy = Spy()
    us = alice_with(spy)
    us.joined("bob")
    us.receive(sealed_packet(iv=bytes(size), **usual))
    assert us.events() == [PacketIgnored(IgnoreReason.MALFORMED, "bob")]
    assert spy.asked == []


@each_layout
@pytest.mark.parametrize("size", [0, 1, 15])
def test_r44_a_ciphertext_has_a_tag_at_least(size: int, usual: dict[str, Any]) -> None:
    spy = Spy()
    us = alice_with(spy)
    us.joined("bob")
    us.receive(sealed_packet(encrypted_value=bytes(size), **usual))
    assert us.events() == [PacketIgnored(IgnoreReason.MALFORMED, "bob")]
    assert spy.asked == []
    us.receive(sealed_packet(encrypted_value=bytes(16), **usual))
    assert us.ignored == {IgnoreReason.MALFORMED: 1, IgnoreReason.UNDECRYPTABLE: 1}


@pytest.mark.parametrize("index", [1, 16, 255, 256, 65_536, 2**31, 2**32 - 1])
def test_r44_the_index_is_compared_in_full(index: int) -> None:
    us = alice_with()
    us.receive(sealed_packet(key_index=index))
    assert us.events() == [PacketIgnored(IgnoreReason.NO_KEY, "bob")]


@each_layout
def test_r44_a_known_sender_without_a_key_is_ignored_for_that(usual: dict[str, Any]) -> None:
    ring = ToyCryptor("alice")
    ring.set_key("alice", KEY)
    us = Participant(cryptor=ring)
    us.joined("bob")
    us.receive(sealed_packet(**usual))
    assert us.events() == [PacketIgnored(IgnoreReason.NO_KEY, "bob")]


@pytest.mark.parametrize("kind", [0, 1, 2, 7])
def test_r44_the_encryption_type_is_not_read(kind: int) -> None:
    us = alice_with()
    us.receive(sealed_packet(encryption_type=kind))
    assert us.invocation().request_id == "r1"


@pytest.mark.parametrize("announced", [(), ("bob", "carol")], ids=["nobody", "all"])
def test_r44_the_key_is_the_senders_own(announced: tuple[str, ...]) -> None:
    ring = ToyCryptor("alice")
    ring.set_key("alice", KEY)
    ring.set_key("bob", OTHER_KEY)
    us = Participant(cryptor=ring)
    bob = ToyCryptor("bob")
    bob.set_key("bob", OTHER_KEY)
    bob.attach("bob")
    for identity in announced:
        us.joined(identity)
    us.receive(request(), "bob", sealed_by=bob)
    assert us.invocation().caller_identity == "bob"
    us.receive(request("r2"), "carol", sealed_by=bob)
    assert us.events() == [PacketIgnored(IgnoreReason.NO_KEY, "carol")]
    us.receive(request("r3"), "carol", sealed_by=bob, sender_identity="bob")
    assert us.invocation().request_id == "r3"
    us.receive(request("r4"), "bob", sealed_by=toy("bob"))
    assert us.events() == [PacketIgnored(IgnoreReason.UNDECRYPTABLE, "bob")]


PLAINTEXTS: dict[str, tuple[bytes, IgnoreReason]] = {
    "no protobuf": (b"\xff", IgnoreReason.MALFORMED),
    "no UTF-8": (b"\x2a\x03\x0a\x01\xff", IgnoreReason.MALFORMED),
    "an ack without an id": (b"\x2a\x00", IgnoreReason.MALFORMED),
    "an ack with a long id": (wire.encode_payload(Ack("x" * 129)), IgnoreReason.MALFORMED),
    "empty": (b"", IgnoreReason.UNKNOWN_KIND),
    "an unknown field": (b"\x9a\x06\x00", IgnoreReason.UNKNOWN_KIND),
    "nested": (b"\x92\x01\x02\x08\x01", IgnoreReason.UNKNOWN_KIND),
    "a user packet": (b"\x0a\x00", IgnoreReason.UNKNOWN_KIND),
    "a chat message": (b"\x1a\x00", IgnoreReason.UNKNOWN_KIND),
    "a header of another topic": (
        wire.encode_payload(StreamHeader("s", "lk.chat", {}, None, 0)),
        IgnoreReason.UNKNOWN_TOPIC,
    ),
    "a chunk of no stream": (
        wire.encode_payload(StreamChunk("s", 0, b"x")),
        IgnoreReason.UNKNOWN_STREAM,
    ),
    "an answer to no call": (wire.encode_payload(Ack("c0")), IgnoreReason.UNKNOWN_CALL),
}


@pytest.mark.parametrize(("plaintext", "reason"), PLAINTEXTS.values(), ids=PLAINTEXTS)
def test_r44_what_is_inside_is_judged_as_if_it_had_come_plain(
    plaintext: bytes, reason: IgnoreReason
) -> None:
    us = alice_with()
    us.receive(wire.encode(toy("bob").seal(plaintext), "bob", "alice"))
    assert us.ignored == {reason: 1}
    only_counted = {IgnoreReason.UNKNOWN_KIND, IgnoreReason.UNKNOWN_STREAM}
    assert us.events() == ([] if reason in only_counted else [PacketIgnored(reason, "bob")])
    assert us.packets() == []


def test_r44_unknown_fields_beside_a_message_are_ignored() -> None:
    us = alice_with()
    plaintext = wire.encode_payload(request()) + b"\x9a\x06\x03abc"
    us.receive(wire.encode(toy("bob").seal(plaintext), "bob", "alice"))
    assert us.invocation().request_id == "r1"


def test_r44_what_needs_no_key_is_judged_before_anything_is_opened() -> None:
    spy = Spy()
    us = alice_with(spy)
    us.joined("bob", "PA_bob")
    us.joined("carol", "PA_carol")
    us.receive(request(), sid="PA_bob", sequence=1, sealed_by=toy())
    assert len(spy.asked) == 1
    us.events()
    for packet, reason in (
        (sealed_packet(encrypted_value=bytes(131_072)), IgnoreReason.TOO_LARGE),
        (sealed_packet(to="carol"), IgnoreReason.NOT_FOR_US),
        (sealed_packet("alice"), IgnoreReason.FROM_OURSELVES),
        (wire.stamp(sealed_packet(), sender_sid="PA_carol"), IgnoreReason.IMPERSONATION),
        (wire.stamp(sealed_packet(), sender_sid="PA_bob", sequence=1), IgnoreReason.REPEAT),
        (sealed_packet("x" * 257), IgnoreReason.MALFORMED),
        (wire.stamp(sealed_packet(), sender_sid="x" * 257), IgnoreReason.MALFORMED),
    ):
        before = us.ignored.get(reason, 0)
        us.receive(packet)
        assert us.ignored[reason] == before + 1, reason
    us.disconnected()
    us.receive(sealed_packet())
    assert us.ignored[IgnoreReason.DISCONNECTED] == 1
    assert len(spy.asked) == 1


UNREADABLE: dict[str, bytes] = {
    "no key": sealed_packet(key_index=1),
    "undecryptable": sealed_packet(encrypted_value=bytes(50)),
    "malformed": sealed_packet(iv=b""),
    "no protobuf": wire.encode(toy("bob").seal(b"\xff"), "bob", "alice"),
    "unknown kind": wire.encode(toy("bob").seal(b""), "bob", "alice"),
    "plain": wire.encode(request(), "bob", "alice"),
}


@pytest.mark.parametrize("packet", UNREADABLE.values(), ids=UNREADABLE)
def test_r37_a_packet_that_is_not_read_burns_no_number(packet: bytes) -> None:
    us = alice_with()
    us.joined("bob", "PA_bob")
    us.receive(wire.stamp(packet, sender_sid="PA_bob", sequence=7))
    assert sum(us.ignored.values()) == 1
    us.events()
    us.receive(request(), sid="PA_bob", sequence=7, sealed_by=toy())
    assert us.invocation().request_id == "r1"
    us.receive(request("r2"), sid="PA_bob", sequence=7, sealed_by=toy())
    assert us.ignored[IgnoreReason.REPEAT] == 1
    assert us.events() == []
    # Nor does one far ahead move the window.
    us.receive(wire.stamp(packet, sender_sid="PA_bob", sequence=1_000_000))
    us.events()
    us.receive(request("r3"), sid="PA_bob", sequence=6, sealed_by=toy())
    assert us.invocation().request_id == "r3"


def test_r37_a_packet_without_a_sid_burns_no_number() -> None:
    us = alice_with()
    us.joined("bob", "PA_bob")
    for request_id in ("r1", "r2"):
        us.receive(request(request_id), sequence=7, sealed_by=toy())
        assert us.invocation().request_id == request_id
    us.receive(request("r3"), sid="PA_bob", sequence=7, sealed_by=toy())
    assert us.invocation().request_id == "r3"


@pytest.mark.parametrize("packet", UNREADABLE.values(), ids=UNREADABLE)
def test_r44_a_packet_that_is_not_read_changes_nothing(packet: bytes) -> None:
    us = alice_with()
    us.joined("bob", client_protocol=1)
    us.call()
    for part in stream(request_header(), b"a")[:2]:
        us.receive(part, sealed_by=toy())
    us.events()
    us.packets()
    before = us.next_deadline, us.statistics.open_streams_in, us.statistics.buffered_bytes
    us.receive(packet)
    assert us.packets() == []
    assert before == (us.next_deadline, us.statistics.open_streams_in, us.statistics.buffered_bytes)
    [chunk] = stream(request_header(), b"a", b"b")[2:3]
    us.receive(chunk, sealed_by=toy())
    us.receive(StreamTrailer("s1", ""), sealed_by=toy())
    assert us.invocation().payload == "ab"


def test_r44_a_chunk_that_does_not_open_is_missing() -> None:
    us = alice_with()
    header, first, second, *_ = stream(request_header(), b"a", b"b", b"c")
    us.receive(header, sealed_by=toy())
    us.receive(first, sealed_by=toy(key=OTHER_KEY))
    assert us.events() == [PacketIgnored(IgnoreReason.UNDECRYPTABLE, "bob")]
    us.receive(second, sealed_by=toy())
    assert opened(us.packets()) == [Ack("r1"), error("r1", 1500, data="chunk 0 is missing")]


def test_r44_a_request_runs_once_however_often_it_is_replayed() -> None:
    us = alice_with()
    packet = wire.encode(toy("bob").seal(wire.encode_payload(request())), "bob", "alice")
    us.receive(packet)
    us.respond(us.invocation().invocation_id)
    us.receive(packet)
    assert us.events() == []
    assert opened(us.packets()) == [Ack("r1"), Response("r1", "hello"), Ack("r1")]


def test_r44_answers_count_from_the_participant_that_was_called() -> None:
    us = alice_with()
    call = us.call()
    us.receive(Ack(call), "carol", sealed_by=toy())
    assert us.events() == [PacketIgnored(IgnoreReason.WRONG_SENDER, "carol")]
    us.receive(Ack(call), sealed_by=toy())
    us.receive(Response(call, "done"), sealed_by=toy())
    assert us.events() == [CallAcknowledged(call), CallSucceeded(call, "done")]


def test_r44_without_the_same_key_a_call_ends_with_1501() -> None:
    us, bob = alice_with(), Participant("bob", cryptor=toy("bob", OTHER_KEY))
    call = us.call()
    for packet in us.packets():
        bob.receive(packet.data)
    assert bob.ignored == {IgnoreReason.UNDECRYPTABLE: 1}
    assert bob.packets() == []
    us.time_is(START + 7)
    assert failures(us.events()) == [(call, 1501)]


@pytest.mark.parametrize("more", [{}, PACKED], ids=["plain text", "compressed"])
def test_r44_large_bodies_pass_both_ways(more: dict[str, Any]) -> None:
    text = "some text " * 20_000
    rings = toy("alice"), toy("bob")
    alice, bob = Participant(cryptor=rings[0]), Participant("bob", cryptor=rings[1])
    able: dict[str, Any] = {"client_protocol": 2, "capabilities": (2,) if more else ()}
    alice.joined("bob", **able)
    bob.joined("alice", **able)
    call = alice.call(payload=text)
    for packet in alice.packets():
        assert len(packet.data) < 16_000
        bob.receive(packet.data)
    invocation = bob.invocation()
    assert invocation.payload == text
    bob.respond(invocation.invocation_id, text)
    for packet in bob.packets():
        alice.receive(packet.data)
    assert alice.events() == [CallAcknowledged(call), CallSucceeded(call, text)]


# --- R45: plain packets


SIX: dict[str, OutgoingMessage] = {
    "request": request(),
    "ack": Ack("c"),
    "response": Response("c", "x"),
    "error": error("c", 1500),
    "header": request_header(),
    "response header": response_header("c"),
    "header of another topic": StreamHeader("s", "lk.chat", {}, None, 0),
    "generated header": request_header(generated=True),
    "chunk": StreamChunk("s", 0, b"x"),
    "trailer": StreamTrailer("s", ""),
}


@pytest.mark.parametrize("message", SIX.values(), ids=SIX)
def test_r45_a_plain_packet_is_ignored(message: OutgoingMessage) -> None:
    us = alice_with(new_id=lambda: "c")
    us.call()
    us.packets()
    us.receive(message)
    assert us.events() == [PacketIgnored(IgnoreReason.PLAIN, "bob")]
    assert us.ignored == {IgnoreReason.PLAIN: 1}
    assert us.packets() == []


def test_r45_plain_packets_of_other_kinds_and_malformed_ones_have_the_usual_reasons() -> None:
    us = alice_with()
    us.receive(raw_packet(chat_message={}))
    us.receive(raw_packet(rpc_ack={"request_id": ""}))
    us.receive(raw_packet("bob", ["carol"], rpc_ack={"request_id": "r"}))
    us.receive(raw_packet("alice", rpc_ack={"request_id": "r"}))
    assert us.ignored == {
        IgnoreReason.UNKNOWN_KIND: 1,
        IgnoreReason.MALFORMED: 1,
        IgnoreReason.NOT_FOR_US: 1,
        IgnoreReason.FROM_OURSELVES: 1,
    }


def test_r45_where_plain_packets_count_a_plain_answer_ends_a_sealed_call() -> None:
    us = alice_with(config=BOTH)
    call = us.call()
    [packet] = us.packets()
    assert isinstance(inside(packet), Request)
    us.receive(Ack(call))
    us.receive(Response(call, "done"))
    assert us.events() == [CallAcknowledged(call), CallSucceeded(call, "done")]


@pytest.mark.parametrize("ring", [None, toy("bob")], ids=["plain", "sealed"])
def test_r45_r28_where_plain_packets_count_a_half_read_stream_ends_after_15_seconds(
    ring: ToyCryptor | None,
) -> None:
    us = alice_with(config=BOTH)
    us.receive(request_header(timeout="60000"), sealed_by=ring)
    assert us.next_deadline == START + 15
    us.time_is(START + 15)
    error_packet = opened(us.packets())[-1] if ring else us.sent()[-1]
    assert error_packet == error("r1", 1500, data="no bytes for 15 seconds")


@pytest.mark.parametrize("ring", [None, toy("bob")], ids=["plain", "sealed"])
def test_r45_r20_where_plain_packets_count_a_known_sender_s_request_has_its_time(
    ring: ToyCryptor | None,
) -> None:
    us = alice_with(config=BOTH)
    us.joined("bob")
    us.receive(request(), sealed_by=ring)
    assert us.invocation().request_id == "r1"
    assert us.next_deadline == us.now + 15


def test_r45_where_plain_packets_count_the_answer_to_one_is_sealed() -> None:
    us = alice_with(config=BOTH)
    us.joined("bob")
    us.receive(request())
    us.respond(us.invocation().invocation_id)
    us.receive(request("r2", "unknown"))
    assert opened(us.packets()) == [
        Ack("r1"),
        Response("r1", "hello"),
        Ack("r2"),
        error("r2", 1400),
    ]


def test_r45_the_servers_own_api_is_answered_plain() -> None:
    us = alice_with(config=BOTH)
    us.receive(request(), "server")
    us.respond(us.invocation().invocation_id)
    us.receive(request("r2", "unknown"), "server")
    us.receive(request("r3"), "server")
    us.respond_error(us.invocation().invocation_id, 7, "no")
    us.receive(request("r1"), "server")
    assert us.sent() == [
        Ack("r1"),
        Response("r1", "hello"),
        Ack("r2"),
        error("r2", 1400),
        Ack("r3"),
        error("r3", 7, "no"),
        Ack("r1"),
    ]


def test_r45_how_a_request_came_decides_and_not_who_is_announced_later() -> None:
    us = alice_with(config=BOTH)
    us.receive(request(), "server")
    us.receive(request("r2"), "server", sealed_by=toy())
    first, second = (e for e in us.events() if isinstance(e, InvocationReceived))
    us.joined("server", client_protocol=1)
    us.respond(first.invocation_id, "x" * (V1_LIMIT + 1))
    us.respond(second.invocation_id)
    us.receive(request("r1"), "server")  # announced by now: its ack is sealed
    us.call("server", payload="ours")
    packets = us.packets()
    is_plain = [not isinstance(sent_message(packet), Sealed) for packet in packets]
    kinds = [packet.kind.value for packet in packets]
    assert list(zip(kinds, is_plain, strict=True)) == [
        ("ack", True),
        ("ack", False),
        ("stream header", True),
        ("response", False),
        ("ack", False),
        ("stream header", False),
        ("stream chunk", False),
        ("stream trailer", False),
        ("stream chunk", True),
        ("stream chunk", True),
        ("stream trailer", True),
    ]


def test_r45_a_plain_stream_of_somebody_unannounced_is_answered_plain() -> None:
    us = alice_with(config=BOTH)
    for part in stream(request_header(), b"hi"):
        us.receive(part, "server")
    us.respond(us.invocation().invocation_id, "hello")
    ack, *answer = us.sent()
    assert ack == Ack("r1")
    assert [type(message) for message in answer] == [StreamHeader, StreamChunk, StreamTrailer]


def test_r45_an_answer_that_cannot_be_sent_is_followed_by_an_error_of_its_kind() -> None:
    us = alice_with(config=BOTH)
    us.receive(request(), "server")
    us.respond(us.invocation().invocation_id)
    _, answer = us.packets()
    us.send_failed(answer)
    assert us.sent() == [error("r1", 1505)]
    us.receive(request("r2"), "server", sealed_by=toy())
    us.respond(us.invocation().invocation_id)
    _, answer = us.packets()
    us.send_failed(answer)
    assert opened(us.packets()) == [error("r2", 1505)]


def test_r45_a_plain_id_is_an_id_like_any_other() -> None:
    us = alice_with(config=BOTH)
    us.receive(request(), "server")
    invocation = us.invocation()
    assert invocation.request_id == "r1"
    assert repr(invocation.request_id) == "'r1'"
    assert f"{invocation.request_id}" == "r1"


def test_r45_without_a_cryptor_the_setting_changes_nothing() -> None:
    us = Participant(config=BOTH)
    us.receive(request(), "server")
    us.receive(sealed_packet())
    assert us.sent() == [Ack("r1")]
    assert us.ignored == {IgnoreReason.ENCRYPTED: 1}


MIXED = "the stream ended early: it is encrypted in part only"


@pytest.mark.parametrize("sealed_part", [0, 1, 2])
@pytest.mark.parametrize("is_sealed", [True, False])
def test_r25_a_request_that_is_sealed_in_part_fails(sealed_part: int, is_sealed: bool) -> None:
    us = alice_with(config=BOTH)
    us.joined("bob")
    for number, part in enumerate(stream(request_header(), b"hi")):
        seals = is_sealed == (number == sealed_part)
        us.receive(part, sealed_by=toy() if seals else None)
    assert opened(us.packets()) == [Ack("r1"), error("r1", 1500, data=MIXED)]
    assert us.ignored == ({IgnoreReason.UNKNOWN_STREAM: 1} if sealed_part < 2 else {})


@pytest.mark.parametrize("sealed_part", [0, 1, 2])
@pytest.mark.parametrize("is_sealed", [True, False])
def test_r25_an_answer_that_is_sealed_in_part_fails_its_call(
    sealed_part: int, is_sealed: bool
) -> None:
    us = alice_with(config=BOTH)
    call = us.call()
    for number, part in enumerate(stream(response_header(call), b"hi")):
        seals = is_sealed == (number == sealed_part)
        us.receive(part, sealed_by=toy() if seals else None)
    acked, failed = us.events()[:2]
    assert acked == CallAcknowledged(call)
    assert isinstance(failed, CallFailed)
    assert (failed.code, failed.data) == (1500, MIXED)


def test_r25_streams_that_are_sealed_or_plain_as_a_whole_pass_side_by_side() -> None:
    us = alice_with(config=BOTH)
    us.joined("bob")
    plain = stream(request_header(), b"plain")
    sealed = stream(request_header("r2", "s2"), b"sealed")
    for one, other in zip(plain, sealed, strict=True):
        us.receive(one)
        us.receive(other, sealed_by=toy())
    payloads = [e.payload for e in us.events() if isinstance(e, InvocationReceived)]
    assert payloads == ["plain", "sealed"]


def test_r25_by_default_plain_parts_leave_a_sealed_stream_as_it_is() -> None:
    us = alice_with()
    header, chunk, trailer = stream(request_header(), b"hi")
    us.receive(header, sealed_by=toy())
    us.receive(StreamChunk("s1", 0, b"no"))
    us.receive(StreamTrailer("s1", "ended by the server"))
    us.receive(chunk, sealed_by=toy())
    us.receive(trailer, sealed_by=toy())
    assert us.ignored == {IgnoreReason.PLAIN: 2}
    assert us.invocation().payload == "hi"


# --- R46: sizes


def sizes(us: Participant, payload: str) -> list[int]:
    us.call(payload=payload)
    return [len(packet.data) for packet in us.packets()]


@pytest.mark.parametrize("index", [0, 1, 127, 128, 255])
@pytest.mark.parametrize("identity", ["alice", "a" * 256])
def test_r46_a_packet_grows_by_at_most_44_bytes(index: int, identity: str) -> None:
    ring = toy(identity)
    ring.set_shared_key(KEY, index)
    ring.use(index)
    sealed, plain = Participant(identity, cryptor=ring), Participant(identity)
    more = (0 if index == 0 else 2) + (index > 127)
    for version in (0, 1, 2):
        for us in (sealed, plain):
            us.joined("bob", client_protocol=version)
        for payload in ("", "x" * 30, "x" * 300, "x" * 14_500, "x" * V1_LIMIT):
            grown = {
                ours - theirs
                for ours, theirs in zip(sizes(sealed, payload), sizes(plain, payload), strict=True)
            }
            assert grown <= {37 + more, 39 + more, 41 + more}, (index, payload[:1], grown)
            assert max(grown) <= 44


def test_r46_limits_are_counted_before_sealing() -> None:
    sealed, plain = alice_with(), Participant()
    for us in (sealed, plain):
        us.joined("bob", client_protocol=2)
    inline = []
    for length in range(14_600, 14_900):
        ours, theirs = sizes(sealed, "x" * length), sizes(plain, "x" * length)
        assert len(ours) == len(theirs)
        if len(ours) == 1:
            inline += ours
    assert 0 < len(inline) < 300
    assert max(inline) > 15_000
