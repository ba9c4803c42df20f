"""Packets on a byte stream, without I/O: frames and the hello.

A frame is a length (4 bytes, big-endian, at least 1), followed by as many bytes. The first frame of
each side is its hello, a small JSON object. Every later frame is a packet. Bytes from outside raise
only `BadPeer`, and never need more memory than one frame.
"""

import json
import struct
from dataclasses import dataclass
from typing import Final, final

from rpcproto.core.errors import LocalProtocolError, require_name
from rpcproto.core.messages import MAX_IDENTITY_BYTES
from rpcproto.transports import BATCH_BYTES, BATCH_EVENTS, OUR_CAPABILITIES, OUR_CLIENT_PROTOCOL

__all__ = ["MAX_HELLO_BYTES", "VERSION", "BadPeer", "FrameReader", "Hello", "Link", "frame"]


VERSION: Final = 1
"""The version of the framing, which the hello names."""
MAX_HELLO_BYTES: Final = 4_096
"""The maximum size of a hello."""
MAX_CAPABILITIES: Final = 64
MAX_NUMBER: Final = 2**31 - 1
"""Of `client_protocol` and of a capability, which are int32 and an enum with LiveKit."""

_LENGTH_BYTES: Final = 4
_LENGTH: Final = struct.Struct(">I")


class BadPeer(ConnectionError):  # noqa: N818 (who it was, not an error of the program)
    """The peer violated the framing. The message names the reason."""


def frame(*contents: bytes) -> bytes:
    """Return a frame for each of `contents`, which have 1 to 2^32 - 1 bytes."""
    parts = [part for data in contents for part in (_LENGTH.pack(len(data)), data)]
    return b"".join(parts)


@final
class FrameReader:
    """Cuts a byte stream into frames, in time linear in the bytes, however the stream is split.

    If you call `next_frames` until it is empty after each `feed`, the reader never keeps more than
    a part of one frame.
    """

    def __init__(self) -> None:
        self._rest = bytearray()

    def __len__(self) -> int:
        """Bytes that wait: frames that were not taken, and the part of one that is not whole."""
        return len(self._rest)

    def feed(self, data: bytes) -> None:
        """Add the next bytes of the stream, any number of them."""
        self._rest += data

    def next_frames(self, max_bytes: int, most: int = 1, most_bytes: int = 0) -> list[bytes]:
        """Return the next complete frames: at most `most` frames with at most `most_bytes`
        together. A first frame that is larger comes alone.

        Raises:
            BadPeer: A frame is empty or has more than `max_bytes`. Raised when its length has
                arrived and earlier frames were taken, and by every later call.
        """
        rest, frames, begin = self._rest, list[bytes](), 0
        available = len(rest)
        with memoryview(rest) as view:
            while len(frames) < most and available - begin >= _LENGTH_BYTES:
                (length,) = _LENGTH.unpack_from(view, begin)
                if not 0 < length <= max_bytes:
                    if frames:
                        break
                    raise BadPeer(_why_not(length, max_bytes))
                end = begin + _LENGTH_BYTES + length
                if end > available or (frames and length > most_bytes):
                    break
                frames.append(bytes(view[begin + _LENGTH_BYTES : end]))
                most_bytes -= length
                begin = end
        del rest[:begin]  # moves no bytes, only the beginning
        return frames


def _why_not(length: int, max_bytes: int) -> str:
    if not length:
        return "an empty frame"
    beginning = length.to_bytes(_LENGTH_BYTES)
    return f"a frame of {length} bytes, more than {max_bytes} (it begins with {beginning!r})"


@final
@dataclass(frozen=True, slots=True)
class Hello:
    """The identity and capabilities that a participant announces to its peer.

    `identity` has 1 to 256 bytes of UTF-8. `client_protocol` and each of at most 64 `capabilities`
    are 0 to 2^31 - 1.

    Raises:
        LocalProtocolError: A value is out of range.
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
        """Return the hello as the content of a frame, at most 4096 bytes."""
        fields = {
            "rpcproto": VERSION,
            "identity": self.identity,
            "client_protocol": self.client_protocol,
            "capabilities": self.capabilities,
        }
        return json.dumps(fields, separators=(",", ":")).encode()

    @classmethod
    def read(cls, data: bytes) -> "Hello":
        """Return the hello in the content of a frame.

        Unknown fields are ignored. A missing `client_protocol` is 0, and missing `capabilities` are
        none.

        Raises:
            BadPeer: The content is not a valid hello.
        """
        try:
            fields = json.loads(data.decode())
        except (ValueError, RecursionError):
            raise BadPeer("the hello is not JSON") from None
        if not isinstance(fields, dict) or "rpcproto" not in fields:
            raise BadPeer("the hello is not one of rpcproto")
        version = fields["rpcproto"]
        if type(version) is not int or version != VERSION:
            raise BadPeer(f"the hello is not of version {VERSION}")
        client_protocol = fields.get("client_protocol", 0)
        capabilities = fields.get("capabilities", [])
        if not (_is_number(client_protocol) and isinstance(capabilities, list)):
            raise BadPeer("the hello has an invalid client_protocol or invalid capabilities")
        try:
            return cls(fields.get("identity", ""), client_protocol, tuple(capabilities))
        except LocalProtocolError as error:
            raise BadPeer(f"the hello is invalid: {error}") from None


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_NUMBER


def _are_capabilities(values: tuple[object, ...]) -> bool:
    return len(values) <= MAX_CAPABILITIES and all(map(_is_number, values))


@final
class Link:
    """One side of a stream.

    Write `hello` first, then `frame(packet)` for each packet. Pass received bytes to
    `receive_bytes`, then call `next_packets` until it returns none. Call `receive_end` at the end
    of the stream.
    """

    def __init__(self, ours: Hello, max_frame_bytes: int) -> None:
        """Limit packets to `max_frame_bytes`, without their length field."""
        self.hello: bytes = frame(ours.write())
        """The first bytes to write."""
        self.peer: Hello | None = None
        """The peer's hello, or None before it has arrived."""
        self._our_identity = ours.identity
        self._max_frame_bytes = max_frame_bytes
        self._reader = FrameReader()

    @property
    def has_bytes(self) -> bool:
        """Whether received bytes wait for `next_packets`."""
        return bool(self._reader)

    def receive_bytes(self, data: bytes) -> None:
        """Process the next bytes of the peer.

        Raises:
            BadPeer: The hello is invalid, or contains this side's identity.
        """
        self._reader.feed(data)
        if self.peer is not None:
            return
        for hello in self._reader.next_frames(MAX_HELLO_BYTES):
            peer = Hello.read(hello)
            if peer.identity == self._our_identity:
                raise BadPeer(f"the peer has the same identity, {peer.identity!r}")
            self.peer = peer

    def next_packets(self) -> list[bytes]:
        """Return the packets that wait, within the limits of a batch (see `Transport.receive`).

        Raises:
            BadPeer: The next packet is empty or too large. Raised after the packets before it
                were returned.
        """
        if self.peer is None:
            return []
        return self._reader.next_frames(self._max_frame_bytes, BATCH_EVENTS, BATCH_BYTES)

    def receive_end(self) -> None:
        """Process the end of the peer's bytes.

        Raises:
            BadPeer: The stream ended before the hello, or within a frame.
        """
        if self.peer is None:
            raise BadPeer("the stream ended before the hello")
        if self._reader:
            raise BadPeer(f"the stream ended after {len(self._reader)} bytes of a frame")
