"""9: bodies coming in that are not as they should be."""

from collections.abc import Callable
from typing import Final, NamedTuple

from rpcproto.conformance.case import Level, Unmet, case
from rpcproto.conformance.cases.s09_bodies_in import CALL, PIECES, STREAMS, TEXT, answered
from rpcproto.conformance.scene import Scene
from rpcproto.conformance.writing import Stream, new_id, request_stream
from rpcproto.wire import OutgoingMessage, StreamChunk, StreamTrailer


def lost(stream: Stream) -> list[OutgoingMessage]:
    """A chunk in the middle is missing, and no length tells of it."""
    header = stream.header._replace(total_length=None)
    return [header, *stream.chunks[:2], *stream.chunks[3:], stream.trailer]


def short(stream: Stream) -> list[OutgoingMessage]:
    """The last chunk is missing."""
    return [stream.header, *stream.chunks[:-1], stream.trailer]


def ended(stream: Stream) -> list[OutgoingMessage]:
    """The sender gives up in the middle; no length tells that there would be more."""
    header = stream.header._replace(total_length=None)
    return [header, *stream.chunks[:2], StreamTrailer(stream.header.stream_id, "cancelled")]


def swapped(stream: Stream) -> list[OutgoingMessage]:
    """Two chunks come in the wrong order."""
    first, second, *more = stream.chunks
    return [stream.header, second, first, *more, stream.trailer]


def twice(stream: Stream) -> list[OutgoingMessage]:
    """A chunk comes twice, and no length tells of it."""
    header = stream.header._replace(total_length=None)
    return [header, *stream.chunks[:2], *stream.chunks[1:], stream.trailer]


def foreign_numbers(stream: Stream) -> list[OutgoingMessage]:
    """The chunks are numbered from 1."""
    chunks = [chunk._replace(chunk_index=chunk.chunk_index + 1) for chunk in stream.chunks]
    return [stream.header._replace(total_length=None), *chunks, stream.trailer]


def beyond(stream: Stream) -> list[OutgoingMessage]:
    """More comes than the header says."""
    header = stream.header._replace(total_length=sum(map(len, PIECES[:-1])))
    return [header, *stream.chunks, stream.trailer]


def no_text(stream: Stream) -> list[OutgoingMessage]:
    """A byte of the body is not UTF-8."""
    chunks = [*stream.chunks[:-1], stream.chunks[-1]._replace(content=b"\xe4\xba\xff")]
    return [stream.header, *chunks, stream.trailer]


def cut_within(stream: Stream) -> list[OutgoingMessage]:
    """Characters are cut: each chunk has one byte."""
    parts = [bytes([byte]) for byte in TEXT.encode()]
    stream_id = stream.header.stream_id
    chunks = [StreamChunk(stream_id, index, part) for index, part in enumerate(parts)]
    return [stream.header, *chunks, stream.trailer]


class Breaking(NamedTuple):
    """One way to spoil a stream; the numbers are of the cases for requests and for answers."""

    request_number: str
    answer_number: str
    what: str
    parts: Callable[[Stream], list[OutgoingMessage]]
    level: Level
    why: str
    may_succeed: bool = False
    """Whether the payload as it was meant is right as well."""


MUST, SHOULD = Level.MUST, Level.SHOULD
BREAKING: Final = (
    Breaking("9.17", "9.27", "lacks a chunk in the middle", lost, MUST,
             "If a packet is lost, the application gets a text with a hole and no error."),
    Breaking("9.18", "9.28", "is shorter than its total_length", short, MUST,
             "If the last packets are lost, the application gets a truncated text and no error."),
    Breaking("9.19", "9.29", "ends in the middle by a trailer with a reason", ended, MUST,
             "The sender has given up: the application gets half of a text as if it were "
             "complete."),
    Breaking("9.20", "9.30", "has two chunks in the wrong order", swapped, MUST,
             "If a transport reorders packets, the application gets a scrambled text and "
             "no error.", True),
    Breaking("9.21", "9.31", "has a chunk twice", twice, MUST,
             "After a resumed connection packets can arrive twice: the application gets a "
             "repetition.",
             True),
    Breaking("9.22", "9.32", "lacks its first chunk", foreign_numbers, MUST,
             "If the first packet is lost, the application gets a text without its beginning and "
             "no error."),
    Breaking("9.23", "9.33", "is longer than its total_length", beyond, SHOULD,
             "The application gets another text than its sender meant, and no error."),
    Breaking("9.24", "9.34", "is not valid UTF-8", no_text, SHOULD,
             "The application gets replacement characters in place of what was sent, and no "
             "error."),
    Breaking("9.25", "9.35", "is cut inside of characters", cut_within, SHOULD,
             "If a peer cuts like this, the application gets replacement characters and no error.",
             True),
)  # fmt: skip


def _register(row: Breaking) -> None:
    right = TEXT if row.may_succeed else None
    or_right = ", and no other payload than was sent" if row.may_succeed else ""

    @case(
        row.request_number,
        f"A request stream arrives whose body {row.what}",
        sees=f"an error, or no answer{or_right}",
        rule="R25 R26",
        why=row.why,
        level=row.level,
        protocols=STREAMS,
        reads=1,
    )
    async def request(scene: Scene) -> None:
        alice = await scene.join("alice")
        stream = request_stream(PIECES)
        alice.send(*row.parts(stream))
        await scene.is_not_believed(alice, stream.request_id, unless=right)

    @case(
        row.answer_number,
        f"An answer arrives as a stream whose body {row.what}",
        sees=f"a call that does not succeed{or_right}",
        rule="R25 R26",
        why=row.why,
        level=row.level,
        methods=CALL,
        protocols=STREAMS,
        reads=1,
    )
    async def answer(scene: Scene) -> None:
        call = await answered(scene, PIECES, row.parts)
        await call.does_not_succeed(unless=right)


for _row in BREAKING:
    _register(_row)


@case(
    "9.26",
    "Request streams arrive whose bodies are broken, each in a different way",
    sees="error 1500 for each, at once",
    rule="R26",
    why="A caller that gets no error waits for its timeout, and reports a slow peer instead of a "
    "bad body.",
    level=Level.SHOULD,
    protocols=STREAMS,
    reads=1,
)
async def broken_requests_are_refused(scene: Scene) -> None:
    alice = await scene.join("alice")
    for row in BREAKING:
        if not row.may_succeed:
            stream = request_stream(PIECES)
            alice.send(*row.parts(stream))
            try:
                await alice.gets_error(stream.request_id, 1500)
            except Unmet as unmet:
                raise Unmet(f"{unmet.expected}, when a body {row.what}", unmet.seen) from None


@case(
    "9.36",
    "Answers arrive whose bodies are broken, each in a different way",
    sees="the calls fail with 1500 at once",
    rule="R26",
    why="The application waits for the whole timeout, although the call can no longer succeed.",
    level=Level.SHOULD,
    methods=CALL,
    protocols=STREAMS,
    reads=1,
)
async def broken_answers_end_calls(scene: Scene) -> None:
    for row in BREAKING:
        if not row.may_succeed:
            call = await answered(scene, PIECES, row.parts)
            try:
                await call.fails(1500)
            except Unmet as unmet:
                raise Unmet(f"{unmet.expected}, when a body {row.what}", unmet.seen) from None


@case(
    "9.37",
    "A request stream is broken, and the same request arrives again with new ids",
    sees="the answer to the second one",
    rule="R25 R26",
    why="A caller that tries again after a lost packet would never succeed.",
    protocols=STREAMS,
    reads=1,
)
async def after_a_broken_stream(scene: Scene) -> None:
    alice = await scene.join("alice")
    broken, whole = request_stream(PIECES), request_stream(PIECES)
    alice.send(*lost(broken))
    alice.send(*whole.parts)
    await alice.gets_answer(whole.request_id, TEXT)


@case(
    "9.38",
    "A participant leaves in the middle of its request stream, and comes back with the rest",
    sees="no answer to half of a body; what it asks for then is answered",
    rule="R31 R23",
    why="The application gets a text made of parts from two sessions that need not belong "
    "together.",
    level=Level.SHOULD,
    protocols=STREAMS,
    reads=1,
)
async def a_stream_does_not_outlive_its_sender(scene: Scene) -> None:
    alice = await scene.join("alice")
    stream = request_stream(PIECES)
    alice.send(*stream.parts[:3])
    await scene.leave(alice)
    await scene.return_(alice)
    alice.send(*stream.parts[3:])
    await scene.is_not_believed(alice, stream.request_id)
    request = alice.request("conform.echo", "again", request_id=new_id())
    await alice.gets_answer(request, "again")
