"""The kinds of hostile packets, and what the engine must do with each."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, NamedTuple

from benchmarks.hostile import makers
from benchmarks.hostile.deflate import (
    DYNAMIC,
    LARGE_DYNAMIC,
    MIB,
    STORED,
    bomb,
    deflate_well,
    empty_blocks,
)
from benchmarks.hostile.makers import Maker, SizedMaker
from benchmarks.hostile.packets import (
    DEFLATE_RAW,
    MAX_PACKET_BYTES,
    OURS,
    REQUEST_TOPIC,
    RESPONSE_TOPIC,
)
from benchmarks.hostile.scene import CALLEE, NOTHING


class Kind(NamedTuple):
    """A kind of packets. Each of them must have one of the `effects` that `Scene.settle` names."""

    what: str
    make: Maker
    effects: frozenset[str]
    honest: SizedMaker = makers.plain
    """Makes the packet of the same size with which it is compared."""
    like: bytes = bomb(MIB)
    """A compressed body of at least 1 MiB, like that of which a packet may leave a rest."""
    is_bomb: bool = False
    """Whether a packet may take as long as the first MiB of `like` does in zlib, on top of what any
    packet may: R47 lets one input inflate so much."""


def kind(what: str, make: Maker, *effects: str, honest: SizedMaker = makers.plain) -> Kind:
    """A kind whose packets have any of these effects."""
    return Kind(what, make, frozenset(effects), honest)


MALFORMED: Final = "ignored: malformed"
REPEAT: Final = "ignored: repeat"
UNKNOWN_KIND: Final = "ignored: unknown kind"
NOT_FOR_US: Final = "ignored: not for us"
RECEIVED: Final = "InvocationReceived"
SUCCESS: Final = "CallSucceeded"
FAILURE: Final = "CallFailed"
HELD: Final = "bytes held"
FAULT: Final = "error 1500"

DEFLATED_INLINE: Final = partial(makers.inline, compression=DEFLATE_RAW)
DEFLATED_CHUNK: Final = partial(makers.one_chunk, compression=DEFLATE_RAW)

BOMS: Final = "\ufeff"
COMBINING: Final = "\u0301"
WIDE: Final = "aé€🦊"


def texts(pattern: str, size: int) -> str:
    """`size` bytes of a pattern, or a little less."""
    return pattern * (size // len(pattern.encode()))


def _parsed() -> Iterator[Kind]:
    """Packets with much for protobuf to read."""
    groups, attributes = makers.groups, makers.many_attributes
    yield kind(
        "unknown groups, never closed, 128 KB", partial(groups, size=MAX_PACKET_BYTES), MALFORMED
    )
    yield kind("unknown groups, never closed, 4 KB", partial(groups, size=4_000), MALFORMED)
    for size in (MAX_PACKET_BYTES, 4_000):
        make = partial(groups, size=size, depth=90)
        what = f"unknown groups, 90 deep, {size // 1000} KB"
        yield kind(what, make, UNKNOWN_KIND, MALFORMED)
    yield kind("a oneof that changes 30,000 times", makers.changing_oneof, "ignored: unknown call")
    of_request = (RECEIVED, MALFORMED, FAULT)
    yield kind("13,000 attributes, request", partial(attributes, topic=REQUEST_TOPIC), *of_request)
    yield kind("one attribute 13,000 times, request", makers.same_attribute, *of_request)
    answer = ("ignored: unknown call", MALFORMED)
    yield kind("13,000 attributes, response", partial(attributes, topic=RESPONSE_TOPIC), *answer)
    other = ("ignored: unknown topic", MALFORMED)
    yield kind("13,000 attributes, another topic", partial(attributes, topic="chat"), *other)
    yield kind("60,000 attached streams, request", makers.many_attached, *of_request)
    yield kind("40,000 unknown fields, request", makers.unknown_fields, *of_request)
    many = makers.many_destinations
    yield kind(
        "60,000 destinations, the last ours", partial(many, last=OURS), NOT_FOR_US, MALFORMED
    )
    yield kind("60,000 destinations, not ours", partial(many, last=CALLEE), NOT_FOR_US, MALFORMED)
    yield kind("a payload of 120 KB, not UTF-8", makers.bad_utf8, MALFORMED)
    yield kind("random bytes, 1 KB", makers.random_bytes, MALFORMED, UNKNOWN_KIND, NOT_FOR_US)
    yield kind("truncated requests", makers.truncated, MALFORMED)
    too_large = partial(makers.of_bytes, data=bytes(200_000))
    yield kind("a packet of 200 KB", too_large, "ignored: too large")
    yield kind("a stream id of 120 KB", makers.long_stream_id, MALFORMED)
    yield kind("a sender of 120 KB", makers.long_identity, MALFORMED)
    yield kind("encrypted, 100 bytes", partial(makers.encrypted, size=100), "ignored: encrypted")
    yield kind("encrypted, 120 KB", partial(makers.encrypted, size=120_000), "ignored: encrypted")


def _texts() -> Iterator[Kind]:
    """Texts that are more work than ASCII."""
    for name, pattern in (("U+FEFF", BOMS), ("combining", COMBINING), ("mixed", WIDE)):
        large, small = texts(pattern, 120_000), texts(pattern, 15_000)
        yield kind(f"{name}, v1, 120 KB", partial(makers.requests, payload=large), RECEIVED)
        yield kind(f"{name}, v1, 15 KB", partial(makers.requests, payload=small), RECEIVED)
        content = small.encode()
        yield kind(f"{name}, inline, 15 KB", partial(makers.inline, content=content), RECEIVED)
        yield kind(f"{name}, chunk, 15 KB", partial(makers.one_chunk, content=content), HELD)
        yield kind(f"{name}, response, 120 KB", partial(makers.responses, payload=large), SUCCESS)


def _requests() -> Iterator[Kind]:
    """Requests that are served, refused, or known already."""
    yield kind("honest: v1 request", makers.requests, RECEIVED)
    yield kind("honest: inline request", partial(makers.inline, content=b"x" * 100), RECEIVED)
    yield kind("a duplicate, running", partial(makers.duplicates, running=True), REPEAT)
    yield kind("a duplicate, answered", partial(makers.duplicates, running=False), REPEAT)
    yield kind("too many of one caller", makers.beyond_the_limit, FAULT)
    yield kind("unknown method", partial(makers.requests, method="unknown"), "error 1400")
    long_method = partial(makers.requests, method="x" * 120_000)
    yield kind("unknown method of 120 KB", long_method, "error 1400", MALFORMED)
    yield kind("unknown method, always new callers", makers.of_strangers, "error 1400")
    yield kind("wrong version", makers.of_version_7, "error 1404")
    yield kind("a header of a byte stream", makers.not_a_text, FAULT)
    yield kind("a header with a timeout of 120 KB", makers.long_timeout, FAULT)
    yield kind("a header without a request id", makers.without_id, MALFORMED)
    yield kind("impersonation", makers.impersonations, "ignored: impersonation")
    yield kind("a sequence number again", makers.repeated_sequences, REPEAT)


def _answers() -> Iterator[Kind]:
    """Answers to calls of ours, and to others."""
    wide = "é" * 60_000
    yield kind("an error with data of 120 KB", partial(makers.errors, data=wide), FAILURE)
    yield kind("an error with a message of 120 KB", partial(makers.errors, message=wide), FAILURE)
    yield kind("an answer of the wrong sender", makers.of_another, "ignored: wrong sender")
    yield kind("an ack of an unknown call", makers.unknown_acks, "ignored: unknown call")
    yield kind("a late answer", makers.late_responses, "ignored: late")
    yield kind("a response header again", makers.repeated_response_headers, REPEAT)
    yield kind("a second response header", makers.other_response_headers, REPEAT)


def _streams() -> Iterator[Kind]:
    """Chunks and trailers."""
    yield kind("chunks of one byte", partial(makers.small_chunks, content=b"x"), HELD)
    yield kind("a stream of 2,000 of them", makers.whole_stream, "ack", HELD, RECEIVED)
    yield kind("chunks without content", partial(makers.small_chunks, content=b""), NOTHING)
    yield kind("chunks of unknown streams", makers.unknown_chunks, "ignored: unknown stream")
    yield kind("trailers of unknown streams", makers.unknown_trailers, "ignored: unknown stream")
    yield kind("a chunk again", makers.duplicate_chunks, REPEAT)
    yield kind("a gap", makers.gap, FAULT)
    yield kind("a trailer with a reason of 120 KB", makers.long_reason, FAULT)


def _blocks() -> Iterator[Kind]:
    """DEFLATE blocks without content, and with hardly any."""
    blocks = {"stored": STORED, "dynamic": DYNAMIC, "large dynamic": LARGE_DYNAMIC}
    for name, block in blocks.items():
        for size in (4_000, 15_000, 60_000):
            empty = empty_blocks(block, size)
            what = f"empty {name} blocks, {size // 1000} KB"
            yield _deflated(what, DEFLATED_CHUNK, empty, NOTHING, FAULT)
            mixed = empty_blocks(block, size, letter_every=200)
            what = "  with a byte of output every 200 bytes"
            yield _deflated(what, DEFLATED_CHUNK, mixed, HELD, FAULT)
        inline = empty_blocks(block, 60_000)
        yield _deflated(f"empty {name} blocks, inline, 60 KB", DEFLATED_INLINE, inline, FAULT)
    empty = empty_blocks(STORED, 40)
    small = partial(makers.small_chunks, content=empty, compression=DEFLATE_RAW)
    yield kind("empty stored blocks, chunks of 40 bytes", small, NOTHING)


def _bombs() -> Iterator[Kind]:
    """Small bodies that inflate to large ones."""
    whole, over = bomb(16 * MIB), bomb(24 * MIB)
    yield _deflated("16 KB inflating to 16 MiB, inline", DEFLATED_INLINE, whole, RECEIVED)
    yield _deflated("16 KB inflating to 16 MiB, chunk", DEFLATED_CHUNK, whole, HELD)
    yield _deflated("24 KB inflating beyond the cap, inline", DEFLATED_INLINE, over, "error 1402")
    yield _deflated("24 KB inflating beyond the cap, chunk", DEFLATED_CHUNK, over, "error 1402")
    for name, pattern in (("U+FEFF", BOMS), ("mixed", WIDE)):
        body = deflate_well(texts(pattern, 16 * MIB).encode())
        what = f"{name} inflating to 16 MiB, chunk"
        yield _deflated(what, DEFLATED_CHUNK, body, HELD)._replace(like=body)

    of_many = partial(makers.chunk_of_many, senders=24)
    yield _deflated("2 KB inflating to 2 MiB, chunks of 24 senders", of_many, bomb(2 * MIB), HELD)


def used_up() -> Kind:
    """A request for which there is no room, in a scene that is full of bodies."""
    make = makers.when_bytes_are_used_up
    return kind("a request of 60 KB, all bytes used up by 1,000 others", make, RECEIVED, FAULT)


def _deflated(
    what: str, make: Callable[..., Iterator[bytes]], content: bytes, *effects: str
) -> Kind:
    """A kind with compressed content, to be compared with an honest one of its own way."""
    is_inline = make is DEFLATED_INLINE
    honest = makers.deflated_inline if is_inline else makers.deflated_chunk
    return kind(what, partial(make, content=content), *effects, honest=honest)


def kinds() -> Iterator[Kind]:
    """All of them."""
    for group in (_requests, _answers, _streams, _parsed, _texts, _blocks):
        yield from group()
    for bomb_kind in _bombs():
        yield bomb_kind._replace(is_bomb=True)
