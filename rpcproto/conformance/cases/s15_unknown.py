"""15: what is unknown."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from rpcproto import wire
from rpcproto.conformance.case import Level, case
from rpcproto.conformance.participant import Participant
from rpcproto.conformance.scene import Scene
from rpcproto.conformance.writing import TIMEOUT_MS, new_id, request_stream
from rpcproto.core.packets_pb2 import DataPacket
from rpcproto.wire import Request

STREAMS: Final = (1, 2)
UNKNOWN_FIELD: Final = b"\xfa\x3f\x04new!"
"""A field of the number 1023, of 4 bytes."""
UNKNOWN_NUMBERS: Final = b"\xf8\x3f\x01" + b"\xfd\x3fnews" + b"\xf9\x3fnew here"
"""Such fields as a varint, of 4 bytes and of 8."""
GROUP_BEGINS: Final = b"\xfb\x3f"
GROUP_ENDS: Final = b"\xfc\x3f"
"""Of a group of the number 1023."""


def field(number: int, content: bytes) -> bytes:
    """A field of protobuf with this content, which is shorter than 16 KiB."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(number: int) -> bytes:
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def stamped(scene: Scene, sender: Participant, value: bytes) -> bytes:
    """A packet to the testee whose value field is given as bytes, which need not be valid."""
    to, identity = scene.testee.identity.encode(), sender.identity.encode()
    return field(4, identity) + field(5, to) + value + field(17, sender.member.sid.encode())


# packets that mean nothing


class Nonsense(NamedTuple):
    """A packet without a meaning for RPC: nothing may come of it."""

    number: str
    what: str
    packets: Callable[[Scene, Participant], Sequence[bytes]]
    why: str


NEWER: Final = "Newer peers send such packets: the first one that joins would stop all older ones."
BROKEN: Final = "Any participant could crash or silence all others."
NONSENSE: Final = (
    Nonsense("15.1", "Packets that are not protobuf arrive",
             lambda scene, who: [b"\xff" * 64, b"\x5a\x7fcut", b"\x00"], BROKEN),
    Nonsense("15.2", "A packet with a value of an unknown kind arrives",
             lambda scene, who: [stamped(scene, who, UNKNOWN_FIELD)], NEWER),
    Nonsense("15.3", "A packet without a value arrives",
             lambda scene, who: [stamped(scene, who, b"")], NEWER),
    Nonsense("15.4", "Packets of other kinds arrive: data, speakers, transcriptions, metrics, chat",
             lambda scene, who: [
                 stamped(scene, who, field(number, content))
                 for number, content in (
                     (2, field(2, b"data")),
                     (3, b""),
                     (6, b""),
                     (7, field(2, who.identity.encode()) + field(3, b"TR_track")),
                     (8, b""),
                     (9, field(1, b"an id")),
                 )
             ], "A room carries much besides RPC: the first chat message would stop the "
                "participant."),
    Nonsense("15.5", "An encrypted packet arrives although nothing is encrypted here",
             lambda scene, who: [
                 stamped(scene, who, field(18, b"\x08\x01" + field(2, b"i" * 12) +
                                           field(4, b"c" * 80)))
             ], "A participant that encrypts by mistake would stop all others."),
    Nonsense("15.6", "A request, an ack and a response arrive whose texts are not UTF-8",
             lambda scene, who: [
                 stamped(scene, who, field(10, field(1, new_id().encode()) +
                                           field(2, b"conform.echo") + field(3, b"\xff\xfe") +
                                           b"\x20\xc0\x3e\x28\x01")),
                 stamped(scene, who, field(11, field(1, b"\xff" * 36))),
                 stamped(scene, who, field(12, field(1, b"\xff" * 36) + field(2, b"x"))),
             ], "One SDK truncates error texts inside a character: its errors would stop their "
                "receivers."),
    Nonsense("15.26", "Packets arrive with unknown groups nested 20,000 deep",
             lambda scene, who: [
                 stamped(scene, who, GROUP_BEGINS * 20_000 + GROUP_ENDS * 20_000),
                 stamped(scene, who, GROUP_BEGINS * 20_000),
             ], "A reader that recurses without a limit crashes: one packet ends the program."),
    Nonsense("15.27", "A transcription arrives that names no track",
             lambda scene, who: [stamped(scene, who, field(7, field(2, who.identity.encode())))],
             "One packet to the whole room would crash every participant; native SDKs of LiveKit "
             "do."),
)  # fmt: skip


def _register_nonsense(row: Nonsense) -> None:
    @case(row.number, row.what, sees="the next request is answered", rule="R32 R34", why=row.why)
    async def play(scene: Scene) -> None:
        alice = await scene.join("alice")
        for data in row.packets(scene, alice):
            alice.send_bytes(data)
        await alice.gets_answer(alice.request("conform.echo", "next"), "next")


for _row in NONSENSE:
    _register_nonsense(_row)


# what is known, with something unknown in it


@case(
    "15.7",
    "A request packet arrives with unknown fields in the packet and in the request",
    sees="the answer",
    rule="R34",
    why="Newer peers send fields that older ones do not know: none of their calls would succeed.",
)
async def unknown_fields_in_a_packet(scene: Scene) -> None:
    alice = await scene.join("alice")
    for unknown in (UNKNOWN_FIELD, UNKNOWN_NUMBERS):
        request = new_id()
        fields = field(1, request.encode()) + field(2, b"conform.echo") + field(3, b"hello")
        value = field(10, unknown + fields + b"\x20\xc0\x3e\x28\x01" + unknown)
        alice.send_bytes(stamped(scene, alice, unknown + value + unknown))
        await alice.gets_answer(request, "hello")


@case(
    "15.8",
    "A request stream arrives with unknown fields and attributes in each of its packets",
    sees="the answer",
    rule="R34",
    why="Newer peers send fields that older ones do not know: none of their calls would succeed.",
    protocols=STREAMS,
    reads=1,
)
async def unknown_fields_in_a_stream(scene: Scene) -> None:
    def change(packet: DataPacket) -> None:
        packet.MergeFromString(
            field(13, UNKNOWN_FIELD)
            if packet.HasField("stream_header")
            else field(14, UNKNOWN_FIELD)
            if packet.HasField("stream_chunk")
            else field(15, UNKNOWN_FIELD)
        )

    alice = await scene.join("alice")
    stream = request_stream([b"hel", b"lo"])
    attributes = {**stream.header.attributes, "lk.rpc_request_priority": "high", "mine": ""}
    alice.send(stream.header._replace(attributes=attributes), change=change)
    alice.send(*stream.chunks, stream.trailer, change=change)
    await alice.gets_answer(stream.request_id, "hello")


@case(
    "15.9",
    "A request stream arrives whose header has another operation, versions and a reply",
    sees="the answer",
    rule="R27",
    why="These fields belong to chat: a sender that fills them would get no answer.",
    level=Level.SHOULD,
    protocols=STREAMS,
    reads=1,
)
async def fields_that_do_not_count(scene: Scene) -> None:
    def change(packet: DataPacket) -> None:
        header = packet.stream_header
        header.ClearField("timestamp")
        header.mime_type = "application/json"
        header.text_header.version = 7
        header.text_header.reply_to_stream_id = "another stream"
        header.text_header.attached_stream_ids.append("one more")

    alice = await scene.join("alice")
    stream = request_stream([b"hello"])
    alice.send(stream.header, change=change)
    alice.send(*stream.parts[1:])
    await alice.gets_answer(stream.request_id, "hello")


@case(
    "15.10",
    "A request has an id in upper case, and one that is no UUID at all",
    sees="acks and answers with exactly these ids",
    rule="R13 R28 C",
    why="One SDK sends ids in upper case and compares them exactly: its calls would time out.",
)
async def ids_are_kept_as_they_came(scene: Scene) -> None:
    alice = await scene.join("alice")
    for request_id in (new_id().upper(), f"call #1 of {new_id()[:8]} Ä"):
        alice.request("conform.echo", "hello", request_id=request_id)
        await alice.gets_ack(request_id)
        await alice.gets_answer(request_id, "hello")


@case(
    "15.11",
    "A request for the whole room arrives: it has no destination",
    sees="the answer",
    rule="R39 C",
    why="The ESP32 firmware names no destination in some packets: its calls would time out.",
)
async def request_without_destination(scene: Scene) -> None:
    alice = await scene.join("alice")
    request = Request(new_id(), "conform.echo", "hello", TIMEOUT_MS)
    alice.send(request, destination="")
    await alice.gets_answer(request.request_id, "hello")


@case(
    "15.12",
    "A request arrives with several destinations, the testee among them",
    sees="the answer",
    rule="R39",
    why="A server delivers the packet to each of them: its sender would get no answer.",
    level=Level.SHOULD,
)
async def several_destinations(scene: Scene) -> None:
    def change(packet: DataPacket) -> None:
        packet.destination_identities.insert(0, "somebody")
        packet.destination_identities.append("somebody else")

    alice = await scene.join("alice")
    request = Request(new_id(), "conform.echo", "hello", TIMEOUT_MS)
    alice.send(request, change=change)
    await alice.gets_answer(request.request_id, "hello")


@case(
    "15.13",
    "A request arrives as a packet of the kind LOSSY",
    sees="the answer",
    rule="A1 R34",
    why="The field is deprecated: a sender that still sets it would get no answer.",
    level=Level.SHOULD,
)
async def kind_does_not_count(scene: Scene) -> None:
    def change(packet: DataPacket) -> None:
        packet.MergeFromString(b"\x08\x01")

    alice = await scene.join("alice")
    request = Request(new_id(), "conform.echo", "hello", TIMEOUT_MS)
    alice.send(request, change=change)
    await alice.gets_answer(request.request_id, "hello")


@case(
    "15.14",
    "A request packet arrives without a timeout",
    sees="the answer",
    rule="R20 A1",
    why="The caller would get an error, or no answer, for a field that is optional.",
    level=Level.SHOULD,
)
async def no_timeout_in_a_packet(scene: Scene) -> None:
    alice = await scene.join("alice")
    request = Request(new_id(), "conform.echo", "hello", 0)
    alice.send(request)
    await alice.gets_answer(request.request_id, "hello")


@case(
    "15.15",
    "A request stream arrives without a timeout, and one with a timeout of 2^63 ms",
    sees="the answers",
    rule="R27",
    why="Native clients count an absent timeout as 15 s: a caller that leaves it out would get no "
    "answer.",
    level=Level.SHOULD,
    protocols=STREAMS,
    reads=1,
)
async def odd_timeouts_in_a_header(scene: Scene) -> None:
    alice = await scene.join("alice")
    for timeout in ("", str(2**63)):
        stream = request_stream([b"hello"])
        attributes = {**stream.header.attributes, wire.RESPONSE_TIMEOUT_MS: timeout}
        if not timeout:
            del attributes[wire.RESPONSE_TIMEOUT_MS]
        alice.send(stream.header._replace(attributes=attributes), *stream.parts[1:])
        await alice.gets_answer(stream.request_id, "hello")
