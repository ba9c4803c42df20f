"""What connects a host to the kit: a driver, and what the kit gives to it."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, final

from rpcproto.core.config import RpcConfig
from rpcproto.testing.hosts.channel import Channel
from rpcproto.testing.hosts.clock import VirtualClock


@final
class CallHandle:
    """A call that the host makes. A driver can store attributes of its own in it."""

    def __init__(self) -> None:
        self.outcomes: list[str | Exception] = []
        """The outcomes so far: none, or one."""
        self.cancel: Callable[[], object] = lambda: None
        """Set by the driver: a function that cancels the call without waiting. It returns False if
        it is too late, and the outcome may still be reported."""
        self.noticed: Callable[[], object] = lambda: None
        """For the kit: called when there is an outcome."""

    def end(self, outcome: str | Exception) -> None:
        """For the driver: report the payload, or the exception that the host raised or passed to a
        callback."""
        self.outcomes.append(outcome)
        self.noticed()

    @property
    def outcome(self) -> str | Exception | None:
        """The outcome, or None while the call is pending."""
        return self.outcomes[0] if self.outcomes else None


class Invocation(Protocol):
    """The argument of a handler."""

    @property
    def request_id(self) -> str:
        """The id of the request."""

    @property
    def caller_identity(self) -> str:
        """The identity of the caller."""

    @property
    def method(self) -> str:
        """The method that was called."""

    @property
    def payload(self) -> str:
        """The payload of the request."""

    @property
    def response_timeout(self) -> float:
        """How long the caller waits, in seconds."""


class Work(Future[str]):
    """The result of a handler that takes time: a future that is completed by the kit's clock.

    The task of the handler waits for it. When the host cancels the handler, the task calls
    `cancel`, and ends when the future is done: at once, or some seconds later.
    """

    def __init__(self, clock: VirtualClock, stubborn_for: float = 0.0) -> None:
        super().__init__()
        self.was_cancelled: bool = False
        self._clock = clock
        self.stubborn_for: float = stubborn_for
        """How long it continues after it is cancelled, in seconds."""

    def end_in(self, seconds: float, outcome: str | Exception) -> None:
        """For the kit: end after this number of seconds, unless it has ended before."""
        self._clock.schedule(seconds, lambda: self.end(outcome))

    def cancel(self) -> bool:
        """Cancel the work. Stubborn work ends some seconds later."""
        if self.done() or self.was_cancelled:
            return False
        self.was_cancelled = True
        if self.stubborn_for:
            self.end_in(self.stubborn_for, "too late")
            return False
        return super().cancel()

    def end(self, outcome: str | Exception) -> None:
        """For the kit: end now, unless it has ended before."""
        if self.done():
            return
        if isinstance(outcome, str):
            self.set_result(outcome)
        else:
            self.set_exception(outcome)


Handler: TypeAlias = Callable[[Any], Any]
"""A handler of the kit. It takes an `Invocation`, and returns `Work` or what any handler can
return, or raises."""


@final
@dataclass(frozen=True, slots=True)
class HostSetup:
    """The arguments from which a driver makes its host."""

    identity: str
    channel: Channel
    clock: VirtualClock
    handlers: Mapping[str, Handler]
    """The handlers to register, by method."""
    config: RpcConfig


class HostDriver(Protocol):
    """Drives one host. Each method returns when the host has nothing left to do at the current
    instant."""

    def start(self, setup: HostSetup) -> None:
        """Make a host, and register its handlers."""

    def perform(
        self, destination_identity: str, method: str, payload: str, response_timeout: float | None
    ) -> CallHandle:
        """Make a call without waiting for its end. Report its outcome to the handle, also if the
        host raises at once."""

    def cancel(self, handle: CallHandle) -> None:
        """Cancel a call, like a program that no longer needs the answer."""

    def advance(self, seconds: float) -> None:
        """Let time pass (0 or more seconds), from timer to timer."""

    def close(self) -> None:
        """Leave. Raise AssertionError if the host leaks resources that the kit can't see, such as
        tasks."""
