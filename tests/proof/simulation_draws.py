"""What is drawn alike for worlds of engines and for worlds of programs."""

from random import Random
from typing import Final

from rpcproto import RpcError
from rpcproto.testing import Link

HEALED_AT: Final = 20.0
"""Seconds of hostility."""
MIN_CALLS: Final = 10
METHODS: Final = ("work", "toil")
MAX_PAYLOAD_BYTES: Final = 60_000
VAST_PAYLOAD_BYTES: Final = 2_500_000
"""The same in some worlds: compressed bodies of such sizes are inflated in turns (R47)."""
NOISE: Final = "".join(Random(0).choices("abcdefghijklmnopqrstuvwxyz0123456789äß€한😀", k=70_000))
"""Text that cannot be compressed to much less, with characters of every length."""
FAILED: Final = "Application error in method handler"
"""The message of 1500."""


class Draws:
    """Links and texts from one source of chance."""

    def __init__(self, random: Random, hostility: float, max_payload: int) -> None:
        """`hostility` is from 0 to 1."""
        self.random = random
        self.hostility = hostility
        self.max_payload = max_payload

    def link(self) -> Link:
        draw = self.random

        def share(most: float) -> float:
            return self.hostility * most * draw.choice([0.0, 0.0, 0.5, 1.0])

        return Link(
            latency=draw.choice([0.0, 0.02, 0.2, 1.0]),
            jitter=draw.choice([0.0, 0.05, 0.5]),
            loss=share(0.3),
            repetition=share(0.4),
            reordering=share(0.3),
            send_failure=share(0.05),
            straggling=draw.choice([0.1, 1.0, 5.0]),
        )

    def text(self, beginning: str) -> str:
        """A text of some size, different for each beginning unless it is empty."""
        draw = self.random
        match draw.choice(["empty", "tiny", "tiny", "tiny", "some", "v1", "noise", "dull", "over"]):
            case "empty":
                return ""
            case "tiny":
                return beginning
            case "some":
                return beginning + NOISE[: draw.randrange(3_000)]
            case "v1":  # at the limit of v1, or one byte over
                return beginning.ljust(15_360 + draw.choice([0, 0, 1]), ".")
            case "dull" if self.max_payload == VAST_PAYLOAD_BYTES:
                return beginning + "lorem ipsum " * draw.randrange(80_000, 200_000)
            case "dull":
                return beginning + "lorem ipsum " * draw.randrange(1_000, 4_000)
            case "over" if draw.random() < 0.3:
                return beginning.ljust(self.max_payload + draw.choice([0, 1]), "x")
        start = draw.randrange(1_000)
        return beginning + NOISE[start : start + draw.randrange(1_000, 25_000)]

    def reply(self, beginning: str) -> str | RpcError | None:
        """What a handler answers, or None."""
        draw = self.random
        kind = draw.random()
        if kind < 0.08:
            return None
        if kind < 0.2:
            code = draw.choice([2001, 404_404, 1500])
            message = FAILED if code == 1500 else beginning
            return RpcError(code, message, self.text(beginning)[:1_000])
        return self.text(beginning)
