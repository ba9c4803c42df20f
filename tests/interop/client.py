"""One participant in a process of its own, told what to do by JSON lines on standard input.

The same script drives LiveKit's own Python package, in any of its generations, and this project's
room client. It imports nothing else of the project, so that it runs in the environment of an old
package. Answers and events are JSON lines on standard output; an answer has its command's `id`.
"""

import argparse
import asyncio
import collections
import dataclasses
import importlib
import json
import sys
import threading
import time
from typing import Any

STARTED, CANCELLED, LEAVING = "started", "cancelled", "leaving"


class Driver:
    """Does what it is told with a room client, and serves the methods that the tests call.

    `sdk` says how rooms are joined; `tell` is given what happens inside of handlers.
    """

    def __init__(self, sdk: Any, tell: Any) -> None:
        self._sdk = sdk
        self._tell = tell
        self._participant: Any = None
        self._counts: collections.Counter[str] = collections.Counter()

    async def do(self, command: dict[str, Any]) -> dict[str, Any]:
        """One command; what is returned is its answer."""
        result: dict[str, Any] = await getattr(self, f"_do_{command.pop('do')}")(**command)
        return result

    async def _do_connect(
        self, url: str, token: str, keys: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """`keys` switches encryption on: see `encryption.py`."""
        self._participant = await self._sdk.connect(url, token, keys)
        self._serve()
        return {}

    async def _do_switch_key(self, passphrase: str, index: int) -> dict[str, Any]:
        """Seal with another shared key from now on."""
        self._sdk.set_shared_key(passphrase, index)
        return {}

    async def _do_wait(self, identity: str) -> dict[str, Any]:
        await self._sdk.wait_for(identity)
        return {}

    async def _do_leave(self) -> dict[str, Any]:
        await self._sdk.leave()
        return {}

    async def _do_drain(self) -> dict[str, Any]:
        """Wait until all answers have left, where the SDK can do so."""
        if hasattr(self._participant, "drain"):
            assert await self._participant.drain(10)
        return {}

    async def _do_call(
        self, to: str, method: str, payload: str, timeout: float | None = None
    ) -> dict[str, Any]:
        began = time.monotonic()
        answer: dict[str, Any]
        try:
            answer = {"payload": await self._call(to, method, payload, timeout)}
        except self._sdk.RpcError as error:
            answer = {"code": int(error.code), "message": error.message, "data": error.data or ""}
        return {**answer, "seconds": time.monotonic() - began}

    async def _do_calls(self, to: str, count: int, at_once: int, timeout: float) -> dict[str, Any]:
        """`count` calls of `echo`, `at_once` at a time; every answer is compared."""
        numbers = iter(range(count))
        outcomes: collections.Counter[str] = collections.Counter()
        latencies: list[float] = []

        async def call_on() -> None:
            for number in numbers:
                began = time.monotonic()
                try:
                    answer = await self._call(to, "echo", f"call {number}", timeout)
                    outcomes["right" if answer == f"call {number}" else "wrong"] += 1
                except self._sdk.RpcError as error:
                    outcomes[str(int(error.code))] += 1
                latencies.append(time.monotonic() - began)

        began = time.monotonic()
        await asyncio.gather(*(call_on() for _ in range(at_once)))
        return {
            "outcomes": dict(outcomes),
            "seconds": time.monotonic() - began,
            "p50": quantile(latencies, 0.5),
            "p99": quantile(latencies, 0.99),
        }

    async def _do_upload(self, to: str, payload: str, count: int) -> dict[str, Any]:
        """`count` calls with a large payload, one at a time."""
        began = time.monotonic()
        for _ in range(count):
            assert await self._call(to, "length", payload, 30) == str(len(payload))
        return {"seconds": time.monotonic() - began}

    async def _do_paced_calls(
        self, to: str, count: int, at_once: int, seconds: float, timeout: float
    ) -> dict[str, Any]:
        """`count` calls of `count`, begun evenly over `seconds`, at most `at_once` at a time; the
        time for an acknowledgement is as long as that for the answer."""
        outcomes: collections.Counter[str] = collections.Counter()
        took: list[float] = []
        free = asyncio.Semaphore(at_once)
        began = time.monotonic()

        async def call(number: int) -> None:
            await asyncio.sleep(began + number * seconds / count - time.monotonic())
            async with free:
                begins = time.monotonic()
                try:
                    answer = await self._participant.perform_rpc(
                        destination_identity=to,
                        method="count",
                        payload=f"paced {number}",
                        response_timeout=timeout,
                        max_round_trip_latency=timeout,
                    )
                    outcomes["right" if answer == "1" else "wrong"] += 1
                except self._sdk.RpcError as error:
                    outcomes[str(int(error.code))] += 1
                took.append(time.monotonic() - begins)

        await asyncio.gather(*map(call, range(count)))
        return {"outcomes": dict(outcomes), "longest": max(took)}

    async def _do_ran_twice(self) -> dict[str, Any]:
        """How many of the payloads of `count` it has run more than once."""
        return {"twice": sum(runs > 1 for runs in self._counts.values())}

    async def _do_intercept(self) -> dict[str, Any]:
        """Add interceptors of this SDK, which change what passes and write down what they see."""
        self._seen: list[str] = []
        self._interceptors = interceptors_of(
            self._sdk.RpcInterceptor, self._sdk.RpcError, self._seen
        )
        for interceptor in self._interceptors:
            self._participant.add_rpc_interceptor(interceptor)
        return {}

    async def _do_intercept_no_more(self) -> dict[str, Any]:
        """Remove them, and tell what they have seen."""
        for interceptor in self._interceptors:
            self._participant.remove_rpc_interceptor(interceptor)
        return {"seen": self._seen}

    async def _do_cpu(self) -> dict[str, Any]:
        """What this process has used so far, all threads together, in seconds."""
        return {"cpu_seconds": time.process_time()}

    async def _do_memory(self) -> dict[str, Any]:
        """What of this process is in memory."""
        with open("/proc/self/status") as status:  # noqa: PTH123 (as in any old Python)
            [line] = [line for line in status if line.startswith("VmRSS")]
        return {"resident_bytes": 1024 * int(line.split()[1])}

    async def _call(self, to: str, method: str, payload: str, timeout: float | None) -> str:
        more = {} if timeout is None else {"response_timeout": timeout}
        answer: str = await self._participant.perform_rpc(
            destination_identity=to, method=method, payload=payload, **more
        )
        return answer

    def _serve(self) -> None:
        serve = self._participant.register_rpc_method

        @serve("greet")  # type: ignore[untyped-decorator]
        async def greet(data: Any) -> str:
            return f"Hello, {data.caller_identity}!"

        @serve("echo")  # type: ignore[untyped-decorator]
        async def echo(data: Any) -> str:
            return str(data.payload)

        @serve("length")  # type: ignore[untyped-decorator]
        async def length(data: Any) -> str:
            return str(len(data.payload))

        @serve("fill")  # type: ignore[untyped-decorator]
        async def fill(data: Any) -> str:
            return "y" * int(data.payload)

        @serve("refuse")  # type: ignore[untyped-decorator]
        async def refuse(data: Any) -> str:
            raise self._sdk.RpcError(7001, "not today", '{"ask": "tomorrow ☀"}')

        @serve("break")  # type: ignore[untyped-decorator]
        async def break_down(data: Any) -> str:
            raise ValueError("a secret of the handler")

        @serve("count")  # type: ignore[untyped-decorator]
        async def count(data: Any) -> str:
            self._counts[data.payload] += 1
            return str(self._counts[data.payload])

        @serve("hang")  # type: ignore[untyped-decorator]
        async def hang(data: Any) -> str:
            self._tell(STARTED, data.payload)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self._tell(CANCELLED, data.payload)
                raise
            return "never"

        @serve("bye")  # type: ignore[untyped-decorator]
        async def bye(data: Any) -> str:
            self._tell(LEAVING, data.payload)
            return "y" * int(data.payload.partition(" ")[0])

        @serve("relay")  # type: ignore[untyped-decorator]
        async def relay(data: Any) -> str:
            depth = int(data.payload)
            if depth == 0:
                return "."
            answer = await self._call(data.caller_identity, "relay", str(depth - 1), None)
            return f"{depth}{answer}"


def quantile(values: list[float], share: float) -> float:
    """The value below which this share of them lies."""
    return sorted(values)[int(share * (len(values) - 1))]


def interceptors_of(base: Any, rpc_error: Any, seen: list[str]) -> tuple[Any, Any]:
    """One that changes payloads and answers, and one inside it that calls again after 1400."""

    class Marking(base):  # type: ignore[misc]
        async def intercept_outgoing(self, call: Any, next: Any) -> Any:
            answer = await next(dataclasses.replace(call, payload=f"({call.payload}"))
            return f"{answer}]"

        async def intercept_incoming(self, invocation: Any, next: Any) -> Any:
            if invocation.method == "wave":
                return "waved"
            try:
                return f"{await next(invocation)})"
            except rpc_error as error:
                seen.append(f"{invocation.method} {int(error.code)}")
                raise
            except asyncio.CancelledError:
                seen.append(f"{invocation.method} cancelled {invocation.cancel_reason!r}")
                raise
            except Exception as error:
                seen.append(f"{invocation.method} {type(error).__name__}")
                raise

    class CallingAgain(base):  # type: ignore[misc]
        async def intercept_outgoing(self, call: Any, next: Any) -> Any:
            try:
                return await next(call)
            except rpc_error as error:
                if error.code != 1400:
                    raise
                return await next(call)

    return Marking(), CallingAgain()


class OfficialSdk:
    """LiveKit's package, whichever generation is installed."""

    def __init__(self) -> None:
        self._rtc: Any = importlib.import_module("livekit.rtc")
        self.RpcError = self._rtc.RpcError
        self.RpcInterceptor = getattr(self._rtc, "RpcInterceptor", None)
        self._room: Any = None
        self._changed = asyncio.Event()

    async def connect(self, url: str, token: str, keys: dict[str, Any] | None) -> Any:
        self._room = self._rtc.Room()
        self._room.on("participant_connected", lambda _: self._changed.set())
        options = self._rtc.RoomOptions(auto_subscribe=False)
        if keys is not None:
            options.encryption = self._encryption(keys)
        await self._room.connect(url, token, options)
        if keys is not None and keys["shared"] is None:
            # The last one decides which index is used; all are the same.
            for identity, passphrase in keys["own"].items():
                self._key_provider.set_key(identity, passphrase.encode(), keys["key_index"])
        return self._room.local_participant

    def _encryption(self, keys: dict[str, Any]) -> Any:
        e2ee = importlib.import_module("livekit.rtc.e2ee")
        kdf = e2ee.proto_e2ee.KeyDerivationFunction
        shared = keys["shared"]
        return e2ee.E2EEOptions(
            key_provider_options=e2ee.KeyProviderOptions(
                shared_key=None if shared is None else shared.encode(),
                key_derivation_function=kdf.Value(keys["kdf"].upper()),
            )
        )

    @property
    def _key_provider(self) -> Any:
        return self._room.e2ee_manager.key_provider

    def set_shared_key(self, passphrase: str, index: int) -> None:
        self._key_provider.set_shared_key(passphrase.encode(), index)

    async def wait_for(self, identity: str) -> None:
        while identity not in self._room.remote_participants:
            self._changed.clear()
            await self._changed.wait()

    async def leave(self) -> None:
        await self._room.disconnect()


def cryptor_of(keys: dict[str, Any] | None) -> Any:
    """Our cryptor with these keys."""
    if keys is None:
        return None
    e2ee: Any = importlib.import_module("rpcproto.e2ee")
    cryptor = e2ee.AesGcmCryptor()

    def key(passphrase: str) -> bytes:
        derived: bytes = e2ee.derive_key(passphrase, kdf=keys["kdf"])
        return derived

    if keys["shared"] is not None:
        cryptor.set_shared_key(key(keys["shared"]), keys["key_index"])
    else:
        for identity, passphrase in keys["own"].items():
            cryptor.set_key(identity, key(passphrase), keys["key_index"])
    cryptor.use(keys["key_index"])
    return cryptor


def switch_key(cryptor: Any, passphrase: str, index: int) -> None:
    """Seal with another shared key from now on."""
    e2ee: Any = importlib.import_module("rpcproto.e2ee")
    cryptor.set_shared_key(e2ee.derive_key(passphrase), index)
    cryptor.use(index)


class OurSdk:
    """This project's room client, with one of the WebRTC stacks."""

    def __init__(self, stack: str) -> None:
        self._stack = stack
        self._livekit: Any = importlib.import_module("rpcproto.livekit")
        self.RpcError = self._livekit.RpcError
        self.RpcInterceptor = self._livekit.RpcInterceptor
        self._room: Any = None
        self._leaving = asyncio.Event()
        self._stay: asyncio.Task[None] | None = None

    async def connect(self, url: str, token: str, keys: dict[str, Any] | None) -> Any:
        here: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._cryptor = cryptor_of(keys)

        async def stay() -> None:
            try:
                async with self._livekit.connect(
                    url, token, stack=self._stack, cryptor=self._cryptor
                ) as room:
                    here.set_result(room)
                    await self._leaving.wait()
            except Exception as error:
                if here.done():
                    raise
                here.set_exception(error)

        self._leaving.clear()
        self._stay = asyncio.create_task(stay())
        self._room = await here
        return self._room.local_participant

    def set_shared_key(self, passphrase: str, index: int) -> None:
        switch_key(self._cryptor, passphrase, index)

    async def wait_for(self, identity: str) -> None:
        await self._room.wait_for_participant(identity)

    async def leave(self) -> None:
        self._leaving.set()
        if self._stay is not None:
            await self._stay


async def main() -> None:
    """Commands from standard input, until it ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("sdk", choices=["official", "wrtc", "aiortc"])
    name = parser.parse_args().sdk
    sdk: Any = OfficialSdk() if name == "official" else OurSdk(name)
    loop = asyncio.get_running_loop()
    commands: asyncio.Queue[str] = asyncio.Queue()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(commands.put_nowait, line)
        loop.call_soon_threadsafe(commands.put_nowait, "")

    def write(line: dict[str, Any]) -> None:
        print(json.dumps(line), flush=True)

    def tell(event: str, payload: str) -> None:
        write({"event": event, "payload": payload})

    driver = Driver(sdk, tell)

    async def do(command: dict[str, Any]) -> None:
        number = command.pop("id")
        try:
            write({"id": number, **await driver.do(command)})
        except Exception as error:
            write({"id": number, "failure": f"{type(error).__name__}: {error}"})

    threading.Thread(target=read, daemon=True).start()
    running = set()
    while line := await commands.get():
        task = asyncio.create_task(do(json.loads(line)))
        running.add(task)
        task.add_done_callback(running.discard)


if __name__ == "__main__":
    asyncio.run(main())
