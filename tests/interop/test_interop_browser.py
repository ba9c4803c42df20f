"""A page with LiveKit's JavaScript client and a Python program call each other."""

from pathlib import Path

import pytest

from interop.browser import BrowserClient
from interop.cases import Act, noise
from interop.clients import Place
from interop.pairings import ENGINE, Run, gather, participant
from rpcproto.conformance.room_server import RoomServer

pytestmark = pytest.mark.interop_browser

PNG = b"\x89PNG\r\n\x1a\n"


def test_a_page_calls_a_python_handler_and_is_called_by_python(
    run: Run, server: RoomServer, place: Place, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    browser = BrowserClient("browser", place)
    python = participant(ENGINE, "python", place, server)
    picture: Path = request.config.getoption("--screenshot") or tmp_path / "page.png"

    async def main() -> None:
        try:
            await gather("demo", python, browser)
            for caller, responder in ((browser, python), (python, browser)):
                act = Act("demo", caller, responder, is_v1=False, sees_departures=True)
                outcome = await act.call("greet", f"Hello from {caller.identity}")
                assert outcome["payload"] == f"Hello, {caller.identity}!"
                await act.echo(noise(100_000))
                assert (await act.call("refuse", "a favour"))["code"] == 7001
            await browser.screenshot(picture)
        finally:
            await python.aclose()
            await browser.aclose()

    run(main())
    assert picture.read_bytes().startswith(PNG)
