"""A room on NATS as a participant's transport."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, final

from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError

from rpcproto.core.messages import OutgoingPacket
from rpcproto.logs import logger
from rpcproto.transports import (
    HIGH_WATER_MARK,
    Connected,
    Disconnected,
    PacketsNotSent,
    ParticipantJoined,
    ParticipantLeft,
    TransportEvent,
)
from rpcproto.transports.inbox import Inbox
from rpcproto.transports.nats.link import Link, text_of
from rpcproto.transports.nats.traffic import Traffic
from rpcproto.transports.nats.urls import Servers
from rpcproto.transports.presence import Kind, Presence

MISSING_TIME: Final = 2
"""After a lost connection, packets for those who are not back yet wait so many times
`reconnect_wait`, and are then sent."""
_NO_CONNECTION: Final = "there is no connection to a NATS server"


@final
class NatsTransport:
    """The transport of a participant in a room on NATS. See `Transport`. For asyncio.

    If the connection is lost, the transport reconnects, without a limit of attempts. Each
    connection has a new sid, so that the others notice that earlier calls have ended (R41). The
    list of participants is never complete (R12). When another participant joins under the same
    identity, this one is disconnected, and `receive` returns an empty sequence.
    """

    departure_grace: float = 0.0
    """0: NATS delivers the messages of one connection in order, so a departure is reported after
    the packets that were sent before it."""

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
        self._inbox = Inbox(presence.identity)
        self._traffic = Traffic(room, presence, self._inbox)
        self._is_closing = False

    @property
    def identity(self) -> str:
        """The identity with which the participant joined."""
        return self._presence.identity

    @property
    def sid(self) -> str:
        """The participant's sid. It changes whenever the connection is lost."""
        return self._presence.sid

    async def send(self, take: Callable[[], OutgoingPacket | None]) -> None:
        """See `Transport`.

        Raises:
            PacketsNotSent: The server does not accept some packets, or there is no connection.
            ConnectionError: The participant has left the room.
        """
        if self._traffic.end is not None:
            raise ConnectionError(str(self._traffic.end))
        link = self._traffic.link
        if link is not None and not link.has_room:
            await link.make_room()
        if link is not None and not link.is_usable:
            # Let `_stay` see it now, and the host be told before it gives away more packets.
            self._traffic.stir.set()
            await asyncio.sleep(0)
        link = self._traffic.link
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
        if await self._traffic.hold(link, packet, MISSING_TIME * self._reconnect_wait):
            return ""
        subject = self._traffic.subject_for(packet.destination_identity)
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
        """See `WelcomingTransport`. Returns the participants that answered during `join_room`."""
        return self._inbox.take_welcome()

    async def aclose(self) -> None:
        """Leave the room. Events that have arrived can still be received."""
        if self._is_closing:
            return
        self._is_closing = True
        if self._traffic.end is None:
            self._traffic.end = ConnectionError("the transport is closed")
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
        if self._traffic.end is None:
            self._inbox.put(Connected())
        self._runner = asyncio.create_task(self._run(link))

    async def _run(self, link: Link) -> None:
        """Keep a connection, until we are put out or `aclose` cancels this."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                not_before = loop.time() + self._reconnect_wait
                await self._stay(link)
                if self._traffic.end is not None:
                    break
                await self._lose(link)
                discovered = [uri.geturl() for uri in link.client.discovered_servers]
                link = await self._come_back(discovered, not_before)
        except BaseException as error:
            if self._traffic.end is None:
                self._traffic.end_with(ConnectionError(f"the transport failed: {text_of(error)}"))
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
        await self._traffic.listen(link)
        await self._traffic.announce(link, kind, asks=True)
        if kind is not Kind.JOIN:
            # Calls wait for this, and packets that come before it are ignored (R41).
            self._inbox.put(Connected())
        # nats-py's ping goes before what is waiting; so only the second one comes after it.
        try:
            await link.round_trip()
            await link.round_trip()
        except ConnectionError:
            if self._traffic.end is None:
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
                await self._traffic.announce(link, Kind.HERE)
                next_beat = now + self._heartbeat_interval
            for identity in presence.take_late_answers(now):
                await self._traffic.announce(link, Kind.HERE, to=identity)
            if now >= self._traffic.missing_until:
                await self._traffic.release(link)
            next_act = min(next_beat, self._traffic.missing_until)
            self._traffic.wake_at = next_act
            if not self._inbox.is_full:
                for event in presence.remove_overdue(now):
                    self._inbox.put(event)
                self._traffic.wake_at = min(next_act, presence.next_due)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._traffic.wake_at):
                    await self._traffic.stir.wait()
            self._traffic.stir.clear()

    async def _lose(self, link: Link) -> None:
        """The connection is lost, and everyone with it (R41)."""
        self._traffic.lost()
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
                if self._traffic.link is link:
                    await self._lose(link)
                else:
                    logger.info("%s: %s", self.identity, text_of(error))
                    await link.close()
                not_before = loop.time() + self._reconnect_wait
            except BaseException:
                if self._traffic.link is not link:
                    await link.close()
                raise
            else:
                logger.info("%s: connected to NATS again", self.identity)
                return link

    async def _leave(self) -> None:
        link, self._traffic.link = self._traffic.link, None
        if link is not None:
            await self._traffic.announce(link, Kind.LEAVE)
            await link.close()

    def _new_link(self) -> Link:
        return Link(
            self.identity,
            self._traffic.prefix,
            requires_tls=self._servers.requires_tls,
            on_message=self._traffic.receiver,
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
