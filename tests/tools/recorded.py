"""What the tests of the journal share: recorded engines, and lines of a journal."""

import json
from typing import Any

from engine_scripts import US, Recording, play

from rpcproto import RpcEngine
from rpcproto.recording import Journal
from rpcproto.testing import counting_ids


def recorded(recording: Recording) -> list[str]:
    """The journal of a run that has been before, and is the same again while it is recorded."""
    lines: list[str] = []
    ids = iter(recording.ids)
    engine = Journal(lines.append).engine(US, new_id=ids.__next__, config=recording.config)
    assert tuple(play(engine, input_) for input_ in recording.inputs) == recording.outcomes
    return lines


def parsed(lines: list[str]) -> list[Any]:
    return [json.loads(line) for line in lines]


def written(source: object) -> str:
    return json.dumps(source, separators=(",", ":")) + "\n"


class Recorded:
    """A recorded engine and its journal."""

    def __init__(self, **options: Any) -> None:
        self.lines: list[str] = []
        self.journal = Journal(self.lines.append)
        self.engine = self.add("alice", **options)

    def add(self, identity: str, **options: Any) -> RpcEngine:
        return self.journal.engine(identity, **{"new_id": counting_ids("a"), **options})

    def last(self) -> Any:
        return json.loads(self.lines[-1])


def a_call() -> Recorded:
    """A journal of a call between two engines, with all kinds of lines."""
    it = Recorded()
    alice, bob = it.engine, it.add("bob", new_id=counting_ids("b"))
    bob.register_method("greet")
    alice.call("bob", "greet", "hi", now=1.0)
    request = alice.next_packet()
    assert request is not None
    bob.receive_packet(request.data, now=1.05)
    bob.take_events()
    bob.respond(1, "hello", now=1.06)
    while (packet := bob.next_packet()) is not None:
        alice.receive_packet(packet.data, now=1.1)
    alice.take_events()
    alice.participant_joined("carol", now=1.2)
    return it
