"""What the inputs of a `program` are made of, at and around the bounds."""

import math
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

from fuzz.choices import with_new
from rpcproto import RpcConfig, RpcEngine

GRACES = (0.0, 2.0, 0.0)
CONFIG = RpcConfig(
    max_payload_bytes=40_000,
    max_packet_bytes=50_000,
    max_buffered_bytes=64_000,
    max_buffered_bytes_per_sender=48_000,
    max_waiting_bytes=70_000,
    max_pending_calls=4,
    max_invocations=6,
    max_invocations_per_caller=4,
    max_waiting_packets=12,
    max_untaken_events=16,
    remembered_requests=8,
    remembered_requests_per_caller=3,
    sequence_window=8,
    max_participants=5,
)
MAX_OPEN = CONFIG.max_pending_calls + CONFIG.max_invocations
# Beyond the bound: the last one that was let in brings a few, and what is open already may end.
MAX_PACKETS = CONFIG.max_waiting_packets + 3 + 3 * MAX_OPEN + CONFIG.remembered_requests
MAX_EVENTS = CONFIG.max_untaken_events + 1 + 2 * MAX_OPEN
MAX_WAITING_BYTES = CONFIG.max_waiting_bytes + CONFIG.max_payload_bytes + 16_500 * MAX_PACKETS

US = "alice"
PEERS = ("bob", "carol", "bob", "carol", "bob", "", US, "one of many")
SIDS = ("", "PA_1", "PA_2", "PA_3")
METHODS = ("greet", "greet", "greet", "unknown", "", "m" * 65)
SECONDS = (0.0, 0.0, 0.0, 0.125, 1.0, 3.5, 7.0, 10.0, 15.0, 4_000.0)
TIMEOUTS = (None, None, None, 0.5, 1.0, 7.0, 8.0, 30.0, 1e7)
PAYLOADS = (
    "hi",
    "",
    "é" * 600,
    "x" * 15_000,
    "x" * 15_360,
    "x" * 15_361,
    "\u4e16" * 12_000,
    "\ufeff" * 6_000,
    "".join(Random(1).choices("0123456789abcdefghijklmnopqrstuvwxyz", k=32_000)),
    "x" * 40_001,
)
REQUEST_IDS = ("r1", "r2", "r3", "R1", "r" * 128, "")
STREAM_IDS = ("s1", "s2")


def raw_deflate(data: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflate.compress(data) + deflate.flush()


EMPTY_BLOCK = b"\0\0\0\xff\xff"
"""Of DEFLATE: it yields nothing, and another one may follow."""
CONTENTS = with_new(
    (
        b"hi",
        b"",
        b"\xff",
        "é".encode()[:1],
        "é".encode()[1:],
        b"x" * 15_000,
        raw_deflate(b"hi"),
        raw_deflate(b"hi") + b"x",
        raw_deflate(b"x" * 39_000),
        raw_deflate(bytes(2**20)),
    ),
    EMPTY_BLOCK * 500,
    EMPTY_BLOCK * 1_000,
    EMPTY_BLOCK * 500 + raw_deflate(b"hi"),
    EMPTY_BLOCK * 1_000 + raw_deflate(b"hi"),
)
HEADERS: tuple[dict[str, Any], ...] = (
    {"text_header": {}},
    {"text_header": {}},
    {"text_header": {}, "total_length": 2},
    {"text_header": {}, "compression": 1},
    {"text_header": {}, "compression": 1, "total_length": 2},
    {"text_header": {}, "compression": 2},
    {"text_header": {}, "total_length": 2**40},
    {"text_header": {"generated": True}},
    {"byte_header": {}},
)

OLD_MISUSES: tuple[Callable[[RpcEngine], object], ...] = (
    lambda engine: engine.call("bob", "greet", "\ud800", now=1e9),
    lambda engine: engine.call("bob", "", "hi", now=1e9),
    lambda engine: engine.call("", "greet", "hi", now=1e9),
    lambda engine: engine.call("bob", "greet", "hi", now=1e9, response_timeout=0),
    lambda engine: engine.call("bob", "greet", "hi", now=1e9, ack_timeout=math.inf),
    lambda engine: engine.cancel("r1", now=math.nan),
    lambda engine: engine.respond(1, "\ud800", now=1e9),
    lambda engine: engine.respond_error(1, 2**32, now=1e9),
    lambda engine: engine.respond_error(1, 1, "\ud800", now=1e9),
    lambda engine: engine.participant_joined("", now=1e9),
    lambda engine: engine.participant_left("x" * 257, now=1e9),
    lambda engine: engine.receive_packet(b"", now=math.nan),
    lambda engine: engine.receive_packet(b"", now=1e9, sender_sid="PA_1"),
    lambda engine: engine.handle_deadline(now=math.inf),
    lambda engine: engine.register_method("m" * 65),
)
MISUSES: tuple[Callable[[RpcEngine], object], ...] = with_new(
    OLD_MISUSES,
    lambda engine: setattr(engine, "hand_over_unknown_methods", 1),
    lambda engine: engine.check_call("bob", "greet", "\ud800"),
    lambda engine: engine.check_call("bob", "", "hi"),
    lambda engine: engine.check_call("bob", "greet", "hi", ack_timeout=0),
)
