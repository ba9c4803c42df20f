"""What the engine says of local misuse (R33): which argument it was, and what it should be."""

from collections.abc import Callable
from typing import Any

import pytest
from helpers import START, Participant

from rpcproto import LocalProtocolError, RpcConfig, RpcEngine, stamp

NOW = START
LONE: Any = "\ud800"
BYTES: Any = b"bytes"
NUMBER: Any = 7
NO_NUMBER: Any = "1"

MISUSE: list[tuple[Callable[[RpcEngine], object], str]] = [
    (lambda e: e.call("", "m", "p", now=NOW), "destination_identity must not be empty"),
    (
        lambda e: e.call("é" * 129, "m", "p", now=NOW),
        "destination_identity is 258 bytes of UTF-8, more than 256",
    ),
    (lambda e: e.call("bob", "", "p", now=NOW), "method must not be empty"),
    (lambda e: e.call("bob", "é" * 33, "p", now=NOW), "method is 66 bytes of UTF-8, more than 64"),
    (lambda e: e.call("bob", "m", BYTES, now=NOW), "payload must be a str, not bytes"),
    (lambda e: e.call("bob", "m", LONE, now=NOW), "payload is not valid Unicode text for UTF-8"),
    (lambda e: e.call("bob", "m", "p", now=NO_NUMBER), "now must be a number of seconds, not str"),
    (lambda e: e.call("bob", "m", "p", now=float("nan")), "now must be finite"),
    (lambda e: e.call("bob", "m", "p", now=10**400), "now must be finite"),
    (
        lambda e: e.call("bob", "m", "p", now=NOW, response_timeout=0),
        "response_timeout must be above 0 seconds, not 0.0",
    ),
    (
        lambda e: e.call("bob", "m", "p", now=NOW, ack_timeout=-1.5),
        "ack_timeout must be above 0 seconds, not -1.5",
    ),
    (lambda e: e.cancel("c", now=NO_NUMBER), "now must be a number of seconds, not str"),
    (lambda e: e.respond(1, NUMBER, now=NOW), "payload must be a str, not int"),
    (lambda e: e.respond_error(1, 2**32, now=NOW), "an error code is an int from 0 to 2^32 - 1"),
    (lambda e: e.respond_error(1, 7, NUMBER, now=NOW), "message must be a str, not int"),
    (lambda e: e.respond_error(1, 7, "", NUMBER, now=NOW), "data must be a str, not int"),
    (lambda e: e.register_method(""), "method must not be empty"),
    (lambda e: e.register_method("greet"), "the method 'greet' is registered already"),
    (lambda e: e.receive_packet(NUMBER, now=NOW), "a packet is bytes, not int"),
    (
        lambda e: e.receive_packet(b"", now=NOW, sender_identity=NUMBER),
        "sender_identity must be a str, not int",
    ),
    (
        lambda e: e.receive_packet(b"", now=NOW, sender_sid="PA_1"),
        "sender_identity must be a str, not NoneType",
    ),
    (
        lambda e: e.receive_packet(b"", now=NOW, sender_identity="bob", sender_sid="s" * 257),
        "sender_sid is 257 bytes of UTF-8, more than 256",
    ),
    (lambda e: e.participant_joined("", now=NOW), "identity must not be empty"),
    (
        lambda e: e.participant_joined("bob", participant_sid="s" * 257, now=NOW),
        "participant_sid is 257 bytes of UTF-8, more than 256",
    ),
    (
        lambda e: e.participant_joined("bob", client_protocol=NO_NUMBER, now=NOW),
        "client_protocol must be an int",
    ),
    (
        lambda e: e.participant_joined("bob", capabilities=NUMBER, now=NOW),
        "capabilities must be a collection of ints",
    ),
    (lambda e: e.participant_left("", now=NOW), "identity must not be empty"),
    (
        lambda e: e.participant_left("bob", participant_sid="s" * 257, now=NOW),
        "participant_sid is 257 bytes of UTF-8, more than 256",
    ),
    (lambda e: e.connected(server_version=NUMBER, now=NOW), "server_version must be a str or None"),
    (
        lambda e: e.send_failed(BYTES, now=NOW),
        "send_failed takes a packet that next_packet returned",
    ),
    (lambda e: stamp(b"", sequence=-1), "sequence must be from 0 to 2^32 - 1"),
    (lambda e: RpcEngine("", new_id=str), "identity must not be empty"),
    (lambda e: RpcEngine("i" * 257, new_id=str), "identity is 257 bytes of UTF-8, more than 256"),
    (
        lambda e: RpcEngine("alice", new_id=str, unix_time_offset=NO_NUMBER),
        "unix_time_offset must be a number of seconds, not str",
    ),
    (lambda e: RpcConfig(max_payload_bytes=0), "max_payload_bytes must be an int above 0"),
    (
        lambda e: RpcConfig(ack_timeout=NO_NUMBER),
        "ack_timeout must be a number of seconds, not str",
    ),
]


@pytest.mark.parametrize(("misuse", "text"), MISUSE, ids=[text for _, text in MISUSE])
def test_r33_misuse_is_told_by_the_name_of_the_argument(
    misuse: Callable[[RpcEngine], object], text: str
) -> None:
    with pytest.raises(LocalProtocolError) as raised:
        misuse(Participant().engine)
    assert str(raised.value) == text


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        (["c"], "the new request id 'c' is pending already"),
        ([""], "a new id must not be empty"),
        (["i" * 129], "a new id is 129 bytes of UTF-8, more than 128"),
        ([7], "a new id must be a str, not int"),
    ],
)
def test_r13_an_id_that_is_none_is_told(ids: list[Any], text: str) -> None:
    supply = iter(["c", *ids])
    alice = Participant(new_id=lambda: next(supply))
    alice.call()
    with pytest.raises(LocalProtocolError) as raised:
        alice.call()
    assert str(raised.value) == text


@pytest.mark.parametrize("bad", ["", "i" * 129])
def test_r13_a_stream_id_that_is_none_is_told(bad: str) -> None:
    supply = iter(["c", bad])
    alice = Participant(new_id=lambda: next(supply))
    alice.joined("bob", client_protocol=1)
    with pytest.raises(LocalProtocolError, match=r"^a new id "):
        alice.call()
    assert alice.statistics.pending_calls == 0


@pytest.mark.parametrize("length", [1, 128])
def test_r13_an_id_of_1_to_128_bytes_will_do(length: int) -> None:
    alice = Participant(new_id=lambda: "i" * length)
    assert alice.call() == "i" * length


def test_r1_the_bound_on_pending_calls_is_told() -> None:
    alice = Participant(config=RpcConfig(max_pending_calls=2))
    alice.call()
    alice.call()
    with pytest.raises(LocalProtocolError) as raised:
        alice.call()
    assert str(raised.value) == "2 calls are pending, which is the limit"


def test_r33_too_many_untaken_events_are_told() -> None:
    alice = Participant(config=RpcConfig(max_untaken_events=1))
    alice.receive(b"\xff")
    with pytest.raises(LocalProtocolError) as raised:
        alice.call()
    assert str(raised.value) == "too many events are untaken: call take_events"


def test_r41_r42_an_engine_that_is_disconnected_or_closed_says_so() -> None:
    alice = Participant()
    alice.disconnected()
    with pytest.raises(LocalProtocolError) as raised:
        alice.call()
    assert str(raised.value) == "the engine is disconnected"
    alice.close()
    with pytest.raises(LocalProtocolError) as raised:
        alice.call()
    assert str(raised.value) == "the engine is closed"
