"""What the programs of a world do, drawn from a seed before anything happens.

All instants and pauses are multiples of 2^-28 s that no two calls share, and each thing that a
program does has a pause of its own before it. So nothing depends on the order in which an event
loop runs the tasks that are ready at one instant, and the same plan has the same story on every
host.
"""

import itertools
import math
from dataclasses import dataclass, replace
from enum import Enum, auto
from random import Random
from typing import Final, NamedTuple, TypeAlias

from simulation_draws import FAILED, HEALED_AT, MAX_PAYLOAD_BYTES, METHODS, MIN_CALLS, Draws

from rpcproto import RpcConfig, RpcError
from rpcproto.testing import Link
from rpcproto.transports.links import TICK

LATE_AT: Final = HEALED_AT + 3.0
"""From then on everyone calls everyone."""
MOMENT: Final = 2.0**-20
"""In seconds; less than a link draws, as that is in steps of STEPS."""
OVER_AT: Final = LATE_AT + 120.0
"""By then nothing must be left."""


class How(Enum):
    """What a handler does."""

    ANSWERS = auto()
    RAISES = auto()
    """Something that is none of the caller's business."""
    RETURNS_NONSENSE = auto()
    NEVER_ENDS = auto()
    ASKS = auto()
    """It calls somebody else first."""


class Serving(NamedTuple):
    """What the handler of a call does; durations in seconds."""

    how: How
    reply: str | RpcError
    """What it answers; what the caller gets if the handler gives no valid answer."""
    raises: BaseException | None
    result: object
    delay: float
    """None at all if it is 0; then the handler is no coroutine."""
    lingers: float
    """How long it takes to end when it is cancelled."""
    leaves: bool
    """Whether its participant leaves right after."""
    asks: "Asking | None"


class Asking(NamedTuple):
    """A call, and what its program does about it; durations in seconds."""

    name: str
    at: float
    caller: str
    destination: str
    method: str
    payload: str
    timeout: float | None
    window: float | None
    patience: float
    """When it is cancelled, after its beginning."""
    waits: float
    """For how long it waits for its recipient to be here, before it begins."""
    tries: int
    pause: float
    """Before each try but the first."""
    serving: Serving


class Leaving(NamedTuple):
    """Somebody leaves, or is cut, and comes back some seconds later."""

    at: float
    name: str
    how: str
    back_after: float


@dataclass(frozen=True)
class Member:
    """A participant: what it is announced with, and when it joins first."""

    joins_at: float
    client_protocol: int
    capabilities: tuple[int, ...]
    config: RpcConfig


LinkChange: TypeAlias = tuple[float, Link, str | None, str | None]


class OddError(BaseException):
    """An exception that is no Exception."""


class Plan:
    """The plan of a seed."""

    def __init__(self, seed: int) -> None:
        draw = self._draw = Random(f"programs {seed}")
        self._draws = Draws(draw, draw.choice([0.0, 0.3, 1.0, 1.0]), MAX_PAYLOAD_BYTES)
        self.seed = seed
        self.link = self._link()
        names = ["alice", "bob", "carol", "dave"][: draw.choice([2, 2, 3, 4])]
        config = RpcConfig(
            response_timeout=draw.choice([10.0, 10.0, 4.0, 16.0]) + MOMENT,
            ack_timeout=draw.choice([7.0, 7.0, 2.0]) + MOMENT,
            max_payload_bytes=MAX_PAYLOAD_BYTES,
        )
        self.members: dict[str, Member] = {name: self._member(config) for name in names}
        self.askings = [
            self._asking(str(number), names) for number in range(MIN_CALLS + draw.randrange(6))
        ]
        self.leavings = [self._leaving(names) for _ in range(draw.choice([0, 1, 2, 4]))]
        self.link_changes: list[LinkChange] = [
            (
                self._moment(HEALED_AT),
                self._link(),
                draw.choice([*names, None]),
                draw.choice([*names, None]),
            )
            for _ in range(draw.choice([0, 1, 2]))
        ]
        self.late = [
            self._late(number, *ends)
            for number, ends in enumerate(itertools.permutations(names, 2))
        ]

    def _moment(self, most: float) -> float:
        return max(math.floor(self._draw.random() * most / TICK), 1) * TICK

    def _link(self) -> Link:
        link = self._draws.link()
        exact = {
            name: math.floor(getattr(link, name) * 64) / 64
            for name in ("latency", "jitter", "straggling")
        }
        return replace(link, **exact)

    def _timeout(self, *timeouts: float | None) -> float | None:
        """One of these, and a moment more. No sum of what a link draws is the same, for if a packet
        arrives at the instant of a deadline, a host may choose which comes first."""
        timeout = self._draw.choice(timeouts)
        return None if timeout is None else timeout + MOMENT

    def _member(self, config: RpcConfig) -> Member:
        draw = self._draw
        protocol, capabilities = draw.choice([(0, ()), (1, ()), (2, ()), (2, (2,)), (2, (2,))])
        grace = draw.choice([0.0, 0.0, 2.0, 0.25, 9.0])
        return Member(
            self._moment(0.125), protocol, capabilities, replace(config, departure_grace=grace)
        )

    def _leaving(self, names: list[str]) -> Leaving:
        draw = self._draw
        at = self._moment(HEALED_AT)
        how = draw.choice(["closes", "cancels", "cut", "cut unnoticed"])
        return Leaving(at, draw.choice(names), how, self._moment(draw.choice([0.001, 0.1, 1, 6])))

    def _asking(self, name: str, names: list[str], caller: str = "") -> Asking:
        draw = self._draw
        is_first = not caller
        caller = caller or draw.choice(names)
        others = [other for other in names if other != caller]
        destination = draw.choice([*others * 8, caller, "nobody"])
        patience = draw.choice([math.inf] * 8 + [0.001, 0.1, 3.0])
        waits = draw.choice([0.0] * 9 + [4.0])
        return Asking(
            name,
            self._moment(HEALED_AT),
            caller,
            destination,
            draw.choice([*METHODS * 8, "idle"]),
            self._draws.text(f"{name}?"),
            self._timeout(None, None, None, 0.5, 3.0, 7.0, 30.0),
            self._timeout(None, None, None, 0.25, 3.0, 40.0),
            self._moment(patience) if patience < math.inf else patience,
            self._moment(waits) if waits else 0.0,
            draw.choice([1, 1, 3]),
            self._moment(2.0),
            self._serving(name, names, destination, may_ask=is_first),
        )

    def _serving(self, name: str, names: list[str], destination: str, *, may_ask: bool) -> Serving:
        draw = self._draw
        usual = [How.ANSWERS] * 7
        how = draw.choice([*usual, How.RAISES, How.RETURNS_NONSENSE, How.NEVER_ENDS, How.ASKS])
        if how is How.ASKS and not (may_ask and destination in names):
            how = How.ANSWERS
        reply = self._draws.reply(f"{name}!") or f"{name}!"
        raises: BaseException | None = None
        result: object = reply
        if how is How.RAISES:
            raises = draw.choice([ValueError("secret"), OddError("secret"), KeyError()])
        elif isinstance(reply, RpcError):
            raises = draw.choice([reply, reply, ExceptionGroup("one", [reply])])
        if how is How.RETURNS_NONSENSE:
            raises, result = None, draw.choice([7, b"bytes", "\ud800"])
        if how in (How.RAISES, How.RETURNS_NONSENSE):
            reply = RpcError(1500, FAILED)
        if result is None:  # an answer after all, an empty one
            reply = ""
        delay = draw.choice([0.0, 0.0, 0.0, 0.1, 2.0, 9.0, 25.0])
        lingers = draw.choice([0.0, 0.0, 0.0, 0.5])
        return Serving(
            how,
            reply,
            raises,
            result,
            self._moment(delay or 0.001) if delay or how is How.ASKS else 0.0,
            self._moment(lingers) if lingers else 0.0,
            draw.random() < 0.1,
            self._asking(f"{name}.1", names, destination) if how is How.ASKS else None,
        )

    def _late(self, number: int, caller: str, destination: str) -> Asking:
        reply = f"{number}! late"
        delay = self._draw.choice([0.0, 0.5])
        return Asking(
            f"late {number}",
            LATE_AT + number / 8 + self._moment(0.125),
            caller,
            destination,
            "work",
            f"{number}? late",
            timeout=10.0,
            window=7.0,
            patience=math.inf,
            waits=0.0,
            tries=1,
            pause=0.0,
            serving=Serving(How.ANSWERS, reply, None, reply, delay, 0.0, False, None),
        )
