"""Bodies that come in, cut anywhere: each step judged by the model (R9, R23 to R28, R31, R47)."""

import itertools
import operator
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from helpers import raw_packet
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from profiles import choose
from stateful import MOMENTS, SETTINGS, recent
from watched import Watched

from rpcproto import RpcConfig
from rpcproto.testing import counting_ids

CAP = 1_000
SCARCE = RpcConfig(
    response_timeout=60.0,
    max_payload_bytes=CAP,
    max_buffered_bytes=2_500,
    max_buffered_bytes_per_sender=1_800,
)
SCARCER = replace(
    SCARCE, departure_grace=2.0, max_buffered_bytes=1_600, max_buffered_bytes_per_sender=1_300
)
PLENTY = RpcConfig(response_timeout=60.0)
PEERS = ("bob", "carol", "dave")
EMPTY_BLOCK = b"\x00\x00\x00\xff\xff"
"""Five bytes of DEFLATE that yield nothing."""
PARTS = (
    ["the next chunk"] * 2
    + ["all the rest", "a trailer", "a trailer with a reason", "the header again", "empty blocks"]
    + ["a chunk too early", "a chunk again", "an empty chunk", "a chunk of anybody"]
    + ["its sender is replaced"]
)
STREAMS = ("s1", "s2", "s3", "s4", "s5", "s6")

bodies = st.sampled_from(
    [
        *[("hi", 1), ("", 1), ("é", 7), *[("x", 600)] * 3, ("\U0001f600", 100)],
        *[
            ("x", CAP),
            ("x", CAP),
            ("x", CAP + 1),
            ("\0", 100_000),
            ("x", 1_300_000),
            ("é", 1_250_000),
        ],
    ]
).map(lambda piece_and_count: operator.mul(*piece_and_count).encode())
faults = st.sampled_from(
    [
        *["none"] * 6,
        "a byte more",
        *["a byte more", "a byte less", "no UTF-8", "one more", "one less", "over the cap"],
    ]
)
codings = st.sampled_from(["plain", "plain", "deflated", "flushed"])
cuts = st.lists(st.integers(0, 2 * CAP), max_size=4)
numbers = st.integers(0, 3)


def coded(body: bytes, coding: str) -> bytes:
    """The body as its chunks carry it: with a final block, flushed without one, or as it is."""
    if coding == "plain":
        return body
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    half = len(body) // 2
    first = deflate.compress(body[:half]) + deflate.flush(zlib.Z_SYNC_FLUSH)
    second = deflate.compress(body[half:])
    return (
        first + second + deflate.flush(zlib.Z_FINISH if coding == "deflated" else zlib.Z_SYNC_FLUSH)
    )


def spoiled(data: bytes, fault: str) -> bytes:
    return {
        "a byte more": data + b"x",
        "a byte less": data[:-1],
        "no UTF-8": data[:1] + b"\xff" + data[1:],
    }.get(fault, data)


class Body:
    """A body under way: its header, its chunks, and how many of them have left."""

    def __init__(self, sender: str, stream_id: str, header: dict[str, Any], chunks: list[bytes]):
        self.sender, self.stream_id = sender, stream_id
        self.header, self.chunks, self.sent = header, chunks, 0


class Streams(RuleBasedStateMachine):
    """Bytes are scarce: half-read requests make room for others."""

    are_long = False

    def __init__(self) -> None:
        super().__init__()
        self.requests = 0
        self.bodies: list[Body] = []

    @initialize(is_scarcer=st.booleans(), is_sealed=st.sampled_from([False, False, True]))
    def configured(self, is_scarcer: bool, is_sealed: bool) -> None:
        self.begins(SCARCER if is_scarcer else SCARCE, is_sealed)

    def begins(self, config: RpcConfig, is_sealed: bool = False) -> None:
        self.alice = Watched("alice", counting_ids("a"), config, "greet", is_sealed=is_sealed)
        self.alice.joined("bob", "PA_bob")

    def send(self, sender: str, **fields: Any) -> None:
        self.alice.receive(raw_packet(sender, **fields))

    # a body begins

    @rule(
        sender=st.sampled_from(PEERS),
        stream_id=st.sampled_from(STREAMS),
        answers=st.booleans(),
        body=bodies,
        coding=codings,
        fault=faults,
        says_total=st.booleans(),
        at=cuts,
        inline=st.sampled_from([False, False, True]),
        goes_on=st.sampled_from(["nothing more", "all chunks", "all chunks", "all of it"]),
    )
    def begin(
        self,
        sender: str,
        stream_id: str,
        answers: bool,
        body: bytes,
        coding: str,
        fault: str,
        says_total: bool,
        at: Sequence[int],
        inline: bool,
        goes_on: str,
    ) -> None:
        if self.are_long and len(body) in (600, CAP):
            body *= 2_600
        lengths = {"one more": len(body) + 1, "one less": max(0, len(body) - 1)}
        lengths["over the cap"] = CAP + 1
        if len(body) > 100_000:
            # The model does not know how much is inflated before a fault is seen: there is none.
            coding, fault = "flushed" if coding == "flushed" else "deflated", "none"
            stream_id = f"long {len(self.bodies)}"
        elif inline and coding != "plain":
            # Others take several steps, and would make room for themselves as half-read streams do.
            coding, fault, says_total = "deflated", "none", True
        content = spoiled(coded(body, coding), fault)
        header: dict[str, Any] = {"stream_id": stream_id, "text_header": {}}
        header |= {"compression": int(coding != "plain"), **self.about(sender, answers)}
        if says_total or fault in lengths:
            header["total_length"] = lengths.get(fault, len(body))
        if inline:
            header["inline_content"] = content
        self.send(sender, stream_header=header)
        edges = [0, *sorted(edge % (len(content) + 1) for edge in at), len(content)]
        chunks = [content[a:b] for a, b in itertools.pairwise(edges)]
        self.bodies.append(Body(sender, stream_id, header, chunks))
        while goes_on != "nothing more" and self.bodies[-1].sent < len(chunks):
            self.chunk(self.bodies[-1], self.bodies[-1].sent)
        if goes_on == "all of it":
            self.part(self.bodies[-1], 0, "a trailer")

    def about(self, sender: str, answers: bool) -> dict[str, Any]:
        """What the header says of its call: a new request, or the last call to this participant."""
        if answers:
            calls = [call.id for call in self.alice.model.calls.values() if call.to == sender]
            if not calls:
                self.alice.call(sender, "hi")
                calls = self.alice.calls
            id_ = {"lk.rpc_request_id": calls[-1]}
            return {"topic": "lk.rpc_response", "attributes": id_}
        self.requests += 1
        names = {"id": f"r{self.requests}", "method": "greet", "version": "2"}
        names["response_timeout_ms"] = "60000"
        attributes = {f"lk.rpc_request_{name}": value for name, value in names.items()}
        return {"topic": "lk.rpc_request", "attributes": attributes}

    # it goes on

    def chunk(self, body: Body, index: int) -> None:
        if index < len(body.chunks):
            chunk = {"stream_id": body.stream_id, "chunk_index": index}
            self.send(body.sender, stream_chunk={**chunk, "content": body.chunks[index]})
            body.sent = max(body.sent, index + 1)

    @rule(at=numbers, parts=st.lists(st.sampled_from(PARTS), min_size=1, max_size=3))
    def go_on(self, at: int, parts: Sequence[str]) -> None:
        """Mostly with a body that is open."""
        keys = {(stream.key[0], stream.key[2]) for stream in self.alice.model.streams}
        bodies = [body for body in self.bodies if (body.sender, body.stream_id) in keys]
        body = recent(bodies if bodies and at < 3 else self.bodies, at, None)
        if body is not None:
            for what in parts:
                self.part(body, at, what)

    def part(self, body: Body, at: int, what: str) -> None:
        trailer = {"stream_id": body.stream_id}
        if what == "the next chunk":
            self.chunk(body, body.sent)
        elif what == "all the rest":
            while body.sent < len(body.chunks):
                self.chunk(body, body.sent)
            self.send(body.sender, stream_trailer=trailer)
        elif what == "a chunk too early":
            self.chunk(body, body.sent + 1)
        elif what == "a chunk again":
            self.chunk(body, at % (body.sent or 1))
        elif what in ("an empty chunk", "empty blocks"):
            is_plain = what == "an empty chunk" or not body.header["compression"]
            is_plain |= "long" in body.stream_id and body.sent < len(body.chunks)
            body.chunks.insert(body.sent, b"" if is_plain else EMPTY_BLOCK * 380)
            self.chunk(body, body.sent)
        elif what == "its sender is replaced":
            self.alice.left(body.sender)
            self.alice.joined(body.sender, ("", f"PA_{body.sender}")[at % 2])
            self.chunk(body, body.sent)
            self.send(body.sender, stream_trailer=trailer)
        elif what == "the header again":
            self.send(body.sender, stream_header=body.header)
        elif what == "a trailer":
            self.send(body.sender, stream_trailer=trailer)
        elif what == "a trailer with a reason":
            self.send(body.sender, stream_trailer={**trailer, "reason": "cancelled"})
        else:
            chunk = {"stream_id": body.stream_id, "chunk_index": body.sent, "content": b"hi"}
            for sender in sorted({*PEERS, "erin", ""} - {body.sender}):
                self.send(sender, stream_chunk=chunk)

    # the rest of the world

    @rule(
        what=st.sampled_from(["calls", "calls", "cancels", "answers", "v1", "joins", "leaves"]),
        peer=st.sampled_from(PEERS),
        sid=st.sampled_from(["PA_{}", ""]),
        at=numbers,
    )
    def something_else(self, what: str, peer: str, sid: str, at: int) -> None:
        call = recent(self.alice.calls, at, "none")
        if what == "calls":
            self.alice.call(peer, "hi")
        elif what == "cancels":
            self.alice.cancel(call)
        elif what == "answers":
            self.alice.respond(recent(self.alice.invocations, at, 0), "hello")
        elif what == "v1":  # it wins over a stream that is being read (R6)
            error = {"error": {"code": 2001, "message": "no"}}
            value = error if sid else {"payload": "v1"}
            self.send(peer, rpc_response={"request_id": call, **value})
        elif what == "joins":
            self.alice.joined(peer, sid.format(peer))
        else:
            self.alice.left(peer)

    @rule(moment=MOMENTS, told=st.sampled_from([True, True, False]))
    def time_passes(self, moment: str, told: bool) -> None:
        self.alice.time_passes(moment, told)

    def teardown(self) -> None:
        """Once everything is over, nothing is held (L17)."""
        while (deadline := self.alice.engine.next_deadline) is not None:
            self.alice.now = deadline
            self.alice.handle_deadline()
        assert self.alice.engine.statistics().buffered_bytes == 0


class LongStreams(Streams):
    """There is room for all, and many bodies are so long that they are inflated in turns."""

    are_long = True

    @initialize(grace=st.sampled_from([0.0, 2.0, 2.0]))
    def configured(self, grace: float) -> None:
        self.begins(replace(PLENTY, departure_grace=grace))


TestStreams = Streams.TestCase
TestStreams.settings = SETTINGS
TestLongStreams = LongStreams.TestCase
TestLongStreams.settings = settings(SETTINGS, max_examples=choose(fast=40, deep=800, night=8_000))
