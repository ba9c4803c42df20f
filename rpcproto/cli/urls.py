"""URLs of transports: what they mean, and how they are opened."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Final, NamedTuple, TypeAlias, Unpack
from urllib.parse import SplitResult, quote, unquote, urlsplit

import anyio
import click
from anyio.abc import SocketAttribute

from rpcproto.core.errors import LocalProtocolError
from rpcproto.extras import how_to_install
from rpcproto.transports import Transport, stream
from rpcproto.transports.connecting import explained, reason_of, tcp_url, unix_url
from rpcproto.transports.pipes import stdio
from rpcproto.transports.stream import StreamOptions, StreamTransport

CONNECT_TIMEOUT: Final = 15.0
"""How long connecting may take, in seconds."""
_VERY_LONG: Final = 1e9
"""Longer than anybody waits, in seconds."""


class Tcp(NamedTuple):
    """`tcp://host:port`"""

    host: str
    port: int

    def __str__(self) -> str:
        return tcp_url(self.host, self.port)


class Unix(NamedTuple):
    """`unix:///path`, or `unix:path` from the current directory."""

    path: str

    def __str__(self) -> str:
        return unix_url(self.path)


class Stdio(NamedTuple):
    """`stdio:`"""

    def __str__(self) -> str:
        return "standard input and output"


class Nats(NamedTuple):
    """`nats://host:port/room`, or `tls://host:port/room`; what is shown of it has no password."""

    servers: tuple[str, ...]
    room: str

    def __str__(self) -> str:
        hosts = ",".join(re.sub(".*[/@]", "", server) for server in self.servers)
        scheme = self.servers[0].partition(":")[0]
        return f"{scheme}://{hosts}/{quote(self.room, safe='')}"


class LiveKit(NamedTuple):
    """A LiveKit server, `wss://host`, or with a room in it `livekit://host/room`; nobody is let in
    without a token, which is never shown."""

    url: str
    room: str = ""
    token: str = ""

    def __str__(self) -> str:
        return self.url


class LiveKitApi(NamedTuple):
    """The server's own API of a LiveKit server, about one room; its key is never shown."""

    url: str
    room: str
    api_key: str
    api_secret: str

    def __str__(self) -> str:
        return self.url


Address: TypeAlias = Tcp | Unix | Stdio | Nats | LiveKit


class NoConnection(click.ClickException):
    """There is no connection, and so nothing can be done; the message says why."""

    exit_code = 3


def parse_url(url: str) -> Address:
    """What a URL means; raises click.BadParameter for one that means nothing."""
    try:
        parts = urlsplit(url)
        address = _READERS[parts.scheme](url, parts)
    except KeyError:
        schemes = ", ".join(f"{scheme}:" for scheme in _READERS)
        raise click.BadParameter(f"it should begin with one of {schemes}") from None
    except (ValueError, LocalProtocolError) as error:
        raise click.BadParameter(str(error)) from None
    return address


def _read_tcp(url: str, parts: SplitResult) -> Address:
    address = Tcp(parts.hostname or "", -1 if parts.port is None else parts.port)
    if not address.host or address.port < 0 or "@" in url or parts.path + _rest(parts):
        raise ValueError("it should look like tcp://host:port")
    return address


def _read_unix(url: str, parts: SplitResult) -> Address:
    if not parts.path or parts.netloc + _rest(parts):
        raise ValueError("it should look like unix:///path")
    return Unix(unquote(parts.path, errors="surrogateescape"))  # as file names are read


def _read_stdio(url: str, parts: SplitResult) -> Address:
    if parts.netloc + parts.path + _rest(parts):
        raise ValueError("it should be stdio: and nothing more")
    return Stdio()


def _read_nats(url: str, parts: SplitResult) -> Address:
    try:
        from rpcproto.transports.nats import split_room_url  # noqa: PLC0415 (it may be missing)
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] != "nats":
            raise
        raise NoConnection(str(error)) from None
    servers, room = split_room_url(url)
    return Nats(tuple(servers), room)


def _read_livekit(url: str, parts: SplitResult) -> Address:
    try:
        from rpcproto.livekit.link import is_loopback  # noqa: PLC0415 (it may be missing)
        from rpcproto.livekit.stacks import peer_connection  # noqa: PLC0415
        from rpcproto.livekit.transport import checked_url  # noqa: PLC0415

        peer_connection(None)
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] == "rpcproto":
            raise
        raise NoConnection(
            f"a LiveKit room needs the package {error.name.partition('.')[0]!r}, which is not "
            f"installed; {how_to_install('livekit')}"
        ) from None
    if parts.scheme in ("ws", "wss"):
        return LiveKit(checked_url(url))
    room = unquote(parts.path[1:], errors="strict")
    if not room or "/" in parts.path[1:] or "@" in parts.netloc or _rest(parts):
        raise ValueError("it should look like livekit://host/room")
    # Only what does not leave this machine goes without TLS.
    scheme = "ws" if is_loopback(url) else "wss"
    return LiveKit(checked_url(f"{scheme}://{parts.netloc}"), room)


def _rest(parts: SplitResult) -> str:
    return parts.query + parts.fragment


_READERS: Final = {
    "tcp": _read_tcp,
    "unix": _read_unix,
    "nats": _read_nats,
    "tls": _read_nats,
    "wss": _read_livekit,
    "ws": _read_livekit,
    "livekit": _read_livekit,
    "stdio": _read_stdio,
}


async def connect(address: Address, identity: str, **options: Unpack[StreamOptions]) -> Transport:
    """Connect to whoever serves there, or come into the room; raises NoConnection.

    `options` are for a stream, and ignored in a room.
    """
    with _explained(address):
        match address:
            case Tcp(host, port):
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    return await stream.connect_tcp(host, port, identity, **options)
            case Unix(path):
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    return await stream.connect_unix(path, identity, **options)
            case Stdio():
                return await _connect_stdio(identity, options)
            case Nats(servers, room):
                from rpcproto.transports.nats import join_room  # noqa: PLC0415 (it may be missing)

                return await join_room(servers, room, identity)
            case LiveKit(url, _, token):
                from rpcproto import livekit  # noqa: PLC0415 (it may be missing)

                return await livekit.join_room(url, token)


async def _connect_stdio(identity: str, options: StreamOptions) -> Transport:
    try:
        pipes = stdio()
    except (ValueError, NotImplementedError):
        raise click.UsageError(
            "with stdio:, standard input and output must be pipes or sockets"
        ) from None
    transport = StreamTransport(pipes, identity, **options)
    try:
        with explained("connect over", str(Stdio())):
            await transport.greet()
    except BaseException:
        await anyio.aclose_forcefully(transport)
        raise
    return transport


async def serve(
    address: Address,
    identity: str,
    handle: Callable[[Transport], Awaitable[BaseException | None]],
    announce: Callable[[Address], None],
    *,
    max_connections: int = stream.MAX_CONNECTIONS,
    send_timeout: float = stream.SEND_TIMEOUT,
) -> None:
    """Call `handle` with each connection that comes, for ever, or with the one that there is.

    `handle` returns why the connection ended, or None if there is nothing to say. `announce` is
    called with the address under which others can reach us, once they can. The limits are those of
    `rpcproto.transports.stream.serve`. Raises NoConnection if nobody can reach us, or if the one
    connection that there is ended for a reason.
    """
    if isinstance(address, Stdio | Nats | LiveKit):
        transport = await connect(
            address, identity, hello_timeout=_VERY_LONG, send_timeout=send_timeout
        )
        announce(address)
        reason = await handle(transport)
        if reason is not None:
            raise NoConnection(f"lost the connection to {address}: {reason_of(reason)}")
        return

    async def handle_one_of_many(transport: StreamTransport) -> None:
        await handle(transport)

    async with AsyncExitStack() as stack:
        with _explained(address):
            match address:
                case Tcp(host, port):
                    listener = await stack.enter_async_context(stream.listen_tcp(host, port))
                    address = Tcp(host, listener.extra(SocketAttribute.local_port))
                case Unix(path):
                    listener = await stack.enter_async_context(stream.listen_unix(path))
        announce(address)
        await stream.serve(
            listener,
            identity,
            handle_one_of_many,
            max_connections=max_connections,
            send_timeout=send_timeout,
        )


@contextmanager
def _explained(address: Address) -> Iterator[None]:
    """Turn an error of connecting or listening, which names the address, into NoConnection."""
    try:
        yield
    except OSError as error:
        late = f"cannot connect to {address}: no answer within {CONNECT_TIMEOUT:g} seconds"
        raise NoConnection(str(error) or late) from error
