"""A world drawn from a seed, played by programs on both hosts over a room that loses packets:
whether all that came of it is what the rules allow, and nothing is left of anything.

    python tests/proof simulation_programs 42      # this seed again, on both hosts
"""

import argparse
import asyncio
import logging
import math
import sys
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

import anyio
import trio
from simulation import require_nothing_left
from simulation_draws import HEALED_AT, METHODS
from simulation_engine import WatchedEngine
from simulation_oracle import Oracle, RuleBrokenError, ends_of, require
from simulation_oracle import Plan as Told
from simulation_plans import OVER_AT, Asking, How, Leaving, Plan
from worlds import WORLDS, World

from rpcproto import CallFailed, CallSucceeded, InvocationAbandoned, InvocationReceived, RpcError
from rpcproto.asyncio import RpcParticipant
from rpcproto.participant import RpcInvocationData
from rpcproto.testing import Link, SentPacket, counting_ids
from rpcproto.transports.memory import MemoryRoom

Outcome: TypeAlias = str | RpcError | None
"""None for what was cancelled."""
Line: TypeAlias = tuple[str, float, str]
"""Who, when, what."""

KINDS: Final = (
    *("succeeded", "cancelled", "handler's error", "1400", "1401", "1402", "1500", "1501", "1502"),
    *("1503", "1504", "1505 of the caller", "1505 of the responder", "1500 of a damaged stream"),
    *("lost", "not sent", "repeated", "held back", "v1 request", "v1 response", "inline"),
    *("inline, compressed", "in chunks", "in chunks, compressed", "answered"),
    *("abandoned: caller left", "abandoned: expired", "abandoned: disconnected"),
    *("abandoned: closed", "answered in grace", "1503 after a grace", "closes", "cancels", "cut"),
    *("cut unnoticed", "left after an answer", "asked by a handler", "asked again"),
    *("refused without a connection", "lingered", "waited", "waited in vain"),
)
"""What can be reached; a few hundred seeds reach all of it."""


@dataclass(eq=False)
class Attempt:
    """One call of `perform_rpc`, and how it ended by the program's account."""

    name: str
    asking: Asking
    began_at: float
    is_of_handler: bool
    request_id: str = ""
    """Empty if the engine has never heard of it."""
    ends: list[tuple[float, Outcome]] = field(default_factory=list)


@dataclass(eq=False)
class Run:
    """A handler that ran, by its own account."""

    request_id: str
    began_at: float
    cancelled_at: float | None = None
    ended_at: float | None = None


class Wait(NamedTuple):
    """A wait for a participant, and whether that was there in the end."""

    identity: str
    began_at: float
    ended_at: float
    has_come: bool


@dataclass(eq=False)
class Life:
    """A participant from entering to leaving."""

    name: str
    over: anyio.Event
    participant: RpcParticipant | None = None
    engine: WatchedEngine | None = None
    leaves_by: str = "closes"
    back_at: float = math.inf
    calls: Any = None
    """The task group of its program."""
    attempts: list[Attempt] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)


class Played:
    """One seed on one host."""

    def __init__(self, seed: int, world: World) -> None:
        self.plan = Plan(seed)
        self.reached: Counter[str] = Counter()
        self.sent: list[SentPacket] = []
        self._world = world
        self._lines: list[Line] = []
        self._lives: dict[str, Life] = {}
        """Those who are here."""
        self._all: list[Life] = []
        self._made: dict[str, Attempt] = {}
        self._told: dict[str, Told] = {}
        self._complaints: list[str] = []
        self._is_over = False
        self._room: MemoryRoom

    def run(self) -> tuple[Line, ...]:
        """Play and judge it; returns the story. Raises RuleBrokenError."""
        with _without_logging():
            self._world.run(self._main)
        self._judge()
        return self.story()

    def story(self) -> tuple[Line, ...]:
        """Of each participant all that it did and sent, in the order of time; what happened at one
        instant is sorted, as the order of tasks at an instant is the event loop's own."""
        lines = [*self._lines]
        for life in self._all:
            for attempt in life.attempts:
                lines += [(life.name, *end) for end in _told_ends(life, attempt)]
        for sent in self.sent:
            made = self._made.get(sent.request_id)
            what = f"{sent.kind and sent.kind.value} {made and made.name} ({len(sent.data)})"
            fate = f"{sent.fate.value} {sent.arrived_at}"
            text = f"→ {sent.destination_identity}: {what} {fate}"
            lines.append((sent.sender_identity, sent.sent_at, text))
        return tuple(sorted(lines))

    def _note(self, who: str, what: str) -> None:
        self._lines.append((who, anyio.current_time(), what))

    # the program

    async def _main(self) -> None:
        tasks = _living_tasks()
        plan = self.plan
        self._room = MemoryRoom(link=plan.link, seed=plan.seed, observe=self._observe)
        with anyio.fail_after(10 * OVER_AT):
            async with anyio.create_task_group() as group:
                for name in plan.members:
                    group.start_soon(self._live, name)
                for at, link, sender, receiver in plan.link_changes:
                    change = partial(self._change_link, link, sender, receiver)
                    group.start_soon(self._at, at, change)
                for leaving in plan.leavings:
                    group.start_soon(self._at, leaving.at, partial(self._trouble, leaving))
                for asking in (*plan.askings, *plan.late):
                    group.start_soon(self._at, asking.at, partial(self._begin, asking))
                await anyio.sleep_until(HEALED_AT)
                self._room.heal()
                await anyio.sleep_until(OVER_AT)
                self._end()
        if _living_tasks() != tasks or _has_timers():
            self._complaints.append("a task or a timer is left")

    def _observe(self, what: object) -> None:
        if isinstance(what, SentPacket):
            self.sent.append(what)

    async def _at(self, instant: float, action: Callable[[], Awaitable[None]]) -> None:
        await anyio.sleep_until(instant)
        await action()

    async def _change_link(self, link: Link, sender: str | None, receiver: str | None) -> None:
        self._room.set_link(link, sender=sender, receiver=receiver)

    async def _live(self, name: str) -> None:
        member = self.plan.members[name]
        await anyio.sleep_until(member.joins_at)
        for number in range(1, 1_000):
            life = Life(name, anyio.Event())
            transport = self._room.join(
                name, client_protocol=member.client_protocol, capabilities=member.capabilities
            )
            self._all.append(life)
            participant = life.participant = self._world.participant(
                transport,
                config=member.config,
                new_id=counting_ids(f"{number}{name.encode().hex():0<7.7}"),
                engine_factory=partial(self._engine, life),
            )
            for method in METHODS:
                participant.register_rpc_method(method, partial(self._handle, life))
            self._note(name, "enters")
            async with participant, anyio.create_task_group() as life.calls:
                self._lives[name] = life
                await life.over.wait()
                if life.leaves_by == "cancels":
                    life.calls.cancel_scope.cancel()
                else:
                    await participant.aclose()
            self._note(name, "has left")
            self._require_idle(life, "after leaving")
            if self._is_over:
                return
            await anyio.sleep_until(life.back_at)

    def _engine(self, life: Life, identity: str, **options: Any) -> WatchedEngine:
        engine = life.engine = _Engine(identity, **options)
        engine.makes = partial(self._make, life)
        return engine

    def _end(self) -> None:
        self._is_over = True
        for life in [*self._lives.values()]:
            self._require_idle(life, "when all is over")
            self._leave(life, "closes", math.inf)

    def _require_idle(self, life: Life, when: str) -> None:
        """No call, nobody who waits, and no handler, by the host's own account."""
        participant: Any = life.participant
        waiting, handlers = participant._waiting, participant._handlers
        left = {
            "calls": waiting.calls,
            "calls that wait": waiting.delayed,
            "others that are waited for": waiting._expected,
            "handlers that run": handlers._running,
            "callers of handlers": handlers._running_of,
        }
        self._complaints += [
            f"{life.name} has {what} left {when}: {len(some)}"
            for what, some in left.items()
            if some
        ]

    # trouble

    async def _trouble(self, leaving: Leaving) -> None:
        name, how = leaving.name, leaving.how
        life = self._lives.get(name)
        if life is None:
            return
        self.reached[how] += 1
        soon_after_healing = HEALED_AT + leaving.at % 0.5  # and at an instant of its own
        back_at = min(leaving.at + leaving.back_after, soon_after_healing)
        if how in ("closes", "cancels"):
            self._leave(life, how, back_at)
            return
        self._note(name, how)
        self._room.cut(name, noticed=how == "cut")
        await anyio.sleep_until(back_at)
        if self._lives.get(name) is life:
            self._note(name, "comes back")
            self._room.come_back(name)

    def _leave(self, life: Life, how: str, back_at: float) -> None:
        if self._lives.get(life.name) is life:
            self._note(life.name, how)
            del self._lives[life.name]
            life.leaves_by, life.back_at = how, back_at
            life.over.set()

    # calls

    async def _begin(self, asking: Asking) -> None:
        life = self._lives.get(asking.caller)
        if life is not None:
            life.calls.start_soon(self._ask, life, asking)

    async def _ask(self, life: Life, asking: Asking) -> Outcome:
        assert life.participant is not None
        if asking.waits:
            began_at = anyio.current_time()
            with anyio.move_on_after(asking.waits) as patience:
                try:
                    await life.participant.wait_for_participant(asking.destination)
                except RpcError as error:  # its participant leaves
                    return error
            has_come = not patience.cancelled_caught
            self.reached["waited" if has_come else "waited in vain"] += 1
            self._note(life.name, f"{asking.name} waited")
            life.waits.append(Wait(asking.destination, began_at, anyio.current_time(), has_come))
            await anyio.sleep(asking.pause)
        outcome: Outcome = None
        for number in range(1, asking.tries + 1):
            if life.over.is_set():
                break
            self.reached["asked again"] += number > 1
            outcome = await self._try(life, asking, f"{asking.name} ({number})")
            if not isinstance(outcome, RpcError):
                break
            await anyio.sleep(asking.pause)
        return outcome

    async def _try(self, life: Life, asking: Asking, name: str) -> Outcome:
        assert life.participant is not None
        is_of_handler = "." in asking.name
        attempt = Attempt(name, asking, anyio.current_time(), is_of_handler)
        life.attempts.append(attempt)
        outcome: Outcome = None
        self._note(life.name, f"calls {name}")
        try:
            with anyio.move_on_after(asking.patience):
                outcome = await life.participant.perform_rpc(
                    destination_identity=asking.destination,
                    method=asking.method,
                    payload=asking.payload,
                    response_timeout=asking.timeout,
                    max_round_trip_latency=asking.window,
                )
        except RpcError as error:
            outcome = error
        finally:
            attempt.ends.append((anyio.current_time(), outcome))
        return outcome

    def _make(self, life: Life, request_id: str, what: tuple[str, str, str]) -> None:
        """The engine makes a call, which is the oldest of those like it that it has not made."""
        attempt = next(
            attempt
            for attempt in life.attempts
            if not (attempt.request_id or attempt.ends)
            and (attempt.asking.destination, attempt.asking.method, attempt.asking.payload) == what
        )
        attempt.request_id = request_id
        self._made[request_id] = attempt
        serving = attempt.asking.serving
        self._told[request_id] = Told(serving.reply, serving.delay, serving.leaves)

    # handlers

    def _handle(self, life: Life, data: RpcInvocationData) -> Any:
        serving = self._made[data.request_id].asking.serving
        run = Run(data.request_id, anyio.current_time())
        life.runs.append(run)
        self._note(life.name, f"serves {self._made[data.request_id].name}")
        if serving.delay or serving.how is How.NEVER_ENDS:
            return self._serve(life, run)
        try:
            return self._answer(life, run)
        finally:
            run.ended_at = anyio.current_time()

    async def _serve(self, life: Life, run: Run) -> Any:
        serving = self._made[run.request_id].asking.serving
        try:
            if serving.how is How.NEVER_ENDS:
                await anyio.sleep_forever()
            if serving.asks is not None:
                self.reached["asked by a handler"] += 1
                outcome = await self._ask(life, serving.asks)
                if isinstance(outcome, RpcError):
                    error = RpcError(2000 + outcome.code, "it could not be asked")
                    self._told[run.request_id] = Told(error, 0.0)
                    await anyio.sleep(serving.delay)
                    raise error
            await anyio.sleep(serving.delay)
            return self._answer(life, run)
        except anyio.get_cancelled_exc_class():
            run.cancelled_at = anyio.current_time()
            if serving.lingers:
                self.reached["lingered"] += 1
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(serving.lingers)
            raise
        finally:
            run.ended_at = anyio.current_time()
            cancelled = "" if run.cancelled_at is None else f", cancelled at {run.cancelled_at}"
            self._note(life.name, f"has served {self._made[run.request_id].name}{cancelled}")

    def _answer(self, life: Life, run: Run) -> object:
        serving, now = self._made[run.request_id].asking.serving, anyio.current_time()
        if serving.leaves and now < HEALED_AT:
            self.reached["left after an answer"] += 1
            life.calls.start_soon(
                self._at, now + serving.lingers + 0.125, partial(self._leave_after, life)
            )
        if serving.raises is not None:
            raise serving.raises
        return serving.result

    async def _leave_after(self, life: Life) -> None:
        if not self._is_over:
            self._leave(life, "closes", anyio.current_time() + 0.25)

    # the verdict

    def _judge(self) -> None:
        require(not self._complaints, "; ".join(self._complaints))
        engines = [life.engine for life in self._all if life.engine is not None]
        oracle = Oracle(
            self.sent,
            engines,
            self._told,
            METHODS,
            numbers={request_id: attempt.name for request_id, attempt in self._made.items()},
        )
        oracle.judge()
        for engine in engines:
            require_nothing_left(engine)
        for life in self._all:
            self._judge_calls(life)
            self._judge_handlers(life)
            self._judge_waits(life)
        late = {
            a.asking.name: a.ends[0][1] for a in self._made.values() if a.asking in self.plan.late
        }
        for asking in self.plan.late:
            outcome = late.get(asking.name)
            require(outcome == asking.serving.reply, f"{asking.name} failed in peace: {outcome!r}")
        self.reached += oracle.reached

    def _judge_calls(self, life: Life) -> None:
        """The program was told how each call ended, once, and when it ended."""
        assert life.engine is not None
        ends = ends_of(life.engine)
        for attempt in life.attempts:
            require(len(attempt.ends) == 1, f"{attempt.name} ended {len(attempt.ends)} times")
            at, outcome = attempt.ends[0]
            if not attempt.request_id:
                self.reached["refused without a connection"] += 1
                is_refused = isinstance(outcome, RpcError) and outcome.code == 1503
                require(is_refused and at == attempt.began_at, f"{attempt.name} was never made")
                lost = [lost for lost in life.engine.lost_at if lost <= at]
                require(lost, f"{attempt.name} was refused though the connection was there")
                continue
            end = ends[attempt.request_id]
            require(at == end.at, f"{attempt.name} ended at {end.at}, and was told so at {at}")
            match end.event:
                case CallSucceeded(payload=payload):
                    same = outcome in (payload, None)
                case CallFailed(code=code, message=message, data=data):
                    same = outcome is None or _fields(outcome) == (code, message, data)
                case None:
                    same = outcome is None
            is_cancelled = end.event is not None and outcome is None
            require(not is_cancelled or _may_be_cancelled(life, attempt), "told of no end")
            require(same, f"{attempt.name} ended with {end.event}, and was told {outcome!r}")

    def _judge_waits(self, life: Life) -> None:
        """A wait ends when the participant is announced, at once if it is here."""
        engine = life.engine
        assert engine is not None
        for identity, began_at, ended_at, has_come in life.waits:
            news = [(at, True) for at, who, _ in engine.announced if who == identity]
            news += [(at, False) for at, who, _ in engine.departures if who == identity]
            before = [is_here for at, is_here in sorted(news) if at <= began_at]
            if before and before[-1]:
                require(has_come and ended_at == began_at, "waited for somebody who was here")
                continue
            came = [at for at, is_here in news if is_here and began_at <= at <= ended_at]
            require(came == [ended_at] * has_come, "a wait ended before or after somebody came")

    def _judge_handlers(self, life: Life) -> None:
        """A handler runs for each invocation, and is cancelled when that is abandoned."""
        engine = life.engine
        assert engine is not None
        abandoned = {
            event.invocation_id: at
            for at, event in engine.events
            if isinstance(event, InvocationAbandoned)
        }
        runs = {run.request_id: run for run in life.runs}
        require(len(runs) == len(life.runs), "a handler ran twice for a request")
        for at, event in engine.events:
            if not isinstance(event, InvocationReceived):
                continue
            run = runs.pop(event.request_id, None)
            over_at = abandoned.get(event.invocation_id)
            if run is None:
                require(over_at == at, f"no handler ran for {event}")
                continue
            require(run.began_at == at, "a handler did not run at once")
            require(run.ended_at is not None, "a handler has not ended")
            if run.cancelled_at is not None:
                require(run.cancelled_at == over_at, "a handler was cancelled for no reason")
            elif over_at is not None:
                require(run.ended_at == over_at, "a handler was not cancelled")
        require(not runs, f"handlers ran for nothing: {runs}")


class _Engine(WatchedEngine):
    makes: Callable[[str, tuple[str, str, str]], None]

    def call(self, destination: str, method: str, payload: str, **more: Any) -> str:  # type: ignore[override]
        request_id = super().call(destination, method, payload, **more)
        self.makes(request_id, (destination, method, payload))
        return request_id


def _may_be_cancelled(life: Life, attempt: Attempt) -> bool:
    """Whether a call can be cancelled at the instant at which it ended by itself."""
    [(at, _)] = attempt.ends
    gives_up = attempt.began_at + attempt.asking.patience == at
    return gives_up or any(run.cancelled_at == at for run in life.runs) or life.over.is_set()


def _told_ends(life: Life, attempt: Attempt) -> Iterator[tuple[float, str]]:
    """When and how a call ended. If somebody leaves, a handler may be cancelled at the instant at
    which its own call fails: which of the two it sees is the event loop's choice."""
    for at, outcome in attempt.ends:
        is_cancelled = any(run.cancelled_at == at for run in life.runs)
        how = "its handler" if attempt.is_of_handler and is_cancelled else _short(outcome)
        yield at, f"{attempt.name} ends with {how}"


def _fields(outcome: Outcome) -> object:
    if isinstance(outcome, RpcError):
        return outcome.code, outcome.message, outcome.data
    return outcome


def _short(outcome: Outcome) -> str:
    text = repr(outcome)
    return text if len(text) < 60 else f"{text[:40]}… ({len(text)})"


def _living_tasks() -> int:
    if _is_asyncio():
        return len(asyncio.all_tasks())
    return trio.lowlevel.current_statistics().tasks_living


def _has_timers() -> bool:
    if _is_asyncio():
        loop: Any = asyncio.get_running_loop()
        return any(not timer.cancelled() for timer in loop._scheduled)
    return trio.lowlevel.current_statistics().seconds_to_next_deadline < math.inf


def _is_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@contextmanager
def _without_logging() -> Iterator[None]:
    """Handlers that raise are logged, and here they are meant to."""
    logger = logging.getLogger("rpcproto")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


# the program


def play(seed: int, worlds: Sequence[World] = WORLDS) -> Counter[str]:
    """Play a seed on each host; what it reached. Raises RuleBrokenError, also if its story is not
    the same on all, with the command that repeats it."""
    reached: Counter[str] = Counter()
    stories: dict[str, tuple[Line, ...]] = {}
    again = f"again: python tests/proof simulation_programs {seed}"
    for world in worlds:
        played = Played(seed, world)
        try:
            stories[world.name] = played.run()
        except Exception as error:
            what = f"{error or type(error).__name__}"
            raise RuleBrokenError(f"seed {seed} on {world.name}: {what}\n{again}") from error
        reached += played.reached
    first, *others = stories.items()
    for name, story in others:
        if story != first[1]:
            only = min({*first[1]} ^ {*story}, key=lambda line: line[1])
            where = first[0] if only in first[1] else name
            raise RuleBrokenError(
                f"seed {seed}: not the same story on {first[0]} and {name}; only on {where}:\n"
                f"{_text(only)}\n{again}"
            )
    return reached


def try_seeds(seeds: Sequence[int]) -> tuple[Counter[str], list[str]]:
    """What these seeds reach, and what was wrong."""
    reached, complaints = Counter({"seeds": len(seeds)}), []
    for seed in seeds:
        try:
            reached += play(seed)
        except RuleBrokenError as error:
            complaints.append(str(error))
    return reached, complaints


def repeat(seed: int) -> bool:
    """Print the story of a seed on each host, and the verdict, which is returned."""
    for world in WORLDS:
        played = Played(seed, world)
        try:
            played.run()
            verdict = ""
        except Exception:
            verdict = traceback.format_exc()
        print(f"--- {world.name}")
        for line in sorted(played.story(), key=lambda line: line[1]):
            print(_text(line))
        print(verdict, end="")
    try:
        play(seed)
    except RuleBrokenError as error:
        print(error)
        return False
    print("all is as the rules have it, and the same on both hosts")
    return True


def summary(reached: Counter[str]) -> str:
    """How often each kind was reached, a line each."""
    return "\n".join(f"{reached[kind]:12,}  {kind}" for kind in ("seeds", *KINDS))


def _text(line: Line) -> str:
    who, at, what = line
    return f"{at:12.7f} s  {who} {what}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seed", type=int, help="repeat this seed")
    return 0 if repeat(parser.parse_args().seed) else 1


if __name__ == "__main__":
    sys.exit(main())
