"""11: inline and compressed bodies going out."""

import json
import random
from typing import Final

from rpcproto.conformance.case import Level, Unmet, case
from rpcproto.conformance.cases.s11_compressed_in import TEXT
from rpcproto.conformance.participant import Participant
from rpcproto.conformance.reading import Body, Form
from rpcproto.conformance.scene import Scene
from rpcproto.core.packets_pb2 import DataPacket

INLINE_BYTES: Final = 15_000
"""Of an inline header packet, without what a server adds."""
NOISE: Final = random.Random(0).randbytes(30_000).hex()[:40_000]
"""A text that becomes about half as long: hexadecimal digits."""
HARD: Final = "".join(map(chr, random.Random(1).choices(range(0x4E00, 0x9FA5), k=13_000)))
"""A text that compression makes little shorter."""


@case(
    "11.33",
    "The testee calls, and answers, a participant with client_protocol 1, small and large",
    sees="nothing inline and nothing compressed",
    rule="R29 A5",
    why="The participant reads neither: its calls, and those to it, end with a timeout.",
    methods=("conform.call", "conform.echo"),
    protocols=(1,),
    reads=1,
)
async def nothing_new_to_client_protocol_1(scene: Scene) -> None:
    alice = await scene.join("alice")
    for text in ("x", TEXT, TEXT * 10):
        await answers_and_calls(scene, alice, text)


@case(
    "11.34",
    "The testee calls, and answers, a participant with client_protocol 2 and without capabilities",
    sees="nothing compressed",
    rule="R29 A5",
    why="The participant does not inflate: its application gets compressed bytes, or the call "
    "fails.",
    methods=("conform.call", "conform.echo"),
    protocols=(2,),
    reads=1,
)
async def nothing_compressed_without_the_capability(scene: Scene) -> None:
    alice = await scene.join("alice", capabilities=())
    for text in ("x", TEXT, TEXT * 10):
        await answers_and_calls(scene, alice, text)


@case(
    "11.35",
    "The testee calls, and answers, a participant that reads everything",
    sees="all payloads unchanged",
    rule="R29 A5",
    why="The application on the other side gets another text than was sent, or none.",
    methods=("conform.call", "conform.echo"),
    protocols=(2,),
    reads=1,
)
async def everything_comes_whole(scene: Scene) -> None:
    alice = await scene.join("alice")
    for text in ("", "x", TEXT, TEXT * 10, NOISE, HARD):
        await answers_and_calls(scene, alice, text)


async def answers_and_calls(scene: Scene, alice: Participant, text: str) -> list[Body]:
    """The testee answers with a text, then calls with it; `gets_*` see that both are readable."""
    answer = await alice.gets_answer(alice.request("conform.echo", text), text)
    await scene.call(alice, payload=text)
    request = await alice.gets_request(payload=text)
    return [answer, request.body]


@case(
    "11.36",
    "The testee sends inline bodies of about 15,000 bytes",
    sees="inline header packets of at most 15,000 bytes, without what servers add",
    rule="R29 A5",
    why="No released SDK sends larger ones: proxies and small devices may not take them.",
    level=Level.SHOULD,
    protocols=(2,),
    reads=2,
)
async def inline_up_to_15000_bytes(scene: Scene) -> None:
    alice = await scene.join("alice", capabilities=())
    fits, too_large = 0, 16_000
    largest: Body | None = None
    while too_large - fits > 1:
        size = (fits + too_large) // 2
        text = "x" * size
        body = await alice.gets_answer(alice.request("conform.echo", text), text)
        if body.form is Form.INLINE:
            fits, largest = size, body
        else:
            too_large = size
    if largest is not None:
        packet = DataPacket.FromString(largest.parts[0].data)
        for added in ("participant_identity", "participant_sid", "sequence"):
            packet.ClearField(added)
        length = packet.ByteSize()
        if length > INLINE_BYTES:
            raise Unmet("an inline packet of at most 15,000 bytes", f"one of {length:,}")


@case(
    "11.37",
    "The testee sends bodies that compression does not make shorter",
    sees="no body that compression makes longer",
    rule="R29",
    why="Both sides spend time on compression, and the packet is larger than without it.",
    level=Level.SHOULD,
    protocols=(2,),
    reads=2,
)
async def compression_does_not_lengthen(scene: Scene) -> None:
    alice = await scene.join("alice")
    for text in ("x", "ab", '{"a":1}', HARD[:100], HARD[:3_000]):
        body = await alice.gets_answer(alice.request("conform.echo", text), text)
        header = body.header
        if header is not None and body.form is Form.COMPRESSED_INLINE:
            content, plain = header.inline_content or b"", text.encode()
            if len(content) > len(plain):
                seen = f"{len(content)} bytes for {len(plain)}"
                raise Unmet("a compressed body that is shorter", seen)


@case(
    "11.38",
    "The testee answers with texts that can be compressed",
    sees="INFO: the form of small and large answers",
    rule="R29 A5",
    why="All forms are correct; compression saves bytes and costs time.",
    level=Level.INFO,
    methods=("conform.text",),
    protocols=(2,),
    reads=2,
)
async def forms_of_answers(scene: Scene) -> str:
    alice = await scene.join("alice")
    forms = []
    for times in (1, 100, 2_000):
        wanted = json.dumps({"text": "0123456789", "times": times})
        body = await alice.gets_answer(alice.request("conform.text", wanted), "0123456789" * times)
        forms.append(f"{10 * times:,} bytes are {body.form.value}")
    return ", ".join(forms)
