"""Packets on a byte stream, without any I/O: frames, the hello, and what the bytes of a peer mean.

A frame is 4 bytes of length, big-endian, and that many bytes, at least one. The first frame of each
side is its hello, a small JSON object; every later one is a packet. Bytes from outside raise
`BadPeer` and nothing else, and never cost more memory than one frame.
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
    """What came from the peer is not what this transport speaks; the text says what it was."""


def frame(*contents: bytes) -> bytes:
    """Return a frame for each of `contents`, 1 to 2^32 - 1 bytes, as they go onto the stream."""
    parts = [part for data in contents for part in (_LENGTH.pack(len(data)), data)]
    return b"".join(parts)


@final
class FrameReader:
    """Cuts a byte stream into frames, wherever its pieces end, in time linear in the bytes.

    A caller that takes `next_frames` until it is empty after each `feed` never makes it keep more
    than a part of one frame.
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
        """Return the next whole frames: at most `most`, and after the first one only as many as
        have `most_bytes` together.

        Raises BadPeer for a frame that is empty or has more than `max_bytes`, as soon as its length
        is there and those before it have been taken, and then at every further call.
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


@final
class Link:
    """One side of a stream: what to write, and what the bytes of the peer mean.

    Write `hello` first, then `frame(packet)` for each packet. Pass received bytes to
    `receive_bytes`, then take `next_packets` until there are none; call `receive_end` at the end.
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

    @property
    def has_bytes(self) -> bool:
        """Whether received bytes wait, which may be packets."""
        return bool(self._reader)

    def receive_bytes(self, data: bytes) -> None:
        """Take the next bytes of the peer. Raises BadPeer for an invalid hello."""
        self._reader.feed(data)
        if self.peer is not None:
            return
        for hello in self._reader.next_frames(MAX_HELLO_BYTES):
            peer = Hello.read(hello)
            if peer.identity == self._our_identity:
                raise BadPeer(f"the peer has our own identity, {peer.identity!r}")
            self.peer = peer

    def next_packets(self) -> list[bytes]:
        """Return the packets that wait, within the bounds of a batch (see `Transport.receive`).

        Raises BadPeer for one that is empty or over the limit, after those before it.
        """
        if self.peer is None:
            return []
        return self._reader.next_frames(self._max_frame_bytes, BATCH_EVENTS, BATCH_BYTES)

    def receive_end(self) -> None:
        """The peer writes no more. Raises BadPeer unless that was after the hello and between two
        frames."""
        if self.peer is None:
            raise BadPeer("the stream ended before the hello")
        if self._reader:
            raise BadPeer(f"the stream ended after {len(self._reader)} bytes of a frame")
