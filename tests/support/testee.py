"""A testee for the tests of the conformance suite: right but on real time, or wrong in one way.

python tests/support/testee.py MODE
"""

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples" / "testees"
sys.path.insert(0, str(EXAMPLES))

import peer  # noqa: E402
from peer import Testee, cryptor_for, write  # noqa: E402

from rpcproto import InvocationReceived, RpcConfig, wire  # noqa: E402


def frames(testee: Testee | None) -> Iterator[bytes]:
    """The frames of standard input; the timers of the testee go off in between."""
    rest, stdin = b"", sys.stdin.fileno()
    while True:
        while len(rest) >= 4 and len(rest) >= (end := 4 + int.from_bytes(rest[:4])):
            yield rest[4:end]
            rest = rest[end:]
        wait = None if testee is None else testee.next_due() - time.monotonic()
        wait = None if wait == float("inf") or wait is None else max(wait, 0)
        if select.select([stdin], [], [], wait)[0]:
            if not (data := os.read(stdin, 65536)):
                return
            rest += data
        if testee is not None:
            testee.advance(time.monotonic())


def hello(identity: str, **more: object) -> None:
    fields = {"rpcproto": 1, "identity": identity, "client_protocol": 2, "capabilities": [2]}
    fields |= more
    write(json.dumps({name: value for name, value in fields.items() if value is not None}).encode())


def play(testee: Testee, before: Callable[[bytes], None] = lambda frame: None) -> None:
    """Serve on real time; `before` sees each frame first."""
    for frame in frames(testee):
        before(frame)
        if frame.startswith(b"{"):
            testee.control(json.loads(frame))
        else:
            testee.engine.receive_packet(frame, now=testee.now)
        testee.pump()


def slow(frame: bytes) -> None:
    time.sleep(0.02)


def dying(frame: bytes) -> None:
    if b"once" in frame:
        print("it was 'once' that did it", file=sys.stderr, flush=True)
        os._exit(3)


def flooding(frame: bytes) -> None:
    if b"once" in frame:
        packet = b"\x2a\x05alice" + b"\x5a\x26\x0a\x24" + b"a" * 36
        with contextlib.suppress(BrokenPipeError):
            while True:
                write(packet * 100)


def garbage(frame: bytes) -> None:
    if b"once" in frame:
        sys.stdout.buffer.write(b"\xff" * 64)
        sys.stdout.buffer.flush()


class Wrong(Testee):
    """Answers every request, and every one wrongly."""

    def handle(self, invocation: InvocationReceived) -> None:
        self.engine.respond(invocation.invocation_id, "wrong", now=self.now)


class Unreadable(Testee):
    """Sends what cannot be read along with each answer."""

    def handle(self, invocation: InvocationReceived) -> None:
        super().handle(invocation)
        write(b"\xff\xff\xff")


class Poor(Testee):
    """Serves one method."""

    METHODS = ("echo",)


class Bare(Testee):
    """Serves nothing, as when its registration went wrong."""

    METHODS = ()


class Graceful(Testee):
    """Waits for answers that a departure has overtaken, as in a LiveKit room (R9)."""

    CONFIG = RpcConfig(departure_grace=2.0)


class Forgetful(Testee):
    """Runs every handler twice."""

    def handle(self, invocation: InvocationReceived) -> None:
        super().handle(invocation)
        self.counts[invocation.payload] += 1


class Spilling(Testee):
    """Sends everybody the chunks of a stream whose header only its recipient has, as some SDKs
    do."""

    def handle(self, invocation: InvocationReceived) -> None:
        chunk = wire.StreamChunk("of another conversation", 0, b"x")
        to_nobody = b"*\0"
        write(wire.encode(chunk, "testee", "").replace(to_nobody, b"", 1))
        super().handle(invocation)


TESTEES = {
    "spilling": Spilling,
    "wrong": Wrong,
    "unreadable": Unreadable,
    "poor": Poor,
    "bare": Bare,
    "forgetful": Forgetful,
}
HABITS = {"slow": slow, "dying": dying, "flooding": flooding, "garbage": garbage}


def serve_tcp() -> None:
    """Serve one connection after another, each by a process of our peer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                command = [sys.executable, str(EXAMPLES / "peer.py")]
                pipe = connection.fileno()
                subprocess.run(command, stdin=pipe, stdout=pipe, check=False)


def main() -> None:
    mode = sys.argv[1]
    if mode == "tcp":
        serve_tcp()
    if mode == "graceful":
        peer.main(Graceful)
        return
    if mode == "mute":
        sys.stdin.buffer.read()
        return
    if mode == "talkative":
        print("listening on port 7000", flush=True)
    first = json.loads(next(frames(None)))
    testee = TESTEES.get(mode, Testee)(first["you"], cryptor_for(first))
    name = "somebody else" if mode == "misnamed" else first["you"]
    hello(name, e2ee=True, client_protocol=None if mode == "terse" else 2)
    if mode == "silent":
        sys.stdin.buffer.read()
    else:
        play(testee, HABITS.get(mode, lambda frame: None))


if __name__ == "__main__":
    main()
