"""The keys that rooms of the interop tests are encrypted with."""

from typing import Final, NamedTuple


class Keys(NamedTuple):
    """What participants are given when they join; passphrases are in UTF-8."""

    name: str
    """What the tables call it."""
    shared: str | None
    """The passphrase of all; None where everybody has one."""
    own: dict[str, str]
    """Passphrases by identity."""
    kdf: str = "pbkdf2"
    key_index: int = 0


SHARED: Final = Keys("a shared passphrase", "correct horse lab battery", {})
HKDF: Final = Keys("a shared key, HKDF", "correct horse lab battery", {}, kdf="hkdf")
EACH: Final = Keys(
    "a key each",
    None,
    {
        name: f"the passphrase of {name}"
        for name in ("ours", "theirs", "caller", "responder", "mallory")
    },
)
