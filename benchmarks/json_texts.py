"""Texts like those that applications send: JSON, all different; and what zlib takes for them."""

import json
import random
import zlib
from collections.abc import Sequence
from typing import Final

DEFLATE_LEVEL: Final = 1
RAW: Final = -zlib.MAX_WBITS
_VOCABULARY: Final = (
    "sensor status pressure temperature battery motor left right camera front rear wheel joint "
    "speed angle error warning position velocity target planner idle moving charging docked"
)
_WORDS: Final = _VOCABULARY.split()


def json_text(size: int, seed: int = 0) -> str:
    """`size` bytes of ASCII, the beginning of a JSON text that is long enough."""
    draw = random.Random(seed)
    records: list[object] = []
    length = 0
    while length <= size:
        records.append(_record(draw))
        length += len(json.dumps(records[-1]))
    return json.dumps(records)[:size]


def _record(draw: random.Random) -> object:
    first, second, state = draw.sample(_WORDS, 3)
    return {
        "id": draw.randrange(1_000_000),
        "name": f"{first}_{second}_{draw.randrange(32)}",
        "state": state,
        "value": round(draw.uniform(-100, 100), 3),
        "timestamp": 1_764_000_000_000 + draw.randrange(10_000_000),
        "enabled": draw.random() < 0.5,
    }


def deflate(body: bytes) -> bytes:
    """Compress a body with the parameters with which the engine does it."""
    compressor = zlib.compressobj(DEFLATE_LEVEL, zlib.DEFLATED, RAW)
    return compressor.compress(body) + compressor.flush()


def inflate(content: bytes) -> bytes:
    """Inflate a whole body."""
    return zlib.decompressobj(RAW).decompress(content)


def zlib_of_echo(bodies: Sequence[bytes]) -> None:
    """Do what zlib does in an echo of each body: two compressions and two inflations."""
    for body in bodies:
        inflate(deflate(body))
        inflate(deflate(body))
