"""The laws L1 to L17, each held against random lives of an engine, or of three in one room."""

import os
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from engine_scripts import (
    PEERS,
    US,
    Happens,
    Input,
    Outcome,
    Recorder,
    Recording,
    Step,
    digest,
    play,
    record,
)
from helpers import Participant, just_before, raw_packet, request
from hypothesis import given
from hypothesis import strategies as st
from memory import least_memory, traced_memory
from paths import TESTS
from room import Room, moves
from script_strategies import LAW, long_recordings, recordings, scripts, seconds, steps_about
from streams import PACKED, TURN, raw_deflate, request_header

from rpcproto import (
    CallFailed,
    CallSucceeded,
    Event,
    IgnoreReason,
    InvocationAbandoned,
    InvocationReceived,
    LocalProtocolError,
    OutgoingPacket,
    PacketIgnored,
    PacketKind,
    RpcConfig,
    RpcEngine,
    wire,
)
from rpcproto.core.packets_pb2 import DataPacket
from rpcproto.wire import Response

# What a failure is about can be long.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")


# --- L1: same config, ids and inputs, same outputs


@LAW
@given(long_recordings())
def test_l1_the_same_inputs_give_the_same_outputs(recording: Recording) -> None:
    assert recording.replay() == recording.outcomes


def test_l1_in_other_processes_too() -> None:
    lives: list[Recording] = []

    @LAW
    @given(recordings())
    def collect(recording: Recording) -> None:
        lives.append(recording)

    collect()
    expected = [digest(life.outcomes) for life in lives]
    for seed in ("1", "2"):
        child = subprocess.run(
            [sys.executable, str(TESTS / "support" / "engine_scripts.py")],
            input=pickle.dumps([life._replace(outcomes=()) for life in lives]),
            capture_output=True,
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
        )
        assert child.stdout.decode().split() == expected


# --- L2: reads change nothing


@LAW
@given(long_recordings())
def test_l2_reads_change_nothing(recording: Recording) -> None:
    engine = recording.engine()
    for input_, outcome in zip(recording.inputs, recording.outcomes, strict=True):
        for _ in range(2):
            engine.statistics()
            engine.next_deadline  # noqa: B018
            repr(engine)
        assert play(engine, input_) == outcome
        assert engine.next_deadline == outcome.next_deadline
        assert engine.statistics() == outcome.statistics


# --- L3: when results are taken changes nothing but how far an ended stream has got


def taken(recording: Recording, take_after: Callable[[int], bool]) -> tuple[Any, ...]:
    """Events, small packets, and the bytes of each long stream with whether it came to its end.

    Before the connection is lost everything is taken, for what waits then is dropped.
    """
    engine = recording.engine()
    events: list[Event] = []
    packets: list[OutgoingPacket] = []
    for at, input_ in enumerate(recording.inputs):
        if input_.method == "send_failed":
            continue
        if input_.method == "disconnected" or take_after(at):
            packets.extend(iter(engine.next_packet, None))
            events.extend(engine.take_events())
        input_.apply(engine)
    packets.extend(iter(engine.next_packet, None))
    events.extend(engine.take_events())
    small, bodies, ended = [], dict[str, bytes](), set[str]()
    for packet in packets:
        parsed = DataPacket.FromString(packet.data)
        header, chunk, trailer = parsed.stream_header, parsed.stream_chunk, parsed.stream_trailer
        if header.total_length > 15_000 and not header.HasField("inline_content"):
            bodies[header.stream_id] = b""
        if chunk.stream_id in bodies:
            bodies[chunk.stream_id] += chunk.content
        elif trailer.stream_id in bodies:
            ended.update([] if trailer.reason else [trailer.stream_id])
        else:
            small.append(packet)
    return events, small, bodies, ended


@LAW
@given(recordings(), st.sets(st.integers(0, 30)))
def test_l3_when_results_are_taken_changes_nothing(recording: Recording, at: set[int]) -> None:
    events, small, bodies, ended = taken(recording, lambda _: True)
    for take_after in (lambda _: False, at.__contains__):
        other_events, other_small, other_bodies, other_ended = taken(recording, take_after)
        assert other_events == events
        assert other_small == small
        assert other_bodies.keys() == bodies.keys()
        for stream_id, body in bodies.items():
            shorter, longer = sorted((body, other_bodies[stream_id]), key=len)
            assert longer.startswith(shorter)
            if stream_id in ended & other_ended:
                assert shorter == longer


# --- L4: every call ends exactly once


def assert_ends_once(calls: Sequence[str], ends: Sequence[str]) -> None:
    assert Counter(calls) == Counter(ends)


def ends_of(outcome: Outcome, input_: Input) -> Iterator[str]:
    for event in outcome.events:
        if isinstance(event, CallSucceeded | CallFailed):
            yield event.request_id
    if input_.method == "cancel" and outcome.result is True:
        yield input_.args[0]


@LAW
@given(long_recordings())
def test_l4_every_call_ends_exactly_once(recording: Recording) -> None:
    after = Input("handle_deadline", now=1e9)
    inputs = [*recording.inputs, after]
    outcomes = recording.replay(inputs)
    results = [o.result for i, o in zip(inputs, outcomes, strict=True) if i.method == "call"]
    calls = [result for result in results if isinstance(result, str)]
    ends = [end for i, o in zip(inputs, outcomes, strict=True) for end in ends_of(o, i)]
    assert_ends_once(calls, ends)
    assert outcomes[-1].statistics.pending_calls == 0


@LAW
@given(moves())
def test_l4_in_a_room_of_three_every_call_ends_exactly_once(script: list[Any]) -> None:
    room = Room()
    room.play(script)
    room.heal()
    for member in room.members.values():
        ended = [e.request_id for e in member.events if isinstance(e, CallSucceeded | CallFailed)]
        assert_ends_once(member.calls, [*ended, *member.cancelled])


# --- L5: remote input never raises; local misuse raises and changes nothing


MISUSES = [
    Input("call", ("bob", "greet", "\ud800"), now=1e9),
    Input("call", ("bob", "", "hi"), now=1e9),
    Input("call", ("bob", "greet", "hi"), {"response_timeout": 0}, now=1e9),
    Input("respond", (1, "\ud800"), now=1e9),
    Input("respond_error", (1, -1), now=1e9),
    Input("participant_joined", ("",), now=1e9),
    Input("receive_packet", (b"",), now=float("nan")),
    Input("handle_deadline", now=float("inf")),
    Input("register_method", ("greet",)),
]


@LAW
@given(recordings(), st.lists(st.sampled_from(MISUSES), min_size=1))
def test_l5_local_misuse_raises_and_changes_nothing(
    recording: Recording, misuses: list[Input]
) -> None:
    engine = recording.engine()
    for at, (input_, outcome) in enumerate(zip(recording.inputs, recording.outcomes, strict=True)):
        assert play(engine, input_) == outcome
        misuse = play(engine, misuses[at % len(misuses)])
        assert misuse == outcome._replace(result=LocalProtocolError, events=(), packets=())


@LAW
@given(recordings(), st.lists(st.binary(max_size=200)))
def test_l5_remote_input_never_raises(recording: Recording, received: list[bytes]) -> None:
    engine = recording.engine()
    for input_ in recording.inputs:
        input_.apply(engine)
    for data in received:
        engine.receive_packet(data, now=0)


# --- L6: handle_deadline


@LAW
@given(long_recordings())
def test_l6_handle_deadline_early_or_repeated_is_a_no_op(recording: Recording) -> None:
    engine = recording.engine()
    now = -1e9
    for input_, outcome in zip(recording.inputs, recording.outcomes, strict=True):
        assert play(engine, input_) == outcome
        now = max(now, now if input_.now is None else input_.now)
        is_early = outcome.next_deadline is None or outcome.next_deadline > now
        if is_early or input_.method == "handle_deadline":
            nothing = outcome._replace(result=None, events=(), packets=())
            assert play(engine, Input("handle_deadline", now=now)) == nothing


@LAW
@given(long_recordings())
def test_l6_just_before_the_next_deadline_nothing_is_due(recording: Recording) -> None:
    now, deadline = 0.0, None
    for at, outcome in enumerate(recording.outcomes):
        now = max(now, recording.inputs[at].now or 0.0)
        is_new, deadline = outcome.next_deadline != deadline, outcome.next_deadline
        if is_new and deadline is not None and deadline > now:
            early = Input("handle_deadline", now=just_before(deadline))
            *_, last = recording.replay([*recording.inputs[: at + 1], early])
            assert last == outcome._replace(result=None, events=(), packets=())


@LAW
@given(long_recordings())
def test_l6_late_it_inflates_one_turn_and_fires_all_that_is_due(recording: Recording) -> None:
    """What is left of the turn (R47) is due a millisecond after that, and nothing else before."""
    engine = recording.engine()
    for input_ in recording.inputs:
        play(engine, input_)
    counts = engine.statistics()
    engine.handle_deadline(now=1e6)
    late = engine.statistics()
    assert late.pending_calls == late.running_invocations == 0
    assert late.buffered_bytes <= counts.buffered_bytes + 2**20
    assert engine.next_deadline is None


@LAW
@given(recordings())
def test_l6_late_fires_all_that_is_due_in_order(recording: Recording) -> None:
    """One late call of handle_deadline is the same as one at each deadline. (What is inflated takes
    its turns.)"""
    late, punctual = recording.engine(), recording.engine()
    for input_ in recording.inputs:
        for engine in (late, punctual):
            play(engine, input_)
    late.handle_deadline(now=1e9)
    while (deadline := punctual.next_deadline) is not None:
        punctual.handle_deadline(now=deadline)
    assert late.take_events() == punctual.take_events()
    assert late.statistics() == punctual.statistics()


@LAW
@given(long_recordings())
def test_l6_after_close_it_is_a_no_op(recording: Recording) -> None:
    engine = recording.engine()
    for input_ in (*recording.inputs, Input("close", now=0)):
        closed = play(engine, input_)
    late = play(engine, Input("handle_deadline", now=1e9))
    assert late == closed._replace(events=(), packets=(), next_deadline=None)


# --- L7, L8: what next_deadline says


@LAW
@given(long_recordings(), st.floats(0, 100))
def test_l7_after_handle_deadline_the_next_one_is_later(recording: Recording, later: float) -> None:
    engine = recording.engine()
    now = 0.0
    for input_ in recording.inputs:
        play(engine, input_)
        now = max(now, input_.now or 0.0)
        if input_.method == "handle_deadline":
            assert engine.next_deadline is None or engine.next_deadline > now
    now += later
    engine.handle_deadline(now=now)
    assert engine.next_deadline is None or engine.next_deadline > now


@LAW
@given(long_recordings())
def test_l8_there_is_a_deadline_exactly_when_something_is_open(recording: Recording) -> None:
    for outcome in recording.outcomes:
        counts = outcome.statistics
        is_open = counts.pending_calls + counts.running_invocations + counts.open_streams_in > 0
        assert (outcome.next_deadline is not None) is is_open


# --- L9, L10: time


@LAW
@given(long_recordings(), st.lists(st.sampled_from([0.0, 0.125, 5.0, 1e6]), min_size=1))
def test_l9_time_that_goes_back_stands_still(recording: Recording, steps: list[float]) -> None:
    """Each `now` is given once as the greatest so far, and once with something taken off."""
    forward = [input_ for input_ in recording.inputs if input_.now is not None]
    back = [
        input_._replace(now=(input_.now or 0.0) - steps[at % len(steps)])
        for at, input_ in enumerate(forward)
    ]
    so_far = -1e9
    clamped = []
    for input_ in back:
        so_far = max(so_far, input_.now or 0.0)
        clamped.append(input_._replace(now=so_far))
    assert recording.replay(back) == recording.replay(clamped)


@LAW
@given(long_recordings(), st.integers(-(2**42), 2**42 - 2**21))
def test_l10_a_constant_added_to_time_shifts_the_deadlines_alone(
    recording: Recording, shift: int
) -> None:
    constant = shift / 1024
    engine = recording.engine(unix_time_offset=-constant)
    for input_, outcome in zip(recording.inputs, recording.outcomes, strict=True):
        now = None if input_.now is None else input_.now + constant
        shifted = play(engine, input_._replace(now=now))
        deadline = outcome.next_deadline
        assert shifted == outcome._replace(
            next_deadline=None if deadline is None else deadline + constant
        )


# --- L11: names


NEW_NAMES = {
    "alice": "zo\u00eb-",
    "bob": "\u4e16",
    "carol": "c\u00e9\u00e9",
    "dave": "\u03b1\u03b2",
}


def renamed(value: Any) -> Any:
    """The same with all names and ids replaced, wherever they are within."""
    if isinstance(value, str):
        for old, new in NEW_NAMES.items():
            value = value.replace(old, new)
    elif isinstance(value, bytes):
        for old, new in NEW_NAMES.items():
            value = value.replace(old.encode(), new.encode())
    elif isinstance(value, tuple) and hasattr(value, "_make"):
        value = value._make(renamed(part) for part in value)
    elif isinstance(value, tuple | list):
        value = type(value)(renamed(part) for part in value)
    elif isinstance(value, dict):
        value = {key: renamed(part) for key, part in value.items()}
    return value


@LAW
@given(recordings())
def test_l11_other_names_of_the_same_length_change_nothing_else(recording: Recording) -> None:
    assert all(len(old) == len(new.encode()) for old, new in NEW_NAMES.items())
    ids = iter(renamed(recording.ids))
    engine = RpcEngine(renamed(US), new_id=lambda: next(ids))
    for input_, outcome in zip(recording.inputs, recording.outcomes, strict=True):
        assert play(engine, renamed(input_)) == renamed(outcome)


# --- L12: inputs about different peers commute


Rounds = list[tuple[float, list[Step], list[Step]]]


@st.composite
def rounds_of_steps(draw: st.DrawFn) -> Rounds:
    about_each = (st.lists(steps_about(peer), max_size=8) for peer in ("bob", "carol"))
    size = draw(st.integers(0, 8))
    return draw(st.lists(st.tuples(seconds, *about_each), min_size=size, max_size=size))


def seen_by_each(rounds: Rounds, order: Callable[[list[Step], list[Step]], list[Step]]) -> object:
    """What comes of it for each peer, with invocations by their number among the peer's own."""
    recorder = Recorder()
    for passed, *both in rounds:
        for step in order(*both):
            recorder.step(step)
        recorder.now += passed
        recorder.play(Input("handle_deadline", now=recorder.now), "")
    events: dict[str, list[object]] = {peer: [] for peer in (*PEERS, "")}
    packets: dict[str, list[object]] = {peer: [] for peer in PEERS}
    own_number: dict[int, tuple[str, int]] = {}
    for outcome in recorder.recording().outcomes:
        for event in outcome.events:
            match event:
                case InvocationReceived(invocation_id, _, peer):
                    number = len([owner for owner, _ in own_number.values() if owner == peer])
                    own_number[invocation_id] = peer, number
                    events[peer].append(event._replace(invocation_id=number))
                case InvocationAbandoned(invocation_id):
                    peer, number = own_number[invocation_id]
                    events[peer].append(event._replace(invocation_id=number))
                case PacketIgnored():
                    events[event.sender_identity].append(event)
                case _:
                    events[event.request_id.partition("-")[0]].append(event)
        for packet in outcome.packets:
            packets[packet.destination_identity].append(packet._replace(token=0))
    return events, packets, recorder.recording().outcomes[-1][3:]


def in_turns(one: list[Step], other: list[Step]) -> list[Step]:
    rest = one[len(other) :] + other[len(one) :]
    return [step for pair in zip(other, one, strict=False) for step in pair] + rest


@LAW
@given(rounds_of_steps())
def test_l12_inputs_about_different_peers_commute(rounds: Rounds) -> None:
    one_first = seen_by_each(rounds, lambda one, other: one + other)
    assert seen_by_each(rounds, lambda one, other: other + one) == one_first
    assert seen_by_each(rounds, in_turns) == one_first


# --- L13: only the participant that was called can answer


FORGED: list[Callable[[str], dict[str, Any]]] = [
    lambda call: {"rpc_ack": {"request_id": call}},
    lambda call: {"rpc_response": {"request_id": call, "payload": "forged"}},
    lambda call: {"rpc_response": {"request_id": call, "error": {"code": 666}}},
    lambda call: {
        "stream_header": {
            "stream_id": "forged",
            "topic": "lk.rpc_response",
            "attributes": {"lk.rpc_request_id": call},
            "text_header": {},
            "inline_content": b"forged",
        }
    },
    lambda call: {"stream_chunk": {"stream_id": call, "content": b"forged"}},
    lambda call: {"stream_trailer": {"stream_id": call}},
]


@LAW
@given(recordings(), st.lists(st.tuples(st.sampled_from(FORGED), st.integers(0, 9)), min_size=1))
def test_l13_an_answer_counts_only_from_the_participant_that_was_called(
    recording: Recording, forged: list[tuple[Callable[[str], dict[str, Any]], int]]
) -> None:
    """Whatever mallory says about our calls, nothing but the count of ignored packets differs."""
    engine = recording.engine()
    now = 0.0
    for at, (input_, outcome) in enumerate(zip(recording.inputs, recording.outcomes, strict=True)):
        played = play(engine, input_)
        assert played._replace(statistics=outcome.statistics) == outcome
        now = max(now, input_.now or 0.0)
        fields, which = forged[at % len(forged)]
        for call in recording.ids[which::10]:
            packet = raw_packet("mallory", [US], **fields(call))
            nothing = play(engine, Input("receive_packet", (packet,), now=now))
            assert all(isinstance(event, PacketIgnored) for event in nothing.events)
            assert (nothing.packets, nothing.next_deadline) == ((), outcome.next_deadline)


# --- L14: memory


TINY = RpcConfig(
    max_payload_bytes=2_000,
    max_packet_bytes=4_000,
    max_buffered_bytes=8_000,
    max_buffered_bytes_per_sender=4_000,
    max_waiting_bytes=8_000,
    max_pending_calls=8,
    max_invocations=8,
    max_invocations_per_caller=4,
    max_waiting_packets=16,
    max_untaken_events=32,
    remembered_requests=16,
    remembered_requests_per_caller=4,
    sequence_window=64,
    max_participants=8,
)


def fresh_requests(alice: Participant, number: int) -> None:
    alice.receive(request(f"r{number}", payload="x" * 900), f"peer-{number % 50}")


def fresh_callers(alice: Participant, number: int) -> None:
    alice.receive(request("r", "unknown"), f"peer-{number}", sid=f"PA_{number}", sequence=number)


def fresh_streams(alice: Participant, number: int) -> None:
    header = {
        "stream_id": f"s{number}",
        "topic": "lk.rpc_request",
        "attributes": {"lk.rpc_request_id": f"r{number}", "lk.rpc_request_version": "2"},
        "text_header": {},
    }
    peer = f"peer-{number % 50}"
    alice.receive(raw_packet(peer, stream_header=header))
    chunk = {"stream_id": f"s{number}", "content": b"x" * 900}
    alice.receive(raw_packet(peer, stream_chunk=chunk))


def answered_requests(alice: Participant, number: int) -> None:
    alice.receive(request(f"r{number}"), f"peer-{number % 50}", sid=f"PA_{number}")
    for event in alice.events():
        if isinstance(event, InvocationReceived):
            alice.respond(event.invocation_id)
    alice.packets()


def calls_that_are_never_answered(alice: Participant, number: int) -> None:
    if alice.statistics.pending_calls == TINY.max_pending_calls:
        alice.time_is(alice.now + 20)
    alice.call(f"peer-{number}", response_timeout=1 + number % 17)
    alice.events()
    alice.packets()


def calls_that_fail_at_once(alice: Participant, number: int) -> None:
    alice.call("alice", payload=str(number))
    alice.events()


def comers_and_goers(alice: Participant, number: int) -> None:
    identity, sid = f"peer-{number}", f"PA_{number}"
    alice.joined(identity, sid)
    alice.receive(request("r"), identity, sid=sid, sequence=2**31)
    alice.events()
    alice.packets()
    alice.left(identity)


def comers_who_stay(alice: Participant, number: int) -> None:
    """A small room, and more participants than it holds."""
    alice.joined(f"peer-{number}", f"PA_{number}")
    alice.receive(request("r"), f"peer-{number}", sid=f"PA_{number}", sequence=number)
    alice.joined("peer-0", f"PA_0_{number % 3}")
    alice.joined(f"peer-{number}", "PA_0")  # which another has
    alice.events()
    alice.packets()


def calls_to_those_who_leave(alice: Participant, number: int) -> None:
    """Some of them come back while their calls are in grace, some leave twice."""
    peer = f"peer-{number % 700}"
    if alice.statistics.pending_calls == TINY.max_pending_calls:
        alice.time_is(alice.now + 0.5)
    if alice.statistics.pending_calls < TINY.max_pending_calls:
        alice.joined(peer, f"PA_{number}" if number % 3 else "")
        alice.call(peer, response_timeout=5 + number % 3)
        alice.left(peer)
        if number % 2:
            alice.joined(peer)
    alice.events()
    alice.packets()


def half_read_requests_that_make_room(alice: Participant, number: int) -> None:
    sender = f"peer-{number % 3}"
    alice.receive(request_header(f"r{number}", f"s{number}"), sender)
    chunk = {"stream_id": f"s{number}", "content": b"x" * (900 + number % 99)}
    alice.receive(raw_packet(sender, stream_chunk=chunk))
    alice.packets()


def small_requests_beside_large_ones(alice: Participant, number: int) -> None:
    """While bytes are scarce, a sender that holds little begins and ends streams."""
    if number == 0:
        for at, sender in enumerate(("bob", "bob", "carol", "carol")):
            alice.receive(request_header(f"large{at}", f"s{at}", timeout="1000000"), sender)
            chunk = {"stream_id": f"s{at}", "content": b"x" * 1_740}
            alice.receive(raw_packet(sender, stream_chunk=chunk))
        alice.receive(request("r", payload="x" * 900), "erin")  # one of these makes room
    alice.receive(request_header(f"r{number}", "small"), "dave")
    chunk = {"stream_id": "small", "content": b"x" * (20 + number % 80)}
    alice.receive(raw_packet("dave", stream_chunk=chunk))
    alice.receive(raw_packet("dave", stream_trailer={"stream_id": "small", "reason": "x"}))
    alice.packets()


def rejoiners(alice: Participant, number: int) -> None:
    alice.joined("bob", f"PA_{number}")
    alice.receive(request("r"), "bob", sid=f"PA_{number}", sequence=number)


def garbage(alice: Participant, number: int) -> None:
    alice.receive(str(number).encode() * 5, f"peer-{number}")
    alice.receive(Response(f"call-{number}", "x"), f"peer-{number}")
    alice.receive(bytes(5_000), f"peer-{number}")


def lost_connections(alice: Participant, number: int) -> None:
    alice.joined(f"peer-{number}", f"PA_{number}")
    alice.receive(request(f"r{number}"), f"peer-{number}")
    alice.disconnected()
    alice.connected()
    alice.events()


MAX_GROWTH = 20_000


@pytest.mark.big
@pytest.mark.parametrize(
    "flood",
    [
        fresh_requests,
        fresh_callers,
        fresh_streams,
        answered_requests,
        calls_that_are_never_answered,
        calls_that_fail_at_once,
        comers_and_goers,
        comers_who_stay,
        calls_to_those_who_leave,
        half_read_requests_that_make_room,
        small_requests_beside_large_ones,
        rejoiners,
        garbage,
        lost_connections,
    ],
)
def test_l14_memory_is_bounded_by_the_config(flood: Callable[[Participant, int], None]) -> None:
    """After 2,100 inputs, which fill every bound and every cache, as many again add nothing.

    What counts is the most at any time, for a cache may be emptied when it is full.
    """
    assert least_memory(lambda: growth(flood), MAX_GROWTH) < MAX_GROWTH


def growth(flood: Callable[[Participant, int], None]) -> int:
    """How many bytes more the second half of the inputs takes at its peak."""
    grace = 1.0 if flood is calls_to_those_who_leave else 0.0
    alice = Participant(config=replace(TINY, departure_grace=grace))
    peaks = [0, 0]
    with traced_memory() as memory:
        for number in range(4_200):
            flood(alice, number)
            if number % 50 == 0:
                half = number >= 2_100
                peaks[half] = max(peaks[half], memory()[0])
    counts = alice.statistics
    assert counts.pending_calls <= TINY.max_pending_calls
    assert counts.running_invocations <= TINY.max_invocations
    assert counts.buffered_bytes <= TINY.max_buffered_bytes
    # One request may bring an ack and a refusal when there is room for one packet only.
    assert counts.waiting_packets <= TINY.max_waiting_packets + 1
    assert len(alice.events()) <= TINY.max_untaken_events + TINY.max_invocations
    return peaks[1] - peaks[0]


def test_l14_what_waits_to_be_inflated_is_bounded_by_the_config() -> None:
    """Requests of 3 MiB, each in a header, from ever other senders, most of whom never end them."""
    config = RpcConfig(max_buffered_bytes=6 * 2**20, max_buffered_bytes_per_sender=4 * 2**20)
    content = raw_deflate(b"x" * 3 * 2**20)
    alice = Participant(config=config)
    with traced_memory() as memory:
        for number in range(60):
            header = request_header(f"r{number}", f"s{number}", **PACKED)
            inline = content if number % 2 else None
            alice.receive(header._replace(inline_content=inline), f"peer-{number}")
            if inline is None:
                chunk = {"stream_id": f"s{number}", "content": content}
                alice.receive(raw_packet(f"peer-{number}", stream_chunk=chunk))
            if number % 3 == 0:
                alice.time_is(alice.now + TURN)
            for event in alice.events():
                if isinstance(event, InvocationReceived):
                    alice.respond(event.invocation_id)
            alice.packets()
            assert alice.statistics.buffered_bytes <= config.max_buffered_bytes
        _, peak = memory()
    # A text is there in pieces and as a whole for a moment, and inflating takes some memory.
    assert peak < 4 * config.max_buffered_bytes


# --- L15: the first ack of a request precedes everything else about it


ABOUT_A_REQUEST = {PacketKind.ACK, PacketKind.RESPONSE, PacketKind.ERROR}


@LAW
@given(recordings())
def test_l15_the_ack_of_a_request_precedes_everything_else_about_it(recording: Recording) -> None:
    acked: set[tuple[str, str]] = set()
    own = set(recording.ids)
    for outcome in recording.outcomes:
        for packet in outcome.packets:
            about = packet.destination_identity, packet.request_id
            if packet.kind is PacketKind.ACK:
                acked.add(about)
            elif packet.kind in ABOUT_A_REQUEST or packet.request_id not in own:
                assert about in acked


# --- L16: what is newer than we are


UNKNOWN_FIELDS = bytes.fromhex("fa0703") + b"new" + bytes.fromhex("f80701") + b"\xfd\x07abcd"


def with_unknown_fields(data: bytes) -> bytes:
    """The packet with fields that do not exist yet, around and within its message."""
    if wire.decode(data) is None:
        return data
    packet = DataPacket.FromString(data)
    kind = packet.WhichOneof("value")
    within = b""
    if kind is not None:
        tag = DataPacket.DESCRIPTOR.fields_by_name[kind].number << 3 | 2
        # A message field that is there twice is merged.
        within = bytes([tag] if tag < 128 else [tag & 127 | 128, tag >> 7])
        within += bytes([len(UNKNOWN_FIELDS)]) + UNKNOWN_FIELDS
    return UNKNOWN_FIELDS + data + within + UNKNOWN_FIELDS


@LAW
@given(recordings())
def test_l16_unknown_fields_are_ignored(recording: Recording) -> None:
    def newer(input_: Input) -> Input:
        if input_.method != "receive_packet":
            return input_
        return input_._replace(args=(with_unknown_fields(input_.args[0]),))

    assert recording.replay(map(newer, recording.inputs)) == recording.outcomes


@LAW
@given(recordings())
def test_l16_unknown_kinds_are_ignored(recording: Recording) -> None:
    """A field 19 from each peer, after each input: nothing comes of it."""
    engine = recording.engine()
    now = 0.0
    for input_, outcome in zip(recording.inputs, recording.outcomes, strict=True):
        played = play(engine, input_)
        assert played._replace(statistics=outcome.statistics) == outcome
        now = max(now, input_.now or 0.0)
        for peer in PEERS:
            unknown = raw_packet(peer, [US]) + b"\x9a\x01\x03new"
            nothing = play(engine, Input("receive_packet", (unknown,), now=now))
            told = [e for e in nothing.events if not is_told_while_disconnected(e)]
            assert (told, nothing.packets) == ([], ())
            assert nothing.next_deadline == outcome.next_deadline


def is_told_while_disconnected(event: Event) -> bool:
    return isinstance(event, PacketIgnored) and event.reason is IgnoreReason.DISCONNECTED


# --- L17: in the end nothing is left


@LAW
@given(moves())
def test_l17_on_a_healed_network_nothing_is_left_in_the_end(script: list[Any]) -> None:
    room = Room()
    room.play(script)
    room.heal()
    for member in room.members.values():
        assert member.engine.next_deadline is None
        counts = member.engine.statistics()
        assert (
            counts.pending_calls,
            counts.running_invocations,
            counts.open_streams_in,
            counts.open_streams_out,
            counts.waiting_packets,
            counts.waiting_bytes,
            counts.buffered_bytes,
        ) == (0,) * 7


@LAW
@given(scripts())
def test_l17_nothing_but_memories_outlives_the_last_deadline(script: Any) -> None:
    *_, last = record([*script, (1e6, Happens("", "handle_deadline"))]).outcomes
    assert last.next_deadline is None
    assert last.statistics.pending_calls == last.statistics.running_invocations == 0
    assert last.statistics.buffered_bytes == last.statistics.waiting_bytes == 0
