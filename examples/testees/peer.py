"""A testee for `rpcproto conform`, in Python over a pipe: our engine, with virtual time.

rpcproto conform --exec "python examples/testees/peer.py"
"""

import hashlib
import heapq
import json
import sys
from collections import Counter
from typing import Any

from rpcproto import (
    CallFailed,
    CallSucceeded,
    InvocationReceived,
    LocalProtocolError,
    RpcConfig,
    RpcEngine,
    random_ids,
)
from rpcproto.e2ee import AesGcmCryptor, Cryptor, derive_key


class Testee:
    METHODS: tuple[str, ...] = ("echo", "size", "text", "fail", "crash", "wait", "count", "call")
    CONFIG = RpcConfig()

    def __init__(self, identity: str, cryptor: Cryptor | None = None) -> None:
        new_id, config = random_ids(), self.CONFIG
        self.engine = RpcEngine(identity, new_id=new_id, config=config, cryptor=cryptor)
        self.now = 0.0
        self.later: list[tuple[float, int, str]] = []
        self.counts = Counter[str]()
        self.calls: dict[str, tuple[int, bool]] = {}
        for method in self.METHODS:
            self.engine.register_method(f"conform.{method}")

    def handle(self, invocation: InvocationReceived) -> None:
        number, payload, now = invocation.invocation_id, invocation.payload, self.now
        try:
            match invocation.method.removeprefix("conform."):
                case "echo":
                    self.counts[payload] += 1
                    self.engine.respond(number, payload, now=now)
                case "size":
                    self.engine.respond(number, "x" * int(payload), now=now)
                case "count":
                    self.engine.respond(number, str(self.counts[payload]), now=now)
                case "crash":
                    raise RuntimeError(payload)
                case method:
                    getattr(self, method)(number, **json.loads(payload))
        except Exception:  # the caller gets no text of it
            self.engine.respond_error(number, 1500, now=now)

    def text(self, number: int, text: str, times: int) -> None:
        self.engine.respond(number, text * times, now=self.now)

    def fail(self, number: int, code: int, message: str, data: str) -> None:
        self.engine.respond_error(number, code, message, data, now=self.now)

    def wait(self, number: int, seconds: float, answer: str) -> None:
        heapq.heappush(self.later, (self.now + seconds, number, answer))

    def call(self, number: int, destination: str, method: str, payload: str, **more: Any) -> None:
        payload *= more.get("times", 1)
        timeout = more["response_timeout_ms"] / 1000 if "response_timeout_ms" in more else None
        call, now = self.engine.call, self.now
        try:
            request = call(destination, method, payload, response_timeout=timeout, now=now)
            self.calls[request] = number, more.get("digest", False)
        except LocalProtocolError as error:
            self.engine.respond(number, json.dumps({"raised": str(error)}), now=now)

    def ended(self, event: CallSucceeded | CallFailed) -> None:
        number, digest = self.calls.pop(event.request_id)
        outcome: dict[str, object] = {}
        if isinstance(event, CallFailed):
            outcome = {"code": event.code, "message": event.message, "data": event.data}
        elif digest:
            data = event.payload.encode()
            outcome = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        else:
            outcome = {"payload": event.payload}
        self.engine.respond(number, json.dumps(outcome, ensure_ascii=False), now=self.now)

    def pump(self) -> None:
        while events := self.engine.take_events():
            for event in events:
                if isinstance(event, InvocationReceived):
                    self.handle(event)
                elif isinstance(event, CallSucceeded | CallFailed):
                    self.ended(event)
        while packet := self.engine.next_packet():
            write(packet.data)

    def advance(self, now: float) -> None:
        """Do all that is due until `now`, each at its time."""
        while (due := self.next_due()) <= now:
            self.now = max(due, self.now)
            while self.later and self.later[0][0] <= self.now:
                _, number, answer = heapq.heappop(self.later)
                self.engine.respond(number, answer, now=self.now)
            self.engine.handle_deadline(now=self.now)
            self.pump()
        self.now = now

    def next_due(self) -> float:
        deadline = self.engine.next_deadline
        dues = [float("inf") if deadline is None else deadline, *(due for due, *_ in self.later)]
        return min(dues)

    def control(self, told: dict[str, Any]) -> None:
        if "now" in told:
            self.advance(told["now"])
            write(json.dumps({"now": told["now"]}).encode())
        if who := told.get("joined") or told.get("left"):
            identity, sid = who.pop("identity"), who.pop("sid")
            name = "participant_joined" if "joined" in told else "participant_left"
            getattr(self.engine, name)(identity, participant_sid=sid, now=self.now, **who)


def read() -> bytes:
    length = sys.stdin.buffer.read(4)
    return sys.stdin.buffer.read(int.from_bytes(length)) if length else b""


def write(data: bytes) -> None:
    sys.stdout.buffer.write(len(data).to_bytes(4) + data)
    sys.stdout.buffer.flush()


def cryptor_for(told: dict[str, Any]) -> Cryptor | None:
    """What encrypts with the key of the suite's hello, if that has one."""
    if (key := told.get("e2ee")) is None:
        return None
    cryptor = AesGcmCryptor()
    cryptor.set_shared_key(derive_key(key["passphrase"]), key["key_index"])
    cryptor.use(key["key_index"])
    return cryptor


def main(kind: type[Testee] = Testee) -> None:
    told = json.loads(read())
    testee = kind(told["you"], cryptor_for(told))
    hello = {"rpcproto": 1, "identity": told["you"], "client_protocol": 2, "capabilities": [2]}
    write(json.dumps(hello | {"virtual_time": True, "e2ee": True}).encode())
    while frame := read():
        if frame.startswith(b"{"):
            testee.control(json.loads(frame))
        else:
            testee.engine.receive_packet(frame, now=testee.now)
        testee.pump()


if __name__ == "__main__":
    main()
