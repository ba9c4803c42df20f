"""What is the same in every host whose calls are awaited, whatever the event loop."""

from abc import abstractmethod
from collections.abc import Callable
from functools import partial

from rpcproto.core.config import RpcConfig
from rpcproto.core.engine import RpcEngine
from rpcproto.core.sealing import Cryptor
from rpcproto.participant.base import ParticipantBase
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
        broke the connection as its cause. Raises LocalProtocolError for misuse (R33).
        """
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

    @abstractmethod
    async def outcome(self, start: Start) -> str:
        """Start what has an outcome, and wait for it; cancelling ends it.

        Gives other tasks their turn, also where the outcome is there at once.
        """
