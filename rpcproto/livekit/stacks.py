"""The WebRTC stacks, and which one is used."""

from importlib.metadata import version
from importlib.util import find_spec
from typing import Final, Literal, TypeAlias, get_args

from rpcproto.core.errors import LocalProtocolError
from rpcproto.extras import how_to_install
from rpcproto.livekit.peer_connection import PeerConnection

Stack: TypeAlias = Literal["wrtc", "aiortc"]
"""A WebRTC stack, by the name of its package."""

STACKS: Final[tuple[Stack, ...]] = get_args(Stack)
"""The one that is taken if it is installed comes first."""


_EXTRAS: Final[dict[Stack, str]] = {"wrtc": "livekit", "aiortc": "livekit-aiortc"}


def installed_stacks() -> tuple[Stack, ...]:
    """The stacks that are installed, the one that is taken by itself first."""
    return tuple(stack for stack in STACKS if find_spec(stack) is not None)


def stack_version(stack: Stack) -> str:
    """The version of an installed stack."""
    return version(stack)


def peer_connection(stack: Stack | None) -> type[PeerConnection]:
    """The connections of a stack; of the first that is installed, if it is None.

    Raises ModuleNotFoundError if that is not installed, LocalProtocolError if there is none of
    that name.
    """
    if stack is None:
        stack = _first_installed()
    elif stack not in _EXTRAS:
        raise LocalProtocolError(
            f"there is no WebRTC stack {stack!r}; there are: {', '.join(_EXTRAS)}"
        )
    elif find_spec(stack) is None:
        raise ModuleNotFoundError(
            f"the WebRTC stack {stack} is not installed; {how_to_install(_EXTRAS[stack])}",
            name=stack,
        )
    if stack == "wrtc":
        from rpcproto.livekit.wrtc_connection import WrtcConnection  # noqa: PLC0415

        return WrtcConnection
    from rpcproto.livekit.aiortc_connection import AiortcConnection  # noqa: PLC0415

    return AiortcConnection


def _first_installed() -> Stack:
    for stack in installed_stacks():
        return stack
    raise ModuleNotFoundError(
        "a LiveKit room needs wrtc or aiortc, neither of which is installed; "
        + how_to_install("livekit"),
        name="wrtc",
    )
