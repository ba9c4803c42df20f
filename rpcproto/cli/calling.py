"""What `rpcproto call` does: one call, and what was seen of it."""

import asyncio
from functools import partial
from typing import Final

from rpcproto.asyncio import RpcParticipant
from rpcproto.cli.sealing import Keys, ReportingEngine, Unreadable
from rpcproto.cli.urls import Address, connect
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
    destination: str,
    method: str,
    payload: str,
    *,
    timeout: float | None,
    wait: float,
    keys: Keys | None = None,
    watcher: Watcher | None = None,
) -> str:
    """Make one call as the participant `identity`; returns the payload of the response.

    `destination` has `wait` seconds to come, the answer `timeout` (None: the config's). With
    `keys`, packets are encrypted. Raises RpcError, NoConnection, and LocalProtocolError for what
    cannot be called.
    """
    cryptor = None if keys is None else keys.cryptor()
    unreadable = Unreadable(lambda line: None)
    reporting = partial(ReportingEngine, unreadable)
    engine = reporting if watcher is None else partial(WatchedEnd, watcher, unreadable)
    transport = await connect(address, identity)
    if watcher is not None:
        watcher.begin(identity, destination)
    async with RpcParticipant(transport, cryptor=cryptor, engine_factory=engine) as us:
        try:
            if not await comes(us, transport, destination, wait):
                if watcher is not None:
                    watcher.note(identity, f"{destination} did not join in time", Style.BAD)
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
            if error.code in _SILENT:
                for line in unreadable.of(destination):
                    error.add_note(line)
                if keys is not None:
                    error.add_note(
                        f"packets are encrypted here: {destination} may have another key, or none"
                    )
            raise


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
