"""Frames and hellos: any cut of a byte stream means the same, and no bytes do harm."""

import json
import math
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from helpers import short
from hypothesis import given
from hypothesis import strategies as st

from rpcproto import LocalProtocolError
from rpcproto.transports import BATCH_BYTES
from rpcproto.transports.framing import (
    MAX_CAPABILITIES,
    MAX_HELLO_BYTES,
    MAX_NUMBER,
    BadPeer,
    FrameReader,
    Hello,
    Link,
    frame,
)

LIMIT = 300


@st.composite
def pieces_of(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    """The stream in pieces, some of them empty."""
    cuts = draw(st.lists(st.integers(0, len(stream)), max_size=20))
    return [stream[a:b] for a, b in pairwise([0, *sorted(cuts), len(stream)])]


def frames_in(reader: FrameReader, max_bytes: int = LIMIT) -> Iterator[bytes]:
    while frames := reader.next_frames(max_bytes):
        yield from frames


def heard(link: Link, pieces: list[bytes]) -> list[object]:
    """Everything that comes of the pieces, a complaint last."""
    seen: list[object] = []
    try:
        for piece in pieces:
            link.receive_bytes(piece)
            while packets := link.next_packets():
                seen += packets
        link.receive_end()
    except BadPeer as complaint:
        seen.append(str(complaint))
    return [link.peer, *seen]


def link_of_alice() -> Link:
    return Link(Hello("alice"), LIMIT)


def hello(**fields: Any) -> bytes:
    """A frame with a hello of bob, with other or more fields."""
    return frame(json.dumps({"rpcproto": 1, "identity": "bob"} | fields).encode())


# --- frames


def test_a_frame_is_its_length_in_four_bytes_and_its_bytes() -> None:
    assert frame(b"data") == b"\0\0\0\4data"
    assert frame(b"data", b"x") == b"\0\0\0\4data\0\0\0\1x"
    assert frame(bytes(0x01020304))[:4] == b"\1\2\3\4"


@given(st.lists(st.binary(min_size=1, max_size=LIMIT), max_size=10), st.data())
def test_any_cut_of_the_stream_gives_the_same_frames(
    sent: list[bytes], data: st.DataObject
) -> None:
    reader = FrameReader()
    got: list[bytes] = []
    for piece in data.draw(pieces_of(b"".join(map(frame, sent)))):
        reader.feed(piece)
        got += frames_in(reader)
        # What is kept is a part of one frame, and nothing of those that were taken.
        assert len(reader) < 4 + LIMIT
    assert got == sent
    assert len(reader) == 0


@pytest.mark.parametrize("limit", [0, 1, LIMIT, 2**32 - 2])
def test_a_frame_over_the_limit_is_refused_by_its_length_alone(limit: int) -> None:
    reader = FrameReader()
    length = (limit + 1).to_bytes(4)
    reader.feed(length[:3])
    assert reader.next_frames(limit) == []
    reader.feed(length[3:])
    for _ in range(2):
        with pytest.raises(BadPeer, match=rf"a frame of {limit + 1} bytes, more than {limit} "):
            reader.next_frames(limit)


def test_a_frame_at_the_limit_is_taken() -> None:
    reader = FrameReader()
    reader.feed(frame(bytes(LIMIT)))
    assert reader.next_frames(LIMIT) == [bytes(LIMIT)]


def test_what_came_before_a_frame_over_the_limit_is_not_lost() -> None:
    reader = FrameReader()
    reader.feed(frame(b"good") + frame(bytes(LIMIT + 1)))
    assert reader.next_frames(LIMIT, 9, 999) == [b"good"]
    with pytest.raises(BadPeer):
        reader.next_frames(LIMIT, 9, 999)


@pytest.mark.parametrize(
    ("sizes", "most", "most_bytes", "batches"),
    [
        ([1] * 5, 2, 300, [2, 2, 1]),
        ([100, 150, 50, 1], 9, 300, [3, 1]),
        ([200, 101, 199, 1], 9, 300, [1, 2, 1]),
        ([300, 1, 300], 9, 300, [1, 1, 1]),
        ([300, 300], 9, 10, [1, 1]),
    ],
    ids=["by number", "all that fit", "the next does not fit", "the largest", "larger than all"],
)
def test_frames_come_in_batches_and_a_large_one_comes_by_itself(
    sizes: list[int], most: int, most_bytes: int, batches: list[int]
) -> None:
    reader = FrameReader()
    reader.feed(frame(*map(bytes, sizes)))
    got = [reader.next_frames(LIMIT, most, most_bytes) for _ in batches]
    assert [len(batch) for batch in got] == batches
    assert [len(data) for batch in got for data in batch] == sizes
    assert reader.next_frames(LIMIT, most, most_bytes) == []


def test_a_packet_larger_than_a_batch_comes_too() -> None:
    link = Link(Hello("alice"), 10 * BATCH_BYTES)
    link.receive_bytes(hello() + frame(b"small", bytes(2 * BATCH_BYTES), b"small"))
    assert [len(link.next_packets()) for _ in range(4)] == [1, 1, 1, 0]


@pytest.mark.parametrize(
    ("count", "size", "piece"),
    [(1, 20_000, 1), (1_500, 1, 1), (10_000, 1, 1_000_000)],
    ids=["one byte at a time", "small frames", "many frames at once"],
)
def test_time_is_linear_in_the_bytes(count: int, size: int, piece: int) -> None:
    """Sixteen times the bytes take 16 times as long, and not 256 times."""

    def seconds(count: int, size: int) -> float:
        stream = frame(*[bytes(size)] * count)
        reader, got = FrameReader(), 0
        start = time.thread_time()
        for at in range(0, len(stream), piece):
            reader.feed(stream[at : at + piece])
            for _ in frames_in(reader, size):
                got += 1
        assert got == count
        return time.thread_time() - start

    larger = (16 * count, size) if count > 1 else (count, 16 * size)
    # A busy machine makes a measure longer, and never shorter: the shortest of each count.
    few = many = math.inf
    for _ in range(5):
        few, many = min(few, seconds(count, size)), min(many, seconds(*larger))
        if many < 32 * few:
            break
    assert many < 32 * few


# --- the hello

identities = st.text(st.characters(codec="utf-8"), min_size=1, max_size=256).filter(
    lambda text: len(text.encode()) <= 256
)
numbers = st.integers(0, MAX_NUMBER)


@given(identities, numbers, st.lists(numbers, max_size=MAX_CAPABILITIES).map(tuple))
def test_a_hello_is_read_as_it_was_written(
    identity: str, client_protocol: int, capabilities: tuple[int, ...]
) -> None:
    written = Hello(identity, client_protocol, capabilities)
    assert Hello.read(written.write()) == written


@pytest.mark.parametrize("letter", ["\x01", "\x7f", "é", "\u2028", "😀"], ids=ascii)
def test_the_longest_hello_fits(letter: str) -> None:
    identity = letter * (256 // len(letter.encode()))
    longest = Hello(identity, MAX_NUMBER, (MAX_NUMBER,) * MAX_CAPABILITIES)
    assert len(longest.write()) <= MAX_HELLO_BYTES
    assert Hello.read(longest.write()) == longest


def refused(reason: str, **fields: list[object]) -> Iterator[tuple[bytes, str]]:
    """Hellos with a field that cannot be, one for each of its values, and why."""
    for name, values in fields.items():
        for value in values:
            yield hello(**{name: value})[4:], reason


def test_a_hello_on_the_wire() -> None:
    assert Hello("é", 2, (2,)).write() == (
        b'{"rpcproto":1,"identity":"\\u00e9","client_protocol":2,"capabilities":[2]}'
    )


def test_a_hello_may_say_more_than_we_know_and_less() -> None:
    assert Hello.read(hello(compression=["zstd"], room=None)[4:]) == Hello("bob", 0, ())
    assert Hello.read('{"identity": "é", "rpcproto": 1}'.encode()) == Hello("é", 0, ())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not JSON"),
        (b"hello", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"rpcproto":1', "not JSON"),
        ('{"rpcproto":1,"identity":"bob"}'.encode("utf-16"), "not JSON"),
        (b"[" * MAX_HELLO_BYTES, "not JSON"),
        (b"1" * MAX_HELLO_BYTES, "not one of rpcproto|not JSON"),
        (b"null", "not one of rpcproto"),
        (b'["rpcproto"]', "not one of rpcproto"),
        (b'{"jsonrpc":"2.0"}', "not one of rpcproto"),
        *refused("version 1", rpcproto=[0, 2, "1", True, 1.0, None]),
        (b'{"rpcproto":1}', "identity must not be empty"),
        *refused("identity", identity=["", 7, None, ["bob"], {}]),
        (hello(identity="\ud800")[4:], "identity is not valid Unicode"),
        (hello(identity="é" * 129)[4:], "identity is 258 bytes"),
        *refused(
            "client_protocol",
            client_protocol=[-1, MAX_NUMBER + 1, "2", 2.0, True, None, [2], float("nan")],
        ),
        *refused(
            "capabilities",
            capabilities=[None, 2, "2", {"2": 2}, ["2"], [-1], [True], [2**31], [[]], [1] * 65],
        ),
    ],
    ids=short,
)
def test_a_hello_that_cannot_be_is_refused_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BadPeer, match=reason):
        Hello.read(data)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Hello(""),
        lambda: Hello("é" * 129),
        lambda: Hello("\ud800"),
        lambda: Hello("alice", -1),
        lambda: Hello("alice", True),
        lambda: Hello("alice", 2, (2**31,)),
        lambda: Hello("alice", 2, (1,) * 65),
    ],
)
def test_a_hello_of_ours_that_cannot_be_is_misuse(make: Callable[[], Hello]) -> None:
    with pytest.raises(LocalProtocolError):
        make()


# --- the link


def test_two_links_greet_and_exchange_packets() -> None:
    alice, bob = link_of_alice(), Link(Hello("bob", 1, (2, 3)), LIMIT)
    bob.receive_bytes(alice.hello)
    assert bob.peer == Hello("alice")
    assert bob.next_packets() == []
    alice.receive_bytes(bob.hello + frame(b"one", b"two"))
    assert alice.peer == Hello("bob", 1, (2, 3))
    had_bytes = alice.has_bytes
    assert [alice.next_packets(), alice.next_packets()] == [[b"one", b"two"], []]
    assert (had_bytes, alice.has_bytes) == (True, False)
    alice.receive_end()


def test_there_is_no_packet_before_the_hello() -> None:
    alice = link_of_alice()
    alice.receive_bytes(hello()[:-1])
    assert (alice.peer, alice.next_packets()) == (None, [])


@pytest.mark.parametrize(
    ("stream", "complaint"),
    [
        (b"", "the stream ended before the hello"),
        (hello()[:-1], "the stream ended before the hello"),
        (b"GET / HTTP/1.1\r\n\r\n", r"1195725856 bytes, more than 4096 \(it begins with b'GET '\)"),
        (b"\x16\x03\x01\x02\x00\x01\x00", r"begins with b'\\x16\\x03\\x01\\x02'\)"),
        (frame(bytes(MAX_HELLO_BYTES + 1)), "a frame of 4097 bytes, more than 4096"),
        (frame(b"data"), "the hello is not JSON"),
        (hello(identity="alice"), "the peer has the same identity, 'alice'"),
        (hello() + b"\0\0", "the stream ended after 2 bytes of a frame"),
        (hello() + frame(b"data")[:-1], "the stream ended after 7 bytes of a frame"),
        (hello() + frame(bytes(LIMIT + 1)), "a frame of 301 bytes, more than 300"),
        (hello() + frame(b"data", b""), "an empty frame"),
        (frame(b""), "an empty frame"),
    ],
    ids=short,
)
def test_what_is_wrong_with_a_stream_is_said(stream: bytes, complaint: str) -> None:
    alice = link_of_alice()
    with pytest.raises(BadPeer, match=complaint):  # noqa: PT012 (wherever it turns out)
        alice.receive_bytes(stream)
        while alice.next_packets():
            pass
        alice.receive_end()


@given(
    st.lists(
        st.one_of(
            st.just(hello()),
            st.binary(max_size=50),
            st.binary(max_size=LIMIT).map(frame),
            st.text(max_size=50).map(lambda text: frame(text.encode())),
        ),
        max_size=6,
    ).map(b"".join),
    st.data(),
)
def test_any_bytes_mean_the_same_however_they_are_cut(stream: bytes, data: st.DataObject) -> None:
    """Garbage, too: it is complained of in the same words, and nothing else ever happens."""
    assert heard(link_of_alice(), data.draw(pieces_of(stream))) == heard(link_of_alice(), [stream])
