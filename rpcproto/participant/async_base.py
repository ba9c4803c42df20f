"""What is the same in every host whose calls are awaited, whatever the event loop."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial

from rpcproto.core.config import RpcConfig
from rpcproto.core.engine import RpcEngine
from rpcproto.core.sealing import Cryptor
from rpcproto.participant.base import ParticipantBase
from rpcproto.participant.draining import DRAINED
from rpcproto.participant.handlers import RpcInvocationData
from rpcproto.participant.interceptors import Interceptors, RpcCallInfo, RpcInterceptor
from rpcproto.participant.waiting import CallArguments, Start
from rpcproto.transports import Transport


class AsyncParticipantBase(ParticipantBase[Transport]):
    """The base class of hosts with async functions. Its methods are named as in LiveKit's SDK."""

    def __init__(
        self,
        transport: Transport,
        *,
        config: RpcConfig = RpcConfig(),  # noqa: B008 (frozen)
        cryptor: Cryptor | None = None,
        new_id: Callable[[], str] | None = None,
        engine_factory: Callable[..., RpcEngine] = RpcEngine,
    ) -> None:
        """Make a participant over `transport`, under the identity of the transport.

        With a `cryptor`, such as `rpcproto.e2ee.AesGcmCryptor`, packets are encrypted end to end;
        if it has no key to encrypt with, entering the participant raises `LocalProtocolError`.
        Tests and tools can replace `new_id`, the source of ids (None: random ids), and
        `engine_factory`, which makes the engine.

        Raises:
            LocalProtocolError: The identity of the transport or the config is invalid.
        """
        super().__init__(
            transport.identity,
            transport,
            config=config,
            cryptor=cryptor,
            new_id=new_id,
            engine_factory=engine_factory,
            departure_grace=transport.departure_grace,
        )
        self._interceptors = Interceptors()

    async def perform_rpc(
        self,
        *,
        destination_identity: str,
        method: str,
        payload: str,
        response_timeout: float | None = None,
        max_round_trip_latency: float | None = None,
    ) -> str:
        """Call a method of a participant, and return the payload of the response.

        `response_timeout` limits the whole call, and `max_round_trip_latency` the wait for an
        acknowledgement. Both are in seconds; None means the value of the config. Until the
        transport is connected for the first time, the call waits, and its timeouts start then. If
        you cancel the call, it ends at once, but the handler of the other participant is not
        cancelled.

        Raises:
            RpcError: The error that the handler raised, or one of `ErrorCode`. With 1503,
                `__cause__` is the exception that ended the connection, if there is one.
            LocalProtocolError: An argument is invalid (R33), too many calls are pending, or this
                participant was not entered or has left.
        """
        if self._interceptors.all:
            info = RpcCallInfo(
                destination_identity, method, payload, response_timeout, max_round_trip_latency
            )
            return await self._perform_through_interceptors(info)
        call = CallArguments(
            destination_identity, method, payload, response_timeout, max_round_trip_latency
        )
        return await self.outcome(partial(self.begin_call, call))

    async def wait_for_participant(self, identity: str) -> None:
        """Wait until a participant (1 to 256 bytes of UTF-8) is in the room.

        To limit the wait, use `asyncio.timeout` or `trio.fail_after`.

        Raises:
            RpcError: The transport ended first, or this participant left during the wait (1503).
            LocalProtocolError: The identity is invalid, or this participant was not entered or has
                left.
        """
        await self.outcome(partial(self.expect_participant, identity))

    async def drain(self, timeout: float | None = None) -> bool:
        """Accept no new requests, and wait until running handlers and calls have ended.

        From now on, new requests are answered with 1400, so that their callers can try elsewhere;
        interceptors do not see them. Running handlers can answer and make calls, and calls of this
        participant can end. Return True when no handler runs, no call is pending, and all packets
        were passed to the transport. Return False after `timeout` seconds (0 or more; None means no
        limit), or if the participant leaves first. It can be called again. Do not call it in a
        handler, which would wait for itself.

        Raises:
            LocalProtocolError: The timeout is invalid, or the participant was not entered.
        """
        return await self.outcome(partial(self.begin_drain, timeout)) == DRAINED

    def add_rpc_interceptor(self, interceptor: RpcInterceptor) -> None:
        """Add an interceptor as the innermost one, for calls and handlers that start from now on.

        The first interceptor is the outermost, for calls and for handlers. Adding the same object
        again changes nothing. While there is an interceptor, requests for methods that are not
        registered reach it too.

        Raises:
            LocalProtocolError: The argument is not an interceptor.
        """
        self.require_owner()
        self._interceptors.add(interceptor)
        self._interceptors_changed()

    def remove_rpc_interceptor(self, interceptor: RpcInterceptor) -> None:
        """Remove an interceptor (compared with `is`). Calls and handlers that have begun keep it.

        If it was not added, nothing happens.
        """
        self.require_owner()
        self._interceptors.remove(interceptor)
        self._interceptors_changed()

    def open_engine(self, clock: Callable[[], float]) -> None:
        """See `ParticipantBase.open_engine`."""
        super().open_engine(clock)
        self._interceptors_changed()

    @abstractmethod
    async def outcome(self, start: Start) -> str:
        """Start an operation and wait for its outcome. Cancelling the wait cancels the operation.

        This yields to other tasks at least once, even if there is an outcome at once.
        """

    # within

    def _interceptors_changed(self) -> None:
        are_there = bool(self._interceptors.all)
        self._handlers.intercept = self._handle_through_interceptors if are_there else None
        if self._is_open and self._engine.hand_over_unknown_methods is not are_there:
            self._engine.hand_over_unknown_methods = are_there

    def _handle_through_interceptors(self, handed_on: list[RpcInvocationData]) -> object:
        return self._interceptors.around_handler(handed_on, self._handlers.call)

    async def _perform_through_interceptors(self, info: RpcCallInfo) -> str:
        self.engine  # noqa: B018 (raises before entering)
        self.require_owner()
        self._chains_of_calls += 1
        try:
            return await self._interceptors.around_call(info, self._perform)
        finally:
            self._chains_of_calls -= 1
            if self._drains:
                self._look_at_drains()

    async def _perform(self, given: Sequence[RpcCallInfo]) -> str:
        """Make the call of the last of these; all of them are given its request id."""

        def begun(request_id: str) -> None:
            for info in given:
                info.request_id = request_id

        info = given[-1]
        call = CallArguments(
            info.destination_identity,
            info.method,
            info.payload,
            info.response_timeout,
            info.max_round_trip_latency,
            begun,
        )
        return await self.outcome(partial(self.begin_call, call))
