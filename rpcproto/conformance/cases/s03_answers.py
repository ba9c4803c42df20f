"""3: the forms of an answer."""

import json

from rpcproto import wire
from rpcproto.conformance.case import Level, NotPossible, Unmet, case
from rpcproto.conformance.reading import Form
from rpcproto.conformance.scene import Scene
from rpcproto.wire import Response

CALL = ("conform.call",)
FORMS = (Form.PACKET, Form.CHUNKS, Form.INLINE)


@case(
    "3.1",
    "A request packet arrives from a participant that announces client_protocol 0",
    sees="the answer as a response packet",
    rule="R17 A3",
    why="The caller reads no streams: its call would end with 1502.",
    protocols=(0,),
)
async def packet_for_a_packet(scene: Scene) -> None:
    alice = await scene.join("alice")
    body = await alice.gets_answer(alice.request("conform.echo", "hello"), "hello")
    if body.form is not Form.PACKET:
        raise Unmet("a response packet", body.form.value)


@case(
    "3.2",
    "A request packet arrives from a participant that announces client_protocol 1 or 2",
    sees="INFO: whether a small answer to it is a packet or a stream",
    rule="R17",
    why="Both are right: the caller reads packets and streams.",
    level=Level.INFO,
    protocols=(1, 2),
)
async def form_of_the_answer_to_a_packet(scene: Scene) -> str:
    alice = await scene.join("alice")
    request = alice.request("conform.echo", "hello", form=Form.PACKET)
    body = await alice.gets_answer(request, "hello")
    return f"the answer to a request packet is {body.form.value}"


@case(
    "3.3",
    "A request stream arrives",
    sees="the answer, in a form that its caller reads",
    rule="R17 R29",
    why="A caller that cannot read the answer ends with 1502.",
    protocols=(1, 2),
    reads=1,
)
async def answer_to_a_stream(scene: Scene) -> None:
    alice = await scene.join("alice")
    request = alice.request("conform.echo", "hello", form=Form.CHUNKS)
    await alice.gets_answer(request, "hello")


@case(
    "3.4",
    "An answer is sent",
    sees="the destination of each of its packets is the caller alone",
    rule="R29",
    why="An answer to the whole room shows everybody the payload.",
)
async def answers_go_to_the_caller_alone(scene: Scene) -> None:
    alice, bob = await scene.join("alice"), await scene.join("bob")
    body = await alice.gets_answer(alice.request("conform.echo", "a secret"), "a secret")
    for seen in body.parts:
        names = list(seen.packet.destination_identities)
        if names != [alice.identity]:
            raise Unmet(f"the destination {[alice.identity]}", str(names))
    if bob.inbox:
        raise Unmet("nothing to a third participant", f"{len(bob.inbox)} packets")


@case(
    "3.5",
    "A handler answers with an empty text",
    sees="an answer with an empty payload, present on the wire",
    rule="R29",
    why="A native SDK fails a response whose empty payload is absent.",
)
async def empty_answer(scene: Scene) -> None:
    alice = await scene.join("alice")
    await alice.gets_answer(alice.request("conform.echo", ""), "")


@case(
    "3.6",
    "A handler answers with a text of many scripts, NUL and U+FEFF",
    sees="exactly this text",
    rule="A3 R29",
    why="The application on the other side gets another text than was sent.",
)
async def text_comes_back_whole(scene: Scene) -> None:
    alice = await scene.join("alice")
    text = "\ufeffä€😀\u0000\u202e\r\n\ufeff" * 20
    await alice.gets_answer(alice.request("conform.echo", text), text)


@case(
    "3.7",
    "A call of the testee is answered with a response packet",
    sees="the call succeeds with its payload",
    rule="R6",
    why="Responders of the first generation answer like this: all calls to them would time out.",
    methods=CALL,
)
async def takes_a_packet(scene: Scene) -> None:
    alice = await scene.join("alice")
    call = await scene.call(alice)
    request = await alice.gets_request()
    alice.ack(request)
    alice.answer(request, "as a packet ☀", Form.PACKET)
    await call.succeeds("as a packet ☀")


@case(
    "3.8",
    "A call of the testee is answered with a stream in chunks",
    sees="the call succeeds with its payload",
    rule="R6",
    why="Some responders answer every request with a stream: all calls to them would time out.",
    methods=CALL,
    reads=1,
)
async def takes_chunks(scene: Scene) -> None:
    alice = await scene.join("alice")
    call = await scene.call(alice)
    request = await alice.gets_request()
    alice.ack(request)
    alice.answer(request, "in chunks ☀", Form.CHUNKS)
    await call.succeeds("in chunks ☀")


@case(
    "3.9",
    "A call of the testee is answered with an inline stream",
    sees="the call succeeds with its payload",
    rule="R6 A5",
    why="Responders with client_protocol 2 answer like this: all calls to them would time out.",
    methods=CALL,
    reads=2,
)
async def takes_inline(scene: Scene) -> None:
    alice = await scene.join("alice")
    call = await scene.call(alice)
    request = await alice.gets_request()
    alice.ack(request)
    alice.answer(request, "inline ☀", Form.INLINE)
    await call.succeeds("inline ☀")


@case(
    "3.10",
    "A call of the testee is answered with an empty payload, in each form that it reads",
    sees="the calls succeed with an empty payload",
    rule="R6 R29",
    why="A call whose answer is empty would time out or fail.",
    methods=CALL,
)
async def takes_empty_answers(scene: Scene) -> None:
    alice = await scene.join("alice")
    for form in FORMS:
        if form.client_protocol <= scene.testee.client_protocol:
            call = await scene.call(alice)
            request = await alice.gets_request()
            alice.ack(request)
            alice.answer(request, "", form)
            await call.succeeds("")


@case(
    "3.11",
    "A response without a value arrives for a call of the testee",
    sees="the call fails, with 1500",
    rule="R34",
    why="The application gets an empty answer, although a newer peer sent a value in a new field.",
    level=Level.SHOULD,
    methods=CALL,
)
async def no_value_is_no_success(scene: Scene) -> None:
    alice = await scene.join("alice")
    call = await scene.call(alice)
    request = await alice.gets_request()
    alice.ack(request)
    alice.send(Response(request.request_id, None))
    await call.fails(1500)


@case(
    "3.12",
    "An answer as a stream is sent",
    sees="the header names the request, is a text of the type text/plain, and has a total_length",
    rule="R29 A4",
    why="Receivers cannot find the call without the attribute, nor see that chunks are missing.",
    level=Level.SHOULD,
    protocols=(1, 2),
    reads=1,
)
async def header_of_an_answer(scene: Scene) -> None:
    alice = await scene.join("alice")
    request = alice.request("conform.echo", json.dumps({"a": 1}), form=Form.CHUNKS)
    header = (await alice.gets_answer(request)).header
    if header is None:
        raise NotPossible("it answers streams with packets")
    if not header.is_text:
        raise Unmet("a text_header", "none")
    if header.total_length is None:
        raise Unmet("a total_length", "none")
    if dict(header.attributes) != dict(wire.response_attributes(request)):
        raise Unmet("the request id as the only attribute", str(dict(header.attributes)))


@case(
    "3.13",
    "A request stream arrives and its handler fails",
    sees="the error as an error packet",
    rule="R17 A4",
    why="No SDK looks for an error in a stream: the caller waits for its whole timeout.",
    methods=("conform.fail",),
    protocols=(1, 2),
    reads=1,
)
async def errors_are_packets(scene: Scene) -> None:
    alice = await scene.join("alice")
    wanted = json.dumps({"code": 7001, "message": "not today", "data": ""})
    request = alice.request("conform.fail", wanted, form=Form.CHUNKS)
    await alice.gets_error(request, 7001, "not today")
