"""Every cell of the two state tables, driven through the engine's door.

A new state or input needs a driver here: without one its cells fail.
"""

from collections.abc import Callable
from itertools import product

import pytest
from helpers import START, Participant, error, raw_packet, request

from rpcproto import (
    AbandonReason,
    CallAcknowledged,
    CallFailed,
    CallSucceeded,
    InvocationAbandoned,
    InvocationReceived,
    PacketIgnored,
)
from rpcproto.core.states import (
    CALL_TABLE,
    INVOCATION_TABLE,
    CallInput,
    CallState,
    InvocationInput,
    InvocationState,
)
from rpcproto.wire import Ack, Response


def header(topic: str, request_id: str, stream_id: str = "s1", **more: object) -> bytes:
    """The header of a text stream from bob."""
    attributes = {
        "lk.rpc_request_id": request_id,
        "lk.rpc_request_method": "greet",
        "lk.rpc_request_version": "2",
        "lk.rpc_request_response_timeout_ms": "1000",
    }
    fields = {"stream_id": stream_id, "topic": topic, "attributes": attributes, "text_header": {}}
    return raw_packet(stream_header={**fields, **more})


def chunk(index: int, content: bytes = b"hi") -> bytes:
    return raw_packet(stream_chunk={"stream_id": "s1", "chunk_index": index, "content": content})


TRAILER = raw_packet(stream_trailer={"stream_id": "s1"})

# --- calls


class OneCall:
    """Alice, who calls bob once."""

    def __init__(self) -> None:
        self.alice = Participant()
        self.id = self.alice.call()
        [self.request] = self.alice.packets()

    def response_header(self, stream_id: str = "s1", **more: object) -> None:
        self.alice.receive(header("lk.rpc_response", self.id, stream_id, **more))

    def response_fails(self) -> None:
        """A chunk is missing, or the header is no header of a text."""
        if self.alice.statistics.open_streams_in:
            self.alice.receive(chunk(5))
        else:
            self.response_header(compression=7)

    def state(self) -> CallState:
        """The state, as far as it shows outside."""
        if self.alice.statistics.pending_calls == 0:
            return CallState.ENDED
        if self.alice.statistics.open_streams_in:
            return CallState.READING
        return CallState.SENT if self.alice.next_deadline == START + 7 else CallState.ACKNOWLEDGED


TO_CALL_STATE: dict[CallState, Callable[[OneCall], object]] = {
    CallState.SENT: lambda call: None,
    CallState.ACKNOWLEDGED: lambda call: call.alice.receive(Ack(call.id)),
    CallState.READING: lambda call: call.response_header(),
    CallState.ENDED: lambda call: call.alice.receive(Response(call.id, "first")),
}
CALL_INPUTS: dict[CallInput, Callable[[OneCall], object]] = {
    CallInput.ACK: lambda call: call.alice.receive(Ack(call.id)),
    CallInput.RESPONSE: lambda call: call.alice.receive(Response(call.id, "x")),
    CallInput.RESPONSE_HEADER: lambda call: call.response_header("s2"),
    CallInput.RESPONSE_FAILED: OneCall.response_fails,
    CallInput.DEADLINE: lambda call: call.alice.time_is(call.alice.next_deadline or START + 99),
    CallInput.CANCEL: lambda call: call.alice.cancel(call.id),
    CallInput.SEND_FAILED: lambda call: call.alice.send_failed(call.request),
    CallInput.RECIPIENT_LEFT: lambda call: call.alice.left("bob"),
}
CALL_FAILURES = {
    CallInput.RESPONSE_FAILED: 1500,
    CallInput.DEADLINE: 1502,
    CallInput.SEND_FAILED: 1505,
    CallInput.RECIPIENT_LEFT: 1503,
}


def test_every_call_state_shows_outside() -> None:
    for state, lead_to in TO_CALL_STATE.items():
        call = OneCall()
        lead_to(call)
        assert call.state() is state


@pytest.mark.parametrize(
    ("state", "input_"), list(product(CallState, CallInput)), ids=lambda each: each.name
)
def test_a_call(state: CallState, input_: CallInput) -> None:
    call = OneCall()
    TO_CALL_STATE[state](call)
    call.alice.events()
    result = CALL_INPUTS[input_](call)
    after = CALL_TABLE[state].get(input_, state)
    assert call.state() is after
    events = [e for e in call.alice.events() if not isinstance(e, PacketIgnored)]
    if input_ not in CALL_TABLE[state]:
        assert events == []
        assert result in (None, False)
        return
    if after is not CallState.ENDED:
        assert events == ([CallAcknowledged(call.id)] if state is CallState.SENT else [])
    elif input_ is CallInput.CANCEL:
        assert (events, result) == ([], True)
    elif input_ is CallInput.RESPONSE:
        assert events == [CallSucceeded(call.id, "x")]
    else:
        [failed] = events
        assert isinstance(failed, CallFailed)
        unheard = state is CallState.SENT and input_ is CallInput.DEADLINE
        assert failed.code == (1501 if unheard else CALL_FAILURES[input_])
    # Ended is ended: nothing of the call is left.
    if after is CallState.ENDED:
        assert call.alice.next_deadline is None
        assert call.alice.statistics.open_streams_in == 0
        assert call.alice.statistics.buffered_bytes == 0


# --- invocations


class OneInvocation:
    """Alice, whom bob asks once, by packet or by stream."""

    def __init__(self) -> None:
        self.alice = Participant()
        self.id = 0

    def asked(self, packet: bytes | None = None) -> None:
        self.alice.receive(packet or request("r1", response_timeout_ms=1_000))
        for event in self.alice.events():
            if isinstance(event, InvocationReceived):
                self.id = event.invocation_id

    def asked_and_answered(self) -> None:
        self.asked()
        self.alice.respond(self.id)

    def body(self) -> None:
        self.alice.receive(chunk(0))
        self.alice.receive(TRAILER)

    def answered(self) -> bool:
        """While the host knows no id, none that it might guess is good."""
        ids = [self.id] if self.id else range(-1, 20)
        return {self.alice.respond(number, "x") for number in ids} == {True}

    def state(self) -> InvocationState:
        if self.alice.statistics.running_invocations == 0:
            return InvocationState.ENDED
        if self.alice.statistics.open_streams_in:
            return InvocationState.READING
        return InvocationState.RUNNING


TO_INVOCATION_STATE: dict[InvocationState, Callable[[OneInvocation], object]] = {
    InvocationState.READING: lambda asked: asked.asked(header("lk.rpc_request", "r1")),
    InvocationState.RUNNING: lambda asked: asked.asked(),
    InvocationState.ENDED: lambda asked: asked.asked_and_answered(),
}
INVOCATION_INPUTS: dict[InvocationInput, Callable[[OneInvocation], object]] = {
    InvocationInput.BODY: lambda asked: asked.body(),
    InvocationInput.REFUSAL: lambda asked: asked.alice.receive(chunk(5)),
    InvocationInput.ANSWER: lambda asked: asked.answered(),
    InvocationInput.DEADLINE: lambda asked: asked.alice.time_is(
        asked.alice.next_deadline or START + 99
    ),
    InvocationInput.CALLER_LEFT: lambda asked: asked.alice.left("bob"),
}


def test_every_invocation_state_shows_outside() -> None:
    for state, lead_to in TO_INVOCATION_STATE.items():
        asked = OneInvocation()
        lead_to(asked)
        assert asked.state() is state


@pytest.mark.parametrize(
    ("state", "input_"), list(product(InvocationState, InvocationInput)), ids=lambda each: each.name
)
def test_an_invocation(state: InvocationState, input_: InvocationInput) -> None:
    asked = OneInvocation()
    TO_INVOCATION_STATE[state](asked)
    alice = asked.alice
    alice.packets()
    result = INVOCATION_INPUTS[input_](asked)
    after = INVOCATION_TABLE[state].get(input_, state)
    assert asked.state() is after
    events = [e for e in alice.events() if not isinstance(e, PacketIgnored)]
    sent = alice.sent()
    if input_ not in INVOCATION_TABLE[state]:
        assert (events, sent) == ([], [])
        assert result in (None, False)
    elif input_ is InvocationInput.BODY:
        [received] = events
        assert isinstance(received, InvocationReceived)
        assert (received.payload, sent) == ("hi", [])
    elif input_ is InvocationInput.REFUSAL:
        [refusal] = sent
        assert refusal[:2] == error("r1", 1500)[:2]
        assert events == []
    elif input_ is InvocationInput.ANSWER:
        assert (events, sent, result) == ([], [Response("r1", "x")], True)
    else:
        # The host is told only of what it knew of; the caller is told nothing.
        expired = input_ is InvocationInput.DEADLINE
        reason = AbandonReason.EXPIRED if expired else AbandonReason.CALLER_LEFT
        told = [InvocationAbandoned(asked.id, reason)] if state is InvocationState.RUNNING else []
        assert (events, sent) == (told, [])
    if after is InvocationState.ENDED:
        assert alice.next_deadline is None
        assert alice.statistics.open_streams_in == 0
        assert alice.statistics.buffered_bytes == 0


# --- the tables themselves


def test_the_tables_are_whole_and_nothing_leaves_the_last_state() -> None:
    assert set(CALL_TABLE) == set(CallState)
    assert set(INVOCATION_TABLE) == set(InvocationState)
    assert CALL_TABLE[CallState.ENDED] == {}
    assert INVOCATION_TABLE[InvocationState.ENDED] == {}


def test_everything_that_ends_a_call_ends_it_in_every_state() -> None:
    ends = {
        input_ for row in CALL_TABLE.values() for input_, to in row.items() if to.name == "ENDED"
    }
    assert ends == set(CallInput) - {CallInput.ACK, CallInput.RESPONSE_HEADER}
    for state in set(CallState) - {CallState.ENDED}:
        assert all(CALL_TABLE[state][input_] is CallState.ENDED for input_ in ends)
