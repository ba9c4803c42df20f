"""Random lives of an engine, for the laws.

A *script* is what may happen, drawn by Hypothesis: `(seconds, step)` pairs. `record` plays it to an
engine, which turns references such as "the second call to bob" into plain inputs; a law then
replays these inputs with something changed, and compares what comes of them. As a program, this
module replays the recordings that it is given and prints a digest of what came of each (L1).
"""

import hashlib
import pickle
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from helpers import raw_packet

from rpcproto import (
    Event,
    InvocationReceived,
    LocalProtocolError,
    OutgoingPacket,
    RpcConfig,
    RpcEngine,
    Statistics,
)

US = "alice"
PEERS = ("bob", "carol", "dave")
NO_ONE = ""
"""The peer of a step that is about nobody in particular."""


class Input(NamedTuple):
    """One call of a method of the engine."""

    method: str
    args: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = {}
    now: float | None = None

    def __repr__(self) -> str:
        arguments = [*map(repr, self.args), *(f"{k}={v!r}" for k, v in self.keywords.items())]
        return f"{self.method}({', '.join([*arguments, f'now={self.now}'])})"

    def apply(self, engine: RpcEngine) -> object:
        """What the engine returns; LocalProtocolError stands for itself."""
        keywords = dict(self.keywords) if self.now is None else {**self.keywords, "now": self.now}
        try:
            return getattr(engine, self.method)(*self.args, **keywords)
        except LocalProtocolError:
            return LocalProtocolError


class Outcome(NamedTuple):
    """What came of one input, when everything is taken at once."""

    result: object
    events: tuple[Event, ...]
    packets: tuple[OutgoingPacket, ...]
    next_deadline: float | None
    statistics: Statistics


class Recording(NamedTuple):
    """The inputs that an engine had, the ids that it drew, and what came of each input."""

    inputs: tuple[Input, ...]
    ids: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    config: RpcConfig = RpcConfig()

    def __repr__(self) -> str:
        return "\n".join(["Recording of", *(f"    {input_}" for input_ in self.inputs)])

    def engine(self, *, unix_time_offset: float = 0.0) -> RpcEngine:
        """An engine that will draw the same ids."""
        ids = iter(self.ids)
        return RpcEngine(
            US, new_id=lambda: next(ids), unix_time_offset=unix_time_offset, config=self.config
        )

    def replay(self, inputs: Iterable[Input] | None = None) -> tuple[Outcome, ...]:
        """What comes of the same inputs, or of others, at another engine."""
        engine = self.engine()
        return tuple(play(engine, each) for each in (self.inputs if inputs is None else inputs))


def play(engine: RpcEngine, input_: Input) -> Outcome:
    result = input_.apply(engine)
    packets = tuple(iter(engine.next_packet, None))
    return Outcome(result, engine.take_events(), packets, engine.next_deadline, engine.statistics())


# --- steps


@dataclass
class Past:
    """What has been between us and one peer: what later steps can refer to."""

    calls: list[str] = field(default_factory=list)
    invocations: list[int] = field(default_factory=list)
    packets: list[OutgoingPacket] = field(default_factory=list)
    ids: int = 0

    def call(self, at: int) -> str:
        return self.calls[at % len(self.calls)] if self.calls else "no-call"

    def invocation(self, at: int) -> int:
        return self.invocations[at % len(self.invocations)] if self.invocations else 0


Pasts: TypeAlias = Mapping[str, Past]


@dataclass(frozen=True)
class Step:
    """Something that happens between us and `peer`."""

    peer: str

    def input(self, pasts: Pasts) -> Input | None:
        """The input that this means by now; None if it means nothing yet."""
        raise NotImplementedError


@dataclass(frozen=True)
class Call(Step):
    payload: str = "hi"
    response_timeout: float | None = None
    ack_timeout: float | None = None

    def input(self, pasts: Pasts) -> Input:
        timeouts = {"response_timeout": self.response_timeout, "ack_timeout": self.ack_timeout}
        return Input("call", (self.peer, "greet", self.payload), timeouts)


@dataclass(frozen=True)
class Cancel(Step):
    at: int

    def input(self, pasts: Pasts) -> Input:
        return Input("cancel", (pasts[self.peer].call(self.at),))


@dataclass(frozen=True)
class Respond(Step):
    at: int
    payload: str

    def input(self, pasts: Pasts) -> Input:
        return Input("respond", (pasts[self.peer].invocation(self.at), self.payload))


@dataclass(frozen=True)
class RespondError(Step):
    at: int
    code: int
    message: str

    def input(self, pasts: Pasts) -> Input:
        invocation_id = pasts[self.peer].invocation(self.at)
        return Input("respond_error", (invocation_id, self.code, self.message))


@dataclass(frozen=True)
class SendFailed(Step):
    at: int

    def input(self, pasts: Pasts) -> Input | None:
        packets = pasts[self.peer].packets
        return Input("send_failed", (packets[self.at % len(packets)],)) if packets else None


@dataclass(frozen=True)
class Joined(Step):
    sid: str
    client_protocol: int = 0
    capabilities: tuple[int, ...] = ()

    def input(self, pasts: Pasts) -> Input:
        keywords = {
            "participant_sid": self.sid,
            "client_protocol": self.client_protocol,
            "capabilities": self.capabilities,
        }
        return Input("participant_joined", (self.peer,), keywords)


@dataclass(frozen=True)
class Left(Step):
    sid: str

    def input(self, pasts: Pasts) -> Input:
        return Input("participant_left", (self.peer,), {"participant_sid": self.sid})


@dataclass(frozen=True)
class Happens(Step):
    """Anything that takes no arguments but `now`."""

    method: str

    def input(self, pasts: Pasts) -> Input:
        return Input(self.method)


@dataclass(frozen=True)
class Connected(Step):
    server_version: str | None
    participants_complete: bool

    def input(self, pasts: Pasts) -> Input:
        keywords = {
            "server_version": self.server_version,
            "participants_complete": self.participants_complete,
        }
        return Input("connected", (), keywords)


@dataclass(frozen=True)
class Receive(Step):
    """A packet that claims to be from `peer`. `fields` may ask for the id of a call of ours."""

    sid: str
    sequence: int
    fields: Callable[[Callable[[int], str]], dict[str, Any]]
    about: str
    """The peer whose calls are meant."""
    host_says_so: bool = False
    destinations: tuple[str, ...] = (US,)

    def input(self, pasts: Pasts) -> Input:
        data = raw_packet(
            self.peer,
            self.destinations,
            participant_sid=self.sid,
            sequence=self.sequence,
            **self.fields(pasts[self.about].call),
        )
        return Input(
            "receive_packet", (data,), {"sender_identity": self.peer} if self.host_says_so else {}
        )


@dataclass(frozen=True)
class ReceiveBytes(Step):
    data: bytes

    def input(self, pasts: Pasts) -> Input:
        return Input("receive_packet", (self.data,))


Script: TypeAlias = Sequence[tuple[float, Step]]


class Recorder:
    """Plays steps to an engine and writes down what they were."""

    def __init__(self, config: RpcConfig = RpcConfig()) -> None:  # noqa: B008 (frozen)
        self.pasts = {peer: Past() for peer in (*PEERS, NO_ONE)}
        self.now = 1_000.0
        self._config = config
        self._inputs: list[Input] = []
        self._ids: list[str] = []
        self._outcomes: list[Outcome] = []
        self._peer = NO_ONE
        self._engine = RpcEngine(US, new_id=self._new_id, config=config)
        self.play(Input("register_method", ("greet",)), NO_ONE)

    def _new_id(self) -> str:
        """An id that depends on nothing but the peer, and how many there were for it."""
        past = self.pasts[self._peer]
        past.ids += 1
        self._ids.append(f"{self._peer}-0000-4000-8000-{past.ids:012}")
        return self._ids[-1]

    def step(self, step: Step) -> Outcome | None:
        input_ = step.input(self.pasts)
        return None if input_ is None else self.play(input_._replace(now=self.now), step.peer)

    def play(self, input_: Input, peer: str) -> Outcome:
        self._peer = peer
        outcome = play(self._engine, input_)
        self._inputs.append(input_)
        self._outcomes.append(outcome)
        past = self.pasts[peer]
        if input_.method == "call" and isinstance(outcome.result, str):
            past.calls.append(outcome.result)
        for event in outcome.events:
            if isinstance(event, InvocationReceived):
                self.pasts[event.caller_identity].invocations.append(event.invocation_id)
        for packet in outcome.packets:
            self.pasts[packet.destination_identity].packets.append(packet)
        return outcome

    def recording(self) -> Recording:
        return Recording(tuple(self._inputs), tuple(self._ids), tuple(self._outcomes), self._config)


def record(script: Script, config: RpcConfig = RpcConfig()) -> Recording:  # noqa: B008 (frozen)
    recorder = Recorder(config)
    for seconds, step in script:
        recorder.now += seconds
        recorder.step(step)
    return recorder.recording()


def digest(outcomes: Sequence[Outcome]) -> str:
    return hashlib.sha256(repr(outcomes).encode()).hexdigest()


if __name__ == "__main__":
    for each in pickle.load(sys.stdin.buffer):
        print(digest(each.replay()))
