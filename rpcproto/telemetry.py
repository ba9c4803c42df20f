"""Traces and metrics of participants, for OpenTelemetry. Needs the extra `opentelemetry`.

`Telemetry` makes them:

    telemetry = Telemetry()
    telemetry.watch(participant)
"""

import weakref
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from typing import Final, final

from rpcproto.core.errors import ErrorCode, LocalProtocolError
from rpcproto.errors import RpcError
from rpcproto.extras import extra
from rpcproto.participant.async_base import AsyncParticipantBase
from rpcproto.participant.handlers import RpcInvocationData, only_leaf
from rpcproto.participant.interceptors import (
    IncomingRpcNext,
    OutgoingRpcNext,
    RpcCallInfo,
    RpcInterceptor,
)
from rpcproto.participant.totals import OTHER, SUCCESS, ParticipantStatistics, outcome_of

with extra("opentelemetry", __name__):
    import anyio
    from opentelemetry import metrics, trace
    from opentelemetry.metrics import (
        CallbackOptions,
        Counter,
        Histogram,
        MeterProvider,
        Observation,
    )
    from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, TracerProvider
    from opentelemetry.util.types import AttributeValue

__all__ = ["MAX_PAYLOAD_LENGTH", "OTHER_METHOD", "Telemetry"]

MAX_PAYLOAD_LENGTH: Final = 1024
"""The maximum length of a payload in a span, in characters."""
OTHER_METHOD: Final = "_other"
"""The name that metrics use for all methods that are not registered, because peers choose those
names."""

METHOD: Final = "rpc.method"
REQUEST_ID: Final = "lk.rpc.request_id"
DESTINATION: Final = "lk.rpc.destination_identity"
CALLER: Final = "lk.rpc.caller_identity"
PAYLOAD_SIZE: Final = "lk.rpc.payload_size"
RESPONSE_SIZE: Final = "lk.rpc.response_size"
RESPONSE_TIMEOUT: Final = "lk.rpc.response_timeout"
ERROR_CODE: Final = "lk.rpc.error_code"
REGISTERED: Final = "lk.rpc.handler_registered"
PAYLOAD: Final = "lk.pii.rpc.payload"
RESPONSE: Final = "lk.pii.rpc.response"
OUTCOME: Final = "rpcproto.outcome"
REASON: Final = "rpcproto.reason"
IDENTITY: Final = "rpcproto.identity"


@final
class Telemetry(RpcInterceptor):
    """Makes spans and metrics of participants.

    Each call is a span `rpc_call` of the kind CLIENT, and each request a span `rpc_handler` of the
    kind SERVER, with the attributes of LiveKit's public registry. docs/telemetry.md lists
    attributes and metrics.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        payloads: bool = False,
    ) -> None:
        """Use these providers. None means the global providers of OpenTelemetry.

        With `payloads`, spans also contain the first 1,024 characters of payloads and responses.
        """
        tracer = trace.get_tracer("rpcproto", tracer_provider=tracer_provider)
        meter = metrics.get_meter("rpcproto", meter_provider=meter_provider)
        self._calls = _Recorder(
            tracer,
            "rpc_call",
            SpanKind.CLIENT,
            meter.create_counter("rpcproto.calls", "{call}", "Calls that have ended"),
            meter.create_histogram("rpcproto.call.duration", "s", "How long calls took"),
            payloads,
        )
        self._handlers = _Recorder(
            tracer,
            "rpc_handler",
            SpanKind.SERVER,
            meter.create_counter("rpcproto.handlers", "{request}", "Requests that were handled"),
            meter.create_histogram("rpcproto.handler.duration", "s", "How long handlers took"),
            payloads,
        )
        meter.create_observable_up_down_counter(
            "rpcproto.calls.pending",
            [self._observe(lambda now: now.pending_calls)],
            "{call}",
            "Calls that have not ended",
        )
        meter.create_observable_up_down_counter(
            "rpcproto.handlers.running",
            [self._observe(lambda now: now.running_invocations)],
            "{request}",
            "Requests that have no answer yet",
        )
        meter.create_observable_up_down_counter(
            "rpcproto.waiting_bytes",
            [self._observe(lambda now: now.waiting_bytes)],
            "By",
            "What waits to be sent",
        )
        meter.create_observable_counter(
            "rpcproto.ignored_packets",
            [self._ignored_packets],
            "{packet}",
            "Received packets without an effect",
        )
        self._interceptor = _Interceptor(None, self._calls, self._handlers)
        self._watched: tuple[weakref.ref[AsyncParticipantBase], ...] = ()
        """Replaced, never changed: metrics are read in another thread."""

    def watch(self, participant: AsyncParticipantBase) -> None:
        """Make spans and metrics of a participant from now on. A second call changes nothing.

        It adds an interceptor inside those that the participant already has. To include their work
        in the spans, call `watch` before you add them. It also reads the participant's statistics
        and its registered methods. If you add a `Telemetry` with `add_rpc_interceptor` instead, it
        treats a method as unregistered when its request ends with 1400.
        """
        living = [watched for watched in self._watched if watched() is not None]
        if not any(watched() is participant for watched in living):
            watching = _Interceptor(participant.rpc_methods, self._calls, self._handlers)
            participant.add_rpc_interceptor(watching)
            self._watched = (*living, weakref.ref(participant))

    async def intercept_outgoing(self, call: RpcCallInfo, next: OutgoingRpcNext) -> str:
        """See `RpcInterceptor.intercept_outgoing`."""
        return await self._interceptor.intercept_outgoing(call, next)

    async def intercept_incoming(
        self, invocation: RpcInvocationData, next: IncomingRpcNext
    ) -> str | None:
        """See `RpcInterceptor.intercept_incoming`."""
        return await self._interceptor.intercept_incoming(invocation, next)

    # the metrics that are read when somebody asks

    def _observe(
        self, value: Callable[[ParticipantStatistics], int]
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            for identity, statistics in self._statistics():
                yield Observation(value(statistics), {IDENTITY: identity})

        return observe

    def _ignored_packets(self, _: CallbackOptions) -> Iterable[Observation]:
        for identity, statistics in self._statistics():
            for reason, count in statistics.ignored.items():
                yield Observation(count, {IDENTITY: identity, REASON: reason.value})

    def _statistics(self) -> Iterable[tuple[str, ParticipantStatistics]]:
        for watched in self._watched:
            participant = watched()
            if participant is not None:
                try:
                    yield participant.identity, participant.statistics()
                except LocalProtocolError:
                    continue  # it has not been entered


_UNSUPPORTED: Final = outcome_of(ErrorCode.UNSUPPORTED_METHOD)


class _Interceptor(RpcInterceptor):
    def __init__(
        self, methods: AbstractSet[str] | None, calls: "_Recorder", handlers: "_Recorder"
    ) -> None:
        """`methods` are those that are registered, None if nobody knows."""
        self._methods = methods
        self._calls, self._handlers = calls, handlers

    async def intercept_outgoing(self, call: RpcCallInfo, next: OutgoingRpcNext) -> str:
        attributes: dict[str, AttributeValue] = {DESTINATION: call.destination_identity}
        if call.response_timeout is not None:
            attributes[RESPONSE_TIMEOUT] = call.response_timeout
        with self._calls.record(call.method, call.payload, attributes) as record:
            try:
                record.response = await next(call)
            except BaseException as error:
                record.failed(error, None)
                raise
            finally:
                if call.request_id is not None:
                    record.span.set_attribute(REQUEST_ID, call.request_id)
            return record.response

    async def intercept_incoming(
        self, invocation: RpcInvocationData, next: IncomingRpcNext
    ) -> str | None:
        attributes: dict[str, AttributeValue] = {
            REQUEST_ID: invocation.request_id,
            CALLER: invocation.caller_identity,
            RESPONSE_TIMEOUT: invocation.response_timeout,
        }
        with self._handlers.record(invocation.method, invocation.payload, attributes) as record:
            if self._methods is not None:
                record.method_is_registered(invocation.method in self._methods)
            try:
                record.response = await next(invocation)
                if not _is_answer(record.response):
                    record.failed(TypeError(), ErrorCode.APPLICATION_ERROR)
            except BaseException as error:
                # What is no RpcError is 1500 to the caller.
                record.failed(error, ErrorCode.APPLICATION_ERROR)
                raise
            finally:
                # Whatever the chain has made of being cancelled, the caller gets this.
                if invocation.cancel_reason is not None:
                    record.failed(RpcError(invocation.cancel_reason), None)
                if self._methods is None:
                    record.method_is_registered(record.outcome != _UNSUPPORTED)
            return record.response


class _Record:
    """One call or one request, while it is under way."""

    def __init__(self, span: Span, method: str) -> None:
        self.span = span
        self.method = method
        """For the metrics."""
        self.response: str | None = None
        self.outcome: str = SUCCESS

    def method_is_registered(self, is_registered: bool) -> None:
        """Note whether it is; the metrics name only methods that are."""
        self.span.set_attribute(REGISTERED, is_registered)
        if not is_registered:
            self.method = OTHER_METHOD

    def failed(self, raised: BaseException, otherwise: ErrorCode | None) -> None:
        """It ended with an exception; `otherwise` is the code of one that is no RpcError.

        Nothing of the text of an exception is recorded: it may say what nobody is to know.
        """
        error = only_leaf(raised)
        code = error.code if isinstance(error, RpcError) else otherwise
        self.outcome = OTHER if code is None else outcome_of(code)
        if code is not None:
            self.span.set_attribute(ERROR_CODE, int(code))
        description = RpcError.ErrorMessage.get(code or 0, type(error).__name__)
        self.span.set_status(StatusCode.ERROR, description)


class _Recorder:
    """Makes the spans of one kind, and counts them."""

    def __init__(
        self,
        tracer: Tracer,
        name: str,
        kind: SpanKind,
        counter: Counter,
        duration: Histogram,
        payloads: bool,
    ) -> None:
        self._tracer, self._name, self._kind = tracer, name, kind
        self._counter, self._duration = counter, duration
        self._payloads = payloads

    @contextmanager
    def record(
        self, method: str, payload: str, more: dict[str, AttributeValue]
    ) -> Iterator[_Record]:
        """Around a call or a request: a span, which is the current one, and the metrics of it."""
        attributes = {METHOD: method, PAYLOAD_SIZE: _size(payload), **more}
        if self._payloads:
            attributes[PAYLOAD] = _beginning(payload)
        began = anyio.current_time()
        with self._tracer.start_as_current_span(
            self._name,
            kind=self._kind,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            record = _Record(span, method)
            try:
                yield record
            finally:
                if record.outcome == SUCCESS:
                    span.set_attribute(RESPONSE_SIZE, _size(record.response))
                    if self._payloads:
                        span.set_attribute(RESPONSE, _beginning(record.response))
                measured = {METHOD: record.method, OUTCOME: record.outcome}
                self._counter.add(1, measured)
                self._duration.record(anyio.current_time() - began, measured)


def _is_answer(result: object) -> bool:
    return result is None or isinstance(result, str)


def _size(text: object) -> int:
    return len(text.encode(errors="replace")) if isinstance(text, str) else 0


def _beginning(text: object) -> str:
    """As much of a text as a span holds, in valid Unicode."""
    beginning = text[:MAX_PAYLOAD_LENGTH] if isinstance(text, str) else ""
    return beginning.encode(errors="replace").decode()
