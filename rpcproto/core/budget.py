"""What others take up here: invocation slots and bytes, of each sender and in all (R22, R28)."""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final

from rpcproto.core.config import RpcConfig
from rpcproto.core.deadlines import MIN_SWEPT, Timed, next_sweep
from rpcproto.core.wire import envelope

if TYPE_CHECKING:
    from rpcproto.core.stream_reader import IncomingStream

RESERVED_PART: Final = 8
"""One part in so many of a bound in all is reserved for those who hold little (R28)."""
LITTLE_PART: Final = 64
"""Less than one part in so many of a bound in all is little (R28)."""


class Sender:
    """What one identity takes up here, all its sids together."""

    __slots__ = ("envelope", "held_bytes", "identity", "invocations", "streams", "waiting")

    def __init__(self, identity: str, envelope: bytes) -> None:
        self.identity: str = identity
        self.envelope: bytes = envelope
        """What our packets to it begin with."""
        self.held_bytes: int = 0
        self.invocations: dict[int, Timed] = {}
        """Its invocations by their order (R22)."""
        self.streams: dict[tuple[str, str], IncomingStream] = {}
        """Its half-read streams by sid and stream id (R23), the oldest first."""
        self.waiting: dict[int, IncomingStream] = {}
        """Those of them with compressed input that waits its turn, by their order (R47)."""

    def newest_request(self) -> "IncomingStream | None":
        """The half-read request stream that makes room first (R28)."""
        newest_first = reversed(self.streams.values())
        return next((stream for stream in newest_first if stream.is_request), None)

    def rank(self) -> tuple[int, int] | None:
        """Bytes held, negative, and the order of the oldest half-read request stream; None where
        there is no such stream. The sender whose rank is lowest makes room first (R28)."""
        oldest = next((stream for stream in self.streams.values() if stream.is_request), None)
        return None if oldest is None else (-self.held_bytes, oldest.order)


class Senders:
    """All who take up something, by identity; the others are swept out now and then."""

    def __init__(
        self, identity: str, config: RpcConfig, make_room: Callable[["IncomingStream"], None]
    ) -> None:
        self._make_room = make_room
        self._identity = identity
        self._max_bytes = config.max_buffered_bytes
        self._open_bytes = without_reserve(config.max_buffered_bytes)
        self._max_bytes_of_one = config.max_buffered_bytes_per_sender
        self.by_identity: dict[str, Sender] = {}
        self._max_senders = MIN_SWEPT
        self.held_bytes: int = 0
        """Bytes that came in and are not done with (R28)."""
        self._ranking: list[tuple[int, int, Sender]] | None = None
        """A heap of ranks, while bytes are scarce: of every sender that has one an entry that is
        not behind its rank now, and maybe older ones."""

    def open(self, identity: str) -> Sender:
        """A new sender; there must be none of this identity."""
        if len(self.by_identity) >= self._max_senders:
            self._sweep()
        sender = Sender(identity, envelope(self._identity, identity))
        self.by_identity[identity] = sender
        return sender

    def _sweep(self) -> None:
        for identity, sender in list(self.by_identity.items()):
            if not (sender.held_bytes or sender.invocations or sender.streams):
                del self.by_identity[identity]
        self._max_senders = next_sweep(len(self.by_identity))

    def take(
        self,
        sender: Sender,
        count: int,
        is_answer: bool = False,
        is_kept: bool = True,
        stream: "IncomingStream | None" = None,
    ) -> bool:
        """Count `count` more bytes, or none if they are too many.

        `is_answer` says that they answer a call of ours, which may use the reserve; `is_kept` is
        False where they are done with at once. Where bytes are scarce, streams of whoever holds
        most make room (R28), maybe `stream`, which the bytes are for.
        """
        total, held = self.held_bytes + count, sender.held_bytes + count
        if total > self._open_bytes or held > self._max_bytes_of_one:
            while not self._has_room(sender, count, is_answer):
                fullest = self._who_makes_room(sender, count)
                if fullest is not None:
                    self._make_room(fullest)
                if fullest is None or fullest is stream:
                    return False
            total, held = self.held_bytes + count, sender.held_bytes + count
        if is_kept:
            self.held_bytes, sender.held_bytes = total, held
            if self._ranking is not None:
                self.rank(sender)
        return True

    def _has_room(self, sender: Sender, count: int, is_answer: bool) -> bool:
        total, held = self.held_bytes + count, sender.held_bytes + count
        if held > self._max_bytes_of_one:
            return False
        return count == 0 or has_room(total, held, self._max_bytes, is_answer)

    def give_back(self, sender: Sender, count: int) -> None:
        """`count` bytes that were taken are done with."""
        self.held_bytes -= count
        sender.held_bytes -= count
        if self._ranking is not None and self.held_bytes * 2 < self._max_bytes:
            # To rank all anew takes some time, and so many bytes must come in before that.
            self._ranking = None

    def rank(self, sender: Sender) -> None:
        """The sender holds more, or has a stream that can make room."""
        if self._ranking is not None and (rank := sender.rank()) is not None:
            heappush(self._ranking, (*rank, sender))
            if len(self._ranking) > next_sweep(2 * len(self.by_identity)):
                self._ranking = self._ranked()

    def _who_makes_room(self, sender: Sender, count: int) -> "IncomingStream | None":
        """The stream that must fail so that `sender` may hold `count` bytes more (R28).

        None where no sender holds as much as that one would then, or where that is over the bound
        of one sender.
        """
        wanted = sender.held_bytes + count
        if wanted > self._max_bytes_of_one:
            return None
        if self._ranking is None:
            self._ranking = self._ranked()
        while self._ranking:
            *rank, fullest = self._ranking[0]
            now = fullest.rank()
            if now == tuple(rank):
                may_take_of = fullest is sender or fullest.held_bytes >= wanted
                return fullest.newest_request() if may_take_of else None
            heappop(self._ranking)
            if now is not None:
                heappush(self._ranking, (*now, fullest))
        return None

    def _ranked(self) -> list[tuple[int, int, Sender]]:
        senders = self.by_identity.values()
        ranking = [(*rank, each) for each in senders if (rank := each.rank()) is not None]
        heapify(ranking)
        return ranking


def without_reserve(bound: int) -> int:
    """What of a bound in all is there for everybody (R28)."""
    return bound - bound // RESERVED_PART


def has_room(total: int, held: int, bound: int, is_answer: bool = False) -> bool:
    """Whether a bound in all admits `total`, of which the newcomer would hold `held` (R28)."""
    may_use_reserve = is_answer or held * LITTLE_PART < bound
    return total <= (bound if may_use_reserve else without_reserve(bound))
