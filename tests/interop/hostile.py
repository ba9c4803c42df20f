"""What a room may do to calls: forged answers, repeated packets, acks that do not come."""

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from livekit.protocol.models import DataPacket, DataStream, RpcError, RpcResponse

from interop.cases import Act, noise
from rpcproto.conformance.room_server import RoomServer
from rpcproto.conformance.routing import Interference, Passing, Room, repeating

RIGHT: Final = "right"
FORGED: Final = "forged"
REQUEST_ID: Final = "lk.rpc_request_id"


class HostileCase(NamedTuple):
    """`play` says in a word or two what came of it; `decided_by` whose doing that is."""

    play: Callable[[Act, Room, RoomServer], Awaitable[str]]
    decided_by: tuple[str, ...]


def request_id(passing: Passing) -> str:
    """The id, where the packet is a request or begins one; else empty."""
    if passing.kind == "rpc_request":
        return passing.packet.rpc_request.id
    header = passing.packet.stream_header
    return header.attributes[REQUEST_ID] if header.topic == "lk.rpc_request" else ""


def forging(room: Room, *answers: Callable[[str], DataPacket]) -> Interference:
    """An interference: before a request arrives, a third participant has answered it."""

    def forge(passing: Passing) -> list[Passing]:
        number = request_id(passing)
        if not number:
            return [passing]
        forged = []
        for answer in answers:
            packet = answer(number)
            packet.participant_identity = "mallory"
            packet.participant_sid = room.members["mallory"].info.sid
            packet.destination_identities.append(passing.sender)
            forged.append(Passing("mallory", passing.sender, packet))
        return [*forged, passing]

    return forge


def forged_payload(number: str) -> DataPacket:
    return DataPacket(rpc_response=RpcResponse(request_id=number, payload=FORGED))


def forged_error(number: str) -> DataPacket:
    return DataPacket(
        rpc_response=RpcResponse(request_id=number, error=RpcError(code=6666, message=FORGED))
    )


def forged_stream(number: str) -> DataPacket:
    return DataPacket(
        stream_header=DataStream.Header(
            stream_id="forged",
            topic="lk.rpc_response",
            mime_type="text/plain",
            attributes={REQUEST_ID: number},
            total_length=len(FORGED),
            text_header=DataStream.TextHeader(),
            inline_content=FORGED.encode(),
        )
    )


async def echoed(act: Act, payload: str, timeout: float = 10) -> str:
    """What came of a call of `echo`."""
    outcome = await act.call("echo", payload, timeout)
    if FORGED in (outcome.get("payload"), outcome.get("message")):
        return "takes the forged one"
    if "payload" not in outcome:
        return f"{outcome['code']} after {outcome['seconds']:.0f} s"
    return RIGHT if outcome["payload"] == payload else "wrong"


async def counted(act: Act, name: str) -> str:
    """Whether two calls start two handlers."""
    outcomes = [await act.call("count", name) for _ in range(2)]
    answers = [str(outcome.get("payload", outcome.get("code"))) for outcome in outcomes]
    if answers == ["1", "2"]:
        return RIGHT
    return "a handler runs twice" if answers[-1] == "3" else f"answers: {', '.join(answers)}"


def forged(answer: Callable[[str], DataPacket]) -> HostileCase:
    async def play(act: Act, room: Room, _: RoomServer) -> str:
        with room.interfering(forging(room, answer)):
            return await echoed(act, "the true one")

    return HostileCase(play, ("caller",))


def repeated(*, sequenced: bool) -> HostileCase:
    async def play(act: Act, room: Room, _: RoomServer) -> str:
        with room.interfering(repeating(sequenced=sequenced)):
            return await counted(act, f"twice {sequenced}")

    return HostileCase(play, ("responder",))


def repeated_at_length(*, sequenced: bool) -> HostileCase:
    async def play(act: Act, room: Room, _: RoomServer) -> str:
        with room.interfering(repeating(sequenced=sequenced)):
            return await echoed(act, noise(15_000 if act.is_v1 else 100_000))

    return HostileCase(play, ("caller", "responder"))


async def late_acks(act: Act, room: Room, _: RoomServer) -> str:
    """The ack comes when the call is over; the next call is none the worse for it."""
    with room.holding(lambda passing: passing.kind == "rpc_ack") as held:
        first = await echoed(act, "first")
        held.release()
    return first if first != RIGHT else await echoed(act, "second")


async def replayed(act: Act, room: Room, server: RoomServer) -> str:
    """The responder is sent away to join anew, and then gets again all that it got before."""
    await act.call("count", "replayed")
    identity = act.responder.identity
    before = room.members[identity].info.sid
    room.replay_on_join = True
    server.send_away(room, identity)
    await room.wait_until(lambda: room.is_ready(identity) and room.sid_of(identity) != before)
    room.replay_on_join = False
    await act.meet()
    await act.reach()
    outcome = await act.call("count", "replayed")
    count = str(outcome.get("payload", outcome.get("code")))
    return {"2": RIGHT, "3": "a handler runs twice"}.get(count, count)


HOSTILE_CASES: Final = {
    "a third participant answers first": forged(forged_payload),
    "a third participant refuses first": forged(forged_error),
    "a third participant answers first, with a stream": forged(forged_stream),
    "every packet comes twice": repeated(sequenced=True),
    "every packet comes twice, of large payloads": repeated_at_length(sequenced=True),
    "every packet comes twice, unnumbered": repeated(sequenced=False),
    "every packet comes twice, unnumbered, of large payloads": repeated_at_length(sequenced=False),
    "acks come after the answer": HostileCase(late_acks, ("caller",)),
    "what was sent before a re-join comes again": HostileCase(replayed, ("responder",)),
}
