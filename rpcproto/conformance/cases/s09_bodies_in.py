"""9: bodies coming in."""

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Final

from rpcproto.conformance.case import Level, Unmet, case
from rpcproto.conformance.reading import Form
from rpcproto.conformance.scene import Scene, TesteeCall
from rpcproto.conformance.writing import Stream, answer_stream, cut_text, request_stream
from rpcproto.core.packets_pb2 import DataPacket
from rpcproto.wire import OutgoingMessage

CALL = ("conform.call",)
STREAMS: Final = (1, 2)
"""The client_protocols of participants that send streams."""
PIECES: Final = tuple(text.encode() for text in ("one, ", "zwei, ", "três, ", "четыре, ", "五"))
TEXT: Final = b"".join(PIECES).decode()


async def answered(
    scene: Scene,
    pieces: Sequence[bytes],
    change: Callable[[Stream], Sequence[OutgoingMessage]] = lambda stream: stream.parts,
) -> TesteeCall:
    """A call of the testee that is answered with a stream in these pieces, or what `change` makes
    of it."""
    alice = await scene.join("alice")
    call = await scene.call(alice)
    request = await alice.gets_request()
    alice.ack(request)
    alice.send(*change(answer_stream(request.request_id, pieces)))
    return call


@case(
    "9.1",
    "A request of 100,000 bytes arrives in chunks",
    sees="its payload, whole, in the answer",
    rule="R25 A4",
    why="Payloads over 15,360 bytes travel in no other way: such calls would never succeed.",
    protocols=STREAMS,
    reads=1,
)
async def request_of_many_chunks(scene: Scene) -> None:
    alice = await scene.join("alice")
    text = "ä€😀z" * 10_000
    await alice.gets_answer(alice.request("conform.echo", text, form=Form.CHUNKS), text)


@case(
    "9.2",
    "An answer of 100,000 bytes arrives in chunks",
    sees="a call that succeeds with exactly these bytes",
    rule="R6 R25",
    why="Payloads over 15,360 bytes travel in no other way: such calls would never succeed.",
    methods=CALL,
    protocols=STREAMS,
    reads=1,
)
async def answer_of_many_chunks(scene: Scene) -> None:
    alice = await scene.join("alice")
    call = await scene.call(alice, digest=True)
    request = await alice.gets_request()
    alice.ack(request)
    text = "ä€😀z" * 10_000
    alice.answer(request, text, Form.CHUNKS)
    outcome, body = await call.outcome(), text.encode()
    if outcome != (expected := {"bytes": len(body), "sha256": sha256(body).hexdigest()}):
        raise Unmet(str(expected), str(outcome))


@case(
    "9.3",
    "A request stream arrives with a header and a trailer, and no chunk",
    sees="an answer with the empty payload",
    rule="R25",
    why="Some SDKs send no chunk for an empty body: their calls without a payload would hang or "
    "fail.",
    protocols=STREAMS,
    reads=1,
)
async def no_chunks(scene: Scene) -> None:
    alice = await scene.join("alice")
    stream = request_stream([])
    alice.send(*stream.parts)
    await alice.gets_answer(stream.request_id, "")


@case(
    "9.4",
    "A request stream arrives with an empty chunk in it",
    sees="the answer",
    rule="R25",
    why="Some SDKs send one empty chunk for an empty body: their calls without a payload would "
    "fail.",
    protocols=STREAMS,
    reads=1,
)
async def empty_chunks(scene: Scene) -> None:
    alice = await scene.join("alice")
    for pieces in ([b""], [b"", *PIECES, b""]):
        stream = request_stream(pieces)
        alice.send(*stream.parts)
        await alice.gets_answer(stream.request_id, b"".join(pieces).decode())


@case(
    "9.5",
    "A request stream arrives without a total_length",
    sees="the answer",
    rule="R25 A4",
    why="The SDKs for Swift, Android and Flutter leave it out: their requests and answers would "
    "all fail.",
    protocols=STREAMS,
    reads=1,
)
async def request_without_total_length(scene: Scene) -> None:
    alice = await scene.join("alice")
    stream = request_stream(PIECES)
    stream = stream._replace(header=stream.header._replace(total_length=None))
    alice.send(*stream.parts)
    await alice.gets_answer(stream.request_id, TEXT)


@case(
    "9.6",
    "An answer arrives as a stream without a total_length",
    sees="the call succeeds",
    rule="R25 A4",
    why="The SDKs for Swift, Android and Flutter leave it out: their requests and answers would "
    "all fail.",
    methods=CALL,
    protocols=STREAMS,
    reads=1,
)
async def answer_without_total_length(scene: Scene) -> None:
    def change(stream: Stream) -> Sequence[OutgoingMessage]:
        return stream._replace(header=stream.header._replace(total_length=None)).parts

    call = await answered(scene, PIECES, change)
    await call.succeeds(TEXT)


@case(
    "9.7",
    "A request stream arrives without a mime_type",
    sees="the answer",
    rule="R27 A4",
    why="The SDK for Android leaves it out for text: none of its calls would succeed.",
    protocols=STREAMS,
    reads=1,
)
async def no_mime_type(scene: Scene) -> None:
    def change(packet: DataPacket) -> None:
        packet.stream_header.ClearField("mime_type")

    alice = await scene.join("alice")
    stream = request_stream(PIECES)
    alice.send(stream.header, change=change)
    alice.send(*stream.parts[1:])
    await alice.gets_answer(stream.request_id, TEXT)


@case(
    "9.8",
    "The trailer of a request stream has attributes",
    sees="the answer",
    rule="R27 R34",
    why="A data stream may end with attributes: a peer that sends them would get no answer.",
    protocols=STREAMS,
    reads=1,
)
async def trailer_with_attributes(scene: Scene) -> None:
    def change(packet: DataPacket) -> None:
        packet.stream_trailer.attributes["lk.rpc_request_id"] = "another id"
        packet.stream_trailer.attributes["more"] = "of it"

    alice = await scene.join("alice")
    stream = request_stream(PIECES)
    alice.send(stream.header, *stream.chunks)
    alice.send(stream.trailer, change=change)
    await alice.gets_answer(stream.request_id, TEXT)


@case(
    "9.9",
    "A request stream arrives in chunks of 15,360 bytes, and in chunks of one byte or character",
    sees="the answers",
    rule="R25 R29",
    why="The SDKs for Swift and Android cut at 15,360 bytes, others at 15,000: large calls would "
    "fail.",
    protocols=STREAMS,
    reads=1,
)
async def chunks_of_any_size(scene: Scene) -> None:
    alice = await scene.join("alice")
    text = "ä€😀z" * 4_000
    for pieces in (list(cut_text(text.encode(), 15_360)), [one.encode() for one in text[:500]]):
        stream = request_stream(pieces)
        alice.send(*stream.parts)
        await alice.gets_answer(stream.request_id, b"".join(pieces).decode())


@case(
    "9.10",
    "A request stream arrives in chunks of 60,000 bytes",
    sees="the answer",
    rule="R25",
    why="Only packets are limited, to 64,000 bytes: a peer with large chunks would get no answer.",
    level=Level.SHOULD,
    protocols=STREAMS,
    reads=1,
)
async def large_chunks(scene: Scene) -> None:
    alice = await scene.join("alice")
    text = "ä€😀z" * 10_000
    stream = request_stream(list(cut_text(text.encode(), 60_000)))
    alice.send(*stream.parts)
    await alice.gets_answer(stream.request_id, text)


@case(
    "9.11",
    "Two request streams of one participant arrive, their chunks in turn",
    sees="both answers, each with its own payload",
    rule="R23 R30",
    why="Senders interleave the chunks of their streams: large calls at the same time would fail "
    "or mix.",
    protocols=STREAMS,
    reads=1,
)
async def streams_take_turns(scene: Scene) -> None:
    alice = await scene.join("alice")
    first = request_stream(PIECES)
    second = request_stream([piece + b"!" for piece in PIECES])
    for one, other in zip(first.parts, second.parts, strict=True):
        alice.send(one, other)
    await alice.gets_answer(second.request_id)
    await alice.gets_answer(first.request_id, TEXT)


@case(
    "9.12",
    "Another request of the same participant arrives in the middle of a request stream",
    sees="its answer at once, and that of the first when its rest has arrived",
    rule="R23 R30",
    why="One large body would delay the small calls of the same participant until they time out.",
    protocols=STREAMS,
    reads=1,
)
async def a_half_read_stream_holds_up_nothing(scene: Scene) -> None:
    alice = await scene.join("alice")
    stream = request_stream(PIECES)
    alice.send(*stream.parts[:3])
    await alice.gets_answer(alice.request("conform.echo", "in between"), "in between")
    alice.send(*stream.parts[3:])
    await alice.gets_answer(stream.request_id, TEXT)


@case(
    "9.13",
    "Chunks and a trailer arrive without a header",
    sees="nothing; the next request is answered",
    rule="R23",
    why="Two SDKs send their chunks to the whole room: everybody receives chunks without a header.",
    protocols=STREAMS,
    reads=1,
)
async def chunks_of_no_stream(scene: Scene) -> None:
    alice = await scene.join("alice")
    alice.send(*request_stream(PIECES).parts[1:], destination="")
    await scene.nothing_more()
    await alice.gets_answer(alice.request("conform.echo", "next"), "next")


@case(
    "9.14",
    "The trailer of a request stream arrives twice",
    sees="one answer",
    rule="R23 R25",
    why="After a resumed connection, packets can arrive twice.",
    protocols=STREAMS,
    reads=1,
)
async def a_second_trailer(scene: Scene) -> None:
    alice = await scene.join("alice")
    stream = request_stream(PIECES)
    alice.send(*stream.parts, stream.trailer)
    await alice.gets_answer(stream.request_id, TEXT)
    await scene.nothing_more()


@case(
    "9.15",
    "A chunk of a request stream arrives twice",
    sees="the answer, with the payload as it was sent",
    rule="R25",
    why="After a resumed connection, packets can arrive twice: such a call would fail.",
    level=Level.SHOULD,
    protocols=STREAMS,
    reads=1,
)
async def a_second_chunk(scene: Scene) -> None:
    alice = await scene.join("alice")
    stream = request_stream(PIECES)
    alice.send(stream.header, *stream.chunks[:2], *stream.chunks[1:], stream.trailer)
    await alice.gets_answer(stream.request_id, TEXT)


@case(
    "9.16",
    "The body of a request stream is complete by its total_length, and its trailer is missing",
    sees="INFO: whether it is answered at once, or once the trailer is there",
    rule="R25",
    why="Both are correct: the trailer follows right after the body.",
    level=Level.INFO,
    protocols=STREAMS,
    reads=1,
)
async def before_the_trailer(scene: Scene) -> str:
    alice = await scene.join("alice")
    stream = request_stream(PIECES)
    alice.send(stream.header, *stream.chunks)
    await scene.settle()
    early = alice.has_outcome(stream.request_id)
    alice.send(stream.trailer)
    await alice.gets_answer(stream.request_id, TEXT)
    return f"a request stream is answered {'before' if early else 'after'} its trailer has come"
