"""What the tests of RPC v2 share: bodies as streams, coming in and going out."""

import zlib
from collections.abc import Iterable
from typing import Any

from helpers import MESSAGES, Participant, parsed

from rpcproto import CallFailed, CallSucceeded, InvocationReceived, OutgoingPacket, RpcConfig
from rpcproto.core.packets_pb2 import DataPacket
from rpcproto.testing import counting_ids
from rpcproto.wire import (
    DEFLATE_RAW,
    Ack,
    ErrorResponse,
    OutgoingMessage,
    StreamChunk,
    StreamHeader,
    StreamTrailer,
)

REQUEST_TOPIC = "lk.rpc_request"
RESPONSE_TOPIC = "lk.rpc_response"
CHUNK = 15_000
TURN = 1_048 / 2**20
"""How long compressed input waits for its turn (R47): the most of a millisecond that can be added
to any instant of these tests without rounding."""
MALFORMED = "RPC data stream malformed"
BOM = "\ufeff"
PACKED: dict[str, Any] = {"compression": DEFLATE_RAW}


def request_header(
    request_id: str | None = "r1",
    stream_id: str = "s1",
    *,
    method: str | None = "greet",
    timeout: str | None = "8000",
    version: str | None = "2",
    **fields: Any,
) -> StreamHeader:
    """The header of a request stream; an attribute that is None is not there."""
    attributes = {
        "lk.rpc_request_id": request_id,
        "lk.rpc_request_method": method,
        "lk.rpc_request_response_timeout_ms": timeout,
        "lk.rpc_request_version": version,
    }
    present = {key: value for key, value in attributes.items() if value is not None}
    return StreamHeader(stream_id, REQUEST_TOPIC, present, None, 0)._replace(**fields)


def response_header(request_id: str, stream_id: str = "s1", **fields: Any) -> StreamHeader:
    attributes = {"lk.rpc_request_id": request_id}
    return StreamHeader(stream_id, RESPONSE_TOPIC, attributes, None, 0)._replace(**fields)


def stream(header: StreamHeader, *contents: bytes, reason: str = "") -> list[OutgoingMessage]:
    """A whole stream: header, chunks, trailer."""
    chunks = [
        StreamChunk(header.stream_id, index, content) for index, content in enumerate(contents)
    ]
    return [header, *chunks, StreamTrailer(header.stream_id, reason)]


def raw_deflate(data: bytes, flush: int = zlib.Z_FINISH, level: int = 9) -> bytes:
    """Raw DEFLATE, by default with a final block."""
    deflate = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflate.compress(data) + deflate.flush(flush)


def inflated(data: bytes) -> bytes:
    """What was compressed; it must end with a final block, and nothing after it."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    text = inflate.decompress(data) + inflate.flush()
    assert inflate.eof
    assert not inflate.unused_data
    return text


class Reader(Participant):
    """Alice, to whom bob sends a body: as his request, or as the response to her call."""

    def __init__(self, side: str, config: RpcConfig = RpcConfig()) -> None:  # noqa: B008 (frozen)
        super().__init__(config=config)
        self.side = side
        self.request_id = "r1"
        if side == "response":
            self.request_id = self.call(response_timeout=1_000)
            self.packets()

    def header(self, stream_id: str = "s1", **fields: Any) -> StreamHeader:
        if self.side == "request":
            return request_header(self.request_id, stream_id, timeout="1000000", **fields)
        return response_header(self.request_id, stream_id, **fields)

    def receive_all(self, messages: Iterable[OutgoingMessage], sender: str = "bob") -> None:
        for message in messages:
            self.receive(message, sender)

    def outcome(self) -> str | tuple[int, str] | None:
        """How it ended: with a text, with the code and data of an error, or not yet.

        When it has ended nothing of it is left.
        """
        if self.side == "request":
            sent = [message for message in self.sent() if not isinstance(message, Ack)]
            events = [event for event in self.events() if isinstance(event, InvocationReceived)]
            if not sent and not events:
                return None
            if events:
                [received] = events
                assert sent == []
                assert self.respond(received.invocation_id)
                self.packets()
                expect_nothing_left(self)
                return received.payload
            [refusal] = sent
            assert isinstance(refusal, ErrorResponse)
            assert refusal.message == MESSAGES[refusal.code]
            expect_nothing_left(self)
            return refusal.code, refusal.data
        ends = [event for event in self.events() if isinstance(event, CallSucceeded | CallFailed)]
        if not ends:
            return None
        assert self.sent() == []
        expect_nothing_left(self)
        [end] = ends
        if isinstance(end, CallSucceeded):
            return end.payload
        assert end.message == MESSAGES[end.code]
        return end.code, end.data

    @property
    def over_cap(self) -> int:
        return 1402 if self.side == "request" else 1504


def expect_nothing_left(*participants: Participant) -> None:
    """Nothing is pending, open, buffered or waiting, and no deadline runs."""
    for participant in participants:
        counts = participant.statistics
        assert counts.pending_calls == counts.running_invocations == 0
        assert counts.open_streams_in == counts.open_streams_out == 0
        assert counts.buffered_bytes == counts.waiting_bytes == counts.waiting_packets == 0
        assert participant.next_deadline is None


def pair(
    of_alice: tuple[int, tuple[int, ...]] = (0, ()),
    of_bob: tuple[int, tuple[int, ...]] = (0, ()),
    **more: Any,
) -> tuple[Participant, Participant]:
    """Alice and bob, who know client_protocol and capabilities of each other."""
    alice = Participant("alice", **more)
    bob = Participant("bob", new_id=counting_ids("b"), **more)
    alice.joined("bob", "PA_bob", client_protocol=of_bob[0], capabilities=of_bob[1])
    bob.joined("alice", "PA_alice", client_protocol=of_alice[0], capabilities=of_alice[1])
    return alice, bob


def carry(sender: Participant, receiver: Participant) -> list[OutgoingPacket]:
    """Take and deliver packets one by one."""
    carried = []
    while (packet := sender.engine.next_packet()) is not None:
        receiver.receive(packet.data, sender.identity)
        carried.append(packet)
    return carried


def take(participant: Participant, count: int) -> list[OutgoingPacket]:
    packets = [participant.engine.next_packet() for _ in range(count)]
    return [packet for packet in packets if packet is not None]


def take_turns(participant: Participant, most: int = 1_000_000) -> int:
    """The host comes whenever compressed input is due, until nothing waits, but at `most` so often;
    returns how often it came (R47)."""
    for count in range(most):
        deadline = participant.next_deadline
        if deadline is None or deadline > participant.now + TURN:
            return count
        participant.time_is(deadline)
    return most


def shape(packets: Iterable[OutgoingPacket]) -> str:
    """Kinds of packets, a letter each: (r)equest, (a)ck, r(e)sponse, error (!), and of streams
    (H)eader, (I)nline header, (C)hunk, (T)railer and cancelling (X) trailer."""
    return "".join(_letter(parsed(packet)) for packet in packets)


def _letter(packet: DataPacket) -> str:
    kind = packet.WhichOneof("value")
    if kind == "stream_header":
        return "I" if packet.stream_header.HasField("inline_content") else "H"
    if kind == "stream_trailer":
        reason = packet.stream_trailer.reason
        assert reason in ("", "cancelled")
        return "X" if reason else "T"
    if kind == "rpc_response":
        return "!" if packet.rpc_response.HasField("error") else "e"
    return {"rpc_request": "r", "rpc_ack": "a", "stream_chunk": "C"}[kind or ""]


def contents(packets: Iterable[OutgoingPacket]) -> list[bytes]:
    """What the chunks carry, which must be numbered from 0."""
    chunks = [p.stream_chunk for p in map(parsed, packets) if p.HasField("stream_chunk")]
    assert [chunk.chunk_index for chunk in chunks] == list(range(len(chunks)))
    return [chunk.content for chunk in chunks]


def noise(size: int) -> str:
    """ASCII that compresses, but not much: always the same."""
    number, digits = 1, []
    for _ in range(size):
        number = number * 6364136223846793005 + 1442695040888963407 & (2**64 - 1)
        digits.append(chr(33 + (number >> 33) % 90))
    return "".join(digits)
