"""One call through two engines: three packets, carried by hand."""

from collections.abc import Callable

from rpcproto import (
    CallSucceeded,
    InvocationReceived,
    OutgoingPacket,
    RpcConfig,
    RpcEngine,
    random_ids,
)

MANY = 2_000_000
"""Room for more pending calls than any benchmark makes."""


class Pair:
    """`alice` calls `bob`, who echoes what he gets."""

    def __init__(
        self,
        *,
        client_protocol: int = 0,
        capabilities: tuple[int, ...] = (),
        engine_factory: Callable[..., RpcEngine] = RpcEngine,
    ) -> None:
        config = RpcConfig(max_pending_calls=MANY, max_waiting_packets=MANY)
        self.caller = engine_factory("alice", new_id=random_ids(), config=config)
        self.responder = engine_factory("bob", new_id=random_ids(), config=config)
        for engine, peer in ((self.caller, "bob"), (self.responder, "alice")):
            engine.participant_joined(
                peer, now=0.0, client_protocol=client_protocol, capabilities=capabilities
            )
        self.responder.register_method("echo")

    def leave_pending(self, calls: int) -> None:
        """Make calls that nobody answers; their packets are taken, and go nowhere."""
        for _ in range(calls):
            self.caller.call("bob", "echo", "", now=0.0)
            self.caller.next_packet()

    def echo(self, calls: int, payload: str) -> None:
        """Make v1 calls one after another; nothing is read but what comes of the inputs."""
        caller, responder = self.caller, self.responder
        for _ in range(calls):
            caller.call("bob", "echo", payload, now=0.0)
            responder.receive_packet(taken(caller).data, now=0.0)
            [event] = responder.take_events()
            assert isinstance(event, InvocationReceived)
            caller.receive_packet(taken(responder).data, now=0.0)
            responder.respond(event.invocation_id, event.payload, now=0.0)
            caller.receive_packet(taken(responder).data, now=0.0)
            _, done = caller.take_events()
            assert isinstance(done, CallSucceeded)

    def echo_with_timers(self, calls: int, payload: str) -> None:
        """The same, by a host that looks at `next_deadline` after each input, as hosts do."""
        caller, responder = self.caller, self.responder
        for _ in range(calls):
            caller.call("bob", "echo", payload, now=0.0)
            armed = caller.next_deadline
            responder.receive_packet(taken(caller).data, now=0.0)
            armed = responder.next_deadline
            [event] = responder.take_events()
            assert isinstance(event, InvocationReceived)
            caller.receive_packet(taken(responder).data, now=0.0)
            armed = caller.next_deadline
            assert armed is not None
            responder.respond(event.invocation_id, event.payload, now=0.0)
            armed = responder.next_deadline
            caller.receive_packet(taken(responder).data, now=0.0)
            armed = caller.next_deadline
            _, done = caller.take_events()
            assert isinstance(done, CallSucceeded)


def taken(engine: RpcEngine) -> OutgoingPacket:
    """The packet that leaves next, where there must be one."""
    packet = engine.next_packet()
    assert packet is not None
    return packet
