"""The packets of official clients in `vectors/`."""

import json
from typing import Any, NamedTuple

from paths import VECTOR_FILES

from rpcproto.core.packets_pb2 import DataPacket


class Vector(NamedTuple):
    """One packet: who sent it to whom, its bytes as sent and as forwarded by the server."""

    line: int
    name: str
    sender: str
    to: list[str]
    data: bytes
    forwarded: bytes
    decoded: dict[str, Any]

    @property
    def sid(self) -> str:
        """The sender's sid, as the server wrote it."""
        return DataPacket.FromString(self.forwarded).participant_sid

    @property
    def answered_id(self) -> str:
        """The id of the call that the packet answers, if it is an answer."""
        packet = DataPacket.FromString(self.forwarded)
        header = packet.stream_header
        if header.topic == "lk.rpc_response":
            return header.attributes["lk.rpc_request_id"]
        return packet.rpc_ack.request_id or packet.rpc_response.request_id


def _vector(line: int, row: dict[str, Any]) -> Vector:
    return Vector(
        line,
        row["name"],
        row["from"],
        row["to"],
        bytes.fromhex(row["hex"]),
        bytes.fromhex(row["forwarded_hex"]),
        row["decoded"],
    )


_FILE = VECTOR_FILES / "official-sdk-packets.jsonl"
VECTORS = [
    _vector(line, json.loads(row))
    for line, row in enumerate(_FILE.read_text("utf-8").splitlines(), 1)
]
