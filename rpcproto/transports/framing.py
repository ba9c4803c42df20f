"""Packets on a byte stream, without any I/O: frames, the hello, and what the bytes of a peer mean.

A frame is 4 bytes of length, big-endian, and that many bytes. The first frame of each side is its
hello, a small JSON object; every later one is a packet. Bytes from outside raise `BadPeer` and
nothing else, and never cost more memory than one frame.
"""

import json
from dataclasses import dataclass
from typing import Final

from rpcproto.core.errors import LocalProtocolError, require_name
from rpcproto.core.messages import MAX_IDENTITY_BYTES
from rpcproto.transports import OUR_CAPABILITIES, OUR_CLIENT_PROTOCOL

VERSION: Final = 1
MAX_HELLO_BYTES: Final = 4_096
MAX_CAPABILITIES: Final = 64
MAX_NUMBER: Final = 2**31 - 1
"""Of `client_protocol` and of a capability, which are int32 and an enum with LiveKit."""

_LENGTH_BYTES: Final = 4


class BadPeer(ConnectionError):  # noqa: N818 (who it was, not an error of the program)
    """What came from the peer is not what this transport speaks; the text says what it was."""


def frame(data: bytes) -> bytes:
    """`data`, at most 2^32 - 1 bytes, as it goes onto the stream."""
    return len(data).to_bytes(_LENGTH_BYTES) + data


class FrameReader:
    """Cuts a byte stream into frames, wherever the pieces of it end.

    In time linear in the bytes. Who takes `next_frame` until it is None after each `feed` never has
    it keep more than a part of one frame.
    """

    def __init__(self) -> None:
        self._rest = bytearray()

    def __len__(self) -> int:
        """Bytes that wait: frames that were not taken, and the part of one that is not whole."""
        return len(self._rest)

    def feed(self, data: bytes) -> None:
        """The next bytes of the stream, any number of them."""
        self._rest += data

    def next_frame(self, max_bytes: int) -> bytes | None:
        """The next frame, or None while it is not whole.

        Raises BadPeer for a frame of more than `max_bytes`, as soon as its length is there, and
        then at every further call.
        """
        rest = self._rest
        if len(rest) < _LENGTH_BYTES:
            return None
        length = int.from_bytes(rest[:_LENGTH_BYTES])
        if length > max_bytes:
            beginning = bytes(rest[:_LENGTH_BYTES])
            raise BadPeer(
                f"a frame of {length} bytes, more than {max_bytes} (it begins with {beginning!r})"
            )
        end = _LENGTH_BYTES + length
        if len(rest) < end:
            return None
        with memoryview(rest) as view:
            data = bytes(view[_LENGTH_BYTES:end])
        del rest[:end]  # moves no bytes, only the beginning
        return data


@dataclass(frozen=True, slots=True)
class Hello:
    """Who a participant is and what it can do: what a transport announces of it.

    `identity` is 1 to 256 bytes of UTF-8, `client_protocol` and each of at most 64 `capabilities`
    are 0 to 2^31 - 1. Raises LocalProtocolError for others.
    """

    identity: str
    client_protocol: int = OUR_CLIENT_PROTOCOL
    capabilities: tuple[int, ...] = OUR_CAPABILITIES

    def __post_init__(self) -> None:
        require_name(self.identity, "identity", MAX_IDENTITY_BYTES)
        if not _is_number(self.client_protocol):
            raise LocalProtocolError(f"client_protocol must be an int from 0 to {MAX_NUMBER}")
        if not _are_capabilities(self.capabilities):
            raise LocalProtocolError(
                f"capabilities must be at most {MAX_CAPABILITIES} ints from 0 to {MAX_NUMBER}"
            )

    def write(self) -> bytes:
        """The hello as the content of a frame, at most 4096 bytes."""
        fields = {
            "rpcproto": VERSION,
            "identity": self.identity,
            "client_protocol": self.client_protocol,
            "capabilities": self.capabilities,
        }
        return json.dumps(fields, separators=(",", ":")).encode()

    @classmethod
    def read(cls, data: bytes) -> "Hello":
        """A peer's hello. Unknown fields are ignored; `client_protocol` may be absent for 0, and
        `capabilities` for none. Raises BadPeer."""
        try:
            fields = json.loads(data.decode())
        except (ValueError, RecursionError):
            raise BadPeer("the hello is not JSON") from None
        if not isinstance(fields, dict) or "rpcproto" not in fields:
            raise BadPeer("the hello is none of rpcproto")
        version = fields["rpcproto"]
        if type(version) is not int or version != VERSION:
            raise BadPeer(f"the hello is not of version {VERSION}")
        client_protocol = fields.get("client_protocol", 0)
        capabilities = fields.get("capabilities", [])
        if not (_is_number(client_protocol) and isinstance(capabilities, list)):
            raise BadPeer("the hello has a client_protocol or capabilities that cannot be")
        try:
            return cls(fields.get("identity", ""), client_protocol, tuple(capabilities))
        except LocalProtocolError as error:
            raise BadPeer(f"the hello says: {error}") from None


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_NUMBER


def _are_capabilities(values: tuple[object, ...]) -> bool:
    return len(values) <= MAX_CAPABILITIES and all(map(_is_number, values))


class Link:
    """One side of a stream: what to write, and what the bytes of the peer mean.

    Write `hello` first, then `frame(packet)` for each packet; hand over what comes with
    `receive_bytes`, and take `next_packet` until it is None; say `receive_end` at the end.
    """

    def __init__(self, ours: Hello, max_frame_bytes: int) -> None:
        """`max_frame_bytes` is the most that one packet may be, in bytes, without its length."""
        self.hello: bytes = frame(ours.write())
        """The first bytes to write."""
        self.peer: Hello | None = None
        """The peer's hello, once it has come."""
        self._our_identity = ours.identity
        self._max_frame_bytes = max_frame_bytes
        self._reader = FrameReader()

    def receive_bytes(self, data: bytes) -> None:
        """The next bytes of the peer. Raises BadPeer for a hello that cannot be."""
        self._reader.feed(data)
        if self.peer is not None:
            return
        hello = self._reader.next_frame(MAX_HELLO_BYTES)
        if hello is None:
            return
        peer = Hello.read(hello)
        if peer.identity == self._our_identity:
            raise BadPeer(f"the peer has our own identity, {peer.identity!r}")
        self.peer = peer

    def next_packet(self) -> bytes | None:
        """The next packet, or None while there is none. Raises BadPeer for one over the limit."""
        return None if self.peer is None else self._reader.next_frame(self._max_frame_bytes)

    def receive_end(self) -> None:
        """The peer writes no more. Raises BadPeer unless that was after the hello and between two
        frames."""
        if self.peer is None:
            raise BadPeer("the stream ended before the hello")
        if self._reader:
            raise BadPeer(f"the stream ended after {len(self._reader)} bytes of a frame")
