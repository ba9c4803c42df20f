"""Raw DEFLATE: what honest peers send, bombs, and blocks without content."""

import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, TypeAlias

from benchmarks.json_texts import RAW, deflate, inflate, json_text

MIB: Final = 1024 * 1024

STORED: Final = b"\x00\x00\x00\xff\xff"
"""A stored block of no bytes, as a sync flush leaves it."""
LETTER: Final = b"\x00\x01\x00\xfe\xffa"
"""A stored block of one byte."""


Bits: TypeAlias = tuple[int, int]
"""A value, and how many bits it has."""


def _twice(bits: Sequence[Bits]) -> bytes:
    """A block twice: after two of ours a byte is full."""
    value = width = 0
    for part, part_width in (*bits, *bits):
        value |= part << width
        width += part_width
    assert width % 8 == 0
    return value.to_bytes(width // 8, "little")


def _dynamic(
    lengths_of: Mapping[int, int], order: Sequence[int], lengths: Sequence[Bits], end: Bits
) -> bytes:
    """Two blocks that describe a whole Huffman code, and use nothing of it but the end of a block.

    The code has 257 literals and one distance. `lengths` are the lengths of their codes, written in
    a code of their own, the lengths of which are `lengths_of`, written in this `order`.
    """
    begin = [(0, 1), (2, 2), (0, 5), (0, 5), (len(order) - 4, 4)]
    return _twice([*begin, *((lengths_of.get(one, 0), 3) for one in order), *lengths, end])


ORDER: Final = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1)


def _small() -> bytes:
    """The shortest code: nothing but the end of the block, of one bit."""
    one, none, many = (0b11, 2), (0b01, 2), (0b0, 1)
    no_literals = [many, (138 - 11, 7), many, (118 - 11, 7)]
    return _dynamic({18: 1, 0: 2, 1: 2}, ORDER, [*no_literals, one, none], (0, 1))


def _large() -> bytes:
    """The code for which zlib works hardest: 255 codes of 8 bits, and two of 9."""
    eight, again, nine, none = (0b01, 2), (0b0, 1), (0b111, 3), (0b011, 3)
    six_times = [again, (6 - 3, 2)]
    lengths = [eight, *six_times * 42, eight, eight, nine, nine, none]
    return _dynamic({16: 1, 8: 2, 9: 3, 0: 3}, ORDER[:7], lengths, (0b111111111, 9))


DYNAMIC: Final = _small()
"""Two dynamic blocks of no bytes, with as small a code as there can be."""
LARGE_DYNAMIC: Final = _large()
"""The same with a large code: each byte takes zlib half as long again."""


def empty_blocks(block: bytes, size: int, letter_every: int = 0) -> bytes:
    """About `size` bytes of blocks without content; with a letter at intervals of so many bytes."""
    if letter_every:
        block = block * (letter_every // len(block)) + LETTER
    return block * (size // len(block))


@lru_cache
def bomb(size: int, pattern: str = "a") -> bytes:
    """A whole compressed body of `size` bytes of one pattern."""
    return deflate_well(pattern.encode() * (size // len(pattern.encode())))


def deflate_well(body: bytes) -> bytes:
    """Compress as much as DEFLATE can."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, RAW)
    return compressor.compress(body) + compressor.flush()


@lru_cache
def honest_body(size: int) -> bytes:
    """A JSON text that takes about `size` bytes when it is compressed."""
    least, most = 0, 8 * size
    text = json_text(most).encode()
    while most - least > size // 100 + 1:
        middle = (least + most) // 2
        if len(deflate(text[:middle])) < size:
            least = middle
        else:
            most = middle
    content = deflate(text[:most])
    assert 2.5 < len(inflate(content)) / len(content) < 6
    return content
