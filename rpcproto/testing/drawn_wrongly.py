"""Packets that are wrong, incomplete or garbage, as Hypothesis draws them. See
`rpcproto.testing.strategies`."""

from dataclasses import replace
from typing import Final, NamedTuple

from hypothesis import strategies as st

from rpcproto.core.errors import ErrorCode
from rpcproto.core.packets_pb2 import DataPacket
from rpcproto.testing.drawn_packets import (
    USUAL,
    DrawnPacket,
    Fields,
    Setting,
    Verdict,
    answers,
    any_of,
    drawn,
    header_fields,
    packet_from,
    request_fields,
    valid_packets,
)
from rpcproto.wire import (
    DEFLATE_RAW,
    REQUEST_ID,
    REQUEST_TOPIC,
    RESPONSE_TIMEOUT_MS,
    RESPONSE_TOPIC,
    VERSION,
    request_attributes,
)

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
        return drawn(setting, what, sender, fields, wrong.verdict, wrong.code)

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
        return drawn(setting, what, sender, fields, wrong.verdict, wrong.code)

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
        return drawn(setting, what, sender, fields, wrong.verdict, wrong.code)

    too_long = _TOO_LONG._replace(code=ErrorCode.RESPONSE_PAYLOAD_TOO_LARGE)
    wrongs = [*_WRONG_RESPONSES, *([*_WRONG_HEADERS, too_long] if setting.client_protocol else [])]
    streams = st.sampled_from(setting.stream_ids)
    return st.builds(build, any_of(wrongs), st.sampled_from(setting.call_ids), streams)


def forged_answers(setting: Setting) -> st.SearchStrategy[DrawnPacket]:
    """Draw answers to the receiver's calls from a participant that was not called (R7)."""
    third = st.sampled_from(setting.senders[1:])

    def forge(sender: str, answer: DrawnPacket) -> DrawnPacket:
        data = packet_from(setting, sender, setting.receiver, {}, like=answer.data)
        return DrawnPacket(f"{answer.what} from a third", data, sender, Verdict.IGNORED)

    return st.builds(forge, third, answers(setting))


def misdirected_packets(setting: Setting = USUAL) -> st.SearchStrategy[DrawnPacket]:
    """Draw valid messages in a wrong envelope: for another receiver, from the receiver itself,
    without a sender, with an identity or sid that is too long, or with another sender's sid."""
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


def wrong_packets(setting: Setting = USUAL) -> st.SearchStrategy[DrawnPacket]:
    """Draw packets with one fault. A correct receiver refuses or ignores each, as its `verdict`
    says."""
    kinds = [_wrong_requests(setting)]
    if setting.client_protocol >= 1:
        kinds.append(_wrong_request_headers(setting))
    if setting.call_ids:
        kinds += [_wrong_answers(setting), forged_answers(setting)]
    if setting.cryptor is not None:
        kinds.append(sealed_wrongly(setting))
    return st.one_of([*kinds, misdirected_packets(setting)])


def sealed_wrongly(setting: Setting) -> st.SearchStrategy[DrawnPacket]:
    """Draw packets that are not encrypted, or that the receiver can't decrypt (R44, R45), for a
    setting with a `cryptor`."""

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


def stream_parts(setting: Setting = USUAL) -> st.SearchStrategy[DrawnPacket]:
    """Draw chunks and trailers of streams that are open, were open, or never will be."""

    def build(sender: str, stream_id: str, part: tuple[str, Fields]) -> DrawnPacket:
        kind, fields = part
        packet = {f"stream_{kind}": {"stream_id": stream_id, **fields}}
        return drawn(setting, kind, sender, packet, Verdict.OPEN)

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


def garbage(setting: Setting = USUAL) -> st.SearchStrategy[DrawnPacket]:
    """Draw bytes that are not a packet, packets that are cut off or have a wrong byte, packets of
    other kinds, and packets that are too large."""
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


def packets(setting: Setting = USUAL) -> st.SearchStrategy[DrawnPacket]:
    """Draw any of these: valid packets, parts of streams, packets with one fault, and garbage."""
    return st.one_of(
        valid_packets(setting), stream_parts(setting), wrong_packets(setting), garbage(setting)
    )
