"""Run everything and print one table: `make bench`."""

import gc
import platform
import statistics
import sys
from collections.abc import Iterator
from functools import partial

import google.protobuf
from google.protobuf.internal import api_implementation

from benchmarks import bodies, floor, hosts, jsonrpc, memory
from benchmarks.echo import Pair
from benchmarks.floor import PAYLOAD
from benchmarks.table import Row, table
from benchmarks.timing import Times, Work, by_turns
from rpcproto.journal import Journal

CAP_COMPRESSION_DEFLATE_RAW = 2
MB = 1_000_000


def memory_rows() -> Iterator[Row]:
    """First, while nothing else is in memory."""
    yield Row("a pending call, of 100,000", memory.bytes_per_pending_call(100_000), "bytes", 300)


def echo_rows() -> Iterator[Row]:
    """An echo call, against the floor and against another library."""
    calls = 200
    pair = Pair()
    works: list[Work] = [
        partial(floor.floor, calls),
        partial(pair.echo, calls, PAYLOAD),
        partial(pair.echo_with_timers, calls, PAYLOAD),
    ]
    if jsonrpc.is_installed():
        works.append(partial(jsonrpc.JsonRpcPair().echo, calls, PAYLOAD))
    times = by_turns(works, rounds=300)

    def micros(work: int) -> float:
        return times.median(work) / calls * 1e6

    yield Row("F: protobuf's six operations in a call of 100 bytes", micros(0), "µs")
    yield Row("an echo call of 100 bytes, v1, both engines", micros(1), "µs")
    yield Row("  relative to F", times.ratio(1), "F", 1.3)
    yield Row("  relative to F, next_deadline read after each input", times.ratio(2), "F")
    if len(works) > 3:
        yield Row("  relative to an echo in sansio-jsonrpc", times.ratio(1, 3), "x", 1.0)


def journal_rows() -> Iterator[Row]:
    """The echo with both engines recorded, to nowhere: what writing costs is the disk's affair."""
    calls, size = 200, 0

    def write(line: str) -> None:
        nonlocal size
        size += len(line)

    recorded = Pair(engine_factory=Journal(write).engine)
    before = size
    recorded.echo(calls, PAYLOAD)
    per_call = (size - before) / calls
    works = [partial(Pair().echo, calls, PAYLOAD), partial(recorded.echo, calls, PAYLOAD)]
    times = by_turns(works, rounds=100)
    yield Row("the echo with a journal of both engines, relative to none", times.ratio(1), "x")
    more = (times.median(1) - times.median(0)) / calls * 1e6
    yield Row("  what it adds to a call", more, "µs")
    yield Row("  what it writes of a call", per_call, "bytes")


def pending_rows() -> Iterator[Row]:
    """The echo in a caller that waits for many other answers.

    What was built before is frozen for the garbage collector, which otherwise walks through all
    pending calls now and then, and would be what is measured.
    """
    calls = 200
    crowds = {0: None, 1_000: 1.10, 100_000: 1.10, 1_000_000: 1.15}
    pairs = []
    for crowd in crowds:
        pair = Pair()
        pair.leave_pending(crowd)
        pairs.append(pair)
    gc.collect()
    gc.freeze()
    times = by_turns([partial(pair.echo, calls, PAYLOAD) for pair in pairs], rounds=150)
    gc.unfreeze()
    for at, (crowd, target) in enumerate(crowds.items()):
        if crowd:
            what = f"the echo with {crowd:,} calls pending, relative to none"
            yield Row(what, times.ratio(at), "x", target)


def body_rows() -> Iterator[Row]:
    """A large request and a short answer, in chunks; and compressed, for information."""
    plain = Pair(client_protocol=1)
    compressing = Pair(client_protocol=2, capabilities=(CAP_COMPRESSION_DEFLATE_RAW,))
    for size, rounds in ((2 * MB, 40), (16 * MB, 10)):
        for name, pattern in (("ASCII", bodies.ASCII), ("mixed", bodies.MIXED)):
            times = body_times(bodies.text(pattern, size), rounds, plain, compressing)
            what = f"{size // MB} MB of {name} text in chunks, relative to encode + join + decode"
            yield Row(what, times.ratio(1), "x", 4.0 if (size, name) == (2 * MB, "ASCII") else None)
            yield Row("  the same between peers that compress", times.ratio(2), "x")


def body_times(body: str, rounds: int, plain: Pair, compressing: Pair) -> Times:
    """The floor, and the body through either pair."""
    works = [
        partial(bodies.floor, body),
        partial(bodies.carry, plain, body),
        partial(bodies.carry, compressing, body),
    ]
    return by_turns(works, rounds)


def host_rows() -> Iterator[Row]:
    """Whole hosts, both ends in one process, and how much of their time is the engines'.

    Hosts announce all that an engine can read, so that a call is a request and a response stream,
    inline; the engines are measured at the same.
    """
    calls = 4_000
    pair = Pair(client_protocol=2, capabilities=(CAP_COMPRESSION_DEFLATE_RAW,))
    for host in hosts.HOSTS:
        for way in hosts.WAYS:
            rounds = []
            for _ in range(5):
                whole = hosts.seconds_per_call(host, way, calls, PAYLOAD)
                engines = by_turns([partial(pair.echo, 200, PAYLOAD)], rounds=5).median(0) / 200
                rounds.append((whole, engines / whole))
            whole, share = map(statistics.median, zip(*rounds, strict=True))
            yield Row(f"calls a second, {host}, {way}, {hosts.AT_ONCE} at once", 1 / whole, "/s")
            yield Row("  the engines' share of it", share * 100, "%")


def main() -> int:
    """Measure part by part, then print the table."""
    protobuf = f"protobuf {google.protobuf.__version__} ({api_implementation.Type()})"
    print(f"{platform.python_implementation()} {platform.python_version()}, {protobuf}", flush=True)
    rows: list[Row] = []
    for part in (memory_rows, echo_rows, journal_rows, pending_rows, body_rows, host_rows):
        rows.extend(part())
        gc.collect()
    print(table(rows))
    if not jsonrpc.is_installed():
        print("(sansio-jsonrpc is not installed, so there is nothing to compare with)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
