"""The options that say with which key packets are encrypted, and what is reported of packets that
could not be opened."""

import os
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final

import click

from rpcproto.cli.output import read_file
from rpcproto.core.engine import RpcEngine
from rpcproto.core.errors import LocalProtocolError
from rpcproto.core.events import Event, IgnoreReason, PacketIgnored
from rpcproto.e2ee import MAX_KEY_INDEX, AesGcmCryptor, derive_key

PASSPHRASE: Final = "RPCPROTO_E2EE_PASSPHRASE"
"""The environment variable that can have the passphrase. No option takes it: others can see the
arguments of a process."""
MAX_PASSPHRASE_BYTES: Final = 65_536
"""The maximum size of a file with a passphrase."""
MAX_SENDERS: Final = 1_000
"""The packets of so many senders are counted one by one."""

_REASONS: Final = {
    IgnoreReason.NO_KEY: "cannot decrypt packets from",
    IgnoreReason.UNDECRYPTABLE: "cannot decrypt packets from",
    IgnoreReason.ENCRYPTED: "no key to decrypt packets from",
    IgnoreReason.PLAIN: "ignored unencrypted packets from",
}
"""What is reported, and how."""


class Keys:
    """The key that all participants share, and its index."""

    def __init__(self, passphrase: bytes, index: int) -> None:
        self._key = derive_key(passphrase)
        self._index = index

    def cryptor(self) -> AesGcmCryptor:
        """A cryptor for one participant. Raises click.UsageError if the extra is missing."""
        try:
            cryptor = AesGcmCryptor()
        except ImportError as error:
            raise click.UsageError(str(error)) from None
        cryptor.set_shared_key(self._key, self._index)
        cryptor.use(self._index)
        return cryptor


_FILE: Final = click.option(
    "--e2ee-passphrase-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Use end-to-end encryption with the passphrase in this file, without the newline at its "
    f"end.  [env var: {PASSPHRASE}, which has the passphrase itself]",
)
_INDEX: Final = click.option(
    "--e2ee-key-index",
    type=click.IntRange(0, MAX_KEY_INDEX),
    metavar="N",
    help="The index of the key, if it is not 0.",
)


def keyed(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command these options, and let it have `keys` of them; None without a passphrase."""

    @wraps(command)
    def with_keys(
        *, e2ee_passphrase_file: Path | None, e2ee_key_index: int | None, **others: Any
    ) -> Any:
        keys = None
        passphrase = _passphrase(e2ee_passphrase_file)
        if passphrase is not None:
            try:
                keys = Keys(passphrase, e2ee_key_index or 0)
            except LocalProtocolError:
                raise click.UsageError("the passphrase for encryption is empty") from None
        elif e2ee_key_index is not None:
            raise click.UsageError(f"--e2ee-key-index needs --e2ee-passphrase-file or {PASSPHRASE}")
        return command(keys=keys, **others)

    return _FILE(_INDEX(with_keys))


def _passphrase(file: Path | None) -> bytes | None:
    if file is None:
        text = os.environ.get(PASSPHRASE)
        return None if text is None else os.fsencode(text)
    return read_file(file, MAX_PASSPHRASE_BYTES).removesuffix(b"\n").removesuffix(b"\r")


class Unreadable:
    """Counts the packets of each sender that could not be read, and reports their number: the first
    one, then the tenth, the hundredth and so on."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._counts: Counter[tuple[str, IgnoreReason]] = Counter()

    def count(self, event: PacketIgnored) -> None:
        """A packet was ignored, for whatever reason."""
        reason, sender = event
        if reason not in _REASONS:
            return
        key = sender, reason
        if key not in self._counts and len(self._counts) >= MAX_SENDERS:
            key = "others", reason
        self._counts[key] += 1
        if _is_round(self._counts[key]):
            self._report(self._line(*key))

    def of(self, sender: str) -> list[str]:
        """The lines about one sender."""
        return [self._line(*key) for key in self._counts if key[0] == sender]

    def _line(self, sender: str, reason: IgnoreReason) -> str:
        count = self._counts[sender, reason]
        return f"{_REASONS[reason]} {sender or 'a hidden participant'}: {reason.value} {count}"


def _is_round(count: int) -> bool:
    """Whether this is a power of ten."""
    return str(count).strip("0") == "1"


class ReportingEngine(RpcEngine):
    """An engine that reports the packets that it could not read."""

    def __init__(self, unreadable: Unreadable, identity: str, **options: Any) -> None:
        super().__init__(identity, **options)
        self._unreadable = unreadable

    def take_events(self) -> tuple[Event, ...]:
        events = super().take_events()
        for event in events:
            if type(event) is PacketIgnored:
                self._unreadable.count(event)
        return events
