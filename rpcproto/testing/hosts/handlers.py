"""The handlers that the kit registers with a host, and an account of what they did."""

from collections.abc import Callable, Mapping
from functools import partial

from rpcproto.errors import RpcError
from rpcproto.testing.hosts.clock import VirtualClock
from rpcproto.testing.hosts.driver import Handler, Invocation, Work
from rpcproto.testing.hosts.steps import PEER

SLOW: float = 3.0
"""How long a slow handler takes, in seconds."""
ENDLESS: float = 100_000.0
STUBBORN_FOR: float = 5.0
"""How long a stubborn handler takes to end when it is cancelled."""


class _Stop(BaseException):
    """Something that is no Exception."""


class _OddText(str):
    """A text whose methods are not to be trusted."""

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        raise ValueError("a secret")

    def __str__(self) -> str:
        raise ValueError("a secret")

    def __len__(self) -> int:
        return 0


class _UnprintableError(Exception):
    def __str__(self) -> str:
        raise ValueError("a secret")


class KitHandlers:
    """All handlers of a scenario."""

    def __init__(self, clock: VirtualClock) -> None:
        self.runs: int = 0
        """How many handlers were called."""
        self.works: list[Work] = []
        """What the handlers that take time returned."""
        self.timeouts: dict[str, float] = {}
        """The timeouts that the peer's requests carry, by request id, in seconds."""
        self.misuse: list[str] = []
        """What the host did that no host may do."""
        self._clock = clock
        self._handlers: dict[str, Callable[[Invocation], object]] = {
            "echo": lambda data: data.payload,
            "double": lambda data: 2 * data.payload,
            "number": lambda data: 7,
            "odd text": lambda data: _OddText(data.payload),
            "no text": lambda data: "\ud800",
            "refuse": partial(_raise, lambda data: RpcError(2001, "Out of tea", data.payload)),
            "refuse wrongly": partial(_raise, lambda data: RpcError(-1, "a secret")),
            "crash": partial(_raise, lambda data: ValueError("a secret")),
            "crash without a text": partial(_raise, lambda data: _UnprintableError()),
            "exit": partial(_raise, lambda data: SystemExit("a secret")),
            "stop": partial(_raise, lambda data: _Stop("a secret")),
            "slow": lambda data: self._work(SLOW, data.payload),
            "slow refusal": lambda data: self._work(SLOW, RpcError(2002, "No", data.payload)),
            "slow crash": lambda data: self._work(SLOW, ValueError("a secret")),
            "endless": lambda data: self._work(ENDLESS, data.payload),
            "stubborn": lambda data: self._work(ENDLESS, data.payload, STUBBORN_FOR),
        }

    def all(self) -> Mapping[str, Handler]:
        """The handlers by method, for a host."""
        return {method: partial(self._handle, method) for method in self._handlers}

    @property
    def running(self) -> int:
        """How many of those that take time have not ended."""
        return sum(not work.done() for work in self.works)

    @property
    def cancelled(self) -> int:
        """How many of those that take time were cancelled."""
        return sum(work.was_cancelled for work in self.works)

    @property
    def stubborn_for(self) -> float:
        """How long those that run may go on when they are cancelled, in seconds."""
        return max((work.stubborn_for for work in self.works if not work.done()), default=0.0)

    def release(self) -> None:
        """End all handlers, so that no thread waits for one."""
        for work in self.works:
            work.end("")

    def _handle(self, method: str, data: Invocation) -> object:
        self.runs += 1
        if self._clock.is_reporting:
            self.misuse.append("ran a handler inside a callback")
        if (data.method, data.caller_identity) != (method, PEER):
            self.misuse.append("gave a handler the wrong method or caller")
        if self.timeouts.get(data.request_id) != data.response_timeout:
            self.misuse.append("gave a handler the wrong request id or timeout")
        return self._handlers[method](data)

    def _work(self, seconds: float, outcome: str | Exception, stubborn_for: float = 0.0) -> Work:
        work = Work(self._clock, stubborn_for)
        work.end_in(seconds, outcome)
        self.works.append(work)
        return work


def _raise(error: Callable[[Invocation], BaseException], data: Invocation) -> object:
    raise error(data)
