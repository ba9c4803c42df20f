"""F and F2, the floors: what protobuf alone costs in one call.

F is a v1 call, F2 an inline call (client_protocol 2). In both, three packets are built, serialized,
parsed and read the way everyone writes it: nested keywords, and every field that a packet carries
is looked at.
"""

from rpcproto.core.packets_pb2 import DataPacket, DataStream, RpcAck, RpcRequest, RpcResponse

REQUEST_ID = "c1728bb9-2b75-45d7-8c06-85f478722f6d"
STREAM_ID = "0d0c3b5e-6a5d-4a53-9a5e-1c1f6f3f8f0a"
TIMESTAMP_MS = 1_764_000_000_000
PAYLOAD = "x" * 100


def floor(calls: int) -> None:
    """Do the six protobuf operations of a v1 call, so many times."""
    for _ in range(calls):
        read_request(request())
        read_ack(ack())
        read_response(response())


def inline_floor(calls: int) -> None:
    """Do the six protobuf operations of an inline call, so many times."""
    for _ in range(calls):
        read_header(request_header())
        read_ack(ack())
        read_header(response_header())


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


def request_header() -> bytes:
    """The header packet of an inline request stream."""
    return DataPacket(
        participant_identity="alice",
        destination_identities=["bob"],
        stream_header=DataStream.Header(
            stream_id=STREAM_ID,
            timestamp=TIMESTAMP_MS,
            topic="lk.rpc_request",
            mime_type="text/plain",
            total_length=len(PAYLOAD),
            attributes={
                "lk.rpc_request_id": REQUEST_ID,
                "lk.rpc_request_method": "echo",
                "lk.rpc_request_response_timeout_ms": "8000",
                "lk.rpc_request_version": "2",
            },
            text_header=DataStream.TextHeader(),
            inline_content=PAYLOAD.encode(),
        ),
    ).SerializeToString()


def response_header() -> bytes:
    """The header packet of an inline response stream."""
    return DataPacket(
        participant_identity="bob",
        destination_identities=["alice"],
        stream_header=DataStream.Header(
            stream_id=STREAM_ID,
            timestamp=TIMESTAMP_MS,
            topic="lk.rpc_response",
            mime_type="text/plain",
            total_length=len(PAYLOAD),
            attributes={"lk.rpc_request_id": REQUEST_ID},
            text_header=DataStream.TextHeader(),
            inline_content=PAYLOAD.encode(),
        ),
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


def read_header(data: bytes) -> object:
    """Everything in the header packet of an inline stream."""
    packet = DataPacket.FromString(data)
    assert packet.WhichOneof("value") == "stream_header"
    header = packet.stream_header
    assert header.HasField("total_length")
    assert header.HasField("inline_content")
    assert header.WhichOneof("content_header") == "text_header"
    return (
        packet.participant_identity,
        packet.participant_sid,
        list(packet.destination_identities),
        header.stream_id,
        header.timestamp,
        header.topic,
        header.mime_type,
        header.total_length,
        dict(header.attributes),
        header.text_header.generated,
        header.compression,
        header.inline_content.decode(),
    )
