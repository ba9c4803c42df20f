"""Peers as they are: how clients and servers in the field behave, and that we live with each."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from helpers import (
    MESSAGES,
    START,
    Participant,
    error,
    failures,
    parsed,
    raw_packet,
    request,
    sent_message,
)
from streams import (
    BOM,
    expect_nothing_left,
    noise,
    raw_deflate,
    request_header,
    response_header,
    shape,
    stream,
    take,
)

from rpcproto import (
    CallAcknowledged,
    CallFailed,
    CallSucceeded,
    IgnoreReason,
    OutgoingPacket,
    PacketIgnored,
    PacketKind,
    random_ids,
)
from rpcproto.core.packets_pb2 import DataPacket
from rpcproto.wire import DEFLATE_RAW, Ack, OutgoingMessage, Response, StreamChunk, StreamTrailer

LONG = "a" * 40_000

REQUESTS: dict[str, list[OutgoingMessage]] = {
    "packet": [request("r1")],
    "inline": [request_header("r1", inline_content=b"hi")],
    "chunked": stream(request_header("r1"), b"h", b"i"),
}
each_request = pytest.mark.parametrize("form", REQUESTS)


def responses(call: str, text: str = "done") -> dict[str, list[OutgoingMessage]]:
    body = text.encode()
    packed = raw_deflate(body)
    compressed = response_header(call, compression=DEFLATE_RAW)
    return {
        "packet": [Response(call, text)],
        "inline": [response_header(call, inline_content=body)],
        "chunked": stream(response_header(call), body[:2], body[2:]),
        "inline compressed": [compressed._replace(inline_content=packed)],
        "compressed": stream(compressed, packed[:2], packed[2:]),
    }


each_response = pytest.mark.parametrize("form", responses(""))


def receive_all(
    participant: Participant, messages: Iterable[OutgoingMessage], sender: str = "bob"
) -> None:
    for message in messages:
        participant.receive(message, sender)


def to_everybody(message: OutgoingMessage) -> bytes:
    """A packet of bob's with an empty destination list."""
    kinds: dict[type, Callable[[Any], dict[str, Any]]] = {
        Ack: lambda ack: {"rpc_ack": {"request_id": ack.request_id}},
        Response: lambda response: {"rpc_response": response._asdict()},
        StreamChunk: lambda chunk: {"stream_chunk": chunk._asdict()},
        StreamTrailer: lambda trailer: {"stream_trailer": trailer._asdict()},
    }
    return raw_packet("bob", [], **kinds[type(message)](message))


# --- a native client waits for the ack before it looks at a response that is already there


@each_request
@pytest.mark.parametrize("answer", ["hi", LONG])
def test_a_client_that_looks_at_nothing_before_the_ack_gets_the_ack_first(
    form: str, answer: str
) -> None:
    alice = Participant()
    alice.joined("bob", client_protocol=1)
    alice.call("bob", payload=LONG)  # chunks wait
    take(alice, 2)
    receive_all(alice, REQUESTS[form])
    alice.respond(alice.invocation().invocation_id, answer)
    ours = [packet for packet in alice.packets() if packet.request_id == "r1"]
    assert ours[0].kind is PacketKind.ACK
    assert PacketKind.ACK not in [packet.kind for packet in ours[1:]]


@each_request
def test_a_client_that_looks_at_nothing_before_the_ack_gets_it_before_a_refusal(form: str) -> None:
    alice = Participant(methods=())
    receive_all(alice, REQUESTS[form])
    assert alice.sent() == [Ack("r1"), error("r1", 1400)]


# --- a duplicate reliable packet is delivered twice after a resume


@each_request
def test_a_request_that_is_delivered_twice_runs_once(form: str) -> None:
    alice = Participant()
    messages = REQUESTS[form]
    receive_all(alice, [message for message in messages for _ in range(2)])
    invocation = alice.invocation()
    assert invocation.payload == "hi"
    receive_all(alice, messages)
    assert alice.respond(invocation.invocation_id)
    receive_all(alice, messages)
    assert alice.events() == []
    acks = shape(alice.packets()).replace("HCT", "e")
    assert acks == "aaaea"


@each_response
def test_a_response_that_is_delivered_twice_completes_its_call_once(form: str) -> None:
    alice = Participant()
    call = alice.call()
    messages = responses(call)[form]
    receive_all(alice, [message for message in [Ack(call), *messages] for _ in range(2)])
    receive_all(alice, messages)
    assert alice.events() == [CallAcknowledged(call), CallSucceeded(call, "done")]
    assert alice.statistics.pending_calls == alice.statistics.open_streams_in == 0


# --- chunks and trailers are broadcast to the whole room


def test_chunks_and_trailers_that_are_broadcast_to_others_are_only_counted() -> None:
    carol = Participant("carol")
    for message in stream(request_header("r1"), b"not for carol", b"")[1:]:
        carol.receive(to_everybody(message))
    assert carol.events() == []
    assert carol.packets() == []
    assert carol.ignored == {IgnoreReason.UNKNOWN_STREAM: 3}


def test_chunks_and_trailers_that_are_broadcast_are_read_where_the_header_went() -> None:
    alice = Participant()
    header, *parts = stream(request_header("r1"), b"for ", b"alice")
    alice.receive(header)
    for part in parts:
        alice.receive(to_everybody(part))
    assert alice.invocation().payload == "for alice"


# --- ids in upper case are kept as they came, and compared exactly

UPPER = "4D1CB3A2-0000-4000-8000-00000000ABCD"


@pytest.mark.parametrize("answer", ["hi", LONG, None])
@pytest.mark.parametrize("form", ["packet", "inline"])
def test_a_request_id_in_upper_case_is_kept_as_it_came(form: str, answer: str | None) -> None:
    alice = Participant()
    alice.joined("bob", client_protocol=1)
    alice.receive(
        request(UPPER) if form == "packet" else request_header(UPPER, inline_content=b"hi")
    )
    invocation = alice.invocation()
    assert invocation.request_id == UPPER
    if answer is None:
        alice.respond_error(invocation.invocation_id, 2001, "no")
    else:
        alice.respond(invocation.invocation_id, answer)
    packets = alice.packets()
    assert {packet.request_id for packet in packets} == {UPPER}
    assert UPPER.encode() in packets[1].data
    alice.receive(request(UPPER.lower()))
    assert alice.invocation().request_id == UPPER.lower()


@each_response
def test_a_response_to_our_id_in_upper_case_is_no_response_to_it(form: str) -> None:
    alice = Participant()
    call = alice.call()
    receive_all(alice, responses(call.upper())[form])
    assert not any(isinstance(event, CallSucceeded) for event in alice.events())
    assert alice.statistics.pending_calls == 1


# --- a client that takes itself for an old one sends packets, and gets streams from some


@each_response
def test_a_v1_request_is_completed_by_a_response_in_any_form(form: str) -> None:
    alice = Participant()
    alice.joined("bob", client_protocol=0)
    call = alice.call()
    assert shape(alice.packets()) == "r"
    receive_all(alice, responses(call)[form])
    assert alice.events()[-1] == CallSucceeded(call, "done")


@pytest.mark.parametrize(("size", "expected"), [(15_360, "e"), (15_361, "HCCT"), (15_361, "I")])
def test_a_v1_request_of_a_v2_client_is_answered_with_a_packet_while_that_will_do(
    size: int, expected: str
) -> None:
    alice = Participant()
    newest = expected == "I"
    alice.joined("bob", client_protocol=1 + newest, capabilities=(2,) if newest else ())
    alice.receive(request("r1"))
    alice.respond(alice.invocation().invocation_id, "x" * size)
    assert shape(alice.packets()) == "a" + expected


# --- firmware sends acks and responses to everybody, without messages, and wants ids of 36


def test_acks_and_responses_to_everybody_count() -> None:
    alice = Participant()
    call = alice.call()
    alice.receive(to_everybody(Ack(call)))
    alice.receive(to_everybody(Response(call, "done")))
    assert alice.events() == [CallAcknowledged(call), CallSucceeded(call, "done")]
    carol = Participant("carol")
    carol.receive(to_everybody(Ack(call)))
    carol.receive(to_everybody(Response(call, "done")))
    assert carol.events() == [PacketIgnored(IgnoreReason.UNKNOWN_CALL, "bob")] * 2


@pytest.mark.parametrize("code", MESSAGES)
@pytest.mark.parametrize("protocol", [0, 2])
def test_an_error_with_an_empty_message_gets_its_standard_one(code: int, protocol: int) -> None:
    alice = Participant()
    alice.joined("bob", client_protocol=protocol)
    call = alice.call()
    failure = {"request_id": call, "error": {"code": code}}
    alice.receive(raw_packet("bob", [], rpc_response=failure))
    assert alice.events() == [CallFailed(call, code, MESSAGES[code], "")]


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_our_ids_are_uuids_of_36_lower_case_characters(protocol: int) -> None:
    alice = Participant(new_id=random_ids())
    alice.joined("bob", client_protocol=protocol)
    for _ in range(50):
        call = alice.call()
        assert len(call) == 36
        assert call == call.lower()
        [packet, *_] = alice.packets()
        assert call.encode() in packet.data
        stream_id = parsed(packet).stream_header.stream_id
        assert stream_id != call
        assert len(stream_id) == (36 if protocol else 0)


# --- JavaScript reads chunks without looking at their index, and waits for ever


class PatientReader:
    """Joins what comes, each chunk decoded by itself; a stream is open until its trailer."""

    def __init__(self) -> None:
        self.open: dict[str, str] = {}
        self.done: list[str] = []
        self.failed: list[str] = []

    def receive(self, packets: Iterable[OutgoingPacket]) -> None:
        for packet in packets:
            message = parsed(packet)
            if message.HasField("stream_header"):
                assert not message.stream_header.compression
                self.open[message.stream_header.stream_id] = ""
            elif message.HasField("stream_chunk"):
                text = message.stream_chunk.content.decode()
                self.open[message.stream_chunk.stream_id] += text
            elif message.HasField("stream_trailer"):
                text = self.open.pop(message.stream_trailer.stream_id)
                (self.failed if message.stream_trailer.reason else self.done).append(text)


def test_a_reader_that_ignores_the_index_gets_whole_texts() -> None:
    alice = Participant()
    alice.joined("bob", client_protocol=1)
    texts = [unit * 9_000 for unit in ("aé", "€", "x😀", "a" + BOM, BOM)] + ["", "short"]
    reader = PatientReader()
    for text in texts:
        alice.call(payload=text)
    reader.receive(alice.packets())
    assert sorted(reader.done) == sorted(texts)
    assert reader.open == {}


EARLY_ENDS: dict[str, Callable[[Participant, str, OutgoingPacket], object]] = {
    "cancelled": lambda alice, call, last: alice.cancel(call),
    "timed out": lambda alice, call, last: alice.time_is(START + 10),
    "answered": lambda alice, call, last: alice.receive(Response(call, "x")),
    "not sent": lambda alice, call, last: alice.send_failed(last),
}


@pytest.mark.parametrize("end", EARLY_ENDS)
@pytest.mark.parametrize("taken", range(2, 5))
def test_a_reader_that_waits_for_ever_is_told_of_every_early_end(end: str, taken: int) -> None:
    alice = Participant()
    alice.joined("bob", client_protocol=1)
    call = alice.call(payload=LONG)
    reader = PatientReader()
    packets = take(alice, taken)
    reader.receive(packets)
    EARLY_ENDS[end](alice, call, packets[-1])
    reader.receive(alice.packets())
    assert reader.open == {}
    assert len(reader.failed) == 1


# --- a cap that is counted in UTF-16 units


def test_a_v1_request_of_46080_bytes_is_accepted() -> None:
    alice = Participant()
    alice.receive(request(payload="€" * 15_360))
    assert alice.invocation().payload == "€" * 15_360


@each_response
def test_a_response_of_46080_bytes_is_accepted(form: str) -> None:
    alice = Participant()
    call = alice.call()
    receive_all(alice, responses(call, "€" * 15_360)[form])
    assert alice.events()[-1] == CallSucceeded(call, "€" * 15_360)


# --- an error text that is cut inside a character


@pytest.mark.parametrize("protocol", [0, 2])
@pytest.mark.parametrize("field", [b"\x12", b"\x1a"], ids=["message", "data"])
def test_an_error_text_that_is_cut_inside_a_character_is_ignored(
    protocol: int, field: bytes
) -> None:
    alice = Participant()
    alice.joined("bob", client_protocol=protocol)
    call = alice.call()
    cut = b"\x08\xdc\x0b" + field + b"\x03ab\xc3"
    body = b"\x0a\x24" + call.encode() + b"\x1a" + bytes([len(cut)]) + cut
    alice.receive(raw_packet() + b"\x62" + bytes([len(body)]) + body)
    assert alice.events() == [PacketIgnored(IgnoreReason.MALFORMED, "")]
    alice.receive(Ack(call))
    alice.time_is(START + 10)
    assert alice.events()[0] == CallAcknowledged(call)
    assert alice.statistics.pending_calls == 0


# --- versions that are not ours


@pytest.mark.parametrize(
    "old",
    [
        request("r1", version=0),
        request_header("r1", version=None, inline_content=b"hi"),
        request_header("r1", version="1"),
    ],
    ids=["packet", "inline", "header"],
)
def test_a_request_without_our_version_is_1404(old: OutgoingMessage) -> None:
    alice = Participant()
    alice.receive(old)
    assert alice.sent() == [Ack("r1"), error("r1", 1404)]
    expect_nothing_left(alice)


# --- hidden participants


@each_request
def test_a_hidden_participant_that_calls_is_ignored(form: str) -> None:
    alice = Participant()
    receive_all(alice, REQUESTS[form], sender="")
    assert alice.events() == [PacketIgnored(IgnoreReason.NO_SENDER, "")]
    assert alice.packets() == []
    expect_nothing_left(alice)


@each_response
@pytest.mark.parametrize("announced", [False, True])
def test_a_hidden_participant_cannot_be_called(form: str, announced: bool) -> None:
    alice = Participant()
    if announced:
        alice.joined("hidden", "PA_hidden")
    call = alice.call("hidden")
    receive_all(alice, [Ack(call), *responses(call)[form]], sender="")
    assert set(alice.events()) == {PacketIgnored(IgnoreReason.WRONG_SENDER, "")}
    alice.time_is(START + 7)
    assert failures(alice.events()) == [(call, 1501)]


# --- the server's own calls


@pytest.mark.parametrize("size", [0, 15_360, 15_361])
def test_the_server_s_own_call_is_answered_with_plain_packets(size: int) -> None:
    alice = Participant()
    alice.joined("bob", client_protocol=2, capabilities=(2,))
    alice.receive(request("SRV_1", response_timeout_ms=4_000), "SRV_1")
    [ack] = alice.packets()
    assert (ack.destination_identity, sent_message(ack)) == ("SRV_1", Ack("SRV_1"))
    alice.respond(alice.invocation().invocation_id, "x" * size)
    [answer] = alice.packets()
    assert answer.destination_identity == "SRV_1"
    message = sent_message(answer)
    assert message == (Response("SRV_1", "x" * size) if size <= 15_360 else error("SRV_1", 1504))


# --- a native client fails a response whose empty payload is absent from the wire


@pytest.mark.parametrize(
    ("form", "protocol", "expected"),
    [("packet", 0, "e"), ("packet", 2, "e"), ("inline", 0, "HT"), ("inline", 2, "I")],
)
def test_an_empty_response_is_present_on_the_wire(form: str, protocol: int, expected: str) -> None:
    alice = Participant()
    alice.joined("bob", client_protocol=protocol)
    receive_all(alice, REQUESTS[form])
    alice.respond(alice.invocation().invocation_id, "")
    _, *packets = alice.packets()
    assert shape(packets) == expected
    message = parsed(packets[0])
    if expected == "e":
        assert message.rpc_response.WhichOneof("value") == "payload"
    else:
        assert message.stream_header.HasField("total_length")
        assert message.stream_header.HasField("inline_content") == (expected == "I")


# --- headers with less in them, and chunks of another size


@pytest.mark.parametrize("mime_type", ["", "text/plain"])
@pytest.mark.parametrize("chunk_bytes", [15_000, 15_360])
def test_a_stream_without_length_or_mime_type_in_larger_chunks_is_read(
    mime_type: str, chunk_bytes: int
) -> None:
    alice = Participant()
    header = request_header("r1")
    alice.receive(
        raw_packet(
            stream_header={
                "stream_id": "s1",
                "topic": header.topic,
                "mime_type": mime_type,
                "attributes": dict(header.attributes),
                "text_header": {},
            }
        )
    )
    text = noise(40_000)
    for index, start in enumerate(range(0, len(text), chunk_bytes)):
        alice.receive(StreamChunk("s1", index, text[start : start + chunk_bytes].encode()))
    alice.receive(StreamTrailer("s1", ""))
    assert alice.invocation().payload == text


def test_a_client_that_knows_more_than_we_do_is_understood() -> None:
    """Unknown fields, and packets of a kind that nobody knows yet."""
    alice = Participant()
    unknown = b"\xfa\x7f\x03new"  # field 2047
    header, *parts = REQUESTS["chunked"]
    alice.receive(header)
    for part in parts:
        alice.receive(DataPacket(participant_identity="bob").SerializeToString() + unknown)
        alice.receive(to_everybody(part) + unknown)
    assert alice.invocation().payload == "hi"
    assert alice.ignored == {IgnoreReason.UNKNOWN_KIND: 3}
