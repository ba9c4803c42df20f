"""The judge: plays cases with a testee, one after another or side by side, and says what it saw."""

import json
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

from rpcproto.conformance.attachment import Attachment, Encryption, Facts, NoTestee
from rpcproto.conformance.case import Case, Level, NotPossible, Unmet
from rpcproto.conformance.results import Play, Result, Run, Verdict, failure
from rpcproto.conformance.scene import Scene
from rpcproto.conformance.stage import PATIENCE, Deaf, Stage, TesteeDied
from rpcproto.e2ee import AesGcmCryptor
from rpcproto.extras import extra

with extra("cli", __name__):
    import anyio

MAX_DEATHS: Final = 3
"""After so many deaths of the testee the run ends."""
MAX_SILENT: Final = 3
"""After so many plays in a row in which a testee sent nothing, it is asked for a plain echo. If it
does not answer that either, the other plays fail unplayed."""
MAX_DEAF: Final = 3
"""The same if it answered no echo, which takes its time to see."""
MUTE_AFTER: Final = 15.0
"""How long a testee with virtual time may take for that echo, in seconds of its clock."""
PROBE_ATTEMPTS: Final = 5
PROBE_INTERVAL: Final = 0.2
"""In seconds."""
PROBE_PATIENCE: Final = 10.0
"""How long a testee may take until it serves its first method, in seconds."""
MAX_NAMED: Final = 5
"""So many cases are named that were under way when an echo was not answered."""
BETWEEN: Final = 0.1
"""So many seconds lie between the beginnings of cases that are played side by side; the longest
begin first, so that this makes the run no longer."""
PASSPHRASE: Final = Encryption("a passphrase for the cases of encryption", 0)

PROBES: Final = {
    "conform.echo": "probe",
    "conform.size": "1",
    "conform.text": json.dumps({"text": "x", "times": 1}),
    "conform.fail": json.dumps({"code": 2000, "message": "probe", "data": ""}),
    "conform.crash": "probe",
    "conform.wait": json.dumps({"seconds": 0, "answer": ""}),
    "conform.count": "probe",
    "conform.call": "{}",
}
"""A payload for each method, to see by the answer whether the testee serves it."""


class Judge:
    """Plays cases with one testee.

    `report` is given each result as soon as it is there; before that, `introduce` what the testee
    says of itself, and the methods of PROBES that it does not serve.
    """

    def __init__(
        self,
        attachment: Attachment,
        report: Callable[[Result], None] = lambda result: None,
        introduce: Callable[[Facts, Sequence[str]], None] = lambda facts, missing: None,
        *,
        timeout_scale: float = 1.0,
    ) -> None:
        self._stage = Stage(attachment, timeout_scale)
        self._report = report
        self._introduce = introduce
        self._results: dict[Play, Result] = {}
        self._served: set[str] = set()
        self._deaths = 0
        self._deadly: dict[Case, int] = {}
        """The cases that the testee has died of, and the client_protocol."""
        self._silent = 0
        self._deaf = 0
        self._is_mute = False
        self._stopped = ""
        self._under_way: list[Play] = []

    async def run(self, plays: Sequence[Play]) -> Run:
        """Play these. Raises NoTestee if there is none to begin with, or if it serves no echo."""
        plain = [play for play in plays if not play[0].is_encrypted]
        encrypted = [play for play in plays if play[0].is_encrypted]
        facts = await self._begin(None)
        missing = [method for method in PROBES if method not in self._served]
        if "conform.echo" in missing:
            what = "none of its methods" if len(missing) == len(PROBES) else "no conform.echo"
            raise NoTestee(
                f"the testee serves {what}: each testee must answer a call of conform.echo"
            )
        self._introduce(facts, missing)
        if plain:
            await self._play_all(plain)
        if encrypted and not self._stopped:
            await self._play_encrypted(facts, encrypted)
        for play in plays:
            if play not in self._results:
                self._add(self._unplayed(play, f"not played: {self._stopped}"))
        return Run(facts, [self._results[play] for play in plays], self._stopped)

    async def _begin(self, encryption: Encryption | None) -> Facts:
        facts = await self._stage.start(encryption)
        self._served, self._is_mute = set(PROBES), False
        with suppress(TesteeDied, Unmet):  # the cases will tell
            await self._probe()
        return facts

    async def _probe(self) -> None:
        """See which methods are served; one that does not answer counts as served.

        Most SDKs let a program register methods only once it has joined, so a testee on real time
        is asked again: until it serves one, and a few times more.
        """
        stage = self._stage
        await self._probe_once()
        if stage.is_virtual:
            return
        last = stage.now + PROBE_PATIENCE * stage.scale
        while not self._served and stage.now < last:
            await stage.sleep(PROBE_INTERVAL)
            await self._probe_once()
        for _ in range(PROBE_ATTEMPTS - 1):
            if len(self._served) in (0, len(PROBES)):
                return
            await stage.sleep(PROBE_INTERVAL)
            await self._probe_once()

    async def _probe_once(self) -> None:
        stage = self._stage
        self._served = set(PROBES)
        scene = Scene(stage, 0)
        prober = await scene.join("prober")
        asked = {method: prober.request(method, payload) for method, payload in PROBES.items()}
        await stage.until(
            lambda: all(prober.has_outcome(request) for request in asked.values()) or None
        )
        for method, request in asked.items():
            if prober.is_refused(request, 1400):
                self._served.discard(method)
        await scene.end()

    async def _play_encrypted(self, facts: Facts, plays: Sequence[Play]) -> None:
        why_not = "" if facts.can_encrypt else "the testee does not encrypt"
        try:
            AesGcmCryptor()
        except ImportError as error:
            why_not = f"the suite cannot encrypt: {error}"
        if why_not:
            for play in plays:
                self._add(self._unsupported(play, why_not))
            return
        try:
            await self._begin(PASSPHRASE)
        except NoTestee as error:
            self._stopped = f"the testee cannot be started with a passphrase: {error}"
            return
        await self._play_all(plays)

    async def _play_all(self, plays: Sequence[Play]) -> None:
        if self._stage.is_virtual:
            await self._one_by_one(plays)
            return
        await self._one_by_one([play for play in plays if not play[0].is_slow])
        if not self._stopped:
            await self._side_by_side([play for play in plays if play[0].is_slow])

    async def _one_by_one(self, plays: Iterable[Play]) -> None:
        for play in plays:
            if self._stopped:
                return
            self._add(await self._judge(play))
            if self._stage.ended:
                self._deadly[play[0]] = play[1]
                await self._revive()

    async def _side_by_side(self, plays: Sequence[Play]) -> None:
        async def one(play: Play) -> None:
            if not self._stage.ended:
                self._add(await self._judge(play))

        plays = sorted(plays, key=lambda play: -play[0].seconds)
        while plays and not self._stopped:
            async with anyio.create_task_group() as tasks:
                for play in plays:
                    tasks.start_soon(one, play)
                    await anyio.sleep(BETWEEN)
            if self._stage.ended:
                await self._revive()
            plays = [play for play in plays if play not in self._results]

    async def _revive(self) -> None:
        self._deaths += 1
        reason = self._stage.ended
        if self._deaths >= MAX_DEATHS:
            self._stopped = f"the testee has died {self._deaths} times, last so: {reason}"
            return
        try:
            await self._begin(self._stage.encryption)
        except NoTestee as error:
            self._stopped = f"the testee cannot be started again: {error}"

    async def _judge(self, play: Play) -> Result:
        case, protocol = play
        missing = [method for method in case.methods if method not in self._served]
        if missing:
            return self._unsupported(play, f"the testee does not serve {', '.join(missing)}")
        if case.reads > self._stage.facts.client_protocol:
            why = f"the testee announces client_protocol {self._stage.facts.client_protocol}"
            return self._unsupported(play, why)
        if case in self._deadly:
            why = f"not played: the testee has died of it with client_protocol {self._deadly[case]}"
            return Result(case, protocol, Verdict.FAIL, why, case.sees)
        if (self._silent >= MAX_SILENT or self._deaf >= MAX_DEAF) and await self._answers():
            self._silent = self._deaf = 0
        if self._is_mute:
            return self._unplayed(play, "not played: it answers no echo any more")
        self._under_way.append(play)
        try:
            return await self._play(case, protocol)
        finally:
            self._under_way.remove(play)

    async def _answers(self) -> bool:
        """Whether the testee answers a plain echo, however late its ack comes."""
        if self._is_mute:
            return False
        stage = self._stage
        scene = Scene(stage, 0)
        prober = await scene.join("prober")
        request = prober.request("conform.echo", "do you answer?")
        patience = stage.now + (MUTE_AFTER if stage.is_virtual else PATIENCE * stage.scale)
        found = None
        with suppress(TesteeDied, Unmet):
            found = await stage.until_at(lambda: prober.has_outcome(request), patience)
        with anyio.CancelScope(shield=True), suppress(TesteeDied, Unmet):
            await scene.end()
        self._is_mute = found is None
        return not self._is_mute

    async def _play(self, case: Case, protocol: int) -> Result:
        stage = self._stage
        stage.begin_case()
        before = stage.packets
        scene = Scene(stage, protocol)
        verdict, seen, expected, is_deaf = Verdict.PASS, "", "", False
        try:
            seen = await case.play(scene) or ""
            if stage.unreadable:
                raise Unmet("packets that can be read", stage.unreadable[0][:40].hex(" "))
            verdict = Verdict.INFO if case.level is Level.INFO else Verdict.PASS
        except Unmet as unmet:
            is_deaf = isinstance(unmet, Deaf)
            verdict, seen, expected = failure(case.level), unmet.seen, unmet.expected
            if is_deaf:
                seen += self._what_else_was_played(case)
        except TesteeDied as died:
            verdict, seen, expected = Verdict.FAIL, str(died), case.sees
        except NotPossible as reason:
            verdict, seen = Verdict.UNSUPPORTED, str(reason)
        except Exception:
            verdict, seen = Verdict.HARNESS_ERROR, traceback.format_exc(limit=-3)
        seconds = scene.now
        with anyio.CancelScope(shield=True):
            await scene.end()
        if stage.packets != before:
            self._silent = 0
        elif verdict in (Verdict.FAIL, Verdict.NOT_STRICT):  # silence is right in some cases
            self._silent += any(isinstance(passed.data, bytes) for passed in scene.passed)
        self._deaf = self._deaf + 1 if is_deaf else 0
        errors = stage.attachment.take_errors()
        return Result(case, protocol, verdict, seen, expected, scene.passed, seconds, errors)

    def _what_else_was_played(self, case: Case) -> str:
        """The cases that may be what keeps the testee busy: first those with long handlers."""
        others = {other for other, _ in self._under_way if other is not case}
        ranked = sorted(others, key=lambda one: ("conform.wait" not in one.methods, one.case_id))
        names = [one.case_id for one in ranked[:MAX_NAMED]]
        if not names:
            return ""
        more = ", ..." if len(ranked) > MAX_NAMED else ""
        was = "was" if len(names) == 1 else "were"
        return f", while {', '.join(names)}{more} {was} played beside it"

    def _add(self, result: Result) -> None:
        self._results[result.case, result.client_protocol] = result
        self._report(result)

    def _unplayed(self, play: Play, why: str) -> Result:
        case, protocol = play
        return Result(case, protocol, failure(case.level), why, case.sees)

    def _unsupported(self, play: Play, why: str) -> Result:
        return Result(*play, Verdict.UNSUPPORTED, why)


def select(
    cases: Iterable[Case],
    *,
    only: Sequence[str] = (),
    levels: Sequence[Level] = tuple(Level),
    protocols: Sequence[int] = (0, 1, 2),
) -> list[Play]:
    """The plays of the cases that are asked for.

    `only` has case ids (`RPC-4.3`), sections (`RPC-4`) and rules (`R25`); all if it is empty.
    """
    chosen = [
        case
        for case in cases
        if case.level in levels and (not only or any(_is_meant(case, name) for name in only))
    ]
    return [
        (case, protocol) for case in chosen for protocol in protocols if protocol in case.protocols
    ]


def _is_meant(case: Case, name: str) -> bool:
    name = name.upper()
    return name in (case.case_id, f"RPC-{case.section}") or name in case.rule.split()
