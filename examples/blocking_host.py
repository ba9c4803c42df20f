"""A host for programs without an event loop: calls block, handlers run in threads.

The engine has one owner at a time, so all use of it is under one lock; what may block, sending and
the handlers, is not. Run it: two participants, joined by a pair of sockets, greet each other.
"""

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any, Protocol

from rpcproto import InvocationReceived, OutgoingPacket, RpcError
from rpcproto.participant import Cancel, ParticipantBase, RpcInvocationData, Waiter
from rpcproto.transports import (
    Connected,
    Disconnected,
    PacketNotSent,
    PacketReceived,
    ParticipantJoined,
    TransportEvent,
)
from rpcproto.transports.framing import Hello, Link, frame


class Channel(Protocol):
    """A way to somebody: calls `on_event`, from any thread, with what comes."""

    on_event: Callable[[TransportEvent], None]
    on_room: Callable[[], None]

    def has_room(self) -> bool: ...
    def send(self, packet: OutgoingPacket) -> None: ...
    def close(self) -> None: ...


class Clock(Protocol):
    """Time, and timers that call back from any thread."""

    def time(self) -> float: ...
    def call_at(self, at: float, callback: Callable[[], None], /) -> Any: ...


class BlockingParticipant(ParticipantBase[Channel]):
    """A participant for any number of threads."""

    def __init__(
        self, identity: str, channel: Channel, clock: Clock, threads: Executor, writer: Executor
    ) -> None:
        """`threads` run the handlers, `writer` sends: handlers that wait must not hold that up."""
        super().__init__(identity, channel)
        self._lock = threading.RLock()
        self._time, self._threads, self._writer_thread = clock, threads, writer
        self._timer: Any = None
        self._is_writing = False
        self._writer: Future[None] | None = None
        self._open(clock.time)
        channel.on_event = self._locked(self._receive)
        channel.on_room = self._locked(self._wake_writer)

    def perform_rpc(
        self,
        *,
        destination_identity: str,
        method: str,
        payload: str,
        response_timeout: float | None = None,
    ) -> str:
        """Call a participant and wait for the answer; raises RpcError. Ctrl-C cancels the call."""
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
        """Call a participant; `cancel` of what is returned cancels the call."""
        timeouts = response_timeout, None
        return self._future(partial(self._call, destination_identity, method, payload, *timeouts))

    def wait_for_participant(self, identity: str) -> None:
        """Wait until somebody is here."""
        self._future(partial(self._expect, identity)).result()

    def close(self) -> None:
        """End all calls with 1503, send what waits, and close the channel."""
        self._locked(self._close)()
        if self._writer is not None:
            wait([self._writer], timeout=1.0)
        if self._timer is not None:
            self._timer.cancel()
        self._transport.close()

    def _future(self, start: Callable[[Waiter], Cancel]) -> "Future[str]":
        future: Future[str] = Future()

        def end(outcome: str | RpcError) -> None:
            if not future.set_running_or_notify_cancel():
                return
            if isinstance(outcome, str):
                future.set_result(outcome)
            else:
                future.set_exception(outcome)

        try:
            cancel = self._locked(start)(end)
        except RpcError as error:  # there is no connection any more
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

    def _wake_writer(self) -> None:
        if not self._is_writing:
            self._is_writing = True
            self._writer = self._writer_thread.submit(self._write)

    def _write(self) -> None:
        while True:
            with self._lock:
                packet = self._next_packet() if self._transport.has_room() else None
                if packet is None:
                    self._is_writing = False
                    return
            try:
                self._transport.send(packet)
            except PacketNotSent:
                self._locked(self._packet_not_sent)(packet)
            except Exception as error:
                self._locked(self._sending_broke)(error)

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._time.call_at(at, self._locked(self._timer_fired))

    def _start_handler(self, invocation: InvocationReceived) -> Callable[[], object]:
        return self._threads.submit(self._handle, invocation).cancel

    def _handle(self, invocation: InvocationReceived) -> None:
        try:
            result = self._run_handler(invocation)
        except Exception as error:
            self._locked(self._answer_exception)(invocation, error)
        else:
            self._locked(self._answer)(invocation, result)


class ThreadClock:
    """The clock of the machine; a timer is a thread."""

    time = staticmethod(time.monotonic)

    def call_at(self, at: float, callback: Callable[[], None]) -> threading.Timer:
        timer = threading.Timer(max(at - time.monotonic(), 0.0), callback)
        timer.daemon = True
        timer.start()
        return timer


class SocketChannel:
    """A socket whose other end speaks as `rpcproto.transports.stream` does; `run` is a thread."""

    on_event: Callable[[TransportEvent], None]
    on_room: Callable[[], None]

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
                if was_unknown and (peer := self._link.peer) is not None:
                    abilities = peer.client_protocol, peer.capabilities
                    self.on_event(ParticipantJoined(peer.identity, "", *abilities))
                    self.on_event(Connected(participants_complete=True))
                while (packet := self._link.next_packet()) is not None:
                    assert self._link.peer is not None
                    self.on_event(PacketReceived(packet, self._link.peer.identity))
        except OSError as error:
            cause = error
        self.on_event(Disconnected(cause))

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
