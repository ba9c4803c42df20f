"""The conformance kit for hosts: all hosts that we know of pass it, and it finds what is wrong."""

import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from callback_host import CallbackParticipant
from host_driver import Driver
from host_drivers import DRIVERS
from kit_faults import FAULTS, finders_of
from planted_hosts import HOSTS, Fault, attempt, source_of

from rpcproto import RpcConfig
from rpcproto.testing.hosts import (
    Advance,
    Call,
    CallHandle,
    Cancel,
    Ended,
    Handlers,
    Happens,
    HostDriver,
    HostFailed,
    HostSetup,
    Network,
    PeerCall,
    PeerEnded,
    PeerStarts,
    Pending,
    Room,
    Scenario,
    SentNothing,
    Step,
    VirtualClock,
    check,
    play,
    scenarios,
)
from rpcproto.transports import TransportEvent


@pytest.mark.parametrize("scenario", scenarios(), ids=str)
@pytest.mark.parametrize("driver", DRIVERS.values(), ids=list(DRIVERS))
def test_a_host_passes(scenario: Scenario, driver: Callable[[], HostDriver]) -> None:
    play(scenario, driver())


# hosts with one fault each


@pytest.mark.parametrize(
    "fault", [fault for fault in FAULTS if not fault.why_not], ids=lambda f: f"{f.host}-{f.name}"
)
def test_the_kit_finds_a_fault(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    # A fault may recurse until even pytest's hook for ignored exceptions has no room.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    [scenario] = finders_of(fault)
    failed = attempt(fault, scenario)
    assert failed is not None
    assert str(failed).startswith(scenario.name)


@pytest.mark.parametrize(
    "fault", [fault for fault in FAULTS if fault.why_not], ids=lambda f: f"{f.host}-{f.name}"
)
def test_a_fault_that_cannot_be_noticed_changes_the_source_and_harms_nobody(fault: Fault) -> None:
    assert source_of(fault.module).count(fault.old) == 1
    for scenario in scenarios():
        assert attempt(fault, scenario) is None


def test_there_are_enough_faults_in_every_host_and_no_two_of_one_name() -> None:
    assert len({(fault.host, fault.name) for fault in FAULTS}) == len(FAULTS)
    assert sum(not fault.why_not for fault in FAULTS) >= 70
    for host in HOSTS:
        assert sum(fault.host == host for fault in FAULTS) >= 10


def test_every_scenario_has_a_name_of_its_own() -> None:
    names = [str(scenario) for scenario in scenarios()]
    assert len(set(names)) == len(names)


# what a run says


def failure_of(driver: HostDriver, name: str) -> str:
    scenario = next(scenario for scenario in scenarios() if scenario.name.startswith(name))
    with pytest.raises(HostFailed) as failed:
        play(scenario, driver)
    return str(failed.value)


def test_a_failure_tells_the_whole_story() -> None:
    class NeverSetsATimer(CallbackParticipant):
        def set_timer(self, at: float) -> None:
            pass

    class NoTimerDriver(Driver):
        host_type = NeverSetsATimer

    story = failure_of(NoTimerDriver(), "no sign of life")
    assert "the call 'a' did not end" in story
    assert "0.000 s  host -> peer: stream header, lost" in story
    assert "7.000 s  Ended(name='a', outcomes=(1501,))" in story


def test_the_story_has_what_the_host_logged() -> None:
    class ForgetsToAnswer(CallbackParticipant):
        def _answered(self, invocation: object, result: object) -> None:
            pass

    class ForgetfulDriver(Driver):
        host_type = ForgetsToAnswer

    scenario = Scenario("a story", (PeerCall("crash", 1500), PeerCall("echo", "Hi")))
    with pytest.raises(HostFailed, match=r"log: ERROR host: the handler of 'crash' failed"):
        play(scenario, ForgetfulDriver())


def test_a_run_that_passes_logs_and_prints_nothing(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG, "rpcproto"):
        check(Driver)
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("rpcproto").filters == []


def test_the_summary_of_a_run_says_what_was_covered() -> None:
    summary = check(Driver)
    assert summary.scenarios == len(scenarios())
    assert summary.left_out == ()
    assert sum(number for _, number in summary.topics) == summary.scenarios
    assert str(summary).startswith(f"{summary.scenarios} scenarios passed: calls ")
    assert f"{summary.calls} calls, {summary.handlers} handlers" in str(summary)
    assert 0 < summary.handlers_cancelled < summary.handlers


def test_the_summary_names_the_scenarios_that_were_not_played() -> None:
    chosen = scenarios(slow_handlers=False, config=False)
    summary = check(Driver, chosen)
    assert summary.scenarios == len(chosen) < len(scenarios())
    assert len(summary.left_out) == len(scenarios()) - len(chosen)
    assert "not played: a handler is cancelled when its caller leaves" in str(summary)


def test_scenarios_can_be_chosen_by_what_a_host_is_able_to_do() -> None:
    plain, slow, configured = (
        Scenario("plain", (PeerCall("echo", "Hi"),)),
        Scenario("slow", (PeerStarts("a", "slow"),)),
        Scenario("configured", (), config=RpcConfig(response_timeout=1.0)),
    )
    assert [s.has_slow_handlers for s in (plain, slow, configured)] == [False, True, False]
    assert [s.has_config for s in (plain, slow, configured)] == [False, False, True]
    assert not any(scenario.has_slow_handlers for scenario in scenarios(slow_handlers=False))
    assert not any(scenario.has_config for scenario in scenarios(config=False))


def test_a_check_tells_all_failures() -> None:
    class Deaf(CallbackParticipant):
        def receive_events(self, events: Sequence[TransportEvent]) -> None:
            pass

    class DeafDriver(Driver):
        host_type = Deaf

    with pytest.raises(HostFailed) as failed:
        check(DeafDriver)
    text = str(failed.value)
    assert f"of {len(scenarios())} scenarios failed\n\na call is answered: " in text
    assert "\n\nan error of the peer is the outcome, with its message and its data: " in text


def test_what_a_host_raises_is_its_failure() -> None:
    class Raises(Driver):
        def perform(self, *_: object) -> CallHandle:
            raise SystemExit("a secret")

    assert "the host or its driver raised SystemExit" in failure_of(Raises(), "a call is answered")


class SilentDriver:
    """A host that does nothing at all fails every scenario."""

    def start(self, setup: HostSetup) -> None:
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


@pytest.mark.parametrize("scenario", scenarios(), ids=str)
def test_no_scenario_is_passed_by_doing_nothing(scenario: Scenario) -> None:
    with pytest.raises(HostFailed):
        play(scenario, SilentDriver())


# scenarios of one's own


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ((Call("a"), Advance(1.0), Ended("a", ("Ho",))), "the call 'a' ended with 'Hi'"),
        ((Call("a", "ignore"), Ended("a", ("Hi",))), "the call 'a' did not end"),
        ((Call("a", "refuse"), Advance(1.0), Ended("a", (2002,))), "ended with RpcError(2001"),
        ((PeerCall("refuse", 2002),), "the peer's call ended with RpcError(2001"),
        ((PeerStarts("a", "slow"), PeerEnded("a", "Hi")), "the peer's call ended with None"),
        ((PeerStarts("a", "slow"), Advance(1.0), Handlers()), "1 handlers are running"),
        ((Network(latency=9.0), PeerCall("echo", "Hi")), "the peer's call ended with None"),
        ((Network(latency=9.0), Call("a"), Pending("a"), SentNothing()), "the host sent 1 packets"),
    ],
)
def test_what_is_not_so_is_told(steps: tuple[Step, ...], reason: str) -> None:
    with pytest.raises(HostFailed) as failed:
        play(Scenario("mine", steps), Driver())
    assert str(failed.value).startswith("mine: ")
    assert reason in str(failed.value).splitlines()[0]


def test_a_scenario_of_ones_own_passes() -> None:
    steps = (Room(seconds_per_packet=0.5), Call("a"), Call("b"), Advance(1.5), Ended("b", ("Hi",)))
    play(Scenario("mine", steps), Driver())


# the clock


def test_timers_are_early_and_repeated_when_they_are_told_to_be() -> None:
    clock, fired = VirtualClock(), list[float]()
    clock.early, clock.repeated = 0.5, True
    clock.call_at(2.0, lambda: fired.append(clock.time()))
    clock.call_soon(lambda: fired.append(clock.time()))
    clock.advance(3.0)
    assert fired == [0.0, 1.5, 1.5]
    assert clock.time() == 3.0


def test_a_cancelled_timer_does_not_fire_unless_timers_are_stale() -> None:
    clock, fired = VirtualClock(), list[float]()
    for at in (1.0, 2.0):
        clock.call_at(at, lambda: fired.append(clock.time())).cancel()
    assert clock.pending_timers == 0
    clock.advance(1.0)
    assert fired == []
    clock.stale = True
    clock.advance(1.0)
    assert fired == [2.0]


def test_a_host_that_sets_a_timer_for_this_instant_again_and_again_fails() -> None:
    class NeverReadsTheClock(CallbackParticipant):
        def timer_fired(self) -> None:
            self.set_timer(self._loop.time())

    class RestlessDriver(Driver):
        host_type = NeverReadsTheClock

    reason = failure_of(RestlessDriver(), "no sign of life").splitlines()[0]
    assert "timers set new timers for the same instant without end" in reason


def test_a_host_that_can_no_longer_cancel_a_call_says_so() -> None:
    class LateDriver(Driver):
        """Like a host of threads: the outcome is there before the program knows."""

        def perform(self, *arguments: Any) -> CallHandle:
            handle = super().perform(*arguments)
            handle.cancel = lambda: False
            return handle

    steps = (
        Network(is_held=True),
        Call("a"),
        Advance(1.0),
        Cancel("a", after_report=True),
        Happens(),
        Ended("a", ("Hi",)),
    )
    play(Scenario("mine", steps), LateDriver())
