"""14: the server's own calls, and those of hidden participants.

LiveKit's server calls for its API (PerformRpc) by a request packet whose sender is the id of the
request: nobody announced it, it has no sid, and reads nothing but plain packets sent back to it.
"""

import json

from rpcproto.conformance.case import Level, Unmet, case
from rpcproto.conformance.reading import Form, describe
from rpcproto.conformance.scene import Scene
from rpcproto.conformance.writing import waiting
from rpcproto.wire import Ack, Request, Response


@case(
    "14.1",
    "The server calls",
    sees="an ack packet, then a response packet, both to the identity that called",
    rule="R21 A7",
    why="Without an answer the user of the server's API gets a timeout from a participant that is "
    "there.",
    protocols=(0,),
)
async def server_is_answered(scene: Scene) -> None:
    server = scene.server()
    request = server.request("conform.echo", "Grüße 👋", request_id=server.identity)
    await server.gets_ack(request)
    body = await server.gets_answer(request, "Grüße 👋")
    for seen in body.parts:
        if list(seen.packet.destination_identities) != [server.identity]:
            names = str(list(seen.packet.destination_identities))
            raise Unmet(f"the destination {[server.identity]}", names)


@case(
    "14.2",
    "The server calls without a destination, so that the packet is for the whole room",
    sees="an ack packet, then a response packet",
    rule="R21 R39",
    why="Without an answer the user of the server's API gets a timeout from a participant that is "
    "there.",
    protocols=(0,),
)
async def server_names_nobody(scene: Scene) -> None:
    server = scene.server()
    request = Request(server.identity, "conform.echo", "hello", 8_000)
    server.send(request, destination="")
    await server.gets_ack(request.request_id)
    await server.gets_answer(request.request_id, "hello")


@case(
    "14.3",
    "The server calls a method that is not registered",
    sees="an ack packet, then error 1400",
    rule="R15 R21",
    why="Without the error the user of the server's API waits for the timeout, and learns no "
    "reason.",
    methods=(),
    protocols=(0,),
)
async def server_calls_an_unknown_method(scene: Scene) -> None:
    server = scene.server()
    request = server.request("no such method", "", request_id=server.identity)
    await server.gets_ack(request)
    await server.gets_error(request, 1400)


@case(
    "14.4",
    "The server calls, and the handler raises an RpcError",
    sees="an error packet with its code, message and data",
    rule="R18 R21",
    why="Without the error the user of the server's API waits for the timeout, and learns no "
    "reason.",
    methods=("conform.fail",),
    protocols=(0,),
)
async def server_is_refused(scene: Scene) -> None:
    server = scene.server()
    wanted = json.dumps({"code": 7002, "message": "not today", "data": "why"})
    request = server.request("conform.fail", wanted, request_id=server.identity)
    error = await server.gets_error(request, 7002, "not today")
    if error.data != "why":
        raise Unmet("error 7002 with the data 'why'", describe(error))


@case(
    "14.5",
    "The server calls, and the answer has 15,360 bytes",
    sees="a response packet, whole",
    rule="R17 R21",
    why="The server's API carries up to 15 KiB: its user would get an error for an answer that "
    "fits.",
    methods=("conform.size",),
    protocols=(0,),
)
async def server_gets_the_largest_answer(scene: Scene) -> None:
    server = scene.server()
    request = server.request("conform.size", "15360", request_id=server.identity)
    await server.gets_answer(request, "x" * 15_360)


@case(
    "14.6",
    "The server calls, and the answer has 15,361 bytes",
    sees="error 1504, and no stream",
    rule="R17 R21",
    why="The server reads no streams: the user of its API would wait for the timeout.",
    methods=("conform.size",),
    protocols=(0,),
)
async def server_gets_no_stream(scene: Scene) -> None:
    server = scene.server()
    request = server.request("conform.size", "15361", request_id=server.identity)
    await server.gets_error(request, 1504)


@case(
    "14.7",
    "The server calls with an empty payload",
    sees="a response packet with an empty payload",
    rule="R21 R29",
    why="A payload is optional in the server's API: calls without one would fail.",
    protocols=(0,),
)
async def server_calls_with_nothing(scene: Scene) -> None:
    server = scene.server()
    request = server.request("conform.echo", "", request_id=server.identity)
    await server.gets_answer(request, "")


@case(
    "14.8",
    "The server makes three calls at once",
    sees="three answers, each to the identity that called",
    rule="R21 R16",
    why="The users of the server's API would get each other's answers, or none.",
    protocols=(0,),
)
async def server_calls_at_once(scene: Scene) -> None:
    servers = [scene.server() for _ in range(3)]
    for number, server in enumerate(servers):
        server.request("conform.echo", f"call {number}", request_id=server.identity)
    for number, server in enumerate(servers):
        await server.gets_answer(server.identity, f"call {number}")


@case(
    "14.9",
    "A request of the server arrives twice",
    sees="the handler runs once",
    rule="R16 R21",
    why="After a resumed connection packets can arrive twice: what the user asked for happens "
    "twice.",
    level=Level.SHOULD,
    methods=("conform.echo", "conform.count"),
    protocols=(0,),
)
async def server_repeats_itself(scene: Scene) -> None:
    server, alice = scene.server(), await scene.join("alice")
    payload = f"once, please: {server.identity}"
    for _ in range(2):
        server.request("conform.echo", payload, request_id=server.identity)
    await server.gets_answer(server.identity, payload)
    await scene.has_run_once(alice, payload)


@case(
    "14.10",
    "A participant leaves while a call of the server runs for 2 s",
    sees="the answer to the server",
    rule="R19 R21",
    why="The user of the server's API would wait for the timeout, because somebody else left.",
    methods=("conform.wait",),
    protocols=(0,),
    seconds=2,
)
async def server_does_not_leave_with_others(scene: Scene) -> None:
    server, alice = scene.server(), await scene.join("alice")
    wanted = waiting(2)
    server.request("conform.wait", wanted, request_id=server.identity)
    await server.gets_ack(server.identity)
    await scene.leave(alice)
    await server.gets_outcome(server.identity, within=2)
    body = await server.gets_answer(server.identity, "done")
    if body.form is not Form.PACKET:
        raise Unmet("a response packet", body.form.value)


@case(
    "14.11",
    "A hidden participant calls: its identity is empty",
    sees="no answer to the whole room, and no harm to others",
    rule="R21 C",
    why="An answer without a destination shows everybody what one participant asked for.",
    level=Level.SHOULD,
    protocols=(0,),
)
async def hidden_caller(scene: Scene) -> None:
    hidden, alice = scene.hidden(), await scene.join("alice")
    hidden.request("conform.echo", "from nobody")
    await scene.settle()
    for seen in alice.inbox:
        raise Unmet("nothing to others", describe(seen.message))
    await alice.gets_answer(alice.request("conform.echo", "from alice"), "from alice")


@case(
    "14.12",
    "A hidden participant calls: its identity is empty",
    sees="INFO: whether it is answered",
    rule="R21",
    why="Both are harmless: a hidden participant cannot be reached.",
    level=Level.INFO,
    protocols=(0,),
)
async def answer_to_the_hidden(scene: Scene) -> str:
    hidden, alice = scene.hidden(), await scene.join("alice")
    hidden.request("conform.echo", "from nobody")
    await alice.gets_answer(alice.request("conform.echo", "from alice"), "from alice")
    await scene.settle()
    kinds = {"an ack" if isinstance(seen.message, Ack) else "an answer" for seen in hidden.inbox}
    return f"a hidden caller gets {' and '.join(sorted(kinds)) or 'nothing'}"


@case(
    "14.13",
    "A hidden participant answers a call of the testee in place of the callee",
    sees="the answer of the callee",
    rule="R7 C",
    why="A hidden participant could answer in the name of any other one.",
    level=Level.SHOULD,
    methods=("conform.call",),
    protocols=(0,),
)
async def hidden_answerer(scene: Scene) -> None:
    hidden, alice = scene.hidden(), await scene.join("alice")
    call, request = await scene.called(alice)
    hidden.send(Ack(request.request_id), Response(request.request_id, "forged"))
    await call.is_still_pending()
    alice.ack(request)
    alice.answer(request, "right")
    await call.succeeds("right")
