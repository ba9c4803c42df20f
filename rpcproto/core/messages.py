"""What travels, as plain values: one class for each kind of packet, without any encoding.

`wire` turns bytes into a `Packet` and messages into bytes. Names are PROTOCOL's: request, ack and
response travel as packets (RPC v1; acks and errors of v2 too) or as streams (RPC v2).
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

MAX_V1_PAYLOAD_BYTES: Final = 15_360
MAX_METHOD_BYTES: Final = 64
MAX_IDENTITY_BYTES: Final = 256
MAX_ID_BYTES: Final = 128
MAX_UINT32: Final = 2**32 - 1
PACKET_VERSION: Final = 1

REQUEST_TOPIC: Final = "lk.rpc_request"
RESPONSE_TOPIC: Final = "lk.rpc_response"
STREAM_VERSION: Final = "2"
REQUEST_ID: Final = "lk.rpc_request_id"
METHOD: Final = "lk.rpc_request_method"
RESPONSE_TIMEOUT_MS: Final = "lk.rpc_request_response_timeout_ms"
VERSION: Final = "lk.rpc_request_version"
UNSTATED_TIMEOUT_MS: Final = 15_000
"""What a request stream without a timeout is taken to mean, as the native clients do (R27)."""
MAX_TIMEOUT_DIGITS: Final = 20
UNCOMPRESSED: Final = 0
DEFLATE_RAW: Final = 1


Attributes: TypeAlias = Mapping[str, str]

new_value: Final = tuple.__new__
"""Makes a NamedTuple from its class and a tuple in half the time that calling the class takes."""


class PacketKind(Enum):
    """What an outgoing packet carries."""

    REQUEST = "request"
    ACK = "ack"
    RESPONSE = "response"
    ERROR = "error"
    STREAM_HEADER = "stream header"
    STREAM_CHUNK = "stream chunk"
    STREAM_TRAILER = "stream trailer"


class Request(NamedTuple):
    """A v1 request: call `method` with `payload`, in `response_timeout_ms` milliseconds."""

    request_id: str
    method: str
    payload: str
    response_timeout_ms: int
    version: int = PACKET_VERSION
    compressed: bool = False
    """Whether the dead field `compressed_payload` carries anything (R34)."""


RequestFields: TypeAlias = tuple[str, str, str, int, int, bool]
"""A `Request` taken apart."""


class Ack(NamedTuple):
    """The responder has the request, or the header of its stream."""

    request_id: str


class Response(NamedTuple):
    """A v1 response; `payload` is None when there is none that can be read (R34)."""

    request_id: str
    payload: str | None


class ErrorResponse(NamedTuple):
    """A response that is an error; errors never travel as streams (R17)."""

    request_id: str
    code: int
    message: str
    data: str


class StreamHeader(NamedTuple):
    """The beginning of a stream (RPC v2), or all of it when `inline_content` is not None."""

    stream_id: str
    topic: str
    attributes: Attributes
    total_length: int | None
    """Bytes of the body before compression."""
    timestamp_ms: int
    inline_content: bytes | None = None
    compression: int = UNCOMPRESSED
    is_text: bool = True
    generated: bool = False

    @property
    def request_id(self) -> str:
        """The call that the stream belongs to, empty where the header does not say."""
        return self.attributes.get(REQUEST_ID, "")

    @property
    def method(self) -> str:
        """The method of a request, empty where the header does not say."""
        return self.attributes.get(METHOD, "")

    @property
    def response_timeout_ms(self) -> int | None:
        """The caller's figure, in milliseconds; None if it is no number (R27)."""
        text = self.attributes.get(RESPONSE_TIMEOUT_MS)
        if text is None:
            return UNSTATED_TIMEOUT_MS
        if not (text.isascii() and text.isdigit() and len(text) <= MAX_TIMEOUT_DIGITS):
            return None
        return min(int(text), MAX_UINT32)

    @property
    def has_our_version(self) -> bool:
        """Whether a request is of the version that we speak (R15)."""
        return self.attributes.get(VERSION) == STREAM_VERSION


def request_attributes(request_id: str, method: str, response_timeout_ms: int) -> Attributes:
    """What the header of a request stream says of its call."""
    return {
        REQUEST_ID: request_id,
        METHOD: method,
        RESPONSE_TIMEOUT_MS: str(response_timeout_ms),
        VERSION: STREAM_VERSION,
    }


def response_attributes(request_id: str) -> Attributes:
    """What the header of a response stream says of its call: the id alone."""
    return {REQUEST_ID: request_id}


class StreamChunk(NamedTuple):
    """The next piece of a stream's body."""

    stream_id: str
    chunk_index: int
    content: bytes


class StreamTrailer(NamedTuple):
    """The end of a stream; one with a reason ended before its time."""

    stream_id: str
    reason: str


class Unread(NamedTuple):
    """A packet of a kind that is none of our business; `kind` is its field name, or empty."""

    kind: str


OutgoingMessage: TypeAlias = (
    Request | Ack | Response | ErrorResponse | StreamHeader | StreamChunk | StreamTrailer
)
Message: TypeAlias = OutgoingMessage | Unread


class Packet(NamedTuple):
    """A received packet. Sender fields are what the packet claims, not what is true (R36)."""

    sender_identity: str
    sender_sid: str
    destination_identities: Sequence[str]
    sequence: int
    message: Message


class OutgoingPacket(NamedTuple):
    """A packet to be sent as it is: `data` to `destination_identity`, reliably and in order.

    `request_id` and `kind` are for logs and for transports that route by them. `token` is the
    engine's own: it tells `send_failed` what the packet belonged to (R10).
    """

    data: bytes
    destination_identity: str
    request_id: str
    kind: PacketKind
    token: int


def fits(text: str, max_bytes: int) -> bool:
    """Whether a received text is at most `max_bytes` of UTF-8."""
    if len(text) * 4 <= max_bytes:
        return True
    return len(text) <= max_bytes and (text.isascii() or len(text.encode()) <= max_bytes)


def is_id(text: str) -> bool:
    """Whether a received text can be a request id or a stream id (R28)."""
    return 0 < len(text) <= MAX_ID_BYTES and (text.isascii() or fits(text, MAX_ID_BYTES))
