"""What happens between participants, as the rows of a sequence diagram.

The arrows are packets; chunks of a stream with nothing in between share one. The notes are what
engines are asked for and what they report to their hosts.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple, final

from rpcproto import wire
from rpcproto.core.events import Event
from rpcproto.core.messages import IV_BYTES, PacketKind
from rpcproto.core.sealing import Cryptor, OpenFailure
from rpcproto.recording.diagram import (
    BOXES,
    MAX_WIDTH,
    WIDTH_EACH,
    Arrow,
    Glyphs,
    Layout,
    Note,
    Row,
    Style,
    as_svg,
    as_text,
    lay_out,
)
from rpcproto.recording.values import LongText
from rpcproto.wire import (
    DEFLATE_RAW,
    ErrorResponse,
    Message,
    Packet,
    Sealed,
    StreamChunk,
    StreamHeader,
    StreamTrailer,
    Unread,
)

MAX_SHOWN_BYTES: Final = 50
"""Longer payloads are shown by their size."""
MAX_DETAIL_BYTES: Final = 256
"""The same of the texts of an error."""
NOBODY: Final = "?"
"""The sender of a packet if nobody knows it."""

_SVG_WIDTH: Final = 88
"""The least columns of a picture; it grows with its participants."""
_CHUNK: Final = PacketKind.STREAM_CHUNK.value

_STYLES: Final = {
    "request": Style.REQUEST,
    "ack": Style.ACK,
    "response": Style.RESPONSE,
    "error": Style.ERROR,
}


def shown(payload: object) -> str:
    """Return a payload in quotes, or its size if it is long."""
    if isinstance(payload, LongText):
        return f"{payload.length:,} bytes"
    size = len(str(payload).encode(errors="surrogatepass"))
    return repr(payload) if size <= MAX_SHOWN_BYTES else f"{size:,} bytes"


SEALED: Final = "sealed packet"
"""What a packet is called that cannot be opened."""


def kind_of(message: Message) -> str:
    """Return what a message is called: `request`, `ack`, `stream header` and so on."""
    if isinstance(message, ErrorResponse):
        return "error"
    if isinstance(message, Unread):
        return message.kind.replace("_", " ")
    if isinstance(message, Sealed):
        return SEALED
    return re.sub("(?<=[a-z])(?=[A-Z])", " ", type(message).__name__).lower()


def style_of(kind: str) -> Style:
    """Return how a kind of message is shown."""
    return _STYLES.get(kind, Style.STREAM)


class PacketView(NamedTuple):
    """What is shown of a packet."""

    kind: str
    length: int
    """In bytes."""
    detail: str = ""
    stream_id: str = ""
    is_sealed: bool = False
    """Whether it is encrypted."""


def unsealed(message: Message, sender: str, cryptor: Cryptor | None) -> Message:
    """Return what is inside a sealed message, or the message itself if it cannot be opened."""
    if not isinstance(message, Sealed) or cryptor is None or len(message.iv) != IV_BYTES:
        return message
    opened = cryptor.open(sender, *message)
    inside = None if isinstance(opened, OpenFailure) else wire.decode_payload(opened)
    return message if inside is None else inside


def view_of(
    packet: Packet | None, length: int, sender: str = "", cryptor: Cryptor | None = None
) -> PacketView:
    """Return what is shown of a packet, which is None if it is malformed. A sealed packet is shown
    with its content if `cryptor` has the key of the sender."""
    if packet is None:
        return PacketView("malformed packet", length)
    message = unsealed(packet.message, sender, cryptor)
    is_sealed = isinstance(packet.message, Sealed)
    view = PacketView(kind_of(message) or "unknown packet", length, is_sealed=is_sealed)
    if isinstance(message, StreamHeader):
        return view._replace(detail=_of_the_body(message), stream_id=message.stream_id)
    if isinstance(message, StreamChunk | StreamTrailer):
        return view._replace(stream_id=message.stream_id)
    return view


class _Chunks(NamedTuple):
    """Chunks of one stream that came one right after the other, and the row that shows them."""

    sender: str
    receiver: str
    stream_id: str
    arrives: bool
    number: int
    length: int
    row: Row


@final
class Trace:
    """The rows of a sequence diagram. Times are in seconds."""

    def __init__(self, *participants: str, cryptor: Cryptor | None = None) -> None:
        """Begin an empty diagram, which shows `participants` even if they have no rows. `cryptor`
        decrypts packets."""
        self._cryptor = cryptor
        self.participants: list[str] = list(participants)
        """The participants, from left to right."""
        self._known = set(participants)
        self.rows: list[Row] = []
        self._chunks: _Chunks | None = None

    def note(self, at: float, participant: str, text: str, style: Style = Style.PLAIN) -> None:
        """Add a note about a participant."""
        self._take_part(participant)
        self.rows.append(Note(at, participant, text, style))

    def call(self, at: float, caller: str, recipient: str, method: str, payload: object) -> None:
        """Add a call that an engine was asked to make."""
        self.note(at, caller, f"calls {recipient}: {method} {shown(payload)}")
        self._take_part(recipient)

    def packet(
        self, at: float, sender: str, receiver: str, data: bytes, arrives: bool = True
    ) -> None:
        """Add a packet. If `sender` is empty, the packet names its sender."""
        packet = wire.decode(data)
        sender = sender_of(packet, sender)
        view = view_of(packet, len(data), sender, self._cryptor)
        self.arrow(at, sender, receiver, view, arrives)

    def arrow(
        self, at: float, sender: str, receiver: str, view: PacketView, arrives: bool = True
    ) -> None:
        """Add a packet with a given label."""
        self._take_part(sender, receiver)
        sealed = "sealed " if view.is_sealed and view.kind != SEALED else ""
        label = f"{sealed}{view.kind}, {view.length:,} bytes"
        arrow = Arrow(at, sender, receiver, label, style_of(view.kind), arrives, view.detail)
        if view.kind == _CHUNK:
            self._chunk(arrow, view)
        else:
            self.rows.append(arrow)

    def event(self, at: float, identity: str, event: Event) -> None:
        """Add an event that an engine reported."""
        self.event_fields(at, identity, type(event).__name__, event._asdict())

    def event_fields(
        self, at: float, identity: str, kind: str, fields: Mapping[str, object]
    ) -> None:
        """Add an event by the name of its class. A reason can be the member of its enum or text."""
        match kind:
            case "CallSucceeded":
                self.note(at, identity, f"succeeded: {shown(fields['payload'])}", Style.GOOD)
            case "CallFailed":
                data = f" ({_brief(fields['data'])})" if fields["data"] else ""
                text = f"failed: {fields['code']} {_brief(fields['message'])}{data}"
                self.note(at, identity, text, Style.BAD)
            case "InvocationReceived":
                self.note(at, identity, f"runs {fields['method']}")
            case "InvocationAbandoned":
                self.note(at, identity, f"abandons it: {_reason(fields)}")
            case "PacketIgnored":
                self.note(at, identity, f"ignores a packet: {_reason(fields)}")

    def text(self, width: int = MAX_WIDTH, glyphs: Glyphs = BOXES) -> str:
        """Return the diagram in lines of `width` columns, or an empty text if there is nothing to
        draw."""
        return "" if not self.rows else as_text(self.layout(width), glyphs)

    def svg(self, *, inline: bool = False) -> str:
        """Return the diagram as a self-contained SVG picture. With `inline`, return one for an HTML
        page that contains `svg_style()`."""
        title = f"RPC between {' and '.join(self.participants)}" if self.rows else "No RPC"
        width = max(_SVG_WIDTH, self._width_each() * len(self.participants))
        return as_svg(
            self.layout(width), title, "\n".join(map(_sentence, self.rows)), inline=inline
        )

    def _width_each(self) -> int:
        """The columns of a participant in which the labels of all arrows fit."""
        arrows = (row for row in self.rows if isinstance(row, Arrow))
        longest = max((max(len(row.label), len(row.detail)) for row in arrows), default=0)
        return max(WIDTH_EACH, longest + 6)

    def layout(self, width: int) -> Layout:
        """Return the positions in the diagram, in `width` columns."""
        return lay_out(self.participants, self.rows, width)

    def _chunk(self, arrow: Arrow, view: PacketView) -> None:
        """A chunk that comes right after one of the same stream is shown together with it."""
        stream = (arrow.sender, arrow.receiver, view.stream_id, arrow.arrives)
        number, length = 1, view.length
        last = self._chunks
        if last and last[:4] == stream and self.rows and self.rows[-1] is last.row:
            number, length = last.number + 1, last.length + length
            sealed = "sealed " if view.is_sealed else ""
            label = f"{number} {sealed}stream chunks, {length:,} bytes"
            arrow = arrow._replace(at=last.row.at, label=label)
            self.rows.pop()
        self.rows.append(arrow)
        self._chunks = _Chunks(*stream, number, length, arrow)

    def _take_part(self, *participants: str) -> None:
        for participant in participants:
            if participant not in self._known:
                self._known.add(participant)
                self.participants.append(participant)


def sender_of(packet: Packet | None, told: str | None) -> str:
    """Return the sender that the host named, or else the one that the packet names."""
    return told or (packet and packet.sender_identity) or NOBODY


def _of_the_body(header: StreamHeader) -> str:
    """What a header says of the body."""
    size = "" if header.total_length is None else f"{header.total_length:,} bytes"
    if header.inline_content is None:
        return f"{size or 'a body'} to follow"
    compressed = " compressed" if header.compression == DEFLATE_RAW else ""
    return ", ".join(filter(None, ("inline" + compressed, size)))


def _brief(text: object) -> str:
    """A text of an error, or its size if it is long."""
    if isinstance(text, LongText) or len(str(text)) > MAX_DETAIL_BYTES:
        return shown(text)
    return str(text)


def _reason(fields: Mapping[str, object]) -> str:
    reason = fields["reason"]
    return str(getattr(reason, "value", reason))


def _sentence(row: Row) -> str:
    """A row for those who do not see the diagram."""
    if isinstance(row, Note):
        return f"{row.at:.3f} s, {row.participant}: {row.text}"
    what = ", ".join(filter(None, (row.label, row.detail)))
    lost = "" if row.arrives else ", which gets lost"
    return f"{row.at:.3f} s, {row.sender} to {row.receiver}: {what}{lost}"
