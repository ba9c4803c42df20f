"""8: duplicates and replays."""

from rpcproto.conformance.case import Level, Unmet, case
from rpcproto.conformance.cases.s06_departures import LONG_AFTER
from rpcproto.conformance.reading import Form, counted, describe
from rpcproto.conformance.scene import Scene
from rpcproto.conformance.writing import answer_parts, new_id, request_parts, waiting
from rpcproto.wire import StreamHeader

ECHO = ("conform.echo", "conform.count")
CALL = ("conform.call",)


@case(
    "8.1",
    "The same request packet arrives twice, one right after the other",
    sees="the handler runs once",
    rule="R16",
    why="Servers repeat packets after a resumed connection: a payment would be made twice.",
    methods=ECHO,
)
async def twice_at_once(scene: Scene) -> None:
    alice = await scene.join("alice")
    request, payload = new_id(), f"twice {new_id()}"
    for _ in range(2):
        alice.request("conform.echo", payload, form=Form.PACKET, request_id=request)
    await alice.gets_answer(request, payload)
    await scene.settle()
    await scene.has_run_once(alice, payload)


@case(
    "8.2",
    "The same request packet arrives again after its answer",
    sees="the handler runs once",
    rule="R16",
    why="Servers replay up to 10 s after a return: a payment would be made twice.",
    methods=ECHO,
)
async def again_after_the_answer(scene: Scene) -> None:
    alice = await scene.join("alice")
    request, payload = new_id(), f"again {new_id()}"
    alice.request("conform.echo", payload, form=Form.PACKET, request_id=request)
    await alice.gets_answer(request, payload)
    alice.request("conform.echo", payload, form=Form.PACKET, request_id=request)
    await scene.settle()
    await scene.has_run_once(alice, payload)


@case(
    "8.3",
    "The same request packet arrives again after its answer",
    sees="another ack, and no second answer",
    rule="R16",
    why="A caller whose ack was lost gets 1501, or an answer twice.",
    level=Level.SHOULD,
)
async def a_duplicate_is_acknowledged(scene: Scene) -> None:
    alice = await scene.join("alice")
    request = alice.request("conform.echo", "again", form=Form.PACKET)
    await alice.gets_answer(request, "again")
    alice.request("conform.echo", "again", form=Form.PACKET, request_id=request)
    await alice.gets_ack(request)
    await scene.nothing_more()


@case(
    "8.4",
    "A whole request stream arrives twice",
    sees="the handler runs once",
    rule="R16 R25",
    why="Servers repeat packets after a resumed connection: the handler's work would be done "
    "twice.",
    methods=ECHO,
    protocols=(1, 2),
    reads=1,
)
async def a_stream_twice(scene: Scene) -> None:
    alice = await scene.join("alice")
    request, payload = new_id(), f"twice {new_id()}"
    parts = request_parts(request, "conform.echo", payload, Form.CHUNKS)
    alice.send(*parts)
    alice.send(*parts)
    await alice.gets_answer(request, payload)
    await scene.settle()
    await scene.has_run_once(alice, payload)


@case(
    "8.5",
    "Each packet of a request stream arrives twice, one right after the other",
    sees="the handler runs once, with the payload as it was",
    rule="R16 R25",
    why="Packets can arrive twice after a resumed connection: the call would fail or run twice.",
    methods=ECHO,
    protocols=(1, 2),
    reads=1,
)
async def each_part_twice(scene: Scene) -> None:
    alice = await scene.join("alice")
    request, payload = new_id(), f"twice {new_id()} " * 800
    for part in request_parts(request, "conform.echo", payload, Form.CHUNKS):
        alice.send(part, part)
    await alice.gets_answer(request, payload)
    await scene.settle()
    await scene.has_run_once(alice, payload)


@case(
    "8.6",
    "An inline request arrives three times: twice at once, and after its answer",
    sees="the handler runs once",
    rule="R16",
    why="Servers repeat packets after a resumed connection: the handler's work would be done "
    "twice.",
    methods=ECHO,
    protocols=(2,),
    reads=2,
)
async def inline_twice(scene: Scene) -> None:
    alice = await scene.join("alice")
    request, payload = new_id(), f"twice {new_id()}"
    parts = request_parts(request, "conform.echo", payload, Form.INLINE)
    alice.send(*parts, *parts)
    await alice.gets_answer(request, payload)
    alice.send(*parts)
    await scene.settle()
    await scene.has_run_once(alice, payload)


@case(
    "8.7",
    "A request arrives three times: as a packet, and as two streams with other stream ids",
    sees="the handler runs once",
    rule="R16",
    why="A caller that tries again in another form would run the handler twice.",
    level=Level.SHOULD,
    methods=ECHO,
    protocols=(1, 2),
    reads=1,
)
async def again_in_another_form(scene: Scene) -> None:
    alice = await scene.join("alice")
    request, payload = new_id(), f"again {new_id()}"
    for form in (Form.PACKET, Form.CHUNKS, Form.CHUNKS):
        alice.send(*request_parts(request, "conform.echo", payload, form))
    await alice.gets_answer(request, payload)
    await scene.settle()
    await scene.has_run_once(alice, payload)


@case(
    "8.8",
    "A request arrives again, with another payload",
    sees="the handler does not run with it",
    rule="R16",
    why="A repeated request would run the handler a second time.",
    methods=ECHO,
)
async def again_with_another_payload(scene: Scene) -> None:
    alice = await scene.join("alice")
    request, other = new_id(), f"other {new_id()}"
    alice.request("conform.echo", "first", form=Form.PACKET, request_id=request)
    await alice.gets_answer(request, "first")
    alice.request("conform.echo", other, form=Form.PACKET, request_id=request)
    await scene.settle()
    if runs := await scene.runs_of(alice, other):
        raise Unmet("no run of the handler", counted(runs, "run"))


@case(
    "8.9",
    "A request whose handler failed arrives again",
    sees="no second error",
    rule="R16",
    why="A handler that fails late would do its work twice.",
    level=Level.SHOULD,
    methods=("conform.fail",),
)
async def again_after_an_error(scene: Scene) -> None:
    alice = await scene.join("alice")
    payload = '{"code": 7001, "message": "once", "data": ""}'
    request = alice.request("conform.fail", payload, form=Form.PACKET)
    await alice.gets_error(request, 7001)
    alice.request("conform.fail", payload, form=Form.PACKET, request_id=request)
    await scene.settle()
    for seen in alice.outcomes_of(request):
        raise Unmet("an ack at most", describe(seen.message))


@case(
    "8.10",
    "A request arrives again while its handler runs for 2 s",
    sees="one answer",
    rule="R16",
    why="The handler's work would be done twice.",
    methods=("conform.wait",),
    seconds=6,
)
async def again_while_the_handler_runs(scene: Scene) -> None:
    alice = await scene.join("alice")
    payload = waiting(2)
    request = alice.request("conform.wait", payload, form=Form.PACKET)
    await alice.gets_ack(request)
    alice.request("conform.wait", payload, form=Form.PACKET, request_id=request)
    await alice.gets_outcome(request, within=2)
    await alice.gets_answer(request, "done")
    await scene.sleep(LONG_AFTER)
    await scene.settle()
    if alice.has_outcome(request):
        raise Unmet("one answer", "two")


@case(
    "8.11",
    "The first of 101 requests of one caller arrives again",
    sees="the handler runs once",
    rule="R16",
    why="A server replays all requests of 10 s: the work of the older ones would be done twice.",
    level=Level.SHOULD,
    methods=ECHO,
)
async def a_hundred_requests_later(scene: Scene) -> None:
    alice = await scene.join("alice")
    request, payload = new_id(), f"the first {new_id()}"
    alice.request("conform.echo", payload, form=Form.PACKET, request_id=request)
    await alice.gets_answer(request, payload)
    for number in range(100):
        other = alice.request("conform.echo", f"{number}", form=Form.PACKET)
        await alice.gets_answer(other, f"{number}")
    alice.request("conform.echo", payload, form=Form.PACKET, request_id=request)
    await scene.settle()
    await scene.has_run_once(alice, payload)


@case(
    "8.12",
    "A packet with a sequence number arrives twice, as after a resume",
    sees="the handler runs once",
    rule="R16 R37",
    why="Packets can arrive twice after a resumed connection: the handler's work would be done "
    "twice.",
    methods=ECHO,
)
async def a_sequence_number_twice(scene: Scene) -> None:
    alice = await scene.join("alice")
    request, payload = new_id(), f"numbered {new_id()}"
    for _ in range(2):
        alice.send(*request_parts(request, "conform.echo", payload), sequence=1)
    await alice.gets_answer(request, payload)
    await scene.settle()
    await scene.has_run_once(alice, payload)


@case(
    "8.13",
    "Packets with sequence numbers arrive out of order: 3, 1, 2",
    sees="all three are answered",
    rule="R37",
    why="On a transport that reorders packets, calls would be lost.",
    level=Level.SHOULD,
)
async def sequence_numbers_out_of_order(scene: Scene) -> None:
    alice = await scene.join("alice")
    sent = {}
    for number in (3, 1, 2):
        request = sent[number] = new_id()
        alice.send(*request_parts(request, "conform.echo", f"{number}"), sequence=number)
    for number, request in sent.items():
        await alice.gets_answer(request, f"{number}")


@case(
    "8.14",
    "Two participants send packets with the same sequence numbers",
    sees="all are answered",
    rule="R37",
    why="Every participant counts from 1: the calls of all but one would be lost.",
)
async def sequence_numbers_of_two_senders(scene: Scene) -> None:
    alice, bob = await scene.join("alice"), await scene.join("bob")
    for number in (1, 2):
        for participant in (alice, bob):
            request = new_id()
            parts = request_parts(request, "conform.echo", participant.identity)
            participant.send(*parts, sequence=number)
            await participant.gets_answer(request, participant.identity)


@case(
    "8.15",
    "A participant comes back with a new sid, and counts its packets from 1 again",
    sees="its requests are answered",
    rule="R37",
    why="A new session counts from 1: somebody who came back could no longer call.",
)
async def sequence_numbers_of_a_new_session(scene: Scene) -> None:
    alice = await scene.join("alice")
    for text in ("of the old session", "of the new session"):
        for number in (1, 2, 3):
            request = new_id()
            alice.send(*request_parts(request, "conform.echo", text), sequence=number)
            await alice.gets_answer(request, text)
        await scene.leave(alice)
        await scene.return_(alice)


@case(
    "8.16",
    "Different packets arrive without sequence numbers",
    sees="all are answered",
    rule="R37",
    why="The server's API and some peers do not number packets: all but their first would be lost.",
)
async def no_sequence_numbers(scene: Scene) -> None:
    alice = await scene.join("alice")
    for text in ("one", "two", "three"):
        await alice.gets_answer(alice.request("conform.echo", text), text)


@case(
    "8.17",
    "A caller uses the id of an answered request again, after it came back with a new sid",
    sees="the new request is answered",
    rule="R16",
    why="A program that counts its ids starts again with the same ones: its calls would be "
    "ignored.",
    level=Level.SHOULD,
    methods=ECHO,
)
async def an_id_of_an_old_session(scene: Scene) -> None:
    alice = await scene.join("alice")
    request = new_id()
    alice.request("conform.echo", "old", request_id=request)
    await alice.gets_answer(request, "old")
    await scene.leave(alice)
    await scene.return_(alice)
    alice.request("conform.echo", "new", request_id=request)
    await alice.gets_answer(request, "new")


@case(
    "8.18",
    "Each packet of a response stream arrives twice",
    sees="the call succeeds, with the payload as it was",
    rule="R25",
    why="Packets can arrive twice after a resumed connection: the call would fail or run twice.",
    methods=CALL,
    protocols=(1, 2),
    reads=1,
)
async def a_response_stream_twice(scene: Scene) -> None:
    alice = await scene.join("alice")
    call, request = await scene.called(alice)
    alice.ack(request)
    text = "chunk by chunk " * 800
    for part in answer_parts(request.request_id, text, Form.CHUNKS):
        alice.send(part, part)
    await call.succeeds(text)


@case(
    "8.19",
    "The header of a request stream arrives again in the middle of its body",
    sees="the request is answered, with the payload as it was",
    rule="R25",
    why="Packets can arrive twice after a resumed connection: the call would fail.",
    level=Level.SHOULD,
    protocols=(1, 2),
    reads=1,
)
async def a_header_again(scene: Scene) -> None:
    alice = await scene.join("alice")
    request, text = new_id(), "chunk by chunk " * 1_500
    header, first, *rest = request_parts(request, "conform.echo", text, Form.CHUNKS)
    assert isinstance(header, StreamHeader)
    alice.send(header, first, header, *rest)
    await alice.gets_answer(request, text)


@case(
    "8.20",
    "A request that was answered arrives again after its caller has left",
    sees="the handler runs once",
    rule="R16",
    why="Servers replay 10 s, also of those who have left: the handler's work would be done twice.",
    level=Level.SHOULD,
    methods=ECHO,
)
async def again_after_the_caller_left(scene: Scene) -> None:
    alice, bob = await scene.join("alice"), await scene.join("bob")
    request, payload = new_id(), f"again {new_id()}"
    alice.request("conform.echo", payload, form=Form.PACKET, request_id=request)
    await alice.gets_answer(request, payload)
    await scene.leave(alice)
    alice.request("conform.echo", payload, form=Form.PACKET, request_id=request)
    await scene.settle()
    await scene.has_run_once(bob, payload)


@case(
    "8.21",
    "A packet arrives whose sequence number is 1,500 below the newest, and was never seen",
    sees="INFO: whether it is answered",
    rule="R37",
    why="What is that late is a replay, or comes over a very strange network.",
    level=Level.INFO,
)
async def a_number_far_below(scene: Scene) -> str:
    alice = await scene.join("alice")
    for number in (1, 1_501):
        request = new_id()
        alice.send(*request_parts(request, "conform.echo", "in order"), sequence=number)
        await alice.gets_answer(request, "in order")
    request = new_id()
    alice.send(*request_parts(request, "conform.echo", "late"), sequence=2)
    await scene.settle()
    is_answered = "is answered" if alice.has_outcome(request) else "is ignored"
    return f"a new packet whose number is 1,500 below the newest {is_answered}"


@case(
    "8.22",
    "A request arrives again 10 s after its answer",
    sees="the handler runs once",
    rule="R16",
    why="A server sends again what it carried in the seconds before a resume, and a resume takes "
    "seconds: a payment would be made twice.",
    level=Level.SHOULD,
    methods=ECHO,
    seconds=10,
)
async def again_after_a_while(scene: Scene) -> None:
    alice = await scene.join("alice")
    request, payload = new_id(), f"late {new_id()}"
    form = alice.form_for(payload)
    alice.send(*request_parts(request, "conform.echo", payload, form))
    await alice.gets_answer(request, payload)
    await scene.sleep(10)
    alice.send(*request_parts(request, "conform.echo", payload, form))
    await scene.settle()
    await scene.has_run_once(alice, payload)
