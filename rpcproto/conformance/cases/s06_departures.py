"""6: who leaves, and who is never there."""

from rpcproto.conformance.case import Level, Unmet, case
from rpcproto.conformance.scene import Scene, TesteeCall, said
from rpcproto.conformance.writing import waiting

CALL = ("conform.call",)
WAIT = ("conform.wait",)
ABSENT = (1401, 1501, 1503)
GRACE = 2.0
"""How long after a departure an answer may still be waited for, in seconds."""
LONG_AFTER = 4.0
"""So many seconds after something, what would come of it has come on a busy machine, too."""


async def is_given_up(scene: Scene, call: TesteeCall) -> None:
    """A call whose callee has left just now fails with 1503 within GRACE."""
    call.began = scene.now
    outcome = await call.outcome(GRACE)
    if outcome.get("code") != 1503:
        raise Unmet("a call that fails with 1503 within 2 s", said(outcome))


@case(
    "6.1",
    "The callee of a testee's call leaves after its ack",
    sees="error 1503 within 2 s",
    rule="R9 A2",
    why="The application waits for its whole timeout, and gets 1502 instead of 1503.",
    level=Level.SHOULD,
    methods=CALL,
    seconds=3,
)
async def the_callee_leaves(scene: Scene) -> None:
    alice = await scene.join("alice")
    call, request = await scene.called(alice, response_timeout=9)
    alice.ack(request)
    await scene.settle()
    await scene.leave(alice)
    await is_given_up(scene, call)


@case(
    "6.2",
    "The callee of a testee's call leaves 2.5 s after its ack",
    sees="INFO: how long after that the call ends, and with which code",
    rule="R9 A7",
    why="A departure can overtake the answer that was given before: some SDKs wait up to 2 s.",
    level=Level.INFO,
    methods=CALL,
    seconds=9,
)
async def grace_of_a_departure(scene: Scene) -> str:
    alice = await scene.join("alice")
    call, request = await scene.called(alice, response_timeout=9)
    alice.ack(request)
    await scene.sleep(2.5)
    await scene.leave(alice)
    left = scene.now
    outcome = await call.outcome(9)
    seconds = (call.ended or scene.now) - left
    when = "at once" if seconds < GRACE / 2 else "after a grace of about 2 s"
    if seconds > 2 * GRACE:
        when = "at its timeout"
    return f"its callee leaves, and {when} {said(outcome)}"


@case(
    "6.3",
    "The callee of a testee's call leaves before its ack",
    sees="error 1503 within 2 s",
    rule="R9 A2",
    why="The application waits for the ack window, although nobody can answer.",
    level=Level.SHOULD,
    methods=CALL,
    seconds=3,
)
async def the_callee_leaves_before_its_ack(scene: Scene) -> None:
    alice = await scene.join("alice")
    call, _ = await scene.called(alice, response_timeout=9)
    await scene.leave(alice)
    await is_given_up(scene, call)


@case(
    "6.4",
    "The callee of a testee's call leaves, and its answer comes after the news of that",
    sees="INFO: whether the call succeeds",
    rule="R9 A7",
    why="In a LiveKit room departures overtake answers, since nothing orders the two.",
    level=Level.INFO,
    methods=CALL,
    seconds=13,
)
async def the_answer_comes_after_the_departure(scene: Scene) -> str:
    alice = await scene.join("alice")
    call, request = await scene.called(alice, response_timeout=12)
    alice.ack(request)
    await scene.leave(alice)
    alice.answer(request, "I leave now")
    return f"the answer comes after the departure: {said(await call.outcome(12))}"


@case(
    "6.5",
    "Another participant leaves during a call of the testee",
    sees="the call goes on, and succeeds",
    rule="R9",
    why="Each departure of somebody else would break calls.",
    methods=CALL,
    seconds=4,
)
async def somebody_else_leaves(scene: Scene) -> None:
    alice, bob = await scene.join("alice"), await scene.join("bob")
    call, request = await scene.called(alice)
    alice.ack(request)
    await scene.leave(bob)
    await scene.sleep(LONG_AFTER)
    await call.is_still_pending()
    alice.answer(request, "still here")
    await call.succeeds("still here")


@case(
    "6.11",
    "The testee calls somebody who was never there",
    sees="error 1401 or 1501, before its timeout of 10 s is over",
    rule="R3 R12 A7",
    why="The server drops such packets silently: the application would wait for its whole timeout.",
    methods=CALL,
    seconds=8,
)
async def nobody_is_there(scene: Scene) -> None:
    call = await scene.call("nobody", response_timeout=10)
    outcome = await call.outcome(9)
    if outcome.get("code") not in (1401, 1501):
        raise Unmet("a call that fails with 1401 or 1501", said(outcome))


@case(
    "6.12",
    "The testee calls a participant that has left",
    sees="error 1401, 1501 or 1503, before its timeout of 10 s is over",
    rule="R3 R12",
    why="The application waits for its whole timeout, although nobody can answer.",
    methods=CALL,
    seconds=8,
)
async def a_call_to_somebody_who_left(scene: Scene) -> None:
    alice = await scene.join("alice")
    await scene.leave(alice)
    call = await scene.call(alice, response_timeout=10)
    outcome = await call.outcome(9)
    if outcome.get("code") not in ABSENT:
        raise Unmet("a call that fails with 1401, 1501 or 1503", said(outcome))


@case(
    "6.13",
    "A caller leaves while its handler runs for 2 s",
    sees="nothing more to it",
    rule="R19",
    why="Answers for those who have left use bandwidth, up to 16 MB each.",
    level=Level.SHOULD,
    methods=WAIT,
    seconds=4,
)
async def the_caller_leaves(scene: Scene) -> None:
    alice = await scene.join("alice")
    request = alice.request("conform.wait", waiting(2))
    await alice.gets_ack(request)
    await scene.leave(alice)
    await scene.sleep(LONG_AFTER)
    await scene.nothing_more()


@case(
    "6.15",
    "Another participant leaves while a handler runs for 2 s",
    sees="the answer",
    rule="R19",
    why="Each departure of somebody else would break calls.",
    methods=WAIT,
    seconds=3,
)
async def somebody_else_leaves_a_handler(scene: Scene) -> None:
    alice, bob = await scene.join("alice"), await scene.join("bob")
    request = alice.request("conform.wait", waiting(2))
    await alice.gets_ack(request)
    await scene.leave(bob)
    await alice.gets_outcome(request, within=2)
    await alice.gets_answer(request, "done")


@case(
    "6.17",
    "A participant leaves that was never announced",
    sees="no harm: calls of others are answered",
    rule="R40",
    why="One stray notice would stop the service for everybody.",
)
async def a_stranger_leaves(scene: Scene) -> None:
    alice = await scene.join("alice")
    stranger = await scene.join("stranger", is_announced=False)
    await scene.leave(stranger)
    await alice.gets_answer(alice.request("conform.echo", "hello"), "hello")
