"""13: encryption. The testee has been given the passphrase that all participants have."""

import json
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from rpcproto import wire
from rpcproto.conformance.case import Level, Unmet, case
from rpcproto.conformance.participant import Participant
from rpcproto.conformance.reading import Form, counted
from rpcproto.conformance.scene import Scene
from rpcproto.conformance.stage import Deaf
from rpcproto.conformance.writing import TIMEOUT_MS, new_id, request_stream
from rpcproto.core.packets_pb2 import DataPacket
from rpcproto.e2ee import IV_BYTES, KEY_BYTES, AesGcmCryptor
from rpcproto.wire import Ack, OutgoingMessage, Request, Response, Sealed, StreamTrailer

CALL = ("conform.call",)
STREAMS: Final = (1, 2)
GCM: Final = 1
LARGEST_PACKET: Final = 64_000
MANY: Final = 30
FORGED: Final = 10
"""Packets that cannot be decrypted: 4 s of work and more for a native SDK."""
ROUNDS: Final = 2
PROMPT: Final = 2.0
"""How long those packets may delay others, in seconds; it takes milliseconds if each is cheap."""
SLOWLY: Final = 60.0
"""How long a testee may take for packets that it cannot decrypt, where that is not the matter."""


def all_is_sealed(scene: Scene) -> list[Sealed]:
    """Each packet of the testee so far is encrypted; returns them."""
    sealed = []
    for passed in scene.passed:
        if passed.sender == scene.testee.identity and isinstance(passed.data, bytes):
            packet = wire.decode(passed.data)
            if packet is None or not isinstance(packet.message, Sealed):
                raise Unmet("encrypted packets alone", "a packet that is not encrypted")
            sealed.append(packet.message)
    return sealed


def seal(sender: Participant, message: OutgoingMessage) -> Sealed:
    """A message, encrypted with the right key."""
    assert sender.cryptor is not None
    return sender.cryptor.seal(wire.encode_payload(message))


def with_another_key(message: OutgoingMessage) -> Sealed:
    """A message, encrypted with a key that nobody else has."""
    cryptor = AesGcmCryptor()
    cryptor.set_shared_key(b"k" * KEY_BYTES)
    return cryptor.seal(wire.encode_payload(message))


def echo(payload: str) -> Request:
    return Request(new_id(), "conform.echo", payload, TIMEOUT_MS)


# what goes out


@case(
    "13.1",
    "An encrypted request arrives",
    sees="an ack and an answer, encrypted",
    rule="R43 A6",
    why="Whoever operates the server could read the payload.",
)
async def sealed_answer(scene: Scene) -> None:
    alice = await scene.join("alice")
    request = alice.request("conform.echo", "a secret ☂")
    await alice.gets_ack(request)
    await alice.gets_answer(request, "a secret ☂")
    all_is_sealed(scene)


@case(
    "13.2",
    "The testee calls",
    sees="an encrypted request; the call succeeds with the encrypted answer",
    rule="R43 A6",
    why="Whoever operates the server could read the payload.",
    methods=CALL,
)
async def sealed_call(scene: Scene) -> None:
    alice = await scene.join("alice")
    call, request = await scene.called(alice, "greet", "a secret ☂")
    alice.ack(request)
    alice.answer(request, "another one ☔")
    await call.succeeds("another one ☔")
    all_is_sealed(scene)


@case(
    "13.3",
    "Encrypted requests arrive for a method that is not registered and for one that fails",
    sees="the errors, encrypted",
    rule="R43",
    why="Whoever operates the server could read what was asked for, and the data of errors.",
    methods=("conform.fail",),
)
async def sealed_errors(scene: Scene) -> None:
    alice = await scene.join("alice")
    await alice.gets_error(alice.request("no such method", ""), 1400)
    wanted = json.dumps({"code": 7004, "message": "not today", "data": "a secret"})
    await alice.gets_error(alice.request("conform.fail", wanted), 7004, "not today")
    all_is_sealed(scene)


@case(
    "13.4",
    "An encrypted body of 100,000 bytes arrives and is answered with as many",
    sees="the answer, whole; each of its packets is encrypted and has at most 64,000 bytes",
    rule="R43 R46",
    why="Whoever operates the server could read the payload, or the method and the ids.",
    protocols=STREAMS,
    reads=1,
)
async def sealed_bodies(scene: Scene) -> None:
    alice = await scene.join("alice", capabilities=())
    text = "ä€😀z" * 10_000
    body = await alice.gets_answer(alice.request("conform.echo", text, form=Form.CHUNKS), text)
    all_is_sealed(scene)
    size = max(len(seen.data) for seen in body.parts)
    if size > LARGEST_PACKET:
        raise Unmet(f"packets of at most {LARGEST_PACKET:,} bytes", f"one of {size:,} bytes")


@case(
    "13.5",
    "The testee sends 60 encrypted packets and more",
    sees="initialization vectors of 12 bytes that are all different",
    rule="R43",
    why="Two packets with the same vector reveal both texts, and let others forge more.",
)
async def vectors_differ(scene: Scene) -> None:
    alice = await scene.join("alice")
    for _ in range(MANY):
        await alice.gets_answer(alice.request("conform.echo", "x"), "x")
    vectors = [sealed.iv for sealed in all_is_sealed(scene)]
    if {len(iv) for iv in vectors} != {IV_BYTES}:
        raise Unmet(f"vectors of {IV_BYTES} bytes", str(sorted({len(iv) for iv in vectors})))
    if len(set(vectors)) < len(vectors):
        raise Unmet(f"{len(vectors)} different vectors", f"{len(set(vectors))}")


@case(
    "13.6",
    "The testee sends encrypted packets",
    sees="the type GCM in each",
    rule="R43",
    why="Receivers compare the types to find parts that are not encrypted: without it they find "
    "none.",
    level=Level.SHOULD,
)
async def packets_say_gcm(scene: Scene) -> None:
    alice = await scene.join("alice")
    body = await alice.gets_answer(alice.request("conform.echo", "x"), "x")
    for seen in body.parts:
        found = DataPacket.FromString(seen.data).encrypted_packet.encryption_type
        if found != GCM:
            raise Unmet("the encryption_type 1, GCM", str(found))


# what comes in, as it should be


@case(
    "13.7",
    "Encrypted requests arrive whose encryption_type is absent, CUSTOM, and a number yet unknown",
    sees="the answers",
    rule="R44",
    why="JavaScript leaves the type out, and others let applications choose it: their calls would "
    "fail.",
)
async def types_do_not_count(scene: Scene) -> None:
    alice = await scene.join("alice")
    for number in (0, 2, 7):

        def change(packet: DataPacket) -> None:
            packet.encrypted_packet.ClearField("encryption_type")
            packet.MergeFromString(b"\x92\x01\x02\x08" + bytes([number]))  # noqa: B023

        request = echo("hello")
        alice.send(request, change=change)
        await alice.gets_answer(request.request_id, "hello")


@case(
    "13.8",
    "Acks, answers and errors for calls of the testee arrive encrypted, in each form that it reads",
    sees="the calls end with them",
    rule="R44",
    why="In an encrypted room every packet of RPC is encrypted: no call would ever end.",
    methods=CALL,
)
async def opens_every_kind(scene: Scene) -> None:
    alice = await scene.join("alice")
    for form in (Form.PACKET, Form.CHUNKS, Form.INLINE):
        if form.client_protocol <= scene.testee.client_protocol:
            call, request = await scene.called(alice)
            alice.ack(request)
            alice.answer(request, "there", form)
            await call.succeeds("there")
    call, request = await scene.called(alice)
    alice.ack(request)
    alice.refuse(request, 7005, "no")
    await call.fails(7005)


# what comes in, as it should not be


class Forgery(NamedTuple):
    """A packet that looks like an encrypted request, and is none."""

    number: str
    what: str
    forge: Callable[[Participant, Request], Sequence[OutgoingMessage]]
    why: str
    level: Level = Level.MUST
    is_plain: bool = False


def tampered(alice: Participant, request: Request) -> list[OutgoingMessage]:
    """Each with one bit changed: of the text, of the tag, of the vector."""
    key_index, iv, text = seal(alice, request)
    return [
        Sealed(key_index, iv, text[:20] + bytes([text[20] ^ 1]) + text[21:]),
        Sealed(key_index, iv, text[:-1] + bytes([text[-1] ^ 1])),
        Sealed(key_index, bytes([iv[0] ^ 1]) + iv[1:], text),
    ]


def too_short(alice: Participant, request: Request) -> list[OutgoingMessage]:
    key_index, iv, text = seal(alice, request)
    return [
        Sealed(key_index, b"", text),
        Sealed(key_index, iv, b""),
        Sealed(key_index, iv, text[:10]),
        Sealed(key_index, iv, text[:-16]),
    ]


FORGERIES: Final = (
    Forgery("13.9", "Encrypted requests arrive in which one bit was changed on the way", tampered,
            "Whoever operates the server could change what participants ask for."),
    Forgery("13.10", "A request arrives that is encrypted with another key",
            lambda alice, request: [with_another_key(request)],
            "Somebody without the passphrase could call every method."),
    Forgery("13.11", "Encrypted requests arrive without a vector, without a text, or cut",
            too_short, "Somebody without the passphrase could call every method."),
    Forgery("13.12", "A request arrives that is encrypted under a key index that has no key",
            lambda alice, request: [seal(alice, request)._replace(key_index=9)],
            "The packet counts as encrypted with a key that the application "
            "never set.", Level.SHOULD),
    Forgery("13.13", "A request arrives that is encrypted under the key index 256",
            lambda alice, request: [seal(alice, request)._replace(key_index=256)],
            "An index that is cut to 8 bits selects another key than its sender "
            "used.", Level.SHOULD),
    Forgery("13.14", "A request arrives that is not encrypted", lambda alice, request: [request],
            "Whoever operates the server could forge requests; official clients accept them.",
            Level.SHOULD, is_plain=True),
)  # fmt: skip


def _register(row: Forgery) -> None:
    @case(
        row.number,
        row.what,
        sees="no handler runs, and others are served",
        rule="R45" if row.is_plain else "R44",
        why=row.why,
        level=row.level,
        methods=("conform.count", "conform.echo"),
    )
    async def play(scene: Scene) -> None:
        alice = await scene.join("alice")
        request = echo(f"forged {new_id()}")
        forged = row.forge(alice, request)
        alice.send(*forged, is_plain=row.is_plain)
        await scene.settle(within=SLOWLY)
        if runs := await scene.runs_of(alice, request.payload):
            raise Unmet("no run of the handler", counted(runs, "run"))


for _forgery in FORGERIES:
    _register(_forgery)


@case(
    "13.15",
    "A request arrives that is encrypted with another key",
    sees="nothing: no ack, no error",
    rule="R44",
    why="Strangers would learn who is in the room, and whether a guess of the key was right.",
    level=Level.SHOULD,
)
async def silence(scene: Scene) -> None:
    alice = await scene.join("alice")
    alice.send(with_another_key(echo("guessed")))
    await scene.settle(within=SLOWLY)
    await scene.nothing_more()
    await alice.gets_answer(alice.request("conform.echo", "next"), "next")


@case(
    "13.16",
    f"{FORGED} packets arrive that cannot be decrypted, then a request of somebody else; "
    "all of it twice",
    sees=f"an answer within {PROMPT:g} s, at least once",
    rule="R44 R47",
    why="If each costs time, one participant silences all others; a native SDK spends 0.4 s on it.",
    level=Level.SHOULD,
    protocols=(0,),
)
async def forgeries_are_cheap(scene: Scene) -> None:
    mallory, alice = await scene.join("mallory"), await scene.join("alice")
    for _ in range(ROUNDS):  # a machine may be busy once
        mallory.send(*(with_another_key(echo("guessed")) for _ in range(FORGED)))
        try:
            await scene.settle(within=PROMPT)
        except Deaf:
            await scene.settle(within=SLOWLY)  # what comes next has a testee that is ready
        else:
            await alice.gets_answer(alice.request("conform.echo", "and me?"), "and me?")
            return
    raise Unmet(f"an answer within {PROMPT:g} s", "none, in both rounds")


@case(
    "13.17",
    "A call of the testee is answered in plain, and with another key, before its right answer",
    sees="the right answer",
    rule="R44 R45",
    why="Whoever operates the server could answer in place of the callee; official clients "
    "believe it.",
    level=Level.SHOULD,
    methods=CALL,
)
async def forged_answers(scene: Scene) -> None:
    alice = await scene.join("alice")
    call, request = await scene.called(alice)
    alice.ack(request)
    alice.send(with_another_key(Response(request.request_id, "forged")))
    alice.send(Response(request.request_id, "forged"), is_plain=True)
    await scene.settle(within=SLOWLY)
    await call.is_still_pending()
    alice.answer(request, "right")
    await call.succeeds("right")


@case(
    "13.18",
    "A call of the testee is answered with another key, then as it should be",
    sees="the right answer",
    rule="R44",
    why="Somebody without the passphrase could answer, or end, the calls of others.",
    methods=CALL,
)
async def undecryptable_answer(scene: Scene) -> None:
    alice = await scene.join("alice")
    call, request = await scene.called(alice)
    alice.send(with_another_key(Ack(request.request_id)))
    alice.send(with_another_key(Response(request.request_id, "forged")))
    await scene.settle(within=SLOWLY)
    await call.is_still_pending()
    alice.ack(request)
    alice.answer(request, "right")
    await call.succeeds("right")


@case(
    "13.19",
    "In an encrypted request stream, a chunk arrives that is not encrypted",
    sees="no other payload than was sent: the right answer, an error, or none",
    rule="R25 R45",
    why="Whoever operates the server could put words into a text that counts as encrypted.",
    protocols=STREAMS,
    reads=1,
)
async def plain_chunk(scene: Scene) -> None:
    alice = await scene.join("alice")
    stream = request_stream([b"the right ", b"text"])
    stream = stream._replace(header=stream.header._replace(total_length=None))
    alice.send(stream.header, stream.chunks[0])
    alice.send(stream.chunks[1]._replace(content=b"forgery"), is_plain=True)
    alice.send(stream.chunks[1], stream.trailer)
    await scene.is_not_believed(alice, stream.request_id, unless="the right text")


@case(
    "13.20",
    "In the middle of an encrypted request stream, a trailer arrives that is not encrypted",
    sees="no answer to half of the payload",
    rule="R25 R45",
    why="Whoever operates the server could truncate a text that counts as encrypted.",
    protocols=STREAMS,
    reads=1,
)
async def plain_trailer(scene: Scene) -> None:
    alice = await scene.join("alice")
    stream = request_stream([b"the right ", b"text"])
    stream = stream._replace(header=stream.header._replace(total_length=None))
    alice.send(stream.header, stream.chunks[0])
    alice.send(StreamTrailer(stream.header.stream_id, ""), is_plain=True)
    alice.send(stream.chunks[1], stream.trailer)
    await scene.is_not_believed(alice, stream.request_id, unless="the right text")


@case(
    "13.21",
    "In an encrypted request stream, a chunk is lost because it cannot be decrypted",
    sees="no answer with a payload",
    rule="R25 R44",
    why="The application gets a text with a hole and no error.",
    protocols=STREAMS,
    reads=1,
)
async def undecryptable_chunk(scene: Scene) -> None:
    alice = await scene.join("alice")
    stream = request_stream([b"never ", b"ever ", b"do this"])
    stream = stream._replace(header=stream.header._replace(total_length=None))
    alice.send(stream.header, stream.chunks[0], with_another_key(stream.chunks[1]))
    alice.send(stream.chunks[2], stream.trailer)
    await scene.settle(within=SLOWLY)
    await scene.is_not_believed(alice, stream.request_id)


@case(
    "13.23",
    "Encrypted packets arrive whose content is empty, unknown, or no protobuf",
    sees="the next request is answered",
    rule="R44 R32",
    why="Any participant with the passphrase could crash or silence all others.",
)
async def nothing_inside(scene: Scene) -> None:
    alice = await scene.join("alice")
    assert alice.cryptor is not None
    for inside in (b"", b"\xfa\x3f\x04new!", b"\xff" * 40, b"\x92\x01\x00", b"\x22\x02\x0a\xff"):
        alice.send(alice.cryptor.seal(inside))
    await alice.gets_answer(alice.request("conform.echo", "next"), "next")


@case(
    "13.24",
    "The server calls in an encrypted room; it knows no key",
    sees="INFO: whether it is answered, and how",
    rule="R21 R45",
    why="The server's API cannot reach participants that ignore what is not encrypted.",
    level=Level.INFO,
    protocols=(0,),
)
async def server_in_an_encrypted_room(scene: Scene) -> str:
    server = scene.server()
    server.request("conform.echo", "hello", request_id=server.identity)
    await scene.settle()
    if not server.inbox:
        return "the server's call is ignored in an encrypted room"
    is_sealed = any(isinstance(seen.packet.message, Sealed) for seen in server.inbox)
    how = "by encrypted packets, which it cannot read" if is_sealed else "by plain packets"
    return f"the server's call is answered in an encrypted room, {how}"
