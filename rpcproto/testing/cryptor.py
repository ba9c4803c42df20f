"""A cryptor for tests, which needs no extra and gives the same bytes in every run."""

import hashlib
import itertools
from collections.abc import Callable
from typing import Final

from rpcproto.e2ee import IV_BYTES, Keyring, OpenFailure

_TAG_BYTES: Final = 16


def counting_ivs(prefix: int = 0) -> Callable[[], bytes]:
    """Return a source of IVs with a counter, for `ToyCryptor` and, in tests, for `AesGcmCryptor`.

    `prefix` (0 to 2^32 - 1) distinguishes sources. It is the first 4 bytes of an IV. The other 8
    bytes are one counter from 1, big-endian.

    Raises:
        OverflowError: The prefix is out of range.
    """
    before = prefix.to_bytes(4, "big")
    numbers = itertools.count(1)
    return lambda: before + next(numbers).to_bytes(IV_BYTES - 4, "big")


class ToyCryptor(Keyring[bytes]):
    """A cryptor with the keys and sizes of `rpcproto.e2ee.AesGcmCryptor` that keeps nothing secret.

    It XORs the plaintext with a repeated hash of key and IV, and its tag is a hash of key, IV and
    ciphertext. By default, IVs come from `counting_ivs()`.
    """

    def __init__(
        self, own_identity: str | None = None, *, new_iv: Callable[[], bytes] | None = None
    ) -> None:
        """Take the arguments of `AesGcmCryptor`."""
        super().__init__(own_identity, new_iv or counting_ivs())

    def _load(self, key: bytes) -> bytes:
        return key

    def _encrypt(self, key: bytes, iv: bytes, plaintext: bytes) -> bytes:
        content = _mixed(key, iv, plaintext)
        return content + _checksum(key, iv, content)

    def _decrypt(self, key: bytes, iv: bytes, ciphertext: bytes) -> bytes | OpenFailure:
        content, tag = ciphertext[:-_TAG_BYTES], ciphertext[-_TAG_BYTES:]
        if _checksum(key, iv, content) != tag:
            return OpenFailure.UNDECRYPTABLE
        return _mixed(key, iv, content)


def _mixed(key: bytes, iv: bytes, text: bytes) -> bytes:
    """The text combined with the hash; twice gives the text again."""
    size = len(text)
    block = hashlib.sha256(key + iv).digest()
    pad = (block * (size // len(block) + 1))[:size]
    return (int.from_bytes(text) ^ int.from_bytes(pad)).to_bytes(size)


def _checksum(key: bytes, iv: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(iv + content, digest_size=_TAG_BYTES, key=key).digest()
