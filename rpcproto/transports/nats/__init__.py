"""A room on a NATS server or cluster, for asyncio. Needs the extra `nats`.

Packets and announcements have subjects that name the room, the receiver and the sender:

    rpcproto.<room>.to.<receiver>.<sender>.<sid>         a packet
    rpcproto.<room>.to.<receiver>.<sender>.<sid>.here    an announcement, to one
    rpcproto.<room>.here.<sender>.<sid>                  an announcement, to everybody

The sender is taken from the subject and never from the message (R36). It can be trusted only if the
server's permissions restrict who can publish to which subjects. See docs/transports.md.
"""

import secrets
import time
from collections.abc import Callable, Collection, Sequence
from ssl import SSLContext
from typing import Final, TypedDict, Unpack

from rpcproto.core.errors import require_name, require_timeout
from rpcproto.extras import extra, require_asyncio
from rpcproto.publishing import publish
from rpcproto.transports import OUR_CAPABILITIES, OUR_CLIENT_PROTOCOL
from rpcproto.transports.nats.names import MAX_NAME_BYTES, decode_name, encode_name
from rpcproto.transports.nats.urls import read_servers, split_room_url
from rpcproto.transports.presence import HEARTBEAT_INTERVAL, Presence

with extra("nats", __name__):
    from rpcproto.transports.nats.transport import NatsTransport

__all__ = [
    "MAX_NAME_BYTES",
    "NatsOptions",
    "NatsTransport",
    "decode_name",
    "encode_name",
    "join_room",
    "split_room_url",
]

_ATTEMPT_TIME: Final = 2.0


class NatsOptions(TypedDict, total=False):
    """Credentials and TLS, as nats-py takes them."""

    user: str
    password: str
    token: str
    user_credentials: str
    """The path of a credentials file; needs the package `nkeys`."""
    nkeys_seed: str
    """The path of a seed file; needs the package `nkeys`."""
    tls: SSLContext
    """Requires TLS, like a URL that begins with `tls://`, and configures the verification of the
    server."""
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
) -> NatsTransport:
    """Join `room` as `identity`, and return the participant's transport.

    `servers` are the URLs of one or more servers of a cluster, `nats://host:port` or `tls://...`,
    with `user:password@` or `token@` if needed. `options` are passed to nats-py. If one of the URLs
    begins with `tls://`, or `tls` is given, nothing is sent to a server that does not offer TLS.
    Room and identity are texts of 1 to 256 bytes of UTF-8.

    Durations are in seconds. A participant announces itself every `heartbeat_interval` (0.05 to
    3600), and counts as departed when three announcements in a row are missing. `connect_timeout`
    limits joining. After a failed attempt, the same server is tried again after `reconnect_wait`.
    `new_sid` returns the sid of each connection; by default, sids are random.

    Raises:
        ConnectionError: No server accepts the connection, or it can't carry announcements.
        PermissionError: The server does not allow this identity or room.
        LocalProtocolError: An argument is invalid, or no asyncio loop is running.
    """
    require_asyncio(__name__)
    require_name(room, "room", MAX_NAME_BYTES)
    require_name(identity, "identity", MAX_NAME_BYTES)
    require_timeout(connect_timeout, "connect_timeout")
    require_timeout(reconnect_wait, "reconnect_wait")
    read = read_servers([servers] if isinstance(servers, str) else servers)
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
        **read.credentials,
        **options,
    }
    read = read._replace(requires_tls=read.requires_tls or options.get("tls") is not None)
    transport = NatsTransport(
        read, settings, room, presence, heartbeat_interval, reconnect_wait, make_sid
    )
    await transport._join(connect_timeout)
    return transport


def _random_sid() -> str:
    return f"PA_{secrets.token_urlsafe(12)}"


publish(globals())
