"""A world drawn from a seed: who is in it, what they ask of each other, how their network treats
them, and whether all that came of it is what the rules allow.

    python tests/proof simulation 42               # this seed again: what happened, and the verdict
    python tests/proof simulation --hours 8        # new seeds on all cores, until the time is up
"""

import argparse
import itertools
import math
import multiprocessing
import os
import secrets
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Final, cast

from sealed_packets import toy
from simulation_draws import (
    HEALED_AT,
    MAX_PAYLOAD_BYTES,
    METHODS,
    MIN_CALLS,
    VAST_PAYLOAD_BYTES,
    Draws,
)
from simulation_engine import WatchedEngine
from simulation_oracle import MALLORY, Oracle, Plan, RuleBrokenError, require

from rpcproto import InvocationReceived, RpcConfig, RpcError, wire
from rpcproto.core.sealing import Cryptor
from rpcproto.recording import Journal
from rpcproto.testing import Later, Link, SentPacket, World, WorldCall, WorldParticipant
from rpcproto.testing.engines import EngineFactory
from rpcproto.wire import Unread

KINDS: Final = (
    *("succeeded", "cancelled", "handler's error", "1400", "1401", "1402", "1500", "1501", "1502"),
    *("1503", "1504", "1505 of the caller", "1505 of the responder", "1500 of a damaged stream"),
    *("lost", "not sent", "repeated", "held back", "replayed", "copied by mallory", "slow uplink"),
    *("v1 request", "v1 response", "inline", "inline, compressed", "in chunks", "sealed"),
    *("in chunks, compressed", "answered", "abandoned: caller left", "abandoned: expired"),
    *("abandoned: disconnected", "abandoned: closed", "left", "cut", "cut unnoticed"),
    *("answered in grace", "1503 after a grace", "1503 at a deadline in grace"),
    *("request inflated in turns", "answer inflated in turns"),
)
"""What can be reached; a thousand seeds reach each of them many times."""


class Simulation:
    """One seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = Random(f"simulation {seed}")
        self.is_sealed = seed % 3 == 0
        """Whether the world is encrypted; its events are those that it would have otherwise."""
        self.reached: Counter[str] = Counter()
        self.engines: list[WatchedEngine] = []
        self.plans: dict[str, Plan] = {}
        self.world: World

    def run(self, engine_factory: EngineFactory | None = None) -> None:
        """Live through it and judge it; raises RuleBrokenError. With engines of another factory,
        do not judge."""
        self._build(engine_factory or cast("EngineFactory", self._watched))
        self._plan_calls()
        self._plan_trouble()
        self.world.run(until=HEALED_AT)
        late = self._heal()
        self.world.run()
        if engine_factory is None:
            self._judge(late)

    # the world

    def _watched(
        self,
        identity: str,
        *,
        new_id: Callable[[], str],
        config: RpcConfig,
        cryptor: Cryptor | None,
    ) -> WatchedEngine:
        engine = WatchedEngine(identity, new_id=new_id, config=config, cryptor=cryptor)
        self.engines.append(engine)
        return engine

    def _build(self, engine_factory: EngineFactory) -> None:
        draw = self.random
        hostility = draw.choice([0.0, 0.3, 1.0, 1.0])
        self.stamped = draw.random() < 0.6
        max_payload = draw.choice([MAX_PAYLOAD_BYTES] * 3 + [VAST_PAYLOAD_BYTES])
        self.draws = Draws(draw, hostility, max_payload)
        self.world = World(
            seed=self.seed,
            link=self.draws.link(),
            presence=Link(latency=draw.choice([0.0, 0.01, 0.5]), jitter=draw.choice([0.0, 0.5])),
            stamped=self.stamped,
            participants_complete=draw.random() < 0.2,
            departures_overtake=draw.random() < 0.8,
            config=RpcConfig(
                response_timeout=draw.choice([10.0, 10.0, 4.0, 16.0]),
                ack_timeout=draw.choice([7.0, 7.0, 2.0]),
                max_payload_bytes=max_payload,
            ),
            cryptors=toy if self.is_sealed else lambda identity: None,
            engine_factory=engine_factory,
        )
        self.reached["sealed"] += self.is_sealed
        self.names = ["alice", "bob", "carol", "dave"][: draw.choice([2, 2, 3, 4])]
        for name in self.names:
            self._join(name)
        if draw.random() < 0.5:
            self.world.join(MALLORY)

    def _join(self, name: str) -> None:
        draw = self.random
        protocol, capabilities = draw.choice([(0, ()), (1, ()), (2, ()), (2, (2,)), (2, (2,))])
        uplink = draw.choice([math.inf, math.inf, math.inf, 40_000.0])
        self.reached["slow uplink"] += uplink < math.inf
        participant = self.world.join(
            name,
            client_protocol=protocol,
            capabilities=capabilities,
            uplink=uplink,
            departure_grace=draw.choice([0.0, 2.0, 2.0, 0.3, 9.0]),
        )
        for method in METHODS:
            participant.register(method, partial(self._handle, name))

    def _handle(self, name: str, invocation: InvocationReceived) -> str | RpcError | Later | None:
        plan = self.plans[invocation.request_id]
        if plan.leaves:
            self.world.at(self.world.now + plan.delay + 0.001, partial(self._go, name))
        if plan.reply is None:
            return None
        return Later(plan.delay, plan.reply) if plan.delay else plan.reply

    # calls

    def _plan_calls(self) -> None:
        at = 0.0
        for number in range(MIN_CALLS + self.random.randrange(6)):
            if self.random.random() < 0.9:  # else together with the one before
                at = self.random.uniform(0.0, HEALED_AT)
            self.world.at(at, partial(self._call, number))

    def _call(self, number: int) -> None:
        draw, world = self.random, self.world
        callers = [name for name in self.names if world.participants[name].is_connected]
        if not callers:
            world.at(world.now + 0.1, partial(self._call, number))
            return
        caller = draw.choice(callers)
        others = [name for name in self.names if name != caller]
        destination = draw.choice([*others * 8, caller, "nobody"])
        method = draw.choice([*METHODS * 8, "idle"])
        payload, reply = self.draws.text(f"{number}?"), self.draws.reply(f"{number}!")
        timeout = draw.choice([None, None, None, 0.5, 3.0, 7.0, 30.0])
        window = draw.choice([None, None, None, 0.25, 3.0, 40.0])
        delay = draw.choice([0.0, 0.0, 0.0, 0.1, 2.0, 9.0, 25.0])
        patience = draw.choice([None] * 8 + [0.0, 0.1, 3.0])
        call = world.participants[caller].call(
            destination, method, payload, response_timeout=timeout, ack_timeout=window
        )
        self.plans[call.request_id] = Plan(reply, delay, draw.random() < 0.1)
        if patience is not None:
            world.at(world.now + patience, call.cancel)

    # trouble

    def _plan_trouble(self) -> None:
        draw = self.random
        for _ in range(draw.choice([0, 0, 1, 2, 4])):
            at, name = draw.uniform(0.0, HEALED_AT), draw.choice(self.names)
            self.world.at(at, partial(self._go, name))
        for _ in range(draw.choice([0, 1, 2])):
            change = partial(
                self.world.set_link,
                self.draws.link(),
                sender=draw.choice([*self.names, None]),
                receiver=draw.choice([*self.names, None]),
            )
            self.world.at(draw.uniform(0.0, HEALED_AT), change)
        if MALLORY in self.world.participants:
            for _ in range(20):
                self.world.at(draw.uniform(0.0, HEALED_AT + 5.0), self._copy)

    def _go(self, name: str) -> None:
        """Somebody goes, and is back after a while, or after a moment that nobody noticed."""
        draw, world = self.random, self.world
        if not world.participants[name].is_connected or world.now >= HEALED_AT:
            return
        how = draw.choice(["left", "cut", "cut unnoticed"])
        self.reached[how] += 1
        if how == "left":
            world.leave(name)
        else:
            world.cut(name, noticed=how == "cut")
        replay, new_session = draw.choice([0, 0, 4, 64]), draw.random() < 0.3
        self.reached["replayed"] += replay > 0
        world.at(
            world.now + draw.choice([0.001, 0.1, 1.0, 6.0]),
            lambda: world.come_back(name, new_session=new_session, replay=replay),
        )

    def _copy(self) -> None:
        """Mallory sends what somebody else has just sent, as far as she is let."""
        packets = [sent for sent in self.world.sent[-8:] if sent.kind is not None]
        for sent in self.random.sample(packets, min(2, len(packets))):
            target = self.random.choice([sent.destination_identity, sent.sender_identity])
            data = readdressed(sent, target)
            self.world.send(MALLORY, target, data)
            self.reached["copied by mallory"] += 1

    def _heal(self) -> list[WorldCall]:
        """All is well from now on, and everyone calls everyone."""
        self.world.heal()
        self.world.run(until=HEALED_AT + 2.0)
        return [
            self._call_late(self.world.participants[caller], destination)
            for caller, destination in itertools.permutations(self.names, 2)
        ]

    def _call_late(self, caller: WorldParticipant, destination: str) -> WorldCall:
        number = len(self.world.calls)
        call = caller.call(
            destination, "work", f"{number}? late", response_timeout=10.0, ack_timeout=7.0
        )
        self.plans[call.request_id] = Plan(f"{number}! late", self.random.choice([0.0, 0.5]))
        return call

    # the verdict

    def _judge(self, late: list[WorldCall]) -> None:
        world = self.world
        oracle = Oracle(
            world.sent,
            self.engines,
            self.plans,
            set(METHODS),
            numbers={call.request_id: call.number for call in world.calls},
            slow={name for name in self.names if world.participants[name].uplink < math.inf},
            stamped=self.stamped,
        )
        oracle.judge()
        require(len(self.world.calls) >= MIN_CALLS + len(late), "too few calls")
        for call in late:
            expected = self.plans[call.request_id].reply
            require(
                call.outcome == expected, f"call {call.number} failed in peace: {call.outcome!r}"
            )
        for engine in self.engines:
            require_nothing_left(engine)
        self.reached += oracle.reached


def readdressed(sent: SentPacket, target: str) -> bytes:
    """The packet as if it had always been meant for `target`."""
    decoded = wire.decode(sent.data)
    assert decoded is not None
    assert not isinstance(decoded.message, Unread)
    return wire.encode(decoded.message, sent.sender_identity, target)


def require_nothing_left(engine: WatchedEngine) -> None:
    """L17: nothing is pending, and no table holds anything but memories."""
    counts, roster, memory = engine.statistics(), engine._roster, engine._responder._memory
    caller, outbox, reader = engine._caller, engine._outbox, engine._reader
    recipients = caller._recipients
    remembered = sum(len(each.ring) + len(each.shared) for each in memory._callers.values())
    left = {
        "a deadline": engine.next_deadline,
        "calls": counts.pending_calls,
        "invocations": counts.running_invocations,
        "streams in": counts.open_streams_in,
        "streams out": counts.open_streams_out,
        "packets": counts.waiting_packets,
        "waiting bytes": counts.waiting_bytes,
        "buffered bytes": counts.buffered_bytes,
        "responses being read": caller._reading,
        "recipients in grace": {**recipients._departed, **roster.sids_in_grace},
        "recipients with calls": [each for each in recipients._here.values() if each.pending()],
        "recipients of streams": outbox._to,
        "streams being deflated": outbox._deflating,
        "turns of senders": reader._turns,
        "what senders hold": [
            sender.identity
            for sender in reader.senders.by_identity.values()
            if sender.held_bytes or sender.invocations or sender.streams or sender.waiting
        ],
        "requests that run": len(memory.known) - remembered,
        "requests that ended and are not counted": remembered - memory._ended,
        "answers of nobody": memory.answers.keys() - memory.known.values(),
        "sids of nobody": roster._by_sid.keys() - {known.sid for known in engine.known.values()},
        "senders that left": roster.senders.keys() - engine.known,
        "participants that left": set(engine.participants) - engine.known.keys(),
    }
    for what, how_much in left.items():
        require(not how_much, f"{engine.identity} has {what} left: {how_much}")


# the program


def simulate(seed: int) -> Counter[str]:
    """Run one seed; what it reached. What it raises names the command that repeats it, and the
    journal that it has written."""
    simulation = Simulation(seed)
    try:
        simulation.run()
    except Exception as error:
        raise RuleBrokenError(
            f"seed {seed}: {error or type(error).__name__}\n"
            f"again: python tests/proof simulation {seed}\n"
            f"journal: {write_journal(seed)}"
        ) from error
    return simulation.reached


def write_journal(seed: int) -> Path:
    """The journal of a seed, in the working directory."""
    path = Path(f"simulation-{seed}.jsonl")
    with path.open("w", encoding="utf-8") as file:
        journal = Journal(file.write)
        with suppress(Exception):  # it is why there is a journal, and it is told already
            Simulation(seed).run(journal.engine)
    return path


def repeat(seed: int) -> bool:
    """Print what happens in a seed, and the verdict, which is returned."""
    simulation = Simulation(seed)
    verdict = "all is as the rules have it"
    try:
        simulation.run()
        return True
    except Exception:
        verdict = f"{traceback.format_exc()}journal: {write_journal(seed)}"
        return False
    finally:
        print(simulation.world.transcript(), end="")
        print(verdict)


def run_for(seconds: float, start: int, jobs: int) -> bool:
    """Run seeds from `start` on until the time is up; whether nothing was wrong."""
    ends_at, block = time.monotonic() + seconds, 100
    print(f"seeds from {start} on, for {seconds:g} seconds")
    reached: Counter[str] = Counter()
    failed = []
    with multiprocessing.Pool(jobs) as pool:
        blocks = (range(at, at + block) for at in itertools.count(start, block))
        in_time = itertools.takewhile(lambda _: time.monotonic() < ends_at, blocks)
        # The pool takes a batch when the one before is done, so that it ends in time.
        while batch := list(itertools.islice(in_time, jobs)):
            for result, complaints in pool.map(try_seeds, batch):
                reached += result
                failed += complaints
                for complaint in complaints:
                    print(complaint, flush=True)
    print(summary(reached))
    return not failed


def try_seeds(seeds: Sequence[int]) -> tuple[Counter[str], list[str]]:
    """What these seeds reach, and what was wrong."""
    reached, complaints = Counter({"seeds": len(seeds)}), []
    for seed in seeds:
        try:
            reached += simulate(seed)
        except RuleBrokenError as error:
            complaints.append(str(error))
    return reached, complaints


def summary(reached: Counter[str]) -> str:
    """How often each kind was reached, a line each."""
    kinds = ("seeds", "packets", *KINDS)
    return "\n".join(f"{reached[kind]:12,}  {kind}" for kind in kinds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seed", nargs="?", type=int, help="repeat this seed")
    parser.add_argument("--hours", type=float, default=1.0, help="without a seed: how long")
    parser.add_argument("--start", type=int, default=secrets.randbelow(2**48), help="first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    given = parser.parse_args()
    if given.seed is not None:
        return 0 if repeat(given.seed) else 1
    return 0 if run_for(given.hours * 3600, given.start, given.jobs) else 1


if __name__ == "__main__":
    sys.exit(main())
