"""A room on a NATS server or cluster, for asyncio. Needs the extra `nats`.

What goes to one participant and what goes to everybody have subjects of their own:

    rpcproto.<room>.to.<receiver>.<sender>.<sid>         a packet
    rpcproto.<room>.to.<receiver>.<sender>.<sid>.here    an announcement, to one
    rpcproto.<room>.here.<sender>.<sid>                  an announcement, to everybody

Who sent something is what its subject says, and never what is inside (R36). So it is as true as the
permissions of the server make it: see docs/transports.md.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from ssl import SSLContext
from typing import Any, Final, Self, TypedDict, Unpack
from urllib.parse import quote, unquote, urlsplit

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError

from rpcproto.core.errors import LocalProtocolError, require_name, require_timeout
from rpcproto.core.messages import MAX_IDENTITY_BYTES, OutgoingPacket
from rpcproto.transports import (
    OUR_CAPABILITIES,
    OUR_CLIENT_PROTOCOL,
    Connected,
    Disconnected,
    PacketNotSent,
    PacketReceived,
    TransportEvent,
)
from rpcproto.transports.inbox import Inbox
from rpcproto.transports.presence import HEARTBEAT_INTERVAL, Kind, Presence, decode_announcement

logger: Final[logging.Logger] = logging.getLogger("rpcproto")

MAX_NAME_BYTES: Final = MAX_IDENTITY_BYTES
"""The longest name of a room, a participant or a sid, in bytes of UTF-8."""
MAX_UNSENT_BYTES: Final = 1 << 20
"""With more waiting for the socket, `send` waits for the server."""
CLOSING_TIME: Final = 0.5
"""How long a connection may take to close, in seconds; then it is cut."""

_ATTEMPT_TIME: Final = 2.0
_A_DAY: Final = 86_400


class NatsOptions(TypedDict, total=False):
    """How to be let in, as nats-py takes it."""

    user: str
    password: str
    token: str
    user_credentials: str
    """The path of a credentials file; needs the package `nkeys`."""
    nkeys_seed: str
    """The path of a seed file; needs the package `nkeys`."""
    tls: SSLContext
    tls_hostname: str


async def join_room(
    servers: str | Sequence[str],
    room: str,
    identity: str,
    *,
    client_protocol: int = OUR_CLIENT_PROTOCOL,
    capabilities: Collection[int] = OUR_CAPABILITIES,
    heartbeat_interval: float = HEARTBEAT_INTERVAL,
    connect_timeout: float = 5.0,
    reconnect_wait: float = 2.0,
    new_sid: Callable[[], str] | None = None,
    **options: Unpack[NatsOptions],
) -> "NatsTransport":
    """Come into `room` under `identity`; what is returned is the participant's transport.

    `servers` are the URLs of one or some servers of a cluster, `nats://host:port` or `tls://...`,
    with `user:password@` or `token@` where that is needed; `options` go to nats-py. Room and
    identity are any text of 1 to 256 bytes in UTF-8. Times are in seconds: `heartbeat_interval`,
    0.05 to 3600, is how often we say that we are here, three missed ones mean that we are not;
    coming in may take `connect_timeout`; `reconnect_wait` lies between two attempts at the same
    server. `new_sid` makes the sid of each connection; None takes random ones.

    Raises ConnectionError when no server lets us in, PermissionError when it does but does not
    allow this identity or room, and LocalProtocolError for misuse.
    """
    require_name(room, "room", MAX_NAME_BYTES)
    require_name(identity, "identity", MAX_NAME_BYTES)
    require_timeout(connect_timeout, "connect_timeout")
    require_timeout(reconnect_wait, "reconnect_wait")
    addresses, credentials = _read_servers([servers] if isinstance(servers, str) else servers)
    make_sid = new_sid or _random_sid
    presence = Presence(
        identity,
        make_sid(),
        generation=time.time_ns() // 1000,
        client_protocol=client_protocol,
        capabilities=capabilities,
        heartbeat_interval=heartbeat_interval,
    )
    settings: dict[str, object] = {
        "name": identity,
        "no_echo": True,
        # No packet waits for a connection that is not there, and publish() waits for nothing: it
        # would swallow a cancelling. It is `send` that waits.
        "pending_size": 0,
        "ping_interval": heartbeat_interval,
        "connect_timeout": min(_ATTEMPT_TIME, connect_timeout),
        **credentials,
        **options,
    }
    transport = NatsTransport(
        addresses, settings, room, presence, heartbeat_interval, reconnect_wait, make_sid
    )
    await transport._join(connect_timeout)
    return transport


def split_room_url(url: str) -> tuple[list[str], str]:
    """Servers and room of `nats://host:port/room`, for `join_room`; raises LocalProtocolError.

    A cluster has its hosts between commas. The room is percent-encoded where a URL wants that.
    """
    try:
        parts = urlsplit(url)
        room = unquote(parts.path[1:], errors="strict")
    except ValueError as error:
        raise LocalProtocolError(f"not the URL of a room: {error}") from None
    if not room or "/" in parts.path[1:] or parts.query or parts.fragment:
        raise LocalProtocolError("the URL of a room looks like nats://host:port/room")
    credentials, at, hosts = parts.netloc.rpartition("@")
    return [f"{parts.scheme}://{credentials}{at}{host}" for host in hosts.split(",")], room


def encode_name(name: str) -> str:
    """A name as it stands in a subject, and in the permissions of a server.

    Percent-encoded but for ASCII letters, digits, `_`, `-` and `~`; no two names look the same.
    """
    return quote(name, safe="").replace(".", "%2E")


def decode_name(token: str) -> str | None:
    """The name that has this text in a subject; None if there is none of 1 to 256 bytes."""
    try:
        name = unquote(token, errors="strict")
        require_name(name, "name", MAX_NAME_BYTES)
        return name if encode_name(name) == token else None
    except (UnicodeDecodeError, LocalProtocolError):
        return None


def _random_sid() -> str:
    return f"PA_{secrets.token_urlsafe(12)}"


def _read_servers(urls: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The servers, and apart from them the credentials of the first URL that has any: they are
    for the servers too that a cluster tells of, and for no log."""
    addresses: list[str] = []
    credentials: dict[str, str] = {}
    for url in urls:
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("nats", "tls") and parts.hostname and parts.port != 0
        except ValueError:
            usable = False
        if not usable or parts.path.strip("/") or parts.query or parts.fragment:
            raise LocalProtocolError("the URL of a server looks like nats://host:port")
        userinfo, _, address = parts.netloc.rpartition("@")
        addresses.append(f"{parts.scheme}://{address}")
        if userinfo and not credentials:
            user, colon, password = userinfo.partition(":")
            if colon:
                credentials = {"user": unquote(user), "password": unquote(password)}
            else:
                credentials = {"token": unquote(user)}
    if not addresses:
        raise LocalProtocolError("there must be the URL of at least one server")
    return addresses, credentials


class _Client(Client):
    """nats-py's client, except that what others send cannot end its reading."""

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        try:
            # nats-py raises on malformed headers; we have no use for any.
            await super()._process_msg(sid, subject, reply, data, b"")
        except UnicodeDecodeError:
            logger.warning("ignored a message with the malformed subject %.100r", subject)


class _Link:
    """One connection to a server, and done with when it breaks.

    nats-py could reconnect the same client, but would then send what was waiting when the
    connection broke, and all that has been given up by then (R41).
    """

    packets: Subscription
    """What is for us alone."""

    def __init__(self, identity: str, prefix: str) -> None:
        self.client = _Client()
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.last_error: Exception | None = None
        self.refusal: Exception | None = None
        """That the server does not allow us to listen, or to announce ourselves."""
        self.handled = 0
        """How many of `packets` have been handled."""
        self._identity = identity
        # nats-py passes on the server's words in lower case.
        self._vital = ("violation for subscription", f"{prefix}.here.".lower())
        self._subscriptions: list[Subscription] = []
        self._flushing: asyncio.Task[None] | None = None
        self._is_closed = asyncio.Event()

    async def connect(self, settings: Mapping[str, Any]) -> None:
        """Raises what nats-py raises."""
        await self.client.connect(
            error_cb=self._on_error, disconnected_cb=self._on_disconnected, **settings
        )
        self.last_error = None

    async def subscribe(
        self, subject: str, callback: Callable[[Msg], Awaitable[None]]
    ) -> Subscription:
        subscription = await self.client.subscribe(subject, cb=callback)
        self._subscriptions.append(subscription)
        return subscription

    @property
    def unsent_bytes(self) -> int:
        """What waits in the client, and in its socket's buffer: several versions of Python let that
        grow without telling, when lines of bytes are written."""
        writer = None if self.broken.done() else self._writer
        return self.client.pending_data_size + (writer.get_write_buffer_size() if writer else 0)

    @property
    def _writer(self) -> asyncio.WriteTransport | None:
        carrier = self.client._transport
        if isinstance(carrier, TcpTransport) and carrier._io_writer is not None:
            return carrier._io_writer.transport
        return None

    async def flush(self) -> None:
        """Wait until the server answers a ping; raises ConnectionError if the connection breaks."""
        # In a task of its own: after a ping that was cancelled, nats-py stumbles over the answer.
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self.client.flush(_A_DAY))
        flushing = self._flushing
        await asyncio.wait([flushing, self.broken], return_when=asyncio.FIRST_COMPLETED)
        if self.broken.done() or flushing.exception() is not None:
            raise self.loss()

    def break_off(self) -> None:
        """There is no connection any more, or it is not wanted."""
        if not self.broken.done():
            self.broken.set_result(None)

    def loss(self) -> ConnectionError:
        """Why there is none, as far as nats-py tells."""
        reason = f": {_text(self.last_error)}" if self.last_error is not None else ""
        error = ConnectionError(f"the connection to the NATS server is lost{reason}")
        error.__cause__ = self.last_error
        return error

    async def close(self) -> None:
        """Let what is waiting out, in at most CLOSING_TIME, and let go of everything."""
        self.break_off()
        self._is_closed.set()
        # In a task of its own: nats-py may cancel what it waits for itself.
        tasks = [asyncio.create_task(self._close_client())]
        try:
            await asyncio.wait(tasks, timeout=CLOSING_TIME)
        finally:
            # nats-py has no way to drop a connection that does not take what is waiting.
            if self._writer is not None:
                with suppress(AttributeError):  # one that has closed by itself, in Python 3.11
                    self._writer.abort()
            if self._flushing is not None:
                tasks.append(self._flushing)
            for task in tasks:
                task.cancel()
            # A turn more is for those tasks that nats-py has cancelled.
            await asyncio.gather(*tasks, asyncio.sleep(0), return_exceptions=True)

    async def _close_client(self) -> None:
        try:
            for subscription in self._subscriptions:
                if not self.client.is_closed:
                    await subscription.unsubscribe()
            await self.client.close()
        except Exception as error:
            logger.debug("%s: closing the connection: %s", self._identity, _text(error))

    async def _on_error(self, error: Exception) -> None:
        # What the server has said tells more than that it has hung up.
        if isinstance(error, NatsError) or not isinstance(self.last_error, NatsError):
            self.last_error = error
        text = _text(error)
        is_refusal = "permissions violation" in text
        if is_refusal and any(words in text for words in self._vital):
            self.refusal = error
        level = logging.WARNING if is_refusal else logging.INFO
        logger.log(level, "%s: %s", self._identity, text)

    async def _on_disconnected(self) -> None:
        self.break_off()
        # Returning is what lets nats-py reconnect.
        await self._is_closed.wait()


class NatsTransport:
    """One participant's place in a room on NATS; see `Transport`. For asyncio.

    A connection that is lost comes back by itself, for ever, each time under a new sid: what was
    under way is given up on our side (R41), and so the others see at once that nothing comes of it.
    The list of participants is never complete (R12). When somebody else joins under our identity,
    we are put out, and the iteration ends.
    """

    def __init__(
        self,
        servers: list[str],
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
        self._link: _Link | None = None
        self._inbox = Inbox(presence.identity)
        """Packets and announcements are dropped when it is full."""
        self._is_crowded = False
        self._stir = asyncio.Event()
        """The connection broke, or somebody has come who may be overdue before we look again."""
        self._end: ConnectionError | None = None
        """Why nothing comes any more."""
        self._is_closing = False

    @property
    def sid(self) -> str:
        """Our sid in the room; another after each lost connection."""
        return self._presence.sid

    async def send(self, packet: OutgoingPacket) -> None:
        """See `Transport`. Raises PacketNotSent while there is no connection, or for a packet that
        the server does not take; ConnectionError when we are not in the room any more."""
        if self._end is not None:
            raise ConnectionError(str(self._end))
        link = self._link
        if link is None or not link.client.is_connected:
            raise PacketNotSent("there is no connection to a NATS server")
        receiver = encode_name(packet.destination_identity)
        subject = f"{self._prefix}.to.{receiver}.{self._name}.{encode_name(self.sid)}"
        try:
            await link.client.publish(subject, packet.data)
        except MaxPayloadError:
            limit = link.client.max_payload
            raise PacketNotSent(f"the NATS server takes at most {limit} bytes") from None
        except NatsError as error:
            raise PacketNotSent(_text(error)) from error
        # A long body lets others have their turn, nats-py's writing above all.
        await asyncio.sleep(0)
        while not link.broken.done() and link.unsent_bytes > MAX_UNSENT_BYTES:
            # If it breaks meanwhile, that is told as an event.
            with suppress(ConnectionError):
                await link.flush()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TransportEvent:
        return await self._inbox.next()

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
        link = _Link(self._presence.identity, self._prefix)
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
            reason = f"no answer in {timeout:g} s" if timed_out else _text(link.last_error or error)
            servers = ", ".join(self._servers)
            raise ConnectionError(f"cannot join a room at {servers}: {reason}") from error
        except BaseException:
            await link.close()
            raise
        self._runner = asyncio.create_task(self._run(link))

    async def _run(self, link: _Link) -> None:
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
                self._end_with(ConnectionError(f"the transport failed: {_text(error)}"))
            if not isinstance(error, Exception):
                raise  # somebody cancels all there is
            logger.exception("%s: the transport failed", self._presence.identity)
        await self._leave()

    async def _enter(self, link: _Link, kind: Kind) -> None:
        """Begin to listen, and announce ourselves. Raises PermissionError if that is not allowed,
        ConnectionError if the connection breaks."""
        self._link = link
        link.broken.add_done_callback(lambda _: self._stir.set())
        link.packets = await link.subscribe(
            f"{self._prefix}.to.{self._name}.>", partial(self._on_message_to_us, link)
        )
        await link.subscribe(
            f"{self._prefix}.here.*.*", partial(self._on_message_to_everybody, link)
        )
        await self._announce(link, kind, asks=True)
        self._inbox.put(Connected())
        # nats-py's ping goes before what is waiting; so only the second one comes after it.
        try:
            await link.flush()
            await link.flush()
        except ConnectionError:
            if self._end is None:
                raise  # else we have been put out already, and that has been told
        if link.refusal is not None:
            identity, room = self._presence.identity, self._room
            raise PermissionError(
                f"the NATS server does not allow {identity!r} to take part in the room {room!r}: "
                f"{_text(link.refusal)}"
            )

    async def _stay(self, link: _Link) -> None:
        """Say that we are here and watch who is not, until the connection breaks."""
        loop = asyncio.get_running_loop()
        next_beat = loop.time() + self._heartbeat_interval
        while not link.broken.done():
            now = loop.time()
            if not link.client.is_connected:
                return  # nats-py tells only when it has closed what it had
            if now >= next_beat:
                await self._announce(link, Kind.HERE)
                next_beat = now + self._heartbeat_interval
            wake_at = next_beat
            if not self._inbox.is_full:
                for event in self._presence.remove_overdue(now):
                    self._inbox.put(event)
                next_overdue = self._presence.next_overdue
                if next_overdue is not None:
                    wake_at = min(wake_at, next_overdue)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(wake_at):
                    await self._stir.wait()
            self._stir.clear()

    async def _lose(self, link: _Link) -> None:
        """The connection is lost, and everyone with it (R41)."""
        self._link = None
        loss = link.loss()
        logger.warning("%s: %s", self._presence.identity, loss)
        if self._inbox.is_full:
            self._inbox.drop_all()
        self._inbox.put(Disconnected(loss))
        self._presence.rejoin(self._new_sid())
        await link.close()

    async def _come_back(self, discovered: list[str], not_before: float) -> _Link:
        """Connect again, however long that takes."""
        loop = asyncio.get_running_loop()
        how = self._how_to_connect(discovered, attempts=-1, wait=self._reconnect_wait)
        while True:
            await asyncio.sleep(not_before - loop.time())
            link = _Link(self._presence.identity, self._prefix)
            try:
                await link.connect(how)
                await self._enter(link, Kind.HERE)
            except Exception as error:
                link.last_error = error
                if self._link is link:
                    await self._lose(link)
                else:
                    logger.info("%s: %s", self._presence.identity, _text(error))
                    await link.close()
                not_before = loop.time() + self._reconnect_wait
            except BaseException:
                if self._link is not link:
                    await link.close()
                raise
            else:
                logger.info("%s: connected to NATS again", self._presence.identity)
                return link

    async def _leave(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await self._announce(link, Kind.LEAVE)
            await link.close()

    def _how_to_connect(
        self, discovered: Sequence[str] = (), *, attempts: int, wait: float
    ) -> dict[str, object]:
        return {
            **self._settings,
            "servers": list(dict.fromkeys([*self._servers, *discovered])),
            "max_reconnect_attempts": attempts,
            "reconnect_time_wait": wait,
        }

    # what comes in

    async def _on_message_to_us(self, link: _Link, message: Msg) -> None:
        link.handled += 1
        if link is not self._link or self._end is not None:
            return
        match message.subject.split(".")[4:]:
            case [sender, sid]:
                self._receive(sender, sid, message.data)
            case [sender, sid, "here"]:
                await self._hear(link, sender, sid, message.data)
            case _:
                us = self._presence.identity
                logger.warning("%s: ignored a message on a malformed subject", us)

    async def _on_message_to_everybody(self, link: _Link, message: Msg) -> None:
        # nats-py keeps no order between two subscriptions. An answer, though, must be read before
        # the goodbye that came after it.
        all_before = link.handled + link.packets.pending_msgs
        while link.handled < all_before and not link.broken.done():
            await asyncio.sleep(0)
        if link is self._link and self._end is None:
            sender, sid = message.subject.split(".")[3:]
            await self._hear(link, sender, sid, message.data)

    def _receive(self, sender: str, sid: str, data: bytes) -> None:
        names = self._names(sender, sid)
        if names is not None and self._inbox.has_room():
            self._inbox.put(PacketReceived(data, *names))

    async def _hear(self, link: _Link, sender: str, sid: str, data: bytes) -> None:
        names = self._names(sender, sid)
        # What is not heard now comes again with the next heartbeat.
        if names is None or not self._inbox.has_room():
            return
        us = self._presence.identity
        announcement = decode_announcement(data)
        if announcement is None:
            logger.warning("%s: ignored a malformed announcement of %r", us, names[0])
            return
        now = asyncio.get_running_loop().time()
        heard = self._presence.hear(*names, announcement, now)
        if heard.is_one_too_many and not self._is_crowded:
            logger.warning("%s: more participants than can be known: some are not announced", us)
        self._is_crowded = heard.is_one_too_many
        if heard.event is not None:
            self._inbox.put(heard.event)
            if announcement.heartbeat_interval < self._heartbeat_interval:
                self._stir.set()
        if heard.is_put_out:
            self._end_with(ConnectionError(f"{us!r} joined again"))
            link.break_off()
        elif heard.answer is not None:
            # Who has our identity must hear all in order, so it hears what everybody hears.
            to = None if heard.answer is Kind.JOIN or names[0] == us else sender
            await self._announce(link, heard.answer, to=to)

    def _names(self, sender: str, sid: str) -> tuple[str, str] | None:
        sender_identity, sender_sid = decode_name(sender), decode_name(sid)
        if sender_identity is None or sender_sid is None:
            logger.warning("%s: ignored a message on a malformed subject", self._presence.identity)
            return None
        return sender_identity, sender_sid

    # what goes out

    async def _announce(
        self, link: _Link, kind: Kind, *, asks: bool = False, to: str | None = None
    ) -> None:
        """Tell everybody, or one by the name in its subjects."""
        us = f"{self._name}.{encode_name(self._presence.sid)}"
        subject = f"{self._prefix}.here.{us}"
        if to is not None:
            if link.unsent_bytes > MAX_UNSENT_BYTES:
                return  # whoever asks and asks cannot fill our memory
            subject = f"{self._prefix}.to.{to}.{us}.here"
        # If there is no connection, that is told as an event.
        with suppress(NatsError):
            await link.client.publish(subject, self._presence.announcement(kind, asks=asks))

    def _end_with(self, error: ConnectionError) -> None:
        self._end = error
        self._inbox.end()
        self._inbox.put(Disconnected(error))


def _text(error: BaseException) -> str:
    """An error in a line."""
    return str(error) or type(error).__name__
