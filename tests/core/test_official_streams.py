"""Packets of official clients drive the engine: bodies as streams, and every row of the file."""

import base64
import zlib
from typing import Any

import pytest
from helpers import START, Participant, failures, parsed, sent_message
from official_packets import VECTORS, Vector
from streams import expect_nothing_left

from rpcproto import CallAcknowledged, CallFailed, CallSucceeded, PacketKind
from rpcproto.wire import Ack, Response

REQUEST, RESPONSE = "lk.rpc_request", "lk.rpc_response"
LONE_HEADER_BYTES = 40_000


def header_of(vector: Vector) -> dict[str, Any]:
    header: dict[str, Any] = vector.decoded.get("stream_header", {})
    return header


def rows_of_stream(vector: Vector) -> list[Vector]:
    """The header, and what belongs to it, in the order of the file."""
    stream_id = header_of(vector)["stream_id"]
    kinds = ("stream_header", "stream_chunk", "stream_trailer")
    return [
        row
        for row in VECTORS
        if any(row.decoded.get(kind, {}).get("stream_id") == stream_id for kind in kinds)
    ]


def text_of(rows: list[Vector]) -> str:
    """The body that was sent, by the file's own words and zlib alone."""
    header = header_of(rows[0])
    pieces = [header.get("inline_content", "")]
    pieces += [row.decoded.get("stream_chunk", {}).get("content", "") for row in rows[1:]]
    body = b"".join(map(base64.b64decode, pieces))
    if header.get("compression") == "DEFLATE_RAW":
        body = zlib.decompress(body, -zlib.MAX_WBITS)
    assert len(body) == int(header["total_length"])
    return body.decode()


REQUESTS = [[row] for row in VECTORS if "rpc_request" in row.decoded]
REQUESTS += [rows_of_stream(row) for row in VECTORS if header_of(row).get("topic") == REQUEST]
STREAMS = [rows_of_stream(row) for row in VECTORS if header_of(row).get("topic") == RESPONSE]
LONE = [rows for rows in STREAMS if header_of(rows[0])["total_length"] == str(LONE_HEADER_BYTES)]
RESPONSES = [rows for rows in STREAMS if rows not in LONE]
RESPONSES += [[row] for row in VECTORS if "rpc_response" in row.decoded]
ACKS = [[row] for row in VECTORS if "rpc_ack" in row.decoded]


def named(rows: list[Vector]) -> str:
    return f"{rows[0].line}-{rows[0].name}"


def us(vector: Vector, **more: Any) -> Participant:
    """The participant that the packet was for, which knows its sender."""
    participant = Participant(vector.to[0], methods=["m", "echo", "len"], **more)
    participant.joined(vector.sender, vector.sid, client_protocol=2, capabilities=(2,))
    return participant


def deliver(participant: Participant, rows: list[Vector], as_sent: bool) -> None:
    """As the server passes packets on, or as they were sent, on the sender's own connection."""
    for row in rows:
        if as_sent:
            participant.receive(row.data, sender_identity=row.sender, sender_sid=row.sid)
        else:
            participant.receive(row.forwarded)


each_way = pytest.mark.parametrize("as_sent", [False, True], ids=["forwarded", "as sent"])


@each_way
@pytest.mark.parametrize("rows", REQUESTS, ids=named)
def test_a_whole_official_request_is_answered(rows: list[Vector], as_sent: bool) -> None:
    first = rows[0]
    bob = us(first)
    deliver(bob, rows, as_sent)
    packet = first.decoded.get("rpc_request")
    if packet is not None:
        request_id, method, payload = packet["id"], packet["method"], packet["payload"]
        timeout_ms = packet["response_timeout_ms"]
    else:
        attributes = header_of(first)["attributes"]
        request_id, method = attributes["lk.rpc_request_id"], attributes["lk.rpc_request_method"]
        payload = text_of(rows)
        timeout_ms = int(attributes["lk.rpc_request_response_timeout_ms"])
    received = bob.invocation()
    assert (received.request_id, received.method) == (request_id, method)
    assert received.payload == payload
    assert received.caller_identity == first.sender
    assert received.response_timeout == timeout_ms / 1000
    assert bob.respond(received.invocation_id, "our answer")
    ack, answer = bob.packets()
    assert sent_message(ack) == Ack(request_id)
    assert {ack.destination_identity, answer.destination_identity} == {first.sender}
    if packet is not None:
        assert sent_message(answer) == Response(request_id, "our answer")
    else:
        assert answer.kind is PacketKind.STREAM_HEADER
        header = parsed(answer).stream_header
        assert (header.topic, header.inline_content) == (RESPONSE, b"our answer")
        assert header.attributes["lk.rpc_request_id"] == request_id
    expect_nothing_left(bob)
    assert bob.ignored == {}
    again = us(first)
    deliver(again, [*rows, rows[0]], as_sent)  # a repeat is acked, and nothing runs
    assert len(again.events()) == 1


@each_way
@pytest.mark.parametrize("rows", RESPONSES, ids=named)
def test_a_whole_official_response_completes_a_call(rows: list[Vector], as_sent: bool) -> None:
    first = rows[0]
    alice = us(first, new_id=lambda: first.answered_id)
    call = alice.call(first.sender, "m")
    alice.packets()
    deliver(alice, rows, as_sent)
    response = first.decoded.get("rpc_response", {})
    if "error" in response:
        told = response["error"]
        expected = CallFailed(call, told["code"], told["message"], told.get("data", ""))
        assert alice.events() == [expected]
    else:
        payload = response["payload"] if response else text_of(rows)
        assert alice.events() == [CallSucceeded(call, payload)]
    expect_nothing_left(alice)
    assert alice.ignored == {}


def test_the_texts_are_what_the_rows_say() -> None:
    sent = {rows[0].line: text_of(rows) for rows in STREAMS if rows not in LONE}
    assert sorted(map(len, sent.values())) == [0, 5, 6, 15, 1_000_000, 1_000_000]


@each_way
@pytest.mark.parametrize("rows", ACKS, ids=named)
def test_an_official_ack_acknowledges_a_call(rows: list[Vector], as_sent: bool) -> None:
    [ack] = rows
    alice = us(ack, new_id=lambda: ack.answered_id)
    call = alice.call(ack.sender, "m")
    deliver(alice, rows, as_sent)
    assert alice.events() == [CallAcknowledged(call)]


@each_way
def test_the_lone_response_header_opens_a_stream_that_ends_by_its_idle_time(as_sent: bool) -> None:
    [rows] = LONE
    [header] = rows
    alice = us(header, new_id=lambda: header.answered_id)
    # The id serves for the stream as well, for the source has no other.
    call = alice.call(header.sender, "m", response_timeout=60)
    alice.packets()
    deliver(alice, rows, as_sent)
    assert alice.events() == [CallAcknowledged(call)]
    assert alice.statistics.open_streams_in == 1
    assert alice.next_deadline == START + 15
    alice.time_is(START + 15)
    assert failures(alice.events()) == [(call, 1500)]
    expect_nothing_left(alice)


def test_every_row_is_used() -> None:
    used = [row.line for rows in REQUESTS + RESPONSES + ACKS + LONE for row in rows]
    assert sorted(used) == list(range(1, 33))
