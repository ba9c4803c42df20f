"""2: acks."""

from rpcproto.conformance.case import Level, Unmet, case
from rpcproto.conformance.reading import Form, describe
from rpcproto.conformance.scene import Scene
from rpcproto.conformance.writing import TIMEOUT_MS, new_id, request_parts, waiting
from rpcproto.wire import Ack, Request

WAIT = ("conform.wait",)


@case(
    "2.1",
    "A request arrives",
    sees="an ack before anything else about it",
    rule="R14",
    why="A native SDK waits for the ack before it looks at a response that is already there.",
)
async def ack_comes_first(scene: Scene) -> None:
    alice = await scene.join("alice")
    request = alice.request("conform.echo", "hello")
    await alice.gets_ack(request)
    await alice.gets_answer(request, "hello")


@case(
    "2.2",
    "A request arrives whose handler takes 3 s",
    sees="the ack at once, not with the answer",
    rule="R14 A3",
    why="The caller gives up with 1501 when its ack window is over, after 2 s in older SDKs.",
    methods=WAIT,
    seconds=3,
)
async def ack_does_not_wait_for_the_handler(scene: Scene) -> None:
    alice = await scene.join("alice")
    request = alice.request("conform.wait", waiting(3))
    ack = await alice.gets_ack(request)
    await alice.gets_outcome(request, within=3)
    answer = (await alice.gets_answer(request, "done")).parts[0]
    if answer.at - ack.at < 1.5:
        raise Unmet("an ack 3 s before the answer", f"one {answer.at - ack.at:.1f} s before it")


@case(
    "2.3",
    "A request for a method that is not registered arrives",
    sees="an ack, then the error",
    rule="R14 R15",
    why="Without the ack, a caller that waits for it reports 1501 instead of 1400.",
    methods=(),
)
async def ack_before_a_refusal(scene: Scene) -> None:
    alice = await scene.join("alice")
    request = alice.request("no such method", "")
    await alice.gets_ack(request)
    await alice.gets_error(request, 1400)


@case(
    "2.4",
    "A request of an unknown version arrives",
    sees="an ack, then the error",
    rule="R14 R15",
    why="Without the ack, a caller that waits for it reports 1501 instead of 1404.",
    protocols=(0,),
)
async def ack_before_1404(scene: Scene) -> None:
    alice = await scene.join("alice")
    request = Request(new_id(), "conform.echo", "", TIMEOUT_MS, version=99)
    alice.send(request)
    await alice.gets_ack(request.request_id)
    await alice.gets_error(request.request_id, 1404)


@case(
    "2.5",
    "The header of a request stream arrives, and its body not yet",
    sees="the ack",
    rule="R14 A4",
    why="A large body takes longer than the ack window of its caller, who then ends with 1501.",
    protocols=(1, 2),
    reads=1,
)
async def ack_when_the_header_arrives(scene: Scene) -> None:
    alice = await scene.join("alice")
    request = new_id()
    parts = request_parts(request, "conform.echo", "in two steps", Form.CHUNKS)
    alice.send(parts[0])
    await alice.gets_ack(request)
    alice.send(*parts[1:])
    await alice.gets_answer(request, "in two steps")


@case(
    "2.6",
    "A request arrives as a stream",
    sees="an ack packet",
    rule="R14 A4",
    why="No SDK looks for an ack anywhere else: the call ends with 1501.",
    protocols=(1, 2),
    reads=1,
)
async def ack_of_a_stream_is_a_packet(scene: Scene) -> None:
    alice = await scene.join("alice")
    forms = (
        (Form.CHUNKS, Form.INLINE)
        if min(alice.reads, scene.testee.client_protocol) == 2
        else (Form.CHUNKS,)
    )
    for form in forms:
        request = alice.request("conform.echo", "hello", form=form)
        await alice.gets_ack(request)
        await alice.gets_answer(request, "hello")


@case(
    "2.7",
    "A request arrives",
    sees="one ack, and not more",
    rule="R14",
    why="Each call costs packets that nobody needs.",
    level=Level.SHOULD,
)
async def one_ack(scene: Scene) -> None:
    alice = await scene.join("alice")
    request = alice.request("conform.echo", "hello")
    await alice.gets_ack(request)
    await scene.settle()
    if alice.acks_of(request):
        raise Unmet("one ack", "another one")
    await alice.gets_answer(request, "hello")
    await scene.nothing_more()


@case(
    "2.8",
    "A request arrives",
    sees="an ack whose only destination is the caller",
    rule="R29",
    why="An ack to the whole room tells everybody who calls whom; some firmware sends it so.",
    level=Level.SHOULD,
)
async def ack_goes_to_the_caller_alone(scene: Scene) -> None:
    alice = await scene.join("alice")
    await scene.join("bob")
    request = alice.request("conform.echo", "hello")
    seen = await alice.gets_ack(request)
    names = list(seen.packet.destination_identities)
    if names != [alice.identity]:
        raise Unmet(f"the destination {[alice.identity]}", str(names))


@case(
    "2.9",
    "Two participants use the same request id at once",
    sees="each gets its own ack and its own answer",
    rule="R16",
    why="Ids are chosen by callers: one could silence another by using its ids first.",
)
async def ids_belong_to_their_callers(scene: Scene) -> None:
    alice, bob = await scene.join("alice"), await scene.join("bob")
    request = alice.request("conform.echo", "from alice")
    bob.request("conform.echo", "from bob", request_id=request)
    await alice.gets_ack(request)
    await bob.gets_ack(request)
    await alice.gets_answer(request, "from alice")
    await bob.gets_answer(request, "from bob")
    await scene.nothing_more()


@case(
    "2.10",
    "A caller acknowledges the answer to its request, which nobody should",
    sees="no harm: the next request is answered",
    rule="R32",
    why="One stray packet would stop the service for everybody.",
)
async def an_ack_for_no_call(scene: Scene) -> None:
    alice = await scene.join("alice")
    request = alice.request("conform.echo", "first")
    await alice.gets_answer(request, "first")
    alice.send(Ack(request), Ack(new_id()))
    await scene.nothing_more()
    await alice.gets_answer(alice.request("conform.echo", "second"), "second")


@case(
    "2.11",
    "A call of the testee is acknowledged twice, then answered",
    sees="the call succeeds",
    rule="R4 R32",
    why="After a resumed connection an ack can arrive twice: the call would be lost.",
    methods=("conform.call",),
)
async def a_second_ack_is_ignored(scene: Scene) -> None:
    alice = await scene.join("alice")
    call = await scene.call(alice)
    request = await alice.gets_request()
    alice.ack(request)
    alice.ack(request)
    await call.is_still_pending()
    alice.answer(request, "fine")
    await call.succeeds("fine")
    for participant in (alice,):
        for seen in participant.inbox:
            raise Unmet("nothing more", describe(seen.message))
