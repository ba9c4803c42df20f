"""The options that say where to go, under which name, and with which right."""

import os
import re
from collections.abc import Callable
from functools import reduce, wraps
from typing import Any, Final, NamedTuple

import click
from click.core import ParameterSource

from rpcproto.cli.options import identity as identity_type
from rpcproto.cli.urls import Address, LiveKit, LiveKitApi, parse_url
from rpcproto.core.errors import LocalProtocolError

LIVEKIT_URL: Final = "LIVEKIT_URL"
"""The environment variable with the server of LiveKit's tools: where to go if nothing else says."""
_TOKEN: Final = "LIVEKIT_TOKEN"


def _transport(ctx: click.Context, param: click.Parameter, address: Address | None) -> Address:
    if address is not None:
        return address
    url = os.environ.get(LIVEKIT_URL)
    if not url or ctx.resilient_parsing:
        raise click.MissingParameter(ctx=ctx, param=param)
    try:
        # LiveKit's tools write it both ways.
        return parse_url(re.sub("^http", "ws", url))
    except click.BadParameter as error:
        raise click.UsageError(f"{LIVEKIT_URL}: {error.message}", ctx) from None


_TRANSPORT: Final = click.option(
    "--transport",
    "address",
    type=parse_url,
    callback=_transport,
    metavar="URL",
    envvar="RPCPROTO_TRANSPORT",
    help="tcp://host:port, unix:///path, nats://host:port/room, tls://host:port/room (NATS with "
    "TLS), wss://host of a LiveKit server, livekit://host/room, or stdio:  "
    f"[env var: RPCPROTO_TRANSPORT, {LIVEKIT_URL}]",
)
_ADMISSION: Final = [
    click.option(
        "--token",
        envvar=_TOKEN,
        show_envvar=True,
        metavar="TOKEN",
        help="An access token for a LiveKit room, which names the room and the identity.",
    ),
    click.option(
        "--api-key",
        envvar="LIVEKIT_API_KEY",
        show_envvar=True,
        metavar="KEY",
        help="The API key of a LiveKit server, instead of a token.",
    ),
    click.option(
        "--api-secret",
        envvar="LIVEKIT_API_SECRET",
        show_envvar=True,
        metavar="SECRET",
        help="The secret of the API key.",
    ),
    click.option(
        "--room", metavar="NAME", help="With an API key, the room, unless the URL names it."
    ),
]


class _Admission(NamedTuple):
    """What was given to be let into a LiveKit room."""

    token: str
    api_key: str
    api_secret: str
    name: str | None
    room: str
    default_name: str | None


def reaching(
    identity_help: str, default_identity: str | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command these options, and let it have `address` and `identity` of them."""
    shown = "" if default_identity is None else f"  [default: {default_identity}]"
    named = click.option(
        "--identity", type=identity_type, metavar="NAME", help=identity_help + shown
    )

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def reached(
            *,
            address: Address,
            identity: str | None,
            token: str | None,
            api_key: str | None,
            api_secret: str | None,
            room: str | None,
            **others: Any,
        ) -> Any:
            by_server = bool(others.get("server"))
            if by_server and not isinstance(address, LiveKit):
                raise click.UsageError("--server is for LiveKit servers")
            if isinstance(address, LiveKit):
                given = _Admission(
                    (token or "").strip(),
                    api_key or "",
                    api_secret or "",
                    identity,
                    room or address.room,
                    default_identity,
                )
                if by_server:
                    return command(address=_api(address, given), identity="", **others)
                address, identity = _admitted(address, given)
            return command(address=address, identity=_given(identity or default_identity), **others)

        options = [_TRANSPORT, named, *_ADMISSION]
        return reduce(lambda function, option: option(function), reversed(options), reached)

    return decorate


def _given(name: str | None) -> str:
    if name is None:
        raise click.UsageError("Missing option '--identity'.")
    return name


def _admitted(address: LiveKit, given: _Admission) -> tuple[LiveKit, str]:
    """The address with a token in it, and the identity. What was typed wins over a token that is in
    the environment."""
    ctx = click.get_current_context()
    typed = {
        name
        for name in ("token", "api_key", "api_secret")
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    has_key = bool(given.api_key and given.api_secret)
    names_something = has_key and bool(given.name or given.room)
    if given.token and ("token" in typed or not (typed or names_something)):
        return _with_token(address, given, "--token" if "token" in typed else _TOKEN)
    return _with_key(address, given)


def _with_token(address: LiveKit, given: _Admission, source: str) -> tuple[LiveKit, str]:
    from rpcproto.livekit.tokens import identity_of  # noqa: PLC0415 (it may be missing)

    try:
        owner = identity_of(given.token)
    except LocalProtocolError as error:
        raise click.UsageError(f"{source}: {error}") from None
    if given.name is not None and given.name != owner:
        raise click.UsageError(
            f"--identity: the token ({source}) belongs to {owner!r}, not to {given.name!r}"
        )
    if given.room:
        raise click.UsageError(
            f"the token ({source}) names the room: remove {given.room!r} from --room or the URL"
        )
    return address._replace(token=given.token), owner


def _api(address: LiveKit, given: _Admission) -> LiveKitApi:
    if given.name is not None:
        raise click.UsageError("--identity: with --server, the server itself makes the call")
    _require_key(given, "--server needs ")
    return LiveKitApi(address.url, given.room, given.api_key, given.api_secret)


def _require_key(given: _Admission, needs: str) -> None:
    wanted = {"--api-key": given.api_key, "--api-secret": given.api_secret, "--room": given.room}
    missing = [option for option, value in wanted.items() if not value]
    if missing:
        *others, last = missing
        both = f"{', '.join(others)} and {last}" if others else last
        raise click.UsageError(f"{needs}{both}")


def _with_key(address: LiveKit, given: _Admission) -> tuple[LiveKit, str]:
    from rpcproto.livekit.tokens import access_token  # noqa: PLC0415 (it may be missing)

    instead = "" if given.api_key or given.api_secret else "--token, or "
    _require_key(given, f"a LiveKit room needs {instead}")
    name = _given(given.name or given.default_name)
    try:
        token = access_token(given.api_key, given.api_secret, given.room, name)
    except LocalProtocolError as error:
        raise click.UsageError(str(error)) from None
    return address._replace(token=token), name
