"""The options that say where to go, under which name, and with which right."""

from collections.abc import Callable
from functools import reduce, wraps
from typing import Any, Final

import click

from rpcproto.cli.urls import Address, LiveKit, parse_url
from rpcproto.core.errors import LocalProtocolError, require_name
from rpcproto.wire import MAX_IDENTITY_BYTES


def identity(name: str) -> str:
    """The identity that was typed; raises click.BadParameter for what is none."""
    try:
        require_name(name, "an identity", MAX_IDENTITY_BYTES)
    except LocalProtocolError as error:
        raise click.BadParameter(str(error)) from None
    return name


_TRANSPORT: Final = click.option(
    "--transport",
    "address",
    type=parse_url,
    metavar="URL",
    required=True,
    envvar="RPCPROTO_TRANSPORT",
    show_envvar=True,
    help="tcp://host:port, unix:///path, nats://host:port/room, wss://host of a LiveKit server, "
    "livekit://host/room, or stdio:",
)
_ADMISSION: Final = [
    click.option(
        "--token",
        envvar="LIVEKIT_TOKEN",
        show_envvar=True,
        metavar="TOKEN",
        help="For a LiveKit room: an access token, which has room and identity in it.",
    ),
    click.option(
        "--api-key",
        envvar="LIVEKIT_API_KEY",
        show_envvar=True,
        metavar="KEY",
        help="Instead of a token: the key of the server,",
    ),
    click.option(
        "--api-secret",
        envvar="LIVEKIT_API_SECRET",
        show_envvar=True,
        metavar="SECRET",
        help="its secret,",
    ),
    click.option("--room", metavar="NAME", help="and the room."),
]


def reaching(
    identity_help: str, default_identity: str | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command these options, and let it have `address` and `identity` of them."""
    shown = "" if default_identity is None else f"  [default: {default_identity}]"
    named = click.option("--identity", type=identity, metavar="NAME", help=identity_help + shown)

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
            if isinstance(address, LiveKit):
                name = identity or default_identity
                address, identity = (
                    _with_token(address, token.strip(), identity, room)
                    if token
                    else _with_key(address, api_key, api_secret, name, room)
                )
            return command(address=address, identity=_given(identity or default_identity), **others)

        options = [_TRANSPORT, named, *_ADMISSION]
        return reduce(lambda function, option: option(function), reversed(options), reached)

    return decorate


def _given(name: str | None) -> str:
    if name is None:
        raise click.UsageError("Missing option '--identity'.")
    return name


def _with_token(
    address: LiveKit, token: str, name: str | None, room: str | None
) -> tuple[LiveKit, str]:
    from rpcproto.livekit.tokens import identity_of  # noqa: PLC0415 (it may be missing)

    try:
        owner = identity_of(token)
    except LocalProtocolError as error:
        raise click.UsageError(f"--token: {error}") from None
    if name is not None and name != owner:
        raise click.UsageError(f"--identity: the token is that of {owner!r}, not of {name!r}")
    if room or address.room:
        raise click.UsageError("the room is in the token: leave it out of the options and the URL")
    return address._replace(token=token), owner


def _with_key(
    address: LiveKit,
    api_key: str | None,
    api_secret: str | None,
    name: str | None,
    room: str | None,
) -> tuple[LiveKit, str]:
    from rpcproto.livekit.tokens import access_token  # noqa: PLC0415 (it may be missing)

    room = room or address.room
    if not (api_key and api_secret and room):
        raise click.UsageError(
            "a LiveKit room needs --token, or --api-key, --api-secret and --room"
        )
    name = _given(name)
    try:
        token = access_token(api_key, api_secret, room, name)
    except LocalProtocolError as error:
        raise click.UsageError(str(error)) from None
    return address._replace(token=token), name
