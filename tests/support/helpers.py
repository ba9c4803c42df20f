"""What the tests share: one engine, moved by hand, and packets as a peer would send them."""

import math
from collections.abc import Callable, Iterable
from typing import Any

from rpcproto import (
    CallFailed,
    Event,
    IgnoreReason,
    InvocationReceived,
    OutgoingPacket,
    RpcConfig,
    RpcEngine,
    Statistics,
    stamp,
    wire,
)
from rpcproto.core.packets_pb2 import DataPacket
from rpcproto.e2ee import Cryptor
from rpcproto.testing import counting_ids
from rpcproto.wire import ErrorResponse, Message, OutgoingMessage, Request

START = 100.0
"""When every test begins; all durations of the rules can be added to it without rounding."""

V1_LIMIT = 15_360

MESSAGES = {
    1400: "Method not supported at destination",
    1401: "Recipient not found",
    1402: "Request payload too large",
    1403: "RPC not supported by server",
    1404: "Unsupported RPC version",
    1500: "Application error in method handler",
    1501: "Connection timeout",
    1502: "Response timeout",
    1503: "Recipient disconnected",
    1504: "Response payload too large",
    1505: "Failed to send",
}


class Participant:
    """A local participant: an engine, the time it is told, and short ways to say what happens."""

    def __init__(
        self,
        identity: str = "alice",
        *,
        config: RpcConfig = RpcConfig(),  # noqa: B008 (frozen)
        new_id: Callable[[], str] | None = None,
        methods: Iterable[str] = ("greet",),
        cryptor: Cryptor | None = None,
    ) -> None:
        self.identity = identity
        new_id = new_id or counting_ids("a")
        self.engine = RpcEngine(identity, new_id=new_id, config=config, cryptor=cryptor)
        self.now = START
        for method in methods:
            self.engine.register_method(method)

    # inputs

    def call(self, to: str = "bob", method: str = "greet", payload: str = "hi", **more: Any) -> str:
        return self.engine.call(to, method, payload, now=self.now, **more)

    def cancel(self, request_id: str) -> bool:
        return self.engine.cancel(request_id, now=self.now)

    def respond(self, invocation_id: int, payload: str = "hello") -> bool:
        return self.engine.respond(invocation_id, payload, now=self.now)

    def respond_error(
        self, invocation_id: int, code: int, message: str = "", data: str = ""
    ) -> bool:
        return self.engine.respond_error(invocation_id, code, message, data, now=self.now)

    def receive(
        self,
        packet: OutgoingMessage | bytes,
        sender: str = "bob",
        *,
        sid: str = "",
        sequence: int = 0,
        sealed_by: Cryptor | None = None,
        **from_host: str | None,
    ) -> None:
        """A message that `sender` sends to us, maybe sealed, or the bytes of any packet."""
        if sealed_by is not None:
            assert not isinstance(packet, bytes)
            packet = sealed_by.seal(wire.encode_payload(packet))
        if not isinstance(packet, bytes):
            packet = stamp(
                wire.encode(packet, sender, self.identity), sender_sid=sid, sequence=sequence
            )
        self.engine.receive_packet(packet, now=self.now, **from_host)

    def joined(self, identity: str, sid: str = "", **more: Any) -> None:
        self.engine.participant_joined(identity, participant_sid=sid, now=self.now, **more)

    def left(self, identity: str, sid: str = "") -> None:
        self.engine.participant_left(identity, participant_sid=sid, now=self.now)

    def send_failed(self, packet: OutgoingPacket) -> None:
        self.engine.send_failed(packet, now=self.now)

    def connected(self, **more: Any) -> None:
        self.engine.connected(now=self.now, **more)

    def disconnected(self) -> None:
        self.engine.disconnected(now=self.now)

    def close(self) -> None:
        self.engine.close(now=self.now)

    def time_is(self, now: float) -> None:
        self.now = now
        self.engine.handle_deadline(now=now)

    # results

    def events(self) -> list[Event]:
        return list(self.engine.take_events())

    def packets(self) -> list[OutgoingPacket]:
        had_packets, packets = self.engine.has_packets, list(iter(self.engine.next_packet, None))
        assert had_packets == bool(packets)
        assert not self.engine.has_packets
        return packets

    def sent(self) -> list[Message]:
        """What was sent, in order."""
        return [sent_message(packet) for packet in self.packets()]

    def invocation(self) -> InvocationReceived:
        """The one invocation that the host has just been told about."""
        [invocation] = (e for e in self.events() if isinstance(e, InvocationReceived))
        return invocation

    # reads

    @property
    def next_deadline(self) -> float | None:
        return self.engine.next_deadline

    @property
    def statistics(self) -> Statistics:
        return self.engine.statistics()

    @property
    def ignored(self) -> dict[IgnoreReason, int]:
        return dict(self.engine.statistics().ignored)

    @property
    def appearance(self) -> tuple[object, ...]:
        """All that can be seen of the engine without taking anything."""
        return self.next_deadline, self.statistics


def sent_message(packet: OutgoingPacket) -> Message:
    decoded = wire.decode(packet.data)
    assert decoded is not None
    return decoded.message


def parsed(packet: OutgoingPacket) -> DataPacket:
    """The packet as protobuf has it."""
    return DataPacket.FromString(packet.data)


def raw_packet(sender: str = "bob", to: Iterable[str] = ("alice",), **fields: Any) -> bytes:
    """A packet with any fields, also such as the engine would never write."""
    packet = DataPacket(participant_identity=sender, destination_identities=to, **fields)
    return packet.SerializeToString()


def request(
    request_id: str = "r1",
    method: str = "greet",
    payload: str = "hi",
    *,
    response_timeout_ms: int = 8_000,
    version: int = 1,
) -> Request:
    return Request(request_id, method, payload, response_timeout_ms, version)


def error(request_id: str, code: int, message: str | None = None, data: str = "") -> ErrorResponse:
    """An error response; without a message it has the one of the protocol."""
    return ErrorResponse(request_id, code, MESSAGES[code] if message is None else message, data)


def failures(events: Iterable[Event]) -> list[tuple[str, int]]:
    """Id and code of each failed call, with the protocol's message; there are no other events."""
    failed = []
    for event in events:
        assert isinstance(event, CallFailed), event
        assert event.message == MESSAGES[event.code]
        failed.append((event.request_id, event.code))
    return failed


def just_before(instant: float) -> float:
    return math.nextafter(instant, -math.inf)


def short(value: object) -> str:
    """The id of a test parameter that may be long."""
    text = ascii(value).strip("'")
    return text if len(text) <= 24 else f"{text[:10]}..{len(text)}"
