"""The seam: participants of the suite send bytes to the testee and get the bytes that it sends."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Final, NamedTuple, TypeAlias

MAX_PACKET_BYTES: Final = 131_072
"""The largest packet that the suite sends, in bytes."""
HELLO_TIMEOUT: Final = 10.0
"""How long a testee may take to say its hello, in seconds."""


OnPacket: TypeAlias = Callable[[bytes], None]
OnEnd: TypeAlias = Callable[[str], None]


class NoTestee(Exception):  # noqa: N818 (what is wrong is for people to read)
    """There is nothing to test; the text says why, in one sentence."""


class Encryption(NamedTuple):
    """The key of an encrypted room."""

    passphrase: str
    key_index: int = 0


class Member(NamedTuple):
    """A participant that the suite plays, as a server would announce it."""

    identity: str
    sid: str
    client_protocol: int
    capabilities: tuple[int, ...]


class Facts(NamedTuple):
    """What a testee said of itself."""

    identity: str
    client_protocol: int
    """0, 1 or 2: what it can read."""
    capabilities: tuple[int, ...] = ()
    has_virtual_time: bool = False
    """Whether `Attachment.set_now` sets its clock."""
    can_encrypt: bool = False


class Attachment(ABC):
    """A way to reach a testee. Used as an async context manager; asyncio or trio.

    `on_packet` is given each packet of the testee, `on_end` the reason when it has ended by itself.
    Set both before `start`. Nothing is called after `stop`.
    """

    has_late_news: ClassVar[bool] = False
    """Whether packets of a participant can overtake the news that it is here."""

    def __init__(self) -> None:
        self.on_packet: OnPacket = lambda data: None
        self.on_end: OnEnd = lambda reason: None

    @abstractmethod
    async def start(self, encryption: Encryption | None = None) -> Facts:
        """Start or reach the testee, anew if it was there before. Raises NoTestee."""

    @abstractmethod
    def send(self, data: bytes) -> None:
        """Send a packet to the testee, after those before. It bears its sender already."""

    @abstractmethod
    async def announce(self, member: Member) -> None:
        """Let the testee know that a participant is here, as far as it looks."""

    @abstractmethod
    async def dismiss(self, member: Member) -> None:
        """Let the testee know that a participant has left."""

    @abstractmethod
    async def set_now(self, now: float) -> None:
        """Set the clock of a testee with virtual time, in seconds; it has done all that is due when
        this returns. The same `now` again is a barrier. Raises TimeoutError."""

    @abstractmethod
    async def stop(self) -> None:
        """End the testee, or the connection to it."""

    @abstractmethod
    def take_errors(self) -> str:
        """What it wrote to its standard error since this was last asked, at most the last 4 KiB."""

    @abstractmethod
    def give_up(self, reason: str) -> None:
        """The testee is of no use any more: `on_end` is called as if it had ended by itself."""
