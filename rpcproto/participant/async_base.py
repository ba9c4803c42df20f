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
    """A participant over a `Transport`, with LiveKit's names for its calls."""

    def __init__(
        self,
        transport: Transport,
        *,
        config: RpcConfig = RpcConfig(),  # noqa: B008 (frozen)
        cryptor: Cryptor | None = None,
        new_id: Callable[[], str] | None = None,
        engine_factory: Callable[..., RpcEngine] = RpcEngine,
    ) -> None:
        """A participant over `transport`, which has the identity.

        With a `cryptor`, such as `rpcproto.e2ee.AesGcmCryptor`, packets are encrypted from end to
        end; entering the participant raises LocalProtocolError if it has no key to seal with.
        `new_id` and `engine_factory` are for tests and tools: the source of ids (None: random
        ones), and what makes the engine. Raises LocalProtocolError.
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
        """Call `method` of a participant and wait for its answer.

        `response_timeout` limits the whole call, `max_round_trip_latency` the wait for a sign of
        life; both in seconds, None takes the config's. They begin when the transport is connected:
        until then the call waits. Cancelling ends the call at once; the handler at the other end
        may still run.

        Raises RpcError: what the handler raised, or one of `ErrorCode`; 1503 has the exception that
        broke the connection as its cause. Raises LocalProtocolError for misuse (R33), and whatever
        an interceptor raises.
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
        """Wait until a participant (1 to 256 bytes of UTF-8) is here; at once if it is already.

        Raises RpcError (1503) when the transport ends before, or this participant leaves, and
        LocalProtocolError for misuse. Limit the wait with `asyncio.timeout` or `trio.fail_after`.
        """
        await self.outcome(partial(self.expect_participant, identity))

    async def drain(self, timeout: float | None = None) -> bool:
        """Take no new requests any more, and wait until nothing is under way.

        From now on until leaving, new requests are answered with 1400, so that their callers may
        try elsewhere; interceptors do not see them. Handlers that run may answer and may still
        make calls, and our own calls may end. Returns True when no handler runs, no call is pending
        and everything has been handed to the transport, payloads of any size included; False if
        that takes more than `timeout` seconds (0 or more; None waits as long as it takes), or if
        the participant leaves before. It may be called again. A handler that calls it waits for
        itself.

        Raises LocalProtocolError for misuse.
        """
        return await self.outcome(partial(self.begin_drain, timeout)) == DRAINED

    def add_rpc_interceptor(self, interceptor: RpcInterceptor) -> None:
        """Put an interceptor inside all others, around calls and handlers that start from now on.

        The one that was added first is the outermost, both ways. Adding the same object again
        changes nothing. While there is one, requests for methods that are not registered go through
        it as well. Raises LocalProtocolError for anything that is no interceptor.
        """
        self.require_owner()
        self._interceptors.add(interceptor)
        self._interceptors_changed()

    def remove_rpc_interceptor(self, interceptor: RpcInterceptor) -> None:
        """Remove an interceptor, this very object; calls and handlers under way keep theirs.

        One that was not added is ignored.
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
        """Start what has an outcome, and wait for it; cancelling ends it.

        Gives other tasks their turn, also where the outcome is there at once.
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
