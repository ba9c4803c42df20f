"""Packets as people can read them, one a line."""

import base64
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final

from rich.text import Text

from rpcproto.core import wire
from rpcproto.core.messages import ErrorResponse, Message, Packet, Unread

SHOWN_CHARACTERS: Final = 48
"""How much of a long text or of bytes is printed."""

_STYLES: Final = {"request": "cyan", "ack": "bright_black", "response": "green", "error": "red"}
_ENCODED: Final = re.compile(rb"[0-9A-Za-z+/_=\s-]*")


class NotAPacket(ValueError):  # noqa: N818 (what it is, not an error of the program)
    """These bytes or this text are not a packet; the message says why."""


def kind_of(message: Message) -> str:
    """What a message is called: `request`, `ack`, `stream header` and so on."""
    if isinstance(message, ErrorResponse):
        return "error"
    if isinstance(message, Unread):
        return message.kind.replace("_", " ")
    return re.sub("(?<=[a-z])(?=[A-Z])", " ", type(message).__name__).lower()


def style_of(kind: str) -> str:
    """The colour of a kind of message."""
    return _STYLES.get(kind, "magenta")


def packets_in(data: bytes) -> list[str | bytes]:
    """What a file holds: texts, one a line, or one packet as it is."""
    if not _ENCODED.fullmatch(data):
        return [data]
    return [line for line in data.decode("ascii").splitlines() if line.strip()]


def parse(source: str | bytes) -> tuple[Packet, int]:
    """A packet from hex, base64 or its bytes, and its size in bytes; raises NotAPacket."""
    candidates = [source] if isinstance(source, bytes) else list(_decodings(source))
    if not candidates:
        raise NotAPacket("neither hex nor base64")
    for data in candidates:
        # Nothing at all and bytes without any known field would pass for a packet.
        packet = wire.decode(data)
        if packet is not None and packet.message != Unread(""):
            return packet, len(data)
    raise NotAPacket("not a LiveKit data packet that carries anything")


def describe(source: str | bytes) -> Text:
    """One line about a packet; raises NotAPacket."""
    packet, size = parse(source)
    kind = kind_of(packet.message)
    text = Text()
    text.append(f"{kind:<15}", style_of(kind))
    to = ", ".join(map(_name, packet.destination_identities)) or "everyone"
    text.append(f" {_name(packet.sender_identity)} -> {to} ", "bold")
    if not isinstance(packet.message, Unread):
        for name, value in packet.message._asdict().items():
            _append_field(text, name, value)
    text.append(f" ({size} bytes", "bright_black")
    if packet.sequence:
        text.append(f", sequence {packet.sequence}", "bright_black")
    if packet.sender_sid:
        text.append(f", sid {_name(packet.sender_sid)}", "bright_black")
    text.append(")", "bright_black")
    return text


def _decodings(source: str) -> Iterator[bytes]:
    """What a text may mean: hex first, since hex is nearly always base64 as well."""
    compact = "".join(source.split())
    with suppress(ValueError):
        yield bytes.fromhex(compact.removeprefix("0x"))
    with suppress(ValueError):
        standard = compact.replace("-", "+").replace("_", "/").rstrip("=")
        yield base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)


def _append_field(text: Text, name: str, value: object) -> None:
    """One field of a message, whatever its type; what is not there or not so is left out."""
    if value is None or value is False:
        return
    text.append(f" {name}", "bright_black")
    if value is not True:
        text.append("=")
        text.append(_value(value))


def _value(value: object) -> str:
    if isinstance(value, str):
        return _long(repr(value[:SHOWN_CHARACTERS]), len(value), len(value.encode()))
    if isinstance(value, bytes):
        return _long(value[: SHOWN_CHARACTERS // 2].hex(), 2 * len(value), len(value))
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}={_value(item)}" for key, item in value.items()) + "}"
    return str(value)


def _long(shown: str, characters: int, size: int) -> str:
    return shown if characters <= SHOWN_CHARACTERS else f"{shown}... ({size} bytes)"


def _name(name: str) -> str:
    """An identity or sid; quoted where it is empty or not to be trusted on a terminal."""
    return name if re.fullmatch(r"[\w@.:+-]+", name, re.ASCII) else repr(name)
