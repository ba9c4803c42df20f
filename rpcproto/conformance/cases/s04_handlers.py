"""4: timers of a responder."""

from rpcproto.conformance.case import Level, Unmet, case
from rpcproto.conformance.reading import Form, describe
from rpcproto.conformance.scene import Scene
from rpcproto.conformance.writing import new_id, request_parts, waiting

WAIT = ("conform.wait",)


@case(
    "4.20",
    "A handler takes 2 s, and the timeout on the wire was 1 s",
    sees="the answer: callers wait up to 7 s longer than they say",
    rule="R20",
    why="SDKs subtract up to 7 s from what they really wait, and lose calls to stricter peers.",
    level=Level.SHOULD,
    methods=WAIT,
    seconds=3,
)
async def a_handler_over_its_time(scene: Scene) -> None:
    alice = await scene.join("alice")
    request = alice.request("conform.wait", waiting(2), timeout_ms=1_000)
    await alice.gets_outcome(request, within=2)
    await alice.gets_answer(request, "done")


@case(
    "4.21",
    "A handler takes 10 s, and the timeout on the wire was 1 s",
    sees="INFO: whether the answer is sent although nobody waits for it",
    rule="R20",
    why="It costs a packet, or a body, that its caller ignores.",
    level=Level.INFO,
    methods=WAIT,
    seconds=13,
)
async def a_handler_far_over_its_time(scene: Scene) -> str:
    alice = await scene.join("alice")
    request = alice.request("conform.wait", waiting(10), timeout_ms=1_000)
    await scene.sleep(13)
    if alice.has_outcome(request):
        return "an answer that is 9 s too late is sent"
    return "an answer that is 9 s too late is not sent"


@case(
    "4.22",
    "A handler takes 4 s, within its time",
    sees="the answer after 4 s",
    rule="R20",
    why="The caller would wait, but the responder has given up.",
    methods=WAIT,
    seconds=5,
)
async def a_slow_handler(scene: Scene) -> None:
    alice = await scene.join("alice")
    request = alice.request("conform.wait", waiting(4), timeout_ms=8_000)
    await scene.sleep(2)
    if alice.has_outcome(request):
        raise Unmet("no answer before the handler has ended", "an answer after 2 s")
    await alice.gets_outcome(request, within=2)
    await alice.gets_answer(request, "done")


@case(
    "4.23",
    "A handler takes 6 s, and another request arrives meanwhile",
    sees="the other request is answered at once",
    rule="L12",
    why="One slow handler would delay all callers until they time out.",
    methods=("conform.wait", "conform.echo"),
    seconds=6,
)
async def handlers_do_not_wait_for_each_other(scene: Scene) -> None:
    alice, bob = await scene.join("alice"), await scene.join("bob")
    slow = alice.request("conform.wait", waiting(6))
    await alice.gets_ack(slow)
    for caller in (alice, bob):
        await caller.gets_answer(caller.request("conform.echo", "quick"), "quick")
    if alice.has_outcome(slow):
        raise Unmet("an answer to the quick request before that to the slow one", "the reverse")
    await alice.gets_outcome(slow, within=6)


@case(
    "4.25",
    "Half a request stream arrives, and then nothing for 17 s",
    sees="INFO: whether and how it is refused",
    rule="R28",
    why="Bodies that never end take memory as long as the process lives, if nothing ends them.",
    level=Level.INFO,
    protocols=(1, 2),
    reads=1,
    seconds=17,
)
async def half_a_request(scene: Scene) -> str:
    alice = await scene.join("alice")
    request = new_id()
    text, minute = "y" * 20_000, 60_000
    parts = request_parts(request, "conform.echo", text, Form.CHUNKS, timeout_ms=minute)
    alice.send(*parts[:2])
    await alice.gets_ack(request)
    await scene.sleep(17)
    said_of_it = [describe(seen.message) for seen in alice.outcomes_of(request)]
    return f"half a request, and then silence for 17 s: {', '.join(said_of_it) or 'nothing'}"


@case(
    "4.26",
    "A request stream comes slowly, with pauses of 12 s and 7 s, beside another one that stopped",
    sees="the answer",
    rule="R28",
    why="A caller on a slow link would never get an answer.",
    level=Level.SHOULD,
    protocols=(1, 2),
    reads=1,
    seconds=19,
)
async def a_slow_request(scene: Scene) -> None:
    alice, bob = await scene.join("alice"), await scene.join("bob")
    request, text = new_id(), "y" * 30_000
    header, first, *rest = request_parts(
        request, "conform.echo", text, Form.CHUNKS, timeout_ms=30_000
    )
    alice.send(header, first)
    await scene.sleep(1)
    bob.send(*request_parts(new_id(), "conform.echo", text, Form.CHUNKS)[:2])
    await scene.sleep(11)
    alice.send(rest[0])
    await scene.sleep(7)
    alice.send(*rest[1:])
    await alice.gets_answer(request, text)


@case(
    "4.28",
    "Half a request stream arrives, and then nothing for 17 s, beside another one that goes on",
    sees="INFO: whether and how it is refused",
    rule="R28",
    why="Bodies that never end take memory as long as the process lives, if nothing ends them.",
    level=Level.INFO,
    protocols=(1, 2),
    reads=1,
    seconds=18,
)
async def half_a_request_beside_another(scene: Scene) -> str:
    alice, bob = await scene.join("alice"), await scene.join("bob")
    one, two, text, minute = new_id(), new_id(), "y" * 30_000, 60_000
    header, first, second, *_ = request_parts(
        one, "conform.echo", text, Form.CHUNKS, timeout_ms=minute
    )
    alice.send(header, first)
    await scene.sleep(0.5)
    bob.send(*request_parts(two, "conform.echo", text, Form.CHUNKS, timeout_ms=minute)[:2])
    await bob.gets_ack(two)
    await scene.sleep(8)
    alice.send(second)
    await scene.sleep(9)
    said_of_it = [describe(seen.message) for seen in bob.outcomes_of(two)]
    what = ", ".join(said_of_it) or "nothing"
    return f"half a request beside another one, and then silence for 17 s: {what}"


@case(
    "4.29",
    "A handler takes 10 s and had 1 s, and 200 other requests are answered meanwhile",
    sees="INFO: whether the answer is sent although nobody waits for it",
    rule="R20",
    why="It costs a packet, or a body, that its caller ignores.",
    level=Level.INFO,
    methods=("conform.wait", "conform.echo"),
    seconds=13,
)
async def a_handler_far_over_its_time_among_others(scene: Scene) -> str:
    alice = await scene.join("alice")
    request = alice.request("conform.wait", waiting(10), timeout_ms=1_000)
    for number in range(200):
        other = alice.request("conform.echo", f"{number}", timeout_ms=1_000)
        await alice.gets_answer(other, f"{number}")
    await scene.sleep(13)
    is_sent = "is sent" if alice.has_outcome(request) else "is not sent"
    return f"an answer that is 9 s too late, after 200 others, {is_sent}"
