"""One participant of the search: a real engine, its host, and the host's own account of it all.

The account is kept from what the host did and was told, never from what the engine says of itself.
Against it every result of the engine is checked, and every state that the engine comes into.
"""

from collections.abc import Callable, Iterator

from search_account import (
    HANDLER_ERROR,
    PROBES,
    Asked,
    Call,
    Ids,
    Letter,
    Move,
    SameIv,
    ViolationError,
    answer_to,
    forged_answers,
    sid_of,
)
from search_form import form, thaw

from rpcproto import (
    CallAcknowledged,
    CallFailed,
    CallSucceeded,
    Event,
    InvocationAbandoned,
    InvocationReceived,
    OutgoingPacket,
    PacketIgnored,
    PacketKind,
    RpcConfig,
    RpcEngine,
    wire,
)
from rpcproto.wire import REQUEST_TOPIC, OutgoingMessage, Request, StreamHeader

NO_STAMP = 1e300
"""Such a distance to Unix time stamps all streams alike; nobody reads the stamp (R27)."""


class Member:
    """An engine and its host."""

    def __init__(
        self,
        identity: str,
        peer: str,
        payloads: tuple[str, ...],
        protocol: int,
        grace: float,
        sealed: bool = False,
    ) -> None:
        self.identity = identity
        self.peer = peer
        self.payloads = payloads
        """Of the calls that are still to be made."""
        self.protocol = protocol
        self.grace = grace
        """Seconds for which a call can be answered after its recipient left (R9)."""
        self.now = 0.0
        self.session = 1
        self.peer_session = 0
        """The session of the peer that was announced, 0 while none is."""
        self.calls: dict[str, Call] = {}
        self.asked: dict[str, Asked] = {}
        self.engine = RpcEngine(
            identity,
            new_id=Ids(identity[0]),
            unix_time_offset=NO_STAMP,
            config=RpcConfig(departure_grace=grace),
            cryptor=SameIv() if sealed else None,
        )
        self.engine.register_method("greet")
        self.play(Move("joined", 1))

    # what can happen next

    def moves(self) -> Iterator[Move]:
        """Everything that can happen to this participant by itself."""
        if self.payloads:
            yield Move("call", self.payloads[0])
        for request_id, call in self.calls.items():
            if call.started is not None:
                yield Move("cancel", request_id, trouble=1)
        for request_id, asked in self.asked.items():
            if asked.started is not None and asked.invocation_id:
                yield Move("answer", request_id)
                yield Move("refuse", request_id, trouble=1)
        if self.is_due:
            yield Move("deadline")

    @property
    def is_due(self) -> bool:
        return self.deadline is not None and self.deadline <= self.now

    @property
    def deadline(self) -> float | None:
        """When the next deadline is, by the host's own account (L8)."""
        of_calls = [call.deadline for call in self.calls.values()]
        of_requests = [asked.deadline for asked in self.asked.values()]
        return min((at for at in of_calls + of_requests if at is not None), default=None)

    # moves

    def play(self, move: Move) -> list[Letter]:
        """Let it happen; returns what is sent. Raises ViolationError."""
        try:
            return self._play(move)
        except ViolationError as violation:
            raise ViolationError(violation.text, move) from None

    def _play(self, move: Move) -> list[Letter]:
        old_session = self.peer_session
        pending = self._answered_by(move)
        getattr(self, f"_{move.what}")(move.about)
        events = self.engine.take_events()
        packets = list(iter(self.engine.next_packet, None))
        if move.what in PROBES and (packets or any(type(e) is not PacketIgnored for e in events)):
            raise ViolationError(f"it must change nothing, but has an effect ({PROBES[move.what]})")
        for event in events:
            self._learn(event, move)
        for packet in packets:
            self._check_packet(packet)
        if pending is not None:
            self._check_answer(pending, move)
        self._check_departure(old_session, everyone=move.what == "reconnected")
        if self.engine.next_deadline != self.deadline:
            raise ViolationError(
                f"the next deadline is {self._ahead(self.engine.next_deadline)},"
                f" and should be {self._ahead(self.deadline)} (L8)"
            )
        sid = sid_of(self.identity, self.session)
        return [Letter(self.identity, sid, packet._replace(token=0)) for packet in packets]

    def _ahead(self, deadline: float | None) -> str:
        return "none" if deadline is None else f"in {deadline - self.now:g} s"

    def _check_departure(self, old_session: int, everyone: bool) -> None:
        """Whatever was open toward a session that is over has ended at once, but for calls that
        have a grace."""
        if not everyone and old_session in (0, self.peer_session):
            return
        has_ended = everyone or not self.grace
        if has_ended and any(call.started is not None for call in self.calls.values()):
            raise ViolationError("a call outlives the session of its recipient (R9)")
        old_sid = sid_of(self.peer, old_session)
        for asked in self.asked.values():
            if asked.started is not None and (everyone or asked.sid == old_sid):
                raise ViolationError("an invocation outlives the session of its caller (R19)")

    def _call(self, payload: str) -> None:
        call = Call(payload, sid_of(self.peer, self.peer_session), self.now, self.grace)
        self.payloads = self.payloads[1:]
        request_id = self.engine.call(self.peer, "greet", payload, now=self.now)
        self.calls[request_id] = call

    def _cancel(self, request_id: str) -> None:
        if not self.engine.cancel(request_id, now=self.now):
            raise ViolationError("cancel returned False for a pending call (L4)")
        self.calls[request_id].end()

    def _answer(self, request_id: str) -> None:
        asked = self.asked[request_id]
        if not self.engine.respond(asked.invocation_id, answer_to(asked.payload), now=self.now):
            raise ViolationError("respond returned False for a running invocation")
        asked.started = None

    def _refuse(self, request_id: str) -> None:
        asked = self.asked[request_id]
        if not self.engine.respond_error(asked.invocation_id, HANDLER_ERROR, "no", now=self.now):
            raise ViolationError("respond_error returned False for a running invocation")
        asked.started = None

    def _reconnected(self, peer_session: int) -> None:
        """The connection was lost and is there again, in a new session."""
        self.engine.disconnected(now=self.now)
        self.session += 1
        self.peer_session = 0
        self._half_read_ends(lambda asked: True)
        self.engine.connected(now=self.now)
        self._joined(peer_session)

    def _joined(self, session: int) -> None:
        old_sid, sid = sid_of(self.peer, self.peer_session), sid_of(self.peer, session)
        self.engine.participant_joined(
            self.peer, now=self.now, participant_sid=sid, client_protocol=self.protocol
        )
        self.peer_session = session
        if old_sid:
            self._half_read_ends(lambda asked: asked.sid == old_sid)
            self._recipient_leaves()
        for call in self.calls.values():
            if call.left_at is None:
                call.peer_sid = call.peer_sid or sid

    def _left(self, session: int) -> None:
        sid = sid_of(self.peer, session)
        self.engine.participant_left(self.peer, now=self.now, participant_sid=sid)
        self.peer_session = 0
        self._half_read_ends(lambda asked: asked.sid == sid)
        self._recipient_leaves()

    def _recipient_leaves(self) -> None:
        for call in self.calls.values():
            if call.started is not None and call.left_at is None:
                call.left_at = self.now

    def _half_read_ends(self, is_over: Callable[[Asked], bool]) -> None:
        """Requests that the host was not told of are over without a word."""
        for asked in self.asked.values():
            if not asked.invocation_id and is_over(asked):
                asked.started = None

    def _pass(self, seconds: float) -> None:
        self.now += seconds

    def _deadline(self, _: object) -> None:
        self.engine.handle_deadline(now=self.now)
        next_deadline = self.engine.next_deadline
        if next_deadline is not None and next_deadline <= self.now:
            raise ViolationError("a deadline that was handled is still the next one (L7)")
        self._half_read_ends(
            lambda asked: asked.deadline is not None and asked.deadline <= self.now
        )

    def _receive(self, letter: Letter) -> None:
        self._note_request(letter)
        self.engine.receive_packet(letter.data, now=self.now)

    def _note_request(self, letter: Letter) -> None:
        """A request counts from its first packet on."""
        message, request_id = letter.message, letter.packet.request_id
        is_request = isinstance(message, Request) or (
            isinstance(message, StreamHeader) and message.topic == REQUEST_TOPIC
        )
        if is_request and request_id not in self.asked:
            self.asked[request_id] = Asked(letter.sid, self.now)

    # what comes of them

    def _learn(self, event: Event, move: Move) -> None:
        match event:
            case CallAcknowledged(request_id):
                call = self._pending(request_id, move)
                if call.is_acknowledged:
                    raise ViolationError("a call is acknowledged again (R4)")
                call.is_acknowledged = True
            case CallSucceeded(request_id, payload):
                call = self._pending(request_id, move)
                if payload != answer_to(call.payload):
                    raise ViolationError(f"{call.payload!r} is answered by {payload!r} (R6)")
                call.end()
            case CallFailed(request_id, code):
                call = self._pending(request_id, move)
                if code not in self._expected_codes(call, move):
                    raise ViolationError(f"a call fails with {code}")
                call.end()
            case InvocationReceived():
                self._learn_invocation(event)
            case InvocationAbandoned(invocation_id, _):
                self._running(invocation_id).started = None
            case PacketIgnored():
                pass

    def _pending(self, request_id: str, move: Move) -> Call:
        call = self.calls[request_id]
        if call.started is None:
            raise ViolationError("a call that has ended ends again, or is acknowledged (L4)")
        if isinstance(move.about, Letter) and not call.counts_from(move.about.sid):
            raise ViolationError("an answer counts from a session that was not called (R7)")
        return call

    def _expected_codes(self, call: Call, move: Move) -> tuple[int, ...]:
        if move.what == "deadline":
            assert call.deadline is not None
            if self.now < call.deadline:
                return ()
            if call.left_at is not None:
                return (1503,)
            return (1502,) if call.is_acknowledged else (1501,)
        if move.what == "receive":
            return (HANDLER_ERROR, 1500) if self.protocol else (HANDLER_ERROR,)
        if move.what in ("joined", "left") and not self.grace:
            return (1503,)
        return (1503,) if move.what == "reconnected" else ()

    def _answered_by(self, move: Move) -> Call | None:
        """The pending call that a letter is about."""
        if move.what != "receive":
            return None
        assert isinstance(move.about, Letter)
        call = self.calls.get(move.about.packet.request_id)
        return None if call is None or call.started is None else call

    def _check_answer(self, call: Call, move: Move) -> None:
        """A letter about a call that was pending has its effect, if it is from the session that was
        called."""
        assert isinstance(move.about, Letter)
        _, sid, packet = move.about
        if call.started is None or not call.counts_from(sid):
            return
        if packet.kind in (PacketKind.RESPONSE, PacketKind.ERROR):
            raise ViolationError("an answer of the session that was called is ignored (R6)")
        has_sign = packet.kind in (PacketKind.ACK, PacketKind.STREAM_HEADER)
        if has_sign and not call.is_acknowledged:
            raise ViolationError("an ack of the session that was called is ignored (R4)")

    def _learn_invocation(self, event: InvocationReceived) -> None:
        asked = self.asked[event.request_id]
        if asked.invocation_id:
            raise ViolationError("a handler runs again for the same request (R16)")
        asked.invocation_id = event.invocation_id
        asked.payload = event.payload

    def _running(self, invocation_id: int) -> Asked:
        for asked in self.asked.values():
            if asked.invocation_id == invocation_id and asked.started is not None:
                return asked
        raise ViolationError("an invocation that is over is abandoned")

    def _check_packet(self, packet: OutgoingPacket) -> None:
        asked = self.asked.get(packet.request_id)
        if asked is None:
            return
        if packet.kind is PacketKind.ACK:
            asked.is_acknowledged = True
        elif not asked.is_acknowledged:
            raise ViolationError(f"the {packet.kind.value} leaves before the first ack (L15)")
        if packet.kind is PacketKind.ERROR:
            asked.started = None

    # what must change nothing

    def _probe(self, before: bytes, frozen: bytes) -> None:
        """Try what must change nothing, and see that it does not. Raises ViolationError."""
        moves = list(self._probes())
        for move in moves:
            self.play(move)
        if self.form() != before:
            for move in moves:
                thaw(Member, frozen).try_out(move)

    def try_out(self, move: Move) -> None:
        """Play what must change nothing, and see whether this one does. Raises ViolationError."""
        before = self.form()
        self.play(move)
        if self.form() != before:
            why = f"it must change nothing, but leaves a trace ({PROBES[move.what]})"
            raise ViolationError(why, move)

    def _probes(self) -> Iterator[Move]:
        if not self.is_due:
            yield Move("early_deadline")
        for request_id, call in self.calls.items():
            if call.started is None:
                yield Move("late_cancel", request_id)
            for message in forged_answers(request_id):
                yield Move("forged", self._forgery(message, "carol", "PA_carol"))
                for sid in self._sids_of_others(call):
                    yield Move("forged", self._forgery(message, self.peer, sid))
        for asked in self.asked.values():
            if asked.started is None and asked.invocation_id:
                yield Move("late_answer", asked.invocation_id)

    def _sids_of_others(self, call: Call) -> Iterator[str]:
        """Sids under which its recipient cannot answer a call."""
        if call.peer_sid:
            yield "PA_other"
        if call.left_at is not None and self.peer_session:  # it is back, and called no more
            yield sid_of(self.peer, self.peer_session)
            yield ""

    def _forgery(self, message: OutgoingMessage, sender: str, sid: str) -> Letter:
        data = wire.encode(message, sender, self.identity)
        return Letter(sender, sid, OutgoingPacket(data, self.identity, "", PacketKind.RESPONSE, 0))

    def _early_deadline(self, _: object) -> None:
        self.engine.handle_deadline(now=self.now)

    def _late_cancel(self, request_id: str) -> None:
        if self.engine.cancel(request_id, now=self.now):
            raise ViolationError("cancel returned True for a call that has ended (L4)")

    def _forged(self, letter: Letter) -> None:
        self.engine.receive_packet(letter.data, now=self.now)

    def _late_answer(self, invocation_id: int) -> None:
        if self.engine.respond(invocation_id, "late", now=self.now):
            raise ViolationError("respond returned True for an invocation that is over")

    def form(self) -> bytes:
        return form(self, self.now)

    def check(self, form: bytes, frozen: bytes) -> None:
        """This state, of which form and copy are given, must be in order. Spoils this member.
        Raises ViolationError."""
        if self.deadline is None:
            self._check_rest()
        self._probe(form, frozen)

    def _check_rest(self) -> None:
        """Nothing is open by our own account: nothing may be left (L17)."""
        now = self.engine.statistics()
        left = (
            now.pending_calls, now.running_invocations, now.open_streams_in, now.open_streams_out,
            now.waiting_packets, now.waiting_bytes, now.buffered_bytes,
        )  # fmt: skip
        if any(left):
            raise ViolationError(f"something is left at the end: {now} (L17)")
