"""How a journal writes values as JSON, and how it reads them back.

Short values are themselves. A long text is written as its length and its SHA-256, and a value that
JSON cannot represent exactly as the name of its type.
"""

import json
import math
import sys
from binascii import b2a_base64
from collections.abc import Collection, Mapping, MutableMapping
from dataclasses import dataclass
from hashlib import sha256
from json.encoder import encode_basestring_ascii
from typing import Final, TypeAlias, TypeGuard

MAX_SHORT_NAME: Final = 38
"""A name of more characters of JSON is written once and then referred to; a UUID has as many."""
MAX_NAMES: Final = 4_096
"""When so many long names are known, all are forgotten before the next one is defined."""
MAX_SHORT_TEXT: Final = 258
"""A text in an event that has more characters of JSON is written as a `LongText`."""

_MAX_INT_BITS: Final = 1_024
"""No number of seconds is longer, and readers of JSON refuse an int at some length."""
_SMALL_INT: Final = 2**53
_LARGEST: Final = sys.float_info.max

escaped: Final = encode_basestring_ascii
"""A text as JSON in ASCII, quotes included."""
write_json: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True, slots=True)
class LongText:
    """Stands for a text: its bytes of UTF-8 are counted and hashed."""

    length: int
    sha256: str
    """In hexadecimal digits."""

    def json(self) -> str:
        """The text as a journal writes it."""
        return f'{{"length":{self.length},"sha256":"{self.sha256}"}}'


@dataclass(frozen=True, slots=True)
class Foreign:
    """Stands for a value that no engine takes and that JSON cannot represent."""

    type_name: str


@dataclass(frozen=True, slots=True)
class TooLarge:
    """Stands for the bytes of a packet over the size limit."""


Value: TypeAlias = (
    bool | int | float | str | LongText | Foreign | TooLarge | tuple["Value", ...] | None
)
"""What a journal holds for an argument, a result or a field."""


# writing


def long_text(text: str) -> LongText:
    """What stands for the text; raises UnicodeEncodeError if it is not valid Unicode."""
    data = text.encode()
    return LongText(len(data), sha256(data).hexdigest())


def base64(data: bytes) -> str:
    """The bytes in base64."""
    return b2a_base64(data, newline=False).decode()


def number(value: object) -> str:
    """A number, or None, as JSON; quick for finite floats and small integers."""
    kind = type(value)
    if kind is float and -_LARGEST <= value <= _LARGEST:  # type: ignore[operator]
        return repr(value)
    if value is None:
        return "null"
    if kind is int and -_SMALL_INT < value < _SMALL_INT:  # type: ignore[operator]
        return repr(value)
    return general(value)


def general(value: object) -> str:
    """Any value as JSON that represents it exactly, or else as a `Foreign`.

    The latter are numbers that are not finite or very long, texts that are not valid Unicode (a
    reader of JSON might make other texts of them), and objects of other types.
    """
    if type(value) is str and value.isascii():
        return escaped(value)
    if isinstance(value, str):
        is_exact = is_unicode(value)
    elif isinstance(value, int):
        is_exact = value.bit_length() <= _MAX_INT_BITS
    else:
        is_exact = value is None or (isinstance(value, float) and math.isfinite(value))
    return write_json(value) if is_exact else foreign(value)


def foreign(value: object) -> str:
    """The type of a value in place of it."""
    name = value.type_name if isinstance(value, Foreign) else type(value).__name__
    return f'{{"foreign":{escaped(name)}}}'


def is_unicode(text: str) -> bool:
    """Whether UTF-8 can encode the text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_collection(value: object) -> TypeGuard[Collection[object]]:
    """Whether this can be the capabilities of a participant, whatever is in it."""
    return isinstance(value, Collection) and not isinstance(value, str | bytes | Mapping)


# reading


def meant(written: object, names: MutableMapping[int, str]) -> Value:
    """The value that parsed JSON stands for.

    `names` has the names that the engine's earlier lines defined, and gets those that are new.
    Raises ValueError for what no journal holds.
    """
    match written:
        case None | bool() | int() | float() | str():
            return written
        case {"foreign": str(type_name)}:
            return Foreign(type_name)
        case {"name": int(key), "is": str(name)}:
            if len(names) >= MAX_NAMES:
                names.clear()
            names[key] = name
            return name
        case {"name": int(key)}:
            if key not in names:
                raise ValueError(f"there is no name {key} before this line")
            return names[key]
        case {"length": int(length), "sha256": str(digest)}:
            return LongText(length, digest)
        case {"too_large": True}:
            return TooLarge()
        case list():
            return tuple(meant(item, names) for item in written)
    raise ValueError("this is not a value that a journal holds")
