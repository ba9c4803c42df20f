"""One call through two engines: its packets, carried by hand."""

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Final

from rpcproto import CallSucceeded, InvocationReceived, RpcConfig, RpcEngine, random_ids
from rpcproto.core.packets_pb2 import DataPacket
from rpcproto.core.sealing import Cryptor

MANY: Final = 2_000_000
"""Room for more pending calls than any benchmark makes."""
SECONDS_PER_CALL: Final = 1 / 1024
"""How far the clock advances from one call to the next: nearly every stream has a time stamp, in
milliseconds, that no stream before it had."""
UNIX_TIME_OFFSET: Final = 1_764_000_000.0
"""Gives time stamps of today's size."""


class Pair:
    """`alice` calls `bob`, who echoes what he gets."""

    def __init__(
        self,
        *,
        client_protocol: int = 0,
        capabilities: tuple[int, ...] = (),
        cryptors: Callable[[str], Cryptor | None] = lambda identity: None,
        engine_factory: Callable[..., RpcEngine] = RpcEngine,
    ) -> None:
        config = RpcConfig(max_pending_calls=MANY, max_waiting_packets=MANY)
        self.now = 0.0
        self.caller, self.responder = (
            engine_factory(
                identity,
                new_id=random_ids(),
                unix_time_offset=UNIX_TIME_OFFSET,
                config=config,
                cryptor=cryptors(identity),
            )
            for identity in ("alice", "bob")
        )
        for engine, peer in ((self.caller, "bob"), (self.responder, "alice")):
            engine.participant_joined(
                peer, now=0.0, client_protocol=client_protocol, capabilities=capabilities
            )
        self.responder.register_method("echo")

    packets: list[bytes]
    """Those of the last call that `forms` made."""

    def leave_pending(self, calls: int, *, seconds_per_call: float = 0.0) -> None:
        """Make calls that nobody answers; their packets are taken, and go nowhere."""
        for _ in range(calls):
            if seconds_per_call:
                self.now += seconds_per_call
            self.caller.call("bob", "echo", "", now=self.now)
            self.caller.next_packet()

    def echo(self, calls: int, payload: str) -> None:
        """Make calls of three packets, v1 or inline, one after another; nothing is read but what
        comes of the inputs."""
        self.echo_each(repeat(payload, calls))

    def echo_each(self, payloads: Iterable[str]) -> None:
        """Make one call of three packets with each payload."""
        caller, responder, now = self.caller, self.responder, self.now
        for payload in payloads:
            now += SECONDS_PER_CALL
            caller.call("bob", "echo", payload, now=now)
            packet = caller.next_packet()
            assert packet
            responder.receive_packet(packet.data, now=now)
            [event] = responder.take_events()
            assert isinstance(event, InvocationReceived)
            packet = responder.next_packet()
            assert packet
            caller.receive_packet(packet.data, now=now)
            responder.respond(event.invocation_id, event.payload, now=now)
            packet = responder.next_packet()
            assert packet
            caller.receive_packet(packet.data, now=now)
            _, done = caller.take_events()
            assert isinstance(done, CallSucceeded)
        self.now = now

    def echo_beside(
        self, calls: int, payload: str, cryptors: tuple[Cryptor, Cryptor], texts: Sequence[bytes]
    ) -> None:
        """Make calls of three packets, and seal and open something as each of them leaves and
        arrives: of `texts`, the one of the request first, then of the ack and the response."""
        caller, responder, now = self.caller, self.responder, self.now
        (alice, bob), (request, ack, response) = cryptors, texts
        for _ in range(calls):
            now += SECONDS_PER_CALL
            caller.call("bob", "echo", payload, now=now)
            packet = caller.next_packet()
            assert packet
            key_index, iv, ciphertext = alice.seal(request)
            bob.open("alice", key_index, iv, ciphertext)
            responder.receive_packet(packet.data, now=now)
            [event] = responder.take_events()
            assert isinstance(event, InvocationReceived)
            packet = responder.next_packet()
            assert packet
            key_index, iv, ciphertext = bob.seal(ack)
            alice.open("bob", key_index, iv, ciphertext)
            caller.receive_packet(packet.data, now=now)
            responder.respond(event.invocation_id, event.payload, now=now)
            packet = responder.next_packet()
            assert packet
            key_index, iv, ciphertext = bob.seal(response)
            alice.open("bob", key_index, iv, ciphertext)
            caller.receive_packet(packet.data, now=now)
            _, done = caller.take_events()
            assert isinstance(done, CallSucceeded)
        self.now = now

    def echo_with_timers(self, calls: int, payload: str) -> None:
        """The same, by a host that looks at `next_deadline` after each input, as hosts do."""
        caller, responder, now = self.caller, self.responder, self.now
        for _ in range(calls):
            now += SECONDS_PER_CALL
            caller.call("bob", "echo", payload, now=now)
            armed = caller.next_deadline
            packet = caller.next_packet()
            assert packet
            responder.receive_packet(packet.data, now=now)
            armed = responder.next_deadline
            [event] = responder.take_events()
            assert isinstance(event, InvocationReceived)
            packet = responder.next_packet()
            assert packet
            caller.receive_packet(packet.data, now=now)
            armed = caller.next_deadline
            assert armed is not None
            responder.respond(event.invocation_id, event.payload, now=now)
            armed = responder.next_deadline
            packet = responder.next_packet()
            assert packet
            caller.receive_packet(packet.data, now=now)
            armed = caller.next_deadline
            _, done = caller.take_events()
            assert isinstance(done, CallSucceeded)
        self.now = now

    def echo_in_chunks(self, calls: int, payload: str) -> None:
        """Make calls of any number of packets, one after another."""
        caller, responder, now = self.caller, self.responder, self.now
        for _ in range(calls):
            now += SECONDS_PER_CALL
            caller.call("bob", "echo", payload, now=now)
            while (packet := caller.next_packet()) is not None:
                responder.receive_packet(packet.data, now=now)
            [event] = responder.take_events()
            assert isinstance(event, InvocationReceived)
            responder.respond(event.invocation_id, event.payload, now=now)
            while (packet := responder.next_packet()) is not None:
                caller.receive_packet(packet.data, now=now)
            *_, done = caller.take_events()
            assert isinstance(done, CallSucceeded)
        self.now = now

    def forms(self, payload: str) -> list[str]:
        """Make one call; returns what each of its packets is, in the order of their leaving."""
        packets: list[bytes] = []
        self.caller.call("bob", "echo", payload, now=self.now)
        while (packet := self.caller.next_packet()) is not None:
            packets.append(packet.data)
            self.responder.receive_packet(packet.data, now=self.now)
        [event] = self.responder.take_events()
        assert isinstance(event, InvocationReceived)
        self.responder.respond(event.invocation_id, event.payload, now=self.now)
        while (packet := self.responder.next_packet()) is not None:
            packets.append(packet.data)
            self.caller.receive_packet(packet.data, now=self.now)
        self.caller.take_events()
        self.packets = packets
        return [form(data) for data in packets]


def form(data: bytes) -> str:
    """The kind of message in a packet, and of a header whether it is inline and compressed."""
    packet = DataPacket.FromString(data)
    header = packet.stream_header
    inline = " inline" if header.HasField("inline_content") else ""
    return f"{packet.WhichOneof('value')}{inline}{' deflated' if header.compression else ''}"
