"""What the packets of a kind cost, by turns with honest ones."""

import codecs
import math
import statistics
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple, TypeAlias

from google.protobuf.message import DecodeError

from benchmarks.hostile import makers
from benchmarks.hostile.deflate import MIB
from benchmarks.hostile.kinds import HELD, RECEIVED, Kind
from benchmarks.hostile.makers import Maker, SizedMaker
from benchmarks.hostile.packets import MAX_PACKET_BYTES
from benchmarks.hostile.scene import Scene
from benchmarks.json_texts import RAW
from benchmarks.timing import in_turns, seconds
from rpcproto.core.packets_pb2 import DataPacket

PARSES: Final = 2
HONEST_PACKETS: Final = 10
"""What a packet may cost: so many times what protobuf takes for its bytes, and so many honest ones
of its size (R47)."""
HONEST_EFFECTS: Final = frozenset({RECEIVED, HELD})

WORK_SECONDS: Final = 0.000_3
"""How long a work takes in a round, at least, unless its packets are MAX_PACKETS by then."""
MAX_PACKETS: Final = 100
KIND_SECONDS: Final = 0.3
"""How long the rounds of one kind take together, if they are not too few or too many."""
MIN_ROUNDS: Final = 5
MAX_ROUNDS: Final = 41


class UnexpectedError(Exception):
    """The engine did something else than what was to be measured."""


class Cost(NamedTuple):
    """What packets cost that were received one after another."""

    packets: int
    size: float
    """Bytes of a packet, on average."""
    engine: float
    """Seconds of a packet in the engine."""
    parser: float
    """Seconds of its bytes in protobuf alone."""
    slowest_rest: float = 0.0
    """Seconds of the slowest `handle_deadline` for work that a packet left; 0 if none did."""


Work: TypeAlias = Callable[[], Cost]


class Round(NamedTuple):
    """What was measured by turns."""

    is_bomb: bool
    plain: Cost
    """A plain honest packet of the same size, at empty tables."""
    honest: Cost
    """The packet with which the kind is compared, at empty tables."""
    empty: Cost
    full: Cost
    inflating: Cost
    """What 1 MiB takes to be inflated and decoded, if the kind inflates so much."""

    def allowed(self, cost: Cost) -> float:
        """The seconds that a packet may take (R47)."""
        usual = PARSES * cost.parser + HONEST_PACKETS * self.honest.engine
        return usual + self.inflating.engine if self.is_bomb else usual


class Result(NamedTuple):
    """A kind of packets, measured: of everything the median of all rounds."""

    what: str
    size: float
    """Bytes of a packet."""
    plain: float
    """At full tables, relative to a plain honest packet."""
    empty: float
    """At empty tables, relative to what is allowed."""
    full: float
    """At full tables, relative to what is allowed."""
    parser: float
    """The parser's share at full tables."""
    seconds: float
    """At full tables."""
    rest: float
    """The slowest `handle_deadline` relative to the inflating of 1 MiB; 0 if there was none."""
    rest_seconds: float


def measure(kind: Kind, full: Scene) -> Result:
    """Measure a kind of packets; raises UnexpectedError."""
    empty = Scene()
    first = cost(empty, kind.make, kind.effects)
    plain, honest = (_sized(make, round(first.size)) for make in (makers.plain, kind.honest))
    works: list[Work] = [
        _repeated(partial(cost, empty, plain, HONEST_EFFECTS)),
        _repeated(partial(cost, empty, honest, HONEST_EFFECTS)),
        _repeated(partial(cost, empty, kind.make, kind.effects)),
        _repeated(partial(cost, full, kind.make, kind.effects)),
        partial(_inflating, kind.like if first.slowest_rest or kind.is_bomb else b""),
    ]
    round_seconds = sum(seconds(work) for work in works)
    number = max(MIN_ROUNDS, min(round(KIND_SECONDS / round_seconds), MAX_ROUNDS))
    rounds = [Round(kind.is_bomb, *costs) for costs in in_turns(works, number)]
    return _result(kind.what, first.size, rounds)


def cost(scene: Scene, make: Maker, effects: frozenset[str], times: int = 1) -> Cost:
    """Send the packets of a maker, so many times, and see that each has one of these effects."""
    packets = size = 0
    engine = parser = scene.slowest_rest = 0.0
    tables = scene.tables()
    for _ in range(times):
        for data in make(scene):
            engine += _receive(scene, data)
            parser += _parse(data)
            packets, size = packets + 1, size + len(data)
            seen = scene.settle()
            if not effects & seen.keys():
                raise UnexpectedError(", ".join(seen))
    if scene.tables() != tables:
        raise UnexpectedError(f"it left {scene.tables()} of {tables}")
    return Cost(packets, size / packets, engine / packets, parser / packets, scene.slowest_rest)


def _receive(scene: Scene, data: bytes) -> float:
    """The seconds that the engine takes."""
    receive, now = scene.engine.receive_packet, scene.tick()
    start = time.perf_counter()
    receive(data, now=now)
    return time.perf_counter() - start


def _parse(data: bytes) -> float:
    """The seconds that protobuf takes, none for a packet that is too large to be parsed."""
    if len(data) > MAX_PACKET_BYTES:
        return 0.0
    start = time.perf_counter()
    with suppress(DecodeError):
        DataPacket.FromString(data)
    return time.perf_counter() - start


def _sized(make: SizedMaker, size: int) -> Maker:
    return lambda scene: make(scene, size)


def _repeated(work: Callable[..., Cost]) -> Work:
    """The work, as often in a row as it takes to be timed."""
    once = work()
    needed = math.ceil(WORK_SECONDS / (once.engine * once.packets))
    return partial(work, times=max(1, min(needed, MAX_PACKETS // once.packets)))


def _inflating(content: bytes) -> Cost:
    """What zlib and a decoder take for the first MiB of a compressed text."""
    start = time.perf_counter()
    codecs.utf_8_decode(zlib.decompressobj(RAW).decompress(content, MIB))
    return Cost(1, len(content), time.perf_counter() - start, 0.0)


def _result(what: str, size: float, rounds: Sequence[Round]) -> Result:
    def median(formula: Callable[[Round], float]) -> float:
        return statistics.median(formula(costs) for costs in rounds)

    return Result(
        what,
        size,
        plain=median(lambda costs: costs.full.engine / costs.plain.engine),
        empty=median(lambda costs: costs.empty.engine / costs.allowed(costs.empty)),
        full=median(lambda costs: costs.full.engine / costs.allowed(costs.full)),
        parser=median(lambda costs: costs.full.parser / costs.full.engine),
        seconds=median(lambda costs: costs.full.engine),
        rest=median(lambda costs: costs.full.slowest_rest / costs.inflating.engine),
        rest_seconds=median(lambda costs: costs.full.slowest_rest),
    )
