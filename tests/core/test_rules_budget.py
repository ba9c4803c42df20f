"""R22 and R28: the reserve of slots and bytes, who makes room, and when a stream is idle."""

from collections.abc import Callable, Sequence

import pytest
from helpers import START, Participant, error, just_before, request
from streams import (
    PACKED,
    Reader,
    expect_nothing_left,
    raw_deflate,
    request_header,
    response_header,
    stream,
)

from rpcproto import (
    CallAcknowledged,
    CallFailed,
    CallSucceeded,
    IgnoreReason,
    InvocationReceived,
    RpcConfig,
)
from rpcproto.wire import Ack, ErrorResponse, StreamChunk, StreamTrailer

TOO_MANY = "too many bytes"
BYTES = RpcConfig(max_buffered_bytes=1_600)
"""Seven eighths of it are 1,400 bytes, and 24 bytes are the most that is little."""
SLOTS = RpcConfig(max_invocations=640)
"""Seven eighths of it are 560 slots, and 9 slots are the most that is little."""
EMPTY_BLOCK = b"\x00\x00\x00\xff\xff"
"""Five bytes of DEFLATE that yield nothing."""


def refused(participant: Participant) -> list[tuple[str, str]]:
    """Request id and data of each refusal since the last time, all of them with 1500."""
    errors = [message for message in participant.sent() if isinstance(message, ErrorResponse)]
    assert all(each.code == 1500 for each in errors)
    return [(each.request_id, each.data) for each in errors]


def open_streams(participant: Participant) -> int:
    return participant.statistics.open_streams_in


class Alice(Participant):
    """Alice, to whom many send."""

    def asks(self, sender: str, request_id: str, size: int, sid: str = "") -> bool:
        """A request that is a packet; whether it was handed over."""
        self.receive(request(request_id, payload="x" * size), sender, sid=sid)
        return (request_id, TOO_MANY) not in refused(self)

    def holds(self, sender: str, request_id: str, size: int, sid: str = "") -> None:
        """A request of which so many bytes have come, and more are to come."""
        self.receive(request_header(request_id, f"of {request_id}"), sender, sid=sid)
        self.sends(sender, request_id, size, sid)

    def sends(self, sender: str, request_id: str, size: int, sid: str = "", index: int = 0) -> None:
        self.receive(StreamChunk(f"of {request_id}", index, b"x" * size), sender, sid=sid)

    def failed(self) -> list[str]:
        """Whose requests have failed, in order, because the bytes were used up."""
        answers = refused(self)
        assert all(data == TOO_MANY for _, data in answers)
        return [request_id for request_id, _ in answers]


# --- the reserve of bytes


@pytest.mark.parametrize(("size", "fits"), [(24, True), (25, False)])
@pytest.mark.parametrize("held", [1_376, 1_400])
def test_r28_the_last_eighth_is_for_those_who_hold_less_than_a_64th(
    held: int, size: int, fits: bool
) -> None:
    alice = Alice(config=BYTES)
    assert alice.asks("bob", "b", held)
    assert alice.asks("carol", "c", size) is (fits or held + size <= 1_400)
    assert alice.statistics.buffered_bytes == held + (size if fits else 0)


def test_r28_up_to_seven_eighths_everybody_may_hold_what_they_like() -> None:
    alice = Alice(config=BYTES)
    assert alice.asks("bob", "b1", 1_399)
    assert alice.asks("bob", "b2", 1)
    assert not alice.asks("bob", "b3", 1)
    assert alice.asks("bob", "b4", 0)


@pytest.mark.parametrize("kind", ["packet", "inline", "chunked", "compressed"])
def test_r28_what_has_no_bytes_needs_no_room(kind: str) -> None:
    alice = Alice(config=BYTES)
    alice.asks("erin", "e", 1_000)
    alice.holds("bob", "b", 400)
    assert alice.asks("carol", "c", 24)  # by which the reserve is in use
    if kind == "packet":
        alice.receive(request("b2", payload=""), "bob")
    elif kind == "inline":
        alice.receive(request_header("b2", "s2", inline_content=b""), "bob")
    else:
        fields, content = (PACKED, (raw_deflate(b""),)) if kind == "compressed" else ({}, ())
        for part in stream(request_header("b2", "s2", **fields), *content):
            alice.receive(part, "bob")
    assert alice.failed() == []
    assert handed_over(alice)[-1].payload == ""
    assert open_streams(alice) == 1


def test_r28_what_is_little_counts_all_that_a_sender_then_holds() -> None:
    alice = Alice(config=BYTES)
    alice.asks("bob", "b", 1_400)
    alice.joined("carol", "PA_1")
    assert alice.asks("carol", "c1", 20, "PA_1")
    assert not alice.asks("carol", "c2", 5, "PA_2")  # one identity, all its sids together
    assert alice.asks("carol", "c3", 4, "PA_3")
    assert not alice.asks("carol", "c4", 1)
    assert alice.asks("carol", "c5", 0)


def test_r28_the_reserve_too_has_an_end() -> None:
    alice = Alice(config=BYTES)
    alice.asks("bob", "b", 1_400)
    for number in range(8):
        assert alice.asks(f"peer-{number}", "r", 24)
    assert not alice.asks("erin", "e1", 9)
    assert alice.asks("erin", "e2", 8)
    assert not alice.asks("frank", "f", 1)
    assert alice.statistics.buffered_bytes == 1_600


@pytest.mark.parametrize(
    ("bound", "for_all"), [(1, 1), (7, 7), (8, 7), (15, 14), (16, 14), (64, 56), (65, 57)]
)
def test_r28_a_bound_below_8_has_no_reserve(bound: int, for_all: int) -> None:
    config = RpcConfig(max_buffered_bytes=bound)
    assert not Alice(config=config).asks("bob", "b", for_all + 1)
    assert Alice(config=config).asks("bob", "b", for_all)


@pytest.mark.parametrize("form", ["inline", "chunked", "compressed", "inline compressed"])
@pytest.mark.parametrize(("size", "fits"), [(200, True), (201, False)])
def test_r28_an_answer_to_a_call_of_ours_may_use_the_reserve(
    form: str, size: int, fits: bool
) -> None:
    alice = Alice(config=BYTES)
    call = alice.call("dave", response_timeout=100)
    alice.asks("bob", "b", 1_400)
    alice.events()
    body = b"x" * size
    fields = PACKED if "compressed" in form else {}
    content = raw_deflate(body) if fields else body
    if "inline" in form:
        alice.receive(response_header(call, **fields, inline_content=content), "dave")
    else:
        for part in stream(response_header(call, **fields), content[:9], content[9:]):
            alice.receive(part, "dave")
    end = alice.events()[-1]
    if fits:
        assert end == CallSucceeded(call, body.decode())
    else:
        assert isinstance(end, CallFailed)
        assert (end.code, end.data) == (1500, TOO_MANY)
    assert alice.statistics.buffered_bytes == 1_400


def test_r28_a_response_to_nobody_s_call_uses_nothing() -> None:
    alice = Alice(config=BYTES)
    call = alice.call("dave")
    alice.receive(response_header(call, inline_content=b"x" * 200), "mallory")
    alice.receive(response_header("none", inline_content=b"x" * 200), "dave")
    assert alice.statistics.buffered_bytes == 0
    assert alice.statistics.pending_calls == 1


# --- the reserve of slots


def fill_slots(alice: Alice, count: int, callers: int = 1) -> None:
    for number in range(count):
        alice.receive(request(f"r{number}"), f"caller-{number % callers}")
    assert refused(alice) == []


def test_r22_r28_the_last_eighth_of_the_slots_is_for_callers_that_have_few() -> None:
    alice = Alice(config=SLOTS)
    fill_slots(alice, 560)
    alice.receive(request("one more"), "caller-0")
    assert refused(alice) == [("one more", "too many requests")]
    for number in range(9):
        alice.receive(request(f"r{number}"), "carol", sid=f"PA_{number % 2}")
    assert refused(alice) == []
    alice.receive(request("the tenth"), "carol")
    alice.receive(request_header("a stream"), "carol")
    assert refused(alice) == [("the tenth", "too many requests"), ("a stream", "too many requests")]
    alice.receive(request("r"), "dave")
    assert alice.sent() == [Ack("r")]


def test_r22_r28_the_reserve_of_the_slots_has_an_end() -> None:
    alice = Alice(config=SLOTS)
    fill_slots(alice, 640, callers=80)
    alice.receive(request("r"), "dave")
    assert alice.sent() == [Ack("r"), error("r", 1500, data="too many requests")]


def test_r22_r28_slots_are_not_taken_back() -> None:
    """Not even those of half-read streams: there the newcomer is refused."""
    alice = Alice(config=SLOTS)
    for number in range(560):
        alice.receive(request_header(f"r{number}", f"s{number}"), "bob")
    alice.packets()
    for number in range(9):
        alice.receive(request(f"r{number}"), "carol")
    alice.receive(request("r9"), "carol")
    assert refused(alice) == [("r9", "too many requests")]
    assert open_streams(alice) == 560


@pytest.mark.parametrize(("bound", "slots"), [(1, 1), (7, 7), (8, 7), (16, 14), (64, 56)])
def test_r22_r28_slots_for_everybody_are_seven_eighths(bound: int, slots: int) -> None:
    """A bound up to 64 has no 64th of which anybody could have less and yet something."""
    alice = Alice(config=RpcConfig(max_invocations=bound))
    for number in range(slots):
        alice.receive(request("r"), f"caller-{number}")
    assert refused(alice) == []
    alice.receive(request("r"), "one-more")
    assert refused(alice) == [("r", "too many requests")]


def test_r22_r28_above_64_slots_the_last_eighth_is_for_those_who_have_none() -> None:
    alice = Alice(config=RpcConfig(max_invocations=72))
    fill_slots(alice, 63)
    for number in range(9):
        alice.receive(request("r"), f"other-{number}")
        assert refused(alice) == []
        alice.receive(request("r2"), f"other-{number}")
        assert refused(alice) == [("r2", "too many requests")]
    alice.receive(request("r"), "dave")
    assert refused(alice) == [("r", "too many requests")]


# --- who makes room


def test_r28_the_sender_that_holds_most_makes_room_its_newest_stream_first() -> None:
    alice = Alice(config=BYTES)
    alice.holds("carol", "c1", 400)
    for number in range(1, 4):
        alice.holds("bob", f"b{number}", 300)
    assert alice.failed() == []
    alice.holds("dave", "d1", 100)
    assert alice.failed() == []
    alice.sends("dave", "d1", 1, index=1)
    assert alice.failed() == ["b3"]
    assert alice.statistics.buffered_bytes == 1_101
    alice.sends("bob", "b3", 1, index=1)
    assert alice.ignored == {IgnoreReason.UNKNOWN_STREAM: 1}
    for request_id in ("b1", "b2"):
        alice.receive(StreamTrailer(f"of {request_id}", ""), "bob")
    assert [event.request_id for event in handed_over(alice)] == ["b1", "b2"]


def handed_over(participant: Participant) -> list[InvocationReceived]:
    return [event for event in participant.events() if isinstance(event, InvocationReceived)]


def test_r28_the_newest_is_the_one_that_began_last_whatever_came_last() -> None:
    alice = Alice(config=BYTES)
    alice.holds("bob", "b1", 600)
    alice.holds("bob", "b2", 600)
    alice.sends("bob", "b1", 200, index=1)
    alice.holds("carol", "c1", 25)
    assert alice.failed() == ["b2"]


def test_r28_as_many_streams_fail_as_it_takes() -> None:
    alice = Alice(config=BYTES)
    for number in range(14):
        alice.holds("bob", f"b{number}", 100)
    alice.holds("carol", "c1", 250)
    assert alice.failed() == ["b13", "b12", "b11"]
    assert alice.statistics.buffered_bytes == 1_350


def test_r28_who_holds_most_is_looked_at_again_for_each_stream() -> None:
    alice = Alice(config=BYTES)
    alice.holds("bob", "b1", 300)
    alice.holds("bob", "b2", 400)
    alice.holds("carol", "c1", 200)
    alice.holds("carol", "c2", 460)
    alice.holds("dave", "d1", 300)  # first bob holds most, then carol
    assert alice.failed() == ["b2"]
    alice.holds("erin", "e1", 300)
    assert alice.failed() == ["c2"]
    assert alice.statistics.buffered_bytes == 1_100


@pytest.mark.parametrize("first", ["bob", "carol"])
def test_r28_among_equals_it_is_the_one_whose_oldest_stream_is_oldest(first: str) -> None:
    alice = Alice(config=BYTES)
    second = "carol" if first == "bob" else "bob"
    alice.holds(first, "first1", 350)
    alice.holds(second, "second1", 350)
    alice.holds(second, "second2", 350)
    alice.holds(first, "first2", 350)
    alice.holds("dave", "d1", 25)
    assert alice.failed() == ["first2"]


@pytest.mark.parametrize(
    ("of_bob", "of_carol", "failing"), [(699, 701, "c2"), (701, 699, "b2"), (700, 700, "b2")]
)
def test_r28_one_byte_more_is_more(of_bob: int, of_carol: int, failing: str) -> None:
    alice = Alice(config=BYTES)
    alice.holds("bob", "b1", of_bob - 100)
    alice.holds("carol", "c1", of_carol - 100)
    alice.holds("bob", "b2", 100)
    alice.holds("carol", "c2", 100)
    assert alice.failed() == []
    alice.holds("dave", "d1", 25)
    assert alice.failed() == [failing]


def test_r28_who_would_hold_all_that_one_may_is_given_room() -> None:
    alice = Alice(config=RpcConfig(max_buffered_bytes=1_600, max_buffered_bytes_per_sender=500))
    for sender, size in (("bob", 500), ("carol", 500), ("dave", 400)):
        alice.holds(sender, f"of-{sender}", size)
    assert alice.asks("erin", "e", 500)


def test_r28_who_holds_most_is_known_when_a_stream_has_grown_since() -> None:
    alice = Alice(config=BYTES)
    alice.holds("bob", "b", 520)
    for sender in ("carol", "grace"):
        alice.holds(sender, sender, 440)
    alice.receive(request("d", payload="x" * 40), "dave")
    assert alice.failed() == ["b"]
    alice.holds("erin", "e", 300)
    alice.sends("erin", "e", 180, index=1)
    alice.receive(request("f", payload="x" * 50), "frank")
    assert alice.failed() == ["e"]


@pytest.mark.parametrize(("size", "is_refused"), [(300, False), (301, True)])
def test_r28_who_would_hold_more_than_anybody_is_refused(size: int, is_refused: bool) -> None:
    """The one that would hold the most does not take from those who hold less."""
    alice = Alice(config=BYTES)
    alice.asks("erin", "e", 1_100)  # in the host's hands: it cannot make room
    alice.holds("bob", "b1", 300)
    alice.receive(request("new", payload="x" * size), "carol")
    assert alice.failed() == (["new"] if is_refused else ["b1"])
    assert open_streams(alice) == int(is_refused)


def test_r28_who_holds_most_makes_room_for_itself_with_its_newest_stream() -> None:
    alice = Alice(config=BYTES)
    for number in range(1, 4):
        alice.holds("bob", f"b{number}", 400)
    alice.sends("bob", "b1", 300, index=1)
    assert alice.failed() == ["b3"]
    assert alice.statistics.buffered_bytes == 1_100
    alice.sends("bob", "b2", 301, index=1)  # which is its newest one by now
    assert alice.failed() == ["b2"]
    assert alice.statistics.buffered_bytes == 700


@pytest.mark.parametrize("kind", ["packet", "inline"])
def test_r28_a_request_that_is_whole_at_once_lets_half_read_ones_make_room(kind: str) -> None:
    alice = Alice(config=BYTES)
    alice.holds("bob", "b1", 1_400)
    if kind == "packet":
        alice.receive(request("c1", payload="x" * 500), "carol")
    else:
        alice.receive(request_header("c1", inline_content=b"x" * 500), "carol")
    assert alice.failed() == ["b1"]
    assert handed_over(alice)[0].payload == "x" * 500
    assert alice.statistics.buffered_bytes == 500


@pytest.mark.parametrize("of_b2", [600, 200])
@pytest.mark.parametrize("form", ["inline", "chunked", "compressed"])
def test_r28_half_read_requests_make_room_for_an_answer(form: str, of_b2: int) -> None:
    """Of the reserve it may need some all the same."""
    alice = Alice(config=BYTES)
    call = alice.call("dave", response_timeout=100)
    for number in range(7):
        alice.asks(f"peer-{number}", "r", 24)
    alice.holds("bob", "b1", 1_232 - of_b2)
    alice.holds("bob", "b2", of_b2)
    alice.events()
    body = b"x" * 300
    if form == "inline":
        alice.receive(response_header(call, inline_content=body), "dave")
    else:
        fields, content = (PACKED, raw_deflate(body)) if form == "compressed" else ({}, body)
        for part in stream(response_header(call, **fields), content):
            alice.receive(part, "dave")
    assert alice.failed() == ["b2"]
    assert alice.events()[-1] == CallSucceeded(call, "x" * 300)
    assert alice.statistics.buffered_bytes == 1_400 - of_b2


def test_r28_nothing_makes_room_while_the_reserve_will_do() -> None:
    alice = Alice(config=BYTES)
    call = alice.call("dave")
    alice.holds("bob", "b1", 1_400)
    alice.asks("carol", "c", 24)
    alice.receive(response_header(call, inline_content=b"x" * 176), "dave")
    assert alice.events()[-1] == CallSucceeded(call, "x" * 176)
    assert open_streams(alice) == 1


@pytest.mark.parametrize(
    "hand_over",
    [
        lambda alice: alice.receive(request("b1", payload="x" * 1_400), "bob"),
        lambda alice: alice.receive(request_header("b1", inline_content=b"x" * 1_400), "bob"),
        lambda alice: [
            alice.receive(part, "bob") for part in stream(request_header("b1"), b"x" * 1_400)
        ],
    ],
    ids=["packet", "inline", "chunked"],
)
def test_r28_what_the_host_was_handed_is_never_taken_back(
    hand_over: Callable[[Alice], object],
) -> None:
    alice = Alice(config=BYTES)
    hand_over(alice)
    [received] = handed_over(alice)
    alice.receive(request("c1", payload="x" * 100), "carol")
    assert alice.failed() == ["c1"]
    assert alice.events() == []
    assert alice.respond(received.invocation_id)
    alice.receive(request("c2", payload="x" * 100), "carol")
    assert alice.failed() == []


def test_r28_who_holds_most_in_the_host_s_hands_is_passed_over() -> None:
    """Only those who have a half-read request can make room."""
    alice = Alice(config=BYTES)
    alice.asks("erin", "e", 800)
    alice.holds("bob", "b1", 300)
    alice.holds("carol", "c1", 300)
    alice.holds("dave", "d1", 100)
    assert alice.failed() == ["b1"]


def test_r28_a_half_read_answer_does_not_make_room() -> None:
    alice = Alice(config=BYTES)
    call = alice.call("bob", response_timeout=100)
    alice.receive(response_header(call), "bob")
    alice.receive(StreamChunk("s1", 0, b"x" * 1_400), "bob")
    alice.receive(request("c1", payload="x" * 100), "carol")
    assert alice.failed() == ["c1"]
    alice.holds("bob", "b1", 0)
    alice.holds("bob", "b2", 0)
    alice.receive(request("c2", payload="x" * 100), "carol")
    assert alice.failed() == ["b2", "b1", "c2"]  # in vain: they held nothing
    alice.receive(StreamTrailer("s1", ""), "bob")
    assert alice.events()[-1] == CallSucceeded(call, "x" * 1_400)


def test_r28_over_its_own_bound_a_sender_fails_nobody_else_s_request() -> None:
    alice = Alice(config=RpcConfig(max_buffered_bytes=1_600, max_buffered_bytes_per_sender=500))
    for sender in ("bob", "carol"):
        alice.holds(sender, f"of-{sender}", 450)
    alice.holds("dave", "d1", 500)
    assert alice.failed() == []
    alice.sends("dave", "d1", 1, index=1)
    assert alice.failed() == ["d1"]
    assert open_streams(alice) == 2


def test_r28_compressed_input_that_waits_makes_room_with_its_stream() -> None:
    """It counts as held (R47)."""
    alice = Alice(config=RpcConfig(max_buffered_bytes=1_600_000))
    text = b"x" * 2**20
    bob = request_header("b1", "of b1", **PACKED)
    alice.receive(bob, "bob")
    alice.receive(StreamChunk("of b1", 0, raw_deflate(text) + bytes(800)), "bob")
    held = alice.statistics.buffered_bytes
    assert held > 2**20
    for number in range(4):
        alice.asks(f"peer-{number}", "r", 80_000)
    assert open_streams(alice) == 1
    alice.asks("dave", "d1", 80_000)
    assert open_streams(alice) == 0
    assert alice.next_deadline is not None
    assert alice.next_deadline > alice.now + 1  # nothing waits for its turn any more


def test_r28_compressed_input_that_waits_makes_room_with_its_own_stream() -> None:
    alice = Alice(config=RpcConfig(max_buffered_bytes=1_600_000))
    alice.receive(request_header("b1", "of b1", **PACKED), "bob")
    alice.receive(StreamChunk("of b1", 0, raw_deflate(b"x" * 2**20) + bytes(800)), "bob")
    for number in range(4):
        alice.asks(f"peer-{number}", "r", 80_000)
    alice.receive(StreamChunk("of b1", 1, bytes(40_000)), "bob")
    assert alice.failed() == ["b1"]
    assert alice.statistics.buffered_bytes == 320_000
    assert alice.next_deadline is not None
    assert alice.next_deadline > alice.now + 1  # nothing waits for its turn any more


def test_r28_room_is_made_again_and_again() -> None:
    """Also when bytes were given back in between, and everybody's order has changed."""
    alice = Alice(config=BYTES)
    for turn in range(60):
        sizes = {"bob": 500 + turn, "carol": 450, "dave": 400 - turn}
        for sender, size in sizes.items():
            alice.holds(sender, f"{sender}-{turn}", size)
        assert alice.failed() == []
        alice.holds("erin", f"erin-{turn}", 60)
        assert alice.failed() == [f"bob-{turn}"]
        assert alice.statistics.buffered_bytes == 910 - turn
        for sender in ("carol", "dave", "erin"):
            alice.receive(StreamTrailer(f"of {sender}-{turn}", "done"), sender)
        alice.packets()
        assert alice.statistics.buffered_bytes == 0


def test_r28_while_bytes_are_scarce_everybody_s_order_is_known() -> None:
    """Nothing is given back below half: holdings grow and shrink, and the fullest is found."""
    alice = Alice(config=BYTES)
    held = {f"peer-{number}": 100 for number in range(14)}
    for sender in held:
        alice.holds(sender, f"{sender}:0", 100)
    streams = {sender: [(f"{sender}:0", 100)] for sender in held}
    oldest = {sender: number for number, sender in enumerate(held)}
    for turn in range(1, 200):
        sender = f"peer-{turn * 5 % 14}"
        if not streams[sender]:
            oldest[sender] = 100 + turn
        request_id, size = f"{sender}:{turn}", 30 + turn * 7 % 41
        alice.holds(sender, request_id, size)
        streams[sender].append((request_id, 0))
        expected = []
        while sum(held.values()) + size > 1_400 and held[sender] + size > 24:
            fullest = max((s for s in held if streams[s]), key=lambda s: (held[s], -oldest[s]))
            if fullest != sender and held[fullest] < held[sender] + size:
                expected.append(request_id)
                streams[sender].pop()
                break
            failing, lost = streams[fullest].pop()
            held[fullest] -= lost
            expected.append(failing)
            if failing == request_id:
                break
        else:
            streams[sender][-1] = (request_id, size)
            held[sender] += size
        assert alice.failed() == expected
        assert alice.statistics.buffered_bytes == sum(held.values())


# --- nobody is locked out


SCALED = RpcConfig(
    max_payload_bytes=16_384, max_buffered_bytes=65_536, max_buffered_bytes_per_sender=32_768
)
"""The defaults, each a 1,024th of it."""
MALLORIES = ("mallory", "trudy")


def hold_half_read(alice: Alice) -> None:
    for sender in MALLORIES:
        for number in range(4):
            alice.holds(sender, f"{sender}-{number}", 8_192)


def hold_in_the_host_s_hands(alice: Alice) -> None:
    for sender in MALLORIES:
        for number in range(4):
            alice.asks(sender, f"{sender}-{number}", 8_192)


def hold_compressed(alice: Alice) -> None:
    for sender in MALLORIES:
        for number in range(2):
            alice.receive(request_header(f"{sender}-{number}", f"s{number}", **PACKED), sender)
            content = raw_deflate(b"x" * 16_384, flush=2)
            alice.receive(StreamChunk(f"s{number}", 0, content), sender)


@pytest.mark.parametrize("hold", [hold_half_read, hold_in_the_host_s_hands, hold_compressed])
def test_r28_two_senders_that_hold_all_they_may_fail_nobody_else_s_call(
    hold: Callable[[Alice], None],
) -> None:
    alice = Alice(config=SCALED)
    call, long_call = alice.call("carol"), alice.call("carol")
    hold(alice)
    assert alice.statistics.buffered_bytes >= 49_152
    alice.packets()
    alice.events()
    alice.receive(response_header(call, inline_content=b"short"), "carol")
    for part in stream(response_header(long_call), b"x" * 8_000, b"x" * 192):
        alice.receive(part, "carol")
    assert alice.events() == [
        CallSucceeded(call, "short"),
        CallAcknowledged(long_call),
        CallSucceeded(long_call, "x" * 8_192),
    ]
    for number in range(8):
        assert alice.asks(f"peer-{number}", "r", 1_023)
    assert len(handed_over(alice)) == 8


@pytest.mark.parametrize("hold", [hold_half_read, hold_compressed])
def test_r28_half_read_requests_of_two_senders_do_not_keep_a_large_request_out(
    hold: Callable[[Alice], None],
) -> None:
    alice = Alice(config=SCALED)
    hold(alice)
    alice.packets()
    for part in stream(request_header("r", timeout="20000"), b"x" * 8_192, b"x" * 8_192):
        alice.receive(part, "dave")
    assert handed_over(alice)[0].payload == "x" * 16_384


def test_r22_r28_ten_callers_that_fill_the_slots_keep_nobody_else_out() -> None:
    alice = Alice(config=RpcConfig(max_invocations=1_000, max_invocations_per_caller=100))
    for number in range(1_000):
        alice.receive(request(f"r{number}"), f"mallory-{number % 10}")
    assert len(refused(alice)) == 125
    for number in range(8):
        for at in range(15):
            alice.receive(request(f"r{at}"), f"peer-{number}")
    assert refused(alice) == []


# --- idle: a body that does not grow


def barren(alice: Reader, index: int) -> None:
    alice.receive(StreamChunk("s1", index, EMPTY_BLOCK))


@pytest.mark.parametrize("side", ["request", "response"])
def test_r28_compressed_input_that_yields_nothing_is_not_growth(side: str) -> None:
    alice = Reader(side)
    alice.receive(alice.header(**PACKED))
    alice.receive(Ack(alice.request_id))
    for index in range(14):
        alice.now += 1
        barren(alice, index)
    assert alice.next_deadline == START + 15
    alice.time_is(just_before(START + 15))
    assert alice.outcome() is None
    alice.time_is(START + 15)
    assert alice.outcome() == (1500, "no bytes for 15 seconds")


@pytest.mark.parametrize("side", ["request", "response"])
def test_r28_compressed_input_that_yields_a_byte_is_growth(side: str) -> None:
    alice = Reader(side)
    alice.receive(alice.header(**PACKED))
    alice.receive(Ack(alice.request_id))
    alice.now += 14
    alice.receive(StreamChunk("s1", 0, raw_deflate(b"x", flush=2)))
    assert alice.next_deadline == START + 29
    alice.now += 14
    barren(alice, 1)
    assert alice.next_deadline == START + 29
    alice.time_is(START + 29)
    assert alice.outcome() == (1500, "no bytes for 15 seconds")


def test_r28_the_first_bytes_of_a_character_are_growth() -> None:
    alice = Reader("request")
    alice.receive(alice.header())
    alice.now += 14
    alice.receive(StreamChunk("s1", 0, "é".encode()[:1]))
    assert alice.next_deadline == START + 29


def test_r28_the_stream_that_has_not_grown_for_longest_ends_first() -> None:
    alice = Alice()
    names: Sequence[str] = ("a", "b", "c")
    for at, name in enumerate(names):
        alice.now = START + at
        alice.receive(request_header(name, name, timeout="1000000", **PACKED))
    alice.now = START + 3
    alice.receive(StreamChunk("a", 0, raw_deflate(b"x", flush=2)))
    alice.receive(StreamChunk("b", 0, EMPTY_BLOCK))
    alice.time_is(START + 1_000)
    assert [each for each, _ in refused(alice)] == ["b", "c", "a"]
    expect_nothing_left(alice)
