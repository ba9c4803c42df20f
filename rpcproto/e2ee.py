"""End-to-end encryption of packets, compatible with LiveKit's SDKs.

`derive_key` makes a key from a passphrase, and `AesGcmCryptor` encrypts with it:

    cryptor = AesGcmCryptor()
    cryptor.set_shared_key(derive_key("a passphrase that all participants know"))
    engine = RpcEngine("alice", new_id=random_ids(), cryptor=cryptor)

`AesGcmCryptor` needs the extra `e2ee`; `derive_key` and `ratchet` need nothing but the standard
library. Neither keys nor passphrases appear in a `repr`, in an exception or in a log.
"""

import hashlib
import hmac
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Generic, Literal, TypeAlias, TypeVar, final

from rpcproto.core.errors import LocalProtocolError, require_name
from rpcproto.core.messages import IV_BYTES, MAX_IDENTITY_BYTES, Sealed
from rpcproto.core.sealing import Cryptor, OpenFailure
from rpcproto.extras import extra
from rpcproto.publishing import publish

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = [
    "DEFAULT_SALT",
    "IV_BYTES",
    "KEY_BYTES",
    "MAX_KEY_INDEX",
    "AesGcmCryptor",
    "Cryptor",
    "KeyDerivation",
    "Keyring",
    "OpenFailure",
    "Sealed",
    "derive_key",
    "random_iv",
    "ratchet",
]

KEY_BYTES: Final = 16
"""The length of a key, in bytes."""
MAX_KEY_INDEX: Final = 255
"""The largest index that a key can have. With their default options, LiveKit's SDKs have 16 keys,
with the indices 0 to 15."""
DEFAULT_SALT: Final = b"LKFrameEncryptionKey"
"""The default salt of LiveKit's SDKs."""

KeyDerivation: TypeAlias = Literal["pbkdf2", "hkdf"]
"""How a key is derived: PBKDF2 with SHA-256 and 100,000 rounds, or HKDF with SHA-256."""

_PBKDF2_ROUNDS: Final = 100_000
_MATERIAL_BYTES: Final = 32
_HKDF_INFO: Final = bytes(128)


# deriving


def derive_key(
    passphrase: str | bytes, *, kdf: KeyDerivation = "pbkdf2", salt: bytes = DEFAULT_SALT
) -> bytes:
    """Return the key (16 bytes) for a passphrase, or for other key material.

    Text is encoded as UTF-8. All SDKs derive keys from passphrases with PBKDF2, which takes some
    tens of milliseconds. HKDF is for material that is already random: JavaScript uses it for keys
    that are given as an `ArrayBuffer`.

    Raises:
        LocalProtocolError: The passphrase is empty or not valid Unicode, a value has another
            type, or `kdf` is unknown.
    """
    return _derive(passphrase, kdf, salt, KEY_BYTES)


def ratchet(
    material: str | bytes, *, kdf: KeyDerivation = "pbkdf2", salt: bytes = DEFAULT_SALT
) -> bytes:
    """Return the material (32 bytes) that follows `material`, which can be a passphrase.

    Use it only if a peer's application ratchets its keys: pass the result to `derive_key`, with the
    same `kdf` and `salt`. It provides no forward secrecy, because the first half of the new
    material is the old key.

    Raises:
        LocalProtocolError: As for `derive_key`.
    """
    return _derive(material, kdf, salt, _MATERIAL_BYTES)


def _derive(material: str | bytes, kdf: KeyDerivation, salt: bytes, length: int) -> bytes:
    secret = _as_bytes(material)
    if not secret:
        raise LocalProtocolError("a passphrase must be bytes or valid Unicode text, not empty")
    if not isinstance(salt, bytes):
        raise LocalProtocolError(f"salt must be bytes, not {type(salt).__name__}")
    if kdf == "pbkdf2":
        return hashlib.pbkdf2_hmac("sha256", secret, salt, _PBKDF2_ROUNDS, length)
    if kdf == "hkdf":
        # RFC 5869. One block of SHA-256 is enough for both lengths.
        extracted = hmac.digest(salt, secret, "sha256")
        return hmac.digest(extracted, _HKDF_INFO + b"\x01", "sha256")[:length]
    raise LocalProtocolError('kdf must be "pbkdf2" or "hkdf"')


def _as_bytes(material: object) -> bytes:
    """The material, empty if it is none. An exception of `encode` would keep the passphrase, even
    as the context of another one."""
    if isinstance(material, str):
        text = str(material)
        return b"" if any("\ud800" <= char <= "\udfff" for char in text) else text.encode()
    return bytes(material) if isinstance(material, bytes | bytearray | memoryview) else b""


def random_iv() -> bytes:
    """Return an IV (12 bytes) from the random source of the operating system."""
    return os.urandom(IV_BYTES)


# keys

_Key = TypeVar("_Key")


class Keyring(ABC, Generic[_Key]):
    """The keys of a cryptor: one ring of shared keys, or a ring for each participant.

    A participant encrypts with its key at the index in use, which is 0 until `use` changes it. It
    decrypts a packet with the sender's key at the index that the packet names. A key belongs to its
    index until it is replaced or removed.

    Keys can be changed at any time. Packets that are taken from the engine later are encrypted with
    the new key, and received ones are decrypted with the key at their index.

    All methods except `open` raise `LocalProtocolError` if an index is not from 0 to 255, or an
    identity is not text of 1 to 256 bytes of UTF-8.
    """

    def __init__(self, own_identity: str | None, new_iv: Callable[[], bytes]) -> None:
        if own_identity is not None:
            require_name(own_identity, "own_identity", MAX_IDENTITY_BYTES)
        self._own_identity = own_identity
        self._is_attached = False
        self._new_iv = new_iv
        self._index = 0
        self._shared: dict[int, _Key] = {}
        self._keys: dict[tuple[str, int], _Key] = {}
        self._sealing_key: _Key | None = None

    def __repr__(self) -> str:
        keys = f"{len(self._shared)} shared keys"
        if self._keys:
            keys = f"{len(self._keys)} keys of participants"
        return f"<{type(self).__name__} of {self._own_identity!r}: {keys}, index {self._index}>"

    def __reduce__(self) -> str:
        raise TypeError(f"{type(self).__name__} cannot be pickled: it holds keys")

    # for the application

    def set_shared_key(self, key: bytes, index: int = 0) -> None:
        """Set a key (16 bytes) that all participants share, for encrypting and decrypting.

        Raises:
            LocalProtocolError: The key has another length, or there are keys of participants.
        """
        if self._keys:
            raise LocalProtocolError("a cryptor has a shared key or a key for each participant")
        self._shared[_index(index)] = self._load(_key(key))
        self._find_sealing_key()

    def set_key(self, identity: str, key: bytes, index: int = 0) -> None:
        """Set the key (16 bytes) with which one participant encrypts its packets.

        Raises:
            LocalProtocolError: The key has another length, or there are shared keys.
        """
        require_name(identity, "identity", MAX_IDENTITY_BYTES)
        if self._shared:
            raise LocalProtocolError("a cryptor has a shared key or a key for each participant")
        self._keys[identity, _index(index)] = self._load(_key(key))
        self._find_sealing_key()

    def remove_key(self, identity: str | None, index: int = 0) -> None:
        """Remove a key of a participant, or a shared key if `identity` is None.

        Packets that were encrypted with it can no longer be decrypted. If there is no such key,
        nothing happens.

        Raises:
            LocalProtocolError: The key is in use: this participant encrypts with it.
        """
        index = _index(index)
        if identity is not None:
            require_name(identity, "identity", MAX_IDENTITY_BYTES)
        # There are keys of one kind only.
        is_own = (None if self._shared else self._own_identity) == identity
        if is_own and index == self._index and self._sealing_key is not None:
            raise LocalProtocolError(f"the key at index {index} is in use: use another one first")
        if identity is None:
            self._shared.pop(index, None)
        else:
            self._keys.pop((identity, index), None)

    def use(self, index: int) -> None:
        """From now on, encrypt with this participant's or the shared key at this index (0 to 255).

        Raises:
            LocalProtocolError: There is no such key. While the cryptor has neither shared keys nor
                `own_identity`, `attach` checks this instead.
        """
        before, self._index = self._index, _index(index)
        self._find_sealing_key()
        if self._sealing_key is None and (self._is_attached or self._shared or self._own_identity):
            self._index = before
            self._find_sealing_key()
            raise LocalProtocolError(f"there is no key to encrypt with at index {index}")

    # for the engine

    def attach(self, identity: str) -> None:
        """Bind the cryptor to the participant `identity`. See `Cryptor.attach`."""
        require_name(identity, "identity", MAX_IDENTITY_BYTES)
        if self._own_identity not in (None, identity):
            raise LocalProtocolError(
                f"the cryptor belongs to {self._own_identity!r}, not to {identity!r}"
            )
        own, self._own_identity = self._own_identity, identity
        self._find_sealing_key()
        if self._sealing_key is None:
            self._own_identity = own
            raise LocalProtocolError(
                f"the cryptor has no key to encrypt with at index {self._index}: "
                "set one, or use another"
            )
        self._is_attached = True

    def seal(self, plaintext: bytes) -> Sealed:
        """Encrypt with the key in use and a new IV.

        Raises:
            LocalProtocolError: There is no key to encrypt with.
        """
        key = self._sealing_key
        if key is None:
            raise LocalProtocolError("the cryptor has no key to encrypt with")
        iv = self._new_iv()
        return Sealed(self._index, iv, self._encrypt(key, iv, plaintext))

    def seal_again(self, plaintext: bytes, key_index: int, iv: bytes) -> Sealed:
        """Encrypt with a given key index and IV, to replay a journal.

        Never use it for other plaintexts: if an IV is used twice, the key is no longer safe.

        Raises:
            LocalProtocolError: There is no such key.
        """
        key = self._own_key(_index(key_index))
        if key is None:
            raise LocalProtocolError(f"there is no key to encrypt with at index {key_index}")
        return Sealed(key_index, iv, self._encrypt(key, iv, plaintext))

    def open(
        self, sender_identity: str, key_index: int, iv: bytes, ciphertext: bytes
    ) -> bytes | OpenFailure:
        """Decrypt with the sender's key at this index, and try no other. Never raises."""
        shared = self._shared
        key = shared.get(key_index) if shared else self._keys.get((sender_identity, key_index))
        if key is None:
            return OpenFailure.NO_KEY
        return self._decrypt(key, iv, ciphertext)

    # within

    def _own_key(self, index: int) -> _Key | None:
        if self._own_identity is None:
            return self._shared.get(index)
        return self._shared.get(index) or self._keys.get((self._own_identity, index))

    def _find_sealing_key(self) -> None:
        self._sealing_key = self._own_key(self._index)

    @abstractmethod
    def _load(self, key: bytes) -> _Key:
        """What is kept of a key."""

    @abstractmethod
    def _encrypt(self, key: _Key, iv: bytes, plaintext: bytes) -> bytes:
        """The ciphertext, with the tag at its end."""

    @abstractmethod
    def _decrypt(self, key: _Key, iv: bytes, ciphertext: bytes) -> bytes | OpenFailure:
        """The plaintext, or UNDECRYPTABLE."""


def _index(index: object) -> int:
    if not isinstance(index, int) or not 0 <= index <= MAX_KEY_INDEX:
        raise LocalProtocolError(f"a key index must be an int from 0 to {MAX_KEY_INDEX}")
    return int(index)


def _key(key: object) -> bytes:
    if not isinstance(key, bytes | bytearray | memoryview):
        raise LocalProtocolError(
            f"a key must be bytes, not {type(key).__name__}: see derive_key for passphrases"
        )
    if memoryview(key).nbytes != KEY_BYTES:
        raise LocalProtocolError(
            f"a key must be {KEY_BYTES} bytes, not {memoryview(key).nbytes}: see derive_key"
        )
    return bytes(key)


@final
class AesGcmCryptor(Keyring["AESGCM"]):
    """Encrypts and decrypts packets with AES-128-GCM, as LiveKit's SDKs do (R43, R44).

    `own_identity` is the participant's identity. If it is None, the engine provides it. `new_iv`
    returns a new IV (12 bytes) for each encrypted packet; by default, IVs are random. Use another
    source only in tests, because a key must never be used twice with the same IV. With random IVs,
    use one key for at most 2^32 packets of all participants together.

    Not thread-safe. If threads share an engine, its lock also protects the cryptor.

    Raises:
        ImportError: The extra `e2ee` is not installed.
        LocalProtocolError: `own_identity` is not text of 1 to 256 bytes of UTF-8.
    """

    def __init__(
        self, own_identity: str | None = None, *, new_iv: Callable[[], bytes] | None = None
    ) -> None:
        with extra("e2ee", "AesGcmCryptor"):
            from cryptography.exceptions import InvalidTag  # noqa: PLC0415 (it may be missing)
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415
        super().__init__(own_identity, new_iv or random_iv)
        self._aes_gcm = AESGCM
        self._invalid_tag = InvalidTag

    def _load(self, key: bytes) -> "AESGCM":
        return self._aes_gcm(key)

    def _encrypt(self, key: "AESGCM", iv: bytes, plaintext: bytes) -> bytes:
        return key.encrypt(iv, plaintext, None)

    def _decrypt(self, key: "AESGCM", iv: bytes, ciphertext: bytes) -> bytes | OpenFailure:
        try:
            return key.decrypt(iv, ciphertext, None)
        except self._invalid_tag:
            return OpenFailure.UNDECRYPTABLE


publish(globals())
