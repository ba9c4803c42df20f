"""Makers of packets, honest and hostile.

Each is a generator of packets for a scene. What a packet needs to be there before, the maker makes
between two packets, outside the measurement; and it leaves nothing behind.
"""

import random
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from benchmarks.hostile import packets
from benchmarks.hostile.deflate import honest_body
from benchmarks.hostile.packets import (
    DEFLATE_RAW,
    HONEST,
    HOSTILE,
    MAX_PACKET_BYTES,
    RESPONSE_TOPIC,
    field,
    tag,
)
from benchmarks.hostile.scene import CALLEE, CONFIG, SEEN, Scene, sid_of

SOME: Final = 20
"""Packets in a row of the kinds that need something to be there before."""
MAX_OF_CALLER: Final = 1_000

Maker: TypeAlias = Callable[[Scene], Iterator[bytes]]
SizedMaker: TypeAlias = Callable[[Scene, int], Iterator[bytes]]

# --- honest packets of a given size


def plain(scene: Scene, size: int) -> Iterator[bytes]:
    """A v1 request, its payload in ASCII."""
    yield packets.honest_request(scene.new_id(), size)


def deflated_inline(scene: Scene, size: int) -> Iterator[bytes]:
    """An inline request with a compressed JSON text."""
    around = len(_inline(scene, b"", HONEST))
    yield _inline(scene, honest_body(size - around), HONEST)


def deflated_chunk(scene: Scene, size: int) -> Iterator[bytes]:
    """A chunk with all of a compressed JSON text."""
    stream_id = scene.open_stream(HONEST, compression=DEFLATE_RAW)
    around = len(packets.chunk(stream_id, 0, b"", HONEST))
    yield packets.chunk(stream_id, 0, honest_body(size - around), HONEST)
    scene.end_stream(stream_id, HONEST)


# --- what protobuf reads


def groups(scene: Scene, size: int, depth: int = 0) -> Iterator[bytes]:
    """Unknown groups in one another: never closed, or closed at a `depth`, side by side."""
    begin, end = tag(100, 3), tag(100, 4)
    nested = begin * depth + end * depth if depth else begin
    yield nested * (size // len(nested))


def changing_oneof(scene: Scene) -> Iterator[bytes]:
    """The value is a request and an ack by turns; the last one is an ack."""
    yield packets.envelope() + (field(10, b"") + field(11, b"")) * 15_000 + packets.ack("x" * 36)


def many_attributes(scene: Scene, topic: str, *, same: bool = False) -> Iterator[bytes]:
    """The header of an inline stream with 13,000 attributes besides those that it needs."""
    more = {f"{0 if same else number:x}": "" for number in range(13_000)}
    attributes = packets.attributes(scene.new_id()) | more
    data = packets.header(scene.new_id(), attributes, topic=topic, inline=b"x")
    assert len(data) < MAX_PACKET_BYTES
    yield data


def same_attribute(scene: Scene) -> Iterator[bytes]:
    """An attribute that the header needs, written 13,000 times."""
    attributes = packets.attributes(scene.new_id())
    before = packets.header(scene.new_id(), attributes, inline=b"x")
    again = field(8, field(1, b"a") + field(2, b"b"))
    yield before + field(13, again * 13_000)


def many_destinations(scene: Scene, last: str) -> Iterator[bytes]:
    """A request with 60,000 destinations."""
    message = packets.request(scene.new_id(), "x")[len(packets.envelope()) :]
    destinations = field(5, b"") * 60_000 + field(5, last.encode())
    yield field(4, HOSTILE.encode()) + destinations + message


def many_attached(scene: Scene) -> Iterator[bytes]:
    """The header of an inline stream to which 60,000 others are said to be attached."""
    attributes = packets.attributes(scene.new_id())
    yield packets.header(scene.new_id(), attributes, inline=b"x", attached=60_000)


def unknown_fields(scene: Scene) -> Iterator[bytes]:
    """A request with 40,000 fields that nobody knows."""
    yield packets.request(scene.new_id(), "x") + (tag(100, 0) + b"\x01") * 40_000


def random_bytes(scene: Scene) -> Iterator[bytes]:
    """1,000 bytes that mean nothing."""
    draw = random.Random(7)
    for _ in range(SOME):
        yield draw.randbytes(1_000)


def truncated(scene: Scene) -> Iterator[bytes]:
    """Requests that are cut off."""
    for length in range(100, 1_000, 900 // SOME):
        yield packets.request(scene.new_id(), "x" * 1_000)[:length]


def bad_utf8(scene: Scene) -> Iterator[bytes]:
    """A payload of 120 KB that is not text, as only its last byte shows."""
    yield packets.request(scene.new_id(), "x" * 120_000 + "\x7f").replace(b"x\x7f", b"x\xff")


def of_bytes(scene: Scene, data: bytes) -> Iterator[bytes]:
    """A packet that can be sent again and again."""
    yield data


# --- requests


def requests(scene: Scene, payload: str = "x", *, method: str = "echo") -> Iterator[bytes]:
    """Requests for one method."""
    for _ in range(SOME if len(payload) < 1_000 else 1):
        yield packets.request(scene.new_id(), payload, method=method)


def of_version_7(scene: Scene) -> Iterator[bytes]:
    """Requests of a version that nobody speaks."""
    for _ in range(SOME):
        yield packets.request(scene.new_id(), "x", version=7)


def of_strangers(scene: Scene) -> Iterator[bytes]:
    """Requests for an unknown method, each of a new caller that nobody announced."""
    for _ in range(SOME):
        yield packets.request(scene.new_id(), "x", scene.new_id(), method="unknown")


def beyond_the_limit(scene: Scene) -> Iterator[bytes]:
    """Requests of a caller that has as many running as it may."""
    for _ in range(MAX_OF_CALLER):
        scene.run(packets.request(scene.new_id(), sender="greedy"))
    for _ in range(10 * SOME):
        yield packets.request(scene.new_id(), "x", "greedy")
    scene.leave("greedy")


def duplicates(scene: Scene, *, running: bool) -> Iterator[bytes]:
    """A request again that runs, or that was answered."""
    request = packets.request(scene.new_id(), "x" * 20)
    invocation_id = scene.run(request)
    if not running:
        _answer(scene, invocation_id)
    for _ in range(SOME):
        yield request
    if running:
        _answer(scene, invocation_id)


def inline(scene: Scene, content: bytes, *, compression: int = 0) -> Iterator[bytes]:
    """An inline request."""
    yield _inline(scene, content, compression=compression)


def not_a_text(scene: Scene) -> Iterator[bytes]:
    """Headers of byte streams on the topic of requests."""
    for _ in range(SOME):
        attributes = packets.attributes(scene.new_id())
        yield packets.header(scene.new_id(), attributes, inline=b"x", is_text=False)


def long_timeout(scene: Scene) -> Iterator[bytes]:
    """A header whose timeout has 120,000 digits."""
    attributes = packets.attributes(scene.new_id())
    attributes["lk.rpc_request_response_timeout_ms"] = "9" * 120_000
    yield packets.header(scene.new_id(), attributes, inline=b"x")


def without_id(scene: Scene) -> Iterator[bytes]:
    """Headers that name no request."""
    for _ in range(SOME):
        yield packets.header(scene.new_id(), {"lk.rpc_request_version": "2"}, inline=b"x")


def long_stream_id(scene: Scene) -> Iterator[bytes]:
    """A header whose stream id is as long as a packet can be."""
    yield packets.header("x" * 120_000, packets.attributes(scene.new_id()), inline=b"x")


def long_identity(scene: Scene) -> Iterator[bytes]:
    """A request whose sender has a name as long as a packet can be."""
    yield packets.request(scene.new_id(), "x", "x" * 120_000)


def _inline(
    scene: Scene, content: bytes, sender: str = HOSTILE, *, compression: int = DEFLATE_RAW
) -> bytes:
    attributes = packets.attributes(scene.new_id())
    return packets.header(
        scene.new_id(), attributes, sender, inline=content, compression=compression
    )


def _answer(scene: Scene, invocation_id: int) -> None:
    assert scene.engine.respond(invocation_id, "", now=scene.tick())
    scene.settle()


# --- chunks and trailers


def one_chunk(scene: Scene, content: bytes, *, compression: int = 0) -> Iterator[bytes]:
    """The first chunk of a stream."""
    stream_id = scene.open_stream(compression=compression)
    yield packets.chunk(stream_id, 0, content)
    scene.end_stream(stream_id)


def chunk_of_many(scene: Scene, content: bytes, senders: int) -> Iterator[bytes]:
    """The compressed chunk of the last of many senders, while the others' may leave work."""
    streams = {f"sender {number}": "" for number in range(senders)}
    for sender in streams:
        streams[sender] = scene.open_stream(sender, compression=DEFLATE_RAW)
    *chunks, last = (packets.chunk(streams[one], 0, content, one) for one in streams)
    for data in chunks:
        scene.receive(data)
    yield last
    for sender, stream_id in streams.items():
        scene.end_stream(stream_id, sender)


def when_bytes_are_used_up(scene: Scene) -> Iterator[bytes]:
    """A request; if `use_up_bytes` has filled the scene before, it does so again afterwards."""
    was_full = not _has_room(scene)
    yield packets.request(scene.new_id(), "x" * LARGE)
    if was_full:
        use_up_bytes(scene)


LARGE: Final = 60_000


def use_up_bytes(scene: Scene) -> None:
    """Let ever new senders begin requests, until not one more is held."""
    while _has_room(scene):
        sender = scene.new_id()
        stream_id = scene.open_stream(sender)
        seen = scene.hear(packets.chunk(stream_id, 0, b"x" * LARGE, sender))
        assert seen == {"bytes held": LARGE}, seen


def _has_room(scene: Scene) -> bool:
    return scene.tables().buffered_bytes + LARGE <= CONFIG.max_buffered_bytes


def small_chunks(scene: Scene, content: bytes, compression: int = 0) -> Iterator[bytes]:
    """Chunks of the same small content, one after another."""
    stream_id = scene.open_stream(compression=compression)
    for index in range(SOME):
        yield packets.chunk(stream_id, index, content)
    scene.end_stream(stream_id)


def whole_stream(scene: Scene) -> Iterator[bytes]:
    """A header, many chunks of one byte, and a trailer."""
    stream_id = scene.new_id()
    yield packets.header(stream_id, packets.attributes(scene.new_id()))
    for index in range(2_000):
        yield packets.chunk(stream_id, index, b"x")
    yield packets.trailer(stream_id)


def empty_chunks(scene: Scene) -> Iterator[bytes]:
    """Chunks without content, in order."""
    yield from small_chunks(scene, b"")


def unknown_chunks(scene: Scene) -> Iterator[bytes]:
    """Chunks of streams that nobody began."""
    for _ in range(SOME):
        yield packets.chunk(scene.new_id(), 0, b"x" * 100)


def unknown_trailers(scene: Scene) -> Iterator[bytes]:
    """Trailers of streams that nobody began."""
    for _ in range(SOME):
        yield packets.trailer(scene.new_id())


def duplicate_chunks(scene: Scene) -> Iterator[bytes]:
    """A chunk that was there already."""
    stream_id = scene.open_stream()
    chunk = packets.chunk(stream_id, 0, b"x" * 100)
    scene.hear(chunk)
    for _ in range(SOME):
        yield chunk
    scene.end_stream(stream_id)


def gap(scene: Scene) -> Iterator[bytes]:
    """A chunk before which another one is missing."""
    stream_id = scene.open_stream()
    yield packets.chunk(stream_id, 5, b"x" * 100)


def long_reason(scene: Scene) -> Iterator[bytes]:
    """A trailer with a reason as long as a packet can be, of characters of two bytes."""
    stream_id = scene.open_stream()
    yield packets.trailer(stream_id, "é" * 60_000)


# --- answers


def errors(scene: Scene, message: str = "", data: str = "") -> Iterator[bytes]:
    """An error as the answer to a call of ours."""
    yield packets.error(scene.call(HOSTILE), message, data)


def responses(scene: Scene, payload: str) -> Iterator[bytes]:
    """A packet as the answer to a call of ours."""
    yield packets.response(scene.call(HOSTILE), payload)


def of_another(scene: Scene) -> Iterator[bytes]:
    """Answers to a call to somebody else."""
    request_id = scene.call(CALLEE)
    for _ in range(SOME):
        yield packets.response(request_id, "x" * 100)
    scene.cancel(request_id)


def unknown_acks(scene: Scene) -> Iterator[bytes]:
    """Acks for calls that nobody made."""
    for _ in range(SOME):
        yield packets.ack(scene.new_id())


def late_responses(scene: Scene) -> Iterator[bytes]:
    """Answers to a call that has ended."""
    request_id = scene.call(HOSTILE)
    scene.cancel(request_id)
    for _ in range(SOME):
        yield packets.response(request_id, "x" * 100)


def repeated_response_headers(scene: Scene) -> Iterator[bytes]:
    """The header of a response again that is being read."""
    request_id = scene.call(HOSTILE)
    attributes = {"lk.rpc_request_id": request_id}
    header = packets.header(scene.new_id(), attributes, topic=RESPONSE_TOPIC)
    scene.hear(header)
    for _ in range(SOME):
        yield header
    scene.cancel(request_id)


def other_response_headers(scene: Scene) -> Iterator[bytes]:
    """Headers of other streams for a response that is being read."""
    request_id = scene.call(HOSTILE)
    attributes = {"lk.rpc_request_id": request_id}
    scene.hear(packets.header(scene.new_id(), attributes, topic=RESPONSE_TOPIC))
    for _ in range(SOME):
        yield packets.header(scene.new_id(), attributes, topic=RESPONSE_TOPIC)
    scene.cancel(request_id)


# --- senders


def impersonations(scene: Scene) -> Iterator[bytes]:
    """Requests under somebody else's sid."""
    for _ in range(SOME):
        yield packets.request(scene.new_id(), "x", sid=sid_of(CALLEE))


def repeated_sequences(scene: Scene) -> Iterator[bytes]:
    """Packets whose numbers were seen."""
    for sequence in SEEN:
        yield packets.ack(scene.new_id(), CALLEE, sid=sid_of(CALLEE), sequence=sequence)


def encrypted(scene: Scene, size: int) -> Iterator[bytes]:
    """A packet that nobody can read."""
    yield packets.encrypted(size)
