"""11: inline and compressed bodies coming in."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from rpcproto.conformance.case import Level, NotPossible, Unmet, case
from rpcproto.conformance.cases.s09_bodies_in import answered
from rpcproto.conformance.reading import Form
from rpcproto.conformance.scene import Scene
from rpcproto.conformance.writing import Stream, deflate, request_stream
from rpcproto.wire import DEFLATE_RAW, OutgoingMessage, StreamHeader

CALL = ("conform.call",)
COMPRESSION: Final = 2
"""The capability to inflate raw DEFLATE."""
TEXT: Final = "Ein Text, der sich verkürzen lässt; 可以压缩的文本。" * 100
BODY: Final = TEXT.encode()


def needs_compression(scene: Scene) -> None:
    """The testee must have announced that it inflates."""
    if COMPRESSION not in scene.testee.capabilities:
        raise NotPossible("the testee does not announce that it reads compressed bodies")


def inline(stream: Stream, content: bytes, *, compression: int = DEFLATE_RAW) -> StreamHeader:
    """The header of a stream with all of this content in it."""
    return stream.header._replace(
        inline_content=content, compression=compression, total_length=len(BODY)
    )


def compressed(stream: Stream) -> Stream:
    """A stream whose chunks are TEXT, compressed."""
    header = stream.header._replace(compression=DEFLATE_RAW, total_length=len(BODY))
    return stream._replace(header=header)


@case(
    "11.1",
    "A request arrives inline, of one byte and of 14,000",
    sees="the answers",
    rule="R27 A5",
    why="Callers with client_protocol 2 send nearly all of their calls like this: they would time "
    "out.",
    protocols=(2,),
    reads=2,
)
async def inline_request(scene: Scene) -> None:
    alice = await scene.join("alice")
    for text in ("x", "ä€😀z" * 1_400):
        await alice.gets_answer(alice.request("conform.echo", text, form=Form.INLINE), text)


@case(
    "11.2",
    "A request arrives inline with an empty payload",
    sees="an answer with the empty payload",
    rule="A5",
    why="A receiver that waits for chunks, because the field is empty, lets the call time out.",
    protocols=(2,),
    reads=2,
)
async def empty_inline_request(scene: Scene) -> None:
    alice = await scene.join("alice")
    await alice.gets_answer(alice.request("conform.echo", "", form=Form.INLINE), "")


@case(
    "11.3",
    "After an inline request, a chunk and a trailer of its stream arrive",
    sees="one answer, with what was inline",
    rule="A5 R23",
    why="A handler would run twice, or get more than its caller meant.",
    level=Level.SHOULD,
    protocols=(2,),
    reads=2,
)
async def nothing_follows_inline(scene: Scene) -> None:
    alice = await scene.join("alice")
    stream = request_stream([b" and more"])
    alice.send(stream.header._replace(inline_content=b"inline", total_length=6))
    alice.send(*stream.chunks, stream.trailer)
    await alice.gets_answer(stream.request_id, "inline")
    await scene.nothing_more()


def stored(body: bytes) -> bytes:
    return with_compressor(body, zlib.compressobj(0, wbits=-zlib.MAX_WBITS))


def fixed(body: bytes) -> bytes:
    return with_compressor(body, zlib.compressobj(9, wbits=-zlib.MAX_WBITS, strategy=zlib.Z_FIXED))


def small_window(body: bytes) -> bytes:
    return with_compressor(body, zlib.compressobj(9, wbits=-9))


def flushed(body: bytes) -> bytes:
    """With a flush after every 500 bytes, and no final block: complete by its length alone."""
    compressing = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    parts = [body[at : at + 500] for at in range(0, len(body), 500)]
    return b"".join(
        compressing.compress(part) + compressing.flush(zlib.Z_SYNC_FLUSH) for part in parts
    )


def flushed_and_ended(body: bytes) -> bytes:
    """As browsers' CompressionStream may do: flushes, and an empty final block."""
    return flushed(body) + b"\x03\x00"


class Packing(NamedTuple):
    """A way to compress; the numbers are of the cases for inline and for chunks."""

    inline_number: str
    chunks_number: str
    what: str
    pack: Callable[[bytes], bytes]
    why: str
    level: Level = Level.MUST


PACKINGS: Final = (
    Packing("11.4", "11.10", "in the usual way", deflate,
            "Peers compress for participants that announce the capability: their calls would "
            "fail."),
    Packing("11.5", "11.11", "with flushes and without a final block", flushed,
            "A sender may flush and never finish: its calls would fail although the body is "
            "complete.", Level.SHOULD),
    Packing("11.6", "11.12", "with flushes and an empty final block", flushed_and_ended,
            "Compressors that work piece by piece end like this: calls of such peers would fail."),
    Packing("11.7", "11.13", "in stored blocks", stored,
            "Compressors store data that does not shrink: calls with such payloads would fail."),
    Packing("11.8", "11.14", "with fixed codes", fixed,
            "Small compressors use nothing else: calls from small devices would fail."),
    Packing("11.9", "11.15", "with a window of 512 bytes", small_window,
            "Small compressors have no larger one: calls from small devices would fail."),
)  # fmt: skip


def with_compressor(body: bytes, compressing: "zlib._Compress") -> bytes:
    return compressing.compress(body) + compressing.flush()


def pieces(content: bytes) -> Iterator[list[bytes]]:
    """Ways to cut: as one, in small pieces, byte by byte in the beginning and at the end."""
    yield [content]
    yield [content[at : at + 97] for at in range(0, len(content), 97)]
    yield [*split(content[:50]), content[50:-50], *split(content[-50:])]


def split(content: bytes) -> list[bytes]:
    """Each byte by itself."""
    return [bytes([byte]) for byte in content]


def _register_packing(row: Packing) -> None:
    @case(
        row.inline_number,
        f"A request arrives inline, compressed {row.what}",
        sees="the answer",
        rule="R25 A5",
        why=row.why,
        level=row.level,
        protocols=(2,),
        reads=2,
    )
    async def in_header(scene: Scene) -> None:
        needs_compression(scene)
        alice = await scene.join("alice")
        stream = request_stream([])
        alice.send(inline(stream, row.pack(BODY)))
        await alice.gets_answer(stream.request_id, TEXT)

    @case(
        row.chunks_number,
        f"A request arrives in chunks, compressed {row.what}, cut anywhere",
        sees="the answer",
        rule="R25 A5",
        why=row.why,
        level=row.level,
        protocols=(2,),
        reads=2,
    )
    async def in_chunks(scene: Scene) -> None:
        needs_compression(scene)
        alice = await scene.join("alice")
        for parts in pieces(row.pack(BODY)):
            stream = compressed(request_stream(parts))
            alice.send(*stream.parts)
            await alice.gets_answer(stream.request_id, TEXT)


for _packing in PACKINGS:
    _register_packing(_packing)


@case(
    "11.16",
    "Answers arrive compressed: inline, and in chunks, with flushes and without",
    sees="the calls succeed",
    rule="R6 R25 A5",
    why="Peers compress for participants that announce the capability: their calls would fail.",
    methods=CALL,
    protocols=(2,),
    reads=2,
)
async def compressed_answers(scene: Scene) -> None:
    needs_compression(scene)
    call = await answered(scene, [], lambda stream: [inline(stream, deflate(BODY))])
    await call.succeeds(TEXT)
    for pack in (deflate, flushed_and_ended):
        for parts in pieces(pack(BODY)):
            call = await answered(scene, parts, lambda stream: compressed(stream).parts)
            await call.succeeds(TEXT)


@case(
    "11.17",
    "A request with an empty payload arrives compressed, inline and in chunks",
    sees="answers with the empty payload",
    rule="R25 A5",
    why="A sender may compress an empty body, too: its calls without a payload would fail.",
    level=Level.SHOULD,
    protocols=(2,),
    reads=2,
)
async def empty_and_compressed(scene: Scene) -> None:
    needs_compression(scene)
    alice = await scene.join("alice")
    for form in (Form.COMPRESSED_INLINE, Form.COMPRESSED_CHUNKS):
        await alice.gets_answer(alice.request("conform.echo", "", form=form), "")


class Breaking(NamedTuple):
    """A way to spoil a compressed body, inline and in chunks, in requests and in answers."""

    request_number: str
    answer_number: str
    what: str
    content: bytes
    level: Level
    why: str


MUST, SHOULD = Level.MUST, Level.SHOULD
PACKED: Final = deflate(BODY)
BREAKING: Final = (
    Breaking("11.18", "11.24", "ends too early", PACKED[: len(PACKED) // 2], MUST,
             "Lost packets would become a text that is cut, and nobody notices."),
    Breaking("11.19", "11.25", "is not DEFLATE", b"\xff" * 200, MUST,
             "The application gets a text that nobody sent."),
    Breaking("11.20", "11.26", "has bytes after its final block", PACKED + b"more", SHOULD,
             "The application gets the first of two bodies, and cannot know that there was more."),
    Breaking("11.21", "11.27", "is longer than its total_length", deflate(BODY + b"x"), SHOULD,
             "The application gets another text than its sender meant, and no error."),
    Breaking("11.22", "11.28", "is shorter than its total_length", deflate(BODY[:-1]), SHOULD,
             "The application gets another text than its sender meant, and no error."),
    Breaking("11.23", "11.29", "is not valid UTF-8", deflate(BODY[:-1] + b"\xff"), SHOULD,
             "The application gets replacement characters in place of what was sent, and no "
             "error."),
)  # fmt: skip


def spoiled(stream: Stream, content: bytes, *, is_inline: bool) -> list[OutgoingMessage]:
    """A stream with this content, which is not as it should be."""
    if is_inline:
        return [inline(stream, content)]
    chunk = stream.chunks[0]._replace(content=content)
    return compressed(stream._replace(chunks=[chunk])).parts


def _register_breaking(row: Breaking) -> None:
    @case(
        row.request_number,
        f"A request arrives whose compressed body {row.what}, inline and in chunks",
        sees="an error, or no answer",
        rule="R25 R26",
        why=row.why,
        level=row.level,
        protocols=(2,),
        reads=2,
    )
    async def request(scene: Scene) -> None:
        needs_compression(scene)
        alice = await scene.join("alice")
        for is_inline in (True, False):
            stream = request_stream([b""])
            alice.send(*spoiled(stream, row.content, is_inline=is_inline))
            await scene.is_not_believed(alice, stream.request_id)

    @case(
        row.answer_number,
        f"An answer arrives whose compressed body {row.what}, inline and in chunks",
        sees="calls that do not succeed",
        rule="R25 R26",
        why=row.why,
        level=row.level,
        methods=CALL,
        protocols=(2,),
        reads=2,
    )
    async def answer(scene: Scene) -> None:
        needs_compression(scene)
        for is_inline in (True, False):

            def change(stream: Stream) -> Sequence[OutgoingMessage]:
                return spoiled(stream, row.content, is_inline=is_inline)  # noqa: B023 (at once)

            call = await answered(scene, [b""], change)
            await call.does_not_succeed()


for _breaking in BREAKING:
    _register_breaking(_breaking)


@case(
    "11.30",
    "Requests arrive whose compressed bodies are broken, each in a different way",
    sees="error 1500 for each, at once",
    rule="R26",
    why="A caller that gets no error waits for its timeout, and reports a slow peer instead of a "
    "bad body.",
    level=Level.SHOULD,
    protocols=(2,),
    reads=2,
)
async def broken_requests_are_refused(scene: Scene) -> None:
    needs_compression(scene)
    alice = await scene.join("alice")
    for row in BREAKING:
        for is_inline in (True, False):
            stream = request_stream([b""])
            alice.send(*spoiled(stream, row.content, is_inline=is_inline))
            try:
                await alice.gets_error(stream.request_id, 1500)
            except Unmet as unmet:
                where = "an inline" if is_inline else "a chunked"
                what = f"{unmet.expected}, when {where} compressed body {row.what}"
                raise Unmet(what, unmet.seen) from None


@case(
    "11.31",
    "A request arrives inline and in chunks with an unknown compression",
    sees="an error, or no answer",
    rule="R27 R34",
    why="The handler runs with compressed bytes in place of the text.",
    protocols=(2,),
    reads=2,
)
async def unknown_compression(scene: Scene) -> None:
    alice = await scene.join("alice")
    for number in (2, 99):
        stream = request_stream([b"looks like text"])
        header = stream.header._replace(compression=number)
        alice.send(header._replace(inline_content=b"looks like text"))
        await scene.is_not_believed(alice, stream.request_id)
        other = request_stream([b"looks like text"])
        alice.send(other.header._replace(compression=number), *other.parts[1:])
        await scene.is_not_believed(alice, other.request_id)


@case(
    "11.32",
    "An inline request arrives whose content is shorter or longer than its total_length",
    sees="an error, or no answer",
    rule="R25",
    why="The application gets another text than its sender meant, and no error.",
    level=Level.SHOULD,
    protocols=(2,),
    reads=2,
)
async def inline_of_another_length(scene: Scene) -> None:
    alice = await scene.join("alice")
    for length in (3, 1_000):
        stream = request_stream([])
        alice.send(stream.header._replace(inline_content=b"inline", total_length=length))
        await scene.is_not_believed(alice, stream.request_id)


@case(
    "11.39",
    "Compressed requests arrive that inflate to 3.5 MB, inline and in chunks",
    sees="the handlers run: what they answer comes back",
    rule="R25 R47",
    why="A call whose payload shrinks well would never be answered.",
    level=Level.SHOULD,
    methods=("conform.count",),
    protocols=(2,),
    reads=2,
)
async def much_comes_out(scene: Scene) -> None:
    needs_compression(scene)
    alice = await scene.join("alice")
    for form in (Form.COMPRESSED_INLINE, Form.COMPRESSED_CHUNKS):
        request = alice.request("conform.count", "much " * 700_000, form=form)
        await alice.gets_ack(request)
        await alice.gets_outcome(request, within=2)
        await alice.gets_answer(request, "0")
