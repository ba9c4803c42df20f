"""Kinds of options that several commands have."""

import math
from typing import Any, Final

import click

from rpcproto.core.errors import LocalProtocolError, require_name
from rpcproto.wire import MAX_IDENTITY_BYTES


class Number(click.FloatRange):
    """A number within a range: `nan` is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


SECONDS: Final = Number(0, 86_400, min_open=True)
"""A time to wait, at most a day."""


def identity(name: str) -> str:
    """Return the identity that was typed; raises click.BadParameter for what is none."""
    try:
        require_name(name, "an identity", MAX_IDENTITY_BYTES)
    except LocalProtocolError as error:
        raise click.BadParameter(str(error)) from None
    return name


class PayloadCommand(click.Command):
    """A command whose last argument may begin with a dash, and which says how."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        typed = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise click.UsageError(
                f"{error.format_message()} If a payload begins with a dash, put -- first, "
                f"as in: -- DESTINATION METHOD {_dashed(typed, error.option_name)}",
                ctx,
            ) from None


def _dashed(arguments: list[str], option: str) -> str:
    """The argument that was taken for an option."""
    return next((each for each in arguments if each.startswith(option)), option)
