"""URLs of servers and of rooms."""

from collections.abc import Sequence
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from rpcproto.core.errors import LocalProtocolError

_TLS: Final = "tls"


class Servers(NamedTuple):
    """What the URLs of servers say."""

    addresses: list[str]
    """The URLs without credentials."""
    credentials: dict[str, str]
    """Those of the first URL that has any. They are for all servers, also for those that a cluster
    names, and for no log."""
    requires_tls: bool
    """Whether one of the URLs begins with `tls://`; then no server may do without."""


def split_room_url(url: str) -> tuple[list[str], str]:
    """Return servers and room of `nats://host:port/room`, for `join_room`.

    The hosts of a cluster are separated by commas. The room is percent-encoded.

    Raises:
        LocalProtocolError: The URL is invalid.
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


def read_servers(urls: Sequence[str]) -> Servers:
    """Read the URLs of one server or of some servers; raises LocalProtocolError."""
    servers = Servers([], {}, any(url.lower().startswith(f"{_TLS}:") for url in urls))
    for url in urls:
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("nats", _TLS) and parts.hostname and parts.port != 0
        except ValueError:
            usable = False
        if not usable or parts.path.strip("/") or parts.query or parts.fragment:
            raise LocalProtocolError("the URL of a server looks like nats://host:port")
        userinfo, _, address = parts.netloc.rpartition("@")
        servers.addresses.append(f"{parts.scheme}://{address}")
        if userinfo and not servers.credentials:
            user, colon, password = userinfo.partition(":")
            if colon:
                servers.credentials.update(user=unquote(user), password=unquote(password))
            else:
                servers.credentials.update(token=unquote(user))
    if not servers.addresses:
        raise LocalProtocolError("at least one URL of a server is needed")
    return servers
