"""What encryption costs: an echo with AES-GCM, and packets that do not open."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, NamedTuple

from benchmarks.timing import by_turns
from rpcproto import IgnoreReason, RpcEngine, random_ids, wire
from rpcproto.e2ee import AesGcmCryptor
from rpcproto.wire import Ack, Sealed, StreamChunk

KEY: Final = bytes(range(16))
OTHER_KEY: Final = bytes(16)
STREAM_ID: Final = "x" * 36
SIZES: Final = (100, 1_000, 15_000, 60_000, 120_000)
PACKETS: Final = 100


def cryptor(identity: str, key: bytes = KEY) -> AesGcmCryptor:
    """A cryptor with a key that is shared."""
    made = AesGcmCryptor(identity)
    made.set_shared_key(key)
    made.attach(identity)
    return made


def seal_and_open(plaintexts: list[bytes], calls: int) -> None:
    """What a cryptor does in so many calls of three packets: six operations each."""
    alice, bob = cryptor("alice"), cryptor("bob")
    for _ in range(calls):
        for plaintext in plaintexts:
            key_index, iv, ciphertext = alice.seal(plaintext)
            bob.open("alice", key_index, iv, ciphertext)


class Refused(NamedTuple):
    """A packet that does not open, relative to one of its size that does."""

    what: str
    size: int
    ratio: float
    seconds: float


def refused() -> Iterator[Refused]:
    """Packets that do not open, of several kinds and sizes.

    A packet that opens costs least if it is about nothing: a chunk of a stream that is not known.
    """
    for size in SIZES:
        good, *others = packets(size)
        works = [partial(receive, data, reason) for _, data, reason in (good, *others)]
        times = by_turns(works, rounds=60)
        for at, (what, data, _) in enumerate(others, 1):
            yield Refused(what, len(data), times.ratio(at), times.median(at) / PACKETS)


Packet = tuple[str, bytes, IgnoreReason]


def packets(size: int) -> list[Packet]:
    """One that opens, and then some that do not, all of one size."""
    plaintext = wire.encode_payload(StreamChunk(STREAM_ID, 1, b"x" * size))
    sealed, other = cryptor("bob").seal(plaintext), cryptor("bob", OTHER_KEY).seal(plaintext)
    no_key = sealed._replace(key_index=1, ciphertext=sealed.ciphertext[2:])
    no_iv = Sealed(0, b"", sealed.ciphertext + bytes(12))

    def packet(message: Sealed) -> bytes:
        return wire.encode(message, "bob", "alice")

    plain = wire.encode(StreamChunk(STREAM_ID, 1, b"x" * (size + 39)), "bob", "alice")
    return [
        ("opens", packet(sealed), IgnoreReason.UNKNOWN_STREAM),
        ("another key", packet(other), IgnoreReason.UNDECRYPTABLE),
        ("no key at its index", packet(no_key), IgnoreReason.NO_KEY),
        ("no IV", packet(no_iv), IgnoreReason.MALFORMED),
        ("not encrypted", plain, IgnoreReason.PLAIN),
    ]


def receive(data: bytes, reason: IgnoreReason) -> None:
    """Give a packet to an engine again and again; it is ignored for this reason."""
    engine = RpcEngine("alice", new_id=random_ids(), cryptor=cryptor("alice"))
    engine.participant_joined("bob", now=0.0)
    take: Callable[[], object] = engine.take_events
    for _ in range(PACKETS):
        engine.receive_packet(data, now=0.0)
        take()
    assert engine.statistics().ignored == {reason: PACKETS}


def plaintexts_of_echo(request: bytes, response: bytes) -> list[bytes]:
    """What is sealed in a call: these two packets of the caller and the responder, and an ack
    between them."""
    first, last = (wire.decode(data) for data in (request, response))
    assert first
    assert last
    assert not isinstance(first.message, wire.Unread)
    assert not isinstance(last.message, wire.Unread)
    return [wire.encode_payload(m) for m in (first.message, Ack(STREAM_ID), last.message)]
