"""The generated messages, held against packets that official SDKs have sent."""

import json
import subprocess
import sys
from typing import Any

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.json_format import MessageToDict, ParseDict
from paths import ROOT, VECTOR_FILES

from rpcproto.core.packets_pb2 import DataPacket, RpcRequest

VECTORS = [
    json.loads(line)
    for line in (VECTOR_FILES / "official-sdk-packets.jsonl").read_text("utf-8").splitlines()
]

each_vector = pytest.mark.parametrize(
    "vector", VECTORS, ids=[f"{at}-{vector['name']}" for at, vector in enumerate(VECTORS, 1)]
)


def as_dict(packet: DataPacket) -> dict[str, Any]:
    return MessageToDict(packet, preserving_proto_field_name=True)


def length_delimited(number: int, content: bytes) -> bytes:
    """One field on the wire; number and content are small enough for single bytes."""
    tag = number << 3 | 2
    varint = bytes([tag]) if tag < 128 else bytes([tag & 127 | 128, tag >> 7])
    return varint + bytes([len(content)]) + content


def test_the_checked_in_files_are_what_make_proto_writes() -> None:
    command = (sys.executable, str(ROOT / "proto" / "generate.py"), "--check")
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


def test_nothing_of_ours_is_in_the_pool_that_everyone_shares() -> None:
    assert DataPacket.DESCRIPTOR.full_name == "rpcproto.wire.DataPacket"
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("rpcproto.wire.DataPacket")


def test_all_vectors_are_there() -> None:
    assert len(VECTORS) == 32


@each_vector
def test_a_packet_reads_as_the_official_package_reads_it(vector: dict[str, Any]) -> None:
    assert as_dict(DataPacket.FromString(bytes.fromhex(vector["hex"]))) == vector["decoded"]


@each_vector
def test_a_packet_built_from_its_fields_is_the_packet_sent(vector: dict[str, Any]) -> None:
    sent = DataPacket.FromString(bytes.fromhex(vector["hex"]))
    built = ParseDict(vector["decoded"], DataPacket())
    assert built == sent
    assert DataPacket.FromString(built.SerializeToString(deterministic=True)) == sent


@each_vector
def test_the_server_forwards_the_packet_with_the_sender_filled_in(vector: dict[str, Any]) -> None:
    forwarded = DataPacket.FromString(bytes.fromhex(vector["forwarded_hex"]))
    assert forwarded.participant_sid.startswith("PA_")
    expected = DataPacket.FromString(bytes.fromhex(vector["hex"]))
    expected.participant_identity = vector["from"]
    expected.participant_sid = expected.participant_sid or forwarded.participant_sid
    assert forwarded == expected


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (2, "user"),
        (3, "speaker"),
        (6, "sip_dtmf"),
        (7, "transcription"),
        (8, "metrics"),
        (9, "chat_message"),
    ],
)
def test_of_another_kind_only_the_kind_is_read(number: int, name: str) -> None:
    content = length_delimited(2, b"hello") + b"\x18\x07" + length_delimited(15, bytes(range(100)))
    data = length_delimited(number, content) + length_delimited(4, b"alice")
    packet = DataPacket.FromString(data)
    assert packet.WhichOneof("value") == name
    assert packet.participant_identity == "alice"
    assert as_dict(packet) == {"participant_identity": "alice", name: {}}


def test_a_kind_that_does_not_exist_yet_is_no_kind() -> None:
    data = length_delimited(100, b"\x0a\x01x") + length_delimited(4, b"alice")
    packet = DataPacket.FromString(data)
    assert packet.WhichOneof("value") is None
    assert packet.participant_identity == "alice"


def test_unknown_fields_do_no_harm() -> None:
    unknown = length_delimited(100, b"new") + b"\xf8\x07\x01"
    request = RpcRequest(id="r", method="m").SerializeToString() + unknown
    packet = DataPacket.FromString(unknown + length_delimited(10, request) + unknown)
    assert as_dict(packet) == {"rpc_request": {"id": "r", "method": "m"}}
