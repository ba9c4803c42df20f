"""What can be measured, section by section."""

import gc
import os
import statistics
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final, TypedDict

from benchmarks import bodies, floor, hosts, json_texts, jsonrpc, memory, sealed
from benchmarks.echo import Pair
from benchmarks.floor import PAYLOAD
from benchmarks.hostile import section as hostile
from benchmarks.table import Row, Table
from benchmarks.timing import Times, by_turns
from rpcproto.recording import Journal

CAP_COMPRESSION_DEFLATE_RAW: Final = 2
MB: Final = 1_000_000
CALLS: Final = 1_000
"""In a row before it is another work's turn: the caches are warm again after the first of them."""
ROUNDS: Final = 40
"""Calls in a row, in one timing."""
FORMS: Final = {"v1": 0, "v2 inline": 2}
"""The client_protocol that a call of this form needs."""
CROWDS: Final = {
    "v1": {1_000: 1.10, 100_000: 1.10, 1_000_000: 1.15},
    "v2 inline": {1_000: 1.10, 100_000: 1.10, 1_000_000: 1.15},
}
"""Calls that are pending, and what that may cost an echo."""


def memory_rows() -> Iterator[Row]:
    """First, while nothing else is in memory."""
    calls = 100_000
    for form, client_protocol in FORMS.items():
        measured = memory.bytes_per_pending_call(calls, client_protocol=client_protocol)
        yield Row(f"a pending call, {form}, of 100,000 made at one instant", measured, "bytes", 256)
        apart = memory.bytes_per_pending_call(
            calls, client_protocol=client_protocol, at_one_instant=False
        )
        yield Row("  each made at an instant of its own", apart, "bytes")


def echo_rows() -> Iterator[Row]:
    """Echo calls of 100 bytes, against the floors and against another library; and a longer one,
    compressed."""
    yield from plain_echo_rows()
    yield from deflated_echo_rows()
    yield from sealed_echo_rows()
    if jsonrpc.is_installed():
        works = [
            partial(jsonrpc.JsonRpcPair().echo, CALLS, PAYLOAD),
            partial(Pair().echo, CALLS, PAYLOAD),
        ]
        times = by_turns(works, ROUNDS)
        yield Row("an echo, v1, relative to one in sansio-jsonrpc", times.ratio(1), "x", 1.0)


def plain_echo_rows() -> Iterator[Row]:
    """Inline (v2), as a packet (v1), and in chunks."""
    v1, inline, chunked = (Pair(client_protocol=protocol) for protocol in (0, 2, 1))
    assert v1.forms(PAYLOAD) == ["rpc_request", "rpc_ack", "rpc_response"]
    assert inline.forms(PAYLOAD) == ["stream_header inline", "rpc_ack", "stream_header inline"]
    stream = ["stream_header", "stream_chunk", "stream_trailer"]
    assert chunked.forms(PAYLOAD) == [*stream, "rpc_ack", *stream]
    times = by_turns(
        [
            partial(floor.floor, CALLS),
            partial(floor.inline_floor, CALLS),
            partial(inline.echo, CALLS, PAYLOAD),
            partial(inline.echo_with_timers, CALLS, PAYLOAD),
            partial(v1.echo, CALLS, PAYLOAD),
            partial(v1.echo_with_timers, CALLS, PAYLOAD),
            partial(chunked.echo_in_chunks, CALLS, PAYLOAD),
        ],
        rounds=ROUNDS,
    )
    timers = "  what next_deadline after each input adds"
    yield Row("F: protobuf's six operations in a v1 call of 100 bytes", micros(times, 0), "µs")
    yield Row("F2: the same of an inline call", micros(times, 1), "µs")
    yield Row("  relative to F", times.ratio(1), "F")
    yield Row("an echo of 100 bytes, v2 inline, both engines", times.ratio(2, 1), "F2", 1.1)
    yield Row("  relative to F", times.ratio(2), "F")
    yield Row("  in microseconds", micros(times, 2), "µs")
    yield Row(timers, times.difference(3, 2), "F", 0.15)
    yield Row("an echo of 100 bytes, v1", times.ratio(4), "F", 1.1)
    yield Row("  in microseconds", micros(times, 4), "µs")
    yield Row(timers, times.difference(5, 4), "F")
    yield Row("an echo of 100 bytes, a chunked stream each way", times.ratio(6), "F", 4.0)


def deflated_echo_rows() -> Iterator[Row]:
    """An echo of 1.8 KB of JSON, inline and compressed; the texts are all different."""
    texts = [json_texts.json_text(1_800, seed) for seed in range(100)]
    pair = Pair(client_protocol=2, capabilities=(CAP_COMPRESSION_DEFLATE_RAW,))
    header = "stream_header inline deflated"
    assert all(pair.forms(text) == [header, "rpc_ack", header] for text in texts)
    bodies_of_texts = [text.encode() for text in texts]
    times = by_turns(
        [
            partial(floor.inline_floor, len(texts)),
            partial(json_texts.zlib_of_echo, bodies_of_texts),
            partial(pair.echo_each, texts),
        ],
        rounds=150,
    )
    what = "an echo of 1.8 KB of JSON, inline and deflated, less what zlib takes"
    yield Row(what, times.difference(2, 1), "F2", 1.6)
    yield Row("  zlib: two compressions and two inflations", times.ratio(1), "F2")
    yield Row("  in microseconds, zlib included", times.median(2) / len(texts) * 1e6, "µs")


def sealed_echo_rows() -> Iterator[Row]:
    """The inline echo, encrypted with AES-GCM. It is compared with one whose packets are plain, and
    beside which the cryptors do as much: between other work, this takes them longer than by
    itself."""
    plain, beside = Pair(client_protocol=2), Pair(client_protocol=2)
    encrypted = Pair(client_protocol=2, cryptors=sealed.cryptor)
    plain.forms(PAYLOAD)
    assert encrypted.forms(PAYLOAD) == ["encrypted_packet"] * 3
    request, _, response = plain.packets
    texts = sealed.plaintexts_of_echo(request, response)
    cryptors = sealed.cryptor("alice"), sealed.cryptor("bob")
    calls = 200
    times = by_turns(
        [
            partial(floor.floor, calls),
            partial(plain.echo, calls, PAYLOAD),
            partial(encrypted.echo, calls, PAYLOAD),
            partial(beside.echo_beside, calls, PAYLOAD, cryptors, texts),
            partial(sealed.seal_and_open, texts, calls),
        ],
        rounds=150,
    )
    what = "an echo of 100 bytes, v2 inline, AES-GCM, less a plain one with its six seals and opens"
    yield Row(what, times.difference(2, 3), "F", 0.5)
    yield Row("  the six seals and opens, within an echo", times.difference(3, 1), "F")
    yield Row("  by themselves", times.ratio(4), "F")
    yield Row("  in microseconds, all of it", times.median(2) / calls * 1e6, "µs")


def micros(times: Times, work: int) -> float:
    """The microseconds of one of CALLS calls."""
    return times.median(work) / CALLS * 1e6


def journal_rows() -> Iterator[Row]:
    """The echo with a journal of both engines, which is written nowhere: no disk is measured."""
    capabilities = (CAP_COMPRESSION_DEFLATE_RAW,)
    inline: Peers = {"client_protocol": 2, "capabilities": capabilities}
    yield from journal_rows_of("inline streams", inline, 3.0)
    yield from journal_rows_of("v1", {"client_protocol": 0, "capabilities": ()}, None)


class Peers(TypedDict):
    """What the engines of a `Pair` know of each other."""

    client_protocol: int
    capabilities: tuple[int, ...]


def journal_rows_of(form: str, peers: Peers, target: float | None) -> Iterator[Row]:
    """One form of the echo; `target` limits how much longer it takes with a journal."""
    calls, size = 200, 0

    def write(line: str) -> None:
        nonlocal size
        size += len(line)

    recorded = Pair(**peers, engine_factory=Journal(write).engine)
    before = size
    recorded.echo(calls, PAYLOAD)
    per_call = (size - before) / calls
    works = [partial(Pair(**peers).echo, calls, PAYLOAD), partial(recorded.echo, calls, PAYLOAD)]
    times = by_turns(works, rounds=100)
    yield Row(f"the echo, {form}, with a journal relative to none", times.ratio(1), "x", target)
    more = (times.median(1) - times.median(0)) / calls * 1e6
    yield Row("  added to a call", more, "µs")
    yield Row("  written for a call", per_call, "bytes")


def pending_rows() -> Iterator[Row]:
    """The echo in a caller that waits for many other answers.

    What was built before is frozen for the garbage collector, which otherwise walks through all
    pending calls now and then, and would be what is measured.
    """
    for form, crowds in CROWDS.items():
        pairs = []
        for crowd in (0, *crowds):
            pair = Pair(client_protocol=FORMS[form])
            pair.leave_pending(crowd)
            pairs.append(pair)
        gc.collect()
        gc.freeze()
        times = by_turns([partial(pair.echo, CALLS, PAYLOAD) for pair in pairs], rounds=ROUNDS)
        gc.unfreeze()
        for at, (crowd, target) in enumerate(crowds.items(), 1):
            what = f"the echo, {form}, with {crowd:,} calls pending, relative to none"
            yield Row(what, times.ratio(at), "x", target)


def body_rows() -> Iterator[Row]:
    """A large request and a short answer, in chunks; and compressed, for information.

    With `KEPT_HEAP`, for information: the memory that the floor needs is then there already, where
    a program usually gets it from the system, which takes most of the time.
    """
    is_usual = not any(name in os.environ for name in KEPT_HEAP)
    plain = Pair(client_protocol=1)
    compressing = Pair(client_protocol=2, capabilities=(CAP_COMPRESSION_DEFLATE_RAW,))
    for size, rounds in ((2 * MB, 40), (16 * MB, 10)):
        for name, pattern in (("ASCII", bodies.ASCII), ("mixed", bodies.MIXED)):
            times = body_times(bodies.text(pattern, size), rounds, plain, compressing)
            what = f"{size // MB} MB of {name} text in chunks, relative to encode + join + decode"
            has_limit = is_usual and (size, name) == (2 * MB, "ASCII")
            yield Row(what, times.ratio(1), "x", 2.5 if has_limit else None)
            yield Row("  the same between peers that compress", times.ratio(2), "x")


def body_times(body: str, rounds: int, plain: Pair, compressing: Pair) -> Times:
    """The floor, and the body through either pair."""
    works = [
        partial(bodies.floor, body),
        partial(bodies.carry, plain, body),
        partial(bodies.carry, compressing, body),
    ]
    return by_turns(works, rounds)


HOST_ROWS: Final = (
    ("asyncio", "memory", hosts.AT_ONCE, 6.0),
    ("asyncio", "memory", 1, 8.0),
    ("asyncio", "TCP", hosts.AT_ONCE, 9.0),
    ("trio", "memory", hosts.AT_ONCE, 8.0),
    ("trio", "memory", 1, None),
    ("trio", "TCP", hosts.AT_ONCE, 12.0),
)
"""A host, what carries its packets, how many calls are under way at once, and the most processor
time of a call that holds, in F."""


def host_rows() -> Iterator[Row]:
    """Whole hosts, both ends in one process: the processor's time of a call.

    Hosts announce all that an engine can read, so that a call is a request and a response stream,
    inline; the engines are measured at the same.
    """
    calls = 4_000
    pair = Pair(client_protocol=2, capabilities=(CAP_COMPRESSION_DEFLATE_RAW,))
    for host, way, at_once, limit in HOST_ROWS:
        rounds = []
        for _ in range(5):
            alone = by_turns([partial(floor.floor, 500), partial(pair.echo, 500, PAYLOAD)], 5)
            cost = hosts.cost_of_call(host, way, calls, PAYLOAD, at_once)
            unit = alone.median(0) / 500
            rounds.append((cost.processor / unit, alone.ratio(1), cost.elapsed))
        processor, engines, elapsed = map(statistics.median, zip(*rounds, strict=True))
        what = f"processor time of a call, {host}, {way}, {at_once} at once"
        yield Row(what, processor, "F", limit)
        yield Row("  of which the engines", engines, "F")
        yield Row("  calls a second", 1 / elapsed, "/s")
    yield from interceptor_rows(calls)


def interceptor_rows(calls: int) -> Iterator[Row]:
    """What an interceptor on either side adds to a call, for information: the rows above are those
    where nobody has added one."""
    for host in hosts.HOSTS:
        rounds = []
        for _ in range(5):
            unit = by_turns([partial(floor.floor, 500)], 5).median(0) / 500
            none, one = (
                hosts.cost_of_call(host, "memory", calls, PAYLOAD, interceptors=count).processor
                for count in (0, 1)
            )
            rounds.append((one - none) / unit)
        what = f"  what an interceptor on either side adds, {host}"
        yield Row(what, statistics.median(rounds), "F")


KEPT_HEAP: Final = dict.fromkeys(("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"), "1000000000")
"""The environment of a process whose heap keeps its memory (glibc)."""

SECTIONS: Final[dict[str, Callable[[], Iterable[Table]]]] = {
    "memory": lambda: [Table.of(memory_rows())],
    "echo": lambda: [Table.of(echo_rows())],
    "journal": lambda: [Table.of(journal_rows())],
    "pending": lambda: [Table.of(pending_rows())],
    "bodies": lambda: [Table.of(body_rows())],
    "hosts": lambda: [Table.of(host_rows())],
    "hostile": hostile.tables,
}
"""What can be measured, in this order, as the tables that come of it."""
