"""Packets of official clients, as the server passed them on, drive the engine (RPC v1)."""

import pytest
from helpers import MESSAGES, Participant, error, sent_message
from official_packets import VECTORS, Vector

from rpcproto import CallAcknowledged, CallFailed, CallSucceeded, InvocationReceived
from rpcproto.wire import Ack, Response


def rows(kind: str) -> list[Vector]:
    return [vector for vector in VECTORS if kind in vector.decoded]


def named(vector: Vector) -> str:
    return f"{vector.line}-{vector.name}"


def us(vector: Vector, announced: bool) -> Participant:
    """The participant that the packet was for; its call has the id that the packet names."""
    participant = Participant(vector.to[0], methods=["m"], new_id=lambda: vector.answered_id)
    if announced:
        participant.joined(vector.sender, vector.sid)
    return participant


each_announced = pytest.mark.parametrize("announced", [False, True])


@each_announced
@pytest.mark.parametrize("vector", rows("rpc_request"), ids=named)
def test_a_request_gets_our_ack_and_our_response(vector: Vector, announced: bool) -> None:
    participant = us(vector, announced)
    participant.receive(vector.forwarded)
    sent = vector.decoded["rpc_request"]
    invocation = participant.invocation()
    assert invocation == InvocationReceived(
        invocation.invocation_id,
        sent["id"],
        vector.sender,
        sent["method"],
        sent["payload"],
        sent["response_timeout_ms"] / 1000,
    )
    assert participant.respond(invocation.invocation_id, "our answer")
    packets = participant.packets()
    assert {packet.destination_identity for packet in packets} == {vector.sender}
    answers = [sent_message(packet) for packet in packets]
    assert answers == [Ack(sent["id"]), Response(sent["id"], "our answer")]
    participant.receive(vector.forwarded)
    assert participant.events() == []


@each_announced
@pytest.mark.parametrize("vector", rows("rpc_request"), ids=named)
def test_a_request_for_another_method_gets_our_ack_and_our_error(
    vector: Vector, announced: bool
) -> None:
    participant = us(vector, announced)
    participant.engine.unregister_method("m")
    participant.receive(vector.forwarded)
    request_id = vector.decoded["rpc_request"]["id"]
    assert participant.sent() == [Ack(request_id), error(request_id, 1400)]


@each_announced
@pytest.mark.parametrize("vector", rows("rpc_ack"), ids=named)
def test_an_ack_acknowledges_our_call(vector: Vector, announced: bool) -> None:
    participant = us(vector, announced)
    call = participant.call(vector.sender)
    participant.receive(vector.forwarded)
    assert participant.events() == [CallAcknowledged(call)]
    participant.receive(Response(call, "done"), vector.sender, sid=vector.sid)
    assert participant.events() == [CallSucceeded(call, "done")]


@each_announced
@pytest.mark.parametrize("vector", rows("rpc_response"), ids=named)
def test_a_response_or_an_error_completes_our_call(vector: Vector, announced: bool) -> None:
    participant = us(vector, announced)
    call = participant.call(vector.sender)
    participant.receive(vector.forwarded)
    response = vector.decoded["rpc_response"]
    if "error" in response:
        failure = response["error"]
        expected = CallFailed(call, failure["code"], failure["message"], failure.get("data", ""))
        assert participant.events() == [expected]
        assert failure["message"] == MESSAGES.get(failure["code"], failure["message"])
    else:
        assert participant.events() == [CallSucceeded(call, response["payload"])]


def test_an_ack_and_a_response_of_one_call_complete_it() -> None:
    [ack] = [v for v in rows("rpc_ack") if v.name == "callee v1 rpc_ack"]
    [response] = [v for v in rows("rpc_response") if v.name == "callee v1 rpc_response"]
    participant = us(ack, announced=True)
    call = participant.call(ack.sender)
    participant.receive(ack.forwarded)
    participant.receive(response.forwarded)
    assert participant.events() == [CallAcknowledged(call), CallSucceeded(call, "hello")]
    participant.receive(response.forwarded)
    assert participant.events() == []


def test_all_v1_rows_are_here() -> None:
    assert [len(rows(kind)) for kind in ("rpc_request", "rpc_ack", "rpc_response")] == [2, 3, 9]
