"""What a world needs of an engine, so that engines of another make can take part in one."""

from collections.abc import Callable, Collection
from typing import Protocol

from rpcproto.core.config import RpcConfig
from rpcproto.core.events import Event, Statistics
from rpcproto.core.messages import OutgoingPacket
from rpcproto.core.sealing import Cryptor


class WorldEngine(Protocol):
    """An engine that can take part in a `World`: `RpcEngine`, or an adapter around another one.

    Each method is one input, at the instant `now` in seconds. After every input the world calls
    `take_events` and `next_packet` until both are empty, and reads `next_deadline`. The engine
    behind an adapter can be another process, but each method must return only after the engine has
    processed the input. `examples/testee_in_a_world.py` is an adapter for every testee of `rpcproto
    conform`, in any language.

    See `RpcEngine` for a full description of each method. A world relies only on the following.
    """

    @property
    def next_deadline(self) -> float | None:
        """The instant at which to call `handle_deadline`, in seconds, or None. An adapter that does
        not know its deadlines returns an instant in the near future while a call or invocation may
        be pending."""
        ...

    @property
    def participants(self) -> tuple[str, ...]:
        """The identities of the announced participants. Only tests read it."""
        ...

    def register_method(self, method: str) -> None:
        """Report requests for `method` as `InvocationReceived`. An engine that answers them by
        itself does nothing here."""
        ...

    def call(
        self,
        destination_identity: str,
        method: str,
        payload: str,
        *,
        now: float,
        response_timeout: float | None = None,
        ack_timeout: float | None = None,
    ) -> str:
        """Start a call, and return an id for its events. It can differ from the request id on the
        wire."""
        ...

    def cancel(self, request_id: str, *, now: float) -> bool:
        """Cancel a call. Return False if it has ended already."""
        ...

    def respond(self, invocation_id: int, payload: str, *, now: float) -> bool:
        """Answer an invocation. Return False if it has ended already."""
        ...

    def respond_error(
        self, invocation_id: int, code: int, message: str = "", data: str = "", *, now: float
    ) -> bool:
        """Answer an invocation with an error. Return False if it has ended already."""
        ...

    def receive_packet(
        self,
        data: bytes,
        *,
        now: float,
        sender_identity: str | None = None,
        sender_sid: str | None = None,
    ) -> None:
        """Process a packet. In a `stamped` world, the packet names its sender. Otherwise,
        `sender_identity` and `sender_sid` replace the sender in the packet."""
        ...

    def participant_joined(
        self,
        identity: str,
        *,
        now: float,
        participant_sid: str = "",
        client_protocol: int = 0,
        capabilities: Collection[int] = (),
    ) -> None:
        """Announce a participant."""
        ...

    def participant_left(self, identity: str, *, now: float, participant_sid: str = "") -> None:
        """Report that a participant left."""
        ...

    def connected(
        self, *, now: float, server_version: str | None = None, participants_complete: bool = False
    ) -> None:
        """Report that the connection is established."""
        ...

    def disconnected(self, *, now: float) -> None:
        """Report that the connection is lost."""
        ...

    def send_failed(self, packet: OutgoingPacket, *, now: float) -> None:
        """Report that a packet could not be sent."""
        ...

    def handle_deadline(self, *, now: float) -> None:
        """End everything that is due by `now`. A world calls this at `next_deadline`."""
        ...

    def close(self, *, now: float) -> None:
        """Close the engine. Waiting packets can still be taken."""
        ...

    def next_packet(self) -> OutgoingPacket | None:
        """Return the next packet to send, or None."""
        ...

    def take_events(self) -> Collection[Event]:
        """Return all events since the last call of this method."""
        ...

    def statistics(self) -> Statistics:
        """Return the statistics. A world reads only `waiting_packets` and `open_streams_out`, and
        only for a participant with an `uplink`, to see whether there is more to send."""
        ...


class EngineFactory(Protocol):
    """Makes the engines of a world: `RpcEngine`, or a function that returns an adapter."""

    def __call__(
        self,
        identity: str,
        *,
        new_id: Callable[[], str],
        config: RpcConfig,
        cryptor: Cryptor | None,
    ) -> WorldEngine:
        """Return an engine for the participant `identity`."""
        ...
