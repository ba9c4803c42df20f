"""What has been put into the data channel, and why nobody has acknowledged a call."""

import math
from collections import deque
from collections.abc import Callable
from typing import Final

from rpcproto.livekit.errors import NotDeliveredError
from rpcproto.livekit.participants import Participants
from rpcproto.logs import logger

MARK_INTERVAL: Final = 0.1
MARKS: Final = 1_000
"""How many instants are remembered at which packets were sent, and how far apart they are, in
seconds."""


class Delivery:
    """What is known of the packets that one session has sent."""

    def __init__(self, participants: Participants, now: Callable[[], float]) -> None:
        self._participants = participants
        self._now = now
        self._bytes_sent = 0
        self._marks: deque[tuple[float, int]] = deque([(-math.inf, 0)], maxlen=MARKS)
        """At some instants, what had been sent until then."""

    def sent(self, size: int) -> None:
        """A packet of so many bytes was put into the data channel."""
        now = self._now()
        if now >= self._marks[-1][0] + MARK_INTERVAL:
            self._marks.append((now, self._bytes_sent))
        self._bytes_sent += size

    def permission_changed(self, identity: str, may_send: bool) -> None:
        """The server has granted or revoked our right to send."""
        if may_send:
            logger.info("%s: the server has granted the permission to publish data", identity)
        else:
            logger.warning(
                "%s: the server revoked the permission to publish data; it drops calls and answers",
                identity,
            )

    def explain(
        self, identity: str, since: float, buffered_bytes: int | None
    ) -> NotDeliveredError | None:
        """Why nobody has acknowledged a call to `identity` that was made at `since`, while so many
        bytes wait in the data channel (None: it is closed). None if that is not known."""
        if buffered_bytes is None:
            return NotDeliveredError("our data channel is closed", "channel_closed")
        if not self._participants.may_send:
            return NotDeliveredError(
                "the server drops what we send: we have no permission to publish data",
                "no_permission",
            )
        if self._bytes_sent - buffered_bytes < self._sent_before(since):
            message = f"our data channel is {buffered_bytes} bytes behind: the call has not left"
            return NotDeliveredError(message, "not_sent")
        return self._participants.explain(identity)

    def _sent_before(self, instant: float) -> int:
        """At least so many bytes had been sent before."""
        return next((sent for at, sent in reversed(self._marks) if at <= instant), 0)
