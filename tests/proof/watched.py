"""An engine whose every input is also told to the model, and what comes of it compared."""

import zlib
from collections.abc import Callable
from typing import Any

from model import FORMS, Model
from sealed_packets import opened_packet, sealed_data, toy
from stateful import moved

from rpcproto import (
    InvocationReceived,
    LocalProtocolError,
    OutgoingPacket,
    RpcConfig,
    RpcEngine,
    wire,
)
from rpcproto.core.packets_pb2 import DataPacket
from rpcproto.wire import Sealed

START = 1_000.0


class Watched:
    """Everything is taken after each input, and must be what the model expects."""

    def __init__(
        self,
        identity: str,
        new_id: Callable[[], str],
        config: RpcConfig,
        *methods: str,
        is_sealed: bool = False,
    ) -> None:
        self.identity, self.config = identity, config
        self.is_sealed = is_sealed
        """Whether packets are encrypted, which the model does not know: it has them plain."""
        cryptor = toy(identity) if is_sealed else None
        self.engine = RpcEngine(identity, new_id=new_id, config=config, cryptor=cryptor)
        self.model = Model(identity, config, set(methods))
        self.now = START
        self.given: list[tuple[OutgoingPacket, object]] = []
        """Packets that left, with what each of them fails if it could not be sent after all."""
        self.calls: list[str] = []
        self.invocations: list[int] = []
        for method in methods:
            self.engine.register_method(method)
        self.model.tick(self.now)

    # inputs

    def call(
        self, to: str, payload: str, timeout: float | None = None, window: float | None = None
    ) -> None:
        self.model.tick(self.now)
        result: Any
        try:
            result = self.engine.call(
                to, "greet", payload, now=self.now, response_timeout=timeout, ack_timeout=window
            )
            self.calls.append(result)
        except LocalProtocolError:
            result = None
        timeout = self.config.response_timeout if timeout is None else timeout
        window = self.config.ack_timeout if window is None else window
        expected = self.model.call(result or "", to, "greet", payload, timeout, window)
        assert (result is None) == (expected is LocalProtocolError)
        self.compare()

    def cancel(self, request_id: str) -> None:
        self.model.tick(self.now)
        cancelled = self.engine.cancel(request_id, now=self.now)
        assert cancelled == self.model.cancel(request_id)
        self.compare()

    def respond(self, number: int, payload: str) -> None:
        self.model.tick(self.now)
        answered = self.engine.respond(number, payload, now=self.now)
        assert answered == self.model.respond(number, payload)
        self.compare()

    def respond_error(self, number: int, code: int, message: str, data: str) -> None:
        self.model.tick(self.now)
        answered = self.engine.respond_error(number, code, message, data, now=self.now)
        assert answered == self.model.respond_error(number, code, message, data)
        self.compare()

    def receive(self, data: bytes, host_says: str | None = None, sid: str | None = None) -> None:
        decoded = wire.decode(data) if self.is_sealed else None
        if decoded is not None and isinstance(decoded.message, Sealed):
            return  # what is sealed already is of no use to anybody
        self.model.tick(self.now)
        given = sealed_data(data, toy("peer")) if self.is_sealed else data
        self.engine.receive_packet(given, now=self.now, sender_identity=host_says, sender_sid=sid)
        self.model.receive(data, host_says, sid)
        self.compare()

    def joined(self, identity: str, sid: str, protocol: int = 0, *capabilities: int) -> None:
        self.model.tick(self.now)
        self.engine.participant_joined(
            identity,
            now=self.now,
            participant_sid=sid,
            client_protocol=protocol,
            capabilities=capabilities,
        )
        self.model.joined(identity, sid, protocol, 2 in capabilities)
        self.compare()

    def left(self, identity: str, sid: str = "") -> None:
        self.model.tick(self.now)
        self.engine.participant_left(identity, now=self.now, participant_sid=sid)
        self.model.left(identity, sid)
        self.compare()

    def connected(self, *, too_old: bool = False, complete: bool = False) -> None:
        self.model.tick(self.now)
        version = "1.7.9" if too_old else "1.8.0"
        self.engine.connected(now=self.now, server_version=version, participants_complete=complete)
        self.model.connect(too_old, complete)
        self.compare()

    def disconnected(self) -> None:
        self.model.tick(self.now)
        self.engine.disconnected(now=self.now)
        self.model.disconnect()
        self.compare()

    def close(self) -> None:
        self.model.tick(self.now)
        self.engine.close(now=self.now)
        self.model.close()
        self.compare()

    def send_failed(self, packet: OutgoingPacket, owner: object) -> None:
        """`packet` and `owner` are one of `given`."""
        self.model.tick(self.now)
        self.engine.send_failed(packet, now=self.now)
        self.model.send_failed(owner)
        self.compare()

    def handle_deadline(self) -> None:
        self.model.tick(self.now)
        self.engine.handle_deadline(now=self.now)
        self.model.handle_deadline()
        self.compare()

    def hands_over(self, value: bool) -> None:
        self.engine.hand_over_unknown_methods = self.model.hands_over = value

    def time_passes(self, moment: str, told: bool) -> None:
        """It is just before, at, or just after the next deadline, and the host may say so."""
        self.now = moved(self.now, self.engine.next_deadline, moment)
        if told:
            self.handle_deadline()

    # what came of it

    def compare(self) -> None:
        self._compare_events()
        self._compare_packets()
        engine, model = self.engine, self.model
        assert engine.next_deadline == model.next_deadline
        counts = engine.statistics()
        assert counts.pending_calls == len(model.calls)
        assert counts.running_invocations == len(model.invocations)
        assert counts.open_streams_in == len(model.streams)
        assert model.held() <= counts.buffered_bytes <= model.held() + model.waiting
        assert counts.waiting_packets == counts.waiting_bytes == counts.open_streams_out == 0
        assert counts.ignored == model.ignored

    def _compare_events(self) -> None:
        events, expected = list(self.engine.take_events()), self.model.events
        assert events == expected
        expected.clear()
        for event in events:
            if isinstance(event, InvocationReceived):
                assert event.invocation_id not in self.invocations
                self.invocations.append(event.invocation_id)
                names = event.caller_identity, event.request_id
                running = [one for one in self.model.invocations if one.number == -1]
                told = next(one for one in running if (one.key[0], one.key[2]) == names)
                told.number = event.invocation_id

    def _compare_packets(self) -> None:
        packets = list(iter(self.engine.next_packet, None))
        if self.is_sealed:
            packets = list(map(opened_packet, packets))
        expected = self.model.packets
        seen = [seen for packet in packets if (seen := self._seen(packet, packets)) is not None]
        assert seen == [what for what, _ in expected]
        owners: dict[tuple[str, str], object] = {}
        for (_, identity, id_, *_), owner in expected:
            owners[identity, id_] = owner or owners.get((identity, id_))
        for packet in packets:
            owner = owners[packet.destination_identity, packet.request_id]
            fails = packet.kind.value not in ("ack", "error")
            self.given.append((packet, owner if fails else None))
        expected.clear()

    def _seen(self, packet: OutgoingPacket, all_of_them: list[OutgoingPacket]) -> Any:
        """What the model says of such a packet; None for the parts of a stream after its header."""
        data = DataPacket.FromString(packet.data)
        assert data.participant_identity == self.identity
        assert data.destination_identities == [packet.destination_identity]
        assert (data.participant_sid, data.sequence) == ("", 0)
        to = packet.destination_identity
        kind = data.WhichOneof("value")
        if kind == "rpc_ack":
            return ("ack", to, data.rpc_ack.request_id)
        if kind == "rpc_request":
            request = data.rpc_request
            assert not request.compressed_payload
            timeout, version = request.response_timeout_ms, request.version
            return ("request", to, request.id, request.payload, request.method, timeout, version)
        if kind == "rpc_response":
            response = data.rpc_response
            if response.HasField("payload"):
                return ("response", to, response.request_id, response.payload)
            error = response.error
            return ("error", to, response.request_id, error.code, error.message, error.data)
        if kind == "stream_header":
            return _seen_stream(data, to, all_of_them)
        return None


def _seen_stream(data: DataPacket, to: str, packets: list[OutgoingPacket]) -> tuple[Any, ...]:
    header, attributes = data.stream_header, data.stream_header.attributes
    if header.HasField("inline_content"):
        body, form = header.inline_content, "inline"
    else:
        parts = [DataPacket.FromString(packet.data) for packet in packets]
        chunks = [p.stream_chunk for p in parts if p.stream_chunk.stream_id == header.stream_id]
        trailers = [p for p in parts if p.stream_trailer.stream_id == header.stream_id]
        assert [chunk.chunk_index for chunk in chunks] == list(range(len(chunks)))
        assert len(trailers) == 1
        assert trailers[0].stream_trailer.reason == ""
        body, form = b"".join(chunk.content for chunk in chunks), "chunked"
    if header.compression:
        body, form = zlib.decompress(body, -zlib.MAX_WBITS), "deflated"
    assert header.total_length == len(body)
    assert form in FORMS
    seen = (form, to, attributes["lk.rpc_request_id"], body.decode())
    if header.topic == "lk.rpc_response":
        assert list(attributes) == ["lk.rpc_request_id"]
        return seen
    names = ("method", "response_timeout_ms", "version")
    return (*seen, *(attributes[f"lk.rpc_request_{name}"] for name in names))
