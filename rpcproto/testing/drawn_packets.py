"""Packets as Hypothesis draws them. See `rpcproto.testing.strategies`."""

import itertools
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar, final

from hypothesis import strategies as st

from rpcproto.core.errors import ErrorCode
from rpcproto.core.packets_pb2 import DataPacket, EncryptedPacket, EncryptedPacketPayload
from rpcproto.core.sealing import Cryptor
from rpcproto.testing.ids import counting_ids
from rpcproto.wire import (
    CHUNK_BYTES,
    DEFLATE_RAW,
    MAX_V1_PAYLOAD_BYTES,
    PACKET_VERSION,
    REQUEST_ID,
    REQUEST_TOPIC,
    RESPONSE_TIMEOUT_MS,
    RESPONSE_TOPIC,
    VERSION,
    request_attributes,
)


def _ids(prefix: str, count: int) -> tuple[str, ...]:
    return tuple(itertools.islice(iter(counting_ids(prefix), ""), count))


@final
@dataclass(frozen=True, kw_only=True)
class Setting:
    """Whom the receiver under test knows, and what it waits for. Every field has a default."""

    receiver: str = "alice"
    """The identity of the receiver, to which packets are sent."""
    senders: tuple[str, ...] = ("bob", "carol")
    """The identities of the others; two at least, so that one can forge what another sends."""
    sids: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Session ids by identity, as the receiver was told of them; one that is absent is unknown."""
    methods: tuple[str, ...] = ("greet",)
    """What the receiver has registered."""
    call_ids: tuple[str, ...] = ()
    """Calls that the receiver has made to the first of `senders`, and that are pending. Without
    any, no answers are drawn but such as belong to no call."""
    request_ids: tuple[str, ...] = _ids("b", 3)
    """What requests to the receiver are called."""
    stream_ids: tuple[str, ...] = _ids("c", 3)
    """What streams to the receiver are called."""
    client_protocol: int = 2
    """What the receiver announces: 0 takes packets alone, 1 chunked streams as well, 2 inline and
    compressed ones as well."""
    max_payload_bytes: int = 16 << 20
    """The most that the receiver takes as one payload, in bytes. If it is 1 MiB or less, payloads
    at this limit are drawn as well."""
    cryptor: Cryptor | None = None
    """What all others seal their packets with, such as a `ToyCryptor` with a shared key; None for
    packets that are not encrypted."""


class Verdict(Enum):
    """What a correct receiver does with a packet, if it arrives first and alone.

    The protocol demands the first three of every implementation. The two that end in `BY_POLICY`
    are decisions of this engine, such as its bounds: others may decide otherwise. `is_policy` tells
    them apart, `is_refused` and `is_ignored` do not.
    """

    TAKEN = "taken"
    """It has its effect: a handler runs, a body begins, a call is acknowledged or completed."""
    REFUSED = "refused"
    """The request is acked and answered with an error, or the call fails, with `code`."""
    IGNORED = "ignored"
    """Nothing is sent and no call changes (R32)."""
    REFUSED_BY_POLICY = "refused by policy"
    """This engine refuses it, with `code`."""
    IGNORED_BY_POLICY = "ignored by policy"
    """This engine ignores it."""
    OPEN = "open"
    """It depends on what came before, or on luck. But nothing raises, hangs or grows."""

    @property
    def is_policy(self) -> bool:
        """Whether it is this engine's decision, and not the protocol's demand."""
        return self.name.endswith("_BY_POLICY")

    @property
    def is_refused(self) -> bool:
        """Whether this engine refuses the packet."""
        return self.name.startswith("REFUSED")

    @property
    def is_ignored(self) -> bool:
        """Whether this engine ignores the packet."""
        return self.name.startswith("IGNORED")


@final
@dataclass(frozen=True, slots=True)
class DrawnPacket:
    """The bytes of a packet, and what there is to know about them."""

    what: str
    """In words, for whoever reads a failing example."""
    data: bytes
    """The serialized DataPacket, as a server would hand it over."""
    sender_identity: str
    """Who really sent it, for transports that know."""
    verdict: Verdict = Verdict.OPEN
    code: int = 0
    """The error of a packet that is refused (see `ErrorCode`), else 0."""


_T = TypeVar("_T")

Fields: TypeAlias = dict[str, Any]
"""The fields of a DataPacket."""

_USUAL = Setting()


def any_of(items: Sequence[_T]) -> st.SearchStrategy[_T]:
    """`sampled_from` for long items: what Hypothesis prints of it stays short."""
    return st.integers(0, len(items) - 1).map(lambda at: items[at])


AT_THE_LIMITS: Final = [
    "x" * 14_999,
    "x" * CHUNK_BYTES,
    "é" * (CHUNK_BYTES // 2),
    "x" * (CHUNK_BYTES + 1),
    "x" * (MAX_V1_PAYLOAD_BYTES - 1),
    "x" * MAX_V1_PAYLOAD_BYTES,
    "€" * (MAX_V1_PAYLOAD_BYTES // 3),
]
"""Payloads at and around the size of a chunk and that of a v1 payload, which they do not exceed, in
ASCII and not."""
PAYLOADS: Final = st.one_of(
    any_of(["hi", "", "é", "\ufeff", "x" * 512, *AT_THE_LIMITS]), st.text(max_size=40)
)
_TIMEOUTS_MS: Final = st.sampled_from([8_000, 1_000, 0, 13_000, 2**32 - 1])


def packet_from(
    setting: Setting, sender: str, receiver: str, fields: Fields, *, like: bytes = b""
) -> bytes:
    """A packet in the envelope that a server gives it; `like` has fields to begin with."""
    packet = DataPacket.FromString(like)
    packet.ClearField("destination_identities")
    packet.participant_sid = setting.sids.get(sender, "")
    packet.participant_identity = sender
    packet.destination_identities.append(receiver)
    if "destination_identities" in fields:
        packet.ClearField("destination_identities")
    packet.MergeFrom(DataPacket(**fields))
    if setting.cryptor is not None:
        _seal(packet, setting.cryptor)
    return packet.SerializeToString(deterministic=True)


def _seal(packet: DataPacket, cryptor: Cryptor) -> None:
    """Encrypt what is in a packet, if it is of a kind that can be."""
    which, payload = packet.WhichOneof("value"), EncryptedPacketPayload()
    if which is None or which not in payload.DESCRIPTOR.fields_by_name:
        return
    getattr(payload, which).CopyFrom(getattr(packet, which))
    key_index, iv, ciphertext = cryptor.seal(payload.SerializeToString(deterministic=True))
    packet.encrypted_packet.CopyFrom(
        EncryptedPacket(
            encryption_type="GCM", iv=iv, key_index=key_index, encrypted_value=ciphertext
        )
    )


def _drawn(
    setting: Setting, what: str, sender: str, fields: Fields, verdict: Verdict, code: int = 0
) -> DrawnPacket:
    data = packet_from(setting, sender, setting.receiver, fields)
    return DrawnPacket(what, data, sender, verdict, code)


def deflated(body: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflate.compress(body) + deflate.flush()


# --- valid packets


def request_fields(request_id: str, method: str, payload: str, timeout_ms: int) -> Fields:
    request: Fields = {"id": request_id, "method": method, "payload": payload}
    request |= {"response_timeout_ms": timeout_ms, "version": PACKET_VERSION}
    return {"rpc_request": request}


def error_fields(code: int, message: str, data: str) -> Fields:
    return {"error": {"code": code, "message": message, "data": data}}


def header_fields(
    stream_id: str, topic: str, attributes: Mapping[str, str], body: Fields
) -> Fields:
    header = {"stream_id": stream_id, "topic": topic, "attributes": attributes}
    return {"stream_header": {**header, "mime_type": "text/plain", "text_header": {}, **body}}


def _header_body(form: int, payload: str) -> Fields:
    """What a header says of its body; forms are in the order of what is needed to read them."""
    body = payload.encode()
    chunked: list[Fields] = [{"total_length": len(body)}, {}]
    inline: list[Fields] = [
        {"total_length": len(body), "inline_content": body},
        {"total_length": len(body), "inline_content": deflated(body), "compression": DEFLATE_RAW},
        {"compression": DEFLATE_RAW},
    ]
    return [*chunked, *inline][form]


def _forms(setting: Setting) -> st.SearchStrategy[int]:
    return st.integers(0, 4 if setting.client_protocol >= 2 else 1)


def requests(setting: Setting = _USUAL) -> st.SearchStrategy[DrawnPacket]:
    """Requests as packets (RPC v1)."""
    return st.builds(
        lambda sender, *request: _drawn(
            setting, "request", sender, request_fields(*request), Verdict.TAKEN
        ),
        st.sampled_from(setting.senders),
        st.sampled_from(setting.request_ids),
        st.sampled_from(setting.methods),
        PAYLOADS,
        _TIMEOUTS_MS,
    )


def request_headers(setting: Setting = _USUAL) -> st.SearchStrategy[DrawnPacket]:
    """Headers of request streams (RPC v2), inline ones with the whole request among them."""

    def build(
        sender: str, stream: str, request: str, method: str, ms: int, form: int, payload: str
    ) -> DrawnPacket:
        attributes = request_attributes(request, method, ms)
        fields = header_fields(stream, REQUEST_TOPIC, attributes, _header_body(form, payload))
        return _drawn(setting, "request header", sender, fields, Verdict.TAKEN)

    return st.builds(
        build,
        st.sampled_from(setting.senders),
        st.sampled_from(setting.stream_ids),
        st.sampled_from(setting.request_ids),
        st.sampled_from(setting.methods),
        _TIMEOUTS_MS,
        _forms(setting),
        PAYLOADS,
    )


def acks(setting: Setting) -> st.SearchStrategy[DrawnPacket]:
    """Acks of the receiver's calls."""
    return st.sampled_from(setting.call_ids).map(
        lambda call: _drawn(
            setting, "ack", setting.senders[0], {"rpc_ack": {"request_id": call}}, Verdict.TAKEN
        )
    )


_RESPONSES: Final = st.one_of(
    PAYLOADS.map(lambda payload: {"payload": payload}),
    st.builds(
        error_fields,
        st.sampled_from([2001, 1500, 0, 2**32 - 1]),
        PAYLOADS,
        st.sampled_from(["", "why"]),
    ),
)


def responses(setting: Setting) -> st.SearchStrategy[DrawnPacket]:
    """Responses to the receiver's calls as packets: payloads and errors, also such whose message
    has to be cut."""
    return st.builds(
        lambda call, value: _drawn(
            setting,
            "response",
            setting.senders[0],
            {"rpc_response": {"request_id": call, **value}},
            Verdict.TAKEN,
        ),
        st.sampled_from(setting.call_ids),
        _RESPONSES,
    )


def response_headers(setting: Setting) -> st.SearchStrategy[DrawnPacket]:
    """Headers of response streams to the receiver's calls, inline ones among them."""
    return st.builds(
        lambda stream, call, form, payload: _drawn(
            setting,
            "response header",
            setting.senders[0],
            header_fields(stream, RESPONSE_TOPIC, {REQUEST_ID: call}, _header_body(form, payload)),
            Verdict.TAKEN,
        ),
        st.sampled_from(setting.stream_ids),
        st.sampled_from(setting.call_ids),
        _forms(setting),
        PAYLOADS,
    )


def answers(setting: Setting) -> st.SearchStrategy[DrawnPacket]:
    """All of these: acks and responses in every form that the receiver takes."""
    packets = st.one_of(acks(setting), responses(setting))
    return packets if setting.client_protocol < 1 else packets | response_headers(setting)


def valid_packets(setting: Setting = _USUAL) -> st.SearchStrategy[DrawnPacket]:
    """Packets that a correct receiver takes: requests, and if it has calls, answers to them."""
    kinds = [requests(setting)]
    if setting.client_protocol >= 1:
        kinds.append(request_headers(setting))
    if setting.call_ids:
        kinds.append(answers(setting))
    return st.one_of(kinds)


# --- subtly wrong packets


class _Wrong(NamedTuple):
    """One thing that is wrong, the fields that make it so, and what becomes of it."""

    what: str
    fields: Fields
    verdict: Verdict = Verdict.REFUSED
    code: int = 0


_LONG_ID: Final = "é" * 65
_APPLICATION: Final = ErrorCode.APPLICATION_ERROR
_IGNORES: Final = Verdict.IGNORED_BY_POLICY
_REFUSES: Final = Verdict.REFUSED_BY_POLICY

_WRONG_REQUESTS: Final = [
    _Wrong("version 0", {"version": 0}, code=ErrorCode.UNSUPPORTED_VERSION),
    _Wrong("version 2", {"version": 2}, code=ErrorCode.UNSUPPORTED_VERSION),
    _Wrong("an unknown method", {"method": "?"}, code=ErrorCode.UNSUPPORTED_METHOD),
    _Wrong("no method", {"method": ""}, code=ErrorCode.UNSUPPORTED_METHOD),
    _Wrong("66 bytes of method", {"method": "é" * 33}, code=ErrorCode.UNSUPPORTED_METHOD),
    _Wrong("a compressed payload", {"compressed_payload": b"x"}, _REFUSES, _APPLICATION),
    _Wrong("no id", {"id": ""}, Verdict.IGNORED),
    _Wrong("130 bytes of id", {"id": _LONG_ID}, _IGNORES),
]
_WRONG_ATTRIBUTES: Final = [
    _Wrong("version 1", {VERSION: "1"}, code=ErrorCode.UNSUPPORTED_VERSION),
    _Wrong("version 02", {VERSION: "02"}, code=ErrorCode.UNSUPPORTED_VERSION),
    _Wrong("a timeout in words", {RESPONSE_TIMEOUT_MS: "soon"}, _REFUSES, _APPLICATION),
    _Wrong("a timeout below 0", {RESPONSE_TIMEOUT_MS: "-1"}, _REFUSES, _APPLICATION),
    _Wrong("a timeout of 21 digits", {RESPONSE_TIMEOUT_MS: "1" * 21}, _REFUSES, _APPLICATION),
    _Wrong("no request id", {REQUEST_ID: ""}, Verdict.IGNORED),
    _Wrong("130 bytes of request id", {REQUEST_ID: _LONG_ID}, _IGNORES),
]
_BAD_DEFLATE: Final = {"compression": DEFLATE_RAW, "inline_content": b"\xff\xff"}
_WRONG_HEADERS: Final = [
    _Wrong("no text header", {"text_header": None, "byte_header": {}}, _REFUSES, _APPLICATION),
    _Wrong("an unknown compression", {"compression": 9}, code=_APPLICATION),
    _Wrong("a body that is no UTF-8", {"inline_content": b"\xff"}, _REFUSES, _APPLICATION),
    _Wrong("half a character", {"inline_content": "é".encode()[:1]}, _REFUSES, _APPLICATION),
    _Wrong("too few bytes", {"inline_content": b"hi", "total_length": 3}, code=_APPLICATION),
    _Wrong("too many bytes", {"inline_content": b"hi", "total_length": 1}, code=_APPLICATION),
    _Wrong("no DEFLATE", _BAD_DEFLATE, code=_APPLICATION),
    _Wrong("an agent's text", {"text_header": {"generated": True}}, _IGNORES),
    _Wrong("another topic", {"topic": "lk.chat"}, Verdict.IGNORED),
    _Wrong("no stream id", {"stream_id": ""}, _IGNORES),
]
_TOO_LONG: Final = _Wrong("2^40 bytes announced", {"total_length": 2**40}, _REFUSES)
_WRONG_RESPONSES: Final = [
    _Wrong("no value", {}, code=_APPLICATION),
    _Wrong("a compressed payload", {"compressed_payload": b"x"}, code=_APPLICATION),
    _Wrong("an unknown id", {"request_id": "nobody", "payload": "x"}, Verdict.IGNORED),
    _Wrong("no id", {"request_id": "", "payload": "x"}, Verdict.IGNORED),
]


def _wrong_requests(setting: Setting) -> st.SearchStrategy[DrawnPacket]:
    def build(wrong: _Wrong, sender: str, request_id: str) -> DrawnPacket:
        fields = request_fields(request_id, setting.methods[0], "hi", 8_000)
        fields["rpc_request"] |= wrong.fields
        what = f"request with {wrong.what}"
        return _drawn(setting, what, sender, fields, wrong.verdict, wrong.code)

    return st.builds(
        build,
        any_of(_WRONG_REQUESTS),
        st.sampled_from(setting.senders),
        st.sampled_from(setting.request_ids),
    )


def _wrong_request_headers(setting: Setting) -> st.SearchStrategy[DrawnPacket]:
    def build(wrong: _Wrong, sender: str, stream_id: str, request_id: str) -> DrawnPacket:
        attributes = dict(request_attributes(request_id, setting.methods[0], 8_000))
        body = wrong.fields
        if wrong in _WRONG_ATTRIBUTES:
            attributes, body = attributes | wrong.fields, {}
        fields = header_fields(stream_id, REQUEST_TOPIC, attributes, body)
        what = f"request header with {wrong.what}"
        return _drawn(setting, what, sender, fields, wrong.verdict, wrong.code)

    too_long = _TOO_LONG._replace(code=ErrorCode.REQUEST_PAYLOAD_TOO_LARGE)
    return st.builds(
        build,
        any_of([*_WRONG_ATTRIBUTES, *_WRONG_HEADERS, too_long]),
        st.sampled_from(setting.senders),
        st.sampled_from(setting.stream_ids),
        st.sampled_from(setting.request_ids),
    )


def _wrong_answers(setting: Setting) -> st.SearchStrategy[DrawnPacket]:
    """Answers to calls, wrong by themselves."""

    def build(wrong: _Wrong, call: str, stream_id: str) -> DrawnPacket:
        if wrong in _WRONG_RESPONSES:
            what, fields = "response", {"rpc_response": {"request_id": call} | wrong.fields}
        else:
            what = "response header"
            fields = header_fields(stream_id, RESPONSE_TOPIC, {REQUEST_ID: call}, wrong.fields)
        what, sender = f"{what} with {wrong.what}", setting.senders[0]
        return _drawn(setting, what, sender, fields, wrong.verdict, wrong.code)

    too_long = _TOO_LONG._replace(code=ErrorCode.RESPONSE_PAYLOAD_TOO_LARGE)
    wrongs = [*_WRONG_RESPONSES, *([*_WRONG_HEADERS, too_long] if setting.client_protocol else [])]
    streams = st.sampled_from(setting.stream_ids)
    return st.builds(build, any_of(wrongs), st.sampled_from(setting.call_ids), streams)


def forged_answers(setting: Setting) -> st.SearchStrategy[DrawnPacket]:
    """Answers to the receiver's calls that come from somebody who was not called (R7)."""
    third = st.sampled_from(setting.senders[1:])

    def forge(sender: str, answer: DrawnPacket) -> DrawnPacket:
        data = packet_from(setting, sender, setting.receiver, {}, like=answer.data)
        return DrawnPacket(f"{answer.what} from a third", data, sender, Verdict.IGNORED)

    return st.builds(forge, third, answers(setting))


def misdirected_packets(setting: Setting = _USUAL) -> st.SearchStrategy[DrawnPacket]:
    """Valid messages in an envelope that is wrong: for another, from the receiver itself, from
    nobody, under a name that is too long, under a sid that is another's."""
    first, *others = setting.senders
    envelopes = [
        ("for another", {"destination_identities": [first]}),
        ("from the receiver", {"participant_identity": setting.receiver}),
        ("under 257 bytes of name", {"participant_identity": "x" * 257}),
        ("under 257 bytes of sid", {"participant_sid": "x" * 257}),
        ("from nobody", {}),
        *(
            ("under another's sid", {"participant_identity": other, "participant_sid": sid})
            for other in others
            if (sid := setting.sids.get(first))
        ),
    ]

    def build(valid: DrawnPacket, envelope: tuple[str, Fields]) -> DrawnPacket:
        what, fields = envelope
        sender = valid.sender_identity if fields else ""
        data = packet_from(setting, sender, setting.receiver, fields, like=valid.data)
        return DrawnPacket(f"{valid.what} {what}", data, sender, Verdict.IGNORED_BY_POLICY)

    return st.builds(build, valid_packets(setting), any_of(envelopes))


def wrong_packets(setting: Setting = _USUAL) -> st.SearchStrategy[DrawnPacket]:
    """Packets that are nearly valid. A correct receiver refuses or ignores them, as each says."""
    kinds = [_wrong_requests(setting)]
    if setting.client_protocol >= 1:
        kinds.append(_wrong_request_headers(setting))
    if setting.call_ids:
        kinds += [_wrong_answers(setting), forged_answers(setting)]
    if setting.cryptor is not None:
        kinds.append(sealed_wrongly(setting))
    return st.one_of([*kinds, misdirected_packets(setting)])


def sealed_wrongly(setting: Setting) -> st.SearchStrategy[DrawnPacket]:
    """Valid packets that are not encrypted, or so that the receiver cannot open them (R44, R45);
    for a setting with a `cryptor`."""

    def build(valid: DrawnPacket, how: str) -> DrawnPacket:
        packet = DataPacket.FromString(valid.data)
        sealed = packet.encrypted_packet
        if how == "a wrong tag":
            sealed.encrypted_value = _with_wrong_byte(sealed.encrypted_value, -1, 1)
        elif how == "a short IV":
            sealed.iv = sealed.iv[:8]
        elif how == "no IV":
            sealed.ClearField("iv")
        elif how == "no ciphertext":
            sealed.ClearField("encrypted_value")
        else:
            sealed.key_index = 2**31
        data = packet.SerializeToString(deterministic=True)
        return DrawnPacket(f"{valid.what}, {how}", data, valid.sender_identity, Verdict.IGNORED)

    plain = valid_packets(replace(setting, cryptor=None)).map(
        lambda packet: replace(packet, what=f"{packet.what}, plain", verdict=_IGNORES)
    )
    faults = ["a wrong tag", "a short IV", "no IV", "no ciphertext", "an unknown key index"]
    return st.one_of(st.builds(build, valid_packets(setting), st.sampled_from(faults)), plain)


# --- parts of streams, and garbage

_CONTENTS: Final = any_of([b"hi", b"", b"\xff", "é".encode()[:1], b"x" * 9_000])


def stream_parts(setting: Setting = _USUAL) -> st.SearchStrategy[DrawnPacket]:
    """Chunks and trailers by themselves: of streams that are open, or were, or never will be."""

    def build(sender: str, stream_id: str, part: tuple[str, Fields]) -> DrawnPacket:
        kind, fields = part
        packet = {f"stream_{kind}": {"stream_id": stream_id, **fields}}
        return _drawn(setting, kind, sender, packet, Verdict.OPEN)

    chunks = st.builds(
        lambda index, content: ("chunk", {"chunk_index": index, "content": content}),
        st.integers(0, 3),
        _CONTENTS,
    )
    trailers = st.sampled_from(["", "cancelled"]).map(
        lambda reason: ("trailer", {"reason": reason})
    )
    return st.builds(
        build,
        st.sampled_from(setting.senders),
        st.sampled_from(setting.stream_ids),
        st.one_of(chunks, trailers),
    )


def garbage(setting: Setting = _USUAL) -> st.SearchStrategy[DrawnPacket]:
    """Bytes that are no packet, packets that are cut off or have a wrong byte, packets of other
    kinds, and packets that are too large."""
    valid = valid_packets(setting).map(lambda packet: packet.data)
    others: list[Fields] = [
        {},
        {"chat_message": {}},
        {"encrypted_packet": {"encrypted_value": b"x"}},
        {"rpc_ack": {}},
        {"rpc_request": {"id": "r", "payload": "x" * 200_000}},
    ]
    kinds = {
        "any bytes": st.binary(max_size=60),
        "a packet cut off": st.builds(lambda data, at: data[: at % len(data)], valid, _POSITIONS),
        "a packet with a wrong byte": st.builds(_with_wrong_byte, valid, _POSITIONS, _BYTES),
        "a packet and more": st.builds(
            lambda data, more: data + more, valid, st.binary(min_size=1)
        ),
        "a packet of another kind": any_of(
            [packet_from(setting, setting.senders[0], setting.receiver, each) for each in others]
        ),
    }
    sender = setting.senders[0]

    def named(what: str, data: st.SearchStrategy[bytes]) -> st.SearchStrategy[DrawnPacket]:
        return data.map(lambda data: DrawnPacket(what, data, sender))

    return st.one_of([named(what, data) for what, data in kinds.items()])


_POSITIONS: Final = st.integers(0, 2**20)
_BYTES: Final = st.integers(1, 255)


def _with_wrong_byte(data: bytes, position: int, difference: int) -> bytes:
    wrong = bytearray(data)
    wrong[position % len(data)] ^= difference
    return bytes(wrong)


def packets(setting: Setting = _USUAL) -> st.SearchStrategy[DrawnPacket]:
    """All of the above: valid packets, parts of streams, subtly wrong packets, and garbage."""
    return st.one_of(
        valid_packets(setting), stream_parts(setting), wrong_packets(setting), garbage(setting)
    )
