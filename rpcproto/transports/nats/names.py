"""Names of rooms, participants and sids as they stand in subjects, and subjects as a whole.

rpcproto.<room>.to.<receiver>.<sender>.<sid>         a packet
rpcproto.<room>.to.<receiver>.<sender>.<sid>.here    an announcement, to one
rpcproto.<room>.here.<sender>.<sid>                  an announcement, to everybody
"""

from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

from rpcproto.core.errors import LocalProtocolError, require_name
from rpcproto.core.messages import MAX_IDENTITY_BYTES

MAX_NAME_BYTES: Final = MAX_IDENTITY_BYTES
"""The longest name of a room, a participant or a sid, in bytes of UTF-8."""


class Origin(NamedTuple):
    """What the subject of a message says about it: who sent it, and of what kind it is."""

    identity: str
    sid: str
    is_packet: bool
    """Whether it is a packet; else it is an announcement."""


def encode_name(name: str) -> str:
    """Return a name as it appears in a subject, and in the permissions of a server.

    All bytes except ASCII letters, digits, `_`, `-` and `~` are percent-encoded. Different names
    have different encodings.
    """
    return quote(name, safe="").replace(".", "%2E")


def decode_name(token: str) -> str | None:
    """Return the name that has this encoding, or None if it is not the encoding of a name of 1 to
    256 bytes."""
    try:
        name = unquote(token, errors="strict")
        require_name(name, "name", MAX_NAME_BYTES)
        return name if encode_name(name) == token else None
    except (UnicodeDecodeError, LocalProtocolError):
        return None


@lru_cache(maxsize=1024)
def read_subject(subject: bytes) -> Origin | None:
    """Return where a message comes from that our subscriptions let through; None if the subject is
    malformed."""
    try:
        tokens = subject.decode().split(".")
    except UnicodeDecodeError:
        return None
    match tokens[2:]:
        case ["here", sender, sid]:
            is_packet = False
        case ["to", _, sender, sid]:
            is_packet = True
        case ["to", _, sender, sid, "here"]:
            is_packet = False
        case _:
            return None
    identity, sender_sid = decode_name(sender), decode_name(sid)
    if identity is None or sender_sid is None:
        return None
    return Origin(identity, sender_sid, is_packet)
