"""Faults of one line each, put into the core by hand, and the kind of tests that must see each.

`mutants.py` tries them out.
"""

from pathlib import Path
from typing import NamedTuple

LAYERS = {
    "vectors": ("official_packets", "official_streams", "e2ee"),
    "fuzz": ("fuzz_targets",),
    "search": ("search",),
    "rules": (
        "rules_caller",
        "rules_responder",
        "rules_streams_in",
        "rules_streams_out",
        "rules_everything",
        "rules_grace",
        "rules_budget",
        "rules_inflating",
        "rules_roster",
        "rules_sealed",
        "wire",
        "deadlines",
        "corner_cases",
        "peers",
    ),
    "laws": ("laws", "laws_sealed"),
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
    """One line made wrong: `original` is in its module once, and becomes `faulty`."""

    name: str
    module: str
    layer: str
    original: str
    faulty: str
    folder: str = "core"
    """Where the module is in the package; empty for the package itself."""

    @property
    def path(self) -> Path:
        """The module's file, from the root of the repository."""
        return Path("rpcproto", self.folder, f"{self.module}.py")


FAULTS = [
    Fault(
        "a late response completes its call again",
        "caller",
        "search",
        "            return self._why_not(call, request_id)\n        outcome: Body | Fault",
        "            self._events += [CallSucceeded(*response)] * (request_id in self._ended)\n"
        "            return self._why_not(call, request_id)\n"
        "        outcome: Body | Fault",
    ),
    Fault(
        "an ack from a third participant counts",
        "caller",
        "search",
        "        if call is None or not call.recipient.can_be(origin):\n"
        "            return self._why_not(call, request_id)\n"
        "        state",
        "        if call is None:\n"
        "            return self._why_not(call, request_id)\n"
        "        state",
    ),
    Fault(
        "a cancelled call leaves its deadline",
        "caller",
        "search",
        "        call.state = CALL_TABLE[call.state][what]\n",
        "        if what is not CallInput.CANCEL:\n"
        "            call.state = CALL_TABLE[call.state][what]\n",
    ),
    Fault(
        "an ack does not end the ack window", "caller", "search", "        call.state = state\n", ""
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
        "recipients",
        "simulation",
        "        calls = recipient.pending()\n        if calls and",
        "        calls: list[Call] = []\n        if calls and",
    ),
    Fault(
        "a response stream is read on when its call has ended",
        "caller",
        "laws",
        "            self._reader.drop(stream)\n",
        "            pass\n",
    ),
    Fault(
        "a request stream is sent on when its call has ended",
        "caller",
        "rules",
        "            self._outbox.end_stream(call.order)\n",
        "            pass\n",
    ),
    Fault(
        "a call in grace fails with the code of its own deadline",
        "caller",
        "rules",
        "        if call.recipient.calls_in_grace:\n            self._fail(",
        "        if False:\n            self._fail(",
    ),
    Fault(
        "without a sid anybody of the name answers calls in grace",
        "recipients",
        "rules",
        "            departed.has_returned = True\n            if",
        "            if",
    ),
    Fault(
        "where no sid was known a newcomer answers calls in grace",
        "recipients",
        "rules",
        "                departed.sid = None\n",
        "",
    ),
    Fault(
        "the sid of who left is known when the grace is over",
        "recipients",
        "rules",
        "        if departed.sid:\n            del self._roster.sids_in_grace[identity]\n",
        "",
    ),
    Fault(
        "in grace an answer without a sid is read under none",
        "caller",
        "rules",
        'sid = sid or recipient.sid or ""',
        'sid = sid or ""',
    ),
    Fault(
        "the grace counts from the beginning of the call",
        "caller",
        "rules",
        "start_at(call, now + grace)",
        "start_at(call, call.started + grace)",
    ),
    Fault(
        "a newcomer continues the response of a call in grace",
        "recipients",
        "rules",
        "                cut_off += departed.pending()\n",
        "",
    ),
    Fault(
        "who comes is taken for who left",
        "recipients",
        "stateful",
        "self._here.pop(identity, None)",
        "self._here.get(identity)",
    ),
    Fault(
        "a departure with a grace ends its calls at once",
        "caller",
        "stateful",
        "            if grace:\n                self._deadlines",
        "            if not grace:\n                self._deadlines",
    ),
    Fault(
        "a repeated request runs twice",
        "responder",
        "simulation",
        "        if key in self._known:\n",
        "        if key in self.invocations:\n",
    ),
    Fault(
        "a request is not acknowledged",
        "responder",
        "search",
        "outbox.small.append((data, identity, request_id, _ACK, 0))",
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
        "del self.invocations[order], sender.invocations[order]",
        "del self.invocations[order]",
    ),
    Fault(
        "a payload of just the greatest length is refused",
        "responder",
        "rules",
        "if size <= self._max_payload:",
        "if size < self._max_payload:",
    ),
    Fault(
        "a host hears of the end of what it never heard of",
        "responder",
        "fuzz",
        "        if invocation.state is InvocationState.RUNNING:\n",
        "        if invocation.state is not None:\n",
    ),
    Fault(
        "one slot more of the reserve is given",
        "responder",
        "rules",
        "len(of_caller) + 1, self._max_in_all)",
        "len(of_caller), self._max_in_all)",
    ),
    Fault(
        "a method of any length is handed over",
        "responder",
        "rules",
        'method != "" and fits(method, MAX_METHOD_BYTES)',
        'method != ""',
    ),
    Fault(
        "a request without a method is handed over", "responder", "rules", ' and method != ""', ""
    ),
    Fault(
        "a sender who has invocations is swept out",
        "budget",
        "fuzz",
        "(sender.held_bytes or sender.invocations or sender.streams)",
        "(sender.held_bytes or sender.streams)",
    ),
    Fault(
        "the reserve of bytes is for everybody",
        "budget",
        "rules",
        "self._open_bytes = without_reserve(config.max_buffered_bytes)",
        "self._open_bytes = config.max_buffered_bytes",
    ),
    Fault(
        "an answer may not use the reserve",
        "budget",
        "rules",
        "may_use_reserve = is_answer or held",
        "may_use_reserve = held",
    ),
    Fault(
        "a byte more is little as well",
        "budget",
        "rules",
        "held * LITTLE_PART < bound",
        "held * LITTLE_PART <= bound",
    ),
    Fault(
        "the sender that holds least makes room",
        "budget",
        "stateful",
        "(-self.held_bytes, oldest.order)",
        "(self.held_bytes, oldest.order)",
    ),
    Fault(
        "among equals the one that began last makes room",
        "budget",
        "rules",
        "(-self.held_bytes, oldest.order)",
        "(-self.held_bytes, -oldest.order)",
    ),
    Fault(
        "the oldest stream makes room",
        "budget",
        "stateful",
        "reversed(self.streams.values())",
        "self.streams.values()",
    ),
    Fault(
        "who holds most takes from who holds less",
        "budget",
        "stateful",
        "fullest is sender or fullest.held_bytes >= wanted",
        "True",
    ),
    Fault(
        "who makes room is ranked without a bound",
        "budget",
        "laws",
        "if len(self._ranking) > next_sweep(2 * len(self.by_identity)):",
        "if False:",
    ),
    Fault(
        "a packet whose number is below the window counts as new",
        "repeats",
        "rules",
        "(behind < self._size and",
        "(behind < 2 * self._size and",
    ),
    Fault(
        "what a departed caller asked is forgotten",
        "repeats",
        "stateful",
        "            caller.shared.extend(caller.ring)\n",
        "            for key in caller.ring: self._forget(key)\n",
    ),
    Fault(
        "a sweep takes what is still to come",
        "deadlines",
        "rules",
        "[item for item in self if item.state >= OPEN]",
        "[item for item in self if item.state > OPEN]",
    ),
    Fault(
        "an ack window of its own outlives the ack",
        "deadlines",
        "rules",
        "(OPEN if due.is_last else EARLY)",
        "OPEN",
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
        "stream_reader",
        "rules",
        "(of_others, stream.grown_at + self._idle_timeout, self.turn_at)",
        "(of_others, self.turn_at, 1e9)",
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
        "what waits to be inflated is not announced",
        "stream_reader",
        "laws",
        "(of_others, stream.grown_at + self._idle_timeout, self.turn_at)",
        "(of_others, stream.grown_at + self._idle_timeout)",
    ),
    Fault(
        "deadlines go before what is to be inflated at the same instant",
        "engine",
        "rules",
        "turn_at <= min(self._now, ends_at)",
        "turn_at <= self._now and turn_at < ends_at",
    ),
    Fault(
        "an announcement takes the sid of another",
        "engine",
        "stateful",
        "        if roster.is_of_another(participant_sid, identity):\n",
        "        if False:\n",
    ),
    Fault(
        "the list counts as complete though somebody was turned away",
        "engine",
        "stateful",
        "            roster.is_complete = False\n",
        "",
    ),
    Fault(
        "another sid that the host names is overlooked",
        "roster",
        "rules",
        "return identity == self.identity and (not sid or sid == self.sid)",
        "return identity == self.identity",
    ),
    Fault(
        "another sender that the host names is overlooked",
        "roster",
        "rules",
        "return identity == self.identity and (not sid or sid == self.sid)",
        "return not sid or sid == self.sid",
    ),
    Fault(
        "the host's word is doubted",
        "roster",
        "rules",
        "if sid and not is_named and self.is_of",
        "if sid and self.is_of",
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
        "self._departed_windows.pop((identity, sid), participant.window)",
        "participant.window",
    ),
    Fault(
        "who uses another's sid is believed",
        "roster",
        "stateful",
        "return owner is not None and owner.identity != identity",
        "return False",
    ),
    Fault(
        "one participant more is recorded",
        "roster",
        "rules",
        "len(self.by_identity) >= self._max_participants",
        "len(self.by_identity) > self._max_participants",
    ),
    Fault(
        "the windows of who departed are kept without a bound",
        "roster",
        "laws",
        "if len(self._departed_windows) > REMEMBERED_WINDOWS:",
        "if False:",
    ),
    Fault(
        "the bytes of a stream that has ended stay counted",
        "stream_reader",
        "simulation",
        "        self.senders.give_back(sender, stream.received_bytes)\n",
        "",
    ),
    Fault(
        "a gap in a stream goes unseen",
        "stream_reader",
        "rules",
        "if index != stream.next_index:",
        "if index not in (stream.next_index, stream.next_index + 1):",
    ),
    Fault(
        "a body is inflated before its length is looked at",
        "inflating",
        "fuzz",
        "inflate.decompress(content, limit)",
        "inflate.decompress(content)",
    ),
    Fault(
        "a body may be shorter than its header says",
        "stream_reader",
        "simulation",
        "self.received_bytes < self.total_length:",
        "False:",
    ),
    Fault(
        "bytes that come do not put a stream behind those that are silent",
        "stream_reader",
        "fuzz",
        "        self.streams.move_to_end(stream.order)\n",
        "",
    ),
    Fault(
        "a compressed body must fit into one step of inflating",
        "inflating",
        "vectors",
        "len(inflate.unused_data) or len(inflate.unconsumed_tail)",
        "len(inflate.unused_data)",
    ),
    Fault(
        "a compressed body is taken for one with zlib's header",
        "inflating",
        "vectors",
        "self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)",
        "self._inflate = zlib.decompressobj()",
    ),
    Fault(
        "in grace a request without a sid is read under the sid that was called",
        "stream_reader",
        "rules",
        "return None if stream is None or stream.is_request else stream",
        "return stream",
    ),
    Fault(
        "compressed input that yields nothing extends the idle time",
        "stream_reader",
        "rules",
        "self._grow(stream, step, now) if step else None",
        "self._grow(stream, step, now)",
    ),
    Fault(
        "an input inflates two mebibytes",
        "inflating",
        "rules",
        "MAX_INFLATED: Final = 1024 * 1024",
        "MAX_INFLATED: Final = 2 * 1024 * 1024",
    ),
    Fault(
        "input that yields nothing is not counted over several inputs",
        "inflating",
        "rules",
        "self._barren_bytes + len(content)",
        "len(content)",
    ),
    Fault(
        "one sender has all the turns",
        "stream_reader",
        "rules",
        "                self._turns[identity] = sender\n",
        "                self._turns[identity] = sender\n"
        "                self._turns.move_to_end(identity, last=False)\n",
    ),
    Fault(
        "what is left is inflated at once",
        "stream_reader",
        "rules",
        "self.turn_at = now + TURN if self._turns else None",
        "self.turn_at = now if self._turns else None",
    ),
    Fault(
        "compressed input that waits is not counted",
        "stream_reader",
        "rules",
        "len(inflater.rest) - inflater.counted_bytes",
        "0",
    ),
    Fault(
        "compressed input that was read stays counted",
        "stream_reader",
        "rules",
        "        self.senders.give_back(sender, inflater.counted_bytes)\n",
        "",
    ),
    Fault(
        "a trailer ends a body of which something waits",
        "stream_reader",
        "stateful",
        "elif inflater and inflater.is_waiting:",
        "elif False:",
    ),
    Fault(
        "a chunk ends within a character",
        "stream_writer",
        "rules",
        "        while body[end] & 0xC0 == 0x80:\n            end -= 1\n",
        "",
    ),
    Fault(
        "a body leaves whole before the next one begins",
        "outbox",
        "rules",
        "streams.move_to_end(stream.token)",
        "streams.move_to_end(stream.token, last=False)",
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
        "            self.waiting_bytes -= len(data)\n",
        "",
    ),
    Fault(
        "a body for somebody who left stays in the outbox",
        "outbox",
        "simulation",
        'in ("", sid):\n                self._drop(stream)\n',
        'in ("", sid):\n                pass\n',
    ),
    Fault(
        "the id of a cancelling trailer is read from what is handed back",
        "outbox",
        "rules",
        "id_of_trailer(data)",
        "id_of_trailer(packet.data)",
    ),
    Fault(
        "the length of an id is counted in characters",
        "wire",
        "fuzz",
        "_BEFORE_ID[len(id_text)], _BEFORE_RESULT",
        "_BEFORE_ID[len(request_id)], _BEFORE_RESULT",
    ),
    Fault(
        "bytes that are no protobuf raise",
        "wire",
        "fuzz",
        "(DecodeError, ValueError, RecursionError)",
        "(ValueError, RecursionError)",
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
        "in sorted(attributes.items())",
        "in set(attributes.items())",
    ),
    Fault(
        "a body that is inline and empty is taken for one that is still to come",
        "wire",
        "vectors",
        'if not inline and not header.HasField("inline_content"):',
        "if not inline:",
    ),
    Fault(
        "all names of a list of destinations are looked at",
        "wire",
        "rules",
        "destinations[:MAX_DESTINATIONS]",
        "destinations",
    ),
    Fault(
        "the longest timeouts are too large for the wire",
        "shared",
        "rules",
        "min(budget_ms, MAX_UINT32)",
        "budget_ms",
    ),
    Fault(
        "a call in grace ends with the code of its deadline",
        "caller",
        "search",
        "        if call.recipient.calls_in_grace:\n            self._fail(",
        "        if False:\n            self._fail(",
    ),
    Fault(
        "the grace of a departure does not end",
        "caller",
        "search",
        "                self._deadlines.start_at(call, now + grace)\n",
        "                pass\n",
    ),
    Fault(
        "a participant that is back answers calls to its old session",
        "recipients",
        "search",
        "not (self.has_returned or (sid and self.sid))",
        "not (sid and self.sid) or self.has_returned",
    ),
    Fault(
        "a call in grace adopts the sid of a participant that joins",
        "recipients",
        "search",
        "            departed.has_returned = True\n",
        "            departed.has_returned, departed.sid = True, sid\n",
    ),
    Fault(
        "a participant that joins lifts the grace",
        "recipients",
        "search",
        "            departed.has_returned = True\n",
        "            departed.has_returned, departed.calls_in_grace = True, 0\n",
    ),
    Fault(
        "a recipient is kept when the last call in grace has ended",
        "recipients",
        "simulation",
        "        self._departed[identity].remove(departed)\n"
        "        if not self._departed[identity]:\n",
        "        if not self._departed[identity]:\n",
    ),
    Fault(
        "an answer stream is not read in grace",
        "caller",
        "simulation",
        '            sid = sid or recipient.sid or ""  # (R31)\n',
        "            return IgnoreReason.LATE\n",
    ),
    Fault(
        "what waits to be inflated gets one turn only",
        "stream_reader",
        "simulation",
        "        self.turn_at = now + TURN if self._turns else None\n",
        "        self.turn_at = None\n",
    ),
    Fault(
        "the turn of what waits to be inflated is not announced",
        "stream_reader",
        "simulation",
        "instants = (of_others, stream.grown_at + self._idle_timeout, self.turn_at)",
        "instants = (of_others, stream.grown_at + self._idle_timeout)",
    ),
    Fault(
        "a plain packet counts with a cryptor",
        "sealing",
        "rules",
        "        if kind is not IgnoreReason.UNKNOWN_KIND and not self._accepts_plain:\n",
        "        if False:\n",
    ),
    Fault(
        "an IV of any length is opened",
        "sealing",
        "rules",
        "        if len(iv) != messages.IV_BYTES or len",
        "        if len",
    ),
    Fault(
        "a ciphertext without a tag is opened",
        "sealing",
        "rules",
        " or len(ciphertext) < messages.TAG_BYTES:",
        ":",
    ),
    Fault(
        "what cannot be opened is malformed",
        "sealing",
        "rules",
        "OpenFailure) -> Read:\n"
        '    """What was sealed in a packet, or why it cannot be had."""\n'
        "    if not isinstance(plaintext, bytes):\n"
        "        return IgnoreReason(plaintext.value), ()\n",
        "OpenFailure) -> Read:\n"
        "    if not isinstance(plaintext, bytes):\n"
        "        return IgnoreReason.MALFORMED, ()\n",
    ),
    Fault(
        "what cannot be opened of a known sender is malformed",
        "sealing",
        "rules",
        "        # `_message_in`, in line.\n"
        "        if not isinstance(plaintext, bytes):\n"
        "            return IgnoreReason(plaintext.value), ()\n",
        "        if not isinstance(plaintext, bytes):\n"
        "            return IgnoreReason.MALFORMED, ()\n",
    ),
    Fault(
        "a number is marked before its packet is opened",
        "engine",
        "rules",
        "named is not None, self._sealing is None)",
        "named is not None, True)",
    ),
    Fault(
        "a number is not marked when its packet has been opened",
        "sealing",
        "rules",
        "            self._roster.is_new_packet(*origin[:2], origin.sequence)\n",
        "            pass\n",
    ),
    Fault(
        "a stream may be encrypted in part",
        "sealing",
        "rules",
        "            and stream.is_sealed is not is_sealed\n",
        "            and False\n",
    ),
    Fault(
        "who is announced is answered plain as well",
        "sealing",
        "rules",
        "        if origin.identity not in self._roster.senders:\n",
        "        if True:\n",
    ),
    Fault(
        "the server's own API is answered with sealed packets",
        "sealing",
        "rules",
        "        if self._accepts_plain and type(request_id) is PlainId:\n",
        "        if False:\n",
    ),
    Fault(
        "chunks leave plain",
        "sealing",
        "laws",
        "        if self._accepts_plain and type(request_id) is PlainId:\n",
        "        if kind is messages.PacketKind.STREAM_CHUNK:\n",
    ),
    Fault(
        "what follows a message in a packet is taken for a part of it",
        "wire",
        "rules",
        "        if before == before_id and after == after_id:",
        "        if before[:1] == before_id[:1] and after == after_id:",
    ),
    Fault(
        "a chunk of any number is taken for the first",
        "wire",
        "rules",
        "        if before == before_id and after == after_id:",
        "        if before == before_id:",
    ),
    Fault(
        "the shortest ciphertext is too short for its tag",
        "wire",
        "rules",
        "    if size - start < TAG_BYTES or before_iv",
        "    if before_iv",
    ),
    Fault(
        "small packets leave before they are sealed",
        "engine",
        "rules",
        "        if self._sealing is not None:\n",
        "        if self._sealing is not None and outbox.streams:\n",
    ),
    Fault(
        "where no call is pending nothing is due",
        "engine",
        "search",
        "        if not (self._pending or self._invocations):\n",
        "        if not self._pending:\n",
    ),
    Fault(
        "a sealed packet with a number is malformed",
        "wire",
        "rules",
        "lambda message: (Sealed, _sealed_fields(message))",
        "lambda message: None",
    ),
    Fault(
        "a key index is cut to eight bits",
        "e2ee",
        "rules",
        "        shared = self._shared\n        key = shared.get(key_index)",
        "        shared, key_index = self._shared, key_index & 255\n"
        "        key = shared.get(key_index)",
        folder="",
    ),
    Fault(
        "packets are opened with our own key",
        "e2ee",
        "rules",
        "self._keys.get((sender_identity, key_index))",
        "self._keys.get((str(self._own_identity), key_index))",
        folder="",
    ),
    Fault(
        "another's key moves the index in use",
        "e2ee",
        "vectors",
        "        self._keys[identity, _index(index)] = self._load(_key(key))\n",
        "        self._keys[identity, _index(index)] = self._load(_key(key))\n"
        "        self._index = index\n",
        folder="",
    ),
    Fault(
        "the key in use can be removed",
        "e2ee",
        "vectors",
        "        if is_own and index == self._index and self._sealing_key is not None:\n",
        "        if False:\n",
        folder="",
    ),
    Fault(
        "HKDF has another info",
        "e2ee",
        "vectors",
        "_HKDF_INFO: Final = bytes(128)",
        "_HKDF_INFO: Final = bytes(127)",
        folder="",
    ),
    Fault(
        "an exception shows a passphrase",
        "e2ee",
        "vectors",
        '"a passphrase must be bytes or valid Unicode text, not empty"',
        'f"a passphrase must not be {material!r}"',
        folder="",
    ),
]
