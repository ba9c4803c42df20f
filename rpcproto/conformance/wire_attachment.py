"""The testee as a process on two pipes, or behind a TCP connection: see docs/conformance.md."""

from abc import abstractmethod
from typing import Final, Self

from rpcproto.conformance import program
from rpcproto.conformance.attachment import (
    HELLO_TIMEOUT,
    Attachment,
    Encryption,
    Facts,
    Member,
    NoTestee,
)
from rpcproto.conformance.wire_session import ProcessSession, Session, TcpSession
from rpcproto.extras import extra
from rpcproto.transports.connecting import reason_of

with extra("cli", __name__):
    import anyio
    from anyio.abc import TaskGroup

_CLOCK_TIMEOUT: Final = 10.0
"""How long a testee may take to set its clock, in seconds."""
_CONNECT_TIMEOUT: Final = 10.0


class WireAttachment(Attachment):
    """Frames on a byte stream; where that comes from is in the subclasses."""

    def __init__(self, identity: str, timeout_scale: float = 1.0) -> None:
        """The testee is told `identity`; patience is multiplied by `timeout_scale`."""
        super().__init__()
        self._identity = identity
        self._scale = timeout_scale
        self._session: Session | None = None
        self._tasks: TaskGroup

    async def __aenter__(self) -> Self:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        with anyio.CancelScope(shield=True):
            await self.stop()
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(None, None, None)

    async def start(self, encryption: Encryption | None = None) -> Facts:
        await self.stop()
        session = self._session = await self._open(self._tasks)
        session.control(self._hello(encryption))
        self._tasks.start_soon(session.write)
        self._tasks.start_soon(session.read)
        with anyio.move_on_after(HELLO_TIMEOUT * self._scale):
            while session.facts is None and not session.ended:
                await session.told.wait()
        facts, reason, errors = session.facts, session.ended, session.take_errors()
        if facts is None:
            await self.stop()
            reason = reason or f"the testee sent no hello within {HELLO_TIMEOUT * self._scale:g} s"
            raise NoTestee(f"{reason}\n{errors}".strip())
        if facts.identity != self._identity:
            await self.stop()
            raise NoTestee(
                f"the testee is {facts.identity!r} in its hello, not {self._identity!r}, which the "
                'suite told it in "you"'
            )
        session.on_packet, session.on_end = self.on_packet, self.on_end
        return facts

    def _hello(self, encryption: Encryption | None) -> dict[str, object]:
        hello: dict[str, object] = {
            "rpcproto": 1,
            "identity": "suite",
            "client_protocol": 2,
            "capabilities": [2],
            "conform": 1,
            "you": self._identity,
        }
        return hello if encryption is None else hello | {"e2ee": encryption._asdict()}

    @abstractmethod
    async def _open(self, tasks: TaskGroup) -> Session:
        """Reach a testee. Raises NoTestee."""

    def send(self, data: bytes) -> None:
        if self._session is not None:
            self._session.send(data)

    async def announce(self, member: Member) -> None:
        if self._session is not None:
            self._session.control({"joined": member._asdict()})

    async def dismiss(self, member: Member) -> None:
        if self._session is not None:
            self._session.control({"left": {"identity": member.identity, "sid": member.sid}})

    async def set_now(self, now: float) -> None:
        session = self._session
        if session is None:
            return
        session.now = None
        session.control({"now": now})
        with anyio.fail_after(_CLOCK_TIMEOUT * self._scale):
            while session.now != now and not session.ended:
                await session.told.wait()

    async def stop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def give_up(self, reason: str) -> None:
        if self._session is not None:
            self._session.end(reason)

    def take_errors(self) -> str:
        return "" if self._session is None else self._session.take_errors()


class ProcessAttachment(WireAttachment):
    """The suite starts the testee, and speaks over its standard input and output."""

    def __init__(self, command: str, identity: str, timeout_scale: float = 1.0) -> None:
        """`command` is split as a POSIX shell splits it; no shell runs it. Raises ValueError for
        quotes that do not end, and for an empty command."""
        super().__init__(identity, timeout_scale)
        self._command = program.split(command)

    async def _open(self, tasks: TaskGroup) -> Session:
        session = ProcessSession(await program.start(self._command))
        tasks.start_soon(session.read_errors)
        return session


class TcpAttachment(WireAttachment):
    """The testee listens; the suite connects to it, anew for each start."""

    def __init__(self, host: str, port: int, identity: str, timeout_scale: float = 1.0) -> None:
        super().__init__(identity, timeout_scale)
        self._host = host
        self._port = port

    async def _open(self, tasks: TaskGroup) -> Session:
        where = f"{self._host}:{self._port}"
        try:
            with anyio.fail_after(_CONNECT_TIMEOUT * self._scale):
                return TcpSession(await anyio.connect_tcp(self._host, self._port))
        except TimeoutError:
            raise NoTestee(f"cannot connect to {where}: no answer") from None
        except OSError as error:
            raise NoTestee(f"cannot connect to {where}: {reason_of(error)}") from None
