"""Drawn conversations: calls both ways and some mischief, and what must hold in all of them."""

import hashlib
from collections.abc import Sequence
from random import Random
from typing import Final

from rpcproto.conformance.case import DRAWN, Case, Level, Unmet
from rpcproto.conformance.participant import Participant
from rpcproto.conformance.reading import counted, describe, quoted, read_answer
from rpcproto.conformance.scene import Scene, TesteeCall, said
from rpcproto.conformance.writing import new_id
from rpcproto.extras import extra
from rpcproto.wire import Ack, ErrorResponse, Response, StreamHeader

with extra("testing", __name__):
    from hypothesis import HealthCheck, Phase, given, seed, settings

    from rpcproto.testing.strategies import Conversation, Exchange, Setting, conversations

METHODS: Final = ("conform.echo", "conform.count", "conform.call")
MAX_CALLS: Final = 2
MAX_GAP: Final = 1.0
"""On real time nothing waits for longer than so many seconds, which only helps what is late."""
ENOUGH: Final = 20.0
"""After so many seconds every call has ended, on virtual time."""
_EXAMPLES: Final = 5
"""The last of so many is taken, since the first ones are the simplest that there are."""


def drawn_cases(count: int, seed_number: int, protocols: Sequence[int]) -> list[Case]:
    """That many cases, which are the same for the same seed. Raises ImportError without the extra
    `testing`."""
    return [
        _case(number, seed_number, protocols[number % len(protocols)])
        for number in range(1, count + 1)
    ]


def _case(number: int, seed_number: int, protocol: int) -> Case:
    name = f"DRAWN-{seed_number}.{number}"

    async def play(scene: Scene) -> None:
        await _Conversation(scene, name).play()

    return Case(
        DRAWN,
        number,
        f"Conversation {number} of seed {seed_number}: calls both ways, and some mischief",
        "acks first, one outcome each, no handler run twice, whole calls answered",
        "R6 R14 R16 R25 L4 L13",
        "What holds for each case by itself must hold when they meet.",
        Level.MUST,
        play,
        METHODS,
        (protocol,),
        0,
        0.0,
        name,
    )


class _Conversation:
    """One conversation: two participants call the testee, which calls the first of them."""

    def __init__(self, scene: Scene, name: str) -> None:
        self._scene = scene
        self._random = Random(name)
        self._calls: dict[str, TesteeCall] = {}
        self._participants: dict[str, Participant] = {}
        self._runs: dict[str, int] = {}

    async def play(self) -> None:
        """Play it, and raise Unmet for what does not hold."""
        bob, carol = await self._scene.join("bob"), await self._scene.join("carol")
        self._participants = {one.identity: one for one in (bob, carol)}
        for _ in range(self._random.randint(0, MAX_CALLS)):
            call = await self._scene.call(bob, digest=True, response_timeout=8)
            request = await bob.gets_request()
            self._calls[request.request_id] = call
        conversation = self._draw()
        asked = [one for one in conversation.exchanges if one.request_id not in self._calls]
        for payload in {exchange.payload for exchange in asked}:
            self._runs[payload] = await self._scene.runs_of(carol, payload)
        await self._send(conversation)
        for exchange in conversation.exchanges:
            if exchange.request_id in self._calls:
                await self._check_call(exchange, self._calls[exchange.request_id])
            else:
                await self._check_request(exchange)
        self._check_rest(conversation)
        await self._check_runs(conversation, asked, carol)

    def _draw(self) -> Conversation:
        scene, found = self._scene, list[Conversation]()
        setting = Setting(
            receiver=scene.testee.identity,
            senders=tuple(self._participants),
            sids={name: one.member.sid for name, one in self._participants.items()},
            methods=("conform.echo",),
            call_ids=tuple(self._calls),
            request_ids=(new_id(), new_id(), new_id()),
            client_protocol=min(scene.testee.client_protocol, scene.client_protocol),
        )

        @seed(self._random.getrandbits(64))
        @settings(
            max_examples=_EXAMPLES,
            phases=[Phase.generate],
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(conversations(setting))
        def collect(conversation: Conversation) -> None:
            found.append(conversation)

        collect()
        return found[-1]

    async def _send(self, conversation: Conversation) -> None:
        last = 0.0
        for packet in conversation.to(self._scene.testee.identity):
            if packet.at > last:
                gap, last = packet.at - last, packet.at
                await self._scene.sleep(gap if self._scene.stage.is_virtual else min(gap, MAX_GAP))
            if packet.data and not packet.data.startswith(b"{"):
                self._participants[packet.sender_identity].send_bytes(packet.data)
        await self._scene.settle()

    async def _check_request(self, exchange: Exchange) -> None:
        caller, request_id = self._participants[exchange.caller_identity], exchange.request_id
        if exchange.is_whole:
            await caller.gets_ack(request_id)
            await caller.gets_answer(request_id, exchange.payload)
            return
        about = [seen for seen in caller.inbox if seen.about == request_id]
        body = [seen for seen in about if not isinstance(seen.message, Ack)]
        if not body or isinstance(body[0].message, ErrorResponse):
            return
        answer = read_answer(body)
        if answer is not None and not exchange.payload.startswith(answer.payload):
            expected = f"no answer, or {quoted(exchange.payload)}, which may be cut off"
            raise Unmet(expected, f"the answer {quoted(answer.payload)}")

    async def _check_call(self, exchange: Exchange, call: TesteeCall) -> None:
        if not exchange.is_whole:
            if not self._scene.stage.is_virtual:
                return
            await self._scene.sleep(ENOUGH)
        outcome = await call.outcome()
        if exchange.answer is None and exchange.error is not None:
            is_right = outcome.get("code") == exchange.error[0]
        else:
            data, length = (exchange.answer or "").encode(), outcome.get("bytes")
            if not exchange.is_whole and isinstance(length, int):
                data = data[:length]  # the last chunk may be lost, where nothing says the length
            digest = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            is_right = outcome == digest
        if not is_right and (exchange.is_whole or "sha256" in outcome):
            answer = exchange.error or quoted(exchange.answer)
            raise Unmet(f"a call that ends with {answer}", said(outcome))

    def _check_rest(self, conversation: Conversation) -> None:
        """What holds for all that came, for whichever request."""
        known = {exchange.request_id for exchange in conversation.exchanges}
        for participant in self._participants.values():
            outcomes: set[str] = set()
            for seen in participant.inbox:
                if seen.about not in known:
                    raise Unmet("packets about requests that were made", describe(seen.message))
                if isinstance(seen.message, Response | ErrorResponse | StreamHeader):
                    if seen.about in outcomes:
                        raise Unmet("one outcome of each request", describe(seen.message))
                    outcomes.add(seen.about)

    async def _check_runs(
        self, conversation: Conversation, asked: Sequence[Exchange], participant: Participant
    ) -> None:
        """A forged request is one of the forger's own, and may run as well."""
        forged = sum("forged" in packet.what for packet in conversation.packets)
        for payload, before in self._runs.items():
            most = sum(one.payload == payload for one in asked) + forged
            runs = await self._scene.runs_of(participant, payload) - before
            if runs > most:
                raise Unmet(f"at most {most} runs with {quoted(payload)}", counted(runs, "run"))
