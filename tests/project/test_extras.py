"""What a module says that cannot work here."""

import subprocess
import sys

import pytest
import trio

from rpcproto import LocalProtocolError
from rpcproto.transports.nats import join_room


def import_without(package: str, module: str) -> str:
    """What Python says last when a module is imported and a package is missing."""
    code = f"import sys; sys.modules[{package!r}] = None; import {module}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    return run.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("rpcproto.transports.memory", "anyio", "anyio"),
        ("rpcproto.transports.stream", "anyio", "anyio"),
        ("rpcproto.transports.pipes", "anyio", "anyio"),
        ("rpcproto.transports.websocket", "websockets", "websockets"),
        ("rpcproto.transports.websocket", "anyio", "websockets"),
        ("rpcproto.transports.nats", "nats", "nats"),
        ("rpcproto.livekit", "livekit", "livekit"),
        ("rpcproto.livekit", "websockets", "livekit"),
        ("rpcproto.livekit", "jwt", "livekit"),
        ("rpcproto.trio", "trio", "trio"),
    ],
)
def test_a_module_whose_extra_is_missing_names_it(module: str, package: str, extra: str) -> None:
    assert import_without(package, module) == (
        f"ImportError: {module} needs the package {package!r}, which is not installed; "
        f"install rpcproto with the extra '{extra}' (in a checkout: pip install '.[{extra}]')"
    )


def test_streams_and_rooms_in_memory_need_nothing_that_only_trio_brings() -> None:
    hidden = "sys.modules['sniffio'] = sys.modules['trio'] = None"
    code = f"import sys; {hidden}; import rpcproto.transports.memory, rpcproto.transports.stream"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_module_of_ours_that_cannot_be_imported_is_not_taken_for_an_extra() -> None:
    told = import_without("rpcproto.transports.inbox", "rpcproto.transports.nats")
    assert told.startswith("ModuleNotFoundError: import of rpcproto.transports.inbox halted")


def test_a_room_on_nats_is_asyncio_only_and_says_so() -> None:
    with pytest.raises(LocalProtocolError, match=r"rpcproto\.transports\.nats is asyncio only"):
        trio.run(join_room, "nats://127.0.0.1:1", "lobby", "alice")
