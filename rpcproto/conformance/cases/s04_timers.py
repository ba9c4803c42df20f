"""4: timers of a caller."""

from rpcproto.conformance.case import Level, NotPossible, Unmet, case
from rpcproto.conformance.reading import Form
from rpcproto.conformance.scene import Scene, said
from rpcproto.conformance.writing import answer_parts

CALL = ("conform.call",)
MIDWAY = 4.5
"""Between a timeout of 2 s and an ack window of 7 s, in seconds."""


@case(
    "4.1",
    "A call of the testee is neither acknowledged nor answered",
    sees="error 1501, before the response timeout of 10 s is over",
    rule="R3 A2",
    why="The application waits for its whole timeout before it learns that nobody is there.",
    methods=CALL,
    seconds=8,
)
async def no_ack_is_1501(scene: Scene) -> None:
    call, _ = await scene.called(await scene.join("alice"), response_timeout=10)
    outcome = await call.outcome(9)
    if outcome.get("code") != 1501:
        raise Unmet("a call that fails with 1501", said(outcome))


@case(
    "4.2",
    "A call of the testee is neither acknowledged nor answered",
    sees="error 1501 after 7 s",
    rule="R3 A2",
    why="An ack window of 2 s, as SDKs of the first generation have it, loses calls on slow links.",
    level=Level.SHOULD,
    methods=CALL,
    seconds=8,
)
async def the_ack_window_is_7_seconds(scene: Scene) -> None:
    call, _ = await scene.called(await scene.join("alice"), response_timeout=10)
    await call.fails(1501, at=7)


@case(
    "4.3",
    "A call of the testee with a timeout of 3 s is acknowledged and not answered",
    sees="error 1502 after 3 s",
    rule="R2 R3",
    why="The application gets its result, or the timeout, at another time than it asked for.",
    methods=CALL,
    seconds=4,
)
async def no_answer_is_1502(scene: Scene) -> None:
    alice = await scene.join("alice")
    call, request = await scene.called(alice, response_timeout=3)
    alice.ack(request)
    await call.fails(1502, at=3)


@case(
    "4.4",
    "A call of the testee with a timeout of 6 s is acknowledged after 4 s and not answered",
    sees="error 1502 after 6 s: the ack starts no timer anew",
    rule="R2",
    why="A call that takes longer than its application said delays whatever waits for it.",
    level=Level.SHOULD,
    methods=CALL,
    seconds=7,
)
async def an_ack_starts_no_timer(scene: Scene) -> None:
    alice = await scene.join("alice")
    call, request = await scene.called(alice, response_timeout=6)
    await scene.sleep(4)
    alice.ack(request)
    await call.fails(1502, at=6)


@case(
    "4.5",
    "A call of the testee with a timeout of 2 s, shorter than the ack window, gets nothing back",
    sees="error 1501 or 1502 after 2 s",
    rule="R3",
    why="A call that takes longer than its application said delays whatever waits for it.",
    level=Level.SHOULD,
    methods=CALL,
    seconds=3,
)
async def the_timeout_ends_the_ack_window(scene: Scene) -> None:
    call, _ = await scene.called(await scene.join("alice"), response_timeout=2)
    await call.fails(1501, 1502, at=2)


@case(
    "4.6",
    "A call of the testee with a timeout of 2 s, shorter than the ack window, gets nothing back",
    sees="INFO: the code",
    rule="R3",
    why="1501 and 1502 are both true then.",
    level=Level.INFO,
    methods=CALL,
    seconds=3,
)
async def code_of_a_short_call(scene: Scene) -> str:
    call, _ = await scene.called(await scene.join("alice"), response_timeout=2)
    outcome = await call.outcome(10)
    is_short = call.seconds < MIDWAY
    return f"{said(outcome)}, {'after its timeout' if is_short else 'after the ack window of 7 s'}"


@case(
    "4.7",
    "The testee calls with a timeout of 10 s",
    sees="a timeout on the wire in milliseconds, from 1,000 to 10,000",
    rule="R5",
    why="A responder gives its handler this time: none, or 10 ms, ends it before it has begun.",
    level=Level.SHOULD,
    methods=CALL,
)
async def timeout_on_the_wire(scene: Scene) -> None:
    _, request = await scene.called(await scene.join("alice"), response_timeout=10)
    if request.timeout_ms is None or not 1_000 <= request.timeout_ms <= 10_000:
        raise Unmet("a timeout of 1,000 to 10,000 ms", str(request.timeout_ms))


@case(
    "4.8",
    "The testee calls with a timeout of 10 s",
    sees="INFO: the timeout on the wire",
    rule="R5",
    why="SDKs subtract what the network may take: nothing, 2 s or 7 s.",
    level=Level.INFO,
    methods=CALL,
)
async def part_of_the_timeout_on_the_wire(scene: Scene) -> str:
    _, request = await scene.called(await scene.join("alice"), response_timeout=10)
    return f"of 10,000 ms, the wire says {request.timeout_ms}"


@case(
    "4.9",
    "The testee calls without a timeout",
    sees="INFO: the timeout on the wire",
    rule="R2 R5 A2",
    why="10 s are documented; the newest SDKs use 15 s.",
    level=Level.INFO,
    methods=CALL,
)
async def default_timeout(scene: Scene) -> str:
    _, request = await scene.called(await scene.join("alice"))
    return f"without a timeout of the application, the wire says {request.timeout_ms} ms"


@case(
    "4.10",
    "The testee calls without a timeout",
    sees="a timeout on the wire of at least 1,000 ms and at most 15,000 ms",
    rule="R5 A2",
    why="Responders use figures of their own, or end the handler at once.",
    level=Level.SHOULD,
    methods=CALL,
)
async def default_timeout_is_on_the_wire(scene: Scene) -> None:
    _, request = await scene.called(await scene.join("alice"))
    if request.timeout_ms is None or not 1_000 <= request.timeout_ms <= 15_000:
        raise Unmet("a timeout of 1,000 to 15,000 ms", str(request.timeout_ms))


@case(
    "4.11",
    "The testee calls with a timeout of 1 s",
    sees="a timeout on the wire of 1 to 1,000 ms",
    rule="R5",
    why="If the subtraction gives 0 or wraps around, the handler ends at once, or never.",
    level=Level.SHOULD,
    methods=CALL,
)
async def short_timeout_on_the_wire(scene: Scene) -> None:
    _, request = await scene.called(await scene.join("alice"), response_timeout=1)
    if request.timeout_ms is None or not 1 <= request.timeout_ms <= 1_000:
        raise Unmet("a timeout of 1 to 1,000 ms", str(request.timeout_ms))


@case(
    "4.12",
    "The testee calls with a timeout of an hour",
    sees="a timeout on the wire of about an hour",
    rule="R5",
    why="The responder ends the handler early, although the caller would wait for an hour.",
    level=Level.SHOULD,
    methods=CALL,
)
async def long_timeout_on_the_wire(scene: Scene) -> None:
    _, request = await scene.called(await scene.join("alice"), response_timeout=3600)
    if request.timeout_ms is None or not 3_590_000 <= request.timeout_ms <= 3_600_000:
        raise Unmet("a timeout of 3,590,000 to 3,600,000 ms", str(request.timeout_ms))


@case(
    "4.13",
    "The answer to a call of the testee with a timeout of 8 s comes after 5 s",
    sees="the call succeeds",
    rule="R2",
    why="The application gets its result, or the timeout, at another time than it asked for.",
    methods=CALL,
    seconds=5,
)
async def an_answer_in_time(scene: Scene) -> None:
    alice = await scene.join("alice")
    call, request = await scene.called(alice, response_timeout=8)
    alice.ack(request)
    await scene.sleep(5)
    alice.answer(request, "in time")
    await call.succeeds("in time")


@case(
    "4.14",
    "The answer to a call of the testee comes after its timeout",
    sees="the call has failed with 1502, and the next call is none the worse for it",
    rule="R6",
    why="A late answer would become the answer to another call.",
    methods=CALL,
    seconds=3,
)
async def a_late_answer(scene: Scene) -> None:
    alice = await scene.join("alice")
    call, request = await scene.called(alice, response_timeout=2)
    alice.ack(request)
    await call.fails(1502, at=2)
    second, another = await scene.called(alice)
    alice.ack(another)
    alice.answer(request, "late")
    await second.is_still_pending()
    alice.answer(another, "right")
    await second.succeeds("right")


@case(
    "4.15",
    "The testee makes two calls at once, with timeouts of 5 s and of 2 s, that are not answered",
    sees="the second fails after 2 s, the first after 5 s",
    rule="R2",
    why="A call that takes longer than its application said delays whatever waits for it.",
    methods=CALL,
    seconds=6,
)
async def no_timer_waits_for_another(scene: Scene) -> None:
    alice, bob = await scene.join("alice"), await scene.join("bob")
    first, one = await scene.called(alice, response_timeout=5)
    second, two = await scene.called(bob, response_timeout=2)
    alice.ack(one)
    bob.ack(two)
    await second.fails(1502, at=2)
    await first.fails(1502, at=5)


@case(
    "4.16",
    "A call of the testee is answered without an ack",
    sees="the call succeeds at once",
    rule="R4",
    why="A call fails with 1501 although its answer has arrived.",
    level=Level.SHOULD,
    methods=CALL,
)
async def an_answer_implies_the_ack(scene: Scene) -> None:
    alice = await scene.join("alice")
    call, request = await scene.called(alice)
    alice.answer(request, "no ack")
    await call.succeeds("no ack")


@case(
    "4.17",
    "A call of the testee is answered, and acknowledged after that",
    sees="the call succeeds, and the next one too",
    rule="R4",
    why="On a transport that reorders packets, a late ack would break the next call.",
    methods=CALL,
)
async def the_ack_comes_last(scene: Scene) -> None:
    alice = await scene.join("alice")
    for text in ("first", "second"):
        call, request = await scene.called(alice)
        alice.answer(request, text)
        alice.ack(request)
        await call.succeeds(text)


@case(
    "4.18",
    "The header of a response stream comes without an ack, its body after 10 s",
    sees="the call succeeds: the header implies the ack",
    rule="R4",
    why="A call fails with 1501 although the responder is sending its answer.",
    level=Level.SHOULD,
    methods=CALL,
    protocols=(1, 2),
    reads=1,
    seconds=10,
)
async def a_header_implies_the_ack(scene: Scene) -> None:
    alice = await scene.join("alice")
    call, request = await scene.called(alice, response_timeout=20)
    parts = answer_parts(request.request_id, "slowly", Form.CHUNKS)
    alice.send(parts[0])
    await scene.sleep(10)
    alice.send(*parts[1:])
    await call.succeeds("slowly")


@case(
    "4.19",
    "A response stream is not complete when the call's timeout of 6 s is over",
    sees="error 1502 after 6 s: chunks start no timer anew",
    rule="R6",
    why="A responder that stops in the middle of its answer holds its caller for ever.",
    methods=CALL,
    protocols=(1, 2),
    reads=1,
    seconds=6,
)
async def a_stream_does_not_extend_the_timeout(scene: Scene) -> None:
    alice = await scene.join("alice")
    call, request = await scene.called(alice, response_timeout=6)
    alice.ack(request)
    parts = answer_parts(request.request_id, "y" * 40_000, Form.CHUNKS)
    alice.send(parts[0])
    for part in parts[1:3]:
        await scene.sleep(2)
        alice.send(part)
    await call.fails(1502, at=6)


@case(
    "4.24",
    "A call of the testee is acknowledged at once, and answered after 10 s of 15",
    sees="the call succeeds: an ack ends the ack window",
    rule="R3",
    why="Calls of handlers that take longer than the ack window would fail with 1501.",
    methods=CALL,
    seconds=10,
)
async def an_ack_ends_the_ack_window(scene: Scene) -> None:
    alice = await scene.join("alice")
    call, request = await scene.called(alice, response_timeout=15)
    alice.ack(request)
    await scene.sleep(10)
    alice.answer(request, "after 10 s")
    await call.succeeds("after 10 s")


@case(
    "4.27",
    "The testee calls with a timeout of 60 days, more milliseconds than the wire has room for",
    sees="the largest timeout on the wire, about 50 days, or an exception",
    rule="R5",
    why="If the number wraps around, the responder ends the handler at a random moment.",
    level=Level.SHOULD,
    methods=CALL,
)
async def the_longest_timeout(scene: Scene) -> None:
    alice = await scene.join("alice")
    call = await scene.call(alice, response_timeout=60 * 86_400)
    await scene.settle()
    if not call.is_pending and "raised" in (outcome := await call.outcome()):
        raise NotPossible(f"the testee raises: {outcome['raised']}")
    request = await alice.gets_request()
    if request.timeout_ms is None or request.timeout_ms < 4_000_000_000:
        raise Unmet("a timeout of about 4,294,967,295 ms", str(request.timeout_ms))


@case(
    "4.30",
    "An answer stops in the middle of its stream, and 70 other calls succeed meanwhile",
    sees="error 1502 at the end of the default timeout, within 16 s",
    rule="R2 R6",
    why="A call that never ends keeps its application waiting for ever.",
    methods=CALL,
    protocols=(1, 2),
    reads=1,
    seconds=16,
)
async def half_an_answer_among_others(scene: Scene) -> None:
    alice, bob = await scene.join("alice"), await scene.join("bob")
    call, request = await scene.called(alice)
    alice.ack(request)
    alice.send(answer_parts(request.request_id, "never whole", Form.CHUNKS)[0])
    others = [await scene.called(bob, payload=f"{number}") for number in range(70)]
    for _, another in others:
        bob.ack(another)
    await scene.sleep(0.25)
    for other, another in others:
        bob.answer(another, another.payload)
        await other.succeeds(another.payload)
    outcome = await call.outcome(16)
    if outcome.get("code") != 1502:
        raise Unmet("a call that fails with 1502", said(outcome))


@case(
    "4.31",
    "The testee calls with timeouts of 10 s and 60 s",
    sees="on the wire at least 1,000 ms of the one and 50,000 ms of the other, if it says any",
    rule="R5",
    why="A timeout in seconds is read as milliseconds: a responder that keeps to it ends each "
    "handler at once.",
    methods=CALL,
)
async def the_unit_of_the_timeout_on_the_wire(scene: Scene) -> None:
    alice = await scene.join("alice")
    for seconds, least in ((10, 1_000), (60, 50_000)):
        _, request = await scene.called(alice, response_timeout=seconds)
        if request.timeout_ms is not None and request.timeout_ms < least:
            expected = f"at least {least:,} ms of {seconds} s, or no timeout at all"
            raise Unmet(expected, f"{request.timeout_ms:,} ms")
