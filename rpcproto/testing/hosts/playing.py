"""Play scenarios to a host, one or all of them."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

from rpcproto.testing.hosts.driver import HostDriver
from rpcproto.testing.hosts.scenarios import scenarios
from rpcproto.testing.hosts.stage import Stage, Unmet
from rpcproto.testing.hosts.steps import Scenario


class HostFailed(AssertionError):  # noqa: N818 (what happened)
    """A host did not pass a scenario. The text contains everything that happened until then."""


@final
@dataclass(frozen=True, slots=True)
class Summary:
    """A summary of the scenarios that a host has passed. `str` returns it as text."""

    scenarios: int
    topics: tuple[tuple[str, int], ...]
    """How many scenarios there are of each topic."""
    left_out: tuple[str, ...]
    """The scenarios of the kit that were not played."""
    packets: int
    """How many packets the host has sent."""
    calls: int
    """How many calls the host has made."""
    handlers: int
    """How many handlers have run."""
    handlers_cancelled: int
    hours: float
    """The virtual time that has passed, in hours."""

    def __str__(self) -> str:
        topics = ", ".join(f"{topic} {number}" for topic, number in self.topics)
        handlers = f"{self.handlers} handlers ({self.handlers_cancelled} cancelled)"
        counts = f"{self.calls} calls, {handlers}, {self.packets} packets"
        lines = [
            f"{self.scenarios} scenarios passed: {topics}",
            f"{counts}, {self.hours:.0f} h of virtual time",
            *(f"not played: {name}" for name in self.left_out),
        ]
        return "\n".join(lines)


def play(scenario: Scenario, driver: HostDriver) -> None:
    """Run one scenario with a host, which then leaves. A driver is for one use.

    The message of a failure contains the log records of `rpcproto`, which are not logged elsewhere.

    Raises:
        HostFailed: The host did not pass.
    """
    _play(scenario, driver)


def check(
    new_driver: Callable[[], HostDriver], chosen: Sequence[Scenario] | None = None
) -> Summary:
    """Run all or the `chosen` scenarios, each with a new host, and return a summary to print.

    Raises:
        HostFailed: Some scenarios failed. Raised after the last one, with all failures.
    """
    everything = scenarios()
    played = everything if chosen is None else tuple(chosen)
    failures: list[str] = []
    stages: list[Stage] = []
    for scenario in played:
        try:
            stages.append(_play(scenario, new_driver()))
        except HostFailed as failed:
            failures.append(str(failed))
    if failures:
        heading = f"{len(failures)} of {len(played)} scenarios failed"
        raise HostFailed("\n\n".join([heading, *failures]))
    return Summary(
        scenarios=len(played),
        topics=tuple(Counter(scenario.topic for scenario in played).items()),
        left_out=tuple(str(scenario) for scenario in everything if scenario not in played),
        packets=sum(len(stage.channel.sent) for stage in stages),
        calls=sum(len(stage.calls) for stage in stages),
        handlers=sum(stage.handlers.runs for stage in stages),
        handlers_cancelled=sum(stage.handlers.cancelled for stage in stages),
        hours=sum(stage.clock.time() for stage in stages) / 3600,
    )


def _play(scenario: Scenario, driver: HostDriver) -> Stage:
    stage = Stage(scenario, driver)
    with stage.logging():
        try:
            stage.start()
            for step in scenario.steps:
                stage.do(step)
            stage.end()
        except Unmet as unmet:
            raise _failed(scenario, stage, str(unmet)) from None
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # what a handler raised, too
            raise _failed(scenario, stage, f"the host or its driver raised {error!r}") from error
        finally:
            stage.handlers.release()
    return stage


def _failed(scenario: Scenario, stage: Stage, reason: str) -> HostFailed:
    story = "\n".join(f"  {line}" for line in stage.story)
    return HostFailed(f"{scenario.name}: {reason}\n{story}")
