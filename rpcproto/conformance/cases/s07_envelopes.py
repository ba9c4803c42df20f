"""7: what the envelope of a packet says of its sender and its destinations."""

from rpcproto import wire
from rpcproto.conformance.case import Level, case
from rpcproto.conformance.scene import Scene
from rpcproto.conformance.writing import new_id


@case(
    "7.22",
    "A request arrives with 2,000 destinations, of which the testee is the last",
    sees="INFO: whether it is answered",
    rule="R39",
    why="A list that is looked through to its end costs time for each name in it.",
    level=Level.INFO,
)
async def many_destinations(scene: Scene) -> str:
    alice = await scene.join("alice")
    request, me = new_id(), scene.testee.identity
    message = wire.Request(request, "conform.echo", "hello", 8_000)
    envelope = [wire.encode(message, "", name) for name in (*map(str, range(1_999)), me)]
    tail = wire.encode(message, "", "")[2:]
    packet = b"".join(one.removesuffix(tail) for one in envelope) + tail
    alice.send_bytes(
        wire.stamp(packet, sender_identity=alice.identity, sender_sid=alice.member.sid)
    )
    await scene.settle()
    is_answered = "is answered" if alice.has_outcome(request) else "is ignored"
    return f"a request to 2,000 destinations, of which it is the last, {is_answered}"


@case(
    "7.23",
    "A request names another sender first, and the true one after it, where the server adds it",
    sees="the answer at the true sender, and nothing at the other one",
    rule="R24",
    why="Whoever takes the first of two can be told by anybody that they are somebody else.",
)
async def two_senders(scene: Scene) -> None:
    alice, mallory = await scene.join("alice"), await scene.join("mallory")
    request = new_id()
    message = wire.Request(request, "conform.echo", "hello", 8_000)
    packet = wire.stamp(
        wire.encode(message, "", scene.testee.identity),
        sender_identity=mallory.identity,
        sender_sid=mallory.member.sid,
    )
    claimed = alice.identity.encode()
    mallory.send_bytes(b"\x22" + bytes([len(claimed)]) + claimed + packet)
    await mallory.gets_answer(request, "hello")
    await scene.nothing_more()
