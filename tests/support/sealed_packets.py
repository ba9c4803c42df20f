"""The sealed packets in `vectors/e2ee-packets.jsonl`: recorded from official clients, and some that
were made by hand."""

import json
from typing import Any, NamedTuple

from paths import VECTOR_FILES

from rpcproto import OutgoingPacket, wire
from rpcproto.core.packets_pb2 import DataPacket, EncryptedPacketPayload
from rpcproto.e2ee import AesGcmCryptor, Cryptor, Keyring, derive_key, ratchet
from rpcproto.testing import ToyCryptor
from rpcproto.wire import Sealed


class Vector(NamedTuple):
    """One row of the file."""

    line: int
    row: dict[str, Any]

    @property
    def case(self) -> str:
        name: str = self.row["case"]
        return name

    @property
    def key(self) -> bytes:
        return bytes.fromhex(self.row["key"]["aes_key_hex"])

    @property
    def key_index(self) -> int:
        index: int = self.row["key"].get("key_index", 0)
        return index

    @property
    def data(self) -> bytes:
        """The packet as it was sent."""
        return bytes.fromhex(self.row["hex"])

    @property
    def forwarded(self) -> bytes:
        """The packet as the room delivered it."""
        return bytes.fromhex(self.row.get("forwarded_hex", self.row["hex"]))

    @property
    def inner(self) -> bytes:
        """What is sealed in it."""
        return bytes.fromhex(self.row["inner_hex"])

    @property
    def packet(self) -> DataPacket:
        return DataPacket.FromString(self.forwarded)


_FILE = VECTOR_FILES / "e2ee-packets.jsonl"
VECTORS = [
    Vector(line, json.loads(row))
    for line, row in enumerate(_FILE.read_text("utf-8").splitlines(), 1)
]
DERIVATIONS = [vector for vector in VECTORS if "material_hex" in vector.row]
BY_HAND = [vector for vector in VECTORS if "recommended" in vector.row]
WHOLE = [vector for vector in VECTORS if "inner_hex" in vector.row]
"""Recorded packets with all of their bytes."""
HASHED = [vector for vector in VECTORS if "inner_sha256" in vector.row]
"""Recorded packets of which the file has lengths and hashes."""


def derived(key: dict[str, Any]) -> bytes:
    """The AES key, derived as the row says."""
    material: str | bytes = key.get("passphrase", "") or bytes.fromhex(key["raw_key_hex"])
    options: dict[str, Any] = {"kdf": key["kdf"]}
    if "salt" in key:
        options["salt"] = key["salt"].encode()
    for _ in range(key.get("ratchets", 0)):
        material = ratchet(material, **options)
    return derive_key(material, **options)


def cryptor(vector: Vector) -> Keyring[Any]:
    """A cryptor with the key of a row, for whatever participant."""
    made = AesGcmCryptor()
    made.set_shared_key(vector.key, vector.key_index)
    made.use(vector.key_index)
    return made


KEY = bytes(range(16))
OTHER_KEY = bytes(range(16, 32))


def toy(identity: str | None = None, key: bytes = KEY, **options: Any) -> ToyCryptor:
    """A cryptor with a shared key."""
    made = ToyCryptor(identity, **options)
    made.set_shared_key(key)
    return made


SIX = ("rpc_request", "rpc_ack", "rpc_response", "stream_header", "stream_chunk", "stream_trailer")


def sealed_data(data: bytes, cryptor: Cryptor) -> bytes:
    """The same packet sealed, if it is one that engines read."""
    decoded = wire.decode(data)
    if decoded is None or isinstance(decoded.message, wire.Unread | Sealed):
        return data
    packet, payload = DataPacket.FromString(data), EncryptedPacketPayload()
    which = packet.WhichOneof("value")
    assert which in SIX
    getattr(payload, which).CopyFrom(getattr(packet, which))
    key_index, iv, ciphertext = cryptor.seal(payload.SerializeToString())
    packet.encrypted_packet.iv = iv
    packet.encrypted_packet.key_index = key_index
    packet.encrypted_packet.encrypted_value = ciphertext
    return packet.SerializeToString()


def opened_packet(packet: OutgoingPacket) -> OutgoingPacket:
    sealed = DataPacket.FromString(packet.data)
    assert sealed.WhichOneof("value") == "encrypted_packet", "a plain packet left"
    encrypted = sealed.encrypted_packet
    text = toy().open(
        sealed.participant_identity, encrypted.key_index, encrypted.iv, encrypted.encrypted_value
    )
    assert isinstance(text, bytes)
    payload = EncryptedPacketPayload.FromString(text)
    which = payload.WhichOneof("value")
    assert which in SIX
    getattr(sealed, which).CopyFrom(getattr(payload, which))
    return packet._replace(data=sealed.SerializeToString(deterministic=True))
