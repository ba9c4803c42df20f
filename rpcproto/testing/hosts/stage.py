"""A scenario that is being played: the host, its peer, and the network between them."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from rpcproto.core.errors import ErrorCode
from rpcproto.core.messages import OutgoingPacket
from rpcproto.errors import RpcError
from rpcproto.testing.hosts.channel import Channel
from rpcproto.testing.hosts.clock import VirtualClock
from rpcproto.testing.hosts.driver import CallHandle, HostDriver, HostSetup
from rpcproto.testing.hosts.handlers import KitHandlers
from rpcproto.testing.hosts.peer import Peer
from rpcproto.testing.hosts.steps import (
    ALL_KINDS,
    HOST,
    PEER,
    PEER_SID,
    Advance,
    Breaks,
    Call,
    Cancel,
    Cause,
    Close,
    Ended,
    Expected,
    Failure,
    Handlers,
    Happens,
    Heard,
    Jump,
    Network,
    NotSent,
    PeerCall,
    PeerEnded,
    PeerStarts,
    Pending,
    Room,
    Scenario,
    Sent,
    SentNothing,
    Step,
    Timers,
)
from rpcproto.transports import Connected, PacketReceived, ParticipantJoined, TransportEvent
from rpcproto.wire import stamp

CLOSING_TIME: Final = 1.0
"""How long a host may take to leave, in seconds."""
_AFTERWARDS: Final = 7_200.0
"""For so many seconds after it has left a host must do nothing."""


class Unmet(Exception):  # noqa: N818 (what happened)
    """Something that must be so is not so."""


class Stage:
    """One scenario that is being played."""

    def __init__(self, scenario: Scenario, driver: HostDriver) -> None:
        self.story: list[str] = []
        self.clock: VirtualClock = VirtualClock()
        self.channel: Channel = Channel(self.clock, scenario.departure_grace)
        self.handlers: KitHandlers = KitHandlers(self.clock)
        self.calls: dict[str, CallHandle] = {}
        self._scenario = scenario
        self._driver = driver
        self._peer = Peer(self.clock, self._carry_to_host)
        self._network = Network()
        self._held: list[TransportEvent] = []
        self._cancelled: set[str] = set()
        self._peer_calls: dict[str, str] = {}
        self._sent_before = 0
        self._misuse: list[str] = []
        self.channel.carry = self._carry_to_peer

    def start(self) -> None:
        """Make the host."""
        self._driver.start(
            HostSetup(HOST, self.channel, self.clock, self.handlers.all(), self._scenario.config)
        )
        if self._scenario.is_connected:
            joined = ParticipantJoined(PEER, PEER_SID, 2, (2,))
            self._report((joined, Connected(participants_complete=True)))

    def do(self, step: Step) -> None:
        """Let a step happen, or look whether it is so."""
        self.note(f"{step!r:.300}")
        sent = len(self.channel.sent)
        match step:
            case Call() | Cancel() | PeerCall() | PeerStarts():
                self._act(step)
            case Advance():
                self._driver.advance(step.seconds)
            case Jump():
                self.clock.jump(step.seconds)
                self._driver.advance(0.0)
            case Happens():
                held, self._held = self._held, []
                self._report((*held, *step.events))
            case Close():
                self._close()
            case Timers() | Network() | Room() | NotSent() | Breaks():
                self._set(step)
            case _:
                self._look(step)
                return
        self._sent_before = sent

    def end(self) -> None:
        """Whatever happened: the host leaves in time, and nothing is left of it."""
        if not self.channel.times_closed:
            self._close()
        sent, runs = len(self.channel.sent), self.handlers.runs
        self._expect(
            not self.clock.pending_timers,
            f"the host has left, and {self.clock.pending_timers} of its timers are still set",
        )
        self.channel.is_full = False
        self.channel.report_room()
        self.clock.advance(_AFTERWARDS)
        self._expect(
            (sent, runs) == (len(self.channel.sent), self.handlers.runs),
            "the host has left, and still sent a packet or ran a handler",
        )
        for name, handle in self.calls.items():
            if name in self._cancelled:
                otherwise = f"the call {name!r} was cancelled, and still ended"
                self._expect(not handle.outcomes, otherwise)
                continue
            self._expect(bool(handle.outcomes), f"the call {name!r} never ended")
            times = len(handle.outcomes)
            self._expect(times == 1, f"the call {name!r} ended {times} times")
        misuse = [*self.channel.misuse, *self.handlers.misuse, *self._misuse]
        self._expect(not misuse, f"the host {', and '.join(dict.fromkeys(misuse))}")

    def note(self, text: str) -> None:
        """Add a line to the story."""
        self.story.append(f"{self.clock.time():8.3f} s  {text}")

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Take what the host logs into the story: errors that were planted need no attention."""

        def take(record: logging.LogRecord) -> bool:
            raised = record.exc_info[1] if record.exc_info else None
            self.note(
                f"log: {record.levelname} {record.getMessage()}"
                + (f" [{type(raised).__name__}]" if raised else "")
            )
            return False

        logger = logging.getLogger("rpcproto")
        logger.addFilter(take)
        try:
            yield
        finally:
            logger.removeFilter(take)

    # steps

    def _act(self, step: Call | Cancel | PeerCall | PeerStarts) -> None:
        match step:
            case Call():
                handle = self._driver.perform(
                    step.destination, step.method, step.payload, step.response_timeout
                )
                handle.noticed = self._look_where_it_ended
                self.calls[step.name] = handle
            case Cancel():
                handle = self.calls[step.name]
                if step.after_report:
                    self.channel.reported = lambda: self._cancel_now(step.name)
                else:
                    if handle.outcome is None:
                        self._cancelled.add(step.name)
                    self._driver.cancel(handle)
            case PeerStarts():
                self._peer_calls[step.name] = self._call_host(step)
                if not self.channel.times_closed:
                    self._driver.advance(0.0)
            case PeerCall():
                self._expect_answer(step)

    def _cancel_now(self, name: str) -> None:
        self.channel.reported = lambda: None
        if self.calls[name].cancel() is not False:
            self._cancelled.add(name)

    def _set(self, step: Timers | Network | Room | NotSent | Breaks) -> None:
        channel, clock = self.channel, self.clock
        match step:
            case Timers():
                clock.early, clock.stale, clock.repeated = step.early, step.stale, step.repeated
            case Network():
                self._network = step
            case Room():
                channel.is_full = step.is_full
                channel.seconds_per_packet = step.seconds_per_packet
                clock.schedule(0.0, channel.report_room)
                self._driver.advance(0.0)
            case NotSent():
                channel.unsent = step.packets
                channel.unsent_kinds = ALL_KINDS if step.kind is None else frozenset({step.kind})
            case Breaks():
                channel.broken_by = step.cause

    def _look(
        self, step: Ended | Pending | PeerEnded | Handlers | Heard | Sent | SentNothing | Cause
    ) -> None:
        match step:
            case Ended():
                outcome = self.calls[step.name].outcome
                self._expect_outcome(outcome, step.outcomes, f"the call {step.name!r}")
            case Pending():
                outcome = self.calls[step.name].outcome
                self._expect(outcome is None, f"the call {step.name!r} ended with {outcome!r:.100}")
            case PeerEnded():
                self._expect_peer(self._peer_calls[step.name], step.outcome)
            case Handlers():
                running, cancelled = self.handlers.running, self.handlers.cancelled
                self._expect(
                    (running, cancelled) == (step.running, step.cancelled),
                    f"{running} handlers are running, and {cancelled} were cancelled",
                )
            case Heard():
                heard = tuple(self._peer.heard)
                self._expect(heard == step.payloads, f"the peer got the requests {heard!r:.200}")
            case Sent():
                packets = sum(packet.kind is step.kind for packet in self.channel.sent)
                self._expect(packets == step.packets, f"the host sent {packets} of them")
            case SentNothing():
                sent = len(self.channel.sent) - self._sent_before
                self._expect(sent == 0, f"the host sent {sent} packets")
            case Cause():
                error = self.calls[step.name].outcome
                is_cause = isinstance(error, RpcError) and error.__cause__ is step.cause
                self._expect(is_cause, f"{error!r} has another cause")

    def _close(self) -> None:
        before = self.clock.time()
        limit = CLOSING_TIME + self.handlers.stubborn_for
        self._driver.close()
        times, seconds = self.channel.times_closed, self.clock.time() - before
        self._expect(times == 1, f"the host has left and closed its channel {times} times")
        self._expect(seconds <= limit, f"leaving took {seconds} s")
        running = [work for work in self.handlers.works if not (work.done() or work.was_cancelled)]
        self._expect(not running, f"the host has left, and {len(running)} handlers are running")

    def _report(self, events: Sequence[TransportEvent]) -> None:
        self.clock.schedule(0.0, lambda: self.channel.report(events))
        if self.channel.times_closed:
            self.clock.advance(0.0)
        else:
            self._driver.advance(0.0)

    # the peer, and the network

    def _call_host(self, step: PeerCall | PeerStarts) -> str:
        request_id, timeout = self._peer.call(step)
        self.handlers.timeouts[request_id] = timeout
        return request_id

    def _expect_answer(self, step: PeerCall) -> None:
        runs_before = self.handlers.runs
        request_id = self._call_host(step)
        self._driver.advance(2.0)
        self._expect_peer(request_id, step.outcome)
        runs = self.handlers.runs - runs_before
        self._expect(runs <= 1, f"the handler ran {runs} times")

    def _carry_to_peer(self, packet: OutgoingPacket) -> None:
        if self._is_lost(packet, f"{HOST} -> {PEER}"):
            return
        self._travel(lambda: self._peer.receive(packet.data))

    def _carry_to_host(self, packets: Sequence[OutgoingPacket]) -> None:
        network, events = self._network, list[TransportEvent]()
        for packet in packets:
            if not self._is_lost(packet, f"{PEER} -> {HOST}"):
                data = stamp(packet.data, sender_identity=network.claimed_sender)
                events += [PacketReceived(data, PEER, network.sid)] * network.times
        if network.is_held:
            self._held += events
        elif events:
            self._travel(lambda: self.channel.report(events))

    def _is_lost(self, packet: OutgoingPacket, way: str) -> bool:
        is_lost = packet.kind in self._network.lost or self.channel.broken_by is not None
        self.note(f"{way}: {packet.kind.value}" + (", lost" if is_lost else ""))
        return is_lost

    def _travel(self, arrive: Callable[[], object]) -> None:
        if self._network.latency is None:
            arrive()
        else:
            self.clock.schedule(self._network.latency, arrive)

    # what must be so

    def _look_where_it_ended(self) -> None:
        if self.clock.is_reporting:
            self._misuse.append("handed over an outcome inside a callback")

    def _expect_peer(self, request_id: str, expected: Expected | None) -> None:
        outcome = self._peer.outcome(request_id)
        if expected is None or outcome is None:
            self._expect(outcome is expected, f"the peer's call ended with {outcome!r:.100}")
            return
        self._expect_outcome(outcome, (expected,), "the peer's call")
        if isinstance(outcome, RpcError):
            text = outcome.message + (outcome.data or "")
            self._expect("secret" not in text, f"the peer got the text of an exception: {text}")

    def _expect_outcome(
        self, outcome: str | Exception | None, expected: Sequence[Expected], what: str
    ) -> None:
        is_so = any(_is(outcome, one) for one in expected)
        self._expect(
            is_so, f"{what} ended with {outcome!r:.100}" if outcome else f"{what} did not end"
        )

    def _expect(self, is_so: bool, otherwise: str) -> None:
        if not is_so:
            raise Unmet(otherwise)


def _is(outcome: str | Exception | None, expected: Expected) -> bool:
    if isinstance(expected, str) or outcome is None:
        return outcome == expected
    if isinstance(expected, type):
        return isinstance(outcome, expected)
    if not isinstance(outcome, RpcError):
        return False
    if isinstance(expected, Failure):
        return (outcome.code, outcome.message, outcome.data or "") == expected
    is_whole = outcome.code not in set(ErrorCode) or bool(outcome.message)
    return outcome.code == expected and is_whole
