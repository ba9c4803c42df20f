"""What it costs to answer with texts that are hard to cut into chunks."""

import time
from collections.abc import Iterator
from functools import partial
from typing import Final, NamedTuple

from benchmarks import bodies
from benchmarks.hostile import packets
from benchmarks.hostile.deflate import MIB
from benchmarks.hostile.scene import Scene
from benchmarks.timing import Times, in_turns

ROUNDS: Final = 7
BOM: Final = "\ufeff"
PATTERNS: Final = {
    "U+FEFF": BOM,
    "4,999 U+FEFF and three letters": BOM * 4_999 + "aaa",
    "one letter and 5,000 U+FEFF": "a" + BOM * 5_000,
    "combining characters": "\u0301",
    "characters of four bytes": "🦊",
    "characters of one to four bytes": "aé€🦊",
}


class Caller(NamedTuple):
    """Somebody who is answered."""

    what: str
    protocol: int
    deflates: bool
    size: int
    """Bytes of the answer."""
    kinds: frozenset[str]
    """The packets that it gets."""


BODY_KINDS: Final = frozenset({"stream header", "stream chunk", "stream trailer"})
CALLERS: Final = (
    Caller("a packet of 15 KB", 0, False, 15_000, frozenset({"response"})),
    Caller("1 MiB in chunks", 1, False, MIB, BODY_KINDS),
    Caller("1 MiB, deflated if it helps", 2, True, MIB, BODY_KINDS),
)


class Result(NamedTuple):
    """An answer, measured."""

    what: str
    seconds: float
    ratio: float
    """Relative to an ASCII answer of the same size."""


def measure() -> Iterator[Result]:
    """Answer each caller with each text."""
    scene = Scene()
    for caller in CALLERS:
        scene.join("reader", protocol=caller.protocol, deflates=caller.deflates)
        texts = [bodies.text(bodies.ASCII, caller.size)]
        for pattern in PATTERNS.values():
            size = len(pattern.encode())
            texts.append(
                (pattern * (caller.size // size + 1))[: caller.size * len(pattern) // size]
            )
        works = [partial(_respond, scene, caller, text) for text in texts]
        times = Times(in_turns(works, ROUNDS))
        for at, name in enumerate(PATTERNS, 1):
            yield Result(f"{caller.what}: {name}", times.median(at), times.ratio(at))
        scene.leave("reader")


def _filled(pattern: str, size: int) -> str:
    """About `size` bytes of a pattern, of which the last one may be cut off."""
    pattern_bytes = len(pattern.encode())
    return (pattern * (size // pattern_bytes + 1))[: size * len(pattern) // pattern_bytes]


def _respond(scene: Scene, caller: Caller, text: str) -> float:
    """The seconds of an answer: `respond`, and the taking of all packets."""
    invocation_id = scene.run(packets.request(scene.new_id(), sender="reader"))
    engine, now, kinds = scene.engine, scene.tick(), set()
    start = time.perf_counter()
    engine.respond(invocation_id, text, now=now)
    while (packet := engine.next_packet()) is not None:
        kinds.add(packet.kind.value)
    spent = time.perf_counter() - start
    assert kinds <= caller.kinds, kinds
    return spent
