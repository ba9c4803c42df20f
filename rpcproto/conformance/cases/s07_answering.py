"""7: who may answer."""

from rpcproto import wire
from rpcproto.conformance.case import Level, Unmet, case
from rpcproto.conformance.participant import Participant
from rpcproto.conformance.reading import Form, IncomingRequest, counted
from rpcproto.conformance.scene import Scene, TesteeCall, said
from rpcproto.conformance.stage import new_sid
from rpcproto.conformance.writing import answer_parts, new_id, request_parts
from rpcproto.wire import Ack, ErrorResponse, Response, StreamChunk, StreamHeader, StreamTrailer

CALL = ("conform.call",)


async def begun(scene: Scene) -> tuple[Participant, Participant, TesteeCall, IncomingRequest]:
    """A call to alice, acknowledged by her; and mallory, who knows its id."""
    alice, mallory = await scene.join("alice"), await scene.join("mallory")
    call, request = await scene.called(alice)
    alice.ack(request)
    return alice, mallory, call, request


@case(
    "7.1",
    "A third participant answers a call of the testee, in place of the callee",
    sees="its answer ignored, and that of the callee taken",
    rule="R7 L13",
    why="Whoever learns or guesses an id could answer in another's name.",
    methods=CALL,
)
async def a_third_answers(scene: Scene) -> None:
    alice, mallory, call, request = await begun(scene)
    mallory.send(Response(request.request_id, "forged"))
    await call.is_still_pending()
    alice.answer(request, "genuine")
    await call.succeeds("genuine")


@case(
    "7.2",
    "A third participant refuses a call of the testee, in place of the callee",
    sees="its error ignored, and the answer of the callee taken",
    rule="R7 L13",
    why="Whoever learns or guesses an id could end the calls of others.",
    methods=CALL,
)
async def a_third_refuses(scene: Scene) -> None:
    alice, mallory, call, request = await begun(scene)
    mallory.send(ErrorResponse(request.request_id, 1400, "forged", ""))
    await call.is_still_pending()
    alice.answer(request, "genuine")
    await call.succeeds("genuine")


@case(
    "7.3",
    "A third participant answers a call of the testee with a stream",
    sees="its answer ignored, and that of the callee taken",
    rule="R7 R23 L13",
    why="Whoever learns or guesses an id could answer in another's name.",
    methods=CALL,
    reads=1,
)
async def a_third_answers_with_a_stream(scene: Scene) -> None:
    alice, mallory, call, request = await begun(scene)
    forms = [Form.CHUNKS, Form.INLINE][: scene.testee.client_protocol]
    for form in forms:
        mallory.send(*answer_parts(request.request_id, "forged", form))
    await call.is_still_pending()
    alice.answer(request, "genuine")
    await call.succeeds("genuine")


@case(
    "7.4",
    "A third participant acknowledges a call of the testee, its callee does not",
    sees="error 1501 before the timeout of 10 s is over: the forged ack does not count",
    rule="R7 L13",
    why="A third participant could keep a caller waiting for somebody who is not there.",
    level=Level.SHOULD,
    methods=CALL,
    seconds=8,
)
async def a_third_acknowledges(scene: Scene) -> None:
    alice, mallory = await scene.join("alice"), await scene.join("mallory")
    call, request = await scene.called(alice, response_timeout=10)
    mallory.send(Ack(request.request_id))
    outcome = await call.outcome(9)
    if outcome.get("code") != 1501:
        raise Unmet("a call that fails with 1501", said(outcome))


@case(
    "7.5",
    "A call is answered in the name of the callee, from a session that nobody announced",
    sees="the answer ignored, and that of the session that was called taken",
    rule="R7",
    why="Somebody who takes the name of the callee could answer in its place.",
    level=Level.SHOULD,
    methods=CALL,
)
async def another_session_answers(scene: Scene) -> None:
    alice, _, call, request = await begun(scene)
    alice.send(Response(request.request_id, "of another session"), sid=new_sid())
    await call.is_still_pending()
    alice.answer(request, "genuine")
    await call.succeeds("genuine")


@case(
    "7.6",
    "A request arrives in alice's name, from the session that was announced as mallory's",
    sees="no handler runs, and nothing goes to alice",
    rule="R24",
    why="The sid is the one sender field that nobody can forge: mallory speaks in alice's name.",
    level=Level.SHOULD,
    methods=("conform.echo", "conform.count"),
)
async def a_session_of_somebody_else(scene: Scene) -> None:
    alice, mallory = await scene.join("alice"), await scene.join("mallory")
    payload = f"forged {new_id()}"
    parts = request_parts(new_id(), "conform.echo", payload)
    alice.send(*parts, sid=mallory.member.sid)
    await scene.nothing_more()
    if runs := await scene.runs_of(alice, payload):
        raise Unmet("no run of the handler", counted(runs, "run"))


@case(
    "7.7",
    "A call of the testee is answered without a sid",
    sees="INFO: whether the answer is taken",
    rule="R7",
    why="A server always writes it; transports of one's own may know none.",
    level=Level.INFO,
    methods=CALL,
    seconds=13,
)
async def no_sid(scene: Scene) -> str:
    alice = await scene.join("alice")
    call, request = await scene.called(alice, response_timeout=12)
    alice.ack(request)
    alice.send(Response(request.request_id, "without a sid"), sid="")
    return f"an answer without a sid: {said(await call.outcome(12))}"


@case(
    "7.8",
    "A third participant sends a chunk under the stream id of the callee's answer",
    sees="its chunk ignored, and the answer taken as the callee sent it",
    rule="R23",
    why="Stream ids are known where chunks are broadcast: a third participant could change "
    "answers.",
    methods=CALL,
    reads=1,
)
async def a_third_sends_a_chunk(scene: Scene) -> None:
    alice, mallory, call, request = await begun(scene)
    header, chunk, trailer = answer_parts(request.request_id, "genuine", Form.CHUNKS)
    assert isinstance(header, StreamHeader)
    alice.send(header)
    mallory.send(StreamChunk(header.stream_id, 0, b"forged!"))
    alice.send(chunk, trailer)
    await call.succeeds("genuine")


@case(
    "7.9",
    "A third participant ends the stream of the callee's answer",
    sees="its trailer ignored, and the answer taken as the callee sent it",
    rule="R23",
    why="Stream ids are known where chunks are broadcast: a third participant could end answers.",
    methods=CALL,
    reads=1,
)
async def a_third_sends_a_trailer(scene: Scene) -> None:
    alice, mallory, call, request = await begun(scene)
    header, chunk, trailer = answer_parts(request.request_id, "genuine", Form.CHUNKS)
    assert isinstance(header, StreamHeader)
    alice.send(header)
    mallory.send(StreamTrailer(header.stream_id, ""))
    mallory.send(StreamTrailer(header.stream_id, "cancelled"))
    alice.send(chunk, trailer)
    await call.succeeds("genuine")


@case(
    "7.10",
    "A third participant sends a chunk and a trailer under the stream id of a caller's request",
    sees="both ignored, and the request answered as its caller sent it",
    rule="R23",
    why="A third participant could change what a caller asks for.",
    protocols=(1, 2),
    reads=1,
)
async def a_third_changes_a_request(scene: Scene) -> None:
    alice, mallory = await scene.join("alice"), await scene.join("mallory")
    request = new_id()
    header, chunk, trailer = request_parts(request, "conform.echo", "genuine", Form.CHUNKS)
    assert isinstance(header, StreamHeader)
    alice.send(header)
    mallory.send(StreamChunk(header.stream_id, 0, b"forged!"), StreamTrailer(header.stream_id, ""))
    alice.send(chunk, trailer)
    await alice.gets_answer(request, "genuine")


@case(
    "7.11",
    "Two participants use the same stream id at once",
    sees="both requests answered, each with its own payload",
    rule="R23",
    why="Programs that count their stream ids use the same ones: their calls would fail or mix.",
    protocols=(1, 2),
    reads=1,
)
async def one_stream_id_of_two_senders(scene: Scene) -> None:
    alice, bob = await scene.join("alice"), await scene.join("bob")
    stream_id, sent = new_id(), {}
    for participant in (alice, bob):
        request = new_id()
        parts = request_parts(request, "conform.echo", participant.identity, Form.CHUNKS)
        sent[request] = participant, [part._replace(stream_id=stream_id) for part in parts]  # type: ignore[call-arg]
    for at in range(3):
        for participant, parts in sent.values():
            participant.send(parts[at])
    for request, (participant, _) in sent.items():
        await participant.gets_answer(request, participant.identity)


@case(
    "7.12",
    "A call of the testee is answered twice, differently",
    sees="the call succeeds with the first answer, and the next call with its own",
    rule="R6 L4",
    why="A second answer would become the answer to another call.",
    methods=CALL,
)
async def two_answers(scene: Scene) -> None:
    alice = await scene.join("alice")
    call, request = await scene.called(alice)
    alice.ack(request)
    alice.answer(request, "first")
    await scene.settle()  # SDKs read bodies side by side: another one might be read first
    alice.answer(request, "second")
    alice.refuse(request, 1500)
    await call.succeeds("first")
    call, another = await scene.called(alice)
    alice.ack(another)
    await call.is_still_pending()
    alice.answer(another, "third")
    await call.succeeds("third")


@case(
    "7.13",
    "An error packet arrives in the middle of a response stream",
    sees="the call fails with the error, and the rest of the stream does no harm",
    rule="R6",
    why="The application waits for its timeout, although the responder has reported an error.",
    level=Level.SHOULD,
    methods=CALL,
    reads=1,
)
async def an_error_in_a_stream(scene: Scene) -> None:
    alice, _, call, request = await begun(scene)
    header, chunk, trailer = answer_parts(request.request_id, "too late", Form.CHUNKS)
    alice.send(header)
    alice.refuse(request, 1505, "Failed to send")
    await scene.settle()
    alice.send(chunk, trailer)
    await call.fails(1505)


@case(
    "7.14",
    "A second response stream begins for the same call",
    sees="the call succeeds with the first stream",
    rule="R6",
    why="The application gets a mixture of two answers.",
    level=Level.SHOULD,
    methods=CALL,
    reads=1,
)
async def two_response_streams(scene: Scene) -> None:
    alice, _, call, request = await begun(scene)
    header, chunk, trailer = answer_parts(request.request_id, "the first", Form.CHUNKS)
    alice.send(header)
    alice.send(*answer_parts(request.request_id, "the second", Form.CHUNKS)[:-1])
    alice.send(chunk, trailer)
    await call.succeeds("the first")


@case(
    "7.15",
    "An answer with an unknown id arrives from the callee",
    sees="it is ignored: the call waits for its own answer",
    rule="R7",
    why="A late answer to an earlier call would become the answer to this one.",
    methods=CALL,
)
async def an_answer_to_no_call(scene: Scene) -> None:
    alice, _, call, request = await begun(scene)
    alice.send(Response(new_id(), "to nobody's call"))
    alice.send(ErrorResponse(new_id(), 1400, "", ""))
    await call.is_still_pending()
    alice.answer(request, "genuine")
    await call.succeeds("genuine")


@case(
    "7.16",
    "Two calls of the testee are answered in the reverse order",
    sees="each succeeds with its own answer",
    rule="R6 L12",
    why="Applications that call twice at once would get each other's answers.",
    methods=CALL,
)
async def answers_in_reverse_order(scene: Scene) -> None:
    alice = await scene.join("alice")
    first, one = await scene.called(alice, payload="one")
    second, two = await scene.called(alice, payload="two")
    for request in (one, two):
        alice.ack(request)
    alice.answer(two, "second")
    alice.answer(one, "first")
    await first.succeeds("first")
    await second.succeeds("second")


@case(
    "7.17",
    "A request stream arrives that is marked as generated",
    sees="no handler runs, and nothing comes back",
    rule="R24",
    why="An agent could call in the name of other participants.",
    level=Level.SHOULD,
    methods=("conform.echo", "conform.count"),
    protocols=(1, 2),
    reads=1,
)
async def a_generated_request(scene: Scene) -> None:
    alice = await scene.join("alice")
    payload = f"generated {new_id()}"
    header, *rest = request_parts(new_id(), "conform.echo", payload, Form.CHUNKS)
    assert isinstance(header, StreamHeader)
    alice.send(header._replace(generated=True), *rest)
    await scene.nothing_more()
    if runs := await scene.runs_of(alice, payload):
        raise Unmet("no run of the handler", counted(runs, "run"))


@case(
    "7.18",
    "The callee acknowledges and answers to the whole room, as the ESP32 firmware does",
    sees="the call succeeds",
    rule="R39 C",
    why="The ESP32 firmware answers like this: all calls to it would time out.",
    methods=CALL,
)
async def an_answer_to_the_whole_room(scene: Scene) -> None:
    alice = await scene.join("alice")
    call, request = await scene.called(alice)
    alice.send(Ack(request.request_id), destination="")
    alice.send(Response(request.request_id, "to everybody"), destination="")
    await call.succeeds("to everybody")


@case(
    "7.19",
    "A request whose destination is somebody else arrives",
    sees="no handler runs, and nothing comes back",
    rule="R39",
    why="On a transport that broadcasts, every participant would run the handler.",
    level=Level.SHOULD,
    methods=("conform.echo", "conform.count"),
)
async def a_request_to_somebody_else(scene: Scene) -> None:
    alice = await scene.join("alice")
    payload = f"not yours {new_id()}"
    parts = request_parts(new_id(), "conform.echo", payload)
    alice.send(*parts, destination="somebody else")
    await scene.nothing_more()
    if runs := await scene.runs_of(alice, payload):
        raise Unmet("no run of the handler", counted(runs, "run"))


@case(
    "7.20",
    "Chunks and trailers of a stream on another topic arrive, under ids that nobody knows",
    sees="no harm: the next request is answered",
    rule="R23 C",
    why="Two SDKs send their chunks to the whole room: everybody else would stop.",
)
async def chunks_of_nobody(scene: Scene) -> None:
    alice = await scene.join("alice")
    stream_id = new_id()
    alice.send(StreamChunk(stream_id, 0, b"not for you"), destination="")
    alice.send(StreamTrailer(stream_id, ""), destination="")
    await scene.nothing_more()
    await alice.gets_answer(alice.request("conform.echo", "hello"), "hello")


@case(
    "7.21",
    "A response stream arrives on the topic of requests, and a request on that of responses",
    sees="neither is taken: the call waits for its answer, and no handler runs",
    rule="R24 A4",
    why="A peer could run handlers by answers, and answer by requests.",
    level=Level.SHOULD,
    methods=("conform.call", "conform.echo", "conform.count"),
    reads=1,
)
async def topics_confused(scene: Scene) -> None:
    alice, _, call, request = await begun(scene)
    header, *rest = answer_parts(request.request_id, "on the wrong topic", Form.CHUNKS)
    assert isinstance(header, StreamHeader)
    alice.send(header._replace(topic="lk.chat"), *rest)
    payload = f"on the wrong topic {new_id()}"
    header, *rest = request_parts(new_id(), "conform.echo", payload, Form.CHUNKS)
    assert isinstance(header, StreamHeader)
    alice.send(header._replace(topic=wire.RESPONSE_TOPIC), *rest)
    await call.is_still_pending()
    alice.answer(request, "genuine")
    await call.succeeds("genuine")
    if runs := await scene.runs_of(alice, payload):
        raise Unmet("no run of the handler", counted(runs, "run"))
