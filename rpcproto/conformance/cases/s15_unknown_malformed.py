"""15: what is unknown or malformed."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from rpcproto import wire
from rpcproto.conformance.case import Level, Unmet, case
from rpcproto.conformance.participant import Participant
from rpcproto.conformance.reading import Form
from rpcproto.conformance.scene import Scene
from rpcproto.conformance.writing import TIMEOUT_MS, new_id, request_stream, stream_of
from rpcproto.core.packets_pb2 import DataPacket
from rpcproto.wire import ErrorResponse, Request, Response

CALL = ("conform.call",)
STREAMS: Final = (1, 2)
UNKNOWN_FIELD: Final = b"\xfa\x3f\x04new!"
"""A field of the number 1023, of 4 bytes."""
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


NEWER: Final = "Peers of a newer generation send what older ones do not know."
BROKEN: Final = "Anybody in the room could end or silence everybody else."
NONSENSE: Final = (
    Nonsense("15.1", "Packets that are not protobuf arrive",
             lambda scene, who: [b"\xff" * 64, b"\x5a\x7fcut", b"\x00"], BROKEN),
    Nonsense("15.2", "A packet whose value nobody knows arrives",
             lambda scene, who: [stamped(scene, who, UNKNOWN_FIELD)], NEWER),
    Nonsense("15.3", "A packet without a value arrives",
             lambda scene, who: [stamped(scene, who, b"")], NEWER),
    Nonsense("15.4", "Packets arrive that are no concern of RPC: data, speakers, metrics, chat",
             lambda scene, who: [
                 stamped(scene, who, field(number, content))
                 for number, content in (
                     (2, field(2, b"data")),
                     (3, b""),
                     (6, b""),
                     (7, field(2, who.identity.encode())),
                     (8, b""),
                     (9, field(1, b"an id")),
                 )
             ], "A room carries much besides RPC."),
    Nonsense("15.5", "An encrypted packet arrives although nothing is encrypted here",
             lambda scene, who: [
                 stamped(scene, who, field(18, b"\x08\x01" + field(2, b"i" * 12) +
                                           field(4, b"c" * 80)))
             ], "A participant that has encryption switched on by mistake harms itself alone."),
    Nonsense("15.6", "A request, an ack and a response arrive whose texts are not UTF-8",
             lambda scene, who: [
                 stamped(scene, who, field(10, field(1, new_id().encode()) +
                                           field(2, b"conform.echo") + field(3, b"\xff\xfe") +
                                           b"\x20\xc0\x3e\x28\x01")),
                 stamped(scene, who, field(11, field(1, b"\xff" * 36))),
                 stamped(scene, who, field(12, field(1, b"\xff" * 36) + field(2, b"x"))),
             ], "One SDK cuts the texts of errors within a character, so that they are not UTF-8."),
    Nonsense("15.26", "Packets arrive with unknown groups nested 20,000 deep",
             lambda scene, who: [
                 stamped(scene, who, GROUP_BEGINS * 20_000 + GROUP_ENDS * 20_000),
                 stamped(scene, who, GROUP_BEGINS * 20_000),
             ], "Readers that recurse without a bound end the program."),
)  # fmt: skip


def _register_nonsense(row: Nonsense) -> None:
    @case(
        row.number,
        row.what,
        sees="no harm: the next request is answered",
        rule="R32 R34",
        why=row.why,
    )
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
    why="Peers of a newer generation send fields that older ones do not know.",
)
async def unknown_fields_in_a_packet(scene: Scene) -> None:
    alice = await scene.join("alice")
    for unknown in (UNKNOWN_FIELD, GROUP_BEGINS + GROUP_ENDS):
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
    why="Peers of a newer generation send fields that older ones do not know.",
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
    why="They belong to chat and transcription; senders put into them what they like.",
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
    why="One SDK sends ids in upper case, and compares what comes back exactly.",
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
    why="Some firmware names nobody; the server delivers its packets to everybody.",
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
    why="A server delivers such a packet to each of them.",
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
    why="The field is deprecated, and says nothing of what is in the packet.",
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
    why="A number that is 0 is absent from the wire.",
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
    why="The native clients count an absent one as 15 s; a large one is a patient caller.",
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


# what is malformed


@case(
    "15.16",
    "Request streams arrive whose timeout is no number",
    sees="error 1500",
    rule="R27",
    why="The caller is told what is wrong with its request, in place of nothing until its timeout.",
    level=Level.SHOULD,
    protocols=STREAMS,
    reads=1,
)
async def timeout_is_no_number(scene: Scene) -> None:
    alice = await scene.join("alice")
    for timeout in ("soon", "-1", "1e3", "٣"):
        stream = request_stream([b"hello"])
        attributes = {**stream.header.attributes, wire.RESPONSE_TIMEOUT_MS: timeout}
        alice.send(stream.header._replace(attributes=attributes), *stream.parts[1:])
        await alice.gets_error(stream.request_id, 1500)


@case(
    "15.17",
    "A request arrives as a stream of bytes: its header has no text_header",
    sees="an error, or no answer",
    rule="R27",
    why="The payload of RPC is text; bytes on its topic are something else.",
    level=Level.SHOULD,
    protocols=STREAMS,
    reads=1,
)
async def a_stream_of_bytes(scene: Scene) -> None:
    alice = await scene.join("alice")
    stream = request_stream([b"hello"])
    alice.send(stream.header._replace(is_text=False), *stream.parts[1:])
    await scene.is_not_believed(alice, stream.request_id)


@case(
    "15.18",
    "Streams arrive on topics that are not those of RPC, with the attributes of a request",
    sees="nothing: no ack, and no answer",
    rule="R24",
    why="Streams of applications have topics of their own; a chat message must not run a handler.",
    protocols=STREAMS,
    reads=1,
)
async def other_topics(scene: Scene) -> None:
    alice = await scene.join("alice")
    for topic in ("lk.chat", "lk.rpc_request2", "LK.RPC_REQUEST", ""):
        attributes = wire.request_attributes(new_id(), "conform.echo", TIMEOUT_MS)
        alice.send(*stream_of(topic, attributes, [b"hello"]).parts)
    await scene.nothing_more()


@case(
    "15.19",
    "A request stream arrives without a request id",
    sees="nothing, and no harm",
    rule="R27 R28",
    why="Nothing could be answered that the caller would understand.",
    level=Level.SHOULD,
    protocols=STREAMS,
    reads=1,
)
async def a_stream_without_an_id(scene: Scene) -> None:
    alice = await scene.join("alice")
    stream = request_stream([b"hello"])
    attributes = dict(stream.header.attributes)
    del attributes[wire.REQUEST_ID]
    alice.send(stream.header._replace(attributes=attributes), *stream.parts[1:])
    await scene.nothing_more()
    await alice.gets_answer(alice.request("conform.echo", "next"), "next")


@case(
    "15.20",
    "A request packet, an ack and a response arrive without an id",
    sees="nothing, and no harm",
    rule="R28",
    why="Nothing could be answered that the caller would understand.",
    level=Level.SHOULD,
)
async def packets_without_an_id(scene: Scene) -> None:
    alice = await scene.join("alice")
    alice.send(Request("", "conform.echo", "hello", TIMEOUT_MS), wire.Ack(""), Response("", "x"))
    await scene.nothing_more()
    await alice.gets_answer(alice.request("conform.echo", "next"), "next")


@case(
    "15.21",
    "A request packet arrives whose payload is in compressed_payload",
    sees="an error, or no answer",
    rule="R34 A1",
    why="The handler would run with an empty payload that nobody sent.",
    level=Level.SHOULD,
)
async def compressed_payload_of_a_request(scene: Scene) -> None:
    def change(packet: DataPacket) -> None:
        packet.rpc_request.compressed_payload = b"\xcb\x48\xcd\xc9\xc9\x07\x00"

    alice = await scene.join("alice")
    request = Request(new_id(), "conform.echo", "", TIMEOUT_MS)
    alice.send(request, change=change)
    await scene.is_not_believed(alice, request.request_id)


@case(
    "15.22",
    "A call of the testee is answered with a compressed_payload",
    sees="a call that fails with 1500",
    rule="R34 A1",
    why="The application would get an empty answer that nobody gave.",
    level=Level.SHOULD,
    methods=CALL,
)
async def compressed_payload_of_an_answer(scene: Scene) -> None:
    def change(packet: DataPacket) -> None:
        packet.rpc_response.compressed_payload = b"\xcb\x48\xcd\xc9\xc9\x07\x00"

    alice = await scene.join("alice")
    call, request = await scene.called(alice)
    alice.ack(request)
    alice.send(Response(request.request_id, None), change=change)
    await call.fails(1500)


@case(
    "15.23",
    "Responses, errors and response streams arrive that nobody asked for",
    sees="nothing, and no harm",
    rule="R32",
    why="An answer can come after its caller has given up: that must break nothing.",
)
async def answers_to_nothing(scene: Scene) -> None:
    alice = await scene.join("alice")
    alice.send(Response(new_id(), "hello"), ErrorResponse(new_id(), 1500, "", ""))
    forms = (Form.CHUNKS, Form.INLINE, Form.COMPRESSED_INLINE)
    for form in forms if scene.testee.client_protocol else ():
        attributes = wire.response_attributes(new_id())
        stream = stream_of(wire.RESPONSE_TOPIC, attributes, [b"hello"])
        header = stream.header
        if form.is_inline:
            compression = wire.DEFLATE_RAW if form.is_compressed else wire.UNCOMPRESSED
            alice.send(header._replace(inline_content=b"hello", compression=compression))
        else:
            alice.send(*stream.parts)
    await scene.nothing_more()
    await alice.gets_answer(alice.request("conform.echo", "next"), "next")


@case(
    "15.24",
    "A call of the testee is refused with the codes 0, 1 and 2^32 - 1",
    sees="calls that fail at once",
    rule="R18 A1",
    why="A peer may send any code; the application must not wait for its timeout.",
    level=Level.SHOULD,
    methods=CALL,
)
async def odd_codes(scene: Scene) -> None:
    alice = await scene.join("alice")
    for code in (0, 1, 2**32 - 1):
        call, request = await scene.called(alice)
        alice.ack(request)
        alice.refuse(request, code, "odd")
        outcome = await call.outcome()
        if "payload" in outcome:
            raise Unmet(f"a call that fails when it is refused with {code}", str(outcome))


@case(
    "15.25",
    "Packets arrive whose sender is the testee itself",
    sees="nothing, and no harm",
    rule="R39 A7",
    why="A transport that echoes would let the testee answer itself.",
    level=Level.SHOULD,
    methods=("conform.count", "conform.echo"),
)
async def ones_own_packets(scene: Scene) -> None:
    alice = await scene.join("alice")
    payload = f"to myself {new_id()}"
    alice.send_bytes(
        wire.stamp(
            wire.encode(
                Request(new_id(), "conform.echo", payload, TIMEOUT_MS), "", scene.testee.identity
            ),
            sender_identity=scene.testee.identity,
        )
    )
    await scene.settle()
    if runs := await scene.runs_of(alice, payload):
        raise Unmet("no run of the handler", f"{runs}")
