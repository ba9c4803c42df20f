"""Large texts through two engines, against what no implementation can do without."""

from typing import Final

from benchmarks.echo import Pair
from rpcproto import CallSucceeded, InvocationReceived

SLICE_BYTES: Final = 15_000
ASCII: Final = "The quick brown fox jumps over the lazy dog, again and again. "
MIXED: Final = "Zoë naïvely drew ∑ and € signs, 字 by 字, and a 🦊 for the 🐶. "
"""Characters of one to four bytes."""


def text(pattern: str, size: int) -> str:
    """About `size` bytes of UTF-8."""
    return pattern * (size // len(pattern.encode()))


def floor(body: str) -> None:
    """Encode, slice, join, decode: no framing, no characters looked for."""
    data = body.encode()
    slices = [data[at : at + SLICE_BYTES] for at in range(0, len(data), SLICE_BYTES)]
    assert len(b"".join(slices).decode()) == len(body)


def carry(pair: Pair, body: str) -> None:
    """One call whose request has this body, all packets taken one by one, and a short answer."""
    caller, responder, now = pair.caller, pair.responder, pair.now
    caller.call("bob", "echo", body, now=now)
    while (packet := caller.next_packet()) is not None:
        responder.receive_packet(packet.data, now=now)
    while not (events := responder.take_events()):
        # What one input would have to inflate beyond a mebibyte waits for the next turn (R47).
        deadline = responder.next_deadline
        assert deadline is not None
        now = pair.now = deadline
        responder.handle_deadline(now=now)
    [event] = events
    assert isinstance(event, InvocationReceived)
    assert len(event.payload) == len(body)
    responder.respond(event.invocation_id, "", now=now)
    while (packet := responder.next_packet()) is not None:
        caller.receive_packet(packet.data, now=now)
    *_, done = caller.take_events()
    assert isinstance(done, CallSucceeded)
