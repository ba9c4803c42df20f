"""Which cases of the conformance suite see which of the faults that are put into the core by hand.

python tests/proof conform_faults [NAME ...]    all, or those whose name contains one of these

Each fault goes into a copy of the package, over which our testee runs; the suite is that of this
checkout. What a case of level INFO reports counts as seen if it differs from what it reports of
the sound engine. Every fault meets two testees, one of which waits a while after departures (R9).
"""

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple, TypeAlias

import anyio
from faults import FAULTS, Fault
from paths import EXAMPLES, ROOT, TESTS

from rpcproto.conformance.attachment import NoTestee
from rpcproto.conformance.case import Level
from rpcproto.conformance.cases import CASES
from rpcproto.conformance.judge import Judge, select
from rpcproto.conformance.results import Run, Verdict
from rpcproto.conformance.wire_attachment import ProcessAttachment

SIDE_BY_SIDE = 2
SHOWN = 8

_HOST = "it is between the engine and its host: nothing of it is on the wire"
_BOUND = "it takes 10,000 calls, slots or participants, or 16 MiB and more: bounds of this engine"
_MEMORY = "it costs memory or time alone; the tests of bounds measure that"
_PIPE = "the testee hands all its packets to the pipe at once, so that none waits"
_NO_FAILURE = "a pipe that cannot be written has no other end that could see it"
_NO_CANCEL = "the contract of testees has no word for it"
_EVERYBODY_HAS_A_SID = "the suite announces everybody with a sid, as a server does"
_NO_INTERCEPTOR = "it matters to hosts that have an interceptor"
_ENCRYPTED_ALONE = (
    "a testee that encrypts reads nothing that is plain, so that it is ignored before"
)
_ONE_KEY = "the encrypted rooms of the suite have one key for all, set once"
_ORDER = "what differs is the order within one instant, or the order of attributes"
_KNOWN_BY_ITS_ID = "a request that comes again is known by its id as well (R16)"

UNSEEN: Final[Mapping[str, str]] = {
    "a cancelled call leaves its deadline": _NO_CANCEL,
    "one call more than may be pending is made": _BOUND,
    "a request stream is sent on when its call has ended": _PIPE,
    "where no sid was known a newcomer answers calls in grace": _EVERYBODY_HAS_A_SID,
    "the sid of who left is known when the grace is over": _EVERYBODY_HAS_A_SID,
    "a payload of just the greatest length is refused": _BOUND,
    "a host hears of the end of what it never heard of": _HOST,
    "one slot more of the reserve is given": _BOUND,
    "a method of any length is handed over": _NO_INTERCEPTOR,
    "a request without a method is handed over": _NO_INTERCEPTOR,
    "a sender who has invocations is swept out": _BOUND,
    "the reserve of bytes is for everybody": _BOUND,
    "an answer may not use the reserve": _BOUND,
    "a byte more is little as well": _BOUND,
    "the sender that holds least makes room": _BOUND,
    "among equals the one that began last makes room": _BOUND,
    "the oldest stream makes room": _BOUND,
    "who holds most takes from who holds less": _BOUND,
    "who makes room is ranked without a bound": _MEMORY,
    "of an answer that could not be sent nobody is told": _NO_FAILURE,
    "time goes back": _HOST,
    "packets wait over a loss of the connection": _NO_FAILURE,
    "packets to be ignored make events without a bound": _MEMORY,
    "a refused answer has moved the clock": _HOST,
    "statistics that were taken change later": _HOST,
    "deadlines go before what is to be inflated at the same instant": _ORDER,
    "the list counts as complete though somebody was turned away": _BOUND,
    "the host's word is doubted": _HOST,
    "the numbers of packets are forgotten when their sender leaves": _KNOWN_BY_ITS_ID,
    "one participant more is recorded": _BOUND,
    "the windows of who departed are kept without a bound": _MEMORY,
    "a body leaves whole before the next one begins": _PIPE,
    "a stream that is given up ends without a trailer": _PIPE,
    "packets of a failed stream stay counted as waiting": _NO_FAILURE,
    "a body for somebody who left stays in the outbox": _PIPE,
    "the id of a cancelling trailer is read from what is handed back": _NO_FAILURE,
    "the attributes of a stream are written in no certain order": _ORDER,
    "a newcomer continues the response of a call in grace": _EVERYBODY_HAS_A_SID,
    "compressed input that was read stays counted": _MEMORY,
    "a recipient is kept when the last call in grace has ended": _MEMORY,
    "a ciphertext without a tag is opened": "the cipher refuses it all the same",
    "what cannot be opened is malformed": "it is ignored for another reason, which stays here",
    "a number is not marked when its packet has been opened": _KNOWN_BY_ITS_ID,
    "a stream may be encrypted in part": _ENCRYPTED_ALONE,
    "who is announced is answered plain as well": _ENCRYPTED_ALONE,
    "the server's own API is answered with sealed packets": _ENCRYPTED_ALONE,
    "packets are opened with our own key": _ONE_KEY,
    "another's key moves the index in use": _ONE_KEY,
    "the key in use can be removed": _ONE_KEY,
    "HKDF has another info": _ONE_KEY,
    "an exception shows a passphrase": _HOST,
    "a body is inflated before its length is looked at": _MEMORY,
    "compressed input that waits is not counted": _MEMORY,
    "an input inflates two mebibytes": _MEMORY,
    "one sender has all the turns": _MEMORY,
    "what is left is inflated at once": _MEMORY,
}
"""Faults that no peer can see over the wire of the suite, by name, and why."""


class Row(NamedTuple):
    """A fault, and the cases that see it."""

    fault: Fault
    seen_by: Sequence[str]
    note: str = ""


TESTEES: Final[dict[str, Sequence[str]]] = {
    f"{EXAMPLES / 'testees/peer.py'}": (),
    f"{TESTS / 'support/testee.py'} graceful": ("RPC-6",),
}
"""The testees, and the sections that each plays; all if none is named."""
Said: TypeAlias = dict[tuple[str, int], tuple[Verdict, str]]
"""What came of each play: the verdict, and what a case of level INFO saw."""


async def run_with(testee: str, package: Path) -> Run:
    """What the suite says of a testee that runs over this package."""
    command = f"env PYTHONPATH={package} PYTHONDONTWRITEBYTECODE=1 {sys.executable} {testee}"
    async with ProcessAttachment(command, "testee") as attachment:
        return await Judge(attachment).run(select(CASES, only=TESTEES[testee]))


def said(run: Run) -> Said:
    """What came of each play. Figures that differ from run to run are left out."""
    return {
        (result.case.case_id, result.client_protocol): (
            result.verdict,
            result.seen if result.verdict is Verdict.INFO else "",
        )
        for result in run.results
    }


async def try_out(fault: Fault, sound: Sequence[Said]) -> Row:
    """Run the suite with testees that have the fault."""
    seen: dict[str, None] = {}
    with TemporaryDirectory() as directory:
        copy = Path(directory)
        shutil.copytree(ROOT / "rpcproto", copy / "rpcproto")
        path = copy / fault.path
        source = path.read_text("utf-8")
        if source.count(fault.original) != 1:
            return Row(fault, [], "its line is not there")
        path.write_text(source.replace(fault.original, fault.faulty), "utf-8")
        for testee, expected in zip(TESTEES, sound, strict=True):
            try:
                run = await run_with(testee, copy)
            except NoTestee as error:
                return Row(fault, ["(it does not start)"], str(error).splitlines()[0])
            levels = {case.case_id: case.level for case in CASES}
            for (case_id, protocol), found in said(run).items():
                if found != expected[case_id, protocol]:
                    seen[case_id + ("" if levels[case_id] is Level.MUST else "*")] = None
    return Row(fault, list(seen))


async def matrix(faults: Sequence[Fault]) -> list[Row]:
    """Try all of these."""
    rows: dict[str, Row] = {}
    sound = [said(await run_with(testee, ROOT)) for testee in TESTEES]
    limit = anyio.Semaphore(SIDE_BY_SIDE)

    async def one(fault: Fault) -> None:
        async with limit:
            rows[fault.name] = await try_out(fault, sound)
            show(rows[fault.name])

    async with anyio.create_task_group() as tasks:
        for fault in faults:
            tasks.start_soon(one, fault)
    return [rows[fault.name] for fault in faults]


def show(row: Row) -> None:
    """Print a row: the fault, and the first cases that see it."""
    more = f" and {len(row.seen_by) - SHOWN} more" if len(row.seen_by) > SHOWN else ""
    seen = ", ".join(row.seen_by[:SHOWN]) + more
    if not row.seen_by:
        seen = f"- {row.note or UNSEEN.get(row.fault.name, 'NOT SEEN')}"
    print(f"{row.fault.module:14} {row.fault.name:66} {seen}", flush=True)


def main(arguments: Sequence[str]) -> int:
    """Print the matrix; 1 if a fault that a peer can see fails no case."""
    parser = argparse.ArgumentParser(description="which cases see which faults")
    parser.add_argument("names", nargs="*")
    wanted = parser.parse_args(arguments).names
    faults = [one for one in FAULTS if not wanted or any(name in one.name for name in wanted)]
    print("* is a case of the level SHOULD or INFO")
    rows = anyio.run(matrix, faults)
    seen = sum(bool(row.seen_by) for row in rows)
    missing = [row for row in rows if not row.seen_by and row.fault.name not in UNSEEN]
    print(
        f"{len(rows)} faults, {seen} seen, {len(rows) - seen - len(missing)} that no peer can see"
    )
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
