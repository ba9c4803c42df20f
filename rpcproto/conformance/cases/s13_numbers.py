"""13: encryption, and the numbers of packets."""

from rpcproto.conformance.case import Level, case
from rpcproto.conformance.scene import Scene
from rpcproto.conformance.writing import new_id
from rpcproto.wire import Request


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
