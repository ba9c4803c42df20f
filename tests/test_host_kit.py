"""The conformance kit for hosts: all hosts that we know of pass it, and it finds what is wrong."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from callback_host import CallbackParticipant
from host_drivers import AsyncioDriver, BlockingDriver, CallbackDriver, TrioDriver

from rpcproto import InvocationReceived, OutgoingPacket, RpcError
from rpcproto.participant import Waiter
from rpcproto.testing.hosts import (
    SCENARIOS,
    CallHandle,
    Channel,
    Handler,
    HostDriver,
    HostFailed,
    Scenario,
    VirtualClock,
    play,
)
from rpcproto.transports import PacketNotSent

DRIVERS: dict[str, Callable[[], HostDriver]] = {
    "asyncio": AsyncioDriver,
    "trio": TrioDriver,
    "callback": CallbackDriver,
    "blocking": BlockingDriver,
}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
@pytest.mark.parametrize("driver", DRIVERS.values(), ids=list(DRIVERS))
def test_a_host_passes(scenario: Scenario, driver: Callable[[], HostDriver]) -> None:
    play(scenario, driver())


# Hosts with one fault each, and what finds it.


class TakesTheDeadlineForTheTime(CallbackParticipant):
    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()

        def fire() -> None:
            self._clock = lambda: at
            self._timer_fired()
            self._clock = self._loop.time

        self._timer = self._loop.call_at(at, fire)


class FiresOnce(CallbackParticipant):
    def _set_timer(self, at: float) -> None:
        if self._timer is None:
            super()._set_timer(at)


class NeverSetsATimer(CallbackParticipant):
    def _set_timer(self, at: float) -> None:
        pass


class SendsWithoutRoom(CallbackParticipant):
    def _wake_writer(self) -> None:
        while (packet := self._next_packet()) is not None:
            self._transport.send(packet)


class ForgetsThatThereIsRoomAgain(CallbackParticipant):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._transport.on_room = lambda: None


class SendsFromWithinSend(CallbackParticipant):
    def _wake_writer(self) -> None:
        self._is_sending = False
        super()._wake_writer()


class DropsWhatIsNotSent(CallbackParticipant):
    def _packet_not_sent(self, packet: OutgoingPacket) -> None:
        pass


class TakesOneUnsentPacketForABrokenChannel(CallbackParticipant):
    def _packet_not_sent(self, packet: OutgoingPacket) -> None:
        self._connection_broke(PacketNotSent())


class DoesNotMindABrokenChannel(CallbackParticipant):
    def _connection_broke(self, error: Exception) -> None:
        pass


class ForgetsWhatBrokeTheChannel(CallbackParticipant):
    def _connection_broke(self, error: Exception) -> None:
        self._connection_lost(None)


class LetsACrashGoUnanswered(CallbackParticipant):
    def _answer_exception(self, invocation: InvocationReceived, error: BaseException) -> None:
        if isinstance(error, RpcError):
            super()._answer_exception(invocation, error)


class TellsWhatCrashed(CallbackParticipant):
    def _answer_exception(self, invocation: InvocationReceived, error: BaseException) -> None:
        wrapped = RpcError(1500, str(error)) if isinstance(error, ValueError) else error
        super()._answer_exception(invocation, wrapped)


class LeavesTheChannelOpen(CallbackParticipant):
    def close(self) -> None:
        self._close()


class ClosesTwice(CallbackParticipant):
    def close(self) -> None:
        super().close()
        self._transport.close()


class ClosesBeforeItIsDone(CallbackParticipant):
    def close(self) -> None:
        self._transport.close()
        self._transport.is_full = False  # type: ignore[attr-defined]
        self._close()


class LeavesCallsPending(CallbackParticipant):
    def close(self) -> None:
        self._transport.close()


class CancelsNothing(CallbackParticipant):
    def _cancel_call(self, request_id: str) -> None:
        pass


class TellsEachOutcomeTwice(CallbackParticipant):
    def _tell(self, waiter: Waiter, outcome: str | RpcError) -> None:
        super()._tell(waiter, outcome)
        super()._tell(waiter, outcome)


class RunsHandlersTwice(CallbackParticipant):
    def _start_handler(self, invocation: InvocationReceived) -> Callable[[], object]:
        super()._start_handler(invocation)
        return super()._start_handler(invocation)


FAULTS: list[tuple[type[CallbackParticipant], str]] = [
    (TakesTheDeadlineForTheTime, "timers that fire early"),
    (FiresOnce, "an answer that never comes"),
    (NeverSetsATimer, "no sign of life"),
    (SendsWithoutRoom, "a channel that is full"),
    (ForgetsThatThereIsRoomAgain, "a channel that is slow"),
    (SendsFromWithinSend, "hundreds of packets"),
    (DropsWhatIsNotSent, "a packet that is not sent"),
    (DropsWhatIsNotSent, "an answer that is not sent"),
    (TakesOneUnsentPacketForABrokenChannel, "a packet that is not sent"),
    (DoesNotMindABrokenChannel, "a channel that breaks"),
    (ForgetsWhatBrokeTheChannel, "a channel that breaks"),
    (LetsACrashGoUnanswered, "a handler answers, refuses or crashes"),
    (TellsWhatCrashed, "a handler answers, refuses or crashes"),
    (LeavesTheChannelOpen, "leaving ends all calls"),
    (ClosesTwice, "leaving ends all calls"),
    (ClosesBeforeItIsDone, "leaving is not held up"),
    (LeavesCallsPending, "leaving ends all calls"),
    (CancelsNothing, "a call that is cancelled"),
    (TellsEachOutcomeTwice, "a call is answered"),
    (RunsHandlersTwice, "a handler answers, refuses or crashes"),
]


class FaultyDriver(CallbackDriver):
    def __init__(self, participant: type[CallbackParticipant]) -> None:
        self.participant_type = participant


@pytest.mark.parametrize(
    ("fault", "found_by"), FAULTS, ids=lambda value: getattr(value, "__name__", "")
)
def test_the_kit_finds_a_fault(fault: type[CallbackParticipant], found_by: str) -> None:
    [scenario] = (scenario for scenario in SCENARIOS if scenario.name.startswith(found_by))
    with pytest.raises(HostFailed, match=scenario.name):
        play(scenario, FaultyDriver(fault))


def test_a_failure_tells_the_whole_story() -> None:
    scenario = next(scenario for scenario in SCENARIOS if scenario.name.startswith("no sign"))
    with pytest.raises(HostFailed) as failed:
        play(scenario, FaultyDriver(NeverSetsATimer))
    story = str(failed.value)
    assert "it ended with None" in story
    assert "0.000 s  host -> peer: stream header, lost" in story
    assert "7.000 s  Ended(name='a', outcomes=(1501,))" in story


class SilentDriver:
    """A host that does nothing at all fails every scenario."""

    def start(
        self, identity: str, channel: Channel, clock: VirtualClock, handlers: Mapping[str, Handler]
    ) -> None:
        pass

    def perform(
        self, destination_identity: str, method: str, payload: str, response_timeout: float | None
    ) -> CallHandle:
        return CallHandle()

    def cancel(self, handle: CallHandle) -> None:
        pass

    def advance(self, seconds: float) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_no_scenario_is_passed_by_doing_nothing(scenario: Scenario) -> None:
    with pytest.raises(HostFailed):
        play(scenario, SilentDriver())
