"""5: errors and their codes."""

import json

from rpcproto import wire
from rpcproto.conformance.case import Level, Unmet, case
from rpcproto.conformance.reading import Form, describe, quoted
from rpcproto.conformance.scene import Scene, said
from rpcproto.conformance.writing import TIMEOUT_MS, new_id, stream_parts
from rpcproto.wire import MAX_ERROR_DATA_BYTES, MAX_ERROR_MESSAGE_BYTES, Request

CALL = ("conform.call",)
FAIL = ("conform.fail",)
CRASH = ("conform.crash",)
UNSUPPORTED_METHOD = "Method not supported at destination"
APPLICATION_ERROR = "Application error in method handler"


def failing(code: int, message: str, data: str = "") -> str:
    """The payload of `conform.fail`."""
    return json.dumps({"code": code, "message": message, "data": data}, ensure_ascii=False)


# what a responder says


@case(
    "5.1",
    "A handler raises an RpcError with a code, a message and data",
    sees="an error packet with exactly these",
    rule="R18",
    why="Callers cannot tell what is wrong, or decide what to do.",
    methods=FAIL,
)
async def an_error_of_the_application(scene: Scene) -> None:
    alice = await scene.join("alice")
    request = alice.request("conform.fail", failing(7001, "not today", '{"ask": "tomorrow"}'))
    error = await alice.gets_error(request, 7001, "not today")
    if error.data != '{"ask": "tomorrow"}':
        raise Unmet('the data \'{"ask": "tomorrow"}\'', repr(error.data))


@case(
    "5.2",
    "A handler raises an RpcError whose message and data are not ASCII",
    sees="an error packet with exactly these",
    rule="R18",
    why="People get garbled messages, or none.",
    methods=FAIL,
)
async def an_error_in_other_scripts(scene: Scene) -> None:
    alice = await scene.join("alice")
    message, data = "heute nicht: 今日はだめ", "☀ \u0000 \ufeff"
    request = alice.request("conform.fail", failing(2, message, data))
    error = await alice.gets_error(request, 2, message)
    if error.data != data:
        raise Unmet(f"the data {data!r}", repr(error.data))


@case(
    "5.3",
    "A handler raises an RpcError with the largest code, 2^32 - 1",
    sees="an error packet with this code",
    rule="R18 A1",
    why="The caller gets another code, such as a negative one.",
    level=Level.SHOULD,
    methods=FAIL,
)
async def the_largest_code(scene: Scene) -> None:
    alice = await scene.join("alice")
    request = alice.request("conform.fail", failing(2**32 - 1, "large"))
    await alice.gets_error(request, 2**32 - 1, "large")


@case(
    "5.4",
    "A handler raises another exception",
    sees="error 1500",
    rule="R18 A2",
    why="The caller waits for its whole timeout.",
    methods=CRASH,
)
async def another_exception_is_1500(scene: Scene) -> None:
    alice = await scene.join("alice")
    await alice.gets_error(alice.request("conform.crash", "boom"), 1500)


@case(
    "5.5",
    "A handler raises an exception whose text holds a secret",
    sees="no part of the text in the error",
    rule="R18",
    why="Texts of exceptions contain paths, queries and passwords: every caller could read them.",
    methods=CRASH,
)
async def no_text_of_an_exception(scene: Scene) -> None:
    alice = await scene.join("alice")
    secret = "hunter2-SECRET"
    error = await alice.gets_error(alice.request("conform.crash", secret))
    if secret in error.message or secret in error.data:
        raise Unmet("an error without the text of the exception", describe(error))


@case(
    "5.6",
    "A handler raises another exception",
    sees="the standard message of 1500",
    rule="R18 A2",
    why="People see a message that depends on the SDK.",
    level=Level.SHOULD,
    methods=CRASH,
)
async def standard_message_of_1500(scene: Scene) -> None:
    alice = await scene.join("alice")
    await alice.gets_error(alice.request("conform.crash", "boom"), 1500, APPLICATION_ERROR)


@case(
    "5.7",
    "A request for a method that is not registered arrives",
    sees="error 1400 with its standard message",
    rule="R15 A2",
    why="The caller cannot tell an unknown method from a peer that is gone.",
    methods=(),
)
async def unknown_method(scene: Scene) -> None:
    alice = await scene.join("alice")
    await alice.gets_error(alice.request("no such method"), 1400, UNSUPPORTED_METHOD)


@case(
    "5.8",
    "Requests for an empty method and for one of 65 bytes arrive",
    sees="error 1400 for each",
    rule="R15",
    why="The caller waits for its whole timeout.",
    level=Level.SHOULD,
    methods=(),
)
async def methods_that_cannot_be(scene: Scene) -> None:
    alice = await scene.join("alice")
    for method in ("", "m" * 65, "ä" * 33):
        await alice.gets_error(alice.request(method), 1400)


@case(
    "5.9",
    "A request packet of version 2 arrives",
    sees="error 1404",
    rule="R15",
    why="A newer caller does not learn that it has to use an older version.",
    protocols=(0,),
)
async def unknown_version(scene: Scene) -> None:
    alice = await scene.join("alice")
    for version in (2, 99):
        request = Request(new_id(), "conform.echo", "x", TIMEOUT_MS, version)
        alice.send(request)
        await alice.gets_error(request.request_id, 1404)


@case(
    "5.10",
    "A request packet of version 0 arrives, as an old Android build sends it",
    sees="error 1404",
    rule="R15 C",
    why="The handler runs for a caller that may speak another version.",
    level=Level.SHOULD,
    protocols=(0,),
)
async def version_0(scene: Scene) -> None:
    alice = await scene.join("alice")
    request = Request(new_id(), "conform.echo", "x", TIMEOUT_MS, 0)
    alice.send(request)
    await alice.gets_error(request.request_id, 1404)


@case(
    "5.11",
    'Request streams arrive whose version is "1", "3", empty or absent',
    sees="error 1404 for each",
    rule="R15",
    why="A newer caller does not learn that it has to use an older version.",
    level=Level.SHOULD,
    protocols=(1, 2),
    reads=1,
)
async def unknown_version_of_a_stream(scene: Scene) -> None:
    alice = await scene.join("alice")
    for version in ("1", "3", "", None):
        request = new_id()
        attributes = dict(wire.request_attributes(request, "conform.echo", TIMEOUT_MS))
        del attributes[wire.VERSION]
        if version is not None:
            attributes[wire.VERSION] = version
        alice.send(*stream_parts(wire.REQUEST_TOPIC, attributes, b"x", Form.CHUNKS))
        await alice.gets_error(request, 1404)


@case(
    "5.12",
    "A handler raises an RpcError with a message of 256 bytes and data of 15,000 bytes",
    sees="both whole",
    rule="R18 A2",
    why="The caller gets less than the handler sent.",
    methods=FAIL,
)
async def the_longest_error(scene: Scene) -> None:
    alice = await scene.join("alice")
    message, data = "m" * MAX_ERROR_MESSAGE_BYTES, "d" * 15_000
    request = alice.request("conform.fail", failing(7, message, data))
    error = await alice.gets_error(request, 7, message)
    if error.data != data:
        raise Unmet("data of 15,000 bytes", f"data of {len(error.data.encode()):,} bytes")


@case(
    "5.13",
    "Handlers raise an RpcError with a message of 300 bytes, in ASCII and not",
    sees="the message cut to at most 256 bytes, between two characters",
    rule="R18",
    why="If it is cut inside a character, the caller cannot read the packet, and waits for its "
    "timeout.",
    level=Level.SHOULD,
    methods=FAIL,
)
async def a_long_message(scene: Scene) -> None:
    alice = await scene.join("alice")
    for message in ("m" * 300, "x" + "€" * 100):
        request = alice.request("conform.fail", failing(7, message))
        error = await alice.gets_error(request, 7)
        length = len(error.message.encode())
        is_cut = message.startswith(error.message) and 253 <= length <= MAX_ERROR_MESSAGE_BYTES
        if not is_cut:
            raise Unmet("its first 253 to 256 bytes", f"{length} bytes: {quoted(error.message)}")


@case(
    "5.14",
    "A handler raises an RpcError with data of 16,000 bytes, by a request that fits",
    sees="the data cut to at most 15,360 bytes, between two characters",
    rule="R18",
    why="Peers that keep to the limit drop the error, and wait for their timeout.",
    level=Level.SHOULD,
    methods=FAIL,
    protocols=(1, 2),
    reads=1,
)
async def long_data(scene: Scene) -> None:
    alice = await scene.join("alice")
    data = "x" + "€" * 5_400
    error = await alice.gets_error(alice.request("conform.fail", failing(7, "m", data)), 7)
    length = len(error.data.encode())
    if not (data.startswith(error.data) and 15_357 <= length <= MAX_ERROR_DATA_BYTES):
        raise Unmet("its first 15,357 to 15,360 bytes", f"{length:,} bytes")


# what a caller makes of it


@case(
    "5.15",
    "A call of the testee is refused with a code, a message and data",
    sees="the application gets exactly these",
    rule="R6 R18",
    why="Applications decide by the code and the data what to do, and would do the wrong thing.",
    methods=CALL,
)
async def an_error_arrives(scene: Scene) -> None:
    alice = await scene.join("alice")
    for code, message, data in (
        (7001, "not today", "{}"),
        (1400, UNSUPPORTED_METHOD, ""),
        (2, "ä☀", "€"),
    ):
        call, request = await scene.called(alice)
        alice.ack(request)
        alice.refuse(request, code, message, data)
        outcome = await call.fails(code)
        if (outcome.get("message"), outcome.get("data") or "") != (message, data):
            raise Unmet(f"the message {message!r} and the data {data!r}", str(outcome))


@case(
    "5.16",
    "A call of the testee is refused with 1400 and an empty message, as the ESP32 firmware does",
    sees="the application gets 1400, with the standard message",
    rule="R18 C",
    why="People see an error without a message.",
    level=Level.SHOULD,
    methods=CALL,
)
async def an_error_without_a_message(scene: Scene) -> None:
    alice = await scene.join("alice")
    call, request = await scene.called(alice)
    alice.ack(request)
    alice.refuse(request, 1400)
    outcome = await call.fails(1400)
    if outcome.get("message") != UNSUPPORTED_METHOD:
        raise Unmet(f"the message {UNSUPPORTED_METHOD!r}", repr(outcome.get("message")))


@case(
    "5.17",
    "A call of the testee is refused with an unknown code of the protocol's range, 1999",
    sees="the application gets 1999",
    rule="R18",
    why="Newer peers send newer codes: their errors would be lost or mistaken for others.",
    methods=CALL,
)
async def a_code_of_tomorrow(scene: Scene) -> None:
    alice = await scene.join("alice")
    call, request = await scene.called(alice)
    alice.ack(request)
    alice.refuse(request, 1999, "of tomorrow")
    await call.fails(1999)


@case(
    "5.18",
    "The testee is asked to call a method of 65 bytes",
    sees="an exception or 1500, and nothing on the wire",
    rule="R12",
    why="The call fails after a round trip, and other SDKs may cut the name.",
    level=Level.SHOULD,
    methods=CALL,
)
async def a_method_too_long_is_not_sent(scene: Scene) -> None:
    alice = await scene.join("alice")
    call = await scene.call(alice, "m" * 65)
    outcome = await call.outcome()
    if "raised" not in outcome and outcome.get("code") != 1500:
        raise Unmet("an exception, or 1500", said(outcome))
    await scene.nothing_more()


@case(
    "5.19",
    "The testee is asked to call itself",
    sees="error 1401, or an exception, and no waiting",
    rule="R12 A7",
    why="The server sends nothing back to its sender: the application waits 7 s for 1501.",
    level=Level.SHOULD,
    methods=CALL,
)
async def a_call_to_itself(scene: Scene) -> None:
    call = await scene.call(scene.testee.identity)
    outcome = await call.outcome()
    if "raised" not in outcome and outcome.get("code") not in (1401, 1500):
        raise Unmet("1401, or an exception", said(outcome))
