"""The command line: what it prints, where, and with which exit code."""

import base64
import functools
import io
import itertools
import json
import logging
import re
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import pytest
from official_packets import VECTORS
from paths import ROOT
from rich.console import Console

from rpcproto import cli
from rpcproto.cli import commands
from rpcproto.cli.demo import MEGABYTE, SCENES, Call, Scene, play
from rpcproto.core.packets_pb2 import DataPacket
from rpcproto.wire import OutgoingMessage, StreamChunk, StreamHeader, encode

Run: TypeAlias = Callable[..., tuple[int, str, str]]

REQUEST = VECTORS[0].data
REQUEST_LINE = (
    "request         alice -> raw0  request_id='c1728bb9-2b75-45d7-8c06-85f478722f6d' method='m' "
    "payload='hello' response_timeout_ms=8000 version=1 (89 bytes, sequence 1, sid PA_E0nkwdRZiHfR)"
)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `rpcproto` with arguments; gives exit code, standard output and standard error."""
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(*arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rpcproto", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = cli.main()
        out, err = capsys.readouterr()
        return code, out, err

    return run


# the demo


@functools.cache
def demo(width: int = 80, encoding: str = "utf-8") -> str:
    """What the demo draws where the output is no terminal."""
    return demo_again(width, encoding)


def demo_again(width: int = 80, encoding: str = "utf-8") -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    assert play(Console(file=file, width=width, highlight=False))
    file.seek(0)
    return file.read()


def scene(drawn: str, number: int) -> str:
    """One scene of the demo, from its title to the next."""
    pattern = rf"^{number}\. .*?(?=^{number + 1}\. |^\d+ of )"
    [text] = re.findall(pattern, drawn, re.MULTILINE | re.DOTALL)
    return str(text)


@pytest.mark.parametrize(
    ("number", "outcome"),
    [
        (1, "succeeded: 'Hello, alice!'"),
        (2, "failed: 1400 Method not supported at destination"),
        (3, "failed: 2001 This pot brews no coffee (tea only)"),
        (4, "failed: 1500 Application error in method handler"),
        (5, "failed: 1402 Request payload too large"),
        (6, "failed: 1503 Recipient disconnected"),
        (7, "failed: 1501 Connection timeout"),
        (8, "failed: 1502 Response timeout"),
    ],
)
def test_the_demo_shows_every_outcome(number: int, outcome: str) -> None:
    assert outcome in scene(demo(100), number)


def test_the_demo_shows_each_packet_with_its_time_kind_size_and_direction() -> None:
    greeting = scene(demo(), 1)
    assert re.search(r"0\.000 s  ├─+ request, \d\d bytes ─+▶│", greeting)
    assert re.search(r"0\.050 s  │◀─+ ack, \d\d bytes ─+┤", greeting)
    assert re.search(r"0\.050 s  │◀─+ response, \d\d bytes ─+┤", greeting)
    assert re.search(r"0\.100 s  ● succeeded", greeting)


def test_the_demo_shows_the_deadlines_that_pass_at_their_time() -> None:
    drawn = demo()
    assert "   7.000 s  ● a deadline passes" in scene(drawn, 7)
    assert "3600.000 s  ● a deadline passes" in scene(drawn, 8)
    assert all("deadline" not in scene(drawn, number) for number in range(1, 7))


def test_a_call_between_peers_that_are_up_to_date_is_three_packets() -> None:
    drawn = scene(demo(), 9)
    assert len(re.findall("[▶◀]", drawn)) == 3
    packets = re.findall(r"─ (\S.*?) ─+[▶┤]", drawn)
    assert [re.sub(r"[\d,]+(?= bytes)", "n", packet) for packet in packets] == [
        "stream header, n bytes",
        "ack, n bytes",
        "stream header, n bytes",
    ]
    assert len(re.findall("│ +inline compressed, 98,000 bytes +│", drawn)) == 2
    assert "succeeded: 98,000 bytes" in drawn


def test_a_small_call_overtakes_a_long_body() -> None:
    drawn = scene(demo(), 10)
    assert re.search(r"├─+ stream header, \d+ bytes ─+▶│\n +│ +1,000,000 bytes to follow +│", drawn)
    assert re.search(r"◀─+ stream header, \d+ bytes ─+┤\n +│ +inline, 12 bytes +│", drawn)
    assert drawn.index("● runs greet") < drawn.index("● runs digest")
    small, large = (m.start() for m in re.finditer("● succeeded", drawn))
    assert drawn[small:].startswith("● succeeded: 'Hello, erin!'")
    assert drawn[large:].startswith("● succeeded: '1,000,000 bytes, SHA-256")
    assert "1,000,000 bytes, SHA-256 dbccbd9cdd7ff867" in " ".join(drawn.replace("│", "").split())
    lines = drawn.splitlines()
    [follows] = (number for number, line in enumerate(lines) if " 6 bytes to follow" in line)
    # The small stream leaves in one piece, with chunks of the long one before and after it.
    for line, kind in zip(
        lines[follows - 2 : follows + 4],
        [
            " stream chunk",
            " stream header,",
            "6 bytes",
            " stream chunk,",
            " stream trailer,",
            " stream chunk",
        ],
        strict=True,
    ):
        assert kind in line


def test_chunks_are_counted_where_nothing_lies_between_them() -> None:
    large = [
        (int(count or 1), int(size.replace(",", "")))
        for count, size in re.findall(
            r"─ (?:(\d+) )?stream chunks?, ([\d,]+) bytes ─", scene(demo(), 10)
        )
        if "," in size
    ]
    assert 2 < len(large) < 12
    assert sum(count for count, _ in large) == 67
    # All packets of the body, with at most 60 bytes around each chunk.
    assert 1_000_000 + 67 * 50 < sum(size for _, size in large) < 1_000_000 + 67 * 60
    alone = Scene("Alone", SCENES[9].calls[:1])
    file = io.StringIO()
    assert play(Console(file=file, width=80, highlight=False), (alone,))
    runs = re.findall(r"(\d+) stream chunks", file.getvalue())
    assert sum(map(int, runs)) + len(re.findall("stream chunk,", file.getvalue())) == 67
    assert len(runs) <= 2  # only the ack lies between


def test_a_payload_that_is_too_large_sends_nothing() -> None:
    drawn = scene(demo(), 5)
    assert "15,361 bytes" in drawn
    assert "▶" not in drawn


def test_the_text_of_a_bug_stays_with_the_one_who_made_it() -> None:
    drawn = scene(demo(), 4)
    [heads] = (line for line in drawn.splitlines() if "alice" in line and "bob" in line)
    column = heads.index("bob")
    bugs = [line for line in drawn.splitlines() if "password" in line or "swordfish" in line]
    assert bugs
    for line in bugs:
        assert set(line[:column]) <= set("0123456789. s│")


@pytest.mark.parametrize("width", [80, 100])
def test_the_demo_fits_the_terminal_and_is_clean_text_elsewhere(width: int) -> None:
    drawn = demo(width)
    assert max(map(len, drawn.splitlines())) <= width
    assert all(character == "\n" or character.isprintable() for character in drawn)


def test_the_demo_is_the_same_each_time() -> None:
    assert demo() == demo_again()


def test_the_demo_is_drawn_in_ascii_where_there_is_nothing_else() -> None:
    assert demo(encoding="ascii").isascii()


def test_the_demo_exits_with_0_and_leaves_logging_as_it_was(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("rpcproto")
    monkeypatch.setattr(logger, "propagate", True)
    before = list(logger.handlers)
    code, out, err = run("demo")
    assert (code, err) == (0, "")
    assert "11 of 11 calls ended as they should; " in out
    assert logger.handlers == before
    assert logger.propagate


def test_an_outcome_that_is_not_the_expected_one_is_told_and_makes_the_demo_fail(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = (Scene("A wrong guess", (Call("bob", "greet", "", "Goodbye"),)), *SCENES[1:3])
    monkeypatch.setattr(play, "__defaults__", (wrong,))
    code, out, _ = run("demo")
    assert code == 1
    assert "expected 'Goodbye', but it ended with 'Hello, alice!'" in out
    assert "2 of 3 calls ended as they should; " in out


@pytest.mark.parametrize(
    ("wrong", "calls", "complaint"),
    [
        (SCENES[8]._replace(packets=4), 1, "expected 4 packets, but there were 3"),
        (SCENES[0]._replace(packets=2), 1, "expected 2 packets, but there were 3"),
        (SCENES[9]._replace(order=(1, 2)), 2, "should end in the order (1, 2), not (2, 1)"),
    ],
    ids=["too few packets", "too many packets", "another order"],
)
def test_packets_and_order_that_are_not_the_expected_ones_make_the_demo_fail(
    run: Run, monkeypatch: pytest.MonkeyPatch, wrong: Scene, calls: int, complaint: str
) -> None:
    monkeypatch.setattr(play, "__defaults__", ((wrong,),))
    code, out, _ = run("demo")
    assert code == 1
    assert complaint in out
    assert f"{calls} of {calls} calls ended as they should, but 1 of the other checks failed" in out


def test_a_long_body_that_is_not_the_expected_one_makes_the_demo_fail(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    shout = SCENES[8]
    changed = shout.calls[0]._replace(payload=shout.calls[0].payload[:-1] + "?")
    upload = SCENES[9]
    broken = upload.calls[0]._replace(payload=MEGABYTE[:-1] + "x")
    wrong = (shout._replace(calls=(changed,)), upload._replace(calls=(broken, upload.calls[1])))
    monkeypatch.setattr(play, "__defaults__", (wrong,))
    code, out, _ = run("demo")
    assert code == 1
    assert "expected 98,000 bytes, but it ended with 98,000 bytes" in out
    assert "expected '1,000,000 bytes, SHA-256 " in out
    assert "1 of 3 calls ended as they should; " in out


def test_ctrl_c_leaves_quietly(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(console: Console) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "play", interrupted)
    code, out, err = run("demo")
    assert (code, out, err.strip()) == (130, "", "")


def test_a_bug_is_a_line_that_says_how_to_see_its_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "play", lambda console: 1 / 0)
    code, out, err = run("demo")
    assert (code, out) == (70, "")
    assert err == (
        "rpcproto: a bug: ZeroDivisionError: division by zero; "
        "set RPCPROTO_DEBUG=1 to see the traceback\n"
    )
    monkeypatch.setenv("RPCPROTO_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        run("demo")


# decode


@pytest.mark.parametrize(
    "text",
    [
        REQUEST.hex(),
        REQUEST.hex().upper(),
        "0x" + REQUEST.hex(),
        REQUEST.hex(" "),
        base64.b64encode(REQUEST).decode(),
        base64.urlsafe_b64encode(REQUEST).decode().rstrip("="),
    ],
    ids=["hex", "upper case", "0x", "spaces", "base64", "base64 for URLs"],
)
def test_a_packet_is_read_from_its_text(run: Run, text: str) -> None:
    assert run("decode", text) == (0, REQUEST_LINE + "\n", "")


@pytest.mark.parametrize("way", ["file", "standard input"])
@pytest.mark.parametrize(
    ("content", "count"),
    [(REQUEST, 1), (REQUEST.hex().encode() + b"\n\n" + base64.b64encode(REQUEST) + b"\r\n", 2)],
    ids=["binary", "lines"],
)
def test_packets_are_read_from_files_and_from_standard_input(
    run: Run, tmp_path: Path, way: str, content: bytes, count: int
) -> None:
    if way == "file":
        path = tmp_path / "packets"
        path.write_bytes(content)
        result = run("decode", "--file", str(path))
    else:
        result = run("decode", "-", stdin=content)
    assert result == (0, (REQUEST_LINE + "\n") * count, "")


def test_the_packets_of_official_clients_are_one_line_each(run: Run) -> None:
    for form in (bytes.hex, lambda data: base64.b64encode(data).decode()):
        code, out, err = run("decode", *(form(vector.data) for vector in VECTORS))
        assert (code, err) == (0, "")
        lines = out.splitlines()
        assert len(lines) == len(VECTORS)
        for line, vector in zip(lines, VECTORS, strict=True):
            assert f"({len(vector.data)} bytes" in line
            assert f"sequence {vector.decoded['sequence']}" in line


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        ("ack ", ["bob -> alice", "request_id='95c46d6b-a90d-4d8d-853f-a23c6b8c2b4a'"]),
        ("response ", ["bob -> raw", "payload='hello'"]),
        ("error ", ["code=42", "message='my message é'", "data='{\"a\":1}'"]),
        ("stream header ", ["topic='lk.rpc_request'", "lk.rpc_request_method='m'"]),
        ("stream header ", ["total_length=5", "inline_text='hello' (5 bytes)", "compression=NONE"]),
        ("stream header ", ["total_length=0", "inline_text='' (0 bytes)"]),
        ("stream header ", ["inline_text='héllo ✓ 🚀 \\x00 end' (21 bytes)"]),
        (
            "stream header ",
            [f"inline_text='{'x' * 48}'... (1000 bytes, compressed to 17)", "=DEFLATE_RAW"],
        ),
        ("stream header ", [f"'{'y' * 48}'... (1000000 bytes by total_length, compressed to 985)"]),
        ("stream chunk ", ["chunk_index=0", "content='hello' (5 bytes)"]),
        ("stream trailer ", ["stream_id='a4dcc36f-aee0-46e4-b705-28190aa3fa67'"]),
    ],
)
def test_every_kind_shows_its_fields(run: Run, kind: str, parts: list[str]) -> None:
    _, out, _ = run("decode", *(vector.data.hex() for vector in VECTORS))
    assert any(
        line.startswith(kind) and all(part in line for part in parts) for line in out.splitlines()
    )


def test_the_packets_of_official_clients_are_one_json_object_each(run: Run) -> None:
    code, out, err = run("decode", "--json", *(vector.forwarded.hex() for vector in VECTORS))
    assert (code, err) == (0, "")
    assert out.isascii()
    rows = [json.loads(line) for line in out.splitlines()]
    assert len(rows) == len(VECTORS) == 32
    for row, vector in zip(rows, VECTORS, strict=True):
        packet = DataPacket.FromString(vector.forwarded)
        assert row.pop("size") == len(vector.forwarded)
        assert row.pop("sender_identity") == vector.sender
        assert row.pop("sender_sid") == vector.sid
        assert row.pop("destination_identities") == vector.to
        assert row.pop("sequence") == packet.sequence
        assert row == expected_fields(packet)


def expected_fields(packet: DataPacket) -> dict[str, Any]:
    """What the JSON object of a packet says of its message."""
    if packet.HasField("rpc_request"):
        return {
            "kind": "request",
            "request_id": packet.rpc_request.id,
            "method": packet.rpc_request.method,
            "payload": packet.rpc_request.payload,
            "response_timeout_ms": packet.rpc_request.response_timeout_ms,
            "version": packet.rpc_request.version,
            "compressed": False,
        }
    if packet.HasField("rpc_ack"):
        return {"kind": "ack", "request_id": packet.rpc_ack.request_id}
    if packet.HasField("rpc_response"):
        response = packet.rpc_response
        answer = {"request_id": response.request_id}
        if not response.HasField("error"):
            return {"kind": "response", "payload": response.payload, **answer}
        error = response.error
        fields = {"code": error.code, "message": error.message, "data": error.data}
        return {"kind": "error", **answer, **fields}
    if packet.HasField("stream_chunk"):
        chunk = packet.stream_chunk
        content = base64.b64encode(chunk.content).decode()
        return {
            "kind": "stream chunk",
            "stream_id": chunk.stream_id,
            "chunk_index": chunk.chunk_index,
            "content": content,
        }
    if packet.HasField("stream_trailer"):
        trailer = packet.stream_trailer
        return {"kind": "stream trailer", "stream_id": trailer.stream_id, "reason": trailer.reason}
    header = packet.stream_header
    row: dict[str, Any] = {
        "kind": "stream header",
        "stream_id": header.stream_id,
        "topic": header.topic,
        "attributes": dict(header.attributes),
        "total_length": header.total_length,
        "timestamp_ms": header.timestamp,
        "inline_content": None,
        "compression": header.compression,
        "is_text": True,
        "generated": False,
    }
    if header.HasField("inline_content"):
        inline = header.inline_content
        body = zlib.decompress(inline, -15) if header.compression else inline
        assert len(body) == header.total_length
        row["inline_content"] = base64.b64encode(inline).decode()
        row["inline_text"] = body[:65_536].decode()
        row["inline_text_is_whole"] = len(body) <= 65_536
    return row


HEADER = StreamHeader("s", "lk.rpc_request", {}, None, 0)


def decoded(run: Run, message: OutgoingMessage) -> tuple[str, dict[str, Any]]:
    """A packet's line and its JSON object."""
    packet = encode(message, "alice", "bob").hex()
    code, line, err = run("decode", packet)
    assert (code, err, line.count("\n")) == (0, "", 1)
    code, out, err = run("decode", "--json", packet)
    assert (code, err, out.count("\n")) == (0, "", 1)
    return line, json.loads(out)


def deflated(body: bytes, flush: int = zlib.Z_FINISH) -> bytes:
    deflate = zlib.compressobj(wbits=-15)
    return deflate.compress(body) + deflate.flush(flush)


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 10_000_000])
@pytest.mark.parametrize("told", [True, False], ids=["total_length", "no total_length"])
def test_a_compressed_body_is_inflated_within_a_bound(run: Run, size: int, told: bool) -> None:
    content = deflated(b"x" * size)
    header = HEADER._replace(
        inline_content=content, compression=1, total_length=size if told else None
    )
    line, row = decoded(run, header)
    assert row["inline_text"] == "x" * min(size, 65_536)
    assert row["inline_text_is_whole"] == (size <= 65_536)
    assert "inline_fault" not in row
    assert row["total_length"] == (size if told else None)
    if size <= 65_536:
        amount = f"{size} bytes"
    else:
        amount = f"{size} bytes by total_length" if told else "more than 65536 bytes"
    assert f"inline_text='{'x' * 48}'... ({amount}, compressed to {len(content)})" in line
    assert ("total_length=" in line) == told
    assert len(line) < 400


def test_a_body_is_not_cut_within_a_character(run: Run) -> None:
    body = "x" + "✓" * 30_000
    header = HEADER._replace(inline_content=deflated(body.encode()), compression=1)
    _, row = decoded(run, header)
    assert body.startswith(row["inline_text"])
    assert 65_533 <= len(row["inline_text"].encode()) <= 65_536
    assert "inline_fault" not in row


def test_a_body_without_a_final_block_is_whole_at_its_total_length(run: Run) -> None:
    content = deflated(b"hello", zlib.Z_SYNC_FLUSH)
    header = HEADER._replace(inline_content=content, compression=1, total_length=5)
    line, row = decoded(run, header)
    assert (row["inline_text"], row["inline_text_is_whole"]) == ("hello", True)
    assert f"inline_text='hello' (5 bytes, compressed to {len(content)})" in line


@pytest.mark.parametrize(
    ("content", "compression", "total_length", "text", "is_whole", "fault"),
    [
        (b"\xff", 0, None, None, None, "not valid UTF-8"),
        (b"h\xc3", 0, None, None, None, "not valid UTF-8"),
        (b"hello", 0, 6, "hello", True, "not as long as total_length says"),
        (b"hello", 7, None, None, None, "unknown compression"),
        (b"\xff\xff", 1, None, None, None, "not raw DEFLATE"),
        (deflated(b"\xff"), 1, None, None, None, "not valid UTF-8"),
        (deflated(b"hi", zlib.Z_SYNC_FLUSH), 1, 3, "hi", False, "the compressed body has no end"),
        (deflated(b"hi") + b"!", 1, 2, "hi", True, "bytes after the end of the compressed body"),
        (deflated(b"hi"), 1, 3, "hi", True, "not as long as total_length says"),
        (
            deflated(b"x" * 100_000),
            1,
            65_536,
            "x" * 65_536,
            False,
            "not as long as total_length says",
        ),
    ],
)
def test_what_is_wrong_with_an_inline_body_is_told(
    run: Run,
    content: bytes,
    compression: int,
    total_length: int | None,
    text: str | None,
    is_whole: bool | None,
    fault: str,
) -> None:
    header = HEADER._replace(
        inline_content=content, compression=compression, total_length=total_length
    )
    line, row = decoded(run, header)
    assert row.get("inline_text") == text
    assert row.get("inline_text_is_whole") == is_whole
    assert row["inline_fault"] == fault
    assert base64.b64decode(row["inline_content"]) == content
    if text is None:
        assert f"inline_content=({len(content)} bytes, {fault})" in line
    else:
        assert f", {fault}) compression=" in line


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (b"", "'' (0 bytes)"),
        ("é\n".encode(), "'é\\n' (3 bytes)"),
        (b"x" * 15_000, f"'{'x' * 48}'... (15000 bytes)"),
        (b"caf\xc3", "(4 bytes)"),
    ],
)
def test_a_chunk_is_text_where_it_can_be_read(run: Run, content: bytes, shown: str) -> None:
    line, row = decoded(run, StreamChunk("s", 3, content))
    assert f"chunk_index=3 content={shown} (" in line
    assert base64.b64decode(row["content"]) == content
    assert row["chunk_index"] == 3


def test_attributes_are_in_order_and_their_keys_cannot_reach_the_terminal(run: Run) -> None:
    header = HEADER._replace(attributes={"z": "1", "\x1b[31m": "2", "a": "3"}, is_text=False)
    line, row = decoded(run, header)
    assert "attributes={'\\x1b[31m'='2', a='3', z='1'}" in line
    assert "is_text" not in line
    assert list(row["attributes"]) == ["\x1b[31m", "a", "z"]


def test_kinds_that_are_not_read_have_their_name_in_json(run: Run) -> None:
    code, out, err = run("decode", "--json", "1200")
    assert (code, err) == (0, "")
    assert json.loads(out) == {
        "kind": "user",
        "size": 2,
        "sender_identity": "",
        "sender_sid": "",
        "destination_identities": [],
        "sequence": 0,
    }


def test_garbage_is_told_with_json_as_well(run: Run) -> None:
    code, out, err = run("decode", "--json", "zz", REQUEST.hex())
    assert code == 2
    assert json.loads(out)["method"] == "m"
    assert err.startswith("rpcproto: packet 1: not hex, and as base64 not a LiveKit data packet")
    assert err.count("\n") == 1


def test_the_packet_that_the_page_on_the_wire_shows_is_real(run: Run) -> None:
    page = (ROOT / "docs" / "wire.md").read_text("utf-8")
    [shown] = re.findall(r"^```text\n(stream header .*)\n```$", page, re.MULTILINE)
    _, out, _ = run("decode", *(vector.forwarded.hex() for vector in VECTORS))
    assert shown in out.splitlines()


def test_long_values_are_cut_and_control_characters_are_escaped(run: Run) -> None:
    # A request with the method ESC [ 31m and a payload of 1,000 letters.
    packet = b"\x0a\x02id\x12\x05\x1b[31m\x1a\xe8\x07" + b"x" * 1000
    code, out, _ = run("decode", (b"\x52" + b"\xf6\x07" + packet).hex())
    assert code == 0
    assert "method='\\x1b[31m'" in out
    assert f"payload='{'x' * 48}'... (1000 bytes)" in out
    assert "'' -> everyone" in out
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("hello!", "neither hex nor base64"),
        ("h\xe9llo", "neither hex nor base64"),
        ("zz", "not hex, and as base64 not a LiveKit data packet (1 byte of base64)"),
        ("deadbeef", "not a LiveKit data packet (4 bytes of hex or 6 bytes of base64)"),
        ("00", "not a LiveKit data packet (1 byte of hex or 1 byte of base64)"),
        ("", "it is empty"),
        (REQUEST.hex()[:-2], "not a LiveKit data packet"),
    ],
)
def test_garbage_is_told_on_standard_error_and_the_rest_is_printed(
    run: Run, text: str, why: str
) -> None:
    code, out, err = run("decode", text, REQUEST.hex())
    assert code == 2
    assert out == REQUEST_LINE + "\n"
    assert err.startswith(f"rpcproto: packet 1: {why}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00garbage", b"hello world\n"])
def test_garbage_from_standard_input_is_told(run: Run, content: bytes) -> None:
    code, out, err = run("decode", "-", stdin=content)
    assert (code, out) == (2, "")
    assert err.startswith("rpcproto: standard input")


def test_the_line_that_is_garbage_is_named(run: Run) -> None:
    code, _, err = run("decode", "-", stdin=f"{REQUEST.hex()}\nzz\n".encode())
    assert code == 2
    assert err.startswith("rpcproto: standard input, packet 2:")


@pytest.mark.parametrize(
    "arguments", [("decode",), ("decode", "--file", "/no/such/file"), ("dance",), ("demo", "-x")]
)
def test_wrong_usage_is_told_with_exit_code_2(run: Run, arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "Error" in err


# the command itself


def test_without_its_extra_the_command_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("rpcproto.cli.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(cli, "commands")
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert cli.main() == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "the package 'rich', which is not installed" in err
    assert "the extra 'cli'" in err


def test_another_module_that_is_missing_is_not_taken_for_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "rpcproto.cli.commands")
    monkeypatch.delattr(cli, "commands")
    monkeypatch.setitem(sys.modules, "rpcproto.cli.demo", None)
    assert cli.main() == 70
    assert capsys.readouterr().err.startswith("rpcproto: this installation is broken: ")
    monkeypatch.setenv("RPCPROTO_DEBUG", "1")
    with pytest.raises(ModuleNotFoundError):
        cli.main()


def test_the_package_is_a_command_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rpcproto", "decode", "zz"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "not a LiveKit data packet" in done.stderr


def test_what_the_output_cannot_show_is_escaped() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rpcproto", "decode", VECTORS[13].data.hex()],
        capture_output=True,
        check=False,
        env={"PYTHONIOENCODING": "ascii"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"my message \\xe9" in done.stdout


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no device without an end")
@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["replay", "/dev/zero"], "a line is longer than 134,217,728 characters"),
        (["trace", "/dev/zero"], "a line is longer than 134,217,728 characters"),
        (["decode", "--file", "/dev/zero"], "more than 67,108,864 bytes"),
        (["conform", "--exec", "true", "--baseline", "/dev/zero"], "more than 67,108,864 bytes"),
        (
            ["call", "--e2ee-passphrase-file", "/dev/zero", "--transport", "tcp://127.0.0.1:1",
             "--identity", "alice", "bob", "greet"],
            "more than 65,536 bytes",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)  # fmt: skip
def test_a_file_that_never_ends_is_told_and_fills_no_memory(
    arguments: list[str], what: str, run: Run
) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert f"/dev/zero: {what}\n" in err


def test_a_journal_is_not_read_on_once_it_is_none(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = itertools.repeat("y\n")
    monkeypatch.setattr(
        "rpcproto.cli.journals.TextIOWrapper",
        lambda *_: SimpleNamespace(readline=lambda _: next(endless)),
    )
    code, out, err = run("replay", "-")
    assert (code, out) == (2, "")
    assert "line 1: this is not the beginning of a journal" in err
