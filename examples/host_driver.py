"""The conformance kit for a host that takes its time and its timers from the kit's clock.

Copy it and put your host in place of `CallbackParticipant`. Run it to see all failures, or a
summary. Under pytest, in a test module beside it, each scenario is a test:

    @pytest.mark.parametrize("scenario", scenarios(), ids=str)
    def test_the_host_passes(scenario: Scenario) -> None:
        play(scenario, Driver())
"""

from callback_host import CallbackParticipant

from rpcproto import LocalProtocolError, RpcError
from rpcproto.testing.hosts import CallHandle, HostSetup, check


class Driver:
    """Drives one `CallbackParticipant`; see `rpcproto.testing.hosts.HostDriver`."""

    host_type: type[CallbackParticipant] = CallbackParticipant

    def start(self, setup: HostSetup) -> None:
        self.clock = setup.clock
        self.participant = self.host_type(setup.identity, setup.channel, setup.clock, setup.config)
        # A handler of the kit takes what this host gives to handlers. Those that take time return a
        # `concurrent.futures.Future`: this host waits for it, and cancels it in the end.
        for method, handler in setup.handlers.items():
            self.participant.register_rpc_method(method, handler)

    def perform(
        self, destination_identity: str, method: str, payload: str, response_timeout: float | None
    ) -> CallHandle:
        handle = CallHandle()
        try:
            handle.cancel = self.participant.call(
                destination_identity, method, payload, handle.end, response_timeout
            )
        except (RpcError, LocalProtocolError) as error:
            handle.end(error)
        self.advance(0.0)
        return handle

    def cancel(self, handle: CallHandle) -> None:
        handle.cancel()
        self.advance(0.0)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def close(self) -> None:
        self.participant.close()
        self.advance(0.0)


if __name__ == "__main__":
    print(check(Driver))
