"""A testee for `rpcproto conform --room`, in Python on LiveKit's SDK.

rpcproto conform --room --exec "python examples/testees/livekit_sdk.py"
"""

import asyncio
import hashlib
import json
import os
from collections import Counter
from typing import Any

import livekit.rtc as rtc

counts = Counter[str]()


async def echo(data: rtc.RpcInvocationData) -> str:
    counts[data.payload] += 1
    return str(data.payload)


async def size(data: rtc.RpcInvocationData) -> str:
    return "x" * int(data.payload)


async def text(data: rtc.RpcInvocationData) -> str:
    asked = json.loads(data.payload)
    return str(asked["text"] * asked["times"])


async def fail(data: rtc.RpcInvocationData) -> str:
    asked = json.loads(data.payload)
    raise rtc.RpcError(asked["code"], asked["message"], asked["data"])


async def crash(data: rtc.RpcInvocationData) -> str:
    raise RuntimeError(data.payload)


async def wait(data: rtc.RpcInvocationData) -> str:
    asked = json.loads(data.payload)
    await asyncio.sleep(asked["seconds"])
    return str(asked["answer"])


async def count(data: rtc.RpcInvocationData) -> str:
    return str(counts[data.payload])


async def outcome(
    room: rtc.Room, destination: str, method: str, payload: str, **more: Any
) -> dict[str, Any]:
    options = {}
    if "response_timeout_ms" in more:
        options["response_timeout"] = more["response_timeout_ms"] / 1000
    try:
        answer = await room.local_participant.perform_rpc(
            destination_identity=destination,
            method=method,
            payload=payload * more.get("times", 1),
            **options,
        )
    except rtc.RpcError as error:
        return {"code": error.code, "message": error.message, "data": error.data or ""}
    except Exception as error:  # what the SDK refuses in its own way
        return {"raised": str(error)}
    if more.get("digest"):
        content = answer.encode()
        return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return {"payload": answer}


def encryption() -> dict[str, Any]:
    passphrase = os.environ.get("CONFORM_E2EE_PASSPHRASE")
    if passphrase is None:
        return {}
    provider = rtc.KeyProviderOptions(shared_key=passphrase.encode())
    return {"encryption": rtc.E2EEOptions(key_provider_options=provider)}


async def main() -> None:
    room = rtc.Room()
    disconnected = asyncio.Event()
    room.on("disconnected", lambda *_: disconnected.set())
    options = rtc.RoomOptions(auto_subscribe=False, **encryption())
    await room.connect(os.environ["LIVEKIT_URL"], os.environ["LIVEKIT_TOKEN"], options)

    async def call(data: rtc.RpcInvocationData) -> str:
        return json.dumps(await outcome(room, **json.loads(data.payload)), ensure_ascii=False)

    for handler in (echo, size, text, fail, crash, wait, count, call):
        room.local_participant.register_rpc_method(f"conform.{handler.__name__}", handler)
    await disconnected.wait()


asyncio.run(main())
