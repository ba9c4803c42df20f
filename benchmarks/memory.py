"""What a pending call weighs."""

import tracemalloc

from benchmarks.echo import Pair


def bytes_per_pending_call(calls: int) -> float:
    """All that the caller holds for a call once its request has left: its id included, which the
    engine alone keeps alive, and its share of every table."""
    pair = Pair()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        pair.leave_pending(calls)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert pair.caller.statistics().pending_calls == calls
    return (after - before) / calls
