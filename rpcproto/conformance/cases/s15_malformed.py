"""15: what is malformed."""

from typing import Final

from rpcproto import wire
from rpcproto.conformance.case import Level, Unmet, case
from rpcproto.conformance.reading import Form, counted
from rpcproto.conformance.scene import Scene
from rpcproto.conformance.writing import TIMEOUT_MS, new_id, request_stream, stream_of
from rpcproto.core.packets_pb2 import DataPacket
from rpcproto.wire import ErrorResponse, Request, Response

CALL = ("conform.call",)
STREAMS: Final = (1, 2)


@case(
    "15.16",
    "Request streams arrive whose timeout is no number",
    sees="error 1500",
    rule="R27",
    why="The handler runs without a limit of time, or the caller learns nothing until its timeout.",
    level=Level.SHOULD,
    protocols=STREAMS,
    reads=1,
)
async def timeout_is_no_number(scene: Scene) -> None:
    alice = await scene.join("alice")
    for timeout in ("soon", "-1", "1e3", "٣"):
        stream = request_stream([b"hello"])
        attributes = {**stream.header.attributes, wire.RESPONSE_TIMEOUT_MS: timeout}
        alice.send(stream.header._replace(attributes=attributes), *stream.parts[1:])
        await alice.gets_error(stream.request_id, 1500)


@case(
    "15.17",
    "A request arrives as a stream of bytes: its header has no text_header",
    sees="an error, or no answer",
    rule="R27",
    why="The handler runs with bytes that need not be text.",
    level=Level.SHOULD,
    protocols=STREAMS,
    reads=1,
)
async def a_stream_of_bytes(scene: Scene) -> None:
    alice = await scene.join("alice")
    stream = request_stream([b"hello"])
    alice.send(stream.header._replace(is_text=False), *stream.parts[1:])
    await scene.is_not_believed(alice, stream.request_id)


@case(
    "15.18",
    "Streams arrive on topics that are not those of RPC, with the attributes of a request",
    sees="nothing: no ack, and no answer",
    rule="R24",
    why="A stream of an application, such as a chat message, would run a handler.",
    protocols=STREAMS,
    reads=1,
)
async def other_topics(scene: Scene) -> None:
    alice = await scene.join("alice")
    for topic in ("lk.chat", "lk.rpc_request2", "LK.RPC_REQUEST", ""):
        attributes = wire.request_attributes(new_id(), "conform.echo", TIMEOUT_MS)
        alice.send(*stream_of(topic, attributes, [b"hello"]).parts)
    await scene.nothing_more()
    await alice.gets_answer(alice.request("conform.echo", "next"), "next")


@case(
    "15.19",
    "A request stream arrives without a request id",
    sees="nothing; the next request is answered",
    rule="R27 R28",
    why="The handler runs for a caller that can never get an answer.",
    level=Level.SHOULD,
    protocols=STREAMS,
    reads=1,
)
async def a_stream_without_an_id(scene: Scene) -> None:
    alice = await scene.join("alice")
    stream = request_stream([b"hello"])
    attributes = dict(stream.header.attributes)
    del attributes[wire.REQUEST_ID]
    alice.send(stream.header._replace(attributes=attributes), *stream.parts[1:])
    await scene.nothing_more()
    await alice.gets_answer(alice.request("conform.echo", "next"), "next")


@case(
    "15.20",
    "A request packet, an ack and a response arrive without an id",
    sees="nothing; the next request is answered",
    rule="R28",
    why="The handler runs for a caller that can never get an answer.",
    level=Level.SHOULD,
)
async def packets_without_an_id(scene: Scene) -> None:
    alice = await scene.join("alice")
    alice.send(Request("", "conform.echo", "hello", TIMEOUT_MS), wire.Ack(""), Response("", "x"))
    await scene.nothing_more()
    await alice.gets_answer(alice.request("conform.echo", "next"), "next")


@case(
    "15.21",
    "A request packet arrives whose payload is in compressed_payload",
    sees="an error, or no answer",
    rule="R34 A1",
    why="The handler runs with an empty payload that nobody sent.",
    level=Level.SHOULD,
)
async def compressed_payload_of_a_request(scene: Scene) -> None:
    def change(packet: DataPacket) -> None:
        packet.rpc_request.compressed_payload = b"\xcb\x48\xcd\xc9\xc9\x07\x00"

    alice = await scene.join("alice")
    request = Request(new_id(), "conform.echo", "", TIMEOUT_MS)
    alice.send(request, change=change)
    await scene.is_not_believed(alice, request.request_id)


@case(
    "15.22",
    "A call of the testee is answered with a compressed_payload",
    sees="a call that fails with 1500",
    rule="R34 A1",
    why="The application gets an empty answer that nobody gave, or waits for its timeout.",
    level=Level.SHOULD,
    methods=CALL,
)
async def compressed_payload_of_an_answer(scene: Scene) -> None:
    def change(packet: DataPacket) -> None:
        packet.rpc_response.compressed_payload = b"\xcb\x48\xcd\xc9\xc9\x07\x00"

    alice = await scene.join("alice")
    call, request = await scene.called(alice)
    alice.ack(request)
    alice.send(Response(request.request_id, None), change=change)
    await call.fails(1500)


@case(
    "15.23",
    "Responses, errors and response streams arrive that nobody asked for",
    sees="nothing; the next request is answered",
    rule="R32",
    why="Answers can come after their caller has given up: late ones would stop the participant.",
)
async def answers_to_nothing(scene: Scene) -> None:
    alice = await scene.join("alice")
    alice.send(Response(new_id(), "hello"), ErrorResponse(new_id(), 1500, "", ""))
    forms = (Form.CHUNKS, Form.INLINE, Form.COMPRESSED_INLINE)
    for form in forms if scene.testee.client_protocol else ():
        attributes = wire.response_attributes(new_id())
        stream = stream_of(wire.RESPONSE_TOPIC, attributes, [b"hello"])
        header = stream.header
        if form.is_inline:
            compression = wire.DEFLATE_RAW if form.is_compressed else wire.UNCOMPRESSED
            alice.send(header._replace(inline_content=b"hello", compression=compression))
        else:
            alice.send(*stream.parts)
    await scene.nothing_more()
    await alice.gets_answer(alice.request("conform.echo", "next"), "next")


@case(
    "15.24",
    "A call of the testee is refused with the codes 0, 1 and 2^32 - 1",
    sees="calls that fail at once",
    rule="R18 A1",
    why="The application waits for its timeout although the callee has refused.",
    level=Level.SHOULD,
    methods=CALL,
)
async def odd_codes(scene: Scene) -> None:
    alice = await scene.join("alice")
    for code in (0, 1, 2**32 - 1):
        call, request = await scene.called(alice)
        alice.ack(request)
        alice.refuse(request, code, "odd")
        outcome = await call.outcome()
        if "payload" in outcome:
            raise Unmet(f"a call that fails when it is refused with {code}", str(outcome))


@case(
    "15.25",
    "Packets arrive whose sender is the testee itself",
    sees="nothing; the next request is answered",
    rule="R39 A7",
    why="On a transport that echoes, every request would run a handler of its own caller.",
    level=Level.SHOULD,
    methods=("conform.count", "conform.echo"),
)
async def ones_own_packets(scene: Scene) -> None:
    alice = await scene.join("alice")
    payload = f"to myself {new_id()}"
    alice.send_bytes(
        wire.stamp(
            wire.encode(
                Request(new_id(), "conform.echo", payload, TIMEOUT_MS), "", scene.testee.identity
            ),
            sender_identity=scene.testee.identity,
        )
    )
    await scene.settle()
    if runs := await scene.runs_of(alice, payload):
        raise Unmet("no run of the handler", counted(runs, "run"))
