"""The suite's end of the seam: who is played, what time it is, where each packet goes."""

import json
import time
from collections.abc import Callable
from typing import Final, TypeVar

from rpcproto.conformance.attachment import Attachment, Encryption, Facts, Member
from rpcproto.conformance.case import Unmet
from rpcproto.conformance.participant import Participant
from rpcproto.conformance.writing import new_id
from rpcproto.core.sealing import Cryptor
from rpcproto.e2ee import AesGcmCryptor, derive_key
from rpcproto.extras import extra
from rpcproto.wire import Packet, decode

with extra("cli", __name__):
    import anyio

T = TypeVar("T")

PATIENCE: Final = 8.0
"""How long something that must come may take on real time, and an echo, in seconds."""
SOON: Final = 0.3
"""After so many seconds without it, an echo is asked for: is the testee that far?"""
MOMENT: Final = 0.5
"""How long after such an echo something that must come may still come, in seconds."""
QUIET: Final = 0.03
"""How long after an echo nothing more may come, in seconds; longer where the echo took longer."""
ECHOES: Final = 3
"""So many times as long as an echo took, up to MAX_QUIET, is a quiet moment of a busy machine."""
MAX_QUIET: Final = 0.3
"""In seconds."""
EARLY: Final = 0.3
"""How much too early something may come on real time, in seconds."""
LATE: Final = 2.0
"""How much too late something may come on real time, in seconds."""
STEP: Final = 0.25
"""Virtual time goes on by so many seconds at once."""
MAX_PACKETS: Final = 20_000
"""More packets than these during one case are a flood."""


class Deaf(Unmet):
    """The testee does not even answer an echo."""


class TesteeDied(Exception):  # noqa: N818
    """The testee has ended, or is of no use any more; the text says how."""


class Stage:
    """All participants that the suite plays for one testee, through one attachment."""

    def __init__(self, attachment: Attachment, timeout_scale: float = 1.0) -> None:
        """Patience and tolerances on real time are multiplied by `timeout_scale`."""
        self.attachment = attachment
        self.scale = timeout_scale
        self.facts: Facts = Facts("testee", 0)
        """What the testee says of itself."""
        self.encryption: Encryption | None = None
        self._key: bytes | None = None
        self.ended: str = ""
        """How the testee ended, if it has."""
        self.packets: int = 0
        """How many packets have come since the testee was started."""
        self.unreadable: list[bytes] = []
        """Packets that cannot be read, or have nobody to go to."""
        self._participants: dict[str, Participant] = {}
        self._numbers = 0
        self._virtual_now = 0.0
        self._came = anyio.Event()
        self._bystander: Participant | None = None
        self._is_deaf = False
        """Whether an echo was missed during this case, so that news waits for none."""
        self._flood_at = MAX_PACKETS
        attachment.on_packet = self._receive
        attachment.on_end = self._end

    async def start(self, encryption: Encryption | None = None) -> Facts:
        """Start the testee, or start it again. Raises NoTestee."""
        self.ended, self.packets, self._virtual_now = "", 0, 0.0
        self._flood_at = MAX_PACKETS
        self._bystander = None
        self.encryption = encryption
        self._key = None if encryption is None else derive_key(encryption.passphrase)
        self.facts = await self.attachment.start(encryption)
        return self.facts

    # time

    @property
    def is_virtual(self) -> bool:
        """Whether the testee has virtual time."""
        return self.facts.has_virtual_time

    @property
    def now(self) -> float:
        """The time in seconds, of whichever clock."""
        return self._virtual_now if self.is_virtual else time.monotonic()

    @property
    def tolerance(self) -> float:
        """How much too late something may come, in seconds."""
        return STEP if self.is_virtual else LATE * self.scale

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        if not self.is_virtual:
            await anyio.sleep(seconds)
            self.check_alive()
            return
        end = self._virtual_now + seconds
        while self._virtual_now < end:
            self._virtual_now = min(self._virtual_now + max(STEP, seconds / 200), end)
            await self._set_now()

    async def settle(self, within: float = PATIENCE) -> None:
        """Return when the testee has done all that it does now about what it was sent, which may
        take so many seconds on real time."""
        self.check_alive()
        if self.is_virtual:
            await self._set_now()
            return
        bystander = self._bystander or await self._meet_bystander()
        asked = self.now
        request = bystander.request("conform.echo", "are you that far?")
        found = await self._wait(lambda: bystander.has_outcome(request), within * self.scale)
        bystander.forget(request)
        if not found:
            raise Deaf("an answer to an echo of a bystander", f"none within {within:g} s")
        quiet = min(max(QUIET, ECHOES * (self.now - asked)), MAX_QUIET)
        await anyio.sleep(quiet * self.scale)
        self.check_alive()

    async def _meet_bystander(self) -> Participant:
        self._numbers += 1
        member = Member(f"bystander-{self._numbers}", new_sid(), 0, ())
        self._bystander = self.play(member, lambda *_: None)
        await self.attachment.announce(member)
        return self._bystander

    async def until(self, look: Callable[[], T | None]) -> T | None:
        """What `look` returns once it is not None; None if the testee is that far and it is not."""
        if self.is_virtual:
            if (found := look()) is None:
                await self.settle()
                found = look()
            return found
        found = await self._wait(look, SOON * self.scale)
        if found is None:
            await self.settle()
            found = await self._wait(look, MOMENT * self.scale)
        if found is None:
            await self.settle()
            found = look()
        return found

    async def until_at(self, look: Callable[[], T | None], instant: float) -> T | None:
        """What `look` returns once it is not None; None if it does not until `instant`."""
        if not self.is_virtual:
            return await self._wait(look, max(instant - self.now, 0))
        while (found := look()) is None and self._virtual_now < instant:
            await self.sleep(min(STEP, instant - self._virtual_now))
        return found

    async def _wait(self, look: Callable[[], T | None], seconds: float) -> T | None:
        with anyio.move_on_after(seconds):
            while (found := look()) is None:
                self.check_alive()
                await self._came.wait()
            return found
        return look()

    async def _set_now(self) -> None:
        self.check_alive()
        try:
            await self.attachment.set_now(self._virtual_now)
        except TimeoutError:
            clock = json.dumps({"now": self._virtual_now})
            self.attachment.give_up(f"the testee did not answer {clock} in time")
        self.check_alive()

    # participants

    async def join(
        self,
        name: str,
        client_protocol: int,
        capabilities: tuple[int, ...] = (),
        *,
        is_announced: bool = True,
        record: Callable[[str, str, bytes], None] = lambda *_: None,
    ) -> Participant:
        """Let a participant come, with an identity that nobody had before it."""
        self._numbers += 1
        member = Member(f"{name}-{self._numbers}", new_sid(), client_protocol, capabilities)
        participant = self.play(member, record)
        if is_announced:
            await self.announce(member)
        return participant

    async def announce(self, member: Member) -> None:
        """Let the testee know that a participant is here, before that sends it anything.

        Where nothing orders news and packets, an echo of somebody else is waited for: a testee that
        has not heard of a participant takes it for one of client_protocol 0.
        """
        await self.attachment.announce(member)
        await self._let_arrive()

    async def dismiss(self, member: Member) -> None:
        """Let the testee know that a participant has left, after all that was sent before and
        before anything else happens."""
        await self._let_arrive()
        await self.attachment.dismiss(member)
        await self._let_arrive()

    async def replace(self, member: Member) -> None:
        """Let the testee know of a new session of a participant, after all that the old one sent
        and before the new one sends anything."""
        await self._let_arrive()
        await self.announce(member)

    async def _let_arrive(self) -> None:
        """Where news and packets can overtake each other, wait for what is on its way."""
        if self.attachment.has_late_news and not self._is_deaf:
            try:
                await self.settle()
            except Deaf:  # the case will tell
                self._is_deaf = True

    def play(self, member: Member, record: Callable[[str, str, bytes], None]) -> Participant:
        """Play a participant that is as `member` has it, without a word of it to the testee."""
        participant = Participant(self, member, record)
        if self._key is not None and self.encryption is not None:
            participant.cryptor = cryptor_with(self._key, self.encryption.key_index)
        self._participants[member.identity] = participant
        return participant

    def forget(self, participant: Participant) -> None:
        """A participant gets no packets any more."""
        self._participants.pop(participant.identity, None)

    def send(self, data: bytes) -> None:
        """Send a packet to the testee as it is."""
        self.attachment.send(data)

    def check_alive(self) -> None:
        """Raise TesteeDied if the testee is no more."""
        if self.ended:
            raise TesteeDied(self.ended)

    # what comes

    def _receive(self, data: bytes) -> None:
        self.packets += 1
        if self.packets > self._flood_at:
            self.attachment.give_up(f"the testee floods: over {MAX_PACKETS:,} packets in one case")
            return
        packet = decode(data)
        if packet is None:
            self.unreadable = [*self.unreadable[-9:], data]
        else:
            for participant in self._receivers(packet):
                participant.receive(data, packet, self.now)
        self._wake()

    def _receivers(self, packet: Packet) -> list[Participant]:
        if not packet.destination_identities:
            return list(self._participants.values())
        names = dict.fromkeys(packet.destination_identities[:16])
        return [self._participants[name] for name in names if name in self._participants]

    def begin_case(self) -> None:
        """From here on, packets count for another case."""
        self._flood_at = self.packets + MAX_PACKETS
        self._is_deaf = False
        self.unreadable = []

    def _end(self, reason: str) -> None:
        self.ended = reason
        self._wake()

    def _wake(self) -> None:
        self._came.set()
        self._came = anyio.Event()


def cryptor_with(key: bytes, key_index: int) -> Cryptor:
    """A cryptor that seals with this key at this index. Raises ImportError without the extra."""
    cryptor = AesGcmCryptor()
    cryptor.set_shared_key(key, key_index)
    cryptor.use(key_index)
    return cryptor


def new_sid() -> str:
    """A sid as LiveKit's server gives it, a new one each time."""
    return f"PA_{new_id()[:8]}{new_id()[:4]}"
