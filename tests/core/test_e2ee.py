"""Keys and AES-GCM: `rpcproto.e2ee`."""

import copy
import os
import pickle
import subprocess
import sys
from typing import Any

import pytest
from sealed_packets import DERIVATIONS, HASHED, KEY, OTHER_KEY, WHOLE, Vector, cryptor, derived

from rpcproto import LocalProtocolError
from rpcproto.core.packets_pb2 import DataPacket, EncryptedPacketPayload
from rpcproto.e2ee import AesGcmCryptor, OpenFailure, Sealed, derive_key, ratchet
from rpcproto.testing import ToyCryptor, counting_ivs
from rpcproto.wire import encode

AES = "AES-GCM"
MADE = {AES: AesGcmCryptor, "toy": ToyCryptor}
each_cryptor = pytest.mark.parametrize("made", list(MADE.values()), ids=list(MADE))


def named(vector: Vector) -> str:
    return f"{vector.line}-{vector.case}"


# keys from passphrases


@pytest.mark.parametrize("vector", DERIVATIONS, ids=named)
def test_keys_and_ratcheted_material_are_those_of_the_official_clients(vector: Vector) -> None:
    key = vector.row["key"]
    assert derived(key) == vector.key
    material: Any = key.get("passphrase", "").encode() or bytes.fromhex(key["raw_key_hex"])
    for _ in range(key.get("ratchets", 0)):
        material = ratchet(material, kdf=key["kdf"])
    assert material.hex() == vector.row["material_hex"]


def test_the_known_answer_of_the_go_sdk() -> None:
    assert derive_key("12345").hex() == "0f5ec6425dd3742e3761e879bde9e016"


def test_text_is_encoded_as_utf_8() -> None:
    assert derive_key("pässwörd") == derive_key("pässwörd".encode())


def test_whoever_has_ratcheted_material_has_the_key_before_it() -> None:
    assert ratchet("secret")[:16] == derive_key("secret")
    assert ratchet("secret", kdf="hkdf")[:16] == derive_key("secret", kdf="hkdf")


SECRET = "the quick brown secret"


@pytest.mark.parametrize(
    "arguments",
    [("",), (b"",), (f"{SECRET}\ud800",), (None,), (12345,), ([SECRET],)],
    ids=["empty", "no bytes", "no Unicode", "None", "number", "list"],
)
@pytest.mark.parametrize("function", [derive_key, ratchet])
def test_what_is_no_passphrase_raises_without_showing_it(
    function: Any, arguments: tuple[Any, ...]
) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        function(*arguments)
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in f"{error!r} {vars(error)}"
        assert not isinstance(error, UnicodeError)
        error = error.__context__


def test_another_derivation_or_a_salt_that_is_not_bytes_raises() -> None:
    with pytest.raises(LocalProtocolError, match="kdf must be"):
        derive_key("secret", kdf="md5")  # type: ignore[arg-type]
    with pytest.raises(LocalProtocolError, match="salt must be bytes, not str"):
        derive_key("secret", salt="salt")  # type: ignore[arg-type]


# the packets of official clients


@pytest.mark.parametrize("vector", WHOLE, ids=named)
def test_a_recorded_packet_opens_to_its_plaintext_and_seals_to_the_same_bytes(
    vector: Vector,
) -> None:
    sealed = vector.packet.encrypted_packet
    assert vector.key == derived(vector.row["key"])
    ours = cryptor(vector)
    ours.attach(vector.row["from"])
    opened = ours.open(vector.row["from"], sealed.key_index, sealed.iv, sealed.encrypted_value)
    assert opened == vector.inner
    again = ours.seal_again(vector.inner, sealed.key_index, sealed.iv)
    assert again == Sealed(vector.key_index, sealed.iv, sealed.encrypted_value)


@pytest.mark.parametrize("vector", HASHED, ids=named)
def test_ours_would_be_as_long_as_a_recorded_packet_of_which_the_file_has_hashes(
    vector: Vector,
) -> None:
    """JavaScript leaves out the type, which takes 2 bytes."""
    row, outer = vector.row, dict(vector.row["outer"])
    sealed = outer.pop("encrypted_packet")
    size, iv = sealed["encrypted_value_len"], bytes.fromhex(row["iv"])
    assert size == row["inner_len"] + 16
    around = DataPacket(**outer).ByteSize()
    ours = encode(Sealed(vector.key_index, iv, bytes(size)), "", "")
    no_destination = b"\x2a\x00"
    assert ours.startswith(no_destination)
    has_type = sealed["encryption_type"] == "GCM"
    assert row["len"] == around + len(ours) - len(no_destination) - (0 if has_type else 2)


# rings


@each_cryptor
def test_what_one_seals_the_other_opens_and_nobody_else(made: Any) -> None:
    alice, bob, carol = made("alice"), made("bob"), made("carol")
    alice.set_shared_key(KEY)
    bob.set_shared_key(KEY)
    carol.set_shared_key(OTHER_KEY)
    alice.attach("alice")
    for text in (b"", b"x", b"some text" * 1_000):
        index, iv, ciphertext = alice.seal(text)
        assert (index, len(iv), len(ciphertext)) == (0, 12, len(text) + 16)
        assert len(text) < 9 or text not in ciphertext
        assert bob.open("alice", index, iv, ciphertext) == text
        assert carol.open("alice", index, iv, ciphertext) is OpenFailure.UNDECRYPTABLE
        assert bob.open("alice", 1, iv, ciphertext) is OpenFailure.NO_KEY


@each_cryptor
def test_every_changed_bit_is_seen(made: Any) -> None:
    alice = made("alice")
    alice.set_shared_key(KEY)
    alice.attach("alice")
    index, iv, ciphertext = alice.seal(b"text")
    for at in range(len(ciphertext)):
        changed = bytearray(ciphertext)
        changed[at] ^= 1
        assert alice.open("alice", index, iv, bytes(changed)) is OpenFailure.UNDECRYPTABLE
    other_iv = bytes(12) if iv != bytes(12) else bytes(11) + b"\x01"
    assert alice.open("alice", index, other_iv, ciphertext) is OpenFailure.UNDECRYPTABLE


@each_cryptor
def test_a_participant_with_a_key_of_its_own_is_opened_with_that_alone(made: Any) -> None:
    alice, bob = made("alice"), made("bob")
    for ring in (alice, bob):
        ring.set_key("alice", KEY)
        ring.set_key("bob", OTHER_KEY)
    alice.attach("alice")
    _, iv, ciphertext = alice.seal(b"text")
    assert bob.open("alice", 0, iv, ciphertext) == b"text"
    assert bob.open("bob", 0, iv, ciphertext) is OpenFailure.UNDECRYPTABLE
    assert bob.open("carol", 0, iv, ciphertext) is OpenFailure.NO_KEY


@each_cryptor
def test_anothers_key_does_not_move_the_index_in_use(made: Any) -> None:
    alice = made("alice")
    alice.set_key("alice", KEY)
    alice.attach("alice")
    alice.set_key("bob", OTHER_KEY, 1)
    assert alice.seal(b"text").key_index == 0


@each_cryptor
def test_keys_are_switched_while_old_packets_stay_readable(made: Any) -> None:
    alice, bob = made("alice"), made("bob")
    for ring in (alice, bob):
        ring.set_shared_key(KEY)
    alice.attach("alice")
    old = alice.seal(b"old")
    for ring in (alice, bob):
        ring.set_shared_key(OTHER_KEY, 7)
    assert alice.seal(b"still").key_index == 0
    alice.use(7)
    new = alice.seal(b"new")
    assert new.key_index == 7
    assert bob.open("alice", *old) == b"old"
    assert bob.open("alice", *new) == b"new"
    bob.use(7)
    bob.remove_key(None, 0)
    assert bob.open("alice", *old) is OpenFailure.NO_KEY
    assert bob.open("alice", *new) == b"new"


@each_cryptor
def test_a_key_that_is_set_again_replaces_the_one_in_use(made: Any) -> None:
    alice, bob = made("alice"), made("bob")
    alice.set_shared_key(KEY)
    bob.set_shared_key(OTHER_KEY)
    alice.attach("alice")
    alice.set_shared_key(OTHER_KEY)
    assert bob.open("alice", *alice.seal(b"text")) == b"text"


@each_cryptor
def test_without_a_key_to_seal_with_nothing_begins(made: Any) -> None:
    empty = made()
    with pytest.raises(LocalProtocolError, match="no key to encrypt with at index 0"):
        empty.attach("alice")
    of_another = made()
    of_another.set_key("bob", KEY)
    with pytest.raises(LocalProtocolError, match="no key to encrypt with"):
        of_another.attach("alice")
    of_another.attach("bob")  # it was not alice's by then
    at_three = made("alice")
    at_three.set_shared_key(KEY, 3)
    with pytest.raises(LocalProtocolError, match="no key to encrypt with at index 0"):
        at_three.attach("alice")
    at_three.use(3)
    at_three.attach("alice")
    assert at_three.seal(b"text").key_index == 3


@each_cryptor
def test_a_cryptor_that_is_not_attached_and_has_no_key_seals_nothing(made: Any) -> None:
    with pytest.raises(LocalProtocolError, match="no key to encrypt with"):
        made().seal(b"text")
    with pytest.raises(LocalProtocolError, match="no key to encrypt with at index 4"):
        made().seal_again(b"text", 4, bytes(12))


@each_cryptor
def test_a_cryptor_serves_one_participant(made: Any) -> None:
    ring = made()
    ring.set_shared_key(KEY)
    ring.attach("alice")
    ring.attach("alice")  # an engine that comes after the first one
    with pytest.raises(LocalProtocolError, match="belongs to 'alice', not to 'bob'"):
        ring.attach("bob")
    assert ring.seal(b"text").key_index == 0


@each_cryptor
def test_the_key_in_use_cannot_go(made: Any) -> None:
    ring = made("alice")
    ring.set_shared_key(KEY)
    ring.set_shared_key(KEY, 1)
    ring.attach("alice")
    with pytest.raises(LocalProtocolError, match="the key at index 0 is in use"):
        ring.remove_key(None, 0)
    with pytest.raises(LocalProtocolError, match="no key to encrypt with at index 2"):
        ring.use(2)
    assert ring.seal(b"text").key_index == 0
    ring.remove_key(None, 1)
    ring.remove_key(None, 1)  # it is gone already
    ring.remove_key("alice", 0)  # she has none of her own
    with pytest.raises(LocalProtocolError, match="no key to encrypt with at index 1"):
        ring.use(1)
    own = made("alice")
    own.set_key("alice", KEY)
    own.set_key("bob", KEY)
    own.attach("alice")
    own.remove_key("bob", 0)
    own.remove_key(None, 0)  # there are no shared keys
    with pytest.raises(LocalProtocolError, match="is in use"):
        own.remove_key("alice", 0)
    assert own.seal(b"text").key_index == 0


@each_cryptor
def test_an_index_may_be_chosen_before_it_is_known_whose_it_is(made: Any) -> None:
    ring = made()
    ring.set_key("alice", KEY, 5)
    ring.use(5)
    ring.attach("alice")
    assert ring.seal(b"text").key_index == 5


@each_cryptor
def test_a_ring_is_shared_or_of_participants(made: Any) -> None:
    shared, own = made(), made()
    shared.set_shared_key(KEY)
    own.set_key("alice", KEY)
    with pytest.raises(LocalProtocolError, match="a shared key or a key for each participant"):
        shared.set_key("alice", KEY)
    with pytest.raises(LocalProtocolError, match="a shared key or a key for each participant"):
        own.set_shared_key(KEY)


@each_cryptor
@pytest.mark.parametrize("index", [-1, 256, 2**32, 1.0, "0", None])
def test_an_index_is_from_0_to_255(made: Any, index: Any) -> None:
    ring = made("alice")
    ring.set_shared_key(KEY)
    uses: tuple[Any, ...] = (
        lambda: ring.set_shared_key(KEY, index),
        lambda: made().set_key("alice", KEY, index),
        lambda: ring.remove_key(None, index),
        lambda: ring.use(index),
    )
    for use in uses:
        with pytest.raises(LocalProtocolError, match="a key index must be an int from 0 to 255"):
            use()
    ring.set_shared_key(KEY, 255)
    ring.use(255)
    ring.attach("alice")
    assert ring.seal(b"text").key_index == 255


@each_cryptor
@pytest.mark.parametrize("key", [b"", bytes(15), bytes(17), bytes(32), "0123456789abcdef", None])
def test_a_key_has_16_bytes(made: Any, key: Any) -> None:
    with pytest.raises(LocalProtocolError, match="a key must be"):
        made().set_shared_key(key)
    with pytest.raises(LocalProtocolError, match="a key must be") as caught:
        made().set_key("alice", key)
    assert not key or repr(key) not in str(caught.value)
    with pytest.raises(LocalProtocolError):
        made().attach("alice")


@each_cryptor
@pytest.mark.parametrize("identity", ["", "x" * 257, "\ud800", None, 5])
def test_identities_are_text_of_1_to_256_bytes(made: Any, identity: Any) -> None:
    with pytest.raises(LocalProtocolError, match="identity"):
        made().set_key(identity, KEY)
    ring = made()
    ring.set_shared_key(KEY)
    with pytest.raises(LocalProtocolError, match="identity"):
        ring.attach(identity)
    if identity is not None:
        with pytest.raises(LocalProtocolError, match="identity"):
            ring.remove_key(identity)
        with pytest.raises(LocalProtocolError, match="identity"):
            made(identity)


@each_cryptor
def test_no_key_is_to_be_seen(made: Any) -> None:
    key = os.urandom(16)
    ring = made("alice")
    ring.set_shared_key(key, 3)
    ring.use(3)
    ring.attach("alice")
    shown = f"{ring!r} {ring} {ring.seal(b'text')!r}"
    assert "alice" in shown
    assert "1 shared keys, index 3" in shown
    for trace in (key.hex(), repr(key), repr(key)[2:-1]):
        assert trace not in shown
    own = made("alice")
    own.set_key("alice", key)
    assert "1 keys of participants" in repr(own)
    copies: list[Any] = [copy.copy, copy.deepcopy, pickle.dumps]
    for copied in copies:
        with pytest.raises(TypeError, match="cannot be pickled: it holds keys"):
            copied(ring)


def test_random_ivs_differ() -> None:
    ring = AesGcmCryptor("alice")
    ring.set_shared_key(KEY)
    ring.attach("alice")
    sealed = [ring.seal(b"text") for _ in range(1_000)]
    assert len({each.iv for each in sealed}) == len({each.ciphertext for each in sealed}) == 1_000


def test_ivs_that_count_are_the_same_in_every_run() -> None:
    ivs = counting_ivs(7)
    assert [ivs().hex(), ivs().hex()] == ["000000070000000000000001", "000000070000000000000002"]
    assert counting_ivs()() != counting_ivs(1)()
    with pytest.raises(OverflowError):
        counting_ivs(2**32)


def test_after_a_fork_ivs_differ() -> None:
    """IVs are not drawn ahead: a child would use the same ones, with the same key."""
    script = (
        "import os; from rpcproto.e2ee import AesGcmCryptor; c = AesGcmCryptor('a'); "
        "c.set_shared_key(bytes(16)); c.attach('a'); c.seal(b''); r, w = os.pipe(); "
        "pid = os.fork(); iv = c.seal(b'').iv; "
        "(os.write(w, iv), os._exit(0)) if pid == 0 else None; "
        "os.waitpid(pid, 0); print(os.read(r, 12) != iv)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "True"


def test_without_the_extra_keys_can_be_derived_but_not_used() -> None:
    script = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from rpcproto.e2ee import AesGcmCryptor, derive_key\n"
        "import rpcproto.testing\n"
        "print(derive_key('12345').hex())\n"
        "try: AesGcmCryptor()\n"
        "except ImportError as error: print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    key, message = run.stdout.splitlines()
    assert key == "0f5ec6425dd3742e3761e879bde9e016"
    assert message == (
        "AesGcmCryptor needs the package 'cryptography', which is not installed; "
        "install rpcproto with the extra 'e2ee' (in a checkout: pip install '.[e2ee]')"
    )


def test_the_plaintext_of_every_whole_vector_is_a_payload() -> None:
    kinds = {EncryptedPacketPayload.FromString(each.inner).WhichOneof("value") for each in WHOLE}
    assert kinds == {
        "rpc_request",
        "rpc_ack",
        "rpc_response",
        "stream_header",
        "stream_chunk",
        "stream_trailer",
    }
