"""What `rpcproto call` does: one call, and what was seen of it."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from rpcproto.asyncio import RpcParticipant
from rpcproto.cli.sealing import Keys, ReportingEngine, Unreadable
from rpcproto.cli.urls import Address, LiveKitApi, NoConnection, connect
from rpcproto.cli.watching import WatchedEnd, Watcher
from rpcproto.core.errors import ErrorCode
from rpcproto.errors import RpcError
from rpcproto.recording import Style
from rpcproto.transports import Transport
from rpcproto.transports.stream import StreamTransport

_SILENT: Final = {ErrorCode.CONNECTION_TIMEOUT, ErrorCode.RESPONSE_TIMEOUT}
"""The errors that a call ends with if the peer cannot read its packets, or we not the answer."""
MAX_NAMED: Final = 10
"""Of those who are here, so many are named to who has looked for somebody else."""


async def call(
    address: Address,
    identity: str,
    destination: str | None,
    method: str,
    payload: str,
    *,
    timeout: float | None,
    wait: float,
    keys: Keys | None = None,
    watcher: Watcher | None = None,
) -> str:
    """Make one call as the participant `identity`; returns the payload of the response.

    `destination` has `wait` seconds to come, the answer `timeout` (None: the config's). Without a
    destination, it is the first agent of a LiveKit room. With `keys`, packets are encrypted.

    Raises RpcError, NoConnection, and LocalProtocolError for what cannot be called.
    """
    cryptor = None if keys is None else keys.cryptor()
    unreadable = Unreadable(lambda line: None)
    reporting = partial(ReportingEngine, unreadable)
    engine = reporting if watcher is None else partial(WatchedEnd, watcher, unreadable)
    transport = await connect(address, identity)
    if watcher is not None:
        watcher.begin(identity, *([] if destination is None else [destination]))
    us = RpcParticipant(transport, cryptor=cryptor, engine_factory=engine)
    agent_comes = None if destination is not None else _agent_of(us, transport)
    async with us:
        try:
            if agent_comes is not None:
                destination = await agent_comes(wait)
            if destination is None or not await comes(us, transport, destination, wait):
                if watcher is not None:
                    watcher.note(
                        identity, f"{destination or 'an agent'} did not join in time", Style.BAD
                    )
                raise RpcError(ErrorCode.RECIPIENT_NOT_FOUND)
            return await us.perform_rpc(
                destination_identity=destination,
                method=method,
                payload=payload,
                response_timeout=timeout,
            )
        except RpcError as error:
            if error.code == ErrorCode.RECIPIENT_NOT_FOUND:
                others = ", ".join(us.participants[:MAX_NAMED])
                error.add_note(f"other participants: {others or 'none'}")
            if error.__cause__ is not None:
                error.add_note(str(error.__cause__))
            if error.code in _SILENT and destination is not None:
                for line in unreadable.of(destination):
                    error.add_note(line)
                if keys is not None:
                    error.add_note(
                        f"packets are encrypted here: {destination} may have another key, or none"
                    )
            raise


async def call_by_server(
    address: LiveKitApi, destination: str, method: str, payload: str, timeout: float | None
) -> str:
    """Let the server make a call; returns the payload of the response.

    Raises RpcError, NoConnection, and LocalProtocolError for what cannot be called.
    """
    from rpcproto.livekit import ConnectError, perform_rpc_by_server  # noqa: PLC0415

    url, room, api_key, api_secret = address
    timeouts = {} if timeout is None else {"response_timeout": timeout}
    try:
        return await perform_rpc_by_server(
            url,
            api_key,
            api_secret,
            room,
            destination_identity=destination,
            method=method,
            payload=payload,
            **timeouts,
        )
    except ConnectError as error:
        raise NoConnection(str(error)) from error
    except RpcError as error:
        if error.__cause__ is not None:
            error.add_note(str(error.__cause__))
        raise


def _agent_of(us: RpcParticipant, transport: Transport) -> Callable[[float], Awaitable[str | None]]:
    """What waits so many seconds for an agent, and returns its identity if there is one."""
    from rpcproto.livekit.room_events import RoomEvents  # noqa: PLC0415 (it may be missing)
    from rpcproto.livekit.transport import LiveKitTransport  # noqa: PLC0415

    assert isinstance(transport, LiveKitTransport)
    events = RoomEvents(us.identity)
    transport.on_news, transport.on_state = events.take, events.change_state

    async def comes(wait: float) -> str | None:
        try:
            async with asyncio.timeout(wait):
                return (await events.wait_for_kind("agent")).identity
        except TimeoutError:
            return None

    return comes


async def comes(us: RpcParticipant, transport: Transport, other: str, wait: float) -> bool:
    """Whether `other` is here within `wait` seconds.

    Always so over a stream: there it is known who is here, and the call itself tells.
    """
    if isinstance(transport, StreamTransport):
        return True
    try:
        async with asyncio.timeout(wait):
            await us.wait_for_participant(other)
    except TimeoutError:
        return False
    return True
