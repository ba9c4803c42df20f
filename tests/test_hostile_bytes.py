"""Random bytes and damaged packets: no exception, and each of them is accounted for (R32)."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

import pytest
from helpers import Participant
from official_packets import VECTORS

from rpcproto import stamp

COUNT = 10_000


def random_bytes(random: Random, packets: Sequence[bytes]) -> bytes:
    return random.randbytes(random.choice([0, 1, 2, 5, 20, 100, 400]))


def mutation(random: Random, packets: Sequence[bytes]) -> bytes:
    """A real packet with something wrong with it, mostly little, or with nothing."""
    data = bytearray(random.choice(packets))
    for _ in range(random.choice([0, 1, 1, 1, 2, 4])):
        start = random.randrange(len(data)) if data else 0
        end = min(len(data), start + random.choice([1, 1, 2, 8, 50]))
        match random.randrange(7):
            case 0:
                data[start:end] = random.randbytes(end - start)
            case 1:
                del data[start:end]
            case 2:
                data[start:start] = random.randbytes(random.randint(1, 8))
            case 3:
                data += random.choice(packets)[: random.randint(1, 400)]
            case _:
                # A byte that may well be text: lengths and tags mostly stay good.
                data[start:end] = random.choice(b"0129afkr.").to_bytes() * (end - start)
    return bytes(data)


class Victim(Participant):
    """Somebody to whom official clients have sent packets, with the calls that these answer."""

    def __init__(self, identity: str) -> None:
        super().__init__(identity, methods=["m"], new_id=lambda: self._id)
        self._id = ""
        self.packets_to_it = [vector.forwarded for vector in VECTORS if identity in vector.to]
        self._vectors = [vector for vector in VECTORS if identity in vector.to]
        for vector in self._vectors:
            self.joined(vector.sender, vector.sid)

    def call_again(self) -> None:
        """A call for each answer among the packets, unless it is still pending."""
        for vector in self._vectors:
            if vector.answered_id:
                self._id = vector.answered_id
                self.cancel(self._id)
                self.call(vector.sender)
        self.events()
        self.packets()


@pytest.mark.parametrize("make", [random_bytes, mutation])
def test_hostile_bytes_have_an_effect_or_are_counted(
    make: Callable[[Random, Sequence[bytes]], bytes],
) -> None:
    victims = [Victim(to) for to in sorted({to for vector in VECTORS for to in vector.to})]
    random = Random(20_26)
    effects = 0
    for number in range(COUNT):
        victim = victims[number % len(victims)]
        if number % 50 < len(victims):
            victim.call_again()
        before, next_deadline = victim.statistics, victim.next_deadline
        victim.now += 1 / 1024
        # With a number of its own, or the one that it came with, which may have been seen.
        data = make(random, victim.packets_to_it)
        victim.receive(stamp(data, sequence=number % 2 * (number + 1_000)))
        after = victim.statistics
        has_effect = (
            bool(victim.events() or victim.packets())
            or victim.next_deadline != next_deadline
            or replace(after, packets_in=0, ignored={}) != replace(before, packets_in=0, ignored={})
        )
        was_counted = sum(after.ignored.values()) == sum(before.ignored.values()) + 1
        assert has_effect or was_counted
        assert after.packets_in == before.packets_in + 1
        effects += has_effect and not was_counted
    # Mutations are close enough to real packets that many of them still do something.
    assert effects > (500 if make is mutation else -1)
