"""Packets as people can read them, one a line, and as programs can."""

import base64
import codecs
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final, NamedTuple

from rich.text import Text

from rpcproto import wire
from rpcproto.cli.drawing import COLOURS
from rpcproto.core.messages import IV_BYTES, TAG_BYTES
from rpcproto.core.sealing import Cryptor, OpenFailure
from rpcproto.recording.rows import kind_of, style_of, unsealed
from rpcproto.wire import DEFLATE_RAW, UNCOMPRESSED, Message, Packet, Sealed, StreamHeader, Unread

SHOWN_CHARACTERS: Final = 48
"""How much of a long text or of bytes is printed."""
MAX_INFLATED_BYTES: Final = 64 * 1024
"""How much of a compressed body is read; a small packet can hold a gigantic one."""

_COMPRESSIONS: Final = {UNCOMPRESSED: "NONE", DEFLATE_RAW: "DEFLATE_RAW"}
_ENCODED: Final = re.compile(rb"[0-9A-Za-z+/_=\s-]*")


class NotAPacket(ValueError):  # noqa: N818 (what it is, not an error of the program)
    """These bytes or this text are not a packet; the message says why."""


class InlineBody(NamedTuple):
    """What an inline body says: `text` (None if it cannot be read), of `size` bytes.

    Where `is_whole` is False there is more, or something is missing; `fault` says what is wrong.
    """

    text: str | None
    size: int
    is_whole: bool
    fault: str


def packets_in(data: bytes) -> list[str | bytes]:
    """What a file holds: texts, one a line, or one packet as it is."""
    if not _ENCODED.fullmatch(data):
        return [data]
    return [line for line in data.decode("ascii").splitlines() if line.strip()]


def parse(source: str | bytes) -> tuple[Packet, int]:
    """A packet from hex, base64 or its bytes, and its size in bytes; raises NotAPacket."""
    readings = {"": source} if isinstance(source, bytes) else dict(_decodings(source))
    for data in readings.values():
        # Nothing at all and bytes without any known field would pass for a packet.
        packet = wire.decode(data)
        if packet is not None and packet.message != Unread(""):
            return packet, len(data)
    raise NotAPacket(_why_not(readings))


def _why_not(readings: Mapping[str, bytes]) -> str:
    """Why no reading of a text is a packet."""
    if not readings:
        return "neither hex nor base64"
    if not any(readings.values()):
        return "it is empty"
    sizes = [
        f"{len(data):,} byte{'s' * (len(data) != 1)}{f' of {name}' * bool(name)}"
        for name, data in readings.items()
    ]
    but = "" if readings.keys() - {"base64"} else "not hex, and as base64 "
    return f"{but}not a LiveKit data packet ({' or '.join(sizes)})"


def describe(source: str | bytes, cryptor: Cryptor | None = None) -> Text:
    """One line about a packet; raises NotAPacket. `cryptor` opens one that is encrypted."""
    outer, size = parse(source)
    packet, fault = opened(outer, cryptor)
    kind = kind_of(packet.message)
    text = Text()
    text.append(f"{kind:<15}", COLOURS[style_of(kind)])
    to = ", ".join(map(_name, packet.destination_identities)) or "everyone"
    text.append(f" {_name(packet.sender_identity)} -> {to} ", "bold")
    if not isinstance(packet.message, Unread):
        for name, value in packet.message._asdict().items():
            _append_field(text, name, value, packet.message)
    text.append(f" ({size} bytes", "bright_black")
    if isinstance(outer.message, Sealed):
        text.append(f", sealed with key {outer.message.key_index}{fault}", "bright_black")
    if packet.sequence:
        text.append(f", sequence {packet.sequence}", "bright_black")
    if packet.sender_sid:
        text.append(f", sid {_name(packet.sender_sid)}", "bright_black")
    text.append(")", "bright_black")
    return text


def opened(packet: Packet, cryptor: Cryptor | None) -> tuple[Packet, str]:
    """A packet with what was sealed in it, and if that cannot be seen, why, after a colon."""
    message = packet.message
    if not isinstance(message, Sealed):
        return packet, ""
    if cryptor is None:
        return packet, ": give the passphrase to open it"
    inside = unsealed(message, packet.sender_identity, cryptor)
    if inside is not message:
        return packet._replace(message=inside), ""
    if len(message.iv) != IV_BYTES or len(message.ciphertext) < TAG_BYTES:
        return packet, ": it is malformed"
    failure = cryptor.open(packet.sender_identity, *message)
    return packet, f": {failure.value if isinstance(failure, OpenFailure) else 'malformed inside'}"


def as_json(source: str | bytes, cryptor: Cryptor | None = None) -> str:
    """One JSON object about a packet, in ASCII, with bytes as base64; raises NotAPacket.
    `cryptor` opens one that is encrypted."""
    outer, size = parse(source)
    packet, fault = opened(outer, cryptor)
    message = packet.message
    fields: dict[str, object] = {
        "kind": kind_of(message),
        "size": size,
        "sender_identity": packet.sender_identity,
        "sender_sid": packet.sender_sid,
        "destination_identities": packet.destination_identities,
        "sequence": packet.sequence,
    }
    if isinstance(outer.message, Sealed):
        fields |= {"key_index": outer.message.key_index, "opened": not fault}
        if fault:
            fields["fault"] = fault.removeprefix(": ")
    if not isinstance(message, Unread):
        fields |= message._asdict()
    if isinstance(message, StreamHeader):
        fields["attributes"] = dict(sorted(message.attributes.items()))
    if isinstance(message, StreamHeader) and message.inline_content is not None:
        body = read_inline(message, message.inline_content)
        if body.text is not None:
            fields |= {"inline_text": body.text, "inline_text_is_whole": body.is_whole}
        if body.fault:
            fields["inline_fault"] = body.fault
    return json.dumps(fields, default=lambda data: base64.b64encode(data).decode())


def read_inline(header: StreamHeader, content: bytes) -> InlineBody:
    """The text in the inline content of a header, of a compressed one the beginning."""
    is_whole, fault = True, ""
    if header.compression == DEFLATE_RAW:
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            content = inflate.decompress(content, MAX_INFLATED_BYTES + 1)
        except zlib.error:
            return InlineBody(None, 0, False, "not raw DEFLATE")
        if len(content) > MAX_INFLATED_BYTES:
            content, is_whole = content[:MAX_INFLATED_BYTES], False
        elif inflate.unused_data:
            fault = "bytes after the end of the compressed body"
        elif not inflate.eof and len(content) != header.total_length:
            is_whole, fault = False, "the compressed body has no end"
    elif header.compression != UNCOMPRESSED:
        return InlineBody(None, 0, False, "unknown compression")
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(content, is_whole)
    except UnicodeDecodeError:
        return InlineBody(None, 0, False, "not valid UTF-8")
    total = header.total_length
    if total is not None and (total != len(content) if is_whole else total <= MAX_INFLATED_BYTES):
        fault = fault or "not as long as total_length says"
    return InlineBody(text, len(content), is_whole, fault)


def _decodings(source: str) -> Iterator[tuple[str, bytes]]:
    """What a text may mean: hex first, since hex is nearly always base64 as well."""
    compact = "".join(source.split())
    with suppress(ValueError):
        yield "hex", bytes.fromhex(compact.removeprefix("0x"))
    with suppress(ValueError):
        standard = compact.replace("-", "+").replace("_", "/").rstrip("=")
        yield "base64", base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)


def _append_field(text: Text, name: str, value: object, message: Message) -> None:
    """One field of a message, whatever its type; what is not there or not so is left out."""
    if value is None or value is False:
        return
    if value is True:
        text.append(f" {name}", "bright_black")
        return
    if name == "compression":
        shown = _COMPRESSIONS.get(value, str(value)) if isinstance(value, int) else str(value)
    elif isinstance(message, StreamHeader) and isinstance(value, bytes):
        name, shown = _inline(message, value)
    elif isinstance(value, bytes):
        shown = _content(value)
    else:
        shown = shown_value(value)
    text.append(f" {name}", "bright_black")
    text.append(f"={shown}")


def _inline(header: StreamHeader, content: bytes) -> tuple[str, str]:
    """What an inline body is called, and what of it is printed."""
    body = read_inline(header, content)
    if body.text is None:
        return "inline_content", f"({len(content)} bytes, {body.fault})"
    size = f"{body.size} bytes"
    if not body.is_whole and not body.fault:
        total = header.total_length
        size = f"more than {size}" if total is None else f"{total} bytes by total_length"
    if header.compression == DEFLATE_RAW:
        size += f", compressed to {len(content)}"
    if body.fault:
        size += f", {body.fault}"
    return "inline_text", f"{_text(body.text)} ({size})"


def _content(content: bytes) -> str:
    """A chunk's content: text, unless it was cut within a character or is compressed."""
    size = f"({len(content)} bytes)"
    try:
        return f"{_text(content.decode())} {size}"
    except UnicodeDecodeError:
        return size


def shown_value(value: object) -> str:
    """A value of a field; a text is quoted, and only the beginning of a long one is there."""
    if isinstance(value, str):
        size = f" ({len(value.encode())} bytes)" if len(value) > SHOWN_CHARACTERS else ""
        return _text(value) + size
    if isinstance(value, Mapping):
        items = (f"{_name(key)}={shown_value(item)}" for key, item in sorted(value.items()))
        return "{" + ", ".join(items) + "}"
    return str(value)


def _text(text: str) -> str:
    return repr(text[:SHOWN_CHARACTERS]) + ("..." if len(text) > SHOWN_CHARACTERS else "")


def _name(name: str) -> str:
    """An identity, a sid or a key; quoted where it is empty or not to be trusted on a terminal."""
    return name if re.fullmatch(r"[\w@.:+-]+", name, re.ASCII) else repr(name)
