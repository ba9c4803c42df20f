"""`rpcproto.wire` in the hands of those who write packets themselves: its types, and misuse."""

from collections.abc import Callable
from typing import Any

import pytest
from helpers import short

from fuzz.plain import build
from rpcproto import ErrorCode, LocalProtocolError, stamp, wire
from rpcproto.wire import (
    Ack,
    ErrorResponse,
    OutgoingMessage,
    Packet,
    Request,
    Response,
    StreamChunk,
    StreamHeader,
    StreamTrailer,
    Unread,
)

REQUEST = Request("r1", "greet", "", 8_000)
HEADER = StreamHeader("s1", "topic", {}, None, 0)
UINT32 = "must be from 0 to 2^32 - 1"
UINT64 = "must be from 0 to 2^64 - 1"
NO_TEXT = "is not valid Unicode text for UTF-8"


def test_a_header_names_its_call() -> None:
    request = HEADER._replace(attributes=wire.request_attributes("r1", "greet", 8_000))
    assert (request.request_id, request.method) == ("r1", "greet")
    response = HEADER._replace(attributes=wire.response_attributes("r1"))
    assert (response.request_id, response.method) == ("r1", "")
    assert (HEADER.request_id, HEADER.method) == ("", "")


# --- encode and decode

HOSTILE: dict[str, OutgoingMessage] = {
    "version 0": Request("r1", "greet", "", 0, 0),
    "the largest numbers": Request("r1", "", "", 2**32 - 1, 2**32 - 1),
    "a long method": Request("r1", "m" * 70_000, "x" * 70_000, 0),
    "a code of the protocol": ErrorResponse("r1", ErrorCode.SEND_FAILED, "m" * 1_000, ""),
    "no payload": Response("r1", None),
    "an empty chunk, the last of all": StreamChunk("s1", 2**64 - 1, b""),
    "the longest body": HEADER._replace(total_length=2**64 - 1),
    "the end of time": HEADER._replace(timestamp_ms=2**63 - 1),
    "before all time": HEADER._replace(timestamp_ms=-(2**63)),
    "an empty body": HEADER._replace(total_length=0, inline_content=b""),
    "an unknown compression": HEADER._replace(compression=-1),
    "empty attributes": HEADER._replace(attributes={"": "", "k": "", "lk": "v"}),
    "not a text": HEADER._replace(is_text=False),
}


@pytest.mark.parametrize("message", HOSTILE.values(), ids=HOSTILE)
def test_what_only_a_hostile_or_old_peer_sends_can_be_written(message: OutgoingMessage) -> None:
    packet = wire.decode(wire.encode(message, "", "a" * 1_000))
    assert packet == Packet("", "", ("a" * 1_000,), 0, message)


@pytest.mark.parametrize(
    "message",
    [
        Ack(""), Request("", "", "", 0), Response("", ""), ErrorResponse("", 0, "", ""),
        HEADER._replace(stream_id=""), StreamChunk("", 0, b""), StreamTrailer("", ""),
        Ack("i" * 129), Request("\u00e9" * 65, "", "", 0),
    ],
    ids=short,
)  # fmt: skip
def test_ids_that_nobody_reads_can_be_written(message: OutgoingMessage) -> None:
    data = wire.encode(message, "bob", "alice")
    assert data == build(message, "bob", "alice")
    assert wire.decode(data) is None


def but(message: Any, **fields: Any) -> Any:
    """The message with other fields, of whatever types."""
    return message._replace(**fields)


MISUSE: dict[str, tuple[Any, str]] = {
    "not a message": ("ack", "str is not a message that can be written"),
    "a packet": (
        Packet("bob", "", (), 0, Ack("r1")), "Packet is not a message that can be written"
    ),
    "unread": (Unread("user"), "Unread is not a message that can be written"),
    "id": (Ack("\udc80"), f"request_id {NO_TEXT}"),
    "method": (but(REQUEST, method=b"greet"), "method must be a str, not bytes"),
    "payload": (but(REQUEST, payload="\ud800"), f"payload {NO_TEXT}"),
    "timeout": (but(REQUEST, response_timeout_ms=2**32), f"response_timeout_ms {UINT32}"),
    "timeout in seconds": (
        but(REQUEST, response_timeout_ms=8.0), "response_timeout_ms must be an int, not float"
    ),
    "version": (but(REQUEST, version=-1), f"version {UINT32}"),
    "version that is a bool": (but(REQUEST, version=True), "version must be an int, not bool"),
    "response": (Response("r1", b""), "payload must be a str, not bytes"),  # type: ignore[arg-type]
    "response id": (Response(1, ""), "request_id must be a str, not int"),  # type: ignore[arg-type]
    "code": (ErrorResponse("r1", 2**32, "", ""), f"code {UINT32}"),
    "error message": (ErrorResponse("r1", 1, "\udfff", ""), f"message {NO_TEXT}"),
    "error data": (
        ErrorResponse("r1", 1, "", None), "data must be a str, not NoneType"  # type: ignore[arg-type]
    ),
    "stream id": (but(HEADER, stream_id=None), "stream_id must be a str, not NoneType"),
    "topic": (but(HEADER, topic="\udc80"), f"topic {NO_TEXT}"),
    "attributes": (but(HEADER, attributes=[]), "attributes must be a mapping, not list"),
    "attribute": (
        but(HEADER, attributes={"k": 2}), "a value of attributes must be a str, not int"
    ),
    "key": (but(HEADER, attributes={"\udc80": ""}), f"a key of attributes {NO_TEXT}"),
    "total length": (but(HEADER, total_length=2**64), f"total_length {UINT64}"),
    "negative length": (but(HEADER, total_length=-1), f"total_length {UINT64}"),
    "early timestamp": (
        but(HEADER, timestamp_ms=-(2**63) - 1), "timestamp_ms must be from -2^63 to 2^63 - 1"
    ),
    "late timestamp": (
        but(HEADER, timestamp_ms=2**63), "timestamp_ms must be from -2^63 to 2^63 - 1"
    ),
    "inline": (but(HEADER, inline_content="x"), "inline_content must be bytes, not str"),
    "compression": (
        but(HEADER, compression=2**31), "compression must be from -2^31 to 2^31 - 1"
    ),
    "is text": (but(HEADER, is_text=1), "is_text must be a bool, not int"),
    "generated": (but(HEADER, generated=None), "generated must be a bool, not NoneType"),
    "index": (StreamChunk("s1", 2**64, b""), f"chunk_index {UINT64}"),
    "content": (StreamChunk("s1", 0, "x"), "content must be bytes, not str"),  # type: ignore[arg-type]
    "chunk id": (StreamChunk("\udc80", 0, b""), f"stream_id {NO_TEXT}"),
    "reason": (StreamTrailer("s1", None), "reason must be a str, not NoneType"),  # type: ignore[arg-type]
}  # fmt: skip


@pytest.mark.parametrize(("message", "error"), MISUSE.values(), ids=MISUSE)
def test_what_no_packet_can_carry_is_not_written(message: Any, error: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        wire.encode(message, "bob", "alice")
    assert str(caught.value) == error


@pytest.mark.parametrize(
    ("sender", "destination", "error"),
    [
        ("\udc80", "alice", f"sender_identity {NO_TEXT}"),
        ("bob", None, "destination_identity must be a str, not NoneType"),
    ],
)
def test_names_that_are_no_texts_are_not_written(sender: Any, destination: Any, error: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        wire.encode(REQUEST, sender, destination)
    assert str(caught.value) == error


@pytest.mark.parametrize("data", ["text", None, bytearray(b""), [1]], ids=repr)
def test_only_bytes_are_read(data: Any) -> None:
    with pytest.raises(LocalProtocolError, match="data must be bytes, not "):
        wire.decode(data)


# --- stamp

SWALLOWING: dict[str, Callable[[bytes], bytes]] = {
    "an unknown field with a length": lambda stamp: b"\x9a\x06" + bytes([len(stamp)]),
    "a text that is known": lambda stamp: b"\x2a" + bytes([len(stamp)]),
    "a number without its end": lambda stamp: b"\x98\x06\x80",
    "an unknown group": lambda stamp: b"\x9b\x06",
    "a tag without its field": lambda stamp: b"\x9a",
}
"""How a packet may end so that it takes what is appended for a part of itself."""


@pytest.mark.parametrize("ending", SWALLOWING.values(), ids=SWALLOWING)
def test_a_packet_that_would_swallow_the_stamp_is_not_stamped(
    ending: Callable[[bytes], bytes],
) -> None:
    """Otherwise mallory's packet could arrive as bob's, though the hub knows who sent it."""
    forged = wire.encode(Ack("r1"), "bob", "alice")
    data = forged + ending(stamp(b"", sender_identity="mallory"))
    assert wire.decode(data) is None
    for fields in ({"sender_identity": "mallory"}, {"sender_sid": "PA_1"}):
        with pytest.raises(LocalProtocolError, match="not a complete packet"):
            stamp(data, **fields)  # type: ignore[arg-type]
    assert stamp(data, sequence=7) == data + b"\x80\x01\x07"


def test_a_packet_that_swallows_the_stamp_can_be_read_with_it() -> None:
    """So it is not enough to look at what was stamped."""
    sender = stamp(b"", sender_identity="mallory")
    data = wire.encode(Ack("r1"), "bob", "alice") + b"\x9a\x06" + bytes([len(sender)])
    packet = wire.decode(data + sender)
    assert packet is not None
    assert packet.sender_identity == "bob"


def test_a_packet_that_only_its_names_make_malformed_is_stamped() -> None:
    """The stamp replaces the sender that it claims, and a hub has refused its id already."""
    data = wire.encode(Ack("r1"), "b" * 257, "alice")
    assert wire.decode(data) is None
    packet = wire.decode(stamp(data, sender_identity="mallory"))
    assert packet == Packet("mallory", "", ("alice",), 0, Ack("r1"))


STAMP_MISUSE: dict[str, tuple[dict[str, Any], str]] = {
    "a sequence below 0": ({"sequence": -1}, f"sequence {UINT32}"),
    "a sequence that is too large": ({"sequence": 2**32}, f"sequence {UINT32}"),
    "a sequence that is a text": ({"sequence": "1"}, "sequence must be an int, not str"),
    "a lone surrogate": ({"sender_sid": "\udc80"}, f"sender_sid {NO_TEXT}"),
    "None": ({"sender_identity": None}, "sender_identity must be a str, not NoneType"),
    "a text as data": ({"data": ""}, "data must be bytes, not str"),
}


@pytest.mark.parametrize(("fields", "error"), STAMP_MISUSE.values(), ids=STAMP_MISUSE)
def test_misuse_of_stamp_raises(fields: dict[str, Any], error: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        stamp(**{"data": b"", **fields})
    assert str(caught.value) == error
