"""What leaves next: small packets in the order of their making, then bodies in turn (R30)."""

from collections import deque
from typing import Final

from rpcproto.core.config import RpcConfig
from rpcproto.core.messages import (
    Attributes,
    OutgoingPacket,
    PacketKind,
    StreamChunk,
    StreamHeader,
    StreamTrailer,
    new_value,
)
from rpcproto.core.roster import Participant
from rpcproto.core.stream_writer import CANCELLED, StreamWriter, choose_form
from rpcproto.core.wire import decode, encode

TOO_MANY_WAITING_PACKETS: Final = "too many packets are waiting to be sent"
TOO_MANY_WAITING_BYTES: Final = "too many bytes are waiting to be sent"

MAX_DEFLATING: Final = 64
"""Bodies that are compressed at the same time: each costs a quarter of a megabyte of state."""

MAX_UNIX_MS: Final = 2**62
"""Nobody reads the stamp of a stream; one beyond a million years must only not be too large."""

_STREAM_KINDS: Final = (
    PacketKind.STREAM_HEADER,
    PacketKind.STREAM_CHUNK,
    PacketKind.STREAM_TRAILER,
)


class Outbox:
    """Packets and bodies that wait until the host takes them."""

    def __init__(self, identity: str, config: RpcConfig, unix_time_offset: float) -> None:
        self._identity = identity
        self.max_packets: int = config.max_waiting_packets
        self.max_bytes: int = config.max_waiting_bytes
        self._unix_time_offset = unix_time_offset
        self.small: deque[OutgoingPacket] = deque()
        """Packets that leave first; a body is not cut into packets before they are taken."""
        self._turns: deque[StreamWriter] = deque()
        self.streams: dict[int, StreamWriter] = {}
        """Bodies that are still leaving, by token."""
        self._deflating = 0
        self.waiting_bytes: int = 0
        """Of small packets and of whole bodies, which are in memory until their last chunk."""
        self.packets_out: int = 0

    def send(
        self,
        kind: PacketKind,
        data: bytes,
        destination_identity: str,
        request_id: str,
        token: int = 0,
    ) -> None:
        """Queue a small packet; `token` names what fails if it cannot be sent (R10).

        The sides queue the packets of a v1 call in line, by these same two steps.
        """
        self.waiting_bytes += len(data)
        self.small.append(
            new_value(OutgoingPacket, (data, destination_identity, request_id, kind, token))
        )

    def send_stream(
        self,
        stream_id: str,
        topic: str,
        attributes: Attributes,
        body: bytes,
        recipient: Participant,
        token: int,
        now: float,
    ) -> None:
        """Queue a body in the best form that its recipient can take; `token` as in `send`."""
        header = StreamHeader(stream_id, topic, attributes, len(body), self._unix_ms(now))
        deflates = self._deflating < MAX_DEFLATING
        data, source, is_short = choose_form(header, body, self._identity, recipient, deflates)
        identity, request_id = recipient.identity, header.request_id
        self.send(PacketKind.STREAM_HEADER, data, identity, request_id, token)
        if source is None:
            return
        stream = StreamWriter(header, source, recipient, token, len(body))
        if is_short:
            kind = PacketKind.STREAM_HEADER
            while kind is not PacketKind.STREAM_TRAILER:
                kind, message = stream.next_message()
                data = encode(message, self._identity, identity)
                self.send(kind, data, identity, request_id, token)
        else:
            self.streams[token] = stream
            self._turns.append(stream)
            self._deflating += stream.is_deflating
            self.waiting_bytes += stream.body_bytes

    def take_of_stream(self) -> OutgoingPacket | None:
        """The next packet of the body whose turn it is; they leave when nothing small waits."""
        if not self._turns:
            return None
        stream = self._turns.popleft()
        kind, message = stream.next_message()
        if kind is PacketKind.STREAM_TRAILER:
            self._drop(stream)
        else:
            self._turns.append(stream)
        self.packets_out += 1
        identity = stream.destination_identity
        data = encode(message, self._identity, identity)
        return OutgoingPacket(data, identity, stream.request_id, kind, stream.token)

    def end_stream(self, token: int, *, cancelled: bool = True) -> None:
        """Drop what is not made yet of a body, and tell the receiver if `cancelled` (R38)."""
        stream = self.streams.get(token)
        if stream is not None:
            self._turns.remove(stream)
            self._drop(stream)
            if cancelled:
                self._cancel(stream.stream_id, stream.destination_identity, stream.request_id)

    def fail_stream(self, packet: OutgoingPacket) -> None:
        """A packet of a stream could not be sent: drop the rest, and say so if it began (R10)."""
        if packet.kind not in _STREAM_KINDS:
            return
        token = packet.token
        is_leaving = token in self.streams
        self.end_stream(token, cancelled=False)
        rest = [other for other in self.small if other.token == token]
        if rest:
            staying = [other for other in self.small if other.token != token]
            self.small.clear()
            self.small.extend(staying)
            self.waiting_bytes -= sum(len(other.data) for other in rest)
        # Without a header there is no stream to end, and after its own trailer none is left.
        if packet.kind is PacketKind.STREAM_CHUNK and (is_leaving or rest):
            failed = decode(packet.data)
            assert failed is not None
            assert isinstance(failed.message, StreamChunk)
            self._cancel(failed.message.stream_id, packet.destination_identity, packet.request_id)

    def drop_streams(self, identity: str | None = None, sid: str = "") -> None:
        """Drop the bodies for a participant that left, or all if there is none (R19, R41, R42)."""
        staying: deque[StreamWriter] = deque()
        for stream in self._turns:
            if identity is None or (
                stream.destination_identity == identity
                and (not sid or stream.destination_sid in ("", sid))
            ):
                self._drop(stream)
            else:
                staying.append(stream)
        self._turns = staying

    def clear(self) -> None:
        """Drop everything: the connection is lost (R41)."""
        self.drop_streams()
        self.small.clear()
        self.waiting_bytes = 0

    def _unix_ms(self, now: float) -> int:
        """The time stamp of a stream that begins now, in milliseconds."""
        return round(max(-MAX_UNIX_MS, min((self._unix_time_offset + now) * 1000, MAX_UNIX_MS)))

    def _drop(self, stream: StreamWriter) -> None:
        del self.streams[stream.token]
        self._deflating -= stream.is_deflating
        self.waiting_bytes -= stream.body_bytes

    def _cancel(self, stream_id: str, destination_identity: str, request_id: str) -> None:
        trailer = StreamTrailer(stream_id, CANCELLED)
        data = encode(trailer, self._identity, destination_identity)
        self.send(PacketKind.STREAM_TRAILER, data, destination_identity, request_id)
