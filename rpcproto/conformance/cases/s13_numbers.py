"""13: encryption, and the numbers of packets."""

from rpcproto.conformance.case import Level, case
from rpcproto.conformance.cases.s13_encryption import echo, seal
from rpcproto.conformance.scene import Scene
from rpcproto.conformance.writing import new_id
from rpcproto.wire import Request


@case(
    "13.22",
    "The same encrypted packet arrives again under another sequence number",
    sees="the handler runs once",
    rule="R16",
    why="Whoever operates the server could repeat requests: what was asked for happens twice.",
    level=Level.SHOULD,
    methods=("conform.count", "conform.echo"),
)
async def replayed_packet(scene: Scene) -> None:
    alice = await scene.join("alice")
    request = echo(f"once {new_id()}")
    sealed = seal(alice, request)
    alice.send(sealed, sequence=1)
    await alice.gets_answer(request.request_id, request.payload)
    alice.send(sealed, sequence=2)
    await scene.settle()
    alice.forget(request.request_id)
    await scene.has_run_once(alice, request.payload)


@case(
    "13.25",
    "A packet that cannot be opened arrives, and then another one with its sequence number",
    sees="INFO: whether the second one is answered",
    rule="R37 R44",
    why="A room drops a number that came before; elsewhere garbage could use up numbers.",
    level=Level.INFO,
)
async def garbage_uses_up_no_number(scene: Scene) -> str:
    alice = await scene.join("alice")
    assert alice.cryptor is not None
    sealed = alice.cryptor.seal(b"\x22\x02\x0a\x00")
    alice.send(sealed._replace(ciphertext=bytes(len(sealed.ciphertext))), sequence=5)
    request = Request(new_id(), "conform.echo", "genuine", 8_000)
    alice.send(request, sequence=5)
    await scene.settle()
    is_answered = "is answered" if alice.has_outcome(request.request_id) else "is ignored"
    return f"a packet with the number of one that could not be opened {is_answered}"
