"""Packets as Hypothesis draws them. See `rpcproto.testing.strategies`."""

import itertools
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any, Final, TypeAlias, TypeVar, final

from hypothesis import strategies as st

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
    RESPONSE_TOPIC,
    request_attributes,
)


def _ids(prefix: str, count: int) -> tuple[str, ...]:
    return tuple(itertools.islice(iter(counting_ids(prefix), ""), count))


@final
@dataclass(frozen=True, kw_only=True)
class Setting:
    """The state of the receiver under test: participants, methods, and pending calls."""

    receiver: str = "alice"
    """The identity of the receiver."""
    senders: tuple[str, ...] = ("bob", "carol")
    """The identities of the others, at least two, so that one can forge packets of another."""
    sids: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Sids by identity, as announced to the receiver. A missing one is unknown."""
    methods: tuple[str, ...] = ("greet",)
    """The methods that the receiver has registered."""
    call_ids: tuple[str, ...] = ()
    """Calls that the receiver has made to the first of `senders`, and that are pending. Without
    any, the drawn answers belong to no call."""
    request_ids: tuple[str, ...] = _ids("b", 3)
    """The request ids of requests to the receiver."""
    stream_ids: tuple[str, ...] = _ids("c", 3)
    """The stream ids of streams to the receiver."""
    client_protocol: int = 2
    """What the receiver announces: 0 for packets only, 1 for chunked streams too, 2 for inline and
    compressed ones too."""
    max_payload_bytes: int = 16 << 20
    """The maximum size of a payload that the receiver accepts, in bytes. If it is 1 MiB or less,
    payloads at this limit are drawn as well."""
    cryptor: Cryptor | None = None
    """A cryptor with which the others encrypt their packets, such as a `ToyCryptor` with a shared
    key. None for plain packets."""


class Verdict(Enum):
    """What a correct receiver does with a packet that arrives first and alone."""

    TAKEN = "taken"
    """It has its effect: a handler runs, a body begins, a call is acknowledged or completed."""
    REFUSED = "refused"
    """The request is acked and answered with an error, or the call fails, with `code`."""
    IGNORED = "ignored"
    """Nothing is sent and no call changes (R32)."""
    REFUSED_BY_POLICY = "refused by policy"
    """`RpcEngine` refuses it, with `code`."""
    IGNORED_BY_POLICY = "ignored by policy"
    """`RpcEngine` ignores it."""
    OPEN = "open"
    """The effect depends on earlier packets or on random values. In any case, the receiver must not
    raise, hang or use unbounded memory."""

    @property
    def is_policy(self) -> bool:
        """Whether `RpcEngine` does this although the protocol does not require it."""
        return self.name.endswith("_BY_POLICY")

    @property
    def is_refused(self) -> bool:
        """Whether `RpcEngine` refuses the packet."""
        return self.name.startswith("REFUSED")

    @property
    def is_ignored(self) -> bool:
        """Whether `RpcEngine` ignores the packet."""
        return self.name.startswith("IGNORED")


@final
@dataclass(frozen=True, slots=True)
class DrawnPacket:
    """The bytes of a packet, with the expected verdict."""

    what: str
    """A description of the packet, to be read in a failing example."""
    data: bytes
    """The serialized DataPacket, as a server would deliver it."""
    sender_identity: str
    """The true sender, for transports that know it."""
    verdict: Verdict = Verdict.OPEN
    code: int = 0
    """The error of a packet that is refused (see `ErrorCode`), else 0."""


_T = TypeVar("_T")

Fields: TypeAlias = dict[str, Any]
"""The fields of a DataPacket."""

USUAL = Setting()


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


def drawn(
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


def requests(setting: Setting = USUAL) -> st.SearchStrategy[DrawnPacket]:
    """Draw requests as packets (RPC v1)."""
    return st.builds(
        lambda sender, *request: drawn(
            setting, "request", sender, request_fields(*request), Verdict.TAKEN
        ),
        st.sampled_from(setting.senders),
        st.sampled_from(setting.request_ids),
        st.sampled_from(setting.methods),
        PAYLOADS,
        _TIMEOUTS_MS,
    )


def request_headers(setting: Setting = USUAL) -> st.SearchStrategy[DrawnPacket]:
    """Draw headers of request streams (RPC v2), including inline requests."""

    def build(
        sender: str, stream: str, request: str, method: str, ms: int, form: int, payload: str
    ) -> DrawnPacket:
        attributes = request_attributes(request, method, ms)
        fields = header_fields(stream, REQUEST_TOPIC, attributes, _header_body(form, payload))
        return drawn(setting, "request header", sender, fields, Verdict.TAKEN)

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
    """Draw acks of the receiver's calls."""
    return st.sampled_from(setting.call_ids).map(
        lambda call: drawn(
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
    """Draw responses to the receiver's calls as packets: payloads, and errors, also with messages
    that must be cut."""
    return st.builds(
        lambda call, value: drawn(
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
    """Draw headers of response streams to the receiver's calls, including inline responses."""
    return st.builds(
        lambda stream, call, form, payload: drawn(
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
    """Draw acks and responses in every form that the receiver accepts."""
    packets = st.one_of(acks(setting), responses(setting))
    return packets if setting.client_protocol < 1 else packets | response_headers(setting)


def valid_packets(setting: Setting = USUAL) -> st.SearchStrategy[DrawnPacket]:
    """Draw packets that a correct receiver accepts: requests, and answers to its calls if it has
    any."""
    kinds = [requests(setting)]
    if setting.client_protocol >= 1:
        kinds.append(request_headers(setting))
    if setting.call_ids:
        kinds.append(answers(setting))
    return st.one_of(kinds)
