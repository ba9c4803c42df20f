"""A conformance kit for hosts: scenarios as data, played to any host through one small driver.

A host of your own is put through it in three steps: write a `HostDriver` for it, then for each of
`SCENARIOS` call `play(scenario, driver)` with a fresh driver, and read the `HostFailed` that it may
raise: it tells what was expected, and everything that happened until then. Time is virtual, and
everything happens inside `HostDriver.advance`, `perform`, `cancel` and `close`, in their thread.
"""

import heapq
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from rpcproto.core.engine import RpcEngine
from rpcproto.core.errors import ErrorCode, RpcError
from rpcproto.core.events import CallFailed, CallSucceeded, InvocationReceived
from rpcproto.core.messages import OutgoingPacket, PacketKind
from rpcproto.testing.ids import counting_ids
from rpcproto.transports import (
    Connected,
    Disconnected,
    PacketNotSent,
    PacketReceived,
    ParticipantJoined,
    ParticipantLeft,
    TransportEvent,
)

HOST: Final = "host"
"""The identity of the participant under test."""
PEER: Final = "peer"
"""The identity of the other one, which the kit plays."""
CLOSING_TIME: Final = 1.0
"""How long a host may take to leave, in seconds."""
_LATENCY: Final = 0.0625
_PEER_SID: Final = "PA_peer"

# --- what a host's driver is given


class Timer:
    """A timer of a `VirtualClock`."""

    def __init__(self, callback: Callable[[], None], *, is_hosts: bool) -> None:
        self.callback: Callable[[], None] = callback
        self.is_hosts: bool = is_hosts
        self.is_cancelled: bool = False

    def cancel(self) -> None:
        """Do not fire; a clock that fires stale timers does it all the same."""
        self.is_cancelled = True


class VirtualClock:
    """Time that passes only in `advance`, and timers that are as bad as timers can be.

    A host either takes its time and its timers from here, as it would from an asyncio loop (`time`,
    `call_at`, `call_soon`), or lives in a world that is built on it (`time`, `next_timer`,
    `move_to`).
    """

    def __init__(self) -> None:
        self._now = 0.0
        self.early: float = 0.0
        """By how many seconds timers fire too early; read by worlds with timers of their own."""
        self.stale: bool = False
        """Whether timers fire that were cancelled."""
        self.repeated: bool = False
        """Whether timers fire twice."""
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()

    def time(self) -> float:
        """Seconds since the scenario began."""
        return self._now

    def call_at(self, at: float, callback: Callable[[], None]) -> Timer:
        """For hosts: call `callback` at `at`, more or less."""
        is_early = 0.0 < self.early < at - self._now
        return self._add(at - self.early if is_early else at, Timer(callback, is_hosts=True))

    def call_soon(self, callback: Callable[[], None]) -> None:
        """For hosts: call `callback` at this instant, after what is running now."""
        self.schedule(0.0, callback)

    def schedule(self, seconds: float, callback: Callable[[], None]) -> None:
        """For the kit: call `callback` exactly `seconds` from now."""
        self._add(self._now + seconds, Timer(callback, is_hosts=False))

    @property
    def next_timer(self) -> float | None:
        """When the next timer fires, in seconds; None if there is none."""
        return self._timers[0][0] if self._timers else None

    def move_to(self, at: float) -> None:
        """Let it be `at`, unless it is later already, and fire what is due."""
        self._now = max(self._now, at)
        while self._timers and self._timers[0][0] <= self._now:
            timer = heapq.heappop(self._timers)[2]
            if timer.is_cancelled and not self.stale:
                continue
            timer.callback()
            if timer.is_hosts and self.repeated:
                timer.callback()

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass, from timer to timer: all of `HostDriver.advance` for a host that
        takes its time from here."""
        end = self._now + seconds
        while (at := self.next_timer) is not None and at <= end:
            self.move_to(at)
        self.move_to(end)

    def jump(self, seconds: float) -> None:
        """Let `seconds` pass without firing anything."""
        self._now += seconds

    def _add(self, at: float, timer: Timer) -> Timer:
        heapq.heappush(self._timers, (at, next(self._numbers), timer))
        return timer


class Channel:
    """The host's end of the way to its peer, as most worlds have it: messages come by callback, and
    there is room for more, or not.

    The driver sets `on_event`, and `on_room` if the host wants to know when there is room again.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self.on_event: Callable[[TransportEvent], None] = lambda event: None
        """Called with what happens, one at a time; perhaps from within `send`."""
        self.on_room: Callable[[], None] = lambda: None
        """Called when there is room again."""
        self.is_full: bool = False
        self.seconds_per_packet: float = 0.0
        self.broken_by: Exception | None = None
        self.unsent: frozenset[PacketKind] = frozenset()
        """Of these kinds the next packet will not be sent."""
        self.sent: list[OutgoingPacket] = []
        self.misuse: list[str] = []
        """What the host did that no host may do."""
        self.times_closed: int = 0
        self.carry: Callable[[OutgoingPacket], None] = lambda packet: None
        self._clock = clock
        self._busy_until = 0.0

    def has_room(self) -> bool:
        """Whether a packet may be sent now."""
        return not self.is_full and self._clock.time() >= self._busy_until

    def send(self, packet: OutgoingPacket) -> None:
        """Send a packet. Raises PacketNotSent, and anything else when the connection is broken."""
        if self.times_closed:
            self.misuse.append("sent a packet after closing")
        if self.broken_by is not None:
            raise self.broken_by.with_traceback(None)
        if not self.has_room():
            self.misuse.append("sent a packet although there was no room")
        if packet.kind in self.unsent:
            self.unsent = frozenset()
            raise PacketNotSent
        self.sent.append(packet)
        if self.seconds_per_packet:
            self._busy_until = self._clock.time() + self.seconds_per_packet
            self._clock.schedule(self.seconds_per_packet, self.tell_room)
        self.carry(packet)

    def tell_room(self) -> None:
        """For the kit: there is room again."""
        if self.has_room():
            self.on_room()

    def close(self) -> None:
        """Let go of it; to be called once."""
        self.times_closed += 1


class CallHandle:
    """A call that a host was made to make. A driver may keep in it what it needs of its own."""

    def __init__(self) -> None:
        self.outcomes: list[str | RpcError] = []
        """What came of it: nothing yet, or one thing."""
        self.cancel: Callable[[], object] = lambda: None
        """For the driver: what cancels the call."""

    def end(self, outcome: str | RpcError) -> None:
        """For the driver: the payload or the error that the host gave."""
        self.outcomes.append(outcome)

    @property
    def outcome(self) -> str | RpcError | None:
        """The outcome, or None while there is none."""
        return self.outcomes[0] if self.outcomes else None


Handler: TypeAlias = Callable[[str], object]
"""A handler of the kit: takes a payload, returns what a handler may return, or raises."""


class HostDriver(Protocol):
    """Drives one host: all that the kit asks of it. Every method returns when nothing more is to
    happen at this instant."""

    def start(
        self, identity: str, channel: Channel, clock: VirtualClock, handlers: Mapping[str, Handler]
    ) -> None:
        """Make a host that uses this channel and this time, and register the handlers."""

    def perform(
        self, destination_identity: str, method: str, payload: str, response_timeout: float | None
    ) -> CallHandle:
        """Make a call, and do not wait for its end."""

    def cancel(self, handle: CallHandle) -> None:
        """Cancel a call, as a program would that does not want its answer any more."""

    def advance(self, seconds: float) -> None:
        """Let time pass (0 or more seconds), from timer to timer."""

    def close(self) -> None:
        """Leave."""


# --- scenarios


@dataclass(frozen=True, slots=True)
class Call:
    """The host calls its peer; `name` is for the steps that follow."""

    name: str
    method: str = "echo"
    payload: str = "Hi"
    response_timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Cancel:
    """The host's program cancels a call."""

    name: str


@dataclass(frozen=True, slots=True)
class Ended:
    """By now a call has one of these outcomes: a payload, or the code of an error."""

    name: str
    outcomes: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Pending:
    """By now a call has no outcome."""

    name: str


@dataclass(frozen=True, slots=True)
class PeerCall:
    """The peer calls the host, and gets this within two seconds."""

    method: str
    outcome: str | int
    payload: str = "Hi"


@dataclass(frozen=True, slots=True)
class Advance:
    """Time passes."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Jump:
    """Time passes in which nothing is run, as in a laptop that sleeps: timers fire late."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Timers:
    """From now on timers are early (seconds), stale or repeated."""

    early: float = 0.0
    stale: bool = False
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Network:
    """From now on packets take this long (seconds), or arrive from inside `send` if None, and some
    kinds are lost, both ways."""

    latency: float | None = _LATENCY
    lost: frozenset[PacketKind] = frozenset()


@dataclass(frozen=True, slots=True)
class Room:
    """From now on the channel is full or not, or takes its time for each packet (seconds)."""

    is_full: bool = False
    seconds_per_packet: float = 0.0


@dataclass(frozen=True, slots=True)
class NotSent:
    """The next packet of the host, or the next of a kind, is not sent; the connection stands."""

    kind: PacketKind | None = None


@dataclass(frozen=True, slots=True)
class Breaks:
    """From now on `send` raises."""

    cause: Exception


@dataclass(frozen=True, slots=True)
class Happens:
    """The channel tells the host something."""

    event: TransportEvent


@dataclass(frozen=True, slots=True)
class SentNothing:
    """The host has sent nothing since the step before."""


@dataclass(frozen=True, slots=True)
class Cause:
    """The error of a call has this one as its cause."""

    name: str
    cause: Exception


@dataclass(frozen=True, slots=True)
class Close:
    """The host leaves."""


Step: TypeAlias = (
    Call
    | Cancel
    | Ended
    | Pending
    | PeerCall
    | Advance
    | Jump
    | Timers
    | Network
    | Room
    | NotSent
    | Breaks
    | Happens
    | SentNothing
    | Cause
    | Close
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """What happens to a host, step by step, and what must come of it."""

    name: str
    steps: Sequence[Step]


class HostFailed(AssertionError):  # noqa: N818 (what happened)
    """A host did not do what every host must do; the text has all that happened."""


_ALL_KINDS: Final = frozenset(PacketKind)
_CABLE_CUT: Final = ConnectionError("cable cut")
_LONG: Final = "".join(f"{number} bottles of beer on the wall, " for number in range(20_000))

SCENARIOS: Final[Sequence[Scenario]] = (
    Scenario("a call is answered", (Call("a"), Advance(1.0), Ended("a", ("Hi",)))),
    Scenario(
        "many calls are answered, each with its own answer",
        (
            *(Call(f"{number}", payload=f"{number}") for number in range(100)),
            Advance(1.0),
            *(Ended(f"{number}", (f"{number}",)) for number in range(100)),
        ),
    ),
    Scenario(
        "a long payload travels both ways, and a short call does not wait for it",
        (
            Room(seconds_per_packet=0.125),
            Call("long", payload=_LONG),
            Call("short"),
            Advance(1.0),
            Ended("short", ("Hi",)),
            Advance(9.0),
            Ended("long", (_LONG,)),
            PeerCall("echo", _LONG, payload=_LONG),
        ),
    ),
    Scenario("an unknown method fails", (Call("a", "nothing"), Advance(1.0), Ended("a", (1400,)))),
    Scenario(
        "an error of the peer is the outcome",
        (Call("a", "refuse"), Advance(1.0), Ended("a", (2001,))),
    ),
    Scenario(
        "no sign of life ends a call with 1501, when the window is over and no sooner",
        (
            Network(lost=_ALL_KINDS),
            Call("a"),
            Advance(6.875),
            Pending("a"),
            Advance(0.125),
            Ended("a", (1501,)),
        ),
    ),
    Scenario(
        "an answer that never comes ends a call with 1502",
        (
            Call("a", "ignore"),
            Call("b", "ignore", response_timeout=3.0),
            Call("c", "ignore", response_timeout=20.0),
            Advance(2.875),
            Pending("b"),
            Advance(0.125),
            Ended("b", (1502,)),
            Pending("a"),
            Advance(7.0),
            Ended("a", (1502,)),
            Pending("c"),
            Advance(10.0),
            Ended("c", (1502,)),
        ),
    ),
    Scenario(
        "timers that fire early end nothing early, and nothing hangs",
        (
            Timers(early=0.25),
            Network(lost=_ALL_KINDS),
            Call("a"),
            Advance(6.875),
            Pending("a"),
            Advance(0.125),
            Ended("a", (1501,)),
        ),
    ),
    Scenario(
        "stale and repeated timers do no harm",
        (
            Timers(stale=True, repeated=True),
            Call("a"),
            Call("b", "ignore"),
            Advance(1.0),
            Ended("a", ("Hi",)),
            Call("c", "ignore", response_timeout=4.0),
            Advance(9.0),
            Ended("b", (1502,)),
            Ended("c", (1502,)),
            Advance(30.0),
            Call("d"),
            Advance(1.0),
            Ended("d", ("Hi",)),
        ),
    ),
    Scenario(
        "a timer that fires late ends what is due",
        (
            Network(lost=_ALL_KINDS),
            Call("a"),
            Call("b", response_timeout=3.0),
            Jump(60.0),
            Ended("a", (1501,)),
            Ended("b", (1502,)),
        ),
    ),
    Scenario(
        "a packet and a timer at one instant: one of the two outcomes, and only one",
        (
            Call("a", "late", response_timeout=2.0),
            Advance(2.0),
            Ended("a", ("Hi", 1502)),
            Advance(60.0),
            Call("b"),
            Advance(1.0),
            Ended("b", ("Hi",)),
        ),
    ),
    Scenario(
        "a call that is cancelled has no outcome, and the others have theirs",
        (
            Call("a"),
            Call("b"),
            Call("c", "ignore"),
            Cancel("b"),
            Advance(1.0),
            Ended("a", ("Hi",)),
            Pending("b"),
            Cancel("c"),
            Advance(60.0),
            Pending("c"),
        ),
    ),
    Scenario(
        "cancelling what has ended changes nothing",
        (Call("a"), Advance(1.0), Cancel("a"), Advance(1.0), Ended("a", ("Hi",))),
    ),
    Scenario(
        "a call that was cancelled before it could leave does no harm",
        (
            Room(is_full=True),
            Call("a"),
            Call("b"),
            Cancel("a"),
            Room(),
            Advance(1.0),
            Pending("a"),
            Ended("b", ("Hi",)),
        ),
    ),
    Scenario(
        "a handler answers, refuses or crashes, and its caller hears no more than it should",
        (
            PeerCall("echo", "Hi"),
            PeerCall("refuse", 2001),
            PeerCall("crash", 1500),
            PeerCall("number", 1500),
            PeerCall("nothing", 1400),
            PeerCall("echo", "Hi"),
        ),
    ),
    Scenario(
        "packets that arrive from inside send",
        (
            Network(latency=None),
            *(Call(f"{number}", payload=f"{number}") for number in range(20)),
            Advance(0.0),
            *(Ended(f"{number}", (f"{number}",)) for number in range(20)),
            PeerCall("echo", "Hi"),
            PeerCall("crash", 1500),
            Call("long", payload=_LONG),
            Advance(0.0),
            Ended("long", (_LONG,)),
        ),
    ),
    Scenario(
        "hundreds of packets that arrive from inside send, one after another",
        (
            Network(latency=None),
            Room(is_full=True),
            *(Call(f"{number}", payload=f"{number}") for number in range(500)),
            Room(),
            *(Ended(f"{number}", (f"{number}",)) for number in range(500)),
        ),
    ),
    Scenario(
        "a packet that is not sent fails its call alone",
        (
            Call("a", "ignore"),
            Advance(1.0),
            NotSent(),
            Call("b"),
            Call("c"),
            Advance(1.0),
            Ended("b", (1505,)),
            Ended("c", ("Hi",)),
            Pending("a"),
        ),
    ),
    Scenario(
        "an answer that is not sent: its caller hears of it",
        (NotSent(PacketKind.STREAM_HEADER), PeerCall("echo", 1505), PeerCall("echo", "Hi")),
    ),
    Scenario(
        "a channel that breaks while sending ends all calls at once",
        (
            Call("a", "ignore"),
            Advance(1.0),
            Breaks(_CABLE_CUT),
            Call("b"),
            Advance(0.0),
            Ended("a", (1503,)),
            Ended("b", (1503,)),
            Cause("a", _CABLE_CUT),
            Cause("b", _CABLE_CUT),
            Call("c"),
            Advance(0.0),
            Ended("c", (1503,)),
            Cause("c", _CABLE_CUT),
        ),
    ),
    Scenario(
        "a connection that is lost ends all calls at once, and may come back",
        (
            Call("a", "ignore"),
            Advance(1.0),
            Happens(Disconnected(_CABLE_CUT)),
            Ended("a", (1503,)),
            Cause("a", _CABLE_CUT),
            Happens(ParticipantJoined(PEER, _PEER_SID, 2, (2,))),
            Happens(Connected()),
            Call("b"),
            Advance(1.0),
            Ended("b", ("Hi",)),
            PeerCall("echo", "Hi"),
        ),
    ),
    Scenario(
        "a peer that leaves ends its calls at once",
        (
            Call("a", "ignore"),
            Advance(1.0),
            Happens(ParticipantLeft(PEER, _PEER_SID)),
            Ended("a", (1503,)),
            Call("b"),
            Advance(0.0),
            Ended("b", (1401,)),
        ),
    ),
    Scenario(
        "a channel that is full sends nothing, and loses nothing",
        (
            Room(is_full=True),
            *(Call(f"{number}", payload=f"{number}") for number in range(20)),
            Advance(5.0),
            SentNothing(),
            Room(),
            Advance(1.0),
            *(Ended(f"{number}", (f"{number}",)) for number in range(20)),
        ),
    ),
    Scenario(
        "calls end in time though the channel stays full",
        (Room(is_full=True), Call("a"), Advance(7.0), Ended("a", (1501,)), SentNothing()),
    ),
    Scenario(
        "a channel that is slow sends everything in its time",
        (
            Room(seconds_per_packet=0.25),
            *(Call(f"{number}", payload=f"{number}") for number in range(20)),
            Advance(6.0),
            *(Ended(f"{number}", (f"{number}",)) for number in range(20)),
        ),
    ),
    Scenario(
        "garbage and impossible participants change nothing",
        (
            Call("a", "ignore"),
            Advance(1.0),
            Happens(PacketReceived(b"\xff garbage", PEER, _PEER_SID)),
            Happens(PacketReceived(b"", PEER, _PEER_SID)),
            Happens(PacketReceived(b"", "x" * 257)),
            Happens(ParticipantJoined("x" * 257)),
            Happens(ParticipantLeft("")),
            Pending("a"),
            Call("b"),
            Advance(1.0),
            Ended("b", ("Hi",)),
        ),
    ),
    Scenario(
        "leaving ends all calls",
        (
            Call("a", "ignore"),
            Call("b", "ignore", response_timeout=60.0),
            Advance(1.0),
            Close(),
            Ended("a", (1503,)),
            Ended("b", (1503,)),
        ),
    ),
    Scenario(
        "leaving is not held up by a channel that stays full",
        (Room(is_full=True), Call("a"), Close(), Ended("a", (1503,))),
    ),
    Scenario(
        "leaving a channel that is broken",
        (Breaks(_CABLE_CUT), Call("a"), Advance(0.0), Ended("a", (1503,)), Close()),
    ),
)
"""What every host must live through. More may come: a new one is a minor version."""

# --- playing them


def play(scenario: Scenario, driver: HostDriver) -> None:
    """Play a scenario to a host, then make it leave; raises HostFailed. A driver is for one use."""
    stage = _Stage(driver)
    try:
        for step in scenario.steps:
            stage.do(step)
        stage.end()
    except _Unmet as unmet:
        story = "\n".join(f"  {line}" for line in stage.story)
        raise HostFailed(f"{scenario.name}: {unmet}\n{story}") from None


class _Unmet(Exception):  # noqa: N818 (what happened)
    """What was expected and is not so."""


def _echo(payload: str) -> str:
    return payload


def _refuse(payload: str) -> str:
    raise RpcError(2001, "Out of tea", payload)


def _crash(payload: str) -> str:
    raise ValueError("a secret")


def _number(payload: str) -> int:
    return 7


_HANDLERS: Final[Mapping[str, Handler]] = {
    "echo": _echo,
    "refuse": _refuse,
    "crash": _crash,
    "number": _number,
}
_PEER_METHODS: Final = ("echo", "refuse", "ignore", "late")


class _Stage:
    """One scenario that is being played: the host, its peer, and what is between them."""

    def __init__(self, driver: HostDriver) -> None:
        self.story: list[str] = []
        self._driver = driver
        self._clock = VirtualClock()
        self._channel = Channel(self._clock)
        self._channel.carry = self._carry_to_peer
        self._network = Network()
        self._calls: dict[str, CallHandle] = {}
        self._cancelled: set[str] = set()
        self._peer_outcomes: dict[str, CallSucceeded | CallFailed] = {}
        self._sent_before = 0
        self._peer = RpcEngine(PEER, new_id=counting_ids("f"))
        self._peer.participant_joined(
            HOST, now=0.0, participant_sid="PA_host", client_protocol=2, capabilities=(2,)
        )
        for method in _PEER_METHODS:
            self._peer.register_method(method)
        self._handler_runs = 0
        handlers = {method: self._counted(handler) for method, handler in _HANDLERS.items()}
        driver.start(HOST, self._channel, self._clock, handlers)
        self._happens(ParticipantJoined(PEER, _PEER_SID, 2, (2,)))
        self._happens(Connected(participants_complete=True))

    def do(self, step: Step) -> None:
        """Let a step happen, or look whether it is so."""
        self._tell(f"{step!r:.300}")
        sent = len(self._channel.sent)
        match step:
            case Call():
                self._calls[step.name] = self._driver.perform(
                    PEER, step.method, step.payload, step.response_timeout
                )
            case Cancel():
                if self._calls[step.name].outcome is None:
                    self._cancelled.add(step.name)
                self._driver.cancel(self._calls[step.name])
            case Ended():
                self._expect_outcome(step)
            case Pending():
                self._expect(self._calls[step.name].outcome is None, "the call has ended")
            case PeerCall():
                self._call_host(step)
            case Advance():
                self._driver.advance(step.seconds)
            case Jump():
                self._clock.jump(step.seconds)
                self._driver.advance(0.0)
            case Happens():
                self._happens(step.event)
            case SentNothing():
                self._expect(sent == self._sent_before, "the host sent something")
            case Cause():
                error = self._calls[step.name].outcome
                is_cause = isinstance(error, RpcError) and error.__cause__ is step.cause
                self._expect(is_cause, f"{error!r} has another cause")
            case Close():
                self._close()
            case _:
                self._set(step)
        self._sent_before = sent

    def end(self) -> None:
        """Whatever happened: it leaves, in time, and nothing is left."""
        if not self._channel.times_closed:
            self._close()
        for name, handle in self._calls.items():
            ends = 0 if name in self._cancelled else 1
            self._expect(len(handle.outcomes) == ends, f"the call {name!r} has not {ends} outcomes")
        self._expect(not self._channel.misuse, f"the host {', '.join(self._channel.misuse)}")

    def _set(self, step: Timers | Network | Room | NotSent | Breaks) -> None:
        channel, clock = self._channel, self._clock
        match step:
            case Timers():
                clock.early, clock.stale, clock.repeated = step.early, step.stale, step.repeated
            case Network():
                self._network = step
            case Room():
                channel.is_full = step.is_full
                channel.seconds_per_packet = step.seconds_per_packet
                clock.schedule(0.0, channel.tell_room)
                self._driver.advance(0.0)
            case NotSent():
                channel.unsent = _ALL_KINDS if step.kind is None else frozenset({step.kind})
            case Breaks():
                channel.broken_by = step.cause

    def _close(self) -> None:
        before = self._clock.time()
        self._driver.close()
        self._expect(self._channel.times_closed == 1, "the channel was not closed once")
        self._expect(self._clock.time() - before <= CLOSING_TIME, "leaving took too long")

    def _happens(self, event: TransportEvent) -> None:
        self._clock.schedule(0.0, lambda: self._channel.on_event(event))
        self._driver.advance(0.0)

    def _counted(self, handler: Handler) -> Handler:
        def counted(payload: str) -> object:
            self._handler_runs += 1
            return handler(payload)

        return counted

    # the peer

    def _call_host(self, step: PeerCall) -> None:
        runs_before = self._handler_runs
        request_id = self._peer.call(HOST, step.method, step.payload, now=self._clock.time())
        self._clock.schedule(0.0, self._pump_peer)
        self._driver.advance(2.0)
        runs = self._handler_runs - runs_before
        self._expect(runs == (step.method in _HANDLERS), f"the handler ran {runs} times")
        outcome = self._peer_outcomes.get(request_id)
        if isinstance(outcome, CallSucceeded):
            self._expect(outcome.payload == step.outcome, f"the peer got {outcome.payload!r:.100}")
            return
        self._expect(outcome is not None, "the peer got no answer")
        assert outcome is not None
        self._expect(outcome.code == step.outcome, f"the peer got {outcome.code}")
        self._expect("secret" not in outcome.message + outcome.data, "the peer heard a secret")

    def _carry_to_peer(self, packet: OutgoingPacket) -> None:
        def arrive() -> None:
            self._peer.receive_packet(
                packet.data, now=self._clock.time(), sender_identity=HOST, sender_sid="PA_host"
            )
            self._pump_peer()

        self._travel(packet, f"{HOST} -> {PEER}", arrive)

    def _carry_to_host(self, packet: OutgoingPacket) -> None:
        received = PacketReceived(packet.data, PEER, _PEER_SID)
        self._travel(packet, f"{PEER} -> {HOST}", lambda: self._channel.on_event(received))

    def _travel(self, packet: OutgoingPacket, way: str, arrive: Callable[[], None]) -> None:
        is_lost = packet.kind in self._network.lost or self._channel.broken_by is not None
        self._tell(f"{way}: {packet.kind.value}" + (", lost" if is_lost else ""))
        if is_lost:
            return
        if self._network.latency is None:
            arrive()
        else:
            self._clock.schedule(self._network.latency, arrive)

    def _pump_peer(self) -> None:
        for event in self._peer.take_events():
            match event:
                case InvocationReceived():
                    self._answer(event)
                case CallSucceeded() | CallFailed():
                    self._peer_outcomes[event.request_id] = event
        while (packet := self._peer.next_packet()) is not None:
            self._carry_to_host(packet)

    def _answer(self, invocation: InvocationReceived) -> None:
        number, now = invocation.invocation_id, self._clock.time()
        match invocation.method:
            case "echo":
                self._peer.respond(number, invocation.payload, now=now)
            case "refuse":
                self._peer.respond_error(number, 2001, "Out of tea", now=now)
            case "late":
                # To arrive exactly two seconds after the request was sent.
                latency = self._network.latency or 0.0
                self._clock.schedule(2.0 - 2 * latency, lambda: self._answer_late(invocation))

    def _answer_late(self, invocation: InvocationReceived) -> None:
        self._peer.respond(invocation.invocation_id, invocation.payload, now=self._clock.time())
        self._pump_peer()

    # what must be so

    def _expect_outcome(self, step: Ended) -> None:
        outcome = self._calls[step.name].outcome
        if isinstance(outcome, RpcError):
            standard = outcome.code not in set(ErrorCode) or bool(outcome.message)
            self._expect(outcome.code in step.outcomes and standard, f"it ended with {outcome!r}")
        else:
            self._expect(outcome in step.outcomes, f"it ended with {outcome!r:.100}")

    def _expect(self, is_so: bool, otherwise: str) -> None:
        if not is_so:
            raise _Unmet(otherwise)

    def _tell(self, what: str) -> None:
        self.story.append(f"{self._clock.time():8.3f} s  {what}")
