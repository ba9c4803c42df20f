"""F, the floor: what protobuf alone costs in one call.

Three packets are built, serialized, parsed and read, the way everyone writes it: nested keywords,
and every field that a packet carries is looked at.
"""

from rpcproto.core.packets_pb2 import DataPacket, RpcAck, RpcRequest, RpcResponse

REQUEST_ID = "c1728bb9-2b75-45d7-8c06-85f478722f6d"
PAYLOAD = "x" * 100


def floor(calls: int) -> None:
    """The six protobuf operations of a call, so many times."""
    for _ in range(calls):
        read_request(request())
        read_ack(ack())
        read_response(response())


def request() -> bytes:
    """A request packet."""
    return DataPacket(
        participant_identity="alice",
        destination_identities=["bob"],
        rpc_request=RpcRequest(
            id=REQUEST_ID, method="echo", payload=PAYLOAD, response_timeout_ms=8000, version=1
        ),
    ).SerializeToString()


def ack() -> bytes:
    """An ack packet."""
    return DataPacket(
        participant_identity="bob",
        destination_identities=["alice"],
        rpc_ack=RpcAck(request_id=REQUEST_ID),
    ).SerializeToString()


def response() -> bytes:
    """A response packet."""
    return DataPacket(
        participant_identity="bob",
        destination_identities=["alice"],
        rpc_response=RpcResponse(request_id=REQUEST_ID, payload=PAYLOAD),
    ).SerializeToString()


def read_request(data: bytes) -> object:
    """Everything in a request packet."""
    packet = DataPacket.FromString(data)
    assert packet.WhichOneof("value") == "rpc_request"
    message = packet.rpc_request
    return (
        packet.participant_identity,
        packet.participant_sid,
        list(packet.destination_identities),
        message.id,
        message.method,
        message.payload,
        message.response_timeout_ms,
        message.version,
    )


def read_ack(data: bytes) -> object:
    """Everything in an ack packet."""
    packet = DataPacket.FromString(data)
    assert packet.WhichOneof("value") == "rpc_ack"
    return (
        packet.participant_identity,
        packet.participant_sid,
        list(packet.destination_identities),
        packet.rpc_ack.request_id,
    )


def read_response(data: bytes) -> object:
    """Everything in a response packet."""
    packet = DataPacket.FromString(data)
    assert packet.WhichOneof("value") == "rpc_response"
    message = packet.rpc_response
    assert message.WhichOneof("value") == "payload"
    return (
        packet.participant_identity,
        packet.participant_sid,
        list(packet.destination_identities),
        message.request_id,
        message.payload,
    )
