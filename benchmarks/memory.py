"""What a pending call weighs."""

import tracemalloc

from benchmarks.echo import SECONDS_PER_CALL, Pair


def bytes_per_pending_call(
    calls: int, *, client_protocol: int = 0, at_one_instant: bool = True
) -> float:
    """All that the caller holds for a call once its request has left: its id included, which the
    engine alone keeps alive, and its share of every table.

    Unless all calls are made `at_one_instant`, each also keeps a `now` of its own alive.
    """
    pair = Pair(client_protocol=client_protocol)
    seconds_per_call = 0.0 if at_one_instant else SECONDS_PER_CALL
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        pair.leave_pending(calls, seconds_per_call=seconds_per_call)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert pair.caller.statistics().pending_calls == calls
    return (after - before) / calls
