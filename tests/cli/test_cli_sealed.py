"""The command line in rooms that are encrypted from end to end."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sealed_packets import BY_HAND, KEY, OTHER_KEY, WHOLE, toy

from rpcproto import IgnoreReason, PacketIgnored, wire
from rpcproto.cli.commands import commands
from rpcproto.cli.sealing import MAX_SENDERS, PASSPHRASE, Unreadable
from rpcproto.e2ee import AesGcmCryptor, derive_key
from rpcproto.recording import Journal
from rpcproto.testing import Link, World
from rpcproto.wire import Ack

RPCPROTO = [sys.executable, "-W", "error", "-m", "rpcproto"]
SECRET = "correct horse lab battery"
RECORDED = next(each for each in WHOLE if each.case == "v1: small / 1")


@pytest.fixture
def secret(tmp_path: Path) -> str:
    path = tmp_path / "secret.txt"
    path.write_text(f"{SECRET}\n", "utf-8")
    return str(path)


def run(*arguments: str, **environment: str) -> Any:
    return CliRunner(env=environment).invoke(commands, arguments)


# --- decode


def test_decode_shows_what_is_in_a_sealed_packet(secret: str) -> None:
    result = run("decode", RECORDED.forwarded.hex(), "--e2ee-passphrase-file", secret)
    assert result.exit_code == 0
    assert result.stdout.startswith("request ")
    assert "method='echo' payload='hello'" in result.stdout
    assert "sealed with key 0" in result.stdout


def test_decode_takes_the_passphrase_from_the_environment() -> None:
    result = run("decode", RECORDED.forwarded.hex(), **{PASSPHRASE: SECRET})
    assert "method='echo'" in result.stdout


def test_decode_says_that_a_packet_is_sealed_where_it_cannot_open_it(tmp_path: Path) -> None:
    without = run("decode", RECORDED.forwarded.hex())
    assert without.exit_code == 0
    assert without.stdout.startswith("sealed packet")
    assert "sealed with key 0: give the passphrase to open it" in without.stdout
    other = tmp_path / "other"
    other.write_text("another passphrase")
    for more, why in (
        (("--e2ee-passphrase-file", str(other)), "undecryptable"),
        (("--e2ee-passphrase-file", str(other), "--e2ee-key-index", "4"), "no key"),
    ):
        result = run("decode", RECORDED.forwarded.hex(), *more)
        assert f"sealed with key 0: {why}" in result.stdout
        assert "echo" not in result.stdout


@pytest.mark.parametrize("vector", BY_HAND, ids=lambda vector: vector.case)
def test_decode_reads_every_packet_made_by_hand(vector: Any, secret: str) -> None:
    result = run("decode", "--json", vector.data.hex(), "--e2ee-passphrase-file", secret)
    [line] = result.stdout.splitlines()
    shown = json.loads(line)
    recommended = vector.row["recommended"]
    if recommended.startswith("accept"):
        assert (shown["kind"], shown["opened"]) == ("request", True)
    elif recommended == "ignore: unknown kind":
        assert (shown["kind"], shown["opened"]) == ("", True)
    else:
        assert (shown["kind"], shown["opened"]) == ("sealed packet", False)
        reason = recommended.removeprefix("ignore: ")
        assert reason in shown["fault"]


def test_decode_prints_sealed_packets_as_json() -> None:
    result = run("decode", "--json", RECORDED.forwarded.hex())
    shown = json.loads(result.stdout)
    assert shown["kind"] == "sealed packet"
    assert (shown["key_index"], shown["opened"]) == (0, False)
    assert shown["fault"] == "give the passphrase to open it"
    assert len(shown["ciphertext"]) > 50


# --- options


def test_an_index_alone_is_no_key() -> None:
    result = run("decode", "--e2ee-key-index", "1", "00", **{PASSPHRASE: ""})
    assert result.exit_code == 2
    result = run("decode", "--e2ee-key-index", "1", "00")
    assert result.exit_code == 2
    assert "--e2ee-key-index needs --e2ee-passphrase-file or RPCPROTO_E2EE" in result.stderr


def test_an_empty_passphrase_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.write_text("\n")
    result = run("decode", "--e2ee-passphrase-file", str(path), "00")
    assert result.exit_code == 2
    assert "the passphrase for encryption is empty" in result.stderr


def test_a_file_that_cannot_be_read_is_wrong_usage(tmp_path: Path) -> None:
    result = run("decode", "--e2ee-passphrase-file", str(tmp_path / "missing"), "00")
    assert result.exit_code == 2
    assert "missing: No such file or directory" in result.stderr


@pytest.mark.parametrize("content", [b"%b", b"%b\n", b"%b\r\n"])
def test_a_newline_at_the_end_does_not_count(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content % SECRET.encode())
    result = run("decode", RECORDED.forwarded.hex(), "--e2ee-passphrase-file", str(path))
    assert "method='echo'" in result.stdout


# --- serve and call, as real processes


@pytest.fixture
def bob(tmp_path: Path, secret: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """A service with the passphrase, its address, and its process."""
    address = f"unix://{tmp_path}/bob.sock"
    process = subprocess.Popen(
        [
            *(*RPCPROTO, "serve", "--transport", address, "--identity", "bob"),
            *("--e2ee-passphrase-file", secret),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert "bob serves echo, time" in process.stderr.readline()
    yield address, process
    process.terminate()
    process.wait()
    process.stderr.close()


def call(address: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [*RPCPROTO, "call", "--transport", address, "--identity", "alice", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_with_the_same_passphrase_a_call_is_answered(
    bob: tuple[str, "subprocess.Popen[str]"], secret: str
) -> None:
    address, _ = bob
    answer = call(address, "--trace", "--e2ee-passphrase-file", secret, "bob", "echo", "Hi")
    assert (answer.returncode, answer.stdout) == (0, "Hi\n")
    for shown in ("sealed stream header", "sealed ack", "succeeded: 'Hi'"):
        assert shown in answer.stderr


def test_with_another_passphrase_both_ends_say_why_nothing_comes(
    bob: tuple[str, "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    address, process = bob
    other = tmp_path / "other.txt"
    other.write_text("another passphrase")
    answer = call(address, "--e2ee-passphrase-file", str(other), "bob", "echo", "Hi")
    assert answer.returncode == 1
    assert answer.stdout == ""
    assert answer.stderr.splitlines() == [
        "rpcproto: 1501 Connection timeout",
        "rpcproto: packets are encrypted here: bob may have another key, or none",
    ]
    assert process.stderr is not None
    said = process.stderr.readline()
    assert said == "rpcproto: cannot decrypt packets from alice: undecryptable 1\n"


def test_without_a_passphrase_the_service_says_that_packets_are_plain(
    bob: tuple[str, "subprocess.Popen[str]"],
) -> None:
    address, process = bob
    answer = call(address, "--timeout", "0.5", "bob", "echo", "Hi")
    assert answer.returncode == 1
    assert process.stderr is not None
    said = process.stderr.readline()
    assert said == "rpcproto: ignored unencrypted packets from alice: plain 1\n"


# --- journals


def recorded(path: Path) -> None:
    """A journal of a call in an encrypted room."""
    lines: list[str] = []

    def cryptor(identity: str) -> AesGcmCryptor:
        made = AesGcmCryptor(identity)
        made.set_shared_key(derive_key(SECRET))
        return made

    world = World(
        link=Link(latency=0.01), cryptors=cryptor, engine_factory=Journal(lines.append).engine
    )
    for name in ("alice", "bob"):
        world.join(name).register("echo", lambda invocation: invocation.payload)
    world.participants["alice"].call("bob", "echo", "hello")
    stray = toy("bob", OTHER_KEY).seal(wire.encode_payload(Ack("x")))
    world.send("bob", "alice", wire.encode(stray, "bob", "alice"))
    world.run()
    path.write_text("".join(lines), "ascii")


def test_a_sealed_journal_is_replayed_with_its_passphrase(tmp_path: Path, secret: str) -> None:
    path = tmp_path / "journal.jsonl"
    recorded(path)
    with_keys = run("replay", str(path), "--e2ee-passphrase-file", secret)
    assert with_keys.exit_code == 0, with_keys.output
    assert "the same, byte for byte" in with_keys.stdout
    without = run("replay", str(path))
    assert without.exit_code == 2
    assert "packets of 'alice' are encrypted" in without.stderr


def test_a_sealed_journal_is_drawn_with_and_without_its_passphrase(
    tmp_path: Path, secret: str
) -> None:
    path = tmp_path / "journal.jsonl"
    recorded(path)
    for more in ((), ("--e2ee-passphrase-file", secret)):
        result = run("trace", str(path), *more)
        assert result.exit_code == 0
        for shown in ("sealed request", "sealed ack", "sealed response", "sealed packet"):
            assert shown in result.stdout


# --- what could not be read


def test_unreadable_packets_are_reported_at_powers_of_ten() -> None:
    lines: list[str] = []
    unreadable = Unreadable(lines.append)
    for _ in range(150):
        unreadable.count(PacketIgnored(IgnoreReason.UNDECRYPTABLE, "alice"))
    unreadable.count(PacketIgnored(IgnoreReason.PLAIN, "bob"))
    unreadable.count(PacketIgnored(IgnoreReason.NO_KEY, "bob"))
    unreadable.count(PacketIgnored(IgnoreReason.ENCRYPTED, ""))
    unreadable.count(PacketIgnored(IgnoreReason.MALFORMED, "bob"))
    assert lines == [
        "cannot decrypt packets from alice: undecryptable 1",
        "cannot decrypt packets from alice: undecryptable 10",
        "cannot decrypt packets from alice: undecryptable 100",
        "ignored unencrypted packets from bob: plain 1",
        "cannot decrypt packets from bob: no key 1",
        "no key to decrypt packets from a hidden participant: encrypted 1",
    ]
    assert unreadable.of("alice") == ["cannot decrypt packets from alice: undecryptable 150"]
    assert len(unreadable.of("bob")) == 2


def test_the_packets_of_very_many_senders_are_counted_together() -> None:
    lines: list[str] = []
    unreadable = Unreadable(lines.append)
    for number in range(3 * MAX_SENDERS):
        unreadable.count(PacketIgnored(IgnoreReason.PLAIN, f"sender {number}"))
    assert len(lines) < MAX_SENDERS + 10
    assert unreadable.of("others") == [
        f"ignored unencrypted packets from others: plain {2 * MAX_SENDERS}"
    ]


def test_no_key_is_in_what_is_printed(secret: str) -> None:
    key = derive_key(SECRET).hex()
    for arguments in (("decode", RECORDED.forwarded.hex()), ("decode", "--json", "ff")):
        result = run(*arguments, "--e2ee-passphrase-file", secret)
        assert key not in result.output
        assert SECRET not in result.output
    assert KEY.hex() not in key
