"""The world for tests: participants on virtual time, and a network that does what its links say."""

import math
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from paths import DOCS

from rpcproto import (
    CallAcknowledged,
    CallFailed,
    IgnoreReason,
    InvocationReceived,
    LocalProtocolError,
    PacketKind,
    RpcConfig,
    RpcEngine,
    RpcError,
)
from rpcproto.e2ee import Cryptor
from rpcproto.testing import Fate, Later, Link, World, WorldParticipant

YEAR = 365 * 86_400.0


def greet(invocation: InvocationReceived) -> str:
    return f"Hello, {invocation.caller_identity}!"


def alice_and_bob(world: World) -> tuple[WorldParticipant, WorldParticipant]:
    alice, bob = world.join("alice"), world.join("bob")
    bob.register("greet", greet)
    return alice, bob


def burst(link: Link, count: int = 400) -> World:
    """Alice asks bob many times, a hundredth of a second apart; he says nothing but acks."""
    world = World(seed=1)
    alice, bob = world.join("alice"), world.join("bob")
    bob.register("wait", lambda invocation: None)
    world.set_link(link, sender="alice", receiver="bob")
    for number in range(count):
        world.at(number / 100, lambda: alice.call("bob", "wait"))
    world.run(until=20.0)
    return world


def asked(world: World) -> list[tuple[float, list[float]]]:
    """When alice's packets left, and when they arrived."""
    return [
        (sent.sent_at, sent.arrived_at) for sent in world.sent if sent.sender_identity == "alice"
    ]


# calls and handlers


def test_a_call_reads_like_a_conversation() -> None:
    world = World(link=Link(latency=0.05))
    alice, bob = alice_and_bob(world)
    bob.register("make tea", lambda invocation: Later(2.0, RpcError(2001, "Out of tea", "since 5")))
    alice.call("bob", "greet", "Hi")
    world.at(1.0, lambda: alice.call("bob", "make tea", "a cup of Earl Grey, and some milk"))
    world.at(2.0, lambda: world.set_link(Link(loss=1.0), sender="alice"))
    world.at(4.0, lambda: alice.call("bob", "greet", ack_timeout=1.0))
    world.at(6.0, lambda: world.leave("bob"))
    world.run()
    assert (
        world.transcript()
        == """\
   0.000 s  alice is here as PA_alice_1
   0.000 s  bob is here as PA_bob_1
   0.000 s  alice hears that PA_bob_1 is here
   0.000 s  alice calls bob: call 1, greet
   0.000 s  alice → bob  request 1 greet 'Hi'  [arrives at 0.050 s]
   0.050 s  bob: invocation 1 of greet for alice, 'Hi'
   0.050 s  bob → alice  ack 1  [arrives at 0.100 s]
   0.050 s  bob → alice  response 1 'Hello, alice!'  [arrives at 0.100 s]
   0.100 s  alice: call 1 is acknowledged
   0.100 s  alice: call 1 succeeds, 'Hello, alice!'
   1.000 s  alice calls bob: call 2, make tea
   1.000 s  alice → bob  request 2 make tea 'a cup of Earl Grey, and '… (33)  [arrives at 1.050 s]
   1.050 s  bob: invocation 2 of make tea for alice, 'a cup of Earl Grey, and '… (33)
   1.050 s  bob → alice  ack 2  [arrives at 1.100 s]
   1.100 s  alice: call 2 is acknowledged
   3.050 s  bob → alice  error 2 2001 Out of tea (since 5)  [arrives at 3.100 s]
   3.100 s  alice: call 2 fails, 2001 Out of tea (since 5)
   4.000 s  alice calls bob: call 3, greet
   4.000 s  alice → bob  request 3 greet ''  [lost]
   5.000 s  alice: call 3 fails, 1501 Connection timeout
   6.000 s  bob leaves
   6.000 s  alice hears that PA_bob_1 is gone
"""
    )


def test_a_transcript_tells_of_streams_and_of_what_goes_wrong() -> None:
    world = World(link=Link(latency=0.1))
    alice = world.join("alice", client_protocol=2, capabilities=[2])
    bob = world.join("bob", client_protocol=1)
    for participant in (alice, bob):
        participant.register("do", lambda invocation: None)
    calls = [alice.call("bob", "do", "x" * 20_000), bob.call("alice", "do", "Hi")]
    bob.call("alice", "do", "x" * 900)
    world.run(until=0.5)
    world.send("alice", "bob", b"\xff")
    calls[0].cancel()
    world.at(0.7, lambda: world.cut("bob"))
    world.run(until=0.7)
    assert world.transcript().splitlines()[3:] == [
        "   0.000 s  alice calls bob: call 1, do",
        "   0.000 s  alice → bob  request 1 do in chunks, 20000 bytes  [arrives at 0.100 s]",
        "   0.000 s  alice → bob  request 1 chunk 0, 15000 bytes  [arrives at 0.100 s]",
        "   0.000 s  alice → bob  request 1 chunk 1, 5000 bytes  [arrives at 0.100 s]",
        "   0.000 s  alice → bob  request 1 the end  [arrives at 0.100 s]",
        "   0.000 s  bob calls alice: call 2, do",
        "   0.000 s  bob → alice  request 2 do inline 'Hi'  [arrives at 0.100 s]",
        "   0.000 s  bob calls alice: call 3, do",
        "   0.000 s  bob → alice  request 3 do inline, compressed, 900 bytes  [arrives at 0.100 s]",
        "   0.100 s  bob → alice  ack 1  [arrives at 0.200 s]",
        "   0.100 s  bob: invocation 1 of do for alice, 'xxxxxxxxxxxxxxxxxxxxxxxx'… (20000)",
        "   0.100 s  alice: invocation 2 of do for bob, 'Hi'",
        "   0.100 s  alice → bob  ack 2  [arrives at 0.200 s]",
        "   0.100 s  alice: invocation 3 of do for bob, 'xxxxxxxxxxxxxxxxxxxxxxxx'… (900)",
        "   0.100 s  alice → bob  ack 3  [arrives at 0.200 s]",
        "   0.200 s  alice: call 1 is acknowledged",
        "   0.200 s  bob: call 2 is acknowledged",
        "   0.200 s  bob: call 3 is acknowledged",
        "   0.500 s  alice → bob  no packet at all  [arrives at 0.600 s]",
        "   0.500 s  alice cancels call 1",
        "   0.600 s  bob: ignores a packet, malformed",
        "   0.700 s  bob loses its connection",
        "   0.700 s  bob: call 2 fails, 1503 Recipient disconnected",
        "   0.700 s  bob: call 3 fails, 1503 Recipient disconnected",
        "   0.700 s  bob: invocation 1 is abandoned, disconnected",
        "   0.700 s  alice hears that PA_bob_1 is gone",
        "   0.700 s  alice: invocation 2 is abandoned, caller left",
        "   0.700 s  alice: invocation 3 is abandoned, caller left",
    ]


def test_the_transcript_in_the_docs_is_the_one_that_its_program_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = (DOCS / "testing.md").read_text("utf-8")
    program, printed = page.split("```python\n")[1].split("```text\n")
    exec(program.split("```")[0], {})
    assert capsys.readouterr().out.strip("\n") == printed.split("\n```")[0]


def test_a_call_knows_what_became_of_it() -> None:
    world = World(link=Link(latency=0.5))
    alice, bob = alice_and_bob(world)
    bob.register("wait", lambda invocation: None)
    answered = alice.call("bob", "greet")
    refused = alice.call("bob", "unknown")
    cancelled = alice.call("bob", "wait")
    pending = alice.call("bob", "wait")
    world.at(0.75, cancelled.cancel)
    world.run(until=2.0)
    assert world.calls == [answered, refused, cancelled, pending]
    assert (answered.outcome, answered.acknowledged_at, answered.ended_at) == (
        "Hello, alice!",
        1.0,
        1.0,
    )
    assert isinstance(refused.outcome, RpcError)
    assert (refused.outcome.code, refused.started_at, refused.ended_at) == (1400, 0.0, 1.0)
    assert (cancelled.outcome, cancelled.ended_at) == (None, 0.75)
    assert (pending.outcome, pending.acknowledged_at, pending.ended_at) == (None, 1.0, None)
    assert not cancelled.cancel()
    assert not answered.cancel()


def test_a_handler_may_raise_an_rpc_error_and_what_else_it_raises_comes_out() -> None:
    world = World()
    alice, bob = alice_and_bob(world)

    def out_of_tea(invocation: InvocationReceived) -> str:
        raise RpcError(2001, "Out of tea")

    def broken(invocation: InvocationReceived) -> str:
        raise KeyError(invocation.payload)

    bob.register("make tea", out_of_tea)
    bob.register("break", broken)
    call = alice.call("bob", "make tea")
    world.run()
    assert isinstance(call.outcome, RpcError)
    assert call.outcome.code == 2001
    alice.call("bob", "break", "the door")
    with pytest.raises(KeyError, match="the door"):
        world.run()


def test_a_handler_may_call_on() -> None:
    world = World(link=Link(latency=0.25))
    alice, _ = alice_and_bob(world)
    carol = world.join("carol")
    asked: list[int] = []

    def ask_bob(invocation: InvocationReceived) -> None:
        call = carol.call("bob", "greet")
        asked.append(invocation.invocation_id)
        world.at(1.0, lambda: carol.answer(asked[0], f"{call.outcome} says bob"))

    carol.register("ask bob", ask_bob)
    call = alice.call("carol", "ask bob")
    world.run()
    assert call.outcome == "Hello, carol! says bob"
    assert not carol.answer(asked[0], "again")


def test_engines_may_be_used_as_they_are() -> None:
    world = World()
    alice, bob = world.join("alice"), world.join("bob")
    bob.engine.register_method("greet")
    request_id = alice.engine.call("bob", "greet", "Hi", now=world.now)
    world.run(until=0.0)
    [(_, invocation)] = bob.events
    assert isinstance(invocation, InvocationReceived)
    assert alice.events == [(0.0, CallAcknowledged(request_id))]
    world.at(5.0, lambda: bob.engine.respond(invocation.invocation_id, "Hello", now=world.now))
    world.run(until=5.0)
    assert alice.events[-1][0] == 5.0
    assert "succeeds, 'Hello'" in world.transcript()


# time


def test_time_jumps_and_never_ticks() -> None:
    """A thousand years with two things to happen take two steps."""
    world = World()
    happened: list[float] = []
    for years in (1, 1_000):
        world.at(years * YEAR, lambda: happened.append(world.now))
    assert world.next_instant == YEAR
    world.run()
    assert happened == [YEAR, 1_000 * YEAR]
    assert world.now == 1_000 * YEAR
    assert world.next_instant is None


def test_a_deadline_that_has_moved_is_no_instant_to_stop_at() -> None:
    world = World(link=Link(latency=0.5))
    alice, _ = alice_and_bob(world)
    alice.call("bob", "greet")
    world.run()
    assert world.now == 1.0


def test_a_run_stops_at_its_instant_and_goes_on() -> None:
    world = World(link=Link(latency=1.0))
    alice, _ = alice_and_bob(world)
    call = alice.call("bob", "greet")
    world.run(until=1.5)
    assert (world.now, call.ended_at) == (1.5, None)
    world.run(until=0.5)
    assert world.now == 1.5
    world.at(0.0, lambda: alice.call("bob", "greet"))
    world.run()
    assert call.ended_at == 2.0
    assert world.calls[1].started_at == 1.5


def test_what_arrives_at_a_deadline_comes_before_it() -> None:
    world = World(link=Link(latency=3.5))
    alice, _ = alice_and_bob(world)
    call = alice.call("bob", "greet")
    world.run()
    assert (call.ended_at, call.outcome) == (7.0, "Hello, alice!")


# links


def test_packets_take_the_latency_of_their_direction() -> None:
    world = World(link=Link(latency=0.1))
    alice, _ = alice_and_bob(world)
    world.set_link(Link(latency=2.0), receiver="alice")
    world.set_link(Link(latency=1.0), sender="alice", receiver="bob")
    call = alice.call("bob", "greet")
    world.run()
    assert call.ended_at == 3.0
    world.set_link(Link())
    call = alice.call("bob", "greet")
    world.run()
    assert call.ended_at == call.started_at


def test_jitter_spreads_arrivals_and_keeps_their_order() -> None:
    packets = asked(burst(Link(latency=1.0, jitter=0.5)))
    arrivals = [at for _, arrived in packets for at in arrived]
    assert len(arrivals) == len(packets)
    assert arrivals == sorted(arrivals)
    delays = [at - sent_at for sent_at, [at] in packets]
    assert all(1.0 <= delay <= 1.5 + 1e-9 for delay in delays)
    assert max(delays) - min(delays) > 0.2


def test_loss_is_the_share_that_never_arrives() -> None:
    world = burst(Link(loss=0.25))
    lost = [sent for sent in world.sent if sent.fate is Fate.LOST]
    assert 60 < len(lost) < 140
    assert all(not sent.arrived_at for sent in lost)
    assert all(len(sent.arrived_at) == 1 for sent in world.sent if sent.fate is Fate.CARRIED)


def test_a_test_may_choose_what_gets_lost() -> None:
    world = World()
    world.lose = lambda sent: sent.kind is PacketKind.ACK
    alice, bob = alice_and_bob(world)
    bob.register("wait", lambda invocation: None)
    call = alice.call("bob", "wait")
    world.run()
    assert alice.events == [(7.0, CallFailed(call.request_id, 1501, "Connection timeout", ""))]
    assert [sent.fate for sent in world.sent] == [Fate.CARRIED, Fate.LOST]
    assert world.now == 8.0 + 7.0  # the end of the invocation


def test_repetition_is_the_share_that_arrives_twice() -> None:
    world = burst(Link(latency=1.0, repetition=0.25, straggling=3.0))
    repeated = [sent for sent in world.sent if sent.is_repeated]
    assert 60 < len(repeated) < 140
    for sent in world.sent:
        assert len(sent.arrived_at) == 1 + sent.is_repeated
    delays = [sent.arrived_at[1] - sent.arrived_at[0] for sent in repeated]
    assert 2.0 < max(delays) <= 3.0
    ignored = world.participants["bob"].engine.statistics().ignored
    assert ignored[IgnoreReason.REPEAT] == len(repeated)


def test_reordering_is_the_share_that_others_overtake() -> None:
    world = burst(Link(latency=1.0, reordering=0.25, straggling=2.0))
    packets = [sent for sent in world.sent if sent.sender_identity == "alice"]
    held_back = [sent for sent in packets if sent.is_held_back]
    assert 60 < len(held_back) < 140
    arrivals = [sent.arrived_at[0] for sent in packets if not sent.is_held_back]
    assert arrivals == sorted(arrivals)
    delays = [sent.arrived_at[0] - sent.sent_at for sent in held_back]
    assert 2.5 < max(delays) <= 3.0 + 1e-9
    assert [sent.arrived_at[0] for sent in packets] != sorted(
        sent.arrived_at[0] for sent in packets
    )


def test_what_cannot_be_sent_is_told_to_its_engine() -> None:
    world = burst(Link(send_failure=0.25))
    unsent = [sent for sent in world.sent if sent.fate is Fate.NOT_SENT]
    failed = [event for _, event in world.participants["alice"].events if is_failure(event, 1505)]
    assert 60 < len(unsent) == len(failed) < 140
    assert "request 1 wait ''  [" in world.transcript()
    assert "[not sent]" in world.transcript()


def is_failure(event: object, code: int) -> bool:
    return isinstance(event, CallFailed) and event.code == code


def test_after_healing_nothing_is_lost_repeated_held_back_or_not_sent() -> None:
    bad = Link(latency=0.5, loss=0.5, repetition=1.0, reordering=1.0, send_failure=0.5)
    world = World(link=bad)
    alice, _ = alice_and_bob(world)
    alice.call("bob", "greet")
    world.set_link(bad, sender="alice")
    world.cut("bob")
    world.heal()
    calls = [alice.call("bob", "greet") for _ in range(50)]
    world.run()
    assert {call.ended_at for call in calls} == {1.0}


def test_an_uplink_takes_its_time_for_every_byte() -> None:
    world = World(link=Link(latency=1.0))
    alice = world.join("alice", uplink=2_000.0)
    bob = world.join("bob", client_protocol=1)
    bob.register("greet", greet)
    alice.call("bob", "greet", "x" * 20_000, response_timeout=60.0, ack_timeout=40.0)
    world.run()
    header, first, second, trailer = (s for s in world.sent if s.sender_identity == "alice")
    assert first.sent_at == len(header.data) / 2_000
    assert second.sent_at == pytest.approx(first.sent_at + len(first.data) / 2_000)
    assert trailer.sent_at == pytest.approx(second.sent_at + len(second.data) / 2_000)
    assert world.calls[0].ended_at == pytest.approx(trailer.sent_at + 2.0)


@pytest.mark.parametrize(
    "wrong", [{"latency": -1.0}, {"jitter": math.inf}, {"loss": 1.5}, {"repetition": -0.1}]
)
def test_a_link_is_made_of_durations_and_shares(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Link(**wrong)


# participants come and go


def test_who_is_cut_hears_nothing_and_comes_back_under_a_new_sid() -> None:
    world = World(link=Link(latency=0.5))
    alice, bob = alice_and_bob(world)
    under_way, engine = alice.call("bob", "greet"), bob.engine
    world.at(0.25, lambda: world.cut("bob"))
    world.at(1.0, lambda: alice.call("bob", "greet"))
    world.at(2.0, lambda: world.come_back("bob"))
    world.at(3.0, lambda: alice.call("bob", "greet"))
    world.run()
    assert [is_over(call) for call in world.calls] == [1503, 1501, "Hello, alice!"]
    assert under_way.ended_at == 0.25
    assert bob.engine is engine
    assert (bob.sid, bob.is_connected, bob.is_present) == ("PA_bob_2", True, True)
    assert all(not sent.arrived_at for sent in world.sent[:2])


def is_over(call: object) -> object:
    outcome = getattr(call, "outcome", None)
    return outcome.code if isinstance(outcome, RpcError) else outcome


def test_a_cut_that_nobody_noticed_is_resumed_under_the_same_sid() -> None:
    world = World()
    alice, bob = alice_and_bob(world)
    world.cut("bob", noticed=False)
    assert [bob.is_connected, bob.is_present] == [False, True]
    call = alice.call("bob", "greet")
    with pytest.raises(LocalProtocolError, match="disconnected"):
        bob.call("alice", "greet")
    world.at(1.0, lambda: world.come_back("bob"))
    world.run(until=2.0)
    assert bob.sid == "PA_bob_1"
    assert world.calls == [call]
    assert alice.events == []  # the request is lost, and nothing else
    world.cut("bob", noticed=False)
    world.come_back("bob", new_session=True)
    assert bob.sid == "PA_bob_2"
    assert call.ended_at == 2.0
    assert alice.engine.participants == ("bob",)  # that PA_bob_1 is gone is old news by then
    assert world.transcript().splitlines()[-1].endswith("alice hears that PA_bob_1 is gone")


def test_what_was_missed_can_be_replayed_and_what_was_not_does_no_harm() -> None:
    world = World(link=Link(latency=0.5))
    alice, bob = alice_and_bob(world)
    seen = alice.call("bob", "greet", "seen")
    world.run(until=2.0)
    world.cut("bob", noticed=False)
    missed = alice.call("bob", "greet", "missed")
    world.run(until=3.0)
    world.come_back("bob", replay=2)
    world.run()
    assert (seen.outcome, missed.outcome) == ("Hello, alice!", "Hello, alice!")
    invocations = [e for _, e in bob.events if isinstance(e, InvocationReceived)]
    assert [invocation.payload for invocation in invocations] == ["seen", "missed"]
    assert [sent.arrived_at for sent in world.sent if sent.kind is PacketKind.REQUEST] == [
        [0.5, 3.5],
        [3.5],
    ]


def test_who_leaves_sends_what_is_left_and_comes_back_with_a_new_engine() -> None:
    world = World(link=Link(latency=0.5))
    alice = world.join("alice", uplink=1.0)
    bob = world.join("bob")
    bob.register("greet", greet)
    alice.call("bob", "greet")
    call, engine = alice.call("bob", "greet"), alice.engine
    world.leave("alice")
    assert call.ended_at == 0.0
    with pytest.raises(LocalProtocolError, match="closed"):
        alice.call("bob", "greet")
    assert [sent.sent_at for sent in world.sent] == [0.0, 0.0]
    alice.uplink = math.inf
    world.at(1.0, lambda: world.come_back("alice"))
    world.at(2.0, lambda: alice.call("bob", "greet"))
    world.run()
    assert alice.engine is not engine
    assert world.calls[-1].outcome == "Hello, alice!"
    assert len({call.request_id for call in world.calls}) == 3


def test_who_comes_back_after_leaving_has_the_same_handlers() -> None:
    world = World()
    alice, _ = alice_and_bob(world)
    world.leave("bob")
    world.come_back("bob")
    call = alice.call("bob", "greet")
    world.run()
    assert call.outcome == "Hello, alice!"


def test_comings_and_goings_are_told_late_and_in_order() -> None:
    world = World(presence=Link(latency=1.0, jitter=4.0), link=Link(latency=0.25))
    alice = world.join("alice", client_protocol=1)
    world.at(0.5, lambda: world.join("bob", client_protocol=1))
    world.at(1.0, lambda: world.cut("bob"))
    world.at(1.5, lambda: world.come_back("bob"))
    world.at(1.6, lambda: alice.call("bob", "greet"))
    world.run(until=10.0)
    told = [line for line in world.transcript().splitlines() if "alice hears" in line]
    assert [line.split("  ")[-1] for line in told] == [
        "alice hears that PA_bob_1 is here",
        "alice hears that PA_bob_1 is gone",
        "alice hears that PA_bob_2 is here",
    ]
    assert [float(line.split(" s ")[0]) for line in told] == sorted(
        float(line.split(" s ")[0]) for line in told
    )
    assert float(told[0].split(" s ")[0]) >= 1.5
    # Alice had not heard of bob, so that her request was of the first version.
    assert world.sent[0].kind is PacketKind.REQUEST


def world_of_a_departure(
    *, departures_overtake: bool = True, departure_grace: float | None = None
) -> World:
    """Bob answers one of two calls and leaves at once; news travel faster than packets."""
    world = World(link=Link(latency=0.5), departures_overtake=departures_overtake)
    alice, bob = world.join("alice", departure_grace=departure_grace), world.join("bob")
    bob.register("greet", greet)
    bob.register("wait", lambda invocation: None)
    alice.call("bob", "greet")
    alice.call("bob", "wait")
    world.at(0.5, lambda: world.leave("bob"))
    world.at(1.2, lambda: world.come_back("bob"))
    world.run(until=5.0)
    return world


def after_the_departure(world: World) -> list[str]:
    """What alice learns from then on."""
    lines = world.transcript().splitlines()
    later = lines[lines.index("   0.500 s  bob leaves") :]
    return [line for line in later if " s  alice" in line]


def test_news_of_a_departure_overtakes_the_packets_that_left_before() -> None:
    assert after_the_departure(world_of_a_departure()) == [
        "   0.500 s  alice hears that PA_bob_1 is gone",
        "   0.500 s  alice: call 1 fails, 1503 Recipient disconnected",
        "   0.500 s  alice: call 2 fails, 1503 Recipient disconnected",
        "   1.200 s  alice hears that PA_bob_2 is here",
    ]


def test_packets_that_left_before_their_sender_count_for_the_departure_grace() -> None:
    assert after_the_departure(world_of_a_departure(departure_grace=2.0)) == [
        "   0.500 s  alice hears that PA_bob_1 is gone",
        "   1.000 s  alice: call 1 is acknowledged",
        "   1.000 s  alice: call 1 succeeds, 'Hello, alice!'",
        "   1.000 s  alice: call 2 is acknowledged",
        "   1.200 s  alice hears that PA_bob_2 is here",
        "   2.500 s  alice: call 2 fails, 1503 Recipient disconnected",
    ]
    assert after_the_departure(world_of_a_departure(departure_grace=0.25)) == [
        "   0.500 s  alice hears that PA_bob_1 is gone",
        "   0.750 s  alice: call 1 fails, 1503 Recipient disconnected",
        "   0.750 s  alice: call 2 fails, 1503 Recipient disconnected",
        "   1.200 s  alice hears that PA_bob_2 is here",
    ]


def test_where_departures_do_not_overtake_the_news_comes_after_the_packets() -> None:
    assert after_the_departure(world_of_a_departure(departures_overtake=False)) == [
        "   1.000 s  alice: call 1 is acknowledged",
        "   1.000 s  alice: call 1 succeeds, 'Hello, alice!'",
        "   1.000 s  alice: call 2 is acknowledged",
        "   1.000 s  alice hears that PA_bob_1 is gone",
        "   1.000 s  alice: call 2 fails, 1503 Recipient disconnected",
        "   1.200 s  alice hears that PA_bob_2 is here",
    ]


@pytest.mark.parametrize("latency", [0.0, 0.5])
def test_news_stays_in_order_where_departures_do_not_overtake(latency: float) -> None:
    """Nobody is gone for the others after it is back, at one instant as well."""
    world = World(link=Link(latency=latency), departures_overtake=False)
    alice, bob = alice_and_bob(world)
    alice.call("bob", "greet")
    for _ in range(3):
        world.cut("bob")
        world.come_back("bob")
    world.run(until=latency)
    heard = [line for line in world.transcript().splitlines() if "alice hears" in line]
    assert [line.split("hears that ")[1] for line in heard] == [
        f"PA_bob_{number} is {what}"
        for number in (1, 2, 3, 4)
        for what in ("here", "gone")[: 2 - (number == 4)]
    ]
    assert alice.engine.participants == ("bob",)
    assert bob.sid == "PA_bob_4"


def test_a_participant_keeps_its_departure_grace_when_it_comes_back() -> None:
    world = World(config=RpcConfig(departure_grace=1.0))
    alice, bob = world.join("alice", departure_grace=2.0), world.join("bob")
    world.leave("alice")
    world.come_back("alice")
    for caller, recipient in ((alice, bob), (bob, alice)):
        call = caller.call(recipient.identity, "wait")
        world.cut(recipient.identity)
        left_at = world.now
        world.run(until=left_at + 5.0)
        assert call.ended_at == left_at + caller.config.departure_grace
        world.come_back(recipient.identity)
    assert (alice.config.departure_grace, bob.config.departure_grace) == (2.0, 1.0)
    with pytest.raises(LocalProtocolError, match="departure_grace"):
        world.join("carol", departure_grace=-1.0)


def test_nobody_who_was_not_told_of_is_there_when_lists_are_complete() -> None:
    world = World(participants_complete=True, presence=Link(latency=1.0))
    alice = world.join("alice")
    world.join("bob").register("greet", greet)
    early = alice.call("bob", "greet")
    world.run(until=1.0)
    late = alice.call("bob", "greet")
    world.run()
    assert (is_over(early), is_over(late)) == (1401, "Hello, alice!")


def test_an_identity_joins_once() -> None:
    world = World()
    world.join("alice")
    world.leave("alice")
    with pytest.raises(ValueError, match="come_back"):
        world.join("alice")
    with pytest.raises(ValueError, match="uplink"):
        world.join("bob", uplink=0.0)


# who says who sent what


def test_the_server_stamps_what_passes() -> None:
    """Mallory cannot speak for bob, and a packet is known again by its number."""
    world = World(link=Link(latency=0.5))
    alice, _ = alice_and_bob(world)
    world.join("mallory")
    call = alice.call("bob", "greet")
    world.run(until=0.5)
    world.set_link(Link(latency=0.25), sender="mallory")
    world.set_link(Link(latency=0.5, repetition=1.0), sender="bob")
    answers = list(world.sent[1:])
    for sent in answers:
        world.send("mallory", "alice", sent.data)
    world.run(until=0.75)
    world.send("bob", "alice", answers[1].data)
    assert alice.engine.statistics().ignored == {IgnoreReason.WRONG_SENDER: 2}
    world.run()
    assert (call.ended_at, call.outcome) == (1.0, "Hello, alice!")
    counts = alice.engine.statistics().ignored
    assert counts == {IgnoreReason.WRONG_SENDER: 2, IgnoreReason.LATE: 1, IgnoreReason.REPEAT: 1}


def test_without_a_server_every_host_knows_who_sent_what() -> None:
    world = World(link=Link(latency=0.5, repetition=1.0, straggling=0.0), stamped=False)
    alice, bob = alice_and_bob(world)
    world.join("mallory")
    alice.call("bob", "greet")
    world.run()
    forged = world.send("mallory", "bob", world.sent[0].data)
    world.run()
    assert forged.sender_identity == "mallory"
    callers = [e.caller_identity for _, e in bob.events if isinstance(e, InvocationReceived)]
    assert callers == ["alice", "mallory"]
    # Without numbers it is the requests that are known again.
    acks = [s for s in world.sent if s.kind is PacketKind.ACK and s.destination_identity == "alice"]
    assert len(acks) == 2


# all of it


def hostile_world(seed: int) -> str:
    bad = Link(latency=0.1, jitter=0.5, loss=0.1, repetition=0.2, reordering=0.2, send_failure=0.02)
    world = World(seed=seed, link=bad, presence=Link(latency=0.1, jitter=0.5))
    for number, name in enumerate(("alice", "bob", "carol")):
        participant = world.join(name, client_protocol=number, capabilities=[2] * number)
        participant.register("greet", greet)
    for number in range(30):
        name, other = ("alice", "bob", "carol", "alice")[number % 3 :][:2]
        caller = world.participants[name]
        world.at(number / 4, partial(caller.call, other, "greet", "x" * 3_000))
    world.at(20.0, lambda: world.cut("alice"))
    world.at(21.0, lambda: world.come_back("alice", replay=5))
    world.run()
    return world.transcript()


def test_the_same_seed_has_the_same_transcript_in_another_process_too() -> None:
    here = hostile_world(4)
    assert hostile_world(4) == here
    assert hostile_world(5) != here
    script = "import sys, test_world; sys.stdout.buffer.write(test_world.hostile_world(4).encode())"
    for hash_seed in ("1", "2"):
        child = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
            cwd=Path(__file__).parent,
        )
        assert child.stdout.decode() == here


def test_a_world_takes_a_config_and_engines_of_any_make() -> None:
    made: list[str] = []

    def make(
        identity: str, *, new_id: Callable[[], str], config: RpcConfig, cryptor: Cryptor | None
    ) -> RpcEngine:
        made.append(identity)
        return RpcEngine(identity, new_id=new_id, config=config, cryptor=cryptor)

    world = World(config=RpcConfig(ack_timeout=1.0), engine_factory=make)
    call = world.join("alice").call("bob", "greet")
    world.run()
    assert made == ["alice"]
    assert call.ended_at == 1.0
    assert [sent.fate for sent in world.sent] == [Fate.LOST]


def test_many_participants_share_a_world() -> None:
    world = World(link=Link(latency=0.01))
    participants = [world.join(f"p{number}") for number in range(60)]
    for participant in participants:
        participant.register("greet", greet)
    calls = [p.call(f"p{(n + 1) % 60}", "greet") for n, p in enumerate(participants)]
    world.run()
    assert [call.outcome for call in calls] == [f"Hello, p{number}!" for number in range(60)]
