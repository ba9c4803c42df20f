"""Faults of one line each, put into the core by hand, and the kind of tests that must see each.

`mutants.py` tries them out.
"""

from typing import NamedTuple

LAYERS = {
    "vectors": ("official_packets", "official_streams"),
    "fuzz": ("fuzz_targets",),
    "search": ("search",),
    "rules": (
        "rules_caller",
        "rules_responder",
        "rules_streams_in",
        "rules_streams_out",
        "rules_everything",
        "wire",
        "deadlines",
        "corner_cases",
        "peers",
    ),
    "laws": ("laws",),
    "simulation": ("simulation",),
    "stateful": ("stateful_peer", "stateful_pair", "stateful_streams"),
}
"""The kinds of tests by their files, the cheapest first. A fault is to be caught by the cheapest
that is there for its like, whatever dearer or luckier ones see:

* vectors: what official clients have written is read as they meant it;
* fuzz: whatever bytes come, nothing is raised, no bound is passed, all is given back;
* search: every order in which two engines' packets, deadlines and wishes can come about;
* rules: each rule by its examples, each figure at its boundary;
* laws: what holds for every life, however it is looked at;
* simulation: networks that lose, repeat and delay, participants that leave and come back;
* stateful: long lives beside a model that says what must come of each input.
"""


class Fault(NamedTuple):
    """One line of the core made wrong: `original` is in its module once, and becomes `faulty`."""

    name: str
    module: str
    layer: str
    original: str
    faulty: str


FAULTS = [
    Fault(
        "a late response completes its call again",
        "caller",
        "search",
        "            return self._why_not(call, request_id)\n        if payload is None:\n",
        "            self._events += [CallSucceeded(*response)] * (request_id in self._ended)\n"
        "            return self._why_not(call, request_id)\n"
        "        if payload is None:\n",
    ),
    Fault(
        "an ack from a third participant counts",
        "caller",
        "search",
        "not call.accepts(identity, sid)):\n"
        "            return self._why_not(call, request_id)\n"
        "        state",
        "False):\n            return self._why_not(call, request_id)\n        state",
    ),
    Fault(
        "a cancelled call leaves its deadline",
        "caller",
        "search",
        "        call.stage = OVER\n",
        "        call.stage = call.stage if what is CallInput.CANCEL else OVER\n",
    ),
    Fault(
        "an ack does not end the ack window",
        "caller",
        "search",
        "        call.state = state\n        call.stage = PENDING\n",
        "        call.state = state\n",
    ),
    Fault(
        "one call more than may be pending is made",
        "caller",
        "rules",
        "if len(pending) >= self._max_pending:",
        "if len(pending) > self._max_pending:",
    ),
    Fault(
        "a call outlives its recipient",
        "caller",
        "simulation",
        "if identity is None or call.recipient[0] == identity:\n                self._fail(",
        "if identity is None:\n                self._fail(",
    ),
    Fault(
        "the bytes of a response stream stay counted when it is read",
        "caller",
        "simulation",
        "        budget.give_back(budget.open(call.recipient[0]), payload_bytes)\n",
        "",
    ),
    Fault(
        "a response stream is read on when its call has ended",
        "caller",
        "laws",
        "                self._reader.drop(stream)\n",
        "                pass\n",
    ),
    Fault(
        "a request stream is sent on when its call has ended",
        "caller",
        "rules",
        "            self._outbox.end_stream(call.order)\n",
        "            pass\n",
    ),
    Fault(
        "a repeated request runs twice",
        "responder",
        "simulation",
        "        if key in self._known:\n",
        "        if key in self._invocations:\n",
    ),
    Fault(
        "a request is not acknowledged",
        "responder",
        "search",
        "outbox.small.append(new_value(OutgoingPacket, (data, identity, request_id, _ACK, 0)))",
        "pass",
    ),
    Fault(
        "an invocation outlives its caller",
        "responder",
        "simulation",
        "self._abandon(invocation, AbandonReason.CALLER_LEFT)",
        "pass",
    ),
    Fault(
        "an invocation that ends leaves its slot taken",
        "responder",
        "laws",
        "        sender.invocations -= 1\n",
        "",
    ),
    Fault(
        "a payload of just the greatest length is refused",
        "responder",
        "rules",
        "            if payload_bytes > self._max_payload:\n",
        "            if payload_bytes >= self._max_payload:\n",
    ),
    Fault(
        "a host hears of the end of what it never heard of",
        "responder",
        "fuzz",
        "        if invocation.state is InvocationState.RUNNING:\n",
        "        if invocation.state is not None:\n",
    ),
    Fault(
        "a packet whose number is below the window counts as new",
        "repeats",
        "rules",
        "        if -ahead >= self._size or self._seen & bit:\n",
        "        if self._seen & bit:\n",
    ),
    Fault(
        "what a departed caller asked is forgotten",
        "repeats",
        "stateful",
        "        self._shared.extend(self._rings.pop(identity, ()))\n",
        "        for key in self._rings.pop(identity, ()): del self.answers[key]\n",
    ),
    Fault(
        "a sweep takes what is still to come",
        "deadlines",
        "rules",
        "[item for item in self if item.stage >= self.stage]",
        "[item for item in self if item.stage > self.stage]",
    ),
    Fault(
        "an ack window of its own outlives the ack",
        "deadlines",
        "rules",
        "(PENDING if due.is_last else HURRIED)",
        "PENDING",
    ),
    Fault(
        "of an answer that could not be sent nobody is told",
        "engine",
        "simulation",
        "            self._responder.send_failed(packet)\n",
        "",
    ),
    Fault(
        "a deadline that is due now is left for later",
        "engine",
        "rules",
        "due.deadline > self._now:",
        "due.deadline >= self._now:",
    ),
    Fault(
        "the deadline of a silent stream is not announced",
        "engine",
        "rules",
        "return idle[0] if deadline is None else min(deadline, idle[0])",
        "return deadline",
    ),
    Fault(
        "time goes back",
        "engine",
        "laws",
        'return max(require_finite(now, "now"), self._now)',
        'return require_finite(now, "now")',
    ),
    Fault(
        "old news of a departure counts",
        "engine",
        "stateful",
        "        if not (known_sid and participant_sid) or participant_sid == known_sid:\n",
        "        if True:\n",
    ),
    Fault(
        "packets wait over a loss of the connection",
        "engine",
        "simulation",
        "        self._outbox.clear()\n",
        "",
    ),
    Fault(
        "packets to be ignored make events without a bound",
        "engine",
        "fuzz",
        "if reason not in ONLY_COUNTED and len(self._events) < self._max_untaken_events:",
        "if reason not in ONLY_COUNTED:",
    ),
    Fault(
        "a refused answer has moved the clock",
        "engine",
        "laws",
        "        accepted = self._checked(now)\n        answered",
        "        accepted = self._now = self._checked(now)\n        answered",
    ),
    Fault(
        "statistics that were taken change later",
        "engine",
        "laws",
        "MappingProxyType(dict(self._ignored))",
        "MappingProxyType(self._ignored)",
    ),
    Fault(
        "the entry of a sid survives its participant",
        "roster",
        "stateful",
        "            del self._by_sid[participant.sid]\n",
        "",
    ),
    Fault(
        "the numbers of packets are forgotten when their sender leaves",
        "roster",
        "stateful",
        "            participant.window = self._departed_windows.pop(sid, participant.window)\n",
        "",
    ),
    Fault(
        "who uses another's sid is believed",
        "roster",
        "stateful",
        "return owner is not None and owner.identity != identity",
        "return False",
    ),
    Fault(
        "a gap in a stream goes unseen",
        "stream_reader",
        "stateful",
        "        if chunk.chunk_index > stream.next_index:\n",
        "        if chunk.chunk_index > stream.next_index + 1:\n",
    ),
    Fault(
        "a body is inflated before its length is looked at",
        "stream_reader",
        "fuzz",
        "inflate.decompress(content, _INFLATE_STEP)",
        "inflate.decompress(content)",
    ),
    Fault(
        "a body may be shorter than its header says",
        "stream_reader",
        "simulation",
        "self.received_bytes < self._total_length:",
        "False:",
    ),
    Fault(
        "a sender who holds bytes is swept out",
        "stream_reader",
        "fuzz",
        "if not idle.held_bytes and not idle.invocations:",
        "if not idle.invocations:",
    ),
    Fault(
        "bytes that come do not put a stream behind those that are silent",
        "stream_reader",
        "fuzz",
        "            self._streams.move_to_end(stream.key)\n",
        "",
    ),
    Fault(
        "a compressed body must fit into one step of inflating",
        "stream_reader",
        "vectors",
        "content = inflate.unused_data or inflate.unconsumed_tail",
        "content = inflate.unused_data",
    ),
    Fault(
        "a compressed body is taken for one with zlib's header",
        "stream_reader",
        "vectors",
        "zlib.decompressobj(-zlib.MAX_WBITS)",
        "zlib.decompressobj()",
    ),
    Fault(
        "a chunk ends within a character",
        "stream_writer",
        "rules",
        "        end = _character_start(body, end)\n",
        "",
    ),
    Fault(
        "a body leaves whole before the next one begins",
        "outbox",
        "rules",
        "        else:\n            self._turns.append(stream)\n        self.packets_out",
        "        else:\n            self._turns.appendleft(stream)\n        self.packets_out",
    ),
    Fault(
        "a stream that is given up ends without a trailer",
        "outbox",
        "stateful",
        "            if cancelled:\n",
        "            if False:\n",
    ),
    Fault(
        "packets of a failed stream stay counted as waiting",
        "outbox",
        "simulation",
        "            self.waiting_bytes -= sum(len(other.data) for other in rest)\n",
        "",
    ),
    Fault(
        "a body for somebody who left stays in the outbox",
        "outbox",
        "simulation",
        "                self._drop(stream)\n",
        "                pass\n",
    ),
    Fault(
        "the length of an id is counted in characters",
        "wire",
        "fuzz",
        "before, between = _around_response(len(id_text), len(payload))",
        "before, between = _around_response(len(request_id), len(payload))",
    ),
    Fault(
        "bytes that are no protobuf raise",
        "wire",
        "fuzz",
        "except (DecodeError, ValueError):",
        "except ValueError:",
    ),
    Fault(
        "the data of an error is lost",
        "wire",
        "vectors",
        "error.code, error.message, error.data)",
        'error.code, error.message, "")',
    ),
    Fault(
        "the attributes of a stream are written in no certain order",
        "wire",
        "laws",
        "in sorted(header.attributes.items())",
        "in set(header.attributes.items())",
    ),
    Fault(
        "a body that is inline and empty is taken for one that is still to come",
        "wire",
        "vectors",
        'header.inline_content if header.HasField("inline_content") else None',
        "header.inline_content or None",
    ),
    Fault(
        "the longest timeouts are too large for the wire",
        "shared",
        "rules",
        "min(budget_ms, MAX_UINT32)",
        "budget_ms",
    ),
]
