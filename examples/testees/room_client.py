"""A testee for `rpcproto conform --room`: rpcproto's own client of a LiveKit room.

rpcproto conform --room --exec "python examples/testees/room_client.py"
"""

import asyncio
import hashlib
import json
import os
from collections import Counter
from typing import Any

from rpcproto import LocalProtocolError
from rpcproto.asyncio import RpcError, RpcInvocationData
from rpcproto.e2ee import AesGcmCryptor, derive_key
from rpcproto.livekit import Room, connect

counts = Counter[str]()


def echo(data: RpcInvocationData) -> str:
    counts[data.payload] += 1
    return data.payload


def size(data: RpcInvocationData) -> str:
    return "x" * int(data.payload)


def text(data: RpcInvocationData) -> str:
    asked = json.loads(data.payload)
    return str(asked["text"] * asked["times"])


def fail(data: RpcInvocationData) -> str:
    asked = json.loads(data.payload)
    raise RpcError(asked["code"], asked["message"], asked["data"])


def crash(data: RpcInvocationData) -> str:
    raise RuntimeError(data.payload)


async def wait(data: RpcInvocationData) -> str:
    asked = json.loads(data.payload)
    await asyncio.sleep(asked["seconds"])
    return str(asked["answer"])


def count(data: RpcInvocationData) -> str:
    return str(counts[data.payload])


async def outcome(
    room: Room, destination: str, method: str, payload: str, **more: Any
) -> dict[str, Any]:
    timeout = more.get("response_timeout_ms", 15_000) / 1000
    try:
        answer = await room.local_participant.perform_rpc(
            destination_identity=destination,
            method=method,
            payload=payload * more.get("times", 1),
            response_timeout=timeout,
        )
    except RpcError as error:
        return {"code": error.code, "message": error.message, "data": error.data}
    except LocalProtocolError as error:
        return {"raised": str(error)}
    if more.get("digest"):
        content = answer.encode()
        return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return {"payload": answer}


def cryptor() -> AesGcmCryptor | None:
    passphrase = os.environ.get("CONFORM_E2EE_PASSPHRASE")
    if passphrase is None:
        return None
    made = AesGcmCryptor()
    made.set_shared_key(derive_key(passphrase))
    return made


async def main() -> None:
    url, token = os.environ["LIVEKIT_URL"], os.environ["LIVEKIT_TOKEN"]
    async with connect(url, token, cryptor=cryptor()) as room:

        async def call(data: RpcInvocationData) -> str:
            return json.dumps(await outcome(room, **json.loads(data.payload)), ensure_ascii=False)

        for handler in (echo, size, text, fail, crash, wait, count, call):
            room.local_participant.register_rpc_method(f"conform.{handler.__name__}", handler)
        await room.wait_closed()


asyncio.run(main())
