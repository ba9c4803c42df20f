"""Whole conversations: calls between participants as packets, in the order in which they travel,
and then some mischief. See `rpcproto.testing.strategies`."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias, final

from hypothesis import strategies as st

from rpcproto.testing.drawn_packets import (
    AT_THE_LIMITS,
    Fields,
    Setting,
    any_of,
    deflated,
    error_fields,
    header_fields,
    packet_from,
    request_fields,
)
from rpcproto.wire import (
    CHUNK_BYTES,
    DEFLATE_RAW,
    MAX_V1_PAYLOAD_BYTES,
    REQUEST_ID,
    REQUEST_TOPIC,
    RESPONSE_TOPIC,
    request_attributes,
)

_SILENCE: Final = 60.0
"""Seconds after which whatever was under way is over, with the timeouts used here."""


@final
@dataclass(frozen=True, slots=True)
class Exchange:
    """A call, and the answer of its responder."""

    request_id: str
    caller_identity: str
    responder_identity: str
    method: str
    payload: str
    answer: str | None
    """The payload of the response; None if it was an error."""
    error: tuple[int, str, str] | None
    """Code, message and data of the error; None if it was a payload."""
    is_whole: bool = True
    """Whether all its packets arrive, in time and in order. Then a correct responder runs its
    handler once, with this payload, and the call of a correct caller ends with this answer. If not,
    the handler runs at most once, and the call ends at most once. A payload is never delivered in
    part."""


@final
@dataclass(frozen=True, slots=True)
class ConversationPacket:
    """A packet of a conversation, with its sender, receiver and time."""

    at: float
    """Seconds since the conversation began."""
    sender_identity: str
    """The true sender, also of a forged packet."""
    receiver_identity: str
    what: str
    data: bytes
    """The serialized DataPacket."""


@final
@dataclass(frozen=True, slots=True)
class Conversation:
    """Calls between `Setting.receiver` and the others, as packets."""

    exchanges: tuple[Exchange, ...]
    packets: tuple[ConversationPacket, ...]
    """All packets that arrive, in order of time."""

    def to(self, identity: str) -> tuple[ConversationPacket, ...]:
        """Return the packets that arrive at one participant."""
        return tuple(each for each in self.packets if each.receiver_identity == identity)


@dataclass(frozen=True, slots=True)
class _Draft:
    """A packet before mischief, and the number of the exchange that it belongs to."""

    exchange: int
    packet: ConversationPacket
    is_ours: bool
    """Whether the receiver under test made the call, which it does before all else."""


_Parts: TypeAlias = list[tuple[str, Fields]]


@st.composite
def _body(
    draw: st.DrawFn, setting: Setting, header: tuple[str, str, dict[str, str]], text: str
) -> _Parts:
    """A text as a stream: inline or in chunks, compressed or not."""
    stream_id, topic, attributes = header
    body, coded = text.encode(), text.encode()
    more: Fields = {}
    takes_all = setting.client_protocol >= 2
    if takes_all and draw(st.booleans()):
        coded, more = deflated(body), {"compression": DEFLATE_RAW}
    if draw(st.booleans()):
        more["total_length"] = len(body)
    if takes_all and len(coded) < CHUNK_BYTES and draw(st.booleans()):
        more["inline_content"] = coded
        return [("inline stream", header_fields(stream_id, topic, attributes, more))]
    edges = {*range(0, len(coded), CHUNK_BYTES), len(coded)}
    edges |= {*draw(st.lists(st.integers(0, len(coded)), max_size=3))}
    if "compression" not in more:  # several receivers decode each chunk by itself
        edges = {_character_at(body, edge) for edge in edges}
    cuts = sorted(edges)
    parts: _Parts = [("stream header", header_fields(stream_id, topic, attributes, more))]
    for index, (start, end) in enumerate(itertools.pairwise(cuts)):
        chunk = {"stream_id": stream_id, "chunk_index": index, "content": coded[start:end]}
        parts.append(("chunk", {"stream_chunk": chunk}))
    return [*parts, ("trailer", {"stream_trailer": {"stream_id": stream_id}})]


def _character_at(body: bytes, at: int) -> int:
    """Where the character begins of which the byte `at` is a part."""
    while at < len(body) and body[at] & 0xC0 == 0x80:
        at -= 1
    return at


_SMALL: Final = st.one_of(
    st.sampled_from(["hi", "", "\ufeff"]), st.text(max_size=30), st.just("é").map(lambda e: e * 400)
)
_PACKET_TEXTS: Final = _SMALL | any_of(AT_THE_LIMITS)
"""What fits into a v1 packet."""
_LARGE: Final = ["x" * (MAX_V1_PAYLOAD_BYTES + 1), "é" * 15_001, "x" * 64_000, "€" * 21_400]
"""What only fits into streams: one byte more than a packet takes, a few chunks, and what is more
than the largest packet."""


def _texts(setting: Setting, as_stream: bool) -> st.SearchStrategy[str]:
    """Payloads for packets, or for streams as well: also such as are just within
    `setting.max_payload_bytes`."""
    if not as_stream:
        return _PACKET_TEXTS
    most = setting.max_payload_bytes
    fitting = [text for text in _LARGE if len(text.encode()) <= most]
    if most <= _MAX_DRAWN:
        fitting += ["x" * (most - 1), "x" * most]
    return _PACKET_TEXTS | any_of(fitting) if fitting else _PACKET_TEXTS


_MAX_DRAWN: Final = 1 << 20
"""Payloads are not made larger than this, which takes its time."""


@st.composite
def _exchange(
    draw: st.DrawFn, setting: Setting, number: int, request_id: str, is_ours: bool
) -> tuple[Exchange, list[_Draft]]:
    peer = setting.senders[0] if is_ours else draw(st.sampled_from(setting.senders))
    caller, responder = (setting.receiver, peer) if is_ours else (peer, setting.receiver)
    as_stream = setting.client_protocol >= 1 and draw(st.booleans())
    texts = _texts(setting, as_stream)
    method, payload = draw(st.sampled_from(setting.methods)), draw(texts)
    answer = draw(st.one_of(texts, st.none()))
    error = None if answer is not None else (draw(st.integers(2_000, 2_100)), "no", draw(_SMALL))
    streams = setting.stream_ids[2 * number : 2 * number + 2]
    asked: _Parts = [("request", request_fields(request_id, method, payload, 8_000))]
    if as_stream:
        attributes = dict(request_attributes(request_id, method, 8_000))
        asked = draw(_body(setting, (streams[0], REQUEST_TOPIC, attributes), payload))
    if error is not None:
        value = error_fields(*error)
        answered: _Parts = [("error", {"rpc_response": {"request_id": request_id, **value}})]
    elif as_stream:
        header = (streams[1], RESPONSE_TOPIC, {REQUEST_ID: request_id})
        answered = draw(_body(setting, header, answer or ""))
    else:
        value = {"request_id": request_id, "payload": answer}
        answered = [("response", {"rpc_response": value})]
    ack: _Parts = [("ack", {"rpc_ack": {"request_id": request_id}})]

    def drafts(sender: str, receiver: str, parts: _Parts) -> list[_Draft]:
        return [
            _Draft(
                number,
                ConversationPacket(
                    0.0, sender, receiver, what, packet_from(setting, sender, receiver, fields)
                ),
                is_ours,
            )
            for what, fields in parts
        ]

    there = drafts(caller, responder, asked)
    back = drafts(responder, caller, [*ack, *answered])
    exchange = Exchange(request_id, caller, responder, method, payload, answer, error)
    return exchange, [there[0], back[0], *there[1:], *back[1:]]


_MISCHIEF: Final = st.lists(
    st.tuples(
        st.sampled_from(["repeated", "lost", "cut", "swapped", "chunks swapped", "forged", "late"]),
        st.integers(0, 2**20),
        st.integers(0, 2**20),
    ),
    max_size=3,
)


@st.composite
def conversations(
    draw: st.DrawFn,
    setting: Setting = Setting(),  # noqa: B008 (frozen)
    *,
    mischief: bool = True,
) -> Conversation:
    """Draw up to three calls to the receiver, and answers to each of `setting.call_ids`.

    Make the calls of `call_ids` before you deliver the packets. Calls overlap, and have any form
    that `setting.client_protocol` allows. With `mischief`, some packets are then duplicated, lost,
    cut off, swapped with the next, forged by a third participant, or late. `Exchange.is_whole` says
    whether a call must still succeed.
    """
    tricks = draw(_MISCHIEF) if mischief else []
    ids = draw(st.integers(0 if setting.call_ids else 1, min(3, len(setting.request_ids))))
    names = [(name, False) for name in setting.request_ids[:ids]]
    names += [(name, True) for name in setting.call_ids]
    setting = replace(setting, stream_ids=tuple(f"stream-{at}" for at in range(2 * len(names))))
    drawn = [draw(_exchange(setting, at, *name)) for at, name in enumerate(names)]
    drafts = draw(_interleaved([drafts for _, drafts in drawn]))
    harmed: set[int] = set()
    for what, at, detail in tricks if drafts else ():
        harmed |= _harm(setting, drafts, what, at % len(drafts), detail)
    exchanges = [
        replace(exchange, is_whole=at not in harmed) for at, (exchange, _) in enumerate(drawn)
    ]
    return Conversation(tuple(exchanges), tuple(draft.packet for draft in drafts))


@st.composite
def _interleaved(draw: st.DrawFn, exchanges: Sequence[Sequence[_Draft]]) -> list[_Draft]:
    """The packets of all exchanges, those of each in their order, with the times at which they
    arrive."""
    waiting = [list(drafts) for drafts in exchanges]
    mixed: list[_Draft] = []
    now = 0.0
    while waiting:
        queue = waiting[draw(st.integers(0, len(waiting) - 1))]
        draft = queue.pop(0)
        mixed.append(replace(draft, packet=replace(draft.packet, at=now)))
        now += draw(st.sampled_from([0.0, 1 / 64, 1 / 8]))
        waiting = [queue for queue in waiting if queue]
    return mixed


def _harm(setting: Setting, drafts: list[_Draft], what: str, at: int, detail: int) -> set[int]:
    """Do something to the packet at `at`; returns the exchanges that it may cost."""
    draft = drafts[at]
    packet = draft.packet
    if what == "chunks swapped":
        return _swap_chunks(drafts, at)
    if what == "repeated":
        later = at + 1 + detail % (len(drafts) - at)
        copy = replace(packet, what=f"{packet.what} again", at=drafts[later - 1].packet.at)
        drafts.insert(later, replace(draft, packet=copy))
        return set()
    if what == "forged" and not packet.what.endswith(" cut"):
        third = next(each for each in (*setting.senders, "mallory") if each not in _ends(packet))
        data = packet_from(setting, third, packet.receiver_identity, {}, like=packet.data)
        forged = replace(packet, what=f"{packet.what} forged", sender_identity=third, data=data)
        drafts.insert(at, replace(draft, packet=forged))
        return set()
    if what == "cut":
        data = packet.data[: detail % (len(packet.data) or 1)]
        drafts[at] = replace(draft, packet=replace(packet, what=f"{packet.what} cut", data=data))
    elif what == "swapped" and at + 1 < len(drafts):
        other = drafts[at + 1]
        drafts[at] = replace(other, packet=replace(other.packet, at=packet.at))
        drafts[at + 1] = replace(draft, packet=replace(packet, at=other.packet.at))
        return {draft.exchange} if other.exchange == draft.exchange else set()
    elif what == "late":
        for later in range(at, len(drafts)):
            moved = drafts[later].packet
            drafts[later] = replace(drafts[later], packet=replace(moved, at=moved.at + _SILENCE))
        before = {each.exchange for each in drafts[:at]}
        return {each.exchange for each in drafts[at:] if each.is_ours or each.exchange in before}
    else:
        del drafts[at]
        if not drafts:
            drafts.append(draft)
    return {draft.exchange}


def _swap_chunks(drafts: list[_Draft], at: int) -> set[int]:
    """Let two chunks of one stream that follow each other change places, and nothing else; returns
    the exchange that it costs."""
    streams: dict[tuple[int, str], list[int]] = {}
    for place, draft in enumerate(drafts):
        if draft.packet.what == "chunk":
            streams.setdefault((draft.exchange, draft.packet.sender_identity), []).append(place)
    pairs = [pair for places in streams.values() for pair in itertools.pairwise(places)]
    if not pairs:
        return set()
    one, two = pairs[at % len(pairs)]
    first, second = drafts[one].packet, drafts[two].packet
    drafts[one] = replace(drafts[one], packet=replace(second, at=first.at))
    drafts[two] = replace(drafts[two], packet=replace(first, at=second.at))
    return {drafts[one].exchange}


def _ends(packet: ConversationPacket) -> tuple[str, str]:
    return packet.sender_identity, packet.receiver_identity
