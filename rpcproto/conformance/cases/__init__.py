"""The cases, one module or two for each section.

How to write one
================

A case is an async function that is given a `Scene`, under the decorator `case`:

    @case(
        "2.1",
        "A request arrives",
        sees="an ack, before anything else about the request",
        rule="R14",
        why="A native SDK waits for the ack before it looks at a response that is already there.",
    )
    async def ack_comes_first(scene: Scene) -> None:
        alice = await scene.join("alice")
        request = alice.request("conform.echo", "hello")
        await alice.gets_ack(request)
        await alice.gets_answer(request, "hello")

* The number is never given to another case, and never changed. A new case takes the next one of its
  section.
* `level` is `Level.MUST` unless given, `methods` are those of the testee that it needs
  (`("conform.echo",)` unless given), `protocols` the client_protocols with which the participants
  of the suite are announced (each of 0, 1 and 2 unless given), `reads` the least client_protocol
  that the testee must announce, `seconds` how long it takes on real time, if that is 1 s or more.
* What must be seen and is not raises `Unmet`; the methods below do. A case whose level is INFO
  returns a sentence that says what it saw. `raise NotPossible(why)` makes a play unsupported.
* Identities are new in each play, and whoever joined leaves when it ends.

A case plays the others. `scene.join` lets a participant come; `alice.request`, `alice.send` (any
message of `rpcproto.wire`, stamped as a server stamps it, with another `sid` or a `sequence` if
wanted) and `alice.send_bytes` send at once. `writing.request_parts`, `answer_parts` and
`stream_parts` give the messages of a body one by one, to be sent in another order or not at all;
`request_stream` and `answer_stream` cut a body where the case wants it. `change` of `alice.send`
alters a packet before it is stamped, and `is_plain` leaves it plain in an encrypted room.
`scene.server` and `scene.hidden` play the server's own calls and hidden participants.
What must come is awaited: `alice.gets_ack`, `gets_answer`, `gets_error`, `gets_request`;
`scene.nothing_more` says that nothing else has come, to anybody, `scene.is_not_believed` that a
request has no answer with a payload, and `call.does_not_succeed` the same of a call.
`scene.settle` is the barrier: the testee has done all that it does now. `scene.sleep` lets time
pass, virtual or real.

No verdict and no sentence of an INFO case may depend on how busy the machine is. What must come
within a time may take 2 s more on real time (`at=`, `gets_outcome`): leave more than that between
what is right and what is wrong. Give what must be answered a timeout of 10 s and more. Where
something must not come, let seconds pass first (`LONG_AFTER`), or wait with `scene.until` for what
would come. Say bands instead of figures.

Each case that judges must be able to fail: `tests/support/wrong_ways.py` and its neighbour have
testees that are wrong in one way. A new case needs one, too.

The testee calls when it is asked to: `call = await scene.call(alice, "greet", "hi")`; then
`request = await alice.gets_request()`, `alice.ack(request)`, `alice.answer(request, "there")` or
`alice.refuse(request, 1500)`; then `await call.succeeds("there")` or
`await call.fails(1502, at=10)`.
"""

import importlib
import pkgutil
from typing import Final

from rpcproto.conformance.case import Case, registered

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)  # which registers its cases

CASES: Final[list[Case]] = registered()
"""All cases, by their numbers."""
