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
    behind an adapter may be a process of its own, as long as each input returns only when it has
    been dealt with: `examples/testee_in_a_world.py` does that for every testee of `rpcproto
    conform`, in whatever language.

    `RpcEngine` says what each method does; here is what a world relies on.
    """

    @property
    def next_deadline(self) -> float | None:
        """When `handle_deadline` is to be called next, in seconds; None if nothing waits. An
        adapter that cannot know it returns an instant a little ahead while something may be due."""
        ...

    @property
    def participants(self) -> tuple[str, ...]:
        """Whom the engine was told of, for tests to read."""
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
        """Begin a call. Returns a name for it, which `CallSucceeded` or `CallFailed` has later; it
        need not be the request id on the wire."""
        ...

    def cancel(self, request_id: str, *, now: float) -> bool:
        """Give up a call; False if it has ended."""
        ...

    def respond(self, invocation_id: int, payload: str, *, now: float) -> bool:
        """Answer an invocation; False if nobody waits for it."""
        ...

    def respond_error(
        self, invocation_id: int, code: int, message: str = "", data: str = "", *, now: float
    ) -> bool:
        """Answer an invocation with an error; False if nobody waits for it."""
        ...

    def receive_packet(
        self,
        data: bytes,
        *,
        now: float,
        sender_identity: str | None = None,
        sender_sid: str | None = None,
    ) -> None:
        """Take a packet. In a world that is `stamped`, the packet names its sender; otherwise
        `sender_identity` and `sender_sid` do, whatever the packet says."""
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
        """Learn that somebody is here."""
        ...

    def participant_left(self, identity: str, *, now: float, participant_sid: str = "") -> None:
        """Learn that somebody has left."""
        ...

    def connected(
        self, *, now: float, server_version: str | None = None, participants_complete: bool = False
    ) -> None:
        """Learn that the connection is there."""
        ...

    def disconnected(self, *, now: float) -> None:
        """Learn that the connection is lost."""
        ...

    def send_failed(self, packet: OutgoingPacket, *, now: float) -> None:
        """Learn that a packet could not be sent."""
        ...

    def handle_deadline(self, *, now: float) -> None:
        """Do what is due; called at `next_deadline`."""
        ...

    def close(self, *, now: float) -> None:
        """End; packets may still be taken."""
        ...

    def next_packet(self) -> OutgoingPacket | None:
        """Return the next packet to send, or None."""
        ...

    def take_events(self) -> Collection[Event]:
        """Return what has happened since this was last called."""
        ...

    def statistics(self) -> Statistics:
        """Return the sizes of tables. A world reads `waiting_packets` and `open_streams_out`, and
        only for slow uplinks: is there more to send?"""
        ...


class EngineFactory(Protocol):
    """What makes the engines of a world: `RpcEngine`, or something that returns an adapter."""

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
