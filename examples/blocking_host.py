"""A host for programs without an event loop: calls block, handlers run in threads.

The engine has one owner at a time, so all use of it is under one lock. Sending and the handlers may
block, and run without it. Run it: two participants, joined by a pair of sockets, greet each other.
"""

import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, Protocol

from rpcproto import InvocationReceived, LocalProtocolError, OutgoingPacket, RpcConfig, RpcError
from rpcproto.participant import CallArguments, Outcome, ParticipantBase, RpcInvocationData, Start
from rpcproto.transports import (
    Connected,
    Disconnected,
    PacketReceived,
    PacketsNotSent,
    ParticipantJoined,
    TransportEvent,
)
from rpcproto.transports.framing import Hello, Link, frame


class Channel(Protocol):
    """A connection: calls `on_events` and `on_room`, from any thread."""

    on_events: Callable[[Sequence[TransportEvent]], object]
    on_room: Callable[[], object]

    @property
    def departure_grace(self) -> float: ...
    def has_room(self) -> bool: ...
    def send(self, packet: OutgoingPacket) -> None: ...
    def close(self) -> None: ...


class Clock(Protocol):
    """Time, and timers that call back from any thread."""

    def time(self) -> float: ...
    def call_at(self, at: float, callback: Callable[[], object], /) -> Any: ...


_abandoned: Final[ContextVar["Future[None]"]] = ContextVar("abandoned")
"""In a handler: what is cancelled when nobody waits for the answer any more."""


def when_abandoned(function: Callable[[], object]) -> None:
    """Inside a handler: have `function` called, in any thread, when nobody waits for the answer.

    A thread cannot be interrupted. So a handler that waits for something registers here how to end
    the wait, and a handler that computes for long how to learn that it should stop.
    """
    _abandoned.get().add_done_callback(lambda _: function())


class BlockingParticipant(ParticipantBase[Channel]):
    """A participant for any number of threads."""

    def __init__(
        self,
        identity: str,
        channel: Channel,
        clock: Clock,
        threads: Executor,
        writer: Executor,
        config: RpcConfig = RpcConfig(),  # noqa: B008 (frozen)
    ) -> None:
        """`threads` run the handlers, `writer` sends: handlers that wait must not hold that up."""
        super().__init__(identity, channel, config=config, departure_grace=channel.departure_grace)
        self._lock = threading.RLock()
        self._time, self._threads, self._writer_thread = clock, threads, writer
        self._timer: Any = None
        self._is_writing = False
        self._has_left = False
        self._writer: Future[None] | None = None
        self.open_engine(clock.time)
        channel.on_events = self._locked(self.receive_events)
        channel.on_room = self._locked(self.wake_writer)

    def perform_rpc(
        self,
        *,
        destination_identity: str,
        method: str,
        payload: str,
        response_timeout: float | None = None,
    ) -> str:
        """Call a participant and wait for the answer. Ctrl-C cancels the call.

        Raises RpcError, and LocalProtocolError for misuse.
        """
        call = self.submit_rpc(destination_identity, method, payload, response_timeout)
        try:
            return call.result()
        finally:
            call.cancel()

    def submit_rpc(
        self,
        destination_identity: str,
        method: str,
        payload: str,
        response_timeout: float | None = None,
    ) -> "Future[str]":
        """Call a participant; `cancel` of the future cancels the call."""
        call = CallArguments(destination_identity, method, payload, response_timeout, None)
        return self._future(partial(self.begin_call, call))

    def wait_for_participant(self, identity: str) -> None:
        """Wait until a participant is here."""
        self._future(partial(self.expect_participant, identity)).result()

    def close(self) -> None:
        """End all calls with 1503, abandon all handlers, send the packets that wait, for at most a
        second, and close the channel."""
        self._locked(self.close_engine)()
        with self._lock:
            self._has_left = True  # nothing is sent any more but what the writer has begun
        if self._writer is not None:
            wait([self._writer], timeout=1.0)
        if self._timer is not None:
            self._timer.cancel()
        self._transport.close()

    def _future(self, start: Start) -> "Future[str]":
        future: Future[str] = Future()

        def end(outcome: Outcome) -> None:
            if not future.set_running_or_notify_cancel():
                return
            if isinstance(outcome, str):
                future.set_result(outcome)
            else:
                future.set_exception(outcome)

        try:
            cancel = self._locked(start)(end)
        except (RpcError, LocalProtocolError) as error:
            end(error)
        else:
            future.add_done_callback(lambda _: self._locked(cancel)())
        return future

    def _locked(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def locked(*args: Any) -> Any:
            with self._lock:
                return function(*args)

        return locked

    # the hooks

    def wake_writer(self) -> None:
        if not self._is_writing and not self._has_left:
            self._is_writing = True
            self._writer = self._writer_thread.submit(self._write)

    def _write(self) -> None:
        while True:
            with self._lock:
                can_send = self.has_packets and self._transport.has_room()
                packet = self.next_packet() if can_send else None
                if packet is None:
                    self._is_writing = False
                    return
            try:
                self._transport.send(packet)
            except PacketsNotSent as error:
                self._locked(self.packets_not_sent)(error.packets)
            except Exception as error:
                self._locked(self.sending_failed)(error)

    def set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._time.call_at(at, self._locked(self.timer_fired))

    def start_handler(self, invocation: InvocationReceived) -> Callable[[], object]:
        abandoned: Future[None] = Future()
        task = self._threads.submit(self._handle, invocation, abandoned)
        task.add_done_callback(partial(self._never_ran, invocation))

        def cancel() -> None:
            task.cancel()
            abandoned.cancel()

        return cancel

    def _never_ran(self, invocation: InvocationReceived, task: "Future[None]") -> None:
        if task.cancelled():  # before a thread had time for it
            self._locked(self.handler_ended)(invocation)

    def _handle(self, invocation: InvocationReceived, abandoned: "Future[None]") -> None:
        _abandoned.set(abandoned)
        with self._lock:
            pass  # `start_handler` has returned, and the handler counts as started
        try:
            result = self.run_handler(invocation)
        except BaseException as error:
            self._locked(self._end_with)(self.answer_exception, invocation, error)
        else:
            self._locked(self._end_with)(self.answer, invocation, result)

    def _end_with(
        self,
        answer: Callable[[InvocationReceived, Any], None],
        invocation: InvocationReceived,
        outcome: object,
    ) -> None:
        answer(invocation, outcome)
        # In the same stretch: whoever has the answer finds that the handler counts no more.
        self.handler_ended(invocation)


class ThreadClock:
    """The clock of the machine; a timer is a thread."""

    time = staticmethod(time.monotonic)

    def call_at(self, at: float, callback: Callable[[], object]) -> threading.Timer:
        timer = threading.Timer(max(at - time.monotonic(), 0.0), callback)
        timer.daemon = True
        timer.start()
        return timer


class SocketChannel:
    """A socket whose other end speaks as `rpcproto.transports.stream` does; `run` is a thread."""

    departure_grace = 0.0
    on_events: Callable[[Sequence[TransportEvent]], object]
    on_room: Callable[[], object]

    def __init__(self, connection: socket.socket, identity: str) -> None:
        self._socket = connection
        self._link = Link(Hello(identity), max_frame_bytes=128 * 1024)
        connection.sendall(self._link.hello)

    def has_room(self) -> bool:
        return True

    def send(self, packet: OutgoingPacket) -> None:
        self._socket.sendall(frame(packet.data))

    def run(self) -> None:
        cause = None
        try:
            while data := self._socket.recv(65_536):
                was_unknown = self._link.peer is None
                self._link.receive_bytes(data)
                peer = self._link.peer
                if was_unknown and peer is not None:
                    abilities = peer.client_protocol, peer.capabilities
                    joined = ParticipantJoined(peer.identity, "", *abilities)
                    self.on_events([joined, Connected(participants_complete=True)])
                while peer is not None and (packets := self._link.next_packets()):
                    self.on_events([PacketReceived(data, peer.identity) for data in packets])
        except OSError as error:
            cause = error
        self.on_events([Disconnected(cause)])

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def main() -> None:
    """Two participants in threads, each with a call."""
    ends = socket.socketpair()
    names = ("alice", "bob")
    with ThreadPoolExecutor() as threads:
        participants = []
        for name, end in zip(names, ends, strict=True):
            channel, writer = SocketChannel(end, name), ThreadPoolExecutor(1)
            participants.append(BlockingParticipant(name, channel, ThreadClock(), threads, writer))
            threads.submit(channel.run)
        alice, bob = participants

        @bob.register_rpc_method("greet")
        def greet(data: RpcInvocationData) -> str:
            return f"Hello, {data.caller_identity}!"

        alice.wait_for_participant("bob")
        for method in ("greet", "dance"):
            try:
                print(alice.perform_rpc(destination_identity="bob", method=method, payload="Hi"))
            except RpcError as error:
                print(error)
        alice.close()
        bob.close()


if __name__ == "__main__":
    main()
