"""Inputs that are no packets, and some that end what packets began: what others have open must not
make them slower (R47)."""

import math
import statistics
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple, TypeAlias

from benchmarks.hostile import packets
from benchmarks.hostile.packets import HONEST, METHOD
from benchmarks.hostile.scene import APPLICATION_ERROR, BODY, CALLEE, NOTHING, SOON, Scene, sid_of
from benchmarks.timing import in_turns, seconds
from rpcproto import InvocationReceived

SOME: Final = 5
"""Inputs in a row."""
INPUTS: Final = 40
"""Inputs of a kind that are timed in a round."""
KIND_SECONDS: Final = 0.2
MIN_ROUNDS: Final = 5
MAX_ROUNDS: Final = 41

Inputs: TypeAlias = Generator[Callable[[], object], object, None]
"""What is to be timed; it is sent what came of that."""
Maker: TypeAlias = Callable[[Scene], Inputs]

# --- participants


def _join(scene: Scene, identity: str, sid: str) -> Callable[[], None]:
    return partial(
        scene.engine.participant_joined,
        identity,
        now=scene.tick(),
        participant_sid=sid,
        client_protocol=2,
        capabilities=(2,),
    )


def newcomer(scene: Scene) -> Inputs:
    """Somebody joins."""
    for _ in range(SOME):
        identity = scene.new_id()
        yield _join(scene, identity, sid_of(identity))
        scene.leave(identity)


def first_sid(scene: Scene) -> Inputs:
    """A sid becomes known of somebody who was announced without one."""
    for _ in range(SOME):
        identity = scene.new_id()
        scene.join(identity, "")
        yield _join(scene, identity, sid_of(identity))
        scene.leave(identity)


def another_sid(scene: Scene) -> Inputs:
    """Somebody who has nothing open comes back under another sid."""
    for _ in range(SOME):
        identity = scene.new_id()
        scene.join(identity)
        yield _join(scene, identity, "PA_other")
        scene.leave(identity)


def update(scene: Scene) -> Inputs:
    """Somebody is announced again."""
    for _ in range(SOME):
        yield _join(scene, HONEST, sid_of(HONEST))


def left_with_nothing(scene: Scene) -> Inputs:
    """Somebody leaves who has nothing open."""
    for _ in range(SOME):
        identity = scene.new_id()
        scene.join(identity)
        yield partial(scene.engine.participant_left, identity, now=scene.tick())


def left_unknown(scene: Scene) -> Inputs:
    """Somebody leaves of whom nobody knew."""
    for _ in range(SOME):
        yield partial(scene.engine.participant_left, scene.new_id(), now=scene.tick())


# --- requests


def request_of_newcomer(scene: Scene, *, announced: bool) -> Inputs:
    """A request of somebody who made none before, and its answer."""
    for _ in range(SOME):
        identity = scene.new_id()
        if announced:
            scene.join(identity)
        data = packets.request(scene.new_id(), "x", identity)
        yield partial(_serve, scene, data, scene.tick())
        scene.settle()
        if announced:
            scene.leave(identity)


def _serve(scene: Scene, data: bytes, now: float) -> None:
    scene.engine.receive_packet(data, now=now)
    [event] = scene.engine.take_events()
    assert isinstance(event, InvocationReceived)
    assert scene.engine.respond(event.invocation_id, "", now=now)


def respond(scene: Scene) -> Inputs:
    """An invocation is answered."""
    for _ in range(SOME):
        invocation_id = scene.run(packets.request(scene.new_id(), "x", HONEST))
        answered = yield partial(scene.engine.respond, invocation_id, "", now=scene.tick())
        assert answered
        scene.settle()


def respond_error(scene: Scene) -> Inputs:
    """An invocation is answered with an error."""
    for _ in range(SOME):
        invocation_id = scene.run(packets.request(scene.new_id(), "x", HONEST))
        engine = scene.engine
        answered = yield partial(
            engine.respond_error, invocation_id, APPLICATION_ERROR, now=scene.tick()
        )
        assert answered
        scene.settle()


def answer_failed(scene: Scene, *, announced: bool) -> Inputs:
    """The answer to a request could not be sent; the request may be forgotten already."""
    for _ in range(SOME):
        caller = HONEST if announced else scene.new_id()
        invocation_id = scene.run(packets.request(scene.new_id(), "x", caller))
        assert scene.engine.respond(invocation_id, "", now=scene.tick())
        [packet] = scene.taken_small()
        yield partial(scene.engine.send_failed, packet, now=scene.tick())
        assert scene.settle().keys() <= {"error 1505", NOTHING}


# --- calls


def call(scene: Scene) -> Inputs:
    """We call somebody."""
    for _ in range(SOME):
        request_id = yield partial(scene.engine.call, CALLEE, METHOD, "x", now=scene.tick())
        assert isinstance(request_id, str)
        scene.cancel(request_id)


def cancel(scene: Scene) -> Inputs:
    """A call is cancelled."""
    for _ in range(SOME):
        request_id = scene.call(CALLEE)
        cancelled = yield partial(scene.engine.cancel, request_id, now=scene.tick())
        assert cancelled
        scene.settle()


def cancel_body(scene: Scene) -> Inputs:
    """A call is cancelled whose body has not left."""
    scene.join("reader", protocol=1)
    for _ in range(SOME):
        request_id = scene.call("reader", BODY)
        cancelled = yield partial(scene.engine.cancel, request_id, now=scene.tick())
        assert cancelled
        assert scene.settle()["stream trailer"] == 1
    scene.leave("reader")


def body_failed(scene: Scene) -> Inputs:
    """The header of a call could not be sent, and its body has not left."""
    scene.join("reader", protocol=1)
    for _ in range(SOME):
        scene.engine.call("reader", METHOD, BODY, now=scene.tick())
        [packet] = scene.taken_small()
        yield partial(scene.engine.send_failed, packet, now=scene.tick())
        assert scene.settle()["CallFailed"] == 1
    scene.leave("reader")


# --- the rest


def register(scene: Scene) -> Inputs:
    """A method is registered."""
    for _ in range(SOME):
        yield partial(scene.engine.register_method, "another")
        scene.engine.unregister_method("another")


def nothing_due(scene: Scene) -> Inputs:
    """`handle_deadline` is called too early."""
    for _ in range(SOME):
        yield partial(scene.engine.handle_deadline, now=scene.tick())
        assert not scene.engine.take_events()


def one_due(scene: Scene) -> Inputs:
    """`handle_deadline` ends one call."""
    for _ in range(SOME):
        scene.engine.call(CALLEE, METHOD, "", now=scene.tick(), response_timeout=SOON)
        scene.now += 2 * SOON
        yield partial(scene.engine.handle_deadline, now=scene.now)
        assert scene.settle()["CallFailed"] == 1


def next_deadline(scene: Scene) -> Inputs:
    """The host asks when something is due."""
    for _ in range(SOME):
        deadline = yield lambda: scene.engine.next_deadline
        assert (deadline is None) == (scene.tables().pending_calls == 0)


MAKERS: Final[dict[str, Maker]] = {
    "participant_joined of a newcomer": newcomer,
    "participant_joined with a first sid": first_sid,
    "participant_joined with another sid, nothing open": another_sid,
    "participant_joined again": update,
    "participant_left of somebody with nothing open": left_with_nothing,
    "participant_left of nobody known": left_unknown,
    "a first request and its answer": partial(request_of_newcomer, announced=True),
    "  of a caller that nobody announced": partial(request_of_newcomer, announced=False),
    "respond": respond,
    "respond_error": respond_error,
    "send_failed of an answer": partial(answer_failed, announced=True),
    "  to a caller that nobody announced": partial(answer_failed, announced=False),
    "call": call,
    "cancel": cancel,
    "cancel of a call whose body has not left": cancel_body,
    "send_failed of a header, the body has not left": body_failed,
    "register_method": register,
    "handle_deadline with nothing due": nothing_due,
    "handle_deadline that ends one call": one_due,
    "next_deadline": next_deadline,
}


class Result(NamedTuple):
    """A kind of inputs, measured."""

    what: str
    seconds: float
    """At empty tables."""
    in_rings: float
    """At full tables, relative to empty ones; each remembered request is an announced caller's."""
    shared: float
    """The same; all remembered requests are of callers that nobody announced."""


def measure(what: str, make: Maker, in_rings: Scene, shared: Scene) -> Result:
    """Measure a kind of inputs, in three scenes by turns; that with empty tables is always new."""
    works: list[Callable[[], float]] = [
        lambda: _spent(Scene(), make),
        partial(_spent, in_rings, make),
        partial(_spent, shared, make),
    ]
    number = math.ceil(KIND_SECONDS / sum(seconds(work) for work in works))
    rounds = in_turns(works, max(MIN_ROUNDS, min(number, MAX_ROUNDS)))
    empty, *full = (statistics.median(times) for times in zip(*rounds, strict=True))
    return Result(what, empty, *(spent / empty for spent in full))


def _spent(scene: Scene, make: Maker) -> float:
    """The seconds of one input, the first ones not counted; the tables are left as they were."""
    tables = scene.tables()
    _times(scene, make)
    times: list[float] = []
    while len(times) < INPUTS:
        times += _times(scene, make)
    assert scene.tables() == tables
    return sum(times) / len(times)


def _times(scene: Scene, make: Maker) -> list[float]:
    """The seconds of each input that is made."""
    times: list[float] = []
    inputs = make(scene)
    work = next(inputs)
    with suppress(StopIteration):
        while True:
            start = time.perf_counter()
            result = work()
            times.append(time.perf_counter() - start)
            work = inputs.send(result)
    return times
