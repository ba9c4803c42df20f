"""1: the request as sent."""

import re

from rpcproto import wire
from rpcproto.conformance.case import Level, Unmet, case
from rpcproto.conformance.reading import Form
from rpcproto.conformance.scene import Scene

CALL = ("conform.call",)
UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@case(
    "1.1",
    "The testee calls a participant",
    sees="a request with the method and the payload that the application gave",
    rule="R1",
    why="Without it, no call reaches anybody.",
    methods=CALL,
)
async def request_arrives(scene: Scene) -> None:
    alice = await scene.join("alice")
    call = await scene.call(alice, "greet", "Grüße, 世界 👋")
    request = await alice.gets_request("greet", "Grüße, 世界 👋")
    alice.ack(request)
    alice.answer(request, "hello")
    await call.succeeds("hello")
    await scene.nothing_more()


@case(
    "1.2",
    "The testee calls a participant",
    sees="a request id that is a UUIDv4 in 36 characters of lower case",
    rule="R13",
    why="The ESP32 firmware drops requests whose id does not have 36 characters.",
    methods=CALL,
)
async def request_id_has_36_characters(scene: Scene) -> None:
    alice = await scene.join("alice")
    await scene.call(alice)
    request = await alice.gets_request()
    if len(request.request_id) != 36:
        raise Unmet("a request id of 36 characters", repr(request.request_id))


@case(
    "1.3",
    "The testee calls a participant",
    sees="a request id in the form of a UUIDv4, in lower case",
    rule="R13",
    why="A peer that parses ids as UUIDs, or changes their case, would not find the call.",
    level=Level.SHOULD,
    methods=CALL,
)
async def request_id_is_lower_case_uuid4(scene: Scene) -> None:
    alice = await scene.join("alice")
    await scene.call(alice)
    request = await alice.gets_request()
    if not UUID4.fullmatch(request.request_id):
        raise Unmet("a UUIDv4 in lower case", repr(request.request_id))


@case(
    "1.4",
    "The testee calls twice",
    sees="two requests with different ids",
    rule="R13 R16",
    why="A responder takes a request whose id it knows for a duplicate, and does not run it.",
    methods=CALL,
)
async def request_ids_differ(scene: Scene) -> None:
    alice = await scene.join("alice")
    ids = set()
    for _ in range(2):
        call = await scene.call(alice)
        request = await alice.gets_request()
        alice.ack(request)
        alice.answer(request, "")
        await call.succeeds("")
        ids.add(request.request_id)
    if len(ids) < 2:
        raise Unmet("two ids", f"the id {ids.pop()!r} twice")


@case(
    "1.5",
    "The testee calls a participant",
    sees='version 1 in a request packet, "2" in the header of a request stream',
    rule="R15",
    why="A responder answers every other version with 1404.",
    methods=CALL,
)
async def version_fits_the_form(scene: Scene) -> None:
    alice = await scene.join("alice")
    await scene.call(alice)
    request = await alice.gets_request()
    version = "1" if request.form is Form.PACKET else wire.STREAM_VERSION
    if request.version != version:
        raise Unmet(f"version {version} in {request.form.value}", repr(request.version))


@case(
    "1.6",
    "The testee calls a participant that announces client_protocol 0",
    sees="a request packet",
    rule="R29 A4",
    why="The participant reads no streams: the call would end with 1501.",
    methods=CALL,
    protocols=(0,),
)
async def no_stream_to_client_protocol_0(scene: Scene) -> None:
    alice = await scene.join("alice")
    await scene.call(alice)
    request = await alice.gets_request()
    if request.form is not Form.PACKET:
        raise Unmet("a request packet", request.form.value)


@case(
    "1.7",
    "The testee calls a participant that announces client_protocol 1 or 2",
    sees="INFO: whether the request is a packet, or which kind of stream",
    rule="A4 A5",
    why="Both are right: the responder reads packets and streams.",
    level=Level.INFO,
    methods=CALL,
    protocols=(1, 2),
)
async def form_of_a_request(scene: Scene) -> str:
    alice = await scene.join("alice")
    await scene.call(alice)
    request = await alice.gets_request()
    return f"a small request is {request.form.value}"


@case(
    "1.8",
    "The testee calls a participant that was never announced",
    sees="a request packet, or no request and error 1401",
    rule="A4 R12",
    why="An unannounced participant may read no streams: the call would end with 1501.",
    methods=CALL,
    protocols=(0,),
)
async def packet_to_whom_nobody_announced(scene: Scene) -> None:
    alice = await scene.join("alice", is_announced=False)
    call = await scene.call(alice, response_timeout=5)
    await scene.settle()
    if not alice.inbox and not call.is_pending:
        await call.fails(1401)
        return
    request = await alice.gets_request()
    if request.form is not Form.PACKET:
        raise Unmet("a request packet", request.form.value)


@case(
    "1.9",
    "The testee calls a participant",
    sees="every packet of the request has exactly that participant as its destination",
    rule="R29",
    why="Without a destination, everybody in the room receives the payload.",
    methods=CALL,
)
async def one_destination(scene: Scene) -> None:
    alice = await scene.join("alice")
    bystander = await scene.join("bob")
    await scene.call(alice, payload="a secret")
    request = await alice.gets_request(payload="a secret")
    for seen in request.body.parts:
        names = list(seen.packet.destination_identities)
        if names != [alice.identity]:
            raise Unmet(f"the destination {[alice.identity]}", str(names))
    await scene.settle()
    if bystander.inbox:
        raise Unmet("nothing to a third participant", f"{len(bystander.inbox)} packets")


@case(
    "1.10",
    "The testee calls with an empty payload",
    sees="a request with an empty payload, that it is not left waiting for",
    rule="R29",
    why="A receiver that sees neither chunk nor content waits for a body until the call ends.",
    methods=CALL,
)
async def empty_payload(scene: Scene) -> None:
    alice = await scene.join("alice")
    call = await scene.call(alice, "greet", "")
    request = await alice.gets_request("greet", "")
    alice.ack(request)
    alice.answer(request, "")
    await call.succeeds("")


@case(
    "1.11",
    "The testee calls with a method of 64 bytes, in ASCII and not",
    sees="requests for these methods",
    rule="R12 A2",
    why="An application that uses the allowed 64 bytes cannot call its own methods.",
    methods=CALL,
)
async def longest_method(scene: Scene) -> None:
    alice = await scene.join("alice")
    for method in ("m" * 64, "ä" * 32):
        call = await scene.call(alice, method)
        request = await alice.gets_request(method)
        alice.ack(request)
        alice.answer(request, "")
        await call.succeeds("")


@case(
    "1.12",
    "The testee calls a participant, which answers at once",
    sees="one request, and nothing more",
    rule="R1 R6",
    why="The responder may run the handler twice.",
    methods=CALL,
)
async def a_request_is_sent_once(scene: Scene) -> None:
    alice = await scene.join("alice")
    call = await scene.call(alice, "greet", "once")
    request = await alice.gets_request("greet", "once")
    alice.ack(request)
    await scene.nothing_more()
    alice.answer(request, "")
    await call.succeeds("")
    await scene.nothing_more()
