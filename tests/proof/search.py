"""An exhaustive search: two real engines, everything that can happen to them, in every order.

    python tests/proof search 2 1

prints how many states there are with 2 calls one way and 1 the other, or the shortest way to a
state that must not be. What is searched, and why it is finite, is in docs/search.md.
"""

import argparse
import resource
import sys
import time
from collections.abc import Iterator
from typing import Final, NamedTuple, TypeAlias

from search_account import PROBES, Letter, Move, ViolationError
from search_form import freeze, thaw
from search_member import Member

from rpcproto.wire import REQUEST_ID, StreamHeader

NAMES: Final = ("alice", "bob")
BITS: Final = 3
"""For how often a letter is under way, in the number that a bag of letters is."""
MANY: Final = (1 << BITS) - 1

State: TypeAlias = tuple[int, int, int, int]
"""The states of alice and bob, the letters under way, and how many troubles may still come."""


class Step(NamedTuple):
    """A move of one participant, or of the network, or of time."""

    who: str
    move: Move


class Scenario(NamedTuple):
    """What is searched."""

    calls: tuple[int, int]
    """How many each of the two may make."""
    troubles: int
    """How many there may be in all."""
    streams: bool = False
    """Whether calls are RPC v2, with bodies of two chunks."""
    grace: float = 0.0
    """Seconds for which a call can be answered after its recipient left (R9)."""
    sealed: bool = False
    """Whether packets are encrypted, with an IV that is always the same."""

    def members(self) -> tuple[Member, Member]:
        payloads = [
            tuple(
                f"{name[0]}{number}".ljust(15_001 * self.streams, "x")
                for number in range(1, count + 1)
            )
            for name, count in zip(NAMES, self.calls, strict=True)
        ]
        alice, bob = NAMES
        how = int(self.streams), self.grace, self.sealed
        return Member(alice, bob, payloads[0], *how), Member(bob, alice, payloads[1], *how)


class Letters:
    """All letters that were ever sent, each with a number."""

    def __init__(self) -> None:
        self.all: list[Letter] = []
        self._bags: dict[Letter, int] = {}

    def bag(self, letters: list[Letter]) -> int:
        """Letters as a number: adding and subtracting such numbers puts in and takes out."""
        for letter in letters:
            if letter not in self._bags:
                self._bags[letter] = 1 << BITS * len(self.all)
                self.all.append(letter)
        return sum(self._bags[letter] for letter in letters)

    def under_way(self, bag: int) -> Iterator[tuple[Letter, int]]:
        """The different letters in a bag, each with the bag that holds only it."""
        number = 0
        while bag:
            if bag & MANY:
                yield self.all[number], 1 << BITS * number
            bag >>= BITS
            number += 1


class Known(NamedTuple):
    """What the search has to know of a state of one participant."""

    frozen: bytes
    moves: tuple[Move, ...]
    ahead: float | None
    """Seconds to its next deadline."""
    session: int
    peer_session: int


class Side:
    """All states of one participant, and what leads from each to which.

    Its engine does not know what happens elsewhere. So each transition of it is made once, by the
    real engine, however often the search comes by.
    """

    def __init__(self, member: Member, letters: Letters) -> None:
        self.states: list[Known] = []
        self._letters = letters
        self._numbers: dict[bytes, int] = {}
        self.outcomes: dict[tuple[int, Move], tuple[int, int]] = {}
        self._number(member)

    def after(self, number: int, move: Move) -> tuple[int, int]:
        """The state after `move`, and the bag of what is sent. Raises ViolationError."""
        outcome = self.outcomes.get((number, move))
        if outcome is None:
            member = thaw(Member, self.states[number].frozen)
            bag = self._letters.bag(member.play(move))
            try:
                outcome = self.outcomes[number, move] = self._number(member), bag
            except ViolationError as violation:
                raise ViolationError(violation.text, move, *violation.moves) from None
        return outcome

    def _number(self, member: Member) -> int:
        """The number of a state; one that is new must be in order."""
        form = member.form()
        number = self._numbers.get(form)
        if number is None:
            number = self._numbers[form] = len(self.states)
            frozen = freeze(member)
            self.states.append(
                Known(
                    frozen,
                    tuple(member.moves()),
                    None if member.deadline is None else member.deadline - member.now,
                    member.session,
                    member.peer_session,
                )
            )
            member.check(form, frozen)
        return number


class FoundError(Exception):
    """A violation, with the shortest way to it."""

    def __init__(self, text: str, steps: list[Step], scenario: Scenario) -> None:
        super().__init__(text)
        self.text = text
        self.steps = steps
        self.scenario = scenario

    def __str__(self) -> str:
        return "\n".join((*tell(self.scenario, self.steps), f"Violation: {self.text}"))


class Search:
    """Breadth first, from two participants that know each other and have done nothing."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.letters = Letters()
        self.transitions = 0
        self.final_states = 0
        self.depth = -1
        """Steps to the states that are farthest from the start."""
        start = (0, 0, 0, scenario.troubles)
        self.parents: dict[State, State] = {start: start}
        try:
            alice, bob = scenario.members()
            self.sides = Side(alice, self.letters), Side(bob, self.letters)
        except ViolationError as violation:
            raise FoundError(violation.text, [], scenario) from None

    def run(self) -> None:
        """Search everything. Raises FoundError."""
        level = list(self.parents)
        while level:
            level = [child for state in level for child in self._children(state)]
            self.depth += 1

    def _children(self, state: State) -> list[State]:
        """The states after `state` that are new."""
        new = []
        parents = self.parents
        self._doing: str = ""
        try:
            for child, _ in self.steps(state):
                self.transitions += 1
                if child not in parents:
                    parents[child] = state
                    new.append(child)
        except ViolationError as violation:
            last = [Step(self._doing, move) for move in violation.moves]
            raise FoundError(violation.text, [*self.way_to(state), *last], self.scenario) from None
        return new

    def way_to(self, state: State) -> list[Step]:
        """The steps from the start to a state that was found."""
        steps: list[Step] = []
        while (parent := self.parents[state]) != state:
            steps.append(next(step for child, step in self.steps(parent) if child == state))
            state = parent
        return steps[::-1]

    def steps(self, state: State) -> Iterator[tuple[State, Step]]:
        """Everything that can happen in a state, and what comes of it. Raises ViolationError."""
        alice, bob, bag, left = state
        sides = self.sides[0].states[alice], self.sides[1].states[bob]
        for at, name in enumerate(NAMES):
            self._doing = name
            for move in self._moves_of(sides[at], sides[1 - at], left):
                number, sent = self.sides[at].after(state[at], move)
                pair = (number, bob) if at == 0 else (alice, number)
                yield (*pair, bag + sent, left - move.trouble), Step(name, move)
        yield from self._network(state)
        yield from self._time(state, sides[0].ahead, sides[1].ahead)

    def _moves_of(self, one: Known, other: Known, left: int) -> Iterator[Move]:
        """What one participant does, or hears of the other's session."""
        for move in one.moves:
            if move.trouble <= left:
                yield move
        if left:
            yield Move("reconnected", other.session, trouble=1)
        if one.peer_session != other.session:
            if one.peer_session:
                yield Move("left", one.peer_session)
            yield Move("joined", other.session)

    def _network(self, state: State) -> Iterator[tuple[State, Step]]:
        """Each letter under way arrives, or arrives and stays under way, or is lost."""
        alice, bob, bag, left = state
        for letter, one in self.letters.under_way(bag):
            at = 1 - NAMES.index(letter.sender)
            self._doing = name = NAMES[at]
            move = Move("receive", letter)
            number, sent = self.sides[at].after(state[at], move)
            pair = (number, bob) if at == 0 else (alice, number)
            yield (*pair, bag + sent - one, left), Step(name, move)
            if left:
                yield (*pair, bag + sent, left - 1), Step(name, Move("receive", letter, 1))
                yield (alice, bob, bag - one, left - 1), Step("network", Move("lost", letter, 1))

    def _time(self, state: State, *aheads: float | None) -> Iterator[tuple[State, Step]]:
        """Time passes to the next deadline; while letters are under way that is a trouble."""
        *_, bag, left = state
        deadlines = [ahead for ahead in aheads if ahead is not None]
        if not deadlines:
            self.final_states += not bag
            return
        trouble = int(bag > 0)
        if min(deadlines) > 0 and trouble <= left:
            self._doing = "time"
            move = Move("pass", min(deadlines))
            pair = [self.sides[at].after(state[at], move)[0] for at in (0, 1)]
            yield (pair[0], pair[1], bag, left - trouble), Step("time", move)


# --- what people read


def replay(scenario: Scenario, steps: list[Step]) -> tuple[Member, Member]:
    """The two after these steps, without a copy being made. Raises ViolationError."""
    members = dict(zip(NAMES, scenario.members(), strict=True))
    for who, move in steps:
        for name, member in members.items():
            if who in (name, "time"):
                (member.try_out if move.what in PROBES else member.play)(move)
    return members["alice"], members["bob"]


def tell(scenario: Scenario, steps: list[Step]) -> list[str]:
    """The steps as a conversation, a line each."""
    lines, now = [], 0.0
    for number, (who, move) in enumerate(steps, 1):
        if who == "time":
            assert isinstance(move.about, float)
            now += move.about
        lines.append(f"{number:2}. at {now:g} s  {who:7} {words(move)}")
    return lines


WORDS: Final = {
    "call": "calls: {}",
    "cancel": "cancels {}",
    "answer": "answers {}",
    "refuse": "answers {} with an error",
    "deadline": "handles the deadlines that are due",
    "pass": "passes: {} s",
    "receive": "receives {}",
    "lost": "loses {}",
    "reconnected": "loses the connection and is back under a new sid",
    "left": "hears that the other has left (session {})",
    "joined": "hears that the other has joined (session {})",
    "early_deadline": "handles a deadline that is not due",
    "late_cancel": "cancels {}, which has ended",
    "late_answer": "answers invocation {}, which is over",
    "forged": "receives from {}",
}


def words(move: Move) -> str:
    """A move, for people."""
    about = move.about
    if isinstance(about, Letter) and move.what == "forged":
        message = about.message
        id_ = str(message[0])
        if isinstance(message, StreamHeader):
            id_ = message.attributes[REQUEST_ID]
        what = f"{about.sender} ({about.sid}) a forged {type(message).__name__} {short(id_)}"
    elif isinstance(about, Letter):
        what = f"the {about.packet.kind.value} {short(about.packet.request_id)} of {about.sender}"
    else:
        what = short(about) if isinstance(about, str) and move.what != "call" else f"{about!s:.8}"
    again = ", which stays under way" if move.what == "receive" and move.trouble else ""
    return WORDS[move.what].format(what) + again


def short(request_id: str) -> str:
    """The call that an id of the search stands for: a1 is alice's first."""
    return f"{request_id[:1]}{request_id[-12:].lstrip('0')}"


HEAD: Final = (
    "| calls | troubles | states | transitions | final states | farthest | of one engine |\n"
    "|---|---|---|---|---|---|---|"
)


def row(search: Search) -> str:
    """A row of the table in the docs."""
    scenario = search.scenario
    calls = f"{scenario.calls[0]} + {scenario.calls[1]}"
    calls += " as streams" * scenario.streams
    calls += f", {scenario.grace:g} s of grace" if scenario.grace else ""
    calls += ", encrypted" * scenario.sealed
    of_one = sum(len(side.outcomes) for side in search.sides)
    figures = (len(search.parents), search.transitions, search.final_states, search.depth, of_one)
    cells = (calls, str(scenario.troubles), *(f"{figure:,}" for figure in figures))
    return f"| {' | '.join(cells)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description="Search all that can happen between two engines.")
    parser.add_argument("alice", type=int, help="how many calls alice makes")
    parser.add_argument("bob", type=int, help="how many calls bob makes")
    parser.add_argument("--troubles", type=int, default=1, help="how many there may be (1)")
    parser.add_argument("--streams", action="store_true", help="calls are RPC v2, in two chunks")
    parser.add_argument(
        "--grace", type=float, default=0.0, help="the departure_grace in seconds (0)"
    )
    parser.add_argument("--sealed", action="store_true", help="packets are encrypted")
    args = parser.parse_args()
    began = time.process_time()
    try:
        calls = args.alice, args.bob
        search = Search(Scenario(calls, args.troubles, args.streams, args.grace, args.sealed))
        search.run()
    except FoundError as found:
        print(found)
        return 1
    print(HEAD, row(search), sep="\n")
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = time.process_time() - began
    print(f"No violation. {seconds:.1f} s of one core, {megabytes:.0f} MB.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
