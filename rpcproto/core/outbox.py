"""What leaves next: small packets in the order of their making, then bodies in turn (R30)."""

from collections import OrderedDict, deque
from typing import Final

from rpcproto.core.config import RpcConfig
from rpcproto.core.messages import (
    DEFLATE_RAW,
    UNCOMPRESSED,
    OutgoingPacket,
    PacketFields,
    PacketKind,
)
from rpcproto.core.roster import Abilities
from rpcproto.core.stream_writer import (
    BOM,
    CANCELLED,
    CHUNK_BYTES,
    MIN_COMPRESSED_BYTES,
    SMALL_BODY_BYTES,
    Address,
    DeflatedSource,
    PlainSource,
    StreamWriter,
    deflated_at_once,
)
from rpcproto.core.wire import (
    Opening,
    envelope,
    id_of_trailer,
    write_chunk,
    write_header,
    write_trailer,
)

TOO_MANY_WAITING_PACKETS: Final = "too many packets are waiting to be sent"
TOO_MANY_WAITING_BYTES: Final = "too many bytes are waiting to be sent"

MAX_DEFLATING: Final = 64
"""Bodies that are compressed at the same time: each costs a quarter of a megabyte of state."""

_HEADER: Final = PacketKind.STREAM_HEADER
_CHUNK: Final = PacketKind.STREAM_CHUNK
_TRAILER: Final = PacketKind.STREAM_TRAILER


class Outbox:
    """Packets and bodies that wait until the host takes them."""

    def __init__(self, identity: str, config: RpcConfig) -> None:
        self._identity = identity
        self.max_packets: int = config.max_waiting_packets
        self.max_bytes: int = config.max_waiting_bytes
        self.small: deque[PacketFields] = deque()
        """Packets that leave first; a body is not cut into packets before they are taken."""
        self.streams: OrderedDict[int, StreamWriter] = OrderedDict()
        """Bodies that are still leaving, by token, in the order of their turns."""
        self._to: dict[str, dict[int, StreamWriter]] = {}
        """The same by the identity of their recipient; no entry is empty."""
        # The sender's field does not count (R29).
        own_bytes = len(envelope(identity, "")) - len(envelope("", ""))
        self._max_inline_bytes = CHUNK_BYTES + own_bytes
        self._deflating = 0
        self.waiting_bytes: int = 0
        """Of small packets and of whole bodies, which are in memory until their last chunk."""
        self.packets_out: int = 0

    def send(
        self, kind: PacketKind, data: bytes, identity: str, request_id: str, token: int = 0
    ) -> None:
        """Queue a small packet to `identity`; `token` names what fails if it cannot be sent (R10).

        Packets that every call has are queued in line, by these same two steps.
        """
        self.waiting_bytes += len(data)
        self.small.append((data, identity, request_id, kind, token))

    def send_stream(
        self,
        opening: Opening,
        request_id: str,
        body: bytes,
        recipient: Address,
        abilities: Abilities,
        token: int,
    ) -> None:
        """Queue a body in the best form that a recipient of these abilities can take (R29): inline,
        compressed if that is smaller, and else in chunks. `token` as in `send`."""
        size, identity, compression = len(body), recipient[0], UNCOMPRESSED
        content: bytes | bytearray = body
        shorter: bytes | bytearray
        deflated: DeflatedSource | None = None
        if abilities.deflate and size >= MIN_COMPRESSED_BYTES and self._deflating < MAX_DEFLATING:
            if size > SMALL_BODY_BYTES:
                deflated = DeflatedSource(body)
                deflated.fill(self._max_inline_bytes)  # more than one chunk carries, or all
                shorter, read = deflated.ready, deflated.bytes_in
            else:
                shorter, read = deflated_at_once(body), size
            if len(shorter) < read:
                content, compression = shorter, DEFLATE_RAW
        if abilities.inline and len(content) <= CHUNK_BYTES:
            header = write_header(opening, size, content, compression)
            if len(header) <= self._max_inline_bytes:
                self.waiting_bytes += len(header)
                self.small.append((header, identity, request_id, _HEADER, token))
                return
        if body.startswith(BOM):
            content, compression = body, UNCOMPRESSED
        header = write_header(opening, size, None, compression)
        envelope, stream_id, _, _ = opening
        if len(content) > CHUNK_BYTES:
            self.send(_HEADER, header, identity, request_id, token)
            source = deflated if deflated and compression else PlainSource(body)
            stream = StreamWriter(envelope, stream_id, request_id, source, *recipient, token, size)
            self.streams[token] = stream
            self._to.setdefault(identity, {})[token] = stream
            self._deflating += stream.is_deflating
            self.waiting_bytes += size
            return
        # All of a stream of one chunk leaves at once (R30).
        chunk = write_chunk(envelope, stream_id, 0, content) if content else b""
        trailer = write_trailer(envelope, stream_id)
        self.waiting_bytes += len(header) + len(chunk) + len(trailer)
        self.small.append((header, identity, request_id, _HEADER, token))
        if chunk:
            self.small.append((chunk, identity, request_id, _CHUNK, token))
        self.small.append((trailer, identity, request_id, _TRAILER, token))

    def take_part(self) -> PacketFields | None:
        """A part of the body whose turn it is, which leaves if nothing small waits. It counts as
        waiting."""
        if not self.streams:
            return None
        stream = next(iter(self.streams.values()))
        packet = stream.next_packet()
        if packet[3] is _TRAILER:
            self._drop(stream)
        else:
            self.streams.move_to_end(stream.token)
        self.waiting_bytes += len(packet[0])
        return packet

    def end_stream(self, token: int, *, cancelled: bool = True) -> None:
        """Drop what is not made yet of a body, and tell the receiver if `cancelled` (R38)."""
        stream = self.streams.get(token)
        if stream is not None:
            self._drop(stream)
            if cancelled:
                self._cancel(stream.stream_id, stream.destination_identity, stream.request_id)

    def fail_stream(self, packet: OutgoingPacket) -> None:
        """A packet of a stream could not be sent: drop the rest, and say so if it began (R10).

        Of the packet, its token and kind alone are looked at.
        """
        token, is_chunk = packet.token, packet.kind is _CHUNK
        self.end_stream(token, cancelled=is_chunk)
        # The parts of a short stream are queued together, so what is left of one is in front.
        while self.small and self.small[0][-1] == token:
            data, identity, request_id, kind, _ = self.small.popleft()
            self.waiting_bytes -= len(data)
            # Without a header there is no stream to end, and after its own trailer none is left.
            if kind is _TRAILER and is_chunk:
                self._cancel(id_of_trailer(data), identity, request_id)

    def drop_streams(self, identity: str, sid: str) -> None:
        """Drop the bodies for a participant that left (R19)."""
        for stream in list(self._to.get(identity, {}).values()):
            if not sid or stream.destination_sid in ("", sid):
                self._drop(stream)

    def drop_all_streams(self) -> None:
        """Drop all bodies (R41, R42)."""
        for stream in list(self.streams.values()):
            self._drop(stream)

    def clear(self) -> None:
        """Drop everything: the connection is lost (R41)."""
        self.drop_all_streams()
        self.small.clear()
        self.waiting_bytes = 0

    def _drop(self, stream: StreamWriter) -> None:
        token, identity = stream.token, stream.destination_identity
        del self.streams[token]
        del self._to[identity][token]
        if not self._to[identity]:
            del self._to[identity]
        self._deflating -= stream.is_deflating
        self.waiting_bytes -= stream.body_bytes

    def _cancel(self, stream_id: bytes, destination_identity: str, request_id: str) -> None:
        before = envelope(self._identity, destination_identity)
        data = write_trailer(before, stream_id, CANCELLED)
        self.send(_TRAILER, data, destination_identity, request_id)
