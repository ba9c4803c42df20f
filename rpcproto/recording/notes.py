"""What a journal notes of a cryptor: never its keys."""

from rpcproto.core.messages import Sealed
from rpcproto.core.sealing import Cryptor, OpenFailure


class Notes:
    """A cryptor whose results are noted until a line of the journal takes them."""

    def __init__(self, cryptor: Cryptor) -> None:
        self._cryptor = cryptor
        self._opened: bool | str | None = None
        self._sealed: tuple[int, bytes] | None = None

    def take_opened(self) -> bool | str | None:
        """Return whether the packet that was received opened, or why not; None if it needed no
        opening."""
        opened, self._opened = self._opened, None
        return opened

    def take_sealed(self) -> tuple[int, bytes] | None:
        """Return the key index and the IV of the packet that was taken; None if it is plain."""
        sealed, self._sealed = self._sealed, None
        return sealed

    # the cryptor

    def attach(self, identity: str) -> None:
        self._cryptor.attach(identity)

    def seal(self, plaintext: bytes) -> Sealed:
        sealed = self._cryptor.seal(plaintext)
        self._sealed = sealed.key_index, sealed.iv
        return sealed

    def open(
        self, sender_identity: str, key_index: int, iv: bytes, ciphertext: bytes
    ) -> bytes | OpenFailure:
        opened = self._cryptor.open(sender_identity, key_index, iv, ciphertext)
        self._opened = opened.value if isinstance(opened, OpenFailure) else True
        return opened
