"""The command line: what it prints, where, and with which exit code."""

import base64
import io
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from official_packets import VECTORS
from rich.console import Console

from rpcproto import cli
from rpcproto.cli import commands
from rpcproto.cli.demo import SCENES, Scene, play
from rpcproto.cli.lifelines import ASCII, BOXES, Arrow, Note, draw

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


def demo(width: int = 80, encoding: str = "utf-8") -> str:
    """What the demo draws where the output is no terminal."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    assert play(Console(file=file, width=width, highlight=False))
    file.seek(0)
    return file.read()


def scene(drawn: str, number: int) -> str:
    """One scene of the demo, from its title to the next."""
    pattern = rf"^{number}\. .*?(?=^{number + 1}\. |^\d of )"
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
    assert demo() == demo()


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
    assert "8 of 8 calls ended as they should" in out
    assert logger.handlers == before
    assert logger.propagate


def test_an_outcome_that_is_not_the_expected_one_is_told_and_makes_the_demo_fail(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = (Scene("A wrong guess", "bob", "greet", "", "Goodbye"), *SCENES[1:3])
    monkeypatch.setattr(play, "__defaults__", (wrong,))
    code, out, _ = run("demo")
    assert code == 1
    assert "expected Goodbye, but it ended with Hello, alice!" in out
    assert "2 of 3 calls ended as they should" in out


def test_ctrl_c_leaves_quietly(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(console: Console) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "play", interrupted)
    code, out, err = run("demo")
    assert (code, out, err.strip()) == (130, "", "")


# the diagram


def drawn(
    *rows: Arrow | Note, names: tuple[str, ...] = ("a", "b", "c"), width: int = 50
) -> list[str]:
    return [line.plain for line in draw(names, rows, width, ASCII)]


def test_arrows_cross_the_lifelines_between_their_ends() -> None:
    assert drawn(Arrow(1.5, "a", "c", "over", ""), Arrow(2.0, "c", "a", "back", "")) == [
        "            a             b             c",
        "   1.500 s  |---------- over ---------->|",
        "   2.000 s  |<--------- back -----------|",
    ]


def test_a_packet_that_got_lost_ends_in_a_cross() -> None:
    assert drawn(Arrow(1.0, "b", "c", "gone", "", arrives=False))[1] == (
        "   1.000 s  |             |--- gone ---x|"
    )


def test_notes_are_wrapped_before_the_next_lifeline() -> None:
    assert drawn(Note(1.0, "b", "one two three four", ""))[1:] == [
        "   1.000 s  |             * one two     |",
        "            |             | three four  |",
    ]


def test_labels_that_are_too_long_are_cut() -> None:
    assert drawn(Arrow(1.0, "a", "b", "x" * 40, ""))[1] == (
        "   1.000 s  |- xxxxxxxxx >|             |"
    )


def test_both_sets_of_glyphs_take_one_column_each() -> None:
    assert all(len(glyph) == 1 for glyph in (*BOXES, *ASCII))


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
        ("stream chunk ", ["chunk_index=0", "content=68656c6c6f"]),
        ("stream trailer ", ["stream_id='a4dcc36f-aee0-46e4-b705-28190aa3fa67'"]),
    ],
)
def test_every_kind_shows_its_fields(run: Run, kind: str, parts: list[str]) -> None:
    _, out, _ = run("decode", *(vector.data.hex() for vector in VECTORS))
    assert any(
        line.startswith(kind) and all(part in line for part in parts) for line in out.splitlines()
    )


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
        ("zz", "not a LiveKit data packet"),
        ("deadbeef", "not a LiveKit data packet"),
        ("00", "not a LiveKit data packet"),
        ("", "not a LiveKit data packet"),
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
    assert "pip install 'rpcproto[cli]'" in err


def test_another_module_that_is_missing_is_not_taken_for_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "rpcproto.cli.commands")
    monkeypatch.delattr(cli, "commands")
    monkeypatch.setitem(sys.modules, "rpcproto.cli.demo", None)
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
