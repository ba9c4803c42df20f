"""`rpcproto.telemetry`, with OpenTelemetry's own SDK and its exporters in memory."""

import gc
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import anyio
import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from worlds import WORLDS, World, each_world

from rpcproto import RpcError
from rpcproto.asyncio import RpcInterceptor, RpcInvocationData, RpcParticipant
from rpcproto.telemetry import Telemetry
from rpcproto.transports.memory import MemoryRoom

Scene = Callable[[RpcParticipant, RpcParticipant], Coroutine[Any, Any, None]]


class Beginnings(SpanProcessor):
    """The order in which spans began, whatever the clock says."""

    def __init__(self) -> None:
        self.ids: list[int] = []

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        assert span.context is not None
        self.ids.append(span.context.span_id)


class Watched:
    """Providers whose exporters are in memory."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._beginnings = Beginnings()
        self.tracer_provider = TracerProvider()
        self.tracer_provider.add_span_processor(self._beginnings)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        self.meter_provider = MeterProvider([self._reader])

    def telemetry(self, **options: Any) -> Telemetry:
        return Telemetry(
            tracer_provider=self.tracer_provider, meter_provider=self.meter_provider, **options
        )

    @property
    def spans(self) -> list[ReadableSpan]:
        """In the order of their beginning."""
        by_id = {
            span.context.span_id: span
            for span in self._exporter.get_finished_spans()
            if span.context is not None
        }
        return [by_id[span_id] for span_id in self._beginnings.ids if span_id in by_id]

    def metrics(self) -> dict[str, dict[tuple[Any, ...], Any]]:
        """By name and attribute values: the number, or of a histogram the count and the sum."""
        data = self._reader.get_metrics_data()
        if data is None:
            return {}
        [resource] = data.resource_metrics
        [scope] = resource.scope_metrics
        assert scope.scope.name == "rpcproto"
        return {
            metric.name: {
                tuple((point.attributes or {}).values()): (
                    getattr(point, "value", None)
                    if hasattr(point, "value")
                    else (point.count, point.sum)
                )
                for point in metric.data.data_points
            }
            for metric in scope.metrics
        }


@pytest.fixture
def watched() -> Iterator[Watched]:
    watched = Watched()
    yield watched
    watched.tracer_provider.shutdown()
    watched.meter_provider.shutdown()


def in_a_room(world: World, telemetry: Telemetry, scene: Scene) -> None:
    async def main() -> None:
        room = MemoryRoom()
        async with (
            world.participant(room.join("alice")) as alice,
            world.participant(room.join("bob")) as bob,
        ):
            telemetry.watch(alice)
            telemetry.watch(bob)
            await alice.wait_for_participant("bob")
            await scene(alice, bob)

    world.run(main)


async def call(
    participant: RpcParticipant,
    to: str = "bob",
    method: str = "greet",
    payload: str = "Hi",
    **more: Any,
) -> str:
    return await participant.perform_rpc(
        destination_identity=to, method=method, payload=payload, **more
    )


async def code_of(call: Awaitable[str]) -> int:
    with pytest.raises(RpcError) as caught:
        await call
    return caught.value.code


def drawn(spans: list[ReadableSpan]) -> list[str]:
    """The spans as a tree: indented below their parents, in the order of their beginning."""
    depth: dict[int, int] = {}
    lines: list[str] = []

    def draw(parent: int | None) -> None:
        for span in spans:
            assert span.context is not None
            if (span.parent.span_id if span.parent else None) == parent:
                depth[span.context.span_id] = depth.get(parent or 0, -1) + 1
                attributes = span.attributes or {}
                peer = attributes.get("lk.rpc.destination_identity")
                who = f"to {peer!s}" if peer else f"from {attributes['lk.rpc.caller_identity']!s}"
                indent = "  " * depth[span.context.span_id]
                lines.append(f"{indent}{span.name} {attributes['rpc.method']!s} {who}")
                draw(span.context.span_id)

    draw(None)
    return lines


@each_world
def test_a_nested_call_is_a_tree_of_spans_joined_by_request_ids(
    world: World, watched: Watched
) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        alice.register_rpc_method("name", lambda data: "Alice")

        @bob.register_rpc_method("greet")
        async def greet(data: RpcInvocationData) -> str:
            return f"Hello, {await call(bob, data.caller_identity, 'name', '')}!"

        assert await call(alice, response_timeout=12.0) == "Hello, Alice!"

    in_a_room(world, watched.telemetry(), scene)
    called, handled, nested, named = watched.spans
    assert drawn(watched.spans) == [
        "rpc_call greet to bob",
        "rpc_handler greet from alice",
        "  rpc_call name to alice",
        "rpc_handler name from bob",
    ]
    assert [span.kind for span in watched.spans] == [SpanKind.CLIENT, SpanKind.SERVER] * 2
    assert called.attributes is not None
    assert nested.attributes is not None
    request_id = called.attributes["lk.rpc.request_id"]
    nested_id = nested.attributes["lk.rpc.request_id"]
    assert request_id != nested_id
    assert dict(called.attributes) == {
        "rpc.method": "greet",
        "lk.rpc.request_id": request_id,
        "lk.rpc.destination_identity": "bob",
        "lk.rpc.payload_size": 2,
        "lk.rpc.response_size": 13,
        "lk.rpc.response_timeout": 12.0,
    }
    assert dict(handled.attributes or {}) == {
        "rpc.method": "greet",
        "lk.rpc.request_id": request_id,
        "lk.rpc.caller_identity": "alice",
        "lk.rpc.payload_size": 2,
        "lk.rpc.response_size": 13,
        "lk.rpc.response_timeout": 10.0,
        "lk.rpc.handler_registered": True,
    }
    assert (named.attributes or {})["lk.rpc.request_id"] == nested_id
    assert {span.status.status_code for span in watched.spans} == {StatusCode.UNSET}


@each_world
def test_payloads_are_recorded_only_when_asked_for_and_not_all_of_them(
    world: World, watched: Watched
) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        bob.register_rpc_method("greet", lambda data: "é" * 2000)
        await call(alice, payload="secret")

    in_a_room(world, watched.telemetry(payloads=True), scene)
    for span in watched.spans:
        attributes = dict(span.attributes or {})
        assert attributes["lk.pii.rpc.payload"] == "secret"
        assert attributes["lk.pii.rpc.response"] == "é" * 1024
        assert attributes["lk.rpc.response_size"] == 4000


@each_world
def test_failures_have_their_code_and_nothing_of_what_an_exception_says(
    world: World, watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        @bob.register_rpc_method("greet")
        async def fail(data: RpcInvocationData) -> Any:
            if data.payload == "bug":
                raise ValueError("swordfish")
            if data.payload == "group":
                raise ExceptionGroup("", [RpcError(2001, "swordfish", "swordfish")])
            if data.payload == "hang":
                await anyio.sleep_forever()
            return 7

        for payload, code in {"bug": 1500, "group": 2001, "no text": 1500, "hang": 1502}.items():
            assert await code_of(call(alice, payload=payload)) == code
        assert await code_of(call(alice, method="none")) == 1400
        with anyio.move_on_after(1.0):
            await call(alice, payload="hang")
        await anyio.sleep(20.0)

    in_a_room(world, watched.telemetry(), scene)
    story = [
        (span.name, (span.attributes or {}).get("lk.rpc.error_code"), span.status.description)
        for span in watched.spans
    ]
    app, timeout = "Application error in method handler", "Response timeout"
    unknown = "Method not supported at destination"
    cancelled = "CancelledError" if world.name == "asyncio" else "Cancelled"
    assert story == [
        ("rpc_call", 1500, app),
        ("rpc_handler", 1500, app),
        ("rpc_call", 2001, "RpcError"),
        ("rpc_handler", 2001, "RpcError"),
        ("rpc_call", 1500, app),
        ("rpc_handler", 1500, app),
        ("rpc_call", 1502, timeout),
        ("rpc_handler", 1502, timeout),
        ("rpc_call", 1400, unknown),
        ("rpc_handler", 1400, unknown),
        ("rpc_call", None, cancelled),
        ("rpc_handler", 1502, timeout),
    ]
    assert {span.status.status_code for span in watched.spans} == {StatusCode.ERROR}
    assert all("swordfish" not in span.to_json() for span in watched.spans)
    [unregistered] = [
        span
        for span in watched.spans
        if (span.attributes or {}).get("lk.rpc.handler_registered") is False
    ]
    assert (unregistered.attributes or {})["rpc.method"] == "none"


@each_world
def test_calls_and_handlers_are_counted_by_method_and_outcome_with_their_duration(
    world: World, watched: Watched
) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        @bob.register_rpc_method("greet")
        async def greet(data: RpcInvocationData) -> str:
            await anyio.sleep(0.5)
            if data.payload:
                raise RpcError(int(data.payload))
            return "Hello"

        for _ in range(2):
            await call(alice, payload="")
        for code in (1500, 2001, 2002, 2**32 - 1):
            assert await code_of(call(alice, payload=str(code))) == code
        for invented in ("a", "b", "c"):
            assert await code_of(call(alice, method=invented)) == 1400

    in_a_room(world, watched.telemetry(), scene)
    metrics = watched.metrics()
    of_greet = {("greet", "success"): 2, ("greet", "1500"): 1, ("greet", "other"): 3}
    unknown = {(method, "1400"): 1 for method in ("a", "b", "c")}
    assert metrics["rpcproto.calls"] == of_greet | unknown
    assert metrics["rpcproto.handlers"] == of_greet | {("_other", "1400"): 3}
    assert metrics["rpcproto.call.duration"][("greet", "success")] == (2, 1.0)
    assert metrics["rpcproto.handler.duration"][("greet", "other")] == (3, 1.5)
    assert metrics["rpcproto.handler.duration"][("_other", "1400")] == (3, 0.0)


@each_world
def test_what_is_under_way_and_what_was_ignored_is_read_from_the_statistics(
    world: World, watched: Watched
) -> None:
    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        now: dict[str, dict[tuple[Any, ...], Any]] = {}

        @bob.register_rpc_method("greet")
        async def greet(data: RpcInvocationData) -> str:
            now.update(watched.metrics())
            return "Hello"

        await call(alice)
        assert now["rpcproto.calls.pending"] == {("alice",): 1, ("bob",): 0}
        assert now["rpcproto.handlers.running"] == {("alice",): 0, ("bob",): 1}
        assert set(now["rpcproto.waiting_bytes"]) == {("alice",), ("bob",)}
        bob.engine.receive_packet(b"\xff", now=anyio.current_time())
        assert watched.metrics()["rpcproto.ignored_packets"] == {("bob", "malformed"): 1}
        assert watched.metrics()["rpcproto.calls.pending"] == {("alice",): 0, ("bob",): 0}

    in_a_room(world, watched.telemetry(), scene)


@each_world
def test_watching_twice_changes_nothing_and_who_was_not_entered_has_no_numbers(
    world: World, watched: Watched
) -> None:
    telemetry = watched.telemetry()
    carol = world.participant(MemoryRoom().join("carol"))
    telemetry.watch(carol)

    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        telemetry.watch(alice)
        bob.register_rpc_method("greet", lambda data: "Hello")
        await call(alice)
        assert set(watched.metrics()["rpcproto.calls.pending"]) == {("alice",), ("bob",)}

    in_a_room(world, telemetry, scene)
    assert [span.name for span in watched.spans] == ["rpc_call", "rpc_handler"]


@each_world
def test_as_an_interceptor_alone_it_takes_1400_for_a_method_that_is_not_registered(
    world: World, watched: Watched
) -> None:
    telemetry = watched.telemetry()

    async def main() -> None:
        room = MemoryRoom()
        async with (
            world.participant(room.join("alice")) as alice,
            world.participant(room.join("bob")) as bob,
        ):
            for participant in (alice, bob):
                participant.add_rpc_interceptor(telemetry)
            bob.register_rpc_method("greet", lambda data: "Hello")
            await call(alice)
            assert await code_of(call(alice, method="none")) == 1400

    world.run(main)
    registered = [
        (span.attributes or {}).get("lk.rpc.handler_registered") for span in watched.spans
    ]
    assert registered == [None, True, None, False]
    metrics = watched.metrics()
    assert metrics["rpcproto.handlers"] == {("greet", "success"): 1, ("_other", "1400"): 1}
    assert "rpcproto.calls.pending" not in metrics


def test_who_is_watched_is_not_kept_alive(watched: Watched) -> None:
    telemetry = watched.telemetry()
    carol = WORLDS[0].participant(MemoryRoom().join("carol"))
    telemetry.watch(carol)
    reference = weakref.ref(carol)
    del carol
    gc.collect()
    assert reference() is None
    assert watched.metrics() == {}


@each_world
def test_a_call_that_another_interceptor_answers_is_a_span_without_a_request_id(
    world: World, watched: Watched
) -> None:
    class Cache(RpcInterceptor):
        async def intercept_outgoing(self, call: Any, next: Any) -> str:
            return "cached"

    async def scene(alice: RpcParticipant, bob: RpcParticipant) -> None:
        alice.add_rpc_interceptor(Cache())
        assert await call(alice) == "cached"

    in_a_room(world, watched.telemetry(), scene)
    [span] = watched.spans
    assert "lk.rpc.request_id" not in (span.attributes or {})
