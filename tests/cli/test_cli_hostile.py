"""Nothing that others have made gives orders to the terminal on which a command runs."""

import asyncio
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from profiles import choose
from test_cli_calls import GUARD, RPCPROTO, environment

from rpcproto import LocalProtocolError, RpcError, cli, wire
from rpcproto.asyncio import RpcParticipant
from rpcproto.participant import RpcInvocationData
from rpcproto.recording import Journal
from rpcproto.testing import counting_ids
from rpcproto.transports.stream import StreamTransport, connect_unix, listen_unix, serve

ORDERS = "\x1b]0;mine\x07\x1b[2J\r\n\x9b31m\x85\u2028\u202e\x00\x7f\ue000"
TEXTS = st.text(st.sampled_from(ORDERS + "a0;[] é🙂") | st.characters(codec="utf-8"), max_size=40)
NAMES = TEXTS.filter(lambda text: 0 < len(text.encode()) <= 60)
hostile = settings(max_examples=choose(fast=15, deep=200, night=2_000))


def assert_printable(shown: str, *others: str) -> None:
    """Nothing but printable characters and line breaks, and `others`."""
    orders = {letter for letter in shown if not letter.isprintable()} - {"\n", *others}
    assert not orders, shown


class Terminal:
    """A pseudo-terminal that passes everything on as it is, and what has come to it."""

    def __init__(self) -> None:
        self._ours, self.end = pty.openpty()
        tty.setraw(self.end)
        self._shown = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        with suppress(OSError):  # how a terminal ends
            while piece := os.read(self._ours, 65_536):
                self._shown += piece

    def close(self) -> str:
        """Close our end of it; returns what has been shown once all others have done so."""
        os.close(self.end)
        self._reader.join()
        os.close(self._ours)
        return self._shown.decode()


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("COLUMNS", raising=False)


def on_a_terminal(*arguments: str) -> tuple[int, str]:
    """Run a command here, with a terminal for its output."""
    terminal = Terminal()
    streams = sys.argv, sys.stdout, sys.stderr
    with open(terminal.end, "w", encoding="utf-8", closefd=False) as file:
        sys.argv, sys.stdout, sys.stderr = ["rpcproto", *arguments], file, file
        try:
            code = cli.main()
        finally:
            sys.argv, sys.stdout, sys.stderr = streams
    return code, terminal.close()


# packets and journals that somebody else has made


@given(TEXTS, TEXTS)
@example(ORDERS, ORDERS)
@hostile
def test_decode_shows_packets_of_others_in_printable_characters(name: str, text: str) -> None:
    header = wire.StreamHeader("s" + text, text, {name: text}, None, 0, text.encode())
    for message in (
        wire.Request(text, text, text, 8_000),
        wire.Ack(text),
        wire.Response(text, text),
        wire.ErrorResponse(text, 7, text, text),
        header,
        wire.StreamChunk(text, 0, text.encode()),
        wire.StreamTrailer(text, text),
    ):
        packet = wire.stamp(wire.encode(message, name, text), sender_sid=text)
        for options in ((), ("--json",)):
            code, shown = on_a_terminal("decode", *options, packet.hex())
            assert code in (0, 2)  # without any text, it is no packet
            assert_printable(shown)
    code, shown = on_a_terminal("decode", "--file", "/no/" + name.replace("\0", "") + "\x1b[2J")
    assert code == 2
    assert_printable(shown, "\t")


def recorded(name: str, method: str, text: str) -> list[str]:
    """A journal of two engines whose names and texts are hostile."""
    lines: list[str] = []
    journal = Journal(lines.append)
    alice = journal.engine("alice", new_id=counting_ids("a"))
    bob = journal.engine(name, new_id=counting_ids("b"))
    alice.participant_joined(name, now=0.0, client_protocol=0, participant_sid=text)
    bob.register_method(method)
    alice.call(name, method, text, now=1.0)
    while packet := alice.next_packet():
        bob.receive_packet(packet.data, now=1.5, sender_identity="alice", sender_sid=text)
    [received] = bob.take_events()
    with suppress(LocalProtocolError):
        bob.respond_error(received.invocation_id, 7, text, text, now=2.0)  # type: ignore[union-attr]
    while packet := bob.next_packet():
        alice.receive_packet(packet.data, now=2.5, sender_identity=name)
    alice.take_events()
    with suppress(LocalProtocolError):
        alice.call(name, "x" * 65, text, now=3.0)
    alice.receive_packet(text.encode(), now=3.0, sender_identity=name)
    alice.close(now=4.0)
    return lines


@given(NAMES.filter(lambda name: name != "alice"), NAMES, TEXTS)
@example(ORDERS, ORDERS, ORDERS)
@hostile
def test_replay_and_trace_show_journals_of_others_in_printable_characters(
    name: str, method: str, text: str
) -> None:
    lines = recorded(name, method, text)
    changed = [json.loads(line) for line in lines]
    changed[0]["rpcproto"] = changed[0]["zlib"] = text
    for line in changed[2:]:
        if isinstance(line[-1], dict) and "raised" in line[-1]:
            line[-1]["raised"] = text + ORDERS
    changed[-1][2] = [99.5]
    with TemporaryDirectory() as directory:
        one, two = Path(directory, "one.jsonl"), Path(directory, "two.jsonl")
        one.write_text("".join(lines), "ascii")
        two.write_text("".join(json.dumps(line) + "\n" for line in changed), "ascii")
        odd = Path(directory, "odd.jsonl")
        odd.write_text(f"{lines[0]}{json.dumps([1, text + ORDERS, [text], text])}\n", "ascii")
        for arguments in (
            ("replay", str(one)),
            ("replay", str(two)),
            ("replay", str(one), str(two)),
            ("replay", str(odd)),
            ("trace", str(one)),
            ("trace", str(two)),
            ("trace", str(odd)),
            ("trace", str(two), "--svg", "-"),
        ):
            code, shown = on_a_terminal(*arguments)
            assert code in (0, 1, 2), shown
            assert_printable(shown)


TESTEE = """
import sys
sys.stderr.write({text!r} + "\\n")
sys.stderr.flush()
sys.stdout.buffer.write({text!r}.encode())
sys.exit({code})
"""


@pytest.mark.parametrize("code", [0, 3])
def test_conform_shows_what_a_testee_says_in_printable_characters(
    code: int, tmp_path: Path
) -> None:
    testee = tmp_path / "testee.py"
    testee.write_text(TESTEE.format(text=ORDERS, code=code), "utf-8")
    command = shlex.join([sys.executable, str(testee)])
    got, shown = on_a_terminal("conform", "--exec", command, "--only", "RPC-1.1")
    assert got in (1, 2)
    assert_printable(re.sub(r"\x1b\[(\?25[lh]|2K|1A)|\r", "", shown))


# participants that are not to be trusted


@contextmanager
def serving(path: Path, identity: str, text: str) -> Iterator[None]:
    """A participant that answers with hostile texts, in a thread."""

    async def handle(transport: StreamTransport) -> None:
        async with RpcParticipant(transport) as participant:

            @participant.register_rpc_method("answer")
            def answer(data: RpcInvocationData) -> str:
                return text

            @participant.register_rpc_method("fail")
            def fail(data: RpcInvocationData) -> str:
                raise RpcError(2001, text, text)

            await transport.wait_closed()

    async def main() -> None:
        async with listen_unix(path) as listener:
            serving = asyncio.create_task(serve(listener, identity, handle))
            is_up.set()
            await is_over.wait()
            serving.cancel()
            await asyncio.wait([serving])

    loop, is_over, is_up = asyncio.new_event_loop(), asyncio.Event(), threading.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=[main()])
    thread.start()
    try:
        assert is_up.wait(GUARD)
        yield
    finally:
        loop.call_soon_threadsafe(is_over.set)
        thread.join()
        loop.close()


@given(NAMES, TEXTS)
@example(ORDERS, ORDERS)
@hostile
def test_call_and_bench_show_what_others_answer_in_printable_characters(
    identity: str, text: str
) -> None:
    with TemporaryDirectory() as directory, serving(Path(directory, "s"), identity, text):
        calling = ("call", "--transport", f"unix:{directory}/s", "--identity", "alice")
        call = (*calling, "--", identity)
        for code, arguments in (
            (0, (*call, "answer")),
            (0, (*calling, "--json", "--", identity, "answer")),
            (0, (*calling, "--trace", "--", identity, "answer")),
            (1, (*call, "fail")),
            (1, (*calling, "--trace", "--", identity, "fail")),
            (1, (*calling, "--json", "--", identity, "fail")),
            (1, (*calling, "nobody", "answer")),
        ):
            got, shown = on_a_terminal(*arguments)
            assert got == code, shown
            assert_printable(shown, "\t")
        bench = ("bench", "--transport", f"unix:{directory}/s", "--calls", "1", "--method")
        for method in ("answer", "fail"):
            _, shown = on_a_terminal(*bench, method)
            # The bar itself moves the cursor.
            assert_printable(re.sub(r"\x1b\[(\?25[lh]|2K|1A)|\r", "", shown))


@pytest.fixture(scope="module")
def say_it() -> Iterator[Callable[[str, str, str], None]]:
    """Makes calls with hostile texts to one `rpcproto serve -v` on a terminal."""
    terminal = Terminal()
    with TemporaryDirectory() as directory:
        Path(directory, "raising.py").write_text(
            "from rpcproto import RpcError\n\n"
            "def crash(data):\n    raise type(data.payload[:9] or 'E', (Exception,), {})"
            "(data.payload)\n\n"
            "def fail(data):\n    raise RpcError(2001, data.payload, data.payload)\n",
            "utf-8",
        )
        url = f"unix:{directory}/bob"
        serve = ["serve", "-v", "--transport", url, "--identity", "bob"]
        process = subprocess.Popen(
            [*RPCPROTO, *serve, "raising:crash", "raising:fail"],
            stdout=terminal.end,
            stderr=terminal.end,
            cwd=directory,
            env=environment(),
        )
        while not Path(directory, "bob").exists():
            assert process.poll() is None

        async def calls(identity: str, method: str, text: str) -> None:
            transport = await connect_unix(f"{directory}/bob", identity)
            async with RpcParticipant(transport) as us:
                for each in ("echo", "crash", "fail", method):
                    with suppress(RpcError):
                        await us.perform_rpc(destination_identity="bob", method=each, payload=text)

        yield lambda *texts: asyncio.run(calls(*texts))
        process.send_signal(signal.SIGTERM)
        assert process.wait(GUARD) == 0
    shown = terminal.close()
    assert "raising.py" in shown  # tracebacks
    assert_printable(shown)


@given(NAMES.filter(lambda name: name != "bob"), NAMES, TEXTS)
@example(ORDERS, ORDERS, ORDERS)
@hostile
def test_serve_shows_callers_and_tracebacks_in_printable_characters(
    say_it: Callable[[str, str, str], None], identity: str, method: str, text: str
) -> None:
    say_it(identity, method, text)  # what was shown is looked at when it ends
