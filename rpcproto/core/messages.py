"""What travels, as plain values: one class for each kind of packet, without any encoding.

`wire` reads and writes them. Request, ack and response travel as packets (RPC v1; acks and errors
of v2 too) or as streams (RPC v2). The headers here are what an engine reads of a stream's header;
all of one is in `rpcproto.wire`, as are packets as a whole.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final, NamedTuple, TypeAlias, final

MAX_V1_PAYLOAD_BYTES: Final = 15_360
"""The largest payload that a packet of RPC v1 may carry, in bytes of UTF-8 (R8, R17)."""
MAX_METHOD_BYTES: Final = 64
"""The longest name of a method, in bytes of UTF-8."""
MAX_IDENTITY_BYTES: Final = 256
"""The longest identity or sid, in bytes of UTF-8."""
MAX_ID_BYTES: Final = 128
"""The longest request id or stream id, in bytes of UTF-8 (R28)."""
USUAL_ID_BYTES: Final = 36
"""A UUID as text, which nearly all ids are (R13)."""
MAX_UINT32: Final = 2**32 - 1
"""The largest number in a field of 32 bits."""
PACKET_VERSION: Final = 1
"""The version in a request packet (RPC v1)."""

REQUEST_TOPIC: Final = "lk.rpc_request"
"""The topic of request streams."""
RESPONSE_TOPIC: Final = "lk.rpc_response"
"""The topic of response streams."""
UNCOMPRESSED: Final = 0
"""The compression of a stream header whose body is not compressed."""
DEFLATE_RAW: Final = 1
"""The compression of a stream header whose body is raw DEFLATE (RFC 1951)."""


Attributes: TypeAlias = Mapping[str, str]
"""The attributes of a stream header."""

new_value: Final = tuple.__new__
"""Makes a NamedTuple from its class and a tuple in half the time that calling the class takes."""


IV_BYTES: Final = 12
"""The size of an initialization vector (R43)."""
TAG_BYTES: Final = 16
"""The size of an authentication tag, which ends the ciphertext (R43)."""


class PacketKind(Enum):
    """The content of an outgoing packet."""

    REQUEST = "request"
    ACK = "ack"
    RESPONSE = "response"
    ERROR = "error"
    STREAM_HEADER = "stream header"
    STREAM_CHUNK = "stream chunk"
    STREAM_TRAILER = "stream trailer"


@final
class Request(NamedTuple):
    """A v1 request."""

    request_id: str
    """The id of the call, 1 to 128 bytes. Engines make lower-case UUIDv4s (R13)."""
    method: str
    """The method to call. Engines send 1 to 64 bytes, and refuse others (R15)."""
    payload: str
    """The argument. Engines send up to 15,360 bytes (R8), and read up to `max_payload_bytes`."""
    response_timeout_ms: int
    """The time for the handler in milliseconds, 0 to 2^32 - 1 (R5, R20)."""
    version: int = PACKET_VERSION
    """The version, 0 to 2^32 - 1. Engines answer all but 1 with 1404 (R15)."""
    compressed: bool = False
    """Whether the unused field `compressed_payload` is present (R34). It is never written."""


RequestFields: TypeAlias = tuple[str, str, str, int, int, bytes]
"""A `Request` taken apart."""


@final
class Ack(NamedTuple):
    """The responder has received a request, or the header of its stream (R14)."""

    request_id: str
    """The id of the request: 1 to 128 bytes."""


@final
class Response(NamedTuple):
    """A successful v1 response."""

    request_id: str
    """The id of the request: 1 to 128 bytes."""
    payload: str | None
    """The result. Engines send up to 15,360 bytes (R17). None means that no payload can be read,
    and the call fails (R34)."""


@final
class ErrorResponse(NamedTuple):
    """An error, as the response to requests of both versions (R17)."""

    request_id: str
    """The id of the request: 1 to 128 bytes."""
    code: int
    """An `ErrorCode`, or a code of the application: 0 to 2^32 - 1."""
    message: str
    """A text for people. Engines cut it to 256 bytes when sending and receiving (R18)."""
    data: str
    """A text for programs. Engines cut it to 15,360 bytes when sending and receiving (R18)."""


BodyFields: TypeAlias = tuple[bool, int | None, bytes | None, bool]
"""What the header of a stream says of its body: whether it makes sense at all (R27), the length of
the body, its inline content, and whether it is compressed."""
HeaderFields: TypeAlias = tuple[str, str, bool, BodyFields, tuple[str, int, bool]]
"""What an engine reads of a stream's header, where it looks attributes up and copies none: stream
id; request id, empty if there is none that can be one; whether the text was generated; the body.
And of a request its method, the caller's figure in milliseconds, and whether its version is the one
that we speak (R15)."""


@final
class StreamChunk(NamedTuple):
    """A part of the body of a stream (R25)."""

    stream_id: str
    """The id in the header of the stream: 1 to 128 bytes."""
    chunk_index: int
    """The number of chunks of the stream that precede it: 0 to 2^64 - 1."""
    content: bytes
    """The next bytes of the body, compressed if the header says so. Engines send up to 15,000 bytes
    (R29)."""


@final
class StreamTrailer(NamedTuple):
    """The end of a stream (R25)."""

    stream_id: str
    """The id in the header of the stream: 1 to 128 bytes."""
    reason: str
    """Empty if the body is complete; otherwise the stream failed. Engines send `cancelled` for a
    body that they do not finish (R38)."""


@final
class Sealed(NamedTuple):
    """A packet that is encrypted end to end (R43)."""

    key_index: int
    """The index of the sender's key: 0 to 2^32 - 1."""
    iv: bytes
    """The initialization vector. Engines write 12 bytes, and accept no other length (R44)."""
    ciphertext: bytes
    """The encrypted message, and a tag of 16 bytes at its end."""


@final
class Unread(NamedTuple):
    """A packet of a kind that does not belong to RPC. Its content is not read (R34)."""

    kind: str
    """The name of its field, such as `chat_message`, or empty if the kind is unknown."""


Message: TypeAlias = (
    Request | Ack | Response | ErrorResponse | StreamChunk | StreamTrailer | Sealed | Unread
)
"""A message of RPC, or what stands for one that is not read."""


@final
class OutgoingPacket(NamedTuple):
    """A packet to send: `data` to `destination_identity`, reliably and in order.

    `request_id` and `kind` are for logs, and for transports that route by them. `token` is private
    to the engine: `send_failed` uses it to find the call or answer of the packet (R10).
    """

    data: bytes
    destination_identity: str
    request_id: str
    kind: PacketKind
    token: int


PacketFields: TypeAlias = tuple[bytes, str, str, PacketKind, int]
"""An `OutgoingPacket` taken apart."""


def fits(text: str, max_bytes: int) -> bool:
    """Whether a received text is at most `max_bytes` of UTF-8."""
    if len(text) * 4 <= max_bytes:
        return True
    return len(text) <= max_bytes and (text.isascii() or len(text.encode()) <= max_bytes)


def is_id(text: str) -> bool:
    """Whether a received text can be a request id or a stream id (R28)."""
    if len(text) == USUAL_ID_BYTES and text.isascii():
        return True
    return 0 < len(text) <= MAX_ID_BYTES and (text.isascii() or fits(text, MAX_ID_BYTES))
