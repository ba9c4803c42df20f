"""One connection to a testee over the wire, from the hello to the end."""

import json
import signal
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from rpcproto.conformance import program
from rpcproto.conformance.attachment import Facts
from rpcproto.extras import extra
from rpcproto.transports.framing import BadPeer, FrameReader, frame

with extra("cli", __name__):
    import anyio
    import anyio.lowlevel
    from anyio.abc import ByteStream, Process

MAX_FRAME_BYTES: Final = 1 << 20
"""The largest frame that is taken from a testee; what is over 64,000 bytes is a case's business."""
ENDING_TIME: Final = 2.0
"""How long a process may take to end once its standard input has ended, in seconds."""
_CONTROL: Final = ord("{")
_BATCH: Final = 65_536
_BROKEN: Final = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)
"""How a stream says that it has ended."""
_NOTHING: Final[Callable[..., None]] = lambda *_: None  # noqa: E731


class Session(ABC):
    """Frames out, frames in. `read` and `write` run as tasks until the end."""

    def __init__(self) -> None:
        self.facts: Facts | None = None
        """The testee's hello, once it has come."""
        self.ended: str = ""
        """Why the connection has ended; empty before."""
        self.told: anyio.Event = anyio.Event()
        """Set, and replaced, whenever something has come that is not a packet."""
        self.finished: anyio.Event = anyio.Event()
        """Set when nothing is read any more."""
        self.now: float | None = None
        """The last answer to `now`."""
        self.on_packet: Callable[[bytes], None] = _NOTHING
        self.on_end: Callable[[str], None] = _NOTHING
        self._outgoing: deque[bytes] = deque()
        self._has_outgoing = anyio.Event()

    def send(self, data: bytes) -> None:
        """Send a frame after those before."""
        self._outgoing.append(frame(data))
        self._has_outgoing.set()

    def control(self, fields: dict[str, object]) -> None:
        """Send a control frame."""
        self.send(json.dumps(fields, separators=(",", ":")).encode())

    async def write(self) -> None:
        """Send what there is to send, until the connection ends."""
        try:
            while not self.ended:
                await self._has_outgoing.wait()
                self._has_outgoing = anyio.Event()
                while self._outgoing:
                    batch = self._outgoing.popleft()
                    while self._outgoing and len(batch) < _BATCH:
                        batch += self._outgoing.popleft()
                    await self._send(batch)
        except _BROKEN:
            return  # the reader sees the end

    async def read(self) -> None:
        """Take what comes until the connection ends, also what nobody wants any more."""
        try:
            await self._read_frames()
            with suppress(*_BROKEN):
                while True:
                    await self._receive()
        finally:
            self.finished.set()

    async def _read_frames(self) -> None:
        frames, received = FrameReader(), b""
        try:
            while True:
                received = await self._receive()
                frames.feed(received)
                while batch := frames.next_frames(MAX_FRAME_BYTES, 64, _BATCH):
                    for data in batch:
                        self._take(data)
                        if self.ended:
                            return
                    await anyio.lowlevel.checkpoint()
        except BadPeer as error:
            self.end(f"the testee sent {error}{_printed(received)}")
        except _BROKEN:
            if not self.ended:
                self.end(await self._how_it_ended())

    def end(self, reason: str) -> None:
        """The connection is of no use any more."""
        if self.ended:
            return
        self.ended = reason
        self._has_outgoing.set()
        self._wake()
        self.on_end(reason)

    async def close(self) -> None:
        """End the connection, and what is behind it. Nothing is called after this."""
        self.on_packet = self.on_end = _NOTHING
        self.ended = self.ended or "the suite has closed it"
        self._has_outgoing.set()
        await self._close()

    def take_errors(self) -> str:
        """What came on standard error since this was last asked."""
        return ""

    def _take(self, data: bytes) -> None:
        if data[0] != _CONTROL:
            if self.facts is None:
                raise BadPeer("a packet before its hello")
            self.on_packet(data)
            return
        try:
            fields = json.loads(data)
        except (ValueError, RecursionError):
            raise BadPeer("a frame that begins with '{' and is not JSON") from None
        if self.facts is None:
            self.facts = _facts(fields)
        elif _is_number(fields.get("now")):
            self.now = float(fields["now"])
        self._wake()

    def _wake(self) -> None:
        self.told.set()
        self.told = anyio.Event()

    @abstractmethod
    async def _send(self, data: bytes) -> None: ...

    @abstractmethod
    async def _receive(self) -> bytes: ...

    @abstractmethod
    async def _how_it_ended(self) -> str: ...

    @abstractmethod
    async def _close(self) -> None: ...


def _facts(fields: dict[str, object]) -> Facts:
    """A testee's hello. Raises BadPeer."""
    if fields.get("rpcproto") != 1:
        raise BadPeer('a first frame that is no hello of version 1 ({"rpcproto": 1, ...})')
    identity, client_protocol = fields.get("identity"), fields.get("client_protocol")
    capabilities = fields.get("capabilities", [])
    if not isinstance(identity, str) or not identity:
        raise BadPeer("a hello without an identity")
    if client_protocol is None:
        raise BadPeer("a hello without a client_protocol, which is 0, 1 or 2")
    if not (_is_number(client_protocol) and client_protocol in (0, 1, 2)):
        raise BadPeer("a hello whose client_protocol is none of 0, 1 and 2")
    if not (isinstance(capabilities, list) and all(map(_is_number, capabilities))):
        raise BadPeer("a hello whose capabilities are no list of numbers")
    return Facts(
        identity,
        int(client_protocol),
        tuple(map(int, capabilities)),
        fields.get("virtual_time") is True,
        fields.get("e2ee") is True,
    )


def _printed(data: bytes) -> str:
    """What to say of bytes that are no frame, but could be text."""
    head = data[:4]
    if len(head) == 4 and all(32 <= byte < 127 for byte in head):
        return "; is that text? Only frames may be written to standard output"
    if 0 < int.from_bytes(head, "little") <= MAX_FRAME_BYTES:
        return "; is that length little-endian? It must be big-endian"
    return ""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class ProcessSession(Session):
    """A process of the suite: its standard input and output."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._process = process
        self._stdin, self._stdout, self._stderr = process.stdin, process.stdout, process.stderr
        self._errors = program.Tail()

    async def read_errors(self) -> None:
        """Keep the end of standard error, and let the process never wait for it."""
        with suppress(*_BROKEN):
            while True:
                self._errors.add(await self._stderr.receive())

    def take_errors(self) -> str:
        return self._errors.take()

    async def _send(self, data: bytes) -> None:
        await self._stdin.send(data)

    async def _receive(self) -> bytes:
        return await self._stdout.receive()

    async def _how_it_ended(self) -> str:
        with anyio.move_on_after(ENDING_TIME):
            code = await self._process.wait()
            program.kill(self._process)  # what it has started
            if code >= 0:
                return f"the testee ended with exit code {code}"
            return f"the testee was ended by signal {-code} ({signal.Signals(-code).name})"
        return "the testee closed its standard output"

    async def _close(self) -> None:
        with suppress(*_BROKEN):
            await self._stdin.aclose()
        await program.end(self._process, ENDING_TIME)
        with anyio.move_on_after(ENDING_TIME):
            await self.finished.wait()
        for stream in (self._stdout, self._stderr):
            with suppress(*_BROKEN):
                await stream.aclose()


class TcpSession(Session):
    """A connection to a testee that listens."""

    def __init__(self, stream: ByteStream) -> None:
        super().__init__()
        self._stream = stream

    async def _send(self, data: bytes) -> None:
        await self._stream.send(data)

    async def _receive(self) -> bytes:
        return await self._stream.receive()

    async def _how_it_ended(self) -> str:
        return "the testee closed the connection"

    async def _close(self) -> None:
        with suppress(*_BROKEN):
            await self._stream.aclose()
