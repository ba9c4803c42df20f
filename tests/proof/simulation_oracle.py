"""What a simulated call may come to, from the rules alone and from what its network did to it."""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from helpers import MESSAGES, V1_LIMIT
from sealed_packets import toy
from simulation_engine import NOBODY, Answer, MadeCall, WatchedEngine

from rpcproto import (
    AbandonReason,
    CallAcknowledged,
    CallFailed,
    CallSucceeded,
    InvocationAbandoned,
    InvocationReceived,
    PacketKind,
    RpcError,
    wire,
)
from rpcproto.core.inflating import MAX_INFLATED
from rpcproto.core.stream_reader import TURN
from rpcproto.testing import Fate, SentPacket
from rpcproto.wire import Message, Sealed, StreamHeader, StreamTrailer

MALLORY = "mallory"
"""Who sends others' packets as her own: no call is hers."""
HEADER, CHUNK = PacketKind.STREAM_HEADER, PacketKind.STREAM_CHUNK
REQUESTS = (PacketKind.REQUEST, HEADER)
STREAM_KINDS = (HEADER, CHUNK, PacketKind.STREAM_TRAILER)
IDLE = "no bytes for 15 seconds"
STREAM_FAULT = re.compile(
    rf"chunk \d+ is missing|{IDLE}|\d+ of \d+ bytes arrived|the stream ended early: cancelled"
)
"""What may be wrong with a stream that a network has damaged (R25, R26, R28, R38)."""


class Plan(NamedTuple):
    """What the handler of a call does."""

    reply: str | RpcError | None
    """None if it never answers."""
    delay: float
    leaves: bool = False
    """Whether its participant is gone right after the answer."""


class RuleBrokenError(AssertionError):
    """Something happened that no rule allows."""


def require(holds: object, complaint: str) -> None:
    """Raises RuleBrokenError unless it holds."""
    if not holds:
        raise RuleBrokenError(complaint)


class End(NamedTuple):
    """How a call ended, and when; None if it was cancelled."""

    at: float
    event: CallSucceeded | CallFailed | None


class Case(NamedTuple):
    """A call that was made, and the packets about it."""

    engine: WatchedEngine
    call: MadeCall
    ours: list[SentPacket]
    """Of the caller, to the one that it called."""
    theirs: list[SentPacket]
    """Of the one that was called, to the caller."""

    patience: float
    """How long the caller's engine may take to inflate an answer that has arrived (R47)."""

    def answers(self) -> list[tuple[float, SentPacket]]:
        """What may have counted as an answer (R7), in order of arrival."""
        arrivals = [
            (at, sent)
            for sent in self.theirs
            for at in sent.arrived_at
            if at >= self.call.at and self._may_count(at, sent.sender_sid)
        ]
        return sorted(arrivals, key=lambda arrival: arrival[0])

    def _may_count(self, at: float, sid: str) -> bool:
        """Whether an answer may count, by its sid. Where none was known, the first one that is
        announced is adopted (R40); if the recipient leaves before that, nothing counts from its
        return on (R9)."""
        if self.call.known is not None:
            return sid == self.call.known.sid
        later = [
            (then, announced)
            for then, who, announced in self.engine.announced
            if who == self.call.destination and self.call.at <= then < at
        ]
        return not later or (later[0][0] <= self.left_at() and sid == later[0][1])

    def is_answered_at(self, at: float, seconds: float = 0.0) -> bool:
        """Whether something that can have been an answer was read `seconds` before `at`."""
        arrivals = (then + seconds for then, _ in self.answers())
        return any(then <= at <= then + self._turns() for then in arrivals)

    def _turns(self) -> float:
        """How much later than its last packet the answer may be read, in seconds."""
        return self.patience if any(is_inflated_in_turns(sent) for sent in self.theirs) else 0.0

    def answered_at(self) -> float:
        """When an answer was surely there and read, all of it and from whom it should be (R6)."""
        return self._arrived_at() + self._turns()

    def _arrived_at(self) -> float:
        headers: set[str] = set()
        if self.call.known is None:
            return math.inf
        for at, sent in self.answers():
            if sent.kind in (PacketKind.RESPONSE, PacketKind.ERROR):
                return at
            match message_of(sent):
                case StreamHeader(inline_content=None, stream_id=stream_id):
                    headers.add(stream_id)
                case StreamHeader():
                    return at
                case StreamTrailer(stream_id) if stream_id in headers and at == sent.arrived_at[0]:
                    return at  # one that came before its header is known when it comes again (R37)
        return math.inf

    def left_at(self) -> float:
        """When the caller was told that the other is gone (R9)."""
        departures = self.engine.departures
        left = [at for at, identity, _ in departures if identity == self.call.destination]
        return min((at for at in left if at >= self.call.at), default=math.inf)

    def lost_at(self) -> float:
        """When the caller lost its connection, or closed its engine."""
        return min((at for at in self.engine.lost_at if at >= self.call.at), default=math.inf)

    def gone_at(self) -> float:
        """When nobody can answer any more: the grace is over, or the connection is lost (R9)."""
        return min(self.left_at() + self.engine.config.departure_grace, self.lost_at())

    def signs(self) -> list[float]:
        """When there were signs that the other has the request, in order (R4)."""
        return [at for at, sent in self.answers() if sent.kind in (PacketKind.ACK, HEADER)]

    def is_surely_acked(self) -> bool:
        """Whether the ack window was ended by a sign that counts for sure."""
        signs = self.signs()
        return self.call.known is not None and bool(signs) and signs[0] <= self.window_ends_at()

    def window_ends_at(self) -> float:
        return self.call.at + self.call.window


class Oracle:
    """Judges a world when it is over."""

    def __init__(
        self,
        packets: Sequence[SentPacket],
        engines: Sequence[WatchedEngine],
        plans: Mapping[str, Plan],
        methods: Collection[str],
        *,
        numbers: Mapping[str, object],
        slow: Collection[str] = (),
        stamped: bool = False,
    ) -> None:
        """`plans` and `numbers`, which name the calls, are by request id. In `packets` is all that
        was sent, in order; those who are `slow` do not send at once, and if `stamped`, packets have
        sequence numbers (R37)."""
        self.reached: Counter[str] = Counter()
        """How often each kind of thing happened."""
        self._numbers = numbers
        self._slow = slow
        self._engines = engines
        self._plans = plans
        self._methods = methods
        self._stamped = stamped
        self._packets: dict[str, list[SentPacket]] = {}
        self._inflated: Counter[str] = Counter()
        """Bytes that each participant has inflated in turns, at most."""
        for sent in packets:
            if is_inflated_in_turns(sent):
                times = max(len(sent.arrived_at), 1)
                self._inflated[sent.destination_identity] += length_of(sent) * times
            if MALLORY not in (sent.sender_identity, sent.destination_identity):
                self._packets.setdefault(sent.request_id, []).append(sent)
            self._count(sent)
        self._cases = {
            call.request_id: self._case(engine, call) for engine in engines for call in engine.made
        }

    def judge(self) -> None:
        """Raises RuleBrokenError at the first thing that no rule allows."""
        for engine in self._engines:
            ends = ends_of(engine)
            for call in engine.made:
                try:
                    self._judge_call(self._cases[call.request_id], ends[call.request_id])
                except RuleBrokenError as error:
                    number = self._numbers[call.request_id]
                    raise RuleBrokenError(f"call {number}: {error}") from None
            self._judge_invocations(engine)

    def _case(self, engine: WatchedEngine, call: MadeCall) -> Case:
        packets = self._packets.get(call.request_id, [])
        ours = [p for p in packets if p.sender_identity == engine.identity]
        theirs = [p for p in packets if p.sender_identity == call.destination]
        return Case(engine, call, ours, theirs, self._patience(engine))

    def _patience(self, engine: WatchedEngine) -> float:
        """How long it may take until everything is inflated, by a mebibyte in each turn (R47)."""
        return TURN * (2 + 2 * self._inflated[engine.identity] // MAX_INFLATED)

    # calls

    def _judge_call(self, case: Case, end: End) -> None:
        call, (at, event) = case.call, end
        require(call.at <= at <= call.at + call.timeout, f"it ended at {at}")
        refusal = refusal_of(case)
        if refusal:
            is_refused = isinstance(event, CallFailed) and event.code == refusal
            require(is_refused and at == call.at, f"it should have failed at once with {refusal}")
            require(not case.ours, "it was refused, and sent something")
            self.reached[str(refusal)] += 1
            return
        judge_form(case)
        judge_dropped(case, end)
        unsent = [sent.sent_at for sent in case.ours if sent.fate is Fate.NOT_SENT]
        for what, latest in (
            ("its recipient", case.gone_at()),
            ("its answer", case.answered_at()),
            ("its request, which could not be sent", min(unsent, default=math.inf)),
        ):
            require(at <= latest, f"it outlived {what}, by {at - latest} seconds")
        if call.window < call.timeout and at > case.window_ends_at():
            signs = case.signs()
            require(signs and signs[0] <= case.window_ends_at(), "it outlived its ack window")
        if event is None:
            self.reached["cancelled"] += 1
        elif isinstance(event, CallSucceeded):
            self.reached["succeeded"] += 1
            require(event.payload == self._plans[call.request_id].reply, "not the handler's answer")
            require(call.method in self._methods, "an answer without a handler")
            require_arrival(case, at)
            self.reached["answered in grace"] += at > case.left_at()
            self.reached["answer inflated in turns"] += any(
                is_inflated_in_turns(part) for part in case.theirs
            )
        else:
            self.reached["handler's error" if event.code >= 2000 else str(event.code)] += 1
            require(
                event.code >= 2000 or event.message == MESSAGES[event.code],
                "not its code's message",
            )
            self._judge_failure(case, at, event, is_unsent=at in unsent)

    def _judge_failure(self, case: Case, at: float, event: CallFailed, *, is_unsent: bool) -> None:
        call = case.call
        if event.code in (1501, 1502):
            require(at < case.left_at(), f"{event.code} though the recipient had left (R9)")
        match event.code:
            case 1501:
                require(call.window < call.timeout, "1501, but there was no ack window")
                require(at == case.window_ends_at(), "1501, but not at the end of the ack window")
                require(not case.is_surely_acked(), "1501 in spite of an ack")
            case 1502:
                require(at == call.at + call.timeout, "1502, but not at the end of the timeout")
            case 1503:
                self._judge_departure(case, at)
            case 1505 if is_unsent:
                self.reached["1505 of the caller"] += 1
            case _:
                self._judge_answered_failure(case, at, event)

    def _judge_departure(self, case: Case, at: float) -> None:
        """1503: the grace is over, or before that a deadline of the call, or the connection is
        lost (R9)."""
        call = case.call
        if at in (case.gone_at(), case.lost_at()):
            self.reached["1503 after a grace"] += case.left_at() < at < case.lost_at()
            return
        require(case.left_at() <= at, "1503 while the recipient was there")
        deadlines = [call.at + call.timeout]
        if call.window < call.timeout and not case.is_surely_acked():
            deadlines.append(case.window_ends_at())
        require(at in deadlines, "1503 before the grace was over")
        self.reached["1503 at a deadline in grace"] += 1

    def _judge_answered_failure(self, case: Case, at: float, event: CallFailed) -> None:
        """A failure that the other told of, or that came of what it sent."""
        reply = self._plans[case.call.request_id].reply
        silence = case.engine.config.stream_idle_timeout
        is_idle = event.data == IDLE and case.is_answered_at(at, silence)
        if not is_idle:
            require_arrival(case, at)
        match event.code:
            case 1400:
                require(case.call.method not in self._methods, "1400 for a registered method")
            case 1504:
                require(isinstance(reply, str) and len(reply) * 4 > V1_LIMIT, "1504 for no reason")
            case 1505:
                unsent = any(sent.fate is Fate.NOT_SENT for sent in case.theirs)
                require(unsent, "1505 though everything was sent")
                self.reached["1505 of the responder"] += 1
            case 1500 if STREAM_FAULT.fullmatch(event.data):
                damaged = is_damaged(case.ours) or is_damaged(case.theirs)
                require(damaged, f"1500 though no stream was damaged: {event.data}")
                self.reached["1500 of a damaged stream"] += 1
            case _:
                given = None
                if isinstance(reply, RpcError):
                    given = reply.code, reply.message, reply.data or ""
                require((event.code, event.message, event.data) == given, f"{event}, but of whom?")

    # invocations

    def _judge_invocations(self, engine: WatchedEngine) -> None:
        received: dict[int, tuple[float, InvocationReceived]] = {}
        over: dict[int, tuple[float, AbandonReason]] = {}
        ran: set[tuple[str, str]] = set()
        for at, event in engine.events:
            if isinstance(event, InvocationReceived):
                received[event.invocation_id] = at, event
                key = event.caller_identity, event.request_id
                require(key not in ran, f"a handler of {engine.identity} ran twice for {key}")
                ran.add(key)
            elif isinstance(event, InvocationAbandoned):
                over[event.invocation_id] = at, event.reason
        for case in self._cases.values():
            if case.call.destination == engine.identity:
                key = case.engine.identity, case.call.request_id
                self._judge_request(engine, case, is_run=key in ran)
        for invocation_id, (at, event) in received.items():
            self._judge_invocation(engine, at, event, over.get(invocation_id))

    def _judge_request(self, engine: WatchedEngine, case: Case, *, is_run: bool) -> None:
        """A request that arrives is acked before all else (R14), and a whole one runs (R15)."""
        arrived = case.ours and engine.arrivals(case.ours[0])
        if not arrived or case.ours[0].kind not in REQUESTS:
            require(not is_run, "a handler ran for a request that did not arrive")
            return
        answers = [p for p in case.theirs if engine.began_at <= p.sent_at <= engine.ended_at]
        if self._has_room(engine):
            require(any(p.sent_at == arrived[0] for p in answers), "a request was not acked")
        kinds = [p.kind for p in answers]
        require(kinds[:1] in ([], [PacketKind.ACK]), "the ack was not the first")
        caller = case.engine.identity
        is_numbered = self._stamped and engine.introduced.get(caller, math.inf) <= arrived[0]
        if is_numbered and all(who != caller for _, who, _ in engine.departures):
            require(kinds.count(PacketKind.ACK) <= 1, "a packet was taken twice (R37)")
        if is_whole(engine, case, self._patience(engine)):
            self.reached["request inflated in turns"] += is_inflated_in_turns(case.ours[0])
            expected = case.call.method in self._methods
            require(is_run is expected, "a whole request, but its handler did not run")

    def _judge_invocation(
        self,
        engine: WatchedEngine,
        at: float,
        event: InvocationReceived,
        abandoned: tuple[float, AbandonReason] | None,
    ) -> None:
        case = self._cases[event.request_id]
        call = case.call
        require((event.method, event.payload) == (call.method, call.payload), "another's request")
        budget = round(max((call.timeout - engine.config.latency_allowance) * 1000, 1000)) / 1000
        require(event.response_timeout == budget, "not the caller's own figure (R5)")
        answers = engine.answers.get(event.invocation_id, [])
        accepted = [answer for answer in answers if answer.accepted]
        require(len(accepted) + (abandoned is not None) == 1, "an invocation ends once")
        is_mallorys = event.caller_identity == MALLORY
        if abandoned is None:
            self.reached["answered"] += 1
            ended_at = answers[0].at
            if not is_mallorys:
                self._judge_answer(engine, case, answers[0])
        else:
            ended_at, reason = abandoned
            self.reached[f"abandoned: {reason.value}"] += 1
            self._judge_abandoned(engine, event, case, budget, ended_at, reason)
        sid = "PA_mallory_1" if is_mallorys else case.ours[0].sender_sid
        for then, who, whose_sid in engine.departures:
            if (who, whose_sid) == (event.caller_identity, sid) and at < then:
                require(ended_at <= then, "an invocation outlived its caller (R19)")

    def _judge_abandoned(
        self,
        engine: WatchedEngine,
        event: InvocationReceived,
        case: Case,
        budget: float,
        at: float,
        reason: AbandonReason,
    ) -> None:
        for answer in engine.answers.get(event.invocation_id, []):
            require(answer.at >= at, "an answer was refused, and nobody had abandoned it")
        if reason is AbandonReason.CALLER_LEFT:
            sid = case.ours[0].sender_sid
            left = [t for t, *who in engine.departures if who == [event.caller_identity, sid]]
            require(at in left, "abandoned though the caller was there (R19)")
        elif reason is not AbandonReason.EXPIRED:
            require(at in engine.lost_at, "abandoned though the connection was there")
        elif event.caller_identity != MALLORY:
            lifetime = at - engine.arrivals(case.ours[0])[0]
            due = budget + engine.config.invocation_grace
            require(abs(lifetime - due) < 1e-5, f"it expired after {lifetime} seconds (R20)")

    def _judge_answer(self, engine: WatchedEngine, case: Case, answer: Answer) -> None:
        """An answer leaves, in the form that the caller reads (R17)."""
        kinds = (PacketKind.RESPONSE, PacketKind.ERROR, HEADER)
        theirs = [p for p in case.theirs if answer.at <= p.sent_at <= engine.ended_at]
        leaves = [p for p in theirs if p.kind in kinds]
        if self._has_room(engine):
            require(leaves and leaves[0].sent_at == answer.at, "an answer did not leave")
            if any(is_unsent_answer(sent) for sent in case.theirs):
                has_error = any(sent.kind is PacketKind.ERROR for sent in case.theirs)
                require(has_error, "a part of an answer was not sent, and nobody was told (R10)")
        if leaves and is_long([p for p in theirs if p.sent_at >= leaves[0].sent_at]):
            gone = [(case.engine.identity, case.ours[0].sender_sid)]
            left = [at for at, *who in engine.departures if tuple(who) in gone and at > answer.at]
            chunks = [p for p in case.theirs if p.kind is CHUNK]
            late = any(min(left, default=math.inf) < p.sent_at < engine.ended_at for p in chunks)
            require(not late, "chunks of an answer left for somebody who had left (R19)")
        reply = self._plans[case.call.request_id].reply
        if leaves and isinstance(reply, str):
            size = len(reply.encode())
            is_known = answer.known.sid == case.ours[0].sender_sid
            as_stream = case.ours[0].kind is HEADER or (
                size > V1_LIMIT and is_known and answer.known.client_protocol >= 1
            )
            kind = HEADER if as_stream else PacketKind.RESPONSE
            if size > (engine.config.max_payload_bytes if as_stream else V1_LIMIT):
                kind = PacketKind.ERROR
            require(leaves[0].kind is kind, f"an answer left as {leaves[0].kind}")

    def _has_room(self, engine: WatchedEngine) -> bool:
        """Whether what is made leaves at once."""
        return engine.identity not in self._slow

    # what was reached

    def _count(self, sent: SentPacket) -> None:
        reached = self.reached
        reached["packets"] += 1
        reached["lost"] += sent.fate is Fate.LOST
        reached["not sent"] += sent.fate is Fate.NOT_SENT
        reached["repeated"] += sent.is_repeated
        reached["held back"] += sent.is_held_back
        if sent.kind in (PacketKind.REQUEST, PacketKind.RESPONSE):
            reached[f"v1 {sent.kind.value}"] += 1
        message = message_of(sent) if sent.kind is HEADER else None
        if isinstance(message, StreamHeader):
            form = "in chunks" if message.inline_content is None else "inline"
            reached[f"{form}, compressed" if message.compression else form] += 1


def ends_of(engine: WatchedEngine) -> dict[str, End]:
    """How each call ended: exactly once (R1)."""
    ends: dict[str, End] = {}
    acked: set[str] = set()
    found = [(request_id, End(at, None)) for at, request_id in engine.cancelled]
    for at, event in engine.events:
        if isinstance(event, CallSucceeded | CallFailed):
            found.append((event.request_id, End(at, event)))
        elif isinstance(event, CallAcknowledged):
            ended = {request_id for request_id, end in found if end.event or end.at < at}
            require(event.request_id not in acked | ended, "acknowledged twice, or after its end")
            acked.add(event.request_id)
    for request_id, end in found:
        require(request_id not in ends, f"a call ended twice: {ends.get(request_id)}, {end}")
        ends[request_id] = end
    made = {call.request_id for call in engine.made}
    require(
        ends.keys() == made, f"calls without an end, or ends without a call: {made ^ ends.keys()}"
    )
    return ends


def refusal_of(case: Case) -> int:
    """The code with which a call fails before anything is sent (R1), or 0."""
    call, engine = case.call, case.engine
    if call.destination == engine.identity or (call.list_is_complete and call.known is None):
        return 1401
    is_v2 = (call.known or NOBODY).client_protocol >= 1
    limit = engine.config.max_payload_bytes if is_v2 else V1_LIMIT
    return 1402 if len(call.payload.encode()) > limit else 0


def judge_form(case: Case) -> None:
    """A request has a form that the recipient has announced to read (A4, A5)."""
    known = case.call.known or NOBODY
    if case.ours:
        is_stream = case.ours[0].kind is HEADER
        require(
            is_stream is (known.client_protocol >= 1), "stream or packet, against what was said"
        )
        message = message_of(case.ours[0])
        if isinstance(message, StreamHeader):
            is_inline = message.inline_content is not None
            require(not is_inline or known.client_protocol >= 2, "inline was not announced")
            require(not message.compression or 2 in known.capabilities, "deflate was not announced")


def judge_dropped(case: Case, end: End) -> None:
    """Of a long request, nothing but a notice leaves after the end of its call (R38)."""
    if is_long(case.ours):
        late = any(p.kind is CHUNK and p.sent_at > end.at for p in case.ours)
        require(not late, "chunks of a call that had ended left")
        has_ended = isinstance(message_of(case.ours[-1]), StreamTrailer)
        is_unsent = isinstance(end.event, CallFailed) and end.event.code == 1505
        is_over = is_unsent or case.gone_at() < math.inf
        require(has_ended or is_over, "a request stream was left without an end")


def is_long(packets: list[SentPacket]) -> bool:
    """Whether this is a stream that is made while it leaves, not one of a single chunk (R30)."""
    header = message_of(packets[0]) if packets else None
    if not isinstance(header, StreamHeader) or header.inline_content is not None:
        return False
    if header.compression:
        return sum(sent.kind is CHUNK for sent in packets) > 1
    return (header.total_length or 0) > 15_000


def require_arrival(case: Case, at: float) -> None:
    require(case.is_answered_at(at), "it ended by an answer that did not arrive")


def is_inflated_in_turns(sent: SentPacket) -> bool:
    """Whether this begins a body that takes more than one input to inflate (R47)."""
    message = message_of(sent) if sent.kind is HEADER else None
    return (
        isinstance(message, StreamHeader)
        and message.compression > 0
        and (message.total_length or 0) > MAX_INFLATED
    )


def length_of(sent: SentPacket) -> int:
    message = message_of(sent)
    assert isinstance(message, StreamHeader)
    return message.total_length or 0


def is_whole(engine: WatchedEngine, case: Case, patience: float) -> bool:
    """Whether a request surely got to this engine as it was sent, and was read."""
    header = message_of(case.ours[0])
    if not isinstance(header, StreamHeader):
        return True
    takes_turns = is_inflated_in_turns(case.ours[0])
    if header.inline_content is not None and not takes_turns:
        return True
    arrivals = [engine.arrivals(sent) for sent in case.ours]
    last = message_of(case.ours[-1])
    if is_damaged(case.ours) or not all(arrivals):
        return False
    if header.inline_content is None and (not isinstance(last, StreamTrailer) or last.reason):
        return False
    first_arrivals = [at for at, *_ in arrivals]
    if first_arrivals != sorted(first_arrivals):
        return False
    began, ended = first_arrivals[0], first_arrivals[-1] + patience * takes_turns
    departures = [t for t, who, _ in engine.departures if who == case.engine.identity]
    return not any(began <= t <= ended for t in (*departures, *engine.lost_at))


def is_unsent_answer(sent: SentPacket) -> bool:
    """Whether a part of an answer could not be sent, other than the notice that it was dropped."""
    if sent.fate is not Fate.NOT_SENT or sent.kind in (PacketKind.ACK, PacketKind.ERROR):
        return False
    message = message_of(sent)
    return not (isinstance(message, StreamTrailer) and message.reason)


def is_damaged(packets: Iterable[SentPacket]) -> bool:
    """Whether a stream was not sent to its end, or not carried whole and in order."""
    parts = [sent for sent in packets if sent.kind in STREAM_KINDS]
    header = message_of(parts[0]) if parts else None
    is_chunked = isinstance(header, StreamHeader) and header.inline_content is None
    is_cut_off = is_chunked and not isinstance(message_of(parts[-1]), StreamTrailer)
    return is_cut_off or any(p.fate is not Fate.CARRIED or p.is_held_back for p in parts)


def message_of(sent: SentPacket) -> Message:
    return _message(sent.data)


@lru_cache
def _message(data: bytes) -> Message:
    decoded = wire.decode(data)
    assert decoded is not None
    if not isinstance(decoded.message, Sealed):
        return decoded.message
    opened = toy().open(decoded.sender_identity, *decoded.message)
    assert isinstance(opened, bytes)
    message = wire.decode_payload(opened)
    assert message is not None
    return message
