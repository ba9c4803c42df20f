"""One play of a case: its participants, the time, and the calls that the testee is asked for."""

import json
from collections.abc import Callable
from typing import Final, NamedTuple

from rpcproto.conformance.attachment import Facts, Member
from rpcproto.conformance.case import Unmet
from rpcproto.conformance.participant import Participant
from rpcproto.conformance.reading import IncomingRequest, counted, describe, quoted
from rpcproto.conformance.stage import EARLY, PATIENCE, STEP, Stage, new_sid
from rpcproto.conformance.writing import new_id
from rpcproto.wire import Response, StreamHeader

DRIVER_TIMEOUT_MS: Final = 120_000
"""The timeout on the wire of requests for `conform.call`, which take as long as the call."""
CAPABILITIES: Final[dict[int, tuple[int, ...]]] = {0: (), 1: (), 2: (2,)}
"""What participants announce unless the case wants something else."""


class Passed(NamedTuple):
    """A packet that passed, or a note if `data` is a text; `at` in seconds since the beginning."""

    at: float
    sender: str
    receiver: str
    data: bytes | str


class Scene:
    """What a case plays with: see `rpcproto.conformance.cases` for how to write one."""

    def __init__(self, stage: Stage, client_protocol: int) -> None:
        """The participants announce `client_protocol`, unless the case gives them another."""
        self.stage = stage
        self.client_protocol = client_protocol
        self.passed: list[Passed] = []
        """All that passed, in order."""
        self._began = stage.now
        self._participants: list[Participant] = []
        self._unseen_members: set[Member] = set()
        self._driver: Participant | None = None

    @property
    def testee(self) -> Facts:
        """What the testee said of itself."""
        return self.stage.facts

    # participants

    async def join(
        self,
        name: str = "alice",
        client_protocol: int | None = None,
        capabilities: tuple[int, ...] | None = None,
        *,
        is_announced: bool = True,
    ) -> Participant:
        """Let a participant come. `is_announced` is false for one whom the server does not show."""
        protocol = self.client_protocol if client_protocol is None else client_protocol
        able = CAPABILITIES[protocol] if capabilities is None else capabilities
        participant = await self.stage.join(
            name, protocol, able, is_announced=is_announced, record=self._record
        )
        self._participants.append(participant)
        if is_announced:
            self._note(participant, "joins")
        return participant

    def server(self) -> Participant:
        """LiveKit's server, about to make one call of its own: the id of that is its identity.

        It has no sid, is not announced, and understands plain packets alone.
        """
        return self._unseen(Member(new_id(), "", 0, ()))

    def hidden(self) -> Participant:
        """A hidden participant: it has no identity, and is not announced."""
        return self._unseen(Member("", new_sid(), 0, ()))

    def _unseen(self, member: Member) -> Participant:
        participant = self.stage.play(member, self._record)
        participant.cryptor = None
        self._participants.append(participant)
        self._unseen_members.add(member)
        return participant

    async def leave(self, participant: Participant) -> None:
        """Let the testee know that a participant has left. What it sends to them still counts."""
        self._note(participant, "leaves")
        await self.stage.dismiss(participant.member)

    async def return_(self, participant: Participant, *, is_told: bool = True) -> None:
        """Let a participant come back with a new sid, after `leave` or without."""
        participant.member = participant.member._replace(sid=new_sid())
        if is_told:
            self._note(participant, "joins with a new sid")
            await self.stage.replace(participant.member)

    # time

    @property
    def now(self) -> float:
        """Seconds since the case began."""
        return self.stage.now - self._began

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        await self.stage.sleep(seconds)

    async def until(self, look: Callable[[], bool | None], seconds: float) -> None:
        """Let time pass until `look` returns true, at most so many seconds."""
        await self.stage.until_at(lambda: look() or None, self.stage.now + seconds)

    async def settle(self, within: float = PATIENCE) -> None:
        """Wait until the testee has done all that it does now about what it was sent, which may
        take so many seconds on real time."""
        await self.stage.settle(within)

    async def nothing_more(self) -> None:
        """Nothing has come that the case has not taken, to any participant."""
        await self.settle()
        for participant in self._participants:
            for seen in participant.inbox:
                if participant is not self._driver:
                    expected = f"nothing more to {participant.identity}"
                    raise Unmet(expected, describe(seen.message))
        if self.stage.unreadable:
            raise Unmet("nothing more", "a packet without an id, or that cannot be read")

    async def is_not_believed(
        self, sender: Participant, request_id: str, unless: str | None = None
    ) -> None:
        """A request is not answered with a payload; with `unless`, with no other one than that."""
        await self.settle()
        about = [seen for seen in sender.inbox if seen.about == request_id]
        if not any(isinstance(seen.message, Response | StreamHeader) for seen in about):
            return
        body = await sender.gets_answer(request_id)
        if unless is None or body.payload != unless:
            raise Unmet("no answer with a payload", f"the answer {quoted(body.payload)}")

    # the testee as a caller

    async def call(
        self,
        callee: Participant | str,
        method: str = "greet",
        payload: str = "",
        *,
        times: int | None = None,
        digest: bool = False,
        response_timeout: float | None = None,
    ) -> "TesteeCall":
        """Ask the testee to call somebody (`conform.call`); `response_timeout` in seconds."""
        if self._driver is None:
            self._driver = await self.join("driver")
        identity = callee if isinstance(callee, str) else callee.identity
        wanted: dict[str, object] = {"destination": identity, "method": method, "payload": payload}
        if times is not None:
            wanted["times"] = times
        if digest:
            wanted["digest"] = True
        if response_timeout is not None:
            wanted["response_timeout_ms"] = round(response_timeout * 1000)
        text = json.dumps(wanted, ensure_ascii=False)
        request = self._driver.request("conform.call", text, timeout_ms=DRIVER_TIMEOUT_MS)
        return TesteeCall(self, self._driver, request)

    async def called(
        self,
        callee: Participant,
        method: str = "greet",
        payload: str = "",
        *,
        response_timeout: float | None = None,
    ) -> "tuple[TesteeCall, IncomingRequest]":
        """Ask the testee to call a participant, and wait for its request."""
        call = await self.call(callee, method, payload, response_timeout=response_timeout)
        request = await callee.gets_request(method, payload)
        if not self.stage.is_virtual:
            call.began = request.body.parts[0].at - self._began
        return call, request

    async def runs_of(self, participant: Participant, payload: str) -> int:
        """How often `conform.echo` has run with this payload, as the testee says."""
        body = await participant.gets_answer(participant.request("conform.count", payload))
        if not body.payload.isdecimal():
            raise Unmet("a decimal number as the answer of conform.count", quoted(body.payload))
        return int(body.payload)

    async def has_run_once(self, participant: Participant, payload: str) -> None:
        """The handler of `conform.echo` has run once with this payload."""
        if (runs := await self.runs_of(participant, payload)) != 1:
            raise Unmet("one run of the handler", counted(runs, "run"))

    # within

    async def end(self) -> None:
        """Let all participants leave."""
        for participant in self._participants:
            self.stage.forget(participant)
            if not self.stage.ended and participant.member not in self._unseen_members:
                await self.stage.attachment.dismiss(participant.member)

    def _record(self, sender: str, receiver: str, data: bytes) -> None:
        self.passed.append(Passed(self.now, sender, receiver, data))

    def _note(self, participant: Participant, text: str) -> None:
        self.passed.append(Passed(self.now, participant.identity, "", text))


class TesteeCall:
    """A call that the testee was asked to make."""

    def __init__(self, scene: Scene, driver: Participant, request_id: str) -> None:
        self._scene = scene
        self._driver = driver
        self._request_id = request_id
        self.asked: float = scene.now
        """When it was asked for, in seconds since the case began."""
        self.began: float = scene.now
        """When it had begun at the latest: when its request was seen, if it was."""
        self.ended: float | None = None
        """When its outcome came, in seconds since the case began."""

    @property
    def seconds(self) -> float:
        """How long it took, in seconds, once its outcome was asked for."""
        return (self._scene.now if self.ended is None else self.ended) - self.began

    @property
    def has_ended(self) -> bool:
        """Whether an outcome has come."""
        return bool(self._driver.has_outcome(self._request_id))

    @property
    def is_pending(self) -> bool:
        """Whether no outcome has come yet."""
        return not self.has_ended

    async def outcome(self, within: float | None = None) -> dict[str, object]:
        """What came of it, as the testee says: `payload`, or `code`, `message` and `data`, and so
        on. It must be there now, or `within` so many seconds after the beginning."""
        stage, driver = self._scene.stage, self._driver
        if within is not None:
            instant = stage.now + self.began + within + stage.tolerance - self._scene.now
            found = await stage.until_at(lambda: driver.has_outcome(self._request_id), instant)
            if found is None:
                expected = f"the end of the call within {within:g} s of its beginning"
                raise Unmet(expected, "no end of it")
        self.ended = self._scene.now
        body = await driver.gets_answer(self._request_id)
        if not stage.is_virtual:
            self.ended = body.parts[0].at - self._scene.stage.now + self._scene.now
        try:
            outcome = json.loads(body.payload)
        except ValueError:
            outcome = None
        if not isinstance(outcome, dict):
            raise Unmet("JSON as the answer of conform.call", quoted(body.payload))
        return outcome

    async def succeeds(self, payload: str) -> None:
        """The call succeeds with this payload."""
        outcome = await self.outcome()
        if outcome.get("payload") != payload:
            raise Unmet(f"a call that succeeds with {quoted(payload)}", said(outcome))

    async def fails(self, *codes: int, at: float | None = None) -> dict[str, object]:
        """The call fails with one of these codes; `at` so many seconds after its beginning."""
        outcome = await self.outcome(at)
        when = "" if at is None else f", {at:g} s after it began"
        what = f"a call that fails with {' or '.join(map(str, codes))}{when}"
        if outcome.get("code") not in codes and not ("raised" in outcome and 1500 in codes):
            raise Unmet(what, said(outcome))
        assert self.ended is not None
        if at is not None and not self._has_ended_at(at):
            raise Unmet(what, f"{said(outcome)}, {self.ended - self.began:.1f} s after it began")
        return outcome

    def _has_ended_at(self, seconds: float) -> bool:
        """Whether it took that long, as exactly as can be known: it began at some moment between
        `asked` and `began`."""
        assert self.ended is not None
        stage = self._scene.stage
        early = STEP if stage.is_virtual else EARLY
        is_too_early = self.ended - self.asked < seconds - early
        return not is_too_early and self.ended - self.began <= seconds + stage.tolerance

    async def does_not_succeed(self, unless: str | None = None) -> None:
        """The call has not succeeded by now; with `unless`, with no other payload than that."""
        await self._scene.settle()
        if self.is_pending:
            return
        outcome = await self.outcome()
        if "payload" in outcome and (unless is None or outcome["payload"] != unless):
            raise Unmet("a call that does not succeed", said(outcome))

    async def is_still_pending(self) -> None:
        """The call has not ended."""
        await self._scene.settle()
        if not self.is_pending:
            raise Unmet("a call that has not ended", said(await self.outcome()))


def said(outcome: dict[str, object]) -> str:
    """What the testee says of a call, in a few words."""
    if "payload" in outcome:
        return f"it succeeds with {quoted(outcome['payload'])}"
    if "code" in outcome:
        return f"it fails with {outcome['code']} {quoted(outcome.get('message', ''))}"
    return f"conform.call answers {quoted(json.dumps(outcome))}"
