"""12: bounds against a hostile peer.

What all of them must see is that others are served meanwhile, within a few seconds.
"""

import zlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import Final, NamedTuple

from rpcproto.conformance.case import Level, Unmet, case
from rpcproto.conformance.cases.s11_compressed_in import needs_compression
from rpcproto.conformance.reading import describe
from rpcproto.conformance.scene import Scene
from rpcproto.conformance.writing import (
    TIMEOUT_MS,
    Stream,
    answer_stream,
    new_id,
    request_stream,
    waiting,
)
from rpcproto.core.packets_pb2 import DataPacket
from rpcproto.wire import DEFLATE_RAW, Ack, OutgoingMessage, Request, Response, StreamHeader

CALL = ("conform.call",)
STREAMS: Final = (1, 2)
BOMB_BYTES: Final = 14_000_000
INFLATING_TIME: Final = 4.0
"""In which an unbounded testee would inflate much, on a busy machine too, in seconds."""
MANY: Final = 1_200
"""Streams or requests that one participant opens."""


@cache
def bomb(parts: int = 1) -> list[bytes]:
    """Pieces of about 14 KB, of each of which 14 MB come out."""
    compressing = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    pieces = [
        compressing.compress(bytes(BOMB_BYTES)) + compressing.flush(zlib.Z_SYNC_FLUSH)
        for _ in range(parts)
    ]
    return [*pieces[:-1], pieces[-1] + compressing.flush()]


async def is_served(scene: Scene, text: str = "and me?") -> None:
    """Another participant is answered, within a few seconds even on a busy machine."""
    await scene.settle(within=15)
    bystander = await scene.join("bystander")
    await bystander.gets_answer(bystander.request("conform.echo", text), text)


@case(
    "12.1",
    "A request of 14 KB arrives that inflates to 14 MB; its total_length says 100 bytes",
    sees="an error, or no answer; others are served",
    rule="R28",
    why="One hostile participant could use up all memory and time with a packet a second.",
    level=Level.SHOULD,
    methods=("conform.count", "conform.echo"),
    protocols=(2,),
    reads=2,
)
async def bomb_in_a_header(scene: Scene) -> None:
    needs_compression(scene)
    mallory = await scene.join("mallory")
    stream = request_stream([], method="conform.count")
    mallory.send(bombed(stream, total_length=100)._replace(inline_content=bomb()[0]))
    await is_served(scene)
    await scene.until(lambda: mallory.has_outcome(stream.request_id), INFLATING_TIME)
    await scene.is_not_believed(mallory, stream.request_id)


@case(
    "12.2",
    "A request arrives in 5 chunks that inflate to 70 MB, without a total_length",
    sees="an error, or no answer; others are served",
    rule="R28",
    why="One hostile participant could use up all memory with a few packets.",
    level=Level.SHOULD,
    methods=("conform.count", "conform.echo"),
    protocols=(2,),
    reads=2,
)
async def bomb_in_chunks(scene: Scene) -> None:
    needs_compression(scene)
    mallory = await scene.join("mallory")
    stream = request_stream(bomb(5), method="conform.count")
    mallory.send(bombed(stream), *stream.parts[1:])
    await is_served(scene)
    await scene.until(lambda: mallory.has_outcome(stream.request_id), INFLATING_TIME)
    await scene.is_not_believed(mallory, stream.request_id)


@case(
    "12.3",
    "A call of the testee is answered with 5 chunks that inflate to 70 MB",
    sees="a call that does not succeed; others are served",
    rule="R28",
    why="One hostile callee could use up all memory of its caller with a few packets.",
    level=Level.SHOULD,
    methods=("conform.call", "conform.echo"),
    protocols=(2,),
    reads=2,
)
async def bomb_in_an_answer(scene: Scene) -> None:
    needs_compression(scene)
    mallory = await scene.join("mallory")
    call = await scene.call(mallory, digest=True)
    request = await mallory.gets_request()
    mallory.ack(request)
    stream = answer_stream(request.request_id, bomb(5))
    mallory.send(bombed(stream), *stream.parts[1:])
    await is_served(scene)
    await scene.until(lambda: call.has_ended, INFLATING_TIME)
    await scene.settle()
    if not call.is_pending and "bytes" in (outcome := await call.outcome()):
        raise Unmet("a call that does not succeed", str(outcome))


def bombed(stream: Stream, total_length: int | None = None) -> StreamHeader:
    """The header of a stream that is compressed."""
    return stream.header._replace(compression=DEFLATE_RAW, total_length=total_length)


class Attack(NamedTuple):
    """What one participant does to the testee; another one must be served."""

    number: str
    what: str
    packets: Callable[[], Sequence[OutgoingMessage]]
    why: str
    rule: str = "R28"
    protocols: tuple[int, ...] = (2,)
    reads: int = 1
    change: Callable[[DataPacket], None] | None = None


def half_open() -> list[OutgoingMessage]:
    streams = (request_stream([b"half", b"of it"]) for _ in range(MANY))
    return [part for stream in streams for part in stream.parts[:2]]


def unknown_methods() -> list[OutgoingMessage]:
    return [Request(new_id(), "no such method", "x", TIMEOUT_MS) for _ in range(MANY)]


def unknown_calls() -> list[OutgoingMessage]:
    return [
        message
        for _ in range(MANY)
        for message in (Ack(new_id()), Response(new_id(), "x"), *request_stream([b"x"]).parts[1:])
    ]


def endless_ids() -> list[OutgoingMessage]:
    endless = "x" * 20_000
    stream = request_stream([b"x"])
    return [
        Request(endless, "conform.echo", "x", TIMEOUT_MS),
        Request(new_id(), endless, "x", TIMEOUT_MS),
        Ack(endless),
        stream.header._replace(stream_id=endless),
        *(chunk._replace(stream_id=endless) for chunk in stream.chunks),
    ]


def many_attributes() -> list[OutgoingMessage]:
    stream = request_stream([b"x"])
    more = {f"attribute {number}": "x" for number in range(2_500)}
    return [
        stream.header._replace(attributes={**more, **stream.header.attributes}),
        *stream.parts[1:],
    ]


def huge_promise() -> list[OutgoingMessage]:
    streams = [request_stream([b"x"]) for _ in range(10)]
    parts: list[OutgoingMessage] = []
    for stream in streams:
        parts += [stream.header._replace(total_length=2**63 - 1), *stream.chunks]
    return parts


def huge_index() -> list[OutgoingMessage]:
    parts: list[OutgoingMessage] = []
    for index in (2**64 - 1, 2**63, 2**32, 2**31):
        stream = request_stream([b"x"])
        parts += [stream.header, stream.chunks[0]._replace(chunk_index=index), stream.trailer]
    return parts


def nothing_comes_out() -> list[OutgoingMessage]:
    empty_block = b"\x00\x00\x00\xff\xff"
    stream = request_stream([empty_block * 2_900] * 10)
    return [bombed(stream), *stream.parts[1:]]


def nest(packet: DataPacket) -> None:
    packet.MergeFromString(b"\xfb\x3f" * 90 + b"\xfc\x3f" * 90)


def name_many(packet: DataPacket) -> None:
    packet.destination_identities.extend(f"participant {number}" for number in range(2_500))


def one_request() -> list[OutgoingMessage]:
    return [Request(new_id(), "conform.echo", "x", TIMEOUT_MS)]


ATTACKS: Final = (
    Attack("12.4", f"A participant begins {MANY:,} request streams and ends none", half_open,
           "One participant could take all places, and everybody else would be "
           "refused.", "R22 R28",
           STREAMS),
    Attack("12.5", f"A participant sends {MANY:,} requests for methods that are not registered",
           unknown_methods, "A loop in one participant would silence all others.", "R22",
           (0, 1, 2), 0),
    Attack("12.6", f"A participant sends {4 * MANY:,} packets for unknown calls and streams",
           unknown_calls, "Two SDKs send their chunks to the whole room: everybody else would "
                          "slow down or stop.", "R23 R47", (0, 1, 2), 0),
    Attack("12.7", "Ids, methods and stream ids of 20,000 bytes arrive", endless_ids,
           "If ids are kept without a limit, one participant could fill the memory.", "R28",
           STREAMS),
    Attack("12.8", "The header of a stream with 2,500 attributes arrives", many_attributes,
           "If the work grows faster than the packet, one participant could stop the service for "
           "all.", "R47", STREAMS),
    Attack("12.9", "Headers arrive that promise bodies of 2^63 - 1 bytes", huge_promise,
           "If memory is reserved by what a peer claims, ten packets end "
           "the program.", "R27 R28", STREAMS),
    Attack("12.10", "Chunks arrive with the numbers 2^31, 2^32, 2^63 and 2^64 - 1", huge_index,
           "If the numbers overflow, or index a list, one packet ends the "
           "program.", "R25", STREAMS),
    Attack("12.11", "A compressed body of 145 KB arrives that inflates to nothing",
           nothing_comes_out, "One participant could use up all time, since no limit on bytes "
                              "sees it.", "R47",
           (2,), 2),
    Attack("12.12", "A request arrives with unknown groups nested 90 deep", one_request,
           "A reader that recurses without a limit crashes: one "
           "packet ends the program.", "R32", (0, 1, 2), 0, nest),
    Attack("12.13", "A request arrives with 2,500 destinations", one_request,
           "If the work grows faster than the packet, one participant could stop the service for "
           "all.", "R39 R47",
           (0, 1, 2), 0, name_many),
)  # fmt: skip


def _register(row: Attack) -> None:
    @case(
        row.number,
        row.what,
        sees="others are served as before",
        rule=row.rule,
        why=row.why,
        level=Level.SHOULD,
        protocols=row.protocols,
        reads=row.reads,
    )
    async def play(scene: Scene) -> None:
        mallory = await scene.join("mallory")
        mallory.send(*row.packets(), change=row.change)
        await is_served(scene)
        await is_served(scene, "and again?")
        scene.stage.unreadable.clear()  # ids that are too long come back as they were


for _attack in ATTACKS:
    _register(_attack)


@case(
    "12.14",
    "A request stream arrives in 5,000 chunks of one byte",
    sees="the answer, whole",
    rule="R47",
    why="Some senders make a chunk of each write: if work grows with the square, their calls time "
    "out.",
    level=Level.SHOULD,
    protocols=STREAMS,
    reads=1,
)
async def many_small_chunks(scene: Scene) -> None:
    alice = await scene.join("alice")
    stream = request_stream([b"x"] * 5_000)
    alice.send(*stream.parts)
    await alice.gets_answer(stream.request_id, "x" * 5_000)


@case(
    "12.15",
    f"A participant has {MANY:,} handlers running that take 1 s",
    sees="others are served at once",
    rule="R22",
    why="One participant could take all places, and everybody else would be refused.",
    level=Level.SHOULD,
    methods=("conform.echo", "conform.wait"),
    protocols=(0,),
    seconds=1,
)
async def many_handlers(scene: Scene) -> None:
    mallory = await scene.join("mallory")
    wanted = waiting(1, "x")
    mallory.send(*(Request(new_id(), "conform.wait", wanted, TIMEOUT_MS) for _ in range(MANY)))
    await is_served(scene)


@case(
    "12.16",
    "A request stream stops in the middle, and nothing ends it",
    sees="INFO: what comes of it within 20 s",
    rule="R28",
    why="A receiver that waits without end keeps the half body for ever; some SDKs do.",
    level=Level.INFO,
    protocols=STREAMS,
    reads=1,
    seconds=20,
)
async def stalled_request(scene: Scene) -> str:
    alice = await scene.join("alice")
    stream = request_stream([b"half", b"of it"], timeout_ms=60_000)
    alice.send(*stream.parts[:2])
    await scene.sleep(20)
    if alice.has_outcome(stream.request_id):
        error = await alice.gets_error(stream.request_id)
        return f"a body that stops is given up within 20 s, with {error.code}"
    return "a body that stops is waited for, for 20 s at least"


@case(
    "12.17",
    "Participants with identities of 200 bytes, not all of them ASCII, call and are called",
    sees="answers and requests as for anybody else",
    rule="R28",
    why="Applications use addresses and tokens as identities: these participants could not call.",
    level=Level.SHOULD,
    methods=("conform.call", "conform.echo"),
)
async def long_identities(scene: Scene) -> None:
    alice = await scene.join("ä-1@example.org/" * 11 + "漢字" * 2)
    await alice.gets_answer(alice.request("conform.echo", "hello"), "hello")
    call, request = await scene.called(alice)
    alice.ack(request)
    alice.answer(request, "there")
    await call.succeeds("there")


@case(
    "12.18",
    "A call of the testee is refused with a message of 20,000 bytes and data of 30,000",
    sees="a call that fails with its code",
    rule="R18",
    why="The application waits for its timeout because a peer does not keep the limits of error "
    "texts.",
    level=Level.SHOULD,
    methods=CALL,
    protocols=STREAMS,
    reads=1,
)
async def long_error(scene: Scene) -> None:
    alice = await scene.join("alice")
    call, request = await scene.called(alice)
    alice.ack(request)
    alice.refuse(request, 7003, "ä" * 10_000, "€" * 10_000)
    await call.fails(7003)


@case(
    "12.19",
    "A compressed request arrives that inflates to nothing: empty blocks, 40 KB in 8 chunks",
    sees="INFO: whether and how it is refused",
    rule="R47",
    why="If nothing counts such input, it costs time without end.",
    level=Level.INFO,
    protocols=(2,),
    reads=2,
)
async def empty_blocks(scene: Scene) -> str:
    needs_compression(scene)
    mallory = await scene.join("mallory")
    stream = request_stream([b"\x00\x00\x00\xff\xff" * 1_000] * 8)
    mallory.send(bombed(stream), *stream.parts[1:-1])
    await mallory.gets_ack(stream.request_id)
    await scene.until(lambda: mallory.has_outcome(stream.request_id), INFLATING_TIME)
    await scene.settle()
    came = [describe(seen.message) for seen in mallory.outcomes_of(stream.request_id)]
    return f"40 KB of compressed input of which nothing comes out: {', '.join(came) or 'nothing'}"


@case(
    "12.20",
    "A compressed request arrives that inflates to nothing, an empty block every 5 s",
    sees="INFO: whether and how it is refused within 18 s",
    rule="R28",
    why="A hostile participant could hold memory, or a handler, for a few bytes.",
    level=Level.INFO,
    protocols=(2,),
    reads=2,
    seconds=18,
)
async def an_empty_block_now_and_then(scene: Scene) -> str:
    needs_compression(scene)
    mallory = await scene.join("mallory")
    stream = request_stream([b"\x00\x00\x00\xff\xff"] * 4, timeout_ms=60_000)
    mallory.send(bombed(stream))
    await mallory.gets_ack(stream.request_id)
    for chunk in stream.chunks:
        mallory.send(chunk)
        await scene.sleep(4.5)
    came = [describe(seen.message) for seen in mallory.outcomes_of(stream.request_id)]
    return f"a compressed request of which nothing comes out: {', '.join(came) or 'nothing'}"
