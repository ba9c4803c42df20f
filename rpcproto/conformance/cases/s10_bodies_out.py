"""10: bodies going out."""

import json
from collections.abc import Callable
from hashlib import sha256
from typing import Final, NamedTuple

from rpcproto.conformance.case import Level, Unmet, case
from rpcproto.conformance.participant import Participant
from rpcproto.conformance.reading import Body, Form
from rpcproto.conformance.scene import Scene
from rpcproto.wire import StreamChunk, StreamTrailer

CALL = ("conform.call",)
SIZE = ("conform.size",)
STREAMS: Final = (1, 2)
"""The client_protocols of participants that read streams."""
LARGEST_CHUNK: Final = 15_360
"""In bytes, of all released SDKs; most cut at 15,000."""
LARGEST_PACKET: Final = 64_000

TIMES: Final = 4_500
"""How often these are repeated, which have 9 bytes."""
# After 15,000 and 15,360 bytes comes the middle of a character here (after 16,384 as well),
MULTIBYTE: Final = "x😀😀"
# and U+FEFF here.
WITH_BOMS: Final = "uvwxyz\ufeff"


def contents(body: Body) -> list[bytes]:
    """What the chunks of a body carry."""
    return [seen.message.content for seen in body.parts if isinstance(seen.message, StreamChunk)]


def is_in_chunks(body: Body, receiver: Participant) -> None:
    if body.form is not Form.CHUNKS:
        raise Unmet("a stream in chunks", body.form.value)
    last = body.parts[-1].message
    assert isinstance(last, StreamTrailer)


def is_cut_between_characters(body: Body, receiver: Participant) -> None:
    for index, content in enumerate(contents(body)):
        try:
            content.decode()
        except UnicodeDecodeError:
            seen = f"chunk {index} ends or begins within a character"
            raise Unmet("chunks that are valid UTF-8, each by itself", seen) from None


def begins_with_no_bom(body: Body, receiver: Participant) -> None:
    for index, content in enumerate(contents(body)):
        if content.startswith("\ufeff".encode()):
            raise Unmet("no chunk that begins with U+FEFF", f"chunk {index} does")


def goes_to_one(body: Body, receiver: Participant) -> None:
    for seen in body.parts:
        if (names := list(seen.packet.destination_identities)) != [receiver.identity]:
            raise Unmet(f"the destination {[receiver.identity]} on each packet", str(names))


def has_small_packets(body: Body, receiver: Participant) -> None:
    size = max(len(seen.data) for seen in body.parts)
    if size > LARGEST_PACKET:
        raise Unmet(f"packets of at most {LARGEST_PACKET:,} bytes", f"one of {size:,} bytes")


def has_small_chunks(body: Body, receiver: Participant) -> None:
    size = max(map(len, contents(body)))
    if size > LARGEST_CHUNK:
        raise Unmet(f"chunks of at most {LARGEST_CHUNK:,} bytes", f"one of {size:,} bytes")


def tells_its_length(body: Body, receiver: Participant) -> None:
    header, size = body.header, len(body.payload.encode())
    if header is None or header.total_length != size:
        seen = "none" if header is None else str(header.total_length)
        raise Unmet(f"a total_length of {size:,}, the bytes of the text in UTF-8", seen)


def is_text(body: Body, receiver: Participant) -> None:
    if body.header is None or not body.header.is_text:
        raise Unmet("a header with a text_header", "one without it")


class Look(NamedTuple):
    """What a body must look like; the numbers are of the cases for requests and for answers."""

    request_number: str
    answer_number: str
    check: Callable[[Body, Participant], None]
    sees: str
    level: Level
    rule: str
    why: str
    text: str = MULTIBYTE


MUST, SHOULD = Level.MUST, Level.SHOULD
LOOKS: Final = (
    Look("10.1", "10.11", is_in_chunks,
         "a header, chunks with the numbers 0, 1, 2 and so on, a trailer without a reason", MUST,
         "R29 A4", "Receivers fail a stream with other numbers or without a trailer: the call "
                   "ends with 1500."),
    Look("10.2", "10.12", is_cut_between_characters,
         "chunks that are valid UTF-8, each by itself", MUST,
         "R29 A4", "Several SDKs decode each chunk by itself: their users get replacement "
                   "characters."),
    Look("10.3", "10.13", begins_with_no_bom, "no chunk that begins with U+FEFF", SHOULD,
         "R29", "The JavaScript client drops U+FEFF at the beginning of a chunk: its user gets "
                "another text.", WITH_BOMS),
    Look("10.4", "10.14", goes_to_one,
         "its receiver as the only destination of the header, each chunk and the trailer", MUST,
         "R29", "Without a destination, everybody in the room receives the payload."),
    Look("10.5", "10.15", has_small_packets, "packets of at most 64,000 bytes", MUST,
         "R29 A2", "Data channels refuse larger packets: the call fails, or the connection ends."),
    Look("10.6", "10.16", has_small_chunks, "chunks of at most 15,360 bytes", SHOULD,
         "R29 A2", "No released SDK sends larger ones: proxies and small devices may not take "
                   "them."),
    Look("10.7", "10.17", tells_its_length, "a total_length that is the bytes of the text in UTF-8",
         SHOULD, "R29 A1", "Without it a receiver cannot see that the last chunks were lost, and "
                           "accepts a truncated text."),
    Look("10.8", "10.18", is_text, "a header that says that the body is text", MUST,
         "R27 A4", "Receivers read RPC from text streams only: the call ends with 1501."),
)  # fmt: skip


def _register(look: Look) -> None:
    what = "with U+FEFF all over" if look.text is WITH_BOMS else "with multi-byte characters"

    @case(
        look.request_number,
        f"The testee calls with a payload of 40,500 bytes {what}",
        sees=look.sees,
        rule=look.rule,
        why=look.why,
        level=look.level,
        methods=CALL,
        protocols=STREAMS,
        reads=1,
    )
    async def request(scene: Scene) -> None:
        alice = await scene.join("alice", capabilities=())
        await scene.call(alice, payload=look.text, times=TIMES)
        body = (await alice.gets_request(payload=look.text * TIMES)).body
        look.check(body, alice)

    @case(
        look.answer_number,
        f"The testee answers a request stream with 40,500 bytes {what}",
        sees=look.sees,
        rule=look.rule,
        why=look.why.replace("1501", "1502"),
        level=look.level,
        methods=("conform.text",),
        protocols=STREAMS,
        reads=1,
    )
    async def answer(scene: Scene) -> None:
        alice = await scene.join("alice", capabilities=())
        wanted = json.dumps({"text": look.text, "times": TIMES})
        request = alice.request("conform.text", wanted)
        body = await alice.gets_answer(request, look.text * TIMES)
        look.check(body, alice)


for _look in LOOKS:
    _register(_look)


@case(
    "10.9",
    "The testee calls with a payload of 100,000 bytes, and is answered with as many",
    sees="both whole",
    rule="R8 R29",
    why="Applications rely on payloads over 15,360 bytes between peers of client_protocol 1 and 2.",
    methods=CALL,
    protocols=STREAMS,
    reads=1,
)
async def large_both_ways(scene: Scene) -> None:
    alice = await scene.join("alice")
    call = await scene.call(alice, payload="ä€😀z", times=10_000, digest=True)
    request = await alice.gets_request(payload="ä€😀z" * 10_000)
    alice.ack(request)
    text = "z😀€ä" * 10_000
    alice.answer(request, text)
    outcome, body = await call.outcome(), text.encode()
    if outcome != (expected := {"bytes": len(body), "sha256": sha256(body).hexdigest()}):
        raise Unmet(str(expected), str(outcome))


@case(
    "10.10",
    "The testee calls twice at once with 40,000 bytes each",
    sees="two requests, each with its own stream id, each whole",
    rule="R13 R23",
    why="Receivers mix streams with the same id: calls fail, or an application gets the wrong "
    "text.",
    methods=CALL,
    protocols=STREAMS,
    reads=1,
)
async def requests_have_their_own_streams(scene: Scene) -> None:
    alice = await scene.join("alice", capabilities=())
    texts = {"first " * 7_000, "second" * 7_000}
    for text in sorted(texts):
        await scene.call(alice, payload=text)
    bodies = [(await alice.gets_request()).body for _ in texts]
    if {body.payload for body in bodies} != texts:
        raise Unmet("both payloads", "others")
    are_different_streams(bodies)


@case(
    "10.19",
    "Two participants ask for 40,000 bytes at once, one of them twice",
    sees="three answers, each with its own stream id, each whole",
    rule="R13 R23",
    why="Receivers mix streams with the same id: calls fail, or an application gets the wrong "
    "text.",
    protocols=STREAMS,
    reads=1,
)
async def answers_have_their_own_streams(scene: Scene) -> None:
    alice = await scene.join("alice", capabilities=())
    bob = await scene.join("bob", capabilities=())
    asked = []
    for number, caller in enumerate((alice, bob, alice)):
        text = f"{number}" * 40_000
        asked.append((caller, caller.request("conform.echo", text), text))
    are_different_streams([await who.gets_answer(request, text) for who, request, text in asked])


def are_different_streams(bodies: list[Body]) -> None:
    """All have headers, and stream ids that differ."""
    ids = [body.header.stream_id for body in bodies if body.header is not None]
    if len(set(ids)) < len(bodies):
        raise Unmet(f"{len(bodies)} stream ids", str(ids))


@case(
    "10.20",
    "Answers of 14,999 to 30,001 bytes are asked for, around where bodies are cut",
    sees="each of them whole",
    rule="R17 R29",
    why="A body that just fills a chunk, or just does not, would lose bytes or never end.",
    methods=SIZE,
    protocols=STREAMS,
    reads=1,
)
async def around_the_cut(scene: Scene) -> None:
    alice = await scene.join("alice", capabilities=())
    for size in (14_999, 15_000, 15_001, 15_359, 15_360, 15_361, 29_999, 30_000, 30_001):
        request = alice.request("conform.size", str(size), form=Form.CHUNKS)
        await alice.gets_answer(request, "x" * size)


@case(
    "10.21",
    "Answers of 1,000,000 bytes are asked for",
    sees="all of them whole",
    rule="R17",
    why="An application that fetches a large document by RPC gets an error, or nothing.",
    level=Level.SHOULD,
    methods=SIZE,
    protocols=STREAMS,
    reads=1,
)
async def a_million_bytes(scene: Scene) -> None:
    alice = await scene.join("alice", capabilities=())
    request = alice.request("conform.size", "1000000", form=Form.CHUNKS)
    await alice.gets_answer(request, "x" * 1_000_000)


@case(
    "10.22",
    "A participant asks for an answer of 1,000,000 bytes and leaves; another one calls",
    sees="the answer to the other",
    rule="R19 R30",
    why="One participant that leaves at the wrong moment would stop the service for all others.",
    methods=("conform.echo", "conform.size"),
    protocols=STREAMS,
    reads=1,
)
async def leaves_before_its_answer(scene: Scene) -> None:
    alice, bob = await scene.join("alice"), await scene.join("bob")
    alice.request("conform.size", "1000000")
    await scene.leave(alice)
    await bob.gets_answer(bob.request("conform.echo", "still here"), "still here")


@case(
    "10.23",
    "Answers in chunks are sent",
    sees="INFO: how many bytes a chunk has",
    rule="R29",
    why="15,000 bytes are usual; the SDKs for Swift and Android use 15,360.",
    level=Level.INFO,
    methods=("conform.text",),
    protocols=STREAMS,
    reads=1,
)
async def size_of_a_chunk(scene: Scene) -> str:
    alice = await scene.join("alice", capabilities=())
    wanted = json.dumps({"text": "x", "times": 100_000})
    body = await alice.gets_answer(alice.request("conform.text", wanted), "x" * 100_000)
    return f"a chunk has up to {max(map(len, contents(body))):,} bytes"
