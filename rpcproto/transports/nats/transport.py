"""A room on NATS as a participant's transport."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError

from rpcproto.core.messages import OutgoingPacket
from rpcproto.logs import SeldomLogged, logger
from rpcproto.transports import (
    HIGH_WATER_MARK,
    Connected,
    Disconnected,
    PacketReceived,
    PacketsNotSent,
    ParticipantJoined,
    ParticipantLeft,
    TransportEvent,
)
from rpcproto.transports.inbox import Inbox
from rpcproto.transports.nats.client import OnMessage
from rpcproto.transports.nats.link import Link, text_of
from rpcproto.transports.nats.names import Origin, encode_name, read_subject
from rpcproto.transports.nats.urls import Servers
from rpcproto.transports.presence import Kind, Presence, decode_announcement

_NO_CONNECTION: Final = "there is no connection to a NATS server"


class NatsTransport:
    """One participant's place in a room on NATS; see `Transport`. For asyncio.

    A connection that is lost comes back by itself, for ever, each time under a new sid: what was
    under way is given up on our side (R41), and so the others see at once that nothing comes of it.
    The list of participants is never complete (R12). When somebody else joins under our identity,
    we are put out, and `receive` comes to its end.
    """

    departure_grace = 0.0
    """NATS keeps the order of what one connection publishes, and so does this transport: a
    departure is reported after the packets that were sent before it."""

    def __init__(
        self,
        servers: Servers,
        settings: Mapping[str, object],
        room: str,
        presence: Presence,
        heartbeat_interval: float,
        reconnect_wait: float,
        new_sid: Callable[[], str],
    ) -> None:
        """Made by `join_room`."""
        self._servers = servers
        self._settings = settings
        self._room = room
        self._presence = presence
        self._heartbeat_interval = heartbeat_interval
        self._reconnect_wait = reconnect_wait
        self._new_sid = new_sid
        self._prefix = f"rpcproto.{encode_name(room)}"
        self._name = encode_name(presence.identity)
        self._link: Link | None = None
        self._inbox = Inbox(presence.identity)
        """Packets and announcements are dropped when it is full."""
        self._malformed, self._crowded, self._stolen = (SeldomLogged() for _ in range(3))
        self._stir = asyncio.Event()
        """The connection broke, or something is due before `_wake_at`."""
        self._wake_at = 0.0
        """When `_stay` looks again, on the clock of the event loop."""
        self._end: ConnectionError | None = None
        """Why nothing comes any more."""
        self._is_closing = False

    @property
    def identity(self) -> str:
        """The identity that we joined with."""
        return self._presence.identity

    @property
    def sid(self) -> str:
        """Our sid in the room; another after each lost connection."""
        return self._presence.sid

    async def send(self, take: Callable[[], OutgoingPacket | None]) -> None:
        """See `Transport`.

        Raises PacketsNotSent for packets that the server does not take, and for all while there is
        no connection; ConnectionError when we are not in the room any more.
        """
        if self._end is not None:
            raise ConnectionError(str(self._end))
        link = self._link
        if link is not None and not link.has_room:
            await link.make_room()
            # If the connection broke meanwhile, that is reported as an event.
            await asyncio.sleep(0)
        failed: list[OutgoingPacket] = []
        failed_bytes, reason = 0, ""
        while failed_bytes < HIGH_WATER_MARK and (link is None or link.has_room):
            packet = take()
            if packet is None:
                break
            problem = await self._publish(link, packet)
            if problem:
                failed.append(packet)
                failed_bytes, reason = failed_bytes + len(packet.data), problem
        if failed:
            await asyncio.sleep(0)
            raise PacketsNotSent(failed, reason)

    async def _publish(self, link: Link | None, packet: OutgoingPacket) -> str:
        """Hand a packet to nats-py, which waits for nothing; returns what is wrong with it."""
        if link is None or not link.is_usable:
            return _NO_CONNECTION
        receiver = encode_name(packet.destination_identity)
        subject = f"{self._prefix}.to.{receiver}.{self._name}.{encode_name(self.sid)}"
        try:
            await link.client.publish(subject, packet.data)
        except MaxPayloadError:
            return f"the NATS server takes at most {link.client.max_payload} bytes"
        except NatsError as error:
            return text_of(error)
        return ""

    async def receive(self) -> Sequence[TransportEvent]:
        """See `Transport`."""
        return await self._inbox.receive()

    def take_welcome(self) -> Sequence[ParticipantJoined | ParticipantLeft]:
        """See `WelcomingTransport`: who answered while we joined."""
        return self._inbox.take_welcome()

    async def aclose(self) -> None:
        """Say goodbye and leave the room; what has come in may still be read."""
        if self._is_closing:
            return
        self._is_closing = True
        if self._end is None:
            self._end = ConnectionError("the transport is closed")
            self._inbox.end()
            self._runner.cancel()
        try:
            await asyncio.wait([self._runner])
        finally:
            await self._leave()
            self._inbox.wake()

    # coming, staying, going

    async def _join(self, timeout: float) -> None:
        """For `join_room`: the first connection, or its error."""
        link = self._new_link()
        try:
            async with asyncio.timeout(timeout):
                # nats-py tries each server once more than this.
                await link.connect(self._how_to_connect(attempts=1, wait=0.1))
                await self._enter(link, Kind.JOIN)
        except PermissionError:
            await link.close()
            raise
        except Exception as error:
            await link.close()
            timed_out = isinstance(error, TimeoutError) and link.last_error is None
            reason = (
                f"no answer in {timeout:g} s" if timed_out else text_of(link.last_error or error)
            )
            servers = ", ".join(self._servers.addresses)
            raise ConnectionError(f"cannot join a room at {servers}: {reason}") from error
        except BaseException:
            await link.close()
            raise
        if self._end is None:
            self._inbox.put(Connected())
        self._runner = asyncio.create_task(self._run(link))

    async def _run(self, link: Link) -> None:
        """Keep a connection, until we are put out or `aclose` cancels this."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                not_before = loop.time() + self._reconnect_wait
                await self._stay(link)
                if self._end is not None:
                    break
                await self._lose(link)
                discovered = [uri.geturl() for uri in link.client.discovered_servers]
                link = await self._come_back(discovered, not_before)
        except BaseException as error:
            if self._end is None:
                self._end_with(ConnectionError(f"the transport failed: {text_of(error)}"))
            if not isinstance(error, Exception):
                raise  # somebody cancels all there is
            logger.exception("%s: the transport failed", self.identity)
        await self._leave()

    async def _enter(self, link: Link, kind: Kind) -> None:
        """Begin to listen, and announce ourselves. Raises PermissionError if that is not allowed,
        ConnectionError if the connection breaks or cannot carry announcements."""
        size, limit = self._presence.longest_announcement, link.client.max_payload
        if size > limit:
            raise ConnectionError(
                f"the server takes messages of at most {limit} bytes (its max_payload), "
                f"and an announcement of {self.identity!r} has up to {size}"
            )
        self._link = link
        link.broken.add_done_callback(lambda _: self._stir.set())
        await link.client.subscribe(f"{self._prefix}.to.{self._name}.>")
        await link.client.subscribe(f"{self._prefix}.here.*.*")
        await self._announce(link, kind, asks=True)
        if kind is not Kind.JOIN:
            # Calls wait for this, and packets that come before it are ignored (R41).
            self._inbox.put(Connected())
        # nats-py's ping goes before what is waiting; so only the second one comes after it.
        try:
            await link.round_trip()
            await link.round_trip()
        except ConnectionError:
            if self._end is None:
                raise  # else we have been put out already, and that has been told
        if link.refusal is not None:
            raise PermissionError(
                f"the NATS server does not allow {self.identity!r} to take part in the room "
                f"{self._room!r}: {text_of(link.refusal)}"
            )

    async def _stay(self, link: Link) -> None:
        """Say that we are here and watch who is not, until the connection breaks."""
        loop = asyncio.get_running_loop()
        presence = self._presence
        next_beat = loop.time() + self._heartbeat_interval
        while not link.broken.done():
            now = loop.time()
            if not link.client.is_connected:
                return  # nats-py tells only when it has closed what it had
            if now >= min(next_beat, presence.heartbeat_by):
                presence.heartbeat_sent()
                await self._announce(link, Kind.HERE)
                next_beat = now + self._heartbeat_interval
            self._wake_at = next_beat
            if not self._inbox.is_full:
                for event in presence.remove_overdue(now):
                    self._inbox.put(event)
                self._wake_at = min(next_beat, presence.next_due)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._wake_at):
                    await self._stir.wait()
            self._stir.clear()

    async def _lose(self, link: Link) -> None:
        """The connection is lost, and everyone with it (R41)."""
        self._link = None
        loss = link.loss()
        logger.warning("%s: %s", self.identity, loss)
        if self._inbox.is_full:
            self._inbox.drop_all()
        self._inbox.put(Disconnected(loss))
        self._presence.rejoin(self._new_sid())
        await link.close()

    async def _come_back(self, discovered: list[str], not_before: float) -> Link:
        """Connect again, however long that takes."""
        loop = asyncio.get_running_loop()
        how = self._how_to_connect(discovered, attempts=-1, wait=self._reconnect_wait)
        while True:
            await asyncio.sleep(not_before - loop.time())
            link = self._new_link()
            try:
                await link.connect(how)
                await self._enter(link, Kind.HERE)
            except Exception as error:
                link.last_error = error
                if self._link is link:
                    await self._lose(link)
                else:
                    logger.info("%s: %s", self.identity, text_of(error))
                    await link.close()
                not_before = loop.time() + self._reconnect_wait
            except BaseException:
                if self._link is not link:
                    await link.close()
                raise
            else:
                logger.info("%s: connected to NATS again", self.identity)
                return link

    async def _leave(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await self._announce(link, Kind.LEAVE)
            await link.close()

    def _new_link(self) -> Link:
        return Link(
            self.identity,
            self._prefix,
            requires_tls=self._servers.requires_tls,
            on_message=self._receiver,
        )

    def _how_to_connect(
        self, discovered: Sequence[str] = (), *, attempts: int, wait: float
    ) -> dict[str, object]:
        return {
            **self._settings,
            "servers": list(dict.fromkeys([*self._servers.addresses, *discovered])),
            "max_reconnect_attempts": attempts,
            "reconnect_time_wait": wait,
        }

    # what comes in

    def _receiver(self, link: Link) -> OnMessage:
        return partial(self._on_message, link)

    async def _on_message(self, link: Link, subject: bytes, data: bytes) -> None:
        if link is not self._link or self._end is not None:
            return
        origin = read_subject(subject)
        if origin is None:
            self._malformed.warning("%s: ignored a message on a malformed subject", self.identity)
        # An announcement that is not heard now comes again with the next heartbeat.
        elif self._inbox.has_room(origin.identity):
            if origin.is_packet:
                self._inbox.put(PacketReceived(data, origin.identity, origin.sid))
            else:
                await self._hear(link, origin, data)

    async def _hear(self, link: Link, origin: Origin, data: bytes) -> None:
        announcement = decode_announcement(data)
        if announcement is None:
            self._malformed.warning(
                "%s: ignored a malformed announcement of %r", self.identity, origin.identity
            )
            return
        now = asyncio.get_running_loop().time()
        heard = self._presence.hear(origin.identity, origin.sid, announcement, now)
        for event in heard.events:
            self._inbox.put(event)
        if heard.is_one_too_many:
            self._crowded.warning(
                "%s: more participants than can be known: %r is not announced",
                self.identity,
                origin.identity,
            )
        if heard.is_sid_taken:
            self._stolen.warning(
                "%s: ignored the sid of %r, which belongs to another participant",
                self.identity,
                origin.identity,
            )
        if self._presence.next_due < self._wake_at:
            self._stir.set()
        if heard.is_put_out:
            self._end_with(ConnectionError(f"{self.identity!r} joined again"))
            link.break_off()
        elif heard.answer is not None:
            # Who has our identity must hear all in order, so it hears what everybody hears.
            is_for_all = heard.answer is Kind.JOIN or origin.identity == self.identity
            to = None if is_for_all else encode_name(origin.identity)
            await self._announce(link, heard.answer, to=to)

    # what goes out

    async def _announce(
        self, link: Link, kind: Kind, *, asks: bool = False, to: str | None = None
    ) -> None:
        """Tell everybody, or one by the name in its subjects."""
        us = f"{self._name}.{encode_name(self.sid)}"
        subject = f"{self._prefix}.here.{us}"
        if to is not None:
            if not link.has_room:
                return  # whoever asks and asks cannot fill our memory
            subject = f"{self._prefix}.to.{to}.{us}.here"
        # If there is no connection, that is told as an event.
        with suppress(NatsError):
            await link.client.publish(subject, self._presence.announcement(kind, asks=asks))

    def _end_with(self, error: ConnectionError) -> None:
        self._end = error
        self._inbox.end()
        self._inbox.put(Disconnected(error))
