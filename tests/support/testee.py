"""A testee for the tests of the conformance suite: right but on real time, or wrong in one way.

python tests/support/testee.py MODE
"""

import contextlib
import json
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "testees"))

from peer import Testee, write


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
    write(json.dumps(fields | more).encode())


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
    time.sleep(0.05)


def dying(frame: bytes) -> None:
    if b"conform.count" in frame:
        print("it was the count that did it", file=sys.stderr)
        os._exit(3)


def flooding(frame: bytes) -> None:
    if b"hello" in frame:
        packet = b"\x2a\x05alice" + b"\x5a\x26\x0a\x24" + b"a" * 36
        with contextlib.suppress(BrokenPipeError):
            while True:
                write(packet)


def garbage(frame: bytes) -> None:
    if not frame.startswith(b"{"):
        sys.stdout.buffer.write(b"\xff" * 64)
        sys.stdout.buffer.flush()


def main() -> None:
    mode = sys.argv[1]
    if mode == "no hello":
        time.sleep(3600)
    if mode == "talks":
        print("listening on port 7000", flush=True)
        time.sleep(3600)
    first = json.loads(next(frames(None)))
    testee = Testee(first["you"])
    hello("somebody else" if mode == "misnamed" else first["you"])
    before = {"slow": slow, "dying": dying, "flooding": flooding, "garbage": garbage}
    if mode == "silent":
        for _ in frames(None):
            pass
    else:
        play(testee, before.get(mode, lambda frame: None))


if __name__ == "__main__":
    main()
