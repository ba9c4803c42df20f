"""Reads and writes every vector with the installed rpcproto; run by `test_environments.py`.

A plain script, for the environments that it runs in hold nothing but what is to be tried.
"""

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import google.protobuf
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.internal import api_implementation
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message

VECTORS = Path(__file__).resolve().parent.parent / "vectors" / "official-sdk-packets.jsonl"
LIVEKIT = ("livekit.rtc", "livekit.api", "livekit.protocol")


def check(condition: bool, what: str) -> None:
    """`assert`, with a text that says enough in the output of another process."""
    if not condition:
        raise SystemExit(f"check failed: {what}")


def as_dict(message: Message) -> dict[str, Any]:
    """The fields by the names that the vectors use."""
    return MessageToDict(message, preserving_proto_field_name=True)


def field_shape(field: FieldDescriptor) -> tuple[object, ...]:
    """What decides how a field looks on the wire, and what its absence means."""
    oneof = field.containing_oneof
    return (
        field.number,
        field.type,
        field.has_presence,
        field.default_value if field.message_type is None else None,
        None if oneof is None else oneof.name,
    )


def check_same_shape(ours: Descriptor, theirs: Descriptor, seen: set[str]) -> None:
    """Every field of ours is theirs too, all the way down."""
    if ours.name == "OtherKind" or ours.full_name in seen:
        return
    seen.add(ours.full_name)
    for name, field in ours.fields_by_name.items():
        where = f"{ours.full_name}.{name}"
        check(name in theirs.fields_by_name, f"{where} exists")
        other = theirs.fields_by_name[name]
        check(field_shape(field) == field_shape(other), f"{where} has their shape")
        if field.enum_type is not None and other.enum_type is not None:
            numbers = {value.name: value.number for value in field.enum_type.values}
            official = {value.name: value.number for value in other.enum_type.values}
            check(numbers.items() <= official.items(), f"{where} has their values")
        if field.message_type is not None and other.message_type is not None:
            check_same_shape(field.message_type, other.message_type, seen)


def main() -> None:
    """Check everything that can be checked in this environment."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--protobuf-major", type=int)
    parser.add_argument("--livekit", choices=["first", "last"])
    arguments = parser.parse_args()

    names = ["rpcproto", "rpcproto.core.packets_pb2"]
    if arguments.livekit == "first":
        names = [*LIVEKIT, *names]
    elif arguments.livekit == "last":
        names = [*names, *LIVEKIT]
    modules = {name: importlib.import_module(name) for name in names}

    version: str = google.protobuf.__version__
    if arguments.protobuf_major is not None:
        major = int(version.partition(".")[0])
        check(major == arguments.protobuf_major, f"protobuf {version} is the wanted one")
    where = Path(str(modules["rpcproto.core.packets_pb2"].__file__))
    check(where.is_relative_to(sys.prefix), f"{where} is the installed one")

    data_packet: type[Message] = modules["rpcproto.core.packets_pb2"].DataPacket
    classes = [data_packet]
    if arguments.livekit is not None:
        models = modules["livekit.protocol"].models
        classes.append(models.DataPacket)
        for name in ("DataPacket", "EncryptedPacketPayload"):
            ours = getattr(modules["rpcproto.core.packets_pb2"], name)
            check_same_shape(ours.DESCRIPTOR, getattr(models, name).DESCRIPTOR, set())

    lines = VECTORS.read_text(encoding="utf-8").splitlines()
    check(len(lines) > 0, "there are vectors")
    for line in lines:
        vector = json.loads(line)
        sent = data_packet.FromString(bytes.fromhex(vector["hex"]))
        forwarded = data_packet.FromString(bytes.fromhex(vector["forwarded_hex"]))
        check(as_dict(sent) == vector["decoded"], f"{vector['name']}: reads as sent")
        built = ParseDict(vector["decoded"], data_packet())
        check(built == sent, f"{vector['name']}: built from its fields")
        for message in (sent, forwarded):
            written = message.SerializeToString(deterministic=True)
            for packet in (cls.FromString(written) for cls in classes):
                check(as_dict(packet) == as_dict(message), f"{vector['name']}: survives the wire")
                again = data_packet.FromString(packet.SerializeToString())
                check(again == message, f"{vector['name']}: comes back")

    print(f"protobuf {version} ({api_implementation.Type()}): {len(lines)} packets")


if __name__ == "__main__":
    main()
