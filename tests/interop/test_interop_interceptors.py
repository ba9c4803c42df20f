"""Interceptors of LiveKit's own SDK on one side, ours on the other, and the other way round."""

import pytest

from interop.cases import Act
from interop.client import CANCELLED
from interop.pairings import (
    ENGINE,
    OURS_TO_THEIRS,
    ROOM_CLIENT,
    TEST_SERVER,
    THEIRS_TO_OURS,
    Meeting,
    Pairing,
    Run,
)

PAIRINGS = [
    pytest.param(Pairing(TEST_SERVER, ours, "1.2.1"), marks=pytest.mark.interop, id=ours)
    for ours in (ENGINE, ROOM_CLIENT)
]


async def intercepted(act: Act) -> None:
    """Both have the same two interceptors, each from its own SDK."""
    for client in (act.caller, act.responder):
        await client.ask("intercept")
    # Changed on the way there by the caller's, on the way back by both.
    assert (await act.call("echo", "Hi"))["payload"] == "(Hi)]"
    # Answered by the responder's, though nobody has registered it; but the native core of LiveKit's
    # SDK refuses such a request before any interceptor sees it, whatever its documentation says.
    reaches_chain = act.responder.identity == "ours"
    outcome = await act.call("wave", "")
    assert outcome.get("payload") == "waved]" if reaches_chain else outcome.get("code") == 1400
    # Called again by the caller's.
    assert (await act.call("none", ""))["code"] == 1400
    # Errors travel through the chain as they are, and leave it as the protocol has them.
    outcome = await act.call("refuse", "")
    assert (outcome["code"], outcome["message"]) == (7001, "not today")
    outcome = await act.call("break", "")
    assert (outcome["code"], outcome["message"]) == (1500, "Application error in method handler")
    assert "secret" not in outcome["data"]
    assert (await act.call("hang", "hanging", 3))["code"] == 1502
    await act.responder.told(CANCELLED, "(hanging")
    seen = (await act.responder.ask("intercept_no_more"))["seen"]
    *errors, cancelled = seen
    unknown = ["none 1400", "none 1400"] if reaches_chain else []
    assert errors == [*unknown, "refuse 7001", "break ValueError"]
    assert cancelled.startswith("hang cancelled <ErrorCode.RESPONSE_TIMEOUT")
    assert (await act.caller.ask("intercept_no_more"))["seen"] == []
    assert (await act.call("echo", "Hi"))["payload"] == "Hi"


@pytest.mark.parametrize("direction", [THEIRS_TO_OURS, OURS_TO_THEIRS])
@pytest.mark.parametrize("meeting", PAIRINGS, indirect=True, scope="session")
def test_interceptors_of_either_sdk_work_on_either_side(
    meeting: Meeting, direction: str, run: Run
) -> None:
    async def main() -> None:
        await meeting.play(direction, intercepted)

    run(main())
