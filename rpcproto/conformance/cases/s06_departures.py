"""6: who leaves, comes back, is never there."""

import json

from rpcproto.conformance.case import Level, Unmet, case
from rpcproto.conformance.reading import Form
from rpcproto.conformance.scene import Scene, said
from rpcproto.conformance.writing import new_id, request_parts

CALL = ("conform.call",)
WAIT = ("conform.wait",)
ABSENT = (1401, 1501, 1503)
GRACE = 2.0
"""How long after a departure an answer may still be waited for, in seconds."""


def waiting(seconds: float, answer: str = "done") -> str:
    """The payload of `conform.wait`."""
    return json.dumps({"seconds": seconds, "answer": answer})


@case(
    "6.1",
    "The callee of a testee's call leaves after its ack",
    sees="error 1503 within 2 s",
    rule="R9 A2",
    why="Nobody will answer: the application waits for the whole timeout, and is told 1502.",
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
    call.began = scene.now
    outcome = await call.outcome(GRACE)
    if outcome.get("code") != 1503:
        raise Unmet("a call that fails with 1503 within 2 s", said(outcome))


@case(
    "6.2",
    "The callee of a testee's call leaves after its ack",
    sees="INFO: how long after that the call ends, and with which code",
    rule="R9 A7",
    why="A departure can overtake the answer that was given before: some SDKs wait up to 2 s.",
    level=Level.INFO,
    methods=CALL,
    seconds=7,
)
async def grace_of_a_departure(scene: Scene) -> str:
    alice = await scene.join("alice")
    call, request = await scene.called(alice, response_timeout=6)
    alice.ack(request)
    await scene.settle()
    await scene.leave(alice)
    left = scene.now
    outcome = await call.outcome(7)
    seconds = (call.ended or scene.now) - left
    when = "at once" if seconds < 0.3 else f"{seconds:.0f} s later"
    return f"its callee leaves, and {when} {said(outcome)}"


@case(
    "6.3",
    "The callee of a testee's call leaves before its ack",
    sees="error 1503 within 2 s",
    rule="R9 A2",
    why="Nobody will answer: the application waits for the ack window.",
    level=Level.SHOULD,
    methods=CALL,
    seconds=3,
)
async def the_callee_leaves_before_its_ack(scene: Scene) -> None:
    alice = await scene.join("alice")
    call, _ = await scene.called(alice, response_timeout=9)
    await scene.leave(alice)
    call.began = scene.now
    outcome = await call.outcome(GRACE)
    if outcome.get("code") != 1503:
        raise Unmet("a call that fails with 1503 within 2 s", said(outcome))


@case(
    "6.4",
    "The callee of a testee's call leaves, and its answer comes after the news of that",
    sees="INFO: whether the call succeeds",
    rule="R9 A7",
    why="In a LiveKit room departures overtake answers, since nothing orders the two.",
    level=Level.INFO,
    methods=CALL,
    seconds=4,
)
async def the_answer_comes_after_the_departure(scene: Scene) -> str:
    alice = await scene.join("alice")
    call, request = await scene.called(alice, response_timeout=3)
    alice.ack(request)
    await scene.leave(alice)
    alice.answer(request, "I leave now")
    return f"the answer comes after the departure: {said(await call.outcome(4))}"


@case(
    "6.5",
    "Another participant leaves during a call of the testee",
    sees="the call goes on, and succeeds",
    rule="R9",
    why="Participants come and go all the time.",
    methods=CALL,
)
async def somebody_else_leaves(scene: Scene) -> None:
    alice, bob = await scene.join("alice"), await scene.join("bob")
    call, request = await scene.called(alice)
    alice.ack(request)
    await scene.leave(bob)
    await call.is_still_pending()
    alice.answer(request, "still here")
    await call.succeeds("still here")


@case(
    "6.6",
    "The callee of a testee's call comes back with a new sid",
    sees="error 1503 within 2 s: the new session knows nothing of the call",
    rule="R9 R40",
    why="Nobody will answer: the application waits for the whole timeout.",
    level=Level.SHOULD,
    methods=CALL,
    seconds=3,
)
async def the_callee_comes_back(scene: Scene) -> None:
    alice = await scene.join("alice")
    call, request = await scene.called(alice, response_timeout=9)
    alice.ack(request)
    await scene.settle()
    await scene.leave(alice)
    await scene.return_(alice)
    call.began = scene.now
    outcome = await call.outcome(GRACE)
    if outcome.get("code") != 1503:
        raise Unmet("a call that fails with 1503 within 2 s", said(outcome))


@case(
    "6.7",
    "A participant leaves, comes back with a new sid, and calls and is called",
    sees="both calls succeed",
    rule="R9 R19 R40",
    why="A browser tab that is loaded again is a participant that comes back.",
    methods=("conform.call", "conform.echo"),
)
async def a_participant_that_came_back(scene: Scene) -> None:
    alice = await scene.join("alice")
    await alice.gets_answer(alice.request("conform.echo", "before"), "before")
    await scene.leave(alice)
    await scene.return_(alice)
    await alice.gets_answer(alice.request("conform.echo", "after"), "after")
    call, request = await scene.called(alice)
    alice.ack(request)
    alice.answer(request, "welcome back")
    await call.succeeds("welcome back")


@case(
    "6.8",
    "A participant comes back with a new sid, and nobody was told that it had left",
    sees="calls both ways succeed",
    rule="R40",
    why="Where a connection breaks, the server tells of the new session first.",
    methods=("conform.call", "conform.echo"),
)
async def a_participant_that_came_back_unseen(scene: Scene) -> None:
    alice = await scene.join("alice")
    await alice.gets_answer(alice.request("conform.echo", "before"), "before")
    await scene.return_(alice)
    await alice.gets_answer(alice.request("conform.echo", "after"), "after")
    call, request = await scene.called(alice)
    alice.ack(request)
    alice.answer(request, "welcome back")
    await call.succeeds("welcome back")


@case(
    "6.9",
    "The news that an old session has left comes after that of the new one",
    sees="a call to the new session goes on, and succeeds",
    rule="R40",
    why="The late news of a broken connection must not end the calls of the new one.",
    level=Level.SHOULD,
    methods=CALL,
)
async def the_old_session_leaves_late(scene: Scene) -> None:
    alice = await scene.join("alice")
    old = alice.member
    await scene.return_(alice)
    call, request = await scene.called(alice)
    alice.ack(request)
    await scene.stage.attachment.dismiss(old)
    await call.is_still_pending()
    alice.answer(request, "of the new session")
    await call.succeeds("of the new session")


@case(
    "6.10",
    "A participant comes back with client_protocol 0, which had another before",
    sees="a call of the testee to it as a packet",
    rule="R40 A4",
    why="The new session reads no streams: the call would end with 1501.",
    methods=CALL,
    protocols=(1, 2),
)
async def it_comes_back_with_less(scene: Scene) -> None:
    alice = await scene.join("alice")
    call, request = await scene.called(alice)
    alice.ack(request)
    alice.answer(request, "")
    await call.succeeds("")
    await scene.leave(alice)
    alice.member = alice.member._replace(client_protocol=0, capabilities=())
    await scene.return_(alice)
    _, request = await scene.called(alice)
    if request.form is not Form.PACKET:
        raise Unmet("a request packet", request.form.value)


@case(
    "6.11",
    "The testee calls somebody who was never there",
    sees="error 1401 or 1501, before its timeout of 10 s is over",
    rule="R3 R12 A7",
    why="The server drops such packets in silence: only the ack window tells that nobody is there.",
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
    why="Nobody will answer.",
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
    why="What is sent to nobody costs everybody's bandwidth, a body of 16 MB too.",
    level=Level.SHOULD,
    methods=WAIT,
    seconds=3,
)
async def the_caller_leaves(scene: Scene) -> None:
    alice = await scene.join("alice")
    request = alice.request("conform.wait", waiting(2))
    await alice.gets_ack(request)
    await scene.leave(alice)
    await scene.sleep(2.5)
    await scene.nothing_more()


@case(
    "6.14",
    "A caller leaves while its handler runs for 2 s, and comes back with a new sid meanwhile",
    sees="nothing about the old request to the new session",
    rule="R19",
    why="The new session does not know the request.",
    level=Level.SHOULD,
    methods=WAIT,
    seconds=3,
)
async def the_caller_comes_back(scene: Scene) -> None:
    alice = await scene.join("alice")
    request = alice.request("conform.wait", waiting(2))
    await alice.gets_ack(request)
    await scene.leave(alice)
    await scene.return_(alice)
    await scene.sleep(2.5)
    await scene.nothing_more()


@case(
    "6.15",
    "Another participant leaves while a handler runs for 2 s",
    sees="the answer",
    rule="R19",
    why="Participants come and go all the time.",
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
    "6.16",
    "A caller leaves in the middle of its request stream, and its new session uses the same ids",
    sees="the new request is answered, with its own payload",
    rule="R16 R23 R31",
    why="A program that counts its ids begins with the same ones each time.",
    level=Level.SHOULD,
    protocols=(1, 2),
    reads=1,
)
async def half_a_request_of_an_old_session(scene: Scene) -> None:
    alice = await scene.join("alice")
    request, old = new_id(), "of the old session"
    parts = request_parts(request, "conform.echo", old, Form.CHUNKS)
    alice.send(*parts[:-1])
    await scene.leave(alice)
    await scene.return_(alice)
    alice.forget(request)
    alice.request("conform.echo", "of the new session", request_id=request, form=Form.CHUNKS)
    await alice.gets_answer(request, "of the new session")


@case(
    "6.17",
    "A participant leaves that was never announced",
    sees="no harm: calls of others are answered",
    rule="R40",
    why="The news that somebody came can be lost where that of the departure is not.",
)
async def a_stranger_leaves(scene: Scene) -> None:
    alice = await scene.join("alice")
    stranger = await scene.join("stranger", is_announced=False)
    await scene.leave(stranger)
    await alice.gets_answer(alice.request("conform.echo", "hello"), "hello")


@case(
    "6.18",
    "A participant is announced with the sid of another one who is here",
    sees="requests of the one whose sid it is are answered",
    rule="R24 R40",
    why="Where participants announce themselves, one could so silence another.",
    level=Level.SHOULD,
)
async def a_sid_of_somebody_else(scene: Scene) -> None:
    alice = await scene.join("alice")
    await alice.gets_answer(alice.request("conform.echo", "before"), "before")
    mallory = await scene.join("mallory", is_announced=False)
    mallory.member = mallory.member._replace(sid=alice.member.sid)
    await scene.stage.attachment.announce(mallory.member)
    await alice.gets_answer(alice.request("conform.echo", "after"), "after")


@case(
    "6.19",
    "A participant is announced with the sid of another one who has left",
    sees="its requests are answered",
    rule="R24",
    why="What has left holds no sid any more.",
    level=Level.SHOULD,
)
async def a_sid_of_somebody_who_left(scene: Scene) -> None:
    alice = await scene.join("alice")
    await alice.gets_answer(alice.request("conform.echo", "hello"), "hello")
    await scene.leave(alice)
    bob = await scene.join("bob", is_announced=False)
    bob.member = bob.member._replace(sid=alice.member.sid)
    await scene.stage.attachment.announce(bob.member)
    await bob.gets_answer(bob.request("conform.echo", "hello"), "hello")


@case(
    "6.20",
    "The callee of a call leaves, and comes back with the same sid, then answers",
    sees="INFO: whether the call succeeds",
    rule="R9",
    why="A call that fails by a short break of the connection may have been run.",
    level=Level.INFO,
    methods=CALL,
    seconds=3,
)
async def the_same_session_comes_back(scene: Scene) -> str:
    alice = await scene.join("alice")
    call, request = await scene.called(alice, response_timeout=2)
    alice.ack(request)
    await scene.leave(alice)
    await scene.stage.attachment.announce(alice.member)
    alice.answer(request, "back again")
    return f"its callee leaves, and is back under the same sid: {said(await call.outcome(3))}"


@case(
    "6.21",
    "The callee of a call leaves, and its new session answers the call",
    sees="INFO: whether the call succeeds",
    rule="R9",
    why="The new session cannot know the call, unless somebody told it.",
    level=Level.INFO,
    methods=CALL,
    seconds=3,
)
async def the_new_session_answers(scene: Scene) -> str:
    alice = await scene.join("alice")
    call, request = await scene.called(alice, response_timeout=2)
    alice.ack(request)
    await scene.leave(alice)
    await scene.return_(alice)
    alice.answer(request, "of the new session")
    return f"its callee's new session answers: {said(await call.outcome(3))}"
