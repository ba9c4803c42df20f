"""5: limits, of requests and of answers."""

import hashlib
import json

from rpcproto.conformance.case import Level, Unmet, case
from rpcproto.conformance.reading import Form
from rpcproto.conformance.scene import Scene, said

CALL = ("conform.call",)
SIZE = ("conform.size",)
TEXT = ("conform.text",)
LIMIT = 15_360


def texting(text: str, times: int) -> str:
    """The payload of `conform.text`."""
    return json.dumps({"text": text, "times": times}, ensure_ascii=False)


# requests


@case(
    "5.20",
    "The testee calls a participant of client_protocol 0 with 15,359 and 15,360 bytes",
    sees="the requests, whole",
    rule="R8 A2",
    why="The application cannot send a payload that the protocol allows.",
    methods=CALL,
    protocols=(0,),
)
async def the_largest_request(scene: Scene) -> None:
    alice = await scene.join("alice")
    for text, times in (("r", LIMIT - 1), ("r", LIMIT), ("€", LIMIT // 3)):
        call = await scene.call(alice, "greet", text, times=times)
        request = await alice.gets_request("greet", text * times)
        alice.ack(request)
        alice.answer(request, "")
        await call.succeeds("")


@case(
    "5.21",
    "The testee calls a participant of client_protocol 0 with 15,361 bytes",
    sees="error 1402, and nothing on the wire",
    rule="R8 A2",
    why="A peer of client_protocol 0 may refuse the packet, or crash.",
    methods=CALL,
    protocols=(0,),
)
async def a_request_too_large(scene: Scene) -> None:
    alice = await scene.join("alice")
    call = await scene.call(alice, "greet", "r", times=LIMIT + 1)
    await call.fails(1402)
    await scene.nothing_more()


@case(
    "5.22",
    "The testee calls a participant of client_protocol 0 with 15,376 bytes in 5,456 characters",
    sees="error 1402, and nothing on the wire: bytes of UTF-8 count, not characters",
    rule="R8 C",
    why="A peer of client_protocol 0 gets up to 46,080 bytes where 15,360 are the limit.",
    methods=CALL,
    protocols=(0,),
)
async def bytes_count_and_not_characters(scene: Scene) -> None:
    alice = await scene.join("alice")
    call = await scene.call(alice, "greet", "€" * 10 + "x", times=496)
    await call.fails(1402)
    await scene.nothing_more()


@case(
    "5.23",
    "The testee calls a participant of client_protocol 1 or 2 with 15,361 bytes",
    sees="the request as a stream, whole",
    rule="R8 A4",
    why="The application gets an error although streams have no such limit.",
    methods=CALL,
    protocols=(1, 2),
    reads=2,
)
async def a_large_request_is_a_stream(scene: Scene) -> None:
    alice = await scene.join("alice")
    call = await scene.call(alice, "greet", "r", times=LIMIT + 1)
    request = await alice.gets_request("greet", "r" * (LIMIT + 1))
    alice.ack(request)
    alice.answer(request, "")
    await call.succeeds("")


@case(
    "5.24",
    "Request packets with 15,359 and 15,360 bytes arrive",
    sees="the handler runs, with the whole payload",
    rule="R8 A2",
    why="A payload that the protocol allows is refused or truncated.",
    protocols=(0,),
)
async def takes_the_largest_request(scene: Scene) -> None:
    alice = await scene.join("alice")
    for payload in ("r" * (LIMIT - 1), "r" * LIMIT, "€" * (LIMIT // 3)):
        await alice.gets_answer(alice.request("conform.echo", payload), payload)


@case(
    "5.25",
    "A request packet with 46,080 bytes arrives, as one SDK sends it",
    sees="the handler runs, and its answer is sent",
    rule="R8 C",
    why="One SDK limits UTF-16 units and sends up to 46,080 bytes: its calls would fail.",
    level=Level.SHOULD,
    protocols=(1, 2),
)
async def takes_a_request_over_the_limit(scene: Scene) -> None:
    alice = await scene.join("alice")
    payload = "€" * LIMIT
    request = alice.request("conform.echo", payload, form=Form.PACKET)
    await alice.gets_answer(request, payload)


# answers


@case(
    "5.26",
    "A handler answers a request packet with 15,359 and 15,360 bytes, in ASCII and not",
    sees="the answers, whole",
    rule="R17 A2",
    why="A payload that the protocol allows is refused or truncated.",
    methods=("conform.size", "conform.text"),
    protocols=(0,),
)
async def the_largest_answer(scene: Scene) -> None:
    alice = await scene.join("alice")
    for size in (LIMIT - 1, LIMIT):
        await alice.gets_answer(alice.request("conform.size", str(size)), "x" * size)
    request = alice.request("conform.text", texting("€", LIMIT // 3))
    await alice.gets_answer(request, "€" * (LIMIT // 3))


@case(
    "5.27",
    "A handler answers a participant of client_protocol 0 with 15,361 bytes",
    sees="error 1504",
    rule="R17 A2",
    why="The caller may refuse the packet or crash; without the error it waits for its timeout.",
    methods=SIZE,
    protocols=(0,),
)
async def an_answer_too_large(scene: Scene) -> None:
    alice = await scene.join("alice")
    await alice.gets_error(alice.request("conform.size", str(LIMIT + 1)), 1504)


@case(
    "5.28",
    "A handler answers a participant of client_protocol 0 with 15,363 bytes in 5,121 characters",
    sees="error 1504: bytes of UTF-8 count, not characters",
    rule="R17 A2",
    why="A peer of client_protocol 0 may refuse the packet, or crash.",
    methods=TEXT,
    protocols=(0,),
)
async def bytes_of_an_answer_count(scene: Scene) -> None:
    alice = await scene.join("alice")
    await alice.gets_error(alice.request("conform.text", texting("€", LIMIT // 3 + 1)), 1504)


@case(
    "5.29",
    "A handler answers a request stream with 15,361 bytes",
    sees="the answer as a stream, whole",
    rule="R17 A4",
    why="The application gets an error although streams have no such limit.",
    methods=SIZE,
    protocols=(1, 2),
    reads=1,
)
async def a_large_answer_is_a_stream(scene: Scene) -> None:
    alice = await scene.join("alice")
    request = alice.request("conform.size", str(LIMIT + 1), form=Form.CHUNKS)
    await alice.gets_answer(request, "x" * (LIMIT + 1))


@case(
    "5.30",
    "A handler answers a request packet with 15,361 bytes, and its caller reads streams",
    sees="the answer as a stream, whole",
    rule="R17 C",
    why="One SDK sends packets although it reads streams: its callers get 1504 instead of the "
    "answer.",
    level=Level.SHOULD,
    methods=SIZE,
    protocols=(1, 2),
    reads=1,
)
async def a_large_answer_to_a_packet(scene: Scene) -> None:
    alice = await scene.join("alice")
    request = alice.request("conform.size", str(LIMIT + 1), form=Form.PACKET)
    await alice.gets_answer(request, "x" * (LIMIT + 1))


@case(
    "5.31",
    "A call of the testee is answered with response packets of 15,359 and 15,360 bytes",
    sees="the call succeeds, with the whole payload",
    rule="R6 A2",
    why="A payload that the protocol allows is refused or truncated.",
    methods=CALL,
    protocols=(0,),
)
async def takes_the_largest_answer(scene: Scene) -> None:
    alice = await scene.join("alice")
    for payload in ("a" * (LIMIT - 1), "a" * LIMIT, "€" * (LIMIT // 3)):
        call = await scene.call(alice, digest=True)
        request = await alice.gets_request()
        alice.ack(request)
        alice.answer(request, payload, Form.PACKET)
        data = payload.encode()
        outcome = await call.outcome()
        digest = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        if outcome != digest:
            raise Unmet(f"a call that succeeds with {len(data):,} bytes", said(outcome))
