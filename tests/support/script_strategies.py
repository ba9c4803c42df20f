"""Hypothesis strategies for the scripts of `engine_scripts`."""

import operator
from collections.abc import Callable
from typing import Any, TypeAlias

from engine_scripts import (
    NO_ONE,
    PEERS,
    US,
    Call,
    Cancel,
    Connected,
    Happens,
    Joined,
    Left,
    Receive,
    ReceiveBytes,
    Recording,
    Respond,
    RespondError,
    Script,
    SendFailed,
    Step,
    record,
)
from hypothesis import Phase, settings
from hypothesis import strategies as st
from profiles import choose
from streams import raw_deflate

from rpcproto import RpcConfig

LAW = settings(
    max_examples=choose(fast=20, deep=400, night=4_000), phases=(Phase.generate, Phase.shrink)
)
"""For each law: enough lives to find a broken rule, the same ones in every run."""

Fields: TypeAlias = Callable[[Callable[[int], str]], dict[str, Any]]

seconds = st.sampled_from([0.0, 0.0, 0.0, 0.125, 1.0, 3.5, 7.0, 10.0, 15.0])
timeouts = st.sampled_from([None, None, 0.5, 1.0, 3.25, 7.0, 8.0, 30.0])
payloads = st.sampled_from(
    [
        ("", 0),
        ("hi", 1),
        ("hi", 1),
        ("é", 600),
        ("x", 15_360),
        ("x", 15_361),
        ("\u4e16", 12_000),
        ("\ufeff", 6_000),
    ]
).map(lambda piece_and_count: operator.mul(*piece_and_count))
numbers = st.integers(0, 5)
names = st.sampled_from(["r1", "r2", "r3", "R1"])
stream_names = st.sampled_from(["s1", "s2"])
methods = st.sampled_from(["greet", "greet", "greet", "unknown", ""])
contents = st.sampled_from([b"", b"hi", b"\xff", "é".encode()[:1], b"x" * 9_000])


def request_fields(
    request_id: str, method: str, payload: str, timeout_ms: int, version: int, compressed: bytes
) -> Fields:
    fields = {
        "id": request_id,
        "method": method,
        "payload": payload,
        "response_timeout_ms": timeout_ms,
        "version": version,
        "compressed_payload": compressed,
    }
    return lambda call: {"rpc_request": fields}


requests = st.builds(
    request_fields,
    names,
    methods,
    payloads,
    st.sampled_from([0, 1_001, 8_000, 2**32 - 1]),
    st.sampled_from([1, 1, 1, 1, 0, 2]),
    st.sampled_from([b"", b"", b"", b"x"]),
)
acks = st.builds(lambda at: lambda call: {"rpc_ack": {"request_id": call(at)}}, numbers)
responses = st.builds(
    lambda at, value: lambda call: {"rpc_response": {"request_id": call(at), **value}},
    numbers,
    st.sampled_from(
        [{"payload": "hello"}, {"payload": ""}, {"error": {"code": 2001, "message": "no"}}, {}]
    ),
)


def header_fields(
    stream_id: str, attributes: dict[str, str], topic: str, at: int | None, **more: Any
) -> Fields:
    def fields(call: Callable[[int], str]) -> dict[str, Any]:
        about = {} if at is None else {"lk.rpc_request_id": call(at)}
        header = {"stream_id": stream_id, "topic": topic, "attributes": attributes | about}
        return {"stream_header": {**header, **more}}

    return fields


header_extras = st.sampled_from(
    [
        {"text_header": {}},
        {"text_header": {}, "total_length": 2},
        {"text_header": {}, "inline_content": b"hi"},
        {"text_header": {}, "inline_content": b""},
        {"text_header": {}, "inline_content": b"\xff"},
        {"text_header": {}, "compression": 1},
        {"text_header": {}, "compression": 1, "inline_content": b"\xcb\xc8\x04\x00"},
        {"text_header": {}, "total_length": 2**40},
        {"text_header": {"generated": True}},
        {"byte_header": {}},
    ]
)
request_headers = st.builds(
    lambda stream_id, request_id, method, version, timeout, more: header_fields(
        stream_id,
        {
            "lk.rpc_request_id": request_id,
            "lk.rpc_request_method": method,
            "lk.rpc_request_version": version,
            "lk.rpc_request_response_timeout_ms": timeout,
        },
        "lk.rpc_request",
        None,
        **more,
    ),
    stream_names,
    names,
    methods,
    st.sampled_from(["2", "2", "2", "1"]),
    st.sampled_from(["8000", "1000", "soon"]),
    header_extras,
)
response_headers = st.builds(
    lambda stream_id, at, more: header_fields(stream_id, {}, "lk.rpc_response", at, **more),
    stream_names,
    numbers,
    header_extras,
)
chunks = st.builds(
    lambda stream_id, index, content: (
        lambda call: {
            "stream_chunk": {"stream_id": stream_id, "chunk_index": index, "content": content}
        }
    ),
    stream_names,
    st.integers(0, 3),
    contents,
)
trailers = st.builds(
    lambda stream_id, reason: (
        lambda call: {"stream_trailer": {"stream_id": stream_id, "reason": reason}}
    ),
    stream_names,
    st.sampled_from(["", "", "cancelled"]),
)
others = st.sampled_from(
    [
        lambda call: {},
        lambda call: {"chat_message": {}},
        lambda call: {"encrypted_packet": {"encrypted_value": b"x"}},
        lambda call: {"rpc_ack": {}},
    ]
)
message_fields: st.SearchStrategy[Fields] = st.one_of(
    requests, acks, responses, request_headers, response_headers, chunks, trailers, others
)


def sids_of(peer: str) -> st.SearchStrategy[str]:
    return st.sampled_from(["", f"PA_{peer}_1", f"PA_{peer}_1", f"PA_{peer}_2"])


def steps_about(peer: str) -> st.SearchStrategy[Step]:
    """What concerns one peer and nobody else."""
    this, sids = st.just(peer), sids_of(peer)
    return st.one_of(
        st.builds(Call, this, payloads, timeouts, timeouts),
        st.builds(Cancel, this, numbers),
        st.builds(Respond, this, numbers, payloads),
        st.builds(RespondError, this, numbers, st.sampled_from([1500, 2001]), payloads),
        st.builds(Joined, this, sids, st.sampled_from([0, 0, 1, 2]), st.sampled_from([(), (2,)])),
        st.builds(Left, this, sids),
        st.builds(Receive, this, sids, st.integers(0, 4), message_fields, this),
        st.builds(Receive, this, sids, st.just(0), message_fields, this),
        st.builds(Receive, this, sids, st.just(0), message_fields, this, st.booleans()),
    )


general_steps: st.SearchStrategy[Step] = st.one_of(
    st.builds(SendFailed, st.sampled_from(PEERS), numbers),
    st.just(Happens(NO_ONE, "handle_deadline")),
    st.just(Happens(NO_ONE, "handle_deadline")),
    st.just(Happens(NO_ONE, "disconnected")),
    st.builds(Connected, st.just(NO_ONE), st.sampled_from([None, "1.7.9", "1.9.0"]), st.booleans()),
    st.builds(ReceiveBytes, st.just(NO_ONE), st.binary(max_size=40)),
    st.builds(
        Receive,
        st.sampled_from(PEERS),
        sids_of("bob"),
        st.integers(0, 4),
        message_fields,
        st.sampled_from(PEERS),
        st.booleans(),
        st.sampled_from([(US,), (), ("carol",), ("carol", US)]),
    ),
)
steps = st.one_of(*(steps_about(peer) for peer in PEERS), general_steps)

RESTS = {size: raw_deflate(b"x" * size) for size in (1_100_000, 2_200_000)}


def rest_fields(at: int | None, size: int, number: int) -> Fields:
    """A body that takes turns to be inflated (R47): the answer to a call, or a request."""
    attributes = {
        "lk.rpc_request_id": f"rest-{number}",
        "lk.rpc_request_method": "greet",
        "lk.rpc_request_version": "2",
    }
    more = {"text_header": {}, "compression": 1, "inline_content": RESTS[size]}
    topic = "lk.rpc_request" if at is None else "lk.rpc_response"
    return header_fields(f"rest-{number}", attributes, topic, at, **more)


@st.composite
def rests(draw: st.DrawFn) -> Step:
    """Such a body, from anybody."""
    peer = draw(st.sampled_from(PEERS))
    at = draw(st.none() | numbers)
    fields = rest_fields(at, draw(st.sampled_from(list(RESTS))), draw(numbers))
    return Receive(peer, "", 0, fields, peer)


@st.composite
def scripts(draw: st.DrawFn, max_size: int = 40, some: st.SearchStrategy[Step] = steps) -> Script:
    """Of any length up to `max_size`: lists by themselves are mostly short."""
    size = draw(st.integers(0, max_size))
    return draw(st.lists(st.tuples(seconds, some), min_size=size, max_size=size))


@st.composite
def recordings(draw: st.DrawFn) -> Recording:
    """What a random script comes to. (A composite: a failure does not print all strategies.)"""
    return record(draw(scripts()))


@st.composite
def long_recordings(draw: st.DrawFn) -> Recording:
    """With bodies that take turns to be inflated, and maybe with a grace for departures."""
    config = RpcConfig(departure_grace=draw(st.sampled_from([0.0, 2.0])))
    return record(draw(scripts(some=st.one_of(steps, steps, rests()))), config)
