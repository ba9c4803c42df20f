"""What is said in a room on NATS: by others, and by us to tell that we are here."""

import asyncio
from contextlib import suppress
from functools import partial
from typing import Final

from nats.errors import Error as NatsError

from rpcproto.core.messages import OutgoingPacket
from rpcproto.logs import SeldomLogged
from rpcproto.transports import HIGH_WATER_MARK, Disconnected, PacketReceived
from rpcproto.transports.inbox import Inbox
from rpcproto.transports.nats.client import OnMessage
from rpcproto.transports.nats.link import Link
from rpcproto.transports.nats.names import Origin, encode_name, read_subject
from rpcproto.transports.presence import Kind, Presence, decode_announcement

_NEVER: Final = float("inf")


class Traffic:
    """The messages of a room, to and from one participant."""

    def __init__(self, room: str, presence: Presence, inbox: Inbox) -> None:
        """`inbox` takes what is for the host; packets and announcements are dropped when it is
        full."""
        self.prefix: str = f"rpcproto.{encode_name(room)}"
        self.name: str = encode_name(presence.identity)
        self.link: Link | None = None
        """The connection that counts. What comes on another one is ignored."""
        self.end: ConnectionError | None = None
        """Why nothing comes any more."""
        self.stir: asyncio.Event = asyncio.Event()
        """The connection broke, or something is due before `wake_at`."""
        self.wake_at: float = 0.0
        """When whoever waits for `stir` looks again, on the clock of the event loop."""
        self.missing_until: float = _NEVER
        """When packets for those who are missing are sent all the same."""
        self._missing: set[str] = set()
        """Those who were here when the connection was lost, and have not been heard since."""
        self._held: dict[str, list[OutgoingPacket]] = {}
        """Packets for them: at most HIGH_WATER_MARK bytes. None of the lists is empty."""
        self._held_bytes = 0
        self._identity = presence.identity
        self._presence = presence
        self._inbox = inbox
        self._malformed, self._crowded, self._stolen = (SeldomLogged() for _ in range(3))

    def end_with(self, error: ConnectionError) -> None:
        """Nothing comes any more, for this reason."""
        self.end = error
        self._inbox.end()
        self._inbox.put(Disconnected(error))

    def lost(self) -> None:
        """The connection is lost. Everybody who is here may have lost theirs, and be back later."""
        self.link = None
        self._missing = set(self._presence.identities) or self._missing
        self._held.clear()
        self._held_bytes = 0
        self.missing_until = _NEVER

    async def listen(self, link: Link) -> None:
        """Let this connection count from now on."""
        self.link = link
        link.broken.add_done_callback(lambda _: self.stir.set())
        await link.client.subscribe(f"{self.prefix}.to.{self.name}.>")
        await link.client.subscribe(f"{self.prefix}.here.*.*")

    # what goes out

    async def hold(self, link: Link, packet: OutgoingPacket, patience: float) -> bool:
        """Whether a packet is kept until its destination is back, for at most `patience` seconds.

        Without that, whoever is back first would call those who are not, and wait for a timeout.
        """
        destination, size = packet.destination_identity, len(packet.data)
        if destination not in self._missing:
            return False
        if self._held_bytes + size > HIGH_WATER_MARK or size > link.client.max_payload:
            await self.release(link, destination)  # for what follows must not overtake it
            return False
        if not self._held:
            self.missing_until = asyncio.get_running_loop().time() + patience
            self.stir.set()
        self._held.setdefault(destination, []).append(packet)
        self._held_bytes += size
        return True

    async def release(self, link: Link, identity: str | None = None) -> None:
        """Send the packets for somebody who is back, or all: from now on nobody is missing."""
        identities = list(self._held) if identity is None else [identity]
        if identity is None:
            self._missing.clear()
            self.missing_until = _NEVER
        self._missing.difference_update(identities)
        for each in identities:
            for packet in self._held.pop(each, ()):
                self._held_bytes -= len(packet.data)
                with suppress(NatsError):
                    await link.client.publish(self.subject_for(each), packet.data)

    def subject_for(self, destination: str) -> str:
        """The subject of a packet to somebody."""
        sid = encode_name(self._presence.sid)
        return f"{self.prefix}.to.{encode_name(destination)}.{self.name}.{sid}"

    async def announce(
        self, link: Link, kind: Kind, *, asks: bool = False, to: str | None = None
    ) -> None:
        """Tell everybody, or one identity."""
        if to is not None:
            if not link.has_room:
                return  # whoever asks and asks cannot fill our memory
            subject = f"{self.subject_for(to)}.here"
        else:
            subject = f"{self.prefix}.here.{self.name}.{encode_name(self._presence.sid)}"
        # If there is no connection, that is reported as an event.
        with suppress(NatsError):
            await link.client.publish(subject, self._presence.announcement(kind, asks=asks))

    # what comes in

    def receiver(self, link: Link) -> OnMessage:
        """What takes the messages of a connection."""
        return partial(self._on_message, link)

    async def _on_message(self, link: Link, subject: bytes, data: bytes) -> None:
        if link is not self.link or self.end is not None:
            return
        origin = read_subject(subject)
        if origin is None:
            self._malformed.warning("%s: ignored a message on a malformed subject", self._identity)
        # An announcement that is not heard now comes again with the next heartbeat.
        elif self._inbox.has_room(origin.identity):
            if origin.is_packet:
                self._inbox.put(PacketReceived(data, origin.identity, origin.sid))
            else:
                await self._hear(link, origin, data)

    async def _hear(self, link: Link, origin: Origin, data: bytes) -> None:
        us, identity = self._identity, origin.identity
        announcement = decode_announcement(data)
        if announcement is None:
            self._malformed.warning("%s: ignored a malformed announcement of %r", us, identity)
            return
        now = asyncio.get_running_loop().time()
        heard = self._presence.hear(identity, origin.sid, announcement, now)
        for event in heard.events:
            self._inbox.put(event)
        if heard.is_one_too_many:
            self._crowded.warning(
                "%s: more participants than can be known: %r is not announced", us, identity
            )
        if heard.is_sid_taken:
            self._stolen.warning(
                "%s: ignored the sid of %r, which belongs to another participant", us, identity
            )
        if identity in self._missing and self._presence.knows(identity, origin.sid):
            await self.release(link, identity)
        if self._presence.next_due < self.wake_at:
            self.stir.set()
        if heard.is_put_out:
            self.end_with(ConnectionError(f"{us!r} joined again"))
            link.break_off()
        elif heard.answer is not None:
            # Who has our identity must hear all in order, so it hears what everybody hears.
            is_for_all = heard.answer is Kind.JOIN or identity == us
            await self.announce(link, heard.answer, to=None if is_for_all else identity)
