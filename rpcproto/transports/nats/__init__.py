"""A room on a NATS server or cluster, for asyncio. Needs the extra `nats`.

What goes to one participant and what goes to everybody have subjects of their own:

    rpcproto.<room>.to.<receiver>.<sender>.<sid>         a packet
    rpcproto.<room>.to.<receiver>.<sender>.<sid>.here    an announcement, to one
    rpcproto.<room>.here.<sender>.<sid>                  an announcement, to everybody

Who sent something is what its subject says, and never what is inside (R36). So it is as true as the
permissions of the server make it: see docs/transports.md.
"""

import secrets
import time
from collections.abc import Callable, Collection, Sequence
from ssl import SSLContext
from typing import Final, TypedDict, Unpack

from rpcproto.core.errors import require_name, require_timeout
from rpcproto.extras import extra, require_asyncio
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
    """How to be let in, as nats-py takes it."""

    user: str
    password: str
    token: str
    user_credentials: str
    """The path of a credentials file; needs the package `nkeys`."""
    nkeys_seed: str
    """The path of a seed file; needs the package `nkeys`."""
    tls: SSLContext
    """What TLS is done with. Like a URL that begins with `tls://`, it requires TLS."""
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
    """Come into `room` under `identity`; what is returned is the participant's transport.

    `servers` are the URLs of one or some servers of a cluster, `nats://host:port` or `tls://...`,
    with `user:password@` or `token@` where that is needed; `options` go to nats-py. If one of the
    URLs begins with `tls://`, or `tls` is given, nothing is sent to a server without TLS. Room and
    identity are any text of 1 to 256 bytes in UTF-8. Times are in seconds: `heartbeat_interval`,
    0.05 to 3600, is how often we say that we are here, three missed ones mean that we are not;
    coming in may take `connect_timeout`; `reconnect_wait` lies between two attempts at the same
    server. `new_sid` makes the sid of each connection; None takes random ones.

    Raises ConnectionError when no server lets us in, PermissionError when it does but does not
    allow this identity or room, and LocalProtocolError for misuse and outside of asyncio.
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
