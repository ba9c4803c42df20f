"""The testee as a participant of a LiveKit room, which the suite's own room server serves."""

import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Self

from rpcproto.conformance import program
from rpcproto.conformance.attachment import Attachment, Encryption, Facts, Member, NoTestee
from rpcproto.extras import extra

with extra("conformance", __name__):
    import anyio
    from anyio.abc import Process, TaskGroup
    from livekit.protocol.models import DisconnectReason, ParticipantInfo
    from livekit.protocol.rtc import LeaveRequest

    from rpcproto.conformance import routing
    from rpcproto.conformance.room_server import RoomServer
    from rpcproto.livekit.tokens import access_token

JOIN_TIMEOUT: Final = 60.0
"""How long a testee that the suite has started may take to join, in seconds."""
RETURN_TIMEOUT: Final = 15.0
"""How long a testee may be out of the room before it counts as ended, in seconds."""
ENDING_TIME: Final = 3.0
KEY, SECRET = "devkey", "a-secret-of-at-least-thirty-two-characters"


class _Room(routing.Room):
    """A room whose testee speaks to the suite alone."""

    testee = ""
    """Its identity."""
    on_packet: Callable[[bytes], None] = staticmethod(lambda data: None)

    def carry(self, sender: routing.Member, data: bytes) -> None:
        if sender.info.identity == self.testee and self.members.get(self.testee) is sender:
            self.on_packet(data)

    def hand(self, data: bytes) -> None:
        """Give the testee a packet as it is; it is dropped if the testee is not here."""
        if (member := self.members.get(self.testee)) is not None:
            member.take_packet(data)


class _Played:
    """A participant that the suite plays, as the room sees it."""

    def __init__(self, member: Member) -> None:
        self.info = routing.info_of(*member)

    def take_packet(self, data: bytes) -> None: ...

    def take_update(self, info: ParticipantInfo) -> None: ...

    def put_out(self, reason: DisconnectReason) -> None: ...


class RoomAttachment(Attachment):
    """asyncio only. The suite starts the testee with LIVEKIT_URL and LIVEKIT_TOKEN, or waits for
    one that somebody else starts."""

    has_late_news = True

    def __init__(
        self,
        command: str | None,
        identity: str,
        timeout_scale: float = 1.0,
        *,
        invite: Callable[[str, str], None] = lambda url, token: None,
    ) -> None:
        """Without a `command`, `invite` is given the URL and the token for the testee, who may take
        as long as it likes. Patience is multiplied by `timeout_scale`. Raises ValueError for quotes
        that do not end, and for an empty command."""
        super().__init__()
        self._command = None if command is None else program.split(command)
        self._identity = identity
        self._scale = timeout_scale
        self._invite = invite
        self._server = RoomServer(new_room=_Room)
        self._rooms = 0
        self._room: _Room | None = None
        self._members: dict[str, _Played] = {}
        self._process: Process | None = None
        self._errors = program.Tail()
        self._ended = anyio.Event()
        self._reason = ""
        self._tasks: TaskGroup

    async def __aenter__(self) -> Self:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        await self._server.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        with anyio.CancelScope(shield=True):
            await self.stop()
            await self._server.aclose()
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(None, None, None)

    # the seam

    async def start(self, encryption: Encryption | None = None) -> Facts:
        await self.stop()
        self._rooms += 1
        self._ended, self._reason = anyio.Event(), ""
        name = f"conform-{self._rooms}"
        room = self._server.room(name)
        assert isinstance(room, _Room)
        self._room = room
        room.testee = self._identity
        token = access_token(KEY, SECRET, name, self._identity)
        if self._command is None:
            self._invite(self._server.url, token)
        else:
            await self._run(self._command, token, encryption)
        info = await self._testee(room)
        room.on_packet = self.on_packet
        self._tasks.start_soon(self._watch, room)
        return Facts(
            self._identity,
            info.client_protocol,
            tuple(int(number) for number in info.capabilities),
            # Nothing tells before it is given a passphrase.
            can_encrypt=self._command is not None,
        )

    def send(self, data: bytes) -> None:
        if self._room is not None:
            self._room.hand(data)

    async def announce(self, member: Member) -> None:
        if self._room is not None:
            # A replaced session is not reported, unless the case says that it has left.
            self._room.members.pop(member.identity, None)
            played = self._members[member.identity] = _Played(member)
            self._room.join(played)

    async def dismiss(self, member: Member) -> None:
        played = self._members.get(member.identity)
        if self._room is None or played is None:
            return
        if played.info.sid == member.sid:
            del self._members[member.identity]
            self._room.leave(played)
        else:  # late news of an older session
            old = _Played(member).info
            old.state = ParticipantInfo.DISCONNECTED
            self._room.announce(old)

    async def set_now(self, now: float) -> None:
        raise RuntimeError("a testee in a room has no virtual time")

    async def stop(self) -> None:
        room, self._room = self._room, None
        if room is not None:
            room.on_packet = lambda data: None
            self._members = {}
            self._server.send_away(room, self._identity, LeaveRequest.DISCONNECT)
        process, self._process = self._process, None
        if process is not None:
            await program.end(process, ENDING_TIME)
            await process.aclose()
        self._end("the suite has ended it", tells=False)

    def give_up(self, reason: str) -> None:
        self._end(reason)

    def take_errors(self) -> str:
        return self._errors.take()

    # within

    async def _run(self, command: list[str], token: str, encryption: Encryption | None) -> None:
        given = {"LIVEKIT_URL": self._server.url, "LIVEKIT_TOKEN": token}
        if encryption is not None:
            given["CONFORM_E2EE_PASSPHRASE"] = encryption.passphrase
            given["CONFORM_E2EE_KEY_INDEX"] = str(encryption.key_index)
        process = self._process = await program.start(
            command,
            environment=os.environ | given,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        )
        self._tasks.start_soon(self._follow, process)

    async def _follow(self, process: Process) -> None:
        """Keep the end of what it prints, and see it end."""
        assert process.stdout is not None
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            while True:
                self._errors.add(await process.stdout.receive())
        code = await process.wait()
        program.kill(process)
        if process is self._process:
            how = f"with exit code {code}" if code >= 0 else f"by signal {-code}"
            self._end(f"the testee ended {how}")

    async def _testee(self, room: _Room) -> ParticipantInfo:
        limit = None if self._command is None else JOIN_TIMEOUT * self._scale
        async with anyio.create_task_group() as tasks:

            async def end() -> None:
                await self._ended.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(end)
            with anyio.move_on_after(limit):
                await room.wait_until(lambda: room.is_ready(self._identity))
            tasks.cancel_scope.cancel()
        if room.is_ready(self._identity):
            return room.members[self._identity].info
        reason, errors = self._reason, self.take_errors()
        await self.stop()
        reason = reason or f"the testee did not join the room within {limit:g} s"
        raise NoTestee(f"{reason}\n{errors}".strip())

    async def _watch(self, room: _Room) -> None:
        """See it leave for good."""
        while room is self._room and not self._ended.is_set():
            await room.wait_until(lambda: not room.is_ready(self._identity))
            with anyio.move_on_after(RETURN_TIMEOUT * self._scale) as waiting:
                await room.wait_until(lambda: room.is_ready(self._identity))
            if waiting.cancelled_caught and room is self._room:
                self._end("the testee has left the room")

    def _end(self, reason: str, *, tells: bool = True) -> None:
        if not self._ended.is_set():
            self._reason = reason
            self._ended.set()
            if tells:
                self.on_end(reason)
