"""6: who comes back, and under which session."""

from rpcproto.conformance.case import Level, Unmet, case
from rpcproto.conformance.cases.s06_departures import LONG_AFTER, is_given_up
from rpcproto.conformance.participant import Participant
from rpcproto.conformance.reading import Form, counted
from rpcproto.conformance.scene import Scene, said
from rpcproto.conformance.writing import answer_parts, new_id, request_parts, waiting

CALL = ("conform.call",)
WAIT = ("conform.wait",)


async def calls_and_is_called(scene: Scene, alice: Participant) -> None:
    """Calls both ways succeed after a return."""
    await alice.gets_answer(alice.request("conform.echo", "after"), "after")
    call, request = await scene.called(alice)
    alice.ack(request)
    alice.answer(request, "welcome back")
    await call.succeeds("welcome back")


@case(
    "6.6",
    "The callee of a testee's call comes back with a new sid",
    sees="error 1503 within 2 s: the new session knows nothing of the call",
    rule="R9 R40",
    why="The application waits for its whole timeout, although nobody can answer.",
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
    await is_given_up(scene, call)


@case(
    "6.7",
    "A participant leaves, comes back with a new sid, and calls and is called",
    sees="both calls succeed",
    rule="R9 R19 R40",
    why="Somebody who reloads a browser tab could no longer call or be called.",
    methods=("conform.call", "conform.echo"),
)
async def a_participant_that_came_back(scene: Scene) -> None:
    alice = await scene.join("alice")
    await alice.gets_answer(alice.request("conform.echo", "before"), "before")
    await scene.leave(alice)
    await scene.return_(alice)
    await calls_and_is_called(scene, alice)


@case(
    "6.8",
    "A participant comes back with a new sid, and nobody was told that it had left",
    sees="calls both ways succeed",
    rule="R40",
    why="Somebody whose connection broke could no longer call or be called.",
    methods=("conform.call", "conform.echo"),
)
async def a_participant_that_came_back_unseen(scene: Scene) -> None:
    alice = await scene.join("alice")
    await alice.gets_answer(alice.request("conform.echo", "before"), "before")
    await scene.return_(alice)
    await calls_and_is_called(scene, alice)


@case(
    "6.9",
    "The news that an old session has left comes after that of the new one",
    sees="a call to the new session goes on, and succeeds",
    rule="R40",
    why="Calls to somebody who reconnected would fail because of their old connection.",
    level=Level.SHOULD,
    methods=CALL,
    seconds=4,
)
async def the_old_session_leaves_late(scene: Scene) -> None:
    alice = await scene.join("alice")
    old = alice.member
    await scene.return_(alice)
    call, request = await scene.called(alice)
    alice.ack(request)
    await scene.stage.dismiss(old)
    await scene.sleep(LONG_AFTER)
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
    "6.14",
    "A caller leaves while its handler runs for 2 s, and comes back with a new sid meanwhile",
    sees="nothing about the old request to the new session",
    rule="R19",
    why="The new session gets an answer to a request that it never made.",
    level=Level.SHOULD,
    methods=WAIT,
    seconds=4,
)
async def the_caller_comes_back(scene: Scene) -> None:
    alice = await scene.join("alice")
    request = alice.request("conform.wait", waiting(2))
    await alice.gets_ack(request)
    await scene.leave(alice)
    await scene.return_(alice)
    await scene.sleep(LONG_AFTER)
    await scene.nothing_more()


@case(
    "6.16",
    "A caller leaves in the middle of its request stream, and its new session uses the same ids",
    sees="the new request is answered, with its own payload",
    rule="R16 R23 R31",
    why="A program that counts its ids starts again with the same ones: its calls would be "
    "ignored.",
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
    "6.18",
    "A participant is announced with the sid of another one who is here",
    sees="requests of the one whose sid it is are answered",
    rule="R24 R40",
    why="Where participants announce themselves, one could silence another.",
    level=Level.SHOULD,
)
async def a_sid_of_somebody_else(scene: Scene) -> None:
    alice = await scene.join("alice")
    await alice.gets_answer(alice.request("conform.echo", "before"), "before")
    mallory = await scene.join("mallory", is_announced=False)
    mallory.member = mallory.member._replace(sid=alice.member.sid)
    await scene.stage.announce(mallory.member)
    await alice.gets_answer(alice.request("conform.echo", "after"), "after")


@case(
    "6.19",
    "A participant is announced with the sid of another one who has left",
    sees="its requests are answered",
    rule="R24",
    why="Somebody who gets a sid again could no longer call.",
    level=Level.SHOULD,
)
async def a_sid_of_somebody_who_left(scene: Scene) -> None:
    alice = await scene.join("alice")
    await alice.gets_answer(alice.request("conform.echo", "hello"), "hello")
    await scene.leave(alice)
    bob = await scene.join("bob", is_announced=False)
    bob.member = bob.member._replace(sid=alice.member.sid)
    await scene.stage.announce(bob.member)
    await bob.gets_answer(bob.request("conform.echo", "hello"), "hello")


@case(
    "6.20",
    "The callee of a call leaves, and comes back with the same sid, then answers",
    sees="INFO: whether the call succeeds",
    rule="R9",
    why="A call that fails by a short break of the connection may have been run.",
    level=Level.INFO,
    methods=CALL,
    seconds=13,
)
async def the_same_session_comes_back(scene: Scene) -> str:
    alice = await scene.join("alice")
    call, request = await scene.called(alice, response_timeout=12)
    alice.ack(request)
    await scene.leave(alice)
    await scene.stage.announce(alice.member)
    alice.answer(request, "back again")
    return f"its callee leaves, and is back under the same sid: {said(await call.outcome(12))}"


@case(
    "6.21",
    "The callee of a call leaves, and its new session answers the call",
    sees="INFO: whether the call succeeds",
    rule="R9",
    why="The new session cannot know the call, unless somebody told it.",
    level=Level.INFO,
    methods=CALL,
    seconds=13,
)
async def the_new_session_answers(scene: Scene) -> str:
    alice = await scene.join("alice")
    call, request = await scene.called(alice, response_timeout=12)
    alice.ack(request)
    await scene.leave(alice)
    await scene.return_(alice)
    alice.answer(request, "of the new session")
    return f"its callee's new session answers: {said(await call.outcome(12))}"


@case(
    "6.22",
    "The callee of a call leaves, and an answer comes in its name without a sid",
    sees="INFO: whether the call succeeds",
    rule="R9 R31",
    why="An answer that names no session may be that of the one that left.",
    level=Level.INFO,
    methods=CALL,
    seconds=13,
)
async def an_answer_without_a_sid_after_a_departure(scene: Scene) -> str:
    alice = await scene.join("alice")
    call, request = await scene.called(alice, response_timeout=12)
    alice.ack(request)
    await scene.leave(alice)
    parts = answer_parts(request.request_id, "I leave now", alice.form_for("I leave now"))
    alice.send(*parts, sid="")
    return f"its callee leaves, and answers without a sid: {said(await call.outcome(12))}"


@case(
    "6.23",
    "The callee leaves in the middle of its answer, and its new session sends the rest",
    sees="the call does not succeed with parts of two sessions",
    rule="R9 R23",
    why="The application gets a text made of parts from two sessions.",
    level=Level.SHOULD,
    methods=CALL,
    protocols=(1, 2),
    reads=1,
    seconds=13,
)
async def a_new_session_sends_the_rest(scene: Scene) -> None:
    alice = await scene.join("alice")
    call, request = await scene.called(alice, response_timeout=12)
    alice.ack(request)
    header, chunk, trailer = answer_parts(request.request_id, "of two sessions", Form.CHUNKS)
    alice.send(header)
    await scene.leave(alice)
    await scene.return_(alice)
    alice.send(chunk, trailer)
    outcome = await call.outcome(12)
    if "payload" in outcome:
        raise Unmet("a call that fails", said(outcome))


@case(
    "6.24",
    "The callee leaves in the middle of its answer, and the rest comes without a sid",
    sees="INFO: whether the call succeeds",
    rule="R31",
    why="Where the answer is waited for, what names no session may be the rest of it.",
    level=Level.INFO,
    methods=CALL,
    protocols=(1, 2),
    reads=1,
    seconds=13,
)
async def the_rest_without_a_sid(scene: Scene) -> str:
    alice = await scene.join("alice")
    call, request = await scene.called(alice, response_timeout=12)
    alice.ack(request)
    header, *rest = answer_parts(request.request_id, "in two parts", Form.CHUNKS)
    alice.send(header)
    await scene.leave(alice)
    alice.send(*rest, sid="")
    return f"its callee leaves, and the rest comes without a sid: {said(await call.outcome(12))}"


@case(
    "6.25",
    "The callee leaves, comes back, and the rest of its old session's answer lacks a sid",
    sees="INFO: whether the call succeeds",
    rule="R31",
    why="What names no session counts as of the one that is announced.",
    level=Level.INFO,
    methods=CALL,
    protocols=(1, 2),
    reads=1,
    seconds=13,
)
async def the_rest_after_the_return(scene: Scene) -> str:
    alice = await scene.join("alice")
    call, request = await scene.called(alice, response_timeout=12)
    alice.ack(request)
    header, *rest = answer_parts(request.request_id, "in two parts", Form.CHUNKS)
    alice.send(header)
    await scene.leave(alice)
    await scene.return_(alice)
    alice.send(*rest, sid="")
    outcome = said(await call.outcome(12))
    return f"its callee is back, and the rest of the old answer comes without a sid: {outcome}"


@case(
    "6.26",
    "A callee leaves, and a request that it had sent before comes again without a sid",
    sees="INFO: whether the handler runs again",
    rule="R16 R31",
    why="A replay that names no session cannot be told from a request of another one.",
    level=Level.INFO,
    methods=("conform.call", "conform.echo", "conform.count"),
)
async def a_request_again_without_a_sid(scene: Scene) -> str:
    alice, bob = await scene.join("alice"), await scene.join("bob")
    payload = f"again {new_id()}"
    parts = request_parts(new_id(), "conform.echo", payload)
    alice.send(*parts)
    await scene.settle()
    _, request = await scene.called(alice, response_timeout=12)
    alice.ack(request)
    await scene.leave(alice)
    alice.send(*parts, sid="")
    await scene.settle()
    runs = counted(await scene.runs_of(bob, payload), "run")
    return f"a request that comes again without a sid, after its caller left, has {runs}"


@case(
    "6.27",
    "The callee leaves, and answers by a stream whose header lacks a sid, the rest does not",
    sees="INFO: whether the call succeeds",
    rule="R31",
    why="Where the answer is waited for, what names no session may be a part of it.",
    level=Level.INFO,
    methods=CALL,
    protocols=(1, 2),
    reads=1,
    seconds=13,
)
async def a_header_without_a_sid(scene: Scene) -> str:
    alice = await scene.join("alice")
    call, request = await scene.called(alice, response_timeout=12)
    alice.ack(request)
    await scene.leave(alice)
    header, *rest = answer_parts(request.request_id, "in two parts", Form.CHUNKS)
    alice.send(header, sid="")
    alice.send(*rest)
    return f"its callee leaves, and the header comes without a sid: {said(await call.outcome(12))}"


@case(
    "6.28",
    "A callee leaves, and sends a request stream of which all but the header lacks a sid",
    sees="INFO: whether the handler runs",
    rule="R23 R31",
    why="What names no session is none of the one that left, unless an answer is waited for.",
    level=Level.INFO,
    methods=("conform.call", "conform.echo", "conform.count"),
    protocols=(1, 2),
    reads=1,
)
async def a_request_body_without_a_sid(scene: Scene) -> str:
    alice, bob = await scene.join("alice"), await scene.join("bob")
    _, request = await scene.called(alice, response_timeout=12)
    alice.ack(request)
    await scene.leave(alice)
    payload = f"in two parts {new_id()}"
    header, *rest = request_parts(new_id(), "conform.echo", payload, Form.CHUNKS)
    alice.send(header)
    alice.send(*rest, sid="")
    await scene.settle()
    runs = counted(await scene.runs_of(bob, payload), "run")
    return f"a request of somebody who left, whose header alone has a sid, has {runs}"
