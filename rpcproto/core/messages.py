"""What travels, as plain values: one class for each kind of packet, without any encoding.

`wire` turns bytes into a `Packet` and messages into bytes. Names are PROTOCOL's: request, ack and
response travel as packets (RPC v1; acks and errors of v2 too) or as streams (RPC v2).
"""

from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

MAX_V1_PAYLOAD_BYTES: Final = 15_360
MAX_METHOD_BYTES: Final = 64
MAX_IDENTITY_BYTES: Final = 256
MAX_ID_BYTES: Final = 128
MAX_UINT32: Final = 2**32 - 1
PACKET_VERSION: Final = 1


class Request(NamedTuple):
    """A v1 request: call `method` with `payload`, in `response_timeout_ms` milliseconds."""

    request_id: str
    method: str
    payload: str
    response_timeout_ms: int
    version: int = PACKET_VERSION
    compressed: bool = False
    """Whether the dead field `compressed_payload` carries anything (R34)."""


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


class Unread(NamedTuple):
    """A packet of a kind that is none of our business; `kind` is its field name, or empty."""

    kind: str


OutgoingMessage: TypeAlias = Request | Ack | Response | ErrorResponse
Message: TypeAlias = OutgoingMessage | Unread


class Packet(NamedTuple):
    """A received packet. Sender fields are what the packet claims, not what is true (R36)."""

    sender_identity: str
    sender_sid: str
    destination_identities: Sequence[str]
    sequence: int
    message: Message


class PacketKind(Enum):
    """What an outgoing packet carries."""

    REQUEST = "request"
    ACK = "ack"
    RESPONSE = "response"
    ERROR = "error"


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
